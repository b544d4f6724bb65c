"""The side by side with other packages, as far as it goes without installing any of them."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def rivals() -> Generator[ModuleType]:
    """The script as a module, with its folder first on the path, as Python has it for scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("rivals")
        for name in ("rivals", "features"):
            sys.modules.pop(name, None)


def naive_row(events: list[dict[str, Any]], cutoff: pd.Timestamp, rivals: ModuleType) -> list[float]:
    """One customer at one cutoff, written from the definition."""
    counts: list[float] = []
    amounts: list[float] = []
    for days in rivals.DAYS:
        begin = cutoff - pd.Timedelta(days=days)
        inside = [event for event in events if begin <= event["timestamp"] < cutoff]
        counts.append(len(inside))
        for measure in rivals.MEASURES:
            numbers = [event[measure] for event in inside if not np.isnan(event[measure])]
            amounts += [len(numbers), sum(numbers)]
            amounts += [np.mean(numbers), min(numbers), max(numbers), numbers[-1]] if numbers else [np.nan] * 4
    return counts + amounts


def test_cxml_part_computes_the_question(rivals: ModuleType, tmp_path: Path) -> None:
    file, report, values = tmp_path / "j.parquet", tmp_path / "report.json", tmp_path / "values.npy"
    rivals.build(file, 1_500, 12)
    rivals.work("cxml", file, 2, report, values)
    events: list[dict[str, Any]] = pd.read_parquet(file).to_dict("records")  # type: ignore[assignment]
    at = [pd.Timestamp(us, unit="us", tz="UTC") for us in rivals.cutoffs(2)]
    expected = [
        naive_row([event for event in events if event["customer_id"] == customer], cutoff, rivals)
        for customer in sorted({event["customer_id"] for event in events})
        for cutoff in at
    ]
    matrix = np.load(values)
    assert matrix.shape[1] == 76
    seen = [i for i, row in enumerate(matrix) if not np.isnan(row[0])]
    assert len(seen) > len(matrix) / 2
    np.testing.assert_allclose(matrix[seen], np.array(expected)[seen], rtol=1e-6)
    told = json.loads(report.read_text())
    assert (told["columns"], told["rows"]) == matrix.shape[::-1]
    assert told["features"] > 0 and told["read"] > 0


def test_cxml_beside_itself_is_alike_in_all_columns(
    rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rivals.RIVALS, "cxml", rivals.Rival("cxml", (), 500))
    monkeypatch.setattr(rivals, "make_environment", lambda *_: Path(sys.executable))
    monkeypatch.setattr(rivals, "SMALL", (400, 10, 2))
    [result] = rivals.measure("cxml", Namespace(events=1_000, customers=20, cutoffs=[1], repeats=1, data=tmp_path))
    assert result.error is None
    assert (result.events, result.cutoffs, result.alike) == (500, 1, 76)
    assert (len(result.runs), len(result.beside)) == (1, 1)
    assert result.runs[0]["wall"] > result.runs[0]["features"]
    assert (tmp_path / "journeys-500-10.parquet").exists()  # customers in proportion


def test_a_tool_that_cannot_be_installed_is_in_the_table(
    rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command: list[str], folder: Path) -> float:
        raise rivals.ToolError("no version of getml for this interpreter")

    monkeypatch.setattr(rivals, "call", fail)
    results = rivals.measure("getml", Namespace(events=1_000, customers=20, cutoffs=[1], repeats=1, data=tmp_path))
    rivals.show(results)
    assert "getml         failed: no version of getml for this interpreter" in capsys.readouterr().out


@pytest.mark.parametrize(("uv", "tool"), [("/bin/uv", "/bin/uv"), (None, sys.executable)])
def test_environments_are_made_once_and_apart(
    rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: str | None, tool: str
) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], folder: Path) -> float:
        commands.append(command)
        return 0.0

    monkeypatch.setattr(rivals, "call", note)
    monkeypatch.setattr(rivals, "find_uv", lambda: uv)
    environment = tmp_path / f"getml-py{sys.version_info[0]}.{sys.version_info[1]}"
    environment.mkdir()
    python = rivals.make_environment("getml", tmp_path)
    assert python == environment / "bin" / "python"
    assert commands[0][0] == tool and "--clear" in commands[0] and commands[0][-1] == str(environment)
    assert str(python) in commands[1] and commands[1][-1] == "getml==1.5.1"
    rivals.make_environment("getml", tmp_path)
    assert len(commands) == 2


def test_table_shows_medians_and_ratios(rivals: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def runs(version: str, columns: int, *times: tuple[float, float]) -> tuple[dict[str, Any], ...]:
        return tuple({"version": version, "columns": columns, "wall": wall, "features": f} for wall, f in times)

    theirs = runs("1.5.1", 88, (9.0, 4.0), (3.0, 1.0), (4.0, 2.0))
    ours = runs("0.1.0", 76, (1.0, 0.1), (2.0, 0.2), (2.0, 0.2))
    rivals.show([rivals.Result("getml", 8_000, 12, theirs, ours, 64)])
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["cxml", "0.1.0", "8,000", "12", "76", "2.00", "0.200", "4,000", "1.0", "1.0"]
    assert second.split() == ["getml", "1.5.1", "8,000", "12", "88", "4.00", "2.000", "2,000", "2.0", "10.0", "64"]


def test_count_alike_takes_each_column_once(rivals: ModuleType) -> None:
    ours = np.array([[1.0, np.nan, 5.0, 5.0], [2.0, 3.0, 6.0, 6.0]])
    theirs = np.array([[5.0, 0.0, 1.0], [6.0, 3.0, 2.1]])
    assert rivals.count_alike(ours, theirs) == 2  # the third once, the second with nothing as zero, the first differs
    with pytest.raises(rivals.ToolError, match="1 rows instead of 2"):
        rivals.count_alike(ours, theirs[:1])


def test_failures_of_rivals_are_told_by_their_last_line(
    rivals: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(rivals.ToolError, match=r"^ValueError: odd$"):
        rivals.call([sys.executable, "-c", "raise ValueError('odd')"], tmp_path)
    with pytest.raises(rivals.ToolError, match=r"^exit code 3$"):
        rivals.call([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    monkeypatch.setattr(rivals, "TIME_LIMIT_S", 0.2)
    with pytest.raises(rivals.ToolError, match=r"^not done after 0\.2 s$"):
        rivals.call([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path)


def test_failures_of_cxml_are_not_a_rivals(rivals: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cxml failed: "):
        rivals.run_once("cxml", Path(sys.executable), tmp_path / "absent.parquet", 1)


def test_nothing_outlives_a_run(rivals: ModuleType, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; from pathlib import Path;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "Path('pid').write_text(str(child.pid))"
    )
    rivals.call([sys.executable, "-c", code], tmp_path)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if has_ended(pid):
            return
        time.sleep(0.1)
    pytest.fail("a process was left behind")


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only its entry is left for want of a parent that collects it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
