"""Every customer at one cutoff: the nightly job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, SatisfactionConfig
from cxml.errors import DataError
from cxml.files import write_aside
from cxml.journeys.block import known_before, slice_block
from cxml.models.store import SavedModel
from cxml.progress import SILENT, Progress
from cxml.scoring.answer import score_rows
from cxml.snapshots.make import log_timeline
from cxml.snapshots.surveys import survey_rows
from cxml.snapshots.timeline import scan
from cxml.times import format_instant

if TYPE_CHECKING:
    import pyarrow

    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: Customers scored at once; bounds the memory of the feature matrix.
CHUNK = 20_000
#: Cutoff of a customer who is not to be scored.
NOBODY = np.int64(np.iinfo(np.int64).min)


def customers_to_score(
    log: JourneyLog, cutoff: int, churn: ChurnConfig | None, leavers: tuple[NDArray[np.generic], Int64] | None = None
) -> Int64:
    """Return the customers known before the cutoff who have not left by then, as indices into the block."""
    if churn is not None:
        timeline = log_timeline(log, churn, leavers)
        everyone = np.int64(2**62)
        customer, _, _, _ = scan(
            timeline.starts, timeline.time, timeline.known, timeline.role, np.array([cutoff]),
            everyone, cutoff, timeline.returns, timeline.needs_start, timeline.reopens,
        )  # fmt: skip
        return np.asarray(customer, np.int64)
    return known_before(log.block, cutoff)


def latest_questions(log: JourneyLog, satisfaction: SatisfactionConfig) -> Int64:
    """When each customer was last asked, as cutoffs; `NOBODY` where never.

    A model of survey answers has only ever looked at journeys at the moment of asking. Long after it, everything
    recent is gone from the windows, and it would judge journeys such as it never saw.
    """
    cutoffs = np.full(log.block.n_customers, NOBODY)
    rows = survey_rows(log.block, satisfaction)
    cutoffs[rows.customer] = rows.cutoff  # ascending within a customer: the last one stays
    return cutoffs


def score_log(
    model: SavedModel,
    log: JourneyLog,
    cutoff: int | SatisfactionConfig,
    *,
    churn: ChurnConfig | None = None,
    leavers: tuple[NDArray[np.generic], Int64] | None = None,
    reasons: int = 3,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> pyarrow.Table:
    """Score everyone known before the cutoff who has not left.

    Parameters
    ----------
    model : SavedModel
    log : JourneyLog
    cutoff : int or SatisfactionConfig
        UTC microseconds; or the survey whose latest question is each customer's own cutoff, see `latest_questions`.
    churn : ChurnConfig, optional
        How to tell who has left; None scores everyone.
    leavers : (ids, int64 array), optional
        For kind ``table``.
    reasons : int
        How many reasons to give.
    threads : int, optional
        Default: all cores.
    progress : Progress

    Returns
    -------
    pyarrow.Table
        One row a customer, ordered by ``customer_id``.

    Raises
    ------
    DataError
        If nobody can be scored at the cutoff.
    """
    import pyarrow as pa

    tables = []
    with progress.step("score", log.n_customers) as advance:
        for part in log.parts():
            cutoffs = _cutoffs(part, cutoff, churn, leavers)
            for first in range(0, part.n_customers, CHUNK):
                some = cutoffs[first : first + CHUNK]
                if (some != NOBODY).any():
                    tables.append(_score_chunk(model, part, first, some, reasons, threads or os.cpu_count() or 1))
                advance(len(some))
    if not tables:
        when = format_instant(cutoff) if isinstance(cutoff, int) else "any moment"
        raise DataError(
            f"nobody to score at {when}: the log runs from {format_instant(log.first)} to {format_instant(log.last)}"
            + (
                ", and whoever is known by then has left or finished"
                if not isinstance(cutoff, int) or log.first < cutoff
                else ""
            )
            + ". Choose another --cutoff."
        )
    return pa.concat_tables(tables).combine_chunks().sort_by("customer_id")


def _cutoffs(
    log: JourneyLog,
    cutoff: int | SatisfactionConfig,
    churn: ChurnConfig | None,
    leavers: tuple[NDArray[np.generic], Int64] | None,
) -> Int64:
    """When to score each customer; `NOBODY` for those to leave out."""
    if not isinstance(cutoff, int):
        return latest_questions(log, cutoff)
    cutoffs = np.full(log.n_customers, NOBODY)
    cutoffs[customers_to_score(log, cutoff, churn, leavers)] = cutoff
    return cutoffs


def _score_chunk(
    model: SavedModel, log: JourneyLog, first: int, cutoffs: Int64, reasons: int, threads: int
) -> pyarrow.Table:
    import pyarrow as pa

    wanted = cutoffs != NOBODY
    block = slice_block(log.block, first, first + len(wanted))
    row_starts = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
    cutoffs = cutoffs[wanted]
    columns: dict[str, Any] = {
        "customer_id": pa.array(block.customers[wanted]),
        "cutoff": pa.array(cutoffs, pa.timestamp("us", tz="UTC")),
    }
    answers = score_rows(model, block, row_starts, cutoffs, log.customers, reasons=reasons, threads=threads)
    for name, values in answers.items():
        columns[name] = pa.array(values, None if isinstance(values, np.ndarray) else pa.string())
    return pa.table(columns)


def write_scores(table: pyarrow.Table, path: str | os.PathLike[str]) -> None:
    """Write scores whole or not at all, as Parquet or, where the name ends so, CSV."""
    import pyarrow.csv
    import pyarrow.parquet

    with write_aside(path) as aside:
        if str(path).lower().endswith(".csv"):
            pyarrow.csv.write_csv(table, aside)
        else:
            pyarrow.parquet.write_table(table, aside, compression="zstd")
