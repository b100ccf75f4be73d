"""Made-up results of the other stages, in their formats: every finding that decides supports its claim."""

import json
from pathlib import Path


def effect(value: float, p_holm: float = 0.01, half: float = 1.0) -> dict:
    """A difference in points with its interval."""
    edges = {"low": value - half, "high": value + half}
    return {"difference": value, **edges, "p": p_holm / 2, "p_holm": p_holm, "detectable": 1.4 * half, "seeds": [value]}


def estimate(value: float, half: float = 1.0) -> dict:
    """A mean and its interval."""
    return {"mean": value, "low": value - half, "high": value + half}


def on_concepts(matched: float, within: float, half: float = 0.005) -> dict[str, dict]:
    """What a part does to the concepts, with intervals."""
    changes = {"matched": matched, "within_text": within, "within_video": within}
    return {name: effect(gap, half=half) for name, gap in changes.items()}


GALLERIES = [100, 1_000, 1_000_000]


def counted_head(pair: int) -> dict:
    """Work of one head per pair, ten times as much as released."""
    return {"short": {"macs": {"pair": {"all": pair}, "released": {"all": 10 * pair}}}}


def counted_over_glscl(times: float, published: float | None = None) -> dict:
    """Work of a rival over GLSCL's: the same factor everywhere."""
    return {"published": published, "macs": {"pair": times}, "end_to_end": {str(n): times for n in GALLERIES}}


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
    ablations = ("no inter-consistency", "no intra-diversity", "no local interaction")
    over_clip = {"clip4clip_seqTransf": effect(10.0), "x_clip": effect(20.0), "glscl": effect(23.0)}
    to_90 = {"x_clip": estimate(9e12, 1e12), "glscl": estimate(3e12, 1e12)}
    kept = {"zero_shot": estimate(60.0, 4.0), "fine_tuned": estimate(80.0, 4.0)}
    return {
        "metrics": {
            "glscl_minus": {"x_clip": {"R@1": effect(3.0)}, "clip4clip_seqTransf": {"R@1": effect(13.0)}},
            "temporal_layers": {"x_clip": 2, "clip4clip_seqTransf": 2, "glscl": 2},
        },
        "concepts": {"seeds": {"0": seed, "1": seed}, "concepts": 8},
        "benchmarks": {
            "answer": "T-MASS answers.",
            "scope": {"texts": 1_000, "videos": 500, "seeds": [0, 1], "benchmark": benchmark},
            "over_zero_shot": {name: {"R@1": gain} for name, gain in over_clip.items()},
        },
        "losses": {
            "answer": "The losses answer.",
            "effects": {f"{v}/{a}": effect(4.0) for v in ("released", "described") for a in ablations},
            "concept_effects": {
                f"{v}/{a}": on_concepts(0.4, -0.7) for v in ("released", "described") for a in ablations[:2]
            },
        },
        "convergence": {
            "answer": "Convergence answers.",
            "heads": {name: {"macs_to_90": found, "reached": 3} for name, found in to_90.items()},
        },
        "transfer": {
            "answer": "Transfer answers.",
            "transfers": {
                "scenes to stories": {"glscl": {"retained": kept}, "x_clip": {"retained": kept}},
                "stories to scenes": {"glscl": {"retained": {}}, "x_clip": {"retained": kept}},
            },
            "over_clip": {"stories to scenes": {"glscl": {"zero_shot": estimate(-3.0)}}},
        },
    }


def write(folder: Path, results: dict[str, dict]) -> None:
    """Write each entry of results as `folder`/<name>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
