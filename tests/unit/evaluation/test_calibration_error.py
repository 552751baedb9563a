"""Calibration, against torchmetrics and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from memedit.evaluation.calibration_error import (
    calibration,
    calibration_bins,
    expected_calibration_error,
)
from memedit.evaluation.samples import Sample


def answered(confidence, right, cluster="c", item="i"):
    details = {} if confidence is None else {"confidence": confidence}
    return Sample("learned_exact_match", item, cluster, "p", ("a",), "t", float(right), details)


@pytest.mark.parametrize("num_bins", [1, 10, 15, 37])
@pytest.mark.parametrize("n", [1, 7, 500])
def test_the_error_is_torchmetrics(num_bins, n):
    """On confidences inside the bins; the two differ in whose an edge is."""
    draws = np.random.default_rng(n)
    confidences = draws.random(n)
    right = (draws.random(n) < confidences**2).astype(float)
    expected = binary_calibration_error(
        torch.tensor(confidences), torch.tensor(right).long(), n_bins=num_bins, norm="l1"
    )
    found = expected_calibration_error(confidences, right, num_bins=num_bins)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_by_hand():
    confidences, right = [0.95, 0.9, 0.85, 0.3, 0.35], [1, 0, 1, 0, 0]
    # Ten bins: 0.95 alone; 0.9 and 0.85; 0.3 belongs to (0.2, 0.3], 0.35 to the next.
    error = (1 * 0.05 + 2 * abs(0.5 - 0.875) + 0.3 + 0.35) / 5
    assert expected_calibration_error(confidences, right, num_bins=10) == pytest.approx(error)


def test_edges_belong_to_the_bin_below():
    bins = calibration_bins([0.0, 0.1, 0.2, 0.3, 1.0], [0, 1, 1, 1, 1], num_bins=10)
    assert [one.n for one in bins] == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[0].low, bins[0].high, bins[0].confidence, bins[0].accuracy) == (0.0, 0.1, 0.05, 0.5)
    assert bins[4].to_json() == {"low": 0.4, "high": 0.5, "n": 0, "confidence": None, "accuracy": None}


def test_the_ends():
    assert expected_calibration_error([1.0] * 4, [1] * 4) == 0.0
    assert expected_calibration_error([1.0] * 4, [0] * 4) == 1.0
    assert expected_calibration_error([0.0] * 4, [0] * 4) == 0.0
    assert math.isnan(expected_calibration_error([], []))


@pytest.mark.parametrize(
    ("confidences", "right", "options", "named"),
    [
        ([1.5], [1], {}, "confidences"),
        ([-0.1], [1], {}, "confidences"),
        ([math.nan], [1], {}, "confidences"),
        ([0.5], [1, 0], {}, "right"),
        ([0.5], [1], {"num_bins": 0}, "num_bins"),
    ],
)
def test_wrong_arguments_are_refused(confidences, right, options, named):
    with pytest.raises(ValueError, match=named):
        expected_calibration_error(confidences, right, **options)


def test_calibration_of_samples():
    draws = np.random.default_rng(0)
    samples = [
        answered(float(confidence), draws.random() < confidence / 2, cluster=str(place // 2))
        for place, confidence in enumerate(draws.random(400))
    ]
    found = calibration([*samples, answered(None, 1), answered(math.nan, 0)])
    error, over = found.metrics
    confidences = [sample.details["confidence"] for sample in samples]
    values = [sample.value for sample in samples]
    assert (error.name, error.n, over.name) == ("expected_calibration_error", 400, "overconfidence")
    assert error.value == pytest.approx(expected_calibration_error(confidences, values))
    assert over.value == pytest.approx(np.mean(confidences) - np.mean(values))
    assert over.low < over.value < over.high
    assert 0.1 < error.low < error.high < 0.5
    assert found.notes == ("2 answers have no confidence",)
    assert calibration(samples) == calibration(samples)


def test_one_cluster_and_equal_answers_leave_room():
    alone = calibration([answered(0.75, 1, cluster="a"), answered(0.75, 0, cluster="a")])
    alike = calibration([answered(0.75, 0, cluster=str(place)) for place in range(12)])
    for found, ends in ((alone, [(0.0, 1.0), (-0.5435, 1.0)]), (alike, [(0.5075, 0.9925), (0.5075, 0.9925)])):
        for metric, (low, high) in zip(found.metrics, ends, strict=True):
            # 0.25 and 0.75, as far as Wilson's interval of 1 of 1 and 12 of 12 reaches: 0.7935 and 0.2425.
            assert (metric.low, metric.high) == pytest.approx((low, high), abs=1e-4)


def test_nothing_answered():
    found = calibration([])
    assert [math.isnan(metric.value) for metric in found.metrics] == [True, True]
