"""Tracking against a real SQLite store, made once for all tests here: making its tables takes seconds."""

import json
import logging
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxml.errors import ConfigError
from cxml.tracking.registry import resolve, set_alias
from cxml.tracking.runs import Dataset, TrackedRun, log_training, make_client, using_mlflow


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "shop"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"name": "shop"}))
    (folder / "churn.txt").write_text("tree\n")
    return folder


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def plots_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    (folder / "churn_gain.png").write_bytes(b"png")
    return folder


@pytest.fixture(scope="module")
def tracked(uri, model_folder, plots_folder) -> TrackedRun:
    return log_training(
        model_folder, uri=uri, experiment="shop", run_name="first",
        params={"learning_rate": 0.05, "windows": ["7d", "30d"]} | {f"feature {k}": k for k in range(120)},
        metrics={"auroc_30d": 0.8, "mean__duration@stage=support": 3.0, "auprc_90d": float("nan"), "brier_90d": None},
        tags={"digest": "abc"}, config_yaml="name: shop\n", plots_folder=plots_folder,
        artifacts=[model_folder / "churn.txt"],
        datasets=[Dataset("shop train", "d" * 64, profile={"rows": 10}), Dataset("shop test", "e", context="test")],
        register_as="shop",
    )  # fmt: skip


@pytest.fixture
def client(uri, tracked):
    with using_mlflow(uri):
        yield make_client(uri)


def test_a_training_is_found_again_with_all_it_logged(client, tracked):
    experiment = client.get_experiment_by_name("shop")
    [run] = client.search_runs([experiment.experiment_id], "metrics.auroc_30d > 0.7 and tags.digest = 'abc'")
    assert run.info.run_id == tracked.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert run.data.params["windows"] == "['7d', '30d']"
    assert len(run.data.params) == 122
    assert run.data.metrics == {"auroc_30d": 0.8, "mean__duration_stage_support": 3.0}
    assert {i.dataset.name: i.tags[0].value for i in run.inputs.dataset_inputs} == {
        "shop train": "training",
        "shop test": "test",
    }
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "churn.txt", "plots"} <= files


def test_the_model_carries_the_metrics_of_its_run(client, tracked):
    [model] = client.search_logged_models([tracked.experiment_id], filter_string="metrics.auroc_30d > 0.7")
    assert model.source_run_id == tracked.run_id
    assert model.status == "READY"


def test_artifacts_lie_beside_the_database(uri, tracked):
    assert resolve(tracked.model_uri, uri).is_relative_to(Path(uri.removeprefix("sqlite:///")).parent / "mlruns")


def test_a_logged_model_holds_no_code_no_pickle_and_no_path_of_this_machine(uri, tracked, model_folder):
    packed = next(p for p in resolve(tracked.model_uri, uri).parents if (p / "MLmodel").exists())
    described = (packed / "MLmodel").read_text()
    assert not [p for p in packed.rglob("*") if p.suffix in (".py", ".pkl", ".pickle")]
    assert str(model_folder.parent) not in described
    assert "cxml.tracking.flavour" in described


def test_nothing_of_the_folder_where_the_process_stands_gets_into_the_model(
    uri, tracked, model_folder, tmp_path, monkeypatch
):
    for name in ("uv.lock", "pyproject.toml", ".python-version"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    again = log_training(model_folder, uri=uri, experiment="strays")
    packed = next(p for p in resolve(again.model_uri, uri).parents if (p / "MLmodel").exists())
    assert {p.name for p in packed.iterdir()} == {
        "MLmodel", "conda.yaml", "data", "python_env.yaml", "requirements.txt",
    }  # fmt: skip


def test_a_second_training_is_a_second_version_of_the_same_experiment(uri, tracked, model_folder):
    again = log_training(model_folder, uri=uri, experiment="shop", register_as="shop")
    assert again.experiment_id == tracked.experiment_id
    assert (tracked.version, again.version) == (1, 2)


@pytest.mark.parametrize("ref", ["{run}", "runs:/{id}", "models:/shop/1", "models:/shop/latest", "models:/shop@best"])
def test_every_kind_of_reference_leads_to_the_same_files(ref, uri, tracked, model_folder):
    set_alias("shop", "best", 1, uri)
    folder = resolve(ref.format(run=tracked.model_uri, id=tracked.run_id), uri)
    for name in ("model.json", "churn.txt"):
        assert (folder / name).read_bytes() == (model_folder / name).read_bytes()


def test_a_plain_folder_needs_no_store(model_folder):
    assert resolve(model_folder, "sqlite:////nowhere/at/all.db") == model_folder


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("models:/shopp/1", "did you mean 'shop'"),
        ("models:/shop/99", "has no version 99; versions: "),
        ("models:/shop@bst", "no alias 'bst'; did you mean 'best'"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "there is no run '0123456789abcdef0123456789abcdef'"),
        ("models:/shop", "does not refer to a model"),
        ("no/such/folder", "is not there. Name a folder"),
    ],
)
def test_a_wrong_reference_names_what_there_is(ref, says, uri, tracked):
    set_alias("shop", "best", 1, uri)
    with pytest.raises(ConfigError, match=says):
        resolve(ref, uri)


def test_a_run_names_its_models_when_asked_for_another(uri, tracked):
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        resolve(f"runs:/{tracked.run_id}/modell", uri)


def test_an_alias_needs_a_version_that_exists(uri, tracked):
    with pytest.raises(ConfigError, match="no version 77"):
        set_alias("shop", "best", 77, uri)


def test_a_run_that_fails_is_marked_failed_and_the_error_passes(uri, tracked, client, model_folder, tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        log_training(
            model_folder, uri=uri, experiment="shop", run_name="broken", artifacts=[tmp_path / "absent"],
            register_as="shop",
        )  # fmt: skip
    [run] = client.search_runs([tracked.experiment_id], "attributes.run_name = 'broken'")
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None


def test_an_interrupted_run_is_marked_killed(uri, tracked, client, model_folder):
    class Interrupting(dict):
        def items(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log_training(model_folder, uri=uri, experiment="shop", run_name="stopped", metrics=Interrupting(a=1))
    [run] = client.search_runs([tracked.experiment_id], "attributes.run_name = 'stopped'")
    assert run.info.status == "KILLED"


def test_tracking_leaves_everything_global_of_mlflow_alone(uri, tracked, model_folder, tmp_path, monkeypatch):
    import mlflow
    from mlflow.tracking._tracking_service import utils as service

    monkeypatch.chdir(tmp_path)
    active = SimpleNamespace(
        uri=service._tracking_uri, env={k: v for k, v in os.environ.items() if k.startswith("MLFLOW")},
        level=logging.getLogger("mlflow").level,
    )  # fmt: skip
    log_training(model_folder, uri=uri, experiment="elsewhere", register_as="other")
    with pytest.raises(ConfigError):
        log_training(model_folder, uri=uri, experiment="elsewhere", artifacts=[tmp_path / "absent"])
    resolve("models:/other/latest", uri)
    assert service._tracking_uri == active.uri
    assert {k: v for k, v in os.environ.items() if k.startswith("MLFLOW")} == active.env
    assert mlflow.active_run() is None
    assert logging.getLogger("mlflow").level == active.level
    assert list(tmp_path.iterdir()) == []


def test_tracking_says_nothing(uri, tracked, model_folder, capfd):
    log_training(model_folder, uri=uri, experiment="quiet", register_as="quiet")
    assert capfd.readouterr() == ("", "")


def test_a_store_that_is_no_database_is_refused_in_words(tmp_path, model_folder):
    (tmp_path / "mlflow.db").write_text("this is no database, " * 100)
    with pytest.raises(ConfigError, match=r"tracking at 'sqlite:.*failed: .*--no-track"):
        log_training(model_folder, uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="shop")


def test_a_store_from_a_later_version_is_refused_in_words(uri, tracked, tmp_path, model_folder):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('of_the_future')")
    database.close()
    with pytest.raises(ConfigError, match="tracking at"):
        log_training(model_folder, uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="shop")


def test_a_folder_without_a_model_is_refused_before_a_run_begins(uri, tracked, client, tmp_path):
    with pytest.raises(ConfigError, match="holds no model"):
        log_training(tmp_path, uri=uri, experiment="never begun")
    assert client.get_experiment_by_name("never begun") is None


def test_looking_for_a_model_never_makes_a_store(tmp_path):
    with pytest.raises(ConfigError, match="there is no tracking store"):
        resolve("models:/shop/1", f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_a_password_never_shows_in_a_message(model_folder):
    with pytest.raises(ConfigError, match="ana:") as caught:
        log_training(model_folder, uri="nosuchdb://ana:hunter2@localhost/mlflow", experiment="shop")
    assert "hunter2" not in str(caught.value)
