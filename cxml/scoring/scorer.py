"""The model inside another program: one journey in, one answer out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError, nearest
from cxml.journeys.block import Coded, CustomerTable
from cxml.journeys.records import block_from_records
from cxml.models.store import SavedModel, load_model
from cxml.scoring.answer import score_rows
from cxml.times import format_instant, parse_instant

Record = Mapping[str, Any]


def load(folder: str | os.PathLike[str], *, warm: bool = False) -> Scorer:
    """Load a model folder for scoring inside this process.

    Needs neither MLflow nor pandas nor LightGBM, and never runs code from the folder.

    Parameters
    ----------
    folder : path
        A folder with ``model.json``, as written by ``cxml train``.
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
        self._measures, self._attributes = tuple(journeys["measures"]), tuple(journeys["attributes"])
        self._timezone = journeys["timezone"]
        self._customer_attributes = tuple(model.settings["customer_attributes"])

    def __repr__(self) -> str:
        return f"Scorer({self.model.name!r}, version {self.model.version}, targets {', '.join(self.model.targets)})"

    def score(
        self,
        events: Sequence[Record],
        at: Any = None,
        *,
        customer: Record | None = None,
        reasons: int = 3,
    ) -> dict[str, Any]:
        """Score one journey.

        Parameters
        ----------
        events : list of dict
            The customer's events in any order, under the source's own column names or the canonical ones.
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
        _check_records(events)
        block = block_from_records(list(events), self._names, self._measures, self._attributes, self._timezone)
        if not block.n_events:
            raise DataError("no events: a journey to score needs at least one")
        known = block.time if block.known is None else block.known
        cutoff = int(known.max()) + 1 if at is None else _moment(at)
        if int(known.min()) >= cutoff:
            raise DataError(
                f"all {block.n_events} events are at or after the cutoff {format_instant(cutoff)}; "
                "score at a later moment, or pass earlier events"
            )
        table = self._customer_table(customer, block.customers)
        columns = score_rows(self.model, block, np.array([0, 1]), np.array([cutoff]), table, reasons=reasons)
        return {"cutoff": format_instant(cutoff)} | {name: _plain(values[0]) for name, values in columns.items()}

    def score_many(
        self,
        journeys: Mapping[Any, Sequence[Record]],
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

    def _owned(self, key: Any, events: Sequence[Record]) -> Sequence[Record]:
        """Say whose the events are where they do not."""
        _check_records(events)
        names = self._names["customer_id"]
        said = any(event.get(name) is not None for event in events for name in names)
        return events if said else [{**event, names[0]: key} for event in events]

    def warm_up(self) -> None:
        """Compile everything a request needs."""
        touchpoint = self._names["touchpoint"][0]
        event = {self._names["customer_id"][0]: 0, self._names["timestamp"][0]: "2024-01-01T00:00:00Z"}
        self.score([event | {touchpoint: (self.model.settings["touchpoints"] or ["x"])[0]}])

    def _customer_table(self, customer: Record | None, ids: NDArray[np.generic]) -> CustomerTable | None:
        if not self._customer_attributes:
            return None
        given = customer or {}
        unknown = set(given) - set(self._customer_attributes)
        if unknown:
            name = min(unknown)
            raise ConfigError(f"customer: unknown attribute '{name}'{nearest(name, self._customer_attributes)}")
        attributes = {}
        for name in self._customer_attributes:
            value = given.get(name)
            attributes[name] = (
                Coded(np.array([-1], np.int32), ()) if value is None else Coded(np.zeros(1, np.int32), (str(value),))
            )
        return CustomerTable(ids, np.full(1, np.iinfo(np.int64).min), attributes)


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


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
