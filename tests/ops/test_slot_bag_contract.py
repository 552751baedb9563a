"""What the weighted sum of rows keeps to beside its value: bits, memory, torch's tracing, and errors."""

from __future__ import annotations

import pytest
import torch
from drawn_slot_bags import KINDS, TABLES, draw
from memedit_kernels.slot_bag import UNGATED, SlotOverlay, slot_bag
from torch.profiler import ProfilerActivity, profile


def test_half_precision_tables_give_what_their_fp32_copy_gives(generator, on_triton):
    if on_triton:
        pytest.skip("tiles depend on the type of the table there")
    slots, weights, base, overlay = draw(generator, 50, 90, 24, 16, torch.bfloat16, "gated")
    halves = slot_bag(slots, weights, base=base, overlay=overlay)
    assert torch.equal(halves, slot_bag(slots, weights, base=base.float(), overlay=overlay))


@pytest.mark.parametrize("base_type", [torch.float32, torch.bfloat16])
def test_the_same_bits_whatever_the_number_of_threads(generator, base_type, on_triton):
    size = (3, 50, 20, 8) if on_triton else (300, 500, 130, 40)
    slots, weights, base, overlay = draw(generator, *size, base_type, "gated")
    inputs = weights.requires_grad_(), overlay.values.requires_grad_()
    results, threads = [], torch.get_num_threads()
    try:
        for run in range(3 if on_triton else 20):
            torch.set_num_threads(1 + run % 4)
            out = slot_bag(slots, weights, base=base, overlay=overlay)
            results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for run in results[1:] for pair in zip(run, results[0], strict=True))


def peak_bytes(call):
    """Most memory that torch held at once beyond what it held before the call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_a_table_of_zeros_takes_no_memory(generator):
    """2^24 slots x 576 would be 39 GB; the filter of 100 rows is 8 KB, the bags of 4 tokens 9 KB."""
    slots = torch.randint(0, 2**24, (4, 64), generator=generator)
    written = torch.cat([slots[0], torch.randint(0, 2**24, (36,), generator=generator)]).unique()
    overlay = SlotOverlay(written, torch.randn(len(written), 576, requires_grad=True))
    weights = torch.rand(slots.shape, requires_grad=True)
    assert peak_bytes(lambda: slot_bag(slots, weights, overlay=overlay).sum().backward()) < 4 * 2**20


@pytest.mark.parametrize("width", [512, 640])
@pytest.mark.parametrize("base_type", TABLES[1:])
def test_the_base_table_is_never_copied(generator, base_type, width):
    base = torch.zeros(2**15, width, dtype=base_type)[:, :512]
    slots, weights = torch.randint(0, len(base), (8, 8), generator=generator), torch.rand(8, 8)
    weights.requires_grad_()
    assert peak_bytes(lambda: slot_bag(slots, weights, base=base).sum().backward()) < 2 * 2**20


def saved_for_backward(call):
    """Call, and return what autograd keeps."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda kept: kept
    ):
        call()
    return kept


def test_only_what_is_needed_is_saved(generator):
    slots, weights, base, overlay = draw(generator, 4, 20, 3, 5, torch.float32, "gated")
    values = overlay.values.clone().requires_grad_()
    base.requires_grad_()
    # The base table never gets a gradient, even where it asks for one.
    out = slot_bag(slots, weights, base=base, overlay=overlay)
    assert not out.requires_grad
    trained = overlay._replace(values=values)
    kept = saved_for_backward(lambda: slot_bag(slots, weights, base=base, overlay=trained))
    assert [tuple(tensor.shape) for tensor in kept] == [(4, 5), (4, 5)]
    with torch.no_grad():
        assert saved_for_backward(lambda: slot_bag(slots, weights, base=base, overlay=trained)) == []
    weights.requires_grad_()
    slot_bag(slots, weights, base=base, overlay=trained).sum().backward()
    assert base.grad is None
    assert weights.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_past_2_to_the_31_elements(tmp_path, dtype):
    """A table in a sparse file: only the pages that are touched exist."""
    dim = 2048
    rows = 2**31 // dim + 3
    table = torch.from_file(str(tmp_path / "table"), shared=True, size=rows * dim, dtype=dtype).view(
        rows, dim
    )
    table[-1], table[-2] = 3.0, 5.0
    slots = torch.tensor([[rows - 1, rows - 2], [0, rows - 1]])
    weights = torch.tensor([[1.0, 2.0], [4.0, 0.5]], requires_grad=True)
    out = slot_bag(slots, weights, base=table)
    assert torch.equal(out, torch.tensor([[13.0], [1.5]]).expand(2, dim))
    out.sum().backward()
    assert weights.grad.tolist() == [[3.0 * dim, 5.0 * dim], [0.0, 3.0 * dim]]


@pytest.mark.parametrize(
    ("base_type", "kind"), [(torch.float32, "none"), (torch.bfloat16, "gated"), (None, "plain")]
)
def test_registered_as_pytorch_expects(generator, unguarded, base_type, kind):
    slots, weights, base, overlay = draw(generator, 2, 9, 3, 4, base_type, kind)
    fields = (None, None, None, None, 1) if overlay is None else tuple(overlay)
    weights.requires_grad_()
    arguments = (slots, weights, base, *fields, torch.float32)
    torch.library.opcheck(torch.ops.memedit.slot_bag.default, arguments)
    out, rows, gated = torch.ops.memedit.slot_bag(*arguments)
    backward = (torch.rand_like(out), slots, weights.detach(), base, rows, gated, *fields[1:3])
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(torch.ops.memedit.slot_bag_backward.default, backward, test_utils=checks)


@pytest.mark.parametrize(("base_type", "kind"), KINDS)
def test_compiles_without_a_break(generator, base_type, kind):
    torch.compiler.reset()
    slots, weights, base, overlay = draw(generator, 2, 9, 3, 4, base_type, kind)
    weights.requires_grad_()

    def bag(slots, weights, base, overlay):
        return slot_bag(slots, weights, base=base, overlay=overlay, dtype=torch.bfloat16)

    compiled = torch.compile(bag, fullgraph=True, backend="eager")
    results = [call(slots, weights, base, overlay) for call in (bag, compiled)]
    assert torch.equal(*results)
    assert torch.equal(*(torch.autograd.grad(out.float().square().sum(), weights)[0] for out in results))


SLOTS, WEIGHTS, BASE = torch.tensor([[0, 3]]), torch.ones(1, 2), torch.zeros(4, 2)
OVERLAY = SlotOverlay(torch.tensor([1, 3]), torch.zeros(2, 2), torch.tensor([0, UNGATED]), torch.zeros(1))


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("slots", {"slots": SLOTS.int()}),
        ("slots", {"slots": SLOTS[0]}),
        ("slots", {"slots": torch.tensor([[0, 4]])}),
        ("slots", {"slots": torch.tensor([[-1, 3]])}),
        ("slots", {"slots": torch.tensor([[3, -(2**63)]]), "base": None}),
        ("weights", {"weights": WEIGHTS[:, :1]}),
        ("weights", {"weights": WEIGHTS.half()}),
        ("weights", {"base": BASE.double()}),
        ("weights", {"weights": torch.tensor([[0.5, float("nan")]])}),
        ("weights", {"weights": torch.tensor([[-1e-6, 0.5]])}),
        ("base", {"base": None, "overlay": None}),
        ("base", {"base": BASE[0]}),
        ("base", {"base": BASE.long()}),
        ("base", {"base": torch.zeros(2, 4).T}),
        ("dtype", {"dtype": torch.int64}),
        ("overlay.slots", {"overlay": OVERLAY._replace(slots=torch.tensor([3, 1]))}),
        ("overlay.slots", {"overlay": OVERLAY._replace(slots=OVERLAY.slots.int())}),
        ("overlay.slots", {"overlay": OVERLAY._replace(slots=torch.tensor([-1, 3]))}),
        ("overlay.slots", {"overlay": OVERLAY._replace(slots=torch.tensor([1, 4]))}),
        ("overlay.values", {"overlay": OVERLAY._replace(values=torch.zeros(2, 2).bfloat16())}),
        ("overlay.values", {"overlay": OVERLAY._replace(values=torch.zeros(3, 2))}),
        ("overlay.values", {"overlay": OVERLAY._replace(values=torch.zeros(2, 3))}),
        ("overlay.values", {"overlay": OVERLAY._replace(values=torch.zeros(2))}),
        ("overlay.owners", {"overlay": OVERLAY._replace(owners=None)}),
        ("overlay.owners", {"overlay": OVERLAY._replace(owners=torch.tensor([0, 1]))}),
        ("overlay.owners", {"overlay": OVERLAY._replace(owners=torch.tensor([0, -2]))}),
        ("overlay.owners", {"overlay": OVERLAY._replace(owners=torch.tensor([0]))}),
        ("overlay.owners", {"overlay": OVERLAY._replace(owners=torch.zeros(2))}),
        ("overlay.thresholds", {"overlay": OVERLAY._replace(thresholds=None)}),
        ("overlay.thresholds", {"overlay": OVERLAY._replace(thresholds=torch.zeros(1, 1))}),
        ("overlay.heads", {"overlay": OVERLAY._replace(heads=0)}),
        ("overlay.heads", {"overlay": OVERLAY._replace(heads=2.5)}),
    ],
)  # fmt: skip
def test_refuses_what_does_not_fit(named, arguments):
    given_all = {"slots": SLOTS, "weights": WEIGHTS, "base": BASE, "overlay": OVERLAY, **arguments}
    with pytest.raises(ValueError, match=f"^{named}: got .* expected"):
        slot_bag(given_all.pop("slots"), given_all.pop("weights"), **given_all)


def test_without_a_gate_any_weight_counts():
    weights, values = torch.tensor([[-2.0, float("nan")]]), torch.ones(2, 2)
    out = slot_bag(SLOTS, weights[:, :1].expand(1, 2), overlay=SlotOverlay(OVERLAY.slots, values))
    assert out.tolist() == [[-2.0, -2.0]]
    assert slot_bag(SLOTS, weights, overlay=SlotOverlay(OVERLAY.slots, values)).isnan().all()


def test_refuses_two_devices():
    with pytest.raises(ValueError, match=r"on different devices .*base on meta"):
        slot_bag(SLOTS, WEIGHTS, base=BASE.to("meta"))
