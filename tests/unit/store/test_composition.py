import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.store import UNGATED, Owner, Patch, SlotConflict, TablePatch, compose

DIM = 3


def patch_of(rows, *, owners=(), seed=0):
    """A patch with one table: rows maps slot -> owner index."""
    slots = np.array(sorted(rows), dtype=np.int64)
    delta = np.random.default_rng(seed).standard_normal((len(slots), DIM)).astype(np.float32)
    return Patch(
        (TablePatch(slots, delta, np.array([rows[slot] for slot in sorted(rows)], dtype=np.int64)),), owners
    )


patches_strategy = st.lists(
    st.dictionaries(st.integers(0, 15), st.integers(-1, 1), max_size=8), max_size=6
).map(
    lambda all_rows: [
        patch_of(rows, owners=(Owner(f"s{index % 3}", index), Owner("shared", index)), seed=index)
        for index, rows in enumerate(all_rows)
    ]
)


def reference(patches):
    """Row by row in a dictionary: the sum and the first writer's subject of each slot."""
    sums, subjects = {}, {}
    for patch in patches:
        table = patch.tables[0]
        for slot, row, owner in zip(
            table.slots.tolist(), table.dense_delta(), table.owners.tolist(), strict=True
        ):
            sums[slot] = row if slot not in sums else (sums[slot] + row).astype(np.float32)
            subjects.setdefault(slot, None if owner == UNGATED else patch.owners[owner].subject)
    return sums, subjects


# How long an example takes says how busy the machine is.
@settings(deadline=None)
@given(patches_strategy)
def test_the_sum_is_fp32_in_order_and_the_first_writer_owns(patches):
    composition = compose(patches, DIM, 1)
    table = composition.tables[0]
    sums, subjects = reference(patches)
    assert table.slots.tolist() == sorted(sums)
    for slot, row, owner in zip(
        table.slots.tolist(), table.dense_delta(), table.owners.tolist(), strict=True
    ):
        assert row.tobytes() == sums[slot].tobytes()
        assert (None if owner == UNGATED else composition.owners[owner].subject) == subjects[slot]


@given(patches_strategy, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_leaving_one_out_is_the_same_as_never_having_it(patches, index):
    rest = [patch for number, patch in enumerate(patches) if number != index]
    compose(patches, DIM, 1)
    again, afresh = compose(rest, DIM, 1), compose(list(rest), DIM, 1)
    assert again.tables[0].delta.tobytes() == afresh.tables[0].delta.tobytes()
    assert again.owners == afresh.owners
    touched = {
        slot for number, patch in enumerate(patches) if number == index for slot in patch.tables[0].slots
    }
    whole, without = compose(patches, DIM, 1).tables[0], again.tables[0]
    rows = {
        slot: row.tobytes() for slot, row in zip(without.slots.tolist(), without.dense_delta(), strict=True)
    }
    for slot, row in zip(whole.slots.tolist(), whole.dense_delta(), strict=True):
        if slot not in touched:
            assert row.tobytes() == rows[slot]


VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e8, -1e8, 0.1, 1e-42])


@st.composite
def shared_patches(draw):
    """Patches whose slots share a few rows, with both zeros, some of them held twice or not at all."""
    patches = []
    for index in range(draw(st.integers(0, 6))):
        delta = draw(st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=4))
        written = draw(
            st.dictionaries(
                st.integers(0, 15), st.tuples(st.integers(0, len(delta) - 1), st.integers(-1, 1)), max_size=12
            )
        )
        rows, owners = zip(*(written[slot] for slot in sorted(written)), strict=True) if written else ((), ())
        table = TablePatch(
            np.array(sorted(written), np.int64),
            np.array(delta, np.float32),
            np.array(owners, np.int64),
            np.array(rows, np.int64),
        )
        patches.append(Patch((table,), (Owner(f"s{index % 3}", index), Owner("shared", index))))
    return patches


def dense_sum(patches, dim):
    """The sum with a row for every slot: what composing did before rows were shared."""
    slots = np.unique(np.concatenate([np.empty(0, np.int64), *(patch.tables[0].slots for patch in patches)]))
    delta = np.full((len(slots), dim), -0.0, dtype=np.float32)
    for patch in patches:
        table = patch.tables[0]
        delta[np.searchsorted(slots, table.slots)] += table.delta[table.rows]
    return slots, delta


@settings(deadline=None)
@given(shared_patches())
def test_shared_rows_sum_to_the_bits_of_a_row_for_every_slot(patches):
    slots, delta = dense_sum(patches, 2)
    composition = compose(patches, 2, 1)
    table = composition.tables[0]
    assert table.slots.tolist() == slots.tolist()
    assert table.dense_delta().tobytes() == delta.tobytes()
    assert set(table.rows.tolist()) == set(range(len(table.delta)))
    dense = [
        Patch((TablePatch(each.slots, each.dense_delta(), each.owners),), patch.owners)
        for patch in patches
        for each in patch.tables
    ]
    same = compose(dense, 2, 1)
    assert same.tables[0].same_as(table)
    assert (same.owners, same.conflicts) == (composition.owners, composition.conflicts)
    assert table.owners.tobytes() == same.tables[0].owners.tobytes()


def subjects_patch(slots, num_slots, *, first=0, seed=0):
    """A patch that writes one row to each `num_slots` of the slots."""
    num_subjects = len(slots) // num_slots
    owners = np.random.default_rng(seed).permutation(np.repeat(np.arange(num_subjects), num_slots))
    rows = np.random.default_rng(seed).standard_normal((num_subjects, 16)).astype(np.float32)
    names = tuple(Owner(f"s{first + index}", 0.4) for index in range(num_subjects))
    return Patch((TablePatch(np.sort(slots), rows, owners, owners),), names)


def test_ten_thousand_subjects_keep_ten_thousand_rows():
    slots = np.random.default_rng(1).permutation(10_000 * 128).reshape(100, -1)
    patches = [subjects_patch(part, 128, first=100 * index, seed=index) for index, part in enumerate(slots)]
    started = time.process_time()
    table = compose(patches, 16, 1).tables[0]
    assert time.process_time() - started < 20
    assert (table.num_slots, len(table.delta)) == (1_280_000, 10_000)


def test_writing_the_same_subjects_again_adds_no_rows():
    slots = np.random.default_rng(1).permutation(10_000)[:1280]
    again = [subjects_patch(slots, 128, seed=0) for _ in range(20)]
    assert len(compose(again, 16, 1).tables[0].delta) == 10


def test_order_counts_to_the_bit():
    rows = [np.full((1, 1), value, dtype=np.float32) for value in (1e8, -1e8, 1.0)]
    one = np.array([4], dtype=np.int64)
    patches = [Patch((TablePatch(one, row, np.array([UNGATED])),)) for row in rows]
    assert compose(patches, 1, 1).tables[0].delta.item() == 1.0
    assert compose([patches[0], patches[2], patches[1]], 1, 1).tables[0].delta.item() == 0.0


def test_nothing_active_is_an_empty_sum():
    composition = compose([], 8, 2)
    assert [table.delta.shape for table in composition.tables] == [(0, 8), (0, 8)]
    assert composition.owners == ()
    assert composition.conflicts == ()


def test_owners_are_merged_by_subject():
    first = patch_of({1: 0, 2: 1}, owners=(Owner("Ada", 0.25, ("f1",)), Owner("Bob", 0.5, ("f2",))))
    second = patch_of({3: 0, 4: 1}, owners=(Owner("Cyd", 0.5, ("f3",)), Owner("Ada", 0.75, ("f1", "f4"))))
    composition = compose([first, second], DIM, 1)
    assert composition.owners == (
        Owner("Ada", 0.75, ("f1", "f4")),
        Owner("Bob", 0.5, ("f2",)),
        Owner("Cyd", 0.5, ("f3",)),
    )
    assert composition.tables[0].owners.tolist() == [0, 1, 2, 0]
    assert composition.conflicts == ()


def test_the_last_edit_draws_the_boundary():
    first = patch_of({1: 0}, owners=(Owner("Ada", 0.25, ("f1",), b"abcd"),))
    second = patch_of({3: 0}, owners=(Owner("Ada", 0.75, ("f2",), b"efgh"),))
    assert compose([first, second], DIM, 1).owners == (Owner("Ada", 0.75, ("f1", "f2"), b"efgh"),)
    assert compose([second, first], DIM, 1).owners == (Owner("Ada", 0.25, ("f2", "f1"), b"abcd"),)


def test_slots_of_two_subjects_are_reported():
    first = patch_of({1: 0, 2: 0, 3: UNGATED}, owners=(Owner("Ada", 0.25),))
    second = patch_of({1: 0, 2: 0, 3: 0}, owners=(Owner("Bob", 0.25),))
    third = patch_of({1: 0, 2: UNGATED}, owners=(Owner("Bob", 0.25),))
    composition = compose([first, second, third], DIM, 1)
    assert composition.tables[0].owners.tolist() == [0, 0, UNGATED]
    assert set(composition.conflicts) == {
        SlotConflict(0, "Ada", "Bob", (1, 2)),
        SlotConflict(0, None, "Bob", (3,)),
        SlotConflict(0, "Ada", None, (2,)),
    }


def test_inputs_are_not_changed(factory):
    patches = [factory.make_patch(), factory.make_patch()]
    before = patches[0].tables[0].delta.copy()
    composition = compose(patches, 4, 1)
    composition.tables[0].delta[:] = 0
    assert patches[0].tables[0].delta.tobytes() == before.tobytes()


@pytest.mark.parametrize(("dim", "num_tables"), [(5, 1), (4, 2)])
def test_a_patch_of_another_shape_is_refused(factory, dim, num_tables):
    with pytest.raises(
        ValueError, match=rf"1 table\(s\) of width 4, the model has {num_tables} of width {dim}"
    ):
        compose([factory.make_patch()], dim, num_tables)


def test_a_hundred_patches_cost_little_more_than_their_additions():
    rng = np.random.default_rng(0)
    delta = rng.standard_normal((5000, 576), dtype=np.float32)
    owners = tuple(Owner(f"s{index}", 0.4) for index in range(50))
    patches = [
        Patch(
            (TablePatch(np.sort(rng.choice(20_000, 5000, replace=False)), delta, rng.integers(0, 50, 5000)),),
            owners,
        )
        for _ in range(100)
    ]

    def added():
        total = np.zeros((20_000, 576), dtype=np.float32)
        for patch in patches:
            total[patch.tables[0].slots] += patch.tables[0].delta

    # Side by side and as a ratio: how fast a machine is, and how busy, is not what is tested.
    ratios = [_seconds(lambda: compose(patches, 576, 1)) / _seconds(added) for _ in range(3)]
    assert min(ratios) < 8


def _seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start
