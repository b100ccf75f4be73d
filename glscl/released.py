"""Weights in the names of the released code -> weights in the names of this package.

The release names CLIP's towers as OpenAI does, the temporal blocks `transformerClip`, the frame positions
`frame_position_embeddings`, the shared decoder `transformer_decoder_noun` and the shared queries `spatial_queries`.
"""

import re

import torch
from torch import Tensor
from transformers import CLIPConfig

from glscl.config import GLSCLConfig, known_settings

# Registered by the release and never used when queries and decoder are shared, or used and then thrown away.
UNUSED = re.compile(
    r"noun_queries|weight_fc\.|transformer_decoder_spatial\.|decoder_layer_(noun|spatial)\."
    r"|clip\.(input_resolution|context_length|vocab_size)$"
)
RENAMED = [
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
    (r"^transformer_decoder_noun\.", "head.local.decoder."),
    (r"^spatial_queries$", "head.local.queries"),
]
TRANSPOSED = {"clip.visual_projection.weight", "clip.text_projection.weight"}


def convert(state_dict: dict[str, Tensor], **settings) -> tuple[GLSCLConfig, dict[str, Tensor]]:
    """Return the configuration read off released weights and the weights under this package's names, in float32.

    settings: names of `GLSCLConfig`; ValueError where one contradicts the weights.
    """
    state_dict = {re.sub(r"^module\.", "", name): torch.as_tensor(value) for name, value in state_dict.items()}
    read = _sizes(state_dict)
    for name in read.keys() & settings.keys():
        if settings[name] != read[name]:
            raise ValueError(f"{name} is {read[name]} in the weights, got {settings[name]}; leave the setting out.")
    weights = {}
    for name, value in state_dict.items():
        if UNUSED.search(name):
            continue
        value = value.float()
        if name == "clip.logit_scale":
            weights[name] = weights["head.logit_scale"] = value
            continue
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        if ".attn.in_proj_" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                weights[name.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = piece
        else:
            weights[name] = value.T if name in TRANSPOSED else value
    return GLSCLConfig(**known_settings(GLSCLConfig, read | settings)), weights


def _sizes(state_dict: dict[str, Tensor]) -> dict:
    def shape(name: str) -> torch.Size:
        if name not in state_dict:
            raise ValueError(f"released weights hold {name}, which is missing here; give the whole state dictionary.")
        return state_dict[name].shape

    def layers(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in state_dict if name.startswith(prefix)})

    vision_width, _, patch, _ = shape("clip.visual.conv1.weight")
    grid = round((shape("clip.visual.positional_embedding")[0] - 1) ** 0.5)
    context, text_width = shape("clip.positional_embedding")
    vocabulary = shape("clip.token_embedding.weight")[0]
    clip = CLIPConfig(
        projection_dim=shape("clip.text_projection")[1],
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": layers("clip.transformer.resblocks."),
            "num_attention_heads": text_width // 64,
            "max_position_embeddings": context,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": vision_width,
            "intermediate_size": 4 * vision_width,
            "num_hidden_layers": layers("clip.visual.transformer.resblocks."),
            "num_attention_heads": vision_width // 64,
            "image_size": patch * grid,
            "patch_size": patch,
        },
    )
    return {
        "clip_config": clip,
        "temporal_layers": layers("transformerClip.resblocks."),
        "num_queries": shape("spatial_queries")[0],
        "decoder_layers": layers("transformer_decoder_noun.layers."),
        "decoder_ffn_dim": shape("transformer_decoder_noun.layers.0.linear1.weight")[0],
    }
