"""The weighted sum of rows against a loop, and its gradients against differences."""

from __future__ import annotations

import pytest
import torch
from memedit_kernels.slot_bag import slot_bag


def looped(values, rows, weights):
    output = torch.zeros(len(rows), values.shape[1], dtype=torch.float64)
    for token in range(len(rows)):
        for row, weight in zip(rows[token].tolist(), weights[token].tolist(), strict=True):
            if row >= 0:
                output[token] += weight * values[row].double()
    return output


def random_case(tokens, num_rows, dim, per_token, missing, dtype=torch.float32):
    rows = torch.randint(0, num_rows, (tokens, per_token))
    rows[torch.rand(tokens, per_token) < missing] = -1
    return torch.randn(num_rows, dim).to(dtype), rows, torch.rand(tokens, per_token)


@pytest.mark.parametrize("missing", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("tokens", "num_rows", "dim"), [(37, 63, 5), (1, 1, 1), (200, 1000, 48)])
def test_equals_the_loop(missing, dtype, tokens, num_rows, dim):
    values, rows, weights = random_case(tokens, num_rows, dim, 9, missing, dtype)
    output = slot_bag(values, rows, weights)
    assert output.dtype == torch.float32
    # At most 9 products of numbers below 6, summed in fp32 whatever the table's type.
    tolerance = 9 * 9 * 6 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(output.double(), looped(values, rows, weights), atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_missing_rows_change_no_bit(dtype):
    values, rows, weights = random_case(20, 30, 7, 6, 0.0, dtype)
    padded_rows = torch.cat([torch.full((20, 4), -1), rows, torch.full((20, 3), -1)], dim=1)
    padded_weights = torch.cat([torch.rand(20, 4), weights, torch.rand(20, 3)], dim=1)
    assert torch.equal(slot_bag(values, rows, weights), slot_bag(values, padded_rows, padded_weights))


def test_chunks_give_what_one_piece_gives(monkeypatch):
    from memedit_kernels.slot_bag import reference

    values, rows, weights = random_case(30, 40, 8, 6, 0.3, torch.bfloat16)
    whole = slot_bag(values, rows, weights)
    monkeypatch.setattr(reference, "_CHUNK_ELEMENTS", 8 * 7)
    assert torch.equal(whole, slot_bag(values, rows, weights))


@pytest.mark.parametrize("table_dtype", [torch.float64, torch.float32])
def test_gradients(table_dtype):
    values, rows, weights = random_case(6, 5, 3, 4, 0.4)
    values = values.to(table_dtype).requires_grad_()
    weights = weights.double().requires_grad_()
    if table_dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda v, w: slot_bag(v, rows, w), (values, weights))
    else:
        # The path that gathers: values of another type than the weights.
        slot_bag(values, rows, weights).pow(2).sum().backward()
        other = values.detach().double().requires_grad_()
        other_weights = weights.detach().clone().requires_grad_()
        slot_bag(other, rows, other_weights).pow(2).sum().backward()
        torch.testing.assert_close(weights.grad, other_weights.grad)
        torch.testing.assert_close(values.grad.double(), other.grad, rtol=1e-5, atol=1e-6)


def test_rows_that_no_token_reads_get_no_gradient():
    values = torch.randn(10, 4, requires_grad=True)
    rows = torch.tensor([[3, -1], [3, 7]])
    slot_bag(values, rows, torch.ones(2, 2)).sum().backward()
    touched = values.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [3, 7]


def test_no_hit_still_has_a_gradient():
    values = torch.randn(4, 3, requires_grad=True)
    output = slot_bag(values, torch.full((2, 5), -1), torch.rand(2, 5))
    assert not output.any()
    output.sum().backward()
    assert not values.grad.any()


@pytest.mark.parametrize(("tokens", "num_rows", "per_token"), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty_sizes(tokens, num_rows, per_token):
    rows = torch.full((tokens, per_token), -1)
    output = slot_bag(torch.randn(num_rows, 5), rows, torch.rand(tokens, per_token))
    assert output.shape == (tokens, 5)
    assert not output.any()


@pytest.mark.parametrize(
    ("values", "rows", "weights", "named"),
    [
        (torch.zeros(4), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), "values"),
        (
            torch.zeros(4, 2, dtype=torch.int64),
            torch.zeros(2, 3, dtype=torch.int64),
            torch.zeros(2, 3),
            "values",
        ),
        (torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3), "rows"),
        (torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 4), "weights"),
        (torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3).half(), "weights"),
        (torch.zeros(4, 2), torch.tensor([[0, 4]]), torch.zeros(1, 2), "rows"),
        (torch.zeros(4, 2), torch.tensor([[0, -2]]), torch.zeros(1, 2), "rows"),
    ],
)
def test_refuses_what_does_not_fit(values, rows, weights, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        slot_bag(values, rows, weights)
