"""One training run: optimiser, schedule, validation, checkpoints and exact resume."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler
from tqdm import tqdm

from glscl.base import RetrievalModel
from glscl.config import at_least, one_of
from glscl.data.dataset import Split
from glscl.encoding import encode_split, encode_texts, encode_videos, loader_of, on_device
from glscl.files import CHECKSUMS, checksum, damage, read_checksums, replacing, to_disk, write_checksums, write_table
from glscl.locks import alone
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
from glscl.training.memory import recomputed, require_memory
from glscl.training.parallel import Processes, mixed, whole_batch_gradients

BACKBONES = ("frozen", "finetuned", "scratch")
CANDIDATES = 20  # of each text, that a cross-encoder orders on validation
GAIN = 0.5  # points of R@1 on validation that count as a gain
STEPS_UNREAD = 20  # on a GPU, which would else wait for the processor in every step


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

    What follows changes speed and memory, and numbers by rounding alone:
    compile: compile CLIP's encoders. checkpointing: compute activations of CLIP again for the gradient instead of
    keeping them. chunk: pairs that are encoded at a time, 0 for all of a batch; the loss is that of the whole batch,
    but dropout draws other numbers. devices: GPUs by number; none names all that there are. deterministic: on a GPU use
    algorithms alone that give the same numbers every time.
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
    compile: bool = False
    checkpointing: bool = False
    chunk: int = 0
    devices: tuple[int, ...] = ()
    deterministic: bool = False

    def __post_init__(self):
        lowest = {"epochs": 1, "batch_size": 2, "weight_decay": 0, "warmup": 0, "patience": 0, "chunk": 0}
        for name, low in lowest.items():
            at_least(name, getattr(self, name), low)
        for name in ("lr_new", "lr_clip", "clip_grad", *(["lr_scale"] if self.lr_scale is not None else [])):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}; correct it in params.yaml.")
        if not self.warmup < 1:
            raise ValueError(f"warmup is a share of all steps below 1, got {self.warmup}; correct it in params.yaml.")
        one_of("backbone", self.backbone, BACKBONES)
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
    name: str = "training",
):
    """Train, and write `selected.safetensors`, `last.safetensors`, `curve.csv` and `clock.csv` into `folder`.

    The selected weights are those of the epoch with the best `recall_at_1` on `validation`; both files hold the
    trained weights. With `keep_epochs` and `keep_steps` there are files `after-<step>.safetensors` too. After every
    epoch the whole state is stored in `folder`, and a run that was stopped goes on from there to the same numbers:
    each epoch draws its order, its frames and its dropout from (seed, epoch) alone. Of the last two states a damaged
    one is passed over, after a line that names it. If the run is complete already, the model is left as it is: the
    files hold the result, and `SHA256SUMS` their checksums. Every epoch prints a line that names the method; `progress`
    adds a bar for its steps. Where another process trains in the folder, this one waits for it.
    In processes of a launcher each encodes its share of every batch, and the first writes; see `Processes`.
    Raises ValueError for fewer texts than one batch, a batch that the processes do not divide, or a loss that is not
    finite; BusyError in processes of a launcher where another process trains in the folder; FullDiskError.
    """
    processes = Processes.of_launcher(settings.devices)
    waits = processes.count == 1  # those of a launcher would not wait long for the first
    with alone(folder / ".lock", f"trains in {folder}", waits) if processes.writes else nullcontext():
        if not processes.first_says(processes.writes and _is_complete(folder)):
            _train(_Run.begin(model, data, settings, seed, processes, folder), validation, progress, name)
        processes.wait()


def _train(run: "_Run", validation: Split, progress: bool, name: str) -> None:
    data, settings, seed, processes = run.data, run.settings, run.seed, run.processes
    batches = _Share(data, settings.batch_size, processes)
    loader = loader_of(data, data, processes.device, batches, batches.shuffle)
    curve, selected = _resume(run)
    processes.require_equal(len(curve), f"epochs in {run.folder}")
    steps = settings.epochs * len(loader)
    lean = recomputed(run.model.clip) if settings.checkpointing else nullcontext()
    with _deterministic(settings.deterministic), lean:
        if settings.compile and settings.backbone != "frozen":
            _compile(run)
        for epoch in range(len(curve), settings.epochs):
            if is_flat([row["val_r1"] for row in curve], settings.patience):
                break
            torch.manual_seed(mixed(seed, epoch))
            batches.shuffle.manual_seed(mixed(seed, epoch))
            data.draw = (seed, epoch)
            with tqdm(
                loader,
                f"seed {seed}, epoch {epoch + 1}/{settings.epochs}",
                unit="step",
                disable=not progress or not processes.writes,
            ) as bar:
                terms = _epoch(run, bar, epoch * len(loader), steps)
            score = _validate(run, validation)
            best = max((row["val_r1"] for row in curve), default=-1.0)
            curve.append({"seed": seed, "epoch": epoch + 1, "step": (epoch + 1) * len(loader)} | terms)
            curve[-1]["val_r1"] = score
            if processes.writes:
                if score > best:
                    selected = {name: p.detach().cpu().clone() for name, p in run.trained.items()}
                if settings.keep_epochs:
                    run.keep(curve[-1]["step"])
                _store(run, selected, curve)
                print(EPOCH.format(name=name, lr=settings.lr_new, epochs=settings.epochs, **curve[-1]), flush=True)
    if processes.writes:
        _finish(run.folder, run.trained, selected, curve)
    if settings.half:
        run.model.clip.float()


CLOCK = ["seconds", "items_per_second", "data_wait_share"]  # what was measured; all else is the same everywhere
EPOCH = (
    "{name}, seed {seed}, rate {lr:g}, epoch {epoch} of {epochs}: loss {loss_total:.3f}, validation R@1 {val_r1:.1f}, "
    "{items_per_second:.0f} texts/s, {data_wait_share:.0%} of the time waiting for data"
)


def _weights(trained: dict) -> dict:
    return {name: p.detach().cpu().contiguous() for name, p in trained.items()}


class _Run(NamedTuple):
    """One training: what its steps need. kept: checksums of the weights that were kept, by path from a state."""

    model: RetrievalModel
    optimizer: torch.optim.Optimizer
    data: Split
    settings: TrainSettings
    seed: int
    processes: Processes
    folder: Path
    kept: dict[str, str]

    @classmethod
    def begin(
        cls, model: RetrievalModel, data: Split, settings: TrainSettings, seed: int, processes: Processes, folder: Path
    ) -> "_Run":
        """Ready the model on its device, or raise where batch or memory are too small."""
        if len(data) < settings.batch_size:
            raise ValueError(f"one batch needs {settings.batch_size} texts, got {len(data)}; lower train.batch_size.")
        model.to(processes.device)
        model.clip.requires_grad_(settings.backbone != "frozen")
        model.clip.logit_scale.requires_grad_(False)
        if settings.half:
            prepare_clip(model.clip)
        if processes.device.type == "cuda":
            capacity = torch.cuda.get_device_properties(processes.device).total_memory
            require_memory(model, settings, capacity, processes.count)
        optimizer = _optimizer(model, settings, processes.device)
        return cls(model, optimizer, data, settings, seed, processes, folder, {})

    @property
    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def keep(self, step: int) -> None:
        """Keep the weights after this step while training goes on."""
        file = self.folder / f"after-{step:06d}.safetensors"
        _save(_weights(self.trained), file)
        self.kept[f"../{file.name}"] = checksum(file)

    def gradients(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Compute the gradients of a batch on the device; return the terms of the loss, outside the graph."""
        model, settings = self.model, self.settings
        bfloat16 = self.processes.device.type == "cuda" and settings.optimizer == "adamw"

        def encode(part):
            part = self.data.normalised(part)
            if settings.half:
                part = half_features(model, part)
            with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=bfloat16):
                return encode_texts(model, part), encode_videos(model, part)

        self.optimizer.zero_grad()
        seed = self.seed, step
        terms = whole_batch_gradients(model, batch, encode, self.processes, settings.chunk, seed)
        return {name: term.detach() for name, term in terms.items()}


def _optimizer(model: RetrievalModel, settings: TrainSettings, device: torch.device) -> torch.optim.Optimizer:
    groups, betas = parameter_groups(model, settings), tuple(settings.betas)
    if settings.optimizer == "released":
        return BertAdam(groups, betas=betas, eps=1e-6, max_norm=settings.clip_grad)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-6, fused=True if device.type == "cuda" else None)


class _Share:
    """This process's part of every batch, in an order that `shuffle` draws, the same in all processes."""

    def __init__(self, data: Split, batch_size: int, processes: Processes):
        share = processes.share(batch_size)
        self.shuffle = torch.Generator()
        self._own = slice(processes.rank * share, (processes.rank + 1) * share)
        self._batches = BatchSampler(RandomSampler(data, generator=self.shuffle), batch_size, drop_last=True)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self._own] for batch in self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def _epoch(run: _Run, batches: tqdm, before: int, steps: int) -> dict[str, float]:
    """Train on all batches; the means of the loss terms over the steps, and what was measured."""
    model, settings, device = run.model, run.settings, run.processes.device
    model.train()
    released = settings.optimizer == "released"
    schedule = released_learning_rate_factor if released else learning_rate_factor
    losses, waiting = _Losses(), _Waiting(device)
    start = time.perf_counter()
    for number, batch in enumerate(on_device(batches, device), 1):
        waiting.end()
        step = before + number
        factor = schedule(step - 1, steps, settings.warmup)
        for group in run.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        losses.add(step, run.gradients(batch, step))
        kept = step in settings.keep_steps and run.processes.writes
        if device.type != "cuda" or kept or number % STEPS_UNREAD == 0:
            losses.read()
            batches.set_postfix(loss=f"{losses.mean('total'):.3g}", refresh=False)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad)
        run.optimizer.step()
        if released:
            clamp_logit_scale(model)
        if kept:
            run.keep(step)
        waiting.begin()
    losses.read()
    seconds = time.perf_counter() - start
    return {f"loss_{name}": losses.mean(name) for name in losses.sums} | {
        "lr_factor": factor,
        "seconds": seconds,
        "items_per_second": number * settings.batch_size / seconds,
        "data_wait_share": waiting.seconds() / seconds,
    }


class _Waiting:
    """How long the device had nothing to do because there was no batch; begins when it is made.

    On a GPU between events in its queue, as the processor is ahead of it and waits for batches without harm.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._times = []
        self.begin()

    def begin(self) -> None:
        self._times.append([self._now()])

    def end(self) -> None:
        self._times[-1].append(self._now())

    def _now(self):
        if self._stream is None:
            return time.perf_counter()
        return self._stream.record_event(torch.cuda.Event(enable_timing=True))

    def seconds(self) -> float:
        """Of all waits that ended, once the last one has ended on the device too."""
        ended = (times for times in self._times if len(times) == 2)
        return sum(end - begin if self._stream is None else begin.elapsed_time(end) / 1000 for begin, end in ended)


class _Losses:
    """Sums of the loss terms over the steps, which stay on the device until they are read."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self._count, self._unread = 0, []

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        self._unread.append((step, terms))

    def read(self) -> None:
        """Raise a ValueError at the first step whose loss is not finite."""
        if not self._unread:
            return
        values = torch.stack([torch.stack(list(terms.values())) for _, terms in self._unread]).tolist()
        for (step, terms), row in zip(self._unread, values, strict=True):
            named = dict(zip(terms, row, strict=True))
            if not math.isfinite(named["total"]):
                raise ValueError(
                    f"the loss must be finite, got {named} at step {step}; lower the learning rate or check the inputs."
                )
            self.sums = {name: self.sums.get(name, 0.0) + value for name, value in named.items()}
        self._count, self._unread = self._count + len(values), []

    def mean(self, name: str) -> float:
        return self.sums[name] / self._count


def _validate(run: _Run, validation: Split) -> float:
    """`recall_at_1` of the weights as evaluation will have them; the first process computes it for all."""
    score = 0.0
    if run.settings.half:
        run.model.clip.float()
    if run.processes.writes:
        # batches of other sizes would be compiled anew
        with torch.compiler.set_stance("force_eager") if run.settings.compile else nullcontext():
            score = recall_at_1(run.model, validation)
    if run.settings.half:
        to_half(run.model.clip)
    return run.processes.first_says(score)


def _compile(run: _Run) -> None:
    """Compile CLIP's encoders; where that fails they stay as they are, and a line says why."""
    torch.compiler.set_stance("default")  # a training before this one may have failed to compile
    for encoder in (run.model.clip.text_model, run.model.clip.vision_model):
        encoder.compile()
    pairs = run.data.__getitems__(list(range(run.processes.share(run.settings.batch_size))))
    run.model.train()
    try:
        run.gradients({name: tensor.to(run.processes.device) for name, tensor in pairs.items()}, 0)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler, which has no common class of errors
        torch.compiler.set_stance("force_eager")
        reason = " ".join(str(error).split()[:30])
        print(f"CLIP's encoders run without being compiled: {reason}", flush=True)
    run.optimizer.zero_grad()


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    with replacing(file, sum(tensor.nbytes for tensor in tensors.values())) as partial:
        save_file(tensors, partial)


def _is_complete(folder: Path) -> bool:
    """Whether a folder holds a finished run; a line says where its files are damaged, and it is trained again."""
    if not (folder / CHECKSUMS).is_file():
        return False
    if wrong := damage(folder):
        print(f"{wrong}, so the run is trained again.", flush=True)
        (folder / CHECKSUMS).unlink()
    return not wrong


def _finish(folder: Path, trained: dict, selected: dict, curve: list[dict]) -> None:
    _save(selected, folder / "selected.safetensors")
    _save(_weights(trained), folder / "last.safetensors")
    rows = pd.DataFrame(curve)
    write_table(folder / "clock.csv", rows[["seed", "epoch", *CLOCK]])
    write_table(folder / "curve.csv", rows.drop(columns=CLOCK))
    write_checksums(folder)
    for written in (folder / CHECKSUMS, folder):
        to_disk(written)
    for state in folder.glob("epoch-*"):
        shutil.rmtree(state)


def _store(run: _Run, selected: dict, curve: list[dict]) -> None:
    """Write everything that a resume needs, in one step; keep that of the epoch before, and drop what is older."""
    tensors = {f"model.{name}": p.detach() for name, p in run.trained.items()}
    tensors |= {f"selected.{name}": p for name, p in selected.items()}
    for number, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    newest, before = (run.folder / f"epoch-{epoch:04d}" for epoch in (len(curve), len(curve) - 1))
    with replacing(newest, sum(tensor.nbytes for tensor in tensors.values())) as partial:
        partial.mkdir()
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
        (partial / "curve.json").write_text(json.dumps(curve))
        write_checksums(partial, run.kept)
    for other in set(run.folder.glob("epoch-*")) - {newest, before}:
        shutil.rmtree(other)


def _resume(run: _Run) -> tuple[list[dict], dict]:
    """Load the newest sound state into model and optimiser; the curve so far and the selected weights.

    A line names what is damaged. It stays until its epoch is trained again.
    """
    for state in sorted(run.folder.glob("epoch-*"), reverse=True):
        if not (wrong := damage(state)):
            return _load(run, state)
        if run.processes.writes:
            print(f"{wrong}, so training goes on from before that epoch.", flush=True)
    return [], {}


def _load(run: _Run, checkpoint: Path) -> tuple[list[dict], dict]:
    run.kept.update((name, known) for name, known in read_checksums(checkpoint).items() if "/" in name)
    trained, state, selected = run.trained, {}, {}
    with torch.no_grad():
        for name, tensor in load_file(checkpoint / "state.safetensors").items():
            kind, rest = name.split(".", 1)
            if kind == "model":
                trained[rest].copy_(tensor)
            elif kind == "selected":
                selected[rest] = tensor
            else:
                number, moment = rest.split(".")
                state.setdefault(int(number), {})[moment] = tensor
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    return json.loads((checkpoint / "curve.json").read_text()), selected
