"""The nightly batch: raw events to a file of scores, beside its own features, and beside pandas with LightGBM.

On the file that ``benchmarks/features.py`` builds (10 M events of 200 k customers). Once, a model of both targets
(churn by inactivity at three horizons, NPS) is trained on a twentieth of the customers, with answers that can be
learned, and two LGBMClassifiers (gone within 60 days, detractor) on 106 columns written by hand in pandas. Then the
cases run in turn, each in a fresh process, from starting the interpreter to the file of scores; the events are in the
page cache, compiled code in its cache.

    python benchmarks/batch.py                                  # 10 M events, 200 k customers
    python benchmarks/batch.py --events 1000000 --customers 20000 --repeats 1
    python benchmarks/batch.py --large                          # 100 M events with memory_limit 1GB: time and memory
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import features as base

CUTOFF_US = base.START_US + base.SPAN_DAYS * base.DAY_US
LIMITS = {"score / features": "at most 2", "pandas / score": "more than 1", "pandas / reasons": "more than 1"}
WINDOWS_DAYS = (7, 30, 90, 365)
MEMORY_LIMIT, MOST_GB = "1GB", 2.0
SAMPLE = 20

PROJECT = """\
name: bench
journeys:
  sources:
    - {source}
  timezone: UTC
snapshots: {{every: 60d, lookback: 180d}}
churn: {{kind: inactivity, horizons: [30d, 60d, 90d]}}
satisfaction: {{kind: nps, touchpoint: survey_answer}}
"""
# the answers of the file are drawn by chance; those to learn from follow from the troubles of the 60 days before
LEARNABLE = f"""
select * exclude (troubles) replace (
    case when score is not null
    then greatest(0, 10 - troubles - (hash(customer_id, timestamp) % 3)::double) end as score
)
from (
    select *, count(*) filter (touchpoint in ('call', 'complaint', 'outage', 'refund', 'login_failed')) over (
        partition by customer_id order by timestamp range between interval 60 days preceding and current row
    ) as troubles
    from events where customer_id % {SAMPLE} = 0
)"""


def write_project(file: Path, folder: Path, *, to_train: bool = False) -> Path:
    """Write a project file over the events, or over those to learn from."""
    path = folder / ("train.yaml" if to_train else "score.yaml")
    if to_train:
        source = json.dumps({"tables": {"events": str(file.resolve())}, "query": LEARNABLE})
    else:
        source = json.dumps({"path": str(file.resolve())})
    path.write_text(PROJECT.format(source=source))
    return path


def prepare(file: Path, folder: Path) -> None:
    """Train what the cases score with, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_project(file, folder)
    if not (folder / "model" / "model.json").exists():
        from cxml import Project

        print("training the model of cxml")
        project = Project.from_file(write_project(file, folder, to_train=True))
        project.train(out=folder / "model", track=False)
    if not (folder / "gone.joblib").exists():
        print("training the models of pandas and LightGBM")
        train_by_hand(file, folder)


def run_score(file: Path, folder: Path, reasons: int, memory_limit: str | None = None) -> None:
    """Score everyone as ``cxml score`` does."""
    from cxml import Project

    project = Project.from_file(write_project(file, folder), as_of=None)
    result = project.score(
        folder / "model", cutoff=CUTOFF_US, out=folder / "scores.parquet", reasons=reasons, memory_limit=memory_limit
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"rows": result.summary.n, "peak_gb": round(peak, 3)}))


def by_hand(events: Any, cutoff_us: int) -> Any:
    """Make the features that one writes down in pandas: counts by touchpoint, amounts, recency, tenure."""
    import pandas as pd

    cutoff = pd.Timestamp(cutoff_us, unit="us", tz="UTC")
    events = events[events["timestamp"] < cutoff]
    grouped = events.groupby("customer_id")["timestamp"]
    first, last = grouped.min(), grouped.max()
    columns = {"tenure": (cutoff - first).dt.days, "recency": (cutoff - last).dt.total_seconds() / 86_400}
    frames = [pd.DataFrame(columns)]
    for days in WINDOWS_DAYS:
        recent = events[events["timestamp"] >= cutoff - pd.Timedelta(days=days)]
        counts = recent.groupby(["customer_id", "touchpoint"], observed=False).size().unstack(fill_value=0)
        counts.columns = [f"{name}_{days}" for name in counts.columns]
        amounts = recent.groupby("customer_id")[["value", "duration", "score"]].agg(["sum", "mean"])
        amounts.columns = [f"{name}_{what}_{days}" for name, what in amounts.columns]
        frames += [counts, amounts]
    return pd.concat(frames, axis=1)


def read_by_hand(file: Path, filters: Any = None) -> Any:
    """Read the events into pandas."""
    import pandas as pd

    return pd.read_parquet(file, filters=filters)


def train_by_hand(file: Path, folder: Path) -> None:
    """Fit the two classifiers on some customers at a cutoff 90 days before the end."""
    import joblib
    import pandas as pd
    from lightgbm import LGBMClassifier

    events = read_by_hand(file)
    events = events[events["customer_id"] % SAMPLE == 0]
    cutoff_us = CUTOFF_US - 90 * base.DAY_US
    cutoff = pd.Timestamp(cutoff_us, unit="us", tz="UTC")
    frame = by_hand(events, cutoff_us)
    after = events[events["timestamp"] >= cutoff]
    back = after[after["timestamp"] < cutoff + pd.Timedelta(days=60)]["customer_id"].unique()
    answers = after[after["touchpoint"] == "survey_answer"].groupby("customer_id")["score"].first()
    joblib.dump(LGBMClassifier(verbose=-1).fit(frame, ~frame.index.isin(back)), folder / "gone.joblib")
    asked = frame.loc[frame.index.intersection(answers.index)]
    joblib.dump(LGBMClassifier(verbose=-1).fit(asked, answers.loc[asked.index] <= 6), folder / "detractor.joblib")


def run_pandas(file: Path, folder: Path) -> None:
    """Score everyone with pandas and two classifiers of 100 trees."""
    import joblib

    frame = by_hand(read_by_hand(file), CUTOFF_US)
    scores = frame[[]].copy()
    for name in ("gone", "detractor"):
        scores[name] = joblib.load(folder / f"{name}.joblib").predict_proba(frame)[:, 1]
    scores.to_parquet(folder / "pandas.parquet")
    print(json.dumps({"rows": len(scores), "columns": frame.shape[1]}))


CASES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "features": ("cxml, features at 1 cutoff", lambda file, _: base.run_cxml(file, 1)),
    "score": ("cxml, scores of both targets", lambda file, folder: run_score(file, folder, 0)),
    "reasons": ("cxml, scores with 3 reasons", lambda file, folder: run_score(file, folder, 3)),
    "pandas": ("pandas + 2 LGBMClassifier", run_pandas),
    "large": ("cxml, memory_limit 1GB", lambda file, folder: run_score(file, folder, 0, MEMORY_LIMIT)),
}


def in_fresh_process(case: str, file: Path, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Run a case and give its wall and processor time in seconds, and what it said."""
    command = [sys.executable, __file__, "--case", case, "--file", str(file), "--folder", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}, json.loads(done.stdout.splitlines()[-1])


def measure(file: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Run the cases in turn; give times, medians and ratios."""
    chosen = ["features", "score", "reasons", "pandas"]
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in chosen}
    said: dict[str, Any] = {}
    for case in chosen[:3]:  # files into memory, kernels into their cache
        in_fresh_process(case, file, folder)
    for _ in range(repeats):
        for case in chosen:
            times, said[case] = in_fresh_process(case, file, folder)
            runs[case].append(times)
    result: dict[str, Any] = {"runs": runs, "said": said, "median": {}, "ratios": {}}
    for clock in ("wall", "cpu"):
        median = {case: statistics.median(run[clock] for run in times) for case, times in runs.items()}
        result["median"][clock] = median
        pairs = [("score", "features"), ("reasons", "features"), ("pandas", "score"), ("pandas", "reasons")]
        result["ratios"][clock] = {f"{a} / {b}": median[a] / median[b] for a, b in pairs}
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\n{'whole process, median':32} {'rows':>9} {'wall s':>8} {'CPU s':>8}   all runs, wall s")
    for case, runs in result["runs"].items():
        wall, cpu = (result["median"][clock][case] for clock in ("wall", "cpu"))
        times = " ".join(f"{run['wall']:.2f}" for run in runs)
        print(f"{CASES[case][0]:32} {result['said'][case]['rows']:9,} {wall:8.2f} {cpu:8.2f}   {times}")
    print(f"\n{'ratio':32} {'wall':>8} {'CPU':>8}   wanted of wall")
    for name in result["ratios"]["wall"]:
        wall, cpu = (result["ratios"][clock][name] for clock in ("wall", "cpu"))
        print(f"{name:32} {wall:8.2f} {cpu:8.2f}   {LIMITS.get(name, '')}")


def measure_large(file: Path, folder: Path) -> None:
    """Tell the time and the memory of a log larger than the memory it may take."""
    times, said = in_fresh_process("large", file, folder)
    print(f"{CASES['large'][0]}: {said['rows']:,} customers scored in {times['wall']:.1f} s wall, {times['cpu']:.1f} s")
    print(f"CPU; at most {said['peak_gb']:.2f} GB of memory (wanted: at most {MOST_GB})")


def events_file(data: Path, n_events: int, n_customers: int) -> Path:
    """Give the file of events, built where it is not there."""
    file = data / f"journeys-{n_events}-{n_customers}.parquet"
    if not file.exists():
        print(f"building {file}")
        data.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part")
        (base.build if n_events <= 20_000_000 else base.build_in_pieces)(aside, n_events, n_customers)
        aside.rename(file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "cxml-bench", help="where to keep the events"
    )
    parser.add_argument(
        "--models", type=Path, help="where to keep models and scores; default: batch/ beside the events"
    )
    parser.add_argument("--large", action="store_true", help="only the 100 M events that are too many for memory")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        atexit.register(gc.freeze)  # as the command cxml does
        CASES[options.case][1](options.file, options.folder)
        return
    file = events_file(options.data, options.events, options.customers)
    folder = options.models or options.data / f"batch-{options.events}-{options.customers}"
    prepare(file, folder)
    if options.large:
        measure_large(events_file(options.data, 100_000_000, 2_000_000), folder)
        return
    result = measure(file, folder, options.repeats)
    result |= {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
