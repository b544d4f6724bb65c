"""Competing reasons: they sum to the total, and come near a truth that is known."""

import numpy as np
import pytest
from sklearn.base import clone

from cxml.errors import ConfigError, DataError
from cxml.models.churn import ChurnModel
from cxml.models.outcomes import censoring_weights
from cxml.models.reasons import ReasonSplit, fit_split

NAMES = ["voluntary", "payment_failure", "moved"]
HORIZONS = np.array([30.0, 60.0, 90.0])
SHAPE = np.array([1.0, 1.0, 3.0])  # who moves away does so late: the shares change with the horizon


def rates(X):
    """Cumulative hazard of each reason at 90 days."""
    return 0.25 * np.exp(np.column_stack([X[:, 0], X[:, 1] - 0.5, -X[:, 0]]))


def simulate(n, seed, seen=(10, 150)):
    """Independent times to each reason (Weibull, shapes as above); the first one happens. Seen for 10 to 150 days."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    times = 90.0 * (rng.exponential(size=(n, 3)) / rates(X)) ** (1 / SHAPE)
    first, until = times.min(axis=1), rng.uniform(*seen, n)
    reason = np.where(first < until, times.argmin(axis=1), np.nan)
    return X, np.column_stack([np.minimum(first, until), first < until, reason])


def truth(X):
    """P(T < h, reason), by adding up over a fine grid of days."""
    days = np.linspace(0, 90, 1801)
    grown = rates(X)[:, :, None] * (days / 90.0) ** SHAPE[:, None]
    alive = np.exp(-grown.sum(axis=1))
    middle = (alive[:, None, 1:] + alive[:, None, :-1]) / 2
    incidence = np.cumsum(middle * np.diff(grown, axis=2), axis=2)
    return incidence[:, :, [599, 1199, 1799]].swapaxes(1, 2)


@pytest.fixture(scope="module")
def fitted():
    later = simulate(4000, 1)
    model = ChurnModel(reasons=NAMES, n_jobs=1)
    return model.fit(*simulate(8000, 0), eval_set=later, calibration_set=later)


@pytest.fixture(scope="module")
def fresh():
    return simulate(3000, 2)[0]


def test_reasons_sum_to_the_total_and_rise_with_the_horizon(fitted, fresh):
    parted = fitted.predict_by_reason(fresh)
    assert parted.shape == (3000, 3, 3)
    np.testing.assert_allclose(parted.sum(axis=2), fitted.predict_churn(fresh), rtol=0, atol=1e-12)
    assert (parted >= 0).all() and (np.diff(parted, axis=1) >= 0).all()


def test_each_reason_comes_near_its_truth_at_every_horizon(fitted, fresh):
    parted, true = fitted.predict_by_reason(fresh), truth(fresh)
    np.testing.assert_allclose(parted.mean(axis=0), true.mean(axis=0), atol=0.02)
    assert np.abs(parted - true).mean() < 0.03
    everybody_alike = fitted.predict_churn(fresh)[:, :, None] * (
        true.mean(axis=0) / true.mean(axis=0).sum(axis=1)[:, None]
    )
    assert np.abs(parted - true).mean() < 0.6 * np.abs(everybody_alike - true).mean()
    for r in range(3):
        assert np.corrcoef(parted[:, -1, r], true[:, -1, r])[0, 1] > 0.9


def test_shares_may_change_with_the_horizon(fitted, fresh):
    """Those who move away do so late."""
    parted = fitted.predict_by_reason(fresh).mean(axis=0)
    share = parted[:, 2] / parted.sum(axis=1)
    assert share[0] < 0.5 * share[2]


def test_the_total_is_what_it_is_without_reasons(fresh):
    X, y = simulate(1500, 3)
    plain = ChurnModel(n_estimators=20, n_jobs=1).fit(X, y)
    parted = clone(plain).set_params(reasons=NAMES).fit(X, y)
    assert np.array_equal(plain.predict_churn(fresh), parted.predict_churn(fresh))
    with pytest.raises(DataError, match="knows no reasons"):
        plain.predict_by_reason(fresh)


def test_a_reason_that_hardly_anybody_gave_has_the_same_odds_for_all(fresh):
    X, y = simulate(3000, 4)
    rare = np.flatnonzero(y[:, 2] == 2)[19:]
    y[rare, 2] = np.nan
    split = ChurnModel(reasons=NAMES, n_estimators=20, n_jobs=1).fit(X, y).predictor_.reasons
    assert [trees is None for trees in split.trees] == [False, False, True]
    chosen = (y[:, 1] == 1) & (y[:, 0] < 90) & ~np.isnan(y[:, 2])
    n, weight = np.count_nonzero(chosen), censoring_weights(y[:, 0], y[:, 1], (30.0, 60.0, 90.0))[chosen, -1]
    n_rare = n * weight[y[chosen, 2] == 2].sum() / weight.sum()
    np.testing.assert_allclose(np.exp(-split.offset[2]), (n_rare + 0.5) / (n - n_rare + 0.5), rtol=1e-8)


def test_weights_of_customers_count_for_the_reasons_too(fresh):
    """Those who left for the first reason are a tenth as many as the log has."""
    X, y = simulate(3000, 4)
    weight = np.where(y[:, 2] == 0, 0.1, 1.0)
    plain = ChurnModel(reasons=NAMES, n_estimators=20, n_jobs=1).fit(X, y)
    weighted = clone(plain).fit(X, y, sample_weight=weight)
    shares = [
        (model.predict_by_reason(fresh)[:, -1] / model.predict_churn(fresh)[:, -1:]).mean(axis=0)
        for model in (plain, weighted)
    ]
    assert shares[1][0] < 0.4 * shares[0][0]


def test_nobody_who_churned_later_leaves_the_shares_as_the_trees_have_them():
    X, y = simulate(2000, 5)
    quiet = X[:300], np.column_stack([np.full(300, 200.0), np.zeros(300), np.full(300, np.nan)])
    model = ChurnModel(reasons=NAMES, n_estimators=20, n_jobs=1).fit(X, y, calibration_set=quiet)
    assert model.predictor_.reasons.slope == 1.0 and (model.predictor_.reasons.intercept == 0).all()


def test_calibration_mends_shares_that_are_wrong_for_later_customers():
    rng = np.random.default_rng(6)
    interval, reason = rng.integers(0, 2, 5000), (rng.random(5000) < 0.8).astype(int)
    split = fit_split(["a", "b"], [None, None], np.zeros(2), 2, (np.zeros((5000, 1)), interval, reason, np.ones(5000)))
    parted = split.split(np.array([[0.5, 1.0]]), np.zeros((1, 1)))
    np.testing.assert_allclose(parted[0], [[0.1, 0.4], [0.2, 0.8]], atol=0.02)


def test_training_again_gives_the_same_numbers(fitted, fresh):
    later = simulate(4000, 1)
    again = clone(fitted).set_params(n_jobs=2).fit(*simulate(8000, 0), eval_set=later, calibration_set=later)
    assert again.predictor_.reasons.to_dict() == fitted.predictor_.reasons.to_dict()
    assert np.array_equal(again.predict_by_reason(fresh), fitted.predict_by_reason(fresh))


def test_what_is_written_reads_back_the_same(fitted, fresh):
    split = fitted.predictor_.reasons
    again = ReasonSplit.from_dict(split.to_dict(), split.parts())
    cdf = fitted.predict_churn(fresh)
    assert np.array_equal(again.split(cdf, fresh), split.split(cdf, fresh))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", ["one"]),
        ("names", "ab"),
        ("offset", [0.0]),
        ("intercept", [[0.0, 0.0]]),
        ("intercept", 1),
        ("slope", 0.0),
        ("slope", "1"),
        ("slope", float("nan")),
    ],
)
def test_damaged_reasons_are_refused(fitted, key, value):
    split = fitted.predictor_.reasons
    with pytest.raises(DataError):
        ReasonSplit.from_dict(split.to_dict() | {key: value}, split.parts())


@pytest.mark.parametrize(
    ("parameters", "y", "error", "message"),
    [
        ({"reasons": ["one"]}, 3, ConfigError, "two reasons or more"),
        ({"reasons": NAMES, "kind": "inactivity"}, 3, ConfigError, "only events have one"),
        ({"reasons": NAMES}, 2, DataError, "needs a third column"),
        ({"reasons": NAMES[:2]}, 3, DataError, "position among the 2 reasons"),
        ({"corrections": "always"}, 3, ConfigError, "'auto', True, False or 'apart'"),
    ],
)
def test_questions_that_make_no_sense_are_refused(parameters, y, error, message):
    X, outcome = simulate(500, 7)
    with pytest.raises(error, match=message):
        ChurnModel(n_estimators=2, n_jobs=1, **parameters).fit(X, outcome[:, :y])
