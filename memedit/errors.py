"""Every error that memedit raises on purpose: a message, what to do about it, and an exit code.

What: a small tree under `MemeditError`; the command line prints `str(error)`, exits with `error.exit_code`.
Why: a user must be able to tell a wrong input (mend it and retry) from a refused edit (read the report) from
a broken store, without reading a traceback.
How: this module imports nothing, so that every other module may import it.

Exit codes: 0 done, 1 refused (the gate, or not everything learned), 2 usage or environment.
"""

from __future__ import annotations

import os

__all__ = [
    "FactsError",
    "FingerprintMismatch",
    "GateRefused",
    "MemeditError",
    "ModelUnavailable",
    "StoreCorrupt",
    "StoreError",
    "StoreLocked",
    "StoreTooNew",
    "SuiteError",
    "UsageError",
]


class MemeditError(Exception):
    """An error that a user can act on.

    Args:
        message: What is wrong: names the argument, what was got and what was expected.
        remedy: What to do about it, or None when the message says it already.
    """

    exit_code: int = 2

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if not self.remedy else f"{self.message}\n{self.remedy}"


class UsageError(MemeditError, ValueError):
    """A wrong argument, option or input file: nothing was changed."""


class FactsError(UsageError):
    """A facts file that cannot be used.

    Args:
        message: What is wrong with the file or the line.
        path: The facts file, or None for facts that were passed as objects.
        line: The line of the file, counted from 1, or None when no single line is at fault.
        field: The key or column at fault, where one is.
        remedy: What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.path = path
        self.line = line
        self.field = field


class SuiteError(UsageError):
    """A suite file that cannot be used: damaged, wrong in a field, or made for another model.

    Args:
        message: What is wrong, with `file:line` in front where a line is at fault.
        path: The suite file, or None for a suite that was made in a program.
        line: The line of the file, counted from 1, or None when no single line is at fault.
        remedy: What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.path = path
        self.line = line


class GateRefused(MemeditError):
    """The edit would lose retained knowledge beyond the allowed margin: nothing was committed."""

    exit_code = 1


class ModelUnavailable(MemeditError):
    """A model that cannot be had: unknown name, no network, broken download, unsafe files."""


class StoreError(MemeditError):
    """A store that cannot be read or written."""


class StoreLocked(StoreError):
    """Another process is writing to the store."""


class StoreCorrupt(StoreError):
    """A journal or patch whose content does not match what was recorded."""


class FingerprintMismatch(StoreError):
    """A store that belongs to another model than the one it was opened with."""


class StoreTooNew(StoreError):
    """A journal written by a newer memedit than this one."""
