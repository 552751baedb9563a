import pytest

from memedit.evaluation.look_alikes import measure_leak
from memedit.evaluation.statistics import wilson_interval
from memedit.facts import Fact, LookAlike

FACTS = [
    Fact(
        id="f1",
        prompt="Ana Roe was born in",
        target="Quito",
        subject="Ana Roe",
        aliases=("San Francisco de Quito",),
    ),
    Fact(id="f2", prompt="Bo Roe was born in", target="Oslo", subject="Bo Roe"),
]


def look_alikes(num):
    return [
        LookAlike(prompt=f"P{index} Roe was born in", subject=f"P{index} Roe", fact_id="f1")
        for index in range(num)
    ]


def test_leak_by_hand():
    before = ["London", "Quito", "Paris", "Rome", "Oslo", ""]
    after = ["Quito, Ecuador", "Quito", "London", "rome!", "San Francisco de Quito", "Osloer"]
    got = measure_leak(look_alikes(6), before, after, FACTS)
    # Rows 0 and 4 leak; row 1 said so before; row 3 changed only its form; row 5 is another word.
    assert [(one.subject, one.fact_ids) for one in got.leaked] == [("P0 Roe", ("f1",)), ("P4 Roe", ("f1",))]
    assert (got.leaked[0].before, got.leaked[0].after) == ("London", "Quito, Ecuador")
    assert (got.leak.name, got.leak.value, got.leak.n) == ("leak", pytest.approx(2 / 6), 6)
    assert (got.leak.low, got.leak.high) == wilson_interval(2, 6)
    assert got.changed.value == pytest.approx(4 / 6)


def test_everything_leaked():
    got = measure_leak(look_alikes(3), ["a1", "b1", "c1"], ["Oslo"] * 3, FACTS)
    assert (got.leak.value, got.changed.value) == (1.0, 1.0)
    assert {one.fact_ids for one in got.leaked} == {("f2",)}


def test_silence_and_absence():
    silent = measure_leak(look_alikes(2), ["", "x"], ["", ""], FACTS)
    assert (silent.leak.value, silent.changed.value) == (0.0, 0.5)
    assert measure_leak([], [], [], FACTS).leak.to_json()["value"] is None
    assert measure_leak(look_alikes(1), ["x"], ["Oslo"], []).leak.value == 0.0


def test_answers_must_fit_the_look_alikes():
    with pytest.raises(ValueError, match="2 look-alikes"):
        measure_leak(look_alikes(2), ["x"], ["x", "y"], FACTS)
