"""Entropy of n-grams, against hand-computed values and scipy."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from scipy.stats import entropy

from memedit.evaluation.drawing import Drawing
from memedit.evaluation.fluency import fluency, n_gram_entropy, weighted_entropy, words_of


def test_entropies_by_hand():
    words = "the cat saw the cat saw the dog".split()
    # 2-grams: the-cat 2, cat-saw 2, saw-the 2, the-dog 1, of 7.
    two = 3 * (2 / 7) * math.log2(7 / 2) + (1 / 7) * math.log2(7)
    # 3-grams: the-cat-saw 2, cat-saw-the 2, saw-the-cat 1, saw-the-dog 1, of 6.
    three = 2 * (2 / 6) * math.log2(3) + 2 * (1 / 6) * math.log2(6)
    assert n_gram_entropy(words, 2) == pytest.approx(two)
    assert n_gram_entropy(words, 3) == pytest.approx(three)
    assert weighted_entropy(" ".join(words)) == pytest.approx((2 / 3 * two + 4 / 3 * three) / 2)


def test_entropies_are_scipys():
    words = "a b a c a b b a c a b c c b a a b a".split()
    for n in (1, 2, 3, 4):
        counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        assert n_gram_entropy(words, n) == pytest.approx(entropy(list(counts.values()), base=2))


@pytest.mark.parametrize("text", ["", "word", "word word", "one one one one one one", "  \n "])
def test_repetition_and_silence_have_none(text):
    assert weighted_entropy(text) == 0.0


def test_words():
    assert words_of("Don\u2019t stop, Anna's \u6771\u4eac_2!") == [
        "Don\u2019t",
        "stop",
        ",",
        "Anna's",
        "\u6771\u4eac",
        "_",
        "2",
        "!",
    ]
    with pytest.raises(ValueError, match="n must be"):
        n_gram_entropy(["a"], 0)


def test_a_broken_model_has_a_low_fluency(table_respondent):
    good = "The river runs past the old mill and on to the sea, where small boats wait for the tide."
    asked = table_respondent(samples={"p": [good], "q": ["the the the the the"]})
    found = fluency(asked, {"f1": "p", "f2": "q"}, seed=3)
    assert [sample.value for sample in found.samples] == [pytest.approx(weighted_entropy(good)), 0.0]
    (metric,) = found.metrics
    assert (metric.name, metric.n) == ("fluency", 2)
    assert metric.value == pytest.approx(weighted_entropy(good) / 2)
    assert [sample.item for sample in found.samples] == ["f1/text", "f2/text"]
    (call,) = asked.sample_calls
    drawing = Drawing(1, 1.0, seed=3, top_k=5, max_new_tokens=100, natural_stop=False)
    assert call == (["p", "q"], drawing)


def test_nothing_to_write(table_respondent):
    assert math.isnan(fluency(table_respondent(), {}).metric("fluency").value)
    with pytest.raises(ValueError, match="num_tokens"):
        fluency(table_respondent(), {}, num_tokens=0)
