"""Laws of selectors, extended statistics and derived columns, on random journeys."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_features import CONDITIONS, DAY_US, Event, block_of, reference_features, same_bits
from test_feature_properties import STAGES, VOCABULARIES, cutoffs, journeys, people

from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import STATISTICS, Aggregate

ALIVE = (0.243, 4.414, 0.793, 2.426)
WIDE = {"touchpoint": ("call", "elsewhere", "help", "never seen", "play"), "level": ("bronze", "gold", "silver")}
HERE = [text for text in CONDITIONS if "gap" not in text and "daypart" not in text]
SELECTORS = ("all", "touchpoint=call", "touchpoint=other", "channel=phone", "stage=support", *HERE)
WINDOWED = ("longest_gap", "gap_mean", "gap_std", "burstiness", "change", "acceleration", "rate", "decay", "share")
CHANGES = ("change", "acceleration", "rate")
VALUES = ("first", *(f"last{n}" for n in range(2, 10)), "std", "slope", "decay", *CHANGES)
UNWINDOWED = ("ever", "days_since_first", "p_alive")
MEASURES = ("value", "score@touchpoint=call", "value@value<0")
NAMES = tuple(
    dict.fromkeys(
        (
            *(f"{s}__{what}__{w}" for what in SELECTORS for s, w in zip(WINDOWED, ("7d", "30d") * 5, strict=False)),
            *(f"{s}__{what}__{w}" for what in SELECTORS[:3] for s in WINDOWED for w in ("1d", "30d")),
            *(f"{s}__{what}__7d/30d" for what in SELECTORS for s in ("ratio", "lag")),
            *(f"{s}__{what}" for what in SELECTORS[1:] for s in UNWINDOWED),
            "ever__all", "days_since_first__all", "p_alive", "lag__all__1d/1d", "ratio__all__1d/7d",
            *(f"{s}__{measure}__{w}" for s in VALUES for measure in MEASURES for w in ("7d", "30d")),
            *(f"share__value@{what}__30d" for what in SELECTORS[1:]),
            "ratio__value__7d/30d", "ratio__value@channel=phone__1d/7d",
            *(f"{s}__value@{what}__7d" for what in SELECTORS[1:] for s in CHANGES),
            *(f"lag__value{at}__7d/{w}" for at in ("", "@touchpoint=call", "@value<0") for w in ("1d", "7d", "30d")),
            *(f"{s}__{column}__{w}" for column in ("touchpoint", "channel", "stage", "level")
              for s in ("distinct", "entropy") for w in ("1d", "30d")),
            *(f"{s}__{column}@{what}__30d" for column in ("touchpoint", "channel", "stage", "level")
              for what in SELECTORS[1:] for s in ("distinct", "entropy")),
            *(f"{s}__{what}__7d" for s in ("count", "active_days") for what in HERE),
            *(f"{s}__value@{what}__30d" for s in ("sum", "mean", "last") for what in HERE),
            *(f"days_since__{what}" for what in HERE),
        )
    )
)  # fmt: skip
PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, NAMES)), {**VOCABULARIES, "level": ("gold", "silver")}, stages=STAGES, alive=ALIVE
)
SEVERAL = replace(
    PLAN, wide=WIDE,
    alive={a.selector: (0.1 * (n + 1), *ALIVE[1:]) for n, a in enumerate(PLAN.aggregates) if a.statistic == "p_alive"},
)  # fmt: skip
few_examples = settings(deadline=None, max_examples=30)

#: Taken in another way by the reference; everything else is compared bit for bit.
ROUNDED = {"std", "slope", "decay", "entropy", "gap_mean", "gap_std", "burstiness", "p_alive", "change"}
rounded = np.array([a.statistic in ROUNDED for a in PLAN.aggregates])


def fill(people, plan=PLAN, **options):
    block = block_of({number: events for number, (events, _) in enumerate(people)})
    row_starts = np.cumsum([0, *(len(at) for _, at in people)])
    at = np.array([cutoff for _, ats in people for cutoff in ats], np.int64)
    return fill_matrix(plan, block, row_starts, at, **options)


def reference(events, at, plan):
    return reference_features(plan.columns, events, at, plan.vocabularies, STAGES, plan.alive, plan.wide)


def assert_like_the_reference(matrix, people, plan=PLAN):
    expectations = [row for events, at in people for row in reference(events, at, plan)]
    for row, expected in zip(matrix, expectations, strict=True):
        largest = max(
            (abs(v) for events, _ in people for e in events for v in e.measures.values() if v == v), default=0.0
        )
        near = np.isclose(row, expected, rtol=1e-5, atol=1e-6 + 1e-9 * largest, equal_nan=True)
        right = np.where(rounded, near, same_bits(row, expected))
        assert right.all(), [(PLAN.columns[i], row[i], expected[i]) for i in np.flatnonzero(~right)[:5]]


def test_the_plan_of_these_tests_holds_every_statistic_there_is():
    tested = {a.statistic for a in PLAN.aggregates}
    assert set(STATISTICS) - tested <= {"min", "max", "tenure_days"}  # those are in the other plan


@pytest.mark.parametrize("plan", [PLAN, SEVERAL], ids=["plain", "wide, an alive model for each selector"])
@few_examples
@given(people=people)
@example(people=[([Event(0), Event(7 * DAY_US)], [7 * DAY_US, 7 * DAY_US, 7 * DAY_US + 1, 14 * DAY_US + 1])])
@example(people=[([Event(0, known=DAY_US), Event(1, known=1)], [DAY_US, DAY_US + 1])])
@example(people=[([], [0]), ([Event(5)], [6]), ([], [])])
def test_the_second_walk_equals_the_naive_reference(plan, people):
    tame(people)
    assert_like_the_reference(fill(people, plan=plan), people, plan)


def tame(people):
    """Leave out numbers that cancel each other to the last digit: there the reference alone is exact."""
    for events, _ in people:
        for event in events:
            event.measures = {m: 7.0 if abs(v) >= 1e12 else v for m, v in event.measures.items()}


@few_examples
@given(st.one_of(journeys(), journeys(late=True)), cutoffs)
def test_many_cutoffs_at_once_equal_one_at_a_time(events, at):
    one_by_one = np.concatenate([fill([(events, [cutoff])]) for cutoff in at])
    assert same_bits(fill([(events, at)]), one_by_one).all()


@few_examples
@given(people)
def test_any_chunking_of_the_customers_gives_the_same_bits(people):
    together = fill(people)
    alone = [fill([one]) for one in people]
    assert same_bits(together, np.concatenate(alone)).all()


@few_examples
@given(st.booleans().flatmap(lambda late: st.lists(journeys(late=late), min_size=2, max_size=2)), cutoffs)
def test_the_future_cannot_change_the_past(two, at):
    for cutoff in at:
        past = [e for e in two[0] if e.time < cutoff and (e.known or e.time) < cutoff]
        future = [e for e in two[1] if e.time >= cutoff or (e.known or e.time) >= cutoff]
        mixed = sorted(past + future, key=lambda e: e.time)
        assert same_bits(fill([(past, [cutoff])]), fill([(mixed, [cutoff])])).all()


@few_examples
@given(journeys(), cutoffs, st.sets(st.integers(0, len(NAMES) - 1), min_size=1, max_size=12))
def test_a_column_does_not_depend_on_the_columns_beside_it(events, at, chosen):
    few = FeaturePlan(tuple(PLAN.aggregates[i] for i in sorted(chosen)), PLAN.vocabularies, PLAN.stages, alive=ALIVE)
    assert same_bits(fill([(events, at)], plan=few), fill([(events, at)])[:, sorted(chosen)]).all()
