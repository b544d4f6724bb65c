"""Arrow batches of canonical rows: good ones apart from bad ones, and many batches joined to plain arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.journeys.block import Coded, Float64, Int32, Int64
from cxml.journeys.canonical import CanonicalSelect
from cxml.journeys.schema import MISSING, PLAIN_INTEGER_PATTERN
from cxml.journeys.sorting import code_integers
from cxml.journeys.stamps import local_to_utc

if TYPE_CHECKING:
    import pyarrow as pa

_STAMPS = ("timestamp", "available_at", "valid_from")


@dataclass(slots=True)
class Rows:
    """Good rows of one relation, batch by batch.

    Parameters
    ----------
    n : int
        How many.
    columns : dict of str to list of arrays
        Texts as Arrow dictionaries, integers and floats as NumPy arrays.
    """

    n: int = 0
    columns: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(slots=True)
class BadRows:
    """Bad rows of one relation: where they stand, why they are bad, what they hold."""

    file: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    raw: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row)


def add_batch(
    batch: pa.RecordBatch,
    select: CanonicalSelect,
    zone: str | None,
    first_row: int,
    file: str,
    good: Rows,
    bad: BadRows,
) -> int:
    """Add the rows of one batch to the good or to the bad ones.

    Parameters
    ----------
    batch : RecordBatch
        What ``select.sql`` returned.
    select : CanonicalSelect
    zone : str, optional
        Time zone of stamps that carry none.
    first_row : int
        1-based number of the first row in its source.
    file : str
        For the bad rows.
    good, bad : Rows, BadRows
        Added to.

    Returns
    -------
    int
        How many rows were looked at: those the source's ``where`` wants.

    Raises
    ------
    ConfigError
        If a stamp carries no zone and ``zone`` is not given.
    """
    import pyarrow as pa

    reason = batch.column("cxml:reason").to_numpy(zero_copy_only=False)
    is_good = reason == 0
    n_wanted = len(reason)
    if "cxml:wanted" in batch.schema.names:
        wanted = batch.column("cxml:wanted").to_numpy(zero_copy_only=False)
        is_good &= wanted
        reason = np.where(wanted, reason, 0)
        n_wanted = int(wanted.sum())
    at = np.flatnonzero(reason)
    if len(at):
        bad.file.extend([file] * len(at))
        bad.row.extend((first_row + at).tolist())
        bad.reason.extend(select.reasons[i - 1] for i in reason[at].tolist())
        raw = batch.column("cxml:raw").take(pa.array(at)).to_pylist() if "cxml:raw" in batch.schema.names else []
        bad.raw.extend(raw or [None] * len(at))
    if not is_good.all():
        batch = batch.filter(pa.array(is_good))
    good.n += batch.num_rows
    for name in select.columns:
        good.columns.setdefault(name, []).append(_column(name, batch, select, zone))
    return n_wanted


def _column(name: str, batch: pa.RecordBatch, select: CanonicalSelect, zone: str | None) -> Any:
    import pyarrow as pa

    array = batch.column(f"cxml:{name}")
    if pa.types.is_string(array.type):
        return array.dictionary_encode()
    if pa.types.is_floating(array.type):
        return array.to_numpy(zero_copy_only=False)
    values = _filled(array, MISSING).to_numpy(zero_copy_only=False)
    if name in _STAMPS and select.naive[name] != "none":
        return _to_utc(name, values, batch, select, zone)
    return values


def _filled(array: Any, value: int) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(array, value) if array.null_count else array


def _to_utc(name: str, local: Int64, batch: pa.RecordBatch, select: CanonicalSelect, zone: str | None) -> Int64:
    naive = local != MISSING
    if select.naive[name] == "some":
        naive &= batch.column(f"cxml:naive {name}").to_numpy(zero_copy_only=False)
    if not naive.any():
        return local
    if zone is None:
        raise ConfigError(
            f"{name}: the stamps carry no time zone, so they could mean any moment of a day. Say which clock wrote "
            "them: timezone: UTC, or e.g. timezone: Europe/Berlin."
        )
    utc = local.copy()
    utc[naive] = local_to_utc(local[naive], zone)
    return utc


def join_texts(parts: list[Rows], name: str) -> Coded:
    """Join a category: codes in the order of the code points of the texts, blank texts missing."""
    import pyarrow as pa

    nothing = pa.array([], pa.string()).dictionary_encode()
    chunks = [
        chunk
        for part in parts
        for chunk in part.columns.pop(
            name, [pa.DictionaryArray.from_arrays(pa.nulls(part.n, pa.int32()), nothing.dictionary)]
        )
    ]
    codes, texts = _unify(chunks)
    order = sorted((i for i, text in enumerate(texts) if text.strip(" ")), key=texts.__getitem__)
    return Coded(_recode(codes, order, len(texts)), tuple(texts[i] for i in order))


def _unify(chunks: list[Any]) -> tuple[Int32, list[str]]:
    """Codes and texts of many dictionary arrays; -1 is missing."""
    import pyarrow as pa

    unified = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    codes = [_filled(chunk.indices, -1).to_numpy(zero_copy_only=False) for chunk in unified.chunks]
    texts = unified.chunk(unified.num_chunks - 1).dictionary.to_pylist() if unified.num_chunks else []
    return np.concatenate([*codes, np.empty(0, np.int32)]).astype(np.int32, copy=False), texts


def _recode(codes: Int32, order: list[int], n_texts: int) -> Int32:
    new = np.full(n_texts + 1, -1, dtype=np.int32)  # the last entry is what -1 finds
    new[np.asarray(order, dtype=np.int64)] = np.arange(len(order), dtype=np.int32)
    recoded: Int32 = new[codes]
    return recoded


def join_floats(parts: list[Rows], name: str) -> Float64:
    """Join a measure: NaN where missing."""
    chunks = [c for part in parts for c in part.columns.pop(name, [np.full(part.n, np.nan)])]
    return _join(chunks, np.float64)


def join_integers(parts: list[Rows], name: str) -> Int64:
    """Join stamps or a sequence; `MISSING` where missing."""
    chunks = [c for part in parts for c in part.columns.pop(name, [np.full(part.n, MISSING, dtype=np.int64)])]
    return _join(chunks, np.int64)


def _join(chunks: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    """Join arrays; a single one as it is, because a copy of ten million rows takes its time."""
    return chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, np.empty(0, dtype)])


def join_ids(parts: list[Rows], name: str = "customer_id") -> tuple[Int32, NDArray[np.generic]]:
    """Join customer ids.

    Returns
    -------
    codes : int32 array of shape (n_rows,)
        Index into ``customers``.
    customers : int64 or object (str) array
        Distinct ids, ascending; integers when every id of every part is a plain one, such as ``17`` but not ``017``.
    """
    chunks = [chunk for part in parts for chunk in part.columns.pop(name, [])]
    where_text = [not isinstance(chunk, np.ndarray) for chunk in chunks]
    numbers = [c for c, text in zip(chunks, where_text, strict=True) if not text]
    number_codes, distinct = factorise(_join(numbers, np.int64))
    if not any(where_text):
        return number_codes, distinct
    text_codes, texts = _unify([c for c, text in zip(chunks, where_text, strict=True) if text])
    known = np.concatenate([distinct.astype(object), np.array(texts, dtype=object)])
    if all(re.fullmatch(PLAIN_INTEGER_PATTERN, text) for text in texts):
        customers, place = np.unique(known.astype(np.int64), return_inverse=True)
    else:
        ids = sorted({str(one) for one in known})
        index = {one: i for i, one in enumerate(ids)}
        customers, place = np.array(ids, dtype=object), np.array([index[str(one)] for one in known], dtype=np.int64)
    codes = np.empty(len(number_codes) + len(text_codes), dtype=np.int32)
    is_text = np.repeat(where_text, [len(chunk) for chunk in chunks])
    codes[~is_text] = place[: len(distinct)][number_codes]
    codes[is_text] = place[len(distinct) :][text_codes]
    return codes, customers


def factorise(ids: Int64) -> tuple[Int32, Int64]:
    """Codes and distinct values, ascending; by a table of presence where the ids lie close together."""
    if not len(ids):
        return np.empty(0, np.int32), np.empty(0, np.int64)
    low, high = int(ids.min()), int(ids.max())
    if high - low > 4 * len(ids) + 1_000_000:
        distinct, codes = np.unique(ids, return_inverse=True)
        return codes.astype(np.int32), distinct
    return code_integers(ids, low, high)
