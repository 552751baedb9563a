"""How much of what must stay the gate asks about: all of it, or a part that the edit's size can pay for.

A quick gate asks a fixed part of the retention suite, chosen by hash, so that the same edit is judged by the
same items and a larger edit by a superset of a smaller one's.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

from memedit.errors import UsageError
from memedit.facts import Fact

GateMode = Literal["quick", "full", "off"]
GATE_MODES: tuple[str, ...] = get_args(GateMode)

# Items asked per taught fact, three times each, and items per passage: a quarter of the time of an edit.
_ITEMS_PER_FACT = 4
_MIN_ITEMS = 60
_ITEMS_PER_PASSAGE = 12
_MIN_PASSAGES = 8
_Item = TypeVar("_Item")


def check_gate_mode(mode: str) -> None:
    """Refuse a mode that is none of quick, full and off.

    Raises:
        UsageError: when it is none of them.
    """
    if mode not in GATE_MODES:
        raise UsageError(f"gate: got {mode!r}, expected one of {', '.join(GATE_MODES)}")


def suite_size(mode: str, num_facts: int) -> int | None:
    """Return how many items of each part of the retention suite are asked; None = all."""
    return None if mode == "full" else max(_MIN_ITEMS, _ITEMS_PER_FACT * num_facts)


def asked_facts(facts: Sequence[Fact], size: int | None) -> list[Fact]:
    """Return the facts of a suite that are asked, in their order."""
    return _part(facts, [fact.prompt for fact in facts], size)


def measured_text(text: str, size: int | None) -> str:
    """Return the passages of a text whose perplexity is measured, in their order."""
    passages = [passage for passage in re.split(r"\n\s*\n", text) if passage.strip()]
    number = None if size is None else max(_MIN_PASSAGES, -(-size // _ITEMS_PER_PASSAGE))
    kept = _part(passages, passages, number)
    return text if len(kept) == len(passages) else "\n\n".join(kept)


def _part(items: Sequence[_Item], names: Sequence[str], size: int | None) -> list[_Item]:
    """The `size` items whose names have the smallest hashes."""
    if size is None or size >= len(items):
        return list(items)
    order = sorted(range(len(items)), key=lambda place: hashlib.sha256(names[place].encode("utf-8")).digest())
    return [items[place] for place in sorted(order[:size])]
