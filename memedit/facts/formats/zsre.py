"""zsRE in the MEND editing format: questions with a true answer, another answer, and an unrelated question.

Source: Levy et al. 2017 (zsRE); Mitchell et al. 2022, "Fast Model Editing at Scale" (the format).
Two conventions of what is taught are in use, and numbers made with one say nothing about the other, so the
user has to name one: "answers" = the true answer, answers[0] (ROME, MEMIT); "alt" = the other answer
(EasyEdit).
"""

from __future__ import annotations

from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, made_fact, probe
from memedit.facts.questions import asked

__all__ = ["ZSRE"]

_UNRELATED = "nq question: "


def _read(record: RecordFields, reading: Reading) -> Made:
    answers = record.needed_answers("answers")
    taught: tuple[str, ...]
    if reading.target_convention == "alt":
        taught, replaced, field = (record.text("alt", one_line=True),), answers[0], "alt"
    else:
        taught, replaced, field = answers, None, "answers"
    rephrase = record.optional_text("rephrase")
    unrelated = record.optional_text("loc")
    native = {
        "prompt": asked(record.text("src")),
        "target": taught[0],
        "aliases": taught[1:],
        "subject": record.text("subject", one_line=True),
        "replaces": replaced,
        "source": "zsRE",
        "probes": {
            "paraphrases": [asked(rephrase)] if rephrase else [],
            "locality": [probe(asked(unrelated.removeprefix(_UNRELATED)), record.answers("loc_ans"))]
            if unrelated
            else [],
        },
    }
    return Made(facts=(made_fact(native, reading, {"prompt": "src", "target": field}),))


ZSRE = Format(
    name="zsre",
    title="zsRE (MEND)",
    needs=(Need(("subject",)), Need(("src",)), Need(("alt",)), Need(("answers",), "texts")),
    read=_read,
    target_conventions=(
        ("answers", "the true answer, answers[0], as ROME and MEMIT do"),
        ("alt", "the other answer, alt, as EasyEdit does"),
    ),
)
