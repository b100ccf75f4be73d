"""Methods compared query by query, from the ranks that the evaluate stage writes."""

import numpy as np
import pandas as pd

from glscl.evaluation.statistics import correct_family, holm, mcnemar, paired_difference
from glscl.metrics import DEPTH

ZERO_SHOT = "zero-shot CLIP"


def rank_matrix(ranks: pd.DataFrame, method: str, direction: str = "t2v", split: str = "test") -> np.ndarray:
    """Ranks from 0 of one method, (seeds, queries); one row where it has no seed.

    ranks: columns method, split, seed, direction, rank; the queries of a run in the order of the captions (t2v) or of
    the videos (v2t). Raises ValueError where the method is absent or its runs have different queries.
    """
    rows = ranks[(ranks["method"] == method) & (ranks["split"] == split) & (ranks["direction"] == direction)]
    runs = [run["rank"].to_numpy() for _, run in rows.groupby("seed", dropna=False)]
    if not runs or len({len(run) for run in runs}) > 1:
        raise ValueError(
            f"the ranks should hold runs of {method} on {split}, {direction}, with the same queries, got sizes "
            f"{[len(run) for run in runs]}; run the evaluate stage."
        )
    return np.stack(runs)


def points(rank, metric: str) -> np.ndarray:
    """What each query adds to a metric, 0 to 100, from its rank, which counts from 0: its mean is the metric.

    metric: R@K, or mAP@10 of queries with one correct item, 100 / (rank + 1) for the first ten and 0 beyond.
    """
    rank = np.asarray(rank)
    if metric == f"mAP@{DEPTH}":
        return np.where(rank <= DEPTH - 1, 100 / (rank + 1), 0.0)
    return 100.0 * (rank <= int(metric.removeprefix("R@")) - 1)


def text_to_video_differences(
    ranks: pd.DataFrame, pairs: list[tuple[str, str]], group: np.ndarray, metrics: list[str]
) -> list[dict]:
    """The first method minus the second for every pair, on the same texts of the test split, in points.

    group: (texts,), the video of each text. Returns for each pair {metric: what `paired_difference` gives and `p_holm`,
    "mcnemar": p-values of R@1, one per seed}. Holm's correction is over the pairs: for each metric, and for the
    p-values of each seed. A method without seeds, such as zero-shot CLIP, stands beside every seed of the other.
    """
    both = [np.broadcast_arrays(*(rank_matrix(ranks, method) for method in pair)) for pair in pairs]
    found = [
        {metric: paired_difference(points(one, metric), points(other, metric), group, len(pairs)) for metric in metrics}
        for one, other in both
    ]
    for metric in metrics:
        correct_family([each[metric] for each in found])
    exact = [[mcnemar(one < 1, other < 1) for one, other in zip(*sides, strict=True)] for sides in both]
    corrected = [holm(seed) for seed in zip(*exact, strict=True)]
    for each, p_values in zip(found, zip(*corrected, strict=True), strict=True):
        each["mcnemar"] = list(p_values)
    return found


def rivals_of(methods: list[str], layers: dict[str, int], family: str = "t_mass") -> dict[str, str]:
    """{other: the member of the family that it is compared with}, for all methods outside the family.

    family: its members' names begin so. layers: temporal layers by method; a method that is not in it has none. The
    member has the temporal encoder of the other where there is such a member, so that only the head differs; else it
    is the first. Empty without a member.
    """
    members = [method for method in methods if method.startswith(family)]
    others = [method for method in methods if method not in members]
    if not members:
        return {}
    alike = {layers[member]: member for member in reversed(members)}
    return {other: alike.get(layers.get(other, 0), members[0]) for other in others}


def verdict_counts(differences: list[dict]) -> tuple[int, int, int]:
    """How many differences lie significantly above zero, below zero, or neither, at 5 % after Holm's correction."""
    above = sum(found["p_holm"] < 0.05 and found["difference"] > 0 for found in differences)
    below = sum(found["p_holm"] < 0.05 and found["difference"] < 0 for found in differences)
    return above, below, len(differences) - above - below
