"""Who counts as leaving and who as unhappy, by a model's own bands and answers."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.journeys.read import read_journeys
from cxml.scoring.batch import score_log
from cxml.training.learn import train
from cxml.training.nps import four_corners

PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 15d, lookback: 90d}
features: {windows: [30d]}
churn: {kind: event, touchpoints: [cancelled], horizons: [15d, 30d], parameters: {n_estimators: 40}}
satisfaction: {kind: nps, touchpoint: answer, parameters: {n_estimators: 20}}
"""


def journeys(n=250, days=420):
    """Complaints foretell that someone cancels."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(n):
        leaves = int(rng.integers(60, 2 * days))
        for day in np.cumsum(rng.integers(3, 18, size=days // 3)):
            if day < min(leaves, days):
                worry = rng.random() < (0.5 if leaves - day < 45 else 0.05)
                rows.append((customer, int(day), "complaint" if worry else "login", np.nan))
                if rng.random() < 0.1:
                    rows.append((customer, int(day), "answer", float(rng.integers(0, 11))))
        if leaves < days:
            rows.append((customer, leaves, "cancelled", np.nan))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    frame["timestamp"] = pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


@pytest.fixture(scope="module")
def scored():
    """A model, and the scores of all its customers."""
    log, config = read_journeys(journeys(), timezone="UTC"), parse_config(PROJECT)
    model = train(log, config, replicates=5).model
    return model, score_log(model, log, log.last + 1, churn=config.churn, reasons=0)


@pytest.mark.parametrize(("low", "high"), [("p_detractor", "p_promoter"), ("p_low", "p_high")])
def test_whoever_is_not_at_low_risk_counts_as_leaving_and_whoever_is_likelier_to_answer_low_as_unhappy(
    scored, low, high
):
    model, scores = scored
    n = scores.num_rows
    promoter = np.linspace(0.1, 0.6, n)  # from 0.35 on as likely as the opposite
    for name, column, values in (("p_detractor", low, 0.7 - promoter), ("p_promoter", high, promoter)):
        scores = scores.set_column(scores.column_names.index(name), column, [values])
    band = np.array(scores.column("risk_band").to_pylist())
    assert {*band} == {"low", "medium", "high"}
    risk, unhappy = scores.column("churn_30d").to_numpy(), promoter < 0.35
    value = np.arange(n, dtype=float)
    expected = {
        "leaving, unhappy": (band != "low") & unhappy,
        "leaving, happy": (band != "low") & ~unhappy,
        "staying, unhappy": (band == "low") & unhappy,
        "staying, happy": (band == "low") & ~unhappy,
    }
    found = {one.name: one for one in four_corners(model, scores, value)}
    assert found.keys() == expected.keys()
    for name, here in expected.items():
        one = found[name]
        assert one.n == here.sum() > 0
        assert one.risk == pytest.approx(risk[here].mean())
        assert one.feeling == pytest.approx(100 * (2 * promoter[here] - 0.7).mean())
        assert one.value == value[here].sum()
