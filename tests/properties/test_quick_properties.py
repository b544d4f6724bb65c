"""Laws of the quick way through a request: whatever the events are, it reads what the thorough way reads."""

import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cxml.errors import CxmlError
from cxml.journeys.records import Reading, Survey, block_from_columns, read_block
from cxml.journeys.schema import STAMP_PATTERN
from cxml.scoring.quick import layout_of, read_quickly

READING = Reading(
    {"touchpoint": ("page", "touchpoint"), "value": ("amount", "value", "größe")},
    measures=("length",),
    attributes=("level",),
    timezone="Europe/Berlin",
    survey=Survey("survey", 0, 10),
)
LAYOUT = layout_of(READING)


class Text(str):
    """A kind of text."""


stamps = st.one_of(
    st.from_regex(re.compile(STAMP_PATTERN), fullmatch=True),
    st.datetimes(dt.datetime(1890, 1, 1), dt.datetime(2210, 1, 1)).map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes(dt.datetime(1890, 1, 1), dt.datetime(2210, 1, 1)).map(lambda moment: moment.isoformat(" ")),
    st.sampled_from(
        [
            "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29T23:59:59.999999999Z", "2024-01-01T00:00", "",
            "2024-01-01T00:00:00.1+01", "2024-01-01T00:00:00-0930", "2024-01-01T00:00:00+09:3", "0000-01-01",
            "2024-01-01T24:00Z", "2024-13-01", "2024-01-01T00:00:60Z", " 2024-01-01 ", "2024-01-01t00:00", "x" * 30,
            "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.1234567890Z", "2024-03-31T02:30:00", "٢٠٢٤-01-01",
        ]
    ),
    st.none(),
    st.sampled_from([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.date(2024, 1, 1), 1, 1.5]),
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(
        ["call", "survey", "größe", "日本", " ", "", "call ", "\ud800", Text("call"), None, True, 7, 7.0, 1.5]
    ),
    st.text(max_size=6),
    st.lists(st.none(), max_size=1),
)
numbers = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-12, 12), st.integers(-(2**70), 2**70),
    st.sampled_from(["3", "much", "", 10**400, -0.0, Decimal("4.5"), np.float64(2.5), np.int64(3), 2**53 + 1]),
)  # fmt: skip
column = {
    "timestamp": stamps, "page": texts, "touchpoint": texts, "channel": texts, "case_id": texts, "level": texts,
    "amount": numbers, "value": numbers, "größe": numbers, "score": numbers, "length": numbers, "resolved": numbers,
    "sequence": numbers, "available_at": stamps, "promised": stamps, "more": texts,
}  # fmt: skip
plain = {
    "timestamp": st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 3)).map(lambda m: m.isoformat() + "Z"),
    "page": st.sampled_from(["call", "survey", "größe"]),
}
good = {
    "channel": st.sampled_from(["web", None, "日本"]),
    "score": st.one_of(st.none(), st.integers(0, 10)),
    "amount": st.one_of(st.none(), st.floats(-5, 5), st.integers(-3, 3), st.booleans()),
    "value": st.floats(-5, 5),
    "resolved": st.sampled_from([True, False, None, 1, 0.0]),
    "sequence": st.one_of(st.none(), st.integers(0, 2)),
    "available_at": st.one_of(st.none(), plain["timestamp"]),
    "promised": st.one_of(st.none(), plain["timestamp"]),
}
customers = st.sampled_from([7, "7", "x", "größe", None, 2**70, True, 7.0])


def one_customer(events, customer, says):
    return [event | {"customer_id": customer} if said else event for event, said in zip(events, says, strict=False)]


def read(events, found):
    try:
        return read_block(events, READING, found)
    except CxmlError as error:
        return type(error).__name__, str(error)


def assert_read_alike(events):
    thorough, quick = read(events, None), read(events, read_quickly(events, LAYOUT))
    if isinstance(thorough, tuple) or isinstance(quick, tuple):
        assert quick == thorough
    else:
        assert_same_block(quick, thorough)


def assert_same_block(a, b):
    assert a.customers.tolist() == b.customers.tolist()
    assert a.customers.dtype == b.customers.dtype
    assert a.time.tolist() == b.time.tolist()
    assert (a.known is None) == (b.known is None)
    assert a.known is None or a.known.tolist() == b.known.tolist()
    assert list(a.categories) == list(b.categories)
    for name, coded in a.categories.items():
        assert coded.codes.dtype == np.int32
        assert coded.codes.tolist() == b.categories[name].codes.tolist()
        assert coded.vocabulary == b.categories[name].vocabulary
    assert list(a.measures) == list(b.measures)
    for name, values in a.measures.items():
        assert values.tobytes() == np.ascontiguousarray(b.measures[name]).tobytes(), name


any_event = st.fixed_dictionaries({}, optional=column)
good_event = st.fixed_dictionaries(plain, optional=good)
one_strange_value = st.sampled_from(list(column)).flatmap(lambda name: column[name].map(lambda value: {name: value}))


@settings(deadline=None, max_examples=300)
@given(st.lists(good_event, min_size=1, max_size=8), customers, st.lists(st.booleans(), min_size=8, max_size=8))
def test_good_events_are_read_alike(events, customer, says):
    events = one_customer(events, customer, says)
    assert_read_alike(events)


@settings(deadline=None, max_examples=300)
@given(st.lists(good_event, min_size=2, max_size=5), st.integers(0, 1), one_strange_value)
def test_one_strange_value_is_read_or_refused_alike(events, at, strange):
    assert_read_alike([event | strange if i == at else event for i, event in enumerate(events)])


@settings(deadline=None, max_examples=300)
@given(st.lists(any_event, min_size=1, max_size=5))
@example([{}])
@example([{"timestamp": "2024-01-01"}])
@example([{1: 2, ("page",): 3, "page": "a", "timestamp": "2024-01-01"}])
def test_any_events_are_read_or_refused_alike(events):
    assert_read_alike(events)


@settings(deadline=None, max_examples=200)
@given(stamps.filter(lambda stamp: isinstance(stamp, str)))
def test_a_stamp_is_read_alike(stamp):
    assert_read_alike([{"timestamp": stamp, "page": "a", "customer_id": 1}])


@settings(deadline=None, max_examples=100)
@given(st.lists(good_event, min_size=1, max_size=8))
def test_columns_are_read_as_events_are(events):
    keys = {key for event in events for key in event}
    table = {key: [event.get(key) for event in events] for key in keys}
    full = [{key: event.get(key) for key in keys} for event in events]
    assert_same_block(block_from_columns(table, READING), read_block(full, READING))


def test_what_good_events_hold_is_read_the_quick_way():
    events = [{"customer_id": 7, "timestamp": f"2024-01-01T00:00:0{i}Z", "page": "call", "score": i} for i in range(9)]
    found = read_quickly(events, LAYOUT)
    assert set(found) == {"customer_id", "timestamp", "touchpoint", "score"}
    assert all(column is not None for column in found.values())


def test_records_that_are_no_plain_dicts_go_the_thorough_way():
    class Record(dict):
        pass

    event = {"timestamp": "2024-01-01", "page": "call"}
    assert read_quickly([event, Record(event)], LAYOUT) is None
    assert read_quickly((event,), LAYOUT) is None
    assert read_quickly([event, None], LAYOUT) is None
    assert read_quickly([], LAYOUT) is None


def test_without_the_lock_of_the_interpreter_everything_goes_the_thorough_way(monkeypatch):
    monkeypatch.setattr("cxml.scoring.quick._HAS_LOCK", False)
    assert read_quickly([{"timestamp": "2024-01-01", "page": "call"}], LAYOUT) is None


def test_one_key_for_two_columns_has_no_layout():
    assert layout_of(Reading({"touchpoint": ("page",), "channel": ("page",)})) is None


def test_many_events_and_many_keys_are_read_alike():
    events = [
        {
            **{f"key {k} {i % 3}": k for k in range(60)},
            "timestamp": f"2024-01-01T00:00:00.{i:06}Z",
            "page": f"p{i % 700}",
        }
        for i in range(5_000)
    ]
    assert_read_alike(events)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 100])
def test_all_texts_different_or_all_alike_get_their_codes(n):
    for texts in ([f"{i % 10}{i}" for i in range(n)], ["same"] * n):
        assert_read_alike([{"timestamp": f"2024-01-01T00:00:00.{i:06}Z", "page": t} for i, t in enumerate(texts)])
