"""What a fact is: a prompt, the answer that belongs behind it, and the subject that it speaks of.

What: `Fact` with its never-trained `Probes` (`Probe`, `MultiHop`), all frozen, all plain JSON.
Why: the store keeps facts as JSON, the editor trains on them, the evaluation asks for them; all three need
one shape and one stable id.
How: `fact_id` hashes prompt, target and subject, so the same fact has the same id in every file and on
every machine; where it was read (`line`) is no part of its identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memedit.errors import FactsError

__all__ = [
    "ID_LENGTH",
    "LOCALITY_KINDS",
    "PORTABILITY_KINDS",
    "Fact",
    "MultiHop",
    "Probe",
    "Probes",
    "fact_id",
]

ID_LENGTH = 12
# Source: CounterFact (Meng et al. 2022, section 3.3) has neighborhood prompts; KnowEdit (Zhang et al. 2024,
# section 4) has the others.
LOCALITY_KINDS = ("neighborhood", "relation_specificity", "forgetfulness")
PORTABILITY_KINDS = ("reasoning", "subject_aliasing", "logical_generalization")


def fact_id(prompt: str, target: str, subject: str) -> str:
    """The content hash of a fact.

    Args:
        prompt: The text in front of the answer.
        target: The answer.
        subject: What the fact speaks of, as it occurs in the prompt.

    Returns:
        `ID_LENGTH` lower-case hexadecimal digits.
    """
    content = json.dumps([prompt, target, subject], ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Probe:
    """A prompt that is only ever evaluated.

    Args:
        prompt: The text that the model is asked to continue.
        target: The right answer, or None where only a change of the answer matters (locality).
        aliases: Other answers that count as right; only with a target.
        kind: Which kind of locality (`LOCALITY_KINDS`) or portability (`PORTABILITY_KINDS`) it asks about;
            None where that is not known.
    """

    prompt: str
    target: str | None = None
    aliases: tuple[str, ...] = ()
    kind: str | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that counts as right: the target, then its aliases; empty without a target."""
        return () if self.target is None else (self.target, *self.aliases)

    def to_json(self) -> dict[str, Any] | str:
        """The probe as it stands in a facts file: a string, or an object when it is more than a prompt."""
        content = {"target": self.target, "aliases": list(self.aliases), "kind": self.kind}
        more = {name: value for name, value in content.items() if value not in (None, [])}
        return {"prompt": self.prompt, **more} if more else self.prompt

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> Probe:
        """The probe that `to_json` wrote."""
        if isinstance(value, str):
            return cls(value)
        return cls(value["prompt"], value.get("target"), tuple(value.get("aliases", ())), value.get("kind"))


@dataclass(frozen=True)
class MultiHop:
    """A question whose answer follows from this fact and others, in several phrasings.

    It counts as answered when the answer to any phrasing is right (MQuAKE, Zhong et al. 2023, section 4).

    Args:
        prompts: The phrasings of one question.
        target: The right answer once the fact is known.
        aliases: Other answers that count as right.
    """

    prompts: tuple[str, ...]
    target: str
    aliases: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that counts as right: the target, then its aliases."""
        return (self.target, *self.aliases)

    def to_json(self) -> dict[str, Any]:
        """The question as it stands in a facts file."""
        content = {"prompts": list(self.prompts), "target": self.target}
        return {**content, "aliases": list(self.aliases)} if self.aliases else content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MultiHop:
        """The question that `to_json` wrote."""
        return cls(tuple(value["prompts"]), value["target"], tuple(value.get("aliases", ())))


@dataclass(frozen=True)
class Probes:
    """Wordings that are only ever evaluated, never trained.

    Args:
        paraphrases: Statements that end right before the target.
        questions: Questions whose answer is the target.
        locality: Prompts about something else, whose answer must not change.
        portability: Prompts whose answer follows from the fact.
        multi_hop: Questions whose answer follows from the fact and others, in several phrasings each.
    """

    paraphrases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    locality: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()
    multi_hop: tuple[MultiHop, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every text that must not be trained."""
        others = tuple(probe.prompt for probe in (*self.locality, *self.portability))
        hops = tuple(prompt for question in self.multi_hop for prompt in question.prompts)
        return (*self.paraphrases, *self.questions, *others, *hops)

    def to_json(self) -> dict[str, Any]:
        """The probes as they stand in a facts file, without empty lists."""
        content: dict[str, list[Any]] = {
            "paraphrases": list(self.paraphrases),
            "questions": list(self.questions),
            "locality": [probe.to_json() for probe in self.locality],
            "portability": [probe.to_json() for probe in self.portability],
            "multi_hop": [question.to_json() for question in self.multi_hop],
        }
        return {name: values for name, values in content.items() if values}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Probes:
        """The probes that `to_json` wrote."""
        return cls(
            paraphrases=tuple(value.get("paraphrases", ())),
            questions=tuple(value.get("questions", ())),
            locality=tuple(Probe.from_json(probe) for probe in value.get("locality", ())),
            portability=tuple(Probe.from_json(probe) for probe in value.get("portability", ())),
            multi_hop=tuple(MultiHop.from_json(question) for question in value.get("multi_hop", ())),
        )


@dataclass(frozen=True)
class Fact:
    """Something to teach: after `prompt` the model shall say `target`.

    Args:
        id: Stable name; `fact_id` unless the file gives one.
        prompt: Ends right before the answer, without a space behind it.
        target: The answer.
        subject: What the fact speaks of; occurs in `prompt`.
        aliases: Other answers that count as right.
        paraphrases: Further wordings to teach; each ends right before the answer.
        relation: The name of a bundled relation, or any label of the user's.
        source: Where the fact comes from.
        time: When it was true or written.
        probes: Wordings for evaluation only.
        line: The line of the file that it was read from, counted from 1; no part of its identity.
        replaces: The answer that held before, whose place the target takes (CounterFact: `target_true`).
    """

    id: str
    prompt: str
    target: str
    subject: str
    aliases: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    relation: str | None = None
    source: str | None = None
    time: str | None = None
    probes: Probes = Probes()
    line: int | None = field(default=None, compare=False)
    replaces: str | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that counts as right: the target, then its aliases."""
        return (self.target, *self.aliases)

    @property
    def given_wordings(self) -> tuple[str, ...]:
        """The wordings to teach that the user wrote: the prompt, then the paraphrases."""
        return (self.prompt, *self.paraphrases)

    def to_json(self) -> dict[str, Any]:
        """The fact as one object of a facts file, without its empty fields."""
        content: dict[str, Any] = {
            "id": self.id,
            "prompt": self.prompt,
            "target": self.target,
            "subject": self.subject,
            "aliases": list(self.aliases),
            "replaces": self.replaces,
            "paraphrases": list(self.paraphrases),
            "relation": self.relation,
            "source": self.source,
            "time": self.time,
            "probes": self.probes.to_json(),
        }
        return {name: value for name, value in content.items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fact:
        """The fact that `to_json` wrote.

        Raises:
            FactsError: When `id`, `prompt`, `target` or `subject` is missing.
        """
        missing = [name for name in ("id", "prompt", "target", "subject") if name not in value]
        if missing:
            raise FactsError(
                f"a stored fact lacks {', '.join(missing)}",
                remedy="Facts from a file or a user go through read_facts or facts_from_records.",
            )
        return cls(
            id=value["id"],
            prompt=value["prompt"],
            target=value["target"],
            subject=value["subject"],
            aliases=tuple(value.get("aliases", ())),
            paraphrases=tuple(value.get("paraphrases", ())),
            relation=value.get("relation"),
            source=value.get("source"),
            time=value.get("time"),
            probes=Probes.from_json(value.get("probes", {})),
            replaces=value.get("replaces"),
        )
