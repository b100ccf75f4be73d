"""The frame store: what it holds, what a resume decodes, and every fault: kills, full disks, two writers, damage."""

import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from glscl.data import frame_store as video_module
from glscl.data.decoding import compress, decode_frames, decode_video, decompress
from glscl.data.frame_store import FILES, FrameStore, Sampling, VideoError, write_store
from glscl.files import FullDiskError
from glscl.locks import BusyError
from tests.clips import damage, grey, make_unfit, noise, table, write_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of 20, 9 and 3 frames."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{count}.mp4", grey(count)) for count in (20, 9, 3)]


def write(folder, videos, frames=4, size=16, **settings):
    """Write a store in this process, without a bar."""
    settings = {"workers": 1, "progress": False} | settings
    sampling = Sampling(frames, offsets=settings.pop("offsets", 1))
    return write_store(folder, videos, sampling, size, **settings)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


@pytest.fixture
def decoded(monkeypatch):
    """The paths that this process decodes from now on."""
    paths = []

    def record(path, *arguments):
        paths.append(str(path))
        return decode_video(path, *arguments)

    monkeypatch.setattr(video_module, "decode_video", record)
    return paths


def test_store_holds_the_frames_of_evaluation_as_decoded(tmp_path, clips):
    part = pd.DataFrame([("part", str(clips[0]), 1.0, 2.0)], columns=table().columns)
    report = write(tmp_path / "deep/store", pd.concat([table(clips[0], clips[2]), part]), quality=80)
    store = FrameStore(tmp_path / "deep/store")
    assert (report["videos"], report["missing"], store.videos) == (3, [], ["v0", "v1", "part"])
    assert (report["decoded"], report["frames"]) == (3, 4 + 3 + 4)
    assert sorted(os.listdir(store.folder)) == sorted(FILES)
    assert report["bytes"] == sum(path.stat().st_size for path in store.folder.iterdir())
    assert (store.size, store.quality, store.sampling) == (16, 80, Sampling(4))
    frames, mask = store.read([2, 1, 1])
    assert (frames.shape, frames.dtype) == ((3, 4, 16, 16, 3), np.uint8)
    assert mask.tolist() == store.mask[[2, 1, 1]].tolist() == [[True] * 4, *[[True, True, True, False]] * 2]

    def stored(*arguments):
        return [decompress(compress(frame, 80)) for frame in decode_frames(*arguments)]

    np.testing.assert_array_equal(frames[0], stored(clips[0], 4, 16, 1.0, 2.0))
    np.testing.assert_array_equal(frames[1, :3], stored(clips[2], 4, 16))
    assert not frames[1, 3].any()
    np.testing.assert_array_equal(store.frames("v0"), stored(clips[0], 4, 16))
    np.testing.assert_array_equal(store.frames("v1"), frames[1, :3])
    store.verify()


def test_evaluation_sees_the_same_bytes_whatever_else_is_kept(tmp_path, clips):
    for offsets in (1, 3, 5):
        write(tmp_path / str(offsets), table(*clips), offsets=offsets)
    alone, *others = (FrameStore(tmp_path / str(offsets)) for offsets in (1, 3, 5))
    for store in others:
        np.testing.assert_array_equal(store.read([0, 1, 2])[0], alone.read([0, 1, 2])[0])
        np.testing.assert_array_equal(store.mask, alone.mask)


def test_training_sees_the_drawn_place_of_each_segment(tmp_path, clips):
    write(tmp_path / "store", table(*clips), frames=6, offsets=3, quality=95)
    store = FrameStore(tmp_path / "store")
    shown = decode_video(clips[0], Sampling(6, offsets=3), 16)
    for draw in ((0, 0), (0, 1), (7, 0)):
        frames, mask = store.read([0, 2], draw)
        chosen = store.sampling.choose("v0", draw)
        levels = [shown.images[k].mean() for k in shown.shown[np.arange(6), chosen]]
        np.testing.assert_allclose(frames[0].mean((1, 2, 3)), levels, atol=1)
        assert mask[0].all()
        # Three frames fill six segments: each drawn one comes once, in order.
        present = [round(level) for level in frames[1][mask[1]].mean((1, 2, 3))]
        assert present == [level for level in store.frames("v2").mean((1, 2, 3)).round() if level in present]
        np.testing.assert_array_equal(store.read([1, 0], draw)[0][1], frames[0])
    assert len({store.read([0], (0, epoch))[0].tobytes() for epoch in range(5)}) > 1


def test_a_sampling_with_fewer_segments_than_frames(tmp_path, clips):
    write_store(tmp_path / "store", table(*clips), Sampling(8, "fps", 4.0, 3), 16, workers=1, progress=False)
    store = FrameStore(tmp_path / "store")
    assert store.mask.sum(1).tolist() == [8, 4, 2]  # of 2, 0.9 and 0.3 s
    frames, mask = store.read([0, 1, 2], (0, 0))
    assert mask.sum(1).tolist() == [8, 4, 2]
    assert not frames[1, 4:].any()


def test_processes_write_the_same_bytes_in_the_order_of_the_table(tmp_path, clips, capfd):
    write(tmp_path / "one", table(*clips * 5))
    assert capfd.readouterr().err == ""
    write(tmp_path / "two", table(*clips * 5), workers=2, progress=True)
    bar = capfd.readouterr().err
    assert "15/15" in bar
    assert "file/s" in bar
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def read_frames(store, row):
    return store.read([row], (1, 2))[0]


def test_processes_share_a_store_and_receive_no_copy(tmp_path, clips):
    write(tmp_path / "store", table(*clips), offsets=3)
    store = FrameStore(tmp_path / "store")
    assert len(pickle.dumps(store)) < 500
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(read_frames, [(store, row) for row in range(3)])
    np.testing.assert_array_equal(np.concatenate(found), store.read([0, 1, 2], (1, 2))[0])


# Faults of the videos.


def test_unreadable_videos_are_counted_against_the_budget(tmp_path, clips, decoded):
    text, folder = make_unfit(tmp_path / "text.mp4", "text"), tmp_path / "store"
    videos = table(clips[0], tmp_path / "absent.mp4", text, clips[1])
    with pytest.raises(VideoError, match=r"^1 of 4 .*max_missing allows 0.*'v1': .*absent\.mp4"):
        write(folder, videos)
    assert decoded == []  # what is plainly absent is told before hours of decoding
    with pytest.raises(VideoError, match=r"^2 of 4 .*max_missing allows 1.*raise max_missing; .*'v1': .*absent\.mp4"):
        write(folder, videos, max_missing=1)
    listed = pd.read_csv(tmp_path / ".store.partial/missing.csv")
    assert listed["video"].tolist() == ["v1", "v2"]
    report = write(folder, videos, max_missing=2)
    assert report["videos"] == 2
    assert [video for video, _ in report["missing"]] == ["v1", "v2"]
    assert "cannot be read" in report["missing"][1][1]
    store = FrameStore(folder)
    assert store.videos == ["v0", "v3"]
    store.verify()
    assert len(store.frames("v3")) == 4


def test_damaged_videos_count_as_missing_or_are_used_with_their_share(tmp_path, recwarn):
    whole = write_clip(tmp_path / "whole.mp4", noise(60))
    little, much = (damage(whole, tmp_path / f"{count}.mp4", count, 1) for count in (3, 120))
    folder, share = tmp_path / "store", decode_video(little, Sampling(4), 16).damaged
    with pytest.raises(VideoError, match=r"^1 of 3 .*max_missing allows 0.*'v2': .* % of its frames as corrupt"):
        write(folder, table(whole, little, much))
    assert not recwarn
    for _ in range(2):  # first from the journal of the run that was refused, then from the beginning
        report = write(folder, table(whole, little, much), max_missing=1)
        assert [video for video, _ in report["missing"]] == ["v2"]
        assert report["damaged"] == [["v1", share]]
        assert pd.read_parquet(folder / FILES[2])["damaged"].tolist() == [0, share]
        told = f"1 of 2 videos are damaged and used, most of all 'v1': the decoder flags {100 * share:.1f} %"
        assert str(recwarn.pop(UserWarning).message).startswith(told)


@pytest.mark.parametrize("kind", ["absent", "empty", "folder", "text", "sound"])
def test_no_readable_video_at_all(tmp_path, kind):
    with pytest.raises(VideoError, match="none of the 1 videos is readable"):
        write(tmp_path / "s", table(make_unfit(tmp_path / "t.mp4", kind)), max_missing=1)


def test_a_repaired_video_is_all_that_is_decoded_again(tmp_path, clips, decoded):
    broken, folder = tmp_path / "clip.mp4", tmp_path / "store"
    broken.write_bytes(clips[1].read_bytes()[:400])
    videos = table(clips[0], broken, clips[2], clips[0])
    with pytest.raises(VideoError, match="1 of 4 videos cannot be used"):
        write(folder, videos)
    broken.write_bytes(clips[1].read_bytes())
    decoded.clear()
    assert write(folder, videos)["decoded"] == 1
    assert decoded == [str(broken)]
    write(tmp_path / "fresh", videos)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_what_is_no_longer_wanted_leaves_the_store(tmp_path, clips, decoded):
    folder, text = tmp_path / "store", make_unfit(tmp_path / "text.mp4", "text")
    with pytest.raises(VideoError):
        write(folder, table(*clips, text))
    decoded.clear()
    moved = table(*clips).assign(start=[0.5, np.nan, np.nan]).iloc[[2, 0]]
    assert write(folder, moved)["decoded"] == 1
    assert decoded == [str(clips[0])]
    write(tmp_path / "fresh", moved)
    assert contents(folder) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("settings", [{"frames": 5}, {"size": 24}, {"quality": 50}, {"offsets": 3}])
def test_other_settings_begin_anew(tmp_path, clips, decoded, settings):
    folder, text = tmp_path / "store", make_unfit(tmp_path / "text.mp4", "text")
    with pytest.raises(VideoError):
        write(folder, table(*clips, text))
    assert write(folder, table(*clips), **settings)["decoded"] == 3
    FrameStore(folder).verify()


class Crash(str):
    """A path that ends the process which receives it, as a crash in a decoder or the out-of-memory killer does."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_crash_of_a_decoding_process_is_an_error_and_no_hang(tmp_path, clips):
    videos = table(*clips).astype(object)
    videos.at[1, "path"] = Crash(clips[1])
    with pytest.raises(VideoError, match=r"a decoding process died at video 'v[01]'"):
        write(tmp_path / "store", videos, workers=2)
    assert write(tmp_path / "store", table(*clips))["videos"] == 3


# Faults of the machine.


KILLED = """
import sys, pandas
from glscl.data.decoding import Sampling
from glscl.data.frame_store import write_store
if __name__ == "__main__":
    write_store(sys.argv[1], pandas.read_parquet(sys.argv[2]), Sampling(4, offsets=3), 16, workers=2, progress=False)
"""


def start_writing(folder, videos):
    """Start a process that writes a store, and wait until some videos are in it."""
    videos.to_parquet(folder.with_name("videos.parquet"))
    folder.with_name("script.py").write_text(KILLED)
    script, given = folder.with_name("script.py"), folder.with_name("videos.parquet")
    process = subprocess.Popen([sys.executable, script, folder, given], stderr=subprocess.DEVNULL)
    journal = folder.with_name(f".{folder.name}.partial") / "journal.jsonl"
    while not (journal.exists() and journal.stat().st_size > 20_000):
        assert process.poll() is None, "the store was complete too early"
        time.sleep(0.01)
    return process


def test_a_kill_leaves_the_old_store_and_the_next_run_decodes_the_rest(tmp_path, clips, decoded):
    folder, videos = tmp_path / "store", table(*clips * 100)
    write(folder, table(*clips))
    before = contents(folder)
    process = start_writing(folder, videos)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert contents(folder) == before
    with pytest.raises(FileNotFoundError, match=r"places\.npy absent"):
        FrameStore(tmp_path / ".store.partial")
    lines = (tmp_path / ".store.partial/journal.jsonl").read_bytes().split(b"\n")
    complete = [json.loads(line)["video"] for line in lines[1:-1]]
    assert 0 < len(complete) < 300
    decoded.clear()
    assert write(folder, videos, offsets=3)["decoded"] == 300 - len(complete)
    assert decoded == videos.loc[~videos["video"].isin(complete), "path"].tolist()
    assert not (tmp_path / ".store.partial").exists()
    write(tmp_path / "fresh", videos, offsets=3)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path, clips):
    folder, videos = tmp_path / "store", table(*clips * 50)
    process = start_writing(folder, videos)
    with pytest.raises(BusyError, match=rf"^process {process.pid} \(since .*\) writes the frame store .*; wait"):
        write(folder, table(*clips))
    assert process.wait() == 0
    FrameStore(folder).verify()
    write(tmp_path / "fresh", videos, offsets=3)
    assert contents(folder) == contents(tmp_path / "fresh")
    assert write(folder, table(*clips))["videos"] == 3


@pytest.fixture
def unfinished(tmp_path, clips):
    """A store of three videos that failed for want of the fourth, and the table of the three."""
    with pytest.raises(VideoError):
        write(tmp_path / "store", table(*clips, make_unfit(tmp_path / "text.mp4", "text")))
    return tmp_path / ".store.partial", table(*clips)


@pytest.mark.parametrize(
    ("damage", "rest"),
    [
        (lambda jpegs, journal: (jpegs + b"half of a fra", journal + b'{"bytes": 99, "vi'), 0),
        (lambda jpegs, journal: (jpegs, journal[:-1]), 1),
        (lambda jpegs, journal: (jpegs[:-1], journal), 1),
        (lambda jpegs, journal: (bytes([jpegs[0] ^ 1]) + jpegs[1:], journal), 3),
        (lambda jpegs, journal: (jpegs, journal[:-40] + b"\0" * 39 + b"\n"), 1),
        (lambda jpegs, journal: (jpegs, b""), 3),
    ],
    ids=["half a video", "half a line", "lost bytes", "changed bytes", "zeros", "no journal"],
)
def test_what_a_crash_left_damaged_is_decoded_again(tmp_path, unfinished, damage, rest):
    partial, videos = unfinished
    paths = [partial / name for name in ("frames.bin", "journal.jsonl")]
    for path, data in zip(paths, damage(*(path.read_bytes() for path in paths)), strict=True):
        path.write_bytes(data)
    assert write(tmp_path / "store", videos)["decoded"] == rest
    write(tmp_path / "fresh", videos)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path, clips):
    # The kernel refuses to write beyond a limit of the process in the same way as on a full disk: after a part.
    folder, videos = tmp_path / "store", table(*clips * 4)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(
            FullDiskError,
            match=rf"^the disk of {tmp_path} is full: .* MB are free and some .* needed for the other .* goes on",
        ) as caught:
            write(folder, videos)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not folder.exists()
    assert 0 < write(folder, videos)["decoded"] < 12
    assert caught.tb  # whoever keeps the error, as a notebook does, does not keep the lock
    write(tmp_path / "fresh", videos)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_a_store_replaces_a_store_and_nothing_else(tmp_path, clips):
    folder = tmp_path / "store"
    write(folder, table(clips[0]))
    write(folder, table(*clips), frames=2, size=8)
    assert FrameStore(folder).read([0, 1, 2])[0].shape == (3, 2, 8, 8, 3)
    assert os.listdir(tmp_path) == ["store"]
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other things than a frame store"):
        write(folder, table(clips[0]))


def test_arguments_out_of_range_are_refused(tmp_path):
    for videos in (table(), pd.concat([table("a.mp4"), table("b.mp4")])):
        with pytest.raises(ValueError, match="a table with each video once"):
            write(tmp_path / "store", videos)
    for settings in ({"quality": 96}, {"quality": 0}, {"max_missing": -1}, {"size": 0}):
        with pytest.raises(ValueError, match="quality from 1 to 95"):
            write(tmp_path / "store", table("a.mp4"), **settings)


def test_a_damaged_store_is_refused(tmp_path, clips):
    folder = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match=r"no complete frame store .*run the prepare stage"):
        FrameStore(folder)
    write(folder, table(*clips))
    good = contents(folder)
    jpegs = good["frames.bin"]
    second = jpegs.index(b"\xff\xd8", jpegs.index(b"\xff\xd9", len(jpegs) // 2))

    def damaged(name, data):
        for other, content in good.items():
            (folder / other).write_bytes(content)
        (folder / name).write_bytes(data)

    damaged("frames.bin", jpegs[:second] + b"\0\0" + jpegs[second + 2 :])
    with pytest.raises(ValueError, match=r"frames of video 'v\d' .* are damaged: run the prepare stage"):
        FrameStore(folder).verify()
    with pytest.raises(ValueError, match=r"frames of video 'v\d' .* are damaged: run the prepare stage"):
        FrameStore(folder).read([0, 1, 2])
    damaged("places.npy", good["places.npy"][:-8] + b"\1" * 8)
    with pytest.raises(ValueError, match=r"frames of video 'v2' .* are damaged"):
        FrameStore(folder).verify()
    damaged("frames.bin", jpegs[:-100])
    with pytest.raises(ValueError, match=r"damaged frame store \(places and bytes should be .* and are .*run"):
        FrameStore(folder)
    for name in FILES:
        for length in (len(good[name]) // 2, 0):
            damaged(name, good[name][:length])
            with pytest.raises(ValueError, match="damaged frame store"):
                FrameStore(folder)
