"""The quick way through a Parquet file in which every row is good: Arrow to arrays, texts as dictionaries.

It knows no quarantine. At the first thing it does not take for granted (a type, a missing stamp, a blank touchpoint, a
score off the scale) it gives up, and the file is read the thorough way, which says what is wrong with which row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cxml.journeys.batches import Rows
from cxml.journeys.canonical import RowRules
from cxml.journeys.schema import FIRST_US, LAST_US, NUMBER_COLUMNS, TEXT_COLUMNS
from cxml.journeys.stamps import local_to_utc
from cxml.progress import Advance

_BATCH_ROWS = 131_072
_BUFFER_BYTES = 1 << 20
_UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


def read_clean_parquet(
    file: str,
    found: Mapping[str, str],
    measures: tuple[str, ...],
    attributes: tuple[str, ...],
    rules: RowRules,
    zone: str | None,
    advance: Advance,
) -> Rows | None:
    """Read a Parquet file whose rows are all good.

    Parameters
    ----------
    file : str
    found : mapping of str to str
        Canonical name -> column of the file.
    measures, attributes : tuple of str
        Further numbers and further categories.
    rules : RowRules
    zone : str, optional
        Zone of stamps that carry none.
    advance : callable
        Told the number of rows of every batch.

    Returns
    -------
    Rows or None
        None when a column has a type, or a row a value, that wants the thorough way.
    """
    import pyarrow.parquet as pq

    texts = [name for name in found if name in TEXT_COLUMNS or name in attributes]
    numbers = [name for name in found if name in NUMBER_COLUMNS or name in measures]
    # read as it goes: a whole file fetched ahead is memory touched for the first time, which is dear
    with pq.ParquetFile(
        file, read_dictionary=[found[name] for name in texts], pre_buffer=False, buffer_size=_BUFFER_BYTES
    ) as parquet:
        if not _types_fit(parquet.schema_arrow, found, texts, numbers, zone):
            return None
        rows = _allocate(parquet.metadata.num_rows, numbers, texts)
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(found.values())):
            columns = {name: batch.column(source) for name, source in found.items()}
            if not _add(rows, columns, texts, numbers, rules, zone):
                return None
            advance(batch.num_rows)
    return rows


def _types_fit(schema: Any, found: Mapping[str, str], texts: list[str], numbers: list[str], zone: str | None) -> bool:
    import pyarrow as pa

    sources = list(found.values())
    if len({"customer_id", "timestamp", *texts, *numbers}) != len(found) or any("." in s for s in sources):
        return False
    if any(schema.names.count(source) != 1 for source in sources):
        return False
    kind = {name: schema.field(source).type for name, source in found.items()}
    stamp = kind["timestamp"]
    return (
        kind["customer_id"] in (pa.int64(), pa.int32())
        and pa.types.is_timestamp(stamp)
        and stamp.unit in _UNITS_US
        and (stamp.tz is not None or zone is not None)
        and all(pa.types.is_dictionary(kind[name]) and kind[name].value_type == pa.string() for name in texts)
        and all(kind[name] in (pa.float64(), pa.float32(), pa.int32(), pa.int16()) for name in numbers)
    )


def _allocate(n: int, numbers: list[str], texts: list[str]) -> Rows:
    """Room for all rows at once: batches are copied in and their memory is used again."""
    columns: dict[str, list[Any]] = {name: [np.empty(n, np.int64)] for name in ("customer_id", "timestamp")}
    columns |= {name: [np.empty(n)] for name in numbers}
    return Rows(0, columns | {name: [] for name in texts})


def _add(
    rows: Rows, columns: dict[str, Any], texts: list[str], numbers: list[str], rules: RowRules, zone: str | None
) -> bool:
    if any(columns[name].null_count for name in ("customer_id", "timestamp", "touchpoint")):
        return False
    if any(not text.strip(" ") for text in columns["touchpoint"].dictionary.to_pylist()):
        return False
    n = len(columns["customer_id"])
    place = slice(rows.n, rows.n + n)
    rows.columns["customer_id"][0][place] = columns["customer_id"].to_numpy()
    time = rows.columns["timestamp"][0][place]
    if not _fill_stamps(time, columns["timestamp"], zone):
        return False
    if n and (time.min() < FIRST_US or time.max() >= LAST_US or (rules.as_of is not None and time.max() > rules.as_of)):
        return False
    for name in numbers:
        values = rows.columns[name][0][place]
        values[:] = columns[name].to_numpy(zero_copy_only=False)
        if np.isinf(values).any():
            return False
    for name in texts:
        rows.columns[name].append(columns[name])
    rows.n += n
    return _on_the_scale(columns, rules)


def _fill_stamps(time: Any, column: Any, zone: str | None) -> bool:
    """Write stamps as UTC microseconds; False where one is too far away to be written so."""
    import pyarrow as pa

    unit, is_naive = _UNITS_US[column.type.unit], column.type.tz is None
    stamps = column.cast(pa.timestamp(column.type.unit)).view(pa.int64()).to_numpy()
    if unit > 1 and len(stamps) and max(abs(int(stamps.min())), abs(int(stamps.max()))) > LAST_US // unit:
        return False
    np.multiply(stamps, unit, out=time)
    if is_naive and zone is not None:
        time[:] = local_to_utc(time.copy(), zone)
    return True


def _on_the_scale(columns: dict[str, Any], rules: RowRules) -> bool:
    if rules.survey is None or rules.scale is None or "score" not in columns:
        return True
    touchpoint = columns["touchpoint"]
    names = touchpoint.dictionary.to_pylist()
    if rules.survey not in names:
        return True
    is_answer = touchpoint.indices.to_numpy() == names.index(rules.survey)
    score = columns["score"].to_numpy(zero_copy_only=False).astype(np.float64)[is_answer]
    score = score[~np.isnan(score)]
    low, high = rules.scale
    return bool(((score >= low) & (score <= high) & (score == np.trunc(score))).all())
