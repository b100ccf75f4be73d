"""Search by candidates: scores are the head's own, what is found is nearly what exact search finds."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from glscl.approximate_search import SHARD, Graph, best
from glscl.base import take
from glscl.exact_search import Part
from glscl.first_stage import video_vectors
from glscl.model import GLSCLHead, Texts, Videos
from glscl.scoring import similarity_matrix
from tests.conftest import make_config

TEXTS, SHARDS, ROWS, WIDTH = 20, 3, 1000, 32


@pytest.fixture(scope="module")
def gallery():
    """A GLSCL head, texts, and videos of frames that agree more or less; a graph of all three shards."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    count = SHARDS * ROWS
    frames = 8 * normalize(draw(count, 1, WIDTH) + 0.7 * draw(count, 6, WIDTH), dim=-1)
    concepts = normalize(draw(1, 4, WIDTH) + 0.05 * draw(count, 4, WIDTH), dim=-1)
    videos = Videos(frames, torch.ones(count, 6), frames @ frames.transpose(1, 2), concepts)
    texts = Texts(9 * normalize(frames[:TEXTS, 0] + 8 * draw(TEXTS, WIDTH), dim=-1), concepts[:TEXTS])
    head = GLSCLHead(make_config(temperature=3.0)).eval()
    vectors = video_vectors(head, videos).split(ROWS)
    graph = Graph.trained(vectors[0].flatten(0, 1))
    for shard, own in enumerate(vectors):
        graph.add(shard + 7, own)
    return head, texts, videos, graph


def parts_of(videos, rows=None):
    """The shards 7, 8 and 9, each with these rows or all of them."""
    rows = np.arange(ROWS) if rows is None else rows
    shards = {number + 7: take(videos, slice(number * ROWS, (number + 1) * ROWS)) for number in range(SHARDS)}
    return {number: Part(rows, lambda some, own=own: take(own, some), None) for number, own in shards.items()}


def found_by(hits):
    return [[(number - 7) * ROWS + row for (number, row), _ in one.sorted()] for one in hits]


def test_few_candidates_find_nearly_what_all_scores_find(gallery):
    head, texts, videos, graph = gallery
    scores = similarity_matrix(head, texts, videos)
    hits = best(head, texts, parts_of(videos), graph, 10, 300, some=False)
    expected = scores.topk(10).indices.tolist()
    kept = [len(set(one) & set(other)) for one, other in zip(found_by(hits), expected, strict=True)]
    assert np.mean(kept) > 9
    assert max(one.scored for one in hits) <= 300
    for text, one in enumerate(hits):
        rows = found_by([one])[0]
        assert [score for _, score in one.sorted()] == pytest.approx(scores[text, rows].tolist(), abs=1e-5)


def test_a_filter_gives_as_many_candidates_of_what_passes(gallery):
    head, texts, videos, graph = gallery
    rows = np.arange(0, ROWS, 50)
    hits = best(head, texts, parts_of(videos, rows), graph, 5, 10, some=True)
    assert all(number % ROWS % 50 == 0 for one in found_by(hits) for number in one)
    assert all(len(one) == 5 for one in found_by(hits))


def test_shards_that_the_graph_lacks_are_scored_whole(gallery):
    head, texts, videos, _ = gallery
    few = Graph.trained(video_vectors(head, take(videos, slice(0, ROWS))).flatten(0, 1))
    hits = best(head, texts, parts_of(videos), few, 10, 5, some=False)
    assert found_by(hits) == similarity_matrix(head, texts, videos).topk(10).indices.tolist()
    assert {one.scored for one in hits} == {SHARDS * ROWS}


def test_a_graph_is_read_as_it_was_written(gallery, tmp_path):
    head, _, videos, graph = gallery
    graph.save(tmp_path / "graph.faiss")
    again = Graph.load(tmp_path / "graph.faiss")
    assert [file.name for file in tmp_path.iterdir()] == ["graph.faiss"]
    assert again.shards == graph.shards == {7, 8, 9}
    asked = video_vectors(head, take(videos, slice(ROWS, ROWS + 5)))[:, 0].numpy()
    for one, other in zip(again.nearest(asked, 50), graph.nearest(asked, 50), strict=True):
        assert one.tolist() == other.tolist()
        assert len(set(one.tolist())) == len(one)
    assert {numbers[0] // SHARD for numbers in again.nearest(asked, 50)} == {8}
    assert again.gone([7, 8]) == pytest.approx(1 / 3)
