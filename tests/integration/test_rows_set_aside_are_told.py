"""``cxml train`` and ``cxml nps`` say how many rows were set aside in reading, where there are any."""

import json
import shutil
import sys

import pandas as pd
import pytest

from cxml.cli import main

CHURN_ONLY = (
    "snapshots: {every: 30d, lookback: 180d}\nchurn: {kind: event, touchpoints: [cancelled], horizons: [30d]}\n"
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call ``run("nps", ...)`` from a folder of its own; give what stands on standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXML_DEBUG", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["cxml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        printed = capsys.readouterr()
        return printed.out, printed.err

    return call


@pytest.fixture
def poor(shop, tmp_path):
    """The shop with three rows of nobody."""
    events = pd.read_parquet(shop / "events.parquet")
    nobody = events.tail(3).assign(customer_id=None)
    pd.concat([events, nobody]).to_parquet(tmp_path / "events.parquet")
    shutil.copy(shop / "customers.parquet", tmp_path)
    text = (shop / "project.yaml").read_text()
    (tmp_path / "project.yaml").write_text(text)
    (tmp_path / "churn.yaml").write_text(text[: text.index("customers:")] + CHURN_ONLY)
    return tmp_path


def line_of(told):
    return [line for line in told.splitlines() if "quarantined" in line]


def test_nps_says_it_in_a_line_of_progress(run, poor, shop, model):
    out, told = run("nps", poor / "project.yaml", "--model", model, "--json")
    (line,) = line_of(told)
    assert line.startswith("3 rows quarantined (0.0")
    assert line.endswith(": out/telecom_demo/quarantine.parquet")
    assert len(pd.read_parquet(poor / "out/telecom_demo/quarantine.parquet")) == 3
    assert json.loads(out)["figures"]  # which it leaves alone
    _, told = run("nps", shop / "project.yaml", "--model", model)
    assert "reading journeys" in told and not line_of(told)


def test_training_says_it_in_a_line_of_progress(run, poor):
    out, told = run("train", poor / "churn.yaml", "--out", "model", "--no-track", "--json")
    (line,) = line_of(told)
    assert line.startswith("3 rows quarantined")
    assert told.index("reading journeys") < told.index(line) < told.index("model saved")
    assert "quarantined" not in out
