"""The facade: a project file, and the few things one does with it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ProjectConfig, expand, load_config, resolve_path
from cxml.errors import ConfigError, DataError
from cxml.files import refuse_to_replace, write_aside
from cxml.progress import SILENT, Progress
from cxml.times import format_instant, parse_instant

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from cxml.config import SatisfactionConfig
    from cxml.features.frame import JourneyFeatures
    from cxml.features.leakage import LeakageReport
    from cxml.journeys.log import JourneyLog
    from cxml.journeys.quality import QualityReport
    from cxml.training.learn import Trained

Int64 = NDArray[np.int64]


class Project:
    '''A project file with everything that can be done with it.

    Parameters
    ----------
    config : ProjectConfig
    as_of : date, optional
        Stamps after this are errors of the feed and go to the quarantine; None lets every stamp pass.

    Examples
    --------
    >>> from cxml.config import parse_config
    >>> project = Project(parse_config("""
    ... name: shop
    ... journeys: {sources: [events.csv], timezone: UTC}
    ... churn: {kind: inactivity}
    ... """))
    >>> project.out.as_posix()
    'out/shop'
    '''

    def __init__(self, config: ProjectConfig, *, as_of: Any = None) -> None:
        self.config = config
        self.as_of = None if as_of is None else parse_instant(as_of)
        self._log: JourneyLog | None = None
        self._leavers: tuple[NDArray[np.generic], Int64] | None = None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, as_of: Any = None) -> Project:
        """Open a project file; see `cxml.config.load_config` for what is refused."""
        return cls(load_config(path), as_of=as_of)

    @property
    def out(self) -> Path:
        """Where reports go unless told otherwise: ``out/NAME``."""
        return Path("out") / self.config.name

    def read(self, *, quarantine: str | os.PathLike[str] | None = None, progress: Progress = SILENT) -> JourneyLog:
        """Read and check the journeys; once, then from memory.

        Parameters
        ----------
        quarantine : path, optional
            Where refused rows are written; default ``out/NAME/quarantine.parquet``. Written only when there are some.
        progress : Progress

        Returns
        -------
        JourneyLog

        Raises
        ------
        ConfigError, DataError
            See `cxml.read_journeys`.
        """
        from cxml.journeys.read import read_journeys

        if self._log is None:
            satisfaction = self.config.satisfaction
            self._log = read_journeys(
                self.config.journeys,
                customers=self.config.customers,
                score_scale=satisfaction.bounds if satisfaction else None,
                survey=satisfaction.touchpoint if satisfaction else None,
                as_of=self.as_of,
                quarantine=quarantine or self.out / "quarantine.parquet",
                folder=self.config.folder,
                progress=progress,
            )
        return self._log

    def leavers(self, progress: Progress = SILENT) -> tuple[NDArray[np.generic], Int64] | None:
        """Who of the log's customers left and when, for churn of kind ``table``; else None."""
        from cxml.journeys.customers import match_ids, read_churn_table

        churn = self.config.churn
        if churn is not None and churn.kind == "table" and self._leavers is None:
            customers = self.read(progress=progress).events.customers
            ids, when = read_churn_table(churn, self.config.folder, self.config.journeys.timezone)
            place = match_ids(ids, customers)
            if len(place) and not (place >= 0).any():
                raise DataError(
                    f"churn: none of the {len(ids):,} leavers is a customer of the journeys (first leaver "
                    f"{ids[0]!r}, first customer {customers[0]!r}). Give both the same ids."
                )
            self._leavers = customers[place[place >= 0]], when[place >= 0]
        return self._leavers

    def check(
        self, *, leakage: bool = False, out: str | os.PathLike[str] | None = None, progress: Progress = SILENT
    ) -> CheckResult:
        """Check the data; optionally prove that no feature sees past its cutoff.

        Parameters
        ----------
        leakage : bool
        out : path, optional
            Folder for ``quality.json`` and ``quarantine.parquet``; default ``out/NAME``.
        progress : Progress

        Returns
        -------
        CheckResult
        """
        from cxml.features.leakage import check_leakage
        from cxml.training.studies import look_ahead, snapshot_frame

        folder = Path(out) if out is not None else self.out
        (folder / "quality.json").unlink(missing_ok=True)  # should reading be refused, no old report may stand for it
        log = self.read(quarantine=folder / "quarantine.parquet", progress=progress)
        result = CheckResult(log.quality, None, [], folder)
        _write_json(result.to_dict(), folder / "quality.json")  # stands even where the look ahead is refused
        outlook = look_ahead(log, self.config, self.leavers(), progress)
        report = None
        if leakage:
            with progress.step("leakage check") as _:
                snapshots = snapshot_frame(log, outlook)
                report = check_leakage(log, outlook.plan, snapshots, random_state=self.config.random_state)
        result = CheckResult(log.quality, report, outlook.lines(), folder)
        _write_json(result.to_dict(), folder / "quality.json")
        return result

    def features(self, cutoffs: Sequence[Any], *, progress: Progress = SILENT) -> pandas.DataFrame:
        """Return ``customer_id``, ``cutoff`` and the features of everyone known before each cutoff."""
        from cxml.features.export import feature_frame

        log = self.read(progress=progress)
        moments = sorted({_instant(c, "--cutoff") for c in cutoffs})
        return feature_frame(log, self._features(log, moments[0]), moments, progress)

    def write_features(
        self, cutoffs: Sequence[Any], out: str | os.PathLike[str], *, progress: Progress = SILENT
    ) -> tuple[int, list[str]]:
        """Write the feature frame as Parquet, or CSV where the name ends so; return rows and feature names."""
        from cxml.features.export import write_features

        log = self.read(progress=progress)
        moments = sorted({_instant(c, "--cutoff") for c in cutoffs})
        features = self._features(log, moments[0])
        return write_features(log, features, moments, out, progress), list(features.plan_.columns)

    def _features(self, log: JourneyLog, until: int) -> JourneyFeatures:
        from cxml.features.frame import JourneyFeatures

        return JourneyFeatures.from_config(self.config).fit(log, until=until)

    def train(
        self, *, out: str | os.PathLike[str] | None = None, track: bool = True, progress: Progress = SILENT
    ) -> TrainResult:
        """Learn, test, save the model folder, and record the run in MLflow.

        Parameters
        ----------
        out : path, optional
            Model folder; default ``models/NAME``. Replaced as a whole.
        track : bool
            Record the run. A tracking store that cannot be reached does not cost the model: it is saved first.
        progress : Progress

        Returns
        -------
        TrainResult
        """
        from cxml.models.store import MANIFEST, save_model
        from cxml.training.learn import train

        folder = Path(out) if out is not None else Path("models") / self.config.name
        refuse_to_replace(folder, MANIFEST)  # now, not after an hour of training
        trained = train(self.read(progress=progress), self.config, self.leavers(), progress)
        save_model(trained.model, folder, trained.card)
        progress.say(f"model saved to {folder}")
        run, failure = None, None
        if track:
            try:
                run = self._track(trained, folder, progress)
            except Exception as error:  # the model is safe on disk; losing the record must not lose it
                failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return TrainResult(trained, folder, run, failure)

    def _track(self, trained: Trained, folder: Path, progress: Progress) -> Any:
        import tempfile

        from cxml.tracking.record import run_record
        from cxml.tracking.runs import log_training

        with tempfile.TemporaryDirectory() as plots, progress.step("record in MLflow") as _:
            return log_training(
                folder,
                uri=self.tracking_uri,
                experiment=self.config.tracking.experiment or self.config.name,
                run_name=f"{self.config.name}-{trained.model.version}",
                register_as=self.config.name if self.config.tracking.register_model else None,
                **run_record(trained, self.config, plots),
            )

    @property
    def tracking_uri(self) -> str:
        """The MLflow URI, with SQLite paths made absolute."""
        uri = expand(self.config.tracking.uri)
        if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
            return f"sqlite:///{resolve_path(uri.removeprefix('sqlite:///'), self.config.folder).resolve()}"
        return uri

    def score(
        self,
        model: str | os.PathLike[str],
        *,
        cutoff: Any = None,
        out: str | os.PathLike[str] | None = None,
        reasons: int = 3,
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> ScoreResult:
        """Score every customer known before the cutoff who has not left.

        Parameters
        ----------
        model : path or str
            A model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        cutoff : date, optional
            Only events before it count. Default: ``snapshots.end``, else just after the last event; where the
            project has surveys and no churn, the moment each customer was last asked.
        out : path, optional
            Parquet or CSV file to write.
        reasons : int
            How many reasons a customer; 0 is fastest.
        threads : int, optional
            Default: all cores.
        progress : Progress

        Returns
        -------
        ScoreResult
        """
        from cxml.models.store import load_model
        from cxml.scoring.batch import score_log, write_scores
        from cxml.scoring.question import check_question

        loaded = load_model(self.model_folder(model))
        check_question(loaded, self.config)
        log = self.read(progress=progress)
        moment = self._moment(log) if cutoff is None else _instant(cutoff, "--cutoff")
        table = score_log(
            loaded, log, moment, churn=self.config.churn, leavers=self.leavers(), reasons=reasons, threads=threads,
            progress=progress,
        )  # fmt: skip
        if out is not None:
            write_scores(table, out)
        return ScoreResult(table, None if out is None else Path(out), log.quality)

    def _moment(self, log: JourneyLog) -> int | SatisfactionConfig:
        """When to score unless told otherwise: see `score`."""
        satisfaction = self.config.satisfaction
        if self.config.churn is None and satisfaction is not None and satisfaction.asked:
            return satisfaction
        return log.last + 1 if self.config.snapshots.end is None else self.config.snapshots.end

    def model_folder(self, ref: str | os.PathLike[str]) -> Path:
        """Turn a reference to a model into a folder; only ``runs:/`` and ``models:/`` need MLflow."""
        text = os.fspath(ref)
        if text.startswith(("runs:/", "models:/")):
            from cxml.tracking.registry import resolve

            return resolve(text, self.tracking_uri)
        return Path(text)


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Parameters
    ----------
    quality : QualityReport
    leakage : LeakageReport or None
        None where it was not asked for.
    notes : list of str
        What training would look at.
    folder : Path
        Where the report was written.
    """

    quality: QualityReport
    leakage: LeakageReport | None
    notes: list[str]
    folder: Path

    @property
    def leaks(self) -> bool:
        """Whether a feature saw past its cutoff."""
        return self.leakage is not None and not self.leakage.clean

    def lines(self) -> list[str]:
        """Return the report for people."""
        lines = [*self.quality.lines(), *self.notes]
        if self.leakage is not None:
            lines.append(str(self.leakage))
        return [*lines, f"report: {self.folder / 'quality.json'}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "quality": self.quality.to_dict(),
            "snapshots": self.notes,
            "leakage": None if self.leakage is None else {"clean": self.leakage.clean, "report": str(self.leakage)},
        }


@dataclass(frozen=True)
class TrainResult:
    """What training made.

    Parameters
    ----------
    trained : Trained
    folder : Path
        The model folder.
    run : TrackedRun or None
    tracking_failure : str or None
        Why the run was not recorded, where it was to be.
    """

    trained: Trained
    folder: Path
    run: Any
    tracking_failure: str | None

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return one table a target: metrics of the model beside the baselines on the same snapshots."""
        return [exam.table() for exam in self.trained.exams.values()]

    def lines(self) -> list[str]:
        """Say where everything is."""
        lines = [*self.trained.verdicts(), f"model {self.trained.model.version}: {self.folder}"]
        if self.run is not None:
            lines.append(f"MLflow run {self.run.run_id} in {self.run.uri}")
            if self.run.version is not None:
                lines.append(f"registered as {self.trained.model.name} version {self.run.version}")
        if self.tracking_failure:
            lines.append(f"warning: not recorded in MLflow ({self.tracking_failure}); the model folder is complete")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the result for machines."""
        return {
            "model": str(self.folder),
            "version": self.trained.model.version,
            "run_id": None if self.run is None else self.run.run_id,
            "registered_version": None if self.run is None else self.run.version,
            "tracking_failure": self.tracking_failure,
            "metrics": self.trained.metrics(),
        }


@dataclass(frozen=True)
class ScoreResult:
    """The scores, and where they are.

    Parameters
    ----------
    table : pyarrow.Table
    out : Path or None
    quality : QualityReport
        Of the journeys that were read.
    """

    table: pyarrow.Table
    out: Path | None
    quality: QualityReport

    def when(self) -> str:
        """Say the cutoff, or from when to when cutoffs lie."""
        moments = self.table.column("cutoff").cast("int64").to_numpy()
        first, last = format_instant(int(moments.min())), format_instant(int(moments.max()))
        return first if first == last else f"{first} to {last}"

    def counts(self, column: str) -> dict[str, int]:
        """Count the values of a text column, in the order low, medium, high where it has one."""
        values = self.table.column(column).to_pylist()
        order = {name: i for i, name in enumerate(("low", "medium", "high", "ok", "thin", "stale", "unseen"))}
        return {name: values.count(name) for name in sorted(set(values), key=lambda v: order.get(v, 99))}

    def lines(self) -> list[str]:
        """Say what was scored."""
        lines = [f"{len(self.table):,} customers scored at {self.when()}"]
        for column in ("risk_band", "status"):
            if column in self.table.column_names:
                counts = ", ".join(f"{name} {n:,}" for name, n in self.counts(column).items())
                lines.append(f"{column.replace('_', ' ')}: {counts}")
        if "expected_nps" in self.table.column_names:
            lines.append(f"expected NPS of all of them: {_mean(self.table, 'expected_nps'):+.1f}")
        elif "expected_score" in self.table.column_names:
            lines.append(f"expected score of all of them: {_mean(self.table, 'expected_score'):.2f}")
        if self.out is not None:
            lines.append(f"scores: {self.out}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        columns = self.table.column_names
        summary: dict[str, Any] = {
            "out": None if self.out is None else str(self.out),
            "cutoff": self.when(),
            "customers": len(self.table),
            "model_version": self.table.column("model_version")[0].as_py(),
            "rows_quarantined": self.quality.rows_quarantined,
        }
        summary |= {name: self.counts(name) for name in ("risk_band", "status") if name in columns}
        return summary | {f"mean_{n}": _mean(self.table, n) for n in ("expected_nps", "expected_score") if n in columns}


def _write_json(content: Any, path: Path) -> None:
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _mean(table: pyarrow.Table, column: str) -> float:
    return float(table.column(column).to_numpy().mean())


def _instant(value: Any, option: str) -> int:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
