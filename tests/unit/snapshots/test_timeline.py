"""Who is at risk at a cutoff, and what happened next, case by case."""

import numpy as np
import pytest

from cxml.config import ChurnConfig, SatisfactionConfig
from cxml.errors import DataError
from cxml.journeys.block import Coded, EventBlock
from cxml.models.outcomes import censoring_weights, churn_known
from cxml.snapshots.make import churn_rows
from cxml.snapshots.surveys import NEVER, survey_rows
from cxml.snapshots.timeline import churn_timeline
from cxml.times import DAY_US


def block(*journeys, known=None, scores=None):
    """Journeys as lists of (day, touchpoint)."""
    events = [event for journey in journeys for event in journey]
    names = tuple(sorted({name for _, name in events}))
    return EventBlock(
        customers=np.arange(len(journeys)),
        starts=np.cumsum([0, *map(len, journeys)]).astype(np.int64),
        time=np.array([day * DAY_US for day, _ in events], dtype=np.int64),
        known=None if known is None else np.array([day * DAY_US for day in known], dtype=np.int64),
        categories={"touchpoint": Coded(np.array([names.index(n) for _, n in events], dtype=np.int32), names)},
        measures={} if scores is None else {"score": np.array(scores, dtype=np.float64)},
    )


def rows(events, config, at, *, until=1000, lookback=100, activity=(), leavers=None):
    timeline = churn_timeline(events, config, list(activity), leavers)
    found = churn_rows(timeline, np.array(at) * DAY_US, lookback=lookback * DAY_US, observed_until=until * DAY_US)
    return [
        (int(c), t / DAY_US, float(d), bool(o))
        for c, t, d, o in zip(found.customer, found.cutoff, found.duration_days, found.observed, strict=True)
    ]


EVENT = ChurnConfig(kind="event", touchpoints=["cancelled"], horizons=["30d"])
LAPSE = ChurnConfig(kind="inactivity", horizons=["30d"])


def test_churn_after_the_cutoff_is_observed_with_its_distance():
    assert rows(block([(0, "order"), (25, "cancelled")]), EVENT, [10]) == [(0, 10, 15, True)]


def test_churn_exactly_at_the_cutoff_is_the_future():
    assert rows(block([(0, "order"), (10, "cancelled")]), EVENT, [10]) == [(0, 10, 0, True)]


def test_no_churn_is_censored_at_the_end_of_observation_not_negative():
    assert rows(block([(0, "order")]), EVENT, [10], until=50) == [(0, 10, 40, False)]


def test_who_has_left_is_no_longer_at_risk():
    assert rows(block([(0, "order"), (5, "cancelled")]), EVENT, [10]) == []


def test_trailing_bookkeeping_does_not_reopen_a_journey_but_declared_activity_does():
    journey = block([(0, "order"), (5, "cancelled"), (6, "refund"), (7, "order")])
    assert rows(journey, EVENT, [10]) == []
    assert rows(journey, EVENT, [10], activity=["order"]) == [(0, 10, 990, False)]


def test_who_was_not_seen_within_the_lookback_is_not_looked_at():
    assert rows(block([(0, "order")]), EVENT, [99, 100, 101]) == [(0, 99, 901, False), (0, 100, 900, False)]


def test_a_customer_without_an_earlier_event_gives_no_row():
    assert rows(block([(10, "order")]), EVENT, [10]) == []
    assert rows(block([(10, "order")]), EVENT, [11]) == [(0, 11, 989, False)]


def test_a_journey_that_ends_otherwise_is_known_never_to_churn_and_is_over():
    config = ChurnConfig(kind="event", touchpoints=["cancelled"], ends=["sold"], horizons=["30d"])
    assert rows(block([(0, "order"), (20, "sold"), (21, "cancelled")]), config, [10, 30]) == [
        (0, 10, float("inf"), False)
    ]


def test_in_a_horizon_cut_short_nobody_is_followed_further_than_the_last_whole_one():
    """Were only those known for the long horizon who finished, it would seem that nobody leaves within it."""
    config = ChurnConfig(kind="event", touchpoints=["cancelled"], ends=["sold"], horizons=["30d", "90d"])
    for last in ("order", "cancelled", "sold"):
        for day in (45, 55):
            timeline = churn_timeline(block([(0, "order"), (day, last)]), config, [], None)
            found = churn_rows(
                timeline, np.array([10]) * DAY_US, lookback=100 * DAY_US, observed_until=60 * DAY_US,
                horizons=[30 * DAY_US, 90 * DAY_US],
            )  # fmt: skip
            assert (found.duration_days.tolist(), found.observed.tolist()) == ([30.0], [False])


def test_risk_begins_with_a_start_where_one_is_named():
    config = ChurnConfig(kind="event", touchpoints=["cancelled"], starts=["accepted"], horizons=["30d"])
    assert rows(block([(0, "order"), (15, "accepted")]), config, [10, 20]) == [(0, 20, 980, False)]


def test_inactivity_waits_for_the_next_activity_of_the_named_kinds():
    journey = block([(0, "order"), (12, "newsletter"), (40, "order")])
    assert rows(journey, LAPSE, [10], activity=["order"]) == [(0, 10, 30, True)]
    assert rows(journey, LAPSE, [10]) == [(0, 10, 2, True)]


def test_an_event_that_became_known_late_is_not_seen_before():
    journey = block([(0, "order"), (5, "cancelled")], known=[0, 20])
    assert rows(journey, EVENT, [10]) == [(0, 10, 0, True)]
    assert rows(journey, EVENT, [10], until=15) == [(0, 10, 5, False)]
    assert rows(journey, EVENT, [30]) == []


def test_leavers_of_a_table_count_as_churn_but_not_as_contact():
    config = ChurnConfig(kind="table", source="left.csv", horizons=["30d"])
    leavers = (np.array([0, 7]), np.array([25, 3]) * DAY_US)
    events = block([(0, "order")], [(0, "order")])
    assert rows(events, config, [10, 30], leavers=leavers) == [
        (0, 10, 15, True), (1, 10, 990, False), (1, 30, 970, False),
    ]  # fmt: skip


def surveys(events, asked="asked"):
    found = survey_rows(events, SatisfactionConfig(kind="nps", touchpoint="answer", asked=asked))
    return [
        (int(c), t / DAY_US, s, None if a == NEVER else a / DAY_US)
        for c, t, s, a in zip(found.customer, found.cutoff, found.score, found.answered, strict=True)
    ]


NAN = float("nan")


def test_the_cutoff_of_a_survey_is_when_it_was_asked():
    events = block([(0, "order"), (5, "asked"), (8, "answer")], scores=[NAN, NAN, 9])
    assert surveys(events) == [(0, 5, 9.0, 8)]


def test_without_a_question_on_record_the_cutoff_is_the_answer():
    events = block([(0, "order"), (8, "answer")], [(0, "asked")], scores=[NAN, 9, NAN])
    assert surveys(events) == [(0, 8, 9.0, 8)]
    assert surveys(events, asked=None) == [(0, 8, 9.0, 8)]


def test_a_question_without_an_answer_is_a_row_without_a_score():
    events = block(
        [(0, "order"), (5, "asked"), (9, "asked"), (9, "answer")], [(0, "order"), (4, "asked")],
        scores=[NAN, NAN, NAN, 3, NAN, NAN],
    )  # fmt: skip
    found = surveys(events)
    assert [(c, t, a) for c, t, _, a in found] == [(0, 5, None), (0, 9, 9), (1, 4, None)]
    assert [s == 3 for _, _, s, _ in found] == [False, True, False]


def test_an_answer_whose_row_carries_no_score_is_no_answer():
    events = block([(0, "order"), (5, "asked"), (8, "answer")], scores=[NAN, NAN, NAN])
    assert [(t, a) for _, t, _, a in surveys(events)] == [(5, None)]


def test_a_survey_before_which_nothing_is_known_gives_no_row():
    events = block([(5, "asked"), (8, "answer"), (9, "asked"), (10, "answer")], scores=[NAN, 7, NAN, 8])
    assert surveys(events) == [(0, 9, 8.0, 10)]


@pytest.mark.parametrize("kind", [EVENT, LAPSE])
def test_several_cutoffs_at_once_equal_one_at_a_time(kind):
    events = block([(0, "order"), (12, "order"), (25, "cancelled")], [(3, "order"), (60, "order")])
    at = [1, 5, 12, 13, 40]
    together = rows(events, kind, at)
    alone = sorted(row for t in at for row in rows(events, kind, [t]))
    assert together == alone


def followed(until):
    """Duration and observed of three customers at day 10: cancels on day 45, never, cancels on day 20."""
    events = block([(0, "order"), (45, "cancelled")], [(0, "order")], [(0, "order"), (20, "cancelled")])
    found = churn_rows(
        churn_timeline(events, EVENT, []),
        np.array([10]) * DAY_US,
        lookback=100 * DAY_US,
        observed_until=until * DAY_US,
        horizons=[30 * DAY_US, 60 * DAY_US],
    )
    return list(zip(found.duration_days.tolist(), found.observed.tolist(), strict=True))


def test_nobody_is_followed_into_a_horizon_that_was_not_observed_to_its_end():
    assert followed(until=69) == [(30, False), (30, False), (10, True)]
    assert followed(until=70) == [(35, True), (60, False), (10, True)]


def test_what_becomes_known_at_the_very_end_of_observation_is_not_seen():
    journey = block([(0, "order"), (25, "cancelled")], known=[0, 30])
    assert rows(journey, EVENT, [10], until=30) == [(0, 10, 20, False)]
    assert rows(journey, EVENT, [10], until=31) == [(0, 10, 15, True)]


def test_a_question_that_nobody_was_ever_asked_is_refused():
    config = SatisfactionConfig(kind="csat", touchpoint="answer", asked="askd")
    with pytest.raises(DataError, match=r"satisfaction.asked: 'askd' never occurs in the log; did you mean 'asked'\?"):
        survey_rows(block([(0, "asked"), (1, "answer")]), config)


def test_weighted_outcomes_are_those_of_everybody_though_some_journeys_end_and_some_are_followed_briefly():
    """Constant hazards of leaving and of ending otherwise: the rate by each horizon is known in closed form."""
    rng = np.random.default_rng(0)
    leave, end, n = 0.006, 0.012, 20_000
    left, ended = rng.exponential(1 / leave, n), rng.exponential(1 / end, n)
    journeys = [
        [(0, "order"), *([(min(a, b), "cancelled" if a < b else "sold")] if min(a, b) < 130 else [])]
        for a, b in zip(left + 0.001, ended + 0.001, strict=True)
    ]
    config = ChurnConfig(kind="event", touchpoints=["cancelled"], ends=["sold"], horizons=["30d", "60d"])
    timeline = churn_timeline(block(*journeys), config, [], None)
    found = churn_rows(
        timeline, np.array([1, 75, 85, 95]) * DAY_US, lookback=500 * DAY_US, observed_until=130 * DAY_US,
        horizons=[30 * DAY_US, 60 * DAY_US],
    )  # fmt: skip
    known = churn_known(found.duration_days, found.observed, [30, 60], "event")
    weight = censoring_weights(found.duration_days, found.observed, [30, 60])
    rates = (np.nan_to_num(known) * weight).sum(axis=0) / weight.sum(axis=0)
    truth = leave / (leave + end) * (1 - np.exp(-(leave + end) * np.array([30, 60])))
    assert np.abs(rates - truth).max() < 0.006
