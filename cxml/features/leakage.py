"""A proof on the user's own data: whatever happens at or after a cutoff, no feature changes in any bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.features.align import distinct_ids, order_rows, positions_in, read_snapshots
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.journeys.block import Coded, CustomerTable, EventBlock
from cxml.times import DAY_US, format_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: What is done to the future: taken away, changed in every respect, made richer.
TAMPERINGS = ("deleted", "shuffled", "added")

_REACH_US = 60 * DAY_US
_ADDED_PER_CUSTOMER = 3


@dataclass(frozen=True, slots=True)
class Leak:
    """One column that saw the future of one cutoff.

    Parameters
    ----------
    column : str
        The feature.
    cutoff : int
        UTC microseconds.
    tampering : str
        What had been done to the future; one of `TAMPERINGS`.
    n_rows : int
        Snapshots whose value changed.
    """

    column: str
    cutoff: int
    tampering: str
    n_rows: int


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What `check_leakage` found.

    Parameters
    ----------
    n_snapshots, n_customers : int
        How many were looked at.
    cutoffs : tuple of int
        UTC microseconds, ascending.
    n_columns : int
        How many features.
    leaks : tuple of Leak
        Empty when no feature knows the future.
    """

    n_snapshots: int
    n_customers: int
    cutoffs: tuple[int, ...]
    n_columns: int
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        """Whether no feature knows the future."""
        return not self.leaks

    @property
    def columns(self) -> tuple[str, ...]:
        """The leaking columns."""
        return tuple(dict.fromkeys(leak.column for leak in self.leaks))

    def __str__(self) -> str:
        looked = (
            f"{self.n_columns} features of {self.n_snapshots:,} snapshots ({self.n_customers:,} customers, "
            f"{len(self.cutoffs)} cutoffs)"
        )
        if self.clean:
            return f"No leak: {looked} kept every bit when all that came later was deleted, shuffled and added to."
        worst = self.leaks[0]
        return (
            f"LEAK: {len(self.columns)} of {looked} changed with events at or after the cutoff; the first is "
            f"'{worst.column}' at {format_instant(worst.cutoff)}, in {worst.n_rows:,} rows, when they were "
            f"{worst.tampering}."
        )


def check_leakage(
    log: JourneyLog,
    plan: FeaturePlan,
    snapshots: pd.DataFrame,
    *,
    random_state: int = 0,
    max_customers: int = 500,
    max_cutoffs: int = 24,
    fill: Callable[..., Any] = fill_matrix,
) -> LeakageReport:
    """Tamper with everything at or after each cutoff and compare the features bit for bit.

    What counts as later is an event that happens or becomes known at the cutoff or after it, and a row of the
    customer table that holds from the cutoff or after it. Each cutoff is asked alone on the tampered events, and
    compared with all cutoffs asked together on the true ones, so that this is compared too.

    Parameters
    ----------
    log : JourneyLog
        The journeys.
    plan : FeaturePlan
        The features.
    snapshots : DataFrame
        With ``customer_id`` and ``cutoff``; customers without events are passed over.
    random_state : int
        Seed of the sample and of the tampering.
    max_customers, max_cutoffs : int
        So many are looked at, drawn at random where there are more.
    fill : callable
        What computes the features; called as `cxml.features.matrix.fill_matrix` with ``plan, block, row_starts,
        cutoffs`` and ``customers=``.

    Returns
    -------
    LeakageReport

    Raises
    ------
    DataError
        If no snapshot is of a customer in the log.
    """
    rng = np.random.default_rng(random_state)
    ids, cutoffs = read_snapshots(snapshots)
    customers, which = distinct_ids(ids)
    present = np.zeros(len(customers), bool)
    for block in log.blocks():
        present |= positions_in(customers, block.customers) >= 0
    row = np.flatnonzero(present[which])
    if not len(row):
        raise DataError("no snapshot is of a customer in the journeys; nothing to check for leakage")
    row = row[np.isin(cutoffs[row], _sample(rng, cutoffs[row], max_cutoffs))]
    row = row[np.isin(which[row], _sample(rng, which[row], max_customers))]
    leaks: list[Leak] = []
    for block, position in _sampled_blocks(log, customers, which[row]):
        leaks += _leaks_in(block, _rows_of(log.customers, block), plan, position, cutoffs[row], rng, fill)
    return LeakageReport(
        n_snapshots=len(row),
        n_customers=len(np.unique(which[row])),
        cutoffs=tuple(np.unique(cutoffs[row]).tolist()),
        n_columns=len(plan.columns),
        leaks=tuple(leaks),
    )


def _sample(rng: np.random.Generator, values: Int64, size: int) -> Int64:
    values = np.unique(values)
    return values if len(values) <= size else rng.choice(values, size, replace=False)


def _sampled_blocks(log: JourneyLog, customers: NDArray[Any], asked: Int64) -> Iterator[tuple[EventBlock, Int64]]:
    """Give blocks of the asked customers alone, and for each asked one its place in the block (-1: elsewhere)."""
    wanted = np.unique(asked)
    for block in log.blocks():
        found = positions_in(customers[wanted], block.customers)
        inside = found >= 0
        small = _take_customers(block, found[inside])
        place = np.full(len(customers), -1, np.int64)
        place[wanted[inside]] = np.arange(int(inside.sum()))
        yield small, place[asked]


def _take_customers(block: EventBlock, chosen: Int64) -> EventBlock:
    customer = np.repeat(np.arange(len(chosen)), np.diff(block.starts)[chosen])
    events = [np.arange(block.starts[i], block.starts[i + 1]) for i in chosen]
    source = np.concatenate([np.empty(0, np.int64), *events])
    known = None if block.known is None else block.known[source]
    return _rebuild(replace(block, customers=block.customers[chosen]), customer, block.time[source], known, source)


def _rebuild(block: EventBlock, customer: Int64, time: Int64, known: Int64 | None, source: Int64) -> EventBlock:
    """Make a block of events that are like ``source`` but for customer and times; ties keep the given order."""
    order = np.lexsort((time, customer))
    counts = np.bincount(customer, minlength=block.n_customers)
    return EventBlock(
        customers=block.customers,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        time=time[order],
        known=None if known is None else known[order],
        categories={name: Coded(c.codes[source][order], c.vocabulary) for name, c in block.categories.items()},
        measures={name: values[source][order] for name, values in block.measures.items()},
    )


def _leaks_in(
    block: EventBlock,
    table: CustomerTable | None,
    plan: FeaturePlan,
    position: Int64,
    cutoffs: Int64,
    rng: np.random.Generator,
    fill: Callable[..., Any],
) -> Iterator[Leak]:
    rows, row_starts = order_rows(position, cutoffs, block.n_customers)
    at = cutoffs[rows]
    truth = np.asarray(fill(plan, block, row_starts, at, customers=table))
    for cutoff in np.unique(at).tolist():
        here = rows[at == cutoff]
        some, some_starts = order_rows(position[here], cutoffs[here], block.n_customers)
        for how in TAMPERINGS:
            changed = fill(
                plan,
                _tamper_events(block, cutoff, how, rng),
                some_starts,
                cutoffs[here][some],
                customers=_tamper_table(table, cutoff, how, rng),
            )
            for column, n_rows in _differences(truth[at == cutoff], np.asarray(changed)):
                yield Leak(plan.columns[column], cutoff, how, n_rows)


def _differences(a: NDArray[np.float32], b: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    counts = (a.view(np.uint32) != b.view(np.uint32)).sum(axis=0)
    for column in np.flatnonzero(counts).tolist():
        yield column, int(counts[column])


def _tamper_events(block: EventBlock, cutoff: int, how: str, rng: np.random.Generator) -> EventBlock:
    """Delete, shuffle or add to what is not known before the cutoff; the rest stays as it is, in its order."""
    customer = np.repeat(np.arange(block.n_customers), np.diff(block.starts))
    time, known = block.time, block.time if block.known is None else block.known
    late = block.known is not None
    source = np.arange(block.n_events)
    future = (time >= cutoff) | (known >= cutoff)
    if how == "deleted":
        customer, time, known, source = customer[~future], time[~future], known[~future], source[~future]
    elif how == "shuffled":
        time, known = _other_times(time, cutoff, future, late, rng)
        source = np.where(future, rng.integers(0, max(block.n_events, 1), block.n_events), source)
        known = np.where(future, known, block.time if block.known is None else block.known)
    else:
        n_added = block.n_customers * _ADDED_PER_CUSTOMER if block.n_events else 0
        happened = rng.integers(cutoff - _REACH_US, cutoff + _REACH_US, n_added)
        if not late:
            happened = np.maximum(happened, cutoff)
        customer = np.concatenate([customer, np.arange(n_added) % max(block.n_customers, 1)])
        time = np.concatenate([time, happened])
        known = np.concatenate([known, np.maximum(happened, cutoff + rng.integers(0, 2, n_added))])
        source = np.concatenate([source, rng.integers(0, max(block.n_events, 1), n_added)])
    return _rebuild(block, customer, time, known if late else None, source)


def _other_times(
    time: Int64, cutoff: int, future: NDArray[np.bool_], late: bool, rng: np.random.Generator
) -> tuple[Int64, Int64]:
    """Move what is future to other moments, a good part to the very cutoff; what happened before may stay before."""
    moved = cutoff + rng.integers(0, _REACH_US, len(time)) * rng.integers(0, 2, len(time))
    known = cutoff + rng.integers(0, _REACH_US, len(time)) * rng.integers(0, 2, len(time))
    if late:
        before = cutoff - rng.integers(1, _REACH_US, len(time))
        moved = np.where(time < cutoff, before, moved)
    moved = np.where(future, moved, time)
    return moved, np.maximum(known, moved)


def _rows_of(table: CustomerTable | None, block: EventBlock) -> CustomerTable | None:
    """Give the rows of the block's customers."""
    if table is None:
        return None
    low = np.searchsorted(table.customers, block.customers, side="left")
    high = np.searchsorted(table.customers, block.customers, side="right")
    ranges = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    return _take_rows(table, np.concatenate([np.empty(0, np.int64), *ranges]))


def _tamper_table(table: CustomerTable | None, cutoff: int, how: str, rng: np.random.Generator) -> CustomerTable | None:
    """Delete, shuffle or add to the rows that hold from the cutoff on."""
    if table is None:
        return None
    future = table.valid_from >= cutoff
    rows = np.arange(len(table.customers))
    if how == "deleted":
        return _take_rows(table, rows[~future])
    if how == "shuffled":
        other = np.where(future, rng.permutation(len(rows)), rows)
        codes = {name: Coded(c.codes[other], c.vocabulary) for name, c in table.attributes.items()}
        return replace(table, attributes=codes)
    last = np.flatnonzero(np.append(table.customers[1:] != table.customers[:-1], True)) if len(rows) else rows
    both = _take_rows(table, np.concatenate([rows, last]))
    valid_from = np.concatenate([table.valid_from, np.full(len(last), cutoff)])
    codes = {
        name: Coded(np.concatenate([c.codes, rng.permutation(c.codes[last])]), c.vocabulary)
        for name, c in table.attributes.items()
    }
    customer = np.concatenate([np.searchsorted(last, rows), np.arange(len(last))])
    order = np.lexsort((valid_from, customer))
    return _take_rows(CustomerTable(both.customers, valid_from, codes), order)


def _take_rows(table: CustomerTable, rows: Int64) -> CustomerTable:
    return CustomerTable(
        customers=table.customers[rows],
        valid_from=table.valid_from[rows],
        attributes={name: Coded(c.codes[rows], c.vocabulary) for name, c in table.attributes.items()},
    )
