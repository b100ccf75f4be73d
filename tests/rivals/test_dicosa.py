"""DiCoSA: cosines of channel groups, weighted by a network, and the two regularisers of their correlation."""

import pytest
import torch

from glscl.rivals.dicosa import DiCoSAConfig
from tests.rivals.formulas import encode, linear, pairs, score_table, unit


def pooled(pair, temperature=3):
    return (pair.context @ pair.sentence / temperature).softmax(0) @ pair.context


def concept_score(head, sentence, video):
    score = 0
    for text, part in zip(*(x.chunk(head.config.num_concepts) for x in (sentence, video)), strict=True):
        weight = linear(head.score, linear(head.hidden, torch.cat([text, part])).relu())
        score += weight[0] * (unit(text) @ unit(part))
    return score


def plain_score(head, pair):
    return concept_score(head, pair.sentence, pooled(pair, head.config.temperature))


@pytest.mark.parametrize("settings", [{}, {"num_concepts": 4, "temperature": 5.0}], ids=["defaults", "others"])
def test_scores_follow_the_formula(make_head, features, settings):
    head = make_head("dicosa", **settings)
    expected = score_table(head, features, plain_score)
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_released_padding_shrinks_the_pooled_video_by_the_share_of_absent_frames(make_head, features):
    head = make_head("dicosa", padding="released")
    context = head.temporal(features["frames"], features["frame_mask"]).double()
    expected = torch.empty(5, 7)
    for i, sentence in enumerate(features["sentence"].double()):
        for j, frames in enumerate(context):
            exponentials = [(frame @ sentence / 3).exp() for frame in frames]
            real = [e * m for e, m in zip(exponentials, features["frame_mask"][j], strict=True)]
            video = sum(e * frame for e, frame in zip(real, frames, strict=True)) / sum(exponentials)
            expected[i, j] = concept_score(head, sentence, video)
    actual = head.similarity(*encode(head, features))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    masked = make_head("dicosa")
    assert (actual - masked.similarity(*encode(masked, features))).abs().max() > 0.01


def released_regularisers(head, features):
    """Standardised channels multiplied, summed and divided by the number of words, weights 0.01 and 0.005."""
    products = torch.zeros(8, 8, dtype=torch.float64)
    for (i, j), pair in pairs(head, features).items():
        if i == j:
            text, video = pair.sentence.view(8, 4), pooled(pair).view(8, 4)
            text, video = ((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) for x in (text, video))
            products += text @ video.T / 9 / 5
    diagonal = torch.eye(8) > 0
    return 0.01 * (products[diagonal] - 1).square().sum(), 0.005 * products[~diagonal].square().sum()


@pytest.mark.parametrize("factor", [1, 3])
def test_regularisers_divided_by_words_and_weighted(make_head, features, factor):
    weights = {"matched_weight": factor * 0.01, "unmatched_weight": factor * 0.005}
    head = make_head("dicosa", padding="released", correlation_divisor="words", words=9, **weights)
    terms = head.loss(*encode(head, features, 5))
    matched, unmatched = released_regularisers(head, features)
    torch.testing.assert_close(terms["matched_concepts"].double(), factor * matched, atol=0, rtol=1e-4)
    torch.testing.assert_close(terms["unmatched_concepts"].double(), factor * unmatched, atol=0, rtol=1e-4)


def test_regularisers_follow_their_formula(make_head, features):
    head = make_head("dicosa")
    correlation = torch.zeros(8, 8)
    for (i, j), pair in pairs(head, features).items():
        if i == j:
            rows = torch.cat([pair.sentence.view(8, 4), pooled(pair).view(8, 4)])
            correlation += torch.corrcoef(rows)[:8, 8:].float() / 5
    diagonal = torch.eye(8) > 0
    terms = head.loss(*encode(head, features, 5))
    expected = 0.01 * (correlation[diagonal] - 1).square().sum()
    torch.testing.assert_close(terms["matched_concepts"], expected, atol=0, rtol=1e-4)
    expected = 0.005 * correlation[~diagonal].square().sum()
    torch.testing.assert_close(terms["unmatched_concepts"], expected, atol=0, rtol=1e-4)


def test_a_width_that_cannot_be_split_is_refused(make_head):
    clip = make_head("dicosa").config.clip_config.to_dict() | {"projection_dim": 36}
    with pytest.raises(ValueError, match="8 concepts of at least 2 channels, got 36"):
        DiCoSAConfig(clip_config=clip)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"matched_weight": -1}, "matched_weight must be a number of at least 0, got -1"),
        ({"num_concepts": 0}, "num_concepts must be a number of at least 1, got 0"),
        ({"correlation_divisor": "tokens"}, "correlation_divisor must be one of channels, words, got 'tokens'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DiCoSAConfig(**settings)
