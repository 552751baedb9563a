"""The ways of teaching that recipes/continual_tiny.py compares: what they are, what is tuned, how they run.

What: `GRIDS` (settings that are tried of each method), `learner`.
Why: one batch and a sequence of batches are the same act, a learner that is given facts once or ten times.
How: memedit's own edit goes through `memedit.open` and `Editor.inject`; full fine-tuning and LoRA are those
of `memedit compare`; rows of the table are recipes/continual_tiny_rows.py. Every learner has a fresh model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from continual_tiny_rows import SelectedRows
from torch import nn
from transformers import PreTrainedTokenizerBase

import memedit
from memedit.baselines.dense_training import model_loss, train_dense
from memedit.baselines.full_tuning import dense_parameters
from memedit.baselines.lora import adapted
from memedit.baselines.teaching import Teaching
from memedit.editing.plan import EditingSettings
from memedit.evaluation.respondent import Respondent
from memedit.facts import Fact
from memedit.modeling import MemoryLlamaForCausalLM
from memedit.modeling.opening import OpenedModel, open_model

Settings = Mapping[str, float]
Passed = Callable[[int], bool]
"""Told of each pass over the facts that can be measured; True = enough."""

# The wordings that a user gives, and two statements or questions: what a tiny model has the words for.
ROWS = EditingSettings(num_contexts=0, num_questions=0)
_BATCH_ROWS = 32.0

LABELS = {
    "memory": "memedit: owned slots, gated",
    "tfidf": "sparse memory finetuning, TF-IDF top t",
    "all": "all accessed slots",
    "full": "full fine-tuning",
    "lora": "LoRA",
}
"""The methods in the order in which they are shown."""


def _product(rates: Sequence[float], **others: Sequence[float]) -> list[Settings]:
    found: list[dict[str, float]] = [{"rate": rate} for rate in rates]
    for name, values in others.items():
        found = [{**one, name: value} for one in found for value in values]
    return list(found)


GRIDS: Mapping[str, Sequence[Settings]] = {
    "memory": [*_product((1.5,), slots=(8, 32, 128)), *_product((0.75, 3.0), slots=(128,))],
    "tfidf": _product((1000, 3000), slots=(100, 400, 1600), passes=(5,)),
    "all": _product((100, 300, 1000), passes=(5,)),
    "full": _product((3e-5, 1e-4, 3e-4), passes=(8,)),
    "lora": _product((3e-4, 1e-3), rank=(16,), passes=(8,)),
}
"""What is tried: learning rates, slots t, most passes. Every measured pass of each is a candidate."""


class Learner(NamedTuple):
    """A model that can be taught.

    Attributes:
        model: as it is now.
        tokenizer: its tokenizer.
        learn: teaches it facts; tells of passes.
    """

    model: MemoryLlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    learn: Callable[[Sequence[Fact], Passed], None]


class _EnoughError(Exception):
    """Ends a training after a pass."""


@contextmanager
def learner(method: str, folder: Path, settings: Settings, seed: int) -> Iterator[Learner]:
    """Open a fresh model for the length of a `with` block.

    Args:
        method: of LABELS.
        folder: the model's.
        settings: as in GRIDS.
        seed: of wordings and order.
    """
    if method == "memory":
        with (
            TemporaryDirectory(prefix="memedit-") as store,
            memedit.open(Path(store) / "store", model=str(folder)) as editor,
        ):
            yield Learner(editor.model, editor.tokenizer, _injecting(editor, settings, seed, Path(store)))
        return
    opened = open_model(str(folder))
    model = opened.model
    if method == "lora":
        with adapted(model, int(settings["rank"])) as parameters:
            yield Learner(model, opened.tokenizer, _dense(method, opened, settings, seed, parameters))
        return
    if method == "full":
        parameters = dense_parameters(model)
        for parameter in parameters:
            parameter.requires_grad = True
        yield Learner(model, opened.tokenizer, _dense(method, opened, settings, seed, parameters))
        return
    yield Learner(model, opened.tokenizer, _by_rows(opened, settings, seed))


def _injecting(
    editor: memedit.Editor, settings: Settings, seed: int, folder: Path
) -> Callable[[Sequence[Fact], Passed], None]:
    default = EditingSettings()
    editing = replace(
        default,
        selection=replace(default.selection, slots_per_subject=int(settings["slots"])),
        training=replace(default.training, learning_rate=settings["rate"]),
    )
    # The gate is off and its perplexity is of no interest here: one sentence is enough.
    text = folder / "text.txt"
    text.write_text("The bridge was closed for the winter.\n", encoding="utf-8")

    def learn(facts: Sequence[Fact], passed: Passed) -> None:
        editor.inject(facts, seed=seed, gate="off", settings=editing, text=text)
        passed(1)

    return learn


def _dense(
    method: str, opened: OpenedModel, settings: Settings, seed: int, parameters: Sequence[nn.Parameter]
) -> Callable[[Sequence[Fact], Passed], None]:
    told = {"learning_rate": settings["rate"], "epochs": settings["passes"], "batch_rows": _BATCH_ROWS}

    def learn(facts: Sequence[Fact], passed: Passed) -> None:
        def after(number: int, _respondent: Respondent) -> None:
            if passed(number):
                raise _EnoughError

        teaching = Teaching(method, opened, tuple(facts), told, seed, editing=ROWS, after_epoch=after)
        rows = [row.encoded for row in teaching.rows()]
        with suppress(_EnoughError), teaching.meter.running():
            train_dense(teaching, [len(row.ids) for row in rows], model_loss(opened.model, rows), parameters)

    return learn


def _by_rows(opened: OpenedModel, settings: Settings, seed: int) -> Callable[[Sequence[Fact], Passed], None]:
    slots, guarded = int(settings.get("slots", 0)), bool(settings.get("guarded", 0))
    selected = SelectedRows(opened, settings["rate"], slots, guarded=guarded)

    def learn(facts: Sequence[Fact], passed: Passed) -> None:
        teaching = Teaching("full", opened, tuple(facts), settings, seed, editing=ROWS)
        selected.teach(teaching.rows(), int(settings["passes"]), seed, passed)

    return learn
