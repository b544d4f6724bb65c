"""The models that come with the source: whole, checked, small, and made again to the same bytes."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import cxml
from cxml.cli import main
from cxml.models.store import load_model
from cxml.scoring.answer import churn_probability, score_distribution

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted(folder.parent for folder in (REPOSITORY / "models").glob("*/model.json"))
JOURNEY = [
    {"customer_id": 7, "timestamp": "2024-08-01T09:00:00Z", "touchpoint": "order", "channel": "app", "value": 20.0},
    {"customer_id": 7, "timestamp": "2024-09-05T17:30:00Z", "touchpoint": "delivered_late"},
    {"customer_id": 7, "timestamp": "2024-09-06T10:12:00Z", "touchpoint": "call", "channel": "phone"},
]


@pytest.fixture(params=SHIPPED, ids=lambda folder: folder.name)
def shipped(request) -> Path:
    return request.param


def test_the_model_of_the_demo_is_shipped():
    assert "telecom_demo" in {folder.name for folder in SHIPPED}


def test_it_scores_a_journey(shipped):
    answer = cxml.load(shipped).score(JOURNEY, at="2024-09-07")
    assert 0 < answer["churn_30d"] <= answer["churn_60d"] <= answer["churn_90d"] < 1
    assert 0 < answer["expected_score"] < 10
    assert answer["reason_1"]


def test_it_is_small_text_with_a_card_that_names_its_version(shipped):
    assert sum(file.stat().st_size for file in shipped.iterdir()) < 400_000
    assert {file.suffix for file in shipped.iterdir()} == {".json", ".txt", ".md"}
    manifest = json.loads((shipped / "model.json").read_text(encoding="utf-8"))
    assert f"`{manifest['version']}`" in (shipped / "card.md").read_text(encoding="utf-8")


def test_it_holds_no_path_of_the_machine_that_made_it(shipped):
    for file in shipped.iterdir():
        assert not re.search(r"/(home|root|Users|tmp|work|var)/", file.read_text(encoding="utf-8")), file.name


@pytest.mark.parametrize("name", ["churn.txt", "satisfaction.txt", "card.md", "model.json"])
def test_a_changed_file_is_refused(shipped, tmp_path, name):
    copy = shutil.copytree(shipped, tmp_path / "copy")
    content = (copy / name).read_bytes()
    at = max(i for i in range(len(content) // 2) if content[i : i + 1].isdigit())
    digit = b"1" if content[at : at + 1] != b"1" else b"2"
    (copy / name).write_bytes(content[:at] + digit + content[at + 1 :])
    with pytest.raises(cxml.DataError, match=f"{re.escape(name)}.*(SHA-256|was changed after it was saved)"):
        cxml.load(copy)


@pytest.mark.slow
def test_making_it_again_gives_the_same_bytes(monkeypatch, tmp_path):
    """Under the versions it was made with; under others, the same predictions."""
    monkeypatch.chdir(tmp_path)
    for line in recipe("models"):
        monkeypatch.setattr("sys.argv", line.split())
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None), line
    again, shipped = tmp_path / "models" / "telecom_demo", REPOSITORY / "models" / "telecom_demo"
    old, new = load_model(shipped), load_model(again)
    if all(version(name) == made_with for name, made_with in old.metadata["versions"].items()):
        assert {file.name for file in again.iterdir()} == {file.name for file in shipped.iterdir()}
        for file in shipped.iterdir():
            assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    else:
        assert new.plan == old.plan
        rows = random_rows(len(old.plan.columns))
        for predict in (of_churn, of_satisfaction):
            np.testing.assert_allclose(predict(new, rows), predict(old, rows), rtol=0, atol=1e-6)


def recipe(target: str) -> list[str]:
    """Read the command lines of a target of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    [lines] = re.findall(rf"^{target}:[^\n]*\n((?:\t[^\n]*\n)+)", makefile, flags=re.MULTILINE)
    return [line.strip().replace("$(BIN)/", "") for line in lines.splitlines()]


def random_rows(n_columns: int) -> np.ndarray:
    """Rows of small whole numbers, a third of them missing: what counts and codes look like."""
    rng = np.random.default_rng(0)
    rows = rng.poisson(1.0, size=(500, n_columns)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    return rows


def of_churn(model, rows):
    return churn_probability(model.targets["churn"], model.settings["churn"]["kind"], rows)


def of_satisfaction(model, rows):
    return score_distribution(model.targets["satisfaction"], rows)
