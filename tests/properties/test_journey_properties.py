"""Laws of reading: order, spread and way in do not matter; no row is lost."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.journeys.block import EventBlock
from cxml.journeys.read import read_journeys
from cxml.journeys.records import block_from_records

COLUMNS = (
    "customer_id", "timestamp", "sequence", "touchpoint", "channel", "value", "duration", "score", "case_id",
    "resolved", "available_at", "promised", "length", "level",
)  # fmt: skip
SETTINGS: dict[str, Any] = {"measures": ["length"], "attributes": ["level"], "timezone": "America/New_York"}

# few distinct values, so that ties are many and go deep into the order
numbers = st.one_of(st.none(), st.sampled_from([-1.5, -0.0, 0.0, 2.0, 1e300]))
texts = st.one_of(st.none(), st.sampled_from(["", " ", "a", "B", "é", "\U0001f600", "￿", "1", "007"]))
moments = st.one_of(
    st.sampled_from(["2024-11-03T01:30:00", "2024-03-10 02:30", "2024-01-01", "1969-12-31T23:59:59.999999"]),
    st.sampled_from(["2024-11-03T05:30:00Z", "2024-01-01T00:00:00+05:30", "2024-01-01T05:00:00.123456789Z"]),
)
event = st.fixed_dictionaries(
    {
        "timestamp": moments,
        "sequence": st.one_of(st.none(), st.sampled_from(["1", "2", "10.0"])),
        "touchpoint": st.sampled_from(["call", "play", "Play"]),
        "channel": texts,
        "value": numbers,
        "duration": numbers,
        "score": numbers,
        "case_id": texts,
        "resolved": st.one_of(st.none(), st.sampled_from(["yes", "No", "1", "false", ""])),
        "available_at": st.one_of(st.none(), moments),
        "promised": st.one_of(st.none(), moments),
        "length": st.one_of(st.none(), st.sampled_from(["1", "1.0", "2e3", "", "nan"])),
        "level": texts,
    }
)
customer = st.sampled_from(["1", "2", "10"])
row = st.tuples(customer, event).map(lambda pair: {"customer_id": pair[0], **pair[1]})


def table(rows: list[dict[str, Any]]) -> pa.Table:
    floats = ("value", "duration", "score")
    return pa.table({n: pa.array([r[n] for r in rows], pa.float64() if n in floats else pa.string()) for n in COLUMNS})


def assert_same(a: EventBlock, b: EventBlock) -> None:
    assert a.customers.dtype == b.customers.dtype
    np.testing.assert_array_equal(a.customers, b.customers)
    np.testing.assert_array_equal(a.starts, b.starts)
    np.testing.assert_array_equal(a.time, b.time)
    assert (a.known is None) == (b.known is None)
    if a.known is not None and b.known is not None:
        np.testing.assert_array_equal(a.known, b.known)
    assert list(a.categories) == list(b.categories)
    for name, coded in a.categories.items():
        assert coded.vocabulary == b.categories[name].vocabulary
        assert coded.codes.dtype == b.categories[name].codes.dtype == np.int32
        np.testing.assert_array_equal(coded.codes, b.categories[name].codes)
    assert list(a.measures) == list(b.measures)
    for name, values in a.measures.items():
        np.testing.assert_array_equal(values, b.measures[name])
        np.testing.assert_array_equal(np.signbit(values), np.signbit(b.measures[name]))


@settings(deadline=None, max_examples=30)
@given(st.lists(row, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_of_rows_and_their_spread_over_sources_do_not_matter(rows, random, n_sources) -> None:
    shuffled = random.sample(rows, len(rows))
    size = -(-len(rows) // n_sources)
    parts = [table(shuffled[i : i + size]) for i in range(0, len(rows), size)]
    one, other = read_journeys(table(rows), **SETTINGS), read_journeys(parts, **SETTINGS)
    assert_same(one.block, other.block)
    assert one.digest == other.digest


@settings(deadline=None, max_examples=40)
@given(st.lists(event, min_size=1, max_size=10), st.sampled_from(["7", "007", "x"]))
def test_a_journey_from_records_is_the_journey_from_a_table(events, who) -> None:
    rows = [{"customer_id": who, **one} for one in events]
    read = read_journeys(table(rows), **SETTINGS).block
    sent = block_from_records(rows, {}, measures=["length"], attributes=["level"], timezone="America/New_York")
    assert_same(read, sent)


typed = st.fixed_dictionaries(
    {
        "customer_id": st.just(5),
        "timestamp": st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2150, 1, 1)),
        "touchpoint": st.integers(0, 3),
        "channel": st.one_of(st.none(), st.sampled_from([1.0, 2.5, 1e20])),
        "value": st.one_of(st.none(), st.integers(-5, 5)),
        "resolved": st.booleans(),
    }
)


@settings(deadline=None, max_examples=30)
@given(st.lists(typed, min_size=1, max_size=8))
def test_typed_values_agree_between_records_and_frames(rows) -> None:
    frame = pd.DataFrame(rows, columns=list(rows[0]))
    frame["timestamp"] = frame["timestamp"].astype("datetime64[us]")
    frame["channel"] = frame["channel"].astype("float64")
    read = read_journeys(frame, timezone="Europe/Berlin").block
    assert_same(read, block_from_records(rows, {}, timezone="Europe/Berlin"))


spoiled = st.sampled_from(
    [
        {},
        {},
        {"customer_id": None},
        {"timestamp": "never"},
        {"touchpoint": ""},
        {"value": float("inf")},
        {"length": "long"},
    ]
)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(row, spoiled).map(lambda p: {**p[0], **p[1]}), max_size=12),
    st.sampled_from(["keep", "drop_exact"]),
)
def test_no_row_is_lost(rows, duplicates) -> None:
    good = {"customer_id": "1", "timestamp": "2024-01-01", "touchpoint": "a"}
    rows = [*rows, {name: good.get(name) for name in COLUMNS}]
    quality = read_journeys(table(rows), duplicates=duplicates, **SETTINGS).quality
    assert quality.rows_read == len(rows)
    assert quality.rows_read == quality.rows_kept + quality.rows_quarantined + quality.duplicates_dropped
    assert quality.rows_quarantined == sum(quality.reasons.values())
