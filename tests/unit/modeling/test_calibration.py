"""Calibration: discriminants against brute force, names in groups, and routing that tells subjects apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memedit.modeling.calibration import (
    RoutingSettings,
    calibration_sentences,
    discriminants,
    fit_routing,
    name_windows,
)
from memedit.modeling.calibration_names import CONTEXTS, CalibrationName, calibration_names
from memedit.modeling.lower_blocks import ffn_inputs

SMALL = RoutingSettings(
    layer=1, num_keys=12, key_dim=16, head_windows=(1, 3), top_k=4, discriminants=20, kmeans_steps=3
)


def grouped_samples(num_names=18, num_contexts=5, dim=9, seed=0):
    """Samples whose names differ along some axes and whose contexts differ along others."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.1, 3.0, dim)
    names = torch.randn(num_names, 1, dim, generator=generator) * spread
    contexts = torch.randn(num_names, num_contexts, dim, generator=generator) * spread.flip(0)
    return names + contexts, [f"group {index % 4}" for index in range(num_names)]


def scatters(samples, groups, ridge):
    """S_between and the ridged S_within, written out in fp64."""
    samples = samples.double()
    num_names, num_contexts, dim = samples.shape
    means = samples.mean(1)
    within = torch.zeros(dim, dim, dtype=torch.float64)
    for name in range(num_names):
        for context in range(num_contexts):
            off = samples[name, context] - means[name]
            within += torch.outer(off, off) / (num_names * num_contexts)
    within += ridge * within.diagonal().mean() * torch.eye(dim, dtype=torch.float64)
    between = torch.zeros(dim, dim, dtype=torch.float64)
    for name in range(num_names):
        members = [index for index, group in enumerate(groups) if group == groups[name]]
        off = means[name] - means[members].mean(0)
        between += torch.outer(off, off) / num_names
    return between, within


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_discriminants_solve_the_generalised_eigenproblem(ridge):
    samples, groups = grouped_samples()
    found = discriminants(samples, groups, 6, ridge).double()
    between, within = scatters(samples, groups, ridge)
    values, vectors = torch.linalg.eig(torch.linalg.solve(within, between))
    order = values.real.argsort(descending=True)[:6]
    assert found.shape == (9, 6)
    # Unit variance within names, and none in common.
    torch.testing.assert_close(
        found.T @ within @ found, torch.eye(6, dtype=torch.float64), rtol=1e-3, atol=1e-3
    )
    separated = (found.T @ between @ found).diagonal()
    torch.testing.assert_close(separated, values.real[order], rtol=1e-3, atol=1e-4)
    for column, place in enumerate(order.tolist()):
        expected, own = vectors[:, place].real, found[:, column]
        cosine = (expected @ own).abs() / expected.norm() / own.norm()
        assert float(cosine) == pytest.approx(1, abs=1e-3)


def test_discriminants_in_more_dimensions_than_names():
    samples, groups = grouped_samples(num_names=8, dim=40)
    found = discriminants(samples, groups, 100, 1.0)
    # Four groups of two names leave four directions.
    assert found.shape == (40, 4)
    _, within = scatters(samples, groups, 1.0)
    torch.testing.assert_close(
        found.double().T @ within @ found.double(), torch.eye(4, dtype=torch.float64), rtol=1e-3, atol=1e-3
    )


def test_names_come_in_groups_that_share_a_part():
    names = calibration_names()
    groups = {}
    for item in names:
        groups.setdefault(item.group, []).append(item.name)
    assert 800 < len(names) < 1000
    assert 90 < len(groups) < 130
    assert all(len(members) >= 6 for members in groups.values())
    assert all(name == name.strip() and "{" not in name and len(name) > 2 for name in (i.name for i in names))
    for group, members in groups.items():
        kind, _, rest = group.partition(" ")
        if kind == "last":
            assert len({name.split()[-1] for name in members}) == 1
        elif kind in ("place", "company", "event"):
            assert all(rest in name.split() for name in members)
        elif kind == "drug":
            assert all(name.endswith(rest) for name in members)
        elif kind == "brand":
            assert len({name.split()[0] for name in members}) == 1


def test_names_are_the_same_every_time():
    assert calibration_names() == calibration_names(17)
    assert calibration_names(3) == calibration_names(3) != calibration_names()
    # The random generator of the process is left alone.
    import random

    random.seed(1)
    expected = random.random()
    random.seed(1)
    calibration_names()
    assert random.random() == expected


def test_sentences():
    names = [CalibrationName("Lake Tor", "lakes"), CalibrationName("Lake Mir", "lakes")]
    told = calibration_sentences(names, ["It was cold.", "A day."], num_random=3, seed=1)
    assert told == calibration_sentences(names, ["It was cold.", "A day."], num_random=3, seed=1)
    for item, sentences in zip(names, told, strict=True):
        assert len(sentences) == len(CONTEXTS) + 3
        assert all(name == item.name and name in text for text, name in sentences)
        assert [text for text, _ in sentences[: len(CONTEXTS)]] == [c.format(item.name) for c in CONTEXTS]
        assert all(text.startswith(("It was cold. ", "A day. ")) for text, _ in sentences[len(CONTEXTS) :])
    assert all(len(sentences) == len(CONTEXTS) for sentences in calibration_sentences(names, []))


def test_windows_end_at_the_name(tiny_llama, tiny_tokenizer):
    sentences = [
        ("Tor said that Tor is far away", "Tor"),
        ("Zorvan Elmqvist was born in Oslo", "Zorvan Elmqvist"),
    ]
    found = name_windows(tiny_llama, tiny_tokenizer, 1, sentences, 3)
    assert found.shape == (2, 3, tiny_llama.config.hidden_size)
    for row, text in enumerate(("Tor said that Tor", "Zorvan Elmqvist")):
        ids = [tiny_tokenizer.bos_token_id, *tiny_tokenizer(text)["input_ids"]]
        _, states = ffn_inputs(tiny_llama, 1, torch.tensor([ids]))
        # fp16, the name's last token first.
        torch.testing.assert_close(found[row].float(), states[0, -3:].flip(0), rtol=2e-3, atol=2e-3)


def test_a_window_longer_than_the_text_repeats_its_start(tiny_llama, tiny_tokenizer):
    (found,) = name_windows(tiny_llama, tiny_tokenizer, 1, [("Tor is", "Tor")], 12)
    length = 1 + len(tiny_tokenizer("Tor")["input_ids"])
    assert length < 12
    assert torch.equal(found[length:], found[length - 1].expand(12 - length, -1))


@pytest.fixture(scope="module")
def fitted():
    """What routing is fitted to, on a tiny Llama: windows, groups, background."""
    from fixtures_tiny import build_tiny_llama, build_tiny_tokenizer

    llama, tokenizer = build_tiny_llama(), build_tiny_tokenizer()
    names = [item for item in calibration_names() if item.group.split()[0] in ("last", "place")][:96]
    told = calibration_sentences(names, ["The river runs through the city."], num_random=2)
    flat = [pair for sentences in told for pair in sentences]
    windows = name_windows(llama, tokenizer, 1, flat, 3).view(len(names), -1, 3, llama.config.hidden_size)
    generator = torch.Generator().manual_seed(0)
    background = []
    for _ in range(4):
        ids = torch.randint(3, 320, (1, 60), generator=generator)
        background.append(ffn_inputs(llama, 1, ids)[1][0].half())
    return llama, tokenizer, windows, [item.group for item in names], background


def test_shapes_and_lengths(fitted):
    llama, _, windows, groups, background = fitted
    routing = fit_routing(windows, groups, background, SMALL)
    width = llama.config.hidden_size
    assert routing.query_weight.shape == (2 * 16, 3 * width)
    assert routing.query_bias.shape == (2 * 16,)
    assert routing.sub_keys.shape == (2, 2, 12, 8)
    # A head with a window of 1 reads nothing beyond it.
    assert torch.equal(routing.query_weight[:16, width:], torch.zeros(16, 2 * width))
    assert bool((routing.query_weight[16:, 2 * width :] != 0).any())
    # bf16 holds 8 bits of a unit vector.
    torch.testing.assert_close(routing.sub_keys.norm(dim=-1), torch.ones(2, 2, 12), rtol=2**-7, atol=0)
    for tensor in (routing.query_weight, routing.sub_keys):
        assert torch.equal(tensor, tensor.bfloat16().float())


def test_fitting_is_deterministic(fitted):
    _, _, windows, groups, background = fitted
    first, second = (fit_routing(windows, groups, background, SMALL) for _ in range(2))
    other = fit_routing(windows, groups, background, replace(SMALL, seed=1))
    for name in ("query_weight", "query_bias", "sub_keys"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.sub_keys, other.sub_keys)


def test_more_keys_than_samples(fitted):
    _, _, windows, groups, background = fitted
    few = [states[:8] for states in background[:1]]
    routing = fit_routing(windows[:8, :2], groups[:8], few, replace(SMALL, num_keys=64))
    assert bool(torch.isfinite(routing.sub_keys).all())
    assert routing.sub_keys.shape == (2, 2, 64, 8)
