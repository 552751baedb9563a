"""A small search for a method's settings: many on a part of the facts, the best of them on all.

Source: successive halving, Jamieson & Talwalkar 2016 (arXiv 1502.07943), with two rungs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.baselines.methods import Settings

Trial = Callable[[Settings, int], dict[str, Any]]
"""Trains with some settings on the first so many facts; what it found has a "score"."""

_FINALISTS_SHARE = 4
_PART = 3
_LEAST_FACTS = 20


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        settings: the best.
        trials: every training: settings, facts, and what it found.
    """

    settings: Settings
    trials: tuple[dict[str, Any], ...]


def search(candidates: Sequence[Settings], num_facts: int, num_runs: int, trial: Trial) -> Search:
    """Find the best settings.

    Args:
        candidates: what can be tried, the defaults first; the others in an order given by their hashes.
        num_facts: facts to tune on.
        num_runs: most trainings, at least 1.
        trial: trains and scores.
    """
    ordered = [candidates[0], *sorted(candidates[1:], key=_rank)]
    finalists = max(1, num_runs // _FINALISTS_SHARE) if num_runs > 1 else 0
    part = max(min(_LEAST_FACTS, num_facts), num_facts // _PART)
    if part == num_facts:
        finalists = 0
    tried = [_told(settings, part, trial) for settings in ordered[: num_runs - finalists]]
    if not finalists:
        return _best(tried, tried)
    best = sorted(tried, key=lambda one: one["score"], reverse=True)[:finalists]
    last = [_told(one["settings"], num_facts, trial) for one in best]
    return _best(last, [*tried, *last])


def _told(settings: Settings, num_facts: int, trial: Trial) -> dict[str, Any]:
    return {"settings": dict(settings), "facts": num_facts, **trial(settings, num_facts)}


def _best(among: Sequence[dict[str, Any]], tried: Sequence[dict[str, Any]]) -> Search:
    return Search(max(among, key=lambda one: one["score"])["settings"], tuple(tried))


def _rank(settings: Settings) -> bytes:
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode("ascii")).digest()
