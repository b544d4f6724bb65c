"""The serving form of a trained model: trees, cut points, calibration. No estimator, no scikit-learn, no pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.models.calibration import Calibration, read_numbers
from cxml.models.trees import TreeEnsemble

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CumulativePredictor:
    """P(Y <= k) of an ordered outcome, for ``k = 0 .. K - 1``.

    Parameters
    ----------
    trees : TreeEnsemble
        The latent value: the larger, the later (churn) or the higher (score) the outcome.
    cut_points : float64 array of shape (K,)
        Ascending.
    calibration : Calibration
    """

    trees: TreeEnsemble
    cut_points: Float64
    calibration: Calibration

    def __post_init__(self) -> None:
        cuts = self.cut_points
        if cuts.ndim != 1 or len(cuts) == 0 or not np.isfinite(cuts).all() or (np.diff(cuts) < 0).any():
            raise DataError("cut points must be finite and ascend. Save the model again.")
        if self.calibration.slope.shape != cuts.shape:
            raise DataError(
                f"calibration is for {len(self.calibration.slope)} thresholds, the model has {len(cuts)}. "
                "Save the model again."
            )

    def latent(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Evaluate the trees; see `TreeEnsemble.predict`."""
        return self.trees.predict(matrix, threads)

    def cdf(self, latent: Float64) -> Float64:
        """Return P(Y <= k).

        Parameters
        ----------
        latent : float64 array of shape (n,)

        Returns
        -------
        float64 array of shape (n, K)
            In [0, 1] and never falling along a row; the same bits for one row as for many.
        """
        return self.calibration.apply(latent, self.cut_points)

    def contributions(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Share the latent values among the features; see `TreeEnsemble.contributions`."""
        return self.trees.contributions(matrix, threads)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the trees, whose text is saved beside, for JSON."""
        return {"cut_points": self.cut_points.tolist(), "calibration": self.calibration.to_dict()}

    @classmethod
    def from_dict(cls, content: dict[str, Any], trees: TreeEnsemble) -> CumulativePredictor:
        """Read what `to_dict` wrote; refuse anything else with a `DataError`."""
        cut_points = read_numbers(content, "cut_points")
        return cls(trees, cut_points, Calibration.from_dict(content.get("calibration", {})))


# Column by column below, so that a row's sums do not depend on how many rows there are.


def class_probabilities(cdf: Float64) -> Float64:
    """Turn P(Y <= k) of K thresholds into P(Y = k) of K + 1 classes.

    Examples
    --------
    >>> class_probabilities(np.array([[0.25, 0.75]])).tolist()
    [[0.25, 0.5, 0.25]]
    """
    edge = np.zeros((len(cdf), 1))
    return np.diff(np.hstack([edge, cdf, edge + 1.0]), axis=1)


def expected_score(cdf: Float64, highest: int) -> Float64:
    """Mean of the score: the highest one minus the sum of P(score <= s) over all lower ones.

    Examples
    --------
    >>> expected_score(np.array([[0.0, 0.0, 0.0, 1.0]]), highest=5).tolist()  # surely 4 of 1-5
    [4.0]
    """
    mean = np.full(len(cdf), float(highest))
    for below in cdf.T:
        mean -= below
    return mean


def restricted_mean_days(cdf: Float64, horizons_days: Sequence[float]) -> Float64:
    """Mean days to the outcome within the last horizon: the area below the survival curve, straight between horizons.

    Parameters
    ----------
    cdf : float64 array of shape (n, n_horizons)
        P(T < h).
    horizons_days : sequence of float
        Ascending.

    Returns
    -------
    float64 array of shape (n,)
        From 0 to the last horizon (Royston & Parmar 2013, BMC Medical Research Methodology 13, on the measure).

    Examples
    --------
    >>> restricted_mean_days(np.array([[0.0, 0.5], [0.0, 0.0]]), [30, 60]).tolist()
    [52.5, 60.0]
    """
    area, before, start = np.zeros(len(cdf)), np.zeros(len(cdf)), 0.0
    for by_horizon, horizon in zip(cdf.T, horizons_days, strict=True):
        area += (horizon - start) * (1.0 - (before + by_horizon) / 2.0)
        before, start = by_horizon, horizon
    return area
