"""What the released code of GLSCL and X-Pool does per block of pairs; the scores are the same."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glscl.model import GLSCLHead, local_similarity
from glscl.rivals.x_pool import TextConditionedPooling


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

    sentence and query (texts, width); keys, and values before the output layer (videos, frames, width), none
    absent. The numbers of `similarity`; layer6ai-labs/xpool, modules/transformer.py.
    """
    weights = (keys @ query.T).softmax(1)  # (videos, frames, texts)
    attended = pooling.norm_attended(pooling.out(weights.transpose(1, 2) @ values))
    pooled = F.normalize(pooling.norm_pooled(attended + pooling.linear(attended)), dim=-1)
    return torch.einsum("td,vtd->tv", F.normalize(sentence, dim=-1), pooled)
