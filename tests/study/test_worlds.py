"""Worlds with one thing changed: what is trained in them, and what is said of the spread between heads."""

from dataclasses import asdict

import numpy as np
import pytest

from glscl.bundled.facets import Facets, build
from glscl.data.dataset import PreparedCorpus
from glscl.study import worlds
from glscl.study.worlds import Found, Study
from glscl.training.runs import train_seeds
from glscl.training.trainer import TrainSettings
from tests import ROOT

SMALL = Facets(train=40, val=20, test=30, captions=1, width=64)
TRAIN = {"epochs": 1, "batch_size": 16, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2, "warmup": 0.1}
HEADS = {"mean": ("mean_pooling", {"temporal_layers": 1}), "glscl": ("glscl", {"temporal_layers": 1, "num_queries": 2})}


def found(hits: dict[str, list], untrained: float = 0.0, ordered: float = 100.0) -> Found:
    """One world in which heads have these hits (seeds, texts)."""
    hits = {head: 100.0 * np.array(of, dtype=float) for head, of in hits.items()}
    texts = next(iter(hits.values())).shape[1]
    ceilings = {kind: {"R@1": ordered} for kind in worlds.KINDS}
    return Found(ceilings, hits, np.full((1, texts), untrained), np.arange(texts))


def study(changed: dict, heads=("mean", "glscl"), seeds=(0, 1)) -> Study:
    return Study("facets", asdict(SMALL), changed, list(heads), list(seeds), None, None)


def test_recalls_spreads_and_differences_are_those_of_the_hits():
    near = found({"mean": [[1, 0, 0, 0], [1, 0, 0, 0]], "glscl": [[1, 1, 0, 0], [1, 0, 0, 0]]})
    far = found({"mean": [[0, 0, 0, 0], [1, 0, 0, 0]], "glscl": [[1, 1, 1, 1], [1, 1, 1, 0]]})
    results = worlds.results_of(study({"near": {}, "far": {"objects": 2}}), {"near": near, "far": far})
    assert results["worlds"]["near"]["heads"]["glscl"]["mean"] == 37.5
    assert results["worlds"]["near"]["heads"]["glscl"]["seeds"] == [50, 25]
    assert results["worlds"]["far"]["glscl_minus"]["mean"]["difference"] == 75
    assert worlds.spread(results["worlds"]["far"]) == 75
    assert results["answer"] == "Heads differ most, by 75.0 points of R@1, with far, least with near, by 12.5."
    assert results["details"][0] == "near: GLSCL 37.5, untrained 0.0, ceiling 100.0 (R@1, %)."
    assert worlds.table(results)["mean"].str.split(" ").str[0].tolist() == ["25.0", "12.5"]
    assert len(worlds.minus_table(results)) == 2


def test_a_head_that_is_significantly_above_the_ceiling_is_named():
    hits = np.arange(400) % 4 == 0  # 25 %, of 400 texts: from 21 to 29
    for ceiling, named in ((26.0, 0), (23.0, 0), (15.0, 1)):
        results = worlds.results_of(study({"near": {}}), {"near": found({"glscl": [hits, hits]}, ordered=ceiling)})
        assert len(worlds.above_ceilings(results)) == named
    assert worlds.above_ceilings(results)[0].startswith("near: GLSCL has R@1 25.0, at least ")


def test_with_one_head_there_is_nothing_to_compare():
    results = worlds.results_of(study({"near": {}}, ["glscl"]), {"near": found({"glscl": [[1, 0], [1, 1]]})})
    assert results["answer"] == "No two heads were trained in another world."
    assert results["worlds"]["near"]["glscl_minus"] == {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of two heads that were trained on a small corpus of features."""
    root = tmp_path_factory.mktemp("worlds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glscl.training.runs.UNFINISHED", root / "unfinished")
        build(SMALL, root / "facets", ROOT / "data/tiny-clip")
        corpus = PreparedCorpus.open(root / "facets", str(root / "facets/clip"), "frozen", SMALL.words)
        settings = TrainSettings(**TRAIN, clip_grad=1.0, backbone="frozen")
        for name, (method, model) in HEADS.items():
            train_seeds(method, model, corpus, settings, [0], root / "train" / name)
    return root


def test_heads_are_trained_in_each_world_with_their_own_settings(trained, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("glscl.training.runs.UNFINISHED", trained / "unfinished")
    monkeypatch.setattr(worlds, "one_thread_each", lambda call, jobs: [call(*job) for job in jobs])
    changed = {"same": {}, "two": {"objects": 2, "test": 25}}
    asked = Study("facets", asdict(SMALL), changed, list(HEADS), [0], trained / "train", trained / "scratch")
    first = worlds.run(asked)
    assert {name: one.hits["glscl"].shape for name, one in first.items()} == {"same": (1, 30), "two": (1, 25)}
    assert first["two"].ceilings["bag"]["R@1"] <= first["two"].ceilings["ordered"]["R@1"]
    again = worlds.run(asked)
    for name in changed:
        np.testing.assert_array_equal(first[name].hits["glscl"], again[name].hits["glscl"])
    worlds.results_of(asked, first)


def test_a_head_that_was_not_trained_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"changed": {}, "heads": ["drl"], "seeds": [0]}
    with pytest.raises(ValueError, match="drl is not; add it to the methods"):
        Study.open("quick", "facets", {}, asked)
