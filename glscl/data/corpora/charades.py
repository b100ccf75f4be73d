"""Charades, Sigurdsson et al., ECCV 2016: whole videos with a paragraph, or the moments of Charades-STA as clips.

Charades-STA: Gao et al., ICCV 2017.
"""

import re
import warnings
from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import ids, numbered, read_csv, read_lines, train_and_val, with_text

FILES = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
STA_FILES = {"train": "charades_sta_train.txt", "test": "charades_sta_test.txt"}
MOMENT = re.compile(r"(\S+) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)##(.*)")


def files(folder: Path) -> list[str]:
    """Annotation files of Charades."""
    return list(FILES.values())


def read(folder: Path) -> pd.DataFrame:
    """Read Charades: all descriptions of a video, which have no times, as one text; 500 training videos are held out.

    The description is what annotators saw in the video, the script what its actor was told beforehand.
    """
    parts = {}
    for split, name in FILES.items():
        path = folder / name
        table = read_csv(path, ["id", "descriptions"]).rename(columns={"id": "video"})
        ids(table["video"], path)
        table["descriptions"] = [
            " ".join(part.strip() for part in text.split(";") if part.strip()) for text in table["descriptions"]
        ]
        parts[split] = with_text(table, "descriptions", path)
    return pd.concat([train_and_val(parts["train"], folder / FILES["train"]), parts["test"].assign(split="test")])


def sta_files(folder: Path) -> list[str]:
    """Annotation files of Charades-STA."""
    return list(STA_FILES.values())


def read_sta(folder: Path) -> pd.DataFrame:
    """Read Charades-STA: each moment is a clip <video>_<start>_<end>, with all sentences that describe it.

    500 training videos are held out with all their moments. Moments that end before they start are left out with a
    warning; the published training file has four.
    """
    train, test = (_moments(folder / name) for name in STA_FILES.values())
    train = train_and_val(train, folder / STA_FILES["train"], "file")
    return pd.concat([train, test.assign(split="test")])


def _moments(path: Path) -> pd.DataFrame:
    lines = read_lines(path)
    rows = [MOMENT.fullmatch(line) for line in lines]
    if None in rows:
        number = rows.index(None) + 1
        raise ValueError(f"row {number} of {path} needs the form `video start end##sentence`: get the file again")
    table = pd.DataFrame([row.groups() for row in rows], columns=["file", "start", "end", "sentence"], dtype=object)
    table["video"] = table["file"] + "_" + table["start"] + "_" + table["end"]
    table = with_text(numbered(table, path), "sentence", path).astype({"start": float, "end": float})
    if len(wrong := table[table["end"] <= table["start"]]):
        warnings.warn(
            f"{len(wrong)} of {len(table):,} moments of {path.name} end before they start and are left out, first "
            f"{wrong['video'].iloc[0]!r}",
            stacklevel=2,
        )
    return table[table["end"] > table["start"]]
