"""The filter in Triton: a binary search for each look-up, all lanes of a program in step.

`written` is a few thousand slots (tens of KB), so that every probe after the first hits the cache.
"""

import torch
import triton
import triton.language as tl
from memedit_kernels.allocation import new_output
from memedit_kernels.arguments import check_ascending, check_range
from torch import Tensor

BLOCK = 1024
NUM_WARPS = 4


@triton.jit(do_not_specialize=["num_lookups", "num_written", "num_probes"])
def slot_rows_kernel(
    slots_ptr, written_ptr, rows_ptr, num_lookups, num_written, num_probes, BLOCK: tl.constexpr
):
    """rows[i] = index of slots[i] in written, or -1."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < num_lookups
    slot = tl.load(slots_ptr + place, mask=inside, other=-1)
    # The first entry that is not below the slot lies in [low, high].
    low = tl.zeros([BLOCK], tl.int64)
    high = low + num_written
    for _ in range(num_probes):
        middle = (low + high) // 2
        probed = tl.load(written_ptr + middle, mask=middle < num_written, other=0)
        below = (low < high) & (probed < slot)
        high = tl.where((low < high) & (probed >= slot), middle, high)
        low = tl.where(below, middle + 1, low)
    # No number can stand for "past the end", since a slot may be any.
    found = tl.load(written_ptr + low, mask=low < num_written, other=0)
    tl.store(rows_ptr + place, tl.where((low < num_written) & (found == slot), low, -1), mask=inside)


def slot_rows_triton(
    slots: Tensor, written: Tensor, name: str = "written", refuse_negative: bool = False
) -> Tensor:
    """Run the kernel; arguments and result as in slot_rows."""
    check_ascending(name, written)
    if refuse_negative:
        check_range("slots", slots, None)
    slots, written = slots.contiguous(), written.contiguous()
    rows = new_output(slots.shape, torch.int64, slots.device)
    if slots.numel() == 0:
        return rows
    grid = (triton.cdiv(slots.numel(), BLOCK),)
    slot_rows_kernel[grid](
        slots, written, rows, slots.numel(), len(written), len(written).bit_length(),
        BLOCK=BLOCK, num_warps=NUM_WARPS,
    )  # fmt: skip
    return rows
