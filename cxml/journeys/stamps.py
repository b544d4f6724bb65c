"""Moments that carry no zone: which instant a wall clock meant."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from cxml.errors import ConfigError, nearest
from cxml.journeys.block import Float64, Int64
from cxml.journeys.schema import FIRST_US, LAST_US, MISSING
from cxml.times import DAY_US, SECOND_US

_EPOCH = dt.datetime(1970, 1, 1)
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT"})


def check_zone(name: str) -> str:
    """Return the name of a time zone if there is one.

    Parameters
    ----------
    name : str
        A name of the IANA data base, e.g. ``"Europe/Berlin"``, or ``"UTC"``.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If no zone has this name; offers the nearest.

    Examples
    --------
    >>> check_zone("Europe/Berlin")
    'Europe/Berlin'
    """
    if name in _UTC_NAMES:
        return "UTC"
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"timezone: there is no time zone '{name}'{nearest(name, available_timezones())}") from None


def local_to_utc(local: Int64, zone: str) -> Int64:
    """Turn wall-clock microseconds into UTC microseconds.

    A wall-clock time that comes twice (the hour when summer time ends) means its first coming; one that never
    comes (the hour when it begins) is read with the offset from before the change, as ``fold=0`` of PEP 495 says.

    Parameters
    ----------
    local : int64 array
        Microseconds since 1970-01-01T00:00 on the local clock.
    zone : str
        A name that `check_zone` accepts.

    Returns
    -------
    int64 array of the same shape

    Examples
    --------
    >>> noon = np.array([43_200_000_000])
    >>> (noon - local_to_utc(noon, "Europe/Berlin")) / 3.6e9
    array([1.])
    """
    if zone in _UTC_NAMES or not len(local):
        return local.copy()
    days = np.clip(local, FIRST_US, LAST_US) // DAY_US
    first = int(days.min())
    present = np.zeros(int(days.max()) - first + 1, dtype=bool)
    present[days - first] = True
    offsets = np.zeros(len(present), dtype=np.int64)
    changing = []
    for day in np.flatnonzero(present).tolist():
        before, after, change = _day_offsets(zone, day + first)
        offsets[day] = before
        if change is not None:
            changing.append((day + first, after, change))
    shift = offsets[days - first]
    for day, after, change in changing:
        shift[(days == day) & (local >= change)] = after
    return local - shift


@lru_cache(maxsize=65_536)
def _day_offsets(zone: str, day: int) -> tuple[int, int, int | None]:
    """Offset at the start of a local day, at its end, and the local moment between; None when nothing changes."""
    info = ZoneInfo(zone)
    low, high = day * DAY_US, (day + 1) * DAY_US - SECOND_US
    before, after = _offset(info, low), _offset(info, high)
    if before == after:
        return before, after, None
    while high - low > SECOND_US:
        middle = (low + high) // 2 // SECOND_US * SECOND_US
        low, high = (middle, high) if _offset(info, middle) == before else (low, middle)
    return before, after, high


def _offset(info: ZoneInfo, local: int) -> int:
    moment = (_EPOCH + dt.timedelta(microseconds=local)).replace(tzinfo=info)
    offset = moment.utcoffset()
    return 0 if offset is None else offset // dt.timedelta(microseconds=1)


def days_until(moment: Int64, time: Int64) -> Float64:
    """Give the days from each event to a moment it speaks of.

    Parameters
    ----------
    moment, time : int64 arrays of shape (n,)
        UTC microseconds; the moment may be missing.

    Returns
    -------
    float64 array of shape (n,)
        Negative where the moment comes first, NaN where it is missing.

    Examples
    --------
    >>> days_until(np.array([3 * DAY_US, MISSING]), np.array([DAY_US, 0]))
    array([ 2., nan])
    """
    there = moment != MISSING
    return np.where(there, (np.where(there, moment, time) - time) / DAY_US, np.nan)


def utc_to_local(us: int, zone: str) -> int:
    """Return what the clock of a zone showed at a moment, as microseconds since 1970 on that clock.

    Examples
    --------
    >>> utc_to_local(0, "Asia/Tokyo") // 3_600_000_000
    9
    """
    if zone in _UTC_NAMES:
        return us
    offset = (_EPOCH.replace(tzinfo=dt.UTC) + dt.timedelta(microseconds=us)).astimezone(ZoneInfo(zone)).utcoffset()
    return us + (0 if offset is None else offset // dt.timedelta(microseconds=1))
