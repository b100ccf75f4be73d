"""What the readers of annotation files share: files into tables whose rows are numbered, ids, text, held-out videos."""

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

VALIDATION_VIDEOS = 500


def read_csv(path: Path, columns: list[str], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return these columns of a CSV file with a header, as strings; every row must have every field.

    optional: columns that are returned too where the file has them.
    """
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
    columns = [*columns, *(name for name in optional if name in header)]
    return numbered(pd.DataFrame(records, columns=header, dtype=object)[columns], path)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without their ends; only a line feed ends a line, with or without a return."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as text in UTF-8 ({error}): get or export it again") from error
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def read_ids(path: Path) -> list[str]:
    """Return the ids of a list, one on a line."""
    return ids([line.strip() for line in read_lines(path)], path)


def read_json(path: Path, shape: str):
    """Return the content of a JSON file; `shape` says in the error what it should be. No key may stand there twice."""
    try:
        return json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"{path} needs {shape} ({error}): get the file again") from error


def _once(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it names {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def read_records(path: Path, columns: list[str], key: str | None = None) -> pd.DataFrame:
    """Return these columns of a JSON list of objects, which is the whole file or stands there under `key`."""
    shape = f"a JSON object with a list {key!r}" if key else "a JSON list of objects"
    content = read_json(path, shape)
    try:
        table = pd.DataFrame.from_records(content[key] if key else content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} needs {shape} ({error!r}): get the file again") from error
    _require_columns(columns, table.columns, path)
    return numbered(table[columns], path)


def read_caption_lists(path: Path) -> pd.DataFrame:
    """Return a JSON object {video: [caption, ...]} as a table with the columns video and caption, in file order."""
    shape = "a JSON object with a list of captions for every video"
    content = read_json(path, shape)
    if not (isinstance(content, dict) and all(isinstance(captions, list) for captions in content.values())):
        raise ValueError(f"{path} needs {shape}: get the file again")
    rows = [(video, caption) for video, captions in content.items() for caption in captions]
    return numbered(pd.DataFrame(rows, columns=["video", "caption"], dtype=object), path)


def numbered(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Number the rows from 1 in the index, so that an error found after a selection still names the row."""
    if table.empty:
        raise ValueError(f"{path} has no rows: get the file again")
    return table.set_axis(range(1, len(table) + 1))


def _require_columns(columns: list[str], given, path: Path) -> None:
    if absent := [name for name in columns if name not in given]:
        raise ValueError(f"{path} needs a column {absent[0]!r} and has {', '.join(map(str, given)) or 'none'}: add it")


def ids(videos: Iterable[str], path: Path) -> list[str]:
    """Return the ids of a list in which each stands once."""
    videos = list(videos)
    repeated = pd.Series(videos, dtype=object).duplicated()
    if not videos or repeated.any():
        what = f"names {videos[repeated.argmax()]!r} twice" if videos else "names no video"
        raise ValueError(f"{path} {what}: every video of the list stands there once")
    return videos


def of_videos(videos: Iterable[str], captions: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the captions of these videos in file order; each needs at least one. `path` holds the captions."""
    videos, known = list(videos), set(captions["video"])
    if absent := [video for video in videos if video not in known]:
        raise ValueError(
            f"{path} has no caption for {len(absent)} listed videos, first {absent[0]!r}: correct the list or the file"
        )
    return captions[captions["video"].isin(videos)]


def with_text(table: pd.DataFrame, column: str, path: Path) -> pd.DataFrame:
    """Rename the caption column to `text` and refuse rows whose text or video is empty or no string."""
    for name in (column, "video"):
        wrong = [not (isinstance(value, str) and value.strip()) for value in table[name]]
        if any(wrong):
            raise ValueError(f"row {table.index[wrong][0]} of {path} has an empty {name}: fill it or delete the row")
    return table.rename(columns={column: "text"})


def paragraphs(table: pd.DataFrame) -> pd.DataFrame:
    """Join all captions of a video into one, in file order as the releases do. table: columns video and text."""
    joined = table["text"].str.strip().groupby(table["video"], sort=False).agg(" ".join)
    return joined.rename_axis("video").reset_index()


def by_hash(videos: Iterable[str], seed: int | None = None) -> list[str]:
    """Return the videos in the order of a hash of their ids (and of the seed), which no library version can change."""
    start = "" if seed is None else f"{seed} "
    return sorted(videos, key=lambda video: hashlib.sha256(f"{start}{video}".encode()).digest())


def hold_out(videos: Iterable[str], path: Path) -> set[str]:
    """Choose the validation videos of a training list: the first 500 in the order of the hash."""
    videos = list(videos)
    if len(videos) <= VALIDATION_VIDEOS:
        raise ValueError(
            f"{path} needs more than {VALIDATION_VIDEOS} videos, since {VALIDATION_VIDEOS} are held out for validation,"
            f" but has {len(videos)}: get the complete list"
        )
    return set(by_hash(videos)[:VALIDATION_VIDEOS])


def train_and_val(table: pd.DataFrame, path: Path, column: str = "video") -> pd.DataFrame:
    """Add the column `split` to the rows of a training file: val for the held-out ids of `column`, train for others."""
    held_out = hold_out(table[column].unique(), path)
    return table.assign(split=table[column].isin(held_out).map({True: "val", False: "train"}))
