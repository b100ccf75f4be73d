"""Does decoding use the cores, does the store save time, does memory stay? Ratios within one run, for `make bench`.

The project has no real videos, so the benchmark draws one: a textured background that the camera moves along, shapes
that move over it, and grain, encoded as H.264 with 320 x 240 pixels and 25 frames per second.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import av
import numpy as np
import pandas as pd
import psutil
from PIL import Image

from glscl.data.decoding import Sampling, decode_frames
from glscl.data.frame_store import FrameStore, write_store

WIDTH, HEIGHT, RATE = 320, 240, 25
FRAMES, OFFSETS, SIZE = 12, 3, 224  # MSR-VTT's


def draw_video(path: Path, seconds: float, rate: int = RATE) -> None:
    """Encode a made-up video of this duration, with `rate` frames per second."""
    random = np.random.default_rng(0)
    layers = [random.integers(0, 256, (side, 2 * side, 3), dtype=np.uint8) for side in (6, 24, 96)]
    size = (4 * WIDTH, 2 * HEIGHT)
    background = np.mean([np.asarray(Image.fromarray(layer).resize(size)) for layer in layers], axis=0)
    grain = random.normal(0, 3, (8, HEIGHT, WIDTH, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(round(seconds * rate)):
            at = number / rate
            left = round(1.5 * WIDTH * (1 + np.sin(at / 5)))
            top = round(0.5 * HEIGHT * (1 + np.cos(at / 3)))
            image = background[top : top + HEIGHT, left : left + WIDTH] + grain[number % 8]
            for shape in range(4):
                x = round((WIDTH - 50) * (0.5 + 0.5 * np.sin(at * (1 + shape / 3) + shape)))
                y = round((HEIGHT - 50) * (0.5 + 0.5 * np.cos(at * (1 + shape / 4))))
                image[y : y + 50, x : x + 50] = 60 * shape
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def copies(path: Path, videos: int) -> pd.DataFrame:
    """A table that names one file as so many videos."""
    names = [str(number) for number in range(videos)]
    return pd.DataFrame({"video": names, "path": str(path), "start": np.nan, "end": np.nan})


def store(folder: Path, path: Path, videos: int, workers: int) -> float:
    """Write a store of copies; seconds."""
    sampling = Sampling(FRAMES, offsets=OFFSETS)
    return write_store(folder, copies(path, videos), sampling, SIZE, workers=workers, progress=False)["seconds"]


def apart(call: str) -> dict:
    """What a function of this file returns, called in a process of its own, which holds neither torch nor a model."""
    code = f"import json; from benchmarks import frames; print(json.dumps(frames.{call}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def parallel_decoding(videos: int, seconds: float) -> dict:
    """Time of one decoding process over the time of two."""
    return apart(f"time_decoding({videos}, {seconds})")


def time_decoding(videos: int, seconds: float) -> dict:
    """One and two processes in turn, three times; the shortest of each, which was disturbed least."""
    with tempfile.TemporaryDirectory() as folder:
        path, found = Path(folder) / "video.mp4", {1: [], 2: []}
        draw_video(path, seconds)
        for _ in range(3):
            for workers, times in found.items():
                times.append(store(Path(folder) / "store", path, videos, workers))
        kilobytes = path.stat().st_size / 1000
    return {
        "value": min(found[1]) / min(found[2]),
        "videos_per_second": videos / min(found[2]),
        "kilobytes_per_second_of_video": kilobytes / seconds,
    }


def reading(seconds: float) -> dict:
    """Time to decode the evaluation sample of a file again over the time to read it from the store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        draw_video(path, seconds)
        store(Path(folder) / "store", path, 8, 1)
        kept, again, read = FrameStore(Path(folder) / "store"), [], []
        for row in range(8):
            begin = time.perf_counter()
            decode_frames(path, FRAMES, SIZE)
            between = time.perf_counter()
            kept.read([row])
            again.append(between - begin)
            read.append(time.perf_counter() - between)
    ratio = median(a / b for a, b in zip(again, read, strict=True))
    return {"value": ratio, "seconds_to_decode": median(again), "seconds_to_read": median(read)}


def decoding_memory(videos: int, seconds: float) -> dict:
    """Peak memory of preparing 4 times the videos over that of preparing `videos`."""
    small, large = (apart(f"peak_memory({number}, {seconds})")["bytes"] for number in (videos, 4 * videos))
    return {"value": large / small, "megabytes": large / 1e6}


def peak_memory(videos: int, seconds: float) -> dict:
    """Peak of resident memory of this process and its two decoding processes while a store is written."""
    peak, done = 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.02):
            with suppress(psutil.NoSuchProcess):  # one that ended while it was looked at
                family = [psutil.Process(), *psutil.Process().children()]
                peak = max(peak, sum(process.memory_info().rss for process in family))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        draw_video(path, seconds)
        watcher = threading.Thread(target=watch)
        watcher.start()
        store(Path(folder) / "store", path, videos, 2)
        done.set()
        watcher.join()
    return {"bytes": peak}
