"""What training says of itself: means over seeds; measured numbers apart from those that are the same anywhere."""

import json
from glob import glob
from pathlib import Path

import pandas as pd
import pytest

from glscl.study.learning import Learning, learn
from glscl.training.runs import TRAINED


@pytest.fixture
def learning():
    """Two seeds of two epochs: seed 0 is best after the second, seed 1 after the first."""
    rows = [(0, 1, 5, 2.0, 40.0), (0, 2, 10, 1.0, 50.0), (1, 1, 5, 3.0, 60.0), (1, 2, 10, 2.0, 30.00004)]
    curves = pd.DataFrame(rows, columns=["seed", "epoch", "step", "loss_total", "val_r1"])
    clocks = curves[["seed", "epoch"]].assign(
        seconds=[30, 30, 40, 20], items_per_second=[1, 2, 3, 4], data_wait_share=0.1
    )
    return Learning(curves, clocks, {1e-3: 40.0, 3e-3: 50.0}, 3e-3)


def test_the_mean_curve_is_over_seeds_and_holds_no_clock(learning):
    table = learning.mean_curve()
    assert list(table) == ["epoch", "step", "loss_total", "val_r1"]
    assert table.values.tolist() == [[1, 5, 2.5, 50], [2, 10, 1.5, 40]]


def test_what_was_measured_names_the_machine(learning):
    measured = learning.measured()
    assert measured["seconds"] == 120
    assert measured["items_per_second"] == 2.5
    assert measured["data_wait_share"] == pytest.approx(0.1)
    assert measured["hardware"]
    assert measured["commit"]
    assert "On this machine the slowest of 2 seeds trained for 1.0 minutes" in learning.clock_answer()
    assert "10 % of the time" in learning.clock_answer()


def test_the_answer_tells_the_selected_epochs(learning):
    assert learning.answer() == (
        "R@1 on validation reaches 55.0 % (seeds 50.0 to 60.0) at epochs 1 to 2 of 2, with a learning rate of 0.003."
    )
    alone = learning._replace(curves=learning.curves[learning.curves["seed"] == 1])
    assert "at epoch 1 of 2" in alone.answer()


def test_what_the_last_epoch_added_is_the_mean_of_gains(learning):
    assert learning.gained_last() == pytest.approx((10 + 0) / 2)
    assert learning._replace(curves=learning.curves[learning.curves["epoch"] == 1]).gained_last() == float("inf")


def test_the_sweep_says_where_the_best_rate_is_the_extreme(learning):
    assert learning.sweep() == {"val_r1": {"0.001": 40.0, "0.003": 50.0}, "kept": 3e-3, "at_the_edge": True}
    assert not learning._replace(rates={3e-3: 1.0}).sweep()["at_the_edge"]


def test_a_method_learns_and_takes_only_its_own_settings(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("glscl.training.runs.UNFINISHED", tmp_path / "unfinished")
    inputs = {"clip": corpus["prepared"].clip, "backbone": "frozen", "frames": 4, "words": 24}
    train = {"epochs": 1, "batch_size": 32, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2}
    train |= {"warmup": 0.1, "clip_grad": 1.0, "keep_epochs": False}
    model = {"temporal_layers": 1, "num_queries": 4}
    monkeypatch.setenv(TRAINED, str(tmp_path / "list"))
    found = learn(corpus["work"], inputs, "mean_pooling", model, train, [3], tmp_path / "trained")
    assert (tmp_path / "trained/seed-3").is_dir()
    [state] = glob((tmp_path / "list").read_text().strip())
    assert Path(state, "curve.csv").exists(), "what the stage removes once it is complete"
    assert found.curves["seed"].tolist() == [3]
    assert found.clocks["seconds"].iloc[0] > 0
    assert found.rates == {1e-3: found.curves["val_r1"].max()}
    with pytest.raises(ValueError, match="temporal_layer"):
        learn(corpus["work"], inputs, "mean_pooling", {"temporal_layer": 1}, train, [3], tmp_path / "trained")


def test_of_several_rates_the_best_on_validation_is_kept(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("glscl.training.runs.UNFINISHED", tmp_path / "unfinished")
    inputs = {"clip": corpus["prepared"].clip, "backbone": "frozen", "frames": 4, "words": 24}
    train = {"epochs": 1, "batch_size": 32, "lr_new": [1e-9, 3e-3], "lr_clip": 1e-7, "weight_decay": 0.2}
    train |= {"warmup": 0.1, "clip_grad": 1.0}
    folder = tmp_path / "trained"
    monkeypatch.setattr("glscl.study.learning.one_thread_each", lambda call, jobs: [call(*job) for job in jobs])
    found = learn(corpus["work"], inputs, "mean_pooling", {"temporal_layers": 1}, train, [3, 4], folder)
    assert found.kept == max(found.rates, key=found.rates.get)
    assert json.loads((folder / "settings.json").read_text())["train"]["lr_new"] == found.kept
    assert sorted(path.name for path in tmp_path.glob("trained*")) == ["trained"]
    assert not list(tmp_path.glob(".trained*"))
    own = found.curves[found.curves["seed"] == 3]["val_r1"].max()
    assert own == pytest.approx(found.rates[found.kept])
