"""Two runs of the harness's tasks, compared by hand-made numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from memedit.evaluation.harness_comparison import compare_harness, harness_stderr
from memedit.evaluation.statistics import wilson_interval


def run(task="t", limit=None, seed=0, **metrics):
    """A run of one task: run(acc=(value, [a number for each question])), errors as harness_tasks has them."""
    size = max(len(numbers) for _, numbers in metrics.values())
    samples = [{"item": f"{index}", "prompt": "p", "target": "t"} for index in range(size)]
    for name, (_, numbers) in metrics.items():
        for sample, number in zip(samples, numbers, strict=False):
            sample[name] = number
    shown = {
        name: {
            "value": value,
            "stderr": None if math.isnan(error := harness_stderr(value, samples, name)) else error,
            "higher_is_better": True,
        }
        for name, (value, _) in metrics.items()
    }
    tasks = {task: {"version": 1, "n": size, "metrics": shown, "samples": samples}}
    return {"lm_eval": "0", "protocol": "how", "limit": limit, "seed": seed, "tasks": tasks}


def only(before, after):
    (found,) = compare_harness(before, after)
    return found


def test_a_mean_is_paired_by_question():
    before = run(acc=(0.5, [1.0, 0.0, 1.0, 0.0]))
    after = run(acc=(0.75, [1.0, 1.0, 1.0, 0.0]))
    found = only(before, after)
    assert (found.task, found.metric, found.before, found.after) == ("t", "acc", 0.5, 0.75)
    assert found.difference.value == pytest.approx(0.25)
    assert found.difference.n == 4
    # Gaps 0, 1, 0, 0: variance 1/4, so sqrt(1/4 / 4) = 1/4.
    assert found.stderr == pytest.approx(0.25)
    assert found.before_stderr == pytest.approx(math.sqrt(1 / 3 / 4))
    assert found.difference.low == 0.0
    assert 0.5 <= found.difference.high <= 0.75
    assert "paired bootstrap over 4 questions" in found.difference.protocol
    assert found.higher_is_better is True
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["difference"]["value"] == 0.25


def test_equal_runs_differ_by_nothing():
    same = run(acc=(0.5, [1.0, 0.0]))
    found = only(same, same)
    # Two questions answered alike do not say that all are: the interval of shares keeps a width.
    reach = 1 - wilson_interval(2, 2)[0]
    assert (found.difference.value, found.stderr) == (0, 0)
    assert (found.difference.low, found.difference.high) == (-reach, reach)


@pytest.mark.parametrize(("made", "how"), [(np.exp, "exp"), (lambda mean: mean / math.log(2), "ln 2")])
def test_weighted_texts_are_resampled_as_a_whole(made, how):
    generator = np.random.default_rng(0)
    words = generator.integers(5, 50, 200).astype(float)
    first, second = (-words * generator.normal(mean, 0.2, 200) for mean in (3.0, 3.1))
    runs = [
        run(ppl=(float(made(-numbers.sum() / words.sum())), np.stack([numbers, words], 1).tolist()))
        for numbers in (first, second)
    ]
    found = only(*runs)
    assert how in found.difference.protocol
    assert found.difference.low < found.difference.value < found.difference.high
    # The delta method: the derivative of what is made, times the error of a ratio of sums.
    mean = -second.sum() / words.sum()
    slope = (made(mean + 1e-6) - made(mean - 1e-6)) / 2e-6
    ratio_error = math.sqrt(((-second - mean * words) ** 2).sum()) / words.sum()
    assert found.after_stderr == pytest.approx(slope * ratio_error, rel=0.1)


def test_perplexity_of_equal_weights():
    numbers = [-1.0, -2.0, -3.0, -2.5]
    found = only(run(ppl=(math.exp(2.125), numbers)), run(ppl=(math.exp(2.125), list(reversed(numbers)))))
    assert "exp(-mean)" in found.difference.protocol
    assert found.stderr > 0


def test_a_metric_of_the_whole_task_has_no_interval():
    found = only(run(bleu=(31.0, [1.0, 0.0])), run(bleu=(30.0, [1.0, 0.0])))
    assert found.difference.value == -1.0
    assert all(map(math.isnan, (found.stderr, found.before_stderr, found.difference.low)))
    assert "no interval" in found.difference.protocol
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (plain["stderr"], plain["before_stderr"], plain["before"]) == (None, None, 31.0)


def test_one_question_has_no_error():
    found = only(run(acc=(1.0, [1.0])), run(acc=(0.0, [0.0])))
    assert found.difference.value == -1.0
    assert math.isnan(found.stderr)


def test_runs_that_cannot_be_compared_are_refused():
    here = run(acc=(0.5, [1.0, 0.0]))
    for other, message in (
        (run(acc=(0.5, [1.0, 0.0]), limit=2), "same limit, got None and 2"),
        (run(acc=(0.5, [1.0, 0.0]), seed=1), "same seed, got 0 and 1"),
        (run(acc=(0.5, [1.0, 0.0, 0.5])), "same questions, they differ in t"),
        (run(acc=(0.5, [1.0, 0.0]), task="u"), "same questions, they differ in t, u"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_harness(here, other)
