"""`memedit ask`: let the edited model complete a prompt, and say which stored facts the answer rests on.

What: opens the store read-only, generates greedily, prints the answer with its grounds.
Why: asking must never wait for a writer or change a store; `--without` shows what an edit did.
How: store and edit names are checked before torch is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from memedit.cli.options import json_option, model_option, print_json, store_option
from memedit.errors import UsageError

__all__ = ["ask"]

_EPILOG = """\b
Examples:
  memedit ask "The capital of Zubrowka is"
  memedit ask "The capital of Zubrowka is" --without e0001-3f9a2c
  memedit ask "The capital of Zubrowka is" --why
  memedit ask "The capital of Zubrowka is" --abstain
  memedit ask "The capital of Zubrowka is" --json
"""


@click.command(epilog=_EPILOG)
@click.argument("prompt")
@store_option
@model_option
@click.option("--without", metavar="EDIT", help="Answer as if this edit were undone.")
@click.option("--why", is_flag=True, help="Show how far the answer rests on each stored fact.")
@click.option("--abstain", is_flag=True, help='Answer "I don\'t know" where nothing supports an answer.')
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="With --abstain: share of right answers wanted among those that the base model gives.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most tokens generated; the answer ends earlier where the model ends it.",
)
@json_option("prompt, text, confidence, subject, mass, facts, without, unedited, abstention")
def ask(
    *,
    prompt: str,
    store: Path,
    model: str | None,
    without: str | None,
    why: bool,
    abstain: bool,
    precision: float,
    max_new_tokens: int,
    as_json: bool,
) -> None:
    """Complete PROMPT with the edited model, and say which stored facts the answer rests on.

    A prompt is text that ends right before the answer ("The capital of Zubrowka is") or a question
    ("Q: What is the capital of Zubrowka? A:"). The answer is greedy and ends at a line end.
    """
    if not prompt.strip():
        raise UsageError(
            f"the prompt must hold text, got {prompt!r}",
            remedy='For example: memedit ask "The capital of Zubrowka is"',
        )
    if abstain and without is not None:
        raise UsageError(
            f"--abstain is calibrated for all active edits, got --without {without} beside it",
            remedy="Leave one of the two out.",
        )
    without = _require_store(store, without)
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress:
        with progress.task("Loading memedit", None):
            from memedit.editor import open_editor
        # The calibration is kept in the store's cache; nothing else is written.
        keeps = abstain and os.access(store, os.W_OK)
        with open_editor(store, model, read_only=not keeps, progress=progress) as editor:
            answer = editor.ask(
                prompt,
                without=without,
                max_new_tokens=max_new_tokens,
                why=why,
                abstain=abstain,
                precision=precision,
                progress=progress,
            )
    if as_json:
        print_json(answer.to_json())
        return
    from memedit.reports.answer import print_answer
    from memedit.reports.console import report_console

    print_answer(report_console(), answer, why=why)


def _require_store(store: Path, edit: str | None) -> str | None:
    """The full name of the edit; an error where there is no such store or edit."""
    from memedit.store import Store

    with Store.open(store, fingerprint=None, read_only=True) as opened:
        return None if edit is None else opened.edit(edit).id
