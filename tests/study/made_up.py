"""Made-up results of the other stages, in their formats: every finding that decides supports its claim."""

import json
from pathlib import Path

# Of GLSCL's head.
WEIGHTS = {"global interaction": 0, "temporal encoder": 12_000_000, "local interaction": 12_000_000}


def effect(value: float, half: float = 1.0, p_holm: float = 0.01) -> dict:
    """A difference in points with its 95 % interval, as of many queries and seeds."""
    edges = {"low": value - half, "high": value + half, "error": half / 1.96, "freedom": 1e6}
    return {"difference": value, **edges, "p": p_holm / 2, "p_holm": p_holm, "detectable": 1.4 * half, "seeds": [value]}


def estimate(value: float, half: float = 1.0) -> dict:
    """A mean and its interval."""
    return {"mean": value, "low": value - half, "high": value + half}


def contrast(r1: float, matched: float, within: float, half: float = 0.005) -> dict[str, dict]:
    """What a part does to R@1 and to the concepts, with minus without."""
    changes = {"matched": matched, "within_text": within, "within_video": within, "rank_text": 1.0, "rank_video": 1.0}
    return {"r1": effect(r1)} | {name: effect(gap, half) for name, gap in changes.items()}


GALLERIES = [100, 1_000, 1_000_000]


def counted_head(pair: int) -> dict:
    """Work of one head per pair, ten times as much as released."""
    return {"short": {"macs": {"pair": {"all": pair}, "released": {"all": 10 * pair}}}}


def counted_over_glscl(times: float, published: float | None = None) -> dict:
    """Work of a rival over GLSCL's: the same factor everywhere."""
    return {
        "published": published,
        "macs": {"pair": times, "released": times / 2},
        "end_to_end": {str(n): times for n in GALLERIES},
    }


def costs() -> dict:
    """results/<profile>/costs.json, in part."""
    work = {"mean_pooling": 512, "glscl": 10_000, "x_pool": 14_000, "x_clip": 221_000}
    return {
        "galleries": GALLERIES,
        "published": {"mean_pooling": 0.5, "glscl": 1.0, "x_clip": 220.9},
        "clip": {"32 words": 100_000},
        "heads": {head: counted_head(pair) for head, pair in work.items()},
        "over_glscl": {"mean_pooling": counted_over_glscl(2.0), "x_clip": counted_over_glscl(215.0, published=220.9)},
    }


def measured_head(seconds: float) -> dict:
    """Times of one head: a search takes so many seconds at 1,000 videos, and is extrapolated to a million."""
    often = dict.fromkeys(GALLERIES, 30) | {GALLERIES[-1]: 0}
    queries = [{"gallery": n, "seconds": seconds * n / 1_000, "repeats": often[n]} for n in GALLERIES]
    return {"short": {"queries": queries}}


def measured_over_glscl(times: float) -> dict:
    """Times of a rival over GLSCL's: the same factor everywhere."""
    search = {"gallery": 1_000, "ratio": times, "low": 0.9 * times, "high": 1.1 * times}
    return {"search": search, "end_to_end": {str(n): times for n in GALLERIES}, "extrapolated": GALLERIES[-1:]}


def measured_costs() -> dict:
    """results/measured/<profile>/costs.json, in part."""
    return {
        "commit": "0123456789ab",
        "hardware": "one core",
        "clip": {"32 words": {"seconds": 0.01}},
        "heads": {head: measured_head(0.02) for head in ("mean_pooling", "glscl", "x_clip")},
        "over_glscl": {"mean_pooling": measured_over_glscl(0.1), "x_clip": measured_over_glscl(6.0)},
        "whole_matrix": {"x_pool, as released": {"seconds": 30.0}, "x_pool, exact": {"seconds": 1.0}},
    }


def questions(benchmark: str = "none") -> dict[str, dict]:
    """The JSON of every question and of evaluate and concepts, for one corpus."""
    seed = {"matched": 0.7, "wrong_pair": 0.1, "rank_text": 4.0, "rank_video": 3.5}
    over = {"clip4clip_seqTransf": effect(10.0), "x_clip": effect(20.0), "glscl": effect(23.0)}
    rows = {name: {"t2v": {"R@1": estimate(30.0 + gain["difference"])}} for name, gain in over.items()}
    to_goal = {"x_clip": estimate(9e12, 1e12), "glscl": estimate(3e12, 1e12)}
    shifted = {name: {"over_untrained": effect(5.0), "share": estimate(60.0, 4.0)} for name in over}
    parts = ("inter-consistency", "intra-diversity", "both losses", "local interaction")
    return {
        "metrics": {
            "glscl_minus": {"x_clip": {"R@1": effect(3.0)}, "clip4clip_seqTransf": {"R@1": effect(13.0)}},
            "over_control": over,
            "did_not_train": [],
            "temporal_layers": dict.fromkeys(over, 2),
        },
        "concepts": {"seeds": {str(n): seed | {"rank_video": 3.5 + n / 10} for n in range(3)}, "concepts": 8},
        "benchmarks": {
            "answer": "T-MASS answers.",
            "scope": {"texts": 1_000, "videos": 500, "seeds": [0, 1], "benchmark": benchmark},
            "rows": rows | {"zero-shot CLIP": {"t2v": {"R@1": estimate(30.0)}}},
        },
        "losses": {
            "answer": "The losses answer.",
            "contrasts": {
                part: {variant: contrast(4.0, 0.4, -0.7) for variant in ("described", "released")} for part in parts
            },
            "uncollapsed": {"name": "dropout 0, alpha 1", "rank": 4.5, "r1": effect(1.5)},
        },
        "convergence": {
            "answer": "Convergence answers.",
            "heads": {name: {"macs_to_goal": found, "reached": 3} for name, found in to_goal.items()},
        },
        "transfer": {
            "answer": "Transfer answers.",
            "shifts": {"look": shifted, "length": shifted},
            "did_not_train": {"look": [], "length": []},
        },
    }


def write(folder: Path, results: dict[str, dict]) -> None:
    """Write each entry of results as `folder`/<name>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
