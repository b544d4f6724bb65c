"""When to look, and how the time line is parted."""

import numpy as np
import pytest

from cxml.config import SnapshotsConfig
from cxml.errors import DataError
from cxml.snapshots.cutoffs import cutoff_grid
from cxml.snapshots.splits import split_cutoffs, split_surveys
from cxml.times import DAY_US, format_instant, parse_instant

DAYS = {"shortest": 30 * DAY_US, "longest": 90 * DAY_US}


def grid(first, last, **keys):
    return cutoff_grid(SnapshotsConfig(**keys), first=parse_instant(first), observed_until=parse_instant(last), **DAYS)


def test_one_cutoff_has_exactly_the_longest_horizon_after_it():
    assert parse_instant("2025-01-01") - 90 * DAY_US in grid("2023-07-01", "2025-01-01")


def test_a_given_start_is_the_first_cutoff_and_none_lies_beyond_what_was_observed():
    cutoffs = grid("2010-12-01", "2011-12-09T12:50:00Z", start="2011-02-03")
    assert format_instant(cutoffs[0]) == "2011-02-03"
    assert "2011-10-01" in [format_instant(t) for t in cutoffs]
    assert cutoffs[-1] <= parse_instant("2011-12-09T12:50:00Z") - 30 * DAY_US


def test_no_cutoff_lies_after_the_given_end():
    assert format_instant(grid("2023-01-01", "2025-01-01", start="2023-06-01", end="2023-09-01")[-1]) == "2023-08-30"


def test_a_log_shorter_than_the_shortest_horizon_is_refused_with_its_span():
    with pytest.raises(DataError, match=r"from 2024-01-01 to 2024-01-20.*horizon of 30 days"):
        grid("2024-01-01", "2024-01-20")


@pytest.mark.parametrize("end", ["2023-01-01", "2024-01-10"])
def test_an_end_before_what_can_be_judged_is_blamed_itself(end):
    with pytest.raises(DataError, match=rf"snapshots\.end {end}.*Give a later snapshots\.end") as refused:
        grid("2024-01-01", "2024-12-01", end=end)
    assert "snapshots.start" not in str(refused.value)


def test_a_test_start_after_the_last_cutoff_is_named():
    cutoffs = grid("2023-07-01", "2025-01-01")
    late = SnapshotsConfig(test_start="2024-12-20")
    with pytest.raises(DataError, match=r"snapshots\.test_start 2024-12-20 lies after the last cutoff, 2024-12-02"):
        split_cutoffs(cutoffs, late, observed_until=parse_instant("2025-01-01"), **DAYS)


def test_each_part_ends_where_the_next_begins_and_the_test_sees_the_longest_horizon():
    cutoffs = grid("2023-07-01", "2025-01-01")
    until = parse_instant("2025-01-01")
    split = split_cutoffs(cutoffs, SnapshotsConfig(), observed_until=until, **DAYS)
    assert split.test_start <= until - DAYS["longest"]
    assert split.calibration_start <= split.test_start - DAYS["longest"]
    ends = [end for _, end in split.parts.values()]
    assert ends == [split.calibration_start, split.test_start, until]


def test_a_short_log_falls_back_to_the_shortest_horizon():
    cutoffs = grid("2024-01-01", "2024-08-01", start="2024-03-01")
    until = parse_instant("2024-08-01")
    split = split_cutoffs(cutoffs, SnapshotsConfig(), observed_until=until, **DAYS)
    assert split.calibration_start < split.test_start <= until - DAYS["shortest"]


def test_given_starts_overrule_the_choice():
    config = SnapshotsConfig(start="2023-10-01", calibration_start="2024-04-01", test_start="2024-08-01")
    cutoffs = cutoff_grid(config, first=0, observed_until=parse_instant("2025-01-01"), **DAYS)
    split = split_cutoffs(cutoffs, config, observed_until=parse_instant("2025-01-01"), **DAYS)
    assert split.to_dict() == {
        "calibration_start": "2024-04-01", "test_start": "2024-08-01", "observed_until": "2025-01-01",
    }  # fmt: skip


def test_with_a_gap_labels_end_before_the_next_part_begins_and_the_horizon_is_observed_all_the_same():
    until, gap = parse_instant("2025-01-01"), 14 * DAY_US
    cutoffs = grid("2023-07-01", "2025-01-01")
    split = split_cutoffs(cutoffs, SnapshotsConfig(gap="14d"), observed_until=until, **DAYS)
    ends = [end for _, end in split.parts.values()]
    assert ends == [split.calibration_start - gap, split.test_start - gap, until]
    assert split.learned_until == split.calibration_start - gap
    assert split.calibration_start <= split.test_start - gap - DAYS["longest"]
    assert split.to_dict()["gap"] == "14d"
    assert "gap" not in split_cutoffs(cutoffs, SnapshotsConfig(), observed_until=until, **DAYS).to_dict()


def test_answers_in_the_gap_are_nobodys():
    cutoff = np.arange(100) * DAY_US
    split = split_surveys(cutoff, cutoff + 1, SnapshotsConfig(gap="5d"), observed_until=100 * DAY_US)
    assert split.parts["train"][1] == 60 * DAY_US
    assert split.parts["calibration"] == (65 * DAY_US, 75 * DAY_US)


def test_two_cutoffs_are_too_few_and_the_error_names_the_mend():
    cutoffs = np.array([0, 30 * DAY_US])
    with pytest.raises(DataError, match=r"2 cutoffs.*smaller snapshots\.every"):
        split_cutoffs(cutoffs, SnapshotsConfig(), observed_until=80 * DAY_US, **DAYS)


def test_surveys_are_parted_by_time_so_that_the_last_fifth_tests():
    cutoff = np.arange(100) * DAY_US
    split = split_surveys(cutoff, cutoff + 1, SnapshotsConfig(), observed_until=100 * DAY_US)
    assert split.test_start == 80 * DAY_US
    assert split.calibration_start == 65 * DAY_US


def test_a_part_without_answers_is_refused_by_name():
    cutoff = np.arange(100) * DAY_US
    config = SnapshotsConfig(calibration_start=10**9, test_start=parse_instant("1999-01-01"))
    with pytest.raises(DataError, match="test part"):
        split_surveys(cutoff, cutoff + 1, config, observed_until=parse_instant("2000-01-01"))
