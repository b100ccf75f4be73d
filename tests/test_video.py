"""Frames from made-up and real files, and the frame store: right frames, every fault, kills and full disks."""

import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from glscl import video as video_module
from glscl.video import FrameStore, VideoError, decode_frames, sample_times, write_store

REAL = Path(__file__).parents[1].parent / "shared/realdata"
CODECS = [("libx264", "clip.mp4"), ("mpeg4", "clip.avi"), ("libvpx-vp9", "clip.webm"), ("mpeg4", "clip.mkv")]


def grey(count):
    """Return `count` levels that stay 10 apart, so that no lossy codec confuses two neighbours."""
    return [20 + 10 * (7 * k % 22) for k in range(count)]


def write_clip(path, images, codec="libx264", rate=10, times=None, pixels="yuv420p", options=None, sound=False):
    """Write grey levels or RGB arrays as a video; `times` are the milliseconds of a variable frame rate."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options={"b": "4M"})
        images = [np.full((48, 64, 3), image, np.uint8) if np.isscalar(image) else image for image in images]
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if sound:
            container.add_stream("aac", rate=16000, layout="mono")
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            write_sound(container, container.streams.audio[0], 8)
    return path


def write_sound(container, stream, chunks):
    for index in range(chunks):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 1024 * index, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def levels(frames):
    return [round(float(frame.mean())) for frame in frames]


def table(*paths):
    rows = [(f"v{k}", str(path), np.nan, np.nan) for k, path in enumerate(paths)]
    return pd.DataFrame(rows, columns=["video", "path", "start", "end"])


def patch(path, box, offset, value, form=">I"):
    """Overwrite a number `offset` bytes after every occurrence of a box's name."""
    data, at = bytearray(path.read_bytes()), -1
    while (at := data.find(box, at + 1)) >= 0:
        struct.pack_into(form, data, at + offset, value)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", grey(20))


def test_sample_times_are_centres_of_equal_segments():
    np.testing.assert_allclose(sample_times(6.0, 3), [1.0, 3.0, 5.0])
    np.testing.assert_allclose(sample_times(5.0, 1), [2.5])


@pytest.mark.parametrize(("codec", "name"), CODECS)
def test_oracle_the_frame_on_display_at_each_sample_time(tmp_path, codec, name):
    path = write_clip(tmp_path / name, grey(20), codec)
    frames = decode_frames(path, 4, 16)  # 2 s; samples at 0.25, 0.75, 1.25, 1.75 s
    assert (frames.shape, frames.dtype) == ((4, 16, 16, 3), np.uint8)
    assert levels(frames) == pytest.approx([grey(20)[k] for k in (2, 7, 12, 17)], abs=4)


@pytest.mark.parametrize(("codec", "name"), CODECS)
def test_every_frame_comes_in_order_and_none_twice(tmp_path, codec, name):
    path = write_clip(tmp_path / name, grey(20), codec)
    assert levels(decode_frames(path, 20, 16)) == pytest.approx(grey(20), abs=4)
    assert levels(decode_frames(path, 50, 16)) == pytest.approx(grey(20), abs=4)
    assert levels(decode_frames(path, 1, 16)) == pytest.approx([grey(20)[10]], abs=4)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_frame_rate_goes_by_time_and_not_by_count(tmp_path, name):
    # A frame stands until the next: samples at 0.5, 1.5 and 2.5 s of about 3 s.
    path = write_clip(tmp_path / name, grey(13), times=[*range(0, 1000, 100), 1000, 2000, 2900])
    assert levels(decode_frames(path, 3, 16)) == pytest.approx([grey(13)[k] for k in (5, 10, 11)], abs=4)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(1.0, 2.0, [12, 17]), (None, 1.0, [2, 7]), (1.0, None, [12, 17]), (np.nan, 99.0, [5, 15]), (0.5, 0.7, [5, 6])],
)
def test_a_part_of_the_file(clip, start, end, expected):
    found = levels(decode_frames(clip, 2, 16, start, end))
    assert found == pytest.approx([grey(20)[k] for k in expected], abs=4)


@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (50, 50), (7, 33)])
def test_shortest_side_is_resized_and_the_centre_cut(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "clip.mkv", [image] * 2, "ffv1", pixels="bgr0")
    size = 24
    height, width = (round(side * size / min(shape)) for side in shape)
    whole = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    np.testing.assert_array_equal(decode_frames(path, 1, size)[0], whole[top : top + size, left : left + size])


def test_rotation_of_the_container_is_applied(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32] = 255  # top left
    path = write_clip(tmp_path / "clip.mp4", [image] * 3)
    # QuickTime: x' = a x + c y, y' = b x + d y; a quarter clockwise takes the top left to the top right.
    for offset, value in ((44, 0), (48, 0x10000), (56, -0x10000), (60, 0)):
        patch(path, b"tkhd", offset, value, ">i")
    frame = decode_frames(path, 1, 64)[0]
    assert frame[8:24, 40:56].mean() > 240
    assert frame[8:24, 8:24].mean() < 15


@pytest.mark.parametrize(("box", "offset"), [(b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24), (b"mdhd", None)])
def test_a_claimed_duration_places_no_sample(clip, tmp_path, box, offset):
    path = tmp_path / "clip.mp4"
    shutil.copy(clip, path)
    for name, place in [(box, offset)] if offset else [(b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)]:
        patch(path, name, place, 700)
    np.testing.assert_array_equal(decode_frames(path, 4, 16), decode_frames(clip, 4, 16))


def test_a_wrong_frame_count_in_the_header_is_harmless(tmp_path):
    path = write_clip(tmp_path / "clip.avi", grey(20), "mpeg4")
    honest = decode_frames(path, 4, 16)
    patch(path, b"avih", 24, 3, "<I")  # total frames
    patch(path, b"strh", 40, 3, "<I")  # length
    np.testing.assert_array_equal(decode_frames(path, 4, 16), honest)


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx264", "clip.mp4", None),
        ("libx264", "clip.mp4", {"movflags": "faststart"}),
        ("mpeg4", "clip.avi", None),
        ("libvpx-vp9", "clip.webm", None),
    ],
)
def test_a_truncated_file_is_refused(tmp_path, codec, name, options):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / name, noise, codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match=rf"{name} (is truncated or damaged|cannot be read as a video).*get"):
        decode_frames(path, 4, 16)


def test_a_file_that_lacks_its_last_frames_only_is_used(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "clip.mkv", noise, "mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: int(0.93 * len(data))])
    assert len(decode_frames(path, 4, 16)) == 4


def test_sound_beside_the_pictures_changes_nothing(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey(20), sound=True)
    assert levels(decode_frames(path, 2, 16)) == pytest.approx([grey(20)[5], grey(20)[15]], abs=4)


def copy_clip(source, path, cut=0.0, title="none"):
    """Copy a clip without encoding; `cut` seconds stay in the file and are hidden by an edit list."""
    with av.open(str(source)) as given, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        target.metadata["title"] = title
        stream = target.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.pts -= int(cut / packet.time_base)
                packet.dts -= int(cut / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    return path


def test_frames_hidden_by_an_edit_list_do_not_count(tmp_path, clip):
    path = copy_clip(clip, tmp_path / "clip.mp4", cut=1.4)
    assert levels(decode_frames(path, 3, 16)) == pytest.approx([grey(20)[k] for k in (15, 17, 19)], abs=4)


def test_titles_in_another_encoding_do_not_matter(tmp_path, clip):
    path = copy_clip(clip, tmp_path / "clip.mp4", title="TITLE")
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"caf\xe9!"))
    np.testing.assert_array_equal(decode_frames(path, 4, 16), decode_frames(clip, 4, 16))


def make_unfit(path, kind):
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("<html>404 Not Found</html>" * 50)
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            write_sound(container, container.add_stream("aac", rate=16000, layout="mono"), 8)
    return path


UNFIT = {"absent": "is absent", "empty": "0 bytes", "folder": "is a folder", "text": "be read", "sound": "sound alone"}


@pytest.mark.parametrize(("kind", "message"), UNFIT.items())
def test_unfit_files_are_named_with_the_remedy(tmp_path, kind, message):
    path = make_unfit(tmp_path / "clip.mp4", kind)
    with pytest.raises(VideoError, match=rf"clip\.mp4 .*{message}.*(put|get|correct)") as caught:
        decode_frames(path, 4, 16)
    assert "\n" not in str(caught.value)


def test_damaged_bytes_give_frames_or_a_video_error(clip, tmp_path):
    random, path, data = np.random.default_rng(0), tmp_path / "clip.mp4", clip.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 60)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert 1 <= len(decode_frames(path, 4, 16)) <= 4
        except VideoError:
            refused += 1
    assert 0 < refused < 150


def test_wrong_arguments(clip):
    for arguments in ((0, 16), (4, 0), (4, 16, 2.0, 1.0), (4, 16, -1.0, None)):
        with pytest.raises(ValueError, match="needs 0 <= start < end"):
            decode_frames(clip, *arguments)
    with pytest.raises(VideoError, match=r"ends at 2\.00 s, before the start 5\.00 s"):
        decode_frames(clip, 4, 16, 5.0, 6.0)


# The store.


def test_store_holds_what_decode_gives(tmp_path, clip):
    short = write_clip(tmp_path / "short.mp4", grey(3))
    videos = pd.concat([table(clip, short), pd.DataFrame([("part", str(clip), 1.0, 2.0)], columns=table().columns)])
    report = write_store(tmp_path / "deep/store", videos, 4, 16, workers=1, progress=False)
    store = FrameStore(tmp_path / "deep/store")
    assert (report["videos"], report["missing"], store.videos) == (3, [], ["v0", "v1", "part"])
    assert report["bytes"] == sum(path.stat().st_size for path in store.folder.iterdir())
    assert (store.frames.shape, store.frames.dtype) == ((3, 4, 16, 16, 3), np.uint8)
    assert isinstance(store.frames, np.memmap)
    assert not store.frames.flags.writeable
    assert (store.counts.tolist(), store.mask.sum(1).tolist()) == ([4, 3, 4], [4, 3, 4])
    np.testing.assert_array_equal(store.frames[0], decode_frames(clip, 4, 16))
    np.testing.assert_array_equal(store.frames[2], decode_frames(clip, 4, 16, 1.0, 2.0))
    np.testing.assert_array_equal(store.frames[1, :3], decode_frames(short, 4, 16))
    assert not store.frames[1, 3].any()
    store.verify()


def test_processes_write_the_same_bytes_in_the_order_of_the_table(tmp_path, clip, capfd):
    paths = [clip, write_clip(tmp_path / "a.mp4", grey(5)), write_clip(tmp_path / "b.mp4", grey(9))] * 5
    write_store(tmp_path / "one", table(*paths), 4, 16, workers=1, progress=False)
    assert capfd.readouterr().err == ""
    write_store(tmp_path / "two", table(*paths), 4, 16, workers=2)
    assert "15/15" in capfd.readouterr().err
    for name in ("frames.npy", "videos.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_unreadable_videos_are_counted_against_the_budget(tmp_path, clip):
    text = make_unfit(tmp_path / "text.mp4", "text")
    videos, folder = table(clip, tmp_path / "absent.mp4", text, clip), tmp_path / "store"
    with pytest.raises(VideoError, match=r"^2 of 4 .*max_missing allows 1.*raise max_missing; .*'v1': .*absent\.mp4"):
        write_store(folder, videos, 4, 16, max_missing=1, workers=1, progress=False)
    assert os.listdir(tmp_path) == ["text.mp4"]
    report = write_store(folder, videos, 4, 16, max_missing=2, workers=1, progress=False)
    assert report["videos"] == 2
    assert [video for video, _ in report["missing"]] == ["v1", "v2"]
    assert "cannot be read" in report["missing"][1][1]
    store = FrameStore(folder)
    assert (store.videos, len(store.frames)) == (["v0", "v3"], 2)
    store.verify()
    np.testing.assert_array_equal(store.frames[1], decode_frames(clip, 4, 16))


def test_no_readable_video_at_all(tmp_path):
    with pytest.raises(VideoError, match="none of the 1 videos is readable"):
        write_store(tmp_path / "s", table(make_unfit(tmp_path / "t.mp4", "text")), 4, 16, 1, workers=1, progress=False)


class Crash(str):
    """A path that ends the process which receives it, as a crash in a decoder or the out-of-memory killer does."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_crash_of_a_decoding_process_is_an_error_and_no_hang(tmp_path, clip):
    videos = table(clip, clip).astype(object)
    videos.at[1, "path"] = Crash(clip)
    with pytest.raises(VideoError, match="a decoding process died"):
        write_store(tmp_path / "store", videos, 4, 16, workers=2, progress=False)
    assert os.listdir(tmp_path) == []


def test_a_store_replaces_a_store_and_nothing_else(tmp_path, clip):
    folder = tmp_path / "store"
    write_store(folder, table(clip), 4, 16, workers=1, progress=False)
    write_store(folder, table(clip, clip), 2, 8, workers=1, progress=False)
    assert FrameStore(folder).frames.shape == (2, 2, 8, 8, 3)
    assert os.listdir(tmp_path) == ["store"]
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other things than a frame store"):
        write_store(folder, table(clip), 4, 16, workers=1, progress=False)


@pytest.mark.parametrize("videos", [table(), pd.concat([table("a.mp4"), table("b.mp4")])])
def test_the_table_names_every_video_once(tmp_path, videos):
    with pytest.raises(ValueError, match="a table with each video once"):
        write_store(tmp_path / "store", videos, 4, 16)


def test_full_disk_before_the_start_and_in_the_middle(tmp_path, clip, monkeypatch):
    folder = tmp_path / "store"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10_000, 9_000, 1_000))
        with pytest.raises(OSError, match=r"store is too small: the store needs 6,144 bytes"):
            write_store(folder, table(clip, clip), 4, 16, workers=1, progress=False)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(video_module, "_results", full)
    with pytest.raises(OSError, match=r"store is too small: the store needs 6,144 bytes"):
        write_store(folder, table(clip, clip), 4, 16, workers=1, progress=False)
    assert os.listdir(tmp_path) == []


KILLED = """
import pandas, sys
from glscl.video import write_store
if __name__ == "__main__":
    videos = pandas.DataFrame({"video": range(5000), "path": sys.argv[2], "start": None, "end": None})
    write_store(sys.argv[1], videos.astype({"video": str}), 8, 32, workers=2)
"""


def test_a_kill_leaves_the_previous_store_and_the_next_run_completes(tmp_path, clip):
    folder, script = tmp_path / "store", tmp_path / "script.py"
    write_store(folder, table(clip), 4, 16, workers=1, progress=False)
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, folder, clip], stderr=subprocess.DEVNULL)
    partial = tmp_path / ".store.partial/frames.npy"
    while not (partial.exists() and partial.stat().st_size > 100_000):
        assert process.poll() is None, "the store was complete before the kill"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert FrameStore(folder).frames.shape == (1, 4, 16, 16, 3)
    FrameStore(folder).verify()
    with pytest.raises(FileNotFoundError, match=r"videos\.parquet absent"):
        FrameStore(partial.parent)
    write_store(folder, table(clip, clip), 4, 16, workers=1, progress=False)
    assert len(FrameStore(folder).frames) == 2
    assert sorted(os.listdir(tmp_path)) == ["script.py", "store"]


def test_a_damaged_store_is_refused(tmp_path, clip):
    folder = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match=r"no complete frame store .*run the prepare stage"):
        FrameStore(folder)
    write_store(folder, table(clip, clip, clip), 4, 16, workers=1, progress=False)
    path = folder / "frames.npy"
    data = bytearray(path.read_bytes())
    data[-4 * 16 * 16 * 3 - 1] ^= 1  # the last byte of the second video
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"frames of video 'v1' .* are damaged: run the prepare stage"):
        FrameStore(folder).verify()
    path.write_bytes(data[:-100])
    with pytest.raises(ValueError, match="damaged frame store"):
        FrameStore(folder)
    np.save(path, np.zeros((2, 4, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="frames of 2 videos and lists 3"):
        FrameStore(folder)


# Real files.


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not on this machine")
def test_real_files_give_distinct_frames_of_the_right_times():
    paths = sorted([*(REAL / "clips").glob("v_*.mp4"), *(REAL / "msvd/videos").glob("*.avi")])
    assert len(paths) == 7
    for path in paths:
        frames = decode_frames(path, 5, 64)
        with av.open(str(path)) as container:
            gap = float(1 / container.streams.video[0].average_rate)
            shown = [(frame.time, frame) for frame in container.decode(video=0)]
        # Looked up by a plain loop over every frame; the rotation is none in these files.
        first, length = shown[0][0], shown[-1][0] - shown[0][0] + gap
        for sample, frame in zip(sample_times(length, 5), frames, strict=True):
            image = [image for at, image in shown if at - first <= sample + 1e-6][-1].to_image()
            scale = 64 / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
            left, top = (image.width - 64) // 2, (image.height - 64) // 2
            np.testing.assert_array_equal(frame, np.asarray(image.crop((left, top, left + 64, top + 64))), str(path))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real MSR-VTT files are not on this machine")
def test_real_msrvtt_files_of_one_frame_per_second_give_every_frame():
    for path in sorted((REAL / "msrvtt/videos").glob("*.mp4"))[:20]:
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        assert len(decode_frames(path, 12, 32)) == min(12, count)
