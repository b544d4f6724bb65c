"""Better parameters for the trees: a seeded search, judged on purged folds that lie before the test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxml.config import ChurnConfig, ParametersConfig, ProjectConfig, SatisfactionConfig
from cxml.errors import ConfigError, DataError, require
from cxml.evaluate.exam import MODEL
from cxml.evaluate.metrics import log_loss, rps
from cxml.features.plan import FeaturePlan
from cxml.progress import SILENT, Progress
from cxml.times import format_instant
from cxml.training.folds import Course, churn_course, survey_course
from cxml.training.hindsight import hindsight
from cxml.training.learn import config_digest, learn_target, predict_test
from cxml.training.studies import (
    Leavers,
    Study,
    known_churn,
    plan_features,
    refusals_of,
    with_features,
)

if TYPE_CHECKING:
    import optuna

    from cxml.journeys.log import JourneyLog

MOST_FOLDS = 3
#: Trials before the first is cut short, and before the search leaves pure chance.
TRIALS_TO_COMPARE, TRIALS_BY_CHANCE = 5, 10

#: Parameter -> lowest, highest value, whether it is searched on a logarithmic scale, and where the search begins.
SPACE: dict[str, tuple[float, float, bool, float]] = {
    "learning_rate": (0.02, 0.2, True, 0.05),
    "num_leaves": (4, 127, True, 15),
    "max_depth": (2, 12, False, 12),
    "min_child_samples": (5, 300, True, 50),
    "subsample": (0.5, 1.0, False, 1.0),
    "colsample_bytree": (0.2, 1.0, True, 0.5),
    "reg_lambda": (0.001, 100.0, True, 1.0),
}
#: Where the search of a target begins elsewhere.
BEGINS: dict[str, dict[str, float]] = {"churn": {}, "satisfaction": {"colsample_bytree": 0.8}}
_WHOLE = ("num_leaves", "max_depth", "min_child_samples")


@dataclass(frozen=True, slots=True)
class Fold:
    """One purged fold: trees grow on ``train``, stop and calibrate on ``calibration``, are judged on ``test``.

    Parameters
    ----------
    study : Study
        Its ``test`` part ends where the test of the model begins, or earlier.
    plan : FeaturePlan
        Chosen, and learned where it is learned, from what was known before the fold's calibration.
    """

    study: Study
    plan: FeaturePlan


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters and how it did.

    Parameters
    ----------
    number : int
        From 0, which is the parameters as the project file has them.
    parameters : dict
        What was tried; empty for trial 0.
    losses : tuple of float
        By fold, the earliest first; fewer than there are folds where it was cut short.
    state : {"complete", "pruned", "refused"}
        ``pruned``: worse than the median of the trials before it after some folds. ``refused``: LightGBM could make
        nothing of it.
    began_ms, ended_ms : int
        Unix time.
    """

    number: int
    parameters: dict[str, float | int]
    losses: tuple[float, ...]
    state: Literal["complete", "pruned", "refused"]
    began_ms: int
    ended_ms: int

    @property
    def loss(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.losses)) if self.losses else float("nan")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the search found for one target.

    Parameters
    ----------
    target : str
    metric : str
        ``log_loss`` (mean over horizons) or ``rps``.
    folds : tuple of dict
        The moments of each fold, the earliest first.
    trials : tuple of Trial
        In order.
    """

    target: str
    metric: str
    folds: tuple[dict[str, str], ...]
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The complete trial of least loss; the earliest of equals, so that trial 0 yields only to what is better."""
        return min((trial for trial in self.trials if trial.state == "complete"), key=lambda trial: trial.loss)

    def line(self) -> str:
        """Say what was found."""
        before, best = self.trials[0].loss, self.best
        counts = ", ".join(
            f"{n} {state}" for state in ("pruned", "refused") if (n := sum(t.state == state for t in self.trials))
        )
        found = (
            "nothing better than the parameters as they were"
            if best.number == 0
            else f"trial {best.number} is best: " + ", ".join(f"{k} {v:g}" for k, v in best.parameters.items())
        )
        return (
            f"{self.target}: {len(self.trials)} trials on {_count(self.folds)}{f' ({counts})' if counts else ''}; "
            f"{self.metric} {before:.4f} to {best.loss:.4f}; {found}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what a model's manifest keeps: nothing that differs from run to run."""
        return {
            "metric": self.metric,
            "folds": list(self.folds),
            "trials": len(self.trials),
            "pruned": sum(trial.state == "pruned" for trial in self.trials),
            "best_trial": self.best.number,
            "loss": float(f"{self.best.loss:.9g}"),
            "loss_before": float(f"{self.trials[0].loss:.9g}"),
            "parameters": self.best.parameters,
        }


def tune(
    log: JourneyLog,
    config: ProjectConfig,
    n_trials: int,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    storage: str | os.PathLike[str] | None = None,
) -> dict[str, Tuned]:
    """Search for parameters of the trees, for each target by itself.

    Every trial learns as `cxml.training.learn.train` does, on up to three folds that lie one behind the other before
    the test part: each is purged by its labels like the split itself, and has features chosen from its own past. The
    loss is the mean over folds of the log loss (churn, mean over the horizons observed) or of the ranked probability
    score (satisfaction) on the latest part of the fold. Trial 0 is the parameters as they are, so that what is chosen
    is never worse on the folds. The search is by tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms
    for hyper-parameter optimization", NeurIPS 24) and stops a trial that is worse after a fold than the median of
    those before it (Golovin et al. 2017, "Google Vizier", KDD); both as `Optuna <https://optuna.org>`_ has them.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    n_trials : int
        Trials in all, trial 0 among them.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress
    storage : path, optional
        SQLite file that remembers every finished trial: the same search over the same data and config, broken off,
        goes on there, to the very result it would have had. Default: memory alone. One process at a time.

    Returns
    -------
    dict of str to Tuned
        By target; a target without a fold is left out.

    Raises
    ------
    ConfigError
        If Optuna is missing, the storage cannot be used, or there is not one trial to make.
    DataError
        If the log is too short for a fold, or nothing can be learned from one.
    """
    if n_trials < 1:
        raise ConfigError(f"--tune is {n_trials}; it must be 1 or more trials, e.g. --tune 50")
    with _storage(storage) as opened:
        found, missing = {}, []
        for target in ("churn", "satisfaction"):
            if getattr(config, target) is None:
                continue
            folds = make_folds(log, config, target, leavers, progress)
            if not folds:
                missing.append(_no_fold(log, config, target, leavers))
                progress.say(f"not tuned: {missing[-1]}")
                continue
            found[target] = _search(folds, config, n_trials, opened, _name(log, config, folds), progress)
    if not found:
        raise DataError(" ".join(missing))
    return found


def with_tuned(config: ProjectConfig, tuned: Mapping[str, Tuned]) -> ProjectConfig:
    """Return the project as if what was found had been written in its file.

    Parameters
    ----------
    config : ProjectConfig
    tuned : mapping of str to Tuned

    Returns
    -------
    ProjectConfig
    """
    for target, found in tuned.items():
        config = _with_parameters(config, target, found.best.parameters)
    return config


def _with_parameters(config: ProjectConfig, target: str, parameters: Mapping[str, float | int]) -> ProjectConfig:
    part: ChurnConfig | SatisfactionConfig = getattr(config, target)
    if not parameters:
        return config
    given = {} if part.parameters is None else part.parameters.given()
    changed = part.model_copy(update={"parameters": ParametersConfig(**given | dict(parameters))})
    return config.model_copy(update={target: changed})


# ---------------------------------------------------------------- folds


def make_folds(
    log: JourneyLog, config: ProjectConfig, target: str, leavers: Leavers | None = None, progress: Progress = SILENT
) -> list[Fold]:
    """Lay purged folds before the test part, each ending where the judged part of the next begins.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    target : str
    leavers : (ids, int64 array), optional
    progress : Progress

    Returns
    -------
    list of Fold
        The earliest first, at most three; empty where the log is too short for one.

    Raises
    ------
    DataError
        If the log is too short even for the split itself.
    """
    course = _course(log, config, target, leavers)
    outcomes = hindsight(log, config, course.cutoffs, leavers)
    folds: list[Fold] = []
    for split in islice(course.splits, 1, None):  # the first is training's own, whose test is not to be seen here
        study = course.labels(split)
        if refusals_of(study, config) or not _is_judged(study, config) or len(folds) == MOST_FOLDS:
            break  # what lies before it has still less to learn from
        start, end = study.split.parts["test"]
        progress.say(f"{target}: a fold that is judged on {format_instant(start)} to {format_instant(end)}")
        plan = plan_features(log, config, study.split.learned_until, outcomes)
        folds.append(Fold(with_features(study, log, plan, progress), plan))
    return folds[::-1]


def _course(log: JourneyLog, config: ProjectConfig, target: str, leavers: Leavers | None) -> Course:
    if target == "churn":
        assert config.churn is not None
        return churn_course(log, config, config.churn, leavers)
    assert config.satisfaction is not None
    return survey_course(log, config, config.satisfaction)


def _is_judged(study: Study, config: ProjectConfig) -> bool:
    if study.target == "churn":
        return bool((~np.isnan(known_churn(study, "test", config))).any())
    return len(study.parts["test"]) > 0


def _no_fold(log: JourneyLog, config: ProjectConfig, target: str, leavers: Leavers | None) -> str:
    split = next(_course(log, config, target, leavers).splits)
    return (
        f"{target}: what comes before the test part ({format_instant(log.first)} to "
        f"{format_instant(split.test_start)}) is too short, or too poor in outcomes, for a fold of training, "
        "calibration and judging. Train without --tune, write parameters into the project file, or give a longer log."
    )


# ---------------------------------------------------------------- the search


def _search(
    folds: list[Fold], config: ProjectConfig, n_trials: int, storage: Any, name: str, progress: Progress
) -> Tuned:
    """Make the trials that are missing, one after the other."""
    target = folds[0].study.target
    study, kept = _open_study(name, storage)
    finished = _finished(study)[:n_trials]
    if finished:
        progress.say(f"{target}: {len(finished)} of {n_trials} trials are remembered from before")
    best = min((t.loss for t in finished if t.state == "complete"), default=np.inf)
    with progress.step(f"tune {target} on {_count(folds)}", n_trials) as advance:
        advance(len(finished))
        while len(finished) < n_trials:
            _one_trial(study, len(finished), folds, config)
            with _explained(storage):
                if kept is not None:
                    kept.add_trial(study.trials[-1])
            finished = _finished(study)
            last = finished[-1]
            if last.state == "complete" and last.loss < best:
                best = last.loss
                progress.say(f"{target}: trial {last.number} is best so far, {_METRICS[target]} {best:.5f}")
            advance(1)
    splits = tuple(fold.study.split.to_dict() for fold in folds)
    return Tuned(target, _METRICS[target], splits, tuple(finished))


def _count(folds: Sized) -> str:
    return f"{len(folds)} fold{'s' * (len(folds) != 1)}"


_METRICS = {"churn": "log_loss", "satisfaction": "rps"}


def _open_study(name: str, storage: Any) -> tuple[optuna.Study, optuna.Study | None]:
    """Open a search in memory, with all trials that are kept, and the study on disk that keeps them.

    Optuna would write every parameter and every fold by a transaction of its own, a third of a second a trial; and
    would keep trials that were never finished.
    """
    import optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_TO_COMPARE)
    study = optuna.create_study(direction="minimize", pruner=pruner)
    if storage is None:
        return study, None
    with _explained(storage):
        kept = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="minimize")
        study.add_trials(kept.get_trials(deepcopy=False))
    return study, kept


def _one_trial(study: optuna.Study, number: int, folds: list[Fold], config: ProjectConfig) -> None:
    """Ask for parameters, judge them fold by fold, and write down how it went."""
    import optuna

    # The sampler begins anew at every trial, from a seed of its own: whoever goes on where another run was broken
    # off draws what that run would have drawn.
    seed = int(np.random.SeedSequence([config.random_state, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=TRIALS_BY_CHANCE)
    if number == 0:
        begins = {parameter: begin for parameter, (*_, begin) in SPACE.items()}
        study.enqueue_trial(begins | BEGINS[folds[0].study.target])
    trial = study.ask(_distributions())
    parameters = {} if number == 0 else {name: _short(value) for name, value in trial.params.items()}
    trial.set_user_attr("parameters", parameters)
    trial_config = _with_parameters(config, folds[0].study.target, parameters)
    losses: list[float] = []
    state, value = optuna.trial.TrialState.COMPLETE, None
    try:
        for step, fold in enumerate(folds):
            losses.append(loss_on(fold, trial_config))
            value = float(np.mean(losses))
            trial.report(value, step)
            if step + 1 < len(folds) and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
    except DataError:
        if number == 0:
            raise
        state = optuna.trial.TrialState.FAIL
    trial.set_user_attr("losses", losses)
    study.tell(trial, value if state == optuna.trial.TrialState.COMPLETE else None, state=state)


def loss_on(fold: Fold, config: ProjectConfig) -> float:
    """Learn a fold with the parameters of a config, and judge it on the fold's latest part.

    Parameters
    ----------
    fold : Fold
    config : ProjectConfig

    Returns
    -------
    float
        Log loss, mean over the horizons observed, or ranked probability score.
    """
    study = fold.study
    predictor, _ = learn_target(study, config, fold.plan)
    predicted = predict_test(study, config, fold.plan, predictor, baselines=False)[MODEL]
    if study.target == "churn":
        known = known_churn(study, "test", config)
        seen = ~np.isnan(known)
        losses = [log_loss(known[rows, k], predicted[rows, k]) for k, rows in enumerate(seen.T) if rows.any()]
        return float(np.mean(losses))
    assert config.satisfaction is not None
    return float(rps(study.parts["test"].y, predicted, lo=config.satisfaction.bounds[0]))


def _distributions() -> dict[str, Any]:
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(low), int(high), log=log) if name in _WHOLE else FloatDistribution(low, high, log=log)
        for name, (low, high, log, _) in SPACE.items()
    }


def _short(value: float | int) -> float | int:
    """Four digits, to be read and written by people."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _finished(study: optuna.Study) -> list[Trial]:
    from optuna.trial import TrialState

    names: dict[Any, Literal["complete", "pruned", "refused"]] = {
        TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "refused",
    }  # fmt: skip
    return [
        Trial(
            t.number, dict(t.user_attrs["parameters"]), tuple(t.user_attrs["losses"]), names[t.state],
            _milliseconds(t.datetime_start), _milliseconds(t.datetime_complete),
        )
        for t in study.get_trials(deepcopy=False)
    ]  # fmt: skip


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1000)


# ---------------------------------------------------------------- what is remembered


def _name(log: JourneyLog, config: ProjectConfig, folds: list[Fold]) -> str:
    """Name a search by all that its result depends on."""
    from importlib.metadata import version

    rows = hashlib.sha256(repr([SPACE, *(version(package) for package in ("cxml", "lightgbm", "optuna"))]).encode())
    for fold in folds:
        rows.update(repr(fold.plan.columns).encode())
        for part in fold.study.parts.values():
            rows.update(part.X.tobytes())
            rows.update(part.y.tobytes())
    target = folds[0].study.target
    return f"{target} data {log.digest[:16]} config {config_digest(config)[:16]} rows {rows.hexdigest()[:16]}"


@contextmanager
def _storage(path: str | os.PathLike[str] | None) -> Iterator[Any]:
    """Open the file of trials, with Optuna kept quiet; None is memory."""
    optuna = require("optuna", "tune")
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        if path is not None:
            file = Path(path).resolve()
            with _explained(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}}
                )
        yield storage
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(loud)


@contextmanager
def _explained(storage: Any) -> Iterator[None]:
    """Turn what a damaged or forbidden file of trials brings about into a `ConfigError`."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        where = storage if isinstance(storage, Path) else getattr(getattr(storage, "engine", None), "url", "memory")
        raise ConfigError(
            f"the trials of tuning cannot be kept in '{where}': {str(error).splitlines()[0]}. Move the file away if it "
            "is none of tuning, or name another --out."
        ) from error
