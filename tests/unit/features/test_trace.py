from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_features import DAY_US, Event, block_of, coded, same_bits

from cxml.errors import ConfigError
from cxml.features import custom
from cxml.features.annotations import AnnotationSettings
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import STATISTICS, Aggregate
from cxml.features.trace import trace
from cxml.journeys.block import CustomerTable

VOCABULARIES = {"touchpoint": ("call", "play"), "channel": ("web",), "level": ("gold",), "region": ("n", "s")}
NTH = tuple(f"last{n}" for n in range(2, 10))
STAGES = {"call": "support", "play": "usage"}
NAMES = (
    "tenure_days", "p_alive",
    *(f"{s}__{what}" for what in ("all", "touchpoint=call", "!channel=web", "stage=support")
      for s in ("days_since", "days_since_first", "ever", "p_alive") if (s, what) != ("p_alive", "all")),
    *(f"{s}__{what}__2d" for what in ("all", "touchpoint=other", "stage=support", "value>3&!channel=web")
      for s in ("count", "active_days", "longest_gap", "gap_mean", "gap_std", "burstiness", "change", "acceleration",
                "rate", "decay", "share")),
    *(f"{s}__{what}__1d/4d" for what in ("all", "touchpoint=call", "value") for s in ("ratio", "lag")),
    "lag__value__1d/2d",
    *(f"{s}__{what}__4d" for what in ("value", "value@touchpoint=call", "value@channel=other")
      for s in ("count", "sum", "mean", "min", "max", "last", "first", *NTH, "std", "slope", "decay", "change",
                "acceleration", "rate")),
    "share__value@touchpoint=call__4d",
    *(f"{s}__{column}__4d" for column in ("touchpoint", "channel", "stage", "touchpoint@channel=web")
      for s in ("distinct", "entropy")),
)  # fmt: skip
PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, NAMES)), VOCABULARIES, STAGES, ("level",), ("region",), alive=(0.2, 4, 0.8, 2.4)
)
few_examples = settings(deadline=None, max_examples=60)


@st.composite
def journeys(draw):
    """Draw events of one customer in order, each with another value, at times that float32 tells apart."""
    moments = st.builds(lambda d, us: d * DAY_US + us, st.integers(0, 6), st.sampled_from([0, 0, 3_600_000_000]))
    events = draw(
        st.lists(
            st.builds(
                Event,
                time=moments,
                touchpoint=st.sampled_from(["call", "play", "chat", None]),
                channel=st.sampled_from(["web", "phone", None]),
                level=st.sampled_from(["gold", "silver", None]),
            ),
            max_size=15,
        )
    )
    values = draw(st.permutations([1.5, 2.25, 3.125, 4.0, 5.75, 6.5, 7.0, 8.0, 9.5, -1.0, -2.5, -3.0, -4.5, 10, 11]))
    late = draw(st.booleans())
    events.sort(key=lambda e: e.time)
    for event, value in zip(events, values, strict=False):
        if draw(st.integers(0, 3)):
            event.measures["value"] = float(value)
        if late:
            event.known = event.time + draw(st.sampled_from([0, 0, 1, DAY_US, 4 * DAY_US]))
    return events


cutoffs = st.sampled_from([0, DAY_US, 3 * DAY_US, 5 * DAY_US + 1, 9 * DAY_US])


def value_of(plan, events, cutoff, column):
    matrix = fill_matrix(plan, block_of({1: events}), np.array([0, 1]), np.array([cutoff]))
    return matrix[0, plan.columns.index(column)]


def test_these_tests_hold_every_statistic_there_is():
    assert {a.statistic for a in PLAN.aggregates} == set(STATISTICS)


@few_examples
@given(journeys(), cutoffs, st.data())
def test_without_all_other_events_the_value_is_the_same(events, cutoff, data):
    for column in data.draw(st.lists(st.sampled_from([*NAMES, "last__level"]), min_size=10, max_size=10)):
        traced = trace(PLAN, block_of({1: events}), cutoff, column)
        kept = [events[i] for i in traced.events]
        assert [event.time for event in kept] == list(traced.times)
        assert all(e.time < cutoff and (e.known is None or e.known < cutoff) for e in kept)
        if not column.startswith(NTH):
            assert same_bits(value_of(PLAN, kept, cutoff, column), value_of(PLAN, events, cutoff, column)), column


@few_examples
@given(journeys(), cutoffs, st.data())
def test_without_its_events_a_value_changes_or_is_nothing(events, cutoff, data):
    for column in data.draw(st.lists(st.sampled_from([*NAMES, "last__level"]), min_size=10, max_size=10)):
        if column.startswith("change"):  # by chance a customer's average may stay what it was
            continue
        traced = trace(PLAN, block_of({1: events}), cutoff, column)
        others = [event for i, event in enumerate(events) if i not in traced.events]
        before, after = (value_of(PLAN, some, cutoff, column) for some in (events, others))
        if column == "last__level":  # the one before may say the same
            assert np.isnan(before) == (not traced.events)
        else:
            assert not same_bits(before, after) or np.isnan(after) or after == 0, column


@few_examples
@given(journeys(), cutoffs)
def test_what_gives_a_value_has_it(events, cutoff):
    block = block_of({1: events})
    for statistic in ("min", "max", "last", "first", *NTH):
        traced = trace(PLAN, block, cutoff, f"{statistic}__value__4d")
        assert [np.float32(events[i].measures["value"]) for i in traced.events] == [traced.value][: len(traced.events)]
        assert len(traced.events) == (not np.isnan(traced.value))
    for column in ("tenure_days", "days_since__all", "days_since_first__touchpoint=call"):
        traced = trace(PLAN, block, cutoff, column)
        assert {np.float32((cutoff - time) / DAY_US) for time in traced.times} == (
            set() if np.isnan(traced.value) else {np.float32(traced.value)}
        )


def days(*touchpoints, **measures):
    """Make one event a day."""
    events = [Event(day * DAY_US, touchpoint) for day, touchpoint in enumerate(touchpoints)]
    for name, values in measures.items():
        for event, value in zip(events, values, strict=True):
            event.measures[name] = value
    return events


NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "behind"),
    [
        ("count__all__2d", [4, 5]),
        ("count__touchpoint=other__2d", [5]),
        ("count__value__4d", [2, 4]),
        ("sum__value@touchpoint=call__4d", [2, 4]),
        ("min__value__4d", [2, 4]),
        ("last2__value__4d", [2]),
        ("last3__value__4d", []),
        ("lag__all__1d/4d", [1]),
        ("lag__value__1d/4d", [1]),
        ("lag__value__1d/2d", []),
        ("change__value__4d", [0, 1, 2, 4]),
        ("rate__value@channel=other__4d", [2, 3, 4, 5]),
        ("distinct__touchpoint__4d", [2, 3, 4, 5]),
        ("distinct__touchpoint@channel=web__4d", []),
        ("ratio__touchpoint=call__1d/4d", [2, 4]),
        ("acceleration__touchpoint=other__2d", [1, 3, 5]),
        ("decay__touchpoint=other__2d", [1, 3, 5]),
        ("share__touchpoint=other__2d", [4, 5]),
        ("share__value@touchpoint=call__4d", [2, 4]),
        ("rate__touchpoint=other__2d", [4, 5]),
        ("change__touchpoint=other__2d", [0, 1, 3, 5]),
        ("days_since__touchpoint=call", [4]),
        ("days_since_first__touchpoint=call", [0]),
        ("tenure_days", [0]),
        ("ever__stage=support", [0, 2, 4]),
        ("p_alive", [0, 1, 2, 3, 4, 5]),
        ("entropy__stage__4d", [2, 4]),
        ("longest_gap__touchpoint=other__2d", [5]),
    ],
)
def test_the_events_behind_a_value(column, behind):
    events = days("call", "x", "call", "x", "call", "x", "call", value=[1.0, 1.0, 1.0, NAN, 1.0, NAN, 1.0])
    traced = trace(PLAN, block_of({1: events}), 6 * DAY_US, column)
    assert (list(traced.events), list(traced.times)) == (behind, [day * DAY_US for day in behind])
    assert traced.sentence == PLAN.describe()[column]
    assert traced.column == column
    assert same_bits(traced.value, value_of(PLAN, events, 6 * DAY_US, column))


def test_ties_that_give_one_value_are_all_behind_it():
    events = [Event(0, "call"), Event(0, "play"), Event(5, "call"), Event(5, "play")]
    block = block_of({1: events})
    assert trace(PLAN, block, 9, "days_since__all").events == (2, 3)
    assert trace(PLAN, block, 9, "tenure_days").events == (0, 1)


def test_a_last_category_is_a_text_and_the_event_that_told_it():
    events = days("call", "call", "call")
    events[0].level, events[1].level = "gold", "silver"
    block = block_of({1: events})
    traced = trace(PLAN, block, 9 * DAY_US, "last__level")
    assert (traced.value, traced.events, traced.row) == ("other", (1,), None)
    assert trace(PLAN, block, DAY_US, "last__level").value == "gold"
    nothing = trace(PLAN, block, 0, "last__level")
    assert (nothing.value, nothing.events) == (None, ())


def test_an_attribute_of_the_customer_leads_to_its_row():
    table = CustomerTable(
        np.array([0, 1, 1, 1, 2]), np.array([0, 0, 5, 9, 0]), {"region": coded(["n", "s", "n", None, "n"])}
    )
    block = block_of({1: days("call")})
    found = [trace(PLAN, block, cutoff, "last__region", table) for cutoff in (0, 1, 5, 6, 10)]
    assert [(one.value, one.row) for one in found] == [(None, None), ("s", 1), ("s", 1), ("n", 2), (None, 3)]
    assert not any(one.events for one in found)
    assert trace(PLAN, block, 6, "last__region").row is None


def test_a_value_that_is_an_annotation_leads_to_the_event_that_carries_it():
    plan = FeaturePlan(
        tuple(map(Aggregate.parse, (
            "max__gap__30d", "count__previous=call__30d", "sum__first_contact_resolved__30d", "count__gap<3__30d",
        ))),
        {"touchpoint": ("call", "play"), "previous": ("call", "play")},
        attributes=("previous",),
        annotations=AnnotationSettings(contacts=("call",), repeat_within="2d"),
    )  # fmt: skip
    block = block_of({1: [Event(0, "call"), Event(DAY_US, "play"), Event(4 * DAY_US, "call"), Event(5 * DAY_US, "x")]})
    cutoff = 5 * DAY_US + 1
    assert trace(plan, block, cutoff, "max__gap__30d").events == (2,)
    assert trace(plan, block, cutoff, "count__previous=call__30d").events == (1, 3)
    assert trace(plan, block, cutoff, "count__gap<3__30d").events == (1, 3)
    assert trace(plan, block, cutoff, "last__previous").events == (3,)
    resolved = [trace(plan, block, at, "sum__first_contact_resolved__30d") for at in (cutoff, 6 * DAY_US + 1)]
    assert [(one.value, one.events) for one in resolved] == [(1, (0,)), (2, (0, 2))]


def test_a_value_that_was_revised_is_traced_as_it_is_at_the_cutoff():
    plan = FeaturePlan(
        tuple(map(Aggregate.parse, ("mean__first_contact_resolved__30d", "min__first_contact_resolved__30d"))),
        {},
        annotations=AnnotationSettings(contacts=("call",), repeat_within="2d"),
    )
    events = [Event(0, "call"), Event(DAY_US, "call", known=5 * DAY_US)]
    for cutoff, value, behind in [(5 * DAY_US, 1, (0,)), (5 * DAY_US + 1, 0, (0,))]:
        traced = trace(plan, block_of({1: events}), cutoff, "min__first_contact_resolved__30d")
        assert (traced.value, traced.events) == (value, behind)
    traced = trace(plan, block_of({1: events}), 5 * DAY_US + 1, "mean__first_contact_resolved__30d")
    assert (traced.value, traced.events) == (0.5, (0, 1))


def test_a_user_feature_may_come_from_all_that_was_known(monkeypatch):
    monkeypatch.setattr(custom, "_REGISTERED", {})
    custom.register_feature("mine", lambda events, _: len(events), "How many.")
    plan = FeaturePlan((), {}, custom=("mine",))
    events = [Event(0), Event(1, known=9), Event(2), Event(3)]
    traced = trace(plan, block_of({1: events}), 3, "mine")
    assert (traced.sentence, traced.value, traced.events) == ("How many.", 2, (0, 2))


def test_a_column_the_plan_lacks_and_a_block_of_several_are_refused():
    block = block_of({1: [], 2: []})
    with pytest.raises(ConfigError, match="no feature 'tenure_day'; did you mean 'tenure_days'"):
        trace(PLAN, block, 0, "tenure_day")
    with pytest.raises(ConfigError, match="the block holds 2"):
        trace(PLAN, block, 0, "tenure_days")


def test_a_trace_is_a_value():
    traced = trace(PLAN, block_of({1: days("call")}), DAY_US, "ever__all")
    assert traced == replace(traced)
    with pytest.raises(FrozenInstanceError):
        traced.value = 7
