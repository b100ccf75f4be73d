"""What the losses of GLSCL see while it trains: cosines within a video with dropout and without, gradients by term."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from glscl.encoding import encode_texts, encode_videos
from glscl.evaluation.concepts import within_items
from glscl.losses import DIVERSITY_MARGIN, inter_consistency_loss, intra_diversity_loss
from glscl.model import GLSCL, Texts, Videos

HINGE = 1 - DIVERSITY_MARGIN  # the diversity loss pushes two concepts apart above this batch-mean cosine


def rank_of_equal_cosines(cosine: float, concepts: int) -> float:
    """Effective rank of so many unit vectors, every two of which have the same cosine, from 0 to 1.

    Their Gram matrix has the eigenvalues 1 + (concepts - 1) cosine, once, and 1 - cosine.
    """
    shares = [(1 + (concepts - 1) * cosine) / concepts, *[(1 - cosine) / concepts] * (concepts - 1)]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


class Seen(NamedTuple):
    """A batch of pairs as the losses see it with dropout, `train`, and as a search sees it, `eval`.

    within_train, within_eval: mean cosine of two concepts of a video. hinge_train, hinge_eval: the diversity loss
    before its weight; it is 0 where no two concepts have a batch-mean cosine above `HINGE`.
    """

    within_train: float
    within_eval: float
    hinge_train: float
    hinge_eval: float


def loss_terms(model: GLSCL, texts: Texts, videos: Videos) -> dict[str, Tensor]:
    """The weighted terms of `GLSCLHead.loss`, with the two of inter-consistency apart: `moments` and `target`."""
    config, concepts = model.config, (texts.concepts, videos.concepts)
    return {
        "contrastive": model.head.contrastive(texts, videos, model.similarity(texts, videos)),
        "moments": inter_consistency_loss(*concepts, config.variant, config.moment_weight, 0.0),
        "target": inter_consistency_loss(*concepts, config.variant, 0.0, config.consistency_weight),
        "diversity": config.diversity_weight * intra_diversity_loss(*concepts, config.variant),
    }


def gradient_norms(model: GLSCL, batch: dict[str, Tensor], seed: int = 0) -> dict[str, float]:
    """Norm of the gradient of each of `loss_terms` with respect to all weights of the head, with dropout.

    batch: of a `glscl.data.dataset.Split`. The dropout is the same for all terms. The model ends in evaluation mode.
    """
    weights = list(model.head.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        terms = loss_terms(model.train(), encode_texts(model, batch), encode_videos(model, batch))
    model.eval()
    norms = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norms[name] = sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5
    return norms


@torch.no_grad()
def seen(model: GLSCL, batch: dict[str, Tensor], seed: int = 0) -> Seen:
    """What the diversity loss sees of a batch, in training and in evaluation mode; the model ends in the latter."""
    found = {}
    for mode in ("train", "eval"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.train(mode == "train")
            concepts = encode_texts(model, batch).concepts, encode_videos(model, batch).concepts
        found[f"within_{mode}"] = within_items(concepts[1]).mean().item()
        found[f"hinge_{mode}"] = intra_diversity_loss(*concepts, model.config.variant).item()
    return Seen(**found)
