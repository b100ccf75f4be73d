"""The check of a GPU: its reduced form runs on a processor, it finds what a device holds, and what differs fails it."""

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import gpu_check
from benchmarks.gpu_check import equal_runs, largest


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_every_check_runs_in_reduced_form_and_nothing_is_written(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    monkeypatch.setattr(gpu_check, "write_json", lambda *given, **other: pytest.fail("a file was written"))
    assert gpu_check.main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("No GPU was found: the checks run in reduced form on the processor")
    found = {name: re.search(rf"^{name}: (.+), \d+ s$", printed, re.MULTILINE)[1] for name in gpu_check.CHECKS}
    assert "'same': True" in found["parity"]
    assert found["resume"] == "{'same': True}"
    recall, half = (float(re.search(rf"'r1_{kind}': ([\d.]+)", found["half"])[1]) for kind in ("float32", "bfloat16"))
    assert 5 < recall < 99
    assert abs(recall - half) < 10
    assert re.findall(r"'batch': (\d+)", found["largest_batch"]) == ["10", "10"]


@pytest.mark.parametrize("limit", [1, 5, 8, 9, 100, 1000])
@pytest.mark.parametrize("first", [8, 96, 600])
def test_the_largest_batch_is_found_from_any_guess(limit, first):
    tried = []
    found = largest(lambda batch: not tried.append(batch) and batch <= limit, first, 640)["batch"]
    best = min(limit, 640)
    assert best * 8 / 9 - 1 <= found <= best
    assert max(tried) <= 640
    assert len(tried) <= 45


def test_a_device_that_holds_nothing_gives_zero():
    assert largest(lambda batch: False, 8, 64) == {"batch": 0}


def test_runs_are_equal_to_the_bit_or_not(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "curve.csv").write_text("epoch,val_r1\n1,2.0\n")
        save_file({"weight": torch.arange(3.0)}, tmp_path / name / "last.safetensors")
    assert equal_runs(tmp_path / "one", tmp_path / "two")
    save_file({"weight": torch.tensor([0.0, 1.0, 2.0000002])}, tmp_path / "two/last.safetensors")
    assert not equal_runs(tmp_path / "one", tmp_path / "two")
    save_file({"weight": torch.arange(3.0)}, tmp_path / "two/last.safetensors")
    (tmp_path / "two/curve.csv").write_text("epoch,val_r1\n1,2.1\n")
    assert not equal_runs(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("wrong", [None, "parity", "resume", "memory"])
@pytest.mark.parametrize("reduced", [False, True])
def test_numbers_that_differ_fail_the_check_and_a_gpu_gets_a_file(monkeypatch, tmp_path, wrong, reduced):
    class Stub:
        def __init__(self, folder, size):
            pass

        def __getattr__(self, name):
            def check():
                if name == wrong == "memory":
                    raise torch.OutOfMemoryError("of 80 GB nothing is left")
                return {"same": name != wrong, "value": 1.5}

            return check

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu_check", *(["--reduced"] if reduced else [])])
    monkeypatch.setattr(gpu_check, "Checks", Stub)
    monkeypatch.setattr(gpu_check, "DEVICE", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(gpu_check, "commit", lambda: "made up")
    monkeypatch.setattr(gpu_check, "hardware", lambda: "NVIDIA H100 80GB HBM3")
    assert gpu_check.main() == (wrong is not None)
    file = tmp_path / "results/gpu/nvidia-h100-80gb-hbm3.json"
    assert file.exists() != reduced
    if not reduced:
        stored = json.loads(file.read_text())
        assert stored["about"]["hardware"] == "NVIDIA H100 80GB HBM3"
        assert stored["checks"].keys() == set(gpu_check.CHECKS)
        if wrong == "memory":
            assert stored["checks"]["memory"] == {"error": "OutOfMemoryError: of 80 GB nothing is left"}
