import errno
import hashlib
from pathlib import Path

import pytest

from cxml.errors import ConfigError
from cxml.files import sha256_file, write_aside, write_folder_aside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    with write_aside(tmp_path / "new" / "scores.csv") as aside:
        aside.write_text("whole")
        assert not (tmp_path / "new" / "scores.csv").exists()
    assert (tmp_path / "new" / "scores.csv").read_text() == "whole"
    assert names(tmp_path / "new") == ["scores.csv"]


def test_half_a_file_matches_no_glob_of_whole_ones(tmp_path):
    with write_aside(tmp_path / "scores.parquet") as aside:
        aside.write_text("half")
        assert list(tmp_path.glob("*.parquet")) == []


def test_a_failed_file_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "scores.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), write_aside(tmp_path / "scores.csv") as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["scores.csv"]
    assert (tmp_path / "scores.csv").read_text() == "old"


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for write, place in [
        (write_aside, tmp_path / "folder"),
        (write_aside, tmp_path / "file" / "below"),
        (write_folder_aside, tmp_path / "file"),
        (write_folder_aside, tmp_path / "file" / "below"),
    ]:
        with pytest.raises(ConfigError, match=r"cannot write .*Name another place with --out"), write(place):
            pytest.fail("the work began")


def test_a_full_disk_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="No space left on device"), write_aside(tmp_path / "a") as aside:
        raise OSError(errno.ENOSPC, "No space left on device", str(aside))
    with pytest.raises(ConfigError, match="No space left on device"), write_folder_aside(tmp_path / "b") as aside:
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_an_unreadable_input_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), write_aside(tmp_path / "scores.csv"):
        (tmp_path / "input").read_text()


def test_a_bare_name_is_written_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with write_aside("scores.csv") as aside:
        aside.write_text("whole")
    assert names(tmp_path) == ["scores.csv"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("first", "second"):
        with write_folder_aside(tmp_path / "model", known_by="model.json") as aside:
            (aside / "model.json").write_text(content)
            (aside / content).write_text("")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["model.json", "second"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    with write_folder_aside(tmp_path / "model", known_by="model.json") as aside:
        (aside / "model.json").write_text("old")
    with pytest.raises(ZeroDivisionError), write_folder_aside(tmp_path / "model", known_by="model.json") as aside:
        (aside / "model.json").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "model.json").read_text() == "old"


def test_when_the_new_folder_cannot_take_its_place_the_old_one_returns(tmp_path):
    with write_folder_aside(tmp_path / "model", known_by="model.json") as aside:
        (aside / "model.json").write_text("old")
    with pytest.raises(ConfigError), write_folder_aside(tmp_path / "model", known_by="model.json") as aside:
        aside.rmdir()
    assert (tmp_path / "model" / "model.json").read_text() == "old"


@pytest.mark.parametrize("known_by", [None, "model.json"])
def test_a_folder_of_other_things_is_never_replaced(tmp_path, known_by):
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters").write_text("dear")
    with (
        pytest.raises(ConfigError, match=r"holds other things \(letters\)"),
        write_folder_aside(home, known_by=known_by),
    ):
        pytest.fail("the work began")
    assert (home / "letters").read_text() == "dear"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "model").mkdir()
    with write_folder_aside(tmp_path / "model") as aside:
        (aside / "model.json").write_text("")
    assert names(tmp_path / "model") == ["model.json"]


def test_a_digest_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    Path(tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_device_is_never_replaced_by_a_file():
    kind = Path("/dev/null").stat().st_mode
    with pytest.raises(ConfigError, match="a device or a pipe"), write_aside("/dev/null") as aside:
        aside.write_text("lost")
    assert Path("/dev/null").stat().st_mode == kind
