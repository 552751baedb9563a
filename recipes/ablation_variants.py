"""The variants of an ablation: the default, and one change at a time.

What: `Variant` and `variants`.
Why: what a setting is worth shows only where it alone differs.
How: dataclasses.replace on memedit's own settings, so a new default moves every variant with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memedit.editing.discriminants import DiscriminantSettings
from memedit.editing.plan import EditingSettings
from memedit.editing.selection import Ranking

DEFAULT = "default"
# Far above any mass a gate can ask for: the least mass at a given wording then never lowers a threshold.
_NO_SHARE = 1e6
_RANKINGS: tuple[Ranking, ...] = ("tf", "tfidf", "kl", "all")


@dataclass(frozen=True)
class Variant:
    """Settings and what is different in them.

    Attributes:
        name: of the variant, as --only takes it.
        settings: how facts are written.
    """

    name: str
    settings: EditingSettings

    def gates_differ(self, default: EditingSettings) -> bool:
        """Whether its gates can differ from the default's; without owners there are none."""
        is_gated = self.settings.selection.ranking == "contrast"
        return is_gated and replace(self.settings, training=default.training) != default


def variants(default: EditingSettings) -> list[Variant]:
    """The default and each single change of it.

    Args:
        default: what is changed.

    Returns:
        The default first; a change that changes nothing is left out.
    """
    rate = default.training.learning_rate
    rows = [
        ("num_contexts=0", replace(default, num_contexts=0)),
        ("num_questions=0", replace(default, num_questions=0)),
        ("num_questions=1", replace(default, num_questions=1)),
        ("num_decoys=0", replace(default, num_decoys=0)),
        ("num_decoys=10", replace(default, num_decoys=10)),
        ("num_decoys=20", replace(default, num_decoys=20)),
    ]
    selected: list[tuple[str, dict[str, Any]]]
    trained: list[tuple[str, dict[str, Any]]]
    selected = [(f"slots_per_subject={num}", {"slots_per_subject": num}) for num in (16, 32, 64)]
    selected += [
        ("contrast=0", {"contrast": 0.0}),
        ("hard_tokens=0", {"hard_tokens": 0}),
        *((f"threshold_position={at}", {"threshold_position": at}) for at in (0.3, 0.5, 0.6)),
        ("discriminant=off", {"discriminant": None}),
        *(
            (f"discriminant.position={at}", {"discriminant": DiscriminantSettings(position=at)})
            for at in (0.5, 0.6, 0.8)
        ),
        ("given_share=off", {"given_share": _NO_SHARE}),
    ]
    trained = [
        ("margin=0.8", {"margin": 0.8}),
        ("min_epochs=1", {"min_epochs": 1}),
        ("learning_rate/2", {"learning_rate": rate / 2}),
        ("learning_rate*2", {"learning_rate": rate * 2}),
        ("beta1=0.9", {"beta1": 0.9}),
        ("beta2=0.99", {"beta2": 0.99}),
    ]
    changed = [
        *rows,
        *((name, replace(default, selection=replace(default.selection, **to))) for name, to in selected),
        *((name, replace(default, training=replace(default.training, **to))) for name, to in trained),
        *(
            (f"ranking={name}", replace(default, selection=replace(default.selection, ranking=name)))
            for name in _RANKINGS
        ),
    ]
    kept = [Variant(name, settings) for name, settings in changed if settings != default]
    return [Variant(DEFAULT, default), *kept]


def chosen(offered: Sequence[Variant], only: Sequence[str] | None) -> list[Variant]:
    """The variants of these names, and the default, with which each is compared.

    Args:
        offered: what there is.
        only: names; None = all.

    Raises:
        SystemExit: there is none of that name.
    """
    if only is None:
        return list(offered)
    names = [variant.name for variant in offered]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise SystemExit(f"--only: got {unknown[0]!r}, expected some of {', '.join(names)}")
    return [variant for variant in offered if variant.name in {DEFAULT, *only}]
