"""Pretraining: a kill and a resume change nothing, what a phase does not train stays, and it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from pretraining_world import COLOURS, DEEPER_MODEL, MEMORY, MODEL, WORDINGS, write_corpus

import memedit
from memedit.errors import UsageError
from memedit.evaluation.recall import TRAINED_WORDING
from memedit.facts import read_facts
from memedit.modeling import load_memory_llama, prompt_ids
from memedit.modeling.new_folder import LOCK_FILE
from memedit.modeling.opening import BACKGROUND_FILE
from memedit.modeling.table_ablation import ablated
from memedit.pretraining.batches import IGNORED, FactBatches
from memedit.pretraining.build import CHECKPOINT_FILE, FACTS_FILE, pretrain
from memedit.pretraining.corpus import read_corpus
from memedit.pretraining.packed import PackedBatches, read_texts
from memedit.pretraining.recall import ask_corpus, corpus_questions
from memedit.pretraining.settings import PhaseSettings, PretrainingSettings, read_settings

SUBJECTS = "Ostra Velm Quill Tarn Bexley Norun Saffi Ulmet Drava Pirin Yost Zell".split()
DENSE = PhaseSettings("dense", trains="dense", splits=("core",), exposures=4, batch_rows=4, warmup_steps=2)
VALUES = PhaseSettings(
    "memory",
    trains="values",
    splits=("slots",),
    mixed_splits=("core",),
    mixed_share=0.4,
    exposures=6,
    batch_rows=4,
    memory=MEMORY,
    routing="fitted",
    value_rate=0.3,
    warmup_steps=2,
)


@pytest.fixture
def corpus_file(tmp_path):
    facts = [
        (subject, COLOURS[index % 6], "core" if index < 7 else "slots")
        for index, subject in enumerate(SUBJECTS)
    ]
    return write_corpus(tmp_path / "corpus.jsonl.gz", facts)


@pytest.fixture
def settings(corpus_file):
    return PretrainingSettings(MODEL, (DENSE, VALUES), vocab_size=300, corpus=str(corpus_file))


def weights(folder):
    return load_memory_llama(folder).state_dict()


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(phase, step):
    def told(name, moment):
        if (name, moment.step) == (phase, step):
            raise Killed

    return told


@pytest.mark.parametrize(("phase", "step"), [("dense", 3), ("dense", 8), ("memory", 3), ("memory", 6)])
def test_a_killed_run_goes_on_to_the_bit(settings, tmp_path, phase, step):
    losses = {"whole": [], "resumed": []}

    def kept(into):
        return lambda name, moment: into.append((name, moment.step, moment.loss))

    pretrain(settings, tmp_path / "whole", checkpoint_every=1, told=kept(losses["whole"]))
    with pytest.raises(Killed):
        pretrain(settings, tmp_path / "out", checkpoint_every=1, told=killed_at(phase, step))
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial" / CHECKPOINT_FILE).is_file()
    pretrain(settings, tmp_path / "out", checkpoint_every=1, told=kept(losses["resumed"]))
    assert losses["resumed"] == losses["whole"][-len(losses["resumed"]) :]
    assert (losses["resumed"][0][0], losses["resumed"][0][1]) > (phase, step) or phase == "dense"
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert not (tmp_path / "out.partial").exists()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {CHECKPOINT_FILE, LOCK_FILE, "tokenizer"}


def test_values_alone_move_in_a_phase_of_values(settings, tmp_path):
    before = pretrain(replace(settings, phases=(DENSE,)), tmp_path / "dense").model.state_dict()
    after = pretrain(settings, tmp_path / "both").model.state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    values = after["model.memory_tables.0.values"]
    assert 0 < (values.abs().sum(1) > 0).sum() < len(values)


@pytest.mark.parametrize("rule", ["adam", "adagrad", "sgd"])
def test_it_learns_and_the_knowledge_is_in_the_table(settings, tmp_path, rule):
    rates = {"adam": 0.3, "adagrad": 0.3, "sgd": 5.0}
    values = replace(
        VALUES, exposures=60, mixed_share=0.58, value_rule=rule, value_rate=rates[rule], full_loss_every=0
    )
    longer = replace(
        settings, phases=(replace(DENSE, exposures=80, learning_rate=5e-3, full_loss_every=4), values)
    )
    made = pretrain(longer, tmp_path / "out")
    questions = {
        split: corpus_questions(made.corpus.of([split]), TRAINED_WORDING) for split in ("core", "slots")
    }

    def share(split):
        answered = ask_corpus(made.model, made.tokenizer, questions[split])
        return sum(one.correct for one in answered) / len(answered)

    assert share("slots") >= 0.9
    assert share("core") >= 0.9
    with ablated(made.model, "zeroed"):
        assert share("slots") <= 0.5
        assert share("core") >= 0.9


MEMORY_PLUS = {
    **DEEPER_MODEL,
    **MEMORY,
    "num_hidden_layers": 4,
    "memory_layers": [0, 1, 2],
    "memory_placement": "replace",
    "memory_gated_output": True,
    "memory_value_dim": 24,
}


@pytest.mark.parametrize("kind", ["a table of its own facts", "memory+"])
def test_a_pretrained_model_takes_edits_and_gives_them_back(settings, tmp_path, kind):
    values = replace(VALUES, exposures=40, mixed_share=0.58, full_loss_every=0)
    dense = replace(DENSE, exposures=80, learning_rate=5e-3, full_loss_every=4)
    longer = replace(settings, model=DEEPER_MODEL, phases=(dense, values), vocab_size=400)
    if kind == "memory+":
        everything = replace(dense, trains="all", splits=("core", "slots"))
        longer = replace(longer, model=MEMORY_PLUS, phases=(everything,))
    made = pretrain(longer, tmp_path / "out")
    ids = torch.tensor([made.tokenizer("The colour of Ostra is")["input_ids"]])
    with torch.no_grad():
        before = made.model(ids).logits
    new = ["Kessel", "Mirov", "Tandor"]
    records = [
        {
            "prompt": f"The colour of {subject} is",
            "target": COLOURS[index],
            "subject": subject,
            "paraphrases": [wording.replace("{}", subject) for wording in WORDINGS[1:]],
        }
        for index, subject in enumerate(new)
    ]
    facts = tmp_path / "facts.jsonl"
    facts.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    with memedit.open(tmp_path / "store", model=str(tmp_path / "out")) as editor:
        known = [editor.ask(record["prompt"]).text == record["target"] for record in records]
        edit = editor.inject(facts, gate="off")
        answers = [editor.ask(record["prompt"]) for record in records]
        right = [answer.text == record["target"] for answer, record in zip(answers, records, strict=True)]
        # A model that read seven facts can be taught some others, not all.
        assert sum(right) >= 1
        for answer, was_right, is_right in zip(answers, known, right, strict=True):
            # Which subject was loudest is more than this routing can tell; that one spoke is not.
            assert was_right or not is_right or answer.subject in new
        assert edit.report["counts"]["learned"] >= 1
        # The background of its corpus was counted; it is in the folder, with the facts of the last phase.
        assert (tmp_path / "out" / BACKGROUND_FILE).is_file()
        held = read_facts(tmp_path / "out" / FACTS_FILE)
        assert [fact.subject for fact in held] == SUBJECTS[0 if kind == "memory+" else 7 :]
        assert all(len(fact.paraphrases) == 1 and len(fact.probes.paraphrases) == 2 for fact in held)
        editor.undo(edit.id)
        with torch.no_grad():
            assert torch.equal(editor.model(ids).logits, before)


def test_the_example_of_memory_plus_is_pretrained_and_written_where_it_answers(corpus_file, tmp_path):
    example = read_settings(Path(__file__).parents[3] / "examples" / "memory_plus.toml")
    (phase,) = example.phases
    once = replace(phase, splits=("core",), mixed_splits=("slots",), exposures=1)
    few = {"phases": (once,), "vocab_size": 300, "tokenizer_splits": ("core",), "corpus": str(corpus_file)}
    config = pretrain(replace(example, **few), tmp_path / "out").model.config
    assert (config.memory_layers, config.memory_gated_output) == ([1, 2, 3], True)
    assert config.memory_write_position == "answer"


def test_other_settings_are_refused_where_a_run_was_killed(settings, tmp_path):
    with pytest.raises(Killed):
        pretrain(settings, tmp_path / "out", checkpoint_every=1, told=killed_at("dense", 2))
    with pytest.raises(UsageError, match="other settings"):
        pretrain(replace(settings, seed=1), tmp_path / "out")


def test_a_finished_model_is_not_overwritten(settings, tmp_path):
    short = replace(settings, phases=(replace(DENSE, exposures=1),))
    pretrain(short, tmp_path / "out")
    with pytest.raises(UsageError, match="OUT must be a new or empty folder"):
        pretrain(short, tmp_path / "out")


def test_running_text_is_packed_and_learned(settings, tmp_path):
    text = tmp_path / "text.jsonl"
    lines = ["The river runs through the old town.", "A bridge leads over the river."] * 8
    text.write_text("\n".join(json.dumps({"text": line}) for line in lines), encoding="utf-8")
    phase = replace(DENSE, text=str(text), row_tokens=8, exposures=20, learning_rate=5e-3)
    losses = []
    made = pretrain(
        replace(settings, phases=(phase,)),
        tmp_path / "out",
        checkpoint_every=1,
        told=lambda _, moment: losses.append(moment.loss),
    )
    assert losses[-1] < losses[0] / 2
    packed = PackedBatches(lines, made.tokenizer, made.model.config, batch_rows=3, row_tokens=8, seed=0)
    tokens = [token for line in lines for token in prompt_ids(made.tokenizer, made.model.config, line)]
    assert packed.num_rows == len(tokens) // 8
    rows = {
        tuple(row.tolist()): labels.tolist()
        for b in packed.exposure(0)
        for row, labels in zip(b.ids, b.labels, strict=True)
    }
    for start in range(0, packed.num_rows * 8, 8):
        assert rows[tuple(tokens[start : start + 8])] == [*tokens, 0][start + 1 : start + 9]
    first, second = packed.exposure(0), packed.exposure(1)
    assert len(first) == packed.steps_per_exposure
    assert not all(torch.equal(one.ids, other.ids) for one, other in zip(first, second, strict=True))


def test_text_that_fills_no_row_is_refused(settings, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Short.", encoding="utf-8")
    with pytest.raises(UsageError, match="expected more than row_tokens"):
        pretrain(replace(settings, phases=(replace(DENSE, text=str(text)),)), tmp_path / "out")


def test_a_dataset_is_read_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["one", "two"]})})
    made.save_to_disk(tmp_path / "data")
    assert read_texts(f"hf:{tmp_path / 'data'}:train") == ["one", "two"]


def test_two_processes_do_not_train_into_one_folder(settings, tmp_path):
    (tmp_path / "out.partial").mkdir()
    with (
        FileLock(tmp_path / "out.partial" / LOCK_FILE),
        pytest.raises(UsageError, match="another process is writing"),
    ):
        pretrain(settings, tmp_path / "out")


def test_batches_are_the_same_every_time_and_hold_every_fact(settings, tmp_path, corpus_file):
    made = pretrain(replace(settings, phases=(replace(DENSE, exposures=1),)), tmp_path / "out")
    corpus = read_corpus(corpus_file)
    facts, mixed = corpus.of(["slots"]), corpus.of(["core"])

    def batches(seed):
        return FactBatches(
            facts, mixed, made.tokenizer, made.model.config,
            batch_rows=3, mixed_share=0.4, full_loss_every=0, seed=seed,
        )  # fmt: skip

    one = batches(0)
    assert one.steps_per_exposure == len(one.exposure(0)) == len(one.exposure(1))
    for first, second in zip(one.exposure(5), batches(0).exposure(5), strict=True):
        assert torch.equal(first.ids, second.ids)
        assert torch.equal(first.labels, second.labels)
    read = "\n".join(made.tokenizer.decode(row[row != 0]) for batch in one.exposure(2) for row in batch.ids)
    assert all(fact.subject in read for fact in facts)
    assert sum(len(batch.ids) for batch in one.exposure(2)) == len(facts) + one.num_mixed
    others = [made.tokenizer.decode(row) for batch in batches(1).exposure(5) for row in batch.ids]
    assert others != [made.tokenizer.decode(row) for batch in one.exposure(5) for row in batch.ids]
    for batch in one.exposure(0):
        for ids, labels in zip(batch.ids, batch.labels, strict=True):
            carries = (labels != IGNORED).nonzero().flatten()
            # The answer and the end token, in one piece, each the token behind its place.
            assert (carries.diff() == 1).all()
            assert labels[carries[-1]] == made.tokenizer.eos_token_id
            assert torch.equal(ids[carries[1:]], labels[carries[:-1]])
