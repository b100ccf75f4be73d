"""A process that works for another one ends when that one is killed, idle or busy, however it was started."""

import os
import signal
import subprocess
import sys
import time

import pytest

WORKERS = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from glscl.child_process import end_with_parent

def work(seconds):
    print(os.getpid(), flush=True)
    time.sleep(seconds)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1]), end_with_parent) as pool:
        list(pool.map(work, [0.5, 600]))  # the first is idle soon
"""


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


STAGE = """
import os, time
from glscl.child_process import end_with_launchers
end_with_launchers()
print(os.getpid(), flush=True)
time.sleep(600)
"""
DVC = "import subprocess, sys; subprocess.run([sys.executable, 'stage.py'])"
PIPELINE = """
import os, subprocess, sys
from glscl.child_process import LAUNCHER
subprocess.run([sys.executable, "dvc.py"], env=os.environ | {LAUNCHER: str(os.getpid())}, start_new_session=True)
"""


def ended(processes: list[int]) -> bool:
    """Whether all have ended within 20 seconds; those that have not are killed."""
    limit = time.monotonic() + 20
    while any(map(alive, processes)) and time.monotonic() < limit:
        time.sleep(0.05)
    left = [process for process in processes if alive(process)]
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left == []


linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs the /proc of Linux")


@linux
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_end_when_their_parent_is_killed(tmp_path, start):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    with subprocess.Popen([sys.executable, script, start], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(alive, workers))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert ended(workers)


@linux
@pytest.mark.parametrize("killed", ["dvc.py", "pipeline.py"])
def test_a_stage_ends_when_dvc_or_the_pipeline_is_killed(tmp_path, killed):
    for name, code in {"stage.py": STAGE, "dvc.py": DVC, "pipeline.py": PIPELINE}.items():
        (tmp_path / name).write_text(code)
    command = [sys.executable, killed]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        stage = int(launcher.stdout.readline())
        time.sleep(1)
        assert alive(stage)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
        assert ended([stage])
        assert "what started this stage has ended" in launcher.stderr.read()
