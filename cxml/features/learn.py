"""Learning a feature plan: which values and measures the training events hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.features.alive import fit_alive, rhythms
from cxml.features.annotate import fit_transitions, fit_usual_durations
from cxml.features.annotations import AnnotationSettings, score_bands
from cxml.features.catalogue import Holdings, annotations_of, choose_columns
from cxml.features.plan import FeaturePlan
from cxml.features.spec import OTHER, Aggregate
from cxml.journeys.block import Coded, EventBlock
from cxml.times import DAY_US, format_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: Which events count: all, or those of a mask.
Chosen = slice | NDArray[np.bool_]

#: Transitions that get a value of their own.
_TRANSITIONS = 10
_SELF_SERVICE = re.compile(r"\b(app|web|website|online|self[-_ ]?service|portal|bot|chatbot|ivr|kiosk|atm)\b")
#: Values of annotations that are always the same.
FIXED_WORDS: dict[str, tuple[str, ...]] = {
    "daypart": ("afternoon", "evening", "morning", "night"),
    "weekend": ("no", "yes"),
    "weekday": ("fri", "mon", "sat", "sun", "thu", "tue", "wed"),
    "contact": ("no", "yes"),
    "active": ("no", "yes"),
    "value_sign": ("negative", "positive", "zero"),
}
#: Columns whose values get features of their own.
_SELECTORS: tuple[str, ...] = ("touchpoint", "channel")


@dataclass(frozen=True)
class Choice:
    """What somebody wants of the features of a log.

    Parameters
    ----------
    windows : sequence of str
        Durations.
    max_values : int
        Values of a category that keep a code of their own: the most frequent, ties by name.
    families : sequence of str
        Names of `cxml.features.catalogue.FAMILIES`.
    columns : sequence of Aggregate
        Columns beside those of the families.
    custom : sequence of str
        Names of registered user features.
    surveys : sequence of str
        Touchpoints that carry a score.
    scale : (float, float), optional
        Lowest and highest score.
    """

    windows: Sequence[str]
    max_values: int = 40
    families: Sequence[str] = ("basic",)
    columns: Sequence[Aggregate] = ()
    custom: Sequence[str] = ()
    surveys: Sequence[str] = ()
    scale: tuple[float, float] | None = None


def learn_plan(log: JourneyLog, choice: Choice, until: int | None = None) -> FeaturePlan:
    """Choose columns and vocabularies from the events known before ``until``.

    Parameters
    ----------
    log : JourneyLog
        The journeys.
    choice : Choice
        What is wanted.
    until : int, optional
        UTC microseconds; default: all events count.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    ConfigError
        If a column looks at something the log does not hold.
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
    fitted = {name: top_values(n, choice.max_values) for name, n in counts.items() if n or name in attributes}
    stages = {touchpoint: stage for stage, touchpoints in log.config.stages.items() for touchpoint in touchpoints}
    with_other = {name for name in _SELECTORS if len(fitted.get(name, ())) < len(counts[name])}
    settings, words = _annotations(log, choice, until)
    shown: dict[str, tuple[str, ...]] = {name: fitted[name] for name in _SELECTORS if name in fitted}
    if stages:
        shown["stage"] = tuple(sorted(set(stages.values())))
    holdings = Holdings(
        vocabularies=shown | words,
        frequent={
            name: [value for value, _ in by_frequency(counts[name]) if value in fitted[name]]
            for name in shown
            if name in counts
        },
        with_other=with_other,
        measures=measures,
        windows=choice.windows,
        categories=set(next(log.blocks()).categories),
        settings=settings,
        span_days=((log.last if until is None else until) - log.first) / DAY_US,
    )
    chosen = choose_columns(holdings, choice.families, choice.columns)
    used = annotations_of(chosen)
    alive = _alive(log, settings, until) if any(a.statistic == "p_alive" for a in chosen) else None
    if alive is None:
        chosen = tuple(a for a in chosen if a.statistic != "p_alive")
    return FeaturePlan(
        aggregates=chosen,
        vocabularies=fitted | {name: values for name, values in words.items() if name in used},
        stages=stages,
        attributes=attributes,
        customer_attributes=tuple(table.attributes) if table is not None else (),
        custom=tuple(choice.custom),
        alive=alive,
        annotations=_needed(settings, used) if used else None,
    )


def _annotations(
    log: JourneyLog, choice: Choice, until: int | None
) -> tuple[AnnotationSettings, dict[str, tuple[str, ...]]]:
    """Give the words of a log a meaning, and the values of the categories that follow from it."""
    learned = set(choice.families) - {"basic"} or annotations_of(choice.columns)
    settings = AnnotationSettings(
        contacts=tuple(log.config.contacts),
        activity=tuple(log.config.activity),
        surveys=tuple(choice.surveys),
        self_service=_self_service(log),
        timezone=log.config.timezone or "UTC",
        scale=choice.scale,
    )
    words = dict(FIXED_WORDS)
    if choice.scale is not None:
        words["score_band"] = tuple(sorted(score_bands(choice.scale)[2]))
    if learned:
        transitions, surprise = fit_transitions(log.blocks(), until, max_transitions=_TRANSITIONS)
        usual = fit_usual_durations(log.blocks(), until)
        settings = replace(settings, transitions=transitions, surprise=surprise, usual_duration=usual)
        words["transition"] = transitions
    return settings, words


def _self_service(log: JourneyLog) -> tuple[str, ...]:
    """Guess the channels in which customers help themselves, by their names."""
    coded = next(log.blocks()).categories.get("channel")
    channels = () if coded is None else coded.vocabulary
    return tuple(name for name in channels if _SELF_SERVICE.search(name.lower()))


def _needed(settings: AnnotationSettings, used: set[str]) -> AnnotationSettings:
    """Leave out what was learned for annotations nobody looks at."""
    return replace(
        settings,
        transitions=settings.transitions if "transition" in used else (),
        surprise=settings.surprise if "surprise" in used else None,
        usual_duration=settings.usual_duration if "handle_ratio" in used else {},
    )


def _alive(
    log: JourneyLog, settings: AnnotationSettings, until: int | None
) -> tuple[float, float, float, float] | None:
    moment = log.last + 1 if until is None else until
    present = tuple(name for name in settings.activity if name in log.events.touchpoints)
    return fit_alive(rhythms(log.blocks(), moment, present))


def top_values(counts: Counter[str], max_values: int) -> tuple[str, ...]:
    """Give the most frequent values (ties by name), in ascending order; ``other`` never is one.

    Examples
    --------
    >>> top_values(Counter({"b": 2, "a": 2, "c": 5, "other": 9}), 2)
    ('a', 'c')
    """
    return tuple(sorted(value for value, _ in by_frequency(counts)[:max_values]))


def by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    """Give values and counts, the most frequent first, ties by name; ``other`` never is one."""
    return sorted(((v, n) for v, n in counts.items() if v != OTHER), key=lambda pair: (-pair[1], pair[0]))


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
