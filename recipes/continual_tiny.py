"""What new facts cost the old ones: five ways of teaching a pretrained memory-layer Llama.

What: new facts go into the tiny pretrained model by memedit's own edit, by sparse memory finetuning (TF-IDF
top t), by all accessed slots, by full fine-tuning and by LoRA; in one batch and in ten, one after the other.
Asked: the new facts in held-out wordings, what the value table held, and what the dense part held.
Why: the small replica of the figure of sparse memory finetuning: how much is forgotten for what is learned.
How: every method is tuned over learning rate and slots t on a development model (other facts in its table,
other new facts); what is reported is another split on other models, one a seed.

Source: Lin et al. 2025 (arXiv 2510.15103), figures 1 and 4.

Command:   python recipes/pretrain_tiny.py --out dev.json --models dev --split slots-dev --seeds 100
           python recipes/pretrain_tiny.py --out tiny.json --models tiny-models
           python recipes/continual_tiny.py --dev dev/seed-100 --models tiny-models/seed-* \
               --out continual.json --plot continual.png
           ... --table prints the table of a file; --smoke: two facts a batch, one setting a method
Time:      20 minutes on one core; a killed run goes on with the same command.
Result:    docs/results.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from continual_tiny_measures import Exam, Sizes, Values, exam_of, share
from continual_tiny_methods import GRIDS, LABELS
from continual_tiny_runs import Course, best, one_batch, sequence, sequence_courses
from continual_tiny_table import summary, table
from lifelong_record import Record, made_with

from memedit.modeling.opening import open_model
from memedit.pretraining.corpus import Corpus, read_corpus

SMOKE = Sizes(batch=3, batches=2, part=1, old=6, core=4)
ONE_BATCH, SEQUENCE = "one batch", "sequence"


@dataclass(frozen=True)
class Subject:
    """One model that is taught.

    Attributes:
        folder: the model's.
        corpus: its facts.
        new: split of the new facts.
        old: split of what its table holds.
        seed: of wordings and order.
        sizes: how much is taught and asked.
    """

    folder: Path
    corpus: Corpus
    new: str
    old: str
    seed: int
    sizes: Sizes

    @cached_property
    def exam(self) -> Exam:
        """What it is taught and asked; found out once it is needed."""
        return exam_of(open_model(str(self.folder)), self.corpus, self.new, self.old, self.sizes)


class Runs:
    """Runs that are kept as soon as they are done."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def run(self, key: str, do: Callable[[], Values]) -> Values:
        """Return the run of a key, done now if it was not yet."""
        known = self.record.values["runs"]
        if key not in known:
            done = do()
            self.record.save(runs={**self.record.values["runs"], key: done})
            print(f"{key}: {_line(done)}", flush=True)
        found: Values = self.record.values["runs"][key]
        return found


def tuned(runs: Runs, subject: Subject, method: str, *, smoke: bool) -> tuple[Course, Course]:
    """Choose a method's settings on the development model.

    Returns:
        For one batch, and for a sequence.
    """
    sizes = subject.sizes

    def in_one_batch(course: Course) -> Values:
        return _lean(one_batch(course, subject.folder, subject.exam, sizes, subject.seed, on_the_way=True))

    def in_sequence(course: Course, half: int) -> Values:
        return _lean(sequence(course, subject.folder, subject.exam, sizes, subject.seed, half))

    tried = []
    for settings in GRIDS[method][: 1 if smoke else None]:
        course = Course(method, {**settings, "passes": 2} if smoke and "passes" in settings else settings)
        tried.append(runs.run(f"dev | {ONE_BATCH} | {course.name}", partial(in_one_batch, course)))
    run, point = best(tried)
    chosen = Course(method, run["course"]["settings"], 0 if method == "memory" else point["pass"])
    courses, half = sequence_courses(chosen), sizes.batches // 2
    if len(courses) == 1:
        return chosen, courses[0]
    tried = [
        runs.run(f"dev | {SEQUENCE} | {course.name}", partial(in_sequence, course, half))
        for course in courses
    ]
    return chosen, Course.from_json(best(tried)[0]["course"])


def reported(runs: Runs, subject: Subject, method: str, course: Course, kind: str) -> Values:
    """Teach a model that is reported, in one batch or in a sequence."""
    sizes = subject.sizes

    def do() -> Values:
        if kind == ONE_BATCH:
            return one_batch(course, subject.folder, subject.exam, sizes, subject.seed)
        return sequence(course, subject.folder, subject.exam, sizes, subject.seed, sizes.batches)

    return runs.run(f"{subject.folder.name} | {kind} | {method}", do)


def _lean(run: Values) -> Values:
    """A run without its items: what settings are chosen by."""
    points = [{name: value for name, value in one.items() if name != "items"} for one in run["points"]]
    return {**run, "points": points}


def _line(run: Values) -> str:
    last = run["points"][-1]
    return f"new {last['new']:.3f}, old {last['old']:.3f}, forgotten {last['forgotten']:.3f}"


def carried_out(options: argparse.Namespace) -> Values:
    """Do what is left of a run, and sum it up; returns what the file holds."""
    sizes = SMOKE if options.smoke else Sizes()
    corpus = read_corpus(options.corpus)
    identity = {"sizes": asdict(sizes), "dev": options.dev.name, "smoke": options.smoke}
    record = Record(options.out, identity, {"runs": {}, "before": {}, "chosen": {}, "summary": None})
    runs = Runs(record)
    dev = Subject(options.dev, corpus, "inject-dev", "slots-dev", 0, sizes)
    chosen = {method: tuned(runs, dev, method, smoke=options.smoke) for method in LABELS}
    record.save(chosen={name: [one.to_json() for one in pair] for name, pair in chosen.items()})
    done: dict[str, list[Values]] = {ONE_BATCH: [], SEQUENCE: []}
    subjects = [
        Subject(folder, corpus, "inject-test", "slots-test", seed, sizes)
        for seed, folder in enumerate(options.models)
    ]
    for place, kind in enumerate(done):
        for subject in subjects:
            for method, pair in chosen.items():
                done[kind].append(reported(runs, subject, method, pair[place], kind))
            if subject.folder.name not in record.values["before"]:
                before = {name: share(items) for name, items in subject.exam.before.items()}
                record.save(before={**record.values["before"], subject.folder.name: before})
            record.save(summary=summary(done), made_with=made_with("continual_tiny.py"))
    return record.values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of results")
    parser.add_argument(
        "--dev", type=Path, help="the model that settings are tuned on, slots-dev in its table"
    )
    parser.add_argument(
        "--models", type=Path, nargs="+", help="the models that are reported, slots-test in theirs"
    )
    parser.add_argument("--corpus", type=Path, help="the corpus of the models; default: memedit's own")
    parser.add_argument("--plot", type=Path, help="draw the figure into this file")
    parser.add_argument("--table", action="store_true", help="print the table of --out, run nothing")
    parser.add_argument("--smoke", action="store_true", help="a few facts, one setting a method")
    options = parser.parse_args(arguments)
    if options.table:
        values: Values = json.loads(options.out.read_text(encoding="utf-8"))
    elif options.dev is None or not options.models:
        parser.error("--dev and --models: got none, expected the folders that recipes/pretrain_tiny.py made")
    else:
        torch.set_num_threads(1)
        values = carried_out(options)
    print(table(values["summary"]))
    if options.plot is not None:
        from continual_tiny_figure import draw

        print(f"wrote {draw(values, options.plot)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
