"""What every worker has to know, and the form in which chunks travel. Light: nothing here imports Numba."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, CxmlError

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.config import ChurnConfig, JourneysConfig, SatisfactionConfig, SourceConfig
    from cxml.journeys.canonical import RowRules
    from cxml.journeys.ingest import Layout
    from cxml.journeys.log import JourneyLog
    from cxml.models.store import SavedModel

Int64 = NDArray[np.int64]

#: What a worker that reads sends: the part a chunk belongs to, what it is, and Arrow's or JSON's bytes.
SENT = "part int, kind string, payload binary"
#: What a worker that answers sends.
ANSWERED = "kind string, payload binary"
#: Kinds of payloads. The first three go to parts, the others to the driver.
EVENTS, CUSTOMERS, LEAVERS = "events", "customers", "leavers"
READ, BAD, FACTS, ROWS, ERROR = "read", "bad", "facts", "rows", "error"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task reads: a source, or a file of it, or some row groups of a Parquet file.

    Parameters
    ----------
    source : int
        Which source of the config.
    file : str
        Empty where the source is read as a whole (a query, a database, a file that is alone).
    kind : str
        Format of the file.
    groups : tuple of int
        Row groups; empty for all of the file.
    first_row : int
        How many rows of the file stand before these.
    """

    source: int
    file: str = ""
    kind: str = ""
    groups: tuple[int, ...] = ()
    first_row: int = 0


class Task(Protocol):
    """What is asked of every part of the customers; it travels to the workers, so that its module must be light."""

    def words(self, journeys: JourneysConfig) -> set[str]:
        """Give the touchpoints that the question speaks of: they need not occur in every part."""

    def answer(self, log: JourneyLog, leavers: tuple[NDArray[np.generic], Int64] | None) -> pa.Table:
        """Answer for the customers of a part; the first column is ``customer_id``."""

    def summary(self, answered: pa.Table) -> dict[str, Any]:
        """Sum up what the answer of a part is like; empty where nobody asks."""


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Score everyone.

    Parameters
    ----------
    model : tuple of (str, bytes)
        Names and contents of the files of the model folder.
    cutoff : int or SatisfactionConfig
        As in `cxml.scoring.batch.Question`.
    churn : ChurnConfig, optional
    reasons : int
    """

    model: tuple[tuple[str, bytes], ...]
    cutoff: int | SatisfactionConfig
    churn: ChurnConfig | None
    reasons: int

    def words(self, journeys: JourneysConfig) -> set[str]:
        """Give the touchpoints that the question speaks of: they need not occur in every part."""
        words: set[str | None] = set()
        if self.churn is not None:
            words |= {*self.churn.touchpoints, *self.churn.starts, *journeys.activity}
        if not isinstance(self.cutoff, int):
            words |= {self.cutoff.touchpoint, self.cutoff.asked}
        return {word for word in words if word}

    def answer(self, log: JourneyLog, leavers: tuple[NDArray[np.generic], Int64] | None) -> pa.Table:
        """Score the customers of a part."""
        from cxml.scoring.batch import Question, score_block

        question = Question(model_of(self.model), self.cutoff, self.churn, leavers, self.reasons)
        return score_block(question, log, log.block)

    def summary(self, answered: pa.Table) -> dict[str, Any]:
        """Sum up what the scores of a part are like."""
        from cxml.scoring.output import Summary

        return vars(Summary().add(answered))


@dataclass(frozen=True, slots=True)
class FeatureTask:
    """Compute features of everyone known before each cutoff.

    Parameters
    ----------
    plan : str
        A `FeaturePlan` as JSON: its class loads compiled code, which workers must not do before they are ready.
    cutoffs : tuple of int
        UTC microseconds.
    """

    plan: str
    cutoffs: tuple[int, ...]

    def words(self, journeys: JourneysConfig) -> set[str]:  # noqa: ARG002
        """Give none."""
        return set()

    def answer(self, log: JourneyLog, leavers: tuple[NDArray[np.generic], Int64] | None) -> pa.Table:  # noqa: ARG002
        """Give the feature frame of a part."""
        import pyarrow as pa

        from cxml.features.export import feature_frame
        from cxml.features.frame import JourneyFeatures
        from cxml.features.plan import FeaturePlan

        plan = FeaturePlan.from_dict(json.loads(self.plan))
        frame = feature_frame(log, JourneyFeatures.from_plan(plan, n_jobs=1), self.cutoffs)
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)

    def summary(self, answered: pa.Table) -> dict[str, Any]:  # noqa: ARG002
        """Give none."""
        return {}


@dataclass(frozen=True)
class Job:
    """All that a worker has to know.

    Parameters
    ----------
    version : str
        Of `cxml` on the driver: another one on a worker might compute other bits.
    task : Task
    journeys : JourneysConfig
    sources : tuple of SourceConfig
        Of the journeys, or the one that says how to read a table of Spark's.
    pieces : tuple of Piece
    layout : Layout
    rules : RowRules
    folder : str
        Where relative paths start.
    n_parts : int
    vocabularies : dict of str to tuple of str, optional
        Of the attributes in the table of customers; None where there is no table.
    has_leavers : bool
        Whether a table says who left.
    modules : tuple of (str, str)
        Path and text of the user's files that register features.
    """

    version: str
    task: Task
    journeys: JourneysConfig
    sources: tuple[SourceConfig, ...]
    pieces: tuple[Piece, ...]
    layout: Layout
    rules: RowRules
    folder: str
    n_parts: int
    vocabularies: dict[str, tuple[str, ...]] | None = None
    has_leavers: bool = False
    modules: tuple[tuple[str, str], ...] = ()


def prepare(job: Job) -> None:
    """Make a worker fit for a job: a place for what Numba compiles, the driver's version, the user's features.

    Raises
    ------
    ConfigError
        If the worker has another version, or a file of the user fails there.
    """
    from cxml import __version__

    if not os.access(Path(__file__).parents[2], os.W_OK):  # Numba would compile anew in every worker, or fail
        place = Path(tempfile.gettempdir()) / f"cxml-numba-{os.getuid()}"
        os.environ.setdefault("NUMBA_CACHE_DIR", str(place))
    if __version__ != job.version:
        raise ConfigError(
            f"a Spark worker has cxml {__version__} and the driver {job.version}, whose numbers need not be the "
            "same. Ship the driver's environment to the workers; docs/spark.md says how."
        )
    if job.modules:
        from cxml.features.modules import run_modules

        run_modules(job.modules)


@lru_cache(maxsize=2)
def model_of(files: tuple[tuple[str, bytes], ...]) -> SavedModel:
    """Load a model from the contents of its files; once in a worker, which goes on to other tasks."""
    from cxml.models.store import load_model

    with tempfile.TemporaryDirectory(prefix="cxml-model-") as folder:
        for name, content in files:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load_model(folder)


def sent(part: int, kind: str, payload: bytes) -> pa.RecordBatch:
    """Make a row of the schema `SENT`."""
    import pyarrow as pa

    return pa.RecordBatch.from_pydict(
        {"part": pa.array([part], pa.int32()), "kind": [kind], "payload": pa.array([payload], pa.binary())}
    )


def answer(kind: str, payload: bytes) -> pa.RecordBatch:
    """Make a row of the schema `ANSWERED`."""
    import pyarrow as pa

    return pa.RecordBatch.from_pydict({"kind": [kind], "payload": pa.array([payload], pa.binary())})


def arrow_bytes(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Write rows as a compressed Arrow stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def arrow_table(payload: bytes) -> pa.Table:
    """Read what `arrow_bytes` wrote."""
    import pyarrow as pa

    with pa.ipc.open_stream(payload) as reader:
        return reader.read_all()


def error_bytes(error: CxmlError) -> bytes:
    """Write a refusal, for the driver to raise."""
    return json.dumps({"type": type(error).__name__, "message": str(error)}).encode()
