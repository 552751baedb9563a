"""The gradient of selected rows against a sum in fp64 and against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.slot_gradient import RowPlan, plan_row_gradient, row_gradient, slot_gradient
from memedit_kernels.slot_gradient.plan import PIECE, cut_long_rows

MISS = -1


def summed(grad_output, rows, weights, num_rows):
    """The result in fp64, and how far fp32 may be from it.

    n products summed in fp32 in any order are off by at most n rounding errors (eps / 2) of the sum of their
    sizes, up to terms of eps^2; eps for each covers the products' and the pieces' roundings too. Inputs in
    bf16 and fp16 are exact in fp32.
    """
    terms = weights.double().unsqueeze(-1) * grad_output.double().unsqueeze(1)
    terms, at = terms.flatten(0, 1), rows.flatten() + 1
    exact = torch.zeros(num_rows + 1, grad_output.shape[1], dtype=torch.float64)
    sizes, counts = torch.zeros_like(exact), torch.zeros(num_rows + 1, 1, dtype=torch.float64)
    exact.index_add_(0, at, terms)
    sizes.index_add_(0, at, terms.abs())
    counts.index_add_(0, at, torch.ones(len(at), 1, dtype=torch.float64))
    return exact[1:], ((counts + 1) * torch.finfo(torch.float32).eps * sizes)[1:]


def assert_sums(out, grad_output, rows, weights, num_rows):
    exact, allowed = summed(grad_output, rows, weights, num_rows)
    assert out.shape == exact.shape
    assert out.dtype == torch.float32
    worst = ((out.double() - exact).abs() - allowed).max() if out.numel() else -1
    assert worst <= 0, f"off by {worst} more than rounding explains"


def example(tokens, j, num_rows, dim, dtype=torch.float32, seed=0, hit_share=0.6):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, num_rows, (tokens, j), generator=generator)
    rows[torch.rand(tokens, j, generator=generator) >= hit_share] = MISS
    grad_output = torch.randn(tokens, dim, generator=generator).to(dtype)
    return grad_output, rows, torch.randn(tokens, j, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("tokens", "j", "num_rows", "dim"),
    [(1, 1, 1, 1), (37, 3, 63, 37), (63, 5, 11, 576), (41, 4, 5, 1000), (7, 9, 37, 1024), (3, 2, 4, 2050)],
)
def test_equals_the_sum_in_fp64(tokens, j, num_rows, dim, dtype):
    grad_output, rows, weights = example(tokens, j, num_rows, dim, dtype)
    assert_sums(row_gradient(grad_output, rows, weights, num_rows), grad_output, rows, weights, num_rows)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    tokens=st.integers(0, 40),
    j=st.integers(0, 6),
    num_rows=st.integers(1, 12),
    dim=st.integers(1, 40),
    hit_share=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_any_shape(seed, tokens, j, num_rows, dim, hit_share):
    grad_output, rows, weights = example(tokens, j, num_rows, dim, seed=seed, hit_share=hit_share)
    assert_sums(row_gradient(grad_output, rows, weights, num_rows), grad_output, rows, weights, num_rows)


@pytest.mark.parametrize("run", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 3 * PIECE + 100])
def test_a_run_longer_than_a_piece(run):
    # The hot row lies between rows with a few look-ups and rows with none.
    rows = torch.full((run, 2), MISS)
    rows[:, 0] = 3
    rows[5:8, 1] = torch.tensor([1, 5, 3])
    grad_output, weights = torch.randn(run, 37), torch.randn(run, 2)
    out = row_gradient(grad_output, rows, weights, 7)
    assert_sums(out, grad_output, rows, weights, 7)
    assert (out[[0, 2, 4, 6]] == 0).all()


def test_several_long_rows():
    rows = torch.arange(1200).view(400, 3) % 3
    rows[::7, 0] = MISS
    grad_output, weights = torch.randn(400, 20), torch.randn(400, 3)
    out = row_gradient(grad_output, rows, weights, 4)
    assert_sums(out, grad_output, rows, weights, 4)


def test_pieces_cover_each_long_run_once():
    counts = torch.tensor([0, PIECE + 1, PIECE, 3 * PIECE, 0, 5])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    long = cut_long_rows(starts)
    assert long.rows.tolist() == [1, 3]
    assert long.first_pieces.tolist() == [0, 2, 5]
    assert (long.ends - long.begins).tolist() == [PIECE, 1, PIECE, PIECE, PIECE]
    assert long.begins[0] == starts[1]
    assert long.ends[-1] == starts[4]
    assert cut_long_rows(starts[:2]) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_selected", [1, 37, 300])
def test_slots_are_filtered_by_the_selection(num_selected, dtype):
    # Slots past 2^31: anything of the table's size would not fit the machine.
    slots = torch.randint(0, 2**40, (30, 7))
    selected = torch.randint(0, 2**40, (num_selected,)).unique()
    slots[::2, ::3] = selected[torch.randint(0, len(selected), slots[::2, ::3].shape)]
    grad_output, weights = torch.randn(30, 63).to(dtype), torch.rand(30, 7)
    row_of = {slot: row for row, slot in enumerate(selected.tolist())}
    rows = torch.tensor([row_of.get(slot, MISS) for slot in slots.flatten().tolist()]).view(slots.shape)
    out = slot_gradient(grad_output, slots, weights, selected)
    assert_sums(out, grad_output, rows, weights, len(selected))


def test_equals_what_autograd_gives_the_table():
    values = torch.randn(50, 9, dtype=torch.float64, requires_grad=True)
    slots, weights = torch.randint(0, 50, (20, 6)), torch.randn(20, 6, dtype=torch.float64)
    out = (values[slots] * weights.unsqueeze(-1)).sum(1)
    grad_output = torch.randn_like(out)
    (dense,) = torch.autograd.grad(out, values, grad_output)
    for selected in (torch.arange(50), torch.arange(0, 50, 7)):
        gradient = slot_gradient(grad_output, slots, weights, selected)
        # Sums of at most 120 products of size about 1, in fp64.
        torch.testing.assert_close(gradient, dense[selected], rtol=1e-12, atol=1e-12)


def test_nothing_looked_up_or_nothing_selected():
    grad_output, rows, weights = example(5, 3, 4, 8)
    assert torch.equal(row_gradient(grad_output[:0], rows[:0], weights[:0], 4), torch.zeros(4, 8))
    assert torch.equal(row_gradient(grad_output, rows[:, :0], weights[:, :0], 4), torch.zeros(4, 8))
    assert torch.equal(row_gradient(grad_output, torch.full_like(rows, MISS), weights, 4), torch.zeros(4, 8))
    assert row_gradient(grad_output, torch.full_like(rows, MISS), weights, 0).shape == (0, 8)
    assert row_gradient(grad_output[:, :0], rows, weights, 4).shape == (4, 0)
    none = torch.empty(0, dtype=torch.int64)
    assert slot_gradient(grad_output, rows.clamp(min=0), weights, none).shape == (0, 8)
    assert torch.equal(slot_gradient(grad_output, rows.clamp(min=0), weights, none + 9), torch.zeros(0, 8))
    assert (slot_gradient(grad_output, rows.clamp(min=0), weights, torch.tensor([7, 9])) == 0).all()


def test_a_slot_that_a_token_looks_up_twice_counts_twice():
    grad_output = torch.tensor([[1.0, -2.0], [4.0, 8.0]])
    slots = torch.tensor([[6, 6, 1], [6, 2, 2]])
    weights = torch.tensor([[0.5, 0.25, 9.0], [1.0, 0.5, 2.0]])
    out = slot_gradient(grad_output, slots, weights, torch.tensor([2, 6]))
    assert out.tolist() == [[10.0, 20.0], [4.75, 6.5]]


def test_strided_inputs():
    grad_output, rows, weights = example(40, 6, 9, 30)
    expected = row_gradient(
        grad_output[:20, :15].clone(), rows[::2, ::2].clone(), weights[::2, ::2].clone(), 9
    )
    out = row_gradient(grad_output[:20, :15], rows[::2, ::2], weights[::2, ::2], 9)
    assert torch.equal(out, expected)
    turned = row_gradient(grad_output[:20, :15].T.contiguous().T, rows[::2, ::2], weights[::2, ::2], 9)
    assert torch.equal(turned, expected)


# The interpreter's multiplication warns of inf * 0.
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_weight_of_zero_is_no_miss():
    grad_output = torch.tensor([[float("inf")], [1.0]])
    out = row_gradient(grad_output, torch.tensor([[0], [1]]), torch.tensor([[0.0], [0.0]]), 2)
    assert out[0].isnan()
    assert out[1] == 0
    missed = row_gradient(grad_output, torch.tensor([[MISS], [1]]), torch.tensor([[0.0], [0.0]]), 2)
    assert missed[0] == 0


def test_fp64_in_fp64_out():
    grad_output, rows, weights = example(300, 3, 2, 5)
    out = row_gradient(grad_output.double(), rows, weights.double(), 2)
    assert out.dtype == torch.float64
    # Some 270 terms of size about 1 a row.
    exact, _ = summed(grad_output, rows, weights, 2)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)


def test_same_bits_on_any_number_of_threads(on_triton):
    grad_output, rows, weights = example(*((300, 3, 5, 8) if on_triton else (3000, 8, 40, 100)))
    first = row_gradient(grad_output, rows, weights, 40)
    threads = torch.get_num_threads()
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 4)
            assert torch.equal(row_gradient(grad_output, rows, weights, 40), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("tokens", [0, 30, 600])
def test_a_plan_gives_the_same_bits(tokens):
    grad_output, rows, weights = example(tokens, 3, 5, 12)
    plan = plan_row_gradient(rows, 5)
    assert torch.equal(plan.lookups, torch.argsort(rows.flatten(), stable=True)[(rows < 0).sum() :])
    for scale in (1.0, -2.5):
        expected = row_gradient(grad_output * scale, rows, weights, 5)
        assert torch.equal(row_gradient(grad_output * scale, rows, weights, 5, plan=plan), expected)


def test_refuses_a_plan_of_other_lookups():
    grad_output, rows, weights = example(20, 3, 5, 4)
    plan = plan_row_gradient(rows, 5)
    for wrong, message in [
        (plan_row_gradient(rows, 6), r"^plan: got a plan of 6 rows, expected 5"),
        (RowPlan(plan.lookups[:-1], plan.starts), r"^plan: got starts from 0"),
        (RowPlan(plan.lookups, plan.starts.flip(0)), r"^plan: got starts from"),
        (RowPlan(plan.lookups, plan.starts[[0, 2, 1, 3, 4, 5]]), r"^plan: got starts from"),
        (RowPlan(plan.lookups + 60, plan.starts), r"^plan: got look-ups"),
        (RowPlan(plan.lookups.int(), plan.starts), r"^plan.lookups: got torch.int32"),
        (RowPlan(plan.lookups, plan.starts.unsqueeze(0)), r"^plan.starts: got torch.int64 \(1, 6\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            row_gradient(grad_output, rows, weights, 5, plan=wrong)


def test_a_plan_refuses_what_does_not_fit():
    rows = torch.tensor([[0, MISS], [2, 1]])
    for arguments, message in [
        ((rows + 0.9, 3), "^rows: got torch.float32"),
        ((rows.int(), 3), "^rows: got torch.int32"),
        ((rows[0], 3), r"^rows: got torch.int64 \(2,\), expected torch.int64 \[tokens, j\]"),
        ((rows, 2), r"^rows: got numbers in \[-1, 2\], expected -1 to 1"),
        ((rows - 1, 3), r"^rows: got numbers in \[-2, 1\], expected -1 to 2"),
        ((rows[:0], -1), "^num_rows: got -1, expected an integer, 0 or more"),
        ((rows, 3.5), "^num_rows: got 3.5, expected an integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan_row_gradient(*arguments)


def test_refuses_what_does_not_fit():
    grad_output, rows, weights = example(6, 3, 5, 4)
    slots, selected = rows.clamp(min=0), torch.tensor([1, 3])
    for arguments, message in [
        ((grad_output[0], rows, weights, 5), r"^grad_output: got torch.float32 \(4,\)"),
        ((grad_output.int(), rows, weights, 5), "^grad_output: got torch.int32"),
        ((grad_output[1:], rows, weights, 5), "^grad_output: got 5 tokens, expected 6 as in rows"),
        ((grad_output, rows.int(), weights, 5), "^rows: got torch.int32"),
        ((grad_output, rows[0], weights, 5), "^rows: got"),
        ((grad_output, rows, weights[:, 1:], 5), "^weights: got"),
        ((grad_output, rows, weights.half(), 5), "^weights: got torch.float16"),
        ((grad_output, rows, weights, -1), "^num_rows: got -1"),
        ((grad_output, rows, weights, 4.5), "^num_rows: got 4.5, expected an integer"),
        ((grad_output, rows.clamp(min=4), weights, 4), r"^rows: got numbers in \[4, 4\], expected -1 to 3"),
        ((grad_output, rows - 5, weights, 5), r"^rows: got numbers in \[-6"),
    ]:
        with pytest.raises(ValueError, match=message):
            row_gradient(*arguments)
    for arguments, message in [
        ((grad_output, slots.int(), weights, selected), "^slots: got torch.int32"),
        ((grad_output, slots - 5, weights, selected), r"^slots: got numbers in \[-5, .*expected 0 or more"),
        ((grad_output[:2], slots, weights, selected), "^grad_output: got 2 tokens, expected 6 as in slots"),
        ((grad_output, slots, weights[1:], selected), "^weights: got"),
        ((grad_output, slots, weights, selected.float()), "^selected: got torch.float32"),
        ((grad_output, slots, weights, selected.flip(0)), "^selected: got numbers out of order"),
    ]:
        with pytest.raises(ValueError, match=message):
            slot_gradient(*arguments)


@pytest.mark.parametrize("planned", [False, True])
def test_a_backward_through_it_is_an_error(planned):
    grad_output, rows, weights = example(6, 3, 5, 4)
    plan = plan_row_gradient(rows, 5) if planned else None
    for asked in (grad_output, weights):
        asked.requires_grad = True
        out = row_gradient(grad_output, rows, weights, 5, plan=plan)
        assert out.requires_grad
        with pytest.raises(RuntimeError, match="no autograd formula"):
            out.sum().backward()
        asked.requires_grad = False


def test_registered_as_pytorch_expects(unguarded):
    grad_output, rows, weights = example(6, 3, 5, 4)
    ops, plan = torch.ops.memedit, plan_row_gradient(rows, 5)
    torch.library.opcheck(ops.row_gradient.default, (grad_output, rows, weights, 5))
    torch.library.opcheck(ops.row_gradient.default, (grad_output.bfloat16(), rows, weights, 5))
    torch.library.opcheck(ops.planned_row_gradient.default, (grad_output, weights, *plan))


def test_compiles_without_a_break():
    grad_output, rows, weights = example(6, 3, 5, 4)
    plan, slots, selected = plan_row_gradient(rows, 5), rows.clamp(min=0), torch.tensor([1, 3])
    compiled = torch.compile(row_gradient, fullgraph=True, backend="eager")
    expected = row_gradient(grad_output, rows, weights, 5)
    assert torch.equal(compiled(grad_output, rows, weights, 5), expected)
    assert torch.equal(compiled(grad_output, rows, weights, 5, plan=plan), expected)
    compiled = torch.compile(slot_gradient, fullgraph=True, backend="eager")
    expected = slot_gradient(grad_output, slots, weights, selected)
    assert torch.equal(compiled(grad_output, slots, weights, selected), expected)
