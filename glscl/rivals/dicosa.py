"""DiCoSA: sentence and pooled video are split into blocks of channels, whose cosines a small net weights per pair.

DiCoSA (arXiv 2305.12218; jpthu17/DiCoSA, tvr/models/modeling.py, its README's command): a video is pooled by the
sentence as a whole, as in GLSCL, which grew out of it; then both vectors are split into 8 concepts. Where the release
differs:
* it masks after the frame softmax and does not renormalise, so that absent frames shrink the pooled video that its
  weighting net sees; here absent frames have no part;
* it divides the sum over a concept's channels by the number of WORDS, 32 for 64 channels, so that what it calls 1 is a
  correlation of about one half; here it is the correlation;
* its published main numbers are after QB-Norm; this head is the similarity alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, pooled_length, require_features
from glscl.config import RetrievalConfig

CONCEPTS = 8  # `center`
INVERSE_TEMPERATURE = 1 / 3  # of the frame softmax on unnormalised products; `temp` 3
MATCHED_WEIGHT, UNMATCHED_WEIGHT = 0.01, 0.005  # `alpha` and `beta`


class Texts(NamedTuple):
    """Sentence (texts, width), and what it adds to the hidden layer of the net, hidden (texts, concepts, width / 2)."""

    sentence: Tensor
    hidden: Tensor


class Videos(NamedTuple):
    """Per video:

    frames (videos, frames, width) after the temporal encoder, mask (videos, frames), the Gram matrix of every concept
    gram (videos, concepts, frames, frames), and what each frame adds to the hidden layer of the net,
    hidden (videos, frames, concepts, width / 2).
    """

    frames: Tensor
    mask: Tensor
    gram: Tensor
    hidden: Tensor


class DiCoSAHead(MatchingHead):
    """Temporal encoder, text-conditioned pooling, cosines of concepts under weights from a net, two regularisers."""

    embedding_types = Texts, Videos

    def __init__(self, config: RetrievalConfig):
        super().__init__(config)
        size = config.width // CONCEPTS
        self.hidden, self.score = nn.Linear(2 * size, 4 * size), nn.Linear(4 * size, 1)
        for layer in (self.hidden, self.score):  # as the release draws all its linear layers
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @property
    def numbers_per_pair(self) -> int:
        """Of the hidden layer for one concept."""
        return max(self.hidden.out_features, self.config.frames)

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words); the words are not used."""
        require_features(words, mask, self.config.width, "word")
        of_text, _ = self.hidden.weight.chunk(2, 1)
        with full_precision(sentence):
            return Texts(sentence.float(), F.linear(concepts(sentence.float()), of_text, self.hidden.bias))

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask).float()
        _, of_video = self.hidden.weight.chunk(2, 1)
        with full_precision(frames):
            parts = concepts(frames)
            return Videos(frames, mask, parts.transpose(1, 2) @ parts.permute(0, 2, 3, 1), F.linear(parts, of_video))

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Weighted sum of the concepts' cosines, (texts, videos).

        The pooled vector of a pair is never formed: as it is a weighted sum of frames, so are its products, the squares
        of its lengths and what it adds to the net's hidden layer.
        """
        self.require_embeddings(texts, videos)
        weights = frame_weights(texts.sentence, videos)
        scores = 0
        parts = concepts(texts.sentence), concepts(videos.frames)
        for concept in range(CONCEPTS):
            sentence, frames = (part[..., concept, :] for part in parts)
            products = weights * (frames.flatten(0, 1) @ sentence.T).unflatten(0, videos.mask.shape)
            cosine = products.sum(1) / pooled_length(videos.gram[:, concept], weights)
            cosine = cosine / sentence.norm(dim=-1).clamp(min=1e-6)
            of_text, of_frames = texts.hidden[:, concept].T, videos.hidden[:, :, concept].transpose(1, 2)
            hidden = torch.baddbmm(of_text[None], of_frames, weights).relu()  # (videos, hidden, texts)
            score = self.score.weight.expand(len(hidden), 1, -1) @ hidden + self.score.bias
            scores = scores + cosine * score.squeeze(1)
        return scores.T

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """The contrastive loss of a batch whose text i belongs to video i, and how its concepts correlate, weighted.

        `matched_concepts` pulls the correlation of a concept with itself, across the modalities, to 1;
        `unmatched_concepts` that of two concepts to 0.
        """
        with full_precision(texts.sentence):
            correlation = concept_correlation(texts.sentence, matched_pooling(texts.sentence, videos))
            matched = correlation.diagonal()
            terms = {
                "contrastive": self.contrastive(texts, videos, self.similarity(texts, videos)),
                "matched_concepts": MATCHED_WEIGHT * (matched - 1).square().sum(),
                "unmatched_concepts": UNMATCHED_WEIGHT * (correlation - matched.diag()).square().sum(),
            }
        return terms | {"total": sum(terms.values())}


def concepts(vectors: Tensor) -> Tensor:
    """Vectors (..., width) split into concepts (..., concepts, width / concepts)."""
    return vectors.unflatten(-1, (CONCEPTS, -1))


def frame_weights(sentence: Tensor, videos: Videos) -> Tensor:
    """Softmax over the real frames of their products with each sentence (texts, width): (videos, frames, texts)."""
    products = (videos.frames.flatten(0, 1) @ sentence.T).unflatten(0, videos.mask.shape)
    return torch.add((1 - videos.mask[..., None].float()) * -1e9, products, alpha=INVERSE_TEMPERATURE).softmax(1)


def matched_pooling(sentence: Tensor, videos: Videos) -> Tensor:
    """Every video pooled by its own sentence (pairs, width): (pairs, width)."""
    products = (videos.frames @ sentence[..., None]).squeeze(-1)
    weights = (INVERSE_TEMPERATURE * products).masked_fill(videos.mask == 0, float("-inf")).softmax(1)
    return (weights[:, None] @ videos.frames).squeeze(1)


def concept_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation over channels of every two concepts of (pairs, width) and (pairs, width), mean over pairs.

    -> (concepts, concepts)
    """
    first, second = (concepts(vectors) for vectors in (first, second))
    first, second = (x - x.mean(-1, keepdim=True) for x in (first, second))
    first, second = (F.normalize(x, dim=-1) for x in (first, second))
    return (first @ second.transpose(1, 2)).mean(0)


class DiCoSAConfig(RetrievalConfig):
    """Settings of DiCoSA: CLIP's own and `temporal_layers`."""

    model_type = "dicosa"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.width % CONCEPTS or self.width < 2 * CONCEPTS:
            raise ValueError(
                f"DiCoSA splits the width into {CONCEPTS} concepts of at least 2 channels, got {self.width}; choose a "
                f"CLIP whose projection is a multiple of {CONCEPTS}."
            )


class DiCoSA(RetrievalModel):
    """CLIP's encoders under the head of DiCoSA."""

    config_class = DiCoSAConfig
    head_class = DiCoSAHead
