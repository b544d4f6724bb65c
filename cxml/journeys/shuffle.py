"""Rows as they are read to parts of whole customers: by hash of the customer, in memory or spilled to disk."""

from __future__ import annotations

import re
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.journeys.block import Int32, Int64
from cxml.journeys.schema import MISSING, PLAIN_INTEGER_PATTERN
from cxml.journeys.spill import make_folder, remove_folder

#: Parts a log is cut into: small enough for a core's cache with some ten million events.
N_PARTS = 64

_PLAIN_INTEGER = re.compile(PLAIN_INTEGER_PATTERN)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
#: The number of a part: a byte, which sorts quickest.
Parts = NDArray[np.uint8]

#: Arrow's names of types that NumPy gives to others.
_NUMPY_NAMES = {"float": "float32", "double": "float64"}
_MIX = np.uint64(0xD6E8FEB86659FD93)


#: Provisional codes, and how often each occurs.
Tally = tuple[Int32, Int64]


@dataclass(frozen=True, slots=True)
class Sparse:
    """A column of numbers most of which are missing, as amounts are in a log of all that happens.

    Parameters
    ----------
    there : bool array of shape (n_rows,)
    values : float64 array
        Those that are there.
    bounds : int64 array of shape (n_parts + 1,)
        Where each part begins in ``values``.
    """

    there: NDArray[np.bool_]
    values: NDArray[np.float64]
    bounds: Int64

    dtype = np.dtype(np.float64)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.there)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.there.nbytes + self.values.nbytes

    def piece(self, part: int, low: int, high: int) -> Sparse:
        """Give what is in one part, whose rows are ``low`` to ``high``."""
        bounds = self.bounds[part : part + 2]
        return Sparse(self.there[low:high], self.values[bounds[0] : bounds[1]], bounds - bounds[0])


#: A column of some rows.
Column = NDArray[Any] | Sparse


@dataclass(slots=True)
class Chunk:
    """Some rows, those of one part beside each other.

    Parameters
    ----------
    position : tuple of int
        Where it stands in its source. Threads hand chunks in as they are done; a log that is sorted by time is
        quicker to sort in its own order.
    bounds : int64 array of shape (n_parts + 1,)
        Where each part begins.
    columns : dict of str to array or Sparse
        Texts as provisional codes (integers, -1 for none), stamps as int64, integer ids as int64 or, where they are
        small, int32, numbers as float64.
    tally : dict of str to (int32 array, int64 array)
        Provisional codes, and how often each occurs.
    text_ids : bool
        Whether ``customer_id`` holds provisional codes instead of the ids themselves.
    """

    position: tuple[int, ...]
    bounds: Int64
    columns: dict[str, Column]
    tally: dict[str, Tally]
    text_ids: bool

    @property
    def n(self) -> int:
        """How many rows."""
        return int(self.bounds[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(column.nbytes for column in self.columns.values())


class Words:
    """The texts of one column, numbered as they come: provisional codes. Safe to use from many threads."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._code: dict[str, int] = {}
        self._lock = threading.Lock()
        self._latest: tuple[Any, Int32] | None = None

    def codes(self, dictionary: Any) -> Int32:
        """Give the code of every entry of an Arrow dictionary; -1 for a blank one."""
        with self._lock:
            if self._latest is not None and self._latest[0].equals(dictionary):  # as batch upon batch of a file does
                return self._latest[1]
            table = np.array([self._number(text) for text in dictionary.to_pylist()], np.int32)
            self._latest = dictionary, table
            return table

    def _number(self, text: str | None) -> int:
        if text is None or not text.strip(" "):
            return -1
        code = self._code.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def number(self, texts: Iterable[str]) -> list[int]:
        """Give the codes of texts that are not blank."""
        with self._lock:
            return [self._number(text) for text in texts]


class Slabs(threading.local):
    """Memory for many small arrays, in large pieces: the system hands out large ones in huge pages, much quicker."""

    size = 1 << 25

    def __init__(self) -> None:
        self._slab = np.empty(0, np.uint8)

    def room(self, n: int, dtype: Any) -> NDArray[Any]:
        """Give an array that nothing is in yet."""
        n_bytes = n * dtype.itemsize
        if n_bytes > len(self._slab):
            self._slab = np.empty(max(self.size, n_bytes), np.uint8)
        taken, self._slab = self._slab[:n_bytes], self._slab[-(-n_bytes // 64) * 64 :]
        return taken.view(dtype)


class Scratch(threading.local):
    """Arrays that are used again and again, one of each name in a thread."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def room(self, name: str, n: int, dtype: Any) -> NDArray[Any]:
        """Give an array that holds nothing of worth."""
        n_bytes = n * np.dtype(dtype).itemsize
        if name not in self._arrays or n_bytes > len(self._arrays[name]):
            self._arrays[name] = np.empty(n_bytes + n_bytes // 4, np.uint8)
        return self._arrays[name][:n_bytes].view(dtype)


@dataclass(slots=True)
class Mark:
    """What a shuffle held at some moment."""

    n_chunks: int
    sizes: list[int]
    n_rows: int
    tallies: dict[str, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one part, as far as they were read together.

    Parameters
    ----------
    chunk : Chunk
        Holds them.
    part, low, high : int
        Which part, and where its rows are.
    """

    chunk: Chunk
    part: int
    low: int
    high: int

    @property
    def n(self) -> int:
        """How many rows."""
        return self.high - self.low

    @property
    def text_ids(self) -> bool:
        """Whether ``customer_id`` holds provisional codes instead of the ids themselves."""
        return self.chunk.text_ids

    def column(self, name: str) -> Column | None:
        """Give a column; None where these rows lack it."""
        column = self.chunk.columns.get(name)
        if isinstance(column, Sparse):
            return column.piece(self.part, self.low, self.high)
        return None if column is None else column[self.low : self.high]


class Shuffle:
    """Takes rows as they are read and keeps them by part.

    Parameters
    ----------
    n_parts : int
        How many parts, 1 to 256.
    budget : int, optional
        Bytes to hold in memory; what is more goes to disk. Default: everything is held.
    folder : path, optional
        Where to spill; default: the system's folder for temporary files.
    """

    def __init__(self, n_parts: int = N_PARTS, budget: int | None = None, folder: str | None = None) -> None:
        self.n_parts, self.budget, self.folder = n_parts, budget, folder
        self.words: dict[str, Words] = {}
        self.columns: dict[str, None] = {}
        self.n_rows = 0
        self._chunks: list[Chunk] = []
        self._tallies: dict[str, list[Tally]] = {}
        self._part_of_code = np.empty(0, np.uint8)
        self._held = 0
        self._mark: Mark | None = None
        self._slabs, self._scratch = Slabs(), Scratch()
        self._lock = threading.Lock()
        self._spill: Path | None = None

    @property
    def is_spilled(self) -> bool:
        """Whether some rows lie on disk."""
        return self._spill is not None

    def split(self, columns: Mapping[str, Any], position: tuple[int, ...] = ()) -> Chunk:
        """Put the rows of a batch in the order of their parts.

        Parameters
        ----------
        position : tuple of int
            Where the batch stands among those of its source.
        columns : mapping of str to array
            Canonical columns: int64 arrays for stamps and integer ids, Arrow dictionaries for texts, float64 arrays,
            NumPy's or Arrow's, for numbers.

        Returns
        -------
        Chunk
        """
        ids = columns["customer_id"]
        text_ids = not isinstance(ids, np.ndarray)
        if text_ids:
            part = self._parts_of_texts(ids)
        else:
            part = parts_of_integers(ids, self.n_parts, self._scratch.room("mixed", len(ids), np.uint64))
        order = np.argsort(part, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=self.n_parts))])
        chunk = Chunk(position, bounds, {}, {}, text_ids)
        for name, column in columns.items():
            if isinstance(column, np.ndarray):
                chunk.columns[name] = self._taken(_narrow(column) if name == "customer_id" else column, order)
            elif hasattr(column, "dictionary"):
                chunk.columns[name], chunk.tally[name] = self._taken_codes(name, column, order)
            elif column.null_count:
                chunk.columns[name] = self._taken_sparse(column, order, bounds)
            else:
                chunk.columns[name] = self._taken(fixed_values(column), order)
        return chunk

    def _taken(self, values: NDArray[Any], order: Int64) -> NDArray[Any]:
        taken = values.take(order, out=self._slabs.room(len(order), values.dtype), mode="clip")
        if taken.dtype == np.float64:
            taken += 0.0  # there is one zero: -0.0 would sort, and be digested, as another number
        return taken

    def _taken_sparse(self, column: Any, order: Int64, bounds: Int64) -> Sparse:
        there = self._taken(is_there(column), order).view(bool)
        at = np.flatnonzero(there)
        return Sparse(there, self._taken(fixed_values(column), order.take(at)), np.searchsorted(at, bounds))

    def _taken_codes(self, name: str, column: Any, order: Int64) -> tuple[NDArray[Any], Tally]:
        """Give the provisional codes of an Arrow dictionary array, and how often each occurs."""
        table = self.words_of(name).codes(column.dictionary)
        places = self._scratch.room("places", len(order), np.intp)  # as NumPy wants them: to cast anew is to allocate
        np.add(fixed_values(column.indices), 1, out=places)
        if column.null_count:
            places *= is_there(column.indices)
        counts = np.bincount(places, minlength=len(table) + 1)[1:]
        narrow: NDArray[Any] = np.append(np.int32(-1), table).astype(_narrowest(table))
        codes = narrow.take(places, out=self._scratch.room("codes", len(order), narrow.dtype), mode="clip")
        return self._taken(codes, order), (table, counts)

    def words_of(self, name: str) -> Words:
        """Give the texts of a column."""
        with self._lock:
            return self.words.setdefault(name, Words())

    def _parts_of_texts(self, ids: Any) -> Parts:
        words = self.words_of("customer_id")
        codes = words.codes(ids.dictionary)
        with self._lock:
            new = words.texts[len(self._part_of_code) :]
            self._part_of_code = np.concatenate([self._part_of_code, parts_of_texts(new, self.n_parts)])
            part: Parts = self._part_of_code[codes][fixed_values(ids.indices)]
        return part

    def add(self, chunk: Chunk) -> None:
        """Keep the rows of a batch."""
        with self._lock:
            self._chunks.append(chunk)
            self.n_rows += chunk.n
            self.columns |= dict.fromkeys(chunk.columns)
            for name, tally in chunk.tally.items():
                self._tallies.setdefault(name, []).append(tally)
            self._held += chunk.nbytes
            if self.budget is not None and self._held > self.budget:
                self._flush()

    def mark(self) -> Mark:
        """Remember what is held, for `settle` and `undo`; forgets the mark before."""
        tallies = {name: len(found) for name, found in self._tallies.items()}
        self._mark = Mark(len(self._chunks), self._sizes(), self.n_rows, tallies)
        return self._mark

    def settle(self, mark: Mark) -> None:
        """Put what came after the latest mark in order; threads hand in batches as they are done."""
        self._chunks[mark.n_chunks :] = sorted(self._chunks[mark.n_chunks :], key=lambda chunk: chunk.position)

    def undo(self, mark: Mark) -> None:
        """Forget the rows that came after the latest mark."""
        for path, size in zip(self._files(), mark.sizes, strict=False):
            with path.open("r+b") as file:
                file.truncate(size)
        del self._chunks[mark.n_chunks :]
        self._held = sum(chunk.nbytes for chunk in self._chunks)
        self.n_rows = mark.n_rows
        self._tallies = {name: found[: mark.tallies.get(name, 0)] for name, found in self._tallies.items()}

    def _flush(self) -> None:
        """Write what is held to disk; rows from before the mark first, so that those behind it can be cut off."""
        with explained(self.folder):
            self._spill_chunks()
        self._chunks.clear()
        self._held = 0

    def _spill_chunks(self) -> None:
        if self._spill is None:
            self._spill, lock = make_folder(self.folder)
            weakref.finalize(self, remove_folder, self._spill, lock)
            for path in self._files():
                path.touch()
            if self._mark is not None:
                self._mark.sizes = self._sizes()
        n_before = 0 if self._mark is None else self._mark.n_chunks
        self._write(self._chunks[:n_before])
        if self._mark is not None and n_before:
            self._mark.n_chunks, self._mark.sizes = 0, self._sizes()
        self._write(self._chunks[n_before:])

    def _write(self, chunks: list[Chunk]) -> None:
        for text_ids in (False, True):
            alike = [chunk for chunk in chunks if chunk.text_ids == text_ids]
            if not alike:
                continue
            for part, path in enumerate(self._files()):
                pieces = [_piece(chunk, part) for chunk in alike]
                names = dict.fromkeys(name for chunk in alike for name in chunk.columns)
                n = sum(piece.n for piece in pieces)
                columns = {name: join_pieces(pieces, name, np.empty(n, _widest(pieces, name))) for name in names}
                with path.open("ab") as file:
                    write_arrays(file, {f"{name}:{int(text_ids)}": values for name, values in columns.items()})

    def _files(self) -> list[Path]:
        if self._spill is None:
            return []
        return [self._spill / f"rows-{part:04d}" for part in range(self.n_parts)]

    def _sizes(self) -> list[int]:
        return [path.stat().st_size for path in self._files()]

    def pieces(self, part: int) -> list[Piece]:
        """Give the rows of one part, as they were read."""
        held = [_piece(chunk, part) for chunk in self._chunks]
        if self._spill is None:
            return held
        spilled = []
        with self._files()[part].open("rb") as file:
            while record := read_arrays(file):
                columns: dict[str, Column] = {name.rpartition(":")[0]: values for name, values in record.items()}
                n = len(columns["timestamp"])
                chunk = Chunk((), np.array([0, n]), columns, {}, next(iter(record)).endswith(":1"))
                spilled.append(Piece(chunk, 0, 0, n))
        return [*spilled, *held]

    def clear(self) -> None:
        """Let the rows go."""
        self._chunks.clear()

    def forget(self, part: int) -> None:
        """Delete what lies on disk of one part."""
        self._files()[part].unlink()

    def store(self) -> Path:
        """Write everything that is still held to disk, and give the folder, which lives as long as this."""
        self._flush()
        assert self._spill is not None
        return self._spill

    def counts(self, name: str) -> Int64:
        """Say how often the text of each provisional code of a column occurs."""
        counts = np.zeros(len(self.words_of(name).texts) + 1, np.int64)  # the last entry is what -1 finds
        for codes, found in self._tallies.get(name, []):
            counts[codes] += found  # a dictionary holds no text twice
        return counts[:-1]

    def count(self, name: str, text: str) -> int:
        """Say how often a text occurs in a column."""
        texts = self.words_of(name).texts
        return int(self.counts(name)[texts.index(text)]) if text in texts else 0

    def occurring(self, name: str) -> Int32:
        """Give the provisional codes of the texts of a column that occur in some row, ascending."""
        return np.flatnonzero(self.counts(name)).astype(np.int32)


def fixed_values(column: Any, dtype: Any = None) -> NDArray[Any]:
    """Give the values of an Arrow array of numbers as they lie in memory, whatever stands where one is missing.

    Arrow's own ways, ``to_numpy`` and ``fill_null``, import pandas and all of Arrow's functions first, which takes a
    third of a second.
    """
    name = str(column.type)
    values: NDArray[Any] = np.frombuffer(column.buffers()[1], dtype or _NUMPY_NAMES.get(name, name))
    return values[column.offset : column.offset + len(column)]


def float_values(column: Any) -> NDArray[np.float64]:
    """Give the values of an Arrow array of numbers as float64, NaN where one is missing."""
    values = fixed_values(column).astype(np.float64)
    if column.null_count:
        values[is_there(column) == 0] = np.nan
    return values


def _narrow(ids: Int64) -> NDArray[Any]:
    """Give ids in half the memory where all are small enough."""
    reach = np.iinfo(np.int32)
    fits = not len(ids) or (ids.min() >= reach.min and ids.max() <= reach.max)
    return ids.astype(np.int32) if fits else ids


def is_there(column: Any) -> NDArray[np.uint8]:
    """Give 1 where an Arrow array that lacks some values has one, else 0."""
    bits = np.frombuffer(column.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=column.offset + len(column), bitorder="little")[column.offset :]


@contextmanager
def explained(folder: str | None) -> Iterator[None]:
    """Say what could not be put on disk, and the mend."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the journeys are larger than the memory they may take, and could not be put on disk in "
            f"{folder or tempfile.gettempdir()}: {error.strerror or error}. Free some space there, name another folder "
            "in the environment variable TMPDIR, or allow more with journeys.memory_limit."
        ) from None


def _narrowest(codes: Int32) -> type:
    """Find the smallest integers that hold some codes: a log of few touchpoints takes a byte for each."""
    most = int(codes.max(initial=0))
    return np.int8 if most < 2**7 else np.int16 if most < 2**15 else np.int32


def _widest(pieces: list[Piece], name: str) -> Any:
    columns = (piece.chunk.columns.get(name) for piece in pieces)
    return np.result_type(*(column.dtype for column in columns if column is not None))


def parts_of_integers(ids: Int64, n_parts: int, room: NDArray[np.uint64] | None = None) -> Parts:
    """Say to which part each customer belongs; ``room`` is memory to work in."""
    mixed = np.multiply(ids.view(np.uint64), _MIX, out=room)
    mixed >>= np.uint64(32)
    mixed *= np.uint64(n_parts)
    mixed >>= np.uint64(32)  # the high bits, scaled to the number of parts: quicker than a remainder
    return mixed.astype(np.uint8)


def parts_of_texts(texts: list[str], n_parts: int) -> Parts:
    """Say to which part each customer belongs whose id is a text; ``"17"`` goes where 17 goes.

    Examples
    --------
    >>> bool(parts_of_texts(["17"], 64)[0] == parts_of_integers(np.array([17]), 64)[0])
    True
    """
    parts = np.array([zlib.crc32(text.encode()) % n_parts for text in texts], np.uint8)
    plain = np.array([_is_int64(text) for text in texts], bool)
    parts[plain] = parts_of_integers(np.array([int(t) for t in texts if _is_int64(t)], np.int64), n_parts)
    return parts


def _is_int64(text: str) -> bool:
    """Tell whether a text is how some int64 is written: also one too long to become an integer on its own."""
    return _INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def is_plain_integer(text: str) -> bool:
    """Tell whether an id may become an integer without losing a digit: ``17``, but not ``017``."""
    return _PLAIN_INTEGER.fullmatch(text) is not None


def join_pieces(pieces: list[Piece], name: str, out: NDArray[Any]) -> NDArray[Any]:
    """Join a column of some pieces; missing where a piece lacks it."""
    missing = np.nan if out.dtype == np.float64 else MISSING if out.dtype == np.int64 else -1
    found = ((piece, piece.column(name)) for piece in pieces)
    parts = [np.full(piece.n, missing, out.dtype) if column is None else column for piece, column in found]
    dense = [part for part in parts if not isinstance(part, Sparse)]
    if len(dense) == len(parts):
        return np.concatenate([np.empty(0, out.dtype), *dense], out=out)
    there = np.concatenate([part.there if isinstance(part, Sparse) else np.ones(len(part), bool) for part in parts])
    out.fill(np.nan)
    # at whole numbers: several times quicker than by truth values
    out[np.flatnonzero(there)] = np.concatenate([part.values if isinstance(part, Sparse) else part for part in parts])
    return out


def _piece(chunk: Chunk, part: int) -> Piece:
    low, high = chunk.bounds[part : part + 2].tolist()
    return Piece(chunk, part, low, high)


def write_arrays(file: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Append named arrays to a file, as one record."""
    np.save(file, np.array(list(arrays), dtype=np.str_), allow_pickle=False)
    for values in arrays.values():
        np.save(file, values, allow_pickle=False)


def read_arrays(file: Any) -> dict[str, NDArray[Any]]:
    """Read the next record of a file; nothing at its end."""
    if not file.peek(1):
        return {}
    names = np.load(file, allow_pickle=False)
    return {str(name): np.load(file, allow_pickle=False) for name in names}
