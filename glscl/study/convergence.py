"""How fast heads learn: R@1 on the test split from the first step on, and the work and time of a step."""

import hashlib
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from glscl.base import MatchingHead, RetrievalModel, load_backbone
from glscl.config import one_of
from glscl.data.dataset import PreparedCorpus, Split
from glscl.files import damage, replacing, write_checksums, write_json
from glscl.locks import alone
from glscl.methods import METHODS, settings_of
from glscl.study.counting import counted, random_features
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, Job
from glscl.training.trainer import TrainSettings, recall_at_1, train

TIMED_STEPS = 2  # per head and round, after as many untimed ones
TIMED_ROUNDS = 3
SPLITS = {"train", "val", "test"}  # without all of which nothing is trained


def evaluated_steps(total: int) -> list[int]:
    """The steps at which R@1 is measured: 0, 2, 4, 8 and so on, doubling, and the last one."""
    doubling = [2**power for power in range(1, total.bit_length()) if 2**power < total]
    return [0, *doubling, total]


@dataclass(frozen=True)
class Study:
    """What is trained: heads on one corpus, all for as many steps, each at the learning rate that its training chose.

    heads: {name: (method, its settings, how it is trained)}, none where the corpus has no training, validation or test
    split. scratch: folder of models, deleted once they are evaluated.
    Raises ValueError where heads differ in batch size, and so in what a step is.
    """

    dataset: str
    corpus: PreparedCorpus
    heads: dict[str, tuple[str, dict, TrainSettings]]
    seeds: list[int]
    scratch: Path

    def __post_init__(self):
        sizes = {name: settings.batch_size for name, (_, _, settings) in self.heads.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"the heads of convergence must share one batch size, got {sizes}; take batch_size from methods."
            )

    @classmethod
    def open(
        cls, profile: str, dataset: str, inputs: dict, convergence: dict, methods: dict, train: dict, model: dict
    ) -> "Study":
        """The study that the parameters of the notebook describe.

        Raises ValueError for a head that is no method, or that the training stage of this profile has not trained.
        """
        for name in convergence["heads"]:
            one_of("each of convergence.heads", name, tuple(methods))
        folders = Folders.of(profile, dataset)
        corpus = PreparedCorpus.open(folders.corpus, *(inputs[name] for name in ("clip", "backbone", "words")))
        learnable = set(corpus.captions["split"]) >= SPLITS  # a few videos of one's own train nothing
        same = {"epochs": convergence["epochs"], "patience": 0, "keep_epochs": False}
        heads = {}
        for name in convergence["heads"] if learnable else []:
            head, given = methods[name]["head"], train | methods[name]["train"] | same
            given |= {"lr_new": chosen_rate(folders.work / "train" / name)}
            settings = TrainSettings(**given, backbone=corpus.backbone)
            heads[name] = head, settings_of(head, model | methods[name]["model"]), settings
        return cls(dataset, corpus, heads, convergence["seeds"], UNFINISHED / "convergence" / profile / dataset)

    @cached_property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Texts and videos of the training and test split; empty without heads."""
        splits = {name: self.corpus.split(name) for name in ("train", "test") if self.heads}
        return {name: {"texts": len(split), "videos": len(split.videos)} for name, split in splits.items()}

    @property
    def batch_size(self) -> int | None:
        """Pairs of a step."""
        return next((settings.batch_size for _, _, settings in self.heads.values()), None)

    @cached_property
    def steps(self) -> list[int]:
        """The steps at which R@1 is measured, the start among them."""
        if not self.heads:
            return [0]
        epochs = next(settings.epochs for _, _, settings in self.heads.values())
        return evaluated_steps(epochs * (self.sizes["train"]["texts"] // self.batch_size))

    def scope(self) -> dict:
        """What the numbers rest on."""
        return {
            "dataset": self.dataset,
            "seeds": self.seeds,
            "split": "test",
            **self.sizes.get("test", {"texts": 0, "videos": 0}),
            "training": self.sizes.get("train"),
            "backbone": self.corpus.backbone,
            "steps": self.steps,
            "batch_size": self.batch_size,
        }


def chosen_rate(folder: Path) -> float:
    """The learning rate of the head that the training stage chose on validation and kept in `folder`.

    Raises ValueError where it trained no such method.
    """
    file = folder / "settings.json"
    if not file.is_file():
        raise ValueError(
            f"each of convergence.heads trains at the rate in {file}, which is absent; add {folder.name} to the "
            "profile's methods and run the train stage, or take it from convergence.heads."
        )
    return json.loads(file.read_text())["train"]["lr_new"]


class Trained(NamedTuple):
    """What is kept of the trained models.

    r1: by head, (seeds, evaluations), text-to-video R@1 on the test split in percent, the first before training. macs:
    by head, multiply-accumulates of a step. pace: seconds of a step, a row per head, columns median, min and max over
    rounds.
    """

    r1: dict[str, np.ndarray]
    macs: dict[str, int]
    pace: pd.DataFrame


def train_all(study: Study) -> Trained:
    """Time every head, train it with every seed, and evaluate it from the start to the end; no model is kept.

    A head over a frozen CLIP trains on one thread of the processor, and as many at once as there are cores.
    """
    pace = step_seconds(study)
    slow_first = sorted(study.heads, key=pace["median"].get, reverse=True)  # so that no core waits long at the end
    jobs = [(study, name, seed) for name, seed in product(slow_first, study.seeds)]
    frozen = study.corpus.backbone == "frozen"
    curves = one_thread_each(curve, jobs) if frozen else [curve(*job) for job in jobs]
    found = {(name, seed): r1 for (_, name, seed), r1 in zip(jobs, curves, strict=True)}
    shutil.rmtree(study.scratch, ignore_errors=True)
    r1 = {name: np.array([found[name, seed] for seed in study.seeds]) for name in study.heads}
    macs = {name: training_macs(untrained(study, name, 0).head, study.batch_size) for name in study.heads}
    return Trained(r1, macs, pace)


def curve(study: Study, name: str, seed: int) -> list[float]:
    """R@1 of one head with one seed at every one of the study's steps, percent: (evaluations,).

    A run that was stopped goes on where it was, and one that is finished is not repeated, while code, data and settings
    are the same.
    """
    method, chosen, settings = study.heads[name]
    data, validation, test = (study.corpus.split(split) for split in ("train", "val", "test"))
    settings = replace(settings, keep_steps=tuple(study.steps[1:]))
    about = Job(method, chosen, study.corpus, settings, [seed]).about()
    about |= {"seed": seed, "clip": study.corpus.clip, "test": test.fingerprint()}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    folder, finished = study.scratch / key, study.scratch / f"{key}.finished"
    with alone(study.scratch / f"{key}.lock", f"trains in {folder}", wait=True):
        if wrong := damage(finished):
            if finished.exists():
                print(f"{wrong}, so it is made again.", flush=True)
            model = untrained(study, name, seed)
            r1 = [recall_at_1(model, test)]
            with redirect_stdout(StringIO()):  # a line per epoch and run would bury the page
                train(model, data, validation, settings, seed, folder, progress=False)
            for step in study.steps[1:]:
                model.load_state_dict(model.state_dict() | load_file(folder / f"after-{step:06d}.safetensors"))
                r1.append(recall_at_1(model, test))
            with replacing(finished) as partial:
                write_json(partial / "r1.json", {"r1": r1}, digits=12)
                write_checksums(partial)
            shutil.rmtree(folder)
        return json.loads((finished / "r1.json").read_text())["r1"]


def untrained(study: Study, name: str, seed: int) -> RetrievalModel:
    """The model of a head that a training with this seed starts from, in evaluation mode, on the GPU if any."""
    torch.manual_seed(seed)
    method, chosen, _ = study.heads[name]
    corpus = study.corpus
    sizes = {"words": corpus.processor.words, "frames": corpus.split("val").frames}
    with redirect_stderr(StringIO()):  # transformers shows a bar for every model
        clip = load_backbone(corpus.clip, corpus.backbone, corpus.processor)
    model = METHODS[method].from_clip(clip, **chosen, **sizes).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


# --- the work and time of a step


def training_macs(head: MatchingHead, batch_size: int) -> int:
    """Multiply-accumulates of one training step on cached features: forward and backward, as torch counts them.

    Counted are the matrix products of a batch without padding, of the head as it is trained, its loss among them. CLIP,
    the optimiser and whatever is no matrix product are left out, and so are, for the normalised contrastive loss,
    recent batches.
    """
    sentence, words, word_mask, frames, frame_mask = random_features(head.config, batch_size)
    fresh = type(head)(head.config).train()

    def step():
        loss = fresh.loss(fresh.encode_texts(sentence, words, word_mask), fresh.encode_videos(frames, frame_mask))
        loss["total"].backward()

    return counted(step)


def step_seconds(study: Study) -> pd.DataFrame:
    """Seconds of one training step, a row per head, columns median, min and max over rounds in which heads take turns.

    Nothing else of the study runs meanwhile. A head over a frozen CLIP has one thread of the processor, as in training.
    """
    pace: dict[str, list[float]] = {name: [] for name in study.heads}
    threads = torch.get_num_threads()
    if study.corpus.backbone == "frozen":
        torch.set_num_threads(1)
    try:
        if study.heads:
            whole, validation = study.corpus.split("train"), study.corpus.split("val").sample(8)
            few = whole.sample(TIMED_STEPS * study.batch_size)
            few = few if len(few) >= study.batch_size else whole  # of few videos with many captions
        for _, name in product(range(TIMED_ROUNDS), study.heads):
            pace[name].append(_seconds(study, name, few, validation))
    finally:
        torch.set_num_threads(threads)
    found = {name: (np.median(each), min(each), max(each)) for name, each in pace.items()}
    return pd.DataFrame.from_dict(found, "index", columns=["median", "min", "max"])


def _seconds(study: Study, name: str, data: Split, validation: Split) -> float:
    settings = study.heads[name][2]
    model = untrained(study, name, seed=0)
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        train(model, data, validation, replace(settings, epochs=2), 0, Path(folder), progress=False)
        clock = pd.read_csv(Path(folder) / "clock.csv")
    return clock["seconds"].iloc[-1] / (len(data) // settings.batch_size)  # the first epoch warms up
