"""One training run: optimiser, schedule, validation, checkpoints and exact resume."""

import json
import math
import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from tqdm import tqdm

from glscl.base import RetrievalModel
from glscl.config import at_least, one_of
from glscl.data.dataset import Split
from glscl.encoding import encode_split, encode_texts, encode_videos
from glscl.files import write_table
from glscl.metrics import retrieval_metrics
from glscl.rivals.cross_encoder import CrossEncoder, rerank
from glscl.scoring import similarity_matrix
from glscl.training.bert_adam import (
    BertAdam,
    clamp_logit_scale,
    half_features,
    prepare_clip,
    released_learning_rate_factor,
    to_half,
)

CANDIDATES = 20  # of each text, that a cross-encoder orders on validation
GAIN = 0.5  # points of R@1 on validation that count as a gain


@dataclass(frozen=True)
class TrainSettings:
    """How a run is trained.

    epochs: passes over all captions. batch_size: pairs of text and video per step.
    lr_new: peak learning rate of the head. lr_clip: of CLIP. lr_scale: of the logit scale; None: lr_clip.
    weight_decay: of AdamW, on matrices only; with `released`, on all but biases. warmup: share of all steps with a
    rising rate; a cosine to 0 follows. clip_grad: largest norm of the gradient. backbone: `frozen`, `finetuned`, or
    `scratch` (finetuned from random).
    keep_epochs: keep the weights of every epoch, for the row that is selected on the test split, as releases do.
    keep_steps: keep the weights after these steps too.
    patience: epochs without a gain of `GAIN` on validation after which training stops; 0 trains all epochs.
    optimizer: `adamw`, or `released`: optimiser, schedule and float16 weights of CLIP as in the CLIP4Clip family's
    releases, see `glscl.training.bert_adam`. A learning rate does not mean the same in both. betas: how much of the
    mean of the gradient and of its square a step keeps.
    """

    epochs: int
    batch_size: int
    lr_new: float
    lr_clip: float
    weight_decay: float
    warmup: float
    clip_grad: float
    backbone: str
    keep_epochs: bool = False
    keep_steps: tuple[int, ...] = ()
    patience: int = 0
    lr_scale: float | None = None
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self):
        for name, low in (("epochs", 1), ("batch_size", 2), ("weight_decay", 0), ("warmup", 0), ("patience", 0)):
            at_least(name, getattr(self, name), low)
        for name in ("lr_new", "lr_clip", "clip_grad", *(["lr_scale"] if self.lr_scale is not None else [])):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}; correct it in params.yaml.")
        if not self.warmup < 1:
            raise ValueError(f"warmup is a share of all steps below 1, got {self.warmup}; correct it in params.yaml.")
        one_of("backbone", self.backbone, ("frozen", "finetuned", "scratch"))
        one_of("optimizer", self.optimizer, ("adamw", "released"))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two shares below 1, got {self.betas}; the releases use 0.9 and 0.98.")

    @property
    def half(self) -> bool:
        """Whether CLIP is trained in float16."""
        return self.optimizer == "released" and self.backbone != "frozen"


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise over `warmup` of all steps, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def parameter_groups(model: RetrievalModel, settings: TrainSettings) -> list[dict]:
    """Groups by learning rate and weight decay; vectors and scalars (norms, biases, logit scale) are not decayed.

    With the released optimiser only biases are not: its releases exempt norms by a name that CLIP's norms do not have.
    """
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            peak = settings.lr_clip if name.startswith("clip.") else settings.lr_new
            if "logit_scale" in name:
                peak = settings.lr_clip if settings.lr_scale is None else settings.lr_scale
            decayed = "bias" not in name if settings.optimizer == "released" else parameter.ndim > 1
            decay = settings.weight_decay if decayed else 0.0
            groups.setdefault((peak, decay), []).append(parameter)
    return [{"params": group, "peak": peak, "weight_decay": decay} for (peak, decay), group in groups.items()]


def recall_at_1(model: RetrievalModel, split: Split) -> float:
    """Text-to-video R@1, percent: what selects an epoch on the validation split.

    A cross-encoder re-ranks the `CANDIDATES` best of the cosines that it holds: all pairs would take minutes.
    """
    texts, videos = encode_split(model, split)
    if isinstance(model, CrossEncoder):
        first = model.head.cosines(texts, videos)
        scores = rerank(model.head, texts, videos, first, min(CANDIDATES, len(split.videos)))
    else:
        scores = similarity_matrix(model, texts, videos)
    return retrieval_metrics(scores.numpy(), split.video_of_text.numpy())["t2v"]["R@1"]


def is_flat(scores: list[float], patience: int) -> bool:
    """Whether none of the last `patience` scores is a `GAIN` above the best of those before; never for patience 0."""
    return 0 < patience < len(scores) and max(scores[-patience:]) < max(scores[:-patience]) + GAIN


def train(
    model: RetrievalModel,
    data: Split,
    validation: Split,
    settings: TrainSettings,
    seed: int,
    folder: Path,
    progress: bool = True,
):
    """Train, and write `selected.safetensors`, `last.safetensors`, `curve.csv` and `clock.csv` into `folder`.

    The selected weights are those of the epoch with the best `recall_at_1` on `validation`; both files hold the
    trained weights. With `keep_epochs` and `keep_steps` there are files `after-<step>.safetensors` too. After every
    epoch the whole state is stored in `folder`, and a run that was stopped goes on from there to the same numbers:
    each epoch draws its order, its frames and its dropout from (seed, epoch) alone. If the run is complete already,
    the model is left as it is: the files hold the result. Every epoch prints a line; `progress` adds a bar for its
    steps.
    Raises ValueError for fewer texts than one batch, or a loss that is not finite.
    """
    if (folder / "curve.csv").exists():
        return
    if len(data) < settings.batch_size:
        raise ValueError(f"one batch needs {settings.batch_size} texts, got {len(data)}; lower train.batch_size.")
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    if accelerator.num_processes > 1:
        raise ValueError(f"training runs in one process, got {accelerator.num_processes}; start it without a launcher.")
    model.clip.requires_grad_(settings.backbone != "frozen")
    model.clip.logit_scale.requires_grad_(False)
    if settings.half:
        prepare_clip(model.clip)
    groups, betas = parameter_groups(model, settings), tuple(settings.betas)
    if settings.optimizer == "released":
        optimizer = BertAdam(groups, betas=betas, eps=1e-6, max_norm=settings.clip_grad)
    else:
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-6)
    shuffle = torch.Generator()
    loader = DataLoader(
        data, settings.batch_size, True, drop_last=True, generator=shuffle, collate_fn=lambda batch: batch
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    folder.mkdir(parents=True, exist_ok=True)
    curve, selected = _resume(folder, trained, optimizer)
    steps = settings.epochs * len(loader)
    for epoch in range(len(curve), settings.epochs):
        if is_flat([row["val_r1"] for row in curve], settings.patience):
            break
        torch.manual_seed(_mix(seed, epoch))
        shuffle.manual_seed(_mix(seed, epoch))
        data.draw = (seed, epoch)
        with tqdm(
            loader, f"seed {seed}, epoch {epoch + 1}/{settings.epochs}", unit="step", disable=not progress
        ) as bar:
            keep = _Kept(folder, trained, settings.keep_steps)
            terms = _epoch(accelerator, model, optimizer, bar, settings, epoch * len(loader), steps, keep)
        if settings.half:
            model.clip.float()  # validation is what evaluation will compute with these weights
        score = recall_at_1(model, validation)
        if settings.half:
            to_half(model.clip)
        best = max((row["val_r1"] for row in curve), default=-1.0)
        curve.append({"seed": seed, "epoch": epoch + 1, "step": (epoch + 1) * len(loader)} | terms)
        curve[-1]["val_r1"] = score
        if score > best:
            selected = {name: p.detach().cpu().clone() for name, p in trained.items()}
        if settings.keep_epochs:
            keep.write(curve[-1]["step"])
        _store(folder, trained, selected, optimizer, curve)
        print(EPOCH.format(epochs=settings.epochs, **curve[-1]), flush=True)
    save_file(selected, folder / "selected.safetensors")
    save_file(_weights(trained), folder / "last.safetensors")
    if settings.half:
        model.clip.float()
    rows = pd.DataFrame(curve)
    write_table(folder / "clock.csv", rows[["seed", "epoch", *CLOCK]])
    write_table(folder / "curve.csv", rows.drop(columns=CLOCK))
    for checkpoint in folder.glob("epoch-*"):
        shutil.rmtree(checkpoint)


CLOCK = ["seconds", "items_per_second", "data_wait_share"]  # what was measured; all else is the same everywhere
EPOCH = (
    "seed {seed}, epoch {epoch} of {epochs}: loss {loss_total:.3f}, validation R@1 {val_r1:.1f}, "
    "{items_per_second:.0f} texts/s, {data_wait_share:.0%} of the time waiting for data"
)


def _weights(trained: dict) -> dict:
    return {name: p.detach().cpu().contiguous() for name, p in trained.items()}


class _Kept(NamedTuple):
    """Weights that are kept while training goes on: after the steps `steps`, in `folder`."""

    folder: Path
    trained: dict
    steps: tuple[int, ...]

    def write(self, step: int) -> None:
        save_file(_weights(self.trained), self.folder / f"after-{step:06d}.safetensors")


def _mix(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _epoch(accelerator, model, optimizer, batches, settings, before: int, steps: int, keep: _Kept) -> dict[str, float]:
    model.train()
    released = settings.optimizer == "released"
    schedule = released_learning_rate_factor if released else learning_rate_factor
    sums: dict[str, float] = {}
    start = waited = time.perf_counter()
    waiting = 0.0
    for number, batch in enumerate(batches, 1):
        waiting += time.perf_counter() - waited
        factor = schedule(before + number - 1, steps, settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        if settings.half:
            batch = half_features(model, batch)
        with nullcontext() if released else accelerator.autocast():
            loss = model.loss(encode_texts(model, batch), encode_videos(model, batch))
        if not torch.isfinite(loss["total"]):
            values = {name: term.item() for name, term in loss.items()}
            raise ValueError(f"the loss must be finite, got {values}; lower the learning rate or check the inputs.")
        optimizer.zero_grad()
        accelerator.backward(loss["total"])
        accelerator.clip_grad_norm_(model.parameters(), settings.clip_grad)
        optimizer.step()
        if released:
            clamp_logit_scale(model)
        if before + number in keep.steps:
            keep.write(before + number)
        sums = {name: sums.get(name, 0.0) + term.item() for name, term in loss.items()}
        waited = time.perf_counter()
        batches.set_postfix(loss=f"{sums['total'] / number:.3g}", refresh=False)
    return {f"loss_{name}": value / number for name, value in sums.items()} | {
        "lr_factor": factor,
        "seconds": waited - start,
        "items_per_second": number * settings.batch_size / (waited - start),
        "data_wait_share": waiting / (waited - start),
    }


def _store(folder: Path, trained: dict, selected: dict, optimizer, curve: list[dict]) -> None:
    """Write everything that a resume needs to a temporary folder, then rename it and drop the older ones."""
    partial, complete = folder / "partial", folder / f"epoch-{len(curve):04d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    tensors = {f"model.{name}": p.detach() for name, p in trained.items()}
    tensors |= {f"selected.{name}": p for name, p in selected.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
    (partial / "curve.json").write_text(json.dumps(curve))
    os.replace(partial, complete)
    for older in set(folder.glob("epoch-*")) - {complete}:
        shutil.rmtree(older)


def _resume(folder: Path, trained: dict, optimizer) -> tuple[list[dict], dict]:
    """Load the newest complete state into model and optimiser; the curve so far and the selected weights."""
    checkpoints = sorted(file.parent for file in folder.glob("epoch-*/curve.json"))
    if not checkpoints:
        return [], {}
    tensors = load_file(checkpoints[-1] / "state.safetensors")
    state: dict[int, dict] = {}
    selected = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "model":
                trained[rest].copy_(tensor)
            elif kind == "selected":
                selected[rest] = tensor
            else:
                number, moment = rest.split(".")
                state.setdefault(int(number), {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((checkpoints[-1] / "curve.json").read_text()), selected
