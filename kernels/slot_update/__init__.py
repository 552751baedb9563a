"""slot_update: move the selected rows of a table in place; slot_restore: put them back, bit for bit."""

from memedit_kernels.slot_update.op import slot_restore, slot_update
from memedit_kernels.slot_update.rules import (
    RowAdagrad,
    RowAdagradState,
    RowAdam,
    RowAdamState,
    Sgd,
    SgdState,
)

__all__ = [
    "RowAdagrad",
    "RowAdagradState",
    "RowAdam",
    "RowAdamState",
    "Sgd",
    "SgdState",
    "slot_restore",
    "slot_update",
]
