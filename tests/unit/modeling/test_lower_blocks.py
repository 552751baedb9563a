"""The lower blocks give what the whole model computes there, whatever a row is padded with."""

from __future__ import annotations

import pytest
import torch

from memedit.modeling.lower_blocks import ffn_inputs, length_batches, pad_right


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("memory", [None, 1, 3])
def test_ffn_inputs_are_what_a_forward_sees(tiny_llama, tiny_memory_llama, layer, memory):
    is_retrofit = memory is not None
    model = tiny_memory_llama(memory_layers=[memory], memory_empty_base=True) if is_retrofit else tiny_llama
    seen = {}
    block = model.model.layers[layer]
    block.post_attention_layernorm.register_forward_hook(
        lambda _, inputs, output: seen.update(residual=inputs[0], normalised=output)
    )
    rows = [[1, *range(5, 5 + length)] for length in (3, 11, 30)]
    residual, normalised = ffn_inputs(model, layer, pad_right(rows, filler=9))
    for index, row in enumerate(rows):
        model(input_ids=torch.tensor([row]))
        for name, found in (("residual", residual), ("normalised", normalised)):
            torch.testing.assert_close(found[index, : len(row)], seen[name][0], rtol=1e-4, atol=1e-4)


def test_padding_is_on_the_right():
    assert pad_right([[4, 5, 6], [7]], filler=1).tolist() == [[4, 5, 6], [7, 1, 1]]


@pytest.mark.parametrize("lengths", [[], [3], [5, 1, 5, 2, 9, 1], [40, 2, 2]])
def test_batches_hold_every_row_once(lengths):
    batches = length_batches(lengths, 10)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        # A row that is too long for any batch has one for itself.
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 10
    flat = [lengths[index] for batch in batches for index in batch]
    assert flat == sorted(flat)
