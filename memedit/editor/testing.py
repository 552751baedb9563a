"""Testing what a model must still know: the suite that a store implies, and the making of suite files.

What: `KnowledgeTests`, which `Editor.test`, `Editor.build_suite` and `Editor.renewed_suite` call.
Why: with or without a file there is one test: a suite with its baseline, asked in one pass.
How: the implied suite's baseline is what the base model answered (cached with the store) and, for a fact that
an edit taught, what the journal says was answered after that edit. A built suite's baseline is what the model
answers now.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memedit.errors import SuiteError
from memedit.evaluation import (
    Answered,
    Baseline,
    BuiltSuite,
    Question,
    Suite,
    SuiteResult,
    build_suite,
    open_retention_questions,
    read_suite,
    retention_questions,
    run_suite,
    suite_items,
    well_known_facts,
)
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.retention import WELL_KNOWN
from memedit.evaluation.suite_building import SuiteSettings, recorded_items
from memedit.facts import Records
from memedit.store import Store, StoredFact


@dataclass(frozen=True)
class KnowledgeTests:
    """A model with its store, to be held against suites.

    Attributes:
        respondent: the model with its active edits.
        store: its edits.
        model: what messages and suites call it.
        measured_base: what the base model answers to the bundled facts, measured only when it is needed.
    """

    respondent: Respondent
    store: Store
    model: str
    measured_base: Callable[[], Baseline]

    def run(self, suite: Suite | str | os.PathLike[str] | None, max_loss: float | None) -> SuiteResult:
        """Ask a suite, a suite file, or (None) what the store implies.

        Args:
            suite: what is asked.
            max_loss: allowed share of what was right; None = the suite's.

        Raises:
            SuiteError: when the suite cannot be used, or was made for another model.
        """
        if suite is None:
            suite = self.implied()
        elif not isinstance(suite, Suite):
            suite = read_suite(suite)
        suite.require_model(self.model, self.store.fingerprint)
        return run_suite(self.respondent, suite, max_loss=max_loss)

    def implied(self) -> Suite:
        """Return the suite that the store implies: what the base model knew, and every fact learned since.

        Raises:
            SuiteError: when the base model knew nothing and nothing was learned.
        """
        learned = _learned(self.store)
        facts = [stored.fact for stored in learned]
        texts = {stored.fact.id: str(stored.outcome.get("after") or "") for stored in learned}
        # What an edit states anew was meant to change.
        kept = {question.prompt for question in retention_questions(well_known_facts(), replaced_by=facts)}
        known = [item for item in self.measured_base().answered if item.question.prompt in kept]
        taught = [
            # A learned fact was right by definition; the journal holds no confidence.
            Answered(question, texts[question.fact_id], True, math.nan)  # noqa: FBT003
            for question in retention_questions([], facts)
        ]
        items = recorded_items([*known, *taught])
        if not items:
            raise SuiteError(
                f"store {self.store.path} implies no suite: the base model knows none of the bundled facts, "
                "and nothing was learned",
                remedy="Make a suite of facts that it knows: memedit suite build --facts FILE",
            )
        return Suite(tuple(items))

    def build(self, data: Iterable[Records], present: Suite | None, settings: SuiteSettings) -> BuiltSuite:
        """Make a suite of what the model knows now.

        Args:
            data: facts and questions to take in; each becomes a group that is named after its source.
            present: a suite that will get the items; what it has already is not asked, nor are the bundled
                facts where it has any of them.
            settings: what the suite is to be like.

        Raises:
            SuiteError: when there is nothing that the model knows, or `present` was made for another one.
        """
        if present is not None:
            present.require_model(self.model, self.store.fingerprint)
        has_bundled = present is not None and WELL_KNOWN in present.groups
        candidates = suite_items(
            # What the model did not know when the suite was made, a near tie could bring in now.
            [] if has_bundled else well_known_facts(),
            [stored.fact for stored in _learned(self.store)],
            [question for records in data for question in questions_of_records(records)],
            present=() if present is None else present.items,
        )
        built = build_suite(self.respondent, candidates, settings)
        return replace(built, suite=self.described(built.suite))

    def renewed(self, result: SuiteResult) -> Suite:
        """Return a suite with what was just answered as its baseline."""
        return self.described(result.suite.with_answers(item.now for item in result.items))

    def described(self, suite: Suite) -> Suite:
        """Return a suite that names the model and the active edits whose answers its baseline holds."""
        edits = tuple(edit.id for edit in self.store.edits() if edit.active)
        return replace(suite, model=self.model, fingerprint=self.store.fingerprint, edits=edits)


def questions_of_records(records: Records) -> Sequence[Question]:
    """Return what a dataset asks: its facts in their own prompts, its open questions behind examples.

    Args:
        records: the dataset; its group is the file's name without its ending.
    """
    group = re.sub(r"\s+", "-", Path(records.source).stem)[:100] or "facts"
    facts = [Question(fact.prompt, tuple(fact.answers), group, fact.id) for fact in records.facts]
    return [*facts, *(replace(each, group=group) for each in open_retention_questions(records.questions))]


def _learned(store: Store) -> list[StoredFact]:
    """The facts that active edits taught and that were right afterwards."""
    return [stored for stored in store.facts() if stored.outcome.get("status") == "learned"]
