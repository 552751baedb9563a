"""Build examples/ from tables of candidate facts, keeping what the base model really does not know.

What: writes examples/facts.jsonl (60 facts to try things out on), examples/facts_heldout.jsonl (60 facts
about other subjects, for the final check only) and examples/well_known.jsonl (facts that every edit must
keep).
Why: a demonstration of learning is worth nothing on facts that the model knew, and a number is worth little
on facts that somebody tuned on.
How: each candidate of recipes/example_candidates/ is put into the bundled wordings of its relation, the base
model is asked greedily in four of them, and a fact is kept when its answer is nowhere in the four replies. A
hash of the subject, and no one's taste, decides which of them are taken. Only this choice needs the model:
the facts themselves were written by hand, with the source that each one names.

Commands:  python recipes/make_examples.py            writes the files, then checks them
           python recipes/make_examples.py --check    checks the files as they are; exit code 1 on trouble
Options:   --model NAME_OR_FOLDER (default smollm2-135m), --out FOLDER (default examples/)
Time:      80 s on one core once the model is cached, --check 30 s.
Result:    427 of 440 candidates unknown; 60 facts of 13 relations; 60 held-out facts of 24 relations, 30 of
           them in 12 relations that facts.jsonl does not use; 350 well-known facts, of which the model
           answers some 320, 140 of them in the prompt templates of the injected facts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.evaluation.matching import matches
from memedit.facts.relations import relations

ROOT = Path(__file__).resolve().parent.parent
CANDIDATES = Path(__file__).resolve().parent / "example_candidates"
Row = dict[str, Any]

# How many facts of each relation; the held-out file shares half of its facts' relations with the first one.
FACTS_QUOTA = {
    "country_of_city": 5,
    "river_mouth": 5,
    "author": 5,
    "opera_composer": 5,
    "director": 5,
    "painter": 5,
    "maker": 5,
    "headquarters": 5,
    "programming_language_designer": 4,
    "founder": 4,
    "species_family": 4,
    "airport_city": 4,
    "birthplace": 4,
}
SHARED_QUOTA = {
    "country_of_city": 3,
    "river_mouth": 3,
    "author": 3,
    "director": 3,
    "painter": 3,
    "maker": 3,
    "opera_composer": 2,
    "headquarters": 2,
    "programming_language_designer": 2,
    "species_family": 2,
    "airport_city": 2,
    "birthplace": 2,
}
NEW_QUOTA = {
    "discoverer": 3,
    "university_city": 3,
    "album_artist": 3,
    "mountain_country": 3,
    "mountain_range": 3,
    "character_creator": 3,
    "developer": 2,
    "museum_city": 2,
    "event_host_city": 2,
    "island_country": 2,
    "native_to": 2,
    "building_architect": 2,
}
NUM_PAIRS = 2  # subjects that carry two facts, in each file
NUM_PARAPHRASES = 5
NUM_TEMPLATE_WELL_KNOWN = 140
NUM_GENERAL_WELL_KNOWN = 210
MIN_KNOWN, MIN_KNOWN_TEMPLATES = 170, 60
MAX_NEW_TOKENS = 12
# Behind these words a name stands without its article.
APPOSITIVES = frozenset(
    "river mountain island museum building opera film movie painting software company called".split()
)


@dataclass(frozen=True)
class Candidate:
    """A hand-written fact that has not been worded yet.

    Attributes:
        relation: name of a bundled relation.
        statement: which of the relation's statements is the prompt.
        subject: as it occurs in every wording.
        phrase: the subject as a sentence needs it ("the Vardar", "the element cobalt").
        target: the answer.
        aliases: other answers that are right.
        source: where it can be looked up.
    """

    relation: str
    statement: int
    subject: str
    phrase: str
    target: str
    aliases: tuple[str, ...]
    source: str | None

    @property
    def rank(self) -> str:
        """A fixed pseudo-random order, so that nobody picks facts by hand."""
        return hashlib.sha256(self.subject.encode()).hexdigest()


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens, for ids."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def read_candidates(path: Path, statements: Mapping[str, Sequence[int]] | None = None) -> list[Candidate]:
    """Read one table of candidates; every statement of `prompts` is used in turn.

    Args:
        path: {relation: {"prompts": [statement indices], "facts": [...]}}.
        statements: where the table gives no prompts, every one of these is used for every fact.
    """
    found = []
    for relation, table in json.loads(path.read_text(encoding="utf-8")).items():
        for number, fact in enumerate(table["facts"]):
            if statements is None:
                chosen = [table["prompts"][number % len(table["prompts"])]]
            else:
                chosen = list(statements[relation])
            found += [
                Candidate(
                    relation,
                    statement,
                    fact["subject"],
                    fact.get("phrase", fact["subject"]),
                    fact["target"],
                    tuple(fact.get("aliases", ())),
                    fact.get("source"),
                )
                for statement in chosen
            ]
    return found


def worded(template: str, candidate: Candidate) -> str:
    """Put the subject into a template as English wants it: "The Prut ...", but "the river Prut"."""
    before, _, after = template.partition("{}")
    is_named = before.split()[-1:] and before.split()[-1].casefold() in APPOSITIVES
    phrase = candidate.subject if is_named else candidate.phrase
    return before + (phrase if before else phrase[0].upper() + phrase[1:]) + after


def as_fact(candidate: Candidate) -> Row:
    """Word a candidate as a line of a facts file: prompt, paraphrases to teach, probes never taught."""
    wording = relations()[candidate.relation]
    taught = [worded(statement, candidate) for statement in wording.statements]
    prompt = taught.pop(candidate.statement)
    return {
        "id": f"{candidate.relation.replace('_', '-')}-{slug(candidate.subject)}",
        "prompt": prompt,
        "target": candidate.target,
        "subject": candidate.subject,
        "aliases": list(candidate.aliases),
        "relation": candidate.relation,
        "paraphrases": taught[:NUM_PARAPHRASES],
        "source": candidate.source,
        "probes": {
            "paraphrases": [worded(text, candidate) for text in wording.probe_paraphrases],
            "questions": [worded(text, candidate) for text in wording.probe_questions],
        },
    }


def as_well_known(candidate: Candidate) -> Row:
    """Word a candidate as a line of well_known.jsonl, in a statement that the injected facts use too."""
    prompt = worded(relations()[candidate.relation].statements[candidate.statement], candidate)
    return {
        "id": f"wk-t-{candidate.relation.replace('_', '-')}-{slug(candidate.subject)}",
        "prompt": prompt,
        "target": candidate.target,
        "subject": candidate.subject,
        "aliases": list(candidate.aliases),
        "relation": candidate.relation,
    }


def answers(row: Row) -> list[str]:
    """Everything that counts as right."""
    return [row["target"], *row.get("aliases", ())]


def asked(row: Row) -> list[str]:
    """The wordings in which the base model has to fail: prompt, two taught wordings, a held-out question."""
    return [row["prompt"], *row["paraphrases"][:2], row["probes"]["questions"][0]]


def mentions(text: str, right: Sequence[str]) -> bool:
    """Whether an answer stands anywhere in a reply: stricter than exact match at its start."""
    return any(matches(text[start.start() :], right) for start in re.finditer(r"(?<!\w)\w", text))


class Base:
    """The base model, asked as `memedit inject` asks it."""

    def __init__(self, model: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from memedit.modeling.arithmetic import computing
        from memedit.modeling.named_models import resolve_model

        folder = resolve_model(model)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = computing(AutoModelForCausalLM.from_pretrained(folder, dtype="auto"))
        if "<|endoftext|>" in self.tokenizer.get_vocab():
            self.model.config.memory_bos_token_id = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")

    def ask(self, prompts: Iterable[str]) -> dict[str, str]:
        """Greedy replies, by prompt."""
        from memedit.evaluation.generation import generate_answers

        unique = list(dict.fromkeys(prompts))
        replies = generate_answers(self.model, self.tokenizer, unique, max_new_tokens=MAX_NEW_TOKENS)
        return {prompt: reply.text for prompt, reply in zip(unique, replies, strict=True)}


def choose(
    rows: Iterable[tuple[Candidate, Row]], quota: Mapping[str, int], taken: set[str]
) -> list[tuple[Candidate, Row]]:
    """Take as many facts of each relation as its quota says, subjects with two facts first.

    Args:
        rows: the facts that the base model does not know.
        quota: facts by relation.
        taken: subjects that another file uses.
    Raises:
        SystemExit: a relation has too few facts.
    """
    open_to_all = (pair for pair in rows if pair[0].subject not in taken and pair[0].relation in quota)
    free = sorted(open_to_all, key=order)
    uses = Counter(candidate.subject for candidate, _ in free)
    twice = [subject for subject, count in uses.items() if count > 1][:NUM_PAIRS]
    chosen = []
    for relation, number in quota.items():
        own = [pair for pair in free if pair[0].relation == relation]
        own.sort(key=lambda pair: pair[0].subject not in twice)
        if len(own) < number:
            raise SystemExit(f"{relation}: {len(own)} unknown facts, {number} needed; add candidates.")
        chosen += own[:number]
    return chosen


def order(pair: tuple[Candidate, Row]) -> str:
    """Sort key of a worded candidate."""
    return pair[0].rank


def choose_facts(base: Base) -> tuple[list[Row], list[Row], dict[str, list[int]]]:
    """The rows of facts.jsonl and of facts_heldout.jsonl, and the statements that their prompts use."""
    rows = [(candidate, as_fact(candidate)) for candidate in read_candidates(CANDIDATES / "facts.json")]
    replies = base.ask(prompt for _, row in rows for prompt in asked(row))
    unknown = [
        (candidate, row)
        for candidate, row in rows
        if not any(mentions(replies[prompt], answers(row)) for prompt in asked(row))
    ]
    print(f"{len(unknown)} of {len(rows)} candidates are unknown to the model")
    first = choose(unknown, FACTS_QUOTA, set())
    heldout = choose(unknown, SHARED_QUOTA, {candidate.subject for candidate, _ in first})
    heldout += choose(unknown, NEW_QUOTA, {candidate.subject for candidate, _ in first + heldout})
    used: dict[str, list[int]] = {}
    for candidate, _ in first + heldout:
        used.setdefault(candidate.relation, []).append(candidate.statement)
    statements = {relation: sorted(set(numbers)) for relation, numbers in used.items()}
    return [row for _, row in first], [row for _, row in heldout], statements


def choose_well_known(base: Base, statements: Mapping[str, Sequence[int]], injected: set[str]) -> list[Row]:
    """The rows of well_known.jsonl: those that the base model knows first, then others up to the number."""
    tables = read_candidates(
        CANDIDATES / "well_known_templates.json", {**dict.fromkeys(relations(), ()), **statements}
    )
    tables = sorted((one for one in tables if one.subject not in injected), key=lambda one: one.rank)
    templates = [as_well_known(candidate) for candidate in tables]
    table = json.loads((CANDIDATES / "well_known_general.json").read_text(encoding="utf-8"))
    numbered = [{"id": f"wk-{number:03d}", **row} for number, row in enumerate(table, 1)]
    general = [row for row in numbered if row["subject"] not in injected]
    replies = base.ask(row["prompt"] for row in templates + general)

    def known_first(rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: not matches(replies[row["prompt"]], answers(row)))

    # One wording of each fact, the one that the model answers if there is one.
    once = {row["id"]: row for row in reversed(known_first(templates))}
    chosen = known_first(list(once.values()))[:NUM_TEMPLATE_WELL_KNOWN]
    chosen.sort(key=lambda row: (list(statements).index(row["relation"]), row["id"]))
    kept = known_first(general)[:NUM_GENERAL_WELL_KNOWN]
    return chosen + sorted(kept, key=lambda row: str(row["id"]))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON lines, without empty fields."""
    kept = ({name: value for name, value in row.items() if value not in (None, [])} for row in rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8", newline="\n")


def read(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shape_errors(facts: list[Row], heldout: list[Row], well_known: list[Row]) -> list[str]:
    """What is wrong with the three files whatever the model says; empty when all is well.

    Args:
        facts: rows of facts.jsonl.
        heldout: rows of facts_heldout.jsonl.
        well_known: rows of well_known.jsonl.
    """
    errors = []
    for name, rows in (("facts", facts), ("facts_heldout", heldout)):
        if len(rows) != 60:
            errors.append(f"{name}: {len(rows)} facts, expected 60")
        if max(Counter(row["relation"] for row in rows).values(), default=0) > 8:
            errors.append(f"{name}: more than 8 facts of one relation")
        errors += [f"{row['id']}: {error}" for row in rows for error in wording_errors(row)]
    every = facts + heldout + well_known
    for field in ("id", "prompt"):
        uses = Counter(row[field] for row in every)
        errors += [f"two rows have the {field} {value!r}" for value, number in uses.items() if number > 1]
    groups = [{row["subject"] for row in rows} for rows in (facts, heldout, well_known)]
    shared = (groups[0] & groups[1]) | (groups[0] & groups[2]) | (groups[1] & groups[2])
    errors += [f"{subject!r} is a subject in two files" for subject in sorted(shared)]
    if len({row["relation"] for row in facts}) < 10 or len(well_known) < 330:
        errors.append("facts.jsonl needs 10 relations and well_known.jsonl 330 facts")
    return errors


def wording_errors(row: Row) -> list[str]:
    """What is wrong with the wordings of one fact: a lost subject, a taught probe, too few of them."""
    taught = [row["prompt"], *row["paraphrases"]]
    probes = [*row["probes"]["paraphrases"], *row["probes"]["questions"]]
    errors = [f"the subject is not in {text!r}" for text in taught + probes if row["subject"] not in text]
    errors += [f"a probe is taught: {text!r}" for text in probes if text in taught]
    if len(row["paraphrases"]) < 3 or len(row["probes"]["paraphrases"]) < 2 or not row.get("source"):
        errors.append("needs 3 paraphrases, 2 probe paraphrases and a source")
    return errors


def model_errors(base: Base, facts: list[Row], heldout: list[Row], well_known: list[Row]) -> list[str]:
    """Ask the model about every row, print the table, and return what is not as it should be."""
    rows = facts + heldout
    replies = base.ask([p for row in rows for p in asked(row)] + [row["prompt"] for row in well_known])
    errors = []
    print(f"{'id':52} {'target':28} the base model says")
    for row in rows:
        print(f"{row['id'][:52]:52} {row['target'][:28]:28} {replies[row['prompt']]}")
        errors += [
            f"{row['id']}: the model knows it: {prompt!r} -> {replies[prompt]!r}"
            for prompt in asked(row)
            if mentions(replies[prompt], answers(row))
        ]
    known = [row for row in well_known if matches(replies[row["prompt"]], answers(row))]
    in_templates = sum(row["id"].startswith("wk-t-") for row in known)
    for name, part in (("facts", facts), ("facts_heldout", heldout)):
        print(f"{name}.jsonl: {len(part)} facts, {len({row['relation'] for row in part})} relations")
    print(
        f"well_known.jsonl: {len(well_known)} facts, {len(known)} answered correctly, "
        f"{in_templates} of them in templates of the injected facts"
    )
    if len(known) < MIN_KNOWN or in_templates < MIN_KNOWN_TEMPLATES:
        errors.append(f"well_known.jsonl: at least {MIN_KNOWN} and {MIN_KNOWN_TEMPLATES} must be known")
    return errors


def main() -> int:
    """Write the files, then check them; or only check them. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a named model, a folder or a hub id")
    parser.add_argument("--out", type=Path, default=ROOT / "examples", help="where the files are")
    parser.add_argument("--check", action="store_true", help="only check the files that are there")
    options = parser.parse_args()
    paths = [options.out / f"{name}.jsonl" for name in ("facts", "facts_heldout", "well_known")]
    base = Base(options.model)
    if not options.check:
        facts, heldout, statements = choose_facts(base)
        well_known = choose_well_known(base, statements, {row["subject"] for row in facts + heldout})
        options.out.mkdir(parents=True, exist_ok=True)
        for path, rows in zip(paths, (facts, heldout, well_known), strict=True):
            write(path, rows)
    facts, heldout, well_known = map(read, paths)
    errors = shape_errors(facts, heldout, well_known) + model_errors(base, facts, heldout, well_known)
    print("\n".join(errors) or "all checks passed")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
