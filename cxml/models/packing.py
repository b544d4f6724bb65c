"""A model folder as one piece of bytes, such as a service keeps in a store of blobs: a plain zip archive.

The archive comes from elsewhere and is trusted with nothing: it is read in memory only, never unpacked to disk, and
whatever a model folder does not need (folders, links, encryption, names twice, absurd sizes) is refused before a byte
of it is unpacked. What is in the files is checked afterwards, by their digests, as for a folder.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping

from cxml.errors import DataError

#: Bytes of an archive, of all its files together, and how many files.
LARGEST_ARCHIVE = 256 << 20
LARGEST_CONTENT = 1 << 30
MOST_FILES = 1_000
#: Text shrinks by ten or so; what shrinks by more than this, from a size worth asking, was made to fill memory.
MOST_SHRUNK = 200
_WORTH_ASKING = 1 << 20

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*\.(json|txt|md)")
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is packed


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files into an archive; equal files give equal bytes.

    Parameters
    ----------
    files : mapping of str to bytes

    Returns
    -------
    bytes

    Examples
    --------
    >>> unpack_files(pack_files({"model.json": b"{}"}))
    {'model.json': b'{}'}
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _FIRST_DAY)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            archive.writestr(info, files[name])
    return packed.getvalue()


def unpack_files(content: bytes | bytearray | memoryview) -> dict[str, bytes]:
    """Read the files of an archive, in memory.

    Parameters
    ----------
    content : bytes, bytearray or memoryview

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    DataError
        If it is no zip archive, is damaged, or holds what a packed model does not.
    """
    if len(content) > LARGEST_ARCHIVE:
        raise DataError(f"the packed model has {len(content):,} bytes; at most {LARGEST_ARCHIVE:,} are read")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check(infos)
            return {info.filename: _read(archive, info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"the packed model is no whole zip archive ({error}). Pack the model folder again, with cxml.scoring.pack."
        ) from None


def _check(infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MOST_FILES:
        raise DataError(f"the packed model holds {len(infos):,} files; at most {MOST_FILES:,} are read")
    names = [info.filename for info in infos]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the packed model holds the file {twice!r} twice. Do not use it.")
    for info in infos:
        strange = _strange(info)
        if strange:
            raise DataError(f"the packed model holds {info.filename[:80]!r}, {strange}. Do not use it.")
    total = sum(info.file_size for info in infos)
    if total > LARGEST_CONTENT:
        raise DataError(f"the files of the packed model have {total:,} bytes; at most {LARGEST_CONTENT:,} are read")


def _strange(info: zipfile.ZipInfo) -> str | None:
    """Say what of a file does not belong into a packed model."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not _PLAIN.fullmatch(info.orig_filename) or info.is_dir():
        return "which is no plain name of a file"
    if kind not in (0, stat.S_IFREG):
        return "which is a link or another thing than a file"
    if info.flag_bits & 0x1:
        return "which is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "which is compressed in an unusual way"
    if info.file_size > _WORTH_ASKING and info.file_size > MOST_SHRUNK * info.compress_size:
        return f"{info.file_size:,} bytes packed into {info.compress_size:,}"
    return None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        content = file.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise DataError(f"the packed model's file {info.filename!r} is not as long as it says. Pack the folder again.")
    return content
