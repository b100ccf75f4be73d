"""A made-up finished pipeline of two corpora: untrained models, their true ranks, and a second profile without any."""

from pathlib import Path

import torch
import yaml

from glscl.base import load_backbone
from glscl.bundled.facets import Facets, build
from glscl.data.dataset import PreparedCorpus
from glscl.encoding import evaluate
from glscl.evaluation.results import Run, rank_table
from glscl.files import write_table
from glscl.methods import METHODS
from tests import ROOT

HEADS = {"mean": "mean_pooling", "glscl": "glscl"}
SEEDS = [0, 1]
SMALL = Facets(train=4, val=4, test=12, captions=1, width=64)
SIZES = {"temporal_layers": 1, "num_queries": 4, "decoder_layers": 1}
INPUTS = {"backbone": "frozen", "frames": 4, "words": 24}


def params() -> dict:
    """What the explorer reads of params.yaml."""
    trained = {"methods": list(HEADS), "seeds": SEEDS}
    facets = {"clip": "work/corpora/facets/clip", "backbone": "frozen", "frames": SMALL.frames, "words": SMALL.words}
    scenes = {"corpus": {"folder": "data/scenes"}, "inputs": INPUTS | {"clip": "data/tiny-clip"}}
    return {
        "study": {"features": ["facets"], "videos": ["scenes"]},
        "own": {"corpora": [], "methods": [], "seeds": [0], "train": {}},
        "profiles": {name: {"features": trained, "videos": trained} for name in ("quick", "full")},
        "datasets": {"facets": {"corpus": {"ordered": True}, "inputs": facets}, "scenes": scenes},
    }


def write(root: Path, scenes: Path) -> None:
    """Write the project into `root`, the current folder; scenes: a prepared corpus of it."""
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(params()))
    (root / "data").symlink_to(ROOT / "data")
    (root / "work/corpora").mkdir(parents=True)
    (root / "work/corpora/scenes").symlink_to(scenes)
    build(SMALL, root / "work/corpora/facets", "data/tiny-clip")
    for dataset, about in params()["datasets"].items():
        write_models(root, dataset, about["inputs"])


def write_models(root: Path, dataset: str, inputs: dict) -> None:
    """Write an untrained model per method and seed, and the ranks that they give."""
    corpus = PreparedCorpus.open(root / "work/corpora" / dataset, inputs["clip"], "frozen", inputs["words"])
    clip, test, runs = load_backbone(corpus.clip, "frozen", corpus.processor), corpus.split("test"), []
    for method, head in HEADS.items():
        for seed in SEEDS:
            torch.manual_seed(seed)
            own = SIZES if head == "glscl" else {"temporal_layers": 1}
            model = METHODS[head].from_clip(clip, frames=inputs["frames"], words=inputs["words"], **own).eval()
            model.save_pretrained(root / f"work/quick/{dataset}/train/{method}/seed-{seed}")
            runs.append(Run(method, "test", seed, "selected", evaluate(model, test)))
    write_table(root / f"work/quick/{dataset}/ranks.parquet", rank_table(runs, {"test": test}))
