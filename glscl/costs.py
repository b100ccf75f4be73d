"""What a head costs: multiply-accumulates by formula and by torch's counter, and bytes kept per item.

Counted are matrix products alone, at full length (no padding). Per text and per video is what a head computes once and
keeps, the temporal encoder and GLSCL's concept decoder among it; CLIP is left out. Per pair is `similarity`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig

from glscl.config import RetrievalConfig
from glscl.head import MatchingHead, take
from glscl.model import GLSCLHead, local_similarity
from glscl.rivals import METHODS
from glscl.rivals.dicosa import CONCEPTS
from glscl.rivals.t_mass import TRIALS
from glscl.rivals.x_pool import TextConditionedPooling

SIZES = {"short": (12, 32), "long": (64, 64)}  # frames, words: MSR-VTT's, and DiDeMo's and ActivityNet's

ALSO = {torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1]}  # which torch's counter leaves out

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
    """Transformer layers over `positions` states: four projections, attention, and a feed-forward net."""
    return layers * (4 * positions * width**2 + 2 * positions**2 * width + 2 * positions * width * ffn)


def temporal(config: RetrievalConfig) -> dict[str, int]:
    """The temporal encoder, per video."""
    ffn = config.clip_config.text_config.intermediate_size
    return {"temporal encoder": transformer(config.frames, config.width, ffn, config.temporal_layers)}


def mean_pooling(config: RetrievalConfig) -> Macs:
    """One inner product per pair."""
    pair = {"cosine": config.width}
    return Macs({}, temporal(config), pair, pair)


def concepts(config: RetrievalConfig, positions: int) -> int:
    """GLSCL's decoder over a memory of `positions` states: self-attention, cross-attention and feed-forward net."""
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
    width, frames, size = config.width, config.frames, config.width // CONCEPTS
    logits = {"frame logits": frames * width}
    return Macs(
        {"hidden layer": width * 4 * size},
        temporal(config) | {"Gram matrices": frames**2 * width, "hidden layer": frames * width * 4 * size},
        logits
        | {"products by concept": frames * width, "pooled lengths": CONCEPTS * frames**2}
        | {"hidden layer": CONCEPTS * frames * 4 * size, "weights": CONCEPTS * 4 * size},
        logits
        | {"pooled vector": frames * width, "cosines": width}
        | {"hidden layer": 2 * width * 4 * size, "weights": CONCEPTS * 4 * size},
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


def build(method: str, frames: int, words: int, width: int = 512, **settings) -> MatchingHead:
    """A head with random weights in evaluation mode, sized as for CLIP ViT-B/32 where width is 512."""
    clip = CLIPConfig(projection_dim=width, text_config={"hidden_size": width, "intermediate_size": 4 * width})
    kind = METHODS[method]
    return kind.head_class(kind.config_class(clip_config=clip, frames=frames, words=words, **settings)).eval()


def random_states(config: RetrievalConfig, items: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """States as CLIP makes them, vectors of length 10 or so, nothing padded.

    Returns sentence (items, width), words (items, words, width) and mask, frames (items, frames, width) and mask.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(items, n, config.width) for n in (1, config.words, config.frames)]
    scale = 10 / config.width**0.5
    sentence, words, frames = (scale * torch.randn(shape, generator=generator) for shape in shapes)
    return sentence[:, 0], words, torch.ones(words.shape[:2]), frames, torch.ones(frames.shape[:2])


def pooled_similarity(sentence: Tensor, frames: Tensor, mask: Tensor, temperature: float, net: nn.Module) -> Tensor:
    """GLSCL's global similarity (texts, videos) as released: the numbers of `global_similarity` by a vector per pair.

    sentence (texts, width); frames (videos, frames, width) after the temporal encoder and mask (videos, frames). net:
    runs on every pair of sentence and pooled vector, and what it says is used nowhere; see `weighting_net`.
    """
    weights = (torch.einsum("td,vfd->tvf", sentence, frames) / temperature).softmax(-1) * mask
    pooled = torch.einsum("tvf,vfd->tvd", weights, frames)
    net(torch.cat([sentence[:, None].expand_as(pooled), pooled], -1))
    return torch.einsum("td,tvd->tv", F.normalize(sentence, dim=-1), F.normalize(pooled, dim=-1))


def released_glscl(head: GLSCLHead, net: nn.Module, texts: tuple[Tensor, ...], videos: tuple[Tensor, ...]) -> Tensor:
    """Scores of a block (texts, videos) as the release computes them, the concepts of its items decoded in every block.

    texts: sentence, words, mask. videos: frames after the temporal encoder, mask. The numbers of `similarity`; see
    zchoi/GLSCL, main_retrieval.py, whose blocks are 16 x 16, and `similarity` and `_score` of tvr/models/modeling.py.
    """
    (sentence, words, word_mask), (frames, frame_mask) = texts, videos
    local = local_similarity(head.local(words, word_mask), head.local(frames, frame_mask))
    pooled = pooled_similarity(sentence, frames, frame_mask, head.config.temperature, net)
    return pooled + head.config.local_weight * local


def weighting_net(width: int) -> nn.Module:
    """The net that GLSCL's release runs on every pair; with one concept of full width its result has no use."""
    return nn.Sequential(nn.Linear(2 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 1))


def released_x_pool(pooling: TextConditionedPooling, sentence: Tensor, query: Tensor, keys: Tensor, values: Tensor):
    """X-Pool's scores of a block (texts, videos) as the release computes them, two linear layers on every pair.

    sentence, and query as kept (texts, width); keys, and values before the output layer (videos, frames, width), none
    absent. The numbers of `similarity`; layer6ai-labs/xpool, modules/transformer.py.
    """
    weights = (keys @ query.T).softmax(1)  # (videos, frames, texts)
    attended = pooling.norm_attended(pooling.out(weights.transpose(1, 2) @ values))
    pooled = F.normalize(pooling.norm_pooled(attended + pooling.linear(attended)), dim=-1)
    return torch.einsum("td,vtd->tv", F.normalize(sentence, dim=-1), pooled)


def counted(call: Callable[[], object]) -> int:
    """Multiply-accumulates of the matrix products in call(), by `FlopCounterMode`.

    It sees no fused attention on the CPU, so attention runs as plain products, and gradients stay on, because without
    them `nn.MultiheadAttention` takes a fused path too.
    """
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=ALSO) as found,
    ):
        call()
    return found.get_total_flops() // 2


def count(head: MatchingHead) -> dict[str, int]:
    """Multiply-accumulates per text, per video and per pair, as torch counts them in the head's own calls.

    Raises ValueError where `similarity` repeats work that depends on one item alone.
    """
    sentence, words, word_mask, frames, frame_mask = random_states(head.config, 2)
    texts, videos = head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)

    def pairs(n: int, m: int) -> int:
        return counted(lambda: head.similarity(take(texts, slice(n)), take(videos, slice(m))))

    # differences, because a call may begin with work that does not depend on its items
    per_text, per_video = pairs(2, 1) - pairs(1, 1), pairs(1, 2) - pairs(1, 1)
    per_pair = pairs(2, 2) - pairs(1, 2) - per_text
    if not per_text == per_video == per_pair:
        raise ValueError(
            f"similarity of {type(head).__name__} should do nothing but work of a pair, {per_pair} multiply-"
            f"accumulates, got {per_text - per_pair} per text and {per_video - per_pair} per video besides; move them "
            "to encode_texts and encode_videos."
        )

    def encode_texts(n: int) -> int:
        return counted(lambda: head.encode_texts(sentence[:n], words[:n], word_mask[:n]))

    def encode_videos(n: int) -> int:
        return counted(lambda: head.encode_videos(frames[:n], frame_mask[:n]))

    items = {"text": encode_texts(2) - encode_texts(1), "video": encode_videos(2) - encode_videos(1)}
    return items | {"pair": per_pair}
