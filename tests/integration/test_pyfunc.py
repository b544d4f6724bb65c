"""The model as MLflow serves it answers with the very numbers of the batch job."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import pandas as pd
import pytest

from cxml.project import Project
from cxml.tracking.runs import log_training, using_mlflow

CUTOFF = "2024-10-01"
MOMENT = pd.Timestamp(CUTOFF, tz="UTC")
N_CUSTOMERS = 60


@pytest.fixture(scope="module")
def project(shop, tmp_path_factory):
    """The shop's project, tracking into a store of its own."""
    opened = Project.from_file(shop / "project.yaml")
    tracking = opened.config.tracking.model_copy(
        update={"uri": f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"}
    )
    return Project(opened.config.model_copy(update={"tracking": tracking}))


@pytest.fixture(scope="module")
def tracked(project, model):
    return log_training(model, uri=project.tracking_uri, experiment="shop", register_as="shop")


@pytest.fixture(scope="module")
def scores(project, model):
    """The batch job's scores of some customers."""
    return project.score(model, cutoff=CUTOFF).table.to_pandas().head(N_CUSTOMERS)


@pytest.fixture(scope="module")
def events(shop, scores):
    """Their events, later ones too, with what was known of each customer before the cutoff; in no order."""
    frame = pd.read_parquet(shop / "events.parquet")
    about = pd.read_parquet(shop / "customers.parquet")
    about = about[about["valid_from"] < MOMENT].sort_values("valid_from").groupby("customer_id").last()
    frame = frame[frame["customer_id"].isin(scores["customer_id"])]
    frame = frame.merge(about[["plan", "region", "acquisition"]], left_on="customer_id", right_index=True)
    return frame.sample(frac=1.0, random_state=0)


@pytest.fixture(scope="module")
def loaded(project, tracked):
    import mlflow

    with using_mlflow(project.tracking_uri):
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(project.tracking_uri)
        try:
            return mlflow.pyfunc.load_model(tracked.model_uri)
        finally:
            mlflow.set_tracking_uri(before)


def predict(loaded, frame, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about missing type hints and the like
        return loaded.predict(frame, params=params or None)


def assert_same(answers: pd.DataFrame, scores: pd.DataFrame) -> None:
    assert list(answers.columns) == list(scores.columns)
    for column in scores:
        assert [*map(repr, answers[column].tolist())] == [*map(repr, scores[column].tolist())], column


def test_the_frame_in_gives_the_batch_scores_out(loaded, events, scores):
    assert (events["timestamp"] >= MOMENT).any()
    assert_same(predict(loaded, events, at=CUTOFF), scores)


def test_a_column_of_cutoffs_does_the_same(loaded, events, scores):
    assert_same(predict(loaded, events.assign(cutoff=MOMENT)), scores)


def test_fewer_reasons_change_no_number(loaded, events, scores):
    assert_same(
        predict(loaded, events, at=CUTOFF, reasons=0), scores.drop(columns=["reason_1", "reason_2", "reason_3"])
    )


@pytest.mark.parametrize("ref", ["models:/shop/1", "models:/shop/latest", "run"])
def test_a_reference_scores_as_its_folder_does(project, tracked, scores, ref):
    assert tracked.version == 1
    result = project.score(tracked.model_uri if ref == "run" else ref, cutoff=CUTOFF)
    assert_same(result.table.to_pandas().head(N_CUSTOMERS), scores)


def test_a_version_that_is_not_there_is_refused_by_name(project, tracked):
    from cxml import ConfigError

    with pytest.raises(ConfigError, match="shop"):
        project.score("models:/shop/9", cutoff=CUTOFF)


def test_a_frame_of_features_gives_the_same_scores(project, model, loaded, scores, tmp_path):
    project.write_features([CUTOFF], tmp_path / "features.csv", model=model)
    features = project.features([CUTOFF], model=model)
    features = features[features["customer_id"].isin(scores["customer_id"])]
    expected = scores.drop(columns="status")
    assert_same(predict(loaded, features), expected)
    texts = features.astype({name: "str" for name in features if str(features[name].dtype) == "category"})
    texts = texts[texts.columns[::-1]].where(features.notna())
    assert_same(predict(loaded, texts), expected)


def test_the_logged_model_shows_an_example_and_says_what_it_needs(project, loaded):
    from cxml import __version__

    described = loaded.metadata
    assert described.saved_input_example_info is not None
    assert described.get_input_schema() is None  # checking every column of every call costs more than the score
    assert {one["name"] for one in described.get_params_schema().to_dict()} == {"at", "reasons"}
    needs = [folder / "requirements.txt" for folder in project.model_folder("models:/shop/1").parents]
    assert f"cxml=={__version__}" in next(file for file in needs if file.exists()).read_text()


def ask(port: int, path: str, body: object = None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


@pytest.mark.slow
def test_mlflow_serves_the_model_over_http(project, tracked, events, scores, tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    some = scores.head(3)
    told = events[events["customer_id"].isin(some["customer_id"])]
    told = told.assign(timestamp=told["timestamp"].astype(str))
    frame = json.loads(told.to_json(orient="split", index=False))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": project.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        tracked.model_uri,
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                ask(port, "/ping")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        answer = json.loads(ask(port, "/invocations", {"dataframe_split": frame, "params": {"at": CUTOFF}}))
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
    given = pd.DataFrame(answer["predictions"])
    assert given["customer_id"].tolist() == some["customer_id"].tolist()
    for column in ("churn_30d", "churn_60d", "expected_nps"):
        assert given[column].tolist() == some[column].tolist()
    assert given["reason_1"].tolist() == some["reason_1"].tolist()
