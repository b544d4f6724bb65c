"""Output that is whole or not there: written aside, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxml.errors import ConfigError


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it over ``path`` when the block succeeds.

    Parameters
    ----------
    path : path
        The file to be written; its folder is made when missing.

    Yields
    ------
    Path
        Where to write. After an error it is removed and ``path`` is as it was.

    Raises
    ------
    ConfigError
        If the place cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_aside(folder / "a.txt") as aside:
    ...     _ = aside.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    target = Path(path)
    aside = _aside(target)
    try:
        yield aside
        aside.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like `write_aside`, for a folder: the old one gives way only when the new one is complete."""
    target = Path(path)
    aside = _aside(target)
    try:
        aside.mkdir()
        yield aside
        if target.exists():
            retired = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
            target.rename(retired)
            aside.rename(target)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            aside.rename(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


def _unwritable(target: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write '{target}': {error.strerror or error}. Name another place with --out.")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
