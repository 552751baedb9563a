"""Background text: read, cut, written by the model itself; and how often it uses each slot."""

from __future__ import annotations

import json
import math

import pytest
import torch

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling.background import (
    DOCUMENT_TOKENS,
    SAMPLE_LOOKUPS,
    SAMPLE_PER_TOKEN,
    SAMPLE_TAIL,
    BackgroundStatistics,
    background_states,
    count_slots,
    documents,
    load_background,
    opening_sentences,
    read_background,
    save_background,
    self_written_text,
)


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfOne line,\r\nand its second.\r\n\r\n   \r\n\r\nAnother.\r\n\r\n")
    assert read_background(path) == ["One line,\nand its second.", "Another."]


def test_jsonl_is_read_line_by_line(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "Zürich"}\n\n{"text": "", "id": 3}\n{"text": "two"}\n', encoding="utf-8")
    assert read_background(path) == ["Zürich", "two"]


@pytest.mark.parametrize("bad", ['{"title": "x"}', "[1]", "3", "no JSON", '"text"', "null"])
def test_a_line_without_text_is_named(tmp_path, bad):
    path = tmp_path / "text.jsonl"
    path.write_text(f'{{"text": "fine"}}\n\n{bad}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"text\.jsonl:3: expected a JSON object with a text field"):
        read_background(path)


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": "b"}])
def test_text_must_be_text(tmp_path, value):
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": value}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"text\.jsonl:1"):
        read_background(path)


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two"}, ensure_ascii=False), encoding="utf-8")
    assert read_background(path) == ["one\u2028two"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", b""), ("a.txt", b" \n\n "), ("a.jsonl", b'{"text": " "}')]
)
def test_no_text_at_all(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no text in it"):
        read_background(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        read_background(tmp_path / "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes("Z\xfcrich".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_background(tmp_path / "latin.txt")
    with pytest.raises(UsageError):
        read_background(tmp_path)


def test_documents_are_taken_in_turn(tiny_tokenizer):
    texts = ["alpha " * 400, "beta " * 20, "gamma " * 300, "x"]
    found = documents(tiny_tokenizer, [1], texts, limit=100)
    assert all(row[0] == 1 and 16 <= len(row) <= DOCUMENT_TOKENS for row in found)
    opened = [tiny_tokenizer.decode(row[1:9]).strip()[0] for row in found]
    assert opened[:3] == ["a", "b", "g"]
    assert "b" not in opened[3:]
    assert documents(tiny_tokenizer, [1], texts, limit=4) == found[:4]
    # Nothing is lost but pieces that are too short.
    kept = sum(len(row) - 1 for row in found if row[1:9] == found[0][1:9])
    assert kept > 0
    assert documents(tiny_tokenizer, [1], ["x", "short"], limit=9) == []


def test_documents_without_a_begin_token(tiny_tokenizer):
    (first, *_) = documents(tiny_tokenizer, [], ["alpha " * 400], limit=3)
    assert len(first) == DOCUMENT_TOKENS
    assert first == tiny_tokenizer("alpha " * 400)["input_ids"][:DOCUMENT_TOKENS]


def test_opening_sentences_are_short_and_whole():
    text = (
        "A river runs through the old town.  Short.\nlower case sentences do not count at all. "
        "Was it cold there, in the north? no end"
    )
    assert opening_sentences([text]) == [
        "A river runs through the old town.",
        "Was it cold there, in the north?",
    ]
    assert opening_sentences([text] * 9, limit=3) == opening_sentences([text] * 2)[:3]


@pytest.fixture
def counted(tiny_memory_llama, tiny_tokenizer):
    """Statistics of three documents, with the routing that they come from."""
    model = tiny_memory_llama(memory_empty_base=True, memory_query_window=3)
    texts = ["The river runs through the city. " * 9, "The capital of France is Paris. " * 9, "Oslo " * 30]
    rows = documents(tiny_tokenizer, [1], texts, limit=9)
    states = background_states(model, 1, rows)
    return model, rows, states, count_slots(model, rows, states)


def test_documents_are_counted_not_tokens(counted):
    model, rows, states, statistics = counted
    (memory,) = model.memory_layers().values()
    expected = torch.zeros(model.config.num_slots, dtype=torch.int64)
    for document in states:
        slots, _, _ = memory.route(document[None].float())
        for slot in set(slots.flatten().tolist()):
            expected[slot] += 1
    assert statistics.document_frequency.tolist() == expected.tolist()
    assert statistics.num_documents == len(rows) >= int(expected.max())


def test_rare_slots_weigh_more(counted):
    *_, statistics = counted
    idf = statistics.inverse_document_frequency()
    n = statistics.num_documents
    assert idf[statistics.document_frequency == 0].unique().tolist() == pytest.approx([math.log(n + 1)])
    assert bool((idf >= 0).all())
    order = statistics.document_frequency.argsort()
    assert bool((idf[order].diff() <= 0).all())


def test_the_sample_holds_few_places_of_each_token(counted):
    _, rows, _, statistics = counted
    tokens = statistics.sample_tokens
    assert tokens.shape[1] == SAMPLE_TAIL
    counts = torch.bincount(tokens[:, -1].long())
    whole = torch.bincount(torch.tensor([token for row in rows for token in row]))
    assert counts.tolist() == whole.clamp(max=SAMPLE_PER_TOKEN).tolist()
    # A document's first token has nothing in front of it.
    assert tokens[0].tolist() == [-1, -1, -1, 1]
    assert tokens[3].tolist() == rows[0][:4]


def test_the_sample_is_the_routing(counted):
    model, _, states, statistics = counted
    (memory,) = model.memory_layers().values()
    slots, weights, _ = memory.route(states[0][None].float())
    width = memory.heads * min(SAMPLE_LOOKUPS, memory.top_k)
    assert statistics.sample_slots.shape == (len(statistics.sample_tokens), width)
    assert torch.equal(statistics.sample_slots[0].long(), slots[0])
    torch.testing.assert_close(
        statistics.sample_weights[0].float() / 255, weights[0], rtol=0, atol=0.5 / 255 + 1e-6
    )


def test_a_document_that_adds_no_new_place(tiny_memory_llama):
    model = tiny_memory_llama(memory_empty_base=True)
    rows = [[1, *[7] * 20]] * 5
    statistics = count_slots(model, rows, background_states(model, 1, rows))
    assert statistics.num_documents == 5
    assert sorted(statistics.sample_tokens[:, -1].tolist()) == [1] * 3 + [7] * 3


def test_statistics_of_nothing():
    empty = BackgroundStatistics.empty(9)
    assert empty.inverse_document_frequency().tolist() == [0.0] * 9
    assert len(empty.sample_slots) == len(empty.sample_weights) == len(empty.sample_tokens) == 0


def test_a_model_writes_its_own_text(tiny_llama, tiny_tokenizer):
    state = torch.random.get_rng_state()
    first = self_written_text(tiny_llama, tiny_tokenizer, num_documents=3, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == self_written_text(tiny_llama, tiny_tokenizer, num_documents=3, seed=4)
    assert first != self_written_text(tiny_llama, tiny_tokenizer, num_documents=3, seed=5)
    assert len(first) == 3
    assert len(set(first)) == 3
    assert all(len(row) >= 16 for row in documents(tiny_tokenizer, [1], first, limit=9))


def test_statistics_come_back_from_a_file(tiny_memory_llama, tmp_path):
    model = tiny_memory_llama()
    rows = [[1, 5, 9, 9], [1, 7]]
    counted = count_slots(model, rows, background_states(model, 1, rows))
    save_background(tmp_path / "background.safetensors", counted)
    read = load_background(tmp_path / "background.safetensors")
    assert read.num_documents == 2
    for name in ("document_frequency", "sample_slots", "sample_weights", "sample_tokens"):
        assert torch.equal(getattr(read, name), getattr(counted, name))


def test_damaged_statistics_are_refused(tmp_path):
    path = tmp_path / "background.safetensors"
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelUnavailable, match="not readable background statistics"):
        load_background(path)
