"""Who answers when asked: the probability of a survey answer, for weighing the answers that came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from cxml.errors import ConfigError, DataError, nearest
from cxml.models.calibration import Calibration, fit_calibration
from cxml.models.cumulative import CumulativeLinkBoosting
from cxml.models.frames import Columns

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: From so many of the rarer kind (answers or silences) on, trees are grown; fewer bear a regression only.
FEWEST_FOR_TREES = 300
#: With fewer of the rarer kind nothing can be learned, and everybody gets the share of answers.
FEWEST_TO_LEARN = 30

LEARNERS = ("auto", "logistic", "trees")


class ResponseModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """P(answered | asked), the propensity of Rosenbaum and Rubin (1983, Biometrika 70(1)).

    Where answers and silences are many it is boosted from shallow trees, whose sum of many small effects fits the
    habit of answering better than few deep ones; where they are few it is a regularised logistic regression; where
    there are fewer than 30 of either it is their share, for everybody.

    Parameters
    ----------
    learner : {"auto", "logistic", "trees"}
        ``auto`` grows trees from 300 of the rarer kind on.
    n_estimators : int, optional
        Trees. Default: see `shallow_rounds`.
    learning_rate, num_leaves, colsample_bytree, max_bin
        Of the trees, as in `CumulativeLinkBoosting`.
    C : float
        Inverse strength of the regression's penalty.
    random_state : int
    n_jobs : int, optional
        Threads; default: all.

    Attributes
    ----------
    learner_ : {"constant", "logistic", "trees"}
        What was fitted.
    rate_ : float
        Share that answered.
    calibration_ : Calibration

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> content = rng.normal(size=(2000, 1))
    >>> answered = rng.random(2000) < 1 / (1 + np.exp(1 - content[:, 0]))
    >>> silent, keen = ResponseModel().fit(content, answered).predict_answer([[-1.0], [1.0]])
    >>> bool(silent < 0.25 < 0.4 < keen)
    True
    """

    def __init__(
        self,
        learner: str = "auto",
        *,
        n_estimators: int | None = None,
        learning_rate: float = 0.1,
        num_leaves: int = 3,
        colsample_bytree: float = 0.2,
        max_bin: int = 31,
        C: float = 0.01,  # scikit-learn's name
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.learner = learner
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.colsample_bytree = colsample_bytree
        self.max_bin = max_bin
        self.C = C
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        answered: Any,
        *,
        calibration_set: tuple[Any, Any] | None = None,
        categorical_feature: str | Sequence[str | int] = "auto",
    ) -> ResponseModel:
        """Learn from everybody who was asked.

        Parameters
        ----------
        X : DataFrame or array of shape (n, n_features)
            As known at the moment of asking; NaN where missing.
        answered : array of shape (n,)
            True or 1 where an answer came.
        calibration_set : (X, answered), optional
            Other people's or later askings, to calibrate on; see `fit_calibration`.
        categorical_feature : "auto" or list of names or positions

        Returns
        -------
        self

        Raises
        ------
        DataError
            If nobody was asked, or shapes do not fit.
        ConfigError
            If the learner is unknown.
        """
        if self.learner not in LEARNERS:
            raise ConfigError(f"learner '{self.learner}' is unknown{nearest(self.learner, LEARNERS)}")
        self.columns_ = Columns.of(X)
        matrix, came = self.columns_.matrix(X), _flags(answered, len(X))
        self.rate_ = float(came.mean())
        self.learner_ = self._choose(int(min(came.sum(), (~came).sum())))
        self.cut_, self.calibration_ = 0.0, Calibration.identity(1)
        categorical = self.columns_.categorical(categorical_feature)
        if self.learner_ == "trees":
            self._grow(matrix, came, categorical)
        elif self.learner_ == "logistic":
            self.regression_ = _regression(self.C, categorical, self.columns_.n).fit(matrix, came)
        if calibration_set is not None and self.learner_ != "constant":
            later = _flags(calibration_set[1], len(calibration_set[0]))
            latent = self.predict_latent(calibration_set[0])
            self.calibration_ = fit_calibration(latent, self._cut_points(), (~later).astype(np.float64)[:, None])
        self.n_features_in_ = self.columns_.n
        self.classes_ = np.array([False, True])
        return self

    def _choose(self, rarer: int) -> str:
        if rarer < FEWEST_TO_LEARN:
            return "constant"
        if self.learner != "auto":
            return self.learner
        return "trees" if rarer >= FEWEST_FOR_TREES else "logistic"

    def _grow(self, matrix: NDArray[Any], came: Bools, categorical: list[int]) -> None:
        rounds = self.n_estimators or shallow_rounds(len(matrix))
        boosting = CumulativeLinkBoosting(
            n_classes=2, n_estimators=rounds, learning_rate=self.learning_rate, num_leaves=self.num_leaves,
            colsample_bytree=self.colsample_bytree, max_bin=self.max_bin, random_state=self.random_state,
            n_jobs=self.n_jobs,
        )  # fmt: skip
        self.boosting_ = boosting.fit(matrix, came.astype(np.int64), categorical_feature=categorical)
        self.cut_ = float(boosting.cut_points_[0])

    def predict_latent(self, X: Any) -> Float64:
        """Return the willingness to answer, up to a constant, in log odds before calibration. Shape (n,)."""
        check_is_fitted(self, "calibration_")
        matrix = self.columns_.matrix(X)
        if self.learner_ == "trees":
            latent: Float64 = self.boosting_.predict_latent(matrix)
            return latent
        if self.learner_ == "logistic":
            # ten digits: the last bits of linear algebra depend on the machine
            decided = np.asarray(self.regression_.decision_function(matrix), np.float64)
            return np.asarray(decided.round(10), np.float64)
        return np.zeros(len(matrix))

    def predict_answer(self, X: Any) -> Float64:
        """Return P(answered). Shape (n,)."""
        latent = self.predict_latent(X)
        if self.learner_ == "constant":
            return np.full(len(latent), self.rate_)
        silent: Float64 = self.calibration_.apply(latent, self._cut_points())[:, 0]
        return 1.0 - silent

    def predict_proba(self, X: Any) -> Float64:
        """Return P(silent), P(answered). Shape (n, 2)."""
        answer = self.predict_answer(X)
        return np.column_stack([1.0 - answer, answer])

    def predict(self, X: Any) -> Bools:
        """Return whether an answer is more likely than silence. Shape (n,)."""
        likely: Bools = self.predict_answer(X) > 0.5
        return likely

    def _cut_points(self) -> Float64:
        return np.array([self.cut_])


def shallow_rounds(n_rows: int) -> int:
    """How many shallow trees so many rows bear where nothing is held out to stop them: from 100 to 1,000.

    Examples
    --------
    >>> shallow_rounds(1000), shallow_rounds(10_000), shallow_rounds(10**7)
    (100, 150, 1000)
    """
    return int(np.clip(1.5 * np.sqrt(n_rows), 100, 1000))


def _flags(answered: Any, n_rows: int) -> Bools:
    values = np.asarray(answered)
    if values.shape != (n_rows,) or n_rows == 0:
        raise DataError(
            f"answered has shape {values.shape}, X {n_rows:,} rows; give one flag a row, and one row at least"
        )
    if not np.isin(values, (0, 1)).all():
        raise DataError("answered: holds other values than True and False (1 and 0)")
    flags: Bools = values.astype(np.bool_)
    return flags


def _regression(C: float, categorical: list[int], n_columns: int) -> Any:
    """Logarithms, gaps filled by the median and told by an indicator, standardised; categories one by one."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numbers = [i for i in range(n_columns) if i not in set(categorical)]
    measured = make_pipeline(
        FunctionTransformer(_signed_log),
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    named = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1.0), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    columns = ColumnTransformer([("numbers", measured, numbers), ("categories", named, categorical)])
    return make_pipeline(columns, LogisticRegression(C=C, solver="newton-cholesky", max_iter=200))


def _signed_log(x: Any) -> Float64:
    values = np.asarray(x, np.float64)
    return np.sign(values) * np.log1p(np.abs(values))
