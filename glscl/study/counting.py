"""Heads with random weights at the size of CLIP ViT-B/32: multiply-accumulates as torch counts them, and bytes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig
from transformers.initialization import no_init_weights

from glscl.base import MatchingHead, take
from glscl.config import RetrievalConfig
from glscl.methods import METHODS
from glscl.rivals.mean_pooling import MeanPooling, MeanPoolingConfig

SIZES = {"short": (12, 32), "long": (64, 64)}  # frames, words: MSR-VTT's, and DiDeMo's and ActivityNet's
SHORT = "short"  # the size of the paper's cost column

ALSO = {torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1]}  # which torch's counter leaves out


def config_of(method: str, frames: int, words: int, width: int = 512, **settings) -> RetrievalConfig:
    """The configuration of a head, sized as for CLIP ViT-B/32 where width is 512."""
    clip = CLIPConfig(projection_dim=width, text_config={"hidden_size": width, "intermediate_size": 4 * width})
    return METHODS[method].config_class(clip_config=clip, frames=frames, words=words, **settings)


def build(method: str, frames: int, words: int, width: int = 512, **settings) -> MatchingHead:
    """A head with random weights in evaluation mode, of `config_of`."""
    return METHODS[method].head_class(config_of(method, frames, words, width, **settings)).eval()


def random_features(
    config: RetrievalConfig, items: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Features as CLIP makes them, vectors of length 10 or so, nothing padded.

    Returns sentence (items, width), words (items, words, width) and mask, frames (items, frames, width) and mask.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(items, n, config.width) for n in (1, config.words, config.frames)]
    scale = 10 / config.width**0.5
    sentence, words, frames = (scale * torch.randn(shape, generator=generator) for shape in shapes)
    return sentence[:, 0], words, torch.ones(words.shape[:2]), frames, torch.ones(frames.shape[:2])


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
    sentence, words, word_mask, frames, frame_mask = random_features(head.config, 2)
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


@torch.no_grad()
def plain_clip(config: CLIPConfig | None = None) -> MeanPooling:
    """CLIP in evaluation mode, ViT-B/32 where no other size is given, as the models hold it; all weights are equal.

    Neither work nor time depends on the weights, and to draw 151 million of them takes seconds.
    """
    with no_init_weights():
        clip = MeanPooling(MeanPoolingConfig(clip_config=config or CLIPConfig(), temporal_layers=0))
    for weight in clip.parameters():
        weight.fill_(0.01)
    return clip.eval()


def clip_inputs(clip: MeanPooling, words: int, items: int = 1) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Random sentences, token ids and mask (items, words), and as many videos of one frame.

    A video is pixels (items, 1, 3, side, side) and mask (items, 1).
    """
    generator, config = torch.Generator().manual_seed(0), clip.config.clip_config
    side, vocabulary = config.vision_config.image_size, config.text_config.vocab_size
    ids = torch.randint(vocabulary, (items, words), generator=generator)
    pixels = torch.randn(items, 1, 3, side, side, generator=generator)
    return (ids, torch.ones_like(ids)), (pixels, torch.ones(items, 1))


def count_clip(clip: MeanPooling, words: list[int]) -> dict[str, int]:
    """Multiply-accumulates of CLIP on one frame as `image` and on one sentence of each length as `N words`."""
    inputs = {length: clip_inputs(clip, length) for length in words}
    found = {"image": counted(lambda: clip.frame_features(*inputs[words[0]][1]))}
    return found | {f"{n} words": counted(lambda n=n: clip.text_features(*inputs[n][0])) for n in words}


def embedding_bytes(embeddings) -> float:
    """Bytes per item of the embeddings of a head."""
    return sum(tensor.nbytes for tensor in embeddings) / len(embeddings[0])


@torch.inference_mode()
def bytes_per_item(head: MatchingHead) -> dict[str, int]:
    """Bytes of the embeddings of one text and one video, nothing padded: {"text", "video"}."""
    sentence, words, word_mask, frames, frame_mask = random_features(head.config, 1)
    sides = head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask)
    return {item: round(embedding_bytes(side)) for item, side in zip(("text", "video"), sides, strict=True)}
