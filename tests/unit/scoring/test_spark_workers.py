"""What Spark's workers do, without Spark: chunks made by one are answered by another."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import cxml
from cxml.config import parse_config
from cxml.errors import ConfigError
from cxml.features import custom, modules
from cxml.models.store import load_model
from cxml.project import Project
from cxml.scoring.batch import score_log
from cxml.scoring.spark import answer, features_spark, findings, job, read, session
from cxml.scoring.spark.run import _Run
from cxml.snapshots.splits import Split, Splits
from cxml.times import parse_instant
from cxml.training import spark as training

SHIPPED = Path(__file__).parents[3] / "models" / "telecom_demo"
CUTOFF = parse_instant("2024-06-01")
CONFIG = """
name: telecom_demo
journeys: {{sources: [{file}], timezone: UTC, activity: [login, order]}}
churn: {{kind: event, touchpoints: [cancelled], horizons: [30d, 60d, 90d]}}
satisfaction: {{kind: nps, touchpoint: survey_answer}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 3_000
    events = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 60, n),
            "timestamp": pd.Timestamp("2023-06-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 400, n), unit="D"),
            "touchpoint": rng.choice(["login", "order", "call", "survey_answer"], n),
            "score": rng.integers(0, 11, n).astype(float),
        }
    )
    events.loc[0, "touchpoint"] = "cancelled"
    events.loc[1, "touchpoint"] = ""
    file = tmp_path_factory.mktemp("events") / "events.parquet"
    events.to_parquet(file)
    return Project(parse_config(CONFIG.format(file=file)))


def job_of(project: Project, n_parts: int, task: job.Task | None = None) -> job.Job:
    files = tuple((file.name, file.read_bytes()) for file in SHIPPED.iterdir())
    task = task or job.ScoreTask(files, CUTOFF, project.config.churn, 3)
    spark = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=2))
    return _Run(spark, project.config, task, None, None, n_parts, None, None)._job()[0]


def run(work: job.Job, rows_a_batch: int) -> dict[str, list[bytes]]:
    """Do what Spark does between the stages, in one process."""
    numbers = pa.RecordBatch.from_pydict({"id": list(range(len(work.pieces)))})
    sent = pa.Table.from_batches(list(read.read_pieces(work, [numbers])))
    together = sent.sort_by("part")
    found: dict[str, list[bytes]] = {}
    for batch in answer.answer_parts(work, together.to_batches(rows_a_batch)):
        for kind, payload in zip(batch["kind"].to_pylist(), batch["payload"].to_pylist(), strict=True):
            found.setdefault(kind, []).append(payload)
    return found


@pytest.mark.parametrize(("n_parts", "rows_a_batch"), [(1, 100), (7, 1), (300, 2)])
def test_chunks_of_one_worker_are_answered_by_another(project, n_parts, rows_a_batch):
    log = project.read(quarantine=Path(project.config.journeys.sources[0].path).with_name("bad.parquet"))
    here = score_log(load_model(SHIPPED), log, CUTOFF, churn=project.config.churn)
    found = run(job_of(project, n_parts), rows_a_batch)
    tables = [job.arrow_table(payload) for payload in found[job.ROWS]]
    assert pa.concat_tables(tables).combine_chunks().sort_by("customer_id").equals(here)
    assert len(tables) == min(n_parts, len(tables))
    facts = findings.plain(found[job.FACTS])
    assert findings.summary_of(facts).n == len(here)
    assert [one["quarantined"] for one in findings.plain(found[job.READ])] == [{"touchpoint missing": 1}]


def test_a_job_is_unpacked_without_compiled_code(project):
    """A worker must say where Numba keeps what it compiles before anything loads Numba."""
    features = job.FeatureTask(json.dumps(load_model(SHIPPED).plan.to_dict()), (CUTOFF,))
    studies = training.StudyTask(features.plan, project.config, Splits(Split(1, 2, 3), np.arange(3)), ["login"])
    for task in (None, features, studies):
        packed = pickle.dumps(job_of(project, 2, task))
        code = "import json, pickle, sys; pickle.load(sys.stdin.buffer); print(json.dumps(list(sys.modules)))"
        said = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=True)
        assert "cxml.scoring.spark.job" in (loaded := json.loads(said.stdout))
        assert {"numba", "pandas", "pyarrow", "lightgbm", "sklearn", "pyspark"} & set(loaded) == set()


def test_a_refusal_comes_back_as_it_was(project):
    work = job_of(project, 2)
    config = work.journeys.model_copy(update={"where": "nobody = 1"})
    work = job.Job(**{**vars(work), "journeys": config})
    found = run(work, 10)
    with pytest.raises(ConfigError, match="nobody"):
        findings.raise_first(found[job.ERROR])


def test_a_worker_of_another_version_is_refused(project):
    work = job.Job(**{**vars(job_of(project, 2)), "version": "0.0.0"})
    with pytest.raises(ConfigError, match="the driver 0"):
        findings.raise_first(run(work, 10)[job.ERROR])


def test_a_customer_belongs_to_one_part_however_the_id_is_written():
    ids = np.array([0, 1, -5, 17, 2**62, -(2**63)])
    texts = np.array([str(one) for one in ids.tolist()], object)
    coded = pa.array(texts.tolist()).dictionary_encode()
    assert read.parts_of(ids, 1000).tolist() == read.parts_of(texts, 1000).tolist()
    assert read.parts_of(coded, 1000).tolist() == read.parts_of(texts, 1000).tolist()
    others = np.array(["017", "-0", "1e3", "x", "１", str(2**63)], object)
    assert len(set(read.parts_of(others, 10**6).tolist())) == len(others)


def test_parts_are_of_about_equal_size():
    for ids in (np.arange(10_000), np.arange(10_000) * 64, np.array([f"c{i}" for i in range(10_000)], object)):
        counts = np.bincount(read.parts_of(ids, 16), minlength=16)
        assert counts.min() > 500
        assert counts.max() < 750


def test_features_of_this_process_alone_are_refused(project, monkeypatch):
    monkeypatch.setattr(custom, "_REGISTERED", {})
    plan = SimpleNamespace(custom=("mine", "lifecycle"), columns=["mine", "lifecycle"])
    with pytest.raises(ConfigError, match="'mine' is a function that this process does not know"):
        features_spark(None, plan, project.config, [CUTOFF], "out.parquet")
    custom.register_feature("mine", lambda events, _: len(events), "Mine.")
    with pytest.raises(ConfigError, match=r"user features \(mine\) .*features\.modules"):
        features_spark(None, plan, project.config, [CUTOFF], "out.parquet")


def test_a_worker_runs_the_files_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(custom, "_REGISTERED", {})
    monkeypatch.setattr(modules, "_RUN", {})
    code = "from cxml import feature\nfeature('sent_along', 'Sent.')(lambda events, cutoff: 0)\n"
    work = SimpleNamespace(version=cxml.__version__, modules=((str(tmp_path / "gone.py"), code),))
    job.prepare(work)
    assert custom.registered("sent_along").sentence == "Sent."
    work.modules = ((str(tmp_path / "bad.py"), "1 / 0"),)
    with pytest.raises(ConfigError, match=r"bad\.py, line 1: ZeroDivisionError"):
        job.prepare(work)


def test_spark_needs_a_cutoff(project):
    with pytest.raises(ConfigError, match="--cutoff"):
        project.score_on_spark(SHIPPED)


def test_the_session_needs_its_extra(monkeypatch):
    def missing(package, extra):
        raise ConfigError(f"install 'cxml[{extra}]' for {package}")

    monkeypatch.setattr(session, "require", missing)
    with pytest.raises(ConfigError, match=r"cxml\[spark\]"), session.open_spark():
        pass
