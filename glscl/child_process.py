"""Processes that work for another one and end with it."""

import multiprocessing
import os
import sys
import threading
import time
from contextlib import suppress

import psutil

LAUNCHER = "GLSCL_LAUNCHER"  # set in what the pipeline starts: the number of its process


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that came about.

    Called first in a process that `multiprocessing` started: where the parent is killed it would wait for work, or go
    on with what it has, for ever.
    """
    threading.Thread(target=_wait, args=(multiprocessing.parent_process(),), daemon=True).start()


def _wait(parent) -> None:
    parent.join()
    os._exit(1)


def end_with_launchers() -> None:
    """End this process as soon as its parent has ended, or the pipeline that started its parent.

    Called first in a stage, which DVC started: nobody would record what it makes, and a new run begins it again.
    """
    numbers = [os.getppid()] + ([int(os.environ[LAUNCHER])] if LAUNCHER in os.environ else [])
    threading.Thread(target=_wait_for_one, args=(numbers,), daemon=True).start()


def _wait_for_one(numbers: list[int]) -> None:
    try:
        launchers = [psutil.Process(number) for number in numbers]
        while all(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in launchers):
            time.sleep(0.5)
    except psutil.NoSuchProcess:
        pass
    with suppress(OSError):  # what would show it may have ended too
        print("error: what started this stage has ended, so it ends too; the same command goes on.", file=sys.stderr)
    os._exit(1)
