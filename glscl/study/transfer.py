"""Heads carried to another domain under one frozen CLIP: as they are, after a few examples, and trained there."""

import copy
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors import safe_open
from transformers import CLIPModel

from glscl.base import RetrievalModel, load_backbone
from glscl.bundled import facets
from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import evaluate
from glscl.evaluation.results import Run
from glscl.methods import METHODS, settings_of
from glscl.study.preparation import encode, prepare
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings, train

FACETS = "facets"  # the corpus whose worlds can be shifted
STARTS = {
    "zero_shot": "zero-shot",
    "few_shot": "few-shot",
    "few_from_clip": "few-shot from CLIP",
    "in_domain": "in-domain",
}
UNTRAINED = "untrained"  # CLIP alone, mean pooling of its frame features


# --- the domains


class Domain(NamedTuple):
    """A prepared corpus with the features of the frozen CLIP `clip`; its name is that of the shift or of the corpus."""

    name: str
    folder: Path
    clip: str

    def corpus(self) -> PreparedCorpus:
        """The corpus, with as many tokens per text as its features have."""
        with safe_open(self.folder / "features/test.safetensors", framework="pt") as features:
            words = features.get_slice("words").get_shape()[1]
        return PreparedCorpus.open(self.folder, self.clip, "frozen", words)


class Origin(NamedTuple):
    """What a head was trained with on the source: its method, the settings of the model, and those of the training."""

    method: str
    model: dict
    train: dict


@dataclass(frozen=True)
class Study:
    """What is asked: heads that were trained on `dataset` answer for every target.

    clip: of the dataset; it encodes the targets too. world: settings of `glscl.bundled.facets.Facets` that the dataset
    has. shifts: {target: those that it has instead}. videos: {target: what `glscl.study.preparation.prepare` takes} for
    a dataset of videos. own: `model` and `train`, what a target has instead of the settings of the source. few_videos,
    few_epochs: of few-shot training, one caption per video. source: folder of the dataset. trained: of its heads.
    scratch: of the targets and their heads.
    """

    dataset: str
    clip: str
    world: dict
    shifts: dict[str, dict]
    videos: dict[str, dict]
    own: dict[str, dict]
    heads: list[str]
    seeds: list[int]
    few_videos: int
    few_epochs: int
    source: Path
    trained: Path
    scratch: Path

    @classmethod
    def open(
        cls,
        profile: str,
        dataset: str,
        inputs: dict,
        corpus: dict,
        transfer: dict,
        target_corpus: dict,
        check: dict,
        prepare: dict,
    ) -> "Study":
        """The study that the parameters of the notebook describe.

        Without heads, a frozen CLIP or another domain there are no targets. Raises ValueError where a head was not
        trained on the dataset with all seeds.
        """
        shifts, videos, own = {}, {}, {"model": {}, "train": {}}
        if moves(dataset, inputs, transfer):
            if dataset == FACETS:
                shifts = transfer["shifts"]
            else:
                same_clip = {name: inputs[name] for name in ("clip", "backbone")}
                preparation = {"corpus": target_corpus["corpus"], "inputs": target_corpus["inputs"] | same_clip}
                videos = {transfer["target"]: preparation | prepare | target_corpus["prepare"] | check}
                own = {name: target_corpus[name] for name in own}
        folders = Folders.of(profile, dataset)
        study = cls(
            dataset,
            inputs["clip"],
            corpus,
            shifts,
            videos,
            own,
            transfer["heads"] if shifts or videos else [],
            transfer["seeds"],
            transfer["few_shot_videos"],
            transfer["few_shot_epochs"],
            folders.corpus,
            folders.work / "train",
            UNFINISHED / "transfer" / profile / dataset,
        )
        for head, seed in product(study.heads, study.seeds):
            if not (study.trained / head / f"seed-{seed}").is_dir():
                raise ValueError(
                    f"the heads of transfer must be trained on {dataset} with every seed of transfer.seeds, {head} is "
                    f"not with seed {seed}; add it to the methods or seeds of the profile, or leave it out of transfer."
                )
        return study

    def origin(self, head: str) -> Origin:
        """What a head was trained with on the source."""
        found = json.loads((self.trained / head / "settings.json").read_text())
        return Origin(found["method"], found["model"], found["train"])

    def methods(self) -> dict[str, str]:
        """The method of each head."""
        return {head: self.origin(head).method for head in self.heads}

    def targets(self) -> list[Domain]:
        """The shifted worlds, or the other corpus of videos, each prepared anew."""
        for name, instead in self.shifts.items():
            facets.build(facets.Facets(**(self.world | instead)), self.scratch / name)
        for name, preparation in self.videos.items():
            prepare(name, folder=self.scratch / name, **preparation)
            encode(self.scratch / name, preparation["inputs"])
        return [Domain(name, self.scratch / name, self.clip) for name in (*self.shifts, *self.videos)]


def moves(dataset: str, inputs: dict, transfer: dict) -> bool:
    """Whether heads of a dataset are carried elsewhere: there are some, over a frozen CLIP, and another domain."""
    elsewhere = dataset == FACETS or transfer["target"] != dataset
    return inputs["backbone"] == "frozen" and bool(transfer["heads"]) and elsewhere


# --- models that move


def moved(source: Path, frames: int, words: int) -> tuple[RetrievalModel, list[str]]:
    """The model that `train_seeds` kept in `source`, for items of so many frames and words; and its resized weights.

    Where the size of a weight depends on the number of frames or words, the positions that both sizes have are kept,
    and new ones are as in a head without training. All other weights are those of the source. In evaluation mode.
    """
    trained = load_run(source)
    config = copy.deepcopy(trained.config)
    config.frames, config.words = frames, words
    torch.manual_seed(0)
    model = type(trained)(config).eval().to(trained.device)
    weights, resized = model.state_dict(), []
    for name, weight in trained.state_dict().items():
        common = tuple(slice(min(sizes)) for sizes in zip(weight.shape, weights[name].shape, strict=True))
        weights[name][common] = weight[common]
        resized += [name] * (weight.shape != weights[name].shape)
    return model, resized


def train_on_few(model: RetrievalModel, few: Split, settings: TrainSettings, seed: int) -> RetrievalModel:
    """The same model, trained on the texts of `few` for all epochs of the settings, in evaluation mode.

    Nothing else of the target is seen: the weights are those of the last epoch, not the best on other examples. The
    batch holds all of `few` where that is less. It takes seconds, so nothing is kept for a run that is stopped.
    """
    settings = replace(settings, batch_size=min(settings.batch_size, len(few)))
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # a line per epoch says little
        train(model, few, few, settings, seed, Path(folder), progress=False)
    return model.eval()


class Carried(NamedTuple):
    """Runs of one head on one target, one per seed and start, and the names of its resized weights."""

    runs: list[Run]
    resized: list[str]


def carry(study: Study, target: Domain, head: str) -> Carried:
    """Evaluate one head on the target's test queries under every start of `STARTS`, with every seed.

    All models have the sizes of the target, and the learning rate that the head has on the source. A training on all
    of the target that was stopped goes on where it stopped.
    """
    corpus, (method, model, of_source) = target.corpus(), study.origin(head)
    everything, test = corpus.split("train"), corpus.split("test")
    sizes = {"frames": test.frames, "words": corpus.processor.words}
    model = model | settings_of(method, study.own["model"]) | sizes
    settings = settings_of_target(of_source | study.own["train"])
    few_settings = replace(settings, epochs=study.few_epochs, patience=0)
    runs = []
    for seed in study.seeds:
        few = everything.sample(study.few_videos, seed)
        folder = study.scratch / "models" / target.name / head / str(seed)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line per epoch would bury the page
            train_seeds(method, model, corpus, settings, [seed], folder)
        in_domain = load_run(folder / f"seed-{seed}")
        zero_shot, resized = moved(study.trained / head / f"seed-{seed}", **sizes)
        found = {"in_domain": evaluate(in_domain, test), "zero_shot": evaluate(zero_shot, test)}
        found["few_shot"] = evaluate(train_on_few(zero_shot, few, few_settings, seed), test)
        torch.manual_seed(seed)
        fresh = METHODS[method].from_clip(_clip(target.clip), **model)
        found["few_from_clip"] = evaluate(train_on_few(fresh, few, few_settings, seed), test)
        runs += [Run(head, target.name, seed, start, found[start]) for start in STARTS]
    return Carried(runs, resized)


def settings_of_target(of_source: dict) -> TrainSettings:
    """Settings of a training on a target, from those of `settings.json`; it keeps the selected weights alone."""
    return TrainSettings(**(of_source | {"keep_epochs": False, "keep_steps": ()}))


@lru_cache(maxsize=1)
def _clip(name: str) -> CLIPModel:
    return load_backbone(name, "frozen", None)


class Evaluated(NamedTuple):
    """What is kept of the models.

    runs: a row per head, seed, target and start, and one per target of untrained CLIP. resized: {target: heads with
    weights whose size depends on frames or tokens, where the target has another number of them}. domains: the source
    and the targets.
    """

    runs: list[Run]
    resized: dict[str, list[str]]
    domains: list[Domain]


def evaluate_all(study: Study) -> Evaluated:
    """Build the targets, carry every head to each, and evaluate all; no model is kept beyond `study.scratch`.

    As many heads at once as there are cores, each on one thread, so that no number depends on how many there are.
    """
    targets = study.targets()
    jobs = list(product([study], targets, study.heads))
    runs, resized = [], {target.name: [] for target in targets}
    for (_, target, head), carried in zip(jobs, one_thread_each(carry, jobs), strict=True):
        runs += carried.runs
        resized[target.name] += [head] * bool(carried.resized)
    for target in targets:
        pooled = METHODS["mean_pooling"].from_clip(_clip(target.clip), temporal_layers=0)
        queries = evaluate(pooled, target.corpus().split("test"))
        runs.append(Run(UNTRAINED, target.name, None, UNTRAINED, queries))
    source = Domain(study.dataset, study.source, study.clip)
    return Evaluated(runs, resized, [source, *targets] if targets else [])
