"""MQuAKE: one or more rewrites a record, and a multi-hop question in three phrasings that follows from them.

Source: Zhong et al. 2023, "MQuAKE: Assessing Knowledge Editing in Language Models via Multi-Hop Questions".
The question is a probe of the record's first rewrite, so that it is counted once; the rewrites of a record
stand or fall together. single_hops and the answer before the edit are not read.
"""

from __future__ import annotations

from memedit.errors import FactsError
from memedit.facts.fact import Fact
from memedit.facts.formats.counterfact import answer_text
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, filled, made_fact
from memedit.facts.questions import asked, asked_otherwise

__all__ = ["MQUAKE"]


def _aliases(record: RecordFields, prompt: str, target: str) -> tuple[str, ...]:
    """What else counts as the answer to one rewrite: as the hops after the edit say it."""
    for hop in record.inners("new_single_hops"):
        if hop.get("cloze") == prompt and hop.get("answer") == target:
            return hop.answers("answer_alias")
    return ()


def _fact(record: RecordFields, rewrite: RecordFields, reading: Reading, *, is_first: bool) -> Fact:
    subject = rewrite.text("subject", one_line=True)
    prompt = filled(rewrite.text("prompt"), subject, rewrite.path("prompt"))
    target = answer_text(rewrite, "target_new")
    question = rewrite.optional_text("question")
    answers = (record.text("new_answer", one_line=True), *record.answers("new_answer_alias"))
    hop = {
        "prompts": [asked(text) for text in record.texts("questions")],
        "target": answers[0],
        "aliases": answers[1:],
    }
    native = {
        "prompt": prompt,
        "target": target,
        "aliases": _aliases(record, prompt, target),
        "subject": subject,
        "replaces": answer_text(rewrite, "target_true") if rewrite.get("target_true") else None,
        "relation": rewrite.optional_text("relation_id"),
        "source": f"MQuAKE, case {record.get('case_id')}",
        "probes": {
            "questions": [asked_otherwise(question)] if question else [],
            "multi_hop": [hop] if is_first else [],
        },
    }
    fields = {name: rewrite.path(name) for name in ("prompt", "subject")}
    return made_fact(native, reading, {**fields, "target": rewrite.path("target_new")})


def _read(record: RecordFields, reading: Reading) -> Made:
    rewrites = record.inners("requested_rewrite")
    if not rewrites:
        raise FactsError("requested_rewrite is empty, expected at least one", field="requested_rewrite")
    facts = (_fact(record, each, reading, is_first=each is rewrites[0]) for each in rewrites)
    return Made(facts=tuple(facts))


MQUAKE = Format(
    name="mquake",
    title="MQuAKE",
    needs=(Need(("requested_rewrite",), "list"), Need(("questions",), "list"), Need(("new_answer",))),
    read=_read,
)
