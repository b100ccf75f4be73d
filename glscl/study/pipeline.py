"""Run one profile of the pipeline: the stages that are not up to date, with the time that is left, then the check.

The whole of params.yaml is checked first.

python -m glscl.study.pipeline quick

Two stages run at once where there is no GPU: one reads, imports and writes while the other computes.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from glscl.child_process import LAUNCHER
from glscl.files import full_disk
from glscl.locks import alone
from glscl.study import verify
from glscl.study.parameters import load_params
from glscl.study.progress import Progress
from glscl.study.project import project_root
from glscl.study.stage import params_are_valid

REPRO = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
COMMANDS = {"quick": "make reproduce", "full": "make study"}
ALONE = re.compile(r"(full_)?(costs|convergence)@")  # stages whose times are results


def stages_of(root: Path, profile: str) -> list[str]:
    """Names of the stages of a profile, and of those that all profiles share, as dvc.yaml lists them."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        names = [stage.addressing for stage in repo.index.stages if not stage.is_data_source]
    names = [name for name in names if not name.startswith("own_")]
    others = [name for name in load_params(root)["profiles"] if name != profile]
    return [name for name in names if not any(re.search(rf"@{other}(-|$)", name) for other in others)]


def out_of_date(root: Path, names: list[str]) -> dict[str, set[str]]:
    """Those of the stages that have to run, each with those of them that it reads from, in the order of dvc.yaml.

    They are the stages whose dependencies, parameters or outputs are not those of dvc.lock, and what reads from these.
    Runs the stage `code` first where code or notebooks have changed: its hashes say which stages that concerns.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        if "code" in names:
            repo.reproduce("code")
        with repo.lock:
            graph, stages = repo.index.graph, [stage for stage in repo.index.stages if stage.addressing in names]
            reads = {stage.addressing: {of.addressing for of in graph.successors(stage)} for stage in stages}
            found = {stage.addressing for stage in stages if stage.changed()}
    while more := {name for name in reads if reads[name] & found} - found:
        found |= more
    return {name: reads[name] & found for name in reads if name in found}


def run_all(command: list[str], waits: dict[str, set[str]], at_once: int) -> int:
    """Run `command` + [stage] for every stage, once those that it waits for are done: 0, or the status of a failure.

    waits: {stage: others}; of stages that could begin the first one does. At most `at_once` run at the same time, and
    one of `ALONE` beside no other. After a failure those that run go on to their end, none begins, and the last line
    says what to do.
    """
    left, running, status = dict(waits), {}, 0
    said, listeners, environment = [], [], os.environ | {LAUNCHER: str(os.getpid())}
    try:
        while running or (left and not status):
            ready = [name for name, others in left.items() if not others & (left.keys() | running.keys())]
            for name in [] if status else ready:
                alone = any(ALONE.match(one) for one in (name, *running))
                if len(running) < (1 if alone else at_once):
                    # In a group of its own: an interrupt is for this process, which ends the stages without a word.
                    running[name] = subprocess.Popen(
                        [*command, name], stderr=subprocess.PIPE, start_new_session=True, env=environment
                    )
                    listener = threading.Thread(target=_pass_on, args=(running[name].stderr, said), daemon=True)
                    listener.start()
                    listeners.append(listener)
                    del left[name]
            time.sleep(0.1)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                status = running.pop(name).returncode or status
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        for listener in listeners:
            listener.join(timeout=5)  # something that a stage left behind may hold its stderr
    if status:
        told = full_disk(b"".join(said).decode(errors="replace"), Path.cwd())
        print(f"error: {told}" if told else "a stage failed; the same command goes on from there", file=sys.stderr)
    return status


def _pass_on(errors: IO[bytes], said: list[bytes]) -> None:
    """Write what a stage says on stderr, DVC's words included, to this process's, and keep it."""
    while part := errors.read1():
        said.append(part)
        os.write(2, part)


def run_profile(root: Path, profile: str) -> int:
    """Run the stages of a profile that are not up to date: 0, or the status of a failure."""
    names = stages_of(root, profile)
    plan = out_of_date(root, names)
    if not plan:
        print(f"{profile}: all {len(names)} stages are up to date")
        return 0
    Progress.start(root, list(plan))
    os.chdir(root)
    return run_all(REPRO, plan, _at_once())


def _at_once() -> int:
    import torch

    return 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)


def main(argv: list[str] | None = None) -> int:
    """Run a profile; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.study.pipeline")
    parser.add_argument("profile", help="quick or full")
    profile = parser.parse_args(argv).profile
    root = project_root()
    try:
        return _run(root, profile, parser)
    except Exception as error:
        if not (told := full_disk(error, root)):
            raise
        print(f"error: {told}", file=sys.stderr)
        return 1


def _run(root: Path, profile: str, parser: argparse.ArgumentParser) -> int:
    if not params_are_valid(root):
        return 1
    if profile not in load_params(root)["profiles"]:
        parser.error(f"params.yaml has the profiles {', '.join(load_params(root)['profiles'])}, got {profile!r}")
    try:
        with alone(root / ".dvc/tmp/pipeline.lock", f"runs the pipeline in {root}", wait=True):
            status = run_profile(root, profile)
    except KeyboardInterrupt:
        again = COMMANDS.get(profile, f"python -m glscl.study.pipeline {profile}")
        print(f"\nstopped; finished stages and epochs are kept, and `{again}` goes on from them", file=sys.stderr)
        return 130
    if status:
        return status
    index = root / "reports" / profile / "index.html"
    print(f"the report: {index}" if index.exists() else "no report is here, as pages do not travel; see docs/data.md")
    said, holds = verify.report(root, profile)
    print(said)
    return 0 if holds else 1


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # and not ignored, as under nohup
            signal.signal(number, signal.default_int_handler)
    sys.exit(main())
