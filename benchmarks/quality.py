"""How good are the models on real logs, beside what anyone would do without them? Writes ``docs/results.md``.

Run: ``make bench-quality``, or ``python benchmarks/quality.py [NAME ...] [--out FILE]``. Needs the real data sets
(``CXML_DATA``); where they are and what is in them stands in the comments of ``configs/*.yaml``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from cxml.config import load_config
from cxml.console import Voice
from cxml.evaluate.exam import MODEL, Exam
from cxml.files import write_aside
from cxml.project import Project
from cxml.times import format_instant
from cxml.training.learn import Trained, train
from cxml.training.studies import PARTS, Study, known_churn

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NAMES = ("bpic2012", "oulad", "online_retail", "olist", "sfo_airport", "sfo_overall")
REPLICATES = 1000

#: Why a model falls short where it does; read the outcome rates of the parts beside it.
WHY = {
    "online_retail": (
        "Customers of a gift wholesaler come back before Christmas. The test cutoff (1 October) opens the season that "
        "the log, one year long, shows only once and only there: the share that lapses for 60 days falls well below "
        "that of the training and calibration cutoffs. Calibrating on summer therefore puts every 60-day risk too high "
        "(see ece_60d), while the ranking holds (auroc_60d)."
    ),
    "oulad": (
        "Plain LightGBM is ahead at the longer horizons because it learns from the calibration snapshots as well, "
        "which are later presentations of the courses, nearer to those tested. Learning from the same rows it is "
        "behind (`make bench-models`)."
    ),
}

HEAD = """\
# Results on real logs

Made by `make bench-quality` ({command}); the data sets are described in the comments of `configs/*.yaml`.
Every row of a table is tested on the same snapshots, later in time than anything learned from. Intervals are 95 %
bootstrap intervals over customers ({replicates} replicates). Base rate, recency rule, last score rule, RFM logistic
regression and plain LightGBM (default parameters) learn from the training *and* the calibration snapshots; the model
keeps the latter for early stopping and calibration. `gain` is the model minus the baseline on the same rows (log loss
or RPS: below 0 the model is better), with its paired interval. Beside CatBoost, FLAML and others on the very same rows:
[docs/rivals.md](rivals.md).
"""


def main() -> None:
    """Train and test every named config and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args = parser.parse_args()
    voice = Voice()
    sections, shortfalls = [], []
    for name in args.names:
        voice.say(f"== {name}")
        section, missed = study(CONFIGS / f"{name}.yaml", voice)
        sections.append(section)
        shortfalls += [f"{name}, {line}" for line in missed]
    page = HEAD.format(
        command="`" + " ".join(["python benchmarks/quality.py", *args.names]) + "`", replicates=REPLICATES
    )
    page += "\n## In one line each\n\n" + (
        "The model beats every baseline on log loss or RPS on every log, beyond chance.\n"
        if not shortfalls
        else "The model is better than every baseline on log loss or RPS everywhere, beyond chance, except:\n\n"
        + "".join(f"- {line}\n" for line in shortfalls)
    )
    page += beside_others(args.out.with_name("rivals.md"))
    with write_aside(args.out) as aside:
        aside.write_text(page + "\n" + "\n".join(sections), encoding="utf-8")
    voice.result(f"written: {args.out}")


def beside_others(rivals: Path) -> str:
    """Give the table of the comparison with other learners, where that was made."""
    page = rivals.read_text(encoding="utf-8") if rivals.exists() else ""
    table, _, _ = page.partition("## In one table\n")[2].partition("\n### ")
    if not table:
        return ""
    return (
        "\n## Beside other learners, on the same rows and features\n\nSeparate LightGBM binaries, multiclass and "
        "regression, CatBoost, HistGradientBoosting, logistic regression and FLAML learn from the very same training "
        "rows; each is taken as it comes and calibrated, whichever is better. Size is the time of training over that "
        "of one LightGBM binary of as many trees and leaves. All of it: [docs/rivals.md](rivals.md).\n"
        + table.rstrip() + "\n"
    )  # fmt: skip


def study(config_file: Path, voice: Voice) -> tuple[str, list[str]]:
    """Train and test one config; return its section, and where the model did not clearly win."""
    config = load_config(config_file)
    project = Project(config)
    log = project.read(progress=voice)
    trained = train(log, config, project.leavers(), voice, replicates=REPLICATES)
    comment = [
        line[1:].strip() for line in config_file.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    ]
    lines = [f"## {config.name}", "", comment[0] if comment else "", "", *_paragraph(WHY.get(config.name))]
    lines += [f"{log.n_events:,} events of {log.n_customers:,} customers, {format_instant(log.first)[:10]} to "
              f"{format_instant(log.last)[:10]}; {len(trained.outlook.plan.columns)} features.", ""]  # fmt: skip
    missed = []
    for target, exam in trained.exams.items():
        lines += _rows(trained.outlook.studies[target], trained, project) + _table(exam) + _gains(exam)
        missed += [f"{target}: {line}" for line in _misses(exam)]
        voice.say(exam.verdict())
    return "\n".join(lines), missed


def _paragraph(text: str | None) -> list[str]:
    return [f"*Where it falls short, and why.* {text}", ""] if text else []


def _rows(study: Study, trained: Trained, project: Project) -> list[str]:
    lines = [f"### {study.target}", "", "| part | snapshots | customers | cutoffs | outcome |", "|---|---|---|---|---|"]
    for part in PARTS:
        rows = study.parts[part]
        span = f"{format_instant(rows.cutoff.min())[:10]} to {format_instant(rows.cutoff.max())[:10]}"
        if study.target == "churn":
            known = known_churn(study, part, project.config)
            settings = trained.model.settings["churn"]["horizons"]
            outcome = ", ".join(
                f"{h}: {np.nanmean(known[:, k]):.1%} of {int((~np.isnan(known[:, k])).sum()):,}"
                if (~np.isnan(known[:, k])).any() else f"{h}: not observed"
                for k, h in enumerate(settings)
            )  # fmt: skip
        else:
            outcome = f"mean score {rows.y.mean():.2f}"
        lines.append(f"| {part} | {len(rows):,} | {len(np.unique(rows.customer)):,} | {span} | {outcome} |")
    return [*lines, ""]


def _table(exam: Exam) -> list[str]:
    names = list(exam.scores)
    lines = [f"| metric | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for metric in exam.scores[MODEL]:
        cells = []
        for who in names:
            interval = exam.scores[who].get(metric)
            known = interval is not None and np.isfinite(interval.value)
            cells.append(f"{interval.value:.4f} ({interval.low:.4f}..{interval.high:.4f})" if known else "-")
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return [*lines, ""]


def _gains(exam: Exam) -> list[str]:
    lines = ["| gain over | metric | difference |", "|---|---|---|"]
    for who, gains in exam.gains.items():
        for metric, gain in gains.items():
            lines.append(f"| {who} | {metric} | {gain.value:+.4f} ({gain.low:+.4f}..{gain.high:+.4f}) |")
    return [*lines, ""]


def _misses(exam: Exam) -> list[str]:
    return [
        f"{metric} against the {who} differs by {gain.value:+.4f} ({gain.low:+.4f}..{gain.high:+.4f})"
        for who, gains in exam.gains.items()
        for metric, gain in gains.items()
        if gain.high >= 0
    ]


if __name__ == "__main__":
    sys.exit(main())
