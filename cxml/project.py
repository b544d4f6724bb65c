"""The facade: a project file, and the few things one does with it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import BytesField, ProjectConfig, expand, load_config, resolve_path
from cxml.errors import ConfigError, DataError, nearest
from cxml.files import refuse_to_replace, refuse_unknown_ending, write_aside
from cxml.progress import SILENT, Progress
from cxml.times import DAY_US, Duration, parse_instant

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from cxml.config import SatisfactionConfig
    from cxml.evaluate.definition import DefinitionReport
    from cxml.features.frame import JourneyFeatures
    from cxml.features.leakage import LeakageReport
    from cxml.journeys.log import JourneyLog
    from cxml.journeys.quality import QualityReport
    from cxml.models.store import SavedModel
    from cxml.scoring.night import Destination
    from cxml.scoring.output import Summary
    from cxml.training.backtest import Backtest
    from cxml.training.curves import HistoryCurve, LearningCurve
    from cxml.training.learn import Trained
    from cxml.training.nps import NpsReport
    from cxml.training.studies import Gather
    from cxml.training.tune import Tuned

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
        from cxml.features.ahead import load_features
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
                meanwhile=load_features,
                progress=progress,
            )
            quality = replace(self._log.quality, words_that_never_occur=self._words_that_never_occur(self._log))
            self._log = replace(self._log, quality=quality)
        return self._log

    def _read_and_tell(self, progress: Progress) -> JourneyLog:
        """Read, and say how many rows were set aside, where the result will not."""
        log = self.read(progress=progress)
        if (set_aside := log.quality.set_aside()) is not None:
            progress.say(set_aside)
        return log

    def _words_that_never_occur(self, log: JourneyLog) -> dict[str, str]:
        """Those of the journeys, and those of what is to be learned."""
        from cxml.journeys.taxonomy import words_that_never_occur

        words: dict[str, list[str]] = {}
        churn, satisfaction = self.config.churn, self.config.satisfaction
        if churn is not None:
            words |= {f"churn.{key}": getattr(churn, key) for key in ("touchpoints", "starts", "ends")}
        if satisfaction is not None:
            words["satisfaction.touchpoint"] = [satisfaction.touchpoint]
            words["satisfaction.asked"] = [satisfaction.asked] if satisfaction.asked else []
        return {**log.quality.words_that_never_occur, **words_that_never_occur(words, log.events.touchpoints)}

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
                    f"'{ids[0]}', first customer '{customers[0]}'). Give both the same ids."
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
        from cxml.features.modules import load_modules
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
                load_modules(self.config, again=True)  # a function that remembers may have seen all by now
                report = check_leakage(log, outlook.plan, snapshots, random_state=self.config.random_state)
        result = CheckResult(log.quality, report, outlook.lines(), folder, outlook.refusals)
        _write_json(result.to_dict(), folder / "quality.json")
        return result

    def define_churn(
        self,
        *,
        gaps: Sequence[Any] = (),
        within: Any = None,
        tolerated: float = 0.2,
        until: Any = None,
        out: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> DefinitionReport:
        """Measure how long a customer must be silent to be called gone; for logs without a cancellation.

        Parameters
        ----------
        gaps : sequence of str, optional
            Gaps to try, such as ``"30d"``; default: round numbers of days that the log can judge.
        within : str, optional
            Back means within so long after having been called gone; default: the longest round time in a quarter
            of the log, at most a year.
        tolerated : float
            Largest share of those called gone that may come back.
        until : date, optional
            Read the log as if it ended here.
        out : path, optional
            Parquet or CSV file of the table.
        plot : path, optional
            PNG or SVG file of the picture.
        progress : Progress

        Returns
        -------
        DefinitionReport
        """
        from cxml.evaluate.definition import define_churn
        from cxml.evaluate.definition_plot import picture_format, save_definition_plot

        refuse_unknown_ending(out)
        if plot is not None:
            picture_format(plot)  # refused now, not after the reading
        days = [_whole_days(gap, "--gap") for gap in gaps]
        back = None if within is None else _whole_days(within, "--within")
        end = None if until is None else _instant(until, "--until")
        log = self.read(progress=progress)
        report = define_churn(
            log, self.config.churn, self.config.snapshots, gaps=days, within=back, tolerated=tolerated, until=end,
            random_state=self.config.random_state, progress=progress,
        )  # fmt: skip
        if out is not None:
            report.write(out)
        if plot is not None:
            save_definition_plot(report.definition, plot)
        return report

    def features(
        self, cutoffs: Sequence[Any], *, model: str | os.PathLike[str] | None = None, progress: Progress = SILENT
    ) -> pandas.DataFrame:
        """Return ``customer_id``, ``cutoff`` and the features of everyone known before each cutoff.

        Parameters
        ----------
        cutoffs : sequence of date
        model : path or str, optional
            Compute the features of this model, as `score` does. Default: choose and learn them, those from outcomes
            too, from what was known before the earliest cutoff.
        progress : Progress
        """
        from cxml.features.export import feature_frame

        log = self.read(progress=progress)
        moments = sorted({_instant(c, "--cutoff") for c in cutoffs})
        return feature_frame(log, self._features(log, moments[0], model, progress), moments, progress)

    def write_features(
        self,
        cutoffs: Sequence[Any],
        out: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> tuple[int, list[str]]:
        """Write the frame of `features` as Parquet, or CSV where the name ends so; return rows and feature names."""
        from cxml.features.export import write_features

        refuse_unknown_ending(out)
        log = self.read(progress=progress)
        moments = sorted({_instant(c, "--cutoff") for c in cutoffs})
        features = self._features(log, moments[0], model, progress)
        return write_features(log, features, moments, out, progress), list(features.plan_.columns)

    def _features(
        self, log: JourneyLog, until: int, model: str | os.PathLike[str] | None, progress: Progress
    ) -> JourneyFeatures:
        from cxml.features.frame import JourneyFeatures
        from cxml.features.learn import Choice, needs_outcomes
        from cxml.training.hindsight import hindsight_before

        if model is not None:
            return JourneyFeatures.from_plan(self._model(model).plan)
        known = None
        if needs_outcomes(Choice.from_config(self.config)):
            known = hindsight_before(log, self.config, until, self.leavers(progress))
        features = JourneyFeatures.from_config(self.config).fit(log, until=until, outcomes=known)
        for note in features.notes_:
            progress.say(note)
        return features

    def _model(self, ref: str | os.PathLike[str]) -> SavedModel:
        """Load a model, and refuse one that answers another question than the project asks."""
        from cxml.features.custom import registered
        from cxml.features.modules import load_modules
        from cxml.models.store import load_model
        from cxml.scoring.question import check_question

        load_modules(self.config)
        loaded = load_model(self.model_folder(ref))
        check_question(loaded, self.config)
        for name in loaded.plan.custom:
            registered(name)  # refused now, not after the reading
        return loaded

    def train(
        self,
        *,
        out: str | os.PathLike[str] | None = None,
        track: bool = True,
        tune: int | None = None,
        strict: bool = False,
        engine: str = "local",
        master: str | None = None,
        parts: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> TrainResult:
        """Learn, test, save the model folder, and record the run in MLflow.

        Parameters
        ----------
        out : path, optional
            Model folder; default ``models/NAME``. Replaced as a whole.
        track : bool
            Record the run. A tracking store that cannot be reached does not cost the model: it is saved first.
        tune : int, optional
            Search for better parameters first, in so many trials; see `cxml.training.tune.tune`. Finished trials are
            kept beside the model folder, in ``NAME.tuning.db``, and the same call goes on from them.
        strict : bool
            Refuse a model that is no better than one of the baselines on the test: the folder keeps what it held, and
            the run is recorded but not registered. See ``refusal`` of the result.
        engine : {"local", "spark"}
            Where snapshots and features are made; the model is the same, see docs/spark.md.
        master : str, optional
            With Spark: as in `score_on_spark`.
        parts : path or URI, optional
            With Spark: a folder that driver and workers share, for what is on its way between them. Default: the
            folder that the model folder is in.
        progress : Progress

        Returns
        -------
        TrainResult
        """
        from cxml.models.store import MANIFEST

        folder = Path(out) if out is not None else Path("models") / self.config.name
        refuse_to_replace(folder, MANIFEST)  # now, not after an hour of training
        with self._gatherer(engine, master, parts, folder, tune) as gather:
            return self._train(folder, track, tune, strict, gather, progress)

    @contextmanager
    def _gatherer(
        self, engine: str, master: str | None, parts: str | os.PathLike[str] | None, folder: Path, tune: int | None
    ) -> Iterator[Gather]:
        """Give what makes the snapshots of training."""
        from cxml.training.spark import gatherer, refuse_on_spark
        from cxml.training.studies import gather_here

        if engine not in ("local", "spark"):
            raise ConfigError(f"engine: '{engine}' is unknown{nearest(engine, ['local', 'spark'])}")
        if engine == "local":
            if master is not None or parts is not None:
                raise ConfigError("'master' and 'parts' need engine='spark'. Leave them out, or change the engine.")
            yield gather_here
            return
        refuse_on_spark(self.config, tune)
        with gatherer(master, parts or folder.absolute().parent, self.as_of) as gather:
            yield gather

    def _train(
        self, folder: Path, track: bool, tune: int | None, strict: bool, gather: Gather, progress: Progress
    ) -> TrainResult:
        from cxml.models.store import save_model
        from cxml.training.learn import train

        log, config, tuned = self._read_and_tell(progress), self.config, {}
        if tune is not None:
            from cxml.training.tune import tune as search
            from cxml.training.tune import with_tuned

            trials = folder.with_name(f"{folder.name}.tuning.db")
            tuned = search(log, config, tune, self.leavers(), progress, storage=trials)
            config = with_tuned(config, tuned)
        found = {target: one.to_dict() for target, one in tuned.items()}
        trained = train(log, config, self.leavers(), progress, tuning=found, gather=gather)
        refusal = trained.refusal() if strict else None
        run, failure = None, None
        with tempfile.TemporaryDirectory() as elsewhere:
            place = folder if refusal is None else Path(elsewhere) / "model"
            save_model(trained.model, place, trained.card)
            progress.say(f"model saved to {folder}" if refusal is None else f"{folder} is left as it was")
            if track:
                try:
                    run = self._track(trained, config, tuned, place, progress, register=refusal is None)
                except Exception as error:  # the model is safe on disk; losing the record must not lose it
                    failure = _first_line(error)
        return TrainResult(trained, folder, run, failure, tuned, refusal)

    def learning_curves(
        self, *, repeats: int = 3, plot: str | os.PathLike[str] | None = None, progress: Progress = SILENT
    ) -> list[LearningCurve]:
        """Measure how the test loss falls with the customers learned from, and say what more would bring.

        Parameters
        ----------
        repeats : int
            How often a small share of the customers is drawn.
        plot : path, optional
            PNG, SVG or PDF file of the picture.
        progress : Progress

        Returns
        -------
        list of LearningCurve
            One a target; see `cxml.training.curves.learning_curves`.
        """
        from cxml.evaluate.plots import plot_format, save_plot
        from cxml.training.curves import draw_curves, learning_curves

        if plot is not None:
            plot_format(plot)  # refused now, not after the training
        curves = learning_curves(self.read(progress=progress), self.config, self.leavers(), progress, repeats=repeats)
        if plot is not None:
            save_plot(plot, draw_curves(curves))
        return curves

    def history_curves(
        self,
        *,
        keep: Sequence[Any] = (),
        tolerance: float = 0.01,
        plot: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> list[HistoryCurve]:
        """Measure how the test loss falls with the days of history that features may see.

        Parameters
        ----------
        keep : sequence of str, optional
            Histories to try, such as ``"90d"``; default: some from a week to two years.
        tolerance : float
            How much worse is still enough, as a share of the loss with all history.
        plot : path, optional
            PNG, SVG or PDF file of the picture.
        progress : Progress

        Returns
        -------
        list of HistoryCurve
            One a target; see `cxml.training.curves.history_curves`.
        """
        from cxml.evaluate.plots import plot_format, save_plot
        from cxml.training.curves import draw_curves, history_curves

        if plot is not None:
            plot_format(plot)  # refused now, not after the training
        days = [_whole_days(each, "--keep") for each in keep]
        curves = history_curves(
            self.read(progress=progress), self.config, self.leavers(), progress, days=days or None, tolerance=tolerance
        )
        if plot is not None:
            save_plot(plot, draw_curves(curves))
        return curves

    def _track(
        self, trained: Trained, config: ProjectConfig, tuned: Mapping[str, Tuned], folder: Path, progress: Progress,
        *, register: bool,
    ) -> Any:  # fmt: skip
        from cxml.tracking.record import run_record
        from cxml.tracking.runs import log_training

        with tempfile.TemporaryDirectory() as plots, progress.step("record in MLflow") as _:
            return log_training(
                folder,
                uri=self.tracking_uri,
                experiment=self.config.tracking.experiment or self.config.name,
                run_name=f"{self.config.name}-{trained.model.version}",
                register_as=self.config.name if register and self.config.tracking.register_model else None,
                **run_record(trained, config, plots, tuned),
            )

    def backtest(
        self,
        *,
        folds: int | None = None,
        random_split: bool = False,
        by: Sequence[str] = (),
        out: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        track: bool = True,
        progress: Progress = SILENT,
    ) -> Backtest:
        """Learn and test as if on several days of the past; see `cxml.training.backtest.backtest`.

        Parameters
        ----------
        folds : int, optional
            Exactly so many; default: as many as fit, at most five.
        random_split : bool
            Also show by how much a random split flatters.
        by : sequence of str
            Attributes whose segments the tables for people show; default: all. ``out`` holds those of all.
        out : path, optional
            Parquet or CSV file for every figure; see `Backtest.table`.
        plot : path, optional
            PNG, SVG or PDF file for the deciding metrics by fold.
        track : bool
            Record it in MLflow: a run for all folds together, and one below it for each fold. A store that cannot be
            reached does not cost the figures: it is said, and they are returned.
        progress : Progress

        Returns
        -------
        Backtest
        """
        from cxml.evaluate.plots import plot_format, save_plot
        from cxml.scoring.batch import write_scores
        from cxml.training.backtest import backtest, demand_attributes

        refuse_unknown_ending(out)
        if plot is not None:
            plot_format(plot)  # now, not after an hour
        by = (by,) if isinstance(by, str) else tuple(by)
        about = self.config.customers
        demand_attributes(by, (*self.config.journeys.attributes, *(about.attributes if about else ())))
        log = self.read(progress=progress)
        result = backtest(log, self.config, self.leavers(), progress, folds=folds, random_split=random_split, by=by)
        if out is not None:
            write_scores(result.table(), out)
        if plot is not None:
            save_plot(plot, result.plot())
        if track:
            try:
                self._track_backtest(result, log.digest, progress)
            except Exception as error:  # what was found must not be lost with the record of it
                progress.say(f"not recorded in MLflow ({_first_line(error)})")
        return result

    def _track_backtest(self, result: Backtest, digest: str, progress: Progress) -> None:
        from cxml.evaluate.plots import save_plot
        from cxml.scoring.batch import write_scores
        from cxml.tracking.record import backtest_record
        from cxml.tracking.runs import log_findings

        with tempfile.TemporaryDirectory() as folder, progress.step("record in MLflow") as _:
            files = [Path(folder) / "backtest.csv", Path(folder) / "backtest.png"]
            write_scores(result.table(), files[0])
            save_plot(files[1], result.plot())
            log_findings(
                uri=self.tracking_uri,
                experiment=self.config.tracking.experiment or self.config.name,
                run_name=f"{self.config.name}-backtest",
                artifacts=files,
                **backtest_record(result, self.config, digest),
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
        table: str | None = None,
        reasons: int = 3,
        shard: str | None = None,
        since: str | os.PathLike[str] | None = None,
        fresh: bool = False,
        memory_limit: str | int | None = None,
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> ScoreResult:
        """Score every customer known before the cutoff who has not left.

        With ``out`` it goes part by part: finished parts lie beside ``out`` until it is done, and a job that was
        killed goes on with what is left.

        Parameters
        ----------
        model : path or str
            A model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        cutoff : date, optional
            Only events before it count. Default: ``snapshots.end``, else just after the last event; where the
            project has surveys and no churn, the moment each customer was last asked.
        out : path or str, optional
            Parquet or CSV file to write, or the URL of a PostgreSQL database. Default: scores stay in memory.
        table : str, optional
            Of the database; see `cxml.scoring.database.upsert`.
        reasons : int
            How many reasons a customer; 0 is fastest.
        shard : str, optional
            ``"2/5"``: score only this share of the customers; `merge_scores` puts the shards together.
        since : path, optional
            Parquet file of an earlier run: write only what is different; see `cxml.scoring.changes.changes_since`.
        fresh : bool
            Take over no parts of a job that was killed.
        memory_limit : str, optional
            Instead of ``journeys.memory_limit``, where the journeys have not been read yet.
        threads : int, optional
            Default: all cores.
        progress : Progress

        Returns
        -------
        ScoreResult
        """
        from cxml.scoring.batch import Question, score_log
        from cxml.scoring.night import Destination, refuse_together, score_to
        from cxml.scoring.output import Summary
        from cxml.scoring.shards import Shard

        share = None if shard is None else Shard.parse(shard)
        destination = None if out is None else Destination.of(out, table)
        earlier = None if since is None else Path(since)
        if destination is not None:
            refuse_together(destination, share, earlier)
        elif earlier is not None or table is not None:
            raise ConfigError("'since' and 'table' are for scores that are written: say where with 'out'")
        if memory_limit is not None and self._log is None:
            self.config = _with_memory_limit(self.config, memory_limit)
        loaded = self._model(model)
        log = self.read(progress=progress)
        moment, why = self._moment(log) if cutoff is None else (_instant(cutoff, "--cutoff"), "as asked")
        question = Question(loaded, moment, self.config.churn, self.leavers(), reasons, share)
        if destination is None:
            scores = score_log(
                loaded, log, moment, churn=question.churn, leavers=question.leavers, reasons=reasons, shard=share,
                threads=threads, progress=progress,
            )  # fmt: skip
            return ScoreResult(Summary().add(scores), None, log.quality, why, scores)
        summary = score_to(
            question, log, destination, home=self.out, since=earlier, fresh=fresh, threads=threads, progress=progress
        )
        return ScoreResult(summary, destination, log.quality, why)

    def score_on_spark(
        self,
        model: str | os.PathLike[str],
        *,
        cutoff: Any = None,
        out: str | os.PathLike[str] | None = None,
        table: str | None = None,
        events: Any = None,
        reasons: int = 3,
        master: str | None = None,
        partitions: int | None = None,
        progress: Progress = SILENT,
    ) -> ScoreResult:
        """Score as `score` does, on Spark: the same bits, see docs/spark.md.

        Parameters
        ----------
        model, reasons, progress
            As in `score`.
        cutoff : date, optional
            As in `score`, but not the end of the log, which nobody knows before it is read.
        out : path or str, optional
            As in `score`; a name without ending, or a URI such as ``s3a://bucket/scores``, is a folder of Parquet
            files, which the workers write. Default: scores stay in memory.
        table : str, optional
            Of the database that ``out`` names.
        events : DataFrame of Spark or str, optional
            Read this table instead of the sources; its columns are called as in the first of them.
        master : str, optional
            Default: what ``spark-submit`` says, else all cores of this machine.
        partitions : int, optional
            Into how many parts to cut the customers; the numbers do not depend on it.

        Returns
        -------
        ScoreResult
        """
        from cxml.scoring.night import Destination
        from cxml.scoring.output import regrouped
        from cxml.scoring.spark import open_spark, score_spark
        from cxml.scoring.spark.run import is_folder, refuse_unsent

        folder = None if out is None or not is_folder(out) else os.fspath(out)
        if folder is not None and table is not None:
            raise ConfigError(f"--table is for a database; --out '{out}' is a folder. Leave one of them out.")
        destination = None if out is None else Destination(folder) if folder is not None else Destination.of(out, table)
        moment, why = self._moment_before_reading() if cutoff is None else (_instant(cutoff, "--cutoff"), "as asked")
        refuse_unsent(self._model(model).plan.custom, self.config)
        with open_spark(master) as spark:
            scored = score_spark(
                spark, self.model_folder(model), self.config, moment, folder, events=events, reasons=reasons,
                as_of=self.as_of, partitions=partitions, quarantine=self.out / "quarantine.parquet", progress=progress,
            )  # fmt: skip
        scores = scored.table
        if destination is not None and scores is not None:
            destination.write(regrouped([scores], scores.schema), scores.schema)
        kept = scores if destination is None else None
        return ScoreResult(scored.summary, destination, scored.quality, why, kept)

    def write_features_on_spark(
        self,
        cutoffs: Sequence[Any],
        out: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str],
        events: Any = None,
        master: str | None = None,
        partitions: int | None = None,
        progress: Progress = SILENT,
    ) -> tuple[int, list[str]]:
        """Write the features of a model as `write_features` does, on Spark; return rows and feature names.

        Parameters
        ----------
        cutoffs, model
            As in `features`.
        out, events, master, partitions, progress
            As in `score_on_spark`.
        """
        from cxml.scoring.spark import features_spark, open_spark

        moments = sorted({_instant(c, "--cutoff") for c in cutoffs})
        plan = self._model(model).plan
        with open_spark(master) as spark:
            n_rows = features_spark(
                spark, plan, self.config, moments, out, events=events, as_of=self.as_of, partitions=partitions,
                quarantine=self.out / "quarantine.parquet", progress=progress,
            )  # fmt: skip
        return n_rows, list(plan.columns)

    def _moment_before_reading(self) -> tuple[int | SatisfactionConfig, str]:
        """When to score unless told otherwise, where the log is not known yet."""
        satisfaction = self.config.satisfaction
        if self.config.churn is None and satisfaction is not None and satisfaction.asked:
            return satisfaction, "when each customer was last asked"
        if self.config.snapshots.end is not None:
            return self.config.snapshots.end, "snapshots.end; --cutoff chooses another day"
        raise ConfigError("on Spark nobody knows the end of the log beforehand: say when to score with --cutoff")

    def nps(
        self,
        model: str | os.PathLike[str],
        *,
        cutoff: Any = None,
        window: str | None = None,
        every: str | None = None,
        by: str | None = None,
        level: float = 0.95,
        hidden: float = 0.05,
        bootstrap: int | None = None,
        ask: int | None = None,
        out: str | os.PathLike[str] | None = None,
        ask_out: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> NpsReport:
        """Estimate the satisfaction of everybody from the answers of some; see `cxml.training.nps.nps_report`.

        Parameters
        ----------
        model : path or str
            As in `score`.
        cutoff : date, optional
            Whose satisfaction: the customers of this moment; only what was known before it counts. Default:
            ``snapshots.end``, else just after the last event.
        window : str, optional
            Answers of so long before count, such as ``90d``; default: ``snapshots.lookback``.
        every : str, optional
            ``month`` or a duration: figures over time.
        by : str, optional
            An attribute: figures of each of its values.
        level : float
            Of the intervals.
        hidden : float
            Intervals of corrected figures allow for up to such a share of what moves both feeling and answering to
            be in no feature; from 0 to below 1.
        bootstrap : int, optional
            Intervals come from so many draws of whole customers, 100 at least; default: from influence functions.
        ask : int, optional
            How many surveys to send next.
        out, ask_out : path, optional
            Parquet or CSV files of the figures, and of whom to ask.
        plot : path, optional
            PNG, SVG or PDF file of the picture.
        progress : Progress

        Returns
        -------
        NpsReport
        """
        from cxml.evaluate.expected_nps import FEWEST_DRAWS
        from cxml.evaluate.nps_plot import save_nps_plot
        from cxml.evaluate.plots import plot_format
        from cxml.training.nps import nps_report, write_frame

        refuse_unknown_ending(out)
        refuse_unknown_ending(ask_out, "--ask-out")
        if plot is not None:
            plot_format(plot)  # refused now, not after the work
        if ask_out is not None and ask is None:
            raise ConfigError("--ask-out is the file of whom to ask: say how many with --ask")
        if not 0 < level < 1:
            raise ConfigError(f"--level is {level}; it must lie between 0 and 1, e.g. 0.95")
        if not 0 <= hidden < 1:
            raise ConfigError(f"--hidden is {hidden}; it must be 0 or more and below 1, e.g. 0.05")
        if bootstrap is not None and bootstrap < FEWEST_DRAWS:
            raise ConfigError(f"--bootstrap is {bootstrap}; give {FEWEST_DRAWS} draws or more, e.g. 1000")
        span = every if every in (None, "month") else _duration(every, "--every")
        back = None if window is None else _duration(window, "--window")
        loaded = self._model(model)
        log = self._read_and_tell(progress)
        moment = self.config.snapshots.end if cutoff is None else _instant(cutoff, "--cutoff")
        report = nps_report(
            log, self.config, loaded, until=moment, window=back, every=span, by=by, level=level, hidden=hidden,
            bootstrap=bootstrap, ask=ask, leavers=self.leavers(), progress=progress,
        )  # fmt: skip
        if out is not None:
            report.write(out)
        if ask_out is not None and report.to_ask is not None:
            write_frame(report.to_ask, ask_out)
        if plot is not None:
            save_nps_plot(report.frame(), plot)
        return report

    def _moment(self, log: JourneyLog) -> tuple[int | SatisfactionConfig, str]:
        """When to score unless told otherwise, and why then: see `score`."""
        satisfaction = self.config.satisfaction
        if self.config.churn is None and satisfaction is not None and satisfaction.asked:
            return satisfaction, "when each customer was last asked"
        if self.config.snapshots.end is not None:
            return self.config.snapshots.end, "snapshots.end; --cutoff chooses another day"
        return log.last + 1, "just after the last event"

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
    refusals : tuple of str
        Why training would refuse; among ``notes`` too.
    """

    quality: QualityReport
    leakage: LeakageReport | None
    notes: list[str]
    folder: Path
    refusals: tuple[str, ...] = ()

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
            "refusals": list(self.refusals),
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
    tuned : mapping of str to Tuned
        By target what a search for parameters found; empty where none was asked for.
    refusal : str or None
        Why the model was not saved, where only one that is better than every baseline was wanted.
    """

    trained: Trained
    folder: Path
    run: Any
    tracking_failure: str | None
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    refusal: str | None = None

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return one table a target: metrics of the model beside the baselines on the same snapshots."""
        return [exam.table() for exam in self.trained.exams.values()]

    def lines(self) -> list[str]:
        """Say where everything is."""
        lines = [f"tuned: {found.line()}" for found in self.tuned.values()]
        where = self.folder if self.refusal is None else "not saved, not registered"
        lines += [*self.trained.verdicts(), f"model {self.trained.model.version}: {where}"]
        if self.run is not None:
            lines.append(f"MLflow run {self.run.run_id} in {self.run.uri}")
            if self.run.version is not None:
                lines.append(f"registered as {self.trained.model.name} version {self.run.version}")
        return lines

    def warnings(self) -> list[str]:
        """Say what went wrong beside the training."""
        if not self.tracking_failure:
            return []
        folder = "the model folder is complete" if self.refusal is None else "nothing is left of this training"
        return [f"not recorded in MLflow ({self.tracking_failure}); {folder}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the result for machines."""
        return {
            "model": str(self.folder) if self.refusal is None else None,
            "refusal": self.refusal,
            "version": self.trained.model.version,
            "run_id": None if self.run is None else self.run.run_id,
            "registered_version": None if self.run is None else self.run.version,
            "tracking_failure": self.tracking_failure,
            "metrics": self.trained.metrics(),
            **({"tuning": {target: found.to_dict() for target, found in self.tuned.items()}} if self.tuned else {}),
        }


@dataclass(frozen=True)
class ScoreResult:
    """The scores, and where they are.

    Parameters
    ----------
    summary : Summary
        What the scores are like.
    destination : Destination or None
        Where they were written; None where they are in memory.
    quality : QualityReport
        Of the journeys that were read.
    why : str
        Why it was scored at that cutoff.
    scores : pyarrow.Table, optional
        Where they are in memory.
    """

    summary: Summary
    destination: Destination | None
    quality: QualityReport
    why: str
    scores: pyarrow.Table | None = None

    @property
    def table(self) -> pyarrow.Table:
        """What was written, read back from its Parquet file, or the scores in memory.

        Raises
        ------
        ConfigError
            If they were written to CSV or to a database, which do not keep types.
        """
        import pyarrow.parquet as pq

        if self.scores is not None:
            return self.scores
        if not str(self.destination).lower().endswith(".parquet"):
            raise ConfigError(
                f"the scores are in {self.destination}; to have them as a table, write Parquet or no file"
            )
        return pq.read_table(str(self.destination))

    def lines(self) -> list[str]:
        """Say what was scored."""
        when = f" at {self.summary.when()} ({self.why})" if self.summary.n else f" ({self.why})"
        lines = [f"{self.summary.n:,} customers scored{when}", *self.summary.lines()]
        if (set_aside := self.quality.set_aside()) is not None:
            lines.append(set_aside)
        if self.destination is not None:
            lines.append(f"{'changes' if 'change' in self.summary.counts else 'scores'}: {self.destination}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        return {
            "out": None if self.destination is None else str(self.destination),
            "cutoff_is": self.why,
            "rows_quarantined": self.quality.rows_quarantined,
            "share_quarantined": self.quality.share_quarantined,
            "quarantine": self.quality.quarantine,
            **self.summary.to_dict(),
        }


def _with_memory_limit(config: ProjectConfig, limit: str | int) -> ProjectConfig:
    """Change how much memory the journeys may take."""
    from pydantic import TypeAdapter, ValidationError

    try:
        size = TypeAdapter(BytesField).validate_python(limit)
    except ValidationError as error:
        raise ConfigError(f"--memory-limit: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return config.model_copy(update={"journeys": config.journeys.model_copy(update={"memory_limit": size})})


def _write_json(content: Any, path: Path) -> None:
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _first_line(error: Exception) -> str:
    """Say what went wrong, in one line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _whole_days(value: Any, option: str) -> int:
    try:
        duration = Duration.parse(value)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if duration.us % DAY_US:
        raise ConfigError(f"{option}: '{value}' is no whole number of days; write for example 30d")
    return duration.us // DAY_US


def _duration(value: Any, option: str) -> Duration:
    try:
        return Duration.parse(value)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def _instant(value: Any, option: str) -> int:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
