"""What the columns said of a customer at a cutoff, and of no event, have in common: `rfm`, `surveys`, `promises`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.journeys.block import EventBlock

_F = TypeVar("_F", bound=Callable[..., Any])
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


#: All events of a block.
EVERY = slice(None)


class Part(NamedTuple):
    """Some customers of a block with their snapshots, counted from the first of each.

    Parameters
    ----------
    starts : int64 array of shape (n_customers + 1,)
        Events of customer ``i`` are ``starts[i]:starts[i + 1]``.
    row_starts : int64 array of shape (n_customers + 1,)
        Snapshots of customer ``i`` are ``row_starts[i]:row_starts[i + 1]``.
    cutoffs : int64 array of shape (n_rows,)
        UTC microseconds.
    time, known : int64 arrays of shape (n_events,)
        When each event happened and when it became known, UTC microseconds.
    """

    starts: Int64
    row_starts: Int64
    cutoffs: Int64
    time: Int64
    known: Int64


def part_of(block: EventBlock, customers: tuple[int, int], row_starts: Int64, cutoffs: Int64) -> tuple[Part, slice]:
    """Take some customers of a block.

    Parameters
    ----------
    block : EventBlock
    customers : (int, int)
        First customer and the one after the last.
    row_starts, cutoffs
        Of the whole block, as in `cxml.features.matrix.fill_matrix`.

    Returns
    -------
    part : Part
    events : slice
        Where its events stand in the block.

    Examples
    --------
    >>> block = EventBlock(np.array([7, 8]), np.array([0, 1, 3]), np.array([5, 1, 2]), None, {})
    >>> part, events = part_of(block, (1, 2), np.array([0, 1, 2]), np.array([6, 9]))
    >>> part.starts.tolist(), part.row_starts.tolist(), part.cutoffs.tolist(), part.time.tolist(), events
    ([0, 2], [0, 1], [9], [1, 2], slice(1, 3, None))
    """
    first, stop = (int(block.starts[customer]) for customer in customers)
    begin, end = (int(row_starts[customer]) for customer in customers)
    time, edges = block.time[first:stop], slice(customers[0], customers[1] + 1)
    known = time if block.known is None else np.maximum(time, block.known[first:stop])
    part = Part(block.starts[edges] - first, row_starts[edges] - begin, cutoffs[begin:end], time, known)
    return part, slice(first, stop)


def among(block: EventBlock, touchpoints: Collection[str], events: slice = EVERY) -> Bool:
    """Tell which of some events of a block are one of some touchpoints.

    Examples
    --------
    >>> from cxml.journeys.block import Coded
    >>> touchpoint = Coded(np.array([1, 0, -1], np.int32), ("call", "visit"))
    >>> among(EventBlock(np.array([7]), np.array([0, 3]), np.arange(3), None, {"touchpoint": touchpoint}), ["call"])
    array([False,  True, False])
    """
    coded = block.categories["touchpoint"]
    found: Bool = np.array([*(name in touchpoints for name in coded.vocabulary), False])[coded.codes[events]]
    return found


def compiled(function: _F) -> _F:
    """Compile without the GIL, once per machine; division by zero follows IEEE."""
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
