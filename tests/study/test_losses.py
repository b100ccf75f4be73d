"""Conditions change what they name and no more; runs are measured where they end; results say what the runs found."""

import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from glscl.data.dataset import PreparedCorpus
from glscl.encoding import encode_split, evaluate
from glscl.evaluation.collapse import seen
from glscl.evaluation.concepts import diversity
from glscl.files import write_json
from glscl.model import Texts, Videos, global_similarity
from glscl.study import losses
from glscl.study.losses import (
    FREED,
    FULL,
    LOCAL,
    PARTS,
    Condition,
    Study,
    at_step,
    conditions,
    run,
    untrained,
    without,
)
from glscl.training.runs import load_run
from glscl.training.trainer import TrainSettings
from tests.study import random_corpus

REMOVED = {
    "inter-consistency": {"inter_consistency"},
    "intra-diversity": {"intra_diversity"},
    "both losses": {"inter_consistency", "intra_diversity"},
    LOCAL: {"inter_consistency", "intra_diversity"},
    "text-conditioned pooling": set(),
}


def step(make_model, features, variant, part):
    """One batch of five pairs: model, kept texts and videos, similarity, and the gradient of every weight by name."""
    model = make_model(**(PARTS[part] | {"variant": variant}))
    texts = model.head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    videos = model.head.encode_videos(features["frames"][:5], features["frame_mask"][:5])
    model.loss(texts, videos)["total"].backward()
    gradients = {name: weight.grad for name, weight in model.head.named_parameters() if weight.grad is not None}
    return model, texts, videos, model.similarity(texts, videos), gradients


@pytest.mark.parametrize("variant", ["released", "described"])
@pytest.mark.parametrize("part", PARTS)
def test_leaving_a_part_out_removes_its_terms_and_no_others(make_model, variant, part):
    model = make_model(**(PARTS[part] | {"variant": variant}))
    alike = F.normalize(torch.ones(5, 4, 32), dim=-1)  # collapsed concepts, so that the hinge is open
    turned = F.normalize(torch.linspace(0, 1, 32).expand(5, 4, 32), dim=-1)
    frames = torch.randn(5, 6, 32)
    kept = Texts(torch.randn(5, 32), alike), Videos(frames, torch.ones(5, 6), frames @ frames.mT, turned)
    terms = model.head.loss(*kept)
    assert {name for name, term in terms.items() if term == 0} == REMOVED[part]


@pytest.mark.parametrize("variant", ["released", "described"])
def test_without_local_interaction_nothing_of_it_has_a_part(make_model, features, variant):
    model, texts, videos, similarity, gradients = step(make_model, features, variant, LOCAL)
    assert_close(similarity, global_similarity(texts.sentence, videos, 1 / model.config.temperature))
    for name, gradient in gradients.items():
        assert (gradient.abs().max() == 0) == name.startswith("local."), name


def test_without_local_interaction_the_variants_are_one_model(make_model, features):
    *_, one, one_gradients = step(make_model, features, "released", LOCAL)
    *_, other, other_gradients = step(make_model, features, "described", LOCAL)
    assert torch.equal(one, other)
    assert one_gradients.keys() == other_gradients.keys()
    assert all(torch.equal(one_gradients[name], other_gradients[name]) for name in one_gradients)


@pytest.mark.parametrize("part", [name for name in PARTS if name != LOCAL])
def test_without_any_other_part_they_are_two_models(make_model, features, part):
    one, other = (step(make_model, features, variant, part)[3] for variant in ("released", "described"))
    assert not torch.allclose(one, other, atol=1e-4)


def test_mean_pooling_is_the_cosine_with_the_mean_frame(make_model, features):
    model, texts, videos, similarity, _ = step(make_model, features, "released", "text-conditioned pooling")
    mean = (videos.frames * videos.mask[..., None]).sum(1) / videos.mask.sum(1, keepdim=True)
    local = (texts.concepts[:, None] * videos.concepts).sum(-1).mean(-1)
    expected = F.cosine_similarity(texts.sentence[:, None], mean, dim=-1) + model.config.local_weight * local
    assert_close(similarity, expected)


MODEL = {
    "temporal_layers": 1,
    "decoder_layers": 1,
    "num_queries": 4,
    "local_weight": 0.5,
    "diversity_weight": 1e-4,
    "moment_weight": 1.0,
    "consistency_weight": 0.005,
    "global_pooling": "text_conditioned",
    "dropout": 0.1,
}
DOSES = {"alpha": [0, 1e-4, 1, 100], "beta": [0, 0.005, 0.5], "dropout": [0, 0.1]}


def test_doses_change_one_setting_and_what_coincides_is_trained_once():
    found = {
        condition.name: condition.changed for condition in conditions(MODEL, ["described"], list(PARTS), DOSES, False)
    }
    assert set(found) == {FULL, *map(without, PARTS), "alpha 1", "alpha 100", "beta 0", "beta 0.5", "dropout 0", FREED}
    assert found["alpha 100"] == {"diversity_weight": 100.0}
    assert found["beta 0"] == {"consistency_weight": 0.0}
    assert found["without inter-consistency"] == {"consistency_weight": 0.0, "moment_weight": 0.0}
    every = [tuple(sorted((MODEL | changed).items())) for changed in found.values()]
    assert len(set(every)) == len(every)


def test_only_the_parts_that_are_asked_for_are_left_out():
    none = {"alpha": [], "beta": [], "dropout": []}
    found = conditions(MODEL, ["released"], ["both losses"], none, False)
    assert [condition.name for condition in found] == [FULL, "without both losses", FREED]
    with pytest.raises(ValueError, match="text-conditioned pooling, got poling; correct"):
        conditions(MODEL, ["released"], ["poling"], none, False)


def test_combinations_are_a_cube_of_the_first_variant():
    found = conditions(MODEL, ["released", "described"], list(PARTS), DOSES, True)
    combined = [condition for condition in found if "," in condition.name]
    assert len(combined) == 4  # of 8 corners, four change one thing or nothing
    assert {condition.variant for condition in combined} == {"released"}
    assert Condition("released", FREED, combined[-1].changed) == combined[-1]
    assert combined[-1].changed == {"dropout": 0.0, "diversity_weight": 100.0} | PARTS["inter-consistency"]
    assert [condition.variant for condition in found if condition.name == without(LOCAL)] == ["released"]
    assert len({condition.label for condition in found}) == len(found)


SETTINGS = TrainSettings(2, 16, 1e-3, 1e-7, 0.2, 0.1, 1.0, "frozen")


@pytest.fixture(scope="module")
def study(bundled, tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("losses")
    random_corpus.write(folder / "corpus", 128, 3, 9, {"train": 48, "val": 8, "test": 12})
    corpus = PreparedCorpus.open(folder / "corpus", str(bundled / "tiny-clip"), "frozen", 9)
    parts = ["both losses", LOCAL]
    wanted = conditions(MODEL, ["released"], parts, {"alpha": [100], "beta": [], "dropout": []}, False)
    return Study("made", corpus, MODEL, SETTINGS, [3, 5], ["released"], parts, wanted, folder / "scratch")


@pytest.fixture(scope="module")
def kept(study, tmp_path_factory):
    """run(study, the full model, 5), and a copy of the folder of its weights."""
    copied, measure = tmp_path_factory.mktemp("kept") / "seed-5", losses.measure

    def copy_and_measure(study, condition, seed, folder):
        shutil.copytree(folder, copied)
        return measure(study, condition, seed, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copied.parent)
        patch.setattr("glscl.training.runs.hash_of", lambda _: "the same code all the time")
        patch.setattr(losses, "measure", copy_and_measure)
        return run(study, study.conditions[0], 5), copied


def test_a_run_is_measured_at_its_last_weights_on_the_test_split(study, kept):
    found, folder = kept
    model, test = load_run(folder, "last"), study.corpus.split("test")
    assert (found.condition, found.seed) == ("released/full", 5)
    assert np.array_equal(found.ranks, evaluate(model, test)["t2v"]["rank"])
    texts, videos = encode_split(model, test)
    whole = diversity(texts.concepts, videos.concepts, test.video_of_text)
    assert {name: values.mean() for name, values in found.items.items()} == pytest.approx(
        {name: whole[name] for name in found.items}
    )
    assert found.seen == pytest.approx(seen(model, study.batch("cpu"))._asdict())
    assert found.gradients["contrastive"] > 0
    assert found.gradients["moments"] > 0


def test_a_followed_run_has_its_start_the_kept_steps_and_its_end(study, kept):
    found, folder = kept
    assert [row["step"] for row in found.steps] == [0, 2, 5, 6]
    condition, validation = study.conditions[0], study.corpus.split("val")
    for row, weights in zip(found.steps[1:], ("after-000002", "after-000005", "last"), strict=True):
        assert row == pytest.approx(at_step(load_run(folder, weights), row["step"], validation, study.batch("cpu")))
    assert found.steps[0] == at_step(untrained(study, condition, 5), 0, validation, study.batch("cpu"))
    assert found.first_gradients.keys() == found.gradients.keys()
    assert found.steps[0]["matched"] != found.steps[-1]["matched"]


def test_a_batch_is_the_same_every_time(study):
    one, other = study.batch("cpu"), study.batch("cpu")
    assert len(one["sentence"]) == len(one["frames"]) == 16
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_no_model(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glscl.training.runs.hash_of", lambda _: "the same code all the time")
    monkeypatch.setattr(losses, "measure", lambda study, condition, seed, folder: folder.exists())
    assert run(study, study.conditions[1], 3)
    assert not list(study.scratch.glob(f"{study.conditions[1].label}/*"))


def test_a_study_that_must_fail_fails_before_it_trains(study):
    given = {name: getattr(study, name) for name in Study.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"two seeds or more, got \[0\]"):
        Study(**(given | {"seeds": [0]}))
    with pytest.raises(ValueError, match="48 training texts, got 64"):
        Study(**(given | {"settings": TrainSettings(1, 64, 1e-3, 1e-7, 0.2, 0.1, 1.0, "frozen")}))


def test_every_condition_is_run_with_every_seed(study, monkeypatch):
    monkeypatch.setattr(losses, "one_thread_each", lambda call, jobs: [(call, *job[1:]) for job in jobs])
    jobs = losses.train_all(study)
    assert len(set(map(str, jobs))) == len(study.conditions) * 2
    assert jobs[:2] == [(run, study.conditions[0], 3), (run, study.conditions[0], 5)]


def test_a_study_takes_model_and_rate_from_the_trained_glscl(bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_corpus.write(tmp_path / "work/corpora/made", 128, 3, 9, {"train": 24, "val": 8, "test": 12}, captions=2)
    given = asdict(replace(SETTINGS, lr_new=3e-3, patience=2, keep_epochs=True))
    write_json(tmp_path / "work/quick/made/train/glscl/settings.json", {"model": MODEL, "train": given})
    wanted = {"seeds": [0, 1], "variants": ["released"], "epochs": 4, "captions_per_video": 1, "parts": [LOCAL]}
    inputs = {"clip": str(bundled / "tiny-clip"), "backbone": "frozen", "words": 9}
    opened = Study.open("quick", "made", inputs, wanted | DOSES | {"combined": False})
    assert (opened.settings.lr_new, opened.settings.patience, opened.settings.keep_epochs) == (3e-3, 0, False)
    assert (opened.training_texts, opened.steps) == (24, 4)
    assert opened.model == MODEL
    assert opened.scope()["conditions"] == len(opened.conditions) == 9
