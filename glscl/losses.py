"""The three losses of GLSCL: contrastive, inter-consistency across modalities, intra-diversity within one.

Two variants stand side by side. `released` follows the authors' code to the digit; `described` follows the abstract
and the framework figure. The printed equations were not at hand, so the readings marked "presumed" are ours.
The released code swaps two names: its `Intra_Consistency` is the paper's inter-consistency loss, its
`Inter_Diversity` the paper's intra-diversity loss. `docs/differences.md` compares the three sources line by line.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CONSISTENCY_TARGET = 0.75
DIVERSITY_MARGIN = 0.1


def contrastive_loss(similarity: Tensor, logit_scale: Tensor, text_bias=0.0, video_bias=0.0) -> Tensor:
    """Symmetric InfoNCE over a batch of matching pairs.

    similarity: (texts, videos), square; pair i is text i with video i.
    logit_scale: scalar, the logarithm of the inverse temperature; its exponential is held to at most 100, as in CLIP.
    text_bias, video_bias: (texts,) and (videos,), added to the logits where these items are candidates (NCL).
    Two captions of one video in a batch count as negatives of each other, as in the release.
    """
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(
            f"the loss expects as many texts as videos, text i with video i, got {tuple(similarity.shape)}; "
            "give one video per text."
        )
    logits = logit_scale.exp().clamp(max=100) * similarity
    pair = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits + video_bias, pair) + F.cross_entropy(logits.T + text_bias, pair)) / 2


def sinkhorn_biases(logits: Tensor, iterations: int = 4, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    """Biases towards the same total probability for every text, and for every video (NCL, arXiv 2212.11790).

    logits: (texts, videos). Sinkhorn-Knopp in the log domain: exp(logits + text bias + video bias) has columns that
    sum to 1 / videos, and rows that come to sum to 1 / texts; at a logit scale of 100 that takes 50 to 200 iterations.
    iterations: at most. tolerance: they end where no bias of a text moved by more, so that the total probability of
    every video, as the softmax over videos of each text gives it, is off by at most this share of what is due.
    Returns (texts,) and (videos,).
    """
    video_bias, text_bias = logits.new_zeros(logits.shape[1]), torch.inf
    for _ in range(iterations):
        before = text_bias
        text_bias = -math.log(logits.shape[0]) - (logits + video_bias).logsumexp(1)
        video_bias = -math.log(logits.shape[1]) - (logits + text_bias[:, None]).logsumexp(0)
        if (text_bias - before).abs().max() <= tolerance:
            break
    return text_bias, video_bias


def inter_consistency_loss(
    text_concepts: Tensor, video_concepts: Tensor, variant: str, moment_weight: float, consistency_weight: float
) -> Tensor:
    """Align concept k of a text with concept k of its video.

    text_concepts, video_concepts: (pairs, concepts, width), unit length along width.
    The first term matches the batch means of the two modalities entry by entry. The second pulls the cosine of
    matching concepts, summed over the batch and divided by a count, towards 0.75:

    * `released` divides by the number of CONCEPTS, so the cosine that minimises the term is
      0.75 * concepts / pairs: 0.047 for 8 concepts and 128 pairs. It depends on the batch size.
    * `described` (presumed) divides by the number of PAIRS, so the mean cosine itself is pulled to 0.75.
    """
    moments = F.mse_loss(text_concepts.mean(0), video_concepts.mean(0))
    count = text_concepts.shape[1] if variant == "released" else text_concepts.shape[0]
    matched = (text_concepts * video_concepts).sum(-1).sum(0) / count  # (concepts,)
    return moment_weight * moments + consistency_weight * (matched - CONSISTENCY_TARGET).square().sum()


def intra_diversity_loss(text_concepts: Tensor, video_concepts: Tensor, variant: str) -> Tensor:
    """Keep the concepts of one modality apart: a hinge on the batch-mean cosine of every two concepts.

    text_concepts, video_concepts: (pairs, concepts, width), unit length along width.
    The hinge opens above a cosine of 0.9, so each modality adds a value in [0, 0.2]. `released` looks at the video
    concepts alone; `described` adds the text concepts, as the abstract has it (that the two are summed is presumed).
    """
    loss = _diversity_hinge(video_concepts)
    return loss if variant == "released" else loss + _diversity_hinge(text_concepts)


def _diversity_hinge(concepts: Tensor) -> Tensor:
    count = concepts.shape[1]
    if count == 1:
        return concepts.new_zeros(())
    cosine = torch.einsum("bkd,bld->kl", concepts, concepts) / len(concepts)
    hinge = (DIVERSITY_MARGIN + cosine - 1).clamp(min=0)
    # The release ranks rows and columns of this symmetric matrix: the same sum twice.
    return 2 * (hinge.sum() - hinge.diagonal().sum()) / (count * (count - 1))
