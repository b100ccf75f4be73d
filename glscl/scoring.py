"""Scores of all texts with all videos: every item encoded once, memory bounded by a block of the matrix."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def take(states, index, device=None):
    """Rows `index` of the tensors that a head keeps per item, on `device` where one is named."""
    return type(states)(*(tensor[index].to(device) for tensor in states))


@torch.inference_mode()
def encode_all(encode: Callable[[Tensor], tuple], items: int, batch_size: int = 256):
    """Encode items 0..items-1 in batches, each once, and join what the head keeps per item on the CPU.

    encode: index (batch,) -> the head's states of those items. Raises ValueError without items.
    """
    if items == 0:
        raise ValueError("expected at least one item to encode, got none; check the split.")
    batches = [encode(index) for index in torch.arange(items).split(batch_size)]
    return type(batches[0])(
        *(torch.cat([tensor.cpu() for tensor in tensors]) for tensors in zip(*batches, strict=True))
    )


def blocks(count: int, size: int) -> Iterable[slice]:
    """Consecutive slices of at most `size` that cover `count` items."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@torch.inference_mode()
def similarity_matrix(head, texts, videos, block: int = 256) -> Tensor:
    """All scores (texts, videos), float32, in blocks of block x block pairs.

    head: a model or a head with `similarity(texts, videos)` whose entries depend on their own pair alone.
    A block of GLSCL needs about three times block x block x frames numbers.
    """
    device = next(head.parameters()).device
    scores = torch.empty(len(texts[0]), len(videos[0]))
    for column in blocks(len(videos[0]), block):
        part = take(videos, column, device)
        for row in blocks(len(texts[0]), block):
            scores[row, column] = head.similarity(take(texts, row, device), part)
    return scores
