"""One journey from a request: read like a file, refused by record and field."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from cxml.errors import ConfigError, DataError
from cxml.journeys.records import block_from_records
from cxml.times import parse_instant

COLUMNS = {
    "customer_id": ("user", "customer_id"),
    "timestamp": ("when",),
    "touchpoint": ("page",),
    "value": ("amount",),
}
EVENT = {"user": 7, "when": "2024-01-01T00:00:00Z", "page": "call", "amount": 1}


def test_it_needs_numpy_and_the_standard_library_only() -> None:
    heavy = "pandas pyarrow duckdb pydantic numba sklearn lightgbm mlflow yaml"
    code = (
        "import sys; from cxml.journeys.records import block_from_records as b\n"
        "b([{'timestamp': '2024-01-01', 'touchpoint': 'a'}], {}, timezone='Europe/Berlin')\n"
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "moment",
    [
        "2024-01-01T01:00:00+01:00",
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 1),
        dt.date(2024, 1, 1),
        pd.Timestamp("2024-01-01T01:00:00+0100"),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01T00:00:00.000000999", "ns"),
    ],
)
def test_moments_of_every_kind_are_read(moment: object) -> None:
    block = block_from_records([EVENT | {"when": moment}], COLUMNS, timezone="UTC")
    assert block.time.tolist() == [parse_instant("2024-01-01")]


def test_wall_clocks_need_a_zone_and_get_it() -> None:
    events = [EVENT, EVENT | {"when": "2024-07-01 12:00"}]
    with pytest.raises(ConfigError, match="record 2: timestamp carries no time zone"):
        block_from_records(events, COLUMNS)
    block = block_from_records(events, COLUMNS, timezone="Europe/Berlin")
    assert block.time.tolist()[1] == parse_instant("2024-07-01T10:00Z")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"when": None}, "record 2: timestamp is missing"),
        ({"when": "soon"}, r"record 2: timestamp is not readable.*\('soon'\)"),
        ({"when": 1704067200}, "timestamp is not readable"),
        ({"when": "2024-02-30T00:00Z"}, "timestamp is not readable"),
        ({"when": "1800-01-01T00:00Z"}, "timestamp is outside 1900 to 2200"),
        ({"page": " "}, "record 2: touchpoint is missing"),
        ({"page": None}, "record 2: touchpoint is missing"),
        ({"user": 8}, "record 2: customer_id is not that of record 1"),
        ({"user": None}, "record 2: customer_id is missing"),
        ({"amount": "ten"}, "record 2: value is not a number"),
        ({"amount": float("inf")}, "record 2: value is not finite"),
        ({"amount": [1]}, "value is not a number"),
        ({"resolved": "maybe"}, "resolved is neither yes nor no"),
        ({"sequence": 1.5}, "sequence is not a whole number"),
        ({"sequence": 2**63}, "sequence is not a whole number"),
        ({"available_at": "later"}, "available_at is not readable"),
        ({"promised": "soon"}, "promised is not readable"),
    ],
)
def test_a_bad_record_is_refused_by_number_and_field(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        block_from_records([EVENT, EVENT | change], COLUMNS)


def test_no_records_and_no_touchpoints_are_refused() -> None:
    with pytest.raises(DataError, match="no records"):
        block_from_records([], COLUMNS)
    with pytest.raises(DataError, match="touchpoint is missing"):
        block_from_records([{"when": "2024-01-01T00:00Z"}], COLUMNS)
    with pytest.raises(DataError, match="timestamp is missing"):
        block_from_records([{"page": "a"}], COLUMNS)


def test_values_of_many_types_mean_what_they_say() -> None:
    amounts = [1, 2.5, "3e1", Decimal("4.5"), np.float32(0.5), True, None, float("nan"), "", pd.NA, -0.0]
    events = [EVENT | {"amount": a, "sequence": i} for i, a in enumerate(amounts)]
    values = block_from_records(events, COLUMNS).measures["value"]
    np.testing.assert_array_equal(values, [1, 2.5, 30, 4.5, 0.5, 1, np.nan, np.nan, np.nan, np.nan, 0])
    assert not np.signbit(values[-1])


def test_only_columns_that_some_record_has_are_in_the_block() -> None:
    block = block_from_records([EVENT, EVENT | {"channel": None, "level": 3.0}], COLUMNS, attributes=["level", "plan"])
    assert set(block.categories) == {"touchpoint", "channel", "level"}
    assert block.categories["channel"].vocabulary == ()
    assert block.categories["level"].vocabulary == ("3",)
    assert set(block.measures) == {"value"}


def test_the_first_accepted_key_of_a_record_counts() -> None:
    block = block_from_records([{"customer_id": "a", "when": "2024-01-01T00:00Z", "page": "x"}], COLUMNS)
    assert block.customers.tolist() == ["a"]
    nameless = block_from_records([{"when": "2024-01-01T00:00Z", "page": "x"}], COLUMNS)
    assert nameless.customers.tolist() == [""]


def test_records_are_not_changed() -> None:
    events = [EVENT | {"when": "2024-01-02T00:00Z"}, dict(EVENT)]
    before = [dict(event) for event in events]
    block_from_records(events, COLUMNS)
    assert events == before
