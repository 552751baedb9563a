"""One object of a facts file, checked field by field and made into a `Fact`.

What: `parse_fact`: a mapping with the native keys in, a `Fact` with id, subject and probes out.
Why: every mistake must be named with the key, what was found and what to write instead, before any
training.
How: `checked_values` checks each value; a triple is worded by its bundled relation; a missing subject is
looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memedit.errors import FactsError
from memedit.facts.checked_values import (
    MAX_PROBES,
    check_keys,
    checked_items,
    checked_text,
    checked_texts,
    kind_of,
    shown,
)
from memedit.facts.fact import LOCALITY_KINDS, PORTABILITY_KINDS, Fact, MultiHop, Probe, Probes, fact_id
from memedit.facts.relations import Relation, closest, relations
from memedit.facts.rendering import fill, mention_span, subject_span, with_article, wording_key
from memedit.facts.subjects import find_subject

__all__ = ["EXAMPLE", "NATIVE_KEYS", "parse_fact"]

EXAMPLE = '{"prompt": "The capital of Zubrowka is", "target": "Lutz", "subject": "Zubrowka"}'

NATIVE_KEYS = (
    "prompt", "target", "subject", "id", "aliases", "replaces", "paraphrases", "relation", "source", "time",
    "probes",
)  # fmt: skip
_PROBE_KEYS = ("paraphrases", "questions", "locality", "portability", "multi_hop")
_ID = re.compile(r"^[^\s\x00-\x1f\x7f]{1,100}$")


def _optional(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if key == "time" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_text(value, key)


def _answer_aliases(record: Mapping[str, Any], target: str | None, where: str) -> tuple[str, ...]:
    aliases = checked_texts(record, "aliases", where, one_line=True)
    if aliases and target is None:
        raise FactsError(f"{where}aliases without a target", remedy="Give a target as well.")
    return tuple(alias for alias in aliases if alias != target)


def _probe(item: Mapping[str, Any], name: str, kinds: Sequence[str]) -> Probe:
    check_keys(item, ("prompt", "target", "aliases", "kind"), f" in {name}")
    target, kind = item.get("target"), item.get("kind")
    if target is not None:
        target = checked_text(target, f"{name}.target", one_line=True)
    if kind is not None and kind not in kinds:
        raise FactsError(
            f"{name}.kind is {shown(kind)}", remedy=f"Use one of {', '.join(kinds)}, or leave it out."
        )
    prompt = checked_text(item.get("prompt", ""), f"{name}.prompt")
    return Probe(prompt, target, _answer_aliases(item, target, f"{name}."), kind)


def _probe_list(record: Mapping[str, Any], key: str, kinds: Sequence[str]) -> tuple[Probe, ...]:
    probes = []
    for number, item in enumerate(checked_items(record, key, "probes.", most=MAX_PROBES)):
        name = f"probes.{key}[{number}]"
        probes.append(
            _probe(item, name, kinds) if isinstance(item, Mapping) else Probe(checked_text(item, name))
        )
    return tuple(dict.fromkeys(probes))


def _multi_hop(record: Mapping[str, Any]) -> tuple[MultiHop, ...]:
    questions = []
    for number, item in enumerate(checked_items(record, "multi_hop", "probes.", most=MAX_PROBES)):
        name = f"probes.multi_hop[{number}]"
        if not isinstance(item, Mapping):
            raise FactsError(
                f"{name} must be an object, got {kind_of(item)}",
                remedy='Write {"prompts": ["...", "..."], "target": "..."}.',
            )
        check_keys(item, ("prompts", "target", "aliases"), f" in {name}")
        prompts = checked_texts(item, "prompts", f"{name}.")
        if not prompts:
            raise FactsError(f"{name} has no prompts", remedy='Write "prompts": ["...", "..."].')
        target = checked_text(item.get("target", ""), f"{name}.target", one_line=True)
        questions.append(MultiHop(prompts, target, _answer_aliases(item, target, f"{name}.")))
    return tuple(dict.fromkeys(questions))


def _given_probes(value: object) -> Probes:
    if value is None:
        return Probes()
    if not isinstance(value, Mapping):
        raise FactsError(
            f"probes must be an object, got {kind_of(value)}",
            remedy='Write "probes": {"paraphrases": ["..."], "questions": ["..."]}.',
        )
    check_keys(value, _PROBE_KEYS, " in probes")
    return Probes(
        paraphrases=checked_texts(value, "paraphrases", "probes.", most=MAX_PROBES),
        questions=checked_texts(value, "questions", "probes.", most=MAX_PROBES),
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
        return checked_text(record["prompt"], "prompt")
    name, subject = record.get("relation"), record.get("subject")
    if name is None or subject is None:
        missing = "prompt" if name is None and subject is None else "relation" if name is None else "subject"
        remedy = f"Write a prompt and its target, {EXAMPLE}, or a subject, a relation and a target."
        raise FactsError(f"no {missing}", remedy=remedy)
    name = checked_text(name, "relation")
    relation = relations().get(name)
    if relation is None:
        near = closest(name, relations())
        hint = f" (did you mean {near!r}?)" if near else ""
        raise FactsError(
            f"unknown relation {shown(name)}{hint}",
            remedy=f"Give a prompt as well, or a bundled relation: {', '.join(sorted(relations()))}.",
        )
    return fill(relation.statements[0], checked_text(subject, "subject", one_line=True))


def _subject(record: Mapping[str, Any], prompt: str, paraphrases: Sequence[str]) -> str:
    """The given subject or the one found, checked to be in the prompt and in each paraphrase."""
    if "{}" in prompt:
        raise FactsError(
            f"prompt has a gap: {shown(prompt)}",
            field="prompt",
            remedy='Write the subject in the place of "{}".',
        )
    if record.get("subject") is not None:
        subject = checked_text(record["subject"], "subject", one_line=True)
        if subject_span(prompt, subject) is None:
            raise FactsError(
                f"the prompt {shown(prompt)} does not contain its subject {shown(subject)}",
                field="subject",
                remedy="Write the subject exactly as it stands in the prompt.",
            )
    else:
        found = find_subject(prompt, paraphrases)
        if found is None:
            raise FactsError(
                f"no subject found in the prompt {shown(prompt)}",
                field="subject",
                remedy='Say what the fact is about: add "subject": "...", as it stands in the prompt.',
            )
        subject = found
    for number, text in enumerate(paraphrases):
        if mention_span(text, subject) is None:
            note = "" if record.get("subject") is not None else " (found in the prompt)"
            raise FactsError(
                f"paraphrases[{number}] {shown(text)} does not contain the subject {shown(subject)}{note}",
                field="paraphrases",
                remedy='Write the subject in it, or give another "subject", as it stands in every wording.',
            )
    return subject


def _target(record: Mapping[str, Any], prompt: str) -> str:
    if record.get("target") is None:
        raise FactsError(
            "no target", field="target", remedy=f"Every fact needs its answer, for example {EXAMPLE}."
        )
    target = checked_text(record["target"], "target", one_line=True)
    if re.search(rf"(?<!\w){re.escape(target)}$", prompt):
        raise FactsError(
            f"the prompt {shown(prompt)} already ends with the target {shown(target)}",
            field="prompt",
            remedy="The prompt must end right before the answer.",
        )
    return target


def _replaces(record: Mapping[str, Any], answers: Sequence[str]) -> str | None:
    if record.get("replaces") is None:
        return None
    replaces = checked_text(record["replaces"], "replaces", one_line=True)
    if wording_key(replaces) in {wording_key(answer) for answer in answers}:
        raise FactsError(
            f"replaces {shown(replaces)} is also an answer of this fact",
            field="replaces",
            remedy="It is the answer that held before: delete it, or take it out of target and aliases.",
        )
    return replaces


def _id(record: Mapping[str, Any], prompt: str, target: str, subject: str) -> str:
    value = record.get("id")
    if value is None:
        return fact_id(prompt, target, subject)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = checked_text(value, "id")
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
    check_keys(record, NATIVE_KEYS, "")
    prompt = _prompt(record)
    target = _target(record, prompt)
    paraphrases = tuple(
        text for text in checked_texts(record, "paraphrases") if wording_key(text) != wording_key(prompt)
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
