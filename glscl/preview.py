"""A small copy of a video file, for pages that carry their clips with them."""

import io
import math
from fractions import Fraction
from pathlib import Path

import av

from glscl.decoding import decode_frames, read_header

OPTIONS = {"crf": "28", "mbtree": "0"}  # with x264's macroblock tree the bytes vary from run to run
SIDE, RATE, LONGEST = 224, 12, 8.0  # pixels, frames per second, seconds: what a search result needs, in some 100 kB


def preview(path: str | Path) -> bytes:
    """An MP4 file (H.264, without sound) of the whole video, 224 pixels square, for any file that can be decoded.

    It shows the centre of the pictures, as models see it, at 12 frames per second. A video of more than 8 seconds
    becomes a time lapse of 8 seconds. Raises VideoError where the file cannot be read.
    """
    seconds = read_header(path).seconds or LONGEST
    pictures = decode_frames(path, math.ceil(RATE * min(seconds, LONGEST)), SIDE)
    rate = round(1000 * len(pictures) / min(seconds, LONGEST))
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate, 1000), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1  # with several threads two runs may write different bytes
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return target.getvalue()
