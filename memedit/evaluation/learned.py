"""Learned: whether a fact's own prompt is answered with its target.

What: `learned`, `learned_inquiry`.
Why: the first thing to know of an edit; by real generation, since a teacher-forced score gives away the
answer's content and length (Yang et al. 2025, The Mirage of Model Editing). Teacher-forced figures stand
beside, labelled so: a fact that is almost learned shows in its log-probability first.
How: the seven measures of `answer_measures` on the prompt of each fact.
"""

from __future__ import annotations

from collections.abc import Sequence

from memedit.evaluation.answer_measures import Asked, inquiry_of, metric_infos
from memedit.evaluation.asking import Inquiry, ask
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation
from memedit.facts import Fact

__all__ = ["METRICS", "learned", "learned_inquiry"]

_WHAT = "prompt of the fact"

METRICS = metric_infos("learned", "learned", _WHAT)
"""The catalogue's entries."""


def learned(respondent: Respondent, facts: Sequence[Fact], *, seed: int = 0) -> Evaluation:
    """Measure how well facts were learned, in their own prompts.

    Args:
        respondent: Who is asked.
        facts: The facts.
        seed: Seed of the intervals.
    Returns:
        learned_exact_match, learned_contains, learned_squad_em, learned_squad_f1 by real generation, and
        learned_log_prob, learned_log_prob_per_token, learned_token_accuracy, teacher forced; n counts facts.
    """
    return ask(respondent, [learned_inquiry(facts, seed=seed)])


def learned_inquiry(facts: Sequence[Fact], *, seed: int) -> Inquiry:
    """Return what `learned` asks, to be asked together with other families."""
    questions = [Asked(f"{fact.id}/prompt", fact.id, fact.prompt, fact.answers) for fact in facts]
    return inquiry_of("learned", _WHAT, questions, seed=seed)
