"""The model card: what a model is for, what it learned from, how good it is and where it ends.

The sections follow Mitchell et al. (2019), Model Cards for Model Reporting. The text depends on its facts only:
same facts, same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.slices import Slice, slice_table

Result = float | Interval

#: What the keys of metrics mean, in the order of the table; a key is matched by what it begins with.
MEANINGS: Mapping[str, str] = {
    "auroc": "area under the ROC curve: the chance that a churner is ranked above another (0.5: by luck)",
    "auprc": "average precision (compare with the base rate)",
    "log_loss": "mean negative log-likelihood, nats (lower is better)",
    "brier": "mean squared error of the probability (lower is better); reliability - resolution + uncertainty",
    "brier_reliability": "the part of it that better calibration would take away (lower is better)",
    "brier_resolution": "the part that telling customers apart takes away (higher is better)",
    "brier_uncertainty": "that of the base rate, whoever predicts",
    "ece": "calibration error over ten bins of equally many rows (lower is better; chance makes it positive)",
    "lift_at_10pct": "churn in the riskiest tenth, in multiples of the base rate",
    "calibration_slope": "slope of the outcome on the predicted log-odds (1 is right; below 1: too extreme)",
    "base_rate": "share of test rows that churned",
    "rate_error": "mean probability minus the share that churned (0 is right)",
    "expected_profit": "expected maximum profit of a campaign of retention, a customer of the base (higher is better)",
    "concordance": "the chance that of two customers the one at higher risk goes first (0.5: by luck)",
    "integrated_brier": "mean Brier score over the horizons, customers lost from sight made up for (lower is better)",
    "rps": "ranked probability score (0 perfect; lower is better)",
    "mae": "mean absolute error of the expected score, points of the scale (lower is better)",
    "quadratic_kappa": "agreement of the rounded expected score beyond chance (1 perfect)",
    "nps_error": "predicted minus observed NPS, points (0 is right)",
    "balance_error": "predicted minus observed share high less share low, points (0 is right)",
}


def model_card(
    *,
    name: str,
    version: str,
    targets: Mapping[str, str],
    training: Mapping[str, Any],
    split: Sequence[Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
    packages: Mapping[str, str],
    verdicts: Sequence[str] = (),
    limits: Sequence[str] = (),
    slices: Mapping[str, Sequence[Slice]] | None = None,
    everybody: tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]] | None = None,
    folder: str = "path/to/this/folder",
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    name, version : str
        Of the model.
    targets : mapping of str to str
        Target to a sentence that says what is predicted and when, e.g.
        ``{"churn": "P(cancelled) within 30d, 60d, 90d of the cutoff"}``.
    training : mapping
        Label to value, shown in the order given: rows, customers, window, base rates, data digest, seed ...
    split : sequence of mapping
        One row a part, all with the same keys, e.g. ``part, first cutoff, last cutoff, rows, customers``.
    results : mapping
        Target to predictor to metric key to value, a number or an `Interval`; the first predictor is the model,
        the others are baselines on the same rows.
    packages : mapping of str to str
        Package to version.
    verdicts : sequence of str
        Whether it is better than the baselines, in sentences.
    limits : sequence of str
        What this model cannot do, beside what no such model can.
    slices : mapping of str to sequence of Slice, optional
        Target to the metrics of the model by attribute, from `cxml.evaluate.slices.slice_metrics`.
    everybody : (head, rows, notes), optional
        Table of what all customers would answer, beside what those said who did.
    folder : str
        How to call the model folder in the example.

    Returns
    -------
    str

    Examples
    --------
    >>> card = model_card(
    ...     name="shop", version="0a1b", targets={"churn": "Inactivity for 60d from the cutoff"},
    ...     training={"rows": 1200}, split=[{"part": "test", "rows": 300}],
    ...     results={"churn": {"model": {"auroc_60d": Interval(0.74, 0.71, 0.77)}, "base rate": {"auroc_60d": 0.5}}},
    ...     packages={"cxml": "0.1.0"})
    >>> print(next(line for line in card.splitlines() if "auroc_60d" in line))
    | `auroc_60d` | 0.740 (0.710 to 0.770) | 0.500 |
    """
    parts = [
        [f"# {name}", f"Version `{version}`, trained with `cxml {packages.get('cxml', 'unknown')}`."],
        ["## What it is for", _INTENT],
        ["## What is predicted, and when", _bullets(f"**{target}**: {text}" for target, text in targets.items())],
        ["## Training data", _table(["fact", "value"], [[str(k), _plain(v)] for k, v in training.items()])],
        ["## Split", _SPLIT, _records(split)],
        ["## How good it is", _TEST, _bullets(verdicts), *_results(results)],
        _slices(slices or {}),
        ["## Satisfaction of everybody", _EVERYBODY, _table(everybody[0], everybody[1]), _bullets(everybody[2])]
        if everybody
        else [],
        ["## Limits", _bullets([*limits, *_LIMITS])],
        ["## How to load it", _LOADING.format(folder=folder)],
        ["## Versions", _bullets(f"{package} {number}" for package, number in sorted(packages.items()))],
    ]
    return "\n\n".join(text for part in parts for text in part if text) + "\n"


_INTENT = (
    "To find the customers who are likely to leave, or to be dissatisfied, before they are, so that somebody can "
    "help them in time: ranking whom to contact, forecasting for a segment, watching change. It is not meant to decide "
    "alone on prices, contracts, credit or service for a person, and high risk does not say that an action will help."
)
_SPLIT = (
    "In time, never at random: the trees learn from the first part, are stopped and calibrated on the second, and "
    "everything below was measured on the last. No label window reaches into a later part."
)
_TEST = (
    "On the test part; in brackets 95 % bootstrap intervals, customers resampled. Baselines: same rows, same labels."
)
_WHOM = (
    "The model on the same test rows, by attribute; values that few customers have are pooled. Base rates differ, so "
    "compare each slice with its own base rate and look whether its errors go one way."
)
_EVERYBODY = (
    "At the end of the log, with 95 % intervals that respect customers. Raw is the mean of the answers; ipw weighs "
    "them by 1 / P(answered); doubly robust is what models expect of every customer, corrected by what they got wrong "
    "for those who answered. All of it corrects for what the features know of who stays silent, for nothing else; "
    "intervals of both allow for a little that no feature knows (docs/satisfaction.md). Where `trust` says NO, "
    "corrected figures rest on too little to act on."
)
_LIMITS = (
    "It speaks of customers and touchpoints like those it learned from; watch the `status` column of its scores and "
    "train again when the business changes.",
    "Reasons say what moved the prediction, not what causes the outcome.",
    "Whoever was helped in the training window counts as what they became: the risk is that under past practice.",
)
_LOADING = """```python
import cxml

scorer = cxml.load("{folder}")
answer = scorer.score(events)   # one journey: a list of dicts, the source's own column names
```

`mlflow.pyfunc.load_model(ref).predict(events_frame)` gives the same numbers."""


def _results(results: Mapping[str, Mapping[str, Mapping[str, Result]]]) -> list[str]:
    parts = []
    for target, by_predictor in results.items():
        keys = list(dict.fromkeys(key for values in by_predictor.values() for key in values))
        rows = [
            [f"`{key}`", *(_figure(values.get(key)) for values in by_predictor.values())]
            for key in sorted(keys, key=lambda key: (_rank(key), keys.index(key)))
        ]
        parts += [f"### {target}", _table(["metric", *by_predictor], rows)]
    used = {metric for by in results.values() for values in by.values() for key in values for metric in [_metric(key)]}
    told = [f"`{metric}`: {meaning}" for metric, meaning in MEANINGS.items() if metric in used]
    return [*parts, "What the metrics mean:", _bullets(told)] if told else parts


def _slices(slices: Mapping[str, Sequence[Slice]]) -> list[str]:
    parts = [text for target, some in slices.items() if some for text in (f"### {target}", _table(*slice_table(some)))]
    return ["## For whom it is how good", _WHOM, *parts] if parts else []


def _metric(key: str) -> str:
    found = [metric for metric in MEANINGS if key == metric or key.startswith(metric + "_")]
    return max(found, key=len, default=key)


def _rank(key: str) -> int:
    metric = _metric(key)
    return list(MEANINGS).index(metric) if metric in MEANINGS else len(MEANINGS)


def _figure(result: Result | None) -> str:
    if result is None:
        return ""
    if isinstance(result, tuple):
        value, low, high = (float(x) for x in result)
        if math.isnan(low) or math.isnan(high):
            return _number(value)
        return f"{_number(value)} ({_number(low)} to {_number(high)})"
    return _number(float(result))


def _number(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    if abs(value) >= 10:
        return f"{value:.1f}"
    digits = 3 if abs(value) >= 0.01 or abs(value) < 1e-9 else 5  # a part of a Brier score may be as small as 0.0004
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _records(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    return _table(list(rows[0]), [[_plain(row.get(key, "")) for key in rows[0]] for row in rows])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
