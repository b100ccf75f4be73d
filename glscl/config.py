"""Settings of GLSCL, and what every method of the study shares."""

import dataclasses
import difflib
import math
from collections.abc import Iterable

from transformers import CLIPConfig, PreTrainedConfig


class RetrievalConfig(PreTrainedConfig):
    """What every method shares: CLIP's own configuration, the depth of the temporal encoder, the size of an item.

    clip_config: a `CLIPConfig` or its dictionary; CLIP ViT-B/32 where absent.
    temporal_layers: transformer layers over the frames; 0 leaves the frames as CLIP made them.
    layer_norm_eps: of these layers, and of a cross-encoder's; CLIP's own, where CLIP4Clip and its family have 1e-12.
    frames, words: sampled per video and kept per text in training; a retriever does the same.
    contrastive: `infonce`, or `ncl` for the normalised contrastive loss (arXiv 2212.11790).
    """

    model_type = "retrieval"
    sub_configs_defaults = sub_configs = {"clip_config": CLIPConfig}  # noqa: RUF012, below transformers 5.23 the second

    clip_config: dict | CLIPConfig | None = None
    temporal_layers: int = 4
    layer_norm_eps: float = 1e-5
    frames: int = 12
    words: int = 32
    contrastive: str = "infonce"

    def __post_init__(self, **kwargs):
        if not isinstance(self.clip_config, CLIPConfig):  # transformers itself does so from 5.23 on
            self.clip_config = CLIPConfig(**(self.clip_config or {}))
        super().__post_init__(**kwargs)
        at_least("temporal_layers", self.temporal_layers, 0)
        at_least("layer_norm_eps", self.layer_norm_eps, 0)
        at_least("frames", self.frames, 1)
        at_least("words", self.words, 3)  # start, one word, end
        one_of("contrastive", self.contrastive, ("infonce", "ncl"))

    @property
    def width(self) -> int:
        """Width of the joint space, CLIP's projection dimension."""
        return self.clip_config.projection_dim


class PaddingConfig(RetrievalConfig):
    """Settings of a head whose release reads absent words and frames.

    padding: `masked`, so that they have no part in a score, or `released`, as the release of the head has it. Features
    of a frozen CLIP are made once for all heads, with a mask over absent words, which some releases lack.
    """

    padding: str = "masked"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        one_of("padding", self.padding, ("masked", "released"))


class GLSCLConfig(RetrievalConfig):
    """Settings of GLSCL; the defaults are those of the release for MSR-VTT.

    num_queries: learnable queries, shared by both modalities; one concept each.
    decoder_layers, decoder_heads, decoder_ffn_dim: the shared local interaction; ffn 4 x width where absent.
    temperature: tau of the frame softmax. It acts on unnormalised products, as CLIP's vectors have norms of order 10.
    local_weight: xi, weight of the local similarity.
    diversity_weight: alpha. moment_weight: weight of the term that matches batch means. consistency_weight: beta,
        weight of the 0.75 term; with both at 0 there is no inter-consistency loss.
    global_pooling: `text_conditioned`, or `mean` for the ablation.
    variant: `released` or `described`, see `glscl.losses` and docs/differences.md.
    dropout: in the local interaction, while training.
    """

    model_type = "glscl"

    num_queries: int = 8
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_ffn_dim: int | None = None
    temperature: float = 3.0
    local_weight: float = 0.5
    diversity_weight: float = 1e-4
    moment_weight: float = 1.0
    consistency_weight: float = 0.005
    global_pooling: str = "text_conditioned"
    variant: str = "released"
    dropout: float = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.decoder_ffn_dim = 4 * self.width if self.decoder_ffn_dim is None else self.decoder_ffn_dim
        for name in ("num_queries", "decoder_layers", "decoder_heads", "decoder_ffn_dim"):
            at_least(name, getattr(self, name), 1)
        for name in (
            "temperature",
            "local_weight",
            "diversity_weight",
            "moment_weight",
            "consistency_weight",
            "dropout",
        ):
            at_least(name, getattr(self, name), 0)
        one_of("global_pooling", self.global_pooling, ("text_conditioned", "mean"))
        one_of("variant", self.variant, ("released", "described"))
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}; the release uses 3.")
        if not self.dropout < 1:
            raise ValueError(f"dropout must be below 1, got {self.dropout}; the release uses 0.1.")
        if self.width % self.decoder_heads:
            raise ValueError(
                f"decoder_heads must divide the width {self.width}, got {self.decoder_heads}; choose a divisor."
            )


def known_settings(config: type[PreTrainedConfig], settings: dict) -> dict:
    """The settings, if the configuration knows every one; otherwise a ValueError that lists the study's own names."""
    names = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(settings.keys() - names):
        own = sorted(names - {field.name for field in dataclasses.fields(PreTrainedConfig)})
        raise ValueError(f"{config.__name__} has no {', '.join(unknown)}; it has {', '.join(own)}.")
    return settings


def at_least(name: str, value: float, low: float) -> None:
    """Raise a ValueError that names the parameter if value is no finite number or below low."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < low:
        raise ValueError(
            f"{name} must be a number of at least {low}, got {value!r}; correct it in params.yaml or the call."
        )


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise a ValueError that lists what is known if value is not."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(value, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message, the remedy: the known name most like this one, if any is."""
    found = difflib.get_close_matches(str(name), map(str, known), 1)
    return f"; did you mean {found[0]}?" if found else "; correct the spelling."


# Width, depth and frame size of a CLIP that is trained from random weights on a few hundred videos.
SCRATCH = {
    "projection_dim": 128,
    "text_config": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
    },
    "vision_config": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    },
}
