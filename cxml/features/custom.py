"""User features: plain functions over one customer's events, which see nothing that was not known at the cutoff.

A plan names them and a process registers them, so that a saved plan stays data and loading one runs no code. Beside
them stand a few of the package's own that depend on the cutoff itself, and so are no statistic of events.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, CxmlError, nearest
from cxml.features.promises import OVERDUE, behind_overdue, overdue
from cxml.features.rfm import RFM, behind_rfm, rfm
from cxml.features.spec import UNWINDOWED_STATISTICS
from cxml.features.surveys import SURVEYS, behind_surveys, survey_response
from cxml.journeys.block import EventBlock
from cxml.journeys.schema import NUMBER_COLUMNS, PROMISE, TEXT_COLUMNS
from cxml.times import format_instant

if TYPE_CHECKING:
    from cxml.features.plan import FeaturePlan

Int64 = NDArray[np.int64]

_Function = Callable[["CustomerEvents", int], Any]
#: Computes columns for a range of customers at once; as `cxml.features.promises.overdue`.
_Compute = Callable[["FeaturePlan", EventBlock, tuple[int, int], Int64, Int64], NDArray[np.float64]]
#: Tells which events of one customer a column comes from; as `cxml.features.rfm.behind_rfm`.
_Behind = Callable[["FeaturePlan", EventBlock, NDArray[np.bool_], int, str], NDArray[np.bool_]]
_F = TypeVar("_F", bound=_Function)

#: Canonical columns that no user feature sees, and why.
_UNSEEN = {
    "customer_id": "a function sees the events of one customer, and not whose they are; leave it out",
    "sequence": "the events are in their order already; use that",
    "available_at": "the events are those that were known before the cutoff; leave it out",
    "promised": "it is read as events['promise'], in days from the event; use that",
}
#: From here on, numbers are infinite as float32.
_TOO_LARGE = 2.0**128 - 2.0**103

_WORD = re.compile(r"[A-Za-z_]\w*")


class CustomerEvents:
    """What a user feature sees: the events of one customer that happened and were known before the cutoff, in order.

    ``events.time`` is when they happened (int64, UTC microseconds) and ``events["value"]`` a column of the journeys:
    float64 with NaN for what is missing, or texts with None. There are ``touchpoint``, ``channel``, ``case_id``,
    ``value``, ``duration``, ``score``, ``resolved`` (0 or 1), ``promise`` (days from the event to what was promised),
    the measures and attributes of the journeys, and ``stage`` where the journeys have stages. One that the source lacks
    is missing throughout, as for every other feature; any other name is refused, ``customer_id``, ``sequence`` and
    ``available_at`` among them. ``len(events)`` is their number. The arrays are read-only.

    Parameters
    ----------
    time : int64 array of shape (n_events,)
    read : callable
        Gives a column, from its name.

    Examples
    --------
    >>> events = CustomerEvents(np.array([5, 9]), {"value": np.array([2.0, np.nan])}.__getitem__)
    >>> len(events), events.time.tolist(), float(np.nansum(events["value"]))
    (2, [5, 9], 2.0)
    """

    __slots__ = ("_columns", "_read", "time")

    def __init__(self, time: Int64, read: Callable[[str], NDArray[Any]]) -> None:
        self.time = _locked(time)
        self._read = read
        self._columns: dict[str, NDArray[Any]] = {"time": self.time, "timestamp": self.time}

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not isinstance(name, str):
            raise TypeError(f"events[{name!r}]: write the name of a column, as in events['value']")
        if name not in self._columns:
            self._columns[name] = _locked(self._read(name))
        return self._columns[name]


@dataclass(frozen=True, slots=True)
class UserFeature:
    """A registered function.

    Parameters
    ----------
    name : str
        The column.
    function : callable
        Takes `CustomerEvents` and the cutoff (int, UTC microseconds), gives a number, or None or NaN for missing.
    sentence : str
        What the column holds, in plain words.
    """

    name: str
    function: _Function
    sentence: str


@dataclass(frozen=True, slots=True)
class OwnFeature(UserFeature):
    """One of the package's own: it is computed for many customers at once, and needs no registration.

    Parameters
    ----------
    compute : callable
        Takes a plan, a block, a range of customers, ``row_starts`` and ``cutoffs``; gives a row for each snapshot.
    column : int
        Which column it is of that.
    behind : callable
        Takes a plan, the block of one customer, which of its events were known at a cutoff, the cutoff and the name of
        the column; tells which events are behind its value.
    """

    compute: _Compute = overdue
    column: int = 0
    behind: _Behind = behind_overdue


#: Those of the package, by name.
OWN: Mapping[str, OwnFeature] = MappingProxyType(
    {
        name: OwnFeature(name, lambda *_: None, said, compute, column, behind)
        for compute, sentences, behind in (
            (overdue, OVERDUE, behind_overdue),
            (survey_response, SURVEYS, behind_surveys),
            (rfm, RFM, behind_rfm),
        )
        for column, (name, said) in enumerate(sentences.items())
    }
)
_REGISTERED: dict[str, UserFeature] = {}


def register_feature(name: str, function: _Function, sentence: str) -> None:
    """Make a function known to this process as a feature.

    What it gives may depend on nothing but its arguments, or the same snapshot has other values elsewhere.

    Parameters
    ----------
    name : str
        The column; a word that is no name of a built-in feature.
    function : callable
        ``function(events, cutoff)``, where ``events`` is a `CustomerEvents` and ``cutoff`` an int, UTC microseconds.
        Gives a number, or None or NaN where there is nothing to say.
    sentence : str
        What the column holds, in plain words.

    Raises
    ------
    ConfigError
        If the name cannot be one of a user feature, or another function has it. The same function, defined again as
        a notebook does, takes the place of the former; so does what the same file registers as another module.

    Examples
    --------
    >>> def biggest_jump(events, cutoff):
    ...     values = events["value"][~np.isnan(events["value"])]
    ...     return np.abs(np.diff(values)).max() if len(values) > 1 else None
    >>> register_feature("biggest_jump", biggest_jump, "Largest change from one value to the next.")
    >>> registered("biggest_jump").sentence
    'Largest change from one value to the next.'
    """
    check_name(name)
    if name in OWN:
        raise ConfigError(f"feature '{name}' is one of the package's own; choose another name")
    if not callable(function):
        raise ConfigError(f"feature '{name}': {function!r} is no function; pass one of (events, cutoff)")
    if not isinstance(sentence, str) or not sentence.strip():
        raise ConfigError(f"feature '{name}': say in a sentence what it holds; it is {sentence!r}")
    former = _REGISTERED.get(name)
    if former is not None and not _replaces(function, former.function):
        raise ConfigError(
            f"feature '{name}' is already registered, as {'.'.join(_place(former.function))}; choose another name"
        )
    _REGISTERED[name] = UserFeature(name, function, sentence)


def feature(name: str, sentence: str) -> Callable[[_F], _F]:
    """Register the function that follows; see `register_feature`.

    Examples
    --------
    >>> @feature("n_evenings", "Number of events after 18:00 (UTC).")
    ... def n_evenings(events, cutoff):
    ...     return (events.time // 3_600_000_000 % 24 >= 18).sum()
    >>> n_evenings(CustomerEvents(np.array([0, 68_400_000_000]), {}.__getitem__), 10**12).item()
    1
    """

    def register(function: _F) -> _F:
        register_feature(name, function, sentence)
        return function

    return register


def registered(name: str) -> UserFeature:
    """Give the feature registered under a name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name in OWN:
        return OWN[name]
    if name not in _REGISTERED:
        raise ConfigError(
            f"feature '{name}' is a function that this process does not know{nearest(name, _REGISTERED)}; register it "
            "before, with cxml.features.custom.register_feature, or name the file that does in the project's "
            "features.modules: its commands run that, and in Python cxml.features.modules.load_modules(project.config) "
            "does. A model holds no code, and so not the function"
        )
    return _REGISTERED[name]


def forget(module: str) -> None:
    """Unregister the functions that a module defines, before it is run again.

    Parameters
    ----------
    module : str
        Its name.
    """
    for name, one in list(_REGISTERED.items()):
        if _place(one.function)[0] == module:
            del _REGISTERED[name]


def user_features() -> tuple[str, ...]:
    """Give the names of the functions that this process knows."""
    return tuple(_REGISTERED)


def is_registered(name: str) -> bool:
    """Tell whether this process knows a function of this name, or the package has one."""
    return name in OWN or name in _REGISTERED


def check_name(name: object) -> None:
    """Refuse names that a user feature cannot have.

    Raises
    ------
    ConfigError
        If it is no word, or could be the name of a built-in feature.

    Examples
    --------
    >>> check_name("biggest_jump")
    """
    if not isinstance(name, str) or not _WORD.fullmatch(name) or "__" in name or name in UNWINDOWED_STATISTICS:
        raise ConfigError(
            f"a user feature cannot be called {name!r}; write a word of letters, digits and single underscores that "
            "is no built-in feature, such as biggest_jump"
        )


def fill_custom(
    features: Sequence[UserFeature],
    plan: FeaturePlan,
    block: EventBlock,
    customers: tuple[int, int],
    row_starts: Int64,
    cutoffs: Int64,
    rows: Int64,
    out: NDArray[np.float32],
) -> None:
    """Fill the columns of the user features for a range of customers.

    Parameters
    ----------
    features : sequence of UserFeature
        Those of ``plan.custom``.
    plan : FeaturePlan
        Says where they go.
    block : EventBlock
        The events; codes lie within their vocabularies.
    customers : (int, int)
        First customer and the one after the last.
    row_starts, cutoffs, rows, out
        As in `cxml.features.matrix.fill_matrix`.

    Raises
    ------
    ConfigError
        If a function fails or gives no number; names the feature, the customer and the cutoff.
    """
    first, stop = (int(row_starts[customer]) for customer in customers)
    found = np.empty((stop - first, len(features)), np.float64)
    past = _Past(plan, block, customers)
    asked = [(column, one) for column, one in enumerate(features) if not isinstance(one, OwnFeature)]
    for customer in range(*customers) if asked else ():
        for snapshot in range(row_starts[customer], row_starts[customer + 1]):
            cutoff = int(cutoffs[snapshot])
            events = past.before(customer, cutoff)
            for column, one in asked:
                found[snapshot - first, column] = _value(one, events, block.customers[customer], cutoff)
    own = {column: one for column, one in enumerate(features) if isinstance(one, OwnFeature)}
    for compute in dict.fromkeys(one.compute for one in own.values()):
        computed = compute(plan, block, customers, row_starts, cutoffs)
        for column, one in own.items():
            if one.compute is compute:
                found[:, column] = computed[:, one.column]
    begin = len(plan.aggregates)
    with np.errstate(over="ignore"):  # one of the package that float32 cannot hold is infinite, as other features are
        out[rows[first:stop] if len(rows) else slice(first, stop), begin : begin + len(features)] = found


class _Past:
    """The events of a range of customers; columns are read once, for all of them."""

    def __init__(self, plan: FeaturePlan, block: EventBlock, customers: tuple[int, int]) -> None:
        self._plan, self._block = plan, block
        self._first, self._stop = (int(block.starts[customer]) for customer in customers)
        self._columns: dict[str, NDArray[Any]] = {}

    def before(self, customer: int, cutoff: int) -> CustomerEvents:
        """Give what happened and was known before a cutoff."""
        block = self._block
        low, high = block.starts[customer], block.starts[customer + 1]
        chosen = low + np.arange(np.searchsorted(block.time[low:high], cutoff))
        if block.known is not None:
            chosen = chosen[block.known[chosen] < cutoff]
        within = chosen - self._first
        return CustomerEvents(block.time[chosen], lambda name: self._column(name)[within])

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            _check_column(self._plan, name)
            self._columns[name] = read_column(self._plan, self._block, name, self._first, self._stop)
        return self._columns[name]


def read_column(plan: FeaturePlan, block: EventBlock, name: str, first: int, stop: int) -> NDArray[Any]:
    """Read a column of some events: float64, or texts with None; what the block does not hold is missing throughout.

    Parameters
    ----------
    plan : FeaturePlan
        Says what is a category, and which stage a touchpoint belongs to.
    block : EventBlock
        The events; codes lie within their vocabularies.
    name : str
        A measure or a category.
    first, stop : int
        Events ``first`` to ``stop`` (exclusive).

    Returns
    -------
    float64 or object array of shape (stop - first,)
    """
    staged = name == "stage" and bool(plan.stages)
    coded = block.categories.get("touchpoint" if staged else name)
    if coded is not None:
        texts = [plan.stages.get(value) for value in coded.vocabulary] if staged else coded.vocabulary
        return np.array([*texts, None], object)[coded.codes[first:stop]]
    if name in block.measures:
        return block.measures[name][first:stop]
    missing = None if name in plan.vocabularies or name in TEXT_COLUMNS else np.nan
    return np.full(stop - first, missing)


def _check_column(plan: FeaturePlan, name: str) -> None:
    """Refuse names that are no column, by the plan alone: blocks of few events lack columns that the journeys have."""
    known = {"time", "timestamp", *TEXT_COLUMNS, *NUMBER_COLUMNS, "resolved", PROMISE, *plan.attributes}
    known |= {*(plan.further_measures or ()), *(["stage"] if plan.stages else [])}
    if name in known:
        return
    if name in _UNSEEN:
        raise ConfigError(f"events['{name}'] is not there: {_UNSEEN[name]}")
    if plan.further_measures is not None:  # else nobody knows what the journeys may hold
        raise ConfigError(f"events['{name}']: the journeys have no such column{nearest(name, known)}")


def _locked(values: NDArray[Any]) -> NDArray[Any]:
    """Give a copy that can neither be written to nor lead to the array it comes from."""
    own = values.copy()
    own.flags.writeable = False
    return own.view()


def _value(one: UserFeature, events: CustomerEvents, customer: Any, cutoff: int) -> float:
    try:
        return _number(one.function(events, cutoff))
    except Exception as error:
        kind = "" if isinstance(error, CxmlError) else f"{type(error).__name__}: "
        raise ConfigError(
            f"feature '{one.name}' of customer {customer} at {format_instant(cutoff)}: {kind}{error}. "
            "Correct the function, or take the feature out of the plan."
        ) from error


def _number(value: Any) -> float:
    if value is None:
        return np.nan
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        raise TypeError(f"it gave {type(value).__name__} instead of a number; None or NaN stands for missing")
    number = float(value)
    if abs(number) >= _TOO_LARGE:
        raise ValueError(f"it gave {number}, which float32 cannot hold; None or NaN stands for missing")
    return number if number == number else np.nan  # one NaN: the bits of others differ


def file_of(function: object) -> str | None:
    """Say which file defines a function; None where none does, as in a notebook's cell or for other callables."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return None if code is None or code.co_filename.startswith("<") else os.path.realpath(code.co_filename)


def _replaces(function: _Function, former: _Function) -> bool:
    """Tell whether a function may take the name of a former one: it is defined again, or its file is run again."""
    place, other = _place(function), _place(former)
    return place == other or (place[0] != other[0] and file_of(function) == file_of(former) is not None)


def _place(function: _Function) -> tuple[str, str]:
    """Say where a function is defined."""
    kind = type(function)
    return str(getattr(function, "__module__", kind.__module__)), getattr(function, "__qualname__", kind.__qualname__)
