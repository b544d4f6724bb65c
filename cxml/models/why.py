"""Learning which of several competing reasons those give who churn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.models.cumulative import CumulativeLinkBoosting
from cxml.models.outcomes import censoring_weights, churn_intervals
from cxml.models.reasons import ReasonSplit, fit_split
from cxml.models.trees import TreeEnsemble

Int64 = NDArray[np.int64]

#: Of those who gave a reason and of those who gave another, for the reason to have trees.
FEWEST_OUTCOMES = 20
_LEAVES, _ROUNDS = 7, 50


@dataclass(frozen=True)
class Leavers:
    """Those who were seen to churn within the last horizon, for a reason that is known.

    Parameters
    ----------
    matrix : float array of shape (n, n_features)
    interval : int64 array of shape (n,)
        Between which horizons.
    reason : int64 array of shape (n,)
        Position among the reasons.
    weight : float64 array of shape (n,)
        Makes up for those lost from sight before they could be seen to churn: reasons that come late would else count
        too little.
    """

    matrix: NDArray[Any]
    interval: Int64
    reason: Int64
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls, matrix: NDArray[Any], y: Any, horizons_days: Sequence[float], reasons: Sequence[str],
        sample_weight: Any = None,
    ) -> Leavers:  # fmt: skip
        """Pick them out.

        Parameters
        ----------
        matrix : float array of shape (n, n_features)
        y : array of shape (n, 3)
            Days, whether churn was seen, position of the reason or NaN.
        horizons_days : sequence of float
        reasons : sequence of str
        sample_weight : array of shape (n,), optional

        Returns
        -------
        Leavers

        Raises
        ------
        DataError
            If there is no third column, or it holds what is no position.
        """
        values = np.asarray(y, float)
        if values.ndim != 2 or values.shape[1] != 3:
            raise DataError(f"y has shape {values.shape}; with reasons it needs a third column, for the reason")
        given = values[:, 2]
        told = ~np.isnan(given)
        if not np.isin(given[told], np.arange(len(reasons))).all():
            raise DataError(f"y: a reason is its position among the {len(reasons)} reasons, from 0, or NaN")
        lower, _ = churn_intervals(values[:, 0], values[:, 1], horizons_days)
        chosen = (values[:, 1] == 1) & (lower < len(horizons_days)) & told
        weight = censoring_weights(values[:, 0], values[:, 1], horizons_days)[chosen, -1]
        if sample_weight is not None:
            weight = weight * evened(sample_weight)[chosen]
        return cls(matrix[chosen], lower[chosen].astype(np.int64), given[chosen].astype(np.int64), weight)

    def none(self) -> Leavers:
        """Return the like of them, without anybody."""
        return Leavers(self.matrix[:0], self.interval[:0], self.reason[:0], self.weight[:0])


def learn_split(
    names: Sequence[str],
    n_intervals: int,
    train: Leavers,
    later: Leavers | None,
    parameters: dict[str, Any],
    categorical: list[int],
) -> ReasonSplit:
    """Tell each reason from the others, then calibrate all of them together on later leavers.

    Parameters
    ----------
    names : sequence of str
    n_intervals : int
    train, later : Leavers
        ``later`` says when to stop, where it holds enough, and calibrates.
    parameters : dict
        Of `CumulativeLinkBoosting`.
    categorical : list of int
        Columns that hold codes.

    Returns
    -------
    ReasonSplit
        A reason that fewer than 20 gave, or all but fewer than 20, has the same odds for everybody, as far as its own
        trees go.
    """
    own = parameters | {"n_classes": 2, "num_leaves": min(_LEAVES, parameters["num_leaves"])}
    trees: list[TreeEnsemble | None] = []
    offset = np.zeros(len(names))
    for r in range(len(names)):
        gave = (train.reason == r).astype(np.int64)
        if not _enough(gave):
            trees.append(None)
            offset[r] = _odds_against(gave, train.weight)
            continue
        later_gave = None if later is None else (later.reason == r).astype(np.int64)
        stops = later_gave is not None and _enough(later_gave)
        model = CumulativeLinkBoosting(**own if stops else own | {"n_estimators": own["n_estimators"] or _ROUNDS})
        held_out = (later.matrix, later_gave) if stops and later is not None else None
        model.fit(train.matrix, gave, eval_set=held_out, sample_weight=train.weight, categorical_feature=categorical)
        trees.append(model.predictor_.trees)
        offset[r] = model.cut_points_[0]
    rows = later if later is not None else train.none()
    return fit_split(names, trees, offset, n_intervals, (rows.matrix, rows.interval, rows.reason, rows.weight))


def _odds_against(gave: Int64, weight: NDArray[np.float64]) -> float:
    """Give the log odds against a reason, half of one leaver added to either side."""
    came = len(gave) * float(np.average(gave, weights=weight)) if weight.any() else 0.0
    return float(np.round(np.log((len(gave) - came + 0.5) / (came + 0.5)), 10))


def evened(weight: Any) -> NDArray[np.float64]:
    """Bring weights to mean 1 over the rows that have any: penalties of trees count rows of weight 1.

    Examples
    --------
    >>> evened([2.0, 6.0, 0.0]).tolist()
    [0.5, 1.5, 0.0]
    """
    values: NDArray[np.float64] = np.asarray(weight, np.float64)
    return values / values[values > 0].mean() if (values > 0).any() else values


def _enough(gave: Int64) -> bool:
    return min(int(gave.sum()), int(len(gave) - gave.sum())) >= FEWEST_OUTCOMES
