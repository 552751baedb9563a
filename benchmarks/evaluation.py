"""How long measuring takes: greedy answers, a suite of 500 items, and an evaluation that was made before.

Command:   python -m benchmarks.evaluation [--answers N] [--items N] [--facts FILE] [--runs N] [--json]
Time:      about 6 minutes a run on two cores, once the model is cached.
Result:    seconds, median with the lowest and the highest over the runs. The questions are bundled facts and
           names made to look like their subjects; the suite's right answers are what the model itself says,
           so that any number of items can be had. Loading the model is reported apart. The evaluation is
           that of a store with the facts of FILE (default: the first eight examples), all default families,
           base and edited; its first time, which fills the store's cache, is reported too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.timings import print_timings, summed_up

if TYPE_CHECKING:
    from memedit.editor import Editor

ROOT = Path(__file__).parents[1]
_NUM_FACTS = 8


def seconds_of(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def questions(num: int) -> list[str]:
    """Return that many different prompts: bundled facts, then look-alikes of their subjects.

    Raises:
        ValueError: when so many cannot be made.
    """
    from memedit.evaluation import well_known_facts
    from memedit.facts import look_alikes

    facts = well_known_facts()
    prompts = dict.fromkeys(fact.prompt for fact in facts)
    for seed in itertools.count():
        made = {item.prompt: None for item in look_alikes(facts, num=len(facts), seed=seed)}
        if len(prompts) >= num:
            return list(prompts)[:num]
        if made.keys() <= prompts.keys():
            raise ValueError(f"num must be at most {len(prompts)}, got {num}")
        prompts.update(made)
    raise AssertionError


def measured_answers(editor: Editor, num: int) -> float:
    """Time greedy answers of up to 16 tokens."""
    from memedit.evaluation import generate_answers

    prompts = questions(num)
    return seconds_of(lambda: generate_answers(editor.model, editor.tokenizer, prompts))


def measured_suite(editor: Editor, num: int) -> float:
    """Time the test of a suite of that many items, each right before."""
    from memedit.evaluation import Suite, generate_answers, suite_items
    from memedit.facts import Fact

    prompts = questions(num)
    said = generate_answers(editor.model, editor.tokenizer, prompts)
    facts = [
        Fact(f"said-{place}", prompt, answer.text or "nothing", prompt)
        for place, (prompt, answer) in enumerate(zip(prompts, said, strict=True))
    ]
    suite = editor.renewed_suite(editor.test(Suite(tuple(suite_items(facts)))))
    return seconds_of(lambda: editor.test(suite))


def measured_evaluation(store: Path) -> dict[str, float]:
    """Time the evaluation of a store, and the same again: in the process, and twice as a command."""
    import memedit

    with memedit.open(store) as editor:
        first, again = seconds_of(editor.evaluate), seconds_of(editor.evaluate)
    command = [sys.executable, str(ROOT / "cli.py"), "evaluate", "--store", str(store), "--json"]
    whole = [seconds_of(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(2)]
    return {
        "evaluation, first": first,
        "evaluation, again in the process": again,
        "memedit evaluate, answers kept": whole[0],
        "memedit evaluate, again": whole[1],
    }


def one_run(arguments: argparse.Namespace) -> dict[str, float]:
    """Time everything once, on a fresh store."""
    import memedit

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        started = time.perf_counter()
        with memedit.open(store, model="smollm2-135m") as editor:
            seconds = {"loading the model": time.perf_counter() - started}
            seconds[f"{arguments.answers:,} greedy answers"] = measured_answers(editor, arguments.answers)
            seconds[f"memedit test, {arguments.items} items"] = measured_suite(editor, arguments.items)
            editor.inject(arguments.facts or example_facts(), gate="off")
        return seconds | measured_evaluation(store)


def example_facts() -> list[Any]:
    """Return the first examples."""
    from memedit.facts import read_facts

    return list(read_facts(ROOT / "examples" / "facts.jsonl"))[:_NUM_FACTS]


def main() -> None:
    """Run, then print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", type=int, default=3000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--facts", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = summed_up([one_run(arguments) for _ in range(arguments.runs)])
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print_timings("what", figures)


if __name__ == "__main__":
    main()
