import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memedit.errors import UsageError
from memedit.evaluation.harness import live_harness_model
from memedit.evaluation.perplexity import (
    Perplexity,
    general_text,
    measure_perplexity,
    perplexity_ratio,
    text_chunks,
)
from memedit.modeling.encoding import bos_ids

TEXT = "aab\n\nb a\n \nabab\n"


class UnigramModel(torch.nn.Module):
    """Every token has a fixed probability, whatever precedes it."""

    def __init__(self, probabilities):
        super().__init__()
        self.logs = torch.tensor(probabilities).log()
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(memory_bos_token_id=0)

    def forward(self, input_ids, attention_mask, use_cache):
        assert not use_cache
        return SimpleNamespace(logits=self.logs.expand(*input_ids.shape, -1))


@pytest.fixture
def tokenizer(char_tokenizer):
    # "", "\n", " ", "a", "b"
    return char_tokenizer(["ab "])


def test_chunks_are_passages_with_a_begin_token(tokenizer):
    config = SimpleNamespace(memory_bos_token_id=0)
    assert text_chunks(tokenizer, config, TEXT) == [(0, 3, 3, 4), (0, 4, 2, 3), (0, 3, 4, 3, 4)]
    assert text_chunks(tokenizer, config, "\n\n \n\n") == []
    long = text_chunks(tokenizer, config, "a" * 10, max_tokens=4)
    assert [len(chunk) for chunk in long] == [4, 4, 4, 2]
    assert all(chunk[0] == 0 for chunk in long)
    with pytest.raises(ValueError, match="max_tokens"):
        text_chunks(tokenizer, config, TEXT, max_tokens=1)


def test_perplexity_of_a_unigram_model(tokenizer):
    model = UnigramModel([0.125, 0.125, 0.25, 0.25, 0.25])
    got = measure_perplexity(model, tokenizer, TEXT)
    assert got.value == pytest.approx(4.0)
    assert got.num_tokens == (3, 3, 4)
    assert got.nlls == pytest.approx((3 * math.log(4), 3 * math.log(4), 4 * math.log(4)))


def test_perplexity_weighs_tokens_by_their_probability(tokenizer):
    # "aab": two a, one b; "b a": b, space, a; "abab": two each.
    model = UnigramModel([0.05, 0.05, 0.1, 0.5, 0.3])
    got = measure_perplexity(model, tokenizer, TEXT)
    log = math.log
    expected = (-2 * log(0.5) - log(0.3), -log(0.3) - log(0.1) - log(0.5), -2 * log(0.5) - 2 * log(0.3))
    assert got.nlls == pytest.approx(expected)
    assert got.value == pytest.approx(math.exp(sum(expected) / 10))


def test_batches_and_cuts_do_not_change_likelihoods(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    passages = ["ab" * 90, "ba", "a b " * 40, "b", "abba" * 70]
    together = measure_perplexity(model, tokenizer, "\n\n".join(passages))
    alone = [measure_perplexity(model, tokenizer, passage) for passage in passages]
    assert together.nlls == pytest.approx([one.nlls[0] for one in alone], rel=1e-5)
    ids = torch.tensor([[0, *tokenizer(passages[0])["input_ids"]]])
    with torch.no_grad():
        mean = model(input_ids=ids, labels=ids).loss.item()
    assert together.nlls[0] == pytest.approx(mean * 180, rel=1e-5)


def test_likelihoods_are_the_harnesss(tiny_llama, tiny_tokenizer):
    """Against lm-evaluation-harness's loglikelihood_rolling on the same model.

    The harness puts one prefix token in front of a text and predicts every token of the text; told that the
    prefix is the begin token, it predicts just what memedit does. Each passage is one request, and none is
    longer than a chunk: a cut text has another context on each side (the harness rolls, memedit begins anew).
    """
    passages = [
        "The capital of France is the city of Paris.",
        "Zorvan Elmqvist was born in Oslo,\nby the long river. Na\u00efve \u6771\u4eac!",
        "a",
        "Question: What is the name of the river? " * 8,
    ]
    ours = measure_perplexity(tiny_llama, tiny_tokenizer, "\n\n".join(passages))
    lm = live_harness_model(tiny_llama, tiny_tokenizer)
    assert lm.prefix_token_id == bos_ids(tiny_tokenizer, tiny_llama.config)[0]
    instance = importlib.import_module("lm_eval.api.instance").Instance
    asked = [
        instance("loglikelihood_rolling", {}, (text.strip(),), number) for number, text in enumerate(passages)
    ]
    theirs = lm.loglikelihood_rolling(asked)
    # Sums in fp32 over at most 200 tokens of some 6 nats each.
    assert [-log_prob for log_prob in theirs] == pytest.approx(ours.nlls, rel=1e-5)
    assert ours.num_tokens == tuple(len(tiny_tokenizer(text.strip())["input_ids"]) for text in passages)
    assert ours.value == pytest.approx(math.exp(-sum(theirs) / sum(ours.num_tokens)), rel=1e-5)


def test_ratio(tokenizer):
    before = measure_perplexity(UnigramModel([0.125, 0.125, 0.25, 0.25, 0.25]), tokenizer, TEXT)
    after = measure_perplexity(UnigramModel([0.25, 0.15, 0.2, 0.2, 0.2]), tokenizer, TEXT)
    same = perplexity_ratio(before, before)
    assert (same.value, same.low, same.high, same.n) == (1.0, 1.0, 1.0, 3)
    worse = perplexity_ratio(before, after)
    assert (worse.value, worse.low, worse.high) == (pytest.approx(1.25),) * 3
    assert "10 tokens" in worse.protocol
    with pytest.raises(ValueError, match="same text"):
        perplexity_ratio(before, Perplexity(1.0, (0.0,), (1,)))


def test_a_broken_model_has_no_finite_ratio(tokenizer):
    before = measure_perplexity(UnigramModel([0.2] * 5), tokenizer, TEXT)
    broken = measure_perplexity(UnigramModel([0.5, 0.5, 0.0, 0.0, 0.0]), tokenizer, TEXT)
    assert broken.value == math.inf
    assert math.isnan(perplexity_ratio(before, broken).value)


def test_a_text_without_words_is_refused(tokenizer):
    with pytest.raises(UsageError, match="text"):
        measure_perplexity(UnigramModel([0.2] * 5), tokenizer, "\n\n")


def test_general_text_of_the_user(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\ufeffSome prose.", encoding="utf-8")
    assert general_text(path) == "Some prose."
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        general_text(path)
    path.write_text(" \n", encoding="utf-8")
    with pytest.raises(UsageError, match="empty"):
        general_text(path)
    with pytest.raises(UsageError, match="cannot read"):
        general_text(tmp_path / "missing.txt")


def test_general_text_is_bundled():
    passages = general_text().split("\n\n")
    assert len(passages) > 20
