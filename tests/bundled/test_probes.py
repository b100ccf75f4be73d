"""The probes: an encoder that says the factors passes the gate, one that says nothing is at chance and refused."""

import numpy as np
import pytest

from glscl.bundled import probes


def test_an_encoder_that_says_the_factors_passes_and_a_blind_one_is_at_chance():
    frames, shown = probes.draw(200)
    assert frames.shape == (200, probes.FRAMES, 64, 64, 3)
    codes = np.concatenate([values[:, None] == np.unique(values) for values in shown.values()], axis=1).astype(float)
    seeing = probes.accuracies(lambda images: codes.repeat(probes.FRAMES, axis=0), 150, 50)
    probes.check(seeing)
    blind = probes.accuracies(lambda images: np.zeros((len(images), 2)), 150, 50)
    assert max(blind.values()) < 60
    with pytest.raises(ValueError, match=r"percent at least, got .*shape"):
        probes.check(blind)
