"""Multiply-accumulates of every head and of CLIP by formula; `glscl.study.counting` has torch's counter.

Counted are matrix products alone, at full length (no padding). Per text and per video is what a head computes once,
the temporal encoder and GLSCL's concept decoder among it; CLIP is counted apart. Per pair is `similarity`.
"""

from collections.abc import Callable
from typing import NamedTuple

from transformers import CLIPConfig

from glscl.config import RetrievalConfig
from glscl.rivals.t_mass import TRIALS

# Table I of GLSCL, arXiv 2405.12710, column FLOPs, printed in G: it equals thousands of multiply-accumulates per pair.
PUBLISHED = {"mean_pooling": 0.5, "dicosa": 0.51, "glscl": 1.0, "x_clip": 220.9, "x_pool": 275.0}


class Macs(NamedTuple):
    """Multiply-accumulates by named term: per text, per video, per pair, and per pair as the method was released."""

    text: dict[str, int]
    video: dict[str, int]
    pair: dict[str, int]
    released: dict[str, int]

    def totals(self) -> dict[str, int]:
        """The sum of each part."""
        return {part: sum(terms.values()) for part, terms in self._asdict().items()}


def transformer(positions: int, width: int, ffn: int, layers: int) -> int:
    """Transformer layers over so many `positions`: four projections, attention, and a feed-forward net."""
    return layers * (4 * positions * width**2 + 2 * positions**2 * width + 2 * positions * width * ffn)


def clip_text(config: CLIPConfig, words: int) -> int:
    """CLIP's text encoder on one sentence of so many `words`, all of them projected."""
    text = config.text_config
    encoder = transformer(words, text.hidden_size, text.intermediate_size, text.num_hidden_layers)
    return encoder + words * text.hidden_size * config.projection_dim


def clip_image(config: CLIPConfig) -> int:
    """CLIP's image encoder on one frame: the patches, a class token beside them, and its projection."""
    image = config.vision_config
    patches, width = (image.image_size // image.patch_size) ** 2, image.hidden_size
    encoder = transformer(1 + patches, width, image.intermediate_size, image.num_hidden_layers)
    return patches * 3 * image.patch_size**2 * width + encoder + width * config.projection_dim


def temporal(config: RetrievalConfig) -> dict[str, int]:
    """The temporal encoder, per video."""
    ffn = config.clip_config.text_config.intermediate_size
    return {"temporal encoder": transformer(config.frames, config.width, ffn, config.temporal_layers)}


def mean_pooling(config: RetrievalConfig) -> Macs:
    """One inner product per pair."""
    pair = {"cosine": config.width}
    return Macs({}, temporal(config), pair, pair)


def concepts(config: RetrievalConfig, positions: int) -> int:
    """GLSCL's decoder over a memory of so many `positions`: self-attention, cross-attention and feed-forward net."""
    width, queries = config.width, config.num_queries
    between = 4 * queries * width**2 + 2 * queries**2 * width
    across = 2 * queries * width**2 + 2 * positions * width**2 + 2 * queries * positions * width
    return config.decoder_layers * (between + across + 2 * queries * width * config.decoder_ffn_dim)


def glscl(config: RetrievalConfig) -> Macs:
    """Frame logits, the length of the pooled vector from the Gram matrix, and one product of all concepts."""
    width, frames = config.width, config.frames
    matched = {"frame logits": frames * width, "concepts": config.num_queries * width}
    return Macs(
        {"concept decoder": concepts(config, config.words)},
        temporal(config) | {"concept decoder": concepts(config, frames), "Gram matrix": frames**2 * width},
        matched | {"pooled length": frames**2},
        matched
        | {"pooled vector": frames * width, "cosine": width}
        | {"discarded weighting net": 2 * width * 4 * width + 4 * width},
    )


def x_pool(config: RetrievalConfig) -> Macs:
    """Exact: frame logits, three lengths, and products with the frames + 2 vectors that span the pooled ones."""
    width, frames = config.width, config.frames
    lengths = frames**2 + (frames + 1) ** 2 + (frames + 2) ** 2
    return Macs(
        {"query": width**2},
        temporal(config)
        | {"key, value, output, linear layer": 4 * frames * width**2, "Gram matrices": lengths * width},
        {"frame logits": frames * width, "pooled lengths": lengths, "cosine": (frames + 2) * width},
        {"frame logits": frames * width, "pooled vector": frames * width, "cosine": width}
        | {"output and linear layer": 2 * width**2},
    )


def t_mass(config: RetrievalConfig) -> Macs:
    """X-Pool's pooled vector, a radius per pair, and 20 drawn texts."""
    width, frames, pooling = config.width, config.frames, x_pool(config)
    radius = {"cosines with frames": frames * width, "radius": frames * width}
    return Macs(
        pooling.text,
        pooling.video,
        pooling.pair
        | {"cosine": width, "pooled vector": (frames + 2) * width, "drawn texts": 3 * TRIALS * width}
        | radius,
        pooling.released | radius | {"cosine": TRIALS * width},
    )


def cross_encoder(config: RetrievalConfig) -> Macs:
    """A transformer over sentence, words and frames of the pair; of its last block only the first position."""
    width, layers = config.width, config.cross_layers
    ffn = config.clip_config.text_config.intermediate_size
    positions = 1 + config.words + config.frames
    first = 2 * (1 + positions) * width**2 + 2 * positions * width + 2 * width * ffn
    score = {"score": width**2 + width}
    return Macs(
        {},
        temporal(config),
        {"blocks": transformer(positions, width, ffn, layers - 1), "last block": first} | score,
        {"blocks": transformer(positions, width, ffn, layers)} | score,
    )


def drl(config: RetrievalConfig) -> Macs:
    """Every word with every frame; the weights of words and frames come from a net over each."""
    width, frames, words = config.width, config.frames, config.words
    net, pair = width**2 + width, {"words with frames": words * frames * width}
    return Macs({"weights of words": words * net}, temporal(config) | {"weights of frames": frames * net}, pair, pair)


def dicosa(config: RetrievalConfig) -> Macs:
    """Pooling as GLSCL's, concept by concept, and a net that weights the concepts of a pair; its input is linear."""
    width, frames, size = config.width, config.frames, config.width // config.num_concepts
    logits = {"frame logits": frames * width}
    return Macs(
        {"hidden layer": width * 4 * size},
        temporal(config) | {"Gram matrices": frames**2 * width, "hidden layer": frames * width * 4 * size},
        logits
        | {"products by concept": frames * width, "pooled lengths": config.num_concepts * frames**2}
        | {"hidden layer": config.num_concepts * frames * 4 * size, "weights": config.num_concepts * 4 * size},
        logits
        | {"pooled vector": frames * width, "cosines": width}
        | {"hidden layer": 2 * width * 4 * size, "weights": config.num_concepts * 4 * size},
    )


def x_clip(config: RetrievalConfig) -> Macs:
    """Four scores of sentence and words with video and frames, and attention over them by learnable square matrices."""
    width, frames, words = config.width, config.frames, config.words
    pair = {
        "words with frames": words * frames * width,
        "words with video": words * width,
        "sentence with frames": frames * width,
        "sentence with video": width,
        "attention over words": (frames + 2) * words**2,
        "attention over frames": (words + 2) * frames**2,
    }
    return Macs({"learnable matrices": (1 + words) * width**2}, temporal(config), pair, pair)


def glccl(config: RetrievalConfig) -> Macs:
    """Pooling by the sentence and by every word from products and Gram matrix; then X-CLIP's scores and attention."""
    width, frames, words = config.width, config.frames, config.words
    attention = {"attention over words": 4 * words**2 + 2 * words**3}
    return Macs(
        {"learnable matrix": width**2},
        temporal(config) | {"learnable matrix": frames * width**2, "Gram matrix": frames**2 * width},
        attention
        | {"sentence with frames": 2 * frames * width, "words with frames": 2 * words * frames * width}
        | {"pooled lengths": (1 + words) * frames**2, "words with pooled frames": words**2 * frames},
        attention
        | {"logits and pooled vectors": 2 * (1 + words) * frames * width, "sentence and words with video": width}
        | {"sentence and words with pooled vectors": (1 + words) * words * width + words * width},
    )


FORMULAS: dict[str, Callable[[RetrievalConfig], Macs]] = {
    "cross_encoder": cross_encoder,
    "dicosa": dicosa,
    "drl": drl,
    "glccl": glccl,
    "glscl": glscl,
    "mean_pooling": mean_pooling,
    "t_mass": t_mass,
    "x_clip": x_clip,
    "x_pool": x_pool,
}


def what_was_published(config: RetrievalConfig) -> dict[str, dict[str, int]]:
    """Terms per pair that sum to the entries of `PUBLISHED`, to its digits or 0.1 %, by method: our reading of it."""
    width, frames, words = config.width, config.frames, config.words
    return {
        "mean_pooling": {"cosine": width},
        "dicosa": {"cosine": width},
        "glscl": {"global cosine": width, "one concept": width},
        "x_clip": {
            "word with frame": words * frames * width,
            "sentence with frame": frames * width,
            "word with video": words * width,
            "sentence with video": width,
            "attention over words and frames": words**2 + frames**2,
        },
        "x_pool": {"one linear layer": width**2, "frame logits and pooled vector": 2 * frames * width, "cosine": width},
    }
