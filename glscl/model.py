"""GLSCL: CLIP's encoders, a temporal encoder, and the head that compares texts with videos globally and locally.

The model is two parts. The encoders turn tokens and pixels into states: a sentence vector, word vectors and frame
vectors. A head turns states into scores and answers four calls, which every rival in `glscl.rivals` answers too:
`encode_texts`, `encode_videos` (what is kept per item, computed once), `similarity` and `loss`.

Source: "Text-Video Retrieval with Global-Local Semantic Consistent Learning", arXiv 2405.12710, and its released code
(zchoi/GLSCL, tvr/models/modeling.py). Where the two differ, see `variant` and docs/differences.md.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel

from glscl.config import GLSCLConfig, RetrievalConfig, known_settings
from glscl.head import MatchingHead, full_precision, gram, pooled_length, require_content, require_states
from glscl.losses import inter_consistency_loss, intra_diversity_loss


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
    """What GLSCL keeps per text: sentence (texts, width) and unit-length concepts (texts, concepts, width)."""

    sentence: Tensor
    concepts: Tensor


class Videos(NamedTuple):
    """What GLSCL keeps per video.

    frames (videos, frames, width) after the temporal encoder, mask (videos, frames), the Gram matrix of the frames
    gram (videos, frames, frames), and unit-length concepts (videos, concepts, width).
    """

    frames: Tensor
    mask: Tensor
    gram: Tensor
    concepts: Tensor


class GLSCLHead(MatchingHead):
    """Everything after CLIP: temporal encoder, global interaction, local interaction, losses."""

    keeps = Texts, Videos

    def __init__(self, config: GLSCLConfig):
        super().__init__(config)
        self.local = LocalInteraction(config)

    def encode_texts(self, sentence: Tensor, words: Tensor, mask: Tensor) -> Texts:
        """sentence (texts, width), words (texts, words, width), mask (texts, words) -> what is kept per text."""
        require_states(words, mask, self.config.width, "word")
        return Texts(sentence.float(), self.local(words, mask).float())

    def encode_videos(self, frames: Tensor, mask: Tensor) -> Videos:
        """frames (videos, frames, width) of CLIP, mask (videos, frames) -> what is kept per video."""
        require_states(frames, mask, self.config.width, "frame")
        frames = self.temporal(frames, mask)
        concepts = self.local(frames, mask).float()
        with full_precision(frames):
            return Videos(frames.float(), mask, gram(frames.float()), concepts)

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Global plus local_weight times local similarity, (texts, videos)."""
        self.require_kept(texts, videos)
        config = self.config
        sharpness = 1 / config.temperature if config.global_pooling == "text_conditioned" else 0.0
        return global_similarity(texts.sentence, videos, sharpness) + config.local_weight * local_similarity(
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


def global_similarity(sentence: Tensor, videos: Videos, sharpness: float) -> Tensor:
    """Cosine of each sentence with each video pooled by that sentence; no parameter is involved.

    With products l_f = <t, v_f>, weights a proportional to exp(sharpness * l) over the real frames and the pooled video
    v = sum_f a_f v_f, the cosine is sum_f a_f l_f / (|t| sqrt(a' G a)), G being the Gram matrix of the frames: exact,
    without a vector per pair. The scale of a cancels, so it is not normalised. (The release masks after the softmax;
    the cosine does not see the difference.)

    sentence (texts, width); sharpness: 1 / tau, or 0 for the mean of the frames -> (texts, videos), cosines.
    """
    count, frames, _ = videos.frames.shape
    # Texts come last: every step below then runs along contiguous memory.
    products = (videos.frames.flatten(0, 1) @ sentence.T).unflatten(0, (count, frames))
    logits = sharpness * products + (1 - videos.mask[:, :, None].float()) * -1e9
    weights = (logits - logits.amax(1, keepdim=True).detach()).exp()
    pooled = (weights * products).sum(1) / pooled_length(videos.gram, weights)
    return (pooled / sentence.norm(dim=-1).clamp(min=1e-6)).T


def local_similarity(text_concepts: Tensor, video_concepts: Tensor) -> Tensor:
    """Mean cosine of matching concepts: one inner product of concepts x width numbers per pair, (texts, videos)."""
    return (text_concepts.flatten(1) / text_concepts.shape[1]) @ video_concepts.flatten(1).T


class RetrievalModel(PreTrainedModel):
    """CLIP's encoders and one head: the whole model. `GLSCL` and each rival name their configuration and head."""

    config_class = RetrievalConfig
    base_model_prefix = "model"
    head_class: type[nn.Module]

    def __init__(self, config: RetrievalConfig):
        super().__init__(config)
        self.clip = CLIPModel(config.clip_config)
        self.clip.logit_scale.requires_grad_(False)  # the head has its own, so that a head can be trained alone
        self.head = self.head_class(config)
        self.post_init()

    def _init_weights(self, module):
        """Leave the head as its constructors initialised it; CLIP initialises its own modules."""

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        """Load a saved model; safetensors only, and strict: missing or unexpected weights are an error."""
        wants_info = kwargs.pop("output_loading_info", False)
        options = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True} | kwargs
        model, info = super().from_pretrained(folder, **options)
        wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
        if wrong:
            raise ValueError(f"{folder} should hold exactly the weights of {cls.__name__}, got {wrong}; save it again.")
        return (model, info) if wants_info else model

    @classmethod
    def from_clip(cls, clip: str | CLIPModel, **settings):
        """A new model around CLIP, e.g. `openai/clip-vit-base-patch32`, a local folder, or a `CLIPModel`, in float32.

        settings: names of the configuration; an unknown one is a ValueError.
        """
        if not isinstance(clip, CLIPModel):
            clip = CLIPModel.from_pretrained(clip, use_safetensors=True)
        model = cls(cls.config_class(clip_config=clip.config, **known_settings(cls.config_class, settings)))
        model.clip.load_state_dict(clip.state_dict())
        model.head.temporal.init_from_clip(clip)
        model.head.logit_scale.data.copy_(clip.logit_scale)
        return model.eval()

    def text_states(self, token_ids: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """token_ids, token_mask (texts, words) -> sentence (texts, width), words (texts, words, width).

        The sentence is the state at the last real token, the end token. Vectors are projected, not normalised.
        """
        require_content(token_mask, "word")
        if token_ids.shape != token_mask.shape or (token_mask.diff(dim=1) > 0).any():
            raise ValueError("token_mask must have the shape of token_ids and its zeros at the end; pad on the right.")
        states = self.clip.text_model(token_ids, attention_mask=token_mask).last_hidden_state
        words = self.clip.text_projection(states)
        return words[torch.arange(len(words), device=words.device), token_mask.sum(1).long() - 1], words

    def frame_states(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
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
        """token_ids, token_mask (texts, words) -> what the head keeps per text."""
        return self.head.encode_texts(*self.text_states(token_ids, token_mask), token_mask)

    def encode_videos(self, frames: Tensor, frame_mask: Tensor):
        """frames (videos, frames, 3, height, width), frame_mask (videos, frames) -> what the head keeps per video."""
        require_content(frame_mask, "frame")
        return self.head.encode_videos(self.frame_states(frames, frame_mask), frame_mask)

    def similarity(self, texts, videos) -> Tensor:
        """Scores (texts, videos); each entry depends on its own pair alone."""
        return self.head.similarity(texts, videos)

    def loss(self, texts, videos) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch whose text i belongs to video i, and their `total`."""
        return self.head.loss(texts, videos)


class GLSCL(RetrievalModel):
    """GLSCL, whole. See `RetrievalModel` for the calls and `GLSCLConfig` for the settings."""

    config_class = GLSCLConfig
    head_class = GLSCLHead

    @classmethod
    def from_released(cls, state_dict: dict[str, Tensor], **settings):
        """Build the model from weights in the names of the released code; sizes are read off the weights.

        Raises ValueError where a setting contradicts the weights, or where weights are missing or unknown.
        """
        from glscl.released import convert

        config, weights = convert(state_dict, **settings)
        model = cls(config)
        wrong = sorted(weights.keys() ^ model.state_dict().keys())
        if wrong:
            raise ValueError(f"released weights should name each weight of the model once, {wrong[:5]} do not fit.")
        model.load_state_dict(weights)
        return model.eval()
