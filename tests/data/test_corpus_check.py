"""What the check finds in a folder of good, absent and broken videos, and when it stops a study."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from glscl.data.corpora import read_corpus
from glscl.data.corpus_check import (
    CorpusCheck,
    count_by_split,
    hash_names_and_sizes,
    probe_videos,
    require_videos,
    summarise_durations,
)
from glscl.data.decoding import VideoError, read_header
from glscl.files import write_json
from tests import REAL
from tests.clips import grey, write_clip


@pytest.fixture
def folder(tmp_path):
    """Good videos of 1 and 2 seconds, one cut off within its header, one empty, one that is text."""
    write_clip(tmp_path / "short.mp4", grey(10))
    write_clip(tmp_path / "long.mp4", grey(20))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "long.mp4").read_bytes()[:300])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    return tmp_path


def table(folder, *rows):
    """Captions as `read_corpus` gives them, of rows (split, video, text, start, end, file)."""
    captions = pd.DataFrame(rows, columns=["split", "video", "text", "start", "end", "file"])
    return captions.assign(path=[str(folder / f"{file}.mp4") for file in captions["file"]])


def about(folder, split, *videos):
    return table(folder, *((split, video, f"about {video}", np.nan, np.nan, video) for video in videos))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv", "clip.webm"])
def test_a_header_says_duration_and_size(tmp_path, name):
    codec = {"webm": "libvpx-vp9", "mp4": "libx264"}.get(name.partition(".")[2], "mpeg4")
    header = read_header(write_clip(tmp_path / name, grey(20), codec))
    assert header.seconds == pytest.approx(2, abs=0.05)
    assert (header.width, header.height) == (64, 48)


def test_every_video_gets_a_state_and_every_lost_one_a_reason(folder):
    videos = about(folder, "test", "short", "absent", "cut", "empty", "text", "long")
    checked = probe_videos(videos)
    assert checked["video"].tolist() == videos["video"].tolist()
    states = ["found", "missing", "unreadable", "unreadable", "unreadable", "found"]
    assert checked["state"].tolist() == states
    for row in checked.itertuples():
        assert pd.isna(row.reason) if row.state == "found" else f"{row.video}.mp4" in row.reason
    assert checked["seconds"].round(2).fillna(-1).tolist() == [1, -1, -1, -1, -1, 2]


def test_a_folder_without_any_of_the_videos(tmp_path):
    captions = about(tmp_path, "test", "a", "b")
    checked = probe_videos(captions)
    assert summarise_durations(checked) == {"files": 0, "unknown": 0, "late": 0}
    with pytest.raises(VideoError, match=r"^2 of 2 videos .*'a': .*a\.mp4 is absent"):
        require_videos(checked, captions, 0)


def test_moments_share_a_file_and_one_after_its_end_is_unreadable(folder):
    moments = [("a", 0.0, 1.0), ("b", 1.0, 2.05), ("c", 1.0, 9.0), ("d", 5.0, 9.0)]
    captions = table(folder, *(("test", name, name, start, end, "long") for name, start, end in moments))
    checked = probe_videos(captions)
    assert checked["state"].tolist() == ["found", "found", "found", "unreadable"]
    assert "ends at 2.00 s, before the start 5.00 s" in checked["reason"].iloc[3]
    found = summarise_durations(checked)
    assert found == {"median": 2, "min": 2, "max": 2, "files": 1, "unknown": 0, "late": 1}


def test_durations_over_files(folder):
    checked = probe_videos(about(folder, "train", "short", "long", "absent"))
    assert summarise_durations(checked) == pytest.approx(
        {"median": 1.5, "min": 1, "max": 2, "files": 2, "unknown": 0, "late": 0}
    )
    checked["seconds"] = np.nan
    assert summarise_durations(checked) == {"files": 2, "unknown": 2, "late": 0}


def test_counts_by_split_tell_shared_captions_from_repeated_ones(folder):
    rows = [("train", "a dog", "short"), ("train", "a dog", "short"), ("train", "a cat", "long")]
    rows += [("test", "a dog", "absent"), ("test", "a dog", "empty"), ("test", "a cat", "text"), ("test", "x", "text")]
    captions = table(folder, *((split, file, text, np.nan, np.nan, file) for split, text, file in rows))
    counts = count_by_split(captions, probe_videos(captions.drop_duplicates("video"))).set_index("split")
    assert counts.loc["train"].to_dict() == {
        "captions": 3,
        "distinct": 2,
        "shared": 0,
        "videos": 2,
        "found": 2,
        "missing": 0,
        "unreadable": 0,
    }
    assert counts.loc["test"].tolist() == [4, 3, 2, 3, 0, 1, 2]


def test_a_missing_test_video_stops_the_study_and_is_named_first(folder):
    captions = pd.concat([about(folder, "train", "empty", "short"), about(folder, "test", "absent", "long")])
    checked = probe_videos(captions)
    told = r"^2 of 4 videos .* \(1 of the test split\) and max_missing allows 1: .*check\.max_missing; the first is "
    with pytest.raises(VideoError, match=told + r"'absent': .*absent\.mp4 .*; then 'empty'\. The names differ\b"):
        require_videos(checked, captions, 1, "The names differ")
    require_videos(checked, captions, 2)


def test_the_digest_follows_names_and_sizes_and_not_folders(folder, tmp_path):
    videos = about(folder, "test", "short", "long")
    before = hash_names_and_sizes(probe_videos(videos))
    assert hash_names_and_sizes(probe_videos(videos.iloc[::-1])) == before
    (folder / "elsewhere").mkdir()
    for name in ("short.mp4", "long.mp4"):
        (folder / name).rename(folder / "elsewhere" / name)
    assert hash_names_and_sizes(probe_videos(about(folder / "elsewhere", "test", "short", "long"))) == before
    write_clip(folder / "elsewhere/long.mp4", grey(30))
    assert hash_names_and_sizes(probe_videos(about(folder / "elsewhere", "test", "short", "long"))) != before


@pytest.fixture
def corpus(folder, tmp_path_factory):
    """A corpus in the format of the bundled ones: two good videos, one absent, and a file that no caption names."""
    place = tmp_path_factory.mktemp("corpus")
    (place / "videos").mkdir()
    for name in ("short", "long"):
        shutil.copy(folder / f"{name}.mp4", place / "videos")
    shutil.copy(folder / "short.mp4", place / "videos/left_over.mp4")
    rows = [("train", "short", "a dog"), ("train", "short", "a cat"), ("val", "long", "a cat"), ("test", "gone", "x")]
    pd.DataFrame(rows, columns=["split", "video", "caption"]).to_csv(place / "captions.csv", index=False)
    return place


def test_the_check_of_a_corpus_counts_names_and_answers(corpus, tmp_path):
    check = CorpusCheck.of("scenes", {"folder": str(corpus)})
    write_json(tmp_path / "check.json", check.summary())
    summary = json.loads((tmp_path / "check.json").read_text())
    assert {split: counts["found"] for split, counts in summary["splits"].items()} == {"train": 1, "val": 1, "test": 0}
    assert (summary["missing"], summary["extra"], list(summary["annotations"])) == (1, 1, ["captions.csv"])
    ((video, reason),) = summary["missing_videos"]
    assert video == "gone"
    assert reason.startswith("videos/gone.mp4 is absent")
    assert check.answer() == (
        "2 of 3 videos are there and open (median 1.5 s); 0 of 4 captions are shared by several videos."
    )
    assert check.listing().split("\n") == [
        "lost videos: 1",
        reason,
        "files that no caption names: 1",
        "left_over.mp4",
    ]
    assert check.listing(most=0).count("and more") == 2


def test_what_a_study_needs_is_required(corpus):
    check = CorpusCheck.of("scenes", {"folder": str(corpus)})
    with pytest.raises(VideoError, match=r"1 of 3 videos .* \(1 of the test split\) .* allows 0"):
        check.require(0, ["glscl"])
    check.require(1, ["glscl"])
    for video in ("short", "long"):
        (corpus / f"videos/{video}.mp4").unlink()
    with pytest.raises(VideoError, match=r"none of .* opens, videos/\w+\.mp4 is absent"):
        CorpusCheck.of("scenes", {"folder": str(corpus)}).require(9, ["glscl"])


def test_methods_need_something_to_be_trained_on(corpus):
    captions = pd.read_csv(corpus / "captions.csv").query("video != 'gone'")
    captions.assign(split="test").to_csv(corpus / "captions.csv", index=False)
    check = CorpusCheck.of("scenes", {"folder": str(corpus)})
    check.require(0, [])
    with pytest.raises(ValueError, match=r"needs the splits train and val, .* has test; set own.methods"):
        check.require(0, ["glscl"])
    assert check.answer().startswith("All 2 videos are there")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real inputs are not on this machine")
def test_real_msrvtt_has_nine_captions_that_several_videos_share():
    captions = read_corpus("msrvtt", REAL / "msrvtt", partition="9k").query("split == 'test'")
    videos = captions.assign(state="found").drop_duplicates("video")
    counts = count_by_split(captions, videos).iloc[0]
    assert counts[["captions", "distinct", "shared", "videos"]].tolist() == [1000, 995, 9, 1000]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real inputs are not on this machine")
def test_real_files_all_open():
    paths = [*REAL.glob("clips/*.mp4"), *REAL.glob("msvd/videos/*.avi"), *sorted(REAL.glob("msrvtt/videos/*"))[:50]]
    videos = pd.DataFrame({"video": [path.stem for path in paths], "path": list(map(str, paths))})
    checked = probe_videos(videos.assign(start=np.nan, end=np.nan))
    assert (checked["state"] == "found").all()
    assert checked["seconds"].between(1, 300).all()
    assert (checked["width"] >= 100).all()


def test_a_corpus_of_links_into_a_cache_is_checked_like_files(corpus, tmp_path):
    before = CorpusCheck.of("scenes", {"folder": str(corpus)}).summary()
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, path in enumerate([path for path in sorted(corpus.rglob("*")) if path.is_file()]):
        path.rename(cache / f"{number:032x}")  # as DVC does with cache.type symlink
        path.symlink_to(cache / f"{number:032x}")
    assert CorpusCheck.of("scenes", {"folder": str(corpus)}).summary() == before
