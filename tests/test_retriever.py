"""Search from files: what a folder of good and bad videos gives, and pages that carry the clips they show."""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from glscl.data.decoding import VideoError, decode_frames, read_header
from glscl.report import clips
from glscl.report.clips import preview
from glscl.retriever import Retriever
from glscl.video_index import WHOLE, Filter
from tests.browser import Browser
from tests.clips import grey, write_clip

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def zero_shot(bundled):
    """Builds a retriever of the bundled CLIP without training, 4 frames per video as in the corpus of the tests."""
    return lambda: Retriever.from_clip(bundled / "tiny-clip", frames=4, words=24)


@torch.inference_mode()
def test_from_clip_ranks_by_the_cosine_with_the_mean_frame(zero_shot, corpus):
    """Against CLIP called by hand, with its own image processor."""
    test, clip, processor = corpus["captions"].query("split == 'test'"), corpus["clip"], corpus["processor"]
    retriever = zero_shot()
    retriever.index(test["path"].tolist())
    for sentence, path in zip(test["text"], test["path"], strict=True):
        pixels = processor.images(list(decode_frames(path, 4, processor.size)), return_tensors="pt").pixel_values
        frames = normalize(clip.get_image_features(pixels).pooler_output, dim=-1)
        tokens = processor.tokenizer(sentence, truncation=True, max_length=24, return_tensors="pt")
        text = clip.get_text_features(**tokens).pooler_output
        expected = (normalize(frames.mean(0), dim=0) @ normalize(text[0], dim=0)).item()
        assert dict(retriever.search(sentence, k=len(test)))[Path(path)] == pytest.approx(expected, abs=1e-4)


def test_unreadable_files_are_named_and_the_others_are_found(zero_shot, corpus, tmp_path):
    good = corpus["captions"].query("split == 'test'")["path"].tolist()[:40]
    (tmp_path / "text.mp4").write_text("no video")
    mixed = [tmp_path / "text.mp4", *good[:2], str(tmp_path / "absent.mp4"), *good[2:]]
    retriever = zero_shot()
    with pytest.warns(UserWarning, match=r"^2 of 14 files .*not indexed: .*text\.mp4 .*; .*absent\.mp4 is absent"):
        retriever.index(mixed)
    assert [path.name for path in retriever.unreadable] == ["text.mp4", "absent.mp4"]
    assert list(map(str, retriever.paths)) == good
    alone = zero_shot()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone.index(good)
    assert retriever.search("a red circle", k=12) == alone.search("a red circle", k=12)


def test_batches_do_not_change_what_is_found(zero_shot, corpus, monkeypatch):
    good = corpus["captions"].query("split == 'test'")["path"].tolist()
    whole, parts = zero_shot(), zero_shot()
    whole.index(good)
    monkeypatch.setattr("glscl.retriever.BATCH", 5)
    parts.index(good)
    for (one, first), (other, second) in zip(whole.search("a star", 12), parts.search("a star", 12), strict=True):
        assert one == other
        assert first == pytest.approx(second, abs=1e-5)


def test_nothing_readable_and_nothing_at_all(zero_shot, tmp_path):
    retriever = zero_shot()
    with pytest.raises(VideoError, match=r"^1 of 1 files .*absent\.mp4"):
        retriever.index([tmp_path / "absent.mp4"])
    with pytest.raises(ValueError, match="at least one video file"):
        retriever.index([])
    with pytest.raises(VideoError, match=r"absent\.mp4 is absent"):
        retriever.embed_videos([tmp_path / "absent.mp4"])
    assert retriever.paths == []
    with pytest.raises(ValueError, match="nothing is indexed yet"):
        retriever.search("a star", k=1)


def copies(corpus, folder, count=6):
    """The first test clips, under names of their own in two folders, one hidden file and one that is no video."""
    (folder / "inner").mkdir(parents=True)
    for number, path in enumerate(corpus["captions"].query("split == 'test'")["path"].drop_duplicates()[:count]):
        shutil.copy(path, folder / ("inner" if number % 2 else "") / f"{number}.mp4")
    (folder / ".hidden.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no video")
    return folder


def same(found, expected):
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_a_folder_an_iterable_and_a_file_and_each_file_once(zero_shot, corpus, tmp_path, monkeypatch):
    folder = copies(corpus, tmp_path / "videos")
    retriever = zero_shot()
    assert retriever.index(str(folder)) == (6, 0, 0, 0, 0)
    assert {path.name for path in retriever.paths} == {f"{number}.mp4" for number in range(6)}
    assert retriever.index([folder, folder / "0.mp4", folder / "inner/../0.mp4"]) == (0, 0, 6, 0, 0)
    monkeypatch.chdir(folder)
    (tmp_path / "link.mp4").symlink_to(folder / "2.mp4")
    alone = zero_shot()
    assert alone.index(path for path in ["0.mp4", folder / "0.mp4", "2.mp4", tmp_path / "link.mp4"]).added == 2
    assert alone.paths == [folder / "0.mp4", folder / "2.mp4"]


def test_linked_folders_are_entered_once(zero_shot, corpus, tmp_path):
    folder = copies(corpus, tmp_path / "videos", 2)
    (folder / "inner/loop").symlink_to(folder)
    (tmp_path / "link").symlink_to(folder)
    assert zero_shot().index(tmp_path / "link").added == 2


def test_a_search_gives_what_there_is_and_takes_several_sentences(zero_shot, corpus, tmp_path):
    retriever = zero_shot()
    retriever.index(copies(corpus, tmp_path / "videos"))
    one, other = (retriever.search(sentence, np.int64(50)) for sentence in ("a star", "a red circle"))
    assert len(one) == 6
    first, second = retriever.search(["a star", "a red circle"], 3)
    same(first, one[:3])
    same(second, other[:3])
    for wrong in (0, -1, 2.5, "3"):
        with pytest.raises(ValueError, match=r"^k must be"):
            retriever.search("a star", wrong)


def test_an_index_is_loaded_as_it_was_and_goes_on(zero_shot, corpus, tmp_path, bundled):
    folder = copies(corpus, tmp_path / "videos")
    retriever = zero_shot()
    retriever.index([folder / "0.mp4", folder / "inner/1.mp4"])
    retriever.save(tmp_path / "index")
    assert retriever.index(folder).added == 4
    loaded = Retriever.load(tmp_path / "index")
    assert loaded.paths == retriever.paths
    same(loaded.search("a star", 6), retriever.search("a star", 6))
    plain = zero_shot()
    plain.index(loaded.paths)
    same(loaded.search("a star", 6), plain.search("a star", 6))
    assert loaded.index(folder) == (0, 0, 6, 0, 0)
    for entry in loaded.entries():
        assert entry.size == Path(entry.path).stat().st_size
        assert entry.hash == hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
        assert entry.seconds == pytest.approx(read_header(entry.path).seconds)


def test_only_what_has_changed_is_decoded(zero_shot, corpus, tmp_path, monkeypatch):
    folder = copies(corpus, tmp_path / "videos")
    retriever = zero_shot()
    retriever.index(folder)
    before = {path.name: score for path, score in retriever.search("a star", 6)}
    decoded = []
    monkeypatch.setattr(
        "glscl.retriever.decode_frames",
        lambda path, *size: decoded.append(Path(path).name) or decode_frames(path, *size),
    )
    (folder / "0.mp4").touch()
    (folder / "2.mp4").rename(folder / "inner/moved.mp4")
    shutil.copy(folder / "inner/3.mp4", folder / "4.mp4")
    (folder / "inner/5.mp4").write_text("broken")
    shutil.copy(corpus["captions"].query("split == 'train'")["path"].iloc[0], folder / "new.mp4")
    with pytest.warns(UserWarning, match=r"^1 of 7 files .*5\.mp4"):
        assert retriever.index(folder, prune=True) == (2, 3, 2, 1, 1)
    assert decoded == ["new.mp4"]
    after = {path.name: score for path, score in retriever.search("a star", 9)}
    assert after.keys() == {"0.mp4", "1.mp4", "3.mp4", "4.mp4", "moved.mp4", "new.mp4"}
    assert after["moved.mp4"] == pytest.approx(before["2.mp4"], abs=1e-6)
    assert [after["4.mp4"], after["3.mp4"]] == pytest.approx(2 * [before["3.mp4"]], abs=1e-6)
    shutil.copy(folder / "new.mp4", folder / "inner/5.mp4")
    assert retriever.index(folder) == (0, 1, 6, 0, 0)
    assert retriever.unreadable == {}


def test_two_files_that_exchange_their_content(zero_shot, corpus, tmp_path):
    folder = copies(corpus, tmp_path / "videos", 3)
    retriever = zero_shot()
    retriever.index(folder)
    before = {path.name: score for path, score in retriever.search("a star", 6)}
    (folder / "0.mp4").rename(tmp_path / "kept.mp4")
    (folder / "2.mp4").rename(folder / "0.mp4")
    (tmp_path / "kept.mp4").rename(folder / "2.mp4")
    retriever.index(folder)
    after = {path.name: score for path, score in retriever.search("a star", 6)}
    expected = {"0.mp4": before["2.mp4"], "1.mp4": before["1.mp4"], "2.mp4": before["0.mp4"]}
    assert after == pytest.approx(expected, abs=1e-6)


def test_what_is_gone_is_kept_without_prune_and_where_the_folder_is_gone(zero_shot, corpus, tmp_path):
    folder = copies(corpus, tmp_path / "videos", 3)
    retriever = zero_shot()
    retriever.index(folder)
    (folder / "0.mp4").unlink()
    assert retriever.index(folder) == (0, 0, 2, 0, 1)
    assert len(retriever.paths) == 3
    folder.rename(tmp_path / "unplugged")
    with pytest.warns(UserWarning, match="videos is absent"):
        retriever.index(folder, prune=True)
    assert len(retriever.paths) == 3
    (tmp_path / "unplugged").rename(folder)
    assert retriever.index(folder, prune=True).gone == 1
    assert len(retriever.paths) == 2


def test_another_model_refuses_the_index(zero_shot, bundled, tmp_path, corpus):
    retriever = zero_shot()
    retriever.index(copies(corpus, tmp_path / "videos", 1))
    retriever.save(tmp_path / "index")
    Retriever.from_clip(bundled / "tiny-clip", frames=4, words=24).model.save_pretrained(tmp_path / "other")
    retriever.processor.save_pretrained(tmp_path / "other")
    assert Retriever.load(tmp_path / "index").paths == retriever.paths
    with pytest.raises(ValueError, match=r"index was made by .*, and .*other holds .*index the videos again\.$"):
        Retriever.load(tmp_path / "index", tmp_path / "other")
    with pytest.raises(ValueError, match="an index needs a folder of its own"):
        retriever.save(tmp_path / "videos")
    with pytest.raises(FileNotFoundError, match="holds no index"):
        Retriever.load(tmp_path / "videos")


def test_codes_change_nothing_that_is_found(zero_shot, corpus, tmp_path, monkeypatch):
    """With codes for every shard: after a save, a change, a damage, and in another process."""
    monkeypatch.setattr("glscl.retriever.CODED", 1)
    folder = copies(corpus, tmp_path / "videos", 12)
    retriever, plain = zero_shot(), zero_shot()
    retriever.index(folder / "inner")
    retriever.save(tmp_path / "index")
    retriever.index(folder)
    plain.index(folder)
    same(retriever.search("a star", 4), plain.search("a star", 4))
    (codes,) = (tmp_path / "index").glob("bounds-*.safetensors")
    loaded = Retriever.load(tmp_path / "index")
    for one, other in zip(*(r.search(["a star", "a red circle"], 4) for r in (loaded, plain)), strict=True):
        same(one, other)
    assert loaded._open().codes
    codes.write_bytes(codes.read_bytes()[:-1] + b"?")
    damaged = Retriever.load(tmp_path / "index")
    same(damaged.search("a star", 4), plain.search("a star", 4))
    assert not damaged._open().codes
    (folder / "0.mp4").unlink()
    for one in (damaged, plain):
        one.index(folder, prune=True)
    same(damaged.search("a star", 20), plain.search("a star", 20))
    assert damaged._open().codes


def test_a_first_stage_follows_the_index(zero_shot, corpus, tmp_path, monkeypatch):
    """All videos as candidates find what exact search finds: at first, with a filter, and after each change."""
    monkeypatch.setattr("glscl.retriever.LISTED", 1)
    folder = copies(corpus, tmp_path / "videos", 12)
    retriever = zero_shot()
    retriever.save(tmp_path / "index")

    def check():
        inner = Filter(folder=folder / "inner")
        for where in (Filter(), inner):
            found = retriever.search(["a star", "a red circle"], 20, where, candidates=99)
            for one, other in zip(found, retriever.search(["a star", "a red circle"], 20, where), strict=True):
                same(one, other)
        assert {path.parent.name for path, _ in found[0]} == {"inner"}

    assert retriever.index(folder / "inner").added == 6
    assert retriever._graph().shards == {0}
    check()
    assert len(retriever.search("a star", 6, candidates=6)) == 6
    assert len(retriever.search("a star", 2, candidates=1)) == 2
    monkeypatch.setattr("glscl.retriever.BEHIND", 2)
    retriever.index(folder)
    assert retriever._graph().shards == {0}  # the graph lags behind, and nothing is lost
    check()
    monkeypatch.undo()
    monkeypatch.setattr("glscl.retriever.LISTED", 1)
    (folder / "0.mp4").unlink()
    retriever.index(folder, prune=True)
    assert not retriever._graph().shards & {0}
    check()
    retriever._index.codes(WHOLE).write_text("damaged")
    retriever = Retriever.load(tmp_path / "index")
    assert retriever._graph() is None
    same(retriever.search("a star", 5, candidates=5), retriever.search("a star", 5))
    with pytest.raises(ValueError, match="candidates must be a number of at least 0"):
        retriever.search("a star", candidates=-1)


def test_shares_are_all_files_once_by_their_paths(zero_shot, corpus, tmp_path):
    folder, whole = copies(corpus, tmp_path / "videos", 12), set()
    for part in (1, 2, 3):
        retriever = zero_shot()
        retriever.index(folder, share=(part, 3))
        assert all(zlib.crc32(bytes(path)) % 3 == part - 1 for path in retriever.paths)
        assert not whole & set(retriever.paths)
        whole |= set(retriever.paths)
    assert len(whole) == 12
    for wrong in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(ValueError, match="a share must be from 1 to the number of shares"):
            zero_shot().index(folder, share=wrong)


def test_what_is_published_is_found_at_its_address(zero_shot, corpus, tmp_path):
    pytest.importorskip("pymilvus")
    folder, address = copies(corpus, tmp_path / "videos", 8), str(tmp_path / "videos.db")
    retriever = zero_shot()
    retriever.index(folder)
    assert retriever.publish(address).written == 8
    there = Retriever.load(address)
    for where in (Filter(), Filter(folder=folder / "inner")):
        found = there.search(["a star", "a red circle"], 5, where)
        for one, other in zip(found, retriever.search(["a star", "a red circle"], 5, where), strict=True):
            assert [path for path, _ in one] == [path for path, _ in other]
            assert [score for _, score in one] == pytest.approx([score for _, score in other], abs=1e-3)
    assert there.search("a star", 5, Filter(shortest=1e9)) == []
    for call in (lambda: there.index(folder), lambda: there.save(tmp_path / "other"), lambda: there.paths):
        with pytest.raises(ValueError, match=r"videos\.db can only be searched; index into a folder, and publish"):
            call()
    with pytest.raises(ValueError, match=r"an address is http://host:19530 or a file that ends in \.db, got"):
        retriever.publish(str(tmp_path / "folder"))


@pytest.mark.slow
def test_an_index_survives_kills(zero_shot, corpus, tmp_path, bundled):
    """A process that indexes is killed at five moments; what it leaves can be searched, and the last run ends it."""
    folder = copies(corpus, tmp_path / "videos", 12)
    retriever = zero_shot()
    retriever.save(tmp_path / "index")
    program = (
        "import sys; import glscl.retriever as r; r.BATCH, r.EVERY = 1, 0.0\n"
        "print('ready', flush=True); r.Retriever.load(sys.argv[1]).index(sys.argv[2])"
    )
    for moment in (0.0, 0.3, 0.6, 0.9, 1.2):
        command = [sys.executable, "-c", program, tmp_path / "index", folder]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        running.stdout.readline()
        time.sleep(moment)
        running.kill()
        running.wait()
        left = Retriever.load(tmp_path / "index")
        assert len(left.paths) == 0 or len(left.search("a star", 99)) == len(left.paths)
    last = Retriever.load(tmp_path / "index")
    changes = last.index(folder)
    assert changes.added + changes.unchanged == 12
    retriever = zero_shot()
    retriever.index(folder)
    assert dict(last.search("a star", 12)) == pytest.approx(dict(retriever.search("a star", 12)), abs=1e-3)
    assert len(list((tmp_path / "index").glob("*shard*"))) == 1


@pytest.mark.parametrize(
    ("name", "codec", "frames", "seconds", "options"),
    [
        ("short.avi", "mpeg4", 20, 2.0, {}),
        ("long.webm", "libvpx-vp9", 200, 8.0, {}),
        ("one.mp4", "libx264", 1, 0.1, {}),
        ("unknown.webm", "libvpx-vp9", 30, 3.0, {"live": "1"}),  # states no duration
    ],
)
def test_a_preview_shows_the_whole_video_in_order_within_8_seconds(tmp_path, name, codec, frames, seconds, options):
    levels = np.linspace(20, 230, frames)
    content = preview(write_clip(tmp_path / name, levels, codec, options=options))
    assert (read_header(tmp_path / name).seconds == 0) == ("live" in options)
    assert preview(tmp_path / name) == content
    (tmp_path / "copy.mp4").write_bytes(content)
    with av.open(str(tmp_path / "copy.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert len(container.streams) == 1
        assert float(stream.duration * stream.time_base) == pytest.approx(seconds, rel=0.05)
        shown = [frame.to_ndarray(format="gray").mean() for frame in container.decode(stream)]
    assert shown == sorted(shown)
    assert shown[0] == pytest.approx(levels[0], abs=8)
    assert shown[-1] == pytest.approx(levels[-1], abs=8)


def test_clips_are_embedded_up_to_the_limit_and_text_is_escaped(tmp_path):
    paths = [write_clip(tmp_path / f"{k}.mp4", grey(10)) for k in range(3)]
    size = len(base64.b64encode(preview(paths[0])))
    found = {HOSTILE: [(path, HOSTILE) for path in paths], "a & b": [(paths[0], "last")]}
    page = clips.clips_html(found, 2.5 * size / 1e6)
    assert page.count("<video") == 2
    assert page.count("not shown: the clips of this page are limited to") == 2
    assert HOSTILE not in page
    assert "<h3>a &amp; b</h3>" in page
    first = re.search(r'src="data:video/mp4;base64,([^"]*)"', page)[1]
    assert base64.b64decode(first) == preview(paths[0])
    assert len(clips.clips_html(found, 0)) < 3000


@pytest.mark.slow
def test_a_browser_plays_the_clips_offline(tmp_path):
    path = write_clip(tmp_path / "clip.avi", grey(20), "mpeg4")
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><body>{clips.clips_html({HOSTILE: [(path, HOSTILE)]}, 4)}</body>")
    with Browser() as browser:
        browser.open(page, settle=0.5)
        assert browser.run("window.hacked") is None
        assert browser.errors == []
        assert browser.external_requests() == []
        browser.until("document.querySelector('video').currentTime > 0.2")
        assert browser.run("document.querySelector('video').videoWidth") == 224


def test_more_words_than_clip_reads_are_refused(bundled):
    with pytest.raises(ValueError, match=r"reads at most 64 tokens of a text, got words = 65; lower words"):
        Retriever.from_clip(bundled / "tiny-clip", frames=4, words=65)
