"""Provenance: whose slots spoke while an answer was generated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from memedit.modeling import MemoryLlamaForCausalLM, MemoryTable


@dataclass
class Heard:
    """The subject with the largest routing mass among those whose gate opened.

    Attributes:
        subject: None when no gate opened.
        mass: its mass, 0 to 1.
    """

    subject: str | None = None
    mass: float = 0.0


@contextmanager
def listening(model: MemoryLlamaForCausalLM) -> Iterator[Heard]:
    """Note whose gate opens in the forwards inside a `with` block.

    Args:
        model: the model that answers.
    """
    heard = Heard()

    def note(table: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(table, MemoryTable)
        slots, weights = arguments
        _note(heard, table, slots, weights)

    handles = [table.register_forward_pre_hook(note) for table in model.memory_tables()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _note(heard: Heard, table: MemoryTable, slots: Tensor, weights: Tensor) -> None:
    found, overlay = table.look_up_overlay(slots, weights), table.overlay
    if found is None or overlay is None or not overlay.owner_names:
        return
    is_open = (found.best_owner >= 0) & (found.weights > 0).any(-1)
    if not bool(is_open.any()):
        return
    token = int(found.mass.masked_fill(~is_open, -1.0).argmax())
    mass = float(found.mass[token])
    if mass > heard.mass:
        heard.subject, heard.mass = overlay.owner_names[int(found.best_owner[token])], mass
