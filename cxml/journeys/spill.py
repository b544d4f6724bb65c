"""The folder on disk for rows that do not fit in memory: its process holds a lock on it, and cleans up after dead ones.

A process that is killed cannot delete its folder. The lock of the system, which ends with the process whatever ends it,
tells such a folder from one that is in use: neither a number of a process, which may be given again, nor an age could.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":  # which has no such locks: nobody cleans up after others there
    import fcntl

_PREFIX = "cxml-"
_LOCK = "lock"


def make_folder(where: str | None = None) -> tuple[Path, int]:
    """Make a folder that is ours until the lock is closed, or this process ends; remove abandoned ones beside it.

    Parameters
    ----------
    where : str, optional
        Folder to make it in; default: the system's for temporary files.

    Returns
    -------
    folder : Path
        Its name holds the number of the process.
    lock : int
        File descriptor of the lock, for `remove_folder`.

    Raises
    ------
    OSError
        If it cannot be made.

    Examples
    --------
    >>> folder, lock = make_folder()
    >>> remove_folder(folder, lock)
    >>> folder.exists()
    False
    """
    remove_abandoned(where)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=where))
    unnamed = folder / f"{_LOCK}.new"
    lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    if sys.platform != "win32":
        with suppress(OSError):  # a file system may know no locks either
            fcntl.flock(lock, fcntl.LOCK_EX)
            unnamed.rename(folder / _LOCK)  # so that nobody ever finds it under its name and not locked
    return folder, lock


def remove_folder(folder: Path, lock: int) -> None:
    """Delete a folder of ours and end the lock on it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def remove_abandoned(where: str | None = None) -> list[Path]:
    """Delete the folders of processes that are dead; what belongs to other users, or has no lock, is left alone.

    Parameters
    ----------
    where : str, optional
        Folder they lie in; default: the system's for temporary files.

    Returns
    -------
    list of Path
        Those that were deleted.
    """
    found: list[Path] = []
    if sys.platform == "win32":
        return found
    for folder in sorted(Path(where or tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                found.append(folder)
            finally:
                os.close(lock)
    return found
