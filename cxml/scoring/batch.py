"""Every customer at one cutoff: the nightly job, part by part of the log."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml import __version__
from cxml.config import ChurnConfig, SatisfactionConfig
from cxml.errors import DataError
from cxml.features.modules import code_key
from cxml.journeys.block import EventBlock, known_before, slice_block
from cxml.journeys.digest import add_column, add_customers
from cxml.journeys.log import JourneyLog, Whole, map_ahead
from cxml.models.store import SavedModel
from cxml.progress import SILENT, Progress
from cxml.scoring.answer import score_rows
from cxml.scoring.output import write_tables
from cxml.scoring.parts import PartFolder
from cxml.scoring.shards import Shard, in_shard, partitions_of
from cxml.snapshots.make import log_timeline
from cxml.snapshots.surveys import survey_rows
from cxml.snapshots.timeline import scan
from cxml.times import format_instant

if TYPE_CHECKING:
    import pyarrow

Int64 = NDArray[np.int64]
Leavers = tuple[NDArray[np.generic], Int64]

#: Customers scored at once; bounds the memory of the feature matrix.
CHUNK = 4_096
#: Cutoff of a customer who is not to be scored.
NOBODY = np.int64(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Question:
    """What is asked about the customers of a log.

    Parameters
    ----------
    model : SavedModel
    cutoff : int or SatisfactionConfig
        UTC microseconds; or the survey whose latest question is each customer's own cutoff, see `latest_questions`.
    churn : ChurnConfig, optional
        How to tell who has left; None scores everyone.
    leavers : (ids, int64 array), optional
        For kind ``table``.
    reasons : int
        How many reasons to give.
    shard : Shard, optional
        Only these customers.
    """

    model: SavedModel
    cutoff: int | SatisfactionConfig
    churn: ChurnConfig | None = None
    leavers: Leavers | None = None
    reasons: int = 3
    shard: Shard | None = None

    def key(self, log: JourneyLog) -> str:
        """Tell it from other questions, 12 hexadecimal digits: all that a score depends on beside the events.

        The text of the user features that the model names is part of it; see `cxml.features.modules.code_key`.
        """
        digest = hashlib.sha256(repr((__version__, self.model.version, self.reasons, log.config.activity)).encode())
        cutoff = self.cutoff if isinstance(self.cutoff, int) else self.cutoff.model_dump_json()
        digest.update(repr((cutoff, None if self.churn is None else self.churn.model_dump_json())).encode())
        if self.leavers is not None:
            add_column(digest, self.leavers[0])
            add_column(digest, self.leavers[1])
        add_customers(digest, log.customers)
        digest.update(code_key(self.model.plan.custom).encode())
        return digest.hexdigest()[:12]

    def nobody(self, log: JourneyLog) -> DataError:
        """Say that there is nobody to score."""
        when = format_instant(self.cutoff) if isinstance(self.cutoff, int) else "any moment"
        gone = not isinstance(self.cutoff, int) or log.first < self.cutoff
        return DataError(
            f"nobody to score at {when}: the log runs from {format_instant(log.first)} to {format_instant(log.last)}"
            + (", and whoever is known by then has left or finished" if gone else "")
            + ". Choose another --cutoff."
        )


@dataclass(frozen=True, slots=True)
class Unit:
    """Customers that are scored together: a block of the log, or some of it where there is but one.

    Parameters
    ----------
    number : int
        From 0.
    block : int
        Which block of the log.
    first, stop : int
        Its customers, where it is only some; ``stop`` is 0 where it is all.
    n_customers : int
        How many; about as many where the block is not made yet.
    """

    number: int
    block: int
    first: int
    stop: int
    n_customers: int

    def load(self, log: JourneyLog) -> EventBlock:
        """Give the events."""
        block = log.events.block(self.block)
        return slice_block(block, self.first, self.stop) if self.stop else block


def units_of(log: JourneyLog, shard: Shard | None = None) -> list[Unit]:
    """Cut the work into units, the same ones whenever the log is read the same way.

    Parameters
    ----------
    log : JourneyLog
    shard : Shard, optional
        Leave out what holds nobody of it.

    Returns
    -------
    list of Unit
    """
    n, n_blocks = log.n_customers, log.events.n_parts
    if n_blocks == 1:
        bounds = list(range(0, n, CHUNK))
        return [Unit(i, 0, first, min(first + CHUNK, n), min(CHUNK, n - first)) for i, first in enumerate(bounds)]
    if shard is None:
        return [Unit(i, i, 0, 0, (n + i) // n_blocks) for i in range(n_blocks)]
    partitions, counts = np.unique(partitions_of(log.events.customers), return_counts=True)
    if len(partitions) != n_blocks:
        raise AssertionError(f"{n_blocks} blocks hold {len(partitions)} partitions of customers")
    found = enumerate(zip(partitions.tolist(), counts.tolist(), strict=True))
    return [Unit(i, i, 0, 0, count) for i, (partition, count) in found if shard.holds(partition)]


def customers_to_score(
    log: JourneyLog, cutoff: int, churn: ChurnConfig | None, leavers: Leavers | None = None
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
    leavers: Leavers | None = None,
    reasons: int = 3,
    shard: Shard | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> pyarrow.Table:
    """Score everyone known before the cutoff who has not left, in memory.

    Parameters
    ----------
    model, cutoff, churn, leavers, reasons, shard
        As in `Question`.
    log : JourneyLog
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

    question = Question(model, cutoff, churn, leavers, reasons, shard)
    tables = []
    units = units_of(log, shard)
    inner = _threads_within(units, threads)
    with progress.step("score", sum(unit.n_customers for unit in units)) as advance:
        scored = map_ahead(lambda unit: score_block(question, log, unit.load(log), inner), units, threads)
        for unit, table in zip(units, scored, strict=True):
            tables.append(table)
            advance(unit.n_customers)
    if not sum(map(len, tables)):
        raise question.nobody(log)
    return pa.concat_tables(tables).combine_chunks().sort_by("customer_id")


def write_parts(
    question: Question,
    log: JourneyLog,
    folder: PartFolder,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Score part by part into a folder; parts that lie there already are taken where their events are the same.

    Parameters
    ----------
    question : Question
    log : JourneyLog
    folder : PartFolder
        That of this question.
    threads : int, optional
        Default: all cores.
    progress : Progress

    Returns
    -------
    list of Path
        Parquet files, each ordered by ``customer_id``; at least one.
    """
    units = units_of(log, question.shard)
    there = [unit for unit in units if folder.has(unit.number)]
    taken: set[int] = set()
    if there:
        with progress.step("check finished parts", sum(unit.n_customers for unit in there)) as advance:
            digests = map_ahead(lambda unit: folder.matches(unit.number, unit.load(log)), there, threads)
            for unit, matches in zip(there, digests, strict=True):
                taken |= {unit.number} if matches else set()
                advance(unit.n_customers)
        progress.say(f"{len(taken)} of {len(units)} parts were finished by an earlier run and are taken over")
    left = [unit for unit in units if unit.number not in taken]
    inner = _threads_within(left, threads)

    def work(unit: Unit) -> bool:
        block = unit.load(log)
        return folder.write(unit.number, block, score_block(question, log, block, inner))

    with progress.step("score", sum(unit.n_customers for unit in left)) as advance:
        for unit, written in zip(left, map_ahead(work, left, threads), strict=True):
            taken |= {unit.number} if written else set()
            advance(unit.n_customers)
    if not taken and question.shard is None:
        raise question.nobody(log)
    if not taken:  # nobody of this shard is scored: a file without rows says so
        block = slice_block(log.events.block(0), 0, 1)
        folder.write(0, block, _score_chunk(question, log, block, np.full(1, NOBODY), 1), even_empty=True)
        taken = {0}
    return [folder.path(number) for number in sorted(taken)]


def _threads_within(units: Sequence[Unit], threads: int | None) -> int:
    """How many threads each unit may use, where there are fewer units than threads."""
    return max(1, (threads or os.cpu_count() or 1) // max(1, len(units)))


def score_block(question: Question, log: JourneyLog, block: EventBlock, threads: int = 1) -> pyarrow.Table:
    """Score the customers of a block who are to be scored, ascending.

    Parameters
    ----------
    question : Question
    log : JourneyLog
        That the block is of.
    block : EventBlock
    threads : int

    Returns
    -------
    pyarrow.Table
        Maybe without rows.
    """
    import pyarrow as pa

    cutoffs = _cutoffs(question, replace(log, events=Whole(block)))
    tables = []
    for first in range(0, block.n_customers, CHUNK):
        some = cutoffs[first : first + CHUNK]
        if (some != NOBODY).any() or (first == 0 and not (cutoffs != NOBODY).any()):
            chunk = slice_block(block, first, first + len(some))
            tables.append(_score_chunk(question, log, chunk, some, threads))
    return pa.concat_tables(tables)


def _cutoffs(question: Question, part: JourneyLog) -> Int64:
    """When to score each customer of a part; `NOBODY` for those to leave out."""
    if isinstance(question.cutoff, int):
        cutoffs = np.full(part.n_customers, NOBODY)
        cutoffs[customers_to_score(part, question.cutoff, question.churn, question.leavers)] = question.cutoff
    else:
        cutoffs = latest_questions(part, question.cutoff)
    if question.shard is not None:
        cutoffs[~in_shard(part.block.customers, question.shard)] = NOBODY
    return cutoffs


def _score_chunk(question: Question, log: JourneyLog, block: EventBlock, cutoffs: Int64, threads: int) -> pyarrow.Table:
    import pyarrow as pa

    wanted = cutoffs != NOBODY
    row_starts = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
    cutoffs = cutoffs[wanted]
    ids = block.customers[wanted]
    columns: dict[str, Any] = {
        "customer_id": pa.array(ids, pa.string() if ids.dtype == object else pa.int64()),
        "cutoff": pa.array(cutoffs, pa.timestamp("us", tz="UTC")),
    }
    answers = score_rows(
        question.model, block, row_starts, cutoffs, log.customers, reasons=question.reasons, threads=threads
    )
    for name, values in answers.items():
        columns[name] = pa.array(values, None if isinstance(values, np.ndarray) else pa.string())
    return pa.table(columns)


def write_scores(table: pyarrow.Table, path: str | os.PathLike[str]) -> None:
    """Write a table whole or not at all, as Parquet or, where the name ends so, CSV."""
    rows: Iterator[pyarrow.Table] = iter([table])
    write_tables(rows, table.schema, path)
