"""Expected maximum profit against numerical integration of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import metric_intervals
from cxml.evaluate.profit import Campaign, expected_gain, expected_profit, profit_cells, profit_curve

MONEY = Campaign(offer=10.0, contact=1.0)


def by_definition(y, p, value, campaign, weight):
    """Try every number of customers to address at every chance of acceptance."""
    gain = expected_gain(p, value, campaign)
    cuts = [np.zeros(len(y), bool), *(gain >= g for g in np.unique(gain))]

    a, b = campaign.accepts
    grid = np.linspace(0, 1, 4001)[:, None]
    each = np.where(y == 1, grid * (value - campaign.offer), -campaign.offer) - campaign.contact
    best = np.max([(weight * each * cut).sum(axis=1) for cut in cuts], axis=0)
    grid = grid[:, 0]
    heights = best * stats.beta.pdf(grid, a, b)
    return integrate.simpson(heights, x=grid) / weight.sum()


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 25))
def test_it_is_the_mean_over_acceptance_of_the_best_profit(seed, n):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, n).astype(float), rng.integers(0, 6, n) / 5
    value = rng.choice([0.0, 5.0, 60.0, 200.0, 1000.0], n)
    weight = rng.integers(0, 3, n) + (np.arange(n) == 0)
    ours = expected_profit(y, p, value, campaign=MONEY, weight=weight.astype(float))
    assert ours == pytest.approx(by_definition(y, p, value, MONEY, weight), rel=1e-4, abs=1e-5)


def test_with_one_value_for_all_it_is_the_empc_of_the_paper():
    """Verbraken et al. (2013), equation of the EMPC, integrated over the ROC curve with shares of each class."""
    rng = np.random.default_rng(3)
    y = (rng.random(300) < 0.2).astype(float)
    p = np.clip(0.2 + 0.25 * (y - 0.2) + 0.15 * rng.normal(size=300), 0, 1)
    order = np.argsort(-p, kind="stable")
    f0, f1 = np.r_[0, np.cumsum(y[order])] / y.sum(), np.r_[0, np.cumsum(1 - y[order])] / (1 - y).sum()
    clv, delta, phi, share = 200.0, 10 / 200, 1 / 200, y.mean()

    grid = np.linspace(0, 1, 20001)[:, None]
    profit = clv * (grid * (1 - delta) - phi) * share * f0 - clv * (delta + phi) * (1 - share) * f1
    empc = integrate.simpson(profit.max(axis=1) * stats.beta.pdf(grid[:, 0], 6, 14), x=grid[:, 0])
    assert expected_profit(y, p, 200.0, campaign=MONEY) == pytest.approx(empc, rel=1e-4)
    assert 200 * expected_profit(y, p) == pytest.approx(empc, rel=1e-4)  # the defaults are its proportions


def test_many_rows_of_weights_at_once_equal_one_at_a_time():
    rng = np.random.default_rng(4)
    y, p, value = rng.integers(0, 2, 80).astype(float), rng.random(80), rng.exponential(100, 80)
    weights = rng.integers(0, 3, (5, 80)).astype(float)
    alone = [expected_profit(y, p, value, campaign=MONEY, weight=row) for row in weights]
    np.testing.assert_allclose(expected_profit(y, p, value, campaign=MONEY, weight=weights), alone, rtol=1e-12)


def test_knowing_the_value_of_each_customer_is_worth_more_than_not():
    rng = np.random.default_rng(5)
    p = rng.beta(1, 6, 4000)
    y, value = (rng.random(4000) < p).astype(float), rng.exponential(200, 4000)
    informed = expected_profit(y, p, value, campaign=MONEY)
    risk_only = profit_curve(y, p, value.mean(), campaign=MONEY)
    each = np.where(y == 1, MONEY.chance * (value - MONEY.offer), -MONEY.offer) - MONEY.contact
    order = np.argsort(-p, kind="stable")
    by_risk = np.max(np.r_[0, np.cumsum(each[order])]) / 4000
    assert informed > by_risk > 0
    assert 0 < risk_only.best[0] < 1


def test_the_curve_starts_with_nobody_and_ends_with_everybody():
    y, p, value = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.9, 0.2, 0.1]), np.array([100, 100, 50, 100.0])
    curve = profit_curve(y, p, value, campaign=MONEY)
    assert (curve.share[0], curve.profit[0], curve.share[-1]) == (0.0, 0.0, 1.0)
    assert len(curve.share) == 4  # two rows of equal expected gain are one step
    every = np.where(y == 1, 0.3 * (value - 10), -10) - 1
    assert curve.profit[-1] == pytest.approx(every.mean())


def test_an_unknown_value_counts_as_nothing():
    y, p = [1, 1, 0], [0.9, 0.8, 0.1]
    unknown = expected_profit(y, p, [np.nan, 100.0, 100.0], campaign=MONEY)
    assert unknown == expected_profit(y, p, [0.0, 100.0, 100.0], campaign=MONEY)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="value has shape"):
        expected_profit([1, 0], [0.5, 0.5], [1.0])
    with pytest.raises(ConfigError, match="must not be negative"):
        Campaign(offer=-1)
    with pytest.raises(ConfigError, match="above 0"):
        Campaign(accepts=(0, 1))


def test_the_cells_look_at_known_rows_only():
    known = np.array([[1.0, 1.0], [0.0, np.nan], [0.0, 0.0], [1.0, np.nan]])
    cells = list(profit_cells(known, np.full((4, 2), 0.5), ["30d", "60d"], [1.0, 2.0, 3.0, 4.0]))
    assert [(c.key, c.arrays[2].tolist()) for c in cells] == [
        ("expected_profit_30d", [1.0, 2.0, 3.0, 4.0]), ("expected_profit_60d", [1.0, 3.0]),
    ]  # fmt: skip
    assert set(metric_intervals(cells, np.arange(4), n=5)) == {"expected_profit_30d", "expected_profit_60d"}
