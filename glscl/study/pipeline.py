"""Run one profile of the pipeline: the stages that are not up to date, with the time that is left, then the check.

The whole of params.yaml is checked first.

python -m glscl.study.pipeline quick
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from glscl.study import verify
from glscl.study.parameters import load_params
from glscl.study.progress import Progress
from glscl.study.project import project_root
from glscl.study.stage import require_valid_params


def stages_of(root: Path, profile: str) -> list[str]:
    """Names of the stages of a profile, and of those that all profiles share, as dvc.yaml lists them."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        names = [stage.addressing for stage in repo.index.stages if not stage.is_data_source]
    others = [name for name in load_params(root)["profiles"] if name != profile]
    return [name for name in names if not any(re.search(rf"@{other}(-|$)", name) for other in others)]


def out_of_date(root: Path, names: list[str]) -> list[str]:
    """Those of the stages whose dependencies, parameters or outputs are not those of dvc.lock.

    Runs the stage `code` first where code or notebooks have changed: its hashes say which stages that concerns.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        if "code" in names:
            repo.reproduce("code")
        with repo.lock:
            return [stage.addressing for stage in repo.index.stages if stage.addressing in names and stage.changed()]


def main(argv: list[str] | None = None) -> int:
    """Run a profile; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m glscl.study.pipeline")
    parser.add_argument("profile", help="quick or full")
    profile = parser.parse_args(argv).profile
    root = project_root()
    try:
        require_valid_params(root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if profile not in load_params(root)["profiles"]:
        parser.error(f"params.yaml has the profiles {', '.join(load_params(root)['profiles'])}, got {profile!r}")
    names = stages_of(root, profile)
    plan = out_of_date(root, names)
    if plan:
        Progress.start(root, plan)
        done = subprocess.run([sys.executable, "-m", "dvc", "repro", *names], cwd=root)
        if done.returncode:
            print("a stage failed; the same command goes on from there", file=sys.stderr)
            return done.returncode
    else:
        print(f"{profile}: all {len(names)} stages are up to date")
    print(f"the report: {root / 'reports' / profile / 'index.html'}")
    said, holds = verify.report(root, profile)
    print(said)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
