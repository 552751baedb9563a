"""Training dense weights: masters in fp32, the answers' loss, what is put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memedit.baselines.dense_training import (
    MasterAdamW,
    model_loss,
    shuffled_batches,
    trainable,
)
from memedit.baselines.full_tuning import dense_parameters
from memedit.baselines.located_tuning import _Located, layer_at
from memedit.baselines.teaching import Teaching


def rows_of(world, opened):
    teaching = Teaching(
        "full", opened, tuple(world.new_facts()[:3]), {}, seed=0, editing=world.world_settings()
    )
    return [row.encoded for row in teaching.rows()]


def test_steps_too_small_for_bf16_add_up():
    parameter = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter])
    for _ in range(100):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step(1e-4)
    # 1 - 1e-4 rounds to 1 in bf16, which a plain optimizer would never leave.
    assert torch.allclose(parameter.float(), torch.full((4,), 0.99), atol=2**-8)


def test_fp32_steps_are_those_of_adamw():
    values = torch.linspace(-1, 1, 6)
    mine, theirs = nn.Parameter(values.clone()), nn.Parameter(values.clone())
    optimizer, reference = MasterAdamW([mine]), torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.0)
    for step in range(3):
        for parameter in (mine, theirs):
            parameter.grad = 0.1 * torch.sin(values + step)
        optimizer.step(1e-2)
        reference.step()
    torch.testing.assert_close(mine, theirs)


def test_large_gradients_are_clipped_over_all_parameters():
    small, large = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = MasterAdamW([small, large])
    seen = []
    for rule in optimizer.rules:
        rule.step = lambda rule=rule: seen.append(float(rule.param_groups[0]["params"][0].grad))
    small.grad, large.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step(1e-2)
    assert seen == pytest.approx([0.6, 0.8], abs=1e-5)


def test_batches_hold_every_row_once_and_follow_the_seed():
    lengths = [5, 3, 9, 4, 4, 7, 1]
    first, again, other = (
        shuffled_batches(lengths, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert sorted(index for batch in first for index in batch) == list(range(7))
    assert max(map(len, first)) == 2
    assert first == again != other


def test_the_loss_is_that_of_the_answers_alone(world):
    opened = world.opened_world()
    rows = rows_of(world, opened)[:4]
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    labels = torch.tensor(
        [[*[-100] * row.num_prompt, *row.answer_ids, *[-100] * (longest - len(row.ids))] for row in rows]
    )
    expected = opened.model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(model_loss(opened.model, rows)(range(4)), expected)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_projection_has_the_loss_and_gradient_of_the_whole_model(world, layer):
    opened = world.opened_world()
    rows, weight = rows_of(world, opened), opened.model.model.layers[layer].mlp.down_proj.weight
    weight.requires_grad = True
    batch = [0, 3, 5]
    whole = model_loss(opened.model, rows)(batch)
    alone = _Located(opened.model, layer, rows).loss_of(batch)
    torch.testing.assert_close(alone, whole)
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (whole, alone)]
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_depth_is_a_share_of_the_blocks(world):
    model = world.opened_world().model
    assert [layer_at(model, depth) for depth in (0.0, 0.4, 1.0, 7.0)] == [0, 1, 2, 2]


def spoil(parameters):
    with trainable(parameters):
        assert all(parameter.requires_grad for parameter in parameters)
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(1)
        raise KeyboardInterrupt


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_come_back_even_after_an_error(world, dtype):
    model = world.opened_world().model.to(dtype)
    parameters = dense_parameters(model)
    before = [parameter.detach().clone() for parameter in parameters]
    with pytest.raises(KeyboardInterrupt):
        spoil(parameters)
    assert all(torch.equal(now, was) for now, was in zip(parameters, before, strict=True))
    assert not any(parameter.requires_grad for parameter in parameters)


def test_dense_weights_are_the_plain_llamas(world):
    opened = world.opened_world()
    plain = sum(parameter.numel() for parameter in world.world_llama().parameters())
    assert sum(parameter.numel() for parameter in dense_parameters(opened.model)) == plain
