"""Frames from made-up and real files: the right frames at the right times in every codec, and every fault named."""

import shutil
import struct

import av
import numpy as np
import pytest
from PIL import Image

from glscl.data.decoding import Sampling, VideoError, compress, decode_frames, decode_video, decompress
from tests import REAL
from tests.clips import grey, make_unfit, write_clip

CODECS = [
    ("libx264", "clip.mp4"),
    ("libx265", "clip.mp4"),
    ("mpeg4", "clip.avi"),
    ("mpeg4", "clip.mkv"),
    ("msmpeg4v2", "clip.avi"),
    ("libvpx-vp9", "clip.webm"),
    ("libsvtav1", "clip.mp4"),
    ("libsvtav1", "clip.webm"),
]


def levels(frames):
    return [round(float(frame.mean())) for frame in frames]


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
    np.testing.assert_allclose(Sampling(3).times(6.0), [[1.0], [3.0], [5.0]])
    np.testing.assert_allclose(Sampling(1).times(5.0), [[2.5]])


@pytest.mark.parametrize(
    ("sampling", "duration", "expected"),
    [
        (Sampling(3, "head", 2.0), 9.0, [0.25, 0.75, 1.25]),
        (Sampling(3, "head", 2.0), 0.8, [0.25, 0.65]),  # the second segment ends with the video
        (Sampling(8, "fps", 1.0), 3.0, [0.5, 1.5, 2.5]),
        (Sampling(8, "fps", 1.0), 0.1, [0.05]),
        (Sampling(8, "fps", 1.0), 2.1 + 0.9, [0.5, 1.5, 2.5]),  # 3.0 but for the rounding
        (Sampling(3, "fps", 2.0), 5.0, [0.25, 2.25, 4.75]),  # of ten segments the first, the fifth and the last
        (Sampling(2, "uniform", 7.0), 4.0, [1.0, 3.0]),
    ],
)
def test_closed_forms_of_the_sample_times(sampling, duration, expected):
    np.testing.assert_allclose(sampling.times(duration)[:, 0], expected)


@pytest.mark.parametrize("mode", ["uniform", "head", "fps"])
@pytest.mark.parametrize("duration", [0.3, 7.9, 600.0])
def test_evaluation_looks_at_the_centre_whatever_the_offsets(mode, duration):
    alone = Sampling(12, mode).times(duration)
    for offsets in (3, 5):
        positions = Sampling(12, mode, 1.0, offsets).times(duration)
        assert positions.shape == (len(alone), offsets)
        np.testing.assert_allclose(positions[:, [offsets // 2]], alone, atol=1e-12)
        assert (np.diff(positions.ravel()) > 0).all()
        assert positions.min() > 0
        assert positions.max() < duration


def test_training_draws_by_seed_epoch_and_video_alone():
    sampling = Sampling(500, offsets=3)
    assert (sampling.choose("video7") == 1).all()
    drawn = sampling.choose("video7", (0, 1))
    np.testing.assert_array_equal(drawn, sampling.choose("video7", (0, 1)))
    assert np.bincount(drawn, minlength=3).min() > 120  # each place a third of the time
    for other in (("video7", (0, 2)), ("video7", (1, 1)), ("video8", (0, 1))):
        assert (sampling.choose(*other) != drawn).mean() > 0.5
    # Kept for good: a change of the generator would change the results of every training run.
    assert Sampling(6, offsets=3).choose("video7", (0, 1)).tolist() == [0, 2, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "settings", [{"mode": "middle"}, {"frames": 0}, {"fps": 0.0}, {"fps": np.nan}, {"offsets": 2}, {"offsets": 0}]
)
def test_a_sampling_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=r"sampling .*got .*: correct"):
        Sampling(**({"frames": 4} | settings))


@pytest.mark.parametrize(
    ("sampling", "start", "expected"),
    [
        (Sampling(4, "head", 5.0), None, [1, 3, 5, 7]),
        (Sampling(4, "head", 5.0), 1.0, [11, 13, 15, 17]),
        (Sampling(9, "fps", 2.5), None, [2, 6, 10, 14, 18]),
        (Sampling(2, "fps", 2.5), None, [2, 18]),
        (Sampling(2, offsets=5), None, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]),
    ],
)
def test_every_mode_gives_the_frames_on_display_at_its_positions(clip, sampling, start, expected):
    images, shown, seconds = decode_video(clip, sampling, 16, start)  # 20 frames, 0.1 s each
    assert levels(images) == pytest.approx([grey(20)[k] for k in expected], abs=4)
    assert shown.tolist() == np.arange(len(expected)).reshape(-1, sampling.offsets).tolist()
    assert seconds == pytest.approx(min(2.0 - (start or 0), 0.8 if sampling.mode == "head" else 2.0))


def test_positions_that_show_the_same_frame_share_it(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", grey(2))
    images, shown, _ = decode_video(path, Sampling(2, offsets=3), 16)
    assert (len(images), shown.tolist()) == (2, [[0, 0, 0], [1, 1, 1]])


def test_compressed_frames_come_back_nearly_the_same():
    smooth = np.add.outer(np.arange(32), 3 * np.arange(32))[..., None] + np.array([0, 40, 90])
    image = smooth.astype(np.uint8)
    found = decompress(compress(image, 95))
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert np.abs(found.astype(int) - image).max() <= 6
    assert len(compress(image, 95)) > len(compress(image, 60))


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


def test_odd_sizes_and_colours_without_subsampling(tmp_path):
    # Rows of VP9 and H.264 may be odd in number; the picture's centre stays where it is.
    image = np.zeros((51, 67, 3), np.uint8)
    image[13:38, 21:46] = 255
    for codec, name, pixels in (("libvpx-vp9", "clip.webm", "yuv420p"), ("libx264", "clip.mkv", "yuv444p")):
        frame = decode_frames(write_clip(tmp_path / name, [image] * 3, codec, pixels=pixels), 1, 51)[0]
        assert frame.shape == (51, 51, 3)
        assert np.abs(frame.astype(int) - image[:, 8:59]).mean() < 4


@pytest.mark.parametrize(("degrees", "corner"), [(90, (8, 40)), (180, (40, 40)), (270, (40, 8))])
def test_rotation_of_the_container_is_applied(tmp_path, degrees, corner):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32] = 255  # top left
    path = write_clip(tmp_path / "clip.mp4", [image] * 3)
    # QuickTime: x' = a x + c y, y' = b x + d y; a quarter clockwise takes the top left to the top right.
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    for offset, value in ((44, cos), (48, sin), (56, -sin), (60, cos)):
        patch(path, b"tkhd", offset, 0x10000 * value, ">i")
    frame = decode_frames(path, 1, 64)[0]
    top, left = corner
    assert frame[top : top + 16, left : left + 16].mean() > 240
    assert frame[8:24, 8:24].mean() < 15


@pytest.mark.parametrize(("box", "offset"), [(b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24), (b"mdhd", None)])
def test_a_claimed_duration_places_no_sample(clip, tmp_path, box, offset):
    path = tmp_path / "clip.mp4"
    shutil.copy(clip, path)
    for name, position in [(box, offset)] if offset else [(b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)]:
        patch(path, name, position, 700)
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
        ("libsvtav1", "clip.mp4", None),
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
        for position in random.integers(0, len(data), random.integers(1, 60)):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert 1 <= len(decode_frames(path, 4, 16)) <= 4
        except VideoError:
            refused += 1
    assert 0 < refused < 150


def test_wrong_arguments(clip):
    for arguments in ((4, 0), (4, 16, 2.0, 1.0), (4, 16, -1.0, None)):
        with pytest.raises(ValueError, match="needs 0 <= start < end"):
            decode_frames(clip, *arguments)
    with pytest.raises(VideoError, match=r"ends at 2\.00 s, before the start 5\.00 s"):
        decode_frames(clip, 4, 16, 5.0, 6.0)


# Real files.


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not on this machine")
def test_real_files_give_distinct_frames_of_the_right_times():
    paths = sorted([*(REAL / "clips").glob("*.mp4"), *(REAL / "msvd/videos").glob("*.avi")])
    assert len(paths) == 10
    for path in paths:
        frames = decode_frames(path, 5, 64)
        with av.open(str(path)) as container:
            gap = float(1 / container.streams.video[0].average_rate)
            shown = [(frame.time, frame) for frame in container.decode(video=0)]
        # Looked up by a plain loop over every frame; no file here is rotated.
        first, length = shown[0][0], shown[-1][0] - shown[0][0] + gap
        for sample, frame in zip(Sampling(5).times(length).ravel(), frames, strict=True):
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
