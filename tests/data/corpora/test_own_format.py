"""One's own videos: a split by the seed, a test split for a few, and names with or without ending."""

import csv

import numpy as np
import pytest

from glscl.data.corpora import read_corpus

LISTS = ("train", "val", "test")


def own(folder, videos, *more, name=str):
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = [[name(video), f"{video} {turn}"] for turn in (0, 1) for video in videos]
        csv.writer(file).writerows([["caption", "video"], *([text, video] for video, text in [*rows, *more])])
    return folder


def test_own_videos_without_enough_captions_are_a_test_split(tmp_path):
    table = read_corpus("own", own(tmp_path, range(39)))
    assert set(table["split"]) == {"test"}
    assert len(table) == 78
    assert table["text"].iloc[0] == "0 0"


@pytest.mark.parametrize(("videos", "sizes"), [(40, (20, 10, 10)), (43, (21, 10, 12)), (101, (50, 25, 26))])
def test_own_videos_are_split_by_the_seed(tmp_path, videos, sizes):
    own(tmp_path, range(videos), name=lambda video: f"clip {video}.MOV")
    table = read_corpus("own", tmp_path)
    found = table.groupby("split")["video"].nunique().to_dict()
    assert found == dict(zip(LISTS, sizes, strict=True))
    assert table.equals(read_corpus("own", tmp_path, seed=0))
    other = read_corpus("own", tmp_path, seed=1)
    assert other["video"].equals(table["video"])
    assert not other["split"].equals(table["split"])


def test_own_videos_may_lie_beside_the_captions_and_have_any_known_ending(tmp_path):
    own(tmp_path, [], ("holiday.MOV", "a beach"), ("cat", "a cat"), ("away.mp4", "nothing"))
    for name in ("holiday.MOV", "cat.webm"):
        (tmp_path / name).touch()
    table = read_corpus("own", tmp_path)
    assert table["video"].tolist() == ["holiday", "cat", "away"]
    assert table["path"].tolist()[:2] == [str(tmp_path / "holiday.MOV"), str(tmp_path / "cat.webm")]
    assert np.isnan(table["end"]).all()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: own(folder, [], ("a", " ")), r"row 1 of .*captions\.csv has an empty caption"),
        (lambda folder: own(folder, [], ("a/b", "x")), "'a/b' must be a plain file name"),
        (lambda folder: own(folder, [], ("..", "x")), "plain file name"),
        (lambda folder: own(folder, []), "has no rows"),
        (lambda folder: (folder / "captions.csv").write_text("file,caption\na,b\n"), "needs a column 'video'"),
    ],
)
def test_faults_of_own_captions(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_corpus("own", tmp_path)


def test_own_videos_without_captions_can_be_searched_only(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.csv .* columns video and caption, or search without"):
        read_corpus("own", tmp_path)
    with pytest.raises(ValueError, match="own has no setting named 'sed': it takes seed"):
        read_corpus("own", tmp_path, sed=1)
