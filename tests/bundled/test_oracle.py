"""The oracles: the agreement of told facts with the events of a video as a bag, bound to events, and in order."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from glscl.bundled import corpora
from glscl.bundled.grammar import FACTORS
from glscl.bundled.oracle import KINDS, oracle_scores


def events_table(*videos):
    """A table of videos from strings such as "red star left sky": colour, shape, motion, background per event."""
    rows = []
    for name, events in enumerate(videos):
        for number, words in enumerate(events):
            colour, shape, motion, background = words.split()
            rows.append((f"v{name}", number, shape, colour, "large", motion, background, "blue ring"))
    return pd.DataFrame(rows, columns=["video", "event", *FACTORS, "distractor"])


def test_oracle_on_a_hand_made_case():
    events = events_table(
        ["red star left sky", "blue ring rise sea", "pink moon fall snow"],
        ["blue ring rise sea", "red star left sky", "pink moon fall snow"],
        ["red ring left sea", "red ring left sea", "red ring left sea"],
    )
    cells = [
        "colour=red;shape=star | colour=blue;motion=rise",  # in this order in the first video alone
        "shape=moon",  # in two videos
        "colour=red | shape=ring | motion=left",
        "colour=green;distractor=blue ring",
    ]
    scores = oracle_scores(pd.DataFrame({"told": cells}), events)
    expected = [[1, 0.5, 0.25], [1, 1, 0], [2 / 3, 0, 1], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bag", [1, 1, 1, 0.5]),
        ("bound", [1, 1, 0.5, 0.5]),  # in the third the red thing is no star
        ("ordered", [1, 0, 0.5, 0.25]),  # in the second and the fourth the ring comes first
    ],
)
def test_each_kind_of_oracle_knows_less_or_more(kind, expected):
    events = events_table(
        ["red star left sky", "blue ring rise sea"],
        ["blue ring rise sea", "red star left sky"],
        ["red ring left sky", "blue star rise sea"],
        ["red ring left sky", "red heart left sky"],
    )
    captions = pd.DataFrame({"told": ["colour=red;shape=star | colour=blue;shape=ring"]})
    np.testing.assert_allclose(oracle_scores(captions, events, kind), [expected])


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_does_not_use_one_event_twice(kind):
    events = events_table(["red star left sky", "blue ring rise sea"])
    captions = pd.DataFrame({"told": ["shape=star | shape=star"]})
    assert oracle_scores(captions, events, kind) == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_gives_every_bundled_text_full_agreement_with_its_video(kind):
    corpus = dataclasses.replace(corpora.STORIES, train=6, val=2, test=4)
    table, events = corpora.captions_table(corpus), corpora.events_table(corpus)
    assert (np.diag(oracle_scores(table, events, kind)) == 1).all()


def test_what_holds_in_order_holds_bound_and_what_holds_bound_holds_in_the_bag():
    corpus = dataclasses.replace(corpora.SCENES, train=10, val=10, test=10, multi=0)
    table, events = corpora.captions_table(corpus), corpora.events_table(corpus)
    bag, bound, ordered = (oracle_scores(table, events, kind) for kind in KINDS)
    assert (bag >= bound).all()
    assert (bound >= ordered).all()
    assert (bag > bound).any()
    assert (bound > ordered).any()


def test_oracle_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="bag, bound, ordered, got 'loose'"):
        oracle_scores(pd.DataFrame({"told": ["shape=star"]}), events_table(["red star left sky"]), "loose")


@pytest.mark.parametrize(
    ("cell", "message"), [("taste=sweet", "taste"), ("shape=star | shape=star | shape=star", "at most 2 events")]
)
def test_oracle_refuses_what_it_cannot_judge(cell, message):
    events = events_table(["red star left sky", "blue ring rise sea"])
    with pytest.raises(ValueError, match=message):
        oracle_scores(pd.DataFrame({"told": [cell]}), events)


def test_oracle_refuses_videos_of_different_lengths():
    events = events_table(["red star left sky", "blue ring rise sea"], ["red star left sky"])
    with pytest.raises(ValueError, match=r"same number of events, got \[1, 2\]"):
        oracle_scores(pd.DataFrame({"told": ["shape=star"]}), events)
