"""Transfer: heads moved to other sizes, a few examples, shifted worlds and another corpus, from start to answer."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from glscl.data.dataset import PreparedCorpus
from glscl.methods import METHODS
from glscl.scoring import similarity_matrix
from glscl.study import transfer
from glscl.study.parameters import load_params
from glscl.study.transfer import STARTS, UNTRAINED, Domain, Study, moved, train_on_few
from glscl.training import runs
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings
from tests import ROOT
from tests.study import random_corpus

TRAIN = {"epochs": 1, "batch_size": 8, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2, "warmup": 0.1}
TRAIN |= {"clip_grad": 1.0, "backbone": "frozen"}
SIZED = {"x_clip": {}, "glccl": {}, "t_mass": {}}  # heads with weights whose size depends on frames or words
HEADS = SIZED | {"mean_pooling": {}, "x_pool": {}, "glscl": {"decoder_layers": 1, "num_queries": 4}}


# --- heads that move


@pytest.fixture(scope="module")
def near(bundled, tmp_path_factory):
    """A prepared corpus of random features: 4 frames, 24 tokens; 24 training, 6 validation and 12 test videos."""
    folder = tmp_path_factory.mktemp("near")
    random_corpus.write(folder / "corpus", 128, 4, 24, {"train": 24, "val": 6, "test": 12})
    return PreparedCorpus.open(folder / "corpus", str(bundled / "tiny-clip"), "frozen", 24)


@pytest.fixture(scope="module")
def test_split(near):
    return near.split("test")


def saved(method, corpus, folder, frames=4, words=24):
    """A head with drawn weights, and the folder that it is kept in."""
    torch.manual_seed(3)
    settings = {"temporal_layers": 1, "frames": frames, "words": words} | HEADS.get(method, {})
    model = METHODS[method].from_clip(corpus.clip, **settings)
    with torch.no_grad():
        for weight in model.head.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return model


def scores(model, test, frames=0, words=0):
    """Of a split, with so many frames and words of padding added."""
    text, video = test.text_batch(torch.arange(len(test))), test.video_batch(torch.arange(len(test.videos)))
    pad = torch.nn.functional.pad
    texts = model.head.encode_texts(
        text["sentence"], pad(text["words"], (0, 0, 0, words)), pad(text["word_mask"], (0, words))
    )
    videos = model.head.encode_videos(pad(video["frames"], (0, 0, 0, frames)), pad(video["frame_mask"], (0, frames)))
    return similarity_matrix(model, texts, videos)


@pytest.mark.parametrize("method", HEADS)
def test_a_moved_head_scores_what_it_scored_and_has_room_for_more(near, test_split, tmp_path, method):
    source = saved(method, near, tmp_path)
    same, resized = moved(tmp_path, 4, 24)
    expected = scores(source, test_split)
    assert resized == []
    assert torch.equal(scores(same, test_split), expected)

    larger, resized = moved(tmp_path, 7, 40)
    assert (larger.config.frames, larger.config.words) == (7, 40)
    assert bool(resized) == (method in SIZED)
    found = scores(larger, test_split, frames=3, words=16)
    # Released GLSCL attends to padding, so more of it changes its scores.
    assert torch.allclose(found, expected, atol=2e-5, rtol=0) == (method != "glscl")


@pytest.mark.parametrize("method", SIZED)
def test_new_positions_begin_as_without_training_and_common_ones_stay(near, tmp_path, method):
    before = saved(method, near, tmp_path).state_dict()
    torch.manual_seed(0)
    untrained = METHODS[method].from_clip(near.clip, temporal_layers=1, frames=7, words=40).state_dict()
    larger, resized = moved(tmp_path, 7, 40)
    after = larger.state_dict()
    for name, weight in before.items():
        kept = tuple(map(slice, weight.shape))
        assert torch.equal(after[name][kept], weight), name
        assert (after[name].shape != weight.shape) == (name in resized)
        if name in resized:
            new = torch.ones_like(after[name], dtype=torch.bool)
            new[kept] = False
            assert torch.equal(after[name][new], untrained[name][new]), name


def test_fewer_positions_keep_the_first_ones(near, tmp_path):
    before = saved("x_clip", near, tmp_path, frames=7, words=40).state_dict()["head.over_words.matrix"]
    after = moved(tmp_path, 4, 24)[0].state_dict()["head.over_words.matrix"]
    assert torch.equal(after, before[:24, :24])


# --- a few examples


def test_few_examples_start_from_the_given_weights(near, test_split, tmp_path):
    model = saved("mean_pooling", near, tmp_path)
    before = scores(model, test_split)
    still = TrainSettings(**(TRAIN | {"lr_new": 1e-12, "lr_clip": 1e-12}))
    tuned = train_on_few(model, near.split("train").sample(20), still, 0)
    torch.testing.assert_close(scores(tuned.cpu(), test_split), before, atol=1e-5, rtol=0)


def test_less_than_a_batch_of_examples_trains_silently_and_to_the_last_epoch(near, test_split, tmp_path, capsys):
    few = near.split("train").sample(5)

    def tuned(epochs):
        settings = TrainSettings(**(TRAIN | {"epochs": epochs}))
        return scores(train_on_few(saved("mean_pooling", near, tmp_path), few, settings, 0).cpu(), test_split)

    before = scores(saved("mean_pooling", near, tmp_path), test_split)
    assert not torch.allclose(tuned(1), before, atol=1e-5)
    assert not torch.allclose(tuned(2), tuned(1), atol=1e-5)
    assert capsys.readouterr().out == ""


# --- a whole study

METHODS_USED = {  # by head: the method, its settings, how it is trained on the source
    "x_clip": ("x_clip", {"temporal_layers": 0}, {"lr_new": 1e-2}),
    "glscl": ("glscl", {"temporal_layers": 0, "num_queries": 2, "decoder_layers": 1}, {"keep_epochs": True}),
}
SECTION = {"shifts": {"look": {"look": 1}, "length": {"events": 6}}, "target": "far", "heads": ["x_clip", "glscl"]}
SECTION |= {"seeds": [0], "few_shot_videos": 6, "few_shot_epochs": 1}


@pytest.fixture
def opened(bundled, near, tmp_path, monkeypatch):
    """opened(dataset, inputs={...}, **changes of the section) -> a study of the corpus `near`.

    Shifted worlds are random corpora of the same sizes, or of 6 frames where `events` says so. The corpus of videos
    `far` has 3 frames and 9 tokens; no file of it exists.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # starting processes takes longer than the study
    monkeypatch.setattr(runs, "hash_of", lambda _: "the code of today")  # and so does reading all code for each run

    def build(world, folder):
        shutil.rmtree(folder, ignore_errors=True)
        random_corpus.write(folder, 128, world.get("events", 4), 24, {"train": 16, "val": 4, "test": 10})

    def prepare(dataset, corpus, inputs, folder, **preparation):
        assert (dataset, corpus, preparation) == ("far", {"folder": "videos"}, {"quality": 90, "max_missing": 0})
        assert inputs == {"clip": near.clip, "backbone": "frozen", "frames": 3, "words": 9}
        random_corpus.write(folder, 128, 3, 9, {"train": 16, "val": 4, "test": 6})

    monkeypatch.setattr(transfer.facets, "Facets", dict)
    monkeypatch.setattr(transfer.facets, "build", build)
    monkeypatch.setattr(transfer, "prepare", prepare)
    monkeypatch.setattr(transfer, "encode", lambda folder, inputs: None)
    far = {"corpus": {"folder": "videos"}, "prepare": {}, "train": {"batch_size": 4}, "model": {"num_queries": 3}}
    far |= {"inputs": {"clip": "another", "backbone": "finetuned", "frames": 3, "words": 9}}

    def open_study(dataset, inputs=None, **changes):
        folder = tmp_path / "work/corpora" / dataset
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(near.folder)
        inputs = {"clip": near.clip, "backbone": "frozen", "frames": 4, "words": 24} | (inputs or {})
        world = {"seed": 3}
        return Study.open("dev", dataset, inputs, world, SECTION | changes, far, {"max_missing": 0}, {"quality": 90})

    return open_study


def train_source(near, dataset):
    """Train the heads of the study on their source, as the stage train does."""
    for name, (method, model, train) in METHODS_USED.items():
        train_seeds(
            method, model, near, TrainSettings(**(TRAIN | train)), [0], Path(f"work/dev/{dataset}/train/{name}")
        )


def test_every_head_is_carried_to_every_shifted_world(opened, near):
    train_source(near, "facets")
    study = opened("facets")
    assert study.methods() == {"x_clip": "x_clip", "glscl": "glscl"}
    evaluated = transfer.evaluate_all(study)
    assert {run[:4] for run in evaluated.runs} == {
        *((head, to, 0, start) for head in study.heads for to in ("look", "length") for start in STARTS),
        *((UNTRAINED, to, None, UNTRAINED) for to in ("look", "length")),
    }
    assert {len(run.queries["t2v"]["rank"]) for run in evaluated.runs} == {10}
    assert evaluated.resized == {"look": [], "length": ["x_clip"]}
    assert [domain.name for domain in evaluated.domains] == ["facets", "look", "length"]
    kept = json.loads((study.scratch / "models/length/x_clip/0/settings.json").read_text())
    assert kept["train"]["lr_new"] == 1e-2
    assert (kept["model"]["frames"], kept["model"]["words"]) == (6, 24)


def test_a_study_gives_the_same_numbers_again(opened, near):
    train_source(near, "facets")
    study = opened("facets", shifts={"look": {"look": 1}}, heads=["x_clip"])
    first, second = (transfer.evaluate_all(study).runs for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.queries["t2v"]["rank"] == other.queries["t2v"]["rank"]).all()


def test_another_corpus_is_the_only_target_of_a_corpus_of_videos(opened, near):
    train_source(near, "near")
    study = opened("near")
    assert (study.shifts, list(study.videos)) == ({}, ["far"])
    evaluated = transfer.evaluate_all(study)
    assert {run.split for run in evaluated.runs} == {"far"}
    assert len(evaluated.runs) == 2 * len(STARTS) + 1
    kept = json.loads((study.scratch / "models/far/glscl/0/settings.json").read_text())
    assert (kept["train"]["batch_size"], kept["train"]["keep_epochs"]) == (4, False)
    assert (kept["model"]["num_queries"], kept["model"]["words"]) == (3, 9)


def test_a_head_that_was_not_trained_is_named_before_anything_is_prepared(opened, near):
    train_source(near, "facets")
    with pytest.raises(
        ValueError, match=r"trained on facets with every seed of transfer\.seeds, x_clip is not with seed 1"
    ):
        opened("facets", seeds=[0, 1])


@pytest.mark.parametrize(
    ("dataset", "changes"),
    [
        ("near", {"target": "near"}),
        ("facets", {"inputs": {"backbone": "finetuned"}}),
        ("facets", {"heads": []}),
        ("facets", {"shifts": {}}),
    ],
)
def test_without_another_domain_a_frozen_clip_or_heads_nothing_moves(opened, dataset, changes):
    assert transfer.evaluate_all(opened(dataset, **changes)) == transfer.Evaluated([], {}, [])


def test_a_domain_has_as_many_tokens_as_its_features(near):
    corpus = Domain("near", near.folder, near.clip).corpus()
    assert corpus.processor.words == 24
    assert corpus.split("val").fingerprint() == near.split("val").fingerprint()


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_every_shift_of_the_parameters_is_a_world(bundled, tmp_path, monkeypatch, profile):
    params = load_params(ROOT)
    section = params["transfer"] | params["profiles"][profile]["transfer"] | {"heads": ["glscl"], "seeds": []}
    corpus, inputs = (params["datasets"]["facets"][name] for name in ("corpus", "inputs"))
    small = corpus | {"train": 4, "val": 2, "test": 6}
    target = params["datasets"][section["target"]]
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(bundled)
    clip = inputs | {"clip": str(bundled / "tiny-clip")}
    study = Study.open(profile, "facets", clip, small, section, target, params["check"], params["prepare"])
    targets = study.targets()
    assert [domain.name for domain in targets] == list(section["shifts"])
    for domain, shift in zip(targets, section["shifts"].values(), strict=True):
        test = domain.corpus().split("test")
        assert test.text_batch(torch.arange(6))["words"].shape[1] == domain.corpus().processor.words
        assert (len(test.videos), test.frames) == (shift.get("test", 6), corpus["frames"])
