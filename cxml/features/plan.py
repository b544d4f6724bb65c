"""The fitted feature plan: plain data that says every column, and the tables it becomes for the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cxml.errors import ConfigError, nearest
from cxml.features.custom import check_name, registered
from cxml.features.derive import extend
from cxml.features.kernel import FIELDS, Extended, Tables
from cxml.features.peers import PeerTable
from cxml.features.selectors import Selector, atoms, explain_break
from cxml.features.spec import (
    CATEGORY_STATISTICS,
    FIRST_WALK_STATISTICS,
    MEASURE_STATISTICS,
    OTHER,
    Aggregate,
    slot_column,
)
from cxml.times import Duration

if TYPE_CHECKING:
    from cxml.features.annotations import AnnotationSettings


#: The parameters r, alpha (in days), a and b of the BG/NBD model.
Alive = tuple[float, float, float, float]


@dataclass(frozen=True)
class FeaturePlan:
    """Everything needed to compute the same columns again, anywhere.

    Parameters
    ----------
    aggregates : tuple of Aggregate
        The numeric columns, in order.
    vocabularies : dict of str to tuple of str
        Fitted values of each categorical column, in the order of their codes. A value that is not there counts
        as ``other``, with code ``len(vocabulary)``. ``stage`` need not be there: it follows from ``stages``.
    stages : dict of str to str
        Touchpoint to lifecycle stage.
    attributes : tuple of str
        Categorical columns of the journeys; each becomes ``last__NAME``, its last known value.
    customer_attributes : tuple of str
        Categorical columns of the customer table; each becomes ``last__NAME``, its value as of the cutoff.
    alive : tuple of four float, or mapping of str to tuple of four float, optional
        The parameters r, alpha (in days), a and b of the BG/NBD model, for ``p_alive``; a mapping gives them by
        selector (that of all events is ``"all"``).
    annotations : AnnotationSettings, optional
        Where given, measures and categories that bear the name of an annotation (see
        `cxml.features.annotations.ANNOTATIONS`) and that the journeys do not hold are computed from the events.
    custom : tuple of str
        User features, by the names under which the process registers them (see `cxml.features.custom`).
    peers : tuple of PeerTable
        Rates among customers of the same attribute; each becomes ``peer_TARGET__ATTRIBUTE``.
    wide : dict of str to tuple of str
        Values that ``distinct`` and ``entropy`` tell apart, of the categories where these are more than those of the
        vocabulary.
    further_measures : tuple of str, optional
        The measures of the journeys beside the canonical ones, which user features may look at. Where given, they are
        refused any column that the journeys cannot have; else such a column is missing throughout.

    Raises
    ------
    ConfigError
        If two columns have one name, a column looks at something the vocabularies do not know, or ``p_alive`` lacks
        its parameters.

    Examples
    --------
    >>> plan = FeaturePlan((Aggregate("count", "touchpoint=call", "30d"),), {"touchpoint": ("call", "visit")})
    >>> plan.columns
    ['count__touchpoint=call__30d']
    >>> FeaturePlan.from_dict(plan.to_dict()) == plan
    True
    """

    aggregates: tuple[Aggregate, ...]
    vocabularies: dict[str, tuple[str, ...]]
    stages: dict[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    customer_attributes: tuple[str, ...] = ()
    alive: Alive | Mapping[str, Alive] | None = None
    annotations: AnnotationSettings | None = None
    custom: tuple[str, ...] = ()
    peers: tuple[PeerTable, ...] = ()
    wide: dict[str, tuple[str, ...]] = field(default_factory=dict)
    further_measures: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.stages:
            stages = tuple(sorted(set(self.stages.values()) - {OTHER}))
            object.__setattr__(self, "vocabularies", {**self.vocabularies, "stage": stages})
        for column, values in self.vocabularies.items():
            if len({*values, OTHER}) != len(values) + 1:
                raise ConfigError(f"vocabulary of '{column}': values must differ from each other and from '{OTHER}'")
        for name in self.custom:
            check_name(name)
        names = self.columns
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two features are called '{twice}'; rename the attribute or measure it comes from")
        for name in (*self.attributes, *self.customer_attributes):
            self._check_column(name, f"last__{name}")
        for aggregate in self.aggregates:
            self._check_aggregate(aggregate)
        self._check_alive()
        for column, values in self.wide.items():
            self._check_column(column, f"distinct__{column}")
            if len({*values, OTHER}) != len(values) + 1 or not {*values} >= {*self.vocabularies[column]}:
                raise ConfigError(
                    f"wide values of '{column}' must differ from each other and from '{OTHER}', and hold its vocabulary"
                )
        for peers in self.peers:
            self._check_peers(peers)

    def _check_aggregate(self, aggregate: Aggregate) -> None:
        if aggregate.statistic in CATEGORY_STATISTICS:
            self._check_column(aggregate.column, aggregate.name)
        for atom in atoms(aggregate.condition):
            if not isinstance(atom.value, str):
                continue
            self._check_column(atom.column, aggregate.name)
            known = (*self.vocabularies[atom.column], OTHER)
            if atom.value not in known:
                raise ConfigError(
                    f"feature '{aggregate.name}': {atom.column} has no value '{atom.value}'"
                    f"{explain_break(atom) or self._offer(atom.column, atom.value)}"
                )

    def _offer(self, column: str, value: str) -> str:
        """Say which value may have been meant."""
        if column != "transition" or self.annotations is None:
            values = (*self.vocabularies[column], OTHER)
            return nearest(value.zfill(2) if value.zfill(2) in values else value, values)  # 7 means 07
        pairs = ", ".join(f"'{pair}'" for pair in self.vocabularies[column]) or "none"
        return f"; a pair is written before>after, the ones with a value of their own are {pairs}, any other is 'other'"

    def _check_alive(self) -> None:
        for aggregate in self.aggregates:
            if aggregate.statistic == "p_alive" and aggregate.selector not in self.alive_of:
                raise ConfigError(
                    f"feature '{aggregate.name}' needs the four parameters of the BG/NBD model; give the plan "
                    f"alive=(r, alpha, a, b), or {{'{aggregate.selector}': (r, alpha, a, b)}}"
                )
        for found in _models(self.alive):
            if len(found) != 4 or not all(np.isfinite(number) and number > 0 for number in found):
                raise ConfigError(f"alive must be four positive numbers (r, alpha, a, b); it is {found}")

    def _check_peers(self, peers: PeerTable) -> None:
        names = (*self.attributes, *self.customer_attributes)
        if peers.attribute not in names:
            raise ConfigError(
                f"feature '{peers.name}': no attribute '{peers.attribute}'{nearest(peers.attribute, names)}"
            )
        n_codes, n_rates = len(self.vocabularies[peers.attribute]) + 2, peers.table.shape[2]
        if n_rates != n_codes:
            raise ConfigError(
                f"feature '{peers.name}' needs {n_codes} rates, one for each value, other and unknown; it has {n_rates}"
            )

    def _check_column(self, column: str, name: str) -> None:
        if column not in self.vocabularies:
            raise ConfigError(f"feature '{name}': unknown column '{column}'{nearest(column, self.vocabularies)}")

    @cached_property
    def columns(self) -> list[str]:
        """Names of all columns in order: the numeric ones, then the categorical ones."""
        return [*self.numeric, *self.categorical]

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the columns that hold numbers: the aggregates, the user features, the rates among peers."""
        return (*(a.name for a in self.aggregates), *self.custom, *(peers.name for peers in self.peers))

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the columns whose numbers are codes of a vocabulary."""
        return tuple(f"last__{name}" for name in (*self.attributes, *self.customer_attributes))

    @property
    def windows(self) -> tuple[str, ...]:
        """The windows in use, shortest first."""
        return tuple(sorted({a.window for a in self.aggregates if a.window}, key=_width_us))

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """The measures in use."""
        return tuple(dict.fromkeys(a.measure for a in self.aggregates if a.measure is not None))

    @property
    def alive_of(self) -> Mapping[str, Alive]:
        """The parameters of ``p_alive`` by selector."""
        if self.alive is None or isinstance(self.alive, Mapping):
            return self.alive or {}
        return {a.selector: self.alive for a in self.aggregates if a.statistic == "p_alive"}

    @cached_property
    def peer_places(self) -> tuple[tuple[int, int], ...]:
        """For each of ``peers`` the number of the column of its attribute, and of its own."""
        place = {name: i for i, name in enumerate(self.columns)}
        return tuple((place[f"last__{peers.attribute}"], place[peers.name]) for peers in self.peers)

    def categories(self, column: str) -> tuple[str, ...]:
        """Give what the codes of a categorical column mean: its vocabulary and then ``other``.

        Parameters
        ----------
        column : str
            One of ``categorical``.
        """
        if column not in self.categorical:
            raise ConfigError(f"'{column}' is no categorical feature{nearest(column, self.categorical)}")
        return (*self.vocabularies[column.removeprefix("last__")], OTHER)

    @overload
    def describe(self) -> dict[str, str]: ...

    @overload
    def describe(self, column: str) -> str: ...

    def describe(self, column: str | None = None) -> dict[str, str] | str:
        """Say in one plain sentence each what the columns hold.

        Parameters
        ----------
        column : str, optional
            The only one to describe.

        Returns
        -------
        dict of str to str, or str
            Column name to sentence, in the order of ``columns``; for one column its sentence.

        Raises
        ------
        ConfigError
            If the plan has no such column, or a user feature is not registered.

        Examples
        --------
        >>> FeaturePlan((Aggregate("count", "all", "30d"),), {}).describe("count__all__30d")
        'Number of events in the 30 days before the cutoff.'
        """
        aggregates = {aggregate.name: aggregate for aggregate in self.aggregates}
        if column is not None and column not in self.columns:
            raise ConfigError(f"the plan has no feature '{column}'{nearest(column, self.columns)}")
        names = self.columns if column is None else [column]
        said = {
            name: self._describe(aggregates[name]) if name in aggregates else self._describe_other(name)
            for name in names
        }
        return said if column is None else said[column]

    def _describe_other(self, name: str) -> str:
        if name in self.custom:
            return registered(name).sentence
        for peers in self.peers:
            if peers.name == name:
                return peers.describe()
        attribute = name.removeprefix("last__")
        if attribute in self.attributes:
            return f"Last known {attribute} in the events before the cutoff."
        return f"The customer's {attribute} as the customer table has it at the cutoff."

    def _describe(self, aggregate: Aggregate) -> str:
        """Say what a column holds, and what the annotations in it are."""
        sentence = aggregate.describe()
        names = _names_of_annotations(self, _names_in(aggregate))
        if not names:
            return sentence
        from cxml.features.annotations import ANNOTATIONS

        return sentence.removesuffix(".") + "".join(f"; {name}: {ANNOTATIONS[name].sentence}" for name in names) + "."

    def to_dict(self) -> dict[str, Any]:
        """Give the plan as JSON-able data."""
        data: dict[str, Any] = {
            "features": [aggregate.name for aggregate in self.aggregates],
            "vocabularies": {name: list(values) for name, values in self.vocabularies.items()},
            "stages": dict(self.stages),
            "attributes": list(self.attributes),
            "customer_attributes": list(self.customer_attributes),
        }
        if self.alive is not None:
            data["alive"] = _write_alive(self.alive)
        if self.annotations is not None:
            data["annotations"] = self.annotations.to_dict()
        if self.custom:
            data["custom"] = list(self.custom)
        if self.peers:
            data["peers"] = [peers.to_dict() for peers in self.peers]
        if self.wide:
            data["wide"] = {name: list(values) for name, values in self.wide.items()}
        if self.further_measures is not None:
            data["further_measures"] = list(self.further_measures)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeaturePlan:
        """Read back what `to_dict` gave.

        Raises
        ------
        ConfigError
            If a part is missing or a name is not that of a feature.
        """
        try:
            return cls(
                aggregates=tuple(Aggregate.parse(name) for name in data["features"]),
                vocabularies={name: tuple(values) for name, values in data["vocabularies"].items()},
                stages=dict(data["stages"]),
                attributes=tuple(data["attributes"]),
                customer_attributes=tuple(data["customer_attributes"]),
                alive=_read_alive(data.get("alive")),
                annotations=_read_annotations(data.get("annotations")),
                custom=tuple(data.get("custom", ())),
                peers=tuple(PeerTable.from_dict(peers) for peers in data.get("peers", ())),
                wide={name: tuple(values) for name, values in data.get("wide", {}).items()},
                further_measures=tuple(data["further_measures"]) if "further_measures" in data else None,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"this is not a feature plan: {error!r}. Train the model again.") from error

    @cached_property
    def compiled(self) -> CompiledPlan:
        """The tables of the kernel; built once."""
        return CompiledPlan.build(self)


def _width_us(window: str) -> int:
    return Duration.parse(window.partition("/")[0]).us


def _models(alive: Alive | Mapping[str, Alive] | None) -> tuple[Alive, ...]:
    if isinstance(alive, Mapping):
        return tuple(alive.values())
    return () if alive is None else (alive,)


def _write_alive(alive: Alive | Mapping[str, Alive]) -> list[float] | dict[str, list[float]]:
    if isinstance(alive, Mapping):
        return {selector: list(numbers) for selector, numbers in alive.items()}
    return list(alive)


def _read_alive(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {selector: tuple(numbers) for selector, numbers in data.items()}
    return None if data is None else tuple(data)


def _read_annotations(data: Mapping[str, Any] | None) -> AnnotationSettings | None:
    if data is None:
        return None
    from cxml.features.annotations import AnnotationSettings

    return AnnotationSettings.from_dict(data)


def _names_in(aggregate: Aggregate) -> set[str]:
    """Give the measures and categories that an aggregate looks at."""
    names = {atom.column for atom in atoms(aggregate.condition)} | {aggregate.measure or ""}
    return names | ({aggregate.column} if aggregate.statistic in CATEGORY_STATISTICS else set())


def _names_of_annotations(plan: FeaturePlan, names: set[str]) -> tuple[str, ...]:
    """Tell which of ``names`` are annotations that the plan may have computed."""
    if plan.annotations is None:
        return ()
    from cxml.features.annotations import ANNOTATIONS  # only plans that have annotations pay for the import

    return tuple(sorted(names & ANNOTATIONS.keys()))


@dataclass(frozen=True)
class CompiledPlan:
    """A plan as the kernel sees it.

    Each selector (``all``, every fitted value and ``other`` of every column in use) is a *slot*, a small
    number, and the last of all is null; an event is a row of slots, one for each column. A selector that is no
    single value (a comparison or a combination) is a column of two slots: selected, and not. The values of a category
    among selected events, and more values than have a slot of their own otherwise, are a column of their own, too; an
    event that is not selected has the slot of null there. Accumulators are
    *cells* of one float64 vector: a count for each slot, waste that nobody reads, then cells for distinct values,
    active days and, ``len(FIELDS)`` together, (measure, slot) pairs.

    Parameters
    ----------
    columns : tuple of str
        What each column of the slot matrix holds; ``"all"`` is the first.
    slot_of : dict of str to dict of str to int
        Column to value to slot; ``other`` is among the values. Of a condition, the value ``""`` is selected.
    conditions : dict of str to Selector
        The columns that are conditions.
    apart : dict of str to (str, Selector)
        The columns that are a category among selected events, called ``CATEGORY@SELECTOR``.
    vocabularies : dict of str to tuple of str
        Those of the plan.
    annotations : tuple of str
        Columns and measures that are to be computed from the events where a block does not hold them.
    stages : dict of str to str
        Touchpoint to stage, from which the column ``stage`` follows.
    measures : tuple of str
        What each column of the measure matrix holds.
    tables : Tables
        Arguments of the kernel.
    extended : Extended, optional
        Those of its second walk, where a column needs it.
    """

    columns: tuple[str, ...]
    slot_of: dict[str, dict[str, int]]
    conditions: dict[str, Selector]
    apart: dict[str, tuple[str, Selector]]
    vocabularies: dict[str, tuple[str, ...]]
    annotations: tuple[str, ...]
    stages: dict[str, str]
    measures: tuple[str, ...]
    tables: Tables
    extended: Extended | None

    @classmethod
    def build(cls, plan: FeaturePlan) -> CompiledPlan:
        """Give every slot of a plan a number and every accumulator its cell."""
        values_of = {"all": (), **plan.vocabularies}
        conditions = {a.column: a.condition for a in plan.aggregates if a.column not in values_of}
        apart = {
            f"{a.category}@{a.selector}": (a.category, a.condition)
            for a in plan.aggregates
            if a.category is not None and (a.selector != "all" or a.category in plan.wide)
        }
        used = dict.fromkeys(("all", *(slot_column(a, apart) for a in plan.aggregates), *plan.attributes))
        slot_of: dict[str, dict[str, int]] = {"all": {"": 0}}
        n_slots = 1
        for column in list(used)[1:]:
            if column in conditions:
                values: tuple[str, ...] = ("", "not")
            elif column in apart:
                values = (*{**plan.vocabularies, **plan.wide}[apart[column][0]], OTHER)
            else:
                values = (*plan.vocabularies[column], OTHER)
            slot_of[column] = {value: n_slots + code for code, value in enumerate(values)}
            n_slots += len(values)
        columns = tuple(slot_of)
        names = {name for a in plan.aggregates for name in _names_in(a)}
        return cls(
            columns=columns,
            slot_of=slot_of,
            conditions=conditions,
            apart=apart,
            vocabularies=plan.vocabularies,
            annotations=_names_of_annotations(plan, names | set(plan.attributes)),
            stages=plan.stages,
            measures=plan.measures,
            tables=_Layout(plan, columns, slot_of, n_slots).tables(),
            extended=extend(
                [a for a in plan.aggregates if a.statistic not in FIRST_WALK_STATISTICS],
                columns,
                slot_of,
                plan.measures,
                {name: position for position, name in enumerate(plan.columns)},
                plan.alive_of,
            ),
        )


class _Layout:
    """Lays out cells while the tables of one plan are written."""

    def __init__(
        self, plan: FeaturePlan, columns: tuple[str, ...], slot_of: dict[str, dict[str, int]], n_slots: int
    ) -> None:
        self.plan, self.slot_of, self.n_slots = plan, slot_of, n_slots
        self.column_of = {name: position for position, name in enumerate(columns)}
        self.out_of = {name: position for position, name in enumerate(plan.columns)}
        self.waste = n_slots + 1
        self.blank = [*[0.0] * n_slots, 1.0, *[0.0] * len(FIELDS)]  # null begins at 1: it is no distinct value
        self.cell_of: dict[tuple[str, ...], int] = {}

    def slot(self, aggregate: Aggregate) -> int:
        return self.slot_of[aggregate.column][aggregate.value or ""]

    def cell(self, *key: str, blank: tuple[float, ...] = (0.0,)) -> int:
        """Give the first cell of ``key``; a new key gets cells that begin as ``blank``."""
        if key not in self.cell_of:
            self.cell_of[key] = len(self.blank)
            self.blank.extend(blank)
        return self.cell_of[key]

    def pair(self, aggregate: Aggregate) -> int:
        blank = tuple(0.0 if name in ("count", "sum") else np.nan for name in FIELDS)
        return self.cell("pair", str(aggregate.measure), aggregate.selector, blank=blank)

    def source(self, aggregate: Aggregate) -> int:
        """Give the cell a windowed column is read from."""
        if aggregate.measure is not None:
            return self.pair(aggregate) + FIELDS.index(aggregate.statistic)
        if aggregate.statistic == "distinct":
            return self.cell("distinct", slot_column(aggregate, self.slot_of))
        if aggregate.statistic == "active_days":
            return self.cell("active_days", aggregate.selector)
        return self.slot(aggregate)

    def tables(self) -> Tables:
        plan = self.plan
        first_walk = [a for a in plan.aggregates if a.statistic in FIRST_WALK_STATISTICS]
        windowed = sorted((a for a in first_walk if a.window), key=lambda a: a.width_us)
        sources = [self.source(a) for a in windowed]
        widths = sorted({a.width_us for a in windowed})
        since = [a for a in plan.aggregates if a.statistic == "days_since"]
        counted = [a for a in windowed if a.measure is None and a.statistic in ("count", "distinct")]
        count_columns = list(dict.fromkeys(slot_column(a, self.slot_of) for a in counted if a.column != "all"))
        means = [self.pair(a) for a in windowed if a.measure is not None and a.statistic == "mean"]
        return Tables(
            widths=np.array(widths, np.int64),
            tenure_out=_ints([self.out_of["tenure_days"]] if "tenure_days" in self.out_of else []),
            since_columns=_ints(dict.fromkeys(self.column_of[a.column] for a in since)),
            since_slots=_ints(self.slot(a) for a in since),
            since_out=_ints(self.out_of[a.name] for a in since),
            state_columns=_ints(self.column_of[name] for name in plan.attributes),
            state_bases=_ints(min(self.slot_of[name].values()) for name in plan.attributes),
            state_out=_ints(self.out_of[f"last__{name}"] for name in plan.attributes),
            count_columns=_ints(self.column_of[name] for name in count_columns),
            distinct_cells=_ints(self.cell_of.get(("distinct", name), self.waste) for name in count_columns),
            **self.day_tables(windowed),
            **self.pair_tables(windowed),
            mean_cells=_ints(dict.fromkeys(means)),
            window_ends=_ints(sum(a.width_us <= width for a in windowed) for width in widths),
            window_cells=_ints(sources),
            window_out=_ints(self.out_of[a.name] for a in windowed),
            blank=np.array(self.blank, np.float64),
            null_slot=np.uint32(self.n_slots),
        )

    def day_tables(self, windowed: list[Aggregate]) -> dict[str, Any]:
        chosen = [a for a in windowed if a.statistic == "active_days"]
        columns = list(dict.fromkeys(a.column for a in chosen if a.column != "all"))
        cells = np.full((len(columns), self.n_slots + 1), self.waste, np.uint32)
        all_days = self.waste
        for aggregate in chosen:
            if aggregate.column == "all":
                all_days = self.source(aggregate)
            else:
                cells[columns.index(aggregate.column), self.slot(aggregate)] = self.source(aggregate)
        days = _ints(self.column_of[name] for name in columns)
        return {"all_days": np.uint32(all_days), "day_columns": days, "day_cells": cells}

    def pair_tables(self, windowed: list[Aggregate]) -> dict[str, Any]:
        """Group the pairs into jobs, one for each (measure, column), in the order of the measures."""
        chosen = [a for a in windowed if a.measure is not None and a.statistic in MEASURE_STATISTICS]
        keys = sorted({(self.plan.measures.index(str(a.measure)), self.column_of[a.column]) for a in chosen})
        cells = np.full((len(keys), self.n_slots + 1), self.waste, np.uint32)
        for aggregate in chosen:
            job = keys.index((self.plan.measures.index(str(aggregate.measure)), self.column_of[aggregate.column]))
            cells[job, self.slot(aggregate)] = self.pair(aggregate)
        ends = [sum(measure <= m for measure, _ in keys) for m in range(len(self.plan.measures))]
        return {
            "job_ends": _ints(ends),
            "job_measures": _ints(measure for measure, _ in keys),
            "job_columns": _ints(column for _, column in keys),
            "job_cells": cells,
        }


def _ints(values: Any) -> Any:
    return np.array(list(values), np.uint32)
