"""What a feature column is: its definition is its name, and its name is its definition."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxml.errors import ConfigError, nearest
from cxml.times import Duration

#: Value that stands for every category the fitted vocabulary does not hold.
OTHER = "other"

#: Statistics of a measure over the selected events of a window.
MEASURE_STATISTICS = ("count", "sum", "mean", "min", "max", "last")
#: Statistics of the selected events themselves.
SELECTOR_STATISTICS = ("count", "active_days")
#: Statistics of a category over the events of a window.
CATEGORY_STATISTICS = ("distinct",)
#: Statistics over everything before the cutoff; they have no window.
UNWINDOWED_STATISTICS = ("days_since", "tenure_days")
STATISTICS = tuple(
    dict.fromkeys((*MEASURE_STATISTICS, *SELECTOR_STATISTICS, *CATEGORY_STATISTICS, *UNWINDOWED_STATISTICS))
)

_MEASURE_AT = re.compile(r"([A-Za-z_]\w*)@(.+)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")

#: Statistics that make sense of a measure; a sum of survey scores does not, a sum of 0/1 is a count.
_DEFAULT_STATISTICS: Mapping[str, tuple[str, ...]] = {
    "score": ("count", "mean", "min", "max", "last"),
    "resolved": ("count", "sum", "mean", "last"),
}
_FALLBACK_STATISTICS = ("sum", "mean", "min", "max", "last")
#: Measures whose mean by lifecycle stage is worth a column.
_STAGED_MEASURES = ("value", "duration", "score")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One feature column: a statistic of the selected events in ``[cutoff - window, cutoff)``.

    Parameters
    ----------
    statistic : str
        One of `STATISTICS`.
    what : str
        A selector (``"all"``, ``"touchpoint=call"``, ``"stage=support"``), a measure (``"value"``), a measure
        at a selector (``"duration@stage=support"``), or for ``distinct`` a category (``"channel"``).
        Empty for ``tenure_days``.
    window : str, optional
        A duration such as ``"30d"``; None for ``days_since`` and ``tenure_days``.

    Raises
    ------
    ConfigError
        If the three do not fit together.

    Examples
    --------
    >>> Aggregate("mean", "duration@stage=support", "30d").name
    'mean__duration@stage=support__30d'
    >>> Aggregate.parse("days_since__touchpoint=call")
    Aggregate(statistic='days_since', what='touchpoint=call', window=None)
    """

    statistic: str
    what: str = "all"
    window: str | None = None

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ConfigError(f"unknown statistic '{self.statistic}'{nearest(self.statistic, STATISTICS)}")
        if (self.window is None) != (self.statistic in UNWINDOWED_STATISTICS):
            raise ConfigError(
                f"feature '{self.name}': '{self.statistic}' "
                + ("needs a window, such as 30d" if self.window is None else "has no window; take it away")
            )
        if self.window is not None:
            try:
                Duration.parse(self.window)
            except ValueError as error:
                raise ConfigError(f"feature '{self.name}': {error}") from None
        if not self._what_fits():
            raise ConfigError(
                f"feature '{self.name}': '{self.what}' is nothing that '{self.statistic}' can be taken of. Write "
                "all, COLUMN=VALUE, MEASURE or MEASURE@SELECTOR (distinct: a category; tenure_days: nothing)"
            )

    def _what_fits(self) -> bool:
        if self.statistic == "tenure_days":
            return self.what == ""
        if self.statistic in CATEGORY_STATISTICS:
            return bool(_WORD.fullmatch(self.what)) and self.what != "all"
        if self.measure is None:
            fits = self.statistic in (*SELECTOR_STATISTICS, "days_since")
        else:
            fits = self.statistic in MEASURE_STATISTICS and bool(_WORD.fullmatch(self.measure))
        column, equals, _ = self.selector.partition("=")
        return fits and (self.selector == "all" or bool(equals and _WORD.fullmatch(column)))

    @classmethod
    def parse(cls, name: str) -> Aggregate:
        """Read a column name back.

        Raises
        ------
        ConfigError
            If the name is not one of a feature.

        Examples
        --------
        >>> Aggregate.parse("count__touchpoint=a__b__7d")
        Aggregate(statistic='count', what='touchpoint=a__b', window='7d')
        """
        statistic, _, rest = name.partition("__")
        if statistic in UNWINDOWED_STATISTICS:
            return cls(statistic, rest, None)
        what, _, window = rest.rpartition("__")
        return cls(statistic, what, window)

    @property
    def name(self) -> str:
        """The column name."""
        return "__".join(part for part in (self.statistic, self.what, self.window) if part)

    @property
    def measure(self) -> str | None:
        """The measure it looks at; None for statistics of the events themselves."""
        if self.statistic in (*CATEGORY_STATISTICS, *UNWINDOWED_STATISTICS, "active_days"):
            return None
        at = _MEASURE_AT.fullmatch(self.what)
        if at:
            return at[1]
        if self.what == "all" and self.statistic in SELECTOR_STATISTICS:
            return None
        return None if "=" in self.what else self.what

    @property
    def selector(self) -> str:
        """Which events count: ``"all"`` or ``"COLUMN=VALUE"``."""
        if self.measure is None:
            return self.what if self.statistic not in (*CATEGORY_STATISTICS, "tenure_days") else "all"
        at = _MEASURE_AT.fullmatch(self.what)
        return at[2] if at else "all"

    @property
    def column(self) -> str:
        """The categorical column it reads: of the selector, or the one whose values are counted."""
        return self.what if self.statistic in CATEGORY_STATISTICS else self.selector.partition("=")[0]

    @property
    def value(self) -> str | None:
        """The value the selector asks for; None when all events count."""
        _, equals, value = self.selector.partition("=")
        return value if equals else None

    @property
    def width_us(self) -> int:
        """Length of the window in microseconds; 0 when there is none."""
        return Duration.parse(self.window).us if self.window else 0

    def describe(self) -> str:
        """Say in one plain sentence what the column holds.

        Examples
        --------
        >>> Aggregate("mean", "duration@stage=support", "30d").describe()
        "Mean duration of events with stage 'support' in the 30 days before the cutoff."
        """
        if self.statistic == "tenure_days":
            return "Days from the customer's first known event to the cutoff."
        events = "events" if self.value is None else f"events with {self.column} '{self.value}'"
        if self.statistic == "days_since":
            what = "event" if self.value is None else f"event with {self.column} '{self.value}'"
            return f"Days from the customer's latest {what} to the cutoff."
        span = f"in the {_in_words(self.window or '')} before the cutoff"
        if self.statistic == "distinct":
            return f"Number of different values of {self.what} {span}."
        if self.statistic == "active_days":
            return f"Number of calendar days (UTC) with {events} {span}."
        if self.measure is None:
            return f"Number of {events} {span}."
        if self.statistic == "count":
            return f"Number of {events} that carry a {self.measure} {span}."
        words = {"sum": "Sum of", "mean": "Mean", "min": "Smallest", "max": "Largest", "last": "Latest"}
        return f"{words[self.statistic]} {self.measure} of {events} {span}."


def _in_words(window: str) -> str:
    unit = {"w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}[window.strip()[-1]]
    number = int(window.strip()[:-1])
    return f"{number} {unit}{'' if number == 1 else 's'}"


def default_spec(
    vocabularies: Mapping[str, Sequence[str]],
    measures: Iterable[str] = (),
    windows: Sequence[str] = ("7d", "30d", "90d", "365d"),
    *,
    with_other: Collection[str] = (),
) -> tuple[Aggregate, ...]:
    """Choose columns for what a log has.

    Parameters
    ----------
    vocabularies : mapping of str to sequence of str
        Values that get columns of their own, by column: ``touchpoint``, and ``channel`` and ``stage`` where
        the log has them.
    measures : iterable of str
        Measures that hold any number at all.
    windows : sequence of str
        Durations.
    with_other : collection of str
        Columns of ``vocabularies`` whose remaining values share a column, ``COLUMN=other``.

    Returns
    -------
    tuple of Aggregate
        In a fixed order, no two alike.

    Examples
    --------
    >>> spec = default_spec({"touchpoint": ["call"]}, ["value"], ["30d"])
    >>> [a.name for a in spec][:4]
    ['tenure_days', 'days_since__all', 'days_since__touchpoint=call', 'count__all__30d']
    """
    measures = tuple(measures)
    if "all" in measures:
        raise ConfigError("a measure cannot be called 'all', which means every event; map it to another name")
    selectors = ["all", *_selectors(vocabularies, with_other)]
    chosen = [Aggregate("tenure_days", "", None), *(Aggregate("days_since", s, None) for s in selectors)]
    stages = [f"stage={stage}" for stage in vocabularies.get("stage", ())]
    for window in dict.fromkeys(str(Duration.parse(w)) for w in windows):
        chosen += [Aggregate("count", selector, window) for selector in selectors]
        chosen.append(Aggregate("active_days", "all", window))
        chosen += [
            Aggregate("distinct", column, window) for column in ("touchpoint", "channel") if column in vocabularies
        ]
        for measure in measures:
            statistics = _DEFAULT_STATISTICS.get(measure, _FALLBACK_STATISTICS)
            chosen += [Aggregate(statistic, measure, window) for statistic in statistics]
            if measure in _STAGED_MEASURES:
                chosen += [Aggregate("mean", f"{measure}@{stage}", window) for stage in stages]
    return tuple(chosen)


def _selectors(vocabularies: Mapping[str, Sequence[str]], with_other: Collection[str]) -> Iterator[str]:
    for column, values in vocabularies.items():
        for value in values:
            yield f"{column}={value}"
        if column in with_other:
            yield f"{column}={OTHER}"
