"""Churn as time to an event: P(churn by each horizon) from durations that may be censored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from cxml.errors import ConfigError, DataError
from cxml.models.corrections import QUICK
from cxml.models.cumulative import ROUNDS_STOPPED_EARLY, CumulativeLinkBoosting, parameters_of, seed_of, threads_of
from cxml.models.frames import Columns, rows_that_count
from cxml.models.outcomes import censoring_weights, check_kind, churn_intervals, churn_known
from cxml.models.predictor import class_probabilities, interval_hazard, restricted_mean_days
from cxml.models.why import Leavers, evened, learn_split
from cxml.times import Duration

Float64 = NDArray[np.float64]
Rows = tuple[Any, Any]

FEWEST_OUTCOMES = 30
#: The trial whether horizons rank customers apart takes a twentieth of the rows, and so many at least.
ROWS_OF_TRIAL = 3_000


class ChurnModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Probability of churn by each horizon, from one ensemble of trees.

    The time T to the outcome falls into the classes ``[0, h1)``, ``[h1, h2)``, ..., ``[hK, inf)``; a customer lost
    from sight at day 45 is known to be in ``[30 d, 60 d)`` or later. See `CumulativeLinkBoosting` for how it learns.

    Parameters
    ----------
    kind : {"event", "inactivity"}
        ``event``: T is the time to churn, and P(churn by h) = P(T < h) rises with h. ``inactivity``: T is the time
        to the next activity, churn by h is no activity in ``[t, t + h)``, and P(churn by h) = P(T >= h) falls.
    horizons : sequence of str or Duration
        Ascending, e.g. ``("30d", "60d", "90d")``.
    reasons : sequence of str, optional
        Competing reasons to churn, for kind ``event``: `predict_by_reason` parts the probability among them, and
        ``y`` needs a third column; see `cxml.models.reasons`.
    calibrate : bool
        Calibrate every horizon where `fit` is given a ``calibration_set``.
    calibrate_by : str or int, optional
        A column of category codes, by name or position: each segment gets a shift of its own in log odds, shrunk to
        none as far as the data do not bear it; see `fit_segments`.
    corrections : {"auto", True, False, "apart"}
        Trees for each horizon alone, grown where `fit` is given an ``eval_set``: True keeps a few small ones beside the
        common trees, ``"auto"`` those under which the loss on it clearly falls, ``"apart"`` grows them in place of the
        common ones. ``"auto"`` does that, too, where a quick trial says that the horizons have too little in common.
        See `cxml.models.corrections`.
    n_estimators, learning_rate, num_leaves, max_depth, min_child_samples, subsample, colsample_bytree, reg_alpha, \
reg_lambda, max_bin, monotone_constraints, early_stopping_rounds, random_state, n_jobs
        As in `CumulativeLinkBoosting`. A monotone constraint of 1 means: T must not get shorter as the column rises.

    Attributes
    ----------
    predictor_ : CumulativePredictor
        P(T < h) for every horizon; what is saved and served.
    boosting_ : CumulativeLinkBoosting
        The estimator inside: losses, importances, model text.
    classes_ : array of str
        The intervals, e.g. ``["[0d, 30d)", "[30d, inf)"]``.
    horizons_days_ : tuple of float
    n_features_in_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 1))
    >>> churn_day = rng.exponential(60 * np.exp(X[:, 0]))
    >>> y = np.column_stack([np.minimum(churn_day, 100), churn_day < 100])  # seen for 100 days
    >>> model = ChurnModel(horizons=("30d", "90d"), n_estimators=50).fit(X, y)
    >>> (model.predict_churn([[-1.0]]) > model.predict_churn([[1.0]])).tolist()
    [[True, True]]
    """

    def __init__(
        self,
        kind: str = "event",
        horizons: Sequence[Any] = ("30d", "60d", "90d"),
        *,
        reasons: Sequence[str] | None = None,
        calibrate: bool = True,
        calibrate_by: str | int | None = None,
        corrections: str | bool = "auto",
        n_estimators: int | None = None,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        max_depth: int = -1,
        min_child_samples: int | None = None,
        subsample: float = 1.0,
        colsample_bytree: float = 0.5,
        reg_alpha: float = 0.0,
        reg_lambda: float = 1.0,
        max_bin: int = 255,
        monotone_constraints: Sequence[int] | None = None,
        early_stopping_rounds: int = 50,
        random_state: Any = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.kind = kind
        self.horizons = horizons
        self.reasons = reasons
        self.calibrate = calibrate
        self.calibrate_by = calibrate_by
        self.corrections = corrections
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
    ) -> ChurnModel:
        """Grow the trees, then calibrate.

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)
        y : array of shape (n, 2) or (n, 3)
            Days to the outcome or to the end of what was seen, and whether the outcome was seen (1) or not (0).
            Infinite and not seen: known never to come. With ``reasons``, the third column is the position of the
            reason among them, NaN where nobody churned or the reason is not known.
        eval_set : (X, y), optional
            Later rows, to stop early on. Without them the number of trees is ``n_estimators``, by default 200.
        calibration_set : (X, y), optional
            Later rows, to calibrate on; without them the trees' own probabilities are returned. Rows lost from
            sight are made up for by `censoring_weights`.
        sample_weight : array of shape (n,), optional
            Non-negative; only their ratios count. A row of weight 0 is as good as left out.
        categorical_feature : "auto" or list of names or positions

        Returns
        -------
        self

        Raises
        ------
        DataError
            If nobody churned, everybody did, or too few did to learn from at every horizon.
        """
        self._check(eval_set)
        horizons = _horizons_days(self.horizons)
        X, y, sample_weight = rows_that_count(X, y, sample_weight)
        demand_outcomes(y, self.kind, self.horizons)
        parameters = parameters_of(self) | {
            "n_classes": len(horizons) + 1, "random_state": seed_of(self.random_state),
        }  # fmt: skip
        if eval_set is None or not self.corrections:
            boosting = _grow(parameters, (X, y), eval_set, horizons, sample_weight, categorical_feature)
        else:
            rows = (X, y), eval_set, horizons, sample_weight, categorical_feature
            undecided = self.corrections == "auto" and len(horizons) > 1
            apart = self.corrections == "apart" or (undecided and _part_ways(parameters, *rows))
            boosting = _grow(parameters | ({"n_estimators": 1} if apart else {}), *rows, keep_rows=True)
            known = _known(y, horizons, sample_weight), _known(eval_set[1], horizons)
            if apart:
                self._demand_both_outcomes(known)
            most = (self.n_estimators or ROUNDS_STOPPED_EARLY) if apart else 0
            boosting.correct(*known, always=self.corrections is True, apart=most)
        if self.calibrate and calibration_set is not None:
            boosting.calibrate(calibration_set[0], *_known(calibration_set[1], horizons), segments=self.calibrate_by)
        if self.reasons is not None:
            self._part((X, y), calibration_set, sample_weight, boosting, categorical_feature)
        self.boosting_, self.predictor_, self.horizons_days_ = boosting, boosting.predictor_, horizons
        self.classes_ = _labels(self.horizons)
        self.n_features_in_ = boosting.n_features_in_
        if hasattr(boosting, "feature_names_in_"):
            self.feature_names_in_ = boosting.feature_names_in_
        return self

    def _check(self, eval_set: Rows | None) -> None:
        check_kind(self.kind)
        if self.corrections == "apart" and eval_set is None:
            raise ConfigError(
                "corrections is 'apart': give fit an eval_set, which says when each horizon has enough trees"
            )
        if self.corrections not in ("auto", True, False, "apart"):
            raise ConfigError(f"corrections is {self.corrections!r}; write 'auto', True, False or 'apart'")
        if self.reasons is not None and (self.kind != "event" or len(set(self.reasons)) < 2):
            raise ConfigError(
                f"reasons is {self.reasons!r} with kind '{self.kind}'; two reasons or more compete, and only events "
                "have one"
            )

    def _demand_both_outcomes(self, known: Sequence[tuple[Float64, Float64]]) -> None:
        """Refuse trees apart where a horizon would get none and be left with the one common tree."""
        for (outcome, _), which in zip(known, ("X", "eval_set"), strict=True):
            for k, horizon in enumerate(self.horizons):
                if len(np.unique(outcome[~np.isnan(outcome[:, k]), k])) < 2:
                    raise DataError(
                        f"corrections is 'apart', but rows of {which} tell of one outcome at most at {horizon}. Leave "
                        "corrections at 'auto', or the horizon out."
                    )

    def _part(
        self, train: Rows, later: Rows | None, weight: Any, boosting: CumulativeLinkBoosting,
        categorical: str | Sequence[str | int],
    ) -> None:  # fmt: skip
        """Learn how the probability of churn parts among the reasons, from those who churned."""
        assert self.reasons is not None
        horizons, parameters = _horizons_days(self.horizons), parameters_of(self) | {"monotone_constraints": None}
        grown, calibrating = (
            None
            if rows is None
            else Leavers.of(boosting.columns_.matrix(rows[0]), rows[1], horizons, self.reasons, weights)
            for rows, weights in ((train, weight), (later, None))
        )
        assert grown is not None
        split = learn_split(
            self.reasons, len(horizons), grown, calibrating, parameters, boosting.columns_.categorical(categorical)
        )
        boosting.predictor_ = replace(boosting.predictor_, reasons=split)

    def predict_churn(self, X: Any) -> Float64:
        """Return P(churn by each horizon).

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)

        Returns
        -------
        float64 array of shape (n, n_horizons)
            Rising along a row for kind ``event``, falling for ``inactivity``.
        """
        cdf = self._cdf(X)
        return cdf if self.kind == "event" else 1.0 - cdf

    def predict_by_reason(self, X: Any) -> Float64:
        """Return P(churn by each horizon, for each reason). Shape (n, n_horizons, n_reasons).

        The order of the reasons is that of ``reasons``. Rises along the horizons, and sums over the reasons to
        `predict_churn`.
        """
        check_is_fitted(self, "predictor_")
        matrix = self.boosting_.columns_.matrix(X)
        return self.predictor_.by_reason(self._cdf(X), matrix, threads_of(self.n_jobs))

    def predict_hazard(self, X: Any) -> Float64:
        """Return P(outcome in each interval, given none before); see `interval_hazard`. Shape (n, n_horizons).

        For kind ``inactivity`` the outcome is the next activity.
        """
        return interval_hazard(self._cdf(X))

    def predict_proba(self, X: Any) -> Float64:
        """Return the probability of each interval of ``classes_``. Shape (n, n_horizons + 1); rows sum to 1."""
        return class_probabilities(self._cdf(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable interval, as its label in ``classes_``. Shape (n,)."""
        most_probable: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return most_probable

    def expected_days(self, X: Any) -> Float64:
        """Return the mean days to the outcome within the last horizon; see `restricted_mean_days`. Shape (n,).

        For kind ``inactivity`` the outcome is the next activity.
        """
        return restricted_mean_days(self._cdf(X), self.horizons_days_)

    def contributions(self, X: Any) -> Float64:
        """Share the latent time to the outcome among the features. Shape (n, n_features + 1)."""
        check_is_fitted(self, "predictor_")
        return self.boosting_.contributions(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean log-likelihood, before calibration; higher is better."""
        check_is_fitted(self, "predictor_")
        return self.boosting_.score(X, _intervals(y, self.horizons_days_), sample_weight)

    def _cdf(self, X: Any) -> Float64:
        check_is_fitted(self, "predictor_")
        return self.boosting_.predict_cdf(X)


def _grow(
    parameters: dict[str, Any], train: Rows, later: Rows | None, horizons: Sequence[float], weight: Any,
    categorical: str | Sequence[str | int], *, keep_rows: bool = False,
) -> CumulativeLinkBoosting:  # fmt: skip
    """Grow the common trees."""
    eval_set = None if later is None else (later[0], _intervals(later[1], horizons))
    return CumulativeLinkBoosting(**parameters).fit(
        train[0], _intervals(train[1], horizons), eval_set=eval_set, sample_weight=weight,
        categorical_feature=categorical, keep_rows=keep_rows,
    )  # fmt: skip


def _part_ways(
    parameters: dict[str, Any], train: Rows, later: Rows, horizons: Sequence[float], weight: Any,
    categorical: str | Sequence[str | int],
) -> bool:  # fmt: skip
    """Try with small quick trees on some of the rows whether the horizons had better have all trees of their own."""
    columns = Columns.of(train[0])
    n = len(np.asarray(train[1]))
    if len(columns.matrix(train[0])) != n or (weight is not None and np.shape(weight) != (n,)):
        return False  # which the training tells
    chosen = _some(len(np.asarray(train[1])), parameters["random_state"])
    chosen_later = _some(len(np.asarray(later[1])), parameters["random_state"])
    grown = columns.matrix(train[0])[chosen], np.asarray(train[1], float)[chosen]
    held_out = columns.matrix(later[0])[chosen_later], np.asarray(later[1], float)[chosen_later]
    weights = None if weight is None else np.asarray(weight, float)[chosen]
    try:
        tried = _grow(
            parameters | QUICK, grown, held_out, horizons, weights, columns.categorical(categorical), keep_rows=True
        )
    except DataError:  # too few of the rows, or of their columns, tell anything
        return False
    return tried.ranks_apart(_known(grown[1], horizons, weights), _known(held_out[1], horizons))


def _some(n: int, random_state: Any) -> NDArray[np.int64]:
    """Choose rows for a quick trial, in their order."""
    generator = np.random.default_rng(abs(seed_of(random_state)))
    return np.sort(generator.permutation(n)[: max(ROWS_OF_TRIAL, n // 20)])


def _horizons_days(horizons: Sequence[Any]) -> tuple[float, ...]:
    if isinstance(horizons, str) or len(horizons) == 0:
        raise ConfigError(f"horizons is {horizons!r}; write a list of durations such as ['30d', '60d']")
    try:
        days = tuple(Duration.parse(horizon).days for horizon in horizons)
    except ValueError as error:
        raise ConfigError(f"horizons: {error}") from None
    if any(later <= sooner for sooner, later in pairwise(days)):
        raise ConfigError(f"horizons {[str(horizon) for horizon in horizons]} do not ascend; sort them, each once")
    return days


def _labels(horizons: Sequence[Any]) -> NDArray[Any]:
    ends = ["0d", *(str(Duration.parse(horizon)) for horizon in horizons), "inf"]
    return np.array([f"[{start}, {end})" for start, end in pairwise(ends)])


def _columns(y: Any) -> tuple[Float64, Float64]:
    values = np.asarray(y, float)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise DataError(
            f"y has shape {values.shape}; it needs two columns: days, and whether the outcome was seen; and a third "
            "for the reason where there are reasons"
        )
    return values[:, 0], values[:, 1]


def _known(y: Any, horizons: Sequence[float], sample_weight: Any = None) -> tuple[Float64, Float64]:
    """Say what is known at each horizon, and weigh rows so as to make up for those lost from sight."""
    duration, observed = _columns(y)
    weight = censoring_weights(duration, observed, horizons)
    if sample_weight is not None:
        weight = weight * evened(sample_weight)[:, None]
    return churn_known(duration, observed, horizons, "event"), weight


def _intervals(y: Any, horizons: Sequence[float]) -> NDArray[np.int32]:
    return np.column_stack(churn_intervals(*_columns(y), horizons))


def demand_outcomes(y: Any, kind: str, names: Sequence[Any]) -> None:
    """Refuse what nothing can be learned from, and say how much is there and how much is needed.

    Parameters
    ----------
    y : array of shape (n, 2) or (n, 3)
        As in `ChurnModel.fit`.
    kind : {"event", "inactivity"}
    names : sequence of str or Duration
        The horizons.

    Raises
    ------
    DataError
        If nobody churned, everybody did, or too few did to learn from at every horizon.

    Examples
    --------
    >>> demand_outcomes([[10, 1]] * 40 + [[100, 0]] * 40, "event", ["30d", "60d"])
    """
    horizons = _horizons_days(names)
    duration, observed = _columns(y)
    known = churn_known(duration, observed, horizons, kind)
    stayed_in_sight = duration >= horizons[-1]
    if not stayed_in_sight.any() and not observed.all():
        raise DataError(
            f"nobody was followed for {names[-1]}: the longest of {len(duration):,} rows is "
            f"{duration.max(initial=0.0):g} days. Shorten churn.horizons{_learnable(names, horizons, duration)}, or "
            "give a longer log."
        )
    churned, stayed = (known == 1).sum(axis=0), (known == 0).sum(axis=0)
    if not churned.any():
        raise DataError(f"no churners among {len(duration):,} rows at any horizon. Check what counts as churn.")
    if not stayed.any():
        raise DataError(f"all of {len(duration):,} rows churned by every horizon. Check what counts as churn.")
    rarer = np.minimum(churned, stayed)
    if rarer.max() < FEWEST_OUTCOMES:
        best = int(rarer.argmax())
        what = "churned" if churned[best] <= stayed[best] else "stayed"
        raise DataError(
            f"too few to learn from: at best ({names[best]}) {rarer[best]} of {len(duration):,} rows {what}; "
            f"{FEWEST_OUTCOMES} are needed. Take more customers, more cutoffs or other horizons."
        )


def _learnable(names: Sequence[Any], horizons: Sequence[float], duration: Float64) -> str:
    """Say which horizons somebody was followed for."""
    followed = [str(name) for name, days in zip(names, horizons, strict=True) if duration.max(initial=0.0) >= days]
    return f" to {', '.join(followed)}" if followed else ""
