"""The journey log: every event of every customer, checked, in UTC, in total order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig
from cxml.errors import DataError
from cxml.journeys.block import Coded, CustomerTable, EventBlock, Int64
from cxml.journeys.quality import QualityReport
from cxml.journeys.schema import PROMISE
from cxml.times import DAY_US, format_instant, parse_instant

if TYPE_CHECKING:
    import pandas


S = TypeVar("S")
T = TypeVar("T")
Column = NDArray[Any] | Coded


@dataclass(frozen=True, slots=True)
class Facts:
    """What some events are like.

    Parameters
    ----------
    counts : int64 array of shape (n_customers,)
        Events of each customer.
    first, last : int
        UTC microseconds of the first and the last event.
    duplicates, duplicates_dropped : int
        Events that equal an earlier one in every canonical column.
    late_events : int
        Events that became known after they happened.
    negative_durations : int
        Events with one.
    """

    counts: Int64
    first: int
    last: int
    duplicates: int = 0
    duplicates_dropped: int = 0
    late_events: int = 0
    negative_durations: int = 0

    @classmethod
    def of(cls, parts: Sequence[Facts]) -> Facts:
        """Put those of some parts together."""
        return cls(
            counts=np.concatenate([part.counts for part in parts]),
            first=min(part.first for part in parts),
            last=max(part.last for part in parts),
            duplicates=sum(part.duplicates for part in parts),
            duplicates_dropped=sum(part.duplicates_dropped for part in parts),
            late_events=sum(part.late_events for part in parts),
            negative_durations=sum(part.negative_durations for part in parts),
        )


class Events(Protocol):
    """Where the events of a log are: in one block, or in parts that are made into blocks one after the other."""

    @property
    def facts(self) -> Facts:
        """What they are like."""

    @property
    def touchpoints(self) -> tuple[str, ...]:
        """All that occur, ascending."""

    @property
    def customers(self) -> NDArray[np.generic]:
        """Distinct ids, ascending."""

    @property
    def on_disk(self) -> bool:
        """Whether they are too many to be held in memory."""

    @property
    def n_parts(self) -> int:
        """In how many blocks they come."""

    def block(self, part: int, columns: Collection[str] | None = None) -> EventBlock:
        """Give one of the blocks, with at least these columns (None: all); safe to call from many threads."""

    def counts(self, column: str) -> dict[str, int] | None:
        """Say how often each value of a category occurs; None where it has to be counted."""

    def loose(self, part: int, columns: Collection[str]) -> EventBlock:
        """Give the same events with some columns, as if they were one customer's, in no order."""

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Give the columns of all events, one after the other, each whole and in total order."""

    def whole(self) -> EventBlock:
        """Give all events as one block."""


@dataclass(frozen=True)
class Whole:
    """Events in one block."""

    all: EventBlock

    @cached_property
    def facts(self) -> Facts:
        """What they are like."""
        time = self.all.time
        return Facts(np.diff(self.all.starts), int(time.min()), int(time.max()))

    @property
    def touchpoints(self) -> tuple[str, ...]:
        """All that occur, ascending."""
        return self.all.categories["touchpoint"].vocabulary

    @property
    def customers(self) -> NDArray[np.generic]:
        """Distinct ids, ascending."""
        return self.all.customers

    @property
    def on_disk(self) -> bool:
        """Never."""
        return False

    @property
    def n_parts(self) -> int:
        """One."""
        return 1

    def block(self, part: int, columns: Collection[str] | None = None) -> EventBlock:  # noqa: ARG002
        """Give the block."""
        return self.all

    def counts(self, column: str) -> dict[str, int] | None:  # noqa: ARG002
        """Nobody counted."""
        return None

    def loose(self, part: int, columns: Collection[str]) -> EventBlock:
        """Give the block."""
        return self.block(part, columns)

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Give the columns of the block."""
        yield from columns_of(self.all)

    def whole(self) -> EventBlock:
        """Give the block."""
        return self.all


@dataclass(frozen=True)
class JourneyLog:
    """The events of all customers; made by `cxml.read_journeys`, never changed.

    Parameters
    ----------
    events : Events
        Where the events are.
    config : JourneysConfig
        What the words mean: stages, activity, contacts, measures, attributes.
    customers : CustomerTable or None
        What is known of customers beside their events.
    quality : QualityReport
        What reading found; that of the whole log, also after `upto`.
    """

    events: Events
    config: JourneysConfig
    customers: CustomerTable | None
    quality: QualityReport

    @property
    def block(self) -> EventBlock:
        """All events as one block, in memory."""
        return self.events.whole()

    def blocks(self, columns: Collection[str] | None = None) -> Iterator[EventBlock]:
        """Give the events in blocks of whole customers, ascending in each: all there is, with a part in memory.

        Parameters
        ----------
        columns : collection of str, optional
            Categories and measures to make; a block may hold more. Default: all.

        Yields
        ------
        EventBlock
        """
        return self.map_blocks(lambda block: block, 1, columns)

    def map_blocks(
        self, work: Callable[[EventBlock], T], threads: int | None = None, columns: Collection[str] | None = None
    ) -> Iterator[T]:
        """Do the same work on every block, several at a time.

        Parameters
        ----------
        work : callable
            From a block to whatever it makes of it.
        threads : int, optional
            Default: one for each core.
        columns : collection of str, optional
            As in `blocks`.

        Yields
        ------
        object
            What ``work`` returned, in the order of the blocks. Little more than one block for each thread is in
            memory at a time.
        """
        return self._map(lambda part: work(self.events.block(part, columns)), threads)

    def _map(self, make: Callable[[int], T], threads: int | None) -> Iterator[T]:
        return map_ahead(make, range(self.events.n_parts), threads)

    def loose(self, columns: Collection[str]) -> Iterator[EventBlock]:
        """Give all events with some columns only, in no order: quick to count.

        Parameters
        ----------
        columns : collection of str
            Categories and measures.

        Yields
        ------
        EventBlock
            Some of the events, as if they were one customer's.
        """
        return self._map(lambda part: self.events.loose(part, columns), None)

    def parts(self) -> Iterator[JourneyLog]:
        """Give the log in parts of whole customers."""
        for block in self.blocks():
            yield replace(self, events=Whole(block))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits; does not depend on how rows were ordered or spread."""
        return _digest(self.events.columns())

    @property
    def first(self) -> int:
        """UTC microseconds of the first event."""
        return self.events.facts.first

    @property
    def last(self) -> int:
        """UTC microseconds of the last event."""
        return self.events.facts.last

    @property
    def n_events(self) -> int:
        """How many events."""
        return int(self.events.facts.counts.sum())

    @property
    def n_customers(self) -> int:
        """How many customers."""
        return len(self.events.facts.counts)

    def touchpoints(self) -> dict[str, int]:
        """Touchpoint -> how often it occurs, most frequent first, equal ones by name."""
        counts = self.count_values(["touchpoint"])["touchpoint"]
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def count_values(self, columns: Sequence[str]) -> dict[str, Counter[str]]:
        """Count the values of categories over all events.

        Parameters
        ----------
        columns : sequence of str
            Categories; those the log lacks have no values.

        Returns
        -------
        dict of str to Counter
        """
        known = {name: self.events.counts(name) for name in columns}
        if None not in known.values():
            return {name: Counter(counts) for name, counts in known.items()}
        found: dict[str, Counter[str]] = {name: Counter() for name in columns}
        for block in self.loose(columns):
            for name, counts in found.items():
                if name in block.categories:
                    coded = block.categories[name]
                    n = np.bincount(np.add(coded.codes, 1, dtype=np.intp), minlength=len(coded.vocabulary) + 1)[1:]
                    counts.update({value: k for value, k in zip(coded.vocabulary, n.tolist(), strict=True) if k})
        return found

    def upto(self, cutoff: Any) -> JourneyLog:
        """Keep only what was known before a moment: ``timestamp < cutoff`` and ``available_at < cutoff``.

        Customers without events vanish, and so do touchpoints and other values that no longer occur: the log is
        the one that would have been read then.

        Parameters
        ----------
        cutoff : moment
            Whatever `cxml.times.parse_instant` reads.

        Returns
        -------
        JourneyLog

        Raises
        ------
        DataError
            If nothing was known before.
        """
        moment = parse_instant(cutoff)
        block = self.block
        keep = block.time < moment
        if block.known is not None:
            keep &= block.known < moment
        if not keep.any():
            raise DataError(
                f"no event was known before {format_instant(moment)}; the log runs from {format_instant(self.first)} "
                f"to {format_instant(self.last)}. Choose a later cutoff."
            )
        return replace(self, events=Whole(select_events(block, keep)))

    def to_pandas(self) -> pandas.DataFrame:
        """Return the events as a data frame of canonical columns, sorted by customer and time.

        Categories are pandas categoricals, stamps are UTC; ``available_at`` is there when some events became
        known late.
        """
        import pandas as pd

        block = self.block
        columns: dict[str, Any] = {
            "customer_id": np.repeat(block.customers, np.diff(block.starts)),
            "timestamp": pd.to_datetime(block.time, unit="us", utc=True),
        }
        for name, coded in block.categories.items():
            columns[name] = pd.Categorical.from_codes(coded.codes, pd.Index(coded.vocabulary, dtype=object))
        columns |= block.measures
        if block.known is not None:
            columns["available_at"] = pd.to_datetime(block.known, unit="us", utc=True)
        if PROMISE in columns:
            ahead = pd.Series(np.rint(columns[PROMISE] * DAY_US)).astype("Int64")
            columns["promised"] = pd.to_datetime((block.time + ahead), unit="us", utc=True).array
        known = [name for name in self.config.columns if name in columns]
        return pd.DataFrame({name: columns[name] for name in known})

    def __repr__(self) -> str:
        return (
            f"JourneyLog({self.n_events:,} events of {self.n_customers:,} customers, "
            f"{format_instant(self.first)} to {format_instant(self.last)}, "
            f"{len(self.events.touchpoints)} touchpoints)"
        )


def map_ahead(work: Callable[[S], T], items: Sequence[S], threads: int | None = None) -> Iterator[T]:
    """Do the same work on every item, several at a time, and little more than one for each thread ahead.

    Parameters
    ----------
    work : callable
    items : sequence
    threads : int, optional
        Default: one for each core. A single item is done without any.

    Yields
    ------
    object
        What ``work`` returned, in the order of the items.

    Examples
    --------
    >>> list(map_ahead(str, [1, 2, 3], threads=2))
    ['1', '2', '3']
    """
    if len(items) == 1:
        yield work(items[0])
        return
    coming_up, threads = iter(items), threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        coming = [pool.submit(work, item) for item in islice(coming_up, threads + 1)]
        while coming:
            done = coming.pop(0).result()
            coming += [pool.submit(work, item) for item in islice(coming_up, 1)]
            yield done


def select_events(block: EventBlock, keep: NDArray[np.bool_]) -> EventBlock:
    """Keep some events of a block; customers left without any and values that no longer occur vanish.

    Parameters
    ----------
    block : EventBlock
    keep : bool array of shape (n_events,)

    Returns
    -------
    EventBlock
    """
    kept_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])
    bounds = kept_before[block.starts]
    stays = np.diff(bounds) > 0
    time = block.time[keep]
    return EventBlock(
        customers=block.customers[stays],
        starts=np.concatenate([np.zeros(1, np.int64), bounds[1:][stays]]),
        time=time,
        known=known_or_none(time, None if block.known is None else block.known[keep]),
        categories={name: _occurring(coded, keep) for name, coded in block.categories.items()},
        measures={name: values[keep] for name, values in block.measures.items()},
    )


def known_or_none(time: Int64, available: Int64 | None) -> Int64 | None:
    """Return when each event became known, not before it happened; None when that is ``time`` throughout."""
    if available is None:
        return None
    known = np.maximum(time, available)
    return None if np.array_equal(known, time) else known


def _occurring(coded: Coded, keep: NDArray[np.bool_]) -> Coded:
    codes = coded.codes[keep]
    present = np.zeros(len(coded.vocabulary) + 1, dtype=bool)
    present[codes] = True
    if present[:-1].all():
        return Coded(codes, coded.vocabulary)
    place = np.cumsum(present[:-1]) - 1
    new = np.append(np.where(present[:-1], place, -1), -1).astype(np.int32)
    vocabulary = tuple(text for text, there in zip(coded.vocabulary, present[:-1].tolist(), strict=True) if there)
    return Coded(new[codes], vocabulary)


def columns_of(block: EventBlock) -> Iterator[tuple[str, Column]]:
    """Give all that a block holds by name, in a fixed order."""
    yield "customers", block.customers
    yield "starts", block.starts
    yield "time", block.time
    if block.known is not None:
        yield "known", block.known
    yield from sorted(block.categories.items())
    yield from sorted(block.measures.items())


def _digest(columns: Iterable[tuple[str, Column]]) -> str:
    digest = hashlib.sha256(b"cxml journeys 1")
    for name, values in columns:
        numbers = values
        if isinstance(values, Coded):
            _add_texts(digest, name, values.vocabulary)
            numbers = values.codes
        elif values.dtype == object:
            _add_texts(digest, name, values.tolist())
            continue
        _add_numbers(digest, name, np.asarray(numbers))
    return digest.hexdigest()


def _add_numbers(digest: Any, name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values)  # a NaN has many bit patterns
    digest.update(f"\n{name} {values.dtype.str} {len(values)}\n".encode())
    digest.update(np.ascontiguousarray(values).view(np.uint8).data)


def _add_texts(digest: Any, name: str, texts: Any) -> None:
    digest.update(f"\n{name} {len(texts)}\n".encode())
    for text in texts:
        encoded = str(text).encode()
        digest.update(f"{len(encoded)} ".encode() + encoded)
