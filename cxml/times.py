"""Durations and instants: one meaning everywhere, integer microseconds, UTC."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

_UNITS = {"w": 7 * DAY_US, "d": DAY_US, "h": 3600 * SECOND_US, "m": 60 * SECOND_US, "s": SECOND_US}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, order=True, slots=True)
class Duration:
    """A length of time.

    Parameters
    ----------
    us : int
        Microseconds, positive.

    Examples
    --------
    >>> Duration.parse("30d").days
    30.0
    >>> str(Duration.parse("48h")), str(Duration.parse("90m"))
    ('2d', '90m')
    """

    us: int

    @classmethod
    def parse(cls, text: Any) -> Duration:
        """Read ``"30d"``, ``"2w"``, ``"12h"``, ``"15m"`` (minutes), ``"30s"``; a `Duration` or timedelta passes.

        Raises
        ------
        ValueError
            If the text is anything else, or not positive.
        """
        if isinstance(text, Duration):
            return text
        if isinstance(text, dt.timedelta):
            us = text // dt.timedelta(microseconds=1)
        else:
            match = re.fullmatch(r"\s*(\d{1,6})\s*([wdhms])\s*", str(text))
            if not match:
                raise ValueError(f"'{text}' is not a duration: write a whole number and a unit, such as 30d, 2w, 12h")
            us = int(match[1]) * _UNITS[match[2]]
        if us <= 0:
            raise ValueError(f"'{text}' is not a positive duration")
        return cls(us)

    @property
    def days(self) -> float:
        """The length in days."""
        return self.us / DAY_US

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self.us % _UNITS[unit] == 0:
                return f"{self.us // _UNITS[unit]}{unit}"
        return f"{self.us}us"


def parse_instant(value: Any) -> int:
    """Read a moment as UTC microseconds since 1970.

    Parameters
    ----------
    value : int, str, date, datetime, pandas.Timestamp or numpy.datetime64
        Integers are microseconds already. A moment without a zone is UTC; a date is its midnight.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is no moment.

    Examples
    --------
    >>> parse_instant("2024-01-01")
    1704067200000000
    >>> parse_instant("2024-01-01T01:00:00+01:00") == parse_instant("2024-01-01")
    True
    """
    if isinstance(value, bool):
        raise ValueError(f"'{value}' is not a moment in time")
    if isinstance(value, int):
        return value
    if type(value).__module__ == "numpy":
        if type(value).__name__ == "datetime64":
            return int(value.astype("datetime64[us]").astype("int64"))
        return int(value)
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"'{value}' is not a moment in time: write 2024-01-31 or 2024-01-31T12:00:00Z") from None
    if isinstance(value, dt.datetime):
        aware = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
        return (aware - _EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).days * DAY_US
    raise ValueError(f"'{value}' is not a moment in time: write 2024-01-31 or 2024-01-31T12:00:00Z")


def format_instant(us: int) -> str:
    """Write UTC microseconds as the shortest ISO text.

    Examples
    --------
    >>> format_instant(1704067200000000), format_instant(1704067200500000)
    ('2024-01-01', '2024-01-01T00:00:00.500000Z')
    """
    moment = _EPOCH + dt.timedelta(microseconds=int(us))
    if us % DAY_US == 0:
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat() + "Z"
