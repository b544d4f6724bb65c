"""Calibration mends a distorted distribution and leaves well alone."""

import numpy as np
import pytest

from cxml.errors import DataError
from cxml.models.calibration import Calibration, fit_calibration

CUTS = np.array([-1.0, 0.5])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def observed(latent, intercept, slope, seed=0):
    """Outcomes whose truth is the distorted curve: one uniform draw a row, so they are ordered."""
    draw = np.random.default_rng(seed).random(len(latent))[:, None]
    return (draw < sigmoid(intercept + slope * (CUTS - latent[:, None]))).astype(float)


def log_loss(cdf, outcome):
    return -np.mean(np.log(np.where(outcome == 1, cdf, 1 - cdf)))


def test_a_distorted_predictor_is_mended():
    rng = np.random.default_rng(1)
    latent, fresh = rng.normal(size=(2, 20_000)) * 2
    outcome = observed(latent, intercept=-0.7, slope=0.5)
    calibration = fit_calibration(latent, CUTS, outcome)
    np.testing.assert_allclose(calibration.slope, 0.5, atol=0.05)
    np.testing.assert_allclose(calibration.intercept, -0.7, atol=0.1)
    after = observed(fresh, -0.7, 0.5, seed=2)
    assert (
        log_loss(calibration.apply(fresh, CUTS), after)
        < log_loss(Calibration.identity(2).apply(fresh, CUTS), after) - 0.1
    )


def test_few_outcomes_of_either_kind_change_nothing():
    latent = np.random.default_rng(0).normal(size=400)
    outcome = np.column_stack([np.arange(400) < 19, np.arange(400) < 381]).astype(float)
    assert fit_calibration(latent, CUTS, outcome).to_dict() == Calibration.identity(2).to_dict()
    outcome[19, 0] = 1.0
    assert fit_calibration(latent, CUTS, outcome).slope.tolist() != [1.0, 1.0]


def test_a_threshold_with_few_outcomes_goes_along_with_its_neighbour():
    latent = np.random.default_rng(9).normal(size=3000)
    outcome = np.column_stack([observed(latent, 1.5, 0.6)[:, 0], np.full(3000, np.nan)])
    calibration = fit_calibration(latent, CUTS, outcome)
    logits = np.log(1 / (1 / calibration.apply(latent, CUTS) - 1))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], CUTS[1] - CUTS[0], atol=1e-9)
    alone = fit_calibration(latent, CUTS[:1], outcome[:, :1])
    np.testing.assert_allclose(calibration.apply(latent, CUTS)[:, 0], alone.apply(latent, CUTS[:1])[:, 0])


def test_few_rows_move_a_good_predictor_little():
    latent = np.random.default_rng(3).normal(size=60) * 2
    calibration = fit_calibration(latent, CUTS, observed(latent, 0.0, 1.0, seed=4))
    assert np.abs(calibration.intercept).max() < 0.5
    assert np.abs(calibration.slope - 1).max() < 0.4


def test_the_order_of_customers_is_kept_even_where_the_data_contradict_it():
    latent = np.random.default_rng(5).normal(size=3000)
    backwards = observed(-latent, 0.0, 3.0)
    calibration = fit_calibration(latent, CUTS, backwards)
    assert (calibration.slope > 0).all()


def test_unknown_outcomes_and_zero_weights_count_for_nothing():
    rng = np.random.default_rng(6)
    latent = rng.normal(size=2000)
    outcome = observed(latent, 0.5, 0.8)
    weight = np.ones(outcome.shape)
    with_gaps, silenced = outcome.copy(), weight.copy()
    with_gaps[:500] = np.nan
    silenced[:500] = 0.0
    expected = fit_calibration(latent[500:], CUTS, outcome[500:]).to_dict()
    assert fit_calibration(latent, CUTS, with_gaps).to_dict() == expected
    assert fit_calibration(latent, CUTS, outcome, silenced).to_dict() == expected


def test_weights_are_relative():
    latent = np.random.default_rng(7).normal(size=500)
    outcome = observed(latent, 0.5, 0.8)
    one, many = (
        fit_calibration(latent, CUTS, outcome, np.ones(500)),
        fit_calibration(latent, CUTS, outcome, np.full(500, 8.0)),
    )
    np.testing.assert_allclose(one.slope, many.slope, atol=1e-6)


def test_crossing_curves_are_lifted_to_the_running_maximum():
    calibration = Calibration(np.array([2.0, 0.0]), np.array([1.0, 1.0]))
    cdf = calibration.apply(np.array([0.0]), CUTS)
    assert cdf.tolist() == [[sigmoid(1.0), sigmoid(1.0)]]


def test_one_row_alone_has_the_bits_it_has_among_many():
    rng = np.random.default_rng(8)
    latent = rng.normal(size=1003) * 5
    cuts = np.sort(rng.normal(size=10))
    calibration = Calibration(rng.normal(size=10) * 0.1, rng.uniform(0.5, 2, 10))
    many = calibration.apply(latent, cuts)
    assert np.array_equal(many, np.concatenate([calibration.apply(latent[i : i + 1], cuts) for i in range(1003)]))


def test_far_out_values_end_at_zero_and_one():
    cdf = Calibration.identity(2).apply(np.array([-1e300, 1e300]), CUTS)
    assert cdf.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_what_is_written_reads_back_the_same():
    calibration = Calibration(np.array([0.1, 1 / 3]), np.array([1.7, 2 / 7]))
    again = Calibration.from_dict(calibration.to_dict())
    assert np.array_equal(again.intercept, calibration.intercept) and np.array_equal(again.slope, calibration.slope)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"intercept": [0.0]}, "'slope' must be a list of numbers"),
        ({"intercept": [0.0], "slope": ["1"]}, "'slope' must be a list"),
        ({"intercept": [0.0], "slope": [True]}, "'slope' must be a list"),
        ({"intercept": [0.0], "slope": [10**400]}, "too large"),
        ({"intercept": [0.0], "slope": [0.0]}, "slopes finite and positive"),
        ({"intercept": [0.0, 0.0], "slope": [1.0]}, "must be equal"),
        ([], "'intercept' must be"),
    ],
)
def test_damaged_calibrations_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        Calibration.from_dict(content)
