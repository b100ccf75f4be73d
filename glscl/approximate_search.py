"""The k best of some hundred candidates, which FAISS finds among a million videos by a few vectors each.

The vectors of `glscl.first_stage` lie in a graph of neighbours (HNSW), a byte a number, in the directions that hold
most of them; the head scores the best videos by them itself. Sentences lie apart from all frames, so that lists of near
vectors (IVF) lose much unless a quarter is read, and a graph does not. Videos that it lacks are scored whatever they
are: a graph that lags behind an index costs time and loses nothing.
"""

from pathlib import Path

import faiss
import numpy as np
from torch import Tensor

from glscl.base import MatchingHead, take
from glscl.exact_search import Hits, Part, directions
from glscl.files import replacing
from glscl.first_stage import text_vectors

DIRECTIONS = 128  # of the vectors, at most
LINKS, CARE = 16, 60  # neighbours of a vector, and how many are looked at to find them
SEVERAL = 3  # vectors that are asked for, times the candidates: those of one video may follow each other
TRAINED_ON = 20_000  # vectors, for the directions and the range of the numbers
SHARD = 2**20  # more than the rows of a shard: the number of a video is its shard times this, plus its row


class Graph:
    """The vectors of the videos of many shards.

    numbers: of each vector that of its video, (vectors,). shards: the numbers of the shards.
    """

    def __init__(self, index: faiss.IndexIDMap2):
        self._index, self._rotated = index, faiss.downcast_index(index.index)
        self._hnsw = faiss.downcast_index(self._rotated.index)
        self._read_numbers()

    @classmethod
    def trained(cls, sample: Tensor) -> "Graph":
        """A graph without vectors, for vectors like those of a sample (vectors, numbers)."""
        kept = directions(sample, DIRECTIONS)
        rotation = faiss.LinearTransform(*kept.shape, False)
        faiss.copy_array_to_vector(kept.T.numpy().ravel(), rotation.A)
        rotation.is_trained = True
        hnsw = faiss.IndexHNSWSQ(kept.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
        hnsw.hnsw.efConstruction = CARE
        hnsw.train((sample @ kept).numpy())
        return cls(faiss.IndexIDMap2(faiss.IndexPreTransform(rotation, hnsw)))

    @classmethod
    def load(cls, file: Path) -> "Graph":
        """What `save` wrote."""
        return cls(faiss.read_index(str(file)))

    def save(self, file: Path) -> None:
        """Write the graph in one step."""
        with replacing(file) as partial:
            faiss.write_index(self._index, str(partial))

    def __len__(self) -> int:
        return self._index.ntotal

    def _read_numbers(self) -> None:
        self.numbers = faiss.vector_to_array(self._index.id_map)
        self.shards = set(np.unique(self.numbers // SHARD).tolist())

    def gone(self, shards: list[int]) -> float:
        """The share of the vectors that are of other shards than these."""
        return 1 - np.isin(self.numbers // SHARD, shards).mean()

    def add(self, shard: int, vectors: Tensor) -> None:
        """Add the vectors of all rows of a shard, (rows, vectors, numbers)."""
        rows = shard * SHARD + np.arange(len(vectors))
        self._index.add_with_ids(vectors.flatten(0, 1).numpy(), rows.repeat(vectors.shape[1]))
        self._read_numbers()

    def nearest(self, vectors: np.ndarray, count: int, among: np.ndarray | None = None) -> list[np.ndarray]:
        """Numbers of the nearest videos of each text, at most `count`.

        among: numbers that alone count; then their vectors are all looked at, as a graph does not lead to few of many.
        """
        several = min(SEVERAL * count, len(self))
        if among is None:
            self._hnsw.hnsw.efSearch = several
            _, found = self._index.search(vectors, several)
            found = list(found)
        else:
            places = np.isin(self.numbers, among).nonzero()[0]
            rotated = self._rotated.chain.at(0).apply(vectors)
            chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(places))
            _, found = self._hnsw.storage.search(rotated, min(several, len(places)), params=chosen)
            found = [self.numbers[row[row >= 0]] for row in found]
        return [_distinct(row[row >= 0])[:count] for row in found]


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, in the order in which they come first."""
    _, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first)]


def best(
    head: MatchingHead, texts, parts: dict[int, Part], graph: Graph, k: int, candidates: int, some: bool
) -> list[Hits]:
    """The k best videos of every text among its `candidates` and those that the graph lacks; see `exact_search.best`.

    parts: by the number of the shard. some: whether parts leave out videos that the graph has, as a filter does.
    """
    listed = [number for number in parts if number in graph.shards]
    among = np.concatenate([number * SHARD + parts[number].rows for number in listed]) if some and listed else None
    vectors = text_vectors(head, texts).numpy()
    found = graph.nearest(vectors, candidates, among) if listed else [np.empty(0, int)] * len(vectors)
    return [_scored(head, take(texts, [text]), parts, graph.shards, k, numbers) for text, numbers in enumerate(found)]


def _scored(head: MatchingHead, text, parts: dict[int, Part], shards: set[int], k: int, numbers: np.ndarray) -> Hits:
    hits, numbers, chosen = Hits(k), np.sort(numbers), {}
    for number, part in parts.items():
        if number in shards:
            start, end = np.searchsorted(numbers, [number * SHARD, (number + 1) * SHARD])
            own = numbers[start:end] - number * SHARD
            chosen[number] = own[np.isin(own, part.rows, kind="table")]  # sorting all rows of many shards takes longer
        else:
            hits.score(head, text, parts, {number: part.rows})
    hits.score(head, text, parts, chosen)
    return hits
