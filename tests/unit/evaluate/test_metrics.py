import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cxml.errors import DataError
from cxml.evaluate import metrics as m

YES_NO = list(m.CHURN_METRICS.values())
ON_SCALE = [m.rps, m.mae, m.quadratic_kappa, m.nps_error]


@st.composite
def outcomes(draw, both=True):
    """Outcomes, predictions with many ties, and weights of which some are 0."""
    n = draw(st.integers(4, 40))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=float)
    if both:
        y[:2] = [0, 1]
    p = np.array(draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) / 8
    w = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    w[:2] = 1
    return y, p, w


@st.composite
def answers(draw):
    n = draw(st.integers(2, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    y = rng.integers(0, 11, n)
    return y, rng.dirichlet(np.full(11, 0.5), n), rng.integers(0, 3, n) + (np.arange(n) < 2)


@settings(deadline=None, max_examples=60)
@given(outcomes())
def test_metrics_agree_with_scikit_learn_weights_and_ties_included(case):
    y, p, w = case
    assert m.auroc(y, p, weight=w) == pytest.approx(oracle.roc_auc_score(y, p, sample_weight=w))
    assert m.auprc(y, p, weight=w) == pytest.approx(oracle.average_precision_score(y, p, sample_weight=w))
    assert m.brier(y, p, weight=w) == pytest.approx(oracle.brier_score_loss(y, p, sample_weight=w))
    assert m.log_loss(y, p, weight=w) == pytest.approx(oracle.log_loss(y, p, sample_weight=w))


@settings(deadline=None, max_examples=40)
@given(outcomes(both=False), st.integers(0, 1000))
def test_many_rows_of_weights_at_once_equal_one_at_a_time(case, seed):
    y, p, w = case
    weights = np.stack([w, np.random.default_rng(seed).integers(0, 4, len(y)), np.ones(len(y))])
    for metric in YES_NO:
        at_once = metric(y, p, weight=weights)
        alone = [metric(y, p, weight=row) for row in weights]
        if metric is m.calibration_slope:  # found by iteration, and not at all where no slope exists
            continue
        np.testing.assert_allclose(at_once, alone, rtol=1e-9, atol=1e-12, err_msg=metric.__name__)


@settings(deadline=None, max_examples=40)
@given(answers(), st.integers(0, 1000))
def test_many_rows_of_weights_at_once_equal_one_at_a_time_for_scores(case, seed):
    y, q, w = case
    weights = np.stack([w, np.random.default_rng(seed).integers(0, 4, len(y)) + 1, np.ones(len(y))])
    for metric in ON_SCALE:
        alone = [metric(y, q, weight=row) for row in weights]
        np.testing.assert_allclose(metric(y, q, weight=weights), alone, atol=1e-9, err_msg=metric.__name__)


@settings(deadline=None, max_examples=40)
@given(outcomes())
def test_a_weight_of_two_is_a_row_given_twice(case):
    y, p, w = case
    times = w.astype(int)
    for metric in (m.base_rate, m.auroc, m.auprc, m.lift_at, m.log_loss, m.brier):
        assert metric(y, p, weight=w) == pytest.approx(metric(np.repeat(y, times), np.repeat(p, times)))


@settings(deadline=None, max_examples=40)
@given(outcomes(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(case, random):
    y, p, w = case
    order = list(range(len(y)))
    random.shuffle(order)
    for metric in set(YES_NO) - {m.calibration_slope}:
        assert metric(y, p, weight=w) == pytest.approx(metric(y[order], p[order], weight=w[order]))


@settings(deadline=None, max_examples=40)
@given(answers())
def test_kappa_agrees_with_scikit_learn(case):
    y, q, w = case
    rounded = np.floor(q @ np.arange(11) + 0.5).astype(int)
    with np.errstate(invalid="ignore"):
        expected = oracle.cohen_kappa_score(y, rounded, weights="quadratic", sample_weight=w, labels=range(11))
    assert m.quadratic_kappa(y, q, weight=w) == pytest.approx(expected, nan_ok=True)


def test_the_calibration_slope_is_that_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 2000)
    y = (rng.random(2000) < p).astype(float)
    w = rng.integers(0, 3, 2000)
    logit = np.log(p / (1 - p))[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit, y, sample_weight=w)
    assert m.calibration_slope(y, p, weight=w) == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
    weights = np.stack([w, np.ones(2000)])
    alone = [m.calibration_slope(y, p, weight=row) for row in weights]
    np.testing.assert_allclose(m.calibration_slope(y, p, weight=weights), alone, rtol=1e-7)


@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_the_slope_tells_how_much_too_extreme_predictions_are(stretch):
    rng = np.random.default_rng(1)
    logit = rng.normal(-1, 1, 40_000)
    y = (rng.random(40_000) < 1 / (1 + np.exp(-logit))).astype(float)
    assert m.calibration_slope(y, 1 / (1 + np.exp(-stretch * logit))) == pytest.approx(1 / stretch, rel=0.06)


def test_separated_classes_have_no_slope():
    assert np.isnan(m.calibration_slope([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]))


def test_one_class_only_gives_nan_where_ranks_need_two():
    p = [0.2, 0.4, 0.6]
    for y in ([0, 0, 0], [1, 1, 1]):
        assert np.isnan(m.auroc(y, p))
        assert np.isnan(m.calibration_slope(y, p))
        assert np.isfinite([m.log_loss(y, p), m.brier(y, p), m.ece(y, p)]).all()
    assert np.isnan([m.auprc([0, 0, 0], p), m.lift_at([0, 0, 0], p)]).all()


def test_no_rows_at_all_give_nan():
    for metric in YES_NO:
        assert np.isnan(metric([], [])), metric.__name__


def test_a_certain_miss_costs_much_but_not_infinitely():
    assert 30 < m.log_loss([1], [0.0]) < 40


def test_ece_is_zero_for_constant_predictions_that_equal_the_rate():
    assert m.ece([0, 1] * 50, np.full(100, 0.5)) == pytest.approx(0)
    assert m.ece([0, 1] * 50, np.full(100, 0.9)) == pytest.approx(0.4)


def test_ece_weighs_gaps_of_bins_of_equal_mass():
    p = np.repeat([0.1, 0.9], [30, 10])
    y = np.r_[np.repeat([1, 0], [6, 24]), np.repeat([1, 0], [8, 2])]
    assert m.ece(y, p) == pytest.approx(0.75 * 0.1 + 0.25 * 0.1)


def test_bins_hold_equally_many_rows_however_low_the_probabilities():
    """Churn is rare, so nearly all probabilities are small: bins of equal width would put them all into one."""
    rng = np.random.default_rng(0)
    p = rng.permutation(0.6 * (np.arange(1, 1001) / 1000) ** 4)
    y = (rng.random(1000) < 0.02 + 0.5 * p).astype(float)  # the low ones are too low, the high ones too high
    tenths = np.array_split(np.argsort(p), 10)
    gaps = [(p[rows] - y[rows]).mean() for rows in tenths]
    assert m.ece(y, p) == pytest.approx(np.mean(np.abs(gaps)))
    assert m.brier_reliability(y, p) == pytest.approx(np.mean(np.square(gaps)))


def test_lift_shares_equal_predictions_at_the_edge():
    y = np.r_[1.0, np.zeros(19)]
    assert m.lift_at(y, np.full(20, 0.3)) == pytest.approx(1.0)
    assert m.lift_at(y, np.r_[0.9, np.full(19, 0.3)]) == pytest.approx(10.0)


def test_rps_rewards_near_misses():
    scores, sure = [5], np.eye(11)
    values = [m.rps(scores, sure[[k]]) for k in range(11)]
    assert values[5] == 0
    assert values == pytest.approx([abs(k - 5) / 10 for k in range(11)])


def test_nps_error_is_predicted_minus_observed():
    scores = np.r_[np.full(50, 10), np.full(50, 0)]
    assert m.nps_error(scores, np.eye(11)[np.full(100, 9)]) == pytest.approx(100)
    assert m.nps_error(scores, np.eye(11)[scores]) == pytest.approx(0)


def test_balance_error_follows_the_groups_of_a_csat_scale():
    probability = np.tile([0.1, 0.2, 0.3, 0.2, 0.2], (4, 1))
    value = m.balance_error([1, 3, 5, 5], probability, lo=1, last_low=2, last_mid=3)
    assert value == pytest.approx(100 * ((0.4 - 0.3) - (0.5 - 0.25)))


def test_censored_rows_do_not_count_at_their_horizon_alone():
    known = np.array([[1, 1], [0, np.nan], [0, 0], [1, 1.0]])
    predicted = np.array([[0.9, 0.9], [0.2, 0.99], [0.1, 0.1], [0.8, 0.8]])
    found = m.churn_metrics(known, predicted, ["30d", "60d"])
    assert found["base_rate_30d"] == 0.5
    assert found["base_rate_60d"] == pytest.approx(2 / 3)
    assert found["auroc_60d"] == 1.0
    assert {key.rsplit("_", 1)[0] for key in found} == set(m.CHURN_METRICS)


def test_unanswered_surveys_do_not_count():
    probability = np.eye(11)[[10, 0, 5]]
    found = m.score_metrics([10, np.nan, 5], probability)
    assert found["rps"] == 0
    assert found["nps_error"] == 0


def test_only_a_scale_of_nps_has_an_nps_error():
    probability = np.eye(5)[[0, 4]]
    assert "nps_error" not in m.score_metrics([1, 5], probability, lo=1)
    assert m.score_metrics([1, 5], probability, lo=1, groups=(2, 3))["balance_error"] == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: m.auroc([0, 2], [0.1, 0.2]), "1 of 2 values are neither 0 nor 1"),
        (lambda: m.auroc([0, 1], [0.1, 1.2]), "1 of 2 values are no probabilities"),
        (lambda: m.auroc([0, 1], [0.1, np.nan]), "no probabilities"),
        (lambda: m.auroc([0, 1], [0.1]), r"must be \(n_rows,\)"),
        (lambda: m.brier([0, 1], [0.1, 0.2], weight=[1]), "for 2 rows it must be"),
        (lambda: m.rps([11], np.eye(11)[[0]]), "whole numbers from 0 to 10"),
        (lambda: m.rps([0.5], np.eye(11)[[0]]), "whole numbers"),
        (lambda: m.rps([1], [[0.5, 0.2]]), "no distributions"),
        (lambda: m.churn_metrics(np.ones((3, 2)), np.ones((3, 1)), ["30d", "60d"]), "one column a horizon"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(call, says):
    with pytest.raises(DataError, match=says):
        call()


@settings(deadline=None, max_examples=60)
@given(outcomes(both=False))
def test_the_parts_of_the_brier_score_add_up_to_it(case):
    y, p, w = case
    parts = [m.brier_reliability(y, p, weight=w), m.brier_resolution(y, p, weight=w), m.brier_uncertainty(y, weight=w)]
    assert parts[0] - parts[1] + parts[2] == pytest.approx(m.brier(y, p, weight=w), abs=1e-12)
    assert parts[0] >= 0


def test_the_parts_of_the_brier_score_are_murphys_where_bins_hold_equal_predictions():
    y = np.array([0, 0, 1, 0, 1, 1, 1, 0.0, 1, 1])
    p = np.repeat([0.2, 0.5, 0.9], [4, 3, 3])
    rates = {v: y[p == v].mean() for v in np.unique(p)}
    reliability = np.mean([(v - rates[v]) ** 2 for v in p])
    resolution = np.mean([(rates[v] - y.mean()) ** 2 for v in p])
    assert m.brier_reliability(y, p) == pytest.approx(reliability)
    assert m.brier_resolution(y, p) == pytest.approx(resolution)
    assert m.brier_uncertainty(y) == pytest.approx(y.mean() * (1 - y.mean()))


def test_the_rate_error_tells_which_way_the_model_errs():
    assert m.rate_error([0, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]) == 0.25
