"""The features again, naively: plain Python, one column at a time, straight from the names.

It shares nothing with the package but the meaning of the names, so that the kernel can be held against it.
Beside it: small random journeys as lists of events, and the blocks they make.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from cxml.journeys.block import Coded, EventBlock

DAY_US = 86_400_000_000
UNITS = {"w": 7 * DAY_US, "d": DAY_US, "h": DAY_US // 24, "m": DAY_US // 1440, "s": 1_000_000}


@dataclass
class Event:
    time: int
    touchpoint: str | None = "call"
    channel: str | None = None
    level: str | None = None
    known: int | None = None
    measures: dict[str, float] = field(default_factory=dict)


def reference_features(names, events, cutoffs, vocabularies, stages=None):
    """Compute the columns ``names`` for one customer's events (in total order) at each cutoff, as float32."""
    rows = [[_feature(name, events, cutoff, vocabularies, stages or {}) for name in names] for cutoff in cutoffs]
    with np.errstate(over="ignore"):
        return np.array(rows, dtype=np.float64).reshape(len(cutoffs), len(names)).astype(np.float32)


def _feature(name, events, cutoff, vocabularies, stages):
    past = [e for e in events if e.time < cutoff and (e.known is None or e.known < cutoff)]

    def category(event, column):
        if column == "stage" and stages:
            return stages.get(event.touchpoint)
        value = getattr(event, column)
        return value if value is None or value in vocabularies[column] else "other"

    def select(chosen, selector):
        if selector == "all":
            return chosen
        column, value = selector.split("=", 1)
        return [e for e in chosen if category(e, column) == value]

    if name == "tenure_days":
        return (cutoff - min(e.time for e in past)) / DAY_US if past else math.nan
    statistic, rest = name.split("__", 1)
    if statistic == "days_since":
        chosen = select(past, rest)
        return (cutoff - max(e.time for e in chosen)) / DAY_US if chosen else math.nan
    if statistic == "last" and rest in vocabularies:
        values = [category(e, rest) for e in past if category(e, rest) is not None]
        return [*vocabularies[rest], "other"].index(values[-1]) if values else math.nan

    what, window = rest.rsplit("__", 1)
    width = int(window[:-1]) * UNITS[window[-1]]
    inside = [e for e in past if cutoff - width <= e.time]
    if statistic == "distinct":
        return len({category(e, what) for e in inside} - {None})
    if statistic == "active_days":
        return len({e.time // DAY_US for e in select(inside, what)})
    measure, _, selector = what.partition("@") if re.match(r"\w+@", what) else (what, "", "all")
    if what == "all" or "=" in measure:
        return len(select(inside, what))
    values = [e.measures.get(measure, math.nan) for e in select(inside, selector)]
    values = [v for v in reversed(values) if not math.isnan(v)]
    if statistic == "count":
        return len(values)
    total = 0.0
    for value in values:
        total += value
    if statistic == "sum":
        return total
    if not values:
        return math.nan
    return {"mean": total / len(values), "min": min(values), "max": max(values), "last": values[0]}[statistic]


def coded(values):
    vocabulary = tuple(sorted({v for v in values if v is not None}))
    codes = [-1 if v is None else vocabulary.index(v) for v in values]
    return Coded(np.array(codes, np.int32), vocabulary)


def block_of(journeys, late=None, measures=("value", "duration", "score")):
    """Make the block of ``{customer: [Event, ...]}``; each customer's events in total order."""
    customers = sorted(journeys)
    events = [event for customer in customers for event in journeys[customer]]
    late = any(e.known is not None for e in events) if late is None else late
    text = bool(customers) and isinstance(customers[0], str)
    return EventBlock(
        customers=np.array(customers, dtype=object if text else np.int64),
        starts=np.cumsum([0, *(len(journeys[c]) for c in customers)]).astype(np.int64),
        time=np.array([e.time for e in events], np.int64),
        known=np.array([e.time if e.known is None else e.known for e in events], np.int64) if late else None,
        categories={name: coded([getattr(e, name) for e in events]) for name in ("touchpoint", "channel", "level")},
        measures={m: np.array([e.measures.get(m, np.nan) for e in events], np.float64) for m in measures},
    )


def same_bits(a, b):
    """Tell where two float32 arrays have the same bits, any NaN being like any other."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))
