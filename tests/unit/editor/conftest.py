"""An editor on a small Llama that knows a few things, with measurements small enough for unit tests."""

from __future__ import annotations

import hashlib
import shutil
from types import SimpleNamespace

import pytest
import small_world
import torch
from fixtures_world import modules_out_of_the_garbage, world  # noqa: F401


class EditorAtWork:
    """Opens editors on one store and injects with settings that fit the small world."""

    def __init__(self, path, text, taught_once=None):
        self.path, self.text, self.taught_once = path, text, taught_once
        self.opened = []

    def begin_with(self, teach):
        """Begin with the store that `teach(work, editor)` makes, and return what that returned.

        The store is a copy, to the bit, of one that was taught once. It must not be there yet: a test asks
        for a fixture that begins with edits before it asks for `editor`.
        """
        folder, returned = self.taught_once(self.text, teach)
        shutil.copytree(folder, self.path)
        return returned

    def open(self, **options):
        """A new editor with a model of its own."""
        from memedit.editor import Editor
        from memedit.modeling import model_fingerprint
        from memedit.store import Store

        opened = small_world.opened_world()
        store = Store.open(self.path, fingerprint=model_fingerprint(opened.model), **options)
        editor = Editor(opened, store)
        self.opened.append(editor)
        return editor

    def inject(self, editor, *facts, **options):
        """Inject with settings for the small model; the gate is off unless asked for."""
        options = {"gate": "off", "text": self.text, "settings": small_world.world_settings(), **options}
        return editor.inject(list(facts), **options)


@pytest.fixture(autouse=True)
def few_well_known_facts(monkeypatch):
    """The retention suite is what the small model was trained on."""
    monkeypatch.setattr("memedit.editor.measuring.well_known_facts", small_world.known_facts)
    for module in ("testing", "families", "transaction"):
        monkeypatch.setattr(f"memedit.editor.{module}.well_known_facts", small_world.known_facts)
    from memedit.facts import look_alikes

    for module in ("measuring", "families"):
        monkeypatch.setattr(
            f"memedit.editor.{module}.look_alikes",
            lambda facts, *, num, seed: look_alikes(facts, num=8, seed=seed),
        )


@pytest.fixture(scope="session")
def taught_once(tmp_path_factory):
    """Teach a store once in a session: taught_once(text, teach) -> its folder, and what `teach` returned."""
    made = {}

    def taught(text, teach):
        if teach not in made:
            work = EditorAtWork(tmp_path_factory.mktemp("taught") / "store", text)
            with work.open() as editor:
                made[teach] = work.path, teach(work, editor)
        return made[teach]

    return taught


@pytest.fixture
def work(tmp_path, taught_once):
    """A store in an empty folder, and what opens editors on it."""
    text = tmp_path / "text.txt"
    text.write_text("A short walk by the river.\n\nThe bridge was closed for the winter.", encoding="utf-8")
    at_work = EditorAtWork(tmp_path / "store", text, taught_once)
    yield at_work
    for editor in at_work.opened:
        editor.close()


@pytest.fixture
def editor(work):
    """An editor on the store, which is empty unless the test began with edits."""
    return work.open()


def _teach_three(work, editor):
    facts = small_world.new_facts()
    again = small_world.land_fact(
        facts[0].subject,
        small_world.HARBOUR,
        prompt=f"The largest harbour of {facts[0].subject} is",
        paraphrases=(),
        id="harbour",
    )
    return [
        work.inject(editor, facts[0]),
        work.inject(editor, again, facts[1]),
        work.inject(editor, facts[2]),
    ]


@pytest.fixture
def three_edits(work):
    """Three edits, the second about the first one's subject too, so that patches overlap."""
    return work.begin_with(_teach_three)


@pytest.fixture
def look():
    """Ways to look at a model: logits, a hash of everything that must never change, the overlay's bits."""

    from memedit.modeling import prompt_ids

    @torch.no_grad()
    def logits(model):
        prompts = [
            small_world.PROMPT.format(land) for land in (*small_world.NEW_LANDS, *small_world.LANDS[:4])
        ]
        encoded = [prompt_ids(small_world.world_tokenizer(), model.config, prompt) for prompt in prompts]
        return torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in encoded])

    def dense(model):
        digest = hashlib.sha256()
        for name, tensor in sorted(model.named_parameters()):
            digest.update(
                name.encode() + tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
        return digest.hexdigest()

    def overlay(model):
        worn = model.overlay()
        if worn is None:
            return None
        tensors = (worn.slots, worn.values, worn.owners, worn.thresholds)
        return (*(tensor.numpy().tobytes() for tensor in tensors), worn.owner_names)

    return SimpleNamespace(logits=logits, dense=dense, overlay=overlay)
