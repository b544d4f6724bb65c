"""The batch job and the feature frame on Spark: the same kernel, the same bits, on many machines.

What moves through Spark are chunks of whole parts of customers, see `cxml.scoring.spark.read`: one stage reads the
sources and cuts them by a hash of the customer, one shuffle brings each part together, one stage answers. Rows that are
set aside, facts of the log and errors come back on the same way, so that data are refused for the same reasons, with
the same words, as by one machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxml.errors import ConfigError, DataError
from cxml.files import write_aside, write_folder_aside
from cxml.progress import SILENT, Progress
from cxml.scoring.spark import answer, findings, read
from cxml.scoring.spark import job as protocol
from cxml.scoring.spark.job import FeatureTask, Job, Piece, ScoreTask, Task
from cxml.scoring.spark.session import settings
from cxml.scoring.spark.sources import Side, needed, pieces_of
from cxml.times import format_instant

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.config import ProjectConfig
    from cxml.features.plan import FeaturePlan
    from cxml.journeys.quality import QualityReport
    from cxml.scoring.output import Summary

#: About how many events a part should have: enough to be worth a task, few enough for a worker's memory.
PART_EVENTS = 1_000_000
_PART_BYTES = 16_000_000
_VAST = 2**50
#: File by which a folder of results of Spark is known; Spark writes it last.
DONE = "_SUCCESS"


@dataclass(frozen=True)
class Answered:
    """What came back from the workers.

    Parameters
    ----------
    rows : iterator of pyarrow.Table
        The rows of each part, where they come to the driver; ids of all parts are of one kind.
    schema : pyarrow.Schema
        Without fields where there are no rows.
    quality : QualityReport
    summary : Summary
        Of scores.
    n_rows : int
        How many rows there are, wherever they are.
    """

    rows: Iterator[pa.Table]
    schema: pa.Schema
    quality: QualityReport
    summary: Summary
    n_rows: int


@dataclass(frozen=True)
class Scored:
    """Scores, or what they are like where the workers wrote them.

    Parameters
    ----------
    table : pyarrow.Table or None
        As `cxml.scoring.batch.score_log` gives it.
    summary : Summary
    quality : QualityReport
        What reading found.
    """

    table: pa.Table | None
    summary: Summary
    quality: QualityReport


def score_spark(
    spark: Any,
    model: str | os.PathLike[str],
    config: ProjectConfig,
    cutoff: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    events: Any = None,
    reasons: int = 3,
    as_of: int | None = None,
    partitions: int | None = None,
    quarantine: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> Scored:
    """Score everyone known before the cutoff who has not left, on Spark.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    model : path
        A model folder.
    config : ProjectConfig
    cutoff : int or SatisfactionConfig
        As in `cxml.scoring.batch.Question`.
    folder : path or URI, optional
        Where Spark writes Parquet files, in the order of ``customer_id``, from its workers; there whole or not at all.
        Default: the scores come to the driver, as one table.
    events : DataFrame of Spark or str, optional
        Read this table instead of the sources of the project file; its columns are called as in the first of them.
    reasons : int
    as_of : int, optional
        UTC microseconds; later stamps are set aside.
    partitions : int, optional
        Into how many parts to cut the customers. Default: so that a part has about a million events. The numbers do
        not depend on it.
    quarantine : path, optional
        Parquet file for the rows set aside.
    progress : Progress

    Returns
    -------
    Scored

    Raises
    ------
    ConfigError, DataError
        As on one machine.
    """
    place = Path(model)
    files = tuple((str(f.relative_to(place)), f.read_bytes()) for f in sorted(place.rglob("*")) if f.is_file())
    task = ScoreTask(files, cutoff, config.churn, reasons)
    run = _Run(spark, config, task, events, as_of, partitions, quarantine, progress)
    with run.answered(to_folder=folder is not None) as answered:
        if not len(answered.schema):
            raise _nobody(cutoff, answered.quality)
        table = None
        if folder is not None:
            run.write_folder(answered, os.fspath(folder), ["customer_id"])
        else:
            table = _joined(answered).combine_chunks().sort_by("customer_id")
    return Scored(table, answered.summary, answered.quality)


def features_spark(
    spark: Any,
    plan: FeaturePlan,
    config: ProjectConfig,
    cutoffs: Iterable[int],
    out: str | os.PathLike[str],
    *,
    events: Any = None,
    as_of: int | None = None,
    partitions: int | None = None,
    quarantine: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> int:
    """Write the features of everyone known before each cutoff, computed on Spark.

    Parameters
    ----------
    spark, config, events, as_of, partitions, quarantine, progress
        As in `score_spark`.
    plan : FeaturePlan
        Of a model.
    cutoffs : iterable of int
        UTC microseconds.
    out : path or URI
        A name that ends in ``.parquet`` or ``.csv`` is one file, which the driver writes; any other a folder of Parquet
        files, which the workers write. Rows are in the order of ``cutoff``, then ``customer_id``.

    Returns
    -------
    int
        How many rows.

    Raises
    ------
    ConfigError, DataError
        As on one machine; also where the plan has user features of no file that can be sent to the workers.
    """
    refuse_unsent(plan.custom, config)
    task = FeatureTask(json.dumps(plan.to_dict()), tuple(cutoffs))
    run = _Run(spark, config, task, events, as_of, partitions, quarantine, progress)
    with run.answered(to_folder=is_folder(out)) as answered:
        if not len(answered.schema):
            raise _nobody(min(task.cutoffs), answered.quality)
        if is_folder(out):
            run.write_folder(answered, os.fspath(out), ["cutoff", "customer_id"])
            return answered.n_rows
        table = _joined(answered)
    return _write_frame(table, out)


def rows_spark(
    spark: Any,
    task: Task,
    config: ProjectConfig,
    out: str,
    *,
    as_of: int | None = None,
    partitions: int | None = None,
    progress: Progress = SILENT,
) -> tuple[int, QualityReport]:
    """Let the workers answer any question and write the rows, part by part, as Parquet into a folder.

    Parameters
    ----------
    spark, config, as_of, partitions, progress
        As in `score_spark`.
    task : Task
        Of a class that workers can import.
    out : path or URI
        Of a folder that workers and driver share. Nothing is written where there are no rows.

    Returns
    -------
    n_rows : int
    quality : QualityReport
        What reading found.

    Raises
    ------
    ConfigError, DataError
        As on one machine.
    """
    run = _Run(spark, config, task, None, as_of, partitions, None, progress)
    with run.answered(to_folder=True) as answered:
        if answered.n_rows:
            run.write_folder(answered, out)
    return answered.n_rows, answered.quality


def refuse_unsent(custom: Iterable[str], config: ProjectConfig) -> None:
    """Refuse user features that Spark's workers would not know: those of no file of ``features.modules``.

    Parameters
    ----------
    custom : iterable of str
        Names of features, of a plan or of the project file.
    config : ProjectConfig
        Its ``features.modules`` are sent to the workers.

    Raises
    ------
    ConfigError
        Naming the features, and the mend.
    """
    from cxml.features.custom import OWN, registered
    from cxml.features.modules import comes_from, read_modules

    sources = read_modules(config)
    mine = [name for name in custom if name not in OWN and not comes_from(registered(name).function, sources)]
    if mine:
        raise ConfigError(
            f"there are user features ({', '.join(mine)}) that are registered in this process alone, and unknown to "
            "Spark's workers. Put them into a file of features.modules, which is sent there, or leave --engine spark "
            "out."
        )


def is_folder(out: str | os.PathLike[str]) -> bool:
    """Tell whether workers write the result: into a folder, or wherever a URI points that is no database.

    Examples
    --------
    >>> [is_folder(out) for out in ("scores.parquet", "scores", "s3a://shop/scores.parquet", "postgresql://host/db")]
    [False, True, True, False]
    """
    text = os.fspath(out).lower()
    if "://" in text:
        return not text.startswith(("postgresql:", "postgres:"))
    return not text.endswith((".parquet", ".csv"))


def _nobody(cutoff: Any, quality: QualityReport) -> DataError:
    when = format_instant(cutoff) if isinstance(cutoff, int) else "any moment"
    gone = not isinstance(cutoff, int) or quality.first < cutoff
    return DataError(
        f"nobody to score at {when}: the log runs from {format_instant(quality.first)} to "
        f"{format_instant(quality.last)}"
        + (", and whoever is known by then has left or finished" if gone else "")
        + ". Choose another --cutoff."
    )


def _joined(answered: Answered) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(list(answered.rows))


def _write_frame(table: pa.Table, out: str | os.PathLike[str]) -> int:
    """Write a feature frame as `cxml.features.export.write_features` does."""
    frame = table.to_pandas().sort_values(["cutoff", "customer_id"], ignore_index=True)
    with write_aside(out) as aside:
        if os.fspath(out).lower().endswith(".csv"):
            frame.to_csv(aside, index=False)
        else:
            frame.to_parquet(aside, index=False, compression="zstd")
    return len(frame)


# ---------------------------------------------------------------- one run


@dataclass
class _Run:
    """One question put to Spark."""

    spark: Any
    config: ProjectConfig
    task: Task
    events: Any
    as_of: int | None
    partitions: int | None
    quarantine: str | os.PathLike[str] | None
    progress: Progress
    _answers: Any = field(default=None, init=False)

    @contextmanager
    def answered(self, *, to_folder: bool) -> Iterator[Answered]:
        """Let the workers answer, and refuse what one machine would refuse."""
        job, frames, side = self._job()
        with settings(self.spark), self._broadcast(job) as shared, self.progress.step("read and answer on Spark") as _:
            answers = self._plan(job, frames, side, shared)
            self._answers = answers.persist() if to_folder else answers
            try:
                yield self._judged(job, side, to_folder=to_folder)
            finally:
                if to_folder:
                    self._answers.unpersist()

    def _job(self) -> tuple[Job, list[Any], Side]:
        from cxml import __version__
        from cxml.config import REQUIRED_COLUMNS
        from cxml.features.modules import read_modules
        from cxml.journeys.canonical import RowRules
        from cxml.journeys.ingest import Layout

        journeys, satisfaction = self.config.journeys, self.config.satisfaction
        frames, pieces, n_parts = self._sources()
        side = Side.read(self.config)
        rules = RowRules(as_of=self.as_of)
        if satisfaction is not None:
            rules = replace(rules, survey=satisfaction.touchpoint, scale=satisfaction.bounds)
        layout = Layout(journeys.columns, REQUIRED_COLUMNS, tuple(journeys.measures))
        job = Job(
            version=__version__, task=self.task, journeys=journeys, sources=tuple(journeys.sources),
            pieces=tuple(pieces), layout=layout, rules=rules, folder=str(Path(self.config.folder).resolve()),
            n_parts=self.partitions or n_parts, vocabularies=side.vocabularies, has_leavers=side.leavers is not None,
            modules=read_modules(self.config),
        )  # fmt: skip
        return job, [needed(frame, job) for frame in frames], side

    def _sources(self) -> tuple[list[Any], list[Piece], int]:
        """Give the tables that Spark reads, the pieces that workers read themselves, and into how many parts to cut."""
        least = 2 * int(self.spark.sparkContext.defaultParallelism)
        if self.events is not None:
            frame = self.spark.table(self.events) if isinstance(self.events, str) else self.events
            size = int(frame._jdf.queryExecution().optimizedPlan().stats().sizeInBytes())
            most = int(
                self.spark.conf.get("spark.sql.shuffle.partitions", "200")
            )  # where it does not know, size is vast
            return [frame], [], max(least, size // _PART_BYTES if size < _VAST else most)
        found = [pieces_of(i, source, self.config.folder) for i, source in enumerate(self.config.journeys.sources)]
        n_rows = sum(n for _, n in found)
        return [], [piece for pieces, _ in found for piece in pieces], max(least, n_rows // PART_EVENTS)

    @contextmanager
    def _broadcast(self, job: Job) -> Iterator[Any]:
        shared = self.spark.sparkContext.broadcast(job)
        try:
            yield shared
        finally:
            shared.destroy()

    def _plan(self, job: Job, frames: list[Any], side: Side, shared: Any) -> Any:
        """Chain the two stages."""
        sent = [frame.mapInArrow(_with(read.read_frame, shared), protocol.SENT) for frame in frames]
        if job.pieces:
            n = len(job.pieces)
            numbers = self.spark.range(0, n, 1, n)
            sent.append(numbers.mapInArrow(_with(read.read_pieces, shared), protocol.SENT))
        rows = side.chunks(job.n_parts)
        if rows:
            sent.append(self.spark.createDataFrame(rows, protocol.SENT))
        everything = sent[0]
        for more in sent[1:]:
            everything = everything.unionAll(more)
        if hasattr(everything, "repartitionById"):  # since Spark 4.1: a part is a partition
            parted = everything.repartitionById(job.n_parts, "part")
        else:
            parted = everything.repartition(job.n_parts, "part")
        together = parted.sortWithinPartitions("part")
        return together.mapInArrow(_with(answer.answer_parts, shared), protocol.ANSWERED)

    def _judged(self, job: Job, side: Side, *, to_folder: bool) -> Answered:
        answers = self._answers.filter("kind <> 'rows'") if to_folder else self._answers
        payloads: dict[str, list[bytes]] = {}
        for kind, payload in _pairs(answers.toArrow()):
            payloads.setdefault(kind, []).append(payload)
        findings.raise_first(payloads.get(protocol.ERROR, []))
        found = findings.plain(payloads.get(protocol.READ, []))
        facts = findings.plain(payloads.get(protocol.FACTS, []))
        bad = [protocol.arrow_table(payload) for payload in payloads.get(protocol.BAD, [])]
        quality = findings.judge(self.config, job, found, bad, facts, self.quarantine)
        side.demand_matches(facts)
        findings.demand_words(self.task, self.config, found)
        text_ids = any(part["text_ids"] for part in facts)
        if to_folder:
            rows, schema = iter(()), self._schema(text_ids)
        else:
            rows = (_typed_ids(protocol.arrow_table(one), text_ids) for one in payloads.get(protocol.ROWS, []))
            first = next(iter(payloads.get(protocol.ROWS, [])), None)
            schema = _schema_of(first, text_ids)
        return Answered(rows, schema, quality, findings.summary_of(facts), sum(part["rows"] for part in facts))

    def _schema(self, text_ids: bool) -> pa.Schema:
        first = self._answers.filter("kind = 'rows'").limit(1).toArrow()
        return _schema_of(first.column("payload")[0].as_py() if len(first) else None, text_ids)

    def write_folder(self, answered: Answered, out: str, order: Sequence[str] = ()) -> None:
        """Let the workers write the rows into a folder; without an order, those of each part behind each other."""
        from pyspark.sql.pandas.types import from_arrow_schema

        schema = answered.schema
        unpack = partial(_unpacked, protocol.arrow_bytes(schema.empty_table()))
        rows = self._answers.filter("kind = 'rows'").select("payload").mapInArrow(unpack, from_arrow_schema(schema))
        writer = (rows.orderBy(*order) if order else rows).write.option("compression", "zstd")
        with self.progress.step("put in order and write" if order else "write on Spark") as _:
            if "://" in out:
                writer.parquet(out)  # refuses what is there; Spark's committer puts _SUCCESS last
            else:
                with write_folder_aside(out, known_by=DONE) as aside:
                    writer.mode("overwrite").parquet(str(aside.resolve()))
                    for checksum in aside.glob(".*.crc"):
                        checksum.unlink()


def _with(work: Any, shared: Any) -> Any:
    """Bind work to a job that every worker holds once."""

    def bound(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return work(shared.value, batches)  # type: ignore[no-any-return]

    return bound


def _unpacked(shape: bytes, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give the rows within payloads, in the types of ``shape``."""
    schema = protocol.arrow_table(shape).schema
    for batch in batches:
        for payload in batch.column("payload"):
            table = protocol.arrow_table(payload.as_py())
            for column, wanted in zip(table.column_names, schema, strict=True):
                place = table.schema.get_field_index(column)
                table = table.set_column(place, column, table.column(column).cast(wanted.type))
            yield from table.combine_chunks().to_batches()


def _schema_of(payload: bytes | None, text_ids: bool) -> pa.Schema:
    """Give the schema of rows as Spark holds them: texts instead of dictionaries."""
    import pyarrow as pa

    if payload is None:
        return pa.schema([])
    fields = _typed_ids(protocol.arrow_table(payload), text_ids).schema
    plain = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in fields]
    return pa.schema(plain)


def _typed_ids(table: pa.Table, text_ids: bool) -> pa.Table:
    """Make the ids of a part texts where those of another are."""
    import pyarrow as pa

    kind = pa.string() if text_ids else pa.int64()
    return table.set_column(0, "customer_id", table.column("customer_id").cast(kind))


def _pairs(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    for batch in table.to_batches():
        yield from zip(batch.column("kind").to_pylist(), batch.column("payload").to_pylist(), strict=True)
