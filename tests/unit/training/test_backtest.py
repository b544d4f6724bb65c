"""A backtest knows in each fold only what was known then, and says who was better."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.errors import ConfigError, DataError
from cxml.evaluate.exam import MODEL
from cxml.journeys.read import read_journeys
from cxml.times import DAY_US
from cxml.training.backtest import ALL, RANDOM, ROLLING, SAME, backtest, deciding
from cxml.training.folds import courses, lay_folds
from cxml.training.hindsight import hindsight
from cxml.training.learn import learn_target, predict_test, train
from cxml.training.studies import plan_features, with_features

START = pd.Timestamp("2023-01-01", tz="UTC")
DAYS = 540
PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 30d, lookback: 90d, start: 2023-04-01}
features: {windows: [30d, 90d], families: [basic, likeness, peers]}
churn: {kind: event, touchpoints: [cancelled], horizons: [30d, 60d]}
satisfaction: {kind: csat, touchpoint: answer}
"""


def make_events(n=400, seed=0, later_hazard=1.0, joined=360):
    """Logins; complaints make customers cancel and grumble. From day 420 on the hazard is another."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n):
        day, unhappy = int(rng.integers(0, joined)), rng.random() < 0.4
        while day < DAYS:
            rows.append((customer, day, "login", np.nan))
            if unhappy and rng.random() < 0.4:
                rows.append((customer, day, "complaint", np.nan))
            if rng.random() < 0.12:
                rows.append(
                    (customer, day, "answer", float(np.clip(rng.integers(1, 6) + (-1 if unhappy else 2), 1, 5)))
                )
            if rng.random() < (0.05 if unhappy else 0.01) * (later_hazard if day > 420 else 1.0):
                rows.append((customer, day, "cancelled", np.nan))
                break
            day += int(rng.integers(5, 15))
    return frame(rows)


def frame(rows):
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    events["timestamp"] = START + pd.to_timedelta(events.pop("day"), unit="D")
    return events


def read(events):
    return read_journeys(events, timezone="UTC")


@pytest.fixture(scope="module")
def config():
    return parse_config(PROJECT)


@pytest.fixture(scope="module")
def events():
    return make_events()


@pytest.fixture(scope="module")
def result(config, events):
    return backtest(read(events), config, random_split=True, replicates=20)


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_nothing_after_the_end_of_a_fold_can_change_it(config, events, result, target):
    """Let everything from its end on be another story: what is chosen, learned and predicted stays the same."""
    tested = result.of(target)[-2]
    split = tested.study.split
    end = pd.Timestamp(split.observed_until, unit="us", tz="UTC")
    later = events["timestamp"] >= end
    other = events.assign(
        touchpoint=events["touchpoint"].where(~later, "complaint"), score=events["score"].where(~later)
    )
    assert later.sum() > 100
    log = read(other)
    ways = {way.target: way for way in courses(log, config)}
    until = min(one.study.split.learned_until for one in result.folds if one.fold == tested.fold)
    plan = plan_features(log, config, until, hindsight(log, config, ways["churn"].cutoffs))
    assert plan == tested.plan
    study = with_features(ways[target].labels(split), log, plan)
    found = predict_test(study, config, plan, learn_target(study, config, plan)[0])
    np.testing.assert_array_equal(study.parts["test"].y, tested.study.parts["test"].y)
    for who, expected in tested.predictions.items():
        np.testing.assert_array_equal(found[who], expected, err_msg=who)


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_each_fold_ends_where_the_test_of_the_next_begins_and_nothing_is_tested_twice(config, result, target):
    tested = result.of(target)
    assert [one.fold for one in tested] == list(range(tested[0].fold, tested[-1].fold + 1))
    assert len(tested) >= 2
    for one, later in pairwise(tested):
        assert one.study.split.observed_until == later.study.split.test_start
        longest = config.churn.horizons[-1].us if target == "churn" else 0
        assert one.study.parts["test"].cutoff.max() < later.study.parts["test"].cutoff.min()
        assert one.study.split.observed_until - one.study.split.test_start >= longest


def test_the_last_fold_is_the_test_of_training(config, events, result):
    trained = train(read(events), config, replicates=20)
    for target, exam in trained.exams.items():
        np.testing.assert_equal(result.of(target)[-1].exam.scores, exam.scores)  # nan is nan
        assert result.of(target)[-1].exam.gains == exam.gains
        np.testing.assert_array_equal(result.of(target)[-1].predictions[MODEL], trained.predictions[target][MODEL])


def test_the_same_backtest_twice_gives_the_same_figures(config, events, result):
    again = backtest(read(events), config, random_split=True, replicates=20)
    assert again.table().equals(result.table())


def test_given_starts_hold_for_the_last_fold_alone(config, events):
    given = PROJECT.replace(
        "start: 2023-04-01", "start: 2023-04-01, calibration_start: 2023-12-01, test_start: 2024-03-01"
    )
    log = read(events)
    folds = lay_folds(courses(log, parse_config(given))[0], parse_config(given), 5)
    assert len(folds) > 1
    assert folds[-1].split.to_dict()["test_start"] == "2024-03-01"
    assert folds[-2].split.to_dict()["calibration_start"] < "2023-12-01"


def test_no_fold_is_laid_that_could_not_tell_of_the_longest_horizon(config, events):
    log = read(events)
    course = courses(log, config)[0]
    longest = config.churn.horizons[-1].us
    splits = list(course.splits)
    assert len(splits) >= 3
    assert all(split.observed_until - split.test_start >= longest for split in splits)


def test_more_folds_than_fit_are_refused_with_how_many_do(config, events):
    with pytest.raises(DataError, match=r"churn: \d of 40 folds fit: .* Ask for --folds \d"):
        backtest(read(events), config, folds=40)
    with pytest.raises(ConfigError, match="--folds is 0"):
        backtest(read(events), config, folds=0)


def test_what_training_refuses_a_backtest_refuses(config):
    with pytest.raises(DataError, match="no churners"):
        events = make_events(60)
        last = events["timestamp"].max()
        backtest(
            read(events.assign(timestamp=events["timestamp"].where(events["touchpoint"] != "cancelled", last))), config
        )


def test_every_target_that_is_refused_is_named(config):
    events = make_events(60)
    events = events[events["timestamp"] < START + pd.Timedelta(days=70)]
    with pytest.raises(DataError, match=r"churn: no cutoff fits: .* satisfaction: "):
        backtest(read(events[events["touchpoint"] != "answer"]), config)


def test_a_single_fold_is_said_to_be_one(config, events):
    found = backtest(read(events), config, folds=1, replicates=5)
    assert any("churn: one fold only, which is the test of cxml train itself" in line for line in found.lines())
    assert {one.fold for one in found.folds} == {1}
    assert found.pooled["churn"] == found.of("churn")[0].exam


def test_pooling_puts_all_rows_in_one_test_and_keeps_customers_together(result):
    for target, exam in result.pooled.items():
        tested = result.of(target)
        assert exam.n_rows == sum(one.exam.n_rows for one in tested)
        customers = np.unique(np.concatenate([one.study.parts["test"].customer for one in tested]))
        assert exam.n_customers == len(customers) < sum(one.exam.n_customers for one in tested)


def test_the_ladder_stands_beside_the_model_in_every_fold(result):
    ladders = {
        "churn": {"base rate", "recency rule", "RFM logistic regression", "plain LightGBM"},
        "satisfaction": {"base distribution", "last score rule", "RFM logistic regression", "plain LightGBM"},
    }
    for one in result.folds:
        assert set(one.exam.gains) == ladders[one.study.target]
        assert set(one.exam.scores) == {MODEL, *ladders[one.study.target]}


def test_the_long_table_holds_every_figure_by_name(result):
    table = result.table().to_pandas()
    row = table[
        (table.target == "churn") & (table.fold == ALL) & (table.who == MODEL) & (table.metric == "log_loss")
        & (table.horizon == "60d") & table.against.isna()
    ]  # fmt: skip
    expected = result.pooled["churn"].scores[MODEL]["log_loss_60d"]
    assert row[["value", "low", "high"]].to_numpy()[0] == pytest.approx(list(expected), rel=1e-8)
    gain = table[(table.fold == ALL) & (table.against == "plain LightGBM") & (table.metric == "rps")]
    found = result.pooled["satisfaction"].gains["plain LightGBM"]["rps"].value
    assert gain["value"].item() == pytest.approx(found, rel=1e-8)
    n_folds = max(one.fold for one in result.folds)
    assert set(table.fold) == {*map(str, range(1, n_folds + 1)), ALL, RANDOM, SAME}
    assert set(table[table.target == "satisfaction"].horizon.dropna()) == set()
    assert (table.first_cutoff <= table.last_cutoff).all()
    assert str(table.first_cutoff.dt.tz) == "UTC"


def test_machines_get_plain_json(result):
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["folds"]["churn"] == len(result.of("churn"))
    assert len(told["results"]) == result.table().num_rows
    assert told["results"][0]["first_cutoff"].startswith("20")


def test_people_get_tables_and_a_verdict(result):
    titles = [title for title, _, _ in result.tables()]
    assert sum("by fold" in title for title in titles) == 2
    assert any("random split flatters" in title for title in titles)
    for title, head, rows in result.tables():
        assert all(len(row) == len(head) for row in rows), title
    assert result.lines()[0] == result.pooled["churn"].verdict()
    assert result.plot().get_axes()


def test_a_random_split_flatters_where_times_change():
    """Everybody joins at one time, so that tenure tells the date; then the hazard changes."""
    project = PROJECT.replace(", likeness, peers", "").replace("satisfaction:", "# ")
    events = make_events(600, seed=1, later_hazard=6.0, joined=60)
    found = backtest(read(events), parse_config(project), folds=2, random_split=True, replicates=100)
    flattery = found.flattery["churn"]
    gain = flattery.same.gains[ROLLING]["log_loss_30d"]
    assert gain.high < 0
    assert any("FLATTERS: log_loss_30d" in line for line in found.warnings())
    # paired on the very rows that both test, with the outcomes and the honest predictions of the fold
    assert 0 < flattery.same.n_rows < found.pooled["churn"].n_rows
    assert deciding(flattery.same) == ["log_loss_30d", "log_loss_60d"]


def test_without_being_asked_nothing_is_split_at_random(config, events):
    found = backtest(read(events), config, folds=1, replicates=5)
    assert found.flattery == {}
    assert not {RANDOM, SAME} & set(found.table().column("fold").to_pylist())


def test_horizons_are_followed_to_their_end_in_every_fold(result):
    """A test that is shorter than the horizon would hold only those who left early."""
    for one in result.of("churn"):
        rows = one.study.parts["test"]
        whole = rows.cutoff + 60 * DAY_US <= one.study.split.observed_until
        assert whole.any()
        assert "log_loss_60d" in one.exam.scores[MODEL]
