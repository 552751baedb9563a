"""What many prompts begin with is run once, and changes no answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from memedit.evaluation.drawing import Drawing
from memedit.evaluation.generation import generate_answers
from memedit.evaluation.sampling import sample_answers
from memedit.evaluation.shared_prefix import groups_that_begin_alike, share_prefix

COMMON = "The capital of France is the city of Paris. The river of the city is long. "
TAILS = ["A", "Oslo is", "b", "The name of the city is", "Where was he born?", "lo", "x y", "zz", "."]
SHARING = [COMMON + tail for tail in TAILS]
BESIDE = ["Oslo is", "The city"]


@pytest.fixture(params=["llama", "memory"])
def model(request, tiny_llama, tiny_memory_llama):
    if request.param == "llama":
        return tiny_llama
    return tiny_memory_llama(memory_query_window=3)


@pytest.fixture
def widths(model):
    """The shapes of all inputs that the model is run on."""
    shapes = []
    model.register_forward_pre_hook(
        lambda module, arguments, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("beside", [[], BESIDE])
def test_greedy_answers_are_those_of_whole_prompts(model, tiny_tokenizer, widths, beside):
    prompts = [*SHARING, *beside]
    together = generate_answers(model, tiny_tokenizer, prompts, max_new_tokens=12)
    (first, shared), (rows, longest) = widths[:2]
    assert (first, rows) == (1, len(SHARING))
    assert shared > longest > 1
    for prompt, one in zip(prompts, together, strict=True):
        (alone,) = generate_answers(model, tiny_tokenizer, [prompt], max_new_tokens=12)
        assert one.token_ids == alone.token_ids
        assert one.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert len({one.token_ids for one in together}) > 3


def test_drawn_answers_are_those_of_whole_prompts(model, tiny_tokenizer, widths):
    drawing = Drawing(4, 1.0, max_new_tokens=8)
    together = sample_answers(model, tiny_tokenizer, SHARING, drawing)
    assert widths[0][0] == 1
    for prompt, many in zip(SHARING, together, strict=True):
        (alone,) = sample_answers(model, tiny_tokenizer, [prompt], drawing)
        assert [one.token_ids for one in many] == [one.token_ids for one in alone]


def test_few_prompts_share_nothing(model, tiny_tokenizer, widths):
    generate_answers(model, tiny_tokenizer, SHARING[:7], max_new_tokens=1)
    assert [rows for rows, _ in widths] == [7]


def test_batches_of_what_is_lent_are_bounded(tiny_llama, tiny_tokenizer):
    sizes = []
    tiny_llama.register_forward_pre_hook(
        lambda module, arguments, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    prompts = [f"{COMMON}{letter}" for letter in "abcdefghijklmnop"]
    generate_answers(tiny_llama, tiny_tokenizer, prompts, max_new_tokens=1, batch_tokens=100)
    length = 1 + len(tiny_tokenizer(prompts[0], add_special_tokens=False)["input_ids"])
    assert sum(sizes) == 1 + len(prompts)
    assert max(sizes) == 400 // (length + 1)


def test_groups():
    long = tuple(range(16))
    starts = [(*long, 1)] * 8 + [(1, 2)] + [(*long[:15], 99)] * 7 + [(*long, 7)]
    assert groups_that_begin_alike(starts) == [[*range(8), 16], list(range(8, 16))]
    assert groups_that_begin_alike([]) == []


def test_a_cache_of_another_kind_is_not_lent(tiny_llama):
    starts = [tuple(range(20))] * 8
    assert len(share_prefix(tiny_llama, starts).ids) == 20
    assert share_prefix(tiny_llama, starts[:7]).ids == ()

    class Recurrent(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids, use_cache):
            return SimpleNamespace(past_key_values=SimpleNamespace(layers=[object()]))

    shared = share_prefix(Recurrent(), starts)
    assert (shared.ids, shared.lend(3)) == ((), None)
