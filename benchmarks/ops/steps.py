"""One update step (bag, gradient, update) by memedit and by what others do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from memedit_kernels.slot_bag import SlotOverlay, slot_bag
from memedit_kernels.slot_gradient import slot_gradient
from memedit_kernels.slot_update import RowAdam, slot_update
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.ops.cases import Case, StepInputs, step_inputs, table

Step = Callable[[], object]
LEARNING_RATE = 1e-3


def memedit(case: Case) -> Callable[[], Step]:
    """The step that an edit runs: the base never changes, so its bags are cached with the frozen prefix."""
    inputs = step_inputs(case)
    return lambda: _memedit_step(inputs, case.dim, None)


def memedit_with_base(case: Case) -> Callable[[], Step]:
    """The same step with the base table's bags computed anew each time."""
    inputs, base = step_inputs(case), table(case)
    return lambda: _memedit_step(inputs, case.dim, base)


def _memedit_step(inputs: StepInputs, dim: int, base: Tensor | None) -> Step:
    values = torch.zeros(len(inputs.selected), dim)
    rule = RowAdam(LEARNING_RATE, 0.9, 0.99)
    state = rule.new_state(len(values), dim, values.device)
    rows = torch.arange(len(values))

    def step() -> Tensor:
        overlay = SlotOverlay(inputs.selected, values)
        output = slot_bag(inputs.slots, inputs.weights, base=base, overlay=overlay)
        gradient = slot_gradient(inputs.grad_output, inputs.slots, inputs.weights, inputs.selected)
        slot_update(values, rows, gradient, rule, state)
        return output

    return step


def dense(case: Case) -> Callable[[], Step]:
    """F.embedding_bag with a dense gradient, and AdamW on the whole table."""
    inputs, base = step_inputs(case), table(case)
    return lambda: _dense_step(inputs, base, masked=False)


def dense_masked(case: Case) -> Callable[[], Step]:
    """The same with a hook that zeroes the gradient of every row that is not selected."""
    inputs, base = step_inputs(case), table(case)
    return lambda: _dense_step(inputs, base, masked=True)


def _dense_step(inputs: StepInputs, base: Tensor, *, masked: bool) -> Step:
    parameter = nn.Parameter(base)
    if masked:
        mask = torch.zeros(len(base), 1)
        mask[inputs.selected] = 1
        parameter.register_hook(lambda gradient: gradient.mul_(mask))
    optimizer = torch.optim.AdamW([parameter], lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        output = functional.embedding_bag(
            inputs.slots, parameter, mode="sum", per_sample_weights=inputs.weights
        )
        output.backward(inputs.grad_output)
        optimizer.step()

    return step


def sparse(case: Case) -> Callable[[], Step]:
    """nn.EmbeddingBag(sparse=True) and SparseAdam: rows that were looked up change, selected or not."""
    inputs, base = step_inputs(case), table(case)

    def prepare() -> Step:
        bag = nn.EmbeddingBag(case.num_slots, case.dim, mode="sum", sparse=True, _weight=base)
        optimizer = torch.optim.SparseAdam(bag.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            bag(inputs.slots, per_sample_weights=inputs.weights).backward(inputs.grad_output)
            optimizer.step()

        return step

    return prepare


STEPS = {
    "memedit": memedit,
    "memedit, base bag anew": memedit_with_base,
    "dense + AdamW": dense,
    "dense + mask hook + AdamW": dense_masked,
    "EmbeddingBag(sparse) + SparseAdam": sparse,
}
