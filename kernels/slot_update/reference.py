"""Updates of table rows in plain torch, in place, a few rows at a time so that what is read stays in cache.

Every function hands back the rows as they were. Nothing is changed before all arguments have been checked.
"""

import math
from collections.abc import Iterator

import torch
from memedit_kernels.arguments import check_ascending
from torch import Tensor

# Elements updated at a time: five arrays of 512 KB, which fit a core's cache.
_CHUNK_ELEMENTS = 1 << 17


def sgd_update_reference(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    buffer: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    momentum: float,
) -> Tensor:
    """Update rows by Sgd (slot_update checks shapes).

    Args:
        values: fp32, bf16 or fp16 [table, dim], changed in place.
        rows: int64 [m], ascending, each once.
        gradient: fp32 [m, dim].
        buffer: fp32 [states, dim], changed in place; not read where momentum is 0.
        state_rows: int64 [m], each row's place in the state, ascending; None = 0 to m - 1.
        learning_rate: of the rule.
        momentum: of the rule.

    Returns:
        [m, dim] in the values' type: the rows as they were.
    """
    check_places(values, rows, buffer if momentum else None, state_rows)
    replaced = values.new_empty(gradient.shape)
    for part in _chunks(gradient):
        step = gradient[part]
        if momentum:
            step = _read(buffer, state_rows, part).mul_(momentum).add_(step)
            _write(buffer, state_rows, part, step)
        _move(values, rows[part], step * learning_rate, replaced[part])
    return replaced


def adagrad_update_reference(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    sums: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    epsilon: float,
) -> Tensor:
    """Update rows by RowAdagrad; sums (RowAdagradState) change in place, the rest as for Sgd."""
    check_places(values, rows, sums, state_rows)
    replaced = values.new_empty(gradient.shape)
    for part in _chunks(gradient):
        grads = gradient[part]
        total = _read(sums, state_rows, part).add_(_mean_square(grads))
        _write(sums, state_rows, part, total)
        step = grads / (total.sqrt() + epsilon).unsqueeze(1)
        _move(values, rows[part], step.mul_(learning_rate), replaced[part])
    return replaced


def adam_update_reference(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    steps: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> Tensor:
    """Update rows by RowAdam; first, second and steps (RowAdamState) change in place, the rest as for Sgd."""
    check_places(values, rows, steps, state_rows)
    replaced = values.new_empty(gradient.shape)
    count = _read(steps, state_rows, slice(None)).add_(1)
    _write(steps, state_rows, slice(None), count)
    rate = learning_rate * bias_correction(count, beta1, beta2).unsqueeze(1)
    for part in _chunks(gradient):
        grads = gradient[part]
        mean = _read(first, state_rows, part).mul_(beta1).add_(grads, alpha=1 - beta1)
        square = _read(second, state_rows, part).mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        _write(first, state_rows, part, mean)
        _write(second, state_rows, part, square)
        step = square.sqrt().add_(epsilon)
        torch.div(mean, step, out=step)
        _move(values, rows[part], step.mul_(rate[part]), replaced[part])
    return replaced


def slot_restore_reference(values: Tensor, rows: Tensor, replaced: Tensor) -> None:
    """Write rows [m, dim] back to values at rows; arguments as in slot_restore."""
    check_places(values, rows, None, None)
    values.index_copy_(0, rows, replaced)


def bias_correction(steps: Tensor, beta1: float, beta2: float) -> Tensor:
    """sqrt(1 - beta2^steps) / (1 - beta1^steps), fp32 [m]; in between fp64, for beta^steps is close to 1."""
    counts = steps.double()
    return ((1 - beta2**counts).sqrt() / (1 - beta1**counts)).float()


def check_places(values: Tensor, rows: Tensor, state: Tensor | None, state_rows: Tensor | None) -> None:
    """Check where an update reads and writes.

    Args:
        values: [table, dim].
        rows: int64 [m], rows of values.
        state: a tensor of the state, one row for each selected row; None = the rule keeps none.
        state_rows: int64 [m], rows of the state, or None.

    Raises:
        ValueError: where rows are not ascending, each once and in range.
    """
    _check_order("rows", rows, len(values))
    if state is not None and state_rows is not None:
        _check_order("state_rows", state_rows, len(state))


def _check_order(name: str, rows: Tensor, end: int) -> None:
    check_ascending(name, rows)
    if len(rows) and int(rows[-1]) >= end:
        raise ValueError(f"{name}: got {int(rows[-1])}, expected 0 to {end - 1}")


def _chunks(gradient: Tensor) -> Iterator[slice]:
    size = math.ceil(_CHUNK_ELEMENTS / gradient.shape[1])
    for start in range(0, len(gradient), size):
        yield slice(start, start + size)


def _read(state: Tensor, state_rows: Tensor | None, part: slice) -> Tensor:
    """Rows of the state, to be changed and handed to _write: a view where there are no state_rows."""
    return state[part] if state_rows is None else state.index_select(0, state_rows[part])


def _write(state: Tensor, state_rows: Tensor | None, part: slice, changed: Tensor) -> None:
    if state_rows is not None:
        state.index_copy_(0, state_rows[part], changed)


def _move(values: Tensor, rows: Tensor, step: Tensor, replaced: Tensor) -> None:
    torch.index_select(values, 0, rows, out=replaced)
    # Of mixed types, torch subtracts in fp32.
    values.index_copy_(0, rows, (replaced - step).to(values.dtype))


def _mean_square(grads: Tensor) -> Tensor:
    # A sum to a single number would be split by the number of threads, and its bits would follow.
    pair = grads if len(grads) > 1 else grads.expand(2, -1)
    return pair.square().mean(1)[: len(grads)]
