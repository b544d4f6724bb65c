"""The simulated world keeps its promises: same seed same log, and a truth that comes true."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cxml.config import CANONICAL_COLUMNS
from cxml.errors import ConfigError
from cxml.simulate import simulate, world
from cxml.simulate.replay import _mean_less_luck

START = pd.Timestamp("2023-07-01", tz="UTC")
DAY = pd.Timedelta(1, "D")


def small(**changed):
    """A simulation of a moment."""
    return simulate(**{"n_customers": 150, "n_days": 150, "n_replays": 3, "horizons": (30, 60), **changed})


def days_to_cancelling(simulation):
    """Days from the truth's cutoff to each customer's cancellation; NaN where it was not seen."""
    events, truth = simulation.events, simulation.truth
    cancelled = events[events["touchpoint"] == "cancelled"].set_index("customer_id")["timestamp"]
    return ((truth["customer_id"].map(cancelled) - truth["cutoff"]) / DAY).to_numpy()


def calibration(probability, outcome):
    """Intercept and slope of the outcome on the probability's log-odds, with the slope's standard error."""
    X = np.column_stack([np.ones(len(probability)), np.log(probability / (1 - probability))])
    coefficients = np.array([0.0, 1.0])
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ coefficients))
        information = (X * (p * (1 - p))[:, None]).T @ X
        coefficients += np.linalg.solve(information, X.T @ (outcome - p))
    return *coefficients, float(np.sqrt(np.linalg.inv(information)[1, 1]))


def nps(scores):
    """Net Promoter Score of given answers."""
    return 100.0 * float((scores >= 9).mean() - (scores <= 6).mean())


@pytest.fixture(scope="module")
def shop():
    return simulate(8_000, random_state=1, n_replays=64)


@pytest.fixture(scope="module")
def trial():
    """The truth stands at the morning of the first campaign wave."""
    return simulate(8_000, random_state=2, n_days=330, truth_at=START + 105 * DAY, n_replays=32)


def test_the_same_seed_gives_the_same_simulation_and_another_seed_another():
    once, again, other = small(), small(), small(random_state=1)
    for name in ("events", "customers", "truth"):
        assert_frame_equal(getattr(once, name), getattr(again, name))
    assert not once.events["timestamp"].head(50).equals(other.events["timestamp"].head(50))


@pytest.mark.parametrize("asked", [{"n_replays": 17}, {"truth_at": "2023-08-15"}, {"horizons": (7,)}])
def test_what_is_asked_of_the_truth_changes_no_event(asked):
    assert_frame_equal(small().events, small(**asked).events)
    assert_frame_equal(small().customers, small(**asked).customers)


def test_events_have_the_canonical_columns_and_their_types(shop):
    events = shop.events
    assert list(events.columns) == [name for name in CANONICAL_COLUMNS if name in events.columns]
    assert str(events["timestamp"].dtype) == "datetime64[us, UTC]"
    assert events["customer_id"].dtype == np.int64
    assert events["resolved"].dtype == "boolean"
    assert all(events[name].dtype == np.float64 for name in ("value", "duration", "score"))
    expected = {
        "signup", "login", "self_service", "order", "delivered", "delivered_late", "refund", "invoice",
        "payment_failed", "price_increase", "plan_changed", "call", "chat", "email", "complaint", "survey_sent",
        "survey_answer", "campaign_offer", "cancelled",
    }  # fmt: skip
    assert set(events["touchpoint"].cat.categories) == expected
    assert set(events["channel"].cat.categories) == {"app", "web", "phone", "email", "store"}


def test_what_belongs_to_a_touchpoint_is_there_and_nowhere_else(shop):
    given = shop.events.set_index("touchpoint")[["value", "duration", "score", "case_id", "resolved"]].notna()
    share = given.groupby(level=0, observed=True).mean()
    assert set(share.index[share["score"] == 1]) == {"survey_answer"}
    assert set(share.index[share["resolved"] == 1]) == {"call", "chat", "email"}
    assert set(share.index[share["case_id"] == 1]) == {"call", "chat", "email", "complaint"}
    assert {"order", "invoice", "payment_failed", "price_increase", "refund"} <= set(share.index[share["value"] == 1])
    assert {"call", "chat", "email", "login", "delivered_late"} <= set(share.index[share["duration"] == 1])
    assert share.isin([0.0, 1.0]).all(axis=None)


def test_some_events_of_a_customer_fall_on_the_same_moment(shop):
    assert shop.events.duplicated(["customer_id", "timestamp"]).sum() > 100


def test_what_follows_an_event_comes_after_it(shop):
    events = shop.events
    unresolved = events["resolved"].eq(False).fillna(False)
    for effect, cause in (
        ("survey_answer", events["touchpoint"] == "survey_sent"),
        ("refund", events["touchpoint"] == "delivered_late"),
        ("complaint", unresolved),
    ):
        later = events.loc[events["touchpoint"] == effect, ["timestamp", "customer_id"]]
        earlier = events.loc[cause, ["timestamp", "customer_id"]].assign(last=lambda rows: rows["timestamp"])
        joined = pd.merge_asof(later, earlier, on="timestamp", by="customer_id", allow_exact_matches=False)
        within = DAY if effect != "survey_answer" else 7 * DAY
        assert (joined["timestamp"] - joined["last"] < within).all()


def test_nobody_cancels_before_the_offers_of_the_day_are_out(shop):
    events = shop.events[
        shop.events["timestamp"].dt.floor("D").isin(pd.to_datetime(list(shop.waves), unit="us", utc=True))
    ]
    hour = events["timestamp"].dt.hour
    assert hour[events["touchpoint"] == "cancelled"].min() >= hour[events["touchpoint"] == "campaign_offer"].max()


def test_the_world_neither_explodes_nor_dies_out(shop):
    months = shop.events["timestamp"].dt.strftime("%Y-%m").value_counts().sort_index()[:-1]  # the last is not whole
    assert months.max() / months.min() < 1.3
    events_per_customer_year = len(shop.events) / (len(shop.truth) * 540 / 365)
    assert 40 < events_per_customer_year < 65
    assert 0.08 < shop.truth["churn_90d"].mean() < 0.20


def test_the_truth_is_about_those_who_are_there_on_its_morning(shop):
    events, truth = shop.events, shop.truth
    before = events[events["timestamp"] < truth["cutoff"].iloc[0]]
    gone = set(before.loc[before["touchpoint"] == "cancelled", "customer_id"])
    here = sorted(set(before["customer_id"]) - gone)
    assert len(set(here) ^ set(truth["customer_id"])) <= 0.01 * len(here)  # some are there and have not stirred yet
    assert set(here) <= set(truth["customer_id"])
    assert truth["customer_id"].is_unique


def test_by_default_every_horizon_of_the_truth_closes_before_the_log_does(shop):
    assert shop.truth["cutoff"].iloc[0] == START + (540 - 90 - 1) * DAY
    assert shop.events["timestamp"].max() > shop.truth["cutoff"].iloc[0] + 90 * DAY


@pytest.mark.parametrize("horizon", [30, 60, 90])
def test_the_true_probability_comes_true(shop, horizon):
    probability = shop.truth[f"churn_{horizon}d"].to_numpy()
    outcome = days_to_cancelling(shop) < horizon
    _, slope, error = calibration(probability, outcome)
    assert abs(slope - 1.0) < 3 * error + 0.02
    assert 3 * error < 0.25  # the test can see something
    tenths = np.array_split(np.argsort(probability), 10)
    seen = np.array([outcome[rows].sum() for rows in tenths])
    expected = np.array([probability[rows].sum() for rows in tenths])
    variance = np.array([(probability[rows] * (1 - probability[rows])).sum() for rows in tenths])
    assert ((seen - expected) ** 2 / variance).sum() < 35  # chi-square of 10 tenths: 1 in 10,000


def test_the_true_probability_tells_who_leaves(shop):
    outcome = days_to_cancelling(shop) < 90
    rank = shop.truth["churn_90d"].rank().to_numpy()
    n_left, n_stayed = outcome.sum(), (~outcome).sum()
    auroc = (rank[outcome].sum() - n_left * (n_left + 1) / 2) / (n_left * n_stayed)
    assert 0.70 < auroc < 0.85


def test_who_answers_makes_the_raw_nps_look_ten_points_better_or_more(shop):
    events, truth = shop.events, shop.truth
    cutoff = truth["cutoff"].iloc[0]
    lately = events[(events["timestamp"] < cutoff) & (events["timestamp"] >= cutoff - 90 * DAY)]
    raw = nps(lately.loc[lately["touchpoint"] == "survey_answer", "score"])
    true = 100 * (truth["p_promoter"] - truth["p_detractor"]).mean()
    assert 10 < raw - true < 25
    counts = lately["touchpoint"].value_counts()
    assert 0.15 < counts["survey_answer"] / counts["survey_sent"] < 0.5


def test_satisfaction_moves_the_expected_score_up_and_churn_down(shop):
    ranks = shop.truth[["satisfaction", "expected_score", "churn_90d"]].rank()
    assert ranks["satisfaction"].corr(ranks["expected_score"]) == pytest.approx(1.0)
    assert ranks["satisfaction"].corr(ranks["churn_90d"]) < -0.6


def test_an_offer_helps_some_harms_some_and_leaves_some_alone(shop):
    effect = shop.truth["effect"]
    assert 0.2 < (effect < 0).mean() < 0.5
    assert 0.05 < (effect > 0).mean() < 0.2
    assert (effect == 0).mean() > 0.3
    assert effect.min() < -0.1
    assert effect.max() > 0.1


def test_the_campaign_is_a_coin_toss_whatever_is_true_of_the_customer(trial):
    truth = trial.truth
    assert trial.waves[0] == int(truth["cutoff"].iloc[0].value // 1000)
    treated = truth["customer_id"].isin(offered_at_truth(trial)).to_numpy()
    n = len(truth)
    assert abs(treated.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    for column in ("satisfaction", "churn_90d", "effect"):
        values = truth[column]
        assert abs(values[treated].mean() - values[~treated].mean()) < 4 * values.std() * 2 / np.sqrt(n)


def test_offers_change_churn_as_the_truth_says(trial):
    truth = trial.truth
    treated = truth["customer_id"].isin(offered_at_truth(trial)).to_numpy()
    left = days_to_cancelling(trial) < 90
    effect = truth["effect"].to_numpy()
    # Weighted by the true effect, treated minus untreated must be the true effect itself.
    surplus = (left - truth["churn_90d"].to_numpy() - 0.5 * effect) * (2 * treated - 1) * 2
    slope = (surplus * effect).sum() / (effect**2).sum()
    error = surplus.std() * np.sqrt((effect**2).sum()) / (effect**2).sum()
    assert abs(slope - 1.0) < 3 * error
    assert 3 * error < 0.9  # no effect at all would be seen


def offered_at_truth(simulation):
    """Customers who got an offer on the day of the truth."""
    events, cutoff = simulation.events, simulation.truth["cutoff"].iloc[0]
    today = (events["timestamp"] >= cutoff) & (events["timestamp"] < cutoff + DAY)
    return events.loc[today & (events["touchpoint"] == "campaign_offer"), "customer_id"]


def test_the_campaign_is_over_before_the_default_cutoff(shop):
    last = pd.Timestamp(shop.waves[-1], unit="us", tz="UTC")
    assert last + world.OFFER_DAYS * DAY <= shop.truth["cutoff"].iloc[0]
    assert len(shop.waves) == 4
    offers = shop.events.loc[shop.events["touchpoint"] == "campaign_offer", "timestamp"]
    assert set(offers.dt.floor("D")) == {pd.Timestamp(us, unit="us", tz="UTC") for us in shop.waves}


def test_a_cause_has_its_event_in_the_journey_and_raises_the_hazard(shop):
    events, truth = shop.events, shop.truth
    before = events[events["timestamp"] < truth["cutoff"].iloc[0]]
    traces = {
        "price_increase": before["touchpoint"] == "price_increase",
        "payment_failed": before["touchpoint"] == "payment_failed",
        "unresolved_contact": ~before["resolved"].fillna(True).astype(bool),
        "late_delivery": before["touchpoint"].isin(["delivered_late", "order"]),  # the order may be overdue still
    }
    for cause, trace in traces.items():
        of_cause = truth.loc[truth["cause"] == cause, "customer_id"]
        assert len(of_cause) > 0.03 * len(truth)
        assert of_cause.isin(before.loc[trace, "customer_id"]).mean() > 0.99
    mean = truth.groupby(truth["cause"] == "none")["churn_90d"].mean()
    assert mean[False] > 1.5 * mean[True]


def test_a_drift_changes_nothing_before_it_and_much_after():
    usual, drifted = small(n_customers=1500), small(n_customers=1500, drift_from="2023-10-01")
    first = pd.Timestamp("2023-10-01", tz="UTC")
    before = [run.events[run.events["timestamp"] < first].astype({"channel": str}) for run in (usual, drifted)]
    assert_frame_equal(*before)
    after = drifted.events[drifted.events["timestamp"] >= first]
    messenger = (after["channel"] == "messenger") & (after["touchpoint"] == "chat")
    assert messenger.sum() > 50
    assert "messenger" not in set(before[1]["channel"])
    delivered = after["touchpoint"].value_counts()
    usually = usual.events.loc[usual.events["timestamp"] >= first, "touchpoint"].value_counts()
    assert delivered["delivered_late"] > 1.7 * usually["delivered_late"]


def test_the_truth_of_a_drifted_world_knows_of_the_drift():
    usual = simulate(400, n_days=120, n_replays=16, truth_at="2023-08-01")
    drifted = simulate(400, n_days=120, n_replays=16, truth_at="2023-08-01", drift_from="2023-08-01")
    assert drifted.truth["churn_90d"].mean() > 1.1 * usual.truth["churn_90d"].mean()


def test_the_customer_table_follows_changes_of_plan(shop):
    customers, events = shop.customers, shop.events
    changes = events[events["touchpoint"] == "plan_changed"]
    assert len(customers) == 8_000 + len(changes)
    assert customers["customer_id"].nunique() == 8_000
    merged = changes.merge(customers, left_on=["customer_id", "timestamp"], right_on=["customer_id", "valid_from"])
    price = merged["plan"].astype(str).map(dict(zip(world.PLANS, world.PRICES, strict=True)))
    assert len(merged) == len(changes)
    assert (price == merged["value"]).all()
    again = customers.sort_values(["customer_id", "valid_from"])
    moved = again["customer_id"].eq(again["customer_id"].shift())
    assert (again["plan"].astype(str) != again["plan"].astype(str).shift())[moved].all()


def test_the_day_s_surprise_is_nothing_in_the_mean():
    rng = np.random.default_rng(5)
    traits = world.draw_traits(40_000, 300, rng)
    state = world.first_state(traits, rng)
    total = np.zeros((len(world.CAUSES), 40_000))
    for day in range(60):
        total += world.live_a_day(state, traits, world.DRIFTED if day % 2 else world.USUAL, day, rng).surprise
    t = total.mean(axis=1) / total.std(axis=1) * np.sqrt(total.shape[1])
    assert np.abs(t).max() < 4


def test_taking_luck_away_keeps_the_mean_and_cuts_the_noise():
    rng = np.random.default_rng(0)
    stays, luck = noisy_paths(rng, n_customers=40_000)
    mean, plain = _mean_less_luck(stays, luck, by_risk), stays.mean(axis=1)
    assert mean.std() < 0.6 * plain.std()
    # Both means are of the same paths, so that what luck took away is seen far below the noise of either.
    taken = plain - mean
    assert abs(taken.mean()) < 4 * taken.std() / np.sqrt(len(taken))


def noisy_paths(rng, n_customers, n_replays=16):
    """P(still there | path) that bad luck lowers, and lowers more the worse it already is."""
    luck = rng.normal(size=(n_customers, n_replays))
    return np.exp(-0.2 * np.exp(0.5 * luck + 0.1 * rng.normal(size=luck.shape))), luck


def by_risk(mean):
    return mean**2 * (1 - mean)


def test_luck_that_is_the_same_on_every_path_counts_for_nothing():
    luck = 0.1 + 1e-9 * np.arange(18.0)[None]  # rounding
    outcome = np.linspace(0.80, 0.90, 18)[None]
    assert _mean_less_luck(outcome, luck, np.ones_like) == pytest.approx(outcome.mean(), abs=1e-4)


def test_replays_agree_with_four_times_as_many():
    few, many = (small(n_customers=800, n_replays=n).truth for n in (64, 256))
    difference = few["churn_60d"] - many["churn_60d"]
    assert abs(difference.mean()) < 0.002
    assert difference.std() < 0.2 * many["churn_60d"].std()


def test_what_is_written_reads_back_the_same(tmp_path):
    simulation = small()
    paths = simulation.write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "customers.parquet", "events.parquet", "truth.parquet",
    ]  # fmt: skip
    for name, path in paths.items():
        assert_frame_equal(pd.read_parquet(path), getattr(simulation, name))


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(ConfigError, match="cannot write"):
        small().write(tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_customers": 0}, "n_customers=0 is not a whole number of at least 1"),
        ({"n_customers": 10.5}, "n_customers=10.5 is not a whole number"),
        ({"n_days": 10}, "n_days=10 is not a whole number of at least 30"),
        ({"n_replays": 0}, "n_replays=0"),
        ({"random_state": -1}, "random_state=-1"),
        ({"horizons": (60, 30)}, "are not ascending whole numbers of days"),
        ({"horizons": ()}, "are not ascending whole numbers of days"),
        ({"horizons": ("30d",)}, "are not ascending whole numbers of days"),
        ({"n_days": 60}, "too short for a horizon of 60 days"),
        ({"start": "2023-07-01T12:00"}, "start=2023-07-01T12:00 is not a midnight"),
        ({"start": "July"}, "start: 'July' is not a moment"),
        ({"truth_at": "2023-07-01"}, "outside the log; choose a midnight from 2023-07-02 to 2023-11-28"),
        ({"truth_at": "2023-11-29"}, "outside the log"),
        ({"drift_from": "2023-08-01T01:00"}, "drift_from=2023-08-01T01:00 is not a midnight"),
    ],
)
def test_a_wrong_question_is_refused_with_the_mend(changed, message):
    with pytest.raises(ConfigError, match=message):
        small(**changed)


def test_importing_the_simulator_leaves_pandas_alone():
    code = "import sys, cxml.simulate; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
