"""The gradient of touched rows against a dense gradient of the whole table."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from memedit.modeling.row_tape import RowTape

IDS = torch.randint(3, 300, (3, 9), generator=torch.Generator().manual_seed(0))


class DenseTable(torch.nn.Module):
    """What MemoryTable sums, written so that autograd makes the table's whole gradient."""

    def __init__(self, table):
        super().__init__()
        self.values = torch.nn.Parameter(table.values.detach().clone())
        inputs = table.inputs
        self.inputs = None if inputs is None else torch.nn.Parameter(inputs.detach().clone())

    def is_silent(self, *, reads_written):
        return False

    def input_dots(self, hidden, slots):
        return (self.inputs[slots] * hidden[:, None]).sum(-1)

    def base_bag(self, slots, weights):
        return (self.values[slots] * weights[..., None]).sum(1)

    def forward(self, slots, weights, queries):
        return self.base_bag(slots, weights)


def loss_of(model, tables):
    model.model.tables = lambda: tables
    return functional.cross_entropy(model(IDS).logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


def routing_gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if ".memory." in name}


@pytest.mark.parametrize("variant", ["values", "peer"])
@pytest.mark.parametrize("placement", ["parallel", "replace"])
def test_tape_gives_the_rows_of_the_dense_gradient(tiny_memory_llama, variant, placement):
    model = tiny_memory_llama(
        memory_layers=[1, 2], memory_placement=placement, memory_variant=variant, memory_gated_output=True
    )
    (table,) = model.memory_tables()
    dense = DenseTable(table)
    loss_of(model, [dense]).backward()
    expected = routing_gradients(model)
    model.zero_grad(set_to_none=True)
    table.tape = RowTape()
    tapes = [(table.tape, dense.values)]
    if variant == "peer":
        table.input_tape = RowTape()
        tapes.append((table.input_tape, dense.inputs))
    loss_of(model, [table]).backward()
    for tape, whole in tapes:
        slots, gradient = tape.gradients()
        assert (slots.diff() > 0).all()
        spread = torch.zeros_like(whole).index_copy_(0, slots, gradient)
        # Sums of some dozens of products in another order.
        torch.testing.assert_close(spread, whole.grad, rtol=1e-4, atol=1e-7)
        assert tape.gradients() is None
    for name, gradient in routing_gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6, msg=name)
    assert table.values.grad is None


def test_tape_is_not_read_without_gradients(tiny_memory_llama):
    model = tiny_memory_llama()
    (table,) = model.memory_tables()
    with torch.no_grad():
        before = model(IDS).logits
    table.tape = RowTape()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, before)
    assert table.tape.gradients() is None
    # With the tape the same rows are summed in the same order.
    torch.testing.assert_close(model(IDS).logits.detach(), before, rtol=1e-5, atol=1e-5)
