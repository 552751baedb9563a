"""The state of the value tables, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memedit.evaluation.catalogue import metric_info
from memedit.evaluation.memory_health import WrittenRows, memory_health


def rows(edit, slots, owners, size=1.0, table=0):
    deltas = np.zeros((len(slots), 4), dtype=np.float32)
    deltas[:, 0] = size
    return WrittenRows(edit, np.array(slots, dtype=np.int64), deltas, owners, table)


EDITS = [
    rows("e1", [1, 2, 3], ["Ana", "Ana", "Bo"], 3.0),
    rows("e2", [3, 4], ["Cy", None], 1.0),
    rows("e3", [3, 1], ["Ana", "Ana"], 2.0),
    rows("e3", [1], ["Ana"], 5.0, table=1),
]


def test_counts_by_hand():
    found = memory_health(EDITS, num_slots=[8, 2])
    values = {metric.name: (metric.value, metric.n) for metric in found.metrics}
    # Written are 1, 2, 3, 4 of table 0 and 1 of table 1.
    assert values["slot_usage"] == (0.5, 10)
    # Slot 3 was written for Bo, Cy and Ana; slot 1 twice for Ana.
    assert values["slot_collision_rate"] == (pytest.approx(1 / 5), 5)
    assert values["rows_written_twice"] == (pytest.approx(2 / 5), 5)
    # 1: 3 + 2, 2: 3, 3: 3 + 1 + 2, 4: 1; table 1: 5.
    assert values["written_row_norm"] == (pytest.approx((5 + 3 + 6 + 1 + 5) / 5), 5)
    assert found.notes == (
        "written_row_norm_ratio was not measured: no base table and no rms of the residual stream",
    )
    assert all(metric.low == metric.value == metric.high for metric in found.metrics)
    assert [(sample.item, sample.value) for sample in found.samples] == [
        ("Ana | Bo", 1.0),
        ("Ana | Cy", 1.0),
        ("Bo | Cy", 1.0),
    ]
    assert found.samples[0].details == {"slots": [[0, 3]]}


def test_against_a_base_table():
    base = np.zeros((8, 4))
    base[:, 1] = 2.0
    found = memory_health([rows("e", [0, 1], ["a", "b"], 1.5)], num_slots=[8], base_rows={0: base})
    # A written row is (1.5, 2, 0, 0): norm 2.5 against 2.
    assert found.metric("written_row_norm").value == pytest.approx(2.5)
    assert found.metric("written_row_norm_ratio").value == pytest.approx(1.25)
    assert "base table" in found.metric("written_row_norm_ratio").protocol
    assert found.notes == ()
    empty = memory_health([rows("e", [0], ["a"])], num_slots=[8], base_rows={0: np.zeros((8, 4))})
    assert math.isnan(empty.metric("written_row_norm_ratio").value)


def test_against_the_residual_stream():
    found = memory_health([rows("e", [0], ["a"], 4.0)], num_slots=[8], residual_rms=0.5)
    # (4, 0, 0, 0) has an rms of 2.
    assert found.metric("written_row_norm_ratio").value == pytest.approx(4.0)
    assert "residual stream" in found.metric("written_row_norm_ratio").protocol


def test_slots_that_share_a_row_count_like_slots_that_hold_it_each():
    deltas = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    held, owners, slots = [2, 0, 2, 1], ["a", "a", "b", "b"], np.arange(4)
    shared = WrittenRows("e", slots, deltas, owners, 0, np.array(held))
    dense = WrittenRows("e", slots, deltas[held], owners)
    later = rows("f", [1, 2], ["c", "b"])
    for base in (None, {0: np.random.default_rng(1).standard_normal((8, 4))}):
        found, expected = (
            memory_health([one, later], num_slots=[8], base_rows=base, residual_rms=0.5)
            for one in (shared, dense)
        )
        assert found == expected
    with pytest.raises(ValueError, match="equally many rows"):
        WrittenRows("e", slots, deltas, owners, 0, np.array(held[:3]))


def test_tensors_count_like_arrays():
    given = [
        WrittenRows(
            one.edit, torch.tensor(one.slots), torch.tensor(one.deltas).bfloat16(), one.owners, one.table
        )
        for one in EDITS
    ]
    base = {0: torch.ones(8, 4).bfloat16()}
    as_arrays = memory_health(EDITS, num_slots=[8, 2], base_rows={0: np.ones((8, 4))})
    assert memory_health(given, num_slots=[8, 2], base_rows=base).metrics == as_arrays.metrics


def test_slots_beyond_the_range_of_fp32():
    far = 2**24 + 1
    one = WrittenRows("e", torch.tensor([far, far - 1]), torch.ones(2, 1), ["a", "b"])
    assert memory_health([one], num_slots=[2**25]).metric("slot_collision_rate").value == 0.0


def test_everything_collides_and_nothing_is_written():
    all_same = [rows(f"e{number}", [0, 1], [f"s{number}", f"s{number}"]) for number in range(3)]
    found = memory_health(all_same, num_slots=[2])
    values = {metric.name: metric.value for metric in found.metrics}
    assert (values["slot_usage"], values["slot_collision_rate"], values["rows_written_twice"]) == (
        1.0,
        1.0,
        1.0,
    )
    nothing = memory_health([], num_slots=[4])
    assert nothing.metric("slot_usage").value == 0.0
    assert math.isnan(nothing.metric("slot_collision_rate").value)
    assert nothing.samples == ()


def test_what_a_text_reads():
    found = memory_health([], num_slots=[4], accesses={0: [3, 1, 0, 0]})
    assert found.metric("slot_access_share").value == 0.5
    expected = 0.75 * math.log(0.75 * 4) + 0.25 * math.log(0.25 * 4)
    assert found.metric("slot_access_kl").value == pytest.approx(expected)
    even = memory_health([], num_slots=[4], accesses={0: torch.ones(4)})
    assert even.metric("slot_access_kl").value == pytest.approx(0.0)
    unread = memory_health([], num_slots=[4], accesses={0: np.zeros(4)})
    assert (unread.metric("slot_access_share").value, unread.metric("slot_access_kl").n) == (0.0, 4)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="equally many rows"):
        rows("e", [1, 2], ["a"])
    for wrong in (rows("e", [8], ["a"]), rows("e", [-1], ["a"]), rows("e", [0], ["a"], table=1)):
        with pytest.raises(ValueError, match="slots of edit 'e' must lie below"):
            memory_health([wrong], num_slots=[8])
    with pytest.raises(ValueError, match="accesses"):
        memory_health([], num_slots=[8], accesses={0: [1.0]})


def test_what_only_python_measures_says_so():
    for name in ("slot_access_share", "slot_access_kl"):
        assert "in Python only: memory_health(..., accesses=...)" in metric_info(name).formula
