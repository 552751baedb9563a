"""Evaluating: metric families asked of one state of the model, or of two side by side.

What: `States` (the model as it was without edits, with all, or after one of them), `evaluate`.
Why: a number means something against the same number of another state, asked the same questions in the same
batches; and what was answered once need not be asked again.
How: every state has a respondent whose answers are kept with the store, under the model's fingerprint and the
patches that the state wears.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from memedit.editor.families import FAMILIES, Family, Subject
from memedit.editor.overlays import composed_overlay, wearing
from memedit.editor.reporting import versions
from memedit.errors import UsageError
from memedit.evaluation.drawing import Drawing
from memedit.evaluation.evaluated import Evaluated
from memedit.evaluation.generation import Generation
from memedit.evaluation.harness import harness_tasks
from memedit.evaluation.harness_comparison import HarnessDifference, compare_harness
from memedit.evaluation.respondent import CachedRespondent, ModelRespondent, Respondent
from memedit.evaluation.samples import Evaluation, joined
from memedit.evaluation.scoring import Scored
from memedit.facts import Fact, QuestionRecord
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import BASE, CURRENT, Patch, Store, StoredFact, edit_of_both, last_edit

__all__ = ["BASE", "CURRENT", "States", "evaluate", "evaluate_harness", "states_to_measure"]


class States:
    """The states of an opened model, and who answers for each.

    Attributes:
        judged: by state what was found of the facts, within one evaluation.
    """

    def __init__(self, opened: OpenedModel, store: Store, progress: Progress = NULL_PROGRESS) -> None:
        self.opened, self.store, self.progress = opened, store, progress
        self.judged: dict[str, Evaluation] = {}

    def edits(self, name: str) -> list[str]:
        """Ids of the edits that a state wears, in journal order.

        Args:
            name: "base", "current", or an edit: the model as it was right after it, of the edits that are not
                undone.

        Raises:
            UsageError: when the edit is undone.
        """
        if name == BASE:
            return []
        return [edit.id for edit in self.store.standing(upto=self._last_edit(name)).edits]

    def patches(self, name: str) -> list[Patch]:
        """What counts of the patches that a state wears, in journal order."""
        return [] if name == BASE else list(self.store.active_patches(upto=self._last_edit(name)))

    def facts(self, name: str) -> list[StoredFact]:
        """The facts that a state was taught, in journal order."""
        return [] if name == BASE else list(self.store.facts(upto=self._last_edit(name)))

    def _last_edit(self, name: str) -> str | None:
        """The edit right after which a state was, None where there is none."""
        record = last_edit(self.store.edits(), name)
        return None if record is None else record.id

    def identity(self, name: str) -> str:
        """Name a state for the cache: equal only for equal answers."""
        worn = set(self.edits(name))
        hashes = [edit.patch_sha256 for edit in self.store.edits() if edit.id in worn]
        model = self.opened.model
        # What decides an answer's last bits: the libraries, the device and, by order of sums, its threads.
        made_with = [f"{library}-{version}" for library, version in versions().items() if library != "python"]
        rounding = [str(model.dtype), model.device.type, f"threads-{torch.get_num_threads()}"]
        return "/".join([self.store.fingerprint, *made_with, *rounding, *hashes])

    @contextmanager
    def worn(self, name: str) -> Iterator[None]:
        """Let the model wear a state for the length of a `with` block."""
        with wearing(self.opened.model, composed_overlay(self.opened.model, self.patches(name))):
            yield

    def respondent(self, name: str, *, remember: bool = True) -> Respondent:
        """Who answers for a state; what was answered before comes from the store's cache.

        Args:
            name: the state.
            remember: False for a question that will hardly be asked again: nothing is read or kept.
        """
        asked = _Wearing(self, name, ModelRespondent(self.opened.model, self.opened.tokenizer, self.progress))
        if not remember:
            return asked
        return CachedRespondent(lambda: asked, _StoreCache(self.store), self.identity(name))

    def remembered(self, name: str, what: str, measure: Callable[[], Any]) -> Any:
        """Return a JSON value that belongs to a state, from the cache or measured now."""
        digest = hashlib.sha256(f"{self.identity(name)}/{what}".encode()).hexdigest()
        entry = f"measured-{digest}"
        kept = self.store.read_cache(entry)
        if kept is None:
            with self.worn(name):
                kept = measure()
            self.store.write_cache(entry, kept)
        return kept


@dataclass(frozen=True)
class _Wearing:
    """A respondent that wears a state while it answers."""

    states: States
    name: str
    inner: ModelRespondent

    def answer(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, description: str = "Answering"
    ) -> list[Generation]:
        with self.states.worn(self.name):
            return self.inner.answer(prompts, max_new_tokens=max_new_tokens, description=description)

    def score(
        self, pairs: Sequence[tuple[str, str]], *, description: str = "Scoring answers"
    ) -> list[Scored]:
        with self.states.worn(self.name):
            return self.inner.score(pairs, description=description)

    def sample(
        self, prompts: Sequence[str], drawing: Drawing, *, description: str = "Sampling answers"
    ) -> list[tuple[Generation, ...]]:
        with self.states.worn(self.name):
            return self.inner.sample(prompts, drawing, description=description)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.inner.count_tokens(texts)


@dataclass(frozen=True)
class _StoreCache:
    """The store's cache as an answer cache."""

    store: Store

    def read(self, name: str) -> Any | None:
        return self.store.read_cache(name)

    def write(self, name: str, value: object) -> object:
        return self.store.write_cache(name, value)


def states_to_measure(store: Store, on: str, against: str | None) -> list[str]:
    """Return the names of the state that is measured and of the one before it that it is compared with.

    Args:
        store: the edits.
        on: the state that is measured.
        against: the reference; None, or the same name, for none.

    Raises:
        UsageError: when both are one state under two names, or an edit is undone.
        StoreError: when a name fits no edit, or several.
    """
    if against is None or against == on:
        return [on]
    edit = edit_of_both(store.edits(), on, against)
    if edit is not None:
        raise UsageError(
            f"on and against name the same state: {on!r} and {against!r} are the model after edit {edit.id}",
            remedy="Name two states, or give against=None for one.",
        )
    return [against, on]


def evaluate(
    states: States,
    names: Sequence[str],
    facts: Sequence[Fact],
    questions: Sequence[QuestionRecord],
    *,
    families: Sequence[str],
    text: str,
    seed: int = 0,
) -> Evaluated:
    """Measure one state, or two side by side.

    Args:
        states: the model.
        names: one state, or the reference and the state that is compared with it.
        facts: facts with probes.
        questions: questions that cannot be taught.
        families: names of FAMILIES, in the order of the result.
        text: general text, for perplexity.
        seed: of samples, look-alikes and intervals.

    Raises:
        UsageError: when a family or a state is unknown.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise UsageError(f"family: got {unknown[0]!r}, expected one of {', '.join(FAMILIES)}")
    found: dict[str, list[Evaluation]] = {name: [] for name in names}
    changes: list[Evaluation] = []
    for family in (FAMILIES[name] for name in families):
        subjects = [Subject(states, name, list(facts), list(questions), text, seed) for name in names]
        parts = [_measured(family, subject) for subject in subjects]
        for name, part in zip(names, parts, strict=True):
            found[name].append(part)
        if len(names) == 2 and family.compare is not None:
            changes.append(family.compare(subjects[0], parts[0], subjects[1], parts[1]))
    return Evaluated({name: joined(parts) for name, parts in found.items()}, joined(changes))


def _measured(family: Family, subject: Subject) -> Evaluation:
    """What a family finds, or a note where there is nothing to ask."""
    missing = family.missing(subject)
    return Evaluation((), notes=(missing,)) if missing else family.measure(subject)


def evaluate_harness(
    states: States, names: Sequence[str], tasks: Sequence[str], *, limit: int | None, seed: int
) -> tuple[dict[str, dict[str, Any]], list[HarnessDifference]]:
    """Run tasks of lm-evaluation-harness on one state, or on two with the difference.

    Args:
        states: the model.
        names: one state, or the reference and the state that is compared with it.
        tasks: names of the harness's tasks or groups, or task files.
        limit: most questions of each task; None = all.
        seed: of what the harness draws.

    Raises:
        UsageError: when the harness is not installed, or a task or a state is unknown.
    """
    opened, runs = states.opened, {}
    for name in names:
        with states.worn(name):
            runs[name] = harness_tasks(
                opened.model, opened.tokenizer, tasks, limit=limit, seed=seed, progress=states.progress
            )
    changes = compare_harness(*runs.values(), seed=seed) if len(runs) == 2 else []
    return runs, changes
