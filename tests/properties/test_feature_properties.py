"""Laws of the feature kernel, on random journeys: it equals the naive reference bit for bit."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_features import DAY_US, Event, block_of, reference_features, same_bits

from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate, default_spec

WINDOWS = ("1d", "7d", "30d")
STAGES = {"call": "support", "help": "support", "play": "usage", "elsewhere": "usage"}
VOCABULARIES = {"touchpoint": ("call", "help", "play"), "channel": ("phone", "web"), "stage": ("support", "usage")}
EXTRA = (
    Aggregate("sum", "value@channel=web", "7d"),
    Aggregate("max", "duration@touchpoint=call", "7d"),
    Aggregate("last", "score@touchpoint=other", "30d"),
    Aggregate("count", "value@stage=usage", "1d"),
    Aggregate("count", "level=gold", "30d"),
    Aggregate("active_days", "channel=phone", "30d"),
    Aggregate("active_days", "stage=support", "7d"),
    Aggregate("distinct", "stage", "30d"),
    Aggregate("distinct", "level", "7d"),
    Aggregate("days_since", "level=other"),
)
PLAN = FeaturePlan(
    default_spec(VOCABULARIES, ("value", "duration", "score"), WINDOWS, with_other=("touchpoint",)) + EXTRA,
    {**VOCABULARIES, "level": ("gold", "silver")},
    stages=STAGES,
    attributes=("level",),
)
few_examples = settings(deadline=None, max_examples=50)

# Few distinct moments, so that ties and events exactly on both edges of every window are common.
moments = st.one_of(
    st.sampled_from([0, 1, 2, 7, 8, 9, 10, 30, 37, 38, 39]).map(lambda d: d * DAY_US),
    st.builds(lambda d, us: d * DAY_US + us, st.integers(-2, 40), st.sampled_from([-1, 1, 3_600_000_000])),
)
numbers = st.one_of(
    st.just(float("nan")), st.sampled_from([0.0, -0.0, 0.1, 1e16, -1e16, 3.0]), st.floats(-1e6, 1e6, width=64)
)
measures = st.fixed_dictionaries({}, optional=dict.fromkeys(("value", "duration", "score"), numbers))


@st.composite
def journeys(draw, late=False):
    events = draw(
        st.lists(
            st.builds(
                Event,
                time=moments,
                touchpoint=st.sampled_from(["call", "help", "play", "elsewhere", "never seen", "other", None]),
                channel=st.sampled_from(["phone", "web", "fax", None]),
                level=st.sampled_from(["gold", "silver", "bronze", None]),
                measures=measures,
            ),
            max_size=25,
        )
    )
    events.sort(key=lambda e: e.time)
    if late:
        for event in events:
            event.known = event.time + draw(st.sampled_from([0, 0, 1, DAY_US, 20 * DAY_US]))
    return events


cutoffs = st.lists(moments, min_size=1, max_size=6).map(sorted)
people = st.lists(
    st.tuples(st.one_of(journeys(), journeys(late=True)), st.lists(moments, max_size=4).map(sorted)),
    min_size=1,
    max_size=5,
)


def fill(people, threads=1, plan=PLAN, late=None):
    """Features of ``[(events, cutoffs), ...]``, one row for each cutoff."""
    block = block_of({number: events for number, (events, _) in enumerate(people)}, late=late)
    row_starts = np.cumsum([0, *(len(at) for _, at in people)])
    at = np.array([cutoff for _, ats in people for cutoff in ats], np.int64)
    return fill_matrix(plan, block, row_starts, at, threads=threads)


def reference(events, at):
    return reference_features(PLAN.columns, events, at, PLAN.vocabularies, STAGES)


def assert_same(a, b):
    different = ~same_bits(a, b)
    assert a.shape == b.shape
    assert not different.any(), [
        (PLAN.columns[column], row, a[row, column], b[row, column]) for row, column in np.argwhere(different)[:5]
    ]


@few_examples
@given(people)
@example([([Event(0), Event(7 * DAY_US)], [7 * DAY_US, 7 * DAY_US, 7 * DAY_US + 1])])
@example([([Event(0, known=DAY_US)], [DAY_US, DAY_US + 1])])
@example([([], [0]), ([Event(5)], []), ([], [])])
def test_the_kernel_equals_the_naive_reference_bit_for_bit(people):
    expected = [reference(events, at) for events, at in people]
    assert_same(fill(people), np.concatenate(expected))


@few_examples
@given(st.booleans().flatmap(lambda late: st.lists(journeys(late=late), min_size=2, max_size=2)), cutoffs)
def test_the_future_cannot_change_the_past(two, at):
    for cutoff in at:
        past = [e for e in two[0] if e.time < cutoff and (e.known or e.time) < cutoff]
        future = [e for e in two[1] if e.time >= cutoff or (e.known or e.time) >= cutoff]
        mixed = sorted(past + future, key=lambda e: e.time)
        assert_same(fill([(past, [cutoff])]), fill([(mixed, [cutoff])]))


@few_examples
@given(st.one_of(journeys(), journeys(late=True)), cutoffs)
def test_many_cutoffs_at_once_equal_one_at_a_time(events, at):
    one_by_one = np.concatenate([fill([(events, [cutoff])]) for cutoff in at])
    assert_same(fill([(events, at)]), one_by_one)


@few_examples
@given(journeys(), cutoffs)
def test_a_log_without_late_events_does_not_care_whether_it_says_so(events, at):
    assert_same(fill([(events, at)], late=False), fill([(events, at)], late=True))


@few_examples
@given(people, st.randoms(use_true_random=False))
def test_rows_may_be_written_in_any_order(people, random):
    block = block_of({number: events for number, (events, _) in enumerate(people)})
    row_starts = np.cumsum([0, *(len(at) for _, at in people)])
    at = np.array([cutoff for _, ats in people for cutoff in ats], np.int64)
    rows = np.array(random.sample(range(len(at)), len(at)), np.int64)
    straight = fill_matrix(PLAN, block, row_starts, at)
    assert_same(fill_matrix(PLAN, block, row_starts, at, rows=rows, out=np.empty_like(straight))[rows], straight)


@few_examples
@given(journeys(), cutoffs, st.sets(st.integers(0, len(PLAN.aggregates) - 1), min_size=1, max_size=12))
def test_a_column_does_not_depend_on_the_columns_beside_it(events, at, chosen):
    few = FeaturePlan(tuple(PLAN.aggregates[i] for i in sorted(chosen)), PLAN.vocabularies, PLAN.stages)
    everything = fill([(events, at)])
    assert same_bits(fill([(events, at)], plan=few), everything[:, sorted(chosen)]).all()
