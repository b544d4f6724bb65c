"""Spark and one machine give the same scores and features, in every bit, and refuse the same data in the same words."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxml.demo import write_simulation
from cxml.errors import ConfigError, DataError
from cxml.features.export import write_features
from cxml.features.frame import JourneyFeatures
from cxml.models.store import load_model
from cxml.project import Project
from cxml.scoring.batch import score_log
from cxml.scoring.spark import features_spark, open_spark, score_spark, session, sources
from cxml.simulate import simulate
from cxml.times import parse_instant

pytestmark = pytest.mark.needs_spark

SHIPPED = Path(__file__).parents[2] / "models" / "telecom_demo"
CONFIGS = Path(__file__).parents[2] / "configs"
CUTOFFS = ["2024-03-10T12:00:00Z", "2024-09-01"]


def rough(events: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Events as feeds deliver them: in no order, many at one moment, some late, some twice, with holes."""
    n = len(events)
    rough = events.sample(frac=1.0, random_state=1).reset_index(drop=True)
    rough["timestamp"] = rough["timestamp"].dt.floor("6h")
    late = pd.to_timedelta(np.where(rng.random(n) < 0.2, rng.integers(0, 30 * 24, n), 0), unit="h")
    rough["available_at"] = (rough["timestamp"] + late).where(rng.random(n) < 0.9)
    rough["touchpoint"] = rough["touchpoint"].astype(str)
    odd = (rough["customer_id"] % 10 == 3) & (rng.random(n) < 0.7)
    rough.loc[odd, "touchpoint"] = rng.choice(["teleported", "Ärger", "login "], int(odd.sum()))
    rough["channel"] = rough["channel"].astype(object).where(rng.random(n) < 0.8, None)
    for name in ("value", "duration", "score"):
        rough[name] = rough[name].where(rng.random(n) < 0.9)
    rough.loc[rng.random(n) < 0.05, "value"] = -0.0
    return pd.concat([rough, rough.sample(frac=0.05, random_state=2)], ignore_index=True)


@pytest.fixture(scope="module")
def spark():
    with open_spark("local[2]") as opened:
        yield opened


@pytest.fixture(scope="module")
def simulation():
    return simulate(250, n_replays=1, random_state=11)


@pytest.fixture(scope="module")
def events(simulation):
    return rough(simulation.events, np.random.default_rng(0))


@pytest.fixture(scope="module")
def shop(simulation, tmp_path_factory):
    """Make a project of events, customers and a changed project file."""

    def shop(events: pd.DataFrame, customers: pd.DataFrame | None = None, **changes: str) -> Project:
        folder = tmp_path_factory.mktemp("shop")
        write_simulation(simulation, folder)
        events.to_parquet(folder / "events.parquet")
        if customers is not None:
            customers.to_parquet(folder / "customers.parquet")
        text = (folder / "project.yaml").read_text()
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        (folder / "project.yaml").write_text(text)
        return Project.from_file(folder / "project.yaml")

    return shop


@pytest.fixture(scope="module")
def project(shop, events):
    return shop(events)


def on_one_machine(project: Project, at: str, model: Path = SHIPPED, reasons: int = 5) -> pa.Table:
    log = project.read(quarantine=Path(project.config.folder) / "quarantine.parquet")
    cutoff = parse_instant(at)
    return score_log(load_model(model), log, cutoff, churn=project.config.churn, leavers=project.leavers(),
                     reasons=reasons)  # fmt: skip


def on_spark(spark, project: Project, at: str, model: Path = SHIPPED, reasons: int = 5, **options) -> pa.Table:
    scored = score_spark(spark, model, project.config, parse_instant(at), reasons=reasons, **options)
    return scored.table


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_every_score_is_the_same_on_any_number_of_partitions(spark, project, partitions):
    for at in CUTOFFS:
        here = on_one_machine(project, at)
        assert len(here) > 100
        assert on_spark(spark, project, at, partitions=partitions).equals(here)


def test_what_was_read_is_told_in_the_same_words(spark, project):
    scored = score_spark(spark, SHIPPED, project.config, parse_instant(CUTOFFS[0]))
    assert scored.quality.lines()[:-1] == project.read().quality.lines()[: len(scored.quality.lines()) - 1]
    assert scored.quality.late_events > 500
    assert scored.quality.duplicates > 100


def test_the_order_of_rows_and_the_cut_into_files_change_nothing(spark, project, events, tmp_path):
    here = on_one_machine(project, CUTOFFS[1])
    folder = tmp_path / "events"
    folder.mkdir()
    shuffled = events.sample(frac=1.0, random_state=5)
    for i in range(3):
        shuffled.iloc[i::3].to_parquet(folder / f"{i}.parquet")
    source = project.config.journeys.sources[0].model_copy(update={"path": str(folder)})
    config = with_sources(project, [source])
    assert on_spark(spark, Project(config), CUTOFFS[1], partitions=5).equals(here)


def with_sources(project: Project, listed: list):
    journeys = project.config.journeys.model_copy(update={"sources": listed})
    return project.config.model_copy(update={"journeys": journeys})


def test_row_groups_of_a_large_file_are_read_by_several_tasks(spark, project, events, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PIECE_ROWS", 3_000)
    file = tmp_path / "events.parquet"
    events.to_parquet(file, row_group_size=1_000)
    source = project.config.journeys.sources[0].model_copy(update={"path": str(file)})
    pieces, n_rows = sources.pieces_of(0, source, ".")
    assert len(pieces) > 3
    assert n_rows == len(events)
    assert [piece.first_row for piece in pieces[:2]] == [0, 3_000]
    assert on_spark(spark, Project(with_sources(project, [source])), CUTOFFS[1]).equals(
        on_one_machine(project, CUTOFFS[1])
    )


def test_ids_may_be_texts_and_the_tables_may_write_them_differently(spark, shop, events, simulation):
    texts = events.assign(customer_id="c" + events["customer_id"].astype(str).str.zfill(4))
    about = simulation.customers
    about = about.assign(customer_id="c" + about["customer_id"].astype(str).str.zfill(4))
    project = shop(texts, about)
    here = on_one_machine(project, CUTOFFS[1])
    assert here.schema.field("customer_id").type == pa.string()
    assert on_spark(spark, project, CUTOFFS[1], partitions=3).equals(here)

    digits = shop(events.assign(customer_id=events["customer_id"].astype(str)))  # the customers' table has integers
    here = on_one_machine(digits, CUTOFFS[1])
    assert here.schema.field("customer_id").type == pa.int64()
    assert on_spark(spark, digits, CUTOFFS[1], partitions=3).equals(here)


def test_one_id_that_is_no_number_makes_texts_of_all(spark, shop, events):
    ids = events["customer_id"].astype(str)
    project = shop(events.assign(customer_id=ids.where(ids != ids.iloc[0], "007")))
    here = on_one_machine(project, CUTOFFS[1])
    assert here.schema.field("customer_id").type == pa.string()
    assert on_spark(spark, project, CUTOFFS[1], partitions=8).equals(here)


def test_one_customer_with_most_of_the_events_survives(spark, shop, events):
    rng = np.random.default_rng(3)
    n = 200_000
    skewed = events.iloc[rng.integers(0, len(events), n)].assign(
        customer_id=100_007,
        timestamp=pd.Timestamp("2023-07-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 86400 * 400, n), unit="s"),
        available_at=pd.NaT,
    )
    project = shop(pd.concat([events[events["customer_id"] < 100_060], skewed]))
    assert on_spark(spark, project, CUTOFFS[1], partitions=4).equals(on_one_machine(project, CUTOFFS[1]))


def test_exact_duplicates_are_dropped_alike(spark, shop, events):
    project = shop(events, duplicates=("  timezone: UTC", "  timezone: UTC\n  duplicates: drop_exact"))
    assert on_spark(spark, project, CUTOFFS[1]).equals(on_one_machine(project, CUTOFFS[1]))
    assert project.read().quality.duplicates_dropped > 100


def test_a_table_of_spark_is_read_like_a_file(spark, project, tmp_path):
    here = on_one_machine(project, CUTOFFS[1])
    frame = spark.read.parquet(str(Path(project.config.folder) / "events.parquet"))
    assert on_spark(spark, project, CUTOFFS[1], events=frame).equals(here)
    frame.createOrReplaceTempView("shop_events")
    assert on_spark(spark, project, CUTOFFS[1], events="shop_events", partitions=2).equals(here)
    with pytest.raises(ConfigError, match="has no column 'customer_id'"):
        on_spark(spark, project, CUTOFFS[1], events=frame.drop("customer_id"))


def test_text_files_and_queries_are_read_by_workers(spark, project, events, tmp_path):
    here = on_one_machine(project, CUTOFFS[1])
    half = len(events) // 2
    events.iloc[:half].to_csv(tmp_path / "a.csv", index=False)
    events.iloc[half:].to_parquet(tmp_path / "b.parquet")
    own = project.config.journeys.sources[0]
    text = own.model_copy(update={"path": str(tmp_path / "a.csv")})
    query = own.model_copy(
        update={"path": None, "tables": {"b": str(tmp_path / "b.parquet")}, "query": "select * from b"}
    )
    mixed = Project(with_sources(project, [text, query]))
    assert on_spark(spark, mixed, CUTOFFS[1], partitions=3).equals(here)


def broken(events: pd.DataFrame) -> pd.DataFrame:
    broken = events.copy()
    broken["value"] = broken["value"].astype(object)
    broken.loc[broken.index[[5, 4_000]], "touchpoint"] = " "
    broken.loc[broken.index[[17]], "customer_id"] = -1
    broken["customer_id"] = broken["customer_id"].astype("Int64").where(broken["customer_id"] >= 0)
    broken["value"] = broken["value"].astype(float)
    broken.loc[broken.index[[99]], "value"] = np.inf
    return broken


@pytest.mark.parametrize("rows_of_a_piece", [1_000, 10**9])
def test_bad_rows_are_set_aside_alike(spark, shop, events, tmp_path, monkeypatch, rows_of_a_piece):
    project = shop(broken(events))
    file = Path(project.config.folder) / "events.parquet"
    pq.write_table(pq.read_table(file), file, row_group_size=1_000)
    here = on_one_machine(project, CUTOFFS[1])
    monkeypatch.setattr(sources, "PIECE_ROWS", rows_of_a_piece)
    there = on_spark(spark, project, CUTOFFS[1], quarantine=tmp_path / "bad.parquet")
    assert there.equals(here)
    columns = ["source", "row", "reason", "raw"]
    bad = pq.read_table(tmp_path / "bad.parquet").select(columns).to_pylist()
    assert len(bad) == 4
    assert bad == pq.read_table(Path(project.config.folder) / "quarantine.parquet").select(columns).to_pylist()


def refused(work) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        work()
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": ("  timezone: UTC", "  timezone: UTC\n  max_quarantined: 0.0001")},
        {"words": ("touchpoints: [cancelled]", "touchpoints: [canceled]")},
        {"measure": ("  timezone: UTC", "  timezone: UTC\n  measures: [weight]")},
        {"column": ("[events.parquet]", "[{path: events.parquet, columns: {value: amount}}]")},
    ],
)
def test_the_same_data_are_refused_in_the_same_words(spark, shop, events, changes, tmp_path):
    project = shop(broken(events), **changes)
    here = refused(lambda: on_one_machine(project, CUTOFFS[1]))
    there = refused(
        lambda: on_spark(spark, project, CUTOFFS[1], quarantine=Path(project.config.folder) / "quarantine.parquet")
    )
    head, _, _ = here.partition(" They lie in")
    assert there.startswith(head[:100])


def test_nobody_to_score_is_said_alike(spark, project):
    here = refused(lambda: on_one_machine(project, "2001-01-01"))
    assert refused(lambda: on_spark(spark, project, "2001-01-01")) == here


def test_a_table_of_other_customers_is_refused(spark, shop, events, simulation):
    project = shop(events, simulation.customers.assign(customer_id=simulation.customers["customer_id"] + 10**6))
    assert "no customer id of the customers table" in refused(lambda: on_spark(spark, project, CUTOFFS[1]))


def test_who_left_may_stand_in_a_table(spark, shop, events, tmp_path):
    gone = pd.DataFrame({"customer_id": range(100_000, 100_200, 3), "timestamp": pd.Timestamp("2024-02-01", tz="UTC")})
    gone.to_parquet(tmp_path / "gone.parquet")
    kept = events[events["touchpoint"] != "cancelled"]
    change = ("  kind: event\n  touchpoints: [cancelled]", f"  kind: table\n  source: {tmp_path / 'gone.parquet'}")
    project = shop(kept, churn=change)
    here = on_one_machine(project, CUTOFFS[0])
    assert len(here) < kept["customer_id"].nunique()
    assert on_spark(spark, project, CUTOFFS[0], partitions=3).equals(here)


def test_each_customer_may_be_scored_when_last_asked(spark, project):
    log, satisfaction = project.read(), project.config.satisfaction
    here = score_log(load_model(SHIPPED), log, satisfaction)
    assert len(set(here.column("cutoff").to_pylist())) > 50
    assert score_spark(spark, SHIPPED, project.config, satisfaction, partitions=8).table.equals(here)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_features_are_the_same(spark, project, tmp_path, ending):
    plan = load_model(SHIPPED).plan
    moments = [parse_instant(at) for at in CUTOFFS]
    write_features(project.read(), JourneyFeatures.from_plan(plan), moments, tmp_path / f"here{ending}")
    n_rows = features_spark(spark, plan, project.config, moments, tmp_path / f"there{ending}", partitions=3)
    assert n_rows > 300
    if ending == ".csv":
        assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    else:
        here, there = pq.read_table(tmp_path / "here.parquet"), pq.read_table(tmp_path / "there.parquet")
        assert there.schema.equals(here.schema, check_metadata=True)
        assert there.equals(here)


MINE = """
import cxml

@cxml.feature("hours_of_day", "Different hours of the day with an event.")
def hours_of_day(events, cutoff):
    return len(set(events.time // 3_600_000_000 % 24))
"""


def test_user_features_of_a_file_are_sent_to_the_workers_and_others_refused(spark, shop, events, tmp_path):
    mine = tmp_path / "my_features.py"
    mine.write_text(MINE)
    wanted = f"features: {{families: [rfm], modules: [{mine}], columns: [hours_of_day, max__session__90d]}}\nname: "
    project, moments = shop(events, name=("name: ", wanted)), [parse_instant(at) for at in CUTOFFS]
    log = project.read()
    features = JourneyFeatures.from_config(project.config).fit(log, until=CUTOFFS[0])
    assert {"hours_of_day", "lifecycle", "rfm_monetary_quintile"} <= set(features.plan_.custom)
    write_features(log, features, moments, tmp_path / "here.parquet")
    features_spark(spark, features.plan_, project.config, moments, tmp_path / "there.parquet", partitions=3)
    here = pq.read_table(tmp_path / "here.parquet")
    assert here.column("hours_of_day").to_numpy().max() > 3
    assert pq.read_table(tmp_path / "there.parquet").equals(here)
    bare = shop(events).config
    said = refused(lambda: features_spark(spark, features.plan_, bare, moments, tmp_path / "none.parquet"))
    assert "user features (hours_of_day)" in said and "features.modules" in said


def test_workers_write_a_folder_whole_or_not_at_all(spark, project, tmp_path):
    here, out = on_one_machine(project, CUTOFFS[1]), tmp_path / "scores"
    for _ in range(2):  # the second takes the place of the first
        scored = score_spark(spark, SHIPPED, project.config, parse_instant(CUTOFFS[1]), out, reasons=5)
        assert scored.table is None
        assert scored.summary.n == len(here)
        assert pq.read_table(out).equals(here)
    assert sorted({path.suffix for path in out.iterdir()}) == ["", ".parquet"]
    before = sorted(path.name for path in out.iterdir())
    assert "nobody to score" in refused(
        lambda: score_spark(spark, SHIPPED, project.config, parse_instant("2001-01-01"), out)
    )
    assert sorted(path.name for path in out.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    assert "would be lost" in refused(
        lambda: score_spark(spark, SHIPPED, project.config, parse_instant(CUTOFFS[1]), tmp_path / "home")
    )


def test_features_of_workers_are_texts_and_numbers_in_order(spark, project, tmp_path):
    plan = load_model(SHIPPED).plan
    moments = [parse_instant(at) for at in CUTOFFS]
    write_features(project.read(), JourneyFeatures.from_plan(plan), moments, tmp_path / "here.parquet")
    features_spark(spark, plan, project.config, moments, tmp_path / "there", partitions=3)
    here, there = pd.read_parquet(tmp_path / "here.parquet"), pd.read_parquet(tmp_path / "there")
    pd.testing.assert_frame_equal(there, here.astype(dict.fromkeys(plan.categorical, "str")), check_dtype=False)


def test_settings_of_the_session_are_put_back(spark, project):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        here = on_one_machine(project, CUTOFFS[1])
        assert on_spark(spark, project, CUTOFFS[1]).equals(here)
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    finally:
        spark.conf.unset("spark.sql.session.timeZone")


def test_without_java_the_mend_is_said(monkeypatch):
    import pyspark.sql

    monkeypatch.setattr(pyspark.sql.SparkSession, "getActiveSession", staticmethod(lambda: None))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(session.shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs Java 17.*JAVA_HOME"), open_spark():
        pass


def test_the_command_says_nothing_of_spark_and_writes_the_file_of_one_machine(shop, events, tmp_path):
    project = shop(events)
    file = Path(project.config.folder) / "project.yaml"

    def command(out: str, *more: str) -> subprocess.CompletedProcess:
        words = ["score", str(file), "--model", str(SHIPPED), "--cutoff", CUTOFFS[1], "--out", out, "--json", "-q"]
        call = [sys.executable, "-m", "cxml", *words, *more]
        return subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)

    here, there = command("here.parquet"), command("there.parquet", "--engine", "spark", "--master", "local[2]")
    assert (there.returncode, there.stderr) == (0, "")
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    told = json.loads(here.stdout) | {"out": "there.parquet"}
    assert json.loads(there.stdout).keys() == told.keys()
    assert json.loads(there.stdout)["customers"] == told["customers"]
    wrong = command("x.parquet", "--engine", "spark", "--shard", "1/2")
    assert (wrong.returncode, "--shard is for one machine" in wrong.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.parametrize(("name", "at"), [("online_retail", "2011-10-01"), ("bpic2012", "2012-01-09")])
def test_real_logs_are_scored_alike(spark, tmp_path, name, at):
    project = Project.from_file(CONFIGS / f"{name}.yaml")
    project.train(out=tmp_path / name, track=False)
    here = on_one_machine_quarantining(project, at, tmp_path)
    assert len(here) > 500
    for partitions in (1, 2, 8):
        assert on_spark(spark, project, at, tmp_path / name, 3, partitions=partitions).equals(here)


def on_one_machine_quarantining(project: Project, at: str, folder: Path) -> pa.Table:
    log = project.read(quarantine=folder / "quarantine.parquet")
    model = load_model(folder / project.config.name)
    return score_log(model, log, parse_instant(at), churn=project.config.churn, leavers=project.leavers())
