"""Datasets of the hub: with a stand-in for the library, with a real dataset on disk, and offline."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType, SimpleNamespace

import datasets
import huggingface_hub
import pytest

from memedit.errors import FactsError
from memedit.facts import read_records
from memedit.facts.formats import hub_datasets

QUESTION = {"question": "who built the dam", "answer": ["Tom Hale"]}


class StandIn(ModuleType):
    """What memedit uses of `datasets`: tables of rows by (path, config)."""

    def __init__(self, tables):
        super().__init__("datasets")
        self.tables = tables
        self.asked = []
        self.bars = True
        self.offline = []
        self.config = SimpleNamespace(HF_HUB_OFFLINE=False)
        self.exceptions = SimpleNamespace(
            DatasetNotFoundError=datasets.exceptions.DatasetNotFoundError,
            DatasetsError=datasets.exceptions.DatasetsError,
        )

    def load_dataset(self, path, config):
        self.asked.append((path, config))
        self.offline.append((self.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE))
        assert not self.bars
        found = self.tables.get((path, config), datasets.exceptions.DatasetNotFoundError("no such dataset"))
        if isinstance(found, Exception):
            raise found
        return found

    def are_progress_bars_disabled(self):
        return not self.bars

    def disable_progress_bars(self):
        self.bars = False

    def enable_progress_bars(self):
        self.bars = True


@pytest.fixture
def hub(monkeypatch):
    """Put tables in the place of the hub: hub({("owner/name", None): {"train": [...]}})."""

    def put(tables):
        library = StandIn(tables)
        monkeypatch.setitem(sys.modules, "datasets", library)
        return library

    return put


def failure(source, **options):
    with pytest.raises(FactsError) as caught:
        read_records(source, **options)
    return caught.value


SPLITS = {"train": [QUESTION] * 2, "validation": [QUESTION]}


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf:nq_open:validation", [("nq_open", None)]),
        ("hf:owner/nq_open:validation", [("owner/nq_open", None)]),
        ("hf:owner/nq_open/small:validation", [("owner/nq_open", "small")]),
        ("hf:nq_open/small:validation", [("nq_open/small", None), ("nq_open", "small")]),
    ],
)
def test_names(hub, source, asked):
    library = hub({asked[-1]: SPLITS})
    records = read_records(source)
    assert library.asked == asked
    assert (records.source, records.format, records.num_records) == (source, "nq_open", 1)
    assert library.bars


def test_the_only_split_need_not_be_named(hub):
    hub({("nq_open", None): {"validation": [QUESTION]}})
    assert read_records("hf:nq_open").num_records == 1


@pytest.mark.parametrize(
    ("source", "said"), [("hf:nq_open", "has several splits"), ("hf:nq_open:dev", "has no split 'dev'")]
)
def test_a_split_that_is_not_there(hub, source, said):
    library = hub({("nq_open", None): SPLITS})
    text = str(failure(source))
    assert said in text
    assert "Its splits: train, validation. Write hf:nq_open:train." in text
    assert library.bars


@pytest.mark.parametrize(
    "source", ["hf:", "hf::train", "hf:a/b/c/d:train", "hf:a//b:train", "hf:a:", "hf:/a"]
)
def test_what_is_no_name(hub, source):
    library = hub({})
    assert "is no dataset" in str(failure(source))
    assert library.asked == []


def test_bad_rows_are_named_by_their_number(hub):
    hub({("nq_open", None): {"train": [QUESTION, {"question": "x", "answer": []}]}})
    assert str(failure("hf:nq_open:train")).startswith("hf:nq_open:train: record 2: answer is empty")
    (bad,) = read_records("hf:nq_open:train", skip_bad=True).bad
    assert (bad.record, bad.line, bad.field) == (2, None, "answer")
    assert str(bad).startswith("hf:nq_open:train: record 2: answer is empty")


def test_facts_of_the_hub_agree_without_lines(hub, record):
    other = record("counterfact_compact", {"target_new": "Ostra"})
    hub({("cf", None): {"train": [record("counterfact_compact"), other]}})
    records = read_records("hf:cf:train", skip_bad=True)
    assert (len(records.facts), records.facts[0].line) == (1, None)
    assert f"on fact {records.facts[0].id}" in records.bad[0].message


def test_a_hub_out_of_reach_is_said_plainly(hub):
    library = hub({("nq_open", None): ConnectionError("Couldn't reach 'nq_open' on the Hub")})
    text = str(failure("hf:nq_open:train"))
    assert "the Hugging Face hub could not be reached for 'nq_open'" in text
    assert "Or give a local file" in text
    assert library.bars


@pytest.fixture
def endpoint(monkeypatch):
    """Let the hub, which is not offline, be at this address."""

    def at(port):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.utils.close_session()
    yield at
    huggingface_hub.utils.close_session()


class NothingFound(BaseHTTPRequestHandler):
    """A server that has nothing, but answers."""

    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *_):
        """Say nothing."""


def test_a_hub_that_answers_anything_is_asked(hub, endpoint):
    library = hub({("nq_open", None): SPLITS})
    with HTTPServer(("127.0.0.1", 0), NothingFound) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        endpoint(server.server_port)
        assert read_records("hf:nq_open:validation").num_records == 1
        answering.join()
    assert library.offline == [(False, False)]


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_that_does_not_answer_leaves_the_cache(hub, endpoint, monkeypatch, listens):
    library = hub({("nq_open", None): SPLITS})
    monkeypatch.setattr(hub_datasets, "PATIENCE", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        endpoint(silent.getsockname()[1])
        assert read_records("hf:nq_open:validation").num_records == 1
    assert library.offline == [(True, True)]
    assert (library.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE) == (False, False)


def test_whoever_is_offline_asks_nothing(hub, endpoint, monkeypatch):
    library = hub({("nq_open", None): SPLITS})
    monkeypatch.setattr(huggingface_hub.utils, "get_session", None)
    endpoint(9)
    library.config.HF_HUB_OFFLINE = True
    assert read_records("hf:nq_open:validation").num_records == 1
    assert library.offline == [(True, False)]


@pytest.mark.parametrize(
    "error", [ValueError("Config name is missing.\nmore"), OSError("disk"), RuntimeError()]
)
def test_what_the_library_says_is_passed_on(hub, error):
    hub({("nq_open", None): error})
    text = str(failure("hf:nq_open:train"))
    assert "the dataset 'nq_open' could not be opened: " in text
    assert (str(error).splitlines() or ["RuntimeError"])[0] in text
    assert "\nmore" not in text


def test_no_such_dataset(hub):
    hub({})
    assert "could not be opened: no such dataset" in str(failure("hf:owner/nothing:train"))


def test_a_missing_library_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    text = str(failure("hf:nq_open:train"))
    assert "pip install 'memedit[datasets]'" in text
    assert "Or give a local file" in text


@pytest.mark.usefixtures("_library_as_it_is")
class TestRealLibrary:
    """With the library itself: what it saves, and what it does offline."""

    @pytest.fixture
    def _library_as_it_is(self):
        assert datasets.config.HF_HUB_OFFLINE

    def test_a_saved_dataset(self, tmp_path, record):
        rows = [record("zsre"), record("zsre", {"subject": "Nothing"})]
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
        records = read_records(f"hf:{tmp_path / 'saved'}", skip_bad=True, target_convention="alt")
        assert [fact.target for fact in records.facts] == ["Tom Hale"]
        assert [(bad.record, bad.field) for bad in records.bad] == [(2, "subject")]
        assert "none by name" in str(failure(f"hf:{tmp_path / 'saved'}:train"))

    def test_saved_splits(self, tmp_path, record):
        # Arrow gives every row all kinds of probes, null where it has none.
        plain = {**record("knowedit"), "locality": {}, "portability": {}}
        nested = record("mquake")
        tables = {"plain": datasets.Dataset.from_list([plain]), "hops": datasets.Dataset.from_list([nested])}
        datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
        assert read_records(f"hf:{tmp_path / 'saved'}:hops").format == "mquake"
        assert read_records(f"hf:{tmp_path / 'saved'}:plain").format == "knowedit"
        assert "Its splits: plain, hops" in str(failure(f"hf:{tmp_path / 'saved'}"))

    def test_a_folder_of_files(self, tmp_path, monkeypatch, dataset):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        (tmp_path / "folder").mkdir()
        dataset([QUESTION], "folder/train.jsonl")
        assert read_records(f"hf:{tmp_path / 'folder'}:train").num_records == 1

    def test_offline(self):
        text = str(failure("hf:owner/nq_open:validation"))
        assert "the Hugging Face hub could not be reached for 'owner/nq_open'" in text

    @pytest.fixture
    def cached(self, tmp_path, dataset):
        """A cache in which the library itself left owner/cached; its folder."""
        (tmp_path / "cached").mkdir()
        dataset([QUESTION], "cached/train.jsonl")
        datasets.load_dataset(str(tmp_path / "cached"), cache_dir=str(tmp_path / "made"))
        (build,) = (tmp_path / "made").glob("*/*/*/*/dataset_info.json")
        place = tmp_path / "cache" / "owner___cached" / "default" / "0.0.0"
        place.mkdir(parents=True)
        build.parent.rename(place / build.parent.name)
        return tmp_path / "cache"

    def test_out_of_reach_is_plain_and_quick_and_the_cache_is_read(self, cached):
        plain = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", READ_BOTH],
            env={**plain, **hub, "HF_HOME": str(cached), "HF_DATASETS_CACHE": str(cached)},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["cached"] == 1
        assert "the Hugging Face hub could not be reached for 'owner/nq_open'" in said["missing"]
        # The library alone waits 1 + 2 + 4 + 8 + 8 s.
        assert said["seconds"] < 5
        assert "Retry" not in done.stderr
        assert "thrown while requesting" not in done.stderr


READ_BOTH = """
import json, time
import datasets
from memedit.errors import FactsError
from memedit.facts import read_records

started = time.monotonic()
try:
    read_records("hf:owner/nq_open:train")
except FactsError as error:
    missing = str(error)
seconds = time.monotonic() - started
cached = read_records("hf:owner/cached:train").num_records
print(json.dumps({"missing": missing, "seconds": seconds, "cached": cached}))
"""
