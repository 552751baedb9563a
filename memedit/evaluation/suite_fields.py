"""The fields of a suite file, checked one by one: the same in TOML and JSONL.

What: `suite_from_records` (header and items as mappings) and `header_record`, `item_record` the other way.
Why: both formats hold the same keys, and every mistake is named with its line, what was found and what to
write; all of them at once, up to twenty.
How: a `Record` is a mapping that knows on which line each key stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import SuiteError
from memedit.evaluation.suites import (
    COLLECTS,
    DEFAULT_GROUP,
    DEFAULT_MAX_LOSS,
    GivenAnswer,
    Suite,
    SuiteItem,
)
from memedit.facts.checked_values import shown
from memedit.facts.relations import closest

__all__ = ["MARK", "VERSION", "Record", "header_record", "item_record", "suite_from_records"]

MARK = "memedit_suite"
"""The key that makes a file a suite; its value is the version of the format."""
VERSION = 1
_MAX_ERRORS = 20
_HEADER = (MARK, "collect", "seed", "limits", "model")
_ITEM = ("id", "group", "prompt", "answers", "baseline")
_ONE_LINE = (
    "Write each answer in one line; a generated answer ends at a line break, so it could never be right."
)
_MEANT = {
    "answer": "answers",
    "target": "answers",
    "expected": "answers",
    "question": "prompt",
    "text": "prompt",
    "before": "baseline",
    "name": "id",
    "category": "group",
    "threshold": "limits",
    "thresholds": "limits",
    "max_loss": "limits",
    "items": "item",
}


@dataclass(frozen=True)
class Record:
    """A mapping from a file.

    Args:
        content: The mapping.
        line_of: The line of a key, or of the record itself for an empty name; None where no line is known.
    """

    content: Mapping[str, Any]
    line_of: Callable[[str], int | None]

    def error(self, message: str, key: str = "", remedy: str | None = None) -> SuiteError:
        """Return the error that names the line of a key."""
        return SuiteError(message, line=self.line_of(key), remedy=remedy)

    def require_keys(
        self,
        known: Sequence[str],
        where: str,
        content: Mapping[str, Any] | None = None,
        *,
        line_key: str | None = None,
    ) -> None:
        """Refuse keys that nobody knows, with what was probably meant.

        Args:
            known: The keys that there are.
            where: What holds the keys, for the error.
            content: A mapping inside the record; None for the record itself.
            line_key: The key on whose line all of them stand; None where each has its own line.
        Raises:
            SuiteError: for the first such key.
        """
        for key in self.content if content is None else content:
            if key not in known:
                meant = _MEANT.get(str(key).casefold())
                near = meant if meant in known else closest(str(key), known)
                hint = f" (did you mean {near!r}?)" if near else ""
                remedy = f"Known keys: {', '.join(each for each in known if each != 'item')}."
                raise self.error(f"unknown key {shown(key)}{hint} in {where}", line_key or key, remedy)

    def value(self, key: str, kind: type, what: str, default: Any) -> Any:
        """Return a value of the given kind, or the default where the key is not there.

        Raises:
            SuiteError: it is of another kind.
        """
        value = self.content.get(key, default)
        # In TOML and JSON true is no number; in Python it is.
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise self.error(f"{key} must be {what}, got {shown(value)}", key)
        return value


def suite_from_records(header: Record, items: Iterable[Record], path: Path | None) -> Suite:
    """Return the suite that a file holds.

    Args:
        header: Everything but the items.
        items: The items.
        path: The file, for errors.
    Raises:
        SuiteError: all problems (up to twenty) in one message, each with file and line.
    """
    fields: dict[str, Any] = {}
    errors: list[SuiteError] = []
    try:
        fields = _header_fields(header)
    except SuiteError as error:
        errors.append(error)
    outcomes = [_item_or_error(record) for record in items]
    errors += [outcome for outcome in outcomes if isinstance(outcome, SuiteError)]
    read = [outcome for outcome in outcomes if isinstance(outcome, SuiteItem)]
    if not errors:
        try:
            _require_known_groups(header, fields, read)
            return Suite(tuple(read), **fields, path=path)
        except SuiteError as error:
            errors.append(error)
    raise _combined(errors[:_MAX_ERRORS], path)


def header_record(suite: Suite) -> dict[str, Any]:
    """Return everything but the items of a suite, as a file holds it."""
    limits: dict[str, Any] = {"max_loss": suite.max_loss}
    if suite.group_max_loss:
        limits["groups"] = dict(suite.group_max_loss)
    header: dict[str, Any] = {
        MARK: VERSION,
        "collect": suite.collect,
        "seed": suite.seed,
        "limits": limits,
    }
    if suite.fingerprint is not None:
        header["model"] = {
            "name": suite.model or "",
            "fingerprint": suite.fingerprint,
            "edits": list(suite.edits),
        }
    return header


def item_record(item: SuiteItem) -> dict[str, Any]:
    """Return an item as a file holds it.

    Raises:
        SuiteError: an answer has a line break, so that the file could not be read again.
    """
    message = _line_break(item.answers)
    if message:
        raise SuiteError(f"item {item.id}: {message}", line=item.line, remedy=_ONE_LINE)
    record: dict[str, Any] = {
        "id": item.id,
        "group": item.group,
        "prompt": item.prompt,
        "answers": list(item.answers),
    }
    if item.baseline is not None:
        record["baseline"] = {"text": item.baseline.text, "correct": item.baseline.correct}
        if item.baseline.confidence is not None:
            record["baseline"]["confidence"] = round(item.baseline.confidence, 4)
    return record


def _header_fields(header: Record) -> dict[str, Any]:
    if MARK not in header.content:
        raise header.error(
            f"not a suite: the line `{MARK} = {VERSION}` is missing",
            remedy="`memedit suite build` makes a suite; docs/testing-knowledge.md describes the file.",
        )
    version = header.value(MARK, int, "a whole number", VERSION)
    if version != VERSION:
        raise header.error(
            f"this memedit reads suites of version {VERSION}, got version {version}",
            MARK,
            remedy="Update memedit.",
        )
    header.require_keys((*_HEADER, "item"), "the suite")
    collect = header.value("collect", str, '"fact" or "group"', COLLECTS[0])
    if collect not in COLLECTS:
        raise header.error(f'collect must be "fact" or "group", got {shown(collect)}', "collect")
    seed = header.value("seed", int, "a whole number from 0", 0)
    if seed < 0:
        raise header.error(f"seed must be at least 0, got {seed}", "seed")
    return {"collect": collect, "seed": seed, **_limits(header), **_model(header)}


def _limits(header: Record) -> dict[str, Any]:
    limits = header.value("limits", Mapping, "a table", {})
    header.require_keys(("max_loss", "groups"), "limits", limits)
    groups = limits.get("groups", {})
    if not isinstance(groups, Mapping):
        raise header.error(f"limits.groups must be a table, got {shown(groups)}", "limits")
    shares = {
        name: _share(header, value, name)
        for name, value in {"max_loss": limits.get("max_loss", DEFAULT_MAX_LOSS), **groups}.items()
    }
    if "max_loss" in groups:
        raise header.error("limits.groups holds max_loss, which belongs in limits", "max_loss")
    return {"max_loss": shares.pop("max_loss"), "group_max_loss": shares}


def _share(header: Record, value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise header.error(f"{key} must be a share between 0 and 1, got {shown(value)}", key)
    return float(value)


def _model(header: Record) -> dict[str, Any]:
    model = header.value("model", Mapping, "a table", {})
    header.require_keys(("name", "fingerprint", "edits"), "model", model)
    for key in ("name", "fingerprint"):
        if not isinstance(model.get(key, ""), str):
            raise header.error(f"model.{key} must be a text, got {shown(model[key])}", key)
    edits = model.get("edits", [])
    if not isinstance(edits, list) or not all(isinstance(edit, str) for edit in edits):
        raise header.error(f"model.edits must be a list of texts, got {shown(edits)}", "edits")
    return {
        "model": model.get("name") or None,
        "fingerprint": model.get("fingerprint") or None,
        "edits": tuple(edits),
    }


def _item_or_error(record: Record) -> SuiteItem | SuiteError:
    try:
        return _item(record)
    except SuiteError as error:
        return error


def _item(record: Record) -> SuiteItem:
    record.require_keys(_ITEM, "an item")
    missing = [key for key in ("id", "prompt", "answers") if key not in record.content]
    if missing:
        raise record.error(
            f"an item lacks {' and '.join(missing)}",
            remedy='Every item needs them, for example id = "capital-of-france", '
            'prompt = "The capital of France is", answers = ["Paris"].',
        )
    name, group, prompt = (
        record.value(key, str, "a text", default)
        for key, default in (("id", ""), ("group", DEFAULT_GROUP), ("prompt", ""))
    )
    answers = record.value("answers", list, 'a list of texts, such as ["Paris"]', [])
    if not all(isinstance(answer, str) for answer in answers):
        raise record.error(f"answers must be a list of texts, got {shown(answers)}", "answers")
    message = _line_break(answers)
    if message:
        raise record.error(message, "answers", _ONE_LINE)
    baseline = _baseline(record)
    try:
        return SuiteItem(name, prompt, tuple(answers), group, baseline, record.line_of(""))
    except SuiteError as error:
        key = next((key for key in _ITEM if error.message.startswith(key)), "")
        raise record.error(error.message, key, error.remedy) from error


def _line_break(answers: Sequence[str]) -> str:
    """What is wrong with the first answer of several lines, in words; empty where there is none."""
    for number, answer in enumerate(answers):
        # An end of line around the answer is a space like any other, as in a file of facts.
        if len(answer.strip().splitlines()) > 1:
            return f"answers[{number}] has a line break: {shown(answer)}"
    return ""


def _baseline(record: Record) -> GivenAnswer | None:
    if "baseline" not in record.content:
        return None
    baseline = record.value("baseline", Mapping, "a table", {})
    keys = ("text", "correct", "confidence")
    record.require_keys(keys, "baseline", baseline, line_key="baseline")
    text, correct, confidence = (baseline.get(key) for key in keys)
    is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    is_share = confidence is None or (is_number and 0 <= confidence <= 1)
    if not isinstance(text, str) or not isinstance(correct, bool) or not is_share:
        raise record.error(
            "baseline must hold text (a text), correct (true or false) and, if wanted, confidence (from 0 to "
            f"1), got {shown(dict(baseline))}",
            "baseline",
            remedy="`memedit test --update-baseline` writes it.",
        )
    return GivenAnswer(text, correct, None if confidence is None else float(confidence))


def _require_known_groups(header: Record, fields: Mapping[str, Any], items: Sequence[SuiteItem]) -> None:
    known = list(dict.fromkeys(item.group for item in items))
    for name in fields["group_max_loss"]:
        if name not in known:
            near = closest(name, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise header.error(
                f"limits.groups names {shown(name)}{hint}, but no item is in that group",
                name,
                remedy=f"Groups of the items: {', '.join(known) or 'none'}.",
            )


def _combined(errors: Sequence[SuiteError], path: Path | None) -> SuiteError:
    place = "the suite" if path is None else str(path)
    located = [
        (f"{place}:{error.line}: " if error.line else f"{place}: ") + error.message for error in errors
    ]
    if len(errors) == 1:
        return SuiteError(located[0], path=path, line=errors[0].line, remedy=errors[0].remedy)
    body = [
        f"{message}\n    {error.remedy}" if error.remedy else message
        for message, error in zip(located, errors, strict=True)
    ]
    return SuiteError(
        "\n".join([f"{place}: {len(errors)} problems", *body]),
        path=path,
        line=errors[0].line,
        remedy="Mend these and run it again; nothing was changed.",
    )
