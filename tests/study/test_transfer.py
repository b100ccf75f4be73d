"""Transfer: shares and their intervals, heads moved to other sizes, a little training, a whole study, its answer."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glscl.data.dataset import PreparedCorpus
from glscl.evaluation.results import Run
from glscl.methods import METHODS
from glscl.metrics import bootstrap
from glscl.report.figures.transfer import over_clip
from glscl.scoring import similarity_matrix
from glscl.study import transfer
from glscl.study.transfer import STARTS, Domain, Hits, Study, estimate, fine_tune, moved, share_values
from glscl.training import runs
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings
from tests.study import random_corpus

TRAIN = {"epochs": 1, "batch_size": 8, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2, "warmup": 0.1}
TRAIN |= {"clip_grad": 1.0, "keep_epochs": False}
SIZED = {"x_clip": {}, "glccl": {}, "t_mass": {}}  # heads with weights whose size depends on frames or words
HEADS = SIZED | {"mean_pooling": {}, "x_pool": {}, "glscl": {"decoder_layers": 1, "num_queries": 4}}


# --- shares


def hits(seed, share, runs=3, queries=400):
    return 100.0 * (np.random.default_rng(seed).random((runs, queries)) < share)


def test_a_share_is_the_ratio_of_the_recalls():
    moved_hits, reference = hits(0, 0.2), hits(1, 0.5)
    assert share_values(moved_hits, reference).mean() == pytest.approx(100 * moved_hits.mean() / reference.mean())
    assert share_values(reference, reference) == pytest.approx(np.full(reference.shape, 100.0))
    assert share_values(0 * reference, reference) == pytest.approx(np.zeros(reference.shape))


def test_the_interval_of_a_share_is_that_of_resampled_ratios():
    reference = hits(1, 0.5)
    moved_hits = np.where(np.random.default_rng(2).random(reference.shape) < 0.8, 0.6, 0.1) * reference
    group = np.arange(400) // 2
    low, high = bootstrap(share_values(moved_hits, reference), group)
    drawn = np.random.default_rng(5).integers(200, size=(2000, 200))  # pairs of queries
    ratios = [100 * sides[0][:, drawn].mean((0, 2, 3)) / sides[1][:, drawn].mean((0, 2, 3))
              for sides in [[values.reshape(3, 200, 2) for values in (moved_hits, reference)]]]  # fmt: skip
    assert [low, high] == pytest.approx(np.percentile(ratios, [2.5, 97.5]), abs=0.4)
    assert high - low > 2


def test_there_is_no_share_of_nothing():
    assert share_values(hits(0, 0.3), np.zeros((3, 400))) is None


def test_shares_need_the_same_queries():
    with pytest.raises(ValueError, match=r"\(3, 400\) and \(3, 399\)"):
        share_values(hits(0, 0.3), hits(1, 0.5)[:, 1:])


def test_an_estimate_holds_the_mean_of_every_run():
    values = np.array([[0.0, 100.0], [100.0, 100.0]])
    found = estimate(values, np.array([0, 1]))
    assert (found["mean"], found["seeds"]) == (75, [50, 100])
    assert found["low"] <= 75 <= found["high"]


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


# --- a little training


def test_fine_tuning_starts_from_the_given_weights(near, test_split, tmp_path):
    model = saved("mean_pooling", near, tmp_path)
    before = scores(model, test_split)
    still = TrainSettings(**(TRAIN | {"lr_new": 1e-12, "lr_clip": 1e-12}), backbone="frozen")
    tuned = fine_tune(model, near.split("train").sample(20), near.split("val"), still, 1, 0)
    torch.testing.assert_close(scores(tuned.cpu(), test_split), before, atol=1e-5, rtol=0)


def test_fine_tuning_trains_on_less_than_a_batch_and_is_silent(near, test_split, tmp_path, capsys):
    model = saved("mean_pooling", near, tmp_path)
    before, few = scores(model, test_split), near.split("train").sample(5)
    tuned = fine_tune(model, few, near.split("val"), TrainSettings(**TRAIN, backbone="frozen"), 2, 0)
    assert not torch.allclose(scores(tuned.cpu(), test_split), before, atol=1e-5)
    assert not tuned.training
    assert capsys.readouterr().out == ""


# --- a whole study

MODEL = {"temporal_layers": 0, "num_queries": 2, "decoder_layers": 1, "dropout": 0.1}
METHODS_SECTION = {
    "pooled": {"head": "mean_pooling", "train": {}, "model": {"temporal_layers": 1}},
    "x_clip": {"head": "x_clip", "train": {"lr_new": 1e-2}, "model": {}},
    "glscl": {"head": "glscl", "train": {"keep_epochs": True}, "model": {}},
}
SECTION = {"target": "far", "heads": ["x_clip", "glscl"], "fine_tune_videos": 6, "fine_tune_epochs": 1}


@pytest.fixture
def opened(bundled, near, tmp_path, monkeypatch):
    """opened(inputs={...}, **changes of the section) -> a study from the corpus `near` to one of 3 frames, 9 tokens.

    The target is written where the study would prepare it, with videos that no file has.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # starting processes takes longer than the study
    monkeypatch.setattr(runs, "hash_of", lambda _: "the code of today")  # and so does reading all code for each run
    folder = tmp_path / "work/corpora/near"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(near.folder)

    def prepare(dataset, corpus, inputs, folder, **preparation):
        assert (dataset, corpus, preparation) == ("far", {"folder": "videos"}, {"quality": 90, "max_missing": 0})
        assert inputs == {"clip": near.clip, "backbone": "frozen", "frames": 3, "words": 9}
        random_corpus.write(folder, 128, 3, 9, {"train": 16, "val": 4, "test": 6})

    monkeypatch.setattr(transfer, "prepare", prepare)
    monkeypatch.setattr(transfer, "encode", lambda folder, inputs: None)
    target = {"corpus": {"folder": "videos"}, "train": {"batch_size": 4}, "model": {}}
    target |= {"inputs": {"clip": "another", "backbone": "finetuned", "frames": 3, "words": 9}}

    def open_study(inputs=None, **changes):
        inputs = {"clip": near.clip, "backbone": "frozen", "frames": 4, "words": 24} | (inputs or {})
        sections = METHODS_SECTION, TRAIN, MODEL, {"max_missing": 0}, {"quality": 90}
        return Study.open("dev", "near", inputs, SECTION | changes, target, [0], *sections)

    return open_study


def test_a_study_moves_every_head_both_ways(opened, near):
    study = opened()
    assert study.heads["x_clip"][2] == TrainSettings(**(TRAIN | {"batch_size": 4, "lr_new": 1e-2}), backbone="frozen")
    assert study.heads["glscl"][1] == MODEL
    for name, (method, chosen, settings) in study.heads.items():
        train_seeds(method, chosen, near, settings, [0], study.folders.work / "train" / name)
    evaluated = transfer.evaluate_all(study)
    assert {run[:4] for run in evaluated.runs} == {
        *((head, to, 0, s) for head in study.heads for to in ("near to far", "far to near") for s in STARTS),
        *(("CLIP", to, None, "untrained") for to in ("near to far", "far to near")),
    }
    assert evaluated.resized["near to far", "glscl"] == []
    assert "head.over_words.matrix" in evaluated.resized["near to far", "x_clip"]

    results = transfer.results_of(study, evaluated)
    assert results["scope"]["texts"] == {"near to far": 6, "far to near": 12}
    for name, heads in results["transfers"].items():
        untrained = results["untrained"][name]["mean"]
        for head, reached in heads.items():
            over = results["over_clip"][name][head]
            assert {start: reached[start]["mean"] - untrained for start in STARTS} == pytest.approx(
                {start: over[start]["mean"] for start in STARTS}
            )
            added = results["source_adds"][name][head]["zero_shot"]
            assert added["difference"] == pytest.approx(over["zero_shot"]["mean"])
            assert bool(reached["retained"]) == (over["in_domain"]["mean"] >= 0)
    assert all(test["new_seeds_too"] is None for *_, test in transfer.tests_of(results))  # for one seed
    recalls = transfer.recall_table(evaluated.runs, "far to near")
    assert recalls["start"].tolist() == [*STARTS.values()] * 2 + ["zero-shot"]
    assert transfer.corpora_table(evaluated.domains)["tokens allowed"].tolist() == [24, 9]
    assert transfer.resized_table(evaluated.resized)["resized"].tolist() == [6, 0, 6, 0]
    assert len(transfer.source_table(results)) == 2 * 2 * 2
    assert set(transfer.attention_table(results)["head"]) == {"x_clip"}
    assert transfer.about(results["scope"]).startswith("6 test texts (near to far), 12 test texts")


def test_a_head_that_was_not_trained_is_named_before_anything_is_prepared(opened, monkeypatch):
    monkeypatch.setattr(transfer, "prepare", None)
    with pytest.raises(ValueError, match=r"x_clip is not trained on near; add it to the methods of the profile"):
        transfer.evaluate_all(opened())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "near"}, "The second corpus is near, CLIP is frozen, and the heads are x_clip, glscl."),
        ({"inputs": {"backbone": "finetuned"}}, "The second corpus is far, CLIP is finetuned"),
        ({"heads": []}, "The second corpus is far, CLIP is frozen, and the heads are none."),
    ],
)
def test_without_a_second_corpus_a_frozen_clip_or_heads_nothing_moves(opened, changes, said):
    study = opened(**changes)
    evaluated = transfer.evaluate_all(study)
    results = transfer.results_of(study, evaluated)
    assert results["answer"] == "near: transfer needs a second corpus, a frozen CLIP and trained heads."
    assert results["details"][0].startswith(said)
    assert results["transfers"] == results["over_clip"] == results["glscl_minus"] == {}
    assert over_clip(transfer.point_rows(results)).data == ()
    for table in (transfer.retained_table, transfer.source_table, transfer.attention_table):
        assert table(results).empty
    assert transfer.corpora_table(evaluated.domains).empty
    assert transfer.about(results["scope"]) == "near: no transfer"


def test_an_unknown_head_is_named(opened):
    with pytest.raises(ValueError, match=r"transfer\.heads must be one of pooled, x_clip, glscl, got 'xclip'"):
        opened(heads=["xclip"])


def test_a_split_is_that_of_the_corpus(near):
    domain = Domain("near", near.folder, near.clip, 24, Path("nowhere"))
    assert transfer._split(domain, "val").fingerprint() == near.split("val").fingerprint()


# --- results and what is said


def made_up(**shares):
    """Runs of two seeds in two transfers, in which each start of a head finds such a share of 150 texts; CLIP 40 %."""
    found = []
    for number, name in enumerate(("a to b", "b to a")):
        generator = np.random.default_rng(number)

        def run(head, seed, start, share, name=name, generator=generator):
            rank = np.where(generator.permutation(150) < 150 * share, 0.0, 7.0)
            return Run(head, name, seed, start, {"t2v": {"rank": rank, "group": np.arange(150)}})

        for head, of_starts in shares.items():
            found += [run(head, seed, start, of_starts[i]) for seed in (0, 1) for i, start in enumerate(STARTS)]
        found.append(run("CLIP", None, "untrained", 0.4))
    return found


def results_of(opened, **shares):
    study = opened(target="near")
    heads = {name: (name, {}, None) for name in shares}
    study = transfer.dataclasses.replace(study, dataset="a", target="b", heads=heads, seeds=[0, 1])
    return transfer.results_of(study, transfer.Evaluated([], made_up(**shares), {}))


GOOD, MIXED, BAD = (0.8, 0.6, 0.7, 0.5), (0.6, 0.25, 0.5, 0.3), (0.2, 0.3, 0.3, 0.1)


def test_where_nothing_is_negative_the_answer_is_a_share(opened):
    results = results_of(opened, glscl=GOOD, x_clip=GOOD)
    kept = [heads["glscl"]["retained"]["zero_shot"]["mean"] for heads in results["transfers"].values()]
    assert kept == pytest.approx([75, 75])
    assert results["negative_transfer"]["a to b"] == {"glscl": [], "x_clip": []}
    assert results["answer"] == (
        f"Zero-shot, GLSCL retains {kept[0]:.0f} % (a to b) and {kept[1]:.0f} % (b to a) of its in-domain R@1; 2 heads "
        "gain significantly over zero-shot CLIP."
    )
    assert "No difference between GLSCL and an attention-based head is significant." in results["details"]


def test_a_head_below_clip_is_told_in_points_and_retains_nothing_where_it_failed_in_domain(opened):
    results = results_of(opened, glscl=MIXED, x_clip=GOOD, x_pool=BAD)
    negative = results["negative_transfer"]["a to b"]
    assert negative == {"glscl": ["zero_shot"], "x_clip": [], "x_pool": ["in_domain", "zero_shot", "fine_tuned"]}
    points = [heads["glscl"]["zero_shot"]["mean"] for heads in results["over_clip"].values()]
    assert results["answer"] == (
        f"Zero-shot, GLSCL scores {points[0]:+.1f} (a to b) and {points[1]:+.1f} points of R@1 (b to a) against "
        "zero-shot CLIP (negative transfer); only x_clip gains significantly."
    )
    assert results["transfers"]["a to b"]["x_pool"]["retained"] == {}
    assert results["transfers"]["a to b"]["glscl"]["retained"].keys() == {"untrained", "from_clip", *transfer.MOVED}
    tests = results["glscl_minus"]["a to b"]
    assert tests["x_clip"]["zero_shot"].keys() == {"R@1", "retained"}
    assert tests["x_pool"]["zero_shot"].keys() == {"R@1"}
    assert all(test["p_holm"] >= test["p"] for *_, test in transfer.tests_of(results))
    assert "GLSCL finds significantly less than x_clip, zero-shot, a to b." in results["details"]
    assert (
        "a to b: zero-shot, 2 of 3 heads are below zero-shot CLIP (negative transfer); in-domain, 1 of 3."
        in (results["details"])
    )
    remarks = transfer.retained_table(results).set_index(["transfer", "head"])["remark"]["a to b"]
    assert remarks["glscl"] == "negative transfer, zero-shot"
    assert remarks["x_pool"] == "negative transfer, zero-shot and fine-tuned; in-domain below zero-shot CLIP"
    assert pd.isna(remarks["x_clip"])


def test_a_failed_in_domain_head_is_told_in_points_too(opened):
    results = results_of(opened, glscl=(0.3, 0.6, 0.6, 0.5))
    assert "points of R@1" in results["answer"]
    assert "negative transfer" not in results["answer"]
    assert "no heads gain" not in results["answer"]
    assert "GLSCL meets no attention-based head." in results["details"]


def test_answers_and_details_are_short(opened):
    for shares in ({"glscl": GOOD, "x_clip": GOOD}, {"glscl": BAD, "x_clip": BAD}, {"x_clip": GOOD}):
        results = results_of(opened, **shares)
        sentences = [results["answer"], *results["details"]]
        assert all(len(sentence.split()) <= 25 for sentence in sentences), sentences
        assert all(sentence.endswith(".") for sentence in sentences)


def test_seeds_and_videos_stay_in_place():
    found = Hits.of(made_up(glscl=GOOD), "b to a")
    assert {start: values.shape for start, values in found.of_heads["glscl"].items()} == dict.fromkeys(STARTS, (2, 150))
    assert found.untrained.shape == (1, 150)
    assert set(found.of_heads) == {"glscl"}


# --- the figure


def test_every_start_is_drawn_once_at_its_head():
    rows = pd.DataFrame(
        [
            {"transfer": transfer, "head": head, "start": start, "mean": mean, "low": mean - 5, "high": mean + 10}
            for transfer in ("a to b", "b to a")
            for mean, (head, start) in enumerate([("one", "zero"), ("one", "tuned"), ("two", "zero")], -2)
        ]
    )
    figure = over_clip(rows)
    drawn = [(head, x) for trace in figure.data for x, (head, *_) in zip(trace.x, trace.customdata, strict=True)]
    assert sorted(drawn) == sorted([("one", -2), ("one", -1), ("two", 0)] * 2)
    for trace in figure.data:
        positions = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
        assert all(abs(y - positions[head]) < 0.5 for y, (head, *_) in zip(trace.y, trace.customdata, strict=True))
        assert (trace.error_x.array == 10).all()
        assert (trace.error_x.arrayminus == 5).all()
    assert [trace.name for trace in figure.data if trace.showlegend] == ["zero", "tuned"]
    assert {shape.x0 for shape in figure.layout.shapes} == {0}
