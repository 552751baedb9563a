"""Recall with and without the memory: whether a model's answers rest on its value tables at all.

What: `recall_by_table`, which asks questions of the model as it is, with its base rows zeroed, with them
shuffled, and without its written rows; `TableRecall`, what was found; `wording_questions` of facts.
Why: a memory layer among dense FFNs may learn nothing while the model recalls everything: only recall that
falls with the table is recall out of the table.
How: the same questions in the same batches (greedy generation, as everywhere), so that what changes is due to
the table; differences are paired, with an interval over facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memedit.evaluation.asking import budgets
from memedit.evaluation.recall import (
    HELD_OUT_WORDING,
    TRAINED_WORDING,
    Answered,
    Question,
    answer_questions,
    protocol,
    questions_of,
    recall_metric,
)
from memedit.evaluation.respondent import ModelRespondent
from memedit.evaluation.samples import Sample, difference_metric
from memedit.evaluation.statistics import Metric
from memedit.facts import Fact
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from memedit.modeling import MemoryLlamaForCausalLM

__all__ = ["AS_IT_IS", "TableRecall", "recall_by_table", "wording_questions"]

AS_IT_IS = "as_it_is"
_WORDINGS = (TRAINED_WORDING, HELD_OUT_WORDING)
_TOLD = {
    AS_IT_IS: "as it is",
    "zeroed": "base rows zeroed",
    "shuffled": "base rows shuffled",
    "unwritten": "without written rows",
}


@dataclass(frozen=True)
class TableRecall:
    """Recall of the same questions with the memory as it is, and with parts of it taken away.

    Args:
        answered: By state ("as_it_is", "zeroed", "shuffled", "unwritten"), the answers to the same questions
            in the same order.
        seed: Of the shuffle, and of the intervals.
        notes: States that were not asked, and why, one sentence each.
    """

    answered: Mapping[str, Sequence[Answered]]
    seed: int
    notes: tuple[str, ...] = ()

    def recall(self, state: str) -> tuple[Metric, ...]:
        """Return the share of right answers in a state, by group of questions that occurs."""
        return tuple(
            recall_metric(items, group, f"{protocol(group)}; value table {_TOLD[state]}")
            for group, items in _by_group(self.answered[state]).items()
        )

    def difference(self, state: str) -> tuple[Metric, ...]:
        """Return recall in a state minus recall as it is, by group, with paired intervals over facts."""
        before, after = _by_group(self.answered[AS_IT_IS]), _by_group(self.answered[state])
        how = f"value table {_TOLD[state]} minus as it is, paired bootstrap over facts"
        found = [
            difference_metric(group, _samples(before[group]), _samples(after[group]), "", seed=self.seed)
            for group in before
        ]
        return tuple(replace(metric, protocol=f"{protocol(metric.name)}; {how}") for metric in found)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        states = {
            state: {
                "recall": [metric.to_json() for metric in self.recall(state)],
                "difference": []
                if state == AS_IT_IS
                else [metric.to_json() for metric in self.difference(state)],
            }
            for state in self.answered
        }
        return {"states": states, "seed": self.seed, "notes": list(self.notes)}


def wording_questions(facts: Sequence[Fact]) -> list[Question]:
    """Return what shows whether facts are recalled: their own prompts and their held-out wordings."""
    asked = [question for fact in facts for question in questions_of(fact)]
    return [question for question in asked if question.group in _WORDINGS]


def recall_by_table(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> TableRecall:
    """Ask questions of a model with its memory as it is, and with parts of it taken away.

    Args:
        model: The model; every bit of it is the same afterwards, also where this ends in an error.
        tokenizer: Its tokenizer.
        questions: What is asked, such as `wording_questions` of facts; any groups.
        seed: Of the shuffle, and of the intervals.
        progress: Told of every answer.
    Returns:
        Answers as it is, and zeroed and shuffled where the model has base rows, and without the overlay where
        rows are written; a note for what was left out.
    Raises:
        ValueError: there are no questions.
    """
    if not questions:
        raise ValueError("questions: got none, expected at least one to ask")
    from memedit.modeling.table_ablation import ablated

    asked = [(question.prompt, question.answers) for question in questions]
    max_new_tokens = max(budgets(ModelRespondent(model, tokenizer), asked).values())
    kinds, notes = _kinds(model)
    answered: dict[str, Sequence[Answered]] = {}
    for state in (AS_IT_IS, *kinds):
        with nullcontext() if state == AS_IT_IS else ablated(model, state, seed=seed):
            answered[state] = answer_questions(
                model,
                tokenizer,
                questions,
                max_new_tokens=max_new_tokens,
                progress=progress,
                description=f"Asking, value table {_TOLD[state]}",
            )
    return TableRecall(answered, seed, notes)


def _kinds(model: MemoryLlamaForCausalLM) -> tuple[list[Any], tuple[str, ...]]:
    """What can be taken out of a model, and notes on what can't."""
    tables = model.memory_tables()
    if not tables:
        return [], ("the model has no memory layers: there is nothing to take out",)
    kinds, notes = [], []
    if any(table.values is not None for table in tables):
        kinds += ["zeroed", "shuffled"]
    else:
        notes.append("the base table is empty (a retrofit): zeroing or shuffling it would change nothing")
    if any(table.overlay_slots is not None for table in tables):
        kinds.append("unwritten")
    else:
        notes.append("no rows are written: there is nothing to take off")
    return kinds, tuple(notes)


def _by_group(answered: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The answers of each group, in order of first appearance."""
    found: dict[str, list[Answered]] = {}
    for item in answered:
        found.setdefault(item.question.group, []).append(item)
    return found


def _samples(answered: Sequence[Answered]) -> list[Sample]:
    """Answers to be compared item by item; a fact's wordings stand or fall together."""
    return [_sample(item.question, item, number) for number, item in enumerate(answered)]


def _sample(question: Question, item: Answered, number: int) -> Sample:
    return Sample(
        question.group,
        f"{question.fact_id}/{number}",
        question.fact_id,
        question.prompt,
        question.answers,
        item.text,
        float(item.correct),
    )
