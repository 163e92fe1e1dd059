"""Answers of an indexer kept in memory and on disk, so that no pattern is ever indexed twice.

Those of this session are in memory; one SQLite file holds them for others and for later ones.
Every batch is one transaction, so a session that is killed loses at most the batch under way, and
several processes can share the file. It uses SQLite's rollback journal, not its write-ahead log:
that one needs memory shared by all its users, which the network file systems of a beamline do not
have, and a transaction a batch is no burden.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np

from wrappers.cell import Cell
from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, Note
from wrappers.indexing import Done, Indexer, Indexing, Lattice, Pattern, counting_on, unheard
from wrappers.locks import has_locks

__all__ = ["CachedIndexer"]

FILE = "indexed.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, lattices BLOB NOT NULL
)
"""
DROP_OLDEST = """
DELETE FROM answers WHERE id IN (
    SELECT id FROM answers ORDER BY id
    LIMIT (SELECT CAST(1 + ? * COUNT(*) AS INTEGER) FROM answers)
)
"""
LOCK_SECONDS = 10.0
BASIS_BYTES = 72
LARGEST = 1e6
"""Of a reciprocal basis's elements, in 1/Å: no crystal has more."""
KEYS_PER_QUESTION = 500
DROPPED_AT_ONCE = 0.25
"""Share of the answers dropped when there is no more room: the oldest ones."""


class CachedIndexer:
    """An indexer that asks another only for what it has not been asked before.

    Equal are patterns with the same peaks, photon energy, camera length and shift; answers are
    shared by all who use the same folder, geometry, cell and indexer (by its name, which tells
    version and options). Failures are not kept. Trouble with the file, such as a full disk,
    costs time but no answers.

    Parameters
    ----------
    indexer : Indexer
    folder : path or None
        Made where it does not exist. None keeps the answers in memory only.
    geometry : Geometry
    cell : Cell
        Those that the indexer was made for.
    max_bytes : int, optional
        Size that the file does not much exceed; an answer takes some 100 bytes.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(
        self,
        indexer: Indexer,
        folder: str | os.PathLike[str] | None,
        geometry: Geometry,
        cell: Cell,
        *,
        max_bytes: int = 256 << 20,
    ) -> None:
        self._indexer = indexer
        self._path = None if folder is None else Path(folder) / FILE
        self._known: dict[bytes, Indexing] = {}
        self._max_bytes = max_bytes
        texts = (indexer.name, slab_geometry_text(geometry), repr(cell))
        self._context = hashlib.blake2b("\0".join(texts).encode(), digest_size=16).digest()
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {folder} for indexed patterns cannot be made: {error.strerror}"
            ) from error

    @property
    def name(self) -> str:
        """The other indexer's."""
        return self._indexer.name

    @property
    def parallel(self) -> bool:
        """Whether the other indexer uses several cores by itself."""
        return self._indexer.parallel

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index each pattern, or look it up; the answers come in the patterns' order."""
        keys = [pattern.digest(self._context) for pattern in patterns]
        distinct = dict(zip(keys, patterns, strict=True))
        self._known |= self._find([key for key in distinct if key not in self._known])
        new = {key: pattern for key, pattern in distinct.items() if key not in self._known}
        heard = counting_on(done, len(patterns) - len(new))
        heard(0)
        answers: dict[bytes, Indexing] = {}
        if new:
            answers = dict(zip(new, self._indexer.index(list(new.values()), heard), strict=True))
            # What failed may go better next time.
            kept = {key: answer for key, answer in answers.items() if not answer.failure}
            self._keep(kept)
            self._known |= kept
            done(len(patterns))
        return [answers[key] if key in answers else self._known[key] for key in keys]

    def forget(self) -> None:
        """Drop the answers that are in memory, to bound it."""
        self._known.clear()

    def close(self) -> None:
        """Close the other indexer; the file needs no closing."""
        self._indexer.close()

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, Indexing]:
        found = {}

        def look_up(file: sqlite3.Connection) -> None:
            for first in range(0, len(keys), KEYS_PER_QUESTION):
                some = keys[first : first + KEYS_PER_QUESTION]
                question = ",".join("?" * len(some))
                rows = file.execute(
                    f"SELECT key, lattices FROM answers WHERE key IN ({question})", some
                )
                found.update({key: _unpack(lattices) for key, lattices in rows})

        self._with_file(look_up)
        return found

    def _keep(self, answers: dict[bytes, Indexing]) -> None:
        rows = [(key, _pack(answer)) for key, answer in answers.items()]

        def write(file: sqlite3.Connection) -> None:
            if _used_bytes(file) > self._max_bytes:
                file.execute(DROP_OLDEST, [DROPPED_AT_ONCE])
            file.executemany("INSERT OR IGNORE INTO answers (key, lattices) VALUES (?, ?)", rows)

        self._with_file(write)

    def _connect(self, path: Path) -> sqlite3.Connection:
        if has_locks(path.parent):
            return sqlite3.connect(path, timeout=LOCK_SECONDS)
        # SQLite takes the want of locks for somebody else's lock, and waits for its end.
        place = quote(os.fsencode(path.absolute()))
        return sqlite3.connect(f"file:{place}?nolock=1", uri=True)

    def _with_file(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Do something in one transaction, or go without where the file cannot be used."""
        if self._path is None:
            return
        try:
            # Opened each time: a connection cannot be taken to another process or thread.
            with closing(self._connect(self._path)) as file, file:
                file.execute(SCHEMA)
                action(file)
        except sqlite3.OperationalError:
            pass  # full, locked, read-only …
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # which its message may be
            # It is damaged, or no database at all.
            warnings.warn(
                Note(
                    f"the answers kept in {self._path} are damaged ({error}): they are dropped, "
                    "and what is needed of them is indexed again"
                ),
                stacklevel=2,
            )
            for damaged in (self._path, Path(f"{self._path}-journal")):
                damaged.unlink(missing_ok=True)


def _used_bytes(file: sqlite3.Connection) -> int:
    page, pages, free = (
        file.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return page * (pages - free)


def _pack(answer: Indexing) -> bytes:
    return b"".join(
        np.ascontiguousarray(lattice.reciprocal, "<f8").tobytes() for lattice in answer.lattices
    )


def _unpack(lattices: object) -> Indexing:
    if not isinstance(lattices, bytes) or len(lattices) % BASIS_BYTES:
        raise sqlite3.DatabaseError("an answer is no list of bases")
    bases = np.frombuffer(lattices, "<f8").astype(np.float64).reshape(-1, 3, 3)
    sizes = np.abs(bases).max(axis=2)  # NaN where an element is
    if not np.all((sizes > 0) & (sizes < LARGEST)):
        raise sqlite3.DatabaseError("an answer holds what is no reciprocal basis")
    return Indexing(tuple(Lattice(basis) for basis in bases))
