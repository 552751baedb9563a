"""Base rows zeroed and shuffled, written rows off: what the model then computes, and that all comes back."""

from __future__ import annotations

import pytest
import torch

from memedit.modeling import table_ablation
from memedit.modeling.table_ablation import ablated

IDS = torch.arange(3, 14)[None]


def bits(model):
    """Every bit of the tables, and what the overlays are."""
    tables = model.memory_tables()
    return [table.values.detach().clone().view(torch.int32) for table in tables], [t.overlay for t in tables]


def assert_same(model, before):
    rows, overlays = bits(model)
    assert all(torch.equal(now, was) for now, was in zip(rows, before[0], strict=True))
    for now, was in zip(overlays, before[1], strict=True):
        assert (now is None) == (was is None)
        assert now is None or (
            now.slots is was.slots and now.values is was.values and now.owners is was.owners
        )


@pytest.fixture
def model(tiny_memory_llama, tiny_overlay):
    """A model with base rows, some of them not finite or without a sign, and written rows on top."""
    model = tiny_memory_llama(memory_output_projection=True)
    model.set_overlay(0, tiny_overlay(model, num_rows=60))
    model.memory_tables()[0].values.data[3, :2] = torch.tensor([-0.0, 1e-42])
    return model.requires_grad_(requires_grad=False)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def with_rows(model, rows):
    """Logits of the model with other base rows."""
    values = model.memory_tables()[0].values
    kept = values.data
    values.data = rows
    found = logits(model)
    values.data = kept
    return found


def test_zeroed_is_a_table_of_zeros_that_takes_no_memory(model):
    before, values = bits(model), model.memory_tables()[0].values
    expected = with_rows(model, torch.zeros_like(values))
    with ablated(model, "zeroed"):
        assert not values.any()
        assert values.untyped_storage().nbytes() == 48 * 4
        assert model.overlay() is not None
        assert torch.equal(logits(model), expected)
    assert_same(model, before)
    assert not torch.equal(logits(model), expected)


def test_shuffled_moves_rows_in_place(model):
    before, values = bits(model), model.memory_tables()[0].values
    (rows,), place = before[0], values.data_ptr()
    with ablated(model, "shuffled", seed=5):
        assert values.data_ptr() == place
        shuffled = values.detach().clone().view(torch.int32)
        assert not torch.equal(shuffled, rows)
        assert sorted(shuffled.tolist()) == sorted(rows.tolist())
        assert torch.equal(logits(model), with_rows(model, shuffled.view(torch.float32)))
        assert not torch.equal(logits(model), with_rows(model, rows.view(torch.float32)))
    assert_same(model, before)
    with ablated(model, "shuffled", seed=5):
        assert torch.equal(values.view(torch.int32), shuffled)
    with ablated(model, "shuffled", seed=6):
        assert not torch.equal(values.view(torch.int32), shuffled)


def test_unwritten_takes_the_overlay_off(model):
    before = bits(model)
    overlay = model.overlay()
    model.set_overlay(0, None)
    expected = logits(model)
    model.set_overlay(0, overlay)
    with ablated(model, "unwritten"):
        assert model.overlay() is None
        assert torch.equal(logits(model), expected)
    assert_same(model, before)
    assert model.config.memory_overlay_rows == [60]
    assert not torch.equal(logits(model), expected)


@pytest.mark.parametrize("kind", ["zeroed", "shuffled", "unwritten"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_comes_back_after_an_error(model, kind, error):
    before = bits(model)
    with pytest.raises(error), ablated(model, kind):
        raise error
    assert_same(model, before)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5])
def test_interrupted_moves_come_back(model, monkeypatch, after):
    # 3 parts move to and fro; Ctrl-C arrives right behind one of these moves.
    monkeypatch.setattr(table_ablation, "_PART_BYTES", 256 * 16 * 4)
    before, moves = bits(model), []
    real = torch.Tensor.copy_

    def interrupted(*arguments):
        real(*arguments)
        moves.append(arguments)
        if len(moves) == after + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt), ablated(model, "shuffled"):
        assert len(moves) == 3
    monkeypatch.undo()
    assert len(moves) == (2 * (after + 1) if after < 3 else 6)
    assert_same(model, before)


def test_half_precision_rows_come_back(tiny_memory_llama):
    model = tiny_memory_llama().to(torch.bfloat16).requires_grad_(requires_grad=False)
    (table,) = model.memory_tables()
    table.values.data.view(torch.int16).random_(-(2**15), 2**15, generator=torch.Generator().manual_seed(1))
    rows = table.values.view(torch.int16).clone()
    for kind in ("zeroed", "shuffled"):
        with ablated(model, kind):
            assert not torch.equal(table.values.view(torch.int16), rows)
        assert torch.equal(table.values.view(torch.int16), rows)


def test_tables_are_shuffled_each_in_its_own_order(tiny_memory_llama):
    model = tiny_memory_llama(memory_layers=[1, 2], memory_shared_table=False)
    first, second = model.memory_tables()
    second.values.data.copy_(first.values.data)
    before = bits(model)
    with ablated(model, "shuffled"):
        assert not torch.equal(first.values, second.values)
    assert_same(model, before)


def test_an_empty_base_stays_as_it_is(tiny_memory_llama, tiny_overlay):
    model = tiny_memory_llama(memory_empty_base=True)
    model.set_overlay(0, tiny_overlay(model))
    expected = logits(model)
    for kind in ("zeroed", "shuffled"):
        with ablated(model, kind):
            assert torch.equal(logits(model), expected)


def test_unknown_kind_is_refused(model):
    with pytest.raises(ValueError, match="kind: got 'removed', expected one of zeroed, shuffled, unwritten"):
        ablated(model, "removed").__enter__()
