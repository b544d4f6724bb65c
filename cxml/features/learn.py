"""Learning a feature plan: which values and measures the training events hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.features.plan import FeaturePlan
from cxml.features.spec import OTHER, default_spec
from cxml.journeys.block import Coded, EventBlock
from cxml.times import format_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: Which events count: all, or those of a mask.
Chosen = slice | NDArray[np.bool_]

#: Columns whose values get features of their own.
_SELECTORS: tuple[str, ...] = ("touchpoint", "channel")


def learn_plan(log: JourneyLog, windows: Sequence[str], max_values: int, until: int | None = None) -> FeaturePlan:
    """Choose columns and vocabularies from the events known before ``until``.

    Parameters
    ----------
    log : JourneyLog
        The journeys.
    windows : sequence of str
        Durations.
    max_values : int
        Values of a category that keep a code of their own: the most frequent, ties by name.
    until : int, optional
        UTC microseconds; default: all events count.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    DataError
        If there is no event before ``until``.
    """
    attributes = tuple(log.config.attributes)
    counts, measures, n_events = _count_values(log.blocks(), (*_SELECTORS, *attributes), until)
    if not n_events:
        end = "the end of the log" if until is None else format_instant(until)
        raise DataError(
            f"no event was known before {end}, and the log begins on {format_instant(log.first)}; "
            "choose a later cutoff, or read a log that begins earlier"
        )
    table = log.customers
    if table is not None:
        counts |= {
            name: _frequencies(coded, _before(table.valid_from, until)) for name, coded in table.attributes.items()
        }
    fitted = {name: top_values(found, max_values) for name, found in counts.items() if found or name in attributes}
    stages = {touchpoint: stage for stage, touchpoints in log.config.stages.items() for touchpoint in touchpoints}
    shown: dict[str, tuple[str, ...]] = {name: fitted[name] for name in _SELECTORS if name in fitted}
    if stages:
        shown["stage"] = tuple(sorted(set(stages.values())))
    with_other = {name for name in _SELECTORS if len(fitted.get(name, ())) < len(counts[name])}
    return FeaturePlan(
        aggregates=default_spec(shown, measures, windows, with_other=with_other),
        vocabularies=fitted,
        stages=stages,
        attributes=attributes,
        customer_attributes=tuple(table.attributes) if table is not None else (),
    )


def top_values(counts: Counter[str], max_values: int) -> tuple[str, ...]:
    """Give the most frequent values (ties by name), in ascending order; ``other`` never is one.

    Examples
    --------
    >>> top_values(Counter({"b": 2, "a": 2, "c": 5, "other": 9}), 2)
    ('a', 'c')
    """
    candidates = sorted((-count, value) for value, count in counts.items() if value != OTHER)
    return tuple(sorted(value for _, value in candidates[:max_values]))


def _count_values(
    blocks: Iterable[EventBlock], columns: Iterable[str], until: int | None
) -> tuple[dict[str, Counter[str]], list[str], int]:
    """Count the values of ``columns``, and find the measures that hold a number."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in columns}
    measures: dict[str, bool] = {}
    n_events = 0
    for block in blocks:
        chosen = _before(block.time, until)
        if until is not None and block.known is not None:
            chosen = block.known < until  # never before the event itself
        n_events += len(block.time[chosen])
        for name, found in counts.items():
            if name in block.categories:
                found.update(_frequencies(block.categories[name], chosen))
        for name, values in block.measures.items():
            measures[name] = measures.get(name, False) or not bool(np.isnan(values[chosen]).all())
    return counts, [name for name, present in measures.items() if present], n_events


def _before(time: Int64, until: int | None) -> Chosen:
    return slice(None) if until is None else time < until


def _frequencies(coded: Coded, chosen: Chosen) -> Counter[str]:
    counts = np.bincount(coded.codes[chosen] + 1, minlength=len(coded.vocabulary) + 1)[1:]
    return Counter({value: int(n) for value, n in zip(coded.vocabulary, counts, strict=True) if n})
