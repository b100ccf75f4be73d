"""The corpus of features: what it shows and tells, its ceilings, twins and geometry, and what one vector can hold."""

from dataclasses import replace

import numpy as np
import pytest

from glscl.bundled import facets
from glscl.bundled.facets import Facets, agreement, frame_features, make
from glscl.bundled.grammar import read_told
from glscl.data.dataset import PreparedCorpus
from tests import ROOT

SMALL = Facets(train=20, val=10, test=40, width=64)
MIXED = replace(SMALL, objects=2, events=3, concepts=2)


def features(made, videos):
    return frame_features(made, videos, np.random.default_rng(0)).astype(float)


def swapped_colours(videos):
    """The same videos with the colours of the two objects of every event exchanged."""
    values = videos.values.copy()
    values[:, :, [0, 1], facets.COLOUR] = values[:, :, [1, 0], facets.COLOUR]
    return videos._replace(values=values)


def test_the_same_settings_give_the_same_corpus_and_another_seed_another_one():
    one, two, other = make(SMALL), make(SMALL), make(replace(SMALL, seed=1))
    np.testing.assert_array_equal(one.frames, two.frames)
    assert one.captions().equals(two.captions())
    assert not np.array_equal(one.frames, other.frames)
    np.testing.assert_array_equal(facets.codebooks(SMALL)[1].pairs, facets.codebooks(other.made)[1].pairs)


@pytest.mark.parametrize("made", [SMALL, MIXED, replace(SMALL, ordered=False), replace(SMALL, concepts=1, facts=5)])
@pytest.mark.parametrize("kind", ["bag", "bound", "ordered"])
def test_every_told_fact_holds_of_its_own_video(made, kind):
    videos, texts = make(made).of("test")
    own = agreement(made, texts, videos, kind)[np.arange(40), texts.owner]
    assert (own == made.concepts * made.facts).all()


def test_a_matcher_that_knows_more_never_says_that_more_holds():
    videos, texts = make(MIXED).of("test")
    bag, bound, ordered = (agreement(MIXED, texts, videos, kind) for kind in ("bag", "bound", "ordered"))
    assert (bag >= bound).all()
    assert (bound >= ordered).all()
    assert (bag > bound).any()
    assert (bound > ordered).any()


def test_agreement_counts_facts_as_a_plain_loop_does():
    videos, texts = make(MIXED).of("test")
    scores = agreement(MIXED, texts, videos, "bound")
    for text in range(5):
        for video in range(5):
            best = 0
            for concept in range(2):
                told = texts.told[text, concept]
                wanted = texts.values[text, concept][told]
                best += max((videos.values[video, e, o][told] == wanted).sum() for e in range(3) for o in range(2))
            assert scores[text, video] == best


def test_every_twin_is_false_of_its_video_and_says_what_it_is_a_twin_of():
    world = make(MIXED)
    table = world.captions().set_index("caption_id")
    for kind in facets.TWINS:
        videos, texts = world.of(f"twin_{kind}")
        own = agreement(MIXED, texts, videos, "ordered")[np.arange(len(texts.owner)), texts.owner]
        assert (own < texts.told.sum((1, 2))).all()
        twins = table[table["split"] == f"twin_{kind}"]
        true = table.loc[twins["of"]]
        assert (true["split"] == "test").all()
        assert (true["video"].to_numpy() == twins["video"].to_numpy()).all()
        assert (true["text"].to_numpy() != twins["text"].to_numpy()).all()


def test_a_twin_changes_one_thing_alone():
    table = make(SMALL).captions().set_index("caption_id")
    for _, twin in table[table["of"].notna()].iterrows():
        before, after = (read_told(one["told"]) for one in (table.loc[twin["of"]], twin))
        kind = twin["split"].removeprefix("twin_")
        if kind == "order":
            assert after == before[::-1]
            continue
        changed = [(a, b, name) for a, b in zip(before, after, strict=True) for name in a if a[name] != b[name]]
        assert {name for _, _, name in changed} == {kind}
        if kind == "colour":
            assert [a["colour"] for a in before] == [b["colour"] for b in after][::-1]
        else:
            assert len(changed) == 1


def test_a_twin_has_the_noise_of_its_true_text():
    world = make(SMALL)
    texts, twins = world.words["test"], world.texts["twin_shape"]
    same = np.isclose(world.words["twin_shape"], texts[twins.noise]).all(-1)  # (twins, words)
    assert same[:, 0].all()  # the start
    assert not same[:, -1].any()  # the sentence


def test_norms_and_cones_are_those_of_clip():
    world = make(replace(SMALL, width=128, test=300))
    for vectors in (world.frames[:, 0], world.words["test"][:, -1]):
        assert np.linalg.norm(vectors, axis=-1) == pytest.approx(10, abs=1e-3)
        unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        cosines = unit @ unit.T
        assert np.mean(cosines[np.triu_indices(len(unit), 1)]) == pytest.approx(facets.CONE, abs=0.1)


def test_one_vector_holds_every_fact_where_one_object_is_shown_and_one_codebook_used():
    made = replace(SMALL, width=512, events=1, concepts=1, facts=5, noise=0, binding=0, alignment=1, test=60)
    world = make(made)
    videos, texts = world.of("test")
    held = agreement(made, texts, videos, "ordered")
    means = world.frames[-60:].astype(float).mean(1)
    sentence = world.words["test"][:, -1].astype(float)
    for vectors in (means, sentence):  # out of their cones
        vectors -= vectors.mean(0)
    scores = sentence @ means.T
    # The inner product grows with the number of facts that hold, but for the random cosines of 512 dimensions.
    assert np.corrcoef(scores.ravel(), held.ravel())[0, 1] > 0.97
    assert (scores.argmax(1) == texts.owner).all()


def test_one_mean_vector_cannot_tell_twins_where_objects_share_a_frame():
    made = replace(MIXED, noise=0, binding=0)
    videos = make(made).videos
    np.testing.assert_allclose(features(made, videos), features(made, swapped_colours(videos)), atol=1e-5)
    bound = replace(made, binding=0.5)
    assert not np.allclose(features(bound, videos), features(bound, swapped_colours(videos)), atol=0.1)


def test_the_mean_over_frames_forgets_the_order_of_events_and_the_frames_do_not():
    made = replace(SMALL, noise=0, events=2, frames=8, concepts=2)
    videos = make(made).videos
    even = videos._replace(event_of_frame=np.repeat([0, 1], 4)[None].repeat(len(videos.values), 0))
    turned = even._replace(values=even.values[:, ::-1])
    one, other = features(made, even), features(made, turned)
    np.testing.assert_allclose(one.mean(1), other.mean(1), atol=1e-4)
    assert not np.allclose(one, other, atol=0.1)


def test_factors_that_are_not_seen_leave_no_trace():
    made = replace(SMALL, noise=0, seen=("colour", "background"))
    videos = make(made).videos
    values = videos.values.copy()
    values[..., facets.SHAPE] = (values[..., facets.SHAPE] + 1) % 9
    values[..., 3] = (values[..., 3] + 1) % 12
    np.testing.assert_allclose(features(made, videos), features(made, videos._replace(values=values)), atol=1e-5)


def test_other_words_and_looks_keep_the_facts():
    plain, worded, looked = make(SMALL), make(replace(SMALL, wording=1)), make(replace(SMALL, look=1.0))
    assert plain.captions()["told"].equals(worded.captions()["told"])
    assert not plain.captions()["text"].equals(worded.captions()["text"])
    np.testing.assert_array_equal(plain.frames, worded.frames)
    assert not np.allclose(plain.words["test"], worded.words["test"], atol=0.1)
    np.testing.assert_array_equal(plain.words["test"], looked.words["test"])
    assert not np.allclose(plain.frames, looked.frames, atol=0.1)


def test_ceilings_are_higher_for_a_matcher_that_knows_more():
    found = make(replace(MIXED, test=200)).ceilings()
    recalls = [found[kind]["R@1"] for kind in ("bag", "bound", "ordered")]
    assert recalls == sorted(recalls)
    assert recalls[1] > recalls[0] + 20


@pytest.mark.parametrize("changed", [{}, {"seen": ("colour", "background")}])
def test_ceilings_are_what_guessing_among_equal_videos_finds(changed):
    world = make(replace(MIXED, test=150, **changed))
    videos, texts = world.of("test")
    seen = texts._replace(told=texts.told & np.isin(facets.NAMES, world.made.seen))
    for kind, found in world.ceilings().items():
        # A text holds of its own video, so nothing is better: one of the videos of which it holds too is guessed.
        fits = facets.agreement(world.made, seen, videos, kind) == seen.told.sum((1, 2))[:, None]
        assert fits[np.arange(150), texts.owner].all()
        assert found["R@1"] == pytest.approx(100 * np.mean(1 / fits.sum(1)))
        assert found["R@10"] == pytest.approx(100 * np.mean(np.minimum(10 / fits.sum(1), 1)))


def test_ceilings_of_videos_that_show_nothing_are_those_of_chance():
    found = make(replace(SMALL, test=20, seen=())).ceilings()
    for kind in facets.KINDS:
        assert found[kind] == pytest.approx({"R@1": 5, "R@10": 50})


def test_ceilings_count_only_what_pictures_show():
    all_seen, blind = (make(replace(SMALL, test=100, seen=seen)).ceilings() for seen in (facets.NAMES, ("colour",)))
    assert all_seen["ordered"]["R@1"] > 95
    assert blind["ordered"]["R@1"] < 50


def test_a_written_corpus_opens_like_any_other(tmp_path):
    world = facets.build(SMALL, tmp_path / "facets", ROOT / "data/tiny-clip")
    corpus = PreparedCorpus.open(tmp_path / "facets", tmp_path / "facets/clip", "frozen", SMALL.words)
    test = corpus.split("test")
    assert (len(test), len(test.videos), test.frames) == (40, 40, 8)
    batch = test.__getitems__([3, 0])
    np.testing.assert_allclose(batch["sentence"], world.words["test"][[3, 0], -1], atol=0.02)
    np.testing.assert_allclose(batch["frames"], world.frames[[33, 30]], atol=0.02)
    assert len(corpus.split("train")) == 40
    assert corpus.split("twin_order").captions["of"].isin(test.captions["caption_id"]).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"concepts": 4}, "concepts must be from 1 to 3"), ({"events": 9}, "events must be from 1 to 8"),
     ({"facts": 6}, "facts must be from 1 to 5"), ({"alignment": 1.5}, "alignment must be from 0 to 1"),
     ({"seen": ("color",)}, "seen may name shape"), ({"train": 0}, "train must be a number of at least 1")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(changed, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **changed)
