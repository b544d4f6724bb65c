"""The kernel: the one place where event-derived features are computed, for batch, cluster and service alike.

For each customer the cutoffs ascend. A pointer goes forward through the events once and carries what has no
window (time of the latest event of each kind, first event, last known attribute). From each cutoff one walk
goes backward through the longest window and writes the accumulators out at each window's edge. Every sum is
therefore a fresh float64 sum from the newest event to the oldest, the same bits whatever other cutoffs or
windows are asked for.

What only some plans ask for (the order, the spread and the rhythm of events, and comparisons of windows) has a second
walk of the same make, `fill_extended`. It writes what it finds into a scratch vector, from which a list of operations
derives the columns; a plan without such columns never enters it.

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
        Slot columns to count, and where their distinct values are counted. Cell 0 counts all events.
    all_days : int
        Cell of the active days of all events.
    day_columns : uint32 array of shape (k,)
        Slot columns whose active days are counted.
    day_cells : uint32 array of shape (k, n_slots + 1)
        Cell of each slot's active days.
    job_ends : uint32 array of shape (n_measures,)
        Jobs of measure ``m`` end at ``job_ends[m]``; a job is one (measure, slot column).
    job_measures, job_columns : uint32 arrays of shape (n_jobs,)
        Measure and slot column of each job.
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
    all_days: np.uint32
    day_columns: NDArray[np.uint32]
    day_cells: NDArray[np.uint32]
    job_ends: NDArray[np.uint32]
    job_measures: NDArray[np.uint32]
    job_columns: NDArray[np.uint32]
    job_cells: NDArray[np.uint32]
    mean_cells: NDArray[np.uint32]
    window_ends: NDArray[np.uint32]
    window_cells: NDArray[np.uint32]
    window_out: NDArray[np.uint32]
    blank: NDArray[np.float64]
    null_slot: np.uint32


#: What the second walk does with a selected event, and how many cells that takes: a day counted; gaps (count, mean,
#: sum of squares, longest); a decaying sum; a sum; the order of values (count, first, last but one to last but eight);
#: their spread (count, mean, sum of squares); a regression on time (count, means and sums of squares and products).
DAYS, GAPS, DECAY, TOTAL, ORDER, SPREAD, REGRESSION = range(7)
JOB_CELLS = (1, 4, 1, 1, 10, 3, 5)
#: How a cell becomes a number of the scratch vector.
READ_CELL, READ_MEAN, READ_STD, READ_SLOPE, READ_ENTROPY = range(5)
#: What is carried forward without a window: events so far, days since the first, days from the first to the latest,
#: and different days.
EVER, SINCE_FIRST, SPAN, DAYS_EVER = range(4)
#: How columns follow from the scratch vector.
COPY, QUOTIENT, RATIO, CHANGE, ACCELERATION, BURSTINESS, ALIVE = range(7)


class Extended(NamedTuple):
    """The columns of the second walk as arrays; `cxml.features.derive` lays them out.

    Cells ``0`` to ``n_slots`` count the events of each slot, and no job has cell 0.

    Parameters
    ----------
    edges : int64 array of shape (n_edges,)
        How far before the cutoff something is read, in microseconds, ascending.
    read_ends : uint32 array of shape (n_edges,)
        Reads at edge ``w`` end at ``read_ends[w]``.
    reads : uint32 array of shape (n_reads, 4)
        How, cell, number of cells (of an entropy), place in the scratch vector.
    count_columns : uint32 array
        Slot columns to count.
    jobs : uint32 array of shape (n_jobs, 5)
        Kind, measure (their number for none), slot column, the first edge whose events count (those between it and the
        edge before), the last one, at which it is read.
    job_cells : uint32 array of shape (n_jobs, n_slots + 1)
        First cell for each slot; 0 for none.
    half_lives : float64 array of shape (n_jobs,)
        Microseconds, of decaying sums.
    carried_columns : uint32 array
        Slot columns whose events so far, first and latest times are carried.
    day_jobs : uint32 array of shape (n_day_jobs, 2)
        Slot column and slot of each count of days that is carried.
    carried : uint32 array of shape (n_carried, 3)
        What, slot (or day job), place in the scratch vector.
    operations : uint32 array of shape (n_columns, 5)
        Operation, output column, up to three places in the scratch vector.
    constants : float64 array of shape (n_columns, 4)
        What the operation needs: of ``p_alive`` its four parameters, of others the lengths of their windows in days.
    blank : float64 array of shape (n_cells,)
        The cells before the first event.
    n_scratch : int
        Length of the scratch vector.
    """

    edges: NDArray[np.int64]
    read_ends: NDArray[np.uint32]
    reads: NDArray[np.uint32]
    count_columns: NDArray[np.uint32]
    jobs: NDArray[np.uint32]
    job_cells: NDArray[np.uint32]
    half_lives: NDArray[np.float64]
    carried_columns: NDArray[np.uint32]
    day_jobs: NDArray[np.uint32]
    carried: NDArray[np.uint32]
    operations: NDArray[np.uint32]
    constants: NDArray[np.float64]
    blank: NDArray[np.float64]
    n_scratch: int


class Due(NamedTuple):
    """Measures, 0 or 1, whose values become known after their events and may be revised once.

    Parameters
    ----------
    measures : uint32 array of shape (n_due,)
        Which columns of the measure matrix.
    times : int64 array of shape (n_events, n_due)
        A value counts only at cutoffs after this time.
    revised : int64 array of shape (n_events, n_due)
        At cutoffs after this time the other value counts; `ALWAYS` where that is never.
    """

    measures: NDArray[np.uint32]
    times: NDArray[np.int64]
    revised: NDArray[np.int64]


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
    due: Due | None,
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
    due : Due, optional
        Which values wait for a time of their own. Without it the compiled code holds nothing of it.
    row_starts, cutoffs : int64 arrays
        Snapshots of customer ``i`` are ``row_starts[i]:row_starts[i + 1]``, their cutoffs ascend.
    rows : int64 array of shape (n_snapshots,) or (0,)
        Row of ``out`` for each snapshot; empty when it is the snapshot's own number.
    out : float32 array of shape (n_rows, n_features)
        Filled.
    """
    late = order.size > 0
    longest = tables.widths[-1] if tables.widths.size else 0
    acc = np.empty(tables.blank.size, np.float64)
    latest = np.empty(tables.null_slot + 1, np.int64)
    last_day = np.empty(tables.blank.size if tables.day_columns.size else 0, np.int64)
    last_event = np.empty(tables.state_columns.size, np.int64)
    most = 0
    for customer in range(customers[0], customers[1]):
        most = max(most, starts[customer + 1] - starts[customer])
    held_event = np.empty(most * tables.job_columns.size + 1, np.int64)
    held_job = np.empty(held_event.size, np.uint32)
    for customer in range(customers[0], customers[1]):
        first_row, stop_row = row_starts[customer], row_starts[customer + 1]
        if first_row == stop_row:
            continue
        low, high = starts[customer] - offset, starts[customer + 1] - offset
        since, until = cutoffs[first_row] - longest, cutoffs[stop_row - 1]
        n_held = _hold_values(tables, low, high, since, until, time, measures, held_event, held_job)
        latest[:] = NEVER
        last_event[:] = -1
        earliest = ALWAYS
        head = seen = low
        next_held = 0
        for snapshot in range(first_row, stop_row):
            cutoff = cutoffs[snapshot]
            row = rows[snapshot] if rows.size else snapshot

            while head < high and time[head] < cutoff:
                head += 1
            while next_held < n_held and held_event[next_held] < head:
                next_held += 1
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
            n_events = n_days = 0
            latest_day = NEVER
            event = head - 1
            held = next_held - 1
            first_column = 0
            for window in range(tables.widths.size):
                edge = cutoff - tables.widths[window]
                while event >= low and time[event] >= edge:
                    if not late or known[event] < cutoff:
                        day = time[event] // DAY_US
                        n_events += 1
                        n_days += day != latest_day
                        latest_day = day
                        _count(tables, acc, last_day, day, slots[event])
                    event -= 1
                acc[0], acc[tables.all_days] = n_events, n_days
                while held >= 0 and held_event[held] > event:
                    of, job = held_event[held], held_job[held]
                    measure = tables.job_measures[job]
                    if (not late or known[of] < cutoff) and (due is None or _is_known(due, of, measure, cutoff)):
                        pair = tables.job_cells[job, slots[of, tables.job_columns[job]]]
                        value = measures[of, measure]
                        if due is not None and _is_revised(due, of, measure, cutoff):
                            value = 1.0 - value
                        _add(acc, pair, value)
                    held -= 1
                for pair in tables.mean_cells:
                    acc[pair + np.uint32(MEAN)] = acc[pair + np.uint32(SUM)] / acc[pair]  # of none, 0 / 0 is NaN
                for k in range(first_column, tables.window_ends[window]):
                    out[row, tables.window_out[k]] = acc[tables.window_cells[k]]
                first_column = tables.window_ends[window]


@_compiled(inline="always")
def _hold_values(
    tables: Tables,
    low: int,
    high: int,
    since: int,
    until: int,
    time: NDArray[np.int64],
    measures: NDArray[np.float64],
    held_event: NDArray[np.int64],
    held_job: NDArray[np.uint32],
) -> int:
    """List which events from ``since`` until before ``until`` have a value for which job, and count them.

    Walks that looked for values themselves would, at each cutoff anew, often guess wrong whether there is one.
    """
    while low < high and time[low] < since:
        low += 1
    while high > low and time[high - 1] >= until:
        high -= 1
    n = 0
    for event in range(low, high):
        job = np.uint32(0)
        for measure in range(measures.shape[1]):
            there = not np.isnan(measures[event, measure])
            while job < tables.job_ends[measure]:
                held_event[n], held_job[n] = event, job
                n += there  # not a branch: it is hard to foretell
                job += np.uint32(1)
    return n


@_compiled(inline="always")
def _is_known(due: Due, event: int, measure: int, cutoff: int) -> bool:
    """Tell whether the value of a measure is known before a cutoff."""
    for k in range(due.measures.size):
        if due.measures[k] == measure:
            return bool(due.times[event, k] < cutoff)
    return True


@_compiled(inline="always")
def _is_revised(due: Due, event: int, measure: int, cutoff: int) -> bool:
    """Tell whether the value of a measure is the other one before a cutoff."""
    for k in range(due.measures.size):
        if due.measures[k] == measure:
            return bool(due.revised[event, k] < cutoff)
    return False


@_compiled(inline="always")
def _take_known(
    due: Due, event: int, cutoff: int, measures: NDArray[np.float64], known_values: NDArray[np.float64]
) -> None:
    """Fill ``known_values`` with the measures of an event as they are known before a cutoff."""
    for k in range(known_values.size):
        known_values[k] = measures[event, k]
    for k in range(due.measures.size):
        if due.times[event, k] >= cutoff:
            known_values[due.measures[k]] = np.nan
        elif due.revised[event, k] < cutoff:
            known_values[due.measures[k]] = 1.0 - known_values[due.measures[k]]


@_compiled(inline="always")  # by force: left to the compiler as a call, features take twelve times as long
def _count(
    tables: Tables, acc: NDArray[np.float64], last_day: NDArray[np.int64], day: int, slots: NDArray[np.uint32]
) -> None:
    """Take one event into the counts; events come newest first.

    Nearly free of branches: a null goes to the slot of nulls, what nobody asked for to cells nobody reads.
    """
    for k in range(tables.count_columns.size):
        slot = slots[tables.count_columns[k]]
        count = acc[slot]
        acc[tables.distinct_cells[k]] += 1.0 if count == 0.0 else 0.0
        acc[slot] = count + 1.0
    for k in range(tables.day_columns.size):
        cell = tables.day_cells[k, slots[tables.day_columns[k]]]
        if day != last_day[cell]:
            last_day[cell] = day
            acc[cell] += 1.0


@_compiled(inline="always")
def _add(acc: NDArray[np.float64], pair: int, value: float) -> None:
    """Take one value into its accumulators; values come newest first."""
    count, least, most = acc[pair], acc[pair + np.uint32(MIN)], acc[pair + np.uint32(MAX)]
    acc[pair] = count + 1.0
    acc[pair + np.uint32(SUM)] += value
    acc[pair + np.uint32(MIN)] = least if least <= value else value
    acc[pair + np.uint32(MAX)] = most if most >= value else value
    acc[pair + np.uint32(LAST)] = value if count == 0.0 else acc[pair + np.uint32(LAST)]


@_compiled()
def fill_extended(
    extended: Extended,
    customers: tuple[int, int],
    starts: NDArray[np.int64],
    offset: int,
    time: NDArray[np.int64],
    known: NDArray[np.int64],
    order: NDArray[np.int64],
    slots: NDArray[np.uint32],
    measures: NDArray[np.float64],
    due: Due | None,
    row_starts: NDArray[np.int64],
    cutoffs: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Fill the extended columns of a range of customers.

    Parameters
    ----------
    extended : Extended
        The plan.
    customers, starts, offset, time, known, order, slots, measures, due, row_starts, cutoffs, rows, out
        As in `fill_rows`.
    """
    late = order.size > 0
    n_slots = extended.job_cells.shape[1]
    n_day_jobs = extended.day_jobs.shape[0]
    acc = np.empty(extended.blank.size, np.float64)
    moment = np.empty(extended.blank.size, np.int64)
    scratch = np.empty(extended.n_scratch, np.float64)
    patient = np.empty(measures.shape[1], np.float64)
    first = np.empty(n_slots, np.int64)
    latest = np.empty(n_slots, np.int64)
    ever = np.empty(n_slots, np.int64)
    days_ever = np.empty(n_day_jobs, np.int64)
    day_starts = np.empty(time.size if n_day_jobs else 0, np.int64)
    day_known = np.zeros((day_starts.size, n_day_jobs), np.bool_)
    reads, operations = extended.reads, extended.operations
    for customer in range(customers[0], customers[1]):
        low, high = starts[customer] - offset, starts[customer + 1] - offset
        first[:] = ALWAYS
        latest[:] = NEVER
        ever[:] = 0
        days_ever[:] = 0
        if n_day_jobs:
            _find_day_starts(time, low, high, day_starts)
        head = seen = low
        for snapshot in range(row_starts[customer], row_starts[customer + 1]):
            cutoff = cutoffs[snapshot]
            while head < high and time[head] < cutoff:
                head += 1
            while seen < high:
                event = order[seen] if late else seen
                if (known[event] if late else time[event]) >= cutoff:
                    break
                seen += 1
                for column in extended.carried_columns:
                    slot = slots[event, column]
                    first[slot] = min(first[slot], time[event])
                    latest[slot] = max(latest[slot], time[event])
                    ever[slot] += 1
                for k in range(n_day_jobs):
                    if slots[event, extended.day_jobs[k, 0]] == extended.day_jobs[k, 1]:
                        days_ever[k] += not day_known[day_starts[event], k]
                        day_known[day_starts[event], k] = True
            for k in range(extended.carried.shape[0]):
                what, slot, place = extended.carried[k, 0], extended.carried[k, 1], extended.carried[k, 2]
                if what == EVER:
                    scratch[place] = ever[slot]
                elif what == DAYS_EVER:
                    scratch[place] = days_ever[slot]
                elif first[slot] == ALWAYS:
                    scratch[place] = np.nan
                else:
                    scratch[place] = ((cutoff if what == SINCE_FIRST else latest[slot]) - first[slot]) / DAY

            acc[:] = extended.blank
            moment[:] = NEVER
            event = head - 1
            read = 0
            for edge in range(extended.edges.size):
                while event >= low and time[event] >= cutoff - extended.edges[edge]:
                    if not late or known[event] < cutoff:
                        if due is None:
                            values = measures[event]
                        else:
                            _take_known(due, event, cutoff, measures, patient)
                            values = patient
                        _add_extended(extended, edge, acc, moment, cutoff, time[event], slots[event], values)
                    event -= 1
                while read < extended.read_ends[edge]:
                    how, cell, place = reads[read, 0], reads[read, 1], reads[read, 3]
                    scratch[place] = acc[cell] if how == READ_CELL else _read_cells(acc, how, cell, reads[read, 2])
                    read += 1
            row = rows[snapshot] if rows.size else snapshot
            for k in range(operations.shape[0]):
                kind, a = operations[k, 0], scratch[operations[k, 2]]
                if kind != COPY:
                    b, c = scratch[operations[k, 3]], scratch[operations[k, 4]]
                    if kind == ALIVE:
                        a = _probability_alive(extended.constants[k], a - 1.0, b, c)
                    else:
                        a = _derive(kind, a, b, c, extended.constants[k, 0], extended.constants[k, 1])
                out[row, operations[k, 1]] = a


@_compiled()
def _find_day_starts(time: NDArray[np.int64], low: int, high: int, day_starts: NDArray[np.int64]) -> None:
    """Give each event the first event of its calendar day (UTC)."""
    for event in range(low, high):
        same = event > low and time[event] // DAY_US == time[event - 1] // DAY_US
        day_starts[event] = day_starts[event - 1] if same else event


@_compiled(inline="always")
def _add_extended(
    extended: Extended,
    edge: int,
    acc: NDArray[np.float64],
    moment: NDArray[np.int64],
    cutoff: int,
    time: int,
    slots: NDArray[np.uint32],
    measures: NDArray[np.float64],
) -> None:
    """Take one event into the cells of the second walk; events come newest first."""
    for column in extended.count_columns:
        acc[slots[column]] += 1.0
    weight, half_life = 0.0, 0.0  # events share the weight of a half-life: jobs of one stand together
    for job in range(extended.jobs.shape[0]):
        cell = extended.job_cells[job, slots[extended.jobs[job, 2]]]
        if cell == 0 or edge < extended.jobs[job, 3] or extended.jobs[job, 4] < edge:
            continue
        kind, measure = extended.jobs[job, 0], extended.jobs[job, 1]
        value = measures[measure] if measure < measures.size else 1.0
        if np.isnan(value):
            continue
        if kind == TOTAL:
            acc[cell] += value
        elif kind == DECAY:
            if half_life != extended.half_lives[job]:
                half_life = extended.half_lives[job]
                weight = np.exp2((time - cutoff) / half_life)
            acc[cell] += value * weight
        elif kind == DAYS:
            if moment[cell] != time // DAY_US:
                moment[cell] = time // DAY_US
                acc[cell] += 1.0
        elif kind == GAPS:
            if moment[cell] != NEVER:
                gap = (moment[cell] - time) / DAY
                _spread(acc, cell, gap)
                if not acc[cell + np.uint32(3)] >= gap:
                    acc[cell + np.uint32(3)] = gap
            moment[cell] = time
        elif kind == ORDER:
            acc[cell] += 1.0
            acc[cell + np.uint32(1)] = value
            if 2.0 <= acc[cell] < JOB_CELLS[ORDER]:  # the n-th latest has cell n
                acc[cell + np.uint32(acc[cell])] = value
        elif kind == SPREAD:
            _spread(acc, cell, value)
        else:
            if moment[cell] == NEVER:
                moment[cell] = time
            _regress(acc, cell, (time - moment[cell]) / DAY, value)


@_compiled(inline="always")
def _spread(acc: NDArray[np.float64], cell: int, value: float) -> None:
    """Take a value into count, mean and sum of squares around the mean (Welford 1962)."""
    acc[cell] += 1.0
    difference = value - acc[cell + np.uint32(1)]
    acc[cell + np.uint32(1)] += difference / acc[cell]
    acc[cell + np.uint32(2)] += difference * (value - acc[cell + np.uint32(1)])


@_compiled(inline="always")
def _regress(acc: NDArray[np.float64], cell: int, x: float, y: float) -> None:
    """Take a point into count, means, sum of squares of x and sum of products; x = 0 is the newest point."""
    acc[cell] += 1.0
    dx = x - acc[cell + np.uint32(1)]
    acc[cell + np.uint32(1)] += dx / acc[cell]
    acc[cell + np.uint32(2)] += (y - acc[cell + np.uint32(2)]) / acc[cell]
    acc[cell + np.uint32(3)] += dx * (x - acc[cell + np.uint32(1)])
    acc[cell + np.uint32(4)] += dx * (y - acc[cell + np.uint32(2)])


@_compiled()
def _read_cells(acc: NDArray[np.float64], how: int, cell: int, n_cells: int) -> float:
    """Give what a cell and those after it amount to."""
    if how == READ_MEAN:
        return float(acc[cell + np.uint32(1)]) if acc[cell] > 0.0 else np.nan
    if how == READ_STD:
        return float(np.sqrt(acc[cell + np.uint32(2)] / acc[cell])) if acc[cell] > 1.0 else np.nan
    if how == READ_SLOPE:
        return float(acc[cell + np.uint32(4)] / acc[cell + np.uint32(3)]) if acc[cell + np.uint32(3)] > 0.0 else np.nan
    total = 0.0
    for k in range(cell, cell + n_cells):
        total += acc[k]
    if total == 0.0:
        return np.nan
    bits = 0.0
    for k in range(cell, cell + n_cells):
        if acc[k] > 0.0:
            bits += acc[k] / total * np.log2(total / acc[k])
    return float(bits)


@_compiled()
def _derive(kind: int, a: float, b: float, c: float, first_days: float, second_days: float) -> float:
    """Compute one column from its sources and the lengths of its windows."""
    if kind == QUOTIENT:
        return a / b if b != 0.0 else np.nan
    if kind == RATIO:
        return (a / first_days) / (b / second_days) if b != 0.0 else np.nan
    if kind == CHANGE:  # in the window, ever, tenure
        return a - b / (1.0 if c < first_days else c / first_days)
    if kind == ACCELERATION:  # in the window, the one before, and the one before that
        return (a - b) - (b - c)
    return (a - b) / (a + b)  # burstiness, of the standard deviation and the mean of the gaps


@_compiled()
def _probability_alive(alive: NDArray[np.float64], repeats: float, until_latest: float, tenure: float) -> float:
    """P(alive) of the BG/NBD model (Fader, Hardie and Lee 2005; Fader and Hardie 2008)."""
    r, alpha, a, b = alive[0], alive[1], alive[2], alive[3]
    if repeats < 0.0:
        return np.nan
    if repeats == 0.0:
        return 1.0
    silence = ((alpha + tenure) / (alpha + until_latest)) ** (r + repeats)
    return float(1.0 / (1.0 + a / (b + repeats - 1.0) * silence))
