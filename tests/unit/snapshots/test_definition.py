"""The churn definition against customers whose return is known in closed form."""

import numpy as np
import pytest

import cxml
from cxml.config import ChurnConfig
from cxml.errors import ConfigError, DataError
from cxml.snapshots.definition import (
    Choice,
    ReturnRates,
    choose_gap,
    counted_errors,
    default_within,
    measure_definition,
    return_rates,
)
from cxml.snapshots.silences import NEVER, Moments, Silences, find_silences, inspect, read_moments
from cxml.times import DAY_US

LEAVES, RATES = 0.15, (1 / 5, 1 / 40)  # after each visit; visits a day of the two kinds of customers


def customers(n: int, days: int, seed: int, leaves: float = LEAVES, rates=RATES) -> Moments:
    """Customers who come at any time, half of each kind, visit at random and at some visit leave for good."""
    rng = np.random.default_rng(seed)
    burn_in = 8 * max(1 / r for r in rates) / leaves
    visits = rng.geometric(leaves, size=n)
    owner = np.repeat(np.arange(n), visits)
    gap = rng.exponential(1 / np.array(rates)[owner % len(rates)])
    first = np.cumsum(visits) - visits
    gap[first] = rng.uniform(-burn_in, days, size=n)
    total = np.cumsum(gap)
    at = total - np.repeat(total[first] - gap[first], visits)
    seen = (at >= 0) & (at < days)
    counts = np.bincount(owner[seen], minlength=n)
    time = (at[seen] * DAY_US).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    return Moments(starts, time, np.full(len(time), NEVER), 0, days * DAY_US)


def true_return(gap: float, within: float) -> float:
    """P(back within | silent for the gap): both kinds make equally many visits."""
    stay = [(1 - LEAVES) * np.exp(-r * gap) for r in RATES]
    back = sum(s * (1 - np.exp(-r * within)) for s, r in zip(stay, RATES, strict=True))
    return back / sum(LEAVES + s for s in stay)


def true_hidden(gap: float, within: float) -> float:
    """P(not back within | silent for less than the gap) on a day of the steady state."""
    away = sum(LEAVES * gap + (1 - LEAVES) * (np.exp(-r * within) - np.exp(-r * (gap + within))) / r for r in RATES)
    return away / sum(LEAVES * gap + (1 - LEAVES) * (1 - np.exp(-r * gap)) / r for r in RATES)


def test_return_rates_and_hidden_leavers_are_the_true_ones():
    moments = customers(60_000, 400, seed=0)
    gaps = [5, 20, 60]
    rates = return_rates(find_silences(moments), gaps, within=60)
    hidden = counted_errors(moments, gaps, within=60).hidden
    for k, gap in enumerate(gaps):
        assert rates.rate[k] == pytest.approx(true_return(gap, 60), abs=0.015)
        assert hidden[k] == pytest.approx(true_hidden(gap, 60), abs=0.015)


def test_intervals_cover_the_truth_as_often_as_they_say():
    gaps, within = [5, 20, 60], 60
    truth = np.array([[true_return(g, within), true_hidden(g, within)] for g in gaps])
    inside = []
    for seed in range(150):
        moments = customers(1_500, 300, seed=100 + seed)
        rates, errors = return_rates(find_silences(moments), gaps, within), counted_errors(moments, gaps, within)
        low, high = np.stack([rates.low, errors.hidden_low], 1), np.stack([rates.high, errors.hidden_high], 1)
        inside.append((low <= truth) & (truth <= high))
    covered = np.mean(inside, axis=0)
    assert (covered > 0.89).all(), covered
    assert (covered.mean(axis=0) < 0.99).all(), covered


def test_intervals_are_wider_where_few_customers_make_the_same_silences():
    n = np.arange(400)
    back = n // 4 % 4 == 0  # four silences each, all alike
    days, followed = np.where(back, 12, 60), np.full(400, 60)
    one = return_rates(Silences(n, n * 0, days, back, followed), [10], 20)
    other = return_rates(Silences(n // 4, n * 0, days, back, followed), [10], 20)
    assert one.rate[0] == other.rate[0] == pytest.approx(0.25)
    assert other.high[0] - other.low[0] == pytest.approx(2 * (one.high[0] - one.low[0]), rel=0.02)


def test_open_silences_count_for_as_long_as_they_were_followed():
    n = np.arange(300)
    back = n < 60  # a fifth comes back on day 20; half are followed for 20 whole days, not for that one
    followed = np.where(n % 2, 20, 100)
    days = np.where(back & (followed > 20), 20, followed)
    silences = Silences(n, n * 0, days, back & (followed > 20), followed)
    assert return_rates(silences, [10], 30).rate[0] == pytest.approx(0.2)
    assert (silences.returned.sum() / 300) == pytest.approx(0.1)  # what counting the seen returns would say


def test_a_gap_with_few_followed_customers_is_not_judged():
    rates = return_rates(find_silences(customers(2_000, 100, seed=0)), [10, 80], within=30)
    assert np.isnan(rates.rate[1])
    assert np.isfinite(rates.rate[0])


def test_what_happens_on_the_day_of_an_inspection_is_its_future():
    moments = Moments(np.array([0, 2]), np.array([0, 4]) * DAY_US, np.array([NEVER, 8 * DAY_US]), 0, 20 * DAY_US)
    seen = [(one.silent_us // DAY_US, one.back_us // DAY_US) for one in inspect(moments, [4 * DAY_US])]
    assert seen == [(4, 0)]
    customers_left = [len(one.customer) for one in inspect(moments, [8 * DAY_US, 8 * DAY_US + 1])]
    assert customers_left == [1, 0]  # a journey that ends on the day is still open then


def test_who_may_have_come_back_is_not_counted_where_the_journey_ended_first():
    on_day_20 = np.array([20 * DAY_US])
    stays = Moments(np.array([0, 1]), on_day_20, np.full(1, NEVER), 0, 60 * DAY_US)
    ended = Moments(np.array([0, 1]), on_day_20, np.array([45 * DAY_US]), 0, 60 * DAY_US)
    assert counted_errors(stays, [30], within=20).hidden[0] == 1
    assert np.isnan(counted_errors(ended, [30], within=20).hidden[0])
    assert counted_errors(stays, [5], within=20).label_rate[0] == 1
    assert np.isnan(counted_errors(ended, [5], within=20).label_rate[0])


# ---------------------------------------------------------------- the choice


def rates_of(gaps, rate, half=0.01) -> ReturnRates:
    gap, share = np.array(gaps), np.array(rate, dtype=float)
    return ReturnRates(90, gap, gap, gap, share, share - half, share + half)


def test_the_shortest_gap_within_the_tolerance_is_chosen():
    assert choose_gap(rates_of([30, 60, 90], [0.5, 0.15, 0.1]), 0.2).gap_days == 60


def test_a_dip_that_a_longer_gap_contradicts_is_not_chosen():
    assert choose_gap(rates_of([30, 60, 90, 120], [0.5, 0.15, 0.4, 0.1]), 0.2).gap_days == 120


def test_a_longer_gap_that_is_too_uncertain_contradicts_nothing():
    rates = rates_of([30, 60, 90], [0.5, 0.15, 0.22], half=0.04)
    assert choose_gap(rates, 0.2).gap_days == 60


def test_where_no_gap_is_sure_enough_more_than_half_must_stay_away():
    assert choose_gap(rates_of([30, 60, 90], [0.7, 0.49, 0.4]), 0.2) == Choice(60, 0.5, 60, 60)


def test_where_most_always_come_back_no_gap_is_chosen():
    assert choose_gap(rates_of([30, 60], [0.9, 0.8]), 0.2) == Choice(None, 0.5, None, None)


def test_a_tolerance_above_a_half_is_kept_as_it_is():
    assert choose_gap(rates_of([30, 60], [0.9, 0.6]), 0.7).gap_days == 60


# ---------------------------------------------------------------- all of it


def test_the_chosen_gap_is_that_of_the_true_curve():
    found = measure_definition(customers(20_000, 720, seed=1), gaps=[10, 30, 60, 90, 120], within=120, tolerated=0.2)
    true = [g for g in (10, 30, 60, 90, 120) if true_return(g, 120) <= 0.2]
    assert found.choice.gap_days == true[0]
    assert found.curve.gap_days[[0, -1]].tolist() == [10, 120]


def test_cohorts_alike_lead_to_the_same_gap_and_others_do_not():
    steady = measure_definition(customers(20_000, 720, seed=1), gaps=[30, 60, 90, 120], within=120)
    halves = [c.choice.gap_days for c in steady.cohorts[:2]]
    assert halves == [steady.choice.gap_days] * 2
    early, late = customers(8_000, 360, seed=2, rates=(1 / 5,)), customers(8_000, 360, seed=3, rates=(1 / 40,))
    shift = 360 * DAY_US
    both = Moments(
        np.concatenate([early.starts, late.starts[1:] + len(early.time)]),
        np.concatenate([early.time, late.time + shift]),
        np.full(len(early.time) + len(late.time), NEVER), 0, 720 * DAY_US,
    )  # fmt: skip
    moved = measure_definition(both, gaps=[10, 20, 30, 60, 90, 120, 150], within=120).cohorts[:2]
    assert moved[0].choice.gap_days <= 20
    assert moved[1].choice.gap_days >= 120


def test_cohorts_are_named_by_quarter_in_a_short_log_and_by_year_in_a_long_one():
    short = measure_definition(customers(3_000, 400, seed=1), within=90)
    long = measure_definition(customers(3_000, 1_200, seed=1), within=90)
    assert [c.name for c in short.cohorts[2:4]] == ["first seen 1970 Q1", "first seen 1970 Q2"]
    assert [c.name for c in long.cohorts[2:4]] == ["first seen 1970", "first seen 1971"]


def test_the_time_to_return_is_a_round_quarter_of_the_log_and_at_most_a_year():
    def log_of(days):
        return Moments(np.array([0, 1]), np.zeros(1, int), np.full(1, NEVER), 0, days * DAY_US)

    assert [default_within(log_of(d)) for d in (2, 120, 540, 4_000)] == [1, 30, 120, 365]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"gaps": [0]}, "whole days"), ({"within": 0}, "whole days"), ({"tolerated": 1.0}, "between 0 and 1")],
)
def test_numbers_that_make_no_sense_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        measure_definition(customers(300, 200, seed=0), **wrong)


def test_a_log_too_short_or_too_small_is_refused_with_the_mend():
    with pytest.raises(DataError, match="shorter time"):
        measure_definition(customers(300, 200, seed=0), gaps=[150], within=100)
    with pytest.raises(DataError, match="30 customers"):
        measure_definition(customers(20, 200, seed=0), gaps=[20], within=30)


# ---------------------------------------------------------------- reading


def read(rows, **config):
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["customer_id", "timestamp", "touchpoint"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    return cxml.read_journeys(frame, **config)


ROWS = [
    (1, "2024-01-01", "mailing"), (1, "2024-01-05", "order"), (1, "2024-02-01", "sold"), (1, "2024-03-01", "order"),
    (2, "2024-01-10", "order"), (2, "2024-01-20", "cancelled"), (2, "2024-01-25", "mailing"),
]  # fmt: skip


def test_only_activity_breaks_a_silence():
    moments = read_moments(read(ROWS, activity=["order"]))
    assert moments.starts.tolist() == [0, 2, 3]
    assert len(read_moments(read(ROWS)).time) == 7


def test_cancelling_is_no_activity_and_an_end_closes_the_silence_before_it():
    churn = ChurnConfig(kind="event", touchpoints=["cancelled"], ends=["sold"])
    moments = read_moments(read(ROWS), churn)
    assert len(moments.time) == 5
    closed = moments.closed[moments.closed != NEVER]
    assert closed.view("datetime64[us]").astype("datetime64[D]").astype(str).tolist() == ["2024-02-01"]
    assert find_silences(moments).followed[1] == 27  # from January 5th to the sale


def test_customers_begin_where_the_config_says():
    moments = read_moments(read(ROWS), ChurnConfig(kind="inactivity", starts=["sold"]))
    assert moments.n_customers == 1
    assert len(moments.time) == 2


def test_events_count_by_when_they_happened_not_by_when_they_became_known():
    import pandas as pd

    frame = pd.DataFrame({
        "customer_id": [1, 1], "touchpoint": "order",
        "timestamp": pd.to_datetime(["2024-01-01", "2024-01-11"], utc=True),
        "available_at": pd.to_datetime(["2024-01-01", "2024-06-01"], utc=True),
    })  # fmt: skip
    late = read_moments(cxml.read_journeys(frame))
    assert np.diff(late.time).tolist() == [10 * DAY_US]


def test_a_log_can_be_read_as_if_it_ended_earlier():
    log = read(ROWS, activity=["order"])
    assert len(read_moments(log, until="2024-02-01").time) == 2
    with pytest.raises(ConfigError, match="2024-01-01 to 2024-03-01"):
        read_moments(log, until="2025-01-01")
    with pytest.raises(ConfigError, match="not a moment"):
        read_moments(log, until="soon")


def test_moments_do_not_depend_on_how_the_log_is_held(tmp_path):
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "customer_id": [f"c{i}" for i in rng.integers(0, 200, size=3_000)],
        "timestamp": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 300, size=3_000), unit="D"),
        "touchpoint": rng.choice(["order", "mailing", "sold"], size=3_000),
    })  # fmt: skip
    frame.to_parquet(tmp_path / "events.parquet")
    churn = ChurnConfig(kind="inactivity", ends=["sold"])
    logs = [
        cxml.read_journeys(tmp_path / "events.parquet", activity=["order"], memory_limit=limit)
        for limit in ("1GB", "1kB")
    ]
    assert logs[1].events.on_disk
    one, other = (read_moments(log, churn) for log in logs)
    whole = read_moments(cxml.read_journeys(frame, activity=["order"]), churn)
    for name in Moments.__slots__:
        assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(getattr(one, name), getattr(whole, name))


def test_activity_that_does_not_occur_is_refused_with_the_nearest_name():
    with pytest.raises(DataError, match="did you mean 'order'"):
        read_moments(read(ROWS, activity=["orders"]))


def test_nobody_active_is_refused():
    with pytest.raises(DataError, match="nobody was active"):
        read_moments(read(ROWS, activity=["order"]), until="2024-01-03")
