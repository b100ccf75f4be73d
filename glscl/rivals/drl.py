"""DRL: every word looks for its best frame, every frame for its best word, and learned weights sum what they find.

Weighted token-wise interaction with channel decorrelation (arXiv 2203.07111; foolwood/DRL, tvr/models/modeling.py,
`wti_interaction` with wti_arch 2 and cdcr 3, its row WTI+seqTransf+CDCR). Where the release differs:
* the cosines of padding count as 0 in its maxima, so that a padded item never finds less than 0, and where 0 is the
  most, the regulariser's partner is the padding itself; here both are over real words and frames. `padding: released`
  does as the release. Its weights are masked, as ours are;
* its scripts give the channel correlation 0.14 where its README, which we follow, gives 0.11 (`correlation_weight`).
  In both the weight of the channels' cross terms is 0, and this head has no such terms: what remains pulls each
  channel's correlation to 1 and decorrelates nothing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, require_features
from glscl.config import PaddingConfig, at_least
from glscl.released import Names


class Texts(NamedTuple):
    """Unit-length words (texts, words, width), their weights of sum 1 and their mask, both (texts, words).

    A padded word has no weight. It repeats the text's first real one, which no maximum can tell; with `padding:
    released` it is its own vector.
    """

    words: Tensor
    weights: Tensor
    mask: Tensor


class Videos(NamedTuple):
    """Unit-length frames (videos, frames, width), their weights of sum 1 and their mask, both (videos, frames).

    An absent frame has no weight. It repeats the video's first real one; with `padding: released` it is its own vector.
    """

    frames: Tensor
    weights: Tensor
    mask: Tensor


class TokenWeights(nn.Sequential):
    """The share of each word, or frame, in the score of its item: a small net and a softmax over what is real."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        for layer in (self[0], self[2]):  # as the release draws all its linear layers
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens (items, positions, width), mask (items, positions) -> weights (items, positions), 0 for padding."""
        return super().forward(tokens).squeeze(-1).float().masked_fill(mask == 0, float("-inf")).softmax(-1)


class DRLHead(MatchingHead):
    """Temporal encoder, weighted token-wise interaction, channel correlation."""

    embedding_types = Texts, Videos

    def __init__(self, config: PaddingConfig):
        super().__init__(config)
        self.word_weights, self.frame_weights = TokenWeights(config.width), TokenWeights(config.width)

    @property
    def numbers_per_pair(self) -> int:
        """Of the matrix of words and frames."""
        return self.config.words * self.config.frames

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), not used; words (texts, words, width), mask (texts, words)."""
        require_features(words, mask, self.config.width, "word")
        return Texts(self.unit_tokens(words, mask), self.word_weights(words, mask), mask)

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask)
        return Videos(self.unit_tokens(frames, mask), self.frame_weights(frames, mask), mask)

    def unit_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit-length tokens (items, positions, width); masked, the first real one of the item stands for padding."""
        tokens = F.normalize(tokens.float(), dim=-1)
        if self.config.padding == "released":
            return tokens
        first = tokens[torch.arange(len(tokens), device=tokens.device), mask.int().argmax(1), None]
        return torch.where(mask[..., None] > 0, tokens, first)

    def compared(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens as the maxima compare them, (items, positions, width): with released padding its cosines are 0."""
        return tokens * mask[..., None] if self.config.padding == "released" else tokens

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Mean of the words' weighted best cosines and the frames' weighted best cosines, (texts, videos)."""
        self.require_embeddings(texts, videos)
        # Axes are (videos, frames, words, texts): texts last, so that every step runs along contiguous memory.
        words = self.compared(texts.words, texts.mask).transpose(0, 1).flatten(0, 1)
        frames = self.compared(videos.frames, videos.mask).flatten(0, 1)
        cosines = (frames @ words.T).view(*videos.mask.shape, *texts.mask.T.shape)
        by_words = (best(cosines, 1) * texts.weights.T).sum(1)
        by_frames = (best(cosines, 2) * videos.weights[..., None]).sum(1)
        return (by_words + by_frames).T / 2

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """The contrastive loss and the `channel_correlation` of a batch whose text i belongs to video i."""
        with full_precision(texts.words):
            words, frames = (self.compared(tokens, mask) for tokens, _, mask in (texts, videos))
            cosines = words @ frames.transpose(1, 2)  # (pairs, words, frames)
            best_frame = videos.frames.take_along_dim(cosines.argmax(2)[..., None], 1)
            best_word = texts.words.take_along_dim(cosines.argmax(1)[..., None], 1)
            correlation = channel_correlation(texts.words, best_frame, texts.weights, texts.mask)
            correlation = (correlation + channel_correlation(videos.frames, best_word, videos.weights, videos.mask)) / 2
            terms = {
                "contrastive": self.contrastive(texts, videos, self.similarity(texts, videos)),
                "channel_correlation": self.config.correlation_weight * (correlation - 1).square().sum(),
            }
        return terms | {"total": sum(terms.values())}


def best(cosines: Tensor, axis: int) -> Tensor:
    """The maximum along an axis: `amax` is twice as fast, but not where its gradient is needed."""
    return cosines.max(axis).values if cosines.requires_grad else cosines.amax(axis)


def channel_correlation(tokens: Tensor, partners: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Correlation of tokens with their partners over the real positions of a batch, per channel: (width,).

    tokens, partners (items, positions, width); weights, mask (items, positions). Every channel is standardised without
    weights, as in the release; the mean of the products is weighted, each item counting once.
    """
    real = mask > 0
    first, second = ((x[real] - x[real].mean(0)) / x[real].std(0).clamp(min=1e-6) for x in (tokens, partners))
    return (weights[real, None] * first * second).sum(0) / len(tokens)


class DRLConfig(PaddingConfig):
    """Settings of DRL: CLIP's own, `temporal_layers`, `padding`, and

    correlation_weight: weight of the channel correlation, cdcr_lambda times cdcr_alpha1 of the release: 0.001 x 0.11 in
        its README, 0.001 x 0.14 in its scripts.
    """

    model_type = "drl"

    correlation_weight: float = 0.001 * 0.11

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("correlation_weight", self.correlation_weight, 0)


class DRL(RetrievalModel):
    """CLIP's encoders under the head of DRL."""

    config_class = DRLConfig
    head_class = DRLHead
    released_names = Names(
        renamed=(
            (r"^text_weight_fc\.", "head.word_weights."),
            (r"^video_weight_fc\.", "head.frame_weights."),
        ),
        settings={"padding": "released"},
    )
