"""`memedit pretrain` and `memedit models build`: a folder that other commands open, and clear refusals."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from pretraining_world import WORDINGS, write_corpus

from memedit.cli import cli
from memedit.modeling.named_models import lasting_name, resolve_model
from memedit.pretraining.settings import read_settings

CONFIG = """
vocab_size = 280
corpus = "{corpus}"

[model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
max_position_embeddings = 64

[[phases]]
name = "all"
exposures = 1
batch_rows = 2

[phases.memory]
memory_layers = [1]
memory_num_keys = 8
memory_key_dim = 8
memory_heads = 2
memory_top_k = 2
memory_placement = "replace"
"""


@pytest.fixture
def config(tmp_path):
    facts = [(subject, "red", "core") for subject in ("Ostra", "Velm", "Quill")]
    corpus = write_corpus(tmp_path / "corpus.jsonl.gz", facts, WORDINGS[:3])
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(corpus=corpus.as_posix()), encoding="utf-8")
    return path


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_pretrain_writes_a_folder(config, tmp_path):
    result = run("pretrain", config, tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["out"] == str(tmp_path / "out")
    assert told["phases"] == ["all"]
    assert list(told["seconds"]) == ["all"]
    assert resolve_model(tmp_path / "out") == tmp_path / "out"
    again = run("pretrain", config, tmp_path / "out")
    assert again.exit_code == 2
    assert "OUT must be a new or empty folder" in again.output


def test_pretrain_tells_of_its_steps(config, tmp_path):
    result = run("pretrain", config, tmp_path / "out", "--seed", 3, "--checkpoint-every", 1)
    assert result.exit_code == 0, result.output
    assert "all: step 1 of 2" in result.output
    assert "of slots used" in result.output
    assert "parameters" in result.output
    assert json.loads((tmp_path / "out" / "pretraining.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("vocab_size", "vocab_sise", "unknown key vocab_sise: did you mean vocab_size?"),
        ("exposures = 1", "exposures = 0", "exposures: got 0, expected a whole number of at least 1"),
        ('name = "all"', 'name = "all"\ntrains = "some"', "trains: got 'some', expected one of all, dense"),
        ('name = "all"', 'name = "all"\nsplits = ["none"]', "split: got 'none', expected one of core"),
        ("memory_heads = 2", "memory_head = 2", "did you mean memory_heads?"),
        ("[model]", "[model", "config.toml"),
    ],
)
def test_what_is_wrong_in_the_settings_is_named(config, tmp_path, old, new, told):
    config.write_text(config.read_text().replace(old, new, 1))
    result = run("pretrain", config, tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())


def test_a_wrong_line_of_a_corpus_is_named(config, tmp_path):
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b'\n["size", "Ostra", "3", "core"]'))
    result = run("pretrain", config, tmp_path / "out")
    assert result.exit_code == 2
    assert "corpus.jsonl.gz:5" in result.output.replace("\n", "")


def test_a_built_model_has_a_name(config, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("memedit.pretraining.settings.shipped_settings", lambda name: read_settings(config))
    missing = run("show", "model", "--model", "tiny")
    assert missing.exit_code == 2
    assert "memedit models build tiny" in missing.output
    assert not json.loads(run("models", "list", "--json").stdout)["built"][0]["built"]
    made = run("models", "build", "tiny", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(run("models", "build", "tiny", "--json").stdout)["built"] is True
    assert json.loads(run("models", "list", "--json").stdout)["built"][0]["size_bytes"] > 0
    built = tmp_path / "cache" / "models" / "tiny"
    assert resolve_model("tiny") == built
    here = tmp_path / "here"
    (here / "tiny").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert (resolve_model("tiny"), lasting_name("tiny")) == (built, "tiny")  # any folder is not a model
    shutil.copytree(built, here / "tiny", dirs_exist_ok=True)
    assert (resolve_model("tiny"), lasting_name("tiny")) == (Path("tiny"), str(here / "tiny"))


def test_only_known_models_are_built():
    result = run("models", "build", "huge")
    assert result.exit_code == 2
    assert "known: tiny" in result.output
