"""The stages of the project on small corpora, run as dvc.yaml does but without DVC."""

import json
from pathlib import Path

import yaml

from glscl.study import stage
from glscl.study.parameters import load_params


def run(
    root: Path, name: str, *assignments: str, dataset: str = "facets", method: str = "glscl", profile: str = "quick"
) -> int:
    """Run the notebook of a stage as dvc.yaml does, with the sections of params.yaml that the stage declares."""
    stages, params = yaml.safe_load((root / "dvc.yaml").read_text()), load_params(root)
    items = {"profile": profile, "dataset": dataset, "method": method}
    items["world"] = "features" if dataset in params["study"]["features"] else "videos"
    text = json.dumps(stages["stages"][name]).replace("${transfer.target}", "stories")
    for item, value in items.items():
        text = text.replace(f"${{item.{item}}}", value)
    notebook, *given = json.loads(text)["cmd"].split()[3:]
    sections = ",".join(json.loads(text)["params"])
    return stage.main([str(root / notebook), *given, *assignments, "--sections", sections])


def found(project: Path, name: str, dataset: str = "facets") -> dict:
    """What a stage wrote."""
    return json.loads((project / f"results/quick/{dataset}/{name}.json").read_text())
