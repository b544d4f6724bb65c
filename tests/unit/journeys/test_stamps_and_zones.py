"""Whatever way a moment is written, it is the same microsecond."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cxml.config import SourceConfig
from cxml.errors import ConfigError
from cxml.journeys.read import read_journeys
from cxml.journeys.stamps import check_zone, local_to_utc, utc_to_local
from cxml.times import parse_instant

NOON = parse_instant("2024-07-01T12:00:00.123456Z")


def times(stamps: object, **settings: object) -> list[int]:
    n = len(stamps)  # type: ignore[arg-type]
    rows = pa.table({"customer_id": list(range(n)), "timestamp": stamps, "touchpoint": ["a"] * n})
    return read_journeys(rows, **settings).block.time.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "2024-07-01T12:00:00.123456Z",
        "2024-07-01 12:00:00.123456789+00",
        "2024-07-01T14:00:00.123456+02:00",
        "2024-07-01T06:30:00.123456-0530",
        " 2024-07-01T12:00:00.123456Z ",
    ],
)
def test_texts_with_an_offset_need_no_zone(text: str) -> None:
    assert times(pa.array([text])) == [NOON]


@pytest.mark.parametrize("text", ["2024-07-01T14:00:00.123456", "2024-07-01 14:00:00.1234569"])
def test_texts_without_an_offset_are_read_on_the_clock_of_the_zone(text: str) -> None:
    assert times(pa.array([text]), timezone="Europe/Berlin") == [NOON]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_typed_stamps_of_every_unit_agree(unit: str, zone: str | None) -> None:
    second = NOON // 1_000_000
    factor = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    stamps = pa.array([second * factor], pa.int64()).cast(pa.timestamp(unit, zone))
    assert times(stamps, timezone="UTC") == [second * 1_000_000]


def test_nanoseconds_are_cut_off_downwards_on_both_sides_of_1970() -> None:
    stamps = pa.array([-1, 999, 1_000], pa.timestamp("ns"))
    assert times(stamps, timezone="UTC") == [-1, 0, 1]


def test_dates_are_their_midnight() -> None:
    assert times(pa.array([dt.date(2024, 7, 1)]), timezone="Asia/Tokyo") == [parse_instant("2024-06-30T15:00Z")]


def test_a_source_may_have_a_clock_of_its_own(tmp_path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("customer_id,timestamp,touchpoint\n1,2024-07-01T14:00:00.123456,a\n")
    log = read_journeys(SourceConfig(path=str(path), timezone="Europe/Berlin"), timezone="UTC")
    assert log.block.time.tolist() == [NOON]


def test_known_is_the_later_of_happened_and_available() -> None:
    rows = pa.table(
        {
            "customer_id": [1, 1, 1],
            "timestamp": ["2024-01-01T00:00Z", "2024-01-02T00:00Z", "2024-01-03T00:00Z"],
            "touchpoint": ["a"] * 3,
            "available_at": ["2024-01-05", None, "2023-01-01"],
        }
    )
    block = read_journeys(rows, timezone="Asia/Tokyo").block
    assert block.known is not None
    assert (block.known - block.time).tolist() == [4 * 86_400_000_000 - 9 * 3_600_000_000, 0, 0]
    on_time = rows.set_column(3, "available_at", pa.array([None] * 3, pa.string()))
    assert read_journeys(on_time).block.known is None


def test_the_future_is_measured_on_the_clock_that_wrote_the_stamp() -> None:
    stamps = pa.array(["2024-07-01T14:00:00", "2024-07-01T14:00:01", "2024-07-01T12:00:01Z", "2024-07-01T12:00:00Z"])
    found = times(stamps, timezone="Europe/Berlin", as_of="2024-07-01T12:00:00Z")
    assert found == [parse_instant("2024-07-01T12:00:00Z")] * 2


def test_the_hour_that_comes_twice_means_its_first_coming_and_the_missing_hour_counts_on() -> None:
    stamps = pa.array(["2024-10-27 02:30:00", "2024-03-31 02:30:00", "2024-03-31 01:59:59", "2024-03-31 03:00:00"])
    assert times(stamps, timezone="Europe/Berlin") == [
        parse_instant("2024-10-27T00:30:00Z"),
        parse_instant("2024-03-31T01:30:00Z"),
        parse_instant("2024-03-31T00:59:59Z"),
        parse_instant("2024-03-31T01:00:00Z"),
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Monrovia"])
def test_clocks_agree_with_zoneinfo_at_every_hour_and_around_every_change(zone: str) -> None:
    hours = np.arange(parse_instant("1971-06-01"), parse_instant("1973-01-01"), 3_600_000_000)
    local = np.concatenate(
        [hours, hours + 1, hours - 1, [parse_instant("1960-03-27T01:30"), parse_instant("2150-07-01")]]
    )
    info = ZoneInfo(zone)
    expected = []
    for us in local.tolist():
        moment = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=us)).replace(tzinfo=info)
        expected.append((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1))
    np.testing.assert_array_equal(local_to_utc(local, zone), expected)


def test_there_and_back_is_where_one_was() -> None:
    assert local_to_utc(np.array([utc_to_local(NOON, "Asia/Kolkata")]), "Asia/Kolkata").tolist() == [NOON]


def test_local_to_utc_changes_no_input() -> None:
    local = np.array([NOON])
    for zone in ("UTC", "Asia/Tokyo"):
        local_to_utc(local, zone)[:] = 0
    assert local.tolist() == [NOON]


def test_unknown_zones_are_refused() -> None:
    assert check_zone("GMT") == "UTC"
    with pytest.raises(ConfigError, match="no time zone 'Mars/Base'"):
        check_zone("Mars/Base")
    with pytest.raises(ConfigError, match="no time zone"):
        times(pd.array(["2024-01-01"]), timezone="../etc/passwd")
