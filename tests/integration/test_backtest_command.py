"""``cxml backtest`` and ``cxml train --strict`` as a user meets them."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from cxml import Project
from cxml.cli import main
from cxml.errors import ConfigError

PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 30d, lookback: 90d}
features: {windows: [30d]}
churn: {kind: event, touchpoints: [cancelled], horizons: [30d]}
"""


def write_project(folder, warned):
    """Customers who log in and cancel at any time; where ``warned``, many complain before they do."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(300):
        day, gone = int(rng.integers(0, 300)), int(rng.integers(60, 700))
        while day < min(gone, 480):
            often = 0.4 if warned and gone - day < 40 else 0.1
            rows.append((customer, day, "complaint" if rng.random() < often else "login"))
            day += int(rng.integers(5, 12))
        if gone < 480:
            rows.append((customer, gone, "cancelled"))
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint"])
    events["timestamp"] = pd.Timestamp("2023-01-01") + pd.to_timedelta(events.pop("day"), unit="D")
    events["plan"] = np.array(["basic", "gold"])[events["customer_id"] % 2]
    events["region"] = np.array(["north", "south"])[events["customer_id"] // 2 % 2]
    folder.mkdir(parents=True, exist_ok=True)
    events.to_csv(folder / "events.csv", index=False)
    (folder / "project.yaml").write_text(PROJECT, encoding="utf-8")
    return folder / "project.yaml"


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("telling"), warned=True)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("noise"), warned=False)


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path):
    """Call ``cxml("backtest", "project.yaml")`` in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXML_DEBUG", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["cxml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


def test_a_backtest_prints_tables_and_a_verdict_and_writes_what_is_named(cxml, telling, tmp_path):
    out, plot = tmp_path / "new" / "folds.csv", tmp_path / "folds.svg"
    code, printed, err = cxml("backtest", telling, "--folds", "2", "--no-track", "--out", out, "--plot", plot)
    assert code == 0, err
    assert "fold 1 of 2: learn churn" in err
    assert "churn by fold" in printed
    assert "plain LightGBM" in printed
    assert "churn: better than every baseline" in printed
    assert "random" not in printed
    assert {"fold", "who", "metric", "value", "low", "high"} <= set(pd.read_csv(out).columns)
    assert plot.read_text().startswith("<?xml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folds.svg", "new"]  # no model, no run, nothing half-written


def test_mlflow_keeps_a_run_for_all_folds_and_one_below_it_for_each(cxml, telling, tmp_path):
    """The figures are those that are printed; the table and the picture go with them, and no model."""
    from mlflow import MlflowClient

    project = tmp_path / "project.yaml"
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    text = PROJECT.replace("events.csv", str(telling.parent / "events.csv"))
    project.write_text(f"{text}tracking: {{uri: '{store}', experiment: folds}}\n", encoding="utf-8")
    code, printed, err = cxml("backtest", project, "--folds", "2", "--json")
    assert code == 0, err
    pooled = {
        row["metric"]: row["value"] for row in json.loads(printed)["results"]
        if row["fold"] == "all" and row["who"] == "cxml" and row["against"] is None and row["horizon"] == "30d"
        and row["attribute"] is None
    }  # fmt: skip
    client = MlflowClient(tracking_uri=store, registry_uri=store)
    experiment = client.get_experiment_by_name("folds").experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time"])
    above = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == above.info.run_id]
    assert {run.info.run_name for run in below} == {"churn fold 1", "churn fold 2"}
    assert all(run.info.status == "FINISHED" and run.info.start_time > 1e12 for run in runs)
    assert above.data.metrics["churn.log_loss_30d"] == pytest.approx(pooled["log_loss"], abs=1e-8)
    assert len({run.data.metrics["churn.log_loss_30d"] for run in runs}) == 3
    assert above.data.tags["kind"] == "backtest"
    assert above.data.params["churn.folds"] == "2"
    files = {file.path for file in client.list_artifacts(above.info.run_id)}
    assert files == {"backtest.csv", "backtest.png", "config.yaml"}


def test_a_store_that_cannot_be_reached_does_not_cost_the_figures(cxml, telling, tmp_path):
    project = tmp_path / "project.yaml"
    text = PROJECT.replace("events.csv", str(telling.parent / "events.csv"))
    (tmp_path / "file").touch()
    project.write_text(f"{text}tracking: {{uri: 'sqlite:///file/runs.db'}}\n", encoding="utf-8")
    code, printed, err = cxml("backtest", project, "--folds", "1", "--out", tmp_path / "folds.csv")
    assert code == 0
    assert "churn: better than every baseline" in printed
    assert "not recorded in MLflow" in err
    assert (tmp_path / "folds.csv").is_file()


def test_machines_get_json_and_files_are_parquet_by_default(cxml, telling, tmp_path):
    out = tmp_path / "folds.parquet"
    code, printed, err = cxml("backtest", telling, "--folds", "1", "--no-track", "--out", out, "--json", "-q")
    assert (code, err) == (0, "")
    told = json.loads(printed)
    assert told["folds"] == {"churn": 1}
    assert told["beats_all"] == {"churn": True}
    assert len(told["results"]) == len(pd.read_parquet(out)) > 50


def test_segments_are_printed_of_all_attributes_or_of_those_asked_for_and_all_are_written(cxml, telling, tmp_path):
    project = tmp_path / "project.yaml"
    text = PROJECT.replace("events.csv", str(telling.parent / "events.csv"))
    project.write_text(text.replace("timezone: UTC", "timezone: UTC, attributes: [plan, region]"), encoding="utf-8")
    line = ("backtest", project, "--folds", "1", "--no-track", "-q")
    code, printed, err = cxml(*line)
    assert code == 0, err
    assert {"basic", "gold", "north", "south"} <= set(printed.split())
    code, printed, err = cxml(*line, "--by", "plan", "--out", tmp_path / "folds.parquet")
    assert code == 0, err
    assert "churn by segment, all folds together: the model" in printed
    assert {"basic", "gold"} <= set(printed.split())
    assert not {"north", "south"} & set(printed.split())
    written = pd.read_parquet(tmp_path / "folds.parquet")
    assert set(written[["attribute", "segment"]].dropna().itertuples(index=False, name=None)) == {
        ("plan", "basic"), ("plan", "gold"), ("region", "north"), ("region", "south"),
    }  # fmt: skip


def test_an_unknown_attribute_is_refused_before_anything_is_read(cxml, tmp_path):
    """The files need not even be there; attributes of the table of customers count as well."""
    project = tmp_path / "project.yaml"
    text = PROJECT.replace("timezone: UTC", "timezone: UTC, attributes: [plan]")
    project.write_text(f"{text}customers: {{source: about.csv, attributes: [region]}}\n", encoding="utf-8")
    code, _, err = cxml("backtest", project, "--by", "plan", "--by", "regoin")
    assert code == 2
    assert "--by: there is no attribute 'regoin'; did you mean 'region'?" in err
    code, _, err = cxml("backtest", project, "--by", "region")
    assert "--by" not in err
    assert "events.csv" in err
    with pytest.raises(ConfigError, match="there is no attribute 'regoin'"):  # one name is one name, not its letters
        Project.from_file(project).backtest(by="regoin")


def test_a_random_split_is_loud(cxml, telling):
    code, printed, err = cxml("backtest", telling, "--folds", "2", "--random-split", "--no-track")
    assert code == 0
    assert "warning: a random split learns from the future" in err
    assert "warning: churn: the random split" in printed
    assert "do not quote it" in printed


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--folds", "50"], 3, "Ask for --folds"),
        (["--plot", "folds.jpeg"], 2, "ends in .png, .svg or .pdf"),
        (["--folds", "0"], 2, "--folds"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_mend(cxml, telling, words, code, says):
    found, _, err = cxml("backtest", telling, *words)
    assert found == code
    assert says in err
    assert "Traceback" not in err


def test_a_backtest_that_is_interrupted_leaves_nothing(cxml, telling, tmp_path, monkeypatch):
    import cxml.training.backtest as module

    def interrupt(*_args, **_keys):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_pooled", interrupt)
    code, _, err = cxml("backtest", telling, "--folds", "1", "--out", tmp_path / "folds.parquet")
    assert code == 130
    assert "interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_beats_all_passes_the_strict_gate(cxml, telling, tmp_path):
    code, printed, err = cxml("train", telling, "--strict", "--no-track", "--out", tmp_path / "model", "--json", "-q")
    assert code == 0, err
    assert json.loads(printed)["refusal"] is None
    assert (tmp_path / "model" / "model.json").is_file()


def test_a_model_no_better_than_a_rule_fails_and_the_last_good_one_stays(cxml, noise, telling, tmp_path):
    folder = tmp_path / "model"
    assert cxml("train", telling, "--no-track", "--out", folder, "-q")[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, printed, err = cxml("train", noise, "--strict", "--out", folder, "-q")
    assert code == 1
    assert "does NOT beat every baseline" in printed
    assert "not saved, not registered" in printed
    assert "MLflow run" in printed
    assert "registered as" not in printed
    assert "error: no better than a baseline on churn: log_loss_30d against" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_strict_such_a_model_is_saved_and_its_card_says_so(cxml, noise, tmp_path):
    code, printed, err = cxml("train", noise, "--no-track", "--out", tmp_path / "model", "-q")
    assert code == 0, err
    assert "does NOT beat every baseline" in printed
    card = (tmp_path / "model" / "card.md").read_text(encoding="utf-8")
    assert "- **churn: does NOT beat every baseline" in card
    assert "Do not act on its churn" in card
