"""The filter in plain torch: most look-ups miss, and one byte each sorts them out before any search."""

import torch
from memedit_kernels.arguments import check_ascending, check_range
from torch import Tensor

# Bytes of filter per written slot: with 64, a look-up that misses passes by chance once in 64 times.
_FILTER_SHARE = 64
# 2^64 divided by the golden ratio, as a signed number; products wrap.
_GOLDEN = -7046029254386353131
# Up to this many look-ups, or one for so many written slots, a search is quicker than building the filter.
_FEW_LOOKUPS = 4096
_WRITTEN_PER_LOOKUP = 10


def slot_rows_reference(
    slots: Tensor, written: Tensor, name: str = "written", refuse_negative: bool = False
) -> Tensor:
    """Return the row of each slot in `written`, -1 where it is not there (slot_rows checks shapes).

    Args:
        slots: int64, any shape.
        written: int64 [n], ascending, each once.
        name: what error messages call `written`.
        refuse_negative: whether a slot below 0 is an error; else it is not there.

    Returns:
        int64 in the shape of slots.
    """
    check_ascending(name, written)
    if refuse_negative:
        check_range("slots", slots, None)
    written = written.contiguous()
    if len(written) == 0 or slots.numel() == 0:
        return torch.full_like(slots, -1)
    if slots.numel() <= max(_FEW_LOOKUPS, len(written) // _WRITTEN_PER_LOOKUP):
        return _search(slots.contiguous(), written)
    mask = (1 << (len(written) * _FILTER_SHARE).bit_length()) - 1
    passes = torch.zeros(mask + 1, dtype=torch.bool, device=slots.device)
    passes[_spread(written, mask)] = True
    flat = slots.reshape(-1)
    maybe = passes.index_select(0, _spread(flat, mask)).nonzero().squeeze(1)
    rows = torch.full_like(flat, -1)
    rows[maybe] = _search(flat[maybe], written)
    return rows.view(slots.shape)


def _spread(slots: Tensor, mask: int) -> Tensor:
    """Numbers in [0, mask] that slots with a pattern (multiples of n, say) share no more often than others.

    Source: multiplicative hashing, Knuth, The Art of Computer Programming, vol. 3, section 6.4.
    """
    return slots.mul(_GOLDEN).bitwise_right_shift_(32).bitwise_and_(mask)


def _search(slots: Tensor, written: Tensor) -> Tensor:
    rows = torch.searchsorted(written, slots).clamp_(max=len(written) - 1)
    return rows.masked_fill_(written[rows] != slots, -1)
