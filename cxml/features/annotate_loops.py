"""Compiled loops of the annotations: links from each event to one of its past, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.features.kernel import ALWAYS, DAY
from cxml.times import DAY_US

_F = TypeVar("_F", bound=Callable[..., Any])
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


def _compiled(**options: Any) -> Callable[[_F], _F]:
    """Compile without the GIL, once per machine; division by zero follows IEEE."""
    return cast(Callable[[_F], _F], numba.njit(cache=True, nogil=True, error_model="numpy", **options))


@_compiled()
def first_step_back(starts: Int64, known: Int64) -> int:
    """Find the first event of a customer that was known before the one in front of it; -1 when there is none."""
    for customer in range(starts.size - 1):
        for i in range(starts[customer] + 1, starts[customer + 1]):
            if known[i] < known[i - 1]:
                return i
    return -1


@_compiled()
def link_events(starts: Int64, known: Int64, previous: Int64, direct: Bool) -> None:
    """Fill ``previous`` with the latest event of each one's past, -1 for none.

    ``direct`` tells whether the past is that of the previous event and this one itself, and nothing else.
    ``known`` is empty where everything is known in order.
    """
    for customer in range(starts.size - 1):
        low, high = starts[customer], starts[customer + 1]
        in_order = True
        for i in range(low, high):
            if known.size and i > low:
                in_order &= known[i] >= known[i - 1]
            previous[i] = i - 1 if i > low else -1
            direct[i] = True
        if not in_order:
            _link_late(low, high, known, previous, direct)


@_compiled()
def _link_late(low: int, high: int, known: Int64, previous: Int64, direct: Bool) -> None:
    """Link the events of a customer that were not known in order.

    An event that was known after a later one is no event's latest any more, so each is passed over only once. How
    many events each one's past holds is counted in a tree of partial sums over the order of knowledge (Fenwick 1994,
    "A new data structure for cumulative frequency tables", Software: Practice and Experience 24).
    """
    n = high - low
    rank = np.empty(n, np.int64)
    rank[np.argsort(known[low:high], kind="mergesort")] = np.arange(n)
    sums = np.zeros(n + 1, np.int64)
    size = np.empty(n, np.int64)
    for i in range(low, high):
        p = i - 1 if i > low else np.int64(-1)
        while p >= 0 and known[p] > known[i]:
            p = previous[p]
        previous[i] = p
        n_past, k = 0, rank[i - low]
        while k > 0:
            n_past += sums[k]
            k &= k - 1
        size[i - low] = n_past
        direct[i] = n_past == (size[p - low] + 1 if p >= 0 else 0)
        k = rank[i - low] + 1
        while k <= n:
            sums[k] += 1
            k += k & -k


@_compiled()
def link_marked(starts: Int64, keys: Int32, n_keys: int, marked: Bool, known: Int64, found: Int64) -> None:
    """Fill ``found`` with the latest marked event of each one's past that has the same key; -1 for none.

    The links of the marked events are a chain from which those known after a later one fall out.
    """
    last = np.full(n_keys, -1, np.int64)
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(low, starts[customer + 1]):
            key = keys[i]
            if key < 0:
                found[i] = -1
                continue
            p = last[key]
            if p < low:
                p = np.int64(-1)
            if known.size:
                while p >= 0 and known[p] > known[i]:
                    p = found[p]
            found[i] = p
            if marked[i]:
                last[key] = i


@_compiled()
def link_first(starts: Int64, keys: Int32, n_keys: int, known: Int64, first: Int64) -> None:
    """Fill ``first`` with the first event of each one's past and itself that has the same key; -1 without a key.

    Of each key the events known before all earlier ones make a chain; the first of it known in time is the answer.
    """
    head, tail = np.full(n_keys, -1, np.int64), np.empty(n_keys, np.int64)
    after = np.empty(known.size, np.int64)
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(low, starts[customer + 1]):
            key = keys[i]
            if key < 0:
                first[i] = -1
                continue
            if head[key] < low:
                head[key] = tail[key] = i
            elif known.size and known[i] < known[tail[key]]:
                after[tail[key]] = i
                tail[key] = i
            p = head[key]
            if known.size:
                while known[p] > known[i]:
                    p = after[p]
            first[i] = p


@_compiled()
def number_keys(codes: Int32, keys: Int32) -> int:
    """Fill ``keys`` with numbers from 0, one for each different code, -1 for -1; return how many there are."""
    size = 16
    while size < 2 * codes.size:
        size *= 2
    held, number = np.full(size, -1, np.int32), np.empty(size, np.int32)
    n_keys = 0
    for i in range(codes.size):
        if codes[i] < 0:
            keys[i] = -1
            continue
        place = (np.int64(codes[i]) * 2654435769 >> 7) & (size - 1)
        while held[place] >= 0 and held[place] != codes[i]:
            place = (place + 1) & (size - 1)
        if held[place] < 0:
            held[place], number[place] = codes[i], n_keys
            n_keys += 1
        keys[i] = number[place]
    return n_keys


@_compiled()
def count_outside(codes: Int32, n_values: int) -> int:
    """Count the codes that are neither -1 nor an index of a vocabulary."""
    n_bad = 0
    for i in range(codes.size):
        n_bad += codes[i] < -1 or codes[i] >= n_values
    return n_bad


@_compiled()
def take_codes(codes: Int32, link: Int64, taken: Int32) -> None:
    """Fill ``taken`` with the codes of the linked events; -1 for none."""
    for i in range(codes.size):
        taken[i] = codes[link[i]] if link[i] >= 0 else -1


@_compiled()
def days_between(time: Int64, link: Int64, days: Float64) -> None:
    """Fill ``days`` with the days from the linked event to each one; NaN for none."""
    for i in range(time.size):
        days[i] = (time[i] - time[link[i]]) / DAY if link[i] >= 0 else np.nan


@_compiled()
def came_within(time: Int64, link: Int64, within: int, came: Bool) -> None:
    """Tell which events came no later than ``within`` after the linked one."""
    for i in range(time.size):
        came[i] = link[i] >= 0 and time[i] - time[link[i]] <= within


@_compiled()
def look_up_pairs(row: Int32, column: Int32, table: Float64, found: Float64) -> None:
    """Fill ``found`` with what the table has for each pair; NaN where one of them is negative."""
    for i in range(row.size):
        found[i] = table[row[i], column[i]] if row[i] >= 0 and column[i] >= 0 else np.nan


@_compiled()
def code_pairs(before: Int32, after: Int32, row_of: Int32, column_of: Int32, table: Int32, found: Int32) -> None:
    """Fill ``found`` with the code the table has for each pair; -1 where one of them is missing."""
    for i in range(before.size):
        both = before[i] >= 0 and after[i] >= 0
        found[i] = table[row_of[before[i]], column_of[after[i]]] if both else -1


@_compiled()
def number_in_session(
    starts: Int64, time: Int64, previous: Int64, direct: Bool, known: Int64, gap: int, position: Float64
) -> None:
    """Fill ``position`` with the place of each event in its session."""
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(low, starts[customer + 1]):
            p = previous[i]
            if p < 0 or time[i] - time[p] > gap:
                position[i] = 1.0
            elif direct[i]:
                position[i] = position[p] + 1.0
            else:
                n, begin = 1.0, time[i]
                while p >= low and begin - time[p] <= gap:
                    if known[p] <= known[i]:
                        n += 1.0
                        begin = time[p]
                    p -= 1
                position[i] = n


@_compiled()
def number_sessions(starts: Int64, time: Int64, previous: Int64, known: Int64, gap: int, number: Float64) -> None:
    """Fill ``number`` with the number of the session of each event, counted over its past."""
    for customer in range(starts.size - 1):
        low, high = starts[customer], starts[customer + 1]
        in_order = True
        for i in range(low, high):
            if known.size and i > low:
                in_order &= known[i] >= known[i - 1]
            if i == low:
                number[i] = 1.0
            elif time[i] - time[i - 1] > gap:
                number[i] = number[i - 1] + 1.0
            else:
                number[i] = number[i - 1]
        if not in_order:
            _number_sessions_late(low, high, time, previous, known, gap, number)


@_compiled()
def _number_sessions_late(
    low: int, high: int, time: Int64, previous: Int64, known: Int64, gap: int, number: Float64
) -> None:
    """Fill in the sessions of a customer whose events were not known in order.

    Events come in the order in which they became known, and each is put between the one before it and the one behind
    it that are there. Which of them begin a session is counted in a tree of partial sums (Fenwick 1994).
    """
    n = high - low
    sums = np.zeros(n + 1, np.int64)
    begins = np.zeros(n, np.int64)
    behind = np.empty(n, np.int64)
    for k in range(n - 1, -1, -1):  # the next event that was known before this one
        s = k + 1
        while s < n and known[low + s] >= known[low + k]:
            s = behind[s]
        behind[k] = s
    for k in np.argsort(known[low:high], kind="mergesort"):
        p = previous[low + k]
        if p < 0 or time[low + k] - time[p] > gap:
            begins[k] = 1
            _add(sums, k, 1)
        s = behind[k]  # which can only cease to begin a session: what is new is nearer than what was there
        if s < n and begins[s] and time[low + s] - time[low + k] <= gap:
            begins[s] = 0
            _add(sums, s, -1)
        total, place = 0, k + 1
        while place > 0:
            total += sums[place]
            place &= place - 1
        number[low + k] = total


@_compiled(inline="always")
def _add(sums: Int64, k: int, what: int) -> None:
    """Add to the count at a place of a tree of partial sums."""
    k += 1
    while k < sums.size:
        sums[k] += what
        k += k & -k


@_compiled()
def count_days(starts: Int64, days: Int64, previous: Int64, direct: Bool, known: Int64, streak: Float64) -> None:
    """Fill ``streak`` with the number of consecutive days with an event, up to that of each event.

    The past of an event holds the whole streak of every event in it, so each is gone through at one step.
    """
    first = np.empty(days.size, np.int64)
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(low, starts[customer + 1]):
            p, begin = previous[i], i
            if p >= 0 and days[i] - days[p] <= 1 and direct[i]:
                begin = first[p]
            elif p >= 0:
                while p >= low and days[begin] - days[p] <= 1:
                    if known[p] <= known[i]:
                        p = begin = first[p]
                    p -= 1
            first[i] = begin
            streak[i] = days[i] - days[begin] + 1


@_compiled()
def find_loops(starts: Int64, codes: Int32, previous: Int64, direct: Bool, known: Int64, looped: Float64) -> None:
    """Tell which events have the touchpoint of the last but one, and another than the last one; NaN without one."""
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(low, starts[customer + 1]):
            looped[i] = 0.0 if codes[i] >= 0 else np.nan
            p = previous[i]
            if codes[i] < 0 or p < 0 or codes[p] == codes[i]:
                continue
            q = previous[p]
            if not direct[i]:
                q = p - 1
                while q >= low and known[q] > known[i]:
                    q -= 1
            if q >= low and codes[q] == codes[i]:
                looped[i] = 1.0


@_compiled()
def add_path(
    starts: Int64,
    places: Int64,
    previous: Int64,
    known: Int64,
    fold: Int64,
    odds: Float64,
    n_steps: int,
    path: Float64,
) -> None:
    """Fill ``path`` with what the odds of the last steps up to each event add up to, newest first; NaN for none.

    ``odds`` holds them by fold, place before and place, and last but one those of a first event. An event that lies
    behind and was known after this one is passed over, with all between it and the latest of its own past: these were
    known later still.
    """
    for customer in range(starts.size - 1):
        low = starts[customer]
        table = odds[fold[customer]]
        for i in range(low, starts[customer + 1]):
            total, n, event = 0.0, 0, i
            for _ in range(n_steps):
                before = event - 1
                if known.size:
                    while before >= low and known[before] > known[i]:
                        before = previous[before]
                first = before < low
                row = table.shape[0] - 2 if first else places[before]
                if row >= 0 and places[event] >= 0:
                    total += table[row, places[event]]
                    n += 1
                if first:
                    break
                event = before
            path[i] = total if n else np.nan


@_compiled()
def find_followers(
    starts: Int64,
    keys: Int32,
    n_keys: int,
    asking: Bool,
    marked: Bool,
    time: Int64,
    known: Int64,
    within: int,
    found: Float64,
    due: Int64,
    revised: Int64,
) -> None:
    """Tell which asking events are followed by a marked one of the same key, and when that is known.

    Where the first follower becomes known only after the question was settled, the answer is none until then, and
    ``revised`` says when; elsewhere that is never. From each marked event a link leads to the next one that was known
    before it. Following it from the next marked event gives the one known first; nothing that happens after that was
    known can have been known earlier.
    """
    head = np.full(n_keys, -1, np.int64)
    sooner = np.empty(time.size, np.int64)
    for customer in range(starts.size - 1):
        low = starts[customer]
        for i in range(starts[customer + 1] - 1, low - 1, -1):
            found[i], due[i], revised[i] = np.nan, known[i], ALWAYS
            key = keys[i]
            if key < 0:
                continue
            nearest = head[key] if head[key] >= low else np.int64(-1)
            if asking[i]:
                settled = max(time[i] + within, known[i])
                first, p = ALWAYS, nearest
                while p >= 0 and time[p] <= time[i] + within and time[p] <= first:
                    first = min(first, known[p])
                    p = sooner[p]
                found[i] = 1.0 if first <= settled else 0.0
                due[i] = max(known[i], min(first, settled))
                if first > settled:
                    revised[i] = first
            if marked[i]:
                while nearest >= 0 and known[nearest] >= known[i]:
                    nearest = sooner[nearest]
                sooner[i], head[key] = nearest, i


class _Cases(NamedTuple):
    """The cases of a customer: arrays by key, a heap of the first events of open cases, and two sizes.

    An entry of the heap whose case is no longer open stays there until it comes to the top. One whose case turned out
    to have begun earlier stays too, below the entry for that.
    """

    begin: Int64  # first event; one of an earlier customer, or -1, where the case has not begun
    decided: Int64  # latest event that resolves or reopens it, -1 for none; read where the case has begun
    is_open: Bool
    queued: Int64  # entry in the heap
    heap: Int64
    sizes: Int64  # number of open cases, size of the heap


@_compiled()
def follow_cases(
    starts: Int64,
    time: Int64,
    keys: Int32,
    n_keys: int,
    resolved: Float64,
    before: Int64,
    known: Int64,
    n_open: Float64,
    oldest: Float64,
) -> None:
    """Fill ``n_open`` with the number of open cases and ``oldest`` with the days since the oldest of them began.

    Events come in the order in which they became known. Behind one that was known late some that happened after it are
    already there; while it is answered, the cases they changed are set back, which takes a look at what happened
    between the event and its becoming known. ``before`` leads from each event that resolves or reopens a case to the
    one before it of the same case, known or not; like ``known``, it is empty where everything is known in order.
    """
    state = _Cases(
        np.full(n_keys, -1, np.int64), np.empty(n_keys, np.int64), np.zeros(n_keys, np.bool_),
        np.full(n_keys, -1, np.int64), np.empty(time.size, np.int64), np.zeros(2, np.int64),
    )  # fmt: skip
    order, changed = np.empty(known.size, np.int64), np.empty(known.size, np.int32)
    for customer in range(starts.size - 1):
        low, high = starts[customer], starts[customer + 1]
        state.sizes[:] = 0
        newest = low
        if known.size:
            order[low:high] = low + np.argsort(known[low:high], kind="mergesort")
        for k in range(low, high):
            i = order[k] if known.size else k
            newest = max(newest, i)
            if keys[i] >= 0:
                _take_case(state, keys, resolved, low, i)
            n_changed = 0
            if i < newest:
                n_changed = _set_back(state, keys, resolved, before, known, i, newest, changed)
            n_open[i] = state.sizes[0]
            oldest[i] = (time[i] - time[_oldest(state, keys)]) / DAY if state.sizes[0] else np.nan
            for j in range(n_changed):
                _set_open(state, changed[j], not state.is_open[changed[j]])


@_compiled(inline="always")
def _set_open(state: _Cases, key: int, is_open: bool) -> None:
    """Open or close a case that is not so yet."""
    state.is_open[key] = is_open
    state.sizes[0] += 1 if is_open else -1
    if is_open and state.queued[key] != state.begin[key]:
        state.queued[key] = state.begin[key]
        state.sizes[1] = _push(state.heap, state.sizes[1], state.begin[key])


@_compiled(inline="always")
def _take_case(state: _Cases, keys: Int32, resolved: Float64, low: int, i: int) -> None:
    """Take in one event of a case, which may have happened before others that are there."""
    key = keys[i]
    if state.begin[key] < low:
        state.begin[key], state.decided[key], state.is_open[key] = i, -1, False
        _set_open(state, key, True)
    elif i < state.begin[key]:
        state.begin[key] = i
        if state.is_open[key]:
            state.sizes[0] -= 1
            _set_open(state, key, True)
    decides = resolved[i] == 0.0 or resolved[i] == 1.0
    if decides and i > state.decided[key]:
        state.decided[key] = i
        if state.is_open[key] != (resolved[i] == 0.0):
            _set_open(state, key, resolved[i] == 0.0)


@_compiled()
def _set_back(
    state: _Cases,
    keys: Int32,
    resolved: Float64,
    before: Int64,
    known: Int64,
    i: int,
    newest: int,
    changed: Int32,
) -> int:
    """Set the cases of events behind ``i`` back to what they were at ``i``; list those changed, return how many."""
    n_changed = 0
    for j in range(i + 1, newest + 1):
        key = keys[j]
        if key < 0 or known[j] >= known[i]:
            continue
        decided = state.decided[key]
        while decided >= 0 and (decided > i or known[decided] > known[i]):
            decided = before[decided]
        is_open = state.begin[key] <= i and (decided < 0 or resolved[decided] == 0.0)
        if is_open != state.is_open[key]:
            _set_open(state, key, is_open)
            changed[n_changed] = key
            n_changed += 1
    return n_changed


@_compiled(inline="always")
def _oldest(state: _Cases, keys: Int32) -> int:
    """Give the first event of the open case that began first; there is one."""
    entry = state.heap[0]
    while not state.is_open[keys[entry]]:
        if state.queued[keys[entry]] == entry:
            state.queued[keys[entry]] = -1
        state.sizes[1] = _pop(state.heap, state.sizes[1])
        entry = state.heap[0]
    return int(entry)


@_compiled()
def _push(heap: Int64, size: int, item: int) -> int:
    """Put an item into a binary heap, the smallest at the top; return its new size."""
    place = size
    while place > 0 and heap[(place - 1) // 2] > item:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = item
    return size + 1


@_compiled()
def _pop(heap: Int64, size: int) -> int:
    """Take the smallest item out of a binary heap; return its new size."""
    size -= 1
    item, place = heap[size], 0
    while True:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if child >= size or heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
    return size


@_compiled()
def read_clock(time: Int64, ends: Int64, offsets: Int64, next_days: Int64, local: Int64, days: Int64) -> None:
    """Fill ``local`` with what the clock of a zone showed, and ``days`` with the number of the local day.

    The last of ``ends`` is after every event.
    """
    k = 0
    for i in range(time.size):
        while time[i] >= ends[k]:
            k += 1
        while k > 0 and time[i] < ends[k - 1]:
            k -= 1
        local[i] = time[i] + offsets[k]
        days[i] = min(local[i] // DAY_US, next_days[k])
