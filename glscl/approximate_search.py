"""The k best of some hundred candidates, which FAISS finds among a million videos by a few vectors each.

The vectors of `glscl.first_stage` lie in lists of near ones, a byte a number, in the directions that hold most of them.
A query reads the lists that are nearest to it; the head scores the best videos of these itself. Videos that no list has
are scored whatever they are, so lists that lag behind an index cost time and lose nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor

from glscl.base import MatchingHead, joined, take
from glscl.exact_search import Hits, Part, directions
from glscl.first_stage import text_vectors
from glscl.scoring import similarity_matrix

DIRECTIONS = 256  # of the vectors, at most
LISTS = 1.0  # times the root of the number of vectors: finding the nearest lists and reading them take about as long
READ, LEAST = 1 / 32, 32  # of the lists, for a query: this share of them, but at least so many
TRAINED_ON = 50  # vectors a list
SHARD = 2**20  # more than the rows of a shard: the number of a video is its shard times this, plus its row


class Lists:
    """The vectors of the videos of many shards. shards: their numbers."""

    def __init__(self, index: faiss.IndexPreTransform):
        self._index, self._lists = index, faiss.extract_index_ivf(index)
        lists = self._lists.invlists
        numbers = [faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)) // SHARD for i in range(lists.nlist)]
        self.shards = set(np.concatenate(numbers).tolist())

    @classmethod
    def trained(cls, sample: Tensor, count: int) -> "Lists":
        """Empty lists for about `count` vectors like those of a sample (vectors, numbers)."""
        kept = directions(sample, DIRECTIONS)
        rotation = faiss.LinearTransform(*kept.shape, False)
        faiss.copy_array_to_vector(kept.T.numpy().ravel(), rotation.A)
        rotation.is_trained = True
        lists = max(1, min(_lists_for(count), len(sample) // TRAINED_ON))
        index = faiss.index_factory(kept.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train((sample @ kept).numpy())
        whole = faiss.IndexPreTransform(rotation, index)
        whole.own_fields = False  # Python keeps both alive
        whole.referenced_objects = rotation, index
        return cls(whole)

    @classmethod
    def load(cls, file: Path) -> "Lists":
        """What `save` wrote."""
        return cls(faiss.read_index(str(file)))

    def save(self, file: Path) -> None:
        """Write the lists in one step."""
        partial = file.with_name(f".{file.name}.partial")
        faiss.write_index(self._index, str(partial))
        os.replace(partial, file)

    def room(self) -> int:
        """For how many vectors there are lists enough; many more make a query slow."""
        return round((self._lists.nlist / LISTS) ** 2)

    def add(self, shard: int, vectors: Tensor) -> None:
        """Add the vectors of all rows of a shard, (rows, vectors, numbers)."""
        rows = shard * SHARD + np.arange(len(vectors))
        self._index.add_with_ids(vectors.flatten(0, 1).numpy(), rows.repeat(vectors.shape[1]))
        self.shards.add(shard)

    def keep(self, shards: Iterable[int]) -> None:
        """Forget the vectors of all other shards."""
        for shard in self.shards - set(shards):
            self._index.remove_ids(faiss.IDSelectorRange(shard * SHARD, (shard + 1) * SHARD))
        self.shards &= set(shards)

    def nearest(self, vectors: np.ndarray, count: int, among: np.ndarray | None = None) -> list[np.ndarray]:
        """Numbers of the nearest videos of each text, at most `count`.

        among: numbers that alone count; then all lists are read, as those that pass may lie in any.
        """
        selector = None if among is None else faiss.IDSelectorBatch(among)
        read = max(LEAST, round(READ * self._lists.nlist)) if among is None else self._lists.nlist
        lists = faiss.SearchParametersIVF(nprobe=min(read, self._lists.nlist), sel=selector)
        several = 4 * count  # vectors of one video may follow each other
        chosen = faiss.SearchParametersPreTransform(index_params=lists)
        _, found = self._index.search(vectors, min(several, self._index.ntotal), params=chosen)
        return [_distinct(numbers[numbers >= 0])[:count] for numbers in found]


def sample_size(count: int) -> int:
    """How many vectors train the lists for `count` of them."""
    return min(count, TRAINED_ON * _lists_for(count))


def _lists_for(count: int) -> int:
    return max(1, round(LISTS * count**0.5))


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, in the order in which they come first."""
    _, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first)]


def best(
    head: MatchingHead, texts, parts: dict[int, Part], lists: Lists, k: int, candidates: int, some: bool
) -> list[Hits]:
    """The k best videos of every text among its `candidates` and those that no list has; see `exact_search.best`.

    parts: by the number of the shard. some: whether parts leave out videos that the lists have, as a filter does.
    """
    listed = [number for number in parts if number in lists.shards]
    among = np.concatenate([number * SHARD + parts[number].rows for number in listed]) if some and listed else None
    vectors = text_vectors(head, texts).numpy()
    found = lists.nearest(vectors, candidates, among) if listed else [np.empty(0, int)] * len(vectors)
    return [_scored(head, take(texts, [text]), parts, lists, k, numbers) for text, numbers in enumerate(found)]


def _scored(head: MatchingHead, text, parts: dict[int, Part], lists: Lists, k: int, numbers: np.ndarray) -> Hits:
    hits, numbers, chosen = Hits(k), np.sort(numbers), {}
    for number, part in parts.items():
        if number in lists.shards:
            start, end = np.searchsorted(numbers, [number * SHARD, (number + 1) * SHARD])
            chosen[number] = np.intersect1d(numbers[start:end] - number * SHARD, part.rows, assume_unique=True)
        else:
            videos = part.embeddings(torch.from_numpy(part.rows))
            hits.add(number, part.rows, similarity_matrix(head, text, videos)[0])
    chosen = {number: rows for number, rows in chosen.items() if len(rows)}
    if chosen:
        videos = joined([parts[number].embeddings(torch.from_numpy(rows)) for number, rows in chosen.items()])
        scores = similarity_matrix(head, text, videos)[0].split([len(rows) for rows in chosen.values()])
        for (number, rows), part in zip(chosen.items(), scores, strict=True):
            hits.add(number, rows, part)
    return hits
