"""A histogram has a dot per value and one that is marked, all inside the drawing."""

import re

import pytest

from glscl.report.figures.histogram import WIDTH, histogram

ABOUT = {"mark": "headline", "ruled": "expected", "below": "R@1"}


def test_every_value_has_a_dot_and_equal_ones_stack():
    drawing = histogram("a <b>", [47.1, 47.1, 47.3], 48.1, rule=47.9, **ABOUT)
    dots = [part for part in drawing.parts if part.startswith("<circle")]
    places = [tuple(map(float, re.findall(r'c[xy]="([\d.]+)"', dot))) for dot in dots]
    assert len(places) == 4
    assert places[0][0] == places[1][0] < places[2][0] < places[3][0] < WIDTH
    assert places[0][1] > places[1][1]
    assert [dot.count("hero-dot") for dot in dots] == [0, 0, 0, 1]
    assert "a &lt;b&gt;" in drawing.svg()
    assert drawing.description == "3 values from 47.1 to 47.3; headline; expected"


def test_a_marked_value_stands_on_equal_ones():
    drawing = histogram("a", [1.0, 1.0], 1.0, rule=1.0, **ABOUT)
    heights = [float(re.search(r'cy="([\d.]+)"', part)[1]) for part in drawing.parts if part.startswith("<circle")]
    assert len(set(heights)) == 3


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="one value at least, got none"):
        histogram("a", [], 1.0, rule=1.0, **ABOUT)
