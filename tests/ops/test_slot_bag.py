"""The weighted sum of rows against a dense sum in fp64, with every gradient."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from drawn_slot_bags import KINDS, OVERLAYS, TABLES, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.slot_bag import NOT_WRITTEN, UNGATED, SlotOverlay, slot_bag
from memedit_kernels.slot_bag.reference import slot_bag_reference

EPS = torch.finfo(torch.float32).eps
# Tokens, slots, dim, look-ups a token: one of each, odd sizes, no multiple of a block, many duplicates.
SIZES = [(1, 1, 1, 1), (37, 63, 5, 9), (3, 150, 576, 63), (2, 40, 1000, 37), (5, 7, 130, 130)]


class Dense(NamedTuple):
    """The fp64 result, and the sums of magnitudes that bound what fp32 may lose."""

    out: torch.Tensor
    grads: tuple[torch.Tensor, ...]
    out_size: torch.Tensor
    grad_sizes: tuple[torch.Tensor, ...]


def dense_gate(owners, weights, thresholds, heads):
    """Gated weights, and the sum of the speaking owner's weights (1 where none speaks)."""
    numbers = torch.arange(len(thresholds))
    mass = (weights[..., None] * (owners[..., None] == numbers)).sum(1)
    top = mass.amax(-1, keepdim=True)
    best = torch.where(mass == top, numbers, len(thresholds)).amin(-1, keepdim=True)
    is_open = (top > 0) & (top / heads >= thresholds.double()[best])
    speaks = is_open & (owners == best)
    total = torch.where(is_open, mass.gather(1, best), torch.ones_like(top))
    return torch.where(speaks, weights / total, torch.where(owners == UNGATED, weights, 0.0)), total


def dense(slots, weights, base, overlay, grad_output):
    """Everything as whole matrices in fp64, differentiated by autograd."""
    weights = weights.detach().double().requires_grad_()
    read = torch.zeros(*slots.shape, grad_output.shape[1]) if base is None else base[slots]
    read, gated, total, inputs = read.double(), torch.zeros_like(weights), torch.ones(1), [weights]
    added = torch.zeros_like(read)
    if overlay is not None:
        values = overlay.values.detach().double().requires_grad_()
        hit = slots[..., None] == overlay.slots
        inputs.append(values)
        added = hit.double() @ values
        gated, total = weights * hit.any(-1), torch.ones(1)
        if overlay.owners is not None:
            owners = torch.where(hit.any(-1), (hit * overlay.owners).sum(-1), NOT_WRITTEN)
            gated, total = dense_gate(owners, weights, overlay.thresholds, overlay.heads)
    out = (weights[..., None] * read + gated[..., None] * added).sum(1)
    grad = grad_output.double()
    grads = torch.autograd.grad(out, inputs, grad)
    with torch.no_grad():
        out_size = (weights[..., None] * read.abs() + gated[..., None] * added.abs()).sum(1)
        base_dots, added_dots = ((grad.abs()[:, None] * rows.abs()).sum(-1) for rows in (read, added))
        # A speaking look-up's gradient is the difference of its dot and its owner's mean dot, over the sum.
        grad_sizes = [base_dots + (added_dots + added_dots.amax(-1, keepdim=True)) / total]
        if overlay is not None:
            grad_sizes.append(torch.einsum("tjn,tj,td->nd", hit.double(), gated, grad.abs()))
    return Dense(out.detach(), grads, out_size, tuple(grad_sizes))


def check(slots, weights, base, overlay, dtype, generator):
    """Compare the bag and both gradients with the dense sum."""
    tokens, per_token = slots.shape
    dim = (base if base is not None else overlay.values).shape[1]
    grad_output = torch.randn(tokens, dim, generator=generator).to(dtype)
    inputs = [weights.detach().requires_grad_()]
    if overlay is not None:
        inputs.append(overlay.values.detach().requires_grad_())
        overlay = overlay._replace(values=inputs[1])
    out = slot_bag(slots, inputs[0], base=base, overlay=overlay, dtype=dtype)
    grads = torch.autograd.grad(out, inputs, grad_output)
    expected = dense(slots, weights, base, overlay, grad_output)
    assert out.dtype == dtype
    # Sums of as many terms as look-ups; a gate's share is a quotient of such a sum. Then one cast: within one
    # unit in the last place, for the interpreter truncates bf16; fp16's smallest step is 2^-24.
    lost = (2 * per_token + 8) * EPS * expected.out_size
    cast = 0 if dtype == torch.float32 else torch.finfo(dtype).eps * (expected.out.abs() + lost) + 2**-24
    assert bool(((out.double() - expected.out).abs() <= lost + cast).all())
    terms = (dim + 2 * per_token + 8, tokens * per_token + 2 * per_token + 8)
    for grad, true, size, count in zip(grads, expected.grads, expected.grad_sizes, terms, strict=False):
        assert grad.dtype == torch.float32
        assert bool(((grad.double() - true).abs() <= count * EPS * size).all())


@pytest.mark.parametrize(("base_type", "kind"), KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_dense_sum(generator, size, base_type, kind):
    check(*draw(generator, *size, base_type, kind), torch.float32, generator)


@pytest.mark.parametrize(("base_type", "kind"), KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_results(generator, dtype, base_type, kind):
    check(*draw(generator, 7, 63, 37, 9, base_type, kind), dtype, generator)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_size_equals_the_dense_sum(data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    tokens, num_slots, dim, per_token = (data.draw(st.integers(1, high)) for high in (5, 20, 40, 12))
    base_type, kind = data.draw(st.sampled_from(KINDS))
    check(*draw(generator, tokens, num_slots, dim, per_token, base_type, kind), torch.float32, generator)


def test_no_hit_and_all_hits(generator):
    slots, weights, base, overlay = draw(generator, 6, 50, 20, 8, torch.float32, "gated")
    missed = torch.where(torch.isin(slots, overlay.slots), 2**40, slots)
    assert not slot_bag(missed, weights, overlay=overlay).any()
    hit = overlay.slots[slots % len(overlay.slots)]
    check(hit, weights, base, overlay, torch.float32, generator)
    none = SlotOverlay(overlay.slots[:0], overlay.values[:0], overlay.owners[:0], overlay.thresholds[:0])
    assert torch.equal(slot_bag(slots, weights, base=base, overlay=none), slot_bag(slots, weights, base=base))
    values = overlay.values.clone().requires_grad_()
    slot_bag(missed, weights, overlay=overlay._replace(values=values)).sum().backward()
    assert not values.grad.any()


@pytest.mark.parametrize("kind", OVERLAYS)
@pytest.mark.parametrize(("tokens", "per_token"), [(0, 3), (4, 0), (0, 0)])
def test_empty_sizes(generator, tokens, per_token, kind):
    _, _, base, overlay = draw(generator, 1, 9, 5, 1, torch.bfloat16, kind)
    slots, weights = torch.zeros(tokens, per_token, dtype=torch.int64), torch.rand(tokens, per_token)
    out = slot_bag(slots, weights.requires_grad_(), base=base, overlay=overlay, dtype=torch.bfloat16)
    assert out.shape == (tokens, 5)
    assert not out.any()
    assert torch.autograd.grad(out.sum(), weights)[0].shape == (tokens, per_token)


@pytest.mark.parametrize(("base_type", "kind"), KINDS)
def test_rows_without_columns(generator, base_type, kind):
    slots, weights, base, overlay = draw(generator, 4, 9, 0, 5, base_type, kind)
    inputs = [weights.requires_grad_()]
    if overlay is not None:
        inputs.append(overlay.values.requires_grad_())
    out = slot_bag(slots, weights, base=base, overlay=overlay, dtype=torch.bfloat16)
    assert out.shape == (4, 0)
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.sum(), inputs)
    assert [grad.shape for grad in grads] == [given.shape for given in inputs]
    assert not grads[0].any()


@pytest.mark.parametrize("base_type", TABLES[1:])
def test_strided_input(generator, base_type):
    slots, weights, _, overlay = draw(generator, 12, 40, 16, 8, None, "gated")
    overlay = overlay._replace(
        slots=overlay.slots[::2],
        values=overlay.values.T.contiguous().T[::2],
        owners=overlay.owners[::2],
        thresholds=overlay.thresholds.repeat_interleave(2)[::2],
    )
    table = torch.randn(80, 37, generator=generator).to(base_type)[::2, :16]
    check(slots.T[:, :5], weights.T[:, :5], table, overlay, torch.float32, generator)


def test_gradients_of_the_formula(generator, on_triton):
    """Several owners, ungated rows, open and closed gates, a weight of 0 among those that speak."""
    slots, weights, base, overlay = draw(generator, 4, 10, 2, 5, torch.float64, "gated")
    slots = overlay.slots[slots % len(overlay.slots)].contiguous()
    owners = torch.tensor([0, 0, 1, UNGATED, 2])
    thresholds = torch.tensor([0.05, 0.1, 0.9])
    slots[0] = overlay.slots[torch.tensor([0, 1, 0, 2, 3])]
    slots[1] = overlay.slots[torch.tensor([4, 4, 4, 2, 3])]
    weights[0, 1] = 1e-3
    inputs = weights.double().requires_grad_(), overlay.values.double().requires_grad_()
    for table in (base,) if on_triton else (base, None):
        for gate in ({"owners": owners, "thresholds": thresholds, "heads": 2}, {}):

            def bag(weights, values, table=table, gate=gate):
                overlay_now = SlotOverlay(overlay.slots, values, **gate)
                return slot_bag(slots, weights, base=table, overlay=overlay_now, dtype=torch.float64)

            assert torch.autograd.gradcheck(bag, inputs)


def test_a_closed_gate_gets_no_gradient():
    values, weights = torch.randn(2, 3, requires_grad=True), torch.tensor([[0.2, 0.8]], requires_grad=True)
    overlay = SlotOverlay(
        torch.tensor([1, 4]), values, torch.tensor([0, UNGATED]), torch.tensor([0.5]), heads=1
    )
    out = slot_bag(torch.tensor([[1, 4]]), weights, overlay=overlay)
    torch.testing.assert_close(out, 0.8 * values[1:])
    out.sum().backward()
    assert not values.grad[0].any()
    assert weights.grad[0, 0] == 0.0


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_gradient_that_overflowed_stays_where_it_was_heard():
    """0 * inf is NaN, so what added nothing must be left out, not multiplied by 0."""
    values, weights = (
        torch.randn(2, 3, requires_grad=True),
        torch.tensor([[0.2, 0.8, 0.5]], requires_grad=True),
    )
    overlay = SlotOverlay(torch.tensor([1, 4]), values, torch.tensor([0, UNGATED]), torch.tensor([0.5]))
    out = slot_bag(torch.tensor([[1, 4, 9]]), weights, overlay=overlay)
    out.backward(torch.full((1, 3), torch.inf))
    assert not values.grad[0].any()
    assert weights.grad[0, [0, 2]].tolist() == [0.0, 0.0]
    assert values.grad[1].isinf().all()


def test_a_speaking_weight_of_zero_has_a_gradient():
    values, weights = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5, 0.0]], requires_grad=True)
    overlay = SlotOverlay(torch.tensor([1, 4]), values, torch.tensor([0, 0]), torch.tensor([0.1]))
    slot_bag(torch.tensor([[1, 4]]), weights, overlay=overlay).sum().backward()
    assert weights.grad.tolist() == [[0.0, 4.0]]


@pytest.mark.parametrize("heads", [1, 3])
def test_gates_that_are_met_exactly(generator, heads):
    """Multiples of 1/8 add up exactly, so that thresholds are met and owners tie exactly."""
    weights = torch.randint(0, 5, (40, 9), generator=generator) / 8
    owners = torch.randint(UNGATED, 3, (12,), generator=generator)
    thresholds = torch.randint(0, 5, (3,), generator=generator) / 8
    slots = torch.randint(0, 18, weights.shape, generator=generator)
    overlay = SlotOverlay(torch.arange(12), torch.eye(12), owners, thresholds, heads)
    out = slot_bag(slots, weights, overlay=overlay)
    expected = dense(slots, weights, None, overlay, torch.zeros_like(out)).out
    assert torch.equal(out != 0, expected != 0)
    torch.testing.assert_close(out.double(), expected, rtol=4 * EPS, atol=0)


def test_gates_open_alike_on_every_backend(generator):
    """Thresholds that are the very masses in fp32: a sum in another order would close some of the gates."""
    slots = torch.randint(0, 3, (30, 150 if generator.initial_seed() % 2 else 20), generator=generator)
    weights = torch.rand(slots.shape, generator=generator)
    mass = weights.new_zeros(30, 3)
    for column in range(slots.shape[1]):
        mass.scatter_add_(1, slots[:, column : column + 1], weights[:, column : column + 1])
    for token in range(len(slots)):
        overlay = SlotOverlay(torch.arange(3), torch.eye(3), torch.arange(3), mass[token] / 2, heads=2)
        arguments = (slots[token : token + 1], weights[token : token + 1], None, *overlay, torch.float32)
        _, rows, gated = torch.ops.memedit.slot_bag(*arguments)
        _, reference_rows, reference_gated = slot_bag_reference(*arguments)
        assert gated.any()
        assert torch.equal(rows, reference_rows)
        assert torch.equal(gated, reference_gated)


@pytest.mark.parametrize(("tokens", "per_token"), [(4, 300), (1, 4096)])
def test_bags_of_any_size(generator, tokens, per_token):
    """Owners in the first and last block: one wins, two tie (the lower first, then last), the last loses."""
    slots = torch.randint(100, 1000, (tokens, per_token), generator=generator)
    slots[:, [0, 130, -1]] = torch.tensor([[3, 7, 3], [3, 7, 7], [7, 7, 3], [3, 3, 7]])[:tokens]
    weights = torch.rand(tokens, per_token, generator=generator) / per_token
    own = torch.tensor([[0.2, 0.3, 0.2], [0.25, 0.125, 0.125], [0.125, 0.125, 0.25], [0.25, 0.125, 0.125]])
    weights[:, [0, 130, -1]] = own[:tokens]
    overlay = SlotOverlay(
        torch.tensor([3, 7]), torch.randn(2, 5, generator=generator), torch.tensor([0, 1]), torch.zeros(2)
    )
    check(slots, weights, torch.randn(1000, 5, generator=generator), overlay, torch.float32, generator)
