"""Training from a cluster: Spark's workers make the snapshots and their features, and the trees are grown here.

Light on purpose: Spark's workers import it before they know where Numba may keep what it compiles.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig, ProjectConfig
from cxml.errors import ConfigError, DataError
from cxml.progress import SILENT, Advance, Progress
from cxml.snapshots.splits import Split, Splits

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.features.plan import FeaturePlan
    from cxml.journeys.log import JourneyLog
    from cxml.journeys.quality import QualityReport
    from cxml.training.studies import Gather, Leavers, Rows, Study

Int64 = NDArray[np.int64]
#: From names of columns to these columns of what the workers wrote, a batch at a time.
Read = Callable[[list[str]], "Iterator[pa.RecordBatch]"]

#: Features of a part, at most about: they travel in one piece, which Java holds in an array of at most 2 GiB.
_PART_BYTES = 1 << 27
#: Features that are read from the parts at a time.
_BATCH_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class StudyTask:
    """Make the snapshots of each target, with labels and features.

    Parameters
    ----------
    plan : str
        A `FeaturePlan` as JSON: its class loads compiled code, which workers must not do before they are ready.
    config : ProjectConfig
    splits : Splits
    activity : list of str
        Touchpoints that count as activity.
    """

    plan: str
    config: ProjectConfig
    splits: Splits
    activity: list[str]

    def words(self, journeys: JourneysConfig) -> set[str]:  # noqa: ARG002
        """Give the touchpoint of being asked, which need not occur in every part."""
        asked = None if self.splits.satisfaction is None else _asked(self.config)
        return {asked} if asked else set()

    def answer(self, log: JourneyLog, leavers: Leavers | None) -> pa.Table:
        """Make the snapshots of the customers of a part, a row each; ``study`` is the place in `groups_of`."""
        import pyarrow as pa

        from cxml.features.plan import FeaturePlan
        from cxml.training.studies import label, with_features

        plan = FeaturePlan.from_dict(json.loads(self.plan))
        studies = label(log.block, self.config, self.splits, self.activity, leavers)
        filled = {target: with_features(study, log, plan, threads=1) for target, study in studies.items()}
        groups = [(number, filled[target].parts[part]) for number, (target, part) in enumerate(groups_of(self.splits))]
        return pa.concat_tables([_table(log.block.customers, number, rows) for number, rows in groups])

    def summary(self, answered: pa.Table) -> dict[str, Any]:  # noqa: ARG002
        """Give none."""
        return {}


def _asked(config: ProjectConfig) -> str | None:
    return None if config.satisfaction is None else config.satisfaction.asked


def groups_of(splits: Splits) -> list[tuple[str, str]]:
    """Give target and part of each group of snapshots, in a fixed order.

    Examples
    --------
    >>> groups_of(Splits(satisfaction=Split(1, 2, 3)))
    [('satisfaction', 'train'), ('satisfaction', 'calibration'), ('satisfaction', 'test')]
    """
    return [(target, part) for target, split in _splits_of(splits).items() for part in split.parts]


def _splits_of(splits: Splits) -> dict[str, Split]:
    found = {"churn": splits.churn, "satisfaction": splits.satisfaction}
    return {target: split for target, split in found.items() if split is not None}


def _table(customers: NDArray[np.generic], group: int, rows: Rows) -> pa.Table:
    """Give snapshots as rows: whose, which of the customer's own they are, when, outcome and features."""
    import pyarrow as pa

    n = len(rows)
    ids = pa.array(customers[rows.customer], pa.string() if customers.dtype == object else pa.int64())
    place = np.arange(n) - np.searchsorted(rows.customer, rows.customer)
    return pa.table(
        {
            "customer_id": ids,
            "study": pa.array(np.full(n, group, np.int32)),
            "place": pa.array(place, pa.int32()),
            "cutoff": pa.array(rows.cutoff),
            "outcome": _lists(rows.y.reshape(n, -1) if n else rows.y.reshape(0, 1)),
            "features": _lists(rows.X),
        }
    )


def _lists(matrix: NDArray[Any]) -> pa.ListArray:
    import pyarrow as pa

    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * np.int32(matrix.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


# ---------------------------------------------------------------- on the driver


def refuse_on_spark(config: ProjectConfig, tune: int | None = None) -> None:
    """Refuse what cannot be done on Spark, before any work.

    Parameters
    ----------
    config : ProjectConfig
    tune : int, optional
        Trials of a search for parameters.

    Raises
    ------
    ConfigError
        Saying why, and the mend.
    """
    from cxml.features.learn import Choice
    from cxml.scoring.spark.run import refuse_unsent

    if tune is not None:
        raise ConfigError(
            "--tune is for one machine: its trials learn on earlier folds, whose features --engine spark does not "
            "make. Tune without --engine spark, on a sample of the customers if there are too many, write what it "
            "found into the project file (churn.parameters, satisfaction.parameters), and train without --tune."
        )
    refuse_unsent(Choice.from_config(config).custom, config)


@contextmanager
def gatherer(master: str | None, parts: str | os.PathLike[str], as_of: int | None = None) -> Iterator[Gather]:
    """Start Spark, and give what makes studies on it, once: Spark is let go as soon as they are made.

    Parameters
    ----------
    master : str, optional
        As in `cxml.scoring.spark.open_spark`.
    parts, as_of
        As in `gather_on_spark`.

    Yields
    ------
    Gather

    Raises
    ------
    ConfigError
        If Spark does not start.
    """
    from cxml.scoring.spark import open_spark

    with ExitStack() as opened:
        spark = opened.enter_context(open_spark(master))

        def gather(
            log: JourneyLog, config: ProjectConfig, plan: FeaturePlan, splits: Splits, activity: list[str],
            leavers: Leavers | None, progress: Progress,  # noqa: ARG001 - leavers reach workers with their customers
        ) -> dict[str, Study]:  # fmt: skip
            studies = gather_on_spark(spark, log, config, plan, splits, activity, parts, as_of=as_of, progress=progress)
            opened.close()  # nobody waits for the cluster while trees are grown
            return studies

        yield gather


def gather_on_spark(
    spark: Any,
    log: JourneyLog,
    config: ProjectConfig,
    plan: FeaturePlan,
    splits: Splits,
    activity: list[str],
    parts: str | os.PathLike[str],
    *,
    as_of: int | None = None,
    partitions: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, Study]:
    """Make the snapshots of each target, with labels and features, on Spark.

    Workers read the sources and write the snapshots of each part of the customers as Parquet. The driver reads them
    a batch at a time into the matrices that trees are grown from: those and one batch are all it holds of them.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    log : JourneyLog
        The same journeys, as the driver read them.
    config, plan, splits, activity
        As in `cxml.training.studies.gather_here`.
    parts : path or URI
        Folder that workers and driver share; what is written goes into a folder of its own there, which is deleted.
    as_of : int, optional
        As in `cxml.scoring.spark.score_spark`.
    partitions : int, optional
        Into how many parts to cut the customers; the numbers do not depend on it.
    progress : Progress

    Returns
    -------
    dict of str to Study

    Raises
    ------
    ConfigError
        If what workers wrote is not where the driver looks.
    DataError
        If the workers read other journeys than the driver.
    """
    from cxml.scoring.spark import rows_spark

    if not _splits_of(splits):
        return {}
    place = f"{os.fspath(parts).rstrip('/')}/cxml-{uuid.uuid4().hex[:8]}.parts"
    task = StudyTask(json.dumps(plan.to_dict()), config, splits, activity)
    partitions = partitions or _n_parts(spark, log, plan, splits)
    try:
        n_rows, quality = rows_spark(spark, task, config, place, as_of=as_of, partitions=partitions, progress=progress)
        _refuse_other_journeys(log, quality)
        read = partial(_read_parts, spark, place, max(1, _BATCH_BYTES // (4 * len(plan.columns))))
        with progress.step("take over from Spark", n_rows) as advance:
            studies = _assemble(log, config, plan, splits, read, advance)
    finally:
        _delete(spark, place)
    n_found = sum(len(rows) for study in studies.values() for rows in study.parts.values())
    if n_found != n_rows:
        raise ConfigError(
            f"Spark's workers wrote {n_rows:,} snapshots into '{os.fspath(parts)}', and the driver finds {n_found:,} "
            "there: it is no folder that they share. Name one, or a URI such as s3a://bucket/folder, with --parts."
        )
    return studies


def _n_parts(spark: Any, log: JourneyLog, plan: FeaturePlan, splits: Splits) -> int:
    """Say into how many parts to cut the customers, so that neither their events nor their features are too many."""
    from cxml.scoring.spark.run import PART_EVENTS

    cutoffs = 0 if splits.cutoffs is None else len(splits.cutoffs)
    n_rows = log.n_customers * (cutoffs + (splits.satisfaction is not None))
    least = 2 * int(spark.sparkContext.defaultParallelism)
    return max(least, log.n_events // PART_EVENTS, n_rows * len(plan.columns) * 4 // _PART_BYTES)


def _refuse_other_journeys(log: JourneyLog, quality: QualityReport) -> None:
    """Refuse labels and features of journeys that are not those the plan was learned from."""
    here = log.n_events, log.n_customers, log.first, log.last
    there = quality.rows_kept, quality.customers, quality.first, quality.last
    if here != there:
        raise DataError(
            f"the driver read {here[0]:,} events of {here[1]:,} customers, and Spark's workers {there[0]:,} of "
            f"{there[1]:,}: the sources changed while they were read, or the workers see others under the same "
            "paths. Train again, on sources that stay as they are and that all machines share."
        )


def _read_parts(spark: Any, place: str, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Give what the workers wrote, a batch at a time; Spark itself reads where only it knows the way."""
    import pyarrow.parquet as pq

    if "://" in place:
        for file in sorted(spark.read.parquet(place).inputFiles()):
            yield from spark.read.parquet(file).select(*columns).toArrow().to_batches(size)
        return
    for path in sorted(Path(place).glob("*.parquet")):
        with pq.ParquetFile(path) as parquet:
            yield from parquet.iter_batches(size, columns=columns)


def _assemble(
    log: JourneyLog, config: ProjectConfig, plan: FeaturePlan, splits: Splits, read: Read, advance: Advance
) -> dict[str, Study]:
    """Put snapshots in the order of one machine: first count those of each customer, then fill them in."""
    groups, index = groups_of(splits), _index_of(log.events.customers)
    counts = np.zeros((len(groups), log.n_customers), np.int64)
    for batch in read(["customer_id", "study"]):
        np.add.at(counts, (batch.column("study").to_numpy(), index(batch.column("customer_id"))), 1)
    parts = [_room(counts[number], target, config, plan) for number, (target, _) in enumerate(groups)]
    starts = np.cumsum(counts, axis=1) - counts
    for batch in read(["customer_id", "study", "place", "cutoff", "outcome", "features"]):
        group, place = batch.column("study").to_numpy(), batch.column("place").to_numpy()
        row = starts[group, index(batch.column("customer_id"))] + place
        for number in np.unique(group).tolist():
            _fill(parts[number], row, np.flatnonzero(group == number), batch)
        advance(batch.num_rows)
    return _studies(splits, dict(zip(groups, parts, strict=True)))


def _index_of(customers: NDArray[np.generic]) -> Callable[[pa.Array], Int64]:
    """Give what finds the places of ids among the customers of the log."""
    if customers.dtype != object:
        return lambda ids: np.asarray(np.searchsorted(customers, ids.to_numpy()), np.int64)
    places = {one: i for i, one in enumerate(customers.tolist())}
    return lambda ids: np.array([places[one] for one in ids.to_pylist()], np.int64)


def _room(counts: Int64, target: str, config: ProjectConfig, plan: FeaturePlan) -> Rows:
    """Make room for the snapshots of a group, so many of each customer."""
    from cxml.training.studies import Rows

    customer = np.repeat(np.arange(len(counts)), counts)
    n = len(customer)
    width = 3 if config.churn is not None and config.churn.reasons else 2
    y = np.empty((n, width) if target == "churn" else n, np.float64)
    return Rows(customer, np.empty(n, np.int64), np.empty((n, len(plan.columns)), np.float32), y)


def _fill(rows: Rows, row: Int64, chosen: Int64, batch: pa.RecordBatch) -> None:
    """Fill in the chosen snapshots of a batch, each at its row."""
    there = row[chosen]
    rows.cutoff[there] = batch.column("cutoff").to_numpy()[chosen]
    for out, name in ((rows.y.reshape(len(rows), -1), "outcome"), (rows.X, "features")):
        out[there] = batch.column(name).take(chosen).flatten().to_numpy().reshape(len(there), -1)


def _studies(splits: Splits, parts: dict[tuple[str, str], Rows]) -> dict[str, Study]:
    from cxml.training.studies import Study

    return {
        target: Study(target, split, {part: parts[target, part] for part in split.parts})
        for target, split in _splits_of(splits).items()
    }


def _delete(spark: Any, place: str) -> None:
    """Delete what workers wrote."""
    if "://" not in place:
        shutil.rmtree(place, ignore_errors=True)
        return
    path = spark._jvm.org.apache.hadoop.fs.Path(place)
    path.getFileSystem(spark._jsc.hadoopConfiguration()).delete(path, True)
