import json

import pytest

from memedit.evaluation.baseline import Baseline, suite_hash
from memedit.evaluation.perplexity import Perplexity
from memedit.evaluation.recall import Answered, Question

QUESTIONS = [
    Question("The capital of \u5317 is", ("\u4eac", "B"), "well_known", "f1"),
    Question("p", ("x",), "g", "f2"),
]
SUITE = suite_hash(QUESTIONS, "text", max_new_tokens=16)
BASELINE = Baseline(
    "model-1",
    SUITE,
    (
        Answered(QUESTIONS[0], "\u4eac", correct=True, confidence=0.1 + 0.2),
        Answered(QUESTIONS[1], "", correct=False, confidence=1e-9),
    ),
    Perplexity(27.36, (1.5, 1 / 3), (3, 4)),
)


def stored(baseline=BASELINE):
    return json.loads(json.dumps(baseline.to_json()))


def test_round_trip_is_exact():
    assert Baseline.from_json(stored(), fingerprint="model-1", suite=SUITE) == BASELINE
    bare = Baseline("model-1", SUITE, ())
    assert Baseline.from_json(stored(bare), fingerprint="model-1", suite=SUITE) == bare


@pytest.mark.parametrize("other", [{"fingerprint": "model-2"}, {"suite": "0"}])
def test_another_model_or_suite_is_refused(other):
    with pytest.raises(ValueError, match="expected"):
        Baseline.from_json(stored(), **{"fingerprint": "model-1", "suite": SUITE, **other})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 99),
        (("answered",), None),
        (("answered", 0, "correct"), "yes"),
        (("answered", 0, "confidence"), None),
        (("answered", 0, "question"), {}),
        (("perplexity", "nlls"), [1.0]),
        (("perplexity",), {"value": 3.0}),
    ],
)
def test_damage_is_refused(place, value):
    data = stored()
    target = data
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(ValueError, match="cached baseline"):
        Baseline.from_json(data, fingerprint="model-1", suite=SUITE)


def test_the_suite_hash_names_everything_measured():
    others = [
        suite_hash(QUESTIONS[:1], "text", max_new_tokens=16),
        suite_hash(QUESTIONS[::-1], "text", max_new_tokens=16),
        suite_hash(QUESTIONS, "text.", max_new_tokens=16),
        suite_hash(QUESTIONS, None, max_new_tokens=16),
        suite_hash(QUESTIONS, "text", max_new_tokens=12),
    ]
    assert len({SUITE, *others}) == 6
    assert suite_hash(list(QUESTIONS), "text", max_new_tokens=16) == SUITE
