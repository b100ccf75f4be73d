"""MSR-VTT in the community's format: Xu et al., CVPR 2016; the 1k-A test list of JSFusion, Yu et al., ECCV 2018."""

from pathlib import Path

import pandas as pd

from glscl.data.corpora.reading import hold_out, ids, of_videos, read_csv, read_ids, read_records, with_text

CAPTIONS = "MSRVTT_data.json"
LISTS = {
    "9k": ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"],
    "7k": ["MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv"],
    "full": [],
    "mini": ["mini_train.txt", "mini_val.txt", "mini_test.txt"],
}


def files(folder: Path, partition: str = "9k") -> list[str]:
    """Annotation files of one partition."""
    if partition not in LISTS:
        raise ValueError(f"partition of msrvtt is one of {', '.join(LISTS)}, not {partition!r}: choose one")
    return [CAPTIONS, *LISTS[partition]]


def read(folder: Path, partition: str = "9k") -> pd.DataFrame:
    """Read one partition.

    9k and 7k: the test rows have a sentence each; 500 training videos are held out for validation, with their first
    caption each. full: the original split, in which every caption is a query. mini: three lists of ids of one's own;
    validation and test have the first caption of each video.
    """
    path = folder / CAPTIONS
    captions = read_records(path, ["video_id", "caption"], "sentences").rename(columns={"video_id": "video"})
    lists = [folder / name for name in LISTS[partition]]
    if partition == "full":
        return _full(captions, path)
    tested = None
    if partition == "mini":
        train, val, test = (read_ids(name) for name in lists)
    else:
        listed = ids(read_csv(lists[0], ["video_id"])["video_id"], lists[0])
        val, test = hold_out(listed, lists[0]), []
        train = [video for video in listed if video not in val]
        tested = read_csv(lists[1], ["video_id", "sentence"]).rename(columns={"video_id": "video"})
        tested = with_text(tested, "sentence", lists[1]).assign(split="test")
    parts = [
        of_videos(train, captions, path).assign(split="train"),
        of_videos(val, captions, path).drop_duplicates("video").assign(split="val"),
        of_videos(test, captions, path).drop_duplicates("video").assign(split="test"),
    ]
    table = with_text(pd.concat(parts), "caption", path)
    return table if tested is None else pd.concat([table, tested])


def _full(captions: pd.DataFrame, path: Path) -> pd.DataFrame:
    videos = read_records(path, ["video_id", "split"], "videos")
    names = {"train": "train", "validate": "val", "test": "test"}
    if len(wrong := videos[~videos["split"].isin(names)]):
        raise ValueError(
            f"split in {path} is one of {', '.join(names)}, not {wrong['split'].iloc[0]!r} as of video "
            f"{wrong['video_id'].iloc[0]!r}: get the file again"
        )
    split = dict(zip(ids(videos["video_id"], path), videos["split"].map(names), strict=True))
    captions = with_text(of_videos(split, captions, path), "caption", path)
    parts = [captions[captions["video"].map(split) == name].assign(split=name) for name in names.values()]
    return pd.concat(parts)
