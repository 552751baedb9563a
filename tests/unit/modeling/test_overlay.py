"""What an overlay refuses, and what a table of zeros costs with one."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from memedit.modeling import MemoryLlamaConfig, MemoryTable, Overlay

GOOD = {
    "slots": torch.tensor([1, 4]),
    "values": torch.zeros(2, 3),
    "owners": torch.tensor([0, -1]),
    "thresholds": torch.zeros(1),
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slots", torch.tensor([4, 1])),
        ("slots", torch.tensor([1, 1])),
        ("slots", torch.tensor([-1, 1])),
        ("slots", torch.tensor([1, 4], dtype=torch.int32)),
        ("values", torch.zeros(3, 3)),
        ("values", torch.zeros(2, 3, dtype=torch.bfloat16)),
        ("owners", torch.tensor([0])),
        ("owners", torch.tensor([0, 1])),
        ("owners", torch.tensor([0, -2])),
        ("thresholds", torch.zeros(1, dtype=torch.float64)),
        ("owner_names", ("a", "b")),
        ("rows", torch.tensor([0])),
        ("rows", torch.tensor([0, 2])),
        ("rows", torch.tensor([-1, 0])),
        ("rows", torch.tensor([0, 1], dtype=torch.int32)),
        ("discriminants", torch.zeros(2, 5)),
        ("discriminants", torch.zeros(1, 1)),
        ("discriminants", torch.zeros(1, 5, dtype=torch.float16)),
    ],
)
def test_overlay_refuses_what_does_not_fit(field, value):
    assert Overlay(**GOOD).num_rows == 2
    with pytest.raises(ValueError, match=f"^{field}: "):
        Overlay(**{**GOOD, field: value})


def test_slots_may_share_values():
    shared = Overlay(**{**GOOD, "values": torch.tensor([[1.0, 2.0, 3.0]]), "rows": torch.tensor([0, 0])})
    assert shared.num_rows == 2
    assert shared.values_at(torch.tensor([[1], [0]])).tolist() == [[[1.0, 2.0, 3.0]]] * 2
    own = Overlay(**{**GOOD, "values": torch.eye(2)})
    assert own.values_at(torch.tensor([1, 0])).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_an_empty_table_of_2_to_the_24_slots_costs_no_value_memory():
    config = MemoryLlamaConfig(
        hidden_size=576,
        num_hidden_layers=2,
        memory_layers=[1],
        memory_num_keys=4096,
        memory_heads=4,
        memory_top_k=16,
        memory_placement="parallel",
        memory_empty_base=True,
    )
    slots = torch.randint(0, 2**24, (32, 64))
    written = slots[0].unique()
    overlay = Overlay(
        written, torch.randn(len(written), 576), torch.zeros(len(written), dtype=torch.int64), torch.zeros(1)
    )
    weights = torch.full(slots.shape, 1 / 16)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        table = MemoryTable(config, 0)
        table.set_overlay(overlay)
        bags = table(slots, weights, weights[:, :0])
    events = recorded.profiler.kineto_results.events()
    allocated = sum(max(0, event.nbytes()) for event in events if event.name() == "[memory]")
    assert table.num_slots == 2**24
    assert bags[0].any()
    # All that was ever allocated, held or not: the values would be 39 GB, the bags are 74 KB.
    assert allocated < 2 * 2**20
