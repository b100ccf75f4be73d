"""Training: schedule, learning, same seed same numbers, resume after a kill, and errors before time is lost."""

import os
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from glscl import training
from glscl.inputs import load_backbone
from glscl.model import GLSCL
from glscl.retriever import Retriever
from glscl.rivals import METHODS
from glscl.runs import load_run, train_seeds
from glscl.splits import open_split
from glscl.training import TrainSettings, learning_rate_factor, parameter_groups, train

SETTINGS = {"epochs": 3, "batch_size": 32, "lr_new": 1e-3, "lr_clip": 1e-4, "weight_decay": 0.2}
SETTINGS |= {"warmup": 0.1, "clip_grad": 1.0, "backbone": "frozen"}
MODEL = {"temporal_layers": 1, "decoder_layers": 1, "num_queries": 4}


def data(corpus, backbone="frozen"):
    return [open_split(corpus["work"], corpus["captions"], n, corpus["inputs"], backbone) for n in ("train", "val")]


def model(corpus, bundled, method="glscl", seed=0):
    torch.manual_seed(seed)
    settings = MODEL if method == "glscl" else {"temporal_layers": 1}
    return METHODS[method].from_clip(load_backbone(bundled / "tiny-clip", "frozen", corpus["inputs"]), **settings)


def run(corpus, bundled, folder, **changed):
    settings = TrainSettings(**(SETTINGS | changed))
    trained = model(corpus, bundled)
    train(trained, *data(corpus, settings.backbone), settings, 0, folder)
    return trained, pd.read_csv(folder / "curve.csv")


def test_the_schedule_rises_then_falls_to_zero_over_the_real_number_of_steps():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_two_learning_rates_and_no_decay_of_vectors(corpus, bundled):
    built = model(corpus, bundled)
    settings = TrainSettings(**(SETTINGS | {"backbone": "finetuned"}))
    rates = {}
    for group in parameter_groups(built, settings):
        rates |= {id(p): (group["peak"], group["weight_decay"]) for p in group["params"]}
    named = dict(built.named_parameters())
    assert rates[id(named["clip.text_projection.weight"])] == (1e-4, 0.2)
    assert rates[id(named["clip.text_model.final_layer_norm.weight"])] == (1e-4, 0.0)
    assert rates[id(named["head.logit_scale"])] == (1e-4, 0.0)
    assert rates[id(named["head.local.queries"])] == (1e-3, 0.2)


def test_training_learns_and_leaves_a_frozen_clip_alone(corpus, bundled, tmp_path):
    trained, curve = run(corpus, bundled, tmp_path, epochs=5)
    assert curve["loss_total"].iloc[-1] < 0.8 * curve["loss_total"].iloc[0]
    for name, weight in corpus["clip"].state_dict().items():
        assert torch.equal(weight, trained.clip.state_dict()[name].cpu()), name
    assert set(load_file(tmp_path / "last.safetensors")) == {
        n for n, p in trained.named_parameters() if p.requires_grad
    }


def test_finetuning_trains_both_towers(corpus, bundled, tmp_path):
    trained, _ = run(corpus, bundled, tmp_path, epochs=1, backbone="finetuned")
    for name in ("text_projection.weight", "visual_projection.weight"):
        assert not torch.equal(corpus["clip"].state_dict()[name], trained.clip.state_dict()[name].cpu())


def test_the_same_seed_gives_the_same_weights(corpus, bundled, tmp_path):
    for name in ("one", "two"):
        run(corpus, bundled, tmp_path / name)
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_weights(corpus, bundled, tmp_path, monkeypatch, stopped_after):
    run(corpus, bundled, tmp_path / "whole")
    original = training._epoch

    def stop(*args):
        if args[5] == stopped_after * len(args[3]):
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(training, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, bundled, tmp_path / "stopped")
    assert not (tmp_path / "stopped/curve.csv").exists()
    monkeypatch.setattr(training, "_epoch", original)
    run(corpus, bundled, tmp_path / "stopped")
    for name in ("selected", "last"):
        one, two = (load_file(tmp_path / f / f"{name}.safetensors") for f in ("whole", "stopped"))
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list((tmp_path / "stopped").glob("epoch-*"))


KILLED = """
import sys, torch
from pathlib import Path
import pandas as pd
from glscl.inputs import Inputs
from glscl.runs import train_seeds
from glscl.training import TrainSettings
work, clip = Path(sys.argv[1]), sys.argv[2]
captions, inputs = pd.read_parquet(work / "captions.parquet"), Inputs.from_pretrained(clip, 24)
settings = TrainSettings({epochs}, 32, 1e-3, 1e-4, 0.2, 0.1, 1.0, "frozen")
train_seeds("glscl", {model}, clip, inputs, work, captions, settings, [0, 1], Path("out"))
"""


def test_a_run_whose_clean_up_is_stopped_is_complete(corpus, bundled, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    original = training._store
    monkeypatch.setattr(
        training, "_store", lambda *args: (original(*args), monkeypatch.setattr(shutil, "rmtree", stop))
    )
    with pytest.raises(KeyboardInterrupt):
        run(corpus, bundled, tmp_path, epochs=1)
    assert (tmp_path / "curve.csv").exists()
    run(corpus, bundled, tmp_path, epochs=1)
    assert (tmp_path / "last.safetensors").exists()


@pytest.mark.slow
def test_a_killed_stage_leaves_no_output_and_resumes(corpus, bundled, tmp_path):
    corpus["captions"].to_parquet(corpus["work"] / "captions.parquet")
    code = KILLED.format(epochs=4, model=MODEL)
    command = [sys.executable, "-c", code, str(corpus["work"]), str(bundled / "tiny-clip")]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert "epoch 1 of 4" in process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # returns when the children, which hold the pipe, have ended too
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob("work/.unfinished/*"))
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert not list(tmp_path.glob("work/.unfinished/*/*/epoch-*"))
    other = tmp_path / "undisturbed"
    other.mkdir()
    subprocess.run(command, cwd=other, check=True, capture_output=True)
    for seed in (0, 1):
        one, two = (load_file(f / f"out/seed-{seed}/model.safetensors") for f in (tmp_path, other))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_kept_run_can_be_loaded_searched_and_read(corpus, bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = TrainSettings(**(SETTINGS | {"epochs": 2, "keep_epochs": True}))
    clip = str(bundled / "tiny-clip")
    where = corpus["inputs"], corpus["work"], corpus["captions"]
    curve = train_seeds("glscl", MODEL, clip, *where, settings, [3], tmp_path / "out")
    folder = tmp_path / "out/seed-3"
    assert isinstance(GLSCL.from_pretrained(folder), GLSCL)
    assert f"Epoch {curve['val_mean_recall'].idxmax() + 1} of 2" in (folder / "README.md").read_text()
    last = load_file(folder / "last.safetensors")
    found = load_run(folder, "last").state_dict()
    assert all(torch.equal(found[name].cpu(), weight) for name, weight in last.items())
    first, second = (load_file(folder / f"after-000{epoch}.safetensors") for epoch in (1, 2))
    assert all(torch.equal(second[name], weight) for name, weight in last.items())
    assert not all(torch.equal(first[name], weight) for name, weight in last.items())

    retriever = Retriever.from_pretrained(folder)
    test = corpus["captions"].query("split == 'test'")
    retriever.index(test["path"].tolist()[:5])
    retriever.index(test["path"].tolist()[5:8])
    best = retriever.search(test["text"].iloc[0], k=8)
    assert {path.name for path, _ in best} == {f"{video}.mp4" for video in test["video"].iloc[:8]}
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)
    split = open_split(corpus["work"], corpus["captions"], "test", corpus["inputs"], "finetuned")
    texts, videos = split.encode(retriever.model)
    expected = retriever.model.similarity(texts, videos)[0, :8].max()
    assert best[0][1] == pytest.approx(expected.item(), abs=2e-3)  # the frames of the store are compressed
    with pytest.raises(ValueError, match="at most the 8 indexed videos, got 9"):
        retriever.search("a circle", k=9)
    with pytest.raises(ValueError, match="empty sentence"):
        retriever.search(" ", k=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", 1), ("lr_new", 0), ("warmup", 1.0), ("backbone", "frosen"), ("clip_grad", -1)],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        TrainSettings(**(SETTINGS | {name: value}))


@pytest.mark.parametrize("seeds", [[], [0, 0]])
def test_seeds_must_differ(corpus, bundled, tmp_path, seeds):
    settings = TrainSettings(**SETTINGS)
    where = corpus["inputs"], corpus["work"], corpus["captions"]
    with pytest.raises(ValueError, match="different numbers"):
        train_seeds("glscl", MODEL, str(bundled / "tiny-clip"), *where, settings, seeds, tmp_path)


def test_a_batch_larger_than_the_data_is_refused(corpus, bundled, tmp_path):
    with pytest.raises(ValueError, match="one batch needs 4000 texts, got 384"):
        run(corpus, bundled, tmp_path, batch_size=4000)


def test_a_loss_that_is_not_finite_stops_the_run(corpus, bundled, tmp_path):
    with pytest.raises(ValueError, match="the loss must be finite"):
        run(corpus, bundled, tmp_path, lr_new=1e12, clip_grad=1e12)
