"""Rows of all sources to one block: factorised, grouped by customer, in total order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig
from cxml.journeys.batches import Rows, join_floats, join_ids, join_integers, join_texts
from cxml.journeys.block import Coded, EventBlock, Int32, Int64
from cxml.journeys.log import known_or_none, select_events
from cxml.journeys.schema import TEXT_COLUMNS, tie_order
from cxml.journeys.sorting import take, total_order


@dataclass(frozen=True, slots=True)
class Merged:
    """The block, and what merging saw."""

    block: EventBlock
    duplicates: int
    duplicates_dropped: int
    late_events: int


def merge(parts: list[Rows], config: JourneysConfig) -> Merged:
    """Join the rows of all sources and put them in total order.

    Parameters
    ----------
    parts : list of Rows
        With at least one row. Their columns are taken out of them, to free memory early.
    config : JourneysConfig
        Names the measures and attributes, and what to do with duplicates.

    Returns
    -------
    Merged
    """
    parts = [part for part in parts if part.n]
    present = {name for part in parts for name in part.columns}
    names = [name for name in tie_order(config.measures, config.attributes) if name in present]
    codes, customers = join_ids(parts)
    joined = {"timestamp": join_integers(parts, "timestamp")}

    def join(name: str) -> Any:
        joined[name] = _joiner(name, config)(parts, name)
        return joined[name]

    order, starts, repeats = total_order(
        codes, len(customers), joined["timestamp"], (_key(join(name)) for name in names)
    )
    del codes

    def in_order(name: str) -> Any:  # joined only now, where no tie asked for it, so that few columns lie here twice
        column = joined.pop(name) if name in joined else _joiner(name, config)(parts, name)
        return _in_order(column, order)

    with ThreadPoolExecutor(2) as pool:
        wanted = [name for name in ("timestamp", *names) if name != "sequence"]
        columns = dict(zip(wanted, pool.map(in_order, wanted), strict=True))
    time = columns.pop("timestamp")
    block = EventBlock(
        customers=customers,
        starts=starts,
        time=time,
        known=known_or_none(time, columns.pop("available_at", None)),
        categories={name: column for name, column in columns.items() if isinstance(column, Coded)},
        measures={name: column for name, column in columns.items() if not isinstance(column, Coded)},
    )
    dropped = 0
    if config.duplicates == "drop_exact" and len(repeats):
        keep = np.ones(block.n_events, dtype=bool)
        keep[repeats] = False
        block, dropped = select_events(block, keep), len(repeats)
    late = 0 if block.known is None else int((block.known > block.time).sum())
    return Merged(block, len(repeats), dropped, late)


def _joiner(name: str, config: JourneysConfig) -> Callable[[list[Rows], str], Any]:
    if name in TEXT_COLUMNS or name in config.attributes:
        return join_texts
    return join_integers if name in ("timestamp", "sequence", "available_at") else join_floats


def _key(column: Any) -> NDArray[np.generic]:
    key: NDArray[np.generic] = column.codes if isinstance(column, Coded) else column
    return key


def _in_order(column: Any, order: Int32 | Int64) -> Any:
    if isinstance(column, Coded):
        return Coded(take(column.codes, order), column.vocabulary)
    return take(column, order)
