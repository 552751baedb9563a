"""All that is wrong with an input, said at once.

What: `raise_problems` makes one error of many; each begins with its place, `file:line: `.
Why: a user mends a file in one go, not in twenty runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from memedit.errors import FactsError

__all__ = ["MAX_PROBLEMS", "raise_problems"]

MAX_PROBLEMS = 20


def _located(error: FactsError, path: str | os.PathLike[str] | None) -> FactsError:
    """The error with the place of the fault in front of its message."""
    line = error.line
    place = (
        f"{path}:{line}" if path is not None and line is not None else f"fact {line}" if line else f"{path}"
    )
    return FactsError(
        f"{place}: {error.message}", path=path, line=line, field=error.field, remedy=error.remedy
    )


def raise_problems(
    errors: Sequence[FactsError], path: str | os.PathLike[str] | None, *, hint: str | None = None
) -> None:
    """Raise one error for all of them; does nothing when there are none.

    Args:
        errors: What is wrong, each with its line where it has one; about `MAX_PROBLEMS` at most.
        path: The file, or None for facts that were passed as objects.
        hint: What else can be done about it, behind the remedy.

    Raises:
        FactsError: With all messages in the order of the lines, up to `MAX_PROBLEMS`.
    """
    located = [_located(error, path) for error in sorted(errors, key=lambda error: error.line or 0)]
    if not located:
        return
    if len(located) == 1:
        error = located[0]
        remedy = " ".join(text for text in (error.remedy, hint) if text)
        raise FactsError(error.message, path=path, line=error.line, field=error.field, remedy=remedy or None)
    said = located[:MAX_PROBLEMS]
    more = "at least " if len(located) >= MAX_PROBLEMS else ""
    body = [f"{error.message}\n    {error.remedy}" if error.remedy else error.message for error in said]
    raise FactsError(
        "\n".join([f"{path or 'the facts'}: {more}{len(said)} problems", *body]),
        path=path,
        line=said[0].line,
        remedy=" ".join(filter(None, ["Mend these and run it again; nothing was changed.", hint])),
    )
