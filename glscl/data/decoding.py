"""Frames of one video file: where they lie, how they are decoded, and how they are compressed for the store."""

import functools
import hashlib
import io
import threading
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from PIL import Image

# A file is refused where less than this share of its claimed duration, of its packets or of its frames is sound.
WHOLE = 0.8
STILLS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")  # codecs of cover art, where nothing else says that it is
OF_THE_FILE = ("matroska", "flv", "asf")  # containers that state one duration, for all of their streams
# Recordings may be joined by mere concatenation. FFmpeg's own limits, seconds: a step back by more than the first is a
# new beginning, and so is a step ahead by more than the second in formats whose clock may jump (MPEG-TS).
STEP_BACK, STEP_AHEAD = 0.1, 10.0
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG
PRIMARIES = {*ColorPrimaries} - {ColorPrimaries.UNSPECIFIED}
# The display matrix (a, b, c, d) takes the pixel (x, y) to (a x + c y, b x + d y); y points down.
ORIENTATIONS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
MODES = ("uniform", "head", "fps")


class VideoError(ValueError):
    """A video file that cannot give its frames; the message is one sentence with the file and the remedy."""


@dataclass(frozen=True)
class Sampling:
    """Where the frames of a video lie: it is cut into segments, and a sample takes one frame of each.

    frames: segments per video, at most.
    mode: `uniform`: `frames` equal segments of the whole video. `head`: the first `frames` segments of 1 / fps
        seconds. `fps`: segments of 1 / fps seconds over the whole video; of more than `frames` evenly spread ones
        remain, the first and the last among them, as in the release.
    fps: segments per second, for `head` and `fps`; the last segment may be shorter.
    offsets: sample positions per segment, odd: the centres of as many equal parts. Evaluation looks at the middle one,
        which is the centre of the segment whatever `offsets` is; training may draw another.
    """

    frames: int
    mode: str = "uniform"
    fps: float = 1.0
    offsets: int = 1

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"sampling is one of {', '.join(MODES)}, got {self.mode!r}: correct the spelling")
        if self.frames < 1 or not 0 < self.fps < np.inf or self.offsets < 1 or self.offsets % 2 == 0:
            raise ValueError(
                f"sampling needs frames >= 1, fps > 0 and an odd number of offsets, got {self.frames}, {self.fps} and "
                f"{self.offsets}: correct it"
            )

    def times(self, duration: float) -> np.ndarray:
        """Return the sample positions in a video of `duration` seconds, (segments, offsets), segments <= frames."""
        if self.mode == "uniform":
            borders = np.linspace(0, duration, self.frames + 1)
            first, last = borders[:-1], borders[1:]
        else:
            duration = min(duration, self.frames / self.fps) if self.mode == "head" else duration
            count = max(1, int(np.ceil(duration * self.fps - 1e-6)))
            kept = np.linspace(0, count - 1, min(count, self.frames)).astype(int)
            first, last = kept / self.fps, np.minimum((kept + 1) / self.fps, duration)
        return first[:, None] + (last - first)[:, None] * (np.arange(self.offsets) + 0.5) / self.offsets

    def choose(self, video: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        """Return which place of each segment of `video` is looked at, int (frames,): training and evaluation ask here.

        draw: None, the middle place, for evaluation; or (seed, epoch), a random place, for training. It depends on
            seed, epoch and the video's id alone, and so neither on the order nor on the number of processes.
        """
        if draw is None:
            return np.full(self.frames, self.offsets // 2)
        identity = int.from_bytes(hashlib.sha256(video.encode()).digest()[:8])
        return np.random.default_rng([*draw, identity]).integers(self.offsets, size=self.frames)


class Decoded(NamedTuple):
    """The frames of one video.

    images: the distinct frames in order of display, each uint8 (size, size, 3).
    shown: int (segments, offsets), which of the images is on display at each place of the sampling.
    seconds: duration of the decoded video, or of the part asked for.
    damaged: share, 0 to 1, of its frames that the decoder flags as corrupt.
    """

    images: list[np.ndarray]
    shown: np.ndarray
    seconds: float
    damaged: float


def decode_frames(
    path: str | Path, frames: int, size: int, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Decode the frames at the centres of `frames` equal segments: `decode_video` with `Sampling(frames)`.

    Warns where the decoder flags some frames as corrupt.

    Returns:
        uint8 (frames_found, size, size, 3), 1 <= frames_found <= frames, in order of display.
    """
    decoded = decode_video(path, Sampling(frames), size, start, end)
    if decoded.damaged:
        warnings.warn(f"{path} is damaged: {of_frames(decoded.damaged)}; get it again", stacklevel=2)
    return np.stack(decoded.images)


def of_frames(damaged: float) -> str:
    """Say which share of frames is damaged."""
    return f"the decoder flags {100 * damaged:.{1 if damaged < 0.1 else 0}f} % of its frames as corrupt"


def decode_video(
    path: str | Path, sampling: Sampling, size: int, start: float | None = None, end: float | None = None
) -> Decoded:
    """Decode the RGB frames on display at the sample positions, in a file or in its part from `start` to `end`.

    Times are those of the decoded frames, in seconds since the first one; the container's claims place no sample.
    A frame is on display until the next one comes. A frame that is on display at several positions is given once, so a
    short video gives fewer frames. Time stamps that start anew, as in recordings that were joined, go on.

    Of several video streams the largest counts; cover art is none. The picture is turned and mirrored as the container
    asks, HDR (PQ and HLG) is mapped to SDR, and transparent pixels are laid on black. The shortest side is resized to
    `size` (bicubic), then the centre is cut.

    Packets that do not decode are skipped as players do. The file is refused as truncated or damaged when more than
    20 % of its packets are broken, when the decoder flags more than 20 % of the frames as corrupt, or when the decoded
    frames cover less than 80 % of the duration that the container claims for the video stream (in the part asked for;
    `head` asks for no more than it needs). A claim for the whole file counts unless another stream meets it.

    Args:
        path: the file.
        sampling: the sample positions.
        size: side of the square frames, pixels.
        start: seconds; None or NaN = the beginning.
        end: seconds; None or NaN = the end.

    Raises:
        VideoError: the file is absent, empty, a folder, no video, unreadable or truncated, or ends before `start`.
        ValueError: `end` is not after `start`, or `size` is below 1.
    """
    start, end = (None if value is None or np.isnan(value) else float(value) for value in (start, end))
    part = (start or 0.0, np.inf if end is None else end)
    if not 0 <= part[0] < part[1] or size < 1:
        raise ValueError(f"{path}: needs 0 <= start < end and size >= 1, got {start}, {end} and {size}: correct it")
    if sampling.mode == "head":
        part = (part[0], min(part[1], part[0] + sampling.frames / sampling.fps))
    if reason := unfit(path):
        raise VideoError(reason)
    try:
        # The packets tell which frames will be wanted; where decoding gives other times, it runs once more with those.
        expected, claimed = _packet_times(path)
        decoded = _decode(path, part, size, _displayed(*expected, part, sampling), claimed)
        shown = _displayed(decoded.times, decoded.stop, part, sampling)
        if not set(shown.flat) <= decoded.images.keys():
            decoded = _decode(path, part, size, shown, claimed)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): get or encode it again") from error
    if not shown.size:
        raise VideoError(
            f"{path} ends at {decoded.stop:.2f} s, before the start {part[0]:.2f} s: correct the annotation"
        )
    kept, shown = np.unique(shown, return_inverse=True)
    images = [decoded.images[index] for index in kept]
    return Decoded(images, shown, min(part[1], decoded.stop) - part[0], decoded.damaged)


def compress(image: np.ndarray, quality: int) -> bytes:
    """Compress a frame, uint8 (size, size, 3), as JPEG of this quality, 1 to 95; colours keep full resolution."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:4:4")
    return file.getvalue()


def decompress(jpeg: bytes | memoryview) -> np.ndarray:
    """Return the frame of `compress`, uint8 (size, size, 3)."""
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def unfit(path: str | Path) -> str | None:
    """Say what rules the file out without opening it, or None."""
    path = Path(path)
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which is not there: restore that file or the link"
    if not path.exists():
        return f"{path} is absent: put the video there or correct the path"
    if path.is_dir():
        return f"{path} is a folder and should be a video file: correct the path"
    return None if path.stat().st_size else f"{path} is empty (0 bytes): get it again"


def _displayed(times: np.ndarray, stop: float, part: tuple[float, float], sampling: Sampling) -> np.ndarray:
    """Return the index of the frame on display at each place, (segments, offsets); without segments after the end."""
    first, last = part[0], min(part[1], stop)
    if len(times) == 0 or first >= last:
        return np.zeros((0, sampling.offsets), int)
    # A place on the very border of two frames takes the later one, however its time was rounded.
    at = first + sampling.times(last - first) + 1e-6
    return np.searchsorted(times, at, side="right").clip(1) - 1


def _stream(container, path):
    """The largest stream of pictures that move. Cover art comes as a stream too, which not every container marks."""
    real = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not real:
        raise VideoError(
            f"{path} has no video stream, perhaps it is sound alone or sound with a cover: get the file with pictures"
        )
    known = [stream for stream in real if stream.codec_context is not None]
    if not known:
        raise VideoError(f"{path} is in a video format that PyAV does not know: encode it again, for instance as H.264")
    stream = max(known, key=lambda s: (s.codec_context.name not in STILLS, s.width * s.height))
    # The store decodes one file per core; and with more threads FFmpeg loses the flags of corrupt frames.
    stream.codec_context.thread_count = 1
    return stream


def _usual_gap(stream) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else 0.04


def _longest_step(container) -> float:
    """Return the step ahead, seconds, beyond which time stamps belong to another recording."""
    return STEP_AHEAD if container.format.flags & Flags.ts_discont.value else np.inf


def _packet_times(path) -> tuple[tuple[np.ndarray, float], float]:
    """Return when the frames are to be displayed according to their packets, and the duration that the file claims.

    The first is the times (packets,), seconds since the first, and when the last one ends.
    """
    with av.open(str(path), metadata_errors="replace") as container:
        stream = _stream(container, path)
        gap, tick = _usual_gap(stream), float(stream.time_base or 0)
        found, others, pictures, nan = [], 0.0, stream.index, np.nan
        for packet in container.demux():
            dts, pts = packet.dts, packet.pts
            stamp = dts if pts is None else pts
            if not packet.size or stamp is None or packet.is_discard:
                continue
            if packet.stream_index == pictures:
                found.append((stamp, packet.duration or 0, nan if dts is None else dts))
            elif packet.time_base:
                others = max(others, float((stamp + (packet.duration or 0)) * packet.time_base))
        times, lengths, order = np.array(found, float).reshape(-1, 3).T * tick
        lengths[lengths == 0] = gap
        ordered = np.flatnonzero(~np.isnan(order))
        steps = np.diff(order[ordered])
        borders = [*ordered[1:][(steps < -STEP_BACK) | (steps > _longest_step(container))], len(times)]
        for border, after in pairwise(borders):
            times[border:] += (times + lengths)[:border].max() - times[border:after].min()
        claimed = 0.0 if len(borders) > 1 else _claimed_duration(container, stream)
        if not claimed and len(borders) == 1:
            whole, first = (float((value or 0) / av.time_base) for value in (container.duration, container.start_time))
            claimed = 0.0 if others - first >= WHOLE * whole else whole
    if not found:
        return (times, 0.0), claimed
    last = times.argmax()
    return (np.sort(times) - times.min(), times[last] + lengths[last] - times.min()), claimed


class _Pictures(NamedTuple):
    """What `_decode` found: times (decoded,), end of the last frame, images by number, share flagged as corrupt."""

    times: np.ndarray
    stop: float
    images: dict[int, np.ndarray]
    damaged: float


def _decode(path, part, size: int, wanted: np.ndarray, claimed: float) -> _Pictures:
    """Decode up to the end of `part` and keep the wanted frames. claimed: duration of the pictures, 0 = not known."""
    times, images, wanted = [], {}, set(wanted.flat)
    packets = broken = inside = corrupt = 0
    origin, last, at, stop = 0.0, None, 0.0, 0.0
    rotation = orientation = None
    with av.open(str(path), metadata_errors="replace") as container:
        stream = _stream(container, path)
        gap, longest = _usual_gap(stream), _longest_step(container)
        for packet in container.demux(stream):
            packets += 1
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                broken += 1
                continue
            for frame in decoded:
                now = frame.time
                if now is None:
                    at = stop
                else:
                    if last is None or not -STEP_BACK <= now - last <= longest:
                        origin = now - stop
                    last, at = now, max(now - origin, at)
                if len(times) in wanted:
                    # The matrix is asked for where the rotation is new, as that keeps a frame in memory for long.
                    if frame.rotation != rotation:
                        rotation, orientation = frame.rotation, _orientation(frame)
                    images[len(times)] = _square(frame, size, orientation)
                times.append(at)
                stop = at + (float(frame.duration * frame.time_base) if frame.duration else gap)
                if part[0] < stop and at < part[1]:
                    inside, corrupt = inside + 1, corrupt + frame.is_corrupt
            if times and times[-1] > part[1]:
                break
    if not times:
        raise VideoError(f"{path} has a video stream of which no frame decodes: get or encode it again")
    expected, damaged = min(part[1], claimed), corrupt / max(inside, 1)
    short = max(0, stop - part[0]) < WHOLE * max(0, expected - part[0])
    if short or broken > (1 - WHOLE) * packets or damaged > 1 - WHOLE:
        raise VideoError(
            f"{path} is truncated or damaged ({stop:.2f} of {max(expected, stop):.2f} s decode, {broken} of {packets} "
            f"packets are broken, {of_frames(damaged)}): get it again"
        )
    return _Pictures(np.array(times), stop, images, damaged)


def _claimed_duration(container, stream) -> float:
    """Return the seconds that the container claims for the video stream alone; 0 where it claims nothing of it."""
    if container.format.name == "avi" and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # FFmpeg shortens the duration to the bytes that are there
    if "DURATION" in stream.metadata:
        try:  # Matroska and WebM keep it in a tag: 00:00:05.040000000
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return 0.0
    own = not any(name in container.format.name for name in OF_THE_FILE)
    return float(stream.duration * stream.time_base) if own and stream.duration and stream.time_base else 0.0


def _square(frame, size: int, orientation: Image.Transpose | None) -> np.ndarray:
    image = _in_colour(frame)
    if orientation is not None:
        image = image.transpose(orientation)
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _in_colour(frame) -> Image.Image:
    """Return the picture in RGB; its alpha is laid on black."""
    if frame.color_trc in HDR:
        if frame.color_primaries not in PRIMARIES:
            frame.color_primaries = ColorPrimaries.BT2020
        target = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
        kind = frame.format.name, frame.width, frame.height, frame.color_trc, frame.color_primaries
        return _converter(threading.get_ident(), kind).reformat(frame, format="rgb24", threads=1, **target).to_image()
    if _may_be_transparent(frame.format.name):
        clear = Image.fromarray(frame.to_ndarray(format="rgba"))
        image = Image.new("RGB", clear.size)
        image.paste(clear, mask=clear.getchannel("A"))
        return image
    return frame.to_image()


@functools.cache
def _may_be_transparent(pixels: str) -> bool:
    kind = av.VideoFormat(pixels)
    return kind.has_palette or any(component.is_alpha for component in kind.components)


@functools.lru_cache(maxsize=32)
def _converter(thread: int, kind: tuple) -> VideoReformatter:
    """Return what maps HDR to SDR, one per thread and kind of frame: its tables take seconds to make."""
    return VideoReformatter()


def _orientation(frame) -> Image.Transpose | None:
    """Return how the container asks to turn or mirror the picture; an angle between counts as the nearest of eight."""
    if (matrix := frame.side_data.get(SideData.DISPLAYMATRIX)) is None:
        return None
    a, b, c, d = np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]].tolist()
    upright = abs(a) + abs(d) >= abs(b) + abs(c)
    asked = (a, 0, 0, d) if upright else (0, b, c, 0)
    return ORIENTATIONS.get(tuple(int(np.sign(value)) for value in asked))


class Header(NamedTuple):
    """What a file claims: seconds of its pictures, else of the whole file (0 where none); width and height (pixels)."""

    seconds: float
    width: int
    height: int


def read_header(path: str | Path) -> Header:
    """Open a file and read what it claims of its pictures. Cheap, as it decodes next to nothing, and hence no proof.

    Raises VideoError: the file is absent, empty, a folder, no video, or its header is unreadable.
    """
    if reason := unfit(path):
        raise VideoError(reason)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _stream(container, path)
            seconds = _claimed_duration(container, stream) or (container.duration or 0) / av.time_base
            return Header(seconds, stream.width, stream.height)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): get or encode it again") from error
