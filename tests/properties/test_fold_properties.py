"""Laws of the folds of a backtest, for any distance of cutoffs and any horizons."""

from itertools import pairwise

import numpy as np
import pandas as pd
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cxml.config import parse_config
from cxml.errors import DataError
from cxml.journeys.read import read_journeys
from cxml.times import DAY_US
from cxml.training.folds import courses
from cxml.training.studies import known_churn


def _log():
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(60):
        for day in np.cumsum(rng.integers(3, 25, size=60)):
            score = float(rng.integers(1, 6)) if rng.random() < 0.3 else np.nan
            rows.append((customer, float(day) + rng.random(), "login" if np.isnan(score) else "answer", score))
        rows.append((customer, float(rng.integers(100, 700)), "cancelled", np.nan))
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    events["timestamp"] = pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(events.pop("day"), unit="D")
    return read_journeys(events, timezone="UTC")


LOG = _log()


GAPS = st.one_of(st.just(""), st.integers(1, 40).map(lambda days: f", gap: {days}d"))


@st.composite
def configs(draw):
    horizons = sorted(draw(st.sets(st.integers(5, 120), min_size=1, max_size=3)))
    return parse_config(
        f"""
name: shop
journeys: {{sources: [events.csv], timezone: UTC}}
snapshots: {{every: {draw(st.integers(5, 60))}d, lookback: {draw(st.integers(20, 200))}d{draw(GAPS)}}}
churn: {{kind: event, touchpoints: [cancelled], horizons: [{", ".join(f"{h}d" for h in horizons)}]}}
satisfaction: {{kind: csat, touchpoint: answer}}
"""
    )


@settings(max_examples=60)
@given(configs())
def test_folds_lie_side_by_side_and_no_label_sees_past_its_part(config):
    try:
        ways = courses(LOG, config)
    except DataError:
        assume(False)
    for way in ways:
        splits = [split for split, _ in zip(way.splits, range(6), strict=False)]
        for split in splits:
            study = way.labels(split)
            gap = 0 if config.snapshots.gap is None else config.snapshots.gap.us
            ends = [split.calibration_start - gap, split.test_start - gap, split.observed_until]
            assert [end for _, end in split.parts.values()] == ends
            for part, (start, end) in split.parts.items():
                rows = study.parts[part]
                assert (rows.cutoff >= start).all()
                assert (rows.cutoff < end).all()
                if way.target == "churn":
                    seen_until = rows.cutoff + np.where(rows.y[:, 1] == 1, rows.y[:, 0] * DAY_US, 0)
                    assert (seen_until < end + 1).all()
        for later, earlier in pairwise(splits):
            assert earlier.observed_until == later.test_start
            assert earlier.calibration_start < earlier.test_start < later.test_start


@settings(max_examples=60)
@given(configs())
def test_where_the_last_fold_tells_of_every_horizon_so_do_all(config):
    try:
        way = courses(LOG, config)[0]
    except DataError:
        assume(False)
    longest = config.churn.horizons[-1].us
    splits = list(way.splits)
    assume(splits[0].observed_until - splits[0].test_start >= longest)
    for split in splits:
        study = way.labels(split)
        told = known_churn(study, "test", config)
        first = study.parts["test"].cutoff == split.test_start
        assert not np.isnan(told[first, -1]).any()
