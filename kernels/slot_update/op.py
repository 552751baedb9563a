"""The public update of table rows: checks its arguments and hands them to PyTorch's dispatcher."""

import torch
from memedit_kernels.arguments import check_device, check_tensor
from memedit_kernels.backend import register_triton
from memedit_kernels.slot_update.reference import (
    adagrad_update_reference,
    adam_update_reference,
    sgd_update_reference,
    slot_restore_reference,
)
from memedit_kernels.slot_update.rules import (
    RowAdagrad,
    RowAdagradState,
    RowAdam,
    RowAdamState,
    Rule,
    Sgd,
    SgdState,
    State,
)
from torch import Tensor

UPDATE_TYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types of values that can be updated."""


def slot_update(
    values: Tensor, rows: Tensor, gradient: Tensor, rule: Rule, state: State, state_rows: Tensor | None = None
) -> Tensor:
    """Move some rows of a table by their gradient, in place, and hand back what they were.

    Every other row keeps its bits. Arithmetic is in fp32; the result is cast to the values' type once.

    Args:
        values: fp32, bf16 or fp16 [table, dim]; each row contiguous.
        rows: int64 [m], ascending, each once.
        gradient: fp32 [m, dim].
        rule: Sgd, RowAdagrad or RowAdam.
        state: what rule.new_state returned, changed in place: one row for each of `rows`, or more rows, of
            which state_rows names those of this update.
        state_rows: int64 [m], ascending, each once: where the state of each of `rows` is; None = in order.

    Returns:
        [m, dim] in the values' type: the rows as they were, for slot_restore.

    Raises:
        ValueError: when shapes, types, devices, order of rows or the kind of state do not fit, or values
            would need a gradient of this step.
    """
    _check_values(values)
    check_tensor("rows", rows, 1, (torch.int64,), "torch.int64 [m]")
    check_tensor("gradient", gradient, 2, (torch.float32,), "torch.float32 [m, dim]")
    if gradient.shape != (len(rows), values.shape[1]):
        expected = (len(rows), values.shape[1])
        raise ValueError(f"gradient: got {tuple(gradient.shape)}, expected {expected} as in rows and values")
    if state_rows is not None:
        check_tensor("state_rows", state_rows, 1, (torch.int64,), "torch.int64 [m]")
        if len(state_rows) != len(rows):
            raise ValueError(f"state_rows: got {len(state_rows)}, expected {len(rows)}, one for each of rows")
    _check_state(rule, state, values.shape[1], len(rows) if state_rows is None else None)
    parts = {f"state.{name}": part for name, part in state._asdict().items()}
    check_device(values=values, rows=rows, gradient=gradient, state_rows=state_rows, **parts)
    with torch.no_grad():
        return _updated(values, rows, gradient, rule, state, state_rows)


def slot_restore(values: Tensor, rows: Tensor, replaced: Tensor) -> None:
    """Put rows back as slot_update found them, bit for bit.

    Args:
        values: [table, dim], changed in place.
        rows: int64 [m], ascending, each once, as in slot_update.
        replaced: [m, dim] in the values' type, what slot_update returned.

    Raises:
        ValueError: when shapes, types, devices or order of rows do not fit.
    """
    _check_values(values)
    check_tensor("rows", rows, 1, (torch.int64,), "torch.int64 [m]")
    if replaced.dtype != values.dtype or replaced.shape != (len(rows), values.shape[1]):
        raise ValueError(
            f"replaced: got {replaced.dtype} {tuple(replaced.shape)}, "
            f"expected {values.dtype} {(len(rows), values.shape[1])}"
        )
    check_device(values=values, rows=rows, replaced=replaced)
    with torch.no_grad():
        _slot_restore(values, rows, replaced)


def _updated(
    values: Tensor, rows: Tensor, gradient: Tensor, rule: Rule, state: State, state_rows: Tensor | None
) -> Tensor:
    replaced: Tensor
    if isinstance(rule, Sgd):
        replaced = _sgd_update(
            values, rows, gradient, *state, state_rows, float(rule.learning_rate), float(rule.momentum)
        )
    elif isinstance(rule, RowAdagrad):
        replaced = _adagrad_update(
            values, rows, gradient, *state, state_rows, float(rule.learning_rate), float(rule.epsilon)
        )
    else:
        rate, decays = float(rule.learning_rate), (float(rule.beta1), float(rule.beta2))
        replaced = _adam_update(
            values, rows, gradient, *state, state_rows, rate, *decays, float(rule.epsilon)
        )
    return replaced


def _check_values(values: Tensor) -> None:
    check_tensor("values", values, 2, UPDATE_TYPES, "fp32, bf16 or fp16 [table, dim]")
    if values.shape[1] == 0:
        raise ValueError(f"values: got {tuple(values.shape)}, expected rows of at least one element")
    apart = len(values) < 2 or values.stride(0) >= values.shape[1]
    if not apart or (values.shape[1] > 1 and values.stride(1) != 1):
        raise ValueError(
            f"values: got strides {values.stride()}, expected contiguous rows that do not overlap"
        )
    if values.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "values: got a tensor that requires a gradient, expected none, since this changes it in place; "
            "call it under torch.no_grad() or pass values.detach()"
        )


def _check_state(rule: Rule, state: State, dim: int, num_rows: int | None) -> None:
    """Check that a state is the rule's; num_rows None = of any length."""
    kind = {Sgd: SgdState, RowAdagrad: RowAdagradState, RowAdam: RowAdamState}.get(type(rule))
    if kind is None:
        raise ValueError(f"rule: got {type(rule).__name__}, expected Sgd, RowAdagrad or RowAdam")
    if type(state) is not kind:
        raise ValueError(
            f"state: got {type(state).__name__}, expected {kind.__name__}, "
            f"what {type(rule).__name__}.new_state returns"
        )
    if isinstance(rule, Sgd) and not rule.momentum:
        return
    num_rows = len(state[0]) if num_rows is None else num_rows
    for name, part in state._asdict().items():
        shape = (num_rows,) if name in ("sums", "steps") else (num_rows, dim)
        dtype = torch.int64 if name == "steps" else torch.float32
        if part.dtype != dtype or part.shape != shape or not part.is_contiguous():
            raise ValueError(
                f"state.{name}: got {part.dtype} {tuple(part.shape)}, expected {dtype} {shape}, contiguous"
            )


@torch.library.custom_op("memedit::sgd_update", mutates_args=("values", "buffer"))
def _sgd_update(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    buffer: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    momentum: float,
) -> Tensor:
    return sgd_update_reference(values, rows, gradient, buffer, state_rows, learning_rate, momentum)


@torch.library.custom_op("memedit::adagrad_update", mutates_args=("values", "sums"))
def _adagrad_update(
    values: Tensor,
    rows: Tensor,
    gradient: Tensor,
    sums: Tensor,
    state_rows: Tensor | None,
    learning_rate: float,
    epsilon: float,
) -> Tensor:
    return adagrad_update_reference(values, rows, gradient, sums, state_rows, learning_rate, epsilon)


@torch.library.custom_op("memedit::adam_update", mutates_args=("values", "first", "second", "steps"))
def _adam_update(
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
    return adam_update_reference(
        values, rows, gradient, first, second, steps, state_rows, learning_rate, beta1, beta2, epsilon
    )


@torch.library.custom_op("memedit::slot_restore", mutates_args=("values",))
def _slot_restore(values: Tensor, rows: Tensor, replaced: Tensor) -> None:
    slot_restore_reference(values, rows, replaced)


def _fake_update(values: Tensor, rows: Tensor, gradient: Tensor, *_: object) -> Tensor:  # noqa: ARG001
    return values.new_empty(gradient.shape)


@_slot_restore.register_fake
def _(values: Tensor, rows: Tensor, replaced: Tensor) -> None:  # noqa: ARG001
    return None


_TRITON = "memedit_kernels.slot_update.triton_kernel"
for _op, _launcher in (
    (_sgd_update, "sgd_update_triton"),
    (_adagrad_update, "adagrad_update_triton"),
    (_adam_update, "adam_update_triton"),
):
    _op.register_fake(_fake_update)
    register_triton(_op, _TRITON, _launcher)
register_triton(_slot_restore, _TRITON, "slot_restore_triton")
