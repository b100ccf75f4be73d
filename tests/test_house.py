"""The house in order: pins, notebooks, sizes, parameters in use, and no path of anybody's machine."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from glscl.study import parameters, pipeline
from tests import ROOT

STORE = "dvcstore/"
LISTED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
TRACKED = [name for name in LISTED.split("\0") if name and (ROOT / name).is_file()]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OF_STAGES = [path for path in NOTEBOOKS if path.name != "explore.ipynb"]  # the explorer is read, and is no stage
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = re.compile(r"(?<![\w.])/(?:home|Users|root|work|workspace|mnt|tmp)/[\w.-]+|[A-Z]:\\\\?Users")


def locked(file: str = "requirements.lock") -> dict[str, str]:
    """Pins of a lock, by canonical name; every entry must be an exact pin, with hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    pin = r"([\w.-]+)==([\w.+]+)(?: ; [^\\\n]+)? \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
    pins = re.findall(pin, text)
    assert re.fullmatch(rf"(?:{pin})+", text), f"{file} has more than pins with hashes"
    return {canonicalize_name(name): version for name, version, _ in pins}


@pytest.mark.parametrize("wanted", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
def test_every_dependency_is_pinned_within_its_range(wanted):
    requirement = Requirement(wanted)
    pin = locked().get(canonicalize_name(requirement.name))
    assert pin is not None, f"requirements.lock does not pin {requirement.name}"
    assert pin in requirement.specifier


def test_what_torch_needs_of_cuda_is_locked_apart():
    apart = locked("requirements-cuda.lock")
    assert not apart.keys() & locked().keys()
    assert {name.partition("-")[0] for name in apart} == {"nvidia", "cuda", "triton"}
    assert locked("requirements-cpu.lock") == {"torch": f"{locked()['torch']}+cpu"}


def test_conda_takes_the_same_python_and_leaves_the_rest_to_make():
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(entry.partition("=")[2] for entry in wanted if str(entry).startswith("python="))
    assert PROJECT["requires-python"] == f">={python}"
    assert set(wanted) == {f"python={python}", "git", "make"}


def test_hooks_run_the_locked_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    ruff = [hook["entry"] for hook in hooks[0]["hooks"] if hook["id"].startswith("ruff")]
    assert len(ruff) == 2
    assert all(entry.startswith(".venv/bin/ruff ") for entry in ruff)
    assert version("ruff") == locked()["ruff"]


@pytest.mark.parametrize(("made_in", "again"), [("here", False), ("elsewhere", True)])
def test_an_environment_that_was_moved_is_made_again(tmp_path, made_in, again):
    environment = tmp_path / "here/.venv"
    (environment / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, tmp_path / "here")
    for path in (environment / "bin/pip", environment / ".installed"):
        path.touch(0o755)
    made = f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv --clear {tmp_path / made_in / '.venv'}\n"
    (environment / "pyvenv.cfg").write_text(made)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/.venv").symlink_to(environment)  # as a second checkout may share the first one's
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, tmp_path / "linked")
    os.utime(environment / ".installed", (2**31, 2**31))
    for folder in ("here", "linked"):
        command = ["make", "--dry-run", ".venv/.installed"]
        planned = subprocess.run(command, cwd=tmp_path / folder, capture_output=True, text=True, check=True).stdout
        assert ("was made in another folder" in planned) == again
        assert ("-m venv --clear .venv" in planned) == again


def test_git_tracks_no_file_above_one_megabyte():
    sizes = {name: (ROOT / name).stat().st_size for name in TRACKED if not name.startswith(STORE)}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_sources(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), "strip the outputs"
    assert cells[0]["cell_type"] == "markdown"
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert tags.count("parameters") == (path in OF_STAGES)
    assert "injected-parameters" not in tags


def test_notebooks_of_stages_have_a_number_and_no_stage_runs_another():
    numbered = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
    run = re.findall(r"notebooks/\w+\.ipynb", (ROOT / "dvc.yaml").read_text())
    assert numbered == OF_STAGES
    assert set(run) == {f"notebooks/{path.name}" for path in OF_STAGES}


def test_every_section_of_params_is_used_by_a_stage():
    text = (ROOT / "dvc.yaml").read_text()
    stages = yaml.safe_load(text)["stages"].values()
    used = {str(entry).partition(".")[0] for stage in stages for entry in stage.get("params", [])}
    used |= {name.partition(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", text)}
    unused = parameters.load_params(ROOT).keys() - used
    assert not unused, f"no stage in dvc.yaml uses {sorted(unused)} of params.yaml"


def test_differences_name_tests_that_exist():
    text = (ROOT / "docs/differences.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)::(\w+)`", text)
    assert len(named) > 20
    sources = {file: ROOT / "tests" / file for file, _ in named}
    sources = {file: path.read_text(encoding="utf-8") if path.exists() else "" for file, path in sources.items()}
    absent = [f"{file}::{name}" for file, name in named if f"def {name}(" not in sources[file]]
    assert not absent


def test_no_file_names_a_path_of_one_machine():
    found = {}
    for name in TRACKED:
        content = (ROOT / name).read_bytes()
        if name.startswith(STORE) or b"\0" in content[:8000]:
            continue
        if match := HOME.search(content.decode("utf-8", errors="replace")):
            found[name] = match[0]
    assert found == {}


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ('open("/' + 'home/ann/data.csv")', True),
        ("see /" + "Users/ann", True),
        ("work/scenes/captions.parquet", False),
        ("https://example.org/home/page", False),
    ],
)
def test_which_paths_count_as_one_machines(text, caught):
    assert bool(HOME.search(text)) == caught


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_call_the_package(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    code = [cell["source"] for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    lines = [line for source in code for line in source if line.strip()]
    assert len(lines) <= 60, f"{len(lines)} lines of code; move some into glscl/study"


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def declared(name: str, **items) -> dict:
    """A stage of dvc.yaml as text, with the items of its matrix and values of params.yaml put in."""
    text = json.dumps(STAGES[name])
    for item, value in items.items():
        text = text.replace(f"${{item.{item}}}", value)
    params = parameters.load_params(ROOT)
    for section, key in (("transfer", "target"), ("costs", "trained_on"), ("evaluate", "first_stage")):
        text = text.replace(f"${{{section}.{key}}}", params[section][key])
    return json.loads(text)


@pytest.mark.parametrize("path", OF_STAGES, ids=lambda path: path.name)
def test_defaults_of_a_notebook_are_those_of_params(path):
    name = path.stem.partition("_")[2]
    dataset = "scenes" if name in ("check", "prepare", "encode", "search") else "facets"
    stage = declared(name, profile="quick", world="features", dataset=dataset, method="glscl")
    resolved = parameters.resolve(parameters.named_sections(ROOT, stage["params"]))
    given = dict(word.split("=") for word in stage["cmd"].split() if "=" in word)
    none = {"start": ""} if "head" in resolved else {}  # a method need not name one
    assert parameters.defaults(path) == none | resolved | given


@pytest.mark.parametrize("path", OF_STAGES, ids=lambda path: path.name)
def test_a_stage_depends_on_the_code_of_its_notebook(path):
    for name in (path.stem.partition("_")[2], f"full_{path.stem.partition('_')[2]}"):
        stage = STAGES.get(name)
        if stage is not None:
            assert f"notebooks/{path.name}" in stage["cmd"]
            assert {f"work/code/{path.stem}.txt", "work/code"} & set(stage["deps"])


def test_no_stage_declares_what_a_machine_measured():
    declared_outputs = [out for stage in STAGES.values() for out in (*stage.get("outs", []), *stage.get("deps", []))]
    names = [next(iter(out)) if isinstance(out, dict) else out for out in declared_outputs]
    assert not [name for name in names if name.startswith(("results/measured", "reports")) or name.endswith("ipynb")]


def test_no_stage_with_a_notebook_is_restored_without_running():
    for name, stage in STAGES.items():
        outs = [out for kind in ("outs", "plots", "metrics") for out in stage.get(kind, [])]
        if "notebooks/" in stage["cmd"] and outs:
            flags = [next(iter(out.values())) for out in outs if isinstance(out, dict)]
            assert any(flag.get("persist") for flag in flags), f"no output of {name} has persist: true"


def test_the_lock_knows_the_stages_of_today_alone():
    locked_names = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"].keys()
    today = {"code", *pipeline.stages_of(ROOT, "quick"), *pipeline.stages_of(ROOT, "full")}
    assert locked_names <= today


@pytest.mark.parametrize("folder", ["quick", "full"])
def test_measured_and_deterministic_results_share_no_file(folder):
    measured = re.compile(r"second|hardware|commit\b|items_per|memory|waiting|started")
    files = [name for name in TRACKED if re.match(rf"results/({folder}|corpora|claims|summary)/", name)]
    committed = {name: subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, text=True).stdout
                 for name in files if name.endswith((".json", ".csv"))}  # fmt: skip
    keys = {name: set(re.findall(r'"(\w+)":', text) if name.endswith("json") else text.partition("\n")[0].split(","))
            for name, text in committed.items()}  # fmt: skip
    assert {
        name: found for name, all_ in keys.items() if (found := {key for key in all_ if measured.search(key)})
    } == {}
