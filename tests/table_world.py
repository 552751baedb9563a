"""The small world with a living value table: what it knows of the new lands is in base rows, and only there.

What it knows of the old lands is in its dense part. So recall must fall for the one and stay for the other
when the table is taken away.
"""

from __future__ import annotations

import functools

import small_world
import torch

_STEPS, _RATE = 30, 0.3


def table_world():
    """The small world with base rows that hold the capitals of the new lands; a fresh copy."""
    opened = _blank()
    opened.model.memory_tables()[0].values.data.copy_(_trained_rows())
    return opened


@functools.cache
def table_facts():
    """What is in the table: capitals that the dense part alone never names."""
    from memedit.evaluation import generate_answers

    opened = _blank()
    asked = [small_world.PROMPT, small_world.HELD_OUT]
    prompts = [wording.format(land) for land in small_world.NEW_LANDS for wording in asked]
    said = [answer.text for answer in generate_answers(opened.model, opened.tokenizer, prompts)]
    facts = []
    for index, land in enumerate(small_world.NEW_LANDS):
        cities = [city for city in small_world.CITIES if city not in said[2 * index : 2 * index + 2]]
        facts.append(small_world.land_fact(land, cities[(5 * index + 2) % len(cities)]))
    return tuple(facts)


def _blank():
    """The retrofitted world with an empty table that may be filled."""
    from memedit.modeling import from_llama
    from memedit.modeling.opening import OpenedModel

    opened = small_world.opened_world()
    config = opened.model.config.to_dict()
    fields = {name: value for name, value in config.items() if name.startswith("memory_")}
    fields = {name: value for name, value in fields.items() if not name.startswith("memory_overlay")}
    model = from_llama(small_world.world_llama(), **{**fields, "memory_empty_base": False})
    for index, layer in model.memory_layers().items():
        layer.load_state_dict(opened.model.memory_layers()[index].state_dict())
    model.requires_grad_(requires_grad=False)
    model.memory_tables()[0].values.data.zero_()
    return OpenedModel("table-world", model, opened.tokenizer, opened.background)


@functools.cache
def _trained_rows():
    """Rows trained with Adagrad on every wording that is asked; the old lands stay as they are."""
    from memedit.modeling import encode_fact
    from memedit.modeling.row_tape import RowTape

    opened = _blank()
    (table,) = opened.model.memory_tables()
    table.tape, squares = RowTape(), torch.zeros(table.num_slots, 1)
    rows = [
        encode_fact(opened.tokenizer, opened.model.config, prompt, f" {fact.target}")
        for fact in (*table_facts(), *small_world.known_facts())
        for prompt in (fact.prompt, *fact.paraphrases, *fact.probes.paraphrases)
    ]
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    labels = torch.tensor(
        [[*[-100] * row.num_prompt, *row.answer_ids, *[-100] * (longest - len(row.ids))] for row in rows]
    )
    for _ in range(_STEPS):
        loss = opened.model(input_ids=ids, labels=labels).loss
        loss.backward()
        slots, gradient = table.tape.gradients()
        squares[slots] += gradient.square().mean(1, keepdim=True)
        table.values.data[slots] -= _RATE * gradient / squares[slots].sqrt().clamp(min=1e-8)
    return table.values.data.clone()
