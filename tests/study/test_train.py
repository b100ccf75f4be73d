"""Processes of a launcher train what the stage trains, and leave it nothing to train."""

import os
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

from glscl.study import train
from glscl.training import runs, trainer
from tests import ROOT
from tests.study import random_corpus

SECTIONS = ["train", "model", "inputs", "methods.${item.method}", "profiles.${item.profile}.seeds"]
STAGE = {"cmd": "none", "params": SECTIONS}
SEED = "work/quick/facts/train/mean/seed-0/last.safetensors"
ITEMS = ["profile=quick", "dataset=facts", "method=mean"]


@pytest.fixture
def project(tmp_path, monkeypatch, bundled):
    """A project with a corpus of random features, as the current folder."""
    random_corpus.write(tmp_path / "work/corpora/facts", 128, 4, 6, {"train": 64, "val": 20, "test": 20})
    rates = {"lr_new": [1e-3, 3e-3], "lr_clip": 1e-7, "clip_grad": 1.0}
    params = {
        "study": {"features": ["facts"]},
        "profiles": {"quick": {"seeds": [0]}},
        "inputs": {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "frames": 4, "words": 6},
        "train": {"epochs": 2, "batch_size": 16, "weight_decay": 0.2, "warmup": 0.1} | rates,
        "model": {"temporal_layers": 1},
        "methods": {"mean": {"head": "mean_pooling", "train": {}, "model": {}}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": STAGE}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_launcher_trains_what_the_stage_then_finds(project, monkeypatch):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "glscl.study.train", *ITEMS], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2 of 2") == 2, "each rate prints its epochs once"
    together = load_file(SEED)

    monkeypatch.setattr(trainer, "_epoch", None)  # it would train
    train.main(ITEMS)
    assert all(load_file(SEED)[name].equal(tensor) for name, tensor in together.items())

    monkeypatch.undo()
    monkeypatch.chdir(project)
    monkeypatch.setattr(runs, "UNFINISHED", project / "apart")
    train.main(ITEMS)
    alone = load_file(SEED)
    assert max((alone[name] - tensor).abs().max().item() for name, tensor in together.items()) < 1e-5


def test_what_to_train_must_be_named(project):
    with pytest.raises(ValueError, match="got no method; give all three"):
        train.main(ITEMS[:2])
