"""The models side by side with others, as far as it goes without installing any of them."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import log_loss

from cxml.evaluate.bootstrap import Interval

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Generator[ModuleType]:
    """The script as a module, with its folder first on the path, as Python has it for scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("rivals_quality")
        for name in ("rivals_quality", "rivals", "features"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project file of a simulated shop."""
    from cxml.demo import write_simulation
    from cxml.simulate import simulate

    folder = tmp_path_factory.mktemp("configs")
    write_simulation(simulate(700, n_replays=1, random_state=3), folder)
    text = (folder / "project.yaml").read_text().replace("[30d, 60d, 90d]", "[30d, 60d]")
    (folder / "shop.yaml").write_text(text + "\nfeatures: {windows: [30d]}\n" if "features:" not in text else text)
    return folder


@pytest.fixture
def options(tmp_path: Path) -> Namespace:
    return Namespace(
        threads=1, automl_least=1.0, automl_factor=1.0, replicates=20, data=tmp_path, fresh=False,
        rivals=["binaries"],
    )  # fmt: skip


def test_everybody_is_tested_on_the_same_rows_and_taken_again_from_what_is_kept(
    bench: ModuleType, configs: Path, options: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CONFIGS", configs)
    sections = []
    for _ in range(2):
        tasks = bench.gather("shop", options.data, options)
        assert [target for target, *_ in tasks] == ["churn", "satisfaction"]
        target, file, customers = tasks[0]
        section, row = bench.compare("shop", target, file, customers, options)
        sections.append("\n".join(section))
    first, again = sections
    for line in ("| **cxml** | ", "| binaries | ", "| binaries, calibrated | ", "| log loss | 30d | 60d |"):
        assert line in first
    table = [line for line in first.splitlines() if line.startswith("| binaries")]
    assert [line for line in again.splitlines() if line.startswith("| binaries")] == table
    assert "Size: " in first
    assert row.startswith("| shop, churn | log loss | 0.") and "| binaries" in row
    page = "\n".join([*bench.in_one_table([row]), *sections])
    (options.data / "rivals.md").write_text(page)
    shown = importlib.import_module("quality").beside_others(options.data / "rivals.md")
    assert row in shown and "###" not in shown
    assert len(list(options.data.glob("binaries-*.npz"))) == 1


def test_a_rival_that_fails_is_in_the_table(
    bench: ModuleType, configs: Path, options: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rivals

    monkeypatch.setattr(bench, "CONFIGS", configs)
    real = rivals.call

    def call(command: list[str], folder: Path) -> float:
        if "logistic" in command:
            raise rivals.ToolError("ValueError: odd")
        return real(command, folder)

    monkeypatch.setattr(rivals, "call", call)
    options.rivals = ["regression", "logistic"]
    _, (target, file, customers) = bench.gather("shop", options.data, options)
    section, row = bench.compare("shop", target, file, customers, options)
    assert "| - | - | - |" in row  # nobody with a distribution is left to compare with
    assert "| logistic | failed: ValueError: odd |" in section
    assert any(line.startswith("| regression | - | - | ") for line in section)


def test_the_mean_log_loss_takes_each_horizon_by_the_rows_that_know_it(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, size=(60, 2))
    known = (rng.random((60, 2)) < p).astype(float)
    known[:40, 1] = np.nan
    expected = (log_loss(known[:, 0], p[:, 0]) + log_loss(known[40:, 1], p[40:, 1])) / 2
    assert bench.mean_log_loss(known, p) == pytest.approx(expected)
    drawn = rng.integers(0, 3, size=(4, 60)).astype(float)
    for weight, value in zip(drawn, bench.mean_over(bench.log_losses(known, p), drawn), strict=True):
        times = weight.astype(int)
        assert value == pytest.approx(bench.mean_log_loss(np.repeat(known, times, 0), np.repeat(p, times, 0)))


def test_crossing_thresholds_are_lifted_and_classes_sum_to_one(bench: ModuleType) -> None:
    classes = bench.classes_of(np.array([[0.2, 0.5, 0.4], [1.2, 0.3, 0.9]]))
    assert np.allclose(classes, [[0.2, 0.3, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]])


def test_calibration_mends_what_is_too_sure_of_itself(bench: ModuleType) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.1, 0.9, size=(4000, 1))
    known = (rng.random(truth.shape) < truth).astype(float)
    odds = np.log(truth / (1 - truth))
    sure = 1 / (1 + np.exp(-3 * odds - 1))
    task = {"target": "churn", "known_calibration": known[:2000]}
    mended = bench.calibrate(task, sure[:2000], sure[2000:])
    assert np.abs(mended - truth[2000:]).mean() < 0.2 * np.abs(sure - truth).mean()


def test_the_verdict_names_who_is_ahead_beyond_chance(bench: ModuleType) -> None:
    better, within, behind = Interval(-0.2, -0.3, -0.1), Interval(0.1, -0.1, 0.3), Interval(0.2, 0.1, 0.3)
    assert bench._verdict({"a": better}) == "cxml is best; next is a."
    assert bench._verdict({"a": better, "b": within}) == "The best is b, and cxml is within its interval."
    assert bench._verdict({"b": within, "c": behind}) == "Ahead of cxml beyond chance: c."


def test_a_column_with_one_outcome_keeps_its_rate_and_a_class_nobody_gave_gets_nothing(bench: ModuleType) -> None:
    X = np.arange(6.0)[:, None]
    task = {f"X_{part}": X for part in ("train", "calibration", "test")}
    known = np.column_stack([np.zeros(6), np.where(np.arange(6) < 4, np.arange(6) % 2, np.nan)])
    task |= {"known_train": known, "known_calibration": known}

    def learner(_task, X, y, _X_later, _y_later):
        assert len(X) == len(y) == (4 if len(np.unique(y)) == 2 else 6)
        return lambda matrix: np.tile(np.bincount(y) / len(y), (len(matrix), 1))

    _, test = bench.each_horizon(task, learner)
    assert test.tolist() == [[0.0, 0.5]] * 6
    scores = np.array([0, 0, 2, 2, 3, 3])
    task |= {"n_classes": 5, "y_train": scores, "y_calibration": np.array([0, 1, 2, 3, 4, 0])}
    _, test = bench.all_scores(task, learner)
    assert np.allclose(test, [[1 / 3, 0, 1 / 3, 1 / 3, 0]] * 6)
