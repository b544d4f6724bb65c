"""The fitted feature plan: plain data that says every column, and the tables it becomes for the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cxml.errors import ConfigError, nearest
from cxml.features.kernel import FIELDS, Tables
from cxml.features.spec import MEASURE_STATISTICS, OTHER, Aggregate


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

    Raises
    ------
    ConfigError
        If two columns have one name, or a column looks at something the vocabularies do not know.

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

    def __post_init__(self) -> None:
        if self.stages:
            stages = tuple(sorted(set(self.stages.values()) - {OTHER}))
            object.__setattr__(self, "vocabularies", {**self.vocabularies, "stage": stages})
        for column, values in self.vocabularies.items():
            if len({*values, OTHER}) != len(values) + 1:
                raise ConfigError(f"vocabulary of '{column}': values must differ from each other and from '{OTHER}'")
        names = self.columns
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two features are called '{twice}'; rename the attribute or measure it comes from")
        for name in (*self.attributes, *self.customer_attributes):
            self._check_column(name, f"last__{name}")
        for aggregate in self.aggregates:
            self._check_aggregate(aggregate)

    def _check_aggregate(self, aggregate: Aggregate) -> None:
        if aggregate.column in ("all", ""):
            return
        self._check_column(aggregate.column, aggregate.name)
        known = (*self.vocabularies[aggregate.column], OTHER)
        if aggregate.value is not None and aggregate.value not in known:
            raise ConfigError(
                f"feature '{aggregate.name}': {aggregate.column} has no value "
                f"'{aggregate.value}'{nearest(aggregate.value, known)}"
            )

    def _check_column(self, column: str, name: str) -> None:
        if column not in self.vocabularies:
            raise ConfigError(f"feature '{name}': unknown column '{column}'{nearest(column, self.vocabularies)}")

    @cached_property
    def columns(self) -> list[str]:
        """Names of all columns in order: the numeric ones, then the categorical ones."""
        return [aggregate.name for aggregate in self.aggregates] + list(self.categorical)

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

    def describe(self) -> dict[str, str]:
        """Say in one plain sentence each what the columns hold.

        Returns
        -------
        dict of str to str
            Column name to sentence, in the order of ``columns``.
        """
        said = {aggregate.name: aggregate.describe() for aggregate in self.aggregates}
        said |= {f"last__{name}": f"Last known {name} in the events before the cutoff." for name in self.attributes}
        return said | {
            f"last__{name}": f"The customer's {name} as the customer table has it at the cutoff."
            for name in self.customer_attributes
        }

    def to_dict(self) -> dict[str, Any]:
        """Give the plan as JSON-able data."""
        return {
            "features": [aggregate.name for aggregate in self.aggregates],
            "vocabularies": {name: list(values) for name, values in self.vocabularies.items()},
            "stages": dict(self.stages),
            "attributes": list(self.attributes),
            "customer_attributes": list(self.customer_attributes),
        }

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
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"this is not a feature plan: {error!r}. Train the model again.") from error

    @cached_property
    def compiled(self) -> CompiledPlan:
        """The tables of the kernel; built once."""
        return CompiledPlan.build(self)


def _width_us(window: str) -> int:
    return Aggregate("count", "all", window).width_us


@dataclass(frozen=True)
class CompiledPlan:
    """A plan as the kernel sees it.

    Each selector (``all``, every fitted value and ``other`` of every column in use) is a *slot*, a small
    number, and the last of all is null; an event is a row of slots, one for each column. Accumulators are
    *cells* of one float64 vector: a count for each slot, waste that nobody reads, then cells for distinct values,
    active days and, ``len(FIELDS)`` together, (measure, slot) pairs.

    Parameters
    ----------
    columns : tuple of str
        What each column of the slot matrix holds; ``"all"`` is the first.
    slot_of : dict of str to dict of str to int
        Column to value to slot; ``other`` is among the values.
    stages : dict of str to str
        Touchpoint to stage, from which the column ``stage`` follows.
    measures : tuple of str
        What each column of the measure matrix holds.
    tables : Tables
        Arguments of the kernel.
    """

    columns: tuple[str, ...]
    slot_of: dict[str, dict[str, int]]
    stages: dict[str, str]
    measures: tuple[str, ...]
    tables: Tables

    @classmethod
    def build(cls, plan: FeaturePlan) -> CompiledPlan:
        """Give every slot of a plan a number and every accumulator its cell."""
        used = dict.fromkeys(("all", *(a.column for a in plan.aggregates if a.column), *plan.attributes))
        slot_of: dict[str, dict[str, int]] = {"all": {"": 0}}
        n_slots = 1
        for column in list(used)[1:]:
            values = (*plan.vocabularies[column], OTHER)
            slot_of[column] = {value: n_slots + code for code, value in enumerate(values)}
            n_slots += len(values)
        columns = tuple(slot_of)
        return cls(columns, slot_of, plan.stages, plan.measures, _Layout(plan, columns, slot_of, n_slots).tables())


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
            return self.cell("distinct", aggregate.column)
        if aggregate.statistic == "active_days":
            return self.cell("active_days", aggregate.selector)
        return self.slot(aggregate)

    def tables(self) -> Tables:
        plan = self.plan
        windowed = sorted((a for a in plan.aggregates if a.window), key=lambda a: a.width_us)
        sources = [self.source(a) for a in windowed]
        widths = sorted({a.width_us for a in windowed})
        since = [a for a in plan.aggregates if a.statistic == "days_since"]
        counted = [a for a in windowed if a.measure is None and a.statistic in ("count", "distinct")]
        count_columns = list(dict.fromkeys(a.column for a in counted))
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
        columns = list(dict.fromkeys(a.column for a in chosen))
        cells = np.full((len(columns), self.n_slots + 1), self.waste, np.uint32)
        for aggregate in chosen:
            cells[columns.index(aggregate.column), self.slot(aggregate)] = self.source(aggregate)
        return {"day_columns": _ints(self.column_of[name] for name in columns), "day_cells": cells}

    def pair_tables(self, windowed: list[Aggregate]) -> dict[str, Any]:
        """Group the pairs into jobs, one for each (measure, column), in the order of the measures."""
        chosen = [a for a in windowed if a.measure is not None and a.statistic in MEASURE_STATISTICS]
        keys = sorted({(self.plan.measures.index(str(a.measure)), self.column_of[a.column]) for a in chosen})
        cells = np.full((len(keys), self.n_slots + 1), self.waste, np.uint32)
        extremes = np.zeros(len(keys), np.uint32)
        for aggregate in chosen:
            job = keys.index((self.plan.measures.index(str(aggregate.measure)), self.column_of[aggregate.column]))
            cells[job, self.slot(aggregate)] = self.pair(aggregate)
            extremes[job] |= aggregate.statistic in ("min", "max", "last")
        ends = [sum(measure <= m for measure, _ in keys) for m in range(len(self.plan.measures))]
        return {
            "job_ends": _ints(ends),
            "job_columns": _ints(column for _, column in keys),
            "job_cells": cells,
            "job_extremes": extremes,
        }


def _ints(values: Any) -> Any:
    return np.array(list(values), np.uint32)
