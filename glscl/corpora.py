"""Annotation files of the benchmarks, read into one table of texts and videos.

A corpus is a folder with its annotation files and `videos/<video>.mp4`. `docs/data.md` says how to get each one.
"""

import csv
import hashlib
import inspect
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["split", "video", "path", "start", "end", "caption_id", "text"]
SPLITS = ("train", "val", "test", "test_multi")
VALIDATION_VIDEOS = 500


def read_corpus(dataset: str, folder: str | Path, **settings) -> pd.DataFrame:
    """Read the annotations of `dataset` under `folder` into one row per caption, in file order.

    Columns: `split` (train, val, test; test_multi = the test videos with several captions), `video` (id), `path`
    (absolute, not necessarily there), `start` and `end` (seconds, NaN = the whole file), `caption_id` (row number),
    `text` (unchanged). `videos/` may itself be a link to another disk; a single file may not lead out of it.

    Args:
        dataset: scenes, stories, msrvtt.
        settings: msrvtt takes `partition`: 9k, 7k or mini. The others take none.

    Raises:
        FileNotFoundError: an annotation file is absent.
        ValueError: unknown dataset or setting, missing column, empty caption, an id that is no plain file name, an
            id without captions, or a video in two of train, val and test.
    """
    folder = Path(folder).resolve()
    files, read = _corpus(dataset, settings)
    for name in files(**settings):
        _require(folder / name, dataset)
    table = read(folder, **settings)
    _check_splits(table, dataset)
    paths = {video: _video_path(folder, video) for video in table["video"].unique()}
    table = table.assign(path=table["video"].map(paths), start=np.nan, end=np.nan, caption_id=np.arange(len(table)))
    return table[COLUMNS].reset_index(drop=True)


def annotation_hashes(dataset: str, folder: str | Path, **settings) -> dict[str, str]:
    """Return the sha256 of every annotation file that `read_corpus` reads with the same arguments, by file name."""
    files, _ = _corpus(dataset, settings)
    paths = [_require(Path(folder) / name, dataset) for name in files(**settings)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# The bundled corpora: captions.csv with the columns split, video, caption.


def _bundled_files() -> list[str]:
    return ["captions.csv"]


def _read_bundled(folder: Path) -> pd.DataFrame:
    path = folder / "captions.csv"
    return _with_text(_read_csv(path, ["split", "video", "caption"]), "caption", path)


# MSR-VTT, in the community's format: Xu et al., CVPR 2016; the 1k-A test list of JSFusion, Yu et al., ECCV 2018.

MSRVTT_LISTS = {
    "9k": ["MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"],
    "7k": ["MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv"],
    "mini": ["mini_train.txt", "mini_val.txt", "mini_test.txt"],
}


def _msrvtt_files(partition: str = "9k") -> list[str]:
    if partition not in MSRVTT_LISTS:
        raise ValueError(f"partition of msrvtt is one of {', '.join(MSRVTT_LISTS)}, not {partition!r}: choose one")
    return ["MSRVTT_data.json", *MSRVTT_LISTS[partition]]


def _read_msrvtt(folder: Path, partition: str = "9k") -> pd.DataFrame:
    path = folder / "MSRVTT_data.json"
    captions = _read_json(path, "sentences", ["video_id", "caption"]).rename(columns={"video_id": "video"})
    lists = [folder / name for name in MSRVTT_LISTS[partition]]
    if partition == "mini":
        train, val, test = (_ids(name.read_text("utf-8-sig").split(), name) for name in lists)
        tested = None
    else:
        train = _ids(_read_csv(lists[0], ["video_id"])["video_id"], lists[0])
        val = _held_out(train, lists[0])
        train = [video for video in train if video not in val]
        tested = _read_csv(lists[1], ["video_id", "sentence"]).rename(columns={"video_id": "video"})
        tested = _with_text(tested, "sentence", lists[1]).assign(split="test")
        test = []
    _require_captions([*train, *val, *test], captions, path)
    first = captions.drop_duplicates("video")
    parts = [
        captions[captions["video"].isin(train)].assign(split="train"),
        first[first["video"].isin(val)].assign(split="val"),
        first[first["video"].isin(test)].assign(split="test"),
    ]
    table = _with_text(pd.concat(parts), "caption", path)
    return table if tested is None else pd.concat([table, tested])


def _held_out(videos: list[str], path: Path) -> set[str]:
    """Choose the validation videos: the first ones in the order of a hash, which no library version can change."""
    if len(videos) <= VALIDATION_VIDEOS:
        raise ValueError(
            f"{path} needs more than {VALIDATION_VIDEOS} videos, since {VALIDATION_VIDEOS} are held out for validation,"
            f" but has {len(videos)}: get the complete list"
        )
    return set(sorted(videos, key=lambda video: hashlib.sha256(video.encode()).digest())[:VALIDATION_VIDEOS])


# What every reader shares. A reader takes the folder and the settings and returns the columns split, video, text.

_CORPORA = {
    "scenes": (_bundled_files, _read_bundled),
    "stories": (_bundled_files, _read_bundled),
    "msrvtt": (_msrvtt_files, _read_msrvtt),
}


def _corpus(dataset: str, settings: dict):
    if dataset not in _CORPORA:
        raise ValueError(f"unknown dataset {dataset!r}: the known ones are {', '.join(_CORPORA)}")
    known = list(inspect.signature(_CORPORA[dataset][0]).parameters)
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"{dataset} has no setting named {unknown[0]!r}: it takes {', '.join(known) or 'none'}")
    return _CORPORA[dataset]


def _require(path: Path, dataset: str) -> Path:
    if not path.is_file():
        remedy = "run `dvc pull`" if _CORPORA[dataset][0] is _bundled_files else "docs/data.md says where to get it"
        raise FileNotFoundError(f"{path} is an annotation file of {dataset} and is not there: {remedy}")
    return path


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            header = rows.fieldnames or []
            records = list(rows)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV in UTF-8 ({error}): get or export it again") from error
    # A reader that forgave a comma too many would shift or cut the captions.
    for number, record in enumerate(records, start=1):
        if None in record or None in record.values():
            raise ValueError(
                f"row {number} of {path} does not have {len(header)} fields: quote captions that hold a comma"
            )
    _require_columns(columns, header, path)
    return _numbered(pd.DataFrame(records, columns=header, dtype=object)[columns], path)


def _read_json(path: Path, key: str, columns: list[str]) -> pd.DataFrame:
    try:
        records = json.loads(path.read_text("utf-8-sig"))[key]
        table = pd.DataFrame.from_records(records)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} needs a JSON object with a list {key!r} ({error!r}): get the file again") from error
    _require_columns(columns, table.columns, path)
    return _numbered(table[columns], path)


def _numbered(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Number the rows from 1 in the index, so that an error found after a selection still names the row."""
    if table.empty:
        raise ValueError(f"{path} has no rows: get the file again")
    return table.set_axis(range(1, len(table) + 1))


def _require_columns(columns: list[str], given, path: Path) -> None:
    if absent := [name for name in columns if name not in given]:
        raise ValueError(f"{path} needs a column {absent[0]!r} and has {', '.join(map(str, given)) or 'none'}: add it")


def _require_captions(videos: list[str], captions: pd.DataFrame, path: Path) -> None:
    known = set(captions["video"])
    if absent := [video for video in videos if video not in known]:
        raise ValueError(
            f"{path} has no caption for {len(absent)} listed videos, first {absent[0]!r}: correct the list or the file"
        )


def _ids(videos, path: Path) -> list[str]:
    videos = list(videos)
    repeated = pd.Series(videos, dtype=object).duplicated()
    if not videos or repeated.any():
        what = f"names {videos[repeated.argmax()]!r} twice" if videos else "names no video"
        raise ValueError(f"{path} {what}: every video of the list stands there once")
    return videos


def _with_text(table: pd.DataFrame, column: str, path: Path) -> pd.DataFrame:
    """Rename the caption column to `text` and refuse rows whose text or video is empty or no string."""
    for name in (column, "video"):
        wrong = [not (isinstance(value, str) and value.strip()) for value in table[name]]
        if any(wrong):
            raise ValueError(f"row {table.index[wrong][0]} of {path} has an empty {name}: fill it or delete the row")
    return table.rename(columns={column: "text"})


def _check_splits(table: pd.DataFrame, dataset: str) -> None:
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        raise ValueError(f"{dataset} has a split named {unknown[0]!r}: a split is one of {', '.join(SPLITS)}")
    # test_multi holds the test videos again, with more captions.
    pairs = table[["video", "split"]].replace({"split": {"test_multi": "test"}}).drop_duplicates()
    shared = pairs[pairs["video"].duplicated(keep=False)]
    if len(shared):
        video = shared["video"].iloc[0]
        splits = " and ".join(shared.loc[shared["video"] == video, "split"])
        raise ValueError(f"video {video!r} of {dataset} is in {splits}: a video belongs to one of train, val and test")


def _video_path(folder: Path, video: str) -> str:
    """Return the path of a video file. An id comes from a downloaded file: it must not lead out of `videos/`."""
    if any(part in video for part in ("/", "\\", "..", "\0")):
        raise ValueError(f"video id {video!r} must be a plain file name without separators or '..': correct it")
    videos = folder / "videos"
    path = videos / f"{video}.mp4"
    if Path(os.path.realpath(path)).parent != Path(os.path.realpath(videos)):
        raise ValueError(f"{path} is a link that leads out of {videos}: put the file itself there")
    return str(path)
