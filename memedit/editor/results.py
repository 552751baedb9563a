"""What the editor hands back: edits, the outcome of each fact, answers with their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from memedit.errors import GateRefused
from memedit.evaluation.abstention import AbstentionThreshold
from memedit.evaluation.statistics import Metric
from memedit.facts import Fact

Status = Literal["learned", "already_known", "failed", "stored", "forgotten"]
SubjectMatch = Literal["whole", "part", "none"]


@dataclass(frozen=True)
class FactOutcome:
    """What became of one fact.

    Attributes:
        fact: the fact.
        status: "learned" (right after the edit in its own prompt), "failed", "already_known" (right before,
            not taught), "stored" (an earlier edit taught it already), "forgotten" (it was taken out).
        before: the model's own answer to the prompt before the edit.
        after: the same after it; None where nothing was taught.
        held_out: verdicts in held-out wordings, after.
        question: verdicts as a question in a form never trained, after.
        note: why a fact failed, or where it is stored.
    """

    fact: Fact
    status: Status
    before: str
    after: str | None
    held_out: tuple[bool, ...] = ()
    question: tuple[bool, ...] = ()
    note: str | None = None

    @property
    def learned_in_other_wordings(self) -> bool:
        """Whether it was learned and more than half of its never-trained wordings are right."""
        verdicts = (*self.held_out, *self.question)
        return self.status == "learned" and 2 * sum(verdicts) > len(verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return what the journal keeps beside the fact."""
        return {
            "fact_id": self.fact.id,
            "status": self.status,
            "before": self.before,
            "after": self.after,
            "held_out": list(self.held_out),
            "question": list(self.question),
            "note": self.note,
        }


@dataclass(frozen=True)
class Edit:
    """An edit, committed or not.

    Attributes:
        id: its id in the store; None after a dry run, a refusal, or when nothing was taught or learned.
        committed: whether it is in the store.
        outcomes: one for each fact of the file.
        report: the object that `memedit inject --json` prints.
    """

    id: str | None
    committed: bool
    outcomes: tuple[FactOutcome, ...]
    report: dict[str, Any]


class EditRefused(GateRefused):
    """The gate refused an edit; nothing was written.

    Attributes:
        edit: the refused edit with its report.
    """

    def __init__(self, message: str, edit: Edit, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.edit = edit


class ForgettingRefused(EditRefused):
    """Facts could not be taken out without harm; nothing was written."""


class CompactionRefused(EditRefused):
    """Facts that were trained anew, together, came out worse than the edits that hold them.

    Args:
        reasons: what is worse.
        edit: the refused edit with its report.
    """

    def __init__(self, reasons: Sequence[str], edit: Edit) -> None:
        super().__init__(
            "the retrained facts are not equal or better: " + "; ".join(reasons),
            edit,
            remedy="Nothing was written. Compact without --retrain, which changes no answer, "
            "raise --max-loss, or use --force.",
        )


@dataclass(frozen=True)
class OpenGate:
    """A token at which a subject's rows spoke.

    Attributes:
        token: the token's text.
        in_answer: whether the model wrote it; else it belongs to the prompt.
        mass: the subject's share of the token's routing, 0 to 1.
        threshold: the mass from which its gate opens.
    """

    token: str
    in_answer: bool
    mass: float
    threshold: float


@dataclass(frozen=True)
class RestsOn:
    """A stored fact that an answer rests on: its edit wrote rows for its subject, and they spoke.

    Facts that one edit taught about one subject share their rows, hence share, mass, threshold and gates.

    Attributes:
        edit_id: the edit that taught it.
        fact_id: the fact.
        prompt: its prompt.
        target: its answer.
        subject: its subject.
        share: share of all that stored facts said, over the tokens of prompt and answer, 0 to 1.
        mass: largest share of a token's routing that the subject had, 0 to 1.
        threshold: the mass from which its gate opens.
        subject_match: whether the subject stands in the prompt: "whole", "part" (a short form), "none".
        likeness: how alike the prompt and the fact's wordings are, the subject left out, 0 to 1.
        states_target: whether the answer is the fact's target or an alias.
        gates: the tokens at which its rows spoke, in order.
    """

    edit_id: str
    fact_id: str
    prompt: str
    target: str
    subject: str
    share: float
    mass: float
    threshold: float
    subject_match: SubjectMatch
    likeness: float
    states_target: bool
    gates: tuple[OpenGate, ...]


@dataclass(frozen=True)
class AbstentionWorth:
    """What answering only supported questions is worth, measured on what a model is asked to know.

    Attributes:
        base: the threshold on the unedited model's support, and its worth on the held-out half of well-known
            facts and as many never-taught look-alikes.
        precision: right / answered, over that half, and over learned facts (in a held-out wording where one
            was given) and as many look-alikes of theirs.
        coverage: answered / asked, over the same.
        right_kept: right answered / right, over the same.
        memory_precision: right / answered, of what stored facts supported.
        other_relation: share of questions for another relation of a learned fact's subject that are answered
            with the stored fact all the same.
    """

    base: AbstentionThreshold
    precision: Metric
    coverage: Metric
    right_kept: Metric
    memory_precision: Metric
    other_relation: Metric

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: part.to_json() for name, part in named.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AbstentionWorth:
        """Read back what `to_json` returned.

        Raises:
            ValueError: It is damaged.
        """
        try:
            metrics = {each.name: Metric.from_json(data[each.name]) for each in fields(cls)[1:]}
            return cls(AbstentionThreshold.from_json(data["base"]), **metrics)
        except (KeyError, TypeError) as error:
            raise ValueError(f"cached worth of abstention is damaged: {error!r}") from error


@dataclass(frozen=True)
class Abstention:
    """Whether an answer is given, and why.

    Attributes:
        support: "memory" (a stored fact states the answer and is what the prompt asks for), "base" (the model
            without edits supports it), or None: the answer is withheld.
        score: support of the answer by the model without edits, in nats; None for an empty answer.
        withheld: what the model said; None where the answer is given.
        worth: the threshold of the score, and what it is worth.
    """

    support: Literal["memory", "base"] | None
    score: float | None
    withheld: str | None
    worth: AbstentionWorth

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        own = {"support": self.support, "score": self.score, "withheld": self.withheld}
        return {**own, "worth": self.worth.to_json()}


@dataclass(frozen=True)
class Answer:
    """What the model says to a prompt, and on what that rests.

    Attributes:
        prompt: what was asked.
        text: greedy answer up to its natural stop; "I don't know" where it is withheld.
        confidence: probability of its first token.
        subject: the subject whose rows said most; None when no gate opened.
        mass: largest share of a token's routing that it had, 0 to 1.
        facts: stored facts whose rows spoke. Subjects come in the order of what they said; of the facts of
            one subject those whose target the answer states come first, then those worded most alike.
        without: the edit that was switched off, if any.
        unedited: what the model answers without any edit; None where it was not asked.
        abstention: whether the answer is given and why; None where that was not asked.
    """

    prompt: str
    text: str
    confidence: float
    subject: str | None
    mass: float
    facts: tuple[RestsOn, ...]
    without: str | None
    unedited: str | None = None
    abstention: Abstention | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object that `memedit ask --json` prints."""
        plain = asdict(replace(self, abstention=None))
        return {**plain, "abstention": None if self.abstention is None else self.abstention.to_json()}
