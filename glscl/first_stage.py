"""The first stage of a large search: vectors of texts and videos whose inner products stand in for the score.

The best videos by these vectors are candidates, which the head then scores itself; so a search can miss a video, but
never has a wrong score. A text has one vector. Heads that let the text weight the frames look at the part of a video
that fits: there a video has `GROUPS` vectors, one for each group of frames that are alike, and the best of them counts.
With "group" for the unit-length mean of its frames:

    mean pooling     its own, one per video: the inner product is the score
    GLSCL            sentence and mean concept; group and mean concept. Concepts as released nearly agree, so that their
                     mean says what they say
    X-Pool, T-MASS   sentence, of T-MASS with the mean of its noise; what X-Pool's layers make of the group's frames
    DiCoSA           concepts of the sentence, as its net weights them without a video; concepts of the group
    DRL              words, weighted as DRL does; group
    GLCCL, X-CLIP    sentence and mean word, each also under the learned matrix; group, for X-CLIP beside its video
    cross-encoder    sentence and mean frame, one per video: its own first stage

The last four look at single words and frames, which no few vectors hold: docs/large.md says what they miss.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from glscl.base import MatchingHead, take
from glscl.model import GLSCLHead
from glscl.rivals.cross_encoder import CrossEncoderHead
from glscl.rivals.dicosa import DiCoSAHead
from glscl.rivals.drl import DRLHead
from glscl.rivals.glccl import GLCCLHead
from glscl.rivals.mean_pooling import MeanPoolingHead
from glscl.rivals.t_mass import TMASSHead
from glscl.rivals.x_clip import XCLIPHead
from glscl.rivals.x_pool import XPoolHead

GROUPS = 4  # of the frames of a video
ROUNDS = 3  # of moving frames to the nearest group


@torch.inference_mode()
def text_vectors(head: MatchingHead, texts) -> Tensor:
    """Vectors of text embeddings, for inner products with those of `video_vectors`: (texts, numbers), on the CPU."""
    return VECTORS[type(head)][0](head, take(texts, slice(None), head.logit_scale.device)).float().cpu()


@torch.inference_mode()
def video_vectors(head: MatchingHead, videos) -> Tensor:
    """Vectors of video embeddings: (videos, 1 or `GROUPS`, numbers), on the CPU."""
    return VECTORS[type(head)][1](head, take(videos, slice(None), head.logit_scale.device)).float().cpu()


def shares(frames: Tensor, mask: Tensor) -> Tensor:
    """Groups of frames that are alike, as the share of each frame in the mean of its group: (videos, groups, frames).

    frames (videos, frames, width), mask (videos, frames). Each group is begun by the frame that is least like those
    before it; a group without frames is the mean of all.
    """
    unit, rows = normalize(frames, dim=-1), torch.arange(len(frames), device=frames.device)
    first = mask.int().argmax(1)
    centres = [unit[rows, first]]
    for _ in range(GROUPS - 1):
        nearest = (unit @ torch.stack(centres, 2)).amax(2).masked_fill(mask == 0, torch.inf)
        centres.append(unit[rows, nearest.argmin(1)])
    centres = torch.stack(centres, 1)
    for _ in range(ROUNDS):
        own = one_hot((unit @ centres.transpose(1, 2)).argmax(2), GROUPS).transpose(1, 2) * mask[:, None]
        own = torch.where(own.any(2, keepdim=True), own, mask[:, None]).float()
        own = own / own.sum(2, keepdim=True)
        centres = normalize(own @ unit, dim=-1)
    return own


def _mean_word(words: Tensor, mask: Tensor) -> Tensor:
    return (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _unit_sentence(head: MatchingHead, texts) -> Tensor:
    return normalize(texts.sentence, dim=-1)


def _groups(head: MatchingHead, videos) -> Tensor:
    return normalize(shares(videos.frames, videos.mask) @ videos.frames, dim=-1)


def _with_each(groups: Tensor, vectors: Tensor) -> Tensor:
    """The vector of a video (videos, numbers) beside each of its groups (videos, groups, width)."""
    return torch.cat([groups, vectors[:, None].expand(-1, groups.shape[1], -1)], 2)


def _glscl_texts(head: GLSCLHead, texts) -> Tensor:
    return torch.cat([_unit_sentence(head, texts), head.config.local_weight * texts.concepts.mean(1)], 1)


def _glscl_videos(head: GLSCLHead, videos) -> Tensor:
    return _with_each(_groups(head, videos), videos.concepts.mean(1))


def _x_pool_videos(head: XPoolHead | TMASSHead, videos) -> Tensor:
    weights = shares(videos.keys, videos.mask).transpose(1, 2)
    return head.pooling.combination_of(weights, videos).transpose(1, 2) @ videos.rows


def _t_mass_texts(head: TMASSHead, texts) -> Tensor:
    noise = 0.5 if head.config.noise_prior == "uniform" else 0.0
    radius = head.radii(texts.sentence.new_zeros(1, head.config.frames))
    return normalize(texts.sentence + noise * radius, dim=-1)


def _dicosa_texts(head: DiCoSAHead, texts) -> Tensor:
    weights = head.score(texts.hidden.relu())  # (texts, concepts, 1)
    return (weights * normalize(head.concepts(texts.sentence), dim=-1)).flatten(1)


def _dicosa_videos(head: DiCoSAHead, videos) -> Tensor:
    return normalize(head.concepts(shares(videos.frames, videos.mask) @ videos.frames), dim=-1).flatten(2)


def _drl_texts(head: DRLHead, texts) -> Tensor:
    return (texts.words * texts.weights[..., None]).sum(1)


def _glccl_texts(head: GLCCLHead, texts) -> Tensor:
    words = _mean_word(texts.words, texts.mask)
    return (texts.mapped + words + _unit_sentence(head, texts) + words @ head.word_frame) / 4


def _x_clip_texts(head: XCLIPHead, texts) -> Tensor:
    words, mapped = (_mean_word(side, texts.mask) for side in (texts.words, texts.mapped_words))
    return torch.cat([texts.sentence + mapped, texts.mapped_sentence + words], 1) / 4


def _x_clip_videos(head: XCLIPHead, videos) -> Tensor:
    return _with_each(_groups(head, videos), videos.video)


VECTORS = {
    MeanPoolingHead: (lambda head, texts: texts.sentence, lambda head, videos: videos.video[:, None]),
    GLSCLHead: (_glscl_texts, _glscl_videos),
    XPoolHead: (_unit_sentence, _x_pool_videos),
    TMASSHead: (_t_mass_texts, _x_pool_videos),
    DiCoSAHead: (_dicosa_texts, _dicosa_videos),
    DRLHead: (_drl_texts, _groups),
    GLCCLHead: (_glccl_texts, _groups),
    XCLIPHead: (_x_clip_texts, _x_clip_videos),
    CrossEncoderHead: (_unit_sentence, lambda head, videos: videos.pooled[:, None]),
}
