"""Question 1: what is compared, when a cross-encoder counts, and an answer that says no more than was found."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from glscl.code_hash import reachable
from glscl.evaluation.comparisons import ZERO_SHOT, points, rank_matrix
from glscl.evaluation.results import LEAK, Run, rank_table, rows, summary
from glscl.files import write_json
from glscl.metrics import per_query
from glscl.study import benchmarks
from glscl.study.benchmarks import Results, answer, compare, cross_encoders
from glscl.study.published import published
from tests import ROOT

QUERIES, DEPTH, SEEDS = 150, 10, [0, 1]
LAYERS = {"mean": 0, "t_mass": 0, "t_mass_temporal": 2, "glscl": 2, "cross": 0}
STRENGTHS = {"mean": 1.5, "t_mass": 2.5, "t_mass_temporal": 2.5, "glscl": 2.5, ZERO_SHOT: 1.0}


class Texts:
    """As many texts as videos, as `rows` and `rank_table` read a split."""

    videos = tuple(f"v{i}" for i in range(QUERIES))
    captions = pd.DataFrame({"caption_id": range(QUERIES)})

    def __len__(self):
        return QUERIES


def made_up(strengths=STRENGTHS, learned: bool | None = False, methods=None) -> Results:
    """What the evaluate stage would write; a higher strength finds more.

    learned: whether the cross-encoder puts the best `DEPTH` of `mean` into a good or a random order; None without one.
    """
    generator, runs, first = np.random.default_rng(2), [], {}
    noise = generator.normal(size=(QUERIES, QUERIES))
    for method, strength in strengths.items():
        for seed in [None] if method == ZERO_SHOT else SEEDS:
            scores = noise + generator.normal(size=noise.shape) / 3 + strength * np.eye(QUERIES)
            selection = "none" if method == ZERO_SHOT else "selected"
            runs.append(Run(method, "test", seed, selection, per_query(scores, np.arange(QUERIES))))
            first[method, seed] = scores
            if method.startswith("t_mass"):
                leaking = per_query(scores + np.eye(QUERIES), np.arange(QUERIES))
                runs.append(runs[-1]._replace(queries=leaking, processing=LEAK))
    for seed in SEEDS if learned is not None else []:
        scores = first["mean", seed].copy()
        best = np.argsort(-scores, axis=1)[:, :DEPTH]
        drawn = 100 + generator.normal(size=best.shape) + 3 * bool(learned) * (best == np.arange(QUERIES)[:, None])
        np.put_along_axis(scores, best, drawn, axis=1)
        runs.append(Run("cross", "test", seed, "selected", per_query(scores, np.arange(QUERIES))))
    table = summary(runs)
    table["temporal_layers"] = table["method"].map(LAYERS)
    every = rows(runs, {"test": Texts()}, missing=0)
    trained = [name for name in [*strengths, "cross"] if name != ZERO_SHOT and (name != "cross" or learned is not None)]
    re_ranking = {"first_stage": "mean", "depth": DEPTH, "methods": {} if learned is None else {"cross": {}}}
    metrics = {"temporal_layers": LAYERS, "reranking": re_ranking, "did_not_train": [] if learned else ["cross"]}
    return Results(
        "scenes",
        "frozen",
        trained if methods is None else methods,
        SEEDS,
        table,
        every[every["post_processing"] == "none"],
        rank_table(runs, {"test": Texts()}),
        metrics,
        pd.DataFrame({"video": Texts.videos, "split": "test"}),
        published(ROOT / "results/published.csv"),
    )


@pytest.fixture(scope="module")
def results():
    return made_up()


@pytest.fixture(scope="module")
def found(results):
    return compare(results)


def test_the_rows_and_differences_are_those_of_the_tables_and_ranks(results, found):
    table = results.table[(results.table["direction"] == "t2v") & (results.table["post_processing"] == "none")]
    for method, row in table.set_index("method").iterrows():
        assert found["rows"][method]["t2v"]["mAP@10"]["mean"] == row["mAP@10"]
    each = [points(rank_matrix(results.ranks, method), "R@1").mean() for method in ("t_mass_temporal", "glscl")]
    effect = found["t_mass_minus"]["glscl"]
    assert (effect["minus"], effect["same_temporal_encoder"]) == ("t_mass_temporal", True)
    assert effect["R@1"]["difference"] == pytest.approx(each[0] - each[1])
    assert set(found["over_zero_shot"]) == set(results.methods)
    assert found["t_mass_minus"][ZERO_SHOT]["minus"] == "t_mass"
    assert found["scope"]["benchmark"] == "none"
    assert found["leak"]["t_mass"]["R@1"] > 5


def test_a_random_order_of_the_candidates_is_recognised(results, found):
    cross = found["cross_encoders"]["cross"]
    among = points(rank_matrix(results.ranks, "mean"), f"R@{DEPTH}").mean()
    assert cross["random"] == pytest.approx(among / DEPTH)
    assert cross["R@1"] == pytest.approx(cross["random"], abs=3)
    assert not cross["learned"]
    assert cross_encoders(made_up(learned=True))["cross"]["learned"]


def test_a_cross_encoder_that_did_not_train_is_called_so_and_no_gain_over_it_is_counted(found):
    assert found["answer"].endswith("; the cross-encoder did not train.")
    assert "above zero-shot CLIP" in found["answer"]
    assert not any("minus cross" in sentence for sentence in found["details"])
    assert any(sentence.startswith("cross did not train: R@1 is") for sentence in found["details"])


def test_a_cross_encoder_that_learned_is_compared():
    found = compare(made_up(learned=True))
    assert "cross-encoder." in found["answer"]
    assert "did not train" not in found["answer"]
    assert any("T-MASS, as published minus cross:" in sentence for sentence in found["details"])


def test_the_leak_is_a_detail_and_the_corpus_is_called_no_benchmark(found):
    assert "leak" not in found["answer"]
    assert any("without the caption leak of its released evaluation" in sentence for sentence in found["details"])
    first = "On ActivityNet and Charades-STA: no published row. On scenes, T-MASS reaches mAP@10 "
    assert found["answer"].startswith(first)
    assert any("says nothing of ActivityNet Captions or Charades-STA" in sentence for sentence in found["details"])


def test_without_t_mass_the_question_stays_open():
    found = compare(made_up({"mean": 1.0, ZERO_SHOT: 0.5}, learned=None))
    assert found["answer"] == "On scenes, T-MASS was not trained, so the question stays open."
    assert found["t_mass_minus"] == {}
    for table in (benchmarks.minus_table(found), benchmarks.seeds_table(found)):
        assert table == "<p>scenes: T-MASS was not trained, so there is nothing to compare.</p>"
    assert len(benchmarks.minus_figure(found).data[0].y) == 2


def test_without_training_zero_shot_clip_remains():
    found = compare(made_up({ZERO_SHOT: 1.0}, learned=None, methods=[]))
    assert set(found["rows"]) == {ZERO_SHOT}
    assert found["scope"]["seeds"] == []
    assert benchmarks.over_clip_table(found).startswith("<p>")


def effect(difference: float, p_holm: float) -> dict:
    return {"difference": difference, "low": difference - 1, "high": difference + 1, "p_holm": p_holm}


@pytest.mark.parametrize("benchmark", ["none", "ActivityNet"])
def test_no_sentence_has_more_than_25_words_whatever_was_found(found, benchmark):
    scope, crosses = found["scope"] | {"benchmark": benchmark}, found["cross_encoders"]["cross"]
    effects = [effect(12.3, 0.01), effect(-12.3, 0.01), effect(0.1, 0.9)]
    for clip, cross, learned, absent in product(effects, effects, [True, False], [(), (ZERO_SHOT,), ("cross",)]):
        minus = {name: one for name, one in found["t_mass_minus"].items() if name not in absent}
        for name, change in ((ZERO_SHOT, clip), ("cross", cross)):
            if name in minus:
                minus[name] = minus[name] | {"mAP@10": change}
        kept = {} if "cross" in absent else {"cross": crosses | {"learned": learned}, "cross_2": crosses}
        said, details = answer(found | {"scope": scope, "t_mass_minus": minus, "cross_encoders": kept})
        assert max(len(sentence.split()) for sentence in [said, *details]) <= 25, said
        assert ("above zero-shot CLIP" in said) == (ZERO_SHOT in minus and clip is effects[0])
        assert ("did not train" in said) == (bool(kept) and not learned)


def test_the_answer_is_a_function_of_what_was_found(found, tmp_path):
    assert answer(found) == (found["answer"], found["details"])
    write_json(tmp_path / "benchmarks.json", found)
    assert json.loads((tmp_path / "benchmarks.json").read_text())["answer"] == found["answer"]


def test_tables_and_figure_have_a_row_per_head(results, found):
    others = len(found["t_mass_minus"])
    assert others == 4  # mean, glscl, cross and zero-shot CLIP
    for table in (benchmarks.minus_table(found), benchmarks.seeds_table(found)):
        assert table.count("<tr") == 1 + others
    assert benchmarks.over_clip_table(found).count("<tr") == 1 + 5
    assert benchmarks.results_table(results, found, "v2t").count("<tr") == 1 + 6
    assert benchmarks.processed_table(results, found).count("<tr") == 1 + 2
    assert benchmarks.cross_encoder_table(found).count("<tr") == 1 + 1
    assert len(benchmarks.minus_figure(found).data[0].y) == others


def test_published_rows_are_listed_and_only_unmarked_ones_are_bold(results):
    assert benchmarks.named("scenes") == ["ActivityNet", "Charades-STA", "Charades"]
    assert benchmarks.named("msvd")[-1] == "MSVD"
    shown = benchmarks.published_tables(results.papers, ["Charades-STA", "MSR-VTT-1kA"])
    assert "Charades-STA: no published row" in shown
    rows_ = shown.split("<tr")[2:]
    assert any("<b>" in row for row in rows_)
    assert not any("<b>" in row and ">yes<" in row for row in rows_)


def test_files_are_read_where_the_evaluate_stage_writes_them(results, tmp_path):
    folders = benchmarks.Folders(*(tmp_path / name for name in ("corpus", "described", "work", "results", "measured")))
    for folder in (folders.corpus, folders.work, folders.results):
        folder.mkdir()
    results.captions.to_parquet(folders.corpus / "captions.parquet")
    results.ranks.to_parquet(folders.work / "ranks.parquet")
    results.table.to_csv(folders.results / "table.csv", index=False)
    results.rows.assign(split="test").to_csv(folders.results / "rows.csv", index=False)
    (folders.results / "metrics.json").write_text(json.dumps(results.metrics))
    read = Results.read(folders, "scenes", "frozen", results.methods, SEEDS, ROOT / "results/published.csv")
    assert compare(read) == compare(results)


def test_the_stage_needs_no_model():
    assert not {"glscl.model", "glscl.training.trainer", "glscl.encoding"} & set(reachable("glscl.study.benchmarks"))
