"""Ranks, recalls and mean average precision.

The correct item is an explicit index, never an implied diagonal. Recalls and mean average precision are in percent;
MdR and MnR count from 1. Scores that are not finite are refused.
"""

import numpy as np

RECALLS = (1, 5, 10, 50)
DEPTH = 10  # of the mean average precision, and of the best items that are kept


def ranks(scores, target, ties: str = "mid") -> np.ndarray:
    """Zero-based rank of each query's correct item.

    scores: (queries, items), higher is better. target: (queries,), index of the correct item.
    ties: `mid` counts half of the items that tie with the correct one (the expected rank under random order),
    `strict` none of them, `pessimistic` all of them.
    Raises ValueError at scores that are not finite, a target outside the items, or an unknown tie rule.
    """
    scores, target = _checked(scores, target)
    if ties not in ("mid", "strict", "pessimistic"):
        raise ValueError(f"ties must be mid, strict or pessimistic, got {ties!r}; correct the spelling.")
    correct = scores[np.arange(len(scores)), target][:, None]
    above = (scores > correct).sum(1)
    tied = (scores == correct).sum(1) - 1
    return above + {"mid": 0.5, "strict": 0, "pessimistic": 1}[ties] * tied


def expected_recalls(scores, target, at: tuple[int, ...] = (1, 10)) -> dict[str, float]:
    """Expected R@K, percent, when ties are broken at random: {"R@1": ..., "R@10": ...}; arguments as in `ranks`.

    With b better items and e others that tie with the correct one, its place is one of b + 1 to b + e + 1, each as
    likely as the others: a query counts (K - b) / (e + 1), at least 0 and at most 1.
    """
    better, tied = ranks(scores, target, "strict"), ranks(scores, target, "pessimistic")
    return {f"R@{k}": 100 * float(np.clip((k - better) / (tied - better + 1), 0, 1).mean()) for k in at}


def _checked(scores, target) -> tuple[np.ndarray, np.ndarray]:
    scores, target = np.asarray(scores), np.asarray(target)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores must be (queries, items) with at least one of each, got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(
            f"scores must be finite, got {bad} of {scores.size} that are not; look for damaged inputs or overflow."
        )
    if target.shape != (len(scores),) or target.min() < 0 or target.max() >= scores.shape[1]:
        raise ValueError(
            f"target must hold one item index from 0 to {scores.shape[1] - 1} for each of {len(scores)} queries, got "
            f"{target.tolist()[:5]} of shape {target.shape}; give the index of each query's correct item."
        )
    return scores, target


def _average_precision(others: np.ndarray) -> float:
    """Average precision at 10, divided by min(relevant, 10).

    others: for each relevant item the number of IRRELEVANT items before it, ties by the rule of the ranks.
    """
    found = np.arange(1, len(others) + 1)
    positions = np.sort(others) + found
    return float((found / positions)[positions <= DEPTH].sum() / min(len(others), DEPTH))


def _best(scores: np.ndarray) -> dict[str, np.ndarray]:
    """The `DEPTH` best items of every query and their scores, best first; fewer where there are fewer items."""
    last = min(DEPTH, scores.shape[1]) - 1
    items = np.argpartition(-scores, last, axis=1)[:, : last + 1]
    values = np.take_along_axis(scores, items, 1)
    order = np.lexsort((items, -values))
    return {"best": np.take_along_axis(items, order, 1), "best_scores": np.take_along_axis(values, order, 1)}


def per_query(scores, video_of_text, ties: str = "mid") -> dict[str, dict[str, np.ndarray]]:
    """Rank, average precision and best items of every query, for both directions.

    scores: (texts, videos). video_of_text: (texts,), the index of each text's video; every video needs a text.
    Returns {"t2v": {"rank", "ap", "group", "best", "best_scores"}, "v2t": ...}; `group` is the video of a query, the
    unit of resampling. `best`: (queries, at most `DEPTH`), indices of videos, best first, with their scores.

    t2v: every text is a query. v2t: every video is a query; it is ranked among the videos' caption groups, a group
    scoring as its best caption (CLIP4Clip's protocol for MSVD), and its average precision counts all its captions.
    """
    scores, video_of_text = _checked(scores, video_of_text)
    videos = np.arange(scores.shape[1])
    order = np.argsort(video_of_text, kind="stable")
    members = np.split(order, np.searchsorted(video_of_text[order], videos[1:]))
    if lonely := [int(video) for video in videos if not len(members[video])]:
        raise ValueError(f"every video needs at least one text, videos {lonely[:5]} have none; leave them out.")
    t2v = ranks(scores, video_of_text, ties)
    groups = np.stack([scores[rows].max(0) for rows in members], axis=1)  # (videos as queries, groups)
    tie_weight = {"mid": 0.5, "strict": 0, "pessimistic": 1}[ties]

    def irrelevant_before(video: int) -> np.ndarray:
        own, others = scores[members[video], video], np.delete(scores[:, video], members[video])
        return (others > own[:, None]).sum(1) + tie_weight * (others == own[:, None]).sum(1)

    return {
        "t2v": {"rank": t2v, "ap": np.array([_average_precision(r) for r in t2v[:, None]]), "group": video_of_text}
        | _best(scores),
        "v2t": {
            "rank": ranks(groups, videos, ties),
            "ap": np.array([_average_precision(irrelevant_before(video)) for video in videos]),
            "group": videos,
        }
        | _best(groups),
    }


def summarise(queries: dict[str, np.ndarray]) -> dict[str, float]:
    """R@1/5/10/50 and mAP@10 in percent, MdR and MnR from 1, of one direction of `per_query`.

    A query counts for R@K where its rank, from 1, is at most K: with mid ranks a tie of two misses R@1.
    """
    rank = queries["rank"]
    return {f"R@{k}": 100 * float(np.mean(rank <= k - 1)) for k in RECALLS} | {
        "MdR": float(np.median(rank)) + 1,
        "MnR": float(np.mean(rank)) + 1,
        f"mAP@{DEPTH}": 100 * float(np.mean(queries["ap"])),
    }


def retrieval_metrics(scores, video_of_text, ties: str = "mid") -> dict[str, dict[str, float]]:
    """Metrics of both directions: {"t2v": {"R@1": ..., ...}, "v2t": {...}}; arguments as in `per_query`."""
    return {direction: summarise(queries) for direction, queries in per_query(scores, video_of_text, ties).items()}
