"""Fit, calibrate, test and seal a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ParametersConfig, ProfitConfig, ProjectConfig, to_yaml
from cxml.errors import ConfigError, ended, nearest
from cxml.evaluate.baselines import churn_baselines, score_baselines
from cxml.evaluate.exam import BY_REASON, MODEL, Exam, examine_churn, examine_scores, worst_of
from cxml.evaluate.profit import Campaign
from cxml.evaluate.slices import value_names
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
from cxml.training.respond import Everybody, speak
from cxml.training.studies import PARTS, Gather, Leavers, Outlook, Rows, Study, gather_here, known_churn, look_ahead

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

#: Shares of the calibration customers below the medium and below the high risk band.
BAND_QUANTILES = (0.7, 0.9)
TARGETS = ("churn", "satisfaction")


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
    everybody : Everybody, optional
        What all customers would answer, where the project has surveys.
    """

    model: SavedModel
    card: str
    outlook: Outlook
    exams: dict[str, Exam]
    predictions: dict[str, dict[str, NDArray[np.float64]]]
    everybody: Everybody | None = None

    def verdicts(self) -> list[str]:
        """One sentence a target: is the model worth having."""
        return [exam.verdict() for exam in self.exams.values()]

    def refusal(self) -> str | None:
        """Say why this model should not be used: it is no better than a baseline somewhere; None where it is."""
        reasons = [f"{target}: {worst_of(exam.unbeaten())}" for target, exam in self.exams.items() if exam.unbeaten()]
        return f"no better than a baseline on {' and '.join(reasons)}" if reasons else None

    def metrics(self) -> dict[str, float]:
        """All test metrics by name, ``churn.auroc_30d`` and so on; undefined ones left out."""
        spoken = {} if self.everybody is None else self.everybody.metrics()
        return {
            f"{target}.{name}": value
            for target, exam in self.exams.items()
            for name, value in exam.flat().items()
            if np.isfinite(value)
        } | {f"satisfaction.{name}": value for name, value in spoken.items()}


def train(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    replicates: int = 200,
    tuning: Mapping[str, Any] | None = None,
    gather: Gather = gather_here,
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
    tuning : mapping, optional
        By target how its parameters were found, as JSON data; kept in the model's metadata.
    gather : Gather
        Makes the snapshots with their features; the model does not depend on where.

    Returns
    -------
    Trained

    Raises
    ------
    DataError
        If nothing can be learned from the log; see `Outlook.refusals`.
    """
    outlook = look_ahead(log, config, leavers, progress, gather)
    outlook.demand()
    for note in outlook.notes:
        progress.say(note)
    if config.churn is not None:
        demand_value(config.churn.profit, outlook.plan)
    targets, settings, exams, predictions = {}, _common_settings(log, config), {}, {}
    for target, study in outlook.studies.items():
        rows = {part: len(study.parts[part]) for part in PARTS}
        with progress.step(f"learn {target} from {rows['train']:,} snapshots") as _:
            targets[target], settings[target] = learn_target(study, config, outlook.plan)
        with progress.step(f"test {target} on {rows['test']:,} snapshots") as _:
            predictions[target] = predict_test(study, config, outlook.plan, targets[target])
            exams[target] = examine([study], [predictions[target]], config, replicates, [outlook.plan])
    everybody = speak(log, config, outlook.plan, leavers, progress)
    metadata = _metadata(log, config, outlook, exams, tuning)
    if everybody is not None:
        metadata["everybody"] = {name: rounded(value) for name, value in everybody.metrics().items()}
    model = seal(config.name, outlook.plan, targets, settings, metadata)
    card = write_card(model, config, outlook, exams, everybody)
    return Trained(model, card, outlook, exams, predictions, everybody)


def learn_target(study: Study, config: ProjectConfig, plan: FeaturePlan) -> tuple[CumulativePredictor, dict[str, Any]]:
    """Learn one target from the training and calibration parts of its study.

    Parameters
    ----------
    study : Study
    config : ProjectConfig
    plan : FeaturePlan
        Of the study's features.

    Returns
    -------
    predictor : CumulativePredictor
    settings : dict
        What a scorer must know of the target.
    """
    return (_learn_churn if study.target == "churn" else _learn_satisfaction)(study, config, plan)


def predict_test(
    study: Study, config: ProjectConfig, plan: FeaturePlan, predictor: CumulativePredictor, *, baselines: bool = True
) -> dict[str, NDArray[np.float64]]:
    """Predict the test part of a study: the model, and the baselines that learn from all before the test.

    Parameters
    ----------
    study : Study
    config : ProjectConfig
    plan : FeaturePlan
    predictor : CumulativePredictor
    baselines : bool
        Whether to predict with them too.

    Returns
    -------
    dict of str to float64 array
        Who -> P(churn by each horizon), or P(each score); ``"cxml"`` is the model. With ``churn.reasons`` also
        ``"cxml: REASON"`` -> P(churn by each horizon for that reason).
    """
    X = study.parts["test"].X
    if study.target == "churn":
        assert config.churn is not None
        predictions = {MODEL: churn_probability(predictor, config.churn.kind, X)}
        if config.churn.reasons:
            parted = predictor.by_reason(predictions[MODEL], X)
            predictions |= {BY_REASON + name: parted[:, :, r] for r, name in enumerate(config.churn.reasons)}
        return predictions | (_churn_ladder(study, config, plan) if baselines else {})
    predictions = {MODEL: score_distribution(predictor, X)}
    return predictions | (_score_ladder(study, config, plan) if baselines else {})


def examine(
    studies: Sequence[Study],
    predictions: Sequence[Mapping[str, NDArray[np.float64]]],
    config: ProjectConfig,
    replicates: int,
    plans: Sequence[FeaturePlan] | None = None,
) -> Exam:
    """Examine the predictions for the test part of one study, or of several of one target as if they were one.

    Parameters
    ----------
    studies : sequence of Study
    predictions : sequence of mapping
        For each study what `predict_test` gave. Who is missing in one of them is left out.
    config : ProjectConfig
    replicates : int
        Bootstrap replicates; a customer's rows are drawn together, from whatever study they are.
    plans : sequence of FeaturePlan, optional
        Of each study's features. With them metrics are taken apart by the attributes they share, and ``churn.profit``
        may name a feature as the value.

    Returns
    -------
    Exam
    """
    everyone = [who for who in predictions[0] if all(who in one for one in predictions)]
    pooled = {who: np.concatenate([one[who] for one in predictions]) for who in everyone}
    tests = [study.parts["test"] for study in studies]
    customers = np.concatenate([test.customer for test in tests])
    attributes = _attributes(tests, plans or ())
    if studies[0].target == "churn":
        assert config.churn is not None
        known = np.concatenate([known_churn(study, "test", config) for study in studies])
        by_reason = {name: pooled.pop(BY_REASON + name) for name in config.churn.reasons if BY_REASON + name in pooled}
        horizons = [str(h) for h in config.churn.horizons]
        y, profit = np.concatenate([test.y for test in tests]), config.churn.profit or ProfitConfig()
        return examine_churn(
            known, pooled, horizons, customers, followed=(y[:, 0], y[:, 1]),
            inactivity=config.churn.kind == "inactivity", value=_at_stake(tests, plans or (), profit),
            campaign=Campaign(profit.offer, profit.contact, profit.accepts),
            reasons={name: (_for_reason(known, y[:, 2], r), by_reason[name]) for r, name in enumerate(by_reason)},
            attributes=attributes, n=replicates, random_state=config.random_state,
        )  # fmt: skip
    assert config.satisfaction is not None
    lowest, highest = config.satisfaction.bounds
    groups = score_groups(config.satisfaction.kind, lowest, highest)
    scores = np.concatenate([test.y for test in tests])
    return examine_scores(
        scores, pooled, lowest, groups, customers, attributes=attributes, n=replicates,
        random_state=config.random_state,
    )  # fmt: skip


def _for_reason(known: NDArray[np.float64], reason: NDArray[np.float64], wanted: int) -> NDArray[np.float64]:
    """Say who churned by each horizon for one reason: 1, 0, or NaN where churn itself is not known."""
    return np.where(known == 1.0, reason[:, None] == wanted, known)


def _attributes(tests: Sequence[Rows], plans: Sequence[FeaturePlan]) -> dict[str, NDArray[Any]]:
    """Give the attributes that all plans have, as text, row by row."""
    found = {}
    for name in plans[0].categorical if plans else ():
        if all(name in plan.categorical for plan in plans):
            columns = [
                value_names(test.X[:, plan.columns.index(name)], plan.categories(name))
                for test, plan in zip(tests, plans, strict=True)
            ]
            found[name.removeprefix("last__")] = np.concatenate(columns)
    return found


def _at_stake(tests: Sequence[Rows], plans: Sequence[FeaturePlan], profit: ProfitConfig) -> NDArray[np.float64] | float:
    """Say what is lost with each customer of the test."""
    if not isinstance(profit.value, str):
        return profit.value
    for plan in plans:
        demand_value(profit, plan)
    columns = [test.X[:, plan.columns.index(profit.value)] for test, plan in zip(tests, plans, strict=True)]
    return np.concatenate(columns).astype(np.float64)


def demand_value(profit: ProfitConfig | None, plan: FeaturePlan) -> None:
    """Refuse a feature that the value of customers is to be taken from and that there is not.

    Parameters
    ----------
    profit : ProfitConfig, optional
    plan : FeaturePlan

    Raises
    ------
    ConfigError
        Naming the nearest numeric feature.
    """
    if profit is not None and isinstance(profit.value, str) and profit.value not in plan.numeric:
        raise ConfigError(
            f"churn.profit.value: no numeric feature '{profit.value}'{ended(nearest(profit.value, plan.numeric))} Name "
            "one of the features, or give a number."
        )


def _learn_churn(study: Study, config: ProjectConfig, plan: FeaturePlan) -> tuple[CumulativePredictor, dict[str, Any]]:
    churn = config.churn
    assert churn is not None
    kind = "inactivity" if churn.kind == "inactivity" else "event"
    horizons = [str(h) for h in churn.horizons]
    model = ChurnModel(
        kind=kind, horizons=horizons, reasons=list(churn.reasons) or None, corrections=churn.corrections,
        calibrate_by=_segments(churn.calibrate_by, plan),
        random_state=config.random_state, **_given(churn.parameters),
    )  # fmt: skip
    later = (study.parts["calibration"].X, study.parts["calibration"].y)
    model.fit(
        study.parts["train"].X, study.parts["train"].y, eval_set=later, calibration_set=later,
        categorical_feature=_categorical(plan),
    )  # fmt: skip
    risk = model.predict_churn(study.parts["calibration"].X)[:, -1]
    bands = [rounded(q) for q in np.quantile(risk, BAND_QUANTILES)]
    settings = {"kind": kind, "horizons": horizons, "bands": bands}
    return model.predictor_, settings | ({"reasons": list(churn.reasons)} if churn.reasons else {})


def _segments(by: str | None, plan: FeaturePlan) -> int | None:
    """Find the column of an attribute."""
    return None if by is None else plan.columns.index(f"last__{by}")


def _learn_satisfaction(
    study: Study, config: ProjectConfig, plan: FeaturePlan
) -> tuple[CumulativePredictor, dict[str, Any]]:
    satisfaction = config.satisfaction
    assert satisfaction is not None
    lowest, highest = satisfaction.bounds
    model = SatisfactionModel(
        scale=satisfaction.bounds, calibrate_by=_segments(satisfaction.calibrate_by, plan),
        random_state=config.random_state, **_given(satisfaction.parameters),
    )  # fmt: skip
    later = (study.parts["calibration"].X, study.parts["calibration"].y)
    model.fit(
        study.parts["train"].X, study.parts["train"].y, eval_set=later, calibration_set=later,
        categorical_feature=_categorical(plan),
    )  # fmt: skip
    last_low, last_mid = score_groups(satisfaction.kind, lowest, highest)
    return model.predictor_, {
        "kind": satisfaction.kind, "lowest": lowest, "highest": highest, "last_low": last_low, "last_mid": last_mid,
        "touchpoint": satisfaction.touchpoint,
    }  # fmt: skip


def _given(parameters: ParametersConfig | None) -> dict[str, Any]:
    return {} if parameters is None else parameters.given()


def _categorical(plan: FeaturePlan) -> list[int]:
    return [plan.columns.index(name) for name in plan.categorical]


def _churn_ladder(study: Study, config: ProjectConfig, plan: FeaturePlan) -> dict[str, NDArray[np.float64]]:
    known = [known_churn(study, part, config) for part in ("train", "calibration")]
    return churn_baselines(
        (_before_test(study), plan.columns), np.concatenate(known), (study.parts["test"].X, plan.columns),
        categorical=plan.categorical, random_state=config.random_state,
    )  # fmt: skip


def _score_ladder(study: Study, config: ProjectConfig, plan: FeaturePlan) -> dict[str, NDArray[np.float64]]:
    assert config.satisfaction is not None
    lowest, highest = config.satisfaction.bounds
    scores = np.concatenate([study.parts[part].y for part in ("train", "calibration")])
    return score_baselines(
        (_before_test(study), plan.columns), scores, (study.parts["test"].X, plan.columns), lo=lowest, hi=highest,
        categorical=plan.categorical, random_state=config.random_state,
    )  # fmt: skip


def _before_test(study: Study) -> NDArray[np.float32]:
    return np.concatenate([study.parts[part].X for part in ("train", "calibration")])


def rounded(value: float) -> float:
    """Keep nine digits: the last bits of a regression depend on how many threads the linear algebra had."""
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


def config_digest(config: ProjectConfig) -> str:
    """SHA-256 of the project, defaults filled in and without what changes no result."""
    return hashlib.sha256(to_yaml(_what_matters(config), _as_ever(config)).encode()).hexdigest()


#: Keys that came later: where they have their default, a project is what it was before there were any.
_LATER = {
    "journeys": ("session_gap", "repeat_within", "respond_within", "self_service"),
    "features": ("modules", "max_columns"),
    "satisfaction": ("calibrate_by",),
}


def _as_ever(config: ProjectConfig) -> dict[str, set[str]]:
    """Give the later keys that have their defaults, by part."""
    found = {}
    for part, names in _LATER.items():
        values = getattr(config, part)
        if values is None:
            continue
        usual = {name: type(values).model_fields[name].get_default(call_default_factory=True) for name in names}
        found[part] = {name for name, default in usual.items() if getattr(values, name) == default}
    return found


def _what_matters(config: ProjectConfig) -> ProjectConfig:
    """Leave out what changes no result."""
    return config.model_copy(update={"journeys": config.journeys.model_copy(update={"memory_limit": None})})


def _parameters(config: ProjectConfig, tuning: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say which parameters are not the default ones, and where a search found them; nothing where all are."""
    given = {target: _given(part.parameters) for target in TARGETS if (part := getattr(config, target)) is not None}
    given = {target: parameters for target, parameters in given.items() if parameters}
    return ({"parameters": given} if given else {}) | ({"tuning": dict(tuning)} if tuning else {})


def _metadata(
    log: JourneyLog, config: ProjectConfig, outlook: Outlook, exams: dict[str, Exam],
    tuning: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    from importlib.metadata import version

    return {
        "data": {
            "digest": log.digest,
            "events": log.n_events,
            "customers": log.n_customers,
            "first": format_instant(log.first),
            "last": format_instant(log.last),
        },
        "config_digest": config_digest(config),
        "split": {target: study.split.to_dict() for target, study in outlook.studies.items()},
        "rows": {
            target: {part: len(rows) for part, rows in study.parts.items()} for target, study in outlook.studies.items()
        },
        "metrics": {
            target: {
                who: {
                    name: [rounded(x) for x in interval]
                    for name, interval in metrics.items()
                    if np.isfinite(interval).all()
                }
                for who, metrics in exam.scores.items()
            }
            for target, exam in exams.items()
        },
        "versions": {name: version(name) for name in ("cxml", "lightgbm", "numba", "numpy")},
        **_parameters(config, tuning),
    }
