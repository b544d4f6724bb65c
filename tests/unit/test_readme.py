"""What the README shows is true: its code runs, its project file parses, its commands and links exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxml.cli import app
from cxml.config import parse_config

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def lines_starting(word: str) -> list[str]:
    """Command lines of the console blocks, without prompt and comment."""
    lines = [line.partition("#")[0].strip() for block in blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith(f"$ {word}")]


def test_the_block_that_scores_with_the_shipped_model_runs(monkeypatch, capsys):
    [block] = [code for code in blocks("python") if 'cxml.load("models/telecom_demo")' in code]
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    churn, score, reason = re.fullmatch(r"(\S+) (\S+) (.+)\n", capsys.readouterr().out).groups()
    assert 0 < float(churn) < 1
    assert 0 < float(score) < 10
    assert reason == names["answer"]["reason_1"]


def test_the_block_that_trains_names_what_there_is(monkeypatch, tmp_path):
    """All but its last line, which is the main job with its own tests, on journeys of the block's shape."""
    from cxml.simulate import simulate

    [block] = [code for code in blocks("python") if "cxml.read_journeys" in code]
    steps, last, _ = block.partition("cxml.Project")
    assert last
    simulate(400, n_replays=1).events.to_parquet(tmp_path / "events.parquet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(f"import cxml\n{steps}", "README.md", "exec"), names)
    assert names["model"].predict_churn(names["X"]).shape == (len(names["snapshots"]), 3)


def test_the_project_file_parses():
    [text] = blocks("yaml")
    config = parse_config(text)
    assert config.churn is not None
    assert config.satisfaction is not None
    assert config.churn.touchpoints == ["cancelled"] or config.churn.touchpoints == ("cancelled",)


def test_every_command_exists_with_the_options_that_are_shown():
    shown = lines_starting("cxml ")
    shown += re.findall(r"`(cxml [a-z][^`]*)`", README)
    assert len(shown) >= 5
    for line in shown:
        _, command, *words = line.split()
        help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert help_text.exit_code == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text.output, line


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {line.split()[1] for line in lines_starting("make ")} | set(re.findall(r"`make ([a-z-]+)`", README))
    assert len(shown) >= 3
    assert shown <= targets


LINKS = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_every_link_into_the_repository_leads_somewhere(link):
    assert (REPOSITORY / link.partition("#")[0]).exists()
