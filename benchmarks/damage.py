"""Files that a crash or a disk damaged: what reads them gives the same numbers, or says in a sentence what is wrong."""

import copy
import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import CLIPConfig

from benchmarks.frames import draw_video
from benchmarks.made_up import TINY, random_model
from glscl.data.dataset import Split
from glscl.data.decoding import Sampling
from glscl.data.frame_store import FrameStore, VideoError, write_store
from glscl.study import verify
from glscl.training import trainer
from glscl.training.trainer import TrainSettings, train
from glscl.video_index import Entry, VideoIndex

DAMAGES = ("cut", "emptied", "a byte changed", "zeros", "longer", "gone")
SETTINGS = {"epochs": 4, "batch_size": 8, "lr_new": 1e-2, "lr_clip": 1e-7, "weight_decay": 0.2, "warmup": 0.1}
SETTINGS = TrainSettings(**SETTINGS, clip_grad=1.0, backbone="frozen", keep_epochs=True)


class Trial(NamedTuple):
    """One file that was damaged, and what came of it.

    outcome: `same`, the numbers of an undisturbed run; `told`, an error of one sentence; `wrong`, anything else. said:
    the lines that were printed, or the error.
    """

    what: str
    file: str
    damage: str
    outcome: str
    said: str


class Subject(NamedTuple):
    """What is damaged. folder: its files. read: what comes of a copy of them, which must be what came of the files."""

    folder: Path
    read: Callable[[Path], object]


def damaged(data: bytes, damage: str, rng: np.random.Generator) -> bytes:
    """The content of a file after one of `DAMAGES`, at a random place."""
    place = int(rng.integers(len(data))) if data else 0
    if damage in ("cut", "emptied"):
        return data[: place if damage == "cut" else 0]
    if damage == "zeros":
        return data[:place] + bytes(min(64, len(data) - place)) + data[place + 64 :]
    if damage == "a byte changed":
        return data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :] if data else b"\1"
    return data + rng.bytes(int(rng.integers(1, 200)))


def tried(what: str, trials: int, seed: int = 0) -> list[Trial]:
    """Damage a random file of a subject `trials` times, each time in a fresh copy, and read it.

    what: a key of `SUBJECTS`. seed: of the files and places.
    """
    rng, found = np.random.default_rng([seed, *what.encode()]), []
    with tempfile.TemporaryDirectory() as scratch:
        subject = SUBJECTS[what](Path(scratch, "made"))
        copied = Path(scratch, "copy")
        shutil.copytree(subject.folder, copied)
        expected = _read(subject, copied)[0]
        names = sorted(
            str(path.relative_to(subject.folder))
            for path in subject.folder.rglob("*")
            if path.is_file() and ".git" not in path.parts
        )
        for _ in range(trials):
            shutil.rmtree(copied)
            shutil.copytree(subject.folder, copied)
            name, damage = str(rng.choice(names)), str(rng.choice(DAMAGES))
            file = copied / name
            if damage == "gone":
                file.unlink()
            else:
                file.write_bytes(damaged(file.read_bytes(), damage, rng))
            value, outcome, said = _read(subject, copied)
            if outcome == "same" and value != expected:
                outcome = "wrong"
            found.append(Trial(what, name, damage, outcome, said.strip()))
    return found


def _read(subject: Subject, folder: Path) -> tuple[object, str, str]:
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            return subject.read(folder), "same", said.getvalue()
    except (ValueError, FileNotFoundError, VideoError) as error:
        ours = type(error) in (ValueError, FileNotFoundError, VideoError) and "\n" not in str(error).strip()
        return None, "told" if ours else "wrong", f"{type(error).__name__}: {error}"
    except Exception as error:
        return None, "wrong", f"{type(error).__name__}: {error}"


# --- training


def _features(texts: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    width, ones = TINY["projection_dim"], torch.ones(texts, 3, dtype=torch.long)
    drawn = {name: torch.randn(texts, 3, width, generator=generator) for name in ("sentences", "words", "frames")}
    captions = pd.DataFrame({"caption_id": range(texts), "video": [f"v{n}" for n in range(texts)], "text": "made up"})
    of_texts = {"sentence": drawn["sentences"][:, 0], "words": drawn["words"], "word_mask": ones}
    return Split(captions, of_texts, {"frames": drawn["frames"], "frame_mask": ones})


class _Stopped(Exception):
    pass


@contextmanager
def _stopped_before(epoch: int) -> Iterator[None]:
    """Context in which a training stops where this epoch, from 0, would begin."""
    original = trainer._epoch

    def until(run, batches, before, steps):
        if before == epoch * len(run.data) // run.settings.batch_size:
            raise _Stopped
        return original(run, batches, before, steps)

    trainer._epoch = until
    try:
        yield
    except _Stopped:
        pass
    finally:
        trainer._epoch = original


def _training(folder: Path, epochs: int) -> Subject:
    new = random_model("mean_pooling", CLIPConfig(**TINY), temporal_layers=1)
    data, validation = _features(16, 0), _features(8, 1)

    def read(folder: Path) -> dict[str, bytes]:
        train(copy.deepcopy(new), data, validation, SETTINGS, 0, folder, progress=False)
        kept = {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
        return kept | {"curve.csv": (folder / "curve.csv").read_bytes()}

    with redirect_stdout(io.StringIO()), _stopped_before(epochs):
        read(folder)
    return Subject(folder, read)


def checkpoints(folder: Path) -> Subject:
    """A training of four epochs that was stopped after three."""
    return _training(folder, 3)


def finished_training(folder: Path) -> Subject:
    """A training that is complete."""
    return _training(folder, SETTINGS.epochs)


# --- frame store


def _videos(folder: Path) -> pd.DataFrame:
    folder.mkdir(parents=True)
    draw_video(folder / "clip.mp4", 2, rate=4)
    paths = [str(folder / "clip.mp4")] * 3
    return pd.DataFrame({"video": ["a", "b", "c"], "path": paths, "start": [0, 0.5, 1.0], "end": [1.0, 1.5, 2.0]})


def _write_store(folder: Path, videos: pd.DataFrame) -> None:
    write_store(folder, videos, Sampling(2), 16, workers=1, progress=False)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def journal(folder: Path) -> Subject:
    """A frame store that lacks one of its three videos and goes on."""
    videos = _videos(folder.with_name("clips"))
    broken = videos.assign(path=[*videos["path"][:2], __file__])
    with suppress(VideoError):
        _write_store(folder / "store", broken)

    def read(folder: Path) -> dict[str, bytes]:
        _write_store(folder / "store", videos)
        return _content(folder / "store")

    return Subject(folder, read)


def frame_store(folder: Path) -> Subject:
    """A complete frame store."""
    _write_store(folder, _videos(folder.with_name("clips")))

    def read(folder: Path) -> list:
        store = FrameStore(folder)
        store.verify()
        return [store.videos, store.sampling, store.size, *(part.tolist() for part in store.read([0, 1, 2]))]

    return Subject(folder, read)


# --- index and results


def index(folder: Path) -> Subject:
    """An index of four videos in two shards."""
    made = VideoIndex.create(folder, {"model": "made up"})
    for first in (0, 2):
        entries = [Entry(f"/{number}.mp4", 10, 20, f"hash {number}", 1.5) for number in (first, first + 1)]
        made.add(entries, {"frames": torch.arange(32.0).reshape(2, 2, 8) + first})

    def read(folder: Path) -> list:
        opened = VideoIndex.open(folder)
        held = {
            path: shard.tensors["frames"][row].tolist()
            for shard in opened.shards()
            for row, paths in shard.paths.items()
            for path in paths
        }
        return [held, list(opened.entries()), opened.about()]

    return Subject(folder, read)


def results(folder: Path) -> Subject:
    """Results that a repository holds: what was damaged is told, as far as it changes a number or a text."""
    files = {"quick/made/metrics.json": json.dumps({"R@1": 12.5, "by": {"glscl": [1, 2.5]}}, indent=2) + "\n"}
    files["quick/made/table.csv"] = "method,R@1\nglscl,12.5\nx_clip,13.25\n"
    for name, text in files.items():
        (folder / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "results" / name).write_text(text)
    who = ("-c", "user.name=made up", "-c", "user.email=made@up")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "made up")):
        subprocess.run(["git", *command], cwd=folder, check=True)

    def read(folder: Path) -> list:
        said, _ = verify.report(folder, "quick")
        if "equal the committed ones." not in said.partition(";")[0] or not said.startswith("quick: all"):
            raise ValueError(" ".join(said.split()))
        held = [(folder / "results" / name).read_text(encoding="utf-8") for name in files]
        return [verify.values(text, name) for text, name in zip(held, files, strict=True)]

    return Subject(folder, read)


SUBJECTS = {one.__name__: one for one in (checkpoints, finished_training, journal, frame_store, index, results)}
