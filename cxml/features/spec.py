"""What a feature column is: its definition is its name, and its name is its definition."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from cxml.errors import ConfigError, nearest
from cxml.features.selectors import Atom, Selector, parse_selector, plain_selector
from cxml.times import Duration

#: Value that stands for every category the fitted vocabulary does not hold.
OTHER = "other"

#: Statistics of a measure over the selected events of a window.
MEASURE_STATISTICS = ("count", "sum", "mean", "min", "max", "last")
#: The n-th latest value, by the statistic that gives it.
NTH_LAST: Mapping[str, int] = MappingProxyType({f"last{n}": n for n in range(2, 10)})
#: More of them, which look at the order, the spread or the times of the values.
ORDER_STATISTICS = ("first", *NTH_LAST, "std", "slope")
#: Statistics of the selected events themselves.
SELECTOR_STATISTICS = ("count", "active_days")
#: Statistics of the days between consecutive selected events of a window.
GAP_STATISTICS = ("longest_gap", "gap_mean", "gap_std", "burstiness")
#: Comparisons of a window with other windows or active days: of selected events, or the sums of a measure over them.
CHANGE_STATISTICS = ("change", "acceleration", "rate", "lag")
#: What weighs or compares selected events, or the sums of a measure over them.
WEIGHT_STATISTICS = ("decay", "share", "ratio")
#: Statistics of a category over the selected events of a window.
CATEGORY_STATISTICS = ("distinct", "entropy")
#: Statistics over everything before the cutoff; they have no window.
UNWINDOWED_STATISTICS = ("days_since", "tenure_days", "days_since_first", "ever", "p_alive")
#: Statistics whose window is two durations, such as ``30d/90d``.
PAIRED_STATISTICS = ("ratio", "lag")
STATISTICS = tuple(
    dict.fromkeys(
        (
            *MEASURE_STATISTICS, *ORDER_STATISTICS, *SELECTOR_STATISTICS, *GAP_STATISTICS, *CHANGE_STATISTICS,
            *WEIGHT_STATISTICS, *CATEGORY_STATISTICS, *UNWINDOWED_STATISTICS,
        )
    )
)  # fmt: skip
#: Statistics that the kernel's first walk computes; the others take its second one.
FIRST_WALK_STATISTICS = frozenset({*MEASURE_STATISTICS, *SELECTOR_STATISTICS, "distinct", "days_since", "tenure_days"})

_OF_MEASURES = frozenset({*MEASURE_STATISTICS, *ORDER_STATISTICS, *CHANGE_STATISTICS, *WEIGHT_STATISTICS})
_OF_SELECTORS = frozenset(
    {*SELECTOR_STATISTICS, *GAP_STATISTICS, *CHANGE_STATISTICS, *WEIGHT_STATISTICS, *UNWINDOWED_STATISTICS}
) - {"tenure_days"}
_OF_NOTHING = frozenset({"tenure_days", "p_alive"})

_MEASURE_AT = re.compile(r"([A-Za-z_]\w*)@(.+)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")

#: Statistics that make sense of a measure; a sum of survey scores does not, a sum of 0/1 is a count.
_DEFAULT_STATISTICS: Mapping[str, tuple[str, ...]] = {
    "score": ("count", "mean", "min", "max", "last"),
    "resolved": ("count", "sum", "mean", "last"),
    "promise": ("mean", "max", "last"),
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
        A selector (``"all"``, ``"touchpoint=call"``, ``"touchpoint=call&!channel=web"``, ``"value<0"``; see
        `cxml.features.selectors`), a measure (``"value"``), a measure at a selector
        (``"duration@stage=support"``), or for ``distinct`` and ``entropy`` a category (``"channel"``) or a category
        at a selector (``"channel@touchpoint=call"``).
        Empty for ``tenure_days``, and for ``p_alive`` of all events. A selector is kept as it is written shortest.
    window : str, optional
        A duration such as ``"30d"``; two with a slash between them for ``ratio`` (the short and the long window)
        and ``lag`` (the window, and how much earlier it lies); None for what has none.

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
    >>> Aggregate("ratio", "(touchpoint=call)", "30d/90d").name
    'ratio__touchpoint=call__30d/90d'
    >>> distinct = Aggregate("distinct", "channel@touchpoint=call", "30d")
    >>> distinct.category, distinct.selector
    ('channel', 'touchpoint=call')
    """

    statistic: str
    what: str = "all"
    window: str | None = None

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ConfigError(f"unknown statistic '{self.statistic}'{nearest(self.statistic, STATISTICS)}")
        if self.window is not None and not self.window.strip():
            raise ConfigError(
                f"feature '{self.statistic}__{self.what}__': behind the last '__' stands a window, or nothing"
            )
        if (self.window is None) != (self.statistic in UNWINDOWED_STATISTICS):
            raise ConfigError(
                f"feature '{self.name}': '{self.statistic}' "
                + (f"needs a window, such as {self._example}" if self.window is None else "has no window; take it away")
            )
        self._check_window()
        try:
            object.__setattr__(self, "what", self._canonical_what())
        except ConfigError as error:
            raise ConfigError(
                f"feature '{self.name}': '{self.what}' is nothing that '{self.statistic}' can be taken of. Write "
                f"{_what_it_takes(self.statistic)}. {error}".rstrip()
            ) from None

    @property
    def _example(self) -> str:
        return "30d/90d" if self.statistic in PAIRED_STATISTICS else "30d"

    def _check_window(self) -> None:
        if self.window is None:
            return
        if (self.window.count("/") == 1) != (self.statistic in PAIRED_STATISTICS):
            raise ConfigError(
                f"feature '{self.name}': '{self.statistic}' takes a window such as {self._example}, not '{self.window}'"
            )
        try:
            widths = self.widths_us
        except ValueError as error:
            raise ConfigError(f"feature '{self.name}': {error}") from None
        if self.statistic == "ratio" and widths[0] >= widths[1]:
            raise ConfigError(f"feature '{self.name}': write the shorter window first, as in ratio__all__30d/90d")

    def _canonical_what(self) -> str:
        """Write ``what`` as it is written shortest; ConfigError if the statistic cannot be taken of it."""
        if self.what in ("", "all") and self.statistic in _OF_NOTHING:
            if self.what and self.statistic == "tenure_days":
                raise ConfigError("")
            return ""
        if self.statistic in CATEGORY_STATISTICS:
            if not _WORD.fullmatch(str(self.category)) or self.category == "all":
                raise ConfigError("")
            selector = str(parse_selector(self.what.partition("@")[2])) if "@" in self.what else "all"
            return str(self.category) if selector == "all" else f"{self.category}@{selector}"
        measure, selector = _split(self.statistic, self.what)
        if self.statistic not in (_OF_SELECTORS if measure is None else _OF_MEASURES):
            raise ConfigError("")
        if measure is None:
            return str(parse_selector(selector))
        if self.statistic == "share" and "@" not in self.what:
            raise ConfigError("A share of a measure needs the selector of the part.")
        return f"{measure}@{parse_selector(selector)}" if "@" in self.what else measure

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
        return _split(self.statistic, self.what)[0]

    @property
    def category(self) -> str | None:
        """The category whose values it tells apart; None for statistics of anything else."""
        return self.what.partition("@")[0] if self.statistic in CATEGORY_STATISTICS else None

    @property
    def selector(self) -> str:
        """Which events count: ``"all"``, ``"COLUMN=VALUE"`` or a combination of conditions."""
        return _split(self.statistic, self.what)[1]

    @property
    def condition(self) -> Selector:
        """Which events count, as `cxml.features.selectors` has it."""
        return parse_selector(self.selector)

    @property
    def column(self) -> str:
        """What tells its events apart: a category, ``"all"``, or the selector itself where it is a combination."""
        if self.category is not None:
            return self.category
        condition = self.condition
        return condition.column if isinstance(condition, Atom) and condition.sign == "=" else self.selector

    @property
    def value(self) -> str | None:
        """The value the selector asks of a category; None when all events count, or a combination says which."""
        condition = self.condition
        return condition.value if isinstance(condition, Atom) and isinstance(condition.value, str) else None

    @property
    def widths_us(self) -> tuple[int, ...]:
        """The one or two durations of the window in microseconds; none when there is no window."""
        return tuple(Duration.parse(part).us for part in self.window.split("/")) if self.window else ()

    @property
    def width_us(self) -> int:
        """Length of the (first) window in microseconds; 0 when there is none."""
        return self.widths_us[0] if self.window else 0

    def describe(self) -> str:
        """Say in one plain sentence what the column holds.

        Examples
        --------
        >>> Aggregate("mean", "duration@stage=support", "30d").describe()
        "Mean duration of events with stage 'support' in the 30 days before the cutoff."
        >>> Aggregate("lag", "touchpoint=call", "30d/365d").describe()
        "Number of events with touchpoint 'call' in the 30 days that ended 365 days before the cutoff."
        """
        spans = [_in_words(part) for part in (self.window or "").split("/") if part]
        with_what = "" if self.selector == "all" else f" with {self.condition.describe()}"
        counted = self.statistic == "count" and self.measure is not None
        sentence = _SENTENCES["count of a measure" if counted else self.statistic].format(
            event=f"event{with_what}",
            events=f"events{with_what}",
            measure=self.measure,
            of=f"{self.measure} of events{with_what}" if self.measure else f"events{with_what}",
            amount="number" if self.measure is None else f"sum of {self.measure}",
            whole="all events" if self.measure is None else f"the sum of {self.measure} of all events",
            part=f"events{with_what}" if self.measure is None else f"{self.measure} of events{with_what}",
            category=self.category if self.selector == "all" else f"{self.category} among events{with_what}",
            span=f"in the {spans[0]} before the cutoff" if spans else "",
            first=spans[0] if spans else "",
            second=spans[-1] if spans else "",
        )
        return sentence[0].upper() + sentence[1:]


_BUT = ("one", "two", "three", "four", "five", "six", "seven", "eight")
_SENTENCES: Mapping[str, str] = {
    "tenure_days": "Days from the customer's first known event to the cutoff.",
    "days_since": "Days from the customer's latest {event} to the cutoff.",
    "days_since_first": "Days from the customer's first {event} to the cutoff.",
    "ever": "Number of {events} at any time before the cutoff.",
    "p_alive": "Probability that the customer is still active, by the rhythm of {events} so far (BG/NBD model).",
    "count": "Number of {events} {span}.",
    "count of a measure": "Number of {events} that carry a {measure} {span}.",
    "active_days": "Number of calendar days (UTC) with {events} {span}.",
    "distinct": "Number of different values of {category} {span}; those unknown to training count as one.",
    "entropy": (
        "How evenly the events spread over the values of {category} {span} (Shannon entropy, bits); those unknown to "
        "training count as one."
    ),
    "sum": "Sum of {of} {span}.",
    "mean": "Mean {of} {span}.",
    "min": "Smallest {of} {span}.",
    "max": "Largest {of} {span}.",
    "last": "Latest {of} {span}.",
    **{name: f"Last but {n} {{of}} {{span}}." for name, n in zip(NTH_LAST, _BUT, strict=True)},
    "first": "Earliest {of} {span}.",
    "std": "Standard deviation of {of} {span} (of two or more values).",
    "slope": "Change per day of {of} {span} (least squares).",
    "decay": "{amount} of {events} before the cutoff, each counting half as much for every {first} of its age.",
    "share": "Share of {part} in {whole} {span}.",
    "ratio": "{amount} of {events} per day in the {first} before the cutoff, over that in the {second} before it.",
    "change": "{amount} of {events} {span}, less the customer's own average for as long a time.",
    "acceleration": "How much faster the {amount} of {events} grows from one {first} to the next than it did before.",
    "rate": "{amount} of {events} per active day {span}.",
    "lag": "{amount} of {events} in the {first} that ended {second} before the cutoff.",
    "longest_gap": "Longest time in days between consecutive {events} {span}.",
    "gap_mean": "Mean time in days between consecutive {events} {span}.",
    "gap_std": "Standard deviation of the days between consecutive {events} {span} (of two gaps or more).",
    "burstiness": "How bursty the {events} are {span} (of two gaps or more): -1 as a clock, 0 at random, 1 in bursts.",
}


def _what_it_takes(statistic: str) -> str:
    if statistic == "tenure_days":
        return "nothing"
    if statistic in CATEGORY_STATISTICS:
        return "a category such as channel, or CATEGORY@SELECTOR"
    selectors = ["all", "COLUMN=VALUE", "a combination such as touchpoint=call&!channel=web"]
    measures = ["MEASURE", "MEASURE@SELECTOR"]
    forms = (selectors if statistic in _OF_SELECTORS else []) + (measures if statistic in _OF_MEASURES else [])
    return ", ".join(forms[:-1]) + f" or {forms[-1]}"


@lru_cache(maxsize=65_536)
def _split(statistic: str, what: str) -> tuple[str | None, str]:
    """Split ``what`` into a measure, if it names one, and a selector."""
    if not what:
        return None, "all"
    if statistic in CATEGORY_STATISTICS:
        return None, what.partition("@")[2] or "all"
    if statistic not in _OF_MEASURES or (what == "all" and statistic in _OF_SELECTORS):
        return None, what
    at = _MEASURE_AT.fullmatch(what)
    if at:
        return at[1], at[2]
    return (what, "all") if _WORD.fullmatch(what) else (None, what)


def _in_words(window: str) -> str:
    number, unit = re.fullmatch(r"\s*(\d+)\s*(\w+)\s*", window).groups()  # type: ignore[union-attr]  # it is a duration
    word = {"w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second", "us": "microsecond"}[unit]
    return f"{int(number)} {word}{'' if int(number) == 1 else 's'}"


def slot_column(aggregate: Aggregate, columns: Container[str]) -> str:
    """Give the slot column of a compiled plan that a column looks at.

    That is ``aggregate.column``, unless the values of a category are told apart in a column of their own, which is then
    called ``CATEGORY@SELECTOR``.

    Parameters
    ----------
    aggregate : Aggregate
    columns : container of str
        The slot columns there are.

    Examples
    --------
    >>> distinct = Aggregate("distinct", "channel", "30d")
    >>> slot_column(distinct, ["all", "channel"]), slot_column(distinct, ["all", "channel", "channel@all"])
    ('channel', 'channel@all')
    """
    apart = f"{aggregate.category}@{aggregate.selector}"
    return apart if aggregate.category is not None and apart in columns else aggregate.column


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
    stages = [plain_selector("stage", stage) for stage in vocabularies.get("stage", ())]
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
            yield plain_selector(column, value)
        if column in with_other:
            yield plain_selector(column, OTHER)
