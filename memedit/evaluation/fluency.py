"""Fluency: whether a model still writes text, or repeats itself.

What: `fluency`, `n_gram_entropy`, `weighted_entropy`.
Why: a model that an edit has broken often repeats a few words; the entropy of its 2- and 3-grams falls long
before a reader of tables would see the text.
How: each prompt is continued by a drawn text of fixed length (top-k 5, temperature 1, no stop), since greedy
text of a small model repeats itself unedited, and short texts have little entropy whatever they say. H_n is
the entropy in bits of the n-grams of a text's words; a text's fluency is the mean of 2/3 H_2 and 4/3 H_3. A
word is a run of letters, digits and apostrophes, or a single other mark; the prompt does not count.

Source: Zhang et al. (2018), Generating Informative and Diverse Conversational Responses, section 5 (entropy
of n-grams); Meng et al. (2022), ROME, appendix "generation entropy" (weights, top-k 5, 100 tokens; they
count the prompt, use another splitter of words and print 100 times the value).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.drawing import Drawing
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample, mean_metric

__all__ = ["METRICS", "fluency", "n_gram_entropy", "weighted_entropy", "words_of"]

_NAME = "fluency"
_WEIGHTS: Mapping[int, float] = {2: 2 / 3, 3: 4 / 3}
_TOP_K = 5
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_")
_HOW = (
    "text of {num} tokens drawn at temperature 1 among the 5 most probable tokens, no stop, prompt left out"
)

METRICS = (
    MetricInfo(
        _NAME,
        "retained",
        "mean over texts of (2/3 H_2 + 4/3 H_3) / 2, H_n = entropy in bits of the n-grams of words",
        "Meng et al. 2022, ROME, generation entropy; Zhang et al. 2018, section 5",
        _HOW.format(num=100),
        higher_is_better=True,
    ),
)
"""The catalogue's entries."""


def fluency(
    respondent: Respondent, prompts: Mapping[str, str], *, num_tokens: int = 100, seed: int = 0
) -> Evaluation:
    """Measure the fluency of what a model writes.

    Args:
        respondent: Who writes.
        prompts: By item (a fact's id, say) the text to continue, such as a fact's prompt.
        num_tokens: Tokens of each text; entropies of texts of different length do not compare.
        seed: Seed of the texts and of the interval; the same for both models that are compared.
    Returns:
        fluency, in bits; n counts texts.
    Raises:
        ValueError: num_tokens is below 1.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
    drawing = Drawing(1, 1.0, seed, _TOP_K, num_tokens, natural_stop=False)
    drawn = respondent.sample(list(prompts.values()), drawing, description="Writing texts")
    samples = [
        Sample(_NAME, f"{item}/text", item, prompt, (), texts[0].text, weighted_entropy(texts[0].text))
        for (item, prompt), texts in zip(prompts.items(), drawn, strict=True)
    ]
    how = _HOW.format(num=num_tokens)
    return Evaluation((mean_metric(_NAME, samples, how, seed=seed, bounded=False),), tuple(samples))


def words_of(text: str) -> list[str]:
    """Return the words and marks of a text, in order."""
    return _WORD.findall(text)


def n_gram_entropy(words: Sequence[str], n: int) -> float:
    """Return the entropy of the n-grams of a text.

    Args:
        words: Its words.
        n: Length of an n-gram, at least 1.
    Returns:
        - sum over distinct n-grams of p log2 p, p their share; 0 for a text without n-grams.
    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    total = counts.total()
    return math.fsum(count / total * math.log2(total / count) for count in counts.values())


def weighted_entropy(text: str) -> float:
    """Return the fluency of one text in bits: the mean of 2/3 H_2 and 4/3 H_3."""
    words = words_of(text)
    return math.fsum(weight * n_gram_entropy(words, n) for n, weight in _WEIGHTS.items()) / len(_WEIGHTS)
