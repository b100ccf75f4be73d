"""How fast a head learns: when validation recall reaches a goal, its mean on the way, and the work of a step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from glscl.costs import counted, random_states
from glscl.head import MatchingHead
from glscl.inputs import Inputs, load_backbone
from glscl.metrics import RECALLS, per_query
from glscl.model import RetrievalModel
from glscl.rivals import METHODS
from glscl.runs import load_run
from glscl.scoring import similarity_matrix
from glscl.splits import Split
from glscl.statistics import crossed_interval, paired_difference, seed_interval

SHARE = 0.9  # of the best final recall of any head: the goal that every head is timed to


def step_of(goal: float, steps: Sequence[float], recall: Sequence[float]) -> float | None:
    """The first step at which a curve reaches `goal`, linear between two evaluations; None where it never does.

    steps: (evaluations,), rising. recall: (evaluations,), in the unit of the goal.
    """
    reached = np.asarray(recall, dtype=float) >= goal
    if not reached.any():
        return None
    after = int(reached.argmax())
    if after == 0:
        return float(steps[0])
    (x, x_after), (y, y_after) = steps[after - 1 : after + 1], recall[after - 1 : after + 1]
    return float(x + (x_after - x) * (goal - y) / (y_after - y))


def mean_height(steps: Sequence[float], recall: np.ndarray) -> np.ndarray:
    """Area under curves divided by their steps, by trapezoids: recall averaged over the training, in its own unit.

    steps: (evaluations,), rising. recall: (runs, evaluations, queries) -> (runs, queries).
    """
    return np.trapezoid(recall, steps, axis=1) / (steps[-1] - steps[0])


def over_seeds(each: list[float | None]) -> dict:
    """Mean and 95 % t interval over seeds of a quantity that is never negative: {"mean", "low", "high", "each"}.

    each: one value per seed, None where a seed never got there; then there is no mean. One seed has no interval.
    """
    if None in each:
        return {"mean": None, "low": None, "high": None, "each": each}
    low, high = seed_interval(each) if len(each) > 1 else (None, None)
    return {"mean": float(np.mean(each)), "low": low if low is None else max(0.0, low), "high": high, "each": each}


def difference_of(one: np.ndarray, other: np.ndarray, group: np.ndarray) -> dict:
    """Mean difference, one minus other, of what heads reach with the same seeds and queries: `paired_difference`.

    one, other: (seeds, queries), at least two seeds; a seed draws the same batches in the same order for both. group:
    (queries,). Its interval, `low` to `high`, is that of `crossed_interval`: it holds for new seeds and new queries.
    """
    low, high = crossed_interval(one - other, group)
    return paired_difference(one, other, group) | {"low": low, "high": high}


def told_apart(difference: dict) -> int:
    """The sign of a difference that is told apart from 0, and 0 for any other.

    Told apart is what has a corrected p-value `p_holm` below 0.05 and an interval that leaves 0 out.
    """
    found = difference["p_holm"] < 0.05 and difference["low"] * difference["high"] > 0
    return int(np.sign(difference["difference"])) if found else 0


def training_macs(head: MatchingHead, batch_size: int) -> int:
    """Multiply-accumulates of one training step on cached features: forward and backward, as torch counts them.

    Counted are the matrix products of a batch without padding, of the head as it is trained, its loss among them. CLIP,
    the optimiser and whatever is no matrix product are left out, and so are, for the normalised contrastive loss,
    recent batches.
    """
    sentence, words, word_mask, frames, frame_mask = random_states(head.config, batch_size)
    fresh = type(head)(head.config).train()

    def step():
        loss = fresh.loss(fresh.encode_texts(sentence, words, word_mask), fresh.encode_videos(frames, frame_mask))
        loss["total"].backward()

    return counted(step)


def untrained(method: str, settings: dict, clip: str, inputs: Inputs, backbone: str, frames: int, seed: int):
    """The model that `glscl.runs.train_seeds` starts from, with the same arguments and seed, in evaluation mode."""
    torch.manual_seed(seed)
    sizes = {"words": inputs.words, "frames": frames}
    return METHODS[method].from_clip(load_backbone(clip, backbone, inputs), **settings, **sizes).eval()


def query_recalls(model: RetrievalModel, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What each query adds to `glscl.training.mean_recall`, and its video: twice (queries,), both directions joined.

    A query's value is the mean of its hits at 1, 5 and 10, in percent, weighted so that each direction is one half.
    """
    found = per_query(similarity_matrix(model, *split.encode(model)).numpy(), split.video_of_text.numpy())
    depths = np.array([k for k in RECALLS if k <= 10])
    total = sum(len(queries["rank"]) for queries in found.values())
    values, groups = [], []
    for queries in found.values():
        hits = 100 * (queries["rank"][:, None] <= depths - 1).mean(1)
        values.append(hits * total / (2 * len(hits)))
        groups.append(queries["group"])
    return np.concatenate(values), np.concatenate(groups)


def query_curve(start: RetrievalModel, folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """`query_recalls` before training and after each epoch whose weights a run kept: (evaluations, queries), videos.

    start: the untrained model. folder: what `train_seeds` kept of one seed, with `keep_epochs`.
    """
    kept = sorted(file.stem for file in folder.glob("after-*.safetensors"))
    values, groups = zip(*(query_recalls(m, split) for m in (start, *(load_run(folder, e) for e in kept))), strict=True)
    return np.stack(values), groups[0]
