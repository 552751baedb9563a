"""A model saved for use without memedit: loads with transformers alone and says the same, to the bit."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_tiny import build_overlay, build_tiny_memory_llama
from memedit_kernels.product_key_topk import product_key_topk
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, StaticCache

from memedit.errors import UsageError
from memedit.modeling import MemoryLlamaConfig, MemoryLlamaForCausalLM, load_memory_llama, model_fingerprint
from memedit.modeling.portable import configuration_memory_llama as portable
from memedit.modeling.portable import modeling_memory_llama as code
from memedit.modeling.portable.modeling_memory_llama import best_slots
from memedit.modeling.portable_folder import CODE_FILES, memory_defaults, require_portable, save_portable

IDS = (torch.arange(3, 48).view(3, 15) * 11) % 300 + 3
MASK = torch.ones_like(IDS)
MASK[0, :6] = 0
MASK[1, :1] = 0

# In the process that this starts, neither name can be imported, wherever it lies.
CHILD = Path(__file__).with_name("portable_child.py")

RETROFIT = {"memory_empty_base": True, "memory_query_window": 4, "memory_query_norm": "halves"}
SHAPES = {
    "retrofit": RETROFIT,
    "window 1": {"memory_empty_base": True},
    "retrofit, two layers": {"memory_empty_base": True, "memory_layers": [1, 2], "memory_query_window": 3},
    "base table": {"memory_layers": [1, 2], "memory_query_window": 3},
    "two tables": {"memory_layers": [0, 3], "memory_shared_table": False, "memory_num_keys": 23},
    "replacing, gated output": {
        "memory_layers": [1, 2],
        "memory_placement": "replace",
        "memory_gated_output": True,
        "memory_value_dim": 20,
    },
    "output projection": {"memory_output_projection": True, "memory_value_dim": 31},
    "layer norm": {"memory_query_norm": "layer"},
    "batch norm": {"memory_query_norm": "batch"},
    "qk norm": {"memory_query_norm": "qk"},
    "many keys": {"memory_num_keys": 300, "memory_top_k": 9, "memory_heads": 3},
}
OTHERS = ("nothing written", "experts", "retrofit in bf16", "base table in bf16")


@torch.no_grad()
def said_here(model):
    """What the child process computes, by memedit's own model."""
    settings = {"attention_mask": MASK, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 2}
    settings["do_sample"] = False
    return {
        "logits": model(IDS, attention_mask=MASK).logits,
        "unpadded": model(IDS[2:]).logits,
        "greedy": model.generate(IDS, **settings),
        "uncached": model.generate(IDS, use_cache=False, **settings),
        "beams": model.generate(IDS, num_beams=2, **settings),
    }


def write(model, *, shared=False, discriminants=False):
    """Write rows into every table of a model; enough of them that gates open and stay shut."""
    num_rows = model.config.num_slots * 3 // 4
    for index in range(len(model.memory_tables())):
        overlay = build_overlay(model, seed=index, num_rows=num_rows, num_owners=5, threshold=0.15)
        if shared:
            rows = torch.arange(overlay.num_rows) % 9
            overlay = replace(overlay, values=overlay.values[:9], rows=rows)
        if discriminants:
            width = model.config.memory_heads * model.config.memory_key_dim + 1
            overlay = replace(overlay, discriminants=torch.randn(5, width))
        model.set_overlay(index, overlay)
    return model


def lively(model):
    """Give normalisations other numbers than they begin with, as training would."""
    with torch.no_grad():
        for layer in model.memory_layers().values():
            for tensor in (*layer.norm.parameters(), *layer.norm.buffers()):
                if tensor.is_floating_point():
                    tensor.add_(torch.rand(tensor.shape))
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of every shape, some in bf16, with rows of every kind written to them."""
    made = {}
    for name, fields in SHAPES.items():
        kinds = {"shared": "retrofit" in name, "discriminants": "retrofit" in name or "keys" in name}
        made[name] = write(lively(build_tiny_memory_llama(**fields)), **kinds)
    made["nothing written"] = build_tiny_memory_llama(**RETROFIT)
    made["experts"] = lively(build_tiny_memory_llama(memory_layers=[1, 3], memory_variant="peer"))
    for name in ("retrofit", "base table"):
        folder = tmp_path_factory.mktemp("wide")
        made[name].save_pretrained(folder)
        made[f"{name} in bf16"] = load_memory_llama(folder, dtype=torch.bfloat16)
    return made


@pytest.fixture(scope="module")
def elsewhere(models, tiny_tokenizer, tmp_path_factory):
    """Where each model was exported to, what it said there, and what the process told, by name."""
    root = tmp_path_factory.mktemp("elsewhere")
    places = {name: root / f"place{number}" for number, name in enumerate(models)}
    for name, place in places.items():
        (place / "model").mkdir(parents=True)
        save_portable(models[name], tiny_tokenizer, place / "model")
        save_file({"ids": IDS, "mask": MASK}, place / "given.safetensors")
    caches = {"HF_HOME": str(root / "hf"), "HF_MODULES_CACHE": str(root / "modules")}
    environment = {**os.environ, **caches, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    # -I leaves out PYTHONPATH and the script's folder.
    command = [sys.executable, "-I", str(CHILD), *map(str, places.values())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name: (
            place / "model",
            load_file(place / "found.safetensors"),
            json.loads((place / "told.json").read_text()),
        )
        for name, place in places.items()
    }


@pytest.mark.parametrize("name", [*SHAPES, *OTHERS])
def test_says_the_same_to_the_bit_without_memedit(models, elsewhere, tiny_tokenizer, name):
    model, (_, found, told) = models[name], elsewhere[name]
    assert (told["wrong"], told["modules"]) == ([], [])
    assert told["config"].endswith(".configuration_memory_llama")
    assert told["model"].endswith(".modeling_memory_llama")
    assert told["dtype"] == str(model.dtype)
    assert told["tokens"] == tiny_tokenizer("The city of Paris")["input_ids"]
    expected = said_here(model)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_written_is_in_the_export(models, elsewhere, name):
    _, found, _ = elsewhere[name]
    model = models[name]
    overlays = [model.overlay(index) for index in range(len(model.memory_tables()))]
    try:
        for index in range(len(overlays)):
            model.set_overlay(index, None)
        assert not torch.equal(said_here(model)["logits"], found["logits"])
    finally:
        for index, overlay in enumerate(overlays):
            model.set_overlay(index, overlay)


def test_memedit_opens_the_export_as_its_own(models, elsewhere):
    folder, found, _ = elsewhere["retrofit"]
    for loaded in (load_memory_llama(folder), AutoModelForCausalLM.from_pretrained(folder).eval()):
        assert type(loaded) is MemoryLlamaForCausalLM
        assert model_fingerprint(loaded) == model_fingerprint(models["retrofit"])
        with torch.no_grad():
            assert torch.equal(loaded(IDS, attention_mask=MASK).logits, found["logits"])


def test_the_code_knows_every_field_with_its_default():
    assert memory_defaults(portable.MemoryLlamaConfig) == memory_defaults(MemoryLlamaConfig)
    assert portable.CHOICES == {
        "memory_placement": ("parallel", "replace"),
        "memory_query_norm": ("none", "halves", "layer", "batch", "qk"),
        "memory_variant": ("values", "peer"),
        "memory_write_position": ("subject", "answer"),
    }


def test_a_value_that_the_code_does_not_know_is_refused(tiny_memory_llama, monkeypatch):
    config = tiny_memory_llama(memory_query_norm="halves").config
    require_portable(config)
    monkeypatch.setitem(portable.CHOICES, "memory_query_norm", ("none",))
    with pytest.raises(UsageError, match=r"memory_query_norm: got 'halves', .* knows none\n"):
        require_portable(config)


@pytest.mark.parametrize(("given", "refused"), [("x", False), ("y", True)])
def test_a_field_that_the_code_does_not_know_is_refused_unless_it_says_nothing(given, refused):
    class NewerConfig(MemoryLlamaConfig):
        memory_novelty: str = "x"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("memedit.modeling.configuration.refuse_unknown_memory_fields", lambda given: None)
        config = NewerConfig(memory_novelty=given)
        if not refused:
            require_portable(config)
            return
        with pytest.raises(UsageError, match="memory_novelty: got 'y', an option unknown"):
            require_portable(config)


def test_a_folder_with_a_field_of_later_code_is_refused():
    with pytest.raises(ValueError, match=r"unknown fields \['memory_novelty'\]"):
        portable.MemoryLlamaConfig(memory_novelty=3)
    with pytest.raises(ValueError, match="memory_query_norm: got 'new', expected one of none, "):
        portable.MemoryLlamaConfig(memory_query_norm="new")


def test_the_code_imports_torch_and_transformers_only():
    # A neighbour may be imported where it goes along.
    neighbours = {Path(name).stem for name in CODE_FILES}
    allowed = {"torch", "transformers", "typing", "dataclasses", *neighbours}
    for name in CODE_FILES:
        tree = ast.parse((Path(portable.__file__).parent / name).read_text(encoding="utf-8"))
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [
            each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names
        ]
        assert {each.split(".")[0] for each in imported} <= allowed
        # transformers' loader follows imports of neighbours, of no deeper level.
        assert all(node.level <= 1 for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))


def drawn_queries(num_tokens, heads, half, num_keys, *, levels=None):
    queries, sub_keys = torch.randn(num_tokens, heads, 2 * half), torch.randn(heads, 2, num_keys, half)
    if levels:  # few different numbers: most scores tie
        queries, sub_keys = queries.mul(levels).round() / levels, sub_keys.mul(levels).round() / levels
    return queries, sub_keys


@pytest.mark.parametrize("levels", [None, 1], ids=["drawn", "ties"])
@pytest.mark.parametrize(
    ("num_tokens", "heads", "half", "num_keys", "k"),
    [
        (0, 2, 4, 16, 4),
        (1, 1, 1, 1, 1),
        (7, 3, 5, 37, 9),
        (3000, 8, 3, 64, 4),
        (63, 2, 8, 130, 128),
        (5, 4, 64, 512, 16),
    ],
)
def test_slots_are_those_of_the_kernel(num_tokens, heads, half, num_keys, k, levels):
    queries, sub_keys = drawn_queries(num_tokens, heads, half, num_keys, levels=levels)
    slots, scores = best_slots(queries, sub_keys, k)
    expected_slots, expected_scores = product_key_topk(queries, sub_keys, k)
    assert torch.equal(slots, expected_slots)
    assert torch.equal(scores, expected_scores)


def test_sums_that_differ_below_double_precision_are_told_apart():
    # 1 + a and 1 + b are one number in fp64, and a > b: the higher slot comes first.
    first = torch.tensor([[[1.0, 1.0]]])
    a, b = 1e-17, 5e-18
    sub_keys = torch.tensor([[[[1.0]], [[b]]]])
    sub_keys = torch.tensor([[[[1.0], [0.0]], [[b], [a]]]])
    slots, _ = best_slots(first, sub_keys, 2)
    assert slots.flatten().tolist() == [1, 0]
    assert torch.equal(slots, product_key_topk(first, sub_keys, 2)[0])


def test_a_new_model_of_the_code_starts_with_an_overlay_that_changes_nothing(models):
    config = portable.MemoryLlamaConfig(**models["retrofit"].config.to_dict())
    model = code.MemoryLlamaForCausalLM(config).eval()
    (table,) = model.model.memory_tables
    assert set(table.overlay_owners.tolist()) == {-1}
    assert not table.overlay_values.any()
    with torch.no_grad():
        written = model(IDS).logits
        table.overlay_slots = None
        assert torch.equal(model(IDS).logits, written)


def test_caches_that_cannot_hold_the_window_are_refused(models):
    config = portable.MemoryLlamaConfig(**models["retrofit"].config.to_dict())
    model = code.MemoryLlamaForCausalLM(config).eval()
    with pytest.raises(ValueError, match="got StaticCache, expected a dynamic cache"):
        model(IDS, past_key_values=StaticCache(config=config, max_cache_len=32))
    with pytest.raises(ValueError, match=r"attention_mask: got .*, expected \[batch, time\]"):
        model(IDS, attention_mask=torch.ones(3, 1, 15, 15))
