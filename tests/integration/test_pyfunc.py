"""The model as MLflow serves it answers with the very numbers of the batch job."""

import warnings

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
