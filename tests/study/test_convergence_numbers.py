"""Learning curves in numbers: fits, goals, shares of the own gap, and log-ratios to GLSCL over seeds."""

import numpy as np
import pytest
from scipy import stats

from glscl.study import convergence_numbers as numbers

STEPS = [0, 2, 4, 8, 16, 32, 64, 128, 160]


def curve(start=10.0, asymptote=70.0, half=30.0, power=2.0, steps=STEPS):
    """R@1 by the formula, written out point by point."""
    return [start if s == 0 else start + (asymptote - start) / (1 + (half / s) ** power) for s in steps]


# --- fits


@pytest.mark.parametrize("half", [3.0, 30.0, 90.0])
@pytest.mark.parametrize("power", [0.8, 2.0, 3.0])
def test_a_curve_of_the_family_is_found_again(half, power):
    found = numbers.fit(STEPS, curve(half=half, power=power))
    assert (found.start, found.asymptote, found.half, found.power) == pytest.approx((10, 70, half, power), rel=1e-3)
    assert found.residual < 1e-3
    assert found.at([half]) == pytest.approx([40], rel=1e-3)


def test_noise_moves_a_fit_a_little_and_shows_as_its_residual():
    generator = np.random.default_rng(0)
    fits = [numbers.fit(STEPS, np.array(curve()) + generator.normal(0, 1, len(STEPS))) for _ in range(20)]
    assert np.mean([found.half for found in fits]) == pytest.approx(30, abs=2)
    assert np.mean([found.asymptote for found in fits]) == pytest.approx(70, abs=2)
    assert 0.3 < np.mean([found.residual for found in fits]) < 1.2


def test_the_start_and_the_scale_do_not_move_the_half_way_step():
    low, high = curve(start=1, asymptote=21), curve(start=60, asymptote=80)
    assert numbers.fit(STEPS, low).half == pytest.approx(numbers.fit(STEPS, high).half, rel=1e-3)
    thrice = numbers.fit([3 * step for step in STEPS], low)
    assert thrice.half == pytest.approx(90, rel=1e-3)


@pytest.mark.parametrize(
    "r1",
    [
        [30.0] * 9,
        [30, 29, 31, 30, 30.5, 29.5, 30, 31, 29],
        [60, 58, 55, 50, 40, 30, 20, 15, 12],
        curve(half=900),
        [0, 0, 0, 0, 0, 0, 0, 1, 40],
    ],
    ids=["flat", "noise", "falls", "half lies beyond", "rises at the end alone"],
)
def test_a_run_that_determines_no_curve_has_no_fit(r1):
    assert numbers.fit(STEPS, r1) is None


def test_three_numbers_are_not_fitted_to_three_points():
    assert numbers.fit([0, 2, 4, 6], [10, 20, 30, 35]) is None
    assert numbers.fit([0, 2, 4, 6, 12], curve(half=4, steps=[0, 2, 4, 6, 12])) is not None


# --- goals


@pytest.mark.parametrize(
    ("goal", "r1", "expected"),
    [
        (20, [10, 20, 40], 1),
        (30, [10, 20, 40], 3),
        (15, [30, 10, 20], 0),
        (5, [10, 20, 40], 0),
        (41, [10, 20, 40], None),
    ],
)
def test_a_goal_is_reached_where_the_curve_first_crosses_it(goal, r1, expected):
    steps = [0, 1, 7]  # 1 + step is 1, 2 and 8
    found = numbers.step_of(goal, steps, r1)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_the_step_of_a_goal_agrees_with_a_search_along_the_curve():
    generator = np.random.default_rng(0)
    fine = np.linspace(0, 160, 160_001)
    for _ in range(20):
        r1 = generator.uniform(0, 60, len(STEPS))
        goal = generator.uniform(r1.min(), r1.max())
        expected = fine[np.interp(np.log1p(fine), np.log1p(STEPS), r1) >= goal][0]
        assert numbers.step_of(goal, STEPS, r1) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("ends", "goal"), [({"a": 59.9, "b": 83.0}, 55), ({"a": 60.0}, 60), ({"a": 4.9, "b": 80.0}, None), ({}, None)]
)
def test_the_goal_is_the_highest_multiple_of_five_that_all_reach(ends, goal):
    assert numbers.common_goal(ends) == goal


# --- over seeds


def test_a_seed_without_a_value_leaves_no_interval():
    assert numbers.over_seeds([3.0, None, 4.0]) is None
    assert numbers.over_seeds([]) is None
    assert numbers.over_seeds([3.0]) == {"mean": 3.0, "low": None, "high": None, "seeds": [3.0]}
    found = numbers.over_seeds([1.0, 2.0, 6.0], floor=0.0)
    assert found["low"] == 0 < found["mean"] == 3 < found["high"]
    assert numbers.over_seeds([1.0, 2.0, 6.0])["low"] < 0


def test_a_log_ratio_is_a_paired_t_test_of_logarithms():
    one, other = [10.0, 30.0, 90.0], [20.0, 40.0, 100.0]
    found = numbers.log_ratio(one, other)
    expected = stats.ttest_rel(np.log(one), np.log(other))
    assert found["p"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    back = numbers.log_ratio(other, one)
    assert back["difference"] == pytest.approx(-found["difference"])
    assert numbers.log_ratio([7 * v for v in one], [7 * v for v in other])["p"] == pytest.approx(found["p"])


def test_where_seeds_agree_entirely_a_ratio_is_certain():
    assert numbers.log_ratio([2.0, 2.0], [1.0, 1.0])["p"] == 0
    assert numbers.log_ratio([2.0, 2.0], [2.0, 2.0])["p"] == 1


@pytest.mark.parametrize(("one", "other"), [([1.0], [2.0]), ([1.0, None], [2.0, 3.0]), ([0.0, 1.0], [2.0, 3.0])])
def test_no_ratio_without_two_seeds_that_all_have_a_value(one, other):
    assert numbers.log_ratio(one, other) is None


# --- all heads


def of(**runs) -> numbers.Curves:
    """Curves of heads from one or more runs each, a step costing one multiply-accumulate."""
    r1 = {name: np.array(each) for name, each in runs.items()}
    trained = numbers.Trained(r1, dict.fromkeys(r1, 1), None)
    return numbers.curves_of(type("Study", (), {"steps": STEPS}), trained)


def test_shares_are_of_the_own_gap():
    curves = of(
        glscl=[curve(start=1, asymptote=21), curve(start=3, asymptote=83)],
        a=[curve(start=60, asymptote=80), curve(start=30, asymptote=90)],
        flat=[[50.0] * 9, curve()],
    )
    expected = [0, *(1 / (1 + (30 / s) ** 2) for s in STEPS[1:])]
    for name in ("glscl", "a"):
        assert numbers.shares(curves, name) == pytest.approx(np.array([expected] * 2), abs=1e-3)
    closed = numbers.shares(curves, "flat")
    assert np.isnan(closed[0]).all()
    assert closed[1] == pytest.approx(expected, abs=1e-3)


def test_a_high_start_is_no_rate():
    curves = of(glscl=[curve(start=1, half=20)] * 2, a=[curve(start=50, asymptote=70, half=60)] * 2)
    assert curves.goal == 65
    found = numbers.against_subject(curves)["a"]
    assert np.exp(found["rate"]["difference"]) == pytest.approx(1 / 3, rel=1e-3)
    assert found["steps_to_goal"]["difference"] > 0
    assert found["macs_to_goal"]["difference"] == found["steps_to_goal"]["difference"]


def test_the_correction_is_over_the_heads_that_have_a_ratio():
    generator = np.random.default_rng(0)

    def runs(half):
        return [curve(half=half + generator.normal(0, 2)) for _ in range(4)]

    curves = of(glscl=runs(30), a=runs(33), b=runs(60), starts_there=[curve(start=65)] * 4, flat=[[70.0] * 9] * 4)
    found = numbers.against_subject(curves)
    assert list(found) == ["a", "b", "starts_there", "flat"]
    assert found["flat"] == {"rate": None, "steps_to_goal": None, "macs_to_goal": None}
    assert found["starts_there"]["steps_to_goal"] is None
    low, high = sorted(found[name]["steps_to_goal"]["p"] for name in "ab")
    assert sorted(found[name]["steps_to_goal"]["p_holm"] for name in "ab") == [min(1, 2 * low), max(2 * low, high)]
    assert found["b"]["rate"]["p_holm"] >= found["b"]["rate"]["p"]
    assert numbers.against_subject(of(a=runs(30))) == {}
