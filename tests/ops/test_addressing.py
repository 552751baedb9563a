"""Where kernels take a row to begin, for tables too large to allocate here."""

from __future__ import annotations

import os

import pytest
import torch

triton = pytest.importorskip("triton")
if os.environ.get("MEMEDIT_KERNELS") != "triton":
    pytest.skip("the address computation is the Triton kernels'", allow_module_level=True)

tl = triton.language
row_start = pytest.importorskip("memedit_kernels.addressing").row_start


@triton.jit
def addresses(rows_ptr, out_ptr, stride, num_rows: tl.constexpr):
    """The starts of the rows in a tensor, then those of a counted loop's numbers from 2^22 on."""
    at = tl.arange(0, num_rows)
    tl.store(out_ptr + at, row_start(tl.load(rows_ptr + at), stride))
    for number in range(2**22, 2**22 + 2):
        tl.store(out_ptr + num_rows + number - 2**22, row_start(number, stride))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rows_past_2_to_the_31_elements(dtype):
    rows = torch.tensor([0, 1, 2**22 + 1, 2**31 - 1], dtype=dtype)
    out = torch.zeros(6, dtype=torch.int64)
    addresses[(1,)](rows, out, 4096, num_rows=4)
    assert out.tolist() == [4096 * number for number in [*rows.tolist(), 2**22, 2**22 + 1]]
