"""WikiBigEdit: questions about facts that changed in Wikidata, with rephrasings, personas, hops and locality.

Source: Thede et al. 2025, "WikiBigEdit: Understanding the Limits of Lifelong Knowledge Editing in LLMs".
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, made_fact, probe
from memedit.facts.questions import asked

__all__ = ["WIKIBIGEDIT"]


def _read(record: RecordFields, reading: Reading) -> Made:
    # A file may have more than one persona: personas, personas_formal, ...
    personas = sorted(name for name in record.record if name.startswith("personas"))
    rephrasings = [text for name in ("rephrase", *personas) if (text := record.optional_text(name))]
    hop, hop_answers = record.optional_text("mhop"), record.answers("mhop_ans")
    unrelated = record.optional_text("loc")
    native = {
        "prompt": asked(record.text("update")),
        "target": record.text("ans", one_line=True),
        "subject": record.text("subject", one_line=True),
        "source": "WikiBigEdit",
        "probes": {
            "paraphrases": [asked(text) for text in rephrasings],
            "locality": [probe(asked(unrelated), record.answers("loc_ans"))] if unrelated else [],
            "multi_hop": [{"prompts": [asked(hop)], "target": hop_answers[0], "aliases": hop_answers[1:]}]
            if hop and hop_answers
            else [],
        },
    }
    return Made(facts=(made_fact(native, reading, {"prompt": "update", "target": "ans"}),))


WIKIBIGEDIT = Format(
    name="wikibigedit",
    title="WikiBigEdit",
    needs=(Need(("subject",)), Need(("update",)), Need(("ans",))),
    read=_read,
)
