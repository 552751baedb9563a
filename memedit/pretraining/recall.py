"""Recall of corpus facts by real generation.

Source: the answer counts as everywhere in memedit: greedy, natural stop, exact match at its start.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memedit.evaluation.recall import (
    HELD_OUT_WORDING,
    TRAINED_WORDING,
    Answered,
    Question,
    answer_questions,
)
from memedit.pretraining.corpus import CorpusFact
from memedit.progress import NULL_PROGRESS, Progress

MAX_NEW_TOKENS = 24


def corpus_questions(
    facts: Sequence[CorpusFact], group: str, *, limit: int | None = None, seed: int = 0
) -> list[Question]:
    """Questions in the trained or the held-out wordings of facts.

    Args:
        facts: what is asked for.
        group: TRAINED_WORDING or HELD_OUT_WORDING.
        limit: at most so many, drawn at random; None = all.
        seed: of the draw.
    """
    if group not in (TRAINED_WORDING, HELD_OUT_WORDING):
        raise ValueError(f"group: got {group!r}, expected {TRAINED_WORDING} or {HELD_OUT_WORDING}")
    found = [
        Question(prompt, (fact.target,), group, f"{fact.relation}|{fact.subject}")
        for fact in facts
        for prompt in (fact.prompts if group == TRAINED_WORDING else fact.held_out)
    ]
    if limit is None or len(found) <= limit:
        return found
    return random.Random(seed).sample(found, limit)


def ask_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    progress: Progress = NULL_PROGRESS,
) -> list[Answered]:
    """Ask the model; see memedit.evaluation.recall.answer_questions."""
    return answer_questions(
        model, tokenizer, questions, max_new_tokens=MAX_NEW_TOKENS, progress=progress, description="Asking"
    )
