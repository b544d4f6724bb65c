"""The models side by side with others that learn from the very same snapshots and features.

For every real project file, cxml gathers the rows and the features of training, calibration and test once; every rival
learns from the same training rows, stops early (or chooses its strength) on the same calibration rows where it can,
and is tested on the same test rows. CatBoost and FLAML get an environment of their own under ``--data`` (with uv where
it is found, with venv and pip where not; nothing of it is in the lock file). Each fit is a fresh process. What rivals
predicted is kept under ``--data`` and taken again for the very same rows, unless ``--fresh`` is given; cxml is always
fitted anew.

    python benchmarks/rivals_quality.py                              # all project files (needs CXML_DATA)
    python benchmarks/rivals_quality.py bpic2012 --automl-factor 20

The rivals, one model for each horizon of churn, one for the scores:

binaries
    LightGBM with the parameters of cxml, stopped early: one for each horizon; for scores one for each P(score <= k).
multiclass, regression
    The same for scores: classes, and the number itself (no distribution, so no RPS).
CatBoost, HistGradientBoosting
    Their own defaults, up to 1000 rounds, stopped early after 50.
logistic
    scikit-learn; medians for missing values, ranks as normal scores, one column a category; C of five by the loss on
    the calibration rows.
FLAML
    Its own choice of learners and parameters by the loss on the calibration rows, in ``--automl-factor`` times the time
    that cxml took (and no less than ``--automl-least`` seconds a model).

Churn is compared by the log loss, averaged over horizons, of the rows whose horizon was observed whole; scores by RPS
and MAE. cxml calibrates on the calibration rows; so that nobody wins by that alone, every rival is shown as it comes
and with logistic calibration on the same rows ("calibrated"). Differences are cxml minus rival, below 0 cxml is
better, with 95 % percentile bootstrap intervals over customers. A rival is ahead of cxml where the whole interval is
above 0. `size` is the time of cxml over that of one LightGBM binary with as many rows, rounds and leaves, both in
processor seconds of one process, the median of three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("bpic2012", "sfo_airport", "sfo_overall", "olist", "online_retail", "oulad")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
OTHERS = ("catboost==1.2.10", "flaml[automl]==2.7.0", "lightgbm==4.7.0", "scikit-learn==1.9.1")
OURS = "cxml"
ROUNDS, PATIENCE = 1000, 50

HEAD = """\
# The models beside others, on the same rows and features

Made by `make bench-models` (`python benchmarks/rivals_quality.py {names} --out docs/rivals.md`),
which says who takes part and how. Every row learns from the same training rows, stops early on the same calibration
rows where it can, and is tested on the same later rows; "calibrated" adds logistic calibration on the calibration
rows. `cxml minus it` is below 0 where cxml is better, with its paired 95 % bootstrap interval over customers
({replicates} replicates). FLAML has {factor:g} times the time of cxml. `Size` is
the time of cxml over that of one LightGBM binary with as many rows, rounds and leaves.

"""

# --- what runs in the fresh processes, where cxml may be missing: each gives P(threshold) for calibration and test rows


def fit_cxml(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """Fit as `cxml train` does."""
    from cxml.scoring.answer import churn_probability, score_distribution

    model = our_model(task)
    later = (task["X_calibration"], task["y_calibration"])
    model.fit(
        task["X_train"], task["y_train"], eval_set=later, calibration_set=later,
        categorical_feature=task["categorical"].tolist(),
    )  # fmt: skip
    task["rounds_run"], task["leaves"] = size(model)

    def predict(matrix: Any) -> Any:
        if task["target"] == "churn":
            return churn_probability(model.predictor_, str(task["kind"]), matrix)
        return score_distribution(model.predictor_, matrix)

    return predict(task["X_calibration"]), predict(task["X_test"])


def our_model(task: dict[str, Any]) -> Any:
    """Make the estimator that `cxml train` would."""
    from cxml.models.churn import ChurnModel
    from cxml.models.satisfaction import SatisfactionModel

    if task["target"] == "churn":
        kind = "inactivity" if task["kind"] == "inactivity" else "event"
        return ChurnModel(kind, task["horizons"].tolist(), n_jobs=task["threads"])
    return SatisfactionModel(tuple(task["scale"].tolist()), n_jobs=task["threads"])


def size(model: Any) -> tuple[int, int]:
    """Count the trees that were grown, those after the best round too, and the leaves that each may have."""
    from cxml.models.corrections import all_trees

    boosting = model.boosting_
    if getattr(model, "corrections", None) is None or len(boosting.eval_losses_) > 1:
        return len(boosting.eval_losses_), boosting.num_leaves
    growth = all_trees(boosting._lightgbm_parameters((1, 1)), ROUNDS, boosting.early_stopping_rounds)
    grown = sum(
        min(own.n_trees + growth.patience, ROUNDS) for own in boosting.predictor_.corrections if own is not None
    )
    return 1 + grown, growth.parameters["num_leaves"]


def beside_one_binary(task: dict[str, Any]) -> float:
    """Processor seconds of cxml over those of one LightGBM binary of equal size."""
    import lightgbm

    def one_binary() -> None:
        if task["target"] == "churn":
            y, later = (np.nan_to_num(task[f"known_{part}"][:, -1]) for part in ("train", "calibration"))
        else:
            middle = np.median(task["y_train"])
            y, later = (task[f"y_{part}"] >= middle for part in ("train", "calibration"))
        parameters = lgbm_parameters(task, len(y)) | {"n_estimators": task["rounds_run"], "num_leaves": task["leaves"]}
        lightgbm.LGBMClassifier(**parameters).fit(
            task["X_train"], y, eval_X=task["X_calibration"], eval_y=later, eval_metric="binary_logloss",
            categorical_feature=task["categorical"].tolist(),
        )  # fmt: skip

    ratios = []
    for _ in range(3):
        times = []
        for fit in (lambda: fit_cxml(task, 0.0), one_binary):
            begin = time.process_time()
            fit()
            times.append(time.process_time() - begin)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


# --- the rivals


def fit_binaries(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """One LightGBM binary for each threshold."""
    if task["target"] == "churn":
        return each_horizon(task, lgbm)
    below = {part: task[f"y_{part}"][:, None] <= np.arange(task["n_classes"] - 1) for part in ("train", "calibration")}
    cdf = each_horizon(task | {f"known_{part}": values.astype(float) for part, values in below.items()}, lgbm)
    return classes_of(cdf[0]), classes_of(cdf[1])


def fit_multiclass(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """One LightGBM of all classes."""
    return all_scores(task, lgbm)


def fit_regression(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """One LightGBM of the number."""
    import lightgbm

    model = lightgbm.LGBMRegressor(**lgbm_parameters(task, len(task["X_train"])))
    model.fit(
        task["X_train"], task["y_train"], eval_X=task["X_calibration"], eval_y=task["y_calibration"],
        eval_metric="l2", categorical_feature=task["categorical"].tolist(),
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    highest = task["n_classes"] - 1
    return tuple(np.clip(model.predict(task[f"X_{part}"]), 0, highest) for part in ("calibration", "test"))


def fit_catboost(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """CatBoost as it comes."""
    return thresholds(task, catboost)


def fit_hist(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """Histogram boosting of scikit-learn as it comes."""
    return thresholds(task, hist)


def fit_logistic(task: dict[str, Any], _budget: float) -> tuple[Any, Any]:
    """Logistic regression of prepared columns."""
    return thresholds(task, logistic)


def fit_flaml(task: dict[str, Any], budget: float) -> tuple[Any, Any]:
    """FLAML within a time."""
    n_models = task["known_train"].shape[1] if task["target"] == "churn" else 1
    return thresholds(task | {"seconds": max(budget / n_models, task["least"])}, flaml)


Learner = Callable[[dict[str, Any], Any, Any, Any, Any], Callable[[Any], Any]]


def thresholds(task: dict[str, Any], learner: Learner) -> tuple[Any, Any]:
    """Learn each horizon of churn, or all scores at once."""
    return (each_horizon if task["target"] == "churn" else all_scores)(task, learner)


def each_horizon(task: dict[str, Any], learner: Learner) -> tuple[Any, Any]:
    """Learn one binary for each column of what is known; a column with one outcome keeps its rate."""
    known, later = task["known_train"], task["known_calibration"]
    columns: list[tuple[Any, Any]] = []
    for k in range(known.shape[1]):
        use, use_later = ~np.isnan(known[:, k]), ~np.isnan(later[:, k])
        y, y_later = known[use, k].astype(int), later[use_later, k].astype(int)
        if len(np.unique(y)) < 2:
            rate = float(y.mean())
            columns.append(tuple(np.full(len(task[f"X_{part}"]), rate) for part in ("calibration", "test")))
            continue
        predict = learner(task, task["X_train"][use], y, task["X_calibration"][use_later], y_later)
        columns.append(tuple(predict(task[f"X_{part}"])[:, 1] for part in ("calibration", "test")))
    first, second = zip(*columns, strict=True)
    return np.column_stack(first), np.column_stack(second)


def all_scores(task: dict[str, Any], learner: Learner) -> tuple[Any, Any]:
    """Learn all classes at once; one that training lacks has probability 0."""
    present, y = np.unique(task["y_train"].astype(int), return_inverse=True)
    y_later = task["y_calibration"].astype(int)
    use_later = np.isin(y_later, present)
    predict = learner(
        task, task["X_train"], y, task["X_calibration"][use_later], np.searchsorted(present, y_later[use_later])
    )
    spread = []
    for part in ("calibration", "test"):
        full = np.zeros((len(task[f"X_{part}"]), task["n_classes"]))
        full[:, present] = predict(task[f"X_{part}"])
        spread.append(full)
    return spread[0], spread[1]


def classes_of(cdf: Any) -> Any:
    """Turn P(score <= k) into P(score = k); what crosses is lifted."""
    lifted = np.maximum.accumulate(np.clip(cdf, 0, 1), axis=1)
    return np.diff(lifted, axis=1, prepend=0.0, append=1.0)


def lgbm_parameters(task: dict[str, Any], n_rows: int) -> dict[str, Any]:
    """Give LightGBM the parameters of cxml."""
    return {
        "n_estimators": ROUNDS, "learning_rate": 0.05, "num_leaves": 15, "reg_lambda": 1.0,
        "colsample_bytree": 0.5 if task["target"] == "churn" else 0.8,
        "min_child_samples": int(np.clip(np.sqrt(n_rows), 5, 100)), "random_state": 0, "n_jobs": task["threads"],
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip


def lgbm(task: dict[str, Any], X: Any, y: Any, X_later: Any, y_later: Any) -> Callable[[Any], Any]:
    import lightgbm

    model = lightgbm.LGBMClassifier(**lgbm_parameters(task, len(X)))
    model.fit(
        X, y, eval_X=X_later, eval_y=y_later, eval_metric="multi_logloss" if y.max() > 1 else "binary_logloss",
        categorical_feature=task["categorical"].tolist(),
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    return model.predict_proba  # type: ignore[no-any-return]


def catboost(task: dict[str, Any], X: Any, y: Any, X_later: Any, y_later: Any) -> Callable[[Any], Any]:
    from catboost import CatBoostClassifier  # type: ignore[import-not-found]

    columns = task["categorical"].tolist()

    def frame(matrix: Any) -> Any:
        table = as_frame(matrix)
        for column in columns:
            table[column] = table[column].fillna(-1).astype(int)
        return table

    model = CatBoostClassifier(
        iterations=ROUNDS, early_stopping_rounds=PATIENCE, random_seed=0, thread_count=task["threads"], verbose=False,
        cat_features=columns, allow_writing_files=False,
    )  # fmt: skip
    model.fit(frame(X), y, eval_set=(frame(X_later), y_later))
    return lambda matrix: model.predict_proba(frame(matrix))


def hist(task: dict[str, Any], X: Any, y: Any, X_later: Any, y_later: Any) -> Callable[[Any], Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    kept = np.flatnonzero(~np.isnan(X).all(axis=0))  # a column of nothing is more than it can bin
    model = HistGradientBoostingClassifier(
        max_iter=ROUNDS, early_stopping=True, n_iter_no_change=PATIENCE, random_state=0,
        categorical_features=np.flatnonzero(np.isin(kept, task["categorical"])).tolist() or None,
    )  # fmt: skip
    model.fit(X[:, kept], y, X_val=X_later[:, kept], y_val=y_later)
    return lambda matrix: model.predict_proba(matrix[:, kept])


def logistic(task: dict[str, Any], X: Any, y: Any, X_later: Any, y_later: Any) -> Callable[[Any], Any]:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

    categories = task["categorical"].tolist()
    numbers = [i for i in range(X.shape[1]) if i not in set(categories) and not np.isnan(X[:, i]).all()]
    prepare = make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="median", add_indicator=True),
                QuantileTransformer(output_distribution="normal", n_quantiles=200, random_state=0),
                StandardScaler(),
            ),
            numbers,
        ),
        (make_pipeline(SimpleImputer(strategy="constant", fill_value=-1),
                       OneHotEncoder(handle_unknown="ignore", sparse_output=False)), categories),
    )  # fmt: skip
    Z, Z_later = prepare.fit_transform(X), prepare.transform(X_later)
    models = [LogisticRegression(C=c, max_iter=500).fit(Z, y) for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    best = min(models, key=lambda m: log_loss(y_later, m.predict_proba(Z_later), labels=np.unique(y)))
    return lambda matrix: best.predict_proba(prepare.transform(matrix))


def flaml(task: dict[str, Any], X: Any, y: Any, X_later: Any, y_later: Any) -> Callable[[Any], Any]:
    from flaml import AutoML  # type: ignore[import-not-found]

    columns = task["categorical"].tolist()

    def frame(matrix: Any) -> Any:
        table = as_frame(matrix).rename(columns="f{}".format)
        for column in columns:
            table[f"f{column}"] = table[f"f{column}"].fillna(-1).astype(int).astype("category")
        return table

    model = AutoML()
    model.fit(
        frame(X), y, X_val=frame(X_later), y_val=y_later, task="classification", metric="log_loss",
        time_budget=task["seconds"], eval_method="holdout", retrain_full=False, seed=0, n_jobs=task["threads"],
        verbose=0,
    )  # fmt: skip
    return lambda matrix: model.predict_proba(frame(matrix))


def as_frame(matrix: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(matrix)


# --- who takes part

WORKERS = {
    OURS: fit_cxml, "binaries": fit_binaries, "multiclass": fit_multiclass, "regression": fit_regression,
    "CatBoost": fit_catboost, "HistGradientBoosting": fit_hist, "logistic": fit_logistic, "FLAML": fit_flaml,
}  # fmt: skip
ELSEWHERE = ("CatBoost", "FLAML")
ONLY_SCORES = ("multiclass", "regression")


def work(who: str, file: Path, report: Path, budget: float) -> None:
    """Fit in this process; write what was predicted and what it took."""
    warnings.simplefilter("ignore")
    with np.load(file) as stored:
        task = {name: stored[name] if stored[name].ndim else stored[name].item() for name in stored.files}
    if who == OURS:
        fit_cxml(task | {"X_train": task["X_train"][:2000], "y_train": task["y_train"][:2000]}, 0.0)  # compiles
    begin, cpu = time.perf_counter(), time.process_time()
    calibration, test = WORKERS[who](task, budget)
    took = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    if who == OURS:
        took["size"] = beside_one_binary(task)
    np.savez(report, calibration=calibration, test=test, took=json.dumps(took))


# --- what runs here


def gather(name: str, folder: Path, options: argparse.Namespace) -> list[tuple[str, Path, Any]]:
    """Let cxml make rows and features of a project, one file a target: its name, the file, the test's customers."""
    from cxml.config import load_config
    from cxml.project import Project
    from cxml.training.studies import PARTS, known_churn, look_ahead

    config = load_config(CONFIGS / f"{name}.yaml")
    project = Project(config)
    outlook = look_ahead(project.read(), config, project.leavers())
    outlook.demand()
    tasks = []
    for target, study in outlook.studies.items():
        arrays: dict[str, Any] = {"target": target, "threads": options.threads, "least": options.automl_least}
        arrays["categorical"] = np.array([outlook.plan.columns.index(c) for c in outlook.plan.categorical], int)
        arrays |= {f"X_{part}": study.parts[part].X for part in PARTS}
        if target == "churn":
            assert config.churn is not None
            arrays |= {"kind": config.churn.kind, "horizons": np.array([str(h) for h in config.churn.horizons])}
            arrays |= {f"y_{part}": study.parts[part].y for part in PARTS}
            arrays |= {f"known_{part}": known_churn(study, part, config) for part in PARTS}
        else:
            assert config.satisfaction is not None
            lowest, highest = config.satisfaction.bounds
            arrays |= {"scale": np.array([0, highest - lowest]), "n_classes": highest - lowest + 1}
            arrays |= {f"y_{part}": study.parts[part].y - lowest for part in PARTS}
        file = folder / f"{name}-{target}.npz"
        np.savez(file, **arrays)
        tasks.append((target, file, study.parts["test"].customer))
    return tasks


def fit_all(target: str, file: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run everybody on one task; who fails is in the answer with the last line of the error."""
    from rivals import ToolError, call, make_named_environment

    found: dict[str, dict[str, Any]] = {}
    digest = task_digest(file, options)
    for who in [OURS, *(w for w in options.rivals if target != "churn" or w not in ONLY_SCORES)]:
        report = options.data / f"{who}-{digest}.npz"
        budget = options.automl_factor * found.get(OURS, {}).get("seconds", 0.0)
        if who != OURS and report.exists() and not options.fresh:
            found[who] = read_report(report)
            continue
        try:
            python = make_named_environment("models", OTHERS, options.data) if who in ELSEWHERE else sys.executable
            aside = file.with_name(f"{who}.npz")
            command = [str(python), __file__, "--worker", who, "--file", str(file), "--report", str(aside)]
            call([*command, "--budget", str(budget)], file.parent)
            shutil.move(aside, report)
        except ToolError as error:
            if who == OURS:
                raise SystemExit(f"cxml failed: {error}") from None
            found[who] = {"error": str(error)}
            continue
        found[who] = read_report(report)
        print(f"  {who}: {found[who]['seconds']:.1f} s", file=sys.stderr)
    return found


def task_digest(file: Path, options: argparse.Namespace) -> str:
    """Digest of all that a rival's predictions depend on: rows, packages, the code of rivals, the time of FLAML."""
    from importlib.metadata import version

    code = Path(__file__).read_text(encoding="utf-8").split("\n# --- ")[2]
    told = json.dumps([code, OTHERS, options.automl_factor, version("scikit-learn"), version("lightgbm")])
    return hashlib.sha256(file.read_bytes() + told.encode()).hexdigest()[:16]


def read_report(report: Path) -> dict[str, Any]:
    """Read what a fit predicted and took."""
    with np.load(report) as stored:
        return {"calibration": stored["calibration"], "test": stored["test"], **json.loads(str(stored["took"]))}


def mean_log_loss(known: Any, predicted: Any) -> Any:
    """Log loss of each horizon over the rows where it is known, averaged over horizons."""
    return mean_over(log_losses(known, predicted))


def log_losses(known: Any, predicted: Any) -> Any:
    """Log loss of each row and horizon; NaN where it is not known."""
    p = np.clip(predicted, 1e-15, 1 - 1e-15)
    return np.where(np.isnan(known), np.nan, -np.where(known == 1, np.log(p), np.log1p(-p)))


def mean_over(losses: Any, weight: Any = None) -> Any:
    """Mean of each column over the rows that have it, then over columns."""
    seen = ~np.isnan(losses)
    weights = np.ones(len(losses)) if weight is None else np.asarray(weight)
    return ((weights @ np.where(seen, losses, 0.0)) / (weights @ seen.astype(float))).mean(axis=-1)


def distance(scores: Any, expected: Any, weight: Any = None) -> Any:
    """Mean absolute distance of the expected score and the answer."""
    weights = np.ones(len(scores)) if weight is None else np.asarray(weight)
    return (weights @ np.abs(expected - scores)) / weights.sum(axis=-1)


def calibrate(task: Any, calibration: Any, test: Any) -> Any:
    """Fit a logistic curve for each threshold on the calibration rows."""
    from sklearn.linear_model import LogisticRegression

    churn = str(task["target"]) == "churn"
    known = task["known_calibration"] if churn else task["y_calibration"][:, None] <= np.arange(task["n_classes"] - 1)
    from_p, to_p = (calibration, test) if churn else (np.cumsum(p, axis=1)[:, :-1] for p in (calibration, test))
    curves = np.array(to_p)
    for k in range(known.shape[1]):
        use = ~np.isnan(known[:, k].astype(float))
        y = known[use, k].astype(int)
        if min(y.sum(), len(y) - y.sum()) >= 20:  # as few as cxml takes
            model = LogisticRegression(C=1e6).fit(log_odds(from_p[use, k]), y)
            curves[:, k] = model.predict_proba(log_odds(to_p[:, k]))[:, 1]
    return curves if churn else classes_of(curves)


def log_odds(p: Any) -> Any:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))[:, None]


def compare(name: str, target: str, file: Path, customers: Any, options: argparse.Namespace) -> tuple[list[str], str]:
    """Give the section of one task, and its line in the table of all, as Markdown."""
    from cxml.evaluate.bootstrap import paired_difference
    from cxml.evaluate.metrics import rps

    found = fit_all(target, file, options)
    task = np.load(file)
    ours = found[OURS]["test"]
    if target == "churn":
        seen = (~np.isnan(task["known_test"])).any(axis=0)
        observed = task["known_test"][:, seen]
        metrics: dict[str, Any] = {"log loss": (mean_over, lambda p: (log_losses(observed, p[:, seen]),))}
    else:
        observed = task["y_test"]
        metrics = {
            "RPS": (rps, lambda p: (observed, p)),
            "MAE": (distance, lambda p: (observed, p @ np.arange(p.shape[1]) if p.ndim > 1 else p)),
        }
    entries: list[tuple[str, dict[str, Any]]] = []
    for who, said in found.items():
        if "error" in said or who == OURS:
            continue
        entries.append((who, said))
        if said["test"].ndim > 1:
            entries.append((f"{who}, calibrated", said | {"test": calibrate(task, said["calibration"], said["test"])}))
    lines = [f"### {name}, {target}", "", _sizes(task, customers), ""]
    lines += ["| who | " + " | ".join(f"{m} | {OURS} minus it" for m in metrics) + " | fit s |"]
    lines += ["|---|" + "---|---|" * len(metrics) + "---|"]
    values = " | ".join(f"{metric(*form(ours)):.4f} | " for metric, form in metrics.values())
    lines.append(f"| **{OURS}** | {values} | {found[OURS]['seconds']:.1f} |")
    decisive: dict[str, Any] = {}
    for who, said in entries:
        cells = []
        for label, (metric, form) in metrics.items():
            if label == "RPS" and said["test"].ndim < 2:
                cells.append("- | -")
                continue
            theirs = form(said["test"])
            difference = paired_difference(metric, form(ours), theirs, customers, n=options.replicates)
            cells.append(
                f"{metric(*theirs):.4f} | {difference.value:+.4f} ({difference.low:+.4f}..{difference.high:+.4f})"
            )
            if label != "MAE":
                decisive[who] = difference
        lines.append(f"| {who} | {' | '.join(cells)} | {said['seconds']:.1f} |")
    lines += [f"| {who} | failed: {said['error']} |" for who, said in found.items() if "error" in said]
    size = f"{found[OURS]['size']:.2f}"
    lines += ["", f"{_verdict(decisive)} Size: {size}.", ""]
    if target == "churn":
        lines += _by_horizon(task, [(OURS, found[OURS]), *entries])
    metric, form = next(iter(metrics.values()))
    row = f"| {name}, {target} | {next(iter(metrics))} | {metric(*form(ours)):.4f} | {_best(decisive)} | {size} |"
    return lines, row


def _best(differences: dict[str, Any]) -> str:
    """Name the best rival, tell the difference to it, and where cxml stands."""
    if not differences:
        return "- | - | -"
    best = max(differences, key=lambda who: differences[who].value)
    gap = differences[best]
    stands = "best" if gap.value <= 0 else "behind" if any(d.low > 0 for d in differences.values()) else "within"
    return f"{best} | {gap.value:+.4f} ({gap.low:+.4f}..{gap.high:+.4f}) | {stands}"


def _by_horizon(task: Any, entries: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Log loss at each horizon."""
    known = task["known_test"]
    seen = np.flatnonzero((~np.isnan(known)).any(axis=0))
    lines = ["| log loss | " + " | ".join(str(task["horizons"][k]) for k in seen) + " |", "|---|" + "---|" * len(seen)]
    for who, said in entries:
        values = " | ".join(f"{mean_log_loss(known[:, [k]], said['test'][:, [k]]):.4f}" for k in seen)
        lines.append(f"| {who} | {values} |")
    return [*lines, ""]


def _sizes(task: Any, customers: Any) -> str:
    sizes = ", ".join(f"{part} {len(task[f'X_{part}']):,}" for part in ("train", "calibration", "test"))
    return (
        f"Snapshots: {sizes} ({len(np.unique(customers)):,} customers in the test); {task['X_test'].shape[1]} features."
    )


def _verdict(differences: dict[str, Any]) -> str:
    """Say where cxml stands beside the best."""
    if not differences:
        return "Nobody to compare with."
    best = max(differences, key=lambda who: differences[who].value)
    gap = differences[best]
    ahead = [who for who, d in differences.items() if d.low > 0]
    if gap.value <= 0:
        return f"cxml is best; next is {best}."
    if not ahead:
        return f"The best is {best}, and cxml is within its interval."
    return f"Ahead of cxml beyond chance: {', '.join(ahead)}."


def in_one_table(rows: Sequence[str]) -> list[str]:
    """Head the lines of all tasks."""
    return [
        "## In one table", "",
        "| log | metric | cxml | best of the others | cxml minus it | cxml is | size |",
        "|---|---|---|---|---|---|---|", *rows, "",
        "*Best*: lower than all others. *Within*: the interval of the difference to each other reaches 0 or below.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="of configs/; default: all")
    parser.add_argument(
        "--rivals", default=",".join(w for w in WORKERS if w != OURS), help="which, with commas between"
    )
    parser.add_argument("--automl-factor", type=float, default=10.0, help="time of FLAML over that of cxml")
    parser.add_argument("--automl-least", type=float, default=5.0, help="seconds a model that FLAML has at least")
    parser.add_argument("--threads", type=int, default=1, help="of every learner that lets itself be told")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "cxml-bench", help="for files and environments"
    )
    parser.add_argument("--fresh", action="store_true", help="fit rivals anew whose predictions are there")
    parser.add_argument("--out", type=Path, help="write the tables there as well")
    for hidden, kind in (("--worker", str), ("--file", Path), ("--report", Path), ("--budget", float)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.file, options.report, options.budget)
        return
    options.rivals = [who for who in options.rivals.split(",") if who]
    if unknown := set(options.rivals) - set(WORKERS):
        parser.error(f"--rivals: unknown {', '.join(sorted(unknown))}; there are {', '.join(WORKERS)}")
    options.data = options.data.resolve()
    options.data.mkdir(parents=True, exist_ok=True)
    page: list[str] = []
    rows: list[str] = []
    for name in options.names:
        with tempfile.TemporaryDirectory(dir=options.data) as folder:
            for target, file, customers in gather(name, Path(folder), options):
                section, row = compare(name, target, file, customers, options)
                print("\n".join(section), flush=True)
                page += section
                rows.append(row)
    if options.out:
        head = HEAD.format(names=" ".join(options.names), factor=options.automl_factor, replicates=options.replicates)
        options.out.write_text(head + "\n".join([*in_one_table(rows), *page]), encoding="utf-8")


if __name__ == "__main__":
    main()
