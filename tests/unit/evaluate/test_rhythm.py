"""Personal rhythm: it is learned as it is, and wins exactly where customers differ."""

import numpy as np
import pytest

from cxml.errors import DataError
from cxml.evaluate.rhythm import Rhythm, compare_rules, fit_rhythm, found_at, personal_days
from cxml.snapshots.silences import NEVER, Moments
from cxml.times import DAY_US


def visits(periods, days: int, spread: float, leaves: float, seed: int) -> Moments:
    """Customers who come about every ``periods[i]`` days and at some visit leave for good."""
    rng = np.random.default_rng(seed)
    starts, time = [0], []
    for period in periods:
        at, own = rng.uniform(0, days / 2), []
        while at < days:
            own.append(int(at * DAY_US))
            if rng.random() < leaves:
                break
            at += max(1.0, period * np.exp(spread * rng.normal()))
        time += own
        starts.append(len(time))
    return Moments(np.array(starts), np.array(time), np.full(len(time), NEVER), 0, days * DAY_US)


def test_the_rhythm_of_customers_who_differ_is_found():
    rng = np.random.default_rng(0)
    periods = np.exp(np.log(20) + 0.5 * rng.normal(size=1_000))
    rhythm = fit_rhythm(visits(periods, 4_000, spread=0.4, leaves=0.0, seed=1))
    assert rhythm.typical_days == pytest.approx(20, rel=0.06)
    assert rhythm.prior_intervals == pytest.approx(0.4**2 / 0.5**2, rel=0.15)


def test_customers_who_do_not_differ_get_the_interval_of_all():
    moments = visits(np.full(400, 20.0), 1_000, spread=0.5, leaves=0.05, seed=4)
    assert fit_rhythm(moments).prior_intervals > 20
    assert np.ptp(personal_days(moments, Rhythm(20.0, np.inf))) == 0


def test_few_intervals_are_drawn_to_the_interval_of_all_and_many_are_believed():
    day = DAY_US
    moments = Moments(np.array([0, 41]), np.arange(41) * 5 * day, np.full(41, NEVER), 0, 300 * day)
    own = personal_days(moments, Rhythm(typical_days=20.0, prior_intervals=2.0))
    assert own[0] == pytest.approx(20)
    assert own[1] == pytest.approx(np.exp((np.log(5) + 2 * np.log(20)) / 3))
    assert own[40] == pytest.approx(5, rel=0.08)
    assert (np.diff(own) < 0).all()


def test_visits_on_one_day_are_no_interval():
    hours = np.array([0, 1, 2, 24 * 7, 24 * 7 + 1, 24 * 14]) * (DAY_US // 24)
    moments = Moments(np.array([0, 6]), hours, np.full(6, NEVER), 0, 30 * DAY_US)
    assert personal_days(moments, Rhythm(1.0, 0.0))[-1] == pytest.approx(7, rel=0.01)


def test_personal_rhythm_wins_where_customers_differ():
    periods = np.where(np.arange(1_500) % 2, 4.0, 50.0)
    found = compare_rules(visits(periods, 700, spread=0.3, leaves=0.06, seed=2), within=150)
    assert found.gain.low > 0.1
    assert found.auroc_gain.low > 0.02
    assert found.found_equal == pytest.approx(found.found_global + found.gain.value, abs=0.02)


def test_personal_rhythm_wins_nothing_where_they_do_not():
    found = compare_rules(visits(np.full(1_500, 20.0), 700, spread=0.3, leaves=0.06, seed=3), within=150)
    assert abs(found.gain.value) < 0.05
    assert abs(found.auroc_gain.value) < 0.01


def test_both_rules_are_chosen_before_the_test_begins():
    moments = visits(np.where(np.arange(800) % 2, 6.0, 30.0), 700, spread=0.3, leaves=0.06, seed=5)
    found = compare_rules(moments, within=100)
    border = 420 * DAY_US
    assert found.chosen_until == "1971-02-25" <= found.tested_from
    rng = np.random.default_rng(0)
    after = moments.time >= border
    keep = ~after | (rng.random(len(after)) < 0.5)  # another future
    counts = np.bincount(moments.customer[keep], minlength=moments.n_customers)
    counts = counts[counts > 0]
    other = Moments(
        np.concatenate([[0], np.cumsum(counts)]), moments.time[keep], np.full(keep.sum(), NEVER), 0, moments.until
    )
    again = compare_rules(other, within=100)
    for name in ("gap_days", "factor", "rhythm", "chosen_until", "window_days"):
        assert getattr(again, name) == getattr(found, name)
    assert again.found_global != found.found_global


def test_the_same_seed_gives_the_same_intervals():
    moments = visits(np.where(np.arange(300) % 2, 6.0, 30.0), 500, spread=0.3, leaves=0.1, seed=5)
    assert compare_rules(moments, random_state=1) == compare_rules(moments, random_state=1)
    assert compare_rules(moments, random_state=1).gain != compare_rules(moments, random_state=2).gain


def test_what_a_rule_finds_with_weights_is_what_it_finds_with_copies():
    rng = np.random.default_rng(0)
    gone, score, copies = rng.random(60) < 0.4, rng.normal(size=60), rng.integers(0, 4, size=60)
    copied = found_at(np.repeat(gone, copies), np.repeat(score, copies), false_alarms=0.2)
    assert found_at(gone, score, false_alarms=0.2, weight=copies[None])[0] == pytest.approx(copied)


def test_a_log_too_short_for_two_spans_is_refused():
    with pytest.raises(DataError, match="too few"):
        compare_rules(visits(np.full(300, 5.0), 100, spread=0.3, leaves=0.1, seed=0), gaps=[30], within=40)


def test_a_log_without_returns_has_no_rhythm():
    with pytest.raises(DataError, match="nobody came back"):
        fit_rhythm(Moments(np.array([0, 1]), np.zeros(1, np.int64), np.full(1, NEVER), 0, 10 * DAY_US))
