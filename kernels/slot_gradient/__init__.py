"""slot_gradient: the gradient of the selected rows alone, from the gradient of the weighted sums."""

from memedit_kernels.slot_gradient.op import row_gradient, slot_gradient
from memedit_kernels.slot_gradient.plan import RowPlan, plan_row_gradient

__all__ = ["RowPlan", "plan_row_gradient", "row_gradient", "slot_gradient"]
