"""Intervals of the figures for everybody: from draws of whole customers, and never off the scale."""

from dataclasses import replace

import numpy as np
import pytest

from cxml.errors import ConfigError
from cxml.evaluate import bootstrap
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.expected_nps import (
    BEYOND,
    FEW,
    SILENT,
    Asked,
    Figures,
    Population,
    bounded,
    doubts,
    estimate,
    extrapolate,
)

NAMES = ("raw", "ipw", "dr")
#: One interval may differ from the other by such a share of its width: both are found from a finite number of answers.
ALIKE = 0.15


def world(n_customers=500, askings=6, seed=0):
    """Six askings of each customer that hang together: feeling is the customer's, what an asking adds is small.

    What is expected of a customer errs by something of its own as well, at the askings and in the population alike.
    """
    rng = np.random.default_rng(seed)
    customer = np.repeat(np.arange(n_customers), askings)
    feeling, error = rng.normal(size=(2, n_customers))
    propensity = (1 / (1 + np.exp(-(-0.3 + 0.8 * feeling))))[customer]
    answered = rng.random(len(customer)) < propensity
    value = np.where(answered, 40 * feeling[customer] + rng.normal(0, 15, len(customer)), np.nan)
    expected = 30 * feeling + 50 * error
    asked = Asked(customer, answered, value, propensity, expected[customer])
    return asked, Population(np.arange(n_customers), expected)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_draws_of_customers_agree_with_influence_functions(level):
    asked, people = world()
    one, other = (estimate(asked, people, level=level, bootstrap=draws) for draws in (None, 4000))
    for name in NAMES:
        told, drawn = getattr(one, name), getattr(other, name)
        assert drawn.value == told.value
        assert width(drawn) == pytest.approx(width(told), rel=ALIKE)
        assert drawn.low == pytest.approx(told.low, abs=ALIKE * width(told))
        assert drawn.high == pytest.approx(told.high, abs=ALIKE * width(told))
    assert (other.effective, other.clipped, other.n_answers) == (one.effective, one.clipped, one.n_answers)


def test_rows_drawn_in_place_of_customers_would_seem_far_too_sure():
    asked, _ = world()
    rows = replace(asked, customer=np.arange(len(asked.customer)))
    for name in NAMES:
        of_customers, of_rows = (getattr(estimate(one, bootstrap=2000), name) for one in (asked, rows))
        assert width(of_rows) < 0.75 * width(of_customers)


def test_askings_and_population_share_the_draw():
    """What is expected too much of a customer is missed at the askings: drawn together, the two cancel."""
    asked, people = world()
    together = estimate(asked, people, bootstrap=2000).dr
    apart = estimate(asked, Population(people.customer + 10_000, people.expected), bootstrap=2000).dr
    assert width(together) < 0.85 * width(apart)


def test_intervals_of_draws_cover_the_truth_about_as_often_as_they_say():
    found = [estimate(*world(200, 4, seed), level=0.9, bootstrap=300) for seed in range(150)]
    for name in ("ipw", "dr"):
        covered = np.mean([getattr(one, name).low <= 0.0 <= getattr(one, name).high for one in found])
        assert 0.82 < covered < 0.96


def test_the_same_seed_gives_the_same_interval_whatever_fits_into_memory(monkeypatch):
    asked, people = world(100)
    once = estimate(asked, people, bootstrap=200, random_state=7)
    assert estimate(asked, people, bootstrap=200, random_state=8).dr != once.dr
    sizes, draw = [], bootstrap.customer_draws

    def watched(customers, n, random_state):
        for times in draw(customers, n, random_state):
            sizes.append(times.shape)
            yield times

    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 1000)
    monkeypatch.setattr("cxml.evaluate.expected_nps.customer_draws", watched)
    again = estimate(asked, people, bootstrap=200, random_state=7)
    assert sizes == [(10, 100)] * 20
    for name in NAMES:
        assert tuple(getattr(again, name)) == pytest.approx(tuple(getattr(once, name)))


def test_answers_of_one_customer_alone_leave_the_interval_open():
    asked, _ = world(1, 40)
    found = estimate(replace(asked, answered=np.ones(40, bool), value=np.arange(40.0)), bootstrap=100)
    assert found.raw.value == 19.5
    assert np.isnan([found.raw.low, found.raw.high, found.dr.low, found.dr.high]).all()


def test_too_few_draws_are_refused():
    with pytest.raises(ConfigError, match="bootstrap is 99"):
        estimate(*world(50), bootstrap=99)


def figures(dr, raw=None, effective=80.0, clipped=0.0):
    return Figures(raw or dr, dr, dr, 90, 90, 80, effective, clipped)


def test_a_lopsided_interval_stays_lopsided_along_the_line_of_learning():
    whole, half = figures(Interval(10.0, 9.0, 14.0)), figures(Interval(10.0, 9.0, 14.0))
    assert extrapolate(whole, [half]).dr == pytest.approx((10.0, 9.0, 14.0))
    moved = extrapolate(whole, [figures(Interval(11.0, 10.0, 15.0))]).dr
    assert moved.value < 10.0
    assert moved.high - moved.value > 4.0
    assert 1.0 < moved.value - moved.low < moved.high - moved.value


def test_nothing_leaves_the_scale_and_what_lies_on_it_stays():
    far = bounded(figures(Interval(2.3, 1.2, 2.6), raw=Interval(-1.9, -2.2, -1.6)), -2.0, 2.0)
    assert far.raw == Interval(-1.9, -2.0, -1.6)
    assert far.ipw == far.dr == Interval(2.0, 1.2, 2.0)
    inside = figures(Interval(1.0, 0.5, 1.5))
    assert bounded(inside, -2.0, 2.0) == inside
    assert np.isnan(bounded(figures(Interval(1.0, np.nan, np.nan)), -2.0, 2.0).dr.low)


def test_figures_that_rest_on_little_are_doubted_and_others_are_not():
    sure = Interval(10.0, 5.0, 15.0)
    assert doubts(figures(sure), -100.0, 100.0) == ()
    assert doubts(figures(sure, effective=29.9), -100.0, 100.0) == (FEW,)
    assert doubts(figures(sure, clipped=0.06), -100.0, 100.0) == (SILENT,)
    assert doubts(figures(sure, effective=3.0, clipped=0.5), -100.0, 100.0) == (FEW, SILENT)
    assert doubts(figures(Interval(99.0, 95.0, 103.0)), -100.0, 100.0) == ()  # some of it is on the scale
    assert doubts(figures(Interval(103.0, 101.0, 105.0)), -100.0, 100.0) == (BEYOND,)
    assert doubts(figures(Interval(100.0, 100.0 + 1e-10, 100.0 + 2e-10)), -100.0, 100.0) == ()  # that is rounding
    unknown = Interval(np.nan, np.nan, np.nan)
    assert doubts(figures(unknown, effective=np.nan, clipped=1.0), -100.0, 100.0) == ()


def test_many_answers_of_few_customers_are_few():
    sure = Interval(20.0, 18.0, 22.0)
    told = [doubts(Figures(sure, sure, sure, 90, 90, 80, 80.0, 0.0), -100.0, 100.0, n) for n in (2, 29, 30, None)]
    assert told == [("few answers",), ("few answers",), (), ()]
