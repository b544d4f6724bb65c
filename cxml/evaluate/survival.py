"""How well the time to the outcome is foretold, when not everybody was followed to the end.

Who was lost from sight is made up for by those who were not: each known outcome is weighted by the inverse
probability of having been followed so far (inverse probability of censoring weighting, IPCW). That probability is the
Kaplan-Meier curve of staying in sight, taken just before the moment that settles the outcome (Gerds and Schumacher
2006, Biometrical Journal 48(6)). Replicates of a bootstrap share the curve of the rows as given: who is followed for
how long is decided by the cutoffs, hardly by chance.

The outcome is T, as in `cxml.models.churn.ChurnModel`: time to churn, or for churn by inactivity the time to the next
activity. ``cdf`` is P(T < h); for inactivity that is one minus the probability of churn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import DataError
from cxml.evaluate.metrics import Cell, Float64, ratio, weights_of
from cxml.models.outcomes import censoring_weights

_F = TypeVar("_F", bound=Callable[..., Any])
_LANES = 8


def concordance(
    duration_days: ArrayLike,
    observed: ArrayLike,
    risk: ArrayLike,
    *,
    until_days: float,
    weight: ArrayLike | None = None,
) -> Any:
    """Return the concordance of risk and time: the chance that of two customers the riskier goes first.

    Uno et al. (2011), Statistics in Medicine 30(10): pairs count by the inverse square of the probability of having
    been in sight at the earlier outcome, so that the value does not depend on who was followed for how long. Pairs
    with the earlier outcome at or after ``until_days`` do not count, nor do outcomes at the same moment; who was lost
    from sight at the very moment of another's outcome is taken to have outlasted it. Equal risks count a half.

    Parameters
    ----------
    duration_days : array of shape (n,)
        Days to the outcome or to the end of what was seen; infinite and not observed: known never to come.
    observed : array of shape (n,)
        1 where the outcome was seen, else 0.
    risk : array of shape (n,)
        Higher: sooner. Only the order matters.
    until_days : float
        Usually the last horizon.
    weight : array of shape (n,) or (n_replicates, n), optional
        Non-negative.

    Returns
    -------
    float, or array of shape (n_replicates,)
        0.5 by chance, 1 perfect; NaN where no pair can be compared.

    Raises
    ------
    DataError
        If the shapes do not fit, or a duration or a risk is no number.

    Examples
    --------
    >>> concordance([10, 20, 30, 30], [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], until_days=30)
    1.0
    >>> concordance([10, 20, 30, 30], [1, 1, 0, 0], [0.8, 0.9, 0.1, 0.2], until_days=30)
    0.8
    """
    duration, seen = _followed(duration_days, observed)
    score = np.asarray(risk, dtype=np.float64)
    if score.shape != duration.shape or np.isnan(score).any():
        raise DataError(f"risk has shape {score.shape}; it needs one number for each of {len(duration)} durations")
    w = weights_of(weight, len(duration))
    earlier = seen & (duration < until_days)
    pairs = np.where(earlier, _inverse_in_sight(duration, seen, until_days) ** 2, 0.0)
    order = np.lexsort((~seen, duration))  # at one moment outcomes come before losses
    last = int(np.searchsorted(duration[order], until_days, side="left"))
    rank = np.unique(score, return_inverse=True)[1][order]
    found = np.zeros((2, len(np.atleast_2d(w))))
    if len(order):
        same = (duration[order][1:] == duration[order][:-1]) & (seen[order][1:] == seen[order][:-1])
        moment, columns = np.cumsum(np.r_[True, ~same]), np.atleast_2d(w)
        for first in range(0, len(columns), _LANES):
            some = columns[first : first + _LANES, order]
            lanes = np.zeros((len(order), _LANES))
            lanes[:, : len(some)] = some.T
            counts = np.zeros((2, _LANES))
            _count_pairs(lanes, pairs[order], rank, moment, last, counts)
            found[:, first : first + _LANES] = counts[:, : len(some)]
    value = ratio(found[0], found[1])
    return value if w.ndim == 2 else float(value[0])


def censored_brier(
    duration_days: ArrayLike,
    observed: ArrayLike,
    cdf: ArrayLike,
    *,
    horizon_days: float,
    weight: ArrayLike | None = None,
) -> Any:
    """Brier score at a horizon over all rows, those lost from sight made up for by the others.

    Graf et al. (1999), Statistics in Medicine 18: the squared gap of P(T < h) and what happened, weighted by
    IPCW, over the number of rows.

    Parameters
    ----------
    duration_days, observed
        As in `concordance`.
    cdf : array of shape (n,)
        P(T < horizon).
    horizon_days : float
    weight : array of shape (n,) or (n_replicates, n), optional

    Returns
    -------
    float, or array of shape (n_replicates,)

    Examples
    --------
    >>> censored_brier([10, 40, 40], [1, 0, 0], [0.5, 0.5, 0.5], horizon_days=30)
    0.25
    """
    return integrated_brier(duration_days, observed, np.reshape(cdf, (-1, 1)), horizons_days=[horizon_days],
                            weight=weight)  # fmt: skip


def integrated_brier(
    duration_days: ArrayLike,
    observed: ArrayLike,
    cdf: ArrayLike,
    *,
    horizons_days: Sequence[float],
    weight: ArrayLike | None = None,
) -> Any:
    """Integrate the Brier score over the horizons, from the first to the last, by the trapezoidal rule.

    Graf et al. (1999), Statistics in Medicine 18; see `censored_brier`. Divided by the span, so that it is a mean
    Brier score; with one horizon it is the score there.

    Parameters
    ----------
    duration_days, observed
        As in `concordance`.
    cdf : array of shape (n, n_horizons)
        P(T < each horizon).
    horizons_days : sequence of float
        Ascending.
    weight : array of shape (n,) or (n_replicates, n), optional

    Returns
    -------
    float, or array of shape (n_replicates,)
        0 perfect, 0.25 from always saying one half.

    Raises
    ------
    DataError
        If the shapes do not fit.

    Examples
    --------
    >>> integrated_brier([10, 70, 70], [1, 0, 0], [[1.0, 1.0], [0.5, 0.5], [0.0, 0.5]], horizons_days=[30, 60])
    0.125
    """
    duration, seen = _followed(duration_days, observed)
    p, horizons = np.asarray(cdf, dtype=np.float64), np.asarray(horizons_days, dtype=np.float64)
    if p.shape != (len(duration), len(horizons)) or not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"cdf has shape {p.shape}; it needs probabilities of shape ({len(duration)}, {len(horizons)}), one a "
            "duration and horizon"
        )
    happened = seen[:, None] & (duration[:, None] < horizons)
    gaps = censoring_weights(duration, seen, horizons.tolist()) * (happened - p) ** 2
    w = weights_of(weight, len(duration))
    return ratio(w @ (gaps @ _trapezoid(horizons)), w.sum(axis=-1))


def survival_cells(
    duration_days: ArrayLike, observed: ArrayLike, cdf: ArrayLike, horizons_days: Sequence[float]
) -> Iterator[Cell]:
    """List ``concordance`` and ``integrated_brier`` as cells.

    Parameters
    ----------
    duration_days, observed, cdf, horizons_days
        As in `integrated_brier`. The risk is P(T < last horizon), and pairs count up to it.

    Yields
    ------
    Cell
    """
    duration, seen = _followed(duration_days, observed)
    p, everybody = np.asarray(cdf, dtype=np.float64), np.ones(len(duration), dtype=np.bool_)
    flags = seen.astype(np.float64)
    until = float(horizons_days[-1])
    yield Cell("concordance", partial(concordance, until_days=until), (duration, flags, p[:, -1]), everybody)
    whole = partial(integrated_brier, horizons_days=tuple(horizons_days))
    yield Cell("integrated_brier", whole, (duration, flags, p), everybody)


def _followed(duration_days: ArrayLike, observed: ArrayLike) -> tuple[Float64, NDArray[np.bool_]]:
    duration, flags = np.asarray(duration_days, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if duration.ndim != 1 or flags.shape != duration.shape or np.isnan(duration).any() or np.isnan(flags).any():
        raise DataError(
            f"duration_days has shape {duration.shape} and observed {flags.shape}; both must be (n_rows,), without gaps"
        )
    return duration, flags == 1.0


def _inverse_in_sight(duration: Float64, seen: NDArray[np.bool_], until_days: float) -> Float64:
    """One over the probability of having been in sight at one's outcome; rows without an outcome do not matter."""
    return censoring_weights(duration, seen, [until_days])[:, 0] if len(duration) else duration


def _trapezoid(horizons: Float64) -> Float64:
    """Weights of the horizons; they sum to 1."""
    if len(horizons) == 1:
        return np.ones(1)
    steps = np.diff(horizons)
    weights: Float64 = (np.r_[steps, 0.0] + np.r_[0.0, steps]) / (2.0 * (horizons[-1] - horizons[0]))
    return weights


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


@_compiled
def _count_pairs(
    w: Float64, pairs: Float64, rank: NDArray[np.int64], moment: NDArray[np.int64], last: int, found: Float64
) -> None:
    """Fill ``found`` with the weight of concordant and of comparable pairs, one column a replicate.

    Rows ascend in time; those from ``last`` on outlast everything that counts. From there backwards each outcome asks
    a Fenwick tree (Fenwick 1994) over the ranks how much weight behind it has a lower risk. ``_LANES`` replicates walk
    together, since each place of the tree is one line of the cache.
    """
    n = len(rank)
    n_ranks = rank.max() + 1
    tree = np.zeros((n_ranks + 1, _LANES))
    alike = np.zeros((n_ranks, _LANES))
    total, below = np.zeros(_LANES), np.zeros(_LANES)
    for i in range(last, n):
        for lane in range(_LANES):
            alike[rank[i], lane] += w[i, lane]
            tree[rank[i] + 1, lane] += w[i, lane]
            total[lane] += w[i, lane]
    for place in range(1, n_ranks + 1):
        above = place + (place & -place)
        if above <= n_ranks:
            for lane in range(_LANES):
                tree[above, lane] += tree[place, lane]
    end = last
    while end > 0:
        start = end - 1
        while start > 0 and moment[start - 1] == moment[end - 1]:
            start -= 1
        for i in range(start, end):  # all of one moment ask before any of them is put in
            if pairs[i] == 0.0:
                continue
            for lane in range(_LANES):
                below[lane] = 0.5 * alike[rank[i], lane]
            place = rank[i]
            while place > 0:
                for lane in range(_LANES):
                    below[lane] += tree[place, lane]
                place -= place & -place
            for lane in range(_LANES):
                found[0, lane] += w[i, lane] * pairs[i] * below[lane]
                found[1, lane] += w[i, lane] * pairs[i] * total[lane]
        for i in range(start, end):
            for lane in range(_LANES):
                alike[rank[i], lane] += w[i, lane]
                total[lane] += w[i, lane]
            place = rank[i] + 1
            while place <= n_ranks:
                for lane in range(_LANES):
                    tree[place, lane] += w[i, lane]
                place += place & -place
        end = start
