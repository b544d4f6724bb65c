"""Learning a feature plan: which values and measures the training events hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.config import playbook_touchpoints
from cxml.errors import ConfigError, DataError, ended, nearest
from cxml.features.alive import fit_alive, rhythms
from cxml.features.annotate import fit_transitions, fit_usual_durations
from cxml.features.annotations import ANNOTATIONS, AnnotationSettings, LikenessTable, score_bands
from cxml.features.catalogue import (
    FROM_OUTCOMES,
    Holdings,
    annotations_of,
    check_families,
    choose_columns,
    choose_own,
    lacking,
)
from cxml.features.custom import OWN, is_registered, user_features
from cxml.features.matrix import select_events
from cxml.features.modules import load_modules
from cxml.features.outcomes import MOST_TOUCHPOINTS, Known, demand_outcomes, learn_likeness, learn_peers
from cxml.features.peers import PeerTable
from cxml.features.plan import Alive, FeaturePlan
from cxml.features.promises import OVERDUE
from cxml.features.rfm import LEARNED, OF_VALUE, fit_rfm
from cxml.features.selectors import atoms, plain_selector
from cxml.features.spec import OTHER, STATISTICS, Aggregate
from cxml.features.surveys import SURVEYS
from cxml.journeys.block import Coded, EventBlock
from cxml.journeys.schema import NUMBER_COLUMNS, PROMISE, TEXT_COLUMNS
from cxml.times import DAY_US, format_instant

if TYPE_CHECKING:
    from cxml.config import ProjectConfig
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: Which events count: all, or those of a mask.
Chosen = slice | NDArray[np.bool_]

#: Transitions that get a value of their own.
_TRANSITIONS = 10
#: Values of a category that are told apart where they are counted, at most.
_TOLD_APART = 1_000
_SELF_SERVICE = re.compile(r"\b(app|web|website|online|self[-_ ]?service|portal|bot|chatbot|ivr|kiosk|atm)\b")
#: Values of annotations that are always the same.
FIXED_WORDS: dict[str, tuple[str, ...]] = {
    "daypart": ("afternoon", "evening", "morning", "night"),
    "weekend": ("no", "yes"),
    "weekday": ("fri", "mon", "sat", "sun", "thu", "tue", "wed"),
    "hour": tuple(f"{hour:02}" for hour in range(24)),
    "contact": ("no", "yes"),
    "active": ("no", "yes"),
    "asked": ("no", "yes"),
    "late": ("no", "yes"),
    "value_sign": ("negative", "positive", "zero"),
}
#: Settings that annotations need and only the user can give: what they are, their key, and where Python takes them.
_EXPLAINED: Mapping[str, tuple[str, str, str]] = {
    "contacts": ("the touchpoints that are contacts", "journeys.contacts", "contacts of read_journeys"),
    "activity": ("the touchpoints that are activity", "journeys.activity", "activity of read_journeys"),
    "interventions": (
        "the touchpoints that are actions of yours",
        "journeys.interventions",
        "interventions of read_journeys or JourneyFeatures",
    ),
    "self_service": (
        "the channels in which customers help themselves",
        "journeys.self_service",
        "self_service of read_journeys",
    ),
    "surveys": ("the touchpoints that carry answers", "satisfaction.touchpoint", "surveys of JourneyFeatures"),
    "asked": ("the touchpoints of being asked", "satisfaction.asked", "asked of JourneyFeatures"),
    "scale": ("the lowest and the highest score", "satisfaction.kind", "scale of JourneyFeatures"),
}
#: Settings that are learned from the log, and what from.
_LEARNED_FROM = {"usual_duration": "duration", "transitions": "event after another one"}
#: Columns of a log that annotations may need.
_LOG_COLUMNS = frozenset({*TEXT_COLUMNS, *NUMBER_COLUMNS, "resolved", PROMISE})
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
        Names of registered user features, and of those in `cxml.features.custom.OWN`.
    interventions : sequence of str
        Touchpoints that are actions taken to keep the customer, where the journeys name none.
    surveys : sequence of str
        Touchpoints that carry a score.
    scale : (float, float), optional
        Lowest and highest score.
    asked : sequence of str
        Touchpoints by which customers are asked in a survey.
    max_columns : int, optional
        At most so many columns, those of attributes and of peers among them: those of the least frequent touchpoints
        and channels are left out. None: no limit.
    """

    windows: Sequence[str]
    max_values: int = 40
    families: Sequence[str] = ("basic",)
    columns: Sequence[Aggregate] = ()
    custom: Sequence[str] = ()
    interventions: Sequence[str] = ()
    surveys: Sequence[str] = ()
    scale: tuple[float, float] | None = None
    asked: Sequence[str] = ()
    max_columns: int | None = 2000

    @classmethod
    def from_config(cls, config: ProjectConfig) -> Choice:
        """Read what a project file wants, and run the files of the user's own features that it names.

        Parameters
        ----------
        config : ProjectConfig

        Returns
        -------
        Choice

        Raises
        ------
        ConfigError
            If a family or a column does not exist, a file of features fails, or a playbook that is needed cannot be
            read.
        """
        load_modules(config)
        survey = config.satisfaction
        columns, custom = split_columns(config.features.columns)
        asks_for_responses = "service" in config.features.families or "response" in annotations_of(columns)
        return cls(
            windows=[str(window) for window in config.features.windows],
            max_values=config.features.max_values,
            families=check_families(config.features.families),
            columns=columns,
            custom=custom,
            interventions=tuple(config.journeys.interventions)
            or (playbook_touchpoints(config) if asks_for_responses else ()),
            surveys=() if survey is None else (survey.touchpoint,),
            scale=None if survey is None else survey.bounds,
            asked=() if survey is None or survey.asked is None else (survey.asked,),
            max_columns=config.features.max_columns,
        )


def split_columns(names: Sequence[str | Aggregate]) -> tuple[list[Aggregate], tuple[str, ...]]:
    """Tell columns that are statistics of events from the names of functions.

    Parameters
    ----------
    names : sequence of str or Aggregate
        Columns as somebody wrote them.

    Returns
    -------
    columns : list of Aggregate
    custom : tuple of str
        Names of registered user features, and of those of the package.

    Raises
    ------
    ConfigError
        If a name is neither.

    Examples
    --------
    >>> split_columns(["count__all__30d", "overdue_promises"])
    ([Aggregate(statistic='count', what='all', window='30d')], ('overdue_promises',))
    """
    columns, custom = [], []
    for name in names:
        if isinstance(name, Aggregate):
            columns.append(name)
        elif is_registered(name):
            custom.append(name)
        elif "__" not in name and name not in STATISTICS:
            raise ConfigError(
                f"no feature is called '{name}'{ended(nearest(name, (*OWN, *user_features())))} A statistic of events "
                "is written statistic__what__window; a function of yours is registered by a file of features.modules"
            )
        else:
            columns.append(Aggregate.parse(name))
    return columns, tuple(custom)


def needs_outcomes(choice: Choice) -> bool:
    """Tell whether something that is wanted is learned from outcomes.

    Examples
    --------
    >>> needs_outcomes(Choice(["30d"], families=["basic", "peers"])), needs_outcomes(Choice(["30d"]))
    (True, False)
    """
    return not {*choice.families, *annotations_of(choice.columns)}.isdisjoint(FROM_OUTCOMES)


def learn_plan(
    log: JourneyLog,
    choice: Choice,
    until: int | None = None,
    outcomes: Mapping[str, Known] | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> FeaturePlan:
    """Choose columns and vocabularies from the events known before ``until``.

    Parameters
    ----------
    log : JourneyLog
        The journeys.
    choice : Choice
        What is wanted.
    until : int, optional
        UTC microseconds; default: all events count.
    outcomes : mapping of str to Known, optional
        What became of the customers of training, by target, for the families that are learned from it. Where nothing
        is known of any, these have no columns.
    tell : callable
        Is told, a line each, of what families that are asked for look at and the log does not hold.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    ConfigError
        If a column looks at something the log does not hold, or is learned from outcomes and there are none.
    DataError
        If there is no event before ``until``.
    """
    attributes = tuple(log.config.attributes)
    some = log.events.block(0)  # tells which columns there are
    counts, n_events = _count_values(log, (*_SELECTORS, *attributes), until)
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
    of_customers = () if table is None else tuple(table.attributes)
    asked = _asked_values(choice.columns, (*_SELECTORS, *attributes))
    fitted = {
        name: tuple(sorted({*top_values(n, choice.max_values), *(asked.get(name, set()) & n.keys())}))
        for name, n in counts.items()
        if n or name in (*attributes, *of_customers)
    }
    stages = {touchpoint: stage for stage, touchpoints in log.config.stages.items() for touchpoint in touchpoints}
    with_other = {name for name in _SELECTORS if len(fitted.get(name, ())) < len(counts[name])}
    settings, words = _annotations(log, counts["channel"], choice, until)
    words["previous"] = fitted.get("touchpoint", ())
    _refuse_unknown_measures(choice.columns, (*some.measures, *log.config.measures))
    _refuse_unexplained(choice.columns, settings, {*some.measures, *some.categories, *log.config.measures})
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
        measures=_measures(log, some, until),
        windows=choice.windows,
        categories=set(some.categories),
        settings=settings,
        span_days=((log.last if until is None else until) - log.first) / DAY_US,
        rare={name: counts[name].keys() - {*fitted.get(name, ())} for name in _SELECTORS},
    )
    custom = _custom(holdings, choice)
    chosen = choose_columns(holdings, choice.families, choice.columns)
    plain = FeaturePlan((), {**words, **fitted}, stages, attributes, customer_attributes=of_customers)
    learned = (annotations_of(chosen) | set(choice.families)) & set(FROM_OUTCOMES) - set(log.config.measures)
    outcomes = demand_outcomes(outcomes, learned)
    peers, without = _peers(log, plain, outcomes, counts, choice, until) if "peers" in learned else ((), [])
    n_others = len(custom) + len(attributes) + len(of_customers) + len(peers)
    chosen, left_out = _within(chosen, choice, {name: counts[name] for name in shown if name in counts}, n_others)
    used = annotations_of(chosen) - set(log.config.measures)  # the log's own come first
    notes = [*lacking(holdings, choice.families), *_silent(choice.columns, holdings), *left_out, *without]
    for note in notes:
        tell(note)
    if "likeness" in learned:
        settings = replace(settings, likeness=_likeness(log, choice, counts["touchpoint"], outcomes, until))
        if settings.likeness is None:
            tell(_nothing_known("likeness", _end(log, until)))
            chosen = tuple(a for a in chosen if "likeness" not in annotations_of([a]))
            used = annotations_of(chosen) - set(log.config.measures)
    if set(custom) & LEARNED.keys():
        settings = replace(settings, rfm=fit_rfm(log.blocks(), _end(log, until), settings.activity))
        custom = _learned(custom, choice, settings, tell)
    bare = FeaturePlan((), {**words, **fitted}, stages, annotations=settings)
    chosen, alive = _alive(log, chosen, choice.columns, bare, counts["touchpoint"], until, tell)
    plan = FeaturePlan(
        aggregates=chosen,
        vocabularies=fitted | {name: values for name, values in words.items() if name in used and name not in fitted},
        stages=stages,
        attributes=attributes,
        customer_attributes=of_customers,
        custom=custom,
        alive=alive,
        annotations=_needed(settings, used | set(custom)) if used or set(custom) & OWN.keys() else None,
        wide=_wide(chosen, counts, fitted, attributes),
        peers=peers,
        further_measures=tuple(log.config.measures) if set(custom) - OWN.keys() else None,
    )
    if not plan.columns and "peers" not in learned:
        raise ConfigError(
            f"no features: the log holds nothing that the families {', '.join(choice.families) or '(none)'} look at; "
            "add basic, or name columns"
            + (f" ({'; '.join(n.removeprefix('features: ') for n in notes)})" if notes else "")
        )
    return plan


def _peers(
    log: JourneyLog,
    plain: FeaturePlan,
    outcomes: Mapping[str, Known],
    counts: Mapping[str, Counter[str]],
    choice: Choice,
    until: int | None,
) -> tuple[tuple[PeerTable, ...], list[str]]:
    """Learn rates among the customers of the same attributes, and say so where there are none."""
    names = (*plain.attributes, *plain.customer_attributes)
    peers_by = [name for name in names if 0 < len(counts[name]) <= choice.max_values]
    if not peers_by:
        return (), [
            "features: the family peers has no columns: of rates among peers (no attribute has from 1 to "
            f"{choice.max_values} values)"
        ]
    peers = learn_peers(log, plain, outcomes, peers_by, _end(log, until))
    return peers, [] if peers else [_nothing_known("peers", _end(log, until))]


def _nothing_known(family: str, until: int) -> str:
    return f"features: the family {family} has no columns: too few outcomes were known before {format_instant(until)}"


def _custom(log: Holdings, choice: Choice) -> tuple[str, ...]:
    """Give the user features, and the package's own that the log is good for."""
    _refuse_own(log, choice.custom)
    return tuple(dict.fromkeys((*choice.custom, *choose_own(log, choice.families))))


def _refuse_own(log: Holdings, names: Sequence[str]) -> None:
    """Refuse features of the package that are asked for by name and lack what they look at."""
    for name in names:
        if name in OVERDUE and not log.settings.promises:
            raise ConfigError(
                f"feature '{name}' needs to know by what a promise is kept; name it in journeys.promises, such as "
                "promises: [delivered]"
            )
        if name in SURVEYS and not (log.settings.asked and log.settings.surveys):
            raise ConfigError(
                f"feature '{name}' needs to know how customers are asked and how they answer; name it in the project "
                "file: satisfaction.asked and satisfaction.touchpoint"
            )
        if name in OF_VALUE and "value" not in log.measures:
            raise ConfigError(f"feature '{name}' needs values, and the log holds none; take it out")


def _learned(
    custom: Sequence[str], choice: Choice, settings: AnnotationSettings, tell: Callable[[str], object]
) -> tuple[str, ...]:
    """Leave out what nobody tells: cut points where nobody was active, a rhythm where nobody came three times."""
    missing = [name for name in custom if name in LEARNED and LEARNED[name] not in settings.rfm]
    why = "too few customers were active, or on three days, before the end of training"
    for name in missing:
        if name in choice.custom:
            raise ConfigError(f"feature '{name}' cannot be learned: {why}; take it out")
    if missing:
        tell(f"features: {', '.join(missing)} left out: {why}")
    return tuple(name for name in custom if name not in missing)


def _within(
    columns: Sequence[Aggregate], choice: Choice, counts: Mapping[str, Counter[str]], n_others: int
) -> tuple[tuple[Aggregate, ...], list[str]]:
    """Leave out columns of the least frequent values until there are few enough; columns asked for by name stay."""
    excess = 0 if choice.max_columns is None else len(columns) + n_others - choice.max_columns
    if excess <= 0:
        return tuple(columns), []
    named = set(choice.columns)
    speaking: dict[tuple[int, str, str], set[Aggregate]] = {}
    for column in columns:
        values = _values_of(column, counts)
        if values and column not in named:
            speaking.setdefault(min(values), set()).add(column)
    gone: set[Aggregate] = set()
    left_out = []
    for rarest in sorted(speaking):
        if len(gone) < excess:
            gone |= speaking[rarest]
            left_out.append(plain_selector(*rarest[1:]))
    if len(gone) < excess:
        raise ConfigError(
            f"features: {len(columns) + n_others - len(gone)} columns speak of no single touchpoint or channel, or are "
            f"asked for by name, and max_columns is {choice.max_columns}. Raise it, or choose fewer families or windows"
        )
    return tuple(column for column in columns if column not in gone), [
        f"features: {len(gone)} columns are left out, of the least frequent values, as max_columns is "
        f"{choice.max_columns}: {', '.join(left_out)}"
    ]


def _values_of(column: Aggregate, counts: Mapping[str, Counter[str]]) -> list[tuple[int, str, str]]:
    """Give the values that a column speaks of, with how often each occurs."""
    return [
        (counts[atom.column][atom.value], atom.column, atom.value)
        for atom in atoms(column.condition)
        if isinstance(atom.value, str) and atom.value in counts.get(atom.column, ())
    ]


def _silent(columns: Sequence[Aggregate], log: Holdings) -> Iterator[str]:
    """Say which columns that are asked for by name have no value anywhere, for want of a column of the log."""
    held = {*log.measures, *log.categories}
    for column in columns:
        for name in sorted(annotations_of([column]) - held):
            for need in ANNOTATIONS[name].needs:
                if need in _LOG_COLUMNS and need not in held:
                    yield f"features: {column.name} is empty throughout: no {need}, of which {name} is told"


def _refuse_unknown_measures(columns: Sequence[Aggregate], held: Sequence[str]) -> None:
    """Refuse a column of a measure that is neither the log's nor an annotation: it would be constant."""
    known = {*held, *(name for name, one in ANNOTATIONS.items() if one.kind == "measure")}
    for column in columns:
        numbers = [atom.column for atom in atoms(column.condition) if not isinstance(atom.value, str)]
        for measure in (*([column.measure] if column.measure else []), *numbers):
            if measure not in known:
                raise ConfigError(
                    f"feature '{column.name}': the log has no measure '{measure}'{nearest(measure, known)}"
                )


def _refuse_unexplained(columns: Sequence[Aggregate], settings: AnnotationSettings, held: Collection[str]) -> None:
    """Refuse a column of annotations whose words nobody explained, or whose values nothing in the log tells."""
    for column in columns:
        for name in sorted(annotations_of([column]) - set(held)):
            for need in ANNOTATIONS[name].needs:
                if need in _EXPLAINED and not getattr(settings, need):
                    what, key, argument = _EXPLAINED[need]
                    raise ConfigError(
                        f"feature '{column.name}' looks at {name}, which needs {what}; name them in the project file: "
                        f"{key} (in Python: {argument})"
                    )
                if need in _LEARNED_FROM and not getattr(settings, need):
                    raise ConfigError(
                        f"feature '{column.name}' looks at {name}, and the log has no {_LEARNED_FROM[need]} to learn "
                        "it from; take it out"
                    )


def _annotations(
    log: JourneyLog, channels: Counter[str], choice: Choice, until: int | None
) -> tuple[AnnotationSettings, dict[str, tuple[str, ...]]]:
    """Give the words of a log a meaning, and the values of the categories that follow from it."""
    learned = set(choice.families) - {"basic", *FROM_OUTCOMES} or annotations_of(choice.columns)
    settings = AnnotationSettings(
        contacts=tuple(log.config.contacts),
        interventions=tuple(log.config.interventions) or tuple(choice.interventions),
        promises=tuple(log.config.promises),
        activity=tuple(log.config.activity),
        surveys=tuple(choice.surveys),
        asked=tuple(choice.asked),
        self_service=_self_service(channels) if log.config.self_service is None else tuple(log.config.self_service),
        session_gap=str(log.config.session_gap),
        repeat_within=str(log.config.repeat_within),
        respond_within=str(log.config.respond_within),
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


def _self_service(channels: Counter[str]) -> tuple[str, ...]:
    """Guess the channels in which customers help themselves, by their names."""
    return tuple(name for name in sorted(channels) if _SELF_SERVICE.search(name.lower()))


def _needed(settings: AnnotationSettings, used: set[str]) -> AnnotationSettings:
    """Leave out what was learned for annotations nobody looks at."""
    return replace(
        settings,
        transitions=settings.transitions if "transition" in used else (),
        surprise=settings.surprise if "surprise" in used else None,
        usual_duration=settings.usual_duration if "handle_ratio" in used else {},
        asked=settings.asked if used & {"asked", *SURVEYS} else (),
    )


def _likeness(
    log: JourneyLog, choice: Choice, touchpoints: Counter[str], outcomes: Mapping[str, Known], until: int | None
) -> LikenessTable | None:
    names = top_values(touchpoints, MOST_TOUCHPOINTS)
    last_low = None if choice.scale is None else score_bands(choice.scale)[0]
    return learn_likeness(log, outcomes, names, _end(log, until), last_low)


def _end(log: JourneyLog, until: int | None) -> int:
    """Give the moment before which everything counts."""
    return log.last + 1 if until is None else until


def _alive(
    log: JourneyLog,
    chosen: tuple[Aggregate, ...],
    asked: Sequence[Aggregate],
    plain: FeaturePlan,
    touchpoints: Counter[str],
    until: int | None,
    tell: Callable[[str], object],
) -> tuple[tuple[Aggregate, ...], Alive | dict[str, Alive] | None]:
    """Learn the parameters of each ``p_alive`` from the events it looks at; leave out those that nobody tells of.

    Parameters
    ----------
    chosen, asked : sequences of Aggregate
        All columns, and those of them that are asked for by name.
    plain : FeaturePlan
        What the log holds, without columns.
    """
    found: dict[str, Alive] = {}
    for column in (a for a in chosen if a.statistic == "p_alive"):
        one = replace(plain, aggregates=(column,), alive=(1.0, 1.0, 1.0, 1.0))  # to be learned
        select = None if column.selector == "all" else partial(select_events, one, column)
        learned = fit_alive(rhythms(log.blocks(), _end(log, until), select))
        if learned is not None:
            found[column.selector] = learned
            continue
        few = f"too few customers came back before {format_instant(_end(log, until))} to learn it"
        if column in asked:
            raise ConfigError(f"{column.name}: {few}; take it out")
        tell(f"features: {column.name} is left out: {few}")
    kept = tuple(a for a in chosen if a.statistic != "p_alive" or a.selector in found)
    is_active = plain.annotations is not None and not touchpoints.keys().isdisjoint(plain.annotations.activity)
    usual = "active=yes" if is_active else "all"
    return kept, found[usual] if list(found) == [usual] else found or None


def _asked_values(columns: Sequence[Aggregate], categories: Collection[str]) -> dict[str, set[str]]:
    """Give the values of categories that columns ask for by name."""
    asked: dict[str, set[str]] = {}
    for atom in (atom for column in columns for atom in atoms(column.condition)):
        if atom.column in categories and isinstance(atom.value, str) and atom.value != OTHER:
            asked.setdefault(atom.column, set()).add(atom.value)
    return asked


def _wide(
    columns: Sequence[Aggregate],
    counts: Mapping[str, Counter[str]],
    fitted: Mapping[str, tuple[str, ...]],
    attributes: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """Give what that ``distinct`` and ``entropy`` tell apart, of categories that have more than are fitted."""
    wide = {}
    for name in sorted({a.category for a in columns if a.category is not None}):
        source = "touchpoint" if name == "previous" and name not in fitted else name
        if source in (*_SELECTORS, *attributes) and source in fitted:
            values = tuple(sorted({*top_values(counts[source], _TOLD_APART), *fitted[source]}))
            if values != fitted[source]:
                wide[name] = values
    return wide


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


def _count_values(log: JourneyLog, columns: Sequence[str], until: int | None) -> tuple[dict[str, Counter[str]], int]:
    """Count the values of ``columns``, and the events."""
    if until is None:
        return log.count_values(columns), log.n_events
    counts: dict[str, Counter[str]] = {name: Counter() for name in columns}
    n_events = 0
    for block in log.loose(columns):
        chosen = _chosen(block, until)
        n_events += len(block.time[chosen])
        for name, found in counts.items():
            if name in block.categories:
                found.update(_frequencies(block.categories[name], chosen))
    return counts, n_events


def _measures(log: JourneyLog, some: EventBlock, until: int | None) -> list[str]:
    """Find the measures that hold a number; mostly some events tell of all."""
    found = {name: _holds(values, _chosen(some, until)) for name, values in some.measures.items()}
    missing = [name for name, holds in found.items() if not holds]
    for block in log.loose(missing) if missing else []:
        chosen = _chosen(block, until)
        found |= {name: found[name] or _holds(block.measures[name], chosen) for name in missing}
    return [name for name, holds in found.items() if holds]


def _holds(values: NDArray[np.float64], chosen: Chosen) -> bool:
    return not bool(np.isnan(values[chosen]).all())


def _chosen(block: EventBlock, until: int | None) -> Chosen:
    """Say which events happened and were known before; none is known before it happens."""
    return _before(block.time if block.known is None else block.known, until)


def _before(time: Int64, until: int | None) -> Chosen:
    return slice(None) if until is None else time < until


def _frequencies(coded: Coded, chosen: Chosen) -> Counter[str]:
    codes = coded.codes[chosen]
    counts = np.bincount(np.add(codes, 1, dtype=np.intp), minlength=len(coded.vocabulary) + 1)[1:]
    return Counter({value: int(n) for value, n in zip(coded.vocabulary, counts, strict=True) if n})
