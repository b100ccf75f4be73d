"""Annotation files of the benchmarks, read into one table of texts and videos.

A corpus is a folder with its annotation files and `videos/`. `docs/data.md` says how to get each one. A reader takes
the folder and the settings of its corpus and returns the columns split, video and text; where they differ from the
whole file `<video>.*`, also file (its name without the ending), other_name (that it may have instead), start and end.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from glscl.data.corpora import charades, lsmdc, many_captions, msrvtt, own_format, paragraph
from glscl.data.corpora.counts import check_counts
from glscl.data.video_files import find_videos

COLUMNS = ["split", "video", "path", "start", "end", "caption_id", "text"]
TWINS = ("twin_colour", "twin_order", "twin_shape", "twin_motion")  # false texts of test videos, of bundled corpora
SPLITS = ("train", "val", "test", "test_multi", *TWINS)


class Corpus(NamedTuple):
    """How one corpus is read: its annotation files by name, its reader, and how to come by a file that is absent."""

    files: Callable[..., list[str]]
    read: Callable[..., pd.DataFrame]
    remedy: str = "docs/data.md says where to get it"


_BUNDLED = Corpus(own_format.files, own_format.read, "run `dvc pull`")
CORPORA = {
    "scenes": _BUNDLED,
    "stories": _BUNDLED,
    "msrvtt": Corpus(msrvtt.files, msrvtt.read),
    "msvd": Corpus(many_captions.msvd_files, many_captions.read_msvd),
    "didemo": Corpus(paragraph.didemo_files, paragraph.read_didemo),
    "lsmdc": Corpus(lsmdc.files, lsmdc.read),
    "activitynet": Corpus(paragraph.activitynet_files, paragraph.read_activitynet),
    "vatex": Corpus(many_captions.vatex_files, many_captions.read_vatex),
    "charades": Corpus(charades.files, charades.read),
    "charades_sta": Corpus(charades.sta_files, charades.read_sta),
    "own": Corpus(
        own_format.own_files,
        own_format.read_own,
        "write it with the columns video and caption, or search without captions (docs/data.md)",
    ),
}


def read_corpus(dataset: str, folder: str | Path, reader: str | None = None, **settings) -> pd.DataFrame:
    """Read the annotations of `dataset` under `folder` into one row per caption.

    Columns: `split` (train, val, test; test_multi = the test videos with several captions; twin_<kind> = false texts of
    them, with the `caption_id` of the true one in a column `of`), `video` (id), `path`
    (absolute, not necessarily there), `start` and `end` (seconds, NaN = the whole file), `caption_id` (row number),
    `text` (unchanged; paragraphs are joined). A file belongs to an id by its name without the ending, see
    `glscl.data.video_files.find_videos`. Links in the folder are followed; an id never leads out of it.

    Args:
        dataset: its name.
        reader: a key of `CORPORA`; None = the one with the name of the dataset.
        settings: msrvtt takes `partition`: 9k, 7k, full or mini; own takes `seed`. The others take none.

    Raises:
        FileNotFoundError: an annotation file is absent.
        ValueError: unknown dataset or setting, missing column, empty caption, an id that is no plain file name or
            stands twice in a list, an id without captions, a video in two of train, val and test, two files for one
            video, or a split that has other counts than the benchmark (`glscl.data.corpora.counts`).
    """
    given, folder = folder, Path(folder).resolve()
    reader = reader or dataset
    corpus = _corpus(reader, settings)
    for name in corpus.files(folder, **settings):
        _require(folder / name, dataset, corpus, given)
    table = corpus.read(folder, **settings)
    if "file" not in table:
        table = table.assign(file=table["video"])
    _check_splits(table, dataset)
    bound = inspect.signature(corpus.files).bind(folder, **settings)
    bound.apply_defaults()
    check_counts(table, reader, bound.arguments.get("partition"))
    other = table[["file", "other_name"]].dropna().itertuples(index=False) if "other_name" in table else []
    paths = find_videos(folder, table["file"].unique(), dict(other))
    table = table.assign(path=table["file"].map(paths), caption_id=np.arange(len(table)))
    columns = [*COLUMNS, *(["of"] if "of" in table else [])]
    return table.reindex(columns=columns).astype({"start": float, "end": float}).reset_index(drop=True)


def annotation_hashes(dataset: str, folder: str | Path, reader: str | None = None, **settings) -> dict[str, str]:
    """Return the sha256 of every annotation file that `read_corpus` reads with the same arguments, by file name."""
    given, folder = folder, Path(folder).resolve()
    corpus = _corpus(reader or dataset, settings)
    paths = [_require(folder / name, dataset, corpus, given) for name in corpus.files(folder, **settings)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _corpus(reader: str, settings: dict) -> Corpus:
    if reader not in CORPORA:
        raise ValueError(
            f"unknown dataset {reader!r}: the known ones are {', '.join(CORPORA)}; another corpus names one of them as "
            "the `reader` of its `corpus`"
        )
    known = list(inspect.signature(CORPORA[reader].files).parameters)[1:]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"{reader} has no setting named {unknown[0]!r}: it takes {', '.join(known) or 'none'}")
    return CORPORA[reader]


def _require(path: Path, dataset: str, corpus: Corpus, given: str | Path) -> Path:
    """Return the path of an annotation file that is there. given: its folder as the user wrote it."""
    if path.is_file():
        return path
    hint = ""
    if corpus is not _BUNDLED and not Path(given).is_absolute():
        hint = (
            f"; {str(given)!r} was looked for in {Path.cwd()}, so give the folder as an absolute path where DVC works "
            "in a copy without the files that git ignores (`dvc exp run --temp` or `--queue`)"
        )
    raise FileNotFoundError(f"{path} is an annotation file of {dataset} and is not there: {corpus.remedy}{hint}")


def _check_splits(table: pd.DataFrame, dataset: str) -> None:
    if unknown := sorted(set(table["split"].astype(str)) - set(SPLITS)):
        raise ValueError(f"{dataset} has a split named {unknown[0]!r}: a split is one of {', '.join(SPLITS)}")
    # test_multi and the twins hold the test videos again, with other texts.
    again = dict.fromkeys(("test_multi", *TWINS), "test")
    pairs = table[["file", "split"]].replace({"split": again}).drop_duplicates()
    shared = pairs[pairs["file"].duplicated(keep=False)]
    if len(shared):
        video = shared["file"].iloc[0]
        splits = " and ".join(shared.loc[shared["file"] == video, "split"])
        raise ValueError(f"video {video!r} of {dataset} is in {splits}: a video belongs to one of train, val and test")
