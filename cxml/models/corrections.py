"""Small trees of a threshold's own, where one ranking of the customers does not do for all thresholds.

Proportional odds bind all thresholds to one latent value. Where those who leave soon are others than those who leave
late, a threshold may correct it: a few shallow trees, grown on what the common value leaves unexplained of this
threshold alone (as in the unconstrained part of Peterson & Harrell 1990, "Partial proportional odds models for ordinal
response variables", JRSS C 39). The distribution is kept from crossing afterwards, by `cxml.models.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.models.boosting import Binned
from cxml.models.calibration import fit_curves
from cxml.models.trees import TreeEnsemble

Float64 = NDArray[np.float64]

MOST_TREES = 100
PATIENCE = 5
#: A correction is kept where the held-out loss falls by so many standard errors of the difference: the very rows said
#: when to stop, and a customer may have several of them, so that two would be chance too often.
CLEARLY = 3.0
#: LightGBM's parameters that differ from those of the common trees. To learn three times as slowly took longer and was
#: no better (docs/decisions/006).
_OWN = {
    "objective": "binary", "boost_from_average": False, "metric": "binary_logloss", "num_leaves": 4,
    "learning_rate": 0.3, "feature_fraction": 1.0, "lambda_l2": 10.0,
}  # fmt: skip


@dataclass(frozen=True)
class Residual:
    """Rows with what the common latent value says of each threshold, and what came of it.

    Parameters
    ----------
    matrix : float array of shape (n, n_features)
    margins : float64 array of shape (n, n_thresholds)
        ``cut_point - latent``: log odds of Y <= k.
    outcome : float64 array of shape (n, n_thresholds)
        1 where Y <= k, 0 where not, NaN where unknown.
    weight : float64 array of shape (n, n_thresholds)
        Non-negative.
    """

    matrix: NDArray[Any]
    margins: Float64
    outcome: Float64
    weight: Float64

    def loss(self, k: int, correction: Float64) -> Float64:
        """Weighted log loss of each known row of a threshold, in nats, as it is after calibration on these rows."""
        margins = self.margins[:, k : k + 1] + correction[:, None]
        curves = fit_curves(margins, np.zeros(1), self.outcome[:, k : k + 1], self.weight[:, k : k + 1])
        return self._loss(k, curves.log_odds(margins)[:, 0])

    def raw_loss(self, k: int, correction: Float64) -> Float64:
        """Weighted log loss of each known row of a threshold, in nats, as it is without calibration."""
        return self._loss(k, self.margins[:, k] + correction)

    def _loss(self, k: int, log_odds: Float64) -> Float64:
        outcome = self.outcome[:, k]
        loss = self.weight[:, k] * (np.logaddexp(0.0, log_odds) - outcome * log_odds)
        known: Float64 = loss[~np.isnan(outcome)]
        return known


def grow_corrections(
    train: Residual, held_out: Residual, parameters: dict[str, Any], binned: Binned, *, always: bool
) -> tuple[TreeEnsemble | None, ...]:
    """Grow the trees of every threshold until the held-out loss stops falling.

    Parameters
    ----------
    train, held_out : Residual
    parameters : dict
        LightGBM's, of the common trees: what is not of size or speed of learning holds here too.
    binned : (Dataset, Dataset)
        The same rows as LightGBM holds them.
    always : bool
        Keep them all; else only where the held-out loss falls by more than three standard errors.

    Returns
    -------
    tuple of (TreeEnsemble or None)
        Of each threshold; None where there is no correction.
    """
    parameters = {name: value for name, value in parameters.items() if name != "monotone_constraints"} | _OWN
    return tuple(
        _grow(k, (train, binned[0]), (held_out, binned[1]), parameters, always=always)
        for k in range(train.margins.shape[1])
    )


def _grow(
    k: int, train: tuple[Residual, Any], held_out: tuple[Residual, Any], parameters: dict[str, Any], *, always: bool
) -> TreeEnsemble | None:
    import lightgbm

    for rows, data in (train, held_out):
        known = ~np.isnan(rows.outcome[:, k])
        weight = np.where(known, rows.weight[:, k], 0.0)
        if len(np.unique(rows.outcome[known & (weight > 0), k])) < 2:
            return None
        data.set_label(np.where(known, rows.outcome[:, k], 0.0))
        data.set_weight(weight)
        data.set_init_score(np.ascontiguousarray(rows.margins[:, k]))
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    booster = lightgbm.train(parameters, train[1], MOST_TREES, valid_sets=[held_out[1]], callbacks=[stop])
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    trees = TreeEnsemble.from_text(text[: text.index("\nend of trees")] + "\nend of trees\n")
    return trees if always or _pays(held_out[0], k, trees) else None


def _pays(held_out: Residual, k: int, trees: TreeEnsemble) -> bool:
    """Tell whether the held-out loss falls by more than its own noise, and calibration alone would not do."""
    correction = trees.predict(held_out.matrix)
    nothing = np.zeros(len(held_out.matrix))
    # before calibration it falls more easily, and is quick to look at
    return all(
        _falls(loss(k, nothing), loss(k, correction), by)
        for loss, by in ((held_out.raw_loss, 1.0), (held_out.loss, CLEARLY))
    )


def _falls(before: Float64, after: Float64, by: float) -> bool:
    """Tell whether a loss falls by more than so many standard errors of the difference."""
    gain = before - after
    return bool(gain.sum() > by * np.sqrt(((gain - gain.mean()) ** 2).sum()))
