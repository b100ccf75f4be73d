"""False twins: what each kind changes, that none is true, what a kind needs, and how a twin is written."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from glscl.bundled import corpora
from glscl.bundled.grammar import FACTORS, ROUND, Event, draw_event, read_told, write_told
from glscl.bundled.oracle import oracle_scores
from glscl.bundled.twins import CHANGES, is_true, twin_rows, twins

CORPUS = dataclasses.replace(corpora.SCENES, train=1, val=0, test=100, multi=0, train_captions=1)


def generator(video, purpose):
    return corpora._generator(CORPUS, video, purpose)


def events_of(video):
    return corpora.video_events(CORPUS, video)[0]


def event(shape, colour, motion, background="sky", distractor="white moon"):
    return Event(shape, colour, "medium", motion, background, distractor, (0.0, 0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def captions():
    table = corpora.captions_table(CORPUS)
    return table.loc[table["of"].isna(), ["split", "video", "caption", "told"]]


@pytest.fixture(scope="module")
def table(captions):
    return twin_rows(captions, events_of, generator)


@pytest.fixture(scope="module")
def pairs(table):
    """{kind: list of (true row, twin row)}."""
    return {
        kind: [(table.loc[twin.of], twin) for _, twin in table[table["split"] == f"twin_{kind}"].iterrows()]
        for kind in CHANGES
    }


def oracle(told, events):
    rows = [
        ("v", number, *(getattr(e, factor) for factor in (*FACTORS, "distractor"))) for number, e in enumerate(events)
    ]
    table = pd.DataFrame(rows, columns=["video", "event", *FACTORS, "distractor"])
    return oracle_scores(pd.DataFrame({"told": [told]}), table).item()


def test_true_is_what_the_oracle_scores_with_one():
    rng, found = np.random.default_rng(0), []
    for _ in range(120):
        events = [event(*rng.choice(["star", "ring"], 1), "red", *rng.choice(["left", "fall"], 1)) for _ in range(3)]
        chosen = [events[i] for i in sorted(rng.choice(3, 2, replace=False))][:: rng.choice([1, -1])]
        facts = [{factor: getattr(e, factor) for factor in ("shape", "motion")} for e in chosen]
        found.append(is_true(facts, events))
        assert found[-1] == (oracle(write_told(facts), events) == 1)
    assert 0.1 < np.mean(found) < 0.95


def test_every_caption_is_true_and_every_twin_is_false(table):
    for row in table[table["split"] != "train"].itertuples():
        true = pd.isna(row.of)
        assert (oracle(row.told, events_of(row.video)) == 1) == true
        assert is_true(read_told(row.told), events_of(row.video)) == true


def test_most_captions_have_most_twins(pairs):
    share = {kind: len(found) / 100 for kind, found in pairs.items()}
    assert share["shape"] > 0.95
    assert share["motion"] > 0.85
    assert 0.5 < share["colour"] < 0.8  # not where one event is told, or both have one colour
    assert 0.6 < share["order"] < 0.9


def test_each_kind_changes_one_thing(pairs):
    for kind, found in pairs.items():
        for true, twin in found:
            facts, changed = read_told(true.told), read_told(twin.told)
            assert twin.video == true.video
            if kind == "order":
                assert changed == facts[::-1]
                continue
            differ = [
                (k, factor) for k, told in enumerate(facts) for factor in told if told[factor] != changed[k][factor]
            ]
            assert [told.keys() for told in facts] == [told.keys() for told in changed]
            assert {factor for _, factor in differ} == {kind}
            assert len(differ) == (2 if kind == "colour" else 1)
            if kind == "colour":
                assert sorted(told["colour"] for told in facts if "colour" in told) == sorted(
                    told["colour"] for told in changed if "colour" in told
                )


def test_a_twin_keeps_the_words_of_what_stays(pairs):
    spoken = {
        value: [form.split() for words in FACTORS[factor][value] for form in words.split("/")]
        for factor in ("colour", "shape", "motion")
        for value in FACTORS[factor]
    }
    about = {word for forms in spoken.values() for form in forms for word in form} | {"a", "an"}
    for kind in ("colour", "shape", "motion"):
        for true, twin in pairs[kind]:
            kept, other = (
                [word for word in row.caption.split() if word.strip(",.") not in about] for row in (true, twin)
            )
            assert [word.strip(",.") for word in kept] == [word.strip(",.") for word in other]
            assert true.caption != twin.caption


def test_the_words_of_an_event_go_with_it_where_the_order_changes(pairs):
    alike = [
        sorted(true.caption.replace(",", "").split()) == sorted(twin.caption.replace(",", "").split())
        for true, twin in pairs["order"]
    ]
    assert np.mean(alike) > 0.2  # the others have another form of the verb, as their template asks
    assert all(true.caption != twin.caption for true, twin in pairs["order"])


def test_no_twin_tells_what_no_video_shows(pairs):
    for found in pairs.values():
        for _, twin in found:
            for told in read_told(twin.told):
                assert not (told.get("motion") == "spin" and told.get("shape") in ROUND)
                colour, shape = told.get("distractor", "- -").split()
                assert colour != told.get("colour")
                assert shape != told.get("shape")


def test_a_kind_without_a_false_twin_is_absent():
    rng = np.random.default_rng(0)
    star, ring = event("star", "red", "left"), event("ring", "red", "fall")
    both = write_told([{"shape": "star", "colour": "red"}, {"shape": "ring", "colour": "red"}])
    assert set(twins(both, [star, ring], rng)) == {"order", "shape"}  # one colour, no motion
    assert set(twins(both, [star, ring, star], rng)) == {"shape"}  # the video has both orders
    assert set(twins("shape=star;motion=left", [star, ring], rng)) == {"shape", "motion"}
    blue = dataclasses.replace(ring, colour="blue")
    two = write_told([{"shape": "star", "colour": "red"}, {"colour": "blue"}])
    assert twins(two, [star, blue], rng)["colour"] == [{"shape": "star", "colour": "blue"}, {"colour": "red"}]
    crossed = [star, blue, dataclasses.replace(star, colour="blue"), dataclasses.replace(ring, colour="red")]
    assert "colour" not in twins(two, crossed, rng)


def test_more_than_two_told_events_change_in_two_places():
    rng = np.random.default_rng(1)
    events = [event("star", "red", "left"), event("heart", "blue", "fall"), event("cross", "pink", "grow")]
    told = write_told([{"shape": e.shape, "colour": e.colour} for e in events])
    drawn = [twins(told, events, rng) for _ in range(60)]
    orders = {write_told(found["order"]) for found in drawn}
    assert len(orders) == 3
    for found in drawn:
        assert sum(a != b for a, b in zip(read_told(told), found["order"], strict=True)) == 2
        assert sum(a != b for a, b in zip(read_told(told), found["colour"], strict=True)) == 2


def test_values_are_drawn_from_all_that_are_false():
    rng, events = np.random.default_rng(2), [draw_event(np.random.default_rng(5)), event("star", "red", "left")]
    seen = {twins("shape=star", events, rng)["shape"][0]["shape"] for _ in range(200)}
    assert len(seen) == len(FACTORS["shape"]) - len({"star", events[0].shape})


def test_the_table_is_the_same_again_and_keeps_its_captions(captions, table):
    pd.testing.assert_frame_equal(twin_rows(captions, events_of, generator), table)
    pd.testing.assert_frame_equal(table[captions.columns].iloc[: len(captions)], captions)
    assert table["of"].isna().sum() == len(captions)
    assert (table.loc[table["of"].dropna(), "split"] == "test").all()


def test_captions_of_another_generator_are_refused(captions):
    with pytest.raises(ValueError, match="expected the caption of scenes0001 to be drawn again as"):
        twin_rows(captions, events_of, lambda video, purpose: generator(video, purpose + 1))
