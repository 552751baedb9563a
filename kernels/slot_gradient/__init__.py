"""slot_gradient: the gradient of the selected rows alone, from the gradient of the weighted sums."""

from memedit_kernels.slot_gradient.op import row_gradient, slot_gradient

__all__ = ["row_gradient", "slot_gradient"]
