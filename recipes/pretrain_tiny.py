"""Pretrain the tiny model whose knowledge is in its slots, with several seeds, and measure where it is.

What: trains the model of `memedit models build tiny` once a seed, asks every fact of its value table in all
wordings, with the table as it is, zeroed and with its rows shuffled, and asks what the dense part holds with
and without the memory. One JSON file.
Why: a memory layer among FFNs is easily dead weight: everything is recalled and nothing comes out of the
table. Only the fall of recall when the table goes says where the knowledge is.
How: memedit.pretraining, as `memedit pretrain` runs it. A killed run goes on with the same command.

Command:   python recipes/pretrain_tiny.py --out tiny-results.json --models tiny-models
           ... --split slots-dev --seeds 100    to choose settings
           ... --smoke    one exposure of a few hundred facts, to see that everything works
Time:      8 minutes a seed on one core of a 2024 server, 6 of them training; --smoke 1 minute.
Result:    for each seed: recall of 2,723 facts .98 or more in trained and .95 in held-out wordings, a quarter
           of it with the table zeroed (what is to be guessed), and the dense part's facts within 3 points;
           docs/results.md has the numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lifelong_record import Record, made_with

from memedit.evaluation.recall import HELD_OUT_WORDING, TRAINED_WORDING, recall_metric
from memedit.evaluation.table_recall import AS_IT_IS, recall_by_table
from memedit.modeling.memory_table import MemoryTable
from memedit.pretraining.build import Pretrained, pretrain
from memedit.pretraining.corpus import Corpus
from memedit.pretraining.recall import corpus_questions
from memedit.pretraining.settings import PhaseSettings, PretrainingSettings, shipped_settings
from memedit.reports.progress import rich_progress

Values = dict[str, Any]
CORE_QUESTIONS = 2000


def settings_of(seed: int, split: str, *, smoke: bool) -> PretrainingSettings:
    """The settings of the tiny model, with other facts for the table where --split says so."""
    told = shipped_settings("tiny")
    phases = [phase if phase.memory is None else replace(phase, splits=(split,)) for phase in told.phases]
    if smoke:
        phases = [_shortened(phase, split) for phase in phases]
    return replace(told, phases=tuple(phases), seed=seed)


def _shortened(phase: PhaseSettings, split: str) -> PhaseSettings:
    small = ("inject-dev",) if phase.memory is None else (split,)
    mixed = () if phase.memory is None else ("inject-dev",)
    return replace(
        phase, splits=small, mixed_splits=mixed, routing_splits=("inject-dev",), exposures=1, batch_rows=32
    )


def measured(made: Pretrained, split: str, *, limit: int | None) -> Values:
    """Where the model's knowledge is.

    Args:
        made: the model.
        split: the facts that its table is to hold.
        limit: questions of each kind, at most; None = all.
    """
    facts, groups = made.corpus.of([split]), (TRAINED_WORDING, HELD_OUT_WORDING)
    asked = [question for group in groups for question in corpus_questions(facts, group, limit=limit)]
    core_limit = CORE_QUESTIONS if limit is None else limit
    core = corpus_questions(made.corpus.of(["core"]), HELD_OUT_WORDING, limit=core_limit)
    with rich_progress() as progress:
        table = recall_by_table(made.model, made.tokenizer, asked, progress=progress)
        dense = recall_by_table(made.model, made.tokenizer, core, progress=progress)
    held_out = [one for one in table.answered[AS_IT_IS] if one.question.group == HELD_OUT_WORDING]
    relations = sorted({fact.relation for fact in facts})
    return {
        "facts": len(facts),
        "recall": table.to_json(),
        "core": dense.to_json(),
        "by_relation": {
            name: recall_metric(
                [one for one in held_out if one.question.fact_id.startswith(f"{name}|")], HELD_OUT_WORDING
            ).to_json()
            for name in relations
        },
        "guess_rate": guess_rate(made.corpus, split),
        "slots_written": slots_written(made.model.memory_tables()[0]),
        "seconds": made.seconds,
        "threads": torch.get_num_threads(),
    }


def slots_written(table: MemoryTable) -> int:
    """Base rows that are not zero."""
    assert table.values is not None
    return int(table.values.detach().ne(0).any(-1).sum())


def guess_rate(corpus: Corpus, split: str) -> float:
    """Share of facts whose answer is the most frequent one of its relation among the dense part's facts."""
    often: dict[str, Counter[str]] = {}
    for fact in corpus.of(["core"]):
        often.setdefault(fact.relation, Counter())[fact.target] += 1
    facts = corpus.of([split])
    return sum(often[fact.relation].most_common(1)[0][0] == fact.target for fact in facts) / len(facts)


def line(values: Values) -> str:
    """One line for the terminal."""
    states = values["recall"]["states"]
    shown = [
        f"{state.replace('_', ' ')} " + " / ".join(f"{one['value']:.3f}" for one in found["recall"])
        for state, found in states.items()
    ]
    core = {state: found["recall"][0]["value"] for state, found in values["core"]["states"].items()}
    kept = f"dense part's facts {core[AS_IT_IS]:.3f} (without memory {core['zeroed']:.3f})"
    return f"{'; '.join(shown)}; guess rate {values['guess_rate']:.3f}; {kept}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of results")
    parser.add_argument("--models", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="slots-test", help="the facts that the table is to hold")
    parser.add_argument("--smoke", action="store_true", help="one exposure of a few hundred facts")
    options = parser.parse_args(arguments)
    identity = {"split": options.split, "smoke": options.smoke}
    record = Record(options.out, identity, {"seeds": {}})
    options.models.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        if str(seed) in record.values["seeds"]:
            continue
        started = time.perf_counter()
        settings = settings_of(seed, options.split, smoke=options.smoke)
        with rich_progress() as progress:
            made = pretrain(settings, options.models / f"seed-{seed}", progress=progress)
        found = measured(made, options.split, limit=50 if options.smoke else None)
        found["seconds_in_all"] = round(time.perf_counter() - started, 1)
        seeds = {**record.values["seeds"], str(seed): found}
        record.save(seeds=seeds, made_with=made_with("pretrain_tiny.py"))
        print(f"seed {seed}: {line(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
