"""Made-up records in the shape of each format (dataset_records.json), and files of them."""

from __future__ import annotations

import copy
import csv
import io
import json
from pathlib import Path

import pytest

RECORDS = json.loads((Path(__file__).parent / "dataset_records.json").read_text(encoding="utf-8"))


def _edited(record, changes):
    """A copy with other values: "a.0.b" names a field inside, None takes it out."""
    record = copy.deepcopy(record)
    for path, value in changes.items():
        *outer, last = path.split(".")
        place = record
        for name in outer:
            place = place[int(name) if name.isdigit() else name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return record


def _renamed(record, old, new):
    return json.loads(json.dumps(record, ensure_ascii=False).replace(old, new))


@pytest.fixture
def record():
    """A record of a format: record("zsre", {"alt": ""}) is one with another value."""
    return lambda name, changes=None: _edited(RECORDS[name], changes or {})


@pytest.fixture
def renamed():
    """A record in which one name stands for another: renamed(record, "Zubrowka", "Ostria")."""
    return _renamed


@pytest.fixture
def dataset(tmp_path):
    """Write records to a file: dataset([...], "x.json"); .json, .jsonl, .csv and .tsv by the ending."""

    def write(records, name="data.json"):
        path = tmp_path / name
        if path.suffix in (".csv", ".tsv"):
            text = io.StringIO()
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
            path.write_text(text.getvalue(), encoding="utf-8")
        elif path.suffix == ".jsonl":
            lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in records)
            path.write_text("".join(lines), encoding="utf-8")
        else:
            path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
        return path

    return write
