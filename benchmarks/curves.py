"""Compare what learning curves foretell with what twice the customers bring, and measure how much history logs need.

Run: ``python benchmarks/curves.py [NAME ...]``. The law is fitted to all sizes but the last, and foretells how far the
loss falls from half the customers to all of them, which is then measured on the same test. ``simulated-1`` is a log of
6,000 customers of the simulator with seed 1; the others are in ``configs/`` and need the real data (``CXML_DATA``).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from cxml.config import load_config
from cxml.demo import write_simulation
from cxml.evaluate.bootstrap import Interval
from cxml.project import Project
from cxml.simulate import simulate
from cxml.training.curves import fit_power_law, history_curves, learning_curves

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SIMULATED = "simulated-"
NAMES = ("simulated-1", "simulated-2", "simulated-3", "bpic2012", "sfo_airport")
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
CUSTOMERS = 6_000


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="logs; default: some")
    args = parser.parse_args()
    learned, kept = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names:
            project = _project(name, Path(folder))
            learned += [f"| {name} | {line} |" for line in foretold(project)]
            kept += [f"| {name} | {line} |" for line in needed(project)]
    head = "| log | target | customers | loss with half, all | foretold fall | measured fall |"
    print("\n".join([head, "|" + " --- |" * 6, *learned]))
    head = "\n| log | target | loss, all history | behind it with 30, 90, 365 days | enough |"
    print("\n".join([head, "|" + " --- |" * 5, *kept]))


def _project(name: str, folder: Path) -> Project:
    if not name.startswith(SIMULATED):
        return Project(load_config(CONFIGS / f"{name}.yaml"))
    seed = int(name.removeprefix(SIMULATED))
    shop = simulate(CUSTOMERS, random_state=seed, n_replays=2)
    return Project(load_config(write_simulation(shop, folder / name)["project"]))


def foretold(project: Project) -> list[str]:
    """Fit to all sizes but the last, and compare with the last."""
    lines = []
    for curve in learning_curves(project.read(), project.config, project.leavers(), shares=SHARES):
        *fewer, everybody = curve.points
        if len(fewer) < 3:
            continue
        half = fewer[-1]
        law = fit_power_law([point.given for point in fewer], [point.loss.value for point in fewer])
        fall = law.at(half.given) - law.at(everybody.given)
        losses = f"{half.loss.value:.5f}, {everybody.loss.value:.5f}"
        lines.append(f"{curve.target} | {everybody.given:,.0f} | {losses} | {fall:.5f} | {_interval(half.behind)}")
    return lines


def needed(project: Project) -> list[str]:
    """Measure short histories."""
    lines = []
    for curve in history_curves(project.read(), project.config, project.leavers(), days=[30, 90, 365]):
        *shorter, everything = curve.points
        if not shorter:
            continue  # the log does not reach back 30 days
        behind = ", ".join(f"{point.behind.value:+.5f}" for point in shorter)
        enough = "all" if curve.enough is None else f"{curve.enough:g} days"
        lines.append(f"{curve.target} | {everything.loss.value:.5f} | {behind} | {enough}")
    return lines


def _interval(found: Interval) -> str:
    return f"{found.value:.5f} ({found.low:.5f} to {found.high:.5f})"


if __name__ == "__main__":
    main()
