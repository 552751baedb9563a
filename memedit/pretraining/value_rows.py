"""The step of value tables: only the rows that a batch read, by a row-wise rule, with a clip of their own.

Nothing of the table's size is made in a step. The state of the rule is as large as its table (or a number a
row), lies still, and only the rows that were read are changed.
"""

from collections.abc import Iterator

import torch
from memedit_kernels.slot_update import RowAdagrad, RowAdam, Sgd, slot_update
from memedit_kernels.slot_update.rules import State
from torch import Tensor

from memedit.modeling.memory_table import MemoryTable
from memedit.modeling.row_tape import RowGradients, RowTape

Rule = Sgd | RowAdagrad | RowAdam


class ValueRows:
    """Trains the rows of value tables.

    Args:
        tables: the model's; each gets a tape as long as this is attached.
        rule: "adam", "adagrad" or "sgd".
        beta1: of "adam"; momentum of "sgd".
        beta2: of "adam".
    """

    def __init__(self, tables: list[MemoryTable], rule: str, beta1: float, beta2: float) -> None:
        self.kind, self.beta1, self.beta2 = rule, beta1, beta2
        self.tables = tables
        self.parts: list[tuple[Tensor, RowTape]] = []
        for table in tables:
            if table.values is None:
                raise ValueError("memory_empty_base: got true, expected false: a retrofit has no base rows")
            table.tape = RowTape()
            self.parts.append((table.values.detach(), table.tape))
            if table.inputs is not None:
                table.input_tape = RowTape()
                self.parts.append((table.inputs.detach(), table.input_tape))
        self.states = [self._new_state(values) for values, _ in self.parts]

    def step(self, rate: float, clip: float) -> float:
        """Move the rows that were read since the last step.

        Args:
            rate: learning rate.
            clip: largest norm of all tables' gradient together; 0 = not clipped.

        Returns:
            That norm, before clipping.
        """
        found = [tape.gradients() for _, tape in self.parts]
        norm = _norm(found)
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        for (values, _), state, read in zip(self.parts, self.states, found, strict=True):
            if read is not None:
                gradient = read.gradient if scale == 1 else read.gradient * scale
                slot_update(values, read.slots, gradient, self._rule(rate), state, state_rows=read.slots)
        return norm

    def detach(self) -> None:
        """Take the tapes away: forwards read the tables in place again."""
        for table in self.tables:
            table.tape = table.input_tape = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the rules' state, by a name that stays the same."""
        for index, state in enumerate(self.states):
            for name, tensor in state._asdict().items():
                yield f"values.{index}.{name}", tensor

    def _new_state(self, values: Tensor) -> State:
        num_rows, width = values.shape
        return self._rule(0.0).new_state(num_rows, width, values.device)

    def _rule(self, rate: float) -> Rule:
        if self.kind == "adam":
            return RowAdam(rate, self.beta1, self.beta2)
        return RowAdagrad(rate) if self.kind == "adagrad" else Sgd(rate, self.beta1)


def _norm(found: list[RowGradients | None]) -> float:
    squares = [read.gradient.square().sum() for read in found if read is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
