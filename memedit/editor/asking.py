"""Asking a model: its answer, and the stored facts that the answer rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from memedit.editor.overlays import wearing
from memedit.editor.provenance import Source, Spoken, listening, trace
from memedit.editor.results import Answer, OpenGate, RestsOn, SubjectMatch
from memedit.evaluation import generate_answers, matches
from memedit.facts import mention_span, subject_span
from memedit.facts.likeness import wording_likeness
from memedit.modeling import MemoryLlamaForCausalLM, prompt_ids
from memedit.store import Store, StoredFact


def answer_prompt(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    store: Store,
    prompt: str,
    *,
    without: str | None,
    unedited: bool,
    max_new_tokens: int,
) -> Answer:
    """Let a model answer, and say on which stored facts the answer rests.

    Args:
        model: the model, wearing the active edits, or all but `without`.
        tokenizer: its tokenizer.
        store: the edits.
        prompt: the text to continue.
        without: full id of the edit that the model does not wear.
        unedited: ask the model without any edit as well.
        max_new_tokens: most tokens of an answer.
    """
    with listening(model) as heard:
        (generation,) = generate_answers(model, tokenizer, [prompt], max_new_tokens=max_new_tokens)
    plain = None
    if unedited:
        with wearing(model, None):
            (alone,) = generate_answers(model, tokenizer, [prompt], max_new_tokens=max_new_tokens)
        plain = alone.text
    sources = _sources(heard, store, without)
    read = prompt_ids(tokenizer, model.config, prompt)
    texts = [str(tokenizer.decode([token])) for token in (*read, *generation.token_ids)]
    stored = store.facts(without=[without] if without else []) if sources else ()
    facts = facts_behind(sources, stored, prompt, generation.text, texts, len(read))
    return Answer(
        prompt,
        generation.text,
        generation.confidence,
        facts[0].subject if facts else None,
        facts[0].mass if facts else 0.0,
        facts,
        without,
        plain,
    )


def _sources(heard: Sequence[Spoken], store: Store, without: str | None) -> tuple[Source, ...]:
    """Lead what was heard back to the active edits, but for the one that was switched off."""
    if not heard:
        return ()
    left_out = [without] if without else []
    worn = [edit.id for edit in store.standing(without=left_out).edits]
    return trace(heard, dict(zip(worn, store.active_patches(without=left_out), strict=True)))


def facts_behind(
    sources: Sequence[Source],
    stored: Sequence[StoredFact],
    prompt: str,
    answer: str,
    tokens: Sequence[str],
    num_prompt: int,
) -> tuple[RestsOn, ...]:
    """Return the stored facts behind what was heard, in the order that Answer.facts describes.

    Args:
        sources: what was heard, led back to edits and subjects.
        stored: the facts of the active edits.
        prompt: what was asked.
        answer: what was answered.
        tokens: the texts of the tokens that were read and written, begin token first.
        num_prompt: how many of them the prompt has.
    """
    by_id = {(item.edit_id, item.fact.id): item for item in stored}
    said: defaultdict[str, float] = defaultdict(float)
    for source in sources:
        said[source.subject] += source.share
    found = [
        _rests_on(by_id[source.edit_id, fact_id], source, prompt, answer, tokens, num_prompt)
        for source in sources
        for fact_id in source.fact_ids
    ]

    def place(fact: RestsOn) -> tuple[float, str, bool, float]:
        # Named by subject too: equal shares of two subjects must not mix their facts.
        return -said[fact.subject], fact.subject, not fact.states_target, -fact.likeness

    return tuple(sorted(found, key=place))


def _rests_on(
    stored: StoredFact, source: Source, prompt: str, answer: str, tokens: Sequence[str], num_prompt: int
) -> RestsOn:
    fact, loudest = stored.fact, source.loudest
    return RestsOn(
        stored.edit_id,
        fact.id,
        fact.prompt,
        fact.target,
        fact.subject,
        source.share,
        loudest.mass,
        loudest.threshold,
        _subject_match(prompt, fact.subject),
        wording_likeness(prompt, fact),
        matches(answer, fact.answers),
        tuple(
            OpenGate(tokens[gate.position], gate.position >= num_prompt, gate.mass, gate.threshold)
            for gate in source.spoken
        ),
    )


def _subject_match(prompt: str, subject: str) -> SubjectMatch:
    if subject_span(prompt, subject) is not None:
        return "whole"
    return "none" if mention_span(prompt, subject) is None else "part"
