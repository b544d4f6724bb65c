"""Competing reasons: how the probability of churn parts among those who cancel, are dunned, move away.

What is wanted is the cumulative incidence of each reason (Prentice et al. 1978, "The analysis of failure times in the
presence of competing risks", Biometrics 34): P(T < h, reason r). It is built interval by interval,

    P(T < h_k, r) = sum over j <= k of P(h_{j-1} <= T < h_j) * P(r | h_{j-1} <= T < h_j),

so that each rises with the horizon and all of them sum to P(T < h), whatever the second factor. This one is learned
from those who churned: for each reason an ensemble that tells it from the others (cumulative-link boosting with two
classes), normalised over the reasons, with one slope and an intercept a reason and interval fitted on later churners
(as in the temperature and vector scaling of Guo et al. 2017, "On calibration of modern neural networks", ICML).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.models.calibration import read_numbers, read_rows
from cxml.models.trees import TreeEnsemble

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_PRIOR_SD = 0.5
_SLOPES = (0.05, 20.0)


@dataclass(frozen=True)
class ReasonSplit:
    """P(reason | the interval in which the outcome came).

    Parameters
    ----------
    names : tuple of str
    trees : sequence of TreeEnsemble or None
        Latent value of each reason against all others; None where too few gave the reason to learn from.
    offset : float64 array of shape (n_reasons,)
        Log odds of reason ``r`` against the others = latent - offset.
    intercept : float64 array of shape (n_intervals, n_reasons)
    slope : float
        Positive.
    """

    names: tuple[str, ...]
    trees: Sequence[TreeEnsemble | None]
    offset: Float64
    intercept: Float64
    slope: float

    def __post_init__(self) -> None:
        n = len(self.names)
        if n < 2 or len(self.trees) != n or self.offset.shape != (n,) or self.intercept.shape[1:] != (n,):
            raise DataError(f"reasons: the parts do not fit {n} reasons. Save the model again.")
        finite = np.isfinite(self.offset).all() and np.isfinite(self.intercept).all()
        if not (finite and 0 < self.slope < np.inf):
            raise DataError("reasons: numbers must be finite, the slope positive. Save the model again.")

    def log_shares(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Return the log of P(reason against the others), before all are normalised. Shape (n, n_reasons)."""
        return _log_shares(self.trees, self.offset, matrix, threads)

    def split(self, cdf: Float64, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Part P(T < h) among the reasons.

        Parameters
        ----------
        cdf : float64 array of shape (n, n_intervals)
            P(T < h) for every horizon, as the model has it.
        matrix : float32 or float64 array of shape (n, n_features)
        threads : int, optional
            Changes no bit of the result.

        Returns
        -------
        float64 array of shape (n, n_intervals, n_reasons)
            P(T < h, reason): never falls with the horizon, and sums over the reasons to ``cdf`` within rounding. The
            same bits for one row as for many.
        """
        out = np.empty((*cdf.shape, len(self.names)))
        _fill(np.ascontiguousarray(cdf), self.log_shares(matrix, threads), self.intercept, self.slope, out)
        return out

    def parts(self) -> dict[str, TreeEnsemble]:
        """Return the trees by the name of their part."""
        return {f"reason_{r}": trees for r, trees in enumerate(self.trees) if trees is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the trees, for JSON."""
        return {
            "names": list(self.names),
            "offset": self.offset.tolist(),
            "intercept": self.intercept.tolist(),
            "slope": self.slope,
        }

    @classmethod
    def from_dict(cls, content: Any, parts: Mapping[str, TreeEnsemble]) -> ReasonSplit:
        """Read what `to_dict` wrote, with the trees of `parts`; refuse anything else with a `DataError`."""
        offset, intercept = read_numbers(content, "offset"), read_rows(content, "intercept")
        names, slope = content.get("names"), content.get("slope")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError("reasons: 'names' must be a list of texts. Save the model again.")
        if type(slope) is not float or any(len(row) != len(names) for row in intercept):
            raise DataError("reasons: 'slope' must be a number and 'intercept' fit the names. Save the model again.")
        trees = tuple(parts.get(f"reason_{r}") for r in range(len(names)))
        return cls(tuple(names), trees, offset, np.array(intercept, np.float64).reshape(-1, len(names)), slope)


def _log_shares(
    trees: Sequence[TreeEnsemble | None], offset: Float64, matrix: NDArray[Any], threads: int | None
) -> Float64:
    """Column by column; a reason without trees has the same odds for everybody."""
    log_odds = np.empty((len(matrix), len(offset)))
    for r, ensemble in enumerate(trees):
        log_odds[:, r] = (0.0 if ensemble is None else ensemble.predict(matrix, threads)) - offset[r]
    _log_sigmoid(log_odds)
    return log_odds


@njit(cache=True, nogil=True)
def _log_sigmoid(values):  # type: ignore[no-untyped-def]
    """In place, one number at a time: NumPy's vectorised functions may round a row differently alone and in a batch."""
    for i in range(values.shape[0]):
        for r in range(values.shape[1]):
            x = values[i, r]
            values[i, r] = min(x, 0.0) - np.log1p(np.exp(-abs(x)))


@njit(cache=True, nogil=True)
def _fill(cdf, log_shares, intercept, slope, out):  # type: ignore[no-untyped-def]
    n_reasons = log_shares.shape[1]
    share = np.empty(n_reasons)
    for i in range(cdf.shape[0]):
        before = 0.0
        for k in range(cdf.shape[1]):
            highest = -np.inf
            for r in range(n_reasons):
                share[r] = intercept[k, r] + slope * log_shares[i, r]
                highest = max(highest, share[r])
            total = 0.0
            for r in range(n_reasons):
                share[r] = np.exp(share[r] - highest)
                total += share[r]
            for r in range(n_reasons):
                earlier = out[i, k - 1, r] if k else 0.0
                out[i, k, r] = earlier + (cdf[i, k] - before) * (share[r] / total)
            before = cdf[i, k]


def fit_split(
    names: Sequence[str],
    trees: Sequence[TreeEnsemble | None],
    offset: Float64,
    n_intervals: int,
    later: tuple[NDArray[Any], Int64, Int64, Float64],
    threads: int | None = None,
) -> ReasonSplit:
    """Calibrate the shares on churners that the trees were not grown on.

    The slope is held near 1 and the intercepts near 0 (normal, standard deviation 0.5), so that few churners move the
    shares little and none nothing.

    Parameters
    ----------
    names, trees, offset
        As in `ReasonSplit`.
    n_intervals : int
    later : (matrix, interval, reason, weight)
        Rows of those who churned, the interval in which they did and the reason, as numbers, and how much they count.
    threads : int, optional

    Returns
    -------
    ReasonSplit
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    matrix, interval, reason, weight = later
    relative = weight / (weight.mean() if len(weight) else 1.0)
    shares = _log_shares(trees, offset, matrix, threads)
    shape = n_intervals, len(names)
    given = np.arange(len(names)) == reason[:, None]

    def loss(unknown: Float64) -> tuple[float, Float64]:
        slope, intercept = unknown[0], unknown[1:].reshape(shape)
        log_p = log_softmax(intercept[interval] + slope * shares, axis=1)
        residual = relative[:, None] * (np.exp(log_p) - given)
        away = unknown - rest
        by_interval = np.zeros(shape)
        np.add.at(by_interval, interval, residual)
        gradient = np.concatenate([[(residual * shares).sum()], by_interval.ravel()]) + away / _PRIOR_SD**2
        n = max(len(reason), 1)
        return float(-relative @ log_p[given] + 0.5 * away @ away / _PRIOR_SD**2) / n, gradient / n

    rest = np.concatenate([[1.0], np.zeros(n_intervals * len(names))])
    bounds = [_SLOPES, *[(None, None)] * (len(rest) - 1)]
    found = minimize(loss, rest, jac=True, method="L-BFGS-B", bounds=bounds).x
    found = np.round(found, 8)  # a search ends differently in the last bits
    return ReasonSplit(tuple(names), tuple(trees), offset, found[1:].reshape(shape), float(found[0]))
