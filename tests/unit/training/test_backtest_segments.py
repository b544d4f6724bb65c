"""A backtest says how good it was for each segment, all folds together, by the names of the segments."""

import json

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.errors import ConfigError
from cxml.evaluate.exam import MODEL
from cxml.evaluate.metrics import auroc, nps_error, rate_error
from cxml.journeys.read import read_journeys
from cxml.training.backtest import ALL, backtest
from cxml.training.studies import known_churn

START = pd.Timestamp("2023-01-01", tz="UTC")
DAYS = 540
NEW_FROM = 335  #: Day from which on customers join with a plan that nobody had before: the first fold never met it.
PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC, attributes: [plan, region, world]}
snapshots: {every: 30d, lookback: 90d, start: 2023-04-01}
features: {windows: [30d, 90d]}
churn: {kind: event, touchpoints: [cancelled], horizons: [30d, 60d]}
satisfaction: {kind: nps, touchpoint: answer}
"""


def segments_of(customer, joined):
    """Say plan and region. ``advance`` comes first in the alphabet and last in time: it moves the codes of the others.

    Thirty customers live in the far east, too few to be shown.
    """
    plan = "advance" if joined >= NEW_FROM else ("basic", "gold")[customer % 3 == 0]
    return plan, "far east" if customer < 30 else ("north", "south")[customer % 5 < 2]


def make_events(n=600):
    """Logins, answers and cancellations; complaints make customers leave and grumble, those of ``basic`` more often."""
    rng = np.random.default_rng(0)
    rows = []
    for customer in range(n):
        joined = int(rng.integers(0, 400))
        segments, day = segments_of(customer, joined), joined
        unhappy = rng.random() < (0.5 if segments[0] == "basic" else 0.3)
        while day < DAYS:
            rows.append((customer, day, "complaint" if unhappy and rng.random() < 0.4 else "login", np.nan, *segments))
            if rng.random() < 0.15:
                rows.append((customer, day, "answer", float(rng.integers(0, 8) + (0 if unhappy else 3)), *segments))
            if rng.random() < (0.05 if unhappy else 0.01):
                rows.append((customer, day, "cancelled", np.nan, *segments))
                break
            day += int(rng.integers(5, 15))
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score", "plan", "region"])
    events["timestamp"] = START + pd.to_timedelta(events.pop("day"), unit="D")
    return events.assign(world="one")


@pytest.fixture(scope="module")
def config():
    return parse_config(PROJECT)


@pytest.fixture(scope="module")
def events():
    return make_events()


@pytest.fixture(scope="module")
def log(events):
    return read_journeys(events, timezone="UTC", attributes=["plan", "region", "world"])


@pytest.fixture(scope="module")
def result(log, config):
    return backtest(log, config, folds=2, replicates=20)


@pytest.fixture(scope="module")
def table(result):
    return result.table().to_pandas()


def by_hand(result, events, target, attribute):
    """Put the tests of all folds together: the segment of each row as the events name it, outcomes and predictions."""
    true = events.groupby("customer_id")[attribute].first()
    found = []
    for one in result.of(target):
        # a value that a fold had not met before it learned has no name in it
        met = set(one.plan.categories(f"last__{attribute}"))
        segment = [name if name in met else "other" for name in true[one.study.parts["test"].customer]]
        found.append((segment, one))
    return np.concatenate([segment for segment, _ in found]), [one for _, one in found]


def figure(table, target, attribute, segment, metric):
    chosen = table[(table.target == target) & (table.attribute == attribute) & (table.metric == metric)]
    return chosen[chosen.segment == segment].iloc[0]


@pytest.mark.parametrize(("attribute", "segment"), [("plan", "basic"), ("plan", "gold"), ("region", "north")])
def test_churn_of_a_segment_is_measured_on_its_rows_in_all_folds(result, table, events, config, attribute, segment):
    segments, tested = by_hand(result, events, "churn", attribute)
    known = np.concatenate([known_churn(one.study, "test", config)[:, 0] for one in tested])
    predicted = np.concatenate([one.predictions[MODEL][:, 0] for one in tested])
    inside = segments == segment
    use = inside & ~np.isnan(known)
    for metric, of in {"auroc": auroc, "rate_error": rate_error}.items():
        row = figure(table, "churn", attribute, segment, metric)
        assert row.value == pytest.approx(of(known[use], predicted[use]), rel=1e-8)
        assert row.low < row.value < row.high
        assert row.horizon == "30d"
        assert row.snapshots == inside.sum()
        assert (row.fold, row.who) == (ALL, MODEL)
        assert pd.isna(row.against)


@pytest.mark.parametrize(("attribute", "segment"), [("plan", "basic"), ("plan", "gold"), ("region", "south")])
def test_the_error_of_expected_nps_of_a_segment_is_measured_on_its_answers_in_all_folds(
    result, table, events, attribute, segment
):
    segments, tested = by_hand(result, events, "satisfaction", attribute)
    scores = np.concatenate([one.study.parts["test"].y for one in tested])
    customers = np.concatenate([one.study.parts["test"].customer for one in tested])
    predicted = np.concatenate([one.predictions[MODEL] for one in tested])
    inside = segments == segment
    row = figure(table, "satisfaction", attribute, segment, "nps_error")
    assert row.value == pytest.approx(nps_error(scores[inside], predicted[inside]), rel=1e-8)
    assert row.low < row.value < row.high
    assert pd.isna(row.horizon)
    assert (row.snapshots, row.customers) == (inside.sum(), len(np.unique(customers[inside])))


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_a_segment_is_the_same_in_all_folds_though_its_code_is_not(result, table, events, target):
    """``advance`` came between the folds, so that ``basic`` and ``gold`` have other codes after it."""
    earlier, later = (one.plan.categories("last__plan") for one in result.of(target))
    assert (earlier, later) == (("basic", "gold", "other"), ("advance", "basic", "gold", "other"))
    segments, _ = by_hand(result, events, target, "plan")
    shown = table[(table.target == target) & (table.attribute == "plan")]
    sizes = dict(zip(shown.segment, shown.snapshots, strict=True))
    assert sizes.keys() == {"advance", "basic", "gold", "other"}
    assert sizes == {segment: (segments == segment).sum() for segment in sizes}


def test_segments_of_few_customers_are_not_shown(table):
    of = table[(table.target == "churn") & table.attribute.notna()]
    assert set(of[of.attribute == "region"].segment) == {"north", "south"}
    assert (of.customers >= 50).all()


def test_the_long_table_has_everybody_without_a_segment(result, table):
    """And the segments of the model alone, all folds together, at the first horizon."""
    everybody = table[table.attribute.isna()]
    assert everybody.segment.isna().all()
    whole = everybody[(everybody.target == "churn") & (everybody.fold == ALL) & (everybody.snapshots > 0)]
    assert set(whole.customers) == {result.pooled["churn"].n_customers}
    parts = table[table.attribute.notna()]
    assert parts.segment.notna().all()
    assert set(parts.fold) == {ALL}
    assert set(parts.who) == {MODEL}
    assert set(parts[parts.target == "churn"].metric) == {"base_rate", "rate_error", "auroc", "log_loss"}
    assert set(parts[parts.target == "satisfaction"].metric) == {"rps", "mae", "nps_error"}
    assert not parts.duplicated(["target", "attribute", "segment", "metric", "horizon"]).any()


def test_machines_get_the_same_rows(result, table):
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))["results"]
    assert len(told) == len(table)
    assert [(row["attribute"], row["segment"]) for row in told] == [
        (None if pd.isna(a) else a, None if pd.isna(s) else s)
        for a, s in zip(table.attribute, table.segment, strict=True)
    ]


def test_people_get_a_table_of_segments_after_the_others(result, table):
    titles = [title for title, _, _ in result.tables()]
    assert titles[-2:] == [
        "churn by segment, all folds together: the model",
        "satisfaction by segment, all folds together: the model",
    ]
    _, head, rows = result.tables()[-1]
    assert head == ["attribute", "value", "customers", "rps", "mae", "nps_error"]
    gold = next(row for row in rows if row[:2] == ["plan", "gold"])
    expected = figure(table, "satisfaction", "plan", "gold", "nps_error")
    assert gold[-1] == f"{expected.value:.3f} ({expected.low:.3f} to {expected.high:.3f})"
    assert {row[0] for row in rows} == {"plan", "region"}


def test_people_may_choose_the_attributes_and_machines_still_get_all(log, config):
    found = backtest(log, config, folds=1, replicates=5, by=["region"])
    for _, _, rows in found.tables()[-2:]:
        assert {row[0] for row in rows} == {"region"}
    assert {"plan", "region"} <= set(found.table().column("attribute").to_pylist())


def test_an_attribute_without_segments_is_said_to_have_none(log, config):
    found = backtest(log, config, folds=1, replicates=5, by=["world"])
    assert not any("by segment" in title for title, _, _ in found.tables())
    assert any("churn: no segments of 'world' to show: all customers tested share one" in w for w in found.warnings())


def test_an_unknown_attribute_is_refused_with_the_nearest(log, config):
    with pytest.raises(ConfigError, match="--by: there is no attribute 'regoin'; did you mean 'region'"):
        backtest(log, config, by=["plan", "regoin"])


def test_without_attributes_it_is_said_where_they_are_named(events, config):
    bare = read_journeys(events.drop(columns=["plan", "region", "world"]), timezone="UTC")
    with pytest.raises(ConfigError, match=r"there are none: name them under journeys\.attributes or customers"):
        backtest(bare, config, by=["plan"])
