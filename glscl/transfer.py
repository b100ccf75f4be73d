"""From one corpus to another under one frozen CLIP: both prepared alike, a trained head moved, and trained a little."""

import contextlib
import copy
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import CLIPModel

from glscl.corpora import read_corpus
from glscl.decoding import Sampling
from glscl.inputs import Inputs
from glscl.metrics import bootstrap
from glscl.model import RetrievalModel
from glscl.rivals import METHODS
from glscl.runs import load_run
from glscl.splits import Split, open_split, save_states
from glscl.stage import write_table
from glscl.training import TrainSettings, train
from glscl.video import FrameStore, write_store

# How a text meets a video, in the words of the question; a head that is not named has neither.
KINDS = {"x_pool": "attention", "x_clip": "attention", "t_mass": "attention", "glscl": "consistency"}

STARTS = {
    "in_domain": "in-domain",
    "zero_shot": "zero-shot",
    "fine_tuned": "fine-tuned",
    "from_clip": "as few captions, from CLIP",
}


def prepare(
    dataset: str,
    corpus: dict,
    work: Path,
    sampling: Sampling,
    inputs: Inputs,
    clip: CLIPModel,
    quality: int = 90,
    max_missing: int = 0,
) -> None:
    """Prepare a corpus for heads over a frozen CLIP: write `captions.parquet`, `frames` and `states` into `work`.

    corpus: its folder as `folder`, and the settings of its reader. `inputs` and `clip` may be those of another corpus.
    Raises what `glscl.corpora.read_corpus` and `glscl.video.write_store` raise.
    """
    captions = read_corpus(dataset, **corpus)
    size = inputs.size
    write_store(work / "frames", captions.drop_duplicates("video"), sampling, size, quality, max_missing)
    store = FrameStore(work / "frames")
    captions = captions[captions["video"].isin(store.videos)].reset_index(drop=True)
    write_table(work / "captions.parquet", captions.drop(columns="path"))
    for name, rows in captions.groupby("split", sort=False):
        save_states(Split.from_store(rows, store, inputs), clip, work / f"states/{name}.safetensors")


class Domain(NamedTuple):
    """A prepared corpus and the heads that were trained on it.

    captions: of all splits. trained: holds the folder of each method, as `glscl.runs.train_seeds` writes it.
    """

    name: str
    captions: pd.DataFrame
    train: Split
    val: Split
    test: Split
    trained: Path

    @classmethod
    def open(cls, name: str, work: Path, inputs: Inputs) -> "Domain":
        """The domain in the folder `work`: `captions.parquet`, `states`, and the heads in `train`."""
        captions = pd.read_parquet(work / "captions.parquet")
        splits = (open_split(work, captions, split, inputs, "frozen") for split in ("train", "val", "test"))
        return cls(name, captions, *splits, work / "train")

    def settings(self, method: str) -> dict:
        """What `method` was trained with here: its head as `method`, and the dictionaries `model` and `train`."""
        file = self.trained / method / "settings.json"
        if not file.exists():
            raise ValueError(
                f"study.heads must be trained methods, {method} is not trained on {self.name}; add it to "
                "study.methods, or leave it out of study.heads."
            )
        return json.loads(file.read_text())


def moved(source: Path, frames: int, words: int) -> RetrievalModel:
    """The model that `train_seeds` kept in `source`, for items of so many frames and words.

    Where the size of a weight depends on the number of frames or words, the positions that both sizes have are kept,
    and new ones are as in a head without training. All other weights are those of the source.
    """
    trained = load_run(source)
    config = copy.deepcopy(trained.config)
    config.frames, config.words = frames, words
    torch.manual_seed(0)
    model = type(trained)(config).eval().to(trained.device)
    weights = model.state_dict()
    for name, weight in trained.state_dict().items():
        common = tuple(slice(min(sizes)) for sizes in zip(weight.shape, weights[name].shape, strict=True))
        weights[name][common] = weight[common]
    return model


def fine_tune(
    model: RetrievalModel, few: Split, validation: Split, settings: TrainSettings, epochs: int, seed: int, folder: Path
) -> RetrievalModel:
    """The model after a little more training, on the texts of `few`: the epoch with the best recall on `validation`.

    The settings are those of a training from CLIP on the same corpus; the batch holds all of `few` where that is less.
    The weights and the curve go to `folder`. It takes seconds, so a run that was stopped begins anew.
    """
    batch = min(settings.batch_size, len(few))
    settings = dataclasses.replace(settings, epochs=epochs, batch_size=batch, keep_epochs=False)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):  # a line per epoch and model would bury the tables
        train(model, few, validation, settings, seed, folder, progress=False)
    model.load_state_dict(model.state_dict() | load_file(folder / "selected.safetensors"))
    return model.eval()


def starts(
    source: Domain, target: Domain, method: str, seed: int, clip: CLIPModel, videos: int, epochs: int, folder: Path
) -> dict[str, RetrievalModel]:
    """The models of `STARTS`, all for the inputs of `target` and with the settings of its own training.

    videos: of the target's training split, drawn by seed, with one caption each: what two of the models are trained on
    for so many epochs. Their weights go to `folder/<start>/<method>/seed-<seed>`.
    """
    run, found = f"{method}/seed-{seed}", target.settings(method)
    settings, sizes = TrainSettings(**found["train"]), (found["model"]["frames"], found["model"]["words"])
    few = target.train.sample(videos, seed)
    torch.manual_seed(seed)
    fresh = METHODS[found["method"]].from_clip(clip, **found["model"])
    tuned = {
        start: fine_tune(model, few, target.val, settings, epochs, seed, folder / start / run)
        for start, model in {"fine_tuned": moved(source.trained / run, *sizes), "from_clip": fresh}.items()
    }
    return {"in_domain": load_run(target.trained / run), "zero_shot": moved(source.trained / run, *sizes)} | tuned


def share_values(hits: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
    """Values of each run and query whose mean is the share of `reference` that `hits` reaches, in percent.

    hits, reference: (runs, queries), what two models score on the same queries, such as 1 where a query is found. The
    share is the ratio R of their means; by Taylor linearisation (Cochran, Sampling Techniques, 1977, section 6.3) it
    varies over samples of queries as the mean of R + (hits - R reference) / mean(reference) does. So intervals and
    paired tests of means hold for shares too. None where the reference finds nothing: there is no share of it.
    """
    hits, reference = np.asarray(hits, dtype=float), np.asarray(reference, dtype=float)
    if hits.shape != reference.shape or hits.ndim != 2:
        raise ValueError(
            f"hits and reference must both be (runs, queries), got {hits.shape} and {reference.shape}; give the same "
            "queries of the same seeds."
        )
    mean = reference.mean()
    if mean == 0:
        return None
    ratio = hits.mean() / mean
    return 100 * (ratio + (hits - ratio * reference) / mean)


def estimate(values: np.ndarray, group: np.ndarray) -> dict:
    """Mean of values (runs, queries), its 95 % interval over groups of queries (queries,), and the mean of each run."""
    low, high = bootstrap(values, group)
    return {"mean": float(values.mean()), "low": low, "high": high, "seeds": values.mean(1).tolist()}
