"""The annotations again, naively: plain Python, one event at a time, straight from what they mean.

It shares nothing with the package but the names. Beside it: events with cases, and the blocks they make.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from cxml.journeys.block import Coded, EventBlock

DAY_US = 86_400_000_000
UNITS = {"w": 7 * DAY_US, "d": DAY_US, "h": DAY_US // 24, "m": DAY_US // 1440, "s": 1_000_000, "us": 1}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NAN = math.nan


@dataclass
class Step:
    """One event."""

    time: int
    touchpoint: str | None = "call"
    channel: str | None = None
    case_id: str | None = None
    resolved: float = NAN
    value: float = NAN
    duration: float = NAN
    score: float = NAN
    promise: float = NAN
    late: int = 0

    @property
    def known(self):
        return self.time + self.late


def block_of_steps(journeys, late=None, without=()):
    """Make the block of ``{customer: [Step, ...]}``; each customer's events in total order."""
    customers = sorted(journeys)
    steps = [step for customer in customers for step in journeys[customer]]
    late = any(step.late for step in steps) if late is None else late
    categories, measures = ("touchpoint", "channel", "case_id"), ("resolved", "value", "duration", "score", "promise")
    return EventBlock(
        customers=np.array(customers, np.int64),
        starts=np.cumsum([0, *(len(journeys[c]) for c in customers)]).astype(np.int64),
        time=np.array([s.time for s in steps], np.int64),
        known=np.array([s.known for s in steps], np.int64) if late else None,
        categories={name: _coded([getattr(s, name) for s in steps]) for name in categories if name not in without},
        measures={m: np.array([getattr(s, m) for s in steps], np.float64) for m in measures if m not in without},
    )


def _coded(values):
    vocabulary = tuple(sorted({v for v in values if v is not None}))
    return Coded(np.array([-1 if v is None else vocabulary.index(v) for v in values], np.int32), vocabulary)


def us(text):
    """Microseconds of a duration."""
    digits = text.rstrip("usmhdw")
    return int(digits) * UNITS[text[len(digits) :]]


def reference_annotation(name, steps, settings):
    """Annotate one customer's events (in total order); a list of numbers, or of words and None."""
    return [REFERENCES[name](steps, i, settings) for i in range(len(steps))]


def reference_due(name, steps, settings):
    """Say when each value of a measure that waits for followers is known."""
    return [_outcome(name, steps, i, settings)[1] for i in range(len(steps))]


def past(steps, i):
    """Return the events in front of one that were known no later than it was."""
    return [p for p in steps[:i] if p.known <= steps[i].known]


def days(a, b):
    return (b.time - a.time) / DAY_US


def gap(steps, i, s):
    before = past(steps, i)
    return days(before[-1], steps[i]) if before else NAN


def gap_same(steps, i, s):
    same = [p for p in past(steps, i) if p.touchpoint == steps[i].touchpoint is not None]
    return days(same[-1], steps[i]) if same else NAN


def session_position(steps, i, s):
    position, last = 0, None
    for step in [*past(steps, i), steps[i]]:
        position = 1 if last is None or step.time - last > us(s.session_gap) else position + 1
        last = step.time
    return position


def same_case(steps, i, others):
    return [o for o in others if steps[i].case_id is None or o.case_id == steps[i].case_id]


def repeat_contact(steps, i, s):
    if steps[i].touchpoint not in s.contacts:
        return NAN
    earlier = [p for p in same_case(steps, i, past(steps, i)) if p.touchpoint in s.contacts]
    return float(any(steps[i].time - p.time <= us(s.repeat_within) for p in earlier))


def case_age(steps, i, s):
    case = steps[i].case_id
    return days(next(p for p in [*past(steps, i), steps[i]] if p.case_id == case), steps[i]) if case else NAN


def open_beginnings(steps, i):
    """Return the first event of each case that is open as of an event."""
    first, is_open = {}, {}
    for step in [*past(steps, i), steps[i]]:
        if step.case_id is None:
            continue
        if step.case_id not in first:
            first[step.case_id], is_open[step.case_id] = step, True
        if step.resolved == 1:
            is_open[step.case_id] = False
        if step.resolved == 0:
            is_open[step.case_id] = True
    return [first[case] for case in first if is_open[case]]


def open_cases(steps, i, s):
    return len(open_beginnings(steps, i))


def oldest_open_case(steps, i, s):
    return max((days(first, steps[i]) for first in open_beginnings(steps, i)), default=NAN)


def handle_ratio(steps, i, s):
    usual = s.usual_duration.get(steps[i].touchpoint, s.usual_duration.get("", NAN))
    return steps[i].duration / usual


def handoff(steps, i, s):
    case = [p for p in past(steps, i) if p.case_id == steps[i].case_id is not None]
    if not case or None in (case[-1].channel, steps[i].channel):
        return NAN
    return float(case[-1].channel != steps[i].channel)


def escalation(steps, i, s):
    step = steps[i]
    if step.touchpoint not in s.contacts or step.channel is None or step.channel in s.self_service:
        return NAN
    alone = [p for p in same_case(steps, i, past(steps, i)) if p.channel in s.self_service]
    return float(any(step.time - p.time <= us(s.repeat_within) for p in alone))


def loop(steps, i, s):
    *_, second, last, this = [None, None, *(p.touchpoint for p in past(steps, i)), steps[i].touchpoint]
    return NAN if this is None else float(this == second and this != last)


def surprise(steps, i, s):
    before = past(steps, i)
    if not before or None in (before[-1].touchpoint, steps[i].touchpoint):
        return NAN
    known = list(s.surprise.touchpoints)
    row, column = (known.index(t) if t in known else -1 for t in (before[-1].touchpoint, steps[i].touchpoint))
    return -s.surprise.log2_probability[row][column]


def likeness(steps, i, s):
    """Of a customer of the first fold; the tables of these tests are the same in all."""
    before, known = past(steps, i), [*s.likeness.touchpoints, "", "nothing before"]
    touchpoints = before[-1].touchpoint if before else "nothing before", steps[i].touchpoint
    if None in touchpoints:
        return NAN
    row, column = (known.index(t) if t in known else len(known) - 2 for t in touchpoints)
    return s.likeness.log_odds[0][row][column]


def local(moment, zone):
    return (EPOCH + dt.timedelta(microseconds=moment)).astimezone(ZoneInfo(zone))


def day_begun(moment, zone):
    """Return the local date, unless the clock is about to be turned back over midnight: then the day before."""
    return min(local(moment + minute * UNITS["m"], zone).date() for minute in range(3))


def streak(steps, i, s):
    seen = {day_begun(p.time, s.timezone) for p in [*past(steps, i), steps[i]]}
    day, n = day_begun(steps[i].time, s.timezone), 0
    while day in seen:
        day, n = day - dt.timedelta(days=1), n + 1
    return n


def _outcome(name, steps, i, s):
    """Return whether a follower came, and when that is known."""
    step = steps[i]
    asking, marked, within = {
        "first_contact_resolved": (s.contacts, s.contacts, us(s.repeat_within)),
        "response": (s.interventions, s.activity, us(s.respond_within)),
        "reaction": (s.surveys, s.contacts, us(s.respond_within)),
    }[name]
    if step.touchpoint not in asking:
        return NAN, step.known
    settled = max(step.time + within, step.known)
    later = [f for f in steps[i + 1 :] if f.touchpoint in marked and f.time <= step.time + within]
    later = same_case(steps, i, later) if name == "first_contact_resolved" else later
    followers = [f for f in later if f.known <= settled]
    if followers:
        return 1.0, max(step.known, min(f.known for f in followers))
    return 0.0, settled


def first_contact_resolved(steps, i, s):
    return 1.0 - _outcome("first_contact_resolved", steps, i, s)[0]


def response(steps, i, s):
    return _outcome("response", steps, i, s)[0]


def reaction(steps, i, s):
    return _outcome("reaction", steps, i, s)[0]


def lateness(steps, i, s):
    step = steps[i]
    if not s.promises:
        return 0.0 - step.promise
    if step.touchpoint not in s.promises:
        return NAN
    if not math.isnan(step.promise):
        return 0.0 - step.promise
    told = [p for p in past(steps, i) if p.case_id == step.case_id]
    told = [p for p in told if p.touchpoint in s.promises or not math.isnan(p.promise)]
    if not told or told[-1].touchpoint in s.promises:
        return NAN
    return days(told[-1], step) - told[-1].promise


def late(steps, i, s):
    found = lateness(steps, i, s)
    return None if math.isnan(found) else "yes" if found > 0 else "no"


def reference_overdue(steps, cutoff, s):
    """Return how many promises are overdue at a cutoff, and the most days by which one is."""
    is_open = {}
    for step in steps:
        if step.time >= cutoff or step.known >= cutoff:
            continue
        if step.touchpoint in s.promises:
            is_open.pop(step.case_id, None)
        elif not math.isnan(step.promise):
            is_open[step.case_id] = step
    passed = [(cutoff - step.time) / DAY_US - step.promise for step in is_open.values()]
    passed = [days for days in passed if days > 0]
    return len(passed), max(passed, default=NAN)


def contact(steps, i, s):
    return "yes" if steps[i].touchpoint in s.contacts else "no"


def active(steps, i, s):
    return "yes" if steps[i].touchpoint in s.activity else "no"


def previous(steps, i, s):
    before = past(steps, i)
    return before[-1].touchpoint if before else None


def transition(steps, i, s):
    before, this = previous(steps, i, s), steps[i].touchpoint
    if before is None or this is None:
        return None
    return f"{before}>{this}" if f"{before}>{this}" in s.transitions else "other"


def daypart(steps, i, s):
    return ("night", "morning", "afternoon", "evening")[local(steps[i].time, s.timezone).hour // 6]


def weekday(steps, i, s):
    return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[local(steps[i].time, s.timezone).weekday()]


def weekend(steps, i, s):
    return "yes" if weekday(steps, i, s) in ("sat", "sun") else "no"


def score_band(steps, i, s):
    score = steps[i].score
    if not s.scale[0] <= score <= s.scale[1]:
        return None
    assert s.scale == (0, 10)
    return "detractor" if score <= 6 else "passive" if score <= 8 else "promoter"


def value_sign(steps, i, s):
    value = steps[i].value
    return None if math.isnan(value) else "negative" if value < 0 else "positive" if value > 0 else "zero"


REFERENCES = {
    function.__name__: function
    for function in (
        gap, gap_same, session_position, repeat_contact, first_contact_resolved, case_age, open_cases,
        oldest_open_case, handle_ratio, handoff, escalation, loop, surprise, likeness, streak, response, reaction,
        lateness, late, contact, active, previous, transition, daypart, weekday, weekend, score_band, value_sign,
    )
}  # fmt: skip
