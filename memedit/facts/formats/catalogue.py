"""The formats that memedit reads, and how one is recognised.

What: `FORMATS` by name; `chosen_format`: the one that a user names, or whose fields the first records have.
Why: a wrong guess would teach the wrong thing, so in doubt there is an error that says what was considered.
How: a format is a candidate when most of the first records have all its fields; of two, the one whose fields
include the other's is the more exact; otherwise they are named and the user chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from memedit.errors import FactsError, UsageError
from memedit.facts.checked_values import meant_key
from memedit.facts.formats.counterfact import COUNTERFACT
from memedit.facts.formats.counterfact_compact import COUNTERFACT_COMPACT
from memedit.facts.formats.knowedit import KNOWEDIT
from memedit.facts.formats.known import KNOWN
from memedit.facts.formats.mquake import MQUAKE
from memedit.facts.formats.native import MEMEDIT
from memedit.facts.formats.nq_open import NQ_OPEN
from memedit.facts.formats.popqa import POPQA
from memedit.facts.formats.record_format import Format
from memedit.facts.formats.selfaware import SELFAWARE
from memedit.facts.formats.simpleqa import SIMPLEQA
from memedit.facts.formats.triviaqa import TRIVIAQA
from memedit.facts.formats.truthfulqa import TRUTHFULQA
from memedit.facts.formats.wikibigedit import WIKIBIGEDIT
from memedit.facts.formats.zsre import ZSRE
from memedit.facts.relations import closest
from memedit.facts.schema import NATIVE_KEYS

__all__ = ["FORMATS", "chosen_format", "require_convention"]

_ALL = (
    MEMEDIT,
    COUNTERFACT,
    COUNTERFACT_COMPACT,
    ZSRE,
    KNOWEDIT,
    MQUAKE,
    WIKIBIGEDIT,
    KNOWN,
    NQ_OPEN,
    TRIVIAQA,
    POPQA,
    SIMPLEQA,
    TRUTHFULQA,
    SELFAWARE,
)
FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in _ALL})
"""The formats by the name that `--format` knows them by."""


def _fields_of(candidate: Format, record: Mapping[str, Any]) -> set[str] | None:
    """The names under which a record has all the format's fields, or None."""
    names = [need.found_in(record) for need in candidate.needs]
    return None if None in names else {name for name in names if name}


def _candidates(records: Sequence[Mapping[str, Any]]) -> list[Format]:
    """The formats that the most records fit, without those that a more exact one includes."""
    fits = {each.name: [_fields_of(each, record) for record in records] for each in _ALL}
    counts = {name: sum(fields is not None for fields in found) for name, found in fits.items()}
    most = max(counts.values(), default=0)
    if most == 0:
        return []
    fields = {name: set().union(*filter(None, fits[name])) for name in counts if counts[name] == most}
    exact = [name for name in fields if not any(fields[name] < others for others in fields.values())]
    return [FORMATS[name] for name in exact]


def _looks_native(record: Mapping[str, Any]) -> bool:
    """Whether a record is a fact of memedit's own with a mistaken key."""
    has_native = any(key in record for key in ("prompt", "target", "relation"))
    return has_native and all(key in NATIVE_KEYS or meant_key(key, NATIVE_KEYS) for key in record)


def _considered(record: Mapping[str, Any]) -> str:
    """For each format the fields that a record lacks, the nearest format first."""
    missing = [(each, [str(need) for need in each.needs if need.found_in(record) is None]) for each in _ALL]
    missing.sort(key=lambda pair: len(pair[1]) / len(pair[0].needs))
    return "\n".join(f"    {each.name}: no {', '.join(lacking)}" for each, lacking in missing)


def chosen_format(name: str | None, records: Sequence[Mapping[str, Any]], source: str) -> Format:
    """The format to read a source in.

    Args:
        name: What the user said, or None to recognise it.
        records: The first records.
        source: What is read, for messages.

    Raises:
        UsageError: When there is no format of that name.
        FactsError: When none or several fit; the message lists them.
    """
    if name is not None:
        if name not in FORMATS:
            near = closest(name, FORMATS)
            hint = f"Did you mean {near!r}? " if near else ""
            raise UsageError(f"unknown format {name!r}", remedy=f"{hint}Formats: {', '.join(FORMATS)}.")
        return FORMATS[name]
    found = _candidates(records)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        raise FactsError(
            f"{source}: its records fit several formats: {names}",
            path=source,
            remedy=f"Say which it is: --format {found[0].name} (format={found[0].name!r}).",
        )
    if _looks_native(records[0]):
        return MEMEDIT
    fields = ", ".join(list(records[0])[:12]) or "none"
    raise FactsError(
        f"{source}: no format that memedit reads; its first record has the fields {fields}\n"
        f"{_considered(records[0])}",
        path=source,
        remedy="Name the format (--format, format=) to see what is wrong with each record, or convert the"
        " file: docs/facts.md says how.",
    )


def require_convention(chosen: Format, convention: str | None, source: str) -> None:
    """Check that a convention of what is taught is named where, and only where, the format has several.

    Args:
        chosen: The format.
        convention: What the user said.
        source: What is read, for messages.

    Raises:
        UsageError: When it is missing, unknown, or has no meaning for the format.
    """
    there = dict(chosen.target_conventions)
    if convention in there or (convention is None and not there):
        return
    choices = "; ".join(f"{name} = {meaning}" for name, meaning in there.items())
    options = " or ".join(f"--target-convention {name} (target_convention={name!r})" for name in there)
    if convention is None:
        raise UsageError(
            f"{source}: {chosen.title} has two answers, and it was not said which is to be taught: {choices}",
            remedy=f"Say which: {options}.",
        )
    if there:
        raise UsageError(
            f"unknown target convention {convention!r} for {chosen.title}",
            remedy=f"Use {options}: {choices}.",
        )
    raise UsageError(
        f"{source}: {chosen.title} has one answer to teach, so that {convention!r} has no meaning",
        remedy="Leave the target convention out.",
    )
