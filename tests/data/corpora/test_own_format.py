"""One's own videos: a split by the seed, a test split for a few, and names with or without ending."""

import csv
import os
import unicodedata

import numpy as np
import pytest

from glscl.data.corpora import annotation_hashes, read_corpus
from glscl.data.corpus_check import CorpusCheck

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


def test_own_names_as_people_write_them(tmp_path):
    names = ["IMG_1.MOV", "cam1/c.mp4", "cam2\\c.mp4", "./d.mp4", " e.mp4 ", "f", unicodedata.normalize("NFD", "ö.mp4")]
    files = ["IMG_1.MOV", "IMG_1.MP4", "cam1/c.mp4", "cam2/c.mp4", "d.mp4", "e.mp4", "f.gif", "ö.mp4"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = read_corpus("own", own(tmp_path, [], *((name, "a caption") for name in names)))
    assert table["video"].tolist() == ["IMG_1", "cam1/c", "cam2/c", "d", "e", "f", "ö"]
    assert [os.path.relpath(path, tmp_path) for path in table["path"]] == [files[0], *files[2:]]


def test_rows_of_one_video_are_one_however_it_is_written(tmp_path):
    names = ["a.mp4", "a", " a", "é", unicodedata.normalize("NFD", "é")]
    table = read_corpus("own", own(tmp_path, [], *((name, "a caption") for name in names)))
    assert table["video"].tolist() == ["a", "a", "a", "é", "é"]
    assert table["path"].nunique() == 2


def test_two_files_that_differ_in_the_ending_are_two_videos(tmp_path):
    for name in ("IMG_1.MOV", "IMG_1.MP4"):
        (tmp_path / name).touch()
    own(tmp_path, [], ("IMG_1.MOV", "a dog"), ("IMG_1.MP4", "a cat"), ("IMG_1.MOV", "the dog"))
    table = read_corpus("own", tmp_path)
    assert table["video"].tolist() == ["IMG_1.MOV", "IMG_1.MP4", "IMG_1.MOV"]
    assert [os.path.basename(path) for path in table["path"]] == table["video"].tolist()


def test_another_corpus_names_its_reader(tmp_path):
    own(tmp_path, range(40))
    table = read_corpus("shop", tmp_path, reader="own", seed=1)
    assert table.equals(read_corpus("own", tmp_path, seed=1))
    assert annotation_hashes("shop", tmp_path, reader="own") == annotation_hashes("own", tmp_path)
    assert CorpusCheck.of("shop", {"reader": "own", "folder": str(tmp_path)}).files.expected == 40
    with pytest.raises(ValueError, match=r"unknown dataset 'shop': .* one of them as the `reader` of its `corpus`"):
        read_corpus("shop", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"nowhere/captions\.csv is an annotation file of shop .*: write it with"
    ):
        read_corpus("shop", tmp_path / "nowhere", reader="own")


def test_a_relative_folder_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = rf"{tmp_path}/corpora/own/captions\.csv .*'corpora/own' was looked for in {tmp_path}, .* an absolute path"
    for read in (read_corpus, annotation_hashes):
        with pytest.raises(FileNotFoundError, match=message):
            read("own", "corpora/own")
    with pytest.raises(FileNotFoundError) as caught:
        read_corpus("own", tmp_path / "corpora/own")
    assert "absolute" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: own(folder, [], ("a", " ")), r"row 1 of .*captions\.csv has an empty caption"),
        (lambda folder: own(folder, [], ("../b", "x")), "'../b' must be a plain file name"),
        (lambda folder: own(folder, [], ("/b.mp4", "x")), "must be a plain file name"),
        (lambda folder: own(folder, [], ("..\\\\b", "x")), "must be a plain file name"),
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
