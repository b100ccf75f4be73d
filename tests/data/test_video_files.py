"""Which file belongs to which id, what a folder lacks, and the sentence that explains it."""

import os
import re

import pandas as pd
import pytest

from glscl.data.video_files import find_videos, inventory, list_videos, relative_to, stem


def put(folder, *names):
    for name in names:
        path = folder / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found(folder, *names, **more):
    return [path.removeprefix(f"{folder}/videos/") for path in find_videos(folder, names, **more).values()]


def held(folder, *videos):
    return inventory(pd.DataFrame({"path": find_videos(folder, videos).values()}), folder)


NAMES = [
    ("a.mp4", "a"),
    ("a.AVI", "a"),
    ("a.mov.mp4", "a"),
    ("a..mp4", "a"),
    ("a.", "a"),
    ("a", "a"),
    ("a.b", "a.b"),
    ("1_F_00.01.5-00.02.167.avi", "1_F_00.01.5-00.02.167"),
    (".mp4", ".mp4"),
    ("..", ".."),
]


@pytest.mark.parametrize(("name", "wanted"), NAMES)
def test_stem_takes_known_endings_only(name, wanted):
    assert stem(name) == wanted


def test_files_are_found_by_name_in_any_folder_and_with_any_known_ending(tmp_path):
    put(tmp_path, "a.webm", "film/b.mkv", "film/reel/c.mov.mp4", "v_d.mp4", "e.mp4", "n.avi")
    assert found(tmp_path, "a", "b", "c", "d", "v_e", other_names={"a": "n"}) == [
        "a.webm",
        "film/b.mkv",
        "film/reel/c.mov.mp4",
        "v_d.mp4",
        "e.mp4",
    ]
    assert found(tmp_path, "x", "y", other_names={"y": "n"}) == ["x.mp4", "n.avi"]


def test_an_alias_never_takes_the_file_of_another_video(tmp_path):
    put(tmp_path, "v_a.mp4")
    assert found(tmp_path, "a", "v_a") == ["a.mp4", "v_a.mp4"]


def test_hidden_files_and_others_are_no_videos(tmp_path):
    put(tmp_path, ".a.mp4", "._a.mp4", "a.txt", "a.mp4.part")
    assert found(tmp_path, "a") == ["a.mp4"]
    assert held(tmp_path, "a").found == 0


def test_two_files_for_one_video_are_an_error(tmp_path):
    put(tmp_path, "a.mp4", "small/a.avi")
    with pytest.raises(ValueError, match=r"one file for video 'a' and holds a\.mp4 and small/a\.avi: keep one"):
        found(tmp_path, "a")
    assert found(tmp_path, "b") == ["b.mp4"]


@pytest.mark.parametrize("name", ["../a", "a/b", "/a", "a\\b", "..", ".", "", "a\0"])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must be a plain file name"):
        found(tmp_path, name)


def test_a_file_or_folder_that_is_a_link_does_not_lead_out(tmp_path):
    corpus, outside = put(tmp_path / "corpus", "real.mp4"), put(tmp_path / "outside", "a.mp4")
    (corpus / "videos/a.mp4").symlink_to(outside / "videos/a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 is a link that leads out of"):
        found(corpus, "a")
    with pytest.raises(ValueError, match=r"a\.mp4 is a link that leads out of"):
        list_videos(corpus)
    assert found(corpus, "real") == ["real.mp4"]
    (corpus / "videos/a.mp4").unlink()
    (corpus / "videos/a.mp4").symlink_to(corpus / "videos/real.mp4")
    assert found(corpus, "a") == ["a.mp4"]
    (corpus / "videos/film").symlink_to(outside / "videos")
    with pytest.raises(ValueError, match=r"film is a link to a folder, which is not followed"):
        found(corpus, "a")


def test_the_folder_of_videos_may_be_a_link(tmp_path):
    put(tmp_path / "disk", "a.mp4")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/videos").symlink_to(tmp_path / "disk/videos")
    assert found(tmp_path / "corpus", "a") == ["a.mp4"]
    assert held(tmp_path / "corpus", "a").found == 1


def test_the_folder_is_listed_once(tmp_path, monkeypatch):
    put(tmp_path, *(f"{number}.mp4" for number in range(50)))
    listed, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda path: listed.append(path) or scandir(path))
    find_videos(tmp_path, [str(number) for number in range(100)])
    assert len(listed) == 1


def test_list_videos_for_a_search_without_captions(tmp_path):
    put(tmp_path, "b.mp4", "trip/a.MOV", "notes.txt", ".c.mp4")
    assert list_videos(tmp_path) == [tmp_path / "videos/b.mp4", tmp_path / "videos/trip/a.MOV"]
    assert [path.name for path in list_videos(tmp_path / "videos")] == ["b.mp4", "a.MOV"]
    with pytest.raises(FileNotFoundError, match="holds no video file"):
        list_videos(tmp_path / "nowhere")


def test_inventory_names_what_is_missing_and_what_is_left_over(tmp_path):
    put(tmp_path, "a.mp4", "film/b.avi", "film/other.avi", "z.mp4")
    result = held(tmp_path, "a", "b", "c", "d")
    assert result[:4] == (4, 2, ["c", "d"], ["film/other.avi", "z.mp4"])
    assert (
        result.hint == f"2 of 4 videos are not in {tmp_path}/videos, first c.mp4: docs/data.md says where to get them"
    )
    assert held(tmp_path, "a", "b") == (2, 2, [], ["film/other.avi", "z.mp4"], "")


def test_inventory_counts_a_file_of_many_clips_once(tmp_path):
    put(tmp_path, "a.mp4")
    path = str(tmp_path / "videos/a.mp4")
    table = pd.DataFrame({"video": ["a_0_1", "a_2_3", "b_0_1"], "path": [path, path, str(tmp_path / "videos/b.mp4")]})
    assert inventory(table, tmp_path)[:4] == (2, 1, ["b"], [])


@pytest.mark.parametrize(
    ("files", "video", "hint"),
    [
        ([], "a", r"videos is not there: put the videos into it"),
        (["a/1.jpg", "a/2.jpg"], "a", "holds images and no videos"),
        (["vid1.avi", "vid2.avi"], "-4wsuPCjDBc_5_15", r"vid1\.avi and 1 more bear MSVD's numbers .* youtube_mapping"),
        (["a.rmvb"], "a", r"a\.rmvb has no known ending \(\.mp4, .*\): convert it"),
        (["a_small.mp4"], "a", r"a_small\.mp4 lies where a\.mp4 is expected"),
        (["abc.mp4"], "ABC", r"abc\.mp4 lies where ABC\.mp4 is expected"),
        (["G9zN.mp4"], "G9zN_000179_000189", r"G9zN\.mp4 is a whole video where the clip G9zN_000179_000189"),
        (["video8421.mp4"], "video842", r"1 of 1 videos are not in .*, first video842\.mp4: docs/data\.md"),
    ],
)
def test_hints(tmp_path, files, video, hint):
    result = held(put(tmp_path, *files), video)
    assert result.missing == [video]
    assert re.search(hint, result.hint), result.hint
    assert "\n" not in result.hint


def test_paths_in_a_reason_become_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reason = f"{tmp_path}/corpus/videos/a.mp4 is absent"
    assert relative_to("corpus", reason) == "videos/a.mp4 is absent"
    assert relative_to("other", reason) == reason
