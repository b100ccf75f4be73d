"""One process at a time: who holds a lock is named, a killed process holds none, and who waits goes on."""

import io
import os
import re
import subprocess
import sys

import pytest

from glscl.locks import BusyError, alone

HOLDER = """
import sys
from pathlib import Path
from glscl.locks import alone
with alone(Path(sys.argv[1]), "writes"):
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """A process that is in the context of `tmp_path`/new/.lock until it reads a line."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "new/.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_another_process_is_named_and_once_it_was_killed_nobody_is(tmp_path, other):
    lock = tmp_path / "new/.lock"
    told = rf"^process {other.pid} \(since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\) writes the index; wait until it has ended"
    with pytest.raises(BusyError, match=told), alone(lock, "writes the index"):
        raise AssertionError("two processes are in it")
    other.kill()
    other.wait()
    with alone(lock, "writes the index"):
        assert lock.with_name(".lock.holder").read_text().startswith(f"process {os.getpid()} ")
    assert list(lock.parent.iterdir()) == []


def test_who_waits_says_so_and_goes_on_when_the_other_process_has_left(tmp_path, other, monkeypatch):
    class Heard(io.StringIO):
        def write(self, text):
            if text.endswith("waits for it."):
                other.stdin.write("\n")
                other.stdin.flush()
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", said := Heard())
    with alone(tmp_path / "new/.lock", "writes the index", wait=True):
        assert other.wait() == 0
    told = rf"process {other.pid} \(.*\) writes the index; this one waits for it\.\n"
    assert re.fullmatch(told, said.getvalue())
