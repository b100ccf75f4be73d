"""Made-up results of the other stages, in their formats: every finding that decides speaks for its claim."""

import json
from pathlib import Path


def effect(value: float, p_holm: float = 0.01, half: float = 1.0) -> dict:
    """A difference in points with its interval."""
    edges = {"low": value - half, "high": value + half}
    return {"difference": value, **edges, "p": p_holm / 2, "p_holm": p_holm, "smallest": 1.4 * half, "seeds": [value]}


def estimate(value: float, half: float = 1.0) -> dict:
    """A mean and its interval."""
    return {"mean": value, "low": value - half, "high": value + half}


def on_concepts(matched: float, within: float, half: float = 0.005) -> dict[str, dict]:
    """What a part does to the concepts, with intervals."""
    changes = {"matched": matched, "within_text": within, "within_video": within}
    return {name: effect(gap, half=half) for name, gap in changes.items()}


def heads(seconds: float, pair: int) -> dict:
    """Costs of one head: a search takes so many seconds at 1,000 videos, a thousand times as long at a million."""
    sizes = {100: 30, 1_000: 30, 1_000_000: 0}  # and how often a search was repeated, never where it is extrapolated
    queries = [{"gallery": n, "seconds": seconds * n / 1_000, "repeats": often} for n, often in sizes.items()]
    return {"short": {"macs": {"pair": {"all": pair}}, "queries": queries}}


def over_glscl(times: float, published: float | None = None) -> dict:
    """Costs of a rival over GLSCL's: the same factor everywhere."""
    search = {"gallery": 1_000, "ratio": times, "low": 0.9 * times, "high": 1.1 * times}
    ends = {"100": times, "1000": times, "1000000": times}
    return {"published": published, "macs": {"pair": times}, "search": search, "end_to_end": ends}


def costs() -> dict:
    """results/costs.json, in part."""
    return {
        "published": {"mean_pooling": 0.5, "glscl": 1.0, "x_clip": 220.9},
        "clip": {"32 words": {"seconds": 0.01}},
        "heads": {"mean_pooling": heads(0.02, 512), "glscl": heads(0.02, 10_000), "x_clip": heads(0.2, 221_000)},
        "over_glscl": {"mean_pooling": over_glscl(2.0), "x_clip": over_glscl(215.0, published=220.9)},
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
            "ways": {"scenes to stories": {"glscl": {"retained": kept}, "x_clip": {"retained": kept}}},
        },
    }


def write(folder: Path, results: dict[str, dict]) -> None:
    """Write each entry of results as `folder`/<name>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
