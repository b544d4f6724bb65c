"""Attributes as of a cutoff: what the customer table said strictly before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.features.plan import FeaturePlan
from cxml.features.spec import OTHER
from cxml.journeys.block import Coded, CustomerTable

_F = TypeVar("_F", bound=Callable[..., Any])


def fitted_codes(coded: Coded, vocabulary: tuple[str, ...]) -> NDArray[np.float32]:
    """Turn the codes of a table into those of a fitted vocabulary.

    Parameters
    ----------
    coded : Coded
        A column with its own vocabulary.
    vocabulary : tuple of str
        The fitted one.

    Returns
    -------
    float32 array of shape (n,)
        Codes of ``vocabulary``; ``len(vocabulary)`` for a value it does not hold; NaN for null.

    Examples
    --------
    >>> fitted_codes(Coded(np.array([1, 0, -1], np.int32), ("gold", "new")), ("gold", "silver"))
    array([ 2.,  0., nan], dtype=float32)
    """
    code_of = {value: code for code, value in enumerate(vocabulary)}
    table = np.empty(len(coded.vocabulary) + 1, np.float32)
    table[:-1] = [
        code_of.get(value, len(vocabulary)) if value != OTHER else len(vocabulary) for value in coded.vocabulary
    ]
    table[-1] = np.nan
    return table[coded.codes]


def fill_attributes(
    plan: FeaturePlan,
    table: CustomerTable | None,
    customers: NDArray[np.generic],
    row_starts: NDArray[np.int64],
    cutoffs: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Fill the columns that come from the customer table.

    The row that holds at a cutoff is the customer's latest with ``valid_from`` strictly before it; a null
    there means unknown, even where an older row knew better.

    Parameters
    ----------
    plan : FeaturePlan
        Says which attributes, and where they go.
    table : CustomerTable, optional
        Without it all are NaN.
    customers : array of shape (n_customers,)
        Ids of the block, ascending.
    row_starts, cutoffs, rows, out
        As in `cxml.features.matrix.fill_matrix`.
    """
    if not plan.customer_attributes:
        return
    if table is None:
        held = np.full(len(cutoffs), -1, np.int64)
    else:
        held = np.empty(len(cutoffs), np.int64)
        low = np.searchsorted(table.customers, customers, side="left")
        high = np.searchsorted(table.customers, customers, side="right")
        _find_held(low, high, table.valid_from, row_starts, cutoffs, held)
    place = rows if len(rows) else slice(len(cutoffs))
    first = len(plan.columns) - len(plan.customer_attributes)
    for column, name in enumerate(plan.customer_attributes, start=first):
        coded = table.attributes.get(name) if table is not None else None
        if coded is None:
            out[place, column] = np.nan
            continue
        codes = np.append(fitted_codes(coded, plan.vocabularies[name]), np.float32(np.nan))
        out[place, column] = codes[held]


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


@_compiled
def _find_held(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    valid_from: NDArray[np.int64],
    row_starts: NDArray[np.int64],
    cutoffs: NDArray[np.int64],
    held: NDArray[np.int64],
) -> None:
    """Fill ``held`` with the table row that holds at each cutoff, -1 for none."""
    for customer in range(low.size):
        record = low[customer]
        for snapshot in range(row_starts[customer], row_starts[customer + 1]):
            while record < high[customer] and valid_from[record] < cutoffs[snapshot]:
                record += 1
            held[snapshot] = record - 1 if record > low[customer] else -1
