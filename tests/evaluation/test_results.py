"""Results rows and tables, and reference rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from glscl.data.frame_store import FrameStore
from glscl.evaluation.baselines import bag_of_words_ridge, chance, oracle
from glscl.evaluation.results import (
    METRICS,
    ON_TEST,
    Run,
    differences,
    intervals,
    rank_table,
    reported,
    rows,
    shown,
    summary,
)
from glscl.metrics import per_query, retrieval_metrics, summarise


def runs(seeds=(0, 1, 2), queries=60):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(queries, queries))
    found = []
    for name, strength in (("glscl", 2.5), ("mean_pooling", 1.0)):
        for seed in seeds:
            scores = noise + rng.normal(size=noise.shape) / 4 + strength * np.eye(queries)
            found.append(Run(name, "test", seed, "selected", per_query(scores, np.arange(queries))))
    return found


def test_every_metric_lies_in_its_interval_and_the_interval_in_its_range():
    for strength in (0, 2, 50):
        scores = [np.random.default_rng(seed).normal(size=(60, 60)) + strength * np.eye(60) for seed in range(3)]
        found = [per_query(each, np.arange(60))["t2v"] for each in scores]
        for name, (low, high) in intervals(found, samples=400).items():
            assert low <= np.mean([summarise(run)[name] for run in found]) <= high
            assert (low >= 1) if name[0] == "M" else (low >= 0 and high <= 100)


def test_intervals_are_over_seeds_too():
    same, other = runs()[0].queries["t2v"], runs()[4].queries["t2v"]  # another head stands for a seed far off
    for name in ("R@1", "mAP@10", "MnR"):
        alone, apart = (np.ptp(intervals(both, samples=100)[name]) for both in ([same, same], [same, other]))
        assert apart > 2 * alone


def test_chance_is_what_random_scores_average_to():
    rng = np.random.default_rng(0)
    sampled = pd.DataFrame([retrieval_metrics(rng.random((60, 60)), np.arange(60))["t2v"] for _ in range(200)]).mean()
    expected = chance(60)
    for metric in METRICS:
        assert sampled[metric] == pytest.approx(expected[metric], abs=0.25 + 0.02 * expected[metric])


def test_the_summary_is_the_mean_over_seeds_with_an_interval_around_it():
    table = summary(runs()).set_index(["method", "direction"])
    row = table.loc["glscl", "t2v"]
    each = [100 * np.mean(run.queries["t2v"]["rank"] < 1) for run in runs()[:3]]
    assert row["R@1"] == pytest.approx(np.mean(each), abs=1e-3)
    assert row["R@1_sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-3)
    assert row["R@1_low"] < row["R@1"] < row["R@1_high"]


def test_only_the_epoch_selected_on_validation_is_a_result():
    found = runs()
    others = [run._replace(selection=selection) for run in found for selection in ("last", ON_TEST)]
    table = summary(found + others)
    pd.testing.assert_frame_equal(reported(table, "t2v"), reported(summary(found), "t2v"))
    labels = shown(table)["method"]
    assert {"glscl", "glscl, last epoch", "glscl, selected on test"} <= set(labels)


def test_the_paired_interval_is_narrower_than_the_two_intervals_together():
    found = runs()
    gain = differences(found, "glscl", ["mean_pooling"], ["R@1"])["mean_pooling"]["R@1"]
    table = summary(found).set_index(["method", "direction"])
    one, other = table.loc["glscl", "t2v"], table.loc["mean_pooling", "t2v"]
    assert gain["difference"] == pytest.approx(one["R@1"] - other["R@1"], abs=1e-3)
    assert 0 < gain["low"] < gain["difference"] < gain["high"]
    assert gain["high"] - gain["low"] < (one["R@1_high"] - one["R@1_low"]) + (other["R@1_high"] - other["R@1_low"])


def test_every_row_carries_what_its_numbers_depend_on(corpus):
    split = corpus["prepared"].split("test")
    queries = per_query(np.eye(12), np.arange(12))
    table = rows([Run("glscl", "test", 0, "selected", queries)], {"test": split}, missing=0, batch=32)
    wanted = {"method", "split", "seed", "selection", "texts", "videos", "missing", "batch", "ties", "post_processing"}
    assert wanted <= set(table.columns)
    assert table["R@1"].tolist() == [100, 100]
    assert table["texts"].tolist() == [12, 12]


def test_a_row_without_sampling_shows_no_interval():
    table = pd.concat(
        [summary(runs()), pd.DataFrame([{"method": "chance", "seeds": 1, "selection": "none"} | chance(60)])]
    )
    cells = shown(table)
    assert cells.iloc[-1]["R@1 \N{UPWARDS ARROW}"] == "1.7"
    assert "[" in cells.iloc[0]["R@1 \N{UPWARDS ARROW}"]


def test_the_oracle_is_near_perfect_and_refuses_captions_that_changed(corpus, bundled):
    split = corpus["prepared"].split("test")
    found = retrieval_metrics(oracle(bundled / "scenes", split), split.video_of_text.numpy())
    assert found["t2v"]["R@1"] > 90
    split.captions.loc[0, "text"] = "something else"
    with pytest.raises(ValueError, match="run the prepare stage again"):
        oracle(bundled / "scenes", split)


def test_bag_of_words_ridge_finds_a_planted_colour_and_reads_each_video_once():
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
    names = [list(colours)[i % 4] for i in range(40)]

    read = []

    class Painted:
        size = 16

        def frames(self, video):
            read.append(video)
            return np.full((2, 16, 16, 3), colours[names[int(video)]], np.uint8)

    class Part:
        def __init__(self, *ends):
            self.videos = [str(i) for i in range(*ends)]
            self.captions = pd.DataFrame({"text": [f"a {name} screen" for name in names[slice(*ends)]]})
            self.video_of_text = torch.arange(len(self.videos))

    scores, few = bag_of_words_ridge(Part(0, 20), [Part(20, 40), Part(30, 40)], Painted(), strength=0.1)
    assert [names[20 + i] for i in scores.argmax(1)] == names[20:]
    np.testing.assert_allclose(few, scores[10:, 10:])
    assert sorted(read, key=int) == [str(i) for i in range(40)]


def test_the_store_and_the_split_agree_on_thumbnails(corpus):
    train, test = (corpus["prepared"].split(name) for name in ("train", "test"))
    (scores,) = bag_of_words_ridge(train, [test], FrameStore(corpus["work"] / "frames"))
    assert scores.shape == (12, 12)
    assert np.isfinite(scores).all()


def test_the_correction_of_differences_is_over_the_others():
    found = runs()
    found += [run._replace(name="copy") for run in found if run.name == "mean_pooling"]
    gains = differences(found, "glscl", ["mean_pooling", "copy"], ["R@1", "R@5"])
    assert gains["mean_pooling"] == gains["copy"]
    for effect in gains["copy"].values():
        assert effect["p_holm"] == pytest.approx(2 * effect["p"])
    assert differences(found, "glscl", [], ["R@1"]) == {}


def test_the_table_of_ranks_holds_results_alone():
    found = runs(seeds=(0,))
    others = [run._replace(selection="last") for run in found] + [run._replace(processing="QB-Norm") for run in found]
    split = SimpleNamespace(videos=[f"v{i}" for i in range(60)], captions=pd.DataFrame({"caption_id": range(100, 160)}))
    table = rank_table(found + others, {"test": split})
    assert len(table) == 2 * 2 * 60
    for row in table[table["rank"] < 10].itertuples():
        assert row.best[int(row.rank)] == row.video
        assert len(row.scores) == 10
    assert table["text"].dropna().tolist() == 2 * list(range(100, 160))
    assert table.loc[table["text"].isna(), "direction"].unique() == ["v2t"]
    assert (100 * (table.query("method == 'glscl' and direction == 't2v'")["rank"] < 1).mean()) == pytest.approx(
        summary(found).query("method == 'glscl' and direction == 't2v'")["R@1"].item(), abs=1e-3
    )
