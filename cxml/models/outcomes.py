"""What was seen of each customer, as intervals of ordered classes, and what is known of it at each horizon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError, nearest

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

KINDS = ("event", "inactivity")
_LOWEST_UNCENSORED = 0.05


def churn_intervals(duration_days: Any, observed: Any, horizons_days: Sequence[float]) -> tuple[Int32, Int32]:
    """Put each duration into its classes: class ``k`` is ``[h[k-1], h[k])``, the last one is ``h[-1]`` and beyond.

    Parameters
    ----------
    duration_days : array of shape (n,)
        Days to the outcome, or to the end of what was seen of the customer.
    observed : array of shape (n,)
        Whether the outcome was seen at the end of the duration.
    horizons_days : sequence of float
        Ascending.

    Returns
    -------
    lower, upper : int32 arrays of shape (n,)
        First and last class that the outcome may be in. A row censored before the first horizon may be in any.

    Examples
    --------
    >>> lower, upper = churn_intervals([10, 30, 45, 70, 95], [True, True, False, True, False], [30, 60, 90])
    >>> lower.tolist(), upper.tolist()
    ([0, 1, 1, 2, 3], [0, 1, 3, 2, 3])
    """
    duration, seen = _durations(duration_days, observed)
    lower = np.searchsorted(np.asarray(horizons_days, float), duration, side="right").astype(np.int32)
    upper = np.where(seen, lower, len(horizons_days)).astype(np.int32)
    return lower, upper


def churn_known(duration_days: Any, observed: Any, horizons_days: Sequence[float], kind: str) -> Float64:
    """Tell who had churned by each horizon, where it is known.

    Parameters
    ----------
    duration_days, observed, horizons_days
        As in `churn_intervals`.
    kind : {"event", "inactivity"}
        ``event``: the outcome is churn. ``inactivity``: the outcome is the next activity, and churn is its absence.

    Returns
    -------
    float64 array of shape (n, n_horizons)
        1 churned within ``[t, t + h)``, 0 not, NaN where the customer was lost from sight before.

    Examples
    --------
    >>> churn_known([10, 30, 45], [True, True, False], [30, 60], "event").tolist()
    [[1.0, 1.0], [0.0, 1.0], [0.0, nan]]
    >>> churn_known([10, 30, 45], [True, True, False], [30, 60], "inactivity").tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, nan]]
    """
    check_kind(kind)
    duration, seen = _durations(duration_days, observed)
    horizons = np.asarray(horizons_days, float)
    lasted = duration[:, None] >= horizons
    came = np.where(lasted, 0.0, np.where(seen[:, None], 1.0, np.nan))
    return came if kind == "event" else 1.0 - came


def censoring_weights(duration_days: Any, observed: Any, horizons_days: Sequence[float]) -> Float64:
    """Weigh rows whose outcome is known so that they stand for those lost from sight as well.

    Known outcomes alone exaggerate: whoever churned before being lost from sight is kept, whoever did not is not.
    The inverse of the probability of still being in sight, by Kaplan and Meier, restores the balance
    (Graf et al. 1999, "Assessment and comparison of prognostic classification schemes for survival data",
    Statistics in Medicine 18). Weights are limited to 20.

    Parameters
    ----------
    duration_days, observed, horizons_days
        As in `churn_intervals`. An unobserved outcome with an infinite duration is known never to come.

    Returns
    -------
    float64 array of shape (n, n_horizons)
        0 where `churn_known` is NaN, else 1 or more.

    Examples
    --------
    >>> censoring_weights([10, 20, 40, 40], [True, False, True, True], [30]).ravel().round(2).tolist()
    [1.0, 0.0, 1.5, 1.5]
    """
    duration, seen = _durations(duration_days, observed)
    times, in_sight = _still_in_sight(duration, ~seen & np.isfinite(duration))
    weights = np.zeros((len(duration), len(horizons_days)))
    for k, horizon in enumerate(horizons_days):
        known = seen | (duration >= horizon)
        # in sight just before the moment that settles the outcome
        at = np.searchsorted(times, np.minimum(duration, horizon), side="left")
        weights[:, k] = np.where(known, 1.0 / np.maximum(in_sight[at], _LOWEST_UNCENSORED), 0.0)
    return weights


def _still_in_sight(duration: Float64, lost: NDArray[np.bool_]) -> tuple[Float64, Float64]:
    """Kaplan-Meier curve of staying in sight: after the first ``i`` distinct times of loss it is ``curve[i]``."""
    times, n_lost = np.unique(duration[lost], return_counts=True)
    # an outcome seen at the very moment of a loss counts as before it, and is no longer at risk of being lost
    n_gone = np.searchsorted(np.sort(duration[lost]), times, side="left")
    n_gone += np.searchsorted(np.sort(duration[~lost]), times, side="right")
    return times, np.concatenate([[1.0], np.cumprod(1.0 - n_lost / (len(duration) - n_gone))])


def score_intervals(scores: Any, scale: tuple[int, int]) -> tuple[Int32, Int32]:
    """Put survey scores into classes ``0 .. highest - lowest``; who did not answer may be in any.

    Parameters
    ----------
    scores : array of shape (n,)
        Whole numbers within the scale; NaN where nobody answered.
    scale : (int, int)
        Lowest and highest score.

    Returns
    -------
    lower, upper : int32 arrays of shape (n,)

    Raises
    ------
    DataError
        If a score is not a whole number or is out of scale.

    Examples
    --------
    >>> lower, upper = score_intervals([1, 5, float("nan")], (1, 5))
    >>> lower.tolist(), upper.tolist()
    ([0, 4, 0], [0, 4, 4])
    """
    lowest, highest = scale
    values = np.asarray(scores, float).reshape(-1)
    answered = ~np.isnan(values)
    good = (values >= lowest) & (values <= highest) & (values == np.floor(values))
    bad = np.flatnonzero(answered & ~good)
    if len(bad):
        shown = ", ".join(f"{values[i]:g} in row {i}" for i in bad[:3])
        raise DataError(
            f"y: {len(bad):,} of {len(values):,} scores are not whole numbers from {lowest} to {highest} ({shown}). "
            "Correct them, or name the right scale."
        )
    lower = np.where(answered, values - lowest, 0.0).astype(np.int32)
    upper = np.where(answered, lower, highest - lowest).astype(np.int32)
    return lower, upper


def score_kind(scale: tuple[int, int]) -> str:
    """Name the survey that has this scale.

    Examples
    --------
    >>> score_kind((0, 10)), score_kind((0, 100))
    ('nps', 'custom')
    """
    return {(0, 10): "nps", (1, 5): "csat", (1, 7): "ces"}.get((int(scale[0]), int(scale[1])), "custom")


def score_groups(kind: str, lowest: int, highest: int) -> tuple[int, int]:
    """Where the groups of dissatisfied, indifferent and satisfied customers part.

    Parameters
    ----------
    kind : {"nps", "csat", "ces", "custom"}
        NPS: detractors 0-6, passives 7-8, promoters 9-10 (Reichheld 2003, Harvard Business Review 81(12)).
        CSAT: 1-2, 3, 4-5. CES (7: very easy): 1-3, 4, 5-7. Custom: the lowest and the highest third.
    lowest, highest : int
        Ends of the scale.

    Returns
    -------
    last_low, last_mid : int
        Last score of the low and of the middle group; equal where there is no middle.

    Raises
    ------
    ConfigError
        If the kind is unknown or the scale does not ascend.

    Examples
    --------
    >>> score_groups("nps", 0, 10), score_groups("csat", 1, 5), score_groups("custom", 1, 100)
    ((6, 8), (2, 3), (33, 67))
    """
    known = {"nps": (6, 8), "csat": (2, 3), "ces": (3, 4)}
    if lowest >= highest:
        raise ConfigError(f"scale [{lowest}, {highest}] does not ascend: write [lowest, highest]")
    if kind in known:
        return known[kind]
    if kind != "custom":
        raise ConfigError(f"kind '{kind}' of survey is unknown{nearest(kind, [*known, 'custom'])}")
    third = max(1, round((highest - lowest + 1) / 3))
    return lowest + third - 1, highest - third


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of churn."""
    if kind not in KINDS:
        raise ConfigError(f"kind '{kind}' of churn is unknown{nearest(kind, KINDS)}")


def _durations(duration_days: Any, observed: Any) -> tuple[Float64, NDArray[np.bool_]]:
    duration, flags = np.asarray(duration_days, float), np.asarray(observed, float)
    if duration.ndim != 1 or duration.shape != flags.shape:
        raise DataError(
            f"duration_days has shape {duration.shape} and observed {flags.shape}; "
            "both must be one column of equal length"
        )
    bad = np.flatnonzero(~(duration >= 0) | ~np.isin(flags, (0.0, 1.0)) | (np.isinf(duration) & (flags == 1)))
    if len(bad):
        shown = ", ".join(f"{duration[i]:g} days, observed={flags[i]:g} in row {i}" for i in bad[:3])
        raise DataError(
            f"{len(bad):,} of {len(duration):,} rows have no usable duration ({shown}). duration_days must be 0 or "
            "more, and observed 0 or 1; an infinite duration is only for what will never come (observed 0)."
        )
    return duration, flags == 1.0
