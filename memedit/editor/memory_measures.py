"""What an evaluation learns from the memory itself: its written rows, and which of them prompts read.

What: `health` and `with_membership_of`, which the metric families call.
Why: these look at patches and routing, where all other metrics ask for answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from memedit.editor.provenance import prompt_routings
from memedit.evaluation.assertions import with_membership
from memedit.evaluation.memory_health import WrittenRows, memory_health
from memedit.evaluation.perplexity import text_chunks
from memedit.evaluation.samples import Evaluation, Sample
from memedit.modeling.lower_blocks import residual_rms

if TYPE_CHECKING:
    from memedit.editor.families import Subject


def health(subject: Subject) -> Evaluation:
    """Count and size the rows that a state wears.

    Args:
        subject: the state.
    """
    states = subject.states
    written = [
        WrittenRows(edit, table.slots, table.delta, _subjects(patch.owners, table.owners), rows=table.rows)
        for edit, patch in zip(states.edits(subject.name), states.patches(subject.name), strict=True)
        for table in patch.tables
    ]
    model = states.opened.model
    num_slots, base = [model.config.num_slots], model.memory_tables()[model.edited_table].values
    bases = {} if base is None else {0: base}
    rms = None if bases else states.remembered("base", f"residual-rms/{subject.text}", _residual_rms(subject))
    return memory_health(written, num_slots=num_slots, base_rows=bases, residual_rms=rms)


def _residual_rms(subject: Subject) -> Callable[[], float]:
    """What measures how large the residual stream is at the memory layer that edits write to."""
    opened = subject.states.opened

    def measure() -> float:
        ids = text_chunks(opened.tokenizer, opened.model.config, subject.text)[0]
        return residual_rms(opened.model, opened.model.edited_layer, torch.tensor([ids]))

    return measure


def _subjects(owners: Sequence[object], rows: Iterable[int]) -> list[str | None]:
    """The subject of each written row; None where no owner guards it."""
    names = [str(getattr(owner, "subject", "")) for owner in owners]
    return [names[int(row)] if int(row) >= 0 else None for row in rows]


def with_membership_of(subject: Subject, samples: Sequence[Sample]) -> Sequence[Sample]:
    """Say of samples how much of their prompts' routing falls on the slots of one subject.

    Args:
        subject: the state.
        samples: what was asked.

    Returns:
        The samples with their membership; as they are where the state wears no edit.
    """
    states = subject.states
    if not states.edits(subject.name):
        return samples
    prompts = [sample.prompt for sample in samples]

    def masses() -> list[float]:
        routings = prompt_routings(states.opened.model, states.opened.tokenizer, prompts)
        return [routing.mass for routing in routings]

    return with_membership(
        samples, states.remembered(subject.name, f"membership/{json.dumps(prompts)}", masses)
    )
