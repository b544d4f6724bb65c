"""From events to the columns of a score: the one way, for one journey and for a million."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.explain.reasons import top_reasons
from cxml.features.matrix import fill_matrix
from cxml.features.single import SingleRow
from cxml.journeys.block import CustomerTable, EventBlock
from cxml.models.predictor import CumulativePredictor, class_probabilities
from cxml.models.store import SavedModel
from cxml.times import Duration

Int64 = NDArray[np.int64]

#: A customer with fewer known events than this is scored, and marked ``thin``.
THIN_EVENTS = 3
#: From this share of touchpoints that training never saw, a journey is marked ``unseen``.
UNSEEN_SHARE = 0.5

BANDS = ("low", "medium", "high")

_ONE_ROW = np.array([0, 1], np.int64)


def score_rows(
    model: SavedModel,
    block: EventBlock,
    row_starts: Int64,
    cutoffs: Int64,
    customers: CustomerTable | None = None,
    *,
    reasons: int = 3,
    threads: int = 1,
) -> dict[str, Any]:
    """Score (customer, cutoff) rows of a block.

    Parameters
    ----------
    model : SavedModel
    block : EventBlock
    row_starts : int64 array of shape (n_customers + 1,)
        Rows of customer ``i`` are ``row_starts[i]:row_starts[i + 1]``.
    cutoffs : int64 array of shape (n_rows,)
        Ascending within a customer.
    customers : CustomerTable, optional
    reasons : int
        How many reasons to give; 0 saves most of the time.
    threads : int

    Returns
    -------
    dict of column name to array or list of length n_rows
        The score columns after ``customer_id`` and ``cutoff``, in their fixed order.
    """
    matrix = fill_matrix(model.plan, block, row_starts, cutoffs, customers, threads=threads)
    status = _status(model, block, row_starts, cutoffs)
    return score_matrix(model, matrix, status, reasons=reasons, threads=threads)


def score_matrix(
    model: SavedModel,
    matrix: NDArray[np.float32],
    status: list[str] | None = None,
    *,
    reasons: int = 3,
    threads: int = 1,
) -> dict[str, Any]:
    """Score rows of features.

    Parameters
    ----------
    model : SavedModel
    matrix : float32 array of shape (n_rows, n_features)
        Columns in the order of ``model.plan.columns``, as `fill_matrix` gives them.
    status : list of str, optional
        Of each row; features alone do not tell it.
    reasons, threads : int
        As in `score_rows`.

    Returns
    -------
    dict of column name to array or list of length n_rows
        The score columns after ``customer_id`` and ``cutoff``, in their fixed order.
    """
    columns: dict[str, Any] = {}
    further: dict[str, Any] = {}  # what came later stands last, so that the others keep their places
    if "churn" in model.targets:
        by_horizon = model.targets["churn"].distribution(matrix)
        columns |= _churn_columns(model, by_horizon)
        further = _further_churn_columns(model, by_horizon, matrix)
    if "satisfaction" in model.targets:
        columns |= _satisfaction_columns(model, matrix)
    if status is not None:
        columns["status"] = status
    for rank, texts in enumerate(_reasons(model, matrix, reasons, threads), start=1):
        columns[f"reason_{rank}"] = texts
    columns["model_version"] = [model.version] * len(matrix)
    return columns | further


class SingleAnswer:
    """The way of `score_rows` for one journey at a time, with what is the same for all of them done once.

    Parameters
    ----------
    model : SavedModel
    """

    def __init__(self, model: SavedModel) -> None:
        self.model = model
        self._features = SingleRow(model.plan)
        self._seen = frozenset(model.settings["touchpoints"])
        self._lookback = Duration.parse(model.settings["lookback"]).us
        self._horizons = list(model.settings["churn"]["horizons"]) if "churn" in model.targets else []
        self._days = [Duration.parse(horizon).days for horizon in self._horizons]

    def score(
        self, block: EventBlock, cutoff: int, about: Mapping[str, str | None] | None = None, *, reasons: int = 3
    ) -> dict[str, Any]:
        """Score the one customer of a block.

        Parameters
        ----------
        block : EventBlock
            As `cxml.journeys.records` makes it, an event of it known before the cutoff.
        cutoff : int
            UTC microseconds.
        about : mapping of str to str or None, optional
            The attributes of the customer that the customer table would hold.
        reasons : int

        Returns
        -------
        dict of column name to str, float or None
            The columns of `score_rows`, with their very bits.
        """
        matrix = self._features.fill(block, cutoff, about)
        answer: dict[str, Any] = {}
        further: dict[str, Any] = {}
        if self._horizons:
            answer, further = self._churn(matrix)
        if "satisfaction" in self.model.targets:
            cdf = self.model.targets["satisfaction"].distribution(matrix)[0].tolist()
            answer |= _satisfaction(self.model.settings["satisfaction"], cdf)
        answer["status"] = self._status(block, cutoff)
        for rank, texts in enumerate(_reasons(self.model, matrix, reasons, 1), start=1):
            answer[f"reason_{rank}"] = texts[0]
        answer["model_version"] = self.model.version
        return answer | further

    def _churn(self, matrix: NDArray[np.float32]) -> tuple[dict[str, Any], dict[str, Any]]:
        predictor, settings = self.model.targets["churn"], self.model.settings["churn"]
        by_horizon = predictor.distribution(matrix)
        reached = by_horizon[0].tolist()
        churned = _churned(by_horizon, settings["kind"])[0].tolist()
        answer = {f"churn_{horizon}": p for horizon, p in zip(self._horizons, churned, strict=True)}
        answer["risk_band"] = BANDS[bisect_right(settings["bands"], churned[-1])]
        return answer, {"churn_expected_days": _expected_days(reached, self._days)} | _parted(
            predictor, self._horizons, by_horizon, matrix, one=True
        )

    def _status(self, block: EventBlock, cutoff: int) -> str:
        vocabulary = block.categories["touchpoint"].vocabulary
        if block.known is not None or not self._seen.issuperset(vocabulary):
            return _status(self.model, block, _ONE_ROW, np.array([cutoff]))[0]
        n = int(np.searchsorted(block.time, cutoff))
        return _word(n, 0, int(block.time[n - 1]), cutoff, self._lookback)


def churn_probability(predictor: CumulativePredictor, kind: str, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(churn) by each horizon, shape (n_rows, n_horizons).

    What the model orders is the time to the outcome. For kind ``inactivity`` the outcome is the next
    activity, and churn by a horizon means that it has not come by then.
    """
    return _churned(predictor.distribution(matrix), kind)


def _churned(by_horizon: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    return 1.0 - by_horizon if kind == "inactivity" else by_horizon


def score_distribution(predictor: CumulativePredictor, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(each score), shape (n_rows, n_scores)."""
    return class_probabilities(predictor.distribution(matrix))


def _churn_columns(model: SavedModel, by_horizon: NDArray[np.float64]) -> dict[str, Any]:
    settings = model.settings["churn"]
    probability = _churned(by_horizon, settings["kind"])
    columns: dict[str, Any] = {
        f"churn_{horizon}": np.ascontiguousarray(probability[:, k]) for k, horizon in enumerate(settings["horizons"])
    }
    band = np.searchsorted(np.array(settings["bands"]), probability[:, -1], side="right")
    columns["risk_band"] = [BANDS[b] for b in band.tolist()]
    return columns


def _further_churn_columns(
    model: SavedModel, by_horizon: NDArray[np.float64], matrix: NDArray[np.float32]
) -> dict[str, Any]:
    """Say how many days are to be expected, and how the probability parts among the reasons where there are some."""
    predictor, horizons = model.targets["churn"], model.settings["churn"]["horizons"]
    days = _expected_days(list(by_horizon.T), [Duration.parse(horizon).days for horizon in horizons])
    return {"churn_expected_days": days} | _parted(predictor, horizons, by_horizon, matrix)


def _parted(
    predictor: CumulativePredictor,
    horizons: Sequence[str],
    by_horizon: NDArray[np.float64],
    matrix: NDArray[np.float32],
    *,
    one: bool = False,
) -> dict[str, Any]:
    if predictor.reasons is None:
        return {}
    parted = predictor.by_reason(by_horizon, matrix)
    return {
        f"churn_{horizon}__{reason}": float(parted[0, k, r]) if one else np.ascontiguousarray(parted[:, k, r])
        for k, horizon in enumerate(horizons)
        for r, reason in enumerate(predictor.reasons.names)
    }


def _satisfaction_columns(model: SavedModel, matrix: NDArray[np.float32]) -> dict[str, Any]:
    cdf = model.targets["satisfaction"].distribution(matrix)
    return _satisfaction(model.settings["satisfaction"], list(np.ascontiguousarray(cdf.T)))


# Below, what is an array of rows for a batch is a float for one journey: one way of computing, so the same bits.


def _satisfaction(settings: dict[str, Any], cdf: list[Any]) -> dict[str, Any]:
    """Give the columns of a score from P(score <= s), one entry of ``cdf`` a score."""
    lowest = settings["lowest"]
    low, not_high = cdf[settings["last_low"] - lowest], cdf[settings["last_mid"] - lowest]
    is_nps = settings["kind"] == "nps"
    names = ("p_detractor", "p_passive", "p_promoter") if is_nps else ("p_low", "p_mid", "p_high")
    mean = float(settings["highest"])
    for below in cdf:  # as `cxml.models.predictor.expected_score`
        mean = mean - below
    columns = {"expected_score": mean} | dict(zip(names, (low, not_high - low, 1.0 - not_high), strict=True))
    if is_nps:
        columns["expected_nps"] = 100.0 * ((1.0 - not_high) - low)
    return columns


def _expected_days(cdf: list[Any], horizons_days: Sequence[float]) -> Any:
    """Compute `cxml.models.predictor.restricted_mean_days`, one entry of ``cdf`` a horizon."""
    area, before, start = 0.0, 0.0, 0.0
    for by_horizon, horizon in zip(cdf, horizons_days, strict=True):
        area = area + (horizon - start) * (1.0 - (before + by_horizon) / 2.0)
        before, start = by_horizon, horizon
    return area


def _reasons(model: SavedModel, matrix: NDArray[np.float32], n_reasons: int, threads: int) -> list[list[str | None]]:
    if n_reasons == 0:
        return []
    if "churn" in model.targets:
        # a larger latent value is a later outcome: less risk, unless the outcome is coming back
        predictor, worse = model.targets["churn"], -1.0
        if model.settings["churn"]["kind"] == "inactivity":
            worse = 1.0
    else:
        predictor, worse = model.targets["satisfaction"], -1.0
    contributions = worse * predictor.contributions(matrix, threads=threads)[:, :-1]
    texts = {name: model.plan.categories(name) for name in model.plan.categorical}
    annotated = model.plan.compiled.annotations
    return top_reasons(model.plan.columns, texts, matrix, contributions, n_reasons, annotations=annotated)


def _status(model: SavedModel, block: EventBlock, row_starts: Int64, cutoffs: Int64) -> list[str]:
    touchpoint = block.categories["touchpoint"]
    seen = set(model.settings["touchpoints"])
    strange = np.array([name not in seen for name in touchpoint.vocabulary] + [False])[touchpoint.codes]
    known = block.time if block.known is None else block.known
    n_events, n_strange, last = _facts(block.starts, block.time, known, strange, row_starts, cutoffs)
    lookback = Duration.parse(model.settings["lookback"]).us
    facts = zip(n_events.tolist(), n_strange.tolist(), last.tolist(), cutoffs.tolist(), strict=True)
    return [_word(n, odd, at, t, lookback) for n, odd, at, t in facts]


def _word(n: int, odd: int, at: int, cutoff: int, lookback: int) -> str:
    if odd and odd >= UNSEEN_SHARE * n:
        return "unseen"
    if cutoff - at > lookback:
        return "stale"
    return "thin" if n < THIN_EVENTS else "ok"


@njit(cache=True, nogil=True)
def _facts(starts, time, known, strange, row_starts, cutoffs):  # type: ignore[no-untyped-def]  # compiled
    """Count events, and strange ones, known before each cutoff; and find the last of them."""
    n_events = np.zeros(len(cutoffs), np.int64)
    n_strange = np.zeros(len(cutoffs), np.int64)
    last = np.full(len(cutoffs), -(2**62), np.int64)
    for i in range(len(starts) - 1):
        for row in range(row_starts[i], row_starts[i + 1]):
            t = cutoffs[row]
            for e in range(starts[i], starts[i + 1]):
                if time[e] >= t:
                    break
                if known[e] < t:
                    n_events[row] += 1
                    n_strange[row] += strange[e]
                    last[row] = time[e]
    return n_events, n_strange, last
