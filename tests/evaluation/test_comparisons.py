"""Methods compared query by query, from kept ranks."""

import numpy as np
import pandas as pd
import pytest

from glscl.evaluation.comparisons import (
    ZERO_SHOT,
    points,
    rank_matrix,
    rivals_of,
    text_to_video_differences,
    verdict_counts,
)
from glscl.evaluation.results import METRICS
from glscl.metrics import per_query, summarise

QUERIES = 300


def kept(strengths: dict[str, float], seeds=(0, 1)) -> pd.DataFrame:
    """Ranks as the evaluate stage keeps them; a higher strength finds more, and zero-shot CLIP has no seed."""
    rng = np.random.default_rng(2)
    noise, parts = rng.normal(size=(QUERIES, QUERIES)), []
    for method, strength in strengths.items():
        for seed in [None] if method == ZERO_SHOT else seeds:
            scores = noise + rng.normal(size=noise.shape) / 3 + strength * np.eye(QUERIES)
            for direction, found in per_query(scores, np.arange(QUERIES)).items():
                run = {"method": method, "split": "test", "seed": seed, "direction": direction, "rank": found["rank"]}
                parts.append(pd.DataFrame(run))
    return pd.concat(parts).astype({"seed": "Int64"})


@pytest.mark.parametrize("texts_per_video", [1, 3])
def test_points_average_to_the_metrics_of_text_to_video(texts_per_video):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(60 * texts_per_video, 60)).round(1)  # rounded, so that some tie
    queries = per_query(scores, np.repeat(np.arange(60), texts_per_video))["t2v"]
    expected = summarise(queries)
    for metric in METRICS:
        if metric[0] != "M":
            assert points(queries["rank"], metric).mean() == pytest.approx(expected[metric])


def test_a_planted_difference_is_found_and_equal_methods_do_not_differ_significantly():
    ranks = kept({"t_mass": 2.5, "weaker": 1.0, "equal": 2.5, ZERO_SHOT: 0.5})
    pairs = [("t_mass", other) for other in ("weaker", "equal", ZERO_SHOT)]
    found = text_to_video_differences(ranks, pairs, np.arange(QUERIES), ["R@1", "mAP@10"])
    weaker, equal, zero_shot = found
    for metric in ("R@1", "mAP@10"):
        means = {m: points(rank_matrix(ranks, m), metric).mean() for m in ("t_mass", "weaker")}
        assert weaker[metric]["difference"] == pytest.approx(means["t_mass"] - means["weaker"])
        assert weaker[metric]["p_holm"] < 0.02
        assert equal[metric]["p_holm"] > 0.05
        assert len(zero_shot[metric]["seeds"]) == 2
        assert verdict_counts([each[metric] for each in found]) == (2, 0, 1)
    assert max(weaker["mcnemar"]) < 0.01
    assert min(equal["mcnemar"]) > 0.05


def test_the_correction_is_over_the_pairs():
    ranks = kept({"t_mass": 2.5, "a": 2.3, "b": 2.1})
    (alone,) = text_to_video_differences(ranks, [("t_mass", "a")], np.arange(QUERIES), ["R@1"])
    both = text_to_video_differences(ranks, [("t_mass", "a"), ("t_mass", "b")], np.arange(QUERIES), ["R@1"])
    assert alone["R@1"]["p_holm"] == alone["R@1"]["p"]
    assert max(each["R@1"]["p_holm"] / each["R@1"]["p"] for each in both) == pytest.approx(2)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"runs of x_pool on test, t2v.*got sizes \[\]; run the evaluate stage"):
        rank_matrix(kept({"t_mass": 1.0}), "x_pool")


def test_each_head_meets_the_t_mass_with_its_temporal_encoder():
    layers = {"t_mass": 0, "t_mass_temporal": 2, "x_pool": 0, "glscl": 2}
    expected = {"x_pool": "t_mass", "glscl": "t_mass_temporal", ZERO_SHOT: "t_mass"}
    assert rivals_of([*layers, ZERO_SHOT], layers) == expected
    assert rivals_of(["t_mass", "glscl"], layers) == {"glscl": "t_mass"}
    assert rivals_of(["glscl"], layers) == {}
