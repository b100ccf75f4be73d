"""Work in several processes: the order of results, one thread each, and errors."""

import operator
import os

import pytest
import torch

from glscl.study.processes import one_thread_each


def test_results_come_in_the_order_of_the_jobs_with_one_thread_each():
    jobs = [(torch.get_num_threads,), (os.getpid,), (operator.add, 2, 3)]
    threads, process, total = one_thread_each(operator.call, jobs)
    assert (threads, total) == (1, 5)
    assert process != os.getpid()


def test_an_error_of_a_job_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        one_thread_each(operator.truediv, [(1, 2), (1, 0)])


def test_one_core_works_here_and_keeps_its_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    threads = torch.get_num_threads()
    assert one_thread_each(operator.call, [(os.getpid,), (torch.get_num_threads,)]) == [os.getpid(), 1]
    assert torch.get_num_threads() == threads
    assert one_thread_each(operator.call, []) == []
