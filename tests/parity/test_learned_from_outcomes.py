"""A model with features that are learned from outcomes, from its project file to one journey in a service."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cxml.demo import write_simulation
from cxml.errors import DataError
from cxml.models.store import load_model
from cxml.progress import Silent
from cxml.project import Project
from cxml.scoring.scorer import load
from cxml.simulate import simulate
from cxml.times import DAY_US, format_instant, parse_instant

AT = "2025-03-01"


@pytest.fixture(scope="module")
def simulation():
    return simulate(500, n_replays=1, random_state=4)


@pytest.fixture(scope="module")
def project(simulation, tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("shop")
    write_simulation(simulation, folder)
    content = yaml.safe_load((folder / "project.yaml").read_text(encoding="utf-8"))
    content["features"] = {"families": ["basic", "likeness", "peers"]}
    (folder / "project.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Project.from_file(folder / "project.yaml")


@pytest.fixture(scope="module")
def folder(project) -> Path:
    place = project.config.folder / "model"
    project.train(out=place, track=False)
    return place


def journey_of(simulation, customer):
    rows = simulation.events[simulation.events["customer_id"] == customer]
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def about(simulation, customer):
    rows = simulation.customers
    rows = rows[(rows["customer_id"] == customer) & (rows["valid_from"] < pd.Timestamp(AT, tz="UTC"))]
    return dict(rows.sort_values("valid_from").iloc[-1][["plan", "region", "acquisition"]])


def test_the_model_has_them(folder):
    plan = load_model(folder).plan
    wanted = {f"peer_{target}__{name}" for target in ("churn", "score") for name in ("plan", "region", "acquisition")}
    assert wanted | {"mean__likeness__30d", "last__likeness__365d"} <= set(plan.numeric)
    for name, sentence in plan.describe().items():
        assert sentence.endswith("."), name


def test_batch_and_service_agree_in_every_bit(project, simulation, folder):
    batch = project.score(folder, cutoff=AT, out=project.config.folder / "scores.parquet", reasons=5)
    scorer, rows = load(folder), batch.table.to_pylist()
    assert len(rows) > 100
    for row in rows[::4]:
        customer = row.pop("customer_id")
        answer = scorer.score(journey_of(simulation, customer), AT, customer=about(simulation, customer), reasons=5)
        row["cutoff"] = format_instant(parse_instant(row["cutoff"]))
        assert {n: repr(v) for n, v in answer.items()} == {n: repr(v) for n, v in row.items()}, customer


def test_a_journey_to_score_needs_to_say_whose_it_is(simulation, folder):
    scorer, customer = load(folder), int(simulation.events["customer_id"].iloc[0])
    whole = journey_of(simulation, customer)
    bare = [{name: value for name, value in event.items() if name != "customer_id"} for event in whole]
    with pytest.raises(DataError, match="without customer_id"):
        scorer.score(bare, AT)
    assert scorer.score_many({customer: bare}, AT) == scorer.score_many({customer: whole}, AT)


def test_check_finds_no_leak(project, folder):
    result = project.check(leakage=True)
    assert result.leakage.clean, result.leakage
    assert result.leakage.n_columns == len(load_model(folder).plan.columns)


def test_what_training_saw_is_what_a_model_computes_for_the_same_moment(project, simulation, folder):
    """No skew: a training row, asked of the saved model one customer at a time, has the same bits."""
    from cxml.features.matrix import fill_matrix
    from cxml.journeys.block import slice_block
    from cxml.training.studies import look_ahead

    log = project.read()
    outlook = look_ahead(log, project.config)
    plan = load_model(folder).plan
    assert json.loads(json.dumps(outlook.plan.to_dict())) == plan.to_dict()
    rows = outlook.studies["churn"].parts["train"]
    for i in range(0, len(rows), 97):
        customer = int(rows.customer[i])
        alone = slice_block(log.block, customer, customer + 1)
        found = fill_matrix(plan, alone, np.array([0, 1]), rows.cutoff[i : i + 1], log.customers)
        np.testing.assert_array_equal(found[0], rows.X[i])


def test_features_of_the_model_are_those_it_scores_with(project, folder):
    from cxml.features.matrix import fill_matrix

    frame, plan, block = project.features([AT], model=folder), load_model(folder).plan, project.read().block
    assert list(frame.columns) == ["customer_id", "cutoff", *plan.columns]
    who = np.searchsorted(block.customers, frame["customer_id"])
    row_starts = np.searchsorted(who, np.arange(block.n_customers + 1)).astype(np.int64)
    cutoffs = np.full(len(frame), parse_instant(AT))
    matrix = fill_matrix(plan, block, row_starts, cutoffs, project.read().customers)
    np.testing.assert_array_equal(frame[list(plan.numeric)].to_numpy(), matrix[:, : len(plan.numeric)])


def test_features_without_a_model_learn_from_outcomes_known_before_the_cutoff_only(project, simulation, tmp_path):
    cutoff = "2024-06-01"
    frame = project.features([cutoff])
    learned = [name for name in frame if "likeness" in name or name.startswith("peer_")]
    assert {"mean__likeness__30d", "peer_churn__plan", "peer_score__region"} <= set(learned)
    assert (frame[learned].nunique() > 1).all()

    later = simulation.events["timestamp"] >= pd.Timestamp(cutoff, tz="UTC")
    events = simulation.events.assign(touchpoint=simulation.events["touchpoint"].astype(str))
    events.loc[later & (events["touchpoint"] == "cancelled"), "touchpoint"] = "login"
    events.loc[later & events["score"].notna(), "score"] = 0.0
    write_simulation(simulation, tmp_path)
    events.to_parquet(tmp_path / "events.parquet")
    (tmp_path / "project.yaml").write_bytes((project.config.folder / "project.yaml").read_bytes())
    pd.testing.assert_frame_equal(Project.from_file(tmp_path / "project.yaml").features([cutoff]), frame)


def test_features_before_any_outcome_was_known_say_so(project):
    said = []

    class Listener(Silent):
        def say(self, what):
            said.append(what)

    cutoff = project.read().first + DAY_US
    frame = project.features([cutoff], progress=Listener())
    assert not [name for name in frame if "likeness" in name or name.startswith("peer_")]
    assert sorted(what for what in said if "too few outcomes" in what) == [
        f"features: the family {name} has no columns: too few outcomes were known before {format_instant(cutoff)}"
        for name in ("likeness", "peers")
    ]
