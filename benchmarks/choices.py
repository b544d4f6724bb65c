"""What the choices inside the churn model are worth: `docs/decisions/` quotes what this prints.

Run: ``python benchmarks/choices.py calibration|corrections|thin NAME...``, where NAME is a config of ``configs/`` (the
real data sets: ``CXML_DATA``) or ``simulator`` (24,000 simulated customers).

- ``calibration``: the log loss of each kind of curve by the number of rarer outcomes it was fitted on. Trees from
  15,000 snapshots; curves from one half of the test's customers, measured on the other, so that no drift mixes in.
- ``corrections``: the log loss of the model with small trees for each horizon, less that without, and the time.
- ``thin``: predictions drawn to the mean by n / (n + k), k chosen on the calibration part.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxml.config import load_config
from cxml.demo import write_simulation
from cxml.models.calibration import Calibration, _fit_curve, _fit_line
from cxml.models.churn import ChurnModel
from cxml.project import Project
from cxml.simulate import simulate
from cxml.training.studies import known_churn, look_ahead

Float64 = NDArray[np.float64]
Part = dict[str, Any]

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SIZES = (30, 100, 200, 400, 700, 1000, 2000)
ROWS = 15_000


def main() -> None:
    """Measure one choice on every log that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("names", nargs="+", metavar="NAME")
    args = parser.parse_args()
    for name in args.names:
        MEASURES[args.what](name, _load(name))


def _load(name: str) -> Part:
    with tempfile.TemporaryDirectory() as folder:
        if name == "simulator":
            write_simulation(simulate(24_000, n_replays=2, random_state=5), folder)
        config = load_config(Path(folder) / "project.yaml" if name == "simulator" else CONFIGS / f"{name}.yaml")
        project = Project(config)
        log = project.read(quarantine=Path(folder) / "quarantine.parquet")
        outlook = look_ahead(log, config, project.leavers())
    study = outlook.studies["churn"]
    return {
        "kind": "inactivity" if config.churn.kind == "inactivity" else "event",
        "horizons": [str(h) for h in config.churn.horizons],
        "columns": list(outlook.plan.columns),
        "categorical": [outlook.plan.columns.index(c) for c in outlook.plan.categorical],
        **{part: (study.parts[part], known_churn(study, part, config)) for part in study.parts},
    }


def _fit(data: Part, n_rows: int | None = None, **parameters: Any) -> ChurnModel:
    rows, later = data["train"][0], data["calibration"][0]
    customers = np.unique(rows.customer)
    share = min(1.0, (n_rows or len(rows)) / len(rows))
    drawn = np.random.default_rng(0).choice(customers, int(share * len(customers)), replace=False)
    keep = np.isin(rows.customer, drawn)
    model = ChurnModel(data["kind"], data["horizons"], n_jobs=1, **parameters)
    return model.fit(
        rows.X[keep], rows.y[keep], eval_set=(later.X, later.y), calibration_set=(later.X, later.y),
        categorical_feature=data["categorical"],
    )  # fmt: skip


def _loss(p: Float64, happened: Float64) -> Float64:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return -(happened * np.log(p) + (1 - happened) * np.log1p(-p))


def _kinds() -> dict[str, Callable[[Float64, Float64], Calibration]]:
    def line(margin: Float64, happened: Float64) -> Calibration:
        intercept, slope = _fit_line(margin, happened, np.ones(len(margin)))
        return Calibration(np.array([intercept]), np.array([slope]))

    def curve(isotonic: bool) -> Callable[[Float64, Float64], Calibration]:
        def fit(margin: Float64, happened: Float64) -> Calibration:
            bent = _fit_curve(margin, happened, np.ones(len(margin)), isotonic=isotonic)
            straight = line(margin, happened)
            return Calibration(straight.intercept, straight.slope, (bent,))

        return fit

    return {
        "none": lambda _m, _h: Calibration.identity(1), "logistic": line, "beta": curve(False),
        "isotonic": curve(True),
    }  # fmt: skip


def calibration(name: str, data: Part) -> None:
    """Print the log loss of each kind of curve, less that of the logistic one, in units of 1e-4."""
    predictor = _fit(data, ROWS, calibrate=False, corrections=False).predictor_
    rows, known = data["test"]
    came = 1.0 - known if data["kind"] == "inactivity" else known
    margins = predictor.margins(rows.X)
    first = rows.customer % 2 == 0
    print(f"\n{name}: log loss less that of the logistic curve, in 1e-4 (standard deviation over draws)")
    for k, horizon in enumerate(data["horizons"]):
        fitting, testing = (half & ~np.isnan(came[:, k]) for half in (first, ~first))
        m, y = margins[fitting, k], came[fitting, k]
        rarer = min(y.mean(), 1 - y.mean())
        for size in SIZES:
            n = int(size / rarer)
            if n > len(y):
                break
            losses: dict[str, list[float]] = {kind: [] for kind in _kinds()}
            for draw in range(12 if n < len(y) / 2 else 3):
                chosen = np.random.default_rng(draw).permutation(len(y))[:n]
                for kind, fit in _kinds().items():
                    p = fit(m[chosen], y[chosen]).apply_margins(margins[testing, k : k + 1])[:, 0]
                    losses[kind].append(float(_loss(p, came[testing, k]).mean()))
            base = np.array(losses.pop("logistic"))
            told = (f"{kind} {1e4 * (x - base).mean():+.2f} ({1e4 * (x - base).std():.2f})" for kind, x in
                    ((kind, np.array(x)) for kind, x in losses.items()))  # fmt: skip
            print(f"{horizon}, {size} of the rarer: {', '.join(told)}; logistic {base.mean():.5f}", flush=True)


def corrections(name: str, data: Part) -> None:
    """Print what the corrections change on the test, and the seconds of training."""
    rows, known = data["test"]
    losses, seconds = {}, {}
    for asked in (False, "auto", True):
        start = time.perf_counter()
        model = _fit(data, None, corrections=asked)
        seconds[asked] = time.perf_counter() - start
        losses[asked] = _loss(model.predict_churn(rows.X), known)
        trees = {part: ensemble.n_trees for part, ensemble in model.predictor_.parts().items()}
        for k, horizon in enumerate(data["horizons"]):
            told = ~np.isnan(known[:, k])
            if told.any():
                gain = (losses[asked] - losses[False])[told, k]
                by_customer = np.bincount(np.unique(rows.customer[told], return_inverse=True)[1], gain)
                error = by_customer.std() * np.sqrt(len(by_customer)) / len(gain)
                print(f"{name} {horizon}, corrections {asked}: log loss {losses[asked][told, k].mean():.4f}, "
                      f"change {gain.mean():+.5f} (standard error {error:.5f})", flush=True)  # fmt: skip
        print(f"{name}, corrections {asked}: {seconds[asked]:.1f} s, trees {trees}", flush=True)


def thin(name: str, data: Part) -> None:
    """Print what shrinking thin customers to the mean changes on the test."""
    model = _fit(data, ROWS)
    (later, was), (rows, known) = data["calibration"], data["test"]
    before, p = model.predict_churn(later.X), model.predict_churn(rows.X)
    for column in (next(c for c in reversed(data["columns"]) if c.startswith("count__all__")), "tenure_days"):
        i = data["columns"].index(column)
        for k, horizon in enumerate(data["horizons"]):
            sides = [
                (q[told, k], np.nan_to_num(part.X[told, i]), what[told, k])
                for q, part, what in ((before, later, was), (p, rows, known)) for told in [~np.isnan(what[:, k])]
            ]  # fmt: skip
            if not len(sides[1][0]):
                continue
            mean = logit(sides[0][2].mean())

            def drawn(q: Float64, n: Float64, much: float, to: float = mean) -> Float64:
                return q if much == 0 else expit(to + n / (n + much) * (logit(np.clip(q, 1e-9, 1 - 1e-9)) - to))

            best = min(
                (0, 0.25, 0.5, 1, 2, 4, 8, 16), key=lambda much: _loss(drawn(*sides[0][:2], much), sides[0][2]).mean()
            )
            q, n, came = sides[1]
            gain = _loss(drawn(q, n, best), came) - _loss(q, came)
            thinnest = n <= np.quantile(n, 0.1)
            print(f"{name} {horizon} by {column}: k {best}, log loss {gain.mean():+.5f}, "
                  f"of the thinnest tenth {gain[thinnest].mean():+.5f}", flush=True)  # fmt: skip


MEASURES: dict[str, Callable[[str, Part], None]] = {
    "calibration": calibration, "corrections": corrections, "thin": thin,
}  # fmt: skip

if __name__ == "__main__":
    main()
