"""Convergence: heads trained at their chosen rates and evaluated from the start on, and the work and time of a step."""

import json
import os
import shutil
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from glscl.encoding import evaluate
from glscl.methods import METHODS
from glscl.study import convergence, convergence_numbers, convergence_tables, counting, formulas
from glscl.training import runs
from tests.study import random_corpus


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1, [0, 1]),
        (2, [0, 2]),
        (9, [0, 2, 4, 8, 9]),
        (64, [0, 2, 4, 8, 16, 32, 64]),
        (65, [0, 2, 4, 8, 16, 32, 64, 65]),
    ],
)
def test_evaluations_are_dense_at_first_and_include_start_and_end(total, expected):
    assert convergence.evaluated_steps(total) == expected


# --- the work of a step


def small(method: str, **settings):
    return counting.build(method, **{"frames": 3, "words": 4, "width": 16, "temporal_layers": 1} | settings)


def test_the_work_of_a_step_without_weights_to_train_is_its_forward_pass():
    assert convergence.training_macs(small("mean_pooling", temporal_layers=0), 6) == 6 * 6 * 16


@pytest.mark.parametrize("method", METHODS)
def test_a_step_costs_two_to_three_forward_passes(method):
    head = small(method).train()
    sentence, words, word_mask, frames, frame_mask = counting.random_features(head.config, 4)
    forward = counting.counted(
        lambda: head.loss(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
    )
    assert 2 * forward < convergence.training_macs(head, 4) <= 3 * forward
    assert all(weight.grad is None for weight in head.parameters())


@pytest.mark.parametrize("method", ["mean_pooling", "x_pool", "x_clip", "glscl"])
def test_the_forward_pass_of_a_step_is_what_the_formulas_say(method):
    head, batch = small(method, width=48, words=7), 6
    sentence, words, word_mask, frames, frame_mask = counting.random_features(head.config, batch)
    work = formulas.FORMULAS[method](head.config).totals()
    expected = batch * (work["text"] + work["video"]) + batch**2 * work["pair"]
    found = counting.counted(
        lambda: head.similarity(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
    )
    assert found == pytest.approx(expected, rel=0.02)


# --- a whole study


TRAIN = {"epochs": 9, "batch_size": 8, "lr_new": 1e-9, "lr_clip": 1e-9, "weight_decay": 0.0, "warmup": 0.0}
TRAIN |= {"clip_grad": 1.0, "keep_epochs": False}
MODEL = {"temporal_layers": 0, "num_queries": 2, "decoder_layers": 1, "dropout": 0.1}
METHODS_SECTION = {
    "plain": {"head": "mean_pooling", "train": {"epochs": 1}, "model": {"temporal_layers": 1}},
    "glscl": {"head": "glscl", "train": {"keep_epochs": True}, "model": {}},
}
SECTION = {"heads": ["plain", "glscl"], "seeds": [3, 4], "epochs": 3}
RATES = {"plain": 3e-3, "glscl": 1e-2}


def write_corpus(folder, test=12, captions=1):
    """24 videos to train on, 6 to validate and so many to test; replaces what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    random_corpus.write(folder, 128, 3, 5, {"train": 24, "val": 6, "test": test}, captions)


@pytest.fixture
def opened(bundled, tmp_path, monkeypatch):
    """opened(**changes of the section) -> a study of two heads on 24 + 6 + 12 random videos, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # starting processes takes longer than the study
    monkeypatch.setattr(runs, "hash_of", lambda _: "the code of today")  # and so does reading all code for each run
    monkeypatch.setattr(convergence, "TIMED_ROUNDS", 1)
    write_corpus(tmp_path / "work/corpora/made")
    for name, rate in RATES.items():
        folder = tmp_path / "work/dev/made/train" / name
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps({"train": {"lr_new": rate}}))
    inputs = {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "frames": 3, "words": 5}

    def open_study(methods=METHODS_SECTION, **changes):
        return convergence.Study.open("dev", "made", inputs, SECTION | changes, methods, TRAIN, MODEL)

    return open_study


def test_a_study_trains_every_head_at_its_rate_and_keeps_no_model(opened):
    study = opened()
    assert study.scope() == {
        "dataset": "made",
        "seeds": [3, 4],
        "split": "test",
        "texts": 12,
        "videos": 12,
        "training": {"texts": 24, "videos": 24},
        "backbone": "frozen",
        "steps": [0, 2, 4, 8, 9],
        "batch_size": 8,
    }
    assert {name: settings.lr_new for name, (_, _, settings) in study.heads.items()} == RATES
    trained = convergence.train_all(study)
    assert not study.scratch.exists()
    assert {name: r1.shape for name, r1 in trained.r1.items()} == dict.fromkeys(study.heads, (2, 5))
    assert (trained.pace["min"] <= trained.pace["median"]).all()

    curves = convergence_numbers.curves_of(study, trained)
    results = convergence_numbers.results_of(study, trained, curves)
    table = convergence_numbers.curve_table(study, trained, curves)
    assert list(results["differences"]) == ["plain"]
    for name, head in results["heads"].items():
        assert head["lr"] == RATES[name]
        assert head["start"]["seeds"] == trained.r1[name][:, 0].tolist()
        assert head["end"]["mean"] == pytest.approx(trained.r1[name][:, -1].mean())
        rows = table[table["method"] == name]
        assert rows["step"].tolist() == [0, 2, 4, 8, 9] * 2
        assert rows["macs"].tolist() == [trained.macs[name] * step for step in rows["step"]]
    measured = convergence_numbers.measured_of(trained, curves)
    assert measured["seconds_per_step"].keys() == study.heads.keys()
    assert convergence_tables.head_table(results)["head"].tolist() == ["plain", "glscl"]
    assert convergence_tables.goal_table(results, measured)["head"].tolist() == ["plain", "glscl"]
    assert "12 test texts, 12 videos; seeds [3, 4]; 9 steps of 8 pairs" in convergence_tables.about(results["scope"])
    assert convergence_tables.answer(results).startswith("On made, ")


def test_a_curve_starts_untrained_and_follows_the_training(opened):
    study = opened(heads=["glscl"])
    found = convergence.curve(study, "glscl", 3)
    method, chosen, settings = study.heads["glscl"]
    test = study.corpus.split("test")

    def recall(model):
        return 100 * (evaluate(model, test)["t2v"]["rank"] == 0).mean()

    assert found[0] == pytest.approx(recall(convergence.untrained(study, "glscl", 3)))
    folder = study.scratch / "seeds"
    runs.train_seeds(method, chosen, study.corpus, settings, [3], folder)  # as the training stage does
    assert found[-1] == pytest.approx(recall(runs.load_run(folder / "seed-3", "last")))
    assert found[-1] != found[0]


def test_every_head_and_seed_is_a_run_of_its_own(opened, monkeypatch):
    study, begun = opened(), []

    class Stop(Exception):
        pass

    def train(model, data, validation, settings, seed, folder, progress):
        begun.append((seed, folder))
        raise Stop

    monkeypatch.setattr(convergence, "train", train)
    for name, seed in product(study.heads, study.seeds):
        with pytest.raises(Stop):
            convergence.curve(study, name, seed)
    seeds, folders = zip(*begun, strict=True)
    assert seeds == (3, 4, 3, 4)
    assert len(set(folders)) == 4


def test_a_finished_run_is_not_repeated_unless_its_data_changed(opened, monkeypatch):
    study = opened(heads=["plain"])
    first = convergence.curve(study, "plain", 3)
    assert [file.suffix for file in study.scratch.iterdir()] == [".finished"]
    monkeypatch.setattr(convergence, "train", None)
    assert convergence.curve(study, "plain", 3) == first
    write_corpus(study.corpus.folder)
    assert convergence.curve(study, "plain", 3) == first  # the same corpus again
    write_corpus(study.corpus.folder, test=10)
    with pytest.raises(TypeError, match="not callable"):
        convergence.curve(opened(heads=["plain"]), "plain", 3)


def test_without_all_splits_nothing_is_trained(opened):
    captions = pd.read_parquet("work/corpora/made/captions.parquet")
    captions[captions["split"] != "val"].to_parquet("work/corpora/made/captions.parquet")
    study = opened()
    trained = convergence.train_all(study)
    curves = convergence_numbers.curves_of(study, trained)
    results = convergence_numbers.results_of(study, trained, curves)
    measured = convergence_numbers.measured_of(trained, curves)
    assert "nothing was trained" in convergence_tables.answer(results)
    assert results["heads"] == results["differences"] == measured["seconds_per_step"] == {}
    assert results["goal"] is None
    assert convergence_numbers.curve_table(study, trained, curves).empty
    assert convergence_tables.costs(results, measured).empty
    for table in (convergence_tables.head_table(results), convergence_tables.goal_table(results, measured)):
        assert table.empty


def test_heads_must_be_known_and_share_a_batch(opened):
    with pytest.raises(ValueError, match=r"convergence\.heads must be one of plain, glscl, got 'galscl'"):
        opened(heads=["galscl"])
    other = METHODS_SECTION | {"plain": METHODS_SECTION["plain"] | {"train": {"batch_size": 4}}}
    with pytest.raises(ValueError, match=r"one batch size, got \{'plain': 4, 'glscl': 8\}"):
        opened(methods=other)


def test_a_head_that_was_not_trained_has_no_rate(opened):
    (convergence.Folders.of("dev", "made").work / "train/plain/settings.json").unlink()
    with pytest.raises(ValueError, match=r"train/plain/settings\.json, which is absent; add plain to the"):
        opened()


def test_a_step_of_few_videos_with_many_captions_is_timed(opened):
    write_corpus(opened().corpus.folder, captions=2)
    study = opened(heads=["plain"])
    method, chosen, settings = study.heads["plain"]
    many = replace(study, heads={"plain": (method, chosen, replace(settings, batch_size=40))})  # of 24 videos
    assert convergence.step_seconds(many).loc["plain", "median"] > 0
