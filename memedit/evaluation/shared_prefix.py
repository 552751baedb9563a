"""What many prompts begin with, run once: its keys and values are lent to every batch.

What: `groups_that_begin_alike`, `SharedPrefix`, `share_prefix`.
Why: the examples in front of a benchmark's questions are most of its tokens, and the same for every question.
How: rows are grouped by their first tokens; what a whole group has in common is run as one row, and the
cache that comes of it is repeated for each batch of the group. A memory layer's query window is in that
cache too (memedit.modeling.window_state). Models whose cache cannot be repeated run every row whole.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LENT_FACTOR", "SharedPrefix", "groups_that_begin_alike", "share_prefix"]

LENT_FACTOR = 4
"""How many times more tokens a batch may hold than run: lent ones fill memory, but cost little time."""

# With fewer tokens or rows, lending costs more than it saves.
_MIN_TOKENS = 16
_MIN_ROWS = 8


@dataclass(frozen=True)
class SharedPrefix:
    """What the rows of a group begin with.

    Args:
        ids: Its tokens; empty where nothing is shared.
        cache: What the model made of them, for one row.
    """

    ids: tuple[int, ...] = ()
    cache: Any = None

    def lend(self, num_rows: int) -> Any:
        """Return a cache of that many rows that hold the prefix; None where nothing is shared."""
        if not self.ids:
            return None
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(num_rows)
        return cache


def groups_that_begin_alike(starts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Part rows into groups that are worth a shared prefix, and the rest.

    Args:
        starts: For each row the tokens that may be shared.
    Returns:
        Indices of the rows, group by group, each in the order given; the last group shares nothing. The same
        rows make the same groups.
    """
    by_start: dict[tuple[int, ...], list[int]] = {}
    for index, start in enumerate(starts):
        by_start.setdefault(start[:_MIN_TOKENS], []).append(index)
    groups, rest = [], []
    for start, group in by_start.items():
        if len(start) == _MIN_TOKENS and len(group) >= _MIN_ROWS:
            groups.append(group)
        else:
            rest.extend(group)
    return [*groups, sorted(rest)] if rest else groups


def share_prefix(model: PreTrainedModel, starts: Sequence[tuple[int, ...]]) -> SharedPrefix:
    """Run what all rows of a group begin with.

    Args:
        model: Any transformers causal LM.
        starts: For each row the tokens that may be shared.
    Returns:
        The prefix; an empty one where too little is shared, or the model's cache cannot be lent.
    """
    if len(starts) < _MIN_ROWS:
        return SharedPrefix()
    # What the first and the last in order have in common, all have.
    first, last = min(starts), max(starts)
    pairs = enumerate(zip(first, last, strict=False))
    num_common = next((place for place, (one, other) in pairs if one != other), min(len(first), len(last)))
    if num_common < _MIN_TOKENS:
        return SharedPrefix()
    ids = first[:num_common]
    output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True)
    cache = getattr(output, "past_key_values", None)
    layers = getattr(cache, "layers", ())
    if not layers or not all(type(layer) is DynamicLayer for layer in layers):
        return SharedPrefix()
    return SharedPrefix(ids, cache)
