"""cxml side by side with Featuretools, getML and tsfresh: the same question about the same file of journeys.

Builds journeys as `features.py` does, makes for each rival an environment of its own under ``--data`` (with uv where
it is found, with venv and pip where not; nothing of it is in the lock file), and runs everything in turn in fresh
processes: each rival in its environment, cxml in this one, on a file of the size that the rival can do in about a
minute. A tool that cannot be installed, or fails, is reported with the last line of its error.

    python benchmarks/rivals.py                                             # all three, up to 100 k events
    python benchmarks/rivals.py --events 1000000 --customers 20000 --tools getml --repeats 1

The question: for every customer of the file, at one cutoff and at 12 that lie 30 days apart, over the 7, 30, 90 and
365 days before it: how many events there were, and of ``value``, ``duration`` and ``score`` the count, sum, mean, min,
max and last, 76 columns. What each tool computes of it:

cxml
    All of it.
Featuretools (BSD-3-Clause)
    ``dfs`` with count, sum, mean, min, max and last, once for each window, as ``training_window`` is one number. Count
    is of events only; last is the value of the last event, which may be missing, and not the last value. One process.
getML (Elastic License 2.0: source available, not open source; community edition, the engine that comes in its wheel)
    FastProp with COUNT, SUM, AVG, MIN, MAX and LAST over one join for each window. It must be fitted to a target, and
    gets random numbers; the number of features is not limited, so that it chooses none away. Not asked, it adds
    six columns a window about the age of events; its COUNT is of events only. Features are
    timed as fit and transform together. Its own number of threads.
tsfresh (MIT)
    ``length``, ``sum_values``, ``mean``, ``minimum`` and ``maximum`` of the values there are. It knows neither windows
    nor cutoffs: the events of each are cut out first and handed over as series of their own. It has no last, and the
    number of events is not asked. A process for each core.

The table tells medians: the wall time of the whole process (interpreter, imports, reading, features), that of the
features alone, events of the file per second of the whole process, both times over those of cxml beside it, and how
many of the 76 columns of cxml the tool has too: equal to 1e-5 in every row of 12 cutoffs, missing being as good as
zero, on a small file of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from features import build, cutoffs

DAYS = (7, 30, 90, 365)
MEASURES = ("value", "duration", "score")
STATISTICS = ("sum", "mean", "min", "max", "last")
SMALL = (5_000, 100, 12)  # events and customers of the file on which values are compared, and cutoffs
TOLERANCE = 1e-5
TIME_LIMIT_S = 900


@dataclass(frozen=True)
class Rival:
    """What to install, and how many events it does in about a minute."""

    package: str
    requirements: tuple[str, ...]
    most_events: int


RIVALS = {
    # its woodwork imports pkg_resources, which setuptools 80 and later may lack, and loses its schema under pandas 3
    "featuretools": Rival("featuretools", ("featuretools==1.31.0", "setuptools<80", "pandas<3", "pyarrow"), 50_000),
    "getml": Rival("getml", ("getml==1.5.1",), 1_000_000),
    "tsfresh": Rival("tsfresh", ("tsfresh==0.21.2", "pyarrow"), 50_000),
}


@dataclass(frozen=True)
class Result:
    """The runs of a tool on one file at so many cutoffs, and of cxml beside it."""

    tool: str
    events: int
    cutoffs: int = 0
    runs: tuple[dict[str, Any], ...] = ()
    beside: tuple[dict[str, Any], ...] = ()
    alike: int | None = None
    error: str | None = None


class ToolError(Exception):
    """A tool could not be installed or run."""


@dataclass
class Laps:
    """Seconds of each part of a run."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, what: str) -> None:
        """Note how long it was since the last lap."""
        now = time.perf_counter()
        self.seconds[what] = now - self.last
        self.last = now


# --- what runs in the fresh processes: each gives one row for each customer and cutoff, customers and cutoffs ascending


def run_cxml(file: Path, at: list[int], laps: Laps) -> Any:
    """Read with all checks, then the kernel over each block of customers."""
    from cxml import read_journeys
    from cxml.features.matrix import fill_matrix
    from cxml.features.plan import FeaturePlan
    from cxml.features.spec import Aggregate

    laps.lap("imports")
    blocks = list(read_journeys(file).blocks())
    laps.lap("read")
    wanted = [Aggregate("count", "all", f"{days}d") for days in DAYS]
    wanted += [Aggregate(s, m, f"{days}d") for days in DAYS for m in MEASURES for s in ("count", *STATISTICS)]
    plan = FeaturePlan(tuple(wanted), {})
    customers = np.sort(np.concatenate([block.customers for block in blocks]))
    matrix = np.empty((len(customers) * len(at), len(wanted)), np.float32)
    for block in blocks:
        row_starts = np.arange(block.n_customers + 1, dtype=np.int64) * len(at)
        rows = (np.searchsorted(customers, block.customers)[:, None] * len(at) + np.arange(len(at))).ravel()
        fill_matrix(plan, block, row_starts, np.tile(at, block.n_customers), out=matrix, rows=rows)
    laps.lap("features")
    return matrix


def run_featuretools(file: Path, at: list[int], laps: Laps) -> Any:
    """One `dfs` for each window over an entity set of events and customers."""
    import featuretools as ft  # type: ignore[import-not-found]
    import pandas as pd

    laps.lap("imports")
    events = read_events(file).reset_index(names="event_id")
    entities = ft.EntitySet("journeys")
    entities.add_dataframe(events, "events", index="event_id", time_index="timestamp")
    entities.normalize_dataframe("events", "customers", "customer_id", make_time_index=False)
    entities.add_last_time_indexes()
    laps.lap("read")
    rows = pd.MultiIndex.from_product([np.unique(events["customer_id"]), moments(at)], names=["customer_id", "time"])
    columns = []
    for days in DAYS:
        frame, _ = ft.dfs(
            entityset=entities, target_dataframe_name="customers", cutoff_time=rows.to_frame(index=False),
            agg_primitives=["count", *STATISTICS], trans_primitives=[], max_depth=1, n_jobs=1,
            training_window=f"{days} days", include_cutoff_time=False, cutoff_time_in_index=True,
            drop_exact=["LAST(events.event_id)"],
        )  # fmt: skip
        columns.append(frame.reindex(rows).to_numpy(np.float64))
    laps.lap("features")
    return np.hstack(columns)


def run_getml(file: Path, at: list[int], laps: Laps) -> Any:
    """FastProp over one join for each window."""
    import getml  # type: ignore[import-not-found]
    import pandas as pd

    if getml.communication.is_monitor_alive():
        raise SystemExit("a getML engine runs already and would be measured instead; shut it down first")
    getml.engine.launch(
        home_directory=str(file.parent / "getml-home"), launch_browser=False, allow_push_notifications=False, quiet=True
    )
    try:
        getml.engine.set_project("rivals")
        laps.lap("imports")
        frame = read_events(file)
        rows = pd.MultiIndex.from_product([np.unique(frame["customer_id"]), moments(at)], names=["customer_id", "at"])
        population = rows.to_frame(index=False).assign(y=np.random.default_rng(0).random(len(rows)))
        people = getml.DataFrame.from_pandas(
            population, "people", getml.data.Roles(join_key=["customer_id"], time_stamp=["at"], target=["y"])
        )
        events = getml.DataFrame.from_pandas(
            frame, "events",
            getml.data.Roles(join_key=["customer_id"], time_stamp=["timestamp"], numerical=list(MEASURES)),
        )  # fmt: skip
        model = getml.data.DataModel(people.to_placeholder("people"))
        model.add(*[events.to_placeholder(f"events_{days}") for days in DAYS])
        for days in DAYS:
            joined = getattr(model, f"events_{days}")
            model.people.join(
                joined, on="customer_id", time_stamps=("at", "timestamp"), memory=getml.data.time.days(days)
            )
        tables = getml.data.Container(train=people)
        tables.add(**{f"events_{days}": events for days in DAYS})
        laps.lap("read")
        aggregations = getml.feature_learning.aggregations
        learner = getml.feature_learning.FastProp(
            aggregation=[getattr(aggregations, name) for name in ("COUNT", "SUM", "AVG", "MIN", "MAX", "LAST")],
            loss_function=getml.feature_learning.loss_functions.SquareLoss,
            num_features=10_000,
        )
        pipeline = getml.Pipeline(data_model=model, feature_learners=[learner])
        pipeline.fit(tables.train, check=False)
        laps.lap("fit")
        values = pipeline.transform(tables.train)
        laps.lap("features")
    finally:
        getml.engine.shutdown()
    laps.seconds["features"] += laps.seconds["fit"]
    return values


def run_tsfresh(file: Path, at: list[int], laps: Laps) -> Any:
    """Cut out the events of each cutoff and window, then ask for the plainest features of each series."""
    from tsfresh import extract_features  # type: ignore[import-not-found]

    laps.lap("imports")
    events = read_events(file)
    customers = np.unique(events["customer_id"])
    series = events.melt(["customer_id", "timestamp"], MEASURES, "measure", "number").dropna()
    laps.lap("read")
    wanted = dict.fromkeys(("length", "sum_values", "mean", "minimum", "maximum"))
    asked = [f"{measure}__{name}" for measure in MEASURES for name in wanted]
    values = np.full((len(customers), len(at), len(DAYS), len(asked)), np.nan)
    for i, cutoff in enumerate(moments(at)):
        for j, days in enumerate(DAYS):
            begin = cutoff - np.timedelta64(days, "D")
            inside = series[(series["timestamp"] < cutoff) & (series["timestamp"] >= begin)]
            if not inside.empty:
                frame = extract_features(
                    inside, column_id="customer_id", column_sort="timestamp", column_kind="measure",
                    column_value="number", default_fc_parameters=wanted, n_jobs=os.cpu_count(),
                    disable_progressbar=True,
                )  # fmt: skip
                values[:, i, j] = frame.reindex(index=customers, columns=asked)
    laps.lap("features")
    return values.reshape(len(customers) * len(at), -1)


def read_events(file: Path) -> Any:
    """Read what the question needs with pandas; times in UTC without saying so, as the rivals want them."""
    import pandas as pd

    events = pd.read_parquet(file, columns=["customer_id", "timestamp", *MEASURES])
    events["timestamp"] = events["timestamp"].dt.tz_localize(None).astype("datetime64[ns]")
    return events


def moments(at: list[int]) -> Any:
    """Give cutoffs as pandas has them."""
    import pandas as pd

    return pd.DatetimeIndex(np.array(at, "datetime64[us]").astype("datetime64[ns]"))


WORKERS: dict[str, Callable[[Path, list[int], Laps], Any]] = {
    "cxml": run_cxml, "featuretools": run_featuretools, "getml": run_getml, "tsfresh": run_tsfresh,
}  # fmt: skip


def work(tool: str, file: Path, n_cutoffs: int, report: Path, values: Path | None) -> None:
    """Run a tool in this process and write what it took, and its matrix where asked."""
    laps = Laps()
    matrix = WORKERS[tool](file, cutoffs(n_cutoffs), laps)
    told = {"version": importlib.metadata.version(tool), "columns": matrix.shape[1], "rows": len(matrix)}
    report.write_text(json.dumps({**told, **laps.seconds}))
    if values:
        np.save(values, np.asarray(matrix, np.float64))


# --- what runs here


def make_environment(tool: str, data: Path) -> Path:
    """Make an environment for a rival, unless it is there, and give its interpreter."""
    return make_named_environment(tool, RIVALS[tool].requirements, data)


def make_named_environment(name: str, requirements: tuple[str, ...], data: Path) -> Path:
    """Make an environment that holds these packages, unless it is there, and give its interpreter."""
    folder = data / f"{name}-py{sys.version_info[0]}.{sys.version_info[1]}"
    python, ready = folder / "bin" / "python", folder / "installed.txt"
    listed = "\n".join(requirements)
    if ready.exists() and ready.read_text() == listed:
        return python
    print(f"installing {name} in {folder}")
    if uv := find_uv():
        call([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], data)
        call([uv, "pip", "install", "--quiet", "--python", str(python), *requirements], data)
    else:
        call([sys.executable, "-m", "venv", "--clear", str(folder)], data)
        call([str(python), "-m", "pip", "install", "--quiet", *requirements], data)
    ready.write_text(listed)
    return python


def find_uv() -> str | None:
    """Give the path of a uv that runs."""
    uv = shutil.which("uv")
    runs = uv and subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0
    return uv if runs else None


def call(command: list[str], folder: Path) -> float:
    """Run a command and give its wall time; raise the last line of its error.

    It gets a process group of its own, which is ended with it: the engine of getML may outlive its shutdown.
    """
    with tempfile.TemporaryFile("w+") as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=surroundings(command), cwd=folder, start_new_session=True
        )
        try:
            code = process.wait(TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise ToolError(f"not done after {TIME_LIMIT_S} s") from None
        finally:
            wall = time.perf_counter() - begin
            end_group(process)
        said.seek(0)
        lines = [line.strip() for line in said if line.strip()]
    if code:
        raise ToolError(lines[-1] if lines else f"exit code {code}")
    return wall


def surroundings(command: list[str]) -> dict[str, str]:
    """Give the variables a command gets: what leads to packages of ours stays with us."""
    # Python compiles a module once and keeps it, unless it is told not to
    dropped = ("PYTHONDONTWRITEBYTECODE", *(() if command[0] == sys.executable else ("PYTHONPATH", "PYTHONHOME")))
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONWARNINGS": "ignore"}  # some warn in every call


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a process we started has left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nothing is left; macOS says so in the other way
        return
    process.wait()


def run_once(tool: str, python: Path, file: Path, n_cutoffs: int, values: Path | None = None) -> dict[str, Any]:
    """Run a tool in a fresh process and give what it took."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [str(python), __file__, "--tool", tool, "--file", str(file), "--cutoffs", str(n_cutoffs)]
        command += ["--report", str(report), *(["--values", str(values)] if values else [])]
        try:
            wall = call(command, file.parent)
        except ToolError as error:
            if tool == "cxml":
                raise SystemExit(f"cxml failed: {error}") from None
            raise
        return {**json.loads(report.read_text()), "wall": wall}


def count_alike(ours: Any, theirs: Any) -> int:
    """Count columns of ours that the other has too, each only once, in whatever order; missing is as good as zero."""
    if len(ours) != len(theirs):
        raise ToolError(f"{len(theirs)} rows instead of {len(ours)}")
    left = np.nan_to_num(theirs)
    n_alike = 0
    for column in np.nan_to_num(ours).T[:, :, None]:
        same = (np.abs(left - column) <= TOLERANCE * (1 + np.abs(column))).all(axis=0)
        if same.any():
            n_alike += 1
            left = np.delete(left, np.argmax(same), axis=1)
    return n_alike


def journeys(data: Path, n_events: int, n_customers: int) -> Path:
    """Build the file of a size, unless it is there."""
    file = data / f"journeys-{n_events}-{n_customers}.parquet"
    if not file.exists():
        aside = file.with_suffix(".part")
        build(aside, n_events, n_customers)
        aside.rename(file)
    return file


def compare_values(tool: str, python: Path, data: Path) -> int:
    """Run cxml and a rival on a small file, and count the columns that both have; it warms their caches, too."""
    *size, n_cutoffs = SMALL
    file = journeys(data, *size)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.npy", Path(folder) / "theirs.npy"
        run_once("cxml", Path(sys.executable), file, n_cutoffs, ours)
        run_once(tool, python, file, n_cutoffs, theirs)
        return count_alike(np.load(ours), np.load(theirs))


def measure(tool: str, options: argparse.Namespace) -> list[Result]:
    """Run a rival and cxml in turn on the size that the rival can do."""
    n_events = min(options.events, RIVALS[tool].most_events)
    n_customers = max(1, options.customers * n_events // options.events)
    try:
        python = make_environment(tool, options.data)
        alike = compare_values(tool, python, options.data)
    except ToolError as error:
        return [Result(tool, n_events, error=str(error))]
    file = journeys(options.data, n_events, n_customers)
    return [
        measure_at(n, Result(tool, n_events, n, alike=alike), python, file, options.repeats) for n in options.cutoffs
    ]


def measure_at(n_cutoffs: int, blank: Result, python: Path, file: Path, repeats: int) -> Result:
    """Run both in turn, several times over."""
    runs, beside = [], []
    try:
        for _ in range(repeats):
            beside.append(run_once("cxml", Path(sys.executable), file, n_cutoffs))
            runs.append(run_once(blank.tool, python, file, n_cutoffs))
    except ToolError as error:
        return replace(blank, error=str(error))
    return replace(blank, runs=tuple(runs), beside=tuple(beside))


def show(results: list[Result]) -> None:
    """Print two lines for each measurement: cxml on the file of the rival, and the rival; or the error."""
    print(
        f"\n{'tool':13} {'version':8} {'events':>9} {'cutoffs':>7} {'columns':>7} {'wall s':>8} {'features s':>10} "
        f"{'events/s':>9} {'wall/cxml':>9} {'features/cxml':>13} {'alike':>5}"
    )
    for result in results:
        if result.error is not None:
            print(f"{result.tool:13} failed: {result.error}")
            continue
        print(line("cxml", result.beside, result))
        print(line(result.tool, result.runs, result) + f" {result.alike:5}")


def line(tool: str, runs: tuple[dict[str, Any], ...], result: Result) -> str:
    """Write the medians of a tool beside those of cxml."""
    wall, features = (statistics.median(run[part] for run in runs) for part in ("wall", "features"))
    wall_cxml, features_cxml = (statistics.median(run[part] for run in result.beside) for part in ("wall", "features"))
    return (
        f"{tool:13} {runs[0]['version']:8} {result.events:9,} {result.cutoffs:7} {runs[0]['columns']:7} {wall:8.2f} "
        f"{features:10.3f} {result.events / wall:9,.0f} {wall / wall_cxml:9.1f} {features / features_cxml:13.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="at most; a rival gets no more than it can do")
    parser.add_argument("--customers", type=int, default=2_000, help="fewer in proportion where events are fewer")
    parser.add_argument("--cutoffs", type=int, nargs="+", default=[1, 12], help="how many; each is a case of its own")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", default=",".join(RIVALS), help="which, with commas between")
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "cxml-bench", help="for files and environments"
    )
    parser.add_argument("--json", type=Path, help="write all runs there as well")
    for hidden in ("--tool", "--file", "--report", "--values"):
        parser.add_argument(hidden, type=Path if hidden != "--tool" else str, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        work(options.tool, options.file, options.cutoffs[0], options.report, options.values)
        return
    tools = [tool for tool in options.tools.split(",") if tool]
    if unknown := set(tools) - set(RIVALS):
        parser.error(f"--tools: unknown {', '.join(sorted(unknown))}; there are {', '.join(RIVALS)}")
    options.data = options.data.resolve()
    options.data.mkdir(parents=True, exist_ok=True)
    results = [result for tool in tools for result in measure(tool, options)]
    show(results)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
