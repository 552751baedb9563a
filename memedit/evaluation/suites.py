"""Suites: what a model must keep knowing, with what it answered when the suite was made.

What: `Suite` of `SuiteItem`s, each with its `GivenAnswer` (the baseline).
Why: a team agrees on a file that says what its model knows, commits it, and lets every later model be held
against it. Items and baseline are one file, so that they cannot get out of step, and a review shows which
answer changed and to what.
How: frozen dataclasses, checked when they are made; suite_files.py reads and writes them, suite_building.py
makes them, regression.py holds a model against them. Nothing here imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from memedit.errors import SuiteError
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import Question

__all__ = ["COLLECTS", "DEFAULT_GROUP", "DEFAULT_MAX_LOSS", "GivenAnswer", "Suite", "SuiteItem"]

Collect = Literal["fact", "group"]
COLLECTS: tuple[Collect, ...] = ("fact", "group")
"""How pytest and JUnit count: one test for each fact, or one for each group."""
DEFAULT_GROUP = "knowledge"
DEFAULT_MAX_LOSS = 0.02

_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True)
class GivenAnswer:
    """What a model answered to an item at some time.

    Args:
        text: The generated answer; may be empty.
        correct: Whether it was right.
        confidence: Probability of its first token, in [0, 1]; None where nobody recorded it. A broken model's
            NaN becomes None.
    """

    text: str
    correct: bool
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None and not math.isfinite(self.confidence):
            object.__setattr__(self, "confidence", None)


@dataclass(frozen=True)
class SuiteItem:
    """One thing that the model must keep knowing.

    Args:
        id: Its name, unique in the suite, without spaces; the fact's id where it comes from a fact.
        prompt: What is asked; ends right before the answer.
        answers: What counts as right.
        group: Items that are judged together, such as "well_known"; without spaces.
        baseline: What the model answered when the baseline was recorded. None for an item written by hand:
            the model must then answer it right.
        line: The line of the file that it was read from; no part of its identity.

    Raises:
        SuiteError: A field is empty or of the wrong form.
    """

    id: str
    prompt: str
    answers: tuple[str, ...]
    group: str = DEFAULT_GROUP
    baseline: GivenAnswer | None = None
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("id", "group"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise SuiteError(
                    f"{name} must be 1 to 100 characters without spaces, got {getattr(self, name)[:60]!r}",
                    remedy="Write a short name, such as capital-of-france.",
                )
        if not self.prompt.strip():
            raise SuiteError(f"prompt must hold text, got {self.prompt!r}", remedy="Write what is asked.")
        if not self.answers or not all(answer.strip() for answer in self.answers):
            raise SuiteError(
                f"answers must hold at least one text and no empty one, got {list(self.answers)!r}",
                remedy='Write what counts as right, for example answers = ["Paris"].',
            )

    @property
    def known_before(self) -> bool:
        """Whether the item can be lost: it was right at the baseline, or must be right without one."""
        return self.baseline is None or self.baseline.correct

    @property
    def question(self) -> Question:
        """The item as the question that is asked."""
        return Question(self.prompt, self.answers, self.group, self.id)


@dataclass(frozen=True)
class Suite:
    """What a model must keep knowing, and how much of it may be lost.

    Args:
        items: The items; ids and prompts are unique.
        collect: Whether pytest and JUnit count one test for each fact or one for each group.
        max_loss: Share of what was right that may be lost, in [0, 1].
        group_max_loss: The same for single groups, where it differs.
        seed: Seed of the choice of items, where there were more than wanted.
        model: Name of the model whose answers the baseline holds, or None without a baseline.
        fingerprint: Fingerprint of its base model, or None.
        edits: The edits that were active then.
        path: Where it was read; no part of its identity.

    Raises:
        SuiteError: A field is out of range, there is no item, or two items have one id or one prompt.
    """

    items: tuple[SuiteItem, ...]
    collect: Collect = "fact"
    max_loss: float = DEFAULT_MAX_LOSS
    group_max_loss: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    model: str | None = None
    fingerprint: str | None = None
    edits: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.collect not in COLLECTS:
            raise SuiteError(f'collect must be "fact" or "group", got {self.collect!r}')
        for name, value in {"max_loss": self.max_loss, **self.group_max_loss}.items():
            # Written so that NaN is refused.
            if not 0 <= value <= 1:
                raise SuiteError(f"limit {name} must be a share between 0 and 1, got {value}")
        if self.seed < 0:
            raise SuiteError(f"seed must be at least 0, got {self.seed}")
        if not self.items:
            raise SuiteError(
                "the suite has no item, so nothing could ever fail it",
                path=self.path,
                remedy="`memedit suite build` makes one; items can be added by hand.",
            )
        _require_unique(self.items)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order of their first items."""
        return tuple(dict.fromkeys(item.group for item in self.items))

    @property
    def shown_name(self) -> str:
        """What messages call it: its path, or what it is."""
        return "the suite that the store implies" if self.path is None else str(self.path)

    def limit(self, group: str | None = None) -> float:
        """Return the share that may be lost, of one group or of everything."""
        return self.max_loss if group is None else self.group_max_loss.get(group, self.max_loss)

    def require_model(self, name: str, fingerprint: str) -> None:
        """Refuse a model that the baseline does not belong to.

        Args:
            name: What the model at hand is called.
            fingerprint: Its base model's fingerprint.
        Raises:
            SuiteError: the suite was made for another one; the message has both names.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise SuiteError(
                f"{self.shown_name} was made for the model {self.model or 'of another name'} (fingerprint "
                f"{self.fingerprint[:12]}), but this is the model {name} (fingerprint {fingerprint[:12]})",
                path=self.path,
                remedy="Choose that model with --model or --store; or accept what this one answers as the "
                "new baseline with `memedit test --update-baseline`.",
            )

    def with_answers(self, answers: Iterable[GivenAnswer]) -> Suite:
        """Return the suite with these answers, one for each item, as its baseline."""
        pairs = zip(self.items, answers, strict=True)
        return replace(self, items=tuple(replace(item, baseline=answer) for item, answer in pairs))


def _require_unique(items: Iterable[SuiteItem]) -> None:
    """Two items for one thing would count its loss twice, where the test takes items as independent."""
    seen: dict[tuple[str, str], SuiteItem] = {}
    for item in items:
        for kind, key in (("id", item.id), ("prompt", normalise(item.prompt))):
            first = seen.setdefault((kind, key), item)
            if first is not item:
                place = "" if first.line is None else f", which is on line {first.line} already"
                raise SuiteError(
                    f"item {item.id} has the {kind} of item {first.id}{place}",
                    line=item.line,
                    remedy="Keep one of them.",
                )
