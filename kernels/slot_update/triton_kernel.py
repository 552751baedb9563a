"""Updates of table rows in Triton: one program moves one row, and hands back what it was.

A program is one warp, so that no lane writes a row's state before another has read it. What is handed back is
stored as it was loaded, before any cast. Learning rates are runtime arguments: a new one compiles nothing.
"""

import math

import torch
import triton
import triton.language as tl
from memedit_kernels.addressing import row_start
from memedit_kernels.allocation import new_output
from memedit_kernels.slot_update.reference import check_places
from torch import Tensor

# 16 elements a lane (8 on wavefronts of 64): whole accesses of 128 bits in bf16 and fp32.
BLOCK = 512
NUM_WARPS = 1


@triton.jit
def sgd_update_kernel(
    values_ptr, rows_ptr, gradient_ptr, buffer_ptr, state_rows_ptr, replaced_ptr, learning_rate, momentum,
    dim, row_stride, HAS_MOMENTUM: tl.constexpr, HAS_STATE_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """SGD of one row, with its momentum where there is one."""
    program = tl.program_id(0)
    value_row = row_start(tl.load(rows_ptr + program), row_stride)
    state_row = row_start(tl.load(state_rows_ptr + program) if HAS_STATE_ROWS else program, dim)
    own_row = row_start(program, dim)
    for first in range(0, dim, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        inside = columns < dim
        old = tl.load(values_ptr + value_row + columns, mask=inside)
        step = tl.load(gradient_ptr + own_row + columns, mask=inside)
        if HAS_MOMENTUM:
            step += momentum * tl.load(buffer_ptr + state_row + columns, mask=inside)
            tl.store(buffer_ptr + state_row + columns, step, mask=inside)
        new = old.to(tl.float32) - learning_rate * step
        tl.store(replaced_ptr + own_row + columns, old, mask=inside)
        tl.store(values_ptr + value_row + columns, new.to(old.dtype), mask=inside)


@triton.jit
def adagrad_update_kernel(
    values_ptr, rows_ptr, gradient_ptr, sums_ptr, state_rows_ptr, replaced_ptr, learning_rate, epsilon, dim,
    row_stride, HAS_STATE_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adagrad of one row: the mean of the squares first, then the row."""
    program = tl.program_id(0)
    value_row = row_start(tl.load(rows_ptr + program), row_stride)
    state_row = row_start(tl.load(state_rows_ptr + program) if HAS_STATE_ROWS else program, 1)
    own_row = row_start(program, dim)
    squares = tl.zeros([BLOCK], tl.float32)
    for first in range(0, dim, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        grads = tl.load(gradient_ptr + own_row + columns, mask=columns < dim, other=0.0)
        squares += grads * grads
    total = tl.load(sums_ptr + state_row) + tl.sum(squares, axis=0) / dim
    tl.store(sums_ptr + state_row, total)
    divisor = tl.sqrt(total) + epsilon
    for first in range(0, dim, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        inside = columns < dim
        old = tl.load(values_ptr + value_row + columns, mask=inside)
        grads = tl.load(gradient_ptr + own_row + columns, mask=inside)
        new = old.to(tl.float32) - learning_rate * (grads / divisor)
        tl.store(replaced_ptr + own_row + columns, old, mask=inside)
        tl.store(values_ptr + value_row + columns, new.to(old.dtype), mask=inside)


@triton.jit
def adam_update_kernel(
    values_ptr, rows_ptr, gradient_ptr, first_ptr, second_ptr, steps_ptr, state_rows_ptr, replaced_ptr,
    learning_rate, beta1, rest1, log_beta1, beta2, rest2, log_beta2, epsilon, dim, row_stride,
    HAS_STATE_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adam of one row; rest1 = 1 - beta1, log_beta1 = log(beta1), both from fp64, and so for beta2."""
    program = tl.program_id(0)
    value_row = row_start(tl.load(rows_ptr + program), row_stride)
    place = tl.load(state_rows_ptr + program) if HAS_STATE_ROWS else program
    state_row, own_row = row_start(place, dim), row_start(program, dim)
    steps_place = steps_ptr + row_start(place, 1)
    steps = tl.load(steps_place) + 1
    tl.store(steps_place, steps)
    # beta^steps is close to 1, and what is left of 1 minus it in fp32 would be rounding.
    count = steps.to(tl.float64)
    power1, power2 = tl.exp(count * log_beta1), tl.exp(count * log_beta2)
    rate = learning_rate * (tl.sqrt(1 - power2) / (1 - power1)).to(tl.float32)
    for start in range(0, dim, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < dim
        old = tl.load(values_ptr + value_row + columns, mask=inside)
        grads = tl.load(gradient_ptr + own_row + columns, mask=inside)
        mean = beta1 * tl.load(first_ptr + state_row + columns, mask=inside) + rest1 * grads
        square = beta2 * tl.load(second_ptr + state_row + columns, mask=inside) + rest2 * grads * grads
        new = old.to(tl.float32) - rate * (mean / (tl.sqrt(square) + epsilon))
        tl.store(first_ptr + state_row + columns, mean, mask=inside)
        tl.store(second_ptr + state_row + columns, square, mask=inside)
        tl.store(replaced_ptr + own_row + columns, old, mask=inside)
        tl.store(values_ptr + value_row + columns, new.to(old.dtype), mask=inside)


@triton.jit
def slot_restore_kernel(values_ptr, rows_ptr, replaced_ptr, dim, row_stride, BLOCK: tl.constexpr):
    """Copy one row's bits (integers as wide as the values)."""
    program = tl.program_id(0)
    value_row = row_start(tl.load(rows_ptr + program), row_stride)
    own_row = row_start(program, dim)
    for first in range(0, dim, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        bits = tl.load(replaced_ptr + own_row + columns, mask=columns < dim)
        tl.store(values_ptr + value_row + columns, bits, mask=columns < dim)


def sgd_update_triton(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    buffer: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    momentum: float,
) -> Tensor:
    """Run the kernel; arguments and result as in sgd_update_reference."""
    check_places(values, rows, buffer if momentum else None, state_rows)
    rows, gradient, places, replaced = _contiguous(values, rows, gradient, state_rows)
    if len(rows):
        sgd_update_kernel[(len(rows),)](
            values, rows, gradient, buffer, places, replaced, learning_rate, momentum, values.shape[1],
            values.stride(0), HAS_MOMENTUM=momentum != 0, HAS_STATE_ROWS=state_rows is not None, BLOCK=BLOCK,
            num_warps=NUM_WARPS,
        )  # fmt: skip
    return replaced


def adagrad_update_triton(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    sums: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    epsilon: float,
) -> Tensor:
    """Run the kernel; arguments and result as in adagrad_update_reference."""
    check_places(values, rows, sums, state_rows)
    rows, gradient, places, replaced = _contiguous(values, rows, gradient, state_rows)
    if len(rows):
        adagrad_update_kernel[(len(rows),)](
            values, rows, gradient, sums, places, replaced, learning_rate, epsilon, values.shape[1],
            values.stride(0), HAS_STATE_ROWS=state_rows is not None, BLOCK=BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip
    return replaced


def adam_update_triton(
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
    """Run the kernel; arguments and result as in adam_update_reference."""
    check_places(values, rows, steps, state_rows)
    rows, gradient, places, replaced = _contiguous(values, rows, gradient, state_rows)
    if len(rows):
        adam_update_kernel[(len(rows),)](
            values, rows, gradient, first, second, steps, places, replaced, learning_rate,
            beta1, 1 - beta1, _log(beta1), beta2, 1 - beta2, _log(beta2), epsilon, values.shape[1],
            values.stride(0), HAS_STATE_ROWS=state_rows is not None, BLOCK=BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip
    return replaced


def slot_restore_triton(values: Tensor, rows: Tensor, replaced: Tensor) -> None:
    """Run the kernel; arguments as in slot_restore."""
    check_places(values, rows, None, None)
    bits = torch.int32 if values.dtype == torch.float32 else torch.int16
    if len(rows):
        slot_restore_kernel[(len(rows),)](
            values.view(bits), rows.contiguous(), replaced.contiguous().view(bits), values.shape[1],
            values.stride(0), BLOCK=BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip


def _contiguous(
    values: Tensor, rows: Tensor, gradient: Tensor, state_rows: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, gradient, places in the state (the rows where there are none: not read), and the output."""
    rows = rows.contiguous()
    places = rows if state_rows is None else state_rows.contiguous()
    replaced = new_output((len(rows), values.shape[1]), values.dtype, values.device)
    return rows, gradient.contiguous(), places, replaced


def _log(decay: float) -> float:
    return math.log(decay) if decay else -math.inf
