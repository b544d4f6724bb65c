"""Features learned from outcomes: what a plan of them is, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from reference_features import same_bits

from cxml import JourneyFeatures, read_journeys
from cxml.config import parse_config
from cxml.errors import ConfigError, DataError
from cxml.features.folds import N_FOLDS, folds_of
from cxml.features.learn import Choice, learn_plan
from cxml.features.matrix import fill_matrix
from cxml.features.outcomes import Outcomes
from cxml.features.peers import PeerTable
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.features.trace import trace
from cxml.journeys.block import slice_block
from cxml.times import DAY_US, parse_instant

FIRST, LAST = parse_instant("2023-01-01"), parse_instant("2024-01-01")
N = 300


@pytest.fixture(scope="module")
def log():
    """Customers who call and then leave, mostly those of the cheap plan; others only visit."""
    rng = np.random.default_rng(2)
    rows = pd.DataFrame(
        {"customer_id": np.repeat(np.arange(N), 12), "touchpoint": rng.choice(["visit", "buy"], 12 * N)}
    )
    rows["timestamp"] = pd.to_datetime(FIRST + np.sort(rng.integers(0, 365 * DAY_US, 12 * N)), unit="us", utc=True)
    calls = (rows["customer_id"] % 3 == 0) & (rng.random(12 * N) < 0.4)
    rows.loc[calls, "touchpoint"] = "call"
    rows["level"] = np.where(rows["customer_id"] % 3 == 0, "low", "high")
    rows["nickname"] = rows["customer_id"].astype(str)
    return read_journeys(rows, attributes=["level", "nickname"])


def churned(unlike=(), wait=30 * DAY_US):
    """Every third customer leaves, as is known a month after each cutoff."""
    cutoffs = FIRST + np.arange(60, 330, 30) * DAY_US

    def of_block(block):
        def known(since, until):
            chosen = cutoffs[(cutoffs + wait > since) & (cutoffs + wait <= until)]
            customer = np.repeat(np.arange(block.n_customers), len(chosen))
            who = block.customers[customer]
            value = (who % 3 == 0) != np.isin(who, unlike)
            return Outcomes(customer, np.tile(chosen, block.n_customers), value.astype(float))

        return known

    return of_block


def plan_of(log, *families, outcomes=None, **more):
    outcomes = {"churn": churned()} if outcomes is None else outcomes
    return learn_plan(log, Choice(["7d", "30d", "90d", "365d"], families=families, **more), LAST, outcomes)


def rows_of(plan, block, cutoff):
    return fill_matrix(plan, block, np.arange(block.n_customers + 1), np.full(block.n_customers, cutoff))


def test_the_family_of_likeness_has_these_columns(log):
    assert plan_of(log, "likeness").columns[:-2] == [
        "mean__likeness__30d", "mean__likeness__90d", "mean__likeness__365d", "last__likeness__365d",
        "min__likeness__90d", "max__likeness__90d", "last__likeness_path__365d", "max__likeness_path__90d",
    ]  # fmt: skip


def test_steps_of_those_who_left_are_likened_to_leaving(log):
    plan = plan_of(log, "likeness")
    likeness = rows_of(plan, log.block, LAST)[:, plan.columns.index("mean__likeness__365d")]
    left = log.block.customers % 3 == 0
    assert np.nanmean(likeness[left]) > 0.2 > 0.0 > np.nanmean(likeness[~left])
    table = plan.annotations.likeness
    assert table.touchpoints == ("buy", "call", "visit")
    assert all(fold[0][1] > 0.5 and fold[0][0] < 0 and fold[1][1] > 0.5 for fold in table.log_odds)


def test_rates_among_peers_follow_the_attributes_of_few_values(log):
    plan = plan_of(log, "peers")
    assert plan.numeric == ("peer_churn__level",)  # of nicknames there are too many
    assert plan.vocabularies["level"] == ("high", "low")
    rates = rows_of(plan, log.block, LAST)[:, 0]
    low = log.block.customers % 3 == 0
    assert rates[low].min() > 0.9 > 0.1 > rates[~low].max()
    peers = plan.peers[0]
    assert peers.dates[-1] == LAST
    assert set(np.diff(peers.dates)) == {30 * DAY_US}
    assert peers.dates[0] >= FIRST + 90 * DAY_US  # nothing is known before
    early = rows_of(plan, log.block, peers.dates[0] - 1)[:, 0]
    assert np.isnan(early).all()
    assert not np.isnan(rows_of(plan, log.block, peers.dates[0])[:, 0]).any()


def test_rates_are_of_the_last_year_only(log):
    asked = []

    def listened(block):
        return lambda *span: asked.append(span) or churned()(block)(*span)

    plan = plan_of(log, "peers", outcomes={"churn": listened})
    assert {until - since for since, until in asked} == {365 * DAY_US}
    assert {until for _, until in asked} >= set(plan.peers[0].dates)


def test_scores_teach_where_no_churn_is_known(log):
    scores = {"score": churned(unlike=range(N))}  # the same customers give 0, all others 1
    plan = plan_of(log, "likeness", "peers", outcomes=scores, scale=(0, 3))
    assert plan.annotations.likeness == plan_of(log, "likeness").annotations.likeness
    assert [peers.name for peers in plan.peers] == ["peer_score__level"]
    both = plan_of(log, "likeness", "peers", outcomes={"churn": churned()} | scores, scale=(0, 3))
    assert [peers.name for peers in both.peers] == ["peer_churn__level", "peer_score__level"]


def test_where_no_outcome_is_known_there_are_no_such_columns(log):
    for outcomes in ({}, {"churn": lambda _block: lambda _since, _until: Outcomes(*np.zeros((3, 0), np.int64))}):
        plan = plan_of(log, "basic", "likeness", "peers", outcomes=outcomes)
        assert plan.columns == plan_of(log, "basic").columns
        assert plan.annotations is None


def test_columns_of_peers_count_where_there_may_be_only_so_many(log):
    scores = {"score": churned()}
    every = plan_of(log, "basic", "peers", outcomes={"churn": churned()} | scores, scale=(0, 1), max_columns=None)
    n = len(every.columns)
    assert len(every.peers) == 2
    kept = plan_of(log, "basic", "peers", outcomes={"churn": churned()} | scores, scale=(0, 1), max_columns=n)
    assert kept == every
    fewer = plan_of(log, "basic", "peers", outcomes={"churn": churned()} | scores, scale=(0, 1), max_columns=n - 1)
    assert len(fewer.columns) < n
    assert fewer.peers == every.peers
    gone = [name for name in every.columns if name not in fewer.columns]
    assert gone and all("touchpoint=" in name for name in gone)


def test_the_order_of_columns_is_aggregates_then_peers_then_categories(log):
    plan = plan_of(log, "peers", "likeness", "basic")
    assert plan.columns[-3:] == ["peer_churn__level", "last__level", "last__nickname"]
    assert plan.numeric == tuple(plan.columns[:-2])
    assert FeaturePlan.from_dict(plan.to_dict()) == plan


def test_plans_without_them_are_written_as_before(log):
    data = plan_of(log, "basic", "shape", outcomes={}).to_dict()
    assert "peers" not in data
    assert "likeness" not in data["annotations"]


@pytest.mark.parametrize("more", [{"families": ["likeness"]}, {"families": ["basic", "peers"]}])
def test_a_log_alone_is_not_enough(log, more):
    with pytest.raises(ConfigError, match=f"{more['families'][-1]} are learned from outcomes, .* cxml train"):
        JourneyFeatures(**more).fit(log)
    for column in ("count__likeness>0.5__30d", "mean__likeness_path__30d"):
        with pytest.raises(ConfigError, match="likeness are learned from outcomes"):
            JourneyFeatures(families=[], columns=[column]).fit(log)


def test_a_path_named_alone_is_learned_with_the_steps(log):
    choice = Choice(["365d"], families=[], columns=[Aggregate.parse("last__likeness_path__365d")])
    alone = learn_plan(log, choice, LAST, {"churn": churned()})
    family = plan_of(log, "likeness")
    assert alone.annotations.likeness == family.annotations.likeness
    path = rows_of(alone, log.block, LAST)[:, 0]
    left = log.block.customers % 3 == 0
    assert np.nanmean(path[left]) > 1.0 > 0.0 > np.nanmean(path[~left])
    assert same_bits(path, rows_of(family, log.block, LAST)[:, family.columns.index("last__likeness_path__365d")]).all()


def test_a_measure_of_the_log_may_be_called_likeness():
    rows = pd.DataFrame(
        {
            "customer_id": 1,
            "touchpoint": "a",
            "timestamp": ["2024-01-01T00:00Z", "2024-01-02T00:00Z"],
            "likeness": [1, 3],
        }
    )
    log = read_journeys(rows, measures=["likeness"])
    plan = JourneyFeatures(families=["basic"]).fit(log).plan_
    found = rows_of(plan, log.block, parse_instant("2024-01-03"))
    assert found[0, plan.columns.index("mean__likeness__30d")] == 2.0


def test_values_depend_on_the_fold_and_a_customer_needs_an_id(log):
    plan = plan_of(log, "likeness", "peers")
    one = slice_block(log.block, 0, 1)
    values = [rows_of(plan, type(one)(**parts(one) | {"customers": np.array([i])}), LAST) for i in range(30)]
    assert len({row.tobytes() for row in values}) == N_FOLDS
    text = type(one)(**parts(one) | {"customers": np.array(["17"], object)})
    np.testing.assert_array_equal(rows_of(plan, text, LAST), values[17])
    nobody = type(one)(**parts(one) | {"customers": np.array([""], object)})
    with pytest.raises(DataError, match="without customer_id"):
        rows_of(plan, nobody, LAST)
    rows_of(plan_of(log, "basic"), nobody, LAST)


def parts(block):
    return {name: getattr(block, name) for name in ("starts", "time", "known", "categories", "measures")}


def test_rows_may_be_written_anywhere(log):
    plan = plan_of(log, "likeness", "peers")
    expected = rows_of(plan, log.block, LAST)
    rows = np.random.default_rng(0).permutation(N)
    out = np.empty((N, len(plan.columns)), np.float32)
    fill_matrix(plan, log.block, np.arange(N + 1), np.full(N, LAST), out=out, rows=rows)
    np.testing.assert_array_equal(out[rows], expected)
    longer = np.zeros((N + 5, len(plan.columns)), np.float32)
    np.testing.assert_array_equal(
        fill_matrix(plan, log.block, np.arange(N + 1), np.full(N, LAST), out=longer), expected
    )


def test_what_a_rate_comes_from_is_what_made_the_customer_a_peer(log):
    plan = plan_of(log, "peers")
    one = slice_block(log.block, 3, 4)
    found, level = (trace(plan, one, LAST, name) for name in ("peer_churn__level", "last__level"))
    assert found.events == level.events != ()
    assert found.value > 0.9
    assert found.sentence == plan.describe("peer_churn__level")


@pytest.mark.parametrize("ids", [[0, 1, -1, 17], [10**18 - 1, 10**18, -(10**18), 2**63 - 1, -(2**63)]])
def test_a_fold_does_not_depend_on_how_an_id_is_written(ids):
    texts = np.array([str(one) for one in ids], object)
    np.testing.assert_array_equal(folds_of(np.array(ids, np.int64)), folds_of(texts))
    assert set(folds_of(np.array(ids, np.int64))) <= set(range(N_FOLDS))


def test_folds_are_of_about_equal_size_and_fixed_for_good():
    texts = np.array([f"customer-{i}" for i in range(5_000)], object)
    for ids in (np.arange(5_000), texts):
        assert np.bincount(folds_of(ids), minlength=N_FOLDS).min() > 900
    assert folds_of(np.array([17, 18, 19])).tolist() == [1, 0, 4]
    assert folds_of(np.array(["ann", "bob", "017"], object)).tolist() == [2, 4, 3]


RATES = (((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)),) * N_FOLDS
VALUES = {"plan": ("flat", "free")}


@pytest.mark.parametrize(
    ("attribute", "target", "dates", "rates", "message"),
    [
        ("plan", "sales", (0, 1), RATES, "unknown target 'sales'"),
        ("plan", "churn", (1, 1), RATES, "dates must ascend"),
        ("plan", "churn", (), RATES, "dates must ascend"),
        ("plan", "churn", (0, 1), RATES[1:], "5 folds and 2 dates"),
        ("plan", "churn", (0,), RATES, "5 folds and 1 dates"),
        ("plan", "churn", (0, 1), (*RATES[1:], (RATES[0][0], (0.1,))), "5 folds and 2 dates"),
        ("plan", "churn", (0, 1), (*RATES[1:], ((float("nan"),) * 4,) * 2), "no number"),
        ("level", "churn", (0, 1), RATES, "no attribute 'level'"),
        ("plan", "churn", (0, 1), (((0.1,) * 3,) * 2,) * N_FOLDS, "needs 4 rates, .* it has 3"),
    ],
)
def test_tables_that_make_no_sense_are_refused(attribute, target, dates, rates, message):
    with pytest.raises(ConfigError, match=message):
        FeaturePlan((), VALUES, customer_attributes=("plan",), peers=(PeerTable(attribute, target, dates, rates),))


@pytest.mark.parametrize("data", [{}, {"attribute": "plan", "target": "churn", "dates": "x", "rates": []}])
def test_what_is_no_table_is_refused(data):
    with pytest.raises(ConfigError, match="peers: not a table of rates"):
        PeerTable.from_dict(data)


def test_a_project_file_and_the_features_of_python_choose_alike(log):
    config = parse_config(
        "name: shop\njourneys: {sources: [events.csv], timezone: UTC}\n"
        "features: {windows: [30d, 7d], families: [basic, trend], max_values: 7, columns: [max__gap__30d]}\n"
        "satisfaction: {kind: csat, touchpoint: survey}\n"
    )
    wanted = Choice.from_config(config)
    assert learn_plan(log, wanted) == JourneyFeatures.from_config(config).fit(log).plan_
    assert (wanted.surveys, wanted.scale, wanted.columns) == (("survey",), (1, 5), [Aggregate.parse("max__gap__30d")])
