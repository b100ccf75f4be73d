"""Frames of one video file: where they lie, how they are decoded, and how they are compressed for the store."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

# A file counts as truncated below this share of its claimed duration, or when a larger rest of its packets is broken.
WHOLE = 0.8
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
    """

    images: list[np.ndarray]
    shown: np.ndarray
    seconds: float


def decode_frames(
    path: str | Path, frames: int, size: int, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Decode the frames at the centres of `frames` equal segments: `decode_video` with `Sampling(frames)`.

    Returns:
        uint8 (frames_found, size, size, 3), 1 <= frames_found <= frames, in order of display.
    """
    return np.stack(decode_video(path, Sampling(frames), size, start, end).images)


def decode_video(
    path: str | Path, sampling: Sampling, size: int, start: float | None = None, end: float | None = None
) -> Decoded:
    """Decode the RGB frames on display at the sample positions, in a file or in its part from `start` to `end`.

    Times are those of the decoded frames, in seconds since the first one; the container's claims place no sample.
    A frame is on display until the next one comes. A frame that is on display at several positions is given once, so a
    short video gives fewer frames. The shortest side is resized to `size` (bicubic), then the centre is cut.

    Packets that do not decode are skipped as players do. The file is refused as truncated when more than 20 % of its
    packets are broken, or when the decoded frames cover less than 80 % of the duration that the container claims for
    the video stream (in the part asked for; `head` asks for no more than it needs).

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
        wanted = _displayed(*_packet_times(path), part, sampling)
        times, stop, images = _decode(path, part, size, wanted)
        shown = _displayed(times, stop, part, sampling)
        if not set(shown.flat) <= images.keys():
            images = _decode(path, part, size, shown)[2]
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): get or encode it again") from error
    if not shown.size:
        raise VideoError(f"{path} ends at {stop:.2f} s, before the start {part[0]:.2f} s: correct the annotation")
    kept, shown = np.unique(shown, return_inverse=True)
    return Decoded([images[index] for index in kept], shown, min(part[1], stop) - part[0])


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
    if not container.streams.video:
        raise VideoError(f"{path} has no video stream, perhaps it is sound alone: get the file with pictures")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise VideoError(f"{path} is in a video format that PyAV does not know: encode it again, for instance as H.264")
    stream.codec_context.thread_count = 1  # the store decodes one file per core
    return stream


def _usual_gap(stream) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else 0.04


def _packet_times(path) -> tuple[np.ndarray, float]:
    """Return when the packets are to be displayed (packets,), seconds since the first, and when the last one ends."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = _stream(container, path)
        gap, tick = _usual_gap(stream), float(stream.time_base or 0)
        found = []
        for packet in container.demux(stream):
            stamp = packet.dts if packet.pts is None else packet.pts
            if packet.size and stamp is not None and not packet.is_discard:
                found.append((stamp * tick, (packet.duration or 0) * tick or gap))
    times = np.array(sorted(found)).reshape(-1, 2)
    return (times[:, 0] - times[0, 0], times[-1].sum() - times[0, 0]) if found else (times[:, 0], 0.0)


def _decode(path, part, size: int, wanted: np.ndarray) -> tuple[np.ndarray, float, dict[int, np.ndarray]]:
    """Decode up to the end of `part`; return the times (decoded,), the end of the last frame and the wanted frames."""
    times, images, wanted = [], {}, set(wanted.flat)
    packets = broken = 0
    origin = stop = 0.0
    with av.open(str(path), metadata_errors="replace") as container:
        stream = _stream(container, path)
        gap, claimed = _usual_gap(stream), _claimed_duration(container, stream)
        for packet in container.demux(stream):
            packets += 1
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                broken += 1
                continue
            for frame in decoded:
                origin = frame.time or 0.0 if not times else origin
                at = stop if frame.time is None else max(frame.time - origin, times[-1] if times else 0.0)
                if len(times) in wanted:
                    images[len(times)] = _square(frame, size)
                times.append(at)
                stop = at + (float(frame.duration * frame.time_base) if frame.duration else gap)
            if times and times[-1] > part[1]:
                break
    if not times:
        raise VideoError(f"{path} has a video stream of which no frame decodes: get or encode it again")
    expected = min(part[1], claimed)
    if max(0, stop - part[0]) < WHOLE * max(0, expected - part[0]) or broken > (1 - WHOLE) * packets:
        raise VideoError(
            f"{path} is truncated or damaged ({stop:.2f} of {expected:.2f} s decode, {broken} of {packets} packets are "
            "broken): get it again"
        )
    return np.array(times), stop, images


def _claimed_duration(container, stream) -> float:
    """Return the seconds that the container claims for the video stream; 0 where it claims nothing."""
    if container.format.name == "avi" and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # FFmpeg shortens the duration to the bytes that are there
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:  # Matroska and WebM keep it in a tag: 00:00:05.040000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return (container.duration or 0) / av.time_base


def _square(frame, size: int) -> np.ndarray:
    image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


class Header(NamedTuple):
    """What a file claims of its pictures: seconds (0 where it claims none), width and height (pixels)."""

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
            return Header(_claimed_duration(container, stream), stream.width, stream.height)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): get or encode it again") from error
