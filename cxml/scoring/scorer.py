"""The model inside another program: one journey in, one answer out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cxml.errors import ConfigError, CxmlError, DataError, nearest
from cxml.features.state import CustomerState
from cxml.journeys.block import EventBlock
from cxml.journeys.records import Reading, Survey, block_from_columns, id_of, read_block, read_event
from cxml.models.store import SavedModel, load_model
from cxml.scoring.answer import SingleAnswer
from cxml.scoring.quick import layout_of, read_quickly
from cxml.times import format_instant, parse_instant

Record = Mapping[str, Any]


def load(folder: str | os.PathLike[str] | bytes | bytearray | memoryview, *, warm: bool = False) -> Scorer:
    """Load a model for scoring inside this process.

    Needs neither MLflow nor pandas nor LightGBM, and never runs code from the folder.

    Parameters
    ----------
    folder : path or bytes
        A folder with ``model.json``, as written by ``cxml train``, or such a folder as `cxml.scoring.pack` packed it.
    warm : bool
        Compile now, so that the first request does not wait for it (two seconds the first time on a
        machine, half a second from the cache).

    Returns
    -------
    Scorer

    Raises
    ------
    ConfigError
        If there is no model.
    DataError
        If a file is damaged or does not match its digest.
    """
    scorer = Scorer(load_model(folder))
    if warm:
        scorer.warm_up()
    return scorer


class Scorer:
    """A loaded model that scores journeys; holds no state between calls and may be shared by threads.

    Parameters
    ----------
    model : SavedModel
    """

    def __init__(self, model: SavedModel) -> None:
        self.model = model
        journeys = model.settings["journeys"]
        self._names = {name: tuple(accepted) for name, accepted in journeys["columns"].items()}
        self._reading = Reading(
            self._names,
            tuple(journeys["measures"]),
            tuple(journeys["attributes"]),
            journeys["timezone"],
            _survey(model),
        )
        self._layout = layout_of(self._reading)
        self._answer = SingleAnswer(model)
        self._customer_attributes = frozenset(model.settings["customer_attributes"])

    def __repr__(self) -> str:
        return f"Scorer({self.model.name!r}, version {self.model.version}, targets {', '.join(self.model.targets)})"

    def score(
        self,
        events: Sequence[Record] | Mapping[str, Any],
        at: Any = None,
        *,
        customer: Record | None = None,
        reasons: int = 3,
    ) -> dict[str, Any]:
        """Score one journey.

        Parameters
        ----------
        events : list of dict, or dict of arrays
            The customer's events in any order, under the source's own column names or the canonical ones; or these
            columns, each a list or an array with one value an event.
        at : date, datetime or str, optional
            The cutoff: only events before it count. Default: just after the last event.
        customer : dict, optional
            What is known of the customer beside the events (the attributes of the project file).
        reasons : int
            How many reasons to give.

        Returns
        -------
        dict
            The columns of a score: ``cutoff``, ``churn_30d`` ..., ``status``, reasons, ``model_version``.

        Raises
        ------
        DataError
            If there is no event before the cutoff, or one cannot be read; names the event and field.
        ConfigError
            If ``at`` is no moment, or ``customer`` has an attribute the model does not know.
        """
        return self._score_block(self._block(events), at, self._about(customer), reasons)

    def _score_block(
        self, block: EventBlock, at: Any, about: Mapping[str, str | None] | None, reasons: int
    ) -> dict[str, Any]:
        """Score a journey that was read already; what `score` and `WarmCustomer.score` have in common."""
        known = block.time if block.known is None else block.known
        if not len(known):
            raise DataError("no events: a journey to score needs at least one event")
        cutoff = int(known.max()) + 1 if at is None else _moment(at)
        if int(known.min()) >= cutoff:
            raise DataError(
                f"all {block.n_events} events are at or after the cutoff {format_instant(cutoff)}; "
                "score at a later moment, or pass earlier events"
            )
        return {"cutoff": format_instant(cutoff)} | self._answer.score(block, cutoff, about, reasons=reasons)

    def score_many(
        self,
        journeys: Mapping[Any, Any],
        at: Any = None,
        *,
        customers: Mapping[Any, Record] | None = None,
        reasons: int = 3,
    ) -> list[dict[str, Any]]:
        """Score several journeys, given as id -> events; each answer begins with ``customer_id``.

        Events need not repeat the id.
        """
        customers = customers or {}
        return [
            {"customer_id": key}
            | self.score(self._owned(key, events), at, customer=customers.get(key), reasons=reasons)
            for key, events in journeys.items()
        ]

    def customer(self, customer_id: Any, events: Any = (), *, customer: Record | None = None) -> WarmCustomer:
        """Keep a customer warm: events come one by one, and a score needs no event read again.

        Parameters
        ----------
        customer_id : int or str
        events : list of dict, or dict of arrays
            What is known so far, as `score` takes it.
        customer : dict, optional
            What is known of the customer beside the events.

        Returns
        -------
        WarmCustomer

        Raises
        ------
        ConfigError, DataError
            As from `score`.
        """
        warm = WarmCustomer(self, customer_id, customer=customer)
        for number, event in enumerate(_as_records(events), start=1):
            try:
                warm.add(event)
            except CxmlError as error:
                raise type(error)(str(error).replace("record 1:", f"record {number}:", 1)) from None
        return warm

    def _owned(self, key: Any, events: Any) -> Any:
        """Say whose the events are where they do not."""
        names = self._names["customer_id"]
        if isinstance(events, Mapping):
            n = max((len(values) for values in events.values()), default=0)
            return events if any(name in events for name in names) else {**events, names[0]: [key] * n}
        _check_records(events)
        said = any(event.get(name) is not None for event in events for name in names)
        return events if said else [{**event, names[0]: key} for event in events]

    def _block(self, events: Any) -> EventBlock:
        """Read a journey, the quick way where it is a list of plain dicts."""
        if isinstance(events, Mapping):
            return block_from_columns(events, self._reading)
        found = None if self._layout is None else read_quickly(events, self._layout)
        if found is None:
            _check_records(events)
        return read_block(events, self._reading, found)

    def warm_up(self) -> None:
        """Compile everything a request may need, or load it from the cache of compiled code."""
        names = {name: self._reading.keys(name)[0] for name in self._reading.names}
        plain = {
            names["customer_id"]: 0,
            names["timestamp"]: "2024-01-02T00:00:00Z",
            names["touchpoint"]: (self.model.settings["touchpoints"] or ["x"])[0],
        }
        late = {**plain, names["touchpoint"]: "?", names["available_at"]: "2024-01-03T00:00:00Z"}
        about = dict.fromkeys(sorted(self._customer_attributes), "?")
        self.score([plain], customer=about)
        self.score([plain, late, {**late, names["timestamp"]: "2024-01-01T00:00:00+00:00"}], customer=about)

    def _about(self, customer: Record | None) -> dict[str, str | None] | None:
        """Check what is known of the customer; attributes as texts."""
        if not customer:
            return None
        unknown = customer.keys() - self._customer_attributes
        if unknown:
            name = min(unknown)
            raise ConfigError(f"customer: unknown attribute '{name}'{nearest(name, self._customer_attributes)}")
        return {name: None if value is None else str(value) for name, value in customer.items()}


class WarmCustomer:
    """The journey of one customer, kept by a scorer; made by `Scorer.customer`. May be shared by threads.

    What is kept are the events themselves, as columns of numbers. A score computes all features afresh from them, so
    that every family of features has the very bits of `Scorer.score`; what is saved is reading the events again.

    Parameters
    ----------
    scorer : Scorer
    customer_id : int or str
        Events need not repeat it.
    customer : dict, optional
        What is known of the customer beside the events.

    Notes
    -----
    Memory: for each event 24 bytes, 4 for each categorical column and 8 for each numeric one that an event had, up to
    twice that while the columns have room left; and about 6 kB for each customer. 200 events with all canonical columns
    take some 40 kB. `n_bytes` tells.

    Examples
    --------
    >>> scorer = load("models/telecom_demo")
    >>> events = [{"timestamp": f"2024-05-0{day}T10:00:00Z", "touchpoint": "call"} for day in (1, 2, 3)]
    >>> warm = scorer.customer(7, events[:2])
    >>> warm.add(events[2])
    >>> warm.score("2024-05-04") == scorer.score(events, "2024-05-04")
    True
    """

    def __init__(self, scorer: Scorer, customer_id: Any, *, customer: Record | None = None) -> None:
        self._scorer, self._about = scorer, scorer._about(customer)
        self._id = id_of(customer_id)
        reading = scorer._reading
        self._state = CustomerState(
            scorer.model.plan, customer_id=self._id, measures=reading.measures, attributes=reading.attributes
        )

    def __repr__(self) -> str:
        return f"WarmCustomer({self._id!r}, {self.n_events} events)"

    @property
    def n_events(self) -> int:
        """How many events there are."""
        return self._state.n_events

    @property
    def n_bytes(self) -> int:
        """Memory that the events take, in bytes."""
        return self._state.n_bytes

    def add(self, event: Record) -> None:
        """Add one event, at its place in the order of time.

        Parameters
        ----------
        event : dict
            As one of the list that `Scorer.score` takes.

        Raises
        ------
        DataError
            If it cannot be read, or is of another customer; the customer stays as it was.
        """
        layout = self._scorer._layout
        found = None if layout is None else read_quickly([event], layout)
        if found is None:
            _check_records([event])
        row = read_event(event, self._scorer._reading, found)
        theirs = row.pop("customer_id", self._id)
        if theirs != self._id:
            raise DataError(f"record 1: customer_id is {theirs!r}; this is customer {self._id!r}")
        self._state.insert(row)

    def score(self, at: Any = None, *, reasons: int = 3) -> dict[str, Any]:
        """Score the journey as it is.

        Parameters
        ----------
        at : date, datetime or str, optional
            The cutoff. Default: just after the last event.
        reasons : int

        Returns
        -------
        dict
            What `Scorer.score` of all events gives, in every bit.

        Raises
        ------
        ConfigError, DataError
            As from `Scorer.score`.
        """
        return self._state.ask(lambda block: self._scorer._score_block(block, at, self._about, reasons))


def _as_records(events: Any) -> Sequence[Record]:
    """Turn columns into events."""
    if not isinstance(events, Mapping):
        return cast(Sequence[Record], events)
    return [dict(zip(events, row, strict=True)) for row in zip(*events.values(), strict=True)]


def _survey(model: SavedModel) -> Survey | None:
    """Say which answers to look at; models of the first versions do not tell the touchpoint."""
    settings = model.settings.get("satisfaction", {})
    if "touchpoint" not in settings:
        return None
    return Survey(str(settings["touchpoint"]), int(settings["lowest"]), int(settings["highest"]))


def _check_records(events: Any) -> None:
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Sequence):
        raise DataError(f"events must be a list of dicts, one an event; this is a {type(events).__name__}")
    strange = next((i for i, event in enumerate(events) if not isinstance(event, Mapping)), None)
    if strange is not None:
        raise DataError(f"events: record {strange} is a {type(events[strange]).__name__}, not a dict of its columns")


def _moment(at: Any) -> int:
    try:
        return parse_instant(at)
    except ValueError as error:
        raise ConfigError(f"at: {error}") from None
