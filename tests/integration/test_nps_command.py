"""``cxml nps`` as a user meets it, on the simulated shop and its model."""

import json
import sys

import pandas as pd
import pytest

from cxml.cli import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, shop, model):
    """Call ``run("--by", "plan")`` from a folder of its own; give the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXML_DEBUG", raising=False)

    def call(*words):
        line = ["cxml", "nps", shop / "project.yaml", "--model", model, "--quiet", *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


def test_it_prints_raw_beside_corrected_and_writes_all_that_is_asked_for(run, tmp_path, shop):
    code, out, _ = run(
        "--by", "plan", "--ask", "25", "--out", "nps.csv", "--ask-out", "ask.parquet", "--plot", "nps.png"
    )  # fmt: skip
    assert code == 0
    assert "raw" in out and "doubly robust" in out and "leaving, unhappy" in out
    figures = pd.read_csv(tmp_path / "nps.csv")
    company = figures[(figures["statistic"] == "nps") & (figures["segment"] == "all")].iloc[0]
    assert company["dr"] < company["raw"]
    assert company["dr_low"] < company["dr"] < company["dr_high"]
    assert {"basic", "standard", "premium"} <= set(figures["segment"])
    ask = pd.read_parquet(tmp_path / "ask.parquet")
    assert len(ask) == 25
    assert ask["gain"].is_monotonic_decreasing
    events = pd.read_parquet(shop / "events.parquet")
    recent = events["timestamp"] > events["timestamp"].max() - pd.Timedelta(days=30)
    asked_lately = set(events.loc[recent & (events["touchpoint"] == "survey_sent"), "customer_id"])
    assert not asked_lately & set(ask["customer_id"])
    assert (tmp_path / "nps.png").read_bytes()[:4] == b"\x89PNG"


def test_machines_get_json_over_time(run):
    code, out, _ = run("--every", "180d", "--json", "--level", "0.9", "--bootstrap", "100")
    assert code == 0
    content = json.loads(out)
    assert content["level"] == 0.9 and content["hidden"] == 0.05 and content["bootstrap"] == 100
    spans = [figure["until"] for figure in content["figures"] if figure["statistic"] == "nps"]
    assert len(spans) >= 2
    assert spans == sorted(spans)
    assert sum(quadrant["n"] for quadrant in content["quadrants"]) > 100
    assert 0 < content["response"]["share"] < 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "plann"), "did you mean 'plan'"),
        (("--every", "monthly"), "--every"),
        (("--plot", "nps.bmp"), "nps.bmp"),
        (("--ask-out", "ask.csv"), "--ask"),
        (("--level", "1.5"), "between 0 and 1"),
        (("--hidden", "1"), "below 1"),
        (("--bootstrap", "99"), "--bootstrap is 99; give 100"),
        (("--window", "soon"), "--window"),
    ],
)
def test_wrong_usage_ends_with_2_and_the_mend(run, words, said):
    code, _, err = run(*words)
    assert code == 2
    assert said in err


def test_a_moment_with_too_few_answers_ends_with_3(run):
    code, _, err = run("--cutoff", "2023-07-20")
    assert code == 3
    assert "60 are needed" in err


def test_training_tells_of_everybody(model):
    content = json.loads((model / "model.json").read_text())
    figures = content["metadata"]["everybody"]
    assert figures["nps_dr_low"] < figures["nps_dr"] < figures["nps_dr_high"]
    assert figures["nps_dr"] < figures["nps_raw"]
    card = (model / "card.md").read_text()
    assert "## Satisfaction of everybody" in card
    assert "doubly robust" in card
