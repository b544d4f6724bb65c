"""Folds of a rolling origin: what training would have looked at, had the log ended earlier.

The last fold is training's own split. Each one before it is laid by the same rule as if the log ended where the test of
the next begins, so that tests lie side by side and no snapshot is tested twice in one backtest. Labels purge every fold
as they purge the split itself. Tashman (2000), "Out-of-sample tests of forecasting accuracy", International Journal of
Forecasting 16(4), on the rolling origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.config import ChurnConfig, ProjectConfig, SatisfactionConfig, SnapshotsConfig
from cxml.errors import DataError
from cxml.snapshots.make import log_timeline
from cxml.snapshots.splits import Split, split_cutoffs, split_surveys
from cxml.training.hindsight import surveys_as_of
from cxml.training.studies import (
    Leavers,
    Study,
    churn_labels,
    churn_split,
    refusals_of,
    said,
    satisfaction_split,
    survey_labels,
)

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

Int64 = NDArray[np.int64]

#: Gives a study without features for a split.
Labels = Callable[[Split], Study]


@dataclass(frozen=True, slots=True)
class Course:
    """All that is needed to go back in time with one target.

    Parameters
    ----------
    target : str
    splits : iterator of Split
        Training's own, then the earlier ones, as far as the log is long enough.
    labels : callable
        Split -> study without features.
    cutoffs : int64 array or None
        The grid, for churn.
    """

    target: str
    splits: Iterator[Split]
    labels: Labels
    cutoffs: Int64 | None = None


def churn_course(log: JourneyLog, config: ProjectConfig, churn: ChurnConfig, leavers: Leavers | None = None) -> Course:
    """Lay the splits of churn.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    churn : ChurnConfig
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.

    Returns
    -------
    Course

    Raises
    ------
    DataError
        If the log is too short for the last split.
    """
    shortest, longest = churn.horizons[0].us, churn.horizons[-1].us
    cutoffs, last = churn_split(log, config, churn)
    timeline = log_timeline(log, churn, leavers)

    def earlier(until: int) -> Split | None:
        seen = cutoffs[cutoffs <= until - shortest]
        if not len(seen):
            return None
        split = split_cutoffs(seen, _free(config), shortest=shortest, longest=longest, observed_until=until)
        # a test that cannot hold the longest horizon says nothing of it: not beside one that does
        whole = last.observed_until - last.test_start < longest or until - split.test_start >= longest
        return split if whole else None

    return Course("churn", _back(last, earlier), lambda split: churn_labels(timeline, config, cutoffs, split), cutoffs)


def survey_course(log: JourneyLog, config: ProjectConfig, satisfaction: SatisfactionConfig) -> Course:
    """Lay the splits of surveys; parameters and errors as in `churn_course`."""
    as_of = surveys_as_of(log.block, satisfaction)

    def earlier(until: int) -> Split | None:
        surveys = as_of(until)
        use = ~np.isnan(surveys.score) & (surveys.answered < until)
        return split_surveys(surveys.cutoff[use], surveys.answered[use], _free(config), observed_until=until)

    last = satisfaction_split(log, config, satisfaction)
    return Course("satisfaction", _back(last, earlier), lambda split: survey_labels(as_of, split))


def courses(log: JourneyLog, config: ProjectConfig, leavers: Leavers | None = None) -> list[Course]:
    """Give the course of every target of the config.

    Raises
    ------
    DataError
        If the log is too short for the last split of one, saying of which.
    """
    found, refusals = [], []
    for target in ("churn", "satisfaction"):
        try:
            if target == "churn" and config.churn is not None:
                found.append(churn_course(log, config, config.churn, leavers))
            elif target == "satisfaction" and config.satisfaction is not None:
                found.append(survey_course(log, config, config.satisfaction))
        except DataError as error:
            refusals.append(said(target, error))
    if refusals:
        raise DataError(" ".join(refusals))
    return found


def lay_folds(course: Course, config: ProjectConfig, most: int) -> list[Study]:
    """Go back in time as long as there is enough to learn from.

    Parameters
    ----------
    course : Course
    config : ProjectConfig
    most : int
        So many folds at most.

    Returns
    -------
    list of Study
        Without features; the earliest first, the last one is training's own.

    Raises
    ------
    DataError
        If training itself would refuse.
    """
    folds: list[Study] = []
    for split in course.splits:
        study = course.labels(split)
        refusals = refusals_of(study, config)
        if refusals and not folds:
            raise DataError(" ".join(refusals))
        if refusals:  # what lies before it has still less to learn from
            break
        folds.append(study)
        if len(folds) == most:
            break
    return folds[::-1]


def _back(last: Split, earlier: Callable[[int], Split | None]) -> Iterator[Split]:
    """Yield the last split, and those as of the start of its test, and so on."""
    split: Split | None = last
    while split is not None:
        yield split
        try:
            split = earlier(split.test_start)
        except DataError:
            return


def _free(config: ProjectConfig) -> SnapshotsConfig:
    """Take the given starts out: they are about the last split only."""
    return config.snapshots.model_copy(update={"calibration_start": None, "test_start": None})
