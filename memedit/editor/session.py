"""Editor: a model and its store, opened together; everything that a user does goes through it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import PreTrainedTokenizerBase

from memedit.editing.plan import EditingSettings
from memedit.editor.abstaining import abstained, check_abstention
from memedit.editor.asking import answer_prompt
from memedit.editor.edits import edit_of, given_facts, new_edit, require_passed, require_whole
from memedit.editor.evaluating import BASE, CURRENT, States, evaluate, evaluate_harness, states_to_measure
from memedit.editor.exporting import Exported, export_delta, export_model
from memedit.editor.families import DEFAULT_FAMILIES
from memedit.editor.gating import GateMode, check_gate_mode
from memedit.editor.measuring import known_before
from memedit.editor.overlays import composed_overlay, wearing
from memedit.editor.results import Answer, Edit
from memedit.editor.revising import Revising
from memedit.editor.testing import KnowledgeTests
from memedit.editor.transaction import Limits, Trained
from memedit.evaluation import Baseline, BuiltSuite, Suite, SuiteResult, general_text
from memedit.evaluation.evaluated import Evaluated
from memedit.evaluation.respondent import ModelRespondent
from memedit.evaluation.suite_building import SuiteSettings
from memedit.facts import Fact
from memedit.facts.formats import Records, read_records
from memedit.modeling import MemoryLlamaForCausalLM
from memedit.modeling.opening import OpenedModel
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store import Store


class Editor(Revising):
    """A model, its tokenizer and the store of its edits.

    Args:
        opened: the model.
        store: its edits.
        closing: what close() ends beside the store; taken over once everything is in order.
    """

    def __init__(self, opened: OpenedModel, store: Store, closing: ExitStack | None = None) -> None:
        super().__init__(opened, store)
        self._restore()
        self._closing = ExitStack() if closing is None else closing.pop_all()

    @property
    def model(self) -> MemoryLlamaForCausalLM:
        """The live model, active edits composed in: a transformers PreTrainedModel."""
        return self._opened.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._opened.tokenizer

    @property
    def model_name(self) -> str:
        """What to call the model anywhere: a local folder's last part, any other name as it is."""
        name = self._opened.name
        return Path(name).name if Path(name).is_absolute() else name

    def close(self) -> None:
        """Close the store."""
        self.store.close()
        self._closing.close()

    def __enter__(self) -> Editor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def inject(
        self,
        facts: str | os.PathLike[str] | Records | Sequence[Fact | Mapping[str, Any]],
        *,
        seed: int = 0,
        replace: bool = False,
        dry_run: bool = False,
        force: bool = False,
        gate: GateMode = "quick",
        max_forgetting: float = 0.02,
        max_perplexity_ratio: float = 1.02,
        text: str | os.PathLike[str] | None = None,
        settings: EditingSettings | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> Edit:
        """Teach facts: train a patch, measure it, and commit it if the gate passes it and a fact was learned.

        Args:
            facts: a file or dataset that `read_records` reads, what it read, or facts (or their JSON objects)
                themselves.
            seed: the same facts, seed, versions and machine give the same patch bits.
            replace: let facts that contradict stored ones replace them: one edit forgets the old answers and
                teaches the new ones.
            dry_run: do everything but the commit.
            force: commit even if the gate refuses.
            gate: "quick" judges by a part of what must stay, "full" by all of it; "off" measures like quick
                and lets nothing be refused.
            max_forgetting: allowed share of retained knowledge that is lost.
            max_perplexity_ratio: allowed perplexity after / before on general text.
            text: a file of general text; None = the bundled one.
            settings: how facts are written; None = the defaults.
            progress: told of what takes time.

        Returns:
            The edit, with the outcome of each fact and the report; committed is False after a dry run and
            where no fact was learned.

        Raises:
            FactsError: when the facts cannot be used.
            EditRefused: when the gate refuses, or facts would lose their rows without being learned anew;
                nothing was written.
            StoreError: when the store cannot be written.
        """
        started = time.perf_counter()
        check_gate_mode(gate)
        given, read = given_facts(facts)
        limits = Limits(max_forgetting, max_perplexity_ratio, gate)
        injection = self._injection(seed, text, settings, limits, progress, replace=replace)
        with nullcontext() if dry_run else self.store.lock():
            self._restore()
            settled, trained = injection.settle(given, States(self._opened, self.store).identity(CURRENT))
            about = {"gate_mode": gate, "model": self._opened.name, "seed": seed, "read": read}
            edit = edit_of(given, settled, trained, about, time.perf_counter() - started)
            if trained is not None and gate != "off" and not force:
                require_passed(trained, edit)
            if trained is not None and not force:
                require_whole(trained, edit)
            return edit if trained is None or dry_run else self._commit(edit, trained, seed)

    def ask(
        self,
        prompt: str,
        *,
        without: str | None = None,
        max_new_tokens: int = 32,
        why: bool = False,
        abstain: bool = False,
        precision: float = 0.9,
        progress: Progress = NULL_PROGRESS,
    ) -> Answer:
        """Let the model answer, and say on which stored facts the answer rests.

        Args:
            prompt: the text to continue.
            without: id of an edit to switch off for this question.
            max_new_tokens: most tokens of the answer.
            why: ask the model without any edit as well (`Answer.unedited`).
            abstain: answer "I don't know" where neither a stored fact nor the model without edits supports
                the answer (`Answer.abstention`); calibrated on first use for each state of the model.
            precision: with abstain: share of right answers wanted among those that the base model gives.
            progress: told of the calibration.

        Raises:
            UsageError: when abstain is combined with without, or precision is out of range.
        """
        if abstain:
            check_abstention(without, precision)
        left_out = self.store.edit(without).id if without else None
        with self.without(left_out) if left_out else nullcontext():
            answer = answer_prompt(
                self.model,
                self.tokenizer,
                self.store,
                prompt,
                without=left_out,
                unedited=why,
                max_new_tokens=max_new_tokens,
            )
        if not abstain:
            return answer
        return abstained(States(self._opened, self.store, progress), answer, target_precision=precision)

    @contextmanager
    def without(self, edit: str) -> Iterator[MemoryLlamaForCausalLM]:
        """Switch one edit off for the length of a `with` block.

        Args:
            edit: its id, the beginning of it, or its number.
        """
        with wearing(self.model, composed_overlay(self.model, self.store.active_patches(without=[edit]))):
            yield self.model

    def export(
        self, out: str | os.PathLike[str], *, delta: bool = False, progress: Progress = NULL_PROGRESS
    ) -> Exported:
        """Write the model with its active edits as a Hugging Face folder that needs no memedit.

        Args:
            out: the folder, new or empty.
            delta: write the edits alone, for `memedit.load_delta`.
            progress: told of what takes time.

        Raises:
            UsageError: when the folder is taken, or there is nothing that can be exported.
            StoreError: when the folder cannot be written.
        """
        export = export_delta if delta else export_model
        return export(self._opened, self.store, Path(out), progress=progress)

    def test(
        self,
        suite: Suite | str | os.PathLike[str] | None = None,
        *,
        max_loss: float | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> SuiteResult:
        """Test what the model must still know, item by item, against a baseline.

        Args:
            suite: a suite or its file; None = what the base model knew, and every fact learned since.
            max_loss: allowed share of what was right; None = the suite's.
            progress: told of answers.

        Raises:
            SuiteError: when the suite cannot be used, or was made for another model.
        """
        return self._knowledge(progress).run(suite, max_loss)

    def build_suite(
        self,
        data: Sequence[str | os.PathLike[str] | Records] = (),
        *,
        present: Suite | None = None,
        settings: SuiteSettings | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> BuiltSuite:
        """Make a suite of what the model knows now, with its answers as the baseline.

        Args:
            data: files or datasets to take in, beside the bundled facts and everything learned.
            present: a suite that will get the items; what it has already is left out.
            settings: limits, size and seed; None = the defaults.
            progress: told of answers.

        Raises:
            FactsError: when a file cannot be used.
            SuiteError: when there is nothing that the model knows, or `present` was made for another one.
        """
        records = [each if isinstance(each, Records) else read_records(each) for each in data]
        return self._knowledge(progress).build(records, present, settings or SuiteSettings())

    def renewed_suite(self, result: SuiteResult) -> Suite:
        """Return a suite with what `test` just found as its baseline."""
        return self._knowledge(NULL_PROGRESS).renewed(result)

    def _knowledge(self, progress: Progress) -> KnowledgeTests:
        def measured_base() -> Baseline:
            with wearing(self.model, None):
                model, tokenizer = self.model, self.tokenizer
                state = States(self._opened, self.store).identity(BASE)
                return known_before(model, tokenizer, self.store, state, None, progress, learned=False)

        respondent = ModelRespondent(self.model, self.tokenizer, progress)
        return KnowledgeTests(respondent, self.store, self.model_name, measured_base)

    def evaluate(
        self,
        data: str | os.PathLike[str] | Records | None = None,
        *,
        on: str = CURRENT,
        against: str | None = BASE,
        families: Sequence[str] = DEFAULT_FAMILIES,
        lm_eval: Sequence[str] = (),
        limit: int | None = None,
        text: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: Progress = NULL_PROGRESS,
    ) -> Evaluated:
        """Measure the model, and what the edits changed.

        Args:
            data: a file or dataset that `read_records` reads, or what it read; None = the facts that the
                active edits injected.
            on: "current", "base", or an edit: the model as it was right after it.
            against: the state that it is compared with, measured side by side; None = none.
            families: names of memedit.editor.families.FAMILIES.
            lm_eval: tasks of lm-evaluation-harness to run as well (extra `lm-eval`).
            limit: most facts, questions, and questions of each of those tasks; None = all.
            text: a file of general text for the perplexity; None = the bundled one.
            seed: of samples, look-alikes and intervals.
            progress: told of answers.

        Returns:
            Metrics and samples of each state, and the differences with paired intervals.

        Raises:
            UsageError: when a family is unknown, an edit is undone, or two names mean one state.
            StoreError: when a name fits no edit, or several.
        """
        names = states_to_measure(self.store, on, against)
        records = data if isinstance(data, Records) or data is None else read_records(data)
        states = States(self._opened, self.store, progress)
        facts = [item.fact for item in self.store.facts()] if records is None else records.facts
        found = evaluate(
            states,
            names,
            facts[:limit],
            records.questions[:limit] if records else (),
            families=families,
            text=general_text(text),
            seed=seed,
        )
        if not lm_eval:
            return found
        runs, changes = evaluate_harness(states, names, lm_eval, limit=limit, seed=seed)
        return dataclasses.replace(found, harness=runs, harness_differences=tuple(changes))

    def _commit(self, edit: Edit, trained: Trained, seed: int) -> Edit:
        """Put an edit into the store; one that taught nothing is not worth it."""
        taught = any(outcome.status == "learned" for outcome in trained.outcomes)
        if not taught and trained.removal is None:
            return edit
        return self._committed(edit, new_edit(trained, edit.report, seed))
