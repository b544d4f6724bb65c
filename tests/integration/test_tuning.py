"""`cxml train --tune` as a user meets it: killed, gone on with, recorded trial by trial."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("optuna")


def project(shop: Path, folder: Path) -> Path:
    """The shop's project with a tracking store of its own, of surveys alone: they are few, so that it is quick."""
    text = (shop / "project.yaml").read_text()
    for name in ("events.parquet", "customers.parquet"):
        text = text.replace(name, str(shop / name))
    start, end = text.index("churn:"), text.index("satisfaction:")
    assert start < end
    file = folder / "project.yaml"
    file.write_text(text[:start] + text[end:])
    return file


def cxml(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxml", *map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )


def kept_trials(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        try:
            return int(store.execute("select count(*) from trials").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


@pytest.fixture(scope="module")
def tuned(shop, tmp_path_factory):
    """A project trained with six trials, and what the command printed."""
    folder = tmp_path_factory.mktemp("tuned")
    file = project(shop, folder)
    done = cxml(folder, "train", file, "--out", folder / "model", "--tune", 6, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


def test_the_result_the_manifest_and_the_run_tell_what_was_found(tuned):
    from cxml.config import load_config
    from cxml.tracking.runs import make_client, using_mlflow

    folder, result, said = tuned
    assert "best so far" in said
    found = result["tuning"]["satisfaction"]
    assert found["trials"] == 6
    assert found["loss"] <= found["loss_before"]
    metadata = json.loads((folder / "model" / "model.json").read_text())["metadata"]
    assert metadata["tuning"]["satisfaction"] == found
    assert metadata.get("parameters", {}).get("satisfaction", {}) == found["parameters"]
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    assert load_config(folder / "project.yaml").tracking.uri == "sqlite:///mlflow.db"
    with using_mlflow(uri):
        client = make_client(uri)
        parent = client.get_run(result["run_id"])
        for name, value in found["parameters"].items():
            assert parent.data.params[f"config.satisfaction.parameters.{name}"] == str(value)
        inner = client.search_runs(
            [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'", max_results=100
        )
        assert len(inner) == 6
        assert all(run.info.status == "FINISHED" for run in inner)
        best = [run for run in inner if run.data.tags["best"] == "True"]
        assert [run.info.run_name for run in best] == [f"satisfaction trial {found['best_trial']}"]
        assert best[0].data.metrics["satisfaction.rps"] == pytest.approx(found["loss"], abs=1e-8)
        assert len({run.data.tags["trial"] for run in inner}) == 6
        assert {"satisfaction.learning_rate", "satisfaction.num_leaves"} <= set(
            next(run for run in inner if run.data.tags["trial"] == "3").data.params
        )


def test_killed_it_goes_on_and_ends_in_the_same_bytes(tuned, tmp_path):
    folder, *_ = tuned
    words = ["train", folder / "project.yaml", "--out", tmp_path / "model", "--no-track", "--tune"]
    trials = tmp_path / "model.tuning.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "cxml", *map(str, words), "500", "-q"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(1200):
            if kept_trials(trials) >= 2 or process.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 2 <= kept_trials(trials) < 500
    assert not (tmp_path / "model").exists()
    done = cxml(tmp_path, *words, 6)
    assert done.returncode == 0, done.stderr
    assert "6 trials are remembered from before" in done.stderr
    for file in (folder / "model").iterdir():
        assert file.read_bytes() == (tmp_path / "model" / file.name).read_bytes(), file.name


def test_a_wrong_number_of_trials_is_wrong_usage(tuned):
    folder, *_ = tuned
    done = cxml(folder, "train", folder / "project.yaml", "--tune", 0)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
