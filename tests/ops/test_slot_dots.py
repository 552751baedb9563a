"""The product of tokens with the rows they look up, against loops and autograd."""

from __future__ import annotations

import pytest
import torch
from memedit_kernels.slot_bag import slot_dots


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "j", "rows", "dim"), [(1, 1, 1, 1), (5, 3, 37, 63), (7, 9, 11, 130)])
def test_equals_loops(dtype, tokens, j, rows, dim):
    inputs, slots = torch.randn(tokens, dim), torch.randint(0, rows, (tokens, j))
    table = torch.randn(rows, dim).to(dtype)
    found = slot_dots(inputs, slots, table)
    for token in range(tokens):
        for column in range(j):
            row = table[slots[token, column]].double()
            exact, size = inputs[token].double() @ row, inputs[token].double().abs() @ row.abs()
            # dim products summed in fp32, in any order.
            allowed = dim * torch.finfo(torch.float32).eps * size
            assert abs(found[token, column].double() - exact) <= allowed


def test_gradients_equal_autograd():
    inputs, slots = torch.randn(6, 8, requires_grad=True), torch.randint(0, 5, (6, 4))
    table, towards = torch.randn(5, 8, requires_grad=True), torch.randn(6, 4)
    slot_dots(inputs, slots, table).backward(towards)
    found = (inputs.grad.clone(), table.grad.clone())
    inputs.grad = table.grad = None
    (table[slots] * inputs[:, None]).sum(-1).backward(towards)
    # Rows get at most 24 products each: a few rounding errors of fp32.
    torch.testing.assert_close(found[0], inputs.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], table.grad, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"inputs: got \(3, 8\), expected \(2, 8\)"):
        slot_dots(torch.randn(3, 8), torch.zeros(2, 4, dtype=torch.int64), torch.randn(5, 8))
    with pytest.raises(ValueError, match="slots"):
        slot_dots(torch.randn(2, 8), torch.full((2, 4), 5), torch.randn(5, 8))
