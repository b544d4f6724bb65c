"""The journey log: every event of every customer, checked, in UTC, in total order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import JourneysConfig
from cxml.errors import DataError
from cxml.journeys.block import Coded, CustomerTable, EventBlock, Int64
from cxml.journeys.quality import QualityReport
from cxml.times import format_instant, parse_instant

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class JourneyLog:
    """The events of all customers; made by `cxml.read_journeys`, never changed.

    Parameters
    ----------
    block : EventBlock
        All events, in memory.
    config : JourneysConfig
        What the words mean: stages, activity, contacts, measures, attributes.
    customers : CustomerTable or None
        What is known of customers beside their events.
    quality : QualityReport
        What reading found; that of the whole log, also after `upto`.
    """

    block: EventBlock
    config: JourneysConfig
    customers: CustomerTable | None
    quality: QualityReport

    def blocks(self) -> Iterator[EventBlock]:
        """Give the events in blocks of whole customers, customers ascending."""
        yield self.block

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits; does not depend on how rows were ordered or spread."""
        return _digest(self.block)

    @cached_property
    def first(self) -> int:
        """UTC microseconds of the first event."""
        return int(self.block.time.min())

    @cached_property
    def last(self) -> int:
        """UTC microseconds of the last event."""
        return int(self.block.time.max())

    @property
    def n_events(self) -> int:
        """How many events."""
        return self.block.n_events

    @property
    def n_customers(self) -> int:
        """How many customers."""
        return self.block.n_customers

    def touchpoints(self) -> dict[str, int]:
        """Touchpoint -> how often it occurs, most frequent first, equal ones by name."""
        coded = self.block.categories["touchpoint"]
        counts = np.bincount(coded.codes, minlength=len(coded.vocabulary)).tolist()
        pairs = zip(coded.vocabulary, counts, strict=True)
        return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

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
        return replace(self, block=select_events(block, keep))

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
        known = [name for name in self.config.columns if name in columns]
        return pd.DataFrame({name: columns[name] for name in known})

    def __repr__(self) -> str:
        return (
            f"JourneyLog({self.n_events:,} events of {self.n_customers:,} customers, "
            f"{format_instant(self.first)} to {format_instant(self.last)}, "
            f"{len(self.block.categories['touchpoint'].vocabulary)} touchpoints)"
        )


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


def _digest(block: EventBlock) -> str:
    digest = hashlib.sha256(b"cxml journeys 1")

    def add(name: str, values: NDArray[Any]) -> None:
        digest.update(f"\n{name} {values.dtype.str} {len(values)}\n".encode())
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)

    if block.customers.dtype == object:
        _add_texts(digest, "customers", block.customers.tolist())
    else:
        add("customers", block.customers)
    add("starts", block.starts)
    add("time", block.time)
    if block.known is not None:
        add("known", block.known)
    for name, coded in sorted(block.categories.items()):
        _add_texts(digest, name, coded.vocabulary)
        add(name, coded.codes)
    for name, values in sorted(block.measures.items()):
        add(name, np.where(np.isnan(values), np.nan, values))  # a NaN has many bit patterns
    return digest.hexdigest()


def _add_texts(digest: Any, name: str, texts: Any) -> None:
    digest.update(f"\n{name} {len(texts)}\n".encode())
    for text in texts:
        encoded = str(text).encode()
        digest.update(f"{len(encoded)} ".encode() + encoded)
