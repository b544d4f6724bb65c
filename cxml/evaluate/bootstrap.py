"""How sure a figure is: intervals by resampling customers, not rows.

A customer's snapshots resemble each other, so rows drawn one by one would make every interval too narrow.
Whole customers are drawn with replacement (Davison and Hinkley 1997, Bootstrap Methods and their Application,
section 3.8), as weights: how often a customer was drawn is the weight of each of its rows.

Gaps without a sign (`cxml.evaluate.metrics.RAISED_BY_CHANCE`) grow by chance, and again in every replicate, so that
plain percentiles may lie above the figure itself; their intervals are corrected for it, see `corrected_interval`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import ConfigError, DataError
from cxml.evaluate.metrics import RAISED_BY_CHANCE, Cell, Float64, Metric

_CELLS_AT_ONCE = 2_000_000  # replicates times rows held in memory together: 16 MB a matrix


class Interval(NamedTuple):
    """A figure and where it may lie; ``low`` and ``high`` are NaN where resampling tells nothing."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def bootstrap_interval(
    metric: Metric,
    arrays: Sequence[ArrayLike],
    clusters: ArrayLike,
    *,
    n: int = 1000,
    level: float = 0.95,
    random_state: int = 0,
) -> Interval:
    """Percentile interval of a metric, customers resampled; corrected where chance raises the metric.

    Parameters
    ----------
    metric : callable
        Called as ``metric(*arrays, weight=...)`` with weights of shape (n_replicates, n_rows), as all of
        `cxml.evaluate.metrics` are.
    arrays : sequence of array
        What the metric is given, ``n_rows`` long each.
    clusters : array of shape (n_rows,)
        The customer of each row.
    n : int
        Replicates.
    level : float
        Share of replicates inside the interval.
    random_state : int
        Seed.

    Returns
    -------
    Interval

    Examples
    --------
    >>> from cxml.evaluate.metrics import base_rate
    >>> y = np.tile([0.0, 1.0], 200)
    >>> tuple(round(x, 2) for x in bootstrap_interval(base_rate, (y, y), np.arange(400)))
    (0.5, 0.45, 0.55)
    """
    parts = [np.asarray(a) for a in arrays]
    values = _replicates([(metric, parts)], clusters, n, random_state)[:, 0]
    return _interval(metric, float(metric(*parts)), values, level)


def paired_difference(
    metric: Metric,
    arrays: Sequence[ArrayLike],
    others: Sequence[ArrayLike],
    clusters: ArrayLike,
    *,
    n: int = 1000,
    level: float = 0.95,
    random_state: int = 0,
) -> Interval:
    """Interval of ``metric(*arrays) - metric(*others)``, both on the same resampled customers.

    Far narrower than two separate intervals suggest, because both predictors share the luck of the draw.

    Examples
    --------
    >>> from cxml.evaluate.metrics import brier
    >>> y = np.tile([0.0, 1.0], 200)
    >>> better, worse = (y, 0.2 + 0.6 * y), (y, np.full(400, 0.5))
    >>> tuple(round(x, 2) for x in paired_difference(brier, better, worse, np.arange(400)))
    (-0.21, -0.21, -0.21)
    """
    one, other = [np.asarray(a) for a in arrays], [np.asarray(a) for a in others]
    values = _replicates([(metric, one), (metric, other)], clusters, n, random_state)
    return percentile_interval(float(metric(*one)) - float(metric(*other)), values[:, 0] - values[:, 1], level)


def metric_intervals(
    cells: Iterable[Cell], clusters: ArrayLike, *, n: int = 1000, level: float = 0.95, random_state: int = 0
) -> dict[str, Interval]:
    """Intervals of many metrics at once, e.g. of all that `churn_cells` lists.

    Parameters
    ----------
    cells : iterable of Cell
        From `cxml.evaluate.metrics.churn_cells` or ``score_cells``.
    clusters : array of shape (n_rows,)
        The customer of each row the cells were made from.
    n, level, random_state
        As in `bootstrap_interval`.

    Returns
    -------
    dict of str to Interval
    """
    customers = np.asarray(clusters)
    found: dict[str, Interval] = {}
    for _, same_rows in groupby(cells, key=lambda cell: cell.rows.tobytes()):
        group = list(same_rows)  # rows alike: one draw of customers serves all their metrics
        values = _replicates([(c.metric, c.arrays) for c in group], customers[group[0].rows], n, random_state)
        for k, cell in enumerate(group):
            found[cell.key] = _interval(cell.metric, float(cell.metric(*cell.arrays)), values[:, k], level)
    return found


def _interval(metric: Metric, value: float, replicates: Float64, level: float) -> Interval:
    """Choose the interval that fits the metric; one with its options filled in is the metric still."""
    raised = getattr(metric, "func", metric) in RAISED_BY_CHANCE
    return (corrected_interval if raised else percentile_interval)(value, replicates, level)


def _replicates(
    jobs: Sequence[tuple[Metric, Sequence[Any]]], clusters: ArrayLike, n: int, random_state: int
) -> Float64:
    """One row a replicate, one column a job; no rows where there are fewer than two customers to draw from."""
    customers = np.asarray(clusters)
    for _, arrays in jobs:
        if any(len(a) != len(customers) for a in arrays):
            lengths = [len(a) for a in arrays]
            raise DataError(f"clusters has {len(customers)} rows, but the arrays have {lengths}; give one a row")
    if n < 1:
        raise ConfigError(f"n is {n}; the bootstrap needs at least 1 replicate")
    blocks = [
        np.column_stack([metric(*arrays, weight=weight) for metric, arrays in jobs])
        for weight in customer_draws(customers, n, random_state)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, len(jobs)))


def customer_draws(customers: NDArray[Any], n: int, random_state: int) -> Iterator[Float64]:
    """Draw customers with replacement, ``n`` times, some replicates at once.

    Parameters
    ----------
    customers : array of shape (n_rows,)
        The customer of each row.
    n : int
        Replicates in all.
    random_state : int
        Seed.

    Yields
    ------
    float64 array of shape (some replicates, n_rows)
        How often the customer of each row was drawn. Nothing where there are fewer than two customers to draw from.

    Examples
    --------
    >>> weight = next(customer_draws(np.array([7, 7, 8]), 4, 0))
    >>> weight.shape, bool((weight[:, 0] == weight[:, 1]).all())
    ((4, 3), True)
    """
    code = np.unique(customers, return_inverse=True)[1]
    n_customers = int(code.max()) + 1 if len(code) else 0
    if n_customers < 2:
        return
    rng = np.random.default_rng(random_state)
    size = max(1, _CELLS_AT_ONCE // len(code))
    for first in range(0, n, size):
        some = min(size, n - first)
        drawn = rng.integers(0, n_customers, size=(some, n_customers))
        drawn += np.arange(some)[:, None] * n_customers
        counts = np.bincount(drawn.ravel(), minlength=some * n_customers).reshape(some, n_customers)
        yield counts[:, code].astype(np.float64)


def percentile_interval(value: float, replicates: Float64, level: float = 0.95) -> Interval:
    """Put a value between the quantiles of its bootstrap replicates.

    Parameters
    ----------
    value : float
    replicates : array of shape (n_replicates,)
        NaN where a replicate could not tell; left out.
    level : float
        Share of replicates inside the interval.

    Returns
    -------
    Interval

    Examples
    --------
    >>> percentile_interval(2.0, np.arange(5.0), level=0.5)
    Interval(value=2.0, low=1.0, high=3.0)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it must lie between 0 and 1, e.g. 0.95")
    known = replicates[~np.isnan(replicates)]
    if not len(known) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def corrected_interval(value: float, replicates: Float64, level: float = 0.95) -> Interval:
    """Put a gap without a sign between the quantiles of its replicates, moved down by what chance added to them.

    The replicates lie above the value by the bootstrap's estimate of its bias (Efron and Tibshirani 1993, An
    Introduction to the Bootstrap, section 10.2), and the value above the truth by as much again: the quantiles move
    down by twice the bias, as those of the BC interval do by ``2 z_0`` (section 14.3). Where a mean of absolute gaps is
    nothing but chance, its bias is ``1 + sqrt(2)`` times the estimate, since a replicate holds the same noise twice
    and the square root of that shows; the lower end allows for it. No end passes 0, nor the value itself.

    Parameters
    ----------
    value : float
        At least 0.
    replicates : array of shape (n_replicates,)
        NaN where a replicate could not tell; left out.
    level : float

    Returns
    -------
    Interval

    Examples
    --------
    >>> corrected_interval(3.0, np.arange(1.0, 8.0), level=0.5)
    Interval(value=3.0, low=0.0, high=3.5)
    """
    plain = percentile_interval(value, replicates, level)
    if np.isnan(plain.low):
        return plain
    bias = max(float(np.nanmean(replicates)) - value, 0.0)
    low, high = plain.low - (2.0 + np.sqrt(2.0)) * bias, plain.high - 2.0 * bias
    return Interval(value, float(min(max(low, 0.0), value)), max(high, value))
