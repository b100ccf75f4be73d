"""Clips inside a page: a small copy of a video file, and the HTML that plays it anywhere."""

import base64
import html
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from glscl.data.decoding import Sampling, decode_video
from glscl.report.figures.common import film_strip

OPTIONS = {"crf": "28", "mbtree": "0"}  # with x264's macroblock tree the bytes vary from run to run
SIDE, RATE, LONGEST = 224, 12, 8.0  # pixels, frames per second, seconds: what a search result needs, in some 100 kB


def preview(path: str | Path) -> bytes:
    """An MP4 file (H.264, without sound) of the whole video, 224 pixels square, for any file that can be decoded.

    It shows the centre of the pictures, as models see it, at 12 frames per second. A video of more than 8 seconds
    becomes a time lapse of 8 seconds. Raises VideoError where the file cannot be read.
    """
    decoded = decode_video(path, Sampling(round(RATE * LONGEST), "fps", RATE), SIDE)
    pictures, rate = decoded.images, round(1000 * len(decoded.images) / min(decoded.seconds, LONGEST))
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


def still(clip: bytes) -> str:
    """Four frames of a clip that `preview` made, evenly spread, as a data URI: what paper shows in its place."""
    with av.open(io.BytesIO(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    spread = np.linspace(0, len(frames) - 1, 4).round().astype(int)
    return film_strip(np.stack(frames)[spread], width=SIDE // 2)


def with_places(hits: list[tuple[Path, float]]) -> list[tuple[Path, str]]:
    """Files with their place and score as captions, as `clips_html` takes them. hits: file and score, best first."""
    return [(path, f"{place}. {path.name}, {score:.2f}") for place, (path, score) in enumerate(hits, 1)]


PLAYER = 'width="224" controls autoplay muted loop playsinline'


def clips_html(found: dict[str, list[tuple[str | Path, str]]], megabytes: float) -> str:
    """HTML with the clips inside it, under one heading per sentence: it plays anywhere, from Jupyter to a mailed page.

    found: for each sentence the video files, anywhere on the disk, and their captions; all text is escaped. Files are
    embedded as `preview` copies in this order, as long as the HTML stays below so many megabytes of clips; a
    clip beyond that keeps its caption, which then says so. Raises VideoError at a file that cannot be read.
    """
    left, parts = megabytes * 1e6, []
    for sentence, clips in found.items():
        figures = []
        for path, caption in clips:
            clip = preview(path) if left > 0 else b""
            content = base64.b64encode(clip).decode()
            if 0 < len(content) <= left:
                left -= len(content)
                words = html.escape(caption)
                video = f'<video {PLAYER} aria-label="{words}" src="data:video/mp4;base64,{content}"></video>'
                # The style sheet of a page shows it on paper.
                video += f'<img class="still" style="display: none" alt="{words}" src="{still(clip)}">'
            else:
                left, video = 0, ""
                caption = f"{caption} (not shown: the clips of this page are limited to {megabytes:g} MB)"
            about = f"<figcaption>{html.escape(caption)}</figcaption>"
            figures.append(f'<figure class="clip" style="width: 224px">{video}{about}</figure>')
        row = f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{"".join(figures)}</div>'
        parts.append(f"<h3>{html.escape(sentence)}</h3>{row}")
    return "".join(parts)
