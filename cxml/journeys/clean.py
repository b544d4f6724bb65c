"""The quick way through a Parquet file in which every row is good: Arrow straight to parts of customers, on all cores.

It knows no quarantine. At the first thing it does not take for granted (a type, a missing stamp, a blank touchpoint, a
score off the scale) it gives up, and the file is read the thorough way, which says what is wrong with which row.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.journeys.canonical import RowRules
from cxml.journeys.schema import FIRST_US, LAST_US, MISSING, NUMBER_COLUMNS, PROMISE, STAMP_COLUMNS, TEXT_COLUMNS
from cxml.journeys.shuffle import Shuffle, fixed_values, float_values, is_there
from cxml.journeys.stamps import days_until, local_to_utc
from cxml.progress import Advance

_BATCH_ROWS = 524_288  # so many that the pieces of a part are few, so few that a batch takes little memory
_TASK_ROWS = 500_000
_BUFFER_BYTES = 1 << 20
_UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True, slots=True)
class CleanFile:
    """A Parquet file and what to read of it.

    Parameters
    ----------
    path : str
    found : mapping of str to str
        Canonical name -> column of the file.
    measures, attributes : tuple of str
        Further numbers and further categories.
    rules : RowRules
    zone : str, optional
        Zone of stamps that carry none.
    """

    path: str
    found: Mapping[str, str]
    measures: tuple[str, ...]
    attributes: tuple[str, ...]
    rules: RowRules
    zone: str | None

    @property
    def texts(self) -> list[str]:
        """Columns to read as texts, if they are."""
        return [name for name in self.found if name in (*TEXT_COLUMNS, "customer_id") or name in self.attributes]

    @property
    def numbers(self) -> list[str]:
        """Columns to read as numbers."""
        return [name for name in self.found if name in NUMBER_COLUMNS or name in self.measures]

    @property
    def further_stamps(self) -> list[str]:
        """Columns to read as moments, beside that of the event; a row may lack them."""
        return [name for name in self.found if name in STAMP_COLUMNS and name != "timestamp"]

    def open(self, metadata: Any = None) -> Any:
        """Open the file; texts come as dictionaries."""
        import pyarrow.parquet as pq

        # read as it goes: a whole file fetched ahead is memory touched for the first time, which is dear
        return pq.ParquetFile(
            self.path, metadata=metadata, read_dictionary=[self.found[name] for name in self.texts],
            pre_buffer=False, buffer_size=_BUFFER_BYTES,
        )  # fmt: skip


def column_names(path: str | os.PathLike[str]) -> list[str] | None:
    """Give the columns of a Parquet file; None where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return None


def read_clean_parquet(clean: CleanFile, shuffle: Shuffle, advance: Advance, pool: Executor) -> int | None:
    """Read a Parquet file whose rows are all good.

    Parameters
    ----------
    clean : CleanFile
    shuffle : Shuffle
        Takes the rows; gets none when the file turns out not to be clean.
    advance : callable
        Told the number of rows of every batch.
    pool : Executor
        Reads the row groups.

    Returns
    -------
    int or None
        How many rows; None when a column has a type, or a row a value, that wants the thorough way.
    """
    import pyarrow as pa

    try:
        with clean.open() as parquet:
            metadata = parquet.metadata
            if not _types_fit(parquet.schema_arrow, clean):
                return None
    except KeyError:  # a list or a structure cannot come as a dictionary
        return None
    mark, gave_up, telling = shuffle.mark(), threading.Event(), threading.Lock()

    def read(groups: list[int]) -> None:
        with clean.open(metadata) as parquet:
            wanted = list(clean.found.values())
            batches = parquet.iter_batches(_BATCH_ROWS, row_groups=groups, columns=wanted, use_threads=False)
            positions = count()
            for batch in batches:
                columns = None if gave_up.is_set() else _columns(batch, clean)
                if columns is None:
                    gave_up.set()
                    return
                chunk = shuffle.split(columns, (groups[0], next(positions)))
                shuffle.add(chunk)
                with telling:
                    advance(chunk.n)
                del batch, columns  # before the next one is read into memory

    def try_to_read(groups: list[int]) -> None:
        try:
            read(groups)
        except (pa.ArrowException, OSError):
            gave_up.set()

    list(pool.map(try_to_read, _tasks(metadata)))
    if gave_up.is_set():
        shuffle.undo(mark)
        return None
    shuffle.settle(mark)
    return int(metadata.num_rows)


def _tasks(metadata: Any) -> Iterator[list[int]]:
    """Cut the row groups into runs of some rows."""
    groups: list[int] = []
    n = 0
    for i in range(metadata.num_row_groups):
        groups.append(i)
        n += metadata.row_group(i).num_rows
        if n >= _TASK_ROWS:
            yield groups
            groups, n = [], 0
    if groups:
        yield groups


def _types_fit(schema: Any, clean: CleanFile) -> bool:
    sources = list(clean.found.values())
    if any("." in source or schema.names.count(source) != 1 for source in sources):
        return False
    return all(_type_fits(name, schema.field(source).type, clean) for name, source in clean.found.items())


def _type_fits(name: str, kind: Any, clean: CleanFile) -> bool:
    import pyarrow as pa

    is_text = pa.types.is_dictionary(kind) and kind.value_type == pa.string()
    if name in clean.texts:
        return name not in clean.numbers and (is_text or (name == "customer_id" and kind in (pa.int64(), pa.int32())))
    if name in STAMP_COLUMNS:
        is_stamp = pa.types.is_timestamp(kind) and kind.unit in _UNITS_US
        return is_stamp and (kind.tz is not None or clean.zone is not None)
    if name in clean.numbers:
        return kind in (pa.float64(), pa.float32(), pa.int32(), pa.int16())
    return (name == "sequence" and kind in (pa.int64(), pa.int32())) or (name == "resolved" and kind == pa.bool_())


def _columns(batch: Any, clean: CleanFile) -> dict[str, Any] | None:
    """Give the columns of a batch as a shuffle takes them; None where a row is not good."""
    import pyarrow as pa

    columns = {name: batch.column(source) for name, source in clean.found.items()}
    if any(columns[name].null_count for name in ("customer_id", "timestamp", "touchpoint")):
        return None
    is_text = pa.types.is_dictionary(columns["customer_id"].type)
    for name in ("touchpoint", "customer_id") if is_text else ("touchpoint",):
        if any(not text.strip(" ") for text in columns[name].dictionary.to_pylist()):
            return None
    if not _on_the_scale(columns, clean.rules):
        return None
    time = _stamps(columns["timestamp"], clean.zone)
    if time is None or (clean.rules.as_of is not None and len(time) and int(time.max()) > clean.rules.as_of):
        return None
    columns["timestamp"] = time
    for name in clean.further_stamps:
        stamps = _stamps(columns[name], clean.zone)
        if stamps is None:
            return None
        columns[name] = stamps
    if "promised" in columns:
        columns[PROMISE] = days_until(columns.pop("promised"), time)
    if "sequence" in columns:
        columns["sequence"] = _with_missing(fixed_values(columns["sequence"]).astype(np.int64), columns["sequence"])
    if not is_text:
        columns["customer_id"] = fixed_values(columns["customer_id"]).astype(np.int64, copy=False)
    if "resolved" in columns:
        columns["resolved"] = _yes_no(columns["resolved"])
    for name in clean.numbers:
        is_double = columns[name].type == pa.float64()
        values = fixed_values(columns[name]) if is_double else float_values(columns[name])
        if np.isinf(values).any():
            return None
        if not is_double:
            columns[name] = values
    return columns


def _stamps(column: Any, zone: str | None) -> NDArray[np.int64] | None:
    """Give stamps as UTC microseconds, `MISSING` where there is none; None where one is out of reach."""
    unit, is_naive = _UNITS_US[column.type.unit], column.type.tz is None
    stamps = fixed_values(column, np.int64)
    if column.null_count:
        stamps = np.where(is_there(column) == 1, stamps, 0)
    if not _in_reach(stamps, unit):
        return None
    stamps = stamps * unit if unit > 1 else stamps
    if is_naive and zone is not None:
        stamps = local_to_utc(stamps, zone)
        if not _in_reach(stamps):
            return None
    return _with_missing(stamps, column)


def _in_reach(stamps: NDArray[np.int64], unit: int = 1) -> bool:
    return not len(stamps) or bool(stamps.min() >= FIRST_US // unit and stamps.max() < LAST_US // unit)


def _with_missing(values: NDArray[np.int64], column: Any) -> NDArray[np.int64]:
    return np.where(is_there(column) == 1, values, MISSING) if column.null_count else values


def _yes_no(column: Any) -> NDArray[np.float64]:
    """Give truth values, which Arrow packs into bits, as 1 and 0; NaN where one is missing."""
    bits = np.frombuffer(column.buffers()[1], np.uint8)
    values = np.unpackbits(bits, count=column.offset + len(column), bitorder="little")[column.offset :]
    found = values.astype(np.float64)
    return np.where(is_there(column) == 1, found, np.nan) if column.null_count else found


def _on_the_scale(columns: dict[str, Any], rules: RowRules) -> bool:
    if rules.survey is None or rules.scale is None or "score" not in columns:
        return True
    touchpoint = columns["touchpoint"]
    names = touchpoint.dictionary.to_pylist()
    if rules.survey not in names:
        return True
    is_answer = fixed_values(touchpoint.indices) == names.index(rules.survey)
    score = float_values(columns["score"])[is_answer]
    score = score[~np.isnan(score)]
    low, high = rules.scale
    return bool(((score >= low) & (score <= high) & (score == np.trunc(score))).all())
