"""One customer kept warm: events come one by one, and at any moment the features are those of the batch."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError, nearest
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.selectors import atoms
from cxml.journeys.block import Coded, CustomerTable, EventBlock
from cxml.journeys.records import block_from_records
from cxml.journeys.schema import FIRST_US, LAST_US, MISSING, NUMBER_COLUMNS, PROMISE, TEXT_COLUMNS, tie_order
from cxml.journeys.stamps import days_until
from cxml.times import parse_instant

Float32 = NDArray[np.float32]
CustomerId = int | str
_T = TypeVar("_T")

_FEWEST_PLACES = 16
_ONE_ROW = np.array([0, 1], np.int64)
_MEASURES = (*NUMBER_COLUMNS, "resolved", PROMISE)
#: Columns that are read here, each by the names it may have; all others are read as those of a record are.
_MOMENTS = {
    "timestamp": ("time", "timestamp"), "available_at": ("available_at", "known"), "promised": ("promised",),
}  # fmt: skip
_READ_HERE = {"sequence", *(name for names in _MOMENTS.values() for name in names)}
_MOMENT = "give UTC microseconds, a datetime with a zone, or a text with one, such as 2024-01-31T12:00:00Z"
#: Stands in a record for the time, which is read here.
_SOME_TIME = "1970-01-01T00:00:00Z"


class CustomerState:
    """The events of one customer, to which one can be added at a time.

    Parameters
    ----------
    plan : FeaturePlan
        Which columns.
    events : EventBlock, optional
        What is known so far: a block of one customer. Default: nothing.
    customers : CustomerTable, optional
        For the attributes that come from it.
    customer_id : int or str, optional
        Default: that of ``events``. Needed where ``customers`` is given and ``events`` is not.
    measures, attributes : sequence of str
        Further measures and attributes of the journeys, in the order of the config, which breaks ties. Those that
        ``events`` hold or the plan looks at need not be named; they follow in their order there.

    Raises
    ------
    ConfigError
        If ``events`` are not those of one customer, or of another one than ``customer_id``; if it cannot be told
        whose rows of ``customers`` are meant.
    DataError
        If ``events`` do not ascend, or their codes lie outside the vocabulary.

    Notes
    -----
    May be shared by threads. A block tells neither the ``sequence`` of its events nor when those became known that
    were known in time; where that decides on the order of an event that is added at the very same moment, theirs
    counts as missing.

    Examples
    --------
    >>> from cxml.features.spec import Aggregate
    >>> plan = FeaturePlan((Aggregate("count", "touchpoint=call", "1d"),), {"touchpoint": ("call",)})
    >>> state = CustomerState(plan)
    >>> state.update({"time": 5, "touchpoint": "call"})
    >>> state.update({"time": 2, "touchpoint": "visit"})
    >>> state.n_events, state.vector(6), state.vector(5)
    (2, array([1.], dtype=float32), array([0.], dtype=float32))
    """

    def __init__(
        self,
        plan: FeaturePlan,
        events: EventBlock | None = None,
        customers: CustomerTable | None = None,
        customer_id: CustomerId | None = None,
        *,
        measures: Sequence[str] = (),
        attributes: Sequence[str] = (),
    ) -> None:
        if events is not None:
            _check_events(events)
        self.plan = plan
        self._id = _find_id(events, customers, customer_id)
        self._table = None if customers is None or self._id is None else _rows_of(customers, self._id)
        own_measures, own_attributes = _further_columns(plan, events)
        self._measures = tuple(dict.fromkeys((*measures, *own_measures)))
        self._attributes = tuple(dict.fromkeys((*attributes, *own_attributes)))
        order = tie_order(self._measures, self._attributes)
        self._known_names = {"customer_id", *_READ_HERE, *order} - {PROMISE}
        self._ids = _ids("" if self._id is None else self._id)
        self._events = _Events(events, order)
        self._block = self._events.block(self._ids)
        self._lock = Lock()

    @property
    def n_events(self) -> int:
        """How many events there are."""
        return self._events.n

    def update(self, event: Mapping[str, Any]) -> None:
        """Add one event, at its place in the total order.

        Parameters
        ----------
        event : mapping of str to object
            Canonical columns: ``time`` (or ``timestamp``; UTC microseconds, or a moment with a zone: a datetime, or a
            text such as ``2024-01-31T12:00:00Z``), ``touchpoint``, and whatever else there is: categories, measures,
            ``sequence``, when the event became known as ``available_at`` (or ``known``), and the moment promised as
            ``promised``. What is missing or None is null.

        Raises
        ------
        DataError
            If a value cannot be read, time or touchpoint are missing, or the event is of another customer.
        ConfigError
            If a column is unknown.
        """
        self.insert(self._read(event))

    def insert(self, row: Mapping[str, Any]) -> None:
        """Add one event that was read already, at its place in the total order.

        Parameters
        ----------
        row : mapping of str to object
            As `cxml.journeys.records.read_event` gives it.
        """
        complete = {"sequence": MISSING, "available_at": MISSING, **row}
        with self._lock:
            self._events.insert(complete)
            self._block = self._events.block(self._ids)

    def ask(self, question: Callable[[EventBlock], _T]) -> _T:
        """Ask something of the events as they are; nothing is added meanwhile.

        Parameters
        ----------
        question : callable
            Takes the block, which it must not keep: its columns are the state's own.

        Returns
        -------
        object
            What ``question`` returns.
        """
        with self._lock:
            return question(self._block)

    @property
    def n_bytes(self) -> int:
        """Memory of the columns, in bytes; they double when they are full."""
        return sum(column.nbytes for column in self._events.columns.values())

    def vector(self, at: Any) -> Float32:
        """Compute the features at a cutoff: the bits that `cxml.features.matrix.fill_matrix` gives for a batch.

        Parameters
        ----------
        at : int, str, date or datetime
            The cutoff, read as `cxml.times.parse_instant` does; it may lie before events.

        Returns
        -------
        float32 array of shape (n_columns,)

        Raises
        ------
        ConfigError
            If ``at`` is no moment, or a user feature is not registered or fails.
        """
        try:
            cutoffs = np.array([parse_instant(at)], np.int64)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"cutoff: {error}") from None
        with self._lock:
            return cast(Float32, fill_matrix(self.plan, self._block, _ONE_ROW, cutoffs, self._table, threads=1)[0])

    def _read(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Read an event: moments and sequence as whole numbers, and of the rest what is not null."""
        if not isinstance(event, Mapping):
            raise DataError(
                f"event: {str(event)[:60]!r} is no mapping; write {{'timestamp': ..., 'touchpoint': ...}}, one for "
                "each event"
            )
        unknown = event.keys() - self._known_names
        if unknown:
            name = min(unknown, key=str)
            raise ConfigError(f"event: unknown column '{name}'{nearest(name, self._known_names)}")
        row: dict[str, Any] = {name: _moment(event, names) for name, names in _MOMENTS.items()}
        if not FIRST_US <= row["timestamp"] < LAST_US:
            what = "is missing" if row["timestamp"] == MISSING else f"{row['timestamp']} is outside 1900 to 2200"
            raise DataError(f"event: time {what}; {_MOMENT}")
        row["sequence"] = _whole("sequence", event.get("sequence"))
        promised = row.pop("promised")
        if promised != MISSING:
            row[PROMISE] = days_until(np.array([promised]), np.array([row["timestamp"]]))[0]
        record = {name: value for name, value in event.items() if name not in _READ_HERE}
        block = block_from_records([record | {"timestamp": _SOME_TIME}], {}, self._measures, self._attributes)
        if "customer_id" in record and self._id is not None and str(block.customers[0]) != str(self._id):
            raise DataError(f"event: it is of customer {block.customers[0]}, and the state of customer {self._id}")
        row |= {name: coded.vocabulary[0] for name, coded in block.categories.items() if coded.vocabulary}
        return row | {name: values[0] for name, values in block.measures.items() if not np.isnan(values[0])}


class _Events:
    """Columns that grow, in the total order of the events; one is there as soon as it holds something."""

    def __init__(self, block: EventBlock | None, order: tuple[str, ...]) -> None:
        self.order = order
        self.n = 0 if block is None else block.n_events
        self.is_late = False
        self.columns: dict[str, NDArray[Any]] = {}
        self.texts: dict[str, list[str]] = {"touchpoint": []}
        self.add("timestamp", MISSING, np.int64)
        self.add("sequence", MISSING, np.int64)
        self.add("available_at", MISSING, np.int64)
        self.add("touchpoint", -1, np.int32)
        if block is not None:
            self.take(block)

    def take(self, block: EventBlock) -> None:
        self.columns["timestamp"][: self.n] = block.time
        if block.known is not None:
            late = block.known > block.time
            self.columns["available_at"][: self.n][late] = block.known[late]
            self.is_late = bool(late.any())
        for name, coded in block.categories.items():
            small = _compact(name, coded)
            self.add(name, -1, np.int32)[: self.n] = small.codes
            self.texts[name] = list(small.vocabulary)
        for name, values in block.measures.items():
            self.add(name, np.nan, np.float64)[: self.n] = values

    def add(self, name: str, blank: float, dtype: type) -> NDArray[Any]:
        """Add a column that holds nothing."""
        self.columns[name] = np.full(max(_FEWEST_PLACES, 2 * self.n), blank, dtype)
        return self.columns[name]

    def insert(self, row: Mapping[str, Any]) -> None:
        """Put an event in its place."""
        coded = {name: self.number(name, value) for name, value in row.items()}
        place = self.place(coded)
        for name, column in self.columns.items():
            if self.n == len(column):
                column = self.columns[name] = np.concatenate([column, column])
            column[place + 1 : self.n + 1] = column[place : self.n]
            column[place] = coded.get(name, -1 if name in self.texts else np.nan)
        self.n += 1
        self.is_late |= row["available_at"] > row["timestamp"]

    def number(self, name: str, value: Any) -> Any:
        """Give the number of a value in its column, which is made where it is not there yet.

        Codes ascend as their texts do, so that a new text moves those behind it.
        """
        if not isinstance(value, str):
            if name not in self.columns:
                self.add(name, np.nan, np.float64)
            return value
        if name not in self.columns:
            self.add(name, -1, np.int32)
        texts = self.texts.setdefault(name, [])
        code = bisect_left(texts, value)
        if code == len(texts) or texts[code] != value:
            texts.insert(code, value)
            codes = self.columns[name][: self.n]
            codes += codes >= code
        return code

    def place(self, coded: Mapping[str, Any]) -> int:
        """Find where an event belongs."""
        time = self.columns["timestamp"][: self.n]
        low, high = (int(np.searchsorted(time, coded["timestamp"], side)) for side in ("left", "right"))
        if low == high:
            return low
        order = [name for name in self.order if name in self.columns]
        key = [_rank(coded.get(name, -1 if name in self.texts else np.nan)) for name in order]
        tied = range(low, high)
        return low + bisect_right(tied, key, key=lambda i: [_rank(self.columns[name][i]) for name in order])

    def block(self, customers: NDArray[Any]) -> EventBlock:
        """Give the events as they are, as views."""
        n, columns = self.n, self.columns
        return EventBlock(
            customers=customers,
            starts=np.array([0, n], np.int64),
            time=columns["timestamp"][:n],
            known=np.maximum(columns["timestamp"][:n], columns["available_at"][:n]) if self.is_late else None,
            categories={name: Coded(columns[name][:n], tuple(texts)) for name, texts in self.texts.items()},
            measures={
                name: column[:n]
                for name, column in columns.items()
                if name not in self.texts and name not in _READ_HERE
            },
        )


def _rank(number: Any) -> Any:
    """Give what a number is ordered by: nulls come first."""
    return number if number == number else -np.inf


def _moment(event: Mapping[str, Any], names: tuple[str, ...]) -> int:
    given = [name for name in names if not _is_missing(event.get(name))]
    if not given:
        return MISSING
    if len(given) > 1:
        raise DataError(f"event: {' and '.join(given)} are two names of one column; give one of them")
    name, value = given[0], event[given[0]]
    if isinstance(value, str):
        value = _moment_of(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return parse_instant(value)
    if isinstance(value, dt.datetime | str | float):
        raise DataError(f"event: {name} is {value!r}; {_MOMENT}")
    return _whole(name, value)


def _moment_of(text: str) -> dt.datetime | str:
    """Read a moment that is written with its zone; give any other text back."""
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return text if moment.tzinfo is None else moment


def _whole(name: str, value: Any) -> int:
    if _is_missing(value):
        return MISSING
    is_whole = isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer())
    if not is_whole or isinstance(value, bool) or not -(2**63) < int(value) < 2**63:
        raise DataError(
            f"event: {name} is no whole number of 64 bits ({str(value)[:60]!r}); correct it, or leave it out"
        )
    return int(value)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


def _check_events(events: EventBlock) -> None:
    """Refuse a block that is not that of one customer in order."""
    if events.n_customers != 1:
        raise ConfigError(f"a state is of one customer; the block holds {events.n_customers:,}, take one of them")
    columns: list[NDArray[Any]] = [*(coded.codes for coded in events.categories.values()), *events.measures.values()]
    columns += [] if events.known is None else [events.known]
    if any(len(column) != events.n_events for column in columns) or events.starts.tolist() != [0, events.n_events]:
        raise DataError("the block's columns differ in length; read the journeys again")
    if (np.diff(events.time) < 0).any():
        raise DataError(f"customer {events.customers[0]}: events do not ascend; sort them by time")
    for name, coded in events.categories.items():
        n_bad = int(((coded.codes < -1) | (coded.codes >= len(coded.vocabulary))).sum())
        if n_bad:
            raise DataError(
                f"column '{name}': {n_bad:,} of {events.n_events:,} events have a code outside its vocabulary of "
                f"{len(coded.vocabulary):,} values. Read the journeys again with read_journeys."
            )


def _find_id(
    events: EventBlock | None, customers: CustomerTable | None, customer_id: CustomerId | None
) -> CustomerId | None:
    held = None if events is None else cast(CustomerId, events.customers.tolist()[0])
    if customer_id is not None and held is not None and held != customer_id:
        raise ConfigError(f"the events are of customer {held!r}, not of {customer_id!r}; give those of one customer")
    found = held if customer_id is None else customer_id
    if found is None and customers is not None:
        raise ConfigError("whose rows of the customer table are meant? Give customer_id")
    return found


def _rows_of(table: CustomerTable, customer: CustomerId) -> CustomerTable:
    """Take the rows of one customer, so that a question costs no more than these."""
    ids = _ids(customer)
    if len(table.customers) and (table.customers.dtype == object) != (ids.dtype == object):
        raise ConfigError(f"customer {customer!r}: ids are texts in one and numbers in the other; convert one of them")
    low, high = (int(np.searchsorted(table.customers, ids, side)[0]) for side in ("left", "right"))
    attributes = {
        name: _compact(name, Coded(coded.codes[low:high], coded.vocabulary)) for name, coded in table.attributes.items()
    }
    return CustomerTable(table.customers[low:high], table.valid_from[low:high], attributes)


def _ids(customer: CustomerId) -> NDArray[Any]:
    return np.array([customer], dtype=object if isinstance(customer, str) else np.int64)


def _compact(name: str, coded: Coded) -> Coded:
    """Keep the texts that occur; a log has many, and each of its customers few."""
    present = np.unique(coded.codes[coded.codes >= 0])
    texts = tuple(coded.vocabulary[code] for code in present.tolist())
    if any(a >= b for a, b in pairwise(texts)):
        raise DataError(f"column '{name}': its vocabulary does not ascend; read the journeys again")
    codes = np.where(coded.codes < 0, -1, np.searchsorted(present, coded.codes)).astype(np.int32)
    return Coded(codes, texts)


def _further_columns(plan: FeaturePlan, events: EventBlock | None) -> tuple[list[str], list[str]]:
    """Name the measures and attributes of a block, and those a plan looks at in the journeys."""
    conditions = [atom for aggregate in plan.aggregates for atom in atoms(aggregate.condition)]
    measures = [*plan.measures, *(atom.column for atom in conditions if not isinstance(atom.value, str))]
    attributes = [*plan.attributes, *plan.vocabularies]
    elsewhere = {*plan.compiled.annotations, *plan.customer_attributes, *(["stage"] if plan.stages else [])}
    held_measures, held_attributes = ([], []) if events is None else (list(events.measures), list(events.categories))
    return (
        [m for m in (*held_measures, *(m for m in measures if m not in elsewhere)) if m not in _MEASURES],
        [a for a in (*held_attributes, *(a for a in attributes if a not in elsewhere)) if a not in TEXT_COLUMNS],
    )
