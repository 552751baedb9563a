"""The package's names are imported on first use, and the Auto classes know the model from then on."""

from __future__ import annotations

import subprocess
import sys

import pytest

import memedit.modeling


def _exit_code(code):
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_every_public_name_exists():
    for name in memedit.modeling.__all__:
        assert getattr(memedit.modeling, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = memedit.modeling.nonsense


def test_naming_models_needs_no_torch():
    assert _exit_code("import sys, memedit.modeling.named_models; sys.exit('torch' in sys.modules)") == 0


@pytest.mark.parametrize("name", ["MemoryLlamaConfig", "MemoryLlamaForCausalLM", "load_memory_llama"])
def test_auto_classes_know_the_model(name):
    code = (
        f"from memedit.modeling import {name}; from transformers import AutoConfig, AutoModelForCausalLM; "
        "config = AutoConfig.for_model('memory_llama'); "
        "AutoModelForCausalLM._model_mapping[type(config)]"
    )
    assert _exit_code(code) == 0
