"""How far a run of the pipeline is: stage k of n, minutes gone, and minutes left by what the stages took before."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from filelock import FileLock

from glscl.files import write_json

TIMES = Path("results/measured/stages.json")  # seconds of each stage, where it last ran
PLAN = Path("work/.progress.json")


class Progress(NamedTuple):
    """A run of the pipeline. plan: names of its stages, in order; began: by the clock; done: seconds by stage so far.

    Stages may run at the same time, each in a process with a Progress of its own.

    usual: seconds of each stage where it last ran, maybe on another machine.
    """

    root: Path
    plan: list[str]
    began: float
    done: dict[str, float]
    usual: dict[str, float]

    @classmethod
    def start(cls, root: Path, plan: list[str]) -> "Progress":
        """Begin a run of these stages."""
        progress = cls(root, plan, time.time(), {}, _read(root / TIMES))
        progress._write()
        return progress

    @classmethod
    def read(cls, root: Path) -> "Progress":
        """The run that goes on in `root`; one without a plan where none was begun."""
        return cls(root, **({"plan": [], "began": time.time(), "done": {}, "usual": {}} | _read(root / PLAN)))

    def left(self) -> float | None:
        """Seconds that the rest takes if this machine goes on as fast as so far; None where no stage was timed before.

        The speed is the time gone over what the stages done usually take, and that of the other machine before the
        first. A stage that was never timed takes the mean of the others.
        """
        if not self.usual:
            return None
        mean = sum(self.usual.values()) / len(self.usual)
        known = {name: self.usual[name] for name in self.done if name in self.usual}
        speed = (time.time() - self.began) / sum(known.values()) if known else 1.0
        return speed * sum(self.usual.get(name, mean) for name in self.plan if name not in self.done)

    def before(self, name: str) -> str:
        """What to print before the stage `name` runs."""
        if name not in self.plan:
            return f"stage {name}"
        said = (
            f"stage {self.plan.index(name) + 1} of {len(self.plan)}, {name}: {_minutes(time.time() - self.began)} gone"
        )
        left = self.left()
        return said if left is None else f"{said}, about {_minutes(left)} left"

    @contextmanager
    def during(self, name: str, every: float = 20.0) -> Iterator[None]:
        """While the stage `name` runs, say every so many seconds that it does, and what it usually takes."""
        start, done = time.monotonic(), Event()
        usual = f" of about {self.usual[name]:.0f}" if name in self.usual else ""

        def say() -> None:
            while not done.wait(every):
                print(f"stage {name}: {time.monotonic() - start:.0f}{usual} s", flush=True)

        Thread(target=say, daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def after(self, name: str, seconds: float) -> str:
        """Record that a stage took so long, and say it. A stage run by hand is not in the plan and is not recorded."""
        if name in self.plan:
            with FileLock(self.root / PLAN.with_suffix(".lock")):
                now = Progress.read(self.root)
                now._replace(done=now.done | {name: seconds})._write()
                write_json(self.root / TIMES, _read(self.root / TIMES) | {name: seconds}, digits=3)
        return f"stage {name} took {seconds:.0f} s"

    def _write(self) -> None:
        write_json(self.root / PLAN, {key: value for key, value in self._asdict().items() if key != "root"}, digits=12)


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); delete it, as no result rests on its times.") from error


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "less than a minute" if minutes < 1 else "1 minute" if minutes == 1 else f"{minutes} minutes"
