"""Processes of a launcher train what the stage trains, and leave it nothing to train."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from safetensors.torch import load_file

from glscl.study import train
from glscl.study.parameters import load_params
from glscl.training import runs, trainer
from tests import ROOT
from tests.study import random_corpus

SEED = "work/quick/scenes/train/clip4clip_seqTransf/seed-0/last.safetensors"
ITEMS = ["profile=quick", "dataset=scenes", "method=clip4clip_seqTransf"]


@pytest.fixture
def project(tmp_path, monkeypatch, bundled):
    """A project with a corpus of random features, as the current folder."""
    random_corpus.write(tmp_path / "work/corpora/scenes", 128, 4, 6, {"train": 64, "val": 20, "test": 20})
    params = load_params(ROOT)
    params["study"], params["costs"]["trained_on"] = {"features": [], "videos": ["scenes"]}, "scenes"
    params["train"] |= {"batch_size": 16}
    params["model"] |= {"temporal_layers": 1}
    params["datasets"]["scenes"]["inputs"] |= {"clip": str(bundled / "tiny-clip"), "frames": 4, "words": 6}
    trained = {"epochs": 2, "lr_new": [1e-3, 3e-3]}
    for profile in params["profiles"].values():
        profile["videos"] |= {"methods": ["clip4clip_seqTransf"], "concepts_of": [], "seeds": [0], "train": trained}
        profile["questions"] = []
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
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


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (ITEMS[:2], "got no method; give all three"),
        ([*ITEMS[:2], "method=gslcl"], "method must be one of .*, got gslcl"),
    ],
)
def test_what_to_train_must_be_named(project, items, words):
    with pytest.raises(ValueError, match=words):
        train.main(items)


def test_a_launcher_trains_nothing_with_a_wrong_value(project):
    apply_overrides(project / "params.yaml", ["evaluate.bank_size=-1"])
    with pytest.raises(ValueError, match=r"params.yaml: evaluate.bank_size should be at least 1, got -1"):
        train.main(ITEMS)
    assert not (project / "work/.unfinished").exists()
