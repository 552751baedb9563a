"""Layer and temperature by trial: the choice follows the gates, and a model needs no setting of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures_tiny import build_tiny_llama

from memedit.editing import routing_trials, trial_material
from memedit.editing.plan import EditingSettings, plan_edit, train_plan
from memedit.editing.routing_trials import best_trial, candidate_layers, choose_routing
from memedit.editing.trial_material import held_out_names, some_of_each_group
from memedit.evaluation import general_text, generate_answers
from memedit.modeling import retrofit
from memedit.modeling.calibration import RoutingSettings, RoutingTrial
from memedit.modeling.calibration_names import calibration_names
from memedit.modeling.opening import open_model
from memedit.modeling.retrofit import fit_retrofit, load_retrofit, save_retrofit

SMALL = RoutingSettings(
    num_keys=32, key_dim=32, head_windows=(1, 2), top_k=8, discriminants=32, kmeans_steps=2
)
TEXTS = [text for text in general_text().split("\n\n") if len(text) > 100]


@pytest.fixture
def few_names(monkeypatch, world):
    """A trial of a second or two."""
    monkeypatch.setattr(retrofit, "calibration_names", world.few_calibration_names)
    monkeypatch.setattr(trial_material, "NUM_NAMES", 16)
    monkeypatch.setattr(trial_material, "DECOYS_PER_NAME", 4)
    monkeypatch.setattr(routing_trials, "NUM_DOCUMENTS", 8)
    monkeypatch.setattr(routing_trials, "TEMPERATURES", (10.0, 20.0))


def llama_of_another_shape():
    """Six blocks: the candidates are the second and the third."""
    return build_tiny_llama(
        seed=3,
        hidden_size=40,
        intermediate_size=56,
        num_hidden_layers=6,
        num_attention_heads=5,
        num_key_value_heads=1,
    )


def fitted(llama, tokenizer, **options):
    return fit_retrofit(llama, tokenizer, TEXTS[:6], SMALL, choose=choose_routing, **options)


def trial(layer, temperature=20.0):
    return RoutingTrial(layer, temperature, 0.0, 0.0, 4, 4)


def test_candidates_have_a_block_above_them():
    assert candidate_layers(30) == (5, 6, 7, 10)
    assert candidate_layers(12) == (2, 3, 4)
    assert candidate_layers(6) == (1, 2)
    assert candidate_layers(2) == candidate_layers(1) == (0,)


def test_the_best_is_chosen_and_the_cheapest_of_equals():
    trials = [trial(2, 10.0), trial(2), trial(5)]
    clear = torch.tensor([[0.9, 0.8, 1.0, 0.9], [1.0, 0.9, 1.0, 1.0], [0.1, 0.2, 0.1, 0.0]])
    assert best_trial(trials, clear) == 1
    # Names differ from the best in both directions, by more than the last is behind on the whole.
    level = torch.tensor([[0.1, 0.1, 0.0, 0.0], [1.0, 0.9, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0]])
    assert best_trial(trials, level) == 2
    # Of one layer's temperatures the better one.
    assert best_trial(trials[:2], torch.tensor([[0.9, 1.0], [1.0, 0.9 + 1e-6]])) == 1


@pytest.mark.usefixtures("few_names")
@pytest.mark.parametrize("useless", [1, 2])
def test_a_layer_whose_routing_is_useless_is_not_chosen(tiny_tokenizer, useless):
    llama = llama_of_another_shape()
    # One feature of forty is left: it cannot tell names apart.
    with torch.no_grad():
        llama.model.layers[useless].post_attention_layernorm.weight[1:] = 0
    found = fitted(llama, tiny_tokenizer)
    assert found.settings.layer == 3 - useless
    assert {item.layer for item in found.trials} == {1, 2}
    (chosen,) = [item for item in found.trials if item.chosen]
    assert (chosen.layer, chosen.temperature) == (found.settings.layer, found.settings.temperature)
    best_of_useless = max(item.opened - 2 * item.leaked for item in found.trials if item.layer == useless)
    assert chosen.opened - 2 * chosen.leaked > best_of_useless


@pytest.mark.usefixtures("few_names")
def test_the_same_model_gets_the_same_choice_and_it_is_kept(tiny_tokenizer, tmp_path):
    first, second = (fitted(llama_of_another_shape(), tiny_tokenizer) for _ in range(2))
    assert first.trials == second.trials
    assert len(first.trials) == 4
    assert torch.equal(first.routing.query_weight, second.routing.query_weight)
    save_retrofit(tmp_path / "kept.safetensors", first)
    kept = load_retrofit(tmp_path / "kept.safetensors")
    assert (kept.trials, kept.settings) == (first.trials, first.settings)


@pytest.mark.usefixtures("few_names")
def test_a_given_layer_is_not_tried(tiny_tokenizer):
    def refused(*_, **__):
        raise AssertionError("a layer was given")

    settings = replace(SMALL, layer=4)
    found = fit_retrofit(llama_of_another_shape(), tiny_tokenizer, TEXTS[:6], settings, choose=refused)
    assert (found.settings, found.trials) == (settings, ())


def test_held_out_names_are_none_that_the_routing_is_fitted_on():
    used = some_of_each_group(calibration_names(), 2)
    held_out = held_out_names(used)
    assert len(held_out) == len(set(held_out)) == 64
    assert not {item.name for item in used} & set(held_out)


def test_a_second_model_learns_with_nothing_set(world, tmp_path, monkeypatch):
    """Another width, depth, vocabulary and tokenizer; layer, temperature and learning rate are found."""
    monkeypatch.setattr(retrofit, "calibration_names", world.few_calibration_names)
    folder, text = tmp_path / "second", tmp_path / "text.txt"
    world.world_llama().save_pretrained(folder)
    world.world_tokenizer().save_pretrained(folder)
    text.write_text("\n\n".join(TEXTS[:12]), encoding="utf-8")
    opened = open_model(str(folder), background=text, choose=choose_routing)
    # Its second block has forgotten the names: the first is the only place that finds them.
    assert list(opened.model.memory_layers()) == [0]
    facts = [
        world.land_fact(land, world.CITIES[(7 * index + 3) % len(world.CITIES)])
        for index, land in enumerate(world.NEW_LANDS)
    ]
    known, settings = world.known_facts(), EditingSettings()

    def num_right(asked):
        answers = generate_answers(
            opened.model, opened.tokenizer, [fact.prompt for fact in asked], max_new_tokens=6
        )
        return sum(answer.text == fact.target for answer, fact in zip(answers, asked, strict=True))

    assert (num_right(facts), num_right(known)) == (0, len(known))
    plan = plan_edit(opened.model, opened.tokenizer, opened.background, facts, seed=0, settings=settings)
    overlay = plan.selection.blank_overlay(opened.model.config.value_dim, plan.rows.subjects)
    result = train_plan(opened.model, plan, overlay, seed=0, settings=settings)
    delta = result.trained.delta
    opened.model.set_overlay(0, replace(overlay, values=delta.values, rows=delta.rows))
    assert num_right(facts) >= 6
    # Its names are a syllable apart: one of 24 neighbours may go.
    assert num_right(known) >= len(known) - 1
