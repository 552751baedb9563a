"""CounterFact with one paraphrase and one neighbour a record, the form that editing toolkits pass around."""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, made_fact, probe

__all__ = ["COUNTERFACT_COMPACT"]


def _read(record: RecordFields, reading: Reading) -> Made:
    rephrase = record.optional_text("rephrase_prompt")
    locality = record.optional_text("locality_prompt")
    neighbour = record.answers("locality_ground_truth")
    native = {
        "prompt": record.text("prompt"),
        "target": record.text("target_new", one_line=True),
        "subject": record.text("subject", one_line=True),
        "replaces": record.optional_text("ground_truth", one_line=True),
        "source": f"CounterFact, case {record.get('case_id')}",
        "probes": {
            "paraphrases": [rephrase] if rephrase else [],
            "locality": [probe(locality, neighbour, "neighborhood")] if locality else [],
        },
    }
    return Made(facts=(made_fact(native, reading, {"target": "target_new", "replaces": "ground_truth"}),))


COUNTERFACT_COMPACT = Format(
    name="counterfact_compact",
    title="CounterFact, compact",
    needs=tuple(
        Need((name,)) for name in ("prompt", "target_new", "subject", "rephrase_prompt", "locality_prompt")
    ),
    read=_read,
)
