"""The small world that other tests teach: what it knows, and that its recipe still makes such a one."""

from __future__ import annotations

import pytest
import small_world
import torch


def recall(model, facts):
    """Share of facts that are answered right in every wording that is taught, and held out."""
    from memedit.evaluation import generate_answers

    asked = [
        (prompt, fact.target) for fact in facts for prompt in (*fact.given_wordings, *fact.probes.paraphrases)
    ]
    answers = generate_answers(
        model, small_world.world_tokenizer(), [prompt for prompt, _ in asked], max_new_tokens=4
    )
    return sum(answer.text == target for answer, (_, target) in zip(answers, asked, strict=True)) / len(asked)


def test_it_knows_its_lands_and_not_the_new_ones():
    model = small_world.world_llama()
    assert recall(model, small_world.known_facts()) == 1
    assert recall(model, small_world.new_facts()) < 0.5


@pytest.mark.slow
def test_the_recipe_makes_one_that_knows_its_lands():
    assert small_world.trained_tokenizer().get_vocab_size() <= small_world.VOCABULARY
    torch.manual_seed(0)
    weights = small_world.trained_weights()
    model = small_world.world_llama()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    assert recall(model, small_world.known_facts()) > 0.95
