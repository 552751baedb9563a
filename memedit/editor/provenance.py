"""Provenance: the written rows that spoke while an answer was generated, led back to their edits.

`listening` notes at each token whose gate was open and which slots spoke; `prompt_routings`, for many prompts
at once, only whose gate, and how much of the routing fell on one subject. `trace` finds the edits that wrote
those slots, and for which subject. A slot that several edits wrote is shared out by how much each added to it
(the norm of its delta). Every token counts with the share of the routing that its open owner had.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from memedit.evaluation.generation import evaluating
from memedit.modeling import GatedLookup, MemoryLlamaForCausalLM, MemoryTable, prompt_ids
from memedit.store import Patch

_BATCH_ROWS = 16


@dataclass(frozen=True)
class Spoken:
    """An open gate at one token.

    Attributes:
        position: place of the token among those that the model read, 0 = the begin token.
        owner: index of the owner in the overlay that was worn.
        subject: the owner's name.
        mass: the owner's share of the token's routing, 0 to 1.
        threshold: the mass from which its gate opens.
        slots: the owner's slots that were looked up.
        weights: their shares in what was said; they sum to 1.
    """

    position: int
    owner: int
    subject: str
    mass: float
    threshold: float
    slots: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Source:
    """The rows of one subject in one edit, as far as they spoke.

    Attributes:
        edit_id: the edit that wrote them.
        subject: for whom it wrote them.
        fact_ids: the edit's facts about that subject.
        share: their share of all that written rows said, over tokens; the shares of all sources sum to 1.
        spoken: the tokens at which they spoke, in order.
    """

    edit_id: str
    subject: str
    fact_ids: tuple[str, ...]
    share: float
    spoken: tuple[Spoken, ...]

    @property
    def loudest(self) -> Spoken:
        """The token at which its owner had most of the routing."""
        return max(self.spoken, key=lambda spoken: spoken.mass)


@dataclass
class _Writings:
    weight: float = 0.0
    fact_ids: tuple[str, ...] = ()
    spoken: dict[Spoken, None] = field(default_factory=dict)


@contextmanager
def listening(model: MemoryLlamaForCausalLM) -> Iterator[list[Spoken]]:
    """Note every open gate in the forwards inside a `with` block.

    Args:
        model: the model that answers one prompt, token after token.
    """
    heard: list[Spoken] = []
    num_read: defaultdict[int, int] = defaultdict(int)

    def note(layer: int, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        hidden, table, routing = arguments
        slots = routing.slots
        assert len(hidden) == 1, "listening to several prompts at once"
        heard.extend(_open_gates(table, slots, table.look_up_overlay(*routing), num_read[layer]))
        num_read[layer] += len(slots)

    with _hooked(model, note):
        yield heard


@dataclass
class PromptRouting:
    """What a prompt's tokens read of the written rows.

    Attributes:
        subjects: whose gates are open at one of them.
        mass: the largest share of a token's routing, 0 to 1, that falls on the slots of one subject, whether
            or not its gate opens.
    """

    subjects: set[str] = field(default_factory=set)
    mass: float = 0.0


def prompt_routings(
    model: MemoryLlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[PromptRouting]:
    """Find what the tokens of prompts read of the written rows.

    Args:
        model: the model, wearing what it is asked with.
        tokenizer: its tokenizer.
        prompts: what would be asked.

    Returns:
        One for each prompt.
    """
    rows = [prompt_ids(tokenizer, model.config, prompt) for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: dict[int, PromptRouting] = {}
    for start in range(0, len(order), _BATCH_ROWS):
        batch = order[start : start + _BATCH_ROWS]
        found.update(zip(batch, _routings_of(model, [rows[index] for index in batch]), strict=True))
    return [found[index] for index in range(len(rows))]


def subjects_heard(
    model: MemoryLlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[frozenset[str]]:
    """Find whose gates open at the tokens of prompts, as `prompt_routings` does."""
    return [frozenset(found.subjects) for found in prompt_routings(model, tokenizer, prompts)]


def _routings_of(model: MemoryLlamaForCausalLM, rows: Sequence[Sequence[int]]) -> list[PromptRouting]:
    longest = max(map(len, rows))
    found = [PromptRouting() for _ in rows]

    def note(_: int, __: nn.Module, arguments: tuple[Any, ...]) -> None:
        _, table, routing = arguments
        looked_up = table.look_up_overlay(*routing)
        if looked_up is None:
            return
        for spoken in _open_gates(table, routing.slots, looked_up, 0):
            row, place = divmod(spoken.position, longest)
            if place < len(rows[row]):
                found[row].subjects.add(spoken.subject)
        for row, mass in enumerate(looked_up.mass.view(len(rows), longest)):
            found[row].mass = max(found[row].mass, float(mass[: len(rows[row])].max()))

    # Padding stands behind, where no query looks.
    input_ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    mask = (torch.arange(longest, device=model.device) < lengths[:, None]).long()
    with evaluating(model), _hooked(model, note):
        model(input_ids=input_ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    return found


@contextmanager
def _hooked(
    model: MemoryLlamaForCausalLM, note: Callable[[int, nn.Module, tuple[Any, ...]], None]
) -> Iterator[None]:
    """Tell `note` of layer and arguments of the memory layer that reads what was written, while it lasts."""
    layer = model.edited_layer
    handle = model.memory_layers()[layer].register_forward_pre_hook(partial(note, layer))
    try:
        yield
    finally:
        handle.remove()


def _open_gates(
    table: MemoryTable, slots: torch.Tensor, found: GatedLookup | None, num_before: int
) -> Iterator[Spoken]:
    overlay = table.overlay
    if found is None or overlay is None or not overlay.owner_names:
        return
    owners = overlay.owners[found.rows.clamp(min=0)].masked_fill(found.rows < 0, -1)
    owned = (owners == found.best_owner[:, None]) & (owners >= 0) & (found.weights > 0)
    for token in owned.any(-1).nonzero()[:, 0].tolist():
        owner, speaking = int(found.best_owner[token]), owned[token]
        yield Spoken(
            num_before + token,
            owner,
            overlay.owner_names[owner],
            float(found.mass[token]),
            float(overlay.thresholds[owner]),
            tuple(slots[token][speaking].tolist()),
            tuple(found.weights[token][speaking].tolist()),
        )


def trace(heard: Sequence[Spoken], patches: Mapping[str, Patch]) -> tuple[Source, ...]:
    """Lead what was heard back to edits and the subjects for which they wrote.

    Args:
        heard: open gates.
        patches: the patches that the model wore, by edit, in journal order.

    Returns:
        The sources, the largest share first.
    """
    writings: defaultdict[tuple[str, str], _Writings] = defaultdict(_Writings)
    for spoken in heard:
        for slot, weight in zip(spoken.slots, spoken.weights, strict=True):
            written = _writers(slot, patches)
            total = sum(norm for *_, norm in written)
            for edit_id, subject, fact_ids, norm in written:
                found = writings[edit_id, subject]
                # Rows that are still zero have been written all the same.
                part = norm / total if total else 1 / len(written)
                found.weight += spoken.mass * weight * part
                found.fact_ids = fact_ids
                found.spoken[spoken] = None
    total = sum(found.weight for found in writings.values())
    sources = [
        Source(edit_id, subject, found.fact_ids, found.weight / total, tuple(found.spoken))
        for (edit_id, subject), found in writings.items()
    ]
    return tuple(sorted(sources, key=lambda source: -source.share))


def _writers(slot: int, patches: Mapping[str, Patch]) -> list[tuple[str, str, tuple[str, ...], float]]:
    """Return (edit, subject, its facts, norm of the delta) of every owned row that was written to a slot."""
    found = []
    for edit_id, patch in patches.items():
        (table,) = patch.tables
        row = int(np.searchsorted(table.slots, slot))
        if row < len(table.slots) and table.slots[row] == slot and table.owners[row] >= 0:
            owner = patch.owners[table.owners[row]]
            found.append(
                (edit_id, owner.subject, owner.fact_ids, float(np.linalg.norm(table.delta[table.rows[row]])))
            )
    return found
