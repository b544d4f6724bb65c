"""Side tables: what is known of customers beside their events, and who left when."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, CustomersConfig, SourceConfig
from cxml.errors import ConfigError, DataError
from cxml.journeys.batches import Rows, join_ids, join_integers, join_texts
from cxml.journeys.block import Coded, CustomerTable, Int64
from cxml.journeys.canonical import quote
from cxml.journeys.ingest import Layout, ingest, refuse_bad_rows


def read_table(
    source: SourceConfig | Any,
    folder: str | os.PathLike[str] = ".",
    columns: Mapping[str, str] | None = None,
    *,
    names: Sequence[str] = ("customer_id", "timestamp"),
    required: Sequence[str] = ("customer_id", "timestamp"),
    where: str | None = None,
    timezone: str | None = None,
    side: str = "table",
) -> Rows:
    """Read a side table; every row must be good.

    Parameters
    ----------
    source : SourceConfig, data frame or Arrow table
    folder : path
        Where relative paths start.
    columns : mapping of str to str, optional
        Name -> the source's own column.
    names : sequence of str
        What to read: ``customer_id``, stamps (``timestamp``, ``valid_from``), and categories.
    required : sequence of str
        Those that must be there.
    where : str, optional
        SQL predicate over the source's own columns.
    timezone : str, optional
        Zone of stamps that carry none.
    side : str
        What the table is called in messages.

    Returns
    -------
    Rows
        For the functions ``join_...`` of `cxml.journeys.batches`.

    Raises
    ------
    ConfigError
        If a column is not there, or stamps need a time zone.
    DataError
        If the source is unreadable, or a row is bad.
    """
    layout = Layout(tuple(names), tuple(required), mapping=dict(columns or {}))
    rows = Rows()
    read = ingest(source, layout, rows.add, folder, where=where, timezone=timezone, label=side)
    refuse_bad_rows(side, [read], required)
    return rows


def read_customers(
    config: CustomersConfig, folder: str | os.PathLike[str] = ".", timezone: str | None = None, *, source: Any = None
) -> CustomerTable:
    """Read what is known of customers beside their events.

    Parameters
    ----------
    config : CustomersConfig
    folder : path
        Where relative paths start.
    timezone : str, optional
        Zone of ``valid_from`` stamps that carry none, where the config does not say.
    source : data frame or Arrow table, optional
        Rows in memory, instead of the config's source.

    Returns
    -------
    CustomerTable
        Rows that repeat another are dropped; a row without ``valid_from`` holds from the beginning.

    Raises
    ------
    DataError
        If two rows of a customer hold from the same moment and differ.
    """
    names = ("customer_id", "valid_from", *config.attributes)
    required = ("customer_id", *(("valid_from",) if "valid_from" in config.columns else ()), *config.attributes)
    rows = read_table(
        config.source if source is None else source, folder, config.columns, names=names, required=required,
        timezone=config.timezone or timezone, side="customers",
    )  # fmt: skip
    codes, ids = join_ids(rows)
    valid_from = join_integers(rows, "valid_from")
    attributes = {name: join_texts(rows, name) for name in config.attributes}
    keys: list[NDArray[Any]] = [attributes[name].codes for name in reversed(config.attributes)]
    order = np.lexsort((*keys, valid_from, codes))
    same_moment = (np.diff(codes[order]) == 0) & (np.diff(valid_from[order]) == 0)
    differs = np.zeros(len(same_moment), dtype=bool)
    for key in keys:
        differs |= np.diff(key[order]) != 0
    _refuse_contradictions(ids[codes[order][1:][same_moment & differs]])
    order = order[np.concatenate([np.ones(min(1, len(order)), dtype=bool), ~same_moment])]
    return CustomerTable(
        customers=ids[codes[order]],
        valid_from=valid_from[order],
        attributes={name: Coded(coded.codes[order], coded.vocabulary) for name, coded in attributes.items()},
    )


def _refuse_contradictions(ids: NDArray[np.generic]) -> None:
    if len(ids):
        shown = ", ".join(str(one) for one in ids[:3].tolist())
        raise DataError(
            f"customers: {len(ids):,} rows contradict another of the same customer from the same moment (customers "
            f"{shown}). Give the table a date under columns.valid_from, or choose one row with a 'query'."
        )


def read_churn_table(
    config: ChurnConfig, folder: str | os.PathLike[str] = ".", timezone: str | None = None
) -> tuple[NDArray[np.generic], Int64]:
    """Read who left and when (churn of kind ``table``).

    Parameters
    ----------
    config : ChurnConfig
        Of kind ``table``.
    folder : path
        Where relative paths start.
    timezone : str, optional
        Zone of stamps that carry none, where the source does not say.

    Returns
    -------
    ids : int64 or object (str) array
        Ascending; a customer may have left more than once.
    times : int64 array
        UTC microseconds, ascending within a customer. Rows without a stamp did not leave and are not returned.
    """
    if config.source is None:
        raise ConfigError("churn: kind 'table' needs a 'source'")
    stamp = {**config.columns, **config.source.columns}.get("timestamp", "timestamp")
    rows = read_table(
        config.source, folder, config.columns, where=f"{quote(stamp)} is not null", timezone=timezone, side="churn"
    )
    codes, ids = join_ids(rows)
    times = join_integers(rows, "timestamp")
    order = np.lexsort((times, codes))
    return ids[codes[order]], times[order]


def match_ids(ids: NDArray[np.generic], customers: NDArray[np.generic]) -> Int64:
    """Find ids among the customers of a log, where the one may be integers and the other texts.

    Parameters
    ----------
    ids : int64 or object (str) array of shape (n,)
    customers : int64 or object (str) array
        Ascending and distinct, as in an `EventBlock`.

    Returns
    -------
    int64 array of shape (n,)
        Index into ``customers``; -1 where there is none.

    Examples
    --------
    >>> match_ids(np.array(["8", "x"], dtype=object), np.array([7, 8]))
    array([ 1, -1])
    """
    if not len(customers):
        return np.full(len(ids), -1, dtype=np.int64)
    if ids.dtype == object or customers.dtype == object:
        index = {str(one): i for i, one in enumerate(customers.tolist())}
        return np.array([index.get(str(one), -1) for one in ids.tolist()], dtype=np.int64)
    place = np.minimum(np.searchsorted(customers, ids), len(customers) - 1)
    return np.where(customers[place] == ids, place, -1)


def align_customers(table: CustomerTable, customers: NDArray[np.generic]) -> CustomerTable:
    """Give a table ids of the log's kind, and only rows of customers the log has.

    Raises
    ------
    DataError
        If there are none.
    """
    place = match_ids(table.customers, customers)
    if len(place) and len(customers) and not (place >= 0).any():
        raise DataError(
            f"no customer id of the customers table occurs in the log (e.g. '{table.customers[0]}' there, "
            f"'{customers[0]}' in the log). Give both the same ids, or name the right column under "
            "customers.columns.customer_id."
        )
    order = np.lexsort((table.valid_from, place))
    order = order[place[order] >= 0]
    return CustomerTable(
        customers=customers[place[order]],
        valid_from=table.valid_from[order],
        attributes={name: Coded(coded.codes[order], coded.vocabulary) for name, coded in table.attributes.items()},
    )
