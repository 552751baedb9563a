"""Sparse memory finetuning as its paper has it: base rows of the value table, the top t slots of each batch.

What: `SelectedRows`, which teaches facts by moving rows of the table.
Why: memedit's own edit owns its slots and stands behind a gate; next to it stands what it came from.
How: a step reads all wordings of a few facts, ranks the slots that their tokens look up by TF-IDF, and moves
the best t by plain SGD. With t = 0 every slot that is looked up moves.

Source: Lin et al. 2025 (arXiv 2510.15103), section 3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from memedit_kernels.slot_update import Sgd, slot_update
from torch import Tensor

from memedit.baselines.dense_training import model_loss
from memedit.editing.rows import TeachingRow
from memedit.editing.slot_ranking import slot_scores
from memedit.modeling.opening import OpenedModel
from memedit.modeling.row_tape import RowTape

FACTS_A_STEP = 5


class SelectedRows:
    """Teaches facts by the rows of a model's value table.

    Args:
        opened: the model; its table is moved in place.
        rate: learning rate of SGD.
        num_slots: slots that move in a step, t; 0 = every slot that is looked up.
        guarded: slots that earlier calls moved count as used by every background document, so that later
            facts are written elsewhere where they can be.

    Raises:
        ValueError: when the model has no base rows, or several tables.
    """

    def __init__(self, opened: OpenedModel, rate: float, num_slots: int, *, guarded: bool = False) -> None:
        tables = opened.model.memory_tables()
        if len(tables) != 1 or tables[0].values is None:
            raise ValueError(
                f"model: got {len(tables)} tables, expected one with base rows: pretrain the model"
            )
        self.opened, self.num_slots, self.guarded = opened, num_slots, guarded
        self.table, self.values = tables[0], tables[0].values.detach()
        self.rule = Sgd(rate)
        self.idf = opened.background.inverse_document_frequency()
        self.moved = torch.zeros(len(self.values), dtype=torch.bool)

    def teach(
        self, rows: Sequence[TeachingRow], num_passes: int, seed: int, passed: Callable[[int], bool]
    ) -> None:
        """Pass over facts, a few a step, in a new order each time.

        Args:
            rows: every wording of the facts.
            num_passes: passes, at most.
            seed: of the order.
            passed: told of each pass that is done; True = enough.
        """
        by_fact: dict[int, list[TeachingRow]] = {}
        for row in rows:
            by_fact.setdefault(row.fact, []).append(row)
        chance, moved = random.Random(seed), torch.zeros_like(self.moved)
        for number in range(1, num_passes + 1):
            order = chance.sample(list(by_fact), len(by_fact))
            for start in range(0, len(order), FACTS_A_STEP):
                batch = [row for fact in order[start : start + FACTS_A_STEP] for row in by_fact[fact]]
                moved[self._step(batch)] = True
            if passed(number):
                break
        self.moved |= moved

    def _step(self, rows: Sequence[TeachingRow]) -> Tensor:
        """Learn from some rows once; returns the slots that moved."""
        encoded = [row.encoded for row in rows]
        read: list[Tensor] = []
        tape = self.table.tape = RowTape()
        watch = self.table.register_forward_pre_hook(lambda _table, routing: read.append(routing[0]))
        try:
            model_loss(self.opened.model, encoded)(range(len(rows))).backward()
        finally:
            watch.remove()
            self.table.tape = None
        found = tape.gradients()
        if found is None:
            raise ValueError("rows: got an answer that reads no slot, expected a memory layer below the head")
        chosen = self._chosen(read[0], [len(row.ids) - 1 for row in encoded])
        kept = chosen[found.slots]
        slots = found.slots[kept]
        state = self.rule.new_state(len(slots), self.values.shape[1])
        slot_update(self.values, slots, found.gradient[kept], self.rule, state)
        return slots

    def _chosen(self, slots: Tensor, lengths: Sequence[int]) -> Tensor:
        """Which slots may move, bool [slots of the table].

        Args:
            slots: int64 [rows * time, j], look-ups of rows that are padded on the right.
            lengths: tokens of each row.
        """
        width = len(slots) // len(lengths)
        real = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
        counts = torch.bincount(slots[real.flatten()].flatten(), minlength=len(self.values)).float()
        if not self.num_slots:
            return counts > 0
        scores = slot_scores(counts, self.opened.background, "tfidf")
        if self.guarded:
            # What every document uses has an inverse document frequency of log 1.
            scores = scores.masked_fill(self.moved, 0.0)
        scores = scores.masked_fill(counts == 0, float("-inf"))
        best = scores.topk(min(self.num_slots, int((counts > 0).sum()))).indices
        return torch.zeros(len(self.values), dtype=torch.bool).index_fill_(0, best, value=True)
