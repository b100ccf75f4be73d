"""DiCoSA: cosines of channel groups, weighted by a network, and the two regularisers of their correlation."""

import pytest
import torch
import torch.nn.functional as F

from glscl.rivals.dicosa import DiCoSAConfig
from tests.rivals.formulas import encode, linear, pairs, score_table


def pooled(pair):
    return (pair.context @ pair.sentence / 3).softmax(0) @ pair.context


def plain_score(head, pair):
    score = 0
    for text, video in zip(pair.sentence.chunk(8), pooled(pair).chunk(8), strict=True):
        weight = linear(head.score, linear(head.hidden, torch.cat([text, video])).relu())
        score += weight[0] * F.cosine_similarity(text, video, dim=0)
    return score


def test_scores_follow_the_formula(make_head, features):
    head = make_head("dicosa")
    expected = score_table(head, features, plain_score)
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-5, rtol=0)


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
