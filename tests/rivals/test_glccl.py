"""GLCCL: frames pooled by the sentence and by every word, four scores, and the loss that makes them agree."""

import pytest
import torch

from glscl import scoring
from glscl.rivals.glccl import GLCCL, GLCCLConfig, consistency_loss
from tests.released import reference
from tests.rivals.formulas import attend, attend_both, encode, score_table, unit


def plain_scores(head, pair):
    """The four scores of a pair."""

    def pool(vector):
        return unit((pair.context @ vector / head.config.pooling_temperature).softmax(0) @ pair.context)

    video, conditioned = pool(pair.sentence), torch.stack([pool(word) for word in pair.words])
    sentence, words = unit(pair.sentence), unit(pair.words)
    return torch.stack(
        [
            sentence @ head.sentence_video.double() @ video,
            attend(head.over_words, words @ video),
            attend(head.over_frames, conditioned @ sentence),
            attend_both(head, words @ head.word_frame.double() @ conditioned.T),
        ]
    )


@pytest.mark.parametrize("temperature", [5.0, 0.5])
def test_scores_follow_the_formula_at_once_and_in_parts(make_head, features, monkeypatch, temperature):
    head = make_head("glccl", pooling_temperature=temperature)
    texts, videos = encode(head, features)
    expected = score_table(head, features, lambda head, pair: plain_scores(head, pair).mean())
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)
    whole = head.scores(texts, videos)
    monkeypatch.setitem(scoring.NUMBERS, "cpu", 2 * 9 * 9 * 5)
    torch.testing.assert_close(head.scores(texts, videos), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_consistency_follows_its_formula(make_head, features, weight):
    head = make_head("glccl", score_consistency_weight=weight)
    five = {name: value[:5] for name, value in features.items()}
    spread = score_table(head, five, lambda head, pair: plain_scores(head, pair).var())
    diagonal = torch.eye(5) > 0
    expected = weight * (spread[diagonal].sum() / 5) / (spread[~diagonal].sum() / 25)
    torch.testing.assert_close(head.loss(*encode(head, features, 5))["consistency"], expected, atol=0, rtol=1e-4)


def test_consistency_is_small_where_matching_scores_agree():
    scores = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0))
    loss = consistency_loss(scores)
    torch.testing.assert_close(consistency_loss(100 * scores), loss)
    agreeing = torch.where(torch.eye(3) > 0, scores[:1], scores)
    assert consistency_loss(agreeing) < 1e-6 < loss
    with pytest.raises(ValueError, match="got 1 pair"):
        consistency_loss(scores[:, :1, :1])


def test_with_released_padding_absent_words_and_frames_count_like_real_ones(make_head, features):
    masked, released = (make_head("glccl", temporal_layers=0, padding=padding) for padding in ("masked", "released"))
    all_real = features | {name: torch.ones_like(features[name]) for name in ("word_mask", "frame_mask")}
    scores = released.similarity(*encode(released, features))
    torch.testing.assert_close(scores, masked.similarity(*encode(masked, all_real)))
    assert (scores - masked.similarity(*encode(masked, features))).abs().max() > 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_temperature": 0}, "pooling_temperature must be above 0, got 0"),
        ({"pooling_temperature": -1}, "pooling_temperature must be a number of at least 0, got -1"),
        ({"score_consistency_weight": -1}, "score_consistency_weight must be a number of at least 0, got -1"),
        ({"padding": "none"}, "padding must be one of masked, released, got 'none'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GLCCLConfig(**settings)


def test_released_weights_tell_the_number_of_words():
    weights = reference.weights(reference.about("glccl")["shapes"])
    config = GLCCL.from_released(weights).config
    assert (config.words, config.temporal_layers, config.padding) == (8, 1, "released")
    with pytest.raises(ValueError, match="words is 8 in the weights, got 32; leave the setting out"):
        GLCCL.from_released(weights, words=32)


def test_more_words_than_the_matrices_have_are_refused(make_head, features):
    head = make_head("glccl")
    longer = {"words": features["words"].repeat(1, 2, 1), "word_mask": features["word_mask"].repeat(1, 2)}
    with pytest.raises(ValueError, match="at most 11 words or frames"):
        head.similarity(*encode(head, features | longer))
