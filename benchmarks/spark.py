"""Spark beside one machine: the same scores of the same file, and how many events a core gets through.

Both score everyone at one cutoff, with a model of both targets and without reasons, from Parquet to scores in memory;
the answers must be the same bits. Spark runs in local mode on the same cores, and its first job, in which workers start
and load compiled code, is told apart: a cluster starts its workers once. Each case is timed several times, in turn.

    python benchmarks/spark.py                       # 10 M events, 200 k customers
    python benchmarks/spark.py --events 1000000 --customers 20000
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from features import build

from cxml.project import Project

PROJECT = """
name: bench
journeys:
  sources: [{file}]
  activity: [app_open, page_view, purchase]
churn: {{kind: inactivity, horizons: [30d, 60d, 90d]}}
satisfaction: {{kind: nps, touchpoint: survey_answer}}
snapshots: {{every: 60d, lookback: 180d}}
"""
CUTOFF = "2023-10-01"


def model_of(folder: Path) -> Path:
    """Train a model on a small file of the same kind; once."""
    model = folder / "spark-model"
    if not (model / "model.json").exists():
        file = folder / "spark-training.parquet"
        build(file, 300_000, 6_000, seed=1)
        project(folder, file).train(out=model, track=False)
    return model


def project(folder: Path, file: Path) -> Project:
    """Open a project about a file."""
    config = folder / f"{file.stem}.yaml"
    config.write_text(PROJECT.format(file=file))
    return Project.from_file(config)


def cpu_seconds() -> float:
    """Sum up what this process and all it started have used: Spark's Java and Python workers too (Linux)."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # ended in the meantime
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        used[int(stat.parent.name)] = sum(map(int, fields[11:15]))  # own, and that of ended children
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(used.get(pid, 0) for pid in ours) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Give wall and processor seconds, and what was made."""
    begin, used = time.perf_counter(), cpu_seconds()
    made = work()
    return (time.perf_counter() - begin, cpu_seconds() - used), made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--partitions", type=int)
    folder = Path(tempfile.gettempdir()) / "cxml-bench"
    parser.add_argument("--data", type=Path, default=folder, help="where to keep the file and the model")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    file = options.data / f"journeys-{options.events}-{options.customers}.parquet"
    if not file.exists():
        build(file, options.events, options.customers)
    model, cores = model_of(options.data), os.cpu_count() or 1

    from cxml.scoring.spark import open_spark

    def here() -> pa.Table:
        return project(options.data, file).score(model, cutoff=CUTOFF, reasons=0).table  # a new project reads anew

    def there() -> pa.Table:
        chosen = {"cutoff": CUTOFF, "reasons": 0, "partitions": options.partitions}
        return project(options.data, file).score_on_spark(model, **chosen).table

    start = time.perf_counter()
    with open_spark(f"local[{cores}]"):
        print(f"session of Spark: {time.perf_counter() - start:.1f} s")
        (wall, used), scores = timed(there)
        print(f"first job: {wall:.1f} s, {used:.1f} s CPU")
        here()
        times: dict[str, list[tuple[float, float]]] = {"one machine": [], "Spark": []}
        for _ in range(options.repeats):
            for name, work in (("one machine", here), ("Spark", there)):
                taken, made = timed(work)
                times[name].append(taken)
                assert made.equals(scores), "the scores differ"
    print(f"{options.events:,} events, {len(scores):,} customers scored, {cores} cores, load {os.getloadavg()[0]:.1f}")
    medians = {name: [statistics.median(each) for each in zip(*runs, strict=True)] for name, runs in times.items()}
    for name, (wall, used) in medians.items():
        runs = "  ".join(f"{a:.2f} ({b:.2f})" for a, b in times[name])
        print(f"{name:12} {wall:7.2f} s wall, {used:7.2f} s CPU, {options.events / used:11,.0f} events a CPU second")
        print(f"{'':12} all runs, wall (CPU): {runs}")
    wall, used = (a / b for a, b in zip(medians["one machine"], medians["Spark"], strict=True))
    print(f"throughput of Spark / one machine: {wall:.2f} by wall, {used:.2f} by CPU (wanted: at least 0.6)")


if __name__ == "__main__":
    main()
