"""What the plain versions of the rivals' formulas share: one pair at a time, its real positions alone, in float64."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """One text and one video: sentence (width,), words (words, width), CLIP's frames and frames in context alike."""

    sentence: Tensor
    words: Tensor
    frames: Tensor
    context: Tensor


def encode(head, features, pairs=None):
    """Embeddings of all texts and videos, or of the first `pairs` of both."""
    some = {name: value[:pairs] for name, value in features.items()}
    texts = head.encode_texts(some["sentence"], some["words"], some["word_mask"])
    return texts, head.encode_videos(some["frames"], some["frame_mask"])


@torch.no_grad()
def pairs(head, features) -> dict[tuple[int, int], Pair]:
    """Every pair, by the numbers of its text and of its video."""
    found = {}
    context = head.temporal(features["frames"], features["frame_mask"]).double()
    for i, real_words in enumerate(features["word_mask"].bool()):
        for j, real in enumerate(features["frame_mask"].bool()):
            sentence, words = features["sentence"][i].double(), features["words"][i][real_words].double()
            found[i, j] = Pair(sentence, words, features["frames"][j][real].double(), context[j][real])
    return found


@torch.no_grad()
def score_table(head, features, score) -> Tensor:
    """score(head, pair) of every pair, (texts, videos)."""
    scores = torch.empty(len(features["sentence"]), len(features["frames"]))
    for (i, j), pair in pairs(head, features).items():
        scores[i, j] = score(head, pair)
    return scores


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., width), divided by their length."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


def linear(layer, vectors: Tensor) -> Tensor:
    """A linear layer of vectors (..., in) -> (..., out)."""
    return vectors @ layer.weight.double().T + layer.bias.double()


def layer_norm(layer, vectors: Tensor) -> Tensor:
    """A LayerNorm of vectors (..., width)."""
    centred = vectors - vectors.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * layer.weight.double() + layer.bias.double()


def pooled_video(pooling, sentence: Tensor, frames: Tensor) -> Tensor:
    """X-Pool's pooled vector of a video in the order of the release: the output projection follows the attention."""
    query = linear(pooling.query, layer_norm(pooling.norm_states, sentence))
    normed = layer_norm(pooling.norm_states, frames)
    exponentials = (linear(pooling.key, normed) @ query / math.sqrt(len(sentence))).exp()
    mixed = exponentials / exponentials.sum() @ linear(pooling.value, normed)
    attended = layer_norm(pooling.norm_attended, linear(pooling.out, mixed))
    return layer_norm(pooling.norm_pooled, attended + linear(pooling.linear, attended))


def attend(attention, scores: Tensor) -> Tensor:
    """X-CLIP's attention over scores (tokens,) -> their weighted sum."""
    matrix = attention.matrix.double()[: len(scores), : len(scores)]
    return (scores / 0.01).softmax(0) @ matrix @ scores


def attend_both(head, scores: Tensor) -> Tensor:
    """Attention over the rows (words) and then the columns (frames) of scores, and the other way round, averaged."""
    by_frame = torch.stack([attend(head.words_first, column) for column in scores.T])
    by_word = torch.stack([attend(head.frames_first, row) for row in scores])
    return (attend(head.frames_second, by_frame) + attend(head.words_second, by_word)) / 2
