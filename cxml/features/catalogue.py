"""Families of feature columns, each chosen from what a log holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from cxml.errors import ConfigError, nearest
from cxml.features.annotations import ANNOTATIONS, AnnotationSettings
from cxml.features.promises import OVERDUE
from cxml.features.rfm import OF_VALUE, RFM
from cxml.features.selectors import plain_selector
from cxml.features.spec import Aggregate, default_spec
from cxml.features.surveys import SURVEYS
from cxml.journeys.schema import PROMISE
from cxml.times import Duration

#: So many of the most frequent values get columns of a family beyond the first.
_MANY, _FEW = 10, 6


@dataclass(frozen=True)
class Holdings:
    """What a log holds that columns can be made of.

    Parameters
    ----------
    vocabularies : mapping of str to sequence of str
        Values that get columns of their own: of ``touchpoint``, of ``channel`` and ``stage`` where the log has them,
        and of categories that follow from the events, such as ``daypart``.
    frequent : mapping of str to sequence of str
        The same values, most frequent first.
    with_other : collection of str
        Columns of ``vocabularies`` that have further values.
    measures : sequence of str
        Measures that hold any number at all.
    windows : sequence of str
        Durations, ascending.
    categories : collection of str
        All categorical columns, such as ``case_id``.
    settings : AnnotationSettings
    span_days : float
        From the first event to the last.
    rare : mapping of str to collection of str
        Of ``touchpoint`` and ``channel`` the values that occur and have no columns of their own. What the project says
        of them holds all the same.
    """

    vocabularies: Mapping[str, Sequence[str]]
    frequent: Mapping[str, Sequence[str]]
    with_other: Collection[str] = ()
    measures: Sequence[str] = ()
    windows: Sequence[str] = ("7d", "30d", "90d", "365d")
    categories: Collection[str] = ("touchpoint",)
    settings: AnnotationSettings = field(default_factory=AnnotationSettings)
    span_days: float = 730.0
    rare: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def long(self) -> str:
        """The longest window."""
        return str(Duration.parse(self.windows[-1]))

    @property
    def middle(self) -> str:
        """A window long enough to hold a few events of most customers."""
        return str(Duration.parse(self.windows[len(self.windows) // 2]))

    @property
    def recent(self) -> str:
        """The window before `middle`; the same where there is only one."""
        return str(Duration.parse(self.windows[max(0, len(self.windows) // 2 - 1)]))

    @property
    def pair(self) -> str | None:
        """The recent and the middle window, to compare; None where there is only one."""
        return None if self.recent == self.middle else f"{self.recent}/{self.middle}"

    def most(self, column: str, n: int) -> list[str]:
        """Give plain selectors of the most frequent values of a column."""
        values = self.frequent.get(column, self.vocabularies.get(column, ()))
        return [plain_selector(column, value) for value in values[:n]]

    def has(self, values: Sequence[str], column: str = "touchpoint") -> bool:
        """Tell whether one of some values of a column occurs."""
        found = {*self.frequent.get(column, self.vocabularies.get(column, ())), *self.rare.get(column, ())}
        return not found.isdisjoint(values)


class Lack(NamedTuple):
    """Something that a family looks at and a log does not hold.

    Parameters
    ----------
    what : str
        What there are no columns of.
    why : str
        What is missing.
    """

    what: str
    why: str


#: What a family makes of a log: columns, names of `cxml.features.custom.OWN`, and what it would have looked at besides.
Chosen = Iterator[Aggregate | str | Lack]


def _basic(log: Holdings) -> Chosen:
    shown = {name: log.vocabularies[name] for name in ("touchpoint", "channel", "stage") if name in log.vocabularies}
    yield from default_spec(shown, log.measures, log.windows, with_other=log.with_other)


def _rhythm(log: Holdings) -> Chosen:
    for window in dict.fromkeys((log.middle, log.long)):
        for statistic in ("gap_mean", "gap_std", "longest_gap", "burstiness"):
            yield Aggregate(statistic, "all", window)
        yield Aggregate("max", "streak", window)
    yield Aggregate("last", "gap", log.long)
    yield Aggregate("mean", "session_position", log.middle)
    yield Aggregate("ever", "all")
    if log.has(log.settings.activity):
        yield Aggregate("p_alive", "active=yes")
        yield Aggregate("days_since", "active=yes")
        yield Aggregate("ever", "active=yes")
    else:
        yield Aggregate("p_alive", "all")


def _trend(log: Holdings) -> Chosen:
    windows = [str(Duration.parse(window)) for window in log.windows]
    for short, long in pairwise(windows):
        yield Aggregate("ratio", "all", f"{short}/{long}")
    if log.pair:
        for selector in log.most("touchpoint", _MANY):
            yield Aggregate("ratio", selector, log.pair)
        if "value" in log.measures:
            yield Aggregate("ratio", "value", log.pair)
    else:
        yield Lack("recent windows against longer ones", "there is only one window")
    yield Aggregate("change", "all", log.recent)
    yield Aggregate("acceleration", "all", log.recent)
    yield Aggregate("rate", "all", log.middle)
    yield Aggregate("decay", "all", log.recent)
    for selector in log.most("touchpoint", _FEW):
        yield Aggregate("decay", selector, log.recent)
    if "value" in log.measures:
        yield Aggregate("decay", "value", log.recent)
    if log.span_days > 365 + 30:
        yield Aggregate("lag", "all", "30d/365d")
    else:
        yield Lack("the same month a year ago", "the log is too short")


def _mix(log: Holdings) -> Chosen:
    for window in dict.fromkeys((log.middle, log.long)):
        for column in ("touchpoint", "channel"):
            if column in log.vocabularies:
                yield Aggregate("entropy", column, window)
    for column in ("touchpoint", "channel", "stage"):
        for selector in log.most(column, _FEW):
            yield Aggregate("share", selector, log.middle)
    if "channel" not in log.vocabularies:
        yield Lack("channels", "no channel")
    if "stage" not in log.vocabularies:
        yield Lack("stages", "no journeys.stages")
    for selector in ("daypart=night", "daypart=evening", "weekend=yes"):
        yield Aggregate("share", selector, log.long)


def _service(log: Holdings) -> Chosen:
    yield from _contacts(log)
    yield from _cases(log)
    yield from _promises(log)
    if log.has(log.settings.interventions) and log.has(log.settings.activity):
        yield Aggregate("mean", "response", log.long)
        yield Aggregate("last", "response", log.long)
    else:
        yield Lack("responses to interventions", _unnamed(log, "interventions", "activity"))


def _contacts(log: Holdings) -> Chosen:
    if not log.has(log.settings.contacts):
        yield Lack("contacts", _unnamed(log, "contacts"))
        return
    contacts = "contact=yes"
    yield Aggregate("days_since", contacts)
    for window in dict.fromkeys(str(Duration.parse(window)) for window in log.windows):
        yield Aggregate("count", contacts, window)
    for window in dict.fromkeys((log.middle, log.long)):
        yield Aggregate("mean", "repeat_contact", window)
        yield Aggregate("mean", "first_contact_resolved", window)
    yield Aggregate("share", contacts, log.middle)
    if log.pair:
        yield Aggregate("ratio", contacts, log.pair)
    if log.settings.usual_duration:
        yield Aggregate("mean", f"handle_ratio@{contacts}", log.middle)
        for window in dict.fromkeys((log.middle, log.long)):
            yield Aggregate("mean", f"duration@{contacts}", window)
    else:
        yield Lack("handle times", "no duration")
    if log.has(log.settings.self_service, "channel"):
        yield Aggregate("sum", "escalation", log.middle)
    elif log.settings.self_service and "channel" in log.vocabularies:
        yield Lack("contacts after self-service", "journeys.self_service names no channel that occurs")
    else:
        yield Lack("contacts after self-service", "no channel with a name of self-service, such as web, app, bot")


def _cases(log: Holdings) -> Chosen:
    if "resolved" in log.measures:
        yield Aggregate("count", "resolved<1", log.middle)
        yield Aggregate("days_since", "resolved<1")
    else:
        yield Lack("what was left unresolved", "no resolved")
    if "case_id" not in log.categories:
        yield Lack("open cases and hand-offs", "no case_id")
        return
    for measure in ("open_cases", "oldest_open_case"):
        yield Aggregate("last", measure, log.long)
    yield Aggregate("max", "case_age", log.middle)
    if "channel" in log.vocabularies:
        yield Aggregate("mean", "handoff", log.middle)
    else:
        yield Lack("hand-offs", "no channel")


def _promises(log: Holdings) -> Chosen:
    """Choose columns of lateness, and what is overdue at the cutoff."""
    if PROMISE not in log.measures:
        yield Lack("promises", "no promised time")
        return
    for window in dict.fromkeys((log.middle, log.long)):
        yield Aggregate("mean", "lateness", window)
        yield Aggregate("count", "late=yes", window)
    yield Aggregate("max", "lateness", log.long)
    yield Aggregate("last", "lateness", log.long)
    yield Aggregate("days_since", "late=yes")
    if log.settings.promises:
        yield from OVERDUE
    else:
        yield Lack("overdue promises", "journeys.promises does not say by what a promise is kept")


def _unnamed(log: Holdings, *settings: str) -> str:
    """Say which of the project's words name no touchpoint that occurs."""
    missing = [f"journeys.{name}" for name in settings if not log.has(getattr(log.settings, name))]
    return f"{' and '.join(missing)} name{'s' if len(missing) == 1 else ''} no touchpoint that occurs"


def _feedback(log: Holdings) -> Chosen:
    yield from _answers(log)
    if log.has(log.settings.asked):
        yield Aggregate("ever", "asked=yes")
        yield Aggregate("days_since", "asked=yes")
        if log.has(log.settings.surveys):
            yield from SURVEYS
    elif "score" in log.measures:
        yield Lack("being asked", "no satisfaction.asked that occurs")


def _answers(log: Holdings) -> Chosen:
    if "score" not in log.measures:
        yield Lack("scores", "no score")
        return
    for statistic in ("last2", "slope", "std"):
        yield Aggregate(statistic, "score", log.long)
    if log.settings.scale is not None:
        for band in log.vocabularies.get("score_band", ()):
            yield Aggregate("count", plain_selector("score_band", band), log.long)
            yield Aggregate("days_since", plain_selector("score_band", band))
    else:
        yield Lack("bands of the score", "no satisfaction, which says the scale")
    if not log.has(log.settings.surveys):
        yield Lack("reactions to surveys", "no satisfaction with a touchpoint that occurs")
    elif not log.has(log.settings.contacts):
        yield Lack("reactions to surveys", _unnamed(log, "contacts"))
    else:
        yield Aggregate("mean", "reaction", log.long)


def _rfm(log: Holdings) -> Chosen:
    if log.settings.activity and not log.has(log.settings.activity):
        yield Lack("activity", _unnamed(log, "activity"))
        return
    yield from (name for name in RFM if name not in OF_VALUE or "value" in log.measures)
    if "value" not in log.measures:
        yield Lack("monetary value", "no value")


def _amount(log: Holdings) -> Chosen:
    amounts = [measure for measure in log.measures if measure not in ("score", "resolved")]
    if not amounts:
        yield Lack("amounts", "no value, no duration and no further measure")
    for measure in amounts:
        for statistic in ("std", "slope", "last2", "first"):
            yield Aggregate(statistic, measure, log.long)
    if "value" in log.measures:
        yield Aggregate("count", "value<0", log.middle)


def _shape(log: Holdings) -> Chosen:
    for pair in log.vocabularies.get("transition", ()):
        yield Aggregate("count", plain_selector("transition", pair), log.middle)
    yield Aggregate("sum", "loop", log.middle)
    if log.settings.surprise is not None:
        for statistic in ("mean", "max", "last"):
            yield Aggregate(statistic, "surprise", log.middle)


def _likeness(log: Holdings) -> Chosen:
    for window in dict.fromkeys((log.recent, log.middle, log.long)):
        yield Aggregate("mean", "likeness", window)
    yield Aggregate("last", "likeness", log.long)
    for statistic in ("min", "max"):
        yield Aggregate(statistic, "likeness", log.middle)
    if "likeness" not in log.measures:  # one of the log's own has no table that tells of a path
        yield Aggregate("last", "likeness_path", log.long)
        yield Aggregate("max", "likeness_path", log.middle)


def _peers(_: Holdings) -> Chosen:
    yield from ()  # their columns are no aggregates of events: see `cxml.features.peers`


#: Families that are learned from outcomes, and so come with training only.
FROM_OUTCOMES = ("likeness", "peers")

#: Every family, by name: what it looks at, and how its columns are chosen.
FAMILIES: Mapping[str, tuple[str, Callable[[Holdings], Chosen]]] = MappingProxyType(
    {
        "basic": ("how often, how recently, how much, by touchpoint, channel and stage", _basic),
        "rhythm": ("gaps, bursts and streaks, and the odds that the customer is still there", _rhythm),
        "trend": ("recent windows against longer ones and against the customer's own habit", _trend),
        "mix": ("how events spread over touchpoints, channels, stages and times of day", _mix),
        "service": ("contacts repeated or resolved, open cases, promises kept late, responses", _service),
        "feedback": ("how scores moved, and what followed an answer", _feedback),
        "rfm": ("recency, frequency, monetary value, and where the customer stands", _rfm),
        "amount": ("spread and slope of values, durations and further measures", _amount),
        "shape": ("what follows what: transitions, loops, unusual steps", _shape),
        "likeness": ("steps that are typical of journeys that ended badly, learned from outcomes", _likeness),
        "peers": ("how customers of the same attributes fared, learned from outcomes", _peers),
    }
)


def check_families(names: Sequence[str]) -> tuple[str, ...]:
    """Refuse a family that does not exist.

    Raises
    ------
    ConfigError
        With the nearest name.

    Examples
    --------
    >>> check_families(["basic", "trend"])
    ('basic', 'trend')
    """
    if isinstance(names, str):
        raise ConfigError(f"families must be a list, such as [{names}]")
    for name in names:
        if name not in FAMILIES:
            raise ConfigError(f"unknown family of features '{name}'{nearest(str(name), FAMILIES)}")
    return tuple(dict.fromkeys(names))


def choose_columns(log: Holdings, families: Sequence[str], columns: Sequence[Aggregate] = ()) -> tuple[Aggregate, ...]:
    """Choose the columns of some families, and add some by name.

    Parameters
    ----------
    log : Holdings
    families : sequence of str
        Names of `FAMILIES`.
    columns : sequence of Aggregate

    Returns
    -------
    tuple of Aggregate
        In the order of the families; none twice.

    Examples
    --------
    >>> log = Holdings({"touchpoint": ["call"]}, {"touchpoint": ["call"]}, windows=["30d"])
    >>> [a.name for a in choose_columns(log, ["mix"])][:2]
    ['entropy__touchpoint__30d', 'share__touchpoint=call__30d']
    """
    made = [one for name in check_families(families) for one in FAMILIES[name][1](log)]
    chosen = [one for one in made if isinstance(one, Aggregate)]
    return tuple(dict.fromkeys([*chosen, *columns]))


def choose_own(log: Holdings, families: Sequence[str]) -> tuple[str, ...]:
    """Choose the columns of some families that are said of the customer at a cutoff, and are no statistic of events.

    Parameters
    ----------
    log : Holdings
    families : sequence of str
        Names of `FAMILIES`.

    Returns
    -------
    tuple of str
        Names of `cxml.features.custom.OWN`.

    Examples
    --------
    >>> log = Holdings({"touchpoint": ["order"]}, {"touchpoint": ["order"]}, measures=["value"])
    >>> choose_own(log, ["basic", "rfm"])[:3]
    ('rfm_recency', 'rfm_frequency', 'rfm_monetary')
    """
    made = (one for name in check_families(families) for one in FAMILIES[name][1](log))
    return tuple(one for one in made if isinstance(one, str))


def lacking(log: Holdings, families: Sequence[str]) -> list[str]:
    """Say what some families would look at and a log does not hold.

    Parameters
    ----------
    log : Holdings
    families : sequence of str
        Names of `FAMILIES`.

    Returns
    -------
    list of str
        A line for each family that has no columns of something.

    Examples
    --------
    >>> log = Holdings({"touchpoint": ["call"]}, {"touchpoint": ["call"]}, windows=["30d"])
    >>> lacking(log, ["basic", "feedback"])
    ['features: the family feedback has no columns: of scores (no score)']
    """
    notes = []
    for name in check_families(families):
        made = list(FAMILIES[name][1](log))
        lacks = [one for one in made if isinstance(one, Lack)]
        if lacks:
            listed = ", ".join(f"of {lack.what} ({lack.why})" for lack in lacks)
            none = len(lacks) == len(made)
            notes.append(f"features: the family {name} has no columns{':' if none else ''} {listed}")
    return notes


def annotations_of(aggregates: Sequence[Aggregate]) -> set[str]:
    """Give the annotations that columns look at, and those with which they share what is learned."""
    from cxml.features.selectors import atoms

    used = {aggregate.measure or "" for aggregate in aggregates} | {aggregate.column for aggregate in aggregates}
    used |= {atom.column for aggregate in aggregates for atom in atoms(aggregate.condition)}
    found = {name for name in used if name in ANNOTATIONS}
    return found | {need for name in found for need in ANNOTATIONS[name].needs if need in ANNOTATIONS}
