"""Frames of video files, and the store that keeps the frames of a whole corpus in one memory-mapped file."""

import errno
import hashlib
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from glscl.decoding import VideoError, decode_frames, sample_times, unfit

__all__ = ["FrameStore", "VideoError", "decode_frames", "sample_times", "write_store"]

FILES = ("frames.npy", "videos.parquet")


def write_store(
    folder: str | Path,
    videos: pd.DataFrame,
    frames: int,
    size: int,
    max_missing: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> dict:
    """Decode every video once into `folder`: frames.npy, uint8 (videos, frames, size, size, 3), and videos.parquet.

    Absent frames are zero. videos.parquet has the columns video, frames (number present) and sha256 (of that video's
    part of frames.npy). The store is written beside its place and renamed when complete: a kill leaves the previous
    store or none. Memory does not grow with the number of videos.

    Args:
        folder: where the store goes; a store already there is replaced.
        videos: one row per video, in the order of the store: `video`, `path`, `start`, `end` (seconds or NaN).
        frames: frames per video.
        size: side of a frame, pixels.
        max_missing: unreadable videos that are left out and reported; one more is an error.
        workers: decoding processes; None = one per core; 1 = this process.
        progress: show a bar on stderr.

    Returns:
        {"videos": number stored, "missing": [[video, reason], ...], "bytes": size of the files, "seconds": duration}

    Raises:
        VideoError: more than `max_missing` videos are unreadable, or a decoding process died.
        OSError: the disk is too small.
        ValueError: the table is empty or names a video twice, or `folder` is something else than a store.
    """
    began, folder = time.monotonic(), Path(folder).absolute()
    if max_missing < 0 or frames < 1:
        raise ValueError(
            f"max_missing must be at least 0 and frames at least 1, got {max_missing} and {frames}: correct it"
        )
    if videos.empty or videos["video"].duplicated().any():
        raise ValueError(f"the store {folder} needs a table with each video once, given {len(videos)} rows: correct it")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - set(FILES)):
        raise ValueError(f"{folder} holds other things than a frame store: choose another folder or empty it")
    jobs = [(*row, frames, size) for row in videos[["video", "path", "start", "end"]].itertuples(index=False)]
    lost = [[video, reason] for video, path, *_ in jobs if (reason := unfit(path))]
    _check_missing(lost, len(jobs), max_missing)

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shape = (frames, size, size, 3)
    need = len(jobs) * int(np.prod(shape))
    full = f"the disk of {folder} is too small: the store needs {need:,} bytes there, free some or use another disk"
    if shutil.disk_usage(folder.parent).free < need:
        raise OSError(full)
    partial.mkdir()
    try:
        rows, missing = _write_frames(partial / "frames.npy", jobs, shape, workers or os.cpu_count(), progress)
        _check_missing(missing, len(jobs), max_missing)
        if not rows:
            raise VideoError(f"none of the {len(jobs)} videos is readable, first {missing[0][1]}")
        pd.DataFrame(rows, columns=["video", "frames", "sha256"]).to_parquet(partial / "videos.parquet")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(full) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    size_on_disk, seconds = sum((folder / name).stat().st_size for name in FILES), time.monotonic() - began
    return {"videos": len(rows), "missing": missing, "bytes": size_on_disk, "seconds": round(seconds, 3)}


def _check_missing(missing: list, total: int, max_missing: int) -> None:
    if len(missing) > max_missing:
        raise VideoError(
            f"{len(missing)} of {total} videos cannot be used and max_missing allows {max_missing}: restore them or "
            f"raise max_missing; the first is {missing[0][0]!r}: {missing[0][1]}"
        )


def _write_frames(path: Path, jobs: list, shape: tuple, workers: int, progress: bool) -> tuple[list, list]:
    """Append the videos that decode; on a full disk a plain write is an error where a memory map is a dead process."""
    rows, missing, header = [], [], {"descr": "|u1", "fortran_order": False}
    pace = 0.1 if sys.stderr.isatty() else 30  # a log gets a line twice a minute
    bar = tqdm(total=len(jobs), unit="file", desc="decode", file=sys.stderr, mininterval=pace, disable=not progress)
    with bar, closing(_results(jobs, workers)) as results, path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(jobs), *shape)})
        for (video, *_), (pixels, reason) in zip(jobs, results, strict=True):
            if reason:
                missing.append([video, reason])
            else:
                row = np.zeros(shape, np.uint8)
                row[: len(pixels)] = pixels
                file.write(row.data)
                rows.append((video, len(pixels), hashlib.sha256(row.data).hexdigest()))
            bar.update()
        file.seek(0)  # the header has room for any number of videos, so its length stays
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(rows), *shape)})
    return rows, missing


def _results(jobs: list, workers: int):
    """Yield (pixels, reason) of every job in order, with a bounded number of them under way or waiting."""
    if workers == 1:
        yield from map(_decode_job, jobs)
        return
    # Spawned processes inherit no locks or threads of a notebook's kernel.
    context = multiprocessing.get_context("spawn")
    waiting = deque()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _end_with_parent) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(_decode_job, job))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise VideoError(
                "a decoding process died, most likely out of memory: use fewer workers, or workers=1 to see the file"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode_job(job: tuple) -> tuple[np.ndarray | None, str | None]:
    _, path, start, end, frames, size = job
    try:
        return decode_frames(path, frames, size, start, end), None
    except VideoError as error:
        return None, str(error)


def _end_with_parent() -> None:
    """Let a decoding process end when its parent is killed; it would wait for work for ever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


_AGAIN = "run the prepare stage (again)"


class FrameStore:
    """A store written by `write_store`.

    Attributes:
        videos: ids, in the order of the rows.
        frames: uint8 (videos, frames, size, size, 3), read-only memory map; absent frames are zero.
        counts: int (videos,), number of frames present.
        mask: bool (videos, frames), True where a frame is present.
        hashes: sha256 of each video's row of frames, as recorded when it was written.

    Raises:
        FileNotFoundError: the folder is no store.
        ValueError: its two files do not belong together or are cut short.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if absent := [name for name in FILES if not (self.folder / name).is_file()]:
            raise FileNotFoundError(f"{self.folder} is no complete frame store ({absent[0]} absent): {_AGAIN}")
        try:
            self.frames = np.load(self.folder / FILES[0], mmap_mode="r", allow_pickle=False)
            table = pd.read_parquet(self.folder / FILES[1])
            self.videos, self.counts = table["video"].tolist(), table["frames"].to_numpy()
            self.hashes = table["sha256"].tolist()
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{self.folder} holds a damaged frame store ({error}): {_AGAIN}") from error
        if len(self.frames) != len(self.videos):
            raise ValueError(
                f"{self.folder} has frames of {len(self.frames)} videos and lists {len(self.videos)}: {_AGAIN}"
            )
        self.mask = np.arange(self.frames.shape[1]) < self.counts[:, None]

    def verify(self) -> None:
        """Compare the sha256 of every video with the recorded one; raise ValueError naming the first that differs."""
        for video, row, recorded in zip(self.videos, self.frames, self.hashes, strict=True):
            if hashlib.sha256(np.ascontiguousarray(row)).hexdigest() != recorded:
                raise ValueError(f"the frames of video {video!r} in {self.folder} are damaged: {_AGAIN}")
