"""DRL: the weighted best partner of every word and frame, and the correlation of the channels."""

import torch

from tests.rivals.formulas import encode, linear, pairs, score_table, unit


def weights(net, tokens):
    return linear(net[2], linear(net[0], tokens).relu()).squeeze(1).softmax(0)


def plain_score(head, pair):
    cosines = unit(pair.words) @ unit(pair.context).T
    by_words = weights(head.word_weights, pair.words) @ cosines.max(1).values
    by_frames = weights(head.frame_weights, pair.context) @ cosines.max(0).values
    return (by_words + by_frames) / 2


def test_scores_follow_the_formula(make_head, features):
    head = make_head("drl")
    expected = score_table(head, features, plain_score)
    torch.testing.assert_close(head.similarity(*encode(head, features)), expected, atol=1e-5, rtol=0)


def test_channel_correlation_follows_the_release(make_head, features):
    head = make_head("drl")
    columns = {"words": [], "frames": []}  # of a token, its best partner and its weight
    for (i, j), pair in pairs(head, features).items():
        if i == j:
            words, frames = unit(pair.words), unit(pair.context)
            of_words, of_frames = weights(head.word_weights, pair.words), weights(head.frame_weights, pair.context)
            columns["words"] += zip(words, frames[(words @ frames.T).argmax(1)], of_words, strict=True)
            columns["frames"] += zip(frames, words[(words @ frames.T).argmax(0)], of_frames, strict=True)
    correlation = torch.zeros(32, 32, dtype=torch.float64)
    for rows in columns.values():
        tokens, partners, weight = (torch.stack(column) for column in zip(*rows, strict=True))
        first, second = ((x - x.mean(0)) / x.std(0) for x in (tokens, partners))
        correlation += torch.einsum("nc,nd,n->cd", first, second, weight) / 5 / 2
    expected = 0.001 * 0.11 * (correlation.diagonal() - 1).square().sum()
    actual = head.loss(*encode(head, features, 5))["channel_correlation"]
    torch.testing.assert_close(actual.double(), expected, atol=0, rtol=1e-4)


def test_padding_repeats_the_first_real_token_without_weight(make_head, features):
    mask = torch.tensor([[0, 1, 1, 0, 1, 1]])
    videos = make_head("drl").encode_videos(features["frames"][:1], mask)
    torch.testing.assert_close(videos.frames[0, [0, 3]], videos.frames[0, [1, 1]])
    assert (videos.weights[mask == 0] == 0).all()
    torch.testing.assert_close(videos.weights.sum(1), torch.ones(1))
