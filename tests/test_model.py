"""GLSCL: exact global similarity, pairs that stand alone, padding, half precision, single pairs, its settings."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glscl.base import take
from glscl.model import Videos, global_similarity, local_similarity
from tests.conftest import make_config


def plain_global_similarity(sentence, frames, mask, temperature, pooling):
    """Pair by pair, as the release writes it: softmax, mask after it, pooled vector, cosine."""
    scores = torch.empty(len(sentence), len(frames))
    for i, text in enumerate(sentence.double()):
        for j, video in enumerate(frames.double()):
            weights = (video @ text / temperature).softmax(0) * mask[j] if pooling != "mean" else mask[j].double()
            scores[i, j] = F.cosine_similarity(text, weights @ video, dim=0, eps=1e-300)
    return scores


@settings(deadline=None, max_examples=60)
@given(
    texts=st.integers(1, 4),
    videos=st.integers(1, 4),
    frames=st.integers(1, 6),
    pooling=st.sampled_from(["text_conditioned", "mean"]),
    temperature=st.sampled_from([0.5, 3.0, 50.0]),
    seed=st.integers(0, 10**6),
)
def test_gram_form_equals_the_plain_formula(texts, videos, frames, pooling, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    sentence = torch.randn(texts, 16, generator=generator)
    features = torch.randn(videos, frames, 16, generator=generator)
    mask = torch.arange(frames) < torch.randint(1, frames + 1, (videos, 1), generator=generator)
    videos = Videos(features, mask.long(), features @ features.transpose(1, 2), None)
    found = global_similarity(sentence, videos, 1 / temperature if pooling == "text_conditioned" else 0.0)
    expected = plain_global_similarity(sentence, features, mask, temperature, pooling)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def encode(model, features):
    texts = model.head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    return texts, model.head.encode_videos(features["frames"], features["frame_mask"])


@pytest.mark.parametrize("variant", ["released", "described"])
@torch.no_grad()
def test_a_pair_alone_scores_as_in_the_batch(make_model, features, variant):
    model = make_model(variant=variant)
    full = model.similarity(*encode(model, features))
    apart = [encode(model, {name: value[i : i + 1] for name, value in features.items()}) for i in range(5)]
    alone = torch.cat([torch.cat([model.similarity(text, video) for _, video in apart], 1) for text, _ in apart])
    torch.testing.assert_close(alone, full[:, :5], atol=1e-5, rtol=0)


def test_padding_is_seen_by_the_released_variant_and_not_by_the_described_one(make_model, features):
    changed = dict(features)
    changed["words"] = features["words"].masked_fill(features["word_mask"][..., None] == 0, 5.0)
    changed["frames"] = features["frames"].masked_fill(features["frame_mask"][..., None] == 0, 5.0)
    described, released = make_model(variant="described"), make_model(variant="released")
    torch.testing.assert_close(
        described.similarity(*encode(described, features)), described.similarity(*encode(described, changed))
    )
    moved = (released.similarity(*encode(released, features)) - released.similarity(*encode(released, changed))).abs()
    assert moved.max() > 1e-3


def test_more_padding_changes_nothing_where_it_is_masked(make_model, features):
    model = make_model(variant="described")
    longer = dict(features)
    longer["words"], longer["frames"] = F.pad(features["words"], (0, 0, 0, 3)), F.pad(features["frames"], (0, 0, 0, 2))
    longer["word_mask"], longer["frame_mask"] = (
        F.pad(features["word_mask"], (0, 3)),
        F.pad(features["frame_mask"], (0, 2)),
    )
    torch.testing.assert_close(
        model.similarity(*encode(model, longer)), model.similarity(*encode(model, features)), atol=1e-5, rtol=1e-5
    )


def test_features_encoded_in_half_precision_are_scored_in_float32(make_model, features):
    model = make_model()
    exact = model.similarity(*encode(model, features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        texts, videos = encode(model, features)
        loss = model.loss(texts, take(videos, slice(5)))
    halved = model.similarity(texts, videos)
    assert videos.gram.dtype == halved.dtype == loss["total"].dtype == torch.float32
    torch.testing.assert_close(halved, exact, atol=0.03, rtol=0)
    plain = plain_global_similarity(texts.sentence, videos.frames, videos.mask, model.config.temperature, "text")
    found = global_similarity(texts.sentence, videos, 1 / model.config.temperature)
    torch.testing.assert_close(found, plain, atol=2e-5, rtol=0)


def test_texts_and_videos_of_a_loss_must_pair_up(make_model, features):
    model = make_model()
    with pytest.raises(ValueError, match=r"as many texts as videos.*\(5, 7\)"):
        model.loss(*encode(model, features))


def test_one_pair_has_a_finite_loss_and_gradient(make_model, features):
    model = make_model()
    texts, videos = encode(model, features)
    loss = model.loss(take(texts, slice(1)), take(videos, slice(1)))
    loss["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.head.parameters() if p.grad is not None)


def test_the_global_interaction_has_no_parameter(make_model, features):
    model = make_model(temporal_layers=0)
    texts, videos = encode(model, features)
    scores = global_similarity(texts.sentence, videos, 1 / model.config.temperature)
    assert not scores.requires_grad  # no weight of the head had a part in them


def test_local_similarity_is_a_mean_of_cosines():
    texts, videos = F.normalize(torch.randn(3, 4, 8), dim=-1), F.normalize(torch.randn(2, 4, 8), dim=-1)
    expected = torch.stack([torch.stack([(t * v).sum(-1).mean() for v in videos]) for t in texts])
    torch.testing.assert_close(local_similarity(texts, videos), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("num_queries", 0),
        ("local_weight", -1),
        ("dropout", 1.0),
        ("variant", "releasd"),
        ("global_pooling", "max"),
        ("temporal_layers", -1),
        ("decoder_heads", 5),
        ("consistency_weight", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "3"),
        ("frames", 0),
        ("words", 2),
    ],
)
def test_a_parameter_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        make_config(**{name: value})
