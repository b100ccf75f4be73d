"""X-Pool: a text attends to the frames of a video; its score is the cosine with the vector that it pooled.

arXiv 2203.15086, layer6ai-labs/xpool. Where this departs from the release: absent frames get no weight (the release
fills a short clip up to `frames` with its last frame, as with the setting `padding: released`), the temporal encoder of
the study runs first (`temporal_layers=0` is as released), and the output projection is applied to the frames, before
they are pooled: the same vector, as the weights of the frames sum to 1.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import MatchingHead, RetrievalModel, full_precision, gram, pooled_length, require_features
from glscl.config import PaddingConfig, at_least
from glscl.released import Names


class Texts(NamedTuple):
    """X-Pool's text embeddings: sentence (texts, width), and its query over the frames (texts, width)."""

    sentence: Tensor
    query: Tensor


class Videos(NamedTuple):
    """X-Pool's video embeddings.

    keys, values (videos, frames, width) and mask (videos, frames): the attention, for the plain form.
    rows (videos, frames + 2, width): every pooled vector of the video is a combination of them. attended_gram
    (videos, frames, frames), summed_gram (videos, frames + 1, frames + 1) and pooled_gram (videos, frames + 2,
    frames + 2) give the lengths that its two LayerNorms and the cosine divide by.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
    rows: Tensor
    attended_gram: Tensor
    summed_gram: Tensor
    pooled_gram: Tensor


class TextConditionedPooling(nn.Module):
    """X-Pool's pooling: attention of one head, LayerNorm, a residual linear layer with dropout, LayerNorm.

    Without dropout a pooled vector is linear in few vectors of the video, up to the scales of two LayerNorms. Those
    scales are lengths, and a length follows from a Gram matrix: a pair costs 2 * frames * width multiplications
    instead of the plain form's width^2, to the same number. Training takes the plain form, because dropout acts there.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.query, self.key, self.value, self.out, self.linear = (nn.Linear(width, width) for _ in range(5))
        for layer in self.children():
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.norm_states, self.norm_attended, self.norm_pooled = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = dropout

    def encode_texts(self, sentence: Tensor) -> Texts:
        """sentence (texts, width) -> the text embeddings."""
        query = self.query(self.norm_states(sentence)) / sentence.shape[-1] ** 0.5
        return Texts(sentence, query)

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        videos, _, width = frames.shape
        features = self.norm_states(frames)
        values = self.out(self.value(features))
        attended = _centred(values)
        scaled, shift = attended * self.norm_attended.weight, self.norm_attended.bias
        constant = (shift + self.linear(shift)).expand(videos, 1, -1)
        summed = _centred(torch.cat([scaled + scaled @ self.linear.weight.T, constant], 1))
        rows = torch.cat([summed * self.norm_pooled.weight, self.norm_pooled.bias.expand(videos, 1, -1)], 1)
        # LayerNorm adds eps to the variance. Here: to every product of two frames, as their weights sum to 1, and to
        # the square of the constant, whose coefficient is 1.
        attended_gram = gram(attended) / width + self.norm_attended.eps
        summed_gram = gram(summed) / width
        summed_gram[:, -1, -1] += self.norm_pooled.eps
        return Videos(self.key(features), values, mask, rows, attended_gram, summed_gram, gram(rows))

    def weights(self, query: Tensor, videos: Videos) -> Tensor:
        """Weight of each frame in the eyes of each text, 0 where absent: (videos, frames, texts), sums to 1."""
        logits = (videos.keys.flatten(0, 1) @ query.T).unflatten(0, videos.mask.shape)
        return (logits + (1 - videos.mask[:, :, None].float()) * -1e9).softmax(1)

    def forward(self, query: Tensor, videos: Videos) -> Tensor:
        """The plain form: a vector per pair, query (texts, width) -> (videos, texts, width)."""
        attended = self.norm_attended(self.weights(query, videos).transpose(1, 2) @ videos.values)
        residual = self.linear(attended)
        if self.training and self.dropout:
            # On a CPU nn.Dropout takes three times as long to draw the same thing.
            residual = residual * ((torch.rand_like(residual) >= self.dropout) / (1 - self.dropout))
        return self.norm_pooled(attended + residual)

    def combination(self, query: Tensor, videos: Videos) -> Tensor:
        """The pooled vectors, of unit length and without dropout, in terms of `videos.rows`.

        query (texts, width) -> (videos, frames + 2, texts).
        """
        return self.combination_of(self.weights(query, videos), videos)

    def combination_of(self, parts: Tensor, videos: Videos) -> Tensor:
        """The same for given weights of the frames, (videos, frames, texts), which sum to 1."""
        # With weights w and the deviations s and r that the LayerNorms divide by, the pooled vector is
        # (w / (s r), 1 / r, 1) times the rows, a multiple of (w, s, s r): each length from the coefficients before it.
        for products in (videos.attended_gram, videos.summed_gram):
            parts = torch.cat([parts, pooled_length(products, parts)[:, None]], 1)
        return parts / pooled_length(videos.pooled_gram, parts)[:, None]


class XPoolHead(MatchingHead):
    """Temporal encoder, text-conditioned pooling, cosine."""

    embedding_types = Texts, Videos

    def __init__(self, config: "XPoolConfig"):
        super().__init__(config)
        self.pooling = TextConditionedPooling(config.width, config.pooling_dropout)

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words); the words are not used."""
        require_features(words, mask, self.config.width, "word")
        with full_precision(sentence):
            return self.pooling.encode_texts(sentence.float())

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width), mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        if self.config.padding == "released":
            frames, mask = repeat_last_frame(frames, mask, self.config.frames)
        frames = self.temporal(frames, mask).float()
        with full_precision(frames):
            return self.pooling.encode_videos(frames, mask)

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosines (texts, videos); in training of the plain form with dropout, else exact without pairwise vectors."""
        self.require_embeddings(texts, videos)
        if self.training:
            return self.plain_similarity(texts, videos)
        products = (videos.rows.flatten(0, 1) @ texts.sentence.T).unflatten(0, videos.rows.shape[:2])
        cosines = (self.pooling.combination(texts.query, videos) * products).sum(1)
        return (cosines / texts.sentence.norm(dim=-1)).T

    def plain_similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """The same cosines (texts, videos) from a vector per pair, as the release has them; with dropout in training.

        The release multiplies each pooled vector by the output projection too, another width^2 per pair.
        """
        return pair_cosines(texts.sentence, self.pooling(texts.query, videos))


class XPoolConfig(PaddingConfig):
    """Settings of X-Pool.

    pooling_dropout: in the pooling, while training; the release has 0.3, 0.4 on DiDeMo.
    padding: `released` counts the last frame of a short clip again, until there are `frames` of them.
    """

    model_type = "x_pool"

    pooling_dropout: float = 0.3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        at_least("pooling_dropout", self.pooling_dropout, 0)
        if not self.pooling_dropout < 1:
            raise ValueError(f"pooling_dropout must be below 1, got {self.pooling_dropout}; the release uses 0.3.")


POOLING = (
    (r"^pool_frames\.cross_attn\.q_proj\.", "head.pooling.query."),
    (r"^pool_frames\.cross_attn\.k_proj\.", "head.pooling.key."),
    (r"^pool_frames\.cross_attn\.v_proj\.", "head.pooling.value."),
    (r"^pool_frames\.cross_attn\.out_proj\.", "head.pooling.out."),
    (r"^pool_frames\.linear_proj\.", "head.pooling.linear."),
    (r"^pool_frames\.layer_norm1\.", "head.pooling.norm_states."),
    (r"^pool_frames\.layer_norm2\.", "head.pooling.norm_attended."),
    (r"^pool_frames\.layer_norm3\.", "head.pooling.norm_pooled."),
)


class XPool(RetrievalModel):
    """CLIP's encoders under X-Pool's head."""

    config_class = XPoolConfig
    head_class = XPoolHead
    released_names = Names(renamed=POOLING, settings={"padding": "released"})


def pair_cosines(sentence: Tensor, pooled: Tensor) -> Tensor:
    """Cosines of sentence (texts, width) with a vector per pair, pooled (videos, texts, width) -> (texts, videos)."""
    return ((pooled * F.normalize(sentence, dim=-1)).sum(-1) / pooled.norm(dim=-1)).T


def repeat_last_frame(frames: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Every video with at least `count` frames, all real: its last real frame stands where one was absent.

    frames (videos, frames, width), mask (videos, frames) -> frames (videos, most, width), mask (videos, most), with the
    larger of `count` and the given number of frames as `most`.
    """
    places = torch.arange(max(count, frames.shape[1]), device=frames.device)
    real = F.pad(mask, (0, len(places) - frames.shape[1])).bool()
    source = torch.where(real, places, (real * places).amax(1, keepdim=True))
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    return frames[rows, source], torch.ones_like(source, dtype=mask.dtype)


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(-1, keepdim=True)
