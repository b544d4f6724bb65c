"""Output that is whole or not there: written aside, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxml.errors import ConfigError


@contextmanager
def write_aside(path: str | os.PathLike[str], *, within: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it over ``path`` when the block succeeds.

    Parameters
    ----------
    path : path
        The file to be written; its folder is made when missing.
    within : Path, optional
        Folder for the temporary file, on the same disk; default: that of ``path``. What a killed process leaves in
        a folder of its own is deleted with it.

    Yields
    ------
    Path
        Where to write. Its name ends in ``.part``, so that no glob takes half a file for a whole one: name the
        format and the compression to the writer, it cannot guess them. After an error the temporary file is
        removed and ``path`` is as it was.

    Raises
    ------
    ConfigError
        If the place cannot be written to; where that shows beforehand, before the block runs.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_aside(folder / "a.txt") as aside:
    ...     _ = aside.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    target = Path(path).absolute()
    if target.is_dir():
        raise _unwritable(path, "it is a folder")
    if target.exists() and not target.is_file():  # a rename would put a file where a device was
        raise _unwritable(path, "it is a device or a pipe, not a file")
    aside = _aside(target)
    aside = aside if within is None else within / aside.name
    with _explained(path, aside):
        try:
            yield aside
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: str | os.PathLike[str], *, known_by: str | None = None) -> Iterator[Path]:
    """Like `write_aside`, for a folder: the old one gives way only when the new one is complete.

    Parameters
    ----------
    path : path
        The folder to be written.
    known_by : str, optional
        Name of a file or folder that every folder of this kind holds, e.g. ``"model.json"``. A folder that is
        there already and not empty is replaced only if it holds that: nobody loses a home folder to ``--out``.

    Yields
    ------
    Path
        An empty folder to fill.

    Raises
    ------
    ConfigError
        If the place cannot be written to, or holds something else.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> for text in ("first", "second"):
    ...     with write_folder_aside(folder, known_by="model.json") as aside:
    ...         _ = (aside / "model.json").write_text(text)
    >>> (folder / "model.json").read_text()
    'second'
    """
    target = Path(path).absolute()
    refuse_to_replace(path, known_by)
    aside = _aside(target)
    with _explained(path, aside):
        try:
            aside.mkdir()
            yield aside
            _put_in_place(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def refuse_to_replace(path: str | os.PathLike[str], known_by: str | None) -> None:
    """Raise what `write_folder_aside` would, before long work whose result could not be put there.

    Raises
    ------
    ConfigError
        If ``path`` is a file, or a folder that holds other things.
    """
    target = Path(path).absolute()
    if target.exists() and not target.is_dir():
        raise _unwritable(path, "it is a file, and a folder is to be written")
    held = sorted(entry.name for entry in target.iterdir()) if target.exists() else []
    if held and known_by not in held:
        shown = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise _unwritable(path, f"the folder holds other things ({shown}), which would be lost")


def _put_in_place(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    retired = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    target.rename(retired)
    try:
        aside.rename(target)
    except OSError:
        retired.rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _aside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error.strerror) from error
    if not os.access(target.parent, os.W_OK):
        raise _unwritable(target, "permission denied")
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


# what a full or failing disk says; such errors need not name a file
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def _explained(path: str | os.PathLike[str], aside: Path) -> Iterator[None]:
    """Turn the failures of writing into `ConfigError`; an error about any other file is not ours to explain."""
    try:
        yield
    except OSError as error:
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        ours = error.errno in _DISK if named is None else Path(named).is_relative_to(aside)
        if not ours:
            raise
        raise _unwritable(path, error.strerror or str(error)) from error


def _unwritable(path: str | os.PathLike[str], why: str | None) -> ConfigError:
    return ConfigError(f"cannot write '{path}': {why}. Name another place with --out.")


def refuse_unknown_ending(path: str | os.PathLike[str] | None, option: str = "--out") -> None:
    """Refuse to write a table under a name that promises another format, before long work.

    Parameters
    ----------
    path : path, optional
        Where a table is to be written; None for nowhere.
    option : str
        What the path was given as.

    Raises
    ------
    ConfigError
        If the name ends neither in ``.parquet`` nor in ``.csv``.

    Examples
    --------
    >>> refuse_unknown_ending("scores.parquet")
    >>> refuse_unknown_ending("scores.xlsx")
    Traceback (most recent call last):
    ...
    cxml.errors.ConfigError: --out 'scores.xlsx': a table is written as Parquet or CSV; name a .parquet or .csv file
    """
    if path is not None and not os.fspath(path).lower().endswith((".parquet", ".csv")):
        raise ConfigError(f"{option} '{path}': a table is written as Parquet or CSV; name a .parquet or .csv file")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
