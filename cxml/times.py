"""Durations and instants: one meaning everywhere, integer microseconds, UTC."""

from __future__ import annotations

import datetime as dt
import operator
import re
from dataclasses import dataclass
from typing import Any

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

_UNITS = {"w": 7 * DAY_US, "d": DAY_US, "h": 3600 * SECOND_US, "m": 60 * SECOND_US, "s": SECOND_US, "us": 1}
_LONGEST_US = 999_999 * DAY_US  # so that a moment of our era less a duration stays within int64
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
        """Read ``"30d"``, ``"2w"``, ``"12h"``, ``"15m"`` (minutes), ``"30s"``, ``"5us"``.

        Parameters
        ----------
        text : str, Duration, datetime.timedelta or pandas.Timedelta
            A whole number and a unit; anything finer than a microsecond is cut off.

        Returns
        -------
        Duration

        Raises
        ------
        ValueError
            If the text is anything else, not positive, or longer than 999999d.
        """
        if isinstance(text, Duration):
            return text
        if isinstance(text, dt.timedelta):
            us = text // dt.timedelta(microseconds=1)
        else:
            match = re.fullmatch(r"\s*(\d{1,18})\s*(us|[wdhms])\s*", str(text))
            if not match:
                raise ValueError(f"'{text}' is not a duration: write a whole number and a unit, such as 30d, 2w, 12h")
            us = int(match[1]) * _UNITS[match[2]]
        if us <= 0:
            raise ValueError(f"'{text}' is not a positive duration")
        if us > _LONGEST_US:
            raise ValueError(f"'{text}' is too long a duration: at most {_LONGEST_US // DAY_US}d")
        return cls(us)

    @property
    def days(self) -> float:
        """The length in days."""
        return self.us / DAY_US

    def __str__(self) -> str:
        unit = next(unit for unit in ("d", "h", "m", "s", "us") if self.us % _UNITS[unit] == 0)
        return f"{self.us // _UNITS[unit]}{unit}"


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
    if type(value).__name__ == "datetime64":
        value = value.astype("datetime64[us]").item()  # a datetime, an int beyond its years, None for NaT
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, str):
        value = _parse_iso(value)
    if isinstance(value, dt.datetime) and value == value:  # NaT is a datetime that is unlike itself
        aware = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
        return int((aware - _EPOCH) // dt.timedelta(microseconds=1))
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return (value - _EPOCH.date()).days * DAY_US
    raise ValueError(_NO_MOMENT.format(value))


_NO_MOMENT = "'{}' is not a moment in time: write 2024-01-31 or 2024-01-31T12:00:00Z"


def _parse_iso(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(_NO_MOMENT.format(text)) from None


def format_instant(us: int) -> str:
    """Write UTC microseconds as the shortest ISO text; beyond the years 1 to 9999, as the number itself.

    Parameters
    ----------
    us : int
        UTC microseconds since 1970.

    Returns
    -------
    str

    Examples
    --------
    >>> format_instant(1704067200000000), format_instant(1704067200500000)
    ('2024-01-01', '2024-01-01T00:00:00.500000Z')
    """
    try:
        moment = _EPOCH + dt.timedelta(microseconds=int(us))
    except OverflowError:
        return f"{us} us"
    if us % DAY_US == 0:
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat() + "Z"
