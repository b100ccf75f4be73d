"""Which stages a run of a profile has, and which of them are out of date."""

import subprocess
import sys
from pathlib import Path

import pytest

from glscl.study import pipeline
from tests import ROOT


def test_a_profile_has_its_own_stages_and_the_shared_ones():
    quick, full = (pipeline.stages_of(ROOT, profile) for profile in ("quick", "full"))
    shared = {"code", "features@facets", "check@scenes", "prepare@scenes", "encode@scenes"}
    assert set(quick) & set(full) == shared
    assert all("@quick" in name for name in set(quick) - shared)
    assert all(name.startswith("full_") and "@full" in name for name in set(full) - shared)


REPORT = """
  report:
    cmd: cp seen-stories-x_clip.json report.json
    deps: [seen-stories-x_clip.json]
    outs: [report.json: {cache: false, persist: true}]
"""


@pytest.mark.slow
def test_what_was_run_is_up_to_date_until_something_changes(small):
    root = small("open(f'seen-{dataset}-{method}.json', 'w').close()")
    (root / "dvc.yaml").write_text((root / "dvc.yaml").read_text() + REPORT)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    names = ["train@stories-glscl", "train@stories-x_clip", "report"]
    every = {"train@stories-glscl": set(), "train@stories-x_clip": set(), "report": {"train@stories-x_clip"}}
    assert pipeline.out_of_date(root, names) == every
    assert pipeline.run_all(pipeline.REPRO, every, 2) == 0
    assert Path("report.json").exists()
    assert pipeline.out_of_date(root, names) == {}
    Path("report.json").write_text("damaged")
    assert pipeline.out_of_date(root, names) == {"report": set()}
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("weight_decay: 0.2", "weight_decay: 0.1", 1))
    assert pipeline.out_of_date(root, names) == every  # the report reads from what has to run


# A stage "a@2" ends once 2 have begun, or after a minute, and writes which had; `broken` then fails.
STAGE = """
import sys, time, pathlib
name, _, count = sys.argv[1].partition("@")
pathlib.Path(f"{name}.began").touch()
until = time.time() + 60
while time.time() < until and len(list(pathlib.Path().glob("*.began"))) < int(count):
    time.sleep(0.01)
time.sleep(0.5)
pathlib.Path(f"{name}.ended").write_text(" ".join(path.stem for path in pathlib.Path().glob("*.began")))
sys.exit(3 if name == "broken" else 0)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(waits, at_once) -> (status, {stage: those that had begun when it ended})."""
    monkeypatch.chdir(tmp_path)

    def call(waits, at_once=2):
        status = pipeline.run_all([sys.executable, "-c", STAGE], waits, at_once)
        return status, {path.stem: set(path.read_text().split()) for path in tmp_path.glob("*.ended")}

    return call


def test_two_stages_run_at_once_and_each_after_those_that_it_reads(run):
    status, began = run({"b@3": {"a@2"}, "a@2": set(), "c@2": set(), "d@4": {"b@3", "c@2"}})
    assert status == 0
    assert began["a"] == began["c"] == {"a", "c"}
    assert (began["b"], began["d"]) == ({"a", "b", "c"}, {"a", "b", "c", "d"})


def test_stages_run_one_by_one_where_asked(run):
    assert run({"a@1": set(), "b@2": set()}, at_once=1) == (0, {"a": {"a"}, "b": {"a", "b"}})


def test_a_stage_that_measures_runs_alone(run):
    _, began = run({"a@2": set(), "costs@3": set(), "b@2": set(), "full_convergence@4": set()})
    assert began == {"a": {"a", "b"}, "b": {"a", "b"}, "costs": {"a", "b", "costs"}, "full_convergence": set(began)}


def test_after_a_failure_what_runs_ends_and_nothing_begins(run):
    status, began = run({"broken@2": set(), "a@2": set(), "b@3": {"broken@2"}})
    assert (status, set(began)) == (3, {"broken", "a"})
    assert run({"broken@2": set(), "c@3": set()}, at_once=1) == (3, began)


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("ERROR: no\n[Errno 28] No space left on device: '/nowhere/cache/file'", "error: the disk of / is full"),
        ("ERROR: it failed", "a stage failed; the same command goes on from there"),
    ],
)
def test_the_last_line_after_a_failure_says_what_to_do(capfd, said, last):
    command = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1])"]
    assert pipeline.run_all(command, {said: set()}, 1) == 1
    *before, found = capfd.readouterr().err.splitlines()
    assert "\n".join(before) == said
    assert found.startswith(last)


def test_an_unknown_profile_is_refused(capsys):
    with pytest.raises(SystemExit):
        pipeline.main(["fulll"])
    assert "the profiles quick, full, got 'fulll'" in capsys.readouterr().err
