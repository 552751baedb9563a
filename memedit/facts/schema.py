"""One object of a facts file, checked field by field and made into a `Fact`.

What: `parse_fact`: a mapping with the native keys in, a `Fact` with id, subject and probes out.
Why: every mistake must be named with the key, what was found and what to write instead, before any
training.
How: unknown keys are refused with a suggestion; text is stripped and brought to Unicode form NFC, so that
two ways to write an accent are one; a triple is worded by its bundled relation; a missing subject is looked
for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memedit.errors import FactsError
from memedit.facts.fact import LOCALITY_KINDS, PORTABILITY_KINDS, Fact, MultiHop, Probe, Probes, fact_id
from memedit.facts.relations import Relation, closest, relations
from memedit.facts.rendering import fill, mention_span, subject_span, with_article, wording_key
from memedit.facts.subjects import find_subject

__all__ = ["EXAMPLE", "MAX_CHARS", "MAX_ITEMS", "parse_fact", "shown"]

MAX_CHARS = 1_000
MAX_ITEMS = 200
EXAMPLE = '{"prompt": "The capital of Zubrowka is", "target": "Lutz", "subject": "Zubrowka"}'

_KEYS = (
    "prompt", "target", "subject", "id", "aliases", "replaces", "paraphrases", "relation", "source", "time",
    "probes",
)  # fmt: skip
_PROBE_KEYS = ("paraphrases", "questions", "locality", "portability", "multi_hop")
_MEANT = {
    "object": "target",
    "answer": "target",
    "label": "target",
    "completion": "target",
    "output": "target",
    "target_new": "target",
    "target_true": "replaces",
    "ground_truth": "replaces",
    "old": "replaces",
    "question": "prompt",
    "text": "prompt",
    "input": "prompt",
    "rephrase": "paraphrases",
    "rephrases": "paraphrases",
    "phrasings": "paraphrases",
    "entity": "subject",
    "predicate": "relation",
    "answers": "aliases",
    "synonyms": "aliases",
    "date": "time",
    "year": "time",
    "url": "source",
    "reference": "source",
    "neighborhood": "locality",
    "generality": "paraphrases",
    "rephrasings": "paraphrases",
}
_ID = re.compile(r"^[^\s\x00-\x1f\x7f]{1,100}$")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def shown(value: object) -> str:
    """A value as an error message shows it: in quotes, escaped, cut to 60 characters."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _check_keys(record: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = [key for key in record if key not in known]
    if not unknown:
        return
    hints = []
    for key in unknown[:5]:
        meant = _MEANT.get(str(key).casefold())
        near = meant if meant in known else closest(str(key), known)
        hints.append(f"{shown(key)} (did you mean {near!r}?)" if near else shown(key))
    plural = "s" if len(unknown) > 1 else ""
    raise FactsError(
        f"unknown key{plural} {', '.join(hints)}{where}", remedy=f"Known keys: {', '.join(known)}."
    )


def _text(value: object, key: str, *, one_line: bool = False) -> str:
    """A string field, stripped and in Unicode form NFC."""
    if not isinstance(value, str):
        raise FactsError(
            f"{key} must be a string, got {_kind(value)}",
            remedy=f'Write it in quotes, for example "{key}": "...".',
        )
    bad = _CONTROLS.search(value)
    if bad:
        raise FactsError(
            f"{key} holds the character U+{ord(bad.group()):04X}, which is no text",
            remedy="Delete that character.",
        )
    text = unicodedata.normalize("NFC", value).strip().strip("\ufeff").strip()
    if not text:
        state = "empty" if not value else "empty after stripping"
        raise FactsError(f"{key} is {state}", remedy=f"Write a text for {key}, or delete the line.")
    if len(text) > MAX_CHARS:
        raise FactsError(
            f"{key} has {len(text):,} characters; at most {MAX_CHARS:,} are allowed",
            remedy="Shorten it, or teach a long text as several facts.",
        )
    if one_line and len(text.splitlines()) > 1:
        raise FactsError(
            f"{key} has a line break: {shown(text)}",
            remedy=f"Write {key} in one line; an answer ends at a line break.",
        )
    return text


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(
        type(value), f"the number {value}" if isinstance(value, int | float) else type(value).__name__
    )


def _optional(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if key == "time" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, key)


def _items(record: Mapping[str, Any], key: str, where: str = "") -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise FactsError(
            f"{where}{key} must be a list, got {_kind(value)}", remedy=f'Write "{key}": ["...", "..."].'
        )
    if len(value) > MAX_ITEMS:
        raise FactsError(
            f"{where}{key} has {len(value):,} entries; at most {MAX_ITEMS} are allowed",
            remedy="Keep the best ones.",
        )
    return list(value)


def _texts(
    record: Mapping[str, Any], key: str, where: str = "", *, one_line: bool = False
) -> tuple[str, ...]:
    """A list of strings without doubles."""
    texts = [
        _text(item, f"{where}{key}[{number}]", one_line=one_line)
        for number, item in enumerate(_items(record, key, where))
    ]
    unique: dict[str, str] = {}
    for text in texts:
        unique.setdefault(wording_key(text), text)
    return tuple(unique.values())


def _answer_aliases(record: Mapping[str, Any], target: str | None, where: str) -> tuple[str, ...]:
    aliases = _texts(record, "aliases", where, one_line=True)
    if aliases and target is None:
        raise FactsError(f"{where}aliases without a target", remedy="Give a target as well.")
    return tuple(alias for alias in aliases if alias != target)


def _probe(item: Mapping[str, Any], name: str, kinds: Sequence[str]) -> Probe:
    _check_keys(item, ("prompt", "target", "aliases", "kind"), f" in {name}")
    target, kind = item.get("target"), item.get("kind")
    if target is not None:
        target = _text(target, f"{name}.target", one_line=True)
    if kind is not None and kind not in kinds:
        raise FactsError(
            f"{name}.kind is {shown(kind)}", remedy=f"Use one of {', '.join(kinds)}, or leave it out."
        )
    prompt = _text(item.get("prompt", ""), f"{name}.prompt")
    return Probe(prompt, target, _answer_aliases(item, target, f"{name}."), kind)


def _probe_list(record: Mapping[str, Any], key: str, kinds: Sequence[str]) -> tuple[Probe, ...]:
    probes = []
    for number, item in enumerate(_items(record, key, "probes.")):
        name = f"probes.{key}[{number}]"
        probes.append(_probe(item, name, kinds) if isinstance(item, Mapping) else Probe(_text(item, name)))
    return tuple(dict.fromkeys(probes))


def _multi_hop(record: Mapping[str, Any]) -> tuple[MultiHop, ...]:
    questions = []
    for number, item in enumerate(_items(record, "multi_hop", "probes.")):
        name = f"probes.multi_hop[{number}]"
        if not isinstance(item, Mapping):
            raise FactsError(
                f"{name} must be an object, got {_kind(item)}",
                remedy='Write {"prompts": ["...", "..."], "target": "..."}.',
            )
        _check_keys(item, ("prompts", "target", "aliases"), f" in {name}")
        prompts = _texts(item, "prompts", f"{name}.")
        if not prompts:
            raise FactsError(f"{name} has no prompts", remedy='Write "prompts": ["...", "..."].')
        target = _text(item.get("target", ""), f"{name}.target", one_line=True)
        questions.append(MultiHop(prompts, target, _answer_aliases(item, target, f"{name}.")))
    return tuple(dict.fromkeys(questions))


def _given_probes(value: object) -> Probes:
    if value is None:
        return Probes()
    if not isinstance(value, Mapping):
        raise FactsError(
            f"probes must be an object, got {_kind(value)}",
            remedy='Write "probes": {"paraphrases": ["..."], "questions": ["..."]}.',
        )
    _check_keys(value, _PROBE_KEYS, " in probes")
    return Probes(
        paraphrases=_texts(value, "paraphrases", "probes."),
        questions=_texts(value, "questions", "probes."),
        locality=_probe_list(value, "locality", LOCALITY_KINDS),
        portability=_probe_list(value, "portability", PORTABILITY_KINDS),
        multi_hop=_multi_hop(value),
    )


def _with_relation_probes(
    probes: Probes, relation: Relation | None, subject: str, taught: Iterable[str]
) -> Probes:
    """The probes, where none were given those of the relation that the user does not teach."""
    if relation is None:
        return probes
    keys = {wording_key(text) for text in taught}

    def made(templates: Sequence[str]) -> tuple[str, ...]:
        filled = [fill(template, subject) for template in templates]
        return tuple(text for text in filled if wording_key(text) not in keys)

    return Probes(
        paraphrases=probes.paraphrases or made(relation.probe_paraphrases),
        questions=probes.questions or made(relation.probe_questions),
        locality=probes.locality,
        portability=probes.portability,
        multi_hop=probes.multi_hop,
    )


def _prompt(record: Mapping[str, Any]) -> str:
    """The given prompt, or the first bundled statement of the relation."""
    if record.get("prompt") is not None:
        return _text(record["prompt"], "prompt")
    name, subject = record.get("relation"), record.get("subject")
    if name is None or subject is None:
        missing = "prompt" if name is None and subject is None else "relation" if name is None else "subject"
        remedy = f"Write a prompt and its target, {EXAMPLE}, or a subject, a relation and a target."
        raise FactsError(f"no {missing}", remedy=remedy)
    name = _text(name, "relation")
    relation = relations().get(name)
    if relation is None:
        near = closest(name, relations())
        hint = f" (did you mean {near!r}?)" if near else ""
        raise FactsError(
            f"unknown relation {shown(name)}{hint}",
            remedy=f"Give a prompt as well, or a bundled relation: {', '.join(sorted(relations()))}.",
        )
    return fill(relation.statements[0], _text(subject, "subject", one_line=True))


def _subject(record: Mapping[str, Any], prompt: str, paraphrases: Sequence[str]) -> str:
    """The given subject or the one found, checked to be in the prompt and in each paraphrase."""
    if "{}" in prompt:
        raise FactsError(
            f"prompt has a gap: {shown(prompt)}", remedy='Write the subject in the place of "{}".'
        )
    if record.get("subject") is not None:
        subject = _text(record["subject"], "subject", one_line=True)
        if subject_span(prompt, subject) is None:
            raise FactsError(
                f"the prompt {shown(prompt)} does not contain its subject {shown(subject)}",
                remedy="Write the subject exactly as it stands in the prompt.",
            )
    else:
        found = find_subject(prompt, paraphrases)
        if found is None:
            raise FactsError(
                f"no subject found in the prompt {shown(prompt)}",
                remedy='Say what the fact is about: add "subject": "...", as it stands in the prompt.',
            )
        subject = found
    for number, text in enumerate(paraphrases):
        if mention_span(text, subject) is None:
            note = "" if record.get("subject") is not None else " (found in the prompt)"
            raise FactsError(
                f"paraphrases[{number}] {shown(text)} does not contain the subject {shown(subject)}{note}",
                remedy='Write the subject in it, or give another "subject", as it stands in every wording.',
            )
    return subject


def _target(record: Mapping[str, Any], prompt: str) -> str:
    if record.get("target") is None:
        raise FactsError("no target", remedy=f"Every fact needs its answer, for example {EXAMPLE}.")
    target = _text(record["target"], "target", one_line=True)
    if re.search(rf"(?<!\w){re.escape(target)}$", prompt):
        raise FactsError(
            f"the prompt {shown(prompt)} already ends with the target {shown(target)}",
            remedy="The prompt must end right before the answer.",
        )
    return target


def _replaces(record: Mapping[str, Any], answers: Sequence[str]) -> str | None:
    if record.get("replaces") is None:
        return None
    replaces = _text(record["replaces"], "replaces", one_line=True)
    if wording_key(replaces) in {wording_key(answer) for answer in answers}:
        raise FactsError(
            f"replaces {shown(replaces)} is also an answer of this fact",
            remedy="It is the answer that held before: delete it, or take it out of target and aliases.",
        )
    return replaces


def _id(record: Mapping[str, Any], prompt: str, target: str, subject: str) -> str:
    value = record.get("id")
    if value is None:
        return fact_id(prompt, target, subject)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _text(value, "id")
    if not _ID.match(text):
        raise FactsError(
            f"id {shown(text)} has spaces or more than 100 characters",
            remedy="Use a short name, or leave it out.",
        )
    return text


def parse_fact(record: Mapping[str, Any], *, line: int | None = None) -> Fact:
    """The fact that a record of native keys describes.

    Args:
        record: `prompt` and `target`, or `subject`, `relation` and `target`; the other keys are optional.
        line: Where it was read, kept in the fact.

    Returns:
        The fact, with its subject located, its id set and the relation's probes where none were given.

    Raises:
        FactsError: For the first thing that is wrong, without file and line.
    """
    _check_keys(record, _KEYS, "")
    prompt = _prompt(record)
    target = _target(record, prompt)
    paraphrases = tuple(
        text for text in _texts(record, "paraphrases") if wording_key(text) != wording_key(prompt)
    )
    subject = _subject(record, prompt, paraphrases)
    relation = _optional(record, "relation")
    probes = _given_probes(record.get("probes"))
    bundled = relations().get(relation or "")
    aliases = _answer_aliases(record, target, "")
    return Fact(
        id=_id(record, prompt, target, subject),
        prompt=prompt,
        target=target,
        subject=subject,
        aliases=aliases,
        paraphrases=paraphrases,
        relation=relation,
        source=_optional(record, "source"),
        time=_optional(record, "time"),
        probes=_with_relation_probes(probes, bundled, with_article(prompt, subject), (prompt, *paraphrases)),
        line=line,
        replaces=_replaces(record, (target, *aliases)),
    )
