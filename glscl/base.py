"""What every method shares: CLIP's encoders, the temporal encoder, and the interface of a matching head.

A model is two parts. The encoders turn tokens and pixels into CLIP features: a sentence vector, word vectors and frame
vectors. A head turns features into embeddings and embeddings into scores; it answers four calls: `encode_texts` and
`encode_videos` (the embeddings, computed once per item), `similarity` and `loss`.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPEncoder

from glscl.config import SCRATCH, RetrievalConfig, known_settings
from glscl.losses import contrastive_loss, sinkhorn_biases
from glscl.pretrained import load_whole, require_clip
from glscl.released import Names, Weights, renamed, settings_of_release

RECENT_BATCHES = 2  # whose queries the normalised contrastive loss adds to those of the present one; our choice


def take(features, index, device=None):
    """Rows `index` of every tensor of the embeddings, on `device` where one is named."""
    return type(features)(*(tensor[index].to(device) for tensor in features))


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


def detached(embeddings):
    """The same embeddings, outside the graph."""
    return type(embeddings)(*(tensor.detach() for tensor in embeddings))


def joined(parts):
    """Embeddings of several batches, joined along the items."""
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def readable(tensor: Tensor) -> bool:
    """Whether checks may look at the values: in training a GPU would stop for each; there the loss tells, later."""
    return not (tensor.is_cuda and torch.is_grad_enabled())


def require_features(features: Tensor, mask: Tensor, width: int, what: str) -> None:
    """Raise a ValueError unless features are (items, positions, width), finite, each with a real position in its mask.

    mask: (items, positions), 1 for real. what: `word` or `frame`, for the message.
    """
    if features.ndim != 3 or features.shape[-1] != width or mask.shape != features.shape[:2]:
        raise ValueError(
            f"the head expects {what} features (items, {what}s, {width}) and their mask (items, {what}s), got "
            f"{tuple(features.shape)} and {tuple(mask.shape)}; encode with the CLIP that the head was built for."
        )
    require_content(mask, what)
    if readable(features) and not torch.isfinite(features).all():
        raise ValueError(f"{what} features must be finite, got NaN or infinity; look for damaged inputs or overflow.")


def require_content(mask: Tensor, what: str) -> None:
    """Raise a ValueError where a row of mask (items, positions) has no real position, or where there is no row."""
    if not mask.numel():
        raise ValueError(f"expected items with {what}s, got a mask of shape {tuple(mask.shape)}; give at least one.")
    empty = (mask.sum(1) == 0).nonzero().flatten().tolist() if readable(mask) else []
    if empty:
        raise ValueError(f"every item needs at least one real {what}, rows {empty} have none; leave those items out.")


def require_text_blocks(config: RetrievalConfig) -> None:
    """Raise a ValueError unless the temporal encoder can be copied from the text blocks of CLIP, `init_from_clip`."""
    text, layers = config.clip_config.text_config, config.temporal_layers
    if layers and text.hidden_size != config.width:
        raise ValueError(
            f"the temporal encoder is copied from CLIP's text blocks, which need the width of its projection, "
            f"{config.width}, got {text.hidden_size}; set temporal_layers to 0, or take another CLIP."
        )
    if layers > text.num_hidden_layers:
        raise ValueError(
            f"the temporal encoder is copied from CLIP's text blocks, which are {text.num_hidden_layers}, got "
            f"{layers} layers; set temporal_layers to at most {text.num_hidden_layers}."
        )


class TemporalEncoder(nn.Module):
    """Transformer over the frames with a residual around it, in the manner of CLIP4Clip's seqTransf.

    Blocks are CLIP text blocks without the causal mask; `init_from_clip` copies the first of them, as the release
    does. The framework figure of the paper does not draw this module.
    """

    def __init__(self, config: RetrievalConfig):
        super().__init__()
        blocks = copy.deepcopy(config.clip_config.text_config)
        blocks.hidden_size, blocks.num_hidden_layers = config.width, config.temporal_layers
        blocks._attn_implementation, blocks.layer_norm_eps = "sdpa", config.layer_norm_eps
        self.positions = nn.Embedding(blocks.max_position_embeddings, config.width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = CLIPEncoder(blocks)

    def init_from_clip(self, clip: CLIPModel) -> None:
        """Copy CLIP's text positions and its first text blocks; with 0 layers there is nothing to copy."""
        if not self.blocks.layers:
            return
        for block, text_block in zip(self.blocks.layers, clip.text_model.encoder.layers, strict=False):
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
        features = frames + self.positions.weight[: frames.shape[1]].to(frames.dtype)
        return frames + self.blocks(inputs_embeds=features, attention_mask=absent).last_hidden_state


class MatchingHead(nn.Module):
    """What every head shares: the temporal encoder, the scale of the logits, and the contrastive loss.

    A head names the types of its text and video embeddings, `embedding_types`, and adds `encode_texts`, `encode_videos`
    and `similarity`.
    """

    embedding_types: tuple[type, type]

    def __init__(self, config: RetrievalConfig):
        super().__init__()
        self.config = config
        self.temporal = TemporalEncoder(config)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.clip_config.logit_scale_init_value)))
        self.recent: list[tuple] = []  # embeddings of recent pairs, for the normalised contrastive loss

    @property
    def numbers_per_pair(self) -> int:
        """Numbers per pair in the largest tensor of `similarity`; it bounds the blocks of scoring."""
        return self.config.frames

    def require_embeddings(self, texts, videos) -> None:
        """Raise a ValueError unless texts and videos are embeddings of this head, of its width, and not empty."""
        for given, wanted in zip((texts, videos), self.embedding_types, strict=True):
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


class RetrievalModel(PreTrainedModel):
    """CLIP's encoders and one head: the whole model. `GLSCL` and each rival name their configuration and head."""

    config_class = RetrievalConfig
    base_model_prefix = "model"
    head_class: type[nn.Module]
    released_names: Names

    def __init__(self, config: RetrievalConfig):
        super().__init__(config)
        self.clip = CLIPModel(config.clip_config).float()  # a configuration of half precision makes half of CLIP so
        self.clip.logit_scale.requires_grad_(False)  # the head has its own, so that a head can be trained alone
        self.head = self.head_class(config)
        self.post_init()

    def _init_weights(self, module):
        """Leave the head as its constructors initialised it; CLIP initialises its own modules."""

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        """Load a saved model, in float32; safetensors only, and strict: missing or unexpected weights are an error."""
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = load_whole(super().from_pretrained, folder, **kwargs)
        return (model, info) if wants_info else model

    @classmethod
    def from_clip(cls, clip: str | CLIPModel, **settings):
        """A new model around CLIP, e.g. `openai/clip-vit-base-patch32`, a local folder, or a `CLIPModel`, in float32.

        settings: names of the configuration; an unknown one is a ValueError, and so is a CLIP that is not whole.
        """
        clip = clip if isinstance(clip, CLIPModel) else load_clip(clip)
        config = cls.config_class(clip_config=clip.config, **known_settings(cls.config_class, settings))
        require_text_blocks(config)
        model = cls(config)
        model.clip.load_state_dict(clip.state_dict())
        model.head.temporal.init_from_clip(clip)
        model.head.logit_scale.data.copy_(clip.logit_scale)
        return model.eval()

    @classmethod
    def from_released(cls, state_dict: dict[str, Tensor], **settings):
        """The model of weights in the names of its release, with its settings; sizes are read off the weights.

        Raises ValueError where a setting is unknown or contradicts the weights, or weights are missing or unknown.
        """
        weights = Weights.of(state_dict)
        settings = known_settings(cls.config_class, settings)
        model = cls(cls.config_class(**settings_of_release(cls.released_names, weights, settings)))
        own = renamed(cls.released_names, weights)
        unread = () if model.config.temporal_layers else ("head.temporal.positions.weight",)
        for name in (*cls.released_names.unread, *unread):
            own.setdefault(name, model.state_dict()[name])
        if wrong := sorted(own.keys() ^ model.state_dict().keys()):
            raise ValueError(f"released weights should name each weight of the model once, {wrong[:5]} do not fit.")
        model.load_state_dict(own)
        return model.eval()

    def text_features(self, token_ids: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """token_ids, token_mask (texts, words) -> sentence (texts, width), words (texts, words, width).

        The sentence is the state at the last real token, the end token. Vectors are projected, not normalised.
        With `padding: released` absent words read those before them, as in releases without a mask in CLIP.
        """
        require_content(token_mask, "word")
        if token_ids.shape != token_mask.shape or (readable(token_mask) and (token_mask.diff(dim=1) > 0).any()):
            raise ValueError("token_mask must have the shape of token_ids and its zeros at the end; pad on the right.")
        masked = None if getattr(self.config, "padding", "masked") == "released" else token_mask
        features = self.clip.text_model(token_ids, attention_mask=masked).last_hidden_state
        words = self.clip.text_projection(features)
        return words[torch.arange(len(words), device=words.device), token_mask.sum(1).long() - 1], words

    def frame_features(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """frames (videos, frames, 3, height, width in pixels), normalised pixels -> (videos, frames, width).

        CLIP's class token of each frame, projected, not normalised. An absent frame is zero in normalised pixels and
        encoded like the others, because the released local interaction attends to it.
        """
        if frame_mask.shape != frames.shape[:2]:
            raise ValueError(
                f"frame_mask must be (videos, frames) = {tuple(frames.shape[:2])}, got {tuple(frame_mask.shape)}; "
                "give one entry per frame."
            )
        pooled = self.clip.vision_model(frames.flatten(0, 1).to(self.dtype)).pooler_output
        return self.clip.visual_projection(pooled).unflatten(0, frames.shape[:2])

    def encode_texts(self, token_ids: Tensor, token_mask: Tensor):
        """token_ids, token_mask (texts, words) -> the text embeddings."""
        return self.head.encode_texts(*self.text_features(token_ids, token_mask), token_mask)

    def encode_videos(self, frames: Tensor, frame_mask: Tensor):
        """frames (videos, frames, 3, height, width), frame_mask (videos, frames) -> the video embeddings."""
        require_content(frame_mask, "frame")
        return self.head.encode_videos(self.frame_features(frames, frame_mask), frame_mask)

    def similarity(self, texts, videos) -> Tensor:
        """Scores (texts, videos); each entry depends on its own pair alone."""
        return self.head.similarity(texts, videos)

    def loss(self, texts, videos) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch whose text i belongs to video i, and their `total`."""
        return self.head.loss(texts, videos)


def load_clip(clip: str | Path) -> CLIPModel:
    """CLIP in float32, from a folder or by name, whole: see `glscl.pretrained.load_whole`."""
    require_clip(clip)
    return load_whole(CLIPModel.from_pretrained, clip)[0]


def load_backbone(clip: str | Path, backbone: str, processor) -> CLIPModel:
    """CLIP in float32: from a folder or a name, or small and random for `scratch`, to fit the processor.

    processor: a `glscl.data.processor.Processor`; ValueError where it does not fit. None: it is not compared.
    """
    if backbone == "scratch":
        ends = {f"{name}_token_id": getattr(processor.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        text = SCRATCH["text_config"] | ends | {"vocab_size": len(processor.tokenizer)}
        vision = SCRATCH["vision_config"] | {"image_size": processor.size}
        model = CLIPModel(CLIPConfig(**(SCRATCH | {"text_config": text, "vision_config": vision})))
    else:
        model = load_clip(clip)
    if processor:
        processor.require_fit(model.config)
    return model
