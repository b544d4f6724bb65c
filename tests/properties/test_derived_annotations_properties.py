"""Laws of features of annotations: as the annotations themselves, taken like any other measure or category."""

from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_annotations import DAY_US, OUTCOMES, Step, block_of_steps, reference_annotation
from reference_features import Event, reference_features, same_bits
from test_annotation_properties import SETTINGS, SUMMER, journeys, moments, people

from cxml.features.annotate import annotate
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate

CATEGORIES = {"previous": ("call", "play"), "transition": ("call>play",), "daypart": ("morning", "night")}
NAMES = (
    *(f"{s}__{name}__{w}" for name in OUTCOMES for s in ("count", "sum", "mean", "last") for w in ("1d", "7d")),
    *(f"{s}__{name}__7d" for name in OUTCOMES for s in ("first", "last2", "std")),
    *(f"{s}__response@touchpoint=call__7d" for s in ("sum", "decay", "share")),
    "ratio__reaction__1d/7d", "mean__gap__7d", "max__gap_same__7d", "last__open_cases__7d", "std__gap__7d",
    "count__previous=call__7d", "count__daypart=other__7d", "entropy__daypart__7d", "distinct__previous__7d",
    "days_since__transition='call>play'", "ever__previous=other", "count__score__7d", "count__gap<1__7d",
    "count__!daypart=night__7d",
)  # fmt: skip
PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, NAMES)), {**CATEGORIES, "touchpoint": ("call", "play")}, annotations=SETTINGS
)
ROUNDED = {"std", "decay", "entropy"}
few_examples = settings(deadline=None, max_examples=30)
cutoffs = st.lists(moments, min_size=1, max_size=5).map(sorted)


def fill(journeys, at, plan=PLAN):
    row_starts = np.arange(len(journeys) + 1) * len(at)
    return fill_matrix(
        plan, block_of_steps(dict(enumerate(journeys))), row_starts, np.array(at * len(journeys), np.int64)
    )


def events_of(steps, cutoff):
    """The events of the feature reference, with what the annotation reference says of each as of a cutoff."""
    values = {
        name: reference_annotation(name, steps, SETTINGS, cutoff)
        for name in ("gap", "gap_same", "open_cases", *OUTCOMES)
    }
    texts = {name: reference_annotation(name, steps, SETTINGS) for name in CATEGORIES}
    events = []
    for i, step in enumerate(steps):
        measures = {name: of[i] for name, of in values.items()} | {"score": step.score}
        event = Event(step.time, step.touchpoint, step.channel, known=step.time + step.late, measures=measures)
        for name in CATEGORIES:
            setattr(event, name, texts[name][i])
        events.append(event)
    return events


def reference(steps, at):
    names = [name.replace("'call>play'", "call>play") for name in NAMES]
    rows = [reference_features(names, events_of(steps, cutoff), [cutoff], PLAN.vocabularies) for cutoff in at]
    return np.concatenate(rows)


#: Contacts, interventions and answers, and what follows on them, which often becomes known after the wait is over.
tardy = st.lists(
    st.builds(
        Step,
        time=st.integers(0, 4).map(lambda day: SUMMER + day * DAY_US),
        touchpoint=st.sampled_from(["call", "chat", "offer", "answer", "play"]),
        case_id=st.sampled_from([None, "1"]),
        late=st.sampled_from([0, 0, 2 * DAY_US, 3 * DAY_US, 5 * DAY_US]),
    ),
    min_size=2,
    max_size=12,
).map(lambda steps: sorted(steps, key=lambda step: step.time))
dawns = st.builds(lambda day, us: SUMMER + day * DAY_US + us, st.integers(1, 10), st.integers(0, 1))


@few_examples
@given(st.lists(tardy, min_size=1, max_size=3), st.lists(dawns, min_size=3, max_size=6).map(sorted))
@example([[Step(SUMMER), Step(SUMMER + DAY_US, late=3 * DAY_US)]], [SUMMER + 4 * DAY_US, SUMMER + 4 * DAY_US + 1])
@example(
    [[Step(SUMMER, "offer"), Step(SUMMER + 3 * DAY_US, "play", late=DAY_US)]],
    [SUMMER + 3 * DAY_US + 1, SUMMER + 4 * DAY_US, SUMMER + 4 * DAY_US + 1],
)
def test_what_becomes_known_after_the_wait_is_in_the_features_from_then_on(people, at):
    assert_like_the_reference(people, at)


@few_examples
@given(people, cutoffs)
def test_features_of_annotations_equal_the_naive_reference(people, at):
    assert_like_the_reference(people, at)


def assert_like_the_reference(people, at):
    expected = np.concatenate([reference(steps, at) for steps in people])
    rounded = np.array([a.statistic in ROUNDED for a in PLAN.aggregates])
    matrix = fill(people, at)
    right = np.where(rounded, np.isclose(matrix, expected, 1e-5, 1e-9, equal_nan=True), same_bits(matrix, expected))
    assert right.all(), [(NAMES[c], r, matrix[r, c], expected[r, c]) for r, c in np.argwhere(~right)[:5]]


@few_examples
@given(people, cutoffs)
def test_neither_chunks_of_customers_nor_other_cutoffs_change_a_bit(people, at):
    alone = [fill([steps], [cutoff]) for steps in people for cutoff in at]
    assert same_bits(fill(people, at), np.concatenate(alone)).all()


@few_examples
@given(journeys(late=True), journeys(late=True), moments)
def test_the_future_cannot_change_features_of_annotations(steps, others, cutoff):
    past = [step for step in steps if step.time + step.late < cutoff]
    future = [step for step in others if step.time + step.late >= cutoff]
    mixed = sorted(past + future, key=lambda step: step.time)
    assert same_bits(fill([past], [cutoff]), fill([mixed], [cutoff])).all()


@few_examples
@given(people, cutoffs)
def test_a_block_that_holds_a_column_keeps_its_own(people, at):
    block = block_of_steps(dict(enumerate(people)))
    found = annotate(block, ["gap", "previous"], SETTINGS)
    own = replace(
        block,
        categories=block.categories | {"previous": found.categories["previous"]},
        measures=block.measures | {"gap": -found.measures["gap"]},
    )
    row_starts = np.arange(len(people) + 1) * len(at)
    theirs, mine = (fill_matrix(PLAN, b, row_starts, np.array(at * len(people))) for b in (block, own))
    changed = {name for name, same in zip(NAMES, same_bits(theirs, mine).T, strict=True) if not same.all()}
    assert changed <= {"mean__gap__7d", "count__gap<1__7d"}
    mean = NAMES.index("mean__gap__7d")
    assert same_bits(abs(theirs[:, mean]), abs(mine[:, mean])).all()
