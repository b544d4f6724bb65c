"""From the contributions of single features to a few reasons in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Why an aggregate is what it is, said of its value; {n} value, {what} selector, {window} days.
_PHRASES = {
    "sum": "{what} sums to {n}{window}",
    "mean": "mean {what} {n}{window}",
    "min": "lowest {what} {n}{window}",
    "max": "highest {what} {n}{window}",
    "last": "last {what} {n}{window}",
    "active_days": "active on {n} day{s}{window}",
    "distinct": "{n} kind{s} of {what}{window}",
}


def top_reasons(
    columns: Sequence[str],
    vocabularies: dict[str, tuple[str, ...]],
    matrix: NDArray[np.floating],
    contributions: Float64,
    n_reasons: int,
) -> list[list[str | None]]:
    """Say in words what pushes each prediction up most.

    Columns that speak of the same thing (the same selector or measure over several windows) count as one
    reason, with the words of the strongest of them; only what pushes upwards is named.

    Parameters
    ----------
    columns : sequence of str, length n_columns
        Feature names.
    vocabularies : dict
        Column -> texts of its codes, for the categorical columns.
    matrix : array of shape (n_rows, n_columns)
        Feature values.
    contributions : float64 array of shape (n_rows, n_columns)
        Additive contributions, upwards meaning worse.
    n_reasons : int

    Returns
    -------
    list of n_reasons lists of length n_rows
        None where there is no further reason.

    Examples
    --------
    >>> top_reasons(["count__touchpoint=call__30d", "tenure_days"], {}, np.array([[3.0, 400.0]]),
    ...             np.array([[0.5, -0.2]]), 2)
    [['call: 3 times in 30 days'], [None]]
    """
    subjects = [subject_of(name) for name in columns]
    order = {subject: i for i, subject in enumerate(dict.fromkeys(subjects))}
    group = np.array([order[s] for s in subjects], dtype=np.int64)
    best = _strongest(np.ascontiguousarray(contributions), group, len(order), n_reasons)
    words: dict[tuple[int, float], str] = {}
    reasons: list[list[str | None]] = []
    for rank in range(n_reasons):
        texts: list[str | None] = []
        for row, column in enumerate(best[:, rank].tolist()):
            if column < 0:
                texts.append(None)
                continue
            value = float(matrix[row, column])
            key = (column, value)  # nan never equals itself: worded anew each time, which is rare
            if key not in words:
                words[key] = describe_value(columns[column], value, vocabularies.get(columns[column], ()))
            texts.append(words[key])
        reasons.append(texts)
    return reasons


def subject_of(name: str) -> str:
    """Return what a feature speaks of, without statistic and window.

    Examples
    --------
    >>> subject_of("count__touchpoint=call__30d"), subject_of("days_since__touchpoint=call"), subject_of("tenure_days")
    ('touchpoint=call', 'touchpoint=call', 'tenure_days')
    """
    parts = name.split("__")
    return parts[1] if len(parts) > 1 else name


def describe_value(name: str, value: float, vocabulary: Sequence[str] = ()) -> str:
    """Say one feature value in words.

    Examples
    --------
    >>> describe_value("days_since__touchpoint=call", 12.25)
    'call: last 12 days ago'
    >>> describe_value("last__plan", 1.0, ("basic", "gold"))
    'plan is gold'
    >>> describe_value("mean__value__90d", float("nan"))
    'no value in 90 days'
    """
    if name == "tenure_days":
        return f"customer for {_number(value)} days"
    statistic, what, *rest = name.split("__")
    window = f" in {_spell(rest[0])}" if rest else ""
    if vocabulary:
        return f"{what} is {vocabulary[int(value)] if value == value else 'unknown'}"
    subject = "any contact" if what == "all" else what.rsplit("=", 1)[-1]
    if "@" in what:
        measure, selector = what.split("@", 1)
        subject = f"{measure} at {selector.rsplit('=', 1)[-1]}"
    if statistic == "days_since":
        return f"{subject}: " + ("never" if value != value else f"last {_number(value)} days ago")
    if value != value:
        return f"no {subject}{window}"
    if statistic == "count":
        return f"{subject}: " + (f"{_number(value)} time{_plural(value)}{window}" if value else f"none{window}")
    return _PHRASES[statistic].format(n=_number(value), s=_plural(value), what=subject, window=window)


def _spell(window: str) -> str:
    """Say a window in words where it is days."""
    n = window.removesuffix("d")
    return window if n == window else f"{n} day{_plural(float(n))}"


def _plural(value: float) -> str:
    return "" if value == 1 else "s"


def _number(value: float) -> str:
    if abs(value) >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}"


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
