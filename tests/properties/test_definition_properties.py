"""Laws of the churn definition: what the arrays say is what counting one by one says, and nothing later is seen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.config import ChurnConfig
from cxml.evaluate.rhythm import Rhythm, found_at, personal_days
from cxml.journeys.block import Coded, EventBlock
from cxml.snapshots import definition
from cxml.snapshots.definition import counted_errors, return_rates
from cxml.snapshots.silences import NEVER, Moments, _of_block, find_silences, inspect, inspection_days
from cxml.times import DAY_US

NAMES = ("cancelled", "login", "order", "sold", "start")
UNTIL = 20 * DAY_US + 1

#: Quarters of days, so that many events share a day, some a moment, and some fall on midnight.
events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20 * 4), st.sampled_from(NAMES)), min_size=1, max_size=60)
configs = st.builds(
    lambda kind, starts, ends: ChurnConfig(
        kind=kind,
        touchpoints=["cancelled"] if kind == "event" else [],
        starts=["start"] if starts else [],
        ends=["sold"] if ends else [],
        horizons=["30d"],
    ),
    st.sampled_from(["event", "inactivity"]),
    st.booleans(),
    st.booleans(),
)


def moments_of(rows, config, activity, until=UNTIL) -> Moments:
    """Read rows of (customer, quarter of a day, touchpoint) as the package does."""
    rows = sorted(rows, key=lambda r: (r[0], r[1], NAMES.index(r[2])))
    customer = np.array([r[0] for r in rows])
    time = np.array([r[1] for r in rows], dtype=np.int64) * (DAY_US // 4)
    codes = np.array([NAMES.index(r[2]) for r in rows], dtype=np.int32)
    starts = np.searchsorted(customer, np.arange(6)).astype(np.int64)
    block = EventBlock(np.arange(5), starts, time, None, {"touchpoint": Coded(codes, NAMES)})
    _, counts, time, closed = _of_block(block, config, list(activity), until)
    return Moments(np.concatenate([[0], np.cumsum(counts)]), time, closed, 0, until)


def told(rows, config, activity, until=UNTIL):
    """The same, one by one: for each customer the active moments, and where the journey ended after each."""
    journeys = []
    for customer in range(5):
        mine = sorted((r for r in rows if r[0] == customer), key=lambda r: (r[1], NAMES.index(r[2])))
        begun, journey = not config.starts, []
        for _, quarter, name in mine:
            at = quarter * (DAY_US // 4)
            if at >= until:
                break
            begun = begun or name in config.starts
            if not begun:
                continue
            if name in config.ends:
                if journey and journey[-1][1] == NEVER:
                    journey[-1][1] = at
            elif (not activity or name in activity) and name not in config.touchpoints:
                journey.append([at, NEVER])
        if journey:
            journeys.append(journey)
    return journeys


def whole_silences(journeys, until=UNTIL):
    """Customer, whole days, returned, whole days followed: of every silence that was followed for a day."""
    found = []
    for customer, journey in enumerate(journeys):
        for k, (at, closed) in enumerate(journey):
            followed = (min(closed, until) - at) // DAY_US
            back = (journey[k + 1][0] - at) // DAY_US if k + 1 < len(journey) else NEVER
            days = back if back < followed else followed
            if days >= 1:
                found.append((customer, days, back < followed, followed))
    return found


some_activity = st.sampled_from([(), ("order",), ("order", "login")])


@given(events, configs, some_activity)
@settings(max_examples=150)
def test_silences_are_those_found_one_by_one(rows, config, activity):
    found = find_silences(moments_of(rows, config, activity))
    columns = (found.customer, found.days, found.returned, found.followed)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == whole_silences(told(rows, config, activity))


@given(events, configs, some_activity, st.integers(1, 5), st.integers(1, 8))
@settings(max_examples=150)
def test_the_return_rate_is_the_product_over_days_counted_one_by_one(rows, config, activity, gap, within):
    silences = whole_silences(told(rows, config, activity))
    stay = 1.0
    for day in range(gap, gap + within):
        at_risk = [s for s in silences if (s[1] >= day if s[2] else s[1] > day)]
        back = [s for s in at_risk if s[2] and s[1] == day]
        stay *= 1 - len(back) / len(at_risk) if at_risk else 1
    lasted = [s for s in silences if (s[1] >= gap if s[2] else s[1] > gap)]
    followed = {s[0] for s in lasted if s[3] >= gap + within}
    fewest, definition.FEWEST = definition.FEWEST, 1
    try:
        found = return_rates(find_silences(moments_of(rows, config, activity)), [gap], within)
    finally:
        definition.FEWEST = fewest
    assert found.silences.tolist() == [len(lasted)]
    assert found.customers.tolist() == [len(followed)]
    if followed:
        assert np.isclose(found.rate[0], 1 - stay, atol=1e-12)
        assert 0 <= found.low[0] <= found.rate[0] <= found.high[0] <= 1
    else:
        assert np.isnan(found.rate[0])


def count(journeys, gap, within, day):
    """Of one day: counted, gone, at risk, labelled, returned."""
    total = np.zeros(5, int)
    for journey in journeys:
        before = [m for m in journey if m[0] < day]
        back = min((m[0] for m in journey if m[0] >= day), default=NEVER)
        if not before or day - before[-1][0] >= gap * DAY_US:
            continue
        ended = before[-1][1]
        if ended >= day + within * DAY_US:
            total[:2] += 1, back >= day + within * DAY_US
        end = day + (gap + within) * DAY_US
        if end <= UNTIL and ended >= end:
            total[2:] += 1, back >= day + gap * DAY_US, day + gap * DAY_US <= back < end
    return total


@given(events, configs, some_activity, st.integers(1, 5), st.integers(0, 5), st.integers(1, 8))
@settings(max_examples=150)
def test_who_is_hidden_and_who_is_labelled_is_counted_one_by_one(rows, config, activity, gap, more, within):
    journeys, gaps = told(rows, config, activity), [gap, gap + more]
    found = counted_errors(moments_of(rows, config, activity), gaps, within)
    days = inspection_days(gap * DAY_US, UNTIL - within * DAY_US, 24)
    for k, one in enumerate(gaps):
        seen = [day for day in days if day >= one * DAY_US]  # earlier, the log could not show who is silent for longer
        counted, gone, at_risk, labelled, returned = sum((count(journeys, one, within, d) for d in seen), np.zeros(5))
        for value, top, bottom in (
            (found.hidden, gone, counted),
            (found.label_rate, labelled, at_risk),
            (found.label_returned, returned, labelled),
        ):
            assert np.isclose(value[k], top / bottom) if bottom else np.isnan(value[k])


@given(events, configs, some_activity, st.integers(1, 20))
@settings(max_examples=150)
def test_moments_before_a_day_are_those_of_a_log_that_ends_there(rows, config, activity, day):
    end = day * DAY_US
    cut, short = moments_of(rows, config, activity).before(end), moments_of(rows, config, activity, until=end)
    for name in Moments.__slots__:
        assert np.array_equal(getattr(cut, name), getattr(short, name))


@given(events, some_activity, st.integers(1, 20), st.floats(0.1, 50), st.floats(0, 20))
@settings(max_examples=150)
def test_a_personal_interval_knows_only_what_came_before(rows, activity, day, typical, prior):
    rhythm = Rhythm(typical, prior)
    config = ChurnConfig(kind="inactivity")
    whole = moments_of(rows, config, activity)
    early = whole.before(day * DAY_US)
    told_whole, told_early = personal_days(whole, rhythm), personal_days(early, rhythm)
    assert np.allclose(told_whole[whole.time < day * DAY_US], told_early)


@given(events, configs, some_activity, st.integers(1, 20))
@settings(max_examples=150)
def test_an_inspection_sees_the_last_moment_before_it_and_the_next(rows, config, activity, day):
    at, expected = day * DAY_US, []
    for customer, journey in enumerate(told(rows, config, activity)):
        before = [m for m in journey if m[0] < at]
        back = min((m[0] - at for m in journey if m[0] >= at), default=NEVER)
        if before and before[-1][1] >= at:  # not ended yet
            expected.append((customer, at - before[-1][0], back))
    (one,) = inspect(moments_of(rows, config, activity), [at])
    assert list(zip(one.customer.tolist(), one.silent_us.tolist(), one.back_us.tolist(), strict=True)) == expected


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30).filter(
        lambda rows: len({gone for gone, _ in rows}) == 2
    ),
    st.integers(0, 7),
)
def test_a_rule_finds_at_its_own_false_alarms_what_it_calls(rows, threshold):
    gone, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    called = score >= threshold
    found = found_at(gone, score, false_alarms=called[~gone].mean())
    assert found >= called[gone].mean() - 1e-12  # more only where a lower threshold costs no further alarm
    lower = [t for t in range(8) if (score >= t)[~gone].mean() <= called[~gone].mean() + 1e-12]
    assert np.isclose(found, (score >= min(lower))[gone].mean())
