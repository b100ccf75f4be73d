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
import torch

from benchmarks import bench, frames, search
from glscl.model import GLSCLHead
from tests.conftest import make_config

MET = {"exact_scores": 1.2, "whole_evaluation": 80, "x_pool": 40, "extra_memory": 20, "one_query": 1, "best_k": 0}
MET |= {"parallel_decoding": 1.9, "reading": 41, "decoding_memory": 1}

AT_LEAST = ("whole_evaluation", "x_pool", "parallel_decoding", "reading")


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
    assert len(lines) == 10
    assert all(" target at " in line for line in lines)
    assert all(math.isfinite(float(re.search(r": ([^,]+), target", line)[1])) for line in lines)
    assert len(in_this_process) == 5


@pytest.mark.parametrize("missed", [None, *MET])
def test_a_missed_target_fails_and_is_written(monkeypatch, capsys, tmp_path, missed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    for name, value in MET.items():
        wrong = 1.0 if name in AT_LEAST else 1e9
        found = wrong if name == missed else value
        monkeypatch.setattr(bench, name, lambda *sizes, found=found: {"value": found})
    assert bench.main() == (missed is not None)
    checks = json.loads((tmp_path / "results/measured/bench.json").read_text())["checks"]
    assert any(not check["met"] for check in checks.values()) == (missed is not None)
    assert ("MISSED" in capsys.readouterr().out) == (missed is not None)


@pytest.mark.parametrize("whole", [1000, 100])
@torch.inference_mode()
def test_the_benchmark_of_search_finds_what_it_times(monkeypatch, tmp_path, features, whole):
    """Of 300 mixtures of videos in shards of 64; with all as candidates nothing is missed."""
    head = GLSCLHead(make_config(temperature=3.0)).eval()
    texts = head.encode_texts(*(features[name] for name in ("sentence", "words", "word_mask")))
    frames = 2 * torch.randn(400, 6, 32, generator=torch.Generator().manual_seed(0))
    videos = head.encode_videos(frames, torch.ones(400, 6).long())
    monkeypatch.setattr(search, "load_run", lambda run: SimpleNamespace(head=head))
    monkeypatch.setattr(search, "encode_split", lambda model, split: (texts, videos))
    monkeypatch.setattr(search, "ROWS", 64)
    monkeypatch.setattr(search, "WHOLE", whole)
    found = search.measure(tmp_path, SimpleNamespace(split=lambda name: name), 300, 3, tmp_path)
    assert found["same"]
    assert found["float32_scaled_by"] == pytest.approx(1 if whole == 1000 else 300 / 64)
    assert found["candidates"]["1000"]["recall_at_10"] == 1
    assert found["candidates"]["50"]["recall_at_10"] > 0.5
    assert found["bytes_of_codes_per_video"] > 32
    assert found["bytes_of_graph_per_video"] > 32
    assert all(value > 0 for value in (*found["seconds"].values(), *found["seconds_to_make"].values()))
    assert found["queries"] == 3
