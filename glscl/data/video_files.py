"""The video files of a corpus: which file belongs to which id, which are missing, and why."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

# A dot alone ends some of DiDeMo's files.
ENDINGS = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".gif"),
    *(".3gp", ".3g2", ".mts", ".m2ts", ".m2t", ".ts", ".vob", ".mpe", ".m2v", ".asf", ".f4v", ".divx", ".mxf", ".ogm"),
    *(".qt", ".dv", ".apng", "."),
)
IMAGES = (".jpg", ".jpeg", ".png")
BINS = (
    "$RECYCLE.BIN",
    "#recycle",
    "@eaDir",
)  # folders of Windows and of a Synology that hold copies, beside hidden ones


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

    Each folder is listed once and no file is opened. Clips that share a file count once.
    """
    folder = Path(folder).resolve()
    videos, wanted = video_folder(folder), dict.fromkeys(table["path"])
    files: list[str] = []
    for files_there in _in_turn(folder, videos):
        files += files_there
        if wanted.keys() <= set(files):
            break
    held = {path for path in files if is_video(path)}
    missing = [stem(Path(path).name) for path in wanted if path not in held]
    extra = sorted(_shown(path, folder, videos) for path in held - wanted.keys())
    others = [os.path.basename(path) for path in files if not is_video(path)]
    hint = _explain(missing, len(wanted), videos, extra, bool(held), others) if missing else ""
    return Inventory(len(wanted), len(wanted) - len(missing), missing, extra, hint)


def list_videos(folder: str | Path) -> list[Path]:
    """Every video file of a folder and its sub-folders by path, for a search without captions.

    Raises FileNotFoundError where there is none.
    """
    folder = Path(folder).resolve()
    paths = sorted(Path(path) for path in files_under(folder) if is_video(path))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no video file ({', '.join(ENDINGS[:5])} and others): put some there")
    return paths


def find_videos(folder: Path, names: Iterable[str], other_names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the path of the video file of every name, or folder/videos/<name>.mp4 where there is none.

    A file belongs to a name that it has with or without its ending, and with or without the folders that it lies in;
    otherwise to the name without its ending, or with or without YouTube's prefix `v_`. Names are compared in Unicode's
    NFC. Files are sought in `videos/` and its sub-folders, then in the rest of the folder. A name only chooses among
    the files that lie there, so that no annotation leads out of the folder; links are followed (`files_under`).

    Args:
        folder: of the corpus, absolute.
        names: ids of files, as the annotations have them.
        other_names: a second name that a file may have, by the first.

    Raises:
        ValueError: a name that leads out of the folder, or two files for one name.
    """
    videos, names = video_folder(folder), dict.fromkeys(names)
    for name in names:
        _require_inside(name)
    same_but_ending = Counter(stem(nfc(name)) for name in names)
    found: dict[str, str] = {}
    for files in _in_turn(folder, videos):
        tables = _by_name([path for path in files if is_video(path)], folder, videos)
        held = {name: next((table[nfc(name)] for table in tables if nfc(name) in table), []) for name in names}
        found = {name: _only(paths, name, folder, videos) for name, paths in held.items() if paths} | found
        taken = set(found.values())  # a second name never takes the file of another video
        for name in [name for name in names if name not in found]:
            second = nfc(name)
            aliases = [(other_names or {}).get(name), second[2:] if second.startswith("v_") else f"v_{second}"]
            aliases += [stem(second)] if same_but_ending[stem(second)] == 1 else []
            for alias in aliases:
                if paths := [path for path in tables[-1].get(alias, []) if path not in taken]:
                    found.setdefault(name, _only(paths, name, folder, videos))
        if len(found) == len(names):
            break
    absent = {name: str(videos / (name if is_video(name) else f"{name}.mp4")) for name in names}
    return {name: found.get(name, path) for name, path in absent.items()}


def _only(paths: list[str], name: str, folder: Path, videos: Path) -> str:
    if len(paths) > 1 and len(set(map(os.path.realpath, paths))) > 1:
        both = " and ".join(_shown(path, folder, videos) for path in paths[:2])
        raise ValueError(
            f"{videos} should hold one file for video {name!r} and holds {both}: keep one, or write the name with its "
            "folder and ending"
        )
    return paths[0]


def _by_name(paths: list[str], folder: Path, videos: Path) -> tuple[dict[str, list[str]], ...]:
    """Return files by their names: the whole path, its last parts with the ending, and these without it."""
    whole, ending, without = defaultdict(list), defaultdict(list), defaultdict(list)
    for path in paths:
        whole[nfc(_shown(path, folder, videos))].append(path)
        parts = nfc(os.path.relpath(path, folder)).split(os.sep)
        for first in range(len(parts)):
            name = "/".join(parts[first:])
            ending[name].append(path)
            without[stem(name).rstrip()].append(path)
    return whole, ending, without


def _in_turn(folder: Path, videos: Path) -> Iterator[list[str]]:
    """Yield the files of `videos`, then those of the rest of the folder."""
    entered: set[tuple[int, int]] = set()
    for place in dict.fromkeys((videos, folder)):
        yield list(files_under(place, entered))


def _shown(path: str, folder: Path, videos: Path) -> str:
    """Return the path of a file relative to `videos` or, where it lies beside that, to the folder."""
    return os.path.relpath(path, videos if path.startswith(f"{videos}{os.sep}") else folder)


def video_folder(folder: Path) -> Path:
    """Return folder/videos, or the folder itself where that is absent and videos lie in the folder."""
    videos = folder / "videos"
    if videos.exists() or not folder.is_dir():
        return videos
    return folder if any(is_video(name) and name[0] != "." for name in os.listdir(folder)) else videos


def relative_to(folder: str | Path, text: str) -> str:
    """Return a text, such as the reason of an error, with paths under `folder` relative to it."""
    return text.replace(f"{Path(folder).resolve()}{os.sep}", "")


def stem(name: str) -> str:
    """Return the name of a video file without its ending, or its endings where it was encoded again (a.mov.mp4)."""
    while (parts := os.path.splitext(name))[1].lower() in ENDINGS and parts[0]:
        name = parts[0]
    return name


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form without blanks around it: a Mac decomposes the names of files."""
    return unicodedata.normalize("NFC", name).strip()


def is_video(path: str) -> bool:
    """Tell by its ending whether a file is a video; no file is opened."""
    return os.path.splitext(path)[1].lower() in ENDINGS


def files_under(folder: str | Path, entered: set[tuple[int, int]] | None = None) -> Iterator[str]:
    """Yield the files of a folder and its sub-folders by name, without hidden ones and those of bins.

    Links are followed, since who fills the folder has made them (DVC's cache and the hub of Hugging Face do too), but
    never into a folder twice. entered: folders that are not entered again.
    """
    entered = set() if entered is None else entered
    if not os.path.isdir(folder):
        return
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in entered:
        return
    entered.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.name in BINS:
                continue
            if entry.is_dir():  # a listing tells files from folders without asking for each
                yield from files_under(entry.path, entered)
            else:
                yield entry.path


def _require_inside(name: str) -> None:
    """An id comes from a downloaded file: it must not lead out of the folder."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
        raise ValueError(
            f"video id {name!r} must be a plain file name, or a path below the folder of videos: correct it"
        )


def _explain(missing: list[str], total: int, videos: Path, extra: list[str], some: bool, others: list[str]) -> str:
    """Say in one sentence why files are missing, from what lies there instead."""
    few = f"{len(missing):,} of {total:,} videos are not in {videos}"
    if not videos.is_dir() and not some:
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
