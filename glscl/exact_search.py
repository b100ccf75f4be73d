"""The k best videos of a sentence, exactly, from int8 codes: most videos are ruled out without their embeddings.

Codes bound the score of every video from above by inner products with the query. Videos are scored by the head itself,
the highest bound first, until no other bound reaches the k-th best score: so what is found is what brute force finds.

The bound. Let t be the unit-length sentence vector. GLSCL's global similarity is sum_f a_f <t, v_f> / |sum_f a_f v_f|
with weights a >= 0 of the real frames. With unit-length e_f = v_f / |v_f| and b_f = a_f |v_f|, scaled to sum to 1, as
the scale cancels, it is sum_f b_f <t, e_f> / |sum_f b_f e_f|. The numerator is a mean of the products, so that with
n = min over all such b of |sum_f b_f e_f| the global similarity is at most max(0, max_f <t, e_f>) / n. The local
similarity is <c, d>, c and d the concepts of text and video, each flattened, c with the weights. With orthonormal
directions B, it is <Bc, Bd> + <c - B'Bc, d - B'Bd>, and the last term is at most the product of the two lengths. Mean
pooling is the case of one frame, n = 1, and no concepts.

The products. A row x is kept as the mean of all rows m, a step s and integers y, so that s y is about x - m. Then
<q, x> is at most <q, m> + s <q, y> + |q| |x - m - s y|, of which the last length is kept for each video. The query is
rounded too, to q', which adds at most |q - q'| |s y|, and so is s <q', y>, by at most 2^-8 of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize, pad

from glscl.base import MatchingHead, joined, take
from glscl.model import GLSCLHead
from glscl.rivals.mean_pooling import MeanPoolingHead
from glscl.scoring import similarity_matrix

FIRST = 16  # times k: as many videos are scored first, which raises the score that others must reach
AT_ONCE = 2048  # videos that are scored after these, until no other bound reaches that score
TEXTS = 16  # whose bounds are computed at once
LANES = 32  # numbers of a row are a multiple of it: the product in int8 reads as many at once, and checks nothing
DIRECTIONS = 64  # of the concepts; more make a tighter bound of longer rows
ITERATIONS = 60  # of the smallest norm; fewer make a looser bound
LEAST = 0.05  # norm of a mixture of unit-length frames from which a bound by it is worth anything
ROUNDING = 1e-5  # of float32, in a sum of some hundred products


class Rows(NamedTuple):
    """Rows of numbers as integers, see above: the first row of every video, then the second of every video, and so on.

    integers: int8, (rows, numbers), filled up with zeros. steps: bfloat16, (rows,). mean: (numbers,). error: (videos,),
    the largest |x - m - s y| among the rows of a video. reach: (1,), the largest |s y|.
    """

    integers: Tensor
    steps: Tensor
    mean: Tensor
    error: Tensor
    reach: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> "Rows":
        """Of (videos, rows, numbers)."""
        mean = numbers.mean((0, 1))
        rest = (numbers - mean).transpose(0, 1)
        steps = (rest.abs().amax(2) / 126).clamp(min=1e-12).bfloat16()
        integers = (rest / steps.float()[..., None]).round().clamp(-127, 127)
        kept = integers * steps.float()[..., None]
        error = (rest - kept).norm(dim=2).amax(0) * (1 + ROUNDING)
        reach = kept.norm(dim=2).amax().reshape(1) * (1 + ROUNDING)
        filled = pad(integers, (0, -integers.shape[2] % LANES)).to(torch.int8)
        return cls(filled.flatten(0, 1), steps.flatten(), mean, error, reach)

    def bounds(self, asked: Tensor) -> Tensor:
        """The largest product of each video's rows with queries (queries, numbers), from above: (queries, videos)."""
        rounded = asked.bfloat16()
        filled = pad(rounded, (0, self.integers.shape[1] - asked.shape[1]))
        # What torch itself calls where a language model has weights of int8; there is no public name for it.
        products = torch._weight_int8pack_mm(filled, self.integers, self.steps)
        most = products.unflatten(1, (-1, len(self.error))).amax(1).float()
        lost = (asked - rounded).norm(dim=1, keepdim=True) * self.reach
        length = asked.norm(dim=1, keepdim=True)
        return most + 2**-8 * most.abs() + lost + length * self.error + (asked @ self.mean)[:, None]


class Codes(NamedTuple):
    """Codes of some videos, which bound the scores of all of them.

    frames: of the e_f. least: (videos,), the least norm n; 0 where it is next to nothing, as frames may cancel each
    other, and nothing rules the video out. concepts: Bd. outside: (videos,), |d - B'Bd|. directions: (concepts x width,
    directions), orthonormal. The last three are None for mean pooling.
    """

    frames: Rows
    least: Tensor
    concepts: Rows | None = None
    outside: Tensor | None = None
    directions: Tensor | None = None

    def save(self, file: Path) -> None:
        """Write the codes to a file of safetensors."""
        rows = {name: part for name, part in (("frames", self.frames), ("concepts", self.concepts)) if part}
        kept = {f"{name}.{field}": tensor for name, part in rows.items() for field, tensor in part._asdict().items()}
        rest = {name: getattr(self, name) for name in ("least", "outside", "directions")}
        kept |= {name: tensor for name, tensor in rest.items() if tensor is not None}
        save_file({name: tensor.contiguous() for name, tensor in kept.items()}, file)

    @classmethod
    def load(cls, file: Path) -> "Codes":
        """The codes in a file, which stay on the disk and are read where they are needed."""
        kept = load_file(file)
        frames, concepts = (
            Rows(*(kept[f"{name}.{field}"] for field in Rows._fields)) if f"{name}.integers" in kept else None
            for name in ("frames", "concepts")
        )
        return cls(frames, kept["least"], concepts, kept.get("outside"), kept.get("directions"))

    def bounds(self, head: MatchingHead, texts) -> Tensor:
        """The bound of every text and video, (texts, videos); infinite where nothing rules a video out."""
        found = self.frames.bounds(normalize(texts.sentence, dim=-1)).clamp(min=0) / self.least
        found = found.where(self.least > 0, torch.inf)
        if self.concepts is not None:
            asked = texts.concepts.flatten(1) * (head.config.local_weight / texts.concepts.shape[1])
            inside = asked @ self.directions
            outside = (asked - inside @ self.directions.T).norm(dim=1, keepdim=True)
            found += self.concepts.bounds(inside) + outside * self.outside
        return found + ROUNDING


def can_search(head: MatchingHead) -> bool:
    """Whether the score of a head has a bound here."""
    return isinstance(head, GLSCLHead | MeanPoolingHead)


def encode(head: MatchingHead, videos) -> Codes:
    """The codes of the embeddings of some videos; raises ValueError for another head."""
    if isinstance(head, MeanPoolingHead):
        return Codes(Rows.of(videos.video[:, None]), torch.ones(len(videos.video)))
    if not isinstance(head, GLSCLHead):
        raise ValueError(f"exact search bounds the scores of GLSCL and mean pooling, got a {type(head).__name__}.")
    concepts = videos.concepts.flatten(1)
    kept = directions(concepts, DIRECTIONS)
    inside = concepts @ kept
    outside = (concepts - inside @ kept.T).norm(dim=1) * (1 + ROUNDING)
    return Codes(*_frames(videos), Rows.of(inside[:, None]), outside, kept)


def _frames(videos) -> tuple[Rows, Tensor]:
    """Rows of the unit-length frames, absent ones as the first real one, and their least norm."""
    lengths = videos.frames.norm(dim=2).clamp(min=1e-12)
    least = least_norm(videos.gram / (lengths[:, :, None] * lengths[:, None]), videos.mask)
    unit, first = videos.frames / lengths[..., None], (videos.mask > 0).int().argmax(1)
    unit = unit.where(videos.mask[..., None] > 0, unit[torch.arange(len(unit)), first][:, None])
    return Rows.of(unit), least.where(least > LEAST, 0.0)


class Part(NamedTuple):
    """Some videos of a gallery.

    rows: (videos,), their rows among the embeddings. embeddings: gives those of chosen rows. codes: of these rows and
    perhaps of others, which are not looked at; None: every video is scored.
    """

    rows: np.ndarray
    embeddings: Callable[[Tensor], tuple]
    codes: Codes | None


class Hits:
    """The k best videos of one text so far: {(number of the part, row): score}. scored: how many videos were."""

    def __init__(self, k: int):
        self.k, self.scores, self.scored = k, {}, 0

    @property
    def least(self) -> float:
        """The k-th best score; minus infinity while there are fewer."""
        return min(self.scores.values()) if len(self.scores) == self.k else -np.inf

    def score(self, head: MatchingHead, text, parts: Mapping[int, Part], chosen: dict[int, np.ndarray]) -> None:
        """Score chosen rows of the parts, by their number, and keep the best."""
        chosen = {number: rows for number, rows in chosen.items() if len(rows)}
        if not chosen:
            return
        videos = joined([parts[number].embeddings(torch.from_numpy(rows)) for number, rows in chosen.items()])
        numbers = np.repeat(list(chosen), [len(rows) for rows in chosen.values()])
        rows, scores = np.concatenate(list(chosen.values())), similarity_matrix(head, text, videos)[0].numpy()
        self.scored += len(rows)
        good = (scores >= self.least).nonzero()[0]
        places = zip(numbers[good].tolist(), rows[good].tolist(), strict=True)
        self.scores |= dict(zip(places, scores[good].tolist(), strict=True))
        self.scores = dict(self.sorted()[: self.k])

    def sorted(self) -> list[tuple[tuple[int, int], float]]:
        """Best first; of equal scores the first in the order of the parts and their rows comes first."""
        return sorted(self.scores.items(), key=lambda hit: (-hit[1], hit[0]))


@torch.inference_mode()
def best(head: MatchingHead, texts, parts: Sequence[Part], k: int) -> list[Hits]:
    """The k best videos of every text, and how many were scored for it."""
    found, numbered = [], dict(enumerate(parts))
    for some in torch.arange(len(texts.sentence)).split(TEXTS):
        bounds = np.concatenate([_bounds(head, take(texts, some), part) for part in parts], 1)
        for text, bound in zip(some, bounds, strict=True):
            hits, one = Hits(k), take(texts, text[None])
            for places in _candidates(bound, hits):
                hits.score(head, one, numbered, _rows(parts, places))
            found.append(hits)
    return found


def _bounds(head: MatchingHead, texts, part: Part) -> np.ndarray:
    """Of the rows of a part, (texts, videos)."""
    if part.codes is None:
        return np.full((len(texts.sentence), len(part.rows)), np.inf, np.float32)
    found = part.codes.bounds(head, texts).numpy()
    return found if len(part.rows) == found.shape[1] else found[:, part.rows]


def _candidates(bounds: np.ndarray, hits: Hits) -> Iterator[np.ndarray]:
    """Places of videos to score for one text, the highest bounds first, until no other reaches its k-th best score."""
    first = torch.from_numpy(bounds).topk(min(FIRST * hits.k, len(bounds))).indices.numpy()
    yield first
    left = bounds >= hits.least
    left[first] = False
    left = left.nonzero()[0]
    left = left[np.argsort(-bounds[left])]
    for start in range(0, len(left), AT_ONCE):
        if bounds[left[start]] < hits.least:
            return
        yield left[start : start + AT_ONCE]


def _rows(parts: Sequence[Part], places: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of each part, by its number, of places among the videos of all parts."""
    places, ends = np.sort(places), np.cumsum([len(part.rows) for part in parts])
    split = np.split(places, np.searchsorted(places, ends[:-1]))
    starts = ends - [len(part.rows) for part in parts]
    return {n: part.rows[own - start] for n, (part, own, start) in enumerate(zip(parts, split, starts, strict=True))}


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
