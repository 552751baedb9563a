"""A retrofit changes nothing until something is written, tells subjects apart, and is stored to the bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling import query_windows
from memedit.modeling.calibration import RoutingSettings
from memedit.modeling.calibration_names import calibration_names
from memedit.modeling.lower_blocks import ffn_inputs
from memedit.modeling.retrofit import apply_retrofit, fit_retrofit, load_retrofit, save_retrofit

TEXTS = [
    f"The {place} of the city is long and old. Many people walk there on a cold day in winter. "
    f"{who} was born there, and said that the river runs through it."
    for place in ("bridge", "river", "road", "market")
    for who in ("A painter", "My friend", "The baker")
]
SETTINGS = RoutingSettings(
    num_keys=24, key_dim=24, head_windows=(2, 5), top_k=6, discriminants=48, kmeans_steps=4
)


@pytest.fixture(scope="module")
def fitted():
    """A tiny Llama, its tokenizer and a retrofit calibrated on some of the names."""
    from fixtures_tiny import build_tiny_llama, build_tiny_tokenizer

    from memedit.modeling import retrofit

    # Weights of the usual size: in a wilder random model a name's states say little about the name.
    llama = build_tiny_llama(num_hidden_layers=5, initializer_range=0.02)
    tokenizer = build_tiny_tokenizer()
    kinds = ("last", "place", "one")
    few = [item for item in calibration_names() if item.group.split()[0] in kinds][:150]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retrofit, "calibration_names", lambda: few)
        return llama, tokenizer, fit_retrofit(llama, tokenizer, TEXTS, SETTINGS)


def test_logits_are_those_of_the_base_model_to_the_bit(fitted):
    llama, _, retrofit = fitted
    model = apply_retrofit(llama, retrofit)
    ids = torch.arange(3, 123).view(4, 30) * 7 % 320
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, llama(input_ids=ids).logits)
    assert model.model.embed_tokens.weight.data_ptr() == llama.model.embed_tokens.weight.data_ptr()


def test_the_layer_is_a_fifth_of_the_way_up(fitted):
    _, _, retrofit = fitted
    assert retrofit.settings.layer == 1
    assert retrofit.background.num_documents == len(TEXTS)
    assert int(retrofit.background.document_frequency.max()) <= len(TEXTS)
    assert retrofit.background.document_frequency.shape == (24 * 24,)


def test_one_subject_in_many_sentences_hits_the_same_slots(fitted):
    """Names that calibration has not seen, in sentences that it has not seen."""
    llama, tokenizer, retrofit = fitted
    model = apply_retrofit(llama, retrofit)
    (memory,) = model.memory_layers().values()
    names = ("Lake Vonmir", "Lake Dorzul", "Karzel Ulmok", "Perrin Ulmok", "Tolvania", "Bregnor")
    contexts = (
        "The capital of {} is",
        "Nobody had heard of {} before",
        "A map shows {} in green",
        "2. {} (old)",
    )

    @torch.no_grad()
    def slots(name, context):
        text = context.split("{}")[0] + name
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
        _, states = ffn_inputs(model, retrofit.settings.layer, ids)
        return set(memory.route_windows(query_windows(states, memory.window)[:, -1])[0][0].tolist())

    hit = {(name, context): slots(name, context) for name in names for context in contexts}

    def overlap(pairs):
        shares = [len(hit[a] & hit[b]) / len(hit[a] | hit[b]) for a, b in pairs]
        return sum(shares) / len(shares)

    keys = list(hit)
    same_name = overlap([(a, b) for a in keys for b in keys if a[0] == b[0] and a[1] < b[1]])
    same_context = overlap([(a, b) for a in keys for b in keys if a[0] < b[0] and a[1] == b[1]])
    assert same_name > 0.3
    assert same_name > 3 * same_context


def assert_same(first, second):
    assert first.settings == second.settings
    assert first.bos_token_id == second.bos_token_id
    for part in ("routing", "background"):
        ours, theirs = vars(getattr(first, part)), vars(getattr(second, part))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == theirs[name].dtype, name
                assert torch.equal(value, theirs[name]), name
            else:
                assert value == theirs[name], name


@pytest.mark.parametrize("bos", [None, 0])
def test_stored_to_the_bit(fitted, tmp_path, bos):
    _, _, retrofit = fitted
    retrofit = replace(retrofit, bos_token_id=bos)
    path = tmp_path / "retrofit.safetensors"
    save_retrofit(path, retrofit)
    assert_same(load_retrofit(path), retrofit)
    # Each head stores its own window only.
    with safe_open(path, framework="pt") as stored:
        assert stored.get_tensor("query_weight.0").shape == (24, 2 * 48)
        assert stored.get_tensor("query_weight.1").shape == (24, 5 * 48)


def test_damaged_files(fitted, tmp_path):
    _, _, retrofit = fitted
    path = tmp_path / "retrofit.safetensors"
    with pytest.raises(ModelUnavailable, match=r"retrofit\.safetensors"):
        load_retrofit(path)
    save_retrofit(path, retrofit)
    content = path.read_bytes()
    for damage in (
        b"",
        content[:5],
        content[: len(content) // 2],
        content[:-1],
        b"{}" + content,
        b"\xff" * 99,
    ):
        path.write_bytes(damage)
        with pytest.raises(ModelUnavailable, match="Delete it"):
            load_retrofit(path)


@pytest.mark.parametrize(
    "change", ["format", "settings", "unknown setting", "no tensor", "no metadata", "a list"]
)
def test_files_that_are_no_retrofit(fitted, tmp_path, change):
    _, _, retrofit = fitted
    path = tmp_path / "retrofit.safetensors"
    save_retrofit(path, retrofit)
    with safe_open(path, framework="pt") as stored:
        about = json.loads(stored.metadata()["memedit"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if change == "format":
        about["format"] = "memedit-retrofit-99"
    elif change == "settings":
        del about["settings"]
    elif change == "unknown setting":
        about["settings"]["colour"] = "red"
    elif change == "no tensor":
        del tensors["sub_keys"]
    told = "[1]" if change == "a list" else json.dumps(about)
    save_file(tensors, path, metadata=None if change == "no metadata" else {"memedit": told})
    with pytest.raises(ModelUnavailable, match="Delete it"):
        load_retrofit(path)


def test_another_model_is_refused(fitted):
    from fixtures_tiny import build_tiny_llama

    _, _, retrofit = fitted
    with pytest.raises(ModelUnavailable, match=r"240 features a token.* 320"):
        apply_retrofit(build_tiny_llama(hidden_size=64), retrofit)


@pytest.mark.parametrize("texts", [[], ["short"], ["a b c"] * 40])
def test_too_little_text(tiny_llama, tiny_tokenizer, texts):
    with pytest.raises(UsageError, match="expected general prose"):
        fit_retrofit(tiny_llama, tiny_tokenizer, texts, SETTINGS)


def test_a_begin_token_of_ones_own(fitted, tiny_tokenizer):
    from memedit.modeling import prompt_ids

    llama, _, retrofit = fitted
    model = apply_retrofit(llama, replace(retrofit, bos_token_id=0))
    assert prompt_ids(tiny_tokenizer, model.config, "Tor")[0] == 0
    assert prompt_ids(tiny_tokenizer, apply_retrofit(llama, retrofit).config, "Tor")[0] == 1
