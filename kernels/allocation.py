"""Where every kernel's output comes from: one place, so that tests can put guard rows around each."""

from collections.abc import Sequence

import torch
from torch import Tensor


def new_output(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate an output that a kernel fills completely; what it holds before is undefined."""
    return torch.empty(tuple(shape), dtype=dtype, device=device)
