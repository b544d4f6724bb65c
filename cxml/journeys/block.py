"""Events of whole customers as plain arrays: what every later room works on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coded:
    """A categorical column as numbers.

    Parameters
    ----------
    codes : int32 array of shape (n,)
        Index into ``vocabulary``; -1 where the value is missing.
    vocabulary : tuple of str
        The distinct values, ascending by code point, so codes order as their texts do.
    """

    codes: Int32
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventBlock:
    """All events of some customers, customer by customer, in total order within each.

    The order of a customer's events is total: timestamp, ``sequence`` where the log has one, then the
    canonical columns in their fixed order with missing values first. Two engines therefore never
    disagree about ties.

    Parameters
    ----------
    customers : int64 or object (str) array of shape (n_customers,)
        Distinct ids, ascending.
    starts : int64 array of shape (n_customers + 1,)
        Events of customer ``i`` are ``starts[i]:starts[i + 1]``.
    time : int64 array of shape (n_events,)
        UTC microseconds.
    known : int64 array of shape (n_events,), optional
        When the event became known, ``max(timestamp, available_at)``; None when that is ``time`` throughout.
    categories : dict of str to Coded
        ``touchpoint`` always; ``channel``, ``case_id`` and the attributes of the config where the log has them.
    measures : dict of str to float64 array
        ``value``, ``duration``, ``score``, ``resolved`` (0 or 1) and further measures; NaN where missing.
    """

    customers: NDArray[np.generic]
    starts: Int64
    time: Int64
    known: Int64 | None
    categories: dict[str, Coded]
    measures: dict[str, Float64] = field(default_factory=dict)

    @property
    def n_customers(self) -> int:
        """How many customers."""
        return len(self.customers)

    @property
    def n_events(self) -> int:
        """How many events."""
        return len(self.time)


@dataclass(frozen=True, slots=True)
class CustomerTable:
    """What is known of customers beside their events, dated.

    Parameters
    ----------
    customers : int64 or object (str) array of shape (n_rows,)
        Ascending; an id may stand in several rows, which then ascend by ``valid_from``.
    valid_from : int64 array of shape (n_rows,)
        UTC microseconds from which the row holds (known at a cutoff only if before it);
        the smallest int64 where the table carries no dates.
    attributes : dict of str to Coded
        One value a row.
    """

    customers: NDArray[np.generic]
    valid_from: Int64
    attributes: dict[str, Coded]


def slice_block(block: EventBlock, first: int, last: int) -> EventBlock:
    """Return customers ``first`` to ``last`` (exclusive) of a block, as views.

    Parameters
    ----------
    block : EventBlock
    first, last : int
        Indices of customers.

    Returns
    -------
    EventBlock
    """
    begin, end = int(block.starts[first]), int(block.starts[last])
    return EventBlock(
        customers=block.customers[first:last],
        starts=block.starts[first : last + 1] - begin,
        time=block.time[begin:end],
        known=None if block.known is None else block.known[begin:end],
        categories={name: Coded(c.codes[begin:end], c.vocabulary) for name, c in block.categories.items()},
        measures={name: values[begin:end] for name, values in block.measures.items()},
    )


def known_before(block: EventBlock, cutoff: int) -> Int64:
    """Return the customers of whom an event was known before the cutoff, as indices into the block."""
    known = block.time if block.known is None else block.known
    before = np.concatenate([[0], np.cumsum(known < cutoff)])
    return np.flatnonzero(before[block.starts[1:]] > before[block.starts[:-1]])
