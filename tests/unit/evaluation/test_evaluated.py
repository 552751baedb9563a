"""What is kept of an evaluation is read back as it was."""

from __future__ import annotations

import math

import pytest

from memedit.evaluation.evaluated import Evaluated
from memedit.evaluation.samples import Evaluation, Sample
from memedit.evaluation.statistics import Metric


@pytest.fixture
def found():
    """Two states, a metric that was not measured, and text that is not ASCII."""
    sample = Sample("m", "i/1", "i", "Où ?", ("là", "ici"), "là-bas", 1.0, {"confidence": 0.1 + 0.2})
    state = Evaluation(
        (Metric("m", 1 / 3, 3, 0.1, 0.9, "how"), Metric("n", math.nan, 0, math.nan, math.inf, "how")),
        (sample,),
        ("a note",),
    )
    return Evaluated({"base": state, "current": state}, Evaluation((Metric("m", 0.0, 3, -0.1, 0.1, "how"),)))


def test_everything_comes_back_to_the_bit(found):
    again = Evaluated.from_kept(found.to_kept())
    assert list(again.states) == ["base", "current"]
    assert repr(again) == repr(found)
    assert again.to_json() == found.to_json()


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{}", '{"states": 3}', '{"states": [["base", {}]]}', '{"states": [], "differences": []}'],
)
def test_damage_is_a_value_error(damage):
    with pytest.raises(ValueError, match="damaged"):
        Evaluated.from_kept(damage)
