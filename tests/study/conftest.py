"""A small project with one notebook, for the tests of stages, parameters and the pipeline."""

import os
import subprocess
import sys
from unittest import mock

import nbformat
import pytest
from nbformat import v4

PARAMETERS = """dataset = "clips"
method = "glscl"
head = ""
train = {"lr": 0.1, "epochs": 1}  # of AdamW
inputs = {"frames": 12}"""
REPORT = "import json, os\njson.dump([train, inputs, method, os.getcwd()], open(f'seen-{dataset}-{method}.json', 'w'))"
PARAMS = """
seed: 3
study: {datasets: [scenes, clips]}
profiles:
  quick: {train: {}}
train: {lr: 1e-4, epochs: 2}
datasets:
  scenes: {inputs: {frames: 4}}
  clips: {inputs: {frames: 8}}
methods:
  glscl: {head: glscl, train: {epochs: 3}}
  mean: {head: mean_pooling, train: {}}
"""
DVC = f"""
stages:
  prepare:
    cmd: "true"
    deps: [params.yaml]
  train:
    matrix:
      dataset: ${{study.datasets}}
      method: [glscl, mean]
    cmd: {sys.executable} -m glscl.study.stage notebooks/train.ipynb dataset=${{item.dataset}} method=${{item.method}}
    params: [train, "datasets.${{item.dataset}}.inputs", "methods.${{item.method}}"]
    outs: ["seen-${{item.dataset}}-${{item.method}}.json": {{cache: false, persist: true}}]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A project folder, as the current one, with notebooks/train.ipynb; small(code, ...) adds cells to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text(DVC)

    def write(*code):
        cells = [v4.new_markdown_cell("# Train"), v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells += [v4.new_code_cell(source) for source in code]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), "notebooks/train.ipynb")
        return tmp_path

    write()
    with mock.patch.dict(os.environ):
        os.environ.pop("DVC_STAGE", None)
        yield write


@pytest.fixture
def commit_all():
    """commit_all() -> the current folder is a git repository in which everything is committed."""

    def commit():
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
            subprocess.run(["git", *arguments], check=True)

    return commit
