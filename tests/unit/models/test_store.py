"""The saved folder: the same bits back, and nothing that was tampered with."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.models.calibration import Calibration
from cxml.models.churn import ChurnModel
from cxml.models.predictor import CumulativePredictor
from cxml.models.satisfaction import SatisfactionModel
from cxml.models.store import load_model, save_model, seal

PLAN = FeaturePlan(
    (Aggregate("count", "all", "30d"), Aggregate("count", "touchpoint=call", "30d")),
    {"touchpoint": ("call", "visit"), "plan": ("basic", "gold")},
    attributes=("plan",),
)
SETTINGS = {
    "churn": {"horizons": ["30d", "60d"], "kind": "event", "bands": [0.1, 1 / 3]},
    "satisfaction": {"lowest": 1, "highest": 5, "kind": "csat"},
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3)).astype(np.float32)
    X[:, 2] = rng.integers(0, 3, 600)
    return X


@pytest.fixture(scope="module")
def targets(rows):
    rng = np.random.default_rng(1)
    days = rng.exponential(60 * np.exp(rows[:, 0]))
    y = np.column_stack([np.minimum(days, 100), days < 100])
    score = np.clip(np.round(3 + rows[:, 1] + rng.normal(size=600)), 1, 5)
    options = {"n_estimators": 15, "n_jobs": 1}
    churn = ChurnModel(horizons=("30d", "60d"), **options).fit(
        rows, y, calibration_set=(rows, y), categorical_feature=[2]
    )
    satisfaction = SatisfactionModel(scale=(1, 5), **options).fit(rows, score, calibration_set=(rows, score))
    return {"churn": churn.predictor_, "satisfaction": satisfaction.predictor_}


@pytest.fixture(scope="module")
def model(targets):
    return seal("telecom", PLAN, targets, SETTINGS, {"auroc": 0.1 + 0.2, "window": ("2024-01-01", "2024-06-30")})


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model", "# Card\nGrün\n")
    return tmp_path / "model"


def test_a_loaded_model_is_the_saved_one_bit_for_bit(model, folder, rows):
    loaded = load_model(folder)
    assert (loaded.name, loaded.plan, loaded.version) == (model.name, model.plan, model.version)
    assert loaded.settings == model.settings and loaded.metadata == model.metadata
    assert loaded.metadata["window"] == ["2024-01-01", "2024-06-30"]
    for target, before in model.targets.items():
        after = loaded.targets[target]
        assert np.array_equal(after.cdf(after.latent(rows)), before.cdf(before.latent(rows)))
        assert np.array_equal(after.contributions(rows[:5]), before.contributions(rows[:5]))


@pytest.fixture(scope="module")
def richer(rows):
    """A model with all that version 1 of the folder did not know: corrections, curves, segments, reasons."""
    rng = np.random.default_rng(2)
    many = np.tile(rows, (10, 1))
    many[:, :2] += rng.normal(scale=0.3, size=(6000, 2)).astype(np.float32)
    early = rng.random(6000) < 1 / (1 + np.exp(1.5 - 2 * many[:, 0]))
    late = rng.random(6000) < 1 / (1 + np.exp(1.0 - 2 * many[:, 1] - (many[:, 2] == 1)))
    days = np.where(early, 15.0, np.where(late, 45.0, 200.0))
    y = np.column_stack([np.minimum(days, 100), days < 100, np.where(days < 100, rng.integers(0, 2, 6000), np.nan)])
    model = ChurnModel(horizons=("30d", "60d"), reasons=["voluntary", "moved"], calibrate_by=2, n_jobs=1)
    return model.fit(many, y, eval_set=(many, y), calibration_set=(many, y), categorical_feature=[2]).predictor_


def test_a_model_with_parts_of_its_own_reads_back_bit_for_bit(richer, rows, tmp_path):
    settings = {"churn": SETTINGS["churn"] | {"reasons": ["voluntary", "moved"]}}
    model = seal("telecom", PLAN, {"churn": richer}, settings, {})
    save_model(model, tmp_path / "model", "card")
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names >= {"churn_threshold_1.txt", "churn_reason_0.txt", "churn_reason_1.txt"}
    assert json.loads((tmp_path / "model" / "model.json").read_text())["schema_version"] == 2
    loaded = load_model(tmp_path / "model")
    assert loaded.version == model.version
    again = loaded.targets["churn"]
    assert again.segments is not None and again.reasons is not None and again.calibration.curves
    cdf = richer.distribution(rows)
    assert np.array_equal(again.distribution(rows), cdf)
    assert np.array_equal(again.by_reason(cdf, rows), richer.by_reason(cdf, rows))
    assert np.array_equal(again.contributions(rows[:5]), richer.contributions(rows[:5]))


def test_reasons_that_the_settings_do_not_name_are_refused(richer):
    with pytest.raises(DataError, match="reasons"):
        seal("telecom", PLAN, {"churn": richer}, SETTINGS, {})


def test_a_part_that_is_missing_or_of_no_use_is_refused(richer):
    parts = richer.parts()
    content = richer.to_dict()
    with pytest.raises(DataError, match="no use for the trees threshold_7"):
        CumulativePredictor.from_dict(content, richer.trees, parts | {"threshold_7": richer.trees})
    with pytest.raises(DataError, match="corrections are for 1 thresholds"):
        replace(richer, corrections=(None,))
    with pytest.raises(DataError, match="column 9 of 3"):
        replace(richer, segments=replace(richer.segments, column=9))
    with pytest.raises(DataError, match="unequal numbers of columns"):
        other = ChurnModel(horizons=("30d", "60d"), n_estimators=2, n_jobs=1)
        days = np.tile([10.0, 100.0], 300)
        other.fit(np.tile(np.arange(600.0)[:, None], 2), np.column_stack([days, days < 50]))
        replace(richer, corrections=(other.predictor_.trees, None))


def test_a_folder_without_them_is_what_it_was_before(targets, rows, tmp_path):
    lines = replace(targets["churn"], calibration=Calibration(np.array([0.1, -0.2]), np.array([0.9, 1.1])))
    save_model(seal("telecom", PLAN, {"churn": lines}, SETTINGS, {}), tmp_path / "model", "card")
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    assert content["schema_version"] == 1
    assert set(content["targets"]["churn"]) == {"trees", "cut_points", "calibration"}
    assert set(content["targets"]["churn"]["calibration"]) == {"intercept", "slope"}
    loaded = load_model(tmp_path / "model").targets["churn"]
    assert np.array_equal(loaded.distribution(rows), lines.cdf(lines.latent(rows)))


def test_equal_models_are_equal_bytes(model, targets, folder, tmp_path):
    reordered = {name: targets[name] for name in ("satisfaction", "churn")}
    again = seal("telecom", PLAN, reordered, dict(reversed(SETTINGS.items())), model.metadata)
    save_model(again, tmp_path / "again", "# Card\nGrün\n")
    save_model(load_model(folder), tmp_path / "copy", "# Card\nGrün\n")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(files) == ["card.md", "churn.txt", "model.json", "satisfaction.txt"]
    for other in ("again", "copy"):
        assert {file.name: file.read_bytes() for file in (tmp_path / other).iterdir()} == files


def test_the_version_follows_the_content_but_not_the_card(model, targets, folder, tmp_path):
    save_model(model, tmp_path / "other", "another card")
    assert load_model(tmp_path / "other").version == load_model(folder).version == model.version
    assert seal("telecom", PLAN, targets, SETTINGS, {"auroc": 0.3}).version != model.version
    assert len(model.version) == 12


def test_an_older_model_gives_way_as_a_whole(model, targets, folder):
    smaller = seal("telecom", PLAN, {"churn": targets["churn"]}, SETTINGS, {})
    save_model(smaller, folder, "card")
    assert sorted(file.name for file in folder.iterdir()) == ["card.md", "churn.txt", "model.json"]
    assert list(load_model(folder).targets) == ["churn"]


def test_further_files_in_the_folder_are_left_alone(folder):
    (folder / "MLmodel").write_text("anything")
    assert load_model(folder).name == "telecom"


def test_loading_runs_in_a_process_without_the_training_packages(folder):
    code = (
        "import sys; from cxml.models.store import load_model; import numpy as np; "
        f"m = load_model({str(folder)!r}); p = m.targets['churn']; p.cdf(p.latent(np.zeros((1, 3)))); "
        "p.contributions(np.zeros((1, 3))); "
        "print([n for n in ('lightgbm', 'sklearn', 'pandas', 'pydantic', 'scipy.optimize') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["churn.txt", "satisfaction.txt", "card.md"])
def test_a_changed_or_missing_file_is_refused(folder, name):
    text = (folder / name).read_text()
    (folder / name).write_text(text + " ")
    with pytest.raises(DataError, match=f"{name}' is not the file that was saved"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}' is missing"):
        load_model(folder)


def rewrite(folder, change, *, reseal):
    """Change the manifest; with ``reseal`` as a forger would, who makes version and digests fit."""
    file = folder / "model.json"
    content = json.loads(file.read_text())
    change(content)
    if reseal:
        sealed = {key: value for key, value in content.items() if key != "version"}
        sealed["files"] = {name: digest for name, digest in content["files"].items() if name != "card.md"}
        text = json.dumps(sealed, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        content["version"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    file.write_text(json.dumps(content))


def test_a_changed_number_in_the_manifest_is_seen(folder):
    def nudge(content):
        content["targets"]["churn"]["cut_points"][0] += 1e-12

    rewrite(folder, nudge, reseal=False)
    with pytest.raises(DataError, match="was changed after it was saved"):
        load_model(folder)


def put(*path, value):
    def change(content):
        part = content
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return change


FORGERIES = {
    "a path upwards": (put("files", "../secret.txt", value="0" * 64), "no plain name"),
    "an absolute path": (put("files", "/etc/passwd", value="0" * 64), "no plain name"),
    "a path with a drive": (put("files", "c:\\x.txt", value="0" * 64), "no plain name"),
    "trees elsewhere": (put("targets", "churn", "trees", value="../x.txt"), "not among the files"),
    "trees that are no name": (put("targets", "churn", "trees", value=None), "not among the files"),
    "trees that are the card": (put("targets", "churn", "trees", value="card.md"), "card.md: this is not a whole"),
    "no targets": (put("targets", value={}), "'targets' must hold"),
    "targets that are none": (put("targets", value={"churn": 3}), "'targets' must hold"),
    "an unknown target": (put("targets", "refund", value={}), "not among the files"),
    "falling cut points": (put("targets", "churn", "cut_points", value=[2.0, 1.0]), "must be finite and ascend"),
    "no cut points": (put("targets", "churn", "cut_points", value=[]), "must be finite and ascend"),
    "infinite cut points": (put("targets", "churn", "cut_points", value=[1.0, 10**400]), "too large"),
    "a nested cut point": (put("targets", "churn", "cut_points", value=[[1.0]]), "must be a list of numbers"),
    "too short a calibration": (
        put("targets", "churn", "calibration", value={"intercept": [0.0], "slope": [1.0]}),
        "calibration is for 1 thresholds",
    ),
    "a calibration that turns the order round": (
        put("targets", "churn", "calibration", "slope", value=[-1.0, 1.0]),
        "slopes finite and positive",
    ),
    "no calibration": (put("targets", "churn", "calibration", value=None), "must be a list of numbers"),
    "other horizons": (put("settings", "churn", "horizons", value=["30d"]), "mean 1 thresholds, the predictor has 2"),
    "another scale": (put("settings", "satisfaction", "highest", value=9), "mean 8 thresholds"),
    "no settings": (put("settings", value={}), "settings of 'churn' are incomplete"),
    "settings that are a list": (put("settings", value=[]), "must be mappings"),
    "another plan": (put("plan", "features", value=["count__all__30d"]), "grown on 3 columns, the feature plan has 2"),
    "no plan": (put("plan", value={}), "not a feature plan"),
    "no files": (put("files", value={}), "its keys must be"),
    "a further key": (put("run", value="me"), "its keys must be"),
}


@pytest.mark.parametrize(("change", "message"), FORGERIES.values(), ids=FORGERIES)
def test_forged_manifests_are_refused_even_when_sealed_anew(folder, change, message):
    rewrite(folder, change, reseal=True)
    with pytest.raises(DataError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[1]", "no schema_version"),
        (b'{"schema_version": NaN}', "NaN is no number"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_manifests_that_are_none_are_refused(folder, content, message):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_model(folder)


def test_a_number_beyond_all_floats_is_refused(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"lowest": 1', '"lowest": 1e999'))
    with pytest.raises(DataError, match="is damaged"):
        load_model(folder)


def test_a_later_schema_names_the_mend(folder):
    rewrite(folder, put("schema_version", value=3), reseal=True)
    with pytest.raises(ConfigError, match="schema version 3; this cxml reads up to 2"):
        load_model(folder)


def test_no_model_is_an_error_of_the_question(tmp_path):
    with pytest.raises(ConfigError, match="the folder is not there"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"holds no model\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, np.float32(1.0)])
def test_settings_must_be_plain_json(targets, value):
    with pytest.raises(ConfigError, match="plain JSON"):
        seal("telecom", PLAN, targets, SETTINGS | {"x": value}, {})


def test_a_model_needs_a_target():
    with pytest.raises(ConfigError, match="needs a target"):
        seal("telecom", PLAN, {}, SETTINGS, {})


def test_parts_that_do_not_fit_cannot_be_sealed(targets):
    with pytest.raises(DataError, match="grown on 3 columns, the feature plan has 1"):
        seal("telecom", FeaturePlan((Aggregate("count", "all", "30d"),), {}), targets, SETTINGS, {})
    with pytest.raises(DataError, match="unknown target 'refund'"):
        seal("telecom", PLAN, {"refund": targets["churn"]}, SETTINGS, {})


def test_a_model_changed_after_sealing_cannot_be_saved(model, tmp_path):
    with pytest.raises(ConfigError, match="changed after it got version"):
        save_model(replace(model, name="retail"), tmp_path / "model", "card")
    assert not (tmp_path / "model").exists()
