"""Cumulative-link boosting: one latent value by gradient-boosted trees, ordered cut points beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from cxml.errors import ConfigError, DataError
from cxml.models.boosting import Boosted, boost, threads_for
from cxml.models.calibration import Calibration, SegmentShifts, fit_curves, fit_segments, segment_codes
from cxml.models.corrections import Residual, all_trees, few_trees, grow_corrections, quick_trees, rank_apart
from cxml.models.frames import Columns
from cxml.models.likelihood import Intervals, mean_loss
from cxml.models.predictor import CumulativePredictor, class_probabilities
from cxml.models.trees import TreeEnsemble

Float64 = NDArray[np.float64]

ROUNDS_STOPPED_EARLY = 1000
ROUNDS_WITHOUT_STOPPING = 200
MOST_SEGMENTS = 100_000


class CumulativeLinkBoosting(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Boosted trees for an ordered outcome known up to an interval.

    P(Y <= k) = sigmoid(cut_point[k] - f(x)) for classes 0 .. K (McCullagh 1980, "Regression models for ordinal
    data", JRSS B 42). LightGBM grows f under the interval-censored log-likelihood; a Newton step re-fits the cut
    points every round. Censored rows count for what they tell, and P(Y <= k) can never fall with k.

    Parameters
    ----------
    n_classes : int, optional
        K + 1; default: what the data show.
    n_estimators : int, optional
        Most trees. Default: 1000 where an ``eval_set`` can stop them early, else 200.
    learning_rate, num_leaves, max_depth, subsample, colsample_bytree, reg_alpha, reg_lambda, max_bin
        As in LightGBM.
    min_child_samples : int, optional
        Fewest rows in a leaf. Default: the square root of the number of rows, from 5 to 100.
    monotone_constraints : sequence of -1, 0, 1, optional
        One per column; 1: f must not fall as the column rises.
    early_stopping_rounds : int
        Stop when the loss on ``eval_set`` has not fallen for so many rounds; the best round is kept.
    random_state : int, RandomState or None
        The same seed and data give the same model text, byte for byte, on any number of threads.
    n_jobs : int, optional
        Threads; default: one for few rows, else all.

    Attributes
    ----------
    predictor_ : CumulativePredictor
        What serving needs; every prediction goes through it.
    booster_text_ : str
        LightGBM's model text.
    cut_points_ : float64 array of shape (K,)
    classes_ : int array of shape (K + 1,)
    best_iteration_ : int
        Rounds kept.
    eval_losses_ : list of float
        Mean negative log-likelihood on ``eval_set`` after every round; empty without one.
    n_features_in_ : int
    feature_names_in_ : object array
        Only after a DataFrame.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = np.digitize(X[:, 0] + rng.logistic(size=500), [-1.0, 1.0])
    >>> model = CumulativeLinkBoosting(n_estimators=30).fit(X, y)
    >>> model.predict([[-9.0, 0.0], [9.0, 0.0]]).tolist()
    [0, 2]
    """

    def __init__(
        self,
        *,
        n_classes: int | None = None,
        n_estimators: int | None = None,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        max_depth: int = -1,
        min_child_samples: int | None = None,
        subsample: float = 1.0,
        colsample_bytree: float = 0.8,
        reg_alpha: float = 0.0,
        reg_lambda: float = 1.0,
        max_bin: int = 255,
        monotone_constraints: Sequence[int] | None = None,
        early_stopping_rounds: int = 50,
        random_state: Any = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_classes = n_classes
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.max_depth = max_depth
        self.min_child_samples = min_child_samples
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.reg_alpha = reg_alpha
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.monotone_constraints = monotone_constraints
        self.early_stopping_rounds = early_stopping_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        eval_set: tuple[Any, Any] | None = None,
        sample_weight: Any = None,
        categorical_feature: str | Sequence[str | int] = "auto",
        keep_rows: bool = False,
    ) -> CumulativeLinkBoosting:
        """Grow the trees.

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)
            NaN where missing. Columns of type category are taken as such.
        y : int array of shape (n,) or (n, 2)
            The class, or the first and last class that the outcome may be in. Rows that may be in any are left out.
        eval_set : (X, y), optional
            Later data, to stop early on.
        sample_weight : array of shape (n,), optional
            Non-negative.
        categorical_feature : "auto" or list of names or positions
            Further columns whose values are category codes.
        keep_rows : bool
            Keep the rows, as LightGBM holds them, until `correct` has grown more trees on them.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If no row tells anything, all tell the same, or shapes and values do not fit.
        """
        self._check_parameters()
        columns = Columns.of(X)
        self._check_constraints(columns.n, columns.categorical(categorical_feature))
        grown = self._informative(columns.matrix(X), y, sample_weight, self._n_cuts(y))
        _demand_variety(grown.outcomes)
        later = None
        if eval_set is not None:
            later = self._informative(
                columns.matrix(eval_set[0]), eval_set[1], None, grown.outcomes.n_cuts, "y of eval_set"
            )
        boosted = boost(
            self._lightgbm_parameters(grown.matrix.shape), self._rounds(later is not None),
            (grown.matrix, grown.outcomes), None if later is None else (later.matrix, later.outcomes),
            columns.categorical(categorical_feature), self.early_stopping_rounds,
        )  # fmt: skip
        self._keep(boosted, columns)
        if keep_rows and later is not None:
            self._kept = (boosted.binned, grown, later)
        return self

    def _keep(self, boosted: Boosted, columns: Columns) -> None:
        self.booster_text_ = boosted.text
        self.best_iteration_ = boosted.best_round
        self.eval_losses_ = boosted.losses
        self.cut_points_ = boosted.cut_points
        self._gain = boosted.gain
        self.classes_ = np.arange(len(self.cut_points_) + 1)
        self.predictor_ = CumulativePredictor(
            TreeEnsemble.from_text(self.booster_text_), self.cut_points_, Calibration.identity(len(self.cut_points_))
        )
        self.columns_ = columns
        self.n_features_in_ = columns.n
        if columns.names is not None:
            self.feature_names_in_ = np.array(columns.names, dtype=object)

    def correct(
        self, train: tuple[Any, Any], held_out: tuple[Any, Any], *, always: bool = False, apart: int = 0
    ) -> CumulativeLinkBoosting:
        """Grow trees for each threshold alone, a few and where they pay; see `cxml.models.corrections`.

        What was calibrated before is to be calibrated again.

        Parameters
        ----------
        train, held_out : (outcome, weight), arrays of shape (n, K)
            Of the rows of ``X`` and of ``eval_set`` that `fit` had, and was told to keep: 1 where Y <= k, 0 where not,
            NaN where unknown; and how much each counts.
        always : bool
            Keep them even where the held-out loss does not clearly fall.
        apart : int
            Not a few but up to so many, and all of them: trees in place of the common ones, of which `fit` then should
            have grown one only.

        Returns
        -------
        self
        """
        grown, later, binned = self._kept_residuals(train, held_out)
        del self._kept
        parameters = self._lightgbm_parameters(grown.matrix.shape)
        growth = all_trees(parameters, apart, self.early_stopping_rounds) if apart else few_trees(parameters)
        corrections = grow_corrections(grown, later, growth, binned, always=always or apart > 0)
        self.predictor_ = replace(self.predictor_, corrections=corrections if any(corrections) else ())
        return self

    def ranks_apart(self, train: tuple[Any, Any], held_out: tuple[Any, Any]) -> bool:
        """Tell whether each threshold had better have all trees of its own.

        Parameters
        ----------
        train, held_out : (outcome, weight), arrays of shape (n, K)
            As for `correct`. The common trees should be `QUICK`, as those that they are compared with are.
        """
        grown, later, binned = self._kept_residuals(train, held_out)
        return rank_apart(grown, later, quick_trees(self._lightgbm_parameters(grown.matrix.shape)), binned)

    def _kept_residuals(self, train: tuple[Any, Any], held_out: tuple[Any, Any]) -> tuple[Residual, Residual, Any]:
        check_is_fitted(self, "_kept")
        binned, grown, later = self._kept
        return self._residual(grown, *train), self._residual(later, *held_out), binned

    def _residual(self, rows: _Telling, outcome: Any, weight: Any) -> Residual:
        latent = self.predictor_.latent(rows.matrix, threads_of(self.n_jobs))
        margins = np.subtract.outer(-latent, -self.cut_points_)
        return Residual(rows.matrix, margins, *(np.asarray(values, float)[rows.which] for values in (outcome, weight)))

    def calibrate(
        self, X: Any, outcome: Any, weight: Any = None, *, segments: str | int | None = None
    ) -> CumulativeLinkBoosting:
        """Fit the calibration of every threshold, on other rows than the trees grew on; see `fit_curves`.

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)
        outcome : float array of shape (n, K)
            1 where Y <= k, 0 where not, NaN where unknown.
        weight : float array of shape (n,) or (n, K), optional
        segments : str or int, optional
            A column of category codes, by name or position: each of its segments gets a shift of its own, as far as
            the data bear it; see `fit_segments`.

        Returns
        -------
        self
        """
        check_is_fitted(self, "predictor_")
        matrix, outcome = self.columns_.matrix(X), np.asarray(outcome, float)
        margins = self.predictor_.margins(matrix, threads_of(self.n_jobs))
        calibration = fit_curves(margins, self.cut_points_, outcome, weight)
        shifts = None
        if segments is not None:
            column = self.columns_.position(segments, "calibrate_by")
            _demand_codes(matrix[:, column], segments)
            n_segments = 1 + int(np.max(matrix[:, column], initial=-1, where=matrix[:, column] >= 0))
            codes = segment_codes(matrix[:, column], n_segments)
            log_odds = calibration.log_odds(margins)
            shifts = SegmentShifts(column, fit_segments(log_odds, codes, n_segments, outcome, weight))
        self.predictor_ = replace(self.predictor_, calibration=calibration, segments=shifts)
        return self

    @property
    def feature_importances_(self) -> Float64:
        """Total gain of each column, over the common trees and those of the thresholds. Shape (n_features,)."""
        from lightgbm import Booster

        check_is_fitted(self, "predictor_")
        total = np.array(self._gain)
        for own in self.predictor_.corrections:
            if own is not None:
                total += Booster(model_str=own.text).feature_importance("gain")
        return total

    def predict_latent(self, X: Any) -> Float64:
        """Return f(x): the larger, the higher the class. Shape (n,)."""
        check_is_fitted(self, "predictor_")
        return self.predictor_.latent(self.columns_.matrix(X), threads_of(self.n_jobs))

    def predict_cdf(self, X: Any) -> Float64:
        """Return P(Y <= k) for k = 0 .. K - 1. Shape (n, K)."""
        check_is_fitted(self, "predictor_")
        return self.predictor_.distribution(self.columns_.matrix(X), threads_of(self.n_jobs))

    def predict_proba(self, X: Any) -> Float64:
        """Return P(Y = k) for k = 0 .. K. Shape (n, K + 1)."""
        return class_probabilities(self.predict_cdf(X))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the most probable class. Shape (n,)."""
        most_probable: NDArray[np.int64] = self.predict_proba(X).argmax(axis=1)
        return most_probable

    def contributions(self, X: Any) -> Float64:
        """Share f(x) among the features. Shape (n, n_features + 1); see `TreeEnsemble.contributions`."""
        check_is_fitted(self, "predictor_")
        return self.predictor_.contributions(self.columns_.matrix(X), threads_of(self.n_jobs))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean log-likelihood of the trees' own distribution, before calibration; higher is better."""
        check_is_fitted(self, "predictor_")
        rows = self._informative(self.columns_.matrix(X), y, sample_weight, len(self.cut_points_))
        if self.predictor_.corrections:
            return self._corrected_score(rows)
        return -mean_loss(self.predictor_.latent(rows.matrix, threads_of(self.n_jobs)), rows.outcomes, self.cut_points_)

    def _corrected_score(self, rows: _Telling) -> float:
        margins = self.predictor_.margins(rows.matrix, threads_of(self.n_jobs))
        cdf = Calibration.identity(margins.shape[1]).apply_margins(margins)
        edges = np.hstack([np.zeros((len(cdf), 1)), cdf, np.ones((len(cdf), 1))])
        row, outcomes = np.arange(len(cdf)), rows.outcomes
        held = edges[row, outcomes.upper + 1] - edges[row, outcomes.lower]
        return float(np.average(np.log(np.maximum(held, 1e-15)), weights=outcomes.weight))

    def _check_parameters(self) -> None:
        for name in (
            "n_estimators",
            "num_leaves",
            "max_depth",
            "min_child_samples",
            "max_bin",
            "early_stopping_rounds",
        ):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | np.integer):
                raise ConfigError(f"{name} is {value!r}; it must be a whole number")
        positive = ("n_estimators", "learning_rate", "min_child_samples", "max_bin", "early_stopping_rounds")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be above 0")
        for name in ("subsample", "colsample_bytree"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be above 0 and at most 1")
        for name, least in (("num_leaves", 2), ("n_classes", 2), ("reg_alpha", 0), ("reg_lambda", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"{name} is {value!r}; it must be {least} or more")

    def _check_constraints(self, n_columns: int, categorical: Sequence[int]) -> None:
        signs = self.monotone_constraints
        if signs is None:
            return
        if len(signs) != n_columns:
            raise ConfigError(f"monotone_constraints has {len(signs)} entries; X has {n_columns} columns, one each")
        if strange := [sign for sign in signs if sign not in (-1, 0, 1)]:
            raise ConfigError(f"monotone_constraints holds {strange[0]!r}; each is -1, 0 or 1")
        if unordered := [column for column in categorical if signs[column]]:  # LightGBM would end the process
            raise ConfigError(
                f"monotone_constraints: column {unordered[0]} holds categories, which have no order; write 0"
            )

    def _n_cuts(self, y: Any) -> int:
        if self.n_classes is not None:
            return self.n_classes - 1
        return max(1, int(np.max(_numbers(y, "y"), initial=0)))

    def _informative(self, matrix: NDArray[Any], y: Any, weight: Any, n_cuts: int, what: str = "y") -> _Telling:
        """Return the rows that tell something, with weights of mean 1."""
        lower, upper = _bounds(y, n_cuts, what)
        weights = np.ones(len(lower)) if weight is None else np.asarray(weight, float)
        if len(matrix) != len(lower) or weights.shape != lower.shape:
            raise DataError(
                f"X has {len(matrix):,} rows, {what} {len(lower):,}, and sample_weight the shape {weights.shape}; each "
                "row needs one of each"
            )
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise DataError("sample_weight: holds negative, missing or infinite values. Weights must be 0 or more.")
        tells = ((lower > 0) | (upper < n_cuts)) & (weights > 0)
        if not tells.any():
            raise DataError(
                f"{what}: none of {len(lower):,} rows tells anything about its class. Wait until outcomes are seen."
            )
        kept = weights[tells]
        rows = matrix if tells.all() else matrix[tells]
        return _Telling(rows, Intervals(lower[tells], upper[tells], kept / kept.mean(), n_cuts), tells)

    def _rounds(self, can_stop: bool) -> int:
        if self.n_estimators is not None:
            return self.n_estimators
        return ROUNDS_STOPPED_EARLY if can_stop else ROUNDS_WITHOUT_STOPPING

    def _learning_threads(self, shape: tuple[int, ...]) -> int:
        return threads_for(shape[0] * shape[1]) if self.n_jobs is None else threads_of(self.n_jobs) or 0

    def _lightgbm_parameters(self, shape: tuple[int, ...]) -> dict[str, Any]:
        leaf_rows = self.min_child_samples or int(np.clip(np.sqrt(shape[0]), 5, 100))
        constraints = (
            {} if self.monotone_constraints is None else {"monotone_constraints": [*self.monotone_constraints]}
        )
        return constraints | {
            "learning_rate": self.learning_rate, "num_leaves": self.num_leaves, "max_depth": self.max_depth,
            "min_data_in_leaf": leaf_rows, "bagging_fraction": self.subsample,
            "bagging_freq": int(self.subsample < 1.0), "feature_fraction": self.colsample_bytree,
            "lambda_l1": self.reg_alpha, "lambda_l2": self.reg_lambda, "max_bin": self.max_bin,
            "seed": seed_of(self.random_state), "num_threads": self._learning_threads(shape),
            "deterministic": True, "force_row_wise": True, "feature_pre_filter": False, "metric": "None",
            "objective": "none", "verbosity": -1,
        }  # fmt: skip


class _Telling(NamedTuple):
    """Rows that tell something of their class, and which of all they are."""

    matrix: NDArray[Any]
    outcomes: Intervals
    which: NDArray[np.bool_]


def _demand_codes(values: NDArray[Any], column: str | int) -> None:
    told = values[~np.isnan(values)]
    if len(told) and not ((told == np.floor(told)) & (told >= 0) & (told < MOST_SEGMENTS)).all():
        raise ConfigError(f"calibrate_by: column {column!r} holds more than codes from 0 to {MOST_SEGMENTS - 1}")


def _numbers(y: Any, what: str) -> Float64:
    try:
        return np.asarray(y, float)
    except (TypeError, ValueError):
        raise DataError(f"{what}: holds what is no number; classes are whole numbers from 0") from None


def _bounds(y: Any, n_cuts: int, what: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    values = _numbers(y, what)
    if values.ndim == 1:
        values = np.column_stack([values, values])
    if values.ndim != 2 or values.shape[1] != 2:
        raise DataError(f"{what}: has shape {values.shape}; needs one class a row, or its first and last class")
    lower, upper = values.T
    good = (lower >= 0) & (lower <= upper) & (upper <= n_cuts) & (values == np.floor(values)).all(axis=1)
    bad = np.flatnonzero(~good)
    if len(bad):
        shown = ", ".join(f"{values[i].tolist()} in row {i}" for i in bad[:3])
        raise DataError(f"{what}: {len(bad):,} of {len(values):,} rows are no classes from 0 to {n_cuts} ({shown})")
    return lower.astype(np.int32), upper.astype(np.int32)


def _demand_variety(outcomes: Intervals) -> None:
    """Refuse data in which one and the same class would explain every row."""
    if outcomes.lower.max() <= outcomes.upper.min():
        raise DataError(
            f"y: all {len(outcomes.lower):,} rows may be of one class ({outcomes.lower.max()}); "
            "there is nothing to tell apart. Check the labels."
        )


def seed_of(random_state: Any) -> int:
    """Turn what scikit-learn calls a random state into LightGBM's seed; None is 0."""
    if random_state is None:
        return 0
    if isinstance(random_state, int | np.integer):
        if not -(2**31) <= random_state < 2**31:
            raise ConfigError(f"random_state is {random_state}; it must fit into 32 bits")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    raise ConfigError(f"random_state is {random_state!r}; write a whole number")


def threads_of(n_jobs: int | None) -> int | None:
    """Give the number of threads; None for all."""
    return None if n_jobs is None or n_jobs < 1 else int(n_jobs)


def parameters_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that `CumulativeLinkBoosting` has as well."""
    shared: Callable[[], list[str]] = CumulativeLinkBoosting._get_param_names
    return {name: getattr(estimator, name) for name in shared() if hasattr(estimator, name)}
