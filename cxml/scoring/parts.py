"""Finished parts of a batch, in a folder beside its target: a job that was killed goes on with what is left.

The folder's name carries the question (model, cutoff, options), each part the digest of the events it was made from:
whatever changed in the meantime, what is taken over is what would be computed. The folder is locked as long as its job
lives; the system ends the lock of a job that is killed.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxml.errors import ConfigError
from cxml.files import write_aside
from cxml.journeys.digest import block_digest

if TYPE_CHECKING:
    import pyarrow

    from cxml.journeys.block import EventBlock

if sys.platform != "win32":  # which has no such locks: two jobs of one target are not told from each other there
    import fcntl

_EVENTS = b"cxml events"
_TRIES = 50
_NAME = re.compile(r"\.[0-9a-f]{12}(-\d+-\d+)?\.parts")


@dataclass(frozen=True, slots=True)
class PartFolder:
    """Finished parts of one question.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def path(self, number: int) -> Path:
        """Say where a part is."""
        return self.folder / f"{number:04d}.parquet"

    def has(self, number: int) -> bool:
        """Tell whether a part is there, of whatever events."""
        return self.path(number).exists()

    def matches(self, number: int, block: EventBlock) -> bool:
        """Tell whether a part is there, whole, and of these very events."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(self.path(number)).metadata or {}
        except (pa.ArrowException, OSError):
            return False
        return bool(metadata.get(_EVENTS) == block_digest(block).encode())

    def write(self, number: int, block: EventBlock, scores: pyarrow.Table, *, even_empty: bool = False) -> bool:
        """Keep a part, and the digest of the events it was made from.

        Returns
        -------
        bool
            Whether there was anything to keep.
        """
        import pyarrow.parquet as pq

        if not len(scores) and not even_empty:
            self.path(number).unlink(missing_ok=True)  # one of other events
            return False
        marked = scores.replace_schema_metadata({_EVENTS: block_digest(block).encode()})
        with write_aside(self.path(number)) as aside:
            pq.write_table(marked, aside, compression="lz4", use_dictionary=False, write_statistics=False)
        return True


@contextmanager
def part_folder(target: Path, key: str, *, fresh: bool = False) -> Iterator[PartFolder]:
    """Open the folder of a question, locked; when the block succeeds it is deleted, with those of dead other ones.

    After an error finished parts stay, for the next run of the same question.

    Parameters
    ----------
    target : Path
        The file that the parts are for; the folder is made beside it.
    key : str
        Of the question: 12 hexadecimal digits, and the shard where it is one.
    fresh : bool
        Delete what is there.

    Yields
    ------
    PartFolder

    Raises
    ------
    ConfigError
        If another process is at work in it, or it cannot be made.
    """
    target = target.absolute()
    folder = target.with_name(f"{target.name}.{key}.parts")
    lock = _locked(folder, target)
    try:
        if fresh:
            for path in folder.glob("*.parquet"):
                path.unlink()
        try:
            yield PartFolder(folder)
        except BaseException:
            if not any(folder.glob("*.parquet")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        _remove_abandoned(target)
    finally:
        os.close(lock)


def _locked(folder: Path, target: Path) -> int:
    """Make a folder and lock it; whoever held it may just be deleting it."""
    gone: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            gone = error
            continue
        except OSError as error:
            raise _no_folder(target, error) from error
        if sys.platform == "win32" or _is_ours(lock, folder / "lock", target):
            return lock
        os.close(lock)
    raise _no_folder(target, gone)


def _is_ours(lock: int, path: Path, target: Path) -> bool:
    """Lock a file; False where it was deleted by whoever had it before."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"another job is scoring into '{target}' right now. Wait until it is done, or name another --out."
        ) from None
    except FileNotFoundError:
        return False
    except OSError:  # a file system without locks
        return True


def _no_folder(target: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write '{target}': {error.strerror or error}. Name another place with --out.")


def _remove_abandoned(target: Path) -> None:
    """Delete the folders of other questions about the same target that no process works in."""
    for folder in target.parent.glob(f"{glob.escape(target.name)}.*.parts"):
        if not _NAME.fullmatch(folder.name.removeprefix(target.name)) or folder.is_symlink():
            continue
        with suppress(OSError, ConfigError):
            lock = _locked(folder, target)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
