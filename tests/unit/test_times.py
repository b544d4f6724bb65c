import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxml.times import DAY_US, SECOND_US, Duration, format_instant, parse_instant

NEW_YEAR = 1_704_067_200 * SECOND_US  # 2024-01-01T00:00:00Z
microseconds = st.integers(-(2**62), 2**62)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1s", SECOND_US),
        ("2m", 120 * SECOND_US),
        ("3h", 3 * 3600 * SECOND_US),
        ("30d", 30 * DAY_US),
        ("2w", 14 * DAY_US),
        ("5us", 5),
        (" 7 d ", 7 * DAY_US),
        (dt.timedelta(hours=36), 36 * 3600 * SECOND_US),
        (pd.Timedelta(90, "s"), 90 * SECOND_US),
        (Duration(5), 5),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text, us):
    assert Duration.parse(text) == Duration(us)


@pytest.mark.parametrize(
    "text", ["", "d", "30", 30, "1.5d", "-3d", "30 days", "1mo", "3M", "1d12h", None, True, pd.NaT]
)
def test_anything_else_is_no_duration(text):
    with pytest.raises(ValueError, match=r"is not a duration: write a whole number and a unit"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["0d", "0us", dt.timedelta(0), dt.timedelta(days=-1)])
def test_a_duration_is_positive(text):
    with pytest.raises(ValueError, match="is not a positive duration"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["1000000d", "9" * 18 + "w", dt.timedelta.max])
def test_a_duration_leaves_room_for_subtraction_in_64_bits(text):
    with pytest.raises(ValueError, match="too long a duration: at most 999999d"):
        Duration.parse(text)


@given(st.integers(1, 999_999 * DAY_US))
def test_a_duration_survives_being_written_and_read(us):
    assert Duration.parse(str(Duration(us))) == Duration(us)


def test_a_duration_is_written_in_its_largest_whole_unit_up_to_days():
    assert [str(Duration.parse(text)) for text in ("24h", "90m", "3600s", "2w")] == ["1d", "90m", "1h", "14d"]


def test_durations_sort_by_length():
    assert [str(d) for d in sorted(map(Duration.parse, ["1w", "2d", "25h"]))] == ["25h", "2d", "7d"]


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-01",
        " 2024-01-01T00:00:00Z ",
        "2024-01-01 01:00:00+01:00",
        np.str_("2024-01-01"),
        dt.date(2024, 1, 1),
        dt.datetime(2024, 1, 1),
        dt.datetime(2023, 12, 31, 19, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
        pd.Timestamp("2024-01-01"),
        pd.Timestamp("2024-01-01 01:00", tz="Europe/Berlin"),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01T00:00:00", "ns"),
        NEW_YEAR,
        np.int64(NEW_YEAR),
    ],
    ids=repr,
)
def test_one_moment_has_one_number_however_it_is_written(value):
    instant = parse_instant(value)
    assert instant == NEW_YEAR
    assert type(instant) is int


@pytest.mark.parametrize(
    "value",
    ["soon", "2024-13-01", "", None, True, np.True_, 1.5, np.float64(1.5), np.nan, pd.NaT, np.datetime64("NaT"), pd.NA],
    ids=repr,
)
def test_what_is_no_moment_is_refused(value):
    with pytest.raises(ValueError, match="is not a moment in time: write 2024-01-31"):
        parse_instant(value)


def test_the_nanoseconds_of_a_moment_are_cut_off():
    assert parse_instant(pd.Timestamp("2024-01-01T00:00:00.000000999")) == NEW_YEAR


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_a_moment_survives_being_written_and_read(moment):
    instant = parse_instant(moment)
    assert parse_instant(format_instant(instant)) == instant


@given(microseconds)
def test_every_number_can_be_written(us):
    assert format_instant(us)


def test_a_moment_is_written_as_short_as_it_can_be():
    assert [format_instant(NEW_YEAR + us) for us in (0, SECOND_US, 1)] == [
        "2024-01-01",
        "2024-01-01T00:00:01Z",
        "2024-01-01T00:00:00.000001Z",
    ]
