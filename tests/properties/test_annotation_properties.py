"""Laws of the annotations, on random journeys: they equal the naive reference bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_annotations import (
    DAY_US,
    OUTCOMES,
    REFERENCES,
    Step,
    block_of_steps,
    reference_annotation,
    reference_behind,
    reference_overdue,
    us,
)

from cxml.features.annotate import annotate, fit_transitions, fit_usual_durations
from cxml.features.annotations import ANNOTATIONS, AnnotationSettings, LikenessTable, TransitionTable
from cxml.features.folds import N_FOLDS
from cxml.features.kernel import ALWAYS
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.promises import OVERDUE
from cxml.features.trace import trace
from cxml.journeys.block import slice_block

MINUTE_US = DAY_US // 1440
SETTINGS = AnnotationSettings(
    contacts=("call", "chat"),
    activity=("play", "chat"),
    interventions=("offer", "call"),
    surveys=("answer",),
    self_service=("web", "bot"),
    timezone="Europe/Berlin",
    session_gap="30m",
    repeat_within="2d",
    respond_within="3d",
    scale=(0, 10),
    transitions=("call>play", "play>call", "a>b>c", "never>seen"),
    surprise=TransitionTable(("call", "play"), ((-1.0, -2.0, -2.0), (-0.5, -3.0, -2.5), (-1.1, -1.2, -1.3))),
    usual_duration={"call": 60.0, "": 7.0},
    promises=("play", "c"),
    asked=("offer", "b>c"),
    likeness=LikenessTable(
        ("call", "play"), (((0.5, -0.2, 0.1), (0.3, 0.0, -0.1), (-0.7, 0.2, 0.4), (0.9, -0.9, 0.0)),) * N_FOLDS
    ),
)
few_examples = settings(deadline=None, max_examples=60)

# Few distinct moments, about the beginning of summer time, so that ties and events on edges are common.
SUMMER = 17_986 * DAY_US  # 2019-03-31
moments = st.one_of(
    st.integers(-3, 6).map(lambda d: SUMMER + d * DAY_US),
    st.builds(lambda d, m: SUMMER + d * DAY_US + m * MINUTE_US, st.integers(-3, 6), st.integers(-180, 90)),
    st.builds(lambda m, us: SUMMER + m * 30 * MINUTE_US + us, st.integers(-4, 8), st.integers(-1, 1)),
)
lateness = st.sampled_from([0, 0, 0, 1, 30 * MINUTE_US, DAY_US, 2 * DAY_US, 2 * DAY_US + 1, 9 * DAY_US])
numbers = st.sampled_from([float("nan"), -2.5, -0.0, 0.0, 3.0, 6.0, 6.5, 7.0, 8.0, 9.0, 10.0, 11.0])


@st.composite
def journeys(draw, late=None):
    late = draw(st.booleans()) if late is None else late
    steps = draw(
        st.lists(
            st.builds(
                Step,
                time=moments,
                touchpoint=st.sampled_from(["call", "chat", "play", "offer", "answer", "a>b", "c", "a", "b>c", None]),
                channel=st.sampled_from(["web", "bot", "phone", "shop", None]),
                case_id=st.sampled_from(["1", "2", "3", None]),
                resolved=st.sampled_from([float("nan"), 0.0, 1.0]),
                value=numbers,
                duration=numbers,
                score=numbers,
                promise=st.sampled_from([float("nan"), float("nan"), -1.0, 0.0, 0.5, 1.0, 3.0]),
                late=lateness if late else st.just(0),
            ),
            max_size=20,
        )
    )
    return sorted(steps, key=lambda step: step.time)


people = st.lists(journeys(), min_size=1, max_size=4)


def texts(coded):
    return [None if code < 0 else coded.vocabulary[code] for code in coded.codes.tolist()]


def said(annotated, name, cutoff=ALWAYS):
    """Give one annotation as a list, as of a cutoff."""
    if ANNOTATIONS[name].kind == "category":
        return texts(annotated.categories[name])
    return annotated.known_before(name, cutoff).tolist()


def block_of_all(people, **options):
    return block_of_steps(dict(enumerate(people)), **options)


def everything(people, names=ANNOTATIONS, **options):
    return annotate(block_of_all(people, **options), list(names), SETTINGS)


@pytest.mark.parametrize("name", ANNOTATIONS)
@few_examples
@given(people)
@example([[Step(0, late=9), Step(1, late=7), Step(2), Step(9)]])
@example([[Step(0), Step(1, late=DAY_US), Step(2)]])
@example([[Step(0, late=9 * DAY_US), Step(DAY_US, late=2 * DAY_US)]])
@example([[Step(DAY_US), Step(3 * DAY_US), Step(3 * DAY_US)], [], [Step(5 * DAY_US, late=1)]])
def test_an_annotation_equals_the_naive_reference(name, people):
    annotated = everything(people, [name])
    expected = [value for steps in people for value in reference_annotation(name, steps, SETTINGS)]
    np.testing.assert_array_equal(said(annotated, name), expected)


@pytest.mark.parametrize("name", OUTCOMES)
@few_examples
@given(people)
@example([[Step(0), Step(2 * DAY_US, late=1)]])
@example([[Step(0), Step(DAY_US, late=9 * DAY_US), Step(2 * DAY_US, late=3 * DAY_US)]])
@example([[Step(0, "offer", late=9 * DAY_US), Step(DAY_US, "play", late=2 * DAY_US)]])
@example([[Step(0, "answer", late=DAY_US), Step(0, late=4 * DAY_US, case_id="1")]])
def test_what_came_after_an_event_is_at_every_cutoff_what_the_events_known_by_then_say(name, people):
    annotated, steps = everything(people, [name]), [step for steps in people for step in steps]
    waits = (us(SETTINGS.repeat_within), us(SETTINGS.respond_within))
    turns = {step.known for step in steps} | {step.time + wait for step in steps for wait in waits}
    for cutoff in sorted(turns | {turn + 1 for turn in turns}):
        seen = np.array([step.known < cutoff for step in steps], bool)
        expected = [value for steps in people for value in reference_annotation(name, steps, SETTINGS, cutoff)]
        np.testing.assert_array_equal(np.array(said(annotated, name, cutoff))[seen], np.array(expected)[seen])


@few_examples
@given(people, moments)
def test_cutting_the_log_changes_nothing_that_was_known(people, cut):
    kept = [[step for step in steps if step.time < cut and step.known < cut] for steps in people]
    before, after = everything(people), everything(kept)
    chosen = np.array([step.time < cut and step.known < cut for steps in people for step in steps], bool)
    for name in ANNOTATIONS:
        old, new = np.array(said(before, name, cut), object)[chosen], said(after, name, cut)
        np.testing.assert_array_equal(old.tolist(), new)


@few_examples
@given(people)
def test_a_value_is_never_due_before_its_event_is_known(people):
    annotated = everything(people)
    known = [step.known for steps in people for step in steps]
    assert sorted(annotated.due) == sorted(annotated.revised) == sorted(OUTCOMES)
    assert all((due >= known).all() for due in annotated.due.values())
    assert all((annotated.revised[name] > annotated.due[name]).all() for name in OUTCOMES)


@few_examples
@given(st.lists(journeys(late=False), min_size=1, max_size=3))
def test_nothing_is_revised_where_everything_is_known_as_it_happens(people):
    assert all((revised == ALWAYS).all() for revised in everything(people).revised.values())


@few_examples
@given(st.lists(journeys(late=False), min_size=1, max_size=3), st.integers(-3, 16))
def test_the_morning_after_a_nightly_feed_says_what_a_log_without_delay_says(people, day):
    nightly = [[replace(step, late=-step.time % DAY_US) for step in steps] for steps in people]
    as_it_happens, at_night = everything(people), everything(nightly)
    morning = SUMMER + day * DAY_US + 1
    seen = np.array([step.time < morning for steps in people for step in steps], bool)
    for name in ANNOTATIONS:
        one, other = (np.array(said(of, name, morning), object)[seen].tolist() for of in (as_it_happens, at_night))
        np.testing.assert_array_equal(one, other)


@few_examples
@given(st.lists(journeys(late=False), min_size=1, max_size=3))
def test_a_log_without_late_events_does_not_care_whether_it_says_so(people):
    one, other = everything(people, late=False), everything(people, late=True)
    for name in ANNOTATIONS:
        np.testing.assert_array_equal(said(one, name), said(other, name))


@few_examples
@given(st.lists(journeys(), min_size=2, max_size=4))
def test_customers_apart_are_like_customers_together(people):
    block = block_of_all(people)
    whole = annotate(block, ANNOTATIONS, SETTINGS)
    parts = [annotate(slice_block(block, i, i + 1), ANNOTATIONS, SETTINGS) for i in range(len(people))]
    for name in ANNOTATIONS:
        np.testing.assert_array_equal(said(whole, name), [value for part in parts for value in said(part, name)])
    for name in OUTCOMES:
        assert whole.due[name].tolist() == [moment for part in parts for moment in part.due[name].tolist()]
        assert whole.revised[name].tolist() == [moment for part in parts for moment in part.revised[name].tolist()]


@few_examples
@given(people)
def test_annotations_apart_are_like_annotations_together(people):
    together = everything(people)
    for name in ANNOTATIONS:
        np.testing.assert_array_equal(said(everything(people, [name]), name), said(together, name))


@few_examples
@given(people, st.sets(st.sampled_from(["channel", "case_id", "resolved", "value", "duration", "score", "promise"])))
def test_a_column_that_is_not_there_is_like_one_without_values(people, lacking):
    numbers = ("resolved", "value", "duration", "score", "promise")
    blanks = {name: float("nan") if name in numbers else None for name in lacking}
    blank = [[Step(**{**vars(step), **blanks}) for step in steps] for steps in people]
    one, other = everything(people, without=lacking), everything(blank)
    for name in ANNOTATIONS:
        np.testing.assert_array_equal(said(one, name), said(other, name))


zones = st.sampled_from(
    ["America/St_Johns", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo"]
)


@few_examples
@given(
    st.lists(st.integers(-(20 * 365) * DAY_US, 60 * 365 * DAY_US), min_size=1, max_size=30).map(sorted),
    zones,
)
def test_local_time_is_that_of_the_zone(times, zone):
    chosen = AnnotationSettings(timezone=zone)
    steps = [Step(time) for time in times]
    names = ("daypart", "weekday", "weekend", "hour")
    annotated = annotate(block_of_steps({1: steps}), names, chosen)
    for name in names:
        assert texts(annotated.categories[name]) == reference_annotation(name, steps, chosen)


#: Clocks there were turned back from 00:01 to 23:01 of the day before, on 2006-10-29 at 02:31 UTC.
TURNED_BACK = 1_162_089_060_000_000


@few_examples
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-180, 180)), max_size=15), st.booleans())
def test_a_streak_survives_a_clock_turned_back_over_midnight(shifts, late):
    times = sorted(TURNED_BACK + d * DAY_US + s * MINUTE_US // 2 for d, s in shifts)
    steps = [Step(time, late=(k * 7919 % 5) * DAY_US if late else 0) for k, time in enumerate(times)]
    chosen = AnnotationSettings(timezone="America/St_Johns")
    found = annotate(block_of_steps({1: steps}), ["streak"], chosen).measures["streak"]
    assert found.tolist() == reference_annotation("streak", steps, chosen)


@few_examples
@given(people, moments)
def test_what_is_learned_knows_nothing_of_what_comes_after(people, until):
    kept = [[step for step in steps if step.time < until and step.known < until] for steps in people]
    assert fit_transitions([block_of_all(people)], until) == fit_transitions([block_of_all(kept)])
    assert fit_usual_durations([block_of_all(people)], until) == fit_usual_durations([block_of_all(kept)])


@few_examples
@given(people, st.integers(1, 6))
def test_what_follows_a_touchpoint_has_probabilities_that_sum_to_one(people, most):
    _, table = fit_transitions([block_of_all(people)], max_touchpoints=most)
    assert len(table.touchpoints) <= most
    np.testing.assert_allclose(np.exp2(table.log2_probability).sum(axis=1), 1.0)


@few_examples
@given(st.lists(journeys(), min_size=2, max_size=4))
def test_what_is_learned_does_not_depend_on_the_blocks(people):
    whole, parts = [block_of_all(people)], [block_of_all([steps]) for steps in people]
    assert fit_transitions(whole) == fit_transitions(parts)
    assert fit_usual_durations(whole) == fit_usual_durations(parts)


@few_examples
@given(people)
def test_where_nothing_keeps_promises_each_event_keeps_its_own(people):
    chosen = replace(SETTINGS, promises=())
    found = annotate(block_of_all(people), ["lateness", "late"], chosen)
    for name in ("lateness", "late"):
        expected = [value for steps in people for value in reference_annotation(name, steps, chosen)]
        np.testing.assert_array_equal(said(found, name), expected)


@few_examples
@given(people, st.lists(moments, min_size=1, max_size=4).map(sorted))
@example([[Step(0, promise=2.0), Step(3 * DAY_US, "play")]], [2 * DAY_US, 2 * DAY_US + 1, 3 * DAY_US, 3 * DAY_US + 1])
@example([[Step(0, promise=1.0, case_id="1"), Step(0, promise=2.0)], [Step(0, promise=1.0)]], [9 * DAY_US])
def test_what_is_overdue_equals_the_naive_reference(people, at):
    plan = FeaturePlan((), {}, custom=tuple(OVERDUE), annotations=SETTINGS)
    row_starts = np.arange(len(people) + 1) * len(at)
    found = fill_matrix(plan, block_of_all(people), row_starts, np.array(at * len(people), np.int64))
    expected = [reference_overdue(steps, cutoff, SETTINGS) for steps in people for cutoff in at]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@few_examples
@given(people, moments)
@example([[Step(0, promise=1.0, case_id="1"), Step(DAY_US, promise=1.0), Step(DAY_US, promise=1.0)]], 9 * DAY_US)
def test_a_trace_of_what_is_overdue_lists_the_events_that_promised_it(people, cutoff):
    plan = FeaturePlan((), {}, custom=tuple(OVERDUE), annotations=SETTINGS)
    for steps in people:
        for name in OVERDUE:
            traced = trace(plan, block_of_all([steps]), cutoff, name)
            assert list(traced.events) == reference_behind(name, steps, cutoff, SETTINGS), name
            assert len(traced.events) == traced.value or name != "overdue_promises"


def test_every_annotation_has_a_reference():
    assert REFERENCES.keys() == ANNOTATIONS.keys()
