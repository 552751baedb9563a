"""Generation with a cache agrees with generation without one, whatever is done to the cache."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, StaticCache

PROMPTS = (torch.arange(3, 30).view(3, 9) * 11) % 300 + 3
MASK = torch.ones_like(PROMPTS)
MASK[0, :4] = 0
MASK[1, :1] = 0
NEW = 12


@pytest.fixture(params=[1, 3, 6])
def written_model(request, tiny_memory_llama, tiny_overlay):
    """Two memory layers on one empty table, most slots written, gates open and closed."""
    model = tiny_memory_llama(
        memory_layers=[1, 2],
        memory_empty_base=True,
        memory_query_window=request.param,
        memory_query_norm="halves",
    )
    model.set_overlay(0, tiny_overlay(model))
    return model


def generate(model, **kwargs):
    torch.manual_seed(5)
    settings = {"attention_mask": MASK, "max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    return model.generate(PROMPTS, **{**settings, **kwargs})


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"do_sample": True, "top_k": 20},
        {"num_beams": 3},
        {"do_sample": True, "num_return_sequences": 2},
    ],
    ids=["greedy", "sampled", "beams", "repeated"],
)
def test_cached_equals_uncached(written_model, how):
    cached, uncached = (
        generate(written_model, use_cache=True, **how),
        generate(written_model, use_cache=False, **how),
    )
    assert torch.equal(cached, uncached)
    assert len(set(cached[:, PROMPTS.shape[1] :].flatten().tolist())) > 3, (
        "the model must not say one thing only"
    )


def test_left_padding_changes_nothing(written_model):
    whole = generate(written_model)
    for row in range(len(PROMPTS)):
        start = int(MASK[row].argmax())
        alone = generate_row(written_model, PROMPTS[row : row + 1, start:])
        assert torch.equal(whole[row, PROMPTS.shape[1] :], alone[0, -NEW:])


def generate_row(model, ids):
    mask = torch.ones_like(ids)
    return model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=None)


def test_padding_content_changes_nothing(written_model):
    other = PROMPTS.clone()
    other[MASK == 0] = 7
    with torch.no_grad():
        first = written_model(PROMPTS, attention_mask=MASK).logits[MASK == 1]
        second = written_model(other, attention_mask=MASK).logits[MASK == 1]
    assert torch.equal(first, second)


def test_token_by_token_equals_one_pass(written_model):
    cache = DynamicCache(config=written_model.config)
    with torch.no_grad():
        whole = written_model(PROMPTS, attention_mask=MASK).logits
        for start, stop in ((0, 4), (4, 5), (5, 9)):
            part = written_model(
                PROMPTS[:, start:stop],
                attention_mask=MASK[:, :stop],
                past_key_values=cache,
                position_ids=torch.arange(start, stop)[None],
            ).logits
            real = MASK[:, start:stop] == 1
            # One attention over more keys at once: differences of fp32 rounding only.
            torch.testing.assert_close(part[real], whole[:, start:stop][real], rtol=1e-3, atol=1e-3)


def test_continuing_from_a_cache(written_model):
    row = PROMPTS[2:3]
    straight = generate_row(written_model, row)
    first = written_model.generate(
        row, max_new_tokens=5, do_sample=False, eos_token_id=None, return_dict_in_generate=True
    )
    continued = written_model.generate(
        first.sequences,
        past_key_values=first.past_key_values,
        max_new_tokens=NEW - 5,
        do_sample=False,
        eos_token_id=None,
    )
    assert torch.equal(continued, straight)


def test_a_cache_without_configuration(written_model):
    lazy = DynamicCache()
    cached = written_model.generate(
        PROMPTS[2:3], past_key_values=lazy, max_new_tokens=NEW, do_sample=False, eos_token_id=None
    )
    assert torch.equal(cached, generate_row(written_model, PROMPTS[2:3]))


def test_cropping_and_selecting(written_model):
    cache = DynamicCache(config=written_model.config)
    with torch.no_grad():
        written_model(PROMPTS, past_key_values=cache)
        cache.crop(-3)
        cache.batch_select_indices(torch.tensor([2, 0]))
        rest = written_model(PROMPTS[[2, 0], 6:], past_key_values=cache).logits
        expected = written_model(PROMPTS[[2, 0]]).logits[:, 6:]
    torch.testing.assert_close(rest, expected, rtol=1e-3, atol=1e-3)


def test_speculation_that_crops_the_cache(written_model):
    row = PROMPTS[2:3].repeat(1, 2)
    guessed = written_model.generate(
        row, max_new_tokens=NEW, do_sample=False, eos_token_id=None, prompt_lookup_num_tokens=3
    )
    assert torch.equal(guessed, generate_row(written_model, row))


def test_an_edit_switched_on_in_the_middle(written_model, tiny_overlay):
    overlay = written_model.overlay()
    cache = DynamicCache(config=written_model.config)
    with torch.no_grad():
        written_model.set_overlay(0, None)
        plain = written_model(PROMPTS[:, :6], past_key_values=cache)
        written_model.set_overlay(0, overlay)
        last = written_model(PROMPTS[:, 6:], past_key_values=cache).logits
    assert plain.logits.shape[1] == 6
    assert torch.isfinite(last).all()


def test_window_of_one_stores_nothing(tiny_memory_llama):
    for window, extra in ((1, 0), (2, 2)):
        model = tiny_memory_llama(memory_layers=[1, 2], memory_query_window=window)
        cache = model(PROMPTS, use_cache=True).past_key_values
        assert len(cache.layers) == 4 + extra


def test_static_cache_is_refused_with_a_reason(tiny_memory_llama):
    model = tiny_memory_llama(memory_query_window=3)
    cache = StaticCache(config=model.config, max_cache_len=32)
    with pytest.raises(ValueError, match="got StaticCache, expected a dynamic cache"):
        model(PROMPTS, past_key_values=cache)
    with pytest.raises(ValueError, match="dynamic cache"):
        model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=2, cache_implementation="static")


def test_cache_of_another_model_is_refused(tiny_llama, tiny_memory_llama):
    model = tiny_memory_llama(llama=tiny_llama, memory_query_window=3)
    cache = tiny_llama(PROMPTS, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="9 tokens with 0 inputs of the memory layer"):
        model(PROMPTS[:, :1], past_key_values=cache)


def test_mask_of_another_kind_is_refused(tiny_memory_llama):
    model = tiny_memory_llama(memory_query_window=3)
    with pytest.raises(ValueError, match=r"attention_mask: got \(3, 1, 9, 9\)"):
        model(PROMPTS, attention_mask=torch.ones(3, 1, 9, 9))
