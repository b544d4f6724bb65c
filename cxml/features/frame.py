"""`JourneyFeatures`: learns a feature plan from a log and turns snapshots into a DataFrame of features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cxml.errors import ConfigError, nearest
from cxml.faults import read_yaml
from cxml.features.align import (
    RowsByCustomer,
    distinct_ids,
    find_customer,
    latest_cutoff,
    read_snapshots,
    refuse_other_kind,
)
from cxml.features.catalogue import check_families
from cxml.features.learn import Choice, learn_plan, split_columns
from cxml.features.matrix import fill_matrix
from cxml.features.meaning import describe_columns
from cxml.features.outcomes import Known
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import Coded, CustomerTable, EventBlock
from cxml.times import Duration, parse_instant

if TYPE_CHECKING:
    from cxml.config import ProjectConfig
    from cxml.features.pipeline import SnapshotFeatures
    from cxml.features.state import CustomerState
    from cxml.features.trace import Trace
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


class JourneyFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Point-in-time features of customers: one row for each (customer, cutoff), from the events before it only.

    Parameters
    ----------
    spec : sequence of str, Aggregate or mapping, or mapping, or YAML, optional
        A list of columns, each as in ``columns``: with no ``families`` given, these and no others beside the attributes
        of the log, each of which always is a column. Or a mapping with
        ``families``, ``columns``, ``windows``, ``max_values`` and ``max_columns``, which take the place of the
        parameters of the same name. Or either of them as YAML: a text, or the path of a file (.yaml, .yml).
    windows : sequence of str
        How far back the statistics look, e.g. ``("7d", "30d")``.
    max_values : int
        At most so many values of a category get columns of their own, the most frequent ones; the others share
        ``other``.
    families : sequence of str, optional
        Which families of columns, of `cxml.features.catalogue.FAMILIES`: basic, rhythm, trend, mix, service, feedback,
        rfm, amount, shape; `cxml train` also knows likeness and peers, which are learned from outcomes. Default:
        basic, and none where ``spec`` lists columns.
    columns : sequence of str, Aggregate or mapping
        Further columns: their names, such as ``"mean__duration@touchpoint=call__30d"``, `Aggregate` objects, mappings
        with ``statistic``, ``what`` and ``window``, or names of registered user features.
    custom : sequence of str
        User features registered with `cxml.features.custom.register_feature`.
    interventions : sequence of str
        Touchpoints that are actions of yours to keep customers, where the journeys name none.
    surveys : sequence of str
        Touchpoints that carry a score.
    scale : (float, float), optional
        Lowest and highest score.
    asked : sequence of str
        Touchpoints by which customers are asked in a survey.
    max_columns : int, optional
        At most so many columns, those of attributes and of peers among them: those of the least frequent touchpoints
        and channels are left out, columns asked for by name never; ``notes_`` says which. None: no limit.
    n_jobs : int, optional
        Threads; default: one for each core this process may use. The numbers do not depend on it.

    Attributes
    ----------
    plan_ : FeaturePlan
        What was learned: the columns and the vocabularies.
    n_features_out_ : int
        How many columns.
    notes_ : list of str
        What the families look at and the log does not hold, a line each.

    Examples
    --------
    >>> from cxml.journeys.read import read_journeys
    >>> events = pd.DataFrame({"customer_id": ["ann", "ann", "bob"], "touchpoint": ["call", "visit", "call"],
    ...                        "timestamp": pd.to_datetime(["2024-01-01", "2024-01-20", "2024-01-05"], utc=True)})
    >>> log = read_journeys(events)
    >>> features = JourneyFeatures(windows=["30d"]).fit(log)
    >>> snapshots = pd.DataFrame({"customer_id": ["bob", "ann"], "cutoff": pd.Timestamp("2024-02-01", tz="UTC")})
    >>> features.transform(log, snapshots)["count__all__30d"].tolist()
    [1.0, 1.0]
    >>> JourneyFeatures([Aggregate("count", "all", "30d"), "days_since__touchpoint=call"]).fit(log).plan_.columns
    ['count__all__30d', 'days_since__touchpoint=call']
    >>> JourneyFeatures("[tenure_days, {statistic: count, what: all, window: 7d}]").fit(log).plan_.columns
    ['tenure_days', 'count__all__7d']
    """

    def __init__(
        self,
        spec: Sequence[str | Aggregate | Mapping[str, Any]] | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        windows: Sequence[str] = ("7d", "30d", "90d", "365d"),
        max_values: int = 40,
        families: Sequence[str] | None = None,
        columns: Sequence[str | Aggregate | Mapping[str, Any]] = (),
        custom: Sequence[str] = (),
        interventions: Sequence[str] = (),
        surveys: Sequence[str] = (),
        scale: tuple[float, float] | None = None,
        asked: Sequence[str] = (),
        max_columns: int | None = 2000,
        n_jobs: int | None = None,
    ) -> None:
        self.spec = spec
        self.windows = windows
        self.max_values = max_values
        self.families = families
        self.columns = columns
        self.custom = custom
        self.interventions = interventions
        self.surveys = surveys
        self.scale = scale
        self.asked = asked
        self.max_columns = max_columns
        self.n_jobs = n_jobs

    @classmethod
    def from_config(cls, config: ProjectConfig) -> JourneyFeatures:
        """Make the features of a project file.

        Parameters
        ----------
        config : ProjectConfig

        Returns
        -------
        JourneyFeatures
            Not fitted yet.
        """
        choice = Choice.from_config(config)
        return cls(**{part.name: getattr(choice, part.name) for part in fields(choice)})

    def fit(
        self, log: JourneyLog, until: Any = None, *, outcomes: Mapping[str, Known] | None = None
    ) -> JourneyFeatures:
        """Learn which values and measures there are, from what was known before ``until``.

        Parameters
        ----------
        log : JourneyLog
            The journeys.
        until : moment, optional
            Read as `cxml.times.parse_instant` does, e.g. ``"2024-06-30"``; the end of training. Default: all of
            the log.
        outcomes : mapping of str to Known, optional
            What became of customers, by target, for likeness and peers; see `cxml.features.outcomes`. Only what was
            known before ``until`` counts.

        Returns
        -------
        JourneyFeatures
            Itself.

        Raises
        ------
        ConfigError
            If a parameter makes no sense.
        DataError
            If no event lies before ``until``.
        """
        limit = None if until is None else _instant(until, "until")
        self.notes_: list[str] = []
        self.plan_ = learn_plan(log, self._choice(), limit, outcomes, self.notes_.append)
        self.n_features_out_ = len(self.plan_.columns)
        return self

    def _choice(self) -> Choice:
        """Check the parameters, and put what the spec says in their place."""
        names = ("windows", "max_values", "families", "columns", "max_columns")
        wanted = {name: getattr(self, name) for name in names} | read_spec(self.spec)
        listed = [*_listed("columns", self.columns), *(wanted["columns"] if self.spec is not None else [])]
        columns, custom = split_columns([_as_column(column) for column in listed])
        families = wanted["families"]
        if families is None:
            families = () if self.spec is not None and listed else ("basic",)
        return Choice(
            windows=_check_windows(wanted["windows"]),
            max_values=_whole("max_values", wanted["max_values"]),
            families=check_families(families),
            columns=columns,
            custom=tuple(dict.fromkeys((*_listed("custom", self.custom), *custom))),
            interventions=_listed("interventions", self.interventions),
            surveys=_listed("surveys", self.surveys),
            scale=self.scale,
            asked=_listed("asked", self.asked),
            max_columns=None if wanted["max_columns"] is None else _whole("max_columns", wanted["max_columns"]),
        )

    @classmethod
    def from_plan(cls, plan: FeaturePlan, n_jobs: int | None = None) -> JourneyFeatures:
        """Make fitted features of a plan that was learned before, such as that of a saved model.

        Parameters
        ----------
        plan : FeaturePlan
        n_jobs : int, optional
            Threads.

        Returns
        -------
        JourneyFeatures
            What it was fitted with is the plan's alone to say; its other parameters are the defaults.

        Examples
        --------
        >>> plan = FeaturePlan((Aggregate("count", "all", "30d"),), {})
        >>> JourneyFeatures.from_plan(plan).get_feature_names_out().tolist()
        ['count__all__30d']
        """
        features = cls(n_jobs=n_jobs)
        features.plan_, features.notes_, features.n_features_out_ = plan, [], len(plan.columns)
        return features

    def transform(self, log: JourneyLog, snapshots: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of each snapshot.

        Parameters
        ----------
        log : JourneyLog
            The journeys; the one fitted on, or a later one.
        snapshots : DataFrame
            With ``customer_id`` and ``cutoff``, in any order; a cutoff without a zone is UTC. A customer whom the
            log does not know has no events: counts are 0, the rest is missing.

        Returns
        -------
        DataFrame
            One row for each snapshot, with its index; float32, and Categorical for ``last__ATTRIBUTE`` columns.

        Raises
        ------
        ConfigError
            If ``snapshots`` lacks a column.
        DataError
            If a cutoff or an id is missing, or ids and log differ in type.
        """
        matrix = self.matrix(log, snapshots)
        plan = self.plan_
        n_numeric = len(plan.numeric)
        frame = pd.DataFrame(matrix[:, :n_numeric], index=snapshots.index, columns=plan.columns[:n_numeric], copy=False)
        if not plan.categorical:
            return frame
        coded = {
            name: pd.Categorical.from_codes(
                np.nan_to_num(matrix[:, n_numeric + position], nan=-1).astype(np.int64),
                categories=pd.Index(plan.categories(name), dtype=object),
            )
            for position, name in enumerate(plan.categorical)
        }
        return pd.concat([frame, pd.DataFrame(coded, index=snapshots.index)], axis=1)

    def fit_transform(self, log: JourneyLog, snapshots: pd.DataFrame, *, until: Any = None) -> pd.DataFrame:
        """Learn what there is, and compute the features of each snapshot.

        Parameters
        ----------
        log, snapshots
            As in `transform`.
        until : moment, optional
            As in `fit`. Default: the latest cutoff.

        Returns
        -------
        DataFrame
            As of `transform`.

        Raises
        ------
        ConfigError, DataError
            As of `fit` and `transform`.
        """
        return self.fit(log, until=latest_cutoff(snapshots) if until is None else until).transform(log, snapshots)

    def on(self, log: JourneyLog) -> SnapshotFeatures:
        """Take one log for granted, so that snapshots alone are what is fitted and transformed.

        Parameters
        ----------
        log : JourneyLog

        Returns
        -------
        SnapshotFeatures
            A step of a scikit-learn Pipeline. It learns anew, from what was known before the latest cutoff of the
            snapshots it is fitted on.
        """
        from cxml.features.pipeline import SnapshotFeatures

        return SnapshotFeatures(log, self)

    def matrix(self, log: JourneyLog, snapshots: pd.DataFrame) -> Float32:
        """Compute the features as a matrix whose category columns hold codes.

        Parameters
        ----------
        log, snapshots
            As in `transform`.

        Returns
        -------
        float32 array of shape (n_snapshots, n_features)
            Columns in the order of ``plan_.columns``.
        """
        check_is_fitted(self, "plan_")
        ids, cutoffs = read_snapshots(snapshots)
        out = np.empty((len(cutoffs), len(self.plan_.columns)), np.float32)
        customers, which = distinct_ids(ids)
        wanted = RowsByCustomer(which, cutoffs, len(customers))
        missing = np.ones(len(customers), bool)
        index, threads = pd.Index(customers), _threads(self.n_jobs)

        def fill(block: EventBlock) -> Int64:
            refuse_other_kind(customers, block.customers)
            position = np.asarray(index.get_indexer(pd.Index(block.customers)), np.int64)
            # several blocks are worked on at a time; a single one is shared by the threads
            self._fill(
                block, *wanted.of(position), cutoffs, log.customers, out, threads if log.events.n_parts == 1 else 1
            )
            return position[position >= 0]

        for found in log.map_blocks(fill, threads):
            missing[found] = False
        if missing.any():
            strangers = _without_events(customers[missing])
            self._fill(strangers, *wanted.of(np.flatnonzero(missing)), cutoffs, log.customers, out, threads)
        return out

    def _fill(
        self,
        block: EventBlock,
        rows: Int64,
        row_starts: Int64,
        cutoffs: Int64,
        customers: CustomerTable | None,
        out: Float32,
        threads: int | None,
    ) -> None:
        """Fill the ``rows`` of ``out``: those of the block's customers, customer by customer."""
        if not len(rows):
            return
        fill_matrix(
            self.plan_, block, row_starts, cutoffs[rows],
            customers=customers, threads=threads, out=out, rows=rows,
        )  # fmt: skip

    def catalogue(self, log: JourneyLog) -> pd.DataFrame:
        """Tell of every column what it is, in plain words.

        Parameters
        ----------
        log : JourneyLog
            The journeys; its config may say whose business a touchpoint is.

        Returns
        -------
        DataFrame
            One row a column: ``column``, ``statistic``, ``window``, ``sentence``, ``factor`` (what it tells of the
            customer: does, feels, likes, sees, thinks, wants) and ``owner`` (who can act on it: service, product,
            logistics, marketing, billing). The last five are empty for attributes and user features where unknown.
        """
        check_is_fitted(self, "plan_")
        return pd.DataFrame(describe_columns(self.plan_, log.config))

    def state(
        self,
        events: Iterable[Mapping[str, Any]] = (),
        *,
        customer_id: int | str | None = None,
        log: JourneyLog | None = None,
    ) -> CustomerState:
        """Keep one customer warm: events are added as they come, and features are there at once.

        Parameters
        ----------
        events : iterable of mapping
            Events to begin with, as `cxml.features.state.CustomerState.update` takes them.
        customer_id : int or str, optional
            Whose events; needed with ``log``.
        log : JourneyLog, optional
            To begin with what it holds of the customer.

        Returns
        -------
        CustomerState
            Its ``vector(at)`` gives the bits that `matrix` gives.

        Raises
        ------
        ConfigError
            If ``events`` is no list of mappings, or ``customer_id`` is missing beside ``log``.
        DataError
            If an event cannot be read.

        Notes
        -----
        A log does not keep ``sequence``: beside an event of ``log`` that happened at the very same moment, one that is
        added takes its place as if that one had none. A state made of ``events`` alone knows all of it.

        Examples
        --------
        >>> from cxml.journeys.read import read_journeys
        >>> when = pd.to_datetime(["2024-01-01", "2024-01-20"], utc=True)
        >>> log = read_journeys(pd.DataFrame({"customer_id": "ann", "touchpoint": "call", "timestamp": when}))
        >>> state = JourneyFeatures(windows=["30d"]).fit(log).state(customer_id="ann", log=log)
        >>> state.update({"timestamp": pd.Timestamp("2024-01-25", tz="UTC"), "touchpoint": "call"})
        >>> dict(zip(state.plan.columns, state.vector("2024-02-01").tolist()))["count__all__30d"]
        2.0
        """
        from cxml.features.state import CustomerState

        check_is_fitted(self, "plan_")
        if isinstance(events, pd.DataFrame | Mapping | str) or not isinstance(events, Iterable):
            raise ConfigError(
                f"state: events are a list of mappings, one for each event, not {type(events).__name__}; of a "
                "DataFrame give events.to_dict('records'), of a log customer_id=... and log=..."
            )
        further: dict[str, Any] = {}
        if log is not None:
            if customer_id is None:
                raise ConfigError("state: say whose events of the log to begin with: customer_id=...")
            further = {
                "events": find_customer(log, customer_id),
                "customers": log.customers,
                "measures": log.config.measures,
                "attributes": log.config.attributes,
            }
        state = CustomerState(self.plan_, customer_id=customer_id, **further)
        for event in events:
            state.update(event)
        return state

    @overload
    def trace(self, log: JourneyLog, customer_id: int | str, cutoff: Any, column: str) -> Trace: ...

    @overload
    def trace(self, customer_id: int | str, cutoff: Any, column: str, *, log: JourneyLog) -> Trace: ...

    def trace(self, *question: Any, **named: Any) -> Trace:
        """Find the events behind one value.

        Parameters
        ----------
        log : JourneyLog
            The first, or by its name wherever you like: ``trace(customer_id, cutoff, column, log=log)``.
        customer_id : int or str
        cutoff : moment
        column : str
            Name of a feature.

        Returns
        -------
        Trace
            The value, what it is in plain words, and the events behind it, as places among the customer's events, with
            their times.

        Raises
        ------
        ConfigError
            If there is no such column.
        DataError
            If the log does not know the customer.
        """
        from cxml.features.trace import trace

        check_is_fitted(self, "plan_")
        log, customer_id, cutoff, column = _trace_arguments(question, named)
        block = find_customer(log, customer_id)
        return trace(self.plan_, block, _instant(cutoff, "cutoff"), column, log.customers)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Give the names of the columns.

        Returns
        -------
        object array of shape (n_features,)
        """
        check_is_fitted(self, "plan_")
        return np.array(self.plan_.columns, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "plan_")


def read_spec(spec: Any) -> dict[str, Any]:
    """Read what a list of columns, a mapping or their YAML says of features.

    Parameters
    ----------
    spec : list, mapping, str, path or None
        As `JourneyFeatures` takes it.

    Returns
    -------
    dict of str to object
        Some of ``windows``, ``max_values``, ``families``, ``columns`` and ``max_columns``.

    Raises
    ------
    ConfigError
        If it is none of these, a key is unknown, or a file cannot be read.

    Examples
    --------
    >>> read_spec("{families: [trend], columns: [count__all__30d]}")
    {'families': ['trend'], 'columns': ['count__all__30d']}
    >>> read_spec(["count__all__30d"])
    {'columns': ['count__all__30d']}
    """
    if spec is None:
        return {}
    if isinstance(spec, str | os.PathLike):
        content = _read_yaml_spec(spec)
        if content is None or isinstance(content, str):
            raise ConfigError(f"spec: {os.fspath(spec)!r} is no list; write [{content or 'count__all__30d'}]")
        return read_spec(content)
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in _SPEC_KEYS:
                raise ConfigError(f"spec: unknown key '{key}'{nearest(key, _SPEC_KEYS)}")
        found = dict(spec)
        return found | ({"columns": list(_listed("columns", found["columns"]))} if "columns" in found else {})
    return {"columns": list(_listed("spec", spec))}


_SPEC_KEYS = ("windows", "max_values", "families", "columns", "max_columns")


def _read_yaml_spec(spec: str | os.PathLike[str]) -> Any:
    is_file = not isinstance(spec, str) or ("\n" not in spec and spec.lower().endswith((".yaml", ".yml")))
    if not is_file:
        return read_yaml(os.fspath(spec), "spec")[0]
    try:
        return read_yaml(Path(spec).read_text(encoding="utf-8"), os.fspath(spec))[0]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"spec: cannot read '{os.fspath(spec)}': {why}. Name a YAML file, or give a list") from error


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    """Refuse what is no list; a single text would be taken letter by letter."""
    if isinstance(values, str | Mapping | Aggregate) or not isinstance(values, Iterable):
        raise ConfigError(f"{name}: {values!r} is no list; write [{values!r}]")
    return tuple(values)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be a whole number from 1; it is {value!r}")
    return int(value)


def _trace_arguments(question: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Tell the log, which comes first or by its name, from the customer, the cutoff and the column."""
    names = ("log", "customer_id", "cutoff", "column")
    given = dict(zip([name for name in names if name != "log"] if "log" in named else names, question, strict=False))
    twice, found = given.keys() & named.keys(), given | dict(named)
    if twice or len(given) < len(question) or found.keys() != set(names):
        raise TypeError(
            "trace takes a log, a customer, a cutoff and a column: trace(customer_id, cutoff, column, log=log)"
        )
    return found["log"], found["customer_id"], found["cutoff"], found["column"]


def _as_column(column: Any) -> str | Aggregate:
    if isinstance(column, str | Aggregate):
        return column
    is_mapping = isinstance(column, Mapping) and {"statistic"} <= set(column) <= {"statistic", "what", "window"}
    if is_mapping and all(isinstance(value, str) for value in column.values()):
        return Aggregate(**{"what": "", **column} if column["statistic"] == "tenure_days" else column)
    raise ConfigError(
        f"columns: {column!r} is no column; write its name, such as count__touchpoint=call__30d, or a mapping with "
        "statistic, what and window"
    )


def _without_events(customers: NDArray[Any]) -> EventBlock:
    return EventBlock(
        customers=customers,
        starts=np.zeros(len(customers) + 1, np.int64),
        time=np.empty(0, np.int64),
        known=None,
        categories={"touchpoint": Coded(np.empty(0, np.int32), ())},
    )


def _check_windows(windows: Sequence[str]) -> list[str]:
    if isinstance(windows, str) or not len(windows):
        raise ConfigError(f"windows must be a list of durations such as ['7d', '30d']; it is {windows!r}")
    try:
        return [str(window) for window in sorted({Duration.parse(window) for window in windows})]
    except ValueError as error:
        raise ConfigError(f"windows: {error}") from None


def _instant(value: Any, name: str) -> int:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _threads(n_jobs: int | None) -> int | None:
    if n_jobs is None or n_jobs == -1:
        return None
    if n_jobs < 1:
        raise ConfigError(f"n_jobs must be a positive number of threads, -1 or None; it is {n_jobs}")
    return n_jobs
