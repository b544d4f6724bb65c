"""Promised times from the file of events to a model, the nightly batch and one journey in a service."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cxml.demo import write_simulation
from cxml.features.promises import OVERDUE
from cxml.models.store import load_model
from cxml.project import Project
from cxml.scoring.scorer import load
from cxml.simulate import simulate
from cxml.times import format_instant, parse_instant

AT = "2025-03-01"


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    """Simulated events, where every order says on which wall-clock hour it will be there."""
    events = simulate(400, n_replays=1, random_state=7).events
    days = np.random.default_rng(0).integers(1, 6, len(events))
    due = (events["timestamp"] + pd.to_timedelta(days, unit="D")).dt.floor("h")
    events["expected"] = due.dt.strftime("%Y-%m-%dT%H:%M").where(events["touchpoint"] == "order")
    return events


@pytest.fixture(scope="module")
def project(events, tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("shop")
    simulation = replace(simulate(400, n_replays=1, random_state=7), events=events)
    write_simulation(simulation, folder)
    content = yaml.safe_load((folder / "project.yaml").read_text(encoding="utf-8"))
    content["journeys"] |= {
        "sources": [{"path": "events.parquet", "columns": {"promised": "expected"}}],
        "timezone": "America/New_York",
        "promises": ["delivered", "delivered_late"],
    }
    content["features"] = {"families": ["basic", "service"]}
    (folder / "project.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Project.from_file(folder / "project.yaml")


@pytest.fixture(scope="module")
def folder(project) -> Path:
    place = project.config.folder / "model"
    project.train(out=place, track=False)
    return place


def test_the_model_looks_at_them(project, folder):
    plan = load_model(folder).plan
    assert {"mean__lateness__365d", "count__late=yes__90d", *OVERDUE} <= set(plan.numeric)
    frame = project.features([AT], model=folder)
    assert frame["mean__lateness__365d"].nunique() > 20
    assert (frame["count__late=yes__365d"] > 0).any()


def test_batch_and_service_agree_in_every_bit(project, events, folder):
    batch = project.score(folder, cutoff=AT, reasons=8)
    scorer, rows = load(folder), batch.table.to_pylist()
    customers = pd.read_parquet(project.config.folder / "customers.parquet")
    customers = customers[customers["valid_from"] < pd.Timestamp(AT, tz="UTC")].sort_values("valid_from")
    assert len(rows) > 100
    for row in rows[::5]:
        customer = row.pop("customer_id")
        mine = events[events["customer_id"] == customer]
        journey = mine.astype(object).where(mine.notna(), None).to_dict("records")
        about = dict(customers[customers["customer_id"] == customer].iloc[-1][["plan", "region", "acquisition"]])
        answer = scorer.score(journey, AT, customer=about, reasons=8)
        row["cutoff"] = format_instant(parse_instant(row["cutoff"]))
        assert {n: repr(v) for n, v in answer.items()} == {n: repr(v) for n, v in row.items()}, customer


def test_a_log_on_disk_has_the_same_features(project, folder, tmp_path):
    content = yaml.safe_load((project.config.folder / "project.yaml").read_text(encoding="utf-8"))
    content["journeys"]["memory_limit"] = "60kB"
    small = project.config.folder / "small.yaml"
    small.write_text(yaml.safe_dump(content), encoding="utf-8")
    pd.testing.assert_frame_equal(
        Project.from_file(small).features([AT], model=folder), project.features([AT], model=folder)
    )


def test_check_finds_no_leak(project):
    result = project.check(leakage=True)
    assert result.leakage.clean, result.leakage
    assert any(note.startswith("features: the family service has no columns of") for note in result.lines())
