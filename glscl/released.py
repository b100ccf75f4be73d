"""Weights in the names of a release -> weights in the names of this package.

Releases name CLIP's towers as OpenAI does (`clip.visual.transformer.resblocks`), or as transformers does, which are our
names. The family of CLIP4Clip names the temporal blocks `transformerClip` and the frame positions
`frame_position_embeddings`. How a release names its head is said by the head, as `Names`.
"""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import CLIPConfig


class Names(NamedTuple):
    """How a release names its head.

    renamed: pairs of a regular expression for a name of the release, and what replaces it.
    unused: regular expression of weights that the release registers and does not use. unread: weights of this package
    that the release lacks and its settings do not read.
    sizes: settings that the shapes of the weights tell, from the released weights by name.
    settings: what the release has where the configuration has another default.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    unused: str = r"$^"
    unread: tuple[str, ...] = ()
    sizes: Callable[["Weights"], dict] = lambda weights: {}
    settings: dict = MappingProxyType({})


OPENAI = [
    (r"^clip\.visual\.transformer\.resblocks\.", "clip.vision_model.encoder.layers."),
    (r"^clip\.transformer\.resblocks\.", "clip.text_model.encoder.layers."),
    (r"^transformerClip\.resblocks\.", "head.temporal.blocks.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"^clip\.visual\.class_embedding$", "clip.vision_model.embeddings.class_embedding"),
    (r"^clip\.visual\.positional_embedding$", "clip.vision_model.embeddings.position_embedding.weight"),
    (r"^clip\.visual\.conv1\.", "clip.vision_model.embeddings.patch_embedding."),
    (r"^clip\.visual\.ln_pre\.", "clip.vision_model.pre_layrnorm."),
    (r"^clip\.visual\.ln_post\.", "clip.vision_model.post_layernorm."),
    (r"^clip\.visual\.proj$", "clip.visual_projection.weight"),
    (r"^clip\.text_projection$", "clip.text_projection.weight"),
    (r"^clip\.positional_embedding$", "clip.text_model.embeddings.position_embedding.weight"),
    (r"^clip\.token_embedding\.", "clip.text_model.embeddings.token_embedding."),
    (r"^clip\.ln_final\.", "clip.text_model.final_layer_norm."),
    (r"^frame_position_embeddings\.", "head.temporal.positions."),
]
OF_FAMILY = "clip.visual.conv1.weight"  # CLIP4Clip's, which names CLIP as OpenAI does
TRANSPOSED = {"clip.visual.proj", "clip.text_projection"}
NO_WEIGHTS = r"^clip\.(input_resolution|context_length|vocab_size)$|\.position_ids$"


class Weights(dict):
    """Released weights by name; a missing one is a ValueError."""

    def __missing__(self, name: str):
        raise ValueError(f"released weights hold {name}, which is missing here; give the whole state dictionary.")

    @classmethod
    def of(cls, state_dict: dict[str, Tensor]) -> "Weights":
        """Without the prefix of a model that was trained on several GPUs."""
        return cls({re.sub(r"^module\.", "", name): torch.as_tensor(value) for name, value in state_dict.items()})

    def layers(self, prefix: str) -> int:
        """How many different numbers follow the prefix."""
        return len({name[len(prefix) :].split(".")[0] for name in self if name.startswith(prefix)})


def settings_of_release(names: Names, weights: Weights, settings: dict) -> dict:
    """Settings of a released model: what its weights tell, what its release sets, and `settings`.

    Raises ValueError where a setting contradicts the weights, or where a weight that tells a size is missing.
    """
    read = {"clip_config": _clip(weights), "temporal_layers": weights.layers("transformerClip.resblocks.")}
    family = {"layer_norm_eps": 1e-12} if OF_FAMILY in weights else {}
    read |= names.sizes(weights)
    for name in read.keys() & settings.keys():
        if settings[name] != read[name]:
            raise ValueError(f"{name} is {read[name]} in the weights, got {settings[name]}; leave the setting out.")
    return read | family | dict(names.settings) | settings


def renamed(names: Names, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Released weights, or their gradients, under the names and in the shapes of this package, in float32."""
    found = {}
    for name, value in weights.items():
        if re.search(NO_WEIGHTS, name) or re.search(names.unused, name):
            continue
        value = value.float().T if name in TRANSPOSED else value.float()
        if name == "clip.logit_scale":
            found[name] = found["head.logit_scale"] = value
            continue
        for pattern, new in (*names.renamed, *OPENAI):
            name = re.sub(pattern, new, name)
        if ".attn.in_proj_" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                found[name.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = piece
        else:
            found[name] = value
    return found


# What tells the sizes of CLIP, in the names of OpenAI and of transformers: patches, places of patches, places of words,
# words, the text projection, and the layers of the two towers.
SIZES_OF_CLIP = {
    OF_FAMILY: (
        "clip.visual.positional_embedding",
        "clip.positional_embedding",
        "clip.token_embedding.weight",
        "clip.text_projection",
        "clip.visual.transformer.resblocks.",
        "clip.transformer.resblocks.",
    ),
    "clip.vision_model.embeddings.patch_embedding.weight": (
        "clip.vision_model.embeddings.position_embedding.weight",
        "clip.text_model.embeddings.position_embedding.weight",
        "clip.text_model.embeddings.token_embedding.weight",
        "clip.text_projection.weight",
        "clip.vision_model.encoder.layers.",
        "clip.text_model.encoder.layers.",
    ),
}


def _clip(weights: Weights) -> CLIPConfig:
    """CLIP's configuration; its attention heads have a width of 64."""
    openai, transformers = SIZES_OF_CLIP
    patches = transformers if transformers in weights else openai
    places, positions, words, projection, vision_layers, text_layers = SIZES_OF_CLIP[patches]
    vision_width, _, patch, _ = weights[patches].shape
    grid = round((weights[places].shape[0] - 1) ** 0.5)
    context, text_width = weights[positions].shape
    vocabulary = weights[words].shape[0]
    width = weights[projection].T if projection in TRANSPOSED else weights[projection]
    return CLIPConfig(
        projection_dim=width.shape[0],
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": weights.layers(text_layers),
            "num_attention_heads": text_width // 64,
            "max_position_embeddings": context,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": vision_width,
            "intermediate_size": 4 * vision_width,
            "num_hidden_layers": weights.layers(vision_layers),
            "num_attention_heads": vision_width // 64,
            "image_size": patch * grid,
            "patch_size": patch,
        },
    )
