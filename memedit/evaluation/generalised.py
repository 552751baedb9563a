"""Generalised: whether a fact is known in other wordings, behind other text, and in what follows from it.

What: `generalised`, `generalised_inquiries`.
Why: a fact that is found only in the wording that was trained is stored, not known.
How: the seven measures of `answer_measures` on never-trained wordings: paraphrases, questions, the prompt and
a paraphrase behind a sentence about something else, and portability probes by kind. A multi-hop question
counts by the best of its phrasings.

Source: Meng et al. (2022), Locating and Editing Factual Associations in GPT, section 3.3 (paraphrases); Yao
et al. (2023), Editing Large Language Models, section 5 (portability and its kinds); Zhong et al. (2023),
MQuAKE, section 4 (multi-hop).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from memedit.evaluation.answer_measures import (
    GENERATED,
    Asked,
    generated_samples,
    group_metrics,
    inquiry_of,
    metric_infos,
)
from memedit.evaluation.asking import Inquiry, Told, ask
from memedit.evaluation.distractors import behind_distractor
from memedit.evaluation.recall import HELD_OUT_WORDING, QUESTION, questions_of
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.samples import Evaluation, Sample
from memedit.facts import PORTABILITY_KINDS, Fact

__all__ = ["METRICS", "generalised", "generalised_inquiries"]

_MULTI_HOP = "multi-hop questions, the best of a question's phrasings"
_KINDS = {
    f"portability_{kind}": f"portability probes of the kind {kind.replace('_', ' ')}"
    for kind in PORTABILITY_KINDS
}
_WHAT = {
    "paraphrase": "held-out wordings",
    "question": "question form never trained",
    "context": "prompt of the fact behind a sentence of unrelated text",
    "context_paraphrase": "first held-out wording behind a sentence of unrelated text",
    "portability": "portability probes",
    **_KINDS,
}

METRICS = tuple(
    entry for group, what in _WHAT.items() for entry in metric_infos(group, "generalised", what)
) + metric_infos("multi_hop", "generalised", _MULTI_HOP, GENERATED)
"""The catalogue's entries."""


def generalised(respondent: Respondent, facts: Sequence[Fact], *, seed: int = 0) -> Evaluation:
    """Measure how far facts are known beyond their own prompts.

    Args:
        respondent: Who is asked.
        facts: The facts with their probes; a probe that is also a wording to teach is left out.
        seed: Seed of the intervals and of the distracting sentences.
    Returns:
        The measures of `learned` for paraphrase, question, context, context_paraphrase, portability and
        portability_KIND, and the generated ones for multi_hop; n counts prompts (questions for multi_hop),
        the intervals count facts. A note for each group that the facts have no probes for.
    """
    return ask(respondent, generalised_inquiries(facts, seed=seed))


def generalised_inquiries(facts: Sequence[Fact], *, seed: int) -> list[Inquiry]:
    """Return what `generalised` asks, to be asked together with other families."""
    groups = _questions(facts, seed)
    # Without any portability probe one note says so, not one for each kind.
    asked = [name for name in _WHAT if groups[name] or groups["portability"] or name not in _KINDS]
    inquiries = [inquiry_of(name, _WHAT[name], groups[name], seed=seed) for name in asked]
    return [*inquiries, _multi_hop(facts, seed), _without_target(facts)]


def _questions(facts: Sequence[Fact], seed: int) -> dict[str, list[Asked]]:
    groups: dict[str, list[Asked]] = {group: [] for group in _WHAT}
    for fact in facts:
        prompts: dict[str, list[str]] = {HELD_OUT_WORDING: [], QUESTION: []}
        for question in questions_of(fact):
            if question.group in prompts:
                prompts[question.group].append(question.prompt)
        about = " ".join((fact.prompt, fact.subject, *fact.answers))
        paraphrases = prompts[HELD_OUT_WORDING]
        groups["paraphrase"] += _asked("paraphrase", fact, paraphrases)
        groups["question"] += _asked("question", fact, prompts[QUESTION])
        for group, base in (("context", [fact.prompt]), ("context_paraphrase", paraphrases[:1])):
            groups[group] += _asked(group, fact, [behind_distractor(text, about, seed=seed) for text in base])
        for asked in _portability(fact):
            groups["portability"].append(asked)
            if asked.kind in PORTABILITY_KINDS:
                groups[f"portability_{asked.kind}"].append(asked)
    return groups


def _asked(group: str, fact: Fact, prompts: Iterable[str]) -> list[Asked]:
    return [
        Asked(f"{fact.id}/{group}/{number}", fact.id, prompt, fact.answers)
        for number, prompt in enumerate(dict.fromkeys(prompts))
    ]


def _portability(fact: Fact) -> list[Asked]:
    return [
        Asked(f"{fact.id}/portability/{number}", fact.id, probe.prompt, probe.answers, probe.kind)
        for number, probe in enumerate(fact.probes.portability)
        if probe.answers
    ]


def _without_target(facts: Sequence[Fact]) -> Inquiry:
    """Asks nothing; says how many portability probes cannot be judged."""
    num = sum(not probe.answers for fact in facts for probe in fact.probes.portability)
    notes = (f"left out of portability, for they have no target: {num} probes",) if num else ()
    return Inquiry([], [], lambda _: Evaluation((), notes=notes))


def _multi_hop(facts: Sequence[Fact], seed: int) -> Inquiry:
    """Each phrasing is asked; per measure, a question has the value and the text of its best phrasing."""
    asked = [
        [Asked(f"{fact.id}/multi_hop/{number}", fact.id, text, hop.answers) for text in hop.prompts]
        for fact in facts
        for number, hop in enumerate(fact.probes.multi_hop)
    ]

    def judge(told: Told) -> Evaluation:
        if not asked:
            note = "multi_hop was not measured: no multi-hop questions"
            return Evaluation((), notes=(note,))
        samples = [sample for phrasings in asked for sample in _best(phrasings, told)]
        return group_metrics("multi_hop", _MULTI_HOP, samples, GENERATED, seed=seed)

    return Inquiry([(one.prompt, one.answers) for phrasings in asked for one in phrasings], [], judge)


def _best(phrasings: Sequence[Asked], told: Told) -> list[Sample]:
    heard = [generated_samples("multi_hop", asked, told) for asked in phrasings]
    return [max(same, key=lambda sample: sample.value) for same in zip(*heard, strict=True)]
