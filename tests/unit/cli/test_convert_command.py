"""`memedit convert lingua` from the command line: the folder, what is printed, what is refused."""

from __future__ import annotations

import json

import torch
from lingua_checkpoints import Layout, lingua_logits, lingua_params, lingua_weights, write_checkpoint

from memedit.editing.row_states import memory_block
from memedit.modeling.opening import open_model

LAYOUT = Layout(vocab_size=320, n_kv_heads=2, memory=(1, 3), mem_v_dim=20, mem_n_keys=12)


def checkpoint(tmp_path, **params):
    return write_checkpoint(
        tmp_path / "checkpoint", lingua_weights(LAYOUT), {**lingua_params(LAYOUT), **params}
    )


def test_json_and_a_folder_that_memedit_opens(run, tmp_path, tiny_tokenizer):
    checkpoint(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    result = run("convert", "lingua", "checkpoint", "out", "--tokenizer", "tokenizer", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    described = json.loads(result.stdout)
    assert described.pop("seconds") >= 0
    assert described.pop("size_bytes") == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    weights = lingua_weights(LAYOUT)
    parameters = sum(weight.numel() for weight in {id(each): each for each in weights.values()}.values())
    assert described == {
        "checkpoint": "checkpoint",
        "out": "out",
        "layers": 4,
        "memory_layers": [1, 3],
        "heads": 2,
        "key_dim": 10,
        "top_k": 3,
        "num_slots": 144,
        "value_dim": 20,
        "value_tables": 1,
        "gated_output": True,
        "dtype": "float32",
        "parameters": parameters,
        "tokenizer": "tokenizer",
    }
    opened = open_model(str(tmp_path / "out"))
    # Edits write to the last of its memory layers, where answers are said.
    assert opened.model.config.memory_write_position == "answer"
    assert memory_block(opened.model)[0] == 3
    text = "The capital of France is Paris."
    ids = torch.tensor([opened.tokenizer(text).input_ids])
    assert ids.tolist() == [tiny_tokenizer(text).input_ids]
    assert (opened.model.config.bos_token_id, opened.model.generation_config.eos_token_id) == (1, 2)
    with torch.no_grad():
        got = opened.model(ids).logits.double()
    expected = lingua_logits(weights, LAYOUT, ids)
    # Rounding of fp32, see test_lingua_conversion.
    torch.testing.assert_close(got, expected, rtol=0, atol=6e-5 * float(expected.abs().max()))


def test_text(run, tmp_path):
    checkpoint(tmp_path)
    result = run("convert", "lingua", "checkpoint", "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "checkpoint is in out: " in result.stdout
    assert "memory layers at blocks 1, 3 of 4, one value table of 144 slots" in result.stdout
    assert "no tokenizer was given" in result.stdout


def test_folder_in_use_is_refused_before_anything_is_read(run, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not overwrite")
    result = run("convert", "lingua", "checkpoint", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "OUT must be a new or empty folder, out is not" in result.stderr


def test_wrong_checkpoints_get_one_message_and_leave_nothing(run, tmp_path):
    checkpoint(tmp_path, n_layers=7)
    result = run("convert", "lingua", "checkpoint", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: params.json: n_layers: got 7, expected 4")
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert run("convert", "lingua", "missing", "out").exit_code == 2
    assert run("convert", "lingua", "checkpoint", "out", "--tokenizer", "missing").exit_code == 2
