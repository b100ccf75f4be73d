"""The project on corpora so small that every stage takes seconds: what tests run whole, and what is disturbed."""

import shutil
from pathlib import Path

import pandas as pd
import yaml

from glscl.study.parameters import load_params

ROOT = Path(__file__).parents[1]
METHODS = ["clip4clip_seqTransf", "t_mass_temporal", "x_clip", "glscl"]
RERANKER = "cross_encoder_temporal"
ON_VIDEOS = ["clip4clip_seqTransf", "glscl"]
SMALL = {"scenes": {"train": 24, "val": 10, "test": 10}, "stories": {"train": 16, "val": 6, "test": 6}}


def write(root: Path, bundled: Path) -> None:
    """Write notebooks, stages and parameters of the project into the folder `root`, with parts of the bundled inputs.

    There are few features, a corpus of 44 clips, and another of 28. bundled: the folder of the bundled inputs.
    """
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copy(ROOT / name, root)
    (root / "results").mkdir()
    shutil.copy(ROOT / "results/published.csv", root / "results")
    shutil.copytree(bundled / "tiny-clip", root / "data/tiny-clip")
    for name, sizes in SMALL.items():
        corpus = root / "data" / name
        (corpus / "videos").mkdir(parents=True)
        captions = pd.read_csv(bundled / name / "captions.csv")
        kept = {s: captions.loc[captions["split"] == s, "video"].unique()[:n] for s, n in sizes.items()}
        captions = captions[[row.split in kept and row.video in kept[row.split] for row in captions.itertuples()]]
        captions.to_csv(corpus / "captions.csv", index=False)
        events = pd.read_csv(bundled / name / "events.csv")
        events[events["video"].isin(captions["video"])].to_csv(corpus / "events.csv", index=False)
        for video in captions["video"].unique():
            shutil.copy(bundled / name / f"videos/{video}.mp4", corpus / "videos")
    params = load_params(ROOT)
    params["train"] |= {"batch_size": 32}
    params["concepts"] |= {"pairs": 8, "perplexity": 5}
    trained = {"seeds": [0, 1], "concepts_of": ["glscl"], "train": {"epochs": 2, "lr_new": [1e-3, 3e-3]}}
    params["profiles"]["quick"] |= {
        "features": trained | {"methods": METHODS, "rerankers": [RERANKER]},
        "videos": trained | {"methods": ON_VIDEOS, "rerankers": []},
        "worlds": {"changed": {"two": {"objects": 2}}, "heads": ["x_clip", "glscl"], "seeds": [0, 1]},
        "convergence": {"heads": ["x_clip", "glscl"], "seeds": [0, 1], "epochs": 2},
        "transfer": {
            "heads": ["x_clip", "glscl"],
            "seeds": [0, 1],
            "shifts": {"look": {"look": 0.5}, "length": {"events": 4, "concepts": 3}},
            "few_shot_videos": 8,
            "few_shot_epochs": 1,
        },
    }
    params["profiles"]["quick"]["costs"] |= {"galleries": [20, 40], "restarts": 2, "depths": [5]}
    params["profiles"]["quick"]["losses"] |= {"seeds": [0, 1], "epochs": 1}
    params["datasets"]["facets"]["corpus"] |= {"train": 60, "val": 20, "test": 24, "captions": 1, "width": 64}
    params["datasets"]["scenes"]["inputs"]["frames"] = 4
    params["datasets"]["stories"]["inputs"]["frames"] = 6
    params["datasets"]["stories"]["train"] = {"epochs": 1, "batch_size": 8}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
