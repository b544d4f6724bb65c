"""Survey snapshots: one for each time a customer was asked, or answered where asking is not recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxml.config import SatisfactionConfig
from cxml.errors import DataError, nearest
from cxml.journeys.block import EventBlock

Int64 = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class SurveyRows:
    """One row a survey, by customer, then cutoff.

    Parameters
    ----------
    customer : int64 array
        Index into ``block.customers``.
    cutoff : int64 array
        The moment of asking; of answering where no asking is recorded.
    score : float64 array
        NaN where no answer came.
    answered : int64 array
        When the answer became known; the largest int64 where none came.
    """

    customer: Int64
    cutoff: Int64
    score: NDArray[np.float64]
    answered: Int64


def survey_rows(block: EventBlock, config: SatisfactionConfig) -> SurveyRows:
    """Pair questions with answers.

    An answer belongs to the last question at or before it that has no answer yet. At equal stamps the
    question comes first. Surveys before which nothing is known of the customer give no row.

    Parameters
    ----------
    block : EventBlock
    config : SatisfactionConfig

    Returns
    -------
    SurveyRows

    Raises
    ------
    DataError
        If the touchpoint of being asked never occurs.
    """
    _demand_question(block, config)
    customer, time, known, score, is_answer = _survey_events(block, config)
    rows: list[tuple[int, int, float, int]] = []
    open_question: tuple[int, int] | None = None
    for i, t, k, s, answered in zip(customer, time, known, score, is_answer, strict=True):
        if open_question is not None and (open_question[0] != i or not answered):
            rows.append((*open_question, np.nan, NEVER))
            open_question = None
        if not answered:
            open_question = (i, t)
        else:
            rows.append((*(open_question or (i, t)), s, k))
            open_question = None
    if open_question is not None:
        rows.append((*open_question, np.nan, NEVER))
    table = SurveyRows(
        customer=np.array([r[0] for r in rows], dtype=np.int64),
        cutoff=np.array([r[1] for r in rows], dtype=np.int64),
        score=np.array([r[2] for r in rows], dtype=np.float64),
        answered=np.array([r[3] for r in rows], dtype=np.int64),
    )
    return take(table, _first_known(block)[table.customer] < table.cutoff)


def _demand_question(block: EventBlock, config: SatisfactionConfig) -> None:
    """Refuse a question that nobody was ever asked: the cutoff would silently become the moment of the answer."""
    known = block.categories["touchpoint"].vocabulary
    if config.asked is not None and config.asked not in known:
        hint = nearest(config.asked, known)
        raise DataError(
            f"satisfaction.asked: '{config.asked}' never occurs in the log{hint}{'' if hint.endswith('?') else '.'} "
            "Correct it, or take it out: the cutoff is then the moment of the answer."
        )


def take(rows: SurveyRows, where: NDArray[np.generic]) -> SurveyRows:
    """Return some of the rows, by mask or index."""
    return SurveyRows(rows.customer[where], rows.cutoff[where], rows.score[where], rows.answered[where])


def _survey_events(
    block: EventBlock, config: SatisfactionConfig
) -> tuple[list[int], list[int], list[int], list[float], list[bool]]:
    touchpoint = block.categories["touchpoint"]
    score = block.measures.get("score", np.full(block.n_events, np.nan))
    known = block.time if block.known is None else block.known
    names = np.array([*touchpoint.vocabulary, ""], dtype=object)
    is_answer = (names == config.touchpoint)[touchpoint.codes] & ~np.isnan(score)
    is_question = (names == (config.asked or ""))[touchpoint.codes] & bool(config.asked)
    at = np.flatnonzero(is_answer | is_question)
    owner = np.searchsorted(block.starts, at, side="right") - 1
    order = np.lexsort((is_answer[at], block.time[at], owner))
    at, owner = at[order], owner[order]
    return owner.tolist(), block.time[at].tolist(), known[at].tolist(), score[at].tolist(), is_answer[at].tolist()


def _first_known(block: EventBlock) -> Int64:
    """When each customer first became known."""
    known = block.time if block.known is None else block.known
    first = np.full(block.n_customers, NEVER, np.int64)
    if block.n_events:
        filled = np.diff(block.starts) > 0
        first[filled] = np.minimum.reduceat(known, block.starts[:-1][filled])
    return first
