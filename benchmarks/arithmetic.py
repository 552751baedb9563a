"""A model's forward in the type that it is stored in and in fp32: what MEMEDIT_DTYPE=auto chooses between.

Command:   python -m benchmarks.arithmetic [--model NAME_OR_FOLDER] [--runs N] [--json]
Time:      half a minute for SmolLM2-135M where bf16 is emulated.
Result:    seconds (median, lowest, highest) of a forward over 8 rows of 64 tokens in each type, the runs
           taken in turn, the ratio of the medians, and which of the two memedit takes here.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import torch

from benchmarks.timings import print_timings, summed_up
from memedit.modeling.arithmetic import widens
from memedit.modeling.model import MemoryLlamaForCausalLM
from memedit.modeling.opening import open_model

ROWS, TOKENS = 8, 64


def opened(model: str, choice: str) -> MemoryLlamaForCausalLM:
    """Open a model so that it computes in the type of this choice of MEMEDIT_DTYPE."""
    os.environ["MEMEDIT_DTYPE"] = choice
    return open_model(model).model


@torch.no_grad()
def seconds(model: MemoryLlamaForCausalLM, ids: torch.Tensor) -> float:
    """Time one forward."""
    started = time.perf_counter()
    model(ids)
    return time.perf_counter() - started


def main() -> None:
    """Run, then print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    auto = widens(torch.bfloat16, "cpu")
    models = {choice: opened(arguments.model, choice) for choice in ("stored", "float32")}
    ids = torch.randint(0, models["stored"].config.vocab_size, (ROWS, TOKENS))
    for model in models.values():
        seconds(model, ids)
    runs = [{choice: seconds(model, ids) for choice, model in models.items()} for _ in range(arguments.runs)]
    figures = summed_up(runs)
    ratio = figures["stored"]["median"] / figures["float32"]["median"]
    if arguments.json:
        print(json.dumps({"seconds": figures, "stored_over_float32": ratio, "widens_bf16": auto}, indent=2))
        return
    print_timings("forward of 512 tokens", figures)
    print(f"stored / float32: {ratio:.2f}; here bf16 models compute in {'fp32' if auto else 'bf16'}")


if __name__ == "__main__":
    main()
