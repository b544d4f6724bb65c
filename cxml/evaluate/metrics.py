"""How good the probabilities are: plain functions whose names become metric keys.

Every function takes ``weight`` as one row of weights, shape ``(n,)``, or as many, shape ``(n_replicates, n)``;
many give one value a row. So a bootstrap of a thousand replicates is a few matrix products instead of a
thousand calls. A value that the rows cannot tell (one class only, no weight) is NaN, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import DataError

Float64 = NDArray[np.float64]
Metric = Callable[..., Any]

_TINY = float(np.finfo(np.float64).eps)
_NPS_BOUNDS = (6, 8)


class Cell(NamedTuple):
    """One figure to be: a metric, the rows it looks at, and what it is given.

    Parameters
    ----------
    key : str
        E.g. ``auroc_30d``.
    metric : callable
        Called as ``metric(*arrays, weight=...)``.
    arrays : tuple of array
        Already cut down to ``rows``.
    rows : bool array of shape (n,)
        Which of the rows given have a known outcome.
    """

    key: str
    metric: Metric
    arrays: tuple[Float64, ...]
    rows: NDArray[np.bool_]


# ---------------------------------------------------------------- yes or no


def base_rate(observed: ArrayLike, predicted: ArrayLike | None = None, *, weight: ArrayLike | None = None) -> Any:
    """Share of rows where it happened; ``predicted`` is there so that all metrics are called alike.

    Examples
    --------
    >>> base_rate([1, 0, 0, 0])
    0.25
    """
    y, _ = yes_no(observed, observed if predicted is None else predicted)
    return _mean(y, weights_of(weight, len(y)))


def auroc(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Area under the receiver operating characteristic: the chance that a churner is ranked above another.

    Parameters
    ----------
    observed : array of shape (n,)
        0 or 1.
    predicted : array of shape (n,)
        Probabilities; ties count a half.
    weight : array of shape (n,) or (n_replicates, n), optional
        Non-negative.

    Returns
    -------
    float, or array of shape (n_replicates,)
        NaN where only one class carries weight.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, p = yes_no(observed, predicted)
    happened, others = rank_groups(y, p, weights_of(weight, len(y)))
    above = np.cumsum(happened, axis=-1) - 0.5 * happened
    return ratio((others * above).sum(axis=-1), happened.sum(axis=-1) * others.sum(axis=-1))


def auprc(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Area under the precision-recall curve as average precision, without interpolation.

    Examples
    --------
    >>> round(auprc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    y, p = yes_no(observed, predicted)
    happened, others = rank_groups(y, p, weights_of(weight, len(y)))
    found = np.cumsum(happened, axis=-1)
    looked_at = found + np.cumsum(others, axis=-1)
    precision = np.divide(found, looked_at, out=np.zeros_like(found), where=looked_at > 0)
    return ratio((happened * precision).sum(axis=-1), happened.sum(axis=-1))


def lift_at(
    observed: ArrayLike, predicted: ArrayLike, *, fraction: float = 0.1, weight: ArrayLike | None = None
) -> Any:
    """How many times the base rate the rate among the highest ``fraction`` of predictions is.

    Equal predictions at the edge enter in equal parts, so the order of the rows does not matter.

    Examples
    --------
    >>> lift_at([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], np.linspace(1, 0, 10))
    5.0
    """
    y, p = yes_no(observed, predicted)
    happened, others = rank_groups(y, p, weights_of(weight, len(y)))
    group = happened + others
    total = group.sum(axis=-1, keepdims=True)
    before = np.cumsum(group, axis=-1) - group
    part = np.divide(fraction * total - before, group, out=np.zeros_like(group), where=group > 0)
    inside = (happened * np.clip(part, 0.0, 1.0)).sum(axis=-1)
    return ratio(inside, fraction * happened.sum(axis=-1))


def log_loss(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Mean negative log-likelihood in nats; probabilities are kept one machine epsilon away from 0 and 1.

    Examples
    --------
    >>> round(log_loss([1, 0], [0.8, 0.4]), 4)
    0.367
    """
    y, p = yes_no(observed, predicted)
    p = np.clip(p, _TINY, 1.0 - _TINY)
    return _mean(-np.where(y == 1, np.log(p), np.log1p(-p)), weights_of(weight, len(y)))


def brier(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Mean squared distance of probability and outcome (Brier 1950, Monthly Weather Review 78(1)).

    Examples
    --------
    >>> brier([1, 0], [0.5, 0.5])
    0.25
    """
    y, p = yes_no(observed, predicted)
    return _mean((y - p) ** 2, weights_of(weight, len(y)))


def ece(observed: ArrayLike, predicted: ArrayLike, *, n_bins: int = 10, weight: ArrayLike | None = None) -> Any:
    """Calibration error (ECE): the mean gap of probability and rate over bins that hold equally many rows.

    Equal predictions share a bin. Replicates share the bins of the rows as given. Chance alone makes it positive.

    Examples
    --------
    >>> round(ece([0, 0, 0, 1], [0.25, 0.25, 0.25, 0.35]), 3)
    0.35
    """
    y, p = yes_no(observed, predicted)
    w = weights_of(weight, len(y))
    gaps = np.abs(w @ (_bins(p, n_bins) * (y - p)[:, None]))
    return ratio(gaps.sum(axis=-1), w.sum(axis=-1))


def brier_reliability(
    observed: ArrayLike, predicted: ArrayLike, *, n_bins: int = 10, weight: ArrayLike | None = None
) -> Any:
    """Part of the Brier score that calibration could mend: mean squared gap of probability and rate over bins.

    Murphy (1973), Journal of Applied Meteorology 12(4): ``brier = reliability - resolution + uncertainty``. Bins are
    those of `ece`. Chance alone makes it positive.

    Examples
    --------
    >>> brier_reliability([0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5])
    0.0625
    """
    y, p = yes_no(observed, predicted)
    w = weights_of(weight, len(y))
    in_bin = _bins(p, n_bins)
    size = w @ in_bin
    gap = np.divide(w @ (in_bin * (y - p)[:, None]), size, out=np.zeros_like(size), where=size > 0)
    return ratio((size * gap**2).sum(axis=-1), w.sum(axis=-1))


def brier_resolution(
    observed: ArrayLike, predicted: ArrayLike, *, n_bins: int = 10, weight: ArrayLike | None = None
) -> Any:
    """Part of the uncertainty that the predictions take away by telling customers apart; higher is better.

    What tells within a bin counts as well, so that reliability, resolution and uncertainty add up to the Brier score
    exactly: the generalised resolution of Stephenson, Coelho and Jolliffe (2008), Weather and Forecasting 23(4).

    Examples
    --------
    >>> brier_resolution([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0])
    0.25
    """
    reliability = brier_reliability(observed, predicted, n_bins=n_bins, weight=weight)
    left = reliability - brier(observed, predicted, weight=weight)
    return left + brier_uncertainty(observed, predicted, weight=weight)


def brier_uncertainty(
    observed: ArrayLike, predicted: ArrayLike | None = None, *, weight: ArrayLike | None = None
) -> Any:
    """Brier score of the base rate, ``rate (1 - rate)``: how hard the rows are, whoever predicts.

    Examples
    --------
    >>> brier_uncertainty([1, 0, 0, 0])
    0.1875
    """
    rate = base_rate(observed, predicted, weight=weight)
    return rate * (1.0 - rate)


def rate_error(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Mean probability minus observed rate; above 0 too much churn is expected.

    Examples
    --------
    >>> rate_error([1, 0], [0.75, 0.75])
    0.25
    """
    y, p = yes_no(observed, predicted)
    return _mean(p - y, weights_of(weight, len(y)))


def _bins(p: Float64, n_bins: int) -> Float64:
    """Which bin each row is in, one column a bin; equally many rows each, equal predictions together."""
    edges = np.unique(np.quantile(p, np.arange(1, n_bins) / n_bins)) if len(p) else np.empty(0)
    return np.eye(len(edges) + 1)[np.searchsorted(edges, p, side="right")]


def calibration_slope(observed: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> Any:
    """Slope of a logistic regression of the outcome on the predicted log-odds: 1 is right, below 1 too extreme.

    Cox (1958), Biometrika 45(3/4). NaN where predictions do not vary, one class is missing, or the classes
    are separated so that no finite slope fits.

    Examples
    --------
    >>> p = np.repeat([0.2, 0.8], 10)
    >>> y = np.repeat([1, 0, 1, 0], [2, 8, 8, 2])
    >>> round(calibration_slope(y, p), 6)
    1.0
    """
    y, p = yes_no(observed, predicted)
    w = np.atleast_2d(weights_of(weight, len(y)))
    p = np.clip(p, _TINY, 1.0 - _TINY)
    logit = np.log(p) - np.log1p(-p)
    spread = float(logit.std()) if len(y) else 0.0
    if spread < 1e-9:
        slopes = np.full(len(w), np.nan)
    else:
        x = (logit - logit.mean()) / spread
        # replicates lie near their mean, so they start at its solution and need few steps
        start = _newton(y, x, w.mean(axis=0, keepdims=True), np.zeros((1, 2)))
        slopes = _newton(y, x, w, np.repeat(np.nan_to_num(start), len(w), axis=0))[:, 1] / spread
        happened = w @ y
        slopes[(happened <= 0) | (happened >= w.sum(axis=-1))] = np.nan
    return slopes if weight is not None and np.ndim(weight) == 2 else float(slopes[0])


def _newton(y: Float64, x: Float64, w: Float64, start: Float64, steps: int = 30) -> Float64:
    """Intercept and slope for every row of weights; NaN where Newton's steps do not settle."""
    line = start.copy()
    step = np.full_like(line, np.inf)
    for _ in range(steps):
        rate = 0.5 + 0.5 * np.tanh(0.5 * (line[:, :1] + line[:, 1:] * x))
        slack, curve = w * (y - rate), w * rate * (1.0 - rate)
        g0, g1 = slack.sum(axis=1), slack @ x
        h00, h01, h11 = curve.sum(axis=1) + 1e-12, curve @ x, curve @ (x * x) + 1e-12
        scale = np.maximum(h00 * h11 - h01 * h01, 1e-24)
        step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / scale[:, None]
        line += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    line[np.abs(step).max(axis=1) > 1e-4] = np.nan
    return line


# ---------------------------------------------------------------- scores on a scale


def rps(scores: ArrayLike, probability: ArrayLike, *, lo: int = 0, weight: ArrayLike | None = None) -> Any:
    """Ranked probability score: mean squared gap of the cumulative distributions, 0 perfect, 1 worst.

    Epstein (1969), Journal of Applied Meteorology 8(6); divided by the number of steps between scores, so
    that scales of different length compare.

    Parameters
    ----------
    scores : array of shape (n,)
        Answers, whole numbers from ``lo``.
    probability : array of shape (n, n_scores)
        P(score = lo), P(score = lo + 1), ...
    lo : int
        Lowest score of the scale.
    weight : array of shape (n,) or (n_replicates, n), optional
        Non-negative.

    Returns
    -------
    float, or array of shape (n_replicates,)

    Examples
    --------
    >>> rps([2], [[1.0, 0.0, 0.0]]), rps([1], [[0.0, 1.0, 0.0]])
    (1.0, 0.0)
    """
    y, q = _on_scale(scores, probability, lo)
    steps = np.arange(q.shape[1] - 1)
    gaps = np.cumsum(q, axis=1)[:, :-1] - (y[:, None] <= steps)
    return _mean((gaps**2).mean(axis=1), weights_of(weight, len(y)))


def mae(scores: ArrayLike, probability: ArrayLike, *, lo: int = 0, weight: ArrayLike | None = None) -> Any:
    """Mean absolute distance of the expected score and the answer, in points of the scale.

    Examples
    --------
    >>> mae([2, 0], [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    0.25
    """
    y, q = _on_scale(scores, probability, lo)
    return _mean(np.abs(_expected(q) - y), weights_of(weight, len(y)))


def quadratic_kappa(scores: ArrayLike, probability: ArrayLike, *, lo: int = 0, weight: ArrayLike | None = None) -> Any:
    """Agreement of the rounded expected score with the answer beyond chance, misses squared.

    Cohen (1968), Psychological Bulletin 70(4): 1 perfect, 0 no better than chance. With squared misses kappa is
    ``1 - E(y - p)^2 / (var y + var p + (mean y - mean p)^2)``. NaN where all are one and the same score.

    Examples
    --------
    >>> quadratic_kappa([0, 2], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    1.0
    """
    y, q = _on_scale(scores, probability, lo)
    w = weights_of(weight, len(y))
    rounded = np.floor(_expected(q) + 0.5)
    mean_y, mean_p = np.asarray(_mean(y, w)), np.asarray(_mean(rounded, w))
    chance = _mean(y**2, w) + _mean(rounded**2, w) - 2.0 * mean_y * mean_p
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = 1.0 - np.where(chance > 1e-12, _mean((y - rounded) ** 2, w) / np.asarray(chance), np.nan)
    return float(kappa) if np.ndim(kappa) == 0 else kappa


def balance_error(
    scores: ArrayLike,
    probability: ArrayLike,
    *,
    lo: int = 0,
    last_low: int,
    last_mid: int,
    weight: ArrayLike | None = None,
) -> Any:
    """Predicted minus observed ``100 (share high - share low)``, in points; above 0 is too optimistic.

    ``last_low`` is the highest score of the low group and ``last_mid`` that of the middle group.

    Examples
    --------
    >>> balance_error([5, 1], [[0, 0, 0, 0, 1.0], [0, 0, 1.0, 0, 0]], lo=1, last_low=2, last_mid=3)
    50.0
    """
    y, q = _on_scale(scores, probability, lo)
    side = np.arange(lo, lo + q.shape[1])
    sign = (side > last_mid).astype(np.float64) - (side <= last_low)
    return _mean(100.0 * (q @ sign - sign[y.astype(np.int64)]), weights_of(weight, len(y)))


def nps_error(scores: ArrayLike, probability: ArrayLike, *, lo: int = 0, weight: ArrayLike | None = None) -> Any:
    """Predicted minus observed Net Promoter Score, in NPS points (Reichheld 2003): 0-6 against 9-10.

    Examples
    --------
    >>> nps_error([10, 3], np.eye(11)[[10, 8]])
    50.0
    """
    low, mid = _NPS_BOUNDS
    return balance_error(scores, probability, lo=lo, last_low=low, last_mid=mid, weight=weight)


# ---------------------------------------------------------------- all of them


CHURN_METRICS: Mapping[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "log_loss": log_loss,
    "brier": brier,
    "brier_reliability": brier_reliability,
    "brier_resolution": brier_resolution,
    "brier_uncertainty": brier_uncertainty,
    "ece": ece,
    "lift_at_10pct": lift_at,
    "calibration_slope": calibration_slope,
    "base_rate": base_rate,
    "rate_error": rate_error,
}
#: Gaps without a sign: chance makes them larger, and resampling adds more of that.
RAISED_BY_CHANCE: frozenset[Metric] = frozenset({ece, brier_reliability})
SCORE_METRICS: Mapping[str, Metric] = {"rps": rps, "mae": mae, "quadratic_kappa": quadratic_kappa}


def churn_cells(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> Iterator[Cell]:
    """Every churn metric at every horizon, each on the rows whose outcome is known there.

    Parameters
    ----------
    known : array of shape (n, n_horizons)
        1 churned by the horizon, 0 not, NaN censored before it.
    predicted : array of shape (n, n_horizons)
        P(churn by the horizon).
    horizons : sequence of str
        Their names, e.g. ``("30d", "60d")``.

    Yields
    ------
    Cell

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    outcome, p = np.asarray(known, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    wanted = (len(outcome), len(horizons))
    if outcome.shape != wanted or p.shape != wanted:
        raise DataError(
            f"known has shape {outcome.shape} and predicted {p.shape}, but {len(horizons)} horizons need "
            f"(n_rows, {len(horizons)}). Give one column a horizon to both."
        )
    for k, horizon in enumerate(horizons):
        rows = ~np.isnan(outcome[:, k])
        arrays = (outcome[rows, k], p[rows, k])
        for name, metric in CHURN_METRICS.items():
            yield Cell(f"{name}_{horizon}", metric, arrays, rows)


def score_cells(
    scores: ArrayLike, probability: ArrayLike, lo: int = 0, groups: tuple[int, int] | None = None
) -> Iterator[Cell]:
    """Every score metric on the rows that have an answer.

    Parameters
    ----------
    scores : array of shape (n,)
        Answers; NaN: asked, not answered.
    probability : array of shape (n, n_scores)
        P(score = lo), ...
    lo : int
        Lowest score.
    groups : (int, int), optional
        Highest low and highest middle score, for ``balance_error``. A scale of 0 to 10 gets ``nps_error`` instead.

    Yields
    ------
    Cell
    """
    y, q = np.asarray(scores, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    rows = ~np.isnan(y)
    arrays = (y[rows], q[rows])
    metrics = dict(SCORE_METRICS)
    if lo == 0 and q.ndim == 2 and q.shape[1] == 11:
        metrics["nps_error"] = nps_error
    elif groups is not None:
        metrics["balance_error"] = partial(balance_error, last_low=groups[0], last_mid=groups[1])
    for name, metric in metrics.items():
        yield Cell(name, partial(metric, lo=lo), arrays, rows)


def churn_metrics(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> dict[str, float]:
    """All churn metrics at all horizons, e.g. ``auroc_30d``; see `churn_cells` for the parameters.

    Examples
    --------
    >>> known = np.array([[1.0], [0.0], [np.nan]])
    >>> churn_metrics(known, np.array([[0.8], [0.1], [0.5]]), ["30d"])["auroc_30d"]
    1.0
    """
    return {cell.key: float(cell.metric(*cell.arrays)) for cell in churn_cells(known, predicted, horizons)}


def score_metrics(
    scores: ArrayLike, probability: ArrayLike, lo: int = 0, groups: tuple[int, int] | None = None
) -> dict[str, float]:
    """All score metrics; see `score_cells` for the parameters.

    Examples
    --------
    >>> sorted(score_metrics([10, 3], np.eye(11)[[10, 8]]))
    ['mae', 'nps_error', 'quadratic_kappa', 'rps']
    """
    return {cell.key: float(cell.metric(*cell.arrays)) for cell in score_cells(scores, probability, lo, groups)}


# ---------------------------------------------------------------- what they share


def yes_no(observed: ArrayLike, predicted: ArrayLike) -> tuple[Float64, Float64]:
    """Return outcomes and probabilities as arrays.

    Raises
    ------
    DataError
        If the shapes do not fit, an outcome is neither 0 nor 1, or a prediction is no probability.

    Examples
    --------
    >>> yes_no([1, 0], [0.5, 0.5])
    (array([1., 0.]), array([0.5, 0.5]))
    """
    y, p = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or p.shape != y.shape:
        raise DataError(f"observed has shape {y.shape} and predicted {p.shape}; both must be (n_rows,)")
    wrong = np.flatnonzero((y != 0) & (y != 1))
    if len(wrong):
        raise DataError(f"observed: {len(wrong)} of {len(y)} values are neither 0 nor 1 ({_few(wrong)})")
    outside = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(outside):
        raise DataError(f"predicted: {len(outside)} of {len(p)} values are no probabilities ({_few(outside)})")
    return y, p


def _on_scale(scores: ArrayLike, probability: ArrayLike, lo: int) -> tuple[Float64, Float64]:
    y, q = np.asarray(scores, dtype=np.float64) - lo, np.asarray(probability, dtype=np.float64)
    if y.ndim != 1 or q.ndim != 2 or len(q) != len(y) or q.shape[1] < 2:
        raise DataError(f"scores has shape {y.shape} and probability {q.shape}; they must be (n,) and (n, n_scores)")
    wrong = np.flatnonzero(~((y >= 0) & (y < q.shape[1]) & (y == np.floor(y))))
    if len(wrong):
        raise DataError(
            f"scores: {len(wrong)} of {len(y)} are no whole numbers from {lo} to {lo + q.shape[1] - 1} ({_few(wrong)})"
        )
    odd = np.flatnonzero(~((q >= -1e-9).all(axis=1) & (np.abs(q.sum(axis=1) - 1.0) < 1e-6)))
    if len(odd):
        raise DataError(f"probability: {len(odd)} of {len(q)} rows are no distributions ({_few(odd)})")
    return y, q


def _few(rows: NDArray[np.intp]) -> str:
    return "rows " + ", ".join(str(r) for r in rows[:3]) + (", ..." if len(rows) > 3 else "")


def weights_of(weight: ArrayLike | None, n: int) -> Float64:
    """Return the weights of ``n`` rows, one each where none are given; shape (n,) or (n_replicates, n).

    Raises
    ------
    DataError
        If the shape does not fit.

    Examples
    --------
    >>> weights_of(None, 3)
    array([1., 1., 1.])
    """
    if weight is None:
        return np.ones(n)
    w = np.asarray(weight, dtype=np.float64)
    if w.ndim not in (1, 2) or w.shape[-1] != n:
        raise DataError(f"weight has shape {w.shape}; for {n} rows it must be ({n},) or (n_replicates, {n})")
    return w


def _mean(values: Float64, w: Float64) -> Any:
    return ratio(w @ values, w.sum(axis=-1))


def ratio(top: Any, bottom: Any) -> Any:
    """Divide; NaN where nothing carries weight.

    Examples
    --------
    >>> ratio(1.0, 0.0), ratio(1.0, 4.0)
    (nan, 0.25)
    """
    bottom = np.asarray(bottom, dtype=np.float64)
    value = np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)
    return float(value) if value.ndim == 0 else value


def rank_groups(y: Float64, p: Float64, w: Float64) -> tuple[Float64, Float64]:
    """Weight of what happened and of what did not, from the highest prediction down, equal predictions together.

    Parameters
    ----------
    y, p : array of shape (n,)
        Outcomes 0 or 1, and predictions.
    w : array of shape (n,) or (n_replicates, n)
        Weights.

    Returns
    -------
    happened, others : array of shape (n_distinct,) or (n_replicates, n_distinct)

    Examples
    --------
    >>> rank_groups(np.array([1.0, 0.0, 0.0]), np.array([0.9, 0.9, 0.1]), np.ones(3))
    (array([1., 0.]), array([1., 1.]))
    """
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(p) else np.empty(0, dtype=np.intp)
    if not len(starts):
        return np.zeros((*w.shape[:-1], 0)), np.zeros((*w.shape[:-1], 0))
    w, y = w[..., order], y[order]
    return np.add.reduceat(w * y, starts, axis=-1), np.add.reduceat(w * (1.0 - y), starts, axis=-1)


def _expected(q: Float64) -> Float64:
    return q @ np.arange(q.shape[1], dtype=np.float64)
