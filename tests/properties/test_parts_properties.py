"""Nothing that becomes known at or after the end of a part changes what is learned in it: plan, features, outcomes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cxml.config import parse_config
from cxml.journeys.read import read_journeys
from cxml.training.studies import look_ahead

START = pd.Timestamp("2023-01-01", tz="UTC")
DAYS = 420
WATCH = 10_000  # nothing is done to this customer, who holds the ends of the log where they are
PARTS = ("train", "calibration")
PROJECT = """
name: shop
journeys: {{sources: [events.csv], timezone: UTC, attributes: [region]}}
snapshots: {{every: 15d, lookback: 90d, calibration_start: 2023-08-14, test_start: 2023-11-03{gap}}}
features: {{windows: [60d], families: [basic, likeness, peers], max_values: 6}}
churn: {churn}
satisfaction: {{kind: nps, touchpoint: answer{asked}}}
"""
CHURN = {
    "event": "{kind: event, touchpoints: [cancelled, moved], horizons: [15d, 45d]}",
    "inactivity": "{kind: inactivity, horizons: [30d, 45d]}",
    "reasons": "{kind: event, touchpoints: [cancelled, moved], horizons: [15d, 45d], "
    "reasons: {unhappy: [cancelled], moved: [moved]}}",
}


def _journeys(n=140, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(WATCH, day, "login", np.nan, 0.0) for day in (0.0, DAYS)]
    for day in (100.0, 250.0, 350.0):  # so that every part of the surveys holds one
        rows += [(WATCH, day, "survey", np.nan, 0.0), (WATCH, day + 0.5, "answer", 9.0, 0.0)]
    for customer in range(n):
        ends = rng.uniform(40, 1.5 * DAYS)
        for day in np.cumsum(rng.exponential(9.0, size=DAYS)) + rng.uniform(0, 60):
            if day >= min(ends, DAYS):
                break
            worry = rng.random() < (0.6 if ends - day < 60 else 0.1)
            rows.append((customer, day, "complaint" if worry else "login", np.nan, rng.exponential(0.5)))
            if rng.random() < 0.25:
                rows.append((customer, day + 0.1, "survey", np.nan, rng.exponential(0.5)))
                if rng.random() < 0.7:  # some answer weeks later
                    score = float(rng.integers(0, 5) + 6 * (not worry))
                    rows.append((customer, day + 0.2 + rng.exponential(6.0), "answer", score, rng.exponential(3.0)))
        if ends < DAYS:
            rows.append((customer, ends, "cancelled" if customer % 3 else "moved", np.nan, rng.exponential(1.0)))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score", "lag"])
    frame = frame[frame["day"] <= DAYS].reset_index(drop=True)
    frame["timestamp"] = START + pd.to_timedelta(frame["day"], unit="D")
    frame["available_at"] = frame["timestamp"] + pd.to_timedelta(frame["lag"], unit="D")
    frame["region"] = np.array(["north", "south"])[frame["customer_id"] % 2]
    return frame.drop(columns=["day", "lag"])


JOURNEYS = _journeys()


def _changed(frame, moment, how, seed):
    """The log with what became known at or after a moment deleted, altered or added to; nothing else is touched.

    Where the log says when events became known, some that are added happened long before.
    """
    rng = np.random.default_rng(seed)
    known = frame["available_at" if "available_at" in frame else "timestamp"]
    late = ((known >= moment) & (frame["customer_id"] != WATCH)).to_numpy()
    assert late.sum() > 300
    if how == "deleted":
        return frame[~late]
    if how == "altered":
        return pd.concat([frame[~late], _other_events(frame[late], rng)], ignore_index=True)
    more = _other_events(frame[late], rng)
    if "available_at" in frame:
        early = _other_events(frame[(frame["timestamp"] < moment) & (frame["customer_id"] != WATCH)], rng)
        early["available_at"] = moment + pd.to_timedelta(rng.uniform(0, 20, len(early)), unit="D")
        more = pd.concat([more, early.sample(400, random_state=seed % 1000)])
    return pd.concat([frame, more], ignore_index=True)


def _other_events(frame, rng):
    names = ["novelty", "cancelled", "moved", "answer", "survey", "complaint"]
    touchpoint = rng.choice(names, len(frame))
    score = np.where(touchpoint == "answer", rng.integers(0, 11, len(frame)), np.nan)
    return frame.assign(touchpoint=touchpoint, score=score, region=rng.choice(["north", "west"], len(frame)))


def _read(frame):
    return read_journeys(frame, timezone="UTC", attributes=["region"])


def _essence(log, study, part):
    rows = study.parts[part]
    who = log.events.customers[rows.customer]
    return who.tolist(), rows.cutoff.tolist(), rows.X.tobytes(), rows.y.tobytes()


def _config(churn, gap, asked):
    return parse_config(PROJECT.format(churn=CHURN[churn], gap=gap, asked=asked))


@pytest.mark.parametrize("churn", CHURN)
@settings(max_examples=20, phases=[Phase.generate])  # an example takes half a second: no time to shrink
@given(
    part=st.sampled_from(PARTS),
    how=st.sampled_from(["deleted", "altered", "added"]),
    gap=st.sampled_from(["", ", gap: 12d"]),
    asked=st.sampled_from(["", ", asked: survey"]),
    late_feeds=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_part_stays_as_it_is_whatever_becomes_known_from_its_end_on(churn, part, how, gap, asked, late_feeds, seed):
    config = _config(churn, gap, asked)
    journeys = JOURNEYS if late_feeds else JOURNEYS.drop(columns="available_at")
    log = _read(journeys)
    before = look_ahead(log, config)
    assert not before.refusals
    end = before.studies["churn"].split.parts[part][1]
    assert end == before.studies["satisfaction"].split.parts[part][1]
    other = _read(_changed(journeys, pd.Timestamp(end, unit="us", tz="UTC"), how, seed))
    after = look_ahead(other, config)
    assert after.plan.to_dict() == before.plan.to_dict()
    for target, study in before.studies.items():
        assert after.studies[target].split == study.split
        for earlier in PARTS[: PARTS.index(part) + 1]:
            assert len(study.parts[earlier]) > 30
            assert _essence(other, after.studies[target], earlier) == _essence(log, study, earlier)
