"""Ablations take out what they name and no more, the consistency term has its closed form, numbers keep their sign."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split, evaluate
from glscl.evaluation.concepts import diversity
from glscl.evaluation.results import Run
from glscl.model import Texts, Videos, global_similarity
from glscl.report.figures.losses import PANELS, batch_targets, concept_curves, effects
from glscl.study import ablations
from glscl.study.ablations import (
    ABLATIONS,
    NO_LOCAL,
    NO_LOSS,
    Study,
    answer,
    batch_table,
    captions,
    changes,
    compared_with,
    concept_effects,
    concept_effects_table,
    concept_rows,
    concepts_table,
    conditions_table,
    consistency_term,
    details,
    effect_rows,
    effects_elsewhere,
    effects_table,
    elsewhere_table,
    mean_curves,
    recall_table,
    results_of,
    retrieval_effects,
    target_cosine,
    term_lines,
    terms_table,
    train_all,
    trained_as,
)
from glscl.training.runs import load_run, train_seeds
from glscl.training.trainer import TrainSettings

REMOVED = {
    "full": set(),
    "no inter-consistency": {"inter_consistency"},
    "no intra-diversity": {"intra_diversity"},
    "neither loss": {"inter_consistency", "intra_diversity"},
    NO_LOCAL: {"inter_consistency", "intra_diversity"},
    "mean-pooled global": set(),
}


def step(make_model, features, condition):
    """One batch of five pairs: model, kept texts and videos, similarity, and the gradient of every weight by name."""
    model = make_model(**changes(condition))
    texts = model.head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    videos = model.head.encode_videos(features["frames"][:5], features["frame_mask"][:5])
    model.loss(texts, videos)["total"].backward()
    gradients = {name: weight.grad for name, weight in model.head.named_parameters() if weight.grad is not None}
    return model, texts, videos, model.similarity(texts, videos), gradients


@pytest.mark.parametrize("variant", ["released", "described"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_removes_its_terms_and_no_others(make_model, variant, ablation):
    model = make_model(**changes(f"{variant}/{ablation}"))
    alike = F.normalize(torch.ones(5, 4, 32), dim=-1)  # collapsed concepts, so that the hinge is open
    turned = F.normalize(torch.linspace(0, 1, 32).expand(5, 4, 32), dim=-1)
    frames = torch.randn(5, 6, 32)
    kept = Texts(torch.randn(5, 32), alike), Videos(frames, torch.ones(5, 6), frames @ frames.mT, turned)
    terms = model.head.loss(*kept)
    assert {name for name, term in terms.items() if term == 0} == REMOVED[ablation]


@pytest.mark.parametrize("variant", ["released", "described"])
def test_without_local_interaction_nothing_of_it_has_a_part(make_model, features, variant):
    model, texts, videos, similarity, gradients = step(make_model, features, f"{variant}/{NO_LOCAL}")
    assert_close(similarity, global_similarity(texts.sentence, videos, 1 / model.config.temperature))
    for name, gradient in gradients.items():
        assert (gradient.abs().max() == 0) == name.startswith("local."), name


def test_without_local_interaction_the_variants_are_one_model(make_model, features):
    *_, one, one_gradients = step(make_model, features, f"released/{NO_LOCAL}")
    *_, other, other_gradients = step(make_model, features, f"described/{NO_LOCAL}")
    assert torch.equal(one, other)
    assert one_gradients.keys() == other_gradients.keys()
    assert all(torch.equal(one_gradients[name], other_gradients[name]) for name in one_gradients)


@pytest.mark.parametrize("ablation", [name for name in ABLATIONS if name != NO_LOCAL])
def test_all_other_ablations_are_two_models(make_model, features, ablation):
    one, other = (step(make_model, features, f"{variant}/{ablation}")[3] for variant in ("released", "described"))
    assert not torch.allclose(one, other, atol=1e-4)


def test_mean_pooling_is_the_cosine_with_the_mean_frame(make_model, features):
    model, texts, videos, similarity, _ = step(make_model, features, "released/mean-pooled global")
    mean = (videos.frames * videos.mask[..., None]).sum(1) / videos.mask.sum(1, keepdim=True)
    local = (texts.concepts[:, None] * videos.concepts).sum(-1).mean(-1)
    expected = F.cosine_similarity(texts.sentence[:, None], mean, dim=-1) + model.config.local_weight * local
    assert_close(similarity, expected)


def test_what_coincides_is_trained_once():
    trained = trained_as(["released", "described"])
    assert len(trained) == 12
    assert {name for name, run in trained.items() if name != run} == {f"described/{NO_LOCAL}"}
    assert trained[f"described/{NO_LOCAL}"] == f"released/{NO_LOCAL}"
    assert trained_as(["described"]) == {name: name for name in trained if name.startswith("described/")}


@pytest.mark.parametrize(("variant", "sizes"), [("released", (16, 32, 128)), ("described", (16, 32, 128))])
def test_the_consistency_term_is_a_parabola_around_what_it_asks_for(variant, sizes):
    cosines = np.linspace(-1, 1, 401)
    for pairs in sizes:
        term = consistency_term(cosines, variant, 8, pairs, 0.005)
        share = pairs / 8 if variant == "released" else 1.0
        assert term == pytest.approx(0.005 * 8 * (share * cosines - 0.75) ** 2)
        assert cosines[term.argmin()] == pytest.approx(target_cosine(variant, 8, pairs), abs=0.0026)


def test_the_target_halves_as_the_batch_doubles_in_the_release_alone():
    assert target_cosine("released", 8, 128) == pytest.approx(0.046875)
    assert target_cosine("released", 8, 64) == 2 * target_cosine("released", 8, 128)
    assert target_cosine("described", 8, 64) == target_cosine("described", 8, 128) == 0.75


MODEL = {"temporal_layers": 1, "decoder_layers": 1, "num_queries": 4, "consistency_weight": 0.005}


@pytest.fixture(scope="module")
def study(corpus, bundled, tmp_path_factory) -> Study:
    few = PreparedCorpus(
        corpus["work"], corpus["captions"], corpus["processor"], str(bundled / "tiny-clip"), "frozen", 1
    )
    settings = TrainSettings(2, 48, 1e-3, 1e-7, 0.2, 0.1, 1.0, "frozen", keep_epochs=True)
    return Study("scenes", 0, few, MODEL, settings, [3, 5], ["described"], [24], 1, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def whole(study):
    """The study with three conditions of one variant, its seeds one after the other, what it kept, and its results.

    One of the models, "described/full" with seed 5, stays in the folder that comes last.
    """
    kept = study.scratch.with_name("kept")

    def one_by_one(method, model, corpus, settings, seeds, folder):
        # In this process: to start others takes longer than to train so little.
        trained = [train_seeds(method, model, corpus, settings, [seed], folder / f"of-{seed}") for seed in seeds]
        for seed in seeds:
            (folder / f"of-{seed}" / f"seed-{seed}").rename(folder / f"seed-{seed}")
        if settings.keep_epochs and folder == study.scratch / "described/full":
            shutil.copytree(folder / "seed-5", kept)
        return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*trained, strict=True))

    chosen = {name: ABLATIONS[name] for name in ("full", "no inter-consistency", NO_LOSS, NO_LOCAL)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study.scratch.parent)
        patch.setattr("glscl.training.runs.hash_of", lambda _: "the same code all the time")
        patch.setattr(ablations, "train_seeds", one_by_one)
        patch.setattr(ablations, "ABLATIONS", chosen)
        trained = train_all(study)
        return study, trained, results_of(study, trained), kept


def test_concepts_are_followed_from_the_start_to_the_last_epoch(whole):
    study, trained, results, kept = whole
    own = trained.followed[(trained.followed["condition"] == "described/full") & (trained.followed["seed"] == 5)]
    assert sorted(own["epoch"]) == [0, 1, 2]
    validation = study.corpus.split("val")
    for epoch, weights in ((1, "after-0001"), (2, "last")):
        texts, videos = encode_split(load_run(kept, weights), validation)
        expected = diversity(texts.concepts, videos.concepts, validation.video_of_text)
        assert own[own["epoch"] == epoch].iloc[0][list(expected)].to_dict() == pytest.approx(expected)
    starts = trained.followed[trained.followed["epoch"] == 0]
    assert len(starts) == 8
    assert starts.groupby("seed")["matched"].nunique().tolist() == [1, 1], "conditions start from the same weights"
    means = mean_curves(trained.followed)
    assert len(means) == 12
    assert [row["matched"] for row in results["concepts"]["described/full"]] == pytest.approx(
        means.loc[means["condition"] == "described/full", "matched"].tolist()
    )
    assert set(results["concepts"]) == {f"described/{name}" for name in ("full", "no inter-consistency", NO_LOSS)}


def test_the_selected_epoch_is_evaluated_on_the_test_split(whole):
    study, trained, _, kept = whole
    run = next(run for run in trained.runs if run[:4] == ("described/full", "test", 5, "selected"))
    assert len(trained.runs) == 8
    expected = evaluate(load_run(kept), study.corpus.split("test"))
    assert np.array_equal(run.queries["t2v"]["rank"], expected["t2v"]["rank"])


def test_no_model_is_kept(whole):
    assert not whole[0].scratch.exists()


def test_the_sweep_keeps_steps_and_knows_which_run_has_a_target(whole):
    sweep = whole[1].sweep
    assert sweep["name"].tolist() == ["described", "no inter-consistency"]
    assert sweep["steps"].tolist() == [2, 2]
    assert sweep["target"].isna().tolist() == [False, True]
    assert sweep["target"][0] == 0.75


def test_results_become_tables_figures_and_sentences(whole):
    study, trained, results, _ = whole
    assert results["scope"]["training_texts"] == 48
    assert results["scope"]["steps"] == 2
    assert set(results["effects"]) == set(results["rows"]) - {"described/full"}
    gap = results["rows"]["described/full"]["t2v"]["R@1"] - results["rows"][f"described/{NO_LOSS}"]["t2v"]["R@1"]
    assert results["effects"][f"described/{NO_LOSS}"]["difference"] == pytest.approx(gap, abs=1e-3)
    assert results["batch_sizes"] == {}
    assert results["batch_sweep"][1]["target"] is None
    assert captions(results["scope"])[0] == "12 test texts, 12 videos; seeds [3, 5]; 2 steps of 48 pairs"
    assert conditions_table(study.variants)["trained"].tolist().count("once for all variants") == 1
    for table, rows in (
        (recall_table(trained.runs, "v2t"), 4),
        (effects_table(results), 3),
        (elsewhere_table(results), 3),
        (terms_table(results), 2),
        (concepts_table(results), 3),
        (concept_effects_table(results), 2),
        (batch_table(results), 2),
    ):
        assert len(table) == rows
        assert not table.drop(columns="target", errors="ignore").isna().any(axis=None)
    assert len(effects(effect_rows(results)).data) > 3
    assert len(concept_curves(concept_rows(results), 4).data) == 4 * 3
    assert len(batch_targets(term_lines(results), trained.sweep).data) == 4
    assert results["answer"] == answer(results)
    assert results["details"] == details(results)


def test_a_study_that_must_fail_fails_before_it_trains(study):
    given = {name: getattr(study, name) for name in Study.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"two seeds or more, got \[0\]"):
        Study(**(given | {"seeds": [0]}))
    with pytest.raises(ValueError, match="48 training texts, got 64"):
        Study(**(given | {"batch_sizes": [24, 64]}))


def run(name: str, seed: int, ranks: list[float]) -> Run:
    side = {"rank": np.array(ranks), "ap": np.zeros(len(ranks)), "group": np.arange(len(ranks))}
    return Run(name, "test", seed, "selected", {"t2v": side, "v2t": side})


def test_an_effect_is_positive_where_the_part_helps():
    full, less = [0.0] * 30 + [2.0] * 10, [0.0] * 20 + [2.0] * 20
    runs = [
        run(f"described/{ablation}", seed, full if ablation == "full" else less)
        for ablation in ABLATIONS
        for seed in (0, 1)
    ]
    found = retrieval_effects(runs, ["described"])
    assert len(found) == 5
    for effect in found.values():
        assert effect["difference"] == 25.0
        assert effect["seeds"] == [25.0, 25.0]
        assert effect["seeds_low"] == effect["seeds_high"] == 25.0
        assert effect["low"] > 0
        assert effect["p_holm"] == pytest.approx(5 * effect["p"])
        assert 0 < effect["detectable"] < 25
    assert ablations.significant(found) == list(found)
    elsewhere = effects_elsewhere(runs, ["described"])
    assert list(elsewhere) == ["t2v R@1", "t2v R@5", "t2v R@10", "v2t R@1", "v2t R@5", "v2t R@10"]
    assert elsewhere["v2t R@1"][f"described/{NO_LOSS}"]["difference"] == 25.0
    assert elsewhere["t2v R@5"][f"described/{NO_LOSS}"]["difference"] == 0.0
    table = recall_table(runs, "t2v")
    assert table["R@1"][0].startswith("75.0 [")
    assert table["R@1 over seeds"][0] == "sd 0.0, n = 2"


def test_without_local_interaction_the_other_variant_meets_its_own_full_model():
    pairs = compared_with(["released", "described"])
    assert pairs[f"described/{NO_LOCAL}"] == ("described/full", f"released/{NO_LOCAL}")
    assert pairs[f"released/{NO_LOSS}"] == ("released/full", f"released/{NO_LOSS}")
    assert not any(name.endswith("/full") for name in pairs)


def effect(difference: float, p_holm: float = 1.0, half: float = 1.0) -> dict:
    edges = {"low": difference - half, "high": difference + half}
    crossed = {f"crossed_{end}": value for end, value in edges.items()}
    return {"difference": difference, **edges, **crossed, "p_holm": p_holm, "detectable": 1.4 * half, "seeds": [0.5]}


def made_up(**effects_of_both: dict) -> dict:
    found = {"effects": {name.replace("__", "/").replace("_", " "): one for name, one in effects_of_both.items()}}
    scope = {"dataset": "scenes", "texts": 1000, "seeds": [0, 1], "steps": 36, "batch_size": 128}
    sizes = {32: {"target": 0.1875, "found": 0.287}, 256: {"target": 0.0234, "found": 0.0091}}
    return found | {"scope": scope, "clear": ablations.significant(found["effects"]), "batch_sizes": sizes}


def test_the_answer_names_the_effect_its_significance_and_what_could_have_been_found():
    both = made_up(released__neither_loss=effect(-0.2, half=0.8), described__neither_loss=effect(-0.04, half=0.1))
    assert answer(both) == (
        "On scenes, both auxiliary losses change R@1 by -0.2 [-1.0, 0.6] points (released) and 0.0 [-0.1, 0.1] "
        "(described), not significant; minimum detectable effect 1.1."
    )
    one = made_up(released__neither_loss=effect(2.0, 0.01), described__neither_loss=effect(0.3))
    assert "(described), significant for released; minimum" in answer(one)
    alone = made_up(described__neither_loss=effect(2.0, 0.01))
    assert answer(alone) == (
        "On scenes, both auxiliary losses change R@1 by 2.0 [1.0, 3.0] points (described), significant; minimum "
        "detectable effect 1.4."
    )
    assert max(len(answer(results).split()) for results in (both, one, alone)) <= 25


def test_details_name_the_local_interaction_what_is_significant_and_the_target():
    parts = {"no_local_interaction": effect(2.1, 0.01), "no_intra-diversity": effect(0.1)}
    parts |= {"mean-pooled_global": effect(-3.0, 0.01), "neither_loss": effect(0.0)}
    results = made_up(**{f"{variant}__{name}": e for variant in ("released", "described") for name, e in parts.items()})
    sentences = details(results)
    assert sentences == [
        "4 of 8 effects are significant after Holm's correction, for new queries and new seeds.",
        "The local interaction with its losses changes R@1 by 2.1 [1.1, 3.1] points (released) and 2.1 [1.1, 3.1] "
        "(described), significant.",
        "Text-conditioned pooling changes R@1 by -3.0 [-4.0, -2.0] points (released) and -3.0 [-4.0, -2.0] "
        "(described), significant.",
        "The released target cosine is 0.19 in batches of 32 and 0.02 in batches of 256; training reached 0.29 and "
        "0.01.",
        "R@1 is text to video, of 1,000 test texts; 2 seeds, 36 training steps of 128 pairs; intervals are for new "
        "queries.",
    ]
    assert max(len(sentence.split()) for sentence in sentences) <= 25
    assert not any("target cosine" in sentence for sentence in details(results | {"batch_sizes": {}}))


def forest_rows() -> pd.DataFrame:
    names = [(variant, ablation) for variant in ("released", "described") for ablation in (NO_LOSS, NO_LOCAL)]
    row = {"low": -1.0, "high": 3.0, "crossed_low": -2.0, "crossed_high": 4.0, "detectable": 2.5, "seeds": [0.5, 1.5]}
    return pd.DataFrame([{"variant": v, "ablation": a, "difference": float(n)} | row for n, (v, a) in enumerate(names)])


def test_the_forest_has_a_point_for_every_effect_and_every_seed():
    figure = effects(forest_rows())
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [list(trace.x) for trace in marks if trace.name] == [[0.0, 1.0], [2.0, 3.0]]
    assert [list(trace.x) for trace in marks if not trace.name] == [[0.5, 1.5]] * 4
    grey = [trace for trace in figure.data if trace.line.color == "#ddd"]
    assert [list(trace.x)[:2] for trace in grey] == [[-2.5, 2.5]] * 2
    assert set(figure.layout.yaxis.ticktext) == {NO_LOSS, NO_LOCAL}


def test_every_statistic_has_a_panel_with_every_condition():
    curve = pd.DataFrame({"variant": ["released"] * 4, "ablation": ["full", "full", NO_LOSS, NO_LOSS]})
    curve = curve.assign(step=[0, 9, 0, 9], **{name: [0.9, 0.2, 0.9, 0.4] for name in PANELS})
    figure = concept_curves(curve, 8)
    assert [list(trace.y) for trace in figure.data] == [[0.9, 0.2], [0.9, 0.4]] * 4
    assert sum(trace.showlegend for trace in figure.data) == 2
    assert "effective rank of a video, 1 to 8" in {note.text for note in figure.layout.annotations}


def test_a_target_is_drawn_where_there_is_one():
    term = pd.DataFrame({"name": "released, batches of 32", "cosine": [0.0, 1.0], "value": [0.02, 0.4]})
    found = pd.DataFrame({"name": ["full"] * 2 + ["without"] * 2, "batch_size": [32, 64] * 2})
    found = found.assign(target=[0.19, 0.09, None, None], found=[0.2, 0.1, 0.5, 0.5])
    names = [trace.name for trace in batch_targets(term, found).data]
    assert names == ["released, batches of 32", "target, full", "found, full", "found, without"]


def test_a_part_is_compared_seed_by_seed_with_the_full_model_of_its_variant():
    rows = pd.DataFrame(
        {
            "condition": ["a/full", "a/full", "a/less", "a/less", "b/less", "b/less", "b/full", "b/full"],
            "seed": [0, 1, 1, 0, 0, 1, 0, 1],
            "matched": [0.5, 0.7, 0.4, 0.4, 1.0, 1.0, 0.0, 0.0],
        }
    )
    found = concept_effects(rows)
    assert list(found) == ["a/less", "b/less"]
    assert found["a/less"]["matched"]["seeds"] == pytest.approx([0.1, 0.3])
    assert found["a/less"]["matched"]["difference"] == pytest.approx(0.2)
    assert found["a/less"]["matched"]["high"] == pytest.approx(0.2 + 12.706 * 0.1, abs=1e-3)
    assert found["b/less"]["matched"] == {"difference": -1.0, "low": -1.0, "high": -1.0, "seeds": [-1.0, -1.0]}
    with pytest.raises(ValueError, match="two runs"):
        concept_effects(rows[rows["seed"] == 0])
