"""Notebooks as stages: parameters, faults, and the files that stay behind."""

import json
import os
import subprocess
import sys

import pytest

from glscl.study import stage
from tests.study.conftest import REPORT

OUTPUT = "work/notebooks/corpora/train-clips-glscl.ipynb"
GIVEN = ["dataset=clips", "method=glscl"]


@pytest.fixture
def run(capsys):
    """run("key=value", ...) -> exit status, standard output, standard error."""

    def call(*arguments):
        status = stage.main(["notebooks/train.ipynb", *GIVEN, *arguments])
        return status, *capsys.readouterr()

    return call


def test_parameters_come_from_sections_and_the_command_line(small, run):
    root = small(REPORT)
    os.chdir("notebooks")
    given = ["--sections", "train,datasets.clips.inputs", "train.lr=1e-7", "method=mean"]
    assert stage.main(["train.ipynb", "--output", "../a.ipynb", *given]) == 0
    seen = [{"lr": 1e-7, "epochs": 2}, {"frames": 8}, "mean", str(root)]
    assert json.loads((root / "seen-clips-mean.json").read_text()) == seen
    assert (root / "a.ipynb").exists()


def test_the_executed_notebook_is_named_after_profile_dataset_and_method(small, run):
    root = small()
    assert run("train.lr=1e-7")[0] == 0
    assert (root / OUTPUT).exists()
    parameters = json.loads((root / OUTPUT).with_suffix(".json").read_text())
    assert parameters == {"dataset": "clips", "method": "glscl", "train": {"lr": 1e-7}}
    names = {"profile": "full", "dataset": "clips", "method": "mean"}
    path = stage.executed_path(root, root / "notebooks/train.ipynb", names)
    assert path == root / "work/notebooks/full/train-clips-mean.ipynb"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lrr=1"], ["lrr", "misspelt", "dataset, head, inputs, method, train"]),
        (["train.lrr=1"], ["train", "misspelt", "epochs, lr", "lrr"]),
        (["--sections", "train,datasets.sences"], ["sences", "params.yaml"]),
        (["--sections", "seed"], ["seed", "misspelt"]),
        (["lr"], ["key=value", "'lr'"]),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(small, run, arguments, words):
    root = small("open('ran', 'w')")
    status, _, message = run(*arguments)
    assert status == 1
    assert all(word in message for word in words), message
    assert message.count("\n") == 1
    assert not (root / "ran").exists()
    assert not (root / "work").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nraise KeyError('no such clip')", ["KeyError", "no such clip", "train-clips-glscl.failed.ipynb"]),
        ("import sys\nsys.exit(0)", ["sys.exit"]),
        ("import os\nos._exit(1)", ["kernel died"]),
    ],
)
def test_a_failure_keeps_what_ran_apart_from_the_output(small, run, code, words):
    root = small("print('first')", code, "open('after', 'w')")
    status, shown, message = run()
    assert status == 1
    assert "first" in shown
    assert all(word in message for word in words), message
    failed = root / OUTPUT.replace(".ipynb", ".failed.ipynb")
    assert [path.name for path in (root / "work/notebooks/corpora").iterdir()] == [failed.name]
    assert "first" in failed.read_text()
    assert not (root / "after").exists()


@pytest.mark.slow
def test_dvc_runs_matrix_stages(small):
    root = small(REPORT)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    command = [sys.executable, "-m", "dvc", "repro", "train@clips-mean"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stage train@clips-mean took" in done.stdout
    seen = [{"lr": 1e-4, "epochs": 2}, {"frames": 8}, "mean", str(root)]
    assert json.loads((root / "seen-clips-mean.json").read_text()) == seen
    assert "didn't change" in subprocess.run(command, capture_output=True, text=True).stdout
