"""Measuring an edit: the same questions to the model before and after it.

Everything that will be asked after the edit is asked before it, in the same batches, so that what changes is
due to the edit and not to rounding. What the model knew before is cached with the store, per state of the
model.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from memedit.editing.freed_memory import release_freed_memory
from memedit.editor.gating import asked_facts
from memedit.evaluation import (
    Answered,
    Baseline,
    Question,
    answer_known,
    answer_questions,
    generate_answers,
    measure_perplexity,
    questions_of,
    retention_questions,
    suite_hash,
    well_known_facts,
)
from memedit.facts import Fact, LookAlike, look_alikes
from memedit.modeling import MemoryLlamaForCausalLM
from memedit.progress import Progress
from memedit.store import Store

MAX_NEW_TOKENS = 16
GIVEN = "given_wording"
_NUM_GIVEN = 2


@dataclass(frozen=True)
class Probes:
    """Everything that an edit is measured by.

    Attributes:
        questions: the facts' own prompts, held-out wordings and questions.
        look_alikes: never-taught entities.
        text: general text.
        max_new_tokens: token budget of an answer.
    """

    questions: tuple[Question, ...]
    look_alikes: tuple[LookAlike, ...]
    text: str
    max_new_tokens: int


def probes_for(facts: Sequence[Fact], tokenizer: PreTrainedTokenizerBase, text: str, *, seed: int) -> Probes:
    """Collect what some facts are measured by.

    Args:
        facts: what is taught.
        tokenizer: decides how long an answer may get.
        text: general text.
        seed: of the look-alikes.
    """
    longest = max(len(tokenizer(" " + answer)["input_ids"]) for fact in facts for answer in fact.answers)
    return Probes(
        tuple(question for fact in facts for question in questions_of(fact)),
        tuple(look_alikes(facts, num=min(200, max(60, 2 * len(facts))), seed=seed)),
        text,
        max(MAX_NEW_TOKENS, longest + 2),
    )


def given_questions(facts: Sequence[Fact]) -> list[Question]:
    """The first further wordings given for each fact: it is known already only if it is right there."""
    return [
        Question(prompt, tuple(fact.answers), GIVEN, fact.id)
        for fact in facts
        for prompt in fact.paraphrases[:_NUM_GIVEN]
    ]


def ask_all(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    max_new_tokens: int,
    description: str,
    progress: Progress,
) -> list[Answered]:
    """Answer questions in one call (equal lists make equal batches)."""
    answered = answer_questions(
        model, tokenizer, questions, max_new_tokens=max_new_tokens, progress=progress, description=description
    )
    release_freed_memory()
    return answered


def look_alike_answers(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    probes: Probes,
    when: str,
    progress: Progress,
) -> tuple[str, ...]:
    """Answer the look-alike prompts."""
    generations = generate_answers(
        model,
        tokenizer,
        [item.prompt for item in probes.look_alikes],
        max_new_tokens=probes.max_new_tokens,
        progress=progress,
        description=f"Asking about look-alikes {when}",
    )
    return tuple(generation.text for generation in generations)


def known_before(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    store: Store,
    state: str,
    text: str | None,
    progress: Progress,
    *,
    learned: bool = True,
    size: int | None = None,
) -> Baseline:
    """What the model knows now: right answers of the retention suite, and perplexity; cached with the store.

    Args:
        model: the model with the overlay of all active edits.
        tokenizer: its tokenizer.
        store: holds the earlier facts and the cache.
        state: names model and active edits.
        text: general text; None = its perplexity is not wanted.
        progress: told of answers.
        learned: whether facts learned by earlier edits belong to the suite.
        size: items asked of the well-known facts, and of those learned; None = all.
    """
    taught = (
        [item.fact for item in store.facts() if item.outcome.get("status") == "learned"] if learned else []
    )
    suite = retention_questions(asked_facts(well_known_facts(), size), asked_facts(taught, size))

    def answers() -> Baseline:
        found = answer_known(model, tokenizer, suite, max_new_tokens=MAX_NEW_TOKENS, progress=progress)
        release_freed_memory()
        return Baseline(state, asked, tuple(found))

    asked = suite_hash(suite, None, max_new_tokens=MAX_NEW_TOKENS)
    known = _kept(store, state, asked, answers)
    if text is None:
        return known
    # Kept apart from the answers, which are asked for without it too.
    read = suite_hash((), text, max_new_tokens=MAX_NEW_TOKENS)
    measured = _kept(
        store,
        state,
        read,
        lambda: Baseline(state, read, (), measure_perplexity(model, tokenizer, text, progress=progress)),
    )
    return replace(known, perplexity=measured.perplexity)


def _kept(store: Store, state: str, name: str, measure: Callable[[], Baseline]) -> Baseline:
    """The baseline of that name from the store's cache, or measured and put there."""
    entry = f"baseline-{hashlib.sha256(f'{state}/{name}'.encode()).hexdigest()[:24]}"
    cached = store.read_cache(entry)
    if isinstance(cached, dict):
        # A damaged entry is measured afresh.
        with suppress(ValueError):
            return Baseline.from_json(cached, fingerprint=state, suite=name)
    baseline = measure()
    store.write_cache(entry, baseline.to_json())
    return baseline
