"""Features of everyone known at some cutoffs, part by part, so that a log larger than memory can be written out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxml import __version__
from cxml.features.frame import JourneyFeatures
from cxml.features.modules import code_key
from cxml.files import write_aside
from cxml.journeys.block import known_before, slice_block
from cxml.journeys.canonical import literal
from cxml.journeys.digest import add_customers, block_digest
from cxml.journeys.ingest import batches_of
from cxml.journeys.log import Whole
from cxml.progress import SILENT, Progress

if TYPE_CHECKING:
    import pyarrow

    from cxml.features.plan import FeaturePlan
    from cxml.journeys.log import JourneyLog

#: Rows that are put in order and written at a time.
_BATCH_ROWS = 50_000
#: A larger frame is not held in memory, and no larger piece of it is.
_HELD_BYTES = 1 << 29


def feature_frame(
    log: JourneyLog, features: JourneyFeatures, cutoffs: Sequence[int], progress: Progress = SILENT
) -> pd.DataFrame:
    """Give ``customer_id``, ``cutoff`` and the features of everyone known before each cutoff.

    Parameters
    ----------
    log : JourneyLog
    features : JourneyFeatures
        Fitted.
    cutoffs : sequence of int
        UTC microseconds.
    progress : Progress

    Returns
    -------
    DataFrame
        Ordered by cutoff, then customer.
    """
    with progress.step("features", log.n_customers) as advance:
        frames = []
        for part in log.parts():
            frames.append(_frame_of(part, features, cutoffs))
            advance(part.n_customers)
    return pd.concat(frames).sort_values(["cutoff", "customer_id"], ignore_index=True)


def write_features(
    log: JourneyLog,
    features: JourneyFeatures,
    cutoffs: Sequence[int],
    out: str | os.PathLike[str],
    progress: Progress = SILENT,
) -> int:
    """Write the frame of `feature_frame` as Parquet, or CSV where the name ends so.

    What may not fit in memory, for its events or for the number of its rows, is written part by part, beside ``out``,
    and then put in order. A job that was interrupted goes on with what is left: finished parts are taken where their
    events, the table of customers and the text of the user features are still the same.

    Parameters
    ----------
    log, features, cutoffs, progress
        As for `feature_frame`.
    out : path

    Returns
    -------
    int
        How many rows.
    """
    is_csv = os.fspath(out).lower().endswith(".csv")
    customer_bytes = len(cutoffs) * len(features.plan_.columns) * 4
    if not log.events.on_disk and log.n_customers * customer_bytes <= _HELD_BYTES:
        frame = feature_frame(log, features, cutoffs, progress)
        with write_aside(out) as aside:
            if is_csv:
                frame.to_csv(aside, index=False)
            else:
                frame.to_parquet(aside, index=False, compression="zstd")
        return len(frame)
    at_once = max(1, _HELD_BYTES // max(1, customer_bytes))
    folder = Path(f"{os.fspath(out)}.{_key(log, features, cutoffs, at_once)}.parts")
    files = []
    with progress.step("features", log.n_customers) as advance:
        for i, part in enumerate(_parts(log, at_once)):
            file = folder / f"{i:04d}-{block_digest(part.block)[:32]}.parquet"
            if not file.exists():
                with write_aside(file) as aside:
                    _frame_of(part, features, cutoffs).to_parquet(aside, index=False, compression="zstd")
            files.append(file)
            advance(part.n_customers)
    for other in {*folder.glob("*.parquet")} - {*files}:  # of events that have changed since
        other.unlink()
    with progress.step("put in order") as _, write_aside(out) as aside:
        n_rows = _sort_files(folder, aside, features.plan_, as_csv=is_csv)
    shutil.rmtree(folder)
    return n_rows


def _parts(log: JourneyLog, at_once: int) -> Iterator[JourneyLog]:
    """Give the log in parts of at most so many customers."""
    for part in log.parts():
        block = part.block
        for first in range(0, block.n_customers, at_once):
            yield replace(part, events=Whole(slice_block(block, first, min(first + at_once, block.n_customers))))


def _frame_of(part: JourneyLog, features: JourneyFeatures, cutoffs: Sequence[int]) -> pd.DataFrame:
    block = part.block
    chosen = [known_before(block, cutoff) for cutoff in cutoffs]
    moments = np.repeat(np.array(cutoffs, np.int64), [len(customers) for customers in chosen])
    snapshots = pd.DataFrame(
        {
            "customer_id": block.customers[np.concatenate(chosen)],
            "cutoff": pd.to_datetime(moments.view("datetime64[us]"), utc=True),
        }
    )
    return pd.concat([snapshots, features.transform(part, snapshots)], axis=1)


def _key(log: JourneyLog, features: JourneyFeatures, cutoffs: Sequence[int], at_once: int) -> str:
    """Tell one job from another by all that features depend on beside the events, and by how these are cut."""
    plan, cut = features.plan_, (log.events.n_parts, at_once)
    digest = hashlib.sha256(repr((__version__, json.dumps(plan.to_dict()), tuple(cutoffs), cut)).encode())
    add_customers(digest, log.customers)
    digest.update(code_key(plan.custom).encode())
    return digest.hexdigest()[:12]


def _sort_files(folder: Path, out: Path, plan: FeaturePlan, *, as_csv: bool) -> int:
    """Put the rows of all parts in order, within bounds of memory."""
    import duckdb
    import pyarrow.parquet as pq

    with duckdb.connect(config={"temp_directory": str(folder), "memory_limit": "500MB"}) as con:
        con.execute("set TimeZone = 'UTC'")
        rows = f"select * from read_parquet({literal(str(folder / '*.parquet'))}) order by cutoff, customer_id"
        schema = pq.read_schema(next(folder.glob("*.parquet")))
        tables = _like_parts(batches_of(con.sql(rows), _BATCH_ROWS), schema, plan)
        return (_write_csv if as_csv else _write_parquet)(tables, schema, out)


def _like_parts(
    batches: Iterable[pyarrow.RecordBatch], schema: pyarrow.Schema, plan: FeaturePlan
) -> Iterator[pyarrow.Table]:
    """Give batches the types and names of the parts: DuckDB makes texts of categories, and knows no upper case."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = {name: pa.array(plan.categories(name), pa.string()) for name in plan.categorical}

    def typed(field: pa.Field, column: pa.Array) -> pa.Array:
        if field.name not in words:
            return column.cast(field.type)
        codes = pc.index_in(column.cast(pa.string()), words[field.name]).cast(field.type.index_type)
        return pa.DictionaryArray.from_arrays(codes, words[field.name].cast(field.type.value_type))

    for batch in batches:
        columns = [typed(field, column) for field, column in zip(schema, batch.columns, strict=True)]
        yield pa.Table.from_arrays(columns, schema=schema)


def _write_parquet(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, out: Path) -> int:
    import pyarrow.parquet as pq

    n_rows = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows


def _write_csv(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, out: Path) -> int:
    """Write as pandas does, so that a table reads the same wherever it was put in order."""
    n_rows = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        for table in chain([schema.empty_table()], tables):
            table.to_pandas().to_csv(file, index=False, header=not file.tell())
            n_rows += table.num_rows
    return n_rows
