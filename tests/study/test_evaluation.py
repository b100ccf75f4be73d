"""The evaluate stage on a small corpus: its rows, its files, how often it encodes, its tables and its answer."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split, evaluate
from glscl.evaluation.results import LEAK, ON_TEST, Run, differences
from glscl.methods import METHODS
from glscl.metrics import per_query
from glscl.scoring import similarity_matrix
from glscl.study import evaluated_models, evaluation
from glscl.study.evaluated_models import Galleries, evaluate_models, side_by_side
from glscl.study.project import Folders
from glscl.training.runs import load_run

INPUTS = {"clip": "data/tiny-clip", "backbone": "frozen", "frames": 4, "words": 24}
METHOD = {"mean": "mean_pooling", "t_mass": "t_mass", "cross": "cross_encoder", "glscl": "glscl"}
SEEDS = [0, 1]
OPTIONS = {"first_stage": "mean", "rerank_depth": 5, "bank_size": 10}


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    """The folders of a profile with untrained models, two per method; glscl has the weights of two epochs."""
    root = tmp_path_factory.mktemp("study")
    found = Folders(corpus["work"], *(root / name for name in ("described", "work", "results", "measured")))
    for method, head in METHOD.items():
        for seed in SEEDS:
            torch.manual_seed(seed)
            sizes = {"frames": 4} if head == "t_mass" else {}
            model = METHODS[head].from_clip(corpus["clip"], temporal_layers=1, **sizes)
            for weight in model.head.parameters():
                weight.data.add_(0.01 * torch.randn_like(weight))
            folder = found.work / "train" / method / f"seed-{seed}"
            model.save_pretrained(folder)
            if method == "glscl":
                trained = {f"head.{name}": weight for name, weight in model.head.state_dict().items()}
                save_file(trained, folder / "after-000002.safetensors")
                save_file({name: 0.5 * weight for name, weight in trained.items()}, folder / "after-000001.safetensors")
                pd.DataFrame({"epoch": [1, 2], "step": [1, 2], "val_r1": [10.0, 20.0]}).to_csv(folder / "curve.csv")
        settings = {"method": head, "model": {"temporal_layers": 1}, "train": {"batch_size": 8}}
        (found.work / "train" / method / "settings.json").write_text(json.dumps(settings))
    found.described.mkdir()
    about = {"missing": 0, "sampling": "uniform", "offsets": 1, "quality": 90}
    (found.described / "data.json").write_text(json.dumps(about))
    return found


@pytest.fixture(scope="module")
def study(folders, bundled):
    """evaluate(methods) -> what the stage finds for them."""

    def evaluated(methods=tuple(METHOD), seeds=SEEDS):
        inputs = INPUTS | {"clip": str(bundled / "tiny-clip")}
        about = folders, "scenes", {"folder": str(bundled / "scenes")}, inputs
        return evaluation.evaluate_study(*about, list(methods), list(seeds), **OPTIONS)

    return evaluated


@pytest.fixture(scope="module")
def found(study):
    """What the stage finds for all methods."""
    return study()


def test_every_row_is_there_and_says_what_it_depends_on(found):
    table = found.table[found.table["direction"] == "t2v"].set_index("method")
    references = {"chance", "zero-shot CLIP", "bag-of-words ridge", "oracle"}
    assert set(table.index) == {*METHOD, *references}
    assert set(table.loc["t_mass", "post_processing"]) >= {"none", LEAK, "QB-Norm (inductive)"}
    assert set(table.loc[["cross"], "post_processing"]) == {"none"}
    assert set(table.loc["glscl", "selection"]) == {"selected", "last", ON_TEST}
    rows = found.rows
    assert set(rows.loc[rows["method"] == "cross", "seed"]) == set(SEEDS)
    assert (rows.loc[rows["method"] == "glscl", ["batch", "temporal_layers"]] == [8, 1]).all(axis=None)
    assert not {"commit", "hardware"} & set(rows.columns)
    assert {"dataset", "missing", "frames", "words", "backbone", "selection_rule"} <= set(rows.columns)


def test_a_row_holds_the_ranks_of_its_model(found, folders, corpus):
    split = corpus["prepared"].split("test")
    for method in ("mean", "t_mass", "glscl"):
        expected = evaluate(load_run(folders.work / "train" / method / "seed-1"), split)
        (run,) = (run for run in found.runs if run[:4] == (method, "test", 1, "selected") and run.processing == "none")
        for direction, queries in expected.items():
            np.testing.assert_array_equal(run.queries[direction]["rank"], queries["rank"])
    model = load_run(folders.work / "train/t_mass/seed-0")
    model.config.released_evaluation = True
    leaking = per_query(similarity_matrix(model, *encode_split(model, split)).numpy(), split.video_of_text.numpy())
    (run,) = (run for run in found.runs if run[:3] == ("t_mass", "test", 0) and run.processing == LEAK)
    np.testing.assert_array_equal(run.queries["t2v"]["rank"], leaking["t2v"]["rank"])


def test_a_re_ranked_video_stays_among_the_candidates(found):
    first, cross = (
        next(run.queries["t2v"]["rank"] for run in found.runs if run[:3] == (method, "test", 0))
        for method in ("mean", "cross")
    )
    depth = OPTIONS["rerank_depth"]
    assert ((first < depth) == (cross < depth)).all()
    np.testing.assert_array_equal(first[first >= depth], cross[first >= depth])


def test_the_other_epochs_are_the_last_and_the_best_on_the_test_split(found, folders, corpus):
    split, folder = corpus["prepared"].split("test"), folders.work / "train/glscl/seed-0"
    each = [evaluate(load_run(folder, name), split)["t2v"]["rank"] for name in ("after-000001", "after-000002")]
    ranks = {run.selection: run.queries["t2v"]["rank"] for run in found.runs if run[:3] == ("glscl", "test", 0)}
    np.testing.assert_array_equal(ranks["last"], each[1])
    np.testing.assert_array_equal(ranks[ON_TEST], max(each, key=lambda rank: (rank < 1).mean()))


def test_each_model_encodes_each_split_once_and_the_selected_epoch_is_not_evaluated_again(study, monkeypatch):
    encoded, others = Counter(), []
    monkeypatch.setattr(
        evaluated_models,
        "encode_split",
        lambda model, split: (
            encoded.update([(id(model), id(split))]) or models.append(model) or encode_split(model, split)
        ),
    )
    monkeypatch.setattr(
        evaluated_models, "evaluate", lambda model, split: others.append(type(model).__name__) or evaluate(model, split)
    )
    models = []  # kept, so that no other model takes the place of one in memory
    study()
    assert set(encoded.values()) == {1}
    assert sorted(others) == ["GLSCL", "GLSCL", "MeanPooling"]  # the first epoch of two seeds, and zero-shot CLIP


def test_the_number_of_cores_changes_no_rank(found, study, monkeypatch):
    monkeypatch.setattr(evaluated_models.os, "sched_getaffinity", lambda process: range(1))
    for one, other in zip(found.runs, study().runs, strict=True):
        assert one[:4] == other[:4]
        np.testing.assert_array_equal(one.queries["t2v"]["rank"], other.queries["t2v"]["rank"])


def test_what_is_written_keeps_measured_numbers_apart(found, folders):
    found.write(folders)
    metrics = json.loads((folders.results / "metrics.json").read_text())
    assert metrics["reranking"]["depth"] == 5
    assert metrics["reranking"]["methods"]["cross"].keys() == {"12"}  # every depth is cut to the gallery
    assert metrics["over_control"]["cross"]["control"] == "mean"
    assert metrics["over_control"]["mean"]["control"] == "zero-shot CLIP"
    untrained = metrics["methods"]["zero-shot CLIP"]["t2v"]["R@1"]
    gain = metrics["methods"]["glscl"]["t2v"]["R@1"] - untrained
    assert metrics["over_control"]["glscl"]["difference"] == pytest.approx(gain, abs=1e-3)
    failed = {name for name, one in metrics["over_control"].items() if one["low"] <= 0}
    assert set(metrics["did_not_train"]) == failed
    assert metrics["ceilings"]["bag"]["R@1"] <= metrics["ceilings"]["ordered"]["R@1"]
    assert set(metrics["glscl_minus"]) == {"mean", "t_mass", "cross"}
    assert {"p", "p_holm", "detectable", "seeds"} <= set(metrics["glscl_minus"]["mean"]["R@1"])
    measured = json.loads((folders.measured / "evaluate.json").read_text())
    assert set(measured) == {"commit", "hardware", "seconds", "seconds_of_methods"}
    assert set(measured["seconds_of_methods"]) == set(METHOD)
    for name in ("rows.csv", "table.csv", "metrics.json"):
        text = (folders.results / name).read_text()
        assert measured["hardware"] not in text
        assert "seconds" not in text
    ranks = pd.read_parquet(folders.work / "ranks.parquet")
    first = ranks[ranks["rank"] == 0]
    assert (first["best"].str[0] == first["video"]).all()
    assert set(ranks["method"]) == {*METHOD, "zero-shot CLIP", "bag-of-words ridge", "oracle"}


def test_nothing_trained_leaves_the_reference_rows(study):
    found = study(methods=[])
    assert set(found.table["method"]) == {"chance", "zero-shot CLIP", "bag-of-words ridge", "oracle"}
    assert found.metrics["answer"].startswith("On scenes, nothing was trained; zero-shot CLIP reaches R@1 ")
    for table in (evaluation.gain_table(found), evaluation.re_ranking_table(found)):
        assert table.startswith("<p>")
    assert evaluation.post_processing_table(found.table).startswith("<p>Nothing was trained")
    assert evaluation.epochs_table(found.table).startswith("<p>")
    assert len(evaluation.gain_figure(found).data[0].y) == 4


def test_tables_and_figure_show_what_was_found(found):
    assert evaluation.results_table(found.table, "t2v").count("<tr") == 1 + 8
    assert "one caption" in evaluation.results_table(found.table, "t2v", "test_multi")
    assert evaluation.gain_table(found).count("<tr") == 1 + 3
    assert evaluation.epochs_table(found.table).count("<tr") == 1 + 2
    assert evaluation.post_processing_table(found.table).count("<tr") == 1 + 3 + 1
    assert evaluation.re_ranking_table(found).count("<tr") == 1 + 1
    assert evaluation.half_precision_table(found).count("<tr") == 1 + 4
    assert list(evaluation.gain_figure(found).data[0].y) == ["cross", "T-MASS, as published", "mean"]


def test_a_cross_encoder_without_its_first_stage_is_refused_before_anything_is_evaluated(study):
    with pytest.raises(
        ValueError, match=r"cross re-ranks what evaluate.first_stage finds, 'mean', .* cross, glscl; add"
    ):
        study(methods=["cross", "glscl"])


def test_side_by_side_keeps_the_order_restores_the_threads_and_passes_an_error_on():
    threads = torch.get_num_threads()
    assert side_by_side(lambda job: job * torch.get_num_threads(), list(range(9)), "frozen") == list(range(9))
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda job: 1 / job, [1, 0, 1], "frozen")
    assert torch.get_num_threads() == threads
    assert side_by_side(lambda job: torch.get_num_threads(), [0], "finetuned") == [threads]


def test_a_head_alone_needs_no_other_method(folders, corpus):
    prepared: PreparedCorpus = corpus["prepared"]
    splits = {name: prepared.split(name) for name in ("train", "val", "test")}
    galleries = Galleries(splits, splits["train"].sample(10), 5)
    found = evaluate_models(folders.work / "train", prepared, galleries, ["t_mass"], [1], "mean")
    assert list(found) == [("t_mass", 1)]
    assert not found["t_mass", 1].scores


def made_up(strengths: dict[str, float]) -> list[Run]:
    """Two seeds per method; a higher strength finds more."""
    generator, runs = np.random.default_rng(0), []
    noise = generator.normal(size=(200, 200))
    for method, strength in strengths.items():
        for seed in SEEDS:
            scores = noise + generator.normal(size=noise.shape) / 3 + strength * np.eye(200)
            runs.append(Run(method, "test", seed, "selected", per_query(scores, np.arange(200))))
    return runs


def answered(strengths: dict[str, float], layers: dict[str, int] | None = None) -> tuple[str, list[str]]:
    runs, layers = made_up(strengths), layers or dict.fromkeys(strengths, 2)
    others = [method for method in strengths if method != "glscl"] if "glscl" in strengths else []
    minus = differences(runs, "glscl", others, ["R@1"])
    return evaluation.answer("scenes", evaluation.summary(runs), minus, layers, texts=200, videos=200, seeds=2)


def test_the_answer_counts_heads_with_the_same_temporal_encoder():
    strengths = {"glscl": 2.5, "weak": 1.0, "equal": 2.5, "strong": 4.0, "other": 1.0}
    said, details = answered(strengths, {"glscl": 2, "weak": 2, "equal": 2, "strong": 2, "other": 0})
    assert "above 1, below 1 and not significantly different from 1 of 3 heads with its temporal encoder" in said
    assert any("strongest of these heads is strong" in one for one in details)
    assert max(len(one.split()) for one in [said, *details]) <= 25
    said, _ = answered({"glscl": 2.5, "other": 1.0}, {"glscl": 2, "other": 0})
    assert "above 1, below 0 and not significantly different from 0 of 1 heads compared" in said


def test_without_glscl_the_best_head_is_named():
    said, details = answered({"weak": 1.0, "strong": 4.0})
    assert said.startswith("On scenes, the best of 2 heads, strong, reaches R@1 ")
    assert max(len(one.split()) for one in [said, *details]) <= 25


def test_a_corpus_without_headroom_is_named(found):
    assert evaluation.headroom(found) == []  # of so few videos nothing is said
    rows = found.rows.assign(videos=1_000)
    ceilings = {kind: {"R@1": 100.0} for kind in ("bag", "bound", "ordered")}
    recalls = {name: {"t2v": {"R@1": 90.0}} for name in found.metrics["methods"]}
    metrics = found.metrics | {"ceilings": ceilings, "methods": recalls}
    assert evaluation.headroom(found._replace(rows=rows, metrics=metrics)) == [
        "zero-shot CLIP has R@1 90.0, above 85.0"
    ]
    recalls["glscl"] = {"t2v": {"R@1": 96.0}}
    assert "the best head has R@1 96.0, above 95.0" in evaluation.headroom(found._replace(rows=rows, metrics=metrics))
