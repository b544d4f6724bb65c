"""Tables of the kernel's second walk: what to look at, what to read at which edge, and how columns follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cxml.features import kernel as k
from cxml.features.kernel import JOB_CELLS, Extended
from cxml.features.spec import NTH_LAST, Aggregate, slot_column
from cxml.times import DAY_US

#: A decaying sum looks back so many half-lives; what is older weighs less than 1/256.
HALF_LIVES = 8

#: Where an operation finds its sources: up to three places of the scratch vector.
_Sources = tuple[int, ...]
#: Blank cells of what has no value before the first event; all others begin at zero.
_BLANK = {k.GAPS: (0.0, 0.0, 0.0, np.nan), k.ORDER: (0.0, *[np.nan] * (JOB_CELLS[k.ORDER] - 1))}
#: An edge before every event: longer than all time, and short enough to be taken from any cutoff.
_ALL_TIME = 2**62


def extend(
    aggregates: Iterable[Aggregate],
    columns: Sequence[str],
    slot_of: Mapping[str, Mapping[str, int]],
    measures: Sequence[str],
    out_of: Mapping[str, int],
    alive: Mapping[str, Sequence[float]],
) -> Extended | None:
    """Lay out the second walk.

    Parameters
    ----------
    aggregates : iterable of Aggregate
        The columns that the first walk does not compute.
    columns, slot_of, measures
        As in `cxml.features.plan.CompiledPlan`.
    out_of : mapping of str to int
        Output column of each name.
    alive : mapping of str to sequence of four float
        Selector to parameters of ``p_alive``.

    Returns
    -------
    Extended or None
        None where there is nothing to compute.

    Examples
    --------
    >>> lag = Aggregate("lag", "all", "7d/365d")
    >>> tables = extend([lag], ["all"], {"all": {"": 0}}, [], {lag.name: 0}, {})
    >>> (tables.edges // DAY_US).tolist()
    [365, 372]
    """
    layout = _Layout(columns, slot_of, measures)
    operations: list[tuple[int, ...]] = []
    constants: list[tuple[float, ...]] = []
    for aggregate in aggregates:
        operation, sources = _DERIVED[aggregate.statistic]
        places = sources(layout, aggregate)
        operations.append((operation, out_of[aggregate.name], *places, *[0] * (3 - len(places))))
        needed = alive[aggregate.selector] if operation == k.ALIVE else [us / DAY_US for us in aggregate.widths_us]
        constants.append((*needed, *[1.0] * (4 - len(needed))))
    return layout.tables(operations, constants) if operations else None


class _Layout:
    """Gives every job its cells and every number its place in the scratch vector."""

    def __init__(self, columns: Sequence[str], slot_of: Mapping[str, Mapping[str, int]], measures: Sequence[str]):
        self.column_of = {name: position for position, name in enumerate(columns)}
        self.slot_of, self.measures = slot_of, measures
        self.n_slots = sum(map(len, slot_of.values()))
        self.blank = [0.0] * (self.n_slots + 1)
        self.counted: dict[int, None] = {}
        self.jobs: dict[tuple[int, float, int, int, int], dict[int, int]] = {}
        self.last_edge: dict[tuple[int, float, int, int, int], int] = {}
        self.reads: dict[tuple[int, int, int, int], int] = {}
        self.carried: dict[tuple[int, int], int] = {}
        self.carried_columns: dict[int, None] = {}
        self.day_jobs: dict[tuple[int, int], int] = {}
        self.n_scratch = 0

    def place(self, places: dict[Any, int], key: Any) -> int:
        if key not in places:
            places[key] = self.n_scratch
            self.n_scratch += 1
        return places[key]

    def where(self, aggregate: Aggregate) -> tuple[int, int]:
        """Give the slot column of an aggregate and its slot."""
        column = aggregate.column
        return self.column_of[column], self.slot_of[column][aggregate.value or ""]

    def count(self, where: tuple[int, int], edge: int) -> int:
        """Read the number of events of a slot."""
        self.counted[where[0]] = None
        return self.place(self.reads, (edge, k.READ_CELL, where[1], 1))

    def entropy(self, aggregate: Aggregate, edge: int) -> int:
        column = slot_column(aggregate, self.slot_of)
        self.counted[self.column_of[column]] = None
        slots = self.slot_of[column].values()
        return self.place(self.reads, (edge, k.READ_ENTROPY, min(slots), len(slots)))

    def job(
        self,
        kind: int,
        measure: str | None,
        where: tuple[int, int],
        edge: int,
        *,
        how: int = k.READ_CELL,
        cell: int = 0,
        half_life: float = 0.0,
        since: int = 0,
    ) -> int:
        """Read a cell of a job, which leaves out the events nearer to the cutoff than ``since``."""
        number = len(self.measures) if measure is None else self.measures.index(measure)
        key = (kind, half_life, number, where[0], since)
        cells = self.jobs.setdefault(key, {})
        if where[1] not in cells:
            cells[where[1]] = len(self.blank)
            self.blank.extend(_BLANK.get(kind, (0.0,) * JOB_CELLS[kind]))
        self.last_edge[key] = max(edge, self.last_edge.get(key, 0))
        return self.place(self.reads, (edge, how, cells[where[1]] + cell, 1))

    def carry(self, what: int, where: tuple[int, int]) -> int:
        """Read something that has no window."""
        if what == k.DAYS_EVER:
            return self.place(self.carried, (what, self.day_jobs.setdefault(where, len(self.day_jobs))))
        self.carried_columns[where[0]] = None
        return self.place(self.carried, (what, where[1]))

    def tables(
        self,
        operations: list[tuple[int, ...]],
        constants: list[tuple[float, ...]],
    ) -> Extended:
        edges = sorted({edge for edge, *_ in self.reads} | {since for *_, since in self.jobs if since})
        reads = sorted((*key, place) for key, place in self.reads.items())
        jobs = sorted(self.jobs)
        begins = {since: edges.index(since) + 1 if since else 0 for *_, since in jobs}
        cells = np.zeros((len(jobs), self.n_slots + 1), np.uint32)
        for number, job in enumerate(jobs):
            cells[number, list(self.jobs[job])] = list(self.jobs[job].values())
        return Extended(
            edges=np.array(edges, np.int64),
            read_ends=_table([sum(read[0] <= edge for read in reads) for edge in edges]),
            reads=_table([read[1:] for read in reads], 4),
            count_columns=_table(self.counted),
            jobs=_table([(job[0], *job[2:4], begins[job[4]], edges.index(self.last_edge[job])) for job in jobs], 5),
            job_cells=cells,
            half_lives=np.array([job[1] for job in jobs], np.float64),
            carried_columns=_table(self.carried_columns),
            day_jobs=_table(self.day_jobs, 2),
            carried=_table([(*key, place) for key, place in self.carried.items()], 3),
            operations=_table(operations, 5),
            constants=np.array(constants, np.float64),
            blank=np.array(self.blank, np.float64),
            n_scratch=self.n_scratch,
        )


def _table(rows: Iterable[Any], width: int | None = None) -> Any:
    table = np.array(list(rows), np.uint32)
    return table if width is None else table.reshape(-1, width)


_ALL = (0, 0)


def _amount(layout: _Layout, aggregate: Aggregate, where: tuple[int, int], edge: int) -> int:
    """Read the number of events, or the sum of the measure."""
    if aggregate.measure is None:
        return layout.count(where, edge)
    return layout.job(k.TOTAL, aggregate.measure, where, edge)


def _look(kind: int, how: int = k.READ_CELL, cell: int = 0) -> Callable[[_Layout, Aggregate], _Sources]:
    """Read one cell of a job at the end of the window."""

    def sources(layout: _Layout, aggregate: Aggregate) -> _Sources:
        where = layout.where(aggregate)
        return (layout.job(kind, aggregate.measure, where, aggregate.width_us, how=how, cell=cell),)

    return sources


def _carry(what: int) -> Callable[[_Layout, Aggregate], _Sources]:
    return lambda layout, aggregate: (layout.carry(what, layout.where(aggregate)),)


def _decay(layout: _Layout, aggregate: Aggregate) -> _Sources:
    width, where = aggregate.width_us, layout.where(aggregate)
    return (layout.job(k.DECAY, aggregate.measure, where, HALF_LIVES * width, half_life=float(width)),)


def _share(layout: _Layout, aggregate: Aggregate) -> _Sources:
    width = aggregate.width_us
    return _amount(layout, aggregate, layout.where(aggregate), width), _amount(layout, aggregate, _ALL, width)


def _ratio(layout: _Layout, aggregate: Aggregate) -> _Sources:
    where = layout.where(aggregate)
    short, long = aggregate.widths_us
    return _amount(layout, aggregate, where, short), _amount(layout, aggregate, where, long)


def _change(layout: _Layout, aggregate: Aggregate) -> _Sources:
    where, width = layout.where(aggregate), aggregate.width_us
    if aggregate.measure is None:
        ever = layout.carry(k.EVER, where)
    else:  # afresh at each cutoff: a float sum that is carried on would depend on the cutoffs before
        ever = layout.job(k.TOTAL, aggregate.measure, where, _ALL_TIME)
    return _amount(layout, aggregate, where, width), ever, layout.carry(k.SINCE_FIRST, _ALL)


def _earlier(layout: _Layout, aggregate: Aggregate, since: int) -> int:
    """Read the number of events, or the sum of the measure, in the window that ended ``since`` before the cutoff."""
    edge = since + aggregate.width_us
    return layout.job(k.TOTAL, aggregate.measure, layout.where(aggregate), edge, since=since)


def _acceleration(layout: _Layout, aggregate: Aggregate) -> _Sources:
    return tuple(_earlier(layout, aggregate, windows * aggregate.width_us) for windows in (0, 1, 2))


def _rate(layout: _Layout, aggregate: Aggregate) -> _Sources:
    width = aggregate.width_us
    return _amount(layout, aggregate, layout.where(aggregate), width), layout.job(k.DAYS, None, _ALL, width)


def _lag(layout: _Layout, aggregate: Aggregate) -> _Sources:
    return (_earlier(layout, aggregate, aggregate.widths_us[1]),)


def _burstiness(layout: _Layout, aggregate: Aggregate) -> _Sources:
    return _look(k.GAPS, k.READ_STD)(layout, aggregate) + _look(k.GAPS, k.READ_MEAN)(layout, aggregate)


def _alive(layout: _Layout, aggregate: Aggregate) -> _Sources:
    where = layout.where(aggregate)
    return layout.carry(k.DAYS_EVER, where), layout.carry(k.SPAN, where), layout.carry(k.SINCE_FIRST, where)


#: For each statistic the operation, and the sources it works on.
_DERIVED: dict[str, tuple[int, Callable[[_Layout, Aggregate], _Sources]]] = {
    "first": (k.COPY, _look(k.ORDER, cell=1)),
    **{name: (k.COPY, _look(k.ORDER, cell=n)) for name, n in NTH_LAST.items()},
    "std": (k.COPY, _look(k.SPREAD, k.READ_STD)),
    "slope": (k.COPY, _look(k.REGRESSION, k.READ_SLOPE)),
    "longest_gap": (k.COPY, _look(k.GAPS, cell=3)),
    "gap_mean": (k.COPY, _look(k.GAPS, k.READ_MEAN)),
    "gap_std": (k.COPY, _look(k.GAPS, k.READ_STD)),
    "decay": (k.COPY, _decay),
    "entropy": (k.COPY, lambda layout, aggregate: (layout.entropy(aggregate, aggregate.width_us),)),
    "ever": (k.COPY, _carry(k.EVER)),
    "days_since_first": (k.COPY, _carry(k.SINCE_FIRST)),
    "share": (k.QUOTIENT, _share),
    "ratio": (k.RATIO, _ratio),
    "change": (k.CHANGE, _change),
    "acceleration": (k.ACCELERATION, _acceleration),
    "rate": (k.QUOTIENT, _rate),
    "lag": (k.COPY, _lag),
    "burstiness": (k.BURSTINESS, _burstiness),
    "p_alive": (k.ALIVE, _alive),
}
