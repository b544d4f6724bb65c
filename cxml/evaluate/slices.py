"""Any metric by any attribute: a model that is right on average may be wrong for those of one plan or region.

A slice is the rows of one value of an attribute. Values that few customers have are pooled, and a slice that is still
too small is left out: what a handful of customers happened to do says nothing about the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval, metric_intervals
from cxml.evaluate.metrics import Cell

#: Slices of fewer customers are pooled.
SMALLEST = 50
UNKNOWN = "(unknown)"


@dataclass(frozen=True, slots=True)
class Slice:
    """Metrics of the rows of one value.

    Parameters
    ----------
    attribute, value : str
    n_rows, n_customers : int
    scores : dict of str to Interval
        Metric -> value with its interval; customers are drawn whole.
    """

    attribute: str
    value: str
    n_rows: int
    n_customers: int
    scores: dict[str, Interval]


def slice_metrics(
    cells: Iterable[Cell],
    attributes: Mapping[str, ArrayLike],
    customers: ArrayLike,
    *,
    smallest: int = SMALLEST,
    most: int = 20,
    n: int = 200,
    level: float = 0.95,
    random_state: int = 0,
) -> list[Slice]:
    """Take metrics apart by attributes.

    Parameters
    ----------
    cells : iterable of Cell
        From `cxml.evaluate.metrics.churn_cells`, ``score_cells``, `cxml.evaluate.survival.survival_cells`, or one's
        own: every metric that can be called ``metric(*arrays, weight=...)``.
    attributes : mapping of str to array of shape (n_rows,)
        Name -> value of each row, as text; see `value_names` and `bands` for codes and numbers.
    customers : array of shape (n_rows,)
        A customer's rows are drawn together.
    smallest : int
        Values that fewer customers have are pooled as ``(others)``; a pool of fewer is left out.
    most : int
        At most so many values of an attribute, the largest; the others are pooled.
    n, level, random_state
        As in `cxml.evaluate.bootstrap.bootstrap_interval`.

    Returns
    -------
    list of Slice
        By attribute in the order given, then the largest first.

    Raises
    ------
    DataError
        If an attribute does not have one value a row.

    Examples
    --------
    >>> from cxml.evaluate.metrics import base_rate
    >>> y = np.repeat([1.0, 0.0], 60)
    >>> found = slice_metrics([Cell("base_rate", base_rate, (y, y), np.ones(120, bool))],
    ...                       {"plan": np.repeat(["gold", "basic"], 60)}, np.arange(120))
    >>> [(s.value, s.n_customers, s.scores["base_rate"].value) for s in found]
    [('basic', 60, 0.0), ('gold', 60, 1.0)]
    """
    wanted, ids = list(cells), np.asarray(customers)
    if min(smallest, most) < 1:
        raise ConfigError(f"smallest is {smallest} and most is {most}; both must be at least 1")
    found = []
    for name, values in attributes.items():
        texts = np.asarray(values).astype(str)
        if texts.shape != ids.shape:
            raise DataError(f"attribute '{name}' has shape {texts.shape}, customers {ids.shape}; give one value a row")
        for value, rows in _groups(texts, ids, smallest, most):
            inside = [_within(cell, rows) for cell in wanted]
            scores = metric_intervals(inside, ids[rows], n=n, level=level, random_state=random_state)
            found.append(Slice(name, value, int(rows.sum()), len(np.unique(ids[rows])), scores))
    return found


def slice_table(slices: Sequence[Slice], metrics: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table for people.

    Parameters
    ----------
    slices : sequence of Slice
    metrics : sequence of str, optional
        Which, in this order; default all.

    Returns
    -------
    head : list of str
    rows : list of list of str

    Examples
    --------
    >>> slice_table([Slice("plan", "gold", 9, 8, {"auroc_30d": Interval(0.75, 0.7, 0.8)})])[1]
    [['plan', 'gold', '8', '0.750 (0.700 to 0.800)']]
    """
    shown = metrics if metrics is not None else list(dict.fromkeys(m for s in slices for m in s.scores))
    rows = [
        [s.attribute, s.value, f"{s.n_customers:,}", *(_figure(s.scores.get(metric)) for metric in shown)]
        for s in slices
    ]
    return ["attribute", "value", "customers", *shown], rows


def value_names(codes: ArrayLike, names: Sequence[str]) -> NDArray[Any]:
    """Turn a column of category codes into texts.

    Parameters
    ----------
    codes : float array of shape (n_rows,)
        As in a feature matrix; NaN: unknown.
    names : sequence of str
        What the codes mean, from 0 on.

    Returns
    -------
    str array of shape (n_rows,)

    Examples
    --------
    >>> value_names([1.0, float("nan")], ["gold", "basic"]).tolist()
    ['basic', '(unknown)']
    """
    given = np.asarray(codes, dtype=np.float64)
    place = np.where(np.isnan(given), len(names), given).astype(np.int64)
    texts: NDArray[Any] = np.array([*names, UNKNOWN])[place]
    return texts


def bands(values: ArrayLike, n: int = 4) -> NDArray[Any]:
    """Turn numbers into bands that hold about equally many rows each, so that they can slice.

    Parameters
    ----------
    values : float array of shape (n_rows,)
        NaN: unknown.
    n : int
        How many bands; fewer where values repeat.

    Returns
    -------
    str array of shape (n_rows,)
        Such as ``1: below 10``, ``2: 10 to below 20``, ``3: 20 and above``.

    Examples
    --------
    >>> bands([1.0, 2.0, 30.0, float("nan")], n=2).tolist()
    ['1: below 2', '2: 2 and above', '2: 2 and above', '(unknown)']
    """
    given = np.asarray(values, dtype=np.float64)
    known = given[~np.isnan(given)]
    edges = np.unique(np.quantile(known, np.arange(1, n) / n)) if len(known) else np.empty(0)
    edges = edges[edges > known.min()] if len(known) else edges
    marks = [f"{edge:.4g}" for edge in edges]
    names = [f"{low} to below {high}" for low, high in pairwise(marks)]
    names = [f"below {marks[0]}", *names, f"{marks[-1]} and above"] if marks else ["all"]
    code = np.searchsorted(edges, given, side="right").astype(np.float64)
    code[np.isnan(given)] = np.nan
    return value_names(code, [f"{k}: {name}" for k, name in enumerate(names, start=1)])


def _groups(texts: NDArray[Any], ids: NDArray[Any], smallest: int, most: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Rows of each value with enough customers, the largest first, then those of the others together."""
    values, code = np.unique(texts, return_inverse=True)
    sizes = [len(np.unique(ids[code == k])) for k in range(len(values))]
    ranked = sorted(range(len(values)), key=lambda k: (-sizes[k], values[k]))
    large = [k for k in ranked if sizes[k] >= smallest][:most]
    groups = [(str(values[k]), code == k) for k in large]
    rest = ~np.isin(code, large)
    return [*groups, ("(others)", rest)] if len(np.unique(ids[rest])) >= smallest else groups


def _within(cell: Cell, rows: NDArray[np.bool_]) -> Cell:
    """Cut a cell down to some of the rows it was made from."""
    if cell.rows.shape != rows.shape:
        raise DataError(f"cell '{cell.key}' is of {len(cell.rows)} rows, customers of {len(rows)}; give one a row")
    inside = rows[cell.rows]
    return Cell(cell.key, cell.metric, tuple(each[inside] for each in cell.arrays), cell.rows[rows])


def _figure(interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.value):
        return "-"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
