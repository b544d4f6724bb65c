"""One journey that came with a request: a list of dicts to the block that reading a file would give.

Needs NumPy and the standard library only, and agrees with `cxml.read_journeys` on every value it accepts; what
that would quarantine is refused here.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

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


def block_from_records(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Sequence[str]],
    measures: Sequence[str] = (),
    attributes: Sequence[str] = (),
    timezone: str | None = None,
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
    if not records:
        raise DataError("no records: a journey has at least one event")
    zone = None if timezone is None else check_zone(timezone)
    order = tie_order(measures, attributes)
    written = ("customer_id", "timestamp", "promised", *(name for name in order if name != PROMISE))
    values = {name: _values(records, columns.get(name, (name,))) for name in written}
    time = _times("timestamp", values.pop("timestamp") or [None] * len(records), zone)
    customers = _customer(values.pop("customer_id"))
    if values["touchpoint"] is None:
        values["touchpoint"] = [None] * len(records)
    present = {name: column for name, column in values.items() if column is not None}
    read = {name: _reader(name, attributes, zone)(name, column) for name, column in present.items()}
    if "promised" in read:
        read[PROMISE] = days_until(read["promised"], time)
    read = {name: read[name] for name in order if name in read}
    position = _total_order(time, list(read.values()))
    return _block(customers, time, read, position)


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


def _reader(name: str, attributes: Sequence[str], zone: str | None) -> Callable[[str, list[Any]], Any]:
    if name in TEXT_COLUMNS or name in attributes:
        return _texts
    if name in ("available_at", "promised"):
        return lambda field, values: _times(field, values, zone)
    if name == "sequence":
        return _wholes
    return _yes_no if name == "resolved" else _numbers


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
    text = value if isinstance(value, str) else str(value)
    return text if text.strip(" ") else None


def _texts(name: str, values: list[Any]) -> Coded:
    texts = [value if type(value) is str and value.strip(" ") else _text(value) for value in values]
    if name == "touchpoint" and None in texts:
        _refuse(name, texts.index(None), None, "is missing")
    vocabulary = sorted({text for text in texts if text is not None})
    index: dict[str | None, int] = {text: i for i, text in enumerate(vocabulary)}
    index[None] = -1
    return Coded(np.array([index[text] for text in texts], dtype=np.int32), tuple(vocabulary))


def _customer(values: list[Any] | None) -> NDArray[np.generic]:
    if values is None:
        return np.array([""], dtype=object)
    ids = [_text(value) for value in values]
    if None in ids:
        _refuse("customer_id", ids.index(None), None, "is missing")
    other = next((i for i, one in enumerate(ids) if one != ids[0]), None)
    if other is not None:
        _refuse("customer_id", other, ids[other], f"is not that of record 1 ({ids[0]!r}): a journey has one customer")
    one = str(ids[0])
    return np.array([int(one)]) if re.fullmatch(PLAIN_INTEGER_PATTERN, one) else np.array([one], dtype=object)


def _numbers(name: str, values: list[Any]) -> Float64:
    numbers = np.array([v if type(v) is float else _number(name, i, v) for i, v in enumerate(values)], dtype=np.float64)
    if np.isinf(numbers).any():
        at = int(np.isinf(numbers).argmax())
        _refuse(name, at, values[at], "is not finite")
    return numbers + 0.0


def _number(name: str, at: int, value: Any) -> float:
    value = _plain(value)
    if value is None:
        return math.nan
    if isinstance(value, int | float):
        return float(value)
    text = value.strip(" ") if isinstance(value, str) else None
    if text == "":
        return math.nan
    if text is None or not _NUMBER.fullmatch(text):
        _refuse(name, at, value, "is not a number")
    return float(text)


def _wholes(name: str, values: list[Any]) -> Int64:
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


def _yes_no(name: str, values: list[Any]) -> Float64:
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


def _times(name: str, values: list[Any], zone: str | None) -> Int64:
    moments = [_moment(name, i, value) for i, value in enumerate(values)]
    time = np.array([us for us, _ in moments], dtype=np.int64)
    naive = np.array([is_naive for _, is_naive in moments], dtype=bool)
    if naive.any():
        if zone is None:
            raise ConfigError(
                f"record {int(naive.argmax()) + 1}: {name} carries no time zone. Send it with an offset (…Z, …+01:00), "
                "or set timezone."
            )
        time[naive] = local_to_utc(time[naive], zone)
    if name == "timestamp":
        outside = (time < FIRST_US) | (time >= LAST_US)
        if outside.any():
            at = int(outside.argmax())
            missing = time[at] == MISSING
            _refuse(name, at, values[at], "is missing" if missing else "is outside 1900 to 2200")
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
    if (np.diff(time) > 0).all():
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
