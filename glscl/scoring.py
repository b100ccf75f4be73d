"""Scores of all texts with all videos: every item encoded once, memory bounded by a block of the matrix."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import torch
from torch import Tensor

from glscl.base import MatchingHead, joined, take

ROWS, COLUMNS = 256, 4096  # of a block at most
NUMBERS = {"cpu": 2**20, "cuda": 2**26}  # in the largest tensor of a block: the processor's cache, a busy GPU


@torch.inference_mode()
def encode_all(encode: Callable[[Tensor], tuple], items: int, batch_size: int = 256):
    """Encode items 0..items-1 in batches, each once, and join the embeddings on the CPU.

    encode: index (batch,) -> the embeddings of those items. Raises ValueError without items.
    """
    if items == 0:
        raise ValueError("expected at least one item to encode, got none; check the split.")
    batches = [encode(index) for index in torch.arange(items).split(batch_size)]
    return joined([type(batch)(*(tensor.cpu() for tensor in batch)) for batch in batches])


@torch.inference_mode()
def similarity_matrix(model, texts, videos, dtype: torch.dtype | None = None) -> Tensor:
    """All scores (texts, videos), float32 on the CPU, in blocks that bound the memory.

    model: a model or a head. dtype: bfloat16 or float16 for matrix products in half precision; float32 where absent.
    Raises ValueError for embeddings of another head or width, an empty side, or a score that is not finite.
    """
    head = _head(model)
    head.require_embeddings(texts, videos)
    scores = torch.empty(len(texts[0]), len(videos[0]))
    for rows, columns, block in _blocks(head, texts, videos, dtype):
        scores[rows, columns] = block
    return scores


@torch.inference_mode()
def top_k(model, texts, videos, k: int, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The k best videos of every text: scores (texts, k), best first, and their indices (texts, k).

    Streams over the gallery and holds no more than the best of a block of texts; arguments as `similarity_matrix`.
    Raises ValueError where k is not from 1 to the size of the gallery.
    """
    head = _head(model)
    head.require_embeddings(texts, videos)
    if not 1 <= k <= len(videos[0]):
        raise ValueError(f"k must be from 1 to the {len(videos[0])} videos of the gallery, got {k}; ask for fewer.")
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for rows, columns, block in _blocks(head, texts, videos, dtype):
        index = torch.arange(columns.start, columns.stop, device=block.device).expand(len(block), -1)
        if rows.start in found:
            best, where = found[rows.start]
            block, index = torch.cat([best, block], 1), torch.cat([where, index], 1)
        best, position = block.topk(min(k, block.shape[1]), sorted=True)
        found[rows.start] = best, index.gather(1, position)
    scores, indices = zip(*(found[start] for start in sorted(found)), strict=True)
    return torch.cat(scores).cpu(), torch.cat(indices).cpu()


def _head(model) -> MatchingHead:
    return getattr(model, "head", model)


def _blocks(head: MatchingHead, texts, videos, dtype) -> Iterable[tuple[slice, slice, Tensor]]:
    """Rows, columns and scores of every block; all texts meet one part of the gallery before the next is loaded."""
    device = next(head.parameters()).device
    if getattr(head.config, "released_evaluation", False):  # its leak pairs whole matrices
        shape = len(texts[0]), len(videos[0])
    else:
        pairs = max(1, NUMBERS[device.type] // head.numbers_per_pair)
        rows = min(len(texts[0]), ROWS, pairs)
        shape = rows, max(1, min(COLUMNS, pairs // rows))
    half = torch.autocast(device.type, dtype) if dtype else nullcontext()
    for columns in _slices(len(videos[0]), shape[1]):
        part = take(videos, columns, device)
        for rows in _slices(len(texts[0]), shape[0]):
            with half:
                block = head.similarity(take(texts, rows, device), part).float()
            if not torch.isfinite(block).all():
                raise ValueError(
                    f"scores must be finite, got NaN or infinity among texts {rows.start} to {rows.stop - 1} and "
                    f"videos {columns.start} to {columns.stop - 1}; look for damaged inputs or overflow in {dtype}."
                )
            yield rows, columns, block


def _slices(count: int, size: int) -> Iterable[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
