"""The shipped project files on real logs: quality no worse than measured, with a margin, and better than simple rules.

The floors come from ``make bench-quality`` (see docs/results.md), with room for chance and for other versions of
the libraries underneath.
"""

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cxml.evaluate.baselines import PLAIN_LIGHTGBM
from cxml.evaluate.exam import MODEL
from cxml.features.leakage import check_leakage
from cxml.project import Project
from cxml.training.learn import train
from cxml.training.studies import known_churn, snapshot_frame

pytestmark = pytest.mark.needs_shared_data

CONFIGS = Path(__file__).parents[2] / "configs"


@cache
def trained(name):
    """Train a shipped config once a session; returns project, log and result."""
    project = Project.from_file(CONFIGS / f"{name}.yaml")
    log = project.read(quarantine=Path(tempfile.mkdtemp()) / "quarantine.parquet")
    return project, log, train(log, project.config, project.leavers(), replicates=50)


def value(result, target, metric, who=MODEL):
    return result.exams[target].scores[who][metric].value


def test_lapse_of_retail_customers_is_ranked_at_least_as_well_as_by_hand():
    project, _, result = trained("online_retail")
    study = result.outlook.studies["churn"]
    known = known_churn(study, "test", project.config)
    assert len(known) == 2958
    assert abs(np.nanmean(known[:, 1]) - 0.464) < 0.001
    assert np.isnan(known[:, 2]).all()  # the log ends 69 days after the cutoff
    assert value(result, "churn", "auroc_60d") >= 0.73
    assert value(result, "churn", "log_loss_60d") < value(result, "churn", "log_loss_60d", "base rate")
    assert value(result, "churn", "log_loss_60d") < value(result, "churn", "log_loss_60d", "recency rule")


def test_cancelled_loan_applications_are_found_better_than_by_any_rule():
    _, _, result = trained("bpic2012")
    assert result.exams["churn"].beats_all
    assert value(result, "churn", "auroc_14d") >= 0.77
    assert value(result, "churn", "log_loss_14d") <= 0.46


def test_order_reviews_are_foreseen_before_the_survey_goes_out():
    _, log, result = trained("olist")
    assert result.exams["satisfaction"].beats_all
    assert value(result, "satisfaction", "rps") <= 0.130
    report = check_leakage(log, result.outlook.plan, snapshot_frame(log, result.outlook), random_state=1)
    assert report.clean, str(report)


def test_nps_is_foreseen_from_the_ratings_of_touchpoints():
    _, _, result = trained("sfo_airport")
    assert result.exams["satisfaction"].beats_all
    assert value(result, "satisfaction", "rps") <= 0.075
    assert abs(value(result, "satisfaction", "nps_error")) <= 6


@pytest.mark.slow
def test_overall_satisfaction_over_six_years():
    _, _, result = trained("sfo_overall")
    assert result.exams["satisfaction"].beats_all
    assert value(result, "satisfaction", "rps") <= 0.048


@pytest.mark.slow
def test_withdrawal_of_students_in_presentations_not_yet_seen():
    _, _, result = trained("oulad")
    # plain LightGBM, which learns from the calibration rows too, is ahead at 56 days: docs/results.md
    gains = {who: found for who, found in result.exams["churn"].gains.items() if who != PLAIN_LIGHTGBM}
    assert len(gains) == 3
    assert all(gain.high < 0 for found in gains.values() for gain in found.values())
    assert value(result, "churn", "auroc_28d") >= 0.75


@pytest.mark.slow
def test_one_thread_and_two_learn_the_same_bytes_from_a_real_log(tmp_path):
    folders = []
    for threads in ("1", "2"):
        folders.append(tmp_path / threads)
        command = [
            sys.executable, "-m", "cxml", "train", CONFIGS / "online_retail.yaml", "--out", folders[-1], "--no-track",
        ]  # fmt: skip
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": threads}, check=True, capture_output=True)
    one, two = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert {"model.json", "card.md", "churn.txt"} <= one.keys()
    assert one == two
