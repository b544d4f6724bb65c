"""What `cxml init` proposes for data nobody has described yet."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from cxml.config import load_config
from cxml.errors import DataError
from cxml.journeys.propose import propose_project
from cxml.journeys.read import read_journeys

DAYS = [f"2024-01-{day:02d}" for day in range(1, 29)]
STAMPS = {
    "day first": (pd.to_datetime(DAYS).strftime("%d/%m/%Y"), "%d/%m/%Y"),
    "month first": (pd.to_datetime(DAYS).strftime("%m/%d/%Y %H:%M"), "%m/%d/%Y"),
    "dots": (pd.to_datetime(DAYS).strftime("%d.%m.%Y %H:%M:%S"), "%d.%m.%Y"),
    "digits": (pd.to_datetime(DAYS).strftime("%Y%m%d").astype(int), "%Y%m%d"),
    "seconds": ([1_704_067_200 + 86_400 * i for i in range(28)], "seconds since 1970"),
    "milliseconds": ([1_704_067_200_000 + 86_400_000 * i for i in range(28)], "milliseconds since 1970"),
}


def events(when=DAYS, touchpoints=("login", "order")) -> pd.DataFrame:
    n = len(when)
    pages = [touchpoints[i % len(touchpoints)] for i in range(n)]
    return pd.DataFrame({"user": [i % 5 for i in range(n)], "when": when, "page": pages})


def proposed(folder: Path, frame: pd.DataFrame, name: str = "events.csv") -> tuple[dict, str]:
    """Propose a project beside the data; return it as plain data, and its text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    _, text = propose_project(path, folder / "project.yaml")
    (folder / "project.yaml").write_text(text, encoding="utf-8")
    return yaml.safe_load(text), text


@pytest.mark.parametrize("name", ["events.csv", "events.parquet", "events.jsonl"])
@pytest.mark.parametrize("way", STAMPS)
def test_stamps_of_other_kinds_are_read_by_a_query_that_says_what_it_took_them_for(way, name, tmp_path: Path) -> None:
    when, note = STAMPS[way]
    _, text = proposed(tmp_path, events(when), name)
    assert f"# read as {note}: is that right?" in text
    config = load_config(tmp_path / "project.yaml")
    log = read_journeys(config.journeys, folder=config.folder)
    assert (log.n_events, str(log.quality.to_dict()["first"])) == (28, "2024-01-01")
    assert log.quality.to_dict()["last"] == "2024-01-28"


@pytest.mark.parametrize("when", [[f"week {i}" for i in range(28)], list(range(28))])
def test_stamps_nobody_can_read_are_refused_by_their_column_with_the_mend(when, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'when' looks like timestamp, but holds .*strptime"):
        proposed(tmp_path, events(when))


def test_a_zone_is_proposed_where_some_stamps_have_none(tmp_path: Path) -> None:
    mixed = [f"{day} 10:00:00{'Z' if i % 2 else ''}" for i, day in enumerate(DAYS)]
    plan, text = proposed(tmp_path, events(mixed))
    assert plan["journeys"]["timezone"] == "UTC"
    assert "some stamps carry no zone" in text
    plan, _ = proposed(tmp_path, events([f"{day} 10:00:00Z" for day in DAYS]))
    assert "timezone" not in plan["journeys"]
    _, text = proposed(tmp_path, events(), "events.parquet")
    assert "the stamps carry no zone" in text


def test_activity_is_proposed_only_where_silence_is_churn_and_leaves_out_what_the_company_does(tmp_path: Path) -> None:
    own = ("login", "order")
    company = ("invoice", "campaign_offer", "price_increase", "payment_failed", "refund", "email_sent", "reminder")
    plan, _ = proposed(tmp_path, events(touchpoints=(*own, *company)))
    assert plan["churn"]["kind"] == "inactivity"
    assert sorted(plan["journeys"]["activity"]) == sorted(own)
    plan, _ = proposed(tmp_path, events(touchpoints=(*own, *company, "cancelled")))
    assert plan["churn"]["kind"] == "event"
    assert "activity" not in plan["journeys"]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    for name in ("events.csv", "events.parquet"):
        with pytest.raises(DataError, match="holds no rows"):
            proposed(tmp_path, events()[:0], name)


def test_data_beside_or_below_the_project_file_are_named_from_there(tmp_path: Path) -> None:
    plan, _ = proposed(tmp_path / "project", events(), "data/events.csv")
    assert plan["journeys"]["sources"][0]["path"] == "data/events.csv"
    _, text = propose_project(tmp_path / "project" / "data" / "events.csv", tmp_path / "elsewhere" / "p.yaml")
    assert Path(yaml.safe_load(text)["journeys"]["sources"][0]["path"]).is_absolute()


def test_a_column_of_our_own_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": "x", "b": "y"}\n')
    with pytest.raises(DataError, match=r"It has: a \(VARCHAR\), b \(VARCHAR\)\."):
        propose_project(path)
