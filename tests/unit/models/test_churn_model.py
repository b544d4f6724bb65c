"""Churn as time to an event, on durations whose truth is known."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from cxml.errors import ConfigError, DataError
from cxml.models.churn import ChurnModel

HORIZONS = np.array([30.0, 60.0, 90.0])


def simulate(n, seed=0, scale=120.0):
    """Log-logistic times: proportional odds hold, so the truth is within reach. Seen for 10 to 120 days."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    scale = scale * np.exp(X[:, 0])
    time = scale * np.exp(rng.logistic(size=n))
    seen = rng.uniform(10, 120, n)
    y = np.column_stack([np.minimum(time, seen), time < seen])
    return X, y, 1 / (1 + scale[:, None] / HORIZONS)


@pytest.fixture(scope="module")
def fitted():
    X, y, _ = simulate(6000)
    later = simulate(3000, seed=1)[:2]
    return ChurnModel(n_jobs=1).fit(X, y, eval_set=later, calibration_set=later)


def test_probabilities_come_near_the_truth_in_spite_of_censoring(fitted):
    X, _, truth = simulate(4000, seed=2)
    found = fitted.predict_churn(X)
    assert found.shape == (4000, 3)
    assert np.abs(found - truth).mean() < 0.04
    np.testing.assert_allclose(found.mean(axis=0), truth.mean(axis=0), atol=0.02)


def test_risk_rises_with_the_horizon_and_inactivity_falls(fitted):
    X, y, _ = simulate(500, seed=3)
    lapse = ChurnModel(kind="inactivity", n_estimators=20, n_jobs=1).fit(X, y)
    event = ChurnModel(kind="event", n_estimators=20, n_jobs=1).fit(X, y)
    assert (np.diff(fitted.predict_churn(X), axis=1) >= 0).all()
    assert (np.diff(lapse.predict_churn(X), axis=1) <= 0).all()
    assert np.array_equal(lapse.predict_churn(X), 1.0 - event.predict_churn(X))


def test_intervals_sum_to_one_and_carry_readable_labels(fitted):
    X, _, _ = simulate(200, seed=4)
    probability = fitted.predict_proba(X)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-12)
    assert fitted.classes_.tolist() == ["[0d, 30d)", "[30d, 60d)", "[60d, 90d)", "[90d, inf)"]
    assert set(fitted.predict(X)) <= set(fitted.classes_)
    assert fitted.predict([[9.0, 0.0, 0.0]]) == "[90d, inf)"


def test_expected_days_fall_with_risk_and_stay_within_the_last_horizon(fitted):
    X, _, _ = simulate(500, seed=5)
    days = fitted.expected_days(X)
    assert ((days > 0) & (days < 90)).all()
    assert np.corrcoef(days, fitted.predict_churn(X)[:, -1])[0, 1] < -0.95


def test_the_hazard_of_an_interval_is_among_those_still_there(fitted):
    X, _, _ = simulate(300, seed=5)
    churn, hazard = fitted.predict_churn(X), fitted.predict_hazard(X)
    np.testing.assert_allclose(1.0 - np.cumprod(1.0 - hazard, axis=1), churn, atol=1e-12)
    np.testing.assert_allclose(hazard[:, 1], fitted.predict_proba(X)[:, 1] / (1.0 - churn[:, 0]), atol=1e-12)


def test_segments_that_differ_are_calibrated_apart():
    """One plan leaves more often from some day on; the trees, grown before, cannot know."""
    X, y, _ = simulate(4000)
    X[:, 2] = np.arange(4000) % 3

    def later(seed):
        rows, _, _ = simulate(6000, seed=seed)
        rows[:, 2] = np.arange(6000) % 3
        scale = 120.0 * np.exp(rows[:, 0]) * np.where(rows[:, 2] == 2, 0.3, 1.0)
        time = scale * np.exp(np.random.default_rng(seed + 1).logistic(size=6000))
        return rows, np.column_stack([np.minimum(time, 100), time < 100]), 1 / (1 + scale[:, None] / HORIZONS)

    rows, outcome, _ = later(20)
    fresh, _, truth = later(30)
    plain = ChurnModel(n_estimators=60, n_jobs=1).fit(X, y, calibration_set=(rows, outcome), categorical_feature=[2])
    apart = clone(plain).set_params(calibrate_by=2).fit(X, y, calibration_set=(rows, outcome), categorical_feature=[2])
    wrong = [np.abs(model.predict_churn(fresh) - truth).mean() for model in (apart, plain)]
    assert wrong[0] < 0.5 * wrong[1]
    with pytest.raises(DataError, match=r"use distribution\(matrix\)"):
        apart.predictor_.cdf(np.zeros(1))


def test_calibration_mends_a_population_that_has_moved():
    """Later customers leave sooner: the trees cannot know, the calibration can."""
    X, y, _ = simulate(4000)
    later, (fresh, _, truth) = simulate(3000, seed=6, scale=60.0)[:2], simulate(3000, seed=7, scale=60.0)
    plain = ChurnModel(n_estimators=100, n_jobs=1).fit(X, y)
    mended = clone(plain).fit(X, y, calibration_set=later)
    asked_not_to = clone(plain).set_params(calibrate=False).fit(X, y, calibration_set=later)
    wrong = [np.abs(model.predict_churn(fresh) - truth).mean() for model in (mended, plain)]
    assert wrong[0] < 0.5 * wrong[1]
    assert np.array_equal(asked_not_to.predict_churn(X), plain.predict_churn(X))


def test_calibration_on_censored_rows_is_not_led_astray():
    """Without weights for those lost from sight, known outcomes at 90 days are churners far too often."""
    X, y, _ = simulate(4000)
    later = simulate(8000, seed=7)
    fresh, _, truth = simulate(4000, seed=8)
    model = ChurnModel(n_estimators=100, n_jobs=1).fit(X, y, calibration_set=later[:2])
    assert model.predict_churn(fresh)[:, -1].mean() == pytest.approx(truth[:, -1].mean(), abs=0.02)


def test_contributions_and_score_pass_through(fitted):
    X, y, _ = simulate(300, seed=9)
    np.testing.assert_allclose(fitted.contributions(X).sum(axis=1), fitted.predictor_.latent(X), atol=1e-9)
    assert fitted.score(X, y) > fitted.score(X[::-1], y)


def test_the_predictor_alone_gives_the_same_bits(fitted):
    X, _, _ = simulate(100, seed=10)
    assert np.array_equal(fitted.predictor_.cdf(fitted.predictor_.latent(X)), fitted.predict_churn(X))
    assert np.array_equal(fitted.predictor_.distribution(X, threads=2), fitted.predict_churn(X))
    thawed = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(thawed.predict_churn(X), fitted.predict_churn(X))


def test_horizons_are_kept_as_given_for_clone():
    model = ChurnModel(horizons=["14d", "4w"])
    assert clone(model).horizons == ["14d", "4w"] and clone(model).get_params() == model.get_params()


def many(days, observed, n=200):
    return np.tile([days, observed], (n, 1)).astype(float)


NOTHING_TO_LEARN = {
    "nobody churned": (many(100, 0), "no churners among 200 rows"),
    "everybody churned": (many(10, 1), "all of 200 rows churned by every horizon"),
    "too few churned": (
        np.vstack([many(100, 0), many(10, 1, 29)]),
        r"at best \(30d\) 29 of 229 rows churned; 30 are needed",
    ),
    "too few stayed": (
        np.vstack([many(100, 0, 5), many(10, 1)]),
        r"at best \(30d\) 5 of 205 rows stayed; 30 are needed",
    ),
    "not followed long enough": (
        np.vstack([many(50, 0), many(10, 1)]),
        r"nobody was followed for 90d.*50 days\. Shorten churn\.horizons to 30d, or",
    ),
    "one column": (np.ones(200), "needs two columns"),
    "four columns": (np.ones((200, 4)), "needs two columns"),
    "durations that cannot be": (many(-5, 1), "200 of 200 rows have no usable duration"),
}


@pytest.mark.parametrize(("y", "message"), NOTHING_TO_LEARN.values(), ids=NOTHING_TO_LEARN)
def test_data_that_teach_nothing_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        ChurnModel().fit(np.zeros((len(y), 2)), y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "table"}, "kind 'table' of churn is unknown"),
        ({"horizons": "30d"}, "write a list of durations"),
        ({"horizons": ()}, "write a list of durations"),
        ({"horizons": ("30",)}, "'30' is not a duration"),
        ({"horizons": ("60d", "30d")}, "do not ascend"),
        ({"horizons": ("30d", "720h")}, "do not ascend"),
    ],
)
def test_questions_that_make_no_sense_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        ChurnModel(**parameters).fit(np.zeros((2, 2)), many(10, 1, 2))


def test_thirty_outcomes_at_one_horizon_are_enough():
    rng = np.random.default_rng(0)
    y = np.vstack([many(100, 0), many(70, 1, 30)])
    model = ChurnModel(n_estimators=5, n_jobs=1).fit(rng.normal(size=(230, 2)), y)
    assert model.predict_churn(rng.normal(size=(1, 2))).shape == (1, 3)
