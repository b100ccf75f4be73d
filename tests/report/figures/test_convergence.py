"""Figures of convergence: curves with start and asymptote, shares of the own gap, and the cost of the goal."""

import numpy as np
import pandas as pd
import pytest

from glscl.report.figures.convergence import COSTS, cost_of_goal, learning_curves, shares_closed
from glscl.report.figures.costs import COLOURS

STEPS = [0, 2, 4, 6]


def rows(methods):
    return pd.DataFrame(
        [
            {"method": m, "seed": seed, "step": step, "r1": r1, "share": (r1 - 10) / 50}
            for number, m in enumerate(methods)
            for seed in (0, 1)
            for step, r1 in zip(STEPS, (10 + 5 * number + 2 * seed, 20, 40, 50 - seed), strict=True)
        ],
        columns=["method", "seed", "step", "r1", "share"],
    )


def test_a_head_has_its_line_its_band_its_start_and_its_asymptote():
    figure = learning_curves(rows(["glscl", "x_clip"]), {"x_clip": 55.0}, 45.0)
    assert len(figure.data) == 3 * 2 + 1
    for low, high, mean in zip(*(figure.data[first:6:3] for first in range(3)), strict=True):
        assert low.legendgroup == mean.legendgroup == high.legendgroup
        assert (np.array(low.y) <= mean.y).all()
        assert (np.array(mean.y) <= high.y).all()
    line, asymptote = (trace for trace in figure.data if trace.legendgroup == "x_clip" and "markers" in trace.mode)
    assert tuple(line.x) == (1, 2, 4, 6)
    assert line.y[0] == 16
    assert [symbol.endswith("-open") for symbol in line.marker.symbol] == [True, False, False, False]
    assert asymptote.y == (55.0,)
    assert asymptote.x[0] > 6
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.ticktext == ("start", "2", "4", "6", "asymptote")
    assert sum(trace.showlegend is not False for trace in figure.data) == 2
    assert {shape.y0 for shape in figure.layout.shapes} == {45.0}


def test_no_two_heads_look_alike():
    figure = learning_curves(rows(["glscl", *"abcdefghijk"]), {}, None)
    lines = [trace for trace in figure.data if trace.showlegend is not False]
    assert len(lines) == 12 > len(COLOURS)
    assert len({(line.line.color, line.marker.symbol[1], line.line.dash) for line in lines}) == 12
    assert figure.layout.shapes == ()


def test_shares_are_in_percent_and_leave_out_a_head_without_a_fit_of_every_seed():
    table = rows(["glscl", "a", "b"])
    table.loc[(table["method"] == "a") & (table["seed"] == 1), "share"] = np.nan
    figure = shares_closed(table)
    lines = {trace.name: trace for trace in figure.data if "markers" in trace.mode}
    assert set(lines) == {"GLSCL", "b"}
    assert tuple(lines["GLSCL"].y) == pytest.approx((2, 20, 60, 79))
    curves = learning_curves(table, {}, None)
    colours = {trace.name: trace.line.color for trace in curves.data if "markers" in trace.mode}
    assert lines["b"].line.color == colours["b"]


def test_the_cost_of_a_goal_has_a_dot_per_head_that_gets_there():
    found = pd.DataFrame(
        [
            {"method": method, "unit": unit, "mean": mean, "low": low, "high": high}
            for method, mean, low, high in (
                ("glscl", 20, 15, 25),
                ("a", 10, 0, 30),
                ("b", *[np.nan] * 3),
                ("c", 0, 0, 0),
            )
            for unit in COSTS
        ]
    )
    figure = cost_of_goal(found)
    first = {trace.y[0]: trace for trace in figure.data if trace.xaxis == "x"}
    assert list(first) == ["c", "b", "a", "GLSCL"]
    assert {name for name, trace in first.items() if not np.isnan(trace.x[0])} == {"GLSCL", "a"}
    assert (first["GLSCL"].error_x.array[0], first["GLSCL"].error_x.arrayminus[0]) == (5, 5)
    assert first["a"].error_x.arrayminus[0] == 9  # as far as a logarithmic axis shows
    assert len(figure.data) == 4 * len(COSTS)


def test_without_heads_the_figures_are_empty():
    assert learning_curves(rows([]), {}, None).data == ()
    assert shares_closed(rows([])).data == ()
    assert cost_of_goal(pd.DataFrame(columns=["method", "unit", "mean", "low", "high"])).data == ()
