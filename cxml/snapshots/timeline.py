"""Who is at risk at a cutoff, and what happened next: one pass over each customer's events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.config import ChurnConfig
from cxml.journeys.block import Coded, EventBlock

Int64 = NDArray[np.int64]
Uint8 = NDArray[np.uint8]

# What an event means for the timeline; bits, because a touchpoint may be several things.
ACTIVITY, CHURN, START, END, HIDDEN = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events reduced to what they mean for being at risk, and the rules of this kind of churn.

    Parameters
    ----------
    starts, time : int64 arrays
        As in `EventBlock`.
    known : int64 array
        When each event became known.
    role : uint8 array
        Bits of what the event means.
    returns : bool
        True where the awaited outcome is the next activity (kind ``inactivity``).
    needs_start : bool
        True where a customer is at risk only after a START.
    reopens : bool
        True where activity after leaving makes a customer again.
    reason : int8 array, optional
        Position of the reason that each event gives for leaving, -1 where none; only where the config has reasons.
    """

    starts: Int64
    time: Int64
    known: Int64
    role: Uint8
    returns: bool
    needs_start: bool
    reopens: bool
    reason: NDArray[np.int8] | None = None


def churn_timeline(
    block: EventBlock,
    config: ChurnConfig,
    activity: list[str],
    leavers: tuple[NDArray[np.generic], Int64] | None = None,
) -> Timeline:
    """Reduce a block to its timeline.

    Parameters
    ----------
    block : EventBlock
    config : ChurnConfig
    activity : list of str
        Touchpoints that count as activity; empty means every touchpoint.
    leavers : (ids, int64 array), optional
        For kind ``table``: who left and when (UTC microseconds).

    Returns
    -------
    Timeline
    """
    touchpoint = block.categories["touchpoint"]
    role = _bits(touchpoint, activity, ACTIVITY) if activity else np.full(block.n_events, ACTIVITY, np.uint8)
    role |= _bits(touchpoint, config.touchpoints, CHURN)
    role |= _bits(touchpoint, config.starts, START)
    role |= _bits(touchpoint, config.ends, END)
    if config.kind == "event":  # leaving is not a sign of life, even where everything counts as activity
        role = np.where(role & (CHURN | END), role & ~np.uint8(ACTIVITY), role).astype(np.uint8)
    starts, time, known = block.starts, block.time, block.time if block.known is None else block.known
    if leavers is not None:
        starts, time, known, role = _with_leavers(block, known, role, *leavers)
    return Timeline(
        starts=starts,
        time=time,
        known=known,
        role=role,
        returns=config.kind == "inactivity",
        needs_start=bool(config.starts),
        reopens=bool(activity),
        reason=_reasons(touchpoint, config) if config.reasons else None,
    )


def _reasons(column: Coded, config: ChurnConfig) -> NDArray[np.int8]:
    place = {name: r for r, touchpoints in enumerate(config.reasons.values()) for name in touchpoints}
    given = np.array([place.get(name, -1) for name in column.vocabulary] + [-1], dtype=np.int8)
    reasons: NDArray[np.int8] = given[column.codes]
    return reasons


def _bits(column: Coded, names: list[str], bit: int) -> Uint8:
    wanted = np.array([bit if name in set(names) else 0 for name in column.vocabulary] + [0], dtype=np.uint8)
    bits: Uint8 = wanted[column.codes]  # code -1 (missing) finds the last entry, 0
    return bits


def _with_leavers(
    block: EventBlock, known: Int64, role: Uint8, ids: NDArray[np.generic], when: Int64
) -> tuple[Int64, Int64, Int64, Uint8]:
    """Merge dated leavings into the events; hidden, so that they never count as contact."""
    place = np.searchsorted(block.customers, ids)
    place = np.minimum(place, max(block.n_customers - 1, 0))
    match = block.customers[place] == ids
    place, when = place[match], when[match]
    owner = np.repeat(np.arange(block.n_customers), np.diff(block.starts))
    owner, time = np.concatenate([owner, place]), np.concatenate([block.time, when])
    known = np.concatenate([known, when])
    role = np.concatenate([role, np.full(len(when), CHURN | HIDDEN, np.uint8)])
    order = np.lexsort((role & HIDDEN, time, owner))
    starts = np.searchsorted(owner[order], np.arange(block.n_customers + 1)).astype(np.int64)
    return starts, time[order], known[order], role[order]


@njit(cache=True, nogil=True)
def scan(starts, time, known, role, cutoffs, lookback, until, returns, needs_start, reopens):  # type: ignore[no-untyped-def]  # compiled
    """Find who is at risk at each cutoff, and the outcome as seen from ``until``.

    Parameters
    ----------
    starts, time, known, role : arrays
        See `Timeline`.
    cutoffs : int64 array, ascending
    lookback : int
        A customer is looked at when seen in ``[cutoff - lookback, cutoff)``; microseconds.
    until : int
        End of observation: what happened or became known at or after it is not seen.
    returns, needs_start, reopens : bool
        See `Timeline`.

    Returns
    -------
    customer : int64 array
        Index of the customer, ascending; cutoffs ascend within.
    cutoff : int64 array
    duration : int64 array
        Microseconds from the cutoff to the outcome or to the end of observation; -1 when known never to come.
    observed : bool array
        Whether the outcome was seen.
    """
    room = (len(starts) - 1) * len(cutoffs)
    customer = np.empty(room, np.int64)
    cutoff = np.empty(room, np.int64)
    duration = np.empty(room, np.int64)
    observed = np.empty(room, np.bool_)
    n = 0
    for i in range(len(starts) - 1):
        for t in cutoffs:
            last_seen = -1
            started = not needs_start
            gone = False
            late_leaving = False
            ahead = starts[i + 1]
            for e in range(starts[i], starts[i + 1]):
                if time[e] >= t:
                    ahead = e
                    break
                if known[e] >= t:
                    late_leaving = late_leaving or ((role[e] & CHURN) != 0 and known[e] < until)
                    continue
                if (role[e] & HIDDEN) == 0:
                    last_seen = e
                if role[e] & START:
                    started = True
                if role[e] & (CHURN | END):
                    gone = True
                elif reopens and role[e] & ACTIVITY:
                    gone = False
            if last_seen < 0 or time[last_seen] < t - lookback or not started or (gone and not returns):
                continue
            customer[n], cutoff[n] = i, t
            duration[n], observed[n] = max(until - t, 0), False
            if late_leaving and not returns:
                duration[n], observed[n] = 0, True
            else:
                for e in range(ahead, starts[i + 1]):
                    if time[e] >= until:
                        break
                    if known[e] >= until:
                        continue
                    if role[e] & (ACTIVITY if returns else CHURN):
                        duration[n], observed[n] = time[e] - t, True
                        break
                    if role[e] & END:
                        duration[n] = time[e] - t if returns else -1
                        break
            n += 1
    return customer[:n].copy(), cutoff[:n].copy(), duration[:n].copy(), observed[:n].copy()
