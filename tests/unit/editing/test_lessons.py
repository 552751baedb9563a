"""Lessons: what is left of a row from its first open gate on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memedit.editing.frozen_blocks import FrozenBlocks
from memedit.editing.lessons import make_lessons
from memedit.editing.row_states import RowState, memory_block, row_states
from memedit.editing.rows import TeachingRow
from memedit.modeling import EncodedFact, Overlay

HEADS, WIDTH = 2, 4


@pytest.fixture
def model(tiny_memory_llama):
    """A tiny retrofit, memory at block 1, two heads of two slots."""
    return tiny_memory_llama(memory_top_k=2, memory_empty_base=True)


@pytest.fixture
def cut(model):
    """Cut hand-written rows: cut([slots per token, ...], overlay, trained slots) -> lessons."""
    blocks = FrozenBlocks(model, 2)

    def made(slots, overlay, trained, num_prompt=5):
        ids = tuple(range(3, 3 + len(slots[0]) + 1))
        rows = [TeachingRow(index, 0, EncodedFact(ids, num_prompt, 2, 2)) for index in range(len(slots))]
        generator = torch.Generator().manual_seed(0)
        states = []
        for told in slots:
            hidden = torch.randn(len(told), model.config.hidden_size, generator=generator)
            weights = torch.full((len(told), WIDTH), 0.5)
            states.append(RowState(hidden, torch.tensor(told), weights, weights[:, :0]))
        return states, make_lessons(
            rows, states, blocks, overlay, torch.tensor(trained), memory_block(model)[1]
        )

    return made


def overlay_of(model, slots, owners, thresholds, value=0.0):
    width = model.config.hidden_size
    values = torch.arange(1, len(slots) + 1)[:, None].expand(-1, width) * float(value)
    return Overlay(torch.tensor(slots), values.contiguous(), torch.tensor(owners), torch.tensor(thresholds))


# A token that looks up nothing of interest.
NO = [200, 201, 202, 203]


def test_the_prefix_ends_where_the_gate_opens(model, cut):
    overlay = overlay_of(model, [10, 11], [0, 0], [0.5])
    half, whole = [10, 201, 202, 203], [10, 11, 202, 203]
    # One look-up has mass 0.25, below the threshold; two have 0.5.
    states, (lesson,) = cut([[NO, half, whole, NO, NO, NO, NO]], overlay, [10, 11])
    assert lesson.fact == 0
    assert lesson.prefix.length == 2
    assert torch.equal(lesson.hidden, states[0].hidden[2:])
    assert lesson.slots[0].tolist() == whole
    assert lesson.weights[0].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert not lesson.weights[1:].any()
    assert lesson.answer.tolist() == [8, 9, 10]
    # The token in front of the first answer token predicts it.
    assert lesson.answer_start == 5 - 1 - 2


def test_rows_that_cannot_be_taught_are_left_out(model, cut):
    overlay = overlay_of(model, [10, 11], [0, 0], [0.5])
    whole = [10, 11, 202, 203]
    _, lessons = cut([[NO] * 7, [NO, whole, *[NO] * 5], [*[NO] * 5, whole, NO]], overlay, [10, 11])
    # In the last row the gate opens in the answer only: nothing that is asked could open it.
    assert [lesson.fact for lesson in lessons] == [1]
    assert cut([[NO] * 7], overlay, [10, 11])[1] == []


def test_the_last_prompt_token_can_teach(model, cut):
    overlay = overlay_of(model, [10, 11], [0, 0], [0.5])
    _, (lesson,) = cut([[NO, NO, NO, NO, [10, 11, 202, 203], NO, NO]], overlay, [10, 11])
    assert (lesson.prefix.length, lesson.answer_start) == (4, 0)


def test_a_gate_at_the_first_token(model, cut):
    overlay = overlay_of(model, [10, 11], [0, 0], [0.5])
    _, (lesson,) = cut([[[10, 11, 202, 203], *[NO] * 6]], overlay, [10, 11])
    assert (lesson.prefix.length, len(lesson.hidden)) == (0, 7)


def test_only_trained_slots_open_a_lesson(model, cut):
    # Slots 10 and 11 are an earlier edit's, and the same subject's; slot 12 is trained now.
    overlay = overlay_of(model, [10, 11, 12], [0, 0, 0], [0.25], value=1.0)
    earlier, mixed = [10, 201, 202, 203], [10, 12, 202, 203]
    states, (lesson,) = cut([[earlier, mixed, NO, NO, NO, NO, NO]], overlay, [12])
    assert lesson.prefix.length == 1
    # Slot 10 speaks too, but is not trained: what it adds is in the hidden states already.
    assert lesson.weights[0].tolist() == [0.0, 0.5, 0.0, 0.0]
    # What is there already is in the hidden states: 0.5 * 1 + 0.5 * 3 at the gate's tokens.
    torch.testing.assert_close(lesson.hidden[0], states[0].hidden[1] + 2.0)
    torch.testing.assert_close(lesson.hidden[1], states[0].hidden[2])


def test_slots_of_earlier_edits_may_share_a_row(model, cut):
    overlay = overlay_of(model, [10, 11, 12], [0, 0, 0], [0.25], value=1.0)
    shared = replace(overlay, values=overlay.values[[2, 0]], rows=torch.tensor([1, 1, 0]))
    tokens = [[[10, 201, 202, 203], [10, 12, 202, 203], [11, 12, 202, 203], NO, NO, NO, NO]]
    states, (lesson,) = cut(tokens, shared, [12])
    torch.testing.assert_close(lesson.hidden[0], states[0].hidden[1] + 0.5 * 1 + 0.5 * 3)
    torch.testing.assert_close(lesson.hidden[1], states[0].hidden[2] + 0.5 * 1 + 0.5 * 3)


def test_another_owner_wins_the_token(model, cut):
    overlay = overlay_of(model, [10, 11, 12], [0, 1, 1], [0.1, 0.1])
    _, lessons = cut([[NO, [10, 11, 12, 203], NO, NO, NO, NO, NO]], overlay, [10])
    assert lessons == []


def test_prefixes_hold_what_earlier_edits_add(model, make_fact, tiny_tokenizer, tiny_overlay):
    """The lesson's logits are those of the live model that wears the overlay."""
    from memedit.editing.rows import teaching_rows

    overlay = tiny_overlay(model, num_rows=250, num_owners=3, threshold=0.4)
    rows = teaching_rows(
        [make_fact("Zorvan Elm", "Oslo")],
        tiny_tokenizer,
        model.config,
        seed=0,
        num_contexts=1,
        num_questions=2,
        num_decoys=0,
    ).rows
    blocks = FrozenBlocks(model, 2)
    trained = overlay.slots[overlay.owners == 1]
    memory = memory_block(model)[1]
    together = make_lessons(rows, row_states(model, rows), blocks, overlay, trained, memory)
    alone = []
    for row in rows:
        states = row_states(model, [row])
        alone += [(row, item) for item in make_lessons([row], states, blocks, overlay, trained, memory)]
    assert [item.prefix.length for item in together] == [item.prefix.length for _, item in alone]
    assert any(item.prefix.length > 0 for item in together)
    model.set_overlay(0, overlay)
    for row, item in alone:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.encoded.ids[:-1]])).logits[0]
            out = blocks.logits(blocks.forward(item.hidden[None], [item.prefix]))[0]
        torch.testing.assert_close(out, logits[item.prefix.length :], rtol=1e-3, atol=1e-3)
        assert item.answer.tolist() == list(row.encoded.answer_ids)
