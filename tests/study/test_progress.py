"""Which stage runs, and how long the rest will take."""

import json

import pytest

from glscl.study.progress import TIMES, Progress


@pytest.fixture
def root(tmp_path):
    """A project where three stages took 10, 20 and 60 seconds before."""
    (tmp_path / TIMES).parent.mkdir(parents=True)
    (tmp_path / TIMES).write_text(json.dumps({"a": 10.0, "b": 20.0, "c": 60.0}))
    return tmp_path


def test_the_rest_is_scaled_by_the_speed_so_far(root):
    progress = Progress.start(root, ["a", "b", "c"])
    assert progress.left() == 90
    progress.after("a", 30.0)  # three times as long as before
    progress = Progress.read(root)
    assert progress.left() == pytest.approx(3 * 80)
    assert json.loads((root / TIMES).read_text()) == {"a": 30.0, "b": 20.0, "c": 60.0}
    progress.after("b", 30.0)  # 60 s where 30 were usual
    assert Progress.read(root).left() == pytest.approx(2 * 60)


def test_place_and_minutes_are_said(root):
    Progress.start(root, ["a", "b", "c"]).after("a", 10.0)
    progress = Progress.read(root)
    assert progress.before("b") == "stage 2 of 3, b: less than a minute gone, about 1 minute left"
    assert progress.before("other") == "stage other"


def test_a_stage_that_was_never_timed_takes_the_mean(root):
    assert Progress.start(root, ["new"]).left() == 30


def test_without_times_nothing_is_foretold(tmp_path):
    progress = Progress.start(tmp_path, ["a"])
    assert progress.left() is None
    assert progress.before("a") == "stage 1 of 1, a: less than a minute gone"


def test_a_stage_run_by_hand_is_not_recorded(root):
    Progress.start(root, ["a"])
    before = (root / TIMES).read_text()
    assert Progress.read(root).after("other", 1.0) == "stage other took 1 s"
    assert (root / TIMES).read_text() == before
