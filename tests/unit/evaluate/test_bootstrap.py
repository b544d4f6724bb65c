from functools import partial

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.evaluate import metrics as m
from cxml.evaluate.bootstrap import (
    bootstrap_interval,
    corrected_interval,
    metric_intervals,
    paired_difference,
    percentile_interval,
)


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.6, 900)
    return (rng.random(900) < p).astype(float), p, rng.integers(0, 300, 900)


def test_the_interval_of_a_mean_is_that_of_theory():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.3).astype(float)
    found = bootstrap_interval(m.base_rate, (y, y), np.arange(2000), n=2000)
    half = 1.96 * np.sqrt(y.mean() * (1 - y.mean()) / 2000)
    assert found.value == y.mean()
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_rows_of_a_customer_go_together():
    """Ten equal rows a customer say no more than one: the interval must be that of one row each."""
    rng = np.random.default_rng(1)
    y = (rng.random(400) < 0.3).astype(float)
    ten, customers = np.repeat(y, 10), np.repeat(np.arange(400), 10)
    alone = bootstrap_interval(m.base_rate, (y, y), np.arange(400))
    together = bootstrap_interval(m.base_rate, (ten, ten), customers)
    row_by_row = bootstrap_interval(m.base_rate, (ten, ten), np.arange(4000))
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert row_by_row.high - row_by_row.low < 0.5 * (together.high - together.low)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rate = np.repeat(rng.beta(2, 5, 150), 4)  # customers differ, their rows are alike
        y = (rng.random(600) < rate).astype(float)
        found = bootstrap_interval(m.base_rate, (y, y), np.repeat(np.arange(150), 4), n=300, random_state=seed)
        covered += found.low <= 2 / 7 <= found.high
    assert 105 <= covered <= 120  # 0.95 * 120 = 114, three standard errors and the percentile's own bias below


def test_the_same_seed_gives_the_same_interval_and_another_seed_another(case):
    y, p, customers = case
    first = bootstrap_interval(m.auroc, (y, p), customers, n=50, random_state=7)
    assert first == bootstrap_interval(m.auroc, (y, p), customers, n=50, random_state=7)
    assert first != bootstrap_interval(m.auroc, (y, p), customers, n=50, random_state=8)


def test_ids_may_be_text(case):
    y, p, customers = case
    text = np.array([f"c{c:04d}" for c in customers], dtype=object)
    found = bootstrap_interval(m.brier, (y, p), text, n=50)
    assert found == bootstrap_interval(m.brier, (y, p), customers, n=50)


def test_a_paired_difference_is_surer_than_two_intervals_apart(case):
    y, p, customers = case
    noisy = np.clip(p + np.random.default_rng(0).normal(0, 0.15, len(p)), 0.01, 0.99)
    found = paired_difference(m.log_loss, (y, p), (y, noisy), customers)
    assert found.value == pytest.approx(m.log_loss(y, p) - m.log_loss(y, noisy))
    assert found.low <= found.value <= found.high < 0
    alone = [bootstrap_interval(m.log_loss, (y, q), customers) for q in (p, noisy)]
    assert found.high - found.low < sum(a.high - a.low for a in alone) / 2


def test_a_paired_difference_takes_the_rows_of_a_customer_together():
    """Ten equal rows a customer say no more of two predictors than one: the interval must be that of one row each."""
    rng = np.random.default_rng(2)
    y, p, q = (rng.random(300) < 0.3).astype(float), rng.uniform(0.1, 0.6, 300), rng.uniform(0.1, 0.6, 300)
    alone = paired_difference(m.brier, (y, p), (y, q), np.arange(300))
    ten = [np.repeat(values, 10) for values in (y, p, q)]
    together = paired_difference(m.brier, ten[:2], [ten[0], ten[2]], np.repeat(np.arange(300), 10))
    assert together == pytest.approx(alone)
    row_by_row = paired_difference(m.brier, ten[:2], [ten[0], ten[2]], np.arange(3000))
    assert row_by_row.high - row_by_row.low < 0.5 * (together.high - together.low)


def test_all_churn_metrics_get_their_intervals_on_their_own_rows(case):
    y, p, customers = case
    known = np.column_stack([y, np.where(np.arange(len(y)) % 3 == 0, np.nan, y)])
    cells = list(m.churn_cells(known, np.column_stack([p, p]), ["30d", "60d"]))
    found = metric_intervals(cells, customers, n=60)
    assert list(found) == [cell.key for cell in cells]
    rows = ~np.isnan(known[:, 1])
    assert found["auroc_60d"] == bootstrap_interval(m.auroc, (y[rows], p[rows]), customers[rows], n=60)
    for key in ("auroc_30d", "log_loss_30d", "lift_at_10pct_60d", "calibration_slope_60d"):
        assert found[key].low < found[key].value < found[key].high


def test_score_metrics_get_their_intervals_without_unanswered_rows():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(11), 200)
    scores = rng.integers(0, 11, 200).astype(float)
    scores[:40] = np.nan
    found = metric_intervals(m.score_cells(scores, probability), np.arange(200), n=40)
    assert found["rps"].value == m.rps(scores[40:], probability[40:])
    assert found["rps"].low < found["rps"].value < found["rps"].high


def test_what_resampling_cannot_tell_is_nan():
    one = bootstrap_interval(m.brier, ([0.0, 1.0], [0.5, 0.5]), ["a", "a"])
    assert (one.value, np.isnan(one.low), np.isnan(one.high)) == (0.25, True, True)
    no_churn = bootstrap_interval(m.auroc, (np.zeros(10), np.linspace(0, 1, 10)), np.arange(10))
    assert np.isnan(no_churn).all()


def test_draws_without_any_churner_do_not_spoil_the_interval():
    y = np.r_[np.ones(2), np.zeros(30)]
    found = bootstrap_interval(m.auroc, (y, np.linspace(1, 0, 32)), np.arange(32), n=400)
    assert np.isfinite(found).all()


def gaps_of_bins(q, p):
    """The gaps of probability and true rate in ten bins of equally many rows."""
    band = np.searchsorted(np.quantile(p, np.arange(1, 10) / 10), p)
    return np.array([(p - q)[band == k].mean() for k in range(10)])


def too_extreme(q, by):
    """The true probabilities ``q``, with log-odds too far from 0."""
    return 1 / (1 + np.exp(-(np.log(q / (1 - q)) * (1 + by) + by)))


@pytest.mark.parametrize("by", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("metric", [m.ece, m.brier_reliability])
def test_intervals_of_gaps_hold_their_value_and_cover_the_truth(metric, by):
    """From calibrated predictions, whose true gap is 0 and whose percentile intervals never reach it, to bad ones."""
    many = np.random.default_rng(999).beta(2, 8, 400_000)
    gaps = gaps_of_bins(many, too_extreme(many, by))
    truth = np.abs(gaps).mean() if metric is m.ece else (gaps**2).mean()
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        q = rng.beta(2, 8, 1500)
        y, p = (rng.random(len(q)) < q).astype(float), too_extreme(q, by)
        found = bootstrap_interval(metric, (y, p), np.arange(len(q)), n=150, random_state=seed)
        assert 0 <= found.low <= found.value <= found.high
        covered += found.low <= truth + 1e-12 and truth <= found.high
    assert covered >= 0.85 * 60


def test_without_bias_the_corrected_interval_is_that_of_percentiles():
    replicates = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    assert corrected_interval(3.0, replicates, 0.5) == percentile_interval(3.0, replicates, 0.5)
    assert corrected_interval(4.0, replicates, 0.5) == percentile_interval(4.0, replicates, 0.5)
    assert np.isnan(corrected_interval(3.0, np.array([np.nan]))[1:]).all()


def test_every_way_to_an_interval_corrects_gaps_and_them_alone(case):
    y, p, customers = case
    cells = list(m.churn_cells(y[:, None], p[:, None], ["30d"]))
    found = metric_intervals(cells, customers, n=60)
    for metric in (m.ece, m.brier_reliability):
        alone = bootstrap_interval(metric, (y, p), customers, n=60)
        assert found[f"{metric.__name__}_30d"] == alone
        assert bootstrap_interval(partial(metric, n_bins=10), (y, p), customers, n=60) == alone
        # told by another name, it is taken for any metric
        plain = bootstrap_interval(lambda *a, metric=metric, **k: metric(*a, **k), (y, p), customers, n=60)
        assert alone.high < plain.high
    brier = bootstrap_interval(lambda *a, **k: m.brier(*a, **k), (y, p), customers, n=60)
    assert found["brier_30d"] == brier


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"clusters": [1]}, DataError, "clusters has 1 rows"),
        ({"n": 0}, ConfigError, "at least 1 replicate"),
        ({"level": 95}, ConfigError, "between 0 and 1"),
    ],
)
def test_wrong_questions_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        bootstrap_interval(m.brier, ([0.0, 1.0], [0.5, 0.5]), **({"clusters": [1, 2]} | arguments))
