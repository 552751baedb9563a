"""Whose gates would open, without training anything.

What: `Gates`: for settings of the selection, at which prompts a gate opens.
Why: a fact whose gate stays shut in a wording cannot be answered in it, and one that opens for others harms
them. That takes seconds to find, an edit minutes.
How: rows and prompts go through the lower blocks once; SlotSelector chooses slots and thresholds as in an
edit, and the model's gates decide. Tokens of the answer are not read.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from ablation_measures import Bench
from lifelong_measures import all_questions

from memedit.editing.plan import EditingSettings
from memedit.editing.row_states import (
    SubjectRouting,
    memory_block,
    route_subjects,
)
from memedit.editing.rows import TeachingRows, teaching_rows
from memedit.editing.selection import Selection, SlotSelector
from memedit.evaluation.statistics import share_metric
from memedit.modeling import gated_look_ups, prompt_ids
from memedit.modeling.lower_blocks import ffn_inputs, length_batches, pad_right
from memedit.modeling.memory_layer import TokenRouting

LOOK_ALIKE = "look_alike"
_BATCH_TOKENS = 2048
_OWN = "the gate of the fact's own subject opens at a token of the prompt"
_ANY = "any gate opens at a token of the prompt"
Values = dict[str, Any]


class Gates:
    """Simulates the gates of edits that teach the same facts with other settings.

    Args:
        bench: model, facts and questions.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.subjects = {fact.id: fact.subject for fact in bench.facts}
        # Of each prompt: what it measures, its cluster, the subject whose gate should open (None: nobody's).
        self.asked: list[tuple[str, str, str | None]] = []
        prompts: list[str] = []
        for question in all_questions(bench.facts, bench.seed):
            self.asked.append((question.group, question.fact_id, self.subjects[question.fact_id]))
            prompts.append(question.prompt)
        for look_alike in bench.yardstick.look_alikes:
            self.asked.append((LOOK_ALIKE, look_alike.prompt, None))
            prompts.append(look_alike.prompt)
        for question in bench.yardstick.suite:
            self.asked.append((question.group, question.prompt, None))
            prompts.append(question.prompt)
        self.routing, self.prompt_of = self._routed(prompts)
        self._read: dict[tuple[int, ...], tuple[TeachingRows, SubjectRouting, SubjectRouting]] = {}

    @torch.no_grad()
    def _routed(self, prompts: list[str]) -> tuple[TokenRouting, torch.Tensor]:
        """Routing of every token (its queries in fp16), and the prompt that each belongs to."""
        model = self.bench.opened.model
        layer, memory = memory_block(model)
        ids = [prompt_ids(self.bench.opened.tokenizer, model.config, prompt) for prompt in prompts]
        kept: list[TokenRouting] = []
        places = []
        for batch in length_batches([len(row) for row in ids], _BATCH_TOKENS):
            _, normalised = ffn_inputs(model, layer, pad_right([ids[index] for index in batch]))
            slots, weights, queries = memory.route(normalised)
            parts = [part.unflatten(0, normalised.shape[:2]) for part in (slots, weights, queries.half())]
            for row, index in enumerate(batch):
                length = len(ids[index])
                kept.append(TokenRouting(*(part[row, :length].clone() for part in parts)))
                places.append(torch.full((length,), index))
        return TokenRouting(*(torch.cat(parts) for parts in zip(*kept, strict=True))), torch.cat(places)

    def selection(self, settings: EditingSettings) -> tuple[tuple[str, ...], Selection]:
        """Subjects, and the slots and thresholds that an edit of an empty store would choose for them."""
        rows, taught, look_alikes = self._teaching(settings)
        selector = SlotSelector(
            taught,
            look_alikes,
            self.bench.opened.background,
            rows.subject_tails(),
            given=torch.tensor([row.given for row in rows.rows]),
            heads=memory_block(self.bench.opened.model)[1].heads,
            settings=settings.selection,
        )
        return rows.subjects, selector.select(torch.empty(0, dtype=torch.int64))

    def _teaching(self, settings: EditingSettings) -> tuple[TeachingRows, SubjectRouting, SubjectRouting]:
        """Rows and their routing, read once for each number of wordings and decoys."""
        numbers = (settings.num_contexts, settings.num_questions, settings.num_decoys)
        if numbers not in self._read:
            opened = self.bench.opened
            rows = teaching_rows(
                self.bench.facts,
                opened.tokenizer,
                opened.model.config,
                seed=self.bench.seed,
                num_contexts=settings.num_contexts,
                num_questions=settings.num_questions,
                num_decoys=settings.num_decoys,
            )
            taught = route_subjects(opened.model, rows.rows)
            self._read[numbers] = rows, taught, route_subjects(opened.model, rows.decoys)
        return self._read[numbers]

    def measure(self, settings: EditingSettings) -> Values:
        """Simulate the gates of one edit.

        Args:
            settings: how facts would be written; the selection must have owners.

        Returns:
            `metrics` with intervals, `items` and `costs`, as `measure_edit` returns them.
        """
        started = time.perf_counter()
        subjects, selection = self.selection(settings)
        opened = self._opened(selection)
        place = {subject: index for index, subject in enumerate(subjects)}
        items: dict[str, list[tuple[str, float]]] = {}
        for number, (group, cluster, subject) in enumerate(self.asked):
            gates = opened[number]
            is_open = bool(gates) if subject is None else place[subject] in gates
            items.setdefault(group, []).append((cluster, float(is_open)))
        own = {group for group, _, subject in self.asked if subject is not None}
        metrics = {
            group: share_metric(
                group,
                round(sum(value for _, value in found)),
                len(found),
                _OWN if group in own else _ANY,
                num_clusters=len({cluster for cluster, _ in found}),
            ).to_json()
            for group, found in items.items()
        }
        costs = {
            "seconds": round(time.perf_counter() - started, 2),
            "mean_threshold": float(selection.thresholds.mean()),
            "slots_per_fact": len(selection.slots) / len(self.bench.facts),
        }
        return {"metrics": metrics, "items": items, "costs": costs}

    def _opened(self, selection: Selection) -> list[set[int]]:
        """The owners whose gates open at a token of each prompt."""
        heads = memory_block(self.bench.opened.model)[1].heads
        found = gated_look_ups(selection.blank_overlay(value_dim=1), *self.routing, heads)
        best, is_open = found.best_owner, (found.weights > 0).any(-1)
        opened: list[set[int]] = [set() for _ in self.asked]
        for prompt, owner in zip(self.prompt_of[is_open].tolist(), best[is_open].tolist(), strict=True):
            opened[prompt].add(owner)
        return opened
