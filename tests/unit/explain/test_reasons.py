"""Reasons in words: every feature there can be has a short phrase, the phrase is true, and no subject is told twice."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cxml.errors import ConfigError
from cxml.explain.reasons import ANNOTATED, describe_value, subject_of, top_reasons
from cxml.features.annotations import ANNOTATIONS
from cxml.features.selectors import plain_selector
from cxml.features.spec import (
    CATEGORY_STATISTICS,
    NTH_LAST,
    PAIRED_STATISTICS,
    STATISTICS,
    UNWINDOWED_STATISTICS,
    Aggregate,
)

NAN = float("nan")
VALUES = (0.0, -0.0, 1.0, 0.004, 0.37, 1.04, 2.4, 9.97, 37.26, -3.5, 365.0, NAN)
SELECTORS = (
    "all", "touchpoint=call", "touchpoint=delivered_late", "touchpoint=other", "channel=web", "stage=support",
    "value<0", "score<=6", "duration>=600", "resolved<1", "repeat_contact>0", "gap>30", "!touchpoint=call",
    "!daypart=night", "touchpoint=call&!channel=web", "touchpoint=call|touchpoint=chat", "daypart=night&weekend=yes",
    "!(touchpoint=call|touchpoint=chat)", "(touchpoint=call|touchpoint=chat)&resolved<1", "previous=call",
    "previous=other", "transition='visit>call'", "transition=other", "weekday=mon", "score_band=detractor",
    "score_band=mid", "value_sign=zero", "contact=yes", "contact=no", "active=yes", "!active=yes",
    "channel=web&value<0|touchpoint=call",
)  # fmt: skip
MEASURES = (
    "value", "duration", "score", "resolved", "basket_size",
    *(name for name, annotation in ANNOTATIONS.items() if annotation.kind == "measure"),
)  # fmt: skip
CATEGORIES = (
    "touchpoint", "channel", "stage", "plan",
    *(name for name, annotation in ANNOTATIONS.items() if annotation.kind == "category"),
)  # fmt: skip
WHATS = (
    "", *SELECTORS, *CATEGORIES, *MEASURES,
    *(f"{measure}@{selector}" for measure in MEASURES for selector in SELECTORS),
)  # fmt: skip


def every_feature(statistic):
    """Every name that `Aggregate` accepts for a statistic."""
    window = "30d/90d" if statistic in PAIRED_STATISTICS else "90d"
    found = []
    for what in WHATS:
        try:
            found.append(Aggregate(statistic, what, None if statistic in UNWINDOWED_STATISTICS else window).name)
        except ConfigError:
            continue
    return found


def longest(name):
    """How long a phrase may be: about 90 characters, more where it names its events, a condition or when it ended."""
    aggregate = Aggregate.parse(name)
    when = 5 if aggregate.statistic == "lag" and aggregate.measure else 0
    if re.search(r"[&|(]", name):
        return 140
    if not re.fullmatch(r"all|(touchpoint|channel|stage)=\w+", aggregate.selector):
        return 130 + when
    return 90 if aggregate.measure is aggregate.category is None or aggregate.selector == "all" else 100 + when


def plausible(statistic, value):
    """Whether a value says anything about the length of a phrase: shares are no 3,700 %."""
    return not (statistic in ("mean", "share", "p_alive", "slope", "std", "entropy") and abs(value) > 10)


# ---------------------------------------------------------------- every phrase


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_of_everything_has_a_short_phrase(statistic):
    names = every_feature(statistic)
    assert names
    for name in names:
        for value in VALUES:
            text = describe_value(name, value)
            assert text, name
            assert text == " ".join(text.split()), (name, text)
            assert not re.search(r"nan|inf\b|[{}_]|None|-0 |-0$", text), (name, text)
            if plausible(statistic, value):
                assert len(text) <= longest(name), (name, text)


def test_the_exhaustive_test_sees_every_kind_of_what():
    names = [name for statistic in STATISTICS for name in every_feature(statistic)]
    assert len(names) > 5_000
    kinds = {
        (statistic, Aggregate.parse(n).measure is None) for statistic in STATISTICS for n in every_feature(statistic)
    }
    of_both = {"count", "decay", "share", "ratio", "change", "acceleration", "rate", "lag"}
    of_one = {"sum", "mean", "min", "max", "last", "first", *NTH_LAST, "std", "slope"}
    assert {statistic for statistic, events in kinds if not events} == of_both | of_one
    assert {statistic for statistic, events in kinds if events} == set(STATISTICS) - of_one


def test_every_annotation_has_words_of_its_own():
    assert set(ANNOTATIONS) == ANNOTATED
    for name, annotation in ANNOTATIONS.items():
        column = f"{'mean' if annotation.kind == 'measure' else 'distinct'}__{name}__30d"
        assert describe_value(column, NAN) != describe_value(column, NAN, annotations=()), name


def test_values_that_differ_are_told_apart():
    for statistic in sorted(set(STATISTICS) - {"min", "max", "first", "last", *NTH_LAST}):  # some are yes or no
        for name in every_feature(statistic):
            few, many, missing = (describe_value(name, value) for value in (2.0, 7.0, NAN))
            assert len({few, many, missing}) == 3, (name, few, many, missing)


numbers = st.floats(width=32)
texts = st.text(st.sampled_from(list("ab{}n_ &|!()<>'%:@\t/é")), min_size=1, max_size=9)


@given(st.sampled_from(STATISTICS), texts, st.booleans(), numbers)
def test_hostile_names_and_numbers_are_worded_all_the_same(statistic, text, of_measure, value):
    selector = plain_selector("touchpoint", text)
    window = "30d/90d" if statistic in PAIRED_STATISTICS else None if statistic in UNWINDOWED_STATISTICS else "12h"
    what = "touchpoint" if statistic in CATEGORY_STATISTICS else f"value@{selector}" if of_measure else selector
    try:
        name = Aggregate(statistic, what, window).name
    except ConfigError:
        assume(False)
    said = describe_value(name, value)
    assert said == " ".join(said.split()) != ""


# ---------------------------------------------------------------- what they say


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("tenure_days", 400.0, "customer for 400 days"),
        ("tenure_days", NAN, "no event yet"),
        ("rfm_recency", 12.25, "last active 12 days ago"),
        ("rfm_frequency", 1.0, "active 1 time in a year"),
        ("rfm_monetary", 120.4, "total value 120 in a year"),
        ("rfm_recency_quintile", 2.0, "recency 2 of 5 among all customers"),
        ("lifecycle", 4.0, "customer is slowing"),
        ("lifecycle", NAN, "never active"),
        ("survey_response_rate", 0.0, "0 % of surveys answered"),
        ("survey_response_rate", NAN, "never asked in a survey"),
        ("ever__asked=yes", 0.0, "survey: never"),
        ("count__hour=05__30d", 2.0, "events between 5:00 and 6:00: 2 times in 30 days"),
        ("max__session__90d", 7.0, "highest number of the session 7 in 90 days"),
        ("days_since__touchpoint=call", 12.25, "call: last 12 days ago"),
        ("days_since__touchpoint=call", 3.44, "call: last 3.4 days ago"),
        ("days_since__touchpoint=call", 0.25, "call: last 6 hours ago"),
        ("days_since__touchpoint=call", 0.01, "call: last 14 minutes ago"),
        ("days_since__touchpoint=call", NAN, "call: never"),
        ("days_since__all", NAN, "no event yet"),
        ("days_since_first__touchpoint=call", 200.0, "call: first 200 days ago"),
        ("ever__touchpoint=call", 1.0, "call: 1 time so far"),
        ("ever__touchpoint=call", 0.0, "call: never"),
        ("p_alive", 0.4, "still active: 40 % likely"),
        ("p_alive__touchpoint=order", 0.4, "order still to come: 40 % likely"),
        ("count__touchpoint=call__30d", 3.0, "call: 3 times in 30 days"),
        ("count__touchpoint=call__1d", 1.0, "call: 1 time in 1 day"),
        ("count__touchpoint=call__12h", 0.0, "call: none in 12 hours"),
        ("count__touchpoint=call__2w", 1200.0, "call: 1,200 times in 14 days"),
        ("count__touchpoint=delivered_late__30d", 2.0, "delivered late: 2 times in 30 days"),
        ("count__touchpoint=a__b__7d", 2.0, "a b: 2 times in 7 days"),
        ("count__channel=email__30d", 2.0, "channel email: 2 times in 30 days"),
        ("count__touchpoint=other__30d", 2.0, "other touchpoint: 2 times in 30 days"),
        ("count__touchpoint=__30d", 2.0, "blank: 2 times in 30 days"),
        ("count__score__90d", 2.0, "score: 2 times in 90 days"),
        ("count__score__90d", 0.0, "no score in 90 days"),
        ("active_days__all__30d", 1.0, "any event: on 1 day in 30 days"),
        ("distinct__touchpoint__90d", 3.0, "3 kinds of touchpoint in 90 days"),
        ("distinct__touchpoint__90d", 0.0, "no touchpoint in 90 days"),
        ("entropy__channel__90d", 0.0, "one kind of channel only in 90 days"),
        ("entropy__channel__90d", 2.0, "channel as mixed as 4 equally frequent kinds in 90 days"),
        ("entropy__channel__90d", NAN, "no channel in 90 days"),
        ("distinct__channel@touchpoint=call__90d", 2.0, "2 kinds of channel at call in 90 days"),
        ("distinct__channel@touchpoint=call__90d", 0.0, "no channel at call in 90 days"),
        ("entropy__touchpoint@stage=support__90d", 0.0, "one kind of touchpoint only at stage support in 90 days"),
        ("change__value__30d", -12.0, "value: 12 less than usual in 30 days"),
        ("change__value__30d", 0.0, "value: as much as usual in 30 days"),
        ("change__repeat_contact__30d", 2.0, "repeated contacts: 2 more than usual in 30 days"),
        ("acceleration__value@touchpoint=order__30d", 7.0, "value at order: 7 more than the trend said in 30 days"),
        ("rate__value__30d", 3.5, "value sums to 3.5 per active day in 30 days"),
        ("rate__value__30d", NAN, "no event in 30 days"),
        ("lag__value__30d/365d", 12.0, "total value 12 in the 30 days that ended 365 days ago"),
        ("last4__value__90d", 7.0, "last but three value 7 in 90 days"),
        ("last9__value__90d", NAN, "value: fewer than nine in 90 days"),
        ("lag__touchpoint=call__30d/365d", 2.0, "call: 2 times in the 30 days that ended 365 days ago"),
        ("decay__touchpoint=call__30d", 2.44, "call: 2.4 times lately (half-life 30 days)"),
        ("decay__value__30d", 120.4, "value sums to 120 lately (half-life 30 days)"),
        ("share__touchpoint=call__30d", 0.4, "call: 40 % of all events in 30 days"),
        ("share__touchpoint=call__30d", 0.001, "call: under 1 % of all events in 30 days"),
        ("share__touchpoint=call__30d", 0.999, "call: over 99 % of all events in 30 days"),
        ("share__touchpoint=call__30d", NAN, "no event in 30 days"),
        ("share__value@stage=billing__30d", 0.4, "stage billing: 40 % of the total value in 30 days"),
        ("share__value@stage=billing__30d", NAN, "total value 0 in 30 days"),
        ("ratio__touchpoint=call__30d/90d", 2.4, "call: 2.4 times as often in 30 days as in 90 days"),
        ("ratio__touchpoint=call__30d/90d", 1.0, "call: as often in 30 days as in 90 days"),
        ("ratio__touchpoint=call__30d/90d", 0.0, "call: none in 30 days, but some in 90 days"),
        ("ratio__touchpoint=call__30d/90d", NAN, "call: none in 90 days"),
        ("ratio__value__30d/90d", 0.5, "value: 0.5 times as much a day in 30 days as in 90 days"),
        ("change__touchpoint=call__30d", 2.3, "call: 2.3 more than usual in 30 days"),
        ("change__touchpoint=call__30d", -2.3, "call: 2.3 fewer than usual in 30 days"),
        ("change__touchpoint=call__30d", 0.0, "call: as many as usual in 30 days"),
        ("acceleration__touchpoint=call__30d", -3.0, "call: 3 fewer than the trend said in 30 days"),
        ("rate__touchpoint=call__30d", 0.42, "call: 0.42 times per active day in 30 days"),
        ("rate__touchpoint=call__30d", NAN, "no event in 30 days"),
        ("longest_gap__touchpoint=call__90d", 21.3, "call: longest pause 21 days in 90 days"),
        ("longest_gap__touchpoint=call__90d", NAN, "call: fewer than two in 90 days"),
        ("gap_std__touchpoint=call__90d", NAN, "call: fewer than three in 90 days"),
        ("burstiness__touchpoint=call__90d", 0.61, "call: in bursts (burstiness 0.61) in 90 days"),
        ("burstiness__touchpoint=call__90d", -0.6, "call: like a clock (burstiness -0.6) in 90 days"),
        ("sum__value__30d", 1234.5, "value sums to 1,234 in 30 days"),
        ("mean__value__90d", 9.84, "mean value 9.8 in 90 days"),
        ("mean__value__90d", 9.97, "mean value 10 in 90 days"),
        ("mean__value__90d", 0.5, "mean value 0.5 in 90 days"),
        ("mean__value__90d", 1e-9, "mean value nearly 0 in 90 days"),
        ("mean__value__90d", NAN, "no value in 90 days"),
        ("min__basket_size__30d", 2.0, "lowest basket size 2 in 30 days"),
        ("last__score__365d", 4.0, "last score 4 in 365 days"),
        ("last__score__365d", NAN, "no score in 365 days"),
        ("last2__score__365d", 4.0, "last but one score 4 in 365 days"),
        ("last3__score__365d", NAN, "score: fewer than three in 365 days"),
        ("slope__score__365d", -0.07, "score falling by 2.1 a month in 365 days"),
        ("slope__score__7d", 0.5, "score rising by 0.5 a day in 7 days"),
        ("slope__score__365d", 0.0, "score steady in 365 days"),
        ("std__score__365d", 1.24, "score varies by 1.2 in 365 days"),
        ("mean__duration@stage=support__30d", 45.0, "mean duration 45 seconds at stage support in 30 days"),
        ("mean__duration__30d", 840.0, "mean duration 14 minutes in 30 days"),
        ("mean__duration__30d", 12_600.0, "mean duration 3.5 hours in 30 days"),
        ("max__duration__30d", 345_600.0, "longest duration 4 days in 30 days"),
        ("mean__resolved__90d", 0.4, "resolved 40 % in 90 days"),
        ("last__resolved__90d", 0.0, "last outcome in 90 days: not resolved"),
        ("min__resolved__90d", 0.0, "at least one outcome in 90 days: not resolved"),
        ("max__resolved__90d", 0.0, "every outcome in 90 days: not resolved"),
        ("sum__repeat_contact__90d", 3.0, "3 repeated contacts in 90 days"),
        ("sum__repeat_contact__90d", 1.0, "1 repeated contact in 90 days"),
        ("sum__repeat_contact__90d", 0.0, "no repeated contact in 90 days"),
        ("mean__repeat_contact__90d", NAN, "no contact in 90 days"),
        ("mean__first_contact_resolved__90d", 0.4, "first contact resolved 40 % in 90 days"),
        ("slope__first_contact_resolved__90d", 0.001, "first contact resolved: rising by 3 points a month in 90 days"),
        ("last__open_cases__365d", 2.0, "last number of open cases 2 in 365 days"),
        ("mean__gap__90d", 1.5, "mean pause between events 36 hours in 90 days"),
        ("max__streak__90d", 1.0, "longest streak 1 day in 90 days"),
        ("max__surprise__90d", 5.0, "highest rarity of a step 1 in 32 in 90 days"),
        ("max__surprise__90d", 500.0, "highest rarity of a step 1 in a million in 90 days"),
        ("mean__handle_ratio__90d", 1.0, "mean handling time as usual in 90 days"),
        ("count__resolved<1__90d", 2.0, "outcome (not resolved): 2 times in 90 days"),
        ("count__resolved>=1__90d", 2.0, "resolution: 2 times in 90 days"),
        ("count__duration>600__90d", 2.0, "events with duration above 10 minutes: 2 times in 90 days"),
        ("count__!touchpoint=call__90d", 2.0, "anything but call: 2 times in 90 days"),
        ("count__touchpoint=call&!channel=web__90d", 2.0, "call and not channel web: 2 times in 90 days"),
        ("count__(touchpoint=a|touchpoint=b)&channel=c__90d", 2.0, "(a or b) and channel c: 2 times in 90 days"),
        ("count__touchpoint=call&daypart=night__90d", 2.0, "call and at night: 2 times in 90 days"),
        ("count__transition='visit>call'__90d", 2.0, "visit then call: 2 times in 90 days"),
        ("count__contact=yes__30d", 2.0, "service contact: 2 times in 30 days"),
        ("days_since__contact=yes", NAN, "service contact: never"),
        ("p_alive__active=yes", 0.87, "activity still to come: 87 % likely"),
        ("count__!active=yes__30d", 2.0, "anything but activity: 2 times in 30 days"),
        ("count__previous=call__90d", 2.0, "events right after call: 2 times in 90 days"),
        ("mean__value@daypart=night__90d", 2.0, "mean value 2 of events at night in 90 days"),
        ("night_owl", 0.25, "night owl 0.25"),
        ("night_owl", NAN, "night owl not known"),
    ],
)  # fmt: skip
def test_what_is_said(name, value, text):
    assert describe_value(name, value) == text


def test_of_a_long_choice_the_first_are_named():
    choice = "|".join(f"touchpoint={name}" for name in "abcdefgh")
    assert describe_value(f"count__{choice}__30d", 2.0) == "a, b, c or 5 others: 2 times in 30 days"
    four = "|".join(f"touchpoint={name}" for name in "abcd")
    assert describe_value(f"count__{four}__30d", 2.0) == "a, b, c or d: 2 times in 30 days"


@pytest.mark.parametrize(
    ("name", "code", "vocabulary", "text"),
    [
        ("last__plan", 1.0, ("basic", "gold", "other"), "plan is gold"),
        ("last__acquisition", 0.0, ("paid_search", "other"), "acquisition is paid search"),
        ("last__plan", 2.0, ("basic", "gold", "other"), "plan is rare or new"),
        ("last__acquisition", NAN, ("paid_search", "other"), "acquisition not known"),
        ("last__a__30d", 0.0, ("x",), "a 30d is x"),
        ("last__daypart", 1.0, ("evening", "night", "other"), "last event: at night"),
        ("last__contact", 1.0, ("no", "yes", "other"), "last event: service contact"),
        ("last__transition", 0.0, ("visit>call", "other"), "last step: visit then call"),
        ("last__score_band", 0.0, ("detractor", "other"), "last score band: detractor"),
        ("last__score_band", NAN, ("detractor", "other"), "no score yet"),
        ("last__previous", 0.0, ("call", "other"), "last preceding touchpoint: call"),
    ],
)
def test_what_is_said_of_a_category(name, code, vocabulary, text):
    assert describe_value(name, code, vocabulary) == text


def test_a_column_of_the_log_may_bear_the_name_of_an_annotation():
    assert describe_value("mean__response__30d", 0.4) == "interventions answered 40 % in 30 days"
    assert describe_value("mean__response__30d", 0.4, annotations={"gap"}) == "mean response 0.4 in 30 days"
    assert describe_value("count__weekend=yes__30d", 1.0, annotations=()) == "weekend yes: 1 time in 30 days"
    row = top_reasons(["mean__response__30d"], {}, np.array([[0.4]]), np.array([[1.0]]), 1, annotations=())
    assert row == [["mean response 0.4 in 30 days"]]


def test_what_is_no_feature_is_refused():
    with pytest.raises(ConfigError, match="unknown statistic 'cuont'"):
        describe_value("cuont__all__30d", 1.0)


# ---------------------------------------------------------------- which are chosen


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        (
            "touchpoint=call",
            [
                "count__touchpoint=call__30d", "count__touchpoint=call__90d", "share__touchpoint=call__30d",
                "days_since__touchpoint=call", "ratio__touchpoint=call__30d/90d", "p_alive__touchpoint=call",
            ],
        ),
        ("touchpoint=a__b", ["count__touchpoint=a__b__7d", "days_since__touchpoint=a__b"]),
        ("all", ["count__all__30d", "active_days__all__7d", "days_since__all", "ever__all", "p_alive"]),
        ("tenure_days", ["tenure_days", "days_since_first__all"]),
        ("value", ["mean__value__30d", "last2__value__90d", "sum__value@all__30d", "decay__value__30d"]),
        ("value@channel=web", ["mean__value@channel=web__30d", "share__value@channel=web__90d"]),
        ("channel", ["distinct__channel__30d", "entropy__channel__90d"]),
        ("channel@value<0", ["distinct__channel@value<0__30d", "entropy__channel@value<0__90d"]),
        ("night_owl", ["night_owl"]),
    ],
)  # fmt: skip
def test_columns_that_speak_of_one_thing_have_one_subject(subject, names):
    assert {subject_of(name) for name in names} == {subject}


def test_the_subject_of_a_category_is_its_name():
    assert subject_of("last__plan", categorical=True) == "plan"
    assert subject_of("last__a__30d", categorical=True) == "a__30d"


def test_two_columns_of_one_subject_give_one_reason_of_the_stronger():
    columns = [
        "count__touchpoint=call__30d",
        "count__touchpoint=call__90d",
        "share__touchpoint=call__90d",
        "last__plan",
    ]
    matrix = np.array([[2.0, 5.0, 0.5, 0.0]], np.float32)
    contributions = np.array([[0.3, 0.4, 0.2, 0.1]])
    told = top_reasons(columns, {"last__plan": ("gold", "other")}, matrix, contributions, 3)
    assert told == [["call: 5 times in 90 days"], ["plan is gold"], [None]]


def test_only_what_pushes_upwards_all_told_is_a_reason():
    columns = ["count__touchpoint=call__30d", "count__touchpoint=call__90d", "tenure_days"]
    matrix = np.array([[2.0, 5.0, 9.0], [2.0, 5.0, NAN]])
    contributions = np.array([[0.3, -0.4, -0.1], [0.3, -0.2, 0.2]])
    assert top_reasons(columns, {}, matrix, contributions, 2) == [
        [None, "no event yet"],
        [None, "call: 2 times in 30 days"],
    ]


def test_no_reasons_and_no_rows():
    assert top_reasons(["tenure_days"], {}, np.ones((2, 1)), np.ones((2, 1)), 0) == []
    assert top_reasons(["tenure_days"], {}, np.ones((0, 1)), np.ones((0, 1)), 2) == [[], []]


COLUMNS = [
    "tenure_days", "days_since_first__all", "count__touchpoint=call__30d", "share__touchpoint=call__90d",
    "mean__value__30d", "last2__value__90d", "last__plan", "night_owl", "p_alive",
]  # fmt: skip
cells = st.sampled_from([0.0, 1.0, 2.5, NAN])
pushes = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])


@given(st.lists(st.lists(st.tuples(cells, pushes), min_size=9, max_size=9), min_size=1, max_size=4), st.integers(0, 4))
def test_reasons_are_those_of_the_definition(rows, n_reasons):
    matrix = np.array([[cell for cell, _ in row] for row in rows], np.float32)
    matrix[:, 6] = np.where(matrix[:, 6] > 1, 1, matrix[:, 6])
    contributions = np.array([[push for _, push in row] for row in rows])
    vocabulary = {"last__plan": ("gold", "other")}
    told = top_reasons(COLUMNS, vocabulary, matrix, contributions, n_reasons)
    assert len(told) == n_reasons
    for row in range(len(rows)):
        assert [told[rank][row] for rank in range(n_reasons)] == naive(matrix[row], contributions[row], n_reasons)


def naive(values, contributions, n_reasons):
    """Reasons of one row: subjects whose sum is positive, the largest first, in the words of their strongest column."""
    groups = {}
    for column, name in enumerate(COLUMNS):
        groups.setdefault(subject_of(name, name == "last__plan"), []).append(column)
    totals = [(sum(contributions[c] for c in columns), columns) for columns in groups.values()]
    chosen = sorted((t for t in totals if t[0] > 0), key=lambda t: -t[0])[:n_reasons]  # stable: ties by first column
    best = [max(columns, key=lambda c: contributions[c]) for _, columns in chosen]
    texts = [describe_value(COLUMNS[c], float(values[c]), ("gold", "other") if c == 6 else ()) for c in best]
    return texts + [None] * (n_reasons - len(texts))


def test_one_row_alone_has_the_reasons_it_has_among_many():
    rng = np.random.default_rng(0)
    matrix, contributions = (
        rng.integers(0, 2, (50, len(COLUMNS))).astype(np.float32),
        rng.normal(size=(50, len(COLUMNS))),
    )
    vocabulary = {"last__plan": ("gold", "other")}
    together = top_reasons(COLUMNS, vocabulary, matrix, contributions, 3)
    for row in range(50):
        alone = top_reasons(COLUMNS, vocabulary, matrix[row : row + 1], contributions[row : row + 1], 3)
        assert [texts[0] for texts in alone] == [texts[row] for texts in together]


def test_nothing_but_the_number_is_put_together_for_each_value():
    from cxml.explain import reasons

    reasons.wording.cache_clear()
    for value in range(100):
        describe_value("mean__duration@stage=support__30d", float(value))
    assert reasons.wording.cache_info().misses == 1
    assert reasons.wording.cache_info().hits == 99


def test_rates_among_peers_are_told_with_the_attribute_and_its_last_value():
    assert describe_value("peer_churn__plan", 0.123) == "12 % of others with the same plan left"
    assert describe_value("peer_score__home_town", 7.25) == "others with the same home town give 7.2 on average"
    assert describe_value("peer_churn__plan", NAN) == "how others with the same plan fared is not known"
    assert subject_of("peer_churn__plan") == subject_of("last__plan", categorical=True) == "plan"


def test_likeness_is_told_as_odds():
    assert describe_value("mean__likeness__90d", 0.4) == "mean odds of a bad end 1.5 times the usual in 90 days"
    assert describe_value("last__likeness__90d", 0.0) == "last odds of a bad end as usual in 90 days"
    told = "last path's odds of a bad end 1.5 times the usual in 90 days"
    assert describe_value("last__likeness_path__90d", 0.4) == told
