"""Convergence: goals and areas of curves, differences over seeds, the work of a step, and where a curve starts."""

import numpy as np
import pandas as pd
import pytest
import torch

from glscl import convergence, costs
from glscl.convergence_figures import AXES, learning_curves
from glscl.model import GLSCL
from glscl.rivals import METHODS
from glscl.runs import train_seeds
from glscl.splits import open_split
from glscl.training import TrainSettings, mean_recall

STEPS = [0, 10, 20, 40]


@pytest.mark.parametrize(
    ("goal", "recall", "expected"),
    [
        (30, [10, 20, 40, 50], 15),
        (20, [10, 20, 40, 50], 10),
        (45, [10, 50, 30, 60], 8.75),
        (5, [10, 20, 40, 50], 0),
        (51, [10, 20, 40, 50], None),
    ],
)
def test_a_goal_is_reached_where_the_curve_first_crosses_it(goal, recall, expected):
    assert convergence.step_of(goal, STEPS, recall) == expected


def test_the_step_of_a_goal_agrees_with_a_search_along_the_curve():
    generator = np.random.default_rng(0)
    fine = np.linspace(0, 40, 40_001)
    for _ in range(20):
        recall = generator.uniform(0, 60, len(STEPS))
        goal = generator.uniform(recall.min(), recall.max())
        expected = fine[np.interp(fine, STEPS, recall) >= goal][0]
        assert convergence.step_of(goal, STEPS, recall) == pytest.approx(expected, abs=1e-3)


def height(steps, recall):
    return convergence.mean_height(steps, np.array(recall, dtype=float)[None, :, None]).item()


def test_the_area_is_the_mean_height_whatever_the_spacing():
    assert height(STEPS, [7, 7, 7, 7]) == 7
    assert height(STEPS, [10, 20, 30, 50]) == pytest.approx(30)
    assert height([0, 10, 20, 30, 40], [10, 20, 40, 45, 50]) == pytest.approx(height(STEPS, [10, 20, 40, 50]))
    assert height(STEPS, [0, 40, 40, 40]) > height(STEPS, [0, 10, 30, 40])


def test_the_area_of_the_mean_curve_is_the_mean_of_the_queries_areas():
    recall = np.random.default_rng(0).uniform(0, 100, (3, len(STEPS), 11))
    areas = convergence.mean_height(STEPS, recall)
    assert areas.shape == (3, 11)
    assert areas.mean(1) == pytest.approx([height(STEPS, curve) for curve in recall.mean(2)])


def test_a_seed_that_never_gets_there_leaves_no_mean():
    assert convergence.over_seeds([3.0, None, 4.0]) == {
        "mean": None,
        "low": None,
        "high": None,
        "each": [3.0, None, 4.0],
    }
    assert convergence.over_seeds([3.0]) == {"mean": 3.0, "low": None, "high": None, "each": [3.0]}
    found = convergence.over_seeds([1.0, 2.0, 6.0])
    assert found["low"] == 0 < found["mean"] == 3 < found["high"]


def test_a_difference_says_what_new_seeds_and_new_queries_may_give():
    generator = np.random.default_rng(0)
    group, other = np.repeat(np.arange(40), 2), generator.normal(50, 10, (3, 80))
    one = other + 4 + generator.normal(0, 3, (3, 80)) + np.array([[-3], [0], [3]])
    found = convergence.difference_of(one, other, group)
    assert found["seeds"] == pytest.approx((one - other).mean(1).tolist())
    assert found["low"] < found["difference"] < found["high"]
    fixed = convergence.paired_difference(one, other, group)
    assert fixed["low"] - found["low"] > 1
    assert (found["p"], found["smallest"]) == (fixed["p"], fixed["smallest"])


@pytest.mark.parametrize(
    ("low", "high", "p", "sign"),
    [(1.0, 3.0, 0.01, 1), (-3.0, -1.0, 0.01, -1), (1.0, 3.0, 0.05, 0), (-0.1, 4.0, 0.01, 0), (-3.0, 0.1, 0.001, 0)],
)
def test_what_is_told_apart_has_a_small_p_and_an_interval_without_zero(low, high, p, sign):
    found = {"difference": (low + high) / 2, "low": low, "high": high, "p": p / 3, "p_holm": p}
    assert convergence.told_apart(found) == sign


def small(method: str, **settings):
    return costs.build(method, **{"frames": 3, "words": 7, "width": 48, "temporal_layers": 1} | settings)


def test_the_work_of_a_step_without_weights_to_train_is_its_forward_pass():
    assert convergence.training_macs(small("mean_pooling", temporal_layers=0), 6) == 6 * 6 * 48


@pytest.mark.parametrize("method", METHODS)
def test_a_step_costs_two_to_three_forward_passes(method):
    head = small(method).train()
    sentence, words, word_mask, frames, frame_mask = costs.random_states(head.config, 6)
    forward = costs.counted(
        lambda: head.loss(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
    )
    assert 2 * forward < convergence.training_macs(head, 6) <= 3 * forward
    assert all(weight.grad is None for weight in head.parameters())


@pytest.mark.parametrize("method", ["mean_pooling", "x_pool", "x_clip", "glscl"])
def test_the_forward_pass_of_a_step_is_what_the_formulas_say(method):
    head, batch = small(method), 6
    sentence, words, word_mask, frames, frame_mask = costs.random_states(head.config, batch)
    work = costs.FORMULAS[method](head.config).totals()
    expected = batch * (work["text"] + work["video"]) + batch**2 * work["pair"]
    found = costs.counted(
        lambda: head.similarity(head.encode_texts(sentence, words, word_mask), head.encode_videos(frames, frame_mask))
    )
    assert found == pytest.approx(expected, rel=0.02)


@pytest.fixture
def validation(corpus):
    return open_split(corpus["work"], corpus["captions"], "val", corpus["inputs"], "frozen")


def trained(corpus, bundled, folder, rate, epochs, seed):
    """A run of a small GLSCL with the weights of its epochs; its start, and its learning curve."""
    settings = TrainSettings(epochs, 64, rate, rate, 0.0, 0.0, 1.0, "frozen", keep_epochs=True)
    given = "glscl", {"temporal_layers": 1, "decoder_layers": 1}, str(bundled / "tiny-clip"), corpus["inputs"]
    curve = train_seeds(*given, corpus["work"], corpus["captions"], settings, [seed], folder)
    return convergence.untrained(*given, "frozen", 4, seed), curve["val_mean_recall"].tolist()


def test_a_curve_starts_where_its_training_does(corpus, bundled, validation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start, curve = trained(corpus, bundled, tmp_path / "run", 1e-12, 1, seed=3)
    assert mean_recall(start, validation) == pytest.approx(curve[0])


def test_the_curve_of_the_queries_is_that_of_the_training(corpus, bundled, validation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start, curve = trained(corpus, bundled, tmp_path / "run", 3e-3, 2, seed=4)
    values, videos = convergence.query_curve(start, tmp_path / "run/seed-4", validation)
    assert values.mean(1) == pytest.approx([mean_recall(start, validation), *curve])
    assert values.shape == (3, len(videos)) == (3, len(validation) + len(validation.videos))
    assert len(set(values.mean(1))) == 3


def test_queries_add_up_to_the_mean_recall(corpus):
    torch.manual_seed(0)
    model = GLSCL.from_clip(corpus["clip"], temporal_layers=1, decoder_layers=1).eval()
    split = open_split(corpus["work"], corpus["captions"], "train", corpus["inputs"], "frozen")
    values, videos = convergence.query_recalls(model, split)
    assert len(values) == len(videos) == len(split) + len(split.videos) > 2 * len(split.videos)
    assert values.mean() == pytest.approx(mean_recall(model, split))
    assert sorted(set(videos)) == list(range(len(split.videos)))


def test_the_figure_has_a_line_and_a_band_per_head_on_every_axis():
    rows = [
        {"method": m, "seed": seed, "step": step, "seconds": step / 4, "macs": 1e9 * step, "val_mean_recall": recall}
        for m, lift in (("glscl", 0), ("x_clip", 5))
        for seed in (0, 1)
        for step, recall in zip(STEPS, (10 + lift + 2 * seed, 20, 40, 50 - seed), strict=True)
    ]
    figure = learning_curves(pd.DataFrame(rows), 45.0)
    assert len(figure.data) == 3 * 2 * len(AXES)
    for low, high, mean in zip(*(figure.data[start::3] for start in range(3)), strict=True):
        assert low.legendgroup == mean.legendgroup == high.legendgroup
        assert (np.array(low.y) <= mean.y).all()
        assert (np.array(mean.y) <= high.y).all()
    lines = [trace for trace in figure.data if trace.legendgroup == "x_clip" and "markers" in trace.mode]
    assert [tuple(line.x) for line in lines] == [tuple(np.array(STEPS) * unit) for unit in (1, 0.25, 1e9)]
    assert lines[0].y[0] == 16
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    assert {shape.y0 for shape in figure.layout.shapes} == {45.0}
