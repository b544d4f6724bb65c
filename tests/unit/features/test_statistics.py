"""The statistics of the second walk, on journeys that one can follow by hand."""

import math
import time

import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of

from cxml.errors import ConfigError, DataError
from cxml.features.annotate import Annotated
from cxml.features.annotations import AnnotationSettings
from cxml.features.kernel import ALWAYS
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import Coded, EventBlock

VOCABULARIES = {"touchpoint": ("buy", "call", "visit"), "channel": ("phone", "web")}
ALIVE = (0.5, 10.0, 1.0, 3.0)


def ask(names, events, at, **changes):
    """Features of one customer; a list for each cutoff, or the value where one name is asked at one cutoff."""
    one = isinstance(names, str)
    plan = FeaturePlan(tuple(map(Aggregate.parse, [names] if one else names)), VOCABULARIES, alive=ALIVE, **changes)
    matrix = fill_matrix(plan, block_of({1: events}), np.array([0, len(at)]), np.array(at, np.int64))
    return [row[0] for row in matrix.tolist()] if one else matrix.tolist()


def values(*pairs):
    return [Event(int(day * DAY_US), measures={"value": value}) for day, value in pairs]


def test_order_statistics_count_from_the_newest_and_skip_what_is_missing():
    events = values((1, 10.0), (2, 20.0), (3, math.nan), (4, 40.0))
    names = ["first__value__7d", "last__value__7d", "last2__value__7d", "last3__value__7d"]
    rows = ask(names, events, [3 * DAY_US, 5 * DAY_US, 9 * DAY_US])
    assert rows[1] == [10, 40, 20, 10]
    assert rows[0][:3] == [10, 20, 10]
    assert math.isnan(rows[0][3])
    assert rows[2][:3] == [20, 40, 20]  # the first event is out of the window, the second on its left edge
    assert math.isnan(rows[2][3])


def test_the_nth_latest_goes_back_to_the_ninth():
    events = values(*((day, float(day)) for day in range(1, 13)), (12, math.nan))
    names = [f"last{n}__value__30d" for n in range(2, 10)]
    assert ask([*names, "first__value__30d"], events, [13 * DAY_US]) == [[11, 10, 9, 8, 7, 6, 5, 4, 1]]
    row = ask([*names, "first__value__30d"], events, [6 * DAY_US])[0]
    assert [row[:4], row[-1]] == [[4, 3, 2, 1], 1]
    assert np.isnan(row[4:8]).all()


def test_among_values_at_one_moment_the_order_of_the_log_decides():
    events = values((1, 1.0), (1, 2.0), (1, 3.0))
    assert ask(["first__value__7d", "last2__value__7d"], events, [2 * DAY_US]) == [[1, 2]]


def test_std_is_that_of_the_whole_and_needs_two_values():
    assert math.isnan(ask("std__value__7d", values((1, 5.0)), [2 * DAY_US])[0])
    assert ask("std__value__7d", values((1, 5.0), (1, 9.0)), [2 * DAY_US]) == [2]


def test_std_does_not_drown_in_large_values():
    assert ask("std__value__7d", values((1, 1e9), (2, 1e9 + 2)), [3 * DAY_US]) == [1]


def test_slope_is_per_day_and_needs_two_moments():
    assert math.isnan(ask("slope__value__7d", values((1, 5.0), (1, 9.0)), [2 * DAY_US])[0])
    assert ask("slope__value__7d", values((1, 5.0), (1.5, 6.0), (2, 7.0)), [3 * DAY_US]) == [2]
    apart = [Event(0, measures={"value": 0.0}), Event(1, measures={"value": 1.0})]
    assert ask("slope__value__7d", apart, [2])[0] == pytest.approx(DAY_US)


def test_decay_halves_with_every_half_life_up_to_eight():
    at = [10 * DAY_US]
    assert ask("decay__all__1d", [Event(8 * DAY_US), Event(9 * DAY_US)], at) == [0.75]
    assert ask("decay__value__1d", values((7, -8.0), (9, 8.0)), at) == [3]
    assert ask("decay__all__1d", [Event(2 * DAY_US)], at) == [2**-8]
    assert ask("decay__all__1d", [Event(2 * DAY_US - 1)], at) == [0]
    assert ask(["decay__all__1d", "decay__value__1d"], [], at) == [[0, 0]]


def test_half_lives_do_not_mix():
    names = ["decay__all__1d", "decay__touchpoint=call__2d", "decay__value__1d", "decay__value__4d"]
    assert ask(names, values((6, 1.0)), [10 * DAY_US]) == [[2**-4, 2**-2, 2**-4, 0.5]]


def test_entropy_is_in_bits_with_all_other_values_as_one():
    at = [9]
    assert ask("entropy__touchpoint__1d", [Event(0, "call"), Event(1, "buy")], at) == [1]
    assert ask("entropy__touchpoint__1d", [Event(0, "x"), Event(1, "y"), Event(2, None)], at) == [0]
    assert math.isnan(ask("entropy__channel__1d", [Event(0)], at)[0])


def test_values_of_a_category_are_counted_where_the_selector_holds():
    events = [Event(0, "call", "phone"), Event(1, "call", "web"), Event(2, "buy", "web"), Event(3, "buy", "fax")]
    events += [Event(4, "call", None), Event(5, "x", "phone")]
    names = ["distinct__channel@touchpoint=call__1d", "entropy__channel@touchpoint=call__1d"]
    names += [
        "distinct__channel@!touchpoint=call__1d",
        "distinct__touchpoint@channel=other__1d",
        "distinct__channel__1d",
    ]
    assert ask(names, events, [9]) == [[2, 1, 3, 1, 3]]
    nothing = ask(names, events[3:4], [9])[0]
    assert nothing[0] == 0
    assert math.isnan(nothing[1])


def test_more_values_are_told_apart_than_have_columns_and_all_others_are_one():
    events = [Event(0, "call"), Event(1, "rare"), Event(2, "rarer"), Event(3, "new"), Event(4, "newer"), Event(5, None)]
    names = ["distinct__touchpoint__1d", "entropy__touchpoint__1d", "count__touchpoint=other__1d"]
    names += ["distinct__touchpoint@!touchpoint=call__1d", "distinct__channel__1d"]
    plain = ask(names, events, [9])[0]
    assert [plain[0], *plain[2:]] == [2, 4, 1, 0]
    wide = ask(names, events, [9], wide={"touchpoint": ("buy", "call", "rare", "rarer", "visit")})[0]
    assert [wide[0], *wide[2:]] == [4, 4, 3, 0]
    assert wide[1] == pytest.approx(3 * 0.2 * math.log2(5) + 0.4 * math.log2(2.5))


def test_stages_are_told_apart_among_selected_events():
    events = [Event(0, "call", "web"), Event(1, "buy", "web"), Event(2, "visit", "phone"), Event(3, "x", "web")]
    stages = {"call": "service", "buy": "sales", "visit": "use"}
    assert ask(["distinct__stage@channel=web__1d", "distinct__stage__1d"], events, [9], stages=stages) == [[2, 3]]


def test_what_is_known_only_later_cannot_select_values_of_a_category():
    settings = AnnotationSettings(contacts=("call",))
    with pytest.raises(ConfigError, match="what first_contact_resolved is of an event is known only later"):
        ask("distinct__channel@first_contact_resolved<1__9d", [Event(0)], [1], annotations=settings)


def test_gaps_are_between_selected_events_inside_the_window():
    events = [Event(day * DAY_US, "call") for day in (0, 1, 4)] + [Event(5 * DAY_US, "buy")]
    names = ["longest_gap__touchpoint=call__5d", "gap_mean__touchpoint=call__5d", "gap_std__touchpoint=call__5d"]
    assert ask(names, events, [5 * DAY_US]) == [[3, 2, 1]]
    later = ask(names, events, [5 * DAY_US + 1])[0]  # the event of day 0 is out, and its gap with it
    assert later[:2] == [3, 3]
    assert math.isnan(later[2])
    assert np.isnan(ask(names, events, [9 * DAY_US])[0]).all()


def test_a_clock_is_not_bursty_and_two_gaps_are_the_least():
    clock = [Event(day * DAY_US) for day in range(4)]
    assert ask("burstiness__all__9d", clock, [5 * DAY_US]) == [-1]
    assert math.isnan(ask("burstiness__all__9d", clock[:2], [5 * DAY_US])[0])
    assert math.isnan(ask("burstiness__all__9d", [Event(0), Event(0), Event(0)], [5 * DAY_US])[0])
    uneven = [Event(0), Event(1 * DAY_US), Event(4 * DAY_US)]
    assert ask("burstiness__all__9d", uneven, [5 * DAY_US])[0] == pytest.approx((1 - 2) / (1 + 2))


def test_ever_counts_everything_that_is_known():
    events = [Event(0, "call"), Event(1, "buy", known=5 * DAY_US), Event(900 * DAY_US, "call")]
    names = ["ever__all", "ever__touchpoint=call", "days_since_first__touchpoint=buy"]
    rows = ask(names, events, [2, 5 * DAY_US + 1, 901 * DAY_US])
    assert [row[:2] for row in rows] == [[1, 1], [2, 1], [3, 2]]
    assert math.isnan(rows[0][2])
    assert rows[2][2] == pytest.approx(901)


def test_a_value_counts_from_when_it_is_due(monkeypatch):
    """The event is known at once, its value on day 3; a value due at the cutoff is not yet known."""
    due, never = np.array([3 * DAY_US, 0]), np.full(2, ALWAYS)
    found = Annotated({}, {"response": np.array([1.0, 0.0])}, {"response": due}, {"response": never})
    monkeypatch.setattr("cxml.features.annotate.annotate", lambda *_: found)
    names = [f"{s}__response__9d" for s in ("count", "sum", "mean", "max", "last", "first", "last2", "std", "decay")]
    rows = ask(
        [*names, "count__all__9d"],
        [Event(0), Event(1)],
        [3 * DAY_US, 3 * DAY_US + 1],
        annotations=AnnotationSettings(),
    )
    assert rows[0][:6] == [1, 0, 0, 0, 0, 0]
    assert np.isnan(rows[0][6:8]).all()
    assert rows[0][8:] == [0, 2]
    assert rows[1][:8] == [2, 1, 0.5, 1, 0, 1, 1, 0.5]
    assert 0.5 < rows[1][8] < 1


def test_a_value_turns_into_the_other_one_when_it_is_revised(monkeypatch):
    """From the cutoff after the moment on, in both walks, and for the measures that wait alone."""
    measures = {"response": np.array([0.0, 0.0]), "reaction": np.array([np.nan, 1.0]), "gap": np.array([5.0, 6.0])}
    due = {"response": np.array([0, 0]), "reaction": np.array([0, 0])}
    revised = {"response": np.array([2 * DAY_US, ALWAYS]), "reaction": np.array([0, 2 * DAY_US])}
    monkeypatch.setattr("cxml.features.annotate.annotate", lambda *_: Annotated({}, measures, due, revised))
    of_response = [
        f"{s}__response__9d" for s in ("count", "sum", "mean", "min", "max", "last", "first", "std", "decay")
    ]
    names = [*of_response, "sum__gap__9d", "std__gap__9d", "sum__reaction__9d", "first__reaction__9d"]
    cutoffs = [2 * DAY_US, 2 * DAY_US + 1]
    rows = ask(names, [Event(0), Event(1)], cutoffs, annotations=AnnotationSettings())
    assert rows[0] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0.5, 1, 1]
    assert rows[1][:8] == [2, 1, 0.5, 0, 1, 0, 1, 0.5]
    assert 0.5 < rows[1][8] < 1
    assert rows[1][9:] == [11, 0.5, 0, 0]


def test_what_is_known_only_later_cannot_select():
    settings = AnnotationSettings(contacts=("call",))
    with pytest.raises(ConfigError, match="what first_contact_resolved is of an event is known only later"):
        ask("count__first_contact_resolved<1__9d", [Event(0)], [1], annotations=settings)


def test_without_settings_annotations_are_no_more_than_columns_the_log_lacks():
    assert math.isnan(ask("mean__gap__9d", [Event(0), Event(1)], [2])[0])
    assert ask("mean__gap__9d", [Event(0), Event(DAY_US)], [DAY_US + 1], annotations=AnnotationSettings()) == [1]


def test_annotated_plans_refuse_codes_outside_their_vocabulary():
    block = block_of({1: [Event(0)]})
    block.categories["touchpoint"] = Coded(np.array([7], np.int32), ("call",))
    plan = FeaturePlan((Aggregate.parse("mean__gap_same__9d"),), VOCABULARIES, annotations=AnnotationSettings())
    with pytest.raises(DataError, match=r"column 'touchpoint': .* outside its vocabulary"):
        fill_matrix(plan, block, np.array([0, 1]), np.array([1]))


def test_a_hundred_thousand_events_on_one_day_that_become_known_in_any_order_take_no_time():
    n, rng = 100_000, np.random.default_rng(0)
    when = np.sort(rng.integers(0, DAY_US, n))
    block = EventBlock(
        customers=np.array([1]),
        starts=np.array([0, n]),
        time=when,
        known=when + rng.permutation(n),
        categories={"touchpoint": Coded(rng.integers(0, 3, n).astype(np.int32), VOCABULARIES["touchpoint"])},
    )
    names = ("p_alive", "p_alive__touchpoint=buy", "ever__all", "entropy__touchpoint__30d", "gap_mean__all__30d")
    plan = FeaturePlan(tuple(map(Aggregate.parse, names)), VOCABULARIES, alive=ALIVE)
    at = np.arange(1, 13) * 2 * DAY_US
    fill_matrix(plan, block, np.array([0, 12]), at)
    start = time.perf_counter()
    rows = fill_matrix(plan, block, np.array([0, 12]), at)
    assert time.perf_counter() - start < 2
    assert rows[:, 2].tolist() == [n] * 12
    assert rows[:, 0].tolist() == [1] * 12
