"""The output path of the memory layer that edits write to: how written rows reach the residual stream.

What: `OutputPath` takes what a token's written rows sum to through the layer's gate and projection, and says
how much larger or smaller it comes out.
Why: rows of a gated output (Memory+) are not added as they are; their scale is not the residual stream's.
How: the gates of every token are known before training, since nothing below the layer changes; what is left
is linear. The projection's bias belongs to the block without an edit.

Source: Berges et al. 2024 (arXiv 2412.09764), section 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memedit.modeling import MemoryLayer


class OutputPath:
    """What a memory layer does to a bag of written rows.

    Args:
        memory: the layer; its projection is read, not changed.
    """

    def __init__(self, memory: MemoryLayer) -> None:
        projection = memory.output_projection
        self.weight = None if projection is None else projection.weight.detach()

    def __call__(self, bag: Tensor, gates: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return what a bag adds to the residual stream.

        Args:
            bag: fp32 [..., value_dim].
            gates: [..., value_dim], see RowState; None = the output is not gated.
            dtype: the residual stream's.

        Returns:
            [..., hidden_size].
        """
        bag = bag.to(dtype)
        bag = bag if gates is None else bag * gates
        return bag if self.weight is None else functional.linear(bag, self.weight)

    def gain(self, gates: Sequence[Tensor]) -> float:
        """How much larger a row's root mean square is behind the path, on average over all directions.

        Args:
            gates: fp32 [value_dim] of some tokens; empty where the output is not gated.
        """
        if self.weight is None:
            return 1.0
        power = self.weight.float().square().mean(0)
        if gates:
            power = power * torch.stack(list(gates)).float().square().mean(0)
        return float(power.sum().sqrt())
