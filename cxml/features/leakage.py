"""A proof on the user's own data: whatever happens at or after a cutoff, no feature changes in any bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.features.align import distinct_ids, positions_in, read_snapshots
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.journeys.block import Coded, CustomerTable, EventBlock
from cxml.times import SECOND_US, format_instant

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: What is done to the future: taken away, changed in every respect, made richer.
TAMPERINGS = ("deleted", "shuffled", "added")

_ADDED_PER_CUSTOMER = 6
#: Invented moments lie from minutes to years away from the cutoff; every order of magnitude is as likely.
_NEAR_US, _FAR_US = 100 * SECOND_US, 10 * 366 * 86_400 * SECOND_US
#: Values that no vocabulary has, one before and one behind most words, so that the codes of the others move.
_UNSEEN = ("!unseen", "~unseen")
_ODD_NUMBERS = np.array([np.nan, 0.0, 1.0, -1.0, 1e12])


@dataclass(frozen=True, slots=True)
class Leak:
    """One column that saw the future of one cutoff.

    Parameters
    ----------
    column : str
        The feature.
    cutoff : int
        UTC microseconds.
    tampering : str
        What had been done to the future; one of `TAMPERINGS`.
    n_rows : int
        Customers whose value changed.
    """

    column: str
    cutoff: int
    tampering: str
    n_rows: int


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What `check_leakage` found.

    Parameters
    ----------
    n_snapshots, n_customers : int
        How many were looked at; every customer at every cutoff.
    cutoffs : tuple of int
        UTC microseconds, ascending.
    n_columns : int
        How many features.
    leaks : tuple of Leak
        Empty when no feature knows the future.
    """

    n_snapshots: int
    n_customers: int
    cutoffs: tuple[int, ...]
    n_columns: int
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        """Whether no feature knows the future."""
        return not self.leaks

    @property
    def columns(self) -> tuple[str, ...]:
        """The leaking columns."""
        return tuple(dict.fromkeys(leak.column for leak in self.leaks))

    def __str__(self) -> str:
        looked = (
            f"{self.n_columns} features of {self.n_snapshots:,} snapshots ({self.n_customers:,} customers, "
            f"{len(self.cutoffs)} cutoffs)"
        )
        if self.clean:
            return f"No leak: {looked} kept every bit when all that came later was deleted, shuffled and added to."
        worst = self.leaks[0]
        return (
            f"LEAK: {len(self.columns)} of {looked} changed with events at or after the cutoff; the first is "
            f"'{worst.column}' at {format_instant(worst.cutoff)}, in {worst.n_rows:,} rows, when they were "
            f"{worst.tampering}."
        )


def check_leakage(
    log: JourneyLog,
    plan: FeaturePlan,
    snapshots: pd.DataFrame,
    *,
    random_state: int = 0,
    max_customers: int = 500,
    max_cutoffs: int = 24,
    fill: Callable[..., Any] = fill_matrix,
) -> LeakageReport:
    """Tamper with everything at or after each cutoff and compare the features bit for bit.

    What counts as later is an event that happens or becomes known at the cutoff or after it, and a row of the
    customer table that holds from the cutoff or after it. Later events are taken away; changed in every column, with
    values the log has never held among them; and others are added: at the very cutoff, beside earlier events of which
    nobody knew, with values of the customer's own past such as its open case, and to a customer who was not there
    before. Where events become known late, some are announced before they happen, as appointments are: to be known
    before the cutoff is not enough. Measures that wait for what comes after an event are also asked at the very
    moment their wait ends, on events put there for it.

    Each cutoff is asked alone on the tampered events, and compared with all cutoffs asked together on the true ones,
    so that this is compared too. Every customer is asked at every cutoff, known by then or not.

    Parameters
    ----------
    log : JourneyLog
        The journeys.
    plan : FeaturePlan
        The features.
    snapshots : DataFrame
        With ``customer_id`` and ``cutoff``, from which customers and cutoffs are taken; customers without events are
        passed over.
    random_state : int
        Seed of the sample and of the tampering.
    max_customers, max_cutoffs : int
        So many are looked at, drawn at random where there are more; cutoffs of many snapshots by preference.
    fill : callable
        What computes the features; called as `cxml.features.matrix.fill_matrix` with ``plan, block, row_starts,
        cutoffs`` and ``customers=``.

    Returns
    -------
    LeakageReport

    Raises
    ------
    DataError
        If no snapshot is of a customer in the log.
    ConfigError
        If ``fill`` does not give a float32 matrix of one row a cutoff and one column a feature.

    Examples
    --------
    >>> import cxml
    >>> log = cxml.read_journeys(pd.DataFrame({
    ...     "customer_id": [1, 1, 2], "touchpoint": ["order", "call", "order"],
    ...     "timestamp": pd.to_datetime(["2024-01-01", "2024-02-10", "2024-03-31"], utc=True)}))
    >>> plan = cxml.JourneyFeatures(windows=["30d"]).fit(log).plan_
    >>> snapshots = pd.DataFrame({"customer_id": [1, 2], "cutoff": pd.to_datetime(["2024-02-01"] * 2, utc=True)})
    >>> check_leakage(log, plan, snapshots).clean
    True
    """
    rng = np.random.default_rng(random_state)
    ids, moments = read_snapshots(snapshots)
    customers, which = distinct_ids(ids)
    present = np.zeros(len(customers), bool)
    for block in log.blocks():
        present |= positions_in(customers, block.customers) >= 0
    which, moments = which[present[which]], moments[present[which]]
    if not len(which):
        raise DataError("no snapshot is of a customer in the journeys; nothing to check for leakage")
    cutoffs = _sample_cutoffs(rng, moments, max_cutoffs)
    chosen = customers[_sample_customers(rng, which, np.isin(moments, cutoffs), max_customers)]
    found: Counter[tuple[str, int, str]] = Counter()
    for block in log.blocks():
        small = _take_customers(block, positions_in(chosen, block.customers))
        if small.n_customers:
            found.update(_leaks_in(_Question(plan, fill, rng), small, _rows_of(log.customers, small), cutoffs))
    return LeakageReport(
        n_snapshots=len(chosen) * len(cutoffs),
        n_customers=len(chosen),
        cutoffs=tuple(cutoffs.tolist()),
        n_columns=len(plan.columns),
        leaks=tuple(Leak(*where, n_rows) for where, n_rows in found.items()),
    )


def _sample_cutoffs(rng: np.random.Generator, moments: Int64, size: int) -> Int64:
    """Draw cutoffs, each as likely as it has snapshots: surveys, of a moment each, must not crowd out the others."""
    values, counts = np.unique(moments, return_counts=True)
    if len(values) <= size:
        return values
    return np.sort(rng.choice(values, size, replace=False, p=counts / counts.sum()))


def _sample_customers(rng: np.random.Generator, which: Int64, at_cutoffs: Bool, size: int) -> Int64:
    """Draw customers, first of those with a snapshot at a chosen cutoff."""
    first = np.unique(which[at_cutoffs])
    if len(first) > size:
        return np.sort(rng.choice(first, size, replace=False))
    others = np.setdiff1d(which, first)
    more = rng.choice(others, min(size - len(first), len(others)), replace=False)
    return np.sort(np.concatenate([first, more]))


def _take_customers(block: EventBlock, found: Int64) -> EventBlock:
    """Make a block of some customers; those at -1 are elsewhere. Values that only others have vanish."""
    chosen = np.sort(found[found >= 0])
    counts = np.diff(block.starts)[chosen]
    events = np.concatenate([np.empty(0, np.int64), *(np.arange(block.starts[i], block.starts[i + 1]) for i in chosen)])
    return EventBlock(
        customers=block.customers[chosen],
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        time=block.time[events],
        known=None if block.known is None else block.known[events],
        categories={name: _compact(c.codes[events], c.vocabulary) for name, c in block.categories.items()},
        measures={name: values[events] for name, values in block.measures.items()},
    )


def _rows_of(table: CustomerTable | None, block: EventBlock) -> CustomerTable | None:
    """Give the rows of the block's customers."""
    if table is None:
        return None
    low = np.searchsorted(table.customers, block.customers, side="left")
    high = np.searchsorted(table.customers, block.customers, side="right")
    rows = np.concatenate([np.empty(0, np.int64), *(np.arange(a, b) for a, b in zip(low, high, strict=True))])
    return CustomerTable(
        customers=table.customers[rows],
        valid_from=table.valid_from[rows],
        attributes={name: _compact(c.codes[rows], c.vocabulary) for name, c in table.attributes.items()},
    )


class _Question(NamedTuple):
    """What is asked again and again."""

    plan: FeaturePlan
    fill: Callable[..., Any]
    rng: np.random.Generator

    def answer(self, block: EventBlock, table: CustomerTable | None, cutoffs: Int64, n_customers: int) -> Float32:
        """Give the features of the first customers of a block, each at all cutoffs."""
        counts = np.where(np.arange(block.n_customers) < n_customers, len(cutoffs), 0)
        row_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.asarray(self.fill(self.plan, block, row_starts, np.tile(cutoffs, n_customers), customers=table))
        shape = (n_customers * len(cutoffs), len(self.plan.columns))
        if rows.shape != shape or rows.dtype != np.float32:
            raise ConfigError(f"fill must give float32 of shape {shape}; it gave {rows.dtype} of shape {rows.shape}")
        return rows.reshape(n_customers, len(cutoffs), shape[1])


def _leaks_in(
    question: _Question, block: EventBlock, table: CustomerTable | None, cutoffs: Int64
) -> dict[tuple[str, int, str], int]:
    """Count the rows that changed, by column, cutoff and tampering."""
    plan, rng, n = question.plan, question.rng, block.n_customers
    truth = question.answer(block, table, cutoffs, n)
    wide = _widen_events(block, plan)
    wide_table = None if table is None else replace(table, attributes=_widen(table.attributes, plan.vocabularies))
    found: Counter[tuple[str, int, str]] = Counter()

    def ask(events: EventBlock, cutoff: int, how: str = "deleted") -> NDArray[np.uint32]:
        changed = None if wide_table is None else _tamper_table(wide_table, events.customers, cutoff, how, rng)
        return _bits(question.answer(events, changed, np.array([cutoff]), n)[:, 0])

    for k, cutoff in enumerate(cutoffs.tolist()):
        expected = _bits(truth[:, k])
        differs = {how: ask(_tamper_events(wide, cutoff, how, rng), cutoff, how) != expected for how in TAMPERINGS}
        settled = _settled_now(wide, plan, cutoff, rng)
        if settled is not None:
            differs["added"] |= ask(settled[0], cutoff) != ask(settled[1], cutoff)
        for how, where in differs.items():
            n_rows = where.sum(axis=0)
            found.update({(plan.columns[c], cutoff, how): int(n_rows[c]) for c in np.flatnonzero(n_rows).tolist()})
    return found


def _bits(rows: Float32) -> NDArray[np.uint32]:
    return np.ascontiguousarray(rows).view(np.uint32)


class _Made(NamedTuple):
    """Invented events: of which customer, when, what, and where they stand among events of the same moment."""

    owner: Int64
    time: Int64
    known: Int64
    codes: dict[str, Int32]
    values: dict[str, Float64]
    place: Float64


def _tamper_events(block: EventBlock, cutoff: int, how: str, rng: np.random.Generator) -> EventBlock:
    """Delete, shuffle or add to what is not known before the cutoff; the rest stays as it is, in its order."""
    customer = np.repeat(np.arange(block.n_customers), np.diff(block.starts))
    future = _is_future(block, cutoff)
    if how == "added" and block.n_events:
        block = _with_stranger(block)
        owner = np.repeat(np.arange(block.n_customers), _ADDED_PER_CUSTOMER)
        return _merge(block, np.ones(block.n_events, bool), _make_future(block, owner, cutoff, rng))
    owner = customer[future] if how == "shuffled" else np.empty(0, np.int64)
    return _merge(block, ~future, _make_future(block, owner, cutoff, rng))


def _is_future(block: EventBlock, cutoff: int) -> Bool:
    late = False if block.known is None else block.known >= cutoff
    return (block.time >= cutoff) | late


def _with_stranger(block: EventBlock) -> EventBlock:
    """Add a customer without events, behind all others."""
    last = block.customers[-1:]
    stranger = last.astype(object) + "~" if last.dtype == object else last + 1
    return replace(
        block, customers=np.concatenate([block.customers, stranger]), starts=np.append(block.starts, block.starts[-1])
    )


def _settled_now(
    block: EventBlock, plan: FeaturePlan, cutoff: int, rng: np.random.Generator
) -> tuple[EventBlock, EventBlock] | None:
    """Give every customer events whose wait ends at the cutoff, and then what they wait for, at the cutoff.

    None if the plan has nothing that waits.
    """
    settings = plan.annotations
    if settings is None or not block.n_events:
        return None
    asking = {*settings.contacts, *settings.interventions, *settings.surveys}
    answering = {*settings.contacts, *settings.activity}
    if not asking or not answering:
        return None
    waits = np.array([settings.repeat_within_us, settings.respond_within_us])
    then = _merge(block, ~_is_future(block, cutoff), _make_named(block, cutoff - waits, asking, rng))
    then = _widen_events(then, plan)
    return then, _merge(then, np.ones(then.n_events, bool), _make_named(then, cutoff + 0 * waits, answering, rng))


def _make_named(block: EventBlock, moments: Int64, touchpoints: Collection[str], rng: np.random.Generator) -> _Made:
    """Invent an event of one of these touchpoints for every customer at each of the moments."""
    owner, time = np.repeat(np.arange(block.n_customers), len(moments)), np.tile(moments, block.n_customers)
    made = _make_events(block, owner, time, time, rng)
    vocabulary = block.categories["touchpoint"].vocabulary
    codes = np.array([vocabulary.index(name) for name in sorted(touchpoints)], np.int32)
    made.codes["touchpoint"] = rng.choice(codes, len(owner))
    return made


def _make_future(block: EventBlock, owner: Int64, cutoff: int, rng: np.random.Generator) -> _Made:
    """Invent events that may not count before the cutoff, some of them at the moment of an event that is there."""
    n = len(owner)
    later, earlier = cutoff + _steps(rng, n), cutoff - _distances(rng, n)
    beside = block.time[_own_events(block, owner, rng)]
    if block.known is None:
        time = np.where(rng.random(n) < 0.5, later, np.maximum(beside, cutoff))
        return _make_events(block, owner, time, time, rng)
    kind = rng.integers(0, 4, n)
    time = np.choose(kind, [later, later, earlier, beside])
    known = np.maximum(time, cutoff) + _steps(rng, n)
    known[kind == 0] = earlier[kind == 0]  # announced
    return _make_events(block, owner, time, known, rng)


def _make_events(block: EventBlock, owner: Int64, time: Int64, known: Int64, rng: np.random.Generator) -> _Made:
    """Invent what events of these customers and times are like: as others of theirs, as others at all, or unheard-of.

    The columns are drawn one by one, so that a new touchpoint may come with the case of an earlier event.
    """
    n = len(owner)
    codes = {
        name: np.where(
            rng.random(n) < 0.5,
            coded.codes[_own_events(block, owner, rng)],
            rng.integers(-1, len(coded.vocabulary), n, np.int32),
        )
        for name, coded in block.categories.items()
    }
    values = {
        name: np.where(rng.random(n) < 0.5, found[_own_events(block, owner, rng)], rng.choice(_ODD_NUMBERS, n))
        for name, found in block.measures.items()
    }
    place = _own_events(block, owner, rng) + rng.choice([-0.5, 0.5], n)
    return _Made(owner, time, known, codes, values, place)


def _own_events(block: EventBlock, owner: Int64, rng: np.random.Generator) -> Int64:
    """Draw an event of each one's customer; of any customer where that one has none."""
    counts = np.diff(block.starts)[owner]
    own = block.starts[owner] + (rng.random(len(owner)) * counts).astype(np.int64)
    return np.where(counts > 0, own, rng.integers(0, max(block.n_events, 1), len(owner)))


def _steps(rng: np.random.Generator, n: int) -> Int64:
    """Draw times to wait: none, a microsecond, or anything."""
    return np.choose(rng.integers(0, 3, n), [np.zeros(n, np.int64), np.ones(n, np.int64), _distances(rng, n)])


def _distances(rng: np.random.Generator, n: int) -> Int64:
    return np.exp(rng.uniform(np.log(_NEAR_US), np.log(_FAR_US), n)).astype(np.int64)


def _merge(block: EventBlock, keep: Bool, made: _Made) -> EventBlock:
    """Keep some events, in their order, and put others between them; values that no longer occur vanish."""
    customer = np.concatenate([np.repeat(np.arange(block.n_customers), np.diff(block.starts))[keep], made.owner])
    time = np.concatenate([block.time[keep], made.time])
    known = time if block.known is None else np.concatenate([block.known[keep], made.known])
    order = np.lexsort((np.concatenate([np.flatnonzero(keep).astype(np.float64), made.place]), time, customer))
    counts = np.bincount(customer, minlength=block.n_customers)
    return EventBlock(
        customers=block.customers,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        time=time[order],
        known=None if np.array_equal(known, time) else known[order],
        categories={
            name: _compact(np.concatenate([coded.codes[keep], made.codes[name]])[order], coded.vocabulary)
            for name, coded in block.categories.items()
        },
        measures={
            name: np.concatenate([values[keep], made.values[name]])[order] for name, values in block.measures.items()
        },
    )


def _widen_events(block: EventBlock, plan: FeaturePlan) -> EventBlock:
    """Let the vocabularies hold all that the plan speaks of, and what nobody has ever seen."""
    spoken: dict[str, Collection[str]] = {**plan.vocabularies}
    settings = plan.annotations
    if settings is not None:
        lists = (
            settings.contacts, settings.activity, settings.interventions, settings.surveys, settings.promises,
            settings.asked,
        )  # fmt: skip
        spoken["touchpoint"] = {*spoken.get("touchpoint", ()), *(name for names in lists for name in names)}
        spoken["channel"] = {*spoken.get("channel", ()), *settings.self_service}
    spoken["touchpoint"] = {*spoken.get("touchpoint", ()), *plan.stages}
    return replace(block, categories=_widen(block.categories, spoken))


def _widen(columns: Mapping[str, Coded], spoken: Mapping[str, Collection[str]]) -> dict[str, Coded]:
    wide = {}
    for name, coded in columns.items():
        vocabulary = tuple(sorted({*coded.vocabulary, *spoken.get(name, ()), *_UNSEEN}))
        code_of = {value: code for code, value in enumerate(vocabulary)}
        table = np.array([*(code_of[value] for value in coded.vocabulary), -1], np.int32)
        wide[name] = Coded(table[coded.codes], vocabulary)
    return wide


def _compact(codes: Int32, vocabulary: tuple[str, ...]) -> Coded:
    """Leave out the values that do not occur."""
    used = np.unique(codes[codes >= 0])
    table = np.full(len(vocabulary) + 1, -1, np.int32)
    table[used] = np.arange(len(used))
    return Coded(table[codes], tuple(vocabulary[code] for code in used.tolist()))


def _tamper_table(
    table: CustomerTable, customers: NDArray[np.generic], cutoff: int, how: str, rng: np.random.Generator
) -> CustomerTable:
    """Delete, shuffle or add to the rows that hold from the cutoff on; some customers may have had no row so far."""
    future = table.valid_from >= cutoff
    owners = {"deleted": table.customers[:0], "shuffled": table.customers[future], "added": customers}[how]
    keep = np.ones(len(future), bool) if how == "added" else ~future
    both = np.concatenate([table.customers[keep], owners])
    valid_from = np.concatenate([table.valid_from[keep], cutoff + _steps(rng, len(owners))])
    order = np.lexsort((valid_from, np.unique(both, return_inverse=True)[1]))
    attributes = {}
    for name, coded in table.attributes.items():
        made = rng.integers(-1, len(coded.vocabulary), len(owners), np.int32)
        attributes[name] = _compact(np.concatenate([coded.codes[keep], made])[order], coded.vocabulary)
    return CustomerTable(both[order], valid_from[order], attributes)
