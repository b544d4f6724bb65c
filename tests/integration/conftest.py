"""What several integration tests share: a simulated shop with a model of it, and a real PostgreSQL server.

Made once and thrown away with the session.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cr et"
CUSTOMERS = 900


def _programs() -> Path:
    """Return the folder of the newest server's programs."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *map(Path, os.get_exec_path())]
    return next(folder for folder in [*reversed(folders[:-1]), *folders] if (folder / "initdb").is_file())


def _run(folder: Path, *command: str | Path) -> None:
    """Run a program, as an ordinary user where we are root: PostgreSQL refuses root."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with (folder / "output.txt").open("w") as output:  # a pipe would stay open as long as the server runs
        done = subprocess.run([*map(str, command)], cwd=folder, stdout=output, stderr=output, check=False, **user)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(folder / 'output.txt').read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start an empty server on a free loopback port and return the URL of its database.

    For tests marked ``needs_postgres``.
    """
    programs, folder, port = _programs(), Path(tempfile.mkdtemp(prefix="cxml-postgres-")), _free_port()
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    try:
        _run(
            folder, programs / "initdb", "--pgdata=data", "--username=cxml", "--pwfile=password", "--encoding=UTF8",
            "--auth=scram-sha-256", "--no-sync", "--locale=C",
        )  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        _run(folder, programs / "pg_ctl", "--pgdata=data", "--wait", "--log=log", f"--options={options}", "start")
        try:
            yield f"postgresql://cxml:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/postgres"
        finally:
            _run(folder, programs / "pg_ctl", "--pgdata=data", "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with simulated events and a project file; read it, do not write into it."""
    from cxml.demo import write_simulation
    from cxml.simulate import simulate

    folder = tmp_path_factory.mktemp("shop")
    write_simulation(simulate(CUSTOMERS, n_replays=2, random_state=3), folder)
    return folder


@pytest.fixture(scope="session")
def model(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder trained on the shop."""
    from cxml.project import Project

    folder = tmp_path_factory.mktemp("model") / "shop"
    Project.from_file(shop / "project.yaml").train(out=folder, track=False)
    return folder
