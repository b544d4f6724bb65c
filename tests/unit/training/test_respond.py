"""From a simulated log to the satisfaction of everybody, against the simulator's truth."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.demo import PROJECT
from cxml.errors import ConfigError, DataError
from cxml.evaluate.expected_nps import estimate
from cxml.journeys.read import read_journeys
from cxml.models.response import ResponseModel
from cxml.models.satisfaction import SatisfactionModel
from cxml.simulate import simulate
from cxml.times import DAY_US, Duration, format_instant
from cxml.training.respond import askings, at_risk, expected_nps, latest, speak
from cxml.training.studies import plan_features

END = pd.Timestamp("2023-07-01", tz="UTC") + pd.Timedelta(days=540)
YEAR = Duration.parse("365d")


BARE = ("customers:", "source: customers", "attributes: [plan")


def config_of(*drop):
    """The demo's project without some of its lines."""
    return parse_config("\n".join(line for line in PROJECT.splitlines() if not line.strip().startswith(drop)))


def read(events):
    return read_journeys(
        events, timezone="UTC", score_scale=(0, 10), survey="survey_answer", activity=["login", "order"]
    )


@pytest.fixture(scope="module")
def world():
    return simulate(1200, n_days=540, random_state=5, truth_at=END, n_replays=2)


@pytest.fixture(scope="module")
def log(world):
    return read(world.events)


@pytest.fixture(scope="module")
def config():
    return config_of(*BARE)


@pytest.fixture(scope="module")
def plan(log, config):
    return plan_features(log, config, log.first + (log.last - log.first) // 2)


@pytest.fixture(scope="module")
def found(log, config, plan):
    return expected_nps(log, config, plan, window=YEAR, folds=3)


def test_the_corrected_figures_are_far_nearer_to_the_truth_than_the_answers(found, world):
    truth = 100 * (world.truth["p_promoter"] - world.truth["p_detractor"]).mean()
    figures = found.find("nps").figures
    assert figures.raw.value - truth > 10
    for corrected in (figures.ipw, figures.dr):
        assert abs(corrected.value - truth) < 0.7 * (figures.raw.value - truth)
    true_mean, mean = world.truth["expected_score"].mean(), found.find("mean").figures
    assert abs(mean.dr.value - true_mean) < mean.raw.value - true_mean


def test_intervals_reach_as_far_as_hidden_feeling_may_move_the_figure(found, log, config, plan):
    """On the side away from the raw answers, by the odds of the share; 0 leaves them as chance alone makes them."""
    by_chance = expected_nps(log, config, plan, window=YEAR, folds=3, hidden=0.0).lines[0]
    line = found.lines[0]
    further = (line.hidden["0.1"] - line.figures.dr.value) * 9 * 0.05 / 0.95
    assert further < 0  # whoever stays silent is the less content
    assert line.figures.dr.low == pytest.approx(by_chance.figures.dr.low + further, abs=1e-9)
    assert line.figures.dr.high == by_chance.figures.dr.high
    assert line.figures.raw == by_chance.figures.raw


def test_raw_is_what_a_dashboard_shows(found, world):
    events = world.events
    asked = events.loc[events["touchpoint"] == "survey_sent"]
    assert found.response["asked"] <= len(asked)
    answers = events.loc[(events["touchpoint"] == "survey_answer"), "score"]
    assert found.response["answered"] <= len(answers)
    given = answers[events.loc[answers.index, "timestamp"] >= END - pd.Timedelta(days=365)]
    assert found.find("nps").figures.raw.value == pytest.approx(
        100 * ((given >= 9).mean() - (given <= 6).mean()), abs=2.0
    )


def test_it_speaks_for_all_customers_of_the_moment(found, world):
    assert found.find("nps").figures.n_population == pytest.approx(len(world.truth), rel=0.02)
    assert len(found.people.customer) == found.find("nps").figures.n_population
    assert ((found.people.propensity > 0) & (found.people.propensity < 1)).all()
    assert (found.people.variance > 0).all()


def test_the_company_is_told_by_name_for_mlflow(found):
    metrics = found.metrics()
    assert {"nps_raw", "nps_ipw_low", "nps_dr", "nps_dr_high", "mean_dr"} <= set(metrics)
    assert metrics["nps_dr_low"] < metrics["nps_dr"] < metrics["nps_dr_high"]


def test_nothing_that_became_known_later_changes_a_bit(world, config, plan, log):
    until = log.last - 150 * DAY_US
    early = world.events[world.events["timestamp"] < pd.Timestamp(until, unit="us", tz="UTC")]
    one = expected_nps(log, config, plan, until=until, folds=2)
    other = expected_nps(read(early), config, plan, until=until, folds=2)
    assert one.lines == other.lines
    assert repr(one.ceiling) == repr(other.ceiling)  # NaN is unlike itself


def test_askings_still_running_are_left_out(log, config):
    until = log.last - 100 * DAY_US
    asked = askings(log, config, until)
    assert asked.patience > DAY_US
    assert asked.cutoff.max() < until - asked.patience
    few = latest(asked, 50)
    assert len(few.cutoff) == 50
    assert few.cutoff.min() >= np.sort(asked.cutoff)[-50]


def test_where_asking_is_not_recorded_everybody_at_risk_counts_as_asked(log, config):
    silent = config_of(*BARE, "asked:")
    asked = askings(log, silent, log.last + 1)
    every = silent.snapshots.every.us
    assert set((log.last + 1 - asked.cutoff) % every) == {0}
    customer, moment = at_risk(log, silent, np.unique(asked.cutoff), None)
    assert np.array_equal(customer, asked.customer)
    assert np.array_equal(moment, asked.cutoff)
    block = log.block
    codes = block.categories["touchpoint"]
    is_answer = codes.codes == codes.vocabulary.index("survey_answer")
    for row in np.flatnonzero(asked.answered)[:20]:
        own = slice(block.starts[asked.customer[row]], block.starts[asked.customer[row] + 1])
        inside = is_answer[own] & (block.time[own] >= asked.cutoff[row]) & (block.time[own] < asked.cutoff[row] + every)
        assert block.measures["score"][own][inside][0] == asked.score[row]
    for row in np.flatnonzero(~asked.answered)[:20]:
        own = slice(block.starts[asked.customer[row]], block.starts[asked.customer[row] + 1])
        inside = is_answer[own] & (block.time[own] >= asked.cutoff[row]) & (block.time[own] < asked.cutoff[row] + every)
        assert not inside.any()


def test_months_follow_each_other_and_each_has_its_customers(log, config, plan):
    found = expected_nps(log, config, plan, every="month", folds=2)
    lines = [line for line in found.lines if line.statistic == "nps"]
    assert all(format_instant(line.first).endswith("-01") for line in lines)
    assert [line.until for line in lines[:-1]] == [line.first for line in lines[1:]]
    assert lines[-1].until == log.last + 1
    assert len({line.figures.n_population for line in lines}) > 1


def test_a_project_of_surveys_only_speaks_for_the_asked(log, plan):
    text = PROJECT[: PROJECT.index("customers:")] + PROJECT[PROJECT.index("satisfaction:") :]
    found = expected_nps(log, parse_config(text), plan, window=YEAR, folds=2)
    figures = found.find("nps").figures
    assert figures.n_population == figures.n_asked
    assert figures.dr.value < figures.raw.value


def test_what_cannot_be_told_is_refused(log, config, plan):
    with pytest.raises(ConfigError, match="no attribute 'plann'"):
        expected_nps(log, config, plan, by="plann", folds=2)
    with pytest.raises(ConfigError, match="did you mean 'month'"):
        expected_nps(log, config, plan, every="months", folds=2)
    with pytest.raises(DataError, match="60 are needed"):
        expected_nps(log, config, plan, until=log.first + 20 * DAY_US)
    assert speak(log, config.model_copy(update={"satisfaction": None}), plan) is None


@pytest.mark.parametrize("dropped", [(), ("asked:",)])
def test_an_answer_that_comes_after_the_moment_is_not_there_yet(dropped):
    start = pd.Timestamp("2024-01-01", tz="UTC")
    rows = [(who, 0, "login", np.nan) for who in range(300)]
    rows += [(who, 5, "survey_sent", np.nan) for who in range(300)]
    rows += [(who, 6, "survey_answer", 9.0) for who in range(200)]
    rows += [(299, 60, "survey_answer", 1.0), (1, 90, "login", np.nan), (2, 20, "cancelled", np.nan)]
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    events["timestamp"] = start + pd.to_timedelta(events.pop("day"), unit="D")
    until = start + pd.Timedelta(days=35)
    config, moment = config_of(*BARE, *dropped), int(until.value // 1000)
    seen = [askings(read(some), config, moment) for some in (events, events[events["timestamp"] < until])]
    assert np.array_equal(seen[0].score, seen[1].score, equal_nan=True)
    assert seen[0].answered.sum() == 200
    assert seen[0].patience == seen[1].patience
    later = askings(read(events), config, moment + 30 * DAY_US)
    assert later.answered.sum() == 201


SURVEYS = """
name: shop
journeys: {sources: [events.csv], timezone: UTC, measures: [height]}
snapshots: {every: 30d, lookback: 90d}
features: {windows: [30d]}
satisfaction: {kind: nps, touchpoint: answer, asked: question}
"""


def measured(n=120, times=6):
    """Customers told apart by their height, who are asked every 20 days and mostly answer."""
    rng = np.random.default_rng(0)
    rows = []
    for customer, height in enumerate(rng.normal(170, 10, n)):
        for day in 10 + customer % 20 + 20 * np.arange(times):
            rows += [(customer, day - 1, "login", np.nan, height), (customer, day, "question", np.nan, height)]
            if rng.random() < 0.7:
                rows.append((customer, day + 1, "answer", float(rng.integers(0, 11)), height))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score", "height"])
    frame["timestamp"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(frame.pop("day"), unit="D")
    return read_journeys(frame, timezone="UTC", measures=["height"])


def test_no_model_says_anything_of_a_customer_it_learned_from(monkeypatch):
    """Neither that of the answers nor that of answering, with all customers nor with halves of them; none is left out.

    A model knows the answers of those it learned from, and would correct nothing for them.
    """
    monkeypatch.setattr("cxml.training.respond.FEWEST_FOR_HALVES", 100)
    log, config = measured(), parse_config(SURVEYS)
    plan = plan_features(log, config, log.last + 1)
    height, learned, told = plan.columns.index("last__height__30d"), {}, {}

    def watch(kind, name, seen):
        method = getattr(kind, name)

        def spy(self, X, *arguments, **options):
            seen.setdefault(self, []).append(X[:, height])
            return method(self, X, *arguments, **options)

        monkeypatch.setattr(kind, name, spy)

    watch(SatisfactionModel, "fit", learned)
    watch(SatisfactionModel, "predict_proba", told)
    watch(ResponseModel, "fit", learned)
    watch(ResponseModel, "predict_latent", told)
    expected_nps(log, config, plan, window=YEAR, folds=3)
    for kind in (SatisfactionModel, ResponseModel):
        models = [model for model in told if isinstance(model, kind)]
        assert len(models) == 3 * 3  # folds, by all customers and by either half
        for model in models:
            assert not {*learned[model][0].tolist()} & {*told[model][0].tolist()}
        judged = np.concatenate([told[model][0] for model in models])
        values, times = np.unique(judged, return_counts=True)
        assert len(values) == log.n_customers
        assert len({*times.tolist()}) == 1


def test_what_is_expected_of_the_silent_is_fitted_to_the_answers_weighted_for_silence(log, plan, monkeypatch):
    """What the expected values miss has the mean 0 by the weights with which answers speak, not by answers as they are.

    Weighted alike, the many answers of the willing would say what to expect of those who hardly ever answer.
    """
    text = PROJECT[: PROJECT.index("customers:")] + PROJECT[PROJECT.index("satisfaction:") :]
    seen = []

    def spy(asked, *arguments, **options):
        seen.append(asked)
        return estimate(asked, *arguments, **options)

    monkeypatch.setattr("cxml.training.respond.estimate", spy)
    expected_nps(log, parse_config(text), plan, window=Duration.parse("3650d"), folds=2)
    assert len(seen) == 2  # NPS and mean score
    for asked in seen:
        came = asked.answered
        assert came.sum() > 500 and (~came).sum() > 500
        missed = asked.value[came] - asked.expected[came]
        spread = missed.std()
        assert abs(np.average(missed, weights=1 / np.maximum(asked.propensity[came], 0.02))) < 1e-6 * spread
        assert abs(missed.mean()) > 1e-4 * spread


def test_models_of_halves_of_the_customers_say_how_much_further_to_correct(found, log, config, plan, monkeypatch):
    """With answers enough the figure goes on along the line from half of the customers to all, and is less sure."""
    assert any("too few to learn from halves" in note for note in found.notes)
    monkeypatch.setattr("cxml.training.respond.FEWEST_FOR_HALVES", 500)
    further = expected_nps(log, config, plan, window=YEAR, folds=3)
    assert not any("halves" in note for note in further.notes)
    for statistic, least in (("nps", 1.0), ("mean", 0.03)):
        one, other = found.find(statistic).figures, further.find(statistic).figures
        assert other.raw == one.raw
        for name in ("ipw", "dr"):
            whole, gone_on = getattr(one, name), getattr(other, name)
            assert gone_on.value < whole.value - least < one.raw.value - least
            assert gone_on.high - gone_on.low > 1.02 * (whole.high - whole.low)
