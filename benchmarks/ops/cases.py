"""What is measured: sizes, and the inputs that every contender gets alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Distinct slots that the look-ups of a step touch: the size of the smallest table, so that every table sees
# the same look-ups, spread evenly over it.
DISTINCT = 2**14


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        contender: who runs.
        num_slots: rows of the table.
        selected: slots that may change.
        tokens: tokens of a step.
        lookups: look-ups of a token.
        dim: width of a row.
        runs: timed runs, after one warm-up.
    """

    contender: str
    num_slots: int = 2**18
    selected: int = 500
    tokens: int = 4096
    lookups: int = 64
    dim: int = 576
    runs: int = 5


@dataclass(frozen=True)
class StepInputs:
    """Inputs of an update step.

    Attributes:
        slots: int64 [tokens, lookups].
        weights: fp32 [tokens, lookups], softmax over the look-ups.
        grad_output: fp32 [tokens, dim].
        selected: int64 [selected], ascending, all of them looked up.
    """

    slots: Tensor
    weights: Tensor
    grad_output: Tensor
    selected: Tensor


def step_inputs(case: Case) -> StepInputs:
    """Make the inputs of a step; the same pattern of look-ups whatever the table's size."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, DISTINCT, (case.tokens, case.lookups), generator=generator)
    # A fixed permutation, or neighbouring pattern numbers would be neighbouring rows in every table.
    places = torch.randperm(DISTINCT, generator=generator) * (case.num_slots // DISTINCT)
    scores = torch.randn(case.tokens, case.lookups, generator=generator)
    chosen = torch.randperm(DISTINCT, generator=generator)[: case.selected]
    return StepInputs(
        slots=places[pattern],
        weights=torch.softmax(scores, dim=-1),
        grad_output=torch.randn(case.tokens, case.dim, generator=generator),
        selected=places[chosen].sort().values,
    )


def table(case: Case) -> Tensor:
    """A base table, fp32 [num_slots, dim], filled in place."""
    return torch.empty(case.num_slots, case.dim).normal_(generator=torch.Generator().manual_seed(1))
