"""What `memedit ask` shows: the answer, and the stored facts that it rests on.

What: `print_answer`.
Why: an answer without its grounds can't be trusted; one must see whether an edit spoke or the base model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from memedit.reports.console import one_line

if TYPE_CHECKING:
    from memedit.editor import Abstention, Answer, OpenGate, RestsOn
    from memedit.evaluation import Metric

__all__ = ["print_answer"]

_SUBJECT_LINES = {
    "whole": "its subject {} stands in the prompt",
    "part": "a short form of its subject {} stands in the prompt",
    "none": "its subject {} does not stand in the prompt",
}
_MAX_GATES = 6


def print_answer(console: Console, answer: Answer, *, why: bool = False) -> None:
    """Print the completed prompt, its confidence, and what it rests on.

    Args:
        console: Where to.
        answer: What `Editor.ask` returned.
        why: Show for each stored fact where and how loud its rows spoke, and what the unedited model says.
    """
    said = one_line(answer.text)
    line = Text(one_line(answer.prompt) + " ")
    line.append(said or "(nothing)", style="bold" if said else "dim")
    console.print(line, soft_wrap=True)
    about = f"  confidence {answer.confidence:.2f} (probability of the first token)"
    if answer.without is not None:
        about += f", without edit {answer.without}"
    lines = [about, *_abstention(answer.abstention)]
    if not answer.facts:
        lines.append("  rests on no stored fact; the base model answered")
    for fact in answer.facts:
        grounds = f"  rests on {fact.edit_id} {fact.fact_id}: {one_line(fact.prompt)} {one_line(fact.target)}"
        lines += [grounds, *(_reasons(fact) if why else ())]
    if answer.unedited is not None:
        lines.append(f"  without any edit: {one_line(answer.unedited) or '(nothing)'}")
    for each in lines:
        console.print(each, style="dim", soft_wrap=True)


def _abstention(abstention: Abstention | None) -> list[str]:
    """The lines that say why an answer is given or withheld, and what that is worth."""
    if abstention is None:
        return []
    worth, rule = abstention.worth, abstention.worth.base
    score = "no support" if abstention.score is None else f"support {abstention.score:.2f}"
    needed = f"{rule.threshold:.2f}" if math.isfinite(rule.threshold) else "more than any answer has"
    weighed = f"{score}, needs {needed}"
    if abstention.support == "memory":
        verdict = "  given: a stored fact states it and is what the prompt asks for"
    elif abstention.support == "base":
        verdict = f"  given: the base model supports it ({weighed})"
    else:
        said = one_line(abstention.withheld or "") or "(nothing)"
        verdict = f"  withheld: no stored fact and not the base model supports {said!r} ({weighed})"
    kept, other = shown_metric(worth.right_kept), shown_metric(worth.other_relation)
    shares = [
        f"precision {shown_metric(precision)}, coverage {shown_metric(coverage)}"
        for precision, coverage in ((rule.precision, rule.coverage), (worth.precision, worth.coverage))
    ]
    memory = f"precision {shown_metric(worth.memory_precision)}"
    target = f"precision {rule.target_precision:.2f}"
    reached = "" if rule.reached else " (no threshold reaches it: the best was taken)"
    return [
        verdict,
        f"  base model, threshold for {target}{reached}: {shares[0]}",
        f"  with stored facts: {shares[1]}, right answers kept {kept}",
        f"  stored facts alone: {memory}; given when another relation was asked {other}",
    ]


def shown_metric(metric: Metric) -> str:
    """Return a share with its interval and n: "0.91 [0.85, 0.95] (n 120)"; "not measured" where n is 0."""
    if not metric.n:
        return "not measured"
    return f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}] (n {metric.n})"


def _reasons(fact: RestsOn) -> list[str]:
    """The lines under a fact that say how far the answer rests on it."""
    subject = _SUBJECT_LINES[fact.subject_match].format(f'"{one_line(fact.subject)}"')
    stated = "the answer states its target" if fact.states_target else "the answer is not its target"
    gate = (
        f"gate {fact.mass:.2f} at its widest, opens from {fact.threshold:.2f}; open at {_gates(fact.gates)}"
    )
    return [
        f"    share {fact.share:.0%} of what stored facts said; {gate}",
        f"    {subject}; wording {fact.likeness:.2f} alike; {stated}",
    ]


def _gates(gates: tuple[OpenGate, ...]) -> str:
    """The tokens at which a gate was open, the first few of them."""
    shown = [
        f'"{one_line(gate.token)}"{" (answer)" if gate.in_answer else ""} {gate.mass:.2f}'
        for gate in gates[:_MAX_GATES]
    ]
    rest = len(gates) - len(shown)
    return ", ".join(shown) + (f" and {rest} more tokens" if rest else "")
