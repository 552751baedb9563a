"""CounterFact, as its authors publish it: a rewrite with paraphrases, neighbours and more.

Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 3.3 and appendix D.
Not read: attribute_prompts and generation_prompts, which no measurement of memedit asks.
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, filled, made_fact, probe

__all__ = ["COUNTERFACT", "answer_text"]


def answer_text(rewrite: RecordFields, name: str) -> str:
    """An answer that is an object with the text under `str`, or the text itself.

    Args:
        rewrite: The fields of a requested rewrite.
        name: The answer's field.

    Raises:
        FactsError: When it is neither.
    """
    if isinstance(rewrite.get(name), str):
        return rewrite.text(name, one_line=True)
    return rewrite.inner(name).text("str", one_line=True)


def _read(record: RecordFields, reading: Reading) -> Made:
    rewrite = record.inner("requested_rewrite")
    subject = rewrite.text("subject", one_line=True)
    true = answer_text(rewrite, "target_true")
    neighbours = record.texts("neighborhood_prompts")
    native = {
        "prompt": filled(rewrite.text("prompt"), subject, rewrite.path("prompt")),
        "target": answer_text(rewrite, "target_new"),
        "subject": subject,
        "replaces": true,
        "relation": rewrite.optional_text("relation_id"),
        "source": f"CounterFact, case {record.get('case_id')}",
        "probes": {
            "paraphrases": list(record.texts("paraphrase_prompts")),
            "locality": [probe(prompt, [true], "neighborhood") for prompt in neighbours],
        },
    }
    fields = {name: rewrite.path(name) for name in ("prompt", "subject")}
    fields["target"] = rewrite.path("target_new")
    return Made(facts=(made_fact(native, reading, fields),))


COUNTERFACT = Format(
    name="counterfact",
    title="CounterFact",
    needs=(Need(("requested_rewrite",), "object"),),
    read=_read,
)
