"""The kernel: the one place where event-derived features are computed, for batch, cluster and service alike.

For each customer the cutoffs ascend. A pointer goes forward through the events once and carries what has no
window (time of the latest event of each kind, first event, last known attribute). From each cutoff one walk
goes backward through the longest window and writes the accumulators out at each window's edge. Every sum is
therefore a fresh float64 sum from the newest event to the oldest, the same bits whatever other cutoffs or
windows are asked for.

The functions here check nothing but what costs nothing: `cxml.features.matrix` checks bounds before it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.times import DAY_US

_F = TypeVar("_F", bound=Callable[..., Any])

#: The cells of a (measure, slot) pair, in order.
FIELDS = ("count", "sum", "mean", "min", "max", "last")
COUNT, SUM, MEAN, MIN, MAX, LAST = range(6)

#: A time before every event, and one after.
NEVER = np.int64(np.iinfo(np.int64).min)
ALWAYS = np.int64(np.iinfo(np.int64).max)
#: Microseconds of a day as a float, to divide by.
DAY = float(DAY_US)


class Tables(NamedTuple):
    """A feature plan as arrays; `cxml.features.plan.CompiledPlan` says what slots and cells are.

    Numbers that index are unsigned, which spares the compiled code the test for a negative index. What is not
    wanted points to waste cells instead of to -1, which spares it a branch.

    Parameters
    ----------
    widths : int64 array of shape (n_windows,)
        Window lengths in microseconds, ascending.
    tenure_out : uint32 array of shape (0,) or (1,)
        Output column of ``tenure_days``.
    since_columns : uint32 array
        Slot columns whose latest times are carried.
    since_slots, since_out : uint32 arrays of one shape
        ``days_since``: output column of each slot.
    state_columns, state_bases, state_out : uint32 arrays of one shape
        ``last__ATTRIBUTE``: slot column, slot of code 0, output column.
    count_columns, distinct_cells : uint32 arrays of one shape
        Slot columns to count, and where their distinct values are counted.
    day_columns : uint32 array of shape (k,)
        Slot columns whose active days are counted.
    day_cells : uint32 array of shape (k, n_slots + 1)
        Cell of each slot's active days.
    job_ends : uint32 array of shape (n_measures,)
        Jobs of measure ``m`` end at ``job_ends[m]``; a job is one (measure, slot column).
    job_columns, job_extremes : uint32 arrays of shape (n_jobs,)
        Slot column of each job; whether min, max or last is wanted.
    job_cells : uint32 array of shape (n_jobs, n_slots + 1)
        First cell of each slot's pair.
    mean_cells : uint32 array
        First cells of the pairs whose mean is wanted.
    window_ends : uint32 array of shape (n_windows,)
        Windowed columns of window ``w`` end at ``window_ends[w]``.
    window_cells, window_out : uint32 arrays of one shape
        Cell and output column of each windowed column.
    blank : float64 array of shape (n_cells,)
        The accumulators before the first event.
    null_slot : int
        The slot of null, one above all others.
    """

    widths: NDArray[np.int64]
    tenure_out: NDArray[np.uint32]
    since_columns: NDArray[np.uint32]
    since_slots: NDArray[np.uint32]
    since_out: NDArray[np.uint32]
    state_columns: NDArray[np.uint32]
    state_bases: NDArray[np.uint32]
    state_out: NDArray[np.uint32]
    count_columns: NDArray[np.uint32]
    distinct_cells: NDArray[np.uint32]
    day_columns: NDArray[np.uint32]
    day_cells: NDArray[np.uint32]
    job_ends: NDArray[np.uint32]
    job_columns: NDArray[np.uint32]
    job_cells: NDArray[np.uint32]
    job_extremes: NDArray[np.uint32]
    mean_cells: NDArray[np.uint32]
    window_ends: NDArray[np.uint32]
    window_cells: NDArray[np.uint32]
    window_out: NDArray[np.uint32]
    blank: NDArray[np.float64]
    null_slot: np.uint32


def _compiled(**options: Any) -> Callable[[_F], _F]:
    """Compile without the GIL, once per machine; division by zero follows IEEE."""
    return cast(Callable[[_F], _F], numba.njit(cache=True, nogil=True, error_model="numpy", **options))


@_compiled()
def ascends(starts: NDArray[np.int64], n: int) -> bool:
    """Tell whether ``starts`` goes from 0 to ``n`` without a step back."""
    if starts[0] != 0 or starts[-1] != n:
        return False
    for i in range(1, starts.size):  # noqa: SIM110 - compiled, a generator is slower
        if starts[i] < starts[i - 1]:
            return False
    return True


@_compiled()
def first_disorder(starts: NDArray[np.int64], time: NDArray[np.int64], first: int, stop: int) -> int:
    """Find the first place within a group whose time is below the one before it; -1 when there is none."""
    for group in range(first, stop):
        for i in range(starts[group] + 1, starts[group + 1]):
            if time[i] < time[i - 1]:
                return i
    return -1


@_compiled()
def map_codes(codes: NDArray[np.int32], table: NDArray[np.uint32], out: NDArray[np.uint32]) -> int:
    """Fill ``out`` with the slots of ``codes`` (null is the last of ``table``); count those ``table`` lacks."""
    n_values = table.size - 1
    n_bad = 0
    for i in range(codes.size):
        code = codes[i]
        held = 0 <= code < n_values
        n_bad += not (held or code == -1)
        out[i] = table[code if held else n_values]
    return n_bad


@_compiled()
def fill_rows(
    tables: Tables,
    customers: tuple[int, int],
    starts: NDArray[np.int64],
    offset: int,
    time: NDArray[np.int64],
    known: NDArray[np.int64],
    order: NDArray[np.int64],
    slots: NDArray[np.uint32],
    measures: NDArray[np.float64],
    row_starts: NDArray[np.int64],
    cutoffs: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Fill the rows of a range of customers.

    Parameters
    ----------
    tables : Tables
        The plan.
    customers : (int, int)
        First customer and the one after the last; indices into ``starts`` and ``row_starts``.
    starts, offset : int64 array, int
        Events of customer ``i`` are ``starts[i] - offset`` up to ``starts[i + 1] - offset`` of what follows.
    time, known : int64 arrays of shape (n_events,)
        When an event happened and when it became known; ``known`` is read only where ``order`` is given.
    order : int64 array of shape (n_events,) or (0,)
        Events of each customer by ascending ``known``; empty when everything is known as it happens.
    slots : uint32 array of shape (n_events, n_columns)
        Slot of each event in each column.
    measures : float64 array of shape (n_events, n_measures)
        NaN for none.
    row_starts, cutoffs : int64 arrays
        Snapshots of customer ``i`` are ``row_starts[i]:row_starts[i + 1]``, their cutoffs ascend.
    rows : int64 array of shape (n_snapshots,) or (0,)
        Row of ``out`` for each snapshot; empty when it is the snapshot's own number.
    out : float32 array of shape (n_rows, n_features)
        Filled.
    """
    late = order.size > 0
    acc = np.empty(tables.blank.size, np.float64)
    latest = np.empty(tables.null_slot + 1, np.int64)
    last_day = np.empty(tables.blank.size, np.int64)
    last_event = np.empty(tables.state_columns.size, np.int64)
    for customer in range(customers[0], customers[1]):
        low, high = starts[customer] - offset, starts[customer + 1] - offset
        latest[:] = NEVER
        last_event[:] = -1
        earliest = ALWAYS
        head = seen = low
        for snapshot in range(row_starts[customer], row_starts[customer + 1]):
            cutoff = cutoffs[snapshot]
            row = rows[snapshot] if rows.size else snapshot

            while head < high and time[head] < cutoff:
                head += 1
            while seen < high:
                event = order[seen] if late else seen
                if (known[event] if late else time[event]) >= cutoff:
                    break
                seen += 1
                earliest = min(earliest, time[event])
                for column in tables.since_columns:
                    slot = slots[event, column]
                    latest[slot] = max(latest[slot], time[event])
                for k in range(tables.state_columns.size):
                    if event > last_event[k] and slots[event, tables.state_columns[k]] != tables.null_slot:
                        last_event[k] = event

            for column in tables.tenure_out:
                out[row, column] = (cutoff - earliest) / DAY if earliest != ALWAYS else np.nan
            for k in range(tables.since_slots.size):
                when = latest[tables.since_slots[k]]
                out[row, tables.since_out[k]] = (cutoff - when) / DAY if when != NEVER else np.nan
            for k in range(tables.state_columns.size):
                event = last_event[k]
                code = np.nan
                if event >= 0:
                    code = float(slots[event, tables.state_columns[k]]) - float(tables.state_bases[k])
                out[row, tables.state_out[k]] = code

            acc[:] = tables.blank
            last_day[:] = NEVER
            event = head - 1
            first_column = 0
            for window in range(tables.widths.size):
                edge = cutoff - tables.widths[window]
                while event >= low and time[event] >= edge:
                    if not late or known[event] < cutoff:
                        _add(tables, acc, last_day, time[event], slots[event], measures[event])
                    event -= 1
                for pair in tables.mean_cells:
                    if acc[pair] > 0:
                        acc[pair + np.uint32(MEAN)] = acc[pair + np.uint32(SUM)] / acc[pair]
                for k in range(first_column, tables.window_ends[window]):
                    out[row, tables.window_out[k]] = acc[tables.window_cells[k]]
                first_column = tables.window_ends[window]


@_compiled(inline="always")  # by force: left to the compiler as a call, features take twelve times as long
def _add(
    tables: Tables,
    acc: NDArray[np.float64],
    last_day: NDArray[np.int64],
    time: int,
    slots: NDArray[np.uint32],
    measures: NDArray[np.float64],
) -> None:
    """Take one event into the accumulators; events come newest first.

    Nearly free of branches: a null goes to the slot of nulls, what nobody asked for to cells nobody reads.
    """
    for k in range(tables.count_columns.size):
        slot = slots[tables.count_columns[k]]
        count = acc[slot]
        acc[tables.distinct_cells[k]] += 1.0 if count == 0.0 else 0.0
        acc[slot] = count + 1.0
    for k in range(tables.day_columns.size):
        cell = tables.day_cells[k, slots[tables.day_columns[k]]]
        day = time // DAY_US
        if day != last_day[cell]:
            last_day[cell] = day
            acc[cell] += 1.0
    job = 0
    for measure in range(measures.size):
        value = measures[measure]
        if np.isnan(value):
            job = tables.job_ends[measure]
        while job < tables.job_ends[measure]:
            pair = tables.job_cells[job, slots[tables.job_columns[job]]]
            count = acc[pair]
            acc[pair] = count + 1.0
            acc[pair + np.uint32(SUM)] += value
            if tables.job_extremes[job]:
                least, most = acc[pair + np.uint32(MIN)], acc[pair + np.uint32(MAX)]
                acc[pair + np.uint32(MIN)] = least if least <= value else value
                acc[pair + np.uint32(MAX)] = most if most >= value else value
                acc[pair + np.uint32(LAST)] = value if count == 0.0 else acc[pair + np.uint32(LAST)]
            job += 1
