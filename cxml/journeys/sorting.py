"""Rows of some customers grouped by customer and put in total order.

Grouping is a counting scatter; then only what is not in order yet is sorted. Nothing here knows columns by name: a
key is an array, and missing values were made its smallest number. Numba is imported where it is used: it takes its
time, in which others read files.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxml.journeys.block import Int32, Int64


class Order(NamedTuple):
    """The total order of some events.

    Parameters
    ----------
    customers : int64 array of shape (n_customers,)
        Distinct ids, ascending.
    starts : int64 array of shape (n_customers + 1,)
        Where each customer begins in ``rows``.
    rows : int32 array of shape (n_events,)
        ``rows[k]`` is the row that comes at position ``k``.
    repeats : int64 array
        Positions whose event equals the one before in customer, time and all keys.
    """

    customers: Int64
    starts: Int64
    rows: Int32
    repeats: Int64

    def without_repeats(self) -> Order:
        """Leave the repeats out."""
        starts = self.starts - np.searchsorted(self.repeats, self.starts)
        return Order(self.customers, starts, np.delete(self.rows, self.repeats), self.repeats[:0])


def total_order(ids: Int64, time: Int64, keys: Iterable[NDArray[np.generic]]) -> Order:
    """Order events by customer, then time, then ``keys``.

    Parameters
    ----------
    ids : int64 array of shape (n_events,)
        Fewer than 2**31 of them.
    time : int64 array of shape (n_events,)
        The first key within a customer.
    keys : iterable of arrays of shape (n_events,)
        Further keys, the one that counts most first. Taken one at a time, and only while ties remain.
        NaN sorts before every number.

    Returns
    -------
    Order

    Examples
    --------
    >>> total_order(np.array([9, 7, 9]), np.array([5, 9, 3]), []).rows
    array([1, 2, 0], dtype=int32)
    """
    from cxml.journeys.loops import code_ids, group_rows, sort_runs, unsorted_runs

    codes, order = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32)
    found = code_ids(ids, codes)
    ascending = np.argsort(found)
    rank = np.empty(len(found), np.int32)
    rank[ascending] = np.arange(len(found), dtype=np.int32)
    starts = np.zeros(len(found) + 1, np.int64)
    group_rows(codes, rank, order, starts)
    low, high = unsorted_runs(order, starts, time)
    low, high = sort_runs(order, low, high, time)
    for key in keys:
        if not len(low):
            break
        low, high = sort_runs(order, low, high, _as_integers(key))
    return Order(found[ascending], starts, order, _behind_first(low, high))


def move_runs(values: NDArray[Any], starts: Int64, place: Int64, out: NDArray[Any]) -> None:
    """Write run ``k`` of ``values``, ``starts[k]`` to ``starts[k + 1]``, to ``out`` from ``place[k]`` on."""
    from cxml.journeys import loops

    loops.move_runs(values, starts, place, out)


def warm_up() -> None:
    """Load Numba and the compiled loops, which takes some tenths of a second the first time in a process."""
    with uncollected():
        _load_numba_without_scipy()
        two = np.array([1, 0])
        total_order(two, two, [])


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for garbage among what is being loaded, again and again: it stays."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _load_numba_without_scipy() -> None:
    """Load Numba's functions on arrays, but not ``scipy.linalg``, which they load only to see that it is there.

    It comes with scikit-learn, so that it is; loading it takes as long as a third of Numba. Code that multiplies
    matrices loads it all the same when it is compiled.
    """
    import numba.np.linalg as linalg

    look = getattr(linalg, "ensure_blas", None)
    if look is None:
        return
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = look


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
