"""A log larger than the memory it may take gives the same features and scores, and its export goes on where it was."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from cxml import JourneyFeatures, Project, read_journeys
from cxml.demo import write_simulation
from cxml.features import export
from cxml.features.catalogue import FAMILIES
from cxml.simulate import simulate

CUTOFFS = ["2023-10-01", "2023-12-01"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_simulation(simulate(600, random_state=1, n_replays=2), folder)
    config = yaml.safe_load((folder / "project.yaml").read_text())
    config["features"] = {"families": list(FAMILIES)}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    config["journeys"]["memory_limit"] = "60kB"
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return folder


def opened(shop: Path, name: str) -> Project:
    return Project.from_file(shop / f"{name}.yaml")


def test_features_and_scores_are_the_same(shop: Path, tmp_path: Path) -> None:
    usual, small = opened(shop, "project"), opened(shop, "small")
    assert not usual.read().events.on_disk
    assert small.read().events.on_disk
    pd.testing.assert_frame_equal(small.features(CUTOFFS), usual.features(CUTOFFS))
    for suffix in ("parquet", "csv"):
        names = [
            project.write_features(CUTOFFS, tmp_path / f"{i}.{suffix}") for i, project in enumerate((usual, small))
        ]
        assert names[0] == names[1]
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    one, other = (pd.read_parquet(tmp_path / f"{i}.parquet") for i in (0, 1))
    assert {"mean__likeness__90d", "peer_churn__plan", "peer_score__plan"} <= set(other)
    pd.testing.assert_frame_equal(one, other)
    assert isinstance(other["last__plan"].dtype, pd.CategoricalDtype)
    assert pq.read_schema(tmp_path / "0.parquet").equals(pq.read_schema(tmp_path / "1.parquet"), check_metadata=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.csv", "0.parquet", "1.csv", "1.parquet"]
    usual.train(out=tmp_path / "model", track=False)
    assert small.read().events.on_disk, "training is what asks for all events at once"
    scores = [project.score(tmp_path / "model", cutoff="2023-12-01").table for project in (usual, small)]
    assert scores[0].equals(scores[1])
    small.train(out=tmp_path / "other", track=False)
    assert (tmp_path / "other" / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()


def test_an_export_that_was_killed_goes_on_with_the_part_it_was_at(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(shop, "small").read()
    features = JourneyFeatures(windows=["30d"]).fit(log)
    cutoffs = [log.last]
    n_rows = export.write_features(log, features, cutoffs, tmp_path / "whole.parquet")
    made: list[int] = []
    frame_of = export._frame_of

    def counted(*args: object) -> pd.DataFrame:
        if len(made) == 10:
            raise KeyboardInterrupt
        made.append(1)
        return frame_of(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "_frame_of", counted)
    out = tmp_path / "again.parquet"
    with pytest.raises(KeyboardInterrupt):
        export.write_features(log, features, cutoffs, out)
    assert not out.exists()
    parts = next(tmp_path.glob("again.parquet.*.parts"))
    assert len(list(parts.iterdir())) == 10
    made.clear()
    monkeypatch.setattr(export, "_frame_of", lambda *args: made.append(1) or frame_of(*args))
    assert export.write_features(log, features, cutoffs, out) == n_rows
    assert len(made) == sum(1 for _ in log.blocks()) - 10
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole.parquet"))
    assert not parts.exists()


def test_parts_of_another_question_are_not_taken_for_ours(shop: Path, tmp_path: Path) -> None:
    log = opened(shop, "small").read()
    short, long = (JourneyFeatures(windows=[w]).fit(log) for w in ("7d", "30d"))
    key = export._key(log, short, [log.last], 9)
    assert key != export._key(log, long, [log.last], 9)
    assert key != export._key(log, short, [log.last - 1], 9)
    assert key != export._key(log, short, [log.last], 8)
    assert key != export._key(opened(shop, "project").read(), short, [log.last], 9)  # one block, not many
    assert key == export._key(opened(shop, "small").read(), short, [log.last], 9)
    assert log.customers is not None
    assert key != export._key(replace(log, customers=None), short, [log.last], 9)


@pytest.mark.parametrize("name", ["project", "small"])
def test_many_cutoffs_of_a_log_that_is_in_memory_are_written_part_by_part_too(
    name: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(shop, name).read()
    features = JourneyFeatures(windows=["30d"]).fit(log)
    cutoffs = [log.last - day * 86_400_000_000 for day in range(60, 0, -5)]
    expected = export.write_features(log, features, cutoffs, tmp_path / "whole.parquet")
    sizes: list[int] = []
    frame_of = export._frame_of
    monkeypatch.setattr(export, "_frame_of", lambda *args: sizes.append(len(frame_of(*args))) or frame_of(*args))
    monkeypatch.setattr(export, "_HELD_BYTES", 40 * len(cutoffs) * len(features.plan_.columns) * 4)  # 40 customers
    assert export.write_features(log, features, cutoffs, tmp_path / "f.parquet") == expected
    assert max(sizes) <= 40 * len(cutoffs) < sum(sizes) == expected
    assert pq.read_table(tmp_path / "f.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))


def test_touchpoints_that_differ_by_upper_case_alone_keep_their_columns(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=400, freq="h", tz="UTC")
    names = ["call", "Call", "CALL", "ünï"] * 100
    rows = pd.DataFrame({"customer_id": range(400), "timestamp": days, "touchpoint": names})
    written = []
    for limit in (None, 3_000):
        log = read_journeys(rows, memory_limit=limit)
        assert log.events.on_disk == (limit is not None)
        features = JourneyFeatures(windows=["365d"]).fit(log)
        for ending in ("csv", "parquet"):
            written.append(tmp_path / f"{limit}.{ending}")
            assert export.write_features(log, features, [log.last + 1], written[-1]) == 400
    assert written[0].read_bytes() == written[2].read_bytes()
    one, other = (pq.read_table(file) for file in written[1::2])
    assert one.equals(other)
    assert pd.read_csv(written[2])["count__touchpoint=CALL__365d"].sum() == 100


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_cutoff_before_the_first_event_gives_a_table_without_rows(ending: str, tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=400, freq="h", tz="UTC")
    rows = pd.DataFrame({"customer_id": range(400), "timestamp": days, "touchpoint": "call"})
    for limit in (None, 3_000):
        log = read_journeys(rows, memory_limit=limit)
        features = JourneyFeatures(windows=["365d"]).fit(log)
        assert export.write_features(log, features, [log.first], tmp_path / f"{limit}.{ending}") == 0
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    one, other = (read(tmp_path / f"{limit}.{ending}") for limit in (None, 3_000))
    assert list(one.columns) == list(other.columns) == ["customer_id", "cutoff", *features.plan_.columns]
    assert len(one) == len(other) == 0
