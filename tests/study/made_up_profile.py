"""A made-up project: params.yaml, and the results of one profile or several, in the formats of the stages."""

import json
import shutil
from pathlib import Path

import pandas as pd
import yaml

from glscl.evaluation.results import METRICS, ON_TEST
from glscl.study.claims import CLAIMS, files
from tests import ROOT

METHODS = {
    "clip4clip_seqTransf": "mean_pooling",
    "x_pool": "x_pool",
    "x_clip": "x_clip",
    "t_mass_temporal": "t_mass",
    "cross_encoder_temporal": "cross_encoder",
    "glscl": "glscl",
}
LAYERS = dict.fromkeys(METHODS, 2) | {"x_pool": 0}
R1 = {"clip4clip_seqTransf": 14.0, "x_pool": 16.0, "x_clip": 24.0, "t_mass_temporal": 17.0}
R1 |= {"cross_encoder_temporal": 5.0, "glscl": 15.0, "zero-shot CLIP": 11.0, "chance": 0.1}
PAIR = {"mean_pooling": 512, "x_pool": 14_000, "x_clip": 240_000, "t_mass": 57_000, "cross_encoder": 457_000_000}
PAIR |= {"glscl": 10_000}
DEPTH, TEXT = 20, 100_000  # videos that are re-ranked; multiply-accumulates of a head on one text
GALLERIES = [100, 1_000, 100_000]
HARDWARE = "one core"


def params() -> dict:
    """What the documents read of params.yaml."""
    trained = {"methods": list(METHODS), "rerankers": [], "concepts_of": ["glscl"], "seeds": [0, 1], "train": {}}
    profile = {"questions": ["scenes"], "features": trained | {"methods": []}, "videos": trained}
    return {
        "study": {"features": [], "videos": ["scenes"]},
        "profiles": {"quick": profile, "full": profile},
        "methods": {name: {"head": head} for name, head in METHODS.items()},
    }


def row(method: str, direction: str, value: float, **other) -> dict:
    """A row of table.csv; intervals of two points."""
    found = {"method": method, "split": "test", "selection": "selected", "post_processing": "none"}
    found |= {"direction": direction, "seeds": 2 if method in METHODS else 1}
    for metric in METRICS:
        found |= {metric: value, f"{metric}_sd": 0.5 if method in METHODS else None}
        found |= {f"{metric}_low": value - 1, f"{metric}_high": value + 1}
    return found | {"temporal_layers": LAYERS.get(method)} | other


def table(methods: list[str]) -> pd.DataFrame:
    """All kinds of rows of table.csv: results, other epochs, post-processing and reference rows."""
    names = [*methods, "zero-shot CLIP", "chance"]
    rows = [row(name, direction, R1[name]) for name in names for direction in ("t2v", "v2t")]
    rows += [row(name, "t2v", 30.0, selection=ON_TEST) for name in methods]
    rows += [row(name, "t2v", 40.0, post_processing="QB-Norm (inductive)") for name in methods]
    return pd.DataFrame(rows)


def edges(value: float) -> dict:
    """A mean or difference with its interval."""
    return {"mean": value, "difference": value, "low": value - 1, "high": value + 1, "p_holm": 0.01}


def of_corpus(methods: list[str]) -> dict[str, dict]:
    """The JSON of every stage, by name, for one corpus."""
    trained = {name: edges(R1[name] - 11) for name in methods}
    parts = ("inter-consistency", "both losses", "text-conditioned pooling")
    return {
        "metrics": {
            "answer": "GLSCL is below one head.",
            "details": ["Measured on a made-up corpus."],
            "temporal_layers": {name: LAYERS[name] for name in methods},
            "glscl_minus": {name: {"R@1": edges(15 - R1[name])} for name in methods if name != "glscl"},
            "twins": {name: {"order": {"accuracy": 51.0 if name == "glscl" else 95.0}} for name in methods},
            "reranking": {"first_stage": "clip4clip_seqTransf", "depth": DEPTH},
            "over_control": trained,
            "did_not_train": [],
            "ceilings": {"bag": {"R@1": 50.0}, "bound": {"R@1": 90.0}, "ordered": {"R@1": 99.0}},
        },
        "concepts": {"answer": "Concepts answer.", "details": []},
        "benchmarks": {
            "answer": "T-MASS answers.",
            "details": ["T-MASS has a detail."],
            "rows": {name: {"t2v": {"mAP@10": edges(R1[name])}} for name in [*methods, "zero-shot CLIP"]},
        },
        "losses": {
            "answer": "The losses answer.",
            "details": [],
            "contrasts": {
                part: {variant: {"r1": edges(0.5)} for variant in ("described", "released")} for part in parts
            },
        },
        "convergence": {"answer": "Convergence answers.", "details": [], "heads": {name: {} for name in methods}},
        "transfer": {
            "answer": "Transfer answers.",
            "details": [],
            "shifts": {"look": {name: {"over_untrained": gain} for name, gain in trained.items()}},
        },
    }


def costs() -> dict:
    """What is counted."""
    macs = {head: {"text": {"all": TEXT}, "pair": {"all": pair}, "video": {}} for head, pair in PAIR.items()}
    macs["mean_pooling"]["text"] = {}
    over = {
        "x_clip": {"published": 220.9, "macs": {"pair": 24.0}, "end_to_end": dict.fromkeys(map(str, GALLERIES), 2.0)}
    }
    heads = {head: {"short": {"macs": of}} for head, of in macs.items()}
    found = {"heads": heads, "clip": {"32 words": 1_220_000_000}, "over_glscl": over, "galleries": GALLERIES}
    return found | {"details": ["It is counted."]}


def measured() -> dict:
    """What a machine measured."""
    search = {"gallery": 1_000, "ratio": 6.0, "low": 5.0, "high": 7.0}
    ends = {"100": 0.9, "1000": 1.0, "100000": 6.0}
    edges_of = {gallery: [0.5 * ratio, 2 * ratio] for gallery, ratio in ends.items()}
    x_clip = {"search": search, "batch": search, "end_to_end": ends, "edges": edges_of, "extrapolated": [100_000]}
    over = {"x_clip": x_clip}
    answer = "On this machine X-CLIP takes longer."
    return {"answer": answer, "details": ["It was timed."], "hardware": HARDWARE, "over_glscl": over}


FINDING = {"text": "R@1", "value": 2.0, "result": "losses.contrasts", "low": 1.0, "high": 3.0, "kind": "measured"}
FINDING |= {"threshold": 0.0, "direction": "above"}
CONTEXT = {"low": None, "high": None, "threshold": None, "direction": None}


def ledger(profile: str = "full", verdict: str = "supported") -> dict:
    """Claims of which the first has a finding that decides."""
    claims = [
        {
            "key": claim.key,
            "short": claim.short,
            "claim": claim.wording,
            "test": claim.test,
            "scope": "Made up.",
            "verdict": verdict,
        }
        | {"evidence": [FINDING] if number == 0 else [], "changes_at": [1.0] if number == 0 else []}
        for number, claim in enumerate(CLAIMS)
    ]
    return {
        "answer": f"In {profile} all are {verdict}.",
        "details": ["It rests on nothing."],
        "profile": profile,
        "datasets": ["scenes"],
        "claims": claims,
    }


def write(file: Path, content: dict) -> None:
    """Write JSON, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_profile(root: Path, profile: str, methods: list[str] | None = None, verdict: str = "supported") -> None:
    """Write params.yaml and all results of a profile into `root`; methods: those that were trained, default all."""
    methods = list(METHODS) if methods is None else methods
    results, (judged, context) = root / "results", files(profile, root / "results")
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params()))
    for name, content in of_corpus(methods).items():
        write(results / profile / "scenes" / f"{name}.json", content)
    table(methods).to_csv(results / profile / "scenes" / "table.csv", index=False)
    curve = [{"method": m, "seed": s, "step": t, "r1": R1[m] + t} for m in methods for s in (0, 1) for t in (0, 9)]
    pd.DataFrame(curve, columns=["method", "seed", "step", "r1"]).to_csv(
        results / profile / "scenes" / "convergence.csv", index=False
    )
    write(results / profile / "costs.json", costs())
    write(results / "measured" / profile / "costs.json", measured())
    write(results / "corpora" / "scenes" / "data.json", {"splits": {"test": {"captions": 1_000, "videos": 500}}})
    write(judged, ledger(profile, verdict))
    shutil.copy(ROOT / "results/published.csv", results)
    timed = FINDING | CONTEXT | {"text": "a time", "value": 3.0, "kind": "time"}
    write(context, {"hardware": HARDWARE, "findings": {CLAIMS[0].key: [timed]}})
