"""From a block of events and cutoffs to a float32 matrix: checks, maps codes to the plan, calls the kernel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.features.attributes import fill_attributes
from cxml.features.custom import UserFeature, fill_custom, registered
from cxml.features.kernel import Due, ascends, fill_extended, fill_rows, first_disorder, map_codes
from cxml.features.peers import fill_peers
from cxml.features.plan import CompiledPlan, FeaturePlan
from cxml.features.selectors import EVERYTHING, Atom, Selector, atoms, compare, matching
from cxml.features.spec import OTHER, Aggregate, default_spec
from cxml.journeys.block import Coded, CustomerTable, EventBlock, slice_block

if TYPE_CHECKING:
    from cxml.features.annotations import AnnotationSettings

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

#: Work is cut into ranges of customers of about so many events or snapshots, to fit a core's cache.
_RANGE_EVENTS = 65_536
#: Less is done sooner than a thread is started.
_WORTH_A_THREAD = 8_192
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
        If the shapes do not fit together, or a user feature is not registered or fails.

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
    custom = [registered(name) for name in plan.custom]
    compiled = plan.compiled
    wanted = compiled.annotations and _lacking(compiled.annotations, block)
    bound = None if wanted else _Bound.build(compiled, block)
    work = partial(_fill_range, plan, custom, bound, wanted, block, row_starts, cutoffs, rows, out)
    threads = threads if threads is not None else _available_cores()
    ranges = _customer_ranges(block.starts, row_starts, threads)
    n_threads = min(len(ranges), threads)
    if n_threads <= 1:
        for customer_range in ranges:
            work(customer_range)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(work, ranges):
                pass
    if len(cutoffs):
        fill_attributes(plan, customers, block.customers, row_starts, cutoffs, rows, out)
        fill_peers(plan, block.customers, row_starts, cutoffs, rows, out)
    return out[: len(cutoffs)] if len(rows) == 0 else out


def select_events(plan: FeaturePlan, aggregate: Aggregate, block: EventBlock) -> NDArray[np.bool_]:
    """Tell which events of a block a column looks at, whatever the window.

    Parameters
    ----------
    plan : FeaturePlan
    aggregate : Aggregate
        One of its columns that is not of a category.
    block : EventBlock

    Returns
    -------
    bool array of shape (n_events,)

    Examples
    --------
    >>> from cxml.features.spec import Aggregate
    >>> plan = FeaturePlan((Aggregate("ever", "touchpoint=call"),), {"touchpoint": ("call", "visit")})
    >>> block = EventBlock(np.array([7]), np.array([0, 2]), np.array([0, 10]), None,
    ...                    {"touchpoint": Coded(np.array([1, 0], np.int32), ("call", "visit"))})
    >>> select_events(plan, plan.aggregates[0], block)
    array([False,  True])
    """
    compiled = plan.compiled
    wanted = compiled.annotations and _lacking(compiled.annotations, block)
    customers = (0, block.n_customers)
    bound = _annotated(plan, wanted, block, customers)[0] if wanted else _Bound.build(compiled, block)
    column = aggregate.column
    found = bound.slots(0, block.n_events)[:, compiled.columns.index(column)]
    return np.equal(found, compiled.slot_of[column][aggregate.value or ""])


def warm_up() -> None:
    """Load the compiled kernel, which takes tenths of a second the first time in a process."""
    plan = FeaturePlan(default_spec({"touchpoint": ("any",)}), {"touchpoint": ("any",)})
    time, one = np.zeros(1, np.int64), np.array([0, 1])
    block = EventBlock(time, one, time, None, {"touchpoint": Coded(np.zeros(1, np.int32), ("any",))})
    fill_matrix(plan, block, one, time + 1, threads=1)


class _Codes(NamedTuple):
    """A category of a block, and what each of its codes becomes."""

    name: str
    codes: NDArray[np.int32]
    table: NDArray[np.uint32]

    def fill(self, first: int, stop: int, out: NDArray[np.uint32]) -> None:
        n_bad = map_codes(self.codes[first:stop], self.table, out)
        if n_bad:
            raise _outside(self.name, n_bad, first, stop, len(self.table) - 1)


@dataclass(frozen=True)
class _Condition:
    """A condition on a block; an atom whose column the block lacks is met by no event."""

    selector: Selector
    categories: dict[Atom, _Codes]
    measures: dict[Atom, Float64]
    slots: tuple[int, int]

    def fill(self, first: int, stop: int, out: NDArray[np.uint32]) -> None:
        selected, not_selected = self.slots
        out[:] = np.where(self.holds(first, stop, out), selected, not_selected)

    def holds(self, first: int, stop: int, out: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Tell which events it selects; ``out`` is overwritten."""

        def met(atom: Atom) -> NDArray[np.bool_]:
            if atom in self.measures:
                return compare(self.measures[atom][first:stop], atom)
            if atom not in self.categories:
                return np.zeros(stop - first, bool)
            self.categories[atom].fill(first, stop, out)
            return np.equal(out, 1)

        return matching(self.selector, met)


@dataclass(frozen=True)
class _Apart:
    """A category of a block among selected events; the others have null."""

    codes: _Codes
    condition: _Condition
    null: int

    def fill(self, first: int, stop: int, out: NDArray[np.uint32]) -> None:
        selected = self.condition.holds(first, stop, out)
        self.codes.fill(first, stop, out)
        out[~selected] = self.null


@dataclass(frozen=True)
class _Bound:
    """A plan bound to a block: for each slot column how it follows from the block."""

    compiled: CompiledPlan
    columns: tuple[_Codes | _Condition | _Apart | None, ...]
    measures: tuple[Float64 | None, ...]

    @classmethod
    def build(cls, compiled: CompiledPlan, block: EventBlock) -> _Bound:
        columns = [_bind_column(compiled, name, block) for name in compiled.columns[1:]]
        return cls(compiled, tuple(columns), tuple(block.measures.get(name) for name in compiled.measures))

    def slots(self, first: int, stop: int) -> NDArray[np.uint32]:
        """Give the slot of each event in each column."""
        slots = np.empty((stop - first, len(self.columns) + 1), np.uint32)
        slots[:, 0] = 0
        for column, source in enumerate(self.columns, start=1):
            if source is None:
                slots[:, column] = self.compiled.tables.null_slot
            else:
                source.fill(first, stop, slots[:, column])
        return slots

    def values(self, first: int, stop: int) -> Float64:
        """Give the measures of each event."""
        values = np.empty((stop - first, len(self.measures)), np.float64)
        for column, measure in enumerate(self.measures):
            values[:, column] = np.nan if measure is None else measure[first:stop]
        return values


def _bind_column(compiled: CompiledPlan, name: str, block: EventBlock) -> _Codes | _Condition | _Apart | None:
    """Say how a slot column follows from a block; None where the block lacks it."""
    if name in compiled.conditions:
        slot_of = compiled.slot_of[name]
        return _bind_condition(compiled, compiled.conditions[name], block, (slot_of[""], slot_of["not"]))
    category, selector = compiled.apart.get(name, (name, EVERYTHING))
    source = "touchpoint" if category == "stage" and compiled.stages else category
    coded = block.categories.get(source)
    if coded is None:
        return None
    codes = _Codes(source, coded.codes, _slot_table(compiled, name, category, coded.vocabulary))
    if selector == EVERYTHING:
        return codes
    return _Apart(codes, _bind_condition(compiled, selector, block), int(compiled.tables.null_slot))


def _slot_table(compiled: CompiledPlan, column: str, category: str, vocabulary: tuple[str, ...]) -> NDArray[np.uint32]:
    """Say for each value of a block's vocabulary, and at last for null, which slot it is; unseen ones share one."""
    slot_of, null = compiled.slot_of[column], int(compiled.tables.null_slot)
    if category == "stage" and compiled.stages:
        slots = [slot_of.get(compiled.stages.get(value, ""), null) for value in vocabulary]
    else:
        slots = [slot_of.get(value, slot_of[OTHER]) for value in vocabulary]
    return np.array([*slots, null], np.uint32)


def _bind_condition(
    compiled: CompiledPlan, selector: Selector, block: EventBlock, slots: tuple[int, int] = (0, 0)
) -> _Condition:
    categories, measures = {}, {}
    for atom in atoms(selector):
        if not isinstance(atom.value, str):
            if atom.column in block.measures:
                measures[atom] = block.measures[atom.column]
            continue
        source = "touchpoint" if atom.column == "stage" and compiled.stages else atom.column
        if source in block.categories:
            coded = block.categories[source]
            categories[atom] = _Codes(source, coded.codes, _atom_table(compiled, atom, coded.vocabulary))
    return _Condition(selector, categories, measures, slots)


def _atom_table(compiled: CompiledPlan, atom: Atom, vocabulary: tuple[str, ...]) -> NDArray[np.uint32]:
    """Say for each value of a block's vocabulary, and at last for null, whether it meets an atom."""
    if atom.column == "stage" and compiled.stages:
        met = [compiled.stages.get(value) == atom.value for value in vocabulary]
    else:
        fitted = set(compiled.vocabularies[atom.column])
        met = [(value if value in fitted else OTHER) == atom.value for value in vocabulary]
    return np.array([*met, False], np.uint32)


def _lacking(names: tuple[str, ...], block: EventBlock) -> tuple[str, ...]:
    return tuple(name for name in names if name not in block.categories and name not in block.measures)


def _annotated(
    plan: FeaturePlan, wanted: tuple[str, ...], block: EventBlock, customers: tuple[int, int]
) -> tuple[_Bound, Due | None]:
    """Annotate the events of some customers, bind the plan to these events, and say which measures wait."""
    from cxml.features.annotate import annotate  # only plans that have annotations pay for the import

    compiled, part = plan.compiled, slice_block(block, *customers)
    found = annotate(part, wanted, cast("AnnotationSettings", plan.annotations))
    selectors = (*compiled.conditions.values(), *(selector for _, selector in compiled.apart.values()))
    for atom in (atom for selector in selectors for atom in atoms(selector)):
        if atom.column in found.due:
            raise ConfigError(
                f"selector '{atom}': what {atom.column} is of an event is known only later, so that it cannot select "
                f"events. Take it as a measure instead, as in mean__{atom.column}__90d."
            )
    part = replace(part, categories=part.categories | found.categories, measures=part.measures | found.measures)
    late = [name for name in compiled.measures if name in found.due]
    due = None
    if late:
        measures = np.array([compiled.measures.index(name) for name in late], np.uint32)
        due = Due(
            measures,
            np.ascontiguousarray(np.stack([found.due[name] for name in late], axis=1)),
            np.ascontiguousarray(np.stack([found.revised[name] for name in late], axis=1)),
        )
    return _Bound.build(compiled, part), due


def _outside(name: str, n_bad: int, first: int, stop: int, n_values: int) -> DataError:
    return DataError(
        f"column '{name}': {n_bad:,} of {stop - first:,} events (from event {first:,}) have a code outside its "
        f"vocabulary of {n_values:,} values. Read the journeys again with read_journeys."
    )


def _check_codes(block: EventBlock, first: int, stop: int) -> None:
    """Refuse codes outside their vocabulary in any column: a user feature may look at all of them."""
    for name, coded in block.categories.items():
        codes, n_values = coded.codes[first:stop], len(coded.vocabulary)
        n_bad = int(((codes < -1) | (codes >= n_values)).sum())
        if n_bad:
            raise _outside(name, n_bad, first, stop, n_values)


def _fill_range(
    plan: FeaturePlan,
    custom: list[UserFeature],
    bound: _Bound | None,
    wanted: tuple[str, ...],
    block: EventBlock,
    row_starts: Int64,
    cutoffs: Int64,
    rows: Int64,
    out: Float32,
    customers: tuple[int, int],
) -> None:
    offset = first = int(block.starts[customers[0]])
    stop = int(block.starts[customers[1]])
    _check_order(block, row_starts, cutoffs, customers)
    time = block.time[first:stop]
    known, order = time, _NONE
    if block.known is not None:
        known = np.maximum(time, block.known[first:stop])
        order = _order_of_knowledge(block.starts[customers[0] : customers[1] + 1] - first, known)
    if custom:
        _check_codes(block, first, stop)
        fill_custom(custom, plan, block, customers, row_starts, cutoffs, rows, out)
    compiled, due = plan.compiled, None
    if bound is None:
        bound, due = _annotated(plan, wanted, block, customers)
        first, stop = 0, stop - first
    slots, values = bound.slots(first, stop), bound.values(first, stop)
    fill_rows(
        compiled.tables, customers, block.starts, offset, time, known, order,
        slots, values, due, row_starts, cutoffs, rows, out,
    )  # fmt: skip
    if compiled.extended is not None:
        fill_extended(
            compiled.extended, customers, block.starts, offset, time, known, order,
            slots, values, due, row_starts, cutoffs, rows, out,
        )  # fmt: skip


def _order_of_knowledge(starts: Int64, known: Int64) -> Int64:
    """Order the events of each customer by when they became known."""
    customer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.lexsort((known, customer)).astype(np.int64, copy=False)


def _customer_ranges(starts: Int64, row_starts: Int64, threads: int) -> list[tuple[int, int]]:
    """Cut the customers into ranges of equal work, as many for each thread; those without snapshots cost nothing."""
    n_customers = len(starts) - 1
    work = int(starts[-1]) + int(row_starts[-1])
    if not row_starts[-1]:
        return []
    n_ranges = -(-work // _RANGE_EVENTS)
    n_ranges = -(-n_ranges // threads) * threads if work > _WORTH_A_THREAD else 1
    marks = np.searchsorted(starts + row_starts, np.linspace(0, work, n_ranges + 1)[1:-1])
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
