"""Features of everyone known at some cutoffs, part by part, so that a log larger than memory can be written out."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxml.features.frame import JourneyFeatures
from cxml.files import write_aside
from cxml.journeys.block import known_before
from cxml.journeys.canonical import literal
from cxml.journeys.ingest import batches_of
from cxml.progress import SILENT, Progress

if TYPE_CHECKING:
    import pyarrow

    from cxml.features.plan import FeaturePlan
    from cxml.journeys.log import JourneyLog

#: Rows that are put in order and written at a time.
_BATCH_ROWS = 50_000


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

    A log that does not fit in memory is written part by part, beside ``out``, and then put in order; a job that was
    interrupted goes on with the part it was at.

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
    if not log.events.on_disk:
        frame = feature_frame(log, features, cutoffs, progress)
        with write_aside(out) as aside:
            if is_csv:
                frame.to_csv(aside, index=False)
            else:
                frame.to_parquet(aside, index=False, compression="zstd")
        return len(frame)
    folder = Path(f"{os.fspath(out)}.{_key(log, features, cutoffs)}.parts")
    with progress.step("features", log.n_customers) as advance:
        for i, part in enumerate(log.parts()):
            file = folder / f"{i:04d}.parquet"
            if not file.exists():
                with write_aside(file) as aside:
                    _frame_of(part, features, cutoffs).to_parquet(aside, index=False, compression="zstd")
            advance(part.n_customers)
    with progress.step("put in order") as _, write_aside(out) as aside:
        n_rows = _sort_files(folder, aside, features.plan_, as_csv=is_csv)
    shutil.rmtree(folder)
    return n_rows


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


def _key(log: JourneyLog, features: JourneyFeatures, cutoffs: Sequence[int]) -> str:
    """Tell one job from another, so that a job goes on only with parts of its own."""
    digest = hashlib.sha256(
        repr((features.plan_, tuple(cutoffs), log.quality, log.events.facts.counts.tobytes())).encode()
    )
    return digest.hexdigest()[:12]


def _sort_files(folder: Path, out: Path, plan: FeaturePlan, *, as_csv: bool) -> int:
    """Put the rows of all parts in order, within bounds of memory."""
    import duckdb

    with duckdb.connect(config={"temp_directory": str(folder), "memory_limit": "500MB"}) as con:
        con.execute("set TimeZone = 'UTC'")
        rows = f"select * from read_parquet({literal(str(folder / '*.parquet'))}) order by cutoff, customer_id"
        if as_csv:
            return int(con.execute(f"copy ({rows}) to {literal(str(out))} (format csv, header)").fetchall()[0][0])
        return _write_like_parts(batches_of(con.sql(rows), _BATCH_ROWS), next(folder.glob("*.parquet")), out, plan)


def _write_like_parts(batches: Iterable[pyarrow.RecordBatch], part: Path, out: Path, plan: FeaturePlan) -> int:
    """Write batches with the types of a part: DuckDB makes plain texts of categories."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema, n_rows = pq.read_schema(part), 0
    words = {name: pa.array(plan.categories(name), pa.string()) for name in plan.categorical}

    def typed(name: str, column: pa.Array) -> pa.Array:
        kind = schema.field(name).type
        if name not in words:
            return column.cast(kind)
        codes = pc.index_in(column.cast(pa.string()), words[name]).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(codes, words[name].cast(kind.value_type))

    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in batches:
            columns = [typed(name, batch.column(name)) for name in schema.names]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            n_rows += batch.num_rows
    return n_rows
