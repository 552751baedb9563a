"""What the editor hands back: edits, the outcome of each fact, answers with their provenance."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from memedit.errors import GateRefused
from memedit.facts import Fact

Status = Literal["learned", "already_known", "failed", "stored"]


@dataclass(frozen=True)
class FactOutcome:
    """What became of one fact.

    Attributes:
        fact: the fact.
        status: "learned" (right after the edit in its own prompt), "failed", "already_known" (right before,
            not taught), "stored" (an earlier edit taught it already).
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


@dataclass(frozen=True)
class RestsOn:
    """A stored fact that an answer rests on.

    Attributes:
        edit_id: the edit that taught it.
        fact_id: the fact.
        prompt: its prompt.
        target: its answer.
    """

    edit_id: str
    fact_id: str
    prompt: str
    target: str


@dataclass(frozen=True)
class Answer:
    """What the model says to a prompt, and on what that rests.

    Attributes:
        prompt: what was asked.
        text: greedy answer up to its natural stop.
        confidence: probability of its first token.
        subject: the subject whose slots spoke; None when no gate opened.
        mass: share of the routing that its slots had, 0 to 1.
        facts: stored facts about that subject.
        without: the edit that was switched off, if any.
    """

    prompt: str
    text: str
    confidence: float
    subject: str | None
    mass: float
    facts: tuple[RestsOn, ...]
    without: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the object that `memedit ask --json` prints."""
        return asdict(self)
