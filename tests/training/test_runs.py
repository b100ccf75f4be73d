"""Runs of several seeds: side by side as alone, resumed after a kill, trained once, kept, loaded and searched."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split
from glscl.model import GLSCL
from glscl.retriever import Retriever
from glscl.training import runs, trainer
from glscl.training.runs import load_run, train_seeds
from glscl.training.trainer import TrainSettings

SETTINGS = TrainSettings(
    epochs=2, batch_size=32, lr_new=1e-3, lr_clip=1e-4, weight_decay=0.2, warmup=0.1, clip_grad=1.0, backbone="frozen"
)
MODEL = {"temporal_layers": 1, "decoder_layers": 1, "num_queries": 4}


@pytest.fixture
def train_in(corpus, monkeypatch):
    """train_in(folder, seeds, method="glscl", model=MODEL, **settings) -> curves, clocks; it works in `folder`/out."""

    def call(folder, seeds, method="glscl", model=MODEL, **settings):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        prepared = dataclasses.replace(corpus["prepared"], captions_per_video=2)
        return train_seeds(method, model, prepared, dataclasses.replace(SETTINGS, **settings), seeds, Path("out"))

    return call


def train_apart(folder: Path, corpus: PreparedCorpus, epochs: int, seeds: list[int]) -> None:
    """Train in a process of its own."""
    os.chdir(folder)
    train_seeds("glscl", MODEL, corpus, dataclasses.replace(SETTINGS, epochs=epochs), seeds, Path("out"))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_seeds_side_by_side_write_the_files_that_they_write_alone(train_in, tmp_path):
    curves, clocks = train_in(tmp_path / "together", [1, 0])
    assert curves["seed"].tolist() == clocks["seed"].tolist() == [1, 1, 0, 0]
    together = files(tmp_path / "together/out")
    assert len(together) > 12
    for seed in (0, 1):
        alone, _ = train_in(tmp_path / f"alone-{seed}", [seed])
        pd.testing.assert_frame_equal(alone, curves[curves["seed"] == seed].reset_index(drop=True))
        for name, content in files(tmp_path / f"alone-{seed}/out").items():
            assert content == together[name], name
    one, other = (load_file(tmp_path / f"together/out/seed-{seed}/last.safetensors") for seed in (0, 1))
    assert not torch.equal(one["head.local.queries"], other["head.local.queries"])


def test_seeds_on_several_gpus_are_those_of_one_process(corpus, train_in, tmp_path, monkeypatch, capsys):
    alone, _ = train_in(tmp_path / "alone", [0, 1, 2], "mean_pooling", {"temporal_layers": 1})
    # Without a GPU the processes are the same, over gloo: two seeds with a process each, then one seed with two.
    monkeypatch.setattr(runs, "usable_gpus", lambda devices: [0, 1])
    curves, clocks = train_in(tmp_path / "spread", [0, 1, 2], "mean_pooling", {"temporal_layers": 1})
    said = capsys.readouterr().out
    assert "2 seeds at once, each on 1 of 2 GPUs" in said
    assert "1 seeds at once, each on 2 of 2 GPUs" in said
    assert len(clocks) == 6
    pd.testing.assert_frame_equal(curves, alone, rtol=1e-4)
    for seed in (0, 1, 2):
        one, other = (load_file(tmp_path / f"{n}/out/seed-{seed}/last.safetensors") for n in ("alone", "spread"))
        assert max((one[name] - tensor).abs().max().item() for name, tensor in other.items()) < 1e-5


@pytest.fixture
def begun(corpus):
    """begun(folder, epochs, seeds) -> a process of its own that trains in `folder` and has stored an epoch of each."""
    processes = []

    def start(folder, epochs, seeds):
        folder.mkdir(exist_ok=True)
        multiprocessing.set_forkserver_preload(["glscl.training.runs"])
        prepared = dataclasses.replace(corpus["prepared"], captions_per_video=2)
        given = folder, prepared, epochs, seeds
        processes.append(multiprocessing.get_context("forkserver").Process(target=train_apart, args=given))
        processes[0].start()
        while len({state.parent for state in folder.glob("work/.unfinished/*/seed-*/epoch-*")}) < len(seeds):
            assert processes[0].is_alive()
            time.sleep(0.01)
        return processes[0]

    yield start
    for process in processes:
        process.kill()


def test_who_trains_what_another_process_trains_waits_and_finds_it_trained(
    begun, train_in, tmp_path, monkeypatch, capsys
):
    other = begun(tmp_path, 20, [0])
    monkeypatch.setattr(trainer, "_epoch", None)  # nothing is trained here
    curves, _ = train_in(tmp_path, [0], epochs=20)
    assert f"process {other.pid} (since " in (said := capsys.readouterr().out)
    assert said.endswith(") trains out; this one waits for it.\n")
    assert len(curves) == 20
    assert GLSCL.from_pretrained(tmp_path / "out/seed-0")
    other.join()
    assert other.exitcode == 0
    assert not list(tmp_path.glob("work/.unfinished/*/**/.*lock*"))


def test_a_killed_run_leaves_no_output_and_resumes(begun, train_in, tmp_path):
    killed, epochs = tmp_path / "killed", 15
    process = begun(killed, epochs, [0])
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "out").exists()
    stored = json.loads(max(killed.glob("work/.unfinished/*/*/epoch-*/curve.json")).read_text())
    assert 0 < len(stored) < epochs
    curves, clocks = train_in(killed, [0], epochs=epochs)
    assert clocks["seconds"].tolist()[: len(stored)] == pytest.approx([row["seconds"] for row in stored])
    assert not list(killed.glob("work/.unfinished/*/*/epoch-*"))
    undisturbed, _ = train_in(tmp_path / "undisturbed", [0], epochs=epochs)
    pd.testing.assert_frame_equal(curves, undisturbed)
    assert files(killed / "out") == files(tmp_path / "undisturbed/out")


def test_seeds_side_by_side_end_when_their_parent_is_killed(begun, tmp_path):
    process = begun(tmp_path, 10_000, [0, 1])

    def epochs():
        return sorted(path.parent.name for path in tmp_path.glob("work/.unfinished/*/*/epoch-*/curve.json"))

    before = epochs()
    process.kill()
    process.join()
    time.sleep(2)
    after = epochs()
    time.sleep(3)
    assert before
    assert epochs() == after  # nobody trains on


def test_what_was_trained_is_not_trained_again_unless_something_changes(train_in, tmp_path, monkeypatch):
    first, clocks = train_in(tmp_path, [0])
    kept = files(tmp_path / "out")
    monkeypatch.setattr(trainer, "_epoch", None)
    again, same_clocks = train_in(tmp_path, [0])
    pd.testing.assert_frame_equal(again, first)
    pd.testing.assert_frame_equal(same_clocks, clocks)
    assert files(tmp_path / "out") == kept
    for changed in (
        {"model": MODEL | {"num_queries": 3}},
        {"lr_new": 2e-3},
        {"method": "x_pool", "model": {"temporal_layers": 1}},
    ):
        with pytest.raises(TypeError, match="NoneType"):  # it would train
            train_in(tmp_path, [0], **changed)
    assert files(tmp_path / "out") == kept


def test_other_seeds_of_a_job_may_be_trained_meanwhile(train_in, tmp_path, monkeypatch):
    original = runs._train_seed

    def then_another(number, job, *given):
        original(number, job, *given)
        if job.seeds == [7]:
            train_in(tmp_path, [8])
            (tmp_path / "out").rename(tmp_path / "other")

    monkeypatch.setattr(runs, "_train_seed", then_another)
    train_in(tmp_path, [7])
    for folder, seed in (("out", 7), ("other", 8)):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [f"seed-{seed}", "settings.json"]
        assert (tmp_path / folder / f"seed-{seed}/README.md").exists()


def test_a_kept_run_can_be_loaded_and_read_and_holds_nothing_measured(train_in, tmp_path):
    curves, _ = train_in(tmp_path, [3], keep_epochs=True)
    folder = tmp_path / "out/seed-3"
    assert isinstance(GLSCL.from_pretrained(folder), GLSCL)
    assert f"Epoch {curves['val_r1'].idxmax() + 1} of 2" in (folder / "README.md").read_text()
    last = load_file(folder / "last.safetensors")
    found = load_run(folder, "last").state_dict()
    assert all(torch.equal(found[name].cpu(), weight) for name, weight in last.items())
    first, second = (load_file(folder / f"after-{step:06d}.safetensors") for step in curves["step"])
    assert all(torch.equal(second[name], weight) for name, weight in last.items())
    assert not all(torch.equal(first[name], weight) for name, weight in last.items())
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["method"] == "glscl"
    assert settings["model"] == MODEL | {"words": 24, "frames": 4}
    assert settings["train"]["lr_new"] == 1e-3
    pd.testing.assert_frame_equal(pd.read_csv(folder / "curve.csv"), curves)
    for text in (folder / "README.md", folder / "curve.csv", tmp_path / "out/settings.json"):
        assert "second" not in text.read_text()


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape", "cut", "absent"])
def test_weights_of_an_epoch_that_are_not_whole_are_refused(corpus, tmp_path, fault):
    model = GLSCL.from_clip(corpus["clip"], **MODEL, words=24, frames=4)
    model.save_pretrained(tmp_path)
    file = tmp_path / "last.safetensors"
    weights = {f"head.{name}": weight + 1 for name, weight in model.head.state_dict().items()}
    save_file(weights, file)
    assert all(torch.equal(load_run(tmp_path, "last").state_dict()[name].cpu(), w) for name, w in weights.items())
    queries = weights.pop("head.local.queries")
    if fault == "unexpected":
        weights |= {"head.local.queries": queries, "head.local.noun_queries": queries.clone()}
    elif fault == "of another shape":
        weights["head.local.queries"] = queries[:1].clone()
    save_file(weights, file)
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif fault == "absent":
        file.unlink()
    told = (
        "cannot be loaded" if fault in ("cut", "absent") else r"trained weights of its run, head.local.(noun_)?queries"
    )
    with pytest.raises(ValueError, match=told) as raised:
        load_run(tmp_path, "last")
    assert str(file) in str(raised.value)


def test_a_kept_run_can_be_searched(corpus, train_in, tmp_path):
    train_in(tmp_path, [3], epochs=1)
    retriever = Retriever.from_pretrained(tmp_path / "out/seed-3")
    test = corpus["captions"].query("split == 'test'")
    retriever.index(test["path"].tolist()[:5])
    retriever.index(test["path"].tolist()[5:8])
    best = retriever.search(test["text"].iloc[0], k=8)
    assert {path.name for path, _ in best} == {f"{video}.mp4" for video in test["video"].iloc[:8]}
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)
    split = dataclasses.replace(corpus["prepared"], backbone="finetuned").split("test")
    texts, videos = encode_split(retriever.model, split)
    expected = retriever.model.similarity(texts, videos)[0, :8].max()
    assert best[0][1] == pytest.approx(expected.item(), abs=1e-2)  # the frames of the store are compressed
    assert len(retriever.search("a circle", k=9)) == 8
    with pytest.raises(ValueError, match="empty sentence"):
        retriever.search(" ", k=1)


@pytest.mark.parametrize("seeds", [[], [0, 0]])
def test_seeds_must_differ(train_in, tmp_path, seeds):
    with pytest.raises(ValueError, match="different numbers"):
        train_in(tmp_path, seeds)
