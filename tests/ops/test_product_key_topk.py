"""The product-key search against all n * n sums, sorted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.product_key_topk import product_key_topk


def every_sum(queries, sub_keys):
    """Scores of all slots, fp64 [tokens, heads, n * n], from half scores rounded to fp32."""
    half = queries.shape[-1] // 2
    first = torch.einsum("thd,hnd->thn", queries[..., :half], sub_keys[:, 0]).double()
    second = torch.einsum("thd,hnd->thn", queries[..., half:], sub_keys[:, 1]).double()
    return (first[..., :, None] + second[..., None, :]).flatten(-2)


def brute_force(queries, sub_keys, k):
    scores = every_sum(queries, sub_keys)
    slots = torch.empty(*scores.shape[:2], k, dtype=torch.int64)
    for token in range(scores.shape[0]):
        for head in range(scores.shape[1]):
            row = scores[token, head].tolist()
            order = sorted(range(len(row)), key=lambda slot: (-row[slot], slot))
            slots[token, head] = torch.tensor(order[:k])
    return slots, scores.gather(-1, slots)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_brute_force_with_many_ties(data):
    tokens, heads = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    num_keys, half = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    k = data.draw(st.integers(1, num_keys**2))
    levels = data.draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    # Small integers: every score is exact, and most of them tie.
    queries = torch.randint(-levels, levels + 1, (tokens, heads, 2 * half), generator=generator).float()
    sub_keys = torch.randint(-levels, levels + 1, (heads, 2, num_keys, half), generator=generator).float()
    slots, scores = product_key_topk(queries, sub_keys, k)
    expected_slots, expected_scores = brute_force(queries, sub_keys, k)
    assert torch.equal(slots, expected_slots)
    assert torch.equal(scores.double(), expected_scores)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), num_keys=st.integers(1, 12), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_near_ties_are_ordered_by_the_exact_sum(seed, num_keys, scale):
    generator = torch.Generator().manual_seed(seed)
    # One component a half: the half score is one rounded product, the same however it is computed. The second
    # half's scores are so much larger that fp32 sums of different slots collide.
    queries = torch.stack([torch.randn(3, 2, generator=generator) * scale, torch.full((3, 2), 512.0)], dim=-1)
    sub_keys = torch.randn(2, 2, num_keys, 1, generator=generator)
    k = min(8, num_keys**2)
    slots, scores = product_key_topk(queries, sub_keys, k)
    expected_slots, expected_scores = brute_force(queries, sub_keys, k)
    assert torch.equal(slots, expected_slots)
    assert torch.equal(scores, expected_scores.float())


@pytest.mark.parametrize(("tokens", "num_keys", "key_dim"), [(37, 63, 10), (1, 512, 256), (1000, 17, 6)])
def test_odd_and_large_sizes(tokens, num_keys, key_dim):
    queries, sub_keys = torch.randn(tokens, 2, key_dim), torch.randn(2, 2, num_keys, key_dim // 2)
    slots, scores = product_key_topk(queries, sub_keys, 16)
    full = every_sum(queries, sub_keys)
    # Sums of key_dim products in fp32, in another order than einsum's.
    tolerance = key_dim * torch.finfo(torch.float32).eps * float(full.abs().max())
    torch.testing.assert_close(scores.double(), full.gather(-1, slots), atol=tolerance, rtol=0)
    torch.testing.assert_close(scores.double(), full.topk(16, dim=-1).values, atol=tolerance, rtol=0)
    assert all(len(set(row)) == 16 for row in slots.flatten(0, 1).tolist())


def test_chunks_give_what_one_piece_gives(monkeypatch):
    from memedit_kernels.product_key_topk import reference

    queries, sub_keys = torch.randint(-2, 3, (50, 2, 4)).float(), torch.randint(-2, 3, (2, 2, 9, 2)).float()
    slots, scores = product_key_topk(queries, sub_keys, 5)
    monkeypatch.setattr(reference, "_CHUNK_ELEMENTS", 7 * 2 * 2 * 9)
    chunked_slots, chunked_scores = product_key_topk(queries, sub_keys, 5)
    assert torch.equal(slots, chunked_slots)
    assert torch.equal(scores, chunked_scores)


def test_no_tokens():
    slots, scores = product_key_topk(torch.empty(0, 2, 4), torch.zeros(2, 2, 3, 2), 4)
    assert slots.shape == scores.shape == (0, 2, 4)
    assert slots.dtype == torch.int64


def test_zero_and_minus_zero_tie():
    sub_keys = torch.tensor([[[[-0.0], [0.0]], [[0.0], [-0.0]]]])
    slots, _ = product_key_topk(torch.ones(1, 1, 2), sub_keys, 4)
    assert slots.flatten().tolist() == [0, 1, 2, 3]


def test_gradients_reach_queries_and_sub_keys():
    queries = torch.randn(5, 2, 6, requires_grad=True)
    sub_keys = torch.randn(2, 2, 7, 3, requires_grad=True)
    slots, scores = product_key_topk(queries, sub_keys, 3)
    scores.sum().backward()
    others = [tensor.detach().clone().requires_grad_() for tensor in (queries, sub_keys)]
    half = 3
    first = torch.einsum("thd,hnd->thn", others[0][..., :half], others[1][:, 0])
    second = torch.einsum("thd,hnd->thn", others[0][..., half:], others[1][:, 1])
    (first[..., :, None] + second[..., None, :]).flatten(-2).gather(-1, slots).sum().backward()
    torch.testing.assert_close(queries.grad, others[0].grad)
    torch.testing.assert_close(sub_keys.grad, others[1].grad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("argument", ["queries", "sub_keys"])
def test_refuses_non_finite(bad, argument):
    given_arguments = {"queries": torch.randn(3, 2, 4), "sub_keys": torch.randn(2, 2, 5, 2)}
    given_arguments[argument].view(-1)[3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinite"):
        product_key_topk(**given_arguments, k=2)


@pytest.mark.parametrize(
    ("queries", "sub_keys", "k", "named"),
    [
        ((3, 8), (2, 2, 5, 2), 2, "queries"),
        ((3, 2, 5), (2, 2, 5, 2), 2, "queries"),
        ((3, 2, 4), (3, 2, 5, 2), 2, "sub_keys"),
        ((3, 2, 4), (2, 1, 5, 2), 2, "sub_keys"),
        ((3, 2, 4), (2, 2, 5, 4), 2, "sub_keys"),
        ((3, 2, 4), (2, 2, 5, 2), 0, "k"),
        ((3, 2, 4), (2, 2, 5, 2), 26, "k"),
    ],
)
def test_refuses_what_does_not_fit(queries, sub_keys, k, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        product_key_topk(torch.zeros(queries), torch.zeros(sub_keys), k)


def test_refuses_half_precision():
    with pytest.raises(ValueError, match=r"queries: got torch.bfloat16"):
        product_key_topk(torch.zeros(1, 1, 2, dtype=torch.bfloat16), torch.zeros(1, 2, 3, 1), 1)
