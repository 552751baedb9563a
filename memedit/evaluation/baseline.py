"""The base model's answers and perplexity, kept so that they are measured once per model and suite.

What: `Baseline` with its JSON form, and `suite_hash`, which names what was measured.
Why: the model before the first edit does not change; asking it again would be half of an evaluation's time.
How: the caller stores the JSON under model fingerprint + suite hash. A baseline that does not fit what is
asked for, or does not parse, is refused with ValueError and is simply measured afresh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memedit.evaluation.perplexity import Perplexity
from memedit.evaluation.recall import Answered, Question

__all__ = ["Baseline", "suite_hash"]

_VERSION = 1


@dataclass(frozen=True)
class Baseline:
    """What one model answered to one suite.

    Args:
        fingerprint: Fingerprint of the model.
        suite: Hash of the suite, from `suite_hash`.
        answered: Its answers.
        perplexity: Its perplexity on the suite's text, or None.
    """

    fingerprint: str
    suite: str
    answered: tuple[Answered, ...]
    perplexity: Perplexity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the baseline as JSON values."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, fingerprint: str, suite: str) -> Baseline:
        """Read a baseline back, if it is the one that is asked for.

        Args:
            data: What `to_json` returned.
            fingerprint: Fingerprint of the model at hand.
            suite: Hash of the suite at hand.
        Returns:
            The baseline.
        Raises:
            ValueError: it belongs to another model or suite, or is damaged; measure afresh.
        """
        found = (data.get("version"), data.get("fingerprint"), data.get("suite"))
        if found != (_VERSION, fingerprint, suite):
            raise ValueError(
                f"cached baseline has (version, fingerprint, suite) {found}, expected "
                f"{(_VERSION, fingerprint, suite)}"
            )
        try:
            answered = tuple(_answered(item) for item in data["answered"])
            measured = data["perplexity"]
            perplexity = None if measured is None else _perplexity(measured)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cached baseline is damaged: {error!r}") from error
        return cls(fingerprint, suite, answered, perplexity)


def suite_hash(questions: Sequence[Question], text: str | None, *, max_new_tokens: int) -> str:
    """Return a name for everything that decides a baseline, besides the model.

    Args:
        questions: The questions, in order.
        text: The text of the perplexity, or None.
        max_new_tokens: Token budget of an answer.
    Returns:
        SHA-256 in hexadecimal.
    """
    content = json.dumps([_VERSION, [asdict(question) for question in questions], text, max_new_tokens])
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def _answered(item: Mapping[str, Any]) -> Answered:
    asked = item["question"]
    question = Question(
        str(asked["prompt"]), tuple(map(str, asked["answers"])), str(asked["group"]), str(asked["fact_id"])
    )
    if not isinstance(item["correct"], bool):
        raise TypeError(f"correct must be true or false, got {item['correct']!r}")
    return Answered(question, str(item["text"]), item["correct"], float(item["confidence"]))


def _perplexity(item: Mapping[str, Any]) -> Perplexity:
    nlls, num_tokens = tuple(map(float, item["nlls"])), tuple(map(int, item["num_tokens"]))
    if len(nlls) != len(num_tokens):
        raise ValueError(f"{len(nlls)} likelihoods for {len(num_tokens)} chunks")
    return Perplexity(float(item["value"]), nlls, num_tokens)
