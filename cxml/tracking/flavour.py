"""What MLflow calls when it loads a model of ours: `mlflow.pyfunc.load_model(ref)` ends in `_load_pyfunc`.

A logged model is the model folder as data and the name of this module: no pickle, and no code of its own. What
runs at load is the installed package, so a tampered artifact may fail to load but brings no code along.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxml.errors import ConfigError, DataError
from cxml.times import format_instant, parse_instant

if TYPE_CHECKING:
    import pandas as pd

    from cxml.models.store import SavedModel
    from cxml.scoring.scorer import Scorer

_CUTOFF = "cutoff"


class JourneyModel:
    """A scorer as MLflow wants it: a frame of events or of features in, a frame of scores out.

    Parameters
    ----------
    scorer : Scorer
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score every customer of an events frame, or every row of a frame that holds all features of the model.

        ``params`` may hold ``at`` and ``reasons`` of `score_frame`; rows of features have their cutoff already.
        """
        given = dict(params or {})
        if set(self.scorer.model.plan.columns) <= set(model_input.columns):
            if given.pop("at", None) is not None:
                raise ConfigError("'at' is for frames of events; features were computed at some cutoff already")
            return score_features(self.scorer, model_input, **given)
        return score_frame(self.scorer, model_input, **given)


def _load_pyfunc(path: str | os.PathLike[str]) -> JourneyModel:
    from cxml.scoring.scorer import load

    return JourneyModel(load(find_model(path)))


def find_model(packed: str | os.PathLike[str]) -> Path:
    """Find the model folder within what MLflow packed around it.

    Raises
    ------
    ConfigError
        If there is none.
    """
    folder = Path(packed)
    found = sorted(file.parent for pattern in ("", "*/", "data/*/") for file in folder.glob(f"{pattern}model.json"))
    if not found:
        raise ConfigError(f"'{folder}' is no model of cxml: it holds no model.json")
    return found[0]


def score_frame(scorer: Scorer, events: pd.DataFrame, at: Any = None, reasons: int = 3) -> pd.DataFrame:
    """Score every customer of an events frame.

    Parameters
    ----------
    scorer : Scorer
    events : DataFrame
        Events of any number of customers in any order, under the source's own column names or the canonical ones.
        A column ``cutoff`` gives each customer a cutoff of its own; columns named like the model's customer
        attributes tell what is known of the customer (the last value that is not missing counts).
    at : date, datetime or str, optional
        One cutoff for all. Default, without a column ``cutoff``: just after the last event of the frame, so that who
        has been silent for long is seen to be. A frame does not say who has left: leave these customers out, or let
        the batch job do it.
    reasons : int
        How many reasons to give.

    Returns
    -------
    DataFrame
        One row a customer, ascending by ``customer_id``, with the columns of the batch job's scores.

    Raises
    ------
    ConfigError
        If the frame has no customer column, or cutoffs contradict each other.
    DataError
        If a journey cannot be scored; names the customer.
    """
    import pandas as pd

    frame = events if isinstance(events, pd.DataFrame) else pd.DataFrame(events)
    customer_column = _customer_column(scorer, frame)
    cutoffs = _cutoffs(frame, customer_column, at)
    known = [name for name in scorer.model.settings["customer_attributes"] if name in frame.columns]
    given = frame.drop(columns=[name for name in (_CUTOFF, *known) if name in frame.columns])
    if at is None and _CUTOFF not in frame.columns:
        at = _just_after(scorer, given, customer_column)
    answers = []
    for customer, rows in given.groupby(customer_column, sort=True):
        about = _last_known(frame.loc[rows.index, known]) if known else None
        try:
            answers += scorer.score_many(
                {_plain(customer): _records(rows)},
                cutoffs.get(customer, at),
                customers=None if about is None else {_plain(customer): about},
                reasons=reasons,
            )
        except DataError as error:
            raise DataError(f"customer {_plain(customer)!r}: {error}") from error
    scores = pd.DataFrame(answers)
    if len(scores):
        scores[_CUTOFF] = pd.to_datetime(scores[_CUTOFF], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    return scores


def score_features(scorer: Scorer, features: pd.DataFrame, reasons: int = 3) -> pd.DataFrame:
    """Score every row of a feature frame.

    Parameters
    ----------
    scorer : Scorer
    features : DataFrame
        As ``cxml features --model`` writes it: the columns of the model in any order, and beside them what should
        stand in front of the scores, ``customer_id`` and ``cutoff``.
    reasons : int
        How many reasons to give.

    Returns
    -------
    DataFrame
        A row for each row, with the columns of the batch job's scores but ``status``, which only events tell.
    """
    import pandas as pd

    from cxml.models.frames import Columns
    from cxml.scoring.answer import score_matrix

    plan = scorer.model.plan
    categories = {name: plan.categories(name) for name in plan.categorical}
    texts = [name for name in categories if str(features[name].dtype) != "category"]  # from a CSV file or a request
    features = features.astype(dict.fromkeys(texts, "category"))
    matrix = Columns(len(plan.columns), tuple(plan.columns), categories).matrix(features).astype("float32")
    kept = {name: features[name].reset_index(drop=True) for name in ("customer_id", _CUTOFF) if name in features}
    return pd.DataFrame({**kept, **score_matrix(scorer.model, matrix, reasons=reasons)})


def example_events(model: SavedModel) -> pd.DataFrame:
    """Make up a few events of a customer who does not exist, to show what a request looks like.

    Parameters
    ----------
    model : SavedModel

    Returns
    -------
    DataFrame
        Under the source's own column names, stamps as ISO 8601 texts.
    """
    import pandas as pd

    columns = model.settings["journeys"]["columns"]
    customer, timestamp, touchpoint = (
        columns.get(name, (name,))[0] for name in ("customer_id", "timestamp", "touchpoint")
    )
    words = (model.settings["touchpoints"] or ["visit"])[:3]
    days = [f"2024-01-{day:02d}T12:00:00Z" for day in range(1, len(words) + 1)]
    return pd.DataFrame({customer: ["example"] * len(words), timestamp: days, touchpoint: words})


def _just_after(scorer: Scorer, events: pd.DataFrame, customer_column: str) -> Any:
    """Give the moment just after the last event of all customers; None for at most one, whose own last event it is."""
    if events[customer_column].nunique() < 2:
        return None
    lasts = []
    for customer, rows in events.groupby(customer_column, sort=True):
        try:
            [answer] = scorer.score_many({_plain(customer): _records(rows)}, reasons=0)
        except DataError as error:
            raise DataError(f"customer {_plain(customer)!r}: {error}") from error
        lasts.append(answer[_CUTOFF])
    return format_instant(max(parse_instant(last) for last in lasts))


def _customer_column(scorer: Scorer, frame: pd.DataFrame) -> str:
    accepted = ("customer_id", *scorer.model.settings["journeys"]["columns"].get("customer_id", ()))
    found = [str(name) for name in dict.fromkeys(accepted) if name in frame.columns]
    if len(found) != 1:
        what = f"both '{found[0]}' and '{found[1]}'" if found else "none of these"
        raise ConfigError(
            f"the events must have one customer column, called {' or '.join(dict.fromkeys(accepted))}; they have {what}"
        )
    missing = int(frame[found[0]].isna().sum())
    if missing:
        raise DataError(f"column '{found[0]}': empty in {missing} of {len(frame)} rows; drop them or fill them")
    return found[0]


def _cutoffs(frame: pd.DataFrame, customer_column: str, at: Any) -> Mapping[Any, Any]:
    if _CUTOFF not in frame.columns:
        return {}
    if at is not None:
        raise ConfigError("the events have a column 'cutoff' and 'at' was given too; use one of them")
    by_customer = frame.groupby(customer_column)[_CUTOFF]
    torn = by_customer.nunique(dropna=False)
    if (torn != 1).any():
        first, many = torn.index[torn != 1][0], int((torn != 1).sum())
        raise ConfigError(
            f"column 'cutoff': customer {_plain(first)!r} has {int(torn[first])} cutoffs ({many} customers have more "
            "than one). Give each customer one, and score further cutoffs in further calls."
        )
    return {customer: None if value != value else value for customer, value in by_customer.first().items()}


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts, without their missing values."""
    columns = [(name, rows[name].notna().tolist(), rows[name].tolist()) for name in rows.columns]
    return [{name: values[i] for name, there, values in columns if there[i]} for i in range(len(rows))]


def _last_known(rows: pd.DataFrame) -> dict[str, Any]:
    return {str(name): rows[name].dropna().iloc[-1] for name in rows.columns if rows[name].notna().any()}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
