"""How quality grows with data: with the number of customers learned from, and with the days of history they bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.config import ProjectConfig
from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval, customer_draws, percentile_interval
from cxml.evaluate.exam import MODEL
from cxml.evaluate.metrics import ratio
from cxml.evaluate.plots import CurvePanel, plot_curves
from cxml.features.plan import FeaturePlan
from cxml.features.truncate import fill_short_matrix
from cxml.progress import SILENT, Progress
from cxml.times import DAY_US
from cxml.training.learn import learn_target, predict_test
from cxml.training.studies import Leavers, Outlook, Rows, Study, known_churn, look_ahead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

SHARES = (0.125, 0.25, 0.5, 1.0)
DAYS = (7, 30, 90, 180, 365, 730)
#: A history is enough where it costs no more than this share of the loss, beyond chance.
TOLERANCE = 0.01
_METRICS = {"churn": "log loss, mean over horizons", "satisfaction": "ranked probability score"}
_EXPONENTS = np.linspace(0.1, 1.0, 91)
_FEWEST_POINTS = 3
_TINY = float(np.finfo(np.float64).eps)


class PowerLaw(NamedTuple):
    """Loss as ``floor + scale * n ** -exponent``: what no data mend, and what more data mend.

    The form that learning curves are found to follow (Cortes et al. 1994, "Learning curves: asymptotic values and
    rate of convergence", NIPS 6; Viering and Loog 2023, "The shape of learning curves: a review", IEEE TPAMI 45(6)).

    Parameters
    ----------
    floor, scale, exponent : float
    """

    floor: float
    scale: float
    exponent: float

    def at(self, n: float) -> float:
        """Return the loss that the law expects of ``n`` customers."""
        return float(self.floor + self.scale * n**-self.exponent)


@dataclass(frozen=True, slots=True)
class Point:
    """The test of a model that was given less.

    Parameters
    ----------
    given : float
        Customers, or days of history.
    n_rows : int
        Snapshots learned from, calibration included; the mean over draws.
    loss : Interval
        On the whole test part; lower is better.
    behind : Interval
        Loss minus that of the model that was given everything, paired; above 0 it is worse.
    """

    given: float
    n_rows: int
    loss: Interval
    behind: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what is not known is None."""
        numbers = {name: _plain(getattr(self, name)) for name in ("loss", "behind")}
        return {"given": self.given, "snapshots": self.n_rows, **numbers}


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Test loss against the number of customers learned from.

    Parameters
    ----------
    target : str
    points : tuple of Point
        Ascending; the last one learned from all.
    law : PowerLaw or None
        None where fewer than three sizes could be learned from.
    twice : Interval or None
        By how much the law expects the loss to fall with twice the customers.
    skipped : tuple of str
        Sizes that nothing could be learned from, and why.
    """

    target: str
    points: tuple[Point, ...]
    law: PowerLaw | None
    twice: Interval | None
    skipped: tuple[str, ...] = ()

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, head and rows of a table for people."""
        head = ["customers", "snapshots", "loss", "behind all"]
        return f"{self.target}: test loss ({_METRICS[self.target]}) by data", head, _rows(self.points)

    def lines(self) -> list[str]:
        """Say what more data would bring."""
        said = [f"{self.target}: left out {why}" for why in self.skipped]
        if self.law is None or self.twice is None:
            return [*said, f"{self.target}: too few sizes to say what more data would bring"]
        n, now = self.points[-1].given, self.points[-1].loss.value
        gain = f"{self.twice.value:.5f} ({self.twice.low:.5f} to {self.twice.high:.5f})"
        share = f"{self.twice.value / now:.1%}" if now > 0 else "nothing"
        sure = "" if self.twice.low > 0 else ", which may be nothing"
        law = f"{self.law.floor:.5f} + {self.law.scale:.4g} n^-{self.law.exponent:.2f}"
        return [
            *said,
            f"{self.target}: twice the customers ({2 * n:,.0f}) should lower the loss by {gain}, {share} of it{sure}",
            f"{self.target}: law {law}; {self.law.floor:.5f} is what it expects to remain with any amount of data",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "target": self.target,
            "metric": _METRICS[self.target],
            "points": [point.to_dict() for point in self.points],
            "law": None if self.law is None else self.law._asdict(),
            "twice": None if self.twice is None else _plain(self.twice),
            "skipped": list(self.skipped),
        }

    def panel(self) -> CurvePanel:
        """Return what a picture shows, with the law up to twice the customers."""
        given, title, line = [p.given for p in self.points], self.target, None
        if self.law is not None and self.twice is not None:
            x = np.geomspace(given[0], 2 * given[-1], 60)
            line = (x, np.array([self.law.at(n) for n in x]))
            title = f"{self.target}: twice the customers should save {self.twice.value:.4f}"
        return CurvePanel(title, given, _around_all(self.points), _METRICS[self.target], line)


@dataclass(frozen=True, slots=True)
class HistoryCurve:
    """Test loss against the days of history that features may see.

    Parameters
    ----------
    target : str
    points : tuple of Point
        Ascending; the last one saw everything, and its ``given`` is the longest history there was.
    enough : float or None
        The fewest days that, like all more, are within ``tolerance`` of everything, beyond chance; None where only
        everything is.
    tolerance : float
        As a share of the loss.
    """

    target: str
    points: tuple[Point, ...]
    enough: float | None
    tolerance: float

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, head and rows of a table for people."""
        head = ["days", "loss", "behind all"]
        rows = [[days, *figures] for days, _, *figures in _rows(self.points)]
        rows[-1][0] += " (all)"
        return f"{self.target}: test loss ({_METRICS[self.target]}) by history", head, rows

    def lines(self) -> list[str]:
        """Say how much history is enough."""
        within = f"within {self.tolerance:.1%} of all history, beyond chance"
        if self.enough is None:
            return [f"{self.target}: no shorter history that was tried is {within}; keep all of it"]
        return [f"{self.target}: {self.enough:g} days of history are enough, {within}"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "target": self.target,
            "metric": _METRICS[self.target],
            "points": [point.to_dict() for point in self.points],
            "enough_days": self.enough,
            "tolerance": self.tolerance,
        }

    def panel(self) -> CurvePanel:
        """Return what a picture shows."""
        enough = "all history is needed" if self.enough is None else f"{self.enough:g} days of history are enough"
        given = [p.given for p in self.points]
        return CurvePanel(f"{self.target}: {enough}", given, _around_all(self.points), _METRICS[self.target])


def learning_curves(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    shares: Sequence[float] = SHARES,
    repeats: int = 3,
    replicates: int = 200,
) -> list[LearningCurve]:
    """Learn every target from fewer customers, and test each model on the same, whole test part.

    Customers are drawn for training and calibration together, whole. Small shares are drawn ``repeats`` times, without
    overlap, so that the interval tells both the luck of the draw and that of the test. The feature plan is the one of
    all customers: vocabularies and what is learned from outcomes (families ``likeness`` and ``peers``) know more than
    a small log would.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress
    shares : sequence of float
        Of the customers, above 0 and at most 1; all of them (1) are always among them.
    repeats : int
        How often a share is drawn, as far as there are customers.
    replicates : int
        Bootstrap replicates behind the intervals.

    Returns
    -------
    list of LearningCurve
        One a target.

    Raises
    ------
    ConfigError
        If a share is out of range or ``repeats`` is below 1.
    DataError
        If nothing can be learned from the whole log.
    """
    if not shares or not all(0 < share <= 1 for share in shares) or repeats < 1:
        raise ConfigError(
            f"shares {list(shares)} and repeats {repeats}: shares lie above 0 and at most at 1, repeats are 1 or more"
        )
    outlook = _outlook(log, config, leavers, progress)
    wanted = sorted({*shares, 1.0})
    return [
        _learning_curve(study, config, outlook.plan, wanted, repeats, replicates, progress)
        for study in outlook.studies.values()
    ]


def history_curves(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    days: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
    replicates: int = 200,
) -> list[HistoryCurve]:
    """Learn every target from features that see only the last days before each cutoff, as if no more had been kept.

    Snapshots, labels and the feature plan stay the same; every event older than so many days before its cutoff is
    gone, in training as in the test, so that tenure and all that looks back without a window is cut short as well.

    Parameters
    ----------
    log, config, leavers, progress, replicates
        As in `learning_curves`.
    days : sequence of float, optional
        Lengths of history; default 7, 30, 90, 180, 365, 730, as far as the log reaches back.
    tolerance : float
        How much worse is still enough, as a share of the loss with all history.

    Returns
    -------
    list of HistoryCurve
        One a target.

    Raises
    ------
    ConfigError
        If a length is not above 0, or the tolerance is negative.
    DataError
        If nothing can be learned from the whole log.
    """
    if any(not length > 0 for length in days or ()) or not tolerance >= 0:
        raise ConfigError(
            f"history of {list(days or DAYS)} days, tolerance {tolerance}: days are above 0, the tolerance is 0 or more"
        )
    outlook = _outlook(log, config, leavers, progress)
    return [
        _history_curve(log, study, config, outlook.plan, days, tolerance, replicates, progress)
        for study in outlook.studies.values()
    ]


def draw_curves(curves: Sequence[LearningCurve] | Sequence[HistoryCurve]) -> Figure:
    """Draw curves of one kind side by side.

    Parameters
    ----------
    curves : sequence of LearningCurve, or of HistoryCurve

    Returns
    -------
    matplotlib.figure.Figure
    """
    history = isinstance(curves[0], HistoryCurve)
    what = "days of history before the cutoff" if history else "customers learned from"
    rest = "the last one saw everything" if history else "line: fitted power law, up to twice the customers"
    return plot_curves(
        [curve.panel() for curve in curves], title=f"How the test loss falls with the {what}",
        subtitle=f"Dots: test loss; bars: 95 % interval of the difference to the model given everything; {rest}",
        xlabel=what,
    )  # fmt: skip


def fit_power_law(n: ArrayLike, loss: ArrayLike) -> PowerLaw:
    """Fit ``floor + scale * n ** -exponent`` by least squares; floor and scale are not negative.

    Parameters
    ----------
    n : array of shape (n_points,)
        Above 0.
    loss : array of shape (n_points,)

    Returns
    -------
    PowerLaw
        The exponent lies between 0.1 and 1. Where the loss does not fall, ``scale`` is 0.

    Examples
    --------
    >>> n = np.array([100, 200, 400, 800])
    >>> law = fit_power_law(n, 0.2 + 3 * n**-0.5)
    >>> round(law.floor, 6), round(law.scale, 6), round(law.exponent, 6)
    (0.2, 3.0, 0.5)
    """
    found = _fit_laws(np.asarray(n, dtype=np.float64), np.asarray(loss, dtype=np.float64)[None])[0]
    return PowerLaw(*(float(each) for each in found))


def _outlook(log: JourneyLog, config: ProjectConfig, leavers: Leavers | None, progress: Progress) -> Outlook:
    outlook = look_ahead(log, config, leavers, progress)
    outlook.demand()
    return outlook


# ---------------------------------------------------------------- fewer customers


def _learning_curve(
    study: Study, config: ProjectConfig, plan: FeaturePlan, shares: Sequence[float], repeats: int, replicates: int,
    progress: Progress,
) -> LearningCurve:  # fmt: skip
    everybody = np.unique(np.concatenate([study.parts[part].customer for part in ("train", "calibration")]))
    shuffled = np.random.default_rng(config.random_state).permutation(everybody)
    given: list[tuple[int, int]] = []
    losses: list[list[Float64]] = []
    skipped: list[str] = []
    with progress.step(f"learn {study.target} from fewer customers", len(shares)) as advance:
        for share in shares:
            size = max(1, round(share * len(shuffled)))
            draws = [shuffled[k * size : (k + 1) * size] for k in range(min(repeats, len(shuffled) // size))]
            parts = [_of_customers(study, chosen) for chosen in draws]
            try:
                losses.append([_test_loss(part, config, plan) for part in parts])
                given.append((size, round(np.mean([_n_learned(part) for part in parts]))))
            except DataError as error:
                skipped.append(f"{size:,} customers: {error}")
            advance(1)
    values, drawn = _replicates(losses, study.parts["test"].customer, replicates, config.random_state)
    points = _points(given, values, drawn)
    sizes = np.array([size for size, _ in given], dtype=np.float64)
    if len(points) < _FEWEST_POINTS:
        return LearningCurve(study.target, points, None, None, tuple(skipped))
    laws = _fit_laws(sizes, np.vstack([values, drawn]))
    falls = _law_at(laws, sizes[-1]) - _law_at(laws, 2 * sizes[-1])
    law, twice = PowerLaw(*(float(x) for x in laws[0])), percentile_interval(float(falls[0]), falls[1:])
    return LearningCurve(study.target, points, law, twice, tuple(skipped))


def _of_customers(study: Study, chosen: Int64) -> Study:
    """Leave some customers to learn from; the test stays whole."""
    parts = dict(study.parts)
    for part in ("train", "calibration"):
        rows = study.parts[part]
        mask = np.isin(rows.customer, chosen)
        parts[part] = Rows(rows.customer[mask], rows.cutoff[mask], rows.X[mask], rows.y[mask])
    return replace(study, parts=parts)


def _n_learned(study: Study) -> int:
    return len(study.parts["train"]) + len(study.parts["calibration"])


def _fit_laws(n: Float64, losses: Float64) -> Float64:
    """Fit a law to every row of losses; columns floor, scale, exponent.

    For a given exponent it is a regression on one column; of all exponents the best is taken.
    """
    best = np.full(len(losses), np.inf)
    found = np.zeros((len(losses), 3))
    mean = losses.mean(axis=1)
    for exponent in _EXPONENTS:
        x = n**-exponent
        away = x - x.mean()
        scale = np.maximum(losses @ away / (away @ away), 0.0)
        floor = mean - scale * x.mean()
        through_zero = losses @ x / (x @ x)  # least squares without a floor, where the best one is negative
        scale = np.where(floor < 0, through_zero, scale)
        floor = np.maximum(floor, 0.0)
        missed = ((losses - floor[:, None] - scale[:, None] * x) ** 2).sum(axis=1)
        better = missed < best
        best[better] = missed[better]
        found[better] = np.column_stack([floor, scale, np.full(len(losses), exponent)])[better]
    return found


def _law_at(laws: Float64, n: float) -> Float64:
    return laws[:, 0] + laws[:, 1] * n ** -laws[:, 2]


# ---------------------------------------------------------------- fewer days


def _history_curve(
    log: JourneyLog, study: Study, config: ProjectConfig, plan: FeaturePlan, days: Sequence[float] | None,
    tolerance: float, replicates: int, progress: Progress,
) -> HistoryCurve:  # fmt: skip
    reach = max(float((rows.cutoff.max() - log.first) / DAY_US) for rows in study.parts.values())
    lengths = sorted({float(length) for length in (DAYS if days is None else days) if length < reach})
    losses = []
    with progress.step(f"learn {study.target} from shorter histories", len(lengths) + 1) as advance:
        for length in lengths:
            losses.append([_test_loss(_of_history(log, study, plan, round(length * DAY_US)), config, plan)])
            advance(1)
        losses.append([_test_loss(study, config, plan)])
        advance(1)
    values, drawn = _replicates(losses, study.parts["test"].customer, replicates, config.random_state)
    points = _points([(length, _n_learned(study)) for length in [*lengths, round(reach, 1)]], values, drawn)
    return HistoryCurve(study.target, points, _enough(points, tolerance), tolerance)


def _enough(points: Sequence[Point], tolerance: float) -> float | None:
    """Walk from everything down to the fewest days that cost next to nothing."""
    enough = None
    for point in reversed(points[:-1]):
        if not point.behind.high <= tolerance * points[-1].loss.value:
            break
        enough = point.given
    return enough


def _of_history(log: JourneyLog, study: Study, plan: FeaturePlan, width_us: int) -> Study:
    parts = {}
    for part, rows in study.parts.items():
        X = fill_short_matrix(plan, log.block, rows.customer, rows.cutoff, width_us, log.customers)
        parts[part] = replace(rows, X=X)
    return replace(study, parts=parts)


# ---------------------------------------------------------------- what they share


def _test_loss(study: Study, config: ProjectConfig, plan: FeaturePlan) -> Float64:
    """Learn, and return the loss of each test row, one column a horizon; NaN where the outcome is not known."""
    predictor, _ = learn_target(study, config, plan)
    predicted = predict_test(study, config, plan, predictor, baselines=False)[MODEL]
    test = study.parts["test"]
    if study.target == "churn":
        known, p = known_churn(study, "test", config), np.clip(predicted, _TINY, 1.0 - _TINY)
        loss = -np.where(known == 1, np.log(p), np.log1p(-p))
        return np.where(np.isnan(known), np.nan, loss)
    assert config.satisfaction is not None
    score = test.y - config.satisfaction.bounds[0]
    steps = np.arange(predicted.shape[1] - 1)
    gaps = np.cumsum(predicted, axis=1)[:, :-1] - (score[:, None] <= steps)
    return np.asarray((gaps**2).mean(axis=1, keepdims=True), dtype=np.float64)


def _replicates(
    losses: Sequence[Sequence[Float64]], customers: Int64, n: int, random_state: int
) -> tuple[Float64, Float64]:
    """Mean loss of every size, and that of every bootstrap replicate: test customers and draws are both resampled."""
    rng = np.random.default_rng(random_state)
    everybody = np.ones((1, len(customers)))
    values = np.array([[np.mean([_mean_loss(one, everybody)[0] for one in draws]) for draws in losses]])
    blocks = []
    for weight in customer_draws(customers, n, random_state):
        columns = []
        for draws in losses:
            each = np.array([_mean_loss(one, weight) for one in draws])
            chosen = rng.integers(0, len(draws), size=(len(draws), len(weight)))
            columns.append(np.take_along_axis(each, chosen, axis=0).mean(axis=0))
        blocks.append(np.column_stack(columns))
    return values, np.concatenate(blocks) if blocks else np.empty((0, len(losses)))


def _mean_loss(loss: Float64, weight: Float64) -> Float64:
    """Mean over the columns of the weighted mean of each, for every row of weights; columns without rows left out."""
    seen = ~np.isnan(loss)
    columns = [k for k in range(loss.shape[1]) if seen[:, k].any()]
    means = [ratio(weight @ np.where(seen[:, k], loss[:, k], 0.0), weight @ seen[:, k]) for k in columns]
    return np.asarray(np.mean(means, axis=0), dtype=np.float64)


def _points(given: Sequence[tuple[float, int]], values: Float64, drawn: Float64) -> tuple[Point, ...]:
    return tuple(
        Point(
            float(amount),
            n_rows,
            percentile_interval(float(values[0, k]), drawn[:, k]),
            percentile_interval(float(values[0, k] - values[0, -1]), drawn[:, k] - drawn[:, -1]),
        )
        for k, (amount, n_rows) in enumerate(given)
    )


def _around_all(points: Sequence[Point]) -> list[Interval]:
    """Losses with the interval of their difference to that of everything, which the luck of the test hardly moves."""
    base = points[-1].loss.value
    return [Interval(point.loss.value, base + point.behind.low, base + point.behind.high) for point in points]


def _rows(points: Sequence[Point]) -> list[list[str]]:
    behind = [_figure(point.behind) for point in points[:-1]]
    return [
        [f"{point.given:,.10g}", f"{point.n_rows:,}", _figure(point.loss), gap]
        for point, gap in zip(points, [*behind, "-"], strict=True)
    ]


def _figure(interval: Interval) -> str:
    return f"{interval.value:.5f} ({interval.low:.5f} to {interval.high:.5f})"


def _plain(interval: Interval) -> Mapping[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in interval._asdict().items()}
