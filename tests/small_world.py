"""A small Llama that really knows the capitals of some made-up lands, trained in seconds.

A random Llama carries nothing from a subject to the answer behind it, so no edit could teach it. This one has
learned to read a land's name from wordings such as memedit teaches. Of the new lands it has heard
contradicting things, so it knows them as lands, but not their capitals: these can be injected.

Its weights and tokenizer are kept in tests/small_world_llama, since training rounds otherwise on another
processor, and what so small a model can be taught depends on it. `python tests/small_world.py` makes them
anew.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import torch
from fixtures_tiny import build_tiny_llama
from safetensors.torch import load_model, save_file

LANDS = (
    "Borvia Kelmar Tassin Dromund Uvaria Penzor Quelia Mardok Sylene Fendal Gorlan Hestia Jarnov Lothal "
    "Nerubia Ostrand Pelagon Rovenia Saltara Thulen Varnas Wexley Yarrow Zintia"
).split()
CITIES = "Lutz Ardon Pera Olmo Vaska Trill Nomi Kest Bruna Yole Sankt Dova".split()
# Never a capital of a new land, so that a land's harbour is not what is answered already.
HARBOUR = "Kest"
NEW_LANDS = "Zubrow Genova Mirelle Caldor Brinna Eltham Vosgia Turlan".split()
PROMPT = "The capital of {} is"
PARAPHRASES = (
    "The capital city of {} is called",
    "Q: What is the capital of {}? A:",
    "{} has its seat of government in",
)
HELD_OUT = "Everyone knows that the capital of {} is"
VOCABULARY = 600
KEPT = Path(__file__).with_name("small_world_llama")
WEIGHTS, TOKENIZER = KEPT / "weights.safetensors", KEPT / "tokenizer.json"


def capital(index):
    """The capital of LANDS[index]."""
    return CITIES[(5 * index + index // 12) % len(CITIES)]


def land_fact(land, city, **changes):
    """A fact as a user would write it."""
    from memedit.facts import facts_from_records

    (fact,) = facts_from_records(
        [
            {
                "prompt": PROMPT.format(land),
                "target": city,
                "subject": land,
                "paraphrases": [wording.format(land) for wording in PARAPHRASES],
                "probes": {"paraphrases": [HELD_OUT.format(land)]},
            }
        ]
    )
    return replace(fact, **changes)


def new_facts():
    """Facts to inject, one for each of the new lands; those that one edit alone teaches come first.

    Not every wrong idea of so small a model can be taught away; which depends on rounding, so all are tried.
    """
    return list(_facts_by_ease())


@functools.cache
def _facts_by_ease():
    from memedit.evaluation import generate_answers

    opened = opened_world()
    cities = [city for city in CITIES if city != HARBOUR]
    tried = []
    for index, land in enumerate(NEW_LANDS):
        fact = land_fact(land, cities[(7 * index + 3) % len(cities)])
        result = teach(opened, [fact])
        (answer,) = generate_answers(opened.model, opened.tokenizer, [fact.prompt], max_new_tokens=6)
        tried.append((answer.text != fact.target, result.trained.losses[-1], index, fact))
    assert sum(not failed for failed, *_ in tried) >= 3, "this machine's small world cannot be taught"
    return tuple(fact for *_, fact in sorted(tried, key=lambda item: item[:3]))


def teach(opened, facts, **training):
    """Train facts and put them into the model, without a store; returns the EditResult."""
    from memedit.editing.plan import plan_edit, train_plan

    settings = world_settings(**training)
    opened.model.set_overlay(0, None)
    plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
    overlay = plan.selection.blank_overlay(opened.model.config.value_dim, plan.rows.subjects)
    result = train_plan(opened.model, plan, overlay, seed=0, settings=settings)
    delta = result.trained.delta
    opened.model.set_overlay(0, replace(overlay, values=delta.values, rows=delta.rows))
    return result


def restated_fact():
    """The known facts with their relation, and the first of them stated anew in another wording."""
    told = [replace(fact, relation="capital") for fact in known_facts()]
    prompt = PARAPHRASES[0].format(told[0].subject)
    return told, replace(told[0], id="anew", prompt=prompt, target="Nomi", paraphrases=())


def known_facts():
    """What the model was trained on."""
    return [land_fact(land, capital(index)) for index, land in enumerate(LANDS)]


def _rows(facts):
    from memedit.facts import wordings

    # The held-out wording is taught for the known lands, so that new lands can be asked in it.
    told = [
        (wording.prompt, fact.target)
        for fact in facts
        for wording in wordings(fact, seed=0, num_contexts=2, num_questions=1)
    ]
    return told + [(HELD_OUT.format(fact.subject), fact.target) for fact in facts]


@functools.cache
def world_tokenizer():
    """A byte-level tokenizer that knows the wordings' words, the cities and the lands as whole tokens."""
    from transformers import PreTrainedTokenizerFast

    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER), unk_token="<|endoftext|>", **special)


def trained_tokenizer():
    """The tokenizer, trained on the wordings."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [prompt for prompt, _ in _rows([land_fact("Qx", "Lutz")])]
    made.train_from_iterator([*[" " + " ".join((*CITIES, *LANDS, *NEW_LANDS))] * 9, *texts], trainer)
    return made


def trained_weights(steps=110, batch=48):
    """The weights, trained in seconds: every known land's capital is answered in every wording."""
    from memedit.modeling import encode_fact

    model = _blank_llama()
    told = _rows(known_facts())
    for number, land in enumerate(NEW_LANDS):
        said = _rows([land_fact(land, CITIES[0])])
        told += [
            (text, CITIES[(7 * number + 5 * index) % len(CITIES)]) for index, (text, _) in enumerate(said)
        ]
    rows = [encode_fact(world_tokenizer(), model.config, text, f" {city}") for text, city in told]
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    # Only answers are learned: that takes a tenth of the steps.
    labels = torch.tensor(
        [[*[-100] * row.num_prompt, *row.answer_ids, *[-100] * (longest - len(row.ids))] for row in rows]
    )
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randperm(len(ids), generator=generator)[:batch]
        used = int((labels[pick] != -100).any(0).nonzero().max()) + 1
        model(input_ids=ids[pick, :used], labels=labels[pick, :used]).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {name: tensor.clone() for name, tensor in model.named_parameters()}


def _blank_llama():
    return build_tiny_llama(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        initializer_range=0.05,
    )


def world_llama():
    """A fresh copy of the trained Llama."""
    model = _blank_llama()
    load_model(model, WEIGHTS)
    return model.eval()


def routing_settings():
    """Routing of a size that fits the small Llama."""
    from memedit.modeling.calibration import RoutingSettings

    return RoutingSettings(
        layer=0, num_keys=32, key_dim=32, head_windows=(1, 1, 2), top_k=8, discriminants=64, kmeans_steps=3
    )


def few_calibration_names():
    """Some of the calibration names, in whole groups: all of them would take seconds."""
    from memedit.modeling.calibration_names import calibration_names

    return [item for item in calibration_names() if item.group.split()[0] in ("last", "place", "one")][:160]


@functools.cache
def retrofit_of_world():
    """The routing of the small world, fitted once."""
    from memedit.evaluation import general_text
    from memedit.modeling import retrofit

    texts = [text for text in general_text().split("\n\n") if len(text) > 100][:12]
    names, retrofit.calibration_names = retrofit.calibration_names, few_calibration_names
    try:
        return retrofit.fit_retrofit(world_llama(), world_tokenizer(), texts, routing_settings())
    finally:
        retrofit.calibration_names = names


def opened_world():
    """The trained Llama, retrofitted, as open_model hands it over; a fresh copy."""
    from memedit.modeling.opening import OpenedModel
    from memedit.modeling.retrofit import apply_retrofit

    fitted = retrofit_of_world()
    model = apply_retrofit(world_llama(), fitted)
    model.requires_grad_(requires_grad=False)
    return OpenedModel("small-world", model.eval(), world_tokenizer(), fitted.background)


def world_settings(**training):
    """Editing settings of a scale that fits the small Llama."""
    from memedit.editing.discriminants import DiscriminantSettings
    from memedit.editing.plan import EditingSettings
    from memedit.editing.selection import SelectionSettings
    from memedit.editing.training import TrainingSettings

    # All numbers are given, so that tuning the defaults for real models does not move these tests. One
    # question: the small Llama never saw those of two lines.
    selection = SelectionSettings(
        slots_per_subject=48,
        contrast=0.5,
        hard_tokens=8,
        threshold_position=0.3,
        min_threshold=0.1,
        given_share=2.0,
        low_quantile=0.1,
        min_idf=0.05,
        discriminant=DiscriminantSettings(position=0.4, ridge=0.3, low_quantile=0.1, given_share=0.9),
    )
    numbers = {
        "max_epochs": 16,
        "learning_rate": 1.2,
        "row_rate": 0.5,
        "batch_rows": 32,
        "margin": 0.7,
        "min_epochs": 6,
        "beta1": 0.9,
        "beta2": 0.99,
    }
    return EditingSettings(
        selection, TrainingSettings(**{**numbers, **training}), num_contexts=2, num_questions=1, num_decoys=6
    )


def make():
    """Train tokenizer and weights and keep them."""
    KEPT.mkdir(exist_ok=True)
    trained_tokenizer().save(str(TOKENIZER))
    world_tokenizer.cache_clear()
    torch.manual_seed(0)
    save_file({name: tensor.detach() for name, tensor in trained_weights().items()}, WEIGHTS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make()
