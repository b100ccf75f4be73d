"""Values that released code computed, and what this package computes from the same weights and the same inputs.

A file `<head>.npz` of this folder holds `about`, as JSON, and for each case of `CASES` the release's `scores`, its
`loss` and gradients of that loss, `gradient.<released name>`. Weights and inputs are drawn again by name and seed, so
that a file is small. README.md of this folder says how the values were made.
"""

import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from glscl.losses import contrastive_loss
from glscl.methods import METHODS
from glscl.released import renamed

FOLDER = Path(__file__).parent
CASES = ("full", "padded")
BOUND = 1e-5
PAIRS, WORDS, FRAMES, SIDE, VOCABULARY = 5, 8, 4, 16, 40


def weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights of a release, drawn by their names: {released name: float32 of this shape}."""
    return {name: torch.tensor(_weight(name, shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: list[int]) -> np.ndarray:
    if name.endswith("logit_scale"):
        return np.float32(2.5)
    value = 0.1 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1 and name.endswith("weight"):
        value += 1.0  # a LayerNorm
    if len(shape) == 2 and shape[0] == shape[1] and "." not in name:
        value += np.eye(shape[0])  # a matrix that its release starts as the identity
    return value.astype(np.float32)


def batch(case: str) -> dict[str, torch.Tensor]:
    """Five pairs: token_ids and token_mask (pairs, words), frames (pairs, frames, 3, side, side), frame_mask.

    Texts start with the second largest id and end with the largest. In the case `padded` absent words are id 0 and
    absent frames are 0.
    """
    rng = np.random.RandomState(1)
    words, frames = (rng.randint(low, most + 1, PAIRS) for low, most in ((3, WORDS), (1, FRAMES)))
    if case == "full":
        words, frames = np.full(PAIRS, WORDS), np.full(PAIRS, FRAMES)
    word_mask, frame_mask = np.arange(WORDS) < words[:, None], np.arange(FRAMES) < frames[:, None]
    ids = np.where(word_mask, rng.randint(1, VOCABULARY - 2, (PAIRS, WORDS)), 0)
    ids[:, 0] = VOCABULARY - 2
    ids[np.arange(PAIRS), words - 1] = VOCABULARY - 1
    pixels = rng.standard_normal((PAIRS, FRAMES, 3, SIDE, SIDE)) * frame_mask[:, :, None, None, None]
    return {
        "token_ids": torch.tensor(ids),
        "token_mask": torch.tensor(word_mask).long(),
        "frames": torch.tensor(pixels, dtype=torch.float32),
        "frame_mask": torch.tensor(frame_mask).long(),
    }


class Difference(NamedTuple):
    """Largest differences from a release: of scores; of loss and gradient as shares of the release's largest value."""

    scores: float
    loss: float
    gradient: float


def heads() -> list[str]:
    """Every head that has values, by name; the optimiser's file beside them is none."""
    return sorted(file.stem for file in FOLDER.glob("*.npz") if "method" in about(file.stem))


def has_padding(head: str) -> bool:
    """Whether the head can treat padding in two ways."""
    return hasattr(METHODS[about(head)["method"]].config_class, "padding")


def about(head: str) -> dict:
    """How the values of a head were made: repository, commit, file, method, settings, shapes of the weights."""
    with np.load(FOLDER / f"{head}.npz") as file:
        return json.loads(str(file["about"]))


def difference(head: str, case: str, device: str | torch.device = "cpu", **settings) -> Difference:
    """How far this package is from the release on a device, with settings in the place of the release's."""
    with np.load(FOLDER / f"{head}.npz") as file:
        stored = {name: file[name] for name in file.files}
    made = json.loads(str(stored["about"]))
    method = METHODS[made["method"]]
    model = method.from_released(weights(made["shapes"]), **made["settings"] | settings).to(device)
    inputs = {name: tensor.to(device) for name, tensor in batch(case).items()}

    def embeddings():
        texts = model.encode_texts(inputs["token_ids"], inputs["token_mask"])
        return texts, model.encode_videos(inputs["frames"], inputs["frame_mask"])

    with torch.no_grad():
        scores = model.similarity(*embeddings())
    model.train()
    torch.manual_seed(0)  # for heads whose training draws numbers, as the generators do
    if made.get("loss") == "all pairs":  # without a logit scale, where the study's own loss draws negatives
        loss = contrastive_loss(model.similarity(*embeddings()), torch.tensor(0.0))
    else:
        loss = model.loss(*embeddings())["total"]
    loss.backward()
    gradients = {
        name.removeprefix(f"{case}.gradient."): torch.tensor(value)
        for name, value in stored.items()
        if name.startswith(f"{case}.gradient.")
    }
    shares = [
        _distance(model.get_parameter(name).grad, value) / value.abs().max().item()
        for name, value in renamed(method.released_names, gradients).items()
        if name != "clip.logit_scale"  # the release's one scale is the head's here
    ]
    released_loss = float(stored[f"{case}.loss"])
    return Difference(
        _distance(scores, torch.tensor(stored[f"{case}.scores"])),
        abs(loss.item() - released_loss) / abs(released_loss),
        max(shares),
    )


def page() -> str:
    """docs/parity.md: how far every head is from its release, with and without padding."""
    rows = []
    for head in heads():
        made = about(head)
        full, padded = (difference(head, case) for case in CASES)
        cells = [f"{made['repository']} {made['commit'][:7]}", f"`{made['method']}`"]
        cells += [" / ".join(f"{value:.0e}" for value in found) for found in (full, padded)]
        moved = difference(head, "padded", padding="masked").scores if has_padding(head) else None
        cells.append("no switch needed" if moved is None else f"{moved:.2g}")
        rows.append(f"| {head} | " + " | ".join(cells) + " |")
    return PAGE.format(rows="\n".join(rows), bound=f"{BOUND:.0e}", pairs=PAIRS, words=WORDS, frames=FRAMES)


PAGE = """# Parity with the releases

Random weights were loaded into the code of each release and, through `from_released`, into the head of this package.
Both saw the same {pairs} texts and videos, of {words} words and {frames} frames at most. The table has the largest
differences, on a processor in float32: of scores (as cosines), of the training loss, and of the gradients of the
head's weights, the latter two as shares of the release's largest value. Dropout is off. `make parity` computes the
table again from the stored values of `tests/released`, whose README says how they were made; `tests/test_parity.py`
fails where a score or a loss exceeds {bound}, or a gradient twice that.

Padding: the second column has texts with fewer words and videos with fewer frames, and heads that treat them as their
release does. `from_released` sets that; in training it is `model.padding: released`. The study's own default is
`masked`, where padding has no part in a score: the last column says how far that moves the scores of these inputs.

| head | release | method here | no padding: scores / loss / gradients | with padding | scores, padding masked |
| --- | --- | --- | --- | --- | --- |
{rows}

NCL has no public code; its row is a loss for mean pooling, after the description in its paper.
"""


def _distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first.cpu() - second.cpu()).abs().max().item()
