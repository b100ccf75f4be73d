"""What is known of a corpus before anything heavy runs: which videos open, how long they are, which captions repeat."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import nan
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from glscl.data.corpora import annotation_hashes, read_corpus
from glscl.data.decoding import VideoError, read_header
from glscl.data.video_files import Inventory, inventory, relative_to

AT_ONCE = 16  # files that are opened at the same time; a slow disk answers many questions better than one
ROUNDING = 0.1  # seconds by which an annotation may end after its file and still count as rounded


def probe_videos(videos: pd.DataFrame) -> pd.DataFrame:
    """Open every video of a corpus and read its header; nothing is decoded, so a damaged file may still pass.

    videos: one row per video, with the columns video, path, start, end (seconds, NaN = the whole file).
    Returns these rows with `seconds`, `width` and `height` as the file claims them (NaN where it does not), `state`
    (found, missing, unreadable) and `reason` (a sentence where it is not found). A file of several videos is opened
    once. A video whose annotation starts after the end of its file is unreadable.
    """
    paths = videos["path"].unique()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        headers = pd.DataFrame(tqdm(pool.map(_probe, paths), total=len(paths), desc="headers", unit="file"))
    checked = videos.reset_index(drop=True).merge(headers, on="path", how="left", validate="many_to_one")
    begins_late = (checked["state"] == "found") & (checked["start"] >= checked["seconds"])
    checked.loc[begins_late, "state"] = "unreadable"
    checked.loc[begins_late, "reason"] = [
        f"{row.path} ends at {row.seconds:.2f} s, before the start {row.start:.2f} s: correct the annotation"
        for row in checked[begins_late].itertuples()
    ]
    return checked


def _probe(path: str) -> dict:
    row = {"path": path, "seconds": nan, "width": nan, "height": nan, "state": "found", "reason": None}
    try:
        header = read_header(path)
    except VideoError as error:
        return row | {"state": "unreadable" if Path(path).exists() else "missing", "reason": str(error)}
    return row | {"seconds": header.seconds or nan, "width": header.width, "height": header.height}


def require_videos(checked: pd.DataFrame, captions: pd.DataFrame, max_missing: int, hint: str = "") -> None:
    """Raise VideoError where more videos than `max_missing` are missing or unreadable; test videos are named first.

    checked: as `probe_videos` gives it. hint: a sentence that explains why names do not match, if there is one.
    """
    lost = checked[checked["state"] != "found"]
    if len(lost) <= max_missing:
        return
    tested = lost["video"].isin(captions.loc[captions["split"].str.startswith("test"), "video"])
    named = pd.concat([lost[tested], lost[~tested]])
    others = ", ".join(map(repr, named["video"][1:5])) + (" and more" if len(named) > 5 else "")
    raise VideoError(
        f"{len(lost):,} of {len(checked):,} videos are missing or unreadable ({tested.sum():,} of the test split) and "
        f"max_missing allows {max_missing}: restore them or raise check.max_missing; the first is "
        f"{named['video'].iloc[0]!r}: {named['reason'].iloc[0]}"
        + (f"; then {others}" if others else "")
        + (f". {hint}" if hint else "")
    )


def count_by_split(captions: pd.DataFrame, checked: pd.DataFrame) -> pd.DataFrame:
    """One row per split: captions, and videos expected, found, missing and unreadable.

    `distinct` counts different texts, `shared` the captions whose very words some other video of the split has too:
    as queries they have more than one right answer, of which only one counts.
    """
    state = checked.set_index("video")["state"]
    rows = []
    for split, texts in captions.groupby("split", sort=False):
        states = state[texts["video"].unique()].value_counts()
        videos_of_text = texts.groupby("text")["video"].transform("nunique")
        row = {"split": split, "captions": len(texts), "distinct": texts["text"].nunique()}
        row |= {"shared": int((videos_of_text > 1).sum()), "videos": int(states.sum())}
        rows.append(row | {name: int(states.get(name, 0)) for name in ("found", "missing", "unreadable")})
    return pd.DataFrame(rows)


def summarise_durations(checked: pd.DataFrame) -> dict:
    """Of the files that were found: median, shortest and longest in seconds, and how many claim no duration.

    `late` counts the videos whose annotation ends after their file does, by more than rounding explains; their last
    part is decoded as far as it goes.
    """
    found = checked[checked["state"] == "found"]
    seconds = found.drop_duplicates("path")["seconds"]
    edges = {} if seconds.isna().all() else {name: getattr(seconds, name)() for name in ("median", "min", "max")}
    late = found["end"] > found["seconds"] + ROUNDING
    return edges | {"files": len(seconds), "unknown": int(seconds.isna().sum()), "late": int(late.sum())}


def hash_names_and_sizes(checked: pd.DataFrame) -> str:
    """SHA-256 of the names and sizes of the files that were found: what tells that a folder was changed."""
    paths = sorted(map(Path, checked.loc[checked["state"] == "found", "path"].unique()))
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in paths)
    return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True)
class CorpusCheck:
    """One corpus before anything heavy runs: its captions, the state of each video, its files.

    folder: of the corpus. captions: as `glscl.data.corpora.read_corpus` gives them. videos: as `probe_videos` gives
    them. annotations: SHA-256 of each annotation file that is read, by name. files: what lies in the folder.
    """

    folder: Path
    captions: pd.DataFrame
    videos: pd.DataFrame
    annotations: dict[str, str]
    files: Inventory

    @classmethod
    def of(cls, dataset: str, corpus: dict) -> "CorpusCheck":
        """Read the annotation files of a corpus and the header of each video; nothing is decoded.

        corpus: its `folder`, and the settings of its reader. Raises what `glscl.data.corpora.read_corpus` raises.
        """
        captions = read_corpus(dataset, **corpus)
        videos = probe_videos(captions.drop_duplicates("video"))
        files = inventory(captions, corpus["folder"])
        return cls(Path(corpus["folder"]), captions, videos, annotation_hashes(dataset, **corpus), files)

    @property
    def lost(self) -> list[list[str]]:
        """[video, reason] of each one that is missing or unreadable; paths are relative to the folder."""
        lost = self.videos[self.videos["state"] != "found"]
        return [[row.video, relative_to(self.folder, row.reason)] for row in lost.itertuples()]

    def splits(self) -> pd.DataFrame:
        """`count_by_split` of the corpus."""
        return count_by_split(self.captions, self.videos)

    def listing(self, most: int = 20) -> str:
        """The lost videos with their reasons, and the files that no caption names: `most` of each, one a line."""
        parts = {"lost videos": [reason for _, reason in self.lost], "files that no caption names": self.files.extra}
        return "\n".join(
            "\n".join([f"{what}: {len(lines):,}", *lines[:most], *(["and more"] if len(lines) > most else [])])
            for what, lines in parts.items()
        )

    def require(self, max_missing: int, methods: list[str]) -> None:
        """Stop a study that could not end well.

        Raises VideoError where more videos than `max_missing` are lost (`require_videos`), or all of them, and
        ValueError where there are `methods` to train but no videos to train and validate on.
        """
        require_videos(self.videos, self.captions, max_missing, self.files.hint)
        if len(self.lost) == len(self.videos):
            raise VideoError(
                f"a corpus needs videos, and none of {self.folder} opens, {self.lost[0][1]}; restore them."
            )
        splits = list(self.captions["split"].unique())
        if methods and not {"train", "val"} <= set(splits):
            raise ValueError(
                f"training needs the splits train and val, {self.folder} has {', '.join(splits)}; set "
                "own.methods of params.yaml to []."
            )

    def summary(self) -> dict:
        """The content of `check.json`."""
        return {
            "splits": self.splits().set_index("split").to_dict("index"),
            "missing": len(self.lost),
            "extra": len(self.files.extra),
            "missing_videos": self.lost,
            "durations": summarise_durations(self.videos),
            "annotations": self.annotations,
            "names_and_sizes": hash_names_and_sizes(self.videos),
        }

    def answer(self) -> str:
        """Whether everything is there, in one sentence."""
        total, lost, median = len(self.videos), len(self.lost), summarise_durations(self.videos).get("median")
        found = f"All {total:,}" if lost == 0 else f"{total - lost:,} of {total:,}"
        length = "" if median is None else f" (median {median:.1f} s)"
        return (
            f"{found} videos are there and open{length}; {self.splits()['shared'].sum():,} of "
            f"{len(self.captions):,} captions are shared by several videos."
        )
