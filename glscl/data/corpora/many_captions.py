"""MSVD and VATEX: lists of ids and many captions for every video, each of which is a query.

MSVD: Chen and Dolan, ACL 2011, split of Venugopalan et al., ICCV 2015. VATEX: Wang et al., ICCV 2019, split of HGR,
Chen et al., CVPR 2020, with the English captions.
"""

from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import (
    ids,
    numbered,
    of_videos,
    read_caption_lists,
    read_ids,
    read_lines,
    read_records,
    with_text,
)

LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
MSVD_CAPTIONS = "captions_msvd.json"
MSVD_NUMBERS = "youtube_mapping.txt"
VATEX_CAPTIONS = "ref_captions.json"
VATEX_OFFICIAL = ["vatex_training_v1.0.json", "vatex_validation_v1.0.json"]


def msvd_files(folder: Path) -> list[str]:
    """Annotation files of MSVD; the list of numbers belongs to them where it is."""
    numbers = [MSVD_NUMBERS] if (folder / MSVD_NUMBERS).is_file() else []
    return [MSVD_CAPTIONS, *LISTS.values(), *numbers]


def read_msvd(folder: Path) -> pd.DataFrame:
    """Read MSVD. Its files may bear ids or, where youtube_mapping.txt lists them, numbers (vid1.avi)."""
    path = folder / MSVD_CAPTIONS
    table = _split(with_text(read_caption_lists(path), "caption", path), path, folder)
    if not (folder / MSVD_NUMBERS).is_file():
        return table
    pairs = [line.split() for line in read_lines(folder / MSVD_NUMBERS)]
    if wrong := [number for number, pair in enumerate(pairs, start=1) if len(pair) != 2]:
        raise ValueError(f"row {wrong[0]} of {folder / MSVD_NUMBERS} needs an id and a number such as vid1: correct it")
    return table.assign(other_name=table["video"].map(dict(pairs)))


def vatex_files(folder: Path) -> list[str]:
    """Annotation files of VATEX: the captions as HGR gives them or, where that file is absent, the official ones."""
    captions = [VATEX_CAPTIONS] if (folder / VATEX_CAPTIONS).is_file() else VATEX_OFFICIAL
    return [*captions, *LISTS.values()]


def read_vatex(folder: Path) -> pd.DataFrame:
    """Read VATEX's English captions."""
    path = folder / VATEX_CAPTIONS
    if path.is_file():
        return _split(with_text(read_caption_lists(path), "caption", path), path, folder)
    train, validation = (_official(folder / name) for name in VATEX_OFFICIAL)
    if shared := set(train["video"]) & set(validation["video"]):
        raise ValueError(f"{folder} has captions of {min(shared)!r} in both files of VATEX: get them again")
    return _split(pd.concat([train, validation]), folder, folder)


def _official(path: Path) -> pd.DataFrame:
    clips = read_records(path, ["videoID", "enCap"]).rename(columns={"videoID": "video", "enCap": "caption"})
    ids(clips["video"], path)
    return with_text(numbered(clips.explode("caption"), path), "caption", path)


def _split(captions: pd.DataFrame, path: Path, folder: Path) -> pd.DataFrame:
    parts = [of_videos(read_ids(folder / name), captions, path).assign(split=split) for split, name in LISTS.items()]
    return pd.concat(parts)
