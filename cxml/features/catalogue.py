"""Families of feature columns, each chosen from what a log holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from cxml.errors import ConfigError, nearest
from cxml.features.annotations import ANNOTATIONS, AnnotationSettings
from cxml.features.selectors import plain_selector
from cxml.features.spec import Aggregate, default_spec
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
    """

    vocabularies: Mapping[str, Sequence[str]]
    frequent: Mapping[str, Sequence[str]]
    with_other: Collection[str] = ()
    measures: Sequence[str] = ()
    windows: Sequence[str] = ("7d", "30d", "90d", "365d")
    categories: Collection[str] = ("touchpoint",)
    settings: AnnotationSettings = field(default_factory=AnnotationSettings)
    span_days: float = 730.0

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

    def has(self, touchpoints: Sequence[str]) -> bool:
        """Tell whether one of some touchpoints occurs."""
        return any(name in self.frequent["touchpoint"] for name in touchpoints)


def _basic(log: Holdings) -> Iterator[Aggregate]:
    shown = {name: log.vocabularies[name] for name in ("touchpoint", "channel", "stage") if name in log.vocabularies}
    yield from default_spec(shown, log.measures, log.windows, with_other=log.with_other)


def _rhythm(log: Holdings) -> Iterator[Aggregate]:
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


def _trend(log: Holdings) -> Iterator[Aggregate]:
    windows = [str(Duration.parse(window)) for window in log.windows]
    for short, long in pairwise(windows):
        yield Aggregate("ratio", "all", f"{short}/{long}")
    if log.pair:
        for selector in log.most("touchpoint", _MANY):
            yield Aggregate("ratio", selector, log.pair)
        if "value" in log.measures:
            yield Aggregate("ratio", "value", log.pair)
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


def _mix(log: Holdings) -> Iterator[Aggregate]:
    for window in dict.fromkeys((log.middle, log.long)):
        for column in ("touchpoint", "channel"):
            if column in log.vocabularies:
                yield Aggregate("entropy", column, window)
    for column in ("touchpoint", "channel", "stage"):
        for selector in log.most(column, _FEW):
            yield Aggregate("share", selector, log.middle)
    for selector in ("daypart=night", "daypart=evening", "weekend=yes"):
        yield Aggregate("share", selector, log.long)


def _service(log: Holdings) -> Iterator[Aggregate]:
    if not log.has(log.settings.contacts):
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
    if "resolved" in log.measures:
        yield Aggregate("count", "resolved<1", log.middle)
        yield Aggregate("days_since", "resolved<1")
    if "case_id" in log.categories:
        for measure in ("open_cases", "oldest_open_case"):
            yield Aggregate("last", measure, log.long)
        yield Aggregate("max", "case_age", log.middle)
        if "channel" in log.vocabularies:
            yield Aggregate("mean", "handoff", log.middle)
    if log.settings.usual_duration:
        yield Aggregate("mean", f"handle_ratio@{contacts}", log.middle)
    if log.settings.self_service and "channel" in log.vocabularies:
        yield Aggregate("sum", "escalation", log.middle)


def _feedback(log: Holdings) -> Iterator[Aggregate]:
    if "score" not in log.measures:
        return
    for statistic in ("last2", "slope", "std"):
        yield Aggregate(statistic, "score", log.long)
    if log.settings.scale is not None:
        for band in log.vocabularies.get("score_band", ()):
            yield Aggregate("count", plain_selector("score_band", band), log.long)
            yield Aggregate("days_since", plain_selector("score_band", band))
    if log.has(log.settings.surveys) and log.has(log.settings.contacts):
        yield Aggregate("mean", "reaction", log.long)


def _amount(log: Holdings) -> Iterator[Aggregate]:
    for measure in log.measures:
        if measure in ("score", "resolved"):
            continue
        for statistic in ("std", "slope", "last2", "first"):
            yield Aggregate(statistic, measure, log.long)
    if "value" in log.measures:
        yield Aggregate("count", "value<0", log.middle)


def _shape(log: Holdings) -> Iterator[Aggregate]:
    for pair in log.vocabularies.get("transition", ()):
        yield Aggregate("count", plain_selector("transition", pair), log.middle)
    yield Aggregate("sum", "loop", log.middle)
    if log.settings.surprise is not None:
        for statistic in ("mean", "max", "last"):
            yield Aggregate(statistic, "surprise", log.middle)


def _likeness(log: Holdings) -> Iterator[Aggregate]:
    for window in dict.fromkeys((log.recent, log.middle, log.long)):
        yield Aggregate("mean", "likeness", window)
    yield Aggregate("last", "likeness", log.long)
    for statistic in ("min", "max"):
        yield Aggregate(statistic, "likeness", log.middle)


def _peers(_: Holdings) -> Iterator[Aggregate]:
    yield from ()  # their columns are no aggregates of events: see `cxml.features.peers`


#: Families that are learned from outcomes, and so come with training only.
FROM_OUTCOMES = ("likeness", "peers")

#: Every family, by name: what it looks at, and how its columns are chosen.
FAMILIES: Mapping[str, tuple[str, Callable[[Holdings], Iterator[Aggregate]]]] = MappingProxyType(
    {
        "basic": ("how often, how recently, how much, by touchpoint, channel and stage", _basic),
        "rhythm": ("gaps, bursts and streaks, and the odds that the customer is still there", _rhythm),
        "trend": ("recent windows against longer ones and against the customer's own habit", _trend),
        "mix": ("how events spread over touchpoints, channels, stages and times of day", _mix),
        "service": ("repeated contacts, first contact resolution, open cases, hand-offs", _service),
        "feedback": ("how scores moved, and what followed an answer", _feedback),
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
    chosen = [aggregate for name in check_families(families) for aggregate in FAMILIES[name][1](log)]
    return tuple(dict.fromkeys([*chosen, *columns]))


def annotations_of(aggregates: Sequence[Aggregate]) -> set[str]:
    """Give the annotations that columns look at."""
    from cxml.features.selectors import atoms

    used = {aggregate.measure or "" for aggregate in aggregates} | {aggregate.column for aggregate in aggregates}
    used |= {atom.column for aggregate in aggregates for atom in atoms(aggregate.condition)}
    return {name for name in used if name in ANNOTATIONS}
