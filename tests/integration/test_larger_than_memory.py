"""A log larger than the memory it may take gives the same features and scores, and its export goes on where it was."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from cxml import JourneyFeatures, Project
from cxml.demo import write_simulation
from cxml.features import export
from cxml.features.catalogue import FAMILIES, FROM_OUTCOMES
from cxml.simulate import simulate

CUTOFFS = ["2023-10-01", "2023-12-01"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_simulation(simulate(600, random_state=1, n_replays=2), folder)
    config = yaml.safe_load((folder / "project.yaml").read_text())
    config["features"] = {"families": [name for name in FAMILIES if name not in FROM_OUTCOMES]}
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
    one, other = (pd.read_parquet(tmp_path / f"{i}.parquet") for i in (0, 1))
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
    assert export._key(log, short, [log.last]) != export._key(log, long, [log.last])
    assert export._key(log, short, [log.last]) != export._key(log, short, [log.last - 1])
    assert export._key(log, short, [log.last]) == export._key(opened(shop, "small").read(), short, [log.last])
