"""Compiled loops that put rows in order.

Numba compiles them once and keeps them on disk. They know no column by name and check nothing. Every array they are
given has one type wherever it comes from, because each further type is another function to load.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def code_ids(ids, codes):  # type: ignore[no-untyped-def]
    """Code integers by an open hash table, in the order of their first appearance; return the distinct ones."""
    size, n = 4096, -1
    while n < 0:  # as large as the ids need, not the rows, so that it stays in the cache
        table, distinct = np.full(size, -1, np.int32), np.empty(size // 2, np.int64)
        n = _code_ids(ids, codes, table, distinct)
        size *= 4
    return distinct[:n].copy()


@njit(cache=True, nogil=True)
def _code_ids(ids, codes, table, distinct):  # type: ignore[no-untyped-def]
    """Give the number of distinct ids; -1 when the table is too small."""
    mask, n = table.size - 1, 0
    for i in range(ids.size):
        slot = ((ids[i] * -7046029254386353131) >> 20) & mask
        while table[slot] >= 0 and distinct[table[slot]] != ids[i]:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            if n == distinct.size:
                return -1
            table[slot] = n
            distinct[n] = ids[i]
            n += 1
        codes[i] = table[slot]
    return n


@njit(cache=True, nogil=True)
def group_rows(customers, rank, order, starts):  # type: ignore[no-untyped-def]
    """Group rows by the rank of their customer, each group in the order of its rows."""
    for c in customers:
        starts[rank[c] + 1] += 1
    for c in range(starts.size - 1):
        starts[c + 1] += starts[c]
    head = starts[:-1].copy()
    for i in range(customers.size):
        c = rank[customers[i]]
        order[head[c]] = i
        head[c] += 1


@njit(cache=True, nogil=True)
def unsorted_runs(order, starts, time):  # type: ignore[no-untyped-def]
    """Find the runs (customers) whose times do not strictly ascend."""
    low, high, n = np.empty(starts.size, np.int64), np.empty(starts.size, np.int64), 0
    for c in range(starts.size - 1):
        for k in range(starts[c] + 1, starts[c + 1]):
            if time[order[k]] <= time[order[k - 1]]:
                low[n], high[n] = starts[c], starts[c + 1]
                n += 1
                break
    return low[:n], high[:n]


_SHORT = 48  # up to here insertion sort beats building a permutation


@njit(cache=True, nogil=True)
def sort_runs(order, low, high, key):  # type: ignore[no-untyped-def]
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
def move_runs(values, starts, place, out):  # type: ignore[no-untyped-def]
    """Write run ``k`` of ``values`` to ``out`` from ``place[k]`` on."""
    for k in range(place.size):
        to = place[k]
        for i in range(starts[k], starts[k + 1]):
            out[to] = values[i]
            to += 1
