"""What a worker does that reads: pieces of sources to chunks of parts of customers."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import CxmlError
from cxml.scoring.spark.job import BAD, ERROR, EVENTS, READ, Job, Piece, arrow_bytes, error_bytes, prepare, sent

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.journeys.ingest import Ingested

_FRAME_ROWS = 500_000
_SMALL_VOCABULARY = 256
_REACH = 2**63


def read_pieces(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read the pieces whose numbers come in a column ``id``; give chunks of parts, and what was found on the way."""
    for batch in batches:
        for number in batch.column("id").to_pylist():
            piece = job.pieces[number]
            yield from _sending(job, partial(_read_piece, job, piece), piece.source)


def read_frame(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read rows of a table of Spark's, as they come; they belong to the job's first source."""
    import pyarrow as pa

    def read(waiting: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = pa.Table.from_batches(waiting)
        return _sending(job, lambda sender: _without_rows(_read_table(job, 0, table, sender)), 0)

    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _FRAME_ROWS:
            yield from read(waiting)
            waiting = []
    if waiting:
        yield from read(waiting)


def _without_rows(read: Ingested) -> Ingested:
    """Rows of a table have no number."""
    read.bad.row[:] = [0] * len(read.bad)
    return read


def _sending(job: Job, read: Callable[[_Sender], Ingested], source: int) -> Iterator[pa.RecordBatch]:
    try:
        prepare(job)
        sender = _Sender(job.n_parts)
        found = read(sender)
    except CxmlError as error:
        yield sent(0, ERROR, error_bytes(error))
        return
    yield from sender.chunks
    report = {
        "source": source, "rows": found.report.rows_read, "quarantined": dict(found.report.quarantined),
        "columns": list(sender.columns), "touchpoints": dict(sender.touchpoints),
    }  # fmt: skip
    yield sent(0, READ, json.dumps(report).encode())
    if len(found.bad):
        yield sent(0, BAD, _bad_bytes(source, found))


def _read_piece(job: Job, piece: Piece, sender: _Sender) -> Ingested:
    from cxml.journeys.ingest import ingest

    journeys, source = job.journeys, job.sources[piece.source]
    if piece.groups:
        return _read_groups(job, piece, sender)
    if piece.file:
        source = source.model_copy(update={"path": piece.file, "format": piece.kind})
    return ingest(source, job.layout, sender.keep, job.folder, journeys.where, journeys.timezone, job.rules)


def _read_groups(job: Job, piece: Piece, sender: _Sender) -> Ingested:
    """Read some row groups: first what is needed of them; all of it only to show bad rows."""
    import pyarrow.parquet as pq

    from cxml.journeys.canonical import map_columns

    source = job.sources[piece.source]
    with pq.ParquetFile(piece.file) as parquet:
        names = parquet.schema_arrow.names
        found = map_columns(
            job.layout.columns, job.layout.required, {**job.layout.mapping, **source.columns}, names, source.label
        )
        needed = list(found.values())
        whole = bool(source.where or job.journeys.where) or any("." in name for name in needed)
        table = parquet.read_row_groups(list(piece.groups), columns=None if whole else needed, use_threads=False)
        read = _read_table(job, piece.source, table, sender)
        if len(read.bad) and not whole:
            table = parquet.read_row_groups(list(piece.groups), use_threads=False)
            read = _read_table(job, piece.source, table, _Sender(job.n_parts))
    read.bad.row[:] = [piece.first_row + row for row in read.bad.row]
    read.bad.file[:] = [piece.file] * len(read.bad)
    return read


def _read_table(job: Job, number: int, table: pa.Table, sender: _Sender) -> Ingested:
    from cxml.journeys.ingest import ingest

    source = job.sources[number]
    where = " and ".join(f"({part}\n)" for part in (job.journeys.where, source.where) if part) or None
    layout = replace(job.layout, mapping={**job.layout.mapping, **source.columns})
    zone = source.timezone or job.journeys.timezone
    return ingest(table, layout, sender.keep, job.folder, where, zone, job.rules, source.label)


@dataclass
class _Sender:
    """Cuts batches of good rows into chunks."""

    n_parts: int
    chunks: list[pa.RecordBatch] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    touchpoints: Counter[str] = field(default_factory=Counter)

    def keep(self, columns: dict[str, Any]) -> None:
        """Take the good rows of a batch."""
        touchpoint = columns["touchpoint"]
        counts = np.bincount(touchpoint.indices.to_numpy(), minlength=len(touchpoint.dictionary))
        self.touchpoints.update(dict(zip(touchpoint.dictionary.to_pylist(), counts.tolist(), strict=True)))
        self.columns |= dict.fromkeys(columns)
        self.chunks += chunks(EVENTS, columns, self.n_parts)


def chunks(kind: str, columns: dict[str, Any], n_parts: int) -> list[pa.RecordBatch]:
    """Cut rows into one chunk for each part, in their order.

    Parameters
    ----------
    kind : str
    columns : dict of str to array
        With ``customer_id``; NumPy's arrays, and Arrow's of dictionaries.
    n_parts : int

    Returns
    -------
    list of RecordBatch
        Of the schema `SENT`, a row each.
    """
    import pyarrow as pa

    part = parts_of(columns["customer_id"], n_parts)
    order = np.argsort(part, kind="stable")
    arrays = {name: _compact(column) for name, column in columns.items()}
    rows = pa.RecordBatch.from_pydict(arrays).take(pa.array(order))
    bounds = np.searchsorted(part[order], np.arange(n_parts + 1))
    filled = np.flatnonzero(np.diff(bounds))
    return [sent(p, kind, arrow_bytes(rows.slice(bounds[p], bounds[p + 1] - bounds[p]))) for p in filled.tolist()]


def _compact(column: Any) -> Any:
    """Give an Arrow array; a large dictionary would go along with every chunk, so that its texts go instead."""
    import pyarrow as pa

    if not hasattr(column, "dictionary"):
        return pa.array(column)
    return column if len(column.dictionary) <= _SMALL_VOCABULARY else column.cast(pa.string())


def parts_of(ids: Any, n_parts: int) -> NDArray[np.int32]:
    """Say to which part each customer belongs: by a hash of the id alone, ``"17"`` where 17 goes.

    Parameters
    ----------
    ids : int64 or object (str) array, or Arrow array of a dictionary
    n_parts : int

    Returns
    -------
    int32 array of shape (n_rows,)

    Examples
    --------
    >>> parts_of(np.array([17]), 1000).tolist() == parts_of(np.array(["17"], dtype=object), 1000).tolist()
    True
    """
    if hasattr(ids, "dictionary"):
        texts = np.array(ids.dictionary.to_pylist(), object)
        of_rows: NDArray[np.int32] = parts_of(texts, n_parts)[ids.indices.to_numpy()]
        return of_rows
    if ids.dtype == object:
        ids = np.array([_as_integer(text) for text in ids.tolist()], np.int64)
    mixed = np.ascontiguousarray(ids, np.int64).view(np.uint64).copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64, Steele et al. 2014
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    part: NDArray[np.int32] = ((mixed >> np.uint64(32)) * np.uint64(n_parts) >> np.uint64(32)).astype(np.int32)
    return part


def _as_integer(text: str) -> int:
    """Give the integer that a text is how one writes, else a number made of the text."""
    if text.removeprefix("-").isdecimal():
        number = int(text)
        if str(number) == text and -_REACH <= number < _REACH:
            return number
    return zlib.crc32(text.encode()) - _REACH


def _bad_bytes(source: int, read: Ingested) -> bytes:
    import pyarrow as pa

    bad = read.bad
    columns = {"file": bad.file, "row": bad.row, "reason": bad.reason, "raw": pa.array(bad.raw, pa.string())}
    return arrow_bytes(pa.table({"source": [source] * len(bad), **columns}))
