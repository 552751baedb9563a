"""memedit's own facts files, as docs/facts.md describes them."""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading
from memedit.facts.schema import parse_fact

__all__ = ["MEMEDIT"]


def _read(record: RecordFields, reading: Reading) -> Made:
    return Made(facts=(parse_fact(record.record, line=reading.line),))


MEMEDIT = Format(
    name="memedit",
    title="memedit's own",
    needs=(Need(("target",)), Need(("prompt", "relation"))),
    read=_read,
)
