"""The headroom: recalls at rank one, and the refusal of a corpus on which mean pooling is good enough."""

import dataclasses

import numpy as np
import pytest

from glscl.bundled import corpora
from glscl.bundled.headroom import headroom, recall_at_1


def test_recall_counts_first_places_and_half_of_those_that_tie():
    scores = np.array([[2, 1, 0], [0, 1, 1], [3, 0, 0]])
    assert recall_at_1(scores) == pytest.approx(200 / 3)
    assert recall_at_1(np.zeros((3, 3))) == 0  # the second place of three, as expected under a random order


def test_headroom_states_every_oracle_and_refuses_a_corpus_without_room():
    corpus = dataclasses.replace(corpora.SCENES, train=0, val=0, test=40, multi=0)
    captions, events = corpora.captions_table(corpus), corpora.events_table(corpus)
    captions = captions[captions["of"].isna()]
    found = headroom(captions, events, np.zeros((40, 40)))
    assert set(found) == {"bag", "bound", "ordered", "mean pooling"}
    assert found["mean pooling"] == 0
    assert found["bag"] <= found["bound"] <= found["ordered"]
    with pytest.raises(ValueError, match="points of R@1 below the bound oracle"):
        headroom(captions, events, np.eye(40))
