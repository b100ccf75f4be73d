"""Processes that work for another one and end with it."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that came about.

    Called first in a process that `multiprocessing` started: where the parent is killed it would wait for work, or go
    on with what it has, for ever.
    """
    threading.Thread(target=_wait, args=(multiprocessing.parent_process(),), daemon=True).start()


def _wait(parent) -> None:
    parent.join()
    os._exit(1)
