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


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs the /proc of Linux")
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_end_when_their_parent_is_killed(tmp_path, start):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    with subprocess.Popen([sys.executable, script, start], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(alive, workers))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        limit = time.monotonic() + 20
        while any(map(alive, workers)) and time.monotonic() < limit:
            time.sleep(0.05)
        left = [process for process in workers if alive(process)]
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert left == []
