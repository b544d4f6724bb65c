"""Events grouped by customer and put in total order: a counting scatter, then only what is not in order yet.

Numba compiles the loops once and keeps them on disk. Nothing here knows columns by name: a key is an array,
and missing values were made its smallest number. Large arrays are NumPy's, which asks for huge pages; filling one
that Numba allocates takes the system several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.journeys.block import Int32, Int64

_SHORT = 48  # up to here insertion sort beats building a permutation


def total_order(
    customers: Int32, n_customers: int, time: Int64, keys: Iterable[NDArray[np.generic]]
) -> tuple[Int32 | Int64, Int64, Int64]:
    """Order events by customer, then time, then ``keys``.

    Parameters
    ----------
    customers : int32 array of shape (n_events,)
        Customer index of each event, ``0 .. n_customers - 1``.
    n_customers : int
        How many customers; each has at least one event.
    time : int64 array of shape (n_events,)
        The first key within a customer.
    keys : iterable of arrays of shape (n_events,)
        Further keys, the one that counts most first. Taken one at a time, and only while ties remain.
        NaN sorts before every number.

    Returns
    -------
    order : int32 or int64 array of shape (n_events,)
        ``order[k]`` is the row that comes at position ``k``.
    starts : int64 array of shape (n_customers + 1,)
        Where each customer begins in ``order``.
    repeats : int64 array
        Positions in ``order`` whose event equals the one before in customer, time and all keys.

    Examples
    --------
    >>> customers, time = np.array([1, 0, 1], dtype=np.int32), np.array([5, 9, 3])
    >>> order, starts, repeats = total_order(customers, 2, time, [])
    >>> order, starts, repeats
    (array([1, 2, 0], dtype=int32), array([0, 1, 3]), array([], dtype=int64))
    """
    n = len(customers)
    order: Int32 | Int64  # narrow where it can be: half the memory to fill, and to read for every column
    order = np.empty(n, np.int32) if n < 2**31 else np.empty(n, np.int64)
    starts = np.zeros(n_customers + 1, np.int64)
    _scatter(customers, order, starts)
    low, high = _unsorted(order, starts, time)
    low, high = _sort_runs(order, low, high, time)
    for key in keys:
        if not len(low):
            break
        low, high = _sort_runs(order, low, high, _as_integers(key))
    return order, starts, _behind_first(low, high)


def code_integers(ids: Int64, low: int, high: int) -> tuple[Int32, Int64]:
    """Code integers that lie close together, by a table of those present.

    Parameters
    ----------
    ids : int64 array
    low, high : int
        Their least and greatest; ``high - low + 1`` entries of memory are taken.

    Returns
    -------
    codes : int32 array of the same shape
        Index into ``distinct``.
    distinct : int64 array
        Ascending.

    Examples
    --------
    >>> code_integers(np.array([9, 7, 9]), 7, 9)
    (array([1, 0, 1], dtype=int32), array([7, 9]))
    """
    codes = np.empty(len(ids), np.int32)
    distinct: Int64 = _code(ids, low, high, codes)
    return codes, distinct


def take(values: NDArray[Any], order: Int32 | Int64) -> NDArray[Any]:
    """Return ``values[order]``: without NumPy's check of every index, and letting other threads run meanwhile."""
    taken = np.empty(len(order), values.dtype)
    _take(values, order, taken)
    return taken


def warm_up() -> None:
    """Load the compiled loops, which takes half a second the first time in a process."""
    codes, _ = code_integers(np.array([1, 0]), 0, 1)
    order, _, _ = total_order(codes, 2, np.array([0, 1]), [])
    take(np.array([0.0, 1.0]), order)
    take(codes, order)


def _as_integers(key: NDArray[np.generic]) -> Int64:
    """Integers that order as the key does: the bits of a float ascend with it once negatives are turned over."""
    if key.dtype != np.float64:
        return key.astype(np.int64, copy=False)
    bits = np.where(np.isnan(key), -np.inf, key).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _behind_first(low: Int64, high: Int64) -> Int64:
    if not len(low):
        return np.empty(0, dtype=np.int64)
    return np.concatenate([np.arange(a + 1, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)])


@njit(cache=True, nogil=True)
def _code(ids, low, high, codes):  # type: ignore[no-untyped-def]
    place = np.zeros(high - low + 1, np.int32)
    for one in ids:
        place[one - low] = 1
    distinct, n = np.empty(min(ids.size, place.size), np.int64), 0
    for i in range(place.size):
        if place[i]:
            distinct[n], place[i] = low + i, n
            n += 1
    for k in range(ids.size):
        codes[k] = place[ids[k] - low]
    return distinct[:n].copy()


@njit(cache=True, nogil=True)
def _scatter(customers, order, starts):  # type: ignore[no-untyped-def]
    for c in customers:
        starts[c + 1] += 1
    for c in range(starts.size - 1):
        starts[c + 1] += starts[c]
    place = starts[:-1].copy()
    for i in range(customers.size):
        c = customers[i]
        order[place[c]] = i
        place[c] += 1


@njit(cache=True, nogil=True)
def _unsorted(order, starts, time):  # type: ignore[no-untyped-def]
    """Find the runs (customers) whose times do not strictly ascend."""
    low, high, n = np.empty(starts.size, np.int64), np.empty(starts.size, np.int64), 0
    for c in range(starts.size - 1):
        for k in range(starts[c] + 1, starts[c + 1]):
            if time[order[k]] <= time[order[k - 1]]:
                low[n], high[n] = starts[c], starts[c + 1]
                n += 1
                break
    return low[:n], high[:n]


@njit(cache=True, nogil=True)
def _sort_runs(order, low, high, key):  # type: ignore[no-untyped-def]
    """Sort each run by the key, in place and stably; return the runs in which the key is equal."""
    total = 0
    for r in range(low.size):
        total += high[r] - low[r]
    ties_low, ties_high, n = np.empty(total // 2, np.int64), np.empty(total // 2, np.int64), 0
    for r in range(low.size):
        a, b = low[r], high[r]
        rows, values = order[a:b].copy(), key[order[a:b]]
        if b - a <= _SHORT:
            for i in range(1, b - a):
                row, value, j = rows[i], values[i], i - 1
                while j >= 0 and values[j] > value:
                    rows[j + 1], values[j + 1] = rows[j], values[j]
                    j -= 1
                rows[j + 1], values[j + 1] = row, value
        else:
            by = np.argsort(values, kind="mergesort")
            rows, values = rows[by], values[by]
        order[a:b] = rows
        first = 0
        for i in range(1, b - a + 1):
            if i == b - a or values[i] != values[first]:
                if i - first > 1:
                    ties_low[n], ties_high[n] = a + first, a + i
                    n += 1
                first = i
    return ties_low[:n], ties_high[:n]


@njit(cache=True, nogil=True)
def _take(values, order, taken):  # type: ignore[no-untyped-def]
    for k in range(order.size):
        taken[k] = values[order[k]]
