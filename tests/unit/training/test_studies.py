"""Which outcomes a part of the split knows: only what had come to light before its end."""

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.journeys.read import read_journeys
from cxml.snapshots.splits import Split
from cxml.times import DAY_US
from cxml.training.studies import Rows, Study, known_churn, look_ahead

START = pd.Timestamp("2023-01-01", tz="UTC")
CALIBRATION, TEST, END = 150, 200, 320
ASKED = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 30d, lookback: 90d, calibration_start: 2023-05-31, test_start: 2023-07-20}
satisfaction: {kind: nps, touchpoint: answer, asked: question}
"""


def test_an_answer_counts_only_in_the_part_in_which_both_question_and_answer_came():
    """One customer is asked a day and answers after five days, every tenth after a hundred."""
    asked = {customer: 10 + customer for customer in range(280)}
    answered = {customer: day + (100 if customer % 10 == 0 else 5) for customer, day in asked.items()}
    rows = [(customer, 1, "login", np.nan) for customer in asked]
    rows += [(customer, day, "question", np.nan) for customer, day in asked.items()]
    rows += [(customer, day, "answer", float(customer % 11)) for customer, day in answered.items() if day < END]
    rows.append((0, END, "login", np.nan))
    events = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    events["timestamp"] = START + pd.to_timedelta(events.pop("day"), unit="D")
    log = read_journeys(events, timezone="UTC")
    study = look_ahead(log, parse_config(ASKED)).studies["satisfaction"]
    starts = {"train": 0, "calibration": CALIBRATION, "test": TEST}
    ends = {"train": CALIBRATION, "calibration": TEST, "test": END}
    late = [customer for customer in asked if asked[customer] < CALIBRATION < TEST < answered[customer]]
    on_the_day = [customer for customer in asked if answered[customer] == CALIBRATION]
    assert len(late) > 3 and len(on_the_day) == 2
    for part, found in study.parts.items():
        expected = [
            customer for customer in asked if asked[customer] >= starts[part] and answered[customer] < ends[part]
        ]
        assert log.block.customers[found.customer].tolist() == expected
        assert found.y.tolist() == [customer % 11 for customer in expected]
        assert not {*late, *on_the_day} & {*expected}


@pytest.mark.parametrize(
    ("churn", "outcome"), [("event, touchpoints: [cancelled]", 1.0), ("inactivity", 0.0)], ids=["event", "inactivity"]
)
def test_a_horizon_counts_only_where_it_was_observed_whole_even_for_those_whose_outcome_is_known(churn, outcome):
    """All are settled on the third day; were these counted, and the others not, churn would seem what it is not."""
    config = parse_config(
        "name: shop\njourneys: {sources: [events.csv], timezone: UTC}\nsnapshots: {every: 1d, lookback: 90d}\n"
        f"churn: {{kind: {churn}, horizons: [30d, 60d]}}"
    )
    end = 400 * DAY_US
    cutoff = end - np.array([60, 59, 30, 29, 4]) * DAY_US
    rows = Rows(np.arange(5), cutoff, np.empty((5, 0), np.float32), np.tile([3.0, 1.0], (5, 1)))
    study = Study("churn", Split(100 * DAY_US, 200 * DAY_US, end), {"test": rows})
    unknown = np.nan
    expected = [
        [outcome, outcome], [outcome, unknown], [outcome, unknown], [unknown, unknown], [unknown, unknown],
    ]  # fmt: skip
    np.testing.assert_array_equal(known_churn(study, "test", config), expected)
