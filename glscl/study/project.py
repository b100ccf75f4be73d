"""Where the project lies, at which commit, on what hardware: what the first cells of every notebook show."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from glscl.report.page import facts_table

BY_HAND = Path("work/by-hand")  # where a notebook that no stage runs finds the project, and writes
STAGE = "GLSCL_STAGE"  # in the environment of a notebook that a stage runs


def project_root(start: str | Path = ".") -> Path:
    """The nearest folder at or above `start` that holds dvc.yaml; in `BY_HAND` the project that it shows.

    Raises FileNotFoundError where there is none.
    """
    start = Path(start).resolve()
    if root := next((folder for folder in [start, *start.parents] if (folder / "dvc.yaml").is_file()), None):
        return (root / "dvc.yaml").resolve().parent
    raise FileNotFoundError(f"no folder at or above {start} holds dvc.yaml; start inside a checkout of the project")


class NotYet(RuntimeError):
    """A notebook was opened before the stages ran that make what it reads; Jupyter shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def enter_project(notebook: str = "", scratch: bool = True, **items: str) -> Path:
    """Change to the project root and return it, so that a notebook opened from notebooks/ finds the same files.

    scratch: where no stage runs the caller, as in Jupyter, enter `BY_HAND` instead, and say so. What stages made and
    what was written there before is found there, and results and models of stages stay as they are.
    notebook: its name without ending; items: the parameters that tell its stage from the others of this notebook.
    Raises NotYet where what that stage reads is not there, with the command that makes it.
    """
    root = here = project_root()
    if scratch and STAGE not in os.environ:
        print(f"No stage runs this notebook: it writes into {BY_HAND}/, and what stages made stays as it is.")
        here = linked_project(root)
    os.chdir(here)
    if notebook and here != root:
        require_inputs(root, notebook, items)
    return here


def linked_project(root: Path) -> Path:
    """`BY_HAND` of the project, brought up to date: links to all files of `work` and `results`, and to all else.

    Files appear in one step here, which replaces a link and leaves its target alone. What was written there before is
    kept instead of a link.
    """
    copy = root / BY_HAND
    for link in copy.rglob("*"):
        if link.is_symlink():
            link.unlink()
    written = ("work", "results", "reports")
    linked = [path for path in root.iterdir() if path.name not in written and not path.name.startswith(".")]
    for path in (*(root / "work").rglob("*"), *(root / "results").rglob("*")):
        folders = path.relative_to(root).parent
        unfinished = any(name.startswith(".") for name in folders.parts)
        if path.is_file() and path.suffix != ".lock" and not unfinished and not folders.is_relative_to(BY_HAND):
            linked.append(path)
    for path in linked:
        link = copy / path.relative_to(root)
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return copy


def require_inputs(root: Path, notebook: str, items: dict[str, str]) -> None:
    """Raise NotYet where an input of the notebook's stage is not in the working directory, which shows the project.

    What other stages put into a folder that the stage reads counts as its input. Of a stage that dvc.yaml does not
    have, as for a corpus that it does not name, nothing is known.
    """
    stages = read_stages(root)
    command = {f"notebooks/{notebook}.ipynb", *(f"{name}={value}" for name, value in items.items())}
    own = next((stage for stage in stages if stage.cmd and command == set(stage.cmd.split()[3:])), None)
    if own is None:
        return
    read, absent = [Path(dep.fs_path) for dep in own.deps], {}
    for stage in stages:
        if stage is own or (stage.cmd and stage.name == "code"):  # whose hashes of code no notebook reads
            continue
        for path in (Path(out.fs_path) for out in stage.outs):
            needed = any(path == dep or dep in path.parents or path in dep.parents for dep in read)
            if needed and not path.relative_to(root).exists():
                absent[path.relative_to(root)] = stage
    if not absent:
        return
    if data := [path for path, stage in absent.items() if not stage.cmd]:
        raise NotYet(f"{data[0]} is not here: run `make inputs` first, then this notebook again.")
    makers = {stage.name for stage in absent.values()}  # its address depends on the working directory
    name = makers.pop() if len(makers) == 1 else own.name
    more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
    raise NotYet(f"{next(iter(absent))}{more} must be made first: run `dvc repro {name}`, then this notebook again.")


def read_stages(root: Path) -> list:
    """The stages of dvc.yaml and of the bundled inputs, as DVC reads them, in some seconds."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return list(repo.index.stages)


class Folders(NamedTuple):
    """Where the stages of one profile and one corpus read and write, relative to the project root.

    corpus: captions, frames and features, which all profiles share; described: what is known of them, `check.json` and
    `data.json`. work: trained models and ranks. results: numbers that are the same on every machine. measured: what
    this machine measured, such as seconds, beside its hardware; no other file holds such numbers.
    """

    corpus: Path
    described: Path
    work: Path
    results: Path
    measured: Path

    @classmethod
    def of(cls, profile: str, dataset: str) -> "Folders":
        """The folders of a profile, such as `quick`, and a dataset."""
        work, results = Path("work"), Path("results")
        own = Path(profile) / dataset
        described = results / "corpora" / dataset
        return cls(work / "corpora" / dataset, described, work / own, results / own, results / "measured" / own)


def commit() -> str:
    """Commit of the project, with "+changes" where code, notebooks or parameters differ; outside one, "no commit"."""
    try:
        root = project_root()
    except FileNotFoundError:
        return "no commit"
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True)
    sources = ["glscl", "notebooks", "params.yaml", "dvc.yaml", "requirements.lock"]
    changed = subprocess.run(["git", "status", "--porcelain", "--", *sources], cwd=root, capture_output=True)
    return head.stdout.strip() + ("+changes" if changed.stdout else "") if head.returncode == 0 else "no commit"


def hardware() -> str:
    """Name of the GPU that torch would use, or of the CPU with its number of cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"


def provenance(**about) -> None:
    """Display the table of what a notebook's numbers rest on: seeds, counts and so on as `about`, and the rest."""
    from IPython.display import HTML, display

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "plotly"))
    facts = {
        **about,
        "commit": commit(),
        "stage": os.environ.get("DVC_STAGE", "run by hand"),
        "versions": f"python {platform.python_version()}, {packages}",
        "hardware": hardware(),
        "started": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    display(HTML(facts_table(facts)))
