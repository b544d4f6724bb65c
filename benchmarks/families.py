"""What does each family of features add? The same splits with and without it, paired, on the real logs.

    python benchmarks/families.py                                   # every family beside basic, on every log
    python benchmarks/families.py bpic2012 --sets rhythm,trend all  # chosen logs and sets

Run by ``make bench-families``. A set is basic plus the named families; ``all`` is every one. Below 0 the set is better
than basic alone; the interval is a paired 95 % bootstrap over customers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cxml.config import ProjectConfig, load_config
from cxml.evaluate.exam import MODEL, Exam, examine_churn, examine_scores
from cxml.features.catalogue import FAMILIES
from cxml.models.outcomes import score_groups
from cxml.project import Project
from cxml.training.learn import Trained, train
from cxml.training.studies import known_churn

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NAMES = ("bpic2012", "oulad", "online_retail", "olist", "sfo_airport", "sfo_overall")
MORE = [name for name in FAMILIES if name != "basic"]
REPLICATES = 1000


def main() -> None:
    """Train every set on every log and print what it gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="logs; default: all")
    parser.add_argument("--sets", nargs="+", default=[*MORE, "all"], help="families, joined by commas, or all")
    args = parser.parse_args()
    print(f"{'log':14} {'set':28} {'columns':>7}  gain over basic alone (95 %)")
    for name in args.names:
        config = load_config(CONFIGS / f"{name}.yaml")
        project = Project(config)
        project.read()
        before = run(project, config, [])
        print(f"{name:14} {'basic':28} {len(before.outlook.plan.columns):7}  {score(before)}", flush=True)
        for chosen in args.sets:
            families = MORE if chosen == "all" else chosen.split(",")
            after = run(project, config, families)
            for target in after.exams:
                print(
                    f"{name:14} {chosen:28} {len(after.outlook.plan.columns):7}  {gain(target, after, before, config)}",
                    flush=True,
                )


def run(project: Project, config: ProjectConfig, families: list[str]) -> Trained:
    """Train with basic and the families."""
    wanted = config.features.model_copy(update={"families": ["basic", *families]})
    return train(project.read(), config.model_copy(update={"features": wanted}), project.leavers(), replicates=2)


def score(trained: Trained) -> str:
    """Tell the deciding metrics of a model."""
    flat = {name: value for exam in trained.exams.values() for name, value in exam.flat().items()}
    return "  ".join(f"{name} {value:.4f}" for name, value in flat.items() if name.startswith(("log_loss", "rps")))


def gain(target: str, after: Trained, before: Trained, config: ProjectConfig) -> str:
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
    return "  ".join(
        f"{metric} {g.value:+.4f} ({g.low:+.4f}..{g.high:+.4f}){'*' if g.high < 0 or g.low > 0 else ' '}"
        for metric, g in exam.gains["basic"].items()
    )


if __name__ == "__main__":
    main()
