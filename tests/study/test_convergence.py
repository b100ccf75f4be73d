"""Convergence: goals and areas of curves, differences over seeds, the work of a step, a whole study, and its answer."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from glscl.methods import METHODS
from glscl.report.figures.convergence import AXES, area_differences, learning_curves
from glscl.report.figures.costs import COLOURS
from glscl.study import convergence, counting, formulas
from glscl.training import runs
from glscl.training.trainer import mean_recall
from tests.study import random_corpus

STEPS = [0, 10, 20, 40]


# --- curves


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
    assert (found["p"], found["detectable"]) == (fixed["p"], fixed["detectable"])


@pytest.mark.parametrize(
    ("low", "high", "p", "sign"),
    [(1.0, 3.0, 0.01, 1), (-3.0, -1.0, 0.01, -1), (1.0, 3.0, 0.05, 0), (-0.1, 4.0, 0.01, 0), (-3.0, 0.1, 0.001, 0)],
)
def test_what_is_significant_has_a_small_p_and_an_interval_without_zero(low, high, p, sign):
    found = {"difference": (low + high) / 2, "low": low, "high": high, "p": p / 3, "p_holm": p}
    assert convergence.significant_sign(found) == sign


def test_the_correction_is_over_the_heads_and_apart_for_area_and_end():
    generator = np.random.default_rng(0)
    reached = {
        kind: {
            name: generator.normal(50 + 5 * better, 10, (2, 60)) for name, better in (("glscl", 1), ("a", 0), ("b", 1))
        }
        for kind in ("area", "final")
    }
    found = convergence.against_subject(reached, np.arange(60))
    assert list(found) == ["a", "b"]
    for kind in reached:
        low, high = sorted(each[kind]["p"] for each in found.values())
        assert sorted(each[kind]["p_holm"] for each in found.values()) == [min(1, 2 * low), max(2 * low, high)]
    assert convergence.against_subject({"area": {"a": np.zeros((2, 3))}}, np.arange(3)) == {}
    assert convergence.against_subject({"area": {"glscl": np.zeros((1, 3)), "a": np.zeros((1, 3))}}, np.arange(3)) == {}


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
    "glscl": {"head": "glscl", "train": {}, "model": {}},
}
SECTION = {"heads": ["plain", "glscl"], "seeds": [3, 4], "captions_per_video": 1, "short_epochs": 2}
SECTION |= {"rates": [1e-9, 1e-2]}


@pytest.fixture
def opened(bundled, tmp_path, monkeypatch):
    """opened(**changes of the section) -> a study of two heads on 24 + 6 random videos, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # starting processes takes longer than the study
    monkeypatch.setattr(runs, "hash_of", lambda _: "the code of today")  # and so does reading all code for each run
    monkeypatch.setattr(convergence, "TIMED_ROUNDS", 1)
    random_corpus.write(tmp_path / "work/corpora/made", 128, 3, 5, {"train": 24, "val": 6}, captions=2)
    inputs = {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "frames": 3, "words": 5}

    def open_study(methods=METHODS_SECTION, **changes):
        return convergence.Study.open("dev", "made", inputs, SECTION | changes, methods, TRAIN, MODEL)

    return open_study


def test_a_study_trains_every_head_at_every_rate_and_keeps_no_model(opened, tmp_path):
    study = opened()
    assert study.scope() == {
        "dataset": "made",
        "seeds": [3, 4],
        "split": "val",
        "texts": 12,
        "videos": 6,
        "training": {"texts": 24, "videos": 24},
        "backbone": "frozen",
        "steps": 6,
        "batch_size": 8,
        "captions_per_video": 1,
        "rates": [1e-9, 1e-2],
    }
    trained = convergence.train_all(study)
    assert not study.scratch.exists()
    assert trained.ends.shape == (2, 2)
    assert {name: values.shape for name, values in trained.recalls.items()} == dict.fromkeys(study.heads, (2, 3, 18))
    assert len(trained.group) == 18
    assert (trained.pace["min"] <= trained.pace["median"]).all()

    results, curves = convergence.results_of(study, trained), convergence.curves_of(study, trained)
    assert results["common_best"] == max(head["best"]["mean"] for head in results["heads"].values())
    assert results["goal"] == 0.9 * results["common_best"]
    assert list(results["differences"]) == list(results["verdicts"]) == ["plain"]
    for name, head in results["heads"].items():
        assert head["lr"] == max(head["sweep"], key=head["sweep"].get)
        assert head["sweep"][head["lr"]] == pytest.approx(head["best"]["each"][0])  # the same training, not another
        assert head["reached"] == sum(step is not None for step in head["steps_to_90"]["each"])
        assert curves.loc[curves["method"] == name, "step"].tolist() == [0, 3, 6] * 2
    difference = np.subtract(*(results["heads"][name]["area"]["mean"] for name in ("glscl", "plain")))
    assert results["differences"]["plain"]["area"]["difference"] == pytest.approx(difference)

    measured = convergence.measured_of(study, trained, results)
    with_seconds = convergence.with_seconds(curves, measured)
    assert with_seconds.loc[with_seconds["step"] == 6, "seconds"].gt(0).all()
    for table in (convergence.sweep_table(results), convergence.step_table(results, measured)):
        assert table["head"].tolist() == ["plain", "glscl"]
    assert convergence.head_table(results, measured).columns.tolist()[4:] == ["steps", "seconds", "GMACs"]
    assert convergence.difference_table(results)["of"].tolist() == ["area", "final recall"]
    assert "12 validation texts, 6 videos; seeds [3, 4]; 6 steps of 8 pairs" in convergence.about(results["scope"])


def test_a_curve_starts_untrained_and_follows_the_training(opened):
    study = opened(short_epochs=1, heads=["glscl"])
    method, chosen, _ = study.heads["glscl"]
    values, group, macs = convergence.seed_recalls(study, "glscl", 1e-2)
    validation = study.corpus.split("val")
    start = convergence.untrained(method, chosen, study.corpus, 3, seed=3)
    assert values[0, 0].mean() == pytest.approx(mean_recall(start, validation))
    assert values[0, 1].mean() != values[0, 0].mean()  # `seed_recalls` compares it with the training's own value
    assert len(group) == len(validation) + len(validation.videos)
    assert macs == convergence.training_macs(start.head, 8)


def test_weights_that_do_not_give_the_curve_are_an_error(opened, monkeypatch):
    study = opened(short_epochs=1, heads=["plain"])
    load = convergence.load_file
    noise = {"generator": torch.Generator().manual_seed(0)}
    monkeypatch.setattr(
        convergence, "load_file", lambda file: {n: torch.randn(w.shape, **noise) for n, w in load(file).items()}
    )
    with pytest.raises(RuntimeError, match="the kept weights of plain, seed 3"):
        convergence.seed_recalls(study, "plain", 1e-2)


def test_queries_add_up_to_the_mean_recall(opened):
    study = opened()
    model = convergence.untrained("mean_pooling", {"temporal_layers": 0}, study.corpus, 3, seed=0)
    split = replace(study.corpus, captions_per_video=0).split("train")
    values, videos = convergence.query_recalls(model, split)
    assert len(values) == len(videos) == len(split) + len(split.videos) == 3 * len(split.videos)
    assert values.mean() == pytest.approx(mean_recall(model, split))
    assert sorted(set(videos)) == list(range(len(split.videos)))


def test_without_a_validation_split_nothing_is_trained(opened, tmp_path):
    captions = pd.read_parquet("work/corpora/made/captions.parquet")
    captions[captions["split"] == "train"].to_parquet("work/corpora/made/captions.parquet")
    study = opened()
    trained = convergence.train_all(study)
    results, curves = convergence.results_of(study, trained), convergence.curves_of(study, trained)
    measured = convergence.measured_of(study, trained, results)
    assert results["answer"] == "made has no training and validation split, so nothing was trained."
    assert results["heads"] == results["differences"] == measured["seconds_per_step"] == {}
    assert learning_curves(convergence.with_seconds(curves, measured), results["goal"]).data == ()
    tables = convergence.sweep_table(results), convergence.difference_table(results)
    assert all(table.empty for table in (*tables, convergence.head_table(results, measured)))


def test_heads_must_be_known_and_share_a_batch(opened):
    with pytest.raises(ValueError, match=r"convergence\.heads must be one of plain, glscl, got 'galscl'"):
        opened(heads=["galscl"])
    other = METHODS_SECTION | {"plain": METHODS_SECTION["plain"] | {"train": {"batch_size": 4}}}
    with pytest.raises(ValueError, match=r"one batch size, got \{'plain': 4, 'glscl': 8\}"):
        opened(methods=other)


def test_a_step_of_few_videos_with_many_captions_is_timed(opened):
    study = opened(captions_per_video=0, heads=["plain"])
    name, (method, chosen, settings) = "plain", study.heads["plain"]
    many = replace(study, heads={name: (method, chosen, replace(settings, batch_size=40))})  # of 24 videos
    assert convergence.step_seconds(many).loc["plain", "median"] > 0


# --- what is said


def said(verdicts, seeds=(0, 1), **heads):
    steps = {name: {"mean": mean} for name, mean in heads.items()}
    return {
        "scope": {"dataset": "made", "seeds": list(seeds), "texts": 12, "videos": 6, "rates": [1e-3]},
        "goal": 45.0,
        "heads": {n: {"steps_to_90": s, "macs_to_90": s, "reached": 2 * bool(s["mean"])} for n, s in steps.items()},
        "differences": {n: {"area": {"difference": 1.0, "low": 0.5, "high": 1.5}} for n in verdicts},
        "verdicts": verdicts,
    }


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"a": 1, "b": 1, "c": -1}, "GLSCL learns significantly faster than a and b, slower than c."),
        ({"a": 0, "c": -1}, "GLSCL learns significantly slower than c; a: no significant difference."),
        ({"a": 0, "b": 0}, "GLSCL learns neither significantly faster nor significantly slower than a and b."),
        (dict.fromkeys("abcde", 1), "GLSCL learns significantly faster than 5 heads."),
    ],
)
def test_the_answer_names_the_heads(verdicts, expected):
    answer = convergence.answer(said(verdicts, glscl=1.0))
    assert answer == f"Per training step on made, {expected}"


def test_the_answer_is_short_whatever_is_found():
    verdicts = dict.fromkeys("abc", 1) | dict.fromkeys("def", -1) | dict.fromkeys("ghijk", 0)
    answer = convergence.answer(said(verdicts, glscl=1.0))
    assert len(answer.split()) == 25
    assert answer.endswith("faster than a, b and c, slower than d, e and f; 5 others: no significant difference.")
    assert convergence.answer(said({}, a=1.0)) == "On made, GLSCL was compared with no head."


def test_details_name_the_quickest_and_who_never_gets_there():
    details = convergence.details(said({"a": 1, "b": 0, "c": 0}, glscl=9.0, a=7.0, b=5.0, c=None))
    assert all(len(sentence.split()) <= 25 for sentence in details)
    assert "GLSCL takes 9 steps" in details[3]
    assert "b, quickest of the others, takes 5 steps" in details[4]
    assert details[5] == "Not every seed gets there with c."


# --- figures


def rows(methods):
    return pd.DataFrame(
        [
            {
                "method": m,
                "seed": seed,
                "step": step,
                "seconds": step / 4,
                "macs": 1e9 * step,
                "val_mean_recall": recall,
            }
            for number, m in enumerate(methods)
            for seed in (0, 1)
            for step, recall in zip(STEPS, (10 + 5 * number + 2 * seed, 20, 40, 50 - seed), strict=True)
        ]
    )


def test_the_figure_has_a_line_and_a_band_per_head_on_every_axis():
    figure = learning_curves(rows(["glscl", "x_clip"]), 45.0)
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


def test_no_two_heads_look_alike():
    figure = learning_curves(rows(["glscl", *"abcdefghijk"]), 45.0)
    lines = [trace for trace in figure.data if trace.showlegend]
    assert len(lines) == 12 > len(COLOURS)
    assert len({(line.line.color, line.marker.symbol, line.line.dash) for line in lines}) == 12


def test_differences_in_area_are_drawn_from_the_first_head_down():
    found = {
        name: {"area": {"difference": value, "low": value - 1, "high": value + 2}}
        for name, value in (("a", 1), ("b", 5))
    }
    (points,) = area_differences(found).data
    assert (tuple(points.y), tuple(points.x)) == (("b", "a"), (5, 1))
    assert tuple(points.error_x.array) == (2, 2)
    assert len(area_differences({}).data[0].x) == 0
