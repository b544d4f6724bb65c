"""The interval-censored likelihood of an ordered outcome: what the boosting in `cxml.models.cumulative` descends.

P(Y <= k) = sigmoid(theta_k - f) (McCullagh 1980, "Regression models for ordinal data", JRSS B 42). With the outcome
somewhere in classes ``l .. u``, a = theta_u - f and b = theta_{l-1} - f,

    -log P = softplus(-a) + softplus(b) - log(1 - exp(b - a)),

whose last term does not depend on f. So the gradient in f is 1 - sigmoid(a) - sigmoid(b), and the Hessian
sigmoid'(a) + sigmoid'(b), which is positive; an open end (u = K: a = inf; l = 0: b = -inf) simply drops out.
The likelihood is log-concave in the cut points too, and their Newton step needs only sums over rows that the
gradient has at hand, so re-fitting them every round costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

_PRIOR_ROWS = 1.0  # spread evenly over the classes, so that a class nobody was seen in keeps its width
_LARGEST_STEP = 1.0


@dataclass(frozen=True)
class Intervals:
    """Outcomes known up to an interval of classes.

    Parameters
    ----------
    lower, upper : int32 arrays of shape (n,)
        First and last class that the outcome may be in, from 0 to ``n_cuts``.
    weight : float64 array of shape (n,)
        Non-negative, mean 1.
    n_cuts : int
        Number of cut points; there is one class more.
    """

    lower: Int32
    upper: Int32
    weight: Float64
    n_cuts: int

    def pair_weights(self) -> Float64:
        """Weight of rows between each two cut points ``[l - 1, u]``, plus the prior's; shape (n_cuts, n_cuts)."""
        total = np.eye(self.n_cuts, k=1) * _PRIOR_ROWS / (self.n_cuts + 1)
        inner = (self.lower > 0) & (self.upper < self.n_cuts)
        np.add.at(total, (self.lower[inner] - 1, self.upper[inner]), self.weight[inner])
        return total


def first_cut_points(outcomes: Intervals) -> Float64:
    """Fit the cut points when every latent value is 0, to convergence."""
    cuts = np.linspace(-1.0, 1.0, outcomes.n_cuts) if outcomes.n_cuts > 1 else np.zeros(1)
    latent = np.zeros(len(outcomes.lower))
    scratch = np.empty(len(latent), np.float32), np.empty(len(latent), np.float32)
    pairs = outcomes.pair_weights()
    for _ in range(100):
        step = cut_point_step(cuts, pairs, *gradients(latent, outcomes, cuts, *scratch))
        cuts = cuts + step
        if np.abs(step).max() < 1e-10:
            break
    return cuts


def gradients(
    latent: Float64,
    outcomes: Intervals,
    cut_points: Float64,
    gradient: NDArray[np.float32],
    hessian: NDArray[np.float32],
) -> tuple[Float64, float]:
    """Fill gradient and Hessian of the negative log-likelihood in the latent values.

    Parameters
    ----------
    latent : float64 array of shape (n,)
    outcomes : Intervals
    cut_points : float64 array of shape (n_cuts,)
    gradient, hessian : float32 arrays of shape (n,)
        Filled in place.

    Returns
    -------
    sums : float64 array of shape (2, n_cuts)
        Slope and curvature of the log-likelihood in each cut point, but for the term of pairs.
    mean : float
        Weighted mean of the latent values.
    """
    sums = np.zeros((2, len(cut_points)))
    mean = _fill(
        latent, outcomes.lower, outcomes.upper, outcomes.weight, cut_points, gradient, hessian, sums
    ) / max(float(outcomes.weight.sum()), 1e-300)  # fmt: skip
    return sums, mean


def cut_point_step(cut_points: Float64, pairs: Float64, sums: Float64, mean: float) -> Float64:
    """Take one Newton step of the cut points, shortened where it would carry one too near to the next.

    Parameters
    ----------
    cut_points : float64 array of shape (n_cuts,)
        Ascending.
    pairs : float64 array of shape (n_cuts, n_cuts)
        From `Intervals.pair_weights`.
    sums, mean
        From `gradients`.

    Returns
    -------
    float64 array of shape (n_cuts,)
        To be added to the cut points, which stay ascending.
    """
    slope, curvature = sums[0].copy(), sums[1].copy()
    _add_prior(cut_points, mean, slope, curvature)
    gap = np.where(pairs > 0, cut_points[None, :] - cut_points[:, None], np.inf)
    pull = pairs / np.expm1(np.minimum(gap, 700.0)) * (pairs > 0)
    stiffness = pull * (1.0 + 1.0 / np.expm1(np.minimum(gap, 700.0)))
    slope += pull.sum(axis=0) - pull.sum(axis=1)
    information = np.diag(curvature + stiffness.sum(axis=0) + stiffness.sum(axis=1)) - stiffness - stiffness.T
    step: Float64 = np.linalg.solve(information, slope)
    step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))
    closing = -np.diff(step)
    worst = float(np.max(closing / np.diff(cut_points), initial=0.0))
    return step * min(1.0, 0.5 / worst) if worst > 0 else step


def _add_prior(cut_points: Float64, mean: float, slope: Float64, curvature: Float64) -> None:
    """Add one row at the mean latent value, spread evenly over the classes."""
    share = _PRIOR_ROWS / (len(cut_points) + 1)
    below = 1.0 / (1.0 + np.exp(np.clip(mean - cut_points, -700.0, 700.0)))
    slope += share * (1.0 - 2.0 * below)
    curvature += share * 2.0 * below * (1.0 - below)


def mean_loss(latent: Any, outcomes: Intervals, cut_points: Float64) -> float:
    """Weighted mean of the negative log-likelihood.

    Parameters
    ----------
    latent : float64 array of shape (n,)
    outcomes : Intervals
    cut_points : float64 array of shape (n_cuts,)

    Returns
    -------
    float
        In nats a row.

    Examples
    --------
    >>> row = Intervals(np.array([0], np.int32), np.array([0], np.int32), np.ones(1), 1)
    >>> round(mean_loss(np.zeros(1), row, np.zeros(1)), 6)  # log 2
    0.693147
    """
    total = _loss(
        np.asarray(latent, np.float64), outcomes.lower, outcomes.upper, outcomes.weight, cut_points, outcomes.n_cuts
    )
    return float(total) / float(outcomes.weight.sum())


@njit(cache=True, nogil=True)
def _sigmoid(x):  # type: ignore[no-untyped-def]
    if x >= 0.0:
        return 1.0 / (1.0 + np.exp(-x))
    e = np.exp(x)
    return e / (1.0 + e)


@njit(cache=True, nogil=True)
def _softplus(x):  # type: ignore[no-untyped-def]
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


@njit(cache=True, nogil=True)
def _fill(latent, lower, upper, weight, cut_points, gradient, hessian, sums):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(latent.size):
        w, f = weight[i], latent[i]
        slope = curvature = 0.0
        if upper[i] < cut_points.size:
            missing = _sigmoid(f - cut_points[upper[i]])  # 1 - P(Y <= u)
            bend = missing * (1.0 - missing)
            slope, curvature = missing, bend
            sums[0, upper[i]] += w * missing
            sums[1, upper[i]] += w * bend
        if lower[i] > 0:
            below = _sigmoid(cut_points[lower[i] - 1] - f)
            bend = below * (1.0 - below)
            slope, curvature = slope - below, curvature + bend
            sums[0, lower[i] - 1] -= w * below
            sums[1, lower[i] - 1] += w * bend
        gradient[i], hessian[i] = w * slope, w * curvature
        total += w * f
    return total


@njit(cache=True, nogil=True)
def _loss(latent, lower, upper, weight, cut_points, n_cuts):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(latent.size):
        loss = 0.0
        if upper[i] < n_cuts:
            loss += _softplus(latent[i] - cut_points[upper[i]])
        if lower[i] > 0:
            loss += _softplus(cut_points[lower[i] - 1] - latent[i])
        if lower[i] > 0 and upper[i] < n_cuts:
            loss -= np.log(-np.expm1(cut_points[lower[i] - 1] - cut_points[upper[i]]))
        total += weight[i] * loss
    return total
