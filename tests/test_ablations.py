"""Ablations take out what they name and no more, the consistency term has its closed form, figures show their rows."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from glscl.ablations import (
    ABLATIONS,
    NO_LOCAL,
    asked_cosine,
    changes,
    concept_effects,
    consistency_term,
    over_training,
    trained_as,
)
from glscl.concepts import diversity
from glscl.loss_figures import batch_targets, concept_curves, effects
from glscl.model import Texts, Videos, global_similarity
from glscl.runs import load_run, train_seeds
from glscl.splits import open_split
from glscl.training import TrainSettings

REMOVED = {
    "full": set(),
    "no inter-consistency": {"inter_consistency"},
    "no intra-diversity": {"intra_diversity"},
    "neither loss": {"inter_consistency", "intra_diversity"},
    NO_LOCAL: {"inter_consistency", "intra_diversity"},
    "mean-pooled global": set(),
}


def step(make_model, states, condition):
    """One batch of five pairs: model, kept texts and videos, similarity, and the gradient of every weight by name."""
    model = make_model(**changes(condition))
    texts = model.head.encode_texts(states["sentence"], states["words"], states["word_mask"])
    videos = model.head.encode_videos(states["frames"][:5], states["frame_mask"][:5])
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
def test_without_local_interaction_nothing_of_it_has_a_part(make_model, states, variant):
    model, texts, videos, similarity, gradients = step(make_model, states, f"{variant}/{NO_LOCAL}")
    assert_close(similarity, global_similarity(texts.sentence, videos, 1 / model.config.temperature))
    for name, gradient in gradients.items():
        assert (gradient.abs().max() == 0) == name.startswith("local."), name


def test_without_local_interaction_the_variants_are_one_model(make_model, states):
    *_, one, one_gradients = step(make_model, states, f"released/{NO_LOCAL}")
    *_, other, other_gradients = step(make_model, states, f"described/{NO_LOCAL}")
    assert torch.equal(one, other)
    assert one_gradients.keys() == other_gradients.keys()
    assert all(torch.equal(one_gradients[name], other_gradients[name]) for name in one_gradients)


@pytest.mark.parametrize("ablation", [name for name in ABLATIONS if name != NO_LOCAL])
def test_all_other_ablations_are_two_models(make_model, states, ablation):
    one, other = (step(make_model, states, f"{variant}/{ablation}")[3] for variant in ("released", "described"))
    assert not torch.allclose(one, other, atol=1e-4)


def test_mean_pooling_is_the_cosine_with_the_mean_frame(make_model, states):
    model, texts, videos, similarity, _ = step(make_model, states, "released/mean-pooled global")
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
        assert cosines[term.argmin()] == pytest.approx(asked_cosine(variant, 8, pairs), abs=0.0026)


def test_the_target_halves_as_the_batch_doubles_in_the_release_alone():
    assert asked_cosine("released", 8, 128) == pytest.approx(0.046875)
    assert asked_cosine("released", 8, 64) == 2 * asked_cosine("released", 8, 128)
    assert asked_cosine("described", 8, 64) == asked_cosine("described", 8, 128) == 0.75


def test_concepts_are_followed_epoch_by_epoch(corpus, bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = TrainSettings(2, 128, 1e-3, 1e-7, 0.2, 0.1, 1.0, "frozen", keep_epochs=True)
    model = {"temporal_layers": 1, "decoder_layers": 1, "num_queries": 4}
    where = corpus["inputs"], corpus["work"], corpus["captions"]
    train_seeds("glscl", model, str(bundled / "tiny-clip"), *where, settings, [0], tmp_path / "out")
    validation = open_split(corpus["work"], corpus["captions"], "val", corpus["inputs"], "frozen")
    found = over_training(tmp_path / "out/seed-0", validation)
    assert found["epoch"].tolist() == [1, 2]
    texts, videos = validation.encode(load_run(tmp_path / "out/seed-0", "last"))
    last = diversity(texts.concepts, videos.concepts, validation.video_of_text)
    assert found.iloc[-1][list(last)].to_dict() == pytest.approx(last)
    assert found.iloc[0]["matched"] != found.iloc[1]["matched"]


def effect_rows() -> pd.DataFrame:
    row = {"low": -1.0, "high": 3.0, "crossed_low": -2.0, "crossed_high": 4.0, "smallest": 2.5, "seeds": [0.5, 1.5]}
    names = [(variant, ablation) for variant in ("released", "described") for ablation in ("neither loss", NO_LOCAL)]
    return pd.DataFrame([{"variant": v, "ablation": a, "difference": float(n)} | row for n, (v, a) in enumerate(names)])


def test_the_forest_has_a_point_for_every_effect_and_every_seed():
    figure = effects(effect_rows(), "points")
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [list(trace.x) for trace in marks if trace.name] == [[0.0, 1.0], [2.0, 3.0]]
    assert [list(trace.x) for trace in marks if not trace.name] == [[0.5, 1.5]] * 4
    assert set(figure.layout.yaxis.ticktext) == {"neither loss", NO_LOCAL}


def test_every_statistic_has_a_panel_with_every_condition():
    curve = pd.DataFrame({"variant": ["released"] * 4, "ablation": ["full", "full", "neither loss", "neither loss"]})
    curve = curve.assign(step=[0, 9, 0, 9], matched=[0.9, 0.2, 0.9, 0.4], rank_video=[1.0, 2.0, 1.0, 3.0])
    figure = concept_curves(curve, {"matched": "cosine", "rank_video": "rank"})
    assert [list(trace.y) for trace in figure.data] == [[0.9, 0.2], [0.9, 0.4], [1.0, 2.0], [1.0, 3.0]]
    assert sum(trace.showlegend for trace in figure.data) == 2


def test_a_target_is_drawn_where_there_is_one():
    term = pd.DataFrame({"name": "released, batches of 32", "cosine": [0.0, 1.0], "value": [0.02, 0.4]})
    found = pd.DataFrame({"name": ["full"] * 2 + ["without"] * 2, "batch_size": [32, 64] * 2})
    found = found.assign(asked=[0.19, 0.09, None, None], found=[0.2, 0.1, 0.5, 0.5])
    names = [trace.name for trace in batch_targets(term, found).data]
    assert names == ["released, batches of 32", "asked for, full", "found, full", "found, without"]


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
