"""Trees of a threshold's own, where one ranking of the customers does not do for all thresholds.

Proportional odds bind all thresholds to one latent value. Where those who leave soon are others than those who leave
late, a threshold may correct it: a few shallow trees, grown on what the common value leaves unexplained of this
threshold alone (as in the unconstrained part of Peterson & Harrell 1990, "Partial proportional odds models for ordinal
response variables", JRSS C 39). Where the thresholds have little in common, a common value fitted to all of them is
more in the way than of help, and each does better with all trees of its own; a quick trial tells which it is
(`rank_apart`). The distribution is kept from crossing afterwards, by `cxml.models.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxml.models.boosting import Binned
from cxml.models.calibration import fit_curves
from cxml.models.trees import TreeEnsemble

Float64 = NDArray[np.float64]

#: Held-out loss must fall by so many standard errors of the difference: the very rows said when to stop, and a customer
#: may have several of them, so that two would be chance too often.
CLEARLY = 3.0
#: Of the common trees in a trial whether thresholds rank apart; those of their own have the same size and speed there.
QUICK: dict[str, Any] = {
    "n_estimators": 10, "early_stopping_rounds": 5, "learning_rate": 0.3, "num_leaves": 4, "reg_lambda": 10.0,
    "max_bin": 31,
}  # fmt: skip
_BINARY = {"objective": "binary", "boost_from_average": False, "metric": "binary_logloss", "lambda_l2": 10.0}


class Growth(NamedTuple):
    """How the trees of a threshold grow: LightGBM's parameters, most trees, rounds without a gain before giving up."""

    parameters: dict[str, Any]
    most: int
    patience: int


def few_trees(parameters: dict[str, Any]) -> Growth:
    """Give the growth of small trees beside the common ones, from the parameters of these.

    To learn three times as slowly took longer and was no better (docs/decisions/006).
    """
    size = {"num_leaves": 4, "learning_rate": 0.3, "feature_fraction": 1.0}
    return Growth(_of_one_threshold(parameters) | size, most=100, patience=5)


def all_trees(parameters: dict[str, Any], most: int, patience: int) -> Growth:
    """Give the growth of trees in place of the common ones: half as large, and as there are more of them, faster."""
    size = {
        "num_leaves": parameters["num_leaves"] // 2 + 1, "learning_rate": min(1.0, 2 * parameters["learning_rate"]),
    }  # fmt: skip
    return Growth(_of_one_threshold(parameters) | size, most, max(1, patience // 2))


def quick_trees(parameters: dict[str, Any]) -> Growth:
    """Give the growth of trees in a trial, from the parameters of common trees that are `QUICK`."""
    return Growth(_of_one_threshold(parameters), QUICK["n_estimators"], QUICK["early_stopping_rounds"])


def _of_one_threshold(parameters: dict[str, Any]) -> dict[str, Any]:
    """Turn monotone constraints round: the margin falls where the latent value rises."""
    turned = {name: [-sign for sign in parameters[name]] for name in ("monotone_constraints",) if name in parameters}
    return parameters | turned | _BINARY


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

    def known_weight(self, k: int) -> float:
        """Sum the weights of the rows known at a threshold."""
        return float(self.weight[~np.isnan(self.outcome[:, k]), k].sum())

    def base_rates(self) -> Float64:
        """Log odds of Y <= k over all rows. Shape (n_thresholds,)."""
        seen = np.where(np.isnan(self.outcome), 0.0, self.weight)
        below = (seen * np.nan_to_num(self.outcome)).sum(axis=0)
        rates: Float64 = np.log(np.maximum(below, 1.0) / np.maximum(seen.sum(axis=0) - below, 1.0))
        return rates

    def loss(self, k: int, correction: Float64) -> Float64:
        """Weighted log loss of each row at a threshold, in nats, as calibration on these rows leaves it; 0: unknown."""
        margins = self.margins[:, k : k + 1] + correction[:, None]
        curves = fit_curves(margins, np.zeros(1), self.outcome[:, k : k + 1], self.weight[:, k : k + 1])
        return self._loss(k, curves.log_odds(margins)[:, 0])

    def raw_loss(self, k: int, correction: Float64) -> Float64:
        """Weighted log loss of each row at a threshold, in nats, as it is without calibration; 0 where unknown."""
        return self._loss(k, self.margins[:, k] + correction)

    def _loss(self, k: int, log_odds: Float64) -> Float64:
        outcome = self.outcome[:, k]
        loss = self.weight[:, k] * (np.logaddexp(0.0, log_odds) - outcome * log_odds)
        return np.where(np.isnan(outcome), 0.0, loss)


def grow_corrections(
    train: Residual, held_out: Residual, growth: Growth, binned: Binned, *, always: bool
) -> tuple[TreeEnsemble | None, ...]:
    """Grow the trees of every threshold until the held-out loss stops falling.

    Parameters
    ----------
    train, held_out : Residual
    growth : Growth
    binned : (Dataset, Dataset)
        The same rows as LightGBM holds them.
    always : bool
        Keep them all; else only where the held-out loss falls by more than three standard errors.

    Returns
    -------
    tuple of (TreeEnsemble or None)
        Of each threshold; None where there is no correction.
    """
    return tuple(
        _grow(k, (train, binned[0]), (held_out, binned[1]), growth, always=always)
        for k in range(train.margins.shape[1])
    )


def rank_apart(train: Residual, held_out: Residual, growth: Growth, binned: Binned) -> bool:
    """Tell whether trees of their own foretell the thresholds clearly better than a common latent value does.

    Both are calibrated on the held-out rows and compared there, in the mean over thresholds.

    Parameters
    ----------
    train, held_out : Residual
        Whose margins hold the common latent value.
    growth : Growth
        As quick as the common trees were grown.
    binned : (Dataset, Dataset)

    Returns
    -------
    bool
        False where a threshold has no trees of its own for want of outcomes.
    """
    bare = [
        replace(rows, margins=np.broadcast_to(train.base_rates(), rows.margins.shape)) for rows in (train, held_out)
    ]
    own = grow_corrections(bare[0], bare[1], growth, binned, always=True)
    gains = np.zeros(len(held_out.matrix))
    for k, trees in enumerate(own):
        if trees is None:
            return False
        common = held_out.loss(k, np.zeros(len(gains)))
        gains += (common - bare[1].loss(k, trees.predict(held_out.matrix))) / held_out.known_weight(k)
    return _falls(gains, CLEARLY)


def _grow(
    k: int, train: tuple[Residual, Any], held_out: tuple[Residual, Any], growth: Growth, *, always: bool
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
    stop = lightgbm.early_stopping(growth.patience, verbose=False)
    booster = lightgbm.train(growth.parameters, train[1], growth.most, valid_sets=[held_out[1]], callbacks=[stop])
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    trees = TreeEnsemble.from_text(text[: text.index("\nend of trees")] + "\nend of trees\n")
    return trees if always or _pays(held_out[0], k, trees) else None


def _pays(held_out: Residual, k: int, trees: TreeEnsemble) -> bool:
    """Tell whether the held-out loss falls by more than its own noise, and calibration alone would not do."""
    correction = trees.predict(held_out.matrix)
    nothing = np.zeros(len(held_out.matrix))
    # before calibration it falls more easily, and is quick to look at
    return all(
        _falls(loss(k, nothing) - loss(k, correction), by)
        for loss, by in ((held_out.raw_loss, 1.0), (held_out.loss, CLEARLY))
    )


def _falls(gain: Float64, by: float) -> bool:
    """Tell whether a loss falls by more than so many standard errors of what rows gain."""
    return bool(gain.sum() > by * np.sqrt(((gain - gain.mean()) ** 2).sum()))
