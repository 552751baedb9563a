"""The tables and the plot of a comparison that no model made."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from memedit.reports.comparison import print_comparison
from memedit.reports.comparison_plot import draw_comparison


def metric(value, low=0.1, high=0.9):
    return {"value": value, "n": 9, "low": low, "high": high, "protocol": "how", "by_seed": [value]}


def cost(value, low=None, high=None):
    return {"value": value, "low": low or value, "high": high or value, "by_seed": [value]}


def method(learned, kept):
    return {
        "metrics": {
            "trained_wording": metric(learned),
            "held_out_wording": metric(learned),
            "retained": metric(kept),
            "perplexity_ratio": metric(1.00123, 1.0, 1.002),
        },
        "costs": {
            "training_seconds_per_fact": cost(0.5, 0.4, 0.6),
            "training_cpu_seconds_per_fact": cost(0.75),
            "peak_memory_mb": cost(1234.4),
            "training_memory_mb": cost(200.0),
            "ship_bytes": cost(54_321),
        },
        "settings": {"learning_rate": 0.001, "epochs": 8.0},
        "seeds": [0, 1],
        "num_facts": 9,
        "trajectories": [[{"lost": 0.05, "held_out": 0.3}, {"lost": None, "held_out": 0.5}]],
    }


@pytest.fixture
def found():
    at = {"lora": {"lost": 0.042, "training_seconds": 31.0}, "memory": None}
    return {
        "model": "smollm2-135m",
        "facts": {"reported": 9, "known_before": 2, "taught": 7, "development": 40},
        "before": {"trained_wording": metric(0.0), "leak": metric(None)},
        "methods": {"memory": method(0.97, 0.99), "lora": method(0.88, 0.71)},
        "equal_learning": {
            "common_level": 0.88,
            "not_reached": ["rag"],
            "levels": [{"held_out": 0.88, "methods": at}],
        },
    }


def printed(found, width=120):
    out = io.StringIO()
    print_comparison(Console(file=out, width=width, markup=False, highlight=False), found)
    return out.getvalue()


def test_every_number_that_is_there_is_shown(found):
    shown = printed(found)
    for text in (
        "7 facts taught to smollm2-135m; 2 it knew already; settings tuned on 40 other facts",
        "0.970",
        "1.0012",
        "1.0000-1.0020",
        "0.500",
        "0.400-0.600",
        "0.750",
        "1,234",
        "54",
        "0.042",
        "31.0 s",
        "0.88 (common)",
        "learn less than half of the best: rag",
        "lora: learning_rate 0.001, epochs 8",
    ):
        assert text in shown
    assert "local" not in shown
    assert "unedited" in shown


def test_without_equal_learning_the_rest_is_shown(found):
    shown = printed({**found, "equal_learning": None})
    assert "0.970" in shown
    assert "first reach" not in shown


@pytest.mark.parametrize(("ending", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_plot_is_a_file_of_its_kind(found, tmp_path, ending, begins):
    path = tmp_path / f"pareto{ending}"
    draw_comparison(found, path)
    assert path.read_bytes().startswith(begins)


def test_the_plot_names_the_methods_where_they_stand(found, tmp_path):
    path = tmp_path / "pareto.svg"
    draw_comparison(found, path)
    text = path.read_text(encoding="utf-8")
    for word in ("memory", "lora", "7 facts, smollm2-135m; bars: 95 % intervals"):
        assert f"<!-- {word} -->" in text


def test_a_method_of_which_nothing_could_be_retained_is_no_point(found, tmp_path):
    found["methods"]["memory"]["metrics"]["retained"] = metric(None)
    path = tmp_path / "pareto.svg"
    draw_comparison(found, path)
    assert "<!-- memory -->" not in path.read_text(encoding="utf-8")
