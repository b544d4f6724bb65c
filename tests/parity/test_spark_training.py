"""A model trained from Spark is the one of one machine, byte for byte, and nothing is left on the way."""

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_spark import CONFIGS, rough

from cxml.config import load_config
from cxml.demo import PROJECT
from cxml.errors import ConfigError, DataError
from cxml.features import custom
from cxml.models.store import load_model
from cxml.progress import SILENT, Progress, Silent
from cxml.project import Project
from cxml.scoring import spark as engine
from cxml.simulate import simulate
from cxml.training import spark as training
from cxml.training.studies import Outlook, look_ahead

pytestmark = pytest.mark.needs_spark

MINE = """
import cxml

@cxml.feature("busy_hours", "Different hours of the day with an event.")
def busy_hours(events, cutoff):
    return len(set(events.time // 3_600_000_000 % 24))
"""


@pytest.fixture(scope="module")
def spark():
    with engine.open_spark("local[2]") as opened:
        yield opened


@pytest.fixture(scope="module")
def simulation():
    return simulate(250, n_replays=1, random_state=11)


@pytest.fixture(scope="module")
def events(simulation):
    return rough(simulation.events, np.random.default_rng(0))


@pytest.fixture
def shop(simulation, events, tmp_path):
    """Make a project of events, customers and a changed project file."""

    def shop(changed: pd.DataFrame | None = None, **parts) -> Project:
        (events if changed is None else changed).to_parquet(tmp_path / "events.parquet")
        simulation.customers.to_parquet(tmp_path / "customers.parquet")
        content = yaml.safe_load(PROJECT)
        content["journeys"] |= parts.pop("journeys", {})
        content = {name: part for name, part in (content | parts).items() if part is not None}
        (tmp_path / "project.yaml").write_text(yaml.safe_dump(content))
        return Project.from_file(tmp_path / "project.yaml")

    return shop


class Told(Silent):
    """Keeps what steps there were, and how far each went."""

    def __init__(self):
        self.steps = {}

    @contextmanager
    def step(self, what, total=None):
        def advance(n):
            self.steps[what] += n

        self.steps[what] = 0
        yield advance
        assert total in (None, self.steps[what])


def both(
    spark, project: Project, parts, partitions: int | None = None, progress: Progress = SILENT
) -> tuple[Outlook, Outlook]:
    """Look ahead here and on Spark."""

    def gather(log, config, plan, splits, activity, leavers, progress):
        return training.gather_on_spark(
            spark, log, config, plan, splits, activity, parts, partitions=partitions, progress=progress
        )

    log = project.read(quarantine=Path(project.config.folder) / "quarantine.parquet")
    leavers = project.leavers()
    return look_ahead(log, project.config, leavers), look_ahead(log, project.config, leavers, progress, gather)


def assert_same(here: Outlook, there: Outlook, targets: set[str]) -> None:
    assert here.studies.keys() == there.studies.keys() == targets
    assert here.lines() == there.lines()
    for target, study in here.studies.items():
        assert there.studies[target].split == study.split
        for part, rows in study.parts.items():
            others = there.studies[target].parts[part]
            for name in ("customer", "cutoff", "X", "y"):
                mine, other = getattr(rows, name), getattr(others, name)
                assert (mine.dtype, mine.shape) == (other.dtype, other.shape), (target, part, name)
                np.testing.assert_array_equal(other, mine, err_msg=f"{target} {part} {name}")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_model_is_the_same_byte_for_byte(spark, shop, tmp_path):
    """With all that training learns: from outcomes, from rhythms, from the user's own function, by reason."""
    (tmp_path / "mine.py").write_text(MINE)
    project = shop(
        features={
            "families": ["basic", "rhythm", "mix", "service", "rfm", "likeness", "peers"],
            "modules": ["mine.py"],
            "columns": ["busy_hours"],
        }
    )
    project.train(out=tmp_path / "here", track=False)
    project.train(out=tmp_path / "there", track=False, engine="spark", parts=tmp_path / "shared")
    assert {"busy_hours", "peer_churn__plan", "mean__likeness__30d"} <= set(load_model(tmp_path / "here").plan.columns)
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")
    assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_snapshots_are_the_same_on_any_number_of_partitions(spark, shop, tmp_path, monkeypatch, partitions):
    monkeypatch.setattr(training, "_BATCH_BYTES", 1 << 14)  # a few rows at a time
    told = Told()
    here, there = both(spark, shop(), tmp_path, partitions, told)
    assert_same(here, there, {"churn", "satisfaction"})
    n_rows = sum(len(rows) for study in here.studies.values() for rows in study.parts.values())
    assert told.steps == {"read and answer on Spark": 0, "write on Spark": 0, "take over from Spark": n_rows}
    assert len(there.studies["churn"].parts["train"]) > 500


def test_ids_may_be_texts_and_reasons_be_told(spark, shop, events, tmp_path):
    ids = events["customer_id"].astype(str)
    gone = events["touchpoint"] == "cancelled"
    why = np.where(gone & (events.index % 2 == 0), "moved", events["touchpoint"])
    changed = events.assign(customer_id=ids.where(ids != ids.iloc[0], "007"), touchpoint=why)
    reasons = {"price": ["cancelled"], "move": ["moved"]}
    churn = {"kind": "event", "touchpoints": ["cancelled", "moved"], "horizons": ["30d", "60d"], "reasons": reasons}
    here, there = both(spark, shop(changed, churn=churn), tmp_path)
    assert_same(here, there, {"churn", "satisfaction"})
    assert here.studies["churn"].parts["train"].y.shape[1] == 3
    assert {0.0, 1.0} <= set(here.studies["churn"].parts["train"].y[:, 2].tolist())


def test_who_left_may_stand_in_a_table(spark, shop, events, simulation, tmp_path):
    rng = np.random.default_rng(5)
    ids = np.unique(events["customer_id"])[::2]
    days = pd.to_timedelta(rng.integers(60, 400, len(ids)), unit="D")
    gone = pd.DataFrame({"customer_id": ids, "timestamp": simulation.events["timestamp"].min() + days})
    gone.to_parquet(tmp_path / "gone.parquet")
    churn = {"kind": "table", "source": "gone.parquet", "horizons": ["30d", "60d"]}
    here, there = both(spark, shop(churn=churn, satisfaction=None), tmp_path)
    assert_same(here, there, {"churn"})
    assert here.studies["churn"].parts["train"].y[:, 1].sum() > 20


def test_not_every_part_need_hold_somebody_who_was_asked(spark, shop, events, tmp_path):
    surveys = events["touchpoint"].isin(["survey_sent", "survey_answer"])
    here, there = both(spark, shop(events[~surveys | (events["customer_id"] % 4 == 0)], churn=None), tmp_path, 30)
    assert_same(here, there, {"satisfaction"})


def test_what_is_on_its_way_may_lie_where_only_spark_knows_the_way(spark, shop, tmp_path):
    shared = tmp_path / "shared"
    here, there = both(spark, shop(), f"{shared.as_uri()}/")
    assert_same(here, there, {"churn", "satisfaction"})
    assert [path for path in shared.iterdir() if path.is_dir()] == []


def test_the_driver_need_not_hold_the_journeys_of_a_project_of_churn(spark, shop, tmp_path):
    """They lie on disk, and only a part of them, or one of their columns, is in memory."""
    parts = {"satisfaction": None, "features": {"families": ["basic", "rhythm", "likeness", "peers"]}}
    shop(**parts).train(out=tmp_path / "here", track=False)
    project = shop(**parts, journeys={"memory_limit": "60kB"})
    project.train(out=tmp_path / "there", track=False, engine="spark")
    assert project.read().events.on_disk
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")


def refused(work) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        work()
    return f"{type(caught.value).__name__}: {caught.value}"


def test_what_cannot_be_done_is_refused_before_any_work(spark, shop, tmp_path, monkeypatch):
    project = shop()
    (tmp_path / "events.parquet").unlink()  # whoever reads it fails otherwise
    assert "--tune is for one machine" in refused(lambda: project.train(engine="spark", tune=3))
    assert "did you mean 'spark'" in refused(lambda: project.train(engine="sparc"))
    assert "need engine='spark'" in refused(lambda: project.train(master="local[2]"))
    monkeypatch.setattr(custom, "_REGISTERED", {})
    custom.register_feature("mine", lambda events, _: len(events), "Mine.")
    project = shop(features={"columns": ["mine"]})
    (tmp_path / "events.parquet").unlink()
    said = refused(lambda: project.train(engine="spark"))
    assert "user features (mine)" in said
    assert "features.modules" in said


def test_nothing_that_training_refuses_is_refused_in_other_words(spark, shop, events, tmp_path):
    project = shop(events[events["timestamp"] < events["timestamp"].min() + pd.Timedelta(90, unit="D")])
    here = refused(lambda: project.train(out=tmp_path / "here", track=False))
    assert refused(lambda: project.train(out=tmp_path / "there", track=False, engine="spark")) == here
    assert not (tmp_path / "there").exists()


def test_sources_that_change_while_they_are_read_are_refused_and_nothing_is_left(spark, shop, events, tmp_path):
    project = shop()
    project.read(quarantine=tmp_path / "quarantine.parquet")
    events.iloc[:-500].to_parquet(tmp_path / "events.parquet")
    shared = tmp_path / "shared"
    said = refused(lambda: project.train(out=tmp_path / "model", track=False, engine="spark", parts=shared))
    assert said.startswith("DataError: the driver read ")
    assert "the sources changed" in said
    assert list(shared.iterdir()) == []
    assert not (tmp_path / "model").exists()


def test_a_folder_that_workers_do_not_share_is_told(spark, shop, tmp_path, monkeypatch):
    real = engine.rows_spark

    def elsewhere(spark, task, config, out, **options):
        told = real(spark, task, config, out, **options)
        shutil.rmtree(out)  # as the driver sees a folder that is another one for each worker
        return told

    monkeypatch.setattr(engine, "rows_spark", elsewhere)
    said = refused(lambda: both(spark, shop(), tmp_path))
    assert said.startswith("ConfigError: Spark's workers wrote ")
    assert "--parts" in said


def test_spark_is_let_go_before_trees_are_grown(spark, shop, tmp_path, monkeypatch):
    told = []

    @contextmanager
    def opened(master):
        told.append(f"opened {master}")
        yield spark
        told.append("closed")

    monkeypatch.setattr(engine, "open_spark", opened)
    project = shop(satisfaction=None)
    log = project.read(quarantine=tmp_path / "quarantine.parquet")
    with training.gatherer("local[2]", tmp_path) as gather:
        assert look_ahead(log, project.config, gather=gather).studies
        told.append("grown")
    assert told == ["opened local[2]", "closed", "grown"]


def test_the_command_trains_the_model_of_one_machine(shop, tmp_path):
    file = Path(shop(satisfaction=None).config.folder) / "project.yaml"

    def command(*more: str) -> subprocess.CompletedProcess:
        call = [sys.executable, "-m", "cxml", "train", str(file), "--no-track", "-q", *more]
        return subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)

    here = command("--out", "here")
    there = command("--out", "there", "--engine", "spark", "--master", "local[2]")
    assert (there.returncode, there.stderr) == (0, "")
    assert there.stdout.replace("there", "here") == here.stdout
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")
    assert [path.name for path in tmp_path.glob("*.parts")] == []
    wrong = command("--master", "local[2]")
    assert (wrong.returncode, "--master needs --engine spark" in wrong.stderr) == (2, True)


@pytest.mark.needs_shared_data
def test_a_real_log_gives_the_same_model(spark, tmp_path):
    config = load_config(CONFIGS / "online_retail.yaml")
    journeys = config.journeys.model_copy(update={"where": "customer_id % 4 = 0"})
    project = Project(config.model_copy(update={"journeys": journeys}))
    project.read(quarantine=tmp_path / "quarantine.parquet")
    project.train(out=tmp_path / "here", track=False)
    project.train(out=tmp_path / "there", track=False, engine="spark")
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")
