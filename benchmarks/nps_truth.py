"""Expected NPS against the simulator's truth: how far off raw, weighted and doubly robust figures are, seed by seed.

    OMP_NUM_THREADS=1 python benchmarks/nps_truth.py --seeds 40 --customers 12000

Every seed is a world of its own; the truth is what everybody who is a customer at its last midnight would answer. The
file written beside holds one line a seed; seeds that are there already are not run again. Seeds 1 to 40 are for
figures that are shown to people: try changes out on others (``--first 101``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cxml.demo import write_simulation
from cxml.project import Project
from cxml.simulate import simulate
from cxml.times import Duration
from cxml.training.respond import expected_nps
from cxml.training.studies import plan_features

DAYS = 540


def measure(seed: int, customers: int, window: str, level: float) -> dict[str, Any]:
    """Simulate one world and compare its figures with its truth."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        world = simulate(customers, n_days=DAYS, random_state=seed, truth_at=_last_midnight(), n_replays=2)
        project = Project.from_file(write_simulation(world, folder)["project"])
        log = project.read(quarantine=Path(folder) / "quarantine.parquet")
        until = int(world.truth["cutoff"].iloc[0].as_unit("us").value // 1000)
        plan = plan_features(log, project.config, log.first + (until - log.first) * 6 // 10)
        found = expected_nps(log, project.config, plan, until=until, window=Duration.parse(window), level=level)
    truth = 100.0 * float((world.truth["p_promoter"] - world.truth["p_detractor"]).mean())
    figures = found.find("nps").figures
    row: dict[str, Any] = {"seed": seed, "truth": truth, "answers": figures.n_answers, "effective": figures.effective}
    row |= {name: list(getattr(figures, name)) for name in ("raw", "ipw", "dr")}
    return row | {"cpu_s": time.process_time() - started}


def _last_midnight() -> Any:
    import pandas as pd

    return pd.Timestamp("2023-07-01", tz="UTC") + pd.Timedelta(days=DAYS)


def summary(rows: list[dict[str, Any]], level: float) -> list[str]:
    """Put the seeds together in a Markdown table."""
    truth = np.array([row["truth"] for row in rows])
    lines = [
        f"{len(rows)} seeds, true NPS {truth.mean():.1f} (standard deviation {truth.std():.1f}), "
        f"{np.mean([row['answers'] for row in rows]):,.0f} answers each, "
        f"{np.mean([row['cpu_s'] for row in rows]):.0f} s of one core a world",
        "",
        "| figure | mean error (standard error) | root mean squared error | furthest off | within 3 points | "
        f"{level:.0%} intervals that cover | their width |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ("raw", "ipw", "dr"):
        value, low, high = np.array([row[name] for row in rows]).T
        error, covers = value - truth, (low <= truth) & (truth <= high)
        lines.append(
            f"| {name} | {error.mean():+.1f} ({error.std() / np.sqrt(len(error)):.1f}) | "
            f"{np.sqrt((error**2).mean()):.1f} | {abs(error).max():.1f} | {(abs(error) <= 3).mean():.0%} | "
            f"{covers.mean():.0%} | {(high - low).mean():.1f} |"
        )
    return lines


def main() -> None:
    """Run the seeds that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--customers", type=int, default=4000)
    parser.add_argument("--window", default="180d", help="answers of so long before count")
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--out", type=Path, help="default: out/benchmarks/nps_truth_CUSTOMERS_WINDOW.jsonl")
    asked = parser.parse_args()
    out = asked.out or Path("out/benchmarks") / f"nps_truth_{asked.customers}_{asked.window}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    seeds = range(asked.first, asked.first + asked.seeds)
    for seed in seeds:
        if all(row["seed"] != seed for row in rows):
            rows.append(measure(seed, asked.customers, asked.window, asked.level))
            with out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print("\n".join(summary([row for row in rows if row["seed"] in seeds], asked.level)))


if __name__ == "__main__":
    main()
