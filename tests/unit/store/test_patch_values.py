import numpy as np
import pytest

from memedit.store import UNGATED, Owner, Patch, TablePatch


def table(slots=(1, 2), delta=None, owners=(0, 0)):
    delta = np.zeros((len(slots), 3), dtype=np.float32) if delta is None else delta
    return TablePatch(np.array(slots, dtype=np.int64), delta, np.array(owners, dtype=np.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": (2, 1)}, "sorted, unique"),
        ({"slots": (1, 1)}, "sorted, unique"),
        ({"slots": (-1, 1)}, "not negative"),
        ({"owners": (0,)}, "equally many rows"),
        ({"owners": (0, -2)}, "owners must be an index"),
        ({"delta": np.zeros((2, 3))}, "float32"),
        ({"delta": np.zeros(2, dtype=np.float32)}, "2 dimension"),
        ({"delta": np.zeros((2, 0), dtype=np.float32)}, "dim >= 1"),
        ({"delta": [[0.0], [1.0]]}, "got list"),
        ({"delta": np.array([[0, np.nan], [0, 0]], dtype=np.float32)}, "finite"),
        ({"delta": np.array([[0, 1], [0, -np.inf]], dtype=np.float32)}, "finite"),
        ({"delta": np.array([[0, 1], [0, np.inf]], dtype=np.float32)}, "finite"),
    ],
)
def test_a_table_that_breaks_the_rules_cannot_be_made(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


ZEROS = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [2.0, 2.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 3, 0], "rows must be an index of delta, which has 3, got 0 to 3"),
        ([0, -1, 0], "rows must be an index of delta, which has 3, got -1 to 0"),
        ([0, 1], "equally many rows"),
        (np.zeros(3, np.int32), "rows must be a numpy array, int64"),
        (np.zeros((3, 1), np.int64), "1 dimension"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    slots, delta = np.array([1, 2, 3]), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=message):
        TablePatch(slots, delta, np.zeros(3, np.int64), np.asarray(rows))


def test_a_row_that_no_slot_holds_must_be_finite_too():
    with pytest.raises(ValueError, match="finite"):
        TablePatch(np.array([1]), np.array([[1.0], [np.nan]], np.float32), np.array([0]), np.array([0]))


def test_equal_rows_are_kept_once_to_the_bit():
    slots, owners = np.array([1, 2, 5, 7]), np.array([0, 0, 1, -1])
    table = TablePatch(slots, ZEROS, owners).with_distinct_rows()
    assert table.delta.tobytes() == ZEROS[[0, 1, 3]].tobytes()
    assert table.rows.tolist() == [0, 1, 0, 2]
    assert table.dense_delta().tobytes() == ZEROS.tobytes()
    assert (table.num_slots, table.dim) == (4, 2)


def test_the_smallest_form_drops_what_no_slot_holds():
    table = TablePatch(np.array([1, 2, 3]), ZEROS, np.zeros(3, np.int64), np.array([3, 2, 0]))
    smallest = table.with_distinct_rows()
    assert smallest.delta.tobytes() == ZEROS[[3, 0]].tobytes()
    assert smallest.rows.tolist() == [0, 1, 1]
    assert table.same_as(smallest)
    assert table.same_as(TablePatch(table.slots, table.dense_delta(), table.owners))
    other = TablePatch(table.slots, ZEROS, table.owners, np.array([3, 1, 0]))
    assert not table.same_as(other)


def test_slots_of_another_integer_type_are_refused():
    with pytest.raises(ValueError, match="slots must be a numpy array, int64"):
        TablePatch(np.array([1], dtype=np.int32), np.zeros((1, 2), dtype=np.float32), np.array([0]))


def test_owners_must_exist_and_be_named_once():
    with pytest.raises(ValueError, match="below the number of owners, 0, got 0"):
        Patch((table(),))
    with pytest.raises(ValueError, match=r"twice: \['Ada'\]"):
        Patch((table(),), (Owner("Ada", 0.1), Owner("Ada", 0.2)))
    assert Patch((table(owners=(UNGATED, UNGATED)),)).num_slots == 2


def test_tables_of_a_patch_have_one_width():
    wide = table(delta=np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"one width, got \[3, 5\]"):
        Patch((table(), wide), (Owner("Ada", 0.1),))
    with pytest.raises(ValueError, match="at least one table"):
        Patch(())


def test_metadata_is_strings_under_free_names():
    with pytest.raises(ValueError, match="strings to strings"):
        Patch((table(),), (Owner("Ada", 0.1),), {"seed": 1})
    with pytest.raises(ValueError, match="belong to the file format"):
        Patch((table(),), (Owner("Ada", 0.1),), {"owners": "[]"})


def test_thresholds_are_kept_as_fp32_and_finite():
    assert Owner("Ada", 0.4).threshold == float(np.float32(0.4))
    for threshold in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match="finite"):
            Owner("Ada", threshold)
