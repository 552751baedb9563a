"""Learned, generalised and local at once: everything that is measured of facts, asked together.

What: `evaluate_facts`.
Why: the three families ask many of the same prompts; together each is asked once, in full batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from memedit.evaluation.asking import ask
from memedit.evaluation.generalised import generalised_inquiries
from memedit.evaluation.learned import learned_inquiry
from memedit.evaluation.locality import local_inquiries
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation
from memedit.facts import Fact

__all__ = ["evaluate_facts"]


def evaluate_facts(respondent: Respondent, facts: Sequence[Fact], *, seed: int = 0) -> Evaluation:
    """Measure what was learned of some facts, how far it carries, and whether it stays where it belongs.

    Args:
        respondent: Who is asked: once for all scores, and once for each token budget.
        facts: The facts with their probes.
        seed: Seed of the intervals and of the distracting sentences.
    Returns:
        What `learned`, `generalised` and `local` return, joined.
    """
    inquiries = [
        learned_inquiry(facts, seed=seed),
        *generalised_inquiries(facts, seed=seed),
        *local_inquiries(facts, seed=seed),
    ]
    return ask(respondent, inquiries)
