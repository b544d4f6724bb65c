"""Monotone calibration of a cumulative distribution, threshold by threshold, on data that the trees did not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.errors import DataError

Float64 = NDArray[np.float64]

FEWEST_OUTCOMES = 20  # of either kind, for a threshold to have a curve of its own
_PRIOR_SD = 0.5
_SLOPES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """For each threshold ``k``: P(Y <= k) = sigmoid(intercept[k] + slope[k] * (cut_point[k] - latent)).

    Parameters
    ----------
    intercept, slope : float64 arrays of shape (n_thresholds,)
        Slopes are positive, so that the order of customers never changes.

    Examples
    --------
    >>> Calibration.identity(2).apply(np.array([0.0]), np.array([0.0, 0.0])).tolist()
    [[0.5, 0.5]]
    """

    intercept: Float64
    slope: Float64

    def __post_init__(self) -> None:
        if self.intercept.ndim != 1 or self.intercept.shape != self.slope.shape:
            raise DataError(
                f"calibration: intercept has shape {self.intercept.shape}, slope {self.slope.shape}; must be equal"
            )
        if not (np.isfinite(self.intercept).all() and np.isfinite(self.slope).all() and (self.slope > 0).all()):
            raise DataError("calibration: intercepts must be finite, slopes finite and positive. Save the model again.")

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
        out = np.empty((len(latent), len(cut_points)))
        _fill_cdf(np.ascontiguousarray(latent, np.float64), cut_points, self.intercept, self.slope, out)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return lists of numbers, for JSON."""
        return {"intercept": self.intercept.tolist(), "slope": self.slope.tolist()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Read what `to_dict` wrote; refuse anything else with a `DataError`."""
        return cls(read_numbers(content, "intercept"), read_numbers(content, "slope"))


def read_numbers(content: Any, key: str) -> Float64:
    """Read a list of numbers from parsed JSON, or refuse it."""
    values = content.get(key) if isinstance(content, dict) else None
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise DataError(f"saved model: '{key}' must be a list of numbers. Save the model again.")
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise DataError(f"saved model: '{key}' holds a number too large. Save the model again.") from None


@njit(cache=True, nogil=True)
def _fill_cdf(latent, cut_points, intercept, slope, out):  # type: ignore[no-untyped-def]
    """One scalar loop, on purpose: NumPy's vectorised exp may round a row differently alone and in a batch."""
    for i in range(latent.size):
        highest = 0.0
        for k in range(cut_points.size):
            x = intercept[k] + slope[k] * (cut_points[k] - latent[i])
            if x >= 0.0:
                p = 1.0 / (1.0 + np.exp(-x))
            else:
                p = np.exp(x)
                p = p / (1.0 + p)
            highest = max(highest, p)
            out[i, k] = highest


def fit_calibration(
    latent: Float64, cut_points: Float64, outcome: Float64, weight: Float64 | None = None
) -> Calibration:
    """Fit a logistic curve per threshold (Platt 1999, "Probabilistic outputs for support vector machines").

    A weak prior holds the intercept near 0 and the slope near 1 (normal, standard deviation 0.5), so that few rows
    move the predictions little. A threshold with fewer than 20 outcomes of either kind goes along with its nearest
    fitted neighbour, at the distance in log odds that the cut points have; were it left behind, the two would cross.
    Where no threshold has enough, nothing changes.

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
    weights = np.ones(outcome.shape) if weight is None else np.asarray(weight, float)
    weights = np.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, outcome.shape)
    lines = {}
    for k, cut_point in enumerate(cut_points):
        use = ~np.isnan(outcome[:, k]) & (weights[:, k] > 0)
        happened = outcome[use, k]
        if min(happened.sum(), len(happened) - happened.sum()) >= FEWEST_OUTCOMES:
            lines[k] = _fit_line(cut_point - latent[use], happened, weights[use, k])
    return _spread(lines, cut_points)


def _spread(lines: dict[int, tuple[float, float]], cut_points: Float64) -> Calibration:
    """Give thresholds without a line of their own that of the nearest one, shifted by the distance between them."""
    if not lines:
        return Calibration.identity(len(cut_points))
    nearest = [min(lines, key=lambda j: (abs(cut_points[j] - cut), j)) for cut in cut_points]
    nearest = [k if k in lines else j for k, j in enumerate(nearest)]
    intercept, slope = np.array([lines[j] for j in nearest]).T
    intercept += (1.0 - slope) * (cut_points - cut_points[nearest])
    return Calibration(np.round(intercept, 10), np.round(slope, 10))  # a search ends differently in the last bits


def _fit_line(x: Float64, happened: Float64, weight: Float64) -> tuple[float, float]:
    """Minimise the penalised log loss, a strictly convex function of intercept and slope."""
    from scipy.optimize import minimize
    from scipy.special import expit

    weight = weight / weight.mean()

    def loss(line: Float64) -> tuple[float, Float64]:
        eta = line[0] + line[1] * x
        residual = weight * (expit(eta) - happened)
        away = (line - (0.0, 1.0)) / _PRIOR_SD
        value = weight @ (np.logaddexp(0.0, eta) - happened * eta) + 0.5 * away @ away
        slope = np.array([residual.sum(), residual @ x]) + away / _PRIOR_SD
        return float(value) / len(x), slope / len(x)

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), _SLOPES])
    return float(found.x[0]), float(found.x[1])
