"""Change one setting of editing at a time, and measure what each is worth.

What: teaches the same facts again and again, with the default settings and with one change each, and writes
one JSON file: recall in trained and held-out wordings, behind an unseen sentence and as a question; leak on
look-alikes; retained base knowledge and perplexity; row reads and seconds; every share with its interval and
its paired difference to the default. --routing-only trains nothing: it says at which prompts gates open.
Why: a default is as good as its reasons. Settings are chosen here, on a development set; what is reported of
memedit is measured on other facts.
How: each variant is an edit of an empty store, measured by generation with the same questions; nothing is
committed. A finished variant is not run again: a killed run goes on with the same command.

Commands:  python recipes/real_facts.py --data ../shared/data --num 150 --split dev --out facts-dev
           python recipes/ablations.py facts-dev/facts.jsonl --known facts-dev/known.jsonl \
               --out ablations.json
           ... --routing-only       gates alone
           ... --only contrast=0 margin=0.8    these and the default
           ... --smoke              four facts and three variants, to see that everything works
           python recipes/ablations.py --table ablations.json    the results as a markdown table
Needs:     pip install 'memedit[recipes]' for real_facts.py and --plot
Time:      --routing-only with 40 facts and four variants 20 s of processor time, of which a variant with the
           same wordings and decoys takes 0.2 s; an edit as long as teaching the facts and asking everything.
Result:    the JSON file and a table; docs/ablations.md says what each variant changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablation_measures import Bench, differences, measure_edit
from ablation_routing import Gates
from ablation_table import cells, markdown, print_table
from ablation_variants import DEFAULT, Variant, chosen, variants
from lifelong_measures import Yardstick, hashed_part
from lifelong_record import Base, Record, made_with

from memedit import Editor
from memedit.editing.plan import EditingSettings
from memedit.facts import Fact, read_facts
from memedit.modeling import model_fingerprint
from memedit.modeling.opening import OpenedModel, open_model
from memedit.store import Store

Values = dict[str, Any]
EDITS, GATES = "edits", "gates"
_SMOKE = ("contrast=0", "ranking=tfidf")


@dataclass(frozen=True)
class Plan:
    """What is taught and asked; a run is gone on with only where all of it is the same.

    Attributes:
        num: how many facts.
        seed: of the edits, look-alikes and sentences.
        look_alikes: never-taught entities.
        model: a named model, a folder or a hub id.
    """

    num: int = 150
    seed: int = 0
    look_alikes: int = 300
    model: str = "smollm2-135m"


def identity_of(plan: Plan, facts: Sequence[Fact], known: Path | None, default: EditingSettings) -> Values:
    """What must be the same for a run to be gone on with; known.jsonl counts by what is in it."""
    told = json.dumps([fact.to_json() for fact in facts], sort_keys=True)
    return {
        **asdict(plan),
        "facts_sha256": hashlib.sha256(told.encode()).hexdigest(),
        "known_sha256": hashlib.sha256(known.read_bytes()).hexdigest() if known else None,
        "default": asdict(default),
    }


def bench_of(
    opened: OpenedModel, store: Store, facts: Sequence[Fact], plan: Plan, known: Path | None, text: str | None
) -> Bench:
    """Fix the facts and everything that is asked about them.

    Args:
        opened: the model.
        store: an empty store.
        facts: what is taught.
        plan: how much is asked.
        known: a facts file of base knowledge in the taught templates.
        text: a file of general text; None = the bundled one.
    """
    yardstick = Yardstick(
        Editor(opened, store),
        [list(facts)],
        known=known,
        num_look_alikes=plan.look_alikes,
        text=Path(text) if text else None,
        seed=plan.seed,
    )
    return Bench(opened, store, tuple(facts), yardstick, plan.seed, text)


def run_edits(
    bench: Bench, tried: Sequence[Variant], record: Record, say: Callable[[str], None] = print
) -> None:
    """Teach the facts with each variant that is not in the record yet, and measure.

    Args:
        bench: model, facts and questions.
        tried: the variants, the default first.
        record: where the results are kept.
        say: told of every variant.
    """
    left = [variant for variant in tried if variant.name not in record.values[EDITS]]
    if left and record.values["base"] is None:
        record.save(base=bench.yardstick.base().to_json())
    for variant in left:
        base = Base.from_json(record.values["base"])
        _keep(record, EDITS, variant, measure_edit(bench, base, variant.settings), say)


def run_gates(
    bench: Bench, tried: Sequence[Variant], record: Record, say: Callable[[str], None] = print
) -> None:
    """Simulate the gates of each variant whose gates differ and that is not in the record yet.

    Args:
        bench: model, facts and questions.
        tried: the variants, the default first.
        record: where the results are kept.
        say: told of every variant.
    """
    default = tried[0].settings
    differing = [one for one in tried if one.name == DEFAULT or one.gates_differ(default)]
    left = [variant for variant in differing if variant.name not in record.values[GATES]]
    if not left:
        return
    gates = Gates(bench)
    for variant in left:
        _keep(record, GATES, variant, gates.measure(variant.settings), say)


def _keep(record: Record, part: str, variant: Variant, found: Values, say: Callable[[str], None]) -> None:
    """Put what was found of a variant into the record, with its differences to the default."""
    entry = {**found, "settings": asdict(variant.settings), "made_with": made_with("ablations.py")}
    if variant.name != DEFAULT:
        default = record.values[part][DEFAULT]["items"]
        entry["against_default"] = differences(found["items"], default, record.values["identity"]["seed"])
    record.save(**{part: {**record.values[part], variant.name: entry}})
    shown = (f"{name} {text}".replace("\n", " / ") for name, text in cells(entry).items())
    say(f"{variant.name}: {', '.join(shown)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("facts", type=Path, nargs="?", help="a facts file: a development set")
    parser.add_argument("--out", type=Path, help="the JSON file of results; new, or that of a killed run")
    parser.add_argument("--num", type=int, default=Plan.num, help="facts of the edit, always the same ones")
    parser.add_argument("--known", type=Path, help="a facts file of base knowledge in the taught templates")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants and the default")
    parser.add_argument("--routing-only", action="store_true", help="train nothing: simulate the gates")
    parser.add_argument("--look-alikes", type=int, default=Plan.look_alikes)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--model", default=Plan.model, help="a named model, a folder or a hub id")
    parser.add_argument("--plot", type=Path, help="an SVG file: every measure of every variant")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print these results in markdown, and end")
    parser.add_argument("--smoke", action="store_true", help="four facts and three variants")
    options = parser.parse_args(arguments)
    if options.table:
        print(markdown(json.loads(options.table.read_text(encoding="utf-8"))))
        return 0
    if options.facts is None or options.out is None:
        parser.error("FACTS and --out are needed, or --table")
    record = _run(options)
    part = GATES if options.routing_only else EDITS
    print_table(record.values, part)
    if options.plot:
        from ablation_figure import draw

        draw(record.values[part], options.plot)
    return 0


def _run(options: argparse.Namespace) -> Record:
    """Run what the options ask for and the record lacks."""
    plan = Plan(options.num, options.seed, options.look_alikes, options.model)
    only = options.only
    if options.smoke:
        plan, only = replace(plan, num=4, look_alikes=12), only or _SMOKE
    default = EditingSettings()
    tried = chosen(variants(default), only)
    facts = read_facts(options.facts)
    if len(facts) < plan.num:
        raise SystemExit(f"{options.facts}: got {len(facts)} facts, --num asks for {plan.num}")
    facts = hashed_part(facts, plan.num)
    identity = identity_of(plan, facts, options.known, default)
    record = Record(options.out, identity, {"base": None, EDITS: {}, GATES: {}})
    with ExitStack() as closing:
        folder = closing.enter_context(TemporaryDirectory(prefix="memedit-"))
        opened = open_model(plan.model)
        store = closing.enter_context(Store.open(Path(folder), fingerprint=model_fingerprint(opened.model)))
        bench = bench_of(opened, store, facts, plan, options.known, None)
        (run_gates if options.routing_only else run_edits)(bench, tried, record)
    return record


if __name__ == "__main__":
    sys.exit(main())
