"""One training run: schedule, learning, same seed same weights, resume after a stop, and errors before time is lost."""

import dataclasses
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from glscl.files import damage
from glscl.methods import METHODS
from glscl.training import trainer
from glscl.training.trainer import (
    TrainSettings,
    is_flat,
    learning_rate_factor,
    parameter_groups,
    recall_at_1,
    train,
)

SETTINGS = {"epochs": 3, "batch_size": 32, "lr_new": 1e-3, "lr_clip": 1e-4, "weight_decay": 0.2}
SETTINGS |= {"warmup": 0.1, "clip_grad": 1.0, "backbone": "frozen"}


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return METHODS["glscl"].from_clip(corpus["clip"], temporal_layers=1, decoder_layers=1, num_queries=4)


@pytest.fixture
def run(corpus, model):
    """run(folder, captions_per_video=2, videos=None, **settings) -> a model trained with seed 0, and its curve.

    videos: train on so many alone, with one caption each.
    """
    start = {name: weight.clone() for name, weight in model.state_dict().items()}

    def call(folder, captions_per_video=2, videos=None, **changed):
        settings = TrainSettings(**(SETTINGS | changed))
        model.load_state_dict(start)
        prepared = dataclasses.replace(
            corpus["prepared"], backbone=settings.backbone, captions_per_video=captions_per_video
        )
        data = prepared.split("train")
        data = data.sample(videos) if videos else data
        train(model, data, prepared.split("val"), settings, 0, folder, progress=False)
        return model, pd.read_csv(folder / "curve.csv")

    return call


@pytest.fixture
def epochs(monkeypatch):
    """Of the epochs from now on: `trained`, the steps before each; `stop`, the steps before one that is interrupted."""
    original, epochs = trainer._epoch, SimpleNamespace(trained=[], stop=None)

    def epoch(run, batches, before, steps):
        if before == epochs.stop:
            raise KeyboardInterrupt
        epochs.trained.append(before)
        return original(run, batches, before, steps)

    monkeypatch.setattr(trainer, "_epoch", epoch)
    return epochs


def weights(folder, name="last"):
    return load_file(folder / f"{name}.safetensors")


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_schedule_rises_then_falls_to_zero_over_the_real_number_of_steps():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_two_learning_rates_and_no_decay_of_vectors(model):
    settings = TrainSettings(**(SETTINGS | {"backbone": "finetuned"}))
    rates = {}
    for group in parameter_groups(model, settings):
        rates |= {id(p): (group["peak"], group["weight_decay"]) for p in group["params"]}
    named = dict(model.named_parameters())
    assert rates[id(named["clip.text_projection.weight"])] == (1e-4, 0.2)
    assert rates[id(named["clip.text_model.final_layer_norm.weight"])] == (1e-4, 0.0)
    assert rates[id(named["head.logit_scale"])] == (1e-4, 0.0)
    assert rates[id(named["head.local.queries"])] == (1e-3, 0.2)


def test_the_logit_scale_may_have_a_rate_of_its_own(model):
    settings = TrainSettings(**(SETTINGS | {"backbone": "finetuned", "lr_scale": 0.5}))
    scale = model.head.logit_scale
    peaks = [group["peak"] for group in parameter_groups(model, settings) if any(p is scale for p in group["params"])]
    assert peaks == [0.5]


def test_the_released_optimiser_decays_all_but_biases(model):
    settings = TrainSettings(**(SETTINGS | {"backbone": "finetuned", "optimizer": "released"}))
    rates = {}
    for group in parameter_groups(model, settings):
        rates |= {id(p): (group["peak"], group["weight_decay"]) for p in group["params"]}
    named = dict(model.named_parameters())
    for name in ("clip.text_model.final_layer_norm.weight", "head.logit_scale", "clip.text_projection.weight"):
        assert rates[id(named[name])] == (1e-4, 0.2), name
    assert rates[id(named["clip.text_model.final_layer_norm.bias"])] == (1e-4, 0.0)
    assert rates[id(named["head.local.decoder.layers.0.norm1.weight"])] == (1e-3, 0.2)
    assert rates[id(named["head.local.decoder.layers.0.self_attn.in_proj_bias"])] == (1e-3, 0.0)


def test_training_learns_and_leaves_a_frozen_clip_alone(corpus, run, tmp_path):
    trained, curve = run(tmp_path, captions_per_video=0, epochs=4, lr_new=2e-3)
    assert curve["loss_total"].iloc[-1] < 0.8 * curve["loss_total"].iloc[0]
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert curve["step"].tolist() == [12, 24, 36, 48]
    for name, weight in corpus["clip"].state_dict().items():
        assert torch.equal(weight, trained.clip.state_dict()[name].cpu()), name
    assert set(weights(tmp_path)) == {name for name, p in trained.named_parameters() if p.requires_grad}


def test_the_selected_weights_are_those_of_the_best_epoch_on_the_validation_split(corpus, run, tmp_path):
    trained, curve = run(tmp_path, keep_epochs=True)
    best = curve.loc[curve["val_r1"].idxmax(), "step"]
    assert_equal(weights(tmp_path, "selected"), weights(tmp_path, f"after-{best:06d}"))
    assert_equal(weights(tmp_path), weights(tmp_path, "after-000009"))
    trained.load_state_dict(trained.state_dict() | weights(tmp_path, "selected"))
    found = recall_at_1(trained, corpus["prepared"].split("val"))
    assert found == pytest.approx(curve["val_r1"].max(), abs=1e-6)


def test_the_weights_of_single_steps_are_kept_and_change_nothing(run, tmp_path):
    run(tmp_path / "plain")
    run(tmp_path / "kept", keep_steps=(1, 2, 5))
    kept = sorted(file.name for file in (tmp_path / "kept").glob("after-*"))
    assert kept == ["after-000001.safetensors", "after-000002.safetensors", "after-000005.safetensors"]
    assert_equal(weights(tmp_path / "plain"), weights(tmp_path / "kept"))
    _, curve = run(tmp_path / "short", epochs=1, captions_per_video=2, keep_steps=(3,))
    assert curve["step"].iloc[-1] == 3
    assert_equal(weights(tmp_path / "short"), weights(tmp_path / "short", "after-000003"))


@pytest.mark.parametrize(
    ("scores", "patience", "flat"),
    [
        ([10, 20, 20.4, 20.4], 2, True),
        ([10, 20, 20.4, 20.5], 2, False),
        ([20, 10], 1, True),
        ([20], 1, False),
        ([20, 20, 20, 20], 0, False),
    ],
)
def test_training_is_flat_where_the_last_epochs_gained_little(scores, patience, flat):
    assert is_flat(scores, patience) == flat


def test_training_stops_where_validation_is_flat(run, tmp_path, monkeypatch):
    scores = iter([1.0, 5.0, 5.0, 5.0, 9.0])
    monkeypatch.setattr(trainer, "recall_at_1", lambda *given: next(scores))
    _, curve = run(tmp_path, epochs=5, patience=2)
    assert curve["val_r1"].tolist() == [1.0, 5.0, 5.0, 5.0]
    assert (tmp_path / "selected.safetensors").exists()


def test_what_was_measured_lies_in_a_file_of_its_own(run, tmp_path):
    _, curve = run(tmp_path)
    clock = pd.read_csv(tmp_path / "clock.csv")
    assert clock.columns.tolist() == ["seed", "epoch", "seconds", "items_per_second", "data_wait_share"]
    assert clock["epoch"].tolist() == curve["epoch"].tolist()
    assert not set(clock.columns[2:]) & set(curve.columns)
    assert (clock["seconds"] > 0).all()


def test_finetuning_trains_both_towers(corpus, run, tmp_path):
    trained, _ = run(tmp_path, captions_per_video=1, epochs=1, backbone="finetuned")
    for name in ("text_projection.weight", "visual_projection.weight"):
        assert not torch.equal(corpus["clip"].state_dict()[name], trained.clip.state_dict()[name].cpu())


def test_the_same_seed_gives_the_same_weights_also_after_a_stop(run, tmp_path, epochs):
    for name in ("one", "two"):
        run(tmp_path / name)
    for name in ("selected", "last"):
        assert_equal(weights(tmp_path / "one", name), weights(tmp_path / "two", name))
    assert epochs.trained == [0, 3, 6, 0, 3, 6]
    for stopped_after in (1, 2):
        epochs.trained.clear()
        folder = tmp_path / f"stopped-{stopped_after}"
        epochs.stop = 3 * stopped_after
        with pytest.raises(KeyboardInterrupt):
            run(folder)
        assert not (folder / "curve.csv").exists()
        epochs.stop = None
        _, curve = run(folder)
        assert epochs.trained == [0, 3, 6]  # no epoch twice
        for name in ("selected", "last"):
            assert_equal(weights(tmp_path / "one", name), weights(folder, name))
        pd.testing.assert_frame_equal(curve, pd.read_csv(tmp_path / "one/curve.csv"))
        assert not list(folder.glob("epoch-*"))
        assert damage(folder) == ""


def test_released_training_moves_a_clip_in_float16_and_resumes_to_the_same_numbers(corpus, run, tmp_path, epochs):
    changed = {"optimizer": "released", "backbone": "finetuned", "epochs": 2, "lr_clip": 1e-5}
    changed |= {"batch_size": 4, "videos": 12}  # few, as float16 is slow on most processors
    trained, curve = run(tmp_path / "one", **changed)
    last = weights(tmp_path / "one")
    start = {f"clip.{name}": weight for name, weight in corpus["clip"].state_dict().items()}
    half = {name for name, weight in last.items() if weight.dtype == torch.float16}
    assert {"clip.text_projection.weight", "clip.vision_model.encoder.layers.0.mlp.fc1.bias"} <= half
    assert all(name.startswith("clip.") and "norm" not in name and "embed" not in name for name in half)
    for name in ("clip.text_projection.weight", "clip.vision_model.encoder.layers.0.mlp.fc1.weight"):
        assert not torch.equal(last[name], start[name].half()), name
    patches = "clip.vision_model.embeddings.patch_embedding.weight"
    assert patches not in last
    assert torch.equal(trained.state_dict()[patches].cpu(), start[patches])

    # What is left is a model in float32 that holds the same numbers and scores as it did on validation.
    assert {weight.dtype for weight in trained.parameters()} == {torch.float32}
    assert all(torch.equal(trained.state_dict()[name].cpu(), weight.float()) for name, weight in last.items())
    trained.load_state_dict(trained.state_dict() | weights(tmp_path / "one", "selected"))
    found = recall_at_1(trained, corpus["prepared"].split("val"))
    assert found == pytest.approx(curve["val_r1"].max(), abs=1e-6)

    epochs.stop = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", **changed)
    epochs.stop = None
    run(tmp_path / "stopped", **changed)
    for name in ("selected", "last"):
        assert_equal(weights(tmp_path / "one", name), weights(tmp_path / "stopped", name))


def test_over_a_frozen_clip_the_released_optimiser_trains_the_head_in_float32(corpus, model, run, tmp_path):
    start = {name: weight.clone() for name, weight in model.named_parameters()}
    run(tmp_path, epochs=1, optimizer="released", keep_steps=(1, 3))
    first, last = weights(tmp_path, "after-000001"), weights(tmp_path)
    assert {weight.dtype for weight in last.values()} == {torch.float32}
    assert not any(name.startswith("clip.") for name in last)
    moved = {name for name, weight in last.items() if not torch.equal(weight, start[name])}
    assert "head.local.queries" in moved
    for name in last.keys() - {"head.logit_scale"}:  # the rate of the first step is 0
        assert torch.equal(first[name], start[name]), name


def test_a_run_whose_clean_up_is_stopped_is_complete(run, tmp_path, monkeypatch, epochs):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    original = trainer._store
    monkeypatch.setattr(trainer, "_store", lambda *args: (original(*args), monkeypatch.setattr(shutil, "rmtree", stop)))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, epochs=1)
    assert (tmp_path / "curve.csv").exists()
    run(tmp_path, epochs=1)
    assert (tmp_path / "last.safetensors").exists()
    assert epochs.trained == [0]  # a complete run is not trained again


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("lr_new", 0),
        ("warmup", 1.0),
        ("backbone", "frosen"),
        ("clip_grad", -1),
        ("betas", (0.9, 1.0)),
    ],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        TrainSettings(**(SETTINGS | {name: value}))


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(
        ValueError, match=r"^optimizer must be one of adamw, released, got 'sgd'; correct the spelling.$"
    ):
        TrainSettings(**(SETTINGS | {"optimizer": "sgd"}))


def test_a_batch_larger_than_the_data_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="one batch needs 4000 texts, got 96"):
        run(tmp_path, batch_size=4000)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(run, tmp_path):
    with pytest.raises(ValueError, match=r"the loss must be finite, got .* at step 2;"):
        run(tmp_path, lr_new=1e12, clip_grad=1e12)


def test_losses_that_stay_unread_name_the_first_step_that_is_not_finite_and_give_the_same_means():
    losses = trainer._Losses()
    for step in (1, 2):
        losses.add(step, {"contrastive": torch.tensor(float(step)), "total": torch.tensor(2.0 * step)})
    losses.read()
    losses.add(3, {"contrastive": torch.tensor(6.0), "total": torch.tensor(3.0)})
    losses.read()
    losses.read()  # nothing is counted twice
    assert (losses.mean("contrastive"), losses.mean("total")) == (3.0, 3.0)
    for step, value in ((4, 1.0), (5, torch.inf), (6, torch.nan)):
        losses.add(step, {"contrastive": torch.tensor(0.0), "total": torch.tensor(value)})
    with pytest.raises(ValueError, match="at step 5;"):
        losses.read()


def test_checkpointing_changes_no_number_and_is_undone(run, tmp_path):
    changed = {"epochs": 1, "backbone": "finetuned", "videos": 16, "batch_size": 8}
    run(tmp_path / "plain", **changed)
    trained, _ = run(tmp_path / "other", **changed, checkpointing=True)
    assert_equal(weights(tmp_path / "other"), weights(tmp_path / "plain"))
    assert not any("forward" in vars(module) for module in trained.modules())


def test_a_batch_in_chunks_has_the_loss_of_the_whole(model, run, tmp_path):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.MultiheadAttention):
            module.p = module.dropout = 0.0  # which draws other numbers for chunks
    changed = {"epochs": 1, "backbone": "finetuned", "videos": 16, "batch_size": 8}
    _, whole = run(tmp_path / "whole", **changed)
    _, chunks = run(tmp_path / "chunks", **changed, chunk=3)
    pd.testing.assert_frame_equal(whole, chunks, rtol=1e-4)


def test_encoders_that_cannot_be_compiled_train_as_they_are_and_a_line_says_why(run, tmp_path, capsys, monkeypatch):
    changed = {"epochs": 1, "backbone": "finetuned", "videos": 8, "batch_size": 4}
    run(tmp_path / "plain", **changed)

    def broken(*given, **options):
        raise RuntimeError("no compiler\nis here")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    try:
        run(tmp_path / "compiled", **changed, compile=True)
        run(tmp_path / "tried again", **changed, compile=True)
    finally:
        torch.compiler.set_stance("default")
    said = [line for line in capsys.readouterr().out.splitlines() if "without being compiled" in line]
    assert len(said) == 2
    assert all("no compiler" in line for line in said)
    assert_equal(weights(tmp_path / "compiled"), weights(tmp_path / "plain"))


def test_a_deterministic_run_leaves_the_switch_as_it_was(run, tmp_path, monkeypatch):
    seen = []
    original = trainer._epoch
    monkeypatch.setattr(
        trainer, "_epoch", lambda *g: (seen.append(torch.are_deterministic_algorithms_enabled()), original(*g))[1]
    )
    run(tmp_path, epochs=1, deterministic=True)
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_waiting_is_what_lies_between_a_step_and_the_next_batch(monkeypatch):
    clock = iter([0.0, 0.5, 2.0, 2.25, 9.0])
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    waiting = trainer._Waiting(torch.device("cpu"))
    for _ in range(2):
        waiting.end()
        waiting.begin()
    assert waiting.seconds() == 0.75  # after the last step nothing is waited for
