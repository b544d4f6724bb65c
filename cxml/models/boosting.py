"""Rounds of boosting: LightGBM grows the latent value, Newton steps carry the cut points along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.models.likelihood import Intervals, cut_point_step, first_cut_points, gradients, mean_loss

Float64 = NDArray[np.float64]
Rows = tuple[NDArray[Any], Intervals]
#: LightGBM's binned rows: those to grow trees on, and later ones.
Binned = tuple[Any, Any]
_FEW_CELLS = 4_000_000


@dataclass(frozen=True)
class Boosted:
    """What a run leaves behind.

    Parameters
    ----------
    text : str
        LightGBM's model text up to the best round, without the run's parameters.
    cut_points : float64 array of shape (n_cuts,)
        As they were in the best round.
    best_round : int
    losses : list of float
        Loss on the held-out rows after every round.
    gain : float64 array of shape (n_features,)
    binned : (Dataset, Dataset or None)
        The rows as LightGBM holds them, for whoever grows more trees on them.
    """

    text: str
    cut_points: Float64
    best_round: int
    losses: list[float]
    gain: Float64
    binned: Binned


def boost(
    parameters: dict[str, Any], n_rounds: int, train: Rows, held_out: Rows | None, categorical: list[int], patience: int
) -> Boosted:
    """Grow trees until there are enough or the held-out loss has stopped falling.

    Parameters
    ----------
    parameters : dict
        LightGBM's.
    n_rounds : int
    train, held_out : (matrix, Intervals)
    categorical : list of int
        Columns that hold codes.
    patience : int
        Rounds without a lower held-out loss before giving up.

    Returns
    -------
    Boosted

    Raises
    ------
    DataError
        If no column varies.
    ConfigError
        If LightGBM refuses the parameters.
    """
    from lightgbm.basic import LightGBMError

    matrix, outcomes = train
    rounds = _Rounds(outcomes, None if held_out is None else held_out[1])
    try:
        binned = bin_rows(parameters, matrix, None if held_out is None else held_out[0], categorical)
        booster = _booster(parameters, binned)
        best = rounds.run(booster, n_rounds, patience)
    except LightGBMError as error:
        if "num_features()" in str(error):
            raise DataError(
                f"X: none of {matrix.shape[1]} columns varies over the {len(matrix):,} rows enough to split them. "
                "Take more rows, or columns that tell customers apart."
            ) from error
        raise ConfigError(f"LightGBM refuses the parameters: {error}") from error
    text = booster.model_to_string(num_iteration=best)
    # what follows the trees names the number of threads and more: no part of the model
    text = text[: text.index("\nend of trees")] + "\nend of trees\n"
    gain = np.asarray(booster.feature_importance("gain", iteration=best), np.float64)
    return Boosted(text, rounds.history[best - 1], best, rounds.losses, gain, binned)


def threads_for(n_cells: int) -> int:
    """Give LightGBM's number of threads for rows times columns; 0 is all of them.

    A second thread gains a fifth of the time of a small model on an idle machine. On a busy one its threads wait for
    each other while they keep the processors: the same model took five to seventeen times as long.
    """
    return 1 if n_cells <= _FEW_CELLS else 0


def bin_rows(
    parameters: dict[str, Any], matrix: NDArray[Any], later: NDArray[Any] | None, categorical: list[int]
) -> Binned:
    """Bin rows as LightGBM wants them; a quarter of the time that a model of ten thousand rows takes.

    Parameters
    ----------
    parameters : dict
        LightGBM's.
    matrix : float array of shape (n, n_features)
    later : float array of shape (n_later, n_features), optional
        Gets the same bins.
    categorical : list of int
        Columns that hold codes.

    Returns
    -------
    (Dataset, Dataset or None)
    """
    import lightgbm

    common: dict[str, Any] = {"categorical_feature": categorical, "params": parameters}
    train = lightgbm.Dataset(matrix, **common)
    return train, None if later is None else lightgbm.Dataset(later, reference=train, **common)


def _booster(parameters: dict[str, Any], binned: Binned) -> Any:
    import lightgbm

    booster = lightgbm.Booster(parameters, binned[0])
    if binned[1] is not None:
        booster.add_valid(binned[1], "held out")
    return booster


@dataclass
class _Rounds:
    """The outcomes and the cut points; the latent values belong to LightGBM."""

    outcomes: Intervals
    held_out: Intervals | None
    history: list[Float64] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cut_points = first_cut_points(self.outcomes)
        self.pairs = self.outcomes.pair_weights()
        self.gradient = np.empty(len(self.outcomes.lower), np.float32)
        self.hessian = np.empty_like(self.gradient)

    def run(self, booster: Any, n_rounds: int, patience: int) -> int:
        """Return the best round, counted from 1."""
        best = 0
        for current in range(1, n_rounds + 1):
            booster.update(fobj=self._objective)
            self.history.append(self.cut_points)
            if self.held_out is None:
                best = current
                continue
            booster.eval_valid(self._evaluate)
            if best == 0 or self.losses[-1] < self.losses[best - 1]:
                best = current
            if current - best >= patience:
                break
        return best

    def _objective(self, latent: Float64, _train: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Fill gradient and Hessian at the present cut points, then move these by the same pass's sums."""
        sums, mean = gradients(latent, self.outcomes, self.cut_points, self.gradient, self.hessian)
        moved = self.cut_points + cut_point_step(self.cut_points, self.pairs, sums, mean)
        self.cut_points = np.round(moved, 12)  # the last bits of linear algebra differ from machine to machine
        return self.gradient, self.hessian

    def _evaluate(self, latent: Float64, _held_out: Any) -> tuple[str, float, bool]:
        """Note the loss; LightGBM wants a name, and whether higher is better."""
        if self.held_out is not None:
            self.losses.append(mean_loss(latent, self.held_out, self.cut_points))
        return "loss", self.losses[-1], False
