"""Which stage runs, and how long the rest will take."""

import json
import time

import pytest

from glscl.study.progress import PLAN, TIMES, Progress


@pytest.fixture
def root(tmp_path):
    """A project where three stages took 10, 20 and 60 seconds before."""
    (tmp_path / TIMES).parent.mkdir(parents=True)
    (tmp_path / TIMES).write_text(json.dumps({"a": 10.0, "b": 20.0, "c": 60.0}))
    return tmp_path


def test_the_rest_is_scaled_by_the_speed_so_far(root):
    progress = Progress.start(root, ["a", "b", "c"])
    assert progress.left() == 90
    progress.after("a", 30.0)
    assert json.loads((root / TIMES).read_text()) == {"a": 30.0, "b": 20.0, "c": 60.0}
    gone = Progress.read(root)._replace(began=time.time() - 30)  # three times as long as before
    assert gone.left() == pytest.approx(3 * 80, rel=0.01)
    gone.after("b", 30.0)
    gone = Progress.read(root)._replace(began=time.time() - 60)  # 60 s where 30 were usual
    assert gone.left() == pytest.approx(2 * 60, rel=0.01)


def test_stages_that_run_at_the_same_time_are_both_recorded(root):
    Progress.start(root, ["a", "b", "c"])
    one, other = Progress.read(root), Progress.read(root)
    one.after("a", 1.0)
    other.after("b", 2.0)
    assert Progress.read(root).done == {"a": 1.0, "b": 2.0}
    assert json.loads((root / TIMES).read_text()) == {"a": 1.0, "b": 2.0, "c": 60.0}


def test_place_and_minutes_are_said(root):
    Progress.start(root, ["a", "b", "c"]).after("a", 10.0)
    progress = Progress.read(root)._replace(began=time.time() - 10)
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


def test_a_long_stage_says_every_now_and_then_that_it_runs(root, capsys):
    with Progress.start(root, ["b"]).during("b", every=0.05):
        time.sleep(0.3)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 6
    assert set(lines) == {"stage b: 0 of about 20 s"}


@pytest.mark.parametrize("name", [TIMES, PLAN])
def test_a_damaged_file_is_named_with_the_remedy(root, name):
    Progress.start(root, ["a"])
    (root / name).write_text('{"a": 1')
    with pytest.raises(ValueError, match=rf"{name.name} is damaged \(.*\); delete it"):
        Progress.read(root).after("a", 1.0)
    (root / name).unlink()
    Progress.read(root).after("a", 1.0)
