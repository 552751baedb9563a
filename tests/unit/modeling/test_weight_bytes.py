"""Bytes by part against the model and against the file that it is stored in."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from memedit.modeling.accounting import model_account
from memedit.modeling.arithmetic import computing
from memedit.modeling.weight_bytes import OVERLAY, weight_bytes


def stored_bytes(folder):
    """Bytes of each tensor in a safetensors file, read off its header."""
    with (folder / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}


FIELDS = [
    {},
    {"memory_layers": [1, 2], "memory_placement": "replace", "memory_gated_output": True},
    {"memory_variant": "peer", "memory_query_norm": "batch"},
    {"memory_layers": [0, 3], "memory_shared_table": False, "memory_query_norm": "qk"},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_parts_are_those_of_the_account(tiny_memory_llama, fields):
    model = tiny_memory_llama(**fields)
    sizes = weight_bytes(model)
    for part in model_account(model.config, 1).parts:
        assert (sizes[part.name].parameters if part.name in sizes else 0) == part.parameters, part.name


@pytest.mark.parametrize("fields", FIELDS)
def test_disk_is_the_file(tiny_memory_llama, tmp_path, fields):
    model = tiny_memory_llama(**fields).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    sizes = weight_bytes(model)
    assert sum(size.on_disk for size in sizes.values()) == sum(stored_bytes(tmp_path).values())


def test_written_rows_are_a_part(tiny_memory_llama, tiny_overlay, tmp_path):
    model = tiny_memory_llama(memory_empty_base=True)
    model.set_overlay(0, tiny_overlay(model, num_rows=50, num_owners=5))
    model.save_pretrained(tmp_path)
    sizes = weight_bytes(model)
    # Slots, rows of 48 numbers and owners of 50 rows; 5 thresholds.
    assert sizes[OVERLAY].in_memory == sizes[OVERLAY].on_disk == 50 * (8 + 4 * 48 + 8) + 5 * 4
    assert sizes[OVERLAY].parameters == 0
    assert "values" not in sizes
    assert sum(size.on_disk for size in sizes.values()) == sum(stored_bytes(tmp_path).values())


def test_widened_weights_are_stored_narrow(tiny_memory_llama, tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMEDIT_DTYPE", "float32")
    model = computing(tiny_memory_llama(llama=tiny_llama.to(torch.bfloat16)))
    sizes = weight_bytes(model)
    for name in ("embeddings", "attention", "ffn", "norms", "values"):
        assert sizes[name].in_memory == 2 * sizes[name].on_disk == 4 * sizes[name].parameters
    assert sizes["sub_keys"].in_memory == sizes["sub_keys"].on_disk == 4 * sizes["sub_keys"].parameters
    model.save_pretrained(tmp_path)
    assert sum(size.on_disk for size in sizes.values()) == sum(stored_bytes(tmp_path).values())
