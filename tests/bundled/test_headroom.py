"""The headroom: what it states, and the refusal of a corpus on which mean pooling is good enough."""

import dataclasses

import numpy as np
import pytest

from glscl.bundled import corpora
from glscl.bundled.headroom import headroom


def test_headroom_states_every_oracle_and_refuses_a_corpus_without_room():
    corpus = dataclasses.replace(corpora.SCENES, train=0, val=0, test=40, multi=0)
    captions, events = corpora.captions_table(corpus), corpora.events_table(corpus)
    captions = captions[captions["of"].isna()]
    found = headroom(captions, events, np.zeros((40, 40)))
    assert set(found) == {"bag", "bound", "ordered", "mean pooling"}
    assert found["mean pooling"] == pytest.approx(100 / 40)  # all 40 videos tie
    assert found["bag"] <= found["bound"] <= found["ordered"]
    with pytest.raises(ValueError, match="points of R@1 below the bound oracle"):
        headroom(captions, events, np.eye(40))
