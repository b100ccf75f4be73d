"""Doses of GLSCL's losses and of its dropout: which conditions are trained, and what is measured of each run.

A condition is named "<variant>/<name>", such as "released/alpha 1", and "<variant>/full" is the model as `model` sets
it. Others change one thing of it, but for combinations of dropout, alpha and inter-consistency. Every condition takes
the same number of steps, and its last weights are measured. `glscl.study.loss_results` says what was found.
"""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from glscl.base import load_backbone
from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import encode_split
from glscl.evaluation.collapse import gradient_norms, seen
from glscl.evaluation.concepts import of_items
from glscl.methods import settings_of
from glscl.metrics import per_query
from glscl.model import GLSCL
from glscl.scoring import similarity_matrix
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders
from glscl.training.runs import UNFINISHED, load_run, train_seeds
from glscl.training.trainer import TrainSettings

# The inter-consistency loss has two terms; beta weighs the second alone, so a beta of 0 leaves the first.
NO_INTER = {"moment_weight": 0.0, "consistency_weight": 0.0}
NO_INTRA = {"diversity_weight": 0.0}
FULL, LOCAL = "full", "local interaction"
PARTS = {  # what may be left out, and how
    "inter-consistency": NO_INTER,
    "intra-diversity": NO_INTRA,
    "both losses": NO_INTER | NO_INTRA,
    # With xi = 0 alone, the two losses would go on shaping the temporal encoder through the concepts.
    LOCAL: {"local_weight": 0.0} | NO_INTER | NO_INTRA,
    "text-conditioned pooling": {"global_pooling": "mean"},
}
DOSED = {"alpha": "diversity_weight", "beta": "consistency_weight", "dropout": "dropout"}
# What lets the concepts collapse, taken away. With alpha 1 instead of 100 they still did in a first try on facets.
CAUSES = {
    "dropout 0": {"dropout": 0.0},
    "alpha 100": {"diversity_weight": 100.0},
    "without inter-consistency": NO_INTER,
}
FREED = ", ".join(CAUSES)
FOLLOWED = (FULL, FREED)  # conditions whose rank is followed over training
KEPT_STEPS = (2, 5, 10, 20, 40, 80, 160, 320, 640)  # after which it is followed, beside start and end


class Condition(NamedTuple):
    """A variant of the losses, `released` or `described`, a name, and the settings of `GLSCLConfig` that it changes."""

    variant: str
    name: str
    changed: dict

    @property
    def label(self) -> str:
        """Variant and name in one."""
        return f"{self.variant}/{self.name}"


def without(part: str) -> str:
    """Name of the condition that lacks one of `PARTS`."""
    return f"without {part}"


def conditions(
    model: dict, variants: list[str], parts: list[str], doses: dict[str, list[float]], combined: bool
) -> list[Condition]:
    """Every condition that is trained, no two of the same settings: the full model, others, and combinations.

    model: general settings of GLSCL. parts: of `PARTS`, left out one at a time. doses: values of `DOSED`, by its keys,
    one at a time. combined: all combinations of `CAUSES`, for the first variant; else only all three together, `FREED`.
    The variants differ in the local interaction and in the losses on its concepts, so without these only the first
    variant is trained. Raises ValueError at an unknown part.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"losses.parts may have {', '.join(PARTS)}, got {', '.join(unknown)}; correct the spelling.")
    found = []
    for number, variant in enumerate(variants):
        named = {FULL: {}} | {without(part): PARTS[part] for part in parts if part != LOCAL or number == 0}
        named |= {f"{key} {dose:g}": {DOSED[key]: float(dose)} for key, values in doses.items() for dose in values}
        if number == 0:
            chosen = product((False, True), repeat=len(CAUSES)) if combined else [(True,) * len(CAUSES)]
            named |= dict(_combination(each) for each in chosen)
        distinct = {}
        for name, changed in named.items():
            distinct.setdefault(tuple(sorted((model | changed).items())), Condition(variant, name, changed))
        found += distinct.values()
    return found


def _combination(chosen: tuple[bool, ...]) -> tuple[str, dict]:
    names = [name for name, used in zip(CAUSES, chosen, strict=True) if used]
    return ", ".join(names) or FULL, {setting: value for name in names for setting, value in CAUSES[name].items()}


@dataclass(frozen=True)
class Study:
    """What the conditions share.

    model: general settings of GLSCL, which a condition changes. settings: of every training. seeds: two or more.
    variants: `released`, `described`, or both. parts: of `PARTS`. conditions: see `conditions`. scratch: folder of
    models, each deleted once it is measured.
    Raises ValueError for fewer than two seeds, or for batches larger than the training split.
    """

    dataset: str
    corpus: PreparedCorpus
    model: dict
    settings: TrainSettings
    seeds: list[int]
    variants: list[str]
    parts: list[str]
    conditions: list[Condition]
    scratch: Path

    def __post_init__(self):
        if len(self.seeds) < 2:
            raise ValueError(f"intervals over seeds need two seeds or more, got {self.seeds}; extend losses.seeds.")
        if self.settings.batch_size > self.training_texts:
            raise ValueError(
                f"batches must fit into the {self.training_texts} training texts, got {self.settings.batch_size}; "
                "lower train.batch_size or raise losses.captions_per_video."
            )

    @classmethod
    def open(cls, profile: str, dataset: str, inputs: dict, losses: dict) -> "Study":
        """The study that the parameters of the notebook describe, with GLSCL's settings in the train stage."""
        folders = Folders.of(profile, dataset)
        corpus = PreparedCorpus.open(
            folders.corpus, inputs["clip"], inputs["backbone"], inputs["words"], losses["captions_per_video"]
        )
        chosen = json.loads((folders.work / "train/glscl/settings.json").read_text())
        fixed = {"epochs": losses["epochs"], "patience": 0, "keep_epochs": False}
        doses = {name: losses[name] for name in DOSED}
        return cls(
            dataset,
            corpus,
            chosen["model"],
            TrainSettings(**(chosen["train"] | fixed)),
            losses["seeds"],
            losses["variants"],
            losses["parts"],
            conditions(chosen["model"], losses["variants"], losses["parts"], doses, losses["combined"]),
            UNFINISHED / "losses" / profile / dataset,
        )

    @cached_property
    def training_texts(self) -> int:
        """Texts of one epoch."""
        return len(self.corpus.split("train"))

    @property
    def steps(self) -> int:
        """Steps of every training."""
        return self.settings.epochs * (self.training_texts // self.settings.batch_size)

    def model_of(self, condition: Condition) -> dict:
        """All settings of GLSCL in a condition."""
        return settings_of("glscl", self.model | condition.changed | {"variant": condition.variant})

    def settings_of(self, condition: Condition) -> TrainSettings:
        """How a condition is trained: alike, but those that are followed keep weights on the way."""
        steps = tuple(step for step in KEPT_STEPS if step < self.steps) if condition.name in FOLLOWED else ()
        return replace(self.settings, keep_steps=steps)

    def scope(self) -> dict:
        """What the numbers rest on."""
        test, validation, backbone = self.corpus.split("test"), self.corpus.split("val"), self.corpus.backbone
        return {
            "dataset": self.dataset,
            "texts": len(test),
            "videos": len(test.videos),
            "validation_texts": len(validation),
            "seeds": self.seeds,
            "variants": self.variants,
            "conditions": len(self.conditions),
            "training_texts": self.training_texts,
            "steps": self.steps,
            "batch_size": self.settings.batch_size,
            "rate": self.settings.lr_new,
            "concepts": self.model["num_queries"],
            "features": "cached features of a frozen CLIP" if backbone == "frozen" else f"CLIP {backbone}",
        }

    def batch(self, device) -> dict[str, torch.Tensor]:
        """One batch of training pairs, always the same, on which gradients and cosines in training are measured."""
        data = self.corpus.split("train")
        drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: self.settings.batch_size]
        batch = data.__getitems__(drawn.tolist())
        return data.normalised({name: tensor.to(device) for name, tensor in batch.items()})


class Measured(NamedTuple):
    """What is kept of one run.

    ranks: of the test texts, from 0, (texts,). items: `glscl.evaluation.concepts.of_items` of the test split. seen:
    `glscl.evaluation.collapse.seen`, and gradients: norms by term, both of the last weights on the same batch of
    training pairs. Where the condition is one of `FOLLOWED`, steps has a row of `at_step` for the start, the kept steps
    and the end, and first_gradients are those of the start; else both are empty.
    """

    condition: str
    seed: int
    ranks: np.ndarray
    items: dict[str, np.ndarray]
    seen: dict[str, float]
    gradients: dict[str, float]
    first_gradients: dict[str, float]
    steps: list[dict]


def train_all(study: Study) -> list[Measured]:
    """Train and measure every condition with every seed, as many at once as there are cores; no model is kept.

    A seed gives all conditions the same first weights, batches and learning rates.
    """
    return one_thread_each(run, list(product([study], study.conditions, study.seeds)))


def run(study: Study, condition: Condition, seed: int) -> Measured:
    """Train one condition with one seed, and measure it."""
    folder = study.scratch / condition.label / str(seed)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line per epoch would bury the page
        train_seeds("glscl", study.model_of(condition), study.corpus, study.settings_of(condition), [seed], folder)
    found = measure(study, condition, seed, folder / f"seed-{seed}")
    shutil.rmtree(folder)
    return found


def measure(study: Study, condition: Condition, seed: int, folder: Path) -> Measured:
    """What is kept of a run whose weights are in the folder."""
    model, test = load_run(folder, "last"), study.corpus.split("test")
    texts, videos = encode_split(model, test)
    ranks = per_query(similarity_matrix(model, texts, videos).numpy(), test.video_of_text.numpy())["t2v"]["rank"]
    items = of_items(texts.concepts, videos.concepts, test.video_of_text)
    batch = study.batch(model.device)
    own, gradients, first, steps = seen(model, batch)._asdict(), gradient_norms(model, batch), {}, []
    if condition.name in FOLLOWED:
        validation, begun = study.corpus.split("val"), untrained(study, condition, seed)
        first, steps = gradient_norms(begun, batch), [at_step(begun, 0, validation, batch)]
        kept = {step: f"after-{step:06d}" for step in study.settings_of(condition).keep_steps} | {study.steps: "last"}
        for step, weights in kept.items():
            model.load_state_dict(model.state_dict() | load_file(folder / f"{weights}.safetensors"))
            steps.append(at_step(model, step, validation, batch))
    arrays = {name: values.numpy() for name, values in items.items()}
    return Measured(condition.label, seed, ranks, arrays, own, gradients, first, steps)


def untrained(study: Study, condition: Condition, seed: int) -> GLSCL:
    """The model of a condition with the weights that its training starts from."""
    corpus = study.corpus
    torch.manual_seed(seed)
    backbone = load_backbone(corpus.clip, corpus.backbone, corpus.processor)
    shape = {"words": corpus.processor.words, "frames": corpus.split("val").frames}
    model = GLSCL.from_clip(backbone, **(study.model_of(condition) | shape))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def at_step(model: GLSCL, step: int, split: Split, batch: dict[str, torch.Tensor]) -> dict:
    """Mean statistics of the concepts of a split, `of_items`, and what the losses see of a batch, `seen`."""
    texts, videos = encode_split(model, split)
    found = of_items(texts.concepts, videos.concepts, split.video_of_text)
    means = {name: values.mean().item() for name, values in found.items()}
    return {"step": step} | means | seen(model, batch)._asdict()
