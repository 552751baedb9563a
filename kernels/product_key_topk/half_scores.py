"""Scores of a query's two halves against their sub-keys, in full precision whatever the process has set."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def half_scores(queries: Tensor, sub_keys: Tensor) -> Tensor:
    """Score each half of each query against its sub-keys; both backends start from these.

    Args:
        queries: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, heads, key_dim].
        sub_keys: fp32 (fp64 with fp64 queries) [heads, 2, n, key_dim / 2].

    Returns:
        fp32 (fp64) [heads, 2, tokens, n], computed in that type.

    Raises:
        ValueError: when a score is NaN, infinite, or so large that the sum of two could overflow.
    """
    num_tokens, heads, key_dim = queries.shape
    num_keys = sub_keys.shape[2]
    halves = queries.to(sub_keys.dtype).reshape(num_tokens, heads * 2, key_dim // 2).transpose(0, 1)
    with _full_precision(queries.device.type):
        scores = torch.bmm(halves, sub_keys.reshape(heads * 2, num_keys, key_dim // 2).mT)
    _refuse_non_finite(scores)
    return scores.view(heads, 2, num_tokens, num_keys)


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Keep autocast, TF32 and bf16 products out: routing must be the same in training and in use."""
    # The settings are the process's, so they are touched only where somebody has lowered them.
    lowered = [settings for settings in _matmul_settings() if settings.fp32_precision not in ("ieee", "none")]
    before = [settings.fp32_precision for settings in lowered]
    try:
        for settings in lowered:
            settings.fp32_precision = "ieee"
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for settings, precision in zip(lowered, before, strict=True):
            _put_back(settings, precision)


def _put_back(settings: Any, precision: str) -> None:
    # What a setting answers may be inherited. Written back, it would stay when what it comes from changes.
    settings.fp32_precision = "none"
    if settings.fp32_precision != precision:
        settings.fp32_precision = precision


def _matmul_settings() -> list[Any]:
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        return [backends.cuda.matmul, backends.mkldnn.matmul]
    return [_SettingsBeforeTorch29()]


class _SettingsBeforeTorch29:
    """The one setting of torch before 2.9, under the name that it has from there on; it inherits nothing."""

    @property
    def fp32_precision(self) -> str:
        precision = torch.get_float32_matmul_precision()
        return "ieee" if precision == "highest" else precision

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        torch.set_float32_matmul_precision("highest" if precision in ("ieee", "none") else precision)


def _refuse_non_finite(scores: Tensor) -> None:
    if scores.numel() == 0:
        return
    low, high = (float(bound) for bound in torch.aminmax(scores))
    limit = torch.finfo(scores.dtype).max / 2
    if not (low >= -limit and high <= limit):
        kind = "NaN" if math.isnan(low) else f"infinite or huge (up to {max(-low, high):.3g})"
        raise ValueError(
            f"queries and sub_keys: got {kind} scores, expected finite ones up to {limit:.3g}. Look for NaN "
            "or overflow in the hidden states or the weights of the query projection."
        )
