"""What is no lingua memory checkpoint, or disagrees with itself, is refused and leaves nothing behind."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from lingua_checkpoints import Layout, lingua_params, lingua_weights, write_checkpoint

from memedit.errors import UsageError
from memedit.modeling.lingua.architecture import ffn_hidden_size
from memedit.modeling.lingua.conversion import convert_lingua

LAYOUT = Layout(n_layers=5, memory=(0, 2, 4), n_kv_heads=2)
TABLE = "layers.{}.feed_forward.values.weight"


@pytest.fixture
def refused(tmp_path):
    """Convert what is given, which must fail, and return what was said."""

    def convert(weights=None, params=None):
        write_checkpoint(
            tmp_path / "checkpoint",
            lingua_weights(LAYOUT) if weights is None else weights,
            lingua_params(LAYOUT) if params is None else params,
        )
        return said(tmp_path)

    return convert


def said(tmp_path):
    with pytest.raises(UsageError) as raised:
        convert_lingua(tmp_path / "checkpoint", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    return str(raised.value)


def test_missing_and_unknown_weights_are_all_listed(refused):
    weights = lingua_weights(LAYOUT)
    for name in ("norm.weight", "layers.3.feed_forward.w2.weight", "layers.2.feed_forward.value_proj.bias"):
        del weights[name]
    weights["layers.2.feed_forward.gating.weight"] = torch.zeros(1, 48)
    weights["layers.1.attention.q_norm.weight"] = torch.ones(12)
    message = refused(weights)
    assert (
        "missing weights: layers.2.feed_forward.value_proj.bias, layers.3.feed_forward.w2.weight, "
        "norm.weight; unknown weights: layers.1.attention.q_norm.weight, layers.2.feed_forward.gating.weight"
    ) in message
    assert "Nothing may be left out or left over" in message


def test_a_long_list_is_cut_and_counted(refused):
    weights = lingua_weights(LAYOUT) | {f"extra.{index:02}": torch.zeros(1) for index in range(25)}
    message = refused(weights)
    assert "extra.19 and 5 more" in message
    assert "extra.20" not in message


@pytest.mark.parametrize(
    ("name", "got", "expected"),
    [
        ("layers.3.attention.wk.weight", [26, 48], [24, 48]),
        ("layers.4.feed_forward.keys", [36, 4], [36, 5]),
        ("layers.2.feed_forward.swilu_projection.bias", [47], [48]),
        ("layers.1.feed_forward.w2.weight", [48, 129], [48, 128]),
        ("layers.2.feed_forward.values.weight", [80, 48], [81, 48]),
        ("output.weight", [96, 48], [97, 48]),
    ],
)
def test_another_shape_is_named(refused, name, got, expected):
    weights = lingua_weights(LAYOUT)
    weights[name] = torch.zeros(got)
    assert f"{name}: got shape {got}, expected {expected}" in refused(weights)


def test_tables_that_differ_name_their_layers(refused):
    weights = lingua_weights(LAYOUT)
    for layer in (2, 4):
        weights[TABLE.format(layer)] = weights[TABLE.format(0)].clone()
    weights[TABLE.format(4)][80, 47] += 1
    message = refused(weights)
    assert "of layers 4 differ from that of layer 0" in message
    assert '"mem_share_values": false' in message


def test_equal_numbers_of_another_type_or_sign_are_no_copies(refused):
    weights = lingua_weights(LAYOUT)
    weights[TABLE.format(0)][3, 5] = 0.0
    weights[TABLE.format(2)] = weights[TABLE.format(0)].clone()
    weights[TABLE.format(2)][3, 5] = -0.0
    weights[TABLE.format(4)] = weights[TABLE.format(0)].to(torch.bfloat16)
    assert "of layers 2, 4 differ from that of layer 0" in refused(weights)


def test_a_tied_output_that_differs(refused):
    message = refused(params={**lingua_params(LAYOUT), "weight_tying": True})
    assert "output.weight differs from tok_embeddings.weight" in message
    assert '"weight_tying": false' in message


def test_a_separate_table_that_is_missing(refused):
    weights, params = lingua_weights(LAYOUT), lingua_params(LAYOUT)
    del weights[TABLE.format(2)]
    params["productkey_args"]["mem_share_values"] = False
    assert f"missing weights: {TABLE.format(2)}" in refused(weights, params)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dim": 64}, "dim: got 64, expected 48, which tok_embeddings.weight tells"),
        ({"vocab_size": 100}, "vocab_size: got 100, expected 97"),
        ({"n_layers": 6}, "n_layers: got 6, expected 5"),
        ({"n_kv_heads": 4}, "n_kv_heads: got 4, expected 2, which layers.0.attention.wk.weight tells"),
        (
            {"n_heads": 5, "head_dim": 12},
            "n_heads: got 5, expected 4, which layers.0.attention.wq.weight tells",
        ),
        ({"head_dim": 14}, "layers.0.attention.wq.weight: got 48 rows, expected a multiple of 14"),
        ({"n_heads": 16}, "the width of a head is 3, expected an even number"),
        ({"n_heads": None}, "got neither n_heads nor head_dim"),
        ({"multiple_of": 100}, "ffn_dim_multiplier None and multiple_of 100: got 200, expected 128"),
        ({"ffn_dim_multiplier": 1.3}, "ffn_dim_multiplier 1.3 and multiple_of 8: got 168, expected 128"),
        ({"norm_eps": 0}, "norm_eps: got 0, expected a positive number"),
        ({"rope_theta": "big"}, "rope_theta: got 'big', expected a positive number"),
        ({"n_layers": True}, "n_layers: got True, expected a positive integer"),
        ({"weight_tying": 1}, "weight_tying: got 1, expected true or false"),
        ({"sliding_window": 256}, "sliding_window: got 256, expected none"),
        ({"norm_epsilon": 1e-6, "use_scaled_rope": True}, "unknown arguments: norm_epsilon, use_scaled_rope"),
        ({"productkey_args": None}, "productkey_args: got None, expected an object"),
    ],
)
def test_params_that_do_not_fit(refused, change, told):
    assert told in refused(params={**lingua_params(LAYOUT), **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layers": "0,2"}, "productkey_args.layers: got (0, 2), expected (0, 2, 4)"),
        ({"layers": [0, 2, 2, 4]}, 'got [0, 2, 2, 4], expected block indices, each once, like "4,12,20"'),
        ({"layers": "first"}, "layers: got 'first', expected block indices"),
        ({"mem_n_keys": 16}, "mem_n_keys: got 16, expected 9, which layers.0.feed_forward.keys tells"),
        ({"mem_heads": 4}, "mem_heads: got 4, expected 2"),
        ({"mem_k_dim": 20}, "mem_k_dim: got 20, expected 10"),
        ({"mem_v_dim": 24}, "mem_v_dim: got 24, expected 48"),
        ({"swilu_projection": False}, "swilu_projection: got False, expected True"),
        ({"mem_knn": None}, "mem_knn: got None, expected the number of slots per head"),
        ({"mem_knn": 10}, "memory_top_k: got 10, expected at most"),
        ({"mem_gated": True}, "mem_gated: got True, expected none"),
        ({"peer_variant": True}, "peer_variant: got True, expected none"),
        ({"is_enabled": False}, "is_enabled: got False, expected true"),
        ({"mem_kdim": 8}, "unknown arguments: productkey_args.mem_kdim"),
    ],
)
def test_memory_params_that_do_not_fit(refused, change, told):
    params = lingua_params(LAYOUT)
    params["productkey_args"].update(change)
    assert told in refused(params=params)


def test_misspelt_argument_is_answered_with_the_nearest(refused):
    params = lingua_params(LAYOUT)
    params["productkey_args"]["mem_nkeys"] = params["productkey_args"].pop("mem_n_keys")
    assert "productkey_args.mem_nkeys (did you mean mem_n_keys?)" in refused(params=params)


def test_rows_that_are_no_square(refused):
    weights = lingua_weights(LAYOUT)
    for layer in LAYOUT.memory:
        weights[TABLE.format(layer)] = torch.zeros(80, 48)
    assert "got 80 rows, expected 9**2 = 81" in refused(weights)


@pytest.mark.parametrize("name", ["query_mlps.1.weight", "query_mlps.1.running_mean", "norm.weight"])
def test_normalised_queries_are_refused_as_such(refused, name):
    weights = lingua_weights(LAYOUT)
    weights[f"layers.2.feed_forward.query_proj.{name}"] = torch.ones(20)
    message = refused(weights)
    assert "queries are normalised, or made by several matrices" in message
    assert f": layers.2.feed_forward.query_proj.{name}\n" in message
    assert "Only queries of one matrix without a norm can be converted as yet." in message


def test_no_memory_layer(refused):
    weights = {name: weight for name, weight in lingua_weights(LAYOUT).items() if "keys" not in name}
    assert "has no memory layer: expected layers.N.feed_forward.keys" in refused(weights)


def test_two_weights_of_one_name(refused):
    weights = lingua_weights(LAYOUT)
    weights["_orig_mod.norm.weight"] = weights["norm.weight"].clone()
    assert "norm.weight and _orig_mod.norm.weight are both norm.weight" in refused(weights)


@pytest.mark.parametrize(
    ("weight", "got"),
    [
        (torch.ones(48, dtype=torch.int64), "a tensor of torch.int64"),
        (torch.ones(48).to_sparse(), "a tensor of torch.float32"),
        ([1.0] * 48, "list"),
    ],
)
def test_other_kinds_of_weights(refused, weight, got):
    assert f"norm.weight: got {got}, expected a dense tensor" in refused({"norm.weight": weight})


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_executed(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", lingua_weights(LAYOUT), lingua_params(LAYOUT))
    touched = folder / "touched"
    stored = {"model": lingua_weights(LAYOUT), "optimizer": Malicious(touched)}
    torch.save(stored, folder / "consolidated.pth")
    assert "cannot be read as plain tensors" in said(tmp_path)
    assert not touched.exists()


def old_format(path):
    torch.save({"model": {}}, path, _use_new_zipfile_serialization=False)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    "damage",
    [old_format, cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(pickle.dumps({}))],
    ids=["old format", "cut short", "empty", "plain pickle"],
)
def test_damaged_weights(tmp_path, damage):
    folder = write_checkpoint(tmp_path / "checkpoint", lingua_weights(LAYOUT), lingua_params(LAYOUT))
    damage(folder / "consolidated.pth")
    assert "consolidated.pth cannot be read as plain tensors" in said(tmp_path)


def test_weights_that_lie_elsewhere(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", {}, lingua_params(LAYOUT))
    torch.save({"optim": {}, "state": {}}, folder / "consolidated.pth")
    assert "got ['optim', 'state'], expected the weights under \"model\"" in said(tmp_path)


@pytest.mark.parametrize("name", ["consolidated.pth", "params.json"])
def test_missing_file(tmp_path, name):
    folder = write_checkpoint(tmp_path / "checkpoint", lingua_weights(LAYOUT), lingua_params(LAYOUT))
    (folder / name).unlink()
    assert re.search(rf"CHECKPOINT: .* has no {re.escape(name)}", said(tmp_path))


@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON file"), ("[]", "got list, expected an object")])
def test_damaged_params(tmp_path, text, told):
    folder = write_checkpoint(tmp_path / "checkpoint", lingua_weights(LAYOUT), lingua_params(LAYOUT))
    (folder / "params.json").write_text(text)
    assert told in said(tmp_path)


def test_tokenizer_that_does_not_fit(tmp_path, tiny_tokenizer):
    folder = write_checkpoint(tmp_path / "checkpoint", lingua_weights(LAYOUT), lingua_params(LAYOUT))
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(UsageError, match=r"--tokenizer: got \d+ tokens, expected at most 97"):
        convert_lingua(folder, tmp_path / "out", tokenizer=folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"--tokenizer: .*empty holds no usable tokenizer"):
        convert_lingua(folder, tmp_path / "out", tokenizer=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dim", "multiplier", "multiple_of", "hidden"),
    # Llama 3's 8B and 70B, and Llama 2's 7B, as their papers and configurations have them.
    [
        (4096, 1.3, 1024, 14_336),
        (8192, 1.3, 4096, 28_672),
        (4096, None, 256, 11_008),
        (4096, None, None, 11_008),
    ],
)
def test_ffn_sizes_of_known_models(dim, multiplier, multiple_of, hidden):
    assert ffn_hidden_size(dim, multiplier, multiple_of) == hidden
