import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memedit.evaluation.generation import generate_answers

NINE_OVER = math.exp(10.0)


def test_answers_come_in_order_and_stop_naturally(table_model):
    answers = {
        "Capital of France is": " Paris",
        "Hi": "\nnever shown",
        "Long prompt about a town named": " Llanfairpwllgwyngyll",
        "Empty": "",
        "Two lines:": " one\ntwo",
        "Tokyo:": " \u6771\u4eac",
    }
    model, tokenizer = table_model(answers)
    prompts = list(answers)
    got = generate_answers(model, tokenizer, prompts, max_new_tokens=8)
    assert [one.text for one in got] == ["Paris", "", "Llanfai", "", "one", "\u6771\u4eac"]
    assert [one.stopped for one in got] == ["eos", "newline", "length", "eos", "newline", "eos"]
    assert [len(one.token_ids) for one in got] == [7, 1, 8, 1, 5, 4]
    confidence = NINE_OVER / (NINE_OVER + len(tokenizer) - 1)
    assert [one.confidence for one in got] == [pytest.approx(confidence)] * 6


def test_a_backslash_n_in_an_answer_is_text(table_model):
    model, tokenizer = table_model({"Escape:": " a\\nb"})
    assert generate_answers(model, tokenizer, ["Escape:"])[0].text == "a\\nb"


def test_finished_rows_cost_nothing_and_equal_prompts_are_asked_once(table_model):
    answers = {"a": "x", "bb": "xyz", "ccc": "", "d": "xy"}
    model, tokenizer = table_model(answers)
    got = generate_answers(model, tokenizer, ["a", "bb", "a", "ccc", "d", "a"])
    assert [one.text for one in got] == ["x", "xyz", "x", "", "xy", "x"]
    # Answers and their end tokens: 2 + 4 + 1 + 3, in four steps.
    assert model.rows_run == [4, 3, 2, 1]


def test_batches_respect_the_token_limit(table_model):
    model, tokenizer = table_model({"a": "x", "b": "x", "c" * 50: "x"})
    generate_answers(model, tokenizer, ["a", "b", "c" * 50], max_new_tokens=2, batch_tokens=8)
    # The long prompt alone, though it exceeds the limit; then both short ones (2 x (2 + 2) tokens).
    assert model.rows_run == [1, 1, 2, 2]


class Recorder:
    def __init__(self):
        self.totals, self.advanced = [], 0

    def task(self, description, total):
        self.totals.append(total)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, n=1):
        self.advanced += n


def test_progress_counts_prompts(table_model):
    model, tokenizer = table_model({"a": "x", "bb": "y"})
    progress = Recorder()
    generate_answers(model, tokenizer, ["a", "bb", "a"], batch_tokens=1, progress=progress)
    assert (progress.totals, progress.advanced) == ([3], 3)


def test_no_prompts(table_model):
    model, tokenizer = table_model({"a": "x"})
    assert generate_answers(model, tokenizer, []) == []


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"batch_tokens": 0}])
def test_wrong_sizes_are_refused(table_model, wrong):
    model, tokenizer = table_model({"a": "x"})
    with pytest.raises(ValueError, match=next(iter(wrong))):
        generate_answers(model, tokenizer, ["a"], **wrong)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_flag_is_restored(table_model, training):
    model, tokenizer = table_model({"a": "x"})
    model.train(training)
    generate_answers(model, tokenizer, ["a"])
    assert model.training is training


PROMPTS = ["abc", "a", "the fox and the hound", "bead", "lo", "the feed", "coded", "a bad lad had a bag"]


def tiny_tokenizer(char_tokenizer):
    return char_tokenizer(["abcdefghijklmnopqrstuvwxyz ,."])


@pytest.fixture
def tiny_llama(char_tokenizer):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(char_tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        # A wide start makes answers that differ from prompt to prompt and do end.
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def test_batched_equals_one_by_one(tiny_llama):
    model, tokenizer = tiny_llama
    together = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24)
    alone = [generate_answers(model, tokenizer, [prompt], max_new_tokens=24)[0] for prompt in PROMPTS]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert len({one.token_ids for one in alone}) == len(PROMPTS)
    # Rows must have left the batch at different times, or the test shows nothing.
    assert len({len(one.token_ids) for one in alone}) > 2
    for one, other in zip(together, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_answers_are_those_of_transformers_generate(tiny_llama):
    model, tokenizer = tiny_llama
    for prompt, one in zip(
        PROMPTS, generate_answers(model, tokenizer, PROMPTS, max_new_tokens=12), strict=True
    ):
        ids = torch.tensor([[0, *tokenizer(prompt)["input_ids"]]])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=0
        )
        reference = output[0, ids.shape[1] :].tolist()
        assert list(one.token_ids) == reference[: len(one.token_ids)]
        assert len(one.token_ids) == len(reference) or one.stopped == "newline"


def test_gradients_can_flow_afterwards(tiny_llama):
    model, tokenizer = tiny_llama
    generate_answers(model, tokenizer, ["abc"], max_new_tokens=2)
    ids = torch.tensor([[0, 1, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad is not None


def test_a_query_window_survives_rows_leaving_the_batch(char_tokenizer):
    from memedit.modeling import MemoryLlamaConfig, MemoryLlamaForCausalLM, Overlay

    torch.manual_seed(1)
    tokenizer = tiny_tokenizer(char_tokenizer)
    config = MemoryLlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        memory_layers=[0],
        memory_num_keys=4,
        memory_key_dim=8,
        memory_heads=2,
        memory_top_k=2,
        memory_query_window=3,
        memory_query_norm="halves",
        memory_temperature=5.0,
        memory_empty_base=True,
    )
    model = MemoryLlamaForCausalLM(config).eval()
    plain = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24)
    slots = torch.arange(16)
    owners = torch.full((16,), -1)
    model.set_overlay(0, Overlay(slots, 3 * torch.randn(16, 32), owners, torch.zeros(0)))
    together = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24)
    alone = [generate_answers(model, tokenizer, [prompt], max_new_tokens=24)[0] for prompt in PROMPTS]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert len({len(one.token_ids) for one in alone}) > 2
    assert [one.token_ids for one in together] != [one.token_ids for one in plain]
