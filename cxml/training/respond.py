"""From a log to the satisfaction of everybody: who was asked, who answered, and what the others would have said."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ProjectConfig, SatisfactionConfig
from cxml.errors import ConfigError, DataError, nearest
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.expected_nps import (
    DOUBTS,
    DR,
    IPW,
    RAW,
    Asked,
    Ceiling,
    Figures,
    Population,
    allow_hidden,
    bounded,
    doubts,
    estimate,
    extrapolate,
    if_hidden,
    noise_ceiling,
    population_odds,
    quadratic,
)
from cxml.evaluate.slices import value_names
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.journeys.shuffle import parts_of_integers, parts_of_texts
from cxml.models.outcomes import score_groups
from cxml.models.response import ResponseModel, shallow_rounds
from cxml.models.satisfaction import SatisfactionModel
from cxml.progress import SILENT, Progress
from cxml.snapshots.make import log_timeline
from cxml.snapshots.surveys import survey_rows
from cxml.snapshots.timeline import scan
from cxml.times import DAY_US, Duration, format_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog
    from cxml.training.studies import Leavers

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Models are learned on all folds of customers but one, and used on that one.
FOLDS = 5
#: Most askings to learn from, the latest, and most people a figure is made of, drawn by chance.
MOST_ASKED, MOST_PEOPLE = 200_000, 20_000
#: Askings that training looks at for the figures of its card.
MOST_ASKED_IN_TRAINING = 20_000
#: Answers without which no model of them is worth having, and without which halves of them are too few.
FEWEST, FEWEST_FOR_HALVES = 60, 2_000
#: Share of the answers that have come when an asking counts as over.
PATIENCE = 0.99
#: Two answers within so many days tell of the noise of answering.
TWICE_WITHIN = 45 * DAY_US
#: Shares of hidden feeling for which the figure is told as well.
HIDDEN = (0.1, 0.2, 0.3)
#: Up to such a share intervals allow for: in simulated worlds, where features tell more than in most logs, it is 0.04.
ALLOWED = 0.05


#: What the statistics are called.
STATISTICS = {"nps": "NPS", "mean": "mean score", "top_box": "top box, %"}


@dataclass(frozen=True, slots=True)
class Askings:
    """Who was asked when, and what came of it; by customer, then cutoff.

    Parameters
    ----------
    customer, cutoff : int64 arrays of shape (n,)
    score : float64 array of shape (n,)
        NaN where no answer came.
    patience : int
        Microseconds after which an asking counts as over.
    """

    customer: Int64
    cutoff: Int64
    score: Float64
    patience: int

    @property
    def answered(self) -> Bools:
        """Whether an answer came."""
        came: Bools = ~np.isnan(self.score)
        return came


@dataclass(frozen=True, slots=True)
class People:
    """Those whom the figures of the last span speak for, with what is expected of each.

    Parameters
    ----------
    customer : int64 array of shape (n,)
        Index into the block's customers.
    propensity : float64 array of shape (n,)
        P(answered if asked).
    score, variance : float64 arrays of shape (n,)
        Mean and variance of the answer.
    last_asked : int64 array of shape (n,)
        UTC microseconds; the smallest int64 where never.
    """

    customer: Int64
    propensity: Float64
    score: Float64
    variance: Float64
    last_asked: Int64


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: a statistic of a segment in a span.

    Parameters
    ----------
    statistic : str
        ``nps``, ``mean`` or ``top_box`` (share of high scores, percent).
    segment : str
        ``all``, or a value of the attribute.
    first, until : int
        Answers to askings in ``[first, until)``; the population is that of ``until``.
    figures : Figures
    hidden : dict of str to float
        Share of hidden feeling -> what the corrected figure would be, see `if_hidden`.
    doubts : tuple of str
        Why the corrected figures are not to be trusted, if so: keys of `cxml.evaluate.expected_nps.DOUBTS`.
    """

    statistic: str
    segment: str
    first: int
    until: int
    figures: Figures
    hidden: dict[str, float]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Everybody:
    """The satisfaction of everybody.

    Parameters
    ----------
    lines : list of Line
    ceiling : Ceiling
    people : People
    response : dict of str to number
        The response model: asked, answered, share; on the latest fifth of the askings the share that it predicted
        and that answered, and how it ranks (AUROC); days of patience.
    notes : tuple of str
    """

    lines: list[Line]
    ceiling: Ceiling
    people: People
    response: dict[str, float]
    notes: tuple[str, ...]

    def metrics(self) -> dict[str, float]:
        """Return the company's latest figures by name: ``nps_raw``, ``nps_raw_low``, ``nps_raw_high``, and so on."""
        found: dict[str, float] = {}
        for line in self.lines:
            for name in (RAW, IPW, DR) if line.segment == "all" else ():
                value, low, high = getattr(line.figures, name)
                key = f"{line.statistic}_{name}"
                found |= {key: value, f"{key}_low": low, f"{key}_high": high}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, head and rows of a table for people."""
        head = ["figure", "of", "until", "raw", "ipw", "doubly robust"]
        head += ["customers", "asked", "answers", "worth", "trust"]
        rows = [
            [
                STATISTICS[line.statistic], line.segment, _day(line.until),
                *(_told(getattr(line.figures, name), line.statistic) for name in (RAW, IPW, DR)),
                f"{line.figures.n_population:,}", f"{line.figures.n_asked:,}", f"{line.figures.n_answers:,}",
                "-" if np.isnan(line.figures.effective) else f"{line.figures.effective:,.0f}", _trust(line),
            ]
            for line in self.lines
        ]  # fmt: skip
        return "satisfaction of everybody: raw answers beside what corrects them for silence", head, rows

    def find(self, statistic: str, segment: str = "all") -> Line:
        """Return the latest figure of a statistic."""
        return [line for line in self.lines if line.statistic == statistic and line.segment == segment][-1]


def _trust(line: Line) -> str:
    if np.isnan(line.figures.dr.value):
        return "-"
    return f"NO: {', '.join(line.doubts)}" if line.doubts else "yes"


def _told(interval: Interval, statistic: str) -> str:
    if np.isnan(interval.value):
        return "-"
    places = 2 if statistic == "mean" else 1
    if np.isnan(interval.low):
        return f"{interval.value:.{places}f} (-)"
    return f"{interval.value:.{places}f} ({interval.low:.{places}f} to {interval.high:.{places}f})"


def askings(log: JourneyLog, config: ProjectConfig, until: int, leavers: Leavers | None = None) -> Askings:
    """Gather who was asked and whether they answered, as known at ``until``.

    Where the config names no touchpoint of asking, everybody at risk at one of the cutoffs ``snapshots.every`` apart
    counts as asked, and as answered if an answer came before the next. Askings so recent that answers are still
    coming are left out, answered or not: only the quick would have answered.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    until : int
        UTC microseconds; what became known at or after it is not seen.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    Askings
    """
    assert config.satisfaction is not None
    rows = survey_rows(log.block, config.satisfaction)
    came = ~np.isnan(rows.score) & (rows.answered < until)
    if config.satisfaction.asked is None:
        answers = rows.customer[came], rows.answered[came], rows.score[came]
        return _answers_by_cutoff(log, config, until, *answers, leavers)
    lag = rows.answered[came] - rows.cutoff[came]
    patience = int(np.quantile(lag, PATIENCE)) if len(lag) else 0
    over = rows.cutoff < until - patience
    score = np.where(came, rows.score, np.nan)
    return Askings(rows.customer[over], rows.cutoff[over], score[over], patience)


def latest(asked: Askings, most: int) -> Askings:
    """Return the latest askings, in their order."""
    rows = np.sort(np.argsort(asked.cutoff, kind="stable")[-most:])
    return Askings(asked.customer[rows], asked.cutoff[rows], asked.score[rows], asked.patience)


def _answers_by_cutoff(
    log: JourneyLog,
    config: ProjectConfig,
    until: int,
    owner: Int64,
    when: Int64,
    score: Float64,
    leavers: Leavers | None,
) -> Askings:
    every = config.snapshots.every.us
    cutoffs = np.arange(until - every, log.first, -every, dtype=np.int64)[::-1]
    customer, cutoff = at_risk(log, config, cutoffs, leavers)
    if not len(owner):
        return Askings(customer, cutoff, np.full(len(customer), np.nan), 0)
    order = np.lexsort((when, owner))
    owner, when, score = owner[order], when[order], score[order]
    # the first answer of the same customer at or after the cutoff: customer and rank of the moment as one number
    moments = np.unique(np.concatenate([when, cutoffs]))
    key, wanted = (who * len(moments) + np.searchsorted(moments, t) for who, t in ((owner, when), (customer, cutoff)))
    at = np.searchsorted(key, wanted)
    inside = np.minimum(at, len(key) - 1)
    hit = (at < len(key)) & (owner[inside] == customer) & (when[inside] < cutoff + every)
    return Askings(customer, cutoff, np.where(hit, score[inside], np.nan), 0)


def at_risk(log: JourneyLog, config: ProjectConfig, moments: Int64, leavers: Leavers | None) -> tuple[Int64, Int64]:
    """Return everybody who is a customer at each of some moments: seen within ``snapshots.lookback`` and not gone.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
        Without churn nobody is ever gone.
    moments : int64 array of shape (n_moments,)
        UTC microseconds.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    customer, moment : int64 arrays
        By customer, then moment.
    """
    lookback = config.snapshots.lookback.us
    if config.churn is not None:
        line = log_timeline(log, config.churn, leavers)
        customer, moment, _, _ = scan(
            line.starts, line.time, line.known, line.role, np.sort(moments), lookback, int(moments.max(initial=0)),
            line.returns, line.needs_start, line.reopens,
        )  # fmt: skip
        return customer, moment
    block = log.block
    role = np.zeros(block.n_events, np.uint8)
    known = block.time if block.known is None else block.known
    customer, moment, _, _ = scan(
        block.starts, block.time, known, role, np.sort(moments), lookback, int(moments.max(initial=0)),
        False, False, False,
    )  # fmt: skip
    return customer, moment


def expected_nps(
    log: JourneyLog,
    config: ProjectConfig,
    plan: FeaturePlan,
    *,
    until: int | None = None,
    window: Duration | None = None,
    every: Duration | str | None = None,
    by: str | None = None,
    level: float = 0.95,
    hidden: float = ALLOWED,
    bootstrap: int | None = None,
    folds: int = FOLDS,
    most_asked: int = MOST_ASKED,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
) -> Everybody:
    """Estimate the satisfaction of everybody, raw, weighted and doubly robust.

    Models of the answer and of answering are learned on all folds of customers but one and used on that one, so no
    row is judged by a model that saw its customer. What each finds is given to the other: a regression on both tells
    the propensity, and one weighted by it the expected value.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
        With ``satisfaction``.
    plan : FeaturePlan
        What is known of a customer.
    until : int, optional
        Whose satisfaction: the customers of this moment, UTC microseconds; what became known at or after it is not
        seen. Default: just after the last event.
    window : Duration, optional
        Answers to askings of so long before count for a figure; default: ``snapshots.lookback``.
    every : Duration or "month", optional
        Figures over time, one a span; default: the last window only.
    by : str, optional
        An attribute; figures of each of its values.
    level : float
    hidden : float
        Intervals of corrected figures allow for up to such a share of what moves feeling and answering to be in no
        feature; see `cxml.evaluate.expected_nps.allow_hidden`. From 0 to below 1.
    bootstrap : int, optional
        What chance does to the figures is told by so many draws of whole customers. Default: by influence functions.
    folds : int
        The more, the more customers each model learns from, and the longer it takes.
    most_asked : int
        Askings to learn from, the latest.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress

    Returns
    -------
    Everybody

    Raises
    ------
    DataError
        If there are fewer than 60 answers, or all are alike.
    ConfigError
        If there is no such attribute.
    """
    if config.satisfaction is None:
        raise ConfigError("the project has no 'satisfaction': name the survey to speak of its answers")
    _demand_attribute(plan, by)  # now, not after the work
    until = log.last + 1 if until is None else until
    asked = latest(askings(log, config, until, leavers), most_asked)
    if asked.answered.sum() < FEWEST:
        raise DataError(
            f"satisfaction: {int(asked.answered.sum())} answers known by {format_instant(until)} are too few to speak "
            f"for everybody; {FEWEST} are needed. Give a longer log or a later --cutoff."
        )
    spans = _spans(int(asked.cutoff.min()), until, window or config.snapshots.lookback, every)
    customer, moment = _population(log, config, spans, leavers)
    with progress.step("features of the asked and of everybody", len(asked.customer) + len(customer)) as advance:
        X = np.concatenate([_features(log, plan, asked.customer, asked.cutoff), _features(log, plan, customer, moment)])
        advance(len(X))
    study = _Study(config.satisfaction, asked, np.concatenate([asked.customer, customer]), X, _categorical(plan))
    runs = _runs(study, log.block.customers, config.random_state, folds, progress)
    segment = _segments(plan, X, by)
    sure = _Sure(level, hidden, bootstrap, config.random_state)
    lines: list[Line] = []
    with progress.step("figures and how sure they are", len(spans)) as advance:
        for span in spans:
            lines += _lines(study, asked, moment, span, segment, runs, sure)
            advance(1)
    people = _people(log, config.satisfaction, study, customer, moment, until, runs[0])
    seen = ~np.isnan(asked.score)
    ceiling = noise_ceiling(
        asked.customer[seen], asked.cutoff[seen], asked.score[seen], within=TWICE_WITHIN, level=level,
        random_state=config.random_state,
    )  # fmt: skip
    return Everybody(lines, ceiling, people, _response(asked, runs[0]), _notes(asked, runs, lines))


@dataclass(frozen=True, slots=True)
class _Sure:
    """How to tell how sure a figure is; as in `expected_nps`."""

    level: float
    hidden: float
    bootstrap: int | None
    random_state: int


@dataclass(frozen=True, slots=True)
class _Study:
    """Rows of the asked, then of the population, with features."""

    satisfaction: SatisfactionConfig
    asked: Askings
    customer: Int64
    X: NDArray[np.float32]
    categorical: list[int]

    @property
    def n_asked(self) -> int:
        return len(self.asked.customer)

    def statistics(self) -> dict[str, tuple[Float64, Float64]]:
        """Name -> value of each answer (NaN without), and of each score."""
        lowest, highest = self.satisfaction.bounds
        last_low, last_mid = score_groups(self.satisfaction.kind, lowest, highest)
        scores, given = np.arange(lowest, highest + 1, dtype=np.float64), self.asked.score
        found = {"mean": (given, scores)}
        if self.satisfaction.kind == "nps":
            return {"nps": (_balance(given, last_low, last_mid), _balance(scores, last_low, last_mid)), **found}
        return found | {"top_box": (_top(given, last_mid), _top(scores, last_mid))}


def _balance(score: Float64, last_low: int, last_mid: int) -> Float64:
    return np.where(np.isnan(score), np.nan, 100.0 * ((score > last_mid) * 1.0 - (score <= last_low)))


def _top(score: Float64, last_mid: int) -> Float64:
    return np.where(np.isnan(score), np.nan, 100.0 * (score > last_mid))


@dataclass(frozen=True, slots=True)
class _Run:
    """What models say of every row of a study that did not see its customer.

    Parameters
    ----------
    signals : float64 array of shape (n_rows, 2)
        Feeling and willingness to answer, standardised over the asked.
    proba : float64 array of shape (n_rows, n_scores)
    propensity : float64 array of shape (n_rows,)
    """

    signals: Float64
    proba: Float64
    propensity: Float64


def _cells(customers: NDArray[np.generic], n: int) -> Int64:
    """Part customers by a hash of their id: nobody's place depends on who else is there."""
    if customers.dtype == object:
        return parts_of_texts([str(one) for one in customers.tolist()], n).astype(np.int64)
    return parts_of_integers(np.ascontiguousarray(customers, np.int64), n).astype(np.int64)


def _runs(
    study: _Study, customers: NDArray[np.generic], random_state: int, folds: int, progress: Progress
) -> list[_Run]:
    """Learn from all customers, then, where there are answers enough, from either half of them."""
    cell = _cells(customers, 2 * folds)
    fold, half = cell % folds, cell // folds
    came = study.asked.answered
    enough = came.sum() >= FEWEST_FOR_HALVES and not came.all()
    learners = [np.ones(len(cell), np.bool_), *((half == 0, half == 1) if enough else ())]
    with progress.step("models of answers and of answering", folds * len(learners)) as advance:
        return [_run(study, fold, folds, allowed, random_state, advance) for allowed in learners]


def _run(study: _Study, fold: Int64, folds: int, allowed: Bools, random_state: int, advance: Any) -> _Run:
    n, came = study.n_asked, study.asked.answered
    lowest, highest = study.satisfaction.bounds
    signals, proba = np.zeros((len(study.X), 2)), np.zeros((len(study.X), highest - lowest + 1))
    for k in range(folds):
        here = fold[study.customer] == k
        learned = ~here[:n] & allowed[study.customer[:n]]
        given = learned & came
        answers = SatisfactionModel(
            study.satisfaction.bounds, study.satisfaction.kind, n_estimators=shallow_rounds(int(given.sum())),
            learning_rate=0.1, num_leaves=3, colsample_bytree=0.2, max_bin=31, random_state=random_state,
        )  # fmt: skip
        answers.fit(study.X[:n][given], study.asked.score[given], categorical_feature=study.categorical)
        response = ResponseModel(random_state=random_state)
        response.fit(study.X[:n][learned], came[learned], categorical_feature=study.categorical)
        rows = study.X[here]
        signals[here] = np.column_stack([answers.boosting_.predict_latent(rows), response.predict_latent(rows)])
        proba[here] = answers.predict_proba(rows)
        advance(1)
    signals -= signals[:n].mean(axis=0)
    signals /= np.maximum(signals[:n].std(axis=0), 1e-12)
    return _Run(signals, proba, _propensity(signals, came))


def _propensity(signals: Float64, came: Bools) -> Float64:
    """P(answered) by both signals, calibrated on the asked."""
    from sklearn.linear_model import LogisticRegression

    if came.all():
        return np.ones(len(signals))
    basis = quadratic(signals)
    fitted = LogisticRegression(C=10.0, solver="newton-cholesky", max_iter=200).fit(basis[: len(came)], came)
    return np.asarray(fitted.predict_proba(basis)[:, 1].round(9), np.float64)


def _expected(run: _Run, asked_value: Float64, of_score: Float64, weight: Float64) -> Float64:
    """Expect the value of every row, by a regression on what the models say, weighted as the answers will be."""
    by_model = run.proba @ of_score
    design = np.column_stack([np.ones(len(by_model)), by_model, quadratic(run.signals)])
    given = np.flatnonzero(weight > 0)
    root = np.sqrt(weight[given])
    line = np.linalg.lstsq(design[given] * root[:, None], asked_value[given] * root, rcond=1e-8)[0]
    low, high = float(of_score.min()), float(of_score.max())
    return np.asarray(np.clip(design @ line, low, high).round(9), np.float64)


def speak(
    log: JourneyLog, config: ProjectConfig, plan: FeaturePlan, leavers: Leavers | None = None,
    progress: Progress = SILENT,
) -> Everybody | None:  # fmt: skip
    """Estimate the satisfaction of everybody at the end of a log, as training does: from the latest 20,000 askings.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    plan : FeaturePlan
    leavers : (ids, int64 array), optional
    progress : Progress

    Returns
    -------
    Everybody or None
        None where the project has no surveys, or their answers bear no figure; the reason is told.
    """
    if config.satisfaction is None:
        return None
    try:
        return expected_nps(log, config, plan, most_asked=MOST_ASKED_IN_TRAINING, leavers=leavers, progress=progress)
    except DataError as error:
        progress.say(f"no figure for everybody: {error}")
        return None


def _spans(first: int, until: int, window: Duration, every: Duration | str | None) -> list[tuple[int, int]]:
    """Lay the spans, the latest last."""
    if every is None:
        return [(until - window.us, until)]
    if isinstance(every, Duration):
        edges = np.arange(until, first - every.us, -every.us, dtype=np.int64)[::-1]
    elif every == "month":
        edges = np.array([*_months(first, until), until], np.int64)
    else:
        raise ConfigError(f"--every: '{every}' is unknown{nearest(every, ['month'])}; or a duration such as 30d")
    edges = np.unique(edges)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _months(first: int, until: int) -> list[int]:
    """First moments of the months from that of ``first`` on, before ``until``; UTC."""
    moment = dt.datetime.fromtimestamp(first / 1e6, dt.UTC)
    year, month, found = moment.year, moment.month, []
    while (start := int(dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000) < until:
        found.append(start)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return found


def _population(
    log: JourneyLog, config: ProjectConfig, spans: Sequence[tuple[int, int]], leavers: Leavers | None
) -> tuple[Int64, Int64]:
    """Find whom each span speaks for: the customers at its end, or the asked where a project has surveys only."""
    if config.churn is None and config.satisfaction is not None and config.satisfaction.asked is not None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends = np.array([end for _, end in spans], np.int64)
    customer, moment = at_risk(log, config, ends, leavers)
    rng = np.random.default_rng(config.random_state)
    kept = []
    for end in ends:
        there = np.flatnonzero(moment == end)
        kept.append(np.sort(rng.choice(there, MOST_PEOPLE, replace=False)) if len(there) > MOST_PEOPLE else there)
    rows = np.sort(np.concatenate(kept))
    return customer[rows], moment[rows]


def _features(log: JourneyLog, plan: FeaturePlan, customer: Int64, cutoff: Int64) -> NDArray[np.float32]:
    starts = np.searchsorted(customer, np.arange(log.block.n_customers + 1)).astype(np.int64)
    return fill_matrix(plan, log.block, starts, cutoff, log.customers)


def _categorical(plan: FeaturePlan) -> list[int]:
    return [plan.columns.index(name) for name in plan.categorical]


def _demand_attribute(plan: FeaturePlan, by: str | None) -> None:
    known = [name.removeprefix("last__") for name in plan.categorical]
    if by is not None and by not in known:
        raise ConfigError(f"--by: the model knows no attribute '{by}'{nearest(by, known)}")


def _segments(plan: FeaturePlan, X: NDArray[np.float32], by: str | None) -> NDArray[Any] | None:
    if by is None:
        return None
    return np.asarray(value_names(X[:, plan.columns.index(f"last__{by}")], plan.categories(f"last__{by}")))


def _lines(
    study: _Study, asked: Askings, moment: Int64, span: tuple[int, int], segment: NDArray[Any] | None,
    runs: Sequence[_Run], sure: _Sure,
) -> list[Line]:  # fmt: skip
    lines, everyone = [], np.full(len(study.X), "all", dtype=object)
    rows = np.flatnonzero((asked.cutoff >= span[0]) & (asked.cutoff < span[1]))
    people = study.n_asked + np.flatnonzero(moment == span[1])
    odds = [None if not len(moment) else population_odds(r.signals[rows], r.signals[people]) for r in runs]
    for name, (value, of_score) in study.statistics().items():
        made = [_made(study, run, value, of_score, rows, people, w) for run, w in zip(runs, odds, strict=True)]
        ends = float(of_score.min()), float(of_score.max())
        for groups in (everyone,) if segment is None else (everyone, segment):
            for group in dict.fromkeys(groups[np.concatenate([rows, people])].tolist()):
                chosen, told = groups[rows] == group, groups[people] == group
                lines.append(_line(made, chosen, told, name, str(group), span, ends, sure))
    return lines


def _made(
    study: _Study, run: _Run, value: Float64, of_score: Float64, rows: Int64, people: Int64, odds: Float64 | None
) -> tuple[Asked, Population | None]:
    n = study.n_asked
    came = study.asked.answered
    weight = np.where(came, 1.0 / np.clip(run.propensity[:n], 0.02, 1.0), 0.0)
    expected = _expected(run, value, of_score, weight)
    asked = Asked(study.customer[rows], came[rows], value[rows], run.propensity[rows], expected[rows], odds)
    return asked, None if odds is None else Population(study.customer[people], expected[people])


def _line(
    made: Sequence[tuple[Asked, Population | None]], chosen: Bools, told: Bools, statistic: str, segment: str,
    span: tuple[int, int], ends: tuple[float, float], sure: _Sure,
) -> Line:  # fmt: skip
    parts = [(asked.rows(chosen), None if people is None else people.rows(told)) for asked, people in made]
    asked, people = parts[0]
    whole = estimate(asked, people, level=sure.level, bootstrap=sure.bootstrap, random_state=sure.random_state)
    halves = [estimate(*half, level=sure.level) for half in parts[1:]]  # only their values count
    figures = allow_hidden(extrapolate(whole, halves, level=sure.level), asked, sure.hidden)
    hidden = {f"{share:g}": float(np.clip(if_hidden(figures, asked, share), *ends)) for share in HIDDEN}
    n_customers = len(np.unique(asked.customer[asked.answered]))
    return Line(statistic, segment, *span, bounded(figures, *ends), hidden, doubts(figures, *ends, n_customers))


def _people(
    log: JourneyLog, satisfaction: SatisfactionConfig, study: _Study, customer: Int64, moment: Int64, until: int,
    run: _Run,
) -> People:  # fmt: skip
    lowest, highest = satisfaction.bounds
    scores = np.arange(lowest, highest + 1, dtype=np.float64)
    surveys = survey_rows(log.block, satisfaction)
    before = surveys.cutoff < until
    last = np.full(log.block.n_customers, np.iinfo(np.int64).min)
    np.maximum.at(last, surveys.customer[before], surveys.cutoff[before])
    if len(customer):
        at = np.flatnonzero(moment == moment.max())
        rows, who = study.n_asked + at, customer[at]
    else:  # each customer's latest asking
        who, first = np.unique(study.asked.customer[::-1], return_index=True)
        rows = study.n_asked - 1 - first
    proba = run.proba[rows]
    mean = proba @ scores
    return People(who, run.propensity[rows], mean, proba @ scores**2 - mean**2, last[who])


def _response(asked: Askings, run: _Run) -> dict[str, float]:
    from cxml.evaluate.metrics import auroc

    came, propensity = asked.answered, run.propensity[: len(asked.customer)]
    late = asked.cutoff >= np.quantile(asked.cutoff, 0.8)
    return {
        "asked": float(len(came)),
        "answered": float(came.sum()),
        "share": float(came.mean()),
        "late_share": float(came[late].mean()),
        "late_predicted": float(propensity[late].mean()),
        "late_auroc": float(auroc(came[late].astype(np.float64), propensity[late])),
        "patience_days": asked.patience / DAY_US,
    }


def _notes(asked: Askings, runs: Sequence[_Run], lines: Sequence[Line]) -> tuple[str, ...]:
    notes = []
    if asked.answered.all():
        notes.append("everybody who was asked answered: nothing is corrected for silence")
    elif len(runs) == 1:
        notes.append(
            f"{int(asked.answered.sum()):,} answers are too few to learn from halves of them ({FEWEST_FOR_HALVES:,} "
            "are needed): the correction is that of the models as they are, and too small"
        )
    for doubt, why in DOUBTS.items():
        of = dict.fromkeys(f"{line.segment} until {_day(line.until)}" for line in lines if doubt in line.doubts)
        if of:
            notes.append(f"not to be trusted: the corrected figures of {_some(list(of))}: {why}")
    return tuple(notes)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _day(moment: int) -> str:
    return format_instant(moment // DAY_US * DAY_US)
