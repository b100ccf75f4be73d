"""Re-ranking by depth: a plain loop, the random order simulated, ties, the gallery's size, and differences."""

import numpy as np
import pytest
import torch

from glscl.evaluation.reranking import ORDERS, rerank_report, rerank_table
from glscl.rivals.cross_encoder import CrossEncoder

RIGHT = torch.tensor([0, 2, 4, 6, 5])


@pytest.fixture
def report(make_model, features):
    """report(first, depths) -> the report of a small head with clear scores, its scores of all pairs."""
    torch.manual_seed(0)
    head = CrossEncoder.from_clip(make_model().clip, temporal_layers=1, adds_cosine=False).head
    torch.nn.init.normal_(head.score[-1].weight)
    texts = head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    videos = head.encode_videos(features["frames"], features["frame_mask"])
    with torch.no_grad():
        scores = head.similarity(texts, videos)
    return lambda first, depths=(2, 4): (rerank_report(head, texts, videos, first, RIGHT, depths), scores)


FIRST = torch.rand(5, 7, generator=torch.Generator().manual_seed(1))


def test_every_order_of_every_depth_against_a_plain_loop(report):
    found, scores = report(FIRST, (1, 2, 4, 7))
    assert list(found) == [1, 2, 4, 7]
    for depth, orders in found.items():
        for i, right in enumerate(RIGHT.tolist()):
            best = sorted(range(7), key=lambda j, i=i: -FIRST[i, j])[:depth]
            assert orders["found"][i] == 100 * (right in best)
            assert orders["first_stage"][i] == 100 * (best[0] == right)
            assert orders["cross_encoder"][i] == 100 * (max(best, key=lambda j, i=i: scores[i, j]) == right)
    assert (found[1]["cross_encoder"] == found[1]["first_stage"]).all()
    assert len({found[depth]["cross_encoder"].mean() for depth in found}) > 1


def test_the_random_order_is_the_mean_of_shuffled_ones(report):
    found, _ = report(FIRST)
    rng = np.random.default_rng(0)
    for depth in (2, 4):
        best = FIRST.topk(depth).indices.numpy()
        drawn = np.mean([100 * (rng.permuted(best, axis=1)[:, 0] == RIGHT.numpy()) for _ in range(4000)], axis=0)
        np.testing.assert_allclose(found[depth]["random"], drawn, atol=3)


def test_equal_scores_share_the_first_place(report):
    found, _ = report(torch.zeros(5, 7), (7, 20, 100))  # depths beyond the gallery are the gallery
    assert list(found) == [7]
    np.testing.assert_allclose(found[7]["first_stage"], 100 / 7)
    np.testing.assert_allclose(found[7]["random"], 100 / 7)
    assert (found[7]["found"] == 100).all()


def test_the_table_has_means_over_seeds_and_differences(report):
    one, other = (report(first)[0] for first in (FIRST, FIRST.flip(1)))
    table = rerank_table([one, other], np.arange(5))
    for depth in (2, 4):
        for name in ("found", *ORDERS):
            assert table[depth][name] == pytest.approx((one[depth][name].mean() + other[depth][name].mean()) / 2)
        for name, against in (("over_first", "first_stage"), ("over_random", "random")):
            difference = table[depth]["cross_encoder"] - table[depth][against]
            assert table[depth][name]["difference"] == pytest.approx(difference)
            assert table[depth][name]["low"] <= difference <= table[depth][name]["high"]
