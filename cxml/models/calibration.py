"""Monotone calibration of a cumulative distribution, threshold by threshold, on data that the trees did not see.

How much a curve may bend is decided by how many outcomes of the rarer kind there are: a line of two numbers where they
are few, three numbers where they are more, steps as the data have them where they are many (see `fit_calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.errors import DataError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Curve = tuple[Float64, Float64]

FEWEST_OUTCOMES = 20  # of either kind, for a threshold to have a curve of its own
BETA_OUTCOMES = 100  # from so many of the rarer kind on, the two ends of a curve bend by themselves
ISOTONIC_OUTCOMES = 400  # from so many on, the data say what the curve looks like
_BETA_KNOTS = 33
_PRIOR_SD = 0.5
_STEPS_SD = 0.25  # of the log odds of a block around the beta curve
_SLOPES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """For each threshold ``k``: P(Y <= k) = sigmoid(g_k(margin)), where margin = cut_point[k] - latent.

    ``g_k`` is the line ``intercept[k] + slope[k] * margin``. Where there are knots, it joins these by straight lines
    instead, and goes on at ``slope[k]`` before the first and after the last of them.

    Parameters
    ----------
    intercept, slope : float64 arrays of shape (n_thresholds,)
        Slopes are positive, so that the order of customers never changes.
    curves : sequence of (margin, log_odds), optional
        One pair of float64 arrays a threshold, margins ascending and log odds not falling; empty arrays for a
        threshold that has its line only. Nothing at all stands for lines only.

    Examples
    --------
    >>> Calibration.identity(2).apply(np.array([0.0]), np.array([0.0, 0.0])).tolist()
    [[0.5, 0.5]]
    """

    intercept: Float64
    slope: Float64
    curves: Sequence[Curve] = ()
    _knots: tuple[Int64, Float64, Float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.intercept.ndim != 1 or self.intercept.shape != self.slope.shape:
            raise DataError(
                f"calibration: intercept has shape {self.intercept.shape}, slope {self.slope.shape}; must be equal"
            )
        if not (np.isfinite(self.intercept).all() and np.isfinite(self.slope).all() and (self.slope > 0).all()):
            raise DataError("calibration: intercepts must be finite, slopes finite and positive. Save the model again.")
        _check_curves(self.curves, len(self.slope))
        sizes = [len(margin) for margin, _ in self.curves] or [0] * len(self.slope)
        margin, log_odds = (np.concatenate([np.empty(0), *(curve[i] for curve in self.curves)]) for i in (0, 1))
        object.__setattr__(self, "_knots", (np.cumsum([0, *sizes]).astype(np.int64), margin, log_odds))

    @classmethod
    def identity(cls, n_thresholds: int) -> Calibration:
        """Return the one that changes nothing."""
        return cls(np.zeros(n_thresholds), np.ones(n_thresholds))

    def apply(self, latent: Float64, cut_points: Float64) -> Float64:
        """Return the calibrated distribution of each row.

        Parameters
        ----------
        latent : float64 array of shape (n,)
        cut_points : float64 array of shape (n_thresholds,)

        Returns
        -------
        float64 array of shape (n, n_thresholds)
            P(Y <= k), in [0, 1], never falling along a row. A row has the same bits alone and among others.
        """
        return self.apply_margins(np.subtract.outer(-np.asarray(latent, np.float64), -cut_points))

    def apply_margins(self, margins: Float64, shifts: Float64 | None = None) -> Float64:
        """Return the calibrated distribution of rows whose thresholds have margins of their own.

        Parameters
        ----------
        margins : float64 array of shape (n, n_thresholds)
            ``cut_point - latent``, with what else speaks for this threshold.
        shifts : float64 array of shape (n, n_thresholds), optional
            Added to the log odds; see `SegmentShifts`.

        Returns
        -------
        float64 array of shape (n, n_thresholds)
            As from `apply`.
        """
        out = np.empty(margins.shape)
        none = np.zeros((0, margins.shape[1])) if shifts is None else shifts
        _fill_cdf(np.ascontiguousarray(margins), none, self.intercept, self.slope, *self._knots, out)
        return out

    def log_odds(self, margins: Float64) -> Float64:
        """Return the log odds of each threshold's own curve, before the distribution is kept from crossing.

        Parameters
        ----------
        margins : float64 array of shape (n, n_thresholds)

        Returns
        -------
        float64 array of shape (n, n_thresholds)
        """
        out = np.empty(margins.shape)
        _fill_log_odds(np.ascontiguousarray(margins), self.intercept, self.slope, *self._knots, out)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return lists of numbers, for JSON."""
        lines = {"intercept": self.intercept.tolist(), "slope": self.slope.tolist()}
        if not self._knots[1].size:
            return lines
        names = ("margin", "log_odds")
        return lines | {name: [curve[i].tolist() for curve in self.curves] for i, name in enumerate(names)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Read what `to_dict` wrote; refuse anything else with a `DataError`."""
        intercept, slope = read_numbers(content, "intercept"), read_numbers(content, "slope")
        if "margin" not in content and "log_odds" not in content:
            return cls(intercept, slope)
        margin, log_odds = read_rows(content, "margin"), read_rows(content, "log_odds")
        if len(margin) != len(log_odds):
            raise DataError("calibration: there must be as many rows of margin as of log_odds. Save the model again.")
        return cls(intercept, slope, tuple(zip(margin, log_odds, strict=True)))


def _check_curves(curves: Sequence[Curve], n_thresholds: int) -> None:
    if curves and len(curves) != n_thresholds:
        raise DataError(f"calibration: {len(curves)} curves for {n_thresholds} thresholds. Save the model again.")
    for margin, log_odds in curves:
        whole = margin.shape == log_odds.shape and np.isfinite(margin).all() and np.isfinite(log_odds).all()
        if not whole or (np.diff(margin) <= 0).any() or (np.diff(log_odds) < 0).any():
            raise DataError(
                "calibration: the margins of a curve must ascend and its log odds must not fall, all of them finite "
                "and as many of the one as of the other. Save the model again."
            )


@dataclass(frozen=True)
class SegmentShifts:
    """How much the log odds of a segment's customers differ from what the curves say, by threshold.

    Parameters
    ----------
    column : int
        Of the feature matrix; holds the segment's code.
    shifts : float64 array of shape (n_segments, n_thresholds)
        By code. A code that is missing, or beyond, gets no shift.
    """

    column: int
    shifts: Float64

    def __post_init__(self) -> None:
        if self.column < 0 or self.shifts.ndim != 2 or not np.isfinite(self.shifts).all():
            raise DataError("calibration by segment: shifts must be finite rows, one a segment. Save the model again.")

    def of(self, matrix: NDArray[Any]) -> Float64:
        """Return the shifts of each row of a feature matrix, shape (n, n_thresholds)."""
        table = np.vstack([self.shifts, np.zeros(self.shifts.shape[1])])
        rows: Float64 = table[segment_codes(matrix[:, self.column], len(self.shifts))]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {"column": self.column, "shifts": self.shifts.tolist()}

    @classmethod
    def from_dict(cls, content: Any, n_thresholds: int) -> SegmentShifts:
        """Read what `to_dict` wrote; refuse anything else with a `DataError`."""
        rows, column = read_rows(content, "shifts"), content.get("column")
        if type(column) is not int or any(len(row) != n_thresholds for row in rows):
            raise DataError("calibration by segment: 'column' and rows of 'shifts' do not fit. Save the model again.")
        return cls(column, np.array(rows, np.float64).reshape(len(rows), n_thresholds))


def segment_codes(column: NDArray[Any], n_segments: int) -> Int64:
    """Turn a column of codes into whole numbers; ``n_segments`` stands for a missing code and for one beyond.

    Examples
    --------
    >>> segment_codes(np.array([0.0, 2.0, np.nan, 9.0]), 3).tolist()
    [0, 2, 3, 3]
    """
    known = (column >= 0) & (column < n_segments)
    codes: Int64 = np.where(known, np.where(known, column, 0.0).astype(np.int64), n_segments)
    return codes


def read_numbers(content: Any, key: str) -> Float64:
    """Read a list of numbers from parsed JSON, or refuse it."""
    values = content.get(key) if isinstance(content, dict) else None
    return _numbers(values, key)


def read_rows(content: Any, key: str) -> list[Float64]:
    """Read a list of lists of numbers from parsed JSON, or refuse it."""
    values = content.get(key) if isinstance(content, dict) else None
    if not isinstance(values, list):
        raise DataError(f"saved model: '{key}' must be a list of lists of numbers. Save the model again.")
    return [_numbers(row, key) for row in values]


def _numbers(values: Any, key: str) -> Float64:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise DataError(f"saved model: '{key}' must be a list of numbers. Save the model again.")
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise DataError(f"saved model: '{key}' holds a number too large. Save the model again.") from None


@njit(cache=True, nogil=True)
def _fill_log_odds(margins, intercept, slope, starts, knot, value, out):  # type: ignore[no-untyped-def]
    for i in range(margins.shape[0]):
        for k in range(margins.shape[1]):
            own = slice(starts[k], starts[k + 1])
            out[i, k] = _curve(margins[i, k], intercept[k], slope[k], knot[own], value[own])


@njit(cache=True, nogil=True)
def _fill_cdf(margins, shifts, intercept, slope, starts, knot, value, out):  # type: ignore[no-untyped-def]
    """One scalar loop, on purpose: NumPy's vectorised exp may round a row differently alone and in a batch."""
    for i in range(margins.shape[0]):
        highest = 0.0
        for k in range(margins.shape[1]):
            own = slice(starts[k], starts[k + 1])
            x = _curve(margins[i, k], intercept[k], slope[k], knot[own], value[own])
            if shifts.shape[0]:
                x += shifts[i, k]
            if x >= 0.0:
                p = 1.0 / (1.0 + np.exp(-x))
            else:
                p = np.exp(x)
                p = p / (1.0 + p)
            highest = max(highest, p)
            out[i, k] = highest


@njit(cache=True, nogil=True)
def _curve(margin, intercept, slope, knot, value):  # type: ignore[no-untyped-def]
    """Log odds at a margin: the line, or between knots the straight piece that the margin lies in."""
    last = knot.size - 1
    if last < 0:
        return intercept + slope * margin
    if margin <= knot[0]:
        return value[0] + slope * (margin - knot[0])
    if margin >= knot[last]:
        return value[last] + slope * (margin - knot[last])
    right = np.searchsorted(knot, margin, side="right")
    left = right - 1
    share = (margin - knot[left]) / (knot[right] - knot[left])
    return min(value[left] + share * (value[right] - value[left]), value[right])


def fit_calibration(
    latent: Float64, cut_points: Float64, outcome: Float64, weight: Float64 | None = None
) -> Calibration:
    """Fit a monotone curve per threshold, the freer the more outcomes there are; see `fit_curves`.

    Parameters
    ----------
    latent : float64 array of shape (n,)
        Of rows that the trees were not grown on, later ones by preference.
    cut_points : float64 array of shape (n_thresholds,)
    outcome : float64 array of shape (n, n_thresholds)
        1 where Y <= k, 0 where not, NaN where unknown.
    weight : float64 array of shape (n,) or (n, n_thresholds), optional
        Non-negative.

    Returns
    -------
    Calibration
    """
    margins = np.subtract.outer(-np.asarray(latent, np.float64), -cut_points)
    return fit_curves(margins, cut_points, outcome, weight)


def fit_curves(margins: Float64, cut_points: Float64, outcome: Float64, weight: Float64 | None = None) -> Calibration:
    """Fit a monotone curve of each threshold's margin, the freer the more outcomes of the rarer kind there are.

    - from 20: a logistic curve (Platt 1999, "Probabilistic outputs for support vector machines"). A weak prior holds
      the intercept near 0 and the slope near 1 (normal, standard deviation 0.5), so that few rows move the predictions
      little;
    - from 100: beta calibration, whose two ends have slopes of their own (Kull, Silva Filho & Flach 2017, "Beta
      calibration", AISTATS), under the same prior;
    - from 400: isotonic regression (Zadrozny & Elkan 2002, "Transforming classifier scores into accurate multiclass
      probability estimates", KDD), its blocks joined by straight lines and each pulled to the beta curve as by a normal
      prior of standard deviation 0.25 on its log odds. By itself isotonic regression needs about a thousand cases to
      beat the logistic curve (Niculescu-Mizil & Caruana 2005, "Predicting good probabilities with supervised
      learning", ICML); drawn so, it needs fewer: docs/decisions/ has what was measured.

    A threshold with fewer than 20 goes along with its nearest fitted neighbour, at the distance in log odds that the
    cut points have; were it left behind, the two would cross. Where no threshold has enough, nothing changes.

    Parameters
    ----------
    margins : float64 array of shape (n, n_thresholds)
    cut_points, outcome, weight
        As in `fit_calibration`.

    Returns
    -------
    Calibration
    """
    weights = _weights(outcome, weight)
    lines, curves = {}, {}
    for k in range(len(cut_points)):
        use = ~np.isnan(outcome[:, k]) & (weights[:, k] > 0)
        happened, margin = outcome[use, k], margins[use, k]
        rarer = min(happened.sum(), len(happened) - happened.sum())
        if rarer >= FEWEST_OUTCOMES:
            relative = weights[use, k] / weights[use, k].mean()
            lines[k] = _fit_line(margin, happened, relative)
            if rarer >= BETA_OUTCOMES:
                curves[k] = _fit_curve(margin, happened, relative, isotonic=rarer >= ISOTONIC_OUTCOMES)
    return _spread(lines, curves, cut_points)


def _weights(outcome: Float64, weight: Float64 | None) -> Float64:
    weights = np.ones(outcome.shape) if weight is None else np.asarray(weight, float)
    return np.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, outcome.shape)


def _spread(lines: dict[int, tuple[float, float]], curves: dict[int, Curve], cut_points: Float64) -> Calibration:
    """Give thresholds without a curve of their own that of the nearest one, shifted by the distance between them."""
    if not lines:
        return Calibration.identity(len(cut_points))
    nearest = [min(lines, key=lambda j: (abs(cut_points[j] - cut), j)) for cut in cut_points]
    nearest = [k if k in lines else j for k, j in enumerate(nearest)]
    apart = cut_points - cut_points[nearest]
    intercept, slope = np.array([lines[j] for j in nearest]).T
    intercept += (1.0 - slope) * apart
    # a search ends differently in the last bits
    found = Calibration(np.round(intercept, 10), np.round(slope, 10))
    if not curves:
        return found
    none = np.empty(0), np.empty(0)
    knots = [curves.get(j, none) for j in nearest]
    return Calibration(
        found.intercept, found.slope, tuple((x + d, y + d) for (x, y), d in zip(knots, apart, strict=True))
    )


def _fit_line(margin: Float64, happened: Float64, weight: Float64) -> tuple[float, float]:
    ends = _fit_ends(lambda m: m[:, None], margin, happened, weight)
    return float(ends[0]), float(ends[1])


def _fit_curve(margin: Float64, happened: Float64, weight: Float64, *, isotonic: bool) -> Curve:
    """Fit a beta curve; with many outcomes, let the data bend it where they will."""
    start, low, high = np.round(_fit_ends(_tails, margin, happened, weight), 8).tolist()

    def beta(at: Float64) -> Float64:
        tails = _tails(at)
        log_odds: Float64 = start + low * tails[:, 0] + high * tails[:, 1]
        return log_odds

    if isotonic:
        return _fit_steps(margin, happened, weight, beta)
    knots: Float64 = np.unique(np.round(np.linspace(margin.min(), margin.max(), _BETA_KNOTS), 6)).astype(np.float64)
    return knots, np.maximum.accumulate(np.round(beta(knots), 8))


def _tails(margin: Float64) -> Float64:
    """Log of P and minus log of 1 - P, as the uncalibrated margin says: their slopes are those of the two ends."""
    return np.column_stack([-np.logaddexp(0.0, -margin), np.logaddexp(0.0, margin)])


def _fit_steps(margin: Float64, happened: Float64, weight: Float64, beta: Callable[[Float64], Float64]) -> Curve:
    """Pool neighbours until the rates ascend, and pull the rate of each block to the beta curve's."""
    from scipy.optimize import isotonic_regression
    from scipy.special import expit, logit

    at, place = np.unique(np.round(margin, 6), return_inverse=True)
    mass = np.bincount(place, weight)
    rate = np.bincount(place, weight * happened) / mass
    starts = isotonic_regression(rate, weights=mass).blocks[:-1]
    size = np.add.reduceat(mass, starts)
    middle = np.add.reduceat(mass * at, starts) / size
    came = np.add.reduceat(mass * rate, starts)
    expected = np.add.reduceat(mass * expit(beta(at)), starts) / size
    prior = 1.0 / (_STEPS_SD**2 * expected * (1.0 - expected))  # rows that tell as much as the prior
    log_odds = np.maximum.accumulate(logit((came + prior * expected) / (size + prior)))
    knots, first = np.unique(np.round(middle, 6), return_index=True)
    return knots.astype(np.float64), np.round(log_odds[first], 8).astype(np.float64)


def _fit_ends(basis: Callable[[Float64], Float64], margin: Float64, happened: Float64, weight: Float64) -> Float64:
    """Minimise the penalised log loss, a strictly convex function of an intercept and positive slopes."""
    from scipy.optimize import minimize
    from scipy.special import expit

    columns = basis(margin)
    rest = np.array([0.0, *[1.0] * columns.shape[1]])

    def loss(ends: Float64) -> tuple[float, Float64]:
        eta = ends[0] + columns @ ends[1:]
        residual = weight * (expit(eta) - happened)
        away = (ends - rest) / _PRIOR_SD
        value = weight @ (np.logaddexp(0.0, eta) - happened * eta) + 0.5 * away @ away
        slope = np.array([residual.sum(), *(residual @ columns)]) + away / _PRIOR_SD
        return float(value) / len(margin), slope / len(margin)

    bounds = [(None, None), *[_SLOPES] * columns.shape[1]]
    found: Float64 = minimize(loss, rest, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found


def fit_segments(
    log_odds: Float64, code: Int64, n_segments: int, outcome: Float64, weight: Float64 | None = None
) -> Float64:
    """Find how much each segment's log odds differ from the curves', shrunk as far as the differences may be chance.

    Partial pooling: a segment's shift is normal around 0, with a spread that is itself estimated from the segments
    (empirical Bayes: Efron & Morris 1975, "Data analysis using Stein's estimator and its generalizations", JASA 70;
    the spread by the moments of DerSimonian & Laird 1986, "Meta-analysis in clinical trials", Controlled Clinical
    Trials 7). Segments that differ no more than chance would have them get no shift at all; a small one gets less than
    a large one. By the calibration curves the rows' mean is right already, so 0 is the middle.

    Parameters
    ----------
    log_odds : float64 array of shape (n, n_thresholds)
        As calibrated without segments.
    code : int64 array of shape (n,)
        Segment of each row, from 0; ``n_segments`` where it has none.
    n_segments : int
    outcome, weight
        As in `fit_calibration`.

    Returns
    -------
    float64 array of shape (n_segments, n_thresholds)
    """
    weights = _weights(outcome, weight)
    shifts = np.zeros((n_segments, outcome.shape[1]))
    for k in range(outcome.shape[1]):
        use = ~np.isnan(outcome[:, k]) & (weights[:, k] > 0) & (code < n_segments)
        happened = outcome[use, k]
        if min(happened.sum(), len(happened) - happened.sum()) >= FEWEST_OUTCOMES:
            relative = weights[use, k] / weights[use, k].mean()
            shifts[:, k] = _shrunken(log_odds[use, k], code[use], n_segments, happened, relative)
    return np.round(shifts, 8)


def _shrunken(log_odds: Float64, code: Int64, n_segments: int, happened: Float64, weight: Float64) -> Float64:
    """Shifts of one threshold: Newton steps to the most probable ones under the estimated spread."""
    from scipy.special import expit

    def slope_and_information(shift: Float64) -> tuple[Float64, Float64]:
        p = expit(log_odds + shift[code])
        slope, information = np.zeros((2, n_segments))
        np.add.at(slope, code, weight * (happened - p))
        np.add.at(information, code, weight * p * (1.0 - p))
        return slope, information

    shift = np.zeros(n_segments)
    slope, information = slope_and_information(shift)
    variance = _spread_of(slope, information)
    if variance == 0.0:
        return shift
    for _ in range(30):
        step = (slope - shift / variance) / (information + 1.0 / variance)
        shift = shift + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            break
        slope, information = slope_and_information(shift)
    return shift


def _spread_of(slope: Float64, information: Float64) -> float:
    """Variance of the true shifts: how much more the segments differ than their own noise would have them."""
    known = information > 0
    information, shift = information[known], slope[known] / information[known]
    if len(shift) < 2:
        return 0.0
    total = information.sum()
    beyond = information @ shift**2 - len(shift)  # about 0 in expectation where all true shifts are 0
    return max(0.0, float(beyond / (total - (information @ information) / total + 1e-300)))
