"""A small project with one notebook and the parameters of the study, for the tests of stages and of the pipeline."""

import os
import shutil
import subprocess
import sys
from unittest import mock

import nbformat
import pytest
from nbformat import v4

from glscl.study.parameters import load_params
from tests import ROOT

PARAMS = load_params(ROOT)
PARAMETERS = f"""dataset = "stories"
method = "glscl"
head = ""
model = {{}}
train = {PARAMS["train"]}
inputs = {PARAMS["datasets"]["stories"]["inputs"]}"""
REPORT = "import json, os\njson.dump([train, inputs, method, os.getcwd()], open(f'seen-{dataset}-{method}.json', 'w'))"
DVC = f"""
stages:
  prepare:
    cmd: "true"
    deps: [params.yaml]
  train:
    matrix:
      dataset: [scenes, stories]
      method: [glscl, x_clip]
    cmd: {sys.executable} -m glscl.study.stage notebooks/train.ipynb dataset=${{item.dataset}} method=${{item.method}}
    params: [train, "datasets.${{item.dataset}}.inputs", "methods.${{item.method}}"]
    outs: ["seen-${{item.dataset}}-${{item.method}}.json": {{cache: false, persist: true}}]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A project folder, as the current one, with notebooks/train.ipynb; small(code, ...) adds cells to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path)
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
