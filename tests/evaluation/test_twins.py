"""Twins scored pair by pair: a head that knows, a bag of words, ties, every head alike, and faults."""

import numpy as np
import pandas as pd
import pytest
import torch

from glscl.bundled.grammar import FACTORS, draw_event, write_told
from glscl.bundled.twins import is_true, twins
from glscl.data.dataset import Split
from glscl.encoding import encode_split
from glscl.evaluation.twins import PAIRS, pair_scores, twin_accuracy, twin_table
from glscl.methods import METHODS, settings_of

VIDEOS = 60
rng = np.random.default_rng(0)
EVENTS = [[draw_event(rng), draw_event(rng)] for _ in range(VIDEOS)]
TOLD = [[{factor: getattr(event, factor) for factor in ("shape", "colour", "motion")} for event in of] for of in EVENTS]
TWINS = [twins(write_told(told), events, rng) for told, events in zip(TOLD, EVENTS, strict=True)]
BOOK = {(factor, value): rng.normal(size=32) for factor in FACTORS for value in FACTORS[factor]}


def bag(told):
    """The sum of a vector per told value, in an order of its own: it knows neither events nor their order."""
    return sum(BOOK[fact] for fact in sorted(fact for event in told for fact in event.items()))


def split_of(rows, sentence):
    """rows: (video, facts, of). sentence: (video, facts) -> (32,). The videos are the bags of all that is told."""
    rows = [(number, *row) for number, row in enumerate(rows)]
    table = pd.DataFrame([(row[0], row[1], "-", row[3]) for row in rows], columns=["caption_id", "video", "text", "of"])
    vectors = torch.tensor(np.array([sentence(row[1], row[2]) for row in rows])).float()
    seen = list(dict.fromkeys(table["video"]))
    frames = torch.tensor(np.array([bag(TOLD[video]) for video in seen])).float()[:, None]
    texts = {"sentence": vectors, "words": vectors[:, None], "word_mask": torch.ones(len(rows), 1)}
    return Split(table, texts, {"frames": frames, "frame_mask": torch.ones(len(seen), 1)})


def splits(sentence):
    test = split_of([(video, TOLD[video], None) for video in range(VIDEOS)], sentence)
    test.captions["caption_id"] += 1000
    rows = {
        kind: [(video, TWINS[video][kind], video + 1000) for video in reversed(range(VIDEOS)) if kind in TWINS[video]]
        for kind in ("colour", "order", "shape", "motion")
    }
    return test, {kind: split_of(of_kind, sentence) for kind, of_kind in rows.items()}


@pytest.fixture
def model(make_model):
    return METHODS["mean_pooling"].from_clip(make_model().clip, temporal_layers=0)


def test_a_head_that_knows_is_always_right(model):
    def knows(video, told):
        return bag(TOLD[video]) * (1 if is_true(told, EVENTS[video]) else -1)

    found = twin_accuracy(model, *splits(knows))
    assert all((of == 1).all() for of in found.values())
    assert len(found["order"]) > VIDEOS - 5
    opposite = twin_accuracy(model, *splits(lambda video, told: -knows(video, told)))
    assert all((of == 0).all() for of in opposite.values())


def test_a_bag_of_words_ties_where_the_words_stay_and_sees_the_others(model):
    found = twin_accuracy(model, *splits(lambda video, told: bag(told)))
    assert (found["colour"] == 0.5).all()
    assert (found["order"] == 0.5).all()
    assert found["shape"].mean() > 0.9
    assert found["motion"].mean() > 0.9


def test_embeddings_at_hand_are_used(model):
    test, false = splits(lambda video, told: bag(told))
    expected = twin_accuracy(model, test, false)
    flipped = encode_split(model, test)
    flipped = flipped[0], type(flipped[1])(-flipped[1].video)
    found = twin_accuracy(model, test, false, flipped)
    for kind in ("shape", "motion"):
        np.testing.assert_array_equal(found[kind], 1 - expected[kind])


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_scores_as_in_the_matrix(make_model, features, method):
    small = {"temporal_layers": 1, "frames": 6, "words": 9, "decoder_layers": 1, "decoder_heads": 4, "num_queries": 3}
    head = METHODS[method].from_clip(make_model().clip, **settings_of(method, small)).head
    texts = head.encode_texts(features["sentence"], features["words"], features["word_mask"])
    videos = head.encode_videos(features["frames"], features["frame_mask"])
    rows, columns = torch.arange(11) % 5, torch.arange(11) % 7
    assert len(rows) > PAIRS
    with torch.no_grad():
        expected = head.similarity(texts, videos)[rows, columns]
    chosen = [type(side)(*(t[i] for t in side)) for side, i in ((texts, rows), (videos, columns))]
    torch.testing.assert_close(pair_scores(head, *chosen), expected, atol=1e-5, rtol=0)


def test_the_table_has_accuracies_and_intervals():
    found = {"colour": np.array([[1, 0.5, 0, 1], [1, 1, 0, 1]]), "order": np.ones((2, 3))}
    group = {"colour": np.array(["a", "b", "c", "d"]), "order": np.array(["a", "b", "c"])}
    table = twin_table(found, group)
    assert table["colour"]["accuracy"] == pytest.approx(68.75)
    assert 0 <= table["colour"]["low"] < 68.75 < table["colour"]["high"] <= 100
    assert table["colour"]["texts"] == 4
    assert table["order"]["accuracy"] == table["order"]["low"] == 100
    assert table["order"]["chance"] == 50


def test_chance_is_in_the_interval_of_a_guess():
    guesses = np.random.default_rng(1).integers(0, 2, (3, 400))
    of = twin_table({"shape": guesses}, {"shape": np.arange(400)})["shape"]
    assert of["low"] < 50 < of["high"]
    assert of["high"] - of["low"] < 15
    assert of["p"] > 0.05


@pytest.mark.parametrize("wrong", [-1, 1001], ids=["no text", "of another video"])
def test_twins_without_their_true_text_are_refused(model, wrong):
    test, false = splits(lambda video, told: bag(told))
    false["shape"].captions.loc[false["shape"].captions["video"] == 0, "of"] = wrong
    with pytest.raises(ValueError, match="every twin of shape needs in `of` the caption_id of a test text"):
        twin_accuracy(model, test, false)
