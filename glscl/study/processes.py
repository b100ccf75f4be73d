"""Independent pieces of work in several processes, each on one thread: no result depends on the number of cores."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from glscl.child_process import end_with_parent
from glscl.training.parallel import Processes

MOST = 8  # processes; each holds half a gigabyte of libraries


def one_thread_each(call: Callable, jobs: Sequence[tuple]) -> list:
    """[call(*job) for job in jobs], as many at once as there are cores, in the order of the jobs.

    call: a function of a module. Its arguments and its result go from one process to another. With a GPU, one core or
    one job, or in a process of a launcher, the calls run here, one after the other. Raises what a call raises; the jobs
    that wait are then dropped.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    alone = torch.cuda.is_available() or Processes.launched()
    count = 1 if alone else min(len(jobs), cores, MOST)
    if count < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [call(*job) for job in jobs]
        finally:
            torch.set_num_threads(threads)
    multiprocessing.set_forkserver_preload([__name__, call.__module__])  # imported once, for all processes
    with ProcessPoolExecutor(count, multiprocessing.get_context("forkserver"), _start) as pool:
        return list(pool.map(_call, [call] * len(jobs), jobs))


def _call(call: Callable, job: tuple):
    return call(*job)


def _start() -> None:
    end_with_parent()
    torch.set_num_threads(1)
