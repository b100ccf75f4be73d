"""Run one notebook as a stage of the pipeline.

    python -m glscl.study.stage notebooks/03_train.ipynb profile=quick dataset=scenes method=glscl

The parameters are those that the running DVC stage declares (DVC sets DVC_STAGE), and those given as key=value. By
hand, without DVC, name the sections of params.yaml instead: `--sections train,model,datasets.scenes.inputs`. The whole
of params.yaml is checked before anything runs.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from glscl.child_process import end_with_launchers
from glscl.code_hash import PACKAGE
from glscl.files import full_disk, write_json
from glscl.study.parameters import (
    OWN,
    assigned,
    check_known,
    declared_by_stage,
    defaults,
    load_params,
    load_stages,
    named_sections,
    resolve,
)
from glscl.study.progress import Progress
from glscl.study.project import STAGE, project_root

ENVIRONMENT = {
    STAGE: "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow each other down on a shared machine
    "PLOTLY_RENDERER": "plotly_mimetype",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_MININTERVAL": "10",  # seconds between two states of a progress bar
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def require_valid_params(root: Path) -> None:
    """Raise ValueError, in one sentence, where params.yaml holds anything that a stage would refuse.

    What passed is remembered until params.yaml, dvc.yaml or the code changes: the check imports what training needs.
    """
    read = [root / "params.yaml", root / "dvc.yaml", *sorted(PACKAGE.rglob("*.py"))]
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in read)).hexdigest() + "\n"
    passed = root / "work/.params-checked"
    if not passed.is_file() or passed.read_text() != state:
        from glscl.study import schema

        schema.check(load_params(root), load_stages(root))
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.write_text(state)  # in place: processes of a launcher do so at once, and half of it is no state


def params_are_valid(root: Path) -> bool:
    """Whether `require_valid_params` takes params.yaml; why not is printed."""
    try:
        require_valid_params(root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    return True


def require_valid_given(root: Path, parameters: dict, assignments: list[str]) -> None:
    """Raise ValueError where parameters given as key=value or section.key=value could not come from params.yaml."""
    names = {pair.partition("=")[0].partition(".")[0] for pair in assignments}
    params = load_params(root)
    for name in names & {"profile", "dataset", "method"}:
        known = [*params[f"{name}s"], *([OWN] if name == "profile" else [])]
        if parameters[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {parameters[name]}; correct the spelling.")
    if names := names - {"profile", "dataset", "method"}:
        from glscl.study import schema

        schema.check_given(params, parameters, sorted(names))


def executed_path(root: Path, notebook: Path, parameters: dict) -> Path:
    """Where an executed notebook lies: work/notebooks/<profile, or corpora>/<notebook>[-<dataset>][-<method>].ipynb."""
    names = [notebook.stem, *(parameters[key] for key in ("dataset", "method") if key in parameters)]
    return root / "work/notebooks" / parameters.get("profile", "corpora") / f"{'-'.join(names)}.ipynb"


def _manager() -> type:
    """Of kernels without a standard output: they send what their processes print, and would print it too."""
    from jupyter_client import AsyncKernelManager

    class Silent(AsyncKernelManager):
        async def _async_start_kernel(self, **options) -> None:
            await super()._async_start_kernel(**options, stdout=subprocess.DEVNULL)

        start_kernel = _async_start_kernel

    return Silent


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
    options |= {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
    options["extra_arguments"] = ["--log-level=ERROR"]  # of the kernel, which else warns about its own port
    options["kernel_manager_class"] = _manager()
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
    os.replace(partial, failed if trouble else output)
    if trouble:
        raise RuntimeError(f"{notebook.name} failed, {trouble}; see {failed}")


@contextmanager
def trained_again(root: Path) -> Iterator[None]:
    """Where what runs meanwhile succeeds, remove the state of what it trained: to run it again trains again."""
    listed = root / f"work/.unfinished/.trained-{os.getpid()}"
    listed.parent.mkdir(parents=True, exist_ok=True)
    os.environ["GLSCL_TRAINED"] = str(listed)  # as `glscl.training.runs` reads it, whose import takes seconds
    try:
        yield
        for pattern in set(listed.read_text().split("\n")) if listed.exists() else ():
            for state in glob(pattern):
                shutil.rmtree(state, ignore_errors=True)
    finally:
        del os.environ["GLSCL_TRAINED"]
        listed.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Run the notebook named on the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.study.stage")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("assignments", nargs="*", metavar="key=value", help="parameters that override or add")
    parser.add_argument("--sections", default="", help="entries of params.yaml when run by hand")
    parser.add_argument("--output", type=Path, help="the executed notebook; by default in work/notebooks")
    given = parser.parse_intermixed_args(argv)
    start, name = time.monotonic(), os.environ.get("DVC_STAGE")
    # jsonschema imports it for a check that notebooks do not use, and it builds a grammar for almost two seconds.
    sys.modules["rfc3987_syntax"] = None
    output, root = given.output, given.notebook.parent
    try:
        root = project_root(root)
        require_valid_params(root)
        sections = named_sections(root, given.sections.split(",")) if given.sections else {}
        sections = declared_by_stage(root, name, assigned({}, given.assignments)) if name else sections
        parameters = assigned(resolve(sections), given.assignments, defaults(given.notebook))
        check_known(given.notebook, parameters)
        require_valid_given(root, parameters, given.assignments)
        output = output or executed_path(root, given.notebook, parameters)
        progress = Progress.read(root)
        print(progress.before(name or given.notebook.stem), flush=True)
        with trained_again(root), progress.during(name or given.notebook.stem):
            run_notebook(given.notebook, output, parameters)
            # DVC tracks this file and not the notebook, whose bytes change with every run: no file, and the stage runs.
            write_json(output.with_suffix(".json"), parameters, digits=12)
    except Exception as error:
        told = full_disk(error, root)
        if not told and not isinstance(error, ValueError | RuntimeError | OSError):
            raise
        print(f"error: {told or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished epochs are kept, and the same command goes on from them", file=sys.stderr)
        return 130
    print(progress.after(name or given.notebook.stem, time.monotonic() - start), flush=True)
    return 0


if __name__ == "__main__":
    if "DVC_STAGE" in os.environ:
        end_with_launchers()
    sys.exit(main())
