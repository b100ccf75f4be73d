"""What will a benchmark take on this machine? A rehearsal without its files: disk, hours, memory.

Run by `make rehearse DATASET=msrvtt`. Counts, frames, words and training settings are the benchmark's; videos are made
up, CLIP is random and of the preset's size. A share of the videos is stored, GLSCL is trained for about a minute by its
recipe, and the whole test gallery is scored. `--reduced` does the same with a tiny CLIP in seconds.
"""

import argparse
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import torch
from transformers import CLIPConfig

from benchmarks.made_up import TINY, clip_config, make_split, make_store, on_device, random_model
from glscl.base import RetrievalModel
from glscl.data.corpora.counts import counts_of
from glscl.data.dataset import Split
from glscl.data.decoding import Sampling
from glscl.encoding import encode_texts, encode_videos
from glscl.methods import settings_of
from glscl.metrics import retrieval_metrics
from glscl.scoring import similarity_matrix
from glscl.study.parameters import named_sections, resolve
from glscl.study.project import hardware, project_root
from glscl.study.timing import clock, device, peak_memory, repeated, timed
from glscl.training.bert_adam import prepare_clip
from glscl.training.memory import StepMemory, remedy, step_memory
from glscl.training.trainer import TrainSettings, train

METHOD = "glscl"
DATASETS = ("msrvtt", "msvd", "didemo", "lsmdc", "activitynet", "vatex", "charades", "charades_sta")
KILOBYTES = {"msrvtt": 14.8, "msvd": 15.5}  # of a frame in the store, measured on real clips: docs/data.md
OTHERS = 15.8  # of the frames of Charades and ActivityNet, which stand for the rest
SHARE = 0.01  # of the videos that are stored
CARDS = (24, 40, 80)  # gigabytes
FEW = 96  # frames of a step on a processor: eight pairs or two, a minute
MEASURED = 4  # pairs at most whose memory is measured
DEVICE = device()
FIRST = 10 if DEVICE.type == "cuda" else 1  # steps of a first epoch, to warm up


class Plan(NamedTuple):
    """A benchmark as the pipeline would train GLSCL on it. counts: {split: (videos, captions)}."""

    dataset: str
    counts: dict[str, tuple[int, int]]
    clip: CLIPConfig
    words: int
    sampling: Sampling
    model: dict
    settings: TrainSettings
    seeds: int

    @classmethod
    def of(cls, dataset: str, reduced: bool = False) -> "Plan":
        """From params.yaml. reduced: with a tiny CLIP, few frames and a small batch."""
        parts = [f"datasets.{dataset}.{part}" for part in ("corpus", "inputs", "prepare", "train", "model")]
        profile = [f"profiles.quick.videos.{part}" for part in ("seeds", "train")]
        names = [
            "prepare",
            "train",
            "model",
            *parts,
            f"methods.{METHOD}",
            "use_recipes",
            f"recipes.{dataset}",
            *profile,
        ]
        given = resolve(named_sections(project_root(), names))
        inputs, prepare = given["inputs"], given["prepare"]
        frames, words = (2, 8) if reduced else (inputs["frames"], inputs["words"])
        settings = TrainSettings(**given["train"], backbone=inputs["backbone"])
        return cls(
            dataset,
            counts_of(dataset, given["corpus"].get("partition")),
            CLIPConfig(**TINY) if reduced else clip_config(inputs["clip"]),
            words,
            Sampling(frames, prepare["sampling"], prepare["fps"], prepare["offsets"]),
            settings_of(METHOD, given["model"] | {"frames": frames, "words": words})
            | ({"temporal_layers": 1, "decoder_heads": 4} if reduced else {}),
            replace(settings, batch_size=8) if reduced else settings,
            len(given["seeds"]),
        )

    @property
    def videos(self) -> int:
        """Videos of all splits."""
        return sum(videos for videos, _ in self.counts.values())

    def disk(self) -> float:
        """Bytes of the store at most: short videos take less."""
        positions = self.videos * self.sampling.frames * self.sampling.offsets
        return positions * (1000 * KILOBYTES.get(self.dataset, OTHERS) + 16)  # of which 16 say where the JPEG lies

    def require_disk(self, folder: Path) -> None:
        """Raise a ValueError where the store would not fit the disk of `folder`."""
        free = shutil.disk_usage(folder).free
        if self.disk() > free:
            raise ValueError(
                f"the frame store of {self.dataset} takes {self.disk() / 1e9:.1f} GB, got a disk with "
                f"{free / 1e9:.1f} GB free; make room, or lower datasets.*.prepare.offsets or prepare.quality."
            )


def rehearse(plan: Plan, folder: Path, seconds: float) -> dict:
    """Measure in `folder`, with some `seconds` of training, what the run of a plan takes; what `lines` prints.

    Raises ValueError where the disk would not hold the store.
    """
    plan.require_disk(folder)
    model = random_model(METHOD, plan.clip, **plan.model).to(DEVICE)
    real, batch = plan.settings, plan.settings.batch_size
    on_gpu = _memory(model, real, gpu=True)
    here = on_gpu if DEVICE.type == "cuda" else _memory(model, replace(real, optimizer="adamw"), gpu=False)
    settings = _feasible(plan, here)
    made = min(plan.videos, max(2 * settings.batch_size, round(SHARE * plan.videos)))
    store = make_store(folder, made, plan.sampling, plan.clip.vision_config.image_size)

    def split(texts: int) -> Split:
        return make_split(store, plan.clip, plan.words, texts)

    def epoch(steps: int) -> dict[str, float]:
        run = folder / f"{steps} steps"
        data, once = split(steps * settings.batch_size), replace(settings, epochs=1)
        with redirect_stdout(StringIO()):  # its line tells of an R@1, which means nothing here
            train(model, data, split(2), once, 0, run, progress=False)
        return pd.read_csv(run / "clock.csv").iloc[0].to_dict()

    first = epoch(FIRST)  # takes the start of the reading processes too, which a real epoch hardly notices
    steps = FIRST + max(1, round(seconds * FIRST / first["seconds"]))
    measured = epoch(steps)
    per_second = (steps - FIRST) * settings.batch_size / max(measured["seconds"] - first["seconds"], 1e-9)
    per_text, per_video, scoring = _evaluation(model, split(2 * settings.batch_size), plan.counts["test"])

    def encoding(part: str) -> float:
        videos, captions = plan.counts[part]
        return captions * per_text + videos * per_video

    of_epoch = plan.counts["train"][1] / per_second + encoding("val")
    counted, taken = _kept(model, split(min(MEASURED, settings.batch_size)))
    return {
        "dataset": plan.dataset,
        "hardware": hardware(),
        "optimizer": settings.optimizer,
        "recipe": real.optimizer,
        "videos": plan.videos,
        "made": made,
        "frames": plan.sampling.frames,
        "disk": plan.disk(),
        "free": shutil.disk_usage(folder).free,
        "batch": batch,
        "trained": settings.batch_size,
        "chunk": settings.chunk,
        "checkpointing": settings.checkpointing,
        "steps": steps,
        "pairs_per_second": per_second,
        "data_wait_share": measured["data_wait_share"],
        "epoch_hours": of_epoch / 3600,
        "epochs": real.epochs,
        "seeds": plan.seeds,
        "evaluation_hours": (encoding("test") + scoring) / 3600,
        "scoring_seconds": scoring,
        "step_bytes": here.peak(batch, settings.checkpointing, settings.chunk),
        "main_memory": psutil.virtual_memory().total,
        "counted": counted,
        "taken": taken,
        "cards": {card: remedy(on_gpu.smallest(card * 2**30, batch)) for card in CARDS},
    }


def _memory(model: RetrievalModel, settings: TrainSettings, gpu: bool) -> StepMemory:
    if settings.half:
        prepare_clip(model.clip)
    memory = step_memory(model, settings, gpu)
    model.float()
    return memory


def _feasible(plan: Plan, memory: StepMemory) -> TrainSettings:
    """The settings that this machine can train with: on a processor few pairs, in float32."""
    settings = replace(plan.settings, keep_epochs=False)
    if DEVICE.type == "cpu":
        few = max(2, FEW // plan.sampling.frames)
        return replace(settings, batch_size=min(few, settings.batch_size), optimizer="adamw")
    capacity = torch.cuda.get_device_properties(DEVICE).total_memory
    found = memory.smallest(capacity, settings.batch_size)
    if found is None:
        raise ValueError(f"a step should fit the GPU, got {capacity / 2**30:.0f} GB; {remedy(None)}.")
    return replace(settings, **found)


@torch.inference_mode()
def _evaluation(model: RetrievalModel, split: Split, gallery: tuple[int, int]) -> tuple[float, float, float]:
    """Seconds to encode one text and one video of a split, and to score a gallery (videos, captions) with ranks.

    The embeddings of the split are repeated until the gallery is full.
    """
    model.eval()

    def texts():
        return encode_texts(model, on_device(split.text_batch(torch.arange(len(split)))))

    def videos():
        batch = on_device(split.video_batch(torch.arange(len(split.videos))))
        return encode_videos(model, split.normalised(batch))

    per_text, per_video = timed(texts) / len(split), timed(videos) / len(split.videos)
    count, captions = gallery
    sides = repeated(texts(), captions), repeated(videos(), count)
    begin = clock()
    retrieval_metrics(similarity_matrix(model, *sides).numpy(), torch.arange(captions).numpy() % count)
    return per_text, per_video, clock() - begin


def _kept(model: RetrievalModel, split: Split) -> tuple[float, float | None]:
    """Bytes that a step keeps for its gradient in float32, as counted and as measured (None: not on this system)."""
    pairs = len(split)
    plain = TrainSettings(1, pairs, 1e-4, 1e-7, 0.2, 0.1, 1.0, "finetuned")
    memory = _memory(model.requires_grad_(True), plain, gpu=False)
    batch = split.normalised(on_device(split.__getitems__(list(range(pairs)))))
    model.train()

    def step():
        model.loss(encode_texts(model, batch), encode_videos(model, batch))["total"].backward()

    step()  # gradients and buffers of libraries are there from now on
    counted = memory.peak(pairs) - memory.state - pairs * (2 * memory.images + memory.pixels)
    return counted, peak_memory(step)


def lines(found: dict) -> list[str]:
    """What was measured, and what the real run needs, in sentences."""
    hours, epochs, seeds = found["epoch_hours"], found["epochs"], found["seeds"]
    how = f"optimiser {found['optimizer']}" + (", checkpointing" if found["checkpointing"] else "")
    if found["optimizer"] != found["recipe"]:
        how += " in float32 (the recipe's float16 takes a processor many times as long)"
    how += f", {found['chunk']} pairs at a time" if found["chunk"] else ""
    taken = "not measured" if found["taken"] is None else f"{found['taken'] / 2**30:.2f} measured"
    step = found["step_bytes"] / 2**30
    holds = "" if DEVICE.type == "cuda" else f" (main memory: {found['main_memory'] / 2**30:.0f} GB)"
    return [
        f"{found['dataset']} on {found['hardware']}, rehearsed with {found['made']:,} of {found['videos']:,} videos of "
        f"{found['frames']} frames, made up, and a CLIP with random weights.",
        f"Disk: the frame store takes up to {found['disk'] / 1e9:.1f} GB, {found['free'] / 1e9:.1f} GB are free.",
        f"Training: {found['pairs_per_second']:.3g} pairs per second over {found['steps']} steps of {found['trained']} "
        f"(the run has {found['batch']}), {how}, {found['data_wait_share']:.0%} of the time waiting for data.",
        f"Hours: {hours:.3g} per epoch with its validation, {epochs * hours:.3g} for {epochs} epochs, "
        f"{seeds * epochs * hours:.3g} for {seeds} seeds.",
        f"Evaluation: {found['evaluation_hours']:.3g} hours, of which {found['scoring_seconds']:.3g} seconds for "
        "scores and ranks of the whole test gallery (embeddings repeated).",
        f"Memory: a step of {found['batch']} pairs takes {step:.1f} GB{holds}, counted; for the gradient of "
        f"{min(MEASURED, found['trained'])} pairs in float32, {found['counted'] / 2**30:.2f} GB are counted, {taken}.",
        *(f"On a GPU of {card} GB: {what}." for card, what in found["cards"].items()),
    ]


def main() -> None:
    """Rehearse one benchmark and print what its run needs; a refusal is one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--reduced", action="store_true", help="a tiny CLIP, seconds")
    given = parser.parse_args()
    Path("work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="work") as folder:  # where the store of the run will lie
        try:
            plan = Plan.of(given.dataset, given.reduced)
            print(*lines(rehearse(plan, Path(folder), 1 if given.reduced else 60)), sep="\n")
        except ValueError as refusal:
            sys.exit(str(refusal))


if __name__ == "__main__":
    main()
