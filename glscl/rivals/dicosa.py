"""DiCoSA: sentence and pooled video are split into blocks of channels, whose cosines a small net weights per pair.

DiCoSA (arXiv 2305.12218; jpthu17/DiCoSA, tvr/models/modeling.py, its README's command): a video is pooled by the
sentence as a whole, as in GLSCL, which grew out of it; then both vectors are split into 8 concepts. Where the release
differs:
* it masks after the frame softmax and does not renormalise, so that absent frames shrink the pooled video that its
  weighting net sees; here absent frames have no part. `padding: released` does as the release;
* it divides the sum over a concept's channels by the number of WORDS, 32 for 64 channels, so that what it calls 1 is a
  correlation of about one half; here it is the correlation. `correlation_divisor: words` does as the release;
* its published main numbers are after QB-Norm; this head is the similarity alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, pooled_length, require_features
from glscl.config import PaddingConfig, at_least, one_of
from glscl.released import Names


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

    def __init__(self, config: PaddingConfig):
        super().__init__(config)
        size = config.width // config.num_concepts
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
            return Texts(sentence.float(), F.linear(self.concepts(sentence.float()), of_text, self.hidden.bias))

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask).float()
        _, of_video = self.hidden.weight.chunk(2, 1)
        with full_precision(frames):
            parts = self.concepts(frames)
            return Videos(frames, mask, parts.transpose(1, 2) @ parts.permute(0, 2, 3, 1), F.linear(parts, of_video))

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Weighted sum of the concepts' cosines, (texts, videos).

        The pooled vector of a pair is never formed: as it is a weighted sum of frames, so are its products, the squares
        of its lengths and what it adds to the net's hidden layer.
        """
        self.require_embeddings(texts, videos)
        weights, seen_weights = self.frame_weights(texts.sentence, videos)
        scores = 0
        parts = self.concepts(texts.sentence), self.concepts(videos.frames)
        for concept in range(self.config.num_concepts):
            sentence, frames = (part[..., concept, :] for part in parts)
            products = weights * (frames.flatten(0, 1) @ sentence.T).unflatten(0, videos.mask.shape)
            cosine = products.sum(1) / pooled_length(videos.gram[:, concept], weights)
            cosine = cosine / sentence.norm(dim=-1).clamp(min=1e-6)
            of_text, of_frames = texts.hidden[:, concept].T, videos.hidden[:, :, concept].transpose(1, 2)
            hidden = torch.baddbmm(of_text[None], of_frames, seen_weights).relu()  # (videos, hidden, texts)
            score = self.score.weight.expand(len(hidden), 1, -1) @ hidden + self.score.bias
            scores = scores + cosine * score.squeeze(1)
        return scores.T

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """The contrastive loss of a batch whose text i belongs to video i, and how its concepts correlate, weighted.

        `matched_concepts` pulls the correlation of a concept with itself, across the modalities, to 1;
        `unmatched_concepts` that of two concepts to 0.
        """
        with full_precision(texts.sentence):
            pooled = self.matched_pooling(texts.sentence, videos)
            correlation = concept_correlation(self.concepts(texts.sentence), self.concepts(pooled))
            if self.config.correlation_divisor == "words":
                channels = self.config.width // self.config.num_concepts
                # Standardised channels, with the unbiased deviation, sum to (channels - 1) times the correlation.
                correlation = correlation * ((channels - 1) / self.config.words)
            matched = correlation.diagonal()
            terms = {
                "contrastive": self.contrastive(texts, videos, self.similarity(texts, videos)),
                "matched_concepts": self.config.matched_weight * (matched - 1).square().sum(),
                "unmatched_concepts": self.config.unmatched_weight * (correlation - matched.diag()).square().sum(),
            }
        return terms | {"total": sum(terms.values())}

    def concepts(self, vectors: Tensor) -> Tensor:
        """Vectors (..., width) split into concepts (..., concepts, width / concepts)."""
        return vectors.unflatten(-1, (self.config.num_concepts, -1))

    def frame_weights(self, sentence: Tensor, videos: Videos) -> tuple[Tensor, Tensor]:
        """Softmax over frames of their products with each sentence (texts, width), twice (videos, frames, texts).

        The first is over the real frames, for the cosines. The second is what the net sees: the same, or with
        `padding: released` a softmax over all frames, of which the absent ones are then set to 0. It differs by a
        factor per pair, which no cosine sees; that factor can be so small that lengths would be lost to rounding.
        """
        products = (videos.frames.flatten(0, 1) @ sentence.T).unflatten(0, videos.mask.shape)
        mask, inverse_temperature = videos.mask[..., None].float(), 1 / self.config.temperature
        weights = torch.add((1 - mask) * -1e9, products, alpha=inverse_temperature).softmax(1)
        if self.config.padding == "masked":
            return weights, weights
        return weights, (inverse_temperature * products).softmax(1) * mask

    def matched_pooling(self, sentence: Tensor, videos: Videos) -> Tensor:
        """Every video pooled by its own sentence (pairs, width) over its real frames: (pairs, width).

        With `padding: released` it is longer here than in the release, which the correlation does not see.
        """
        products = (videos.frames @ sentence[..., None]).squeeze(-1)
        logits = (1 / self.config.temperature * products).masked_fill(videos.mask == 0, float("-inf"))
        return (logits.softmax(1)[:, None] @ videos.frames).squeeze(1)


def concept_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation over channels of every two concepts, mean over pairs.

    first, second (pairs, concepts, channels) -> (concepts, concepts)
    """
    first, second = (x - x.mean(-1, keepdim=True) for x in (first, second))
    first, second = (F.normalize(x, dim=-1) for x in (first, second))
    return (first @ second.transpose(1, 2)).mean(0)


class DiCoSAConfig(PaddingConfig):
    """Settings of DiCoSA: CLIP's own, `temporal_layers`, `padding`, and, with their names in the release,

    num_concepts: groups of channels that a vector is split into, `center`.
    temperature: of the frame softmax, which acts on unnormalised products, `temp`.
    matched_weight, unmatched_weight: weights of the two regularisers, `alpha` and `beta`.
    correlation_divisor: by what the products of standardised channels are divided: `channels`, which gives the
        correlation, or `words`, as released, which gives (channels - 1) / words times that. `words` is the setting of
        that name, to which the release pads every text.
    """

    model_type = "dicosa"

    num_concepts: int = 8
    temperature: float = 3.0
    matched_weight: float = 0.01
    unmatched_weight: float = 0.005
    correlation_divisor: str = "channels"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("num_concepts", self.num_concepts, 1)
        for name in ("temperature", "matched_weight", "unmatched_weight"):
            at_least(name, getattr(self, name), 0)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}; the release uses 3.")
        one_of("correlation_divisor", self.correlation_divisor, ("channels", "words"))
        if self.width % self.num_concepts or self.width < 2 * self.num_concepts:
            raise ValueError(
                f"DiCoSA splits the width into {self.num_concepts} concepts of at least 2 channels, got {self.width}; "
                f"choose a CLIP whose projection is a multiple of {self.num_concepts}, or another num_concepts."
            )


class DiCoSA(RetrievalModel):
    """CLIP's encoders under the head of DiCoSA."""

    config_class = DiCoSAConfig
    head_class = DiCoSAHead
    released_names = Names(
        renamed=((r"^weight_fc\.0\.", "head.hidden."), (r"^weight_fc\.2\.", "head.score.")),
        # The net reads a concept of the sentence and one of the video.
        sizes=lambda weights: {
            "num_concepts": 2 * weights["clip.text_projection"].shape[1] // weights["weight_fc.0.weight"].shape[1]
        },
        settings={"padding": "released", "correlation_divisor": "words"},
    )
