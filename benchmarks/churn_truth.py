"""Churn against the simulator's truth: calibration and ranking of the probabilities themselves, horizon by horizon.

    python benchmarks/churn_truth.py --customers 50000 --seeds 1
    python benchmarks/churn_truth.py --customers 100000 --parameters '{num_leaves: 5, learning_rate: 0.026}'

Parameters of the trees are best found in another world: `cxml simulate --out DIR --customers 12000 --seed 101`, then
`cxml train DIR/project.yaml --tune 25`. Without them the defaults are measured, and satisfaction is learned as well.

The model learns from the log up to the moment of the truth, as a nightly job would have, and scores that moment. The
truth is each customer's probability given everything, hidden state included, so there is no noise of outcomes:

- slope: of a logistic regression of the true probability on the log odds of the predicted one; 1 is right;
- ECE: mean gap of predicted and true in ten groups of equal size;
- AUROC: expected over the outcomes that the true probabilities make; `true` is that of the true probability itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.demo import write_simulation
from cxml.project import Project
from cxml.simulate import simulate

Float64 = NDArray[np.float64]
HORIZONS = (30, 60, 90)


def measure(seed: int, customers: int, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Simulate one world, learn from its past, and compare with its truth."""
    import pandas as pd
    import yaml

    started = time.perf_counter()
    world = simulate(customers, random_state=seed, horizons=HORIZONS)
    cutoff = world.truth["cutoff"].iloc[0]
    with tempfile.TemporaryDirectory() as folder:
        place = write_simulation(world, folder)
        past = world.events[world.events["timestamp"] < cutoff]
        past.to_parquet(place["events"], index=False)
        if parameters:
            config = yaml.safe_load(place["project"].read_text(encoding="utf-8"))
            config["churn"]["parameters"] = parameters
            del config["satisfaction"]
            place["project"].write_text(yaml.safe_dump(config), encoding="utf-8")
        project = Project.from_file(place["project"])
        project.train(out=Path(folder) / "model", track=False)
        project.score(Path(folder) / "model", cutoff=str(cutoff), out=Path(folder) / "scores.parquet", reasons=0)
        scores = pd.read_parquet(Path(folder) / "scores.parquet")
    both = world.truth.merge(scores, on="customer_id", suffixes=("_true", ""))
    rows = []
    for horizon in HORIZONS:
        true, predicted = (both[f"churn_{horizon}d{end}"].to_numpy(float) for end in ("_true", ""))
        rows.append({
            "seed": seed, "horizon": f"{horizon}d", "customers": len(both), "slope": slope(true, predicted),
            "ece": ece(true, predicted), "auroc": auroc(true, predicted), "true": auroc(true, true),
        })  # fmt: skip
    print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    return rows


def slope(true: Float64, predicted: Float64) -> float:
    """Fit true = sigmoid(a + b logit(predicted)) by Newton steps on the expected log likelihood; give b."""
    odds = np.log(predicted / (1 - predicted))
    x = np.column_stack([np.ones_like(odds), odds])
    beta = np.array([0.0, 1.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (true - p))
        beta += step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[1])


def ece(true: Float64, predicted: Float64, groups: int = 10) -> float:
    """Mean gap in groups of equal size by predicted probability."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), groups)
    return float(sum(len(part) * abs(true[part].mean() - predicted[part].mean()) for part in parts) / len(true))


def auroc(true: Float64, ranked_by: Float64) -> float:
    """AUROC where each customer leaves with the true probability."""
    from sklearn.metrics import roc_auc_score

    n = len(true)
    left = np.concatenate([np.ones(n), np.zeros(n)])
    weight = np.concatenate([true, 1 - true])
    return float(roc_auc_score(left, np.concatenate([ranked_by, ranked_by]), sample_weight=weight))


def main() -> None:
    """Run the worlds and print a Markdown table."""
    import yaml

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=1, help="how many worlds, from seed 1 on")
    parser.add_argument("--parameters", default="{}", metavar="YAML", help="of the trees, as under churn.parameters")
    asked = parser.parse_args()
    parameters = yaml.safe_load(asked.parameters)
    rows = [row for seed in range(1, asked.seeds + 1) for row in measure(seed, asked.customers, parameters)]
    print(f"\n{asked.customers:,} customers a world, {rows[0]['customers']:,} of them scored")
    print("\n| seed | horizon | slope | ECE | AUROC | true AUROC | gap |\n| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['seed']} | {row['horizon']} | {row['slope']:.3f} | {row['ece']:.4f} | {row['auroc']:.4f} | "
            f"{row['true']:.4f} | {row['true'] - row['auroc']:.4f} |"
        )


if __name__ == "__main__":
    main()
