"""The ownership gate against a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.slot_bag import NOT_WRITTEN, UNGATED, lookup_owners, ownership_gate
from torch.utils._python_dispatch import TorchDispatchMode


def looped_gate(owners, weights, thresholds, heads):
    gated, best, masses = torch.zeros_like(weights), [], []
    for token in range(len(weights)):
        totals = {}
        for owner, weight in zip(owners[token].tolist(), weights[token].tolist(), strict=True):
            if owner >= 0:
                totals[owner] = totals.get(owner, 0.0) + weight
        chosen = max(totals, key=lambda owner: (totals[owner], -owner)) if totals else -1
        mass = totals.get(chosen, 0.0) / heads
        is_open = chosen >= 0 and mass > 0 and mass >= float(thresholds[chosen])
        for column, owner in enumerate(owners[token].tolist()):
            if owner == UNGATED:
                gated[token, column] = weights[token, column]
            elif owner >= 0 and owner == chosen and is_open:
                gated[token, column] = weights[token, column] / totals[chosen]
        best.append(chosen)
        masses.append(mass)
    return gated, torch.tensor(best, dtype=torch.int64), torch.tensor(masses, dtype=weights.dtype)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_gate_equals_the_loop(data):
    tokens, heads, per_head = (data.draw(st.integers(low, high)) for low, high in [(0, 9), (1, 3), (1, 5)])
    num_owners = data.draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    # Multiples of 1/8 add up exactly in any order, so that ties and thresholds are met exactly.
    eighths = torch.randint(0, 5, (tokens, heads * per_head), generator=generator).double() / 8
    owners = torch.randint(NOT_WRITTEN, num_owners, eighths.shape, generator=generator)
    thresholds = torch.randint(0, 9, (num_owners,), generator=generator).double() / 8
    got = ownership_gate(owners, eighths, thresholds, heads)
    for mine, expected in zip(got, looped_gate(owners, eighths, thresholds, heads), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-15, atol=0)


def test_a_tie_goes_to_the_lower_owner():
    owners = torch.tensor([[2, 1, 2, 1]])
    _, best, mass = ownership_gate(owners, torch.full((1, 4), 0.25), torch.zeros(3), heads=1)
    assert best.tolist() == [1]
    assert mass.tolist() == [0.5]


def test_threshold_is_reached_or_not():
    owners, weights = torch.tensor([[0, NOT_WRITTEN], [0, UNGATED]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    gated, best, mass = ownership_gate(owners, weights, torch.tensor([0.5]), heads=1)
    assert gated.tolist() == [[1.0, 0.0], [0.0, 0.75]]
    assert best.tolist() == [0, 0]
    assert mass.tolist() == [0.5, 0.25]


def test_weights_that_underflow_give_no_nan():
    gated, best, _ = ownership_gate(torch.tensor([[0, 0]]), torch.zeros(1, 2), torch.zeros(1), heads=1)
    assert gated.tolist() == [[0.0, 0.0]]
    assert best.tolist() == [0]


def test_a_token_does_not_depend_on_its_batch():
    owners, weights = torch.randint(NOT_WRITTEN, 6, (40, 12)), torch.rand(40, 12)
    thresholds = torch.rand(6)
    whole = ownership_gate(owners, weights, thresholds, heads=2)
    for token in range(40):
        alone = ownership_gate(owners[token : token + 1], weights[token : token + 1], thresholds, heads=2)
        assert all(torch.equal(part[token : token + 1], one) for part, one in zip(whole, alone, strict=True))


def test_gradients_reach_the_weights():
    owners = torch.tensor([[0, 0, 1, UNGATED, NOT_WRITTEN], [1, 0, 1, UNGATED, UNGATED]])
    weights = torch.tensor([[0.3, 0.2, 0.1, 0.2, 0.2], [0.4, 0.1, 0.2, 0.2, 0.1]], dtype=torch.float64)
    thresholds = torch.tensor([0.2, 0.2], dtype=torch.float64)
    weights.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: ownership_gate(owners, w, thresholds, 1)[0], (weights,))


class RecordedOps(TorchDispatchMode):
    """Names of the ops that torch runs."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__.rstrip("_"))
        return func(*args, **(kwargs or {}))


def test_no_sum_is_left_to_the_order_in_which_threads_come():
    """On a GPU these ops add with atomics; the CPU's results cannot show it."""
    owners, weights = torch.randint(NOT_WRITTEN, 3, (20, 12)), torch.rand(20, 12, requires_grad=True)
    with RecordedOps() as recorded:
        ownership_gate(owners, weights, torch.zeros(3), heads=2)[0].sum().backward()
    assert {"embedding_dense_backward", "sort"} <= recorded.names
    assert not recorded.names & {"index_add", "scatter_add", "index_reduce", "put"}


def test_the_same_bits_whatever_the_number_of_threads():
    owners = torch.randint(0, 2, (500, 256))
    weights, grad = torch.rand(owners.shape, requires_grad=True), torch.randn(owners.shape)
    results, threads = [], torch.get_num_threads()
    # The fixture's setting makes torch pick ops that add in order, which a user's process does not.
    torch.use_deterministic_algorithms(mode=False)
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 4)
            gated, _, mass = ownership_gate(owners, weights, torch.zeros(2), heads=2)
            results.append((gated, mass, *torch.autograd.grad(gated, weights, grad)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for run in results[1:] for pair in zip(run, results[0], strict=True))


def test_owners_of_lookups():
    rows = torch.tensor([[2, -1, 1], [0, -1, -1]])
    owners = lookup_owners(torch.tensor([0, UNGATED, 1]), rows)
    assert owners.tolist() == [[1, NOT_WRITTEN, UNGATED], [0, NOT_WRITTEN, NOT_WRITTEN]]
    assert (lookup_owners(owners[0, :0], torch.full_like(rows, -1)) == NOT_WRITTEN).all()


@pytest.mark.parametrize(
    ("named", "owners", "rows"),
    [
        ("rows", torch.tensor([0, 1]), torch.tensor([[0, 2]])),
        ("rows", torch.tensor([0, 1]), torch.tensor([[0, -2]])),
        ("rows", torch.empty(0, dtype=torch.int64), torch.tensor([[0]])),
        ("rows", torch.tensor([0, 1]), torch.tensor([[0.0]])),
        ("rows", torch.tensor([0, 1]), torch.tensor([0])),
        ("owners", torch.tensor([0.0, 1.0]), torch.tensor([[0]])),
        ("owners", torch.tensor([[0, 1]]), torch.tensor([[0]])),
    ],
)
def test_lookup_owners_refuses_what_does_not_fit(named, owners, rows):
    with pytest.raises(ValueError, match=f"^{named}: got .* expected"):
        lookup_owners(owners, rows)


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("owner_per_lookup", {"owner_per_lookup": torch.tensor([[0, 2]])}),
        ("owner_per_lookup", {"owner_per_lookup": torch.tensor([[0, NOT_WRITTEN - 1]])}),
        ("owner_per_lookup", {"owner_per_lookup": torch.tensor([[0.0, 1.0]])}),
        ("owner_per_lookup", {"owner_per_lookup": torch.tensor([0, 1])}),
        ("owner_per_lookup", {"thresholds": torch.zeros(0)}),
        ("weights", {"weights": torch.ones(1, 3)}),
        ("weights", {"weights": torch.ones(1, 2).bfloat16()}),
        ("weights", {"weights": torch.tensor([[0.5, float("nan")]])}),
        ("weights", {"weights": torch.tensor([[0.5, -0.5]])}),
        ("thresholds", {"thresholds": torch.zeros(2, 1)}),
        ("thresholds", {"thresholds": torch.zeros(2, dtype=torch.int64)}),
        ("heads", {"heads": 0}),
        ("heads", {"heads": 2.5}),
    ],
)
def test_the_gate_refuses_what_does_not_fit(named, change):
    fitting = {"owner_per_lookup": torch.tensor([[0, 1]]), "weights": torch.full((1, 2), 0.5)}
    with pytest.raises(ValueError, match=f"^{named}: got .* expected"):
        ownership_gate(**{**fitting, "thresholds": torch.zeros(2), "heads": 1, **change})
