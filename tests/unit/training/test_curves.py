"""What more customers and more history would bring, against data where the answer is known."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.metrics import log_loss, rps
from cxml.journeys.read import read_journeys
from cxml.training import curves
from cxml.training.curves import (
    HistoryCurve,
    LearningCurve,
    Point,
    PowerLaw,
    draw_curves,
    fit_power_law,
    history_curves,
    learning_curves,
)
from cxml.training.learn import learn_target, predict_test
from cxml.training.studies import Rows, known_churn, look_ahead

START = pd.Timestamp("2023-01-01", tz="UTC")
DAY = 86_400_000_000
CONFIG = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 30d, lookback: 90d}
churn: {kind: event, touchpoints: [cancelled], horizons: [30d]}
"""


def frame(rows):
    table = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint"])
    table["timestamp"] = START + pd.to_timedelta(table.pop("day"), unit="D")
    return table


def log_of(n=500, days=400, seed=0):
    """Who complains cancels 60 to 85 days later; nobody else does. Logins every ten days say nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n):
        complaint = rng.uniform(20, 2 * days)
        last = complaint + rng.uniform(60, 85)
        rows += [(customer, day, "login") for day in np.arange(rng.uniform(0, 10), min(days, last), 10)]
        rows += [(customer, day, what) for day, what in ((complaint, "complaint"), (last, "cancelled")) if day < days]
    return read_journeys(frame(rows), timezone="UTC")


@pytest.fixture(scope="module")
def log():
    return log_of()


@pytest.fixture(scope="module")
def config():
    return parse_config(CONFIG)


# ---------------------------------------------------------------- the power law


@pytest.mark.parametrize("law", [(0.2, 3.0, 0.5), (0.0, 1.0, 0.3), (0.5, 20.0, 1.0), (0.31, 0.0, 0.1)])
def test_a_law_is_found_again(law):
    n = np.array([500.0, 1000.0, 2000.0, 4000.0])
    truth = PowerLaw(*law)
    found = fit_power_law(n, [truth.at(x) for x in n])
    assert found.at(8000) == pytest.approx(truth.at(8000), abs=1e-9)
    if truth.scale:
        assert found == pytest.approx(truth, abs=1e-6)


def test_a_loss_that_does_not_fall_promises_nothing():
    law = fit_power_law([100, 200, 400], [0.30, 0.31, 0.33])
    assert (law.scale, law.at(800)) == (0.0, pytest.approx(0.94 / 3))


def test_it_is_the_best_fit_of_its_kind():
    rng = np.random.default_rng(0)
    n = np.array([100.0, 200.0, 400.0, 800.0])
    loss = 0.2 + n**-0.5 + rng.normal(0, 0.002, 4)
    law = fit_power_law(n, loss)
    ours = sum((law.at(x) - y) ** 2 for x, y in zip(n, loss, strict=True))
    for _ in range(200):
        other = PowerLaw(*(np.array(law) * rng.uniform(0.9, 1.1, 3)))
        assert ours <= sum((other.at(x) - y) ** 2 for x, y in zip(n, loss, strict=True)) + 1e-9


# ---------------------------------------------------------------- the curves


def test_fewer_customers_are_worse_and_the_last_point_is_the_model_itself(log, config):
    (curve,) = learning_curves(log, config, shares=(0.35, 0.6), repeats=2, replicates=40)
    outlook = look_ahead(log, config)
    study = outlook.studies["churn"]
    predictor, _ = learn_target(study, config, outlook.plan)
    predicted = predict_test(study, config, outlook.plan, predictor, baselines=False)["cxml"]
    known = known_churn(study, "test", config)
    rows = ~np.isnan(known[:, 0])
    last = curve.points[-1]
    assert last.loss.value == pytest.approx(log_loss(known[rows, 0], predicted[rows, 0]))
    learned = [study.parts[part] for part in ("train", "calibration")]
    assert last.given == len(np.unique(np.concatenate([part.customer for part in learned])))
    assert last.n_rows == sum(len(part) for part in learned)
    assert last.behind == (0, 0, 0)
    first = curve.points[0]
    assert first.behind.low > 0
    assert first.loss.low < first.loss.value < first.loss.high
    assert curve.twice is not None
    assert 0 <= curve.twice.value < first.behind.value
    assert "twice the customers" in curve.lines()[-2]


def test_the_same_call_gives_the_same_curve(log, config):
    options = {"shares": (0.25, 0.5), "repeats": 2, "replicates": 10}
    assert learning_curves(log, config, **options) == learning_curves(log, config, **options)


def test_sizes_too_small_to_learn_from_are_left_out_with_the_reason(log, config):
    (curve,) = learning_curves(log, config, shares=(0.02, 1.0), repeats=1, replicates=5)
    assert [point.given for point in curve.points] == [curve.points[-1].given]
    assert curve.law is None
    assert "customers: " in curve.skipped[0]
    assert curve.lines()[0].startswith("churn: left out ")
    assert curve.lines()[-1].endswith("too few sizes to say what more data would bring")


def test_history_that_is_too_short_to_hold_the_reason_shows(log, config):
    (curve,) = history_curves(log, config, days=[25, 150, 9999], replicates=40)
    assert [round(point.given) for point in curve.points[:-1]] == [25, 150]
    short, long, everything = curve.points
    assert short.behind.low > 0.3 * everything.loss.value
    assert abs(long.behind.value) < 0.1 * short.behind.value
    assert everything.behind == (0, 0, 0)


def test_what_is_enough_must_be_good_enough_at_every_longer_history_too():
    def points(*highs):
        return [Point(k, 9, Interval(1.0, 0.9, 1.1), Interval(h - 0.01, h - 0.02, h)) for k, h in enumerate(highs)]

    assert curves._enough(points(0.5, 0.005, 0.002, 0.0), 0.01) == 1
    assert curves._enough(points(0.002, 0.5, 0.002, 0.0), 0.01) == 2
    assert curves._enough(points(0.5, 0.5, 0.5, 0.0), 0.01) is None


def test_scores_are_judged_by_the_ranked_probability_score():
    rng = np.random.default_rng(1)
    rows = []
    for customer in range(300):
        calls = rng.poisson(2)
        rows += [(customer, float(day), "call", np.nan) for day in rng.uniform(0, 390, calls)]
        rows.append((customer, 0.0, "login", np.nan))
        asked = rng.uniform(60, 395, 2)
        rows += [
            (customer, float(day), "answer", float(np.clip(round(9 - calls + rng.normal()), 0, 10))) for day in asked
        ]
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    events["timestamp"] = START + pd.to_timedelta(events.pop("day"), unit="D")
    config = parse_config(
        "{name: shop, journeys: {sources: [a.csv], timezone: UTC}, satisfaction: {kind: nps, touchpoint: answer}}"
    )
    log = read_journeys(events, timezone="UTC", score_scale=(0, 10), survey="answer")
    (curve,) = learning_curves(log, config, shares=(0.5,), repeats=1, replicates=10)
    outlook = look_ahead(log, config)
    study = outlook.studies["satisfaction"]
    predictor, _ = learn_target(study, config, outlook.plan)
    predicted = predict_test(study, config, outlook.plan, predictor, baselines=False)["cxml"]
    assert curve.target == "satisfaction"
    assert curve.points[-1].loss.value == pytest.approx(rps(study.parts["test"].y, predicted))


def test_rows_without_a_known_outcome_do_not_count():
    loss = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    weight = np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 9.0]])
    np.testing.assert_allclose(curves._mean_loss(loss, weight), [(2 + 5) / 2, (1.5 + 5) / 2])


def test_what_makes_no_sense_is_refused(log, config):
    for options in ({"shares": ()}, {"shares": (0.5, 1.5)}, {"repeats": 0}):
        with pytest.raises(ConfigError, match="shares"):
            learning_curves(log, config, **options)
    for options in ({"days": [0]}, {"tolerance": -0.1}):
        with pytest.raises(ConfigError, match="days are above 0"):
            history_curves(log, config, **options)
    with pytest.raises(DataError):
        learning_curves(log_of(n=20), config)


# ---------------------------------------------------------------- how it is told


def test_tables_json_and_picture_tell_the_same():
    points = (
        Point(100.0, 900, Interval(0.3, 0.28, 0.32), Interval(0.1, 0.08, 0.12)),
        Point(200.0, 1800, Interval(0.25, 0.2, 0.3), Interval(0.05, float("nan"), float("nan"))),
        Point(400.0, 3600, Interval(0.2, 0.15, 0.25), Interval(0.0, 0.0, 0.0)),
    )
    learned = LearningCurve("churn", points, PowerLaw(0.1, 2.0, 0.5), Interval(0.02, -0.01, 0.04))
    kept = HistoryCurve("churn", points, 200.0, 0.01)
    assert learned.table()[2][0] == ["100", "900", "0.30000 (0.28000 to 0.32000)", "0.10000 (0.08000 to 0.12000)"]
    assert learned.table()[2][-1][-1] == "-"
    assert kept.table()[2][-1][0] == "400 (all)"
    assert "which may be nothing" in learned.lines()[0]
    assert kept.lines() == ["churn: 200 days of history are enough, within 1.0% of all history, beyond chance"]
    assert learned.to_dict()["law"] == {"floor": 0.1, "scale": 2.0, "exponent": 0.5}
    assert learned.to_dict()["points"][1]["behind"] == {"value": 0.05, "low": None, "high": None}
    assert kept.to_dict()["enough_days"] == 200.0
    figure = draw_curves([learned, learned])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["churn: twice the customers should save 0.0200"] * 2
    assert draw_curves([kept]).axes[0].get_title(loc="left") == "churn: 200 days of history are enough"


def test_a_subset_of_customers_leaves_the_test_whole(log, config):
    study = look_ahead(log, config).studies["churn"]
    some = curves._of_customers(study, np.arange(0, 500, 5))
    assert some.parts["test"] is study.parts["test"]
    for part in ("train", "calibration"):
        rows: Rows = some.parts[part]
        assert set(np.unique(rows.customer)) <= set(range(0, 500, 5))
        assert 0 < len(rows) < len(study.parts[part])
