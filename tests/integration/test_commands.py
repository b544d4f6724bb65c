"""The commands as a user meets them: what they print, what they write, how they end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxml.cli import main
from cxml.models.store import load_model


def run(monkeypatch, capsys, *words):
    """Run one command in this process; return its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["cxml", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    code = ended.value.code
    return (0 if code is None else code), printed.out, printed.err


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path_factory):
    """Call ``cxml("check", "project.yaml")``, from a folder of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.delenv("CXML_DEBUG", raising=False)
    return lambda *words: run(monkeypatch, capsys, *words)


def project(folder: Path, events: pd.DataFrame | str, **parts: str) -> Path:
    """Write a project file over these events; ``parts`` replace lines of it."""
    if isinstance(events, pd.DataFrame):
        events.to_csv(folder / "events.csv", index=False)
        events = "events.csv"
    lines = {
        "name": "name: shop",
        "journeys": f"journeys: {{sources: [{events}], timezone: UTC}}",
        "snapshots": "snapshots: {every: 30d, lookback: 180d}",
        "churn": "churn: {kind: event, touchpoints: [cancelled], horizons: [30d]}",
    } | parts
    file = folder / "project.yaml"
    file.write_text("\n".join(lines.values()), encoding="utf-8")
    return file


def journeys(n_customers=60, days=400, churners=True, seed=0) -> pd.DataFrame:
    """Logins every few days; every third customer cancels at some time."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n_customers):
        last = rng.integers(60, days) if churners and customer % 3 == 0 else days
        for day in np.cumsum(rng.integers(2, 12, size=200)):
            if day < last:
                rows.append((customer, int(day), "login"))
        if last < days:
            rows.append((customer, int(last), "cancelled"))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint"])
    frame["timestamp"] = pd.Timestamp("2023-01-01") + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


def assert_refused(result, code, *, says):
    """One paragraph, the right code, no traceback."""
    exit_code, out, err = result
    assert exit_code == code, err
    assert "Traceback" not in out + err
    said = err[err.index("error:") :]
    assert "\n\n" not in said.strip()
    for text in says:
        assert text in said


# ---------------------------------------------------------------- the main job


def test_training_writes_a_model_folder_that_scoring_takes(cxml, shop, model, tmp_path):
    assert {p.name for p in model.iterdir()} == {"model.json", "churn.txt", "satisfaction.txt", "card.md"}
    n_trees = load_model(model).targets["churn"].trees.n_trees
    assert f"| trees of churn | {n_trees} common |" in (model / "card.md").read_text(encoding="utf-8")
    out = tmp_path / "scores.parquet"
    code, printed, err = cxml("score", shop / "project.yaml", "--model", model, "--out", out, "--json")
    assert code == 0, err
    summary = json.loads(printed)
    scores = pd.read_parquet(out)
    assert summary["customers"] == len(scores) > 100
    assert list(scores.columns) == [
        "customer_id", "cutoff", "churn_30d", "churn_60d", "churn_90d", "risk_band", "expected_score", "p_detractor",
        "p_passive", "p_promoter", "expected_nps", "status", "reason_1", "reason_2", "reason_3", "model_version",
        "churn_expected_days",
    ]  # fmt: skip
    assert scores["customer_id"].is_unique
    assert (scores["churn_30d"] <= scores["churn_60d"]).all()
    assert (scores["churn_60d"] <= scores["churn_90d"]).all()
    groups = scores["p_detractor"] + scores["p_passive"] + scores["p_promoter"]
    assert np.allclose(groups, 1.0)
    assert set(scores["risk_band"]) == {"low", "medium", "high"}
    assert scores["reason_1"].notna().mean() > 0.9


def test_who_has_cancelled_is_not_scored(cxml, shop, model, tmp_path):
    out = tmp_path / "scores.parquet"
    cxml(
        "score", shop / "project.yaml", "--model", model, "--cutoff", "2024-10-01", "--reasons", "0", "--out", out, "-q"
    )
    events = pd.read_parquet(shop / "events.parquet")
    cutoff = pd.Timestamp("2024-10-01", tz="UTC")
    before = events[events["timestamp"] < cutoff]
    gone = set(before.loc[before["touchpoint"] == "cancelled", "customer_id"])
    scored = set(pd.read_parquet(out)["customer_id"])
    assert gone
    assert not scored & gone
    assert scored == set(before["customer_id"]) - gone


def test_a_survey_project_is_scored_where_each_customer_was_last_asked(cxml, shop, tmp_path):
    text = (shop / "project.yaml").read_text().replace("events.parquet", str(shop / "events.parquet"))
    start, end = text.index("customers:"), text.index("satisfaction:")
    file = tmp_path / "survey.yaml"
    file.write_text(text[:start] + text[end:])
    assert cxml("train", file, "--no-track", "--out", tmp_path / "model", "-q")[0] == 0
    out = tmp_path / "scores.parquet"
    code, _, err = cxml("score", file, "--model", tmp_path / "model", "--out", out, "-q")
    assert code == 0, err
    events = pd.read_parquet(shop / "events.parquet")
    asked = events[events["touchpoint"] == "survey_sent"].groupby("customer_id")["timestamp"].max()
    scores = pd.read_parquet(out).set_index("customer_id")
    assert (scores["cutoff"] == asked[scores.index]).all()
    assert len(scores) > 0.95 * len(asked)  # all but those of whom nothing was known before


def test_a_model_of_another_question_is_refused(cxml, shop, model, tmp_path):
    text = (shop / "project.yaml").read_text().replace("[30d, 60d, 90d]", "[30d, 60d]")
    file = tmp_path / "other.yaml"
    file.write_text(text.replace("events.parquet", str(shop / "events.parquet"))
                    .replace("customers.parquet", str(shop / "customers.parquet")))  # fmt: skip
    result = cxml("score", file, "--model", model, "--out", tmp_path / "s.parquet")
    assert_refused(result, 2, says=["horizons", "'90d'"])


def test_training_twice_gives_the_same_bytes(shop, model, tmp_path):
    from cxml.project import Project

    Project.from_file(shop / "project.yaml").train(out=tmp_path / "again", track=False)
    for file in model.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_a_scorer_in_process_gives_the_very_numbers_of_the_batch(cxml, shop, model, tmp_path):
    import cxml as package

    out = tmp_path / "scores.parquet"
    cxml("score", shop / "project.yaml", "--model", model, "--cutoff", "2024-10-01", "--out", out, "-q")
    scores = pd.read_parquet(out).head(40)
    events = pd.read_parquet(shop / "events.parquet")
    about = pd.read_parquet(shop / "customers.parquet")
    about = about[about["valid_from"] < pd.Timestamp("2024-10-01", tz="UTC")].sort_values("valid_from")
    about = about.groupby("customer_id").last()[["plan", "region", "acquisition"]]
    scorer = package.load(model)
    for row in scores.to_dict("records"):
        journey = events[events["customer_id"] == row["customer_id"]]
        records = [{k: v for k, v in r.items() if v is not None and v == v} for r in journey.to_dict("records")]
        answer = scorer.score(records, at="2024-10-01", customer=about.loc[row["customer_id"]].to_dict())
        for column, value in answer.items():
            if column != "cutoff":
                assert row[column] == value or (row[column] is None and value is None), column


def test_features_are_written_with_their_contract_names(cxml, shop, tmp_path):
    out = tmp_path / "features.parquet"
    code, printed, err = cxml(
        "features", shop / "project.yaml", "--cutoff", "2024-06-01", "--cutoff", "2024-09-01", "--out", out, "--json"
    )
    assert code == 0, err
    frame = pd.read_parquet(out)
    assert list(frame.columns[:2]) == ["customer_id", "cutoff"]
    assert frame["cutoff"].nunique() == 2
    names = json.loads(printed)["features"]
    assert {"count__touchpoint=call__30d", "days_since__all", "tenure_days", "active_days__all__30d"} <= set(names)


def test_features_may_be_those_of_a_model(cxml, shop, model, tmp_path):
    out = tmp_path / "features.parquet"
    code, printed, err = cxml(
        "features", shop / "project.yaml", "--cutoff", "2024-09-01", "--model", model, "--out", out, "--json"
    )
    assert code == 0, err
    assert json.loads(printed)["features"] == load_model(model).plan.columns == list(pd.read_parquet(out))[2:]
    code, _, err = cxml("features", shop / "project.yaml", "--cutoff", "2024-09-01", "--model", shop, "--out", out)
    assert (code, "Traceback" in err) == (2, False)


def test_check_reports_and_proves_the_absence_of_leaks(cxml, shop, tmp_path):
    code, printed, err = cxml("check", shop / "project.yaml", "--leakage", "--out", tmp_path, "--json")
    assert code == 0, err
    assert json.loads(printed)["leakage"] is not None
    assert json.loads((tmp_path / "quality.json").read_text())["quality"]


def test_check_refuses_what_training_would_refuse_and_still_reports(cxml, tmp_path):
    journeys(n_customers=20).to_csv(tmp_path / "events.csv", index=False)
    file = project(tmp_path, "events.csv")
    code, printed, _ = cxml("check", file, "--out", tmp_path / "report")
    assert code == 3
    assert "training would refuse: churn: " in printed
    told = json.loads((tmp_path / "report" / "quality.json").read_text())["refusals"]
    code, printed, _ = cxml("check", file, "--out", tmp_path / "report", "--json", "-q")
    assert code == 3
    assert json.loads(printed)["refusals"] == told
    assert len(told) == 1


def test_simulate_writes_a_project_that_checks(cxml, tmp_path):
    assert cxml("simulate", "--out", tmp_path, "--customers", "300", "-q")[0] == 0
    code, _, err = cxml("check", tmp_path / "project.yaml", "--out", tmp_path / "report", "-q")
    assert code == 0, err


def test_init_proposes_a_project_that_can_be_checked(cxml, tmp_path):
    data = tmp_path / "visits.csv"
    frame = journeys(n_customers=900)
    frame.rename(columns={"customer_id": "user", "timestamp": "when", "touchpoint": "page"}).to_csv(data, index=False)
    out = tmp_path / "visits.yaml"
    code, _, err = cxml("init", data, "--out", out)
    assert code == 0, err
    assert "kind: event" in out.read_text()
    code, _, err = cxml("check", out, "--out", tmp_path / "report", "-q")
    assert code == 0, err
    assert_refused(cxml("init", data, "--out", out), 2, says=["exists already", "--force"])


def test_init_quotes_what_yaml_would_read_otherwise(cxml, tmp_path):
    from cxml.config import load_config

    odd = [".5", "no", "2024-01-01", "call\n#2: x", "a: b", "- x", "1e3", "~", "naïve"]
    frame = journeys(n_customers=20)
    frame["touchpoint"] = [odd[i % len(odd)] for i in range(len(frame))]
    frame.to_parquet(tmp_path / "odd.parquet")
    assert cxml("init", tmp_path / "odd.parquet", "--out", tmp_path / "odd.yaml")[0] == 0
    proposed = load_config(tmp_path / "odd.yaml").journeys
    assert {*proposed.activity, *proposed.contacts} == set(odd)


def test_schema_is_json_and_knows_every_part(cxml):
    code, printed, _ = cxml("schema")
    assert code == 0
    assert {"name", "journeys", "churn", "satisfaction"} <= set(json.loads(printed)["properties"])


def test_every_command_has_help_with_an_example(cxml):
    for command in ("init", "check", "features", "train", "score", "simulate", "demo", "schema"):
        code, printed, _ = cxml(command, "--help")
        assert code == 0
        assert f"cxml {command}" in " ".join(printed.split()), command


# ---------------------------------------------------------------- bad input


def test_an_unknown_command_or_option_is_wrong_usage(cxml):
    assert cxml("trian")[0] == 2
    assert cxml("train", "--outt", "x")[0] == 2


def test_a_missing_project_file_says_how_to_make_one(cxml, tmp_path):
    assert_refused(cxml("check", tmp_path / "none.yaml"), 2, says=["none.yaml", "cxml init"])


def test_an_unknown_key_names_line_and_nearest_key(cxml, tmp_path):
    file = project(tmp_path, journeys(), churn="churn: {kind: event, touchpoint: [cancelled]}")
    assert_refused(cxml("check", file), 2, says=["line 4", "churn.touchpoint", "'touchpoints'"])


def test_an_empty_file_is_refused(cxml, tmp_path):
    (tmp_path / "events.csv").write_text("")
    assert_refused(cxml("check", project(tmp_path, "events.csv")), 3, says=["events.csv", "empty"])


def test_a_file_with_a_header_alone_is_refused(cxml, tmp_path):
    (tmp_path / "events.csv").write_text("customer_id,timestamp,touchpoint\n")
    assert_refused(cxml("check", project(tmp_path, "events.csv")), 3, says=["no rows"])


def test_a_missing_column_names_what_the_file_has(cxml, tmp_path):
    file = project(tmp_path, journeys().rename(columns={"touchpoint": "touch"}))
    assert_refused(cxml("check", file), 2, says=["touchpoint", "touch", "columns"])


def test_a_wrong_type_is_set_aside_row_by_row_until_nothing_is_left(cxml, tmp_path):
    frame = journeys().assign(timestamp="soon")
    result = cxml("train", project(tmp_path, frame), "--no-track", "--out", tmp_path / "model")
    assert_refused(result, 3, says=["timestamp", f"{len(frame):,}"])
    assert not (tmp_path / "model").exists()


def test_integer_stamps_are_refused_with_a_mend(cxml, tmp_path):
    frame = journeys()
    frame["timestamp"] = (frame["timestamp"] - pd.Timestamp("2023-01-01")).dt.days
    frame.to_parquet(tmp_path / "events.parquet")
    assert_refused(cxml("check", project(tmp_path, "events.parquet")), 3, says=["timestamp", "query"])


def test_no_churners_is_refused_with_the_mend(cxml, tmp_path):
    file = project(tmp_path, journeys(churners=False))
    assert_refused(cxml("train", file, "--no-track", "--out", tmp_path / "m"), 3, says=["cancelled"])


def test_too_few_churners_say_how_many_are_needed(cxml, tmp_path):
    file = project(tmp_path, journeys(n_customers=12))
    assert_refused(cxml("train", file, "--no-track", "--out", tmp_path / "m"), 3, says=["30"])
    assert not (tmp_path / "m").exists()


def test_one_customer_is_refused(cxml, tmp_path):
    file = project(tmp_path, journeys(n_customers=1))
    assert_refused(cxml("train", file, "--no-track", "--out", tmp_path / "m"), 3, says=[])


def test_one_class_of_answers_is_refused(cxml, tmp_path):
    frame = journeys(n_customers=200)
    frame["score"] = np.where(np.arange(len(frame)) % 10 == 0, 9, np.nan)
    frame.loc[frame["score"].notna(), "touchpoint"] = "survey"
    file = project(tmp_path, frame, churn="satisfaction: {kind: nps, touchpoint: survey}")
    assert_refused(cxml("train", file, "--no-track", "--out", tmp_path / "m"), 3, says=["9"])


def test_answers_that_are_all_off_the_scale_are_found_in_the_quarantine(cxml, tmp_path):
    frame = journeys()
    frame["score"] = np.where(np.arange(len(frame)) % 10 == 0, 77, np.nan)
    frame.loc[frame["score"].notna(), "touchpoint"] = "survey"
    file = project(tmp_path, frame, churn="satisfaction: {kind: nps, touchpoint: survey}")
    result = cxml("train", file, "--no-track", "--out", tmp_path / "m")
    assert_refused(result, 3, says=["are off the scale 0 to 10", "quarantine.parquet"])
    assert (pd.read_parquet("out/shop/quarantine.parquet")["reason"] == "score off the scale").all()


def test_a_survey_touchpoint_that_never_occurs_is_refused(cxml, tmp_path):
    file = project(tmp_path, journeys(), churn="satisfaction: {kind: nps, touchpoint: survey}")
    assert_refused(cxml("train", file, "--no-track", "--out", tmp_path / "m"), 3, says=["survey"])


def test_a_cutoff_before_the_data_is_refused(cxml, shop, model, tmp_path):
    out = tmp_path / "scores.parquet"
    result = cxml("score", shop / "project.yaml", "--model", model, "--cutoff", "2001-01-01", "--out", out)
    assert_refused(result, 3, says=["2001-01-01", "2023-07-01"])
    assert list(tmp_path.iterdir()) == []
    result = cxml("features", shop / "project.yaml", "--cutoff", "2001-01-01", "--out", out)
    assert_refused(result, 3, says=["2001-01-01"])


def shop_with(shop: Path, folder: Path, changes: dict[str, str]) -> Path:
    """Write the project file of the shop elsewhere, with changes."""
    text = (shop / "project.yaml").read_text(encoding="utf-8")
    data = {"[events.parquet]": f"['{shop}/events.parquet']", "source: customers": f"source: {shop}/customers"}
    for old, new in (data | changes).items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "project.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_scoring_says_which_cutoff_it_took_and_why(cxml, shop, model, tmp_path):
    ending = shop_with(shop, tmp_path, {"every: 30d,": "every: 30d, end: 2024-09-01,"})
    words = ("--model", model, "--reasons", "0", "--out", tmp_path / "s.csv", "-q")
    said = cxml("score", shop / "project.yaml", *words)
    assert "(just after the last event)" in said[1]
    said = cxml("score", shop / "project.yaml", *words, "--cutoff", "2024-10-01", "--json")
    assert json.loads(said[1])["cutoff_is"] == "as asked"
    code, said, err = cxml("score", ending, *words)
    assert code == 0, err
    assert "2024-09-01 (snapshots.end; --cutoff chooses another day)" in said


def test_a_tracking_server_that_is_not_there_is_a_warning_beside_the_result(cxml, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    file = shop_with(shop, tmp_path, {"sqlite:///mlflow.db": "http://localhost:1"})
    code, printed, err = cxml("train", file, "--out", tmp_path / "model", "-q")
    assert code == 0, err
    assert "warning: not recorded in MLflow" in err
    assert "the model folder is complete" in err
    assert "warning" not in printed


def test_a_tracking_server_that_is_not_there_is_given_up_soon(cxml, monkeypatch):
    import os

    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "set so that it is put back")
        monkeypatch.delenv(name)
    assert cxml("version")[0] == 0
    assert (os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"], os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == ("2", "15")


@pytest.mark.parametrize("name", ["s.xlsx", "s", "s.parquet.gz"])
def test_a_table_is_not_written_under_the_name_of_another_format(cxml, shop, model, tmp_path, name):
    out = tmp_path / name
    result = cxml("score", shop / "project.yaml", "--model", model, "--out", out)
    assert_refused(result, 2, says=[name, ".parquet or .csv"])
    result = cxml("features", shop / "project.yaml", "--cutoff", "2024-06-01", "--out", out)
    assert_refused(result, 2, says=[name, ".parquet or .csv"])
    assert not out.exists()


def test_customers_that_match_nobody_are_refused_by_name(cxml, tmp_path):
    pd.DataFrame({"customer_id": ["u1", "u2"], "plan": ["a", "b"]}).to_csv(tmp_path / "customers.csv", index=False)
    file = project(tmp_path, journeys(), customers="customers: {source: customers.csv, attributes: [plan]}")
    for command in (("check", file), ("train", file, "--no-track", "--out", tmp_path / "m")):
        assert_refused(cxml(*command), 3, says=["no customer id of the customers table occurs in the log", "'u1'"])


def test_ids_in_a_message_stand_as_they_are_written(cxml, tmp_path):
    pd.DataFrame({"customer_id": [100006], "timestamp": ["2024-01-01"]}).to_csv(tmp_path / "gone.csv", index=False)
    churn = "churn: {kind: table, source: gone.csv, horizons: [30d]}"
    result = cxml("check", project(tmp_path, journeys(), churn=churn))
    assert_refused(result, 3, says=["first leaver '100006'"])
    assert "np.int64" not in result[2]


def test_a_cutoff_that_is_no_date_is_wrong_usage(cxml, shop, model, tmp_path):
    result = cxml("score", shop / "project.yaml", "--model", model, "--cutoff", "tomorrow", "--out", tmp_path / "s.csv")
    assert_refused(result, 2, says=["--cutoff", "tomorrow"])


def test_a_folder_without_a_model_is_wrong_usage(cxml, shop, tmp_path):
    result = cxml("score", shop / "project.yaml", "--model", tmp_path, "--out", tmp_path / "s.parquet")
    assert_refused(result, 2, says=["model.json"])


def test_a_damaged_model_is_refused(cxml, shop, model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "model")
    with (tmp_path / "model" / "churn.txt").open("a") as file:
        file.write(" ")
    result = cxml("score", shop / "project.yaml", "--model", tmp_path / "model", "--out", tmp_path / "s.parquet")
    assert_refused(result, 3, says=["churn.txt"])


def test_a_truncated_parquet_file_is_refused(cxml, tmp_path):
    journeys().to_parquet(tmp_path / "events.parquet")
    whole = (tmp_path / "events.parquet").read_bytes()
    (tmp_path / "events.parquet").write_bytes(whole[: len(whole) // 2])
    assert_refused(cxml("check", project(tmp_path, "events.parquet")), 3, says=["events.parquet"])


def test_an_unreachable_database_is_refused_without_its_password(cxml, tmp_path):
    source = "{url: 'postgresql://anna:geheim@127.0.0.1:1/shop', table: events}"
    file = project(tmp_path, source)
    code, out, err = cxml("check", file)
    assert code in (2, 3)
    assert "Traceback" not in err
    assert "geheim" not in out + err
    assert "127.0.0.1" in err


def test_output_to_a_place_that_cannot_be_written_is_wrong_usage(cxml, shop, model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "scores.parquet"
    assert_refused(cxml("score", shop / "project.yaml", "--model", model, "--out", out), 2, says=["cannot write"])
    assert (tmp_path / "file").read_text() == "in the way"


def test_debug_shows_where_an_error_came_from(cxml, tmp_path):
    code, _, err = cxml("--debug", "check", tmp_path / "none.yaml")
    assert code == 2
    assert "Traceback" in err


def test_ctrl_c_says_so_and_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-m", "cxml", "simulate", "--out", str(tmp_path / "world"), "--customers", "200000"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = running.stderr.readline()  # the first line of progress: it is at work
    running.send_signal(signal.SIGINT)
    said += running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "interrupted; nothing half-written is left behind" in said
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("asked", [None, "ACTIVE"])
def test_threads_that_wait_leave_the_processor_to_others_unless_asked_not_to(asked, monkeypatch):
    """On a busy machine LightGBM's threads would else take many times as long."""
    monkeypatch.setenv("OMP_WAIT_POLICY", asked or "")
    if asked is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["cxml", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == (asked or "PASSIVE")
