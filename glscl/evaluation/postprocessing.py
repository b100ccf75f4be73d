"""What is done to a matrix of scores before it is ranked, so that no item wins too many queries.

Every function takes scores (queries, items) and returns float64 scores of the same shape. Rows are the queries: text to
video takes (texts, videos), video to text the transpose. An INDUCTIVE method answers one query at a time and needs a
bank, the scores (bank queries, items) of TRAINING queries with the same items by the same model: training texts for
text to video, training videos for video to text. A TRANSDUCTIVE method needs all test queries at once: its results are
no results of a system that answers one user at a time.
"""

import math

import numpy as np
import torch
from scipy.special import logsumexp, softmax

from glscl.losses import sinkhorn_biases
from glscl.metrics import per_query
from glscl.scoring import similarity_matrix

# GLSCL's release, whose calls are commented out; for ActivityNet beta is 50.
RELEASED_QB_NORM = {
    "t2v": {"k": 1, "beta": 70.0, "activation": 3},
    "v2t": {"k": 1, "beta": 70.0, "activation": 5},
}
BANK_ROWS = 4096  # read at a time: a bank may hold 180,000 training texts
ITERATIONS, TOLERANCE = 1000, 0.01  # of Sinkhorn: at most so many, and what a video may lack of its share


def qb_norm(scores, bank, k: int = 1, beta: float = 20.0, activation: int = 1) -> np.ndarray:
    """QB-Norm with the dynamic inverted softmax (arXiv 2112.12777). Inductive: needs a bank of training queries.

    scores: (queries, items). bank: (bank queries, items), on the scale of `scores`.
    k, activation: an item is a hub if it is among the k best of at least `activation` bank queries.
    beta: inverse temperature, in units of one score.
    The defaults are those of its release; GLSCL adds `activation`, its theta: see `RELEASED_QB_NORM`. GLSCL's bank
    lacks the local similarity that its scores have.

    A query whose best item is a hub gets a new row: score - log(sum of exp(beta * bank) over the bank) / beta. This is
    the logarithm of the published exp(beta * score) / sum, over beta: the same order, and it neither overflows nor
    ties. All other rows stay. Ties count as among the best.
    New and old rows differ in scale: compare the items of a query, never the queries of an item.
    Raises ValueError for scores and a bank that do not fit or are not finite, or parameters outside their range.
    """
    scores, bank = _checked(scores, bank)
    items = scores.shape[1]
    if not (1 <= k <= items and 0 < beta < math.inf and activation >= 1):
        raise ValueError(
            f"QB-Norm needs k from 1 to the {items} items, a finite beta above 0 and an activation of at least 1, got "
            f"k {k}, beta {beta} and activation {activation}; correct the call."
        )
    wins, sums = np.zeros(items, dtype=int), np.full(items, -np.inf)
    for start in range(0, len(bank), BANK_ROWS):
        part = bank[start : start + BANK_ROWS].astype(np.float64)
        wins += (part >= np.partition(part, -k, axis=1)[:, [-k]]).sum(0)
        sums = np.logaddexp(sums, logsumexp(beta * part, axis=0))
    best = scores == scores.max(1, keepdims=True)
    activated = (best & (wins >= activation)).any(1, keepdims=True)
    return np.where(activated, scores - sums / beta, scores)


def dual_softmax(scores, beta: float = 100.0) -> np.ndarray:
    """Dual softmax (CAMoE, arXiv 2109.04290): score * softmax of beta * scores over the QUERIES. TRANSDUCTIVE.

    scores: (queries, items). beta: inverse temperature; 100 on cosines, as T-MASS (arXiv 2403.17998) applies it.
    Needs no training query, but all test queries at once: the answer to a query changes with the other queries.
    CAMoE's loss also multiplies by the number of queries, which changes no rank. As published, the product turns the
    order of scores below 0, and logits instead of cosines would underflow to ties at 0.
    Raises ValueError for scores that are not finite or a beta that is not above 0.
    """
    scores, _ = _checked(scores)
    if not 0 < beta < math.inf:
        raise ValueError(f"the dual softmax needs a finite beta above 0, got {beta}; T-MASS takes 100 on cosines.")
    return scores * softmax(beta * scores, axis=0)


def normalised(scores, bank, scale: float) -> np.ndarray:
    """Normalised retrieval (NCL, arXiv 2212.11790): scale * score + bias of the item. Inductive: needs a bank.

    scores: (queries, items). bank: (bank queries, items), on the scale of `scores`.
    scale: inverse temperature of the model's contrastive loss, `head.logit_scale.exp()`, at most 100.
    Biases come from Sinkhorn iterations on scale * bank until the bank finds every item equally often, to 1 %, or for
    1,000 iterations. (Four, as in training, leave items at a scale of 100 with a third to twice of what is due.)
    Raises ValueError for scores and a bank that do not fit or are not finite, or a scale that is not above 0.
    """
    scores, bank = _checked(scores, bank)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be finite and above 0, got {scale}; give the model's exp(logit_scale).")
    _, bias = sinkhorn_biases(scale * torch.as_tensor(bank, dtype=torch.float64), ITERATIONS, TOLERANCE)
    return scale * scores + bias.numpy()


POST_PROCESSING = {
    "QB-Norm (inductive)": lambda scores, bank, scale: qb_norm(scores, bank, beta=scale),
    "NCL bias (inductive)": normalised,
    "dual softmax (transductive)": lambda scores, bank, scale: dual_softmax(scores, beta=scale),
}


def post_processed(model, scores, test: tuple, bank: tuple, video_of_text) -> dict[str, dict]:
    """What `per_query` gives for the scores of a test split after each of `POST_PROCESSING`.

    scores: (texts, videos). test, bank: embeddings (texts, videos) by the same model, of the test split and of training
    queries. Text to video looks at the texts of the bank, video to text at its videos, both scored with the test items.
    video_of_text: (texts,), indices of the right videos. The inverse temperature is the model's, exp(logit_scale).
    """
    sides = _sides(model, scores, test, bank)
    return {name: _ranked(process, *sides, model, video_of_text) for name, process in POST_PROCESSING.items()}


def as_published(model, scores, test: tuple, bank: tuple, video_of_text) -> dict[str, dict]:
    """What `per_query` gives for the scores as the method of the model was published; arguments as `post_processed`.

    NCL adds its bias at test too, from stored training queries: a model whose `contrastive` is `ncl` is `normalised`.
    All others are ranked by their scores.
    """
    if model.config.contrastive != "ncl":
        return per_query(np.asarray(scores), np.asarray(video_of_text))
    return _ranked(normalised, *_sides(model, scores, test, bank), model, video_of_text)


def _sides(model, scores, test: tuple, bank: tuple) -> tuple[tuple, tuple]:
    """Scores (queries, items) of the test split and of the bank, of text to video and of video to text."""
    (texts, videos), (bank_texts, bank_videos) = test, bank
    return (
        (np.asarray(scores), similarity_matrix(model, bank_texts, videos).numpy()),
        (np.asarray(scores).T, similarity_matrix(model, texts, bank_videos).numpy().T),
    )


def _ranked(process, to_videos: tuple, to_texts: tuple, model, video_of_text) -> dict[str, dict]:
    scale, right = model.head.logit_scale.exp().clamp(max=100).item(), np.asarray(video_of_text)
    t2v, v2t = (process(scores, bank, scale) for scores, bank in (to_videos, to_texts))
    return {"t2v": per_query(t2v, right)["t2v"], "v2t": per_query(v2t.T, right)["v2t"]}


def _checked(scores, bank=None) -> tuple[np.ndarray, np.ndarray | None]:
    scores, bank = np.asarray(scores, dtype=np.float64), bank if bank is None else np.asarray(bank)
    for name, rows, given in (("scores", "queries", scores), ("bank", "bank queries", bank)):
        if given is None:
            continue
        if given.ndim != 2 or not given.size:
            raise ValueError(f"{name} must be ({rows}, items) with at least one of each, got shape {given.shape}.")
        if not np.isfinite(given).all():
            bad = int((~np.isfinite(given)).sum())
            raise ValueError(
                f"{name} must be finite, got {bad} of {given.size} that are not; look for damaged inputs or overflow."
            )
    if bank is not None and bank.shape[1] != scores.shape[1]:
        raise ValueError(
            f"scores {scores.shape} and bank {bank.shape} must have the same items as columns; score the training "
            "queries with the gallery of the test queries, and transpose both for video to text."
        )
    return scores, bank
