"""Arrow batches of canonical rows: good ones apart from bad ones, and those of side tables joined to plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.journeys.block import Coded, Int32, Int64
from cxml.journeys.canonical import CanonicalSelect
from cxml.journeys.schema import MISSING, PROMISE, STAMP_COLUMNS
from cxml.journeys.shuffle import is_plain_integer
from cxml.journeys.stamps import days_until, local_to_utc

if TYPE_CHECKING:
    import pyarrow as pa


#: Takes the good rows of a batch: texts as Arrow dictionaries, integers and floats as NumPy arrays.
Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """Good rows of a side table, batch by batch."""

    batches: list[dict[str, Any]] = field(default_factory=list)

    def add(self, columns: dict[str, Any]) -> None:
        """Keep the rows of a batch."""
        self.batches.append(columns)

    def chunks(self, name: str, missing: Callable[[int], Any]) -> list[Any]:
        """Give a column batch by batch; what ``missing`` makes of their number where a batch lacks it."""
        return [batch[name] if name in batch else missing(len(batch["customer_id"])) for batch in self.batches]


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
    keep: Keep,
    bad: BadRows,
) -> int:
    """Hand on the good rows of one batch and add the others to the bad ones.

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
    keep : callable
        Gets the columns of the good rows.
    bad : BadRows
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
    if batch.num_rows:
        columns = {name: _column(name, batch, select, zone) for name in select.columns}
        if "promised" in columns:
            columns[PROMISE] = days_until(columns.pop("promised"), columns["timestamp"])
        keep(columns)
    return n_wanted


def _column(name: str, batch: pa.RecordBatch, select: CanonicalSelect, zone: str | None) -> Any:
    import pyarrow as pa

    array = batch.column(f"cxml:{name}")
    if pa.types.is_string(array.type):
        return array.dictionary_encode()
    if pa.types.is_floating(array.type):
        return array.to_numpy(zero_copy_only=False)
    values = _filled(array, MISSING).to_numpy(zero_copy_only=False)
    if name in STAMP_COLUMNS and select.naive[name] != "none":
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


def join_texts(rows: Rows, name: str) -> Coded:
    """Join a category: codes in the order of the code points of the texts, blank texts missing."""
    import pyarrow as pa

    nothing = pa.array([], pa.string())
    chunks = rows.chunks(name, lambda n: pa.DictionaryArray.from_arrays(pa.nulls(n, pa.int32()), nothing))
    codes, texts = _unify(chunks)
    order = sorted((i for i, text in enumerate(texts) if text.strip(" ")), key=texts.__getitem__)
    new = np.full(len(texts) + 1, -1, dtype=np.int32)  # the last entry is what -1 finds
    new[np.asarray(order, dtype=np.int64)] = np.arange(len(order), dtype=np.int32)
    return Coded(new[codes], tuple(texts[i] for i in order))


def _unify(chunks: list[Any]) -> tuple[Int32, list[str]]:
    """Codes and texts of many dictionary arrays; -1 is missing."""
    import pyarrow as pa

    unified = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    codes = [_filled(chunk.indices, -1).to_numpy(zero_copy_only=False) for chunk in unified.chunks]
    texts = unified.chunk(unified.num_chunks - 1).dictionary.to_pylist() if unified.num_chunks else []
    return np.concatenate([*codes, np.empty(0, np.int32)]).astype(np.int32, copy=False), texts


def join_integers(rows: Rows, name: str) -> Int64:
    """Join stamps; `MISSING` where missing."""
    chunks = rows.chunks(name, lambda n: np.full(n, MISSING, dtype=np.int64))
    return np.concatenate([*chunks, np.empty(0, np.int64)])


def join_ids(rows: Rows, name: str = "customer_id") -> tuple[Int64, NDArray[np.generic]]:
    """Join customer ids.

    Returns
    -------
    codes : int64 array of shape (n_rows,)
        Index into ``customers``.
    customers : int64 or object (str) array
        Distinct ids, ascending; integers when every id of every batch is a plain one, such as ``17`` but not ``017``.
    """
    ids = [one for batch in rows.batches for one in batch[name].tolist()]
    if all(isinstance(one, int) or is_plain_integer(one) for one in ids):
        customers, codes = np.unique(np.array([int(one) for one in ids], np.int64), return_inverse=True)
        return codes, customers
    texts, codes = np.unique(np.array([str(one) for one in ids], dtype=object), return_inverse=True)
    return codes, texts
