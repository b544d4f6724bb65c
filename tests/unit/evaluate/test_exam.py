"""What a test of a model reports: every metric in its place, and apart by attribute."""

import numpy as np
import pytest

from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.exam import MODEL, Exam, examine_churn, examine_scores
from cxml.evaluate.metrics import auroc, log_loss
from cxml.evaluate.profit import Campaign, expected_profit
from cxml.evaluate.survival import concordance, integrated_brier

RNG = np.random.default_rng(0)
N = 1_200
X = RNG.normal(size=N)
SCALE = 80 * np.exp(-X)
TIME = RNG.exponential(SCALE)
SEEN_UNTIL = np.where(np.arange(N) % 3 == 0, 30.0, 60.0)
DURATION, OBSERVED = np.minimum(TIME, SEEN_UNTIL), (TIME < SEEN_UNTIL).astype(float)
CDF = 1 - np.exp(-np.array([30.0, 60.0]) / SCALE[:, None])
KNOWN = (TIME[:, None] < [30.0, 60.0]).astype(float)
KNOWN[SEEN_UNTIL < 60, 1] = np.nan
PLAN = np.where(X > 0, "basic", "gold")
HORIZONS = ["30d", "60d"]


def examine(known=KNOWN, p=CDF, **options):
    return examine_churn(known, {MODEL: p, "base rate": np.full((N, 2), 0.3)}, HORIZONS, np.arange(N), n=20, **options)


def test_time_and_profit_stand_among_the_metrics_of_everybody():
    exam = examine(followed=(DURATION, OBSERVED))
    found = exam.flat()
    assert found["concordance"] == concordance(DURATION, OBSERVED, CDF[:, 1], until_days=60)
    assert found["integrated_brier"] == integrated_brier(DURATION, OBSERVED, CDF, horizons_days=[30, 60])
    assert found["expected_profit_30d"] == expected_profit(KNOWN[:, 0], CDF[:, 0])
    assert exam.scores["base rate"]["concordance"].value == pytest.approx(0.5)
    shown = [row[0] for row in exam.table()[2]]
    assert {"concordance", "integrated_brier", "expected_profit_30d", "auroc_60d"} <= set(shown)
    assert "brier_reliability_30d" not in shown


def test_each_reason_is_judged_against_all_who_did_not_leave_for_it():
    moved = np.where(KNOWN == 1.0, (np.arange(N) % 4 == 0)[:, None], KNOWN)
    found = examine(reasons={"moved": (moved, CDF / 4), "annoyed": (KNOWN - moved, CDF * 3 / 4)}).flat()
    for k, horizon in enumerate(HORIZONS):
        seen = ~np.isnan(KNOWN[:, k])
        assert found[f"auroc_moved_{horizon}"] == auroc(moved[seen, k], CDF[seen, k])
        assert found[f"log_loss_moved_{horizon}"] == log_loss(moved[seen, k], CDF[seen, k] / 4)
        shares = found[f"base_rate_moved_{horizon}"], found[f"base_rate_annoyed_{horizon}"]
        assert sum(shares) == pytest.approx(found[f"base_rate_{horizon}"])
    assert "brier_moved_30d" not in found


def test_without_times_there_is_no_concordance():
    assert "concordance" not in examine().flat()


def test_inactivity_is_judged_by_the_time_of_the_return():
    """Churn is the absence of a return, so the same times with the probabilities turned round give the same figures."""
    ours = examine(followed=(DURATION, OBSERVED)).flat()
    turned = examine(1 - KNOWN, 1 - CDF, followed=(DURATION, OBSERVED), inactivity=True).flat()
    for metric in ("concordance", "integrated_brier"):
        assert turned[metric] == pytest.approx(ours[metric])
    assert ours["concordance"] > 0.65


def test_a_horizon_nobody_was_followed_for_is_left_out_of_all_metrics():
    known = KNOWN.copy()
    known[:, 1] = np.nan
    found = examine(known, followed=(np.minimum(DURATION, 30), OBSERVED * (DURATION < 30))).flat()
    assert not any(name.endswith("60d") for name in found)
    assert found["integrated_brier"] == pytest.approx(found["brier_30d"])


def test_the_value_of_customers_and_the_cost_of_the_campaign_are_passed_on():
    value, campaign = RNG.exponential(100, N), Campaign(offer=5.0, contact=0.5)
    found = examine(value=value, campaign=campaign).flat()["expected_profit_30d"]
    assert found == expected_profit(KNOWN[:, 0], CDF[:, 0], value, campaign=campaign)


def test_attributes_take_the_first_horizon_apart_and_one_value_alone_is_no_slice():
    slices = examine(attributes={"plan": PLAN, "country": np.full(N, "ch")}).slices
    assert {(s.attribute, s.value) for s in slices} == {("plan", "basic"), ("plan", "gold")}
    assert set(slices[0].scores) == {"auroc_30d", "log_loss_30d", "base_rate_30d", "rate_error_30d"}
    basic = next(s for s in slices if s.value == "basic")
    assert basic.scores["base_rate_30d"].value == KNOWN[PLAN == "basic", 0].mean()


def test_the_error_of_the_expected_nps_stands_by_segment():
    scores = RNG.integers(0, 11, N).astype(float)
    q = np.full((N, 11), 1 / 11)
    exam = examine_scores(scores, {MODEL: q}, 0, (6, 8), np.arange(N), attributes={"plan": PLAN}, n=20)
    for part in exam.slices:
        mine = scores[part.value == PLAN]
        observed = 100 * ((mine >= 9).mean() - (mine <= 6).mean())
        assert part.scores["nps_error"].value == pytest.approx(100 * (2 - 7) / 11 - observed)
    assert set(exam.slices[0].scores) == {"rps", "mae", "nps_error"}


def all_intervals(exam):
    """Every interval of an exam by its place; those of bins left out, as equal rows move the edges a little."""
    found = {("score", who, metric): one for who, metrics in exam.scores.items() for metric, one in metrics.items()}
    found |= {("gain", who, metric): one for who, metrics in exam.gains.items() for metric, one in metrics.items()}
    found |= {("slice", part.value, metric): one for part in exam.slices for metric, one in part.scores.items()}
    return {key: one for key, one in found.items() if not key[-1].startswith(("ece", "brier_re"))}


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_snapshots_of_a_customer_are_drawn_together_so_that_more_alike_make_nothing_surer(target):
    """Three equal rows a customer: scores, slices and the paired differences of the verdict are as sure as by one."""
    answers = np.random.default_rng(1).integers(0, 11, N).astype(float)
    likely, even = np.random.default_rng(2).dirichlet(np.ones(11), N), np.full((N, 11), 1 / 11)

    def exam_of(times):
        rows = np.repeat(np.arange(0, N, 3), times)
        options = {"attributes": {"plan": PLAN[rows]}, "n": 40}
        if target == "satisfaction":
            predictions = {MODEL: likely[rows], "base distribution": even[rows]}
            return examine_scores(answers[rows], predictions, 0, (6, 8), rows, **options)
        predictions = {MODEL: CDF[rows], "base rate": np.full((len(rows), 2), 0.3)}
        followed = DURATION[rows], OBSERVED[rows]
        return examine_churn(KNOWN[rows], predictions, HORIZONS, rows, followed=followed, **options)

    once, thrice = all_intervals(exam_of(1)), all_intervals(exam_of(3))
    assert {kind for kind, _, _ in once} == {"score", "gain", "slice"}
    assert thrice.keys() == once.keys()
    for key, one in once.items():
        assert thrice[key] == pytest.approx(one, rel=1e-6, nan_ok=True), key


GOOD, CLOSE = Interval(-0.02, -0.03, -0.01), Interval(-0.001, -0.01, 0.02)
BAD, WORST = Interval(0.01, -0.01, 0.03), Interval(0.04, 0.01, 0.06)


def exam_with(target, **gains):
    metric = {"churn": "log_loss_30d", "satisfaction": "rps"}[target]
    return Exam(target, 9, 9, {MODEL: {}}, {who: {metric: gain} for who, gain in gains.items()})


@pytest.mark.parametrize(("target", "decides"), [("churn", "log loss"), ("satisfaction", "RPS")])
def test_the_verdict_says_on_what_the_model_is_better(target, decides):
    assert exam_with(target, base=GOOD).verdict() == f"{target}: better than every baseline on {decides}, beyond chance"
    close = exam_with(target, base=GOOD, rule=CLOSE).verdict()
    assert close.startswith(f"{target}: better than every baseline on {decides}, but within chance on ")
    assert exam_with(target, base=BAD).verdict().startswith(f"{target}: does NOT beat every baseline on {decides}: ")


def test_an_interval_that_is_not_known_proves_nothing():
    """One customer has no interval, and no known outcome has no difference."""
    unsure = exam_with("churn", base=Interval(-0.02, float("nan"), float("nan")))
    assert "but within chance" in unsure.verdict()
    nothing = Exam("churn", 9, 9, {MODEL: {}}, {"base": {}})
    assert not nothing.beats_all
    assert nothing.verdict() == "churn: nothing to compare with on log loss"


def test_the_verdict_names_the_worst_difference_and_counts_the_others():
    exam = exam_with("churn", base=GOOD, rule=BAD, regression=WORST, trees=BAD, last=CLOSE)
    assert exam.verdict() == (
        "churn: does NOT beat every baseline on log loss: no better on log_loss_30d against regression "
        "(+0.0400, +0.0100 to +0.0600) and 2 more; within chance on 1"
    )
    assert len(exam.unbeaten()) == 3
    assert exam_with("churn", base=WORST).verdict().endswith("against base (+0.0400, +0.0100 to +0.0600)")
