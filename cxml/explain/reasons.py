"""From the contributions of single features to a few reasons in plain words.

A column is read once (`Aggregate.parse`) and its fixed words are put together once; only the number is said for each
value. Words of the events come first where a statistic is of events ("call: 3 times in 30 days"), and behind the number
where it is of a measure ("mean score 4.2 at call in 90 days").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from math import exp
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.features.selectors import EVERYTHING, Atom, Selector, compare
from cxml.features.spec import CATEGORY_STATISTICS, OTHER, UNWINDOWED_STATISTICS, Aggregate
from cxml.times import DAY_US, SECOND_US, Duration

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

#: Says a number in words.
_Say = Callable[[float], str]

_DAY_SECONDS = DAY_US / SECOND_US


# ---------------------------------------------------------------- numbers


def _number(value: float) -> str:
    """Say a number with two digits or more, and no more than tell anything."""
    size = abs(value)
    if size >= 1e12:
        return f"{value:.3g}"
    if size >= 9.95 or value == int(value):
        return f"{value + 0.0:,.0f}"  # + 0.0: there is one zero
    if size >= 0.995:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2g}" if size >= 0.001 else "nearly 0"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    whole = f"{100.0 * share:,.0f}"
    if whole in ("0", "-0"):
        return "under 1 %" if share else "0 %"
    return "over 99 %" if whole == "100" and share < 1.0 else f"{whole} %"


def _counted(number: str, one: str, many: str) -> str:
    return f"{number} {one if number == '1' else many}"


def _times(number: str) -> str:
    return _counted(number, "time", "times")


def _span(seconds: float) -> str:
    """Say a length of time in the unit that suits it."""
    size = abs(seconds)
    for unit, length, below in (("second", 1.0, 60.0), ("minute", 60.0, 3600.0), ("hour", 3600.0, 2.0 * _DAY_SECONDS)):
        if size < below:
            return _counted(_number(seconds / length), unit, f"{unit}s")
    return _counted(_number(seconds / _DAY_SECONDS), "day", "days")


def _days(value: float) -> str:
    return _span(value * _DAY_SECONDS)


def _window(text: str) -> str:
    """Say a window in words."""
    duration = str(Duration.parse(text))
    number = duration.rstrip("dhmsu")
    unit = {"d": "day", "h": "hour", "m": "minute", "s": "second", "us": "microsecond"}[duration[len(number) :]]
    return _counted(number, unit, f"{unit}s")


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").split()) or "blank"


# ---------------------------------------------------------------- measures


@dataclass(frozen=True, slots=True)
class _Number:
    """How a measure that is a number is spoken of: its name, an event that has it, its values and differences."""

    name: str
    occasion: str
    level: _Say = _number
    amount: _Say = _number
    least: str = "lowest"
    most: str = "highest"


@dataclass(frozen=True, slots=True)
class _Flag:
    """How a measure that is 1 or 0 is spoken of: its mean, an event that has it, and events for which it is 1 or 0."""

    rate: str
    occasion: str
    one: str
    many: str
    yes: str
    no: str


def _length(name: str, occasion: str, say: _Say) -> _Number:
    return _Number(name, occasion, say, say, "shortest", "longest")


def _of_usual(ratio: float) -> str:
    number = _number(ratio)
    return "as usual" if number == "1" else f"{number} times the usual"


def _odds(logarithm: float) -> str:
    return _of_usual(exp(min(max(logarithm, -20.0), 20.0)))


def _rarity(bits: float) -> str:
    return f"1 in {_number(2.0**bits)}" if bits < 20.0 else "1 in a million"


_MEASURES: Mapping[str, _Number | _Flag] = {
    "duration": _length("duration", "duration", _span),
    "resolved": _Flag("resolved", "outcome", "resolution", "resolutions", "resolved", "not resolved"),
}

#: Measures that `cxml.features.annotations` names.
_ANNOTATED_MEASURES: Mapping[str, _Number | _Flag] = {
    "gap": _length("pause between events", "event after another", _days),
    "gap_same": _length("time to the same again", "repeated touchpoint", _days),
    "session_position": _Number("position in the session", "event"),
    "repeat_contact": _Flag(
        "contacts repeated", "contact", "repeated contact", "repeated contacts", "a repeat", "not a repeat"
    ),
    "first_contact_resolved": _Flag(
        "first contact resolved", "settled contact", "contact resolved at first", "contacts resolved at first",
        "resolved at first", "not resolved at first",
    ),
    "case_age": _Number("age of the case", "event of a case", _days, _days, "smallest", "greatest"),
    "open_cases": _Number("number of open cases", "event"),
    "oldest_open_case": _Number("age of the oldest open case", "open case", _days, _days, "smallest", "greatest"),
    "handle_ratio": _Number(
        "handling time", "comparable handling time", _of_usual, lambda v: f"{_number(v)} times the usual"
    ),
    "handoff": _Flag(
        "channel changed within a case", "step within a case", "channel change within a case",
        "channel changes within a case", "channel changed", "channel kept",
    ),
    "escalation": _Flag(
        "contacts after self-service", "personal contact", "contact after self-service", "contacts after self-service",
        "after self-service", "not after self-service",
    ),
    "loop": _Flag("steps back", "event", "step back", "steps back", "a step back", "no step back"),
    "surprise": _Number(
        "rarity of a step", "event after another", _rarity, lambda v: _counted(_number(v), "bit", "bits")
    ),
    "likeness": _Number("odds of a bad end", "known step", _odds),
    "streak": _length("streak", "event", lambda v: _counted(_number(v), "day", "days")),
    "response": _Flag(
        "interventions answered", "settled intervention", "answered intervention", "answered interventions",
        "answered", "not answered",
    ),
    "reaction": _Flag(
        "contact after a survey answer", "settled survey answer", "contact after a survey answer",
        "contacts after survey answers", "a contact followed", "no contact followed",
    ),
}  # fmt: skip


def _measure(name: str, annotations: Collection[str]) -> _Number | _Flag:
    known = _ANNOTATED_MEASURES.get(name) if name in annotations else None
    return known or _MEASURES.get(name) or _Number(_plain(name), _plain(name))


# ---------------------------------------------------------------- which events

#: Of a choice of more events than this, only the first are named.
_MOST_NAMED = 4

_SIGNS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}

#: Values of the categories that `cxml.features.annotations` names, as they are said of events.
_ANNOTATED_VALUES: Mapping[str, Mapping[str, str]] = {
    "daypart": {
        "night": "at night", "morning": "in the morning", "afternoon": "in the afternoon", "evening": "in the evening",
    },
    "weekend": {"yes": "on a weekend", "no": "outside weekends"},
    "weekday": {
        "mon": "on a Monday", "tue": "on a Tuesday", "wed": "on a Wednesday", "thu": "on a Thursday",
        "fri": "on a Friday", "sat": "on a Saturday", "sun": "on a Sunday",
    },
    "score_band": {
        "detractor": "with a detractor score", "passive": "with a passive score", "promoter": "with a promoter score",
        "low": "with a low score", "mid": "with a middling score", "high": "with a high score",
    },
    "value_sign": {
        "negative": "with a negative value", "zero": "with a value of zero", "positive": "with a positive value",
    },
}  # fmt: skip

#: The same, of those that are the name of a thing.
_ANNOTATED_THINGS: Mapping[str, Mapping[str, str]] = {
    "contact": {"yes": "service contact", "no": "anything but service contact"},
    "active": {"yes": "activity", "no": "anything but activity"},
}

#: Categories that `cxml.features.annotations` names, and what is said of an event that has one.
_ANNOTATED_CATEGORIES: Mapping[str, tuple[str, str]] = {
    "contact": ("service and other events", "event"),
    "active": ("active and other events", "event"),
    "previous": ("preceding touchpoint", "event after another"),
    "transition": ("step", "event after another"),
    "daypart": ("daypart", "event"),
    "weekend": ("part of the week", "event"),
    "weekday": ("weekday", "event"),
    "score_band": ("score band", "score"),
    "value_sign": ("value sign", "value"),
}

#: Names that have words of their own when they are annotations.
ANNOTATED = frozenset({*_ANNOTATED_MEASURES, *_ANNOTATED_CATEGORIES})


def _condition(atom: Atom, annotations: Collection[str]) -> tuple[str, bool]:
    """Say a condition, and whether that is the name of a thing ("call") or goes behind one ("at night")."""
    column, value = atom.column, atom.value
    if not isinstance(value, str):
        return _comparison(_measure(column, annotations), atom.sign, value)
    other = value == OTHER
    if column in annotations:
        if value in _ANNOTATED_VALUES.get(column, {}):
            return _ANNOTATED_VALUES[column][value], False
        if value in _ANNOTATED_THINGS.get(column, {}):
            return _ANNOTATED_THINGS[column][value], True
        if column == "previous":
            return f"right after {'another touchpoint' if other else _plain(value)}", False
        if column == "transition":
            before, _, after = value.partition(">")
            return "other step" if other else f"{_plain(before)} then {_plain(after)}", True
    if column == "touchpoint" and not other:
        return _plain(value), True
    return f"other {_plain(column)}" if other else f"{_plain(column)} {_plain(value)}", True


def _comparison(measure: _Number | _Flag, sign: str, limit: float) -> tuple[str, bool]:
    if isinstance(measure, _Number):
        return f"with {measure.name} {_SIGNS[sign]} {measure.level(limit)}", False
    zero, one = compare(np.array([0.0, 1.0]), Atom("", sign, limit)).tolist()
    if zero == one:  # a condition that all or none meet
        return f"{measure.occasion} {_SIGNS[sign]} {_number(limit)}", True
    return (measure.one if one else f"{measure.occasion} ({measure.no})"), True


def _words(selector: Selector, annotations: Collection[str]) -> tuple[str, bool]:
    """Say a combination of conditions as `_condition` says one."""
    if isinstance(selector, Atom):
        return _condition(selector, annotations)
    said = [_words(part, annotations) for part in selector.parts]
    within = [
        f"({words})" if not isinstance(part, Atom) and part.sign + selector.sign in ("|&", "|!", "&!") else words
        for part, (words, _) in zip(selector.parts, said, strict=True)
    ]
    names_a_thing = any(thing for _, thing in said)
    if selector.sign == "!":
        return f"not {within[0]}", names_a_thing
    return (" and ".join(within) if selector.sign == "&" else _either_of(within)), names_a_thing


def _either_of(words: list[str]) -> str:
    """Join with "or"; of many, name the first."""
    if len(words) > _MOST_NAMED:
        words = [*words[: _MOST_NAMED - 1], f"{len(words) - _MOST_NAMED + 1} others"]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _label(selector: Selector, annotations: Collection[str]) -> tuple[str, str]:
    """Name the selected events, alone and behind a measure."""
    if selector == EVERYTHING:
        return "any event", ""
    words, names_a_thing = _words(selector, annotations)
    if not names_a_thing:
        return f"events {words}", f" of events {words}"
    if not isinstance(selector, Atom) and selector.sign == "!":
        words = f"anything but {words.removeprefix('not ')}"
    return words, f" at {words}"


# ---------------------------------------------------------------- phrases


class _Phrase(NamedTuple):
    """How a statistic is worded: where the number goes, what says it, and what stands for no value and for zero.

    The number is said by a function, or by one that depends on the measure (see `_says_of_number`, `_says_of_flag`).
    """

    text: str
    say: _Say | str
    missing: str
    zero: str | None = None


def _more(than: str, value: float) -> str:
    number = _number(abs(value))
    return f"as many as {than}" if number == "0" else f"{number} {'more' if value > 0 else 'fewer'} than {than}"


def _rhythm(burstiness: float) -> str:
    kind = "in bursts" if burstiness > 0.2 else "like a clock" if burstiness < -0.2 else "at random"
    return f"{kind} (burstiness {_number(round(burstiness, 2))})"


def _fold(ratio: float) -> str:
    number = _number(ratio)
    return "as" if number == "1" else f"{number} times as"


def _trend(amount: _Say, monthly: bool, slope: float) -> str:
    """Say a slope, which is one per day; by the month where the window is that long, lest it be a tiny number."""
    if not slope:
        return "steady"
    pace = f"{amount(30.0 * abs(slope))} a month" if monthly else f"{amount(abs(slope))} a day"
    return f"{'rising' if slope > 0 else 'falling'} by {pace}"


def _points(share: float) -> str:
    return _counted(_number(100.0 * share), "point", "points")


def _either(yes: str, no: str, missing: str = "no {occasion}{at}{window}") -> _Phrase:
    """Say of which event it is so, and of which it is not; that needs no number."""
    event = " {occasion}{at}{window}: "
    return _Phrase(yes + event + "{yes}", lambda _: "", missing, no + event + "{no}")


_OFTEN = "{n} often{window} as in {second}"
_NO_OCCASION = "no {occasion}{at}{window}"
_TOO_FEW = "{occasion}{at}: fewer than "

_OF_EVENTS: Mapping[str, _Phrase] = {
    "count": _Phrase("{events}: {n}{window}", lambda v: _times(_whole(v)), "{none}", "{none}"),
    "lag": _Phrase("{events}: {n}{window}", lambda v: _times(_whole(v)), "{none}", "{none}"),
    "active_days": _Phrase(
        "{events}: on {n}{window}", lambda v: _counted(_whole(v), "day", "days"), "{none}", "{none}"
    ),
    "decay": _Phrase("{events}: {n}{window}", lambda v: _times(_number(v)), "{none}", "{none}"),
    "ever": _Phrase("{events}: {n} so far", lambda v: _times(_whole(v)), "{never}", "{never}"),
    "days_since": _Phrase("{events}: last {n} ago", _days, "{never}"),
    "days_since_first": _Phrase("{events}: first {n} ago", _days, "{never}"),
    "tenure_days": _Phrase("customer for {n}", _days, "{never}"),
    "p_alive": _Phrase("{alive}: {n} likely", _percent, "{never}"),
    "longest_gap": _Phrase("{events}: longest pause {n}{window}", _days, "{events}: fewer than two{window}"),
    "gap_mean": _Phrase("{events}: {n} apart on average{window}", _days, "{events}: fewer than two{window}"),
    "gap_std": _Phrase("{events}: pauses vary by {n}{window}", _days, "{events}: fewer than three{window}"),
    "burstiness": _Phrase("{events}: {n}{window}", _rhythm, "{events}: too few for a rhythm{window}"),
    "change": _Phrase("{events}: {n}{window}", partial(_more, "usual"), "no event yet"),
    "acceleration": _Phrase("{events}: {n}{window}", partial(_more, "the trend said"), "{none}"),
    "rate": _Phrase("{events}: {n} per active day{window}", lambda v: _times(_number(v)), "no event{window}", "{none}"),
    "share": _Phrase("{events}: {n} of all events{window}", _percent, "no event{window}", "{none}"),
    "ratio": _Phrase("{events}: " + _OFTEN, _fold, "{events}: none in {second}", "{none}, but some in {second}"),
}
_OF_CATEGORIES: Mapping[str, _Phrase] = {
    "distinct": _Phrase(
        "{n} of {category}{window}", lambda v: _counted(_whole(v), "kind", "kinds"),
        "no {noun}{window}", "no {noun}{window}",
    ),
    "entropy": _Phrase(  # the number of equally frequent kinds that would have it
        "{category} as mixed as {n} equally frequent kinds{window}", lambda bits: _number(2.0 ** min(bits, 64.0)),
        "no {noun}{window}", "one kind of {category} only{window}",
    ),
}  # fmt: skip
_OF_NUMBERS: Mapping[str, _Phrase] = {
    "count": _Phrase("{occasion}{at}: {n}{window}", lambda v: _times(_whole(v)), _NO_OCCASION, _NO_OCCASION),
    "sum": _Phrase("{name} sums to {n}{at}{window}", "amount", _NO_OCCASION),
    "decay": _Phrase("{name} sums to {n}{at}{window}", "amount", _NO_OCCASION),
    "mean": _Phrase("mean {name} {n}{at}{window}", "level", _NO_OCCASION),
    "min": _Phrase("{least} {name} {n}{at}{window}", "level", _NO_OCCASION),
    "max": _Phrase("{most} {name} {n}{at}{window}", "level", _NO_OCCASION),
    "first": _Phrase("first {name} {n}{at}{window}", "level", _NO_OCCASION),
    "last": _Phrase("last {name} {n}{at}{window}", "level", _NO_OCCASION),
    "last2": _Phrase("last but one {name} {n}{at}{window}", "level", _TOO_FEW + "two{window}"),
    "last3": _Phrase("last but two {name} {n}{at}{window}", "level", _TOO_FEW + "three{window}"),
    "std": _Phrase("{name} varies by {n}{at}{window}", "amount", _TOO_FEW + "two{window}"),
    "slope": _Phrase("{name} {n}{at}{window}", "trend", "{occasion}{at}: too few for a trend{window}"),
    "share": _Phrase("{events}: {n} of the total {name}{window}", _percent, "total {name} {nothing}{window}"),
    "ratio": _Phrase(
        "{name}{at}: {n} much a day{window} as in {second}", _fold, "total {name} {nothing}{at} in {second}",
        "total {name} {nothing}{at}{window}, but not in {second}",
    ),
}  # fmt: skip
_OF_FLAGS: Mapping[str, _Phrase] = {
    "count": _OF_NUMBERS["count"],
    "sum": _Phrase("{n}{at}{window}", "so many", "no {one}{at}{window}", "no {one}{at}{window}"),
    "decay": _Phrase("{n}{at}{window}", "so many lately", "no {one}{at}{window}", "no {one}{at}{window}"),
    "mean": _Phrase("{rate} {n}{at}{window}", _percent, _NO_OCCASION),
    "min": _either("every", "at least one"),
    "max": _either("at least one", "every"),
    "first": _either("first", "first"),
    "last": _either("last", "last"),
    "last2": _either("last but one", "last but one", _TOO_FEW + "two{window}"),
    "last3": _either("last but two", "last but two", _TOO_FEW + "three{window}"),
    "std": _Phrase("{rate}{at}: varies by {n}{window}", _points, _TOO_FEW + "two{window}"),
    "slope": _Phrase("{rate}{at}: {n}{window}", "trend", _OF_NUMBERS["slope"].missing),
    "share": _Phrase("{events}: {n} of all {many}{window}", _percent, "no {one}{window}"),
    "ratio": _Phrase(
        "{many}{at}: " + _OFTEN, _fold, "no {one}{at} in {second}", "no {one}{at}{window}, but some in {second}"
    ),
}  # fmt: skip

#: How other customers with the same value of an attribute fared (`cxml.features.peers`).
_NO_PEERS = "how others with the same {attribute} fared is not known"
_OF_PEERS: Mapping[str, _Phrase] = {
    "peer_churn__": _Phrase("{n} of others with the same {attribute} left", _percent, _NO_PEERS),
    "peer_score__": _Phrase("others with the same {attribute} give {n} on average", _number, _NO_PEERS),
}


# ---------------------------------------------------------------- columns


@lru_cache(maxsize=65_536)
def _wording(name: str, vocabulary: tuple[str, ...], annotations: frozenset[str]) -> _Say:
    """Read a column, and give what words its values."""
    if vocabulary:
        return _category(name.removeprefix("last__"), vocabulary, annotations)
    if _is_custom(name):
        plain = _plain(name)
        return lambda value: f"{plain} not known" if value != value else f"{plain} {_number(value)}"
    if name.startswith(tuple(_OF_PEERS)):
        statistic, _, attribute = name.partition("__")
        return _fill(_OF_PEERS[f"{statistic}__"], {"attribute": _plain(attribute)})
    aggregate = Aggregate.parse(name)
    statistic, words = aggregate.statistic, _column_words(aggregate, annotations)
    if statistic in CATEGORY_STATISTICS:
        return _fill(_OF_CATEGORIES[statistic], words)
    if aggregate.measure is None:
        return _fill(_OF_EVENTS[statistic], words)
    measure = _measure(aggregate.measure, annotations)
    words |= {field.name: getattr(measure, field.name) for field in fields(measure)}
    monthly = aggregate.width_us >= 30 * DAY_US
    if isinstance(measure, _Flag):
        return _fill(_OF_FLAGS[statistic], words, _says_of_flag(measure, monthly))
    words["nothing"] = measure.amount(0.0)
    return _fill(_OF_NUMBERS[statistic], words, _says_of_number(measure, monthly))


def _is_custom(name: str) -> bool:
    """Tell whether a column is a user feature, which is called by a word of its own."""
    return "__" not in name and name not in UNWINDOWED_STATISTICS


def _fill(phrase: _Phrase, words: Mapping[str, object], says: Mapping[str, _Say] = MappingProxyType({})) -> _Say:
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


def _says_of_number(measure: _Number, monthly: bool) -> dict[str, _Say]:
    return {"level": measure.level, "amount": measure.amount, "trend": partial(_trend, measure.amount, monthly)}


def _says_of_flag(measure: _Flag, monthly: bool) -> dict[str, _Say]:
    return {
        "so many": lambda v: _counted(_whole(v), measure.one, measure.many),
        "so many lately": lambda v: _counted(_number(v), measure.one, measure.many),
        "trend": partial(_trend, _points, monthly),
    }


def _column_words(aggregate: Aggregate, annotations: Collection[str]) -> dict[str, object]:
    """Give the words of a column that do not depend on a measure.

    ``events`` names the selected events, ``at`` does so behind a measure; ``none`` and ``never`` say that there are
    no such events in the window or at all, ``alive`` that there will be more; ``second`` is the second window.
    """
    events, at = _label(aggregate.condition, annotations)
    spans = [_window(part) for part in (aggregate.window or "").split("/") if part]
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
        plain = _plain(aggregate.what)
        known = _ANNOTATED_CATEGORIES.get(aggregate.what) if aggregate.what in annotations else None
        words["category"], words["noun"] = known or (plain, plain)
    return words


def _category(name: str, vocabulary: Sequence[str], annotations: Collection[str]) -> _Say:
    """Give what words the last known value of a category, by its code."""
    if name in annotations and name in _ANNOTATED_CATEGORIES:
        category, occasion = _ANNOTATED_CATEGORIES[name]
        said = [_condition(Atom(name, "=", text), annotations) for text in vocabulary]
        texts = [
            f"last event: {words}" if occasion == "event" else f"last {category}: {words if thing else _plain(text)}"
            for text, (words, thing) in zip(vocabulary, said, strict=True)
        ]
        missing = f"no {occasion} yet"
    else:
        plain = _plain(name)
        texts = [f"{plain} is {'rare or new' if text == OTHER else _plain(text)}" for text in vocabulary]
        missing = f"{plain} not known"
    return lambda value: missing if value != value else texts[int(value)]


# ---------------------------------------------------------------- reasons


def top_reasons(
    columns: Sequence[str],
    vocabularies: Mapping[str, tuple[str, ...]],
    matrix: NDArray[np.floating],
    contributions: Float64,
    n_reasons: int,
    annotations: Collection[str] = ANNOTATED,
) -> list[list[str | None]]:
    """Say in words what pushes each prediction up most.

    Columns that speak of the same thing (see `subject_of`) count as one reason, with the words of the strongest of
    them; only what pushes upwards is named.

    Parameters
    ----------
    columns : sequence of str, length n_columns
        Feature names.
    vocabularies : mapping of str to tuple of str
        Column -> texts of its codes, for the categorical columns.
    matrix : array of shape (n_rows, n_columns)
        Feature values.
    contributions : float64 array of shape (n_rows, n_columns)
        Additive contributions, upwards meaning worse.
    n_reasons : int
    annotations : collection of str
        Names that mean what `cxml.features.annotations` says of them. A log may hold a column of its own under such
        a name; leave that one out. Default: all of them.

    Returns
    -------
    list of n_reasons lists of length n_rows
        None where there is no further reason.

    Raises
    ------
    ConfigError
        If a column with two underscores in its name is neither categorical nor a feature.

    Examples
    --------
    >>> top_reasons(["count__touchpoint=call__30d", "tenure_days"], {}, np.array([[3.0, 400.0]]),
    ...             np.array([[0.5, -0.2]]), 2)
    [['call: 3 times in 30 days'], [None]]
    """
    names, known = tuple(columns), frozenset(annotations)
    group, n_groups = _groups(names, frozenset(vocabularies))
    best = _strongest(np.ascontiguousarray(contributions), group, n_groups, n_reasons)
    values = np.take_along_axis(matrix, best, axis=1)  # where there is no reason, those of the last column
    words: dict[tuple[int, float | None], str] = {}
    reasons: list[list[str | None]] = []
    for rank in range(n_reasons):
        texts: list[str | None] = []
        for column, value in zip(best[:, rank].tolist(), values[:, rank].tolist(), strict=True):
            if column < 0:
                texts.append(None)
                continue
            key = (column, value if value == value else None)  # NaN never equals itself
            if key not in words:
                words[key] = _wording(names[column], tuple(vocabularies.get(names[column], ())), known)(value)
            texts.append(words[key])
        reasons.append(texts)
    return reasons


@lru_cache(maxsize=64)
def _groups(columns: tuple[str, ...], categorical: frozenset[str]) -> tuple[Int64, int]:
    """Give each column the number of its subject; a service asks this for every journey anew."""
    number: dict[str, int] = {}
    group = [number.setdefault(subject_of(name, name in categorical), len(number)) for name in columns]
    return np.array(group, np.int64), len(number)


def subject_of(name: str, categorical: bool = False) -> str:
    """Return what a feature speaks of, without statistic and window.

    That is the measure and the events it is taken of; of statistics of the events themselves, the events; of a
    category or a user feature, its name; of a rate among peers, the attribute. The days since the very first event are
    the tenure.

    Parameters
    ----------
    name : str
        A feature.
    categorical : bool
        Whether it is the last known value of a category.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If a name with two underscores is neither that of a category nor of a feature.

    Examples
    --------
    >>> subject_of("count__touchpoint=call__30d"), subject_of("days_since__touchpoint=call"), subject_of("tenure_days")
    ('touchpoint=call', 'touchpoint=call', 'tenure_days')
    >>> subject_of("mean__score@channel=web__30d"), subject_of("last__plan", categorical=True)
    ('score@channel=web', 'plan')
    """
    if categorical or _is_custom(name):
        return name.removeprefix("last__")
    if name.startswith(tuple(_OF_PEERS)):
        return name.partition("__")[2]
    aggregate = Aggregate.parse(name)
    if aggregate.statistic in CATEGORY_STATISTICS:
        return aggregate.what
    everything = aggregate.selector == "all"
    if everything and aggregate.statistic in ("tenure_days", "days_since_first"):
        return "tenure_days"
    if aggregate.measure is None:
        return aggregate.selector
    return aggregate.measure if everything else f"{aggregate.measure}@{aggregate.selector}"


def describe_value(
    name: str, value: float, vocabulary: Sequence[str] = (), annotations: Collection[str] = ANNOTATED
) -> str:
    """Say one feature value in words.

    Parameters
    ----------
    name : str
        A feature.
    value : float
        NaN where it is missing.
    vocabulary : sequence of str
        Texts of the codes of a categorical feature.
    annotations : collection of str
        As in `top_reasons`.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If there is no vocabulary and a name with two underscores is not that of a feature.

    Examples
    --------
    >>> describe_value("days_since__touchpoint=call", 12.25)
    'call: last 12 days ago'
    >>> describe_value("ratio__touchpoint=call__30d/90d", 2.4)
    'call: 2.4 times as often in 30 days as in 90 days'
    >>> describe_value("mean__first_contact_resolved__90d", 0.4)
    'first contact resolved 40 % in 90 days'
    >>> describe_value("last__plan", 1.0, ("basic", "gold"))
    'plan is gold'
    >>> describe_value("mean__value__90d", float("nan"))
    'no value in 90 days'
    """
    return _wording(name, tuple(vocabulary), frozenset(annotations))(value)


@njit(cache=True, nogil=True)
def _strongest(contributions, group, n_groups, n_reasons):  # type: ignore[no-untyped-def]  # compiled
    """For each row, the strongest column of each of the ``n_reasons`` strongest positive groups; -1: no more.

    Summed column by column in a fixed order, so that one row alone gives what it gives among many.
    """
    n_rows, n_columns = contributions.shape
    best = np.full((n_rows, n_reasons), -1, np.int64)
    for row in range(n_rows):
        total = np.zeros(n_groups)
        top = np.full(n_groups, -1, np.int64)
        for column in range(n_columns):
            g = group[column]
            total[g] += contributions[row, column]
            if top[g] < 0 or contributions[row, column] > contributions[row, top[g]]:
                top[g] = column
        for rank in range(n_reasons):
            chosen = -1
            for g in range(n_groups):
                if total[g] > 0.0 and (chosen < 0 or total[g] > total[chosen]):
                    chosen = g
            if chosen < 0:
                break
            best[row, rank] = top[chosen]
            total[chosen] = 0.0
    return best
