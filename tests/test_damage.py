"""Damaged files: the numbers of an undisturbed run or one sentence, wherever a file is cut or changed."""

import pytest

from benchmarks.damage import SUBJECTS, tried

SAME = {"checkpoints", "finished_training", "journal"}  # what is damaged is made again


@pytest.mark.parametrize("what", SUBJECTS)
def test_damage_is_repaired_or_told_in_one_sentence(what):
    found = tried(what, 10)
    assert [trial for trial in found if trial.outcome == "wrong"] == []
    assert what not in SAME or {trial.outcome for trial in found} == {"same"}
    assert len({(trial.file, trial.damage) for trial in found}) > 3


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used():
    found = [trial for trial in tried("checkpoints", 12) if trial.file.startswith("epoch-0003")]
    assert found
    for trial in found:
        first, *trained = trial.said.splitlines()
        assert "epoch-0003" in first
        assert first.endswith("so training goes on from before that epoch.")
        assert [line.partition(":")[0] for line in trained] == [
            f"training, seed 0, rate 0.01, epoch {epoch} of 4" for epoch in (3, 4)
        ]
