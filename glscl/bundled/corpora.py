"""The bundled corpora: `scenes` (three events, one sentence) and `stories` (six events, a paragraph, another look)."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from glscl.child_process import end_with_parent

from . import drawing
from .grammar import FACTORS, Event, caption, draw_event, paragraph
from .twins import twin_rows

SEED = 2405
MULTI_CAPTIONS = 5  # per video of the split test_multi


@dataclass(frozen=True)
class Corpus:
    """One corpus: videos per split (`multi`: test videos with more captions), events per video, text, H.264 quality."""

    name: str
    train: int
    val: int
    test: int
    multi: int
    events: int
    text: Callable
    train_captions: int
    crf: int


SCENES = Corpus("scenes", train=1200, val=500, test=1000, multi=200, events=3, text=caption, train_captions=8, crf=33)
STORIES = Corpus("stories", train=2400, val=300, test=500, multi=0, events=6, text=paragraph, train_captions=1, crf=36)


def video_ids(corpus: Corpus) -> dict[str, list[str]]:
    """Identifiers of each split's videos, numbered through train, val and test."""
    counts = {"train": corpus.train, "val": corpus.val, "test": corpus.test}
    ids = iter(f"{corpus.name}{number:04d}" for number in range(sum(counts.values())))
    return {split: [next(ids) for _ in range(count)] for split, count in counts.items()}


def video_events(corpus: Corpus, video: str) -> tuple[list[Event], list[int]]:
    """The events of one video and their lengths in frames, the same at every call."""
    rng = _generator(corpus, video, 0)
    events = [draw_event(rng) for _ in range(corpus.events)]
    return events, rng.integers(8, 11, corpus.events).tolist()


def video_captions(corpus: Corpus, video: str, count: int) -> list[tuple[str, str]]:
    """`count` different captions of one video, each with what it tells (`grammar.write_told`)."""
    rng, found = _generator(corpus, video, 1), {}
    events, _ = video_events(corpus, video)
    while len(found) < count:
        found.update([corpus.text(events, rng)])
    return list(found.items())


def write_video(corpus: Corpus, video: str, folder: Path) -> None:
    """Draw one video and write it to folder/<video>.mp4."""
    events, lengths = video_events(corpus, video)
    frames = drawing.clip(events, lengths, corpus.name, _generator(corpus, video, 2))
    drawing.write_mp4(folder / f"{video}.mp4", frames, corpus.crf)


def captions_table(corpus: Corpus) -> pd.DataFrame:
    """Columns split, video, caption and told, one row per caption.

    Where a caption is one sentence, in `scenes`, there are the split test_multi and the false twins of the test split,
    whose column `of` is the row of the true caption, see `glscl.bundled.twins`.
    """
    ids = video_ids(corpus)
    counts = [(split, video, corpus.train_captions if split == "train" else 1) for split in ids for video in ids[split]]
    counts += [("test_multi", video, MULTI_CAPTIONS) for video in ids["test"][: corpus.multi]]
    rows = [(split, video, *told) for split, video, count in counts for told in video_captions(corpus, video, count)]
    table = pd.DataFrame(rows, columns=["split", "video", "caption", "told"])
    if corpus.text is not caption:
        return table
    return twin_rows(
        table,
        lambda video: video_events(corpus, video)[0],
        lambda video, purpose: _generator(corpus, video, purpose),
    )


def events_table(corpus: Corpus) -> pd.DataFrame:
    """Columns video, event (from 0), start and end (seconds) and the factors, one row per event."""
    rows = []
    for video in chain.from_iterable(video_ids(corpus).values()):
        events, lengths = video_events(corpus, video)
        ends = np.cumsum([0, *lengths]) / drawing.FPS
        for number, event in enumerate(events):
            factors = [getattr(event, factor) for factor in (*FACTORS, "distractor")]
            rows.append((video, number, ends[number], ends[number + 1], *factors))
    return pd.DataFrame(rows, columns=["video", "event", "start", "end", *FACTORS, "distractor"])


def build(corpus: Corpus, data: Path, workers: int) -> None:
    """Write data/<name> with videos/, captions.csv and events.csv; the bytes do not depend on the number of workers."""
    partial = data / f"{corpus.name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "videos").mkdir(parents=True)
    captions_table(corpus).to_csv(partial / "captions.csv", index=False)
    events_table(corpus).to_csv(partial / "events.csv", index=False)
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        videos = chain.from_iterable(video_ids(corpus).values())
        tasks = [pool.submit(write_video, corpus, video, partial / "videos") for video in videos]
        for task in tasks:
            task.result()
    shutil.rmtree(data / corpus.name, ignore_errors=True)
    os.replace(partial, data / corpus.name)


def _generator(corpus: Corpus, video: str, purpose: int) -> np.random.Generator:
    return np.random.default_rng(
        [SEED, drawing.LOOKS.index(corpus.name), purpose, int(video.removeprefix(corpus.name))]
    )
