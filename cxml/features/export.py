"""Features of everyone known at some cutoffs, part by part, so that a log larger than memory can be written out."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxml.features.frame import JourneyFeatures
from cxml.files import write_aside
from cxml.journeys.block import known_before
from cxml.journeys.canonical import literal
from cxml.progress import SILENT, Progress

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog


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
        n_rows = _sort_files(folder, aside, as_csv=is_csv)
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


def _sort_files(folder: Path, out: Path, *, as_csv: bool) -> int:
    """Put the rows of all parts in order, within bounds of memory."""
    import duckdb

    kind = "csv, header" if as_csv else "parquet, compression zstd"
    with duckdb.connect(config={"temp_directory": str(folder), "memory_limit": "500MB"}) as con:
        con.execute("set TimeZone = 'UTC'")
        rows = f"select * from read_parquet({literal(str(folder / '*.parquet'))}) order by cutoff, customer_id"
        return int(con.execute(f"copy ({rows}) to {literal(str(out))} (format {kind})").fetchall()[0][0])
