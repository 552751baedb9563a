"""The public filter: checks its arguments and hands them to PyTorch's dispatcher."""

import torch
from memedit_kernels.arguments import check_device, check_tensor
from memedit_kernels.backend import register_triton
from memedit_kernels.slot_rows.reference import slot_rows_reference
from torch import Tensor


def slot_rows(
    slots: Tensor, written: Tensor, *, name: str = "written", refuse_negative: bool = False
) -> Tensor:
    """Find each look-up's row among the written (or selected) slots.

    Args:
        slots: int64, any shape.
        written: int64 [n], ascending, each once.
        name: what error messages call `written`.
        refuse_negative: whether a slot below 0 is an error; else it is not there, as any other number.

    Returns:
        int64 in the shape of slots: the index in `written`, or -1 where the slot is not there.

    Raises:
        ValueError: when types, devices, the order of `written` or, where that is asked, slots do not fit.
    """
    if slots.dtype != torch.int64:
        raise ValueError(f"slots: got {slots.dtype}, expected torch.int64")
    check_tensor(name, written, 1, (torch.int64,), "torch.int64 [n]")
    check_device(slots=slots, **{name: written})
    rows: Tensor = _slot_rows(slots, written, name, refuse_negative)
    return rows


@torch.library.custom_op("memedit::slot_rows", mutates_args=())
def _slot_rows(slots: Tensor, written: Tensor, name: str, refuse_negative: bool = False) -> Tensor:
    return slot_rows_reference(slots, written, name, refuse_negative)


@_slot_rows.register_fake
def _(slots: Tensor, written: Tensor, name: str, refuse_negative: bool = False) -> Tensor:  # noqa: ARG001
    return torch.empty_like(slots, memory_format=torch.contiguous_format)


register_triton(_slot_rows, "memedit_kernels.slot_rows.triton_kernel", "slot_rows_triton")
