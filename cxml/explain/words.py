"""Words for numbers, measures and selectors: what reasons are put together from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import exp

import numpy as np

from cxml.features.selectors import EVERYTHING, Atom, Selector, compare
from cxml.features.spec import OTHER
from cxml.times import DAY_US, SECOND_US, Duration

#: Says a number in words.
Say = Callable[[float], str]

_DAY_SECONDS = DAY_US / SECOND_US


def say_number(value: float) -> str:
    """Say a number with two digits or more, and no more than tell anything."""
    size = abs(value)
    if size >= 1e12:
        return f"{value:.3g}"
    if size >= 9.95 or value == int(value):
        return f"{value + 0.0:,.0f}"  # + 0.0: there is one zero
    if size >= 0.995:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2g}" if size >= 0.001 else "nearly 0"


def say_whole(value: float) -> str:
    """Say a whole number."""
    return f"{value:,.0f}"


def say_percent(share: float) -> str:
    """Say a share."""
    whole = f"{100.0 * share:,.0f}"
    if whole in ("0", "-0"):
        return "under 1 %" if share else "0 %"
    return "over 99 %" if whole == "100" and share < 1.0 else f"{whole} %"


def say_counted(number: str, one: str, many: str) -> str:
    """Say a number of things."""
    return f"{number} {one if number == '1' else many}"


def say_times(number: str) -> str:
    """Say how many times."""
    return say_counted(number, "time", "times")


def _span(seconds: float) -> str:
    """Say a length of time in the unit that suits it."""
    size = abs(seconds)
    for unit, length, below in (("second", 1.0, 60.0), ("minute", 60.0, 3600.0), ("hour", 3600.0, 2.0 * _DAY_SECONDS)):
        if size < below:
            return say_counted(say_number(seconds / length), unit, f"{unit}s")
    return say_counted(say_number(seconds / _DAY_SECONDS), "day", "days")


def say_days(value: float) -> str:
    """Say a number of days as a length of time."""
    return _span(value * _DAY_SECONDS)


def say_window(text: str) -> str:
    """Say a window in words."""
    duration = str(Duration.parse(text))
    number = duration.rstrip("dhmsu")
    unit = {"d": "day", "h": "hour", "m": "minute", "s": "second", "us": "microsecond"}[duration[len(number) :]]
    return say_counted(number, unit, f"{unit}s")


def in_plain_words(text: str) -> str:
    """Write a name as words."""
    return " ".join(text.replace("_", " ").split()) or "blank"


@dataclass(frozen=True, slots=True)
class Number:
    """How a measure that is a number is spoken of: its name, an event that has it, its values and differences."""

    name: str
    occasion: str
    level: Say = say_number
    amount: Say = say_number
    least: str = "lowest"
    most: str = "highest"


@dataclass(frozen=True, slots=True)
class Flag:
    """How a measure that is 1 or 0 is spoken of: its mean, an event that has it, and events for which it is 1 or 0."""

    rate: str
    occasion: str
    one: str
    many: str
    yes: str
    no: str


def _length(name: str, occasion: str, say: Say) -> Number:
    return Number(name, occasion, say, say, "shortest", "longest")


def _of_usual(ratio: float) -> str:
    number = say_number(ratio)
    return "as usual" if number == "1" else f"{number} times the usual"


def _odds(logarithm: float) -> str:
    return _of_usual(exp(min(max(logarithm, -20.0), 20.0)))


def _rarity(bits: float) -> str:
    return f"1 in {say_number(2.0**bits)}" if bits < 20.0 else "1 in a million"


_MEASURES: Mapping[str, Number | Flag] = {
    "duration": _length("duration", "duration", _span),
    "promise": _length("promised wait", "promise", say_days),
    "resolved": Flag("resolved", "outcome", "resolution", "resolutions", "resolved", "not resolved"),
}

#: Measures that `cxml.features.annotations` names.
_ANNOTATED_MEASURES: Mapping[str, Number | Flag] = {
    "gap": _length("pause between events", "event after another", say_days),
    "gap_same": _length("time to the same again", "repeated touchpoint", say_days),
    "session": Number("number of the session", "event"),
    "session_position": Number("position in the session", "event"),
    "repeat_contact": Flag(
        "contacts repeated", "contact", "repeated contact", "repeated contacts", "a repeat", "not a repeat"
    ),
    "first_contact_resolved": Flag(
        "first contact resolved", "settled contact", "contact resolved at first", "contacts resolved at first",
        "resolved at first", "not resolved at first",
    ),
    "case_age": Number("age of the case", "event of a case", say_days, say_days, "smallest", "greatest"),
    "open_cases": Number("number of open cases", "event"),
    "oldest_open_case": Number("age of the oldest open case", "open case", say_days, say_days, "smallest", "greatest"),
    "handle_ratio": Number(
        "handling time", "comparable handling time", _of_usual, lambda v: f"{say_number(v)} times the usual"
    ),
    "handoff": Flag(
        "channel changed within a case", "step within a case", "channel change within a case",
        "channel changes within a case", "channel changed", "channel kept",
    ),
    "escalation": Flag(
        "contacts after self-service", "personal contact", "contact after self-service", "contacts after self-service",
        "after self-service", "not after self-service",
    ),
    "loop": Flag("steps back", "event", "step back", "steps back", "a step back", "no step back"),
    "surprise": Number(
        "rarity of a step", "event after another", _rarity, lambda v: say_counted(say_number(v), "bit", "bits")
    ),
    "likeness": Number("odds of a bad end", "known step", _odds),
    "likeness_path": Number("path's odds of a bad end", "known path", _odds),
    "streak": _length("streak", "event", lambda v: say_counted(say_number(v), "day", "days")),
    "lateness": Number("delay against the promise", "kept promise", say_days, say_days, "smallest", "greatest"),
    "response": Flag(
        "interventions answered", "settled intervention", "answered intervention", "answered interventions",
        "answered", "not answered",
    ),
    "reaction": Flag(
        "contact after a survey answer", "settled survey answer", "contact after a survey answer",
        "contacts after survey answers", "a contact followed", "no contact followed",
    ),
}  # fmt: skip


def measure_words(name: str, annotations: Collection[str]) -> Number | Flag:
    """Give the words of a measure."""
    known = _ANNOTATED_MEASURES.get(name) if name in annotations else None
    return known or _MEASURES.get(name) or Number(in_plain_words(name), in_plain_words(name))


#: Of a choice of more events than this, only the first are named.
_MOST_NAMED = 4

_SIGNS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}

#: Values of the categories that `cxml.features.annotations` names, as they are said of events.
_ANNOTATED_VALUES: Mapping[str, Mapping[str, str]] = {
    "daypart": {
        "night": "at night", "morning": "in the morning", "afternoon": "in the afternoon", "evening": "in the evening",
    },
    "weekend": {"yes": "on a weekend", "no": "outside weekends"},
    "hour": {f"{hour:02}": f"between {hour}:00 and {hour + 1}:00" for hour in range(24)},
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
    "asked": {"yes": "survey", "no": "anything but survey"},
    "late": {"yes": "promise kept late", "no": "promise kept in time"},
}

#: Categories that `cxml.features.annotations` names, and what is said of an event that has one.
ANNOTATED_CATEGORIES: Mapping[str, tuple[str, str]] = {
    "contact": ("service and other events", "event"),
    "active": ("active and other events", "event"),
    "asked": ("surveys and other events", "event"),
    "previous": ("preceding touchpoint", "event after another"),
    "transition": ("step", "event after another"),
    "daypart": ("daypart", "event"),
    "weekend": ("part of the week", "event"),
    "weekday": ("weekday", "event"),
    "hour": ("hour of the day", "event"),
    "score_band": ("score band", "score"),
    "value_sign": ("value sign", "value"),
    "late": ("promises kept late or in time", "kept promise"),
}

#: Names that have words of their own when they are annotations.
ANNOTATED = frozenset({*_ANNOTATED_MEASURES, *ANNOTATED_CATEGORIES})


def condition_words(atom: Atom, annotations: Collection[str]) -> tuple[str, bool]:
    """Say a condition, and whether that is the name of a thing ("call") or goes behind one ("at night")."""
    column, value = atom.column, atom.value
    if not isinstance(value, str):
        return _comparison(measure_words(column, annotations), atom.sign, value)
    other = value == OTHER
    if column in annotations:
        if value in _ANNOTATED_VALUES.get(column, {}):
            return _ANNOTATED_VALUES[column][value], False
        if value in _ANNOTATED_THINGS.get(column, {}):
            return _ANNOTATED_THINGS[column][value], True
        if column == "previous":
            return f"right after {'another touchpoint' if other else in_plain_words(value)}", False
        if column == "transition":
            before, _, after = value.partition(">")
            return "other step" if other else f"{in_plain_words(before)} then {in_plain_words(after)}", True
    if column == "touchpoint" and not other:
        return in_plain_words(value), True
    return f"other {in_plain_words(column)}" if other else f"{in_plain_words(column)} {in_plain_words(value)}", True


def _comparison(measure: Number | Flag, sign: str, limit: float) -> tuple[str, bool]:
    if isinstance(measure, Number):
        return f"with {measure.name} {_SIGNS[sign]} {measure.level(limit)}", False
    zero, one = compare(np.array([0.0, 1.0]), Atom("", sign, limit)).tolist()
    if zero == one:  # a condition that all or none meet
        return f"{measure.occasion} {_SIGNS[sign]} {say_number(limit)}", True
    return (measure.one if one else f"{measure.occasion} ({measure.no})"), True


def _words(selector: Selector, annotations: Collection[str]) -> tuple[str, bool]:
    """Say a combination of conditions as `condition_words` says one."""
    if isinstance(selector, Atom):
        return condition_words(selector, annotations)
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


def event_words(selector: Selector, annotations: Collection[str]) -> tuple[str, str]:
    """Name the selected events, alone and behind a measure."""
    if selector == EVERYTHING:
        return "any event", ""
    words, names_a_thing = _words(selector, annotations)
    if not names_a_thing:
        return f"events {words}", f" of events {words}"
    if not isinstance(selector, Atom) and selector.sign == "!":
        words = f"anything but {words.removeprefix('not ')}"
    return words, f" at {words}"
