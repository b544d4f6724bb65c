"""Derived columns, on journeys that one can follow by hand."""

import math

import pytest
from reference_features import DAY_US, Event
from test_statistics import ALIVE, ask, values


def days(*days, **more):
    return [Event(int(day * DAY_US), **more) for day in days]


def test_share_of_nothing_is_unknown():
    events = [Event(0, "call"), Event(1, "buy"), Event(2, "buy", measures={"value": 3.0})]
    assert ask("share__touchpoint=buy__1d", events, [9]) == pytest.approx([2 / 3])
    assert math.isnan(ask("share__touchpoint=buy__1d", [], [9])[0])
    assert ask("share__value@touchpoint=call__1d", events, [9]) == [0]
    assert math.isnan(ask("share__value@touchpoint=call__1d", events[:2], [9])[0])


def test_a_sum_of_nothing_but_opposites_has_no_share():
    assert math.isnan(ask("share__value@value<0__1d", values((0, -2.0), (0, 2.0)), [9])[0])


def test_ratio_compares_rates():
    assert ask("ratio__all__1d/10d", days(0, 9.5), [10 * DAY_US]) == [5]
    assert ask("ratio__all__1d/10d", days(0), [10 * DAY_US]) == [0]
    assert math.isnan(ask("ratio__all__1d/10d", days(0), [20 * DAY_US])[0])
    assert ask("ratio__value__1d/10d", values((0, 3.0), (9.5, 1.0)), [10 * DAY_US]) == [2.5]


def test_change_is_against_the_customers_own_average():
    names = "change__touchpoint=call__2d"
    assert ask(names, days(0, 1, 9, 9.5), [10 * DAY_US])[0] == pytest.approx(2 - 4 / 5)
    assert ask(names, days(0, 0.5), [1 * DAY_US]) == [0]  # a customer of less than one window is as usual
    assert math.isnan(ask(names, [], [DAY_US])[0])
    assert ask(names, days(0, touchpoint="buy"), [DAY_US]) == [0]


def test_acceleration_is_the_change_of_the_change():
    assert ask("acceleration__all__1d", days(0, 1, 1, 2, 2, 2, 2), [3 * DAY_US]) == [(4 - 2) - (2 - 1)]
    assert ask("acceleration__all__1d", [], [3 * DAY_US]) == [0]


def test_rate_is_per_day_on_which_anything_happened():
    events = [*days(0, 0.5), *days(1, touchpoint="buy")]
    assert ask("rate__touchpoint=call__9d", events, [2 * DAY_US]) == [1]
    assert math.isnan(ask("rate__touchpoint=call__9d", events, [20 * DAY_US])[0])


def test_lag_is_the_same_window_earlier_with_its_edges():
    at = [12 * DAY_US]
    assert ask("lag__all__2d/10d", days(0), at) == [1]
    assert ask("lag__all__2d/10d", days(2), at) == [0]
    assert ask("lag__all__2d/10d", [Event(2 * DAY_US - 1)], at) == [1]
    assert ask("lag__all__2d/10d", [Event(-1)], at) == [0]


def alive(x, t_x, tenure):
    r, alpha, a, b = ALIVE
    return 1 / (1 + a / (b + x - 1) * ((alpha + tenure) / (alpha + t_x)) ** (r + x))


def test_p_alive_is_that_of_the_bg_nbd_model_in_days():
    events = days(0.5, 0.75, 3.5, 3.25 + 1)
    rows = ask("p_alive", events, [int(0.8 * DAY_US), int(4.5 * DAY_US), 60 * DAY_US])
    assert rows[0] == 1  # one day, however many events
    assert rows[1] == pytest.approx(alive(2, 3.75, 4), rel=1e-6)
    assert rows[2] == pytest.approx(alive(2, 3.75, 59.5), rel=1e-6)
    assert rows[2] < rows[1]
    assert math.isnan(ask("p_alive", [], [DAY_US])[0])


def test_p_alive_of_a_selector_knows_its_events_alone():
    events = sorted(days(0) + days(1, 5, touchpoint="buy"), key=lambda e: e.time)
    assert ask("p_alive__touchpoint=buy", events, [9 * DAY_US])[0] == pytest.approx(alive(1, 4, 8), rel=1e-6)


def test_days_ever_are_counted_in_whatever_order_they_become_known():
    """Days 0, 1 and 2; one event of day 1 is known first, then day 2, then the rest of day 1, then day 0."""
    late = [(0, 9), (1, 6), (1.5, 3), (2, 4)]
    events = [Event(int(day * DAY_US), known=int(known * DAY_US)) for day, known in late]
    at = [int(day * DAY_US) + 1 for day in (3, 4, 6, 9)]
    expected = [1, alive(1, 0.5, 2.5), alive(1, 1, 5), alive(2, 2, 9)]
    assert ask("p_alive", events, at) == pytest.approx(expected, rel=1e-6)


def test_a_long_silence_ends_in_zero_and_not_in_an_error():
    assert ask("p_alive", days(*range(200)), [300_000 * DAY_US]) == [0]
