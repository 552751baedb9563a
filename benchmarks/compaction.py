"""How long the patches of a store take to read and sum, before and after they are merged.

Command:  python benchmarks/compaction.py
Time:     about a minute.
Result:   a line for each store: processor seconds (least of 5) and MB read, before and after. docs/store.md
          quotes it.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np

from memedit.facts import Fact
from memedit.store import NewEdit, Owner, Patch, Store, TablePatch, compact, compose

DIM, NUM_SLOTS, ROWS, REPEATS = 576, 1 << 20, 64, 5
CREATED = "2026-01-02T03:04:05+00:00"


def make_edit(number: int, num_subjects: int, share: float) -> NewEdit:
    """An edit of 64 rows a subject, a share of them in slots that other edits of the store write too."""
    generator, common = np.random.default_rng(number + 1), np.random.default_rng(0)
    num_rows = num_subjects * ROWS
    written = common.choice(NUM_SLOTS, num_rows, replace=False)
    fresh = generator.choice(NUM_SLOTS, num_rows, replace=False)
    slots = np.unique(np.where(generator.random(num_rows) < share, written, fresh)).astype(np.int64)
    facts = tuple(
        Fact(f"{number}-{index}", f"Land {index} in year {number} is", "Lutz", f"Land {index}")
        for index in range(num_subjects)
    )
    owners = np.arange(len(slots), dtype=np.int64) % num_subjects
    table = TablePatch(slots, generator.standard_normal((len(slots), DIM)).astype(np.float32), owners)
    patch = Patch((table,), tuple(Owner(fact.subject, 0.4, (fact.id,)) for fact in facts))
    outcomes = tuple({"fact_id": fact.id, "status": "learned"} for fact in facts)
    return NewEdit(facts, outcomes, patch, {"model": "none"}, 0, CREATED)


def seconds(store: Store) -> float:
    """Least processor time of reading and summing the patches that count."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        compose(store.active_patches(), DIM, 1)
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--facts", type=int, default=1000, help="Facts in each store.")
    num_facts = parser.parse_args().facts
    print("| edits | facts | rows shared | seconds before | after | MB read before | after |")
    print("|---|---|---|---|---|---|---|")
    for num_edits in (10, 100):
        for share in (0.0, 0.5):
            with tempfile.TemporaryDirectory() as folder, Store.open(folder, fingerprint="none") as store:
                for number in range(num_edits):
                    store.commit(make_edit(number, num_facts // num_edits, share))
                before = seconds(store)
                sizes = compact(store).report["bytes_in_use"]
                print(
                    f"| {num_edits:,} | {num_facts:,} | {share:.0%} | {before:.2f} | {seconds(store):.2f} "
                    f"| {sizes['before'] / 1e6:,.0f} | {sizes['after'] / 1e6:,.0f} |"
                )


if __name__ == "__main__":
    main()
