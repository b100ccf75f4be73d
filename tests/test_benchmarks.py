"""The benchmark runs, says what it missed, and fails then."""

import io
import json
import math
import re
import subprocess
import sys
from contextlib import redirect_stdout
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks import bench, frames

MET = {"exact_scores": 1.2, "whole_evaluation": 80, "x_pool": 40, "extra_memory": 20, "one_query": 1, "best_k": 0}
MET |= {"parallel_decoding": 1.9, "reading": 41, "decoding_memory": 1, "exact_search": 4.5}

AT_LEAST = ("whole_evaluation", "x_pool", "parallel_decoding", "reading", "exact_search")


@pytest.fixture
def in_this_process(monkeypatch):
    """Run in this process what the benchmark runs in others, whose imports take longer; returns the commands."""
    commands = []

    def run(command, **_):
        commands.append(command)
        printed = io.StringIO()
        with redirect_stdout(printed), monkeypatch.context() as patch:
            if command[:3] == [sys.executable, "-m", "benchmarks.bench"]:
                patch.setattr(sys, "argv", command[2:])
                assert bench.main() == 0
            else:
                assert command[:2] == [sys.executable, "-c"]
                exec(command[2], {})
        return SimpleNamespace(stdout=printed.getvalue())

    monkeypatch.setattr(subprocess, "run", run)
    write = frames.write_store
    monkeypatch.setattr(frames, "write_store", lambda *given, workers, **other: write(*given, workers=1, **other))
    return commands


def test_every_benchmark_runs(monkeypatch, capsys, in_this_process):
    monkeypatch.setattr(sys, "argv", ["bench", "--small"])
    monkeypatch.setattr(bench, "alternate", partial(bench.alternate, rounds=2))
    monkeypatch.setattr(frames, "SIZE", 32)
    assert bench.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert all(" target at " in line for line in lines)
    assert all(math.isfinite(float(re.search(r": ([^,]+), target", line)[1])) for line in lines)
    assert len(in_this_process) == 5


@pytest.mark.parametrize("missed", [None, *MET])
def test_a_missed_target_fails_and_is_written(monkeypatch, capsys, tmp_path, missed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr(bench.search_by, "RUN", tmp_path)
    for name, value in MET.items():
        wrong = 1.0 if name in AT_LEAST else 1e9
        found = wrong if name == missed else value
        monkeypatch.setattr(bench, name, lambda *sizes, found=found: {"value": found})
    assert bench.main() == (missed is not None)
    checks = json.loads((tmp_path / "results/measured/bench.json").read_text())["checks"]
    assert any(not check["met"] for check in checks.values()) == (missed is not None)
    assert ("MISSED" in capsys.readouterr().out) == (missed is not None)


def test_without_a_trained_model_the_search_is_left_out_and_a_line_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    for name, value in MET.items():
        monkeypatch.setattr(bench, name, lambda *sizes, value=value: {"value": value})
    assert bench.main() == 0
    assert "left out: it needs a trained GLSCL, run `make reproduce` first" in capsys.readouterr().out
