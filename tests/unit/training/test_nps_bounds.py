"""Figures for everybody stay on their scale, and say where they rest on little."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.evaluate.nps_plot import plot_nps
from cxml.journeys.read import read_journeys
from cxml.models.store import SavedModel
from cxml.training import respond
from cxml.training.nps import nps_report
from cxml.training.respond import expected_nps
from cxml.training.studies import plan_features

CUSTOM = """
name: shop
journeys: {sources: [events.csv], timezone: UTC, attributes: [plan]}
snapshots: {every: 30d, lookback: 90d}
satisfaction: {kind: custom, scale: [-2, 2], touchpoint: answer, asked: question}
"""
NPS = CUSTOM.replace("kind: custom, scale: [-2, 2]", "kind: nps")
START = pd.Timestamp("2024-01-01", tz="UTC")


def willing(happy):
    return 0.3 + 0.5 * happy


def events(score, answers=willing, n=900, seed=0):
    """Customers of three plans, asked once: `big` answers now and then, `mute` never, of `tiny` there are 24."""
    rng = np.random.default_rng(seed)
    rows = []
    for who in range(n):
        plan = "tiny" if who < 24 else "mute" if who % 5 == 0 else "big"
        day, happy = rng.uniform(0, 60), rng.random()
        rows += [(who, day + k, "visit", np.nan, plan) for k in range(1 + int(6 * happy))]
        rows.append((who, day + 8, "question", np.nan, plan))
        if plan != "mute" and rng.random() < answers(happy):
            rows.append((who, day + 9, "answer", score(rng, happy), plan))
    rows.append((0, 120.0, "visit", np.nan, "tiny"))  # long enough for all askings to be over
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score", "plan"])
    frame["timestamp"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


def told(text, score, answers=willing, **options):
    config = parse_config(text)
    scale = config.satisfaction.bounds
    log = read_journeys(events(score, answers), timezone="UTC", score_scale=scale, survey="answer", attributes=["plan"])
    plan = plan_features(log, config, log.last)
    until = log.first + 90 * 86_400_000_000
    return expected_nps(log, config, plan, until=until, by="plan", folds=2, **options)


def content(rng, happy):
    """Nearly everybody who answers gives the highest score."""
    return 2.0 if rng.random() < 0.5 + happy else 1.0


@pytest.fixture(scope="module")
def found():
    return told(CUSTOM, content, hidden=0.3)


@pytest.mark.parametrize("options", [{}, {"bootstrap": 200}])
@pytest.mark.parametrize(
    ("text", "ends"),
    [(CUSTOM, {"mean": (-2.0, 2.0), "top_box": (0.0, 100.0)}), (NPS, {"mean": (0.0, 10.0), "nps": (-100.0, 100.0)})],
)
def test_no_figure_and_no_end_of_an_interval_leaves_its_scale(monkeypatch, text, ends, options):
    """Nearly all who answer are of the unhappy sixth, so that corrected figures lie at the upper end."""
    top = ends["mean"][1]
    unbounded = []
    cut = respond.bounded
    monkeypatch.setattr(respond, "bounded", lambda figures, *at: unbounded.append(figures) or cut(figures, *at))
    score, answers = (
        (lambda _, happy: top if happy > 1 / 6 else top - 2),
        (lambda happy: 0.95 if happy < 1 / 6 else 0.1),
    )
    few = told(text, score, answers, hidden=0.3, **options)
    beyond = 0
    for line, before in zip(few.lines, unbounded, strict=True):
        low, high = ends[line.statistic]
        for name in ("raw", "ipw", "dr"):
            one, free = getattr(line.figures, name), getattr(before, name)
            assert tuple(one) == pytest.approx(tuple(np.clip(free, low, high)), nan_ok=True)
            beyond += bool(free.high > high)
        assert all(np.isnan(value) or low <= value <= high for value in line.hidden.values())
    assert beyond  # without the cut some would have left it
    assert few.find("mean").hidden["0.3"] == top


def test_what_rests_on_few_is_marked_in_the_table_and_named_in_the_notes(found):
    few = found.find("mean", "tiny")
    assert few.figures.effective < 30
    assert "few answers" in few.doubts
    assert not found.find("mean", "big").doubts
    _, head, rows = found.table()
    trust = {(row[0], row[1]): row[head.index("trust")] for row in rows}
    assert trust["mean score", "tiny"].startswith("NO: few answers")
    assert trust["mean score", "big"] == "yes"
    assert trust["mean score", "mute"] == "-"  # no answers, no figure
    (note,) = [note for note in found.notes if "less than 30" in note]
    assert note.startswith("not to be trusted: the corrected figures of tiny until 2024-03-31")
    assert "big" not in note


def test_a_company_a_fifth_of_which_never_answers_is_not_to_be_trusted(found):
    company = found.find("mean")
    assert 0.05 < company.figures.clipped < 0.3
    assert company.doubts == ("hardly ever answer",)
    (note,) = [note for note in found.notes if "hardly ever answer" in note]
    assert "figures of all until" in note


def test_draws_of_customers_change_intervals_and_nothing_else(found):
    drawn = told(CUSTOM, content, hidden=0.3, bootstrap=400)
    for one, other in zip(found.lines, drawn.lines, strict=True):
        assert one.hidden == pytest.approx(other.hidden, nan_ok=True)
        assert one.doubts == other.doubts
        for name in ("raw", "ipw", "dr"):
            assert getattr(one.figures, name).value == pytest.approx(getattr(other.figures, name).value, nan_ok=True)
    one, other = (each.find("mean", "big").figures.dr for each in (found, drawn))
    assert (one.low, one.high) != (other.low, other.high)
    assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.25)


def test_the_report_says_where_its_intervals_come_from():
    config = parse_config(NPS)
    log = read_journeys(
        events(lambda rng, _: float(rng.integers(4, 11))), timezone="UTC", score_scale=(0, 10), survey="answer",
        attributes=["plan"],
    )  # fmt: skip
    model = SavedModel("shop", plan_features(log, config, log.last), {}, {}, {}, "0")
    drawn, usual = (nps_report(log, config, model, by="plan", bootstrap=draws) for draws in (100, None))
    assert any("from 100 draws of customers" in line for line in drawn.lines())
    assert any("customers as clusters" in line for line in usual.lines())
    assert (drawn.to_dict()["bootstrap"], usual.to_dict()["bootstrap"]) == (100, None)
    frame, other = (report.frame().set_index(["statistic", "segment"]) for report in (drawn, usual))
    assert frame.loc[("nps", "big"), "raw"] == other.loc[("nps", "big"), "raw"]
    assert frame.loc[("nps", "big"), "raw_low"] != other.loc[("nps", "big"), "raw_low"]
    assert "few answers" in frame.loc[("nps", "tiny"), "doubts"]
    assert frame.loc[("nps", "big"), "doubts"] == ""
    title = plot_nps(drawn.frame()).get_suptitle().replace("\n", " ")
    assert "is not to be trusted (hardly ever answer)" in title
