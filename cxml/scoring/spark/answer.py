"""What a worker does that answers: the chunks of a part to its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import CxmlError
from cxml.scoring.spark.job import (
    CUSTOMERS,
    ERROR,
    EVENTS,
    FACTS,
    LEAVERS,
    ROWS,
    Job,
    answer,
    arrow_bytes,
    arrow_table,
    error_bytes,
    prepare,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.journeys.block import CustomerTable, EventBlock
    from cxml.journeys.log import Facts, JourneyLog

Int64 = NDArray[np.int64]


def answer_parts(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Answer the parts whose chunks come, those of one part behind each other; hand on what is for the driver."""
    part: int | None = None
    chunks_of: dict[str, list[bytes]] = {EVENTS: [], CUSTOMERS: [], LEAVERS: []}
    for number, kind, payload in _rows(batches):
        if kind not in chunks_of:
            yield answer(kind, payload)
            continue
        if number != part:
            yield from _answer_part(job, chunks_of)
            part, chunks_of = number, {kind: [] for kind in chunks_of}
        chunks_of[kind].append(payload)
    yield from _answer_part(job, chunks_of)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, str, bytes]]:
    for batch in batches:
        columns = [batch.column(name) for name in ("part", "kind", "payload")]
        for row in range(batch.num_rows):
            number, kind, payload = (column[row].as_py() for column in columns)
            yield number, kind, payload


def _answer_part(job: Job, chunks_of: Mapping[str, list[bytes]]) -> Iterator[pa.RecordBatch]:
    if not chunks_of[EVENTS]:
        return
    try:
        prepare(job)
        block, facts = _events(job, chunks_of[EVENTS])
        customers, n_matched = _customers(job, chunks_of[CUSTOMERS], block)
        leavers = _leavers(job, chunks_of[LEAVERS], block)
        about = _about(block, facts, n_matched, 0 if leavers is None else len(leavers[0]))
        answered = job.task.answer(_log_of(job, _with_words(block, job.task.words(job.journeys)), customers), leavers)
    except CxmlError as error:
        yield answer(ERROR, error_bytes(error))
        return
    about["summary"] = job.task.summary(answered)
    about["rows"] = len(answered)
    yield answer(FACTS, json.dumps(about).encode())
    if len(answered):
        yield answer(ROWS, arrow_bytes(answered))


def _events(job: Job, payloads: list[bytes]) -> tuple[EventBlock, Facts]:
    """Put the events of a part in order."""
    from cxml.journeys.merge import merge
    from cxml.journeys.shuffle import Shuffle

    shuffle = Shuffle(1)
    for payload in payloads:
        rows = arrow_table(payload).combine_chunks().to_batches()[0]
        shuffle.add(shuffle.split({name: _plain(rows.column(name)) for name in rows.schema.names}))
    payloads.clear()
    events = merge(shuffle, job.journeys)
    return events.whole(), events.facts


def _plain(column: Any) -> Any:
    """Give a column as a shuffle takes it."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.dictionary_encode()
    return column if hasattr(column, "dictionary") else column.to_numpy(zero_copy_only=False)


def _with_words(block: EventBlock, words: set[str]) -> EventBlock:
    """Make words known to a part in which they do not occur: whether they do in the log is asked elsewhere."""
    from cxml.journeys.block import Coded

    touchpoint = block.categories["touchpoint"]
    vocabulary = tuple(sorted({*touchpoint.vocabulary, *words}))
    place = np.searchsorted(np.array(vocabulary, object), np.array(touchpoint.vocabulary, object)).astype(np.int32)
    return replace(block, categories={**block.categories, "touchpoint": Coded(place[touchpoint.codes], vocabulary)})


def _customers(job: Job, payloads: list[bytes], block: EventBlock) -> tuple[CustomerTable | None, int]:
    """Give what is known of the customers of a part, and of how many rows of the table they are."""
    from cxml.journeys.block import Coded, CustomerTable
    from cxml.journeys.customers import align_customers, match_ids

    if job.vocabularies is None:
        return None, 0
    found = _joined(payloads, ("valid_from", *job.vocabularies))
    codes = {name: found[name].astype(np.int32) for name in job.vocabularies}
    attributes = {name: Coded(codes[name], vocabulary) for name, vocabulary in job.vocabularies.items()}
    table = CustomerTable(found["customer_id"], found["valid_from"], attributes)
    n_matched = int((match_ids(table.customers, block.customers) >= 0).sum())
    if n_matched:
        return align_customers(table, block.customers), n_matched
    nobody = {name: Coded(np.empty(0, np.int32), coded.vocabulary) for name, coded in attributes.items()}
    return CustomerTable(block.customers[:0], np.empty(0, np.int64), nobody), 0


def _leavers(job: Job, payloads: list[bytes], block: EventBlock) -> tuple[NDArray[np.generic], Int64] | None:
    from cxml.journeys.customers import match_ids

    if not job.has_leavers:
        return None
    found = _joined(payloads, ("timestamp",))
    place = match_ids(found["customer_id"], block.customers)
    return block.customers[place[place >= 0]], found["timestamp"][place >= 0]


def _joined(payloads: list[bytes], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Join the chunks of a side table."""
    import pyarrow as pa

    tables = [arrow_table(payload) for payload in payloads]
    if not tables:
        return {"customer_id": np.empty(0, np.int64), **{name: np.empty(0, np.int64) for name in names}}
    return {name: column.to_numpy() for name, column in zip(
        tables[0].column_names, pa.concat_tables(tables).columns, strict=True)}  # fmt: skip


def _log_of(job: Job, block: EventBlock, customers: CustomerTable | None) -> JourneyLog:
    from cxml.journeys.log import JourneyLog, Whole
    from cxml.journeys.quality import QualityReport

    return JourneyLog(Whole(block), job.journeys, customers, QualityReport((), block.n_events))


def _about(block: EventBlock, facts: Facts, n_customer_rows: int, n_leavers: int) -> dict[str, Any]:
    """Say what a part is like."""
    sizes, counts = np.unique(facts.counts, return_counts=True)
    return {
        "sizes": sizes.tolist(), "counts": counts.tolist(), "first": facts.first, "last": facts.last,
        "duplicates": facts.duplicates, "duplicates_dropped": facts.duplicates_dropped,
        "late_events": facts.late_events, "negative_durations": facts.negative_durations,
        "text_ids": block.customers.dtype == object, "customer": block.customers[0].item()
        if isinstance(block.customers[0], np.generic) else block.customers[0],
        "customer_rows": n_customer_rows, "leavers": n_leavers,
    }  # fmt: skip
