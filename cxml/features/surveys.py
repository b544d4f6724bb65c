"""Whether a customer answers when asked: said of the customer at a cutoff, of no event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.at_cutoff import among, compiled, part_of
from cxml.journeys.block import EventBlock

if TYPE_CHECKING:
    from cxml.features.plan import FeaturePlan

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Columns of `survey_response`, by name, each with its sentence.
SURVEYS = {
    "survey_response_rate": "Number of the customer's answers to surveys before the cutoff, over how often they were "
    "asked; missing for whoever was never asked."
}


def survey_response(
    plan: FeaturePlan, block: EventBlock, customers: tuple[int, int], row_starts: Int64, cutoffs: Int64
) -> Float64:
    """Give the answers to surveys over the times of being asked, at each cutoff.

    0 is one who was asked and never answered. Answers without a question count too, so that it may be above 1. Only
    events that happened and were known before the cutoff count.

    Parameters
    ----------
    plan : FeaturePlan
        Its annotation settings name the touchpoints of being asked and of answering.
    block : EventBlock
        The events; codes lie within their vocabularies.
    customers : (int, int)
        First customer and the one after the last.
    row_starts, cutoffs
        As in `cxml.features.matrix.fill_matrix`.

    Returns
    -------
    float64 array of shape (n_rows, 1)
        Rows are those of the customers alone.

    Raises
    ------
    ConfigError
        If the plan does not say how customers are asked, and how they answer.

    Examples
    --------
    >>> from cxml.features.annotations import AnnotationSettings
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> codes = np.array([1, 0, 1], np.int32)
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([1, 2, 3]), None,
    ...                    {"touchpoint": Coded(codes, ("answer", "sent"))})
    >>> plan = FeaturePlan((), {}, annotations=AnnotationSettings(asked=("sent",), surveys=("answer",)))
    >>> survey_response(plan, block, (0, 1), np.array([0, 4]), np.array([1, 2, 3, 4])).ravel()
    array([nan, 0. , 1. , 0.5])
    """
    settings = plan.annotations
    if settings is None or not settings.asked or not settings.surveys:
        raise ConfigError(
            f"{' and '.join(SURVEYS)} need to know how customers are asked and how they answer; name it in the project "
            "file: satisfaction.asked and satisfaction.touchpoint"
        )
    part, events = part_of(block, customers, row_starts, cutoffs)
    asks, answers = (among(block, names, events) for names in (settings.asked, settings.surveys))
    found = np.empty((len(part.cutoffs), len(SURVEYS)), np.float64)
    _count(*part, asks, answers, found[:, 0])
    return found


def behind_surveys(plan: FeaturePlan, block: EventBlock, past: Bool, cutoff: int, column: str) -> Bool:  # noqa: ARG001
    """Tell by which events a customer was asked, and by which they answered; as `cxml.features.rfm.behind_rfm`.

    Examples
    --------
    >>> from cxml.features.annotations import AnnotationSettings
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([1, 2, 3]), None,
    ...                    {"touchpoint": Coded(np.array([2, 1, 0], np.int32), ("answer", "call", "sent"))})
    >>> plan = FeaturePlan((), {}, annotations=AnnotationSettings(asked=("sent",), surveys=("answer",)))
    >>> behind_surveys(plan, block, np.ones(3, bool), 4, "survey_response_rate")
    array([ True, False,  True])
    """
    names = () if plan.annotations is None else (*plan.annotations.asked, *plan.annotations.surveys)
    return past & among(block, names)


@compiled
def _count(
    starts: Int64,
    row_starts: Int64,
    cutoffs: Int64,
    time: Int64,
    known: Int64,
    asks: Bool,
    answers: Bool,
    rate: Float64,
) -> None:
    for customer in range(starts.size - 1):
        for row in range(row_starts[customer], row_starts[customer + 1]):
            n_asked, n_answered = 0, 0
            for i in range(starts[customer], starts[customer + 1]):
                if time[i] >= cutoffs[row]:
                    break
                if known[i] < cutoffs[row]:
                    n_asked += asks[i]
                    n_answered += answers[i]
            rate[row] = n_answered / n_asked if n_asked else np.nan
