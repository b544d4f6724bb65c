"""The commands: each a few calls of `cxml.project.Project`."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxml.console import Voice
from cxml.errors import ConfigError, CxmlError, DataError

if TYPE_CHECKING:
    from cxml.project import Project

app = typer.Typer(
    name="cxml",
    help="Customer experience as machine learning: who is about to leave, how satisfied each customer is, and why.",
    epilog="Start with: cxml demo. Then on your own data: cxml init DATA, cxml check, cxml train, cxml score. "
    "With --debug, anywhere in the line, an error shows where it came from.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Project file (YAML); `cxml init DATA` writes one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]
AsOfOption = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="Stamps after this are errors of the feed. Default: now.", show_default=False),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Default: all cores.", show_default=False)]
EngineOption = Annotated[
    Literal["local", "spark"], typer.Option(help="Where to compute: on this machine, or on Spark (docs/spark.md).")
]
MasterOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="With --engine spark: where Spark runs. Default: what spark-submit says, else local[*].",
        show_default=False,
    ),
]
EventsOption = Annotated[
    str | None,
    typer.Option(
        metavar="TABLE",
        help="With --engine spark: a table of Spark's to read instead of the sources; its columns are called as in the "
        "first of them.",
        show_default=False,
    ),
]


def _open(config: Path, as_of: str | None = None) -> Project:
    import datetime as dt

    from cxml.project import Project
    from cxml.times import parse_instant

    try:
        moment = parse_instant(as_of or dt.datetime.now(dt.UTC))
    except ValueError as error:
        raise ConfigError(f"--as-of: {error}") from None
    return Project.from_file(config, as_of=moment)


def _refuse_options(engine: str, only_here: Mapping[str, Any], only_spark: Mapping[str, Any]) -> None:
    """Refuse options that another engine has."""
    for name, value in (only_here if engine == "spark" else only_spark).items():
        if value not in (None, False):
            other = "is for one machine; Spark has no use for it" if engine == "spark" else "needs --engine spark"
            raise ConfigError(f"{name} {other}. Leave it out, or change --engine.")


def _print_json(result: Any) -> None:
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False, default=str))


@app.command()
def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A file of events: Parquet, CSV or JSON Lines.")],
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: NAME.yaml beside you.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a data file and propose a project file, with its columns and touchpoints guessed.

    Example: `cxml init events.csv`
    """
    from cxml.files import write_aside
    from cxml.journeys.propose import propose_project

    name, text = propose_project(data, out)
    target = out or Path(f"{name}.yaml")
    if target.exists() and not force:
        raise ConfigError(f"'{target}' exists already; name another with --out, or write over it with --force")
    with write_aside(target) as aside:
        aside.write_text(text, encoding="utf-8")
    if as_json:
        _print_json({"config": str(target)})
        return
    voice = Voice()
    voice.result(text)
    voice.say(f"Written to {target}. Read it through, then: cxml check {target}")


@app.command()
def check(
    config: ConfigArgument,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="Prove on your data that no feature sees at or past its cutoff.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report and the quarantine. Default: out/NAME.")
    ] = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check the project file and the data; write the data-quality report and the quarantine.

    Exit code 1: a feature sees past its cutoff. 3: training would refuse these data, and the report says why.

    Example: `cxml check telecom.yaml --leakage`
    """
    voice = Voice(quiet)
    result = _open(config, as_of).check(leakage=leakage, out=out, progress=voice)
    if as_json:
        _print_json(result.to_dict())
    else:
        for line in result.lines():
            voice.result(line)
    if result.leaks:
        raise typer.Exit(1)
    if result.refusals:
        raise typer.Exit(DataError.exit_code)


@app.command("define-churn")
def define_churn(
    config: ConfigArgument,
    gap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DURATION", help="A gap to try; repeat for more. Default: round ones.", show_default=False
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Back means within so long after having been called gone. Default: a quarter of the log, up to 365d.",
            show_default=False,
        ),
    ] = None,
    tolerate: Annotated[
        float, typer.Option(metavar="SHARE", help="How many of those called gone may come back, 0 to 1.")
    ] = 0.2,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Read the log as if it ended here. Default: its end.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet or CSV file of the table.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG or SVG file of the picture.", show_default=False)
    ] = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how long a customer must be silent to be called gone, where nobody says good-bye.

    For each gap of silence: how many of those called gone come back, and how many are gone who are not called so yet.
    Compares one gap for all with each customer's own rhythm, asks whether the gap moves over time, and recommends one
    with the lines for the project file. What counts as activity is `journeys.activity`. More: docs/define-churn.md.

    Example: `cxml define-churn shop.yaml --within 90d --plot gap.png`
    """
    voice = Voice(quiet)
    result = _open(config, as_of).define_churn(
        gaps=gap or [], within=within, tolerated=tolerate, until=until, out=out, plot=plot, progress=voice
    )
    if as_json:
        _print_json(result.to_dict())
        return
    for title, head, rows in result.tables():
        voice.table(title, head, rows)
        voice.result("")
    for line in result.lines():
        voice.result(line)
    for path in filter(None, (out, plot)):
        voice.result(f"written: {path}")


@app.command()
def features(
    config: ConfigArgument,
    cutoff: Annotated[list[str], typer.Option(metavar="DATE", help="Repeat for several.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Parquet or CSV file to write; with --engine spark also a folder, which workers write."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Write the features of this model: folder, runs:/ID/model or models:/NAME@ALIAS. Default: choose and "
            "learn them from what was known before the earliest cutoff.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
    events: EventsOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the feature frame: customer_id, cutoff, then one column a feature.

    Example: `cxml features telecom.yaml --cutoff 2024-10-01 --out features.parquet`
    """
    _refuse_options(engine, {}, {"--master": master, "--events": events})
    voice = Voice(quiet)
    project = _open(config, as_of)
    if engine == "local":
        n_rows, names = project.write_features(cutoff, out, model=model, progress=voice)
    elif model is None:
        raise ConfigError("--engine spark computes the features of a model: name one with --model")
    else:
        n_rows, names = project.write_features_on_spark(
            cutoff, out, model=model, events=events, master=master, progress=voice
        )
    if as_json:
        _print_json({"out": str(out), "rows": n_rows, "features": names})
    else:
        voice.result(f"{n_rows:,} rows x {len(names)} features -> {out}")


@app.command()
def train(
    config: ConfigArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Model folder. Default: models/NAME.", show_default=False)
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Record the run in MLflow.")] = True,
    tune: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="First search for better parameters, in N trials on earlier folds; broken off, the same line goes on.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Fail, and keep the model that was there, where the new one does not beat every baseline."
        ),
    ] = False,
    engine: EngineOption = "local",
    master: MasterOption = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --engine spark: a folder or URI that driver and workers share, for what is on its way. Default: "
            "the folder that the model folder is in.",
            show_default=False,
        ),
    ] = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn from the past, test on the latest cutoffs, log to MLflow, save the model folder.

    Example: `cxml train telecom.yaml --out models/telecom`
    """
    _refuse_options(engine, {}, {"--master": master, "--parts": parts})
    voice = Voice(quiet)
    result = _open(config, as_of).train(
        out=out, track=track, tune=tune, strict=strict, engine=engine, master=master, parts=parts, progress=voice
    )
    if as_json:
        _print_json(result.to_dict())
    else:
        for title, head, rows in result.tables():
            voice.table(title, head, rows)
            voice.result("")
        for line in result.lines():
            voice.result(line)
    for warning in result.warnings():
        voice.warn(warning)
    if result.refusal:
        voice.error(f"{result.refusal}. The model was not saved; without --strict it would be.")
        raise typer.Exit(1)


@app.command()
def backtest(
    config: ConfigArgument,
    folds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Default: as many as fit, at most 5.", show_default=False),
    ] = None,
    random_split: Annotated[
        bool,
        typer.Option("--random-split", help="Show by how much a random split, which knows the future, flatters."),
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Show the figures of its segments; repeat for more. Default: of all attributes.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Parquet or CSV file for every figure, one a row.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Picture of the metrics by fold: .png, .svg or .pdf.", show_default=False),
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Record the figures in MLflow.")] = True,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn and test as if on several days of the past, beside what anyone would do without a model.

    Each fold learns everything anew from what was known before it: features, trees, calibration, baselines. The last
    one is the test of `cxml train`. No model is saved. More: docs/backtest.md.

    Example: `cxml backtest telecom.yaml --out folds.parquet --plot folds.png`
    """
    voice = Voice(quiet)
    if random_split:
        voice.say("warning: a random split learns from the future of those it tests; its figures are shown to warn")
    result = _open(config, as_of).backtest(
        folds=folds, random_split=random_split, by=by or (), out=out, plot=plot, track=track, progress=voice
    )
    if as_json:
        _print_json(result.to_dict())
        return
    for title, head, rows in result.tables():
        voice.table(title, head, rows)
        voice.result("")
    for line in result.lines():
        voice.result(line)
    for path in filter(None, (out, plot)):
        voice.result(f"written: {path}")


PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="PNG, SVG or PDF file of the picture.", show_default=False)
]


@app.command("learning-curve")
def learning_curve(
    config: ConfigArgument,
    repeats: Annotated[int, typer.Option(min=1, help="How often a small share of the customers is drawn.")] = 3,
    plot: PlotOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what more customers would bring: learn from an eighth, a quarter, half and all of them, test on the same.

    A power law fitted to the losses says what twice the customers should bring, and what no amount of data would.
    More: docs/evaluation.md.

    Example: `cxml learning-curve telecom.yaml --plot curve.png`
    """
    voice = Voice(quiet)
    curves = _open(config, as_of).learning_curves(repeats=repeats, plot=plot, progress=voice)
    _show_curves(voice, curves, plot, as_json)


@app.command()
def history(
    config: ConfigArgument,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DURATION",
            show_default=False,
            help="A history to try; repeat for several. Default: 7d 30d 90d 180d 365d 730d.",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="SHARE", help="How much worse is still enough, as a share of the loss.")
    ] = 0.01,
    plot: PlotOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say how much history pays: learn and test as if events older than so many days had not been kept.

    Names the fewest days that, like all more, are as good as everything within the tolerance, beyond chance.
    More: docs/evaluation.md.

    Example: `cxml history telecom.yaml --keep 30d --keep 90d --keep 365d`
    """
    voice = Voice(quiet)
    curves = _open(config, as_of).history_curves(keep=keep or (), tolerance=tolerance, plot=plot, progress=voice)
    _show_curves(voice, curves, plot, as_json)


def _show_curves(voice: Voice, curves: Sequence[Any], plot: Path | None, as_json: bool) -> None:
    if as_json:
        _print_json([curve.to_dict() for curve in curves])
        return
    for curve in curves:
        voice.table(*curve.table())
        voice.result("")
    for curve in curves:
        for line in curve.lines():
            voice.result(line)
    if plot is not None:
        voice.result(f"written: {plot}")


TableOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Table of the database, or SCHEMA.TABLE.", show_default=False),
]


@app.command()
def score(
    config: ConfigArgument,
    model: Annotated[str, typer.Option(metavar="REF", help="Folder, runs:/ID/model or models:/NAME@ALIAS.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE|URL",
            help="Parquet or CSV file to write, or a database (postgresql://user:${PASSWORD}@host/name) with --table; "
            "with --engine spark also a folder, which workers write.",
        ),
    ],
    cutoff: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Only events before it count. Default: snapshots.end, else just after the last event; with surveys "
            "and no churn, when each customer was last asked.",
            show_default=False,
        ),
    ] = None,
    table: TableOption = None,
    reasons: Annotated[int, typer.Option(min=0, max=10, help="Reasons a customer; 0 is fastest.")] = 3,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Score only this share of the customers, such as 2/5, into a file of its own; cxml merge puts the "
            "shards together.",
            show_default=False,
        ),
    ] = None,
    only_changed: Annotated[
        bool,
        typer.Option(
            "--only-changed",
            help="Write only rows that differ from those of --since, with a column change: new, changed or gone. "
            "Everyone is scored all the same, as windows move with the cutoff; what is saved is what is sent on.",
        ),
    ] = False,
    since: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Parquet file of an earlier run, for --only-changed.", show_default=False),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, also where a job that was killed left finished parts.")
    ] = False,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="About how much memory the journeys may take, such as 2GB. Default: journeys.memory_limit.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "local",
    master: MasterOption = None,
    events: EventsOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score every customer known before the cutoff who has not left.

    Goes part by part. Should the job be killed, the same line goes on where it was, from the parts that lie beside the
    output until it is done. The output is written whole or not at all; a database gets all rows in one transaction,
    each customer and cutoff once. Exit code 3: the data are refused, also for more bad rows than
    `journeys.max_quarantined` allows.

    Example: `cxml score telecom.yaml --model models/telecom --cutoff 2024-12-31 --out scores.parquet`
    """
    if only_changed != (since is not None):
        raise ConfigError("--only-changed and --since RUN go together: name the scores of the earlier run")
    here = {"--shard": shard, "--fresh": fresh, "--memory-limit": memory_limit, "--threads": threads, "--since": since}
    _refuse_options(engine, here, {"--master": master, "--events": events})
    voice = Voice(quiet)
    project = _open(config, as_of)
    if engine == "spark":
        result = project.score_on_spark(
            model, cutoff=cutoff, out=out, table=table, events=events, reasons=reasons, master=master, progress=voice
        )
    else:
        result = project.score(
            model, cutoff=cutoff, out=out, table=table, reasons=reasons, shard=shard, since=since, fresh=fresh,
            memory_limit=memory_limit, threads=threads, progress=voice,
        )  # fmt: skip
    if as_json:
        _print_json(result.to_dict())
    else:
        for line in result.lines():
            voice.result(line)


@app.command()
def merge(
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Parquet or CSV file to write, or a database, as for cxml score.")
    ],
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="All the files of cxml score --shard I/N.")],
    table: TableOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put the shards of a batch together: the very file that one job for all customers writes.

    Refuses shards of different journeys, models, cutoffs or options, and tells which are missing.

    Example: `cxml merge scores.parquet shard-1.parquet shard-2.parquet`
    """
    from cxml.scoring.night import Destination, merge_shards

    voice = Voice(quiet)
    destination = Destination.of(out, table)
    summary = merge_shards(destination, shards, voice)
    if as_json:
        _print_json({"out": str(destination), "shards": len(shards), **summary.to_dict()})
        return
    for line in (f"{summary.n:,} customers of {len(shards)} shards", *summary.lines(), f"scores: {destination}"):
        voice.result(line)


@app.command()
def nps(
    config: ConfigArgument,
    model: Annotated[str, typer.Option(metavar="REF", help="Folder, runs:/ID/model or models:/NAME@ALIAS.")],
    by: Annotated[
        str | None,
        typer.Option(metavar="ATTRIBUTE", help="Figures of each of its values, such as plan.", show_default=False),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Figures over time: month, or a duration such as 30d.", show_default=False),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Answers of so long before count. Default: snapshots.lookback.",
            show_default=False,
        ),
    ] = None,
    cutoff: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Whose satisfaction: the customers of this moment. Default: snapshots.end, else just after the last "
            "event.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")] = 0.95,
    hidden: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Intervals of corrected figures allow for so much of what moves both feeling and answering to be in "
            "no feature.",
        ),
    ] = 0.05,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Intervals from so many draws of whole customers, e.g. 1000. Default: influence functions, which are "
            "quicker and say the same.",
            show_default=False,
        ),
    ] = None,
    ask: Annotated[
        int | None, typer.Option(min=1, help="Choose so many customers to ask next.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet or CSV file of the figures.", show_default=False)
    ] = None,
    ask_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet or CSV file of whom to ask.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG, SVG or PDF file of the picture.", show_default=False)
    ] = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Estimate the satisfaction of everybody, not only of those who answer surveys.

    Puts the mean of the answers beside two figures that correct it for silence, with intervals: answers weighted by
    1 / P(answered), and the doubly robust one. Says what a hidden reason for silence would do to them, how noisy
    answers are, and which customers are at risk, unhappy, or both. More: docs/satisfaction.md.

    Example: `cxml nps telecom.yaml --model models/telecom --by plan --every month --plot nps.png`
    """
    voice = Voice(quiet)
    result = _open(config, as_of).nps(
        model, cutoff=cutoff, window=window, every=every, by=by, level=level, hidden=hidden, bootstrap=bootstrap,
        ask=ask, out=out, ask_out=ask_out, plot=plot, progress=voice,
    )  # fmt: skip
    if as_json:
        _print_json(result.to_dict())
        return
    for title, head, rows in result.tables():
        voice.table(title, head, rows)
        voice.result("")
    for line in result.lines():
        voice.result(line)
    for path in filter(None, (out, ask_out, plot)):
        voice.result(f"written: {path}")


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for events, customers, truth and a project file.")],
    customers: Annotated[int, typer.Option(min=10, help="How many.")] = 10_000,
    days: Annotated[int, typer.Option(min=240, help="How long.")] = 540,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate customer journeys whose true churn, satisfaction and effects are known.

    Example: `cxml simulate --out simulated --customers 5000`
    """
    from cxml.demo import write_simulation
    from cxml.simulate import simulate as run

    voice = Voice(quiet)
    written = write_simulation(run(customers, n_days=days, random_state=seed, progress=voice), out)
    if as_json:
        _print_json({name: str(path) for name, path in written.items()})
    else:
        for name, path in written.items():
            voice.result(f"{name:10} {path}")
        voice.say(f"Next: cxml train {written['project']}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything it writes.")] = Path("out/demo"),
    customers: Annotated[int, typer.Option(min=500, help="How many simulated customers.")] = 4_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same journeys.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Do the main job end to end on simulated journeys, and tell what was found.

    Example: `cxml demo`
    """
    from cxml.demo import run_demo

    voice = Voice(quiet)
    result = run_demo(out, customers, seed, voice)
    if as_json:
        _print_json(result.to_dict())
        return
    for line in result.lines:
        voice.result(line)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it here instead of printing it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON anyway; taken for the sake of scripts.")] = False,  # noqa: ARG001
) -> None:
    """Print the JSON Schema of the project file, so that editors complete and check it.

    Example: `cxml schema --out cxml.schema.json`, then begin a project file with
    `# yaml-language-server: $schema=cxml.schema.json`
    """
    from cxml.config import json_schema
    from cxml.files import write_aside

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    with write_aside(out) as aside:
        aside.write_text(text, encoding="utf-8")


@app.command()
def version() -> None:
    """Print the version."""
    from cxml import __version__

    typer.echo(__version__)


_INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong usage or config, 3 data refused."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]  # accepted anywhere in the line
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("CXML_DEBUG"))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a nightly job has nobody to ask for consent
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is not there is so within a minute
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    # threads of LightGBM that wait would else keep processors from whoever they wait for
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    atexit.register(_leave_quickly)
    try:
        app(args=arguments, prog_name="cxml")
    except CxmlError as error:
        _fail(str(error), error.exit_code, debug)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:  # which Typer makes of Ctrl-C, without a word
            _fail("interrupted; nothing half-written is left behind", _INTERRUPTED, debug)
        raise
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}. Run again with --debug to see where.", 1, debug)


def _leave_quickly() -> None:
    """Let nobody look for garbage among all that was loaded: it takes the exit a fifth of a second."""
    if "duckdb" not in sys.modules:  # which counts what is left of it, and tells
        gc.freeze()


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    Voice().error(message)
    sys.exit(code)
