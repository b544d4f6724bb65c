"""From events to the columns of a score: the one way, for one journey and for a million."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.explain.reasons import top_reasons
from cxml.features.matrix import fill_matrix
from cxml.journeys.block import CustomerTable, EventBlock
from cxml.models.predictor import CumulativePredictor, class_probabilities, expected_score, restricted_mean_days
from cxml.models.store import SavedModel
from cxml.times import Duration

Int64 = NDArray[np.int64]

#: A customer with fewer known events than this is scored, and marked ``thin``.
THIN_EVENTS = 3
#: From this share of touchpoints that training never saw, a journey is marked ``unseen``.
UNSEEN_SHARE = 0.5

BANDS = ("low", "medium", "high")


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
    columns: dict[str, Any] = {}
    further: dict[str, Any] = {}  # what came later stands last, so that the others keep their places
    if "churn" in model.targets:
        by_horizon = model.targets["churn"].distribution(matrix)
        columns |= _churn_columns(model, by_horizon)
        further = _further_churn_columns(model, by_horizon, matrix)
    if "satisfaction" in model.targets:
        columns |= _satisfaction_columns(model, matrix)
    columns["status"] = _status(model, block, row_starts, cutoffs)
    for rank, texts in enumerate(_reasons(model, matrix, reasons, threads), start=1):
        columns[f"reason_{rank}"] = texts
    columns["model_version"] = [model.version] * len(cutoffs)
    return columns | further


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
    days = restricted_mean_days(by_horizon, [Duration.parse(horizon).days for horizon in horizons])
    columns: dict[str, Any] = {"churn_expected_days": days}
    if predictor.reasons is not None:
        parted = predictor.by_reason(by_horizon, matrix)
        for k, horizon in enumerate(horizons):
            for r, reason in enumerate(predictor.reasons.names):
                columns[f"churn_{horizon}__{reason}"] = np.ascontiguousarray(parted[:, k, r])
    return columns


def _satisfaction_columns(model: SavedModel, matrix: NDArray[np.float32]) -> dict[str, Any]:
    settings = model.settings["satisfaction"]
    predictor, lowest = model.targets["satisfaction"], settings["lowest"]
    cdf = predictor.distribution(matrix)
    low, not_high = cdf[:, settings["last_low"] - lowest], cdf[:, settings["last_mid"] - lowest]
    is_nps = settings["kind"] == "nps"
    names = ("p_detractor", "p_passive", "p_promoter") if is_nps else ("p_low", "p_mid", "p_high")
    columns: dict[str, Any] = {"expected_score": expected_score(cdf, settings["highest"])}
    columns |= dict(zip(names, (low.copy(), not_high - low, 1.0 - not_high), strict=True))
    if is_nps:
        columns["expected_nps"] = 100.0 * ((1.0 - not_high) - low)
    return columns


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
    return [
        "unseen"
        if odd and odd >= UNSEEN_SHARE * n
        else "stale"
        if t - at > lookback
        else "thin"
        if n < THIN_EVENTS
        else "ok"
        for n, odd, at, t in zip(n_events.tolist(), n_strange.tolist(), last.tolist(), cutoffs.tolist(), strict=True)
    ]


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
