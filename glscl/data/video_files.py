"""The video files of a corpus: which file belongs to which id, which are missing, and why."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

# A dot alone ends some of DiDeMo's files.
ENDINGS = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"),
    *(".3gp", ".3g2", ".mts", ".m2ts", "."),
)
IMAGES = (".jpg", ".jpeg", ".png")


class Inventory(NamedTuple):
    """What the folder of a corpus holds of the videos that its table names.

    expected, found: number of files. missing: the ids without a file, in the order of the table. extra: files that no
    caption names, relative to the folder of videos. hint: one sentence that explains what is missing, or "".
    """

    expected: int
    found: int
    missing: list[str]
    extra: list[str]
    hint: str


def inventory(table: pd.DataFrame, folder: str | Path) -> Inventory:
    """Compare the column `path` of a table of `glscl.data.corpora.read_corpus` with the files under the same `folder`.

    The folder is listed once and no file is opened. Clips that share a file count once.
    """
    videos = video_folder(Path(folder).resolve())
    files = list(_files(videos))
    held = {entry.path for entry in files if _is_video(entry.name)}
    wanted = dict.fromkeys(table["path"])
    missing = [stem(Path(path).name) for path in wanted if path not in held]
    extra = sorted(os.path.relpath(path, videos) for path in held - wanted.keys())
    others = [entry.name for entry in files if not _is_video(entry.name)]
    hint = _explain(missing, len(wanted), videos, extra, bool(held), others) if missing else ""
    return Inventory(len(wanted), len(wanted) - len(missing), missing, extra, hint)


def list_videos(folder: str | Path) -> list[Path]:
    """Every video file of a folder (or of its `videos/`) and its sub-folders by path, for a search without captions.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a link leads out of the folder.
    """
    videos = video_folder(Path(folder).resolve())
    paths = [Path(_inside(entry, videos)) for entry in _files(videos) if _is_video(entry.name)]
    if not paths:
        raise FileNotFoundError(f"{videos} holds no video file ({', '.join(ENDINGS[:5])} and others): put some there")
    return sorted(paths)


def find_videos(folder: Path, names: Iterable[str], other_names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the path of the video file of every name, or folder/videos/<name>.mp4 where there is none.

    A file belongs to a name that it has without its ending, in `videos/` or a sub-folder of it; otherwise to the name
    with or without YouTube's prefix `v_`. The folder is listed once.

    Args:
        folder: of the corpus, absolute.
        names: ids of files, as the annotations have them.
        other_names: a second name that a file may have, by the first.

    Raises:
        ValueError: a name that is no plain file name, two files for one name, or a link that leads out of `videos/`.
    """
    videos, names = video_folder(folder), dict.fromkeys(names)
    held: dict[str, list[os.DirEntry]] = {}
    for entry in _files(videos):
        if _is_video(entry.name):
            held.setdefault(stem(entry.name), []).append(entry)
    found = {}
    for name in names:
        _require_plain(name)
        prefixed = name[2:] if name.startswith("v_") else f"v_{name}"
        aliases = [alias for alias in ((other_names or {}).get(name), prefixed) if alias not in names]
        files = next((held[alias] for alias in (name, *aliases) if alias in held), [])
        if len(files) > 1:
            both = " and ".join(os.path.relpath(entry.path, videos) for entry in files[:2])
            raise ValueError(f"{videos} should hold one file for video {name!r} and holds {both}: keep one")
        found[name] = _inside(files[0], videos) if files else str(videos / f"{name}.mp4")
    return found


def video_folder(folder: Path) -> Path:
    """Return folder/videos, or the folder itself where that is absent and videos lie in the folder."""
    videos = folder / "videos"
    if videos.exists() or not folder.is_dir():
        return videos
    return folder if any(_is_video(name) for name in os.listdir(folder)) else videos


def relative_to(folder: str | Path, text: str) -> str:
    """Return a text, such as the reason of an error, with paths under `folder` relative to it."""
    return text.replace(f"{Path(folder).resolve()}{os.sep}", "")


def stem(name: str) -> str:
    """Return the name of a video file without its ending, or its endings where it was encoded again (a.mov.mp4)."""
    while (parts := os.path.splitext(name))[1].lower() in ENDINGS and parts[0]:
        name = parts[0]
    return name


def _is_video(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def _files(videos: Path) -> Iterator[os.DirEntry]:
    """Yield the files of a folder and its sub-folders; a listing tells files from links without asking for each."""
    if not videos.is_dir():
        return
    with os.scandir(videos) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_symlink() and entry.is_dir():
                raise ValueError(
                    f"{entry.path} is a link to a folder, which is not followed: put the folder itself there, or let "
                    "`videos` be the link"
                )
            else:
                yield entry


def _inside(entry: os.DirEntry, videos: Path) -> str:
    if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(os.path.realpath(videos)):
        raise ValueError(f"{entry.path} is a link that leads out of {videos}: put the file itself there")
    return entry.path


def _require_plain(name: str) -> None:
    """An id comes from a downloaded file: it must not lead out of the folder."""
    if name in ("", ".", "..") or any(part in name for part in ("/", "\\", "\0")):
        raise ValueError(f"video id {name!r} must be a plain file name without separators: correct it")


def _explain(missing: list[str], total: int, videos: Path, extra: list[str], some: bool, others: list[str]) -> str:
    """Say in one sentence why files are missing, from what lies there instead."""
    few = f"{len(missing):,} of {total:,} videos are not in {videos}"
    if not videos.is_dir():
        return f"{videos} is not there: put the videos into it, or make it a link to their folder"
    if not some and any(name.lower().endswith(IMAGES) for name in others):
        return f"{videos} holds images and no videos: this study decodes the video files, not frames taken from them"
    if numbered := [name for name in extra if re.fullmatch(r"vid\d+", stem(Path(name).name))]:
        return (
            f"{few}, and {numbered[0]} and {len(numbered) - 1:,} more bear MSVD's numbers instead of ids: put "
            "youtube_mapping.txt beside the annotation files"
        )
    absent = set(missing)
    if unknown := [name for name in others if os.path.splitext(name)[0] in absent]:
        return (
            f"{few}, and {unknown[0]} has no known ending ({', '.join(ENDINGS[:-1])}): convert it, for example to .mp4"
        )
    names = {stem(Path(name).name): name for name in extra}
    for video in missing[:20]:
        inside = re.compile(rf"(?<![a-z0-9]){re.escape(video)}(?![a-z0-9])", re.IGNORECASE)
        for name, file in names.items():
            if inside.search(name):
                return f"{few}, and {file} lies where {video}.mp4 is expected: give the files the names of the ids"
            if video.startswith(f"{name}_"):
                return f"{few}, and {file} is a whole video where the clip {video} is expected: cut it to its seconds"
    return f"{few}, first {missing[0]}.mp4: docs/data.md says where to get them"
