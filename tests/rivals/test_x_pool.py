"""X-Pool: the pooled vector of the release, the exact form that never pools a pair, dropout, and released weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glscl.methods import METHODS
from tests.released import reference
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


def filled(features, count):
    """The videos with `count` frames, all real: their last real frame again where one was absent."""
    videos = []
    for frames, real in zip(features["frames"], features["frame_mask"].bool(), strict=True):
        own = frames[real]
        videos.append(torch.cat([own, own[-1:].expand(count - len(own), -1)]))
    return features | {"frames": torch.stack(videos), "frame_mask": torch.ones(len(videos), count).long()}


@torch.no_grad()
@pytest.mark.parametrize("method", ["x_pool", "t_mass"])
def test_as_released_a_short_clip_repeats_its_last_frame(make_head, features, method):
    masked, released = (make_head(method, spread=0.2, padding=padding) for padding in ("masked", "released"))
    released.load_state_dict(masked.state_dict())
    expected = masked.similarity(*encode(masked, filled(features, 8)))
    torch.testing.assert_close(released.similarity(*encode(released, features)), expected, atol=1e-5, rtol=0)
    assert (masked.similarity(*encode(masked, features)) - expected).abs().max() > 0.01


@pytest.mark.parametrize(
    ("method", "change", "settings", "message"),
    [
        ("x_pool", {}, {"temporal_layers": 2}, "temporal_layers is 0 in the weights, got 2; leave the setting out"),
        ("t_mass", {}, {"frames": 12}, "frames is 4 in the weights, got 12; leave the setting out"),
        ("x_pool", {"pool_frames.linear_proj.bias": None}, {}, "head.pooling.linear.bias"),
        ("x_pool", {"stochastic.std_branch.linear_proj.bias": torch.zeros(64)}, {}, "stochastic.std_branch"),
        ("t_mass", {"stochastic.std_branch.linear_proj.weight": None}, {}, "linear_proj.weight, which is missing here"),
    ],
)
def test_released_weights_that_contradict_a_setting_or_are_incomplete_are_refused(method, change, settings, message):
    weights = reference.weights(reference.about(method)["shapes"]) | change
    weights = {name: value for name, value in weights.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        METHODS[method].from_released(weights, **settings)


@pytest.mark.parametrize(("method", "frames"), [("x_pool", 12), ("t_mass", 4)])
def test_released_weights_tell_the_sizes(method, frames):
    config = METHODS[method].from_released(reference.weights(reference.about(method)["shapes"])).config
    assert (config.width, config.frames, config.temporal_layers, config.padding) == (64, frames, 0, "released")
