"""GLCCL: frames pooled by the sentence and by every word, four scores, and the loss that makes them agree."""

import pytest
import torch

from glscl import scoring
from glscl.rivals.glccl import consistency_loss
from tests.rivals.formulas import attend, attend_both, encode, score_table, unit


def plain_scores(head, pair):
    """The four scores of a pair."""

    def pool(vector):
        return unit((pair.context @ vector / 5).softmax(0) @ pair.context)

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


def test_scores_follow_the_formula_at_once_and_in_parts(make_head, features, monkeypatch):
    head = make_head("glccl")
    texts, videos = encode(head, features)
    expected = score_table(head, features, lambda head, pair: plain_scores(head, pair).mean())
    torch.testing.assert_close(head.similarity(texts, videos), expected, atol=1e-5, rtol=0)
    whole = head.scores(texts, videos)
    monkeypatch.setitem(scoring.NUMBERS, "cpu", 2 * 9 * 9 * 5)
    torch.testing.assert_close(head.scores(texts, videos), whole, atol=1e-6, rtol=0)


def test_consistency_follows_its_formula(make_head, features):
    head = make_head("glccl")
    five = {name: value[:5] for name, value in features.items()}
    spread = score_table(head, five, lambda head, pair: plain_scores(head, pair).var())
    diagonal = torch.eye(5) > 0
    expected = 0.5 * (spread[diagonal].sum() / 5) / (spread[~diagonal].sum() / 25)
    torch.testing.assert_close(head.loss(*encode(head, features, 5))["consistency"], expected, atol=0, rtol=1e-4)


def test_consistency_is_small_where_matching_scores_agree():
    scores = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0))
    loss = consistency_loss(scores)
    torch.testing.assert_close(consistency_loss(100 * scores), loss)
    agreeing = torch.where(torch.eye(3) > 0, scores[:1], scores)
    assert consistency_loss(agreeing) < 1e-6 < loss
    with pytest.raises(ValueError, match="got 1 pair"):
        consistency_loss(scores[:, :1, :1])


def test_more_words_than_the_matrices_have_are_refused(make_head, features):
    head = make_head("glccl")
    longer = {"words": features["words"].repeat(1, 2, 1), "word_mask": features["word_mask"].repeat(1, 2)}
    with pytest.raises(ValueError, match="at most 11 words or frames"):
        head.similarity(*encode(head, features | longer))
