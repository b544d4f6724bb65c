"""The parts of a shuffle to blocks: grouped by customer, in total order, in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig
from cxml.journeys.block import Coded, EventBlock, Int32, Int64
from cxml.journeys.log import Facts, known_or_none
from cxml.journeys.schema import TEXT_COLUMNS, tie_order
from cxml.journeys.shuffle import (
    Piece,
    Scratch,
    Shuffle,
    Slabs,
    is_plain_integer,
    join_pieces,
    read_arrays,
    write_arrays,
)
from cxml.journeys.sorting import move_runs, total_order

#: A log of fewer events is one block at once.
_SMALL = 1_000_000
_LATEST = 2**62
#: Blocks made ahead of the one that is worked on.
_AHEAD = 2


class PartedEvents:
    """Events in parts of whole customers, each made into a block when it is asked for.

    Parameters
    ----------
    tables : Tables
        Of the rows.
    load : callable
        From the number of a part to its block, whose customers are numbers still.
    ids : list of int64 array
        Customers of each part, ascending, as numbers.
    facts : list of Facts
        Of each part.
    """

    def __init__(
        self, tables: Tables, load: Callable[[int], EventBlock], ids: list[NDArray[Any]], facts: list[Facts]
    ) -> None:
        self._tables, self._load, self._ids = tables, load, ids
        self.facts = Facts.of(facts)
        everyone = np.concatenate(ids)
        self._ascending = np.argsort(everyone)
        self.customers = tables.names_of(everyone[self._ascending])
        self.touchpoints = tables.vocabularies["touchpoint"]
        self._whole: EventBlock | None = None

    @property
    def on_disk(self) -> bool:
        """Whether they are too many to be held in memory."""
        return self._tables.on_disk and self._whole is None

    def blocks(self) -> Iterator[EventBlock]:
        """Give the parts as blocks, customers ascending in each; the next ones are made while one is worked on."""
        if self._whole is not None:
            yield self._whole
            return
        parts = (part for part, ids in enumerate(self._ids) if len(ids))
        with ThreadPoolExecutor(1) as pool:
            yield from _ahead(pool, self._block, parts)

    def _block(self, part: int) -> EventBlock:
        block = self._load(part)
        return replace(block, customers=self._tables.names_of(block.customers))

    def whole(self) -> EventBlock:
        """Give all events as one block; from then on this is what there is."""
        if self._whole is None:
            self._whole = self._join()
            self._load = _gone  # so that parts in memory are let go
        return self._whole

    def _join(self) -> EventBlock:
        starts = np.zeros(len(self.customers) + 1, np.int64)
        np.cumsum(self.facts.counts[self._ascending], out=starts[1:])
        place = np.empty(len(self.customers), np.int64)
        place[self._ascending] = starts[:-1]
        places = np.split(place, np.cumsum([len(ids) for ids in self._ids])[:-1])
        # one array a column for all parts: NumPy asks for huge pages, which small arrays would not get
        columns: dict[str, NDArray[Any]] = {
            n: np.empty(int(starts[-1]), self._tables.dtype(n)) for n in self._tables.kept
        }
        if not self.facts.late_events:
            columns.pop("available_at", None)

        def move(part: int) -> None:
            block = self._load(part)
            for name, out in columns.items():
                move_runs(_values(block, name), block.starts, places[part], out)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(move, (part for part, ids in enumerate(self._ids) if len(ids))))
        return self._tables.block(self.customers, starts, columns)


def _values(block: EventBlock, name: str) -> NDArray[Any]:
    if name == "timestamp":
        return block.time
    if name == "available_at":
        return block.time if block.known is None else block.known
    return block.categories[name].codes if name in block.categories else block.measures[name]


def _gone(part: int) -> EventBlock:
    raise AssertionError(f"part {part} was given up for the whole")


def _ahead(pool: ThreadPoolExecutor, make: Callable[[int], EventBlock], parts: Iterable[int]) -> Iterator[EventBlock]:
    """Make blocks in another thread, a few ahead."""
    parts = iter(parts)
    coming: list[Future[EventBlock]] = [pool.submit(make, part) for part in islice(parts, _AHEAD)]
    while coming:
        block = coming.pop(0).result()
        coming.extend(pool.submit(make, part) for part in islice(parts, 1))
        yield block


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
            return PartedEvents(tables, lambda part: tables.read(folder / f"block-{part:04d}"), ids, facts)
        arranged = list(pool.map(tables.arrange, range(shuffle.n_parts)))
    shuffle.clear()
    blocks, facts = [block for block, _ in arranged], [fact for _, fact in arranged]
    events = PartedEvents(tables, blocks.__getitem__, list(map(_ids, blocks)), facts)
    if shuffle.n_rows < _SMALL:
        events.whole()
    return events


def _ids(block: EventBlock) -> NDArray[Any]:
    return block.customers


def _store(tables: Tables, part: int, folder: Path) -> tuple[NDArray[Any], Facts]:
    """Sort a part and write its block to disk."""
    block, facts = tables.arrange(part)
    tables.write(block, folder / f"block-{part:04d}")
    tables.forget(part)
    return _ids(block), facts


class Tables:
    """What turns provisional codes into final ones, once all rows are known, and parts into blocks."""

    def __init__(self, shuffle: Shuffle, config: JourneysConfig) -> None:
        self._shuffle, self._config = shuffle, config
        self._slabs, self._scratch = Slabs(), Scratch()
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
        n = sum(len(piece.columns["timestamp"]) for piece in pieces)
        values = join_pieces(pieces, name, self._scratch.room(name, n, self.dtype(name)))
        if name not in self._rank:
            return values
        ranks = self._scratch.room(f"rank of {name}", n, np.int32)
        return self._rank[name].take(values, out=ranks, mode="wrap")

    def arrange(self, part: int) -> tuple[EventBlock, Facts]:
        """Put the events of a part in total order; its customers are numbers."""
        pieces = self._shuffle.pieces(part)
        columns = {"timestamp": self.column(pieces, "timestamp")}

        def column(name: str) -> NDArray[Any]:
            if name not in columns:
                columns[name] = self.column(pieces, name)
            return columns[name]

        order = total_order(self._customers(pieces), columns["timestamp"], (column(name) for name in self.keys))
        n_rows, n_repeats = len(order.rows), len(order.repeats)
        if self._config.duplicates == "drop_exact":
            order = order.without_repeats()
        rows = self._scratch.room("rows", len(order.rows), np.intp)  # once, not for every column
        rows[:] = order.rows
        taken = {
            n: column(n).take(rows, out=self._slabs.room(len(rows), np.dtype(self.dtype(n))), mode="clip")
            for n in self.kept
        }
        block = self.block(order.customers, order.starts, taken)
        durations = block.measures.get("duration", np.empty(0))
        return block, Facts(
            counts=np.diff(block.starts),
            first=int(block.time.min(initial=_LATEST)),
            last=int(block.time.max(initial=-_LATEST)),
            duplicates=n_repeats,
            duplicates_dropped=n_rows - block.n_events,
            late_events=0 if block.known is None else int((block.known > block.time).sum()),
            negative_durations=int((durations < 0).sum()),
        )

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
        numbers = [self._numbers(piece.columns["customer_id"], text_ids=piece.text_ids) for piece in pieces]
        return np.concatenate([np.empty(0, np.int64), *numbers])

    def _numbers(self, ids: NDArray[Any], *, text_ids: bool) -> Int64:
        if text_ids:
            numbers: Int64 = self._ids[ids]
            return numbers
        if self._id_texts is None:
            return ids
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
                    distinct = np.unique(piece.columns["customer_id"])
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
