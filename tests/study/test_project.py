"""Root, commit and provenance of a project."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from glscl.files import write_json, write_text
from glscl.study import project
from glscl.study.project import Folders, NotYet
from tests import ROOT

FIRST = {  # what a clean clone has to run before each notebook
    "01_prepare": "check@scenes",
    "02_encode": "prepare@scenes",
    "03_train": "features@facets",
    "04_evaluate": "evaluate@quick-features-facets",
    "04_worlds": "worlds@quick-facets",
    "05_concepts": "concepts@quick-features-facets-glscl",
    "06_costs": "costs@quick",
    "07_search": "search@quick-scenes",
    "08_benchmarks": "benchmarks@quick-features-facets",
    "09_losses": "losses@quick-facets",
    "10_convergence": "convergence@quick-facets",
    "11_transfer": "transfer@quick-facets",
    "12_ledger": "ledger@quick",
    "13_report": "report@quick",
}


def test_enter_project_finds_the_root_from_notebooks(small, monkeypatch, tmp_path_factory):
    root = small()
    monkeypatch.setenv(project.STAGE, "1")
    os.chdir("notebooks")
    assert project.enter_project() == root
    assert os.getcwd() == str(root)
    monkeypatch.delenv(project.STAGE)
    assert project.enter_project(scratch=False) == root
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"dvc\.yaml"):
        project.enter_project()


def test_a_notebook_that_no_stage_runs_leaves_the_files_of_stages_alone(small, capsys):
    root = small()
    made = {"results/quick/a.json": "{}", "work/quick/trained/b.txt": "b", "work/quick/c.csv": "c", "work/.plan/d": "d"}
    for name, text in made.items():
        write_text(root / name, text)
    for visit in ("first", "second"):
        inside = project.enter_project()
        assert inside == root / project.BY_HAND == project.Path.cwd()
        assert "writes into work/by-hand/" in capsys.readouterr().out
        assert project.Path("notebooks/train.ipynb").is_file()
        assert project.Path("work/quick/c.csv").read_text() == "c"
        if visit == "second":  # what was written stays, and is read
            assert json.loads(project.Path("results/quick/a.json").read_text()) == {"r1": 1}
        write_json("results/quick/a.json", {"r1": 1})
        shutil.rmtree("work/quick/trained")
        write_text(project.Path("work/quick/trained/new.txt"), "new")
    assert {name: (root / name).read_text() for name in made} == made
    assert not (root / "work/quick/trained/new.txt").exists()
    assert not (inside / "work/.plan").exists()
    assert project.project_root() == root
    (root / "work/quick/c.csv").unlink()
    project.enter_project()
    assert not os.path.lexists("work/quick/c.csv")


def test_commit_tells_changed_code_from_changed_outputs(small, commit_all):
    root = small()
    assert project.commit() == "no commit"
    commit_all()
    clean = project.commit()
    assert len(clean) == 12
    (root / "dvc.lock").write_text("written by dvc")
    assert project.commit() == clean
    (root / "params.yaml").write_text("seed: 4")
    assert project.commit() == f"{clean}+changes"


def test_provenance_escapes():
    with mock.patch("IPython.display.display") as display:
        project.provenance(texts=5, corpus="<script>alert(1)</script>")
    table = display.call_args.args[0].data
    assert "<td>5</td>" in table
    assert "&lt;script&gt;" in table
    assert "<script>" not in table
    assert all(name in table for name in ("commit", "torch", "hardware", "UTC"))


def test_what_is_measured_has_a_folder_of_its_own():
    folders = Folders.of("quick", "scenes")
    assert len(set(folders)) == len(folders)
    assert not folders.measured.is_relative_to(folders.results)
    assert folders.corpus == Folders.of("full", "scenes").corpus
    assert folders.work != Folders.of("full", "scenes").work


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project without work/, results/ and data/, and its stages as DVC reads them there."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("dvc.yaml", "params.yaml", "data.dvc"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", root / ".dvc")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root, project.read_stages(root)


@pytest.fixture
def opened(clone, monkeypatch):
    """opened(notebook): run its parameters and its first cell in the clone, as by hand."""
    root, stages = clone
    monkeypatch.delenv(project.STAGE, raising=False)
    monkeypatch.setattr(project, "read_stages", lambda _: stages)

    def run(name):
        monkeypatch.chdir(root / "notebooks")
        cells = json.loads((root / f"notebooks/{name}.ipynb").read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        names = {}
        for source in code[:2]:
            exec(source, names)

    return run


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")))
def test_a_notebook_of_a_clean_clone_says_what_to_run_first(clone, opened, bundled, name, monkeypatch):
    root, stages = clone
    if name not in ("06_costs", "08_benchmarks", "12_ledger", "13_report"):  # they do not read the bundled inputs
        with pytest.raises(NotYet, match=r"^data is not here: run `make inputs` first, then this notebook again\.$"):
            opened(name)
    (root / "data").symlink_to(bundled)
    try:
        if name in FIRST:
            with pytest.raises(NotYet, match=r" must be made first: run `dvc repro \S+`, then this") as raised:
                opened(name)
            assert re.search(r"`dvc repro (\S+)`", str(raised.value))[1] == FIRST[name]
            assert FIRST[name] in {stage.name for stage in stages if stage.cmd}
            assert raised.value._render_traceback_() == [str(raised.value)]
        else:
            monkeypatch.chdir(root)
            project.require_inputs(root, name, {"dataset": "facets" if name == "01_features" else "scenes"})
    finally:
        (root / "data").unlink()


def test_a_stage_whose_inputs_are_there_runs(clone, bundled, monkeypatch):
    root, stages = clone
    monkeypatch.setattr(project, "read_stages", lambda _: stages)
    items = {"profile": "quick", "dataset": "facets", "method": "glscl"}
    monkeypatch.setenv(project.STAGE, "1")
    monkeypatch.chdir(root)
    assert project.enter_project("03_train", **items) == root  # DVC has seen to it
    project.require_inputs(root, "03_train", items | {"dataset": "my videos"})  # no stage, so nothing is known of it
    (root / "data").symlink_to(bundled)
    Path("work/corpora/facets").mkdir(parents=True)
    try:
        project.require_inputs(root, "03_train", items)
    finally:
        (root / "data").unlink()
        shutil.rmtree(root / "work")
