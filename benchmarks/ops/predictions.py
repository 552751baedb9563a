"""What each op must move, what it does move, and the time that this predicts on a GPU that nobody measured.

Command:   python -m benchmarks.ops.predictions [--json]
Result:    a table of bytes and microseconds. A PREDICTION from arithmetic: bytes / bandwidth, or for the
           search operations / rate where that is longer. Launches (some 5 us each), cache hits and clocks
           are left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

BANDWIDTH = 3.35e12
"""Bytes per second of an H100 SXM's memory, from its data sheet."""

FP32_RATE = 67e12
"""fp32 operations per second of an H100 SXM outside its matrix units, from its data sheet."""


@dataclass(frozen=True)
class Sizes:
    """One step at the sizes of the paper's largest table.

    Attributes:
        num_slots: rows of the table.
        dim: width of a row.
        tokens: tokens of a step.
        heads: routing heads.
        k: look-ups of a head.
        key_dim: width of a query.
        selected: slots that are trained.
        hits: look-ups that hit one of them; here every selected slot is looked up by 64 tokens, as when
            a batch holds 64 wordings of a fact.
        value_bytes: of an entry of the table, 2 = bf16.
    """

    num_slots: int = 2**20
    dim: int = 1024
    tokens: int = 4096
    heads: int = 4
    k: int = 32
    key_dim: int = 512
    selected: int = 500
    hits: int = 64 * 500
    value_bytes: int = 2

    @property
    def lookups(self) -> int:
        """Look-ups of a step."""
        return self.tokens * self.heads * self.k


@dataclass(frozen=True)
class Prediction:
    """Bytes and time of one op.

    Attributes:
        op: its name.
        must: bytes that any implementation moves: each input read once, each output written once.
        does: bytes that ours moves.
        microseconds: predicted time of ours.
        bound: what the time comes from.
    """

    op: str
    must: int
    does: int
    microseconds: float
    bound: str


def predictions(sizes: Sizes) -> list[Prediction]:
    """Predict every op."""
    routing = sizes.lookups * (8 + 4)
    value_row, row = sizes.dim * sizes.value_bytes, sizes.dim * 4
    num_keys = round(sizes.num_slots**0.5)
    queries = sizes.tokens * sizes.heads * sizes.key_dim * 4
    sub_keys = sizes.heads * num_keys * sizes.key_dim * 4
    half_scores = sizes.tokens * sizes.heads * 2 * num_keys * 4
    best = sizes.tokens * sizes.heads * 2 * sizes.k * (4 + 8)
    operations = 2 * sizes.tokens * sizes.heads * num_keys * sizes.key_dim
    bag = sizes.lookups * value_row + routing + sizes.tokens * value_row
    # The written rows hit (fp32), and the overlay row of each look-up written and read.
    overlay = sizes.hits * row + 2 * sizes.lookups * 8
    gradient = sizes.tokens * value_row + sizes.selected * row
    # What must be read is the hits' share; the sort moves them some four times, and rows come back per hit.
    sorting = 4 * 2 * sizes.hits * (4 + 8)
    update = sizes.selected * (3 * value_row + row + 2 * 2 * row)
    found = [
        (
            "product_key_topk",
            queries + sub_keys + routing,
            # Half scores: written, looked through for NaN, read by the search; the best of each half twice.
            queries + sub_keys + routing + 3 * half_scores + 2 * best,
            operations / FP32_RATE,
        ),
        ("slot_bag", bag, bag, 0.0),
        ("slot_bag, with an overlay", bag + sizes.selected * row, bag + overlay, 0.0),
        (
            "slot_gradient",
            sizes.lookups * 8 + sizes.hits * 4 + gradient,
            3 * sizes.lookups * 8 + sorting + sizes.hits * (value_row + 12) + sizes.selected * row,
            0.0,
        ),
        ("slot_update (row Adam)", update, update, 0.0),
        (
            "dense gradient + AdamW, for comparison",
            sizes.num_slots * (row + 2 * value_row + 4 * row),
            # The gradient is zeroed, added to, read; values and two moments are read and written.
            sizes.num_slots * (2 * row + 2 * value_row + 4 * row) + 2 * sizes.lookups * row,
            0.0,
        ),
    ]
    return [
        Prediction(
            op,
            must,
            does,
            1e6 * max(does / BANDWIDTH, least),
            "operations" if least > does / BANDWIDTH else "bytes",
        )
        for op, must, does, least in found
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = predictions(Sizes())
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(f"PREDICTION, H100 at {BANDWIDTH / 1e12} TB/s: {Sizes()}")
    print(f"{'op':40} {'must move':>12} {'moves':>12} {'predicted':>12}  bound by")
    for row in rows:
        print(
            f"{row.op:40} {row.must / 1e6:9,.1f} MB {row.does / 1e6:9,.1f} MB {row.microseconds:9,.0f} us  "
            f"{row.bound}"
        )


if __name__ == "__main__":
    main()
