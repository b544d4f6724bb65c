"""The parts of a shuffle to blocks: grouped by customer, in total order, in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig
from cxml.journeys.block import Coded, EventBlock, Int32, Int64
from cxml.journeys.log import Column, Facts, Whole, columns_of, known_or_none
from cxml.journeys.schema import TEXT_COLUMNS, tie_order
from cxml.journeys.shuffle import (
    Piece,
    Scratch,
    Shuffle,
    is_plain_integer,
    join_pieces,
    read_arrays,
    write_arrays,
)
from cxml.journeys.sorting import Order, move_runs, total_order

#: A log of fewer events is one block at once.
_SMALL = 1_000_000
_LATEST = 2**62
#: From the number of a part, and the columns that are wanted (None: all), to its block.
Load = Callable[[int, Collection[str] | None], EventBlock]


class PartedEvents:
    """Events in parts of whole customers, each made into a block when it is asked for.

    Parameters
    ----------
    tables : Tables
        Of the rows.
    load : callable
        From the number of a part, and the columns that are wanted (None: all), to its block, whose customers are
        numbers still.
    ids : list of int64 array
        Customers of each part, ascending, as numbers.
    facts : list of Facts
        Of each part.
    """

    def __init__(self, tables: Tables, load: Load, ids: list[NDArray[Any]], facts: list[Facts]) -> None:
        self._tables, self._load, self._ids = tables, load, ids
        self.facts = Facts.of(facts)
        everyone = np.concatenate(ids)
        self._ascending = np.argsort(everyone)
        self.customers = tables.names_of(everyone[self._ascending])
        self.touchpoints = tables.vocabularies["touchpoint"]
        self._parts = [part for part, found in enumerate(ids) if len(found)]
        self._whole: EventBlock | None = None

    @property
    def on_disk(self) -> bool:
        """Whether they are too many to be held in memory."""
        return self._tables.on_disk and self._whole is None

    @property
    def n_parts(self) -> int:
        """In how many blocks they come."""
        return 1 if self._whole is not None else len(self._parts)

    def block(self, part: int, columns: Collection[str] | None = None) -> EventBlock:
        """Give one of the parts as a block, customers ascending."""
        if self._whole is not None:
            return self._whole
        block = self._load(self._parts[part], columns)
        return replace(block, customers=self._tables.names_of(block.customers))

    def counts(self, column: str) -> dict[str, int] | None:
        """Say how often each value of a category occurs; None where that was not counted while reading."""
        return None if self.facts.duplicates_dropped else self._tables.counts(column)

    def loose(self, part: int, columns: Collection[str]) -> EventBlock:
        """Give the events of a part with some columns, as if they were one customer's, in no order."""
        if self._whole is not None or self.on_disk or self.facts.duplicates_dropped:
            return self.block(part, columns)
        return self._tables.loose(self._parts[part], columns)

    def whole(self) -> EventBlock:
        """Give all events as one block; from then on this is what there is."""
        if self._whole is None:
            self._whole = self._join()
            self._load = _gone
            self._tables.clear()
        return self._whole

    def __reduce__(self) -> tuple[type[Whole], tuple[EventBlock]]:
        """Copy and pickle all events as one block: other processes have no part in what is held here or on disk."""
        return Whole, (self.whole(),)

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Give the columns of all events, one after the other; where they lie on disk, no more is in memory."""
        if not self.on_disk:
            yield from columns_of(self.whole())
            return
        starts, places = self._places()
        yield "customers", self.customers
        yield "starts", starts
        names = {"time": "timestamp"} | ({"known": "available_at"} if self.facts.late_events else {})
        coded = self._tables.vocabularies
        others = sorted(
            {*self._tables.kept} - {"timestamp", "available_at"}, key=lambda name: (name not in coded, name)
        )
        for name, source in (names | dict(zip(others, others, strict=True))).items():
            values: NDArray[Any] = np.empty(int(starts[-1]), self._tables.dtype(source))
            for part in self._parts:
                block = self._load(part, [source])
                move_runs(_values(block, source), block.starts, places[part], values)
            yield name, Coded(values, coded[name]) if name in coded else values

    def _places(self) -> tuple[Int64, list[Int64]]:
        """Give where the events of each customer start, and where those of each part's customers do."""
        starts = np.zeros(len(self.customers) + 1, np.int64)
        np.cumsum(self.facts.counts[self._ascending], out=starts[1:])
        place = np.empty(len(self.customers), np.int64)
        place[self._ascending] = starts[:-1]
        return starts, np.split(place, np.cumsum([len(ids) for ids in self._ids])[:-1])

    def _join(self) -> EventBlock:
        starts, places = self._places()
        # one array a column for all parts: NumPy asks for huge pages, which small arrays would not get
        columns: dict[str, NDArray[Any]] = {
            n: np.empty(int(starts[-1]), self._tables.dtype(n)) for n in self._tables.kept
        }
        if not self.facts.late_events:
            columns.pop("available_at", None)

        def move(part: int) -> None:
            block = self._load(part, None)
            for name, out in columns.items():
                move_runs(_values(block, name), block.starts, places[part], out)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(move, self._parts))
        return self._tables.block(self.customers, starts, columns)


def _values(block: EventBlock, name: str) -> NDArray[Any]:
    if name == "timestamp":
        return block.time
    if name == "available_at":
        return block.time if block.known is None else block.known
    return block.categories[name].codes if name in block.categories else block.measures[name]


def _gone(part: int, _columns: Collection[str] | None) -> EventBlock:
    raise AssertionError(f"part {part} was given up for the whole")


def merge(shuffle: Shuffle, config: JourneysConfig) -> PartedEvents:
    """Put the rows of all sources in total order.

    Parameters
    ----------
    shuffle : Shuffle
        With at least one row.
    config : JourneysConfig
        Names the measures and attributes, and what to do with duplicates.

    Returns
    -------
    PartedEvents
    """
    tables = Tables(shuffle, config)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if shuffle.is_spilled:
            folder = shuffle.store()
            stored = list(pool.map(lambda part: _store(tables, part, folder), range(shuffle.n_parts)))
            ids, facts = [ids for ids, _ in stored], [fact for _, fact in stored]
            return PartedEvents(tables, lambda part, _: tables.read(folder / f"block-{part:04d}"), ids, facts)
        found = list(pool.map(tables.order, range(shuffle.n_parts)))
    orders, facts = [order for order, _ in found], [fact for _, fact in found]
    # a block is made when it is asked for, and let go: memory that is touched for the first time is dear
    events = PartedEvents(
        tables, lambda part, columns: tables.arrange(part, orders[part], columns), [o.customers for o in orders], facts
    )
    if shuffle.n_rows < _SMALL:
        events.whole()
    return events


def _store(tables: Tables, part: int, folder: Path) -> tuple[NDArray[Any], Facts]:
    """Sort a part and write its block to disk."""
    order, facts = tables.order(part)
    tables.write(tables.arrange(part, order), folder / f"block-{part:04d}")
    tables.forget(part)
    return order.customers, facts


class Tables:
    """What turns provisional codes into final ones, once all rows are known, and parts into blocks."""

    def __init__(self, shuffle: Shuffle, config: JourneysConfig) -> None:
        self._shuffle, self._config = shuffle, config
        self._scratch = Scratch()
        self.keys = [n for n in tie_order(config.measures, config.attributes) if n in shuffle.columns]
        self.kept = ["timestamp", *(name for name in self.keys if name != "sequence")]
        self._texts = {*TEXT_COLUMNS, *config.attributes}
        self.vocabularies: dict[str, tuple[str, ...]] = {}
        self._rank: dict[str, Int32] = {}
        for name in self.keys:
            if name in self._texts:
                self.vocabularies[name], self._rank[name] = _ranked(shuffle, name)
        self._ids, self._id_texts = self._id_tables()

    @property
    def on_disk(self) -> bool:
        """Whether rows were spilled."""
        return self._shuffle.is_spilled

    def dtype(self, name: str) -> type:
        """Give the type of a column's values."""
        if name in self._texts:
            return np.int32
        return np.int64 if name in ("timestamp", "sequence", "available_at") else np.float64

    def column(self, pieces: list[Piece], name: str) -> NDArray[Any]:
        """Join a column of some pieces, for a while; categories get their final codes."""
        n = sum(piece.n for piece in pieces)
        values = join_pieces(pieces, name, self._scratch.room(name, n, self.dtype(name)))
        if name not in self._rank:
            return values
        ranks = self._scratch.room(f"rank of {name}", n, np.int32)
        return self._rank[name].take(values, out=ranks, mode="wrap")

    def counts(self, column: str) -> dict[str, int] | None:
        """Say how often each value of a category occurs."""
        if column not in self._rank:
            return None
        texts, counts = self._shuffle.words_of(column).texts, self._shuffle.counts(column)
        return {texts[code]: int(counts[code]) for code in np.flatnonzero(counts).tolist()}

    def order(self, part: int) -> tuple[Order, Facts]:
        """Find the total order of the events of a part, and what they are like."""
        pieces = self._shuffle.pieces(part)
        columns: dict[str, NDArray[Any]] = {}

        def column(name: str) -> NDArray[Any]:
            if name not in columns:
                columns[name] = self.column(pieces, name)
            return columns[name]

        time = column("timestamp")
        order = total_order(self._customers(pieces), time, (column(name) for name in self.keys))
        n_rows, n_repeats = len(order.rows), len(order.repeats)
        if self._config.duplicates == "drop_exact":
            order = order.without_repeats()

        def count(found: NDArray[np.bool_]) -> int:
            return int(np.count_nonzero(found if len(order.rows) == n_rows else found[order.rows]))

        return order, Facts(
            counts=np.diff(order.starts),
            first=int(time.min(initial=_LATEST)),
            last=int(time.max(initial=-_LATEST)),
            duplicates=n_repeats,
            duplicates_dropped=n_rows - len(order.rows),
            late_events=count(column("available_at") > time) if "available_at" in self.keys else 0,
            negative_durations=count(column("duration") < 0) if "duration" in self.keys else 0,
        )

    def arrange(self, part: int, order: Order, columns: Collection[str] | None = None) -> EventBlock:
        """Make the block of a part; its customers are numbers. With ``columns``, only these and the times."""
        pieces = self._shuffle.pieces(part)
        rows = self._scratch.room("rows", len(order.rows), np.intp)  # once, not for every column
        rows[:] = order.rows
        wanted = ("timestamp", "available_at", *(self.kept if columns is None else columns))
        return self.block(
            order.customers,
            order.starts,
            {name: self.column(pieces, name).take(rows, mode="clip") for name in self.kept if name in wanted},
        )

    def loose(self, part: int, columns: Collection[str]) -> EventBlock:
        """Give the events of a part with some columns, as if they were one customer's, in no order."""
        pieces = self._shuffle.pieces(part)
        wanted = ("timestamp", "available_at", *columns)
        found = {name: self.column(pieces, name).copy() for name in self.kept if name in wanted}
        starts = np.array([0, len(found["timestamp"])], np.int64)
        return self.block(np.zeros(1, np.int64), starts, found)

    def write(self, block: EventBlock, path: Path) -> None:
        """Write a block to disk."""
        columns = {n: _values(block, n) for n in self.kept if n != "available_at" or block.known is not None}
        with path.open("wb") as file:
            write_arrays(file, {"customers": block.customers, "starts": block.starts, **columns})

    def read(self, path: Path) -> EventBlock:
        """Read a block back."""
        with path.open("rb") as file:
            columns = read_arrays(file)
        return self.block(columns.pop("customers"), columns.pop("starts"), columns)

    def clear(self) -> None:
        """Let the rows in memory go."""
        self._shuffle.clear()

    def forget(self, part: int) -> None:
        """Delete the rows of a part that lie on disk."""
        self._shuffle.forget(part)

    def block(self, customers: NDArray[Any], starts: Int64, columns: dict[str, NDArray[Any]]) -> EventBlock:
        """Make a block of columns in order."""
        time = columns["timestamp"]
        return EventBlock(
            customers=customers,
            starts=starts,
            time=time,
            known=known_or_none(time, columns.get("available_at")),
            categories={n: Coded(columns[n], self.vocabularies[n]) for n in columns if n in self._rank},
            measures={
                n: column for n, column in columns.items() if n not in (*self._rank, "timestamp", "available_at")
            },
        )

    def names_of(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Give the ids customers bear, from the numbers that order them."""
        return ids if self._id_texts is None else self._id_texts[ids]

    def _customers(self, pieces: list[Piece]) -> Int64:
        numbers = [self._numbers(piece.column("customer_id"), text_ids=piece.text_ids) for piece in pieces]
        return np.concatenate([np.empty(0, np.int64), *numbers])

    def _numbers(self, ids: Any, *, text_ids: bool) -> Int64:
        if text_ids:
            numbers: Int64 = self._ids[ids]
            return numbers
        if self._id_texts is None:
            return np.asarray(ids, np.int64)
        distinct, which = np.unique(ids, return_inverse=True)
        codes = self._shuffle.words_of("customer_id").number(str(one) for one in distinct.tolist())
        return self._ids[np.array(codes, np.int64)][which]

    def _id_tables(self) -> tuple[Int64, NDArray[np.object_] | None]:
        """Numbers of ids that are texts, and the texts of the numbers unless all ids are plain integers."""
        used = self._shuffle.occurring("customer_id")
        texts = self._shuffle.words_of("customer_id").texts
        if all(is_plain_integer(texts[code]) for code in used.tolist()):
            numbers = np.zeros(len(texts), np.int64)
            numbers[used] = [int(texts[code]) for code in used.tolist()]
            return numbers, None
        for part in range(self._shuffle.n_parts):  # integers of other sources become texts too
            for piece in self._shuffle.pieces(part):
                if not piece.text_ids:
                    distinct = np.unique(np.asarray(piece.column("customer_id")))
                    codes = self._shuffle.words_of("customer_id").number(str(one) for one in distinct.tolist())
                    used = np.union1d(used, np.array(codes, np.int32))
        vocabulary, rank = _ranked_codes(self._shuffle.words_of("customer_id").texts, used)
        return rank[:-1].astype(np.int64), np.array(vocabulary, dtype=object)


def _ranked(shuffle: Shuffle, name: str) -> tuple[tuple[str, ...], Int32]:
    return _ranked_codes(shuffle.words_of(name).texts, shuffle.occurring(name))


def _ranked_codes(texts: list[str], used: Int32) -> tuple[tuple[str, ...], Int32]:
    """Order texts by code point; give them and the table from provisional to final codes, whose last entry is -1."""
    order = sorted(used.tolist(), key=texts.__getitem__)
    rank = np.full(len(texts) + 1, -1, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return tuple(texts[code] for code in order), rank
