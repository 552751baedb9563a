"""What the store holds now, exported: the model for transformers, the edits for the base model."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from saved_world import save_world

import memedit
from memedit.errors import (
    FingerprintMismatch,
    StoreCorrupt,
    StoreTooNew,
    UsageError,
)
from memedit.modeling import MemoryLlamaForCausalLM, load_memory_llama, model_fingerprint
from memedit.modeling.portable import modeling_memory_llama as code
from memedit.store import import_edit


@pytest.fixture
def taught(three_edits, editor):
    """An editor whose store has three edits, two of which share a subject."""
    return editor


@pytest.fixture
def world_folder(world, tmp_path):
    """The plain Llama of the small world, as a folder."""
    folder = tmp_path / "plain-llama"
    world.world_llama().save_pretrained(folder)
    world.world_tokenizer().save_pretrained(folder)
    return folder


def portable(folder):
    """The exported model, by the code that stands in the folder."""
    return code.MemoryLlamaForCausalLM.from_pretrained(folder).eval()


def test_the_exported_model_says_what_the_edited_one_says(taught, look, tmp_path):
    written = taught.export(tmp_path / "out")
    exported = portable(tmp_path / "out")
    assert type(exported) is not MemoryLlamaForCausalLM
    assert torch.equal(look.logits(exported), look.logits(taught.model))
    assert look.overlay(load_memory_llama(tmp_path / "out")) == look.overlay(taught.model)
    assert written.kind == "model"
    assert written.edits == tuple(edit.id for edit in taught.store.edits())
    assert written.fingerprint == taught.store.fingerprint
    assert {
        "config.json",
        "model.safetensors",
        "README.md",
        "modeling_memory_llama.py",
    } <= written.files.keys()
    assert {
        "generation_config.json",
        "tokenizer.json",
        "configuration_memory_llama.py",
    } <= written.files.keys()
    for name, size in written.files.items():
        assert (tmp_path / "out" / name).stat().st_size == size


def test_exporting_leaves_model_and_store_as_they_are(taught, look, tmp_path):
    before = look.logits(taught.model), look.overlay(taught.model), taught.store.edits()
    taught.export(tmp_path / "out")
    taught.export(tmp_path / "delta", delta=True)
    assert torch.equal(look.logits(taught.model), before[0])
    assert (look.overlay(taught.model), taught.store.edits()) == before[1:]


def test_what_counts_is_what_the_store_says_now(taught, look, tmp_path, work):
    with work.open() as other:
        other.undo()
        taught.export(tmp_path / "out")
        assert torch.equal(look.logits(portable(tmp_path / "out")), look.logits(other.model))
        assert not torch.equal(look.logits(taught.model), look.logits(other.model))


def test_the_card_tells_history_facts_and_measurements(taught, tmp_path, three_edits):
    taught.store.add_measurements(
        three_edits[0].id,
        [
            {"name": "later", "value": 0.5, "low": 0.25, "high": 0.75, "n": 12, "protocol": "a | b"},
            {"name": "without_interval", "value": 0.5},
        ],
    )
    taught.undo(three_edits[2].id)
    taught.export(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    first, second, third = taught.store.edits()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"`{taught.store.fingerprint}`" in card
    assert f"| {first.id} | {first.created[:10]} | inject | {first.num_facts} | active |" in card
    assert (
        f"| {third.id} | {third.created[:10]} | inject | {third.num_facts} | undone: not in this model |"
        in card
    )
    assert f"| {first.id} | later | 0.5000 [0.2500, 0.7500] | 12 | a \\| b |" in card
    assert "without interval" not in card
    trained = second.report["metrics"]["trained_wording"]
    assert f"| {second.id} | trained wording | {trained['value']:.4f} [{trained['low']:.4f}" in card
    assert third.id not in card.split("## What was measured")[1]
    learned = [each for each in taught.store.facts() if each.outcome["status"] == "learned"]
    assert f"| facts | {len(learned)} |" in card
    assert all(f"| {each.fact.prompt} | {each.fact.target} |" in card for each in learned)
    assert "small-world" in card
    assert "not recorded" in card


def test_licence_and_origin_come_from_the_base_models_folder(world, tmp_path, work):
    from memedit.editor import Editor
    from memedit.modeling.opening import open_model
    from memedit.store import Store

    folder = save_world(tmp_path / "named" / "world")
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model: somebody/worlds\n---\n# Worlds\n")
    opened = open_model(str(folder))
    with Store.open(tmp_path / "store", fingerprint=model_fingerprint(opened.model)) as store:
        Editor(opened, store).export(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\nbase_model: somebody/worlds\n")
    assert str(tmp_path) not in card
    assert "The journal holds no measurement of these edits." in card


def test_a_named_models_licence_is_known():
    from memedit.editor.base_model import BaseModel, base_model

    known = base_model("smollm2-135m")
    assert known == BaseModel("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0")
    assert base_model("owner/name") == BaseModel("owner/name", "owner/name", None)


@pytest.mark.parametrize("delta", [False, True])
def test_a_folder_that_is_taken_is_refused(taught, tmp_path, delta):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="OUT must be a new or empty folder"):
        taught.export(tmp_path / "out", delta=delta)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("delta", [False, True])
def test_a_disk_that_refuses_leaves_no_folder(taught, tmp_path, monkeypatch, delta):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memedit.modeling.new_folder.os.fsync", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        taught.export(tmp_path / "there" / "out", delta=delta)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_delta_onto_the_plain_llama(taught, look, tmp_path, world_folder):
    written = taught.export(tmp_path / "delta", delta=True)
    assert written.kind == "delta"
    assert sum(written.files.values()) < 400_000
    loaded = memedit.load_delta(tmp_path / "delta", model=world_folder)
    assert torch.equal(look.logits(loaded), look.logits(taught.model))
    assert look.overlay(loaded) == look.overlay(taught.model)
    assert model_fingerprint(loaded) == taught.store.fingerprint


def test_a_delta_onto_a_model_that_is_loaded(taught, look, world, tmp_path):
    taught.export(tmp_path / "delta", delta=True)
    llama = world.world_llama()
    loaded = memedit.load_delta(tmp_path / "delta", model=llama)
    assert loaded.model.embed_tokens.weight is llama.model.embed_tokens.weight
    assert torch.equal(look.logits(loaded), look.logits(taught.model))
    loaded.set_overlay(0, None)
    with torch.no_grad():
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(loaded(ids).logits, llama(ids).logits)
    again = memedit.load_delta(tmp_path / "delta", model=loaded)
    assert again is loaded
    assert torch.equal(look.logits(again), look.logits(taught.model))


def test_the_description_of_a_delta(taught, tmp_path, three_edits):
    taught.export(tmp_path / "delta", delta=True)
    told = json.loads((tmp_path / "delta" / "memedit_config.json").read_text())
    assert told["format"] == "memedit-delta"
    assert told["base_model"] == "small-world"
    assert told["fingerprint"] == taught.store.fingerprint
    assert told["retrofit"]["config"]["memory_empty_base"] is True
    assert [edit["edit"] for edit in told["edits"]] == [edit.id for edit in three_edits]
    for described in (*told["edits"], told["retrofit"]):
        payload = (tmp_path / "delta" / described["file"]).read_bytes()
        assert hashlib.sha256(payload).hexdigest() == described["sha256"]
    card = (tmp_path / "delta" / "README.md").read_text(encoding="utf-8")
    assert "memedit.load_delta(" in card
    assert "trust_remote_code" not in card
    assert {path.suffix for path in (tmp_path / "delta").rglob("*") if path.is_file()} == {
        ".json",
        ".safetensors",
        ".md",
    }


def test_what_was_forgotten_is_in_no_export(taught, tmp_path, three_edits, look, world_folder):
    gone = three_edits[2].outcomes[0].fact
    taught.forget(subjects=[gone.subject], gate="quick", force=True, text=taught_text(tmp_path))
    taught.export(tmp_path / "delta", delta=True)
    taught.export(tmp_path / "out")
    for folder in ("delta", "out"):
        for path in (tmp_path / folder).rglob("*"):
            if path.suffix in (".safetensors", ".md") or path.name in ("config.json", "memedit_config.json"):
                assert gone.subject.encode() not in path.read_bytes(), path
    loaded = memedit.load_delta(tmp_path / "delta", model=world_folder)
    assert torch.equal(look.logits(loaded), look.logits(taught.model))


def taught_text(tmp_path):
    path = tmp_path / "prose.txt"
    path.write_text("A short walk by the river.\n\nThe bridge was closed for the winter.")
    return path


def test_another_base_is_refused_with_both_fingerprints(taught, world, tmp_path):
    taught.export(tmp_path / "delta", delta=True)
    other = world.world_llama()
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    with pytest.raises(FingerprintMismatch) as refused:
        memedit.load_delta(tmp_path / "delta", model=other)
    assert taught.store.fingerprint in str(refused.value)
    found = str(refused.value).split("was given has ")[1].split()[0].rstrip(",")
    assert len(found) == 64
    assert found != taught.store.fingerprint


def test_a_base_of_another_shape_is_refused(taught, tiny_llama, tmp_path):
    taught.export(tmp_path / "delta", delta=True)
    with pytest.raises(
        FingerprintMismatch, match=f"{taught.store.fingerprint}; the model that was given has another"
    ):
        memedit.load_delta(tmp_path / "delta", model=tiny_llama)


def test_a_base_that_is_not_named(taught, tmp_path):
    taught.export(tmp_path / "delta", delta=True)
    with pytest.raises(
        UsageError, match=r"base model 'small-world', which the folder names, is not known here\nSay where"
    ):
        memedit.load_delta(tmp_path / "delta")
    with pytest.raises(UsageError, match="No folder"):
        memedit.load_delta(tmp_path / "delta", model=tmp_path / "nowhere")


def test_a_store_without_active_edits_has_no_delta(work, tmp_path):
    with work.open() as editor:
        with pytest.raises(UsageError, match="has no active edit to export"):
            editor.export(tmp_path / "delta", delta=True)
        assert not (tmp_path / "delta").exists()
        assert editor.export(tmp_path / "out").num_facts == 0


@pytest.fixture
def delta(taught, tmp_path):
    taught.export(tmp_path / "delta", delta=True)
    return tmp_path / "delta"


def described(folder, change):
    path = folder / "memedit_config.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def test_damage_is_refused(delta, world):
    files = list(delta.rglob("*.safetensors"))
    assert len(files) == 4
    for path in files:
        payload = path.read_bytes()
        path.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
        with pytest.raises(StoreCorrupt, match="changed"):
            memedit.load_delta(delta, model=world.world_llama())
        path.unlink()
        with pytest.raises(StoreCorrupt, match="is missing"):
            memedit.load_delta(delta, model=world.world_llama())
        path.write_bytes(payload)
    memedit.load_delta(delta, model=world.world_llama())


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda told: told.update(format="other"), StoreCorrupt, "not of format"),
        (
            lambda told: told.update(format_version=9),
            StoreTooNew,
            "format version 9, this memedit reads up to 1",
        ),
        (lambda told: told.pop("fingerprint"), StoreCorrupt, "lacks fingerprint"),
        (
            lambda told: told["edits"][0].update(file="../other.safetensors"),
            StoreCorrupt,
            "cannot be one of its folder",
        ),
        (lambda told: told["edits"][0].pop("sha256"), StoreCorrupt, "cannot be one of its folder"),
        (lambda told: told.update(retrofit=None), FingerprintMismatch, "is a plain Llama"),
    ],
)
def test_descriptions_that_cannot_be(delta, world, change, error, said):
    described(delta, change)
    with pytest.raises(error, match=said):
        memedit.load_delta(delta, model=world.world_llama())


def test_a_folder_that_is_no_delta(tmp_path, world):
    with pytest.raises(StoreCorrupt, match="no readable description of edits"):
        memedit.load_delta(tmp_path, model=world.world_llama())


def test_an_imported_edit_answers_like_in_the_first_store(taught, three_edits, tmp_path, world, look):
    from memedit.editor import Editor
    from memedit.store import Store, export_edit

    taught.undo(three_edits[0].id)
    taught.undo(three_edits[1].id)
    export_edit(taught.store, three_edits[2].id, tmp_path / "edit.safetensors")
    import_edit(tmp_path / "edit.safetensors", tmp_path / "elsewhere")
    with Store.open(tmp_path / "elsewhere", fingerprint=taught.store.fingerprint) as store:
        other = Editor(world.opened_world(), store)
        fact = three_edits[2].outcomes[0].fact
        mine, theirs = taught.ask(fact.prompt), other.ask(fact.prompt)
        assert theirs.text == mine.text
        assert theirs.subject == mine.subject == fact.subject
        assert torch.equal(look.logits(other.model), look.logits(taught.model))
        before = look.logits(world.opened_world().model)
        other.undo()
        assert torch.equal(look.logits(other.model), before)
