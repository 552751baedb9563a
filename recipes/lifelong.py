"""Edit a model again and again, and measure after every batch what is left of the earlier ones.

What: teaches batches of facts one after another into one store, each as an edit of its own, and writes one
JSON file: recall in trained and held-out wordings, as a question and behind an unseen sentence; the retention
matrix and recall by age; base knowledge, perplexity and leak; provenance; collisions and growth of the rows;
seconds, memory and bytes of each batch. --plot draws the figures.
Why: editing methods collapse over many edits. A number of one edit says nothing about the hundredth.
How: memedit.open and Editor.inject, as a user would; every number is measured on the model as it is, by
generation, with the same questions throughout. After each batch a fixed part of every batch so far is asked;
at the end everything is. A killed run goes on with the same command: what is in the store and in the JSON
file is not done again.

Commands:  python recipes/real_facts.py --data ../shared/data --num 1000 --split test --out facts-test
           python recipes/lifelong.py facts-test/facts.jsonl --known facts-test/known.jsonl --batch 100 \
               --batches 10 --store lifelong-store --out lifelong.json --plot lifelong-figures
           ... --batches 100 --every 10    for 10,000 facts
           ... --smoke    two batches of four facts, to see that everything works
Needs:     pip install 'memedit[recipes]' for real_facts.py and --plot
Time:      with 1,000 facts about as long as teaching them, and 20 minutes of questions; --smoke 3 minutes.
Result:    the JSON file; docs/lifelong.md says what is in it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from lifelong_measures import Yardstick, all_questions, by_group, final_recall, hashed_part
from lifelong_record import Base, Plan, Record, batches_of, identity_of, made_with, samples_of
from lifelong_rows import StageClock, folder_bytes, slots_of_edit, written_rows

import memedit
from memedit import Editor
from memedit.editing.plan import EditingSettings
from memedit.editor.gating import GATE_MODES
from memedit.editor.reporting import peak_memory_mb
from memedit.editor.results import EditRefused
from memedit.evaluation.lifelong import lifelong, retention_matrix
from memedit.facts import Fact, read_facts

Values = dict[str, Any]


def teach(editor: Editor, batch: Sequence[Fact], plan: Plan, settings: EditingSettings | None) -> Values:
    """Make one edit, or find the one that a killed run made; say what became of it and what it cost."""
    ids = {fact.id for fact in batch}
    made = next((item.edit_id for item in editor.store.facts() if item.fact.id in ids), None)
    clock = StageClock()
    entry: Values = {"edit": made, "found_in_journal": made is not None, "refused": None}
    report: Any = None
    if made is None:
        try:
            edit = editor.inject(
                batch, seed=plan.seed, gate=plan.gate, text=plan.text, settings=settings, progress=clock
            )
            entry["edit"], report = edit.id, edit.report
        except EditRefused as refusal:
            entry["refused"], report = str(refusal), refusal.edit.report
    else:
        report = editor.store.edit(made).report
    outcomes = () if entry["edit"] is None else editor.store.facts(entry["edit"])
    entry |= {
        "learned": [item.fact.id for item in outcomes if item.outcome.get("status") == "learned"],
        "counts": report["counts"],
        "not_learned": report["not_learned"],
        "seconds": {**report["seconds"], "stages": clock.seconds},
        "patch_bytes": report["patch_bytes"],
        "patch_bytes_per_fact": round(report["patch_bytes"] / len(batch)),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "store_bytes": folder_bytes(editor.store.path),
        "rows": written_rows(editor),
        "slots": None if entry["edit"] is None else slots_of_edit(editor, entry["edit"]),
    }
    return entry


def measure_round(yardstick: Yardstick, base: Base, number: int, plan: Plan) -> Values:
    """Measure the model after a batch.

    Args:
        yardstick: what asks.
        base: what the model without edits says.
        number: of the batch, from 1.
        plan: how much is asked.
    Returns:
        The answers to trained wordings of every batch so far, recall of the newest batch in all wordings, and
        what is left of base knowledge.
    """
    started = time.perf_counter()
    told = yardstick.asked_again(number, plan.part)
    newest = hashed_part(yardstick.batches[number - 1], plan.part)
    return {
        "asked_again": [[one.details["batch"], one.cluster, one.value] for one in told],
        "newest": by_group(yardstick.ask(all_questions(newest, plan.seed))),
        **yardstick.kept(base, number),
        "seconds": round(time.perf_counter() - started, 2),
    }


def measure_end(editor: Editor, yardstick: Yardstick, record: Record, plan: Plan) -> Values:
    """Measure everything on the final model."""
    started = time.perf_counter()
    batches = yardstick.batches
    learned = [name for entry in record.values["batches"] for name in entry["learned"]]
    rounds = samples_of(record, len(batches))
    facts = [fact for batch in batches for fact in batch]
    health = editor.evaluate(families=("health",), against=None, text=plan.text)
    return {
        **final_recall(yardstick, batches, learned),
        **yardstick.kept(Base.from_json(record.values["base"]), len(batches)),
        "provenance": yardstick.provenance(hashed_part(facts, plan.provenance)),
        "retention_matrix": retention_matrix(chain.from_iterable(rounds)).to_json(),
        "over_batches": [metric.to_json() for metric in lifelong(rounds, seed=plan.seed).metrics],
        "health": next(iter(health.to_json()["states"].values())),
        "seconds": round(time.perf_counter() - started, 2),
    }


def run(
    editor: Editor,
    facts: Sequence[Fact],
    plan: Plan,
    record: Record,
    *,
    settings: EditingSettings | None = None,
    say: Callable[[str], None] = print,
) -> Values:
    """Teach all batches that are not taught yet, and measure.

    Args:
        editor: the model and the store.
        facts: in the order in which they are taught.
        plan: how many, and how much is asked.
        record: where the results are kept.
        settings: how facts are written; None = memedit's defaults.
        say: told of every batch.
    Returns:
        The values of the record.
    """
    batches = batches_of(facts, plan)
    yardstick = Yardstick(
        editor,
        batches,
        known=Path(plan.known) if plan.known else None,
        num_look_alikes=plan.look_alikes,
        text=Path(plan.text) if plan.text else None,
        seed=plan.seed,
    )
    _require_in_step(editor, batches, record)
    if record.values["base"] is None:
        record.save(base=yardstick.base().to_json())
    base = Base.from_json(record.values["base"])
    for number, batch in enumerate(batches, start=1):
        entries, rounds = record.values["batches"], record.values["rounds"]
        if number > len(entries):
            record.save(batches=[*entries, teach(editor, batch, plan, settings)])
        is_measured = number % plan.every == 0 or number == len(batches)
        if is_measured and number >= len(record.values["batches"]) and str(number) not in rounds:
            record.save(rounds={**rounds, str(number): measure_round(yardstick, base, number, plan)})
            say(_line(record, number))
    if record.values["final"] is None:
        record.save(final=measure_end(editor, yardstick, record, plan))
    return record.values


def _require_in_step(editor: Editor, batches: Sequence[Sequence[Fact]], record: Record) -> None:
    """Refuse a store that knows more than the record by more than the one edit that a kill can leave."""
    held = {item.fact.id for item in editor.store.facts()}
    taught = [number for number, batch in enumerate(batches, 1) if not held.isdisjoint(f.id for f in batch)]
    done = len(record.values["batches"])
    if max(taught, default=0) > done + 1 or (held and not taught):
        raise SystemExit(
            f"the store holds other edits than the {done} of {record.path}: give a new --store and --out"
        )


def _line(record: Record, number: int) -> str:
    """One line for the terminal: the newest batch and what is left of the rest."""
    entry, found = record.values["batches"][number - 1], record.values["rounds"][str(number)]
    shown = [f"{name} {metric['value']:.3f}" for name, metric in found["newest"].items()]
    earlier = [value for batch, _, value in found["asked_again"] if batch < number]
    shown += [f"earlier batches {sum(earlier) / len(earlier):.3f}"] if earlier else []
    shown += [f"retained {found['retained']['value']:.4f}", f"leak {found['leak']['value'] or 0:.3f}"]
    return f"batch {number}: {', '.join(shown)}; {entry['seconds']['total']:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("facts", type=Path, help="a facts file, taught in its order")
    parser.add_argument("--batch", type=int, default=100, help="facts of each edit")
    parser.add_argument("--batches", type=int, default=10, help="how many edits")
    parser.add_argument("--store", type=Path, required=True, help="the store; new, or that of a killed run")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of results")
    parser.add_argument("--known", type=Path, help="a facts file of base knowledge in the taught templates")
    parser.add_argument("--plot", type=Path, help="folder for the figures")
    parser.add_argument("--model", default="smollm2-135m", help="a named model, a folder or a hub id")
    parser.add_argument("--gate", choices=GATE_MODES, default="off")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=25, help="facts of each batch asked after every round")
    parser.add_argument("--every", type=int, default=1, help="batches between two rounds of questions")
    parser.add_argument("--look-alikes", type=int, default=400)
    parser.add_argument("--provenance", type=int, default=500, help="facts traced at the end")
    parser.add_argument("--smoke", action="store_true", help="two batches of four facts")
    options = parser.parse_args(arguments)
    names = ("batch", "batches", "seed", "gate", "part", "every", "look_alikes", "provenance")
    plan = Plan(
        **{name: getattr(options, name) for name in names}, known=options.known and str(options.known)
    )
    if options.smoke:
        plan = replace(plan, batch=4, batches=2, part=2, look_alikes=20, provenance=4)
    facts = read_facts(options.facts)
    record = Record(options.out, identity_of(facts, plan))
    if record.values["final"] is None:
        with memedit.open(options.store, model=options.model) as editor:
            run(editor, facts, plan, record)
        record.save(made_with=made_with("lifelong.py"))
    if options.plot:
        from lifelong_figures import draw

        draw(record.values, options.plot)
    recall = record.values["final"]["recall"]
    print(", ".join(f"{name} {metric['value']:.3f}" for name, metric in recall.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
