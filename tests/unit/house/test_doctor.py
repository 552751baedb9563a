"""`memedit doctor` on healthy and on broken surroundings."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import namedtuple

import pytest
from click.testing import CliRunner

from memedit.cli import cli
from memedit.modeling import named_models


def examined(*arguments):
    result = CliRunner().invoke(cli, ["doctor", "--json", *arguments])
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["healthy"] else 1)
    return report["healthy"], {check["name"]: check for check in report["checks"]}


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch, tmp_path):
    monkeypatch.delenv("MEMEDIT_KERNELS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_healthy():
    healthy, checks = examined()
    assert healthy
    assert checks["model smollm2-135m"]["level"] == "note"
    assert "memedit models pull smollm2-135m" in checks["model smollm2-135m"]["remedy"]
    for name in ("python", "torch", "transformers", "triton", "kernels", "cache", "disk", "store"):
        assert checks[name]["level"] == "ok"


def test_text_names_the_remedy(monkeypatch):
    monkeypatch.setenv("MEMEDIT_KERNELS", "fast")
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "-> Set it to auto, reference or triton" in result.stdout
    assert "not healthy" in result.stdout


def test_triton_without_a_gpu_is_wrong(monkeypatch):
    monkeypatch.setenv("MEMEDIT_KERNELS", "triton")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    healthy, checks = examined()
    assert not healthy
    assert "on the CPU" in checks["kernels"]["found"]
    assert "unset it" in checks["kernels"]["remedy"]


@pytest.mark.parametrize(("choice", "computed"), [("stored", "bf16"), ("float32", "fp32")])
def test_says_in_which_type_models_compute(monkeypatch, choice, computed):
    monkeypatch.setenv("MEMEDIT_DTYPE", choice)
    _, checks = examined()
    assert checks["arithmetic"]["found"] == f"bf16 models compute in {computed} (MEMEDIT_DTYPE={choice})"


def test_an_unknown_type_to_compute_in_is_wrong(monkeypatch):
    monkeypatch.setenv("MEMEDIT_DTYPE", "bf16")
    healthy, checks = examined()
    assert not healthy
    assert "MEMEDIT_DTYPE: got 'bf16'" in checks["arithmetic"]["found"]
    assert "unset it" in checks["arithmetic"]["remedy"]


def test_missing_package_is_wrong(monkeypatch):
    from importlib import metadata

    true_version = metadata.version

    def version(name):
        if name == "gguf":
            raise metadata.PackageNotFoundError(name)
        return (
            "0.25.1" if name == "safetensors" else "4.57.0" if name == "transformers" else true_version(name)
        )

    monkeypatch.setattr(metadata, "version", version)
    healthy, checks = examined()
    assert not healthy
    assert checks["gguf"]["remedy"] == "pip install 'gguf>=0.10'"
    assert checks["transformers"]["found"] == "4.57.0, too old"
    assert checks["safetensors"]["level"] == "ok"


def test_full_disk_is_wrong(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 9, 1_000_000))
    healthy, checks = examined()
    assert not healthy
    assert checks["disk"]["found"].startswith("1 MB free")


def test_damaged_model_is_wrong():
    named_models.model_folder("smollm2-135m").mkdir(parents=True)
    healthy, checks = examined()
    assert not healthy
    assert "damaged" in checks["model smollm2-135m"]["found"]


def test_sound_and_damaged_store(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with sqlite3.connect(store / "journal.sqlite") as connection:
        connection.execute("CREATE TABLE edits (id TEXT)")
    connection.close()
    healthy, checks = examined("--store", str(store))
    assert healthy
    assert "journal sound" in checks["store"]["found"]
    (store / "journal.sqlite").write_bytes(b"no database" * 100)
    healthy, checks = examined("--store", str(store))
    assert not healthy
    assert checks["store"]["level"] == "wrong"
