"""Notebooks as stages: parameters, faults, and the files that stay behind."""

import json
import os
import subprocess
import sys

import pytest
from dvc.utils.hydra import apply_overrides

from glscl.study import code, pipeline, schema, stage
from tests import ROOT
from tests.study.conftest import DVC, PARAMS, REPORT

INPUTS = PARAMS["datasets"]["stories"]["inputs"]
OUTPUT = "work/notebooks/corpora/train-stories-glscl.ipynb"
GIVEN = ["dataset=stories", "method=glscl"]


@pytest.fixture
def run(capsys):
    """run("key=value", ...) -> exit status, standard output, standard error."""

    def call(*arguments):
        status = stage.main(["notebooks/train.ipynb", *GIVEN, *arguments])
        return status, *capsys.readouterr()

    return call


def test_parameters_come_from_sections_and_the_command_line(small, run):
    root = small("from glscl.study.project import enter_project\nenter_project()", REPORT)
    os.chdir("notebooks")
    given = ["--sections", "train,datasets.stories.inputs", "train.lr_new=1e-7", "method=x_clip"]
    assert stage.main(["train.ipynb", "--output", "../a.ipynb", *given]) == 0
    seen = [PARAMS["train"] | {"lr_new": 1e-7}, INPUTS, "x_clip", str(root)]
    assert json.loads((root / "seen-stories-x_clip.json").read_text()) == seen
    assert (root / "a.ipynb").exists()


def test_the_executed_notebook_is_named_after_profile_dataset_and_method(small, run):
    root = small()
    assert run("train.lr_new=1e-7")[0] == 0
    assert (root / OUTPUT).exists()
    parameters = json.loads((root / OUTPUT).with_suffix(".json").read_text())
    assert parameters == {"dataset": "stories", "method": "glscl", "train": PARAMS["train"] | {"lr_new": 1e-7}}
    names = {"profile": "full", "dataset": "stories", "method": "x_clip"}
    path = stage.executed_path(root, root / "notebooks/train.ipynb", names)
    assert path == root / "work/notebooks/full/train-stories-x_clip.ipynb"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lrr=1"], ["lrr", "misspelt", "dataset, head, inputs, method, model, train"]),
        (["train.lrr=1"], ["train", "misspelt", "epochs, ", "lrr"]),
        (["--sections", "train,datasets.sences"], ["sences", "params.yaml"]),
        (["--sections", "check"], ["check", "misspelt"]),
        (["lr"], ["key=value", "'lr'"]),
        (["train.lr_new='1e-3'"], ["the command line: train.lr_new.0 should be a number", "write 1.0e-3"]),
        (["train.epochs=0"], ["the command line: train: epochs must be", "at least 1"]),
        (["inputs.backbone=frozn"], ["'frozn'; did you mean frozen?"]),
        (["method=gslcl"], ["method must be one of", "glscl, got gslcl"]),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(small, run, arguments, words):
    root = small("open('ran', 'w')")
    status, _, message = run(*arguments)
    assert status == 1
    assert all(word in message for word in words), message
    assert message.count("\n") == 1
    assert not (root / "ran").exists()
    assert not (root / "work/notebooks").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nraise KeyError('no such clip')", ["KeyError", "no such clip", "train-stories-glscl.failed.ipynb"]),
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


def test_a_full_disk_is_told_in_one_sentence(small, run, monkeypatch):
    def fail(*given):
        raise RuntimeError(
            "train.ipynb failed, cell In [2]: OSError: [Errno 28] No space left on device: 'work/a'; see b"
        )

    monkeypatch.setattr(stage, "run_notebook", fail)
    root = small()
    status, _, message = run()
    assert status == 1
    assert message.startswith(f"error: the disk of {root / 'work'} is full: ")
    assert message.endswith(" MB are free; free some space, and the same command goes on from there\n")


LEFT = "import os, pathlib\nstate = pathlib.Path(os.environ['GLSCL_TRAINED']).parent / 'key/seed-0-abc'\n"
LEFT += "state.mkdir(parents=True)\n(state.parent / 'seed-1-abc').mkdir()\n"
LEFT += "open(os.environ['GLSCL_TRAINED'], 'a').write(f'{state.parent}/seed-0-*\\n')"


@pytest.mark.parametrize(("after", "kept"), [("", ["seed-1-abc"]), ("1 / 0", ["seed-0-abc", "seed-1-abc"])])
def test_what_a_stage_trained_is_kept_until_it_is_complete(small, run, after, kept):
    root = small(LEFT, after)
    assert run()[0] == bool(after)
    assert sorted(path.name for path in (root / "work/.unfinished/key").iterdir()) == kept
    assert not list((root / "work/.unfinished").glob(".*"))


def test_what_processes_of_a_notebook_print_comes_once(small, run):
    small("import subprocess\n_ = subprocess.run(['echo', 'a line'])\nprint('another')")
    command = [sys.executable, "-m", "glscl.study.stage", "notebooks/train.ipynb", *GIVEN]
    without = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}  # ipykernel looks
    done = subprocess.run(command, capture_output=True, text=True, env=without | {"PYTHONPATH": str(ROOT)})
    said = done.stdout
    assert [said.count(line) for line in ("a line", "another")] == [1, 1]


def test_params_are_checked_again_only_after_a_change(small, monkeypatch):
    root, checked = small(), []
    monkeypatch.setattr(schema, "check", lambda params, stages: checked.append(params["train"]["epochs"]))
    stage.require_valid_params(root)
    stage.require_valid_params(root)
    assert checked == [PARAMS["train"]["epochs"]]
    apply_overrides(root / "params.yaml", ["train.epochs=3"])
    stage.require_valid_params(root)
    assert checked[1:] == [3]
    (root / "dvc.yaml").write_text(DVC + "# another\n")
    stage.require_valid_params(root)
    assert checked[2:] == [3]


def test_what_was_refused_is_refused_again(small):
    root = small()
    apply_overrides(root / "params.yaml", ["evaluate.bank_size=-1"])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^params.yaml: evaluate.bank_size should be at least 1, got -1"):
            stage.require_valid_params(root)


@pytest.mark.parametrize("module", [stage, pipeline, code], ids=lambda module: module.__name__)
def test_a_wrong_value_stops_every_way_to_start(small, capsys, module):
    root = small("open('ran', 'w')")
    apply_overrides(root / "params.yaml", ["model.variant=relased"])
    arguments = {stage: [["notebooks/train.ipynb", *GIVEN]], pipeline: [["quick"]], code: []}
    assert module.main(*arguments[module]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: params.yaml: model: variant must be one of released, described, got 'relased'")
    assert message.count("\n") == 1
    assert {path.name for path in root.iterdir()} == {"notebooks", "params.yaml", "dvc.yaml"}


@pytest.mark.slow
def test_dvc_runs_matrix_stages(small):
    root = small(REPORT)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    command = [sys.executable, "-m", "dvc", "repro", "train@stories-x_clip"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stage train@stories-x_clip took" in done.stdout
    seen = [PARAMS["train"], INPUTS, "x_clip", str(root)]
    assert json.loads((root / "seen-stories-x_clip.json").read_text()) == seen
    assert "didn't change" in subprocess.run(command, capture_output=True, text=True).stdout
    (root / "seen-stories-x_clip.json").unlink()
    apply_overrides(root / "params.yaml", ["profiles.full.losses.epochs=0"])  # as `dvc exp run -S` does
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "error: params.yaml: profiles.full.losses.epochs should be at least 1, got 0" in done.stderr
    assert not (root / "seen-stories-x_clip.json").exists()
