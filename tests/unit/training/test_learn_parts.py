"""Which part of the split each step of training looks at: trees, early stopping, calibration, baselines."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.evaluate.exam import MODEL
from cxml.journeys.read import read_journeys
from cxml.models.churn import ChurnModel
from cxml.models.satisfaction import SatisfactionModel
from cxml.scoring.answer import churn_probability
from cxml.training.learn import learn_target, predict_test
from cxml.training.studies import look_ahead

START = pd.Timestamp("2023-01-01", tz="UTC")
PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 15d, lookback: 90d}
features: {windows: [30d, 90d]}
churn: {kind: event, touchpoints: [cancelled], horizons: [15d, 30d], parameters: {n_estimators: 40}}
satisfaction: {kind: nps, touchpoint: answer, parameters: {n_estimators: 40}}
"""
MODELS = {"churn": ChurnModel, "satisfaction": SatisfactionModel}


def journeys(n=200, days=420):
    """Complaints foretell that someone cancels, and low answers."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(n):
        leaves = int(rng.integers(60, 1.6 * days)) if customer % 2 else 10 * days
        for day in np.cumsum(rng.integers(3, 18, size=days // 3)):
            if day < min(leaves, days):
                worry = rng.random() < (0.5 if leaves - day < 45 else 0.05)
                rows.append((customer, int(day), "complaint" if worry else "login", np.nan))
                if rng.random() < 0.2:
                    rows.append((customer, int(day), "answer", float(rng.integers(0, 5) + 5 * (not worry))))
        if leaves < days:
            rows.append((customer, leaves, "cancelled", np.nan))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    frame["timestamp"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


@pytest.fixture(scope="module")
def config():
    return parse_config(PROJECT)


@pytest.fixture(scope="module")
def outlook(config):
    return look_ahead(read_journeys(journeys(), timezone="UTC"), config)


def with_nonsense(study, part):
    """The study with other features and outcomes in one part."""
    rng = np.random.default_rng(1)
    rows = study.parts[part]
    turned = rng.permutation(len(rows))
    other = replace(rows, X=rng.normal(size=rows.X.shape).astype(np.float32), y=rows.y[turned])
    return replace(study, parts=study.parts | {part: other})


def same(given, rows):
    return np.array_equal(given[0], rows.X, equal_nan=True) and np.array_equal(given[1], rows.y, equal_nan=True)


@pytest.mark.parametrize("target", MODELS)
def test_trees_grow_on_the_first_part_and_stop_and_are_calibrated_on_the_second(target, config, outlook, monkeypatch):
    seen = []
    fit = MODELS[target].fit

    def spy(self, X, y, **options):
        seen.append({"train": (X, y)} | options)
        return fit(self, X, y, **options)

    monkeypatch.setattr(MODELS[target], "fit", spy)
    study = outlook.studies[target]
    learn_target(study, config, outlook.plan)
    (given,) = seen
    assert same(given["train"], study.parts["train"])
    assert same(given["eval_set"], study.parts["calibration"])
    assert same(given["calibration_set"], study.parts["calibration"])


@pytest.mark.parametrize("target", MODELS)
def test_the_model_is_the_same_whatever_the_test_holds(target, config, outlook):
    study = outlook.studies[target]
    predictor, settings = learn_target(study, config, outlook.plan)
    blind, blind_settings = learn_target(with_nonsense(study, "test"), config, outlook.plan)
    assert blind.trees.text == predictor.trees.text
    assert blind_settings == settings
    ours, theirs = (
        predict_test(study, config, outlook.plan, one, baselines=False)[MODEL] for one in (predictor, blind)
    )
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("target", MODELS)
def test_the_baselines_do_not_see_the_outcomes_of_the_test(target, config, outlook):
    study = outlook.studies[target]
    predictor, _ = learn_target(study, config, outlook.plan)
    ours = predict_test(study, config, outlook.plan, predictor)
    rows = study.parts["test"]
    turned = replace(study, parts=study.parts | {"test": replace(rows, y=rows.y[::-1].copy())})
    blind = predict_test(turned, config, outlook.plan, predictor)
    assert len(ours) >= 4
    assert {who: p.tobytes() for who, p in blind.items()} == {who: p.tobytes() for who, p in ours.items()}


WITH_PLANS = PROJECT.replace("timezone: UTC}", "timezone: UTC, attributes: [plan]}")


@pytest.fixture(scope="module")
def plans():
    """Snapshots with an attribute: customers of every other plan leave and grumble, so that no order of them helps."""
    events = journeys()
    grumbles = events["customer_id"] % 2 == 1
    events["score"] = events["score"].where(~grumbles, np.maximum(events["score"] - 4, 0))
    events["plan"] = "plan " + (events["customer_id"] % 8).astype(str)
    return look_ahead(read_journeys(events, timezone="UTC", attributes=["plan"]), parse_config(WITH_PLANS))


@pytest.mark.parametrize("target", MODELS)
def test_trees_split_attributes_by_their_values_and_not_by_the_order_of_codes(target, plans):
    predictor, _ = learn_target(plans.studies[target], parse_config(WITH_PLANS), plans.plan)
    by_value = [line for line in predictor.trees.text.splitlines() if line.startswith("num_cat=") and line[8:] != "0"]
    assert by_value
    names = plans.plan.categories("last__plan")
    X = plans.studies[target].parts["test"].X[:1].repeat(8, axis=0)
    X[:, plans.plan.columns.index("last__plan")] = [names.index(f"plan {k}") for k in range(8)]
    latent = predictor.latent(X)
    assert latent[1::2].max() < latent[::2].min()  # the odd ones leave sooner, or give a lower score


@pytest.mark.parametrize("target", MODELS)
def test_the_seed_of_the_project_is_that_of_the_trees(target, outlook):
    def trees(seed):
        seeded = parse_config(f"{PROJECT}random_state: {seed}\n")
        return learn_target(outlook.studies[target], seeded, outlook.plan)[0].trees.text

    assert trees(3) == trees(3)
    assert trees(3) != trees(4)


@pytest.mark.parametrize(("wanted", "own"), [("false", False), ("true", True), ("apart", True)])
def test_the_project_says_whether_horizons_have_trees_of_their_own(wanted, own, outlook):
    """Beside the common ones, or in place of them: ``apart`` leaves but one."""
    project = PROJECT.replace("horizons:", f"corrections: {wanted}, horizons:")
    predictor, _ = learn_target(outlook.studies["churn"], parse_config(project), outlook.plan)
    assert [trees is not None for trees in predictor.corrections] == ([True, True] if own else [])
    assert (predictor.trees.text.count("Tree=") == 1) == (wanted == "apart")


def test_three_tenths_of_the_customers_of_calibration_are_at_risk_and_one_tenth_at_high_risk(config, outlook):
    """By the longest horizon."""
    study = outlook.studies["churn"]
    predictor, settings = learn_target(study, config, outlook.plan)
    risk = churn_probability(predictor, config.churn.kind, study.parts["calibration"].X)[:, -1]
    assert settings["bands"] == pytest.approx(np.quantile(risk, [0.7, 0.9]), rel=1e-8)
    assert risk.max() > settings["bands"][1] > 1.5 * settings["bands"][0]
