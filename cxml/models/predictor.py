"""The serving form of a trained model: trees, cut points, calibration, reasons. No estimator and no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.models.calibration import Calibration, SegmentShifts, read_numbers
from cxml.models.reasons import ReasonSplit
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
    corrections : sequence of TreeEnsemble or None, optional
        What a threshold adds to its own margin ``cut_point - latent``; None where nothing, nothing at all for none.
    segments : SegmentShifts, optional
        What a segment adds to the calibrated log odds.
    reasons : ReasonSplit, optional
        How the probability parts among competing reasons.
    """

    trees: TreeEnsemble
    cut_points: Float64
    calibration: Calibration
    corrections: Sequence[TreeEnsemble | None] = ()
    segments: SegmentShifts | None = None
    reasons: ReasonSplit | None = None

    def __post_init__(self) -> None:
        cuts = self.cut_points
        if cuts.ndim != 1 or len(cuts) == 0 or not np.isfinite(cuts).all() or (np.diff(cuts) < 0).any():
            raise DataError("cut points must be finite and ascend. Save the model again.")
        if self.calibration.slope.shape != cuts.shape:
            raise DataError(
                f"calibration is for {len(self.calibration.slope)} thresholds, the model has {len(cuts)}. "
                "Save the model again."
            )
        if self.corrections and len(self.corrections) != len(cuts):
            raise DataError(
                f"corrections are for {len(self.corrections)} thresholds, the model has {len(cuts)}. "
                "Save the model again."
            )
        if self.reasons is not None and len(self.reasons.intercept) != len(cuts):
            raise DataError(
                f"reasons are for {len(self.reasons.intercept)} thresholds, the model has {len(cuts)}. "
                "Save the model again."
            )
        if any(ensemble.n_features != self.trees.n_features for ensemble in self.parts().values()):
            raise DataError("the trees of one model were grown on unequal numbers of columns. Save the model again.")
        if self.segments is not None and self.segments.column >= self.trees.n_features:
            raise DataError(
                f"calibration by segment reads column {self.segments.column} of {self.trees.n_features}. "
                "Save the model again."
            )

    def latent(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Evaluate the common trees; see `TreeEnsemble.predict`."""
        return self.trees.predict(matrix, threads)

    def margins(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Return ``cut_point - latent`` and the threshold's own correction, before calibration. Shape (n, K)."""
        margins = np.subtract.outer(-self.latent(matrix, threads), -self.cut_points)
        for k, correction in enumerate(self.corrections):
            if correction is not None:
                margins[:, k] += correction.predict(matrix, threads)
        return margins

    def distribution(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Return P(Y <= k) of the rows of a feature matrix.

        Parameters
        ----------
        matrix : float32 or float64 array of shape (n, n_features)
        threads : int, optional
            Changes no bit of the result.

        Returns
        -------
        float64 array of shape (n, K)
            In [0, 1] and never falling along a row; the same bits for one row as for many.
        """
        shifts = None if self.segments is None else self.segments.of(matrix)
        return self.calibration.apply_margins(self.margins(matrix, threads), shifts)

    def cdf(self, latent: Float64) -> Float64:
        """Return P(Y <= k) from the latent value, where it is all that counts; else use `distribution`.

        Parameters
        ----------
        latent : float64 array of shape (n,)

        Returns
        -------
        float64 array of shape (n, K)
            As from `distribution`.

        Raises
        ------
        DataError
            If the model looks at more of a row than its latent value.
        """
        if self.corrections or self.segments is not None:
            raise DataError("this model needs the rows themselves, not their latent values: use distribution(matrix)")
        return self.calibration.apply(latent, self.cut_points)

    def contributions(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Share the latent values among the features; see `TreeEnsemble.contributions`.

        The corrections of the thresholds count with their mean, so that a row sums to its ``latent`` less that mean.
        """
        total = self.trees.contributions(matrix, threads)
        for correction in self.corrections:
            if correction is not None:
                total -= correction.contributions(matrix, threads) / len(self.corrections)
        return total

    def by_reason(self, cdf: Float64, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Part P(Y <= k) among the reasons; see `ReasonSplit.split`. Shape (n, K, n_reasons)."""
        if self.reasons is None:
            raise DataError("this model knows no reasons: train it with churn.reasons")
        return self.reasons.split(cdf, matrix, threads)

    def parts(self) -> dict[str, TreeEnsemble]:
        """Return the trees beside the common ones, by the name of their part."""
        own = {f"threshold_{k}": trees for k, trees in enumerate(self.corrections) if trees is not None}
        return own if self.reasons is None else own | self.reasons.parts()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the trees, whose texts are saved beside, for JSON."""
        content = {"cut_points": self.cut_points.tolist(), "calibration": self.calibration.to_dict()}
        if self.segments is not None:
            content["segments"] = self.segments.to_dict()
        if self.reasons is not None:
            content["reasons"] = self.reasons.to_dict()
        return content

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], trees: TreeEnsemble, parts: Mapping[str, TreeEnsemble] | None = None
    ) -> CumulativePredictor:
        """Read what `to_dict` wrote, with the trees of `parts`; refuse anything else with a `DataError`."""
        parts = parts or {}
        cut_points = read_numbers(content, "cut_points")
        own = tuple(parts.get(f"threshold_{k}") for k in range(len(cut_points)))
        segments, reasons = content.get("segments"), content.get("reasons")
        predictor = cls(
            trees, cut_points, Calibration.from_dict(content.get("calibration", {})),
            own if any(part is not None for part in own) else (),
            None if segments is None else SegmentShifts.from_dict(segments, len(cut_points)),
            None if reasons is None else ReasonSplit.from_dict(reasons, parts),
        )  # fmt: skip
        if set(parts) != set(predictor.parts()):
            raise DataError(f"no use for the trees {', '.join(sorted(set(parts) - set(predictor.parts())))}")
        return predictor


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


def interval_hazard(cdf: Float64) -> Float64:
    """Probability of the outcome within each interval, given that it has not come before.

    Parameters
    ----------
    cdf : float64 array of shape (n, n_horizons)
        P(T < h).

    Returns
    -------
    float64 array of shape (n, n_horizons)
        (F(h_k) - F(h_{k-1})) / (1 - F(h_{k-1})), the discrete hazard (Cox 1972, "Regression models and life-tables",
        JRSS B 34, section 6); 0 where the outcome is certain to have come before.

    Examples
    --------
    >>> interval_hazard(np.array([[0.2, 0.6], [1.0, 1.0]])).round(3).tolist()
    [[0.2, 0.5], [1.0, 0.0]]
    """
    before = np.hstack([np.zeros((len(cdf), 1)), cdf[:, :-1]])
    left = 1.0 - before
    return np.divide(cdf - before, left, out=np.zeros_like(cdf), where=left > 0)
