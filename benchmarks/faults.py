"""What kills, damage and races do to a run of the pipeline: how often it was tried, survived, and lost.

python -m benchmarks.faults --seed 0

The project on small corpora runs undisturbed once, which says what every stage makes. Then stages of copies of it are
disturbed at random moments, and run again by the same command. A trial is survived where the stage then makes the same
bytes, refused where what fails says why in a sentence, and lost in any other case. `--only NUMBER` repeats one trial.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import psutil
import yaml

from benchmarks import small_study
from glscl.files import write_text
from glscl.study.progress import TIMES
from glscl.training.runs import UNFINISHED
from tests.clips import make_unfit

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reliability.md"
TABLE = re.compile(r"(?<=<!-- faults: made by `make faults` -->\n).*(?=<!-- end of faults -->)", re.DOTALL)
SEED = 0
MINUTES = 18  # after which no trial begins
COPIES = 2  # of the project, which are disturbed at the same time
PATIENCE = 600  # seconds that a stage, which takes some ten, may take before it counts as hanging
ORPHANS = 20  # seconds within which what a kill left must have ended
RUN = [sys.executable, "-m", "glscl.study.pipeline", "quick"]
PIPELINE = "kill -9 of the pipeline"
SURVIVED, REFUSED, LOST = "survived", "refused in a sentence", "lost"


class Trial(NamedTuple):
    """What was done to which stage, what came of it, whether processes lived on, and the end of what was printed."""

    kind: str
    stage: str
    outcome: str
    orphans: bool = False
    said: str = ""


class Project:
    """The small project in a folder of its own, with DVC and git, as a user has it."""

    def __init__(self, folder: Path):
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PYTHONPATH": str(folder), "PATH": path, "OMP_WAIT_POLICY": "PASSIVE"}

    @classmethod
    def write(cls, folder: Path, bundled: Path) -> "Project":
        """Make it, without results."""
        small_study.write(folder, bundled)
        shutil.copytree(ROOT / "glscl", folder / "glscl", ignore=shutil.ignore_patterns("__pycache__"))
        for name in (".gitignore", ".dvcignore", "requirements.lock"):
            shutil.copy(ROOT / name, folder)
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
        project = cls(folder)
        project.call("git", "init", "--quiet")
        project.commit()
        return project

    def commit(self) -> None:
        """Commit everything, as results that `glscl.study.verify` compares with."""
        self.call("git", "add", "--all")
        author = ("-c", "user.name=faults", "-c", "user.email=faults@localhost")
        self.call("git", *author, "commit", "--quiet", "-m", "all")

    def copy(self, folder: Path) -> "Project":
        """The same project in another folder."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def call(self, *command: str) -> str:
        """What a command printed. Raises RuntimeError with the end of it where it fails."""
        code, said = self.finish(self.start(*command))
        if code:
            raise RuntimeError(f"{' '.join(command)} should succeed in {self.folder}, it printed: {said[-2000:]}")
        return said

    def start(self, *command: str) -> subprocess.Popen:
        """Begin a command in a process group of its own, as a terminal does; what it prints goes to a file."""
        # A pipe would be kept open by processes that live on.
        printed = tempfile.TemporaryFile("w+")  # noqa: SIM115, `finish` closes it
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=printed, stderr=subprocess.STDOUT, process_group=0
        )
        process.printed = printed
        return process

    def finish(self, process: subprocess.Popen, patience: float = PATIENCE) -> tuple[int, str]:
        """Exit status and what was printed; a command that hangs is killed and says so."""
        try:
            code, hung = process.wait(patience), ""
        except subprocess.TimeoutExpired:
            for one in self.processes():
                one.kill()
            code, hung = process.wait(), f"\nit hung for {patience} s"
        with process.printed as printed:
            printed.seek(0)
            return code, printed.read() + hung

    def repro(self, stage: str) -> list[str]:
        """The command that runs one stage where it has to."""
        return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]

    def lock(self, stage: str) -> dict:
        """What dvc.lock says of a stage."""
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"][stage]

    def made(self, stage: str) -> dict[str, str]:
        """The hash of everything that a stage made, by its path."""
        return {out["path"]: out["md5"] for out in self.lock(stage).get("outs", [])}

    def stages(self) -> list[str]:
        """Every stage that ran, but the one that hashes code, which takes no time."""
        return [name for name in yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"] if name != "code"]

    def forget(self, stage: str) -> None:
        """Remove what a stage made, and what is left of trainings, so that it begins anew."""
        for path in self.made(stage):
            remove(self.folder / path)
        remove(self.folder / UNFINISHED)

    def processes(self) -> list[psutil.Process]:
        """All that run in the folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- what is killed


def words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def named(text: str) -> Callable[[Project], list[psutil.Process]]:
    return lambda project: [one for one in project.processes() if text in words(one)]


def training(project: Project) -> list[psutil.Process]:
    """Processes that a server forked for a training."""
    servers = {one.pid: one for one in project.processes() if "multiprocessing.forkserver" in words(one)}
    return [one for one in servers.values() if one.is_running() and one.ppid() in servers]


KILLED = {  # whom kill -9 hits
    "kill -9 of all processes": lambda project: project.processes(),
    PIPELINE: named("-m glscl.study.pipeline"),
    "kill -9 of DVC": named("-m dvc"),
    "kill -9 of the stage": named("-m glscl.study.stage"),
    "kill -9 of the kernel": named("ipykernel_launcher"),
    "kill -9 of a training process": training,
}
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
KINDS = (*KILLED, *SIGNALS)


def strike(project: Project, process: subprocess.Popen, kind: str, generator: random.Random) -> None:
    """Do to a running stage what `kind` says, once there is something to hit."""
    if kind in SIGNALS:
        if process.poll() is None:
            send = os.killpg if kind == "Ctrl-C" else os.kill  # a terminal sends it to the whole group
            send(process.pid, SIGNALS[kind])
        return
    while process.poll() is None:
        if found := KILLED[kind](project):
            if kind.endswith("training process"):
                time.sleep(generator.uniform(0, 2))
            hit = found if kind.endswith("all processes") else [generator.choice(found)]
            for one in hit:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            return
        time.sleep(0.05)


def ended(project: Project) -> bool:
    """Whether all processes in the folder end within `ORPHANS` seconds."""
    patience = time.monotonic() + ORPHANS
    while project.processes():
        if time.monotonic() > patience:
            return False
        time.sleep(0.2)
    return True


def killed(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """Kill a stage at a random moment of its `seconds`, and run it again."""
    expected = project.made(stage)
    project.forget(stage)
    process = project.start(*(RUN if kind == PIPELINE else project.repro(stage)))
    time.sleep(generator.uniform(0, seconds))
    strike(project, process, kind, generator)
    project.finish(process)
    orphans = not ended(project)
    return judged(project, kind, stage, expected, orphans)


def judged(project: Project, kind: str, stage: str, expected: dict, orphans: bool = False, said: str = "") -> Trial:
    """Run a stage by the same command until its end, and say what came of it."""
    code, printed = project.finish(project.start(*project.repro(stage)))
    if code == 0 and project.made(stage) == expected:
        return Trial(kind, stage, SURVIVED, orphans)
    outcome = REFUSED if code and sentence(printed) else LOST
    return Trial(kind, stage, outcome, orphans, said + printed)


def sentence(printed: str) -> bool:
    """Whether a failure says why in a line of its own, and shows no traceback after it."""
    return re.search(r"^error: \S.*", printed, re.MULTILINE) is not None


# --- what is damaged


def damage(file: Path, generator: random.Random) -> str:
    """Do to a file what a crash of the machine does: cut it at a random place, or lose or change a part of it."""
    content = bytearray(file.read_bytes())
    start, kind = generator.randrange(len(content)), generator.choice(("cut", "emptied", "zeroed", "changed"))
    part = slice(start, start + generator.randint(1, 4096))
    if kind == "zeroed":
        content[part] = bytes(len(content[part]))
    elif kind == "changed":
        content[part] = generator.randbytes(len(content[part]))
    file.write_bytes(content[: {"cut": start, "emptied": 0}.get(kind, len(content))])
    return kind


def damaged_resume(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """Kill a training at a random moment, damage a file of what its resume needs, and run it again."""
    expected = project.made(stage)
    project.forget(stage)
    process = project.start(*project.repro(stage))
    while process.poll() is None and not files(project.folder / UNFINISHED):
        time.sleep(0.05)
    time.sleep(generator.uniform(0, seconds / 4))
    strike(project, process, "kill -9 of all processes", generator)
    project.finish(process)
    orphans, said = not ended(project), ""
    if found := files(project.folder / UNFINISHED):
        file = generator.choice(found)
        said = f"{file.relative_to(project.folder)} was {damage(file, generator)}\n"
    return judged(project, kind, stage, expected, orphans, said)


def damaged_result(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """Damage a file that a finished stage made, and run it again."""
    expected, found = project.made(stage), []
    for path in expected:
        found += files(project.folder / path)
    file = generator.choice(found)
    said = f"{file.relative_to(project.folder)} was {damage(file, generator)}\n"
    return judged(project, kind, stage, expected, said=said)


def files(path: Path) -> list[Path]:
    """The files in a folder, or the file itself, that are not empty."""
    every = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in every if file.is_file() and file.stat().st_size]


# --- two at once


def two_runs(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """Run the pipeline twice at once, of which one stage has to run."""
    return _at_once(project, kind, stage, RUN, seconds, generator)


def two_by_hand(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """Run a stage twice at once without DVC, which would let the second wait."""
    locked = project.lock(stage)
    sections = ",".join(locked["params"]["params.yaml"])
    command = [sys.executable, *locked["cmd"].split()[1:], "--sections", sections]
    return _at_once(project, kind, stage, command, seconds, generator)


def _at_once(project, kind: str, stage: str, command: list[str], seconds: float, generator: random.Random) -> Trial:
    expected = project.made(stage)
    project.forget(stage)
    first = project.start(*command)
    time.sleep(generator.uniform(0, seconds / 2))
    each = [project.finish(process) for process in (project.start(*command), first)]
    unsaid = [printed for code, printed in each if code and not sentence(printed)]
    found = judged(project, kind, stage, expected, not ended(project))
    return found._replace(outcome=LOST, said=unsaid[0]) if unsaid else found


# --- odd files


def odd_files(project: Project, generator: random.Random) -> list[Trial]:
    """Index odd files beside a whole clip: each must be taken, or have a reason why not."""
    videos, clip = project.folder / "odd", sorted((project.folder / "data/scenes/videos").iterdir())[0]
    videos.mkdir()
    for name in ("empty", "text", "sound"):
        make_unfit(videos / f"{name}.mp4", name)
    for name in ("another ending.avi", "no ending mp4.mp4.mp4", "line\nbreak.mp4", "e\N{COMBINING ACUTE ACCENT}.mp4"):
        shutil.copy(clip, videos / name)
    for number in range(4):
        shutil.copy(clip, videos / f"damaged {number}.mp4")
        damage(videos / f"damaged {number}.mp4", generator)
    odd = [file.name for file in sorted(videos.iterdir())]
    shutil.copy(clip, videos / "whole.mp4")
    glscl = [sys.executable, "-m", "glscl.cli"]
    code, said = project.finish(project.start(*glscl, "index", "odd", "--index", "index", "--model", "data/tiny-clip"))
    told = json.loads(project.call(*glscl, "info", "index", "--json"))["files"] if code == 0 else []
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in told}
    lost = code != 0 or reasons.get("whole.mp4") != ""
    outcomes = [LOST if lost or name not in reasons else REFUSED if reasons[name] else SURVIVED for name in odd]
    return [
        Trial(ODD, name, outcome, said=said if outcome == LOST else "")
        for name, outcome in zip(odd, outcomes, strict=True)
    ]


# --- the campaign

ODD = "an odd file among videos"
DAMAGED_RESUME, DAMAGED_RESULT = "damaged while unfinished", "damaged when finished"
TWO_RUNS, TWO_BY_HAND = "two runs at once", "two stages at once, without DVC"
OTHERS = {
    DAMAGED_RESUME: damaged_resume,
    DAMAGED_RESULT: damaged_result,
    TWO_RUNS: two_runs,
    TWO_BY_HAND: two_by_hand,
}


def disturb(project: Project, kind: str, stage: str, seconds: float, generator: random.Random) -> Trial:
    """One trial; what it left running is ended."""
    found = OTHERS.get(kind, killed)(project, kind, stage, seconds, generator)
    for one in project.processes():
        one.kill()
    return found


def planned(stages: list[str], generator: random.Random) -> list[tuple[str, str]]:
    """(kind, stage) of every trial: each stage is killed, each kind kills a training, and much is damaged."""
    trained = [stage for stage in stages if re.match(r"(videos_)?(train|rerank)@", stage)]
    kinds = [kind for kind in KINDS if kind != PIPELINE and not kind.endswith("training process")]
    plan = [(generator.choice(kinds), stage) for stage in stages]
    plan += [(kind, generator.choice(trained)) for kind in KINDS]
    plan += [(DAMAGED_RESUME, generator.choice(trained)) for _ in range(8)]
    plan += [(DAMAGED_RESULT, generator.choice(stages)) for _ in range(8)]
    plan += [(TWO_RUNS, generator.choice(trained)), (TWO_BY_HAND, generator.choice(trained))]
    plan += [(TWO_BY_HAND, "prepare@scenes")]
    generator.shuffle(plan)
    return plan


def table(trials: list[Trial]) -> str:
    """Tried, survived, refused and lost by kind, as Markdown."""
    lines = ["| what was done | tried | survived | refused in a sentence | lost | processes lived on |"]
    lines += ["| --- " * 6 + "|"]
    kinds = [kind for kind in (*KINDS, *OTHERS, ODD) if any(trial.kind == kind for trial in trials)]
    for kind in [*kinds, "all"]:
        own = [trial for trial in trials if kind in ("all", trial.kind)]
        counts = [sum(trial.outcome == outcome for trial in own) for outcome in (SURVIVED, REFUSED, LOST)]
        cells = [kind, len(own), *counts, sum(trial.orphans for trial in own)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def campaign(folder: Path, seed: int, only: int | None = None) -> tuple[list[Trial], int]:
    """Run all trials of a seed, or one of them, in copies of the project in `folder`, and print each.

    Returns them, and how many were left out for the time.
    """
    end = time.monotonic() + 60 * MINUTES
    whole = Project.write(folder / "whole", ROOT / "data")
    whole.finish(whole.start(*RUN), 60 * MINUTES)  # it fails, as there are no committed results to compare with
    whole.commit()
    whole.call(*RUN)
    times = yaml.safe_load((whole.folder / TIMES).read_text())
    plan = planned(whole.stages(), random.Random(seed))
    copies, alone, trials = SimpleQueue(), threading.Lock(), []
    for number in range(COPIES):
        copies.put(whole.copy(folder / str(number)))

    def run(number: int) -> None:
        if time.monotonic() > end:
            return
        project, (kind, stage) = copies.get(), plan[number]
        trial = disturb(project, kind, stage, times[stage] + 3, random.Random(f"{seed}/{number}"))
        if trial.outcome != SURVIVED:
            project = whole.copy(project.folder)
        copies.put(project)
        with alone:
            trials.append(trial)
            print(f"{number} of {len(plan)}, {told(trial)}", flush=True)

    with ThreadPoolExecutor(COPIES) as pool:
        list(pool.map(run, range(len(plan)) if only is None else [only]))
    if only is not None:
        return trials, 0
    odd = odd_files(whole, random.Random(seed))
    print(*map(told, odd), sep="\n", flush=True)
    return trials + odd, len(plan) - len(trials)


def told(trial: Trial) -> str:
    """A trial in a line, and what was printed where it was not survived."""
    left = "; processes lived on" if trial.orphans else ""
    line = f"{trial.kind}, {trial.stage!r}: {trial.outcome}{left}"
    return "\n    ".join([line, *trial.said[-3000:].splitlines()])


def main() -> int:
    """Run the campaign, write its table to the page, and return 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--seed", type=int, default=SEED, help="of the random moments and places")
    parser.add_argument("--only", type=int, help="the number of one trial")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        trials, left = campaign(Path(folder).resolve(), given.seed, given.only)
    found = f"Seed {given.seed}; {left} more trials did not begin within {MINUTES} minutes.\n\n{table(trials)}"
    print(found)
    if given.only is None:
        write_text(PAGE, TABLE.sub(f"\n{found}\n", PAGE.read_text(encoding="utf-8")))
    return int(any(trial.outcome == LOST for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
