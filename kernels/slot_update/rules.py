"""How a row moves by its gradient: the three update rules, and what each keeps per selected row.

A rule is plain numbers; a state is plain tensors, with one row for each selected row. Arithmetic is in fp32
whatever the type of the values, which are cast once, at the end.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class SgdState(NamedTuple):
    """What Sgd keeps.

    Attributes:
        buffer: fp32 [num_rows, dim], the decaying sum of gradients; [0, dim] without momentum.
    """

    buffer: Tensor


class RowAdagradState(NamedTuple):
    """What RowAdagrad keeps.

    Attributes:
        sums: fp32 [num_rows], the sum over updates of the gradient's mean square.
    """

    sums: Tensor


class RowAdamState(NamedTuple):
    """What RowAdam keeps.

    Attributes:
        first: fp32 [num_rows, dim], decaying mean of the gradients.
        second: fp32 [num_rows, dim], decaying mean of their squares.
        steps: int64 [num_rows], updates of each row.
    """

    first: Tensor
    second: Tensor
    steps: Tensor


State = SgdState | RowAdagradState | RowAdamState


@dataclass(frozen=True)
class Sgd:
    """buffer = momentum * buffer + gradient; value -= learning_rate * buffer (PyTorch's convention).

    Attributes:
        learning_rate: 0 or more.
        momentum: in [0, 1).
    """

    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_rate(self.learning_rate)
        _check_decay("momentum", self.momentum)

    def new_state(self, num_rows: int, dim: int, device: torch.device | str = "cpu") -> SgdState:
        """State of rows that have not been updated yet."""
        return SgdState(torch.zeros(num_rows if self.momentum else 0, dim, device=device))


@dataclass(frozen=True)
class RowAdagrad:
    """sum += mean(gradient^2); value -= learning_rate * gradient / (sqrt(sum) + epsilon), one sum a row.

    Source: Adagrad, Duchi, Hazan & Singer 2011; one sum for a row, Gupta, Bengio & Weston 2014.

    Attributes:
        learning_rate: 0 or more.
        epsilon: above 0.
    """

    learning_rate: float
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_rate(self.learning_rate)
        _check_epsilon(self.epsilon)

    def new_state(self, num_rows: int, dim: int, device: torch.device | str = "cpu") -> RowAdagradState:
        """State of rows that have not been updated yet."""
        return RowAdagradState(torch.zeros(num_rows, device=device))


@dataclass(frozen=True)
class RowAdam:
    """Adam whose moments and step counts advance only for the rows that are updated.

    first = beta1 * first + (1 - beta1) * gradient; second = beta2 * second + (1 - beta2) * gradient^2;
    value -= learning_rate * sqrt(1 - beta2^steps) / (1 - beta1^steps) * first / (sqrt(second) + epsilon).

    Source: Kingma & Ba 2015, section 2 (the order that ends it: epsilon beside the uncorrected root).

    Attributes:
        learning_rate: 0 or more.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        epsilon: above 0.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_rate(self.learning_rate)
        _check_decay("beta1", self.beta1)
        _check_decay("beta2", self.beta2)
        _check_epsilon(self.epsilon)

    def new_state(self, num_rows: int, dim: int, device: torch.device | str = "cpu") -> RowAdamState:
        """State of rows that have not been updated yet."""
        first, second = torch.zeros(num_rows, dim, device=device), torch.zeros(num_rows, dim, device=device)
        return RowAdamState(first, second, torch.zeros(num_rows, dtype=torch.int64, device=device))


Rule = Sgd | RowAdagrad | RowAdam


def _check_rate(rate: float) -> None:
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate: got {rate}, expected a finite number, 0 or more")


def _check_decay(name: str, decay: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"{name}: got {decay}, expected a number in [0, 1)")


def _check_epsilon(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon: got {epsilon}, expected a finite number above 0")
