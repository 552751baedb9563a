"""Candidates from the published datasets in --data and from the hand-written tables.

What: `counterfact_candidates`, `zsre_candidates`, `knowedit_candidates`, `handwritten_candidates`.
Why: what others measure on, in memedit's own format, with held-out wordings of its own where there are any.
How: memedit's readers read them. CounterFact names no relation here; where its template says what a bundled
relation says, and the answer is of the right kind, the relation's statements are taught too.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fact_places import countries, large_city_names
from fact_split import Candidate, Row, fact_id
from fact_wording import worded_row
from make_examples import CANDIDATES, as_fact, as_well_known, read_candidates

from memedit.facts.fact import Fact, Probes
from memedit.facts.formats.records import read_records
from memedit.facts.questions import asked_otherwise, question_core
from memedit.facts.rendering import mention_span

MAX_LOCALITY, MAX_PORTABILITY = 3, 2
CONTINENTS = frozenset(
    {"Africa", "Antarctica", "Asia", "Europe", "North America", "South America", "Oceania"}
)
STATES = frozenset({"Georgia", "Washington", "New York", "Singapore", "Luxembourg", "Mexico", "Victoria"})
# CounterFact's templates by the bundled relation that says the same; "{}" is the subject.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "continent": (
        "{} is located in the continent", "{} belongs to the continent of",
        "{} is a part of the continent of", "{} is in", "{} is located in", "{}, which is located in",
    ),
    "located_in_country": (
        "{} is located in the country of", "{} is located in", "{}, located in", "{}, which is located in",
        "Where is {}? It is located in", "The location of {} is",
    ),
    "located_in_city": ("{} can be found in", "{} is located in", "The location of {} is"),
    "native_language": (
        "{} speaks the language", "{} spoke the language", "The native language of {} is",
        "The mother tongue of {} is", "{} is a native speaker of", "{}, speaker of", "{}, a native",
    ),
    "official_language": (
        "The law in {} declares the language", "In {}, an official language is",
        "The official language of {} is",
    ),
    "developer": ("{}, developed by", "{} is developed by", "{} was developed by"),
    "maker": (
        "{}, created by", "{}, produced by", "{} is a product of", "{} is produced by", "{}, a product of",
        "{} is created by", "{}, a product manufactured by",
    ),
    "tv_network": (
        "{} debuted on", "{} premieres on", "{} premiered on", "{} was originally aired on",
        "{} was released on", "{} is to debut on",
    ),
    "nationality_country": (
        "{} holds a citizenship from", "{}, who holds a citizenship from", "{} is a citizen of",
        "{}, a citizen of", "{}, who has a citizenship from", "{} has a citizenship from",
        "{}, who is a citizen of",
    ),
    "death_place": (
        "{} died in the city of", "{} died in", "{}'s life ended in", "{} passed away in", "{} died at",
        "{} expired at", "{} passed away at", "{} lost their life at", "{} succumbed at",
    ),
    "profession": (
        "The profession of {} is", "{}'s profession is a", "{}'s profession is an", "{} works as",
        "The occupation of {} is", "{}, who works as", "{}'s occupation is",
    ),
    "headquarters": (
        "The headquarter of {} is located in", "The headquarters of {} is in", "The headquarter of {} is in",
        "{}'s headquarters are in", "{}, whose headquarters are in", "{} is headquartered in",
    ),
    "birthplace": ("{} was born in",),
    "employer": ("{} works for", "{} is employed by", "{}, who is employed by", "{}, who works for"),
    "sport_of_athlete": ("{} professionally plays the sport", "What sport does {} play? They play"),
    "named_after": ("{} is named after", "{} was named for", "{} was called after", "{} is named for"),
}  # fmt: skip
# Templates that fit more than one answer, or hardly any.
VAGUE = frozenset(
    {
        "{}, in", "{}, the", "{} is a", "{}, of", "{} from", "{} owner", "{}, by", "{} is in",
        "The twin city of {} is", "What is the twin city of {}? It is", "{} is a twin city of",
    }
)  # fmt: skip
_LISTS = re.compile(r"^The (?:date of birth|number of|names of|name of the (?:child|award))\b")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT")


@functools.cache
def _cities() -> frozenset[str]:
    return frozenset(large_city_names(1_500)) - STATES


@functools.cache
def _country_names() -> frozenset[str]:
    return frozenset(name.removeprefix("the ") for names in countries().values() for name in names) - STATES


def _fits(relation: str, target: str) -> bool:
    """Whether an answer is of the kind that a relation of places asks for."""
    if relation == "continent":
        return target in CONTINENTS
    if relation in ("located_in_country", "nationality_country"):
        return target in _country_names()
    return relation != "located_in_city" or target in _cities()


def _relation(template: str, target: str) -> str | None:
    fitting = (name for name, templates in TEMPLATES.items() if template in templates and _fits(name, target))
    return next(fitting, None)


def _template(fact: Fact) -> str:
    span = mention_span(fact.prompt, fact.subject)
    return fact.prompt if span is None else f"{fact.prompt[: span[0]]}{{}}{fact.prompt[span[1] :]}"


def _trimmed(probes: Probes) -> Probes:
    # Another answer of the same question may change: what KnowEdit calls forgetfulness is not asked.
    locality = dict.fromkeys(probe for probe in probes.locality if probe.kind != "forgetfulness")
    return replace(
        probes,
        locality=tuple(locality)[:MAX_LOCALITY],
        portability=probes.portability[:MAX_PORTABILITY],
        multi_hop=(),
    )


def _row(fact: Fact, relation: str | None) -> Row:
    """A fact as a line of a facts file, with the wordings of a bundled relation where there is one."""
    probes = _trimmed(fact.probes).to_json()
    row: Row = {
        "prompt": fact.prompt,
        "target": fact.target,
        "subject": fact.subject,
        "aliases": list(fact.aliases),
        "source": fact.source,
        "probes": probes,
        "replaces": fact.replaces,
    }
    if relation is not None:
        given = probes.get("paraphrases", ())
        source = fact.source or ""
        worded = worded_row(
            relation, fact.subject, fact.target, prompt=fact.prompt, probes=given, source=source
        )
        row |= {"relation": relation, "paraphrases": worded["paraphrases"]}
        row["probes"] = {**probes, **worded["probes"]}
    return row


def _candidates(origin: str, facts: Iterator[Fact]) -> list[Candidate]:
    found = []
    for fact in facts:
        relation = _relation(_template(fact), fact.target) if origin == "counterfact" else None
        row = _row(fact, relation)
        found.append(Candidate(origin, {"id": fact_id(origin, fact.subject, fact.prompt), **row}))
    return found


def counterfact_candidates(data: Path, *, is_true: bool) -> list[Candidate]:
    """CounterFact: what is true, or what its authors teach instead.

    Args:
        data: The folder of the datasets.
        is_true: The true answer is the target; otherwise the counterfactual one, which replaces it.
    """
    facts = read_records(data / "counterfact_compact.json", format="counterfact_compact", skip_bad=True).facts
    kept = (fact for fact in facts if fact.replaces and _template(fact) not in VAGUE)
    if is_true:
        kept = (replace(fact, target=fact.replaces or "", replaces=None) for fact in kept)
    return _candidates("counterfact", kept)


def _zsre_facts(data: Path) -> tuple[Fact, ...]:
    path = data / "zsre_mend.json"
    return tuple(read_records(path, format="zsre", target_convention="answers", skip_bad=True).facts)


def zsre_as_published(data: Path) -> list[Candidate]:
    """ZsRE with its true answers; the rephrased question is its held-out wording, as MEND and ROME ask it."""
    return _candidates("zsre", iter(_zsre_facts(data)))


def zsre_candidates(data: Path) -> list[Candidate]:
    """ZsRE with its true answers; the rephrased question is held out in the form that is never taught."""
    turned = []
    for fact in _zsre_facts(data):
        cores = [core for text in fact.probes.paraphrases if (core := question_core(text))]
        questions = tuple(asked_otherwise(core) for core in cores if mention_span(core, fact.subject))
        turned.append(replace(fact, probes=replace(fact.probes, paraphrases=(), questions=questions)))
    return _candidates("zsre", iter(turned))


def knowedit_candidates(data: Path) -> list[Candidate]:
    """KnowEdit's recent facts, without dates, counts and lists, of which one is hardly the answer."""
    facts = read_records(data / "knowedit_wiki_recent.json", format="knowedit", skip_bad=True).facts
    single = (
        replace(fact, replaces=None)
        for fact in facts
        if not _LISTS.match(fact.prompt) and not _DATE.match(fact.target)
    )
    return _candidates("knowedit", single)


def handwritten_candidates() -> list[Candidate]:
    """The tables that examples/ is made from."""
    return [Candidate("handwritten", as_fact(one)) for one in read_candidates(CANDIDATES / "facts.json")]


def well_known_candidates() -> list[Candidate]:
    """What a small model may know, in the wordings that are taught."""
    path = CANDIDATES / "well_known_templates.json"
    tables = read_candidates(path, dict.fromkeys(json.loads(path.read_text(encoding="utf-8")), (0,)))
    return [Candidate("handwritten", as_well_known(one)) for one in tables]
