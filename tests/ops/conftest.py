"""Uninitialised memory is NaN in op tests, so that an output nobody wrote fails."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _nan_filled_memory():
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)
