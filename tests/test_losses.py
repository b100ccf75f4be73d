"""Losses: plain loops as oracles, closed forms, minima, and the difference between the two variants."""

import math

import pytest
import torch
import torch.nn.functional as F

from glscl.losses import contrastive_loss, inter_consistency_loss, intra_diversity_loss


def concepts(items=6, count=4, width=8, seed=0):
    return F.normalize(torch.randn(items, count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def at_cosine(cosine, items, count):
    """Text and video concepts whose matching cosine is `cosine` everywhere."""
    texts = torch.zeros(items, count, 2)
    texts[..., 0] = 1
    videos = torch.tensor([cosine, math.sqrt(1 - cosine**2)]).expand(items, count, 2)
    return texts, videos


def test_contrastive_loss_against_a_plain_loop():
    similarity, scale = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor(1.5)
    logits = scale.exp() * similarity
    expected = 0.0
    for i in range(5):
        expected -= torch.log(logits[i, i].exp() / logits[i].exp().sum()) / 10
        expected -= torch.log(logits[i, i].exp() / logits[:, i].exp().sum()) / 10
    torch.testing.assert_close(contrastive_loss(similarity, scale), expected)


def test_contrastive_loss_of_equal_scores_is_the_logarithm_of_the_batch():
    assert contrastive_loss(torch.zeros(7, 7), torch.tensor(2.0)).item() == pytest.approx(math.log(7))


def test_logit_scale_is_held_to_100():
    similarity = torch.randn(4, 4)
    assert contrastive_loss(similarity, torch.tensor(9.0)) == contrastive_loss(similarity, torch.tensor(math.log(100)))


def plain_consistency(texts, videos, divisor, moment_weight, weight):
    pairs, count, width = texts.shape
    moments = sum((texts[:, k, d].mean() - videos[:, k, d].mean()) ** 2 for k in range(count) for d in range(width)) / (
        count * width
    )
    squares = 0
    for k in range(count):
        total = sum(texts[b, k] @ videos[b, k] for b in range(pairs))
        squares += (total / divisor - 0.75) ** 2
    return moment_weight * moments + weight * squares


@pytest.mark.parametrize(("variant", "divisor"), [("released", 4), ("described", 6)])
def test_consistency_against_a_plain_loop(variant, divisor):
    texts, videos = concepts(seed=0), concepts(seed=1)
    found = inter_consistency_loss(texts, videos, variant, 0.7, 0.3)
    torch.testing.assert_close(found, plain_consistency(texts, videos, divisor, 0.7, 0.3))


@pytest.mark.parametrize(
    ("variant", "pairs", "count", "minimum"),
    [("released", 128, 8, 0.046875), ("released", 32, 8, 0.1875), ("described", 128, 8, 0.75)],
)
def test_where_consistency_is_least(variant, pairs, count, minimum):
    grid = torch.linspace(0, 1, 641).tolist()
    values = [inter_consistency_loss(*at_cosine(c, pairs, count), variant, 0.0, 1.0).item() for c in grid]
    assert grid[values.index(min(values))] == pytest.approx(minimum, abs=1e-3)


def test_the_released_target_depends_on_the_batch_and_the_described_one_does_not():
    small, large = (at_cosine(0.5, pairs, 8) for pairs in (16, 64))
    released = [inter_consistency_loss(*x, "released", 0.0, 1.0) for x in (small, large)]
    described = [inter_consistency_loss(*x, "described", 0.0, 1.0) for x in (small, large)]
    assert abs(released[0] - released[1]) > 1
    torch.testing.assert_close(*described)


def plain_diversity(videos):
    pairs, count, _ = videos.shape
    total = 0.0
    for k in range(count):
        for m in range(count):
            if k != m:
                cosine = sum(videos[b, k] @ videos[b, m] for b in range(pairs)) / pairs
                total += max(0.0, 0.1 + cosine.item() - 1)
    return 2 * total / (count * (count - 1))


def near(base, spread, seed):
    return F.normalize(base + spread * concepts(seed=seed), dim=-1)


def test_diversity_against_a_plain_loop():
    base = concepts(1, 1)
    texts, videos = near(base, 0.2, 1), near(base, 0.3, 2)
    assert plain_diversity(videos) > 0.01
    assert intra_diversity_loss(texts, videos, "released").item() == pytest.approx(plain_diversity(videos), abs=1e-6)
    both = plain_diversity(videos) + plain_diversity(texts)
    assert intra_diversity_loss(texts, videos, "described").item() == pytest.approx(both, abs=1e-6)


def test_diversity_is_zero_up_to_a_cosine_of_nine_tenths_and_two_tenths_at_one():
    def pair_at(cosine):
        vectors = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
        return intra_diversity_loss(vectors[None], vectors[None], "released").item()

    assert pair_at(0.89) == 0
    assert pair_at(0.91) == pytest.approx(0.02, abs=1e-6)
    assert pair_at(1.0) == pytest.approx(0.2, abs=1e-6)


def test_one_concept_has_nothing_to_differ_from():
    assert intra_diversity_loss(concepts(count=1), concepts(count=1), "described") == 0
