"""Fit, calibrate, test and seal a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ProjectConfig, to_yaml
from cxml.evaluate.baselines import churn_baselines, score_baselines
from cxml.evaluate.exam import MODEL, Exam, examine_churn, examine_scores
from cxml.features.plan import FeaturePlan
from cxml.models.churn import ChurnModel
from cxml.models.outcomes import score_groups
from cxml.models.predictor import CumulativePredictor
from cxml.models.satisfaction import SatisfactionModel
from cxml.models.store import SavedModel, seal
from cxml.progress import SILENT, Progress
from cxml.scoring.answer import churn_probability, score_distribution
from cxml.times import format_instant
from cxml.training.record import write_card
from cxml.training.studies import PARTS, Leavers, Outlook, Study, known_churn, look_ahead

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

#: Shares of the calibration customers below the medium and below the high risk band.
BAND_QUANTILES = (0.7, 0.9)


@dataclass(frozen=True)
class Trained:
    """A tested model with what is needed to tell of it.

    Parameters
    ----------
    model : SavedModel
    card : str
        Markdown.
    outlook : Outlook
    exams : dict of str to Exam
    predictions : dict of str to dict of str to array
        Target -> who -> predictions for the test rows.
    """

    model: SavedModel
    card: str
    outlook: Outlook
    exams: dict[str, Exam]
    predictions: dict[str, dict[str, NDArray[np.float64]]]

    def verdicts(self) -> list[str]:
        """One sentence a target: is the model worth having."""
        return [exam.verdict() for exam in self.exams.values()]

    def metrics(self) -> dict[str, float]:
        """All test metrics by name, ``churn.auroc_30d`` and so on; undefined ones left out."""
        return {
            f"{target}.{name}": value
            for target, exam in self.exams.items()
            for name, value in exam.flat().items()
            if np.isfinite(value)
        }


def train(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    replicates: int = 200,
) -> Trained:
    """Learn every target of the config and test it on the latest cutoffs.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress
    replicates : int
        Bootstrap replicates behind the intervals of the test.

    Returns
    -------
    Trained

    Raises
    ------
    DataError
        If nothing can be learned from the log; see `Outlook.refusals`.
    """
    outlook = look_ahead(log, config, leavers, progress)
    outlook.demand()
    targets, settings, exams, predictions = {}, _common_settings(log, config), {}, {}
    for target, study in outlook.studies.items():
        learn, test = (_learn_churn, _test_churn) if target == "churn" else (_learn_satisfaction, _test_satisfaction)
        rows = {part: len(study.parts[part]) for part in PARTS}
        with progress.step(f"learn {target} from {rows['train']:,} snapshots") as _:
            targets[target], settings[target] = learn(study, config, outlook.plan)
        with progress.step(f"test {target} on {rows['test']:,} snapshots") as _:
            predictions[target], exams[target] = test(study, config, outlook.plan, targets[target], replicates)
    model = seal(config.name, outlook.plan, targets, settings, _metadata(log, config, outlook, exams))
    return Trained(model, write_card(model, config, outlook, exams), outlook, exams, predictions)


def _learn_churn(study: Study, config: ProjectConfig, plan: FeaturePlan) -> tuple[CumulativePredictor, dict[str, Any]]:
    churn = config.churn
    assert churn is not None
    kind = "inactivity" if churn.kind == "inactivity" else "event"
    horizons = [str(h) for h in churn.horizons]
    model = ChurnModel(kind=kind, horizons=horizons, random_state=config.random_state)
    later = (study.parts["calibration"].X, study.parts["calibration"].y)
    model.fit(
        study.parts["train"].X, study.parts["train"].y, eval_set=later, calibration_set=later,
        categorical_feature=_categorical(plan),
    )  # fmt: skip
    risk = model.predict_churn(study.parts["calibration"].X)[:, -1]
    bands = [_rounded(q) for q in np.quantile(risk, BAND_QUANTILES)]
    return model.predictor_, {"kind": kind, "horizons": horizons, "bands": bands}


def _learn_satisfaction(
    study: Study, config: ProjectConfig, plan: FeaturePlan
) -> tuple[CumulativePredictor, dict[str, Any]]:
    satisfaction = config.satisfaction
    assert satisfaction is not None
    lowest, highest = satisfaction.bounds
    model = SatisfactionModel(scale=satisfaction.bounds, random_state=config.random_state)
    later = (study.parts["calibration"].X, study.parts["calibration"].y)
    model.fit(
        study.parts["train"].X, study.parts["train"].y, eval_set=later, calibration_set=later,
        categorical_feature=_categorical(plan),
    )  # fmt: skip
    last_low, last_mid = score_groups(satisfaction.kind, lowest, highest)
    return model.predictor_, {
        "kind": satisfaction.kind, "lowest": lowest, "highest": highest, "last_low": last_low, "last_mid": last_mid,
    }  # fmt: skip


def _categorical(plan: FeaturePlan) -> list[int]:
    return [plan.columns.index(name) for name in plan.categorical]


def _test_churn(
    study: Study, config: ProjectConfig, plan: FeaturePlan, predictor: CumulativePredictor, replicates: int
) -> tuple[dict[str, NDArray[np.float64]], Exam]:
    assert config.churn is not None
    kind, horizons = config.churn.kind, [str(h) for h in config.churn.horizons]
    known = {part: known_churn(study, part, config) for part in PARTS}
    train, test = study.parts["train"], study.parts["test"]
    learned = np.concatenate([train.X, study.parts["calibration"].X])  # baselines may learn from all before the test
    predictions = {MODEL: churn_probability(predictor, kind, test.X)}
    predictions |= churn_baselines(
        (learned, plan.columns), np.concatenate([known["train"], known["calibration"]]), (test.X, plan.columns),
        random_state=config.random_state,
    )  # fmt: skip
    return predictions, examine_churn(
        known["test"], predictions, horizons, test.customer, n=replicates, random_state=config.random_state
    )


def _test_satisfaction(
    study: Study, config: ProjectConfig, plan: FeaturePlan, predictor: CumulativePredictor, replicates: int
) -> tuple[dict[str, NDArray[np.float64]], Exam]:
    assert config.satisfaction is not None
    lowest, highest = config.satisfaction.bounds
    train, calibration, test = (study.parts[part] for part in PARTS)
    predictions = {MODEL: score_distribution(predictor, test.X)}
    predictions |= score_baselines(
        (np.concatenate([train.X, calibration.X]), plan.columns), np.concatenate([train.y, calibration.y]),
        (test.X, plan.columns), lo=lowest, hi=highest, random_state=config.random_state,
    )  # fmt: skip
    groups = score_groups(config.satisfaction.kind, lowest, highest)
    return predictions, examine_scores(
        test.y, predictions, lowest, groups, test.customer, n=replicates, random_state=config.random_state
    )


def _rounded(value: float) -> float:
    """Nine digits: the last bits of a regression depend on how many threads the linear algebra had."""
    return float(f"{value:.9g}")


def _common_settings(log: JourneyLog, config: ProjectConfig) -> dict[str, Any]:
    """Say what a scorer must know to read a journey as training read it."""
    journeys = config.journeys
    columns: dict[str, list[str]] = {}
    for name in journeys.columns:
        own = [source.columns[name] for source in journeys.sources if name in source.columns]
        columns[name] = list(dict.fromkeys([*own, name]))
    return {
        "journeys": {
            "columns": columns,
            "timezone": journeys.timezone,
            "measures": list(journeys.measures),
            "attributes": list(journeys.attributes),
        },
        "customer_attributes": list(config.customers.attributes) if config.customers else [],
        "lookback": str(config.snapshots.lookback),
        "touchpoints": sorted(log.touchpoints()),
    }


def _what_matters(config: ProjectConfig) -> ProjectConfig:
    """Leave out what changes no result."""
    return config.model_copy(update={"journeys": config.journeys.model_copy(update={"memory_limit": None})})


def _metadata(log: JourneyLog, config: ProjectConfig, outlook: Outlook, exams: dict[str, Exam]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "data": {
            "digest": log.digest,
            "events": log.n_events,
            "customers": log.n_customers,
            "first": format_instant(log.first),
            "last": format_instant(log.last),
        },
        "config_digest": hashlib.sha256(to_yaml(_what_matters(config)).encode()).hexdigest(),
        "split": {target: study.split.to_dict() for target, study in outlook.studies.items()},
        "rows": {
            target: {part: len(rows) for part, rows in study.parts.items()} for target, study in outlook.studies.items()
        },
        "metrics": {
            target: {
                who: {
                    name: [_rounded(x) for x in interval]
                    for name, interval in metrics.items()
                    if np.isfinite(interval).all()
                }
                for who, metrics in exam.scores.items()
            }
            for target, exam in exams.items()
        },
        "versions": {name: version(name) for name in ("cxml", "lightgbm", "numba", "numpy")},
    }
