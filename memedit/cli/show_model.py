"""`memedit show model`: what the model costs, what is written in it, and what its value table is worth.

What: opens the model (with the edits of the store), prints parameters, FLOPs and bytes by part; with --ablate
asks facts with parts of the memory taken away.
Why: a memory layer's parameters are only worth their bytes where answers rest on them.
How: a thin layer over memedit.modeling.accounting and memedit.evaluation.table_recall; the store is opened
read-only, and what is taken out of the model in memory is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memedit.cli.asking import editor_for_asking, require_store
from memedit.cli.datasets import dataset_options, noted_records
from memedit.cli.options import json_option, model_option, print_json, store_option, was_given
from memedit.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from memedit.evaluation import Question
    from memedit.modeling import MemoryLlamaForCausalLM
    from memedit.progress import Progress

__all__ = ["show_model"]

_EPILOG = """\b
Examples:
  memedit show model
  memedit show model --model ./my-memory-llama --context 2048 --json
  memedit show model --ablate --facts facts.jsonl
"""


@click.command("show model", epilog=_EPILOG)
@model_option
@store_option
@click.option(
    "--context",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Tokens that a token attends to, for the FLOPs.",
)
@click.option(
    "--ablate",
    is_flag=True,
    help="Ask the facts of --facts with the value table as it is, zeroed and shuffled, and without edits.",
)
@click.option("--facts", metavar="FILE", help="With --ablate: the facts to ask, as for inject.")
@dataset_options
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --ablate: of the shuffle and the intervals.",
)
@json_option("model, store, edits, context, memory, parts, totals, written, memory_runs, ablation")
def show_model(
    *,
    model: str | None,
    store: Path,
    context: int,
    ablate: bool,
    facts: str | None,
    format_name: str | None,
    target_convention: str | None,
    skip_bad: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Show the model: its parameters, how many a token uses, FLOPs and bytes by part, and what is written.

    With --ablate it also says what the value table is worth: recall of facts with the table as it is, with
    its base rows zeroed, with them shuffled, and without the rows that edits wrote. Nothing on disk changes.
    """
    _require_both(ablate=ablate, facts=facts)
    questions = None
    if facts is not None:
        questions = _questions(facts, format_name, target_convention=target_convention, skip_bad=skip_bad)
    has_store = require_store(store, otherwise="showing the model without edits")
    shown = _shown(model, store if has_store else None, context, questions, seed)
    if as_json:
        print_json(shown)
        return
    from memedit.reports.console import report_console
    from memedit.reports.model import print_model

    print_model(report_console(), shown)


def _require_both(*, ablate: bool, facts: str | None) -> None:
    if ablate and facts is None:
        raise UsageError(
            "--ablate: got no facts to ask", remedy="Name a file of facts that the model knows: --facts FILE."
        )
    for name in ("facts", "format_name", "target_convention", "skip_bad", "seed"):
        if was_given(name) and not ablate:
            option = {"format_name": "format"}.get(name, name.replace("_", "-"))
            raise UsageError(f"--{option} is for --ablate", remedy="Give --ablate too, or leave it out.")


def _questions(
    source: str, format_name: str | None, *, target_convention: str | None, skip_bad: bool
) -> list[Question]:
    """What is asked of each fact in a file; an error where it holds none."""
    from memedit.evaluation.table_recall import wording_questions

    records = noted_records(source, format_name, target_convention=target_convention, skip_bad=skip_bad)
    if not records.facts:
        raise UsageError(
            f"--facts {source}: got no facts, expected at least one",
            remedy="Questions alone have no wordings to ask; name a file that `memedit inject` takes.",
        )
    return wording_questions(records.facts)


@dataclass(frozen=True)
class _Opened:
    """A model, what to say of where it is from, and the bytes of the patches that it wears."""

    model: MemoryLlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    about: dict[str, Any]
    patch_bytes: int | None = None


def _shown(
    name: str | None, store: Path | None, context: int, questions: list[Question] | None, seed: int
) -> dict[str, Any]:
    """The object that --json prints."""
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress, _opened(name, store, progress) as opened:
        from memedit.evaluation.table_recall import recall_by_table
        from memedit.reports.model import described_model

        described = described_model(opened.model, context)
        if opened.patch_bytes is not None:
            described["written"]["bytes_on_disk"] = opened.patch_bytes
        found = None
        if questions is not None:
            model, tokenizer = opened.model, opened.tokenizer
            found = recall_by_table(model, tokenizer, questions, seed=seed, progress=progress).to_json()
    return {**opened.about, **described, "ablation": found}


@contextmanager
def _opened(name: str | None, store: Path | None, progress: Progress) -> Iterator[_Opened]:
    """The model with the edits of a store, or as its folder has it."""
    if store is not None:
        with editor_for_asking(store, name, progress) as editor:
            worn = editor.store.standing().edits
            about = {"model": editor.model_name, "store": str(store), "edits": len(worn)}
            yield _Opened(editor.model, editor.tokenizer, about, sum(edit.patch_bytes for edit in worn))
        return
    with progress.task("Loading memedit", None):
        from memedit.editing.routing_trials import choose_routing
        from memedit.editor.opening import DEFAULT_MODEL
        from memedit.modeling.opening import open_model
    opened = open_model(name or DEFAULT_MODEL, choose=choose_routing, progress=progress)
    yield _Opened(opened.model, opened.tokenizer, {"model": opened.name, "store": None, "edits": 0})
