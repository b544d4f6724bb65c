"""Phrases for columns: a template for each statistic, filled with the words of the column and with its number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from types import MappingProxyType
from typing import NamedTuple

from cxml.explain.words import (
    ANNOTATED_CATEGORIES,
    Flag,
    Number,
    Say,
    condition_words,
    event_words,
    in_plain_words,
    measure_words,
    say_counted,
    say_days,
    say_number,
    say_percent,
    say_times,
    say_whole,
    say_window,
)
from cxml.features.selectors import Atom
from cxml.features.spec import CATEGORY_STATISTICS, NTH_LAST, OTHER, UNWINDOWED_STATISTICS, Aggregate
from cxml.times import DAY_US


class _Phrase(NamedTuple):
    """How a statistic is worded: where the number goes, what says it, and what stands for no value and for zero.

    The number is said by a function, or by one that depends on the measure (see `_says_of_number`, `_says_of_flag`).
    """

    text: str
    say: Say | str
    missing: str
    zero: str | None = None


def _more(than: str, value: float) -> str:
    number = say_number(abs(value))
    return f"as many as {than}" if number == "0" else f"{number} {'more' if value > 0 else 'fewer'} than {than}"


def _more_in_sum(amount: Say, than: str, value: float) -> str:
    return f"{amount(abs(value))} {'more' if value > 0 else 'less'} than {than}" if value else f"as much as {than}"


def _rhythm(burstiness: float) -> str:
    kind = "in bursts" if burstiness > 0.2 else "like a clock" if burstiness < -0.2 else "at random"
    return f"{kind} (burstiness {say_number(round(burstiness, 2))})"


def _fold(ratio: float) -> str:
    number = say_number(ratio)
    return "as" if number == "1" else f"{number} times as"


def _trend(amount: Say, monthly: bool, slope: float) -> str:
    """Say a slope, which is one per day; by the month where the window is that long, lest it be a tiny number."""
    if not slope:
        return "steady"
    pace = f"{amount(30.0 * abs(slope))} a month" if monthly else f"{amount(abs(slope))} a day"
    return f"{'rising' if slope > 0 else 'falling'} by {pace}"


def _points(share: float) -> str:
    return say_counted(say_number(100.0 * share), "point", "points")


def _either(yes: str, no: str, missing: str = "no {occasion}{at}{window}") -> _Phrase:
    """Say of which event it is so, and of which it is not; that needs no number."""
    event = " {occasion}{at}{window}: "
    return _Phrase(yes + event + "{yes}", lambda _: "", missing, no + event + "{no}")


_OFTEN = "{n} often{window} as in {second}"
_NO_OCCASION = "no {occasion}{at}{window}"
_TOO_FEW = "{occasion}{at}: fewer than "

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Of the n-th latest value what it is called, and how many there must be for it.
_NTH_LAST = {n: (f"last but {_NUMBERS[n - 2]}", f"{_NUMBERS[n - 1]}{{window}}") for n in NTH_LAST.values()}

_OF_EVENTS: Mapping[str, _Phrase] = {
    "count": _Phrase("{events}: {n}{window}", lambda v: say_times(say_whole(v)), "{none}", "{none}"),
    "lag": _Phrase("{events}: {n}{window}", lambda v: say_times(say_whole(v)), "{none}", "{none}"),
    "active_days": _Phrase(
        "{events}: on {n}{window}", lambda v: say_counted(say_whole(v), "day", "days"), "{none}", "{none}"
    ),
    "decay": _Phrase("{events}: {n}{window}", lambda v: say_times(say_number(v)), "{none}", "{none}"),
    "ever": _Phrase("{events}: {n} so far", lambda v: say_times(say_whole(v)), "{never}", "{never}"),
    "days_since": _Phrase("{events}: last {n} ago", say_days, "{never}"),
    "days_since_first": _Phrase("{events}: first {n} ago", say_days, "{never}"),
    "tenure_days": _Phrase("customer for {n}", say_days, "{never}"),
    "p_alive": _Phrase("{alive}: {n} likely", say_percent, "{never}"),
    "longest_gap": _Phrase("{events}: longest pause {n}{window}", say_days, "{events}: fewer than two{window}"),
    "gap_mean": _Phrase("{events}: {n} apart on average{window}", say_days, "{events}: fewer than two{window}"),
    "gap_std": _Phrase("{events}: pauses vary by {n}{window}", say_days, "{events}: fewer than three{window}"),
    "burstiness": _Phrase("{events}: {n}{window}", _rhythm, "{events}: too few for a rhythm{window}"),
    "change": _Phrase("{events}: {n}{window}", partial(_more, "usual"), "no event yet"),
    "acceleration": _Phrase("{events}: {n}{window}", partial(_more, "the trend said"), "{none}"),
    "rate": _Phrase(
        "{events}: {n} per active day{window}", lambda v: say_times(say_number(v)), "no event{window}", "{none}"
    ),
    "share": _Phrase("{events}: {n} of all events{window}", say_percent, "no event{window}", "{none}"),
    "ratio": _Phrase("{events}: " + _OFTEN, _fold, "{events}: none in {second}", "{none}, but some in {second}"),
}
_OF_CATEGORIES: Mapping[str, _Phrase] = {
    "distinct": _Phrase(
        "{n} of {category}{at}{window}", lambda v: say_counted(say_whole(v), "kind", "kinds"),
        "no {noun}{at}{window}", "no {noun}{at}{window}",
    ),
    "entropy": _Phrase(  # the number of equally frequent kinds that would have it
        "{category}{at} as mixed as {n} equally frequent kinds{window}",
        lambda bits: say_number(2.0 ** min(bits, 64.0)),
        "no {noun}{at}{window}", "one kind of {category} only{at}{window}",
    ),
}  # fmt: skip
_OF_NUMBERS: Mapping[str, _Phrase] = {
    "count": _Phrase("{occasion}{at}: {n}{window}", lambda v: say_times(say_whole(v)), _NO_OCCASION, _NO_OCCASION),
    "sum": _Phrase("{name} sums to {n}{at}{window}", "amount", _NO_OCCASION),
    "decay": _Phrase("{name} sums to {n}{at}{window}", "amount", _NO_OCCASION),
    "mean": _Phrase("mean {name} {n}{at}{window}", "level", _NO_OCCASION),
    "min": _Phrase("{least} {name} {n}{at}{window}", "level", _NO_OCCASION),
    "max": _Phrase("{most} {name} {n}{at}{window}", "level", _NO_OCCASION),
    "first": _Phrase("first {name} {n}{at}{window}", "level", _NO_OCCASION),
    "last": _Phrase("last {name} {n}{at}{window}", "level", _NO_OCCASION),
    **{
        f"last{n}": _Phrase(f"{which} {{name}} {{n}}{{at}}{{window}}", "level", _TOO_FEW + least)
        for n, (which, least) in _NTH_LAST.items()
    },
    "std": _Phrase("{name} varies by {n}{at}{window}", "amount", _TOO_FEW + "two{window}"),
    "slope": _Phrase("{name} {n}{at}{window}", "trend", "{occasion}{at}: too few for a trend{window}"),
    "change": _Phrase("{name}{at}: {n}{window}", "more than usual", "no event yet"),
    "acceleration": _Phrase("{name}{at}: {n}{window}", "more than the trend said", _NO_OCCASION),
    "rate": _Phrase("{name} sums to {n}{at} per active day{window}", "amount", "no event{window}"),
    "lag": _Phrase("total {name} {n}{at}{window}", "amount", _NO_OCCASION),
    "share": _Phrase("{events}: {n} of the total {name}{window}", say_percent, "total {name} {nothing}{window}"),
    "ratio": _Phrase(
        "{name}{at}: {n} much a day{window} as in {second}", _fold, "total {name} {nothing}{at} in {second}",
        "total {name} {nothing}{at}{window}, but not in {second}",
    ),
}  # fmt: skip
_OF_FLAGS: Mapping[str, _Phrase] = {
    "count": _OF_NUMBERS["count"],
    "sum": _Phrase("{n}{at}{window}", "so many", "no {one}{at}{window}", "no {one}{at}{window}"),
    "decay": _Phrase("{n}{at}{window}", "so many lately", "no {one}{at}{window}", "no {one}{at}{window}"),
    "mean": _Phrase("{rate} {n}{at}{window}", say_percent, _NO_OCCASION),
    "min": _either("every", "at least one"),
    "max": _either("at least one", "every"),
    "first": _either("first", "first"),
    "last": _either("last", "last"),
    **{f"last{n}": _either(which, which, _TOO_FEW + least) for n, (which, least) in _NTH_LAST.items()},
    "std": _Phrase("{rate}{at}: varies by {n}{window}", _points, _TOO_FEW + "two{window}"),
    "slope": _Phrase("{rate}{at}: {n}{window}", "trend", _OF_NUMBERS["slope"].missing),
    "change": _Phrase("{many}{at}: {n}{window}", partial(_more, "usual"), "no event yet"),
    "acceleration": _Phrase("{many}{at}: {n}{window}", partial(_more, "the trend said"), "no {one}{at}{window}"),
    "rate": _Phrase("{n}{at} per active day{window}", "so many lately", "no event{window}", "no {one}{at}{window}"),
    "lag": _Phrase("{n}{at}{window}", "so many", "no {one}{at}{window}", "no {one}{at}{window}"),
    "share": _Phrase("{events}: {n} of all {many}{window}", say_percent, "no {one}{window}"),
    "ratio": _Phrase(
        "{many}{at}: " + _OFTEN, _fold, "no {one}{at} in {second}", "no {one}{at}{window}, but some in {second}"
    ),
}  # fmt: skip

#: How other customers with the same value of an attribute fared (`cxml.features.peers`).
_NO_PEERS = "how others with the same {attribute} fared is not known"
OF_PEERS: Mapping[str, _Phrase] = {
    "peer_churn__": _Phrase("{n} of others with the same {attribute} left", say_percent, _NO_PEERS),
    "peer_score__": _Phrase("others with the same {attribute} give {n} on average", say_number, _NO_PEERS),
}

_STAGES = ("new", "active", "active again", "slowing", "lapsed")
_FIFTH, _NEVER_ACTIVE = "{n} of 5 among all customers", "never active"
#: What the package says of a customer at a cutoff (`cxml.features.custom.OWN`).
_OF_OWN: Mapping[str, _Phrase] = {
    "rfm_recency": _Phrase("last active {n} ago", say_days, _NEVER_ACTIVE),
    "rfm_frequency": _Phrase("active {n} in a year", lambda v: say_times(say_whole(v)), _NEVER_ACTIVE),
    "rfm_monetary": _Phrase("total value {n} in a year", say_number, "no value"),
    "rfm_recency_quintile": _Phrase(f"recency {_FIFTH}", say_whole, _NEVER_ACTIVE),
    "rfm_frequency_quintile": _Phrase(f"frequency {_FIFTH}", say_whole, _NEVER_ACTIVE),
    "rfm_monetary_quintile": _Phrase(f"money spent {_FIFTH}", say_whole, _NEVER_ACTIVE),
    "lifecycle": _Phrase("customer is {n}", lambda v: _STAGES[int(min(max(v, 1.0), 5.0)) - 1], _NEVER_ACTIVE),
    "survey_response_rate": _Phrase("{n} of surveys answered", say_percent, "never asked in a survey"),
}


@lru_cache(maxsize=65_536)
def wording(name: str, vocabulary: tuple[str, ...], annotations: frozenset[str]) -> Say:
    """Read a column, and give what words its values."""
    if vocabulary:
        return _category(name.removeprefix("last__"), vocabulary, annotations)
    if name in _OF_OWN:
        return _fill(_OF_OWN[name], {})
    if is_custom(name):
        plain = in_plain_words(name)
        return lambda value: f"{plain} not known" if value != value else f"{plain} {say_number(value)}"
    if name.startswith(tuple(OF_PEERS)):
        statistic, _, attribute = name.partition("__")
        return _fill(OF_PEERS[f"{statistic}__"], {"attribute": in_plain_words(attribute)})
    aggregate = Aggregate.parse(name)
    statistic, words = aggregate.statistic, _column_words(aggregate, annotations)
    if statistic in CATEGORY_STATISTICS:
        return _fill(_OF_CATEGORIES[statistic], words)
    if aggregate.measure is None:
        return _fill(_OF_EVENTS[statistic], words)
    measure = measure_words(aggregate.measure, annotations)
    words |= {field.name: getattr(measure, field.name) for field in fields(measure)}
    monthly = aggregate.width_us >= 30 * DAY_US
    if isinstance(measure, Flag):
        return _fill(_OF_FLAGS[statistic], words, _says_of_flag(measure, monthly))
    words["nothing"] = measure.amount(0.0)
    return _fill(_OF_NUMBERS[statistic], words, _says_of_number(measure, monthly))


def is_custom(name: str) -> bool:
    """Tell whether a column is a user feature, which is called by a word of its own."""
    return "__" not in name and name not in UNWINDOWED_STATISTICS


def _fill(phrase: _Phrase, words: Mapping[str, object], says: Mapping[str, Say] = MappingProxyType({})) -> Say:
    """Put the words of a column into a phrase, all but the number."""
    before, _, after = phrase.text.partition("{n}")  # apart: the words may hold anything
    before, after = before.format_map(words), after.format_map(words)
    missing = phrase.missing.format_map(words)
    zero = None if phrase.zero is None else phrase.zero.format_map(words)
    number = says[phrase.say] if isinstance(phrase.say, str) else phrase.say

    def say(value: float) -> str:
        if value != value:
            return missing
        return zero if zero is not None and value == 0.0 else before + number(value) + after

    return say


def _says_of_number(measure: Number, monthly: bool) -> dict[str, Say]:
    return {
        "level": measure.level,
        "amount": measure.amount,
        "trend": partial(_trend, measure.amount, monthly),
        "more than usual": partial(_more_in_sum, measure.amount, "usual"),
        "more than the trend said": partial(_more_in_sum, measure.amount, "the trend said"),
    }


def _says_of_flag(measure: Flag, monthly: bool) -> dict[str, Say]:
    return {
        "so many": lambda v: say_counted(say_whole(v), measure.one, measure.many),
        "so many lately": lambda v: say_counted(say_number(v), measure.one, measure.many),
        "trend": partial(_trend, _points, monthly),
    }


def _column_words(aggregate: Aggregate, annotations: Collection[str]) -> dict[str, object]:
    """Give the words of a column that do not depend on a measure.

    ``events`` names the selected events, ``at`` does so behind a measure; ``none`` and ``never`` say that there are
    no such events in the window or at all, ``alive`` that there will be more; ``second`` is the second window.
    """
    events, at = event_words(aggregate.condition, annotations)
    spans = [say_window(part) for part in (aggregate.window or "").split("/") if part]
    window = f" in {spans[0]}" if spans else ""
    if aggregate.statistic == "lag":
        window = f" in the {spans[0]} that ended {spans[1]} ago"
    elif aggregate.statistic == "decay":
        window = f" lately (half-life {spans[0]})"
    everything = aggregate.selector == "all"
    words: dict[str, object] = {
        "events": events, "at": at, "window": window, "second": spans[-1] if spans else "",
        "none": f"no event{window}" if everything else f"{events}: none{window}",
        "never": "no event yet" if everything else f"{events}: never",
        "alive": "still active" if everything else f"{events} still to come",
    }  # fmt: skip
    if aggregate.statistic in CATEGORY_STATISTICS:
        category = str(aggregate.category)
        plain = in_plain_words(category)
        known = ANNOTATED_CATEGORIES.get(category) if category in annotations else None
        words["category"], words["noun"] = known or (plain, plain)
    return words


def _category(name: str, vocabulary: Sequence[str], annotations: Collection[str]) -> Say:
    """Give what words the last known value of a category, by its code."""
    if name in annotations and name in ANNOTATED_CATEGORIES:
        category, occasion = ANNOTATED_CATEGORIES[name]
        said = [condition_words(Atom(name, "=", text), annotations) for text in vocabulary]
        texts = [
            f"last event: {words}"
            if occasion == "event"
            else f"last {category}: {words if thing else in_plain_words(text)}"
            for text, (words, thing) in zip(vocabulary, said, strict=True)
        ]
        missing = f"no {occasion} yet"
    else:
        plain = in_plain_words(name)
        texts = [f"{plain} is {'rare or new' if text == OTHER else in_plain_words(text)}" for text in vocabulary]
        missing = f"{plain} not known"
    return lambda value: missing if value != value else texts[int(value)]
