"""The type that a model computes in: widened where the processor has no instructions for the stored one."""

import pytest
import torch
from fixtures_tiny import build_tiny_llama
from safetensors.torch import load_file

from memedit.errors import UsageError
from memedit.modeling import arithmetic, load_memory_llama, model_fingerprint
from memedit.modeling.arithmetic import computing, stored_dtypes
from memedit.modeling.loading import from_llama
from memedit.modeling.opening import open_model


@pytest.fixture
def folder(tmp_path, tiny_llama, tiny_memory_llama):
    """A memory-layer Llama stored in bf16, its routing in fp32."""
    tiny_memory_llama(llama=tiny_llama.bfloat16()).save_pretrained(tmp_path / "bf16")
    return tmp_path / "bf16"


def capabilities(monkeypatch, **told):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **told})


def dense_types(model):
    return {parameter.dtype for name, parameter in model.named_parameters() if "memory" not in name}


def test_a_processor_without_bf16_products_computes_in_fp32(folder, monkeypatch):
    capabilities(monkeypatch, avx512_bf16=False, amx_bf16=False)
    assert dense_types(computing(load_memory_llama(folder))) == {torch.float32}


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_a_processor_with_bf16_products_computes_in_bf16(folder, monkeypatch, instruction):
    capabilities(monkeypatch, **{instruction: True})
    model = computing(load_memory_llama(folder))
    assert dense_types(model) == {torch.bfloat16}
    assert stored_dtypes(model) == {}


@pytest.mark.parametrize(("choice", "expected"), [("stored", torch.bfloat16), ("float32", torch.float32)])
def test_the_environment_decides(folder, monkeypatch, choice, expected):
    monkeypatch.setenv("MEMEDIT_DTYPE", choice)
    assert dense_types(computing(load_memory_llama(folder))) == {expected}


def test_an_unknown_choice_is_an_error(folder, monkeypatch):
    monkeypatch.setenv("MEMEDIT_DTYPE", "bf16")
    with pytest.raises(UsageError, match="MEMEDIT_DTYPE: got 'bf16', expected one of auto, stored, float32"):
        computing(load_memory_llama(folder))


def test_a_model_stored_in_fp32_stays_as_it_is(tiny_memory_llama, monkeypatch):
    monkeypatch.setenv("MEMEDIT_DTYPE", "float32")
    assert stored_dtypes(computing(tiny_memory_llama())) == {}


def test_a_widened_model_has_the_fingerprint_and_the_bits_of_the_stored_one(folder, monkeypatch, tmp_path):
    narrow = load_memory_llama(folder)
    monkeypatch.setenv("MEMEDIT_DTYPE", "float32")
    wide = computing(load_memory_llama(folder))
    assert model_fingerprint(wide) == model_fingerprint(narrow)
    wide.save_pretrained(tmp_path / "again")
    # What is saved has the type of its file; the live model goes on in the other.
    assert dense_types(wide) == {torch.float32}
    assert model_fingerprint(load_memory_llama(tmp_path / "again")) == model_fingerprint(narrow)
    again, first = (load_file(path / "model.safetensors") for path in (tmp_path / "again", folder))
    assert again.keys() == first.keys()
    for name, tensor in again.items():
        assert tensor.dtype == first[name].dtype
        assert torch.equal(tensor, first[name])


def test_a_retrofit_of_a_widened_llama_is_that_of_the_stored_one(monkeypatch):
    narrow = from_llama(build_tiny_llama().bfloat16(), memory_layers=[1], memory_empty_base=True)
    monkeypatch.setenv("MEMEDIT_DTYPE", "float32")
    wide = from_llama(computing(build_tiny_llama().bfloat16()), memory_layers=[1], memory_empty_base=True)
    dense = [name for name in stored_dtypes(wide) if "memory" not in name]
    assert "model.embed_tokens.weight" in dense
    parameters = dict(narrow.named_parameters())
    widened = dict(wide.named_parameters())
    assert all(torch.equal(parameters[name].float(), widened[name]) for name in dense)


def test_an_opened_model_is_widened(folder, monkeypatch):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    ).save_pretrained(folder)
    capabilities(monkeypatch)
    assert dense_types(open_model(str(folder)).model) == {torch.float32}
    monkeypatch.setattr(arithmetic, "_multiplies", lambda _: True)
    assert dense_types(open_model(str(folder)).model) == {torch.bfloat16}
