"""Calibration mends a distorted distribution and leaves well alone."""

import numpy as np
import pytest

from cxml.errors import DataError
from cxml.models.calibration import (
    BETA_OUTCOMES,
    ISOTONIC_OUTCOMES,
    Calibration,
    SegmentShifts,
    fit_calibration,
    fit_segments,
)

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


def bent(latent):
    """A truth that no line describes: log odds rise to a plateau at the safe end and jump in the middle."""
    margin = -latent
    return sigmoid(np.where(margin < -1.0, -2.5 + 0.1 * margin, np.where(margin < 0.5, -1.0, 0.8 + 0.3 * margin)))


def bent_sample(n, seed):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n) * 2
    return latent, (rng.random(n) < bent(latent)).astype(float)[:, None]


@pytest.mark.parametrize(("n_rarer", "n_knots"), [(BETA_OUTCOMES - 1, 0), (BETA_OUTCOMES, 33)])
def test_the_number_of_rarer_outcomes_decides_how_far_a_curve_may_bend(n_rarer, n_knots):
    latent = np.random.default_rng(1).normal(size=1500)
    outcome = np.zeros((1500, 1))
    outcome[np.argsort(latent + np.random.default_rng(2).normal(size=1500))[:n_rarer]] = 1.0
    for happened in (outcome, 1.0 - outcome):
        curves = fit_calibration(latent if happened is outcome else -latent, np.zeros(1), happened).curves
        assert sum(len(margin) for margin, _ in curves) == n_knots


def test_many_outcomes_find_a_truth_that_no_line_describes():
    latent, outcome = bent_sample(12_000, 3)
    fresh, _ = bent_sample(5000, 4)
    rarer = int(min(outcome.sum(), (1 - outcome).sum()))
    assert rarer > ISOTONIC_OUTCOMES
    found = fit_calibration(latent, np.zeros(1), outcome)
    line = Calibration(found.intercept, found.slope)
    off = [np.abs(c.apply(fresh, np.zeros(1))[:, 0] - bent(fresh)).mean() for c in (found, line)]
    assert off[0] < 0.03 and off[0] < 0.65 * off[1]


def two_slopes(latent):
    return sigmoid(np.where(-latent < 0, 2.0, 0.5) * -latent)


def test_beta_curves_give_the_two_ends_slopes_of_their_own():
    """The truth has slope 2 for the safe and 0.5 for the endangered; a line can have but one."""
    rng = np.random.default_rng(5)
    latent, fresh = rng.normal(size=(2, 3000)) * 2
    outcome = np.full((3000, 1), np.nan)
    outcome[:700, 0] = rng.random(700) < two_slopes(latent[:700])
    found = fit_calibration(latent, np.zeros(1), outcome)
    assert [len(margin) for margin, _ in found.curves] == [33]
    line = Calibration(found.intercept, found.slope)
    off = [np.abs(c.apply(fresh, np.zeros(1))[:, 0] - two_slopes(fresh)).mean() for c in (found, line)]
    assert off[0] < 0.7 * off[1]


def test_a_curve_never_turns_the_order_round_and_goes_on_beyond_its_knots():
    latent, outcome = bent_sample(12_000, 6)
    found = fit_calibration(latent, np.zeros(1), outcome)
    far = np.concatenate([np.linspace(-60, 60, 20_001), np.sort(-found.curves[0][0])])
    cdf = found.apply(np.sort(far), np.zeros(1))[:, 0]
    assert (np.diff(cdf) <= 0).all()
    assert cdf[0] > 0.999 and cdf[-1] < 0.001


def test_knots_mean_straight_pieces_between_and_the_lines_slope_beyond():
    curve = np.array([-1.0, 1.0]), np.array([0.0, 3.0])
    calibration = Calibration(np.array([9.0]), np.array([0.5]), (curve,))
    margins = np.array([[-3.0], [-1.0], [0.0], [1.0], [5.0]])
    np.testing.assert_allclose(calibration.log_odds(margins)[:, 0], [-1.0, 0.0, 1.5, 3.0, 5.0])
    np.testing.assert_allclose(calibration.apply_margins(margins)[:, 0], sigmoid(np.array([-1.0, 0.0, 1.5, 3.0, 5.0])))


def test_a_threshold_with_few_outcomes_goes_along_with_a_curve_too():
    latent, outcome = bent_sample(12_000, 7)
    calibration = fit_calibration(latent, CUTS, np.column_stack([outcome, np.full(12_000, np.nan)]))
    margins = CUTS - latent[:, None]
    apart = np.diff(calibration.log_odds(margins), axis=1)
    # the same curve, read at a margin that is larger by the distance of the cut points, and lifted by as much
    np.testing.assert_allclose(apart, CUTS[1] - CUTS[0], atol=1e-9)


def test_curves_read_back_the_same_and_lines_are_written_as_ever():
    latent, outcome = bent_sample(12_000, 8)
    found = fit_calibration(latent, np.zeros(1), outcome)
    again = Calibration.from_dict(found.to_dict())
    assert np.array_equal(again.apply(latent, np.zeros(1)), found.apply(latent, np.zeros(1)))
    assert set(found.to_dict()) == {"intercept", "slope", "margin", "log_odds"}
    assert set(fit_calibration(latent[:60], np.zeros(1), outcome[:60]).to_dict()) == {"intercept", "slope"}


@pytest.mark.parametrize(
    ("margin", "log_odds", "message"),
    [
        ([[0.0, 1.0]], [[0.0]], "as many of the one"),
        ([[1.0, 0.0]], [[0.0, 1.0]], "must ascend"),
        ([[0.0, 0.0]], [[0.0, 1.0]], "must ascend"),
        ([[0.0, 1.0]], [[1.0, 0.0]], "must not fall"),
        ([[0.0], [1.0]], [[0.0], [1.0]], "2 curves for 1 thresholds"),
        ([[0.0]], [], "as many rows"),
        ([0.0], [[0.0]], "list of numbers"),
        (0.0, [[0.0]], "list of lists"),
    ],
)
def test_damaged_curves_are_refused(margin, log_odds, message):
    with pytest.raises(DataError, match=message):
        Calibration.from_dict({"intercept": [0.0], "slope": [1.0], "margin": margin, "log_odds": log_odds})


def segments(n, true, seed):
    rng = np.random.default_rng(seed)
    code, log_odds = rng.integers(0, len(true), n), rng.normal(size=(n, 1)) - 1.0
    return log_odds, code, (rng.random((n, 1)) < sigmoid(log_odds + true[code][:, None])).astype(float)


def shifts_of(log_odds, code, outcome, n_segments):
    return fit_segments(log_odds, code, n_segments, outcome)


def test_segments_that_differ_are_found_and_those_that_do_not_stay_together():
    true = np.array([0.8, -0.8, 0.0])
    found = shifts_of(*segments(20_000, true, 1), 3)
    np.testing.assert_allclose(found[:, 0], true, atol=0.1)
    alike = [shifts_of(*segments(2000, np.zeros(3), seed), 3) for seed in range(20)]
    assert np.abs(alike).max() < 0.25 and np.median(np.abs(alike)) < 0.02


def test_a_small_segment_is_believed_less_than_a_large_one():
    """Both have twice the outcomes that were expected."""
    log_odds = np.full((4010, 1), np.log(0.1 / 0.9))
    code = np.repeat([0, 1, 2], [2000, 1990, 20])
    outcome = np.zeros((4010, 1))
    outcome[:400], outcome[2000:2100], outcome[-4:] = 1.0, 1.0, 1.0
    shift = fit_segments(log_odds, code, 3, outcome)[:, 0]
    assert shift[0] > 0.6 and 0 < shift[2] < 0.9 * shift[0] and shift[1] < -0.4


def test_shrunken_segments_come_nearer_to_the_truth_than_raw_ones_on_average():
    rng = np.random.default_rng(9)
    off, raw = [], []
    for seed in range(20):
        true = rng.normal(0, 0.3, 12)
        log_odds, code, outcome = segments(1500, true, seed)
        off.append(np.abs(fit_segments(log_odds, code, 12, outcome)[:, 0] - true).mean())
        p = sigmoid(log_odds[:, 0])
        step = np.bincount(code, outcome[:, 0] - p) / np.bincount(code, p * (1 - p))
        raw.append(np.abs(step - true).mean())
    assert np.mean(off) < 0.9 * np.mean(raw)


def test_a_row_of_no_known_segment_gets_no_shift():
    shifts = SegmentShifts(1, np.array([[0.5, 0.6], [-0.5, -0.6]]))
    matrix = np.array([[9.0, 0.0], [9.0, 1.0], [9.0, np.nan], [9.0, 2.0], [9.0, -1.0]], np.float32)
    assert shifts.of(matrix).tolist() == [[0.5, 0.6], [-0.5, -0.6], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert SegmentShifts.from_dict(shifts.to_dict(), 2).to_dict() == shifts.to_dict()


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"column": 1},
        {"column": 1, "shifts": [[0.0]]},
        {"column": "1", "shifts": []},
        {"column": -1, "shifts": []},
    ],
)
def test_damaged_segments_are_refused(content):
    with pytest.raises(DataError):
        SegmentShifts.from_dict(content, 2)
