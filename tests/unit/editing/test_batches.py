"""Mini-batches: every row once, of similar length, in an order that the seed decides."""

from __future__ import annotations

import torch

from memedit.editing.batches import shuffled_batches

LENGTHS = [1 + place % 7 for place in range(100)]


def batches(seed=0, lengths=LENGTHS, size=4):
    return shuffled_batches(lengths, size, torch.Generator().manual_seed(seed))


def test_every_row_is_in_one_batch():
    assert sorted(row for batch in batches() for row in batch) == list(range(100))
    assert max(len(batch) for batch in batches()) == 4
    assert batches(lengths=[]) == []


def test_rows_of_a_batch_are_of_similar_length():
    def padding(made):
        return sum(max(LENGTHS[row] for row in batch) - LENGTHS[row] for batch in made for row in batch)

    in_order = [list(range(at, min(at + 4, 100))) for at in range(0, 100, 4)]
    assert padding(batches()) < 0.5 * padding(in_order)


def test_the_seed_decides_the_order():
    assert batches(seed=1) == batches(seed=1)
    assert batches(seed=1) != batches(seed=2)
