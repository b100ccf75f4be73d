"""DRL: the weighted best partner of every word and frame, and the correlation of the channels."""

import pytest
import torch

from glscl.rivals.drl import DRLConfig
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


def plain_correlation(*columns):
    """Sum of squares of (correlation - 1); columns: of words and of frames, rows of token, best partner and weight."""
    correlation = torch.zeros(32, 32, dtype=torch.float64)
    for rows in columns:
        tokens, partners, weight = (torch.stack(column) for column in zip(*rows, strict=True))
        first, second = ((x - x.mean(0)) / x.std(0) for x in (tokens, partners))
        correlation += torch.einsum("nc,nd,n->cd", first, second, weight) / 5 / 2
    return (correlation.diagonal() - 1).square().sum()


@pytest.mark.parametrize(("settings", "weight"), [({}, 0.001 * 0.11), ({"correlation_weight": 0.00014}, 0.00014)])
def test_channel_correlation_follows_the_release(make_head, features, settings, weight):
    head = make_head("drl", **settings)
    of_words, of_frames = [], []
    for (i, j), pair in pairs(head, features).items():
        if i == j:
            words, frames = unit(pair.words), unit(pair.context)
            cosines = words @ frames.T
            of_words += zip(words, frames[cosines.argmax(1)], weights(head.word_weights, pair.words), strict=True)
            of_frames += zip(frames, words[cosines.argmax(0)], weights(head.frame_weights, pair.context), strict=True)
    actual = head.loss(*encode(head, features, 5))["channel_correlation"]
    torch.testing.assert_close(actual.double(), weight * plain_correlation(of_words, of_frames), atol=0, rtol=1e-4)


def released_bests(rows, columns, real_row, real_column):
    """Of every real row: its number, its largest cosine, 0 with padding, and the first column that has it."""
    for i in range(len(rows)):
        if real_row[i]:
            cosines = [rows[i] @ columns[j] if real_column[j] else torch.zeros(()) for j in range(len(columns))]
            yield i, max(cosines), max(range(len(cosines)), key=lambda j: cosines[j])


@torch.no_grad()
def test_released_padding_counts_as_zero_in_the_maxima_and_may_be_the_partner(make_head, features):
    head = make_head("drl", padding="released")
    context = head.temporal(features["frames"], features["frame_mask"]).double()
    scores, of_words, of_frames, padding_won = torch.zeros(5, 7), [], [], 0
    for t, real_word in enumerate(features["word_mask"].bool()):
        for v, real_frame in enumerate(features["frame_mask"].bool()):
            words, frames = unit(features["words"][t].double()), unit(context[v])
            word_weights = weights(head.word_weights, features["words"][t].double()[real_word])
            frame_weights = weights(head.frame_weights, context[v][real_frame])
            for i, cosine, j in released_bests(words, frames, real_word, real_frame):
                scores[t, v] += word_weights[i] * cosine / 2
                if t == v:
                    of_words.append((words[i], frames[j], word_weights[i]))
                    padding_won += not real_frame[j]
            for j, cosine, i in released_bests(frames, words, real_frame, real_word):
                scores[t, v] += frame_weights[j] * cosine / 2
                if t == v:
                    of_frames.append((frames[j], words[i], frame_weights[j]))
    assert padding_won > 0
    texts, videos = encode(head, features)
    torch.testing.assert_close(head.similarity(texts, videos), scores, atol=1e-5, rtol=0)
    assert (head.similarity(texts, videos) - make_head("drl").similarity(texts, videos)).abs().max() > 0.01
    actual = head.loss(*encode(head, features, 5))["channel_correlation"]
    expected = 0.001 * 0.11 * plain_correlation(of_words, of_frames)
    torch.testing.assert_close(actual.double(), expected, atol=0, rtol=1e-4)


def test_a_negative_correlation_weight_is_refused():
    with pytest.raises(ValueError, match="correlation_weight must be a number of at least 0, got -1"):
        DRLConfig(correlation_weight=-1)


def test_padding_repeats_the_first_real_token_without_weight(make_head, features):
    mask = torch.tensor([[0, 1, 1, 0, 1, 1]])
    videos = make_head("drl").encode_videos(features["frames"][:1], mask)
    torch.testing.assert_close(videos.frames[0, [0, 3]], videos.frames[0, [1, 1]])
    assert (videos.weights[mask == 0] == 0).all()
    torch.testing.assert_close(videos.weights.sum(1), torch.ones(1))
