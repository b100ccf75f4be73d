"""Does the GPU give the same numbers, at what speed, with how much memory? Some six minutes on a CUDA machine.

Run by `make gpu-check`; it makes its own frames and a random CLIP of ViT-B/32's size, prints a line per check, writes
results/gpu/<device>.json, and exits with 1 where numbers differ or a check fails. Without a GPU, or with `--reduced`,
it does the same in seconds with a tiny CLIP and writes nothing.
"""

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import BatchSampler
from tqdm import tqdm
from transformers import CLIPConfig

from benchmarks.bench import exact_scores
from benchmarks.made_up import TINY, make_split, make_store, on_device, random_model
from glscl.base import RetrievalModel
from glscl.data.dataset import Split
from glscl.data.decoding import Sampling
from glscl.encoding import encode_texts, encode_videos, loader_of
from glscl.files import write_json
from glscl.metrics import retrieval_metrics
from glscl.scoring import similarity_matrix
from glscl.study.counting import build
from glscl.study.project import commit, hardware
from glscl.study.timing import device, peak_memory
from glscl.training import trainer
from glscl.training.bert_adam import prepare_clip
from glscl.training.memory import recomputed, step_memory
from glscl.training.parallel import Processes
from glscl.training.trainer import TrainSettings
from tests.released.reference import BOUND, CASES, difference, heads

DEVICE = device()
DRAWS = ("t_mass",)  # heads whose training draws numbers on the device: other ones than the reference has
EPOCHS = 3  # of the run that is killed
SETTINGS = TrainSettings(1, 128, 1e-4, 1e-7, 0.2, 0.1, 1.0, "finetuned")


class Size(NamedTuple):
    """How large the checks are. items: texts and videos that are scored. most: pairs of the largest step tried."""

    clip: CLIPConfig
    batch: int
    steps: int
    videos: int
    frames: int
    words: int
    items: int
    pairs: int
    most: int


def size_of(reduced: bool) -> Size:
    """MSR-VTT's sizes with ViT-B/32, or tiny ones."""
    if reduced:
        return Size(CLIPConfig(**TINY), 4, 4, 8, 2, 8, 50, 60, 10)
    return Size(CLIPConfig(), 128, 40, 128, 12, 32, 10_000, 2000, 4096)


class Checks:
    """The checks, on one store of made-up frames in `folder`."""

    def __init__(self, folder: Path, size: Size):
        self.folder, self.size = folder, size
        self.settings = replace(SETTINGS, batch_size=size.batch)
        self.store = make_store(folder, size.videos, Sampling(size.frames), size.clip.vision_config.image_size)

    def model(self) -> RetrievalModel:
        """GLSCL around the random CLIP, on the device."""
        settings = {"frames": self.size.frames, "words": self.size.words}
        layers = min(4, self.size.clip.text_config.num_hidden_layers)
        return random_model("glscl", self.size.clip, temporal_layers=layers, **settings).to(DEVICE)

    def split(self, texts: int) -> Split:
        """Texts and the frames of the store."""
        return make_split(self.store, self.size.clip, self.size.words, texts)

    def parity(self) -> dict:
        """Largest differences from the values of the releases, computed in float32 on the device."""
        found = {"scores": 0.0, "loss": 0.0, "gradient": 0.0}
        with torch.backends.cudnn.flags(enabled=False):  # its convolutions round to TF32
            for head in heads():
                parts = ("scores",) if head in DRAWS and DEVICE.type != "cpu" else tuple(found)
                for case in CASES:
                    distance = difference(head, case, DEVICE)
                    found |= {part: max(found[part], getattr(distance, part)) for part in parts}
        return found | {"bound": 10 * BOUND, "same": max(found.values()) <= 10 * BOUND}

    @torch.inference_mode()
    def half(self) -> dict:
        """bfloat16 against float32: cosines of the embeddings, and R@1 of made-up features, percent."""
        model = self.model().eval()
        data = self.split(self.size.batch)
        batch = data.normalised(on_device(data.__getitems__(list(range(self.size.batch)))))

        def embeddings(dtype) -> tuple[Tensor, Tensor]:
            with torch.autocast(DEVICE.type, dtype) if dtype else nullcontext():
                texts, videos = encode_texts(model, batch), encode_videos(model, batch)
            return texts.sentence.float(), videos.frames.float().flatten(0, 1)

        cosines = [
            torch.cosine_similarity(full, half, dim=-1)
            for full, half in zip(embeddings(None), embeddings(torch.bfloat16), strict=True)
        ]
        recalls = {dtype: self._recall(dtype) for dtype in (None, torch.bfloat16)}
        return {
            "lowest_cosine_texts": cosines[0].min().item(),
            "lowest_cosine_frames": cosines[1].min().item(),
            "r1_float32": recalls[None],
            "r1_bfloat16": recalls[torch.bfloat16],
        }

    def _recall(self, dtype: torch.dtype | None) -> float:
        """R@1, percent, of a random head on features whose texts and videos share what is common to each pair."""
        pairs, width = self.size.pairs, 512
        head = build("glscl", 12, 32, width, temporal_layers=0).to(DEVICE)
        draw = torch.Generator().manual_seed(0)
        common, *noise = (torch.randn(pairs, n, width, generator=draw) for n in (1, 1, 32, 12))
        scale = 10 / (width * (1 + NOISE**2)) ** 0.5
        sentence, words, frames = (scale * (common + NOISE * part).to(DEVICE) for part in noise)
        ones = [torch.ones(part.shape[:2], device=DEVICE) for part in (words, frames)]
        with torch.autocast(DEVICE.type, dtype) if dtype else nullcontext():
            texts, videos = head.encode_texts(sentence[:, 0], words, ones[0]), head.encode_videos(frames, ones[1])
        scores = similarity_matrix(head, texts, videos, dtype)
        return retrieval_metrics(scores.numpy(), range(pairs))["t2v"]["R@1"]

    def throughput(self) -> dict:
        """Pairs per second of a step with inputs on the device, and of training with the share of time without data.

        As the study trains, and with CLIP compiled; of deterministic algorithms and of the optimiser of the releases
        the step alone. Seconds until the loader's first batch stand apart, as every epoch has them once.
        """
        few, found = self.size.steps // 4, {}
        ways = {"plain": {}, "compile": {"compile": True}, "deterministic": {"deterministic": True}}
        for name, changes in (ways | {"released": {"optimizer": "released"}}).items():
            with self._training(self.model(), replace(self.settings, **changes)) as train:
                train(self._resident(self.size.batch, 2), 2)
                ceiling = train(self._resident(self.size.batch, few), few)["items_per_second"]
                fed = self._fed(train, few, ceiling) if name in ("plain", "compile") else {}
            found[name] = {"ceiling": ceiling} | fed
        return found

    def _fed(self, train: Callable[[Iterable, int], dict], few: int, ceiling: float) -> dict:
        """What `train` reaches on batches that other processes read, after a few steps; beside its ceiling."""
        size = self.size
        data, begin = self.split(size.steps * size.batch), time.perf_counter()
        batches = BatchSampler(range(len(data)), size.batch, drop_last=True)
        read = iter(loader_of(data, data, DEVICE, batches, torch.Generator()))
        first = next(read)
        start = time.perf_counter() - begin
        train(chain([first], islice(read, few - 1)), few)
        fed = train(read, size.steps - few)
        return {
            "pairs_per_second": fed["items_per_second"],
            "of_ceiling": fed["items_per_second"] / ceiling,
            "data_wait_share": fed["data_wait_share"],
            "seconds_to_first_batch": start,
        }

    @contextmanager
    def _training(self, model: RetrievalModel, settings: TrainSettings) -> Iterator[Callable[[Iterable, int], dict]]:
        """A call that trains on so many batches and returns what `trainer` measures."""
        model.clip.logit_scale.requires_grad_(False)
        if settings.half:
            prepare_clip(model.clip)
        optimizer = trainer._optimizer(model, settings, DEVICE)
        data = self.split(settings.batch_size)
        run = trainer._Run(model, optimizer, data, settings, 0, Processes.of_launcher(), self.folder, {})
        lean = recomputed(model.clip) if settings.checkpointing else nullcontext()
        with lean, trainer._deterministic(settings.deterministic):
            if settings.compile:
                trainer._compile(run)
            yield lambda batches, count: trainer._epoch(run, tqdm(batches, disable=True), 0, count)

    def _resident(self, batch: int, count: int) -> list[dict[str, Tensor]]:
        """The same batch, on the device, so many times."""
        return [on_device(self.split(batch).__getitems__(list(range(batch))))] * count

    def memory(self) -> dict:
        """Bytes at the peak of a step, with and without checkpointing: measured, and as `step_memory` counts them."""
        model, found = self.model(), {}
        counted = step_memory(model, self.settings, gpu=DEVICE.type == "cuda")
        weights = sum(parameter.nbytes for parameter in model.parameters())
        for name, checkpointing in (("plain", False), ("checkpointing", True)):
            settings = replace(self.settings, checkpointing=checkpointing)
            model.zero_grad()
            peak = peak_memory(lambda settings=settings: self._steps(model, settings, 2))
            found[name] = {"measured": weights + peak, "counted": counted.peak(self.size.batch, checkpointing)}
        return found

    def _steps(self, model: RetrievalModel, settings: TrainSettings, count: int) -> dict:
        """Train so many steps on a batch that lies on the device; what `trainer` measures."""
        with self._training(model, settings) as train:
            return train(self._resident(settings.batch_size, count), count)

    def largest_batch(self) -> dict:
        """Pairs of the largest step that the device holds, without checkpointing and with it."""
        model = self.model()
        counted = step_memory(model, self.settings, gpu=DEVICE.type == "cuda")

        def holds(batch: int, checkpointing: bool) -> bool:
            try:
                self._steps(model, replace(self.settings, batch_size=batch, checkpointing=checkpointing), 1)
            except torch.OutOfMemoryError:
                return False
            finally:
                model.zero_grad()
                if DEVICE.type == "cuda":
                    torch.cuda.empty_cache()
            return True

        capacity = torch.cuda.get_device_properties(DEVICE).total_memory if DEVICE.type == "cuda" else 0
        found = {}
        for name, checkpointing in (("plain", False), ("checkpointing", True)):
            fitting = [n for n in range(8, self.size.most + 1, 8) if counted.fits(capacity, n, checkpointing)]
            first = max(fitting, default=8)
            found[name] = largest(lambda n, c=checkpointing: holds(n, c), first, self.size.most) | {"counted": first}
        return found

    def scoring(self) -> dict:
        """Exact scores of all texts with all videos against the two plain matrix products inside them."""
        return exact_scores(self.size.items, 512) | {"items": self.size.items}

    def resume(self) -> dict:
        """Whether a run that was killed after its first epoch ends with the numbers of one that was not."""
        train_tiny(self.folder / "whole")
        killed = self.folder / "killed"
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--train", str(killed)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not list(killed.glob("epoch-*/curve.json")):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        if not list(killed.glob("epoch-*")) or (killed / "curve.csv").exists():
            raise RuntimeError("the training that is killed should have begun and not have ended; run the check again.")
        train_tiny(killed)
        return {"same": equal_runs(self.folder / "whole", killed)}


NOISE = 4.5  # over what a pair has in common: R@1 lies between 0 and 100 %


def largest(holds: Callable[[int], bool], first: int, most: int) -> dict:
    """The largest number up to `most` that holds, to an eighth, from a guess: {"batch": 0 where none does}."""
    good, bad = 0, None
    tried = first
    while tried <= most:
        if holds(tried):
            good = tried
            if bad is not None:
                break
            tried = max(tried + 1, tried * 9 // 8)
        else:
            bad = tried
            if good or tried == 1:
                break
            tried = tried * 8 // 9
    return {"batch": good}


def train_tiny(folder: Path) -> None:
    """Train a tiny CLIP, whose state is small, deterministically; a run that was killed in `folder` goes on."""
    clip = CLIPConfig(**TINY)
    place = folder.parent / "tiny"
    store = make_store(place, 8, Sampling(2), clip.vision_config.image_size)
    model = random_model("glscl", clip, temporal_layers=1, decoder_heads=4, frames=2, words=8)
    settings = replace(SETTINGS, epochs=EPOCHS, batch_size=4, lr_new=1e-3, lr_clip=1e-4, deterministic=True)
    data, validation = (make_split(store, clip, 8, texts) for texts in (32, 8))
    trainer.train(model, data, validation, settings, 0, folder, progress=False)


def equal_runs(one: Path, other: Path) -> bool:
    """Whether two runs have the same curve and the same last weights, to the bit."""
    curves = [(folder / "curve.csv").read_bytes() for folder in (one, other)]
    weights = [load_file(folder / "last.safetensors") for folder in (one, other)]
    return curves[0] == curves[1] and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def attempt(check: Callable[[], dict]) -> dict:
    """What a check found, or the error that ended it: the other checks go on."""
    try:
        return check()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


CHECKS = ("parity", "half", "memory", "largest_batch", "scoring", "resume", "throughput")


def main() -> int:
    """Run all checks, print a line for each, write the file on a GPU; 1 where one of them failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--reduced", action="store_true", help="tiny sizes, nothing written")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # of deterministic products, read when CUDA starts
    if given.train:
        train_tiny(given.train)
        return 0
    if DEVICE.type == "cpu":
        print("No GPU was found: the checks run in reduced form on the processor, and nothing is written.")
    reduced = given.reduced or DEVICE.type == "cpu"
    about = {
        "hardware": hardware(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit(),
    } | {package: version(package) for package in ("torch", "transformers")}
    name = re.sub(r"\W+", "-", hardware()).strip("-").lower()
    file = Path("results/gpu", f"{name}.json")
    begin, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(Path(folder), size_of(reduced))
        for check in CHECKS:
            start = time.monotonic()
            found[check] = attempt(getattr(checks, check))
            print(f"{check}: {found[check]}, {time.monotonic() - start:.0f} s", flush=True)
            if not reduced:  # after every check, as a machine may be lent for minutes
                write_json(file, {"about": about | {"seconds": time.monotonic() - begin}, "checks": found}, digits=4)
    return 0 if all(one.get("same", "error" not in one) for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
