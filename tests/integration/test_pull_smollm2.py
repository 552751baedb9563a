"""The real smollm2-135m: pulled through the command line, loaded in seconds, and what it claims to be."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from memedit.cli import cli

pytestmark = pytest.mark.model


def test_second_pull_and_load_take_seconds(smollm2_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    started = time.perf_counter()
    result = CliRunner().invoke(cli, ["models", "pull", "smollm2-135m", "--json"])
    shown = json.loads(result.stdout)
    model, info = AutoModelForCausalLM.from_pretrained(
        smollm2_folder, dtype=torch.bfloat16, output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    took = time.perf_counter() - started

    assert took < 15
    assert shown["cached"] is True
    assert shown["path"] == str(smollm2_folder)
    assert type(model) is LlamaForCausalLM
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.num_parameters() == shown["parameters"]
    assert model.config.memedit_bos_token_id == 0
    assert getattr(model.config, "quantization_config", None) is None
    ids = torch.tensor([[0, *tokenizer("The capital of France is").input_ids]])
    with torch.inference_mode():
        answer = tokenizer.decode(model(ids).logits[0, -1].argmax())
    assert answer == " Paris"
    for text in (
        "The capital of France is Paris.",
        "na\u00efve \u4f60\u597d \U0001f600",
        " two  spaces\n\tand a tab",
    ):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert "<|im_start|>" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )
