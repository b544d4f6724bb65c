"""The nightly batch as cron and a scheduler use it: killed, on a full disk, in shards, against an earlier run."""

import json
import multiprocessing
import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cxml.errors import ConfigError, DataError
from cxml.files import sha256_file
from cxml.progress import Silent
from cxml.project import Project
from cxml.scoring.changes import apply_changes
from cxml.scoring.night import Destination, merge_shards

AT = "2024-06-01"
LATER = "2024-07-01"


class Told(Silent):
    """Remembers what was said."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, what):
        self.lines.append(what)


@pytest.fixture(scope="module")
def small(shop, tmp_path_factory) -> Path:
    """The project file of the shop, with so little memory that its events lie on disk, in many parts."""
    config = yaml.safe_load((shop / "project.yaml").read_text())
    config["journeys"] |= {"sources": [f"{shop}/events.parquet"], "memory_limit": "60kB"}
    config["customers"]["source"] = f"{shop}/customers.parquet"
    file = tmp_path_factory.mktemp("small") / "project.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(scope="module")
def reference(small, model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "scores.parquet"
    Project.from_file(small).score(model, cutoff=AT, out=out)
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- parts


def test_a_log_in_parts_gives_the_file_of_a_log_in_memory(shop, small, model, reference, tmp_path):
    for threads in (1, 3):
        Project.from_file(shop / "project.yaml").score(
            model, cutoff=AT, out=tmp_path / "whole.parquet", threads=threads
        )
        assert (tmp_path / "whole.parquet").read_bytes() == reference.read_bytes()
    assert names(tmp_path) == ["whole.parquet"]
    table = Project.from_file(small).score(model, cutoff=AT).table
    assert table.equals(pq.read_table(reference))
    ids = table.column("customer_id").to_pylist()
    assert ids == sorted(set(ids))
    assert len(ids) > 400


def test_memory_limit_of_the_command_line_wins(shop, model, reference, tmp_path):
    project = Project.from_file(shop / "project.yaml")
    project.score(model, cutoff=AT, out=tmp_path / "s.parquet", memory_limit="60kB")
    assert project.read().events.on_disk
    assert (tmp_path / "s.parquet").read_bytes() == reference.read_bytes()
    with pytest.raises(ConfigError, match=r"--memory-limit: 'much' is no amount of memory"):
        Project.from_file(shop / "project.yaml").score(model, memory_limit="much")


def interrupted(small: Path, model: Path, out: Path, monkeypatch, after: int, **options) -> Path:
    """Break a job off after some parts; return the folder of those that are finished."""
    from cxml.scoring.parts import PartFolder

    write, n = PartFolder.write, []

    def breaks(*args, **more):
        if len(n) == after:
            raise KeyboardInterrupt
        n.append(1)
        return write(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(PartFolder, "write", breaks)
        with pytest.raises(KeyboardInterrupt):
            Project.from_file(small).score(model, cutoff=AT, out=out, threads=1, **options)
    (folder,) = out.parent.glob(f"{out.name}.*.parts")
    return folder


def test_parts_are_taken_only_where_question_and_events_are_the_same(
    shop, small, model, reference, tmp_path, monkeypatch
):
    out = tmp_path / "scores.parquet"
    first = interrupted(small, model, out, monkeypatch, 10)
    assert len(list(first.glob("*.parquet"))) == 10

    told = Told()  # another question: nothing is taken, and when it is done the parts of the dead one are gone
    Project.from_file(small).score(model, cutoff=LATER, out=out, progress=told)
    assert told.lines == []
    assert names(tmp_path) == ["scores.parquet"]

    interrupted(small, model, out, monkeypatch, 10)
    told = Told()
    Project.from_file(small).score(model, cutoff=AT, out=out, progress=told, fresh=True)
    assert told.lines == []
    assert out.read_bytes() == reference.read_bytes()

    interrupted(small, model, out, monkeypatch, 10)
    told = Told()
    Project.from_file(small).score(model, cutoff=AT, out=out, progress=told)
    assert "10 of 64 parts were finished by an earlier run" in told.lines[0]
    assert out.read_bytes() == reference.read_bytes()

    interrupted(small, model, out, monkeypatch, 10)  # an amount was corrected since; counts and stamps are the same
    config = yaml.safe_load(small.read_text())
    events = pd.read_parquet(shop / "events.parquet")
    one = events["customer_id"] == events["customer_id"].iloc[0]
    events.loc[one, "value"] = events.loc[one, "value"] + 1000.0
    events.to_parquet(tmp_path / "events.parquet")
    config["journeys"]["sources"] = [str(tmp_path / "events.parquet")]
    (tmp_path / "corrected.yaml").write_text(yaml.safe_dump(config))
    told = Told()
    Project.from_file(tmp_path / "corrected.yaml").score(model, cutoff=AT, out=out, progress=told)
    Project.from_file(tmp_path / "corrected.yaml").score(model, cutoff=AT, out=tmp_path / "anew.parquet")
    assert int(told.lines[0].split()[0]) in (9, 10)
    assert out.read_bytes() == (tmp_path / "anew.parquet").read_bytes()


def test_half_a_part_is_made_again(small, model, reference, tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    folder = interrupted(small, model, out, monkeypatch, 3)
    part = min(folder.glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    told = Told()
    Project.from_file(small).score(model, cutoff=AT, out=out, progress=told)
    assert told.lines[0].startswith("2 of 64")
    assert out.read_bytes() == reference.read_bytes()


def test_two_jobs_of_one_target_do_not_mix(small, model, tmp_path, monkeypatch):
    from cxml.scoring.parts import part_folder

    out = tmp_path / "scores.parquet"
    folder = interrupted(small, model, out, monkeypatch, 3)
    key = folder.name.removeprefix("scores.parquet.").removesuffix(".parts")
    with part_folder(out, key):
        with pytest.raises(ConfigError, match="another job is scoring into"):
            Project.from_file(small).score(model, cutoff=AT, out=out)
        assert not out.exists()


# ---------------------------------------------------------------- kill -9


def _score(project: str, model: str, out: str) -> None:
    Project.from_file(project).score(model, cutoff=AT, out=out, threads=2)


def _killed_and_resumed(moments, small, model, reference, folder):
    """Kill a job at each moment, as a share of the time it takes from its first part on; resume it; count takeovers."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["cxml.project", "cxml.scoring.night", "duckdb"])
    out = folder / "scores.parquet"

    def start():
        job = processes.Process(target=_score, args=(str(small), str(model), str(out)))
        job.start()
        deadline = time.monotonic() + 60
        while not list(folder.glob("*.parts/*.parquet")) and job.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return job, time.monotonic()

    job, began = start()
    job.join(60)
    duration, taken, unfinished = time.monotonic() - began, 0, 0
    assert job.exitcode == 0
    for moment in moments:
        out.write_bytes(b"the scores of yesterday")
        job, _ = start()
        time.sleep(moment * duration)
        job.kill()
        job.join(60)
        assert out.read_bytes() in (b"the scores of yesterday", reference.read_bytes())
        unfinished += out.read_bytes() != reference.read_bytes()
        told = Told()
        Project.from_file(small).score(model, cutoff=AT, out=out, threads=2, progress=told)
        taken += bool(told.lines)
        assert out.read_bytes() == reference.read_bytes()
        assert names(folder) == ["scores.parquet"]
    return taken, unfinished


def test_a_job_that_is_killed_loses_doubles_and_halves_no_row(small, model, reference, tmp_path):
    taken, unfinished = _killed_and_resumed([0.02, 0.4, 0.8], small, model, reference, tmp_path)
    assert taken >= 1
    assert unfinished >= 1


@pytest.mark.slow
def test_a_job_that_is_killed_at_twenty_moments_loses_doubles_and_halves_no_row(small, model, reference, tmp_path):
    moments = np.random.default_rng(0).uniform(0, 1.05, 20).tolist()
    taken, unfinished = _killed_and_resumed(moments, small, model, reference, tmp_path)
    assert taken >= 10
    assert unfinished >= 10


# ---------------------------------------------------------------- places that cannot be written to


def _on_a_full_disk(project: str, model: str, out: str, said: str) -> None:
    job = Project.from_file(project)
    job.read()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        job.score(model, cutoff=AT, out=out)
        Path(said).write_text("no error")
    except ConfigError as error:
        Path(said).write_text(str(error))


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_a_full_disk_is_told_and_the_old_file_stays(shop, model, tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    processes = multiprocessing.get_context("forkserver")
    words = (str(shop / "project.yaml"), str(model), str(tmp_path / name), str(tmp_path / "said"))
    job = processes.Process(target=_on_a_full_disk, args=words)
    job.start()
    job.join(60)
    assert job.exitcode == 0
    said = (tmp_path / "said").read_text()
    assert "cannot write" in said
    assert "File too large" in said
    assert (tmp_path / name).read_bytes() == b"old"
    assert names(tmp_path) == ["said", name] if name > "said" else [name, "said"]


def test_a_read_only_place_is_told(shop, model, tmp_path):
    place = Path("/sys") if os.geteuid() == 0 else tmp_path / "read-only"
    if os.geteuid():
        place.mkdir(0o500)
    with pytest.raises(ConfigError, match=r"cannot write .*Name another place with --out"):
        Project.from_file(shop / "project.yaml").score(model, cutoff=AT, out=place / "scores.parquet")


# ---------------------------------------------------------------- shards


@pytest.mark.parametrize("n", [1, 2, 5])
def test_shards_make_the_whole(shop, small, model, reference, tmp_path, n):
    seen = 0
    for i in range(1, n + 1):  # on machines with more or less memory
        file = small if i % 2 else shop / "project.yaml"
        out = tmp_path / f"{i}.parquet"
        seen += Project.from_file(file).score(model, cutoff=AT, out=out, shard=f"{i}/{n}").summary.n
    shards = sorted(tmp_path.glob("*.parquet"), reverse=True)
    summary = merge_shards(Destination.of(tmp_path / "all.parquet"), shards)
    assert (tmp_path / "all.parquet").read_bytes() == reference.read_bytes()
    assert summary.n == seen == len(pq.read_table(reference))
    one = pq.read_table(shards[0]).column("customer_id").to_pylist()
    assert one == sorted(one)
    in_memory = Project.from_file(shop / "project.yaml").score(model, cutoff=AT, shard=f"{n}/{n}").table
    assert in_memory.equals(pq.read_table(shards[0]))


def test_shards_that_do_not_make_a_whole_are_refused(shop, model, tmp_path):
    project = Project.from_file(shop / "project.yaml")

    def shard(name: str, which: str, cutoff: str = AT) -> Path:
        project.score(model, cutoff=cutoff, out=tmp_path / name, shard=which, reasons=0)
        return tmp_path / name

    first, second, third = shard("1.parquet", "1/2"), shard("2.parquet", "2/2"), shard("3.parquet", "3/3")
    other = shard("o.parquet", "2/2", LATER)
    project.score(model, cutoff=AT, out=tmp_path / "whole.parquet", reasons=0)
    whole, out = tmp_path / "whole.parquet", Destination.of(tmp_path / "all.parquet")
    for shards, error, says in [
        ([first], ConfigError, "1 of 2 shards are there; missing: 2/2"),
        ([first, second, first], ConfigError, "both shard 1/2"),
        ([first, other], DataError, "not of one run"),
        ([first, third], ConfigError, "cut in different ways: 1/2, 3/3"),
        ([first, whole], ConfigError, "is no shard"),
        ([first, tmp_path / "none.parquet"], ConfigError, "no file"),
        ([first, shop / "project.yaml"], DataError, "is no Parquet file"),
    ]:
        with pytest.raises(error, match=says):
            merge_shards(out, shards)
    assert not (tmp_path / "all.parquet").exists()
    for wrong in ("0/2", "3/2", "1/65", "2", "a/b"):
        with pytest.raises(ConfigError, match="--shard"):
            project.score(model, cutoff=AT, out=tmp_path / "s.parquet", shard=wrong)
    with pytest.raises(ConfigError, match="a shard is a Parquet file"):
        project.score(model, cutoff=AT, out=tmp_path / "s.csv", shard="1/2")


def test_a_shard_of_nobody_is_a_file_without_rows(model, tmp_path, shop):
    events = pd.read_parquet(shop / "events.parquet")
    few = events[events["customer_id"].isin(events["customer_id"].unique()[:2])]
    few.to_parquet(tmp_path / "events.parquet")
    config = yaml.safe_load((shop / "project.yaml").read_text())
    config["customers"]["source"] = f"{shop}/customers.parquet"
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(config))
    project = Project.from_file(tmp_path / "project.yaml")
    cutoff = few["timestamp"].min() + pd.Timedelta(days=1)
    n = [project.score(model, cutoff=cutoff, out=tmp_path / f"{i}.parquet", shard=f"{i}/20") for i in range(1, 21)]
    assert 0 in [result.summary.n for result in n]
    assert n[0].to_dict()["customers"] == n[0].summary.n
    assert all("customers scored" in result.lines()[0] for result in n)
    project.score(model, cutoff=cutoff, out=tmp_path / "whole.parquet")
    merge_shards(Destination.of(tmp_path / "all.parquet"), [tmp_path / f"{i}.parquet" for i in range(1, 21)])
    assert (tmp_path / "all.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


# ---------------------------------------------------------------- changes


def test_an_earlier_run_with_its_changes_is_the_full_run(small, model, reference, tmp_path):
    project = Project.from_file(small)
    full = project.score(model, cutoff=LATER, out=tmp_path / "full.parquet").table
    result = project.score(model, cutoff=LATER, out=tmp_path / "changes.parquet", since=reference)
    changes, run = pq.read_table(tmp_path / "changes.parquet"), pq.read_table(reference)
    assert apply_changes(run, changes, since=sha256_file(reference)).equals(full)
    counts = result.to_dict()["change"]
    assert sum(counts.values()) == len(changes)
    assert all(counts[what] for what in ("changed", "new", "gone"))
    old, now = (set(table.column("customer_id").to_pylist()) for table in (run, full))
    frame = changes.to_pandas()
    assert set(frame.loc[frame["change"] == "gone", "customer_id"]) == old - now
    assert set(frame.loc[frame["change"] == "new", "customer_id"]) == now - old
    assert frame.loc[frame["change"] == "gone", "churn_30d"].isna().all()
    with pytest.raises(DataError, match="not the changes of this run"):
        apply_changes(run, changes, since=sha256_file(tmp_path / "full.parquet"))


def test_what_is_as_it_was_is_not_written(small, model, reference, tmp_path):
    project = Project.from_file(small)
    result = project.score(model, cutoff=AT, out=tmp_path / "none.parquet", since=reference)
    assert result.to_dict()["change"] == {"changed": 0, "new": 0, "gone": 0}
    assert "are as they were" in "\n".join(result.lines())
    assert len(result.table) == 0
    old = pq.read_table(reference)
    column = old.column("churn_30d").to_numpy().copy()
    column[7] = np.nextafter(column[7], 1)
    place = old.schema.get_field_index("churn_30d")
    touched = old.set_column(place, "churn_30d", pa.array(column)).slice(1)
    pq.write_table(touched, tmp_path / "touched.parquet")
    project.score(model, cutoff=AT, out=tmp_path / "two.parquet", since=tmp_path / "touched.parquet")
    two = pq.read_table(tmp_path / "two.parquet")
    assert two.column("change").to_pylist() == ["new", "changed"]
    assert two.column("customer_id").to_pylist() == [old.column("customer_id")[i].as_py() for i in (0, 7)]
    assert apply_changes(touched, two).equals(old)


def test_a_run_that_cannot_be_compared_is_refused(shop, model, reference, tmp_path):
    project = Project.from_file(shop / "project.yaml")
    out = tmp_path / "s.parquet"
    with pytest.raises(ConfigError, match=r"other columns.*reason_3"):
        project.score(model, cutoff=AT, out=out, since=reference, reasons=2)
    with pytest.raises(ConfigError, match="no file"):
        project.score(model, cutoff=AT, out=out, since=tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match="needs all customers"):
        project.score(model, cutoff=AT, out=out, since=reference, shard="1/2")
    with pytest.raises(ConfigError, match="say where with 'out'"):
        project.score(model, cutoff=AT, since=reference)
    assert not out.exists()


# ---------------------------------------------------------------- outputs


def test_text_ids_score_as_their_numbers_and_cannot_run_as_formulas(shop, model, reference, tmp_path):
    events = pd.read_parquet(shop / "events.parquet")
    customers = pd.read_parquet(shop / "customers.parquet")
    for frame, name in ((events, "events"), (customers, "customers")):
        frame["customer_id"] = "=cmd|" + frame["customer_id"].astype(str).str.zfill(9)
        frame.to_parquet(tmp_path / f"{name}.parquet")
    shutil.copy(shop / "project.yaml", tmp_path)
    project = Project.from_file(tmp_path / "project.yaml")
    table = project.score(model, cutoff=AT, out=tmp_path / "scores.parquet").table
    numbers = pq.read_table(reference)
    assert table.drop_columns(["customer_id"]).equals(numbers.drop_columns(["customer_id"]))
    result = project.score(model, cutoff=AT, out=tmp_path / "scores.csv")
    cells = pd.read_csv(tmp_path / "scores.csv")
    assert cells["customer_id"].str.startswith("'=cmd|").all()
    assert cells["customer_id"].str.removeprefix("'").tolist() == table.column("customer_id").to_pylist()
    assert cells["churn_30d"].to_numpy() == pytest.approx(table.column("churn_30d").to_numpy(), rel=1e-12)
    with pytest.raises(ConfigError, match="write Parquet"):
        _ = result.table
    for i in (1, 2):
        project.score(model, cutoff=AT, out=tmp_path / f"{i}.parquet", shard=f"{i}/2")
    merge_shards(Destination.of(tmp_path / "all.csv"), [tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()


def test_bad_rows_are_counted_and_too_many_stop_the_job(shop, model, tmp_path):
    events = pd.read_parquet(shop / "events.parquet")
    events["touchpoint"] = events["touchpoint"].astype(object).where(np.arange(len(events)) % 10 > 0)
    events.to_parquet(tmp_path / "events.parquet")
    shutil.copy(shop / "customers.parquet", tmp_path)
    config = yaml.safe_load((shop / "project.yaml").read_text())
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(config))
    project = Project.from_file(tmp_path / "project.yaml")
    project.read(quarantine=tmp_path / "quarantine.parquet")
    result = project.score(model, cutoff=AT, out=tmp_path / "s.parquet")
    assert result.to_dict()["rows_quarantined"] == -(-len(events) // 10)
    assert result.to_dict()["share_quarantined"] == pytest.approx(0.1, abs=0.001)
    assert "rows quarantined (10.00%)" in "\n".join(result.lines())
    config["journeys"]["max_quarantined"] = 0.05
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump(config))
    strict = Project.from_file(tmp_path / "strict.yaml")
    with pytest.raises(DataError, match=r"more than journeys.max_quarantined"):
        strict.read(quarantine=tmp_path / "quarantine.parquet")


# ---------------------------------------------------------------- the commands


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path):
    from cxml.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["cxml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_the_commands_of_a_sharded_night(cxml, shop, model, reference, tmp_path):
    common = ("--model", model, "--cutoff", AT, "-q")
    for i in (1, 2):
        code, said, err = cxml("score", shop / "project.yaml", *common, "--shard", f"{i}/2", "--out", f"{i}.parquet")
        assert code == 0, err
    code, said, err = cxml("merge", "all.parquet", "1.parquet", "2.parquet", "--json")
    assert code == 0, err
    assert json.loads(said)["shards"] == 2
    assert Path("all.parquet").read_bytes() == reference.read_bytes()
    code, said, err = cxml("merge", "all.csv", "1.parquet", "-q")
    assert (code, "missing: 2/2" in err) == (2, True)
    words = ("score", shop / "project.yaml", *common, "--out", "c.parquet")
    code, said, err = cxml(*words, "--only-changed", "--since", "all.parquet")
    assert code == 0, err
    assert "0 changed, 0 new, 0 gone" in said
    code, said, err = cxml(*words, "--only-changed")
    assert (code, "--since RUN go together" in err) == (2, True)
    code, said, err = cxml(*words, "--table", "crm.scores")
    assert (code, "--table is for a database" in err) == (2, True)
    code, said, err = cxml(*words[:-1], "postgresql://ann:geheim@127.0.0.1:1/crm")
    assert (code, "--table is missing" in err, "geheim" in err + said) == (2, True, False)
