"""lm-evaluation-harness on a live model: what it is told is what memedit measures itself."""

from __future__ import annotations

import builtins
import importlib
import json
import math
import sys

import pytest
import torch

from memedit.errors import UsageError
from memedit.evaluation import generate_answers
from memedit.evaluation.harness import harness_tasks, live_harness_model, require_harness
from memedit.evaluation.scoring import score_continuations

LANDS = {"France": "Paris", "Spain": "Madrid", "a land by the long river": "the city of Oslo"}
CHOICES = ["Paris", "Madrid", "the city of Oslo", "Zorvan Elmqvist was born in Spain"]
PAIRS = [(f"The capital of {land} is", f" {city}") for land in LANDS for city in CHOICES]
TEXTS = ["The capital of France is the city of Paris.", "Question: What is the name of the river?", "a"]


@pytest.fixture
def model(tiny_memory_llama, tiny_overlay):
    """A tiny model whose written rows speak loudly and whose queries see four tokens."""
    made = tiny_memory_llama(memory_query_window=4, memory_empty_base=True).eval()
    made.set_overlay(0, tiny_overlay(made, threshold=0.2, scale=3.0))
    return made


@pytest.fixture
def capitals(task_file):
    """A multiple-choice task."""
    records = [{"land": land, "choices": CHOICES, "city": city} for land, city in LANDS.items()]
    return task_file(
        "capitals",
        records,
        output_type="multiple_choice",
        doc_to_text="The capital of {{land}} is",
        doc_to_choice="{{choices}}",
        doc_to_target="{{choices.index(city)}}",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )


def requests(kind, arguments):
    instance = importlib.import_module("lm_eval.api.instance").Instance
    return [instance(kind, {}, each, index) for index, each in enumerate(arguments)]


def test_loglikelihoods_are_ours_whatever_shares_a_batch(model, tiny_tokenizer):
    lengths = {len(tiny_tokenizer(prompt)["input_ids"]) for prompt, _ in PAIRS}
    assert len(lengths) == 3, "the batches must need padding"
    found = live_harness_model(model, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    ours = score_continuations(model, tiny_tokenizer, PAIRS)
    for (log_prob, is_greedy), scored in zip(found, ours, strict=True):
        # Two sums in fp32 over some 20 tokens of log-probabilities of size 10.
        assert log_prob == pytest.approx(scored.log_prob, rel=1e-5, abs=1e-3)
        assert is_greedy == (scored.num_greedy == scored.num_tokens)


def test_the_written_rows_are_heard(model, tiny_tokenizer):
    edited = live_harness_model(model, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    model.set_overlay(0, None)
    base = live_harness_model(model, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    assert max(abs(first[0] - second[0]) for first, second in zip(edited, base, strict=True)) > 0.5


def test_texts_are_read_with_one_begin_token(model, tiny_tokenizer):
    kind = "loglikelihood_rolling"
    found = live_harness_model(model, tiny_tokenizer).loglikelihood_rolling(
        requests(kind, [(text,) for text in TEXTS])
    )
    ours = score_continuations(model, tiny_tokenizer, [("", text) for text in TEXTS])
    for log_prob, scored in zip(found, ours, strict=True):
        assert log_prob == pytest.approx(scored.log_prob, rel=1e-5, abs=1e-3)


def test_generation_with_padding_in_front_is_ours(model, tiny_tokenizer):
    prompts = [prompt for prompt, _ in PAIRS[::4]]
    assert len({len(tiny_tokenizer(prompt)["input_ids"]) for prompt in prompts}) == 3
    options = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    found = live_harness_model(model, tiny_tokenizer).generate_until(
        requests("generate_until", [(prompt, dict(options)) for prompt in prompts])
    )
    ours = generate_answers(model, tiny_tokenizer, prompts, max_new_tokens=8)
    assert any(generation.text for generation in ours)
    for text, generation in zip(found, ours, strict=True):
        assert text.split("\n")[0].strip() == generation.text


def test_the_tokenizer_and_the_model_are_left_as_they_were(model, tiny_tokenizer, capitals):
    model.train()
    before = tiny_tokenizer("a city")["input_ids"]
    harness_tasks(model, tiny_tokenizer, [capitals])
    assert tiny_tokenizer("a city")["input_ids"] == before
    assert model.training


def test_a_tokenizer_with_a_begin_token_of_its_own_gets_no_second_one(model, tiny_tokenizer):
    from tokenizers.processors import TemplateProcessing

    lm = live_harness_model(model, tiny_tokenizer)
    plain = lm.tok_encode("a city")
    tiny = lm.tokenizer
    tiny.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert plain[0] == 1
    assert live_harness_model(model, tiny).tok_encode("a city") == plain


def test_a_local_task_is_run_and_nothing_is_printed(model, tiny_tokenizer, capitals, capfd, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    found = harness_tasks(model, tiny_tokenizer, [capitals], seed=3)
    # importing the harness may print; running it must not
    capfd.readouterr()
    assert harness_tasks(model, tiny_tokenizer, [capitals], seed=3) == found
    assert capfd.readouterr() == ("", "")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    task = found["tasks"]["capitals"]
    ours = score_continuations(model, tiny_tokenizer, PAIRS)
    log_probs = torch.tensor([scored.log_prob for scored in ours]).view(3, 4)
    right = (log_probs.argmax(-1) == torch.arange(3)).double()
    assert (task["n"], task["version"], found["seed"], found["limit"]) == (3, 1.0, 3, None)
    assert task["metrics"]["acc"]["value"] == pytest.approx(float(right.mean()))
    assert task["metrics"]["acc"]["stderr"] == pytest.approx(float(right.std()) / math.sqrt(3))
    assert task["metrics"]["acc"]["higher_is_better"] is True
    assert [sample["acc"] for sample in task["samples"]] == right.tolist()
    assert task["samples"][0]["prompt"] == "The capital of France is"
    assert task["samples"][0]["target"] == "0"


def test_limit_takes_the_first_questions(model, tiny_tokenizer, capitals):
    found = harness_tasks(model, tiny_tokenizer, [capitals], limit=2)
    assert found["tasks"]["capitals"]["n"] == 2
    with pytest.raises(UsageError, match="limit must be at least 1, got 0"):
        harness_tasks(model, tiny_tokenizer, [capitals], limit=0)


def test_perplexity_of_texts_has_a_standard_error(model, tiny_tokenizer, task_file):
    path = task_file(
        "texts",
        [{"page": text} for text in TEXTS],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
        metric_list=[{"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    )
    task = harness_tasks(model, tiny_tokenizer, [path])["tasks"]["texts"]
    ours = score_continuations(model, tiny_tokenizer, [("", text) for text in TEXTS])
    nats = -sum(scored.log_prob for scored in ours) / sum(len(text.encode()) for text in TEXTS)
    assert task["metrics"]["byte_perplexity"]["value"] == pytest.approx(math.exp(nats), rel=1e-4)
    assert task["metrics"]["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2), rel=1e-4)
    assert task["metrics"]["byte_perplexity"]["stderr"] > 0
    assert task["samples"][0]["byte_perplexity"] == [pytest.approx(ours[0].log_prob, rel=1e-4), 43.0]


def test_what_cannot_be_run_is_said_plainly(model, tiny_tokenizer, task_file, tmp_path):
    with pytest.raises(UsageError, match="known to lm-evaluation-harness, got none"):
        harness_tasks(model, tiny_tokenizer, [])
    broken = task_file("gone", [], output_type="multiple_choice", doc_to_text="a", doc_to_target="b")
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(UsageError, match=r"the data of .*gone\.yaml cannot be loaded"):
        harness_tasks(model, tiny_tokenizer, [broken])
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        harness_tasks(model, tiny_tokenizer, [str(tmp_path / "nowhere.yaml")])


@pytest.mark.slow
def test_an_unknown_task_is_named(model, tiny_tokenizer):
    with pytest.raises(UsageError, match="got no_such_task"):
        harness_tasks(model, tiny_tokenizer, ["no_such_task"])


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name.partition(".")[0] == "lm_eval":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setattr(importlib, "import_module", lambda name: absent(name) or sys.modules[name])
    with pytest.raises(UsageError, match=r"pip install 'memedit\[lm-eval\]'"):
        require_harness()
