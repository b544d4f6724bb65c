"""Text files that are not UTF-8: read from a copy that is."""

from __future__ import annotations

import codecs
from contextlib import ExitStack
from pathlib import Path

from cxml.errors import DataError
from cxml.journeys.spill import make_folder, remove_folder

#: Longer marks first: that of UTF-16 begins that of UTF-32.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_UTF8 = {"utf-8", "utf-8-sig", "ascii"}
_LOOKED_AT = 1 << 20


def as_utf8(file: Path, encoding: str | None, stack: ExitStack) -> Path:
    """Give a file whose text is UTF-8: the file itself where it is, else a copy.

    Parameters
    ----------
    file : Path
        Plain, .gz or .zst.
    encoding : str, optional
        As Python names it. Default: what a byte order mark says, else UTF-8.
    stack : ExitStack
        Deletes the copy.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the bytes are no text in that encoding.
    """
    import pyarrow as pa

    name = codecs.lookup(encoding).name if encoding else _marked(file)
    if name in _UTF8:
        return file
    folder, lock = make_folder()
    stack.callback(remove_folder, folder, lock)
    copy = folder / "text"
    decoder, n_read = codecs.getincrementaldecoder(name)(), 0
    with pa.input_stream(str(file), compression="detect") as source, copy.open("wb") as target:
        try:
            while piece := source.read(_LOOKED_AT):
                target.write(decoder.decode(piece).encode())
                n_read += len(piece)
            target.write(decoder.decode(b"", final=True).encode())
        except UnicodeError as error:
            raise DataError(
                f"'{file}' is not {name}: {error} (after byte {n_read:,}). Correct the source's 'encoding'."
            ) from None
    return copy


def _marked(file: Path) -> str:
    start = _start(file, 4)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def looks_foreign(file: Path) -> bool:
    """Tell whether the beginning of a file is no UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(_start(file, _LOOKED_AT))
    except UnicodeError:
        return True
    return False


def _start(file: Path, n: int) -> bytes:
    import pyarrow as pa

    with pa.input_stream(str(file), compression="detect") as source:
        return bytes(source.read(n))
