"""Scoring given answers, and respondents that remember."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from memedit.evaluation.generation import Generation
from memedit.evaluation.respondent import CachedRespondent, ModelRespondent
from memedit.evaluation.samples import Sample, difference_metric, mean_metric
from memedit.evaluation.scoring import Scored, score_continuations
from memedit.evaluation.statistics import wilson_interval
from memedit.modeling.encoding import encode_fact

PAIRS = [("Oslo is the capital of", " Norway"), ("A", " long answer that has many tokens"), ("A", " b")]


@pytest.fixture
def model(tiny_llama):
    return tiny_llama.eval()


def one_by_one(model, tokenizer, prompt, continuation):
    """The same by hand, a pair at a time."""
    fact = encode_fact(tokenizer, model.config, prompt, continuation)
    ids = torch.tensor([fact.ids[:-1]])
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0].double().log_softmax(-1)
    places = range(fact.num_prompt - 1, ids.shape[1] - 1)
    tokens = [int(ids[0, place + 1]) for place in places]
    log_prob = sum(float(logs[place, token]) for place, token in zip(places, tokens, strict=True))
    greedy = sum(int(logs[place].argmax()) == token for place, token in zip(places, tokens, strict=True))
    return Scored(log_prob, len(tokens), greedy)


def test_scores_are_those_of_a_single_row(model, tiny_tokenizer):
    for batch_tokens in (1, 40, 2048):
        found = score_continuations(model, tiny_tokenizer, [*PAIRS, PAIRS[0]], batch_tokens=batch_tokens)
        for (prompt, continuation), scored in zip([*PAIRS, PAIRS[0]], found, strict=True):
            expected = one_by_one(model, tiny_tokenizer, prompt, continuation)
            assert scored.log_prob == pytest.approx(expected.log_prob, rel=1e-4, abs=1e-4)
            assert (scored.num_tokens, scored.num_greedy) == (expected.num_tokens, expected.num_greedy)


def test_an_empty_continuation_is_refused(model, tiny_tokenizer):
    with pytest.raises(ValueError, match="target"):
        score_continuations(model, tiny_tokenizer, [("A", " ")])
    assert score_continuations(model, tiny_tokenizer, []) == []


class Notebook(dict):
    """A cache in memory."""

    def read(self, name):
        return self.get(name)

    def write(self, name, value):
        self[name] = value


class Once:
    """Answers once; asked again it fails."""

    def __init__(self):
        self.asked = 0

    def answer(self, prompts, *, max_new_tokens=16, description=""):
        self.asked += 1
        return [Generation(f"to {prompt}", (1, 2), 0.5, "eos") for prompt in prompts]

    def score(self, pairs, *, description=""):
        self.asked += 1
        return [Scored(-1.0, 2, 1) for _ in pairs]

    def count_tokens(self, texts):
        self.asked += 1
        return [len(text) for text in texts]


def test_the_cache_answers_the_second_time_and_only_for_the_same_state():
    who, cache = Once(), Notebook()
    first = CachedRespondent(lambda: who, cache, "state-a")
    given = first.answer(["p", "q"]), first.score([("p", " a")])
    again = CachedRespondent(lambda: who, cache, "state-a")
    assert (again.answer(["p", "q"]), again.score([("p", " a")])) == given
    assert who.asked == 2
    CachedRespondent(lambda: who, cache, "state-b").answer(["p", "q"])
    again.answer(["q", "p"])
    again.answer(["p", "q"], max_new_tokens=3)
    assert who.asked == 5


def test_token_counts_are_remembered_so_that_a_full_cache_loads_no_model():
    who, cache = Once(), Notebook()
    for _ in range(2):
        assert CachedRespondent(lambda: who, cache, "state").count_tokens([" ab", "c"]) == [3, 1]
    assert who.asked == 1


@pytest.mark.parametrize("damage", [None, [], [{"text": "x"}, {"text": "y"}], ["a", "b"], {"text": "x"}])
def test_a_damaged_entry_is_measured_again(damage):
    who, cache = Once(), Notebook()
    asked = CachedRespondent(lambda: who, cache, "state")
    given = asked.answer(["p", "q"])
    cache[next(iter(cache))] = damage
    assert asked.answer(["p", "q"]) == given
    assert who.asked == 2


def test_nothing_asked_makes_no_respondent():
    def never():
        raise AssertionError("not needed")

    cached = CachedRespondent(never, Notebook(), "state")
    assert cached.answer([]) == []
    assert cached.score([]) == []
    assert cached.count_tokens([]) == []


def test_a_model_answers_through_the_interface(model, tiny_tokenizer):
    asked = ModelRespondent(model, tiny_tokenizer)
    assert len(asked.answer(["A b", "C"], max_new_tokens=2)) == 2
    assert asked.score(PAIRS) == score_continuations(model, tiny_tokenizer, PAIRS)
    texts = [" Norway", ""]
    assert asked.count_tokens(texts) == [
        len(tiny_tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts
    ]


def sample(item, value, cluster=None):
    return Sample("m", item, cluster or item, "p", ("a",), "t", value)


def test_means_count_clusters_not_wordings():
    alone = mean_metric("m", [sample(str(index), float(index % 2)) for index in range(40)], "how")
    together = mean_metric("m", [sample(str(i), float(i // 20 % 2), str(i // 20)) for i in range(40)], "how")
    assert (alone.value, alone.n, together.value, together.n) == (0.5, 40, 0.5, 40)
    assert together.high - together.low > alone.high - alone.low
    numbers = mean_metric("m", [sample(str(index), index / 10) for index in range(11)], "how")
    assert numbers.value == pytest.approx(0.5)
    assert 0.25 < numbers.low < 0.5 < numbers.high < 0.75


@pytest.mark.parametrize("value", [0.25, 0.1 + 0.2, 1.0, 0.0])
@pytest.mark.parametrize("num_clusters", [1, 2, 7])
def test_an_interval_of_bounded_values_has_a_width(value, num_clusters):
    samples = [sample(str(item), value, str(item % num_clusters)) for item in range(21)]
    reach = 1 - wilson_interval(num_clusters, num_clusters)[0]
    found = mean_metric("m", samples, "how", bounded=True)
    assert (found.low, found.high) == pytest.approx((max(0, value - reach), min(1, value + reach)))
    gone = [dataclasses.replace(one, value=0.0) for one in samples]
    lost = difference_metric("m", samples, gone, "how")
    assert (lost.low, lost.high) == pytest.approx((max(-1, -value - reach), min(1, -value + reach)))


def test_one_cluster_of_unbounded_values_has_no_interval():
    samples = [sample(str(item), -3.0 - item, "one fact") for item in range(3)]
    for found in (mean_metric("m", samples, "how"), difference_metric("m", samples, samples, "how")):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        as_json = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert (as_json["value"], as_json["low"], as_json["high"]) == (found.value, None, None)
    two = mean_metric("m", [*samples, sample("9", -9.0)], "how")
    assert (two.low, two.high) == (-9, -4)


def test_what_may_lie_outside_is_said_and_not_guessed():
    # Log-probabilities of 0: a fact that is known perfectly. As a share, 0 would have an upper end.
    samples = [sample("a", 0.0)]
    assert mean_metric("m", samples, "how").high == wilson_interval(0, 1)[1]
    assert math.isnan(mean_metric("m", samples, "how", bounded=False).high)
    assert math.isnan(difference_metric("m", samples, samples, "how", bounded=False).high)


def test_differences_are_paired():
    before = [sample(str(index), float(index % 2)) for index in range(40)]
    after = [sample(str(index), float(index % 2) - (index < 4)) for index in range(40)]
    found = difference_metric("m", before, after[::-1], "how")
    assert found.value == pytest.approx(-0.1)
    assert -0.22 < found.low < found.high < 0
    same = difference_metric("m", before, before, "how")
    # Nothing changed in any of 40 items: others may change, as many as Wilson's interval leaves room for.
    reach = 1 - wilson_interval(40, 40)[0]
    assert (same.value, same.low, same.high) == (0, -reach, reach)
    with pytest.raises(ValueError, match="same items"):
        difference_metric("m", before, after[1:], "how")


COMMON = "The capital of France is the city of Paris. The river of the city is long. "
SHARING = [
    (f"{COMMON}{prompt}", answer) for prompt in ("A", "Oslo is", "b") for answer in (" b", " long", " c")
]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("beside", [[], PAIRS])
def test_what_many_prompts_share_is_run_once(model, tiny_memory_llama, tiny_tokenizer, memory, beside):
    if memory:
        model = tiny_memory_llama(memory_query_window=3)
    widths = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, named: widths.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    found = score_continuations(model, tiny_tokenizer, [*beside, *SHARING])
    handle.remove()
    (first, shared), (rows, longest) = widths[:2]
    assert (first, rows, len(widths)) == (1, len(SHARING), 2 + bool(beside))
    assert shared > 16
    assert longest < 16
    for (prompt, continuation), scored in zip([*beside, *SHARING], found, strict=True):
        expected = one_by_one(model, tiny_tokenizer, prompt, continuation)
        assert scored.log_prob == pytest.approx(expected.log_prob, rel=1e-4, abs=1e-4)
        assert (scored.num_tokens, scored.num_greedy) == (expected.num_tokens, expected.num_greedy)


def test_lent_keys_and_values_bound_the_batch(model, tiny_tokenizer):
    sizes = []
    handle = model.register_forward_pre_hook(
        lambda module, arguments, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    pairs = [(COMMON + "A", f" {letter}") for letter in "abcdefghijklmnop"]
    score_continuations(model, tiny_tokenizer, pairs, batch_tokens=100)
    handle.remove()
    length = len(encode_fact(tiny_tokenizer, model.config, *pairs[0]).ids) - 1
    assert sum(sizes) == 1 + len(pairs)
    assert max(sizes) == 4 * 100 // length
