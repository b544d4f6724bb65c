"""Compiled code and what it needs, to be loaded while files are read."""

from __future__ import annotations

from cxml.journeys.sorting import uncollected, warm_up


def load_features() -> None:
    """Load all that learning a plan and computing features need; takes tenths of a second once in a process.

    Examples
    --------
    >>> import pandas as pd
    >>> from cxml import read_journeys
    >>> visits = pd.DataFrame({"customer_id": [7], "timestamp": ["2024-01-02T00:00Z"], "touchpoint": ["visit"]})
    >>> read_journeys(visits, meanwhile=load_features)
    JourneyLog(1 events of 1 customers, 2024-01-02 to 2024-01-02, 1 touchpoints)
    """
    with uncollected():
        warm_up()  # reading needs it first
        from cxml.features import learn, matrix  # noqa: F401

        matrix.warm_up()
