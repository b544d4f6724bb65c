"""What each target learns from and is tested on: snapshots with features and outcomes, by part of the split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, ProjectConfig, SatisfactionConfig
from cxml.errors import DataError
from cxml.features.learn import Choice, learn_plan
from cxml.features.matrix import fill_matrix
from cxml.features.outcomes import Known
from cxml.features.plan import FeaturePlan
from cxml.journeys.block import EventBlock
from cxml.models.churn import demand_outcomes
from cxml.models.outcomes import churn_known, score_intervals
from cxml.models.satisfaction import demand_answers
from cxml.progress import SILENT, Progress
from cxml.snapshots.cutoffs import cutoff_grid
from cxml.snapshots.make import check_words, churn_rows
from cxml.snapshots.reasons import leaving_reasons
from cxml.snapshots.splits import Split, Splits, split_cutoffs, split_surveys
from cxml.snapshots.surveys import SurveyRows, survey_rows
from cxml.snapshots.timeline import Timeline, churn_timeline
from cxml.times import format_instant
from cxml.training.hindsight import hindsight, surveys_as_of

if TYPE_CHECKING:
    import pandas

    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]
Leavers = tuple[NDArray[np.generic], Int64]
_P = ParamSpec("_P")
_R = TypeVar("_R")

PARTS = ("train", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Rows:
    """Snapshots of one part of the split, with features and outcome.

    Parameters
    ----------
    customer : int64 array of shape (n_rows,)
        Index into the block's customers, ascending.
    cutoff : int64 array of shape (n_rows,)
    X : float32 array of shape (n_rows, n_features)
    y : float64 array
        For churn of shape (n_rows, 2): duration in days, observed, and with ``churn.reasons`` (n_rows, 3): the
        position of the reason, NaN where there is none; for satisfaction (n_rows,): the score.
    """

    customer: Int64
    cutoff: Int64
    X: NDArray[np.float32]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.customer)


@dataclass(frozen=True, slots=True)
class Study:
    """Everything one target learns from and is tested on.

    Parameters
    ----------
    target : str
        ``"churn"`` or ``"satisfaction"``.
    split : Split
    parts : dict of str to Rows
        ``train``, ``calibration``, ``test``.
    """

    target: str
    split: Split
    parts: dict[str, Rows] = field(default_factory=dict)


def plan_features(
    log: JourneyLog,
    config: ProjectConfig,
    until: int,
    outcomes: Mapping[str, Known] | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> FeaturePlan:
    """Choose the features from what the log held before ``until``, and learn those that are learned from outcomes."""
    return learn_plan(log, Choice.from_config(config), until, outcomes, tell)


def churn_split(log: JourneyLog, config: ProjectConfig, churn: ChurnConfig) -> tuple[Int64, Split]:
    """Lay the cutoffs of churn and part them in time."""
    span = {"shortest": churn.horizons[0].us, "longest": churn.horizons[-1].us}
    cutoffs = cutoff_grid(config.snapshots, first=log.first, observed_until=log.last + 1, **span)
    return cutoffs, split_cutoffs(cutoffs, config.snapshots, observed_until=log.last + 1, **span)


def churn_labels(timeline: Timeline, config: ProjectConfig, cutoffs: Int64, split: Split) -> Study:
    """Gather the churn snapshots of each part without features, with labels that see no further than the part."""
    assert config.churn is not None
    horizons = [h.us for h in config.churn.horizons]
    study = Study("churn", split)
    for part, (start, end) in split.parts.items():
        chosen = cutoffs[(cutoffs >= start) & (cutoffs <= end - horizons[0])]
        rows = churn_rows(
            timeline, chosen, lookback=config.snapshots.lookback.us, observed_until=end, horizons=horizons
        )
        y = np.column_stack([rows.duration_days, rows.observed.astype(np.float64)])
        if config.churn.reasons:
            y = np.column_stack([y, leaving_reasons(timeline, rows, end)])
        study.parts[part] = _bare(rows.customer, rows.cutoff, y)
    return study


def satisfaction_split(log: JourneyLog, config: ProjectConfig, satisfaction: SatisfactionConfig) -> Split:
    """Part the surveys in time."""
    rows = survey_rows(log.block, satisfaction)
    answered = ~np.isnan(rows.score)
    if not answered.any():
        raise DataError(
            f"satisfaction: no row of touchpoint '{satisfaction.touchpoint}' has a score after the customer was first "
            "seen. Check satisfaction.touchpoint and the score column." + _set_aside(log)
        )
    return split_surveys(rows.cutoff[answered], rows.answered[answered], config.snapshots, observed_until=log.last + 1)


def _set_aside(log: JourneyLog) -> str:
    """Say which rows are missing because they were quarantined: often they are the answer."""
    reasons = "; ".join(f"{reason} ({n:,} rows)" for reason, n in log.quality.reasons.items())
    return f" Set aside while reading: {reasons}; see {log.quality.quarantine}." if reasons else ""


def survey_labels(surveys_as_of: Callable[[int], SurveyRows], split: Split) -> Study:
    """Gather the answered surveys of each part without features; an answer counts only where it came in the part."""
    study = Study("satisfaction", split)
    for part, (start, end) in split.parts.items():
        surveys = surveys_as_of(end)
        mask = (surveys.cutoff >= start) & (surveys.cutoff < end) & (surveys.answered < end) & ~np.isnan(surveys.score)
        study.parts[part] = _bare(surveys.customer[mask], surveys.cutoff[mask], surveys.score[mask])
    return study


def _bare(customer: Int64, cutoff: Int64, y: NDArray[np.float64]) -> Rows:
    """Rows whose features are still to come."""
    return Rows(customer, cutoff, np.empty((len(customer), 0), np.float32), y)


def with_features(
    study: Study, log: JourneyLog, plan: FeaturePlan, progress: Progress = SILENT, threads: int | None = None
) -> Study:
    """Fill in the features of every snapshot, with so many threads; by default one for each core."""
    filled = Study(study.target, study.split)
    for part, rows in study.parts.items():
        with progress.step(f"features of {part}", len(rows)) as advance:
            row_starts = np.searchsorted(rows.customer, np.arange(log.block.n_customers + 1)).astype(np.int64)
            matrix = fill_matrix(plan, log.block, row_starts, rows.cutoff, log.customers, threads)
            advance(len(rows))
        filled.parts[part] = replace(rows, X=matrix)
    return filled


def label(
    block: EventBlock, config: ProjectConfig, splits: Splits, activity: list[str], leavers: Leavers | None = None
) -> dict[str, Study]:
    """Gather the snapshots of the customers of a block, without features.

    Parameters
    ----------
    block : EventBlock
        All events of some customers.
    config : ProjectConfig
    splits : Splits
    activity : list of str
        Touchpoints that count as activity, see `cxml.snapshots.make.check_words`.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    dict of str to Study
        By target.
    """
    studies = {}
    if splits.churn is not None and splits.cutoffs is not None and config.churn is not None:
        timeline = churn_timeline(block, config.churn, activity, leavers)
        studies["churn"] = churn_labels(timeline, config, splits.cutoffs, splits.churn)
    if splits.satisfaction is not None and config.satisfaction is not None:
        studies["satisfaction"] = survey_labels(surveys_as_of(block, config.satisfaction), splits.satisfaction)
    return studies


class Gather(Protocol):
    """Whatever makes the studies of a log: this machine, or a cluster."""

    def __call__(
        self,
        log: JourneyLog,
        config: ProjectConfig,
        plan: FeaturePlan,
        splits: Splits,
        activity: list[str],
        leavers: Leavers | None,
        progress: Progress,
    ) -> dict[str, Study]:
        """Give the snapshots of each target, with labels and features."""


def gather_here(
    log: JourneyLog,
    config: ProjectConfig,
    plan: FeaturePlan,
    splits: Splits,
    activity: list[str],
    leavers: Leavers | None,
    progress: Progress,
) -> dict[str, Study]:
    """Make the snapshots of each target, with labels and features, in this process; see `Gather`."""
    studies = label(log.block, config, splits, activity, leavers)
    return {target: with_features(study, log, plan, progress) for target, study in studies.items()}


@dataclass(frozen=True)
class Outlook:
    """What training would look at: the plan, the split and the snapshots of each target.

    Parameters
    ----------
    plan : FeaturePlan
    studies : dict of str to Study
        ``churn`` and ``satisfaction``, those the config has and the log is long enough for.
    config : ProjectConfig
    refusals : tuple of str
        Why nothing can be learned from them, each with its mend; empty where training can begin.
    notes : tuple of str
        What the families of features look at and the log does not hold.
    """

    plan: FeaturePlan
    studies: dict[str, Study]
    config: ProjectConfig
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def demand(self) -> None:
        """Refuse what nothing can be learned from.

        Raises
        ------
        DataError
            With all ``refusals``.
        """
        if self.refusals:
            raise DataError(" ".join(self.refusals))

    def lines(self) -> list[str]:
        """Say it for people."""
        lines = [f"training would refuse: {refusal}" for refusal in self.refusals]
        for study in self.studies.values():
            lines += [f"{study.target} {part}: {_describe(study, part, self.config)}" for part in study.parts]
        return [*lines, f"features: {len(self.plan.columns)}", *self.notes]


def look_ahead(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    gather: Gather = gather_here,
) -> Outlook:
    """Lay the splits, plan the features on what comes before all calibration, and gather every target's rows.

    What training would refuse stands in ``refusals``, so that a check can tell of it; training itself raises it.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress
    gather : Gather
        Makes the snapshots; the numbers do not depend on where.

    Returns
    -------
    Outlook

    Raises
    ------
    DataError
        If the words of the config do not occur in the log.
    """
    refusals: list[str] = []
    churn: tuple[Int64, Split] | None = None
    satisfaction: Split | None = None
    if config.churn is not None:
        churn = _tried("churn", refusals, churn_split, log, config, config.churn)
    if config.satisfaction is not None:
        satisfaction = _tried("satisfaction", refusals, satisfaction_split, log, config, config.satisfaction)
    splits = Splits(satisfaction=satisfaction) if churn is None else Splits(churn[1], churn[0], satisfaction)
    until = log.last + 1 if splits.learned_until is None else splits.learned_until
    outcomes = hindsight(log, config, splits.cutoffs, leavers)
    notes: list[str] = []
    plan = plan_features(log, config, until, outcomes, notes.append)
    activity = [] if config.churn is None or splits.churn is None else check_words(log, config.churn)
    studies = gather(log, config, plan, splits, activity, leavers, progress)
    refusals += [refusal for study in studies.values() for refusal in refusals_of(study, config)]
    return Outlook(plan, studies, config, tuple(refusals), tuple(notes))


def _tried(target: str, refusals: list[str], step: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
    """Take a step towards training; where it is refused, note why."""
    try:
        return step(*args, **kwargs)
    except DataError as error:
        refusals.append(said(target, error))
        return None


def refusals_of(study: Study, config: ProjectConfig) -> list[str]:
    """Say why nothing can be learned of a target, from its labels alone: the first reason, as others follow from it."""
    try:
        for demand in _DEMANDS[study.target]:
            demand(study, config)
    except DataError as error:
        return [said(study.target, error)]
    return []


def said(target: str, error: DataError) -> str:
    """Say of which target an error speaks."""
    return f"{target}: {str(error).removeprefix(f'{target}: ').removeprefix('y: ')}"


def _demand_people(study: Study, config: ProjectConfig) -> None:
    for part, rows in study.parts.items():
        if not len(rows):
            raise DataError(
                f"nobody is at risk of churn in the {part} part. Check churn and snapshots.lookback "
                f"({config.snapshots.lookback}), or give a longer log."
            )


def _demand_outcomes(study: Study, config: ProjectConfig) -> None:
    assert config.churn is not None
    demand_outcomes(study.parts["train"].y, _kind(config.churn), [str(h) for h in config.churn.horizons])


def _demand_answers(study: Study, config: ProjectConfig) -> None:
    assert config.satisfaction is not None
    demand_answers(study.parts["train"].y, config.satisfaction.bounds)
    for part in ("calibration", "test"):
        score_intervals(study.parts[part].y, config.satisfaction.bounds)


#: What training demands of the rows of each target.
_DEMANDS: dict[str, tuple[Callable[[Study, ProjectConfig], None], ...]] = {
    "churn": (_demand_people, _demand_outcomes),
    "satisfaction": (_demand_answers,),
}


def _kind(churn: ChurnConfig) -> str:
    """Tell what the outcome is: churn itself, or the next activity."""
    return "inactivity" if churn.kind == "inactivity" else "event"


def known_churn(study: Study, part: str, config: ProjectConfig) -> NDArray[np.float64]:
    """Churn by each horizon where it was observed to its end: 1, 0, or NaN.

    Whether a horizon counts is decided by the cutoff alone. Were it decided by the outcome (who left early is known to
    have left), the rows that count would hold too many leavers.

    Parameters
    ----------
    study : Study
    part : str
        ``train``, ``calibration`` or ``test``.
    config : ProjectConfig

    Returns
    -------
    float64 array of shape (n_rows, n_horizons)
    """
    assert config.churn is not None
    rows, (_, end) = study.parts[part], study.split.parts[part]
    kind = _kind(config.churn)
    known = churn_known(rows.y[:, 0], rows.y[:, 1], [h.days for h in config.churn.horizons], kind)
    horizons = np.array([h.us for h in config.churn.horizons])
    return np.where(rows.cutoff[:, None] + horizons > end, np.nan, known)


def _describe(study: Study, part: str, config: ProjectConfig) -> str:
    rows = study.parts[part]
    span = f"{format_instant(int(rows.cutoff.min()))} to {format_instant(int(rows.cutoff.max()))}" if len(rows) else "-"
    text = f"{len(rows):,} snapshots of {len(np.unique(rows.customer)):,} customers, cutoffs {span}"
    if not len(rows):
        return text
    if study.target == "satisfaction":
        return f"{text}, mean score {rows.y.mean():.2f}"
    return f"{text}, churn {_rates(known_churn(study, part, config), config)}"


def _rates(known: NDArray[np.float64], config: ProjectConfig) -> str:
    """Say which share churned by each horizon, of those for whom it was observed to its end."""
    assert config.churn is not None
    seen = ~np.isnan(known)
    told = [
        f"{horizon} {known[seen[:, k], k].mean():.1%}" if seen[:, k].any() else f"{horizon} not observed to its end"
        for k, horizon in enumerate(config.churn.horizons)
    ]
    return ", ".join(told)


def snapshot_frame(log: JourneyLog, outlook: Outlook) -> pandas.DataFrame:
    """Return every (customer, cutoff) that training looks at, once; the last moment of everybody where it refuses."""
    import pandas as pd

    rows = [part for study in outlook.studies.values() for part in study.parts.values() if len(part)]
    customers, cutoffs = log.events.customers, np.full(log.n_customers, log.last)
    if rows:
        customers = customers[np.concatenate([r.customer for r in rows])]
        cutoffs = np.concatenate([r.cutoff for r in rows])
    frame = pd.DataFrame({"customer_id": customers, "cutoff": pd.to_datetime(cutoffs.view("datetime64[us]"), utc=True)})
    return frame.drop_duplicates(ignore_index=True)
