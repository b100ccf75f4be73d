"""Ranks and recalls: closed forms, ties, many captions per video, a published matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glscl.metrics import expected_recalls, per_query, ranks, retrieval_metrics
from tests import REAL

PUBLISHED = REAL / "similarity/msrvtt_video_matrix.npy"


def plain_rank(row, target, ties):
    above = sum(score > row[target] for score in row)
    tied = sum(score == row[target] for score in row) - 1
    return above + {"mid": tied / 2, "strict": 0, "pessimistic": tied}[ties]


@given(st.integers(1, 6), st.integers(1, 7), st.sampled_from(["mid", "strict", "pessimistic"]), st.integers(0, 10**6))
def test_ranks_equal_a_plain_count(queries, items, ties, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (queries, items)).astype(float)
    target = rng.integers(0, items, queries)
    expected = [plain_rank(row, t, ties) for row, t in zip(scores, target, strict=True)]
    assert ranks(scores, target, ties).tolist() == expected


def test_gallery_order_does_not_matter():
    rng = np.random.default_rng(0)
    scores, target, order = rng.normal(size=(9, 30)), rng.integers(0, 30, 9), rng.permutation(30)
    assert (ranks(scores[:, order], np.argsort(order)[target]) == ranks(scores, target)).all()


def test_a_collapsed_model_scores_like_chance_under_mid_ranks():
    rank = ranks(np.zeros((3, 41)), [0, 1, 40])
    assert rank.tolist() == [20.0, 20.0, 20.0]
    assert ranks(np.zeros((3, 41)), [0, 1, 40], "pessimistic").tolist() == [40, 40, 40]
    for items in (2, 3, 41):
        assert retrieval_metrics(np.zeros((items, items)), np.arange(items))["t2v"]["R@1"] == 0


def test_expected_recalls_of_ties_in_closed_form():
    for items in (2, 3, 41):
        found = expected_recalls(np.zeros((items, items)), np.arange(items))
        assert found == pytest.approx({"R@1": 100 / items, "R@10": 100 * min(10 / items, 1)})
    two_of_three = np.array([[2.0, 2, 0], [2, 2, 0], [0, 0, 1]])
    assert expected_recalls(two_of_three, [0, 1, 2])["R@1"] == pytest.approx(100 * (1 / 2 + 1 / 2 + 1) / 3)
    behind = np.array([[1.0, 2, 1, 1, 0]])  # one better, two equal: place 2, 3 or 4
    assert expected_recalls(behind, [0], (1, 2, 3, 4)) == pytest.approx(
        {"R@1": 0, "R@2": 100 / 3, "R@3": 200 / 3, "R@4": 100}
    )


def test_expected_recalls_are_those_of_ties_broken_at_random():
    rng = np.random.default_rng(0)
    scores, target = rng.integers(0, 4, (200, 30)).astype(float), rng.integers(0, 30, 200)
    draws = [ranks(scores + 0.5 * rng.random(scores.shape), target) for _ in range(300)]
    for k in (1, 3, 10):
        expected = expected_recalls(scores, target, (k,))[f"R@{k}"]
        assert expected == pytest.approx(100 * np.mean(np.array(draws) < k), abs=0.5)


def test_without_ties_expected_recalls_are_the_recalls():
    scores = np.random.default_rng(1).normal(size=(20, 20))
    found = retrieval_metrics(scores, np.arange(20))["t2v"]
    assert expected_recalls(scores, np.arange(20), (1, 5, 10)) == {name: found[name] for name in ("R@1", "R@5", "R@10")}


def test_swapping_directions_is_transposing():
    scores = np.random.default_rng(1).normal(size=(20, 20))
    straight, turned = retrieval_metrics(scores, np.arange(20)), retrieval_metrics(scores.T, np.arange(20))
    assert straight["t2v"] == turned["v2t"]
    assert straight["v2t"] == turned["t2v"]


def test_many_captions_per_video_by_hand():
    # Three captions of video 0, one of video 1; rows are texts, columns videos.
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.3, 0.4]])
    found = retrieval_metrics(scores, [0, 0, 0, 1])
    assert found["t2v"]["R@1"] == 75  # the second caption prefers the wrong video
    assert found["v2t"]["R@1"] == 50  # video 1 meets 0.8 from a caption of video 0 first, video 0 its own 0.9
    # video 0: its captions stand at 1, 2 and 4, so (1/1 + 2/2 + 3/4) / 3; video 1: its caption is third.
    assert found["v2t"]["mAP@10"] == pytest.approx(100 * ((1 + 1 + 3 / 4) / 3 + 1 / 3) / 2)


def test_captions_of_one_video_that_tie_with_each_other_lose_nothing():
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    for ties in ("mid", "strict", "pessimistic"):
        assert per_query(scores, [0, 0, 1], ties)["v2t"]["ap"].tolist() == [1, 1]


def test_the_best_items_of_a_query_are_those_of_a_plain_sort():
    scores = np.random.default_rng(0).integers(0, 30, (40, 25)).astype(np.float32)
    found = per_query(scores, np.arange(40) % 25)
    for query, row in enumerate(scores):
        expected = sorted(range(25), key=lambda item, row=row: (-row[item], item))[:10]
        assert sorted(found["t2v"]["best_scores"][query])[::-1] == row[expected].tolist()
        assert row[found["t2v"]["best"][query]].tolist() == row[expected].tolist()
    groups = np.stack([scores[np.arange(40) % 25 == video].max(0) for video in range(25)], axis=1)
    assert found["v2t"]["best_scores"][:, 0].tolist() == groups.max(1).tolist()
    assert per_query(np.eye(3), range(3))["t2v"]["best"].shape == (3, 3)


def test_average_precision_divides_by_at_most_ten():
    scores = np.zeros((12, 2))
    scores[:, 0] = np.arange(12, 0, -1)
    scores[11, 0], scores[11, 1] = -1, 1
    assert per_query(scores, [0] * 11 + [1])["v2t"]["ap"][0] == 1


def test_median_of_an_even_count_is_the_average_of_the_middle():
    scores = np.array([[1.0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 1, 0], [4, 3, 2, 1]])
    assert retrieval_metrics(scores, np.arange(4), "strict")["t2v"]["MdR"] == 2  # ranks 1, 3, 1, 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    scores = np.eye(3)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="got 1 of 9 that are not"):
        ranks(scores, [0, 1, 2])


@pytest.mark.parametrize("target", [[0, 1], [0, 1, 3], [-1, 0, 1]])
def test_a_target_outside_the_gallery_is_refused(target):
    with pytest.raises(ValueError, match="target must hold"):
        ranks(np.eye(3), target)


def test_a_video_without_a_text_is_refused():
    with pytest.raises(ValueError, match=r"videos \[1\] have none"):
        per_query(np.eye(2), [0, 0])


def test_an_unknown_tie_rule_is_refused():
    with pytest.raises(ValueError, match="mid, strict or pessimistic"):
        ranks(np.eye(2), [0, 1], "optimistic")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published similarity matrix lies beside the project, not in it")
def test_published_figures_of_a_real_matrix():
    found = retrieval_metrics(np.load(PUBLISHED), np.arange(1000), "strict")
    wanted = {"t2v": (48.0, 73.0, 82.9, 2, 13.13), "v2t": (46.0, 74.1, 82.8, 2, 8.67)}
    for direction, (r1, r5, r10, median, mean) in wanted.items():
        got = found[direction]
        assert [got["R@1"], got["R@5"], got["R@10"], got["MdR"]] == pytest.approx([r1, r5, r10, median])
        assert round(got["MnR"], 2) == mean
