"""Features as if no more than the last days before each cutoff had been kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.journeys.block import Coded, CustomerTable, EventBlock

_F = TypeVar("_F", bound=Callable[..., Any])
Int64 = NDArray[np.int64]

_EVENTS_AT_ONCE = 4_000_000


def fill_short_matrix(
    plan: FeaturePlan,
    block: EventBlock,
    customer: Int64,
    cutoff: Int64,
    width_us: int,
    customers: CustomerTable | None = None,
) -> NDArray[np.float32]:
    """Compute features from short histories, some snapshots at a time: their events stand once for each of them.

    Parameters
    ----------
    plan : FeaturePlan
    block, customer, cutoff, width_us
        As in `truncate_history`.
    customers : CustomerTable, optional
        For the attributes that come from it; these are not cut short.

    Returns
    -------
    float32 array of shape (n_rows, n_columns)
        As `cxml.features.matrix.fill_matrix` would give it from a log that holds no more.
    """
    X = np.empty((len(cutoff), len(plan.columns)), np.float32)
    for some in _pieces(block, customer, cutoff, width_us):
        short = truncate_history(block, customer[some], cutoff[some], width_us)
        row_starts = np.arange(short.n_customers + 1, dtype=np.int64)
        fill_matrix(plan, short, row_starts, cutoff[some], customers, out=X[some])
    return X


def truncate_history(block: EventBlock, customer: Int64, cutoff: Int64, width_us: int) -> EventBlock:
    """Give each snapshot the events of its last ``width_us`` alone, as if it were a customer of its own.

    Parameters
    ----------
    block : EventBlock
    customer : int64 array of shape (n_rows,)
        Index into the block's customers, ascending.
    cutoff : int64 array of shape (n_rows,)
        UTC microseconds.
    width_us : int
        Events in ``[cutoff - width_us, cutoff)`` stay.

    Returns
    -------
    EventBlock
        ``n_rows`` customers; an id stands as often as it has snapshots.

    Examples
    --------
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([10, 20, 30]), None,
    ...                    {"touchpoint": Coded(np.zeros(3, np.int32), ("call",))})
    >>> short = truncate_history(block, np.array([0, 0]), np.array([25, 31]), 15)
    >>> short.starts.tolist(), short.time.tolist()
    ([0, 2, 4], [10, 20, 20, 30])
    """
    first, last = _event_ranges(block.starts, block.time, customer, cutoff, width_us)
    sizes = last - first
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    events = np.repeat(first - starts[:-1], sizes) + np.arange(starts[-1])
    return EventBlock(
        customers=block.customers[customer],
        starts=starts,
        time=block.time[events],
        known=None if block.known is None else block.known[events],
        categories={name: Coded(c.codes[events], c.vocabulary) for name, c in block.categories.items()},
        measures={name: values[events] for name, values in block.measures.items()},
    )


def _pieces(block: EventBlock, customer: Int64, cutoff: Int64, width_us: int) -> Iterator[slice]:
    first, last = _event_ranges(block.starts, block.time, customer, cutoff, width_us)
    piece = np.cumsum(last - first) // _EVENTS_AT_ONCE
    for begin, end in pairwise([0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(cutoff)]):
        yield slice(begin, end)


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


@_compiled
def _event_ranges(starts: Int64, time: Int64, customer: Int64, cutoff: Int64, width_us: int) -> tuple[Int64, Int64]:
    """Find the events in ``[cutoff - width, cutoff)`` of each snapshot's customer."""
    first, last = np.empty(len(customer), np.int64), np.empty(len(customer), np.int64)
    for row in range(len(customer)):
        begin, end = starts[customer[row]], starts[customer[row] + 1]
        own = time[begin:end]
        first[row] = begin + np.searchsorted(own, cutoff[row] - width_us)
        last[row] = begin + np.searchsorted(own, cutoff[row])
    return first, last
