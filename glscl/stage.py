"""Run one notebook as a pipeline stage, and what the first cells of every notebook need.

    python -m glscl.stage notebooks/03_train.ipynb work/notebooks/03_train.ipynb dataset=scenes method=glscl

The parameters are those that the running DVC stage declares (DVC sets DVC_STAGE). By hand, without DVC, name the
sections of params.yaml instead: `--sections study.seeds,train,model,datasets.scenes.inputs`.
"""

import argparse
import errno
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import version
from operator import getitem
from pathlib import Path

import pandas as pd

from glscl.page import facts_table

DATASET_KEYS = {"corpus", "inputs", "train", "model"}
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow each other down on a shared machine
    "PLOTLY_RENDERER": "plotly_mimetype",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm misses widgets, which a report could not show
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_MININTERVAL": "10",  # seconds between two states of a progress bar
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def project_root(start: str | Path = ".") -> Path:
    """The nearest folder at or above `start` that holds dvc.yaml. Raises FileNotFoundError where none does."""
    start = Path(start).resolve()
    if root := next((folder for folder in [start, *start.parents] if (folder / "dvc.yaml").is_file()), None):
        return root
    raise FileNotFoundError(f"no folder at or above {start} holds dvc.yaml; start inside a checkout of the project")


def enter_project() -> Path:
    """Change to the project root and return it, so that a notebook opened from notebooks/ finds the same files."""
    root = project_root()
    os.chdir(root)
    return root


def flatten(sections: dict) -> dict:
    """Notebook parameters of entries of params.yaml, such as {"train": {...}, "datasets.scenes.train": {...}}.

    The keys of a mapping become parameters; any other entry becomes the parameter named by its last part, and so does
    `methods` as a whole. What `thorough` says of a stage replaces the general value where `study.thorough` is true, and
    nothing otherwise. What `datasets` says of one dataset replaces both, and what `methods` says of one method all of
    them. Raises ValueError where two general entries, or two of one dataset, give the same name, and where `thorough`
    gives a name that is no general one.
    """
    levels: dict[str, dict] = {"": {}, "thorough": {}, "datasets": {}, "methods": {}}
    origin = {}
    for section, value in sections.items():
        start = section.partition(".")[0]
        flat = levels[start if start in levels else ""]
        mapping = isinstance(value, dict) and section != "methods"
        entries = value if mapping else {section.rpartition(".")[2]: value}
        for key, entry in entries.items():
            if key in flat:
                raise ValueError(f"params.yaml gives {key!r} in both {origin[key]!r} and {section!r}; rename one")
            flat[key], origin[key] = entry, section
    general, thorough = levels[""], levels["thorough"]
    if unknown := sorted(thorough.keys() - general.keys()):
        raise ValueError(
            f"{origin[unknown[0]]!r} of params.yaml may replace {sorted(general)}, got {', '.join(unknown)} (misspelt?)"
        )
    return general | (thorough if general.get("thorough") else {}) | levels["datasets"] | levels["methods"]


def declared_by_stage(root: Path, name: str) -> tuple[dict, str]:
    """Parameters that the DVC stage `name` declares, as {"section": value}, and its place, such as "5 of 11"."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        stages = [stage for stage in repo.index.stages if not stage.is_data_source]
        names = [stage.addressing for stage in stages]
        if name not in names:
            raise ValueError(f"dvc.yaml has no stage {name!r}, which DVC_STAGE names; its stages are {names}")
        index = names.index(name)
        declared = [params.read_params() for params in stages[index].params]
    for dataset, entry in load_params(root).get("datasets", {}).items():
        if unknown := sorted(entry.keys() - DATASET_KEYS):
            raise ValueError(f"params.yaml: datasets.{dataset} has no {unknown}; it has {sorted(DATASET_KEYS)}")
    return reduce(dict.__or__, declared, {}), f"{index + 1} of {len(names)}"


def load_params(root: Path) -> dict:
    """params.yaml of the project at `root`, read as DVC reads it."""
    from dvc.utils.serialize import load_yaml

    return load_yaml(root / "params.yaml")


def named_sections(root: Path, names: list[str]) -> dict:
    """The entries of params.yaml with these dotted names, as {"section": value}."""
    params = load_params(root)
    try:
        return {name: reduce(getitem, name.split("."), params) for name in names}
    except (KeyError, TypeError) as error:
        raise ValueError(f"--sections {','.join(names)}: params.yaml has no {error}; it has {list(params)}") from None


def assignments(pairs: list[str]) -> dict:
    """Parse key=value, the value as the YAML of params.yaml (1e-4 is a number). Raises ValueError for anything else."""
    from dvc.utils.serialize import parse_yaml

    given = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.isidentifier()):
            raise ValueError(f"expected key=value, got {pair!r}")
        given[key] = parse_yaml(f"value: {value}", f"the value of {key}")["value"]
    return given


def check_known(notebook: Path, parameters: dict) -> None:
    """Raise ValueError where a parameter is not in the notebook's `parameters` cell (papermill would only warn)."""
    import papermill

    known = sorted(papermill.inspect_notebook(str(notebook)))
    if unknown := sorted(set(parameters) - set(known)):
        unknown, known = ", ".join(unknown), ", ".join(known)
        raise ValueError(f"{notebook.name} has no parameter {unknown} (misspelt?); its parameters are {known}")


def stabilise(path: Path) -> None:
    """Strip from an executed notebook what differs between two equal runs: times, paths, versions, a random cell id."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for part in [notebook, *notebook.cells]:
        for key in ("papermill", "widgets", "execution"):
            part.metadata.pop(key, None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    nbformat.write(notebook, path)


def run_notebook(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute `notebook` at the project root and write `output`, which appears only when every cell has run.

    Raises RuntimeError with the failing cell's error; what was executed is then kept beside it as NAME.failed.ipynb.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)
    os.environ.update(ENVIRONMENT)
    options = {"kernel_name": "python3", "cwd": str(project_root(notebook.parent)), "progress_bar": False}
    options |= {"record_timing": False, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    options["extra_arguments"] = ["--log-level=ERROR"]  # of the kernel, which else warns about its own port
    trouble = None
    try:
        executed = papermill.execute_notebook(str(notebook), str(partial), parameters, **options)
        # papermill takes sys.exit(0) for success, with the remaining cells never run
        if any(c.cell_type == "code" and c.source.strip() and c.execution_count is None for c in executed.cells):
            trouble = "a cell called sys.exit, so the cells after it never ran"
    except papermill.PapermillExecutionError as error:
        trouble = f"cell In [{error.exec_count}]: {error.ename}: {error.evalue}"
    except DeadKernelError:
        trouble = "the kernel died; out of memory is the usual cause"
    stabilise(partial)
    os.replace(partial, failed if trouble else output)
    if trouble:
        raise RuntimeError(f"{notebook.name} failed, {trouble}; see {failed}")


def commit() -> str:
    """Commit of the project, with "+changes" where code, notebooks or parameters differ from it."""
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    sources = ["glscl", "notebooks", "params.yaml", "dvc.yaml", "requirements.lock"]
    changed = subprocess.run(["git", "status", "--porcelain", "--", *sources], capture_output=True)
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` in one step, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write `table` without its index to `path`, CSV or Parquet by its ending, in one step, and make its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write = {".csv": table.to_csv, ".parquet": table.to_parquet}[path.suffix]
    write(partial, index=False)
    os.replace(partial, path)


def _plain(value, digits: int, where: str):
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy and torch, arrays and scalars
    if isinstance(value, dict):
        return {str(key): _plain(entry, digits, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, digits, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, and results must be finite; look for what made it so")
        return float(f"{value:.{digits}g}")
    return value


def write_json(path: str | Path, mapping: dict, digits: int = 6) -> None:
    """Write `mapping` with sorted keys and floats rounded to `digits` significant digits.

    Takes numpy and torch values. Raises ValueError, and writes nothing, where a number is not finite.
    """
    path = Path(path)
    text = json.dumps(_plain(mapping, digits, path.name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(path, text)


def main(argv: list[str] | None = None) -> int:
    """Run the notebook named on the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.stage")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("assignments", nargs="*", metavar="key=value", help="parameters that override or add")
    parser.add_argument("--sections", default="", help="entries of params.yaml when run by hand")
    given = parser.parse_intermixed_args(argv)
    start, name, place = time.monotonic(), os.environ.get("DVC_STAGE"), "by hand"
    # jsonschema imports it for a check that notebooks do not use, and it builds a grammar for almost two seconds.
    sys.modules["rfc3987_syntax"] = None
    try:
        root = project_root(given.notebook.parent)
        sections = named_sections(root, given.sections.split(",")) if given.sections else {}
        if name:
            sections, place = declared_by_stage(root, name)
        name = name or given.notebook.stem
        assigned = assignments(given.assignments)
        if "thorough" in assigned:
            sections["study.thorough"] = assigned["thorough"]
        parameters = {**flatten(sections), **assigned}
        check_known(given.notebook, parameters)
        print(f"stage {name} ({place}): {parameters}", flush=True)
        run_notebook(given.notebook, given.output, parameters)
    except (ValueError, RuntimeError, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        print(f"error: {error}{f'; free space for {given.output} and run again' if full else ''}", file=sys.stderr)
        return 1
    print(f"stage {name} took {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
