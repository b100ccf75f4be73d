"""Notebooks as stages: parameters, faults, and the files that stay behind."""

import json
import os
import subprocess
import sys
from unittest import mock

import nbformat
import numpy as np
import pytest
from nbformat import v4

from glscl import stage

PARAMETERS = 'lr: float = 0.1  # step size\nepochs: int = 1\nframes: int = 12\nmethod: str = "glscl"'
REPORT = "import json, os\njson.dump([lr, epochs, frames, method, os.getcwd()], open(f'seen-{method}.json', 'w'))"
PARAMS = """
seed: 3
train: {lr: 1e-4, epochs: 2}
clash: {lr: 1.0}
datasets:
  scenes: {inputs: {frames: 4}}
  clips: {inputs: {frames: 8}}
"""
DVC = f"""
stages:
  prepare:
    cmd: "true"
  train:
    matrix:
      dataset: [scenes, clips]
      method: [glscl, mean]
    cmd: {sys.executable} -m glscl.stage notebooks/train.ipynb reports/${{key}}.ipynb method=${{item.method}}
    params: [train, "datasets.${{item.dataset}}.inputs"]
    outs: ["reports/${{key}}.ipynb"]
"""


@pytest.fixture(autouse=True)
def environment():
    with mock.patch.dict(os.environ):
        os.environ.pop("DVC_STAGE", None)
        yield


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder, as the current one, with notebooks/train.ipynb; project(code, ...) adds cells to it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text(DVC)
    monkeypatch.chdir(tmp_path)

    def write(*code):
        cells = [v4.new_markdown_cell("# Train"), v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells += [v4.new_code_cell(source) for source in code]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), "notebooks/train.ipynb")
        return tmp_path

    write()
    return write


@pytest.fixture
def run(capsys):
    """run("key=value", ...) -> exit status, standard output, standard error; the output is reports/train.ipynb."""

    def call(*arguments):
        status = stage.main(["notebooks/train.ipynb", "reports/train.ipynb", *arguments])
        return status, *capsys.readouterr()

    return call


def test_parameters_come_from_sections_and_the_command_line(project, run):
    root = project(REPORT)
    os.chdir("notebooks")
    assert (
        stage.main(["train.ipynb", "../reports/a.ipynb", "--sections", "train,datasets.clips.inputs", "lr=1e-7"]) == 0
    )
    assert json.loads((root / "seen-glscl.json").read_text()) == [1e-7, 2, 8, "glscl", str(root)]


def test_two_runs_write_the_same_bytes(project, run):
    root = project(REPORT, "print(lr)")
    contents = []
    for _ in range(2):
        assert run()[0] == 0
        contents.append((root / "reports/train.ipynb").read_bytes())
    assert contents[0] == contents[1]
    assert [path.name for path in (root / "reports").iterdir()] == ["train.ipynb"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lrr=1"], ["lrr", "misspelt", "epochs, frames, lr, method"]),
        (["--sections", "train,clash"], ["'lr'", "'train'", "'clash'"]),
        (["--sections", "train,datasets.sences"], ["sences", "params.yaml"]),
        (["--sections", "seed"], ["seed", "misspelt"]),
        (["lr"], ["key=value", "'lr'"]),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(project, run, arguments, words):
    root = project("open('ran', 'w')")
    status, _, message = run(*arguments)
    assert status == 1
    assert all(word in message for word in words), message
    assert message.count("\n") == 1
    assert not (root / "ran").exists()
    assert not (root / "reports").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nraise KeyError('no such clip')", ["KeyError", "no such clip", "train.failed.ipynb"]),
        ("import sys\nsys.exit(0)", ["sys.exit"]),
        ("import os\nos._exit(1)", ["kernel died"]),
    ],
)
def test_a_failure_keeps_what_ran_apart_from_the_output(project, run, code, words):
    root = project("print('first')", code, "open('after', 'w')")
    status, shown, message = run()
    assert status == 1
    assert "first" in shown
    assert all(word in message for word in words), message
    assert [path.name for path in (root / "reports").iterdir()] == ["train.failed.ipynb"]
    assert "first" in (root / "reports/train.failed.ipynb").read_text()
    assert not (root / "after").exists()


def test_a_matrix_stage_gets_what_it_declares(project):
    root = project()
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    sections, place = stage.declared_by_stage(root, "train@clips-glscl")
    assert stage.flatten(sections) == {"lr": 1e-4, "epochs": 2, "frames": 8}
    assert place == "4 of 5"
    with pytest.raises(ValueError, match=r"no stage 'train@clip'.*train@clips-mean"):
        stage.declared_by_stage(root, "train@clip")


def test_an_unknown_key_beside_a_datasets_sections_is_refused(project):
    root = project()
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("clips: {", "clips: {trian: {epochs: 3}, "))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    with pytest.raises(ValueError, match=r"datasets.clips has no \['trian'\]"):
        stage.declared_by_stage(root, "train@clips-glscl")


def test_a_dataset_replaces_general_values_and_nothing_else_may_clash():
    general = {"train": {"epochs": 5, "lr": 0.1}, "study.seeds": [0, 1]}
    assert stage.flatten({"datasets.clips.train": {"epochs": 2}, **general}) == {
        "epochs": 2,
        "lr": 0.1,
        "seeds": [0, 1],
    }
    for section in ("model", "datasets.clips.train"):
        sections = {section: {"epochs": 3}, "datasets.clips.inputs" if "." in section else "train": {"epochs": 2}}
        with pytest.raises(ValueError, match="'epochs' in both"):
            stage.flatten(sections)


def test_thorough_replaces_what_the_stage_declares_only_where_it_is_asked_for():
    sections = {"study.seeds": [0], "transfer": {"rates": [1]}, "thorough.transfer": {"rates": [1, 2], "seeds": [0, 1]}}
    quick = {"seeds": [0], "rates": [1]}
    assert stage.flatten(sections) == quick
    assert stage.flatten({"study.thorough": False, **sections}) == quick | {"thorough": False}
    asked = {"seeds": [0, 1], "rates": [1, 2], "thorough": True}
    assert stage.flatten({**sections, "study.thorough": True}) == asked
    of_a_dataset = {"datasets.clips.train": {"rates": [7]}}
    assert stage.flatten({**of_a_dataset, **sections, "study.thorough": True}) == asked | {"rates": [7]}
    with pytest.raises(ValueError, match=r"'thorough.transfer'.*\['rates', 'seeds'\], got raets"):
        stage.flatten({**sections, "thorough.transfer": {"raets": [1]}})


def test_thorough_may_be_assigned_for_one_run(project, run):
    root = project("import json\njson.dump([lr, epochs, thorough], open('seen.json', 'w'))")
    notebook = json.loads((root / "notebooks/train.ipynb").read_text())
    notebook["cells"][1]["source"] = PARAMETERS + "\nthorough = False"
    (root / "notebooks/train.ipynb").write_text(json.dumps(notebook))
    (root / "params.yaml").write_text(PARAMS + "study: {thorough: false}\nthorough: {train: {epochs: 9}}\n")
    sections = ["--sections", "study.thorough,train,thorough.train"]
    for assigned, expected in (([], [1e-4, 2, False]), (["thorough=true"], [1e-4, 9, True])):
        assert run(*assigned, *sections)[0] == 0
        assert json.loads((root / "seen.json").read_text()) == expected


def test_all_methods_are_one_parameter_and_one_method_gives_its_settings():
    methods = {"x_pool": {"head": "x_pool", "layers": 0}, "glscl": {"head": "glscl"}}
    assert stage.flatten({"study.heads": ["glscl"], "methods": methods}) == {"heads": ["glscl"], "methods": methods}
    assert stage.flatten({"model": {"layers": 2}, "methods.x_pool": methods["x_pool"]}) == methods["x_pool"]


@pytest.mark.slow
def test_dvc_runs_matrix_stages(project):
    root = project(REPORT)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "train@clips-mean"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stage train@clips-mean (5 of 5)" in done.stdout
    assert json.loads((root / "seen-mean.json").read_text()) == [1e-4, 2, 8, "mean", str(root)]
    again = subprocess.run([sys.executable, "-m", "dvc", "repro", "train@clips-mean"], capture_output=True, text=True)
    assert "didn't change" in again.stdout


def test_enter_project_finds_the_root_from_notebooks(project, monkeypatch, tmp_path_factory):
    root = project()
    os.chdir("notebooks")
    assert stage.enter_project() == root
    assert os.getcwd() == str(root)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"dvc\.yaml"):
        stage.enter_project()


def test_commit_tells_changed_code_from_changed_outputs(project):
    root = project()
    assert stage.commit() == "no commit"
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], check=True)
    clean = stage.commit()
    assert len(clean) == 12
    (root / "dvc.lock").write_text("written by dvc")
    assert stage.commit() == clean
    (root / "params.yaml").write_text("seed: 4")
    assert stage.commit() == f"{clean}+changes"


def test_provenance_escapes(capsys):
    with mock.patch("IPython.display.display") as display:
        stage.provenance(texts=5, corpus="<script>alert(1)</script>")
    table = display.call_args.args[0].data
    assert "<td>5</td>" in table
    assert "&lt;script&gt;" in table
    assert "<script>" not in table
    assert all(name in table for name in ("commit", "torch", "hardware", "UTC"))


def test_json_is_sorted_rounded_and_plain(tmp_path):
    path = tmp_path / "new" / "a.json"
    results = {"b": np.float32(1 / 3), "a": [np.int64(2), (1e-7 / 3, True, None)], "c": np.eye(1)}
    stage.write_json(path, results, digits=3)
    assert json.loads(path.read_text()) == {"a": [2, [3.33e-8, True, None]], "b": 0.333, "c": [[1.0]]}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), np.array([0.0, np.nan])])
def test_json_refuses_what_is_not_finite(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"a\.json\.recall\.r1.*finite"):
        stage.write_json(path, {"recall": {"r1": value}})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]
