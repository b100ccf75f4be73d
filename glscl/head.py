"""What every head shares: the tuples of tensors that are kept per item, their checks, and the temporal encoder.

A head turns states of CLIP into scores and answers four calls: `encode_texts`, `encode_videos` (what is kept per item,
computed once), `similarity` and `loss`.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.models.clip.modeling_clip import CLIPEncoder

from glscl.config import RetrievalConfig
from glscl.losses import contrastive_loss, sinkhorn_biases

RECENT_BATCHES = 2  # whose queries the normalised contrastive loss adds to those of the present one; our choice


def take(states, index, device=None):
    """Rows `index` of the tensors that a head keeps per item, on `device` where one is named."""
    return type(states)(*(tensor[index].to(device) for tensor in states))


def gram(vectors: Tensor) -> Tensor:
    """Inner products of every two vectors of an item: (items, vectors, width) -> (items, vectors, vectors)."""
    return vectors @ vectors.transpose(1, 2)


def pooled_length(gram: Tensor, weights: Tensor) -> Tensor:
    """Length of sum_f weights_f v_f, from the Gram matrix of the v_f alone.

    gram (videos, frames, frames), weights (videos, frames, texts) -> (videos, texts).
    """
    # With identical frames rounding could leave the square slightly below zero.
    return ((gram @ weights) * weights).sum(1).clamp(min=1e-12).sqrt()


def full_precision(tensor: Tensor):
    """Context in which the tensor's device computes in float32, for scores and losses under autocast."""
    return torch.autocast(tensor.device.type, enabled=False)


def detached(states):
    """The same tuple of tensors, outside the graph."""
    return type(states)(*(tensor.detach() for tensor in states))


def joined(parts):
    """One tuple of tensors from several, joined along the items."""
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def require_states(states: Tensor, mask: Tensor, width: int, what: str) -> None:
    """Raise a ValueError unless states are (items, positions, width), finite, each with a real position in its mask.

    mask: (items, positions), 1 for real. what: `word` or `frame`, for the message.
    """
    if states.ndim != 3 or states.shape[-1] != width or mask.shape != states.shape[:2]:
        raise ValueError(
            f"the head expects {what} states (items, {what}s, {width}) and their mask (items, {what}s), got "
            f"{tuple(states.shape)} and {tuple(mask.shape)}; encode with the CLIP that the head was built for."
        )
    require_content(mask, what)
    if not torch.isfinite(states).all():
        raise ValueError(f"{what} states must be finite, got NaN or infinity; look for damaged inputs or overflow.")


def require_content(mask: Tensor, what: str) -> None:
    """Raise a ValueError where a row of mask (items, positions) has no real position, or where there is no row."""
    if not mask.numel():
        raise ValueError(f"expected items with {what}s, got a mask of shape {tuple(mask.shape)}; give at least one.")
    empty = (mask.sum(1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"every item needs at least one real {what}, rows {empty} have none; leave those items out.")


class TemporalEncoder(nn.Module):
    """Transformer over the frames with a residual around it, in the manner of CLIP4Clip's seqTransf.

    Blocks are CLIP text blocks without the causal mask; `init_from_clip` copies the first of them, as the release
    does. The framework figure of the paper does not draw this module.
    """

    def __init__(self, config: RetrievalConfig):
        super().__init__()
        blocks = copy.deepcopy(config.clip_config.text_config)
        blocks.hidden_size, blocks.num_hidden_layers = config.width, config.temporal_layers
        blocks._attn_implementation = "sdpa"
        self.positions = nn.Embedding(blocks.max_position_embeddings, config.width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = CLIPEncoder(blocks)

    def init_from_clip(self, clip: CLIPModel) -> None:
        """Copy CLIP's text positions and its first text blocks; with 0 layers there is nothing to copy."""
        if not self.blocks.layers:
            return
        source = clip.text_model.encoder.layers
        if len(source) < len(self.blocks.layers) or clip.config.text_config.hidden_size != self.positions.embedding_dim:
            raise ValueError(
                f"the temporal encoder ({len(self.blocks.layers)} layers, width {self.positions.embedding_dim}) is "
                f"initialised from CLIP's text blocks ({len(source)} layers, width "
                f"{clip.config.text_config.hidden_size}); use at most as many layers and the same width."
            )
        for block, text_block in zip(self.blocks.layers, source, strict=False):
            block.load_state_dict(text_block.state_dict())
        self.positions.load_state_dict(clip.text_model.embeddings.position_embedding.state_dict())

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """frames (videos, frames, width), mask (videos, frames) with 1 for real frames -> (videos, frames, width)."""
        if not self.blocks.layers:
            return frames
        if frames.shape[1] > self.positions.num_embeddings:
            raise ValueError(
                f"the temporal encoder has {self.positions.num_embeddings} positions, got {frames.shape[1]} frames; "
                "sample fewer frames."
            )
        absent = (1 - mask[:, None, None, :].to(frames.dtype)) * -1e6
        states = frames + self.positions.weight[: frames.shape[1]].to(frames.dtype)
        return frames + self.blocks(inputs_embeds=states, attention_mask=absent).last_hidden_state


class MatchingHead(nn.Module):
    """What every head shares: the temporal encoder, the scale of the logits, and the contrastive loss.

    A head names the two tuples that it keeps, `keeps`, and adds `encode_texts`, `encode_videos` and `similarity`.
    """

    keeps: tuple[type, type]

    def __init__(self, config: RetrievalConfig):
        super().__init__()
        self.config = config
        self.temporal = TemporalEncoder(config)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.clip_config.logit_scale_init_value)))
        self.recent: list[tuple] = []  # kept states of recent pairs, for the normalised contrastive loss

    @property
    def numbers_per_pair(self) -> int:
        """Numbers per pair in the largest tensor of `similarity`; it bounds the blocks of scoring."""
        return self.config.frames

    def require_kept(self, texts, videos) -> None:
        """Raise a ValueError unless texts and videos are what this head keeps, of one width, and not empty."""
        for given, wanted in zip((texts, videos), self.keeps, strict=True):
            if not isinstance(given, wanted):
                raise ValueError(
                    f"{type(self).__name__} compares {wanted.__module__}.{wanted.__name__}, got "
                    f"{type(given).__module__}.{type(given).__name__}; encode with this head."
                )
            if not len(given[0]) or given[0].shape[-1] != self.config.width:
                raise ValueError(
                    f"{type(self).__name__} compares at least one {wanted.__name__} of width {self.config.width}, got "
                    f"shape {tuple(given[0].shape)}; encode with this head, and leave no side empty."
                )

    def train(self, mode: bool = True):
        """Switch the mode; an epoch starts without recent pairs, so that a run that resumes there repeats it."""
        self.recent = []
        return super().train(mode)

    def loss(self, texts, videos) -> dict[str, Tensor]:
        """The contrastive loss of a batch whose text i belongs to video i, as `contrastive` and `total`."""
        with full_precision(texts[0]):
            contrastive = self.contrastive(texts, videos, self.similarity(texts, videos))
        return {"contrastive": contrastive, "total": contrastive}

    def contrastive(self, texts, videos, similarity: Tensor) -> Tensor:
        """Contrastive loss of similarity (texts, videos): InfoNCE, or normalised (NCL) where the settings say so."""
        if self.config.contrastive == "infonce":
            return contrastive_loss(similarity, self.logit_scale)
        with torch.no_grad():
            recent = [(detached(texts), detached(videos)), *self.recent][: 1 + RECENT_BATCHES]
            around_texts, around_videos = (joined(side) for side in zip(*recent, strict=True))
            scale = self.logit_scale.exp().clamp(max=100)
            # As at test time: the items of this gallery, and queries that are more than this batch.
            text_bias, _ = sinkhorn_biases(scale * self.similarity(texts, around_videos))
            _, video_bias = sinkhorn_biases(scale * self.similarity(around_texts, videos))
        if self.training:
            self.recent = recent
        return contrastive_loss(similarity, self.logit_scale, text_bias, video_bias)
