"""X-Pool: the pooled vector of the release, the exact form that never pools a pair, and dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glscl.methods import METHODS
from tests.rivals.formulas import encode, pooled_video, score_table


@pytest.fixture
def head(make_head):
    """A head that compares the frames as CLIP made them, its weights far from the identities that it starts from."""
    return make_head("x_pool", spread=0.2, temporal_layers=0)


def test_scores_follow_the_formula_also_with_absent_frames_and_with_one(head, features):
    expected = score_table(
        head,
        features,
        lambda head, pair: F.cosine_similarity(
            pair.sentence, pooled_video(head.pooling, pair.sentence, pair.frames), dim=0
        ),
    )
    assert expected.std() > 0.05
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-5, rtol=0)


def test_it_starts_from_identities(make_model, features):
    head = METHODS["x_pool"].from_clip(make_model().clip, temporal_layers=0).head
    units = F.layer_norm(features["frames"][1, 0], (32,))  # of a single frame the attention returns just that
    expected = F.cosine_similarity(features["sentence"], units, dim=-1)
    torch.testing.assert_close(head.similarity(*encode(head, features))[:, 1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.01])  # with vectors that small, the eps of LayerNorm counts
def test_the_exact_and_the_plain_form_agree_in_scores_and_gradients(make_head, features, scale):
    head = make_head("x_pool", spread=0.2, temporal_layers=0, pooling_dropout=0.0)
    with torch.no_grad():
        for layer in (head.pooling.out, head.pooling.norm_attended):
            layer.weight *= scale
            layer.bias *= scale
    weights = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    results = []
    for score in (head.similarity, head.plain_similarity, lambda *kept: head.train().similarity(*kept)):
        head.zero_grad()
        scores = score(*encode(head, features))
        (scores * weights).sum().backward()
        results.append([scores] + [parameter.grad for parameter in head.pooling.parameters()])
    for other in results[1:]:
        for exact, plain in zip(results[0], other, strict=True):
            torch.testing.assert_close(exact, plain, atol=1e-5, rtol=1e-4)


def test_identical_frames_score_like_one(head, features):
    still = features | {"frames": features["frames"][:, :1].expand(-1, 6, -1)}
    single = features | {"frames": features["frames"][:, :1], "frame_mask": features["frame_mask"][:, :1]}
    scores = [head.similarity(*encode(head, given)) for given in (still, single)]
    torch.testing.assert_close(*scores, atol=1e-5, rtol=0)


def test_dropout_acts_while_training_on_three_tenths_and_keeps_the_mean(head, features):
    texts, videos = encode(head, features)
    head.pooling.norm_pooled = nn.Identity()
    with torch.no_grad():
        plain = head.pooling(texts.query, videos)
        torch.testing.assert_close(plain, head.pooling(texts.query, videos), atol=0, rtol=0)
        weights = head.pooling.weights(texts.query, videos).transpose(1, 2)
        attended = head.pooling.norm_attended(weights @ videos.values)
        head.train()
        draws = torch.stack([head.pooling(texts.query, videos) for _ in range(400)])
    assert ((draws - attended).abs() < 1e-6).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert (draws.mean(0) - plain).abs().mean() < 0.05 * (plain - attended).abs().mean()
