"""Made-up video files for the tests: grey levels that tell the frames apart, in every codec; files that are none."""

from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest


def grey(count):
    """Return `count` levels that stay 10 apart, so that no lossy codec confuses two neighbours."""
    return [20 + 10 * (7 * k % 22) for k in range(count)]


def write_clip(
    path, images, codec="libx264", rate=10, times=None, pixels="yuv420p", options=None, sound=None, form=None
):
    """Write grey levels or RGB arrays as a video.

    times: milliseconds of a variable frame rate. sound: its codec and seconds. form: the container, else by the ending.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV does not encode {codec}")
    with av.open(str(path), "w", form, options=options or {}) as container:
        quality = {"crf": "10"} if codec == "libsvtav1" else {"b": "4M"}
        stream = container.add_stream(codec, rate=rate, options=quality)
        images = [np.full((48, 64, 3), image, np.uint8) if np.isscalar(image) else image for image in images]
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if sound:
            container.add_stream(sound[0], rate=16000, layout="mono")
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            write_sound(container, container.streams.audio[0], sound[1])
    return path


def write_sound(container, stream, seconds):
    for start in range(0, int(16000 * seconds), 320):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def noise(count):
    """Return `count` frames of some kilobytes each, for an encoder."""
    drawn = np.random.default_rng(0).integers(0, 32, (count, 48, 64, 3), dtype=np.uint8)
    return [image + np.uint8(20 + 2 * number) for number, image in enumerate(drawn)]


def damage(path, target, count, seed):
    """Change so many bytes of an mp4's media data; the container stays whole."""
    data, draw = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in draw.integers(data.find(b"mdat") + 68, data.find(b"moov") - 4, count):
        data[place] = draw.integers(256)
    target.write_bytes(data)
    return target


def table(*paths):
    rows = [(f"v{k}", str(path), np.nan, np.nan) for k, path in enumerate(paths)]
    return pd.DataFrame(rows, columns=["video", "path", "start", "end"])


def make_unfit(path, kind):
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("<html>404 Not Found</html>" * 50)
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            write_sound(container, container.add_stream("aac", rate=16000, layout="mono"), 0.5)
    return path
