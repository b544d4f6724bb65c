"""One journey that came with a request: a list of dicts, or columns, to the block that reading a file would give.

Needs NumPy and the standard library only, and agrees with `cxml.read_journeys` on every value it accepts; what
that would quarantine is refused here.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.journeys.block import Coded, EventBlock, Float64, Int64
from cxml.journeys.schema import (
    FIRST_US,
    LAST_US,
    MISSING,
    NO,
    NUMBER_PATTERN,
    PLAIN_INTEGER_PATTERN,
    PROMISE,
    STAMP_PATTERN,
    TEXT_COLUMNS,
    WHOLE_PATTERN,
    YES,
    tie_order,
)
from cxml.journeys.stamps import check_zone, days_until, local_to_utc

_STAMP, _NUMBER, _WHOLE = re.compile(STAMP_PATTERN), re.compile(NUMBER_PATTERN), re.compile(WHOLE_PATTERN)
_NAIVE_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH = _NAIVE_EPOCH.replace(tzinfo=dt.UTC)
_LARGEST_WHOLE = 1e15  # beyond, a float no longer reads as a whole number
_NUMBERS = {float, int, bool, type(None)}
_TEXTS = {str, type(None)}
_REQUIRED = frozenset({"timestamp", "touchpoint"})
_INSTANTS = frozenset({"timestamp", "available_at", "promised"})


class Survey(NamedTuple):
    """Which scores are answers, and what they may be.

    Parameters
    ----------
    touchpoint : str
        Only its scores are looked at.
    lowest, highest : int
        Answers are whole numbers from the one to the other.
    """

    touchpoint: str
    lowest: int
    highest: int


class Moments(NamedTuple):
    """A column of moments as they were written.

    Parameters
    ----------
    us : int64 array of shape (n,)
        Microseconds since 1970, on the wall clock where the stamp carries no zone.
    naive : bool array of shape (n,)
        Where it carries none.
    """

    us: Int64
    naive: NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """How to read the events of a request; the same for all requests to one model.

    Parameters
    ----------
    columns : mapping of str to sequence of str
        Canonical name -> the keys it may stand under, the first that a record has counts. A name without an entry
        stands under itself.
    measures, attributes : tuple of str
        Further numbers and further categories.
    timezone : str, optional
        Zone of stamps that carry none.
    survey : Survey, optional
        Answers off its scale are refused, as reading a file puts them aside.
    """

    columns: Mapping[str, Sequence[str]]
    measures: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    timezone: str | None = None
    survey: Survey | None = None

    @cached_property
    def zone(self) -> str | None:
        """The zone, if there is one of that name."""
        return None if self.timezone is None else check_zone(self.timezone)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The columns that break ties."""
        return tie_order(self.measures, self.attributes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical columns of a request."""
        return ("customer_id", "timestamp", "promised", *(name for name in self.order if name != PROMISE))

    def keys(self, name: str) -> Sequence[str]:
        """Give the keys that a column may stand under."""
        return self.columns.get(name, (name,))


def block_from_records(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Sequence[str]],
    measures: Sequence[str] = (),
    attributes: Sequence[str] = (),
    timezone: str | None = None,
    survey: Survey | None = None,
) -> EventBlock:
    """Build the block of one customer's journey.

    Parameters
    ----------
    records : sequence of mappings
        The events, in any order; further keys are ignored.
    columns : mapping of str to sequence of str
        Canonical name -> the keys it may stand under, the first that a record has counts. A name without an entry
        stands under itself.
    measures, attributes : sequence of str
        Further numbers and further categories.
    timezone : str, optional
        Zone of stamps that carry none.
    survey : Survey, optional
        Which scores must lie on a scale.

    Returns
    -------
    EventBlock
        Of one customer; an optional column is there when at least one record has its key.
        Without any ``customer_id`` the customer is called ``""``.

    Raises
    ------
    ConfigError
        If a stamp carries no zone and ``timezone`` is not given.
    DataError
        Naming the record (from 1) and the field: a required value missing, unreadable or out of range, records of
        several customers, or no records.

    Examples
    --------
    >>> events = [{"user": 7, "at": "2024-01-02T10:00Z", "page": "b"}, {"user": 7, "at": "2024-01-01", "page": "a"}]
    >>> names = {"customer_id": ("user",), "timestamp": ("at",), "touchpoint": ("page",)}
    >>> block = block_from_records(events, names, timezone="UTC")
    >>> block.customers, block.categories["touchpoint"]
    (array([7]), Coded(codes=array([0, 1], dtype=int32), vocabulary=('a', 'b')))
    """
    return read_block(records, Reading(columns, tuple(measures), tuple(attributes), timezone, survey))


def read_block(
    records: Sequence[Mapping[str, Any]], reading: Reading, found: Mapping[str, Any] | None = None
) -> EventBlock:
    """Build the block of one customer's journey from its events; see `block_from_records`.

    Parameters
    ----------
    records : sequence of mappings
    reading : Reading
    found : mapping of str to object, optional
        Columns that were read already: `Moments` (or their UTC microseconds, none of them missing or out of range),
        `Coded`, the customer's id as text, arrays; None for those that are to be read here. A column that is not
        among them is one that no record has. Default: all are to be read here.

    Returns
    -------
    EventBlock
    """
    if not records:
        raise DataError("no records: a journey has at least one event")
    found = dict.fromkeys(reading.names) if found is None else found
    return _build(found, lambda name: _values(records, reading.keys(name)), len(records), reading)


def block_from_columns(table: Mapping[str, Any], reading: Reading) -> EventBlock:
    """Build the block of one customer's journey from columns.

    Parameters
    ----------
    table : mapping of str to array or list
        One entry a column, one value an event; further ones are ignored.
    reading : Reading

    Returns
    -------
    EventBlock
        As from `block_from_records`.

    Raises
    ------
    ConfigError, DataError
        As from `block_from_records`; and if the columns differ in length or one is no column.

    Examples
    --------
    >>> table = {"timestamp": np.array(["2024-01-01", "2024-01-02"], "datetime64[us]"), "touchpoint": ["a", "b"]}
    >>> block_from_columns(table, Reading({}, timezone="UTC")).categories["touchpoint"].codes
    array([0, 1], dtype=int32)
    """
    keys = {name: next((key for key in reading.keys(name) if key in table), None) for name in reading.names}
    columns = {name: _column(key, table[key]) for name, key in keys.items() if key is not None}
    lengths = {name: len(column) for name, column in columns.items()}
    n = max(lengths.values(), default=0)
    short = next((name for name, length in lengths.items() if length != n), None)
    if short is not None:
        raise DataError(f"column '{keys[short]}' has {lengths[short]} values, others have {n}; give one for each event")
    if not n:
        raise DataError("no records: a journey has at least one event")
    return _build(dict.fromkeys(columns), columns.get, n, reading)


def _column(key: str, values: Any) -> Any:
    if not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values if values.dtype.kind in "fiubM" else values.tolist()
    if isinstance(values, list | tuple):
        return values
    raise DataError(
        f"column '{key}' is a {type(values).__name__}; a dict of columns has a list or an array for each, with one "
        "value an event"
    )


def read_event(record: Mapping[str, Any], reading: Reading, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read one event.

    Parameters
    ----------
    record : mapping
    reading : Reading
    found : mapping of str to object, optional
        As for `read_block`.

    Returns
    -------
    dict of str to object
        Canonical column -> value, of those that are not missing: texts, floats, moments and ``sequence`` as integers;
        what was promised as days from the event, under ``promise``.

    Raises
    ------
    ConfigError, DataError
        As from `block_from_records`.

    Examples
    --------
    >>> read_event({"timestamp": "1970-01-01T00:00:01Z", "touchpoint": "call", "value": None}, Reading({}))
    {'timestamp': 1000000, 'touchpoint': 'call'}
    """
    found = dict.fromkeys(reading.names) if found is None else found
    columns = _columns(found, lambda name: _values([record], reading.keys(name)), 1, reading)
    row = {}
    for name, column in columns.items():
        if isinstance(column, Coded):
            value: Any = column.vocabulary[0] if column.vocabulary else None
        else:
            value = column[0] if isinstance(column[0], str) else column[0].item()
        if value is not None and value == value and value != MISSING:
            row[name] = value
    return row


def _build(found: Mapping[str, Any], raw: Callable[[str], Any], n: int, reading: Reading) -> EventBlock:
    """Read the columns, and put the events in order."""
    read = _columns(found, raw, n, reading)
    time, customers = read.pop("timestamp"), read.pop("customer_id", None)
    read = {name: read[name] for name in reading.order if name in read}
    if customers is None:
        customers = np.array([""], dtype=object)
    return _block(customers, time, read, _total_order(time, list(read.values())))


def _columns(found: Mapping[str, Any], raw: Callable[[str], Any], n: int, reading: Reading) -> dict[str, Any]:
    """Read what is not read yet, and check what concerns several columns."""
    read: dict[str, Any] = {}
    for name in reading.names:
        column: Any = found.get(name)
        if column is None:
            values = raw(name) if name in found else None
            if values is None and name not in _REQUIRED:
                continue
            column = _read(name, [None] * n if values is None else values, reading)
        elif name == "customer_id":
            column = _id_array(column)
        if isinstance(column, Moments):
            column = _instants(name, column, raw, reading.zone)
        if name == "touchpoint" and column.codes.min() < 0:
            _refuse(name, int((column.codes < 0).argmax()), None, "is missing")
        read[name] = column
    if reading.survey is not None and "score" in read:
        _check_answers(read["touchpoint"], read["score"], reading.survey)
    if "promised" in read:
        read[PROMISE] = days_until(read.pop("promised"), read["timestamp"])
    return read


def _read(name: str, values: Any, reading: Reading) -> Any:
    """Read a column of Python's own values, or an array, the thorough way."""
    if name in _INSTANTS:
        return _moments(name, values)
    if isinstance(values, np.ndarray):
        others = (*TEXT_COLUMNS, *reading.attributes, "customer_id", "sequence", "resolved")
        if values.dtype.kind != "M" and name not in others:
            return _finite(name, values.astype(np.float64), values)
        values = list(values)
    if name == "customer_id":
        return _customer(values)
    if name in TEXT_COLUMNS or name in reading.attributes:
        return _texts(name, values)
    if name == "sequence":
        return _wholes(name, values)
    return _yes_no(name, values) if name == "resolved" else _numbers(name, values)


def _check_answers(touchpoint: Coded, score: Float64, survey: Survey) -> None:
    """Refuse an answer to the survey that cannot be one."""
    if survey.touchpoint not in touchpoint.vocabulary:
        return
    is_answer = touchpoint.codes == touchpoint.vocabulary.index(survey.touchpoint)
    for i, answer in enumerate(score[is_answer].tolist()):
        if not (survey.lowest <= answer <= survey.highest and answer.is_integer()) and answer == answer:
            what = f"of '{survey.touchpoint}' is no whole number from {survey.lowest} to {survey.highest}"
            _refuse("score", int(np.flatnonzero(is_answer)[i]), f"{answer:g}", what)


def _values(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any] | None:
    """Values of one column; None when no record has it."""
    if len(names) == 1:
        name = names[0]
        found = [record.get(name) for record in records]
        missing = all(value is None for value in found) and not any(name in record for record in records)
        return None if missing else found
    keys = [next((name for name in names if name in record), None) for record in records]
    if all(key is None for key in keys):
        return None
    return [None if key is None else record[key] for key, record in zip(keys, records, strict=True)]


def _refuse(name: str, at: int, value: Any, what: str) -> NoReturn:
    shown = "" if value is None else f" ({str(value)[:60]!r})"
    raise DataError(f"record {at + 1}: {name} {what}{shown}. Correct the event, or leave it out.")


def _plain(value: Any) -> Any:
    """Return a value as one of Python's own; None for everything that means missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    kind = type(value).__name__
    return None if kind in ("NAType", "NaTType") else value


def _text(value: Any) -> str | None:
    """Text of a category; a whole number reads the same however it is typed."""
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        value = int(value)
    text = str.__str__(value) if isinstance(value, str) else str(value)  # of a kind of text, the text
    return text if text.strip(" ") else None


def _texts(name: str, values: Sequence[Any]) -> Coded:
    if set(map(type, values)) <= _TEXTS:
        vocabulary = sorted(text for text in {*values} - {None} if text.strip(" "))
        number = dict.fromkeys(values, -1) | {text: i for i, text in enumerate(vocabulary)}
        return Coded(np.array(list(map(number.__getitem__, values)), np.int32), tuple(vocabulary))
    texts = [value if type(value) is str and value.strip(" ") else _text(value) for value in values]
    return _texts(name, texts)


def _customer(values: Sequence[Any]) -> NDArray[np.generic]:
    ids = [_text(value) for value in values]
    if None in ids:
        _refuse("customer_id", ids.index(None), None, "is missing")
    other = next((i for i, one in enumerate(ids) if one != ids[0]), None)
    if other is not None:
        _refuse("customer_id", other, ids[other], f"is not that of record 1 ({ids[0]!r}): a journey has one customer")
    return _id_array(str(ids[0]))


def id_of(value: Any) -> int | str:
    """Give a customer's id as reading events does: a whole number where it reads as one, else a text.

    Examples
    --------
    >>> id_of("7"), id_of(7.0), id_of("07")
    (7, 7, '07')
    """
    text = _text(value)
    if text is None:
        raise DataError("customer_id is missing")
    found: int | str = _id_array(text).tolist()[0]
    return found


def _id_array(one: str) -> NDArray[np.generic]:
    return np.array([int(one)]) if re.fullmatch(PLAIN_INTEGER_PATTERN, one) else np.array([one], dtype=object)


def _numbers(name: str, values: Sequence[Any]) -> Float64:
    if set(map(type, values)) <= _NUMBERS:
        try:
            return _finite(name, np.array(values, np.float64), values)  # None becomes NaN
        except OverflowError:
            pass  # an integer beyond all floats: say which
    return _finite(name, np.array([_number(name, i, value) for i, value in enumerate(values)], np.float64), values)


def _finite(name: str, numbers: Float64, values: Sequence[Any] | NDArray[Any]) -> Float64:
    if np.isinf(numbers).any():
        at = int(np.isinf(numbers).argmax())
        _refuse(name, at, values[at], "is not finite")
    return numbers + 0.0


def _number(name: str, at: int, value: Any) -> float:
    value = _plain(value)
    if value is None:
        return math.nan
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            _refuse(name, at, value, "is not finite")
    text = value.strip(" ") if isinstance(value, str) else None
    if text == "":
        return math.nan
    if text is None or not _NUMBER.fullmatch(text):
        _refuse(name, at, value, "is not a number")
    return float(text)


def _wholes(name: str, values: Sequence[Any]) -> Int64:
    return np.array([_whole(name, i, value) for i, value in enumerate(values)], dtype=np.int64)


def _whole(name: str, at: int, value: Any) -> int:
    value = _plain(value)
    if isinstance(value, str):
        value = value.strip(" ") or None
    if value is None:
        return MISSING
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    if not whole or not -(2**63) < int(value) < 2**63:
        _refuse(name, at, value, "is not a whole number")
    return int(value)


def _yes_no(name: str, values: Sequence[Any]) -> Float64:
    return np.array([_yes_or_no(name, i, value) for i, value in enumerate(values)], dtype=np.float64)


def _yes_or_no(name: str, at: int, value: Any) -> float:
    text = _text(value)
    if text is None:
        return math.nan
    lowered = text.strip(" ").lower()
    if lowered in YES:
        return 1.0
    if lowered not in NO:
        _refuse(name, at, value, "is neither yes nor no")
    return 0.0


def _moments(name: str, values: Sequence[Any] | NDArray[Any]) -> Moments:
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "M":
            us = values.astype("datetime64[us]").astype(np.int64)  # not a time becomes the missing one
            return Moments(us, us != MISSING)
        values = values.tolist()
    moments = [_moment(name, i, value) for i, value in enumerate(values)]
    return Moments(
        np.array([us for us, _ in moments], dtype=np.int64), np.array([is_naive for _, is_naive in moments], dtype=bool)
    )


def _instants(name: str, moments: Moments, raw: Callable[[str], Any], zone: str | None) -> Int64:
    """Turn moments into UTC, and refuse an event without one."""
    time, naive = moments
    if naive.any():
        if zone is None:
            raise ConfigError(
                f"record {int(naive.argmax()) + 1}: {name} carries no time zone. Send it with an offset (…Z, …+01:00), "
                "or set timezone."
            )
        time = time.copy()
        time[naive] = local_to_utc(time[naive], zone)
    if name == "timestamp" and (int(time.min()) < FIRST_US or int(time.max()) >= LAST_US):
        at = int(((time < FIRST_US) | (time >= LAST_US)).argmax())
        if time[at] == MISSING:
            _refuse(name, at, None, "is missing")
        _refuse(name, at, raw(name)[at], "is outside 1900 to 2200")
    return time


def _moment(name: str, at: int, value: Any) -> tuple[int, bool]:
    """Microseconds since 1970 and whether they are those of a wall clock."""
    if type(value) is not str:
        if isinstance(value, np.datetime64):
            return _datetime64(value)
        value = _plain(value)
        if isinstance(value, dt.datetime):
            return _since_epoch(value)
        if isinstance(value, dt.date):
            return _since_epoch(dt.datetime(value.year, value.month, value.day))
    if value is None:
        return MISSING, False
    text = value.strip(" ") if isinstance(value, str) else ""
    if isinstance(value, str) and not text:
        return MISSING, False
    try:
        if _STAMP.fullmatch(text):
            return _since_epoch(dt.datetime.fromisoformat(text))
    except ValueError:
        pass  # 2024-02-30 looks like a date
    _refuse(name, at, value, "is not readable: write 2024-01-31T12:00:00Z")


def _since_epoch(moment: dt.datetime) -> tuple[int, bool]:
    naive = moment.tzinfo is None
    passed = moment - (_NAIVE_EPOCH if naive else _EPOCH)
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds, naive


def _datetime64(value: np.datetime64) -> tuple[int, bool]:
    if np.isnat(value):
        return MISSING, False
    return int(value.astype("datetime64[us]").astype(np.int64)), True


def _total_order(time: Int64, keys: Sequence[Any]) -> Int64 | None:
    """Where each event goes; None when they are in order already."""
    if (time[1:] > time[:-1]).all():
        return None
    arrays = [key.codes if isinstance(key, Coded) else key for key in keys]
    sortable = [np.where(np.isnan(a), -np.inf, a) if a.dtype == np.float64 else a for a in arrays]
    return np.lexsort((*reversed(sortable), time)).astype(np.int64)


def _block(customers: NDArray[Any], time: Int64, read: dict[str, Any], position: Int64 | None) -> EventBlock:
    if position is not None:
        time = time[position]
        read = {
            name: Coded(column.codes[position], column.vocabulary) if isinstance(column, Coded) else column[position]
            for name, column in read.items()
        }
    available = read.pop("available_at", None)
    known = None if available is None else np.maximum(time, available)
    measures = {n: c for n, c in read.items() if not isinstance(c, Coded) and n != "sequence"}
    return EventBlock(
        customers=customers,
        starts=np.array([0, len(time)], dtype=np.int64),
        time=time,
        known=None if known is None or np.array_equal(known, time) else known,
        categories={name: column for name, column in read.items() if isinstance(column, Coded)},
        measures=measures,
    )
