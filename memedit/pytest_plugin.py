"""The pytest plugin: a model's knowledge as tests, in any project.

What: `pytest --memedit-store .memedit` collects knowledge.toml files (and `--memedit-suite FILE`) as tests,
one for each fact or group, as the suite says.
Why: a team's CI then holds what its model knows as it holds its code.
How: without the option nothing happens, and nothing but pytest is imported. With it, the model is loaded at
the first test, once; each suite is asked in one pass, whatever was selected, since the verdict on a loss
needs all of it. A fact that is lost within the suite's allowance is reported as xfailed, one that was never
known as skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from memedit.editor import Editor
    from memedit.evaluation import Suite
    from memedit.evaluation.suite_cases import Case

__all__ = ["pytest_addoption", "pytest_configure"]

_NAME = "memedit-suites"
_FILES = ("knowledge.toml", "knowledge.jsonl")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; all of them do nothing without --memedit-store."""
    group = parser.getgroup("memedit", "memedit: what a model must keep knowing")
    group.addoption(
        "--memedit-store",
        metavar="DIRECTORY",
        help="store of the model to test; collects knowledge.toml files as tests",
    )
    group.addoption(
        "--memedit-suite",
        metavar="FILE",
        action="append",
        default=[],
        help="suite to collect, wherever it is; may be repeated",
    )
    group.addoption(
        "--memedit-model",
        metavar="NAME",
        help="the model, where the store does not know it (a named model, a folder, or a hub id)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the collection of suites, if --memedit-store is given.

    Raises:
        pytest.UsageError: the store or a suite is not there, or another option is given without the store.
    """
    store = config.getoption("--memedit-store")
    if store is None:
        for option in ("--memedit-suite", "--memedit-model"):
            if config.getoption(option):
                raise pytest.UsageError(f"{option} needs --memedit-store DIRECTORY as well")
        return
    folder = _absolute(config, store)
    if not (folder / "journal.sqlite").exists():
        raise pytest.UsageError(
            f"--memedit-store {store}: there is no store; `memedit inject FACTS` makes one"
        )
    suites = [_absolute(config, name) for name in config.getoption("--memedit-suite")]
    for suite in suites:
        if not suite.is_file():
            raise pytest.UsageError(
                f"--memedit-suite {suite} does not exist; `memedit suite build` makes one"
            )
    config.pluginmanager.register(_Suites(config, folder, suites), _NAME)


class _Suites:
    """What a run with --memedit-store has in common: the model, and the results so far."""

    def __init__(self, config: pytest.Config, store: Path, suites: list[Path]) -> None:
        self._store = store
        self._model: str | None = config.getoption("--memedit-model")
        self._suites = suites
        self._editor: Editor | None = None
        self._asked: dict[Path, dict[str, Case] | Exception] = {}
        self.collected: set[Path] = set()
        self._is_full_run = config.args_source is not pytest.Config.ArgsSource.ARGS
        root = config.rootpath / _FILES[0]
        if not suites and self._is_full_run and root.is_file():
            # `testpaths` may point elsewhere.
            suites.append(root)

    def pytest_report_header(self) -> str:
        return f"memedit: store {self._store}"

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> _SuiteFile | None:
        if file_path.name in _FILES or file_path in self._suites:
            return _SuiteFile.from_parent(parent, path=file_path)
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        # Not added to the arguments: pytest drops a file that lies below a folder which is an argument too,
        # even where it does not look into that folder.
        for path in self._suites:
            if path not in self.collected:
                items.extend(session.genitems(_SuiteFile.from_parent(session, path=path)))
        if self._is_full_run and not self.collected:
            raise pytest.UsageError(
                f"--memedit-store is given, but there is no {_FILES[0]}; `memedit suite build` makes one, "
                "--memedit-suite FILE names another"
            )

    def pytest_unconfigure(self) -> None:
        if self._editor is not None:
            self._editor.close()
            self._editor = None

    def case(self, suite: Suite, name: str) -> Case:
        """The outcome of one test; asks the whole suite first where that has not been done."""
        assert suite.path is not None
        if suite.path not in self._asked:
            try:
                self._asked[suite.path] = self._ask(suite)
            except Exception as error:
                # What failed once is not tried again for each of five hundred tests.
                self._asked[suite.path] = error
                raise
        asked = self._asked[suite.path]
        if isinstance(asked, Exception):
            raise asked
        return asked[name]

    def _ask(self, suite: Suite) -> dict[str, Case]:
        from memedit.evaluation import cases_of

        # Warnings of libraries are no concern of a project that turns its own into errors.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._editor is None:
                from memedit.editor import open_editor

                self._editor = open_editor(self._store, self._model, read_only=True)
            return {case.name: case for case in cases_of(self._editor.test(suite))}


class _SuiteFile(pytest.File):
    """A suite."""

    def collect(self) -> Iterable[_Case]:
        from memedit.evaluation import read_suite
        from memedit.evaluation.suite_cases import case_names

        # Not where the file is met: pytest meets every file beside one that was asked for.
        _suites_of(self.config).collected.add(self.path)
        suite = read_suite(self.path)
        lines = {item.id: item.line for item in suite.items}
        for name in case_names(suite):
            yield _Case.from_parent(self, name=name, suite=suite, line=lines.get(name))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        return _short(excinfo) or super().repr_failure(excinfo)


class _Case(pytest.Item):
    """A fact, or a group."""

    def __init__(self, *, suite: Suite, line: int | None, **options: Any) -> None:
        super().__init__(**options)
        self._suite = suite
        self._line = line

    def runtest(self) -> None:
        case = _suites_of(self.config).case(self._suite, self.name)
        if case.outcome == "not_known":
            pytest.skip(case.message)
        if case.outcome == "tolerated":
            pytest.xfail(case.message)
        if case.outcome == "failed":
            raise _Lost(case.detail())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        return _short(excinfo) or super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        line = None if self._line is None else self._line - 1
        return self.path, line, f"memedit: {self.name}"


class _Lost(AssertionError):
    """Knowledge was lost; the message has the texts before and now."""


def _suites_of(config: pytest.Config) -> _Suites:
    suites = config.pluginmanager.get_plugin(_NAME)
    assert isinstance(suites, _Suites)
    return suites


def _short(excinfo: pytest.ExceptionInfo[BaseException]) -> str | None:
    """The message of an error that needs no traceback."""
    from memedit.errors import MemeditError

    return str(excinfo.value) if isinstance(excinfo.value, (MemeditError, _Lost)) else None


def _absolute(config: pytest.Config, name: str) -> Path:
    return (config.invocation_params.dir / name).resolve()
