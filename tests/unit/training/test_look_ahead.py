"""What training would refuse: a check must foresee it, in the words that training then uses."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.errors import DataError
from cxml.features.leakage import check_leakage
from cxml.journeys.read import read_journeys
from cxml.project import Project
from cxml.training.learn import train
from cxml.training.studies import known_churn, look_ahead, snapshot_frame

START = pd.Timestamp("2023-01-01", tz="UTC")
CHURN = "churn: {kind: event, touchpoints: [cancelled], horizons: [30d, 60d]}"
NPS = "satisfaction: {kind: nps, touchpoint: answer}"


def project_of(*parts, every="30d", more=""):
    snapshots = f"snapshots: {{every: {every}, lookback: 90d{more}}}"
    return "\n".join(["name: shop", "journeys: {sources: [events.csv], timezone: UTC}", snapshots, *parts])


def events(rows):
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    frame["timestamp"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


def customers(n=120, days=400, cancelled=range(0, 120, 3), scores=None, answered=None, logins=20):
    """Logins every ``logins`` days; some cancel at some time; everyone answers a survey now and then."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(n):
        last = int(rng.integers(50, days)) if customer in cancelled else days
        rows += [(customer, day, "login", np.nan) for day in range(customer % logins, last, logins)]
        if customer in cancelled:
            rows.append((customer, last, "cancelled", np.nan))
        if scores is not None:
            asked = range(10 + customer % 50, days, 100) if answered is None else answered
            rows += [(customer, day, "answer", float(rng.choice(scores))) for day in asked if day < last]
    return events(rows)


def refusal(frame, *parts, **snapshots):
    """What the check foresees; training must stop with it."""
    config = parse_config(project_of(*parts, **snapshots))
    log = read_journeys(frame, timezone="UTC")
    outlook = look_ahead(log, config)
    with pytest.raises(DataError) as refused:
        train(log, config)
    assert str(refused.value) == " ".join(outlook.refusals)
    foreseen = [line for line in outlook.lines() if line.startswith("training would refuse: ")]
    assert [line.removeprefix("training would refuse: ") for line in foreseen] == list(outlook.refusals)
    assert outlook.lines()[: len(foreseen)] == foreseen
    assert outlook.lines()[-1].startswith("features: ")
    return foreseen


CASES = {
    "no cutoff fits": (
        customers(days=20, cancelled=()), [CHURN], {}, "churn: no cutoff fits: .* Give a longer log",
    ),
    "too short for three parts": (
        customers(days=100, cancelled=()), [CHURN], {}, "churn: too short for training, calibration and test: ",
    ),
    "nobody at risk in a part": (
        pd.concat([customers(days=300), events([(0, 499, "login", np.nan)])]), [CHURN],
        {"more": ", test_start: 2024-04-01, calibration_start: 2023-09-01"},
        r"churn: nobody is at risk of churn in the test part\. Check churn and snapshots\.lookback \(90d\)",
    ),
    "not followed for the longest horizon": (
        customers(n=600, days=200, cancelled=range(0, 600, 3)),
        ["churn: {kind: event, touchpoints: [cancelled], horizons: [30d, 120d]}"], {},
        r"churn: nobody was followed for 120d: the longest of [\d,]+ rows is .*Shorten churn\.horizons",
    ),
    "no churners": (
        pd.concat([customers(cancelled=()), events([(0, 399, "cancelled", np.nan)])]), [CHURN], {},
        r"churn: no churners among [\d,]+ rows at any horizon\. Check what counts as churn",
    ),
    "all churned": (
        events([(customer, 3 * customer, "login", np.nan) for customer in range(134)]),
        ["churn: {kind: inactivity, horizons: [30d, 60d]}"], {},
        r"churn: all of [\d,]+ rows churned by every horizon",
    ),
    "too few churners": (
        customers(cancelled=range(0, 120, 12)), [CHURN], {},
        r"churn: too few to learn from: at best \(\w+\) \d+ of [\d,]+ rows churned; 30 are needed\. Take more",
    ),
    "no scores": (
        customers(), [NPS], {}, r"satisfaction: no row of touchpoint 'answer' has a score .* Check satisfaction",
    ),
    "hardly any answers": (
        customers(scores=[3], answered=[]).assign(score=lambda f: f["score"].where(f.index != 5, 3.0),
                                                  touchpoint=lambda f: f["touchpoint"].where(f.index != 5, "answer")),
        [NPS], {}, r"satisfaction: only 1 survey answers; training, calibration and test need some hundred",
    ),
    "no answer in a part": (
        customers(scores=[3, 9], answered=[100, 200]), [NPS],
        {"more": ", test_start: 2023-12-01, calibration_start: 2023-06-01"},
        r"satisfaction: no survey answer falls in the test part \(2023-12-01 to .*Give more survey answers",
    ),
    "too few answers to learn from": (
        customers(n=8, cancelled=(), scores=[3, 9]), [NPS], {},
        r"satisfaction: \d+ answers in \d+ rows are too few to learn from; 30 are needed\. Take more surveys",
    ),
    "all answers the same": (
        customers(scores=[7]), [NPS], {}, r"satisfaction: all \d+ answers are 7; there is nothing to tell apart",
    ),
    "scores between the steps of the scale": (
        customers(scores=[3, 7.5]), [NPS], {}, r"satisfaction: \d+ of \d+ scores are not whole numbers from 0 to 10",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_training_refuses_is_foreseen(case):
    frame, parts, snapshots, says = CASES[case]
    (line,) = refusal(frame, *parts, **snapshots)
    assert pd.Series([line]).str.contains(says, regex=True).all(), line


def test_a_horizon_that_only_finished_journeys_are_known_for():
    """Who finished is known never to churn, but says nothing of those who went on; nobody else was seen so long."""
    finished = [(customer, 115, "finished", np.nan) for customer in range(1, 600, 3)]
    frame = pd.concat([customers(n=600, days=200, cancelled=range(0, 600, 3)), events(finished)])
    churn = "churn: {kind: event, touchpoints: [cancelled], ends: [finished], horizons: [30d, 120d]}"
    (line,) = refusal(frame, churn)
    assert "churn: nobody was followed for 120d: the longest of 1,096 rows is 30 days. Shorten churn.horizons" in line


def test_every_target_has_its_say():
    first, second = refusal(customers(cancelled=range(0, 120, 12), scores=[7]), CHURN, NPS)
    assert "churn: too few" in first
    assert "satisfaction: all" in second


def test_a_target_without_a_split_does_not_hide_the_other():
    config = parse_config(project_of(CHURN, NPS))
    outlook = look_ahead(read_journeys(customers(), timezone="UTC"), config)
    assert [text.split(":")[0] for text in outlook.refusals] == ["satisfaction"]
    assert any(line.startswith("churn train: ") for line in outlook.lines())


def test_a_log_to_learn_from_is_not_refused():
    config = parse_config(project_of(CHURN, NPS))
    outlook = look_ahead(read_journeys(customers(scores=[3, 9]), timezone="UTC"), config)
    assert outlook.refusals == ()
    outlook.demand()
    assert not any("refuse" in line for line in outlook.lines())


@pytest.mark.parametrize("kind", ["event, touchpoints: [cancelled]", "inactivity"])
def test_the_share_that_churns_is_told_by_horizon(kind):
    """Not the share whose outcome was seen: for inactivity these are the ones that came back."""
    churn = f"churn: {{kind: {kind}, horizons: [10d, 30d]}}"
    config = parse_config(project_of(churn))
    outlook = look_ahead(read_journeys(customers(logins=15), timezone="UTC"), config)
    study = outlook.studies["churn"]
    for part in study.parts:
        known = known_churn(study, part, config)
        told = ", ".join(f"{h} {np.nanmean(known[:, k]):.1%}" for k, h in enumerate(("10d", "30d")))
        (line,) = [line for line in outlook.lines() if line.startswith(f"churn {part}: ")]
        assert line.endswith(f", churn {told}")
        assert 0 < np.nanmean(known[:, 0]) < 1


@pytest.mark.parametrize("case", ["no cutoff fits", "nobody at risk in a part", "no scores", "all answers the same"])
def test_check_reads_the_data_tells_of_the_refusal_and_can_still_prove_the_features(case, tmp_path):
    frame, parts, snapshots, _ = CASES[case]
    frame.to_csv(tmp_path / "events.csv", index=False)
    (tmp_path / "project.yaml").write_text(project_of(*parts, **snapshots), encoding="utf-8")
    result = Project.from_file(tmp_path / "project.yaml").check(leakage=True, out=tmp_path / "report")
    assert not result.leaks
    assert result.leakage.n_customers >= 100
    told = [note for note in result.notes if note.startswith("training would refuse: ")]
    assert len(told) == 1
    assert told[0] in result.lines()
    assert told[0] in result.to_dict()["snapshots"]
    assert result.to_dict()["refusals"] == [told[0].removeprefix("training would refuse: ")]


def test_where_training_refuses_everything_everybody_is_looked_at_once():
    config = parse_config(project_of(CHURN))
    log = read_journeys(customers(days=20, cancelled=()), timezone="UTC")
    frame = snapshot_frame(log, outlook := look_ahead(log, config))
    assert len(frame) == frame["customer_id"].nunique() == 120
    assert frame["cutoff"].nunique() == 1
    assert check_leakage(log, outlook.plan, frame).clean
