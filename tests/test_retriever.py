"""Search from files: what a folder of good and bad videos gives, and pages that carry the clips they show."""

import base64
import re
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from glscl.data.decoding import VideoError, decode_frames
from glscl.report import clips
from glscl.report.clips import preview
from glscl.retriever import Retriever
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
    with pytest.raises(ValueError, match="at most the 0 indexed videos"):
        retriever.search("a star", k=1)


@pytest.mark.parametrize(
    ("name", "codec", "frames", "seconds"),
    [("short.avi", "mpeg4", 20, 2.0), ("long.webm", "libvpx-vp9", 200, 8.0), ("one.mp4", "libx264", 1, 0.1)],
)
def test_a_preview_shows_the_whole_video_in_order_within_8_seconds(tmp_path, name, codec, frames, seconds):
    levels = np.linspace(20, 230, frames)
    content = preview(write_clip(tmp_path / name, levels, codec))
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
        browser.open(page, settle=1.5)
        assert browser.run("window.hacked") is None
        assert browser.errors == []
        assert browser.external_requests() == []
        assert browser.run("document.querySelector('video').currentTime") > 0.2, "the clip does not play"
        assert browser.run("document.querySelector('video').videoWidth") == 224
