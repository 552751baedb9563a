"""Which facts are reported and which settings are tuned on: never the same, never the same subject."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from memedit.errors import UsageError
from memedit.facts import Fact

_SHARE = 5
_LEAST = 4


def split(
    facts: Sequence[Fact], development: Sequence[Fact] | None
) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """Split facts by subject.

    Args:
        facts: what is compared.
        development: facts to tune on; None = a fifth of the subjects, by hash, is taken out of `facts`.

    Returns:
        The facts that are reported, and those to tune on. Development facts about a reported subject are
        left out.

    Raises:
        UsageError: when either side is left with too few.
    """
    if development is None:
        tuning = [fact for fact in facts if _is_for_tuning(fact.subject)]
        reported = [fact for fact in facts if not _is_for_tuning(fact.subject)]
        remedy = "Give more facts, or others to tune on: --dev FILE."
    else:
        subjects, ids = {_name(fact.subject) for fact in facts}, {fact.id for fact in facts}
        reported = list(facts)
        tuning = [fact for fact in development if _name(fact.subject) not in subjects and fact.id not in ids]
        remedy = "Give other facts: those about a reported subject do not count."
    if len(tuning) < _LEAST or not reported:
        raise UsageError(
            f"--tune: got {len(tuning)} facts to tune on and {len(reported)} to report, expected at least "
            f"{_LEAST} and 1",
            remedy=remedy,
        )
    return tuple(reported), tuple(tuning)


def _is_for_tuning(subject: str) -> bool:
    digest = hashlib.sha256(_name(subject).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % _SHARE == 0


def _name(subject: str) -> str:
    return " ".join(subject.casefold().split())
