"""From the contributions of single features to a few reasons in plain words.

A column is read once (`Aggregate.parse`) and its fixed words are put together once; only the number is said for each
value. Words of the events come first where a statistic is of events ("call: 3 times in 30 days"), and behind the number
where it is of a measure ("mean score 4.2 at call in 90 days").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.explain.phrases import OF_PEERS, is_custom, wording
from cxml.explain.words import (
    ANNOTATED,
)
from cxml.features.spec import CATEGORY_STATISTICS, Aggregate

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def top_reasons(
    columns: Sequence[str],
    vocabularies: Mapping[str, tuple[str, ...]],
    matrix: NDArray[np.floating],
    contributions: Float64,
    n_reasons: int,
    annotations: Collection[str] = ANNOTATED,
) -> list[list[str | None]]:
    """Say in words what pushes each prediction up most.

    Columns that speak of the same thing (see `subject_of`) count as one reason, with the words of the strongest of
    them; only what pushes upwards is named.

    Parameters
    ----------
    columns : sequence of str, length n_columns
        Feature names.
    vocabularies : mapping of str to tuple of str
        Column -> texts of its codes, for the categorical columns.
    matrix : array of shape (n_rows, n_columns)
        Feature values.
    contributions : float64 array of shape (n_rows, n_columns)
        Additive contributions, upwards meaning worse.
    n_reasons : int
    annotations : collection of str
        Names that mean what `cxml.features.annotations` says of them. A log may hold a column of its own under such
        a name; leave that one out. Default: all of them.

    Returns
    -------
    list of n_reasons lists of length n_rows
        None where there is no further reason.

    Raises
    ------
    ConfigError
        If a column with two underscores in its name is neither categorical nor a feature.

    Examples
    --------
    >>> top_reasons(["count__touchpoint=call__30d", "tenure_days"], {}, np.array([[3.0, 400.0]]),
    ...             np.array([[0.5, -0.2]]), 2)
    [['call: 3 times in 30 days'], [None]]
    """
    names, known = tuple(columns), frozenset(annotations)
    group, n_groups = _groups(names, frozenset(vocabularies))
    best = _strongest(np.ascontiguousarray(contributions), group, n_groups, n_reasons)
    values = np.take_along_axis(matrix, best, axis=1)  # where there is no reason, those of the last column
    words: dict[tuple[int, float | None], str] = {}
    reasons: list[list[str | None]] = []
    for rank in range(n_reasons):
        texts: list[str | None] = []
        for column, value in zip(best[:, rank].tolist(), values[:, rank].tolist(), strict=True):
            if column < 0:
                texts.append(None)
                continue
            key = (column, value if value == value else None)  # NaN never equals itself
            if key not in words:
                words[key] = wording(names[column], tuple(vocabularies.get(names[column], ())), known)(value)
            texts.append(words[key])
        reasons.append(texts)
    return reasons


@lru_cache(maxsize=64)
def _groups(columns: tuple[str, ...], categorical: frozenset[str]) -> tuple[Int64, int]:
    """Give each column the number of its subject; a service asks this for every journey anew."""
    number: dict[str, int] = {}
    group = [number.setdefault(subject_of(name, name in categorical), len(number)) for name in columns]
    return np.array(group, np.int64), len(number)


def subject_of(name: str, categorical: bool = False) -> str:
    """Return what a feature speaks of, without statistic and window.

    That is the measure and the events it is taken of; of statistics of the events themselves, the events; of a
    category or a user feature, its name; of a rate among peers, the attribute. The days since the very first event are
    the tenure.

    Parameters
    ----------
    name : str
        A feature.
    categorical : bool
        Whether it is the last known value of a category.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If a name with two underscores is neither that of a category nor of a feature.

    Examples
    --------
    >>> subject_of("count__touchpoint=call__30d"), subject_of("days_since__touchpoint=call"), subject_of("tenure_days")
    ('touchpoint=call', 'touchpoint=call', 'tenure_days')
    >>> subject_of("mean__score@channel=web__30d"), subject_of("last__plan", categorical=True)
    ('score@channel=web', 'plan')
    """
    if categorical or is_custom(name):
        return name.removeprefix("last__")
    if name.startswith(tuple(OF_PEERS)):
        return name.partition("__")[2]
    aggregate = Aggregate.parse(name)
    if aggregate.statistic in CATEGORY_STATISTICS:
        return aggregate.what  # the category, and where not all events are looked at, which
    everything = aggregate.selector == "all"
    if everything and aggregate.statistic in ("tenure_days", "days_since_first"):
        return "tenure_days"
    if aggregate.measure is None:
        return aggregate.selector
    return aggregate.measure if everything else f"{aggregate.measure}@{aggregate.selector}"


def describe_value(
    name: str, value: float, vocabulary: Sequence[str] = (), annotations: Collection[str] = ANNOTATED
) -> str:
    """Say one feature value in words.

    Parameters
    ----------
    name : str
        A feature.
    value : float
        NaN where it is missing.
    vocabulary : sequence of str
        Texts of the codes of a categorical feature.
    annotations : collection of str
        As in `top_reasons`.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If there is no vocabulary and a name with two underscores is not that of a feature.

    Examples
    --------
    >>> describe_value("days_since__touchpoint=call", 12.25)
    'call: last 12 days ago'
    >>> describe_value("ratio__touchpoint=call__30d/90d", 2.4)
    'call: 2.4 times as often in 30 days as in 90 days'
    >>> describe_value("mean__first_contact_resolved__90d", 0.4)
    'first contact resolved 40 % in 90 days'
    >>> describe_value("last__plan", 1.0, ("basic", "gold"))
    'plan is gold'
    >>> describe_value("mean__value__90d", float("nan"))
    'no value in 90 days'
    """
    return wording(name, tuple(vocabulary), frozenset(annotations))(value)


@njit(cache=True, nogil=True)
def _strongest(contributions, group, n_groups, n_reasons):  # type: ignore[no-untyped-def]  # compiled
    """For each row, the strongest column of each of the ``n_reasons`` strongest positive groups; -1: no more.

    Summed column by column in a fixed order, so that one row alone gives what it gives among many.
    """
    n_rows, n_columns = contributions.shape
    best = np.full((n_rows, n_reasons), -1, np.int64)
    for row in range(n_rows):
        total = np.zeros(n_groups)
        top = np.full(n_groups, -1, np.int64)
        for column in range(n_columns):
            g = group[column]
            total[g] += contributions[row, column]
            if top[g] < 0 or contributions[row, column] > contributions[row, top[g]]:
                top[g] = column
        for rank in range(n_reasons):
            chosen = -1
            for g in range(n_groups):
                if total[g] > 0.0 and (chosen < 0 or total[g] > total[chosen]):
                    chosen = g
            if chosen < 0:
                break
            best[row, rank] = top[chosen]
            total[chosen] = 0.0
    return best
