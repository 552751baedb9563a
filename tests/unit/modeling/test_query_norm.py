"""Normalisation of queries: what it is in training, and that it lives through a folder and bf16."""

from __future__ import annotations

import pytest
import torch

from memedit.modeling import load_memory_llama

NORMS = ["none", "halves", "layer", "batch", "qk"]


def test_batch_norm_reads_the_batch_in_training_and_its_history_in_use(tiny_memory_llama):
    layer = tiny_memory_llama(memory_query_norm="batch").memory_layers()[1]
    hidden = 3 * torch.randn(4, 16, 48) + 1
    layer.train()
    queries = layer.route(hidden).queries
    torch.testing.assert_close(queries.mean(0), torch.zeros(32), rtol=0, atol=1e-5)
    torch.testing.assert_close(queries.var(0, correction=0), torch.ones(32), rtol=0, atol=1e-2)
    for _ in range(200):
        layer.route(hidden)
    layer.eval()
    torch.testing.assert_close(layer.route(hidden).queries, queries, rtol=0, atol=0.1)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_stay_fp32_and_come_back(tiny_memory_llama, tmp_path, norm):
    model = tiny_memory_llama(memory_query_norm=norm, memory_layers=[1, 2])
    with torch.no_grad():
        for layer in model.memory_layers().values():
            for part in layer.norm.parameters():
                part.copy_(torch.rand_like(part) + 0.5)
    model.save_pretrained(tmp_path)
    loaded = load_memory_llama(tmp_path, dtype=torch.bfloat16)
    for index, layer in loaded.memory_layers().items():
        kept = dict(model.memory_layers()[index].norm.named_parameters())
        for name, part in layer.norm.named_parameters():
            assert part.dtype == torch.float32
            assert torch.equal(part, kept[name])


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_reach_the_norm(tiny_memory_llama, norm):
    model = tiny_memory_llama(memory_query_norm=norm, memory_temperature=1.0)
    ids = torch.arange(3, 23).view(2, 10)
    model(ids, labels=ids).loss.backward()
    layer = model.memory_layers()[1]
    for part in (layer.sub_keys, layer.query_projection.weight, *layer.norm.parameters()):
        assert part.grad is not None
        assert part.grad.abs().sum() > 0
