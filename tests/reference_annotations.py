"""The annotations again, naively: plain Python, one event at a time, straight from what they mean.

It shares nothing with the package but the names. Beside it: events with cases, and the blocks they make.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from cxml.journeys.block import Coded, EventBlock

DAY_US = 86_400_000_000
UNITS = {"w": 7 * DAY_US, "d": DAY_US, "h": DAY_US // 24, "m": DAY_US // 1440, "s": 1_000_000, "us": 1}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NAN = math.nan
#: What is said of an event as of a cutoff.
OUTCOMES = ("first_contact_resolved", "reaction", "response")


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


def reference_annotation(name, steps, settings, cutoff=math.inf):
    """Annotate one customer's events (in total order); a list of numbers, or of words and None.

    What came after an event is said as of the cutoff; the others do not depend on it.
    """
    more = (cutoff,) if name in OUTCOMES else ()
    return [REFERENCES[name](steps, i, settings, *more) for i in range(len(steps))]


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


def session(steps, i, s):
    number, last = 0, None
    for step in [*past(steps, i), steps[i]]:
        number += last is None or step.time - last > us(s.session_gap)
        last = step.time
    return number


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
    return odds_of_steps(["nothing before", *(p.touchpoint for p in past(steps, i)), steps[i].touchpoint], s)[-1]


def likeness_path(steps, i, s):
    odds = odds_of_steps(["nothing before", *(p.touchpoint for p in past(steps, i)), steps[i].touchpoint], s)
    total, known = 0.0, [one for one in reversed(odds[-5:]) if not math.isnan(one)]
    for one in known:  # floats do not add up alike in another order
        total += one
    return total if known else NAN


def odds_of_steps(touchpoints, s):
    """Of a customer of the first fold; the tables of these tests are the same in all."""
    known, odds = [*s.likeness.touchpoints, "", "nothing before"], []
    for pair in pairwise(touchpoints):
        row, column = (known.index(t) if t in known else len(known) - 2 for t in pair)
        odds.append(NAN if None in pair else s.likeness.log_odds[0][row][column])
    return odds


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


def _outcome(name, steps, i, s, cutoff):
    """Return whether a follower came, as one sees it who knows what was known before the cutoff; NaN for not yet."""
    step = steps[i]
    asking, marked, within = {
        "first_contact_resolved": (s.contacts, s.contacts, us(s.repeat_within)),
        "response": (s.interventions, s.activity, us(s.respond_within)),
        "reaction": (s.surveys, s.contacts, us(s.respond_within)),
    }[name]
    if step.touchpoint not in asking:
        return NAN
    seen = [f for f in steps[i + 1 :] if f.time < cutoff and f.known < cutoff]
    later = [f for f in seen if f.touchpoint in marked and f.time <= step.time + within]
    if same_case(steps, i, later) if name == "first_contact_resolved" else later:
        return 1.0
    return 0.0 if step.time + within < cutoff else NAN


def first_contact_resolved(steps, i, s, cutoff):
    return 1.0 - _outcome("first_contact_resolved", steps, i, s, cutoff)


def response(steps, i, s, cutoff):
    return _outcome("response", steps, i, s, cutoff)


def reaction(steps, i, s, cutoff):
    return _outcome("reaction", steps, i, s, cutoff)


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


def reference_behind(name, steps, cutoff, s):
    """Return the places of the events that a column of the package's own comes from, at a cutoff."""
    seen = [i for i, step in enumerate(steps) if step.time < cutoff and step.known < cutoff]
    active = [i for i in seen if not s.activity or steps[i].touchpoint in s.activity]
    of_year = [i for i in seen if steps[i].time >= cutoff - 365 * DAY_US]
    if name == "survey_response_rate":
        return [i for i in seen if steps[i].touchpoint in (*s.asked, *s.surveys)]
    if name in ("overdue_promises", "days_overdue"):
        is_open = {}
        for i in seen:
            if steps[i].touchpoint in s.promises:
                is_open.pop(steps[i].case_id, None)
            elif not math.isnan(steps[i].promise):
                is_open[steps[i].case_id] = i
        passed = {i: (cutoff - steps[i].time) / DAY_US - steps[i].promise for i in is_open.values()}
        longest = max(passed.values(), default=0)
        return sorted(i for i, days in passed.items() if days > 0 and (name != "days_overdue" or days == longest))
    if name.startswith("rfm_recency"):
        return [i for i in active if steps[i].time == steps[active[-1]].time]
    if name.startswith("rfm_frequency"):
        return [i for i in active if i in of_year]
    if name.startswith("rfm_monetary"):
        return [i for i in of_year if not math.isnan(steps[i].value)]
    return active


def reference_response_rate(steps, cutoff, s):
    """Return the answers to surveys over the times of being asked, as known at a cutoff."""
    seen = [step.touchpoint for step in steps if step.time < cutoff and step.known < cutoff]
    asked = sum(touchpoint in s.asked for touchpoint in seen)
    return sum(touchpoint in s.surveys for touchpoint in seen) / asked if asked else NAN


def reference_rhythm(steps, cutoff, s):
    """Return recency, frequency, monetary value, tenure, and the days of activity, as known at a cutoff."""
    seen = [step for step in steps if step.time < cutoff and step.known < cutoff]
    active = [step for step in seen if not s.activity or step.touchpoint in s.activity]
    money = 0.0
    for step in seen:
        if step.time >= cutoff - 365 * DAY_US and not math.isnan(step.value):
            money += step.value
    times = [step.time for step in active]
    recency, tenure = ((cutoff - end(times)) / DAY_US if times else NAN for end in (max, min))
    frequency = len([time for time in times if time >= cutoff - 365 * DAY_US])
    return recency, frequency, money, tenure, sorted({time // DAY_US for time in times})


def reference_rfm(steps, cutoff, s):
    """Return the columns of RFM at a cutoff."""
    recency, frequency, money, tenure, days = reference_rhythm(steps, cutoff, s)
    if math.isnan(recency):
        return NAN, frequency, money, NAN, NAN, NAN, NAN
    below = {
        name: sum(cut < value for cut in s.rfm[name])
        for name, value in (("recency", recency), ("frequency", frequency), ("monetary", money))
    }
    quintiles = 5 - below["recency"], 1 + below["frequency"], 1 + below["monetary"]
    (usual,) = s.rfm["gap"]
    gaps = [b - a for a, b in pairwise(days)]
    gap = sum(gaps) / len(gaps) if len(gaps) >= 2 else usual
    came_back = len(gaps) >= 3 and gaps[-1] > 3 * (sum(gaps[:-1]) / len(gaps[:-1]))
    if recency > 3 * gap:
        stage = "lapsed"
    elif tenure <= 3 * usual:
        stage = "new"
    elif recency > 1.5 * gap:
        stage = "slowing"
    else:
        stage = "returned" if came_back else "active"
    return recency, frequency, money, *quintiles, 1 + ["new", "active", "returned", "slowing", "lapsed"].index(stage)


def contact(steps, i, s):
    return "yes" if steps[i].touchpoint in s.contacts else "no"


def active(steps, i, s):
    return "yes" if steps[i].touchpoint in s.activity else "no"


def asked(steps, i, s):
    return "yes" if steps[i].touchpoint in s.asked else "no"


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


def hour(steps, i, s):
    return f"{local(steps[i].time, s.timezone).hour:02}"


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
        oldest_open_case, handle_ratio, handoff, escalation, loop, surprise, likeness, likeness_path, streak, response,
        reaction, session, asked, hour,
        lateness, late, contact, active, previous, transition, daypart, weekday, weekend, score_band, value_sign,
    )
}  # fmt: skip
