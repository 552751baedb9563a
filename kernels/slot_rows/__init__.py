"""slot_rows: where look-ups hit a sorted set of slots; the filter that every sparse step begins with."""

from memedit_kernels.slot_rows.op import slot_rows

__all__ = ["slot_rows"]
