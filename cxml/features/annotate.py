"""Annotating events: what each one's past says of it, and for a few what came soon after it.

The past of an event is what stands before it in the total order of its customer and was known no later than it was.
So an annotation of the past never depends on what becomes known after its event, and is the same at every cutoff that
sees the event at all; what came after an event is told at each cutoff from what was known by then. Where everything is
known in the order in which it happened, that past is simply all that stands before; elsewhere links lead from each
event to the latest one of its past, over those not yet known.

Every annotation is one pass over the events, and what it carries from event to event lies in a few arrays for all
customers. Only where knowledge came out of order may an event look further: back over its session or its streak, if
something became known between the event before it and itself, or ahead over what happened until it was known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import log2
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.features.annotate_loops import (
    add_path,
    came_within,
    code_pairs,
    count_days,
    count_outside,
    days_between,
    find_followers,
    find_loops,
    first_step_back,
    follow_cases,
    link_events,
    link_first,
    link_marked,
    look_up_pairs,
    number_in_session,
    number_keys,
    number_sessions,
    read_clock,
    take_codes,
)
from cxml.features.annotations import AnnotationSettings, TransitionTable, check_annotations, score_bands
from cxml.features.folds import folds_of
from cxml.features.kernel import ALWAYS, ascends
from cxml.journeys.block import Coded, EventBlock
from cxml.journeys.schema import FIRST_US, LAST_US, PROMISE
from cxml.journeys.stamps import utc_to_local
from cxml.times import DAY_US, SECOND_US

_F = TypeVar("_F", bound=Callable[..., Any])

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
#: What came after each event (1 or 0, NaN for those that do not ask), when that is known, and when it is revised.
_Outcome = tuple[Float64, Int64, Int64]

#: Time zones are read in pieces of so many days.
_PIECE_US = 366 * DAY_US
#: Codes of at most so many values an event are used as keys as they are; more are made dense first.
_ROOMY = 4
#: Weight, in transitions, of what follows any touchpoint against what followed this one.
_PRIOR_TRANSITIONS = 5.0
#: So many of the latest steps make the path whose likeness is added up.
_PATH_STEPS = 5
#: Fewer durations than this are not enough for a usual one.
_FEWEST_DURATIONS = 20

_DAYPARTS = ("afternoon", "evening", "morning", "night")
_WEEKDAYS = ("fri", "mon", "sat", "sun", "thu", "tue", "wed")
_QUARTER_CODES = np.array([3, 2, 0, 1], np.int32)  # of the day, from midnight
_WEEKDAY_CODES = np.array([4, 0, 2, 3, 1, 5, 6], np.int32)  # from Thursday, 1970-01-01
_HOURS = tuple(f"{hour:02}" for hour in range(24))
_WEEKEND_CODES = np.array([0, 0, 1, 1, 0, 0, 0], np.int32)


@dataclass(frozen=True, slots=True)
class Annotated:
    """Annotations of the events of a block.

    Parameters
    ----------
    categories : dict of str to Coded
        By name, one code an event.
    measures : dict of str to float64 array of shape (n_events,)
        By name; NaN where there is nothing to say.
    due : dict of str to int64 array of shape (n_events,)
        For the measures that wait for what comes after the event: when the value is known, UTC microseconds, never
        before the event is. At a cutoff the value counts only if this is before it.
    revised : dict of str to int64 array of shape (n_events,)
        For the same measures, which are 0 or 1: when the value turns into the other one, UTC microseconds, after it is
        due; `cxml.features.kernel.ALWAYS` where it never does. At cutoffs after this the other value counts.
    """

    categories: dict[str, Coded]
    measures: dict[str, Float64]
    due: dict[str, Int64]
    revised: dict[str, Int64]

    def known_before(self, measure: str, cutoff: int) -> Float64:
        """Give a measure as it is known before a cutoff.

        Parameters
        ----------
        measure : str
            One of ``measures``.
        cutoff : int
            UTC microseconds.

        Returns
        -------
        float64 array of shape (n_events,)
            NaN where there is nothing to say, or not yet. Events that were not known by then have values too.

        Examples
        --------
        >>> due, revised = {"response": np.array([5])}, {"response": np.array([8])}
        >>> said = Annotated({}, {"response": np.array([0.0])}, due, revised)
        >>> [said.known_before("response", cutoff).tolist() for cutoff in (5, 6, 8, 9)]
        [[nan], [0.0], [0.0], [1.0]]
        """
        values = self.measures[measure]
        if measure not in self.due:
            return values
        values = np.where(self.revised[measure] < cutoff, 1.0 - values, values)
        return np.where(self.due[measure] < cutoff, values, np.nan)


def annotate(block: EventBlock, wanted: Collection[str], settings: AnnotationSettings) -> Annotated:
    """Compute annotations of the events of a block.

    What is said of an event depends on its past only: on the events of its customer that stand before it in the
    total order and were known no later than it was. Columns that the block lacks are as if null throughout.

    Three measures wait for what comes after the event: ``first_contact_resolved``, ``response`` and ``reaction``.
    They look for a follower, which stands after the event in the total order and happens no later than ``within``
    after it. At every cutoff they say what the events known by then say: that a follower came, from when the first of
    them is known (but not before the event is); before that nothing, until the question is settled, which is
    ``within`` after the event, or when the event itself becomes known if that is later; and from then on that none
    came. A follower that becomes known only after that revises the value, once. So whatever becomes known at or after
    a cutoff changes no value at that cutoff.

    Parameters
    ----------
    block : EventBlock
        The events.
    wanted : collection of str
        Names from `cxml.features.annotations.ANNOTATIONS`; nothing else is computed.
    settings : AnnotationSettings
        What the words mean.

    Returns
    -------
    Annotated
        What is true or false is 1 or 0.

    Raises
    ------
    ConfigError
        If an annotation is unknown, or a setting it needs is empty.
    DataError
        If the block's columns do not fit together, or codes lie outside their vocabulary.

    Examples
    --------
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, DAY_US, 4 * DAY_US]), None,
    ...                    {"touchpoint": Coded(np.array([0, 1, 0], np.int32), ("call", "visit"))})
    >>> settings = AnnotationSettings(contacts=("call",), repeat_within="5d")
    >>> annotated = annotate(block, ["gap", "previous", "repeat_contact"], settings)
    >>> annotated.measures["gap"].tolist(), annotated.measures["repeat_contact"].tolist()
    ([nan, 1.0, 3.0], [0.0, nan, 1.0])
    >>> annotated.categories["previous"].codes.tolist()
    [-1, 0, 1]
    """
    check_annotations(wanted, settings)
    events = _Events(block, settings)
    found = Annotated({}, {}, {}, {})
    for name in wanted:
        if name in _CATEGORIES:
            found.categories[name] = _CATEGORIES[name](events)
        elif name in _OUTCOMES:
            found.measures[name], found.due[name], found.revised[name] = _OUTCOMES[name](events)
        else:
            found.measures[name] = _MEASURES[name](events)
    return found


def fit_transitions(
    blocks: Iterable[EventBlock], until: int | None = None, *, max_touchpoints: int = 100, max_transitions: int = 20
) -> tuple[tuple[str, ...], TransitionTable]:
    """Learn which touchpoint follows which, from the events before a moment.

    P(b | a) is smoothed with what follows any touchpoint (a Dirichlet prior; MacKay and Peto 1995, "A hierarchical
    Dirichlet language model", Natural Language Engineering 1): ``(n_ab + s p_b) / (n_a + s)`` with ``s = 5`` and
    ``p_b = (n_b + 1) / (n + k)``, where ``k`` counts the columns of the table.

    Parameters
    ----------
    blocks : iterable of EventBlock
        The journeys.
    until : int, optional
        UTC microseconds; only events that happened and were known before count. Default: all count.
    max_touchpoints : int
        So many of the most frequent touchpoints have a row and a column of their own; the others share one.
    max_transitions : int
        How many of the most frequent transitions to name.

    Returns
    -------
    transitions : tuple of str
        The most frequent transitions as ``"a>b"``, ascending; ties by name. For `AnnotationSettings.transitions`.
    table : TransitionTable
        For `AnnotationSettings.surprise`.

    Examples
    --------
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 1, 2]), None,
    ...                    {"touchpoint": Coded(np.array([0, 1, 0], np.int32), ("call", "visit"))})
    >>> transitions, table = fit_transitions([block])
    >>> transitions, table.touchpoints
    (('call>visit', 'visit>call'), ('call', 'visit'))
    """
    counts = _count_transitions(blocks, until)
    seen: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for (before, after), n in counts.items():
        seen.update({before: n})
        seen.update({after: n})
        pairs.update({f"{before}>{after}": n})
    touchpoints = _most_frequent(seen, max_touchpoints)
    return _most_frequent(pairs, max_transitions), TransitionTable(touchpoints, _probabilities(counts, touchpoints))


def fit_usual_durations(blocks: Iterable[EventBlock], until: int | None = None) -> dict[str, float]:
    """Learn how long each touchpoint usually takes, from the events before a moment.

    Parameters
    ----------
    blocks : iterable of EventBlock
        The journeys.
    until : int, optional
        UTC microseconds; only events that happened and were known before count. Default: all count.

    Returns
    -------
    dict of str to float
        Median of the positive durations, each rounded to three significant digits so that memory stays bounded, of
        every touchpoint that has at least 20 of them, and ``""`` for the median of all. Empty where there are none.
        For `AnnotationSettings.usual_duration`.

    Examples
    --------
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 1, 2]), None,
    ...                    {"touchpoint": Coded(np.array([0, 1, 0], np.int32), ("call", "visit"))},
    ...                    {"duration": np.array([60.0, np.nan, 180.0])})
    >>> fit_usual_durations([block])
    {'': 120.0}
    """
    counts: dict[str, Counter[float]] = {}
    for block in blocks:
        touchpoint, durations = block.categories["touchpoint"], block.measures.get("duration")
        if durations is None:
            continue
        chosen = _before(block, until) & (durations > 0.0) & (durations < np.inf)
        for code in np.unique(touchpoint.codes[chosen]).tolist():
            name = touchpoint.vocabulary[code] if code >= 0 else ""
            rounded = _three_digits(durations[chosen & (touchpoint.codes == code)])
            values, n = np.unique(rounded, return_counts=True)
            counts.setdefault(name, Counter()).update(dict(zip(values.tolist(), n.tolist(), strict=True)))
    everything: Counter[float] = sum(counts.values(), Counter())
    usual = {name: _median(found) for name, found in sorted(counts.items()) if found.total() >= _FEWEST_DURATIONS}
    return ({"": _median(everything)} if everything else {}) | {n: seconds for n, seconds in usual.items() if n}


def _count_transitions(blocks: Iterable[EventBlock], until: int | None) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for block in blocks:
        events = _Events(block, AnnotationSettings())
        codes, vocabulary = events.codes("touchpoint"), events.vocabulary("touchpoint")
        before = _taken(codes, events.previous)
        chosen = (before >= 0) & (codes >= 0) & _before(block, until)
        pairs, n = np.unique(before[chosen] * np.int64(len(vocabulary)) + codes[chosen], return_counts=True)
        for pair, times in zip(pairs.tolist(), n.tolist(), strict=True):
            counts[vocabulary[pair // len(vocabulary)], vocabulary[pair % len(vocabulary)]] += times
    return counts


def _probabilities(
    counts: Mapping[tuple[str, str], int], touchpoints: tuple[str, ...]
) -> tuple[tuple[float, ...], ...]:
    size = len(touchpoints) + 1
    place = {touchpoint: i for i, touchpoint in enumerate(touchpoints)}
    table = np.zeros((size, size), np.int64)
    for (before, after), n in counts.items():
        table[place.get(before, size - 1), place.get(after, size - 1)] += n
    anywhere = (table.sum(axis=0) + 1.0) / (table.sum() + size)
    smooth = (table + _PRIOR_TRANSITIONS * anywhere) / (table.sum(axis=1, keepdims=True) + _PRIOR_TRANSITIONS)
    return tuple(tuple(min(0.0, log2(p)) for p in row) for row in smooth.tolist())


def _most_frequent(counts: Mapping[str, int], most: int) -> tuple[str, ...]:
    ranked = sorted((-n, name) for name, n in counts.items())
    return tuple(sorted(name for _, name in ranked[:most]))


def _before(block: EventBlock, until: int | None) -> Bool:
    if until is None:
        return np.ones(block.n_events, bool)
    known = block.time if block.known is None else np.maximum(block.time, block.known)
    return known < until


def _three_digits(values: Float64) -> Float64:
    step = 10.0 ** (np.floor(np.log10(values)) - 2.0)
    return np.round(values / step) * step


def _median(counts: Mapping[float, int]) -> float:
    values = sorted(counts)
    ends = np.cumsum([counts[value] for value in values]).tolist()
    low, high = (values[bisect_left(ends, rank)] for rank in ((ends[-1] + 1) // 2, ends[-1] // 2 + 1))
    return (low + high) / 2.0


@dataclass(frozen=True)
class _Events:
    """A block, and what several annotations share of it."""

    block: EventBlock
    settings: AnnotationSettings
    checked: dict[str, Int32] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, block = self.block.n_events, self.block
        if len(block.starts) != block.n_customers + 1 or not ascends(block.starts, n):
            raise DataError("the block's starts do not ascend from 0 to its events; read the journeys again")
        if block.known is not None and len(block.known) != n:
            raise DataError(f"the block says of {len(block.known):,} of {n:,} events when they became known")

    @cached_property
    def known(self) -> Int64:
        """When each event became known."""
        block = self.block
        return block.time if block.known is None else np.maximum(block.time, block.known)

    @cached_property
    def late(self) -> Int64:
        """When each event became known; empty where that is in the order of the events."""
        in_order = self.block.known is None or first_step_back(self.block.starts, self.known) < 0
        return np.empty(0, np.int64) if in_order else self.known

    @cached_property
    def links(self) -> tuple[Int64, Bool]:
        """The latest event of each one's past, and whether nothing became known between the two."""
        previous, direct = np.empty(self.block.n_events, np.int64), np.ones(self.block.n_events, np.bool_)
        link_events(self.block.starts, self.late, previous, direct)
        return previous, direct

    @property
    def previous(self) -> Int64:
        """The latest event of each one's past; -1 for none."""
        return self.links[0]

    def codes(self, column: str) -> Int32:
        """Codes of a categorical column, which lie within its vocabulary."""
        if column not in self.checked:
            self.checked[column] = _checked_codes(self.block, column)
        return self.checked[column]

    def vocabulary(self, column: str) -> tuple[str, ...]:
        """Values of a categorical column."""
        coded = self.block.categories.get(column)
        return () if coded is None else coded.vocabulary

    def values(self, measure: str) -> Float64:
        """Values of a measure."""
        values = self.block.measures.get(measure)
        if values is None:
            return np.full(self.block.n_events, np.nan)
        if len(values) != self.block.n_events:
            raise DataError(f"measure '{measure}': {len(values):,} values for {self.block.n_events:,} events")
        return values

    def among(self, column: str, names: Collection[str]) -> Bool:
        """Tell which events have one of these values."""
        wanted = frozenset(names)
        return cast(Bool, np.array([*(v in wanted for v in self.vocabulary(column)), False])[self.codes(column)])

    @cached_property
    def contacts(self) -> Bool:
        """Which events are contacts."""
        return self.among("touchpoint", self.settings.contacts)

    @cached_property
    def one_key(self) -> tuple[Int32, int]:
        """The same key for all events of a customer."""
        return np.zeros(self.block.n_events, np.int32), 1

    @cached_property
    def case_key(self) -> tuple[Int32, int]:
        """A key for each case, -1 for none, and how many there are."""
        codes, n_values = self.codes("case_id"), len(self.vocabulary("case_id"))
        if n_values <= _ROOMY * len(codes):
            return codes, n_values
        keys = np.empty(len(codes), np.int32)
        return keys, number_keys(codes, keys)

    @cached_property
    def matter_key(self) -> tuple[Int32, int]:
        """A key for each case, and one for all events of a customer without a case."""
        keys, n_keys = self.case_key
        return np.where(keys >= 0, keys, np.int32(n_keys)), n_keys + 1

    def latest(self, key: tuple[Int32, int], marked: Bool) -> Int64:
        """For each event the latest marked one of its past with the same key; -1 for none."""
        found = np.empty(self.block.n_events, np.int64)
        link_marked(self.block.starts, *key, marked, self.late, found)
        return found

    def latest_of_case(self, marked: Bool) -> Int64:
        """For each event the latest marked one of its case, or of its customer where it has no case."""
        anywhere = self.latest(self.one_key, marked)
        if "case_id" not in self.block.categories:
            return anywhere
        return np.where(self.case_key[0] >= 0, self.latest(self.case_key, marked), anywhere)

    def since(self, link: Int64) -> Float64:
        """Days from the linked event to each one; NaN for none."""
        days = np.empty(self.block.n_events, np.float64)
        days_between(self.block.time, link, days)
        return days

    def soon_after(self, link: Int64) -> Bool:
        """Tell which events came soon enough after the linked one to count as a repetition."""
        within = np.empty(self.block.n_events, np.bool_)
        came_within(self.block.time, link, self.settings.repeat_within_us, within)
        return within

    def followed(self, key: tuple[Int32, int], asking: Bool, marked: Bool, within: int) -> _Outcome:
        """Tell which of the asking events are followed by a marked one of the same key, and when that is known."""
        block, n = self.block, self.block.n_events
        found, due, revised = np.empty(n, np.float64), np.empty(n, np.int64), np.empty(n, np.int64)
        find_followers(block.starts, *key, asking, marked, block.time, self.known, within, found, due, revised)
        return found, due, revised

    @cached_property
    def cases(self) -> tuple[Float64, Float64]:
        """Number of open cases, and days since the oldest of them began."""
        block, resolved = self.block, self.values("resolved")
        n_open, oldest = np.empty(block.n_events, np.float64), np.empty(block.n_events, np.float64)
        before = np.empty(len(self.late), np.int64)
        if len(before):
            in_order: Int64 = np.empty(0, np.int64)
            link_marked(block.starts, *self.case_key, (resolved == 0.0) | (resolved == 1.0), in_order, before)
        follow_cases(block.starts, block.time, *self.case_key, resolved, before, self.late, n_open, oldest)
        return n_open, oldest

    @cached_property
    def clock(self) -> tuple[Int64, Int64]:
        """Local time in microseconds, and number of the local day."""
        time = self.block.time
        if self.settings.timezone == "UTC" or not len(time):
            return time, time // DAY_US
        first, last = (int(np.clip(end, FIRST_US, LAST_US)) for end in (time.min(), time.max()))
        table = _zone_table(self.settings.timezone, first // _PIECE_US, (last + DAY_US) // _PIECE_US)
        local, days = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
        read_clock(time, *table, local, days)
        return local, days


def _taken(codes: Int32, link: Int64) -> Int32:
    """Codes of the linked events; -1 for none."""
    taken = np.empty(len(codes), np.int32)
    take_codes(codes, link, taken)
    return taken


def _checked_codes(block: EventBlock, column: str) -> Int32:
    coded = block.categories.get(column)
    if coded is None:
        return np.full(block.n_events, -1, np.int32)
    n_bad = count_outside(coded.codes, len(coded.vocabulary))
    if n_bad or len(coded.codes) != block.n_events:
        raise DataError(
            f"column '{column}': of {len(coded.codes):,} codes for {block.n_events:,} events {n_bad:,} lie outside its "
            f"vocabulary of {len(coded.vocabulary):,} values. Read the journeys again with read_journeys."
        )
    return coded.codes


def _flags(asking: Bool, true: Bool) -> Float64:
    """1 or 0 for those who ask, NaN for the others."""
    return np.where(asking, true.astype(np.float64), np.nan)


def _gap(events: _Events) -> Float64:
    return events.since(events.previous)


def _gap_same(events: _Events) -> Float64:
    codes = events.codes("touchpoint")
    key = codes, len(events.vocabulary("touchpoint"))
    return events.since(events.latest(key, np.ones(len(codes), np.bool_)))


def _session_position(events: _Events) -> Float64:
    position = np.empty(events.block.n_events, np.float64)
    gap, block = events.settings.session_gap_us, events.block
    number_in_session(block.starts, block.time, *events.links, events.late, gap, position)
    return position


def _session(events: _Events) -> Float64:
    number = np.empty(events.block.n_events, np.float64)
    gap, block = events.settings.session_gap_us, events.block
    number_sessions(block.starts, block.time, events.previous, events.late, gap, number)
    return number


def _repeat_contact(events: _Events) -> Float64:
    return _flags(events.contacts, events.soon_after(events.latest_of_case(events.contacts)))


def _first_contact_resolved(events: _Events) -> _Outcome:
    within, contacts = events.settings.repeat_within_us, events.contacts
    repeated, due, revised = events.followed(events.one_key, contacts, contacts, within)
    if "case_id" in events.block.categories:
        in_case = events.followed(events.case_key, contacts, contacts, within)
        has_case = events.case_key[0] >= 0
        repeated, due, revised = (
            np.where(has_case, of_case, of_customer)
            for of_case, of_customer in zip(in_case, (repeated, due, revised), strict=True)
        )
    return 1.0 - repeated, due, revised


def _response(events: _Events) -> _Outcome:
    asking = events.among("touchpoint", events.settings.interventions)
    activity = events.among("touchpoint", events.settings.activity)
    return events.followed(events.one_key, asking, activity, events.settings.respond_within_us)


def _reaction(events: _Events) -> _Outcome:
    asking = events.among("touchpoint", events.settings.surveys)
    return events.followed(events.one_key, asking, events.contacts, events.settings.respond_within_us)


def _lateness(events: _Events) -> Float64:
    """Days from the promised time, the event's own or else the latest open one of its case, to the event."""
    promise = events.values(PROMISE)
    own = ~np.isnan(promise)
    if not events.settings.promises:
        return 0.0 - promise
    keeps = events.among("touchpoint", events.settings.promises)
    link = np.empty(len(promise), np.int64)
    link_marked(events.block.starts, *events.matter_key, own | keeps, events.late, link)
    is_open = (link >= 0) & ~keeps[link]  # what follows a keeping event was kept by that already
    later = np.where(is_open, events.since(link) - promise[link], np.nan)
    return np.where(keeps, np.where(own, 0.0 - promise, later), np.nan)


def _case_age(events: _Events) -> Float64:
    first = np.empty(events.block.n_events, np.int64)
    link_first(events.block.starts, *events.case_key, events.late, first)
    return events.since(first)


def _handle_ratio(events: _Events) -> Float64:
    usual, vocabulary = events.settings.usual_duration, events.vocabulary("touchpoint")
    rest = usual.get("", np.nan)
    by_code = np.array([*(usual.get(touchpoint, rest) for touchpoint in vocabulary), rest])
    return cast(Float64, events.values("duration") / by_code[events.codes("touchpoint")])


def _handoff(events: _Events) -> Float64:
    channel = events.codes("channel")
    before = _taken(channel, events.latest(events.case_key, np.ones(len(channel), np.bool_)))
    return _flags((channel >= 0) & (before >= 0), channel != before)


def _escalation(events: _Events) -> Float64:
    channel = events.codes("channel")
    alone = events.among("channel", events.settings.self_service)
    return _flags(events.contacts & (channel >= 0) & ~alone, events.soon_after(events.latest_of_case(alone)))


def _loop(events: _Events) -> Float64:
    looped = np.empty(events.block.n_events, np.float64)
    find_loops(events.block.starts, events.codes("touchpoint"), *events.links, events.late, looped)
    return looped


def _surprise(events: _Events) -> Float64:
    codes, vocabulary = events.codes("touchpoint"), events.vocabulary("touchpoint")
    place, bits = events.settings.surprise_places, events.settings.surprise_bits
    by_code = np.array([*(place.get(touchpoint, len(place)) for touchpoint in vocabulary), -1], np.int32)
    surprise = np.empty(len(codes), np.float64)
    look_up_pairs(by_code[_taken(codes, events.previous)], by_code[codes], bits, surprise)
    return surprise


def _likeness(events: _Events) -> Float64:
    codes, vocabulary, block = events.codes("touchpoint"), events.vocabulary("touchpoint"), events.block
    place, odds = events.settings.likeness_places, events.settings.likeness_odds
    by_code = np.array([*(place.get(touchpoint, len(place)) for touchpoint in vocabulary), -1], np.int64)
    before = np.where(events.previous < 0, len(place) + 1, by_code[_taken(codes, events.previous)])
    fold = np.repeat(folds_of(block.customers), np.diff(block.starts))
    return odds[fold, before, by_code[codes]]


def _likeness_path(events: _Events) -> Float64:
    codes, vocabulary, block = events.codes("touchpoint"), events.vocabulary("touchpoint"), events.block
    place, odds = events.settings.likeness_places, events.settings.likeness_odds
    by_code = np.array([*(place.get(touchpoint, len(place)) for touchpoint in vocabulary), -1], np.int64)
    path = np.empty(len(codes), np.float64)
    add_path(
        block.starts, by_code[codes], events.previous, events.late, folds_of(block.customers), odds, _PATH_STEPS, path
    )
    return path


def _streak(events: _Events) -> Float64:
    streak = np.empty(events.block.n_events, np.float64)
    count_days(events.block.starts, events.clock[1], *events.links, events.late, streak)
    return streak


def _previous(events: _Events) -> Coded:
    return Coded(_taken(events.codes("touchpoint"), events.previous), events.vocabulary("touchpoint"))


def _transition(events: _Events) -> Coded:
    codes, vocabulary = events.codes("touchpoint"), events.vocabulary("touchpoint")
    place = {touchpoint: code for code, touchpoint in enumerate(vocabulary)}
    values = tuple(sorted({*events.settings.transitions, "other"}))
    named = [
        (place[pair[:at]], place[pair[at + 1 :]], values.index(pair))
        for pair in events.settings.transitions
        for at in range(len(pair))
        if pair[at] == ">" and pair[:at] in place and pair[at + 1 :] in place
    ]
    row_of, n_rows = _numbered([before for before, _, _ in named], len(vocabulary))
    column_of, n_columns = _numbered([after for _, after, _ in named], len(vocabulary))
    table = np.full((n_rows + 1, n_columns + 1), values.index("other"), np.int32)
    for before, after, value in named:
        table[row_of[before], column_of[after]] = value
    found = np.empty(len(codes), np.int32)
    code_pairs(_taken(codes, events.previous), codes, row_of, column_of, table, found)
    return Coded(found, values)


def _numbered(codes: list[int], n_values: int) -> tuple[Int32, int]:
    """Give each of these codes a number from 0, and all others the one behind."""
    distinct = sorted(set(codes))
    number = np.full(n_values, len(distinct), np.int32)
    number[distinct] = np.arange(len(distinct))
    return number, len(distinct)


def _daypart(events: _Events) -> Coded:
    return Coded(_QUARTER_CODES[events.clock[0] % DAY_US // (DAY_US // 4)], _DAYPARTS)


def _weekday(events: _Events) -> Coded:
    return Coded(_WEEKDAY_CODES[events.clock[0] // DAY_US % 7], _WEEKDAYS)


def _hour(events: _Events) -> Coded:
    return Coded((events.clock[0] % DAY_US // (DAY_US // 24)).astype(np.int32), _HOURS)


def _weekend(events: _Events) -> Coded:
    return Coded(_WEEKEND_CODES[events.clock[0] // DAY_US % 7], ("no", "yes"))


def _score_band(events: _Events) -> Coded:
    scale, score = cast(tuple[float, float], events.settings.scale), events.values("score")
    last_low, last_mid, names = score_bands(scale)
    values = tuple(sorted(names))
    low, mid, high = (np.int32(values.index(name)) for name in names)
    band = np.where(score <= last_low, low, np.where(score <= last_mid, mid, high))
    return Coded(np.where((score >= scale[0]) & (score <= scale[1]), band, np.int32(-1)), values)


def _contact(events: _Events) -> Coded:
    return _yes_no(events.contacts)


def _active(events: _Events) -> Coded:
    return _yes_no(events.among("touchpoint", events.settings.activity))


def _asked(events: _Events) -> Coded:
    return _yes_no(events.among("touchpoint", events.settings.asked))


def _yes_no(true: Bool) -> Coded:
    return Coded(true.astype(np.int32), ("no", "yes"))


def _late(events: _Events) -> Coded:
    lateness = _lateness(events)
    return Coded(np.where(np.isnan(lateness), np.int32(-1), (lateness > 0.0).astype(np.int32)), ("no", "yes"))


def _value_sign(events: _Events) -> Coded:
    value = events.values("value")
    sign = np.where(value < 0.0, np.int32(0), np.where(value > 0.0, np.int32(1), np.int32(2)))
    return Coded(np.where(np.isnan(value), np.int32(-1), sign), ("negative", "positive", "zero"))


_MEASURES: dict[str, Callable[[_Events], Float64]] = {
    "gap": _gap,
    "gap_same": _gap_same,
    "session_position": _session_position,
    "session": _session,
    "repeat_contact": _repeat_contact,
    "case_age": _case_age,
    "open_cases": lambda events: events.cases[0],
    "oldest_open_case": lambda events: events.cases[1],
    "handle_ratio": _handle_ratio,
    "handoff": _handoff,
    "escalation": _escalation,
    "loop": _loop,
    "surprise": _surprise,
    "likeness": _likeness,
    "likeness_path": _likeness_path,
    "streak": _streak,
    "lateness": _lateness,
}
_OUTCOMES: dict[str, Callable[[_Events], _Outcome]] = {
    "first_contact_resolved": _first_contact_resolved,
    "response": _response,
    "reaction": _reaction,
}
_CATEGORIES: dict[str, Callable[[_Events], Coded]] = {
    "contact": _contact,
    "active": _active,
    "asked": _asked,
    "previous": _previous,
    "transition": _transition,
    "daypart": _daypart,
    "weekend": _weekend,
    "weekday": _weekday,
    "hour": _hour,
    "score_band": _score_band,
    "value_sign": _value_sign,
    "late": _late,
}


@lru_cache(maxsize=256)
def _zone_table(zone: str, first: int, last: int) -> tuple[Int64, Int64, Int64]:
    """Offsets of a zone over some pieces of time.

    Returns when each offset ends (the last one never), the offsets, and the local day on which the next one begins:
    a clock that is turned back over midnight takes the new day back, which then begins when it comes for good.
    """
    start = first * _PIECE_US
    changes = [change for piece in range(first, last + 1) for change in _zone_changes(zone, piece)]
    offsets = [utc_to_local(start, zone) - start, *(offset for _, offset in changes)]
    next_days = [(moment + offset) // DAY_US for moment, offset in changes]
    ends = [moment for moment, _ in changes]
    return np.array([*ends, ALWAYS]), np.array(offsets, np.int64), np.array([*next_days, ALWAYS])


@lru_cache(maxsize=4096)
def _zone_changes(zone: str, piece: int) -> list[tuple[int, int]]:
    """Moments within one piece of time at which the offset of a zone changes, and the new offsets."""

    def offset(us: int) -> int:
        return utc_to_local(us, zone) - us

    found = []
    for begin in range(piece * _PIECE_US, (piece + 1) * _PIECE_US, DAY_US):
        low, high = begin, begin + DAY_US
        if offset(low) == offset(high):
            continue
        while high - low > SECOND_US:
            middle = (low + high) // 2 // SECOND_US * SECOND_US
            low, high = (middle, high) if offset(middle) == offset(begin) else (low, middle)
        found.append((high, offset(high)))
    return found
