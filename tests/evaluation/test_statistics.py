"""Paired tests: rates of false and of true findings, closed forms, worked examples, refusals."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from glscl.evaluation.statistics import crossed_interval, holm, mcnemar, paired_difference, seed_interval


def simulated(rng, queries, gain, runs=1, hit=0.3):
    """Hits in points of two systems, (runs, queries) each; one finds `gain` points more on average."""
    other = 100.0 * (rng.random((runs, queries)) < hit)
    one = 100.0 * (rng.random((runs, queries)) < hit + gain / 100)
    return one, other


def found(gain, queries=300, times=200):
    """Share of simulations whose p is below 0.05, share whose interval leaves zero out, and the mean `detectable`."""
    rng = np.random.default_rng(0)
    results = [paired_difference(*simulated(rng, queries, gain), np.arange(queries), 500) for _ in range(times)]
    return (
        np.mean([r["p"] < 0.05 for r in results]),
        np.mean([not r["low"] <= 0 <= r["high"] for r in results]),
        np.mean([r["detectable"] for r in results]),
    )


def test_equal_systems_differ_in_about_five_simulations_of_100():
    by_p, by_interval, _ = found(gain=0)
    assert 0.01 <= by_p <= 0.1
    assert 0.01 <= by_interval <= 0.1


def test_the_detectable_effect_is_found_in_about_80_simulations_of_100():
    expected = 2.8 * 100 * np.sqrt(2 * 0.3 * 0.7 / 300)
    by_p, _, detectable = found(gain=expected)
    assert 0.72 <= by_p <= 0.88
    assert detectable == pytest.approx(expected, rel=0.06)


def test_the_detectable_effect_falls_with_the_root_of_the_queries():
    few, many = found(0, queries=200, times=40)[2], found(0, queries=800, times=40)[2]
    assert few / many == pytest.approx(2, rel=0.06)


def test_one_system_with_itself():
    hits = 100.0 * (np.random.default_rng(1).random((3, 50)) < 0.5)
    found = paired_difference(hits, hits, np.arange(50))
    assert found == {"difference": 0, "low": 0, "high": 0, "p": 1, "detectable": 0, "seeds": [0, 0, 0]}


def test_swapping_the_systems_turns_the_difference():
    one, other = simulated(np.random.default_rng(2), 200, 8, runs=3)
    group = np.arange(200) // 2
    straight, turned = paired_difference(one, other, group), paired_difference(other, one, group)
    assert straight["difference"] == -turned["difference"] == pytest.approx((one - other).mean())
    assert straight["low"] == pytest.approx(-turned["high"])
    assert straight["p"] == turned["p"]
    assert straight["seeds"] == pytest.approx((one.mean(1) - other.mean(1)).tolist())


def test_captions_of_one_video_count_once():
    one, other = simulated(np.random.default_rng(3), 100, 0)
    repeated = paired_difference(np.repeat(one, 10, 1), np.repeat(other, 10, 1), np.repeat(np.arange(100), 10))
    assert repeated["detectable"] == pytest.approx(paired_difference(one, other, np.arange(100))["detectable"])


def test_equal_runs_add_nothing_to_the_interval_over_queries():
    values = np.tile(np.random.default_rng(4).normal(size=400), (4, 1))
    fixed = paired_difference(values, np.zeros_like(values), np.arange(400))
    assert crossed_interval(values, np.arange(400)) == pytest.approx((fixed["low"], fixed["high"]), abs=0.01)
    assert crossed_interval(np.ones((2, 3)), [0, 1, 2]) == (1, 1)


def test_queries_without_spread_leave_the_interval_over_runs():
    values = np.repeat([[-3.0], [0.0], [1.0], [6.0]], 50, axis=1)
    assert crossed_interval(values, np.arange(50)) == pytest.approx(seed_interval(values[:, 0]))


@pytest.mark.parametrize("runs", [3, 10])
def test_the_crossed_interval_covers_the_truth_about_95_times_in_100(runs):
    rng, covered = np.random.default_rng(runs), 0
    for _ in range(300):
        of_queries, of_runs = rng.normal(size=(1, 200)), rng.normal(scale=0.1, size=(runs, 1))
        values = 2 + of_queries + of_runs + rng.normal(scale=0.5, size=(runs, 200))
        low, high = crossed_interval(values, np.arange(200), samples=500)
        covered += low <= 2 <= high
    assert 273 <= covered <= 298


def test_the_interval_over_seeds_is_that_of_the_t_distribution():
    values = [14.1, 15.9, 17.4]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert seed_interval(values) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_a_sign_test_of_the_disagreements(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.random(60) < 0.6, rng.random(60) < 0.4
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    p = mcnemar(one, other)
    assert p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert p == mcnemar(other, one)


def test_mcnemar_by_hand():
    one, other = np.arange(20) < 9, np.arange(20) == 19
    assert mcnemar(one, other) == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2**10)
    assert mcnemar(one, one) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("call", [lambda: seed_interval([1.0]), lambda: crossed_interval([[1.0, 2.0]], [0, 1])])
def test_one_run_gives_no_interval_over_runs(call):
    with pytest.raises(ValueError, match="needs two runs or more, got 1"):
        call()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="the same runs and queries"):
        paired_difference(np.zeros((2, 4)), np.zeros((3, 4)), np.arange(4))
    with pytest.raises(ValueError, match="one group per query"):
        paired_difference(np.zeros((2, 4)), np.zeros((2, 4)), np.arange(5))
    with pytest.raises(ValueError, match="got 1 that are not"):
        paired_difference([[0.0, np.nan]], [[0.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="one boolean for each"):
        mcnemar([True], [True, False])
