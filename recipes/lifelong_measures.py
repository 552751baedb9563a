"""What the lifelong recipe measures of an editor: memedit's own metrics on fixed questions.

What: `Yardstick` (all that is asked) and `final_recall` (every fact in every wording).
Why: a series of edits is judged by the same questions throughout, all answered by the model as it is then.
How: questions, exact match, intervals and metrics are memedit.evaluation's; nothing is scored here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lifelong_record import Base

from memedit import Editor
from memedit.editor.overlays import wearing
from memedit.editor.provenance import listening, subjects_heard
from memedit.evaluation import (
    Answered,
    Question,
    answer_known,
    answer_questions,
    ask_batches,
    compare,
    general_text,
    generate_answers,
    measure_leak,
    measure_perplexity,
    never_taught,
    perplexity_ratio,
    questions_of,
    recall_metric,
    retained_by_age,
    retention_questions,
    well_known_facts,
)
from memedit.evaluation.distractors import behind_distractor
from memedit.evaluation.generation import evaluating
from memedit.evaluation.last_written import last_written_leak
from memedit.evaluation.matching import normalise
from memedit.evaluation.recall import TRAINED_WORDING
from memedit.evaluation.respondent import ModelRespondent
from memedit.evaluation.samples import Sample
from memedit.evaluation.statistics import share_metric
from memedit.facts import Fact, LookAlike, look_alikes, read_facts
from memedit.modeling import prompt_ids

UNSEEN = "after_unseen_sentence"
TEMPLATES = "known_in_taught_templates"
_PROTOCOL = {
    UNSEEN: "greedy generation, natural stop, exact match of target or alias at the start of the answer, "
    "trained wording behind a sentence of general text that training does not use",
    "subject_loudest": "held-out wordings; of all subjects whose gate opens at a token of the prompt, that "
    "of the fact has the largest share of the routing",
    "subject_found": "held-out wordings; the gate of the fact's subject opens at a token of the prompt",
    "look_alike_gate": "never-taught look-alikes; any subject's gate opens at a token of the prompt",
}
_SHORTEST, _ROOM = 16, 2
Values = dict[str, Any]


def hashed_part(facts: Sequence[Fact], num: int | None) -> list[Fact]:
    """Up to `num` facts, in their order, always the same ones."""
    if num is None or num >= len(facts):
        return list(facts)
    order = sorted(facts, key=lambda fact: hashlib.sha256(fact.id.encode()).digest())[:num]
    kept = {fact.id for fact in order}
    return [fact for fact in facts if fact.id in kept]


def all_questions(facts: Iterable[Fact], seed: int) -> list[Question]:
    """Everything that recall asks of facts: memedit's questions and the prompt behind an unseen sentence."""
    asked: list[Question] = []
    for fact in facts:
        about = " ".join((fact.prompt, fact.subject, *fact.answers))
        behind = behind_distractor(fact.prompt, about, seed=seed)
        asked += [*questions_of(fact), Question(behind, tuple(fact.answers), UNSEEN, fact.id)]
    return asked


def by_group(answered: Sequence[Answered]) -> dict[str, Values]:
    """Recall of each group of questions, as JSON."""
    groups = dict.fromkeys(item.question.group for item in answered)
    return {
        name: recall_metric(
            [item for item in answered if item.question.group == name], name, _PROTOCOL.get(name)
        ).to_json()
        for name in groups
    }


class Yardstick:
    """Asks an editor's model the same questions again and again."""

    def __init__(
        self,
        editor: Editor,
        batches: Sequence[Sequence[Fact]],
        *,
        known: Path | None,
        num_look_alikes: int,
        text: Path | None,
        seed: int,
    ) -> None:
        """Fix what is asked.

        Args:
            editor: the model and its store.
            batches: all facts of the series.
            known: a facts file of base knowledge in the taught templates.
            num_look_alikes: never-taught entities, spread over all facts.
            text: general text; None = the bundled one.
            seed: of look-alikes and sentences.
        """
        self.editor, self.batches, self.seed = editor, batches, seed
        self.text = general_text(text)
        facts = [fact for batch in batches for fact in batch]
        templates = read_facts(known) if known else []
        self.suite = retention_questions(well_known_facts(), replaced_by=facts)
        asked = {normalise(question.prompt) for question in self.suite}
        self.suite += [
            replace(question, group=TEMPLATES)
            for question in retention_questions(templates, replaced_by=facts)
            if normalise(question.prompt) not in asked
        ]
        made = look_alikes(facts, num=num_look_alikes, seed=seed)
        self.look_alikes = never_taught(made, [*facts, *templates, *well_known_facts()])
        self.batch_of = {fact.id: number for number, batch in enumerate(batches) for fact in batch}
        longest = max(self._length(answer) for fact in facts for answer in fact.answers)
        self.max_new_tokens = max(_SHORTEST, longest + _ROOM)

    def _length(self, answer: str) -> int:
        return len(self.editor.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])

    def ask(self, questions: Sequence[Question]) -> list[Answered]:
        """Answers of the model as it is."""
        return answer_questions(
            self.editor.model, self.editor.tokenizer, questions, max_new_tokens=self.max_new_tokens
        )

    def _say(self, asked: Sequence[LookAlike]) -> tuple[str, ...]:
        prompts = [one.prompt for one in asked]
        said = generate_answers(
            self.editor.model, self.editor.tokenizer, prompts, max_new_tokens=self.max_new_tokens
        )
        return tuple(one.text for one in said)

    def base(self) -> Base:
        """What the model without any edit says."""
        model, tokenizer = self.editor.model, self.editor.tokenizer
        with wearing(model, None):
            known = answer_known(model, tokenizer, self.suite, max_new_tokens=self.max_new_tokens)
            perplexity = measure_perplexity(model, tokenizer, self.text)
            return Base(tuple(known), self._say(self.look_alikes), perplexity)

    def kept(self, base: Base, num_batches: int) -> Values:
        """What is left of base knowledge, perplexity, and what leaked, after so many batches."""
        again = self.ask([item.question for item in base.known])
        parts = {
            group: compare(
                [one for one in base.known if one.question.group == group],
                [one for one in again if one.question.group == group],
            ).metric.to_json()
            for group in dict.fromkeys(item.question.group for item in base.known)
        }
        whole = compare(base.known, again)
        perplexity = measure_perplexity(self.editor.model, self.editor.tokenizer, self.text)
        return {
            "retained": whole.metric.to_json(),
            "retained_by_group": parts,
            "lost": [
                {"prompt": one.question.prompt, "before": one.before, "after": one.after}
                for one in whole.lost
            ],
            "perplexity_ratio": perplexity_ratio(base.perplexity, perplexity).to_json(),
            **self._leaks(base, num_batches),
        }

    def _leaks(self, base: Base, num_batches: int) -> Values:
        """What look-alikes of the facts taught so far are answered with."""
        pairs = [
            (one, was)
            for one, was in zip(self.look_alikes, base.look_alikes, strict=True)
            if self.batch_of[one.fact_id] < num_batches
        ]
        asked, before = [one for one, _ in pairs], [was for _, was in pairs]
        after = self._say(asked)
        # Only an answer that occurs can be stated: comparing all facts with all answers takes minutes.
        said = " | ".join(map(normalise, after))
        taught = [fact for batch in self.batches[:num_batches] for fact in batch]
        stated = [fact for fact in taught if any(normalise(answer) in said for answer in fact.answers)]
        leak = measure_leak(asked, before, after, stated)
        return {"leak": leak.leak.to_json(), "look_alikes_changed": leak.changed.to_json()}

    def provenance(self, facts: Sequence[Fact]) -> Values:
        """Whether held-out wordings lead back to the subject of their fact, and look-alikes to nobody."""
        model, tokenizer = self.editor.model, self.editor.tokenizer
        pairs = [(text, fact) for fact in facts for text in fact.probes.paraphrases]
        heard = subjects_heard(model, tokenizer, [text for text, _ in pairs])
        found = sum(fact.subject in names for (_, fact), names in zip(pairs, heard, strict=True))
        loudest = sum(self._loudest(text) == fact.subject for text, fact in pairs)
        near = subjects_heard(model, tokenizer, [one.prompt for one in self.look_alikes])
        counts = {
            "subject_loudest": (loudest, len(pairs), len({fact.id for _, fact in pairs})),
            "subject_found": (found, len(pairs), len({fact.id for _, fact in pairs})),
            "look_alike_gate": (sum(map(bool, near)), len(near), len(near)),
        }
        return {
            name: share_metric(name, part, whole, _PROTOCOL[name], num_clusters=clusters).to_json()
            for name, (part, whole, clusters) in counts.items()
        }

    def _loudest(self, prompt: str) -> str | None:
        """The subject with the largest share of the routing at the tokens of a prompt."""
        model = self.editor.model
        ids = torch.tensor([prompt_ids(self.editor.tokenizer, model.config, prompt)], device=model.device)
        with evaluating(model), listening(model) as heard:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        masses: dict[str, float] = {}
        for spoken in heard:
            masses[spoken.subject] = masses.get(spoken.subject, 0.0) + spoken.mass
        return max(masses, key=lambda name: masses[name], default=None)

    def asked_again(self, num_batches: int, part: int | None) -> tuple[Sample, ...]:
        """One row of the retention matrix: a fixed part of every batch so far, in trained wording."""
        respondent = ModelRespondent(self.editor.model, self.editor.tokenizer)
        batches = [hashed_part(batch, part) for batch in self.batches[:num_batches]]
        return ask_batches(respondent, batches)


def final_recall(yardstick: Yardstick, batches: Sequence[Sequence[Fact]], learned: Iterable[str]) -> Values:
    """Recall of everything at the end: all wordings, by batch, and by age.

    Args:
        yardstick: what asks.
        batches: the facts of the series.
        learned: ids of facts that were right after their own batch.
    """
    final = yardstick.asked_again(len(batches), None)
    answered = [
        Answered(
            Question(told.prompt, told.expected, TRAINED_WORDING, told.cluster),
            told.text,
            bool(told.value),
            told.details["confidence"],
        )
        for told in final
    ]
    facts = [fact for batch in batches for fact in batch]
    others = [one for one in all_questions(facts, yardstick.seed) if one.group != TRAINED_WORDING]
    answered += yardstick.ask(others)
    batched: list[list[Answered]] = [[] for _ in batches]
    for item in answered:
        batched[yardstick.batch_of[item.question.fact_id]].append(item)
    ages = retained_by_age(final, {f"{fact_id}/prompt" for fact_id in learned}, seed=yardstick.seed)
    newest = [answer for fact in batches[-1] for answer in fact.answers]
    last = last_written_leak(final, newest, seed=yardstick.seed)
    return {
        "recall": by_group(answered),
        "recall_by_batch": [by_group(items) for items in batched],
        "retained_by_age": [metric.to_json() for metric in ages.metrics],
        "last_written": [metric.to_json() for metric in last.metrics],
    }
