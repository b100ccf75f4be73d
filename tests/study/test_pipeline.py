"""Which stages a run of a profile has, which of them are out of date, and what travels between two checkouts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from dvc.cli import main as dvc
from dvc.repo import Repo

from glscl.study import pipeline
from glscl.study.parameters import load_params
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


# Every stage of dvc.yaml writes what it declares, and its name into a log; `concepts` writes its parameter too.
WRITES = """
import json, os, pathlib, re
name = os.environ["DVC_STAGE"]
pathlib.Path(os.environ["LOG"]).open("a").write(name + "\\n")
pairs = re.search(r"pairs: \\d+", pathlib.Path("params.yaml").read_text())[0] if name.startswith("concepts") else ""
for out in json.loads(pathlib.Path("writes.json").read_text())[name]:
    path = pathlib.Path(out) if pathlib.Path(out).suffix else pathlib.Path(out, "file.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(out + pairs)
"""


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A repository with the graph of the quick profile, whose stages write a line into each of their outputs."""
    root = tmp_path / "whole"
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    text = re.sub(r"python -m glscl\.study\.\w+", f"{sys.executable} -S -E writes.py", (ROOT / "dvc.yaml").read_text())
    (root / "dvc.yaml").write_text(text)
    (root / "writes.py").write_text(WRITES)
    params = load_params(ROOT)
    for world in ("features", "videos"):
        params["profiles"]["quick"][world]["methods"] = ["glscl"]
    params["recipes"] = {name: {} for name in params["recipes"]}  # DVC reads the file once per stage
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for name in (
        "data/scenes/a",
        "data/tiny-clip/a",
        "glscl/report/template/a",
        "notebooks/a",
        "results/published.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    git("init", "-q")
    with Repo(str(root)) as repo:
        writes = {stage.addressing: [out.def_path for out in stage.outs] for stage in repo.index.stages}
    codes = [f"work/code/{path.stem}.txt" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")]
    kept = [f"work/quick/{dataset}/train/.keep.txt" for dataset in ("facets", "scenes")]
    (root / "writes.json").write_text(json.dumps(writes | {"code": codes + kept}))
    return root


def git(*arguments: str) -> str:
    """What git says."""
    named = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.run(["git", *named, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_what_was_pushed_is_up_to_date_in_a_clone_and_an_experiment_apart_runs_what_changed(
    whole, tmp_path, monkeypatch
):
    shutil.copy(ROOT / "data.dvc", whole)
    assert dvc(["add", "-q", "data"]) == 0
    assert "remote: bundled" in Path("data.dvc").read_text(), "the store holds the inputs alone"
    assert dvc(["repro", "-q", "report@quick"]) == 0
    (tmp_path / "team").mkdir()
    assert dvc(["remote", "add", "-q", "--default", "team", str(tmp_path / "team")]) == 0
    git("add", "--all")
    git("commit", "-qm", "run")
    assert dvc(["push", "-q", "--with-deps", "report@quick"]) == 0

    git("add", "--all")  # the inputs, in the store
    git("commit", "-qm", "store")
    git("clone", "-q", str(whole), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    for name, value in (("name", "nobody"), ("email", "nobody@example.org")):
        git("config", f"user.{name}", value)
    assert dvc(["pull", "-q", "--with-deps", "report@quick"]) == 0
    (tmp_path / "log").unlink()
    assert pipeline.out_of_date(Path.cwd(), pipeline.stages_of(Path.cwd(), "quick")) == {}
    assert (tmp_path / "log").read_text().split() == ["code"], "hashes of the sources, in a second"

    (tmp_path / "log").unlink()
    assert dvc(["exp", "run", "-q", "--temp", "-S", "concepts.pairs=7", "ledger@quick"]) == 0
    ran = (tmp_path / "log").read_text().split()
    assert ran == ["code", "concepts@quick-features-facets-glscl", "ledger@quick"]
    assert git("status", "--porcelain") == ""


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


def test_an_interrupt_ends_what_runs_and_says_how_to_go_on(tmp_path):
    # A profile of one stage that sleeps for minutes, in a process that is interrupted once the stage has begun.
    code = """
import signal, sys
from glscl.study import pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background of a shell ignores
sleep = "import pathlib, time; pathlib.Path('began').touch(); time.sleep(300); pathlib.Path('ended').touch()"
pipeline.params_are_valid = lambda root: True
pipeline.project_root = lambda: __import__("pathlib").Path.cwd()
pipeline.load_params = lambda root: {"profiles": {"quick": {}}}
pipeline.run_profile = lambda root, profile: pipeline.run_all([sys.executable, "-c", sleep], {"a": set()}, 1)
sys.exit(pipeline.main(["quick"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    while not (tmp_path / "began").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, trouble = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert trouble == "\nstopped; finished stages and epochs are kept, and `make reproduce` goes on from them\n"
    assert not (tmp_path / "ended").exists()


READS = """
import yaml
from glscl.data.corpora import read_corpus
read_corpus("own", yaml.safe_load(open("params.yaml"))["folder"])
"""


@pytest.mark.slow
def test_an_experiment_apart_reads_a_corpus_that_git_ignores_by_its_absolute_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "corpora/own"
    folder.mkdir(parents=True)
    (folder / "captions.csv").write_text("video,caption\na,a dog\n")
    stages = {"check": {"cmd": f"{sys.executable} read.py", "params": ["folder"]}}
    written = {".gitignore": "/corpora", "params.yaml": "folder: corpora/own", "read.py": READS}
    for name, text in (written | {"dvc.yaml": yaml.safe_dump({"stages": stages})}).items():
        Path(name).write_text(f"{text}\n")
    git("init", "-q")
    for name in ("name", "email"):  # DVC commits too
        git("config", f"user.{name}", "nobody")
    assert dvc(["init", "-q"]) == 0
    git("add", "--all")
    git("commit", "-qm", "all")
    assert dvc(["exp", "run", "--temp"]) != 0
    said = capfd.readouterr()
    assert "give the folder as an absolute path" in said.out + said.err
    assert dvc(["exp", "run", "--temp", "-S", f"folder={folder}"]) == 0


def test_a_second_run_says_which_one_it_waits_for(tmp_path, monkeypatch, capfd):
    # The stage of each run is to find no other one under way.
    stage = """
import pathlib, time
pathlib.Path("running").mkdir(exist_ok=False)
time.sleep(1)
pathlib.Path("running").rmdir()
"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "params_are_valid", lambda root: True)
    monkeypatch.setattr(pipeline, "project_root", Path.cwd)
    monkeypatch.setattr(pipeline, "load_params", lambda root: {"profiles": {"quick": {}}})
    monkeypatch.setattr(pipeline.verify, "report", lambda root, profile: ("", True))
    command = [sys.executable, "-c", stage]
    monkeypatch.setattr(pipeline, "run_profile", lambda root, profile: pipeline.run_all(command, {"a": set()}, 1))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(pipeline.main, [["quick"], ["quick"]])) == [0, 0]
    waits = f"runs the pipeline in {tmp_path}; this one waits for it."
    assert [line.endswith(waits) for line in capfd.readouterr().out.splitlines() if "waits" in line] == [True]


def test_an_unknown_profile_is_refused(capsys):
    with pytest.raises(SystemExit):
        pipeline.main(["fulll"])
    assert "the profiles quick, full, got 'fulll'" in capsys.readouterr().err
