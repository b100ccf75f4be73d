"""What a cross-encoder adds to the first stage whose best videos it orders, and a random order of the same."""

import numpy as np
import torch
from torch import Tensor

from glscl.evaluation.statistics import paired_difference
from glscl.rivals.cross_encoder import CrossEncoderHead

DEPTHS = (20, 50, 100)
ORDERS = ("first_stage", "random", "cross_encoder")


@torch.inference_mode()
def rerank_report(
    head: CrossEncoderHead, texts, videos, first: Tensor, video_of_text: Tensor, depths: tuple[int, ...] = DEPTHS
) -> dict[int, dict[str, np.ndarray]]:
    """Per text, 100 where the right video comes first and 0 where not: {depth: {order: (texts,)}}, means are R@1, in %.

    texts, videos: embeddings by `head`. first: scores (texts, videos) of the first stage. video_of_text: (texts,).
    The orders of the best `depth` videos by `first` are that of the first stage itself; a random one, by what it gives
    in expectation, 100 / depth where the right video is among them; and the cross-encoder's. The key `found` says where
    the right video is among them. A tie of n videos at the top counts as 1 / n. Depths beyond the gallery are cut to
    it; every pair is read once.
    """
    depths = sorted({min(depth, len(videos[0])) for depth in depths})
    columns = first.topk(depths[-1]).indices.cpu()
    rows = torch.arange(len(columns)).repeat_interleave(depths[-1])
    device = texts.mask.device
    scores = head.score_pairs(texts, videos, rows.to(device), columns.flatten().to(device)).view_as(columns).cpu()
    right = columns == video_of_text.cpu()[:, None]
    by_first = _points(first.cpu().gather(1, columns), right)
    return {
        depth: {
            "found": 100 * right[:, :depth].any(1).double().numpy(),
            "first_stage": by_first,
            "random": 100 / depth * right[:, :depth].any(1).double().numpy(),
            "cross_encoder": _points(scores[:, :depth], right[:, :depth]),
        }
        for depth in depths
    }


def _points(scores: Tensor, right: Tensor) -> np.ndarray:
    """100 per text where the best score is the right one's, shared among ties: (texts, videos) twice -> (texts,)."""
    best = scores == scores.amax(1, keepdim=True)
    return (100 * (best & right).any(1).double() / best.sum(1)).numpy()


def rerank_table(reports: list[dict[int, dict[str, np.ndarray]]], group) -> dict[int, dict]:
    """R@1 in percent of every order at every depth, and what the cross-encoder adds.

    reports: of every seed what `rerank_report` gave. group: (texts,), the video of each text.
    Returns {depth: {"found", "first_stage", "random", "cross_encoder", "over_first", "over_random"}}: means over seeds,
    `found` being the recall of the first stage at that depth, which no order can exceed, and the cross-encoder minus
    each of the other two, with intervals over queries and seeds, `glscl.evaluation.statistics.paired_difference`.
    """
    table = {}
    for depth in reports[0]:
        runs = {name: np.stack([report[depth][name] for report in reports]) for name in ("found", *ORDERS)}
        table[depth] = {name: float(of.mean()) for name, of in runs.items()}
        for name, other in (("over_first", "first_stage"), ("over_random", "random")):
            table[depth][name] = paired_difference(runs["cross_encoder"], runs[other], group)
    return table
