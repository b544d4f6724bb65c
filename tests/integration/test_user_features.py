"""Features of the user's own, from a file that the project names: every command runs it, and no model does."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_commands import assert_refused, journeys, project, run

import cxml as package
from cxml.errors import ConfigError
from cxml.features import custom, export, modules
from cxml.models.store import load_model
from cxml.project import Project
from cxml.scoring import batch

MINE = """
from cxml.features.custom import feature


@feature("events_by_night", "Share of events between midnight and six, UTC.")
def events_by_night(events, cutoff):
    hours = events.time // 3_600_000_000 % 24
    return (hours < 6).mean() if len(events) else None
"""
LEAKING = """
from cxml import register_feature

longest = 0


def longest_so_far(events, cutoff):
    global longest
    longest = max(longest, len(events))
    return longest


register_feature("longest_so_far", longest_so_far, "Most events of any customer that was looked at.")
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Every test begins as a process that has run no file."""
    monkeypatch.setattr(custom, "_REGISTERED", {})
    monkeypatch.setattr(modules, "_RUN", {})


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path_factory):
    """Call ``cxml("check", "project.yaml")``, from a folder of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    return lambda *words: run(monkeypatch, capsys, *words)


def shop(folder: Path, code: str = MINE, column: str = "events_by_night") -> Path:
    (folder / "my_features.py").write_text(code, encoding="utf-8")
    features = f"features: {{windows: [30d], modules: [my_features.py], columns: [{column}, count__all__60d]}}"
    return project(folder, journeys(500), features=features)


def forgetting(monkeypatch):
    monkeypatch.setattr(custom, "_REGISTERED", {})
    monkeypatch.setattr(modules, "_RUN", {})


def test_every_command_runs_the_file(cxml, monkeypatch, tmp_path):
    file, model = shop(tmp_path), tmp_path / "model"
    code, out, err = cxml("check", file, "--leakage", "--out", tmp_path / "report")
    assert code == 0, err
    assert "No leak" in out
    forgetting(monkeypatch)
    assert cxml("train", file, "--out", model, "--no-track", "-q")[0] == 0
    assert load_model(model).plan.custom == ("events_by_night",)
    assert "def " not in (model / "model.json").read_text()
    forgetting(monkeypatch)
    assert cxml("features", file, "--cutoff", "2023-12-01", "--out", "f.parquet", "-q")[0] == 0
    forgetting(monkeypatch)
    assert cxml("features", file, "--cutoff", "2023-12-01", "--model", model, "--out", "g.parquet", "-q")[0] == 0
    for name in ("f.parquet", "g.parquet"):
        frame = pd.read_parquet(name)
        assert frame["events_by_night"].eq(1.0).all()  # all events are at midnight
        assert {"count__all__60d", "count__all__30d"} <= set(frame.columns)
    forgetting(monkeypatch)
    code, _, err = cxml("score", file, "--model", model, "--cutoff", "2024-01-01", "--out", "s.parquet", "-q")
    assert code == 0, err
    forgetting(monkeypatch)
    limited = ("--memory-limit", "40MB", "--threads", "2")
    assert cxml("score", file, "--model", model, "--cutoff", "2024-01-01", "--out", "t.parquet", "-q", *limited)[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("s.parquet"), pd.read_parquet("t.parquet"))
    forgetting(monkeypatch)
    assert cxml("backtest", file, "--folds", "1", "--no-track", "-q")[0] == 0
    forgetting(monkeypatch)
    here = Project.from_file(file).score(model, cutoff="2024-01-01").table.to_pandas()
    pd.testing.assert_frame_equal(here, pd.read_parquet("s.parquet"))


def test_a_planted_leak_is_caught_and_named(cxml, tmp_path):
    file = shop(tmp_path, LEAKING, "longest_so_far")
    code, out, _ = cxml("check", file, "--leakage", "--out", tmp_path / "report")
    assert code == 1
    assert "LEAK: 1 of" in out
    assert "'longest_so_far'" in out


def test_a_model_does_not_run_the_file_and_says_which_function_is_missing(cxml, monkeypatch, tmp_path):
    file, model = shop(tmp_path), tmp_path / "model"
    assert cxml("train", file, "--out", model, "--no-track", "-q")[0] == 0
    event = {"customer_id": 1, "timestamp": "2023-11-01T03:00:00Z", "touchpoint": "login"}
    known = package.load(model).score([event], at="2023-12-01")
    forgetting(monkeypatch)
    with pytest.raises(ConfigError, match=r"feature 'events_by_night' is a function .*register_feature.*modules"):
        package.load(model).score([event], at="2023-12-01")
    assert not custom._REGISTERED
    plain = file.with_name("plain.yaml")
    plain.write_text(file.read_text().replace("modules: [my_features.py], ", "").replace("events_by_night, ", ""))
    result = cxml("score", plain, "--model", model, "--cutoff", "2024-01-01", "--out", "s.parquet", "-q")
    assert_refused(result, 2, says=["events_by_night", "features.modules"])
    Project.from_file(file)._model(model)
    again = package.load(model).score([event], at="2023-12-01")
    assert again == known


@pytest.mark.parametrize(
    ("code", "column", "says"),
    [
        ("x = 1\ny = x / 0\n", "mine", ["my_features.py, line 2: ZeroDivisionError: division by zero"]),
        ("def f(:\n    pass\n", "mine", ["my_features.py, line 1: SyntaxError"]),
        (MINE + "\nimport no_such_package\n", "mine", ["line 10: ModuleNotFoundError", "no_such_package"]),
        ("raise SystemExit(0)\n", "mine", ["line 1: SystemExit"]),
        (MINE, "events_by_nigth", ["'events_by_nigth'", "did you mean 'events_by_night'", "features.modules"]),
        (MINE.replace('"events_by_night"', '"lifecycle"'), "lifecycle", ["line 5", "one of the package's own"]),
        (MINE.replace(".mean()", ".nothing()"), "events_by_night", ["'events_by_night' of customer", "AttributeError"]),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(cxml, tmp_path, code, column, says):
    result = cxml("features", shop(tmp_path, code, column), "--cutoff", "2023-12-01", "--out", "f.parquet", "-q")
    assert_refused(result, 2, says=says)


def test_a_file_that_is_not_there_is_named(cxml, tmp_path):
    file = shop(tmp_path)
    (tmp_path / "my_features.py").unlink()
    says = ["features.modules: cannot read", "my_features.py", "folder of the project file"]
    assert_refused(cxml("check", file, "-q"), 2, says=says)


def test_a_file_is_run_once_and_again_where_it_has_changed(tmp_path):
    file = shop(tmp_path, MINE + f"\nwith open({str(tmp_path / 'runs')!r}, 'a') as runs:\n    runs.write('x')\n")
    for _ in range(3):
        Project.from_file(file).features(["2023-12-01"])
    assert (tmp_path / "runs").read_text() == "x"
    (tmp_path / "my_features.py").write_text(MINE.replace("len(events) else None", "False else 7"))
    frame = Project.from_file(file).features(["2023-12-01"])
    assert np.isclose(frame["events_by_night"], 7.0).all()


def test_a_file_that_is_imported_and_named_too_is_one_file(monkeypatch, tmp_path):
    file = shop(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_features", raising=False)
    imported = importlib.import_module("my_features")
    first = Project.from_file(file).features(["2023-12-01"])
    assert custom.registered("events_by_night").function is not imported.events_by_night
    importlib.reload(imported)
    assert custom.registered("events_by_night").function is imported.events_by_night
    assert modules.comes_from(imported.events_by_night, modules.read_modules(Project.from_file(file).config))
    pd.testing.assert_frame_equal(Project.from_file(file).features(["2023-12-01"]), first)
    monkeypatch.delitem(sys.modules, "my_features")


def test_a_changed_file_takes_the_place_of_what_it_registered_before(tmp_path):
    file = shop(tmp_path)
    Project.from_file(file).features(["2023-12-01"])
    renamed = MINE.replace("def events_by_night", "def by_night").replace("(hours < 6).mean()", "7")
    (tmp_path / "my_features.py").write_text(renamed)
    assert Project.from_file(file).features(["2023-12-01"])["events_by_night"].eq(7.0).all()
    other = MINE.replace('"events_by_night"', '"by_night"')
    modules.run_modules([(str(tmp_path / "my_features.py"), other)])
    assert custom.user_features() == ("by_night",)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        modules.run_modules([(str(tmp_path / "my_features.py"), other + "\n1 / 0\n")])
    assert custom.user_features() == ()  # nothing of a file that failed, and it is run again
    modules.run_modules([(str(tmp_path / "my_features.py"), other)])
    assert custom.user_features() == ("by_night",)


def test_another_file_may_not_take_a_name(tmp_path):
    modules.run_modules([(str(tmp_path / "a.py"), MINE)])
    with pytest.raises(ConfigError, match=r"'events_by_night' is already registered, as cxml_user_a_"):
        modules.run_modules([(str(tmp_path / "b.py"), MINE)])


def test_the_mend_that_is_told_of_a_missing_function_works(monkeypatch, tmp_path):
    file = shop(tmp_path)
    opened = Project.from_file(file)
    with pytest.raises(ConfigError, match=r"cxml\.features\.modules\.load_modules\(project\.config\)"):
        custom.registered("events_by_night")
    modules.load_modules(opened.config)
    assert custom.registered("events_by_night").sentence.startswith("Share of events")


def test_a_key_tells_code_from_other_code(monkeypatch, tmp_path):
    source, plan = str(tmp_path / "mine.py"), ["events_by_night", "lifecycle"]
    modules.run_modules([(source, MINE)])
    key = modules.code_key(plan)
    assert modules.code_key(plan) == key != modules.code_key(["lifecycle"]) == ""
    modules.run_modules([(source, MINE.replace("< 6", "< 7"))])
    assert modules.code_key(plan) != key
    forgetting(monkeypatch)
    modules.run_modules([(source, MINE)])
    assert modules.code_key(plan) == key
    forgetting(monkeypatch)
    custom.register_feature("events_by_night", lambda *_: 1, "One.")  # of no file: nobody can tell
    assert modules.code_key(plan) != modules.code_key(plan)


def small(folder: Path, code: str = MINE) -> Path:
    """A project whose journeys are held on disk, in many parts."""
    file = shop(folder, code)
    file.write_text(file.read_text().replace("timezone: UTC", "timezone: UTC, memory_limit: 60kB"))
    return file


def breaking_off(monkeypatch, place, name, after):
    """Let a function be called so often, and then break off."""
    called, function = [], getattr(place, name)

    def breaks(*args, **named):
        if len(called) == after:
            raise KeyboardInterrupt
        called.append(1)
        return function(*args, **named)

    monkeypatch.setattr(place, name, breaks)


ALWAYS_7 = MINE.replace("(hours < 6).mean()", "7")


def test_features_that_go_on_after_the_file_has_changed_are_all_of_the_new_one(monkeypatch, tmp_path):
    file, out = small(tmp_path), tmp_path / "f.parquet"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        breaking_off(patch, export, "_frame_of", 10)
        Project.from_file(file).write_features(["2023-12-01"], out)
    assert len([*tmp_path.glob("f.parquet.*.parts/*.parquet")]) == 10
    (tmp_path / "my_features.py").write_text(ALWAYS_7)
    Project.from_file(file).write_features(["2023-12-01"], out)
    assert pd.read_parquet(out)["events_by_night"].eq(7.0).all()


def test_features_that_go_on_after_a_value_has_changed_are_all_of_the_new_one(monkeypatch, tmp_path):
    code = MINE.replace("(hours < 6).mean()", "sum(events['score'])")
    file, out = small(tmp_path, code), tmp_path / "f.parquet"
    rows = pd.read_csv(tmp_path / "events.csv").assign(score=1)
    rows.to_csv(tmp_path / "events.csv", index=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        breaking_off(patch, export, "_frame_of", 10)
        Project.from_file(file).write_features(["2023-12-01"], out)
    changed = rows.assign(score=rows["score"].mask(rows["customer_id"] % 100 == 0, 2))
    changed.to_csv(tmp_path / "events.csv", index=False)
    made = []
    frame_of = export._frame_of
    monkeypatch.setattr(export, "_frame_of", lambda *args: made.append(1) or frame_of(*args))
    Project.from_file(file).write_features(["2023-12-01"], out)
    n_resumed = len(made)
    Project.from_file(file).write_features(["2023-12-01"], tmp_path / "fresh.parquet")
    assert n_resumed < len(made) - n_resumed  # some parts were taken over
    assert out.read_bytes() == (tmp_path / "fresh.parquet").read_bytes()
    assert pd.read_parquet(out).query("customer_id == 100")["events_by_night"].gt(30).all()


def test_scores_that_go_on_after_the_file_has_changed_are_all_of_the_new_one(monkeypatch, tmp_path):
    file, model, out = small(tmp_path), tmp_path / "model", tmp_path / "s.parquet"
    (tmp_path / "my_features.py").write_text(MINE.replace("(hours < 6).mean()", "float(len(events))"))
    Project.from_file(file).train(out=model, track=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        breaking_off(patch, batch, "score_block", 10)
        Project.from_file(file).score(model, cutoff="2024-01-01", out=out, threads=1)
    assert [*tmp_path.glob("s.parquet.*.parts/*.parquet")]
    (tmp_path / "my_features.py").write_text(ALWAYS_7)
    Project.from_file(file).score(model, cutoff="2024-01-01", out=out)
    Project.from_file(file).score(model, cutoff="2024-01-01", out=tmp_path / "t.parquet")
    assert out.read_bytes() == (tmp_path / "t.parquet").read_bytes()


def test_a_journey_without_the_key_of_a_measure_scores_as_in_the_batch(tmp_path):
    code = MINE.replace("(hours < 6).mean()", "float(len(events['length'][~(events['length'] > 0)]))")
    file, model = shop(tmp_path, code), tmp_path / "model"
    file.write_text(file.read_text().replace("timezone: UTC", "timezone: UTC, measures: [length]"))
    rows = pd.read_csv(tmp_path / "events.csv").assign(length=None)
    rows.loc[rows["customer_id"] > 3, "length"] = 5.0
    rows.to_csv(tmp_path / "events.csv", index=False)
    opened = Project.from_file(file)
    opened.train(out=model, track=False)
    batch_scores = opened.score(model, cutoff="2024-01-01").table.to_pylist()
    scorer = package.load(model)
    found = next(row for row in batch_scores if row["customer_id"] <= 3)
    mine = rows[rows["customer_id"] == found["customer_id"]]
    events = mine[["timestamp", "touchpoint"]].to_dict("records")
    for answer in (scorer.score(events, "2024-01-01"), scorer.customer(0, events).score("2024-01-01")):
        assert {name: answer[name] for name in answer if name != "cutoff"}.items() <= found.items()
    (tmp_path / "my_features.py").write_text(code.replace("'length'", "'lenght'"))
    modules.load_modules(opened.config)
    for ask in (
        lambda: opened.score(model, cutoff="2024-01-01"),
        lambda: scorer.score(events, "2024-01-01"),
        lambda: scorer.customer(0, events).score("2024-01-01"),
    ):
        with pytest.raises(ConfigError, match=r"events\['lenght'\]: the journeys have no such column; did you mean"):
            ask()


def test_two_files_of_one_name_do_not_hide_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        code = f"from cxml import feature\n\nfeature('own_{name}', 'Own.')(lambda events, cutoff: len(events))\n"
        (tmp_path / name / "json.py").write_text(code)
    features = "features: {modules: [a/json.py, b/json.py], columns: [own_a, own_b]}"
    frame = Project.from_file(project(tmp_path, journeys(20), features=features)).features(["2023-12-01"])
    assert {"own_a", "own_b"} <= set(frame.columns)
    assert sys.modules["json"] is json


def test_a_fresh_process_of_a_user_needs_only_the_project_file(tmp_path):
    file = shop(tmp_path)
    words = ["check", file, "--leakage", "--out", tmp_path / "report", "-q"]
    done = subprocess.run([sys.executable, "-m", "cxml", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No leak" in done.stdout
