"""Files and folders that appear in one step: a kill or a crash leaves the old one or the new one, never half of one.

What is written lies on the disk before it has its name. A folder that a resume reads holds the checksums of its files.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

CHECKSUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
FULL = re.compile(r"(?:No space left on device|disk is full|Disk quota exceeded|File too large)([^\n]*)", re.IGNORECASE)
TOLD = re.compile(r"the disk of .* is full: .* goes on from there")


class FullDiskError(OSError):
    """A disk is full; the message says which folder it is of, what is free and, as far as it is known, missing."""


def full_disk(error: BaseException | str, folder: str | Path, needed: str = "") -> str:
    """What to say of an error that a full disk caused, in one sentence; "" for every other error.

    error: with all that led to it, or its text, as it comes from another process. folder: what was written to, where
    the error names no file. needed: what is known to be missing, as "2.3 MB are needed for the next epoch".
    """
    texts = [error] if isinstance(error, str) else []
    while isinstance(error, BaseException):
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    if told := next(filter(None, map(TOLD.search, texts)), None):
        return told[0]
    if not (found := next(filter(None, map(FULL.search, texts)), None)):
        return ""
    named = re.findall(r"'([^']+)'", found[1])
    if len(named) == 2 and Path(folder, named[0]).is_file():  # of a copy: from where to where
        needed = _needed(Path(folder, named[0]).stat().st_size, Path(named[0]).name)
    place = Path(folder, named[-1] if named else "").absolute()
    while not place.is_dir():
        place = place.parent
    room = f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free" + (f" and {needed}" if needed else "")
    return f"the disk of {place} is full: {room}; free some space, and the same command goes on from there"


def _needed(size: int, name: str) -> str:
    return f"{size / 1e6:,.1f} MB are needed for {name}"


@contextmanager
def naming_full_disk(folder: Path, needed: str = "") -> Iterator[None]:
    """Context whose errors are a FullDiskError where a full disk caused them; see `full_disk`."""
    try:
        yield
    except Exception as error:
        if told := full_disk(error, folder, needed):
            raise FullDiskError(told) from error
        raise


@contextmanager
def replacing(path: str | Path, size: int = 0) -> Iterator[Path]:
    """Context with a name beside `path` to write a file or a folder to, which then replaces `path` in one step.

    The folder around it is made. size: bytes that will be written, where that is known. Where writing fails, `path`
    stays as it was. Raises FullDiskError where it fails for want of space.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with naming_full_disk(path.parent, _needed(size, path.name) if size else ""):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            yield partial
            put_in_place(partial, path)
        except BaseException:
            _remove(partial)
            raise


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished file or folder to `path`, which it replaces, once all of it is on the disk.

    Between a folder and the one that replaces it there is a moment with neither.
    """
    for written in (partial, *partial.rglob("*")):
        to_disk(written)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(partial, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where a crash of the machine leaves them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_checksums(folder: Path, others: dict[str, str] | None = None) -> None:
    """Write the SHA-256 of every file in a folder, hidden ones excepted, to `SHA256SUMS` there.

    others: checksums of files elsewhere, by their path from the folder.
    """
    sums = {name: checksum(folder / name) for name in sorted(_files(folder))} | (others or {})
    text = "".join(f"{known}  {name}\n" for name, known in sums.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")


def read_checksums(folder: Path) -> dict[str, str]:
    """What `write_checksums` wrote: the checksum by the path of a file."""
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    return {name: known for known, _, name in (line.partition("  ") for line in lines)}


def damage(folder: Path) -> str:
    """Which file is not as `write_checksums` found it, as the beginning of a sentence; "" where all are."""
    try:
        sums = read_checksums(folder)
        if wrong := sorted({name for name in sums if "/" not in name} ^ _files(folder)):
            return f"{folder / CHECKSUMS} should name each file there, {wrong[0]!r} is on one side alone"
        wrong = [name for name, known in sums.items() if checksum(folder / name) != known]
    except (OSError, ValueError) as error:
        return f"{folder} cannot be checked ({error})"
    return f"{folder / wrong[0]} is not what its checksum says" if wrong else ""


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."} - {CHECKSUMS}


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` in one step, and make its folder."""
    with replacing(path, len(text)) as partial:
        partial.write_text(text, encoding="utf-8")


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write `table` without its index to `path`, CSV or Parquet by its ending, in one step, and make its folder."""
    write = {".csv": table.to_csv, ".parquet": table.to_parquet}[Path(path).suffix]
    with replacing(path) as partial:
        write(partial, index=False)


def _plain(value, digits: int, where: str):
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy and torch, arrays and scalars
    if isinstance(value, dict):
        return {str(key): _plain(entry, digits, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, digits, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, and results must be finite; look for what made it so")
        return float(f"{value:.{digits}g}")
    return value


def write_json(path: str | Path, mapping: dict, digits: int = 6) -> None:
    """Write `mapping` with sorted keys and floats rounded to `digits` significant digits.

    Takes numpy and torch values. Raises ValueError, and writes nothing, where a number is not finite.
    """
    path = Path(path)
    text = json.dumps(_plain(mapping, digits, path.name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(path, text)
