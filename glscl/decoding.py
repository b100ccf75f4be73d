"""Sampling and decoding the frames of one video file."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

# A file counts as truncated below this share of its claimed duration, or when a larger rest of its packets is broken.
WHOLE = 0.8


class VideoError(ValueError):
    """A video file that cannot give its frames; the message is one sentence with the file and the remedy."""


def sample_times(duration: float, frames: int) -> np.ndarray:
    """Return the centres of `frames` equal segments of `duration` seconds: (k + 1/2) * duration / frames, (frames,)."""
    return (np.arange(frames) + 0.5) * duration / frames


def decode_frames(
    path: str | Path, frames: int, size: int, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Decode the RGB frames displayed at the sample times of a file, or of its part from `start` to `end`.

    Times are those of the decoded frames, in seconds since the first one; the container's claims place no sample.
    A frame is displayed until the next one comes. A frame that is displayed at several sample times is given once,
    so a short video gives fewer frames. The shortest side is resized to `size` (bicubic), then the centre is cut.

    Packets that do not decode are skipped as players do. The file is refused as truncated when more than 20 % of its
    packets are broken, or when the decoded frames cover less than 80 % of the duration that the container claims for
    the video stream (in the part asked for).

    Args:
        path: the file.
        frames: number of sample times, at least 1.
        size: side of the square frames, pixels.
        start: seconds; None or NaN = the beginning.
        end: seconds; None or NaN = the end.

    Returns:
        uint8 (frames_found, size, size, 3), 1 <= frames_found <= frames, in order of display.

    Raises:
        VideoError: the file is absent, empty, a folder, no video, unreadable or truncated, or ends before `start`.
        ValueError: `end` is not after `start`, or `frames` or `size` is below 1.
    """
    start, end = (None if value is None or np.isnan(value) else float(value) for value in (start, end))
    part = (start or 0.0, np.inf if end is None else end)
    if not 0 <= part[0] < part[1] or frames < 1 or size < 1:
        raise ValueError(f"{path}: needs 0 <= start < end and frames, size >= 1, got {start}, {end}, {frames}, {size}")
    if reason := unfit(path):
        raise VideoError(reason)
    try:
        # The packets tell which frames will be wanted; where decoding gives other times, it runs once more with those.
        wanted = _displayed(*_packet_times(path), part, frames)
        times, stop, images = _decode(path, part, size, wanted)
        shown = _displayed(times, stop, part, frames)
        if not set(shown) <= set(images):
            images = _decode(path, part, size, shown)[2]
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): get or encode it again") from error
    if not shown:
        raise VideoError(f"{path} ends at {stop:.2f} s, before the start {part[0]:.2f} s: correct the annotation")
    return np.stack([images[index] for index in shown])


def unfit(path: str | Path) -> str | None:
    """Say what rules the file out without opening it, or None."""
    path = Path(path)
    if not path.exists():
        return f"{path} is absent: put the video there or correct the path"
    if path.is_dir():
        return f"{path} is a folder and should be a video file: correct the path"
    return None if path.stat().st_size else f"{path} is empty (0 bytes): get it again"


def _displayed(times: np.ndarray, stop: float, part: tuple[float, float], frames: int) -> list[int]:
    """Return the indices, without repetition, of the frames on display at the sample times; empty after the end."""
    first, last = part[0], min(part[1], stop)
    if len(times) == 0 or first >= last:
        return []
    # A sample on the very border of two frames takes the later one, however its time was rounded.
    at = first + sample_times(last - first, frames) + 1e-6
    return np.unique(np.searchsorted(times, at, side="right").clip(1) - 1).tolist()


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


def _decode(path, part, size: int, wanted: list[int]) -> tuple[np.ndarray, float, dict[int, np.ndarray]]:
    """Decode up to the end of `part`; return the times (decoded,), the end of the last frame and the wanted frames."""
    times, images, wanted = [], {}, set(wanted)
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
