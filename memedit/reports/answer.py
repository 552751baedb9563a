"""What `memedit ask` shows: the answer, and the stored facts that it rests on.

What: `print_answer`.
Why: an answer without its grounds can't be trusted; one must see whether an edit spoke or the base model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from memedit.reports.console import one_line

if TYPE_CHECKING:
    from memedit.editor import Answer

__all__ = ["print_answer"]


def print_answer(console: Console, answer: Answer) -> None:
    """Print the completed prompt, its confidence, and what it rests on.

    Args:
        console: Where to.
        answer: What `Editor.ask` returned.
    """
    said = one_line(answer.text)
    line = Text(one_line(answer.prompt) + " ")
    line.append(said or "(nothing)", style="bold" if said else "dim")
    console.print(line, soft_wrap=True)
    about = f"  confidence {answer.confidence:.2f} (probability of the first token)"
    if answer.without is not None:
        about += f", without edit {answer.without}"
    console.print(about, style="dim", soft_wrap=True)
    if not answer.facts:
        console.print("  rests on no stored fact: the base model's own answer", style="dim", soft_wrap=True)
    for fact in answer.facts:
        grounds = f"  rests on {fact.edit_id} {fact.fact_id}: {one_line(fact.prompt)} {one_line(fact.target)}"
        console.print(grounds, style="dim", soft_wrap=True)
