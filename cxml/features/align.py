"""Snapshots, in any order, brought into the order of a block: by customer, then cutoff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.journeys.block import EventBlock, slice_block

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]


def read_snapshots(snapshots: pd.DataFrame) -> tuple[pd.Series[Any], Int64]:
    """Check snapshots and give their ids, and their cutoffs as UTC microseconds.

    Parameters
    ----------
    snapshots : DataFrame
        With ``customer_id`` and ``cutoff``.

    Returns
    -------
    ids : Series of shape (n,)
    cutoffs : int64 array of shape (n,)

    Raises
    ------
    ConfigError
        If a column is missing.
    DataError
        If an id or a cutoff is missing, or a cutoff is no moment.
    """
    for name in ("customer_id", "cutoff"):
        if name not in snapshots.columns:
            raise ConfigError(f"snapshots lack the column '{name}'; make them with make_snapshots")
        n_null = int(snapshots[name].isna().sum())
        if n_null:
            raise DataError(
                f"snapshots: column '{name}' is missing in {n_null:,} of {len(snapshots):,} rows; drop them"
            )
    if pd.api.types.is_numeric_dtype(snapshots["cutoff"]):
        raise DataError(
            "snapshots: column 'cutoff' holds numbers, which could count anything; make moments of them, such as "
            "pd.to_datetime(cutoff, unit='us', utc=True)"
        )
    try:
        moments = pd.DatetimeIndex(pd.to_datetime(snapshots["cutoff"], utc=True, format="ISO8601")).as_unit("us")
    except (ValueError, TypeError) as error:
        raise DataError(f"snapshots: column 'cutoff' does not hold moments: {error}") from None
    return snapshots["customer_id"], np.ascontiguousarray(moments.asi8)


def latest_cutoff(snapshots: pd.DataFrame) -> int:
    """Give the latest cutoff of some snapshots, UTC microseconds.

    Raises
    ------
    ConfigError, DataError
        As of `read_snapshots`, and if there are none.
    """
    _, cutoffs = read_snapshots(snapshots)
    if not len(cutoffs):
        raise DataError("snapshots: there are none to learn from; give at least one customer_id and cutoff")
    return int(cutoffs.max())


class RowsByCustomer:
    """Snapshots sorted once, so that those of any customers are found quickly.

    Parameters
    ----------
    which : int64 array of shape (n,)
        Index of each snapshot's customer.
    cutoffs : int64 array of shape (n,)
        UTC microseconds.
    n_customers : int
        How many customers ``which`` tells apart.
    """

    def __init__(self, which: Int64, cutoffs: Int64, n_customers: int) -> None:
        self._order = np.lexsort((cutoffs, which))
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=n_customers))])

    def of(self, position: Int64) -> tuple[Int64, Int64]:
        """Order the snapshots of a block's customers as the kernel wants them.

        Parameters
        ----------
        position : int64 array of shape (n_customers of the block,)
            Index of each one; -1 for those without a snapshot.

        Returns
        -------
        rows : int64 array
            Their snapshots, by customer, then cutoff.
        row_starts : int64 array of shape (n_customers of the block + 1,)
            Where each customer's begin in ``rows``.
        """
        first = self._starts[position]
        counts = np.where(position >= 0, self._starts[position + 1] - first, 0)
        row_starts = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(row_starts[-1]) - np.repeat(row_starts[:-1], counts)
        return self._order[np.repeat(first, counts) + within], row_starts


def distinct_ids(ids: pd.Series[Any]) -> tuple[NDArray[Any], Int64]:
    """Give the distinct ids, and for each row which one it is.

    Parameters
    ----------
    ids : Series of shape (n,)
        Whole numbers or text.

    Returns
    -------
    customers : int64 or object array of shape (n_customers,)
        Ascending.
    which : int64 array of shape (n,)
        Index into ``customers``.

    Raises
    ------
    DataError
        If the ids are anything else.
    """
    codes, found = pd.factorize(ids)
    numbers = pd.api.types.is_integer_dtype(found.dtype)
    values: NDArray[Any] = np.asarray(found, dtype=np.int64 if numbers else object)
    if not numbers and not all(isinstance(value, str) for value in values):
        raise DataError(f"snapshots: customer_id must be whole numbers or text; it is {ids.dtype}. Convert it first.")
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return values[order], rank[codes]


def positions_in(customers: NDArray[Any], known: NDArray[np.generic]) -> Int64:
    """Find customers in a block.

    Parameters
    ----------
    customers, known : int64 or object arrays
        Distinct ids; those looked for, and those of the block.

    Returns
    -------
    int64 array, one for each of ``customers``
        Index into ``known``; -1 where it is not there.

    Raises
    ------
    DataError
        If one holds numbers and the other text.
    """
    refuse_other_kind(customers, known)
    return np.asarray(pd.Index(known).get_indexer(pd.Index(customers)), np.int64)


def refuse_other_kind(customers: NDArray[Any], known: NDArray[np.generic]) -> None:
    """Refuse ids of snapshots and of a block of which one holds numbers and the other text."""
    if len(customers) and len(known) and (customers.dtype == object) != (known.dtype == object):
        words = {True: "text", False: "whole numbers"}
        raise DataError(
            f"snapshots: customer_id is {words[customers.dtype == object]}, in the journeys it is "
            f"{words[known.dtype == object]}; convert one of them"
        )


def find_customer(log: JourneyLog, customer_id: int | str) -> EventBlock:
    """Find the events of one customer.

    Raises
    ------
    DataError
        If the log does not know the customer.
    """
    if isinstance(customer_id, bool) or not isinstance(customer_id, int | np.integer | str):
        raise ConfigError(f"customer_id must be a whole number or a text; it is {customer_id!r}")
    wanted = np.array([customer_id], dtype=object if isinstance(customer_id, str) else np.int64)
    if (wanted.dtype == object) != (log.events.customers.dtype == object):
        kind = "whole numbers" if wanted.dtype == object else "text"
        raise DataError(f"customer_id {customer_id!r}: in the journeys ids are {kind}")
    for block in log.blocks():
        place = int(np.searchsorted(block.customers, wanted[0]))
        if place < block.n_customers and block.customers[place] == wanted[0]:
            return slice_block(block, place, place + 1)
    raise DataError(f"the journeys hold no event of customer {customer_id!r}")
