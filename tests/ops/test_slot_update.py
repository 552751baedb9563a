"""Updates of rows against plain arithmetic in fp64 and against torch.optim; what was replaced comes back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.slot_update import RowAdagrad, RowAdam, Sgd, slot_restore, slot_update

TYPES = [torch.float32, torch.bfloat16, torch.float16]
RULES = {
    "sgd": Sgd(0.3),
    "momentum": Sgd(0.3, momentum=0.9),
    "adagrad": RowAdagrad(0.3),
    "adam": RowAdam(0.3, 0.9, 0.99),
}
# Large enough that it matters where epsilon stands.
LARGE_EPSILON = {"adagrad-epsilon": RowAdagrad(0.3, 0.5), "adam-epsilon": RowAdam(0.3, 0.8, 0.9, 0.5)}
EPS = torch.finfo(torch.float32).eps


def bits(values):
    return values.view({2: torch.int16, 4: torch.int32}[values.element_size()])


def in_fp64(values, gradient, rule, state):
    """One step of some rows in fp64: the values, the new state, and how far fp32 may be from each.

    An expression of n operations on terms of the sizes given is off by at most n rounding errors of the sum
    of those sizes; a sum of dim squares, by dim of them. Inputs count as exact: the op was given the same.
    """
    values, gradient, dim = values.double(), gradient.double(), gradient.shape[1]
    state = [part.double() for part in state]
    if isinstance(rule, Sgd):
        buffer = rule.momentum * state[0] + gradient if rule.momentum else gradient
        sizes = rule.momentum * state[0].abs() + gradient.abs() if rule.momentum else gradient.abs()
        step, step_error = rule.learning_rate * buffer, 4 * EPS * rule.learning_rate * sizes
        after = [(buffer, 3 * EPS * sizes)] if rule.momentum else []
    elif isinstance(rule, RowAdagrad):
        sums = state[0] + gradient.square().sum(1) / dim
        step = rule.learning_rate * gradient / (sums.sqrt() + rule.epsilon)[:, None]
        step_error, after = (dim + 8) * EPS * step.abs(), [(sums, (dim + 3) * EPS * sums)]
    else:
        first = rule.beta1 * state[0] + (1 - rule.beta1) * gradient
        second = rule.beta2 * state[1] + (1 - rule.beta2) * gradient.square()
        steps = state[2] + 1
        rate = rule.learning_rate * (1 - rule.beta2**steps).sqrt() / (1 - rule.beta1**steps)
        divisor = second.sqrt() + rule.epsilon
        step = rate[:, None] * first / divisor
        sizes = rule.beta1 * state[0].abs() + (1 - rule.beta1) * gradient.abs()
        step_error = 12 * EPS * rate[:, None] * sizes / divisor
        after = [(first, 4 * EPS * sizes), (second, 5 * EPS * second), (steps, 0 * steps)]
    return values - step, step_error + EPS * values.abs(), after


def assert_close(got, exact, error):
    worst = ((got.double() - exact).abs() - error).max() if got.numel() else -1
    assert worst <= 0, f"off by {worst} more than rounding explains"


def assert_step(values, rows, gradient, rule, state, state_rows=None):
    """Make one step of the op and compare values, state and what is handed back."""
    before, table = values[rows].clone(), values.clone()
    places = torch.arange(len(rows)) if state_rows is None else state_rows
    kept = [part.clone() for part in state]
    used = [part[places] for part in kept] if not isinstance(rule, Sgd) or rule.momentum else kept
    exact, error, after = in_fp64(before, gradient, rule, used)
    replaced = slot_update(values, rows, gradient, rule, state, state_rows)
    assert replaced.dtype == values.dtype
    assert torch.equal(bits(replaced), bits(before))
    # Casting to the values' type: one unit in the last place, since the interpreter truncates bf16.
    kind = torch.finfo(values.dtype)
    cast = kind.eps * exact.abs() + kind.smallest_normal * kind.eps
    assert_close(values[rows], exact, error + cast)
    untouched = torch.ones(len(values), dtype=torch.bool)
    untouched[rows] = False
    assert torch.equal(bits(values)[untouched], bits(table)[untouched])
    for part, was, (expected, allowed) in zip(state, kept, after, strict=False):
        assert_close(part[places], expected, allowed)
        others = torch.ones(len(part), dtype=torch.bool)
        others[places] = False
        assert torch.equal(part[others], was[others])


def example(table, m, dim, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(table, dim, generator=generator).to(dtype)
    return values, torch.randperm(table, generator=generator)[:m].sort().values, generator


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", (RULES | LARGE_EPSILON).values(), ids=RULES | LARGE_EPSILON)
@pytest.mark.parametrize(
    ("table", "m", "dim"), [(1, 1, 1), (63, 37, 37), (20, 20, 63), (9, 5, 576), (7, 3, 1000), (4, 2, 1024)]
)
def test_equals_arithmetic_in_fp64(table, m, dim, rule, dtype):
    values, rows, generator = example(table, m, dim, dtype)
    state = rule.new_state(m, dim)
    for scale in (1.0, 1e-3, 100.0):
        assert_step(values, rows, scale * torch.randn(m, dim, generator=generator), rule, state)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(sorted(RULES)),
    table=st.integers(1, 12),
    dim=st.integers(1, 40),
)
def test_rows_that_vary_from_step_to_step(seed, name, table, dim):
    values, _, generator = example(table, 0, dim, seed=seed)
    # The state belongs to a selection of the table's rows, of which each step touches some.
    selected = torch.randperm(table, generator=generator)[: table // 2 + 1].sort().values
    rule = RULES[name]
    state = rule.new_state(len(selected), dim)
    for _ in range(3):
        state_rows = (torch.rand(len(selected), generator=generator) < 0.6).nonzero().squeeze(1)
        gradient = torch.randn(len(state_rows), dim, generator=generator)
        assert_step(values, selected[state_rows], gradient, rule, state, state_rows)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_more_rows_than_the_reference_updates_at_a_time(rule, on_triton):
    m = 20 if on_triton else 300
    values, rows, generator = example(m + 100, m, 576)
    for places in (None, torch.arange(0, 3 * m, 3)):
        state = rule.new_state(m if places is None else 3 * m, 576)
        assert_step(values, rows, torch.randn(m, 576, generator=generator), rule, state, places)


def steps_of(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize(
    ("rule", "dim", "optimizer"),
    [
        (Sgd(0.1), 20, lambda p: torch.optim.SGD(p, lr=0.1)),
        (Sgd(0.1, momentum=0.9), 20, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        # In a row of one element the row's mean square is the element's.
        (RowAdagrad(0.1), 1, lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-8)),
        # PyTorch adds epsilon to the corrected root, the rule to the uncorrected one: none is felt here.
        (RowAdam(0.1, 0.9, 0.999, 1e-30), 20, lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-30)),
    ],
    ids=RULES,
)
def test_equals_torch_optim_when_all_rows_move(rule, dim, optimizer):
    values, rows, generator = example(15, 15, dim)
    gradients = torch.randn(10, 15, dim, generator=generator)
    parameter = torch.nn.Parameter(values.clone())
    expected = steps_of(optimizer([parameter]), parameter, gradients)
    state = rule.new_state(15, dim)
    for gradient in gradients:
        slot_update(values, rows, gradient, rule, state)
    # Ten steps whose sizes add up to 15 at most (momentum 0.9), each off by some ten roundings.
    torch.testing.assert_close(values, expected, rtol=10 * EPS, atol=15 * 10 * EPS)


def test_adam_advances_for_touched_rows_only():
    # Every row as a parameter with an optimizer of its own, stepped when the row is touched.
    values, _, generator = example(6, 0, 8)
    parameters = [torch.nn.Parameter(row.clone()) for row in values]
    optimizers = [torch.optim.Adam([row], lr=0.1, betas=(0.9, 0.99), eps=1e-30) for row in parameters]
    rule = RowAdam(0.1, 0.9, 0.99, 1e-30)
    state = rule.new_state(6, 8)
    for touched in ([0, 1, 5], [1], [1, 2, 5], [0, 4]):
        rows = torch.tensor(touched)
        gradient = torch.randn(len(rows), 8, generator=generator)
        slot_update(values, rows, gradient, rule, state, state_rows=rows)
        for row, part in zip(touched, gradient, strict=True):
            steps_of(optimizers[row], parameters[row], [part])
    assert state.steps.tolist() == [2, 3, 1, 0, 1, 2]
    # Three steps of size 0.1 or less, each off by some ten roundings.
    torch.testing.assert_close(values, torch.stack(parameters).detach(), rtol=10 * EPS, atol=3 * EPS)


def test_adam_corrects_the_bias_of_the_first_step_exactly():
    # The first step moves by the learning rate whatever the gradient and the decays.
    values, gradient = torch.zeros(1, 4), torch.tensor([[3.0, -1e-3, 50.0, -7.0]])
    rule = RowAdam(0.5, 0.999, 0.999999, 1e-30)
    slot_update(values, torch.tensor([0]), gradient, rule, rule.new_state(1, 4))
    torch.testing.assert_close(values, -0.5 * gradient.sign(), rtol=16 * EPS, atol=0)


def test_decays_of_zero():
    values, rows = torch.zeros(2, 3), torch.tensor([0, 1])
    rule = RowAdam(0.5, 0.0, 0.0, 1e-30)
    slot_update(values, rows, torch.full((2, 3), -4.0), rule, rule.new_state(2, 3))
    assert torch.equal(values, torch.full((2, 3), 0.5))


# Random bits hold NaN, and the interpreter's arithmetic warns of it.
@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_restoring_brings_back_every_bit(rule, dtype):
    width = torch.int32 if dtype == torch.float32 else torch.int16
    limits = torch.iinfo(width)
    values = torch.randint(limits.min, limits.max, (40, 70), dtype=width).view(dtype)
    odd = [-0.0, 0.0, math.nan, math.inf, -math.inf]
    values[3, :5] = torch.tensor(odd, dtype=dtype)
    values[7, :5] = torch.tensor(odd, dtype=dtype)
    before, rows = bits(values).clone(), torch.tensor([0, 3, 8, 21, 39])
    replaced = slot_update(values, rows, torch.ones(5, 70), rule, rule.new_state(5, 70))
    assert torch.equal(bits(replaced), before[rows])
    others = [row for row in range(40) if row not in rows.tolist()]
    assert torch.equal(bits(values)[others], before[others])
    assert not torch.equal(bits(values)[rows], before[rows])
    slot_restore(values, rows, replaced)
    assert torch.equal(bits(values), before)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("dtype", TYPES)
def test_values_within_a_larger_buffer(rule, dtype):
    buffer = torch.randn(12, 90).to(dtype)
    before = buffer.clone()
    values, rows = buffer[2:10, 5:70], torch.tensor([0, 7])
    assert_step(values, rows, torch.randn(2, 65), rule, rule.new_state(2, 65))
    inside = torch.zeros(12, 90, dtype=torch.bool)
    inside[[[2], [9]], torch.arange(5, 70)] = True
    assert torch.equal(buffer[~inside], before[~inside])
    slot_restore(values, rows, before[2:10, 5:70][rows])
    assert torch.equal(buffer, before)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_strided_gradient_and_rows(rule):
    values, _, generator = example(20, 0, 30)
    gradient, rows = torch.randn(30, 10, generator=generator).T[::2], torch.arange(0, 20, 2)[::2]
    assert_step(values, rows, gradient, rule, rule.new_state(5, 30))
    assert_step(values, rows, gradient, rule, rule.new_state(20, 30), rows)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_rows(rule):
    values, rows = torch.randn(4, 3), torch.empty(0, dtype=torch.int64)
    before = values.clone()
    assert slot_update(values, rows, torch.empty(0, 3), rule, rule.new_state(0, 3)).shape == (0, 3)
    assert slot_update(values, rows, torch.empty(0, 3), rule, rule.new_state(9, 3), rows).shape == (0, 3)
    slot_restore(values, rows, torch.empty(0, 3))
    assert torch.equal(values, before)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("m", "dim"), [(1, 40000), (40, 576)])
def test_same_bits_on_any_number_of_threads(rule, m, dim, on_triton):
    m, dim = (min(m, 3), min(dim, 1200)) if on_triton else (m, dim)
    table, rows, generator = example(m + 5, m, dim)
    gradient = torch.randn(m, dim, generator=generator)

    def updated():
        values, state = table.clone(), rule.new_state(m, dim)
        slot_update(values, rows, gradient, rule, state)
        return values, state

    first, kept = updated()
    threads = torch.get_num_threads()
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 4)
            values, state = updated()
            assert torch.equal(values, first)
            assert all(torch.equal(part, other) for part, other in zip(state, kept, strict=True))
    finally:
        torch.set_num_threads(threads)


def refusals():
    values, rows, gradient = torch.zeros(6, 3), torch.tensor([1, 4]), torch.zeros(2, 3)
    adam, sgd, adagrad = RULES["adam"], RULES["momentum"], RULES["adagrad"]
    state = adam.new_state(2, 3)
    strided = torch.zeros(3, 6).T
    return [
        ((values[0], rows, gradient, adam, state), r"^values: got torch.float32 \(3,\)"),
        ((values.double(), rows, gradient, adam, state), "^values: got torch.float64"),
        ((values[:, :0], rows, gradient[:, :0], adam, state), r"^values: got \(6, 0\)"),
        ((strided, rows, gradient, adam, state), r"^values: got strides \(1, 6\)"),
        ((values[:1].expand(6, 3), rows, gradient, adam, state), r"^values: got strides \(0, 1\)"),
        (
            (values.clone().requires_grad_(), rows, gradient, adam, state),
            "^values: got a tensor that requires",
        ),
        ((values, rows.int(), gradient, adam, state), "^rows: got torch.int32"),
        ((values, rows[None], gradient, adam, state), "^rows: got"),
        ((values, rows.flip(0), gradient, adam, state), "^rows: got numbers out of order"),
        ((values, rows * 0, gradient, adam, state), "^rows: got numbers out of order"),
        ((values, rows - 2, gradient, adam, state), "^rows: got numbers out of order, repeated or negative"),
        ((values, rows + 2, gradient, adam, state), "^rows: got 6, expected 0 to 5"),
        ((values, rows, gradient.half(), adam, state), "^gradient: got torch.float16"),
        ((values, rows, gradient[:1], adam, state), r"^gradient: got \(1, 3\), expected \(2, 3\)"),
        ((values, rows, gradient, "adam", state), "^rule: got str"),
        ((values, rows, gradient, sgd, state), "^state: got RowAdamState, expected SgdState"),
        ((values, rows, gradient, adam, tuple(state)), "^state: got tuple, expected RowAdamState"),
        ((values, rows, gradient, adam, adam.new_state(3, 3)), r"^state.first: got torch.float32 \(3, 3\)"),
        ((values, rows, gradient, adam, adam.new_state(2, 4)), r"^state.first: got torch.float32 \(2, 4\)"),
        ((values, rows, gradient, adam, state._replace(steps=torch.zeros(2))), "^state.steps: got"),
        ((values, rows, gradient, adam, state._replace(second=torch.zeros(3, 2).T)), "^state.second: got"),
        ((values, rows, gradient, sgd, Sgd(0.1).new_state(2, 3)), r"^state.buffer: got .* \(0, 3\)"),
        ((values, rows, gradient, adam, state, rows.int()), "^state_rows: got torch.int32"),
        ((values, rows, gradient, adam, state, rows[:1]), "^state_rows: got 1, expected 2"),
        ((values, rows, gradient, adam, state, rows), "^state_rows: got 4, expected 0 to 1"),
        ((values, rows, gradient, sgd, sgd.new_state(4, 3), rows), "^state_rows: got 4, expected 0 to 3"),
        ((values, rows, gradient, adagrad, adagrad.new_state(4, 3), rows), "^state_rows: got 4, expected 0"),
        ((values, rows, gradient, adam, state, rows.flip(0)), "^state_rows: got numbers out of order"),
    ]


@pytest.mark.parametrize(("arguments", "message"), refusals(), ids=[message for _, message in refusals()])
def test_refuses_what_does_not_fit(arguments, message):
    before = arguments[0].clone()
    with pytest.raises(ValueError, match=message):
        slot_update(*arguments)
    assert torch.equal(arguments[0], before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sgd(-1.0), "^learning_rate: got -1.0"),
        (lambda: Sgd(math.nan), "^learning_rate: got nan"),
        (lambda: RowAdagrad(math.inf), "^learning_rate: got inf"),
        (lambda: Sgd(0.1, momentum=1.0), "^momentum: got 1.0"),
        (lambda: RowAdam(0.1, -0.1, 0.9), "^beta1: got -0.1"),
        (lambda: RowAdam(0.1, 0.9, 1.0), "^beta2: got 1.0"),
        (lambda: RowAdam(0.1, 0.9, 0.99, 0.0), "^epsilon: got 0.0"),
        (lambda: RowAdagrad(0.1, math.nan), "^epsilon: got nan"),
    ],
)
def test_refuses_rules_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_restoring_refuses_what_does_not_fit():
    values, rows, replaced = torch.zeros(6, 3), torch.tensor([1, 4]), torch.ones(2, 3)
    for arguments, message in [
        ((values.double(), rows, replaced), "^values: got torch.float64"),
        ((values, rows.float(), replaced), "^rows: got torch.float32"),
        ((values, rows.flip(0), replaced), "^rows: got numbers out of order"),
        ((values, rows + 2, replaced), "^rows: got 6"),
        ((values, rows, replaced.half()), "^replaced: got torch.float16"),
        ((values, rows, replaced[:1]), r"^replaced: got torch.float32 \(1, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            slot_restore(*arguments)
    assert (values == 0).all()


def test_a_parameter_can_be_updated_without_gradients():
    values, rows = torch.nn.Parameter(torch.zeros(3, 2)), torch.tensor([1])
    rule = Sgd(1.0)
    with torch.no_grad():
        replaced = slot_update(values, rows, torch.ones(1, 2), rule, rule.new_state(1, 2))
    assert values.tolist() == [[0, 0], [-1, -1], [0, 0]]
    assert not replaced.requires_grad
    # A gradient that has a history is a number like any other: an update is not differentiated.
    gradient = torch.ones(1, 2, requires_grad=True) * 2
    assert not slot_update(values.detach(), rows, gradient, rule, rule.new_state(1, 2)).requires_grad


@pytest.mark.parametrize("state_rows", [None, torch.tensor([0, 2])])
def test_registered_as_pytorch_expects(unguarded, state_rows):
    values, rows, gradient = torch.randn(6, 3), torch.tensor([1, 4]), torch.randn(2, 3)
    size = 2 if state_rows is None else 5
    ops = torch.ops.memedit
    for op, rule, numbers in [
        (ops.sgd_update, RULES["momentum"], (0.1, 0.9)),
        (ops.sgd_update, RULES["sgd"], (0.1, 0.0)),
        (ops.adagrad_update, RULES["adagrad"], (0.1, 1e-8)),
        (ops.adam_update, RULES["adam"], (0.1, 0.9, 0.99, 1e-8)),
    ]:
        arguments = (values, rows, gradient, *rule.new_state(size, 3), state_rows, *numbers)
        torch.library.opcheck(op.default, arguments)
    torch.library.opcheck(ops.slot_restore.default, (values, rows, gradient))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_compiles_without_a_break(rule):
    @torch.compile(fullgraph=True, backend="eager")
    def step(values, rows, gradient, state):
        replaced = slot_update(values, rows, gradient, rule, state, rows)
        kept = values.clone()
        slot_restore(values, rows, replaced)
        return kept

    values, rows, generator = example(8, 3, 5)
    gradient, before = torch.randn(3, 5, generator=generator), values.clone()
    eager, state = rule.new_state(8, 5), rule.new_state(8, 5)
    kept = step(values, rows, gradient, state)
    assert torch.equal(values, before)
    slot_update(values, rows, gradient, rule, eager, rows)
    assert torch.equal(kept, values)
    assert all(torch.equal(part, other) for part, other in zip(state, eager, strict=True))
