"""Known-1000: facts that GPT-2 XL completes rightly, from the causal tracing of ROME.

Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 2.
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, made_fact

__all__ = ["KNOWN"]


def _read(record: RecordFields, reading: Reading) -> Made:
    native = {
        "prompt": record.text("prompt"),
        "target": record.text("attribute", one_line=True),
        "subject": record.text("subject", one_line=True),
        "relation": record.optional_text("relation_id"),
        "source": f"Known-1000, fact {record.get('known_id')}",
    }
    return Made(facts=(made_fact(native, reading, {"target": "attribute"}),))


KNOWN = Format(
    name="known",
    title="Known-1000",
    needs=(Need(("subject",)), Need(("attribute",)), Need(("prompt",))),
    read=_read,
)
