"""The features again, naively: plain Python, one column at a time, straight from the names.

It shares nothing with the package but the meaning of the names, so that the kernel can be held against it.
Beside it: small random journeys as lists of events, and the blocks they make.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

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


def reference_features(names, events, cutoffs, vocabularies, stages=None, alive=None, wide=None):
    """Compute the columns ``names`` for one customer's events (in total order) at each cutoff, as float32.

    Selectors are ``all``, ``COLUMN=VALUE`` and those of ``CONDITIONS``, which says in Python what they mean. ``alive``
    is four numbers, or four for each selector; ``wide`` the values that are told apart where they are counted.
    """
    rows = [
        [_feature(name, events, cutoff, vocabularies, stages or {}, alive, wide or {}) for name in names]
        for cutoff in cutoffs
    ]
    with np.errstate(over="ignore"):
        return np.array(rows, dtype=np.float64).reshape(len(cutoffs), len(names)).astype(np.float32)


#: Conditions of the tests: the text, and the same in Python over what the event holds.
CONDITIONS = {
    "value<0": lambda e: e["value"] < 0,
    "score<=6": lambda e: e["score"] <= 6,
    "value>=3": lambda e: e["value"] >= 3,
    "duration>0.1": lambda e: e["duration"] > 0.1,
    "!channel=web": lambda e: e["channel"] != "web",
    "touchpoint=call&channel=phone": lambda e: e["touchpoint"] == "call" and e["channel"] == "phone",
    "(touchpoint=call|touchpoint=other)&value<1": lambda e: e["touchpoint"] in ("call", "other") and e["value"] < 1,
    "stage=support&!value<0|level=other": lambda e: (
        (e["stage"] == "support" and not e["value"] < 0) or e["level"] == "other"
    ),
    "gap<1": lambda e: e["gap"] < 1,
    "!daypart=night": lambda e: e["daypart"] != "night",
}


def _feature(name, events, cutoff, vocabularies, stages, alive, wide):
    past = [e for e in events if e.time < cutoff and (e.known is None or e.known < cutoff)]

    def category(event, column, known=vocabularies):
        if column == "stage" and stages:
            return stages.get(event.touchpoint)
        value = getattr(event, column)
        return value if value is None or value in known[column] else "other"

    def held(event):
        categories = {column: category(event, column) for column in vocabularies}
        return defaultdict(lambda: math.nan, {**event.measures, **categories})

    def select(chosen, selector):
        if selector in ("", "all"):
            return chosen
        if selector in CONDITIONS:
            return [e for e in chosen if CONDITIONS[selector](held(e))]
        column, value = selector.split("=", 1)
        return [e for e in chosen if category(e, column) == value]

    def numbers(chosen, measure):
        """The values of a measure known before the cutoff, with their times, oldest first."""
        values = [(e.time, e.measures.get(measure, math.nan)) for e in chosen]
        return [(time, value) for time, value in values if not math.isnan(value)]

    def between(chosen, oldest, newest):
        return [e for e in chosen if cutoff - oldest <= e.time < cutoff - newest]

    if name == "tenure_days":
        return (cutoff - min(e.time for e in past)) / DAY_US if past else math.nan
    statistic, _, rest = name.partition("__")
    if statistic in ("days_since", "days_since_first"):
        times = [e.time for e in select(past, rest)]
        chosen = min if statistic == "days_since_first" else max
        return (cutoff - chosen(times)) / DAY_US if times else math.nan
    if statistic == "ever":
        return len(select(past, rest))
    if statistic == "p_alive":
        parameters = alive[rest or "all"] if isinstance(alive, dict) else alive
        return _alive([e.time for e in select(past, rest)], cutoff, *parameters)
    if statistic == "last" and rest in vocabularies:
        values = [category(e, rest) for e in past if category(e, rest) is not None]
        return [*vocabularies[rest], "other"].index(values[-1]) if values else math.nan

    what, window = rest.rsplit("__", 1)
    widths = [int(part[:-1]) * UNITS[part[-1]] for part in window.split("/")]
    width = widths[0]
    inside = between(past, width, 0)
    if statistic in ("distinct", "entropy"):
        column, _, selector = what.partition("@")
        values = [category(e, column, {**vocabularies, **wide}) for e in select(inside, selector)]
        counts = Counter(value for value in values if value is not None)
        if statistic == "distinct":
            return len(counts)
        n = counts.total()
        return -sum(c / n * math.log2(c / n) for c in counts.values()) if n else math.nan

    measure, at, selector = what.partition("@") if re.match(r"\w+@", what) else (what, "", "all")
    if not at and (what == "all" or "=" in what or what in CONDITIONS):
        measure, selector = None, what
    events_in = select(inside, selector)

    def amount(chosen):
        """The number of selected events, or the sum of the measure over them."""
        selected = select(chosen, selector)
        return len(selected) if measure is None else _sum(numbers(selected, measure))

    if statistic == "active_days":
        return len({e.time // DAY_US for e in events_in})
    if statistic in ("longest_gap", "gap_mean", "gap_std", "burstiness"):
        times = sorted(e.time for e in events_in)
        return _gaps(statistic, [(b - a) / DAY_US for a, b in pairwise(times)])
    if statistic == "decay":
        back = select(between(past, 8 * width, 0), selector)
        weighed = [(e.time, 1.0) for e in back] if measure is None else numbers(back, measure)
        return math.fsum(value * 2.0 ** -((cutoff - time) / width) for time, value in weighed)
    if statistic == "share" and measure is not None:
        return _over(_sum(numbers(events_in, measure)), _sum(numbers(inside, measure)))
    if statistic == "share":
        return _over(len(events_in), len(inside))
    if statistic == "ratio":
        short, long = (amount(between(past, w, 0)) for w in widths)
        return _over(short / (width / DAY_US), long / (widths[1] / DAY_US))
    if statistic == "change":
        if not past:
            return math.nan
        tenure = cutoff - min(e.time for e in past)
        return amount(inside) - amount(past) / max(tenure / width, 1)
    if statistic == "acceleration":
        new, old, older = (amount(between(past, (n + 1) * width, n * width)) for n in range(3))
        return (new - old) - (old - older)
    if statistic == "rate":
        return _over(amount(inside), len({e.time // DAY_US for e in inside}))
    if statistic == "lag":
        return amount(between(past, widths[1] + width, widths[1]))

    if measure is None:
        return len(events_in)
    timed = numbers(events_in, measure)
    values = [value for _, value in reversed(timed)]
    if statistic == "count":
        return len(values)
    if statistic == "sum":
        return _sum(timed)
    if statistic == "std":
        return _deviation(values)
    if statistic == "slope":
        return _slope(timed)
    if re.fullmatch("last[2-9]", statistic):
        nth = int(statistic[-1])
        return values[nth - 1] if len(values) >= nth else math.nan
    if not values:
        return math.nan
    if statistic == "mean":
        return _sum(timed) / len(values)
    return {"min": min(values), "max": max(values), "last": values[0], "first": values[-1]}[statistic]


def _sum(timed):
    """Add from the newest to the oldest: floats do not add up alike in another order."""
    total = 0.0
    for _, value in reversed(timed):
        total += value
    return total


def _over(a, b):
    return a / b if b else math.nan


def _deviation(values):
    """Population standard deviation of two values or more, in fractions."""
    if len(values) < 2:
        return math.nan
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))


def _slope(timed):
    """Least squares slope per day, in fractions."""
    if len({time for time, _ in timed}) < 2:
        return math.nan
    days, values = [Fraction(time, DAY_US) for time, _ in timed], [Fraction(value) for _, value in timed]
    day, value = sum(days) / len(days), sum(values) / len(values)
    products = sum((d - day) * (v - value) for d, v in zip(days, values, strict=True))
    return float(products / sum((d - day) ** 2 for d in days))


def _gaps(statistic, gaps):
    if not gaps or (statistic in ("gap_std", "burstiness") and len(gaps) < 2):
        return math.nan
    if statistic == "longest_gap":
        return max(gaps)
    mean, deviation = float(sum(map(Fraction, gaps)) / len(gaps)), _deviation(gaps)
    if statistic == "burstiness":
        return _over(deviation - mean, deviation + mean)
    return mean if statistic == "gap_mean" else deviation


def _alive(times, cutoff, r, alpha, a, b):
    """P(alive | x, t_x, T) of the BG/NBD model, repeat purchases being days after the first."""
    if not times:
        return math.nan
    x = len({time // DAY_US for time in times}) - 1
    t_x, tenure = (max(times) - min(times)) / DAY_US, (cutoff - min(times)) / DAY_US
    if x == 0:
        return 1.0
    return 1 / (1 + a / (b + x - 1) * ((alpha + tenure) / (alpha + t_x)) ** (r + x))


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
