"""Laws of the models, on whatever hypothesis thinks up."""

import lightgbm
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxml.models.calibration import Calibration, SegmentShifts, fit_calibration, fit_curves
from cxml.models.likelihood import Intervals, first_cut_points, gradients
from cxml.models.outcomes import censoring_weights, churn_intervals, churn_known
from cxml.models.predictor import (
    CumulativePredictor,
    class_probabilities,
    expected_score,
    interval_hazard,
    restricted_mean_days,
)
from cxml.models.reasons import ReasonSplit
from cxml.models.trees import TreeEnsemble

finite = st.floats(-1e6, 1e6)
anything = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1e-36, -1.0, 3.0, 3.7, 64.0, 2e9, 5e9]))
quick = settings(deadline=None, max_examples=60)


def grown(n_trees=20, **parameters):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    X[:, 1] = np.where(rng.random(2000) < 0.5, 0.0, X[:, 1])
    X[:, 2] = rng.integers(0, 70, 2000)
    X[:, :2][rng.random((2000, 2)) < 0.2] = np.nan
    y = np.nan_to_num(X[:, 0] * X[:, 1]) + X[:, 2] % 2 + X[:, 3]
    data = lightgbm.Dataset(X, y, categorical_feature=[2])
    common = {"num_leaves": 12, "verbosity": -1, "min_data_per_group": 5, "num_threads": 1}
    return lightgbm.train(common | parameters, data, n_trees)


BOOSTER = grown()
MANY = grown(120, zero_as_missing=True, num_leaves=64, min_data_in_leaf=3, learning_rate=0.05)
TREES = TreeEnsemble.from_text(BOOSTER.model_to_string())


@quick
@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=anything))
def test_the_walk_is_lightgbms_for_any_numbers(rows):
    assert np.array_equal(TREES.predict(rows), BOOSTER.predict(rows, raw_score=True))


@quick
@given(arrays(np.float32, st.tuples(st.integers(64, 70), st.just(4)), elements=anything))
def test_masks_are_lightgbms_for_any_numbers_too(rows):
    many = TreeEnsemble.from_text(MANY.model_to_string())
    assert np.array_equal(many.predict(rows), MANY.predict(rows, raw_score=True))
    assert "_masks" in vars(many), "these rows were walked"


@quick
@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.just(4)), elements=st.floats(width=64)))
def test_contributions_always_add_up(rows):
    contributions = TREES.contributions(rows)
    np.testing.assert_allclose(contributions.sum(axis=1), TREES.predict(rows), rtol=0, atol=1e-9)
    np.testing.assert_allclose(contributions, BOOSTER.predict(rows, pred_contrib=True), rtol=0, atol=1e-9)


calibrations = st.integers(1, 12).flatmap(
    lambda k: st.tuples(
        arrays(np.float64, k, elements=st.floats(-50, 50)).map(np.sort),
        arrays(np.float64, k, elements=st.floats(-5, 5)),
        arrays(np.float64, k, elements=st.floats(0.05, 20)),
    )
)


@quick
@given(arrays(np.float64, st.integers(0, 20), elements=finite), calibrations)
def test_a_distribution_never_crosses_itself_and_ignores_its_neighbours(latent, calibration):
    cuts, intercept, slope = calibration
    calibration = Calibration(intercept, slope)
    cdf = calibration.apply(latent, cuts)
    assert ((cdf >= 0) & (cdf <= 1)).all() and (np.diff(cdf, axis=1) >= 0).all()
    for i in range(len(latent)):
        assert np.array_equal(calibration.apply(latent[i : i + 1], cuts)[0], cdf[i])
    probability = class_probabilities(cdf)
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-12)
    scores = np.arange(len(cuts) + 1)
    np.testing.assert_allclose(expected_score(cdf, len(cuts)), probability @ scores, atol=1e-9)
    days = restricted_mean_days(cdf, scores[1:] * 30.0)
    assert ((days >= -1e-9) & (days <= len(cuts) * 30.0)).all()


@quick
@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-20, 20)), st.randoms(use_true_random=False))
def test_calibration_never_turns_the_order_of_customers_round(latent, random):
    outcome = np.array([[float(random.random() < 0.5), float(random.random() < 0.8)] for _ in latent])
    calibration = fit_calibration(latent, np.array([-1.0, 1.0]), outcome)
    cdf = calibration.apply(np.sort(latent), np.array([-1.0, 1.0]))
    assert (np.diff(cdf, axis=0) <= 1e-12).all()


@st.composite
def curves(draw):
    """A threshold's curve: none, or knots that ascend with log odds that do not fall."""
    n = draw(st.integers(0, 6))
    margin = np.unique(draw(arrays(np.float64, n, elements=st.floats(-30, 30))))
    return margin, np.sort(draw(arrays(np.float64, len(margin), elements=st.floats(-30, 30))))


@quick
@given(st.data())
def test_no_part_of_a_predictor_lets_the_distribution_cross_or_a_row_see_its_neighbours(data):
    """Common trees, corrections, curves, shifts by segment and reasons, all at once."""
    k, n_reasons = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 4))

    def numbers(*shape):
        return data.draw(arrays(np.float64, shape, elements=st.floats(-5, 5)))

    bent = tuple(data.draw(curves()) for _ in range(k))
    calibration = Calibration(numbers(k), np.exp(numbers(k)), data.draw(st.sampled_from([(), bent])))
    split = ReasonSplit(tuple("abcd"[:n_reasons]), (TREES,) + (None,) * (n_reasons - 1), numbers(n_reasons),
                        numbers(k, n_reasons), float(np.exp(numbers(1)[0])))  # fmt: skip
    predictor = CumulativePredictor(
        TREES, np.sort(numbers(k)), calibration, data.draw(st.sampled_from([(), (TREES,) + (None,) * (k - 1)])),
        SegmentShifts(3, numbers(3, k)), split,
    )  # fmt: skip
    rows = data.draw(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=anything))
    cdf = predictor.distribution(rows)
    assert ((cdf >= 0) & (cdf <= 1)).all() and (np.diff(cdf, axis=1) >= 0).all()
    hazard = interval_hazard(cdf)
    assert ((hazard >= 0) & (hazard <= 1)).all()
    parted = predictor.by_reason(cdf, rows)
    assert (parted >= 0).all() and (np.diff(parted, axis=1) >= 0).all()
    np.testing.assert_allclose(parted.sum(axis=2), cdf, rtol=0, atol=1e-12)
    for i in range(len(rows)):
        assert np.array_equal(predictor.distribution(rows[i : i + 1])[0], cdf[i])
        assert np.array_equal(predictor.by_reason(cdf[i : i + 1], rows[i : i + 1])[0], parted[i])


@quick
@given(curves(), arrays(np.float64, st.integers(1, 30), elements=st.floats(-100, 100)))
def test_a_curve_never_falls(curve, margin):
    calibration = Calibration(np.zeros(1), np.full(1, 0.7), (curve,))
    assert (np.diff(calibration.apply_margins(np.sort(margin)[:, None])[:, 0]) >= 0).all()


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from([50, 300, 2500]))
def test_fitted_curves_keep_the_order_of_customers_whatever_the_data(seed, n):
    rng = np.random.default_rng(seed)
    margins = np.round(rng.normal(size=(n, 2)) * rng.choice([0.01, 1.0, 30.0]), 2)
    outcome = (rng.random((n, 2)) < rng.choice([0.1, 0.5])).astype(float)
    weight = rng.choice([0.0, 1.0, 7.5], size=(n, 2))
    found = fit_curves(margins, np.array([-1.0, 1.0]), outcome, weight)
    assert (np.diff(found.log_odds(np.sort(margins, axis=0)), axis=0) >= 0).all()


durations = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 30.0, 60.0, 90.0]), st.floats(0, 200)), st.booleans()),
    min_size=1,
    max_size=30,
)


@quick
@given(durations)
def test_intervals_and_what_is_known_say_the_same(rows):
    duration, observed = map(np.array, zip(*rows, strict=True))
    horizons = (30.0, 60.0, 90.0)
    lower, upper = churn_intervals(duration, observed, horizons)
    known = churn_known(duration, observed, horizons, "event")
    for k in range(3):
        assert np.array_equal(known[:, k] == 1, upper <= k)
        assert np.array_equal(known[:, k] == 0, lower > k)
    weights = censoring_weights(duration, observed, horizons)
    assert np.array_equal(weights > 0, ~np.isnan(known))
    assert ((weights == 0) | (weights >= 1)).all() and (weights <= 20 + 1e-9).all()


@quick
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0.01, 100)), min_size=1, max_size=40))
def test_first_cut_points_ascend_and_leave_no_slope(rows):
    """At the fitted cut points the latent value 0 cannot be bettered, but for the one row of the prior."""
    low, high, weight = map(np.array, zip(*rows, strict=True))
    lower, upper = np.minimum(low, high).astype(np.int32), np.maximum(low, high).astype(np.int32)
    outcomes = Intervals(lower, upper, weight / weight.mean(), 5)
    cuts = first_cut_points(outcomes)
    assert np.isfinite(cuts).all() and (np.diff(cuts) > 0).all()
    gradient, hessian = np.empty((2, len(rows)), np.float32)
    gradients(np.zeros(len(rows)), outcomes, cuts, gradient, hessian)
    assert abs(gradient.astype(float).sum()) < 1.0
