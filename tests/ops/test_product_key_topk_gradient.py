"""The gradient of the product-key search against all sums in fp64, on every run and traced by torch."""

from __future__ import annotations

import pytest
import torch
from every_sum import every_sum
from memedit_kernels.product_key_topk import product_key_topk


def dense_gradients(queries, sub_keys, slots, grad_scores):
    """Gradients by autograd through all n * n sums in fp64."""
    queries, sub_keys = (tensor.detach().double().requires_grad_() for tensor in (queries, sub_keys))
    every_sum(queries, sub_keys).gather(-1, slots).backward(grad_scores.double())
    return queries.grad, sub_keys.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("tokens", "num_keys", "key_dim", "k"), [(5, 7, 6, 3), (37, 63, 34, 16), (40, 2, 4, 2)]
)
def test_gradients_against_fp64(tokens, num_keys, key_dim, k, dtype, on_triton):
    tokens = min(tokens, 4) if on_triton else tokens
    queries = torch.randn(tokens, 2, key_dim).to(dtype).requires_grad_()
    sub_keys = torch.randn(2, 2, num_keys, key_dim // 2).to(dtype).requires_grad_()
    slots, scores = product_key_topk(queries, sub_keys, k)
    grad_scores = torch.randn(scores.shape)
    scores.backward(grad_scores)
    expected = dense_gradients(queries, sub_keys, slots, grad_scores)
    sizes = dense_gradients(queries.abs(), sub_keys.abs(), slots, grad_scores.abs())
    for got, want, size, terms in zip((queries, sub_keys), expected, sizes, (k, tokens * k), strict=True):
        assert got.grad.dtype == dtype
        # A product and a sum a term in fp32, each relative to at most the sum of the terms' sizes; then one
        # cast (the interpreter truncates a bf16 store, so a whole eps, not half).
        tolerance = (2 * terms * torch.finfo(torch.float32).eps + torch.finfo(dtype).eps) * size
        assert ((got.grad.double() - want).abs() <= tolerance).all()


def test_a_key_found_by_more_tokens_than_a_piece_sums(on_triton):
    tokens = 3 if on_triton else 700
    queries, sub_keys = torch.ones(tokens, 1, 4), torch.zeros(1, 2, 3, 2)
    sub_keys[0, :, 1] = 1.0
    sub_keys.requires_grad_()
    _, scores = product_key_topk(queries, sub_keys, 1)
    scores.sum().backward()
    expected = torch.zeros(1, 2, 3, 2)
    expected[0, :, 1] = tokens
    assert torch.equal(sub_keys.grad, expected)


@pytest.mark.parametrize("wanted", ["queries", "sub_keys"])
def test_only_the_gradient_that_is_asked_for(wanted, monkeypatch):
    from memedit_kernels.product_key_topk import gradient

    unwanted = "row_gradient" if wanted == "queries" else "slot_bag"
    monkeypatch.setattr(gradient, unwanted, None)
    given_tensors = {"queries": torch.randn(3, 2, 4), "sub_keys": torch.randn(2, 2, 5, 2)}
    given_tensors[wanted].requires_grad_()
    product_key_topk(**given_tensors, k=2)[1].sum().backward()
    assert given_tensors[wanted].grad.any()


def test_gradcheck():
    queries = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    sub_keys = torch.randn(2, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *tensors: product_key_topk(*tensors, 2)[1], (queries, sub_keys))


def test_a_second_derivative_is_an_error_not_a_zero():
    queries = torch.randn(2, 1, 4, requires_grad=True)
    _, scores = product_key_topk(queries, torch.randn(1, 2, 5, 2), 2)
    (gradient,) = torch.autograd.grad((scores**2).sum(), queries, create_graph=True)
    with pytest.raises(RuntimeError, match="product_key_topk_backward"):
        gradient.sum().backward()


def test_slots_carry_no_gradient():
    slots, scores = product_key_topk(torch.randn(2, 1, 4, requires_grad=True), torch.randn(1, 2, 5, 2), 2)
    assert not slots.requires_grad
    assert scores.requires_grad


def test_the_same_bits_on_every_run(on_triton):
    tokens, num_keys, runs = (1, 40, 3) if on_triton else (300, 200, 20)
    queries = torch.randn(tokens, 2, 32, requires_grad=True)
    sub_keys = torch.randn(2, 2, num_keys, 16, requires_grad=True)
    grad_scores = torch.randn(tokens, 2, 8)

    def run():
        slots, scores = product_key_topk(queries, sub_keys, 8)
        return [slots, scores.detach(), *torch.autograd.grad(scores, (queries, sub_keys), grad_scores)]

    num_threads, first = torch.get_num_threads(), run()
    try:
        for repeat in range(runs):
            torch.set_num_threads(repeat % 4 + 1)
            assert all(torch.equal(one, other) for one, other in zip(first, run(), strict=True))
    finally:
        torch.set_num_threads(num_threads)


def test_registered_as_pytorch_expects(unguarded):
    queries = torch.randn(2, 2, 4, requires_grad=True)
    sub_keys = torch.randn(2, 2, 5, 2, requires_grad=True)
    ops = torch.ops.memedit
    # Not test_aot_dispatch_dynamic: it adds fp32 scores to the int64 sum of the slots in place. The test
    # below compares gradients through the same tracing.
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.product_key_topk.default, (queries, sub_keys, 3), test_utils=utilities)
    slots, scores = product_key_topk(queries.detach(), sub_keys.detach(), 3)
    for wanted in ((True, True), (False, True), (True, False)):
        arguments = (scores, slots, queries.detach(), sub_keys.detach(), *wanted)
        torch.library.opcheck(ops.product_key_topk_backward.default, arguments)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("with_gradient", [(True, True), (False, True), (False, False)])
def test_compiles_without_a_break(backend, with_gradient):
    compiled = torch.compile(product_key_topk, fullgraph=True, backend=backend)
    tensors = torch.randn(2, 2, 4), torch.randn(2, 2, 5, 2)
    wanted = [tensor.requires_grad_() for tensor, flag in zip(tensors, with_gradient, strict=True) if flag]
    slots, scores = compiled(*tensors, 3)
    expected_slots, expected_scores = product_key_topk(*tensors, 3)
    assert torch.equal(slots, expected_slots)
    assert torch.equal(scores, expected_scores)
    assert scores.requires_grad == bool(wanted)
    if wanted:
        got, expected = (torch.autograd.grad(out.sum(), wanted) for out in (scores, expected_scores))
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
