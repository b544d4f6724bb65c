"""What can be said of an event from its past: names, sentences, and the settings that give them their meaning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, nearest
from cxml.features.folds import N_FOLDS
from cxml.journeys.stamps import check_zone
from cxml.times import Duration


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing that is said of every event.

    Parameters
    ----------
    name : str
        The column it becomes.
    kind : {"measure", "category"}
        Whether it is a number or one of a few words.
    sentence : str
        What it is, in plain words.
    needs : tuple of str
        Columns of the log without which it is null throughout, and settings without which it has no meaning.
    """

    name: str
    kind: str
    sentence: str
    needs: tuple[str, ...] = ()


def _measure(name: str, sentence: str, *needs: str) -> Annotation:
    return Annotation(name, "measure", sentence, needs)


def _category(name: str, sentence: str, *needs: str) -> Annotation:
    return Annotation(name, "category", sentence, needs)


#: Everything `cxml.features.annotate.annotate` can compute, by name.
ANNOTATIONS: Mapping[str, Annotation] = MappingProxyType(
    {
        annotation.name: annotation
        for annotation in (
            _measure("gap", "days since the customer's previous event"),
            _measure("gap_same", "days since the customer's previous event with the same touchpoint"),
            _measure("session_position", "position of the event in its session, 1 for the first"),
            _measure("session", "number of the customer's session, 1 for the first"),
            _measure(
                "repeat_contact",
                "whether a contact came soon after another one of the same case, or of the customer without a case",
                "contacts",
            ),
            _measure(
                "first_contact_resolved",
                "whether a contact was followed by no other one of the same case, or of the customer without a case",
                "contacts",
            ),
            _measure("case_age", "days since the first event of the case", "case_id"),
            _measure("open_cases", "number of the customer's cases that are begun and not resolved", "case_id"),
            _measure("oldest_open_case", "days since the customer's oldest open case began", "case_id"),
            _measure(
                "handle_ratio",
                "duration over the usual duration of the touchpoint",
                "duration",
                "usual_duration",
            ),
            _measure(
                "handoff",
                "whether the channel differs from that of the previous event of the case",
                "case_id",
                "channel",
            ),
            _measure(
                "escalation",
                "whether a contact with a person came soon after an attempt in self-service",
                "channel",
                "contacts",
                "self_service",
            ),
            _measure("loop", "whether the customer went back to the touchpoint before the last one"),
            _measure("surprise", "how unusual the touchpoint is after the one before it, in bits", "surprise"),
            _measure(
                "likeness",
                "how much more its step occurs in journeys that ended badly (churn, or a low score) than in others, as "
                "log-odds learned from other customers",
                "likeness",
            ),
            _measure(
                "likeness_path",
                "how much more the customer's last five steps up to it occur in journeys that ended badly than in "
                "others, as the sum of their log-odds",
                "likeness",
            ),
            _measure("streak", "number of consecutive calendar days with an event, up to this one"),
            _measure(
                "response",
                "whether an intervention was followed by activity of the customer",
                "interventions",
                "activity",
            ),
            _measure(
                "lateness",
                "days by which the event that keeps a promise came after the promised time, negative where before it",
                "promise",
            ),
            _measure("reaction", "whether an answer to a survey was followed by a contact", "surveys", "contacts"),
            _category("contact", "whether it is a contact with service", "contacts"),
            _category("active", "whether the customer was active", "activity"),
            _category("asked", "whether the customer was asked in a survey", "asked"),
            _category("previous", "touchpoint of the customer's previous event"),
            _category("transition", "touchpoint of the previous event and of this one", "transitions"),
            _category("daypart", "part of the day by local time"),
            _category("weekend", "whether it was Saturday or Sunday by local time"),
            _category("weekday", "day of the week by local time"),
            _category("hour", "hour of the day by local time, from 00 to 23"),
            _category("score_band", "group of the score: dissatisfied, indifferent or satisfied", "score", "scale"),
            _category("late", "whether the event keeps a promise after the promised time", "promise"),
            _category("value_sign", "whether the value is negative, zero or positive", "value"),
        )
    }
)


@dataclass(frozen=True, slots=True)
class TransitionTable:
    """How likely each touchpoint is after each other one.

    Parameters
    ----------
    touchpoints : tuple of str
        Those with a probability of their own, ascending.
    log2_probability : tuple of tuple of float
        ``log2_probability[a][b]`` is log2 P(next is ``b`` | previous is ``a``); the last row and the last column
        stand for all touchpoints that are not named.

    Raises
    ------
    ConfigError
        If the table does not have one row and one column more than there are touchpoints, or a logarithm is
        positive or no number.

    Examples
    --------
    >>> TransitionTable(("call",), ((-0.5, -1.8), (-1.0, -1.0))).log2_probability[0][1]
    -1.8
    """

    touchpoints: tuple[str, ...]
    log2_probability: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.touchpoints) + 1
        if len(set(self.touchpoints)) + 1 != size or [len(row) for row in self.log2_probability] != [size] * size:
            raise ConfigError(
                f"surprise: {size - 1} touchpoints, all different, need a table of {size} rows and {size} columns; "
                "fit it again with fit_transitions"
            )
        if not all(-np.inf < value <= 0.0 for row in self.log2_probability for value in row):
            raise ConfigError("surprise: log2 of a probability is a number not above 0; fit it with fit_transitions")


@dataclass(frozen=True, slots=True)
class LikenessTable:
    """How much more often each step occurs in journeys that ended badly than in those that did not.

    Parameters
    ----------
    touchpoints : tuple of str
        Those with log-odds of their own, ascending.
    log_odds : tuple of tuple of tuple of float
        ``log_odds[fold][a][b]`` is that of ``b`` after ``a``, learned without the customers of the fold (see
        `cxml.features.folds`). The last column stands for all touchpoints that are not named, and so does the last row
        but one; the last row is that of a first event.

    Raises
    ------
    ConfigError
        If a fold does not have one column more than there are touchpoints and two rows more, or a value is no number.

    Examples
    --------
    >>> LikenessTable(("call",), (((0.5, 0.0), (0.1, 0.0), (0.2, 0.0)),) * N_FOLDS).log_odds[0][2][0]
    0.2
    """

    touchpoints: tuple[str, ...]
    log_odds: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        size = len(self.touchpoints) + 1
        shape = [[len(row) for row in fold] for fold in self.log_odds]
        if len(set(self.touchpoints)) + 1 != size or shape != [[size] * (size + 1)] * N_FOLDS:
            raise ConfigError(
                f"likeness: {size - 1} touchpoints, all different, need {N_FOLDS} tables of {size + 1} rows and {size} "
                "columns; fit it again with fit_likeness"
            )
        if not all(-np.inf < value < np.inf for fold in self.log_odds for row in fold for value in row):
            raise ConfigError("likeness: log-odds must be numbers; fit it again with fit_likeness")


@dataclass(frozen=True)
class AnnotationSettings:
    """What the words of the annotations mean for a log.

    Parameters
    ----------
    contacts, activity, interventions, surveys, promises : tuple of str
        Touchpoints that are service contacts, activity of the customer, actions taken to keep the customer,
        answers to surveys, and those by which a promise is kept. Without the last, each event that carries a promised
        time keeps it itself.
    self_service : tuple of str
        Channels in which customers help themselves.
    timezone : str
        Zone of local days and hours.
    session_gap : str
        A session ends when longer than this nothing happens.
    repeat_within : str
        How long after a contact another one counts as a repetition of it.
    respond_within : str
        How long after an intervention or a survey answer something counts as a response to it.
    scale : (float, float), optional
        Lowest and highest score.
    transitions : tuple of str
        Pairs of touchpoints that have a value of their own, each as ``"before>after"``.
    surprise : TransitionTable, optional
        Learned by `cxml.features.annotate.fit_transitions`.
    usual_duration : dict of str to float
        Usual duration by touchpoint, ``""`` for all others; learned by
        `cxml.features.annotate.fit_usual_durations`.
    likeness : LikenessTable, optional
        Learned from outcomes by `cxml.features.outcomes.fit_likeness`.
    asked : tuple of str
        Touchpoints by which a customer is asked in a survey.
    rfm : mapping of str to tuple of float
        Cut points of recency, frequency and monetary value among the customers of training, and their usual gap;
        learned by `cxml.features.rfm.fit_rfm`.

    Raises
    ------
    ConfigError
        If a duration, the time zone, the scale or a transition cannot be understood.

    Examples
    --------
    >>> settings = AnnotationSettings(contacts=("call",), session_gap="45m")
    >>> AnnotationSettings.from_dict(settings.to_dict()) == settings
    True
    """

    contacts: tuple[str, ...] = ()
    activity: tuple[str, ...] = ()
    interventions: tuple[str, ...] = ()
    surveys: tuple[str, ...] = ()
    self_service: tuple[str, ...] = ()
    timezone: str = "UTC"
    session_gap: str = "30m"
    repeat_within: str = "7d"
    respond_within: str = "14d"
    scale: tuple[float, float] | None = None
    transitions: tuple[str, ...] = ()
    surprise: TransitionTable | None = None
    usual_duration: Mapping[str, float] = field(default_factory=dict)
    likeness: LikenessTable | None = None
    promises: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    rfm: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        object.__setattr__(self, "timezone", check_zone(self.timezone))
        for name in ("session_gap", "repeat_within", "respond_within"):
            object.__setattr__(self, name, str(_duration(name, getattr(self, name))))
        object.__setattr__(self, "scale", _scale(self.scale))
        for pair in self.transitions:
            if ">" not in pair[1:-1]:
                raise ConfigError(f"transitions: '{pair}' is no pair of touchpoints; write it as before>after")
        object.__setattr__(self, "usual_duration", _usual(self.usual_duration))
        object.__setattr__(self, "rfm", _cuts(self.rfm))

    @cached_property
    def session_gap_us(self) -> int:
        """``session_gap`` in microseconds."""
        return Duration.parse(self.session_gap).us

    @cached_property
    def repeat_within_us(self) -> int:
        """``repeat_within`` in microseconds."""
        return Duration.parse(self.repeat_within).us

    @cached_property
    def respond_within_us(self) -> int:
        """``respond_within`` in microseconds."""
        return Duration.parse(self.respond_within).us

    @cached_property
    def surprise_bits(self) -> NDArray[np.float64]:
        """``-log2 P(next | previous)`` of the transition table; of shape (0, 0) where there is none."""
        if self.surprise is None:
            return np.empty((0, 0))
        return -np.array(self.surprise.log2_probability, np.float64)

    @cached_property
    def surprise_places(self) -> dict[str, int]:
        """Row and column of each touchpoint in the transition table."""
        return {} if self.surprise is None else {name: i for i, name in enumerate(self.surprise.touchpoints)}

    @cached_property
    def likeness_odds(self) -> NDArray[np.float64]:
        """Log-odds by fold, row and column, with a last row and column of NaN; ``likeness`` must be given."""
        assert self.likeness is not None
        return np.pad(np.array(self.likeness.log_odds), ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)

    @cached_property
    def likeness_places(self) -> dict[str, int]:
        """Row and column of each touchpoint in the likeness table."""
        return {} if self.likeness is None else {name: i for i, name in enumerate(self.likeness.touchpoints)}

    def to_dict(self) -> dict[str, Any]:
        """Give the settings as JSON-able data."""
        data: dict[str, Any] = {name: list(getattr(self, name)) for name in _LISTS}
        data |= {name: getattr(self, name) for name in ("timezone", "session_gap", "repeat_within", "respond_within")}
        data["scale"] = None if self.scale is None else list(self.scale)
        table = self.surprise
        data["surprise"] = (
            None
            if table is None
            else {
                "touchpoints": list(table.touchpoints),
                "log2_probability": [list(row) for row in table.log2_probability],
            }
        )
        data["usual_duration"] = dict(self.usual_duration)
        for name in ("promises", "asked"):  # said only where it is there, so that older models keep their version
            if not data[name]:
                del data[name]
        if self.rfm:
            data["rfm"] = {name: list(values) for name, values in self.rfm.items()}
        if self.likeness is not None:
            data["likeness"] = {
                "touchpoints": list(self.likeness.touchpoints),
                "log_odds": [[list(row) for row in fold] for fold in self.likeness.log_odds],
            }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AnnotationSettings:
        """Read back what `to_dict` gave; what is missing has its default.

        Raises
        ------
        ConfigError
            If a key is unknown or a value cannot be understood.
        """
        known = [one.name for one in fields(cls)]
        for key in data:
            if key not in known:
                raise ConfigError(f"annotations: unknown setting '{key}'{nearest(key, known)}")
        values = dict(data)
        if values.get("surprise") is not None:
            values["surprise"] = _table(values["surprise"])
        if values.get("likeness") is not None:
            values["likeness"] = _likeness_table(values["likeness"])
        return cls(**values)


_LISTS = ("contacts", "activity", "interventions", "surveys", "self_service", "transitions", "promises", "asked")


def check_annotations(wanted: Collection[str], settings: AnnotationSettings) -> None:
    """Refuse annotations that do not exist, or whose settings are missing.

    Parameters
    ----------
    wanted : collection of str
        Names of annotations.
    settings : AnnotationSettings

    Raises
    ------
    ConfigError
        If a name is unknown, with the nearest one; if a setting it needs is empty.

    Examples
    --------
    >>> check_annotations(["gap", "repeat_contact"], AnnotationSettings(contacts=("call",)))
    """
    for name in wanted:
        annotation = ANNOTATIONS.get(name)
        if annotation is None:
            raise ConfigError(f"unknown annotation '{name}'{nearest(name, ANNOTATIONS)}")
        for need in annotation.needs:
            if need in _NEEDED_SETTINGS and not getattr(settings, need):
                raise ConfigError(f"annotation '{name}' needs the setting '{need}', which is empty; {_MENDS[need]}")


_MENDS = {
    "contacts": "name the touchpoints that are service contacts",
    "activity": "name the touchpoints that are activity of the customer",
    "interventions": "name the touchpoints that are actions of yours",
    "surveys": "name the touchpoints that are answers to surveys",
    "asked": "name the touchpoint of being asked, as satisfaction.asked",
    "self_service": "name the channels in which customers help themselves",
    "transitions": "name pairs of touchpoints, or learn them with fit_transitions",
    "scale": "give the lowest and the highest score",
    "surprise": "learn it with fit_transitions",
    "likeness": "it is learned from outcomes, by cxml train",
    "usual_duration": "learn it with fit_usual_durations",
}
_NEEDED_SETTINGS = frozenset(_MENDS)


def score_bands(scale: tuple[float, float]) -> tuple[float, float, tuple[str, str, str]]:
    """Where the bands of a scale part, and what they are called.

    The bands are those of the satisfaction models: on 0-10 detractors 0-6, passives 7-8, promoters 9-10
    (Reichheld 2003, Harvard Business Review 81(12)); on 1-5 the lowest and the highest two scores; on 1-7 the lowest
    and the highest three; on any other scale the lowest and the highest third.

    Parameters
    ----------
    scale : (float, float)
        Lowest and highest score.

    Returns
    -------
    last_low, last_mid : float
        Highest score of the low and of the middle band.
    names : (str, str, str)
        From the lowest band to the highest.

    Examples
    --------
    >>> score_bands((0, 10))
    (6, 8, ('detractor', 'passive', 'promoter'))
    >>> score_bands((1, 5))
    (2, 3, ('low', 'mid', 'high'))
    """
    lowest, highest = scale
    known = {(0, 10): (6, 8), (1, 5): (2, 3), (1, 7): (3, 4)}
    third = max(1, round((highest - lowest + 1) / 3))
    last_low, last_mid = known.get((lowest, highest), (lowest + third - 1, highest - third))  # type: ignore[arg-type]
    return last_low, last_mid, ("detractor", "passive", "promoter") if scale == (0, 10) else ("low", "mid", "high")


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, str) for v in values):
        raise ConfigError(
            f"{name}: {values!r} is no list of texts; write [{'a>b' if name == 'transitions' else 'a, b'}]"
        )
    return tuple(values)


def _duration(name: str, text: Any) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _scale(scale: Any) -> tuple[float, float] | None:
    if scale is None:
        return None
    ends = tuple(scale) if isinstance(scale, Sequence) else ()
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends) or not ends[0] < ends[1]:
        raise ConfigError(f"scale: {scale!r} does not ascend; write the lowest and the highest score, such as [0, 10]")
    return ends[0], ends[1]


def _usual(durations: Any) -> dict[str, float]:
    if not isinstance(durations, Mapping):
        raise ConfigError(f"usual_duration: {durations!r} is no mapping; write {{touchpoint: seconds}}")
    for touchpoint, seconds in durations.items():
        if not isinstance(seconds, int | float) or not 0.0 < seconds < np.inf:
            raise ConfigError(f"usual_duration: {seconds!r} of '{touchpoint}' is not a positive number; leave it out")
    return dict(durations)


def _cuts(found: Any) -> dict[str, tuple[float, ...]]:
    if not isinstance(found, Mapping):
        raise ConfigError(f"rfm: {found!r} is no mapping of cut points; train the model again")
    cuts = {}
    for name, values in found.items():
        is_list = isinstance(values, Sequence) and not isinstance(values, str)
        if not is_list or not all(isinstance(v, int | float) and -np.inf < v < np.inf for v in values):
            raise ConfigError(f"rfm: {name} is {values!r}, not a list of numbers; train the model again")
        cuts[name] = tuple(float(value) for value in values)
    return cuts


def _table(data: Any) -> TransitionTable:
    try:
        return TransitionTable(
            tuple(data["touchpoints"]), tuple(tuple(float(value) for value in row) for row in data["log2_probability"])
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"surprise: not a table of transitions ({error!r}); fit it with fit_transitions") from None


def _likeness_table(data: Any) -> LikenessTable:
    try:
        return LikenessTable(
            tuple(data["touchpoints"]),
            tuple(tuple(tuple(float(value) for value in row) for row in fold) for fold in data["log_odds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"likeness: not a table of log-odds ({error!r}); train the model again") from None
