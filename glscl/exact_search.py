"""The k best videos of a sentence, exactly, from int8 codes: most videos are ruled out without their embeddings.

A row of codes bounds the score of a video from above by one inner product with the query. Only videos whose bound
reaches the k-th best score so far are scored by the head itself, so what is found is what brute force finds.

The bound. Let t be the unit-length sentence vector. GLSCL's global similarity is sum_f a_f <t, v_f> / |sum_f a_f v_f|
with weights a >= 0 that sum to 1. With n = min over all such a of |sum_f a_f v_f|, it is at most the largest of 0 and
<t, v_f / n> over the real frames f: the numerator is a mean of the products, the denominator at least n. Its local
similarity is <c, d>, c and d the concepts of text and video, each flattened, c with the weights. With orthonormal
directions B, <c, d> = <Bc, Bd> + <c - B'Bc, d - B'Bd>, and the last term is at most the product of the two lengths.
So the score is at most max_r <(t, Bc, |c - B'Bc|), (r, Bd, |d - B'Bd|)>, where r is 0 or one of the v_f / n.
Mean pooling is the case of one r, the unit-length video vector, and no concepts; there the bound is the score.
Rounding x to x' adds <q, x - x'> <= |q| |x - x'|: that length is a further number of the row, rounded up.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glscl.base import MatchingHead, take
from glscl.model import GLSCLHead
from glscl.rivals.mean_pooling import MeanPoolingHead

# Rows of codes, times k: as many of the best bounds are scored first, which raises the score that others must reach; as
# many are asked for at once, as that takes FAISS hardly longer; and how many times as many if that is too few.
FIRST, AHEAD, MORE = 16, 256, 4
# FAISS takes 8 numbers at once, else it is ten times as slow; where 16 divide a row, it rounds the query to integers.
LANES = 8
DIRECTIONS = 64  # of the concepts; more make a tighter bound of longer rows
ITERATIONS = 60  # of the smallest norm; fewer make a looser bound
ROUNDING = 1e-5  # of float32, in a sum of some hundred products


class Codes(NamedTuple):
    """Codes of some videos. index: FAISS index of the rows. owner: (rows,), the video of each.

    always: the videos without codes, which nothing rules out, as their frames may cancel each other. steps: (numbers,),
    of the codes of each number of a row. directions: (concepts x width, directions), orthonormal.
    """

    index: faiss.IndexScalarQuantizer
    owner: np.ndarray
    always: np.ndarray
    steps: np.ndarray
    directions: Tensor

    def save(self, file: Path) -> None:
        """Write the codes to `file` and what reads them beside it, with the ending .safetensors."""
        arrays = {"owner": self.owner, "always": self.always, "steps": self.steps}
        rest = {name: torch.from_numpy(array) for name, array in arrays.items()}
        save_file(rest | {"directions": self.directions.contiguous()}, file.with_suffix(".safetensors"))
        faiss.write_index(self.index, str(file))

    @classmethod
    def load(cls, file: Path) -> "Codes":
        """The codes in a file, which stay on the disk and are read where they are needed."""
        rest = load_file(file.with_suffix(".safetensors"))
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        return cls(index, *(rest[name].numpy() for name in ("owner", "always", "steps")), rest["directions"])


def can_search(head: MatchingHead) -> bool:
    """Whether the score of a head has a bound here."""
    return isinstance(head, GLSCLHead | MeanPoolingHead)


def encode(head: MatchingHead, videos) -> Codes:
    """The codes of the embeddings of some videos; raises ValueError for another head."""
    always = torch.zeros(0, dtype=torch.long)
    if isinstance(head, GLSCLHead):
        vectors, owner, always = _frames_over_least_norm(videos)
        concepts = videos.concepts.flatten(1)
    elif isinstance(head, MeanPoolingHead):
        vectors, owner = videos.video, torch.arange(len(videos.video))
        concepts = vectors.new_zeros(len(vectors), 1)
    else:
        raise ValueError(f"exact search bounds the scores of GLSCL and mean pooling, got a {type(head).__name__}.")
    kept = directions(concepts, DIRECTIONS)
    inside = concepts @ kept
    outside = (concepts - inside @ kept.T).norm(dim=1, keepdim=True)
    codes, steps, errors = zip(*map(_rounded, (vectors, inside[owner])), strict=True)
    lengths, length_steps = _rounded_up(torch.cat([outside[owner], *errors], 1))
    rows = _padded(torch.cat([*codes, lengths], 1)).numpy()
    kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
    index = faiss.IndexScalarQuantizer(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.add(rows)
    steps = _padded(torch.cat([*steps, length_steps])).numpy()
    return Codes(index, owner.numpy(), always.numpy(), steps, kept)


def queries(head: MatchingHead, texts, codes: Codes) -> np.ndarray:
    """What the inner products with rows of codes are bounds with: (texts, numbers)."""
    sentence = torch.nn.functional.normalize(texts.sentence, dim=-1)
    if isinstance(head, GLSCLHead):
        concepts = texts.concepts.flatten(1) * (head.config.local_weight / texts.concepts.shape[1])
    else:
        concepts = sentence.new_zeros(len(sentence), 1)
    inside = concepts @ codes.directions
    outside = (concepts - inside @ codes.directions.T).norm(dim=1, keepdim=True)
    lengths = [part.norm(dim=1, keepdim=True) for part in (sentence, inside)]
    return _padded(torch.cat([sentence, inside, outside, *lengths], 1)).numpy() * codes.steps


class Part(NamedTuple):
    """Some videos of a gallery.

    rows: (videos,), their rows among the embeddings. embeddings: gives those of chosen rows. codes: of these rows and
    perhaps of others, which are not looked at; None: every video is scored.
    """

    rows: np.ndarray
    embeddings: Callable[[Tensor], tuple]
    codes: Codes | None


class Hits:
    """The k best videos of one text so far: {(number of the part, row): score}."""

    def __init__(self, k: int):
        self.k, self.scores, self.scored, self._lock = k, {}, 0, Lock()

    @property
    def least(self) -> float:
        """The k-th best score; minus infinity while there are fewer."""
        return min(self.scores.values()) if len(self.scores) == self.k else -np.inf

    def add(self, number: int, rows: np.ndarray, scores: Tensor) -> None:
        """Add the scores of rows of a part."""
        with self._lock:
            self.scored += len(rows)
            self.scores |= dict(zip(((number, row) for row in rows.tolist()), scores.tolist(), strict=True))
            self.scores = dict(self.sorted()[: self.k])

    def sorted(self) -> list[tuple[tuple[int, int], float]]:
        """Best first; of equal scores the first in the order of the parts and their rows comes first."""
        return sorted(self.scores.items(), key=lambda hit: (-hit[1], hit[0]))


def best(head: MatchingHead, texts, parts: Sequence[Part], k: int) -> list[Hits]:
    """The k best videos of every text, and how many were scored for it."""
    found = [Hits(k) for _ in texts.sentence]

    @torch.inference_mode()  # it holds for one thread
    def look(job: tuple[int, int]) -> None:
        text, number = job
        part, one, hits = parts[number], take(texts, [text]), found[text]
        for rows in _candidates(head, one, part, hits):
            if len(rows):
                hits.add(number, rows, head.similarity(one, part.embeddings(torch.from_numpy(rows)))[0])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(look, product(range(len(found)), range(len(parts)))))
    return found


def _candidates(head: MatchingHead, text, part: Part, hits: Hits) -> Iterator[np.ndarray]:
    """Rows to score for one text, until no other bound reaches its k-th best score; all where bounds rule out none."""
    if part.codes is None:
        yield part.rows
        return
    yield _among(part.codes.always, part.rows)
    asked, count, before = queries(head, text, part.codes), AHEAD * hits.k, part.rows[:0]
    while True:
        count = min(count, part.codes.index.ntotal)
        (bounds,), (places,) = part.codes.index.search(asked, count)
        for end in (FIRST * hits.k, count):
            best_bounds = bounds[:end] >= hits.least - ROUNDING
            reached = _among(part.codes.owner[places[:end][best_bounds]], part.rows)
            yield np.setdiff1d(reached, before, assume_unique=True)
            before = np.union1d(before, reached)
        if count == part.codes.index.ntotal or bounds[-1] < hits.least - ROUNDING:
            return
        count *= MORE


def _among(reached: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those of `rows`, which are sorted, that were reached."""
    reached = np.unique(reached)
    place = np.searchsorted(rows, reached).clip(max=len(rows) - 1)
    return reached[rows[place] == reached]


def _frames_over_least_norm(videos) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of bounds: the real frames of a video over the least norm of their mixtures, and 0; the video of each row.

    Third: the videos whose least norm is next to nothing, which have no rows.
    """
    least = least_norm(videos.gram, videos.mask)
    usable = least > 0.05 * videos.frames.norm(dim=2).amax(1)
    rows = videos.frames / torch.where(usable, least, 1.0)[:, None, None]
    rows = torch.cat([rows, rows.new_zeros(len(rows), 1, rows.shape[2])], 1)
    real = torch.cat([videos.mask > 0, torch.ones(len(rows), 1, dtype=torch.bool)], 1) & usable[:, None]
    owner = torch.arange(len(rows))[:, None].expand_as(real)
    return rows[real], owner[real], (~usable).nonzero().flatten()


def least_norm(gram: Tensor, mask: Tensor) -> Tensor:
    """A lower bound of |sum_f a_f v_f| over all weights a >= 0 of real frames that sum to 1: (videos,), at least 0.

    gram (videos, frames, frames) of the v_f, mask (videos, frames). Frank and Wolfe's method; as a'Ga is convex, at any
    a its minimum is at least 2 min_f (Ga)_f - a'Ga.
    """
    absent, one = mask == 0, torch.arange(len(gram))
    weights = mask / mask.sum(1, keepdim=True)
    bound = weights.new_zeros(len(gram))
    for _ in range(ITERATIONS):
        slope = (gram @ weights[:, :, None])[:, :, 0]
        value = (slope * weights).sum(1)
        lowest, vertex = slope.masked_fill(absent, torch.inf).min(1)
        bound = torch.maximum(bound, 2 * lowest - value)
        share = (value - lowest) / (value - 2 * lowest + gram[one, vertex, vertex]).clamp(min=1e-12)
        corner = torch.nn.functional.one_hot(vertex, mask.shape[1])
        weights = weights + share.clamp(0, 1)[:, None] * (corner - weights)
    return bound.sqrt() * (1 - ROUNDING)


def directions(vectors: Tensor, count: int) -> Tensor:
    """At most `count` orthonormal directions that hold most of some vectors (vectors, numbers): (numbers, count)."""
    count = min(count, *vectors.shape)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return torch.linalg.qr(torch.pca_lowrank(vectors, count, center=False)[2])[0]


def _padded(numbers: Tensor) -> Tensor:
    return torch.nn.functional.pad(numbers, (0, (LANES - numbers.shape[-1]) % (2 * LANES)))


def _rounded(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of -127 to 127 and steps of each column, and the length of what rounding takes from each row."""
    steps = (numbers.abs().amax(0) / 127).clamp(min=1e-12)
    codes = (numbers / steps).round()
    return codes, steps, (numbers - codes * steps).norm(dim=1, keepdim=True)


def _rounded_up(lengths: Tensor) -> tuple[Tensor, Tensor]:
    steps = (lengths.amax(0) / 126).clamp(min=1e-12)
    return (lengths / steps).ceil(), steps
