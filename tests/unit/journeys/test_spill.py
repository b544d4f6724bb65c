"""The folder on disk of a job: its own while it lives, and removed by the next one when it was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxml.journeys import spill
from cxml.journeys.shuffle import Shuffle
from cxml.journeys.spill import make_folder, remove_abandoned, remove_folder

JOB = """
import sys, time
from cxml.journeys.spill import make_folder
folder, lock = make_folder(sys.argv[1])
(folder / "rows-0000").write_bytes(b"1" * 1000)
print(folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def job(tmp_path: Path):
    """A process that has such a folder and goes on."""
    with subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_the_folder_of_a_living_process_stays_and_that_of_a_killed_one_goes(job, tmp_path: Path) -> None:
    process, theirs = job
    assert f"cxml-{process.pid}-" in theirs.name
    mine, lock = make_folder(str(tmp_path))
    assert theirs.is_dir(), "it is in use"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (theirs / "rows-0000").exists(), "nobody could clean up"
    assert remove_abandoned(str(tmp_path)) == [theirs]
    assert list(tmp_path.iterdir()) == [mine]
    remove_folder(mine, lock)
    assert not list(tmp_path.iterdir())


def test_the_next_job_that_needs_the_disk_cleans_up(job, tmp_path: Path) -> None:
    process, theirs = job
    process.kill()
    process.wait()
    shuffle = Shuffle(2, 0, str(tmp_path))
    shuffle.add(shuffle.split({"customer_id": np.arange(3), "timestamp": np.arange(3)}))
    assert shuffle.is_spilled
    assert not theirs.exists()
    assert len(list(tmp_path.iterdir())) == 1
    del shuffle
    assert not list(tmp_path.iterdir())


def test_what_has_no_lock_or_is_somebody_elses_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, notes = tmp_path / "cxml-1-begun", tmp_path / "cxml-notes.txt"
    begun.mkdir()
    notes.write_text("mine")
    abandoned = tmp_path / "cxml-1-dead"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    (tmp_path / "cxml-1-link").symlink_to(abandoned)
    monkeypatch.setattr(spill.os, "getuid", lambda: os.geteuid() + 1)
    assert remove_abandoned(str(tmp_path)) == []
    monkeypatch.undo()
    assert remove_abandoned(str(tmp_path)) == [abandoned]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cxml-1-begun", "cxml-1-link", "cxml-notes.txt"]
