"""Paired tests: rates of false and of true findings, closed forms, worked examples, refusals."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from glscl.evaluation.statistics import (
    correct_family,
    equivalent,
    holm,
    interval_at,
    mcnemar,
    mean_interval,
    median_interval,
    not_above,
    paired_difference,
    seed_interval,
    standard_error,
)

KEYS = {"difference", "low", "high", "p", "detectable", "seeds", "runs", "error", "freedom"}


def hits(rng, gain, runs=1, queries=300):
    """Hits in points of two systems, (runs, queries) each; one finds `gain` points more on average."""
    return 100.0 * (rng.random((runs, queries)) < 0.3 + gain / 100), 100.0 * (rng.random((runs, queries)) < 0.3)


def crossed(rng, mean=0.0, runs=3, queries=200, over_runs=0.1, both=0.5):
    """Values (runs, queries) with effects of queries, of runs, and of both together, all random."""
    of_queries, of_runs = rng.normal(size=(1, queries)), rng.normal(scale=over_runs, size=(runs, 1))
    return mean + of_queries + of_runs + rng.normal(scale=both, size=(runs, queries))


def against_zero(values, **settings):
    return paired_difference(values, np.zeros_like(values), np.arange(values.shape[1]), **settings)


@pytest.mark.parametrize(("runs", "over_runs"), [(1, 0.0), (3, 0.0), (3, 0.1), (5, 0.2)])
def test_intervals_cover_the_truth_about_95_times_in_100(runs, over_runs):
    rng, times = np.random.default_rng(runs), 1500
    found = [against_zero(crossed(rng, 2.0, runs, over_runs=over_runs)) for _ in range(times)]
    assert 0.93 <= np.mean([each["low"] <= 2 <= each["high"] for each in found]) <= 0.97


@pytest.mark.parametrize("runs", [1, 3])
def test_p_values_of_equal_systems_are_uniform(runs):
    rng, times = np.random.default_rng(runs), 1500
    p = np.array([against_zero(crossed(rng, runs=runs, over_runs=0.1 if runs > 1 else 0.0))["p"] for _ in range(times)])
    shares = [(p < level).mean() for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.04)


def test_a_p_value_has_no_floor():
    one, other = np.r_[np.full(90, 100.0), np.zeros(10)], np.zeros(100)
    assert 0 < paired_difference([one], [other], np.arange(100))["p"] < 1e-20


def test_hits_and_misses_differ_in_about_five_simulations_of_100():
    rng = np.random.default_rng(0)
    p = [paired_difference(*hits(rng, 0), np.arange(300))["p"] for _ in range(1000)]
    assert 0.03 <= np.mean(np.less(p, 0.05)) <= 0.07


@pytest.mark.parametrize("family", [1, 10])
def test_the_detectable_effect_is_found_in_about_80_simulations_of_100(family):
    rng, queries = np.random.default_rng(family), 300
    error = 100 * np.sqrt(2 * 0.3 * 0.7 / queries)
    expected = (stats.norm.ppf(1 - 0.025 / family) + stats.norm.ppf(0.8)) * error
    found = [paired_difference(*hits(rng, expected), np.arange(queries), family) for _ in range(500)]
    assert 0.74 <= np.mean([each["p"] < 0.05 / family for each in found]) <= 0.86
    assert np.mean([each["detectable"] for each in found]) == pytest.approx(expected, rel=0.06)


def test_the_detectable_effect_grows_with_the_family_alone():
    one, other = hits(np.random.default_rng(1), 5, runs=3)
    alone, among = (paired_difference(one, other, np.arange(300), family) for family in (1, 40))
    assert among["detectable"] > 1.3 * alone["detectable"]
    assert {key: alone[key] for key in KEYS - {"detectable"}} == {key: among[key] for key in KEYS - {"detectable"}}


def test_one_run_is_the_t_test_of_paired_queries():
    one, other = hits(np.random.default_rng(2), 8)
    found, expected = paired_difference(one, other, np.arange(300)), stats.ttest_rel(one[0], other[0])
    edges = expected.confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((edges.low, edges.high))
    assert found["p"] == pytest.approx(expected.pvalue)
    assert (found["runs"], found["freedom"]) == (1, pytest.approx(299))


def test_one_system_with_itself():
    values, _ = hits(np.random.default_rng(3), 0, runs=3)
    found = paired_difference(values, values, np.arange(300))
    assert found.keys() == KEYS
    assert (found["p"], found["seeds"], found["runs"]) == (1, [0, 0, 0], 3)
    assert not any(found[key] for key in ("difference", "low", "high", "detectable", "error"))
    assert paired_difference(values + 1, values, np.arange(300))["p"] == 0


def test_swapping_the_systems_turns_the_difference():
    one, other = hits(np.random.default_rng(4), 8, runs=3)
    group = np.arange(300) // 2
    straight, turned = paired_difference(one, other, group), paired_difference(other, one, group)
    assert straight["difference"] == -turned["difference"] == pytest.approx((one - other).mean())
    assert straight["low"] == pytest.approx(-turned["high"])
    assert straight["p"] == pytest.approx(turned["p"])
    assert straight["seeds"] == pytest.approx((one.mean(1) - other.mean(1)).tolist())


def test_the_order_of_queries_and_runs_and_the_names_of_groups_do_not_matter():
    rng = np.random.default_rng(5)
    values, group = crossed(rng), np.arange(200) // 3
    order = rng.permutation(200)
    names = np.array([f"video{-one}" for one in group])
    assert standard_error(values[::-1][:, order], names[order]) == pytest.approx(standard_error(values, group))
    longer = standard_error(10 * values + 7, group)
    assert (longer.error / 10, longer.freedom) == pytest.approx(standard_error(values, group))


def test_captions_of_one_video_count_once():
    values = crossed(np.random.default_rng(6))
    repeated = standard_error(np.repeat(values, 10, 1), np.repeat(np.arange(200), 10))
    assert repeated == pytest.approx(standard_error(values, np.arange(200)))


def test_groups_of_several_sizes_are_resampled_to_the_same_error():
    rng = np.random.default_rng(7)
    group = np.repeat(np.arange(150), rng.integers(1, 5, 150))
    values = (rng.normal(size=150)[group] + rng.normal(size=len(group)))[None]
    members = [np.flatnonzero(group == one) for one in range(150)]
    drawn = [np.concatenate([members[one] for one in rng.integers(0, 150, 150)]) for _ in range(2000)]
    resampled = np.std([values[0, queries].mean() for queries in drawn])
    assert standard_error(values, group).error == pytest.approx(resampled, rel=0.06)


def test_equal_runs_add_nothing_to_the_interval_over_queries():
    values = np.random.default_rng(8).normal(size=(1, 400))
    expected = mean_interval(values, np.arange(400))
    assert mean_interval(np.tile(values, (4, 1)), np.arange(400)) == pytest.approx(expected)


def test_queries_without_spread_leave_the_interval_over_runs():
    values = np.repeat([[-3.0], [0.0], [1.0], [6.0]], 50, axis=1)
    assert mean_interval(values, np.arange(50)) == pytest.approx(seed_interval(values[:, 0]))
    p = stats.ttest_1samp(values[:, 0], 0).pvalue
    assert against_zero(values)["p"] == pytest.approx(p)


def test_one_run_beside_several_counts_the_runs_of_the_other():
    rng = np.random.default_rng(9)
    one, other = crossed(rng, over_runs=1.0), rng.normal(size=(1, 200))
    found = paired_difference(*np.broadcast_arrays(one, other), np.arange(200))
    assert found["runs"] == 3
    assert found["error"] > 2 * paired_difference(one[:1], other, np.arange(200))["error"]


def test_systems_are_equivalent_where_the_90_percent_interval_is_within_the_margin():
    effect = against_zero(crossed(np.random.default_rng(10), 0.3))
    low, high = stats.t.interval(0.9, effect["freedom"], effect["difference"], effect["error"])
    edge = max(-low, high)
    assert equivalent(effect, edge + 1e-9)
    assert not equivalent(effect, edge - 1e-9)


def test_lack_of_power_is_no_equivalence():
    wide = {"difference": 0.0, "error": 3.0, "freedom": 2.0}
    assert not equivalent(wide, 5.0)
    assert equivalent(wide | {"error": 0.3}, 5.0)


def test_systems_a_margin_apart_are_called_equivalent_in_about_five_simulations_of_100():
    rng = np.random.default_rng(11)
    called = [equivalent(against_zero(crossed(rng, 1.0)), 1.0) for _ in range(1000)]
    assert 0.02 <= np.mean(called) <= 0.07


def test_the_interval_of_a_median_equals_medians_of_what_was_drawn():
    rng = np.random.default_rng(3)
    values, group = rng.integers(0, 30, (2, 50)).astype(float), rng.permutation(np.arange(50) // 2)
    drawn = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=300)
    plain = [np.mean([np.median(np.repeat(row, times[group])) for row in values]) for times in drawn]
    assert median_interval(values, group, samples=300) == pytest.approx(np.percentile(plain, [2.5, 97.5]))


def test_intervals_of_a_median_cover_the_truth_about_95_times_in_100():
    rng, group = np.random.default_rng(0), np.arange(200)
    found = [median_interval(rng.exponential(size=(1, 200)), group, samples=250, seed=seed) for seed in range(200)]
    assert 180 <= sum(low <= np.log(2) <= high for low, high in found) <= 199


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


def test_a_family_of_effects_gets_the_corrected_p_of_each():
    effects = [{"p": 0.01, "difference": 1.0}, {"p": 0.04}, {"p": 0.02}]
    correct_family(effects)
    assert [effect["p_holm"] for effect in effects] == holm([0.01, 0.04, 0.02])
    assert effects[0]["difference"] == 1.0
    correct_family([])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_queries_of_one_group_have_no_interval_and_differ_from_nothing():
    one, other, group = np.full((3, 2), 100.0), np.zeros((3, 2)), ["a", "a"]
    found = paired_difference(one, other, group)
    assert (found["difference"], found["p"], found["runs"]) == (100.0, 1.0, 3)
    assert all(found[name] is None for name in ("low", "high", "detectable", "error", "freedom"))
    assert interval_at(found, 0.1) == mean_interval(one, group) == median_interval(one, group) == (None, None)
    assert not equivalent(found, 1_000.0)
    assert not not_above(found)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="the same runs and queries"):
        paired_difference(np.zeros((2, 4)), np.zeros((3, 4)), np.arange(4))
    with pytest.raises(ValueError, match="one group per query"):
        paired_difference(np.zeros((2, 4)), np.zeros((2, 4)), np.arange(5))
    with pytest.raises(ValueError, match="got 1 that are not"):
        paired_difference([[0.0, np.nan]], [[0.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="two groups or more, got 1"):
        standard_error([[0.0, 1.0]], ["a", "a"])
    with pytest.raises(ValueError, match="two runs or more, got 1"):
        seed_interval([1.0])
    with pytest.raises(ValueError, match="one boolean for each"):
        mcnemar([True], [True, False])
