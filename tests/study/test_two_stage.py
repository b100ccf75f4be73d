"""Two-stage search: against plain loops, at the edges, on trained models, and its times."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPConfig

from glscl.data.processor import Processor
from glscl.methods import METHODS
from glscl.study import two_stage as stages
from tests.conftest import TINY_CLIP
from tests.study import random_corpus

VIDEOS = 30
HEADS = {"mean": "mean_pooling", "glscl": "glscl", "cross": "cross_encoder"}


@pytest.fixture
def scores():
    """Scores of a cheap method and of a head that partly agrees with it: (12 texts, 30 videos) each."""
    generator = torch.Generator().manual_seed(0)
    first, noise = torch.randn(2, 12, VIDEOS, generator=generator)
    return first, first + noise


@pytest.mark.parametrize("depth", [1, 4, VIDEOS])
def test_two_stages_are_the_plain_loop(scores, depth):
    first, head = scores
    for text, found in enumerate(stages.two_stage(first, head, depth).tolist()):
        candidates = sorted(range(VIDEOS), key=lambda video: -first[text, video])[:depth]
        assert found == max(candidates, key=lambda video: head[text, video])


def test_depth_one_is_the_first_stage_and_full_depth_the_head(scores):
    first, head = scores
    right = torch.arange(12)
    assert stages.two_stage(first, head, 1).equal(first.argmax(1))
    assert stages.two_stage(first, head, VIDEOS).equal(head.argmax(1))
    assert stages.kept(first, head, right, VIDEOS)["kept"] == 100
    assert stages.kept(head, head, right, 1)["kept"] == 100
    shares = [stages.kept(first, head, right, depth)["kept"] for depth in range(1, VIDEOS + 1)]
    assert shares == sorted(shares)  # a deeper first stage never loses what a shallower one kept


def test_recall_can_rise_where_the_head_prefers_a_wrong_video():
    first, head = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    found = stages.kept(first, head, torch.tensor([1]), 2)
    assert found == {"kept": 0.0, "r1": 100.0}
    tied = torch.tensor([[1.0, 2.0, 2.0]])
    assert stages.kept(first, tied, torch.tensor([0]), 2)["kept"] == 100  # as good as the head's own best


@pytest.mark.parametrize(("shape", "depth"), [((2, 5), 0), ((2, 5), 6), ((2, 4), 3)])
def test_scores_that_do_not_fit_are_refused(shape, depth):
    with pytest.raises(ValueError, match="a depth from 1 to the videos"):
        stages.two_stage(torch.zeros(2, 5), torch.zeros(shape), depth)


@pytest.fixture(scope="module")
def trained(bundled, tmp_path_factory):
    """A corpus of random features and the folder of untrained models on it."""
    corpus, runs = tmp_path_factory.mktemp("random"), tmp_path_factory.mktemp("train")
    random_corpus.write(corpus, 32, 4, 9, {"test": VIDEOS})
    for method, head in HEADS.items():
        torch.manual_seed(0)
        settings = {"decoder_heads": 4} if head == "glscl" else {}
        config = METHODS[head].config_class(clip_config=CLIPConfig(**TINY_CLIP), temporal_layers=1, words=9, **settings)
        METHODS[head](config).save_pretrained(runs / method / "seed-0")
        Processor.from_pretrained(bundled / "tiny-clip", 9).save_pretrained(runs / method / "seed-0")
        about = {"method": head, "model": {"words": 9}, "train": {"backbone": "frozen"}}
        (runs / method / "settings.json").write_text(json.dumps(about))
    return corpus, runs


def test_what_trained_heads_keep(trained):
    corpus, runs = trained
    found = stages.recall_kept(runs, corpus, ["mean", "glscl", "cross", "absent"], "mean", 0, [5, 10, 500])
    assert found["methods"].keys() == {"glscl"}  # the cross-encoder scores no whole gallery
    one = found["methods"]["glscl"]
    assert (one["head"], list(one["depths"]), found["texts"]) == ("glscl", ["5", "10"], VIDEOS)
    split = stages._test_split(runs / "glscl", corpus, 0)
    first, head = (stages._scores(runs / method, 0, split).numpy() for method in ("mean", "glscl"))
    inside = [np.argmax(head[t]) in np.argsort(-first[t])[:5] for t in range(VIDEOS)]
    assert one["depths"]["5"]["kept"] == pytest.approx(100 * np.mean(inside))
    assert one["r1"] == pytest.approx(100 * np.mean(head.argmax(1) == split.video_of_text.numpy()))
    assert "best 5 of 30 videos" in found["answer"]
    assert len(found["answer"].split()) <= 25


def test_without_models_it_is_left_out_in_a_sentence(trained):
    corpus, runs = trained
    for methods in ([], ["glscl"]):
        found = stages.recall_kept(runs, corpus, methods, "mean", 0, [5])
        assert found["methods"] == {}
        assert found["answer"].startswith("What two-stage search keeps is left out: no mean was trained")
    for methods, depth in ((["mean"], 5), (["mean", "glscl"], 500)):
        found = stages.recall_kept(runs, corpus, methods, "mean", 0, [depth])
        assert found["answer"].startswith("What two-stage search keeps is left out: no other head")


def test_times_are_those_of_both_stages():
    depths = {"100": {"kept": 99.0, "r1": 41.0}, "50": {"kept": 90.0, "r1": 40.0}}
    kept = {"methods": {"ours": {"head": "glscl", "r1": 42.0, "depths": depths}}}
    ordered = {"50": {"seconds": 0.01, "repeats": 5}, "100": {"seconds": 0.02, "repeats": 0}}
    queries = [{"gallery": 1_000, "seconds": 0.5, "repeats": 5}]
    measured = {"first_stage": {"1000": {"seconds": 0.001, "repeats": 5}}}
    measured["heads"] = {"glscl": {"short": {"rerank": ordered, "queries": queries}}}
    rows = stages.two_stage_rows(kept, measured, 1_000)
    assert rows["depth"].tolist() == ["50", "100", stages.EXACT]
    assert rows["seconds"].tolist() == pytest.approx([0.011, 0.021, 0.5])
    assert rows["repeats"].tolist() == [5, 0, 5]
    assert rows["kept"].tolist() == [90, 99, 100]
    table = stages.two_stage_table(kept, measured, [1_000])
    assert table["ms, 1,000 videos"].tolist() == ["11", "21*", "500"]
