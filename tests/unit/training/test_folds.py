"""A fold of a rolling origin is laid by the rule of training, as if the log ended where the next test begins."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.journeys.read import read_journeys
from cxml.training.folds import courses
from cxml.training.studies import churn_split, satisfaction_split

START = pd.Timestamp("2023-01-01", tz="UTC")
PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 7d, lookback: 60d, start: 2023-02-01}
churn: {kind: event, touchpoints: [cancelled], horizons: [14d, 21d]}
satisfaction: {kind: nps, touchpoint: answer}
"""


def journeys(days=520):
    """Customers who log in, answer now and then, and some of whom cancel."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(120):
        leaves = int(rng.integers(30, 2 * days))
        for day in np.cumsum(rng.integers(3, 20, size=days // 3)):
            if day < min(leaves, days):
                rows.append((customer, int(day), "login", np.nan))
                if rng.random() < 0.2:
                    rows.append((customer, int(day), "answer", float(rng.integers(0, 11))))
        if leaves < days:
            rows.append((customer, leaves, "cancelled", np.nan))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    frame["timestamp"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


def ended_at(events, until):
    """The log as it would be, had it been closed at ``until``: with a last event a microsecond before."""
    end = pd.Timestamp(until, unit="us", tz="UTC")
    last = pd.DataFrame({"customer_id": [0], "touchpoint": ["login"], "timestamp": [end - pd.Timedelta(1, "us")]})
    return read_journeys(pd.concat([events[events["timestamp"] < end], last]), timezone="UTC")


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_an_earlier_fold_is_what_training_would_have_laid_had_the_log_ended_there(target):
    """Cutoffs without a whole horizon, and answers of the very moment, are as far from it as any later ones."""
    events, config = journeys(), parse_config(PROJECT)
    (course,) = [course for course in courses(read_journeys(events, timezone="UTC"), config) if course.target == target]
    splits = list(course.splits)
    assert len(splits) >= 4
    for later, split in pairwise(splits):
        log = ended_at(events, later.test_start)
        training = (
            churn_split(log, config, config.churn)[1]
            if target == "churn"
            else satisfaction_split(log, config, config.satisfaction)
        )
        assert split == training
