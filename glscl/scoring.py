"""Scores of all texts with all videos: every item encoded once, memory bounded by a block of the matrix."""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    return joined([on_cpu(encode(index)) for index in torch.arange(items).split(batch_size)])


def on_cpu(embeddings):
    """The same embeddings on the CPU."""
    return type(embeddings)(*(tensor.cpu() for tensor in embeddings))


@torch.inference_mode()
def similarity_matrix(model, texts, videos, dtype: torch.dtype | None = None) -> Tensor:
    """All scores (texts, videos), float32 on the CPU, in blocks that bound the memory; on all GPUs, if there are.

    model: a model or a head. dtype: bfloat16 or float16 for matrix products in half precision; float32 where absent.
    Raises ValueError for embeddings of another head or width, an empty side, or a score that is not finite.
    """
    head = _head(model)
    head.require_embeddings(texts, videos)
    scores = torch.empty(len(texts[0]), len(videos[0]))

    def fill(head: MatchingHead, gallery: slice) -> None:
        for rows, columns, block in _blocks(head, texts, videos, gallery, dtype):
            scores[rows, columns] = block

    _on_every_gpu(fill, head, len(videos[0]))
    return scores


@torch.inference_mode()
def top_k(model, texts, videos, k: int, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The k best videos of every text: scores (texts, k), best first, and their indices (texts, k).

    Streams over the gallery and holds no more than the best of a block of texts; arguments as `similarity_matrix`.
    Raises ValueError where k is not from 1 to the size of the gallery, or a score is not finite.
    """
    head = _head(model)
    head.require_embeddings(texts, videos)
    if not 1 <= k <= len(videos[0]):
        raise ValueError(f"k must be from 1 to the {len(videos[0])} videos of the gallery, got {k}; ask for fewer.")
    parts = _on_every_gpu(lambda head, gallery: _best(head, texts, videos, gallery, k, dtype), head, len(videos[0]))
    scores, indices = (torch.cat(side, 1) for side in zip(*parts, strict=True))
    if len(parts) > 1:
        scores, position = scores.topk(k, sorted=True)
        indices = indices.gather(1, position)
    return scores, indices


def _best(head: MatchingHead, texts, videos, gallery: slice, k: int, dtype) -> tuple[Tensor, Tensor]:
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for rows, columns, block in _blocks(head, texts, videos, gallery, dtype):
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


def _on_every_gpu(call: Callable[[MatchingHead, slice], object], head: MatchingHead, videos: int) -> list:
    """call(head, part of the gallery) for equal parts, one for each GPU at the same time, in the order of the parts."""
    heads = [head, *_copies(head)] if videos > COLUMNS and not _pairs_whole(head) else [head]
    size = -(-videos // len(heads))
    if len(heads) == 1:
        return [call(head, slice(0, videos))]
    with ThreadPoolExecutor(len(heads)) as pool:
        return list(pool.map(torch.inference_mode()(call), heads, _slices(videos, size)))


def _copies(head: MatchingHead) -> list[MatchingHead]:
    """The head on every other GPU; none where it is on the CPU."""
    here = next(head.parameters()).device
    others = range(torch.cuda.device_count()) if here.type == "cuda" else []
    return [copy.deepcopy(head).to(f"cuda:{number}") for number in others if number != here.index]


def _pairs_whole(head: MatchingHead) -> bool:
    """Whether the released evaluation is asked for, whose leak pairs whole matrices."""
    return getattr(head.config, "released_evaluation", False)


def _blocks(head: MatchingHead, texts, videos, gallery: slice, dtype) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and scores of every block of a part of the gallery, all texts with one block of videos at a time.

    Embeddings are moved to the device of the head once, where all fit into half of its free memory. Raises ValueError
    after the last block where a score was not finite: a GPU would wait for each.
    """
    device = next(head.parameters()).device
    if _pairs_whole(head):
        shape = len(texts[0]), len(videos[0])
    else:
        pairs = max(1, NUMBERS[device.type] // head.numbers_per_pair)
        rows = min(len(texts[0]), ROWS, pairs)
        shape = rows, max(1, min(COLUMNS, pairs // rows))
    if device.type == "cuda" and sum(t.nbytes for t in (*texts, *videos)) < torch.cuda.mem_get_info(device)[0] / 2:
        texts, videos = take(texts, slice(None), device), take(videos, slice(None), device)
    half = torch.autocast(device.type, dtype) if dtype else nullcontext()
    parts, pieces = list(_slices(gallery.stop, shape[1], gallery.start)), list(_slices(len(texts[0]), shape[0]))
    finite = torch.ones(len(parts), len(pieces), dtype=torch.bool, device=device)
    for place, columns in enumerate(parts):
        part = take(videos, columns, device)
        for number, rows in enumerate(pieces):
            with half:
                block = head.similarity(take(texts, rows, device), part).float()
            finite[place, number] = torch.isfinite(block).all()
            yield rows, columns, block
    if not finite.all():
        place, number = (~finite).nonzero()[0].tolist()
        columns, rows = parts[place], pieces[number]
        raise ValueError(
            f"scores must be finite, got NaN or infinity among texts {rows.start} to {rows.stop - 1} and videos "
            f"{columns.start} to {columns.stop - 1}; look for damaged inputs or overflow in {dtype or 'float32'}."
        )


def _slices(stop: int, size: int, start: int = 0) -> Iterator[slice]:
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))
