"""How well a model supports an answer: how sure it is of it, for this very subject.

What: `support_of_answers`, `answer_clause`, `contrastive_support`.
Why: the probability of the first token says little about an answer: it has several tokens, and "Europe" is
likely behind "is on the continent of" whatever stands in front. The log-probability of the whole answer,
lowered where the answer is likely for look-alikes of the subject too, tells right answers from wrong ones and
from inventions much better (numbers in docs/provenance.md).
How: the answer is its first clause, of six words at most, since a small model goes on talking; its
log-probability is taken behind the prompt, and behind two prompts in which the subject, found by its capitals
(memedit.facts.find_subject), is replaced by a look-alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from memedit.evaluation.respondent import Respondent
from memedit.facts import Fact, find_subject, look_alikes, subject_span

__all__ = ["answer_clause", "contrastive_support", "support_of_answers"]

# Chosen on examples/well_known.jsonl with its look-alikes: weights from .2 to .3 and two to four look-alikes
# are equally good there; recipes/measure_support.py compares the score with others.
_NUM_LOOK_ALIKES = 2
_PRIOR_WEIGHT = 0.25
_MAX_WORDS = 6
_CLAUSE_END = re.compile(r"(?<=[^\s.,;:!?])[.,;:!?]+(?=\s|$)|\s[(\u2013\u2014]|\n")


def answer_clause(text: str) -> str:
    """Return the part of a generated text that is the answer.

    Args:
        text: A generated text.
    Returns:
        Its first clause, of six words at most; empty where it has no letter or digit.
    """
    stripped = text.strip()
    end = _CLAUSE_END.search(stripped)
    clause = stripped if end is None else stripped[: end.start()]
    return " ".join(clause.split()[:_MAX_WORDS]) if any(map(str.isalnum, clause)) else ""


def contrastive_support(log_prob: float, prior_log_probs: Sequence[float]) -> float:
    """Return the support of an answer.

    Args:
        log_prob: Log-probability of the answer behind its prompt, in nats.
        prior_log_probs: The same behind prompts about other subjects; may be empty.
    Returns:
        log p + (log p - log mean prior p) / 4; log p alone without priors.
    """
    if not prior_log_probs:
        return log_prob
    largest = max(prior_log_probs)
    total = math.fsum(math.exp(prior - largest) for prior in prior_log_probs)
    prior = largest + math.log(total / len(prior_log_probs))
    return log_prob + _PRIOR_WEIGHT * (log_prob - prior)


def support_of_answers(
    respondent: Respondent,
    prompts: Sequence[str],
    texts: Sequence[str],
    *,
    description: str = "Weighing answers",
) -> list[float]:
    """Say how well a model supports answers that were given.

    Args:
        respondent: The model; it need not be the one that answered.
        prompts: What was asked.
        texts: What was answered.
        description: What the progress shows.
    Returns:
        The support of each answer in nats, at most about 0; -inf for an empty answer.
    Raises:
        ValueError: There are not as many answers as prompts.
    """
    pairs: list[tuple[str, str]] = []
    counts = []
    for prompt, text in zip(prompts, texts, strict=True):
        clause = answer_clause(text)
        asked = [prompt, *_prompts_about_look_alikes(prompt)] if clause else []
        pairs += [(each, f" {clause}") for each in asked]
        counts.append(len(asked))
    scores = iter(respondent.score(pairs, description=description) if pairs else ())
    supports = []
    for count in counts:
        log_probs = [next(scores).log_prob for _ in range(count)]
        supports.append(contrastive_support(log_probs[0], log_probs[1:]) if log_probs else -math.inf)
    return supports


def _prompts_about_look_alikes(prompt: str) -> list[str]:
    """The prompt with its subject replaced, twice; nothing where no subject is found."""
    subject = find_subject(prompt)
    if subject is None or subject_span(prompt, subject) is None:
        return []
    fact = Fact("asked", prompt, "", subject)
    return [item.prompt for item in look_alikes([fact], num=_NUM_LOOK_ALIKES, seed=0)]
