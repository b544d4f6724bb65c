"""Feature speed: cxml beside a DuckDB scan and Polars expressions, every case in a fresh process.

Builds once a Parquet file of journeys (sorted by time, as an event log is), then runs the cases in turn, several
times over, and prints the median wall time of the whole process: interpreter, imports, reading with all checks,
features. The file is in memory and the compiled kernel in its cache on disk, as on any but the first run of a machine.
cxml goes the way of the batch job: journeys, plan, kernel; scikit-learn is not imported.

    python benchmarks/features.py                          # 10 M events, 200 k customers
    python benchmarks/features.py --events 1000000 --customers 20000 --repeats 1
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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

DAY_US = 86_400_000_000
SPAN_DAYS = 730
START_US = 1_640_995_200_000_000  # 2022-01-01
CUSTOMERS_AT_A_TIME = 1024
WINDOWS = ("7d", "30d", "90d", "365d")
TOLERANCE = 1e-6
LIMITS = {"one / floor": "at most 3.5", "twelve / floor": "at most 5", "polars / twelve": "at least 8"}

TOUCHPOINTS = (
    "page_view", "app_open", "search", "email_open", "add_to_cart", "purchase", "invoice", "payment", "delivery",
    "call", "chat", "complaint", "refund", "return", "survey_answer", "login_failed", "outage", "plan_change",
    "store_visit", "referral",
)  # fmt: skip
CHANNELS = ("app", "email", "phone", "store", "web")
MEASURED = {
    "value": ("purchase", "invoice", "payment", "refund"),
    "duration": ("page_view", "app_open", "call", "chat"),
}


def build(file: Path, n_events: int, n_customers: int, seed: int = 0) -> None:
    """Write journeys of skewed activity: few customers do much, touchpoints follow Zipf, people come and go."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    activity = rng.gamma(0.7, 1.0, n_customers)
    customer = rng.choice(n_customers, n_events, p=activity / activity.sum())
    born = rng.uniform(-0.5, 0.8, n_customers).clip(0) * SPAN_DAYS * DAY_US
    stays = rng.exponential(2.0, n_customers) * SPAN_DAYS * DAY_US
    until = np.minimum(born + stays, SPAN_DAYS * DAY_US)
    moment = START_US + (born[customer] + rng.random(n_events) * (until - born)[customer]).astype(np.int64)
    order = np.argsort(moment)
    weights = 1 / np.arange(1, len(TOUCHPOINTS) + 1)
    touchpoint = rng.choice(len(TOUCHPOINTS), n_events, p=weights / weights.sum()).astype(np.int32)
    channel = np.where(rng.random(n_events) < 0.05, -1, rng.integers(0, len(CHANNELS), n_events)).astype(np.int32)
    amounts = {
        "value": rng.lognormal(3, 1, n_events).round(2),
        "duration": rng.exponential(300, n_events).round(1),
        "score": rng.integers(0, 11, n_events).astype(np.float64),
    }
    measured = {**MEASURED, "score": ("survey_answer",)}
    columns = {
        "customer_id": pa.array(customer[order]),
        "timestamp": pa.array(moment[order], pa.timestamp("us", "UTC")),
        "touchpoint": pa.DictionaryArray.from_arrays(touchpoint[order], list(TOUCHPOINTS)),
        "channel": pa.DictionaryArray.from_arrays(pa.array(channel[order], mask=channel[order] < 0), list(CHANNELS)),
    }
    for name, values in amounts.items():
        absent = ~np.isin(touchpoint, [TOUCHPOINTS.index(t) for t in measured[name]])
        columns[name] = pa.array(values[order], mask=absent[order])
    pq.write_table(pa.table(columns), file, row_group_size=1_000_000)


def build_in_pieces(file: Path, n_events: int, n_customers: int, n_pieces: int = 20, seed: int = 0) -> None:
    """Write as `build` does, a stretch of time after the other, so that only one is ever in memory."""
    import pyarrow.parquet as pq

    piece, start, span = file.with_suffix(".piece"), START_US, SPAN_DAYS / n_pieces * DAY_US
    writer = None
    for i in range(n_pieces):
        build(piece, n_events // n_pieces, n_customers, seed + i)
        for batch in pq.ParquetFile(piece).iter_batches(1_000_000):
            moment = batch.column("timestamp").cast("int64").to_numpy()
            squeezed = start + ((moment - start) / n_pieces + i * span).astype(np.int64)
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["timestamp"] = pa_stamps(squeezed)
            writer = writer or pq.ParquetWriter(file, batch.schema)
            writer.write_batch(batch.from_pydict(columns, schema=batch.schema))
    piece.unlink()
    if writer is not None:
        writer.close()


def pa_stamps(moments: Any) -> Any:
    """Give UTC microseconds as Arrow stamps."""
    import pyarrow as pa

    return pa.array(moments, pa.timestamp("us", "UTC"))


def cutoffs(n: int) -> list[int]:
    """Give ``n`` cutoffs 30 days apart; the last is the end of the data."""
    return [START_US + (SPAN_DAYS - 30 * back) * DAY_US for back in reversed(range(n))]


def run_floor(file: Path) -> None:
    """Scan and group three sums: what reading the file costs at the least."""
    import duckdb

    duckdb.sql(
        f"select customer_id, sum(value), sum(duration), sum(score) from '{file}' group by customer_id"
    ).fetchnumpy()


def run_cxml(file: Path, n_cutoffs: int, memory_limit: str | None = None) -> None:
    """Read, check, learn the plan, and compute all rows, some hundred customers at a time."""
    plan, counts = feed_cxml(file, cutoffs(n_cutoffs), lambda _customers, matrix: len(matrix), memory_limit)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"rows": sum(counts), "columns": len(plan.columns), "peak_gb": round(peak, 3)}))


def feed_cxml(
    file: Path, at: list[int], take: Callable[[Any, Any], T], memory_limit: str | None = None
) -> tuple[Any, list[T]]:
    """Hand the ids of some customers and their rows to ``take``, again and again, in buffers that are used again."""
    from cxml import read_journeys
    from cxml.features.ahead import load_features

    clock = Clock("imports")
    log = read_journeys(file, memory_limit=memory_limit, meanwhile=load_features)  # as `Project.read` does
    clock.lap("read_journeys")
    from cxml.features.learn import Choice, learn_plan
    from cxml.features.matrix import fill_matrix
    from cxml.journeys.block import slice_block

    plan = learn_plan(log, Choice(WINDOWS))
    clock.lap("learn_plan")
    own = threading.local()

    def work(block: Any) -> list[T]:
        if not hasattr(own, "buffer"):
            own.buffer = np.empty((CUSTOMERS_AT_A_TIME * len(at), len(plan.columns)), np.float32)
        taken = []
        for first in range(0, block.n_customers, CUSTOMERS_AT_A_TIME):
            part = slice_block(block, first, min(first + CUSTOMERS_AT_A_TIME, block.n_customers))
            row_starts = np.arange(part.n_customers + 1, dtype=np.int64) * len(at)
            matrix = fill_matrix(plan, part, row_starts, np.tile(at, part.n_customers), threads=1, out=own.buffer)
            taken.append(take(part.customers, matrix))
        return taken

    result = [one for taken in log.map_blocks(work) for one in taken]
    clock.lap("features")
    return plan, result


class Clock:
    """Tells on stderr how long the parts of a case took, where CXML_BENCH_LAPS is set."""

    def __init__(self, what: str) -> None:
        self.last, self.used = time.perf_counter(), 0.0
        self.lap(what)

    def lap(self, what: str) -> None:
        """Tell how long it was since the last lap."""
        now, used = time.perf_counter(), time.process_time()
        if os.environ.get("CXML_BENCH_LAPS"):
            print(f"    {what}: {now - self.last:.2f} s wall, {used - self.used:.2f} s CPU", file=sys.stderr)
        self.last, self.used = now, used


def run_polars(file: Path, n_cutoffs: int) -> None:
    """Ask the same columns of Polars, one lazy query for each cutoff."""
    for cutoff in cutoffs(n_cutoffs):
        polars_frame(file, cutoff)


def polars_frame(file: Path, cutoff: int) -> Any:
    """Compute the columns of `default_spec` at one cutoff, for customers seen before it.

    Texts become small numbers and windows one number per event (the narrowest that holds it), so that the many
    expressions compare bytes; written straight down, over texts and times, it takes a third longer.
    """
    import polars as pl

    from cxml.features.spec import default_spec

    spec = default_spec(
        {"touchpoint": sorted(TOUCHPOINTS), "channel": CHANNELS}, ["value", "duration", "score"], WINDOWS
    )
    widths = sorted({a.width_us for a in spec if a.window})
    time = pl.col("timestamp").dt.epoch("us")
    events = pl.scan_parquet(file).filter(time < cutoff)
    events = events.select(
        "customer_id", "value", "duration", "score",
        time=time,
        day=(time // DAY_US).cast(pl.Int32),
        ring=pl.sum_horizontal((time < cutoff - width).cast(pl.UInt8) for width in widths).cast(pl.UInt8),
        touchpoint=pl.col("touchpoint").cast(pl.Enum(TOUCHPOINTS)).to_physical().cast(pl.Int8),
        channel=pl.col("channel").cast(pl.Enum(CHANNELS)).to_physical().cast(pl.Int8),
    )  # fmt: skip
    columns = (polars_column(a, cutoff, widths).alias(a.name) for a in spec)
    return events.group_by("customer_id").agg(*columns).collect()


def polars_column(aggregate: Any, cutoff: int, widths: list[int]) -> Any:
    """Write one column as an expression."""
    import polars as pl

    values = {"touchpoint": TOUCHPOINTS, "channel": CHANNELS}
    value = aggregate.value
    chosen = None if value is None else pl.col(aggregate.column) == values[aggregate.column].index(value)
    if aggregate.statistic == "tenure_days":
        return (cutoff - pl.col("time").min()) / DAY_US
    if aggregate.statistic == "days_since":
        times = pl.col("time") if chosen is None else pl.col("time").filter(chosen)
        return (cutoff - times.max()) / DAY_US
    inside = pl.col("ring") <= widths.index(aggregate.width_us)
    if aggregate.statistic == "distinct":
        return pl.col(aggregate.what).filter(inside).drop_nulls().n_unique()
    if aggregate.statistic == "active_days":
        return pl.col("day").filter(inside).n_unique()
    if aggregate.measure is None:
        return (inside if chosen is None else inside & chosen).sum()
    amounts = pl.col(aggregate.measure).filter(inside)
    if aggregate.statistic == "last":
        return amounts.drop_nulls().last()
    return getattr(amounts, aggregate.statistic)()


def verify(file: Path) -> None:
    """Compare every value of cxml and Polars at the first, a middle and the last of the twelve cutoffs."""
    import polars as pl

    from cxml import JourneyFeatures, read_journeys

    names = JourneyFeatures(windows=WINDOWS).fit(read_journeys(file)).plan_.columns
    worst = 0.0
    for cutoff in (cutoffs(12)[i] for i in (0, 5, 11)):
        theirs = polars_frame(file, cutoff).sort("customer_id")
        ids = theirs["customer_id"].to_numpy()
        matrix = theirs.select(pl.col(names).cast(pl.Float64)).to_numpy()

        def compare(customers: Any, ours: Any, ids: Any = ids, matrix: Any = matrix) -> tuple[int, float]:
            seen = ~np.isnan(ours[:, 0])
            there = matrix[np.searchsorted(ids, customers[seen])]
            if (np.isnan(there) != np.isnan(ours[seen])).any():
                raise SystemExit("cxml and Polars differ in what is missing")
            return int(seen.sum()), float(np.nanmax(np.abs(ours[seen] - there) / (1 + np.abs(there)), initial=0))

        _, found = feed_cxml(file, [cutoff], compare)
        n_rows = sum(n for n, _ in found)
        worst = max(worst, *(difference for _, difference in found))
        if n_rows != len(ids):
            raise SystemExit(f"cxml knows {n_rows} customers, Polars {len(ids)}")
    print(f"{worst:.2e}")
    if worst > TOLERANCE:
        raise SystemExit(f"cxml and Polars differ by {worst:.2e}")


CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "floor": ("DuckDB scan + GROUP BY of 3 sums", run_floor),
    "one": ("cxml, 1 cutoff", lambda file: run_cxml(file, 1)),
    "twelve": ("cxml, 12 cutoffs", lambda file: run_cxml(file, 12)),
    "large": ("cxml, 12 cutoffs, memory_limit 1GB", lambda file: run_cxml(file, 12, "1GB")),
    "polars": ("Polars, 12 cutoffs", lambda file: run_polars(file, 12)),
    "verify": ("values of cxml and Polars", verify),
}


def in_fresh_process(case: str, file: Path) -> tuple[dict[str, float], str]:
    """Run a case and give its wall and processor time in seconds and what it printed."""
    command = [sys.executable, __file__, "--case", case, "--file", str(file)]
    # Python compiles a module once and keeps it, unless it is told not to
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin, used = time.perf_counter(), _children_cpu()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return {"wall": time.perf_counter() - begin, "cpu": _children_cpu() - used}, done.stdout.strip()


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(file: Path, repeats: int, *, polars: bool) -> dict[str, Any]:
    """Run all cases in turn and give their times, medians and ratios."""
    chosen = ["floor", "one", "twelve", *(["polars"] if polars else [])]
    in_fresh_process("floor", file)  # the file into memory, the kernel into its cache
    in_fresh_process("one", file)
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in chosen}
    for _ in range(repeats):
        for case in chosen:
            runs[case].append(in_fresh_process(case, file)[0])
    result: dict[str, Any] = {"runs": runs, "median": {}, "ratios": {}}
    for clock in ("wall", "cpu"):
        median = {case: statistics.median(run[clock] for run in times) for case, times in runs.items()}
        result["median"][clock] = median
        pairs = [("one", "floor"), ("twelve", "floor"), *([("polars", "twelve")] if polars else [])]
        result["ratios"][clock] = {f"{a} / {b}": median[a] / median[b] for a, b in pairs}
    if polars:
        result["largest_difference"] = float(in_fresh_process("verify", file)[1])
    return result


def measure_large(data: Path, n_events: int = 100_000_000, n_customers: int = 2_000_000) -> None:
    """Tell the time and the memory that a log larger than the memory it may take costs."""
    file = data / f"journeys-{n_events}-{n_customers}.parquet"
    if not file.exists():
        print(f"building {file}")
        aside = file.with_suffix(".part")
        build_in_pieces(aside, n_events, n_customers)
        aside.rename(file)
    floor = in_fresh_process("floor", file)[0]
    times, said = in_fresh_process("large", file)
    result = json.loads(said)
    size, ratio = file.stat().st_size / 1e9, times["wall"] / floor["wall"]
    print(f"{n_events:,} events, {size:.2f} GB of Parquet; {CASES['large'][0]}")
    print(f"{result['rows']:,} rows of {result['columns']} columns; at most {result['peak_gb']:.2f} GB of memory")
    print(f"{times['wall']:.1f} s wall, {times['cpu']:.1f} s CPU; {ratio:.1f} times the floor ({floor['wall']:.1f} s)")


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\n{'whole process, median':36} {'wall s':>8} {'CPU s':>8}   all runs, wall s")
    for case, runs in result["runs"].items():
        wall, cpu = (result["median"][clock][case] for clock in ("wall", "cpu"))
        print(f"{CASES[case][0]:36} {wall:8.2f} {cpu:8.2f}   " + " ".join(f"{run['wall']:.2f}" for run in runs))
    print(f"\n{'ratio':36} {'wall':>8} {'CPU':>8}   wanted of wall")
    for name, limit in LIMITS.items():
        if name in result["ratios"]["wall"]:
            wall, cpu = (result["ratios"][clock][name] for clock in ("wall", "cpu"))
            print(f"{name:36} {wall:8.2f} {cpu:8.2f}   {limit}")
    if "largest_difference" in result:
        print(f"\nlargest difference from Polars, |a - b| / (1 + |b|): {result['largest_difference']:.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "cxml-bench", help="where to keep the file"
    )
    parser.add_argument("--no-polars", action="store_true", help="leave out the slowest case")
    parser.add_argument("--large", action="store_true", help="only the 100 M events that are too many for memory")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        if options.case != "floor":  # DuckDB counts what is left of it, and tells
            atexit.register(gc.freeze)  # as the command cxml does
        CASES[options.case][1](options.file)
        return
    options.data.mkdir(parents=True, exist_ok=True)
    if options.large:
        measure_large(options.data)
        return
    file = options.data / f"journeys-{options.events}-{options.customers}.parquet"
    if not file.exists():
        print(f"building {file}")
        aside = file.with_suffix(".part")
        build(aside, options.events, options.customers)
        aside.rename(file)
    result = measure(file, options.repeats, polars=not options.no_polars)
    result |= {
        "events": options.events, "customers": options.customers, "cores": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "machine": platform.machine(),
    }  # fmt: skip
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
