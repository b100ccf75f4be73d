"""ActivityNet Captions and DiDeMo, whose videos have several captions with times: one paragraph per video.

ActivityNet Captions: Krishna et al., ICCV 2017, tested on val_1. DiDeMo: Hendricks et al., ICCV 2017. The paragraph
protocol is that of Zhang et al., ECCV 2018, and of Liu et al., BMVC 2019.
"""

from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import (
    ids,
    numbered,
    of_videos,
    paragraphs,
    read_ids,
    read_json,
    read_records,
    train_and_val,
    with_text,
)
from glscl.data.video_files import stem

ACTIVITYNET = {"train": "train.json", "test": "val_1.json"}
DIDEMO_SPLITS = ("train", "val", "test")
DIDEMO_SECONDS = 30  # what the annotators saw of each video


def activitynet_files(folder: Path) -> list[str]:
    """Annotation files of ActivityNet Captions."""
    return list(ACTIVITYNET.values())


def read_activitynet(folder: Path) -> pd.DataFrame:
    """Read ActivityNet Captions: sentences in file order; 500 training videos are held out."""
    train, test = (_activitynet_paragraphs(folder / name) for name in ACTIVITYNET.values())
    return pd.concat([train_and_val(train, folder / ACTIVITYNET["train"]), test.assign(split="test")])


def _activitynet_paragraphs(path: Path) -> pd.DataFrame:
    shape = "a JSON object with timestamps and sentences for every video"
    content = read_json(path, shape)
    try:
        rows = [
            (video, sentence)
            for video, entry in content.items()
            for _, sentence in zip(entry["timestamps"], entry["sentences"], strict=True)
        ]
        silent = [video for video, entry in content.items() if not entry["sentences"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} needs {shape}, as many of each ({error!r}): get the file again") from error
    if silent:
        raise ValueError(f"{path} has no sentence for {silent[0]!r}: get the file again")
    table = numbered(pd.DataFrame(rows, columns=["video", "sentence"]), path)
    return paragraphs(with_text(table, "sentence", path))


def didemo_files(folder: Path) -> list[str]:
    """Annotation files of DiDeMo."""
    return [name for split in DIDEMO_SPLITS for name in (f"{split}_data.json", f"{split}_list.txt")]


def read_didemo(folder: Path) -> pd.DataFrame:
    """Read DiDeMo: descriptions in file order; the first 30 seconds of each video.

    The official lists have a validation split of their own. A video's id is its name without the ending.
    """
    parts = []
    for split in DIDEMO_SPLITS:
        path, listed = folder / f"{split}_data.json", folder / f"{split}_list.txt"
        table = read_records(path, ["video", "description"])
        table = with_text(table, "description", path)
        table["video"] = table["video"].map(stem)
        videos = ids(map(stem, read_ids(listed)), listed)
        parts.append(paragraphs(of_videos(videos, table, path)).assign(split=split))
    return pd.concat(parts).assign(start=0.0, end=float(DIDEMO_SECONDS))
