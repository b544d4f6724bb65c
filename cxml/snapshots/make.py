"""Snapshots: (customer, cutoff) rows with what happened next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, SatisfactionConfig, SnapshotsConfig, check_part
from cxml.errors import ConfigError, DataError, nearest
from cxml.journeys.block import EventBlock
from cxml.snapshots.cutoffs import cutoff_grid
from cxml.snapshots.surveys import NEVER, survey_rows
from cxml.snapshots.timeline import Timeline, churn_timeline, scan
from cxml.times import DAY_US, Duration, parse_instant

if TYPE_CHECKING:
    import pandas

    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChurnRows:
    """Who was at risk when, and for how long it went well; by customer, then cutoff.

    Parameters
    ----------
    customer : int64 array
        Index into ``block.customers``.
    cutoff : int64 array
    duration_days : float64 array
        From the cutoff to the outcome, or to the end of observation; inf when known never to come.
    observed : bool array
        Whether the outcome was seen.
    """

    customer: Int64
    cutoff: Int64
    duration_days: NDArray[np.float64]
    observed: NDArray[np.bool_]


def churn_rows(
    timeline: Timeline, cutoffs: Int64, *, lookback: int, observed_until: int, horizons: Sequence[int] = ()
) -> ChurnRows:
    """Look at every customer at risk at every cutoff, with the outcome as seen from ``observed_until``.

    Parameters
    ----------
    timeline : Timeline
    cutoffs : int64 array
    lookback : int
        Microseconds.
    observed_until : int
        End of observation, UTC microseconds, exclusive.
    horizons : sequence of int, optional
        Microseconds, ascending. Where given, everybody is followed to the last horizon that was observed whole and
        no further: in a horizon cut short, only those who leave early, or whose journey ends early, would show their
        outcome, and the rate among the rows that show one would be far off.

    Returns
    -------
    ChurnRows
    """
    customer, cutoff, duration, observed = scan(
        timeline.starts, timeline.time, timeline.known, timeline.role, np.sort(np.asarray(cutoffs, np.int64)),
        lookback, observed_until, timeline.returns, timeline.needs_start, timeline.reopens,
    )  # fmt: skip
    if len(horizons):
        ends = np.array([0, *horizons], dtype=np.int64)
        followed = ends[np.searchsorted(ends, observed_until - cutoff, side="right") - 1]
        # who finished (duration < 0) is known never to leave; told of them alone, of a later horizon only good is told
        beyond = ((duration >= followed) | (duration < 0)) & (followed < ends[-1])
        duration, observed = np.where(beyond, followed, duration), observed & ~beyond
    return ChurnRows(customer, cutoff, np.where(duration < 0, np.inf, duration / DAY_US), observed)


def log_timeline(
    log: JourneyLog, churn: ChurnConfig, leavers: tuple[NDArray[np.generic], Int64] | None = None
) -> Timeline:
    """Reduce a log to its timeline, after checking that the words of the config occur in it.

    Raises
    ------
    DataError
        See `check_words`.
    """
    return churn_timeline(log.block, churn, check_words(log, churn), leavers)


def check_words(log: JourneyLog, churn: ChurnConfig) -> list[str]:
    """Give the touchpoints that count as activity, after checking that the words of the config occur in the log.

    Raises
    ------
    DataError
        If none of ``churn.touchpoints`` or of the activity occurs, naming the nearest that does.
    """
    known = log.events.touchpoints
    activity = list(log.config.activity) if churn.kind != "table" or log.config.activity else []
    for key, names in (
        ("churn.touchpoints", churn.touchpoints),
        ("churn.starts", churn.starts),
        ("journeys.activity", activity),
    ):
        if names and not set(names) & set(known):
            hint = nearest(names[0], known)
            if not hint.endswith("?"):
                hint = f"; the most frequent there are: {', '.join(list(log.touchpoints())[:10])}."
            raise DataError(f"{key}: none of {', '.join(names)} occurs in the log{hint} Correct {key}.")
    return activity


def make_snapshots(
    log: JourneyLog,
    target: ChurnConfig | SatisfactionConfig | None = None,
    *,
    every: str = "30d",
    lookback: str = "180d",
    start: Any = None,
    end: Any = None,
    cutoffs: Sequence[Any] | None = None,
    observed_until: Any = None,
    leavers: tuple[NDArray[np.generic], Int64] | None = None,
    **churn: Any,
) -> pandas.DataFrame:
    """Decide who is looked at, when, and what happened next.

    Parameters
    ----------
    log : JourneyLog
    target : ChurnConfig or SatisfactionConfig, optional
        What to look ahead for. Instead, the keys of the project file's ``churn`` part may be given as
        keywords: ``kind``, ``touchpoints``, ``horizons``, ...
    every, lookback : str
        Distance of cutoffs; how recently a customer must have been seen. For churn.
    start, end : date, optional
        First and last cutoff.
    cutoffs : list of dates, optional
        These cutoffs instead of a grid.
    observed_until : date, optional
        Read outcomes as if the log ended here; default: just after its last event. Everybody is followed to the
        last horizon that ends by then.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``: who left and when, UTC microseconds; ids as in the log.

    Returns
    -------
    pandas.DataFrame
        ``customer_id``, ``cutoff`` (UTC); for churn ``duration_days`` and ``observed`` (False: censored then;
        infinite: known never to come); for surveys ``score`` (missing: no answer came) and ``answered``.
        Sorted by customer, then cutoff.

    Raises
    ------
    ConfigError
        If no target is named.
    DataError
        If the log is too short, or lacks the touchpoints that are spoken of.

    Examples
    --------
    >>> import cxml, pandas as pd
    >>> log = cxml.read_journeys(pd.DataFrame({
    ...     "customer_id": [1, 1, 2], "touchpoint": ["order", "cancelled", "order"],
    ...     "timestamp": pd.to_datetime(["2024-01-01", "2024-02-10", "2024-03-31"], utc=True)}))
    >>> make_snapshots(log, kind="event", touchpoints=["cancelled"], horizons=["30d"], cutoffs=["2024-02-01"])
       customer_id                    cutoff  duration_days  observed
    0            1 2024-02-01 00:00:00+00:00            9.0      True
    """
    if target is None:
        if not churn:
            raise ConfigError("say what to look ahead for: kind='event' with touchpoints, or kind='inactivity'")
        target = check_part(ChurnConfig, churn, "make_snapshots()")
    until = log.last + 1 if observed_until is None else parse_instant(observed_until)
    if isinstance(target, SatisfactionConfig):
        surveys = survey_rows(log.block, target)
        return _frame(
            log.block, surveys.customer, surveys.cutoff,
            {"score": surveys.score, "answered": np.where(surveys.answered == NEVER, np.iinfo(np.int64).min,
                                                          surveys.answered).view("datetime64[us]")},
        )  # fmt: skip
    config = SnapshotsConfig(
        every=Duration.parse(every), lookback=Duration.parse(lookback),
        start=None if start is None else parse_instant(start), end=None if end is None else parse_instant(end),
    )  # fmt: skip
    if cutoffs is None:
        grid = cutoff_grid(
            config, first=log.first, observed_until=until,
            shortest=target.horizons[0].us, longest=target.horizons[-1].us,
        )  # fmt: skip
    else:
        grid = np.unique(np.array([parse_instant(t) for t in cutoffs], dtype=np.int64))
    rows = churn_rows(
        log_timeline(log, target, leavers), grid, lookback=config.lookback.us, observed_until=until,
        horizons=[h.us for h in target.horizons],
    )  # fmt: skip
    return _frame(
        log.block, rows.customer, rows.cutoff, {"duration_days": rows.duration_days, "observed": rows.observed}
    )


def _frame(
    block: EventBlock, customer: Int64, cutoff: Int64, outcome: dict[str, NDArray[np.generic]]
) -> pandas.DataFrame:
    import pandas as pd

    moments = {"cutoff": cutoff.view("datetime64[us]")}
    moments |= {name: values for name, values in outcome.items() if values.dtype.kind == "M"}
    frame = pd.DataFrame({"customer_id": block.customers[customer], **moments, **outcome})
    for name in moments:
        frame[name] = frame[name].dt.tz_localize("UTC")
    return frame
