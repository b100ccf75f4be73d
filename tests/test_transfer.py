"""Transfer: shares and their intervals, heads moved to other sizes, a little training, and both corpora alike."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from glscl.decoding import Sampling
from glscl.metrics import bootstrap
from glscl.rivals import METHODS
from glscl.runs import train_seeds
from glscl.scoring import similarity_matrix
from glscl.splits import open_split
from glscl.training import TrainSettings
from glscl.transfer import STARTS, Domain, estimate, fine_tune, moved, prepare, share_values, starts
from glscl.transfer_figures import retained
from glscl.video import VideoError

SETTINGS = {"epochs": 1, "batch_size": 16, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2}
SETTINGS |= {"warmup": 0.1, "clip_grad": 1.0, "backbone": "frozen"}
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
    rng, ratios = np.random.default_rng(5), []
    for _ in range(2000):
        drawn = np.concatenate([np.flatnonzero(group == g) for g in rng.integers(200, size=200)])
        ratios.append(100 * moved_hits[:, drawn].mean() / reference[:, drawn].mean())
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


def saved(method, corpus, folder, frames=4, words=24):
    """A head with drawn weights, and the folder that it is kept in."""
    torch.manual_seed(3)
    model = METHODS[method].from_clip(
        corpus["clip"], temporal_layers=1, frames=frames, words=words, **HEADS.get(method, {})
    )
    with torch.no_grad():
        for weight in model.head.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return model


def scores(model, corpus, frames=0, words=0):
    """Of the test split, with so many frames and words of padding added."""
    test = open_split(corpus["work"], corpus["captions"], "test", corpus["inputs"], "frozen")
    text, video = test.text_batch(torch.arange(len(test))), test.video_batch(torch.arange(len(test.videos)))
    pad = torch.nn.functional.pad
    texts = model.head.encode_texts(
        text["sentence"], pad(text["words"], (0, 0, 0, words)), pad(text["word_mask"], (0, words))
    )
    videos = model.head.encode_videos(pad(video["frames"], (0, 0, 0, frames)), pad(video["frame_mask"], (0, frames)))
    return similarity_matrix(model, texts, videos)


@pytest.mark.parametrize("method", HEADS)
def test_a_head_that_moves_to_the_same_sizes_scores_the_same(corpus, tmp_path, method):
    source = saved(method, corpus, tmp_path)
    assert torch.equal(scores(moved(tmp_path, 4, 24), corpus), scores(source, corpus))


@pytest.mark.parametrize("method", [name for name in HEADS if name != "glscl"])
def test_a_head_with_room_for_more_scores_what_it_scored(corpus, tmp_path, method):
    source = saved(method, corpus, tmp_path)
    larger = moved(tmp_path, 7, 40)
    assert (larger.config.frames, larger.config.words) == (7, 40)
    torch.testing.assert_close(scores(larger, corpus, frames=3, words=16), scores(source, corpus), atol=2e-5, rtol=0)


def test_released_glscl_attends_to_more_padding_where_there_is_more(corpus, tmp_path):
    source = saved("glscl", corpus, tmp_path)
    assert not torch.allclose(scores(moved(tmp_path, 7, 40), corpus, 3, 16), scores(source, corpus), atol=1e-4)


@pytest.mark.parametrize("method", SIZED)
def test_new_positions_begin_as_without_training_and_common_ones_stay(corpus, tmp_path, method):
    before = saved(method, corpus, tmp_path).state_dict()
    torch.manual_seed(0)
    untrained = METHODS[method].from_clip(corpus["clip"], temporal_layers=1, frames=7, words=40).state_dict()
    after, resized = moved(tmp_path, 7, 40).state_dict(), 0
    for name, weight in before.items():
        kept = tuple(map(slice, weight.shape))
        assert torch.equal(after[name][kept], weight), name
        if after[name].shape != weight.shape:
            new = torch.ones_like(after[name], dtype=torch.bool)
            new[kept] = False
            assert torch.equal(after[name][new], untrained[name][new]), name
            resized += 1
    assert resized > 0


def test_fewer_positions_keep_the_first_ones(corpus, tmp_path):
    before = saved("x_clip", corpus, tmp_path, frames=7, words=40).state_dict()["head.over_words.matrix"]
    after = moved(tmp_path, 4, 24).state_dict()["head.over_words.matrix"]
    assert torch.equal(after, before[:24, :24])


# --- a little training


def test_fine_tuning_starts_from_the_given_weights(corpus, tmp_path):
    source = saved("mean_pooling", corpus, tmp_path / "source")
    data, val = (
        open_split(corpus["work"], corpus["captions"], n, corpus["inputs"], "frozen") for n in ("train", "val")
    )
    still = TrainSettings(**(SETTINGS | {"lr_new": 1e-12, "lr_clip": 1e-12}))
    tuned = fine_tune(moved(tmp_path / "source", 4, 24), data.sample(20), val, still, 1, 0, tmp_path / "tuned")
    torch.testing.assert_close(scores(tuned.cpu(), corpus), scores(source, corpus), atol=1e-5, rtol=0)


def test_fine_tuning_begins_anew_and_is_silent(corpus, tmp_path, capsys):
    saved("mean_pooling", corpus, tmp_path / "source")
    data, val = (
        open_split(corpus["work"], corpus["captions"], n, corpus["inputs"], "frozen") for n in ("train", "val")
    )
    few, settings = data.sample(10), TrainSettings(**SETTINGS)
    fine_tune(moved(tmp_path / "source", 4, 24), few, val, settings, 2, 0, tmp_path / "tuned")
    again = fine_tune(moved(tmp_path / "source", 4, 24), few, val, settings, 3, 0, tmp_path / "tuned")
    assert capsys.readouterr().out == ""
    assert len(pd.read_csv(tmp_path / "tuned/curve.csv")) == 3
    kept = load_file(tmp_path / "tuned/selected.safetensors")
    assert all(torch.equal(again.state_dict()[name].cpu(), weight) for name, weight in kept.items())


# --- two corpora


@pytest.fixture(scope="module")
def stories(bundled, corpus, tmp_path_factory):
    """A prepared corpus of 12 training, 4 validation and 4 test clips of `stories`, and the folder of its videos."""
    root = tmp_path_factory.mktemp("stories")
    captions = pd.read_csv(bundled / "stories/captions.csv")
    kept = {"train": 12, "val": 4, "test": 4}
    captions = pd.concat([rows.head(kept[split]) for split, rows in captions.groupby("split")])
    (root / "corpus/videos").mkdir(parents=True)
    captions.to_csv(root / "corpus/captions.csv", index=False)
    for video in captions["video"]:
        shutil.copy(bundled / f"stories/videos/{video}.mp4", root / "corpus/videos")
    given = {"folder": root / "corpus"}, root / "work", Sampling(6), corpus["inputs"], corpus["clip"]
    prepare("stories", *given)
    return root, given


def test_another_corpus_is_prepared_with_the_same_clip(stories, corpus):
    root, _ = stories
    domain = Domain.open("stories", root / "work", corpus["inputs"])
    assert [len(split.videos) for split in (domain.train, domain.val, domain.test)] == [12, 4, 4]
    assert domain.test.frames == 6
    ids, mask = corpus["inputs"].tokenise(domain.test.captions["text"].tolist())
    with torch.no_grad():
        sentence, _ = METHODS["mean_pooling"].from_clip(corpus["clip"], temporal_layers=0).text_states(ids, mask)
    stored = domain.test.text_batch(torch.arange(4))
    torch.testing.assert_close(stored["sentence"], sentence, atol=0.02, rtol=0)
    assert torch.equal(stored["word_mask"], mask)


def test_a_missing_video_is_an_error_or_within_the_budget(stories, corpus, tmp_path):
    root, (_, _, *given) = stories
    shutil.copytree(root / "corpus", tmp_path / "corpus")
    absent = sorted((tmp_path / "corpus/videos").iterdir())[0]
    absent.unlink()
    with pytest.raises(VideoError, match=absent.stem):
        prepare("stories", {"folder": tmp_path / "corpus"}, tmp_path / "work", *given)
    prepare("stories", {"folder": tmp_path / "corpus"}, tmp_path / "work", *given, max_missing=1)
    domain = Domain.open("stories", tmp_path / "work", corpus["inputs"])
    assert absent.stem not in set(domain.captions["video"])
    assert domain.captions["video"].nunique() == 19


def test_a_head_that_was_not_trained_is_named(stories, corpus):
    domain = Domain.open("stories", stories[0] / "work", corpus["inputs"])
    with pytest.raises(ValueError, match=r"x_clip is not trained on stories; add it to study\.methods, or leave"):
        domain.settings("x_clip")


def test_five_starts_answer_for_the_target(stories, corpus, bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    domains = []
    shutil.copytree(corpus["work"] / "states", tmp_path / "scenes/states")
    corpus["captions"].drop(columns="path").to_parquet(tmp_path / "scenes/captions.parquet")
    for name, work in (("scenes", tmp_path / "scenes"), ("stories", stories[0] / "work")):
        domain = Domain.open(name, work, corpus["inputs"])
        given = work, domain.captions, TrainSettings(**(SETTINGS | {"batch_size": 8})), [0], domain.trained / "pooled"
        train_seeds("mean_pooling", {"temporal_layers": 1}, str(bundled / "tiny-clip"), corpus["inputs"], *given)
        domains.append(domain)
    source, target = domains
    found = starts(source, target, "pooled", 0, corpus["clip"], 6, 1, tmp_path / "way")
    assert found.keys() == STARTS.keys()
    assert {(model.config.frames, model.config.words) for model in found.values()} == {(6, 24)}
    for start, domain in (("zero_shot", source), ("in_domain", target)):
        kept = load_file(domain.trained / "pooled/seed-0/model.safetensors")
        assert all(torch.equal(found[start].state_dict()[name], weight) for name, weight in kept.items()), start
    curves = [tmp_path / f"way/{start}/pooled/seed-0/curve.csv" for start in ("fine_tuned", "from_clip")]
    assert [pd.read_csv(curve)["step"].tolist() for curve in curves] == [[1], [1]]


# --- the figure


def test_every_share_is_drawn_once_at_its_head():
    rows = pd.DataFrame(
        [
            {"way": way, "head": head, "start": start, "share": share, "low": share - 5, "high": share + 10}
            for way in ("a to b", "b to a")
            for share, (head, start) in enumerate([("one", "zero"), ("one", "tuned"), ("two", "zero")], 50)
        ]
    )
    figure = retained(rows)
    drawn = [(head, x) for trace in figure.data for x, (head, *_) in zip(trace.x, trace.customdata, strict=True)]
    assert sorted(drawn) == sorted([("one", 50), ("one", 51), ("two", 52)] * 2)
    for trace in figure.data:
        places = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
        assert all(abs(y - places[head]) < 0.5 for y, (head, *_) in zip(trace.y, trace.customdata, strict=True))
        assert (trace.error_x.array == 10).all()
        assert (trace.error_x.arrayminus == 5).all()
    assert [trace.name for trace in figure.data if trace.showlegend] == ["zero", "tuned"]
