"""Root, commit and provenance of a project."""

import json
import os
import shutil
from unittest import mock

import pytest

from glscl.files import write_json, write_text
from glscl.study import project
from glscl.study.project import Folders


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
