"""One part of a comparison, in a process of its own: `python -m memedit.cli.compare_job OUT WORDS`.

`memedit compare` starts it; WORDS are "before reported", "tune METHOD" or "run METHOD SEED".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from memedit.cli.process import prepare_process
from memedit.errors import MemeditError


def main(arguments: Sequence[str]) -> int:
    """Do a part and return the exit code of the process.

    Args:
        arguments: the folder of the comparison, and what is to be done.
    """
    prepare_process()
    try:
        _work(Path(arguments[0]), arguments[1:])
    except MemeditError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _work(out: Path, words: Sequence[str]) -> None:
    from memedit.reports.progress import rich_progress

    with rich_progress() as progress:
        from memedit.baselines.folder import Folder
        from memedit.baselines.work import Work
        from memedit.editing.routing_trials import choose_routing
        from memedit.modeling.opening import open_model

        folder = Folder(out)
        plan = folder.plan()
        opened = open_model(plan.model, background=plan.background, choose=choose_routing, progress=progress)
        Work(opened, folder, progress=progress).do(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
