"""The benchmark runs, says what it missed, and fails then."""

import json
import sys

import pytest

from benchmarks import bench

MET = {"exact_scores": 1.2, "whole_evaluation": 80, "x_pool": 40, "extra_memory": 20, "one_query": 1, "best_k": 0}
MET |= {"parallel_decoding": 1.9, "reading": 41, "decoding_memory": 1}

AT_LEAST = ("whole_evaluation", "x_pool", "parallel_decoding", "reading")


@pytest.mark.slow
def test_every_benchmark_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--small"])
    assert bench.main() == 0
    assert capsys.readouterr().out.count("target at") == 10


@pytest.mark.parametrize("missed", [None, *MET])
def test_a_missed_target_fails_and_is_written(monkeypatch, capsys, tmp_path, missed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    for name, value in MET.items():
        wrong = 1.0 if name in AT_LEAST else 1e9
        found = wrong if name == missed else value
        monkeypatch.setattr(bench, name, lambda *sizes, found=found: {"value": found})
    assert bench.main() == (missed is not None)
    checks = json.loads((tmp_path / "results/bench.json").read_text())["checks"]
    assert any(not check["met"] for check in checks.values()) == (missed is not None)
    assert ("MISSED" in capsys.readouterr().out) == (missed is not None)
