"""The frozen blocks are the model's own blocks: same outputs, same gradients, behind any prefix."""

from __future__ import annotations

import pytest
import torch
from fixtures_tiny import separate_prefixes

from memedit.editing.frozen_blocks import FrozenBlocks, _RmsNorm, round_up
from memedit.modeling import from_llama
from memedit.modeling.arithmetic import computing
from memedit.modeling.token_tree import token_trees

SHAPES = {
    "grouped heads": {},
    "one key head": {"num_key_value_heads": 1},
    "as many key heads": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 20},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "untied, five layers": {"tie_word_embeddings": False, "num_hidden_layers": 5, "hidden_size": 40},
    "another activation, rope and epsilon": {"hidden_act": "gelu", "rms_norm_eps": 1e-3, "rope_theta": 100.0},
}
# fp32 sums of some 50 terms, through 4 blocks, on logits of size 10.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request):
    """A memory-layer Llama of many shapes, nothing written, norms that are not all ones."""
    from fixtures_tiny import build_tiny_llama

    made = from_llama(
        build_tiny_llama(**request.param),
        memory_layers=[1],
        memory_num_keys=16,
        memory_key_dim=16,
        memory_heads=2,
        memory_top_k=4,
        memory_empty_base=True,
    )
    generator = torch.Generator().manual_seed(5)
    for name, parameter in made.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made.requires_grad_(requires_grad=False)


def through_the_model(model, ids, added=None):
    """Output of block 1 and the logits; `added` is put onto the output of block 1."""
    seen = []

    def note(_, __, output):
        seen.append(output)
        return output if added is None else output + added

    handle = model.model.layers[1].register_forward_hook(note)
    try:
        logits = model(input_ids=ids).logits
    finally:
        handle.remove()
    return seen[0], logits


@pytest.mark.parametrize("cuts", [(1, 1, 1), (3, 9, 17), (18, 2, 5)])
def test_logits_behind_a_prefix(model, cuts):
    ids = torch.arange(60).view(3, 20) * 7 % 300 + 3
    hidden, logits = through_the_model(model, ids)
    blocks = FrozenBlocks(model, 2)
    longest = max(cuts)
    # What lies behind a row's own prefix is padding, which must not matter.
    padded = torch.full((3, longest, hidden.shape[-1]), 7.7)
    for row, cut in enumerate(cuts):
        padded[row, :cut] = hidden[row, :cut]
    prefixes = separate_prefixes(blocks, padded, cuts)
    assert [prefix.length for prefix in prefixes] == list(cuts)
    rest = [hidden[row, cut:] for row, cut in enumerate(cuts)]
    longest = max(map(len, rest))
    suffix = torch.full((3, longest, hidden.shape[-1]), -3.3)
    for row, part in enumerate(rest):
        suffix[row, : len(part)] = part
    out = blocks.logits(blocks.forward(suffix, prefixes))
    for row, (cut, part) in enumerate(zip(cuts, rest, strict=True)):
        torch.testing.assert_close(out[row, : len(part)], logits[row, cut:], **TOLERANCE)


def test_gradients_are_those_of_the_real_model(model):
    ids = torch.arange(34).view(2, 17) * 11 % 300 + 3
    cut = 6
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, 17 - cut, model.config.vocab_size, generator=generator)
    hidden, _ = through_the_model(model, ids)
    added = (0.1 * torch.randn(hidden.shape, generator=generator)).requires_grad_()
    with torch.no_grad():
        added[:, :cut] = 0
    _, logits = through_the_model(model, ids, added)
    (expected,) = torch.autograd.grad((logits[:, cut:] * weights).sum(), added)
    blocks = FrozenBlocks(model, 2)
    prefixes = separate_prefixes(blocks, hidden[:, :cut], [cut, cut])
    own = added.detach()[:, cut:].clone().requires_grad_()
    out = blocks.logits(blocks.forward(hidden[:, cut:] + own, prefixes))
    (gradient,) = torch.autograd.grad((out * weights).sum(), own)
    scale = expected.abs().max()
    torch.testing.assert_close(gradient / scale, expected[:, cut:] / scale, rtol=1e-4, atol=2e-5)


def test_a_row_without_a_prefix(model):
    ids = torch.arange(14).view(2, 7) * 13 % 300 + 3
    hidden, logits = through_the_model(model, ids)
    blocks = FrozenBlocks(model, 2)
    prefixes = separate_prefixes(blocks, hidden[:, :0], [0, 0])
    torch.testing.assert_close(blocks.logits(blocks.forward(hidden, prefixes)), logits, **TOLERANCE)


def test_bf16_stays_close_to_the_model(model):
    model = model.to(torch.bfloat16)
    ids = torch.arange(40).view(2, 20) * 7 % 300 + 3
    hidden, logits = through_the_model(model, ids)
    assert hidden.dtype == torch.bfloat16
    blocks = FrozenBlocks(model, 2)
    out = blocks.logits(blocks.forward(hidden[:, 5:], separate_prefixes(blocks, hidden[:, :5], [5, 5])))
    assert out.dtype == torch.float32
    error = (out - logits[:, 5:].float()).abs().max() / logits.float().abs().max()
    # bf16 holds 8 bits; a dozen roundings one behind the other.
    assert error < 12 * 2**-8


def test_the_prefixes_of_a_widened_model_take_the_room_of_its_file(model, monkeypatch):
    monkeypatch.setenv("MEMEDIT_DTYPE", "float32")
    model = computing(model.to(torch.bfloat16))
    ids = torch.arange(40).view(2, 20) * 7 % 300 + 3
    hidden, logits = through_the_model(model, ids)
    blocks = FrozenBlocks(model, 2)
    prefixes = separate_prefixes(blocks, hidden[:, :5], [5, 3])
    assert {part.dtype for prefix in prefixes for part in (prefix.keys, prefix.values)} == {torch.bfloat16}
    # Nothing but what is kept, and once for all rows: 5 and 3 tokens.
    assert prefixes[1].keys is prefixes[0].keys
    assert prefixes[1].keys.shape[2] == 5 + 3
    assert prefixes[1].keys.untyped_storage().nbytes() == 2 * prefixes[1].keys.numel()
    out = blocks.logits(blocks.forward(hidden[:1, 5:], prefixes[:1]))
    error = (out - logits[:1, 5:]).abs().max() / logits.abs().max()
    # The prefix alone is rounded, to 8 bits.
    assert 0 < error < 2 * 2**-8


def test_shared_beginnings_are_kept_once(model):
    ids = torch.arange(40).view(2, 20) * 7 % 300 + 3
    ids[1, :4] = ids[0, :4]
    hidden, logits = through_the_model(model, ids)
    blocks = FrozenBlocks(model, 2)
    cuts = [9, 6]
    (tree,) = token_trees([ids[row, :cut].tolist() for row, cut in enumerate(cuts)])
    flat = torch.empty(len(tree.tokens), hidden.shape[-1])
    for row, path in zip(tree.rows, tree.paths, strict=True):
        flat[path] = hidden[row, : cuts[row]]
    found = dict(zip(tree.rows, blocks.prefix_keys(flat, tree), strict=True))
    assert found[0].keys.shape[2] == 9 + 6 - 4
    for row, cut in enumerate(cuts):
        out = blocks.logits(blocks.forward(hidden[row : row + 1, cut:], [found[row]]))[0]
        torch.testing.assert_close(out, logits[row, cut:], **TOLERANCE)


def test_the_models_weights_are_shared(model):
    blocks = FrozenBlocks(model, 2)
    assert blocks.head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert blocks.blocks[0].up.weight.data_ptr() == model.model.layers[2].mlp.up_proj.weight.data_ptr()


@pytest.mark.parametrize("width", [1, 7, 48])
def test_rms_norm_in_double_precision(width):
    generator = torch.Generator().manual_seed(width)
    inputs = torch.randn(2, 3, width, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(width, generator=generator)
    weights = torch.randn(2, 3, width, dtype=torch.float64, generator=generator)
    out = _RmsNorm.apply(inputs, weight, 1e-5)
    (gradient,) = torch.autograd.grad((out * weights).sum(), inputs)
    plain = torch.nn.functional.rms_norm(inputs, (width,), weight.double(), 1e-5)
    (expected,) = torch.autograd.grad((plain * weights).sum(), inputs)
    # It works in fp32 inside.
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)

    def norm(values):
        return _RmsNorm.apply(values, weight, 1e-5)

    # Steps of 1e-2 keep fp32's rounding out of the difference quotient.
    assert torch.autograd.gradcheck(
        norm, (4 + inputs.detach().requires_grad_(),), eps=1e-2, atol=1e-2, rtol=1e-2
    )


def test_rms_norm_leaves_its_input_alone():
    inputs = torch.randn(4, 8)
    before = inputs.clone()
    _RmsNorm.apply(inputs, torch.ones(8), 1e-6)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize(("length", "multiple", "rounded"), [(0, 8, 0), (1, 8, 8), (8, 8, 8), (9, 4, 12)])
def test_round_up(length, multiple, rounded):
    assert round_up(length, multiple) == rounded
