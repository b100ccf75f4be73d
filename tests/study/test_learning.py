"""What training says of itself: means over seeds; measured numbers apart from those that are the same anywhere."""

import pandas as pd
import pytest

from glscl.study.learning import Learning, learn


@pytest.fixture
def learning():
    """Two seeds of two epochs: seed 0 is best after the second, seed 1 after the first."""
    rows = [(0, 1, 5, 2.0, 40.0), (0, 2, 10, 1.0, 50.0), (1, 1, 5, 3.0, 60.0), (1, 2, 10, 2.0, 30.00004)]
    curves = pd.DataFrame(rows, columns=["seed", "epoch", "step", "loss_total", "val_r1"])
    clocks = curves[["seed", "epoch"]].assign(
        seconds=[30, 30, 40, 20], items_per_second=[1, 2, 3, 4], data_wait_share=0.1
    )
    return Learning(curves, clocks)


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
    assert "On this machine training took 2.0 minutes" in learning.clock_answer()
    assert "10 % of the time" in learning.clock_answer()


def test_the_answer_tells_the_selected_epochs(learning):
    assert learning.answer() == ("Mean validation recall reaches 55.0 % (seeds 50.0 to 60.0) at epochs 1 to 2 of 2.")
    alone = Learning(learning.curves[learning.curves["seed"] == 1], learning.clocks)
    assert alone.answer().endswith("at epoch 1 of 2.")


def test_a_method_learns_and_takes_only_its_own_settings(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("glscl.training.runs.UNFINISHED", tmp_path / "unfinished")
    inputs = {"clip": corpus["prepared"].clip, "backbone": "frozen", "frames": 4, "words": 24}
    train = {"epochs": 1, "batch_size": 32, "lr_new": 1e-3, "lr_clip": 1e-7, "weight_decay": 0.2}
    train |= {"warmup": 0.1, "clip_grad": 1.0, "keep_epochs": False}
    model = {"temporal_layers": 1, "num_queries": 4}
    found = learn(corpus["work"], inputs, "mean_pooling", model, train, [3], tmp_path / "trained")
    assert (tmp_path / "trained/seed-3").is_dir()
    assert found.curves["seed"].tolist() == [3]
    assert found.clocks["seconds"].iloc[0] > 0
    with pytest.raises(ValueError, match="temporal_layer"):
        learn(corpus["work"], inputs, "mean_pooling", {"temporal_layer": 1}, train, [3], tmp_path / "trained")
