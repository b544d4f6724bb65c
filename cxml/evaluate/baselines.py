"""What anyone would do without us, on the same snapshots and in the same shape, so that the same metrics apply.

Four rungs of a ladder for churn: the base rate, the recency rule, a logistic regression on recency, frequency and
monetary value (RFM; Hughes 1994, Strategic Database Marketing), and LightGBM as it comes, one classifier a horizon
(Ke et al. 2017, LightGBM: a highly efficient gradient boosting decision tree). Four for scores: the base distribution,
the last score, a multinomial logistic regression on RFM, and LightGBM's regression. A model that does not beat all of
them has learned nothing of use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cxml.errors import DataError
from cxml.evaluate.metrics import Float64
from cxml.models.boosting import threads_for
from cxml.times import Duration

if TYPE_CHECKING:
    import pandas as pd

    #: A feature frame, or a float matrix with the names of its columns.
    Features = pd.DataFrame | tuple[np.ndarray[Any, Any], Sequence[str]]

BASE_RATE, RECENCY, RFM = "base rate", "recency rule", "RFM logistic regression"
BASE_DISTRIBUTION, LAST_SCORE = "base distribution", "last score rule"
PLAIN_LIGHTGBM = "plain LightGBM"

_RECENCY_COLUMN = "days_since__all"
_RFM_COLUMNS = re.compile(r"days_since__all|tenure_days|count__all__\w+|sum__value__\w+")
_LAST_SCORE_COLUMN = re.compile(r"last__score__(\w+)")
_LIGHTGBM_ROUNDS = 100  # what LGBMClassifier and LGBMRegressor grow unless told otherwise
_HELD_OUT = 0.2  # share of the rows that tell how far off a regression of scores is
_PRIOR_ANSWERS = 10.0  # a last score seen n times is shrunk to the base as if 10 more answers had followed that


def churn_baselines(
    train: Features,
    known: ArrayLike,
    test: Features,
    *,
    categorical: Sequence[str] = (),
    max_rows: int = 200_000,
    random_state: int = 0,
) -> dict[str, Float64]:
    """Predict the churn of the test rows in four simple ways.

    Parameters
    ----------
    train, test : DataFrame, or (matrix, names)
        Features by their names. The rules look at ``days_since__all``, ``tenure_days``, ``count__all__*`` and
        ``sum__value__*``, any of which may be missing; LightGBM looks at every column. NaN: unknown.
    known : array of shape (n_train, n_horizons)
        1 churned by the horizon, 0 not, NaN censored before it.
    categorical : sequence of str
        Columns of a matrix that hold codes; those of a DataFrame are of type category.
    max_rows : int
        Regressions learn from at most so many training rows, drawn at random: a dozen coefficients need no more.
    random_state : int
        Seed of that draw, and LightGBM's.

    Returns
    -------
    dict of str to float array of shape (n_test, n_horizons)
        ``base rate``, ``recency rule`` (a logistic regression on the log of the days since the last event, so
        ranked by recency), ``RFM logistic regression``, both only where their columns exist, and ``plain LightGBM``
        (default parameters, a classifier a horizon).

    Raises
    ------
    DataError
        If ``known`` does not fit the training rows, or a horizon has no known outcome.

    Examples
    --------
    >>> names = ["days_since__all"]
    >>> days = np.array([[1.0], [2.0], [40.0], [50.0]])
    >>> churned = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> found = churn_baselines((days, names), churned, (days, names))
    >>> found["base rate"][:, 0].tolist()
    [0.5, 0.5, 0.5, 0.5]
    >>> bool(np.all(np.diff(found["recency rule"][:, 0]) > 0))
    True
    """
    outcome = np.asarray(known, dtype=np.float64)
    _check_rows(outcome, train, "known")
    if not (~np.isnan(outcome)).any(axis=0).all():
        raise DataError("known: a horizon has no known outcome in the training rows. Train on earlier cutoffs.")
    n_test = _n_rows(test)
    rates = np.nanmean(outcome, axis=0)
    found: dict[str, Float64] = {BASE_RATE: np.tile(rates, (n_test, 1))}
    for name, columns in ((RECENCY, _present(train, [_RECENCY_COLUMN])), (RFM, _rfm_names(train))):
        if columns:
            x, x_test = _design(_columns(train, columns), _columns(test, columns))
            found[name] = np.column_stack(
                [_logistic(x, outcome[:, k], x_test, max_rows, random_state) for k in range(outcome.shape[1])]
            )
    x, x_test, codes = _everything(train, test, categorical)
    found[PLAIN_LIGHTGBM] = np.column_stack(
        [_lightgbm_classifier(x, outcome[:, k], x_test, codes, random_state) for k in range(outcome.shape[1])]
    )
    return found


def score_baselines(
    train: Features,
    scores: ArrayLike,
    test: Features,
    *,
    lo: int,
    hi: int,
    categorical: Sequence[str] = (),
    max_rows: int = 200_000,
    random_state: int = 0,
) -> dict[str, Float64]:
    """Predict the scores of the test rows in four simple ways.

    Parameters
    ----------
    train, test : DataFrame, or (matrix, names)
        As in `churn_baselines`; ``last__score__*`` is looked at too, the widest window of it. The last fifth of the
        training rows tells how far off LightGBM is, so give the later part of them last.
    scores : array of shape (n_train,)
        Answers from ``lo`` to ``hi``; NaN: asked, not answered, not learned from.
    lo, hi : int
        Lowest and highest score.
    categorical, max_rows, random_state
        As in `churn_baselines`.

    Returns
    -------
    dict of str to float array of shape (n_test, hi - lo + 1)
        ``base distribution``; ``last score rule``, how those answered whose last score was the same (one more
        group for those without), shrunk to the base where they are few; ``RFM logistic regression``;
        ``plain LightGBM``, a regression with default parameters, spread as far as it is off on rows held out.

    Raises
    ------
    DataError
        If there is no answer to learn from, or an answer lies off the scale.

    Examples
    --------
    >>> names = ["last__score__365d"]
    >>> last = np.array([[1.0], [1.0], [3.0], [3.0]])
    >>> found = score_baselines((last, names), [1, 1, 3, 3], (last, names), lo=1, hi=3)
    >>> found["base distribution"][0].tolist()
    [0.5, 0.0, 0.5]
    >>> bool(found["last score rule"][0, 0] > 0.5)
    True
    """
    y = np.asarray(scores, dtype=np.float64)
    _check_rows(y, train, "scores")
    answered = ~np.isnan(y)
    off = np.flatnonzero(answered & ~((y >= lo) & (y <= hi) & (y == np.floor(y))))
    if len(off) or not answered.any():
        what = f"{len(off)} of {len(y)} are no whole numbers from {lo} to {hi}" if len(off) else "none is an answer"
        raise DataError(f"scores: {what}. Check satisfaction.kind and the scale.")
    classes, n_scores = (y - lo)[answered].astype(np.int64), hi - lo + 1
    base = np.bincount(classes, minlength=n_scores) / len(classes)
    found: dict[str, Float64] = {BASE_DISTRIBUTION: np.tile(base, (_n_rows(test), 1))}
    last = _last_score_name(train)
    if last is not None:
        before, now = _columns(train, [last])[answered, 0], _columns(test, [last])[:, 0]
        found[LAST_SCORE] = _by_last_score(before, classes, now, base)
    columns = _rfm_names(train)
    if columns:
        x, x_test = _design(_columns(train, columns)[answered], _columns(test, columns))
        found[RFM] = _multinomial(x, classes, x_test, n_scores, max_rows, random_state)
    x, x_test, codes = _everything(train, test, categorical)
    found[PLAIN_LIGHTGBM] = _lightgbm_scores(_rows(x, answered), classes, x_test, n_scores, codes, random_state)
    return found


def _logistic(x: Float64, outcome: Float64, x_test: Float64, max_rows: int, random_state: int) -> Float64:
    """P(outcome = 1) on the test rows; the base rate where training saw one class only."""
    rows = np.flatnonzero(~np.isnan(outcome))
    y = outcome[rows].astype(np.int64)
    probability = _multinomial(x[rows], y, x_test, 2, max_rows, random_state)
    return np.ascontiguousarray(probability[:, 1])


def _multinomial(
    x: Float64, classes: np.ndarray[Any, Any], x_test: Float64, n_classes: int, max_rows: int, random_state: int
) -> Float64:
    from sklearn.linear_model import LogisticRegression

    rows = _draw(len(x), max_rows, random_state)
    x, classes = x[rows], classes[rows]
    probability = np.zeros((len(x_test), n_classes))
    seen = np.unique(classes)
    if len(seen) == 1:
        probability[:, seen[0]] = 1.0
        return probability
    # Newton's method: a dozen standardised columns are too few for anything cheaper, and it always arrives
    solver = "newton-cholesky"
    fitted = LogisticRegression(C=1.0, solver=solver, max_iter=200).fit(x, classes)
    probability[:, fitted.classes_] = fitted.predict_proba(x_test)
    return probability


def _lightgbm_classifier(x: Any, outcome: Float64, x_test: Any, codes: Any, random_state: int) -> Float64:
    """P(outcome = 1) by a classifier with default parameters; the base rate where training saw one class only."""
    known = ~np.isnan(outcome)
    y = outcome[known]
    if y.min() == y.max():
        return np.full(len(x_test), y[0])
    return _lightgbm("binary", _rows(x, known), y, x_test, codes, random_state)


def _lightgbm_scores(
    x: Any, classes: np.ndarray[Any, Any], x_test: Any, n_scores: int, codes: Any, random_state: int
) -> Float64:
    """Distribution of the score: a regression, and the distances by which it missed the rows held out."""
    n = len(classes) - max(1, int(_HELD_OUT * len(classes)))
    y = classes.astype(np.float64)
    early, late = np.arange(n), np.arange(n, len(classes))
    if n < 1 or y.min() == y.max():
        expected, missed = np.full(len(x_test), y.mean()), y - y.mean()
    else:
        expected = _lightgbm("regression", x, y, x_test, codes, random_state)
        missed = y[late] - _lightgbm("regression", _rows(x, early), y[early], _rows(x, late), codes, random_state)
    # the score is at most k where the miss is below k + 1/2 - expected
    below = np.searchsorted(np.sort(missed), np.arange(n_scores - 1) + 0.5 - expected[:, None]) / len(missed)
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def _lightgbm(objective: str, x: Any, y: Float64, x_test: Any, codes: Any, random_state: int) -> Float64:
    """Fit what LGBMClassifier and LGBMRegressor fit when nobody tells them anything; the same on any machine."""
    import lightgbm

    parameters = {
        "objective": objective, "seed": random_state, "deterministic": True, "force_row_wise": True, "verbosity": -1,
        "num_threads": threads_for(len(y) * x.shape[1]),
    }  # fmt: skip
    data = lightgbm.Dataset(x, y, categorical_feature=codes)
    booster = lightgbm.train(parameters, data, num_boost_round=_LIGHTGBM_ROUNDS)
    return np.asarray(booster.predict(x_test), dtype=np.float64)


def _everything(train: Features, test: Features, categorical: Sequence[str]) -> tuple[Any, Any, Any]:
    """Every column that LightGBM can take, of both, and which hold categories."""
    if isinstance(train, tuple) and isinstance(test, tuple):
        wanted, held = list(train[1]), list(test[1])
        if wanted != held:
            _columns(test, wanted)  # says what is missing
            test = (test[0][:, [held.index(name) for name in wanted]], wanted)
        return train[0], test[0], [wanted.index(name) for name in categorical]
    if isinstance(train, tuple) or isinstance(test, tuple):
        raise DataError("train and test features must both be DataFrames, or both (matrix, names)")
    taken = [name for name in train.columns if str(train[name].dtype) == "category" or train[name].dtype.kind in "biuf"]
    return train[taken], test[taken], "auto"


def _rows(x: Any, chosen: np.ndarray[Any, Any]) -> Any:
    """Rows of a matrix or of a DataFrame, by mask or by position."""
    return x[chosen] if isinstance(x, np.ndarray) else x.iloc[chosen]


def _by_last_score(before: Float64, classes: np.ndarray[Any, Any], now: Float64, base: Float64) -> Float64:
    """Distribution of the answer given the score before it; NaN is a score of its own."""
    values, group = np.unique(before, return_inverse=True)  # numpy gathers all NaN in one last value
    counts = np.zeros((len(values) + 1, len(base)))  # the last row stays empty: never seen in training
    np.add.at(counts, (group, classes), 1.0)
    given = (counts + _PRIOR_ANSWERS * base) / (counts.sum(axis=1, keepdims=True) + _PRIOR_ANSWERS)
    place = np.searchsorted(values, now)
    inside = np.minimum(place, len(values) - 1)
    same = (values[inside] == now) | (np.isnan(values[inside]) & np.isnan(now))
    distribution: Float64 = given[np.where(same, inside, len(values))]
    return distribution


def _design(train: Float64, test: Float64) -> tuple[Float64, Float64]:
    """Columns for a regression: logarithms, standardised, gaps filled by the mean and told by an indicator."""
    train, test = _signed_log(train), _signed_log(test)
    gaps, gaps_test = np.isnan(train), np.isnan(test)
    told = gaps.any(axis=0) & ~gaps.all(axis=0)
    filled = np.where(gaps, 0.0, train)
    n_known = np.maximum((~gaps).sum(axis=0), 1)
    mean = filled.sum(axis=0) / n_known
    spread = np.sqrt((np.where(gaps, 0.0, train - mean) ** 2).sum(axis=0) / n_known)
    spread[spread < 1e-12] = np.inf  # a constant column says nothing

    def ready(x: Float64, gap: np.ndarray[Any, Any]) -> Float64:
        return np.column_stack([np.where(gap, 0.0, (x - mean) / spread), gap[:, told]])

    return ready(train, gaps), ready(test, gaps_test)


def _signed_log(x: Float64) -> Float64:
    return np.sign(x) * np.log1p(np.abs(x))


def _draw(n: int, max_rows: int, random_state: int) -> np.ndarray[Any, Any]:
    if n <= max_rows:
        return np.arange(n)
    return np.sort(np.random.default_rng(random_state).choice(n, size=max_rows, replace=False))


def _rfm_names(features: Features) -> list[str]:
    return [name for name in _names(features) if _RFM_COLUMNS.fullmatch(name)]


def _last_score_name(features: Features) -> str | None:
    windows: Mapping[str, int] = {
        name: Duration.parse(match[1]).us
        for name in _names(features)
        if (match := _LAST_SCORE_COLUMN.fullmatch(name)) is not None
    }
    return max(windows, key=lambda name: windows[name]) if windows else None


def _present(features: Features, wanted: Sequence[str]) -> list[str]:
    names = set(_names(features))
    return [name for name in wanted if name in names]


def _names(features: Features) -> list[str]:
    return list(features[1]) if isinstance(features, tuple) else [str(name) for name in features.columns]


def _n_rows(features: Features) -> int:
    return len(features[0]) if isinstance(features, tuple) else len(features)


def _columns(features: Features, wanted: Sequence[str]) -> Float64:
    if isinstance(features, tuple):
        matrix, names = features
        place = {name: k for k, name in enumerate(names)}
        missing = [name for name in wanted if name not in place]
    else:
        missing = [name for name in wanted if name not in features.columns]
    if missing:
        raise DataError(f"test features lack the column '{missing[0]}' that the training features have")
    if isinstance(features, tuple):
        return np.asarray(matrix[:, [place[name] for name in wanted]], dtype=np.float64)
    return features[list(wanted)].to_numpy(dtype=np.float64)


def _check_rows(labels: Float64, train: Features, name: str) -> None:
    if len(labels) != _n_rows(train):
        raise DataError(f"{name} has {len(labels)} rows, the training features {_n_rows(train)}; give one a row")
