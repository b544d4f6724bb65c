"""From a block of events and cutoffs to a float32 matrix: checks, maps codes to the plan, calls the kernel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.features.attributes import fill_attributes
from cxml.features.kernel import ascends, fill_rows, first_disorder, map_codes
from cxml.features.plan import CompiledPlan, FeaturePlan
from cxml.features.spec import OTHER
from cxml.journeys.block import CustomerTable, EventBlock

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

#: Work is cut into ranges of customers of about so many events or snapshots, to fit a core's cache.
_RANGE_EVENTS = 65_536
_NONE: Int64 = np.empty(0, np.int64)


def fill_matrix(
    plan: FeaturePlan,
    block: EventBlock,
    row_starts: Int64,
    cutoffs: Int64,
    customers: CustomerTable | None = None,
    threads: int | None = None,
    out: Float32 | None = None,
    rows: Int64 | None = None,
) -> Float32:
    """Compute the features of a plan at the cutoffs of each customer.

    Parameters
    ----------
    plan : FeaturePlan
        Which columns.
    block : EventBlock
        The events.
    row_starts : int64 array of shape (n_customers + 1,)
        Snapshots of customer ``i`` of the block are ``row_starts[i]:row_starts[i + 1]``.
    cutoffs : int64 array of shape (n_rows,)
        UTC microseconds, ascending within each customer; equal ones are allowed.
    customers : CustomerTable, optional
        For the attributes that come from it.
    threads : int, optional
        How many threads share the work; default: one for each core this process may use. Results do not depend
        on it.
    out : float32 array of shape (at least n_rows, n_columns), optional
        Where to write; a buffer that is used again saves the cost of fresh memory.
    rows : int64 array of shape (n_rows,), optional
        Row of ``out`` for each snapshot; default: the snapshot's own number.

    Returns
    -------
    float32 array of shape (n_rows, n_columns)
        ``out``, or a new array. Category columns hold codes (see `FeaturePlan.categories`), NaN where unknown.

    Raises
    ------
    DataError
        If codes lie outside their vocabulary, or events or cutoffs do not ascend.
    ConfigError
        If the shapes do not fit together.

    Examples
    --------
    >>> from cxml.features.spec import Aggregate
    >>> from cxml.journeys.block import Coded
    >>> plan = FeaturePlan((Aggregate("count", "all", "1d"),), {"touchpoint": ("call",)})
    >>> block = EventBlock(np.array([7]), np.array([0, 2]), np.array([0, 10]), None,
    ...                    {"touchpoint": Coded(np.zeros(2, np.int32), ("call",))})
    >>> fill_matrix(plan, block, np.array([0, 2]), np.array([10, 11]))
    array([[1.],
           [2.]], dtype=float32)
    """
    rows = _NONE if rows is None else rows
    row_starts, cutoffs = np.ascontiguousarray(row_starts, np.int64), np.ascontiguousarray(cutoffs, np.int64)
    if out is None:
        out = np.empty((len(cutoffs), len(plan.columns)), np.float32)
    _check_rows(plan, block, row_starts, cutoffs, rows, out)
    bound = _Bound.build(plan.compiled, block)
    work = partial(_fill_range, bound, block, row_starts, cutoffs, rows, out)
    ranges = _customer_ranges(block.starts, row_starts)
    n_threads = min(len(ranges), threads if threads is not None else _available_cores())
    if n_threads <= 1:
        for customer_range in ranges:
            work(customer_range)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(work, ranges):
                pass
    fill_attributes(plan, customers, block.customers, row_starts, cutoffs, rows, out)
    return out[: len(cutoffs)] if len(rows) == 0 else out


@dataclass(frozen=True)
class _Bound:
    """A plan bound to a block: for each slot column the block's codes and the table from code to slot."""

    compiled: CompiledPlan
    columns: tuple[tuple[str, NDArray[np.int32], NDArray[np.uint32]] | None, ...]
    measures: tuple[NDArray[np.float64] | None, ...]

    @classmethod
    def build(cls, compiled: CompiledPlan, block: EventBlock) -> _Bound:
        columns = []
        for name in compiled.columns[1:]:
            source = "touchpoint" if name == "stage" and compiled.stages else name
            coded = block.categories.get(source)
            slots = None if coded is None else (source, coded.codes, _slot_table(compiled, name, coded.vocabulary))
            columns.append(slots)
        return cls(compiled, tuple(columns), tuple(block.measures.get(name) for name in compiled.measures))

    def slots(self, first: int, stop: int) -> NDArray[np.uint32]:
        """Give the slot of each event in each column."""
        slots = np.empty((stop - first, len(self.columns) + 1), np.uint32)
        slots[:, 0] = 0
        for column, coded in enumerate(self.columns, start=1):
            if coded is None:
                slots[:, column] = self.compiled.tables.null_slot
                continue
            name, codes, table = coded
            n_bad = map_codes(codes[first:stop], table, slots[:, column])
            if n_bad:
                raise DataError(
                    f"column '{name}': {n_bad:,} of {stop - first:,} events (from event {first:,}) have a code "
                    f"outside its vocabulary of {len(table) - 1:,} values. Read the journeys again with read_journeys."
                )
        return slots

    def values(self, first: int, stop: int) -> NDArray[np.float64]:
        """Give the measures of each event."""
        values = np.empty((stop - first, len(self.measures)), np.float64)
        for column, measure in enumerate(self.measures):
            values[:, column] = np.nan if measure is None else measure[first:stop]
        return values


def _slot_table(compiled: CompiledPlan, column: str, vocabulary: tuple[str, ...]) -> NDArray[np.uint32]:
    """Say for each value of a block's vocabulary, and at last for null, which slot it is; unseen ones share one."""
    slot_of, null = compiled.slot_of[column], int(compiled.tables.null_slot)
    if column == "stage" and compiled.stages:
        slots = [slot_of.get(compiled.stages.get(value, ""), null) for value in vocabulary]
    else:
        slots = [slot_of.get(value, slot_of[OTHER]) for value in vocabulary]
    return np.array([*slots, null], np.uint32)


def _fill_range(
    bound: _Bound,
    block: EventBlock,
    row_starts: Int64,
    cutoffs: Int64,
    rows: Int64,
    out: Float32,
    customers: tuple[int, int],
) -> None:
    first, stop = int(block.starts[customers[0]]), int(block.starts[customers[1]])
    _check_order(block, row_starts, cutoffs, customers)
    time = block.time[first:stop]
    known, order = time, _NONE
    if block.known is not None:
        known = np.maximum(time, block.known[first:stop])
        order = _order_of_knowledge(block.starts[customers[0] : customers[1] + 1] - first, known)
    fill_rows(
        bound.compiled.tables, customers, block.starts, first, time, known, order,
        bound.slots(first, stop), bound.values(first, stop), row_starts, cutoffs, rows, out,
    )  # fmt: skip


def _order_of_knowledge(starts: Int64, known: Int64) -> Int64:
    """Order the events of each customer by when they became known."""
    customer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.lexsort((known, customer)).astype(np.int64, copy=False)


def _customer_ranges(starts: Int64, row_starts: Int64) -> list[tuple[int, int]]:
    """Cut the customers into ranges of about equal work; those without snapshots cost nothing."""
    n_customers = len(starts) - 1
    work = int(starts[-1]) + int(row_starts[-1])
    if work <= _RANGE_EVENTS:
        return [(0, n_customers)] if len(row_starts) and row_starts[-1] else []
    marks = np.searchsorted(starts + row_starts, np.arange(_RANGE_EVENTS, work, _RANGE_EVENTS))
    edges = [0, *np.unique(marks).tolist(), n_customers]
    return [(a, b) for a, b in pairwise(edges) if row_starts[b] > row_starts[a]]


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_rows(
    plan: FeaturePlan, block: EventBlock, row_starts: Int64, cutoffs: Int64, rows: Int64, out: Float32
) -> None:
    """Refuse what would let the kernel read or write out of bounds."""
    n_rows, n_events = len(cutoffs), block.n_events
    lengths = {len(block.time), *(len(c.codes) for c in block.categories.values()), *map(len, block.measures.values())}
    lengths.add(n_events if block.known is None else len(block.known))
    if lengths != {n_events} or len(block.starts) != block.n_customers + 1 or not ascends(block.starts, n_events):
        raise DataError("the block's columns differ in length or its starts do not ascend; read the journeys again")
    if len(row_starts) != len(block.starts) or not ascends(row_starts, n_rows):
        raise ConfigError(
            f"row_starts must ascend from 0 to the number of cutoffs ({n_rows:,}) in {len(block.starts):,} steps, "
            f"one more than the block has customers; it has {len(row_starts):,}"
        )
    if len(rows) and (len(rows) != n_rows or rows.min() < 0 or rows.max() >= len(out)):
        raise ConfigError(f"rows must give each of the {n_rows:,} cutoffs a row of out, 0 to {len(out) - 1:,}")
    if out.dtype != np.float32 or out.ndim != 2 or out.shape[1] != len(plan.columns) or len(out) < n_rows:
        raise ConfigError(
            f"out must be float32 of shape ({n_rows:,} or more, {len(plan.columns)}); it is {out.dtype} of {out.shape}"
        )


def _check_order(block: EventBlock, row_starts: Int64, cutoffs: Int64, customers: tuple[int, int]) -> None:
    event = first_disorder(block.starts, block.time, *customers)
    if event >= 0:
        customer = block.customers[np.searchsorted(block.starts, event, side="right") - 1]
        raise DataError(f"customer {customer}: event {event:,} is before the one in front of it; sort them by time")
    snapshot = first_disorder(row_starts, cutoffs, *customers)
    if snapshot >= 0:
        customer = block.customers[np.searchsorted(row_starts, snapshot, side="right") - 1]
        raise ConfigError(f"customer {customer}: cutoff {snapshot:,} is before the one in front of it; sort them")
