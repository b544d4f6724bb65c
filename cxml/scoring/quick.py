"""The quick way through a request: plain dicts to the columns of a journey in one compiled pass.

Most of what scoring one journey costs is looking at every value of every event in Python. Here compiled code walks over
the list of dicts itself, through functions of Python's stable C interface (``PyDict_Next`` and the like, the
interpreter's lock held), and makes columns of it: texts to codes, ISO stamps to microseconds, numbers to floats.

It takes for granted what requests usually hold: texts, numbers, true, false and null. A column with anything else is
left to the thorough reader (`cxml.journeys.records`), and so are records that are no plain dicts; so the answers, and
what is said of a bad record, are the same either way. A free-threaded Python always goes the thorough way.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numba
import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic
from numpy.typing import NDArray

from cxml.journeys.block import Coded
from cxml.journeys.records import Moments, Reading
from cxml.journeys.schema import FIRST_US, LAST_US, MISSING, TEXT_COLUMNS
from cxml.times import DAY_US

_ID, _TEXT, _NUMBER, _YES_NO, _WHOLE, _MOMENT = range(6)
_ROLES = {
    "customer_id": _ID, "timestamp": _MOMENT, "available_at": _MOMENT, "promised": _MOMENT,
    "sequence": _WHOLE, "resolved": _YES_NO,
} | dict.fromkeys(TEXT_COLUMNS, _TEXT)  # fmt: skip
#: What a cell holds.
_ABSENT, _NULL, _STRING, _INTEGER, _FLOAT, _BOOLEAN, _OTHER = range(7)
#: What a column is like: no record has it, ready, ready but for its zone, to be read the thorough way.
_MISSING_COLUMN, _READY, _UNSETTLED, _HARD = range(4)
_DAY_US, _MISSING, _FIRST_US, _LAST_US = DAY_US, MISSING, FIRST_US, LAST_US  # constants of the compiled code
_HAS_LOCK = not sysconfig.get_config_var("Py_GIL_DISABLED")
_TYPES = np.array([id(one) for one in (dict, type(None), str, int, float, bool)], np.int64)
_KEYS_HELD = 64  # so many different keys are told apart by where they are in memory


class Layout(NamedTuple):
    """Which keys of a record mean which column, as arrays; made by `layout_of`.

    Parameters
    ----------
    names : tuple of str
        Canonical columns.
    keys : tuple of sequence of str
        The keys of each.
    roles : uint8 array of shape (n_columns,)
        How to read each.
    key_bytes : uint8 array; key_starts : int64 array of shape (n_keys + 1,)
        The keys, one after the other, as UTF-8.
    key_columns, key_ranks : int64 arrays of shape (n_keys,)
        Column of each key, and its place among the keys of that column: the first that a record has counts.
    """

    names: tuple[str, ...]
    keys: tuple[Sequence[str], ...]
    roles: NDArray[np.uint8]
    key_bytes: NDArray[np.uint8]
    key_starts: NDArray[np.int64]
    key_columns: NDArray[np.int64]
    key_ranks: NDArray[np.int64]


def layout_of(reading: Reading) -> Layout | None:
    """Lay out which keys mean which column.

    Parameters
    ----------
    reading : Reading

    Returns
    -------
    Layout or None
        None where one key means several columns.
    """
    names = reading.names
    keys = [(key, c, rank) for c, name in enumerate(names) for rank, key in enumerate(reading.keys(name))]
    if len({key for key, _, _ in keys}) < len(keys):
        return None
    written = [key.encode("utf-8", "surrogatepass") for key, _, _ in keys]
    return Layout(
        names,
        tuple(reading.keys(name) for name in names),
        np.array([_ROLES.get(name, _TEXT if name in reading.attributes else _NUMBER) for name in names], np.uint8),
        np.frombuffer(b"".join(written), np.uint8),
        np.cumsum([0, *map(len, written)]).astype(np.int64),
        np.array([column for _, column, _ in keys], np.int64),
        np.array([rank for _, _, rank in keys], np.int64),
    )


def read_quickly(records: Sequence[Any], layout: Layout) -> dict[str, Any] | None:
    """Read the columns of plain dicts.

    Parameters
    ----------
    records : sequence of dict
    layout : Layout

    Returns
    -------
    dict of str to array, or None
        What `cxml.journeys.records.read_block` takes as found: a column is None where a value wants the thorough
        reader. None for all where the records themselves do.

    Examples
    --------
    >>> layout = layout_of(Reading({"touchpoint": ("page",)}))
    >>> events = [{"timestamp": "2024-01-01T00:00:00Z", "page": "b", "value": 2}, {"page": "a", "value": "2.0"}]
    >>> read = read_quickly(events, layout)
    >>> read["timestamp"].us.tolist()[0], read["touchpoint"], read["value"]
    (1704067200000000, Coded(codes=array([1, 0], dtype=int32), vocabulary=('a', 'b')), None)
    """
    if type(records) is not list or not records or not _HAS_LOCK:
        return None
    n = len(records)
    read, state, cells, codes, naive, n_texts = _read(
        id(records), n, _TYPES, layout.key_bytes, layout.key_starts, layout.key_columns, layout.key_ranks, layout.roles
    )
    if read != n:
        return None
    found: dict[str, Any] = {}
    for c, (name, role, how) in enumerate(zip(layout.names, layout.roles.tolist(), state.tolist(), strict=True)):
        if how == _MISSING_COLUMN:
            continue
        if how == _HARD:
            found[name] = None
        elif role == _TEXT:
            found[name] = _coded(records, layout.keys[c], cells[c, : n_texts[c]], codes[c])
        elif role == _ID:
            found[name] = _customer(records[0], layout.keys[c])
        elif role == _MOMENT:
            found[name] = cells[c] if how == _READY else Moments(cells[c], naive[c])
        else:
            found[name] = cells[c] if role == _WHOLE else cells[c].view(np.float64)
    return found


def _customer(record: dict[str, Any], keys: Sequence[str]) -> str | None:
    """Give the id that all events have, a text or a whole number."""
    text = str(_value(record, keys))
    return text if text.strip(" ") else None


def _value(record: dict[str, Any], keys: Sequence[str]) -> Any:
    return next(record[key] for key in keys if key in record)


def _coded(
    records: Sequence[dict[str, Any]], keys: Sequence[str], where: NDArray[np.int64], codes: NDArray[np.int32]
) -> Coded:
    """Give the texts numbers that ascend as they do; those of spaces alone are missing."""
    if len(keys) == 1:
        key = keys[0]
        texts = [records[i][key] for i in where.tolist()]
    else:
        texts = [_value(records[i], keys) for i in where.tolist()]
    vocabulary = sorted([text for text in texts if text.strip(" ")])
    number = {text: code for code, text in enumerate(vocabulary)}
    rank = np.array([*[number.get(text, -1) for text in texts], -1], np.int32)  # the last one is that of -1
    return Coded(rank[codes], tuple(vocabulary))


# ---- compiled: objects are borrowed from the list, which stays as it is while the lock is held ----


def _compiled(function: Any) -> Any:
    return cast(Any, numba.njit(cache=True)(function))


def _interface(name: str, result: Any, *arguments: Any) -> Any:
    """Name a function of Python's stable C interface; addresses are whole numbers."""
    return types.ExternalFunction(name, result(*arguments))


_list_item = _interface("PyList_GetItem", types.intp, types.intp, types.intp)
_dict_next = _interface("PyDict_Next", types.intc, types.intp, types.intp, types.intp, types.intp)
_type_of = _interface("PyObject_Type", types.intp, types.intp)
_let_go = _interface("Py_DecRef", types.void, types.intp)
_utf8 = _interface("PyUnicode_AsUTF8AndSize", types.intp, types.intp, types.intp)
_forget_error = _interface("PyErr_Clear", types.void)
_as_float = _interface("PyFloat_AsDouble", types.float64, types.intp)
_as_integer = _interface("PyLong_AsLongLongAndOverflow", types.int64, types.intp, types.intp)


def _make_pointer(_context: Any, address: Any) -> Any:
    """Tell the compiler how to make a pointer of an address."""

    def code(_, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        from llvmlite import ir  # type: ignore[import-untyped]

        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return cast(Any, types).CPointer(types.uint8)(address), code


_pointer: Any = intrinsic(_make_pointer)


@_compiled
def _bytes(address, size):  # type: ignore[no-untyped-def]
    """View the bytes of a text."""
    return carray(_pointer(address), (size,))


@_compiled
def _read(records, n, known, key_bytes, key_starts, key_columns, key_ranks, roles):  # type: ignore[no-untyped-def]
    """Read cells, then columns; the first result is how many records there were, -1 where they are not plain.

    Numbers are given as the bits of floats, in the array of the integers; of texts, the rows where they first come.
    """
    n_columns = roles.size
    kind = np.zeros((n_columns, n), np.uint8)
    cells = np.empty((n_columns, n), np.int64)
    sizes = np.empty((n_columns, n), np.int64)
    codes = np.empty((n_columns, n), np.int32)
    naive = np.zeros((n_columns, n), np.bool_)
    state = np.zeros(n_columns, np.uint8)
    n_texts = np.zeros(n_columns, np.int64)
    read = _cells(records, known, key_bytes, key_starts, key_columns, key_ranks, kind, cells, sizes)
    if read != n:
        return read, state, cells, codes, naive, n_texts
    slots = 16
    while slots < 2 * n:
        slots *= 2
    table, where = np.empty(slots, np.int32), np.empty(n, np.int64)
    for c in range(n_columns):
        for i in range(n):
            if kind[c, i] != _ABSENT:
                state[c] = _READY
                break
        if state[c] == _MISSING_COLUMN:
            continue
        if roles[c] == _ID:
            n_ids = _codes(kind[c], cells[c], sizes[c], codes[c], table, where)
            if not (n_ids == 1 and codes[c].min() == 0) and not _is_one_integer(kind[c], cells[c]):
                state[c] = _HARD
        elif roles[c] == _TEXT:
            n_texts[c] = _codes(kind[c], cells[c], sizes[c], codes[c], table, where)
            if n_texts[c] < 0:
                state[c] = _HARD
            else:
                cells[c, : n_texts[c]] = where[: n_texts[c]]
        elif roles[c] == _MOMENT:
            state[c] = _moments(kind[c], cells[c], sizes[c], naive[c])
        elif roles[c] == _WHOLE:
            state[c] = _integers(kind[c], cells[c])
        else:
            state[c] = _floats(kind[c], cells[c], roles[c] == _YES_NO)
    return read, state, cells, codes, naive, n_texts


@_compiled
def _kind_of(thing, known):  # type: ignore[no-untyped-def]
    """Tell what a value is, by its very type; 0 for a dict."""
    its_type = _type_of(thing)
    _let_go(its_type)
    if its_type == known[2]:
        return _STRING
    if its_type == known[4]:
        return _FLOAT
    if its_type == known[3]:
        return _INTEGER
    if its_type == known[1]:
        return _NULL
    if its_type == known[5]:
        return _BOOLEAN
    return 0 if its_type == known[0] else _OTHER


@_compiled
def _cells(records, known, key_bytes, key_starts, key_columns, key_ranks, kind, cells, sizes):  # type: ignore[no-untyped-def]
    """Note what the records hold in the columns: numbers, or address and length of a text as UTF-8."""
    n_columns, n = kind.shape
    several = key_ranks.max() > 0
    ranks = np.empty((n_columns, n if several else 0), np.int64)
    held, held_key, n_held = np.empty(_KEYS_HELD, np.int64), np.empty(_KEYS_HELD, np.int64), 0
    place = np.zeros(4, np.int64)  # position, key, value; or the length of a text; or an overflow
    floats = cells.view(np.float64)
    at_place, at_key, at_value, at_more = (
        place.ctypes.data,
        place[1:].ctypes.data,
        place[2:].ctypes.data,
        place[3:].ctypes.data,
    )
    for record in range(n):
        events = _list_item(records, record)
        if events == 0:
            _forget_error()
            return -1
        if _kind_of(events, known) != 0:
            return -1
        place[0] = 0
        while _dict_next(events, at_place, at_key, at_value) != 0:
            name, value = place[1], place[2]
            key = -2
            for k in range(n_held):
                if held[k] == name:
                    key = held_key[k]
                    break
            if key == -2:
                if _kind_of(name, known) != _STRING:
                    continue  # no column has such a key
                key = _find_key(name, at_more, place, key_bytes, key_starts)
                if n_held < _KEYS_HELD:
                    held[n_held], held_key[n_held], n_held = name, key, n_held + 1
            if key < 0:
                continue
            column, rank = key_columns[key], key_ranks[key]
            if several:
                if kind[column, record] != _ABSENT and rank > ranks[column, record]:
                    continue
                ranks[column, record] = rank
            what = _kind_of(value, known)
            if what == _STRING:
                address = _utf8(value, at_more)
                if address == 0:  # half a surrogate pair
                    _forget_error()
                    what = _OTHER
                cells[column, record], sizes[column, record] = address, place[3]
            elif what == _FLOAT:
                floats[column, record] = _as_float(value)
            elif what in (_INTEGER, _BOOLEAN):
                place[3] = 0
                cells[column, record] = _as_integer(value, at_more)
                if place[3] != 0:
                    what = _OTHER
            elif what == 0:
                what = _OTHER
            kind[column, record] = what
    return n


@_compiled
def _find_key(name, at_size, place, key_bytes, key_starts):  # type: ignore[no-untyped-def]
    address = _utf8(name, at_size)
    if address == 0:
        _forget_error()
        return -1
    written = _bytes(address, place[3])
    for key in range(key_starts.size - 1):
        start = key_starts[key]
        if key_starts[key + 1] - start == written.size:
            same = True
            for i in range(written.size):
                if written[i] != key_bytes[start + i]:
                    same = False
                    break
            if same:
                return key
    return -1


@_compiled
def _codes(kind, address, size, codes, table, where):  # type: ignore[no-untyped-def]
    """Give the texts of a column numbers as they first come, and note in which rows.

    Returns how many there are, -1 where something else is among them. A value that is missing has code -1.
    """
    table[:] = -1
    mask = np.uint64(table.size - 1)
    n_texts = 0
    for i in range(kind.size):
        if kind[i] <= _NULL:
            codes[i] = -1
            continue
        if kind[i] != _STRING:
            return -1
        text = _bytes(address[i], size[i])
        mixed = np.uint64(14695981039346656037)  # FNV-1a
        for k in range(text.size):
            mixed = (mixed ^ np.uint64(text[k])) * np.uint64(1099511628211)
        slot = (mixed ^ (mixed >> np.uint64(32))) & mask
        while True:
            held = table[slot]
            if held < 0:
                table[slot] = held = n_texts
                where[n_texts] = i
                n_texts += 1
                break
            other = where[held]
            if size[other] == size[i]:
                same = address[other] == address[i]
                if not same:
                    same = True
                    known = _bytes(address[other], size[other])
                    for k in range(text.size):
                        if known[k] != text[k]:
                            same = False
                            break
                if same:
                    break
            slot = (slot + np.uint64(1)) & mask
        codes[i] = held
    return n_texts


@_compiled
def _is_one_integer(kind, wholes):  # type: ignore[no-untyped-def]
    return (kind == _INTEGER).all() and (wholes == wholes[0]).all()


@_compiled
def _floats(kind, wholes, is_yes_no):  # type: ignore[no-untyped-def]
    floats = wholes.view(np.float64)
    for i in range(kind.size):
        if kind[i] <= _NULL:
            floats[i] = np.nan
            continue
        if kind[i] == _FLOAT:
            value = floats[i] + 0.0  # and -0.0 becomes 0.0
        elif kind[i] == _INTEGER or kind[i] == _BOOLEAN:
            value = np.float64(wholes[i])
        else:
            return _HARD
        if np.isinf(value) or (is_yes_no and not (value == 0.0 or value == 1.0)):
            return _HARD
        floats[i] = value
    return _READY


@_compiled
def _integers(kind, wholes):  # type: ignore[no-untyped-def]
    for i in range(kind.size):
        if kind[i] <= _NULL:
            wholes[i] = _MISSING
        elif kind[i] != _INTEGER:
            return _HARD
    return _READY


@_compiled
def _moments(kind, wholes, length, naive):  # type: ignore[no-untyped-def]
    """Read a column of stamps; they are ready where none lacks a zone, is missing or lies outside our era."""
    state = _READY
    for i in range(kind.size):
        if kind[i] <= _NULL:
            wholes[i], state = _MISSING, _UNSETTLED
            continue
        if kind[i] != _STRING:
            return _HARD
        us, zone = _stamp(_bytes(wholes[i], length[i]))
        if zone < 0:
            return _HARD
        wholes[i], naive[i] = us, zone == 1
        if zone == 1 or us < _FIRST_US or us >= _LAST_US:
            state = _UNSETTLED
    return state


@_compiled
def _two(written, at):  # type: ignore[no-untyped-def]
    """Read two digits; -1000 where they are none."""
    tens, ones = np.int64(written[at]) - 48, np.int64(written[at + 1]) - 48
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else np.int64(-1000)


@_compiled
def _stamp(written):  # type: ignore[no-untyped-def]
    """Read ISO 8601 as `cxml.journeys.schema.STAMP_PATTERN` has it.

    Returns microseconds, and 1 where there is no zone, 0 where there is one, -1 where it is no stamp.
    """
    bad = (np.int64(0), np.int64(-1))
    at, end = 0, written.size
    if end - at < 10 or written[at + 4] != 45 or written[at + 7] != 45:
        return bad
    year = 100 * _two(written, at) + _two(written, at + 2)
    month, day = _two(written, at + 5), _two(written, at + 8)
    if year < 1 or month < 1 or month > 12 or day < 1:
        return bad
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 31 - (month == 4 or month == 6 or month == 9 or month == 11)
    if month == 2:
        longest = 29 if leap else 28
    if day > longest:
        return bad
    # days since 1970 in the proleptic Gregorian calendar, the year beginning in March
    y = year - (month <= 2)
    era, of_era = y // 400, y % 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    us = (era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468) * _DAY_US
    at += 10
    if at == end:
        return us, np.int64(1)
    if end - at < 6 or (written[at] != 84 and written[at] != 32) or written[at + 3] != 58:
        return bad
    hour, minute, second = _two(written, at + 1), _two(written, at + 4), np.int64(0)
    at += 6
    fraction = np.int64(0)
    if end - at >= 3 and written[at] == 58:
        second = _two(written, at + 1)
        at += 3
        if end - at >= 2 and written[at] == 46:
            at += 1
            digits = 0
            while at < end and 48 <= written[at] <= 57:
                if digits < 6:
                    fraction = 10 * fraction + (np.int64(written[at]) - 48)
                digits, at = digits + 1, at + 1
            if digits < 1 or digits > 9:
                return bad
            for _ in range(digits, 6):
                fraction *= 10
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return bad
    us += ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
    if at == end:
        return us, np.int64(1)
    if written[at] == 90:
        return (us, np.int64(0)) if at + 1 == end else bad
    if (written[at] != 43 and written[at] != 45) or end - at < 3:
        return bad
    sign = np.int64(1) if written[at] == 43 else np.int64(-1)
    hours, minutes = _two(written, at + 1), np.int64(0)
    at += 3
    if at < end:
        at += written[at] == 58
        if end - at != 2:
            return bad
        minutes = _two(written, at)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return bad
    return us - sign * (hours * 60 + minutes) * 60_000_000, np.int64(0)
