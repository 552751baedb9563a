"""KnowEdit: WikiData recent and counterfact, ZsRE and WikiBio, with portability and locality probes.

Source: Zhang et al. 2024, "A Comprehensive Study of Knowledge Editing for Large Language Models", section 4.
Probes come in several shapes: for each kind a list of objects, one object, or an object of parallel lists;
their answers as a text, a list, or a list for each answer that counts as right. All are read alike.
"""

from __future__ import annotations

from typing import Any

from memedit.errors import FactsError
from memedit.facts.checked_values import kind_of
from memedit.facts.fact import LOCALITY_KINDS, PORTABILITY_KINDS
from memedit.facts.formats.record_fields import RecordFields
from memedit.facts.formats.record_format import Format, Made, Need, Reading, made_fact, probe
from memedit.facts.questions import as_prompt

__all__ = ["KNOWEDIT"]


def _parallel(item: RecordFields) -> list[RecordFields]:
    """One object for each prompt of {"prompt": [...], "ground_truth": [...]}; the object itself elsewhere."""
    prompts = item.get("prompt")
    if not isinstance(prompts, list | tuple):
        return [item]
    answers = item.get("ground_truth") or [None] * len(prompts)
    if not isinstance(answers, list | tuple) or len(answers) != len(prompts):
        path = item.path("ground_truth")
        raise FactsError(f"{path} must be a list as long as prompt ({len(prompts)})", field=path)
    pairs = zip(prompts, answers, strict=True)
    return [RecordFields({"prompt": prompt, "ground_truth": answer}, item.where) for prompt, answer in pairs]


def _probes(record: RecordFields, group: str, known: tuple[str, ...]) -> list[dict[str, Any]]:
    """The probes of "portability" or "locality"; a name that is none of the known kinds gives no kind."""
    if record.get(group) is None:
        return []
    kinds = record.inner(group)
    if not kinds.record.keys() - {"prompt", "ground_truth"} and kinds.record:
        return [_probe(item, None) for item in _parallel(kinds)]
    found = []
    for name in kinds.record:
        kind = name.casefold() if name.casefold() in known else None
        found += [_probe(each, kind) for item in kinds.inners(name) for each in _parallel(item)]
    return found


def _probe(item: RecordFields, kind: str | None) -> dict[str, Any]:
    return probe(as_prompt(item.text("prompt")), item.answers("ground_truth"), kind)


def _read(record: RecordFields, reading: Reading) -> Made:
    targets = record.needed_answers("target_new", "labels")
    rephrase = record.get("rephrase_prompt", "rephrase")
    if rephrase is not None and not isinstance(rephrase, str | list | tuple):
        path = record.path("rephrase_prompt", "rephrase")
        raise FactsError(f"{path} must be a text or a list of texts, got {kind_of(rephrase)}", field=path)
    native = {
        "prompt": as_prompt(record.text("prompt", "text")),
        "target": targets[0],
        "aliases": targets[1:],
        "subject": record.text("subject", "concept", one_line=True),
        "replaces": next(iter(record.answers("ground_truth")), None),
        "source": "KnowEdit",
        "probes": {
            "paraphrases": [as_prompt(text) for text in record.answers("rephrase_prompt", "rephrase")],
            "portability": _probes(record, "portability", PORTABILITY_KINDS),
            "locality": _probes(record, "locality", LOCALITY_KINDS),
        },
    }
    fields = {
        "prompt": record.path("prompt", "text"),
        "target": record.path("target_new", "labels"),
        "subject": record.path("subject", "concept"),
    }
    return Made(facts=(made_fact(native, reading, fields),))


KNOWEDIT = Format(
    name="knowedit",
    title="KnowEdit",
    needs=(
        Need(("subject", "concept")),
        Need(("prompt", "text")),
        Need(("target_new", "labels"), "texts"),
    ),
    read=_read,
)
