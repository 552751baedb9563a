"""Drawn answers: the distribution, the seeds, the shared rows."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from memedit.evaluation.drawing import Drawing
from memedit.evaluation.generation import Generation, generate_answers
from memedit.evaluation.respondent import CachedRespondent, ModelRespondent
from memedit.evaluation.sampling import sample_answers

PROMPTS = ["Oslo is", "A", "The capital of Spain is the city of", "bb"]


@pytest.fixture
def model(tiny_llama):
    return tiny_llama.eval()


def draw(model, tokenizer, prompts=PROMPTS, **options):
    batch = {"batch_tokens": options.pop("batch_tokens")} if "batch_tokens" in options else {}
    drawing = Drawing(**{"num_samples": 5, "temperature": 1.0, "max_new_tokens": 6, **options})
    return sample_answers(model, tokenizer, prompts, drawing, **batch)


def test_the_distribution_is_the_models(model, tiny_tokenizer):
    """Chi-square of 4,000 first tokens against softmax(logits / T)."""
    from scipy.stats import chisquare

    temperature, number = 0.7, 4000
    (answers,) = draw(
        model,
        tiny_tokenizer,
        ["Oslo is"],
        num_samples=number,
        temperature=temperature,
        max_new_tokens=1,
        batch_tokens=10**6,
    )
    ids = torch.tensor([[1, *tiny_tokenizer("Oslo is", add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1].double()
    expected = (logits / temperature).softmax(-1) * number
    counts = Counter(answer.token_ids[0] for answer in answers)
    often = [token for token in range(len(expected)) if expected[token] >= 5]
    found = [counts[token] for token in often]
    wanted = [float(expected[token]) for token in often]
    rest = (number - sum(found), number - sum(wanted))
    assert len(often) > 5
    assert chisquare([*found, rest[0]], [*wanted, rest[1]]).pvalue > 0.001
    likely = logits.softmax(-1)
    for answer in answers[:20]:
        assert answer.confidence == pytest.approx(float(likely[answer.token_ids[0]]), rel=1e-4)


def test_a_prompts_answers_do_not_depend_on_the_others(model, tiny_tokenizer):
    together = draw(model, tiny_tokenizer)
    assert together == draw(model, tiny_tokenizer)
    alone = [draw(model, tiny_tokenizer, [prompt])[0] for prompt in PROMPTS]
    for many, one in zip(together, alone, strict=True):
        assert [answer.token_ids for answer in many] == [answer.token_ids for answer in one]
    again = draw(model, tiny_tokenizer, [*PROMPTS[::-1], PROMPTS[0]], batch_tokens=1)
    assert [[a.token_ids for a in many] for many in again[-2::-1]] == [
        [a.token_ids for a in many] for many in together
    ]
    assert again[-1] == again[-2]
    # More answers: the first ones stay.
    more = draw(model, tiny_tokenizer, num_samples=9)
    assert [a.token_ids for a in more[0][:5]] == [a.token_ids for a in together[0]]


def test_seeds_and_samples_differ(model, tiny_tokenizer):
    first, other = draw(model, tiny_tokenizer), draw(model, tiny_tokenizer, seed=1)
    assert first != other
    assert len({answer.token_ids for answer in first[0]}) > 1


def test_almost_no_temperature_is_greedy(model, tiny_tokenizer):
    greedy = generate_answers(model, tiny_tokenizer, PROMPTS, max_new_tokens=8)
    cold = draw(model, tiny_tokenizer, temperature=1e-6, max_new_tokens=8)
    only = draw(model, tiny_tokenizer, top_k=1, max_new_tokens=8)
    for one, many, single in zip(greedy, cold, only, strict=True):
        for answer in (*many, *single):
            assert (answer.text, answer.token_ids, answer.stopped) == (one.text, one.token_ids, one.stopped)
            assert answer.confidence == pytest.approx(one.confidence, abs=1e-6)


def test_top_k_draws_among_the_most_probable(model, tiny_tokenizer):
    (answers,) = draw(
        model, tiny_tokenizer, ["Oslo is"], num_samples=300, top_k=3, max_new_tokens=1, temperature=50.0
    )
    ids = torch.tensor([[1, *tiny_tokenizer("Oslo is", add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        best = set(model(input_ids=ids).logits[0, -1].topk(3).indices.tolist())
    counts = Counter(answer.token_ids[0] for answer in answers)
    assert set(counts) == best
    # At this temperature the three are equally likely: 100 each, sd 8.
    assert min(counts.values()) > 60


def test_equal_texts_share_a_row(table_model):
    model, tokenizer = table_model({"a": "xyz", "bb": "q", "d": ""})
    # The table's logit of 10 at T = 0.01 leaves no other choice: one row a prompt, whatever the samples.
    got = sample_answers(model, tokenizer, ["a", "bb", "d", "a"], Drawing(50, 0.01))
    assert model.rows_run == [3, 2, 1, 1]
    assert [[answer.text for answer in answers[:2]] for answers in got] == [
        ["xyz"] * 2,
        ["q"] * 2,
        [""] * 2,
        ["xyz"] * 2,
    ]
    assert {len(answers) for answers in got} == {50}


def test_branches_go_on_from_their_own_past(char_tokenizer):
    """A model that repeats what was drawn: every text must be its own first letter over and over."""
    from types import SimpleNamespace

    tokenizer = char_tokenizer(["pxyz"])

    class Cache:
        def __init__(self, rows):
            self.rows = rows
            self.layers = []

        def batch_select_indices(self, indices):
            self.rows = [list(self.rows[index]) for index in indices.tolist()]

        reorder_cache = batch_select_indices

    class Echo(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = SimpleNamespace(eos_token_id=0, memory_bos_token_id=None)
            self.device = torch.device("cpu")

        def forward(self, input_ids, attention_mask, past_key_values=None, use_cache=None):
            cache = past_key_values or Cache([[] for _ in input_ids])
            logits = torch.full((len(input_ids), 1, len(tokenizer)), -1e9)
            for row, (history, new) in enumerate(zip(cache.rows, input_ids.tolist(), strict=True)):
                history.extend(new)
                last = tokenizer.decode(history[-1:])
                options = "xyz" if last == "p" else last
                logits[row, 0, [tokenizer.ids[char] for char in options]] = 0.0
            return SimpleNamespace(logits=logits, past_key_values=cache)

    (answers,) = sample_answers(Echo(), tokenizer, ["p"], Drawing(60, 1.0, max_new_tokens=4))
    assert {answer.text for answer in answers} == {"xxxx", "yyyy", "zzzz"}
    assert all(count > 5 for count in Counter(answer.text for answer in answers).values())
    assert all(answer.confidence == pytest.approx(1 / 3) for answer in answers)


def test_a_free_text_has_its_full_length(table_model):
    model, tokenizer = table_model({"a": "x", "b": "\nxxxxxxx"})
    (stopped,) = sample_answers(model, tokenizer, ["a"], Drawing(1, 0.01, max_new_tokens=5))
    assert (stopped[0].text, stopped[0].stopped, len(stopped[0].token_ids)) == ("x", "eos", 2)
    (free,) = sample_answers(model, tokenizer, ["b"], Drawing(1, 0.01, max_new_tokens=5, natural_stop=False))
    assert (free[0].text, free[0].stopped, len(free[0].token_ids)) == ("xxxx", "length", 5)


def test_a_free_text_never_ends(model, tiny_tokenizer):
    ends = {model.config.bos_token_id, model.config.eos_token_id}
    found = draw(
        model, tiny_tokenizer, natural_stop=False, num_samples=40, max_new_tokens=12, temperature=5.0
    )
    assert {len(answer.token_ids) for answers in found for answer in answers} == {12}
    drawn = {token for answers in found for answer in answers for token in answer.token_ids}
    assert not drawn & ends


def test_a_query_window_follows_its_branch(tiny_memory_llama, tiny_tokenizer):
    from memedit.modeling import Overlay

    model = tiny_memory_llama(memory_query_window=3, memory_empty_base=True)
    slots = torch.arange(256)
    model.set_overlay(
        0,
        Overlay(slots, 2 * torch.randn(256, model.config.value_dim), torch.full((256,), -1), torch.zeros(0)),
    )
    together = draw(model, tiny_tokenizer, num_samples=6, max_new_tokens=8)
    for prompt, many in zip(PROMPTS, together, strict=True):
        for place in (1, 5):
            more = draw(model, tiny_tokenizer, [prompt], num_samples=place + 1, max_new_tokens=8)[0]
            assert more[place].token_ids == many[place].token_ids


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"batch_tokens": 0}, "batch_tokens"),
    ],
)
def test_wrong_numbers_are_refused(model, tiny_tokenizer, options, named):
    with pytest.raises(ValueError, match=named):
        draw(model, tiny_tokenizer, **options)


def test_nothing_asked(model, tiny_tokenizer):
    assert draw(model, tiny_tokenizer, []) == []


def test_a_broken_model_still_gives_an_answer(model, tiny_tokenizer):
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    (answers,) = draw(model, tiny_tokenizer, ["a"])
    assert len(answers) == 5


class Drawer:
    """Draws once per question; counts how often it is asked."""

    asked = 0

    def sample(self, prompts, drawing, *, description=""):
        self.asked += 1
        return [
            tuple(
                Generation(f"{prompt}{number}", (number,), 0.5, "eos")
                for number in range(drawing.num_samples)
            )
            for prompt in prompts
        ]


class Notebook(dict):
    def read(self, name):
        return self.get(name)

    def write(self, name, value):
        self[name] = value


def test_samples_are_remembered():
    who, cache = Drawer(), Notebook()
    asked = CachedRespondent(lambda: who, cache, "state")
    first = asked.sample(["p", "q"], Drawing(3, 0.5))
    assert [[answer.text for answer in answers] for answers in first] == [
        ["p0", "p1", "p2"],
        ["q0", "q1", "q2"],
    ]
    assert CachedRespondent(lambda: who, cache, "state").sample(["p", "q"], Drawing(3, 0.5)) == first
    assert who.asked == 1
    for options in ({"seed": 1}, {"top_k": 4}, {"natural_stop": False}, {"max_new_tokens": 2}):
        asked.sample(["p", "q"], Drawing(3, 0.5, **options))
    asked.sample(["p", "q"], Drawing(3, 0.6))
    assert who.asked == 6
    assert asked.sample([], Drawing(3, 0.5)) == []


def test_a_model_samples_through_the_interface(model, tiny_tokenizer):
    found = ModelRespondent(model, tiny_tokenizer).sample(PROMPTS, Drawing(5, 1.0, max_new_tokens=6))
    assert found == draw(model, tiny_tokenizer)
