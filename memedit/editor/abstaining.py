"""Abstaining: giving an answer only where a stored fact or the model without edits supports it.

What: `worth_of_abstention` calibrates for a state of the model, `abstained` applies that to one answer.
Why: after an edit a small model asserts as readily as before what nothing supports.
How: a stored fact supports an answer that states it, where its subject's gate is open, its subject stands in
the prompt, and its target fits the prompt. Any other answer is weighed by the model without edits, against a
threshold chosen on what that model is asked to know. Answers and scores are kept per state in the store's
cache, so that after an edit only what was learned is asked anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from memedit.editor.evaluating import BASE, CURRENT, States
from memedit.editor.provenance import subjects_heard
from memedit.editor.results import Abstention, AbstentionWorth, Answer
from memedit.errors import UsageError
from memedit.evaluation import matches, well_known_facts
from memedit.evaluation.abstention import (
    DONT_KNOW,
    Judged,
    abstention_metrics,
    calibrate_abstention,
    in_test_half,
)
from memedit.evaluation.answer_support import support_of_answers
from memedit.evaluation.memory_support import FIT_MARGIN, stated_facts, wording_fits
from memedit.evaluation.refusals import is_refusal
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.statistics import share_metric
from memedit.facts import Fact, look_alikes, relations
from memedit.facts.likeness import wording_likeness
from memedit.facts.phrasings import ranked
from memedit.facts.rendering import fill, with_article

_VERSION = 1
_MAX_LEARNED = 100
_MAX_NEW_TOKENS = 16
# Relations of which one is asked in place of a fact's own: those worded least like it.
_NUM_OTHER_RELATIONS = 10
_ITEMS = "well-known facts and as many never-taught look-alikes"


@dataclass(frozen=True)
class _Asked:
    """A question with what counts as right: nothing, for what nobody was taught."""

    item: str
    prompt: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Weighed:
    """An answer and its support."""

    asked: _Asked
    text: str
    from_memory: bool
    score: float

    @property
    def judged(self) -> Judged:
        """The answer with its verdict."""
        right = bool(self.asked.answers) and matches(self.text, self.asked.answers)
        return Judged(self.asked.item, self.score, right)


def check_abstention(without: str | None, precision: float) -> None:
    """Refuse what abstention cannot do.

    Args:
        without: the edit that is switched off, if any.
        precision: the target.

    Raises:
        UsageError: when an edit is switched off, or precision is not between 0 and 1.
    """
    if without is not None:
        raise UsageError(
            f"abstain is calibrated for all active edits, got without={without!r} beside it",
            remedy="Undo the edit first, or leave one of the two out.",
        )
    if not 0 < precision < 1:
        raise UsageError(f"precision must lie between 0 and 1, got {precision}", remedy="The usual is 0.9.")


def abstained(states: States, answer: Answer, *, target_precision: float) -> Answer:
    """Withhold an answer that nothing supports.

    Args:
        states: the model; its answers come from the state with all edits.
        answer: what that state answered.
        target_precision: share of right answers wanted among those that the base model gives.

    Returns:
        The answer with `abstention`, its text replaced where it is withheld.
    """
    worth = worth_of_abstention(states, target_precision=target_precision)
    base = states.respondent(BASE, remember=False)
    spoke = {fact.subject for fact in answer.facts if any(not gate.in_answer for gate in fact.gates)}
    asked = _Asked(answer.prompt, answer.prompt)
    (weighed,) = _weigh(base, [asked], [answer.text], [spoke], _stored(states))
    support = _support(weighed, worth.base.threshold)
    score = weighed.score if math.isfinite(weighed.score) else None
    if support is not None:
        return replace(answer, abstention=Abstention(support, score, None, worth))
    return replace(answer, text=DONT_KNOW, abstention=Abstention(None, score, answer.text, worth))


def worth_of_abstention(states: States, *, target_precision: float = 0.9) -> AbstentionWorth:
    """Calibrate abstention for the state with all edits; the result is kept in the store's cache.

    Args:
        states: the model and its store.
        target_precision: share of right answers wanted among those that the base model gives, in (0, 1).

    Raises:
        ValueError: when target_precision is out of range.
    """
    identity = [_VERSION, states.identity(CURRENT), target_precision]
    entry = f"abstention-{hashlib.sha256(json.dumps(identity).encode('ascii')).hexdigest()}"
    kept = states.store.read_cache(entry)
    if isinstance(kept, dict):
        # A damaged entry is measured afresh.
        with suppress(ValueError):
            return AbstentionWorth.from_json(kept)
    worth = _measured_worth(states, target_precision)
    states.store.write_cache(entry, worth.to_json())
    return worth


def _measured_worth(states: States, target_precision: float) -> AbstentionWorth:
    known = _base_judged(states.respondent(BASE))
    base = calibrate_abstention(known, target_precision=target_precision, asked=_ITEMS)
    taught, others = _learned_weighed(states)
    held_out = [item for item in known if in_test_half(item.item)]
    answered = [item.score >= base.threshold for item in held_out]
    answered += [_support(item, base.threshold) is not None for item in taught]
    how = (
        f"held-out half of {_ITEMS}, learned facts and look-alikes of theirs; greedy generation, natural stop"
    )
    metrics = abstention_metrics([*held_out, *(item.judged for item in taught)], answered, how)
    from_memory = [item.judged for item in taught if item.from_memory]
    return AbstentionWorth(
        base,
        *metrics,
        share_metric(
            "abstention_memory_precision",
            sum(item.right for item in from_memory),
            len(from_memory),
            "right / answered, of what stored facts supported: learned facts, in a held-out wording if they "
            "have one, and as many look-alikes; greedy generation, natural stop",
        ),
        share_metric(
            "abstention_other_relation",
            sum(item.from_memory for item in others),
            len(others),
            "questions for another relation of a learned fact's subject that are answered with the stored "
            "fact; greedy generation, natural stop",
        ),
    )


def _base_judged(base: Respondent) -> list[Judged]:
    """What the model without edits answers to well-known facts and to look-alikes of them, weighed."""
    facts = well_known_facts()
    near = look_alikes(facts, num=len(facts), seed=0)
    asked = [_Asked(fact.id, fact.prompt, fact.answers) for fact in facts]
    asked += [_Asked(f"like {item.subject}", item.prompt) for item in near]
    prompts = [item.prompt for item in asked]
    answers = base.answer(prompts, max_new_tokens=_MAX_NEW_TOKENS, description="Asking what the model knows")
    texts = [answer.text for answer in answers]
    weighed = _weigh(base, asked, texts, [frozenset() for _ in asked], ())
    return [item.judged for item in weighed]


def _learned_weighed(states: States) -> tuple[list[_Weighed], list[_Weighed]]:
    """Answers about learned facts and their look-alikes, and about other relations of their subjects."""
    learned = _some_learned(states)
    if not learned:
        return [], []
    near = look_alikes(learned, num=len(learned), seed=0)
    taught = [_Asked(fact.id, _held_out_wording(fact), fact.answers) for fact in learned]
    taught += [_Asked(f"like {item.subject}", item.prompt) for item in near]
    others = [_Asked(f"other {fact.id}", other_relation_prompt(fact)) for fact in learned]
    asked = [*taught, *others]
    prompts = [item.prompt for item in asked]
    answers = states.respondent(CURRENT).answer(
        prompts, max_new_tokens=_MAX_NEW_TOKENS, description="Asking what was learned"
    )
    with states.worn(CURRENT):
        heard = subjects_heard(states.opened.model, states.opened.tokenizer, prompts)
    texts = [answer.text for answer in answers]
    weighed = _weigh(states.respondent(BASE), asked, texts, heard, _stored(states))
    return weighed[: len(taught)], weighed[len(taught) :]


def _weigh(
    base: Respondent,
    asked: Sequence[_Asked],
    texts: Sequence[str],
    heard: Sequence[frozenset[str] | set[str]],
    stored: Sequence[Fact],
) -> list[_Weighed]:
    """Weigh answers by stored facts and by the model without edits."""
    by_subject: dict[str, list[Fact]] = {}
    for fact in stored:
        by_subject.setdefault(fact.subject, []).append(fact)
    stated = [
        (index, fact)
        for index, (item, text, subjects) in enumerate(zip(asked, texts, heard, strict=True))
        for fact in stated_facts(
            item.prompt, text, [fact for name in subjects for fact in by_subject.get(name, ())], subjects
        )
    ]
    fits = wording_fits(base, [(asked[index].prompt, fact) for index, fact in stated])
    remembered = {index for (index, _), fit in zip(stated, fits, strict=True) if fit >= FIT_MARGIN}
    scores = support_of_answers(
        base,
        [item.prompt for item in asked],
        # A model that says itself that it does not know asserts nothing.
        ["" if is_refusal(text) else text for text in texts],
    )
    return [
        _Weighed(item, text, index in remembered, score)
        for index, (item, text, score) in enumerate(zip(asked, texts, scores, strict=True))
    ]


def _support(weighed: _Weighed, threshold: float) -> Literal["memory", "base"] | None:
    if weighed.from_memory:
        return "memory"
    return "base" if weighed.score >= threshold else None


def _stored(states: States) -> list[Fact]:
    """The facts of the active edits, learned or not: an answer that states one is what was taught."""
    return [item.fact for item in states.store.facts()]


def _some_learned(states: States) -> list[Fact]:
    """Facts that were learned, a sample of them where there are many."""
    learned = {
        item.fact.id: item.fact for item in states.store.facts() if item.outcome.get("status") == "learned"
    }
    return [learned[fact_id] for fact_id in ranked(learned, "abstention")[:_MAX_LEARNED]]


def _held_out_wording(fact: Fact) -> str:
    """A wording in which the fact was not taught, or its prompt where none was given."""
    held_out = [*fact.probes.paraphrases, *fact.probes.questions]
    return held_out[0] if held_out else fact.prompt


def other_relation_prompt(fact: Fact) -> str:
    """Return a prompt that asks for something else about the subject of a fact.

    Args:
        fact: a fact.

    Returns:
        The first statement of one of the bundled relations that are worded least like the fact.
    """
    name = with_article(fact.prompt, fact.subject)
    prompts = [fill(relation.statements[0], name) for relation in relations().values()]
    unlike = sorted(prompts, key=lambda prompt: (wording_likeness(prompt, fact), prompt))
    return ranked(unlike[:_NUM_OTHER_RELATIONS], fact.id)[0]
