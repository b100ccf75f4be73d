"""Losses: plain loops as oracles, closed forms, minima, and the difference between the two variants."""

import math

import pytest
import torch
import torch.nn.functional as F

from glscl.base import RECENT_BATCHES
from glscl.losses import contrastive_loss, inter_consistency_loss, intra_diversity_loss, sinkhorn_biases
from glscl.methods import METHODS, settings_of


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


def logits_of(texts, videos, spread=3.0):
    return spread * torch.randn(texts, videos, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plain_biases(logits, iterations):
    """Sinkhorn-Knopp on exp(logits): rows sum to 1 / texts, then columns to 1 / videos."""
    weights = logits.double().exp()
    texts, videos = weights.shape
    of_videos = torch.ones(videos, dtype=torch.float64)
    for _ in range(iterations):
        of_texts = torch.stack([1 / (texts * sum(weights[i] * of_videos)) for i in range(texts)])
        of_videos = torch.stack([1 / (videos * sum(weights[:, j] * of_texts)) for j in range(videos)])
    return of_texts.log(), of_videos.log()


@pytest.mark.parametrize(("shape", "iterations"), [((5, 5), 4), ((3, 8), 1), ((9, 4), 7)])
def test_sinkhorn_against_a_plain_normalisation(shape, iterations):
    logits = logits_of(*shape)
    torch.testing.assert_close(sinkhorn_biases(logits, iterations), plain_biases(logits, iterations))
    single = sinkhorn_biases(logits.float(), iterations)
    torch.testing.assert_close(single, plain_biases(logits, iterations), atol=1e-4, rtol=0, check_dtype=False)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 3)])
def test_sinkhorn_converges_to_equal_sums_of_rows_and_of_columns(shape):
    logits = logits_of(*shape)
    text_bias, video_bias = sinkhorn_biases(logits, 500)
    weights = (logits + text_bias[:, None] + video_bias).exp()
    torch.testing.assert_close(weights.sum(1), torch.full_like(text_bias, 1 / shape[0]))
    torch.testing.assert_close(weights.sum(0), torch.full_like(video_bias, 1 / shape[1]))
    retrieved = (logits + video_bias).softmax(1).sum(0)
    torch.testing.assert_close(retrieved, torch.full_like(retrieved, shape[0] / shape[1]))


@pytest.mark.parametrize("tolerance", [0.3, 0.01, 1e-6])
def test_sinkhorn_ends_at_its_tolerance(tolerance):
    logits = logits_of(6, 9)
    _, video_bias = sinkhorn_biases(logits, 10**6, tolerance)
    due = (logits + video_bias).softmax(1).sum(0) * 9 / 6
    assert (due - 1).abs().max() <= 1.01 * tolerance
    needed = next(n for n in range(2, 500) if torch.equal(sinkhorn_biases(logits, n)[1], video_bias))
    one, before = (sinkhorn_biases(logits, needed - back)[0] for back in (0, 1))
    assert (one - before).abs().max() <= tolerance
    assert needed == 2 or (before - sinkhorn_biases(logits, needed - 2)[0]).abs().max() > tolerance


def test_sinkhorn_ends_with_equal_columns_after_any_number_of_iterations():
    logits = logits_of(6, 6)
    text_bias, video_bias = sinkhorn_biases(logits, 1)
    weights = (logits + text_bias[:, None] + video_bias).exp()
    torch.testing.assert_close(weights.sum(0), torch.full_like(video_bias, 1 / 6))
    assert (weights.sum(1) - 1 / 6).abs().max() > 1e-3


def test_a_constant_added_to_all_logits_moves_no_video():
    logits = logits_of(5, 7)
    text_bias, video_bias = sinkhorn_biases(logits)
    shifted = sinkhorn_biases(logits + 40)
    torch.testing.assert_close(shifted, (text_bias - 40, video_bias))


def test_a_constant_added_to_one_video_is_taken_from_its_bias():
    logits = logits_of(5, 7)
    hub = logits.clone()
    hub[:, 2] += 9
    found, before = (sinkhorn_biases(given, 500)[1] for given in (hub, logits))
    moved = (found - before) - (found - before)[0]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0, -9, 0, 0, 0, 0], dtype=torch.float64))


def test_sinkhorn_does_not_overflow():
    assert all(torch.isfinite(bias).all() for bias in sinkhorn_biases(logits_of(6, 6, 1e4).float()))


def make_head(clip, method, contrastive="ncl"):
    torch.manual_seed(0)
    small = {"temporal_layers": 0, "decoder_layers": 1, "decoder_heads": 4, "num_queries": 3}
    return METHODS[method].from_clip(clip, **settings_of(method, small | {"contrastive": contrastive})).head.eval()


def batch(head, seed, pairs=4):
    """Embeddings of a few random texts and videos."""
    generator = torch.Generator().manual_seed(seed)
    sentence, words, frames = (2 * torch.randn(pairs, *s, 32, generator=generator) for s in ((), (5,), (6,)))
    texts = head.encode_texts(sentence, words, torch.ones(pairs, 5))
    return texts, head.encode_videos(frames, torch.ones(pairs, 6))


def plain_ncl(head, batches):
    """The loss of the first batch; each bias from the queries of all batches against the items of the first."""
    texts, videos = (type(side[0])(*map(torch.cat, zip(*side, strict=True))) for side in zip(*batches, strict=True))
    scale, (own_texts, own_videos) = head.logit_scale.exp(), batches[0]
    text_bias, _ = plain_biases((scale * head.similarity(own_texts, videos)).double().detach(), 4)
    _, video_bias = plain_biases((scale * head.similarity(texts, own_videos)).double().detach(), 4)
    logits = (scale * head.similarity(own_texts, own_videos)).double().detach()
    pairs, loss = len(logits), 0.0
    for i in range(pairs):
        to_videos = [(logits[i, j] + video_bias[j]).exp() for j in range(pairs)]
        to_texts = [(logits[j, i] + text_bias[j]).exp() for j in range(pairs)]
        loss -= (to_videos[i] / sum(to_videos)).log() + (to_texts[i] / sum(to_texts)).log()
    return loss.item() / (2 * pairs)


def ncl(head, texts, videos):
    return head.contrastive(texts, videos, head.similarity(texts, videos))


@pytest.mark.parametrize("method", ["mean_pooling", "glscl"])
def test_the_normalised_loss_of_a_first_batch_against_a_plain_loop(make_model, method):
    head = make_head(make_model().clip, method)
    first = batch(head, 1)
    found = ncl(head, *first).item()
    assert found == pytest.approx(plain_ncl(head, [first]), abs=1e-5)
    assert abs(found - contrastive_loss(head.similarity(*first), head.logit_scale).item()) > 1e-3


@pytest.mark.parametrize("method", ["mean_pooling", "glscl"])
def test_the_normalised_loss_uses_the_recent_batches_and_forgets_older_ones(make_model, method):
    head = make_head(make_model().clip, method).train()
    batches = [batch(head, seed, pairs) for seed, pairs in enumerate((4, 5, 3, 6))]
    for number, present in enumerate(batches):
        window = batches[max(0, number - RECENT_BATCHES) : number + 1][::-1]
        found = ncl(head, *present).item()
        assert found == pytest.approx(plain_ncl(head, window), abs=1e-5)
        if number:
            assert abs(found - plain_ncl(head, [present])) > 1e-4


def test_a_new_epoch_starts_without_recent_batches(make_model):
    head = make_head(make_model().clip, "mean_pooling").train()
    first, second = batch(head, 1), batch(head, 2)
    fresh = plain_ncl(head, [second])
    ncl(head, *first)
    assert abs(ncl(head, *second).item() - fresh) > 1e-4
    head.train()
    assert ncl(head, *second).item() == pytest.approx(fresh, abs=1e-5)


def test_evaluation_remembers_no_batch(make_model):
    head = make_head(make_model().clip, "mean_pooling")
    first, second = batch(head, 1), batch(head, 2)
    fresh = ncl(head, *second)
    ncl(head, *first)
    assert ncl(head, *second) == fresh
    assert head.recent == []


def test_gradients_of_the_normalised_loss_take_the_biases_as_constants(make_model):
    head = make_head(make_model().clip, "mean_pooling").train()
    ncl(head, *batch(head, 1))
    texts, videos = (type(side)(*(t.detach().requires_grad_() for t in side)) for side in batch(head, 2))
    similarity = head.similarity(texts, videos).detach().requires_grad_()
    head.contrastive(texts, videos, similarity).backward()
    assert texts.sentence.grad is None
    assert videos.video.grad is None
    scale = head.logit_scale.exp().item()
    around = [torch.cat([part[0] for part in side]) for side in zip((texts, videos), batch(head, 1), strict=True)]
    text_bias, _ = plain_biases(scale * (texts.sentence @ around[1].T).detach(), 4)
    _, video_bias = plain_biases(scale * (around[0] @ videos.video.T).detach(), 4)
    logits = scale * similarity.detach().double()
    errors = (logits + video_bias).softmax(1) + (logits + text_bias[:, None]).softmax(0) - 2 * torch.eye(4)
    expected = (scale * errors / 8).float()
    torch.testing.assert_close(similarity.grad, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.logit_scale.grad, (expected * similarity.detach()).sum(), atol=1e-4, rtol=1e-4)
    assert not any(t.requires_grad for pair in head.recent for side in pair for t in side)


def test_the_normalised_loss_reaches_texts_and_videos_through_the_scores(make_model):
    head = make_head(make_model().clip, "mean_pooling")
    texts, videos = (type(side)(*(t.detach().requires_grad_() for t in side)) for side in batch(head, 1))
    head.loss(texts, videos)["total"].backward()
    assert texts.sentence.grad.abs().sum() > 0
    assert videos.video.grad.abs().sum() > 0


@pytest.mark.parametrize("method", [name for name in METHODS if name != "cross_encoder"])  # it scores a few pairs only
def test_every_method_has_the_normalised_loss(make_model, method):
    clip, totals = make_model().clip, []
    for contrastive in ("infonce", "ncl"):
        head = make_head(clip, method, contrastive)
        given = batch(head, 1)
        torch.manual_seed(0)
        totals.append(head.loss(*given)["total"].item())
    assert math.isfinite(totals[1])
    assert abs(totals[0] - totals[1]) > 1e-4
