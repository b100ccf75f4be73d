"""Root, commit and provenance of a project."""

import os
from unittest import mock

import pytest

from glscl.study import project
from glscl.study.project import Folders


def test_enter_project_finds_the_root_from_notebooks(small, monkeypatch, tmp_path_factory):
    root = small()
    os.chdir("notebooks")
    assert project.enter_project() == root
    assert os.getcwd() == str(root)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"dvc\.yaml"):
        project.enter_project()


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
