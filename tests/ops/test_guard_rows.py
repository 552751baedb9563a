"""The guard rows themselves: what they would let pass, no test of a kernel would see."""

from __future__ import annotations

import math

import pytest
import torch

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("stray", [math.nan, 0.0, -77.0])
@pytest.mark.parametrize("at", [-1, 20])
def test_a_stray_write_is_caught(guard_rows, dtype, stray, at):
    output = guard_rows.new_output((4, 5), dtype, torch.device("cpu"))
    beside = output.as_strided((1,), (1,), output.storage_offset() + at)
    beside.fill_(-78 if math.isnan(stray) and not dtype.is_floating_point else stray)
    with pytest.raises(AssertionError, match="wrote outside its output"):
        guard_rows.check()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 5), (4, 0), (0, 5), (3,), ()])
def test_an_output_may_be_filled(guard_rows, dtype, shape):
    output = guard_rows.new_output(shape, dtype, torch.device("cpu"))
    assert output.shape == shape
    assert output.isnan().all() or not dtype.is_floating_point
    output.fill_(1)
    guard_rows.check()


@pytest.mark.parametrize("dtype", TYPES[:-1])
def test_reading_a_guard_row_shows(guard_rows, dtype):
    output = guard_rows.new_output((2, 3), dtype, torch.device("cpu"))
    assert output.as_strided((1,), (1,), 0).isnan().all()
