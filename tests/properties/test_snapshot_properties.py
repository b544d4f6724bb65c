"""Laws of snapshots: the future cannot change who is looked at, nor labels that end before it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.config import ChurnConfig
from cxml.journeys.block import Coded, EventBlock
from cxml.snapshots.timeline import churn_timeline, scan

NAMES = ("cancelled", "login", "order", "sold", "start")

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 8), st.sampled_from(NAMES)), max_size=40
)
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


def block(rows):
    rows = sorted(rows)
    customer = np.array([r[0] for r in rows], dtype=np.int64)
    time = np.array([r[1] for r in rows], dtype=np.int64)
    known = time + np.array([r[2] for r in rows], dtype=np.int64)
    codes = np.array([NAMES.index(r[3]) for r in rows], dtype=np.int32)
    starts = np.searchsorted(customer, np.arange(5)).astype(np.int64)
    return EventBlock(np.arange(4), starts, time, known, {"touchpoint": Coded(codes, NAMES)})


def look(rows, config, cutoffs, until, activity=()):
    t = churn_timeline(block(rows), config, list(activity))
    found = scan(t.starts, t.time, t.known, t.role, np.array(cutoffs), 20, until, t.returns, t.needs_start, t.reopens)
    return list(zip(*(column.tolist() for column in found), strict=True))


@given(events, configs, st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True).map(sorted),
       st.integers(1, 60), st.sampled_from([(), ("order",)]))  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_what_happens_or_becomes_known_at_or_after_the_end_of_observation_changes_nothing(
    rows, config, cutoffs, until, activity
):
    cutoffs = [t for t in cutoffs if t <= until]
    seen = [r for r in rows if r[1] < until and r[1] + r[2] < until]
    assert look(rows, config, cutoffs, until, activity) == look(seen, config, cutoffs, until, activity)


@given(events, configs, st.integers(1, 50), st.sampled_from([(), ("order",)]))
@settings(deadline=None, max_examples=150)
def test_who_is_at_risk_depends_on_the_past_alone(rows, config, t, activity):
    past = [r for r in rows if r[1] < t and r[1] + r[2] < t]
    with_future = [(c, at) for c, at, _, _ in look(rows, config, [t], 100, activity)]
    without = [(c, at) for c, at, _, _ in look(past, config, [t], 100, activity)]
    assert with_future == without


@given(events, configs, st.integers(1, 50), st.integers(0, 40))
@settings(deadline=None, max_examples=150)
def test_watching_longer_only_adds_knowledge(rows, config, t, more):
    early = {(c, at): (d, o) for c, at, d, o in look(rows, config, [t], t + 10)}
    late = {(c, at): (d, o) for c, at, d, o in look(rows, config, [t], t + 10 + more)}
    for key, (duration, observed) in early.items():
        later_duration, later_observed = late[key]
        if observed:
            assert later_observed
            assert later_duration <= duration  # a report that came late may tell of something earlier
        elif later_observed and later_duration < duration:
            customer = key[0]  # then it must have become known only after the first end
            assert any(r[0] == customer and r[1] + r[2] >= t + 10 for r in rows)
