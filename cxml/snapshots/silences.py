"""Silences: the stretches between active moments, and what was known of them when the log ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig
from cxml.errors import ConfigError, DataError, nearest
from cxml.journeys.block import EventBlock
from cxml.snapshots.timeline import ACTIVITY, CHURN, END, START, churn_timeline
from cxml.times import DAY_US, format_instant, parse_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: A moment that never comes, UTC microseconds.
NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Moments:
    """When customers were active, customer by customer; customers without activity are left out.

    Parameters
    ----------
    starts : int64 array of shape (n_customers + 1,)
        Moments of customer ``i`` are ``starts[i]:starts[i + 1]``.
    time : int64 array of shape (n_moments,)
        UTC microseconds, ascending within a customer.
    closed : int64 array of shape (n_moments,)
        When the journey ended without churn (`churn.ends`) in the silence after the moment; `NEVER` where it did not.
    first, until : int
        Span of the log, UTC microseconds; the end is exclusive.
    """

    starts: Int64
    time: Int64
    closed: Int64
    first: int
    until: int

    @property
    def n_customers(self) -> int:
        """How many customers were ever active."""
        return len(self.starts) - 1

    @property
    def span_days(self) -> int:
        """Whole days from the first event to the end."""
        return (self.until - self.first) // DAY_US

    @property
    def customer(self) -> Int64:
        """The customer of each moment."""
        return np.repeat(np.arange(self.n_customers), np.diff(self.starts))

    @property
    def following(self) -> Int64:
        """The next moment of the same customer, UTC microseconds; `NEVER` after the last."""
        following = np.full(len(self.time), NEVER)
        following[:-1] = self.time[1:]
        following[self.starts[1:] - 1] = NEVER
        return following

    def before(self, until: int) -> Moments:
        """Return the moments as a log that ends at ``until`` would have told them.

        Parameters
        ----------
        until : int
            UTC microseconds, exclusive.

        Returns
        -------
        Moments
        """
        seen = self.time < until
        counts = np.bincount(self.customer[seen], minlength=self.n_customers)
        starts = np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        closed = np.where(self.closed[seen] < until, self.closed[seen], NEVER)
        return Moments(starts, self.time[seen], closed, self.first, min(until, self.until))


@dataclass(frozen=True, slots=True)
class Silences:
    """One row a silence, in whole days; stretches that were not followed for a day are left out.

    A silence begins with an active moment. Only whole days count: of a day that the log cuts in two, only those who
    came back early would show it.

    Parameters
    ----------
    customer : int64 array of shape (n,)
        Running number of the customer, ascending.
    began : int64 array of shape (n,)
        The active moment it begins with, UTC microseconds.
    days : int64 array of shape (n,)
        Whole days without activity.
    returned : bool array of shape (n,)
        True: activity came in the day after these; False: not known, the silence was followed no further (censored).
    followed : int64 array of shape (n,)
        Whole days it could have been followed.
    """

    customer: Int64
    began: Int64
    days: Int64
    returned: Bool
    followed: Int64

    def where(self, chosen: Bool) -> Silences:
        """Return some of the silences."""
        return Silences(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everybody who was ever active before a day, as that day finds them.

    Parameters
    ----------
    day : int
        UTC microseconds.
    moment : int64 array of shape (n,)
        Index of the last active moment before the day.
    customer : int64 array of shape (n,)
    silent_us : int64 array of shape (n,)
        Microseconds since that moment.
    back_us : int64 array of shape (n,)
        Microseconds from the day to the next activity; `NEVER` where the log has none.
    """

    day: int
    moment: Int64
    customer: Int64
    silent_us: Int64
    back_us: Int64


def read_moments(log: JourneyLog, churn: ChurnConfig | None = None, until: Any = None) -> Moments:
    """Find the active moments of everybody.

    What counts as activity is `journeys.activity`, or any touchpoint where that is empty; `churn.touchpoints` and
    `churn.ends` are no activity, and with `churn.starts` a customer begins there. Events count by when they happened,
    however late they became known: the question is what customers did, not what a feed told in time.

    Parameters
    ----------
    log : JourneyLog
    churn : ChurnConfig, optional
        The present meaning of churn; only its starts, ends and touchpoints are looked at.
    until : date, optional
        Read the log as if it ended here; default: just after its last event.

    Returns
    -------
    Moments

    Raises
    ------
    ConfigError
        If ``until`` is no moment, or not within the log.
    DataError
        If none of the activity occurs.

    Examples
    --------
    >>> import cxml, pandas as pd
    >>> log = cxml.read_journeys(pd.DataFrame({
    ...     "customer_id": [1, 1, 2], "touchpoint": "order",
    ...     "timestamp": pd.to_datetime(["2024-01-01", "2024-02-10", "2024-03-31"], utc=True)}))
    >>> moments = read_moments(log)
    >>> moments.n_customers, moments.span_days
    (2, 90)
    """
    end = log.last + 1 if until is None else _end(until, log)
    activity = list(log.config.activity)
    known = log.events.touchpoints
    if activity and not set(activity) & set(known):
        raise DataError(
            f"journeys.activity: none of {', '.join(activity)} occurs in the log{nearest(activity[0], known)}"
        )
    churn = churn or ChurnConfig(kind="inactivity")
    parts = [_of_block(block, churn, activity, end) for block in log.blocks({"touchpoint"})]
    ids, counts, time, closed = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(ids):
        raise DataError(f"nobody was active before {format_instant(end)}; check journeys.activity and churn.starts")
    order = np.argsort(ids, kind="stable")  # blocks are each in order, but not one after the other
    starts = np.concatenate([[0], np.cumsum(counts[order])]).astype(np.int64)
    lies_at = (np.cumsum(counts) - counts)[order]
    moment = np.repeat(lies_at - starts[:-1], counts[order]) + np.arange(len(time))
    return Moments(starts, time[moment], closed[moment], log.first, end)


def _end(until: Any, log: JourneyLog) -> int:
    try:
        end = parse_instant(until)
    except ValueError as error:
        raise ConfigError(f"until: {error}") from None
    if not log.first < end <= log.last + 1:
        span = f"{format_instant(log.first)} to {format_instant(log.last)}"
        raise ConfigError(f"until: {format_instant(end)} is not within the log, which runs from {span}")
    return end


def _of_block(
    block: EventBlock, churn: ChurnConfig, activity: list[str], until: int
) -> tuple[NDArray[np.generic], Int64, Int64, Int64]:
    """Moments of one block: whose, how many each has, when, and where the journey ended after them."""
    role = churn_timeline(block, churn, activity).role
    owner = np.repeat(np.arange(block.n_customers), np.diff(block.starts))
    seen = block.time < until
    if churn.starts:
        begun = np.concatenate([[0], np.cumsum((role & START) > 0)])
        seen &= begun[1:] > begun[block.starts[owner]]
    ends = seen & ((role & END) > 0)
    active = seen & ((role & ACTIVITY) > 0) & ((role & (CHURN | END)) == 0)
    time, owner_active = block.time[active], owner[active]
    closed = np.full(len(time), NEVER)
    place = np.cumsum(active)[ends] - 1  # the last active moment so far: of the same customer, if there was one
    mine = place >= 0
    mine[mine] = owner_active[place[mine]] == owner[ends][mine]
    np.minimum.at(closed, place[mine], block.time[ends][mine])
    counts = np.bincount(owner_active, minlength=block.n_customers)
    return block.customers[counts > 0], counts[counts > 0], time, closed


def find_silences(moments: Moments) -> Silences:
    """Measure the silence after every active moment.

    Parameters
    ----------
    moments : Moments

    Returns
    -------
    Silences

    Examples
    --------
    >>> day = 86_400_000_000
    >>> once_then_after_10_days = Moments(np.array([0, 2]), np.array([0, 10 * day]), np.full(2, NEVER), 0, 35 * day)
    >>> found = find_silences(once_then_after_10_days)
    >>> found.days.tolist(), found.returned.tolist(), found.followed.tolist()
    ([10, 25], [True, False], [35, 25])
    """
    followed = (np.minimum(moments.closed, moments.until) - moments.time) // DAY_US
    gap = (moments.following - moments.time) // DAY_US
    returned = gap < followed
    days = np.where(returned, gap, followed)
    kept = days > 0
    return Silences(moments.customer, moments.time, days, returned, followed).where(kept)


def inspection_days(first: int, last: int, most: int) -> list[int]:
    """Spread at most so many days evenly over ``[first, last]``, the last one among them; UTC microseconds."""
    if last < first:
        return []
    step = max(DAY_US, (last - first) // max(most - 1, 1) // DAY_US * DAY_US)
    return list(range(last, first - 1, -step))[:most][::-1]


def inspect(moments: Moments, days: list[int]) -> Iterator[Inspection]:
    """Look at everybody on some days, as the package's snapshots do: who was last active when, who comes back when.

    Customers whose journey has ended without churn by the day are left out.

    Parameters
    ----------
    moments : Moments
    days : list of int
        UTC microseconds.

    Yields
    ------
    Inspection

    Examples
    --------
    >>> day = 86_400_000_000
    >>> moments = Moments(np.array([0, 2]), np.array([0, 10 * day]), np.full(2, NEVER), 0, 35 * day)
    >>> [(one.silent_us // day, one.back_us // day) for one in inspect(moments, [4 * day])]
    [(array([4]), array([6]))]
    """
    following = moments.following
    for day in days:
        so_far = np.concatenate([[0], np.cumsum(moments.time < day)])
        count = so_far[moments.starts[1:]] - so_far[moments.starts[:-1]]
        customer = np.flatnonzero(count)
        moment = moments.starts[customer] + count[customer] - 1
        open_still = moments.closed[moment] >= day
        customer, moment = customer[open_still], moment[open_still]
        back = np.where(following[moment] == NEVER, NEVER, following[moment] - day)
        yield Inspection(day, moment, customer, day - moments.time[moment], back)
