"""Prompts and facts become tokens: one begin token, joint tokenisation, the subject's last token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import processors

from memedit.modeling import bos_ids, encode_fact, prompt_ids

CONFIG = SimpleNamespace(memory_bos_token_id=0, eos_token_id=2)
PROMPT, TARGET = "The capital of Zubrowka is the city of", " Lutz"


@pytest.fixture
def adding_tokenizer(tiny_tokenizer):
    """A tokenizer that itself puts <|im_start|> in front, as Llama's do."""
    from fixtures_tiny import build_tiny_tokenizer

    tokenizer = build_tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert tokenizer("a")["input_ids"][0] == 1
    return tokenizer


def test_begin_token(tiny_tokenizer, adding_tokenizer):
    unset = SimpleNamespace(memory_bos_token_id=None)
    assert bos_ids(tiny_tokenizer, CONFIG) == [0]
    assert bos_ids(tiny_tokenizer, unset) == [1]
    assert bos_ids(tiny_tokenizer, SimpleNamespace()) == [1]
    assert bos_ids(adding_tokenizer, unset) == [1]
    assert bos_ids(adding_tokenizer, CONFIG) == [0]


def test_no_begin_token_at_all(tiny_tokenizer):
    from fixtures_tiny import build_tiny_tokenizer

    tokenizer = build_tiny_tokenizer()
    tokenizer.bos_token = None
    assert bos_ids(tokenizer, SimpleNamespace()) == []


@pytest.mark.parametrize("text", ["The city", " leading space", "Å, 北京, القاهرة", ""])
def test_prompt_has_one_begin_token(tiny_tokenizer, adding_tokenizer, text):
    plain = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt_ids(tiny_tokenizer, CONFIG, text) == [0, *plain]
    assert prompt_ids(adding_tokenizer, SimpleNamespace(), text) == [1, *plain]


def test_fact_is_prompt_answer_end(tiny_tokenizer):
    fact = encode_fact(tiny_tokenizer, CONFIG, PROMPT, TARGET)
    assert list(fact.ids[: fact.num_prompt]) == prompt_ids(tiny_tokenizer, CONFIG, PROMPT)
    assert tiny_tokenizer.decode(fact.answer_ids[:-1]) == TARGET
    assert fact.ids[-1] == 2
    assert fact.ids.count(0) == 1
    assert fact.subject_last is None


@pytest.mark.parametrize("subject", ["Zubrowka", "The capital", "city of", "apita"])
def test_subject_last_token(tiny_tokenizer, subject):
    start = PROMPT.index(subject)
    fact = encode_fact(tiny_tokenizer, CONFIG, PROMPT, TARGET, (start, start + len(subject)))
    up_to = tiny_tokenizer.decode(fact.ids[1 : fact.subject_last + 1])
    before = tiny_tokenizer.decode(fact.ids[1 : fact.subject_last])
    # The first token with which the subject is complete.
    assert len(up_to) >= start + len(subject) > len(before)


@pytest.mark.parametrize("subject", ["São Tomé", "北京", "القاهرة", "Łódź"])
def test_subject_of_several_bytes_a_character(tiny_tokenizer, subject):
    prompt = f"The name {subject} is known. It is"
    fact = encode_fact(tiny_tokenizer, CONFIG, prompt, " true", (9, 9 + len(subject)))
    assert tiny_tokenizer.decode(fact.ids[1 : fact.subject_last + 1]) == f"The name {subject}"


def test_token_across_the_boundary_is_answer(tiny_tokenizer):
    joint = tiny_tokenizer.encode("The cit" + "y", add_special_tokens=False)
    assert joint != tiny_tokenizer.encode("The cit", add_special_tokens=False) + tiny_tokenizer.encode("y")
    fact = encode_fact(tiny_tokenizer, CONFIG, "The cit", "y")
    assert list(fact.ids) == [0, *joint, 2]
    assert tiny_tokenizer.decode(fact.answer_ids[:-1]).endswith("city")


def test_end_token(tiny_tokenizer):
    from fixtures_tiny import build_tiny_tokenizer

    tokenizer = build_tiny_tokenizer()
    tokenizer.eos_token = None
    named = SimpleNamespace(memory_bos_token_id=0, eos_token_id=[7, 8])
    assert encode_fact(tokenizer, named, PROMPT, TARGET).ids[-1] == 7
    with pytest.raises(ValueError, match="without an end token"):
        encode_fact(tokenizer, SimpleNamespace(memory_bos_token_id=0), PROMPT, TARGET)


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 2), (30, 90)])
def test_span_outside_the_prompt(tiny_tokenizer, span):
    with pytest.raises(ValueError, match=r"^subject_span"):
        encode_fact(tiny_tokenizer, CONFIG, PROMPT, TARGET, span)


@pytest.mark.parametrize("target", ["", "  ", "\n"])
def test_empty_target(tiny_tokenizer, target):
    with pytest.raises(ValueError, match=r"^target"):
        encode_fact(tiny_tokenizer, CONFIG, PROMPT, target)


def test_slow_tokenizer():
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(ValueError, match=r"expected a fast tokenizer"):
        encode_fact(slow, CONFIG, PROMPT, TARGET)
