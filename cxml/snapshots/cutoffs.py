"""When to look: the grid of cutoffs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxml.config import SnapshotsConfig
from cxml.errors import DataError
from cxml.times import DAY_US, format_instant

Int64 = NDArray[np.int64]


def cutoff_grid(config: SnapshotsConfig, *, first: int, observed_until: int, shortest: int, longest: int) -> Int64:
    """Return the cutoffs that a log can bear, ascending.

    A cutoff is usable when the shortest horizon after it was observed. Without ``start`` the grid is laid
    so that one cutoff has exactly the longest horizon after it: no observed day of outcome is wasted.

    Parameters
    ----------
    config : SnapshotsConfig
        Distance, and the first and last cutoff where they are given.
    first, observed_until : int
        Span of the log, UTC microseconds; the end is exclusive.
    shortest, longest : int
        Horizons in microseconds.

    Returns
    -------
    int64 array of shape (n_cutoffs,)

    Raises
    ------
    DataError
        If no cutoff fits into the log.

    Examples
    --------
    >>> from cxml.times import parse_instant
    >>> grid = cutoff_grid(SnapshotsConfig(every="30d", lookback="90d"), first=parse_instant("2024-01-01"),
    ...                    observed_until=parse_instant("2024-08-01"), shortest=30 * DAY_US, longest=90 * DAY_US)
    >>> [format_instant(t) for t in grid]
    ['2024-03-04', '2024-04-03', '2024-05-03', '2024-06-02', '2024-07-02']
    """
    latest = observed_until - shortest
    if config.end is not None:
        latest = min(latest, config.end)
    if config.start is not None:
        anchor = earliest = config.start
    else:
        anchor = (observed_until - longest) // DAY_US * DAY_US
        earliest = first + min(config.lookback.us, (observed_until - first) // 4)
    low = -((anchor - earliest) // config.every.us)
    high = (latest - anchor) // config.every.us
    grid = anchor + np.arange(low, high + 1, dtype=np.int64) * config.every.us
    grid = grid[(grid > first) & (grid >= earliest) & (grid <= latest)]
    if not len(grid):
        raise DataError(_no_cutoff(config, first, observed_until, shortest, earliest))
    return grid


def _no_cutoff(config: SnapshotsConfig, first: int, observed_until: int, shortest: int, earliest: int) -> str:
    span = f"no cutoff fits: the log runs from {format_instant(first)} to {format_instant(observed_until)}"
    if config.end is not None and config.end < max(earliest, first + 1):
        return (
            f"{span}, a cutoff needs history before it, and the last one allowed, snapshots.end "
            f"{format_instant(config.end)}, lies before {format_instant(max(earliest, first))}. "
            "Give a later snapshots.end, or leave it out."
        )
    start = f", from snapshots.start {format_instant(config.start)} on" if config.start is not None else ""
    another = ", or another snapshots.start" if config.start is not None else ""
    return (
        f"{span} and a cutoff needs events before it and a horizon of {shortest / DAY_US:g} days after it{start}. "
        f"Give a longer log or shorter horizons{another}."
    )
