"""Derived columns, on journeys that one can follow by hand."""

import math

import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of
from test_statistics import ALIVE, ask, values

from cxml.features.annotations import AnnotationSettings
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.schema import FIRST_US, LAST_US


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


def test_change_of_a_measure_is_against_the_average_sum():
    events = values((0, 8.0), (1, math.nan), (9, 1.0), (9.5, 5.0))
    assert ask("change__value__2d", events, [10 * DAY_US])[0] == pytest.approx(6 - 14 / 5)
    assert ask("change__value__2d", events[:1], [DAY_US]) == [0]  # a customer of less than one window is as usual
    assert ask("change__value__2d", days(0), [DAY_US]) == [0]
    assert math.isnan(ask("change__value__2d", [], [DAY_US])[0])
    of_buys = ask("change__value@touchpoint=buy__2d", [*values((0, 8.0)), *buys((9, 3.0))], [10 * DAY_US])
    assert of_buys[0] == pytest.approx(3 - 3 / 5)


def buys(*pairs):
    return [Event(int(day * DAY_US), "buy", measures={"value": value}) for day, value in pairs]


def test_the_average_of_a_measure_looks_back_to_the_first_event_there_can_be():
    events = [Event(FIRST_US, measures={"value": 4.0}), Event(LAST_US - 1, measures={"value": 2.0})]
    tenure = (LAST_US - FIRST_US) / DAY_US
    assert ask("change__value__1d", events, [LAST_US])[0] == pytest.approx(2 - 6 / tenure)
    year_9999 = 253_402_214_400_000_000
    late = ask("change__value__1d", events, [year_9999])[0]
    assert late == pytest.approx(-6 / ((year_9999 - FIRST_US) / DAY_US))
    assert ask("change__value__1d", events[:1], [FIRST_US, FIRST_US + 1])[1] == 0
    assert math.isnan(ask("change__value__1d", events, [-(10**17)])[0])


def test_each_window_is_summed_by_itself_and_afresh_at_each_cutoff():
    """A small value keeps all its digits beside a large one of another window."""
    events = values((0, 1.0), (1, 2.0**60), (2, 0.5))
    at = [DAY_US, 2 * DAY_US, 3 * DAY_US]
    assert ask("lag__value__1d/1d", events, at) == [0, 1, 2.0**60]
    assert ask("acceleration__value__1d", [events[0], *values((2, 0.5))], [3 * DAY_US]) == [0.5 - 0 - (0 - 1)]
    assert ask("change__value__1d", events, at) == [ask("change__value__1d", events, [moment])[0] for moment in at]


def test_acceleration_rate_and_lag_of_a_measure():
    events = [*values((0, 1.0), (1, 2.0), (1.5, 4.0)), *buys((2, 16.0)), *days(2.5)]
    at = [3 * DAY_US]
    assert ask("acceleration__value__1d", events, at) == [(16 - 6) - (6 - 1)]
    assert ask("acceleration__value@touchpoint=call__1d", events, at) == [(0 - 6) - (6 - 1)]
    assert ask("acceleration__value__1d", [], at) == [0]
    assert ask("rate__value__9d", events, at) == [pytest.approx(23 / 3)]
    assert ask("rate__value@touchpoint=buy__1d", events, at) == [16]
    assert ask("rate__value__9d", days(0), at) == [0]
    assert math.isnan(ask("rate__value__9d", [], at)[0])
    assert ask("lag__value__1d/1d", events, at) == [6]
    assert ask("lag__value@touchpoint=buy__1d/1d", events, at) == [0]


def test_the_lag_of_a_measure_has_both_edges():
    at = [12 * DAY_US]
    assert ask("lag__value__2d/10d", values((0, 3.0)), at) == [3]
    assert ask("lag__value__2d/10d", values((2, 3.0)), at) == [0]
    edge = [Event(-1, measures={"value": 5.0}), Event(2 * DAY_US - 1, measures={"value": 3.0})]
    assert ask("lag__value__2d/10d", edge, at) == [3]


def test_lags_of_one_length_and_sums_beside_them_do_not_mix():
    events = values((1, 1.0), (5, 2.0), (9, 4.0))
    names = [
        "lag__value__2d/2d",
        "lag__value__2d/4d",
        "lag__value__4d/2d",
        "acceleration__value__2d",
        "ratio__value__2d/4d",
    ]
    assert ask(names, events, [10 * DAY_US]) == [[0, 2, 2, (4 - 0) - (0 - 2), 2]]


def test_the_handle_time_of_contacts_can_be_compared():
    """Average handle time, its spread and how it changes, of the duration of contacts."""
    settings = AnnotationSettings(contacts=("call",))
    events = [
        Event(0, "call", measures={"duration": 100.0}),
        Event(DAY_US, "buy", measures={"duration": 9.0}),
        Event(9 * DAY_US, "call", measures={"duration": 300.0}),
    ]
    what = "duration@contact=yes"
    names = [
        f"mean__{what}__30d",
        f"std__{what}__30d",
        f"change__{what}__2d",
        f"lag__{what}__2d/8d",
        f"rate__{what}__2d",
    ]
    vocabularies = {"touchpoint": ("buy", "call"), "contact": ("no", "yes")}
    plan = FeaturePlan(tuple(map(Aggregate.parse, names)), vocabularies, annotations=settings)
    row = fill_matrix(plan, block_of({1: events}), np.array([0, 1]), np.array([10 * DAY_US]))[0]
    assert row.tolist() == [200, 100, 300 - 400 / 5, 100, 300]


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


def test_each_selector_has_the_parameters_learned_of_its_events():
    events = sorted(days(0, 4) + days(1, 5, touchpoint="buy"), key=lambda e: e.time)
    models = {"all": ALIVE, "touchpoint=buy": (0.1, 3.0, 2.0, 5.0)}
    names = tuple(map(Aggregate.parse, ("p_alive__touchpoint=buy", "ratio__all__1d/4d", "p_alive")))
    plan = FeaturePlan(names, {"touchpoint": ("buy", "call")}, alive=models)
    row = fill_matrix(plan, block_of({1: events}), np.array([0, 1]), np.array([9 * DAY_US]))[0]
    r, alpha, a, b = models["touchpoint=buy"]
    assert row[0] == pytest.approx(1 / (1 + a / b * ((alpha + 8) / (alpha + 4)) ** (r + 1)), rel=1e-6)
    assert row[2] == pytest.approx(alive(3, 5, 9), rel=1e-6)


def test_days_ever_are_counted_in_whatever_order_they_become_known():
    """Days 0, 1 and 2; one event of day 1 is known first, then day 2, then the rest of day 1, then day 0."""
    late = [(0, 9), (1, 6), (1.5, 3), (2, 4)]
    events = [Event(int(day * DAY_US), known=int(known * DAY_US)) for day, known in late]
    at = [int(day * DAY_US) + 1 for day in (3, 4, 6, 9)]
    expected = [1, alive(1, 0.5, 2.5), alive(1, 1, 5), alive(2, 2, 9)]
    assert ask("p_alive", events, at) == pytest.approx(expected, rel=1e-6)


def test_a_long_silence_ends_in_zero_and_not_in_an_error():
    assert ask("p_alive", days(*range(200)), [300_000 * DAY_US]) == [0]
