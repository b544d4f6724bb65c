"""What had become of the customers of training, as it was known at any moment: features may be learned from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, ProjectConfig, SatisfactionConfig
from cxml.errors import DataError
from cxml.features.outcomes import Between, Known, Outcomes
from cxml.journeys.block import Coded, EventBlock
from cxml.models.outcomes import churn_known
from cxml.snapshots.cutoffs import cutoff_grid
from cxml.snapshots.make import check_words, churn_rows
from cxml.snapshots.surveys import SurveyRows, survey_rows
from cxml.snapshots.timeline import churn_timeline

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]


def hindsight(
    log: JourneyLog,
    config: ProjectConfig,
    cutoffs: Int64 | None,
    leavers: tuple[NDArray[np.generic], Int64] | None = None,
) -> dict[str, Known]:
    """Give the outcomes of a log by target; nothing is looked at before it is asked for.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    cutoffs : int64 array, optional
        Those of churn; without them churn tells nothing.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    dict of str to Known
        ``churn`` and ``score``, as far as the config has them.
    """
    found: dict[str, Known] = {}
    if config.churn is not None and cutoffs is not None:
        found["churn"] = _churned(log, config, config.churn, cutoffs, leavers)
    if config.satisfaction is not None:
        found["score"] = _answered(config.satisfaction)
    return found


def hindsight_before(
    log: JourneyLog,
    config: ProjectConfig,
    until: int,
    leavers: tuple[NDArray[np.generic], Int64] | None = None,
) -> dict[str, Known]:
    """Give the outcomes of a log as far as they can be known before a moment, for features alone.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    until : int
        UTC microseconds; churn is looked at from cutoffs whose shortest horizon ends before it.
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    dict of str to Known
        As of `hindsight`; without churn where no cutoff fits before the moment.
    """
    cutoffs = None
    if config.churn is not None:
        span = {"shortest": config.churn.horizons[0].us, "longest": config.churn.horizons[-1].us}
        with suppress(DataError):
            cutoffs = cutoff_grid(config.snapshots, first=log.first, observed_until=min(until, log.last + 1), **span)
    return hindsight(log, config, cutoffs, leavers)


def _churned(
    log: JourneyLog,
    config: ProjectConfig,
    churn: ChurnConfig,
    cutoffs: Int64,
    leavers: tuple[NDArray[np.generic], Int64] | None,
) -> Known:
    """Churn within the shortest horizon, known at its end; whether it counts is decided by the cutoff alone."""
    horizon = churn.horizons[0]
    kind = "inactivity" if churn.kind == "inactivity" else "event"
    settled = cutoffs + horizon.us
    activity = cache(partial(check_words, log, churn))

    def of_block(block: EventBlock) -> Between:
        timeline = churn_timeline(block, churn, activity(), leavers)

        def known(since: int, until: int) -> Outcomes:
            rows = churn_rows(
                timeline, cutoffs[(settled > since) & (settled <= until)], lookback=config.snapshots.lookback.us,
                observed_until=until, horizons=[horizon.us],
            )  # fmt: skip
            value = churn_known(rows.duration_days, rows.observed, [horizon.days], kind)[:, 0]
            return Outcomes(rows.customer, rows.cutoff, value)

        return known

    return of_block


def surveys_as_of(block: EventBlock, satisfaction: SatisfactionConfig) -> Callable[[int], SurveyRows]:
    """Give surveys as they were known at any moment: what becomes known later may move an answer to another question.

    Parameters
    ----------
    block : EventBlock
    satisfaction : SatisfactionConfig

    Returns
    -------
    callable
        Moment (UTC microseconds) -> SurveyRows. Where everything is known when it happens, all of them at any moment.
    """

    @cache
    def at_once() -> SurveyRows:
        return survey_rows(block, satisfaction)

    def seen(until: int) -> SurveyRows:
        return at_once() if block.known is None else survey_rows(_seen_at(block, until), satisfaction)

    return seen


def _answered(satisfaction: SatisfactionConfig) -> Known:
    """Scores, known when the answer is."""

    def of_block(block: EventBlock) -> Between:
        surveys = surveys_as_of(block, satisfaction)

        def known(since: int, until: int) -> Outcomes:
            rows = surveys(until)
            chosen = ~np.isnan(rows.score) & (rows.answered >= since) & (rows.answered < until)
            return Outcomes(rows.customer[chosen], rows.cutoff[chosen], rows.score[chosen])

        return known

    return of_block


def _seen_at(block: EventBlock, moment: int) -> EventBlock:
    """Let what was not known before a moment be nothing in particular."""
    touchpoint = block.categories["touchpoint"]
    codes = np.where((block.time if block.known is None else block.known) < moment, touchpoint.codes, np.int32(-1))
    return replace(block, categories=block.categories | {"touchpoint": Coded(codes, touchpoint.vocabulary)})
