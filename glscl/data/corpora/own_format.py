"""Corpora with a captions.csv: the bundled ones (columns split, video, caption) and the user's own (video, caption)."""

from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import by_hash, read_csv, with_text
from glscl.data.video_files import nfc, stem

SMALLEST = 40  # captioned videos; fewer are too few to train on and are a test split alone


def files(folder: Path) -> list[str]:
    """Annotation files of a bundled corpus."""
    return ["captions.csv"]


def read(folder: Path) -> pd.DataFrame:
    """Read a bundled corpus; `of` is the row of the true caption of a twin."""
    path = folder / "captions.csv"
    table = with_text(read_csv(path, ["split", "video", "caption"], optional=("of",)), "caption", path)
    return table.assign(of=pd.to_numeric(table["of"]).astype("Int64")) if "of" in table else table


def own_files(folder: Path, seed: int = 0) -> list[str]:
    """Annotation files of the user's own corpus."""
    return ["captions.csv"]


def read_own(folder: Path, seed: int = 0) -> pd.DataFrame:
    """Read the user's own corpus: half of its videos train, a quarter each validate and test, drawn by `seed`.

    Fewer than 40 captioned videos are all `test`. A video may be named with or without its ending and the folder that
    it lies in, in several rows. Its id is that name without the ending, but where two files differ in nothing else.
    """
    path = folder / "captions.csv"
    table = with_text(read_csv(path, ["video", "caption"]), "caption", path)
    named = table["video"].map(lambda name: nfc(name.replace("\\", "/")).removeprefix("./"))
    bare = named.map(lambda name: stem(name).rstrip())
    ended = pd.DataFrame({"bare": bare, "named": named})[named != bare].drop_duplicates()
    twice = ended["bare"].duplicated(keep=False)
    table["video"] = named.where(bare.isin(ended.loc[twice, "bare"]), bare)
    table["file"] = table["video"].replace(dict(ended[~twice].itertuples(index=False)))
    videos = by_hash(table["video"].unique(), seed)
    if len(videos) < SMALLEST:
        return table.assign(split="test")
    half, quarter = len(videos) // 2, len(videos) // 4
    split = dict.fromkeys(videos, "test") | dict.fromkeys(videos[:half], "train")
    split |= dict.fromkeys(videos[half : half + quarter], "val")
    return table.assign(split=table["video"].map(split))
