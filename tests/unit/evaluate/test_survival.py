"""Concordance and Brier score under censoring, against their definitions written out pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.errors import DataError
from cxml.evaluate.bootstrap import metric_intervals
from cxml.evaluate.survival import censored_brier, concordance, integrated_brier, survival_cells


@st.composite
def followed(draw):
    """Durations with many ties, some lost from sight, some known never to leave, and weights of which some are 0."""
    n = draw(st.integers(2, 30))
    duration = np.array(draw(st.lists(st.integers(1, 8), min_size=n, max_size=n)), dtype=float) * 10
    seen = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    never = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))) == 0
    duration[never & ~seen] = np.inf
    risk = np.array(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))) / 6
    weight = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    return duration, seen, risk, weight


def in_sight_before(duration, seen, moment):
    """Kaplan-Meier probability of not having been lost before a moment, one loss after the other, floor 0.05."""
    alive = 1.0
    lost = ~seen & np.isfinite(duration)
    for t in sorted(set(duration[lost])):
        if t >= moment:
            break
        at_risk = np.sum(duration > t) + np.sum(lost & (duration == t))  # outcomes of that moment came before
        alive *= 1.0 - np.sum(lost & (duration == t)) / at_risk
    return max(alive, 0.05)


def naive_concordance(duration, seen, risk, weight, until):
    above = below = 0.0
    for i in range(len(duration)):
        if not seen[i] or duration[i] >= until:
            continue
        worth = weight[i] / in_sight_before(duration, seen, duration[i]) ** 2
        for j in range(len(duration)):
            outlasts = duration[j] > duration[i] or (duration[j] == duration[i] and not seen[j])
            if outlasts:
                below += worth * weight[j]
                above += worth * weight[j] * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    return above / below if below else np.nan


def naive_brier(duration, seen, p, weight, horizon):
    total = 0.0
    for t, came, said, w in zip(duration, seen, p, weight, strict=True):
        if came and t < horizon:
            total += w * (1 - said) ** 2 / in_sight_before(duration, seen, t)
        elif t >= horizon:
            total += w * said**2 / in_sight_before(duration, seen, horizon)
    return total / weight.sum() if weight.sum() else np.nan


@settings(max_examples=150)
@given(followed(), st.sampled_from([20.0, 45.0, 200.0]))
def test_concordance_is_its_definition_pair_by_pair(case, until):
    duration, seen, risk, weight = case
    ours = concordance(duration, seen, risk, until_days=until, weight=weight)
    assert ours == pytest.approx(naive_concordance(duration, seen, risk, weight, until), nan_ok=True)


@settings(max_examples=100)
@given(followed(), st.sampled_from([20.0, 45.0, 80.0]))
def test_the_brier_score_is_its_definition_row_by_row(case, horizon):
    duration, seen, p, weight = case
    ours = censored_brier(duration, seen, p, horizon_days=horizon, weight=weight)
    assert ours == pytest.approx(naive_brier(duration, seen, p, weight, horizon), nan_ok=True)


def test_many_rows_of_weights_at_once_equal_one_at_a_time():
    rng = np.random.default_rng(0)
    duration, seen, risk = rng.integers(1, 40, 60) * 1.0, rng.random(60) < 0.6, rng.random(60)
    weights = rng.integers(0, 3, (21, 60)).astype(float)  # more than walk together, and not a multiple of it
    at_once = concordance(duration, seen, risk, until_days=35, weight=weights)
    alone = [concordance(duration, seen, risk, until_days=35, weight=row) for row in weights]
    np.testing.assert_allclose(at_once, alone, rtol=1e-12)
    cdf = np.column_stack([risk / 2, risk])
    at_once = integrated_brier(duration, seen, cdf, horizons_days=[10, 30], weight=weights)
    alone = [integrated_brier(duration, seen, cdf, horizons_days=[10, 30], weight=row) for row in weights]
    np.testing.assert_allclose(at_once, alone, rtol=1e-12)


def test_losing_people_from_sight_does_not_change_what_is_estimated():
    """Harrell's concordance, which leaves the weights out, would drift with who is followed for how long."""
    rng = np.random.default_rng(1)
    n = 6_000
    x = rng.normal(size=n)
    time = rng.exponential(60 * np.exp(-x * (1 + rng.random(n))))
    lost = rng.exponential(70, n)
    duration, seen = np.minimum(time, lost), time < lost
    everything = concordance(time, np.ones(n), x, until_days=90)
    assert concordance(duration, seen, x, until_days=90) == pytest.approx(everything, abs=0.012)
    cdf = 1 - np.exp(-np.array([30, 60, 90]) / (60 * np.exp(-1.5 * x))[:, None])
    full = integrated_brier(time, np.ones(n), cdf, horizons_days=[30, 60, 90])
    assert integrated_brier(duration, seen, cdf, horizons_days=[30, 60, 90]) == pytest.approx(full, abs=0.006)


def test_the_integral_is_the_mean_over_the_span():
    duration, seen = np.array([5.0, 40.0, 100.0, 100.0]), np.array([1, 1, 0, 0])
    cdf = np.tile([0.2, 0.5, 0.6], (4, 1))
    scores = [censored_brier(duration, seen, cdf[:, k], horizon_days=h) for k, h in enumerate((10, 30, 90))]
    expected = ((scores[0] + scores[1]) / 2 * 20 + (scores[1] + scores[2]) / 2 * 60) / 80
    assert integrated_brier(duration, seen, cdf, horizons_days=[10, 30, 90]) == pytest.approx(expected)


def test_what_cannot_be_compared_is_nan_and_what_does_not_fit_is_refused():
    assert np.isnan(concordance([10, 20], [0, 0], [0.1, 0.2], until_days=30))
    assert np.isnan(concordance([], [], [], until_days=30))
    with pytest.raises(DataError, match="risk has shape"):
        concordance([10, 20], [1, 0], [0.1], until_days=30)
    with pytest.raises(DataError, match="without gaps"):
        concordance([10, np.nan], [1, 0], [0.1, 0.2], until_days=30)
    with pytest.raises(DataError, match="cdf has shape"):
        integrated_brier([10, 20], [1, 0], [[0.1], [0.2]], horizons_days=[10, 20])


def test_the_cells_give_intervals_by_customer():
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    time = rng.exponential(60 * np.exp(-x))
    cdf = 1 - np.exp(-np.array([30, 60]) / (60 * np.exp(-x))[:, None])
    found = metric_intervals(survival_cells(np.minimum(time, 60), time < 60, cdf, [30, 60]), np.arange(400), n=50)
    assert list(found) == ["concordance", "integrated_brier"]
    for interval in found.values():
        assert interval.low < interval.value < interval.high
