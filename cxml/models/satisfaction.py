"""Survey scores (NPS, CSAT, CES or any whole-number scale) as one ordered outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from cxml.errors import ConfigError, DataError
from cxml.models.cumulative import CumulativeLinkBoosting, parameters_of
from cxml.models.frames import rows_that_count
from cxml.models.outcomes import score_groups, score_intervals, score_kind
from cxml.models.predictor import class_probabilities, expected_score

Float64 = NDArray[np.float64]

FEWEST_ANSWERS = 30


class SatisfactionModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Distribution of the score that a customer would give.

    Parameters
    ----------
    scale : (int, int)
        Lowest and highest score.
    kind : {"nps", "csat", "ces", "custom"}, optional
        How scores group; default: by the scale. See `score_groups`.
    calibrate : bool
        Calibrate every score where `fit` is given a ``calibration_set``.
    calibrate_by : str or int, optional
        A column of category codes, by name or position: each segment gets a shift of its own in log odds, shrunk to
        none as far as the data do not bear it; see `cxml.models.calibration.fit_segments`.
    n_estimators, learning_rate, num_leaves, max_depth, min_child_samples, subsample, colsample_bytree, reg_alpha, \
reg_lambda, max_bin, monotone_constraints, early_stopping_rounds, random_state, n_jobs
        As in `CumulativeLinkBoosting`. A monotone constraint of 1 means: the score must not fall as the column rises.

    Attributes
    ----------
    predictor_ : CumulativePredictor
        P(score <= s) for every score but the highest; what is saved and served.
    boosting_ : CumulativeLinkBoosting
        The estimator inside: losses, importances, model text.
    classes_ : int array
        The scores, from the lowest to the highest.
    groups_ : (int, int)
        Last score of the low and of the middle group.
    n_features_in_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> waiting = rng.normal(size=(500, 1))
    >>> score = np.clip(np.round(3 - waiting[:, 0] + rng.normal(size=500)), 1, 5)
    >>> model = SatisfactionModel(scale=(1, 5), n_estimators=50).fit(waiting, score)
    >>> short, long = model.predict([[-2.0], [2.0]])
    >>> bool(short > long)
    True
    """

    def __init__(
        self,
        scale: tuple[int, int] = (0, 10),
        kind: str | None = None,
        *,
        calibrate: bool = True,
        calibrate_by: str | int | None = None,
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
        self.scale = scale
        self.kind = kind
        self.calibrate = calibrate
        self.calibrate_by = calibrate_by
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
        calibration_set: tuple[Any, Any] | None = None,
        sample_weight: Any = None,
        categorical_feature: str | Sequence[str | int] = "auto",
    ) -> SatisfactionModel:
        """Grow the trees, then calibrate.

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)
        y : array of shape (n,)
            Whole-number scores; rows with NaN (asked, not answered) are left out.
        eval_set : (X, y), optional
            Later rows, to stop early on. Without them the number of trees is ``n_estimators``, by default 200.
        calibration_set : (X, y), optional
            Later rows, to calibrate on; without them the trees' own probabilities are returned.
        sample_weight : array of shape (n,), optional
            E.g. 1 / P(answered).
        categorical_feature : "auto" or list of names or positions

        Returns
        -------
        self

        Raises
        ------
        DataError
            If scores are out of scale, too few, or all the same.
        """
        lowest, highest = _checked_scale(self.scale)
        X, y, sample_weight = rows_that_count(X, y, sample_weight)
        kind = score_kind(self.scale) if self.kind is None else self.kind
        groups = score_groups(kind, lowest, highest)
        if kind not in ("custom", score_kind(self.scale)):
            raise ConfigError(f"kind '{kind}' has another scale than {lowest} to {highest}; leave one of the two out")
        demand_answers(y, self.scale)
        classes = _classes(y, self.scale)
        boosting = CumulativeLinkBoosting(**parameters_of(self) | {"n_classes": highest - lowest + 1})
        boosting.fit(
            X,
            classes,
            eval_set=None if eval_set is None else (eval_set[0], _classes(eval_set[1], self.scale)),
            sample_weight=sample_weight,
            categorical_feature=categorical_feature,
        )
        if self.calibrate and calibration_set is not None:
            known = _known(_classes(calibration_set[1], self.scale), highest - lowest)
            boosting.calibrate(calibration_set[0], known, segments=self.calibrate_by)
        self.boosting_, self.predictor_, self.groups_ = boosting, boosting.predictor_, groups
        self.classes_ = np.arange(lowest, highest + 1)
        self.n_features_in_ = boosting.n_features_in_
        if hasattr(boosting, "feature_names_in_"):
            self.feature_names_in_ = boosting.feature_names_in_
        return self

    def predict(self, X: Any) -> Float64:
        """Return the expected score. Shape (n,)."""
        return expected_score(self._cdf(X), int(self.classes_[-1]))

    def predict_proba(self, X: Any) -> Float64:
        """Return the probability of every score of ``classes_``. Shape (n, n_scores); rows sum to 1."""
        return class_probabilities(self._cdf(X))

    def predict_groups(self, X: Any) -> Float64:
        """Return P(low), P(middle), P(high): for NPS detractor, passive, promoter. Shape (n, 3); rows sum to 1."""
        last_low, last_mid = (last - int(self.classes_[0]) for last in self.groups_)
        return class_probabilities(self._cdf(X)[:, [last_low, last_mid]])

    def contributions(self, X: Any) -> Float64:
        """Share the latent satisfaction among the features. Shape (n, n_features + 1)."""
        check_is_fitted(self, "predictor_")
        return self.boosting_.contributions(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean log-likelihood, before calibration; higher is better."""
        check_is_fitted(self, "predictor_")
        return self.boosting_.score(X, _classes(y, self.scale), sample_weight)

    def _cdf(self, X: Any) -> Float64:
        check_is_fitted(self, "predictor_")
        return self.boosting_.predict_cdf(X)


def _checked_scale(scale: tuple[int, int]) -> tuple[int, int]:
    if (
        np.shape(scale) != (2,)
        or not all(isinstance(end, int | np.integer) for end in scale)
        or not scale[0] < scale[1]
    ):
        raise ConfigError(f"scale is {scale!r}; write the lowest and the highest score as whole numbers, e.g. (0, 10)")
    return int(scale[0]), int(scale[1])


def _classes(scores: Any, scale: tuple[int, int]) -> NDArray[np.int32]:
    return np.column_stack(score_intervals(scores, scale))


def _known(classes: NDArray[np.int32], n_thresholds: int) -> Float64:
    """Tell for every score but the highest whether the answer was at most that; NaN without an answer."""
    lower, upper = classes.T[..., None]
    thresholds = np.arange(n_thresholds)
    return np.where(upper <= thresholds, 1.0, np.where(lower > thresholds, 0.0, np.nan))


def demand_answers(scores: Any, scale: tuple[int, int]) -> None:
    """Refuse scores that nothing can be learned from, and say how many are there and how many are needed.

    Parameters
    ----------
    scores : array of shape (n,)
        As in `SatisfactionModel.fit`.
    scale : (int, int)
        Lowest and highest score.

    Raises
    ------
    DataError
        If scores are out of scale, too few, or all the same.

    Examples
    --------
    >>> demand_answers([0, 10] * 20, (0, 10))
    """
    classes = _classes(scores, scale)
    given = classes[classes[:, 0] == classes[:, 1], 0]
    if len(given) < FEWEST_ANSWERS:
        raise DataError(
            f"y: {len(given):,} answers in {len(classes):,} rows are too few to learn from; {FEWEST_ANSWERS} are "
            "needed. Take more surveys or a longer span."
        )
    if (given == given[0]).all():
        raise DataError(
            f"y: all {len(given):,} answers are {given[0] + scale[0]}; there is nothing to tell apart. Check the "
            "scores."
        )
