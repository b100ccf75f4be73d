"""Which file belongs to which id, what a folder lacks, and the sentence that explains it."""

import os
import re
import unicodedata

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


@pytest.mark.parametrize("name", ["../a", "a/../b", "./a", "a//b", "/a", "a\\b", "..", ".", "", "a\0"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must be a plain file name"):
        found(tmp_path, name)


def test_links_are_followed_and_names_choose_among_what_lies_there(tmp_path):
    corpus, outside = put(tmp_path / "corpus", "real.mp4"), put(tmp_path / "outside", "a.mp4", "film/b.mkv")
    (corpus / "videos/a.mp4").symlink_to(outside / "videos/a.mp4")
    (corpus / "videos/film").symlink_to(outside / "videos/film")
    (corpus / "videos/loop").symlink_to(corpus)
    assert found(corpus, "a", "b", "real") == ["a.mp4", "film/b.mkv", "real.mp4"]
    assert [path.name for path in list_videos(corpus)] == ["a.mp4", "b.mkv", "real.mp4"]
    with pytest.raises(ValueError, match="correct it"):
        found(corpus, "../../outside/videos/a.mp4")
    assert found(corpus, "outside/videos/a.mp4") == ["outside/videos/a.mp4"]  # absent, and within the folder


def test_links_of_a_cache_whose_files_have_no_ending(tmp_path):
    # As DVC's cache and the hub of Hugging Face lay them: the name is the link's.
    put(tmp_path / "cache", "3f5a")
    snapshot = tmp_path / "snapshots/1"
    snapshot.mkdir(parents=True)
    (snapshot / "a.mp4").symlink_to("../../cache/videos/3f5a")
    assert list(find_videos(snapshot, ["a"]).values()) == [str(snapshot / "a.mp4")]
    assert list_videos(snapshot) == [snapshot / "a.mp4"]


def test_two_links_to_one_file_are_one_video(tmp_path):
    put(tmp_path, "a.mp4", "best/x.txt")
    (tmp_path / "videos/best/a.mp4").symlink_to("../a.mp4")
    assert found(tmp_path, "a") == ["a.mp4"]


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
    find_videos(tmp_path, [str(number) for number in range(50)])
    assert listed == [tmp_path / "videos"]
    find_videos(tmp_path, [str(number) for number in range(100)])  # what is missing may lie elsewhere
    assert listed[1:] == [tmp_path / "videos", tmp_path]


def test_list_videos_for_a_search_without_captions(tmp_path):
    put(tmp_path, "b.mp4", "trip/a.MOV", "notes.txt", ".c.mp4")
    assert list_videos(tmp_path) == [tmp_path / "videos/b.mp4", tmp_path / "videos/trip/a.MOV"]
    assert [path.name for path in list_videos(tmp_path / "videos")] == ["b.mp4", "a.MOV"]
    with pytest.raises(FileNotFoundError, match="holds no video file"):
        list_videos(tmp_path / "nowhere")


# Folders as people have them.


def own(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def chosen(folder, *names):
    return [os.path.relpath(path, folder) for path in find_videos(folder, names).values()]


def test_videos_in_sub_folders_only(tmp_path):
    own(tmp_path, "captions.csv", "trip/a.mp4", "home/kitchen/b.MOV")
    assert chosen(tmp_path, "a", "b") == ["trip/a.mp4", "home/kitchen/b.MOV"]
    assert [path.name for path in list_videos(tmp_path)] == ["b.MOV", "a.mp4"]
    result = inventory(pd.DataFrame({"path": find_videos(tmp_path, ["a", "c"]).values()}), tmp_path)
    assert result[:4] == (2, 1, ["c"], ["home/kitchen/b.MOV"])
    assert result.hint.startswith("1 of 2 videos are not in ")


def test_an_unrelated_folder_of_videos_beside_clips(tmp_path):
    own(tmp_path, "a.mp4", "b.mp4", "videos/other.mp4")
    assert chosen(tmp_path, "a", "b") == ["a.mp4", "b.mp4"]
    assert [path.name for path in list_videos(tmp_path)] == ["a.mp4", "b.mp4", "other.mp4"]
    result = inventory(pd.DataFrame({"path": find_videos(tmp_path, ["a", "b"]).values()}), tmp_path)
    assert result == (2, 2, [], ["other.mp4"], "")


def test_what_lies_in_videos_comes_before_copies_beside_it(tmp_path):
    own(tmp_path, "videos/a.mp4", "small/a.mp4", "small/b.mp4")
    assert chosen(tmp_path, "a", "b") == ["videos/a.mp4", "small/b.mp4"]


@pytest.mark.parametrize(
    "folder", [".Trash-1000/files", ".git/annex", "trip/.thumbnails", "$RECYCLE.BIN/S-1", "@eaDir"]
)
def test_hidden_folders_and_bins_are_not_searched(tmp_path, folder):
    own(tmp_path, "a.mp4", f"{folder}/a.mp4", f"{folder}/gone.mp4")
    assert chosen(tmp_path, "a", "gone") == ["a.mp4", "gone.mp4"]
    assert list_videos(tmp_path) == [tmp_path / "a.mp4"]


def test_a_folder_of_data_may_itself_be_hidden(tmp_path):
    own(tmp_path / ".cache/corpus", "a.mp4")
    assert list_videos(tmp_path / ".cache/corpus") == [tmp_path / ".cache/corpus/a.mp4"]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_are_compared_in_one_form_of_unicode(tmp_path, on_disk, written):
    file, name = (unicodedata.normalize(form, "Café één") for form in (on_disk, written))
    own(tmp_path, f"{file}.mp4")
    assert find_videos(tmp_path, [name]) == {name: str(tmp_path / f"{file}.mp4")}


def test_a_name_may_have_its_ending_and_its_folder(tmp_path):
    own(tmp_path, "IMG_1.MOV", "IMG_1.MP4", "cam1/c.mp4", "cam2/c.mp4", "c.mp4")
    names = ["IMG_1.MOV", "IMG_1.MP4", "cam1/c.mp4", "cam2/c", "c.mp4"]
    assert chosen(tmp_path, *names) == ["IMG_1.MOV", "IMG_1.MP4", "cam1/c.mp4", "cam2/c.mp4", "c.mp4"]
    with pytest.raises(
        ValueError, match=r"for video 'IMG_1' and holds IMG_1\.MOV and IMG_1\.MP4: .* folder and ending"
    ):
        chosen(tmp_path, "IMG_1")
    own(tmp_path / "moved", "videos/cam1/c.mp4")
    assert chosen(tmp_path / "moved", "videos/cam1/c.mp4") == ["videos/cam1/c.mp4"]


def test_an_ending_that_the_file_has_not_is_forgiven_where_nothing_else_is_meant(tmp_path):
    own(tmp_path, "a.mov", "b.mp4")
    assert chosen(tmp_path, "a.mp4") == ["a.mov"]
    assert chosen(tmp_path, "b.mov", "b.mp4") == ["b.mov", "b.mp4"]  # the first is absent
    assert chosen(tmp_path, "b.mov", "b.avi") == ["b.mov", "b.avi"]  # which of the two it would be is not known


def test_blanks_around_a_name_do_not_count(tmp_path):
    own(tmp_path, "a .mp4", " b.mp4")
    assert chosen(tmp_path, "a", "b ") == ["a .mp4", " b.mp4"]


@pytest.mark.parametrize("ending", [".gif", ".GIF", ".ts", ".vob", ".mpe", ".asf", ".f4v", ".m2t", ".qt", ".mxf"])
def test_common_endings(tmp_path, ending):
    own(tmp_path, f"a{ending}")
    assert chosen(tmp_path, "a") == [f"a{ending}"]


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
