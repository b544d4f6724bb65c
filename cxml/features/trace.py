"""Where a value comes from: the events behind one feature of one customer at one cutoff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.custom import OWN, read_column
from cxml.features.derive import HALF_LIVES
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.selectors import EVERYTHING, Atom, compare, matching
from cxml.features.spec import CATEGORY_STATISTICS, NTH_LAST, OTHER, UNWINDOWED_STATISTICS, Aggregate
from cxml.journeys.block import CustomerTable, EventBlock

if TYPE_CHECKING:
    from cxml.features.annotate import Annotated
    from cxml.features.annotations import AnnotationSettings

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trace:
    """A value and what it comes from.

    Parameters
    ----------
    column : str
        The feature.
    sentence : str
        What it holds, in plain words.
    value : float, str or None
        The value: a number, NaN for missing; of a category its text, None for missing.
    events : tuple of int
        The events behind it, as indices into the block, in order.
    times : tuple of int
        When each of them happened, UTC microseconds.
    row : int, optional
        The row of the customer table behind it.
    """

    column: str
    sentence: str
    value: float | str | None
    events: tuple[int, ...]
    times: tuple[int, ...]
    row: int | None = None


def trace(
    plan: FeaturePlan, block: EventBlock, cutoff: int, column: str, customers: CustomerTable | None = None
) -> Trace:
    """Find the events behind a value.

    They are those that the statistic looks at: selected, in its window or windows, known before the cutoff, and
    carrying the measure where it needs one. Of a smallest, largest, first, latest or n-th latest value, and of the days
    since something, they are only the ones that give the value, several where several give the same one. Behind what
    is overdue are the events that made the promises, behind a rate of answers those of being asked and of answering,
    behind recency, frequency and the stage of a customer's life the activity. A user feature may look at everything
    known before the cutoff. A value that is an annotation is that of the event that carries it, whatever other events
    it was told from. Behind a rate among peers is what made the customer one of them.

    Parameters
    ----------
    plan : FeaturePlan
        Holds the column.
    block : EventBlock
        The events of one customer.
    cutoff : int
        UTC microseconds.
    column : str
        One of ``plan.columns``.
    customers : CustomerTable, optional
        For attributes that come from it.

    Returns
    -------
    Trace

    Raises
    ------
    ConfigError
        If the plan has no such column, or the block holds several customers.

    Examples
    --------
    >>> from cxml.journeys.block import Coded
    >>> plan = FeaturePlan((Aggregate("max", "value", "7d"),), {})
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([1, 2, 3]), None,
    ...                    {"touchpoint": Coded(np.zeros(3, np.int32), ("call",))},
    ...                    {"value": np.array([4.0, 9.0, 5.0])})
    >>> traced = trace(plan, block, 10, "max__value__7d")
    >>> traced.value, traced.events, traced.times
    (9.0, (1,), (2,))
    """
    sentence = plan.describe(column)
    if block.n_customers != 1:
        raise ConfigError(f"a trace is of one customer; the block holds {block.n_customers:,}, take one of them")
    matrix = fill_matrix(plan, block, np.array([0, 1]), np.array([cutoff]), customers, threads=1)
    number = float(matrix[0, plan.columns.index(column)])
    value: float | str | None = number
    if column in plan.categorical:
        value = None if np.isnan(number) else plan.categories(column)[int(number)]
    behind = next((f"last__{peers.attribute}" for peers in plan.peers if peers.name == column), column)
    if behind in plan.categorical and behind.removeprefix("last__") in plan.customer_attributes:
        return Trace(column, sentence, value, (), (), _row_behind(customers, block.customers[0], cutoff))
    events = _events_behind(plan, _Journey.build(plan, block, cutoff), behind)
    return Trace(column, sentence, value, tuple(events.tolist()), tuple(block.time[events].tolist()))


@dataclass(frozen=True)
class _Journey:
    """The events of a customer with their annotations, and what of them was known at a cutoff."""

    plan: FeaturePlan
    block: EventBlock
    cutoff: int
    said: Annotated | None
    past: Bools

    @classmethod
    def build(cls, plan: FeaturePlan, block: EventBlock, cutoff: int) -> _Journey:
        said = None
        held = block.categories.keys() | block.measures.keys()
        wanted = [name for name in plan.compiled.annotations if name not in held]
        if wanted:
            from cxml.features.annotate import annotate  # only plans that have annotations pay for the import

            said = annotate(block, wanted, cast("AnnotationSettings", plan.annotations))
            block = replace(
                block, categories=block.categories | said.categories, measures=block.measures | said.measures
            )
        past = block.time < cutoff
        return cls(plan, block, cutoff, said, past if block.known is None else past & (block.known < cutoff))

    def window(self, oldest: int, newest: int = 0) -> Bools:
        """Tell which events were known and lie so far before the cutoff."""
        return self.past & (self.block.time >= self.cutoff - oldest) & (self.block.time < self.cutoff - newest)

    def texts(self, column: str) -> NDArray[np.object_]:
        """Give the values of a category as the plan knows them."""
        fitted = {*self.plan.vocabularies[column], None}
        texts = read_column(self.plan, self.block, column, 0, self.block.n_events)
        return np.array([text if text in fitted else OTHER for text in texts], object)

    def met(self, atom: Atom) -> Bools:
        """Tell which events meet a condition."""
        if isinstance(atom.value, str):
            return np.asarray(self.texts(atom.column) == atom.value, bool)
        return compare(self.values(atom.column), atom)

    def selected(self, aggregate: Aggregate) -> Bools:
        """Tell which events an aggregate selects."""
        condition = aggregate.condition
        return np.ones(self.block.n_events, bool) if condition == EVERYTHING else matching(condition, self.met)

    def values(self, measure: str) -> NDArray[np.float64]:
        """Give the values of a measure, as they are known at the cutoff."""
        if self.said is not None and measure in self.said.measures:
            return self.said.known_before(measure, self.cutoff)
        return read_column(self.plan, self.block, measure, 0, self.block.n_events)

    def carrying(self, aggregate: Aggregate) -> Bools:
        """Tell which events carry what an aggregate is taken of."""
        if aggregate.measure is not None:
            return ~np.isnan(self.values(aggregate.measure))
        if aggregate.statistic in CATEGORY_STATISTICS:
            return np.array([text is not None for text in self.texts(aggregate.column)], bool)
        return np.ones(self.block.n_events, bool)


def _events_behind(plan: FeaturePlan, journey: _Journey, column: str) -> NDArray[np.intp]:
    aggregate = next((one for one in plan.aggregates if one.name == column), None)
    if aggregate is not None:
        return _events_of(journey, aggregate)
    if column in OWN:
        return np.flatnonzero(OWN[column].behind(plan, journey.block, journey.past, journey.cutoff, column))
    if column in plan.custom:
        return np.flatnonzero(journey.past)
    held = [text is not None for text in journey.texts(column.removeprefix("last__"))]
    return np.flatnonzero(journey.past & np.array(held, bool))[-1:]


def _events_of(journey: _Journey, aggregate: Aggregate) -> NDArray[np.intp]:
    """Give the events that a statistic looks at, or those of them that give its value."""
    statistic = aggregate.statistic
    looked_at = _window(journey, aggregate)
    if statistic != "rate":  # whose active days are those of any event
        looked_at = looked_at & journey.carrying(aggregate)
    if statistic not in _OF_ALL:
        looked_at = looked_at & journey.selected(aggregate)
    events = np.flatnonzero(looked_at)
    if statistic in _NTH:
        return events[_NTH[statistic]]
    if statistic in _EXTREMES and len(events):
        values = journey.block.time if aggregate.measure is None else journey.values(aggregate.measure)
        return cast(NDArray[np.intp], events[values[events] == _EXTREMES[statistic](values[events])])
    if statistic == "change":  # compares with all the time since the customer's first event
        return np.union1d(events, _events_of(journey, Aggregate("tenure_days", "", None)))
    return events


#: Statistics of which one event gives the value, in the order of events; the others look at all of them.
_NTH = {
    "first": slice(0, 1), "last": slice(-1, None), **{name: slice(-n, 1 - n) for name, n in NTH_LAST.items()},
}  # fmt: skip
#: Statistics whose value is that of the events with the smallest or largest value or time.
_EXTREMES: dict[str, Callable[[NDArray[Any]], Any]] = {
    "min": np.min, "max": np.max, "days_since": np.max, "days_since_first": np.min, "tenure_days": np.min,
}  # fmt: skip
#: Statistics that hold the selected events against all of their window.
_OF_ALL = frozenset({"share", "rate"})


def _window(journey: _Journey, aggregate: Aggregate) -> Bools:
    """Tell which events lie in the windows of an aggregate, taken together."""
    statistic, widths = aggregate.statistic, aggregate.widths_us
    if statistic in UNWINDOWED_STATISTICS or statistic == "change":
        return journey.past
    if statistic == "lag":
        return journey.window(sum(widths), widths[1])
    return journey.window(max(widths) * {"decay": HALF_LIVES, "acceleration": 3}.get(statistic, 1))


def _row_behind(table: CustomerTable | None, customer: Any, cutoff: int) -> int | None:
    """Give the row that holds at a cutoff: the latest one from before it."""
    if table is None:
        return None
    ids = np.array([customer], table.customers.dtype)
    low, high = (int(np.searchsorted(table.customers, ids, side)[0]) for side in ("left", "right"))
    row = low + int(np.searchsorted(table.valid_from[low:high], cutoff)) - 1
    return row if row >= low else None
