"""Opening a model: loaded as it is, or calibrated once and found again; and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from fixtures_tiny import build_tiny_llama
from safetensors.torch import load_file, save_file

from memedit.errors import ModelUnavailable, UsageError
from memedit.modeling import model_fingerprint, opening, prompt_ids, retrofit
from memedit.modeling.calibration import RoutingSettings
from memedit.modeling.calibration_names import calibration_names
from memedit.modeling.named_models import cache_root
from memedit.modeling.opening import RETROFIT_FILE, open_model, retrofit_folder

SMALL = {
    "num_keys": 16,
    "key_dim": 16,
    "head_windows": (1, 3),
    "top_k": 4,
    "discriminants": 16,
    "kmeans_steps": 2,
}
TEXT = "\n\n".join(
    f"The {place} of the city is long and old. Many people walk there on a cold day in winter."
    for place in ("bridge", "river", "road", "market", "garden")
)
IDS = torch.arange(3, 63).view(2, 30) * 7 % 320


@pytest.fixture(autouse=True)
def calibrations(monkeypatch):
    """Make calibration small, and count it."""
    few = [item for item in calibration_names() if item.group.split()[0] in ("last", "place")][:40]
    done = []
    fit = opening.fit_retrofit

    def counted(llama, tokenizer, texts, settings, **options):
        done.append(len(texts))
        return fit(llama, tokenizer, texts, settings, **options)

    monkeypatch.setattr(retrofit, "calibration_names", lambda: few)
    monkeypatch.setattr(opening, "RoutingSettings", lambda: RoutingSettings(**SMALL))
    monkeypatch.setattr(opening, "fit_retrofit", counted)
    return done


@pytest.fixture
def plain(tmp_path, tiny_llama, tiny_tokenizer):
    """The folder of a plain tiny Llama."""
    folder = tmp_path / "plain"
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    """A background file."""
    path = tmp_path / "background.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def cached():
    folder = cache_root() / "retrofits"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_plain_llama_is_calibrated_once(plain, text, tiny_llama, calibrations):
    opened = open_model(str(plain), background=text)
    assert calibrations == [5]
    assert len(cached()) == 1
    assert opened.background.num_documents == 5
    assert not opened.model.training
    assert not any(parameter.requires_grad for parameter in opened.model.parameters())
    with torch.no_grad():
        assert torch.equal(opened.model(input_ids=IDS).logits, tiny_llama(input_ids=IDS).logits)
    again = open_model(str(plain), background=text)
    assert calibrations == [5]
    assert model_fingerprint(again.model) == model_fingerprint(opened.model)
    assert torch.equal(again.background.document_frequency, opened.background.document_frequency)


def test_another_text_or_model_is_calibrated_for_itself(plain, text, tiny_tokenizer, tmp_path, calibrations):
    open_model(str(plain), background=text)
    text.write_text(TEXT + "\n\nOne more passage about a walk along the old road.", encoding="utf-8")
    open_model(str(plain), background=text)
    other = tmp_path / "other"
    build_tiny_llama(seed=9).save_pretrained(other)
    tiny_tokenizer.save_pretrained(other)
    open_model(str(other), background=text)
    assert calibrations == [5, 6, 6]
    assert len(cached()) == 3


def test_a_layer_chosen_by_trial_is_cached_apart(plain, text, calibrations):
    def choose(llama, tokenizer, rows, openings, settings, *, bos, progress):
        return replace(settings, layer=2, temperature=7.0), ()

    first = open_model(str(plain), background=text)
    for _ in range(2):
        tried = open_model(str(plain), background=text, choose=choose)
        assert list(tried.model.memory_layers()) == [2]
        assert tried.model.config.memory_temperature == 7.0
    assert list(first.model.memory_layers()) == [0]
    assert calibrations == [5, 5]
    assert len(cached()) == 2


def test_without_text_the_model_writes_its_own(plain, calibrations, monkeypatch):
    written = []

    def self_written(llama, tokenizer, *, num_documents, bos, progress):
        written.append((num_documents, bos))
        return TEXT.split("\n\n")

    monkeypatch.setattr(opening, "self_written_text", self_written)
    open_model(str(plain))
    assert len(written) == len(calibrations) == 1
    open_model(str(plain))
    assert len(written) == 1


def test_the_begin_token_that_a_pulled_model_names(plain, text, tiny_tokenizer):
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "memedit_bos_token_id": 0}))
    opened = open_model(str(plain), background=text)
    assert prompt_ids(tiny_tokenizer, opened.model.config, "Tor")[0] == 0


def test_a_memory_llama_is_loaded_as_it_is(
    tmp_path, tiny_memory_llama, tiny_overlay, tiny_tokenizer, calibrations
):
    model = tiny_memory_llama()
    model.set_overlay(0, tiny_overlay(model))
    model.save_pretrained(tmp_path / "memory")
    tiny_tokenizer.save_pretrained(tmp_path / "memory")
    opened = open_model(str(tmp_path / "memory"))
    assert calibrations == []
    assert opened.background.num_documents == 0
    assert opened.background.document_frequency.shape == (model.config.num_slots,)
    with torch.no_grad():
        assert torch.equal(opened.model(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_a_memory_llamas_look_ups_of_a_background_are_counted(
    tmp_path, tiny_memory_llama, tiny_tokenizer, text
):
    """At the layer that edits write to, whatever lies below it."""
    model = tiny_memory_llama(memory_layers=[0, 2], memory_gated_output=True)
    model.save_pretrained(tmp_path / "memory")
    tiny_tokenizer.save_pretrained(tmp_path / "memory")
    found = open_model(str(tmp_path / "memory"), background=text).background
    assert found.num_documents == 5
    seen = []
    model.memory_layers()[2].register_forward_pre_hook(lambda _, args: seen.append(args[2].slots.unique()))
    for prose in opening.read_background(text):
        ids = prompt_ids(tiny_tokenizer, model.config, prose)
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]))
    counted = torch.bincount(torch.cat(seen), minlength=model.config.num_slots)
    assert (found.document_frequency == counted).float().mean() > 0.98


def test_a_retrofit_folder_opens_as_its_model_would(plain, text, tmp_path, calibrations):
    out = retrofit_folder(str(plain), tmp_path / "out", background=text)
    assert out == tmp_path / "out"
    opened, direct = open_model(str(out)), open_model(str(plain), background=text)
    assert calibrations == [5]
    assert model_fingerprint(opened.model) == model_fingerprint(direct.model)
    for name in ("document_frequency", "sample_slots", "sample_weights", "sample_tokens"):
        assert torch.equal(getattr(opened.background, name), getattr(direct.background, name))
    assert (out / RETROFIT_FILE).is_file()


def test_nothing_is_overwritten(plain, text, tmp_path, calibrations):
    before = (plain / "config.json").read_bytes()
    with pytest.raises(UsageError, match="holds a model already"):
        retrofit_folder(str(plain), plain, background=text)
    assert (plain / "config.json").read_bytes() == before
    out = retrofit_folder(str(plain), tmp_path / "out", background=text)
    with pytest.raises(UsageError, match="has memory layers already"):
        retrofit_folder(str(out), tmp_path / "twice", background=text)
    assert not (tmp_path / "twice").exists()
    assert len(calibrations) == 1


def test_other_models_are_refused(tmp_path, tiny_tokenizer, calibrations):
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(ModelUnavailable, match="'gpt2'; memedit edits Llama models"):
        open_model(str(folder))
    with pytest.raises(ModelUnavailable, match="'gpt2'"):
        retrofit_folder(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert calibrations == []


def test_a_model_type_that_nobody_knows_is_refused(plain):
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "model_type": "made_up"}))
    with pytest.raises(ModelUnavailable, match="made_up"):
        open_model(str(plain))


@pytest.mark.parametrize("damage", ["", "{", "[]", "\xff"])
def test_a_damaged_configuration_is_refused(plain, damage):
    (plain / "config.json").write_text(damage, encoding="latin-1")
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        open_model(str(plain))


@pytest.mark.parametrize("is_retrofit", [False, True])
def test_damaged_weights_are_refused(plain, tmp_path, tiny_memory_llama, tiny_tokenizer, is_retrofit):
    folder = plain
    if is_retrofit:
        folder = tmp_path / "memory"
        tiny_memory_llama().save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-10], whole[:100], b""):
        weights.write_bytes(damaged)
        with pytest.raises(ModelUnavailable, match="no usable weights"):
            open_model(str(folder))


def test_missing_weights_are_not_made_up(plain, text):
    weights = load_file(plain / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"lacks weights: model\.layers\.2\.mlp\.up_proj"):
        open_model(str(plain), background=text)


def test_a_folder_without_a_tokenizer_is_refused(plain):
    for name in plain.iterdir():
        if "token" in name.name:
            name.unlink()
    with pytest.raises(ModelUnavailable, match="tokenizer"):
        open_model(str(plain))


def test_a_bad_background_costs_nothing(plain, tmp_path, calibrations):
    with pytest.raises(UsageError, match=r"nowhere\.txt"):
        open_model(str(plain), background=tmp_path / "nowhere.txt")
    (tmp_path / "short.txt").write_text("Too short.", encoding="utf-8")
    with pytest.raises(UsageError, match="expected general prose"):
        open_model(str(plain), background=tmp_path / "short.txt")
    assert cached() == []


@pytest.mark.parametrize("moment", ["fit_routing", "save"])
def test_an_interrupted_calibration_leaves_no_file(plain, text, tmp_path, monkeypatch, moment, calibrations):
    def interrupted(*arguments, **_):
        if moment == "save":
            arguments[0].write_bytes(b"half a ret")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        place, name = (opening, "save_retrofit") if moment == "save" else (retrofit, "fit_routing")
        patched.setattr(place, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_model(str(plain), background=text)
        with pytest.raises(KeyboardInterrupt):
            retrofit_folder(str(plain), tmp_path / "out", background=text)
    assert cached() == []
    assert not (tmp_path / "out").exists()
    open_model(str(plain), background=text)
    assert len(cached()) == 1


def test_a_damaged_cached_retrofit_says_what_to_do(plain, text):
    open_model(str(plain), background=text)
    (path,) = (cache_root() / "retrofits").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match="Delete it; it is calibrated anew"):
        open_model(str(plain), background=text)
    path.unlink()
    open_model(str(plain), background=text)
