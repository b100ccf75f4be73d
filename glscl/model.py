"""GLSCL: CLIP's encoders, a temporal encoder, and the head that compares texts with videos globally and locally.

The model is two parts. The encoders turn tokens and pixels into features: a sentence vector, word vectors and frame
vectors. A head turns features into scores and answers four calls, which every rival in `glscl.rivals` answers too:
`encode_texts`, `encode_videos` (what is kept per item, computed once), `similarity` and `loss`.

Source: "Text-Video Retrieval with Global-Local Semantic Consistent Learning", arXiv 2405.12710, and its released code
(zchoi/GLSCL, tvr/models/modeling.py). Where the two differ, see `variant` and docs/differences.md.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.base import (
    MatchingHead,
    RetrievalModel,
    full_precision,
    gram,
    pooled_length,
    require_features,
)
from glscl.config import GLSCLConfig
from glscl.losses import inter_consistency_loss, intra_diversity_loss
from glscl.released import Names


class LocalInteraction(nn.Module):
    """Learnable queries gather concepts from words or frames; both modalities share queries and decoder.

    A decoder layer is self-attention among the queries, cross-attention to the memory and a feed-forward net, each
    with residual and LayerNorm after it. The figure of the paper draws the cross-attention only.
    """

    def __init__(self, config: GLSCLConfig):
        super().__init__()
        layer = nn.TransformerDecoderLayer(
            config.width, config.decoder_heads, config.decoder_ffn_dim, config.dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.decoder_layers)
        self.queries = nn.Parameter(torch.rand(config.num_queries, config.width))  # uniform on [0, 1), as released
        self.masks_padding = config.variant == "described"

    def forward(self, memory: Tensor, mask: Tensor) -> Tensor:
        """memory (items, positions, width), mask (items, positions) -> unit-length concepts (items, concepts, width).

        The released code has no padding mask here: padded words and absent frames are attended like real ones.
        """
        queries = self.queries.to(memory.dtype).expand(len(memory), -1, -1)
        padding = mask == 0 if self.masks_padding else None
        return F.normalize(self.decoder(queries, memory, memory_key_padding_mask=padding), dim=-1)


class Texts(NamedTuple):
    """GLSCL's text embeddings: sentence (texts, width) and unit-length concepts (texts, concepts, width)."""

    sentence: Tensor
    concepts: Tensor


class Videos(NamedTuple):
    """GLSCL's video embeddings.

    frames (videos, frames, width) after the temporal encoder, mask (videos, frames), the Gram matrix of the frames
    gram (videos, frames, frames), and unit-length concepts (videos, concepts, width).
    """

    frames: Tensor
    mask: Tensor
    gram: Tensor
    concepts: Tensor


class GLSCLHead(MatchingHead):
    """Everything after CLIP: temporal encoder, global interaction, local interaction, losses."""

    embedding_types = Texts, Videos

    def __init__(self, config: GLSCLConfig):
        super().__init__(config)
        self.local = LocalInteraction(config)

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words) -> the text embeddings."""
        require_features(words, mask, self.config.width, "word")
        return Texts(sentence.float(), self.local(words, mask).float())

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width) of CLIP, mask (videos, frames) -> the video embeddings."""
        require_features(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask)
        concepts = self.local(frames, mask).float()
        with full_precision(frames):
            return Videos(frames.float(), mask, gram(frames.float()), concepts)

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Global plus local_weight times local similarity, (texts, videos)."""
        self.require_embeddings(texts, videos)
        config = self.config
        inverse_temperature = 1 / config.temperature if config.global_pooling == "text_conditioned" else 0.0
        return global_similarity(texts.sentence, videos, inverse_temperature) + config.local_weight * local_similarity(
            texts.concepts, videos.concepts
        )

    def loss(self, texts: Texts, videos: Videos) -> dict[str, Tensor]:
        """Losses of a batch whose text i belongs to video i, each already weighted, and their sum `total`."""
        config = self.config
        with full_precision(texts.sentence):
            concepts = texts.concepts, videos.concepts
            terms = {
                "contrastive": self.contrastive(texts, videos, self.similarity(texts, videos)),
                "inter_consistency": inter_consistency_loss(
                    *concepts, config.variant, config.moment_weight, config.consistency_weight
                ),
                "intra_diversity": config.diversity_weight * intra_diversity_loss(*concepts, config.variant),
            }
        return terms | {"total": sum(terms.values())}


def global_similarity(sentence: Tensor, videos: Videos, inverse_temperature: float) -> Tensor:
    """Cosine of each sentence with each video pooled by that sentence; no parameter is involved.

    With products l_f = <t, v_f>, weights a proportional to exp(inverse_temperature * l) over the real frames and the
    pooled video v = sum_f a_f v_f, the cosine is sum_f a_f l_f / (|t| sqrt(a' G a)), G being the Gram matrix of the
    frames: exact, without a vector per pair. The scale of a cancels, so it is not normalised. (The release masks after
    the softmax; the cosine does not see the difference.)

    sentence (texts, width); inverse_temperature: 1 / tau, or 0 for the mean of the frames -> (texts, videos), cosines.
    """
    count, frames, _ = videos.frames.shape
    # Texts come last: every step below then runs along contiguous memory.
    products = (videos.frames.flatten(0, 1) @ sentence.T).unflatten(0, (count, frames))
    logits = inverse_temperature * products + (1 - videos.mask[:, :, None].float()) * -1e9
    weights = (logits - logits.amax(1, keepdim=True).detach()).exp()
    pooled = (weights * products).sum(1) / pooled_length(videos.gram, weights)
    return (pooled / sentence.norm(dim=-1).clamp(min=1e-6)).T


def local_similarity(text_concepts: Tensor, video_concepts: Tensor) -> Tensor:
    """Mean cosine of matching concepts: one inner product of concepts x width numbers per pair, (texts, videos)."""
    return (text_concepts.flatten(1) / text_concepts.shape[1]) @ video_concepts.flatten(1).T


class GLSCL(RetrievalModel):
    """GLSCL, whole. See `RetrievalModel` for the calls and `GLSCLConfig` for the settings."""

    config_class = GLSCLConfig
    head_class = GLSCLHead

    released_names = Names(
        renamed=(
            (r"^transformer_decoder_noun\.", "head.local.decoder."),
            (r"^spatial_queries$", "head.local.queries"),
        ),
        # Used when queries and decoder are not shared, or used and then thrown away.
        unused=r"noun_queries|^weight_fc\.|^transformer_decoder_spatial\.|^decoder_layer_(noun|spatial)\.",
        sizes=lambda weights: {
            "num_queries": weights["spatial_queries"].shape[0],
            "decoder_layers": weights.layers("transformer_decoder_noun.layers."),
            "decoder_ffn_dim": weights["transformer_decoder_noun.layers.0.linear1.weight"].shape[0],
        },
    )
