"""The model agrees with the authors' released computation: similarities, concepts, losses and gradients.

The reference of the released code lies beside the project. A clone has the project's own reference instead, made by
`python tests/test_parity.py` when both agreed.
"""

import json

import numpy as np
import pytest
import torch

from glscl.model import GLSCL, global_similarity, local_similarity
from tests import ROOT

AUTHORS = ROOT.parent / "shared/golden/released_model.npz"
OWN = ROOT / "tests/released_reference.npz"
SETTINGS = {
    "temperature": 3.0,
    "local_weight": 0.5,
    "diversity_weight": 1e-4,
    "consistency_weight": 0.005,
    "moment_weight": 1.0,
    "variant": "released",
    "dropout": 0.0,
}


def released_weights(width=64, vision=128, layers=1, ffn=48, vocabulary=40, context=10, patch=8, grid=2, queries=4):
    """Random weights under the names of the released code, the unused ones included."""
    rng = np.random.RandomState(0)
    weights = {}

    def add(name, *shape, scale=0.1, shift=0.0):
        weights[name] = (shift + scale * rng.standard_normal(shape)).astype(np.float16)

    def norm(name, width=width):
        add(f"{name}.weight", width, shift=1.0)
        add(f"{name}.bias", width)

    def attention(name, width=width):
        add(f"{name}.in_proj_weight", 3 * width, width)
        add(f"{name}.in_proj_bias", 3 * width)
        add(f"{name}.out_proj.weight", width, width)
        add(f"{name}.out_proj.bias", width)

    def linear(name, out, into):
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    towers = {"clip.visual.transformer": vision, "clip.transformer": width, "transformerClip": width}
    for tower, size in towers.items():
        for layer in range(layers):
            block = f"{tower}.resblocks.{layer}"
            attention(f"{block}.attn", size)
            norm(f"{block}.ln_1", size)
            linear(f"{block}.mlp.c_fc", 4 * size, size)
            linear(f"{block}.mlp.c_proj", size, 4 * size)
            norm(f"{block}.ln_2", size)
    add("clip.visual.class_embedding", vision)
    add("clip.visual.positional_embedding", grid * grid + 1, vision)
    add("clip.visual.proj", vision, width)
    add("clip.visual.conv1.weight", vision, 3, patch, patch)
    for name, size in (("clip.visual.ln_pre", vision), ("clip.visual.ln_post", vision), ("clip.ln_final", width)):
        norm(name, size)
    add("clip.text_projection", width, width)
    add("clip.positional_embedding", context, width)
    add("clip.token_embedding.weight", vocabulary, width)
    add("frame_position_embeddings.weight", context, width)
    add("clip.logit_scale", scale=0.0, shift=2.5)
    for layer in range(layers):
        block = f"transformer_decoder_noun.layers.{layer}"
        attention(f"{block}.self_attn")
        attention(f"{block}.multihead_attn")
        linear(f"{block}.linear1", ffn, width)
        linear(f"{block}.linear2", width, ffn)
        for number in (1, 2, 3):
            norm(f"{block}.norm{number}")
    add("spatial_queries", queries, width, scale=0.3, shift=0.5)
    add("noun_queries", queries, width)
    linear("weight_fc.0", 2, 2)
    return weights


def processor(pairs=5, words=8, frames=4, side=16, vocabulary=40):
    """Token ids that end with the largest id, absent words 0; pixels with absent frames 0."""
    rng = np.random.RandomState(1)
    word_mask = np.arange(words) < rng.randint(3, words + 1, pairs)[:, None]
    ids = np.where(word_mask, rng.randint(1, vocabulary - 2, (pairs, words)), 0)
    ids[:, 0] = vocabulary - 2
    ids[np.arange(pairs), word_mask.sum(1) - 1] = vocabulary - 1
    frame_mask = np.arange(frames) < rng.randint(1, frames + 1, pairs)[:, None]
    pixels = rng.standard_normal((pairs, frames, 3, side, side)) * frame_mask[:, :, None, None, None]
    return {
        "token_ids": ids,
        "token_mask": word_mask.astype(np.int64),
        "frames": pixels.astype(np.float16),
        "frame_mask": frame_mask.astype(np.int64),
    }


def compute(weights, given, settings):
    """Every value of the reference, by this package's model."""
    model = GLSCL.from_released({name: torch.tensor(value) for name, value in weights.items()}, **settings)
    tensors = {name: torch.tensor(value) for name, value in given.items()}
    sentence, words = model.text_features(tensors["token_ids"], tensors["token_mask"])
    texts = model.encode_texts(tensors["token_ids"], tensors["token_mask"])
    videos = model.encode_videos(tensors["frames"].float(), tensors["frame_mask"])
    loss = model.loss(texts, videos)
    loss["total"].backward()
    found = {
        "sentence": sentence,
        "words": words,
        "frame_features": videos.frames,
        "sim_global": global_similarity(texts.sentence, videos, 1 / model.config.temperature),
        "sim_local": local_similarity(texts.concepts, videos.concepts),
        "sim_total": model.similarity(texts, videos),
        "text_concepts": texts.concepts,
        "video_concepts": videos.concepts,
        "loss_total": loss["total"],
        "loss_contrastive": loss["contrastive"],
        "loss_diversity": loss["intra_diversity"],
        "loss_consistency": loss["inter_consistency"],
        "grad_queries": model.head.local.queries.grad,
        "grad_text_projection": model.clip.text_projection.weight.grad.T,
    }
    return {name: value.detach().numpy() for name, value in found.items()}


@pytest.mark.parametrize("source", [AUTHORS, OWN], ids=["authors", "own"])
def test_parity_with_the_released_computation(source):
    if source == AUTHORS and not source.exists():
        pytest.skip("the authors' reference values lie beside the project, not in it")
    reference = np.load(source)
    if source == AUTHORS:
        config = json.loads(str(reference["config"]))
        weights = {name.removeprefix("weight."): reference[name] for name in reference if name.startswith("weight.")}
        given = {name: reference[name] for name in ("token_ids", "token_mask", "frames", "frame_mask")}
        settings = SETTINGS | {name: config[name] for name in ("temperature", "local_weight")}
        settings |= {"diversity_weight": config["alpha"], "consistency_weight": config["beta"]}
    else:
        weights, given, settings = released_weights(), processor(), SETTINGS
    for name, value in compute(weights, given, settings).items():
        expected = reference[name]
        bound = 1e-4 * np.abs(expected).max() if name.startswith(("loss", "grad")) else 1e-4
        assert np.abs(value - expected).max() <= bound, name


def test_a_setting_that_contradicts_the_weights_is_refused():
    weights = {name: torch.tensor(value) for name, value in released_weights().items()}
    with pytest.raises(ValueError, match="num_queries is 4 in the weights, got 8"):
        GLSCL.from_released(weights, num_queries=8)
    with pytest.raises(ValueError, match=r"GLSCLConfig has no temprature; it has .*temperature"):
        GLSCL.from_released(weights, temprature=3.0)


def test_weights_that_are_missing_or_unknown_are_refused():
    weights = {name: torch.tensor(value) for name, value in released_weights().items()}
    with pytest.raises(ValueError, match="spatial_queries, which is missing"):
        GLSCL.from_released({name: value for name, value in weights.items() if name != "spatial_queries"})
    with pytest.raises(ValueError, match="proto"):
        GLSCL.from_released(weights | {"proto.weight": torch.zeros(1)})


if __name__ == "__main__":
    np.savez_compressed(OWN, **compute(released_weights(), processor(), SETTINGS))
