"""What does each family of features add? The same splits with and without it, paired. Writes ``docs/families.md``.

Run: ``make bench-families``, or ``python benchmarks/families.py [NAME ...] [--sets SET ...] [--out FILE]``. A set is
basic plus the named families, joined by commas; ``all`` is every one. ``simulated`` is a log of the simulator; the
others need the real data sets (``CXML_DATA``).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxml.config import ProjectConfig, load_config
from cxml.demo import write_simulation
from cxml.evaluate.exam import MODEL, Exam, examine_churn, examine_scores
from cxml.features.catalogue import FAMILIES
from cxml.files import write_aside
from cxml.models.outcomes import score_groups
from cxml.project import Project
from cxml.simulate import simulate
from cxml.training.learn import Trained, train
from cxml.training.studies import known_churn

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SIMULATED = "simulated"
NAMES = ("bpic2012", "oulad", "online_retail", "olist", "sfo_airport", "sfo_overall", SIMULATED)
MORE = [name for name in FAMILIES if name != "basic"]
REPLICATES = 1000
HEAD = """\
# What the families of features add

Made by `make bench-families` ({command}). Every set is trained like any model, on the same training, calibration and
test snapshots as `basic` alone; the figures are what it changes in log loss by horizon, or in RPS for scores, on the
same test rows (below 0 it is better), with a paired 95 % bootstrap interval over customers ({replicates} replicates).
**Bold** is beyond chance. A family that finds nothing to look at in a log is left out.
"""


def main() -> None:
    """Train every set on every log and write what it gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="logs; default: all")
    parser.add_argument("--sets", nargs="+", default=[*MORE, "all"], help="families, joined by commas, or all")
    parser.add_argument("--out", type=Path, default=Path("docs/families.md"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = HEAD.format(command=f"`python benchmarks/families.py {' '.join(args.names)}`", replicates=REPLICATES)
        for name in args.names:
            page += "\n" + "\n".join(study(name, _config(name, Path(folder)), args.sets)) + "\n"
    with write_aside(args.out) as aside:
        aside.write_text(page, encoding="utf-8")


def _config(name: str, folder: Path) -> ProjectConfig:
    if name != SIMULATED:
        return load_config(CONFIGS / f"{name}.yaml")
    return load_config(write_simulation(simulate(10_000, random_state=0, n_replays=2), folder)["project"])


def study(name: str, config: ProjectConfig, sets: Sequence[str]) -> list[str]:
    """Train every set on one log; return its section."""
    project = Project(config)
    project.read()
    before = run(project, config, [])
    metrics = {target: list(deciding(exam)) for target, exam in before.exams.items()}
    shown = [f"{target} {metric}" for target in metrics for metric in metrics[target]]
    values = [f"{value:.4f}" for exam in before.exams.values() for value in deciding(exam).values()]
    lines = [f"## {name}", "", f"| set | columns | {' | '.join(shown)} |", "|---" * (len(shown) + 2) + "|"]
    lines.append(f"| basic | {len(before.outlook.plan.columns)} | {' | '.join(values)} |")
    print(name, lines[-1], flush=True)
    for chosen in sets:
        after = run(project, config, MORE if chosen == "all" else chosen.split(","))
        if len(after.outlook.plan.columns) == len(before.outlook.plan.columns):
            continue  # the log holds nothing this family looks at
        gains = [cell for target in metrics for cell in gain(target, after, before, config)]
        lines.append(f"| {chosen} | {len(after.outlook.plan.columns)} | {' | '.join(gains)} |")
        print(name, lines[-1], flush=True)
    return lines


def run(project: Project, config: ProjectConfig, families: list[str]) -> Trained:
    """Train with basic and the families."""
    wanted = config.features.model_copy(update={"families": ["basic", *families]})
    return train(project.read(), config.model_copy(update={"features": wanted}), project.leavers(), replicates=2)


def deciding(exam: Exam) -> dict[str, float]:
    """Give the metrics that decide."""
    return {name: value for name, value in exam.flat().items() if name.startswith(("log_loss", "rps"))}


def gain(target: str, after: Trained, before: Trained, config: ProjectConfig) -> list[str]:
    """Compare two models on the same test rows."""
    study = after.outlook.studies[target]
    test = study.parts["test"]
    if not np.array_equal(test.customer, before.outlook.studies[target].parts["test"].customer):
        raise SystemExit("the test rows differ")
    both = {MODEL: after.predictions[target][MODEL], "basic": before.predictions[target][MODEL]}
    exam: Exam
    if target == "churn":
        horizons = after.model.settings["churn"]["horizons"]
        exam = examine_churn(known_churn(study, "test", config), both, horizons, test.customer, n=REPLICATES)
    else:
        assert config.satisfaction is not None
        lowest, highest = config.satisfaction.bounds
        groups = score_groups(config.satisfaction.kind, lowest, highest)
        exam = examine_scores(test.y, both, lowest, groups, test.customer, n=REPLICATES)
    return [
        f"{'**' if g.high < 0 or g.low > 0 else ''}{g.value:+.4f}{'**' if g.high < 0 or g.low > 0 else ''} "
        f"({g.low:+.4f}..{g.high:+.4f})"
        for g in exam.gains["basic"].values()
    ]


if __name__ == "__main__":
    main()
