"""Whether a stored fact supports an answer: it must be what is asked for, not only about whom.

What: `stated_facts`, `wording_fits`, `FIT_MARGIN`.
Why: a gate opens for its subject whatever is asked about it, and the model then often states the fact that
was taught: "The weight of the guava is Myrtaceae". The subject alone is no support.
How: the target must be about as probable behind the prompt, to the model without edits, as behind the least
fitting of the wordings in which the fact was taught. That model knows nothing of the fact, but it knows what
kind of answer a prompt asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from memedit.evaluation.matching import matches
from memedit.evaluation.respondent import Respondent
from memedit.facts import Fact, mention_span

__all__ = ["FIT_MARGIN", "stated_facts", "wording_fits"]

FIT_MARGIN = -2.0
"""Nats by which a target may be less probable behind a prompt than behind the least fitting taught wording.

Chosen on examples/facts.jsonl by recipes/measure_support.py."""

_MAX_WORDINGS = 4


def stated_facts(prompt: str, text: str, facts: Iterable[Fact], heard: Collection[str]) -> list[Fact]:
    """Return the stored facts that an answer states.

    Args:
        prompt: What was asked.
        text: What was answered.
        facts: Stored facts.
        heard: Subjects whose gates were open at tokens of the prompt.
    Returns:
        The facts whose subject was heard and stands in the prompt, whole or in a short form, and whose target
        or alias the answer is.
    """
    return [
        fact
        for fact in facts
        if fact.subject in heard
        and mention_span(prompt, fact.subject) is not None
        and matches(text, fact.answers)
    ]


def wording_fits(
    respondent: Respondent, asked: Sequence[tuple[str, Fact]], *, description: str = "Comparing wordings"
) -> list[float]:
    """Say how well prompts ask for facts.

    Args:
        respondent: The model without edits.
        asked: Prompts with the fact that each may ask for.
        description: What the progress shows.
    Returns:
        log p(target | prompt) - min over the first four given wordings of log p(target | wording), in nats.
    """
    pairs: list[tuple[str, str]] = []
    counts = []
    for prompt, fact in asked:
        prompts = [prompt, *fact.given_wordings[:_MAX_WORDINGS]]
        pairs += [(each, f" {fact.target}") for each in prompts]
        counts.append(len(prompts))
    scores = iter(respondent.score(pairs, description=description) if pairs else ())
    fits = []
    for count in counts:
        here, *taught = [next(scores).log_prob for _ in range(count)]
        fits.append(here - min(taught))
    return fits
