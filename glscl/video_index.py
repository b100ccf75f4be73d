"""An index of videos: their embeddings, and a manifest that says of every file what it was when it was read.

A folder holds `manifest.sqlite` and `shard-<number>.safetensors`. A shard is on the disk before the manifest names it,
and is deleted after the manifest names it no more, so a kill at any moment leaves the index as it was after the last
`add`. Without a folder the same is kept in memory. Knows no model: an embedding is a dictionary of tensors.
"""

import json
import os
import sqlite3
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from glscl.files import naming_full_disk, replacing
from glscl.locks import alone

VERSION = 2
LOCK = ".lock"
LEFT = (LOCK, ".manifest")  # how names begin that a kill leaves in a new folder
WHOLE = -1  # in place of the number of a shard: codes of all of them
ROWS = 2**14  # of a shard; smaller ones are joined when an index is closed
TABLES = """
CREATE TABLE about (value TEXT NOT NULL, checksum INTEGER);
CREATE TABLE files (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER, modified INTEGER, hash TEXT, seconds REAL,
    reason TEXT, shard INTEGER, row INTEGER, checksum INTEGER
);
CREATE INDEX by_hash ON files (hash);
CREATE INDEX by_place ON files (shard, row);
CREATE TABLE shards (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL);
CREATE TABLE codes (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL);
"""


class Entry(NamedTuple):
    """One file of an index, as it was when it was read.

    path: absolute. size: bytes. modified: nanoseconds since 1970. hash: SHA-256 of the content. seconds: duration of
    the pictures; 0 where the file claims none. reason: why it cannot be read, or "" where it is indexed. Size, time and
    hash are None for a file that was not there.
    """

    path: str
    size: int | None
    modified: int | None
    hash: str | None
    seconds: float
    reason: str = ""


class Filter(NamedTuple):
    """Which videos a search looks among; None: whatever they are.

    folder: those in it and its sub-folders. shortest, longest: duration in seconds. since, before: when the file was
    last changed, a day or a time as in ISO 8601, 2026-01-31 or 2026-01-31T12:00, local where it names no zone.
    """

    folder: str | Path | None = None
    shortest: float | None = None
    longest: float | None = None
    since: str | None = None
    before: str | None = None

    def terms(self) -> list[tuple[str, str, str | float | int]]:
        """Column, comparison and value, of which all must hold. Raises ValueError where a time cannot be read."""
        found = []
        if self.folder is not None:
            inside = os.path.abspath(self.folder).rstrip(os.sep) + os.sep
            # What begins with the folder lies between it and what ends with the next character instead.
            found += [("path", ">=", inside), ("path", "<", inside[:-1] + chr(ord(os.sep) + 1))]
        found += [("seconds", ">=", self.shortest), ("seconds", "<=", self.longest)]
        found += [("modified", ">=", _nanoseconds(self.since)), ("modified", "<", _nanoseconds(self.before))]
        return [term for term in found if term[2] is not None]


EVERYTHING = Filter()


class Shard(NamedTuple):
    """Some indexed files. paths: of each row that files have; files of the same content share one.

    tensors: (rows, ...), vectors as float16.
    """

    number: int
    paths: dict[int, list[str]]
    tensors: dict[str, Tensor]

    def embeddings(self, rows: Tensor) -> dict[str, Tensor]:
        """The embeddings of these rows, floats as float32."""
        # Indexing with brackets takes ten times as long for float16.
        chosen = {name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()}
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in chosen.items()}


COLUMNS = (*Entry._fields, "shard", "row")
# SQLite finds a damaged page only where its structure is broken, hence a checksum for every row.
SEAL = f"UPDATE files SET checksum = seal({', '.join(COLUMNS)}) WHERE checksum IS NULL"
BROKEN = f"SELECT path FROM files WHERE checksum IS NOT seal({', '.join(COLUMNS)})"
ADD = (
    f"INSERT INTO files ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (path) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS[1:], "checksum"))
)
ADD_SHARD = "INSERT INTO shards VALUES (?, ?)"


class VideoIndex:
    """Embeddings of video files with their manifest, in a folder or, where that is None, in memory.

    id: of this index alone, and the same whenever its folder is opened.
    """

    def __init__(self, folder: Path | None, connection: sqlite3.Connection):
        self.folder, self._connection, self.id = folder, connection, uuid.uuid4().hex
        connection.create_function("seal", -1, _seal, deterministic=True)
        self._shards: dict[int, dict[str, Tensor]] = {}

    @classmethod
    def in_memory(cls) -> "VideoIndex":
        """An empty index that ends with the process."""
        connection = sqlite3.connect(":memory:")
        connection.executescript(TABLES)
        return cls(None, connection)

    @classmethod
    def create(cls, folder: str | Path, about: dict) -> "VideoIndex":
        """A new index in a folder, which may exist and must be empty. about: what its embeddings were made with.

        Raises ValueError where something else lies in the folder.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(not name.startswith(LEFT) for name in os.listdir(folder))):
            raise ValueError(f"an index needs a folder of its own, and {folder} holds something; name another.")
        value = json.dumps({"version": VERSION, "id": uuid.uuid4().hex} | about)
        with replacing(folder / "manifest.sqlite") as partial, closing(sqlite3.connect(partial)) as new, new:
            new.executescript(TABLES)
            new.execute("INSERT INTO about VALUES (?, ?)", (value, _seal(value)))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> "VideoIndex":
        """The index in a folder. Raises FileNotFoundError where there is none, ValueError at a damaged or newer one."""
        folder = Path(folder)
        manifest = folder / "manifest.sqlite"
        if not manifest.is_file():
            raise FileNotFoundError(
                f"{folder} holds no index, as it has no manifest.sqlite; make one with glscl index."
            )
        index = cls(folder, sqlite3.connect(manifest))
        try:
            index._connection.execute("PRAGMA synchronous = FULL")
            sound = index._connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
            ((value, checksum),) = index._connection.execute("SELECT value, checksum FROM about")
            if not sound or checksum != _seal(value) or index._connection.execute(BROKEN).fetchone():
                raise ValueError("its checksums do not fit")
        except (sqlite3.DatabaseError, ValueError) as error:
            raise ValueError(f"{manifest} is damaged ({error}); delete {folder} and index the videos again.") from error
        if (version := index.about()["version"]) != VERSION:
            raise ValueError(f"{folder} is an index of version {version}, expected {VERSION}; index the videos again.")
        index.id = index.about()["id"]
        for shard in index._used():
            index._shard(shard)  # open files outlive their names, so an index that changes can still be searched
        return index

    def about(self) -> dict:
        """What the embeddings were made with, as `create` was told."""
        return json.loads(self._connection.execute("SELECT value FROM about").fetchone()[0])

    def __len__(self) -> int:
        return self._connection.execute("SELECT count(*) FROM files WHERE reason = ''").fetchone()[0]

    def state(self) -> tuple[int, int]:
        """Another value after every change, by this process or by another one."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0], self._connection.total_changes

    def entries(self) -> Iterator[Entry]:
        """Every file, in the order in which they were first added."""
        for row in self._connection.execute(f"SELECT {', '.join(Entry._fields)} FROM files ORDER BY number"):
            yield Entry(*row)

    def shards(self, where: Filter = EVERYTHING) -> Iterator[Shard]:
        """The indexed files that pass a filter with their embeddings, at most `ROWS` embeddings at a time."""
        passes = "".join(f" AND {name} {sign} ?" for name, sign, _ in where.terms())
        values = [value for _, _, value in where.terms()]
        for number in self._used():
            found = self._connection.execute(
                f"SELECT row, path FROM files WHERE shard = ? AND reason = ''{passes} ORDER BY row, number",
                (number, *values),
            )
            paths: dict[int, list[str]] = {}
            for row, path in found:
                paths.setdefault(row, []).append(path)
            if paths:
                yield Shard(number, paths, self._shard(number))

    def add_codes(self, number: int, save: Callable[[Path], None]) -> None:
        """Keep codes of a shard, or of the `WHOLE` index. save: writes them to a file."""
        file = self._codes(number)
        save(file)
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO codes VALUES (?, ?)", (number, _checksum(file)))

    def codes(self, number: int) -> Path | None:
        """The file of the codes of a shard, or of the `WHOLE`; None where there are none, or where they are damaged."""
        if self.folder is None:
            return None
        file = self._codes(number)
        known = self._connection.execute("SELECT checksum FROM codes WHERE number = ?", (number,)).fetchone()
        return file if known and file.is_file() and _checksum(file) == known[0] else None

    def same_content(self, content: str) -> bool:
        """Whether a file with this hash is indexed."""
        return self._place(content) is not None

    @contextmanager
    def writing(self):
        """Context in which one process may change the index. Raises BusyError where another one does."""
        if self.folder is None:
            yield
            return
        with alone(self.folder / LOCK, f"writes the index {self.folder}"), naming_full_disk(self.folder):
            yield

    def add(self, entries: list[Entry], embeddings: dict[str, Tensor] | None) -> None:
        """Add files, or replace what is known of them, in one step.

        embeddings: {name: (files, ...)} of those entries that are readable and whose content is not indexed yet, in
        their order; None where there is none. The others of the same content share the embedding.
        """
        number = self._next()
        checksum = None if embeddings is None else self._write(number, halved(embeddings))
        # Before any change: a file that gets new content may hold the only name of what another one has now.
        places = {entry.hash: self._place(entry.hash) for entry in entries if not entry.reason}
        row = 0
        with self._connection:
            if checksum is not None:
                self._connection.execute(ADD_SHARD, (number, checksum))
            for entry in entries:
                if not entry.reason and places[entry.hash] is None:
                    places[entry.hash], row = (number, row), row + 1
                place = (None, None) if entry.reason else places[entry.hash]
                self._connection.execute(ADD, (*entry, *place))
            self._connection.execute(SEAL)

    def drop(self, paths: list[str]) -> None:
        """Forget these files."""
        with self._connection:
            self._connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    def tidy(self) -> None:
        """Join small shards, leave out what no file needs, and delete what a kill left."""
        live = dict(self._connection.execute("SELECT shard, count(DISTINCT row) FROM files GROUP BY shard").fetchall())
        live.pop(None, None)
        wasteful = [s for s, count in live.items() if count < max(len(self._first(s)) // 2, 1)]
        small = [s for s, count in live.items() if count < ROWS // 2]
        chosen = sorted({*wasteful, *(small if len(small) > 1 else [])})
        while chosen:
            taken, total = [], 0
            while chosen and (not taken or total + live[chosen[0]] <= ROWS):
                taken.append(chosen.pop(0))
                total += live[taken[-1]]
            self._join(taken)
        used = set(self._used())
        for shard in self._shards.keys() - used:
            del self._shards[shard]
        if self.folder:
            needed = {file.stem for shard in used for file in (self._file(shard), self._codes(shard))}
            needed.add(self._codes(WHOLE).stem)
            for file in self.folder.glob("*-*"):
                if file.stem not in needed:
                    file.unlink()

    def copy_to(self, folder: str | Path, about: dict) -> "VideoIndex":
        """The same index in another folder, which must be empty."""
        other = VideoIndex.create(folder, about)
        with other.writing():
            entries = {entry.path: entry for entry in self.entries()}
            other.add([entry for entry in entries.values() if entry.reason], None)
            for shard in self.shards():
                first: dict[str, int] = {}
                for row, paths in shard.paths.items():
                    if not other.same_content(entries[paths[0]].hash):
                        first.setdefault(entries[paths[0]].hash, row)
                chosen = shard.embeddings(torch.tensor(list(first.values()))) if first else None
                other.add([entries[path] for paths in shard.paths.values() for path in paths], chosen)
        return other

    # --- shards

    def _place(self, content: str) -> tuple[int, int] | None:
        return self._connection.execute(
            "SELECT shard, row FROM files WHERE hash = ? AND reason = '' LIMIT 1", (content,)
        ).fetchone()

    def _used(self) -> list[int]:
        found = self._connection.execute("SELECT DISTINCT shard FROM files WHERE shard IS NOT NULL ORDER BY shard")
        return [shard for (shard,) in found]

    def _next(self) -> int:
        """Number of a new shard; none is used twice, as other processes may hold an older one of that number."""
        return self._connection.execute("SELECT coalesce(max(number), -1) + 1 FROM shards").fetchone()[0]

    def _first(self, shard: int) -> Tensor:
        return next(iter(self._shard(shard).values()))

    def _file(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.safetensors"

    def _codes(self, shard: int) -> Path:
        return self.folder / ("codes-whole.faiss" if shard == WHOLE else f"bounds-{shard:06d}.safetensors")

    def _shard(self, shard: int) -> dict[str, Tensor]:
        if shard not in self._shards:
            file = self._file(shard)
            try:
                (checksum,) = self._connection.execute(
                    "SELECT checksum FROM shards WHERE number = ?", (shard,)
                ).fetchone()
                if _checksum(file) != checksum:
                    raise OSError("its checksum is not that of the manifest")
                with safe_open(file, "pt") as tensors:
                    self._shards[shard] = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
            except OSError as error:
                raise ValueError(f"{file} is damaged ({error}); delete {self.folder} and index again.") from error
        return self._shards[shard]

    def _write(self, shard: int, tensors: dict[str, Tensor]) -> int:
        """Put a shard on the disk; its checksum, which the manifest must know before it names the shard."""
        if self.folder is None:
            self._shards[shard] = tensors
            return 0
        with replacing(self._file(shard), sum(tensor.nbytes for tensor in tensors.values())) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
            checksum = _checksum(partial)
        self._shards.pop(shard, None)
        return checksum

    def _join(self, shards: list[int]) -> None:
        """Move the rows that files need into one new shard."""
        number, parts, moves, start = self._next(), [], [], 0
        for shard in shards:
            found = self._connection.execute("SELECT DISTINCT row FROM files WHERE shard = ? ORDER BY row", (shard,))
            rows = [row for (row,) in found]
            parts.append({name: tensor[rows] for name, tensor in self._shard(shard).items()})
            moves += [(number, start + to, shard, row) for to, row in enumerate(rows)]
            start += len(rows)
        checksum = self._write(number, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        with self._connection:
            self._connection.execute(ADD_SHARD, (number, checksum))
            move = "UPDATE files SET shard = ?, row = ?, checksum = NULL WHERE shard = ? AND row = ?"
            self._connection.executemany(move, moves)
            self._connection.execute(SEAL)


def halved(embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
    """Vectors as float16: half the size, and less of an error than CLIP in half precision has."""
    width = max(tensor.shape[-1] for tensor in embeddings.values())
    return {
        name: tensor.half() if tensor.is_floating_point() and tensor.shape[-1] == width else tensor
        for name, tensor in embeddings.items()
    }


def is_address(place: str | Path) -> bool:
    """Whether this is a place of Milvus, an address or a file that ends in .db, and no folder."""
    return str(place).startswith(("http://", "https://")) or str(place).endswith(".db")


def _nanoseconds(time: str | None) -> int | None:
    """Since 1970."""
    if time is None:
        return None
    try:
        return int(datetime.fromisoformat(time).timestamp()) * 10**9
    except ValueError as error:
        raise ValueError(f"a time must be like 2026-01-31 or 2026-01-31T12:00, got {time!r}; correct it.") from error


def _seal(*values) -> int:
    return zlib.crc32(repr(values).encode())


def _checksum(file: Path) -> int:
    found = 0
    with open(file, "rb") as opened:
        while part := opened.read(2**20):
            found = zlib.crc32(part, found)
    return found
