"""The house in order: pins, notebooks, sizes, parameters in use, and no path of anybody's machine."""

import ast
import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
STORE = "dvcstore/"
LISTED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
TRACKED = [name for name in LISTED.split("\0") if name and (ROOT / name).is_file()]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = re.compile(r"(?<![\w.])/(?:home|Users|root|work|workspace|mnt|tmp)/[\w.-]+|[A-Z]:\\\\?Users")


def locked() -> dict[str, str]:
    """Pins of requirements.lock, by canonical name; every line must be an exact pin."""
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)
    return {canonicalize_name(name): pin for name, pin in pins.items()}


@pytest.mark.parametrize("wanted", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
def test_every_dependency_is_pinned_within_its_range(wanted):
    requirement = Requirement(wanted)
    pin = locked().get(canonicalize_name(requirement.name))
    assert pin is not None, f"requirements.lock does not pin {requirement.name}"
    assert pin in requirement.specifier


def test_conda_takes_the_same_python_and_the_lock():
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(entry.partition("=")[2] for entry in wanted if str(entry).startswith("python="))
    assert PROJECT["requires-python"] == f">={python}"
    assert wanted[-1] == {"pip": ["-r requirements.lock", "-e ."]}


def test_hooks_run_the_locked_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    ruff = [hook["entry"] for hook in hooks[0]["hooks"] if hook["id"].startswith("ruff")]
    assert len(ruff) == 2
    assert all(entry.startswith(".venv/bin/ruff ") for entry in ruff)
    assert version("ruff") == locked()["ruff"]


def test_git_tracks_no_file_above_one_megabyte():
    sizes = {name: (ROOT / name).stat().st_size for name in TRACKED if not name.startswith(STORE)}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_sources(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), "strip the outputs"
    assert cells[0]["cell_type"] == "markdown"
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert tags.count("parameters") == 1
    assert "injected-parameters" not in tags


def test_every_section_of_params_is_used_by_a_stage():
    text = (ROOT / "dvc.yaml").read_text()
    stages = yaml.safe_load(text)["stages"].values()
    used = {str(entry).partition(".")[0] for stage in stages for entry in stage.get("params", [])}
    used |= {name.partition(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", text)}
    unused = yaml.safe_load((ROOT / "params.yaml").read_text()).keys() - used
    assert not unused, f"no stage in dvc.yaml uses {sorted(unused)} of params.yaml"


def test_differences_name_tests_that_exist():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (ROOT / "docs/differences.md").read_text(encoding="utf-8"))
    assert named
    absent = [name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")]
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


# What only shows or runs a notebook, or reads weights that no stage reads: results do not rest on it.
PRESENTATION = {"stage", "page", "preview", "report", "findings", "released"}
PRESENTATION |= {path.stem for path in (ROOT / "glscl").glob("*figures.py")}
WHOLE = {"corpora", "rivals"}  # packages that a stage depends on as a whole


def imported(source: str) -> set[str]:
    """Modules of the package that source imports, such as `bundled/oracle`; only `bundled` imports relatively."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = f"glscl.bundled.{node.module or ''}" if node.level else node.module
            if base.split(".")[0] == "glscl":
                found |= {base.strip("."), *(f"{base.strip('.')}.{alias.name}" for alias in node.names)}
    names = {name.removeprefix("glscl").lstrip(".").replace(".", "/") for name in found}
    return {name for name in names if any((ROOT / "glscl").glob(f"{name}.py")) or name in WHOLE}


def closure(notebook: Path) -> set[str]:
    """Every module of the package that a notebook uses, directly or not, as paths in glscl/ without their ending."""
    cells = json.loads(notebook.read_text())["cells"]
    waiting = imported("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in PRESENTATION:
            continue
        seen.add(name)
        folder = ROOT / f"glscl/{name}"
        files = sorted(folder.glob("*.py")) if name in WHOLE else [ROOT / f"glscl/{name}.py"]
        waiting |= set().union(*(imported(file.read_text()) for file in files if file.exists()))
    return seen


@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if "report" not in n.name], ids=lambda path: path.name)
def test_a_stage_depends_on_all_code_that_its_results_rest_on(notebook):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][notebook.stem.partition("_")[2]]
    named = {dep.removeprefix("glscl/").removesuffix(".py") for dep in stage["deps"] if dep.startswith("glscl/")}
    needed = {name.partition("/")[0] if name.partition("/")[0] in WHOLE else name for name in closure(notebook)}
    assert needed - named == set(), f"add to the deps of {notebook.stem}"
    assert named - needed - PRESENTATION == set(), f"remove from the deps of {notebook.stem}"
