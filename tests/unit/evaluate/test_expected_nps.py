"""Figures for everybody against worlds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.expected_nps import (
    STEP,
    STEP_SPREAD,
    Asked,
    Figures,
    Population,
    allow_hidden,
    asking_rates,
    effective_size,
    estimate,
    extrapolate,
    if_hidden,
    noise_ceiling,
    population_odds,
    quadrants,
    whom_to_ask,
)


def world(n=4000, seed=0):
    """The content answer more often; the truth of everybody is 0, raw answers lie far above."""
    rng = np.random.default_rng(seed)
    feeling = rng.normal(size=n)
    propensity = 1 / (1 + np.exp(-(-0.8 + 1.2 * feeling)))
    answered = rng.random(n) < propensity
    expected = 40.0 * feeling
    value = np.where(answered, expected + rng.normal(0, 30, n), np.nan)
    return Asked(np.arange(n), answered, value, propensity, expected)


WRONG = {"expected": lambda a: np.zeros_like(a.expected), "propensity": lambda a: np.full_like(a.propensity, 0.35)}


@pytest.mark.parametrize("wrong", [None, "expected", "propensity"])
def test_doubly_robust_finds_the_truth_where_either_model_is_right(wrong):
    errors, raw = [], []
    for seed in range(20):
        asked = world(seed=seed)
        found = estimate(asked if wrong is None else replace(asked, **{wrong: WRONG[wrong](asked)}))
        errors.append(found.dr.value)
        raw.append(found.raw.value)
    assert abs(np.mean(errors)) < 1.0
    assert np.mean(raw) > 20.0


def test_with_both_models_wrong_nothing_helps():
    asked = world(20_000)
    found = estimate(replace(asked, **{name: wrong(asked) for name, wrong in WRONG.items()}))
    assert found.dr.value == pytest.approx(found.raw.value)


def test_ninety_percent_intervals_cover_about_as_often():
    found = [estimate(world(3000, seed), level=0.9) for seed in range(200)]
    for name in ("ipw", "dr"):
        covered = np.mean([getattr(f, name).low <= 0.0 <= getattr(f, name).high for f in found])
        assert 0.83 < covered < 0.96
    assert np.mean([f.dr.high - f.dr.low for f in found]) < np.mean([f.ipw.high - f.ipw.low for f in found])


def test_rows_of_one_customer_count_as_one():
    asked = world(500)
    fields = ("answered", "value", "propensity", "expected")
    twice = Asked(np.tile(asked.customer, 3), *(np.tile(getattr(asked, name), 3) for name in fields))
    one, three = estimate(asked), estimate(twice)
    assert three.dr == pytest.approx(one.dr)
    apart = estimate(replace(twice, customer=np.arange(1500)))
    assert apart.dr.high - apart.dr.low < 0.7 * (one.dr.high - one.dr.low)


def test_answers_are_carried_over_to_another_population():
    rng = np.random.default_rng(1)
    n = 6000
    feeling = rng.normal(size=n)
    asked = Asked(np.arange(n), np.ones(n, bool), 10.0 * feeling, np.ones(n), np.zeros(n))
    there = rng.normal(0.7, 1.0, n)
    odds = population_odds(feeling[:, None], there[:, None])
    found = estimate(replace(asked, odds=odds), Population(np.arange(n), np.zeros(n)))
    assert found.raw.value == pytest.approx(0.0, abs=0.5)
    assert found.ipw.value == pytest.approx(7.0, abs=0.7)
    assert found.dr.value == pytest.approx(7.0, abs=0.7)


def test_odds_are_bounded_by_twenty_times_their_mean():
    """The population is far from those who were asked, so that without a bound a handful would carry all weight."""
    asked = np.random.default_rng(2).normal(size=4000)
    odds = population_odds(asked[:, None], np.random.default_rng(3).normal(2.5, 1.0, (4000, 1)))
    assert odds.mean() == pytest.approx(1.0)
    bounded = odds > odds.max() * (1 - 1e-9)
    line = np.polyfit(asked[~bounded], np.log(odds[~bounded]), 2)  # what is not bounded follows the regression
    free = np.exp(np.polyval(line, asked))
    assert free.max() > 100 * free.mean()
    assert odds.max() == pytest.approx(20 * free.mean(), rel=1e-6)
    assert bounded.sum() > 10
    assert effective_size(odds) > 3 * effective_size(free)


def test_a_customer_who_never_answers_cannot_decide_all():
    asked = world(1000)
    tiny = replace(asked, propensity=np.full(1000, 1e-9))
    found = estimate(tiny)
    assert found.clipped == 1.0
    assert found.ipw.value == pytest.approx(found.raw.value)
    assert effective_size([0.0]) == 0.0


def test_few_answers_give_no_figure():
    asked = world(50)
    few = replace(asked, answered=np.arange(50) < 5, value=np.where(np.arange(50) < 5, 1.0, np.nan))
    found = estimate(few)
    assert found.n_answers == 5
    assert np.isnan([*found.raw, *found.ipw, *found.dr]).all()


def test_what_does_not_fit_is_refused():
    asked = world(50)
    with pytest.raises(DataError, match="one value a row"):
        replace(asked, expected=np.zeros(3))
    with pytest.raises(DataError, match="marked as answered"):
        replace(asked, answered=np.ones(50, bool))
    with pytest.raises(ConfigError, match="level is 2"):
        estimate(asked, level=2)


def figures(dr):
    made = Interval(dr, dr - 2, dr + 2)
    return Figures(Interval(40, 38, 42), made, made, 9, 9, 9, 9.0, 0.0)


def test_a_bias_of_order_one_over_root_n_goes_away_and_the_interval_widens():
    truth, bias = 20.0, 5.0
    halves = [figures(truth + bias * 2**0.5 + off) for off in (-1, 1)]
    found = extrapolate(figures(truth + bias), halves)
    assert found.dr.value == pytest.approx(truth)
    assert found.dr.high - found.dr.low > 4.0
    assert found.raw == Interval(40, 38, 42)
    assert extrapolate(figures(3.0), []) == figures(3.0)


def test_halves_that_differ_make_the_figure_less_sure_though_their_mean_moves_nothing():
    """Two halves 2 points apart leave their mean unsure by 1; going on along the line takes that STEP times."""
    agreed, differing = (
        extrapolate(figures(20.0), [figures(20.0 - off), figures(20.0 + off)], level=0.95) for off in (0.0, 1.0)
    )
    for name in ("ipw", "dr"):
        assert getattr(agreed, name) == pytest.approx((20.0, 18.0, 22.0))
        half_width = np.hypot(2.0, 1.96 * STEP)
        found = getattr(differing, name)
        assert found == pytest.approx((20.0, 20.0 - half_width, 20.0 + half_width), abs=1e-3)


def test_the_step_and_its_spread_are_those_of_the_rates():
    rates = np.linspace(0.25, 1.0, 10_001)
    assert pytest.approx(1 / (2**0.5 - 1), abs=1e-3) == STEP
    assert pytest.approx((1 / (2**rates - 1)).std(), abs=5e-3) == STEP_SPREAD


def test_intervals_cover_though_the_rate_of_learning_is_unknown():
    rng = np.random.default_rng(0)
    covered, bare = [], []
    for rate in rng.uniform(0.25, 1.0, 1000):
        off = rng.normal(0, 2 / 1.645)  # `figures` has 90 % intervals of 2 points to either side
        found = extrapolate(figures(20 + off + 4), [figures(20 + off + 4 * 2**rate)], level=0.9).dr
        covered.append(found.low <= 20 <= found.high)
        bare.append(abs(found.value - 20) <= 2)
    assert 0.85 < np.mean(covered) < 0.95
    assert np.mean(bare) < 0.7


def test_a_hidden_share_enlarges_the_correction():
    asked = Asked(np.arange(2), np.ones(2, bool), np.array([30.0, 50.0]), np.ones(2), np.zeros(2))
    assert if_hidden(figures(20.0), asked, 0.0) == pytest.approx(20.0)
    assert if_hidden(figures(20.0), asked, 0.5) == pytest.approx(0.0)
    with pytest.raises(ConfigError, match="below 1"):
        if_hidden(figures(20.0), asked, 1.0)


def test_intervals_reach_over_all_shares_up_to_the_one_allowed():
    asked = Asked(np.arange(2), np.ones(2, bool), np.array([30.0, 50.0]), np.ones(2), np.zeros(2))
    bare = figures(20.0)
    allowed = allow_hidden(bare, asked, 0.2)
    assert allowed.raw == bare.raw
    for name in ("ipw", "dr"):
        found, before = getattr(allowed, name), getattr(bare, name)
        assert found.value == before.value
        furthest = if_hidden(replace(bare, dr=before), asked, 0.2) - before.value
        assert furthest == pytest.approx(-5.0)  # 20 points of correction become 25
        assert (found.low, found.high) == pytest.approx((before.low + furthest, before.high))
    above = allow_hidden(figures(60.0), asked, 0.2).dr  # the silent are the happier ones
    assert (above.low, above.high) == pytest.approx((figures(60.0).dr.low, figures(60.0).dr.high + 5.0))
    assert allow_hidden(bare, asked, 0.0) == bare
    with pytest.raises(ConfigError, match="below 1"):
        allow_hidden(bare, asked, 1.0)


def pairs(n, reliability, seed=0):
    rng = np.random.default_rng(seed)
    feeling = np.repeat(rng.normal(0, reliability**0.5, n), 2)
    return np.repeat(np.arange(n), 2), np.tile([0, 10], n), feeling + rng.normal(0, (1 - reliability) ** 0.5, 2 * n)


def test_the_ceiling_is_found_and_no_prediction_passes_it():
    customer, time, score = pairs(5000, 0.64)
    found = noise_ceiling(customer, time, score, within=10, n=100)
    assert found.n_pairs == 5000
    assert found.reliability.value == pytest.approx(0.64, abs=0.03)
    assert found.correlation.value == pytest.approx(0.8, abs=0.02)
    assert found.rmse.value == pytest.approx(0.6, abs=0.02)
    perfect = np.repeat(score.reshape(-1, 2).mean(axis=1), 2)  # better than any model: it has seen the answers
    assert np.abs(score - perfect).mean() >= found.mae.value - 1e-9
    assert found.correlation.low < 0.8 < found.correlation.high


def test_answers_far_apart_make_no_pair():
    customer, time, score = pairs(100, 0.5)
    found = noise_ceiling(customer, time, score, within=9)
    assert found.n_pairs == 0
    assert np.isnan(found.correlation.value)
    assert "too few" in found.note


def test_everybody_stands_in_one_quadrant():
    rng = np.random.default_rng(0)
    risk, feeling, value = rng.random(100), rng.normal(size=100), rng.random(100)
    place, four = quadrants(risk, feeling, risky=0.7, content=0.0, value=value)
    assert sum(q.n for q in four) == 100
    assert sum(q.value for q in four) == pytest.approx(value.sum())
    assert ((risk >= 0.7) == (place < 2)).all()
    assert four[0].risk >= 0.7 > four[2].risk
    assert four[0].feeling < 0 < four[1].feeling


def test_who_is_asked_answers_and_is_unsure_and_may_be_asked():
    plan = whom_to_ask([0.5, 0.5, 0.1, 0.9], [4.0, 1.0, 4.0, 4.0], budget=2, allowed=[True, True, True, False])
    assert plan.order.tolist() == [0, 1]
    assert plan.answers == pytest.approx(1.0)
    noisy = whom_to_ask([0.5, 0.5], [4.0, 1.0], budget=1, noise=1.0)
    assert noisy.gain.tolist() == pytest.approx([0.5 * 9 / 4, 0.0])
    with pytest.raises(ConfigError, match="budget is 0"):
        whom_to_ask([0.5], [1.0], budget=0)


def test_asking_by_rate_beats_asking_everybody_alike():
    rng = np.random.default_rng(0)
    answers, spread = rng.uniform(0.05, 0.9, 500), rng.uniform(5, 80, 500)
    rate = asking_rates(answers, spread, budget=200)
    assert rate.sum() == pytest.approx(200)
    assert ((rate > 0) & (rate <= 1)).all()
    assert (spread**2 / (rate * answers)).sum() < 0.9 * (spread**2 / (0.4 * answers)).sum()
    with pytest.raises(ConfigError, match="at most the 500"):
        asking_rates(answers, spread, budget=501)
