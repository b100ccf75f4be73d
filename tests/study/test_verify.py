"""Results of a run against the committed ones: what is equal, what differs, and what fails."""

import json
import shutil

import pytest

from glscl.study import verify

TABLE = "method,direction,R@1,MdR\nglscl,t2v,43.1,2.0\nchance,t2v,,500.5\n"
LOSSES = {"answer": "None is worth anything.", "effects": {"full": [0.5, -1.25]}, "seeds": 3}


@pytest.fixture
def committed(tmp_path, monkeypatch, commit_all):
    """A repository with the results of the profile quick, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "results/quick/scenes/table.csv": TABLE,
        "results/quick/scenes/losses.json": json.dumps(LOSSES),
        "results/measured/quick/scenes/train.json": '{"seconds": 3.5}',
        "results/claims/quick.json": '{"claims": []}',
        "results/full/costs.json": '{"macs": 1}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    commit_all()
    return tmp_path


def test_equal_results_hold_whatever_was_measured(committed):
    (committed / "results/measured/quick/scenes/train.json").write_text('{"seconds": 99}')
    said, holds = verify.report(committed, "quick")
    assert said == "quick: all 12 numbers and texts equal the committed ones."
    assert holds


def test_a_recall_within_the_tolerance_holds_and_is_shown(committed):
    table = committed / "results/quick/scenes/table.csv"
    table.write_text(TABLE.replace("43.1", "43.6"))
    said, holds = verify.report(committed, "quick")
    assert holds
    assert "11 of 12" in said
    assert "at most 0.50 points" in said
    assert "row 0 R@1: committed 43.1, here 43.6" in said
    table.write_text(TABLE.replace("43.1", "46.1"))
    assert not verify.report(committed, "quick")[1]


def test_other_numbers_are_counted_and_the_first_are_named(committed):
    changed = LOSSES | {"effects": {"full": [0.6, -1.25]}, "answer": "Much."}
    (committed / "results/quick/scenes/losses.json").write_text(json.dumps(changed))
    said, holds = verify.report(committed, "quick")
    assert holds
    assert "10 of 12" in said
    assert "losses.json effects full 0: committed 0.5, here 0.6" in said


def test_a_value_more_is_a_difference_and_a_missing_file_or_row_fails(committed):
    (committed / "results/quick/scenes/losses.json").write_text(json.dumps(LOSSES | {"new": 1}))
    said, holds = verify.report(committed, "quick")
    assert "12 of 13" in said
    assert holds
    (committed / "results/quick/scenes/losses.json").unlink()
    said, holds = verify.report(committed, "quick")
    assert not holds
    assert "losses.json is only here or only in the last commit" in said
    (committed / "results/quick/scenes/losses.json").write_text(json.dumps(LOSSES))
    (committed / "results/quick/scenes/table.csv").write_text(TABLE.replace("glscl,t2v,43.1,2.0\n", ""))
    assert not verify.report(committed, "quick")[1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("losses.json", json.dumps(LOSSES)[:-9]),
        ("table.csv", ""),
        ("table.csv", TABLE + "a,b,c,d,e\n"),
        ("losses.json", "\0"),
    ],
)
def test_a_damaged_file_is_named_and_fails(committed, name, content):
    (committed / "results/quick/scenes" / name).write_text(content)
    said, holds = verify.report(committed, "quick")
    assert not holds
    assert said.startswith(f"results/quick/scenes/{name} is damaged (")
    assert said.endswith("); run make reproduce, which makes it again")


def test_a_recall_that_is_no_number_fails(committed):
    (committed / "results/quick/scenes/table.csv").write_text(TABLE.replace("43.1", "4x.1"))
    said, holds = verify.report(committed, "quick")
    assert not holds
    assert "here 4x.1" in said


def test_without_results_nothing_holds(committed, capsys):
    assert not verify.report(committed, "nothing")[1]
    shutil.rmtree(committed / "results")
    assert not verify.report(committed, "quick")[1]
