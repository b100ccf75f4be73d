"""The frame store: the frames of a whole corpus, decoded once, compressed, and read through a memory map.

One store holds all splits of a corpus. A split is a list of videos, two splits may share theirs (`test` and
`test_multi`), and a reader of one split touches no page of the others, so stores per split would gain nothing.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pandas as pd
import PIL
from tqdm import tqdm

from glscl.child_process import end_with_parent
from glscl.code_hash import hash_of
from glscl.data.decoding import (
    Sampling,
    VideoError,
    compress,
    decode_frames,
    decode_video,
    decompress,
    of_frames,
    unfit,
)
from glscl.files import naming_full_disk, put_in_place
from glscl.locks import alone

__all__ = ["FrameStore", "Sampling", "VideoError", "decode_frames", "write_store"]

FILES = ("frames.bin", "places.npy", "videos.parquet", "store.json")
JOURNAL = "journal.jsonl"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def write_store(
    folder: str | Path,
    videos: pd.DataFrame,
    sampling: Sampling,
    size: int,
    quality: int = 90,
    max_missing: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> dict:
    """Decode every video once and store the frames at all sample positions in `folder`.

    frames.bin: the JPEGs of all frames, one after the other, in the order of the table.
    places.npy: int64 (videos, frames, offsets, 2), first byte and length of the JPEG on display at each position.
        Positions may share a JPEG; the length is 0 in segments that a short video lacks.
    videos.parquet: video, seconds (duration), damaged (share of its frames that the decoder flags as corrupt), frames
        (number of JPEGs), bytes (their size), sha256 (of the JPEGs and their positions).
    store.json: sampling, size and quality, and sha256 of these and of the table of videos.

    The work goes on in `.<folder>.partial`, beside the store: a kill leaves the old store or none, and DVC, which
    deletes a stage's outputs before it runs the stage again, deletes nothing there. After a kill, a full disk or a
    broken video the next call decodes only the videos that are not there yet or whose file has changed since. With
    another sampling, size, quality, decoder or code it begins anew. Memory does not grow with the number of videos,
    but for the table of positions.

    Args:
        folder: where the store goes; a store already there is replaced.
        videos: one row per video, in the order of the store: `video`, `path`, `start`, `end` (seconds or NaN).
        sampling: the sample positions.
        size: side of a frame, pixels.
        quality: of the JPEGs, 1 to 95.
        max_missing: unreadable videos that are left out and reported; one more is an error.
        workers: decoding processes; None = one per core; 1 = this process.
        progress: show a bar on stderr.

    Returns:
        {"videos": number stored, "frames": number of JPEGs, "bytes": size of the files, "decoded": videos decoded by
        this call, "seconds": its duration, "missing": [[video, reason], ...], "damaged": [[video, share of frames that
        the decoder flags as corrupt], ...] of the stored ones, also as a warning}

    Raises:
        VideoError: more than `max_missing` videos are unreadable, or a decoding process died.
        FullDiskError: the disk is too small; the message says what the other videos will take.
        BusyError: another process writes this store.
        ValueError: the table is empty or names a video twice, `folder` is something else than a store, or a number is
            out of its range.
    """
    began, folder = time.monotonic(), Path(folder).absolute()
    if max_missing < 0 or not 1 <= quality <= 95 or size < 1:
        given = f"{max_missing}, {quality} and {size}"
        raise ValueError(f"needs max_missing >= 0, quality from 1 to 95 and size >= 1, got {given}: correct it")
    if videos.empty or videos["video"].duplicated().any():
        raise ValueError(f"the store {folder} needs a table with each video once, given {len(videos)} rows: correct it")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {*FILES, JOURNAL}):
        raise ValueError(f"{folder} holds other things than a frame store: choose another folder or empty it")
    lock, partial, old = (folder.with_name(f".{folder.name}.{what}") for what in ("lock", "partial", "old"))
    settings = asdict(sampling) | {"size": size, "quality": quality}
    with alone(lock, f"writes the frame store {folder}"), naming_full_disk(folder.parent):
        with closing(_Unfinished(partial, settings)) as store:
            rows = videos[["video", "path", "start", "end"]].itertuples(index=False)
            jobs = [_Job(*row, _source(*row[1:]), sampling, size, quality) for row in rows]
            missing = [[job.video, unfit(job.path)] for job in jobs if job.source is None]
            _check_missing(missing, len(jobs), max_missing, partial)
            todo = [job for job in jobs if job.source is None or job.source != store.sources.get(job.video)]
            missing = _decode_all(store, todo, len(jobs), workers or CORES, progress)
            _check_missing(missing, len(jobs), max_missing, partial)
            lost = {video for video, _ in missing}
            table = store.finish([job.video for job in jobs if job.video not in lost])
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            put_in_place(partial, folder)
            (folder / JOURNAL).unlink()
        shutil.rmtree(old, ignore_errors=True)
    damaged = table.loc[table["damaged"] > 0, ["video", "damaged"]].values.tolist()
    if damaged:
        video, share = max(damaged, key=lambda row: row[1])
        told = f"{len(damaged)} of {len(table)} videos are damaged and used, most of all {video!r}: {of_frames(share)}"
        warnings.warn(f"{told}; get them again", stacklevel=2)
    return {
        "videos": len(table),
        "frames": int(table["frames"].sum()),
        "bytes": sum((folder / name).stat().st_size for name in FILES),
        "decoded": len(todo) - len(missing),
        "seconds": round(time.monotonic() - began, 3),
        "missing": missing,
        "damaged": damaged,
    }


def _check_missing(missing: list, total: int, max_missing: int, partial: Path) -> None:
    if len(missing) > max_missing:
        listed = partial / "missing.csv"
        pd.DataFrame(missing, columns=["video", "reason"]).to_csv(listed, index=False)
        raise VideoError(
            f"{len(missing)} of {total} videos cannot be used and max_missing allows {max_missing}: restore them or "
            f"raise max_missing; {listed} lists them, the first is {missing[0][0]!r}: {missing[0][1]}"
        )
    if len(missing) == total:
        raise VideoError(f"none of the {total} videos is readable, first {missing[0][1]}")


class _Job(NamedTuple):
    """What the frames of one video depend on."""

    video: str
    path: str
    start: float
    end: float
    source: str | None  # None where there is no file
    sampling: Sampling
    size: int
    quality: int


def _source(path: str, start: float, end: float) -> str | None:
    if unfit(path):
        return None
    found = Path(path).stat()
    return f"{path}, {found.st_size} bytes, {found.st_mtime_ns} ns, from {start} to {end}"


class _Unfinished:
    """A store in the making: the JPEGs so far and a journal, whose first line says what they depend on beside videos.

    A video is complete when its line is.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.settings = folder, settings
        self.sources: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.jpegs, self.journal = ((folder / name).open("a+b") for name in (FILES[0], JOURNAL))
        self._resume()

    def close(self) -> None:
        with self.journal, self.jpegs:  # both are closed, even where a full disk takes no rest
            pass

    def _resume(self) -> None:
        """Find what is complete, and cut off what a kill left half written or a crash of the machine left damaged."""
        for leftover in {*self.folder.iterdir()} - {self.folder / FILES[0], self.folder / JOURNAL}:
            leftover.unlink()
        header = _line(self.settings | {"code": hash_of(__name__), "av": av.__version__, "pillow": PIL.__version__})
        self.journal.seek(0)
        self.jpegs.seek(0)
        lines = jpegs = 0
        if self.journal.readline() == header:
            lines = len(header)
            for line, record in self._records():
                data = self.jpegs.read(record["bytes"])
                if record["sha256"] != _digest(data, record["places"]):
                    break
                self.sources[record["video"]] = record["source"]
                lines, jpegs = lines + len(line), jpegs + len(data)
        self.journal.truncate(lines)
        self.jpegs.truncate(jpegs)
        self.journal.seek(0, os.SEEK_END)
        self.jpegs.seek(0, os.SEEK_END)
        if not lines:
            self.journal.write(header)

    def _records(self) -> Iterator[tuple[bytes, dict]]:
        for line in self.journal:
            try:
                record = json.loads(line)
                record.pop("line")
            except (ValueError, KeyError, TypeError, AttributeError):
                return
            if _line(record) != line:
                return
            yield line, record | {"places": np.array(record["places"], np.int64)}

    def add(self, source: str, record: dict, data: bytes) -> None:
        """Append a video: first its JPEGs, then its line. Plain writes, since a full disk kills who writes to a map."""
        self.jpegs.write(data)
        self.jpegs.flush()
        self.journal.write(_line(record | {"source": source}))
        self.journal.flush()
        self.sources[record["video"]] = source

    def needed(self, videos: int) -> str:
        """What so many more videos will take, if they are like those that are here."""
        taken = self.jpegs.tell() / max(len(self.sources), 1)
        return f"some {videos * taken / 1e6:,.1f} MB are needed for the other {videos:,} videos" if taken else ""

    def finish(self, videos: list[str]) -> pd.DataFrame:
        """Write the tables of these videos, whose JPEGs are all here, in this order; return the one of the videos."""
        row_of = {video: row for row, video in enumerate(videos)}
        positions = np.zeros((len(videos), self.settings["frames"], self.settings["offsets"], 2), np.int64)
        first, rows, end = np.zeros(len(videos), np.int64), [{}] * len(videos), 0
        self.journal.seek(0)
        self.journal.readline()
        for _, record in self._records():
            video = record["video"]
            if video in row_of and record.pop("source") == self.sources[video]:
                row = row_of[video]
                positions[row], first[row], rows[row] = record.pop("places"), end, record
            end += record["bytes"]
        table = pd.DataFrame(rows)[["video", "seconds", "damaged", "frames", "bytes", "sha256"]]
        ordered = np.cumsum(table["bytes"].to_numpy()) - table["bytes"].to_numpy()
        if end != table["bytes"].sum() or (first != ordered).any():
            self._reorder(first, table["bytes"])
        positions[..., 0] += np.where(positions[..., 1] > 0, ordered[:, None, None], 0)
        np.save(self.folder / FILES[1], positions)
        table.to_parquet(self.folder / FILES[2])
        seal = _seal(self.settings, self.folder / FILES[2])
        (self.folder / FILES[3]).write_text(json.dumps(self.settings | {"sha256": seal}, indent=2) + "\n")
        return table

    def _reorder(self, first: np.ndarray, sizes: pd.Series) -> None:
        """Bring the JPEGs into the order of the table, where a repaired video came late or another one left."""
        ordered = self.folder / "ordered.bin"
        with ordered.open("wb") as file:
            for begin, size in zip(first, sizes, strict=True):
                self.jpegs.seek(begin)
                file.write(self.jpegs.read(size))
        os.replace(ordered, self.folder / FILES[0])


def _line(record: dict) -> bytes:
    """A line of the journal, with a checksum of the rest of it."""
    seal = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return json.dumps(record | {"line": seal}, sort_keys=True).encode() + b"\n"


def _seal(settings: dict, table: Path) -> str:
    """The sha256 of what a store says of itself: its settings and the table of its videos."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + table.read_bytes()).hexdigest()


def _digest(jpegs: bytes | memoryview, positions: np.ndarray) -> str:
    """The sha256 of a video: its JPEGs, and their positions counted from its first byte."""
    digest = hashlib.sha256(jpegs)
    digest.update(positions.tobytes())
    return digest.hexdigest()


def _decode_all(store: _Unfinished, todo: list[_Job], total: int, workers: int, progress: bool) -> list:
    """Add every video that decodes to the store; return the others with the reason."""
    missing = []
    pace = 0.1 if sys.stderr.isatty() else 30  # a log gets a line twice a minute
    bar = {"unit": "file", "desc": "decode", "file": sys.stderr, "mininterval": pace, "disable": not progress}
    with tqdm(total=total, initial=total - len(todo), **bar) as shown, closing(_results(todo, workers)) as results:
        for left, (job, (record, data)) in zip(range(len(todo), 0, -1), zip(todo, results, strict=True), strict=True):
            if record is None:
                missing.append([job.video, data])
            else:
                with naming_full_disk(store.folder.parent, store.needed(left)):
                    store.add(job.source, record, data)
            shown.update()
    return missing


def _results(jobs: list[_Job], workers: int) -> Iterator:
    """Yield what `_compressed` gives for every job in order, with a bounded number of them under way or waiting."""
    if workers == 1 or len(jobs) <= 1:
        yield from map(_compressed, jobs)
        return
    # Spawned processes inherit no locks or threads of a notebook's kernel.
    context = multiprocessing.get_context("spawn")
    waiting, ahead = deque(), 16 * workers
    with ProcessPoolExecutor(min(workers, len(jobs)), context, end_with_parent) as pool:
        try:
            for number, job in enumerate(jobs):
                waiting.extend(pool.submit(_compressed, job) for job in jobs[number + len(waiting) : number + ahead])
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise VideoError(
                f"a decoding process died at video {job.video!r} or one soon after it, most likely out of memory: use "
                "fewer workers, or leave out the file"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compressed(job: _Job) -> tuple[dict, bytes] | tuple[None, str]:
    """The journal's record of a video and its JPEGs, or None and the reason."""
    try:
        images, shown, seconds, damaged = decode_video(job.path, job.sampling, job.size, job.start, job.end)
    except VideoError as error:
        return None, str(error)
    jpegs = [compress(image, job.quality) for image in images]
    sizes = np.array([len(jpeg) for jpeg in jpegs])
    positions = np.zeros((job.sampling.frames, job.sampling.offsets, 2), np.int64)
    positions[: len(shown)] = np.stack([np.cumsum(sizes) - sizes, sizes], axis=-1)[shown]
    data = b"".join(jpegs)
    record = {"video": job.video, "seconds": seconds, "damaged": damaged, "frames": len(jpegs), "bytes": len(data)}
    return record | {"places": positions.tolist(), "sha256": _digest(data, positions)}, data


_AGAIN = "run the prepare stage (again)"


class FrameStore:
    """A store written by `write_store`; any number of processes may read it, and a copy sent to one opens it there.

    Attributes:
        videos: ids, in the order of the rows.
        sampling: the sample positions that are stored. size: side of a frame, pixels. quality: of the JPEGs.
        mask: bool (videos, frames), True where the evaluation sample has a frame.
        hashes: sha256 of each video's JPEGs and positions, as recorded when it was written.

    Raises:
        FileNotFoundError: the folder is no store.
        ValueError: its files do not belong together or are cut short.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if absent := [name for name in FILES if not (self.folder / name).is_file()]:
            raise FileNotFoundError(f"{self.folder} is no complete frame store ({absent[0]} absent): {_AGAIN}")
        try:
            self._jpegs = np.memmap(self.folder / FILES[0], np.uint8, "r")
            self._places = np.load(self.folder / FILES[1], mmap_mode="r", allow_pickle=False)
            settings = json.loads((self.folder / FILES[3]).read_text())
            if settings.pop("sha256") != _seal(settings, self.folder / FILES[2]):
                raise ValueError(f"{FILES[2]} and {FILES[3]} do not fit together")
            table = pd.read_parquet(self.folder / FILES[2])
            self.size, self.quality = settings.pop("size"), settings.pop("quality")
            self.sampling = Sampling(**settings)
            self.videos, self.hashes = table["video"].tolist(), table["sha256"].tolist()
            self._first = np.cumsum([0, *table["bytes"]])
        except Exception as error:  # numpy alone has five classes of errors for a damaged head
            told = " ".join(str(error).split())
            raise ValueError(f"{self.folder} holds a damaged frame store ({told}): {_AGAIN}") from error
        wanted = (len(table), self.sampling.frames, self.sampling.offsets, 2), self._first[-1]
        if wanted != (self._places.shape, len(self._jpegs)):
            raise ValueError(
                f"{self.folder} holds a damaged frame store (places and bytes should be {wanted[0]} and {wanted[1]}, "
                f"and are {self._places.shape} and {len(self._jpegs)}): {_AGAIN}"
            )
        middle = self._places[:, :, self.sampling.offsets // 2]
        new = np.diff(middle[..., 0], axis=1, prepend=-1) > 0
        counts = (new & (middle[..., 1] > 0)).sum(1)
        self.mask = np.arange(self.sampling.frames) < counts[:, None]
        self.row = {video: row for row, video in enumerate(self.videos)}

    def __reduce__(self):
        return FrameStore, (self.folder,)

    def read(self, rows: list[int], draw: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read one sample of each of these videos.

        A frame that is on display in several segments comes once, so a short video fills fewer of the frames; the
        others are zero.

        Args:
            rows: positions in `videos`.
            draw: None for the evaluation sample, (seed, epoch) for training: see `Sampling.choose`.

        Returns:
            frames uint8 (rows, frames, size, size, 3), and mask bool (rows, frames), True where a frame is present.

        Raises:
            ValueError: a frame is damaged.
        """
        shape = (len(rows), self.sampling.frames)
        frames, mask = np.zeros((*shape, self.size, self.size, 3), np.uint8), np.zeros(shape, bool)
        samples = [self._sample(row, draw) for row in rows]

        def fill(number: int, position: int) -> None:
            first, length = samples[number][position]
            try:
                frames[number, position] = decompress(self._jpegs[first : first + length])
            except (OSError, ValueError) as error:
                raise self._damaged(rows[number]) from error
            mask[number, position] = True

        jobs = [(number, position) for number, sample in enumerate(samples) for position in range(len(sample))]
        threads = 1 if multiprocessing.parent_process() else min(CORES, 8)  # loader processes share the cores
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes outside the interpreter's lock
            deque(pool.map(fill, *zip(*jobs, strict=True)), maxlen=0)
        return frames, mask

    def frames(self, video: str) -> np.ndarray:
        """The evaluation sample of one video by its id, uint8 (frames_present, size, size, 3)."""
        frames, mask = self.read([self.row[video]])
        return frames[mask]

    def verify(self) -> None:
        """Compare the sha256 of every video with the recorded one; raise ValueError naming the first that differs."""
        for row, recorded in enumerate(self.hashes):
            positions = np.array(self._places[row])
            positions[..., 0] -= np.where(positions[..., 1] > 0, self._first[row], 0)
            if _digest(self._jpegs[self._first[row] : self._first[row + 1]], positions) != recorded:
                raise self._damaged(row)

    def _sample(self, row: int, draw: tuple[int, int] | None) -> np.ndarray:
        """First byte and length of each distinct frame of a sample, in order of display, (frames_present, 2)."""
        chosen = self._places[row, np.arange(self.sampling.frames), self.sampling.choose(self.videos[row], draw)]
        return np.unique(chosen[chosen[:, 1] > 0], axis=0)

    def _damaged(self, row: int) -> ValueError:
        return ValueError(f"the frames of video {self.videos[row]!r} in {self.folder} are damaged: {_AGAIN}")
