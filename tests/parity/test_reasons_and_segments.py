"""Competing reasons, calibration by segment and curves are served in the very bits of the nightly job."""

import numpy as np
import pandas as pd
import pytest

from cxml.demo import write_simulation
from cxml.project import Project
from cxml.scoring.batch import score_log
from cxml.scoring.scorer import Scorer
from cxml.simulate import simulate
from cxml.times import parse_instant

AT = "2024-09-01"
PART = """\
  touchpoints: [cancelled, dunned]
  reasons: {voluntary: [cancelled], payment_failure: [dunned]}
  calibrate_by: plan
  corrections: true
"""


@pytest.fixture(scope="module")
def simulation():
    return simulate(700, n_replays=1, random_state=3)


@pytest.fixture(scope="module")
def trained(simulation, tmp_path_factory):
    """Every third leaver did not cancel but was dunned."""
    from cxml.training.learn import train

    folder = tmp_path_factory.mktemp("shop")
    write_simulation(simulation, folder)
    events = simulation.events.copy()
    events["touchpoint"] = events["touchpoint"].astype(str)
    left = (events["touchpoint"] == "cancelled") & (events["customer_id"] % 3 == 0)
    events.loc[left, "touchpoint"] = "dunned"
    events.to_parquet(folder / "events.parquet")
    text = (folder / "project.yaml").read_text()
    text = text.replace("  touchpoints: [cancelled]\n", PART)
    text = text.replace("  touchpoint: survey_answer\n", "  touchpoint: survey_answer\n  calibrate_by: region\n")
    (folder / "project.yaml").write_text(text + "features: {windows: [30d, 90d]}\n")
    project = Project.from_file(folder / "project.yaml")
    log = project.read(quarantine=folder / "quarantine.parquet")
    return log, train(log, project.config, replicates=2).model, events


def test_the_card_tells_how_good_each_reason_is(trained):
    found = trained[1].metadata["metrics"]["churn"]["cxml"]
    for horizon in ("30d", "60d", "90d"):
        parts = [found[f"base_rate_{reason}_{horizon}"][0] for reason in ("voluntary", "payment_failure")]
        assert sum(parts) == pytest.approx(found[f"base_rate_{horizon}"][0])
        assert parts[0] > parts[1] > 0  # every third leaver was dunned
        off = [found[f"rate_error_{reason}_{horizon}"][0] for reason in ("voluntary", "payment_failure")]
        assert sum(off) == pytest.approx(found[f"rate_error_{horizon}"][0])


def test_both_ways_give_the_same_bits(simulation, trained):
    log, model, events = trained
    predictor = model.targets["churn"]
    assert model.targets["satisfaction"].segments is not None
    assert predictor.segments is not None and predictor.reasons is not None and predictor.corrections
    table = score_log(model, log, parse_instant(AT), reasons=2, threads=2)
    names = [name for name in table.column_names if "__" in name]
    assert names == [f"churn_{h}__{r}" for h in ("30d", "60d", "90d") for r in ("voluntary", "payment_failure")]
    assert table.column_names[-7:] == ["churn_expected_days", *names]
    about = simulation.customers[simulation.customers["valid_from"] < pd.Timestamp(AT, tz="UTC")]
    about = about.sort_values("valid_from").groupby("customer_id").last()
    scorer, rows = Scorer(model), table.slice(0, 60).to_pylist()
    for row in rows:
        customer = row["customer_id"]
        journey = events[events["customer_id"] == customer].to_dict("records")
        journey = [{k: v for k, v in event.items() if v == v and v is not None} for event in journey]
        attributes = about.loc[customer, ["plan", "region", "acquisition"]].to_dict()
        answer = scorer.score(journey, AT, customer=attributes, reasons=2)
        assert {k: v for k, v in answer.items() if k != "cutoff"} == {
            k: v for k, v in row.items() if k not in ("customer_id", "cutoff")
        }
    for h in ("30d", "60d", "90d"):
        parts = sum(table.column(f"churn_{h}__{r}").to_numpy() for r in ("voluntary", "payment_failure"))
        np.testing.assert_allclose(parts, table.column(f"churn_{h}").to_numpy(), rtol=0, atol=1e-12)


def test_a_project_file_with_other_reasons_is_refused(trained):
    from cxml import ConfigError
    from cxml.config import parse_config
    from cxml.demo import PROJECT
    from cxml.scoring.question import check_question

    with pytest.raises(ConfigError, match="reasons"):
        check_question(trained[1], parse_config(PROJECT))
