"""What an edit adds to its slots: rows kept once, and which of them each slot holds.

All slots of a subject hold one vector. A row for each slot would take a hundred times the memory: 295 MB for
1,000 facts of width 576, the largest thing of the whole edit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Delta:
    """Rows and the slots that hold them.

    Attributes:
        values: fp32 [kept, dim].
        rows: int64 [selected], the row of `values` that each selected slot holds.
    """

    values: Tensor
    rows: Tensor

    @classmethod
    def blank(cls, num_slots: int, dim: int) -> Delta:
        """Zeros at every slot."""
        return cls(torch.zeros(min(1, num_slots), dim), torch.zeros(num_slots, dtype=torch.int64))

    def dense(self) -> Tensor:
        """What is added to each slot, fp32 [selected, dim]: a copy that may be many times larger."""
        return self.values[self.rows]
